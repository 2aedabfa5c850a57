"""Maps that are interrupted and resumed, or shared by two ranks, equal those of one process that was left alone."""

from __future__ import annotations

import json
import struct
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed
from heard import Heard
from held import contents
from known_segmenter import header
from osgeo import gdal
from ranked import start_ranks
from synthetic import LEFT, TOP, rectangle, write_polygons, write_raster
from torch import nn

from plugin.engine import precision
from plugin.engine.chips.fingerprint import raster_state
from plugin.engine.classes import ClassTable
from plugin.engine.config import SegmentRasterConfig
from plugin.engine.device import Later
from plugin.engine.drafts import PIECES, hidden_folder
from plugin.engine.errors import Cancelled, InputError, ResourceError
from plugin.engine.mapping import segment
from plugin.engine.mapping.pipeline import calculation, keeping
from plugin.engine.mapping.pipeline.calculation import Keeper, Taker, share_out
from plugin.engine.mapping.pipeline.finished import ITEM, Finished, read_finished
from plugin.engine.mapping.pipeline.keeping import Kept, Unit, kept_beside
from plugin.engine.mapping.pipeline.pieces import DAMAGED, HEAD, JOB, Piece, Pieces
from plugin.engine.mapping.reading import opening
from plugin.engine.mapping.reading.tile_reader import Batch
from plugin.engine.mapping.reading.tiling import Tile, Tiles
from plugin.engine.mapping.sources import inference, layout
from plugin.engine.models.factory import create_model
from plugin.engine.models.model_file import save_model
from plugin.engine.torchrun import Rank
from plugin.engine.windows import Window

# Six columns of tiles and five rows.
HEIGHT, WIDTH, SIDE = 310, 360, 64
EVERYTHING = {
    "probabilities": "shares.tif", "confidence": "confidence.tif", "entropy": "entropy.tif", "margin": "margin.tif",
    "polygons": "regions.gpkg", "areas": "areas.csv",
}  # fmt: skip


class Calls:
    """Those of a network and its copies; after some it ends the job."""

    def __init__(self) -> None:
        self.header, self.calls, self.last = header(), 0, 10**9
        self.failure: BaseException = ResourceError("The power is gone.", "Wait.")

    def __deepcopy__(self, memo: Any) -> Calls:
        return self

    def count(self) -> None:
        if self.calls >= self.last:
            raise self.failure
        self.calls += 1


class Soft(nn.Module):
    """The nearest of 50, 110 and 170 is the likeliest class."""

    def __init__(self, calls: Calls) -> None:
        super().__init__()
        self.calls = calls

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.calls.count()
        value = images[:, :1] * 50 + 100
        if self.calls.header.target is not None:
            return value
        return -(((value - torch.tensor([50.0, 110, 170])[:, None, None]) / 40) ** 2)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Calls:
    made = Calls()
    monkeypatch.setattr(segment, "load_model", lambda path: (Soft(made), made.header))
    return made


@pytest.fixture
def image(tmp_path: Path) -> str:
    """Regions of many sizes, and tiles with little or no data (0)."""
    rng = np.random.default_rng(3)
    data = np.kron(rng.integers(10, 220, (HEIGHT // 10, WIDTH // 10)), np.ones((10, 10)))
    data[:150, 200:] = data[70:73, 80:90] = 0
    return write_raster(tmp_path / "image.tif", data.astype(np.uint8), nodata=0)


def map_raster(folder: Path, image: str, reporter: Any = None, **settings: Any) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    outputs = {name: str(folder / settings[name]) for name in EVERYTHING.keys() & settings.keys()}
    usual = {"input": image, "model": "m", "output": str(folder / "map.tif"), "tile_size": SIDE, "halo": 0}
    config = SegmentRasterConfig.from_json({**usual, "device": "cpu", **settings, **outputs})
    return segment.segment_raster(config, reporter or Heard())


def interrupt(network: Calls, folder: Path, image: str, calls: int, **settings: Any) -> Heard:
    """Begin a map that fails after some calls of the network."""
    network.last, heard = network.calls + calls, Heard()
    with pytest.raises(type(network.failure)):
        map_raster(folder, image, heard, **{"resume": True, **settings})
    network.last = 10**9
    return heard


def test_only_the_writing_thread_waits_for_what_a_device_computes(
    tmp_path: Path, network: Calls, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(later: Later) -> np.ndarray:
        threads.append(threading.current_thread().name.partition("_")[0])
        return original(later)

    threads, original = list[str](), Later.read
    monkeypatch.setattr(Later, "read", read)
    map_raster(tmp_path / "map", image, **EVERYTHING)
    outputs = 5
    assert threads[:outputs] == ["MainThread"] * outputs  # what is taken of a pixel says how pieces are kept
    assert len(threads) > 20 * outputs and {*threads[outputs:]} == {"writing"}


@pytest.mark.parametrize(("oldest", "threads"), [(0, "ALL_CPUS"), (2**31, "1")])
def test_gdal_reads_with_threads_where_they_do_not_wait_for_those_that_write(
    tmp_path: Path, network: Calls, image: str, monkeypatch: pytest.MonkeyPatch, oldest: int, threads: str
) -> None:
    monkeypatch.setattr(opening, "READS_BESIDE_WRITING", oldest)
    map_raster(tmp_path / "map", image)
    assert gdal.GetConfigOption("GDAL_NUM_THREADS") == threads


def change_image(image: str) -> None:
    dataset = gdal.Open(image, gdal.GA_Update)
    dataset.GetRasterBand(1).WriteArray(np.full((5, 5), 99, np.uint8))


def pieces(folder: Path) -> Path:
    return hidden_folder(folder / "map.tif") / PIECES


@pytest.mark.parametrize(
    "settings",
    [
        {**EVERYTHING, "min_mapping_unit": 30.0},
        {"probabilities": "shares.tif", "probability_type": "uint8", "min_confidence": 0.5, "batch_size": 3},
        {"probabilities": "shares.tif", "probability_type": "float16", "raster_format": "COG"},
        {**EVERYTHING, "pixel_size": 1.5, "tile_size": 32, "map_grid": "input"},
    ],
)
def test_a_resumed_map_equals_one_that_was_left_alone(
    tmp_path: Path, network: Calls, image: str, settings: dict[str, Any]
) -> None:
    triangle = rectangle(LEFT + 20, TOP - 300, LEFT + 330, TOP - 20)
    settings = {**settings, "area": write_polygons(tmp_path / "area.gpkg", [(1, triangle)], layer="area")}
    expected = map_raster(tmp_path / "whole", image, **settings)
    whole, network.calls = network.calls, 0
    resumed = tmp_path / "resumed"
    told = [interrupt(network, resumed, image, calls, **settings) for calls in (3, 1)]
    shares = [one.warnings[-1].split()[0] for one in told]
    assert shares == sorted(shares) and all("RESUME continues from there" in one.warnings[-1] for one in told)
    assert f"{shares[0]} of the map is kept from an interrupted job" in "".join(told[1].logs)
    found = map_raster(resumed, image, resume=True, **settings)
    # What was under way is done again, nothing else.
    assert whole <= network.calls <= whole + 2
    assert contents(resumed) == contents(tmp_path / "whole")
    known = {"classes", "area_unit", "nodata_pixels"}
    assert {name: found[name] for name in known} == {name: expected[name] for name in known}


def test_a_resumed_map_of_numbers_equals_one_that_was_left_alone(tmp_path: Path, network: Calls, image: str) -> None:
    target = {"mean": 100.0, "std": 20.0, "minimum": 0.0, "maximum": 250.0}
    network.header = header(task="regression", classes=ClassTable(()), target=target)
    map_raster(tmp_path / "whole", image)
    interrupt(network, tmp_path / "resumed", image, 9)
    map_raster(tmp_path / "resumed", image, resume=True)
    assert contents(tmp_path / "resumed") == contents(tmp_path / "whole")


def test_what_was_measured_holds_for_the_rest(
    tmp_path: Path, network: Calls, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Layout and type of number are those of the interrupted job, whatever memory and time now say."""
    monkeypatch.setattr(precision, "has_bfloat16", lambda: True)
    monkeypatch.setattr(inference, "WORTHWHILE", 0.0)
    monkeypatch.setattr(inference, "ALIKE", 1.0)
    monkeypatch.setattr(layout, "working_memory", lambda device: 2.0e6)
    settings = {"tile_size": None, "halo": 16}
    heard = Heard()
    map_raster(tmp_path / "whole", image, heard, **settings)
    assert "bfloat16 is used" in "".join(heard.logs)
    interrupt(network, tmp_path / "resumed", image, 9, **settings)
    monkeypatch.setattr(inference, "WORTHWHILE", 1e9)
    monkeypatch.setattr(layout, "working_memory", lambda device: 1e9)
    again = Heard()
    map_raster(tmp_path / "resumed", image, again, resume=True, **settings)
    tiles = [line for line in heard.logs if line.startswith("Tiles of")]
    assert tiles and tiles == [line for line in again.logs if line.startswith("Tiles of")]
    assert "float32" not in "".join(again.logs)
    assert contents(tmp_path / "resumed") == contents(tmp_path / "whole")


@pytest.mark.parametrize(
    "change, text",
    [
        ({"halo": 32}, "HALO 0, not 32"),
        ({"min_confidence": 0.4}, "MIN_CONFIDENCE None, not 0.4"),
        ({"entropy": "entropy.tif"}, "the rasters to write"),
        ("image", "the image"),
        ("model", "the model"),
        ("area", "the area of interest"),
        ({"min_mapping_unit": 20.0, "overviews": False, "map_grid": "input"}, ""),
    ],
)
def test_pieces_of_another_job_are_named_and_not_used(
    tmp_path: Path, network: Calls, image: str, change: Any, text: str
) -> None:
    (tmp_path / "m").write_bytes(b"weights")
    area = tmp_path / "area.gpkg"
    settings = {"model": str(tmp_path / "m"), "area": str(area)}
    write_polygons(area, [(1, rectangle(LEFT, TOP - HEIGHT, LEFT + WIDTH, TOP))], layer="area")
    interrupt(network, tmp_path / "map", image, 20, **settings)
    if change == "image":
        change_image(image)
    elif change == "model":
        (tmp_path / "m").write_bytes(b"weightS")
    elif change == "area":
        area.unlink()
        write_polygons(area, [(1, rectangle(LEFT + 9, TOP - HEIGHT, LEFT + WIDTH, TOP))], layer="area")
    else:
        settings.update(change)
    network.calls, heard = 0, Heard()
    map_raster(tmp_path / "map", image, heard, resume=True, **settings)
    assert (network.calls < 20) == (text == "")  # of 28
    assert len(heard.warnings) == (text != "")
    assert not text or ("starts from the beginning" in heard.warnings[0] and heard.warnings[0].endswith(f"are {text}."))
    map_raster(tmp_path / "whole", image, **settings)
    assert contents(tmp_path / "map") == contents(tmp_path / "whole")


def test_cancelling_leaves_nothing_unless_the_user_resumes(tmp_path: Path, network: Calls, image: str) -> None:
    network.failure = Cancelled()
    network.last = 6
    for always in (0.0, keeping.LONG_JOB):
        keeping.LONG_JOB, before = always, keeping.LONG_JOB
        with pytest.raises(Cancelled):
            map_raster(tmp_path / "map", image)
        keeping.LONG_JOB = before
        assert not list((tmp_path / "map").iterdir())
    network.last = 0
    interrupt(network, tmp_path / "map", image, 6)
    assert pieces(tmp_path / "map").is_dir()
    map_raster(tmp_path / "map", image)
    assert not hidden_folder(tmp_path / "map" / "map.tif").exists()


def test_only_long_jobs_keep_pieces_unless_the_user_resumes(
    tmp_path: Path, network: Calls, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = interrupt(network, tmp_path / "map", image, 9, resume=False)
    assert not list((tmp_path / "map").iterdir()) and not heard.warnings
    monkeypatch.setattr(keeping, "LONG_JOB", 0.0)
    heard = interrupt(network, tmp_path / "map", image, 9, resume=False)
    assert "RESUME continues from there" in heard.warnings[-1]
    network.calls = 0
    map_raster(tmp_path / "map", image, resume=True)
    assert network.calls < 28


def test_pieces_leave_space_on_the_disk(
    tmp_path: Path, network: Calls, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "shutil", SimpleNamespace(disk_usage=lambda path: SimpleNamespace(free=1000)))
    heard = Heard()
    map_raster(tmp_path / "map", image, heard, resume=True)
    assert "(the disk has too little space)" in heard.warnings[0], heard.warnings
    monkeypatch.setattr(Pieces, "write", full)
    heard = Heard()
    map_raster(tmp_path / "map", image, heard, resume=True)
    assert [one for one in heard.warnings if "(No space left on device)" in one]


def full(*_: Any) -> int:
    raise OSError(28, "No space left on device")


def test_a_map_without_data_keeps_nothing(tmp_path: Path, network: Calls, image: str) -> None:
    with pytest.raises(InputError, match="MIN_CONFIDENCE"):
        map_raster(tmp_path / "map", image, resume=True, min_confidence=1.0)
    assert not list((tmp_path / "map").iterdir())


# --- several rasters


def batch(folder: Path, image: str, reporter: Any = None, **settings: Any) -> list[dict[str, Any]]:
    """Map an image and two parts of it, by themselves; returns their results."""
    more = [str(folder.parent / f"{name}.tif") for name in "bc"]
    for number, path in enumerate(more):
        if not Path(path).exists():
            gdal.Translate(path, image, srcWin=[0, 0, 130 + 70 * number, 140])
    found = map_raster(folder, image, reporter, more_images=more, combine="separate", **settings)
    return [one | {"seconds": 0} for one in ({**found, "more": 0}, *({**one, "more": 0} for one in found["more"]))]


def interrupted_batch(network: Calls, folder: Path, image: str, **settings: Any) -> None:
    """Two of three maps are finished (28 tiles, 9), and a part of the third (12)."""
    network.last = network.calls + 42
    with pytest.raises(ResourceError, match="1 of 3 rasters"):
        batch(folder, image, resume=True, **settings)
    network.last = 10**9


SEPARATE = {**EVERYTHING, "min_mapping_unit": 30.0, "batch_size": 1}


@pytest.mark.parametrize("form", ["GTiff", "COG", "numbers"])
def test_finished_maps_of_an_interrupted_job_are_kept_and_counted(
    tmp_path: Path, network: Calls, image: str, form: str
) -> None:
    settings: dict[str, Any] = {**SEPARATE, "raster_format": form}
    if form == "numbers":
        target = {"mean": 100.0, "std": 20.0, "minimum": 0.0, "maximum": 250.0}
        network.header, settings = header(task="regression", classes=ClassTable(()), target=target), {}
    expected = batch(tmp_path / "whole", image, **settings)
    (whole, network.calls), folder, heard = (network.calls, 0), tmp_path / "maps", Heard()
    interrupted_batch(network, folder, image, **settings)
    finished = {path: path.stat().st_mtime_ns for path in folder.glob("*_[ib]*.tif")}
    assert len(finished) >= 2 and not (folder / "map_c.tif").exists()
    network.calls = 0
    found = batch(folder, image, heard, resume=True, **settings)
    assert network.calls <= whole - 42 + 3, "what was under way, and nothing of the finished maps"
    assert sum("is there already, made by the same job, and is kept" in text for text in heard.logs) == 2
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert contents(folder) == contents(tmp_path / "whole")
    moved = json.loads(json.dumps(expected).replace(str(tmp_path / "whole"), str(folder)))
    assert found == moved and [one["output"][-5:] for one in found] == ["e.tif", "b.tif", "c.tif"]
    # And once more, as when a folder has got further rasters.
    network.calls = 0
    assert batch(folder, image, resume=True, **settings) == found and network.calls == 0
    assert batch(folder, image, **settings) == found and network.calls == whole


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"halo": 32}, "different are HALO 0, not 32"),
        ({"min_mapping_unit": 40.0}, "different are MIN_MAPPING_UNIT 30.0, not 40.0"),
        ({"margin": None}, "different are the results"),
        ("another", "shares_image.tif is not what this job would make: different are the model"),
        ("cut", "does not say that this job has made it"),
        ("image", "different are the image"),
        ("model", "different are the model"),
        ("lost", "areas_image.csv is not there"),
        ("foreign", "does not say that this job has made it"),
        ("damaged", "does not say that this job has made it"),
    ],
)
def test_maps_of_another_job_are_replaced_when_several_are_resumed(
    tmp_path: Path, network: Calls, image: str, change: Any, text: str
) -> None:
    (tmp_path / "m").write_bytes(b"weights")
    settings: dict[str, Any] = {**SEPARATE, "model": str(tmp_path / "m")}
    interrupted_batch(network, tmp_path / "map", image, **settings)
    first, heard = tmp_path / "map" / "map_image.tif", Heard()
    if change == "image":
        change_image(image)
    elif change == "model":
        (tmp_path / "m").write_bytes(b"weightS")
    elif change == "another":  # of another model, and the name of the result has been given again
        other, model = tmp_path / "other", tmp_path / "n"
        model.write_bytes(b"others")
        batch(other, image, **{**settings, "model": str(model)}, resume=True)
        (other / "shares_image.tif").replace(tmp_path / "map" / "shares_image.tif")
    elif change == "cut":  # GDAL copies what the map says
        first.replace(tmp_path / "old.tif")
        gdal.Translate(str(first), str(tmp_path / "old.tif"), srcWin=[0, 0, 50, 40])
    elif change == "lost":
        (tmp_path / "map" / "areas_image.csv").unlink()
    elif change == "foreign":
        first.write_text("finished")
    elif change == "damaged":
        dataset = gdal.Open(str(first), gdal.GA_Update)
        said = json.loads(dataset.GetMetadataItem("TERRAZZO_JOB"))
        dataset.SetMetadataItem("TERRAZZO_JOB", json.dumps({**said, "pixels": ["many"]}))
        dataset = None
    else:
        settings = {name: value for name, value in {**settings, **change}.items() if value is not None}
    network.calls = 0
    found = batch(tmp_path / "map", image, heard, resume=True, **settings)
    said = [line for line in heard.logs if str(first) in line]
    assert text in said[0] and "replaced" in said[0] and network.calls >= 28
    expected = batch(tmp_path / "whole", image, **settings)
    assert [one["classes"] for one in found] == [one["classes"] for one in expected]
    if change == {"margin": None}:  # results that are no longer wanted stay
        for path in (tmp_path / "map").glob("margin*"):
            path.unlink()
    assert contents(tmp_path / "map") == contents(tmp_path / "whole")


# --- what others may have put there


@pytest.mark.parametrize(
    "change",
    [
        {"pixels": 5}, {"pixels": [1, 2]}, {"pixels": [1, 2, -3]}, {"pixels": None}, {"nodata": "7"}, {"hectares": 5},
        {"hectares": [1.0]}, {"hectares": ["a", "b", "c"]}, {"facts": []}, {"statistics": {"mean": 1.0}}, {"more": 1},
    ],
)  # fmt: skip
def test_what_a_map_says_of_itself_is_checked(tmp_path: Path, change: dict[str, Any]) -> None:
    path, said = str(tmp_path / "map.tif"), Finished({"HALO": 1}, [1, 2, 3], 14, [1.0, 2.0, 3.0])
    dataset = gdal.GetDriverByName("GTiff").Create(path, 4, 5)
    said.write(dataset)
    dataset = None
    assert read_finished(path) == said
    dataset = gdal.Open(path, gdal.GA_Update)
    dataset.SetMetadataItem(ITEM, json.dumps({**vars(said), **change}))
    dataset = None
    assert read_finished(path) is None and read_finished(str(tmp_path / "none.tif")) is None


@pytest.mark.parametrize("change", ["names", "colours"])
def test_what_lies_beside_a_raster_belongs_to_it(tmp_path: Path, change: str) -> None:
    path = str(tmp_path / "a.asc")
    gdal.GetDriverByName("AAIGrid").CreateCopy(path, gdal.GetDriverByName("MEM").Create("", 4, 4))
    before = raster_state(path)
    dataset = gdal.Open(path)
    band = dataset.GetRasterBand(1)
    if change == "names":
        band.SetDescription("red")
    else:
        table = gdal.ColorTable()
        table.SetColorEntry(1, (1, 2, 3, 255))
        band.SetColorTable(table)
    del band
    dataset = None
    assert raster_state(path) != before


def flip(data: bytearray) -> None:
    data[HEAD.size + 2000] ^= 1


def cut(data: bytearray) -> None:
    del data[len(data) // 2 :]


def longer(data: bytearray) -> None:
    data[16:24] = struct.pack("<Q", 2**60)


def renumber(data: bytearray) -> None:
    data[8:16] = struct.pack("<Q", 2**64 - 1)


@pytest.mark.parametrize("damage", [flip, cut, longer, renumber, bytearray.clear])
def test_damaged_pieces_are_calculated_again(
    tmp_path: Path, network: Calls, image: str, damage: Callable[[bytearray], None]
) -> None:
    settings = {"confidence": "confidence.tif"}  # numbers are not compressed, so only the checksum tells
    map_raster(tmp_path / "whole", image, **settings)
    interrupt(network, tmp_path / "map", image, 12, **settings)
    (path,) = pieces(tmp_path / "map").glob("*.pieces")
    data = bytearray(path.read_bytes())
    damage(data)
    path.write_bytes(data)
    map_raster(tmp_path / "map", image, resume=True, **settings)
    assert contents(tmp_path / "map") == contents(tmp_path / "whole")


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", "[" * 10_000, '{"format_version": 1, "facts": {}, "decisions": {}}',
        '{"format_version": 2, "facts": [], "decisions": {}}', b"\x80\x04cos\nsystem\n.",
    ],
)  # fmt: skip
def test_a_damaged_list_is_no_list(tmp_path: Path, network: Calls, image: str, text: Any) -> None:
    interrupt(network, tmp_path / "map", image, 12)
    (pieces(tmp_path / "map") / JOB).write_bytes(text if isinstance(text, bytes) else text.encode())
    heard = Heard()
    map_raster(tmp_path / "map", image, heard, resume=True)
    assert "Nothing is kept of an interrupted map" in "".join(heard.logs)


@pytest.mark.parametrize("layout", [[64], [63, 0], ["64", 0], [64, -1], [2**40, 0], None])
def test_decisions_that_cannot_be_are_made_again(tmp_path: Path, network: Calls, image: str, layout: Any) -> None:
    map_raster(tmp_path / "whole", image)
    interrupt(network, tmp_path / "map", image, 12)
    path = pieces(tmp_path / "map") / JOB
    job = json.loads(path.read_text())
    assert job["decisions"] == {"1 layout": [64, 0], "1 type": "float32"}
    path.write_text(json.dumps({**job, "decisions": {"1 layout": layout, "1 type": "int8"}}))
    map_raster(tmp_path / "map", image, resume=True)
    assert contents(tmp_path / "map") == contents(tmp_path / "whole")


def test_a_piece_fits_no_unit_that_lies_elsewhere(tmp_path: Path) -> None:
    pieces = Pieces(tmp_path, [np.zeros((1, 1, 1), np.uint8)])
    pieces.begin({}, {})

    def unit(*core: int) -> Tiles:
        return Tiles([Tile(Window(*core), Window(*core))])

    pieces.write(0, unit(0, 0, 8, 2), Piece(unit(0, 0, 8, 2).tiles, [None], [np.ones((1, 2, 8), np.uint8)]))
    pieces.close()
    for other in (unit(0, 0, 4, 4), unit(8, 0, 8, 2)):  # with as many pixels
        found = Pieces(tmp_path, pieces.examples)
        assert found.find() == 16 and found.read(0, other) is None
    found = Pieces(tmp_path, pieces.examples)
    assert found.find() == 16 and found.read(0, unit(0, 0, 8, 2)) is not None


def test_a_link_in_the_place_of_the_folder_is_not_followed(tmp_path: Path, network: Calls, image: str) -> None:
    interrupt(network, tmp_path / "map", image, 12)
    there = pieces(tmp_path / "map")
    there.rename(tmp_path / "elsewhere")
    there.symlink_to(tmp_path / "elsewhere")
    before = sorted((tmp_path / "elsewhere").iterdir())
    network.calls = 0
    map_raster(tmp_path / "map", image, resume=True)
    assert network.calls > 12 and sorted((tmp_path / "elsewhere").iterdir()) == before


def test_records_hold_what_they_were_given_and_nothing_else_is_read(tmp_path: Path) -> None:
    """Format 2."""
    cores = [Window(x, 0, 5, 3) for x in (0, 5, 10)]
    unit = Tiles([Tile(core, core.expanded(2)) for core in cores])
    rng = np.random.default_rng(0)
    taken = [rng.integers(0, 9, (2, 3, 5)).astype(np.uint8), rng.random((2, 4, 3, 5)).astype(np.float32)]
    piece = Piece([unit.tiles[0], unit.tiles[2]], [rng.random((3, 5)) < 0.5, None], taken)
    examples = [np.zeros((1, 1, 1), np.uint8), np.zeros((1, 4, 1, 1), np.float32)]
    written = Pieces(tmp_path / "p", examples)
    written.begin({"fact": 1}, {})
    written.write(7, unit, piece)
    written.write(9, unit, Piece([], [], []))
    written.close()
    data = (tmp_path / "p" / "0.pieces").read_bytes()
    mark, number, pixels, length, checksum = struct.unpack("<8sQQQI", data[:36])
    begun = zlib.crc32(b"[(0, 0, 5, 3), (5, 0, 5, 3), (10, 0, 5, 3)]")
    assert (mark, number, pixels) == (b"terrazzo", 7, 45) and zlib.crc32(data[36 : 36 + length], begun) == checksum
    assert data[36:39] == bytes([2, 0, 1])
    read = Pieces(tmp_path / "p", examples)
    assert read.find() == 90 and read.read_job() == {"format_version": 2, "facts": {"fact": 1}, "decisions": {}}
    found, empty = read.read(7, unit), read.read(9, unit)
    assert found is not None and found.tiles == piece.tiles and found.wanted[1] is None
    assert np.array_equal(found.wanted[0], piece.wanted[0])  # type: ignore[arg-type]
    for one, other in zip(found.taken, taken, strict=True):
        assert one.dtype == other.dtype and np.array_equal(one, other) and one.flags.writeable
    assert empty is not None and not empty.tiles
    assert read.read(8, unit) is None
    for others in (examples[:1], [*examples, examples[0]], [examples[1], examples[0]]):
        other = Pieces(tmp_path / "p", others)
        other.find()
        assert other.read(7, unit) is None
    assert OSError in DAMAGED


# --- ranks


@pytest.mark.skipif(
    sys.platform == "win32" or not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
    reason="torch.distributed with gloo is not here",
)
def test_two_ranks_make_the_map_of_one_process_and_resume_it(
    tmp_path: Path, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(3)
    model = str(tmp_path / "m.safetensors")
    names = {"architecture": "fcn8s", "encoder": "resnet18"}
    save_model(Path(model), create_model(*names.values(), 1, 3), header(**names))
    grids = {"pixel_size": 1.5, "map_grid": "input"}
    settings = {**EVERYTHING, **grids, "model": model, "halo": 32, "mixed_precision": False}
    map_raster(tmp_path / "one", image, **settings)
    with monkeypatch.context() as patched:
        patched.setattr(Keeper, "write", writing_until(9, Keeper.write))
        with pytest.raises(ResourceError, match="power"):
            map_raster(tmp_path / "resumed", image, resume=True, **settings)
    jobs = []
    for name in ("two", "resumed"):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        config = {**settings, "input": image, "tile_size": SIDE, "device": "cpu", "output": str(folder / "map.tif")}
        config.update({name: str(folder / path) for name, path in EVERYTHING.items()}, resume=name == "resumed")
        jobs.append(folder.with_suffix(".json"))
        jobs[-1].write_text(json.dumps({"protocol": 1, "job": "segmentraster", "config": config}))
    both = start_ranks(["tests/ranked.py", *map(str, jobs)])
    said = [rank.communicate(timeout=120) for rank in both]
    assert [rank.returncode for rank in both] == [0, 0], said
    events = [json.loads(line) for line in said[0][0].splitlines()]
    assert [event["event"] for event in events].count("result") == 2 and not said[1][0]
    assert [one["text"] for one in events if one["event"] == "log" and one["text"].startswith("Mapping resumes: ")]
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    assert contents(tmp_path / "resumed") == contents(tmp_path / "one")


def writing_until(last: int, write: Callable[..., None]) -> Callable[..., None]:
    """Like `write`, which fails after some calls."""
    left = iter(range(last))

    def written(*arguments: Any) -> None:
        if next(left, None) is None:
            raise ResourceError("The power is gone.", "Wait.")
        write(*arguments)

    return written


@pytest.mark.parametrize(("in_turn", "first"), [(1, [0, 2, 4, 6, 8, 10]), (3, [0, 1, 2, 6, 7, 8])])
def test_each_rank_has_its_turn_of_the_units(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_turn: int, first: list[int]
) -> None:
    """The first one begins, so that all is decided; no unit is done twice."""
    done: list[list[int]] = []
    for number in (0, 1):
        for room in (keeping, calculation):
            monkeypatch.setattr(room, "own_rank", lambda number=number: Rank(number, 2))
            monkeypatch.setattr(room, "ranks", SimpleNamespace(of_first=float, wait=lambda: None))
        done.append([])
        kept = Kept(Pieces(tmp_path / "p", [np.zeros((1, 1, 1), np.uint8)]), dict, 12 * 16, True, Heard())
        assert kept.find() == [] and kept.begun == (number == 1)

        def units() -> Iterator[Unit]:
            for place in range(12):
                core = Window(4 * place, 0, 4, 4)
                yield Unit(place, Tiles([Tile(core, core)]))

        def read(unit: Tiles) -> Batch:
            done[-1].append(unit.tiles[0].core.col_off // 4)
            return Batch(np.zeros((1, 1, 4, 4), np.uint8), None, unit.tiles, [None])

        sinks = [Taker(lambda found: np.zeros((1, 4, 4), np.uint8))]
        share_out(Keeper(kept, read, lambda batch, advance: None, sinks), units, in_turn, Heard())
    assert sorted(done[0]) == first and sorted(done[1]) == sorted({*range(12)} - {*first})


def test_ranks_that_do_something_else_or_see_another_disk_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = str(tmp_path / "map.tif")
    with pytest.raises(InputError, match="interrupted"), kept_beside(output, True, dict, 100, [], Heard()) as kept:
        kept.pieces.begin({"HALO": 3, "the image": "a"}, {})
        raise InputError("The job is interrupted.", "Wait.")
    monkeypatch.setattr(keeping, "own_rank", lambda: Rank(1, 2))
    monkeypatch.setattr(keeping, "ranks", SimpleNamespace(of_first=lambda number: 1.0))
    for halo, path, words in (
        (4, output, "Rank 1 does not do the same as the first one: different are HALO 3, not 4."),
        (3, str(tmp_path / "other.tif"), "not there for rank 1"),
    ):
        facts = partial(dict, {"HALO": halo, "the image": "a"})
        with pytest.raises(InputError, match=words), kept_beside(path, True, facts, 100, [], Heard()):
            pass
