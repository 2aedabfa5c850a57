"""What chips show and how they are labelled, for every task and layout."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from heard import Heard
from osgeo import gdal
from synthetic import LEFT, TOP, class_mask, rectangle, scene, write_polygons, write_raster, write_scene

from plugin.engine.chips.dataset import ChipDataset, open_dataset
from plugin.engine.chips.export import export_chips
from plugin.engine.config import ExportChipsConfig
from plugin.engine.errors import InputError
from plugin.engine.events import Stage


def export(folder: Path, heard: Heard | None = None, **settings: Any) -> ChipDataset:
    config = ExportChipsConfig(**{"output": str(folder / "chips"), "chip_size": 32, **settings})
    export_chips(config, heard or Heard())
    return open_dataset(config.output)


def rows(dataset: ChipDataset, *names: str) -> list[tuple[Any, ...]]:
    source = gdal.OpenEx(str(dataset.folder / "chips.gpkg"), gdal.OF_VECTOR)
    return [tuple(feature.GetField(name) for name in names) for feature in source.GetLayer(0)]


def pixels(dataset: ChipDataset, path: str) -> np.ndarray:
    found: np.ndarray = gdal.Open(str(dataset.folder / path)).ReadAsArray()
    return found


def write_ramp(folder: Path, height: int = 160, width: int = 200) -> str:
    """A raster whose two bands are the column and row of its pixel centres."""
    row, col = np.mgrid[:height, :width]
    return write_raster(folder / "ramp.tif", np.stack([col + 0.5, row + 0.5]).astype(np.float32))


def test_a_scene_has_the_class_of_most_of_its_pixels(tmp_path: Path) -> None:
    image, labels = write_scene(tmp_path)
    dataset = export(tmp_path, input=(image,), label_rasters=(labels,), task="classification")
    mask = gdal.Open(labels).ReadAsArray()
    for label, classes, col, row in rows(dataset, "label", "classes", "col_off", "row_off"):
        part = mask[row : row + 32, col : col + 32]
        assert label == "" and int(classes) == np.bincount(part[part > 0]).argmax()
    assert dataset.info.task == "classification" and dataset.shown.sum(axis=1).tolist() == [1] * len(dataset.images)
    assert dataset.shown[dataset.indices("training")].sum(axis=0).tolist() == dataset.info.class_chips["training"]


def test_a_mixed_scene_is_left_out_where_no_class_has_its_share(tmp_path: Path) -> None:
    image, labels = write_scene(tmp_path)
    heard = Heard()
    dataset = export(
        tmp_path, heard, input=(image,), label_rasters=(labels,), task="classification", min_class_share=0.95
    )
    mask = gdal.Open(labels).ReadAsArray()
    wanted = sum(
        np.bincount(mask[row : row + 32, col : col + 32].ravel(), minlength=4)[1:].max() >= 0.95 * 1024
        for row in range(0, 256, 32) for col in range(0, 320, 32)
    )  # fmt: skip
    assert len(dataset.images) == wanted < 80
    assert any(f"{80 - wanted} chips left out for too few labels" in text for text in heard.logs)


def test_several_classes_a_chip_are_all_that_it_shows_enough_of(tmp_path: Path) -> None:
    image, labels = write_scene(tmp_path)
    dataset = export(tmp_path, input=(image,), label_rasters=(labels,), task="multilabel", min_class_share=0.1)
    mask = gdal.Open(labels).ReadAsArray()
    for classes, col, row in rows(dataset, "classes", "col_off", "row_off"):
        counts = np.bincount(mask[row : row + 32, col : col + 32].ravel(), minlength=4)
        assert classes == ",".join(str(value) for value in (1, 2, 3) if counts[value] >= 0.1 * 1024)
    assert dataset.shown.sum(axis=1).max() > 1


def test_regression_keeps_values_and_says_what_they_are_like(tmp_path: Path) -> None:
    image, _ = write_scene(tmp_path, 160, 200)
    height = np.random.default_rng(0).normal(10, 3, (160, 200)).astype(np.float32)
    height[:40, :40] = -9999
    target = write_raster(tmp_path / "height.tif", height, nodata=-9999)
    dataset = export(tmp_path, input=(image,), label_rasters=(target,), task="regression")
    for label, col, row in rows(dataset, "label", "col_off", "row_off"):
        part = height[row : row + 32, col : col + 32]
        found = pixels(dataset, label)
        assert found.dtype == np.float32
        assert np.array_equal(found, np.where(part == -9999, np.nan, part).astype(np.float32), equal_nan=True)
    shown = np.concatenate([pixels(dataset, label).ravel() for label in dataset.labels[dataset.indices("training")]])
    assert dataset.info.target is not None and len(dataset.info.classes) == 0
    assert dataset.info.target["mean"] == pytest.approx(np.nanmean(shown)) and dataset.info.label_nodata is None
    assert dataset.info.target["std"] == pytest.approx(np.nanstd(shown))


def test_regression_takes_broken_numbers_from_features(tmp_path: Path) -> None:
    from osgeo import ogr
    from synthetic import reference

    image, _ = write_scene(tmp_path, 96, 96)
    target = gdal.GetDriverByName("GPKG").Create(str(tmp_path / "t.gpkg"), 0, 0, 0, gdal.GDT_Unknown)
    layer = target.CreateLayer("labels", reference(32633), ogr.wkbPolygon)
    layer.CreateField(ogr.FieldDefn("value", ogr.OFTReal))
    for number, value in enumerate((2.5, -0.75, 100.125)):
        feature = ogr.Feature(layer.GetLayerDefn())
        feature.SetField("value", value)
        shape = rectangle(LEFT + 32 * number, TOP - 96, LEFT + 32 * number + 32, TOP)
        feature.SetGeometryDirectly(ogr.CreateGeometryFromWkt(shape))
        layer.CreateFeature(feature)
    layer = target = None
    dataset = export(tmp_path, input=(image,), labels=str(tmp_path / "t.gpkg"), task="regression")
    for label, col in rows(dataset, "label", "col_off"):
        assert (pixels(dataset, label) == [2.5, -0.75, 100.125][col // 32]).all()


def test_chips_without_labels_need_none(tmp_path: Path) -> None:
    image, _ = write_scene(tmp_path)
    dataset = export(tmp_path, input=(image,), task="unlabelled")
    assert len(dataset.images) == 80 and set(dataset.labels) == {""} and dataset.info.task == "unlabelled"


def test_points_label_the_chip_they_lie_in(tmp_path: Path) -> None:
    image, _ = write_scene(tmp_path, 160, 192)
    points = [(1 + n % 2, f"POINT({LEFT + 16 + 32 * n} {TOP - 16 - 32 * (n % 4)})") for n in range(6)]
    labels = write_polygons(tmp_path / "points.gpkg", points)
    dataset = export(tmp_path, input=(image,), labels=labels, task="classification")
    found = {(col, row): int(classes) for classes, col, row in rows(dataset, "classes", "col_off", "row_off")}
    assert found == {(32 * n, 32 * (n % 4)): 1 + n % 2 for n in range(6)}


@pytest.mark.parametrize("jitter", [0, 7])
def test_chips_centred_on_features_have_their_class(tmp_path: Path, jitter: int) -> None:
    image = write_ramp(tmp_path)
    places = [(40 + 11 * n, 30 + 9 * n) for n in range(10)]
    points = [(1 + n % 2, f"POINT({LEFT + x + 0.4} {TOP - y - 0.4})") for n, (x, y) in enumerate(places)]
    dataset = export(
        tmp_path, input=(image,), labels=write_polygons(tmp_path / "p.gpkg", points), task="classification",
        placement="features", chips_per_feature=3, position_jitter=jitter,
    )  # fmt: skip
    found = rows(dataset, "image", "classes", "feature")
    assert len(found) == 30 and sorted({feature for *_, feature in found}) == list(range(1, 11))
    moved = set()
    for image_path, classes, feature in found:
        x, y = places[feature - 1]
        assert int(classes) == 1 + (feature - 1) % 2
        centre = pixels(dataset, image_path).mean(axis=(1, 2))
        off = abs(centre - np.array([x + 0.4, y + 0.4]))
        assert off.max() <= jitter + 0.55
        moved.add(tuple(np.round(off)))
    assert (len(moved) > 3) == (jitter > 0)


def test_a_features_square_is_scaled_to_the_chip_and_the_surroundings_made_black(tmp_path: Path) -> None:
    image = write_ramp(tmp_path)
    boxes = [(1, (20, 20, 84, 60)), (2, (100, 40, 116, 56)), (1, (60, 100, 70, 110)), (2, (130, 100, 194, 164))]
    labels = write_polygons(
        tmp_path / "p.gpkg",
        [(value, rectangle(LEFT + a, TOP - min(d, 160), LEFT + c, TOP - b)) for value, (a, b, c, d) in boxes],
    )
    dataset = export(
        tmp_path, input=(image,), labels=labels, task="classification", placement="bounding_boxes", blacken=True
    )
    for path, side, feature, classes in rows(dataset, "image", "side", "feature", "classes"):
        value, (a, b, c, d) = boxes[feature - 1]
        d = min(d, 160)
        assert side == max(c - a, d - b) and int(classes) == value
        chip = gdal.Open(str(dataset.folder / path))
        left, step, _, top, _, down = chip.GetGeoTransform()
        assert step == pytest.approx(side / 32) and down == pytest.approx(-side / 32)
        x = left + (np.arange(32) + 0.5) * step - LEFT
        y = TOP - top - (np.arange(32) + 0.5) * down
        data = chip.ReadAsArray()
        inside = (x > a + 2) & (x < c - 2), (y > b + 2) & (y < d - 2)
        both = np.ix_(inside[1], inside[0])
        assert np.abs(data[0][both] - x[inside[0]][None, :]).max() < 1e-3
        assert np.abs(data[1][both] - y[inside[1]][:, None]).max() < 1e-3
        outside = (x < a - 2) | (x > c + 2)
        assert (data[:, :, outside] == 0).all()


@pytest.mark.parametrize("angle", [0.0, 90.0, 180.0, 270.0, 45.0, 17.0, -30.0])
def test_turned_chips_lie_where_their_georeference_says(tmp_path: Path, angle: float) -> None:
    row, col = np.mgrid[:160, :200]
    image = write_raster(tmp_path / "ramp.tif", np.stack([col + 0.5, row + 0.5]).astype(np.float32))
    mask = write_raster(tmp_path / "mask.tif", (1 + (col + row) // 23 % 3).astype(np.uint8))
    dataset = export(tmp_path, input=(image,), label_rasters=(mask,), rotations=(angle,), chip_size=40)
    truth = gdal.Open(mask).ReadAsArray()
    source = gdal.OpenEx(str(dataset.folder / "chips.gpkg"), gdal.OF_VECTOR)
    assert source.GetLayer(0).GetFeatureCount() >= 4
    for feature in source.GetLayer(0):
        assert feature["angle"] == angle
        chip = gdal.Open(str(dataset.folder / feature["image"]))
        x0, xc, xr, y0, yc, yr = chip.GetGeoTransform()
        c, r = np.meshgrid(np.arange(40) + 0.5, np.arange(40) + 0.5)
        at_col, at_row = x0 + c * xc + r * xr - LEFT, TOP - (y0 + c * yc + r * yr)
        assert np.abs(chip.ReadAsArray() - np.stack([at_col, at_row])).max() < 1e-3
        label = gdal.Open(str(dataset.folder / feature["label"])).ReadAsArray()
        near = np.abs(at_col - np.round(at_col)) > 1e-3
        near &= np.abs(at_row - np.round(at_row)) > 1e-3
        assert (label == truth[at_row.astype(int), at_col.astype(int)])[near].all()
        ring = feature.geometry().GetGeometryRef(0)
        assert ring.GetPoint_2D(0) == pytest.approx((x0, y0))
        assert ring.GetPoint_2D(2) == pytest.approx((x0 + 40 * (xc + xr), y0 + 40 * (yc + yr)))


def test_turned_chips_do_not_take_nodata_for_ground(tmp_path: Path) -> None:
    data = np.full((1, 120, 120), 100, np.int16)
    data[:, :, 60:] = -999
    image = write_raster(tmp_path / "image.tif", data, nodata=-999)
    labels = write_raster(tmp_path / "labels.tif", np.tile([1, 2], (120, 60)).astype(np.uint8))
    dataset = export(tmp_path, input=(image,), label_rasters=(labels,), rotations=(33.0,), block_size=120)
    assert {int(value) for path in dataset.images for value in np.unique(pixels(dataset, path))} == {100, -999}
    assert dataset.info.minimum == dataset.info.maximum == (100.0,)


def test_random_chips_keep_their_distance_and_repeat_with_the_seed(tmp_path: Path) -> None:
    image, labels = write_scene(tmp_path)
    given: dict[str, Any] = {
        "input": (image,), "label_rasters": (labels,), "placement": "random", "random_chips": 40, "min_distance": 20,
        "split_method": "random",
    }  # fmt: skip
    dataset = export(tmp_path, **given)
    found = np.array(rows(dataset, "col_off", "row_off"), float)
    apart = np.linalg.norm(found[:, None] - found[None], axis=2) + 1e9 * np.eye(len(found))
    assert 30 <= len(found) <= 41 and apart.min() >= 20
    again = export(tmp_path, output=str(tmp_path / "again"), **given)
    assert rows(again, "col_off", "row_off") == rows(dataset, "col_off", "row_off")
    other = export(tmp_path, output=str(tmp_path / "other"), seed=1, **given)
    assert rows(other, "col_off", "row_off") != rows(dataset, "col_off", "row_off")


def test_the_rule_decides_which_feature_wins(tmp_path: Path) -> None:
    from osgeo import ogr

    image, _ = write_scene(tmp_path, 64, 64)
    large, small = rectangle(LEFT, TOP - 64, LEFT + 64, TOP), rectangle(LEFT, TOP - 20, LEFT + 20, TOP)
    labels = write_polygons(tmp_path / "p.gpkg", [(2, small), (1, large)])
    source = ogr.Open(labels, 1)
    layer = source.GetLayer(0)
    layer.CreateField(ogr.FieldDefn("priority", ogr.OFTReal))
    for feature, priority in zip(list(layer), (9.5, 1.0)):
        feature["priority"] = priority
        layer.SetFeature(feature)
    source = layer = None
    counts = {}
    for rule in ("order", "smaller", "field"):
        dataset = export(
            tmp_path, input=(image,), labels=labels, overlap_rule=rule, output=str(tmp_path / rule), chip_size=64
        )
        counts[rule] = dataset.pixels.sum(axis=0).tolist()
    assert counts == {"order": [4096, 0], "smaller": [3696, 400], "field": [3696, 400]}


def test_all_touched_labels_what_a_feature_only_brushes(tmp_path: Path) -> None:
    image, _ = write_scene(tmp_path, 64, 64)
    thin = [
        (1, rectangle(LEFT + 5.1, TOP - 60, LEFT + 5.3, TOP - 4)),
        (2, rectangle(LEFT + 40, TOP - 9, LEFT + 49, TOP)),
    ]
    labels = write_polygons(tmp_path / "p.gpkg", thin)
    centre = export(tmp_path, input=(image,), labels=labels, chip_size=64, output=str(tmp_path / "a"))
    touched = export(
        tmp_path, input=(image,), labels=labels, chip_size=64, all_touched=True, output=str(tmp_path / "b")
    )
    assert centre.pixels.sum(axis=0)[0] == 0 and touched.pixels.sum(axis=0)[0] >= 56


def test_a_feature_that_barely_reaches_in_does_not_count(tmp_path: Path) -> None:
    image, _ = write_scene(tmp_path, 64, 128)
    # 40 wide, 8 of it in the first chip; the other class is wholly inside.
    boxes = [
        (1, rectangle(LEFT + 56, TOP - 40, LEFT + 96, TOP - 10)),
        (2, rectangle(LEFT + 4, TOP - 20, LEFT + 20, TOP - 4)),
    ]
    labels = write_polygons(tmp_path / "p.gpkg", boxes)
    given: dict[str, Any] = {"input": (image,), "labels": labels, "chip_size": 64}
    every = export(tmp_path, **given)
    most = export(tmp_path, min_feature_share=0.5, output=str(tmp_path / "most"), **given)
    assert every.pixels.tolist() == [[240, 256], [960, 0]] and most.pixels.tolist() == [[0, 256], [960, 0]]


def test_background_chips_are_thinned_out_by_share(tmp_path: Path) -> None:
    image, _ = write_scene(tmp_path, 320, 320)
    labels = write_polygons(tmp_path / "p.gpkg", [(1, rectangle(LEFT + 2, TOP - 60, LEFT + 60, TOP - 2))])
    kept = {}
    for share in (1.0, 0.3, 0.0):
        dataset = export(
            tmp_path, input=(image,), labels=labels, background_share=share, output=str(tmp_path / str(share))
        )
        kept[share] = (len(dataset.images), int((dataset.pixels[:, 1] > 0).sum()))
    assert kept[1.0] == (100, 4) and kept[0.0] == (4, 4)
    assert 4 + 15 < kept[0.3][0] < 4 + 45 and kept[0.3][1] == 4


def test_class_values_are_merged_and_dropped_by_the_map(tmp_path: Path) -> None:
    image, labels = write_scene(tmp_path)
    dataset = export(
        tmp_path,
        input=(image,),
        label_rasters=(labels,),
        class_map=((2, 7), (3, 7)),
        classes=((7, "green", "#00ff00"),),
    )
    mask = gdal.Open(labels).ReadAsArray()
    assert [(info.value, info.name) for info in dataset.info.classes.classes] == [(1, "water"), (7, "green")]
    assert dataset.pixels.sum(axis=0).tolist() == [(mask == 1).sum(), np.isin(mask, (2, 3)).sum()]
    dropped = export(
        tmp_path, input=(image,), label_rasters=(labels,), class_map=((2, None),), output=str(tmp_path / "dropped")
    )
    assert dropped.info.classes.names == ["water", "forest"]


@pytest.mark.parametrize(("chip_format", "ending"), [("PNG", "png"), ("JPEG", "jpg"), ("GTiff", "tif")])
def test_chips_come_in_the_wanted_format(tmp_path: Path, chip_format: str, ending: str) -> None:
    image, labels = write_scene(tmp_path)
    dataset = export(tmp_path, input=(image,), label_rasters=(labels,), chip_format=chip_format, compression="deflate")
    picture, mask = gdal.Open(image).ReadAsArray(), gdal.Open(labels).ReadAsArray()
    for path, label, col, row in rows(dataset, "image", "label", "col_off", "row_off"):
        assert path.endswith(ending) and label.endswith("tif" if chip_format == "GTiff" else "png")
        chip = gdal.Open(str(dataset.folder / path))
        assert chip.GetDriver().ShortName == chip_format
        assert chip.GetGeoTransform()[0] == LEFT + col and chip.GetGeoTransform()[3] == TOP - row
        off = np.abs(chip.ReadAsArray().astype(int) - picture[:, row : row + 32, col : col + 32])
        assert off.max() == 0 or (chip_format == "JPEG" and off.mean() < 12)
        assert (pixels(dataset, label) == mask[row : row + 32, col : col + 32]).all()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"chip_format": "PNG", "bands": (1, 2)}, "PNG supports 1 or 3 bands"),
        ({"placement": "features"}, "but no features are given"),
        ({"blacken": True}, "BLACKEN is set, but with PLACEMENT grid"),
        ({"task": "unlabelled", "split_method": "areas"}, "no SPLIT_AREAS are given"),
        ({"append": True, "overwrite": True}, "APPEND and OVERWRITE are both set"),
        ({"min_feature_share": 0.5}, "MIN_FEATURE_SHARE is set, but no features"),
        ({"rotations": (45.0,), "block_size": 40}, "or 46 pixels when rotated"),
        ({"validation_share": 0.5, "test_share": 0.5}, "leave nothing for training"),
    ],
)
def test_what_does_not_go_together_is_said_before_the_work(
    tmp_path: Path, settings: dict[str, Any], words: str
) -> None:
    image, labels = write_scene(tmp_path)
    with pytest.raises(InputError, match=words):
        export(tmp_path, input=(image,), label_rasters=(labels,), **settings)
    assert not (tmp_path / "chips").exists() and not (tmp_path / ".chips.partial").exists()


def test_appended_chips_join_the_classes_by_name_and_share_no_ground(tmp_path: Path) -> None:
    image, labels = write_scene(tmp_path / "one", 160, 160)
    first = export(tmp_path, input=(image,), label_rasters=(labels,), block_size=32)
    images = {path: (first.folder / path).read_bytes() for path in first.images}
    # Half of the ground again, off by broken pixels, and its classes have other numbers.
    mask = class_mask(160, 160)
    other = write_raster(tmp_path / "other.tif", scene(mask), left=LEFT + 80.4, top=TOP + 0.3)
    swapped = write_raster(
        tmp_path / "swapped.tif", np.array([0, 5, 6, 7], np.uint8)[mask], left=LEFT + 80.4, top=TOP + 0.3, nodata=0
    )
    names = ((5, "water", None), (6, "field", None), (7, "forest", None))
    joined = export(tmp_path, input=(other,), label_rasters=(swapped,), classes=names, append=True)
    assert len(joined.images) == len(first.images) + 25 and len(set(joined.images)) == len(joined.images)
    assert {path: (joined.folder / path).read_bytes() for path in images} == images
    assert joined.splits[: len(first.splits)].tolist() == first.splits.tolist()
    assert joined.info.classes == first.info.classes and len(joined.info.sources) == 2
    assert sum(joined.info.chip_counts.values()) == (joined.splits != "none").sum()
    values = {int(value) for path in joined.labels[-25:] for value in np.unique(pixels(joined, path))}
    assert values <= {0, 1, 2, 3}
    from test_splits import shared_ground

    assert shared_ground(joined) < 1e-6
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"chip_size": 64}, "has chips of 32 pixels, but the new chips have 64 pixels"),
        ({"bands": (1, 2)}, "has the bands"),
        ({"task": "classification"}, "is for segmentation"),
        ({"classes": ((1, "lava", None),)}, 'has no class "lava"'),
    ],
)
def test_chips_of_another_kind_are_not_appended(tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    image, labels = write_scene(tmp_path)
    before = export(tmp_path, input=(image,), label_rasters=(labels,))
    description = (before.folder / "dataset.json").read_text()
    with pytest.raises(InputError, match=words):
        export(tmp_path, input=(image,), label_rasters=(labels,), append=True, **settings)
    assert (before.folder / "dataset.json").read_text() == description


def test_an_interrupted_export_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from plugin.engine.chips import journal
    from plugin.engine.chips.cutting import Cutter
    from plugin.engine.errors import Cancelled

    monkeypatch.setattr(journal, "SECONDS_BETWEEN_NOTES", 0)
    monkeypatch.setattr(Stage, "INTERVAL", 0)
    image, labels = write_scene(tmp_path)
    given: dict[str, Any] = {"input": (image,), "label_rasters": (labels,), "block_size": 64}
    whole = export(tmp_path, output=str(tmp_path / "whole"), **given)
    with pytest.raises(Cancelled):
        export(tmp_path, Heard(cancel_after=50), resume=True, **given)
    assert not (tmp_path / "chips").exists() and (tmp_path / ".chips.partial" / "export.json").exists()
    read = []
    plain = Cutter.read
    monkeypatch.setattr(Cutter, "read", lambda self, unit: read.append(unit.block) or plain(self, unit))
    heard = Heard()
    resumed = export(tmp_path, heard, resume=True, **given)
    assert any("Resuming an interrupted export" in text for text in heard.logs)
    assert 0 < len(read) < 20, "what was done is not read again"
    columns = ("image", "col_off", "row_off", "split", "classes", "statistics")
    assert rows(resumed, *columns) == rows(whole, *columns)
    assert {**vars(resumed.info), "created": ""} == {**vars(whole.info), "created": ""}
    assert sorted(path.name for path in resumed.folder.iterdir()) == ["chips.gpkg", "dataset.json", "images", "labels"]


def test_a_resumed_append_that_was_whole_is_not_appended_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from plugin.engine import drafts

    class Killed(BaseException):
        """As a kill, nothing is taken back after it."""

    image, labels = write_scene(tmp_path)
    given: dict[str, Any] = {"input": (image,), "label_rasters": (labels,)}
    before = len(export(tmp_path, **given).images)
    rename = drafts.rename

    def kill(source: Path, target: Path) -> None:
        if target.name == "dataset.json":
            raise Killed
        rename(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(drafts, "rename", kill)
        with pytest.raises(Killed):
            export(tmp_path, append=True, resume=True, **given)
    heard = Heard()
    after = export(tmp_path, heard, append=True, resume=True, **given)
    assert any("was already complete" in text for text in heard.logs)
    assert len(after.images) == 2 * before and not (tmp_path / ".chips.partial").exists()


def test_other_settings_begin_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from plugin.engine.chips import journal
    from plugin.engine.errors import Cancelled

    monkeypatch.setattr(journal, "SECONDS_BETWEEN_NOTES", 0)
    monkeypatch.setattr(Stage, "INTERVAL", 0)
    image, labels = write_scene(tmp_path)
    given: dict[str, Any] = {"input": (image,), "label_rasters": (labels,), "resume": True, "block_size": 64}
    with pytest.raises(Cancelled):
        export(tmp_path, Heard(cancel_after=50), **given)
    heard = Heard()
    dataset = export(tmp_path, heard, stride=16, **given)
    assert any("it starts from the beginning" in text for text in heard.logs) and dataset.info.stride == 16
    assert len(list((dataset.folder / "images").iterdir())) == len(dataset.images)


def test_one_class_around_features_is_refused_with_a_way_out(tmp_path: Path) -> None:
    image, _ = write_scene(tmp_path)
    labels = write_polygons(tmp_path / "p.gpkg", [(1, f"POINT({LEFT + 50} {TOP - 50})")])
    with pytest.raises(InputError, match=r"have only one class.*PLACEMENT to grid"):
        export(tmp_path, input=(image,), labels=labels, task="classification", placement="features")


def test_blocks_are_small_where_features_are_few(tmp_path: Path) -> None:
    image, labels = write_scene(tmp_path, 512, 512)
    few = [(1 + n % 2, rectangle(LEFT + 50 * n, TOP - 60, LEFT + 50 * n + 30, TOP - 30)) for n in range(9)]
    sparse = export(tmp_path, input=(image,), labels=write_polygons(tmp_path / "p.gpkg", few), chip_size=8)
    dense = export(tmp_path, input=(image,), label_rasters=(labels,), chip_size=8, output=str(tmp_path / "dense"))
    assert sparse.info.split["block_size"] <= 16 and dense.info.split["block_size"] == 64
    assert all(min(counts) > 0 for counts in sparse.info.pixel_counts.values())


def test_labels_turned_with_their_image_stay_on_their_ground(tmp_path: Path) -> None:
    image, labels = write_scene(tmp_path, 200, 200)
    turn = np.radians(20)
    for path in (image, labels):
        source = gdal.Open(path, gdal.GA_Update)
        source.SetGeoTransform((LEFT, np.cos(turn), np.sin(turn), TOP, np.sin(turn), -np.cos(turn)))
        source = None
    dataset = export(tmp_path, input=(image,), label_rasters=(labels,))
    colors = np.random.default_rng(1).integers(40, 215, (3, 256))  # as `synthetic.scene` has them
    for path, label in zip(dataset.images, dataset.labels):
        data, mask = pixels(dataset, path).astype(int), pixels(dataset, label)
        for value in (1, 2, 3):
            if (mask == value).sum() > 200:
                assert np.abs(data[:, mask == value].mean(axis=1) - colors[:, value]).max() < 12


def test_a_given_nodata_of_targets_is_not_interpolated(tmp_path: Path) -> None:
    image, _ = write_scene(tmp_path, 96, 96)
    height = np.full((48, 48), 5, np.float32)
    height[:, 20:] = -1
    target = write_raster(tmp_path / "height.tif", height, step=2.0)
    dataset = export(tmp_path, input=(image,), label_rasters=(target,), task="regression", label_nodata=-1)
    found = np.concatenate([pixels(dataset, label).ravel() for label in dataset.labels])
    assert set(np.unique(found[np.isfinite(found)])) == {5.0}


KILLED = """
import os, sys
sys.path.insert(0, sys.argv[1])
from plugin.engine.chips import journal
from plugin.engine.chips.export import export_chips
from plugin.engine.chips.index import ChipIndex
from plugin.engine.config import ExportChipsConfig
from plugin.engine.events import Reporter
journal.SECONDS_BETWEEN_NOTES = 0
plain = ChipIndex.add
def add(self, *row):
    if self.count == 41:
        self.source.CommitTransaction()
        os._exit(9)
    plain(self, *row)
ChipIndex.add = add
export_chips(ExportChipsConfig(input=(sys.argv[2],), label_rasters=(sys.argv[3],), output=sys.argv[4], chip_size=32,
                               block_size=64, resume=True), Reporter())
"""


def test_a_killed_export_goes_on_where_it_was(tmp_path: Path) -> None:
    image, labels = write_scene(tmp_path)
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", KILLED, str(root), image, labels, str(tmp_path / "chips")]
    assert subprocess.run(command, check=False, timeout=60).returncode == 9
    partial = tmp_path / ".chips.partial" / "chips"
    for number in range(60, 65):  # the kill may have cut a file short anywhere; after 4 bytes GDAL's Create fails
        for kind in ("images", "labels"):
            (partial / kind / f"{number:07d}.tif").write_bytes(b"II*\0")
    given: dict[str, Any] = {"input": (image,), "label_rasters": (labels,), "block_size": 64}
    heard = Heard()
    resumed = export(tmp_path, heard, resume=True, **given)
    whole = export(tmp_path, output=str(tmp_path / "whole"), **given)
    assert any("with 40 chips already written" in text for text in heard.logs)
    columns = ("image", "col_off", "row_off", "split", "classes", "statistics")
    assert rows(resumed, *columns) == rows(whole, *columns) and len(resumed.images) == 80
    for place in range(80):
        assert (pixels(resumed, resumed.images[place]) == pixels(whole, whole.images[place])).all()
    source = gdal.OpenEx(str(resumed.folder / "chips.gpkg"), gdal.OF_VECTOR)
    assert source.GetLayer(0).GetFeatureCount() == 80


def test_a_mosaic_of_images_takes_a_mosaic_of_labels(tmp_path: Path) -> None:
    pairs = [write_scene(tmp_path / str(n), 96, 96, left=LEFT + 80 * n) for n in range(2)]
    images, labels = zip(*pairs)
    dataset = export(tmp_path, input=images, label_rasters=labels, combine="mosaic", bands=(1,))
    mask = np.zeros((96, 176), np.uint8)
    for number, path in enumerate(labels):
        part = gdal.Open(path).ReadAsArray()
        place = mask[:, 80 * number : 80 * number + 96]
        place[part > 0] = part[part > 0]
    assert len(dataset.images) == 18 and len(dataset.info.sources) == 1
    for label, col, row in rows(dataset, "label", "col_off", "row_off"):
        assert (pixels(dataset, label) == mask[row : row + 32, col : col + 32]).all()
    assert dataset.info.classes.names == ["water", "field", "forest"]
