"""No ground is in two splits, whatever the layout and the method; and the log about it."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from heard import Heard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from osgeo import gdal
from synthetic import LEFT, TOP, class_mask, rectangle, scene, write_polygons, write_raster, write_scene

from plugin.engine.chips.dataset import ChipDataset, open_dataset
from plugin.engine.chips.export import export_chips
from plugin.engine.chips.overlaps import overlapping_pairs
from plugin.engine.chips.resplit import split_chips
from plugin.engine.config import ExportChipsConfig, SplitChipsConfig
from plugin.engine.errors import InputError


def export(folder: Path, heard: Heard | None = None, **settings: Any) -> ChipDataset:
    config = ExportChipsConfig(**{"output": str(folder / "chips"), "chip_size": 32, **settings})
    export_chips(config, heard or Heard())
    return open_dataset(config.output)


def footprints(dataset: ChipDataset) -> list[tuple[str, int, Any]]:
    """(split, fold, geometry) of each chip."""
    source = gdal.OpenEx(str(dataset.folder / "chips.gpkg"), gdal.OF_VECTOR)
    return [(row["split"], row["fold"] or 0, row.geometry().Clone()) for row in source.GetLayer(0)]


def pixels_of(dataset: ChipDataset, path: str) -> np.ndarray:
    found: np.ndarray = gdal.Open(str(dataset.folder / path)).ReadAsArray()
    return found


def shared_ground(dataset: ChipDataset) -> float:
    """The largest area that chips of two splits or folds have in common; chips in no split do not count."""
    chips = [chip for chip in footprints(dataset) if chip[0] != "none"]
    pairs = ((one[2], other[2]) for one, other in combinations(chips, 2) if one[:2] != other[:2])
    return max((one.Intersection(other).Area() for one, other in pairs if one.Intersects(other)), default=0.0)


@pytest.fixture(scope="module")
def two_rasters(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], list[str]]:
    """An image with odd edges, and a second one that shows part of its ground, off by a broken number of pixels."""
    folder = tmp_path_factory.mktemp("two")
    image, labels = write_scene(folder, 171, 203)
    mask = class_mask(150, 140)
    other = write_raster(folder / "other.tif", scene(mask), left=LEFT + 100.37, top=TOP - 50.81)
    other_labels = write_raster(folder / "other_labels.tif", mask, left=LEFT + 100.37, top=TOP - 50.81, nodata=0)
    return [image, other], [labels, other_labels]


@given(
    stride=st.integers(5, 40),
    block=st.integers(46, 90),
    edges=st.sampled_from(["shift", "pad"]),
    rotations=st.sampled_from([(), (0.0, 90.0), (30.0,), (0.0, 45.0)]),
    size=st.tuples(st.integers(60, 171), st.integers(60, 203)),
    folds=st.sampled_from([None, 3]),
    seed=st.integers(0, 9),
)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_blocks_share_no_ground_over_strides_block_sizes_and_odd_extents(
    two_rasters: tuple[list[str], list[str]], tmp_path: Path, stride: int, block: int, edges: str,
    rotations: tuple[float, ...], size: tuple[int, int], folds: int | None, seed: int,
) -> None:  # fmt: skip
    images, labels = two_rasters
    dataset = export(
        tmp_path, input=tuple(images), label_rasters=tuple(labels), stride=max(stride, 12), block_size=block,
        edges=edges, rotations=rotations, extent=(LEFT, TOP - size[0], LEFT + size[1], TOP), folds=folds, seed=seed,
        overwrite=True,
    )  # fmt: skip
    assert shared_ground(dataset) < 1e-6
    assert "none" not in dataset.splits, "a grid in blocks leaves no chip out"


@pytest.mark.parametrize(
    "layout",
    [
        {"placement": "random", "random_chips": 60, "min_distance": 10},
        {"placement": "random", "random_chips": 60, "min_distance": 0, "rotations": (0.0, 20.0, 200.0)},
        {"placement": "features", "chips_per_feature": 3, "position_jitter": 9},
        {"placement": "features", "rotations": (0.0, 45.0)},
        {"placement": "bounding_boxes"},
    ],
)
def test_other_layouts_share_no_ground_either(tmp_path: Path, layout: dict[str, Any]) -> None:
    image, _ = write_scene(tmp_path, 200, 240)
    rng = np.random.default_rng(3)
    places = rng.uniform([LEFT + 5, TOP - 190], [LEFT + 230, TOP - 10], (40, 2))
    polygons = write_polygons(
        tmp_path / "p.gpkg", [(1 + n % 3, rectangle(x, y, x + 4 + n % 9, y + 6)) for n, (x, y) in enumerate(places)]
    )
    dataset = export(tmp_path, input=(image,), labels=polygons, background="class", **layout)
    assert len(dataset.images) > 20 and {"training", "validation", "test"} <= set(dataset.splits)
    assert shared_ground(dataset) < 1e-6


def test_areas_by_name_go_to_their_split_and_chips_across_edges_to_none(tmp_path: Path) -> None:
    image, labels = write_scene(tmp_path, 160, 320)
    areas = write_polygons(
        tmp_path / "areas.gpkg",
        [
            (1, rectangle(LEFT, TOP - 160, LEFT + 200, TOP)),
            (2, rectangle(LEFT + 200, TOP - 80, LEFT + 320, TOP)),
            (3, rectangle(LEFT + 200, TOP - 160, LEFT + 320, TOP - 80)),
        ],
        layer="areas",
    )
    dataset = export(
        tmp_path, input=(image,), label_rasters=(labels,), split_method="areas", split_areas=areas,
        split_names=((1, "Train"), (2, "val"), (3, "test")),
    )  # fmt: skip
    for split, _, shape in footprints(dataset):
        left, right, bottom, top = shape.GetEnvelope()
        wanted = "training" if right <= LEFT + 200 else "none"
        if left >= LEFT + 200:
            wanted = "validation" if bottom >= TOP - 80 else "test" if top <= TOP - 80 else "none"
        assert split == wanted
    assert set(dataset.splits) == {"training", "validation", "test", "none"}


def test_areas_without_split_names_are_dealt_out_whole(tmp_path: Path) -> None:
    image, labels = write_scene(tmp_path, 128, 320)
    columns = [(n + 1, rectangle(LEFT + 32 * n, TOP - 128, LEFT + 32 * (n + 1), TOP)) for n in range(10)]
    areas = write_polygons(tmp_path / "areas.gpkg", columns, layer="areas")
    names = tuple((n + 1, f"farm {n}") for n in range(10))
    dataset = export(
        tmp_path, input=(image,), label_rasters=(labels,), split_method="areas", split_areas=areas, split_names=names
    )
    by_column: dict[float, set[str]] = {}
    for split, _, shape in footprints(dataset):
        by_column.setdefault(shape.GetEnvelope()[0], set()).add(split)
    assert len(by_column) == 10 and all(len(splits) == 1 for splits in by_column.values())
    assert set(dataset.splits) == {"training", "validation", "test"}


def test_rasters_go_to_a_split_as_a_whole(tmp_path: Path) -> None:
    pairs = [write_scene(tmp_path / str(n), 96, 96, left=LEFT + 1000 * n) for n in range(6)]
    dataset = export(
        tmp_path, input=tuple(image for image, _ in pairs), label_rasters=tuple(labels for _, labels in pairs),
        split_method="rasters",
    )  # fmt: skip
    places = {shape.GetEnvelope()[0] // 1000: set() for _, _, shape in footprints(dataset)}
    for split, _, shape in footprints(dataset):
        places[shape.GetEnvelope()[0] // 1000].add(split)
    assert len(places) == 6 and all(len(splits) == 1 for splits in places.values())
    assert set(dataset.splits) == {"training", "validation", "test"}


def test_a_random_split_says_how_much_it_leaks(tmp_path: Path) -> None:
    image, labels = write_scene(tmp_path)
    heard = Heard()
    dataset = export(tmp_path, heard, input=(image,), label_rasters=(labels,), stride=16, split_method="random")
    held = int((dataset.splits != "training").sum())
    told = next(text for text in heard.warnings if "share ground" in text)
    chips = footprints(dataset)
    leaks = sum(
        split != "training" and any(
            other != split and shape.Intersection(ground).Area() > 0.01 for other, _, ground in chips
        )
        for split, _, shape in chips
    )  # fmt: skip
    assert told.startswith(f"{leaks} of {held} validation and test chips") and leaks > held / 2


def test_folds_cover_all_but_the_test_chips_and_each_can_validate(tmp_path: Path) -> None:
    image, labels = write_scene(tmp_path)
    dataset = export(tmp_path, input=(image,), label_rasters=(labels,), folds=4)
    assert set(dataset.folds.tolist()) == {0, 1, 2, 3, 4} and dataset.info.split["folds"] == 4
    assert ((dataset.folds == 0) == (dataset.splits == "test")).all()
    everything = set(np.flatnonzero(dataset.splits != "test"))
    seen: list[int] = []
    for fold in (1, 2, 3, 4):
        training, validation = dataset.indices("training", fold), dataset.indices("validation", fold)
        assert not set(training) & set(validation) and set(training) | set(validation) == everything
        seen.extend(validation)
    assert sorted(seen) == sorted(everything)
    with pytest.raises(InputError, match=r"FOLD is 5, but the chip dataset .* has 4 folds"):
        dataset.indices("training", 5)


def test_the_agreement_of_the_splits_is_told_and_true(tmp_path: Path) -> None:
    image, labels = write_scene(tmp_path)
    heard = Heard()
    info = export(tmp_path, heard, input=(image,), label_rasters=(labels,)).info
    counts = np.array([info.pixel_counts[split] for split in ("training", "validation", "test")], float)
    shares = counts / counts.sum(axis=1, keepdims=True)
    worst = np.abs(shares - counts.sum(axis=0) / counts.sum()).max()
    assert info.split["disagreement"] == pytest.approx(worst, abs=1e-5)
    assert any(f"{100 * worst:.1f} percentage points" in text for text in heard.logs)


def test_dividing_anew_changes_no_chip_and_keeps_the_statistics_honest(tmp_path: Path) -> None:
    image, labels = write_scene(tmp_path)
    before = export(tmp_path, input=(image,), label_rasters=(labels,))
    files = {path: path.stat().st_mtime_ns for path in (before.folder / "images").iterdir()}
    found = split_chips(SplitChipsConfig(str(before.folder), test_share=0.3, seed=5), Heard())
    after = open_dataset(before.folder)
    assert files == {path: path.stat().st_mtime_ns for path in (before.folder / "images").iterdir()}
    assert found["test"] == (after.splits == "test").sum() > (before.splits == "test").sum()
    data = np.concatenate(
        [pixels_of(after, path).reshape(3, -1) for path in after.images[after.indices("training")]],
        axis=1,
    )  # fmt: skip
    assert np.allclose(after.info.mean, data.mean(axis=1)) and np.allclose(after.info.std, data.std(axis=1))
    assert shared_ground(after) < 1e-6
    assert not [path for path in after.folder.iterdir() if "partial" in path.name]


def test_dividing_anew_with_larger_blocks_or_at_random_and_back(tmp_path: Path) -> None:
    image, labels = write_scene(tmp_path, 256, 512)
    first = export(tmp_path, input=(image,), label_rasters=(labels,), stride=16)
    split_chips(SplitChipsConfig(str(first.folder), block_size=100), Heard())
    larger = open_dataset(first.folder)
    assert shared_ground(larger) < 1e-6 and (larger.splits == "none").any()
    split_chips(SplitChipsConfig(str(first.folder), split_method="random"), Heard())
    assert shared_ground(open_dataset(first.folder)) > 1
    split_chips(SplitChipsConfig(str(first.folder)), Heard())
    assert open_dataset(first.folder).splits.tolist() == first.splits.tolist()


def test_a_dataset_of_format_1_is_not_divided_anew(tmp_path: Path) -> None:
    image, labels = write_scene(tmp_path)
    dataset = export(tmp_path, input=(image,), label_rasters=(labels,))
    description = dataset.folder / "dataset.json"
    values = json.loads(description.read_text())
    description.write_text(json.dumps({**values, "format_version": 1}))
    with pytest.raises(InputError, match="without statistics of single chips"):
        split_chips(SplitChipsConfig(str(dataset.folder)), Heard())


@given(
    count=st.integers(2, 60), turned=st.booleans(), spread=st.floats(1, 40), seed=st.integers(0, 10_000),
    parts=st.integers(1, 4),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_overlapping_pairs_are_those_that_geometry_finds(
    count: int, turned: bool, spread: float, seed: int, parts: int
) -> None:
    from osgeo import ogr

    rng = np.random.default_rng(seed)
    centres, angles = rng.uniform(0, spread, (count, 2)), rng.uniform(0, 2 * np.pi, count) * turned
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * rng.uniform(0.5, 2, (count, 1, 1))
    turn = np.stack([np.cos(angles), -np.sin(angles), np.sin(angles), np.cos(angles)], axis=1).reshape(-1, 2, 2)
    squares = np.einsum("nij,nkj->nki", turn, corners) + centres[:, None]
    part = rng.integers(-1, parts, count)
    shapes = [
        ogr.CreateGeometryFromWkt("POLYGON((" + ",".join(f"{x!r} {y!r}" for x, y in [*square, square[0]]) + "))")
        for square in squares.tolist()
    ]
    found = {tuple(pair) for pairs in overlapping_pairs(squares, part) for pair in pairs.tolist()}
    for one, other in combinations(range(count), 2):
        compared = part[one] != part[other] and min(part[one], part[other]) >= 0
        area = shapes[one].Intersection(shapes[other]).Area() if compared else 0.0
        if area > 1e-2:
            assert (one, other) in found
        elif not compared or area == 0:
            assert (one, other) not in found


def test_chips_without_a_footprint_are_refused(tmp_path: Path) -> None:
    image, labels = write_scene(tmp_path)
    dataset = export(tmp_path, input=(image,), label_rasters=(labels,))
    source = gdal.OpenEx(str(dataset.folder / "chips.gpkg"), gdal.OF_VECTOR | gdal.OF_UPDATE)
    source.ExecuteSQL("UPDATE chips SET geom = NULL WHERE fid = 3")
    source = None
    # Not the hidden folder in which the dataset is divided.
    place = re.escape(str(dataset.folder / "chips.gpkg"))
    with pytest.raises(InputError, match=rf"^Chip 3 in {place} has no footprint with four corners"):
        split_chips(SplitChipsConfig(chips=str(dataset.folder)), Heard())
