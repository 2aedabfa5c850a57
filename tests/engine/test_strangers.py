"""Untrusted folders and files: nothing in them is executed, hangs, reads other files or fills the memory."""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import struct
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign import bring_in, make_dataset, photo, write_arcgis, write_image
from heard import Heard
from synthetic import reference

from plugin.engine.chips.dataset import check_index, open_dataset
from plugin.engine.chips.divide import SplitRule, divide
from plugin.engine.chips.formats import regions
from plugin.engine.chips.formats.coco import KIND as COCO
from plugin.engine.chips.formats.images import look_at
from plugin.engine.chips.formats.regions import burn, decode_runs
from plugin.engine.chips.index import ChipIndex
from plugin.engine.errors import InputError
from plugin.engine.rasters.raster_io import spatial_reference
from plugin.engine.strangers.checkpoints import check_checkpoint
from plugin.engine.strangers.crs import fault_of_crs
from plugin.engine.strangers.paths import check_names, entries, inside, read_bytes
from plugin.engine.strangers.texts import parse_json, parse_xml, read_lines, read_rows
from plugin.engine.worker import read_job

Change = Callable[[Path], Any]
VRT = (
    '<VRTDataset rasterXSize="24" rasterYSize="24"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
    "<SourceFilename>/etc/passwd</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
)
OGR_VRT = '<OGRVRTDataSource><OGRVRTLayer name="chips"><SrcDataSource>/etc/hosts</SrcDataSource></OGRVRTLayer>{}'
CHIP = "images/0000001.tif"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset, to be copied."""
    return make_dataset(tmp_path_factory.mktemp("whole") / "chips").folder


@pytest.fixture
def chips(whole: Path, tmp_path: Path) -> Path:
    """A dataset, to be changed."""
    return Path(shutil.copytree(whole, tmp_path / "chips"))


def text(name: str, content: str) -> Change:
    return lambda folder: (folder / name).write_text(content)


def pipe(name: str) -> Change:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return change


def linked(name: str) -> Change:
    def change(folder: Path) -> None:
        elsewhere = folder.parent / "elsewhere"
        (folder / name).rename(elsewhere)
        (folder / name).symlink_to(elsewhere)

    return change


def sql(*statements: str) -> Change:
    def change(folder: Path) -> None:
        with closing(sqlite3.connect(folder / "chips.gpkg")) as database:
            for name in ("ST_IsEmpty", "ST_MinX", "ST_MaxX", "ST_MinY", "ST_MaxY"):
                database.create_function(name, 1, lambda _: 0)
            for statement in statements:
                database.execute(statement)
            database.commit()

    return change


def described(**values: Any) -> Change:
    def change(folder: Path) -> None:
        path = folder / "dataset.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return change


def tiff(width: int, height: int, tile: int = 0) -> bytes:
    """A GeoTIFF that is nothing but a header."""
    blocks = [(322, 4, tile), (323, 4, tile), (324, 4, 8), (325, 4, 1)] if tile else [(273, 4, 8), (278, 4, height),
                                                                                    (279, 4, 1)]  # fmt: skip
    tags = sorted([(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (277, 3, 1), *blocks])
    entries_ = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries_ + bytes(4)


HOSTILE: dict[str, tuple[Change, str]] = {
    "a virtual raster": (text(CHIP, VRT), "cannot be read"),
    "a web map": (text(CHIP, "<GDAL_WMS><Service name='TMS'/></GDAL_WMS>"), "cannot be read"),
    "60,000 pixels a side": (lambda folder: (folder / CHIP).write_bytes(tiff(60000, 60000)), "60000 × 60000 pixels"),
    "one huge block": (lambda folder: (folder / CHIP).write_bytes(tiff(24, 24, 65520)), "its dataset says"),
    "a pipe": (pipe(CHIP), "not a regular file"),
    "linked chips": (linked("images"), "outside of its folder"),
    "a linked chip": (linked(CHIP), "outside of its folder"),
    "a linked index": (linked("chips.gpkg"), "outside of its folder"),
    "a linked description": (linked("dataset.json"), "outside of its folder"),
    "a pipe for an index": (pipe("chips.gpkg"), "not a regular file"),
    "a pipe for a description": (pipe("dataset.json"), "no readable dataset.json"),
    "a virtual index": (text("chips.gpkg", OGR_VRT.format("</OGRVRTDataSource>")), "not a database"),
    "a view": (sql("ALTER TABLE chips RENAME TO c", "CREATE VIEW chips AS SELECT * FROM c"), "could run code"),
    "a trigger": (
        sql("CREATE TRIGGER t AFTER UPDATE ON chips BEGIN UPDATE chips SET split = 'test'; END"), "trigger t in it"),
    "a trigger by GDAL's words": (
        sql("CREATE TRIGGER rtree_chips_geom_insert2 AFTER UPDATE ON chips BEGIN DELETE FROM chips; END"), "trigger"),
    "a computed column": (sql("ALTER TABLE chips ADD COLUMN z AS (zeroblob(9))"), "table chips in it"),
    "an index of expressions": (sql("CREATE INDEX i ON chips(lower(image))"), "index i in it"),
    "a virtual table": (sql("CREATE VIRTUAL TABLE f USING fts5(x)"), "table f"),
    "a CRS that is a file": (sql("UPDATE gpkg_spatial_ref_sys SET definition = '/etc/hosts'"), "CRS in it"),
    "an absolute name": (sql("UPDATE chips SET image = '/etc/hosts' WHERE fid = 2"), "outside of its folder"),
    "a way up": (sql("UPDATE chips SET label = 'labels/../../x.tif' WHERE fid = 2"), "outside of its folder"),
    "a long name": (sql("UPDATE chips SET image = hex(zeroblob(500000)) || '.tif' WHERE fid = 2"), "very long names"),
    "bytes for a name": (sql("UPDATE chips SET image = x'ff00' WHERE fid = 2"), "which is not a chip"),
    "a count of pixels": (sql("UPDATE chips SET pixels_2 = 9223372036854775807"), "not valid for a chip"),
    "a fold": (sql("UPDATE chips SET fold = -1"), "values that are not valid for a chip"),
    "a split": (sql("UPDATE chips SET split = 'x'"), "values that are not valid for a chip"),
    "a column of texts": (
        sql("ALTER TABLE chips DROP COLUMN pixels_2", "ALTER TABLE chips ADD COLUMN pixels_2 TEXT"), "pixels_2 holds"),
    "another journal's name": (
        lambda folder: (folder / "chips.gpkg-journal").write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7"),
        "refers to another file"),
    "a linked journal": (lambda folder: (folder / "chips.gpkg-wal").symlink_to("/etc/hosts"), "regular file"),
    "a task": (described(task="x"), "its task is 'x'"),
    "a chip size": (described(chip_size=60000), "its chip size is 60000"),
    "too few bands": (described(band_names=["red"]), "differ in number"),
    "an infinite mean": (described(mean=[1e999] * 3), "holds Infinity"),
    "a data type": (described(dtype="object"), "its data type is 'object'"),
    "a file for a CRS": (described(crs="/etc/hosts"), "its CRS is"),
    "256 classes": (described(classes=[{"value": n, "name": "", "color": None} for n in range(256)]), "256 classes"),
    "a class value": (described(classes=[{"value": 2**31, "name": "", "color": None}]), "a class value is"),
    "a number of 400 digits": (described(nodata=10**400), "more than 24 digits"),
    "half a character": (described(created="\ud800"), "half a character"),
    "deep lists": (text("dataset.json", "[" * 10**6), "cannot be|brackets"),
    "counts": (described(pixel_counts={"training": [1]}), "a list of counts"),
    "sources": (described(sources=[5]), "a source is 5"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_dataset_is_refused_in_words(chips: Path, name: str) -> None:
    change, words = HOSTILE[name]
    change(chips)
    begun = time.monotonic()
    with pytest.raises(InputError, match=words) as caught:
        dataset = open_dataset(chips)
        for place in range(len(dataset.images)):
            dataset.read_image(place)
            dataset.read_mask(place)
    assert len(str(caught.value)) < 1000 and "\ud800" not in str(caught.value) and time.monotonic() - begun < 10


@pytest.mark.parametrize("name", ["a virtual index", "a view", "a linked index"])
def test_an_index_can_be_checked_before_qgis_opens_it(chips: Path, name: str) -> None:
    check_index(chips)
    HOSTILE[name][0](chips)
    with pytest.raises(InputError):
        check_index(chips)


@pytest.mark.parametrize("ending", [".ovr", ".msk", ".aux.xml"])
def test_what_lies_beside_a_chip_is_left_alone(chips: Path, ending: str) -> None:
    expected = open_dataset(chips).read_image(1)
    (chips / f"{CHIP}{ending}").write_text(VRT)
    assert (open_dataset(chips).read_image(1) == expected).all()


def test_a_folder_may_be_a_link_and_links_in_it_may_stay_in_it(chips: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").symlink_to(chips)
    (chips / CHIP).rename(chips / "moved.tif")
    (chips / CHIP).symlink_to(chips / "moved.tif")
    assert open_dataset(tmp_path / "mine").read_image(1).shape == (3, 24, 24)


@pytest.mark.parametrize("values", ["statistics = '[[1]]'", "statistics = '[[[[['", "target = 'x'"])
def test_damaged_statistics_are_said_in_words_when_chips_are_divided(chips: Path, values: str) -> None:
    info = open_dataset(chips).info
    sql(f"UPDATE chips SET {values}")(chips)
    with (
        ChipIndex(chips / "chips.gpkg", info.classes) as index,
        pytest.raises(InputError, match="statistics are damaged"),
    ):
        divide(index, info, SplitRule("random", 0.2, 0.2, None, 0), Heard())


def test_an_index_with_a_trigger_is_not_changed(chips: Path) -> None:
    info = open_dataset(chips).info
    HOSTILE["a trigger"][0](chips)
    with pytest.raises(InputError, match="trigger t in it could run code"):
        ChipIndex(chips / "chips.gpkg", info.classes)


def test_names_are_looked_through_by_the_million() -> None:
    names = [f"images/{number:07d}.tif" for number in range(1_000_000)]
    begun = time.process_time()  # others may use the same cores
    check_names(names, Path("x"))
    assert time.process_time() - begun < 5
    for bad in ("images/../../x", "/x", "c:/x", "a\nb", "a\\b", "/vsicurl/x", "GTIFF_DIR:1:x", "..", "x\0"):
        with pytest.raises(InputError):
            check_names([*names[:3], bad, names[3]], Path("x"))


def test_class_folders_and_lists_that_lead_out_are_refused(tmp_path: Path) -> None:
    write_image(tmp_path / "secret/0.tif", photo(0))
    folder = tmp_path / "photos"
    for name in ("a", "b"):
        write_image(folder / name / "0.tif", photo(1))
    (folder / "c").symlink_to(tmp_path / "secret")
    with pytest.raises(InputError, match="link to somewhere outside"):
        bring_in(folder, folder_format="imagenet")
    (folder / "c").unlink()
    (folder / "a/1.tif").symlink_to(tmp_path / "secret/0.tif")
    with pytest.raises(InputError, match="link to somewhere outside"):
        bring_in(folder, folder_format="imagenet")
    voc = tmp_path / "voc"
    (voc / "SegmentationClass").mkdir(parents=True)
    (voc / "JPEGImages").symlink_to(tmp_path / "secret")
    with pytest.raises(InputError, match="outside of its folder"):
        bring_in(voc, folder_format="voc")
    assert [path.name for path in entries(tmp_path / "secret", tmp_path)] == ["0.tif"]
    assert inside(folder, "b\\0.tif", folder) == folder / "b/0.tif"


@pytest.mark.parametrize(
    "content",
    ["<PAMDataset><SRS>/etc/hosts</SRS></PAMDataset>",
     "<PAMDataset><Metadata domain='OVERVIEWS'><MDI key='OVERVIEW_FILE'>/etc/hosts</MDI></Metadata></PAMDataset>"],
)  # fmt: skip
def test_an_auxiliary_file_that_names_others_is_refused(tmp_path: Path, content: str) -> None:
    path = write_image(tmp_path / "a.tif", photo(0))
    Path(f"{path}.aux.xml").write_text(content)
    with pytest.raises(InputError, match="refers to other files"):
        look_at(path)


@pytest.mark.parametrize(
    "inner",
    ["<raster><size x='24' y='24' c='3'/><datafile>../../x</datafile></raster>",
     "<Raster DataFile='/etc/hosts'><Size x='24' y='24' c='3'/></Raster>",
     "<cachedsource><source>/etc/hosts</source></cachedsource><Raster><Size x='24' y='24' c='3'/></Raster>",
     "<Raster><Size x='24' y='24' c='3'/></Raster><GeoTags><Projection>/etc/hosts</Projection></GeoTags>"],
)  # fmt: skip
def test_an_mrf_leads_nowhere_whatever_its_letters(tmp_path: Path, inner: str) -> None:
    (tmp_path / "a.mrf").write_text(f"<MRF_META>{inner}</MRF_META>")
    with pytest.raises(InputError, match=r"refers to an image elsewhere|outside of its folder"):
        look_at(tmp_path / "a.mrf")


@pytest.mark.parametrize(("width", "height", "tile"), [(16000, 16000, 0), (60000, 60000, 0), (64, 64, 65520)])
def test_an_image_from_elsewhere_is_refused_by_its_header(tmp_path: Path, width: int, height: int, tile: int) -> None:
    (tmp_path / "a.tif").write_bytes(tiff(width, height, tile))
    with pytest.raises(InputError, match=r"too many for a chip|in blocks of"):
        look_at(tmp_path / "a.tif")


@pytest.mark.parametrize(
    "counts",
    [[2**62, 2**62, 2**62, 2**62 + 576], [-5, 581], [576, 2**70, -(2**70)], [float("inf")], [None], ["x"], {}, [[1]],
     "0" * 7, "o" * 100_000, "P" * 5, 7, [0] * 10],
)  # fmt: skip
def test_run_lengths_never_fill_more_than_the_image(counts: Any) -> None:
    with pytest.raises((ValueError, TypeError, OverflowError)):
        decode_runs(counts, 24, 24)
    with pytest.raises(InputError, match="segmentation of an image of 24 × 24 pixels is damaged") as caught:
        burn(np.zeros((24, 24), np.int32), [(1, {"size": [24, 24], "counts": counts})])
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "shape",
    [[[0, 0, 1e300, 0, 5, 5]], [[0, 0, float("nan"), 0, 5, 5]], [["x"] * 6], [[0, 0, 5]], [5],
     {"size": [[[[]]]], "counts": [576]}, {"size": [24, 24]}],
)  # fmt: skip
def test_polygons_stay_near_their_image(shape: Any) -> None:
    with pytest.raises(InputError, match="is damaged"):
        burn(np.zeros((24, 24), np.int32), [(1, shape)])


def test_no_more_is_drawn_than_an_image_can_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regions, "MOST_WORK", 24 * 24 * 3)
    burn(np.zeros((24, 24), np.int32), [(1, [[0, 0, 5, 0, 5, 5]]), (1, {"size": [24, 24], "counts": [576]})])
    for shapes in ([(1, [[0, 0, 5, 0, 5, 5] * 13])], [(1, {"size": [24, 24], "counts": [576]})] * 3):
        with pytest.raises(InputError, match="too many to draw"):
            burn(np.zeros((24, 24), np.int32), shapes)


def test_annotations_lead_to_no_image_through_a_link(tmp_path: Path) -> None:
    write_image(tmp_path / "secret/0.jpg", photo(0), "JPEG")
    folder = tmp_path / COCO
    (folder / "annotations").mkdir(parents=True)
    (folder / "images").symlink_to(tmp_path / "secret")
    values = {
        "images": [{"id": 1, "file_name": "0.jpg", "width": 24, "height": 24}],
        "categories": [{"id": 1, "name": "x"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[0, 0, 5, 0, 5, 5]]}],
    }
    (folder / "annotations/instances_train.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match="outside of its folder"):
        bring_in(folder)


@pytest.mark.parametrize(
    "data",
    [b"[" * 10**6, b"[" + b"{}," * 10**7 + b"1]", b'{"a":' * 5000, b"[]" * 3, b"9" * 4000, b"[-" + b"9" * 100 + b"]",
     b'"\\ud800"', b'"\\udc00\\ud800"', b"\xed\xa0\x80", b"NaN", b'["\\' + b'\\"' * 10**6, b"\xff\xfe", b"", b"nan"],
)  # fmt: skip
def test_no_json_hangs_or_leaves_half_characters(data: bytes) -> None:
    begun = time.monotonic()
    with pytest.raises(ValueError, match=r"\S"):
        parse_json(data)
    assert time.monotonic() - begun < 5


def test_json_as_people_write_it_is_read() -> None:
    values = {"a": [1, -2.5, 1e300, 2**63, "[{", 'x"\\', "\U0001f600"], "b": {"c": [[[]]]}, "\\ud800": None}
    assert parse_json(json.dumps(values).encode()) == values
    assert parse_json(json.dumps(values, ensure_ascii=False).encode("utf-8-sig")) == values


def test_xml_declares_nothing(tmp_path: Path) -> None:
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaa">]><x>&a;</x>'
    for allowed in (False, True):
        with pytest.raises(ValueError, match="declares a document type"):
            parse_xml(bomb, allowed)
    plain = b'<!DOCTYPE qgis PUBLIC "http://mrcc.com/qgis.dtd" "SYSTEM"><qgis><a b="c">d</a></qgis>'
    assert parse_xml(plain, doctype=True).find("a").text == "d"  # type: ignore[union-attr]
    for junk in (b"", b"<a>", b"<a></b>", b"<a>" * 10**6, b'<?xml version="1.0" encoding="x"?><a/>'):
        with pytest.raises(ValueError, match=r"\S"):
            parse_xml(junk)


def test_text_files_are_plain_and_bounded(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for read in (lambda path: list(read_lines(path)), read_rows):
        with pytest.raises(InputError, match="not a regular file"):
            read(tmp_path / "pipe")
    (tmp_path / "a.csv").write_text("image,split\na,b,c\n")
    with pytest.raises(InputError, match="differ in length"):
        read_rows(tmp_path / "a.csv")


@pytest.mark.parametrize(
    "crs",
    ["/etc/hosts", "http://x/y", "EPSG:4326", "+proj=longlat", "x" * 200_000, 5, None,
     'GEOGCS["x",DATUM["d",SPHEROID["s",6378137,298],EXTENSION["PROJ4_GRIDS","/tmp/pipe"]]]',
     'GEOGCS["x",EXTENSION["PROJ4","+proj=longlat +nadgrids=../pipe"]]',
     'BOUNDCRS[ABRIDGEDTRANSFORMATION[PARAMETERFILE["f","C:\\\\x.gsb"]]]'],
)  # fmt: skip
def test_a_crs_names_no_file(crs: Any) -> None:
    assert fault_of_crs(crs)


@pytest.mark.parametrize("code", [4326, 3857, 32633, 31467, 4269])
def test_any_usual_crs_is_fine(code: int) -> None:
    for version in ("WKT1_GDAL", "WKT1_ESRI", "WKT2_2019"):
        crs = reference(code).ExportToWkt([f"FORMAT={version}"])
        assert fault_of_crs(crs) is None and spatial_reference(crs) is not None


def doubled(times: int) -> bytes:
    """A program that makes a key of a tuple of two of itself, so many times over."""
    made = b"\x80\x02}q\x00K\x01\x85q\x01"
    for number in range(1, times + 1):
        made += b"h%ch%c\x86q%c" % (number, number, number + 1)
    return made + b"K\x01s."


@pytest.mark.parametrize("kind", ["zip", "old", "packed", "marks", "junk", "empty", "tuple key"])
def test_a_checkpoint_that_torch_would_hang_on_is_refused_before(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.pth"
    if kind in ("zip", "packed"):
        way = zipfile.ZIP_STORED if kind == "zip" else zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(path, "w", way) as archive:
            archive.writestr("archive/data.pkl", doubled(40 if kind == "zip" else 1))
            archive.writestr("archive/data/0", bytes(10**6))
    else:
        path.write_bytes({
            "old": doubled(40), "marks": b"\x80\x02" + b"K\x01" * 20000 + b"(l" * 20000 + b".", "junk": b"x" * 99,
            "empty": b"", "tuple key": doubled(2),
        }[kind])  # fmt: skip
    begun = time.monotonic()
    with pytest.raises(ValueError, match=r"\S"):
        check_checkpoint(path.read_bytes())
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize("old", [False, True])
def test_checkpoints_as_people_save_them_are_fine(tmp_path: Path, old: bool) -> None:
    torch = pytest.importorskip("torch")
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.rand(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    for content in (
        network.state_dict(),
        {"state_dict": network.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3, "a": [1, (2, None)]},
    ):
        torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=not old)
        check_checkpoint((tmp_path / "a.pth").read_bytes())


@pytest.mark.parametrize("content", ["[", "{}", "5", '{"protocol": 1, "job": [], "config": {}}', "[" * 10**6, "PIPE"])
def test_a_damaged_job_file_ends_in_words(tmp_path: Path, content: str) -> None:
    path = tmp_path / "job.json"
    if content == "PIPE":
        os.mkfifo(path)
    else:
        path.write_text(content)
    with pytest.raises(InputError, match=r"is not a job file|not supported by this worker"):
        read_job(str(path))


def test_a_message_is_short_whatever_a_stranger_wrote() -> None:
    error = InputError("x" * 10**6 + "\ud800\x1b[31m", "y" * 10**6)
    assert len(str(error)) < 1000 and str(error).isprintable()


def test_a_file_that_is_too_large_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with path.open("wb") as file:
        file.truncate(10**8)
    tracemalloc.start()
    with pytest.raises(ValueError, match="it has more than 50"):
        read_bytes(path, 5 * 10**7)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10**6


def test_a_message_is_one_line_as_gdals_are_not() -> None:
    error = InputError("It cannot be read (it failed.\r\n\n  May be caused by: band 1).", "Check it.")
    assert str(error) == "It cannot be read (it failed. May be caused by: band 1). Check it."


def test_an_arcgis_folder_whose_descriptions_are_links_is_refused(tmp_path: Path) -> None:
    folder = write_arcgis(tmp_path / "arc", "Classified_Tiles", ["images/0.tif  labels/0.tif\n"])
    (folder / "map.txt").rename(tmp_path / "map.txt")
    (folder / "map.txt").symlink_to(tmp_path / "map.txt")
    with pytest.raises(InputError, match="outside of its folder"):
        bring_in(folder)


def test_whatever_a_style_holds_it_is_read_or_refused(tmp_path: Path) -> None:
    from plugin.engine.classes import ClassTable
    from plugin.engine.mapping.outputs.style import write_qml
    from plugin.engine.strangers.styles import LONGEST, read_style

    write_qml(tmp_path / "map.qml", ClassTable.from_rows([(value, f"class {value}", None) for value in range(9)]))
    whole = (tmp_path / "map.qml").read_bytes()
    assert [line.label for line in read_style(whole).classes] == [f"class {value}" for value in range(9)]
    read = 0
    for seed in range(400):
        rng = random.Random(seed)
        data = bytearray(whole)
        for _ in range(rng.randint(1, 6)):
            place, length = rng.randrange(len(data)), rng.randint(0, 30)
            piece = rng.choice((b"", b"\0", b"<x>", b"&lt;", b'"', b"paletted", b"9" * 400, b"\xff\xfe", data[:length]))
            data[place : place + rng.choice((0, 1, length))] = piece
        try:
            style = read_style(bytes(data))
        except ValueError:
            continue
        read += 1
        assert all(len(line.label) <= LONGEST and len(line.values) == 1 for line in style.classes)
    assert 20 < read < 400
