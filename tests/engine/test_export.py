from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import Any, Optional

import numpy as np
import pytest
from heard import Heard
from osgeo import gdal, ogr
from synthetic import (
    CLASSES,
    LEFT,
    TOP,
    class_mask,
    rectangle,
    scene,
    write_dataset,
    write_polygons,
    write_raster,
    write_scene,
)

from plugin.engine.chips.dataset import open_dataset
from plugin.engine.chips.export import export_chips
from plugin.engine.config import ExportChipsConfig
from plugin.engine.errors import Cancelled, InputError, ResourceError


def export(folder: Path, **settings: Any) -> Any:
    """Export with small chips and no log; gives the opened dataset."""
    config = ExportChipsConfig(**{"output": str(folder / "chips"), "chip_size": 64, **settings})
    export_chips(config, Heard())
    return open_dataset(config.output)


def rows(dataset: Any, *names: str) -> list[tuple[Any, ...]]:
    source = gdal.OpenEx(str(dataset.folder / "chips.gpkg"), gdal.OF_VECTOR)
    return [tuple(feature.GetField(name) for name in names) for feature in source.GetLayer(0)]


def test_chips_hold_the_pixels_of_their_window(tmp_path: Path) -> None:
    image, labels = write_scene(tmp_path)
    dataset = export(tmp_path, input=(image,), label_rasters=(labels,))
    picture, mask = gdal.Open(image).ReadAsArray(), gdal.Open(labels).ReadAsArray()
    for path, label, col, row in rows(dataset, "image", "label", "col_off", "row_off"):
        chip = gdal.Open(str(dataset.folder / path))
        assert (chip.ReadAsArray() == picture[:, row : row + 64, col : col + 64]).all()
        assert (gdal.Open(str(dataset.folder / label)).ReadAsArray() == mask[row : row + 64, col : col + 64]).all()
        assert chip.GetGeoTransform()[0] == LEFT + col and chip.GetGeoTransform()[3] == TOP - row


def test_the_dataset_describes_itself(tmp_path: Path) -> None:
    image, labels = write_scene(tmp_path)
    dataset = export(tmp_path, input=(image,), label_rasters=(labels,))
    info = dataset.info
    assert [(entry.value, entry.name, entry.color) for entry in info.classes.classes] == CLASSES
    assert (info.label_nodata, info.chip_size, info.stride, info.dtype) == (0, 64, 64, "uint8")
    assert sum(info.chip_counts.values()) == len(dataset.images) == 20
    training = dataset.indices("training")
    assert dataset.pixels[training].sum(axis=0).tolist() == info.pixel_counts["training"]
    data = np.concatenate(
        [gdal.Open(str(dataset.folder / path)).ReadAsArray().reshape(3, -1) for path in dataset.images[training]],
        axis=1,
    )
    assert np.allclose(info.mean, data.mean(axis=1)) and np.allclose(info.std, data.std(axis=1))
    assert info.minimum == tuple(data.min(axis=1)) and info.maximum == tuple(data.max(axis=1))


@pytest.mark.parametrize("stride", [64, 40, 13])
@pytest.mark.parametrize("edges", ["shift", "pad"])
@pytest.mark.parametrize("shape", [(256, 320), (231, 307), (130, 515)])
def test_no_ground_is_in_two_splits(tmp_path: Path, stride: int, edges: str, shape: tuple[int, int]) -> None:
    image, labels = write_scene(tmp_path, *shape)
    # A second raster, shifted by a broken number of pixels, shows part of the same ground.
    mask = class_mask(*shape)
    other = write_raster(tmp_path / "other.tif", scene(mask), left=LEFT + 100.37, top=TOP - 50.81)
    other_labels = write_raster(tmp_path / "other_labels.tif", mask, left=LEFT + 100.37, top=TOP - 50.81, nodata=0)
    dataset = export(
        tmp_path, input=(image, other), label_rasters=(labels, other_labels), stride=stride, edges=edges, block_size=80
    )
    assert dataset.splits.tolist().count("validation") > 0
    seen: dict[str, np.ndarray] = {}
    tenth = 10  # ground is compared at a tenth of a pixel
    height, width = (shape[0] + 60) * tenth, (shape[1] + 110) * tenth
    for split in ("training", "validation", "test"):
        seen[split] = np.zeros((height, width), bool)
    source = gdal.OpenEx(str(dataset.folder / "chips.gpkg"), gdal.OF_VECTOR)
    for feature in source.GetLayer(0):
        left, right, bottom, top = feature.geometry().GetEnvelope()
        cols = slice(round((left - LEFT) * tenth), round((right - LEFT) * tenth))
        at = slice(round((TOP - top) * tenth), round((TOP - bottom) * tenth))
        seen[feature["split"]][at, cols] = True
    assert not (seen["training"] & seen["validation"]).any()
    assert not (seen["training"] & seen["test"]).any()
    assert not (seen["validation"] & seen["test"]).any()


def test_padding_covers_all_ground_and_shifting_too(tmp_path: Path) -> None:
    image, labels = write_scene(tmp_path, 150, 170)
    for edges in ("shift", "pad"):
        dataset = export(
            tmp_path, input=(image,), label_rasters=(labels,), edges=edges, output=str(tmp_path / edges), block_size=64
        )
        covered = np.zeros((150, 170), bool)
        for col, row in rows(dataset, "col_off", "row_off"):
            covered[row : row + 64, col : col + 64] = True
        assert covered.all()
        assert all(gdal.Open(str(dataset.folder / path)).RasterXSize == 64 for path in dataset.images)


def test_a_later_polygon_wins_and_ground_outside_is_unlabelled(tmp_path: Path) -> None:
    image = write_raster(tmp_path / "image.tif", scene(class_mask(64, 64)))
    labels = write_polygons(
        tmp_path / "labels.gpkg",
        [
            (5, rectangle(LEFT, TOP - 40, LEFT + 40, TOP)),
            (9, rectangle(LEFT + 20, TOP - 60, LEFT + 60, TOP - 20)),
            (5, rectangle(LEFT + 30, TOP - 50, LEFT + 35, TOP - 30)),
        ],
    )
    dataset = export(tmp_path, input=(image,), labels=labels)
    mask = gdal.Open(str(dataset.folder / dataset.labels[0])).ReadAsArray()
    expected = np.zeros((64, 64), int)
    expected[:40, :40], expected[20:60, 20:60], expected[30:50, 30:35] = 5, 9, 5
    assert (mask == expected).all()


def test_one_class_of_polygons_gets_a_background(tmp_path: Path) -> None:
    image = write_raster(tmp_path / "image.tif", scene(class_mask(64, 64)))
    labels = write_polygons(tmp_path / "labels.gpkg", [(1, rectangle(LEFT, TOP - 40, LEFT + 40, TOP))])
    dataset = export(tmp_path, input=(image,), labels=labels, classes=((1, "roof", "#ff0000"),))
    assert dataset.info.classes.names == ["background", "roof"] and dataset.info.classes.values.tolist() == [0, 1]
    assert dataset.pixels.tolist() == [[64 * 64 - 1600, 1600]]
    with pytest.raises(InputError, match=r'only one class: 1 \("roof"\)'):
        export(
            tmp_path, input=(image,), labels=labels, classes=((1, "roof", None),), background="ignore", overwrite=True
        )


def test_class_zero_and_a_signed_nodata_keep_their_values(tmp_path: Path) -> None:
    mask = np.zeros((64, 64), np.int16)
    mask[:, 32:], mask[:8] = 1, -1
    image = write_raster(tmp_path / "image.tif", np.ones((13, 64, 64), np.int16))
    labels = write_raster(tmp_path / "labels.tif", mask)
    dataset = export(tmp_path, input=(image,), label_rasters=(labels,), label_nodata=-1)
    assert dataset.info.classes.values.tolist() == [0, 1] and dataset.info.label_nodata == -1
    assert (gdal.Open(str(dataset.folder / dataset.labels[0])).ReadAsArray() == mask).all()


def test_labels_on_another_grid_take_the_nearest_pixel(tmp_path: Path) -> None:
    image = write_raster(tmp_path / "image.tif", scene(class_mask(128, 128)))
    coarse = np.kron(np.array([[1, 2], [3, 0]], np.uint8), np.ones((8, 8), np.uint8))  # 16 × 16, pixels of 4
    labels = write_raster(tmp_path / "labels.tif", coarse, step=4.0, left=LEFT + 32, top=TOP - 32)
    dataset = export(tmp_path, input=(image,), label_rasters=(labels,), chip_size=128)
    mask = gdal.Open(str(dataset.folder / dataset.labels[0])).ReadAsArray()
    free = dataset.info.label_nodata
    assert dataset.info.classes.values.tolist() == [0, 1, 2, 3] and free == 255  # 0 is a class: no nodata was declared
    assert (mask[32:64, 32:64] == 1).all() and (mask[32:64, 64:96] == 2).all() and (mask[64:96, 32:64] == 3).all()
    assert (mask[:32] == free).all() and (mask[96:] == free).all()


def test_labels_in_another_crs_fall_on_the_same_ground(tmp_path: Path) -> None:
    image, labels = write_scene(tmp_path)
    gdal.Warp(str(tmp_path / "degrees.tif"), labels, dstSRS="EPSG:4326", resampleAlg="near", dstNodata=0)
    moved = export(tmp_path, input=(image,), label_rasters=(str(tmp_path / "degrees.tif"),), edges="pad")
    mask, agree, total = gdal.Open(labels).ReadAsArray(), 0, 0
    for path, col, row in rows(moved, "label", "col_off", "row_off"):
        chip, truth = gdal.Open(str(moved.folder / path)).ReadAsArray(), mask[row : row + 64, col : col + 64]
        known = chip != 0
        agree, total = agree + int((chip == truth)[known].sum()), total + int(known.sum())
    assert total > 0.95 * 320 * 256 * 0.9 and agree / total > 0.97


def test_nodata_pixels_of_the_image_lose_their_label(tmp_path: Path) -> None:
    image, labels = write_scene(tmp_path, nodata=7)
    source = gdal.Open(image, gdal.GA_Update)
    data = source.ReadAsArray()
    data[:, 100:140, 100:140] = 7
    data[0, 200:210, 200:210] = 7  # one band alone: still data
    source.WriteArray(data)
    del source
    dataset = export(tmp_path, input=(image,), label_rasters=(labels,))
    for path, label in zip(dataset.images, dataset.labels):
        picture = gdal.Open(str(dataset.folder / path)).ReadAsArray()
        mask = gdal.Open(str(dataset.folder / label)).ReadAsArray()
        assert (mask[(picture == 7).all(axis=0)] == 0).all()
    assert dataset.info.nodata == 7 and min(dataset.info.minimum) != 7


def test_an_area_of_interest_unlabels_what_is_outside(tmp_path: Path) -> None:
    image, labels = write_scene(tmp_path)
    area = write_polygons(tmp_path / "area.gpkg", [(1, rectangle(LEFT + 64, TOP - 128, LEFT + 200, TOP - 64))], "area")
    dataset = export(tmp_path, input=(image,), label_rasters=(labels,), area=area)
    assert 0 < int(dataset.pixels.sum()) <= 136 * 64
    assert all(64 <= row < 128 and 64 <= col < 200 for col, row in rows(dataset, "col_off", "row_off"))


def test_an_extent_limits_the_chips(tmp_path: Path) -> None:
    image, labels = write_scene(tmp_path)
    dataset = export(tmp_path, input=(image,), label_rasters=(labels,), extent=(LEFT, TOP - 128, LEFT + 64, TOP))
    assert sorted(rows(dataset, "col_off", "row_off")) == [(0, 0), (0, 64)]


def test_footprints_lie_where_their_chips_do(tmp_path: Path) -> None:
    dataset = open_dataset(write_dataset(tmp_path))
    source = ogr.Open(str(dataset.folder / "chips.gpkg"))
    layer = source.GetLayer(0)
    assert layer.GetSpatialRef().GetAuthorityCode(None) == "32633"
    for feature in layer:
        left, right, bottom, top = feature.geometry().GetEnvelope()
        assert (left, top) == (
            LEFT + feature["col_off"],
            TOP - feature["row_off"],
        ) and right - left == top - bottom == 64


def test_large_blocks_are_read_in_pieces_without_losing_chips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plugin.engine.chips.plan.UNIT_BYTES", 3 * 100 * 100)
    image, labels = write_scene(tmp_path)
    dataset = export(tmp_path, input=(image,), label_rasters=(labels,), block_size=320, stride=32)
    assert len(dataset.images) == len(set(rows(dataset, "col_off", "row_off"))) == 9 * 7


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "labels elsewhere": ({"label_rasters": ("away.tif",)}, "do not overlap"),
    "polygons elsewhere": ({"label_rasters": (), "labels": "away.gpkg"}, "do not overlap"),
    "a chip larger than the raster": ({"chip_size": 512}, "larger than the raster.*256 or less"),
    "an extent beside the raster": (
        {"extent": (0.0, 0.0, 9.0, 9.0)},
        r"EXTENT \(x 0 to 9, y 0 to 9\) does not overlap",
    ),
    "no labels": ({"label_rasters": ()}, "No labels are given"),
    "two kinds of labels": ({"labels": "away.gpkg"}, "Both features and label rasters"),
    "fewer label rasters than rasters": (
        {"input": ("image.tif",) * 3, "label_rasters": ("labels.tif",) * 2},
        "2 label",
    ),
    "continuous labels": ({"label_rasters": ("height.tif",)}, "whole numbers"),
    "a raster of nothing but nodata": ({"input": ("empty.tif",)}, "all pixels are nodata"),
    "a block smaller than a chip": ({"block_size": 32}, "BLOCK_SIZE is 32"),
    "shares that leave no training": ({"validation_share": 0.5, "test_share": 0.5}, "nothing for training"),
    "a missing band": ({"bands": (1, 9)}, "Band 9"),
}


@pytest.fixture(scope="module")
def bad_inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad")
    write_scene(folder)
    mask = class_mask()
    write_raster(folder / "away.tif", mask, left=LEFT + 10000)
    write_polygons(folder / "away.gpkg", [(1, rectangle(0, 0, 10, 10)), (2, rectangle(20, 0, 30, 10))])
    write_raster(folder / "height.tif", mask.astype(np.float32) + 0.5)
    write_raster(folder / "empty.tif", np.full((3, 256, 320), 9, np.uint8), nodata=9)
    write_raster(folder / "degrees.tif", scene(mask), left=15.0, top=50.0, step=1e-5, epsg=4326)
    return folder


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_words_and_leaves_nothing(bad_inputs: Path, tmp_path: Path, case: str) -> None:
    settings, words = BAD[case]
    given: dict[str, Any] = {"input": ("image.tif",), "label_rasters": ("labels.tif",), **settings}
    for name in ("input", "label_rasters"):
        given[name] = tuple(str(bad_inputs / path) for path in given[name])
    if "labels" in given:
        given["labels"] = str(bad_inputs / given["labels"])
    with pytest.raises(InputError, match=words):
        export(tmp_path, **given)
    assert list(tmp_path.iterdir()) == []


def test_a_cancelled_export_leaves_nothing(tmp_path: Path) -> None:
    image, labels = write_scene(tmp_path / "scene")
    config = ExportChipsConfig(
        input=(image,), label_rasters=(labels,), output=str(tmp_path / "out" / "chips"), chip_size=16
    )
    with pytest.raises(Cancelled):
        export_chips(config, Heard(cancel_after=2))
    assert not (tmp_path / "out").exists()


def test_an_earlier_dataset_is_replaced_only_when_asked(tmp_path: Path) -> None:
    image, labels = write_scene(tmp_path)
    export(tmp_path, input=(image,), label_rasters=(labels,))
    with pytest.raises(InputError, match="OVERWRITE"):
        export(tmp_path, input=(image,), label_rasters=(labels,))
    dataset = export(tmp_path, input=(image,), label_rasters=(labels,), chip_size=128, overwrite=True)
    assert dataset.info.chip_size == 128
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_dataset_that_holds_a_raster_is_not_replaced(tmp_path: Path) -> None:
    image, labels = write_scene(tmp_path / "scene")
    given: dict[str, Any] = {"output": str(tmp_path / "chips"), "chip_size": 16, "overwrite": True}
    export_chips(ExportChipsConfig(input=(image,), label_rasters=(labels,), **given), Heard())
    shutil.copy(image, tmp_path / "chips" / "image.tif")
    (tmp_path / "link").symlink_to(tmp_path / "chips" / "image.tif")
    for path in (tmp_path / "chips" / "image.tif", tmp_path / "link"):
        with pytest.raises(InputError, match=r"contains .*image\.tif|contains .*link"):
            export_chips(ExportChipsConfig(input=(str(path),), label_rasters=(labels,), **given), Heard())
    assert (tmp_path / "chips" / "image.tif").exists()


def test_a_folder_with_other_things_is_never_replaced(tmp_path: Path) -> None:
    image, labels = write_scene(tmp_path)
    (tmp_path / "chips").mkdir()
    (tmp_path / "chips" / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="not a chip dataset"):
        export(tmp_path, input=(image,), label_rasters=(labels,), overwrite=True)
    assert (tmp_path / "chips" / "thesis.txt").read_text() == "years of work"


def test_a_disk_without_room_is_refused_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image, labels = write_scene(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    with pytest.raises(ResourceError, match="1 kB free"):
        export(tmp_path, input=(image,), label_rasters=(labels,))
    assert not (tmp_path / "chips").exists()


def test_a_dataset_that_points_outside_its_folder_is_refused(tmp_path: Path) -> None:
    folder = Path(write_dataset(tmp_path))
    source = gdal.OpenEx(str(folder / "chips.gpkg"), gdal.OF_VECTOR | gdal.OF_UPDATE)
    source.ExecuteSQL("UPDATE chips SET image = '../../etc/passwd' WHERE fid = 1")
    del source
    with pytest.raises(InputError, match="outside of its folder"):
        open_dataset(folder)


@pytest.mark.parametrize("damage", ["{", '{"format_version": 99}', "{}", '{"format_version": 1, "classes": 3}'])
def test_a_damaged_description_is_refused_in_words(tmp_path: Path, damage: str) -> None:
    folder = Path(write_dataset(tmp_path))
    (folder / "dataset.json").write_text(damage)
    with pytest.raises(InputError, match=r"damaged|format 99"):
        open_dataset(folder)
    (folder / "dataset.json").unlink()
    with pytest.raises(InputError, match="not a chip dataset"):
        open_dataset(folder)


def test_the_landcover_scenes_come_out_with_names_and_balanced_splits(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "landcover_scenes"
    dataset = export(
        tmp_path,
        input=tuple(str(folder / f"scene{number}_image.tif") for number in (2, 3)),
        label_rasters=tuple(str(folder / f"scene{number}_labels.tif") for number in (2, 3)),
        chip_size=256,
    )
    info = dataset.info
    assert info.classes.names == ["building", "land", "road", "vegetation", "water"]
    shares = np.array([info.pixel_counts[split] for split in ("training", "validation", "test")], float)
    assert np.abs(shares / shares.sum(axis=0) - np.array([[0.7], [0.15], [0.15]])).max() < 0.12
    assert json.loads((dataset.folder / "dataset.json").read_text())["format_version"] == 2


def test_names_and_colours_come_from_an_attribute_table_too(tmp_path: Path) -> None:
    mask = np.full((64, 64), 7, np.int16)
    mask[:, 30:] = 4000
    labels = write_raster(tmp_path / "labels.tif", mask)
    table = gdal.RasterAttributeTable()
    for name, kind, usage in (
        ("Value", gdal.GFT_Integer, gdal.GFU_MinMax),
        ("Class", gdal.GFT_String, gdal.GFU_Name),
        ("R", gdal.GFT_Integer, gdal.GFU_Red),
        ("G", gdal.GFT_Integer, gdal.GFU_Green),
        ("B", gdal.GFT_Integer, gdal.GFU_Blue),
    ):
        table.CreateColumn(name, kind, usage)
    for row, (value, name, color) in enumerate([(7, "moor", (1, 2, 3)), (4000, "heath", (250, 0, 9))]):
        table.SetValueAsInt(row, 0, value)
        table.SetValueAsString(row, 1, name)
        for column, part in enumerate(color, start=2):
            table.SetValueAsInt(row, column, part)
    source = gdal.Open(labels, gdal.GA_Update)
    source.GetRasterBand(1).SetDefaultRAT(table)
    del source
    image = write_raster(tmp_path / "image.tif", scene(class_mask(64, 64)))
    classes = export(tmp_path, input=(image,), label_rasters=(labels,)).info.classes.classes
    assert [(entry.value, entry.name, entry.color) for entry in classes] == [
        (7, "moor", "#010203"),
        (4000, "heath", "#fa0009"),
    ]


def test_filling_that_is_not_declared_as_nodata_is_pointed_out(tmp_path: Path) -> None:
    image, labels = write_scene(tmp_path)
    source = gdal.Open(image, gdal.GA_Update)
    data = source.ReadAsArray()
    data[:, :, 128:] = 0
    source.WriteArray(data)
    del source
    reporter = Heard()
    config = ExportChipsConfig(
        input=(image,), label_rasters=(labels,), output=str(tmp_path / "chips"), chip_size=64, block_size=64
    )
    export_chips(config, reporter)
    assert any(
        text.startswith("12 chips of 20 have the same value in all pixels (0, 0, 0)") for text in reporter.warnings
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({1: -1}, "the value -1 in 2?[0-9]% of their pixels, and no nodata value is declared, so it counts as a class"),
        ({1: 255}, "the value 255 in"),
        ({1: -1, 2: -9999}, "the value -9999 in .* and -1 in .* they count as classes"),
        ({2: 5}, None),
        ({1: 0, 2: 0, 3: 255}, None),  # a mask of two values
    ],
)
def test_values_of_label_rasters_that_look_like_filling_are_named(
    tmp_path: Path, change: dict[int, int], words: Optional[str]
) -> None:
    image, _ = write_scene(tmp_path)
    mask = class_mask().astype(np.int16)
    data = mask.copy()
    for value, other in change.items():
        data[mask == value] = other
    labels = write_raster(tmp_path / "odd.tif", data[None])
    heard = Heard()
    config = ExportChipsConfig(input=(image,), label_rasters=(labels,), output=str(tmp_path / "chips"), chip_size=64)
    export_chips(config, heard)
    found = [text for text in heard.warnings if "of their pixels" in text]
    assert len(found) == (words is not None) and (not words or re.search(words, found[0]))
    assert change != {1: -1} or found[0].endswith("set LABEL_NODATA to -1.")
    # What the user lists or declares is a class, or none, without a word.
    for settings in ({"class_map": tuple((value, value) for value in change.values())}, {"label_nodata": -1}):
        heard = Heard()
        export_chips(dataclasses.replace(config, overwrite=True, **settings), heard)
        assert "label_nodata" in settings or not any("of their pixels" in text for text in heard.warnings)
        assert not any("the value -1 in" in text for text in heard.warnings)


def test_labels_where_the_rasters_crs_has_no_numbers_are_told_without_any(tmp_path: Path) -> None:
    image, _ = write_scene(tmp_path)
    labels = write_raster(tmp_path / "degrees.tif", class_mask(), epsg=4326)  # metres taken for degrees
    with pytest.raises(InputError, match="outside of the area where the raster's CRS is valid") as caught:
        export(tmp_path, input=(image,), label_rasters=(labels,))
    assert "inf" not in str(caught.value)
