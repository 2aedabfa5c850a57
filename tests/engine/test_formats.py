"""Datasets that are converted to another program's format and imported again, and what other readers find in them."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign import CLASSES, SIZE, SPLITS, bring_in, contents, convert, make_dataset, pixels
from heard import Heard
from osgeo import gdal

from plugin.engine.chips.dataset import open_dataset
from plugin.engine.chips.export import export_chips
from plugin.engine.chips.formats.convert import convert_chips
from plugin.engine.chips.formats.voc import original_palette
from plugin.engine.chips.formats.voc_folder import distinct_colors
from plugin.engine.config import CHIP_FOLDERS, ConvertChipsConfig, ExportChipsConfig
from plugin.engine.errors import Cancelled, InputError, ResourceError

FOUR = (*CLASSES, (0, "land", "#000000"))
ONE_EACH = ([2], [5], [9], [5], [9], [2])
SEVERAL = ([2], [5, 9], [], [2, 5, 9], [9], [2, 9])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("kind", "classes", "label_nodata"),
    [
        ("arcgis", CLASSES, 0),
        ("coco", CLASSES, 0),
        ("voc", CLASSES, 0),
        ("arcgis", FOUR, 255),
        ("coco", FOUR, -1),
        ("voc", FOUR, 255),
        ("arcgis", ((-3, "a", "#ff0000"), (0, "b", "#ff0000"), (70000, "c", "#ff0000")), -1),
        ("coco", ((-3, "a", "#ff0000"), (70000, "c", "#ff0000")), 0),
    ],
)
def test_masks_classes_and_splits_come_back(
    tmp_path: Path, kind: str, classes: Any, label_nodata: int, seed: int
) -> None:
    dataset = make_dataset(tmp_path / "chips", classes=classes, label_nodata=label_nodata, seed=seed)
    found = bring_in(convert(dataset, kind))
    assert contents(found) == contents(dataset)
    assert found.info.classes == dataset.info.classes
    assert found.info.split["method"] == "imported"
    assert found.info.crs and found.info.pixel_size == 0.5
    assert np.allclose(found.info.mean, dataset.info.mean)


@pytest.mark.parametrize("chip_format", ["PNG", "JPEG"])
@pytest.mark.parametrize("kind", ["arcgis", "coco", "voc"])
def test_chips_keep_their_format_and_their_place(tmp_path: Path, kind: str, chip_format: str) -> None:
    dataset = make_dataset(tmp_path / "chips", chip_format=chip_format)
    found = bring_in(convert(dataset, kind))
    assert contents(found) == contents(dataset)
    assert {Path(image).suffix for image in found.images} == {Path(image).suffix for image in dataset.images}
    first = gdal.Open(str(found.folder / found.images[0]))
    assert first.GetSpatialRef().GetAuthorityCode(None) == "32633" and first.GetGeoTransform()[1] == 0.5


@pytest.mark.parametrize(
    ("kind", "task", "shown"),
    [
        ("arcgis", "classification", ONE_EACH),
        ("imagenet", "classification", ONE_EACH),
        ("voc", "classification", ONE_EACH),
        ("arcgis", "multilabel", SEVERAL),
        ("voc", "multilabel", SEVERAL),
        ("voc", "multilabel", ONE_EACH),
        ("arcgis", "unlabelled", ()),
    ],
)
def test_classes_of_whole_chips_come_back(tmp_path: Path, kind: str, task: str, shown: Any) -> None:
    classes = CLASSES if shown else ()
    dataset = make_dataset(tmp_path / "chips", task, classes, shown=shown, georeferenced=False)
    found = bring_in(convert(dataset, kind))
    assert found.info.task == task
    assert contents(found) == contents(dataset)
    assert found.info.classes == dataset.info.classes


@pytest.mark.parametrize("kind", ["arcgis", "coco", "voc"])
def test_without_our_note_the_format_itself_says_it_all(tmp_path: Path, kind: str) -> None:
    classes = ((2, "water", "#3366cc"), (5, "field", "#cccc33"), (9, "forest", "#116622"))
    dataset = make_dataset(tmp_path / "chips", classes=classes)
    folder = convert(dataset, kind)
    (folder / "terrazzo.json").unlink()
    found = bring_in(folder)
    assert contents(found) == contents(dataset) and found.info.classes == dataset.info.classes


def test_chips_of_no_split_are_left_out_where_a_format_has_splits(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "chips", splits=("training", "none", "test", "validation"))
    assert len(bring_in(convert(dataset, "coco")).images) == 3
    assert bring_in(convert(dataset, "arcgis")).splits.tolist() == ["training", "none", "test", "validation"]


# --- what other programs find


def test_arcgis_finds_its_names_lines_and_zeros(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "chips")
    folder = convert(dataset, "arcgis")
    lines = (folder / "map.txt").read_bytes().decode().split("\n")
    assert lines[1] == "images\\000000001.tif  labels\\000000001.tif \r" and len(lines) == len(SPLITS) + 1
    label = gdal.Open(str(folder / "labels/000000001.tif"))
    assert label.GetRasterBand(1).DataType == gdal.GDT_Byte and label.GetRasterBand(1).GetColorTable() is None
    assert (label.ReadAsArray() == pixels(dataset.folder / dataset.labels[1])).all()
    image = gdal.Open(str(folder / "images/000000001.tif"))
    assert label.GetGeoTransform() == image.GetGeoTransform()
    numbers = [float(line) for line in (folder / "images/000000001.tfw").read_text().split()]
    left, _, _, top, _, _ = image.GetGeoTransform()
    assert numbers == [0.5, 0, 0, -0.5, left + 0.25, top - 0.25]
    assert (folder / "splits.csv").read_text().splitlines()[:3] == [
        "image,split", "images/000000000.tif,training", "images/000000001.tif,training",
    ]  # fmt: skip


def test_arcgis_finds_true_numbers(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "chips")
    folder = convert(dataset, "arcgis")
    statistics = json.loads((folder / "esri_accumulated_stats.json").read_text())
    definition = json.loads((folder / "esri_model_definition.emd").read_text())
    masks = np.array([pixels(dataset.folder / label) for label in dataset.labels])
    images = np.array([pixels(dataset.folder / image) for image in dataset.images]).astype(float)
    counts = np.array([(masks == value).sum(axis=(1, 2)) for value, _, _ in CLASSES])
    found = statistics["ClassPixelStats"]
    assert found["NumPixelsPerClass"] == counts.sum(axis=1).tolist()
    assert found["NumImagesPerClass"] == (counts > 0).sum(axis=1).tolist()
    assert [row["Max"] for row in found["PixelsPerClass"]] == counts.max(axis=1).tolist()
    features = statistics["FeatureStats"]
    assert features["NumFeaturesTotal"] == sum(features["NumFeaturesPerClass"])
    areas = [row["Sum"] for row in features["FeatureAreaPerClass"]]
    assert areas == (counts.sum(axis=1) * 0.25).tolist()
    assert (statistics["NumTiles"], statistics["TileSizeX"], statistics["NumBands"]) == (len(SPLITS), SIZE, 3)
    for band, (state, told) in enumerate(zip(statistics["BandStatsState"], definition["AllTilesStats"])):
        assert state["Num"] == images[:, band].size and np.isclose(state["M1"], images[:, band].mean())
        assert np.isclose((state["M2"] / state["Num"]) ** 0.5, told["StdDev"])
        assert np.isclose(told["StdDev"], images[:, band].std())
        assert (told["Min"], told["Max"]) == (images[:, band].min(), images[:, band].max())
    assert definition["MetaDataMode"] == "Classified_Tiles" and definition["ImageHeight"] == SIZE
    assert definition["Classes"][0] == {"Value": 2, "Name": "water", "Color": [51, 102, 204]}
    assert statistics["MinCellSize"]["spatialReference"]["wkid"] == 32633
    text = (folder / "stats.txt").read_text()
    assert text.startswith(f"images = {len(SPLITS)} *3*{SIZE}*{SIZE}\nclasses = 3\nclasses per image = [min = 3, ")
    row = next(line for line in text.splitlines() if line.startswith("forest"))
    assert row.split()[1:4] == ["9", str((counts[2] > 0).sum()), str(counts[2].sum())]


def test_arcgis_has_no_class_of_zero_or_below(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "chips", classes=((0, "land", ""), (1, "water", "")), label_nodata=-1)
    heard = Heard()
    config = ConvertChipsConfig(chips=str(dataset.folder), output=str(tmp_path / "out"))
    convert_chips(config, heard)
    assert any("0 (land) is written as 2" in text for text in heard.logs)
    mask, before = pixels(tmp_path / "out/labels/000000000.tif"), pixels(dataset.folder / dataset.labels[0])
    assert ((mask == 2) == (before == 0)).all() and ((mask == 0) == (before == -1)).all()


@pytest.mark.parametrize(("task", "shown", "text"), [("classification", ONE_EACH, "5"), ("multilabel", SEVERAL, "5,9")])
def test_arcgis_finds_class_values_in_labels_of_whole_chips(tmp_path: Path, task: str, shown: Any, text: str) -> None:
    folder = convert(make_dataset(tmp_path / "chips", task, shown=shown), "arcgis")
    root = ET.parse(folder / "labels/000000001.xml").getroot()
    assert root.findtext("object/name") == text and root.findtext("object/bndbox/xmax") == f"{SIZE}.00"


def test_imagenet_has_every_class_in_every_split(tmp_path: Path) -> None:
    folder = convert(make_dataset(tmp_path / "chips", "classification", shown=ONE_EACH), "imagenet")
    names = ["field_ wet & dry", "forest", "water"]
    for split in ("train", "val", "test"):
        assert sorted(path.name for path in (folder / split).iterdir()) == names
    assert [path.name for path in (folder / "val/forest").iterdir()] == ["0000002.tif"]


def test_coco_describes_every_labelled_pixel_once(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "chips")
    folder = convert(dataset, "coco")
    values = json.loads((folder / "annotations/instances_train.json").read_text())
    assert [row["id"] for row in values["categories"]] == [2, 5, 9]
    assert sum(row["area"] for row in values["annotations"]) == dataset.pixels[dataset.splits == "training"].sum()
    ids = [row["id"] for row in values["annotations"]]
    assert len(set(ids)) == len(ids) and 0 not in ids
    shapes = [row["segmentation"] for row in values["annotations"]]
    assert any(isinstance(shape, list) for shape in shapes) and any(isinstance(shape, dict) for shape in shapes)
    for row in values["images"]:
        assert (folder / "images/train" / row["file_name"]).is_file()


def test_voc_masks_are_palettes_whose_255_is_no_label(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "chips")
    folder = convert(dataset, "voc")
    mask = gdal.Open(str(folder / "SegmentationClass/0000003.png"))
    before = pixels(dataset.folder / dataset.labels[3])
    assert (mask.ReadAsArray() == np.where(before == 0, 255, before)).all()
    assert mask.GetRasterBand(1).GetColorTable().GetColorEntry(2)[:3] == (0x33, 0x66, 0xCC)
    lists = folder / "ImageSets/Segmentation"
    assert (lists / "val.txt").read_text() == "0000002\n"
    assert (lists / "trainval.txt").read_text().split() == ["0000000", "0000001", "0000002", "0000004"]
    assert "field wet & dry:204,204,51::" in (folder / "labelmap.txt").read_text().splitlines()


def test_voc_tells_which_chips_show_a_class(tmp_path: Path) -> None:
    folder = convert(make_dataset(tmp_path / "chips", "multilabel", shown=SEVERAL), "voc")
    lines = (folder / "ImageSets/Main/water_train.txt").read_text().splitlines()
    assert lines == ["0000000  1", "0000001 -1", "0000004 -1"]
    names = [found.text for found in ET.parse(folder / "Annotations/0000001.xml").iterfind("object/name")]
    assert names == ["field: wet & dry", "forest"]


def test_the_palette_is_that_of_the_voc_development_kit() -> None:
    assert original_palette()[:3] == [(0, 0, 0), (128, 0, 0), (0, 128, 0)]
    assert original_palette()[20] == (0, 64, 128) and original_palette()[255] == (224, 224, 192)


def test_colours_of_classes_become_distinct() -> None:
    found = distinct_colors([(9, 9, 9), (9, 9, 9), (224, 224, 192), (255, 255, 255), (255, 255, 255)])
    assert found == [(9, 9, 9), (9, 9, 10), (224, 224, 193), (255, 255, 255), (0, 0, 0)]


# --- what is refused


@pytest.mark.parametrize(
    ("kind", "task", "shown", "words"),
    [
        ("coco", "classification", ONE_EACH, r"is for classification, but coco supports.*arcgis or imagenet or voc"),
        ("imagenet", "multilabel", SEVERAL, r"is for multilabel.*Convert it to arcgis or voc"),
        ("imagenet", "segmentation", (), r"Convert it to arcgis or coco or voc"),
        ("voc", "unlabelled", (), r"Convert it to arcgis"),
    ],
)
def test_what_a_format_cannot_hold_is_said(tmp_path: Path, kind: str, task: str, shown: Any, words: str) -> None:
    dataset = make_dataset(tmp_path / "chips", task, CLASSES if shown or task == "segmentation" else (), shown=shown)
    with pytest.raises(InputError, match=words):
        convert(dataset, kind)


def test_regression_has_no_place_elsewhere(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "chips", "unlabelled", ())
    description = dataset.folder / "dataset.json"
    description.write_text(description.read_text().replace('"unlabelled"', '"regression"'))
    for kind in CHIP_FOLDERS:
        with pytest.raises(InputError, match=r"is for regression.*No other format supports it"):
            convert(open_dataset(dataset.folder), kind)


def test_voc_refuses_class_values_that_a_palette_cannot_hold(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "chips", classes=((1, "a", ""), (255, "b", "")))
    with pytest.raises(InputError, match="the class b has 255"):
        convert(dataset, "voc")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chips"]


def test_only_a_folder_of_ours_is_replaced_and_only_when_asked(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "chips")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(InputError, match="was not written by Terrazzo"):
        convert(dataset, "coco", "mine", overwrite=True)
    folder = convert(dataset, "voc")
    with pytest.raises(InputError, match="set OVERWRITE"):
        convert(dataset, "coco", "voc")
    assert (convert(dataset, "coco", "voc", overwrite=True) / "annotations").is_dir()
    assert not (folder / "SegmentationClass").exists()
    with pytest.raises(InputError, match="overlap"):
        convert(dataset, "coco", "chips/coco")


@pytest.mark.parametrize("kind", CHIP_FOLDERS)
def test_a_cancelled_conversion_leaves_nothing(tmp_path: Path, kind: str) -> None:
    shown = ONE_EACH if kind == "imagenet" else ()
    dataset = make_dataset(tmp_path / "chips", "classification" if shown else "segmentation", shown=shown)
    config = ConvertChipsConfig(chips=str(dataset.folder), output=str(tmp_path / "out"), folder_format=kind)
    with pytest.raises(Cancelled):
        convert_chips(config, Heard(cancel_after=1))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chips"]


def test_a_chip_that_is_gone_ends_in_words_and_leaves_nothing(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "chips")
    (dataset.folder / dataset.images[3]).unlink()
    with pytest.raises((InputError, ResourceError), match=r"0000003\.tif"):
        convert(open_dataset(dataset.folder), "arcgis")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chips"]


def test_a_real_scene_comes_back_from_every_format(shared_data: Path, tmp_path: Path) -> None:
    # 13 bands of 16 bits, class 0, and −1 for no label.
    scene = shared_data / "flood_13band"
    settings = {"label_rasters": (str(scene / "labels.tif"),), "label_nodata": -1, "chip_size": 128}
    config = ExportChipsConfig(input=(str(scene / "s2.tif"),), output=str(tmp_path / "chips"), **settings)
    export_chips(config, Heard())
    dataset = open_dataset(config.output)
    assert dataset.info.label_nodata == -1 and dataset.info.classes.values.tolist() == [0, 1]
    for kind in ("arcgis", "coco", "voc"):
        found = bring_in(convert(dataset, kind))
        assert contents(found) == contents(dataset) and found.info.classes == dataset.info.classes
        assert found.info.band_names == dataset.info.band_names
