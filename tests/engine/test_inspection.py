import csv
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from chip_folder import write_chip_folder
from heard import Heard
from made_chips import SIZE, Chip, halves, textured, write_chips
from osgeo import gdal, ogr

from plugin.engine.classes import IGNORE_INDEX
from plugin.engine.config import InspectChipsConfig
from plugin.engine.errors import Cancelled, InputError
from plugin.engine.events import Reporter, Stage
from plugin.engine.inspection import duplicates, looks, split_map
from plugin.engine.inspection.charts import SPLIT_COLORS
from plugin.engine.inspection.inspect_chips import inspect_chips
from plugin.engine.inspection.measures import is_stray

ROOT = Path(__file__).resolve().parents[2]


def good(count=12, **chip):
    """Chips with nothing wrong, apart from each other; three are for validation and three for the test."""
    splits = ["training"] * (count - 6) + ["validation"] * 3 + ["test"] * 3
    sides = [(1, 2), (2, 3), (3, 1)]
    return [
        Chip(textured(number), halves(*sides[number % 3]), split, place=(3 * number, 0), **chip)
        for number, split in enumerate(splits)
    ]


@pytest.fixture
def inspect(tmp_path):
    """Writes chips, inspects them and gives the job's numbers, the page and the rows of the list."""

    def inspect(chips, task="segmentation", reporter=None, **settings):
        info = {name: settings.pop(name) for name in ("nodata", "crs") if name in settings}
        folder = write_chips(tmp_path / "chips", chips, task, **info)
        return look_through(folder, tmp_path, reporter, **settings)

    return inspect


def look_through(folder, tmp_path, reporter=None, **settings):
    paths = {"chips": str(folder), "report": str(tmp_path / "report.html"), "suspects": str(tmp_path / "list.csv")}
    found = inspect_chips(InspectChipsConfig(**{**paths, **settings}), reporter or Heard())
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    rows = []
    if (tmp_path / "list.csv").exists():
        with open(tmp_path / "list.csv", encoding="utf-8", newline="") as file:
            rows = [(row["image"], row["reason"], row["other"]) for row in csv.DictReader(file)]
    return found, page, rows


def named(rows, reason):
    return sorted(image for image, found, _ in rows if found == reason)


def image(number):
    return f"images/{number:04d}.tif"


def weighty(found):
    """The findings without those on the small number of chips."""
    few = ("Few training", "Rare classes", "Splits with different")
    return [title for title in found["findings"] if not title.startswith(few)]


# --- what is counted


def test_a_clean_dataset_is_counted_and_nothing_is_found_in_it(inspect):
    found, page, rows = inspect(good())
    assert (found["chips"], found["training"], found["validation"], found["test"]) == (12, 6, 3, 3)
    assert (found["classes"], found["duplicates"], found["leaks"], found["suspicious"]) == (3, 0, 0, 0)
    assert found["nodata_share"] == 0 and weighty(found) == [] and rows == []
    assert "Few training chips: 6" in page


def test_the_page_says_so_where_nothing_is_conspicuous(inspect):
    found, page, _ = inspect(good(90))
    assert found["findings"] == [] and "Nothing conspicuous." in page


def test_pixels_and_shares_of_each_class_and_split_stand_in_the_page(inspect):
    chips = [Chip(textured(0), halves(1, 1)), Chip(textured(1), halves(1, 2)), Chip(textured(2), halves(2, 2), "test")]
    _, page, _ = inspect(chips)
    half = SIZE * SIZE // 2
    for text in (f"{3 * half:,}", "75.00%", "25.00%", "100.00%", "50.0 points"):
        assert text in page, text


def test_the_share_of_nodata_is_that_of_pixels_without_any_band(inspect):
    chips = good(8)
    for chip in chips[:4]:
        chip.image[:, : SIZE // 2] = 0
    chips[5].image[0] = 0  # other bands hold data
    found, page, _ = inspect(chips, nodata=0.0)
    assert found["nodata_share"] == pytest.approx(0.25) and "25.0%" in page


def test_statistics_of_bands_come_from_the_index_and_need_no_pixels(inspect):
    chips = good()
    _, page, _ = inspect(chips, max_chips=1)
    whole = np.stack([chip.image for chip in chips])
    for figure in (whole[:, 1].mean(), whole[:, 1].std()):
        assert f"{figure:.5g}" in page
    assert "1 of 12 chips" in page


def test_a_dataset_of_format_1_gives_the_same_figures_from_its_pixels(tmp_path):
    folder = write_chip_folder(tmp_path / "old", {"training": 5, "test": 2}, size=64, nodata=0)
    settings = (Path(folder) / "dataset.json").read_text()
    (Path(folder) / "dataset.json").write_text(settings.replace('"format_version": 2', '"format_version": 1'))
    found, page, _ = look_through(folder, tmp_path)
    assert found["nodata_share"] == pytest.approx(3 / 64, abs=0.005)
    whole = np.stack([gdal.Open(str(path)).ReadAsArray() for path in sorted(Path(folder, "images").iterdir())])
    assert f"{whole[:, 2][whole[:, 2] != 0].mean():.5g}" in page and "Map of the splits" not in page


def test_folds_turned_chips_and_chips_of_no_split_are_shown(inspect):
    chips = good(30)
    for number, chip in enumerate(chips):
        chip.index.update(fold=number % 3 + 1 if chip.split != "test" else 0, angle=float(number % 4 * 15))
    for chip in chips[:6]:
        chip.split = "none"
    found, page, _ = inspect(chips)
    assert "Chips in no split: 6 of 30" in found["findings"]
    assert "fold 3" in page and "Map of the folds" in page and ">45°<" in page


# --- copies


def test_exact_copies_are_found_and_leaks_are_told_from_them(inspect):
    chips = good()
    chips += [Chip(chips[2].image, chips[2].label), Chip(chips[3].image, chips[3].label, "test")]
    for number, chip in enumerate(chips):
        chip.place = (3 * number, 0)
    found, _, rows = inspect(chips)
    assert (found["duplicates"], found["leaks"]) == (2, 1)
    assert (image(12), "duplicate", image(2)) in rows and (image(13), "leak", image(3)) in rows
    assert found["suspicious"] == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda picture: picture[:, :, ::-1],
        lambda picture: np.rot90(picture, 1, (1, 2)),
        lambda picture: picture.transpose(0, 2, 1)[:, ::-1],
        lambda picture: np.clip(picture * 1.1 + 8, 0, 255),
        lambda picture: np.clip(picture + np.random.default_rng(0).normal(0, 4, picture.shape), 0, 255),
    ],
    ids=["mirrored", "turned", "turned and mirrored", "brightened", "noisy"],
)
def test_copies_that_were_changed_are_found(inspect, change):
    chips = good()
    copy = np.ascontiguousarray(change(chips[4].image)).astype(np.uint8)
    chips.append(Chip(copy, halves(), "validation", place=(100, 100)))
    found, _, rows = inspect(chips)
    assert (found["duplicates"], found["leaks"]) == (1, 1) and (image(12), "leak", image(4)) in rows


def test_a_leak_is_a_chip_of_the_later_split(inspect):
    chips = [Chip(textured(50), halves(), "test"), Chip(textured(50), halves(), "validation"), *good()]
    for number, chip in enumerate(chips):
        chip.place = (3 * number, 0)
    found, _, rows = inspect(chips)
    assert found["leaks"] == 1 and (image(0), "leak", image(1)) in rows


def test_the_same_picture_with_another_label_contradicts_itself(inspect):
    chips = good()
    chips.append(Chip(chips[0].image, halves(2, 1), place=(100, 0)))
    found, _, rows = inspect(chips)
    assert named(rows, "contradiction") == [image(0), image(12)] and found["suspicious"] == 2


def test_black_chips_are_no_copies_of_each_other(inspect):
    chips = good() + [Chip(np.zeros((3, SIZE, SIZE), np.uint8), halves(), place=(50 + 2 * n, 50)) for n in range(3)]
    found, _, rows = inspect(chips)
    assert found["duplicates"] == 0 and len(named(rows, "constant")) == 3


def test_chips_that_overlap_in_one_split_are_alike_on_purpose(inspect):
    wide = textured(3, size=2 * SIZE)
    chips = good()
    for at in (0, 1):
        chips.append(Chip(np.ascontiguousarray(wide[:, :SIZE, at : at + SIZE]), halves(), place=(50 + at / SIZE, 0)))
    assert inspect(chips)[0]["duplicates"] == 0


def test_copies_in_different_folds_are_named(inspect):
    chips = good(30)
    chips.append(Chip(chips[0].image, chips[0].label, place=(0, 50)))
    for number, chip in enumerate(chips):
        chip.index["fold"] = 0 if chip.split == "test" else number % 3 + 1
    chips[-1].index["fold"] = 2
    assert "Copies in different folds: 1" in inspect(chips)[0]["findings"]


def test_like_fingerprints_are_found_among_many():
    rng = np.random.default_rng(0)
    prints = rng.integers(0, 2**63, 30_000, dtype=np.uint64)
    for number in range(300):
        bits = rng.choice(63, 4, replace=False).astype(np.uint64)
        prints[20_000 + number] = prints[number] ^ np.bitwise_or.reduce(np.uint64(1) << bits)
    pairs = duplicates.like_pairs(prints, Stage(Reporter(), 1, ""))
    found = {tuple(pair) for pair in pairs.tolist()}
    assert sum((number, 20_000 + number) in found for number in range(300)) >= 298 and len(found) < 310


def test_a_fingerprint_holds_in_all_eight_positions():
    picture = looks.grey(textured(5), None, np.full(3, 120.0), np.full(3, 40.0), looks.SIDE)
    turned = [np.rot90(side, turns) for side in (picture, picture.T) for turns in range(4)]
    assert len({looks.fingerprint(one) for one in turned}) == 1


def test_missing_pixels_do_not_change_how_a_chip_looks():
    image_, missing = textured(6), np.zeros((3, SIZE, SIZE), bool)
    missing[:, :4, :4] = True
    holed = np.where(missing, 0, image_)
    mean, std = np.full(3, 120.0), np.full(3, 40.0)
    whole = looks.fingerprint(looks.grey(image_, None, mean, std, looks.SIDE))
    assert bin(whole ^ looks.fingerprint(looks.grey(holed, missing, mean, std, looks.SIDE))).count("1") <= 6


# --- ground


def test_overlapping_ground_of_different_splits_is_a_leak(inspect):
    chips = good()
    chips.append(Chip(textured(90), halves(), "test", place=(0.5, 0.5)))  # over chip 0, a training chip
    found, _, rows = inspect(chips)
    assert found["leaks"] == 1 and (image(12), "shared_ground", image(0)) in rows


def test_chips_side_by_side_share_no_ground(inspect):
    chips = [Chip(textured(number), halves(), ("training", "test")[number % 2]) for number in range(20)]
    assert inspect(chips)[0]["leaks"] == 0


# --- labels and images


def test_images_of_one_value_are_named_with_the_number_of_their_classes(inspect):
    chips = good()
    chips[3] = Chip(np.full((3, SIZE, SIZE), 9, np.uint8), halves(1, 3))
    found, page, rows = inspect(chips)
    assert named(rows, "constant") == [image(3)] and found["suspicious"] == 1
    assert "one value, labelled with 2 classes" in page


def test_specks_of_a_class_are_named(inspect):
    chips = good()
    chips[1].label[20, 10] = 1
    chips[2].label[0, 10] = 2  # at the edge it may belong to what lies beyond
    _, page, rows = inspect(chips)
    assert named(rows, "stray") == [image(1)] and "1 pixel of water" in page


def test_a_speck_among_unlabelled_pixels_is_a_label_as_any_other():
    indices = np.full((9, 9), IGNORE_INDEX, np.uint8)
    indices[4, 4] = 1
    assert not is_stray(indices, 1)
    indices[:] = 0
    indices[4, 4] = 1
    assert is_stray(indices, 1)


def test_chips_without_a_label_and_hardly_any_are_named(inspect):
    chips = good()
    chips[2].label[:] = 0
    chips[5].label[:] = 0
    chips[5].label[3, 4:20] = 1
    _, _, rows = inspect(chips)
    assert named(rows, "unlabelled") == [image(2)] and named(rows, "hardly_labelled") == [image(5)]


def test_where_all_labels_are_sparse_that_is_not_conspicuous(inspect):
    chips = good()
    for chip in chips:
        kept = chip.label[30:36, 30:34].copy()
        chip.label[:] = 0
        chip.label[30:36, 30:34] = kept
    assert named(inspect(chips)[2], "hardly_labelled") == []


def test_masks_with_foreign_values_or_changed_after_the_export_are_named(tmp_path):
    chips = good()
    chips[0].label[:4, :4] = 77
    folder = Path(write_chips(tmp_path / "c", chips))
    mask = gdal.Open(str(folder / "labels/0001.tif"), gdal.GA_Update)
    mask.WriteArray(halves(1, 1))
    mask.FlushCache()
    _, page, rows = look_through(folder, tmp_path)
    assert named(rows, "unknown_values") == [image(0)] and named(rows, "miscounted") == [image(1)]
    assert "16 pixels" in page


def test_one_class_in_a_mixed_place_is_named(inspect):
    def flat(seed):
        return np.random.default_rng(seed).normal(60, 3, (3, SIZE, SIZE)).astype(np.uint8)

    chips = [Chip(flat(n), halves(1, 1)) for n in range(30)] + [Chip(textured(n), halves(2, 3)) for n in range(30)]
    chips.append(Chip(textured(99), halves(1, 1)))
    assert named(inspect(chips)[2], "mixed_place") == [image(60)]


def test_black_filling_is_pointed_out_unless_it_is_nodata(inspect, tmp_path):
    chips = good()
    chips[0].image[:, :20] = 0
    assert named(inspect(chips)[2], "black") == [image(0)]
    folder = write_chips(tmp_path / "declared", chips, nodata=0.0)
    assert named(look_through(folder, tmp_path)[2], "black") == []


def test_damaged_chips_are_listed_and_the_others_inspected(inspect, tmp_path):
    folder = Path(write_chips(tmp_path / "c", good()))
    (folder / image(0)).unlink()
    (folder / "labels/0001.tif").write_bytes(b"no raster")
    found, page, rows = look_through(folder, tmp_path)
    assert named(rows, "damaged") == [image(0), image(1)] and "10 of 12 chips" in page
    assert found["findings"][0] == "Chips that cannot be read: 2 of 12"


def test_a_dataset_of_which_nothing_can_be_read_is_an_error(tmp_path):
    folder = Path(write_chips(tmp_path / "c", good()))
    for path in (folder / "images").iterdir():
        path.unlink()
    with pytest.raises(InputError, match="None of the 12 chips can be read"):
        look_through(folder, tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_a_chip_that_only_looks_like_one_cannot_make_us_read_elsewhere(tmp_path):
    folder = Path(write_chips(tmp_path / "c", good()))
    secret = gdal.BuildVRT("", [str(folder / image(1))]).GetMetadata("xml:VRT")[0]
    (folder / image(0)).write_text(secret)
    assert named(look_through(folder, tmp_path)[2], "damaged") == [image(0)]


def test_classes_that_a_split_lacks_are_named(inspect):
    chips = good()
    for chip in chips:
        if chip.split == "test":
            chip.label[chip.label == 3] = 1
        if chip.split == "training":
            chip.label[chip.label == 1] = 2
    findings = inspect(chips)[0]["findings"]
    assert "Classes missing in training: 1 (water)" in findings and "Classes missing in test: 1 (forest)" in findings


def test_findings_come_with_the_weightiest_first_and_serious_ones_as_warnings(inspect):
    chips = good()
    chips[1].label[20, 10] = 1
    chips.append(Chip(chips[0].image, chips[0].label, "test", place=(90, 90)))
    reporter = Heard()
    found, page, _ = inspect(chips, reporter=reporter)
    titles = found["findings"]
    leak, speck = (
        next(n for n, title in enumerate(titles) if word in title) for word in ("same picture as training", "Specks")
    )
    assert leak < speck and page.index("the same picture as training chips") < page.index("Specks of a class")
    assert any("the same picture as training chips" in text for text in reporter.warnings)
    assert any("Specks" in text for text in reporter.logs)


# --- tasks


def test_chips_with_one_class_each(inspect):
    chips = [Chip(textured(n), (n % 3 + 1,), ("training", "training", "validation", "test")[n % 4]) for n in range(40)]
    chips += [Chip(chips[0].image, (2,)), Chip(textured(70), (1, 2)), Chip(textured(71), ())]
    _, page, rows = inspect(chips, "classification")
    assert named(rows, "contradiction") == [image(0), image(40)]
    assert named(rows, "several_classes") == [image(41)] and named(rows, "unlabelled") == [image(42)]
    assert "Mask of the chip" not in page and "Spectral signatures of the classes" in page


def test_chips_with_several_classes_each(inspect):
    chips = [Chip(textured(n), (1, 2) if n % 2 else (3,)) for n in range(12)]
    found, page, rows = inspect(chips, "multilabel")
    assert named(rows, "several_classes") == [] and "water, field" in page and found["classes"] == 3


def test_chips_with_values_to_predict(inspect):
    rng = np.random.default_rng(0)
    chips = [Chip(textured(n), rng.normal(10, 2, (SIZE, SIZE))) for n in range(12)]
    chips[3].label[5, 5] = -9999
    chips[4].label[:] = np.nan
    _, page, rows = inspect(chips, "regression")
    assert named(rows, "extreme_target") == [image(3)] and named(rows, "unlabelled") == [image(4)]
    assert "Values to predict" in page and "Colour ramp" in page


def test_chips_without_labels(inspect):
    found, page, rows = inspect([Chip(textured(n)) for n in range(5)], "unlabelled")
    assert found["classes"] == 0 and rows == [] and "Shares of the classes" not in page


@pytest.mark.parametrize("bands", [1, 2, 40])
def test_any_number_of_bands(inspect, bands):
    chips = [Chip(textured(n, bands), halves()) for n in range(6)]
    _, page, _ = inspect(chips)
    assert page.count("data:image/png") >= 12 and ("24 of 40" in page or "20 of 40" in page) == (bands == 40)


# --- the page, the list, the way there


def test_the_page_is_whole_and_needs_nothing_else(inspect, tmp_path):
    chips = good(20)
    chips.append(Chip(chips[0].image, halves(), "test", place=(90, 90)))
    page = inspect(chips)[1]
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page) and "<script" not in page
    assert all(anchor in page for anchor in (f'id="{target}"' for target in re.findall(r'href="#([^"]+)"', page)))
    opened, alts = [], []

    class Balance(HTMLParser):
        def handle_starttag(self, tag, attributes):
            if tag == "img":
                alts.append(dict(attributes).get("alt"))
            if tag not in ("meta", "img", "br"):
                opened.append(tag)

        def handle_endtag(self, tag):
            assert opened.pop() == tag

    Balance().feed(page)
    assert not opened and all(alts) and len(page) < 2_000_000
    assert sorted(path.name for path in tmp_path.glob("*.*")) == ["list.csv", "report.html"]


def test_names_of_classes_cannot_become_code(tmp_path):
    folder = Path(write_chips(tmp_path / "c", good()))
    text = (folder / "dataset.json").read_text(encoding="utf-8").replace('"water"', '"<script>alert(1)</script>"')
    (folder / "dataset.json").write_text(text, encoding="utf-8")
    page = look_through(folder, tmp_path)[1]
    assert "<script" not in page and "&lt;script&gt;" in page


def test_the_same_seed_gives_the_same_page(tmp_path):
    folder = write_chips(tmp_path / "c", good(20))
    pages = [re.sub(r"in \d+ s", "", look_through(folder, tmp_path, max_chips=9)[1]) for _ in range(2)]
    assert pages[0] == pages[1]


def test_the_list_is_a_layer_with_footprints_and_reasons(tmp_path):
    chips = good()
    chips.append(Chip(chips[0].image, chips[0].label, "test", place=(90, 90)))
    folder = write_chips(tmp_path / "c", chips)
    path = tmp_path / "list.gpkg"
    look_through(folder, tmp_path, suspects=str(path))
    layer = (source := ogr.Open(str(path))).GetLayer(0)
    feature = layer.GetNextFeature()
    assert layer.GetFeatureCount() == 1 and feature["reason"] == "leak" and feature["other"] == image(0)
    assert feature.GetGeometryRef().GetArea() == pytest.approx(SIZE**2) and layer.GetSpatialRef() is not None
    del feature, layer, source


def test_a_list_in_many_files_is_refused_before_the_work(tmp_path):
    folder = write_chips(tmp_path / "c", good())
    with pytest.raises(InputError, match=r"list.shp\. Use the extension .gpkg"):
        look_through(folder, tmp_path, suspects=str(tmp_path / "list.shp"))


@pytest.mark.parametrize("name", ["dataset.json", "chips.gpkg", "images/0000000.tif", "link/labels/new.csv"])
def test_nothing_of_the_dataset_is_written_over(tmp_path, name):
    folder = Path(write_chips(tmp_path / "c", good()))
    (folder / "link").symlink_to(folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    key = "suspects" if name.endswith((".gpkg", ".csv")) else "report"
    with pytest.raises(InputError, match=r"(is|which is) part of the chip dataset"):
        look_through(folder, tmp_path, **{key: str(folder / name)})
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_cancelled_inspection_leaves_nothing(tmp_path):
    folder = write_chips(tmp_path / "c", good(40))
    for after in (1, 2, 4):
        with pytest.raises(Cancelled):
            look_through(folder, tmp_path, Heard(cancel_after=after))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c"]


def test_a_worker_whose_qgis_is_gone_stops_reading(tmp_path):
    folder = write_chips(tmp_path / "c", good())
    reporter = Heard()
    reporter.orphaned_at = 0
    with pytest.raises(Cancelled):
        look_through(folder, tmp_path, reporter)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c"]


def test_the_dataset_is_not_touched(tmp_path):
    folder = Path(write_chips(tmp_path / "c", good()))
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*.*")}
    look_through(folder, tmp_path)
    assert before == {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*.*")}


def test_progress_only_rises(inspect):
    reporter = Heard()
    inspect(good(30), reporter=reporter)
    assert reporter.fractions == sorted(reporter.fractions) and reporter.fractions[-1] == 1


def test_a_map_of_many_chips_is_a_picture_of_bounded_size():
    side = 120
    x, y = (axis.ravel().astype(float) for axis in np.meshgrid(np.arange(side), np.arange(side)))
    corners = np.stack([np.stack([x + dx, y + dy], axis=1) for dx, dy in ((0, 1), (1, 1), (1, 0), (0, 0))], axis=1)
    kinds = np.where(x < 60, "training", "test")
    chart = split_map.split_map(corners, kinds, SPLIT_COLORS, np.zeros(len(x), int), ["a"], "")
    assert "<image" in chart and len(chart) < 200_000


def test_rasters_far_apart_get_a_panel_each():
    corners = np.array([[(0, 1), (1, 1), (1, 0), (0, 0)]], float) + np.array([0, 1000, 2000])[:, None, None]
    kinds, sources = np.array(["training"] * 3), np.arange(3)
    assert split_map.count_places(corners, sources) == 3
    chart = split_map.split_map(corners, kinds, SPLIT_COLORS, sources, ["north", "middle", "south"], "")
    assert all(name in chart for name in ("north", "middle", "south"))


def test_inspecting_needs_no_torch():
    code = "import sys; import plugin.engine.inspection.inspect_chips; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "False"


def test_real_chips_have_no_copies_but_those_put_there(shared_data, tmp_path):
    from plugin.engine.chips.export import export_chips
    from plugin.engine.config import ExportChipsConfig

    scene = shared_data / "landcover_scenes"
    export_chips(
        ExportChipsConfig(
            input=(str(scene / "scene2_image.tif"),), label_rasters=(str(scene / "scene2_labels.tif"),),
            output=str(tmp_path / "chips"), chip_size=128,
        ),
        Reporter(),
    )  # fmt: skip
    found, page, _ = look_through(tmp_path / "chips", tmp_path)
    assert (found["duplicates"], found["leaks"]) == (0, 0) and "building" in page
    training = sorted((tmp_path / "chips/images").iterdir())
    source = gdal.Open(str(training[3]), gdal.GA_Update)
    other = gdal.Open(str(training[60])).ReadAsArray()
    source.WriteArray(np.ascontiguousarray(other[:, ::-1]))
    source.FlushCache()
    assert look_through(tmp_path / "chips", tmp_path)[0]["duplicates"] == 1
