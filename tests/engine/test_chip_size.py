"""The automatic chip size, chosen from rasters and labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from heard import Heard
from osgeo import gdal
from synthetic import LEFT, TOP, UTM, class_mask, rectangle, reference, write_polygons, write_raster, write_scene

from plugin.engine.chips import chip_size
from plugin.engine.chips.dataset import read_info
from plugin.engine.chips.export import export_chips
from plugin.engine.chips.plan import exported_areas
from plugin.engine.chips.scheme import open_labels
from plugin.engine.chips.sources import open_sources
from plugin.engine.config import ExportChipsConfig
from plugin.engine.errors import Cancelled, InputError
from plugin.engine.events import Stage
from plugin.engine.rasters.raster_io import RasterReader


def chosen(*images: str, **settings: Any) -> tuple[int, str]:
    """The size, and what the log says of it; nothing is exported."""
    config, heard = ExportChipsConfig(input=images, output="unused", **settings), Heard()
    rasters = tuple(reader.info for reader in open_sources(config, heard))
    areas = exported_areas(config, rasters)
    labels = open_labels(config, rasters, heard)
    return chip_size.choose_size(config, rasters, areas, labels, None, heard), heard.logs[-1] if heard.logs else ""


def blank(path: Path, height: int, width: int) -> str:
    """A raster of zeros that takes no room."""
    source = gdal.GetDriverByName("GTiff").Create(str(path), width, height, 1, options=["SPARSE_OK=TRUE"])
    source.SetGeoTransform((LEFT, 1, 0, TOP, 0, -1))
    source.SetSpatialRef(reference(UTM))
    return str(path)


def squares(path: Path, places: list[tuple[int, int, int]], side: int, layer: str = "labels") -> str:
    """Square features: (class, column, row) of their corners."""
    found = [(kind, rectangle(LEFT + x, TOP - y - side, LEFT + x + side, TOP - y)) for kind, x, y in places]
    return write_polygons(path, found, layer)


@pytest.mark.parametrize(
    "shape, size, words",
    [
        ((1800, 1800), 256, "Chip size: 256 × 256 pixels, since images and labels suffice for it."),
        ((900, 900), 128, "128 × 128 pixels, since chips of 256 pixels would show labels in only 12 places."),
        ((250, 250), 64, "64 × 64 pixels, since chips of 128 pixels would show labels in only 4 places."),
        ((100, 20000), 64, "64 × 64 pixels, the largest that fits the images."),
        ((50, 50), 32, "32 × 32 pixels, the largest that fits the images."),
        ((12, 700), 8, "8 × 8 pixels, the largest that fits the images."),
    ],
)
def test_the_size_follows_the_raster(tmp_path: Path, shape: tuple[int, int], size: int, words: str) -> None:
    found, said = chosen(blank(tmp_path / "a.tif", *shape), task="unlabelled")
    assert found == size and said.endswith(words)


def test_a_small_raster_is_exported_without_a_size(tmp_path: Path) -> None:
    image, labels = write_scene(tmp_path, 250, 250)
    heard, output = Heard(), str(tmp_path / "chips")
    export_chips(ExportChipsConfig(input=(image,), label_rasters=(labels,), output=output), heard)
    info = read_info(output)
    assert info.chip_size == info.stride == info.split["block_size"] == 64
    assert all(info.chip_counts.values()) and all(all(counts) for counts in info.class_chips.values())
    assert sum(text.startswith("Chip size: 64") for text in heard.logs) == 1


def test_a_given_size_holds_and_is_refused_where_it_does_not_fit(tmp_path: Path) -> None:
    image = blank(tmp_path / "a.tif", 250, 250)
    found, said = chosen(image, task="unlabelled", chip_size=100)
    assert found == 100 and "Chip size" not in said
    config = ExportChipsConfig(input=(image,), output=str(tmp_path / "chips"), task="unlabelled", chip_size=256)
    with pytest.raises(InputError, match=r"A chip of 256 × 256 pixels is larger .* 128 or less"):
        export_chips(config, Heard())


def test_the_pixel_size_and_the_extent_count(tmp_path: Path) -> None:
    image = blank(tmp_path / "a.tif", 1800, 1800)
    assert chosen(image, task="unlabelled", pixel_size=2)[0] == 128
    assert chosen(image, task="unlabelled", extent=(LEFT, TOP - 400, LEFT + 400, TOP))[0] == 64


def test_a_chip_fits_its_block_and_its_turned_square(tmp_path: Path) -> None:
    image = blank(tmp_path / "a.tif", 300, 20000)
    assert chosen(image, task="unlabelled")[0] == 256
    assert chosen(image, task="unlabelled", rotations=(0, 45))[0] == 128
    assert chosen(image, task="unlabelled", block_size=200)[0] == 128
    assert chosen(image, task="unlabelled", split_method="random")[0] == 256


def test_most_images_of_a_folder_give_chips(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(70):
        blank(folder / f"{number}.tif", *((300, 300) if number % 2 else (200, 200)))
    assert chosen(str(folder), task="unlabelled")[0] == 128


def test_few_places_with_features_take_smaller_chips(tmp_path: Path) -> None:
    image = blank(tmp_path / "a.tif", 2000, 2000)
    spread = squares(tmp_path / "spread.gpkg", [(1 + n % 2, 260 * (n % 7), 260 * (n // 7)) for n in range(49)], 12)
    assert chosen(image, labels=spread)[0] == 256
    # The same number in a corner; the second class is in one place alone.
    close = [(1, 40 * (n % 7), 40 * (n // 7)) for n in range(49)]
    near = squares(tmp_path / "near.gpkg", close, 12)
    size, said = chosen(image, labels=near, background="ignore")
    assert size == 64 and "since chips of 128 pixels would show labels in only 6 places" in said
    # What is not labelled is a class as well.
    assert chosen(image, labels=near, background="class")[0] == 64
    rare = squares(tmp_path / "rare.gpkg", [(1, 260 * (n % 7), 260 * (n // 7)) for n in range(49)] + [(2, 9, 9)], 12)
    assert chosen(image, labels=rare)[0] == 256


def test_ground_without_features_counts_where_it_is_a_class(tmp_path: Path) -> None:
    image = blank(tmp_path / "a.tif", 2000, 2000)
    pairs = [(1, 256 * (n % 5) + 20 + 180 * side, 256 * (n // 5) + 20) for n in range(20) for side in (0, 1)]
    labels = squares(tmp_path / "labels.gpkg", pairs, 12)
    assert chosen(image, labels=labels)[0] == 256
    assert chosen(image, labels=labels, background="ignore")[0] == 128


def test_a_class_in_few_places_is_named(tmp_path: Path) -> None:
    image = blank(tmp_path / "a.tif", 2000, 2000)
    many = [(1, 260 * (n % 7), 260 * (n // 7)) for n in range(49)]
    few = [(2, 20 + 70 * (n % 3), 20 + 70 * (n // 3)) for n in range(12)]
    labels = squares(tmp_path / "labels.gpkg", many + few, 12)
    size, said = chosen(image, labels=labels, classes=((2, "pond", None),))
    assert size == 64 and said.endswith('since chips of 128 pixels would show "pond" in only 6 places.')


def test_large_polygons_and_long_lines_are_many_places(tmp_path: Path) -> None:
    image = blank(tmp_path / "a.tif", 2000, 2000)
    halves = [(n, rectangle(LEFT + 990 * n, TOP - 2000, LEFT + 990 * (n + 1), TOP)) for n in range(2)]
    assert chosen(image, labels=write_polygons(tmp_path / "a.gpkg", halves))[0] == 256
    roads = [(n % 2, rectangle(LEFT, TOP - 99 * n - 8, LEFT + 2000, TOP - 99 * n)) for n in range(8)]
    assert chosen(image, labels=write_polygons(tmp_path / "b.gpkg", roads))[0] == 256


def test_labels_count_inside_of_the_area_only(tmp_path: Path) -> None:
    image = blank(tmp_path / "a.tif", 1800, 1800)
    stripes = [(n % 2, rectangle(LEFT, TOP - 100 * n - 100, LEFT + 1800, TOP - 100 * n)) for n in range(18)]
    labels = write_polygons(tmp_path / "labels.gpkg", stripes)
    area = squares(tmp_path / "area.gpkg", [(1, 100, 100)], 400, "area")
    assert chosen(image, labels=labels)[0] == 256
    assert chosen(image, labels=labels, area=area)[0] == 64


def test_a_label_raster_with_few_labels_takes_smaller_chips(tmp_path: Path) -> None:
    image, mask = blank(tmp_path / "a.tif", 1800, 1800), np.zeros((1800, 1800), np.uint8)
    mask[:400, :400] = class_mask(400, 400)
    labels = write_raster(tmp_path / "labels.tif", mask, nodata=0)
    assert chosen(image, label_rasters=(labels,))[0] == 64
    assert chosen(image, label_rasters=(labels,), background="class")[0] == 64  # for the other classes


def test_large_label_rasters_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = blank(tmp_path / "a.tif", 3000, 2000)
    labels = write_raster(tmp_path / "labels.tif", np.zeros((3000, 2000), np.uint8), nodata=0)
    monkeypatch.setattr(RasterReader, "read", lambda *_: pytest.fail("pixels are read"))
    assert chosen(image, label_rasters=(labels,))[0] == 256


@pytest.mark.parametrize("placement, side, size", [
    ("features", 20, 64), ("features", 50, 128), ("features", 300, 256), ("bounding_boxes", 50, 64),
    ("bounding_boxes", 100, 128),
])  # fmt: skip
def test_chips_of_features_are_as_large_as_these(tmp_path: Path, placement: str, side: int, size: int) -> None:
    image = blank(tmp_path / "a.tif", 2000, 2000)
    labels = squares(tmp_path / "labels.gpkg", [(n % 2, 320 * n, 500) for n in range(6)], side)
    found, said = chosen(image, labels=labels, placement=placement, task="classification")
    assert found == size and f"half of the label features are no wider than {side} pixels" in said


def test_numbers_are_no_classes(tmp_path: Path) -> None:
    image, mask = blank(tmp_path / "a.tif", 1800, 1800), np.random.default_rng(0).random((1800, 1800), np.float32)
    labels = write_raster(tmp_path / "labels.tif", mask)
    assert chosen(image, label_rasters=(labels,), task="regression")[0] == 256


def test_chips_that_join_have_the_size_of_those_there(tmp_path: Path) -> None:
    image, labels = write_scene(tmp_path)
    settings: dict[str, Any] = {"input": (image,), "label_rasters": (labels,), "output": str(tmp_path / "chips")}
    export_chips(ExportChipsConfig(**settings, chip_size=40), Heard())
    heard = Heard()
    export_chips(ExportChipsConfig(**settings, append=True), heard)
    assert read_info(settings["output"]).chip_size == 40
    assert "Chip size: 40 × 40 pixels, as in the dataset." in heard.logs


def test_an_interrupted_export_goes_on_with_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image, labels = write_scene(tmp_path, 600, 800)
    config = ExportChipsConfig(input=(image,), label_rasters=(labels,), output=str(tmp_path / "c"), resume=True)
    monkeypatch.setattr("plugin.engine.chips.journal.SECONDS_BETWEEN_NOTES", 0)
    monkeypatch.setattr(Stage, "INTERVAL", 0)
    with pytest.raises(Cancelled):
        export_chips(config, Heard(cancel_after=60))
    heard = Heard()
    export_chips(config, heard)
    assert (
        any("Resuming an interrupted export" in text for text in heard.logs)
        and read_info(config.output).chip_size == 64
    )
