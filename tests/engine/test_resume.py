"""An interrupted export is resumed only if settings and inputs are unchanged."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from heard import Heard
from osgeo import gdal, ogr
from synthetic import LEFT, TOP, class_mask, rectangle, scene, write_polygons, write_raster

from plugin.engine.chips import journal
from plugin.engine.chips.export import export_chips
from plugin.engine.chips.fingerprint import fingerprint_of, without_files
from plugin.engine.config import ExportChipsConfig
from plugin.engine.errors import Cancelled
from plugin.engine.events import Stage

SQUARES = [
    (1 + number % 3, rectangle(LEFT + 40 * number, TOP - 256, LEFT + 40 * (number + 1), TOP)) for number in range(8)
]


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    """Of an export with features, an area and areas, from a virtual raster."""
    image = write_raster(tmp_path / "image.tif", scene(class_mask()))
    gdal.BuildVRT(str(tmp_path / "inner.vrt"), [image]).FlushCache()
    gdal.BuildVRT(str(tmp_path / "outer.vrt"), [str(tmp_path / "inner.vrt")]).FlushCache()
    around = [(1, rectangle(LEFT, TOP - 256, LEFT + 320, TOP))]
    return {
        "input": (str(tmp_path / "outer.vrt"),),
        "labels": write_polygons(tmp_path / "labels.gpkg", SQUARES),
        "area": write_polygons(tmp_path / "area.gpkg", around, "area"),
        "output": str(tmp_path / "chips"),
        "chip_size": 32,
        "classes": ((1, "a", "#111111"), (2, "b", "#222222"), (3, "c", "#333333")),
        "resume": True,
    }


def changed_values(folder: Path, settings: dict[str, Any]) -> None:
    write_polygons(folder / "labels.gpkg", [(1 + value % 3, wkt) for value, wkt in SQUARES])


def changed_shape(folder: Path, settings: dict[str, Any]) -> None:
    inside = rectangle(LEFT + 40, TOP - 200, LEFT + 80, TOP - 50)
    write_polygons(folder / "labels.gpkg", [*SQUARES[:1], (2, inside), *SQUARES[2:]])


def changed_order(folder: Path, settings: dict[str, Any]) -> None:
    write_polygons(folder / "labels.gpkg", SQUARES[::-1])


def changed_area(folder: Path, settings: dict[str, Any]) -> None:
    hole = f"{rectangle(LEFT, TOP - 256, LEFT + 320, TOP)[:-1]},{rectangle(LEFT + 9, TOP - 99, LEFT + 99, TOP - 9)[8:]}"
    write_polygons(folder / "area.gpkg", [(1, hole)], "area")


def changed_pixels(folder: Path, settings: dict[str, Any]) -> None:
    write_raster(folder / "image.tif", scene(class_mask(), seed=1))
    os.utime(folder / "image.tif", ns=(time.time_ns(), time.time_ns() + 10**9))


def changed_source(folder: Path, settings: dict[str, Any]) -> None:
    other = write_raster(folder / "other.tif", scene(class_mask(), seed=1))
    gdal.BuildVRT(str(folder / "inner.vrt"), [other]).FlushCache()


def changed_nodata(folder: Path, settings: dict[str, Any]) -> None:
    dataset = gdal.OpenEx(str(folder / "image.tif"))  # read only: it goes into a file beside it
    dataset.GetRasterBand(1).SetNoDataValue(7)
    dataset.FlushCache()
    assert (folder / "image.tif.aux.xml").exists()
    settings["input"] = (str(folder / "image.tif"),)


def changed_classes(folder: Path, settings: dict[str, Any]) -> None:
    settings["classes"] = ((1, "a", "#111111"), (2, "b", "#222222"), (3, "d", "#444444"))


def written_again(folder: Path, settings: dict[str, Any]) -> None:
    time.sleep(1.1)  # GeoPackages keep seconds
    write_polygons(folder / "labels.gpkg", SQUARES)


def shown_in_qgis(folder: Path, settings: dict[str, Any]) -> None:
    for name in ("image.tif", "outer.vrt"):
        dataset = gdal.OpenEx(str(folder / name))
        dataset.GetRasterBand(1).ComputeStatistics(False)
        dataset.GetRasterBand(1).SetScale(1)
        dataset.GetRasterBand(1).SetOffset(0)
        dataset = None


def moved_job(folder: Path, settings: dict[str, Any]) -> None:
    (folder / "labels.gpkg").rename(folder / "elsewhere.gpkg")
    settings["labels"] = str(folder / "elsewhere.gpkg")


CHANGES = [
    changed_values, changed_shape, changed_order, changed_area, changed_pixels, changed_source, changed_nodata,
    changed_classes,
]  # fmt: skip


@pytest.mark.parametrize("change", [*CHANGES, written_again, shown_in_qgis, moved_job])
def test_only_what_is_the_same_has_the_same_fingerprint(tmp_path: Path, settings: dict[str, Any], change: Any) -> None:
    if change is changed_nodata:
        settings["input"] = (str(tmp_path / "image.tif"),)
    before = fingerprint_of(ExportChipsConfig(**settings))
    change(tmp_path, settings)
    assert (fingerprint_of(ExportChipsConfig(**settings)) != before) == (change in CHANGES)


def interrupt(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin an export and end it half-way."""
    monkeypatch.setattr(journal, "SECONDS_BETWEEN_NOTES", 0)
    monkeypatch.setattr(Stage, "INTERVAL", 0)
    with pytest.raises(Cancelled):
        export_chips(ExportChipsConfig(**settings), Heard(cancel_after=40))


def test_labels_that_changed_meanwhile_are_never_mixed(
    tmp_path: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(settings, monkeypatch)
    changed_values(tmp_path, settings)
    heard = Heard()
    export_chips(ExportChipsConfig(**settings), heard)
    assert any("it starts from the beginning" in text for text in heard.logs)
    values = np.array([1 + (1 + number % 3) % 3 for number in range(8)]).repeat(40)
    source = gdal.OpenEx(str(tmp_path / "chips/chips.gpkg"), gdal.OF_VECTOR)
    for chip in source.GetLayer(0):
        mask = gdal.Open(str(tmp_path / "chips" / chip["label"])).ReadAsArray()
        assert (mask == values[chip["col_off"] : chip["col_off"] + 32]).all()


def test_an_export_that_nothing_has_changed_goes_on(
    tmp_path: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(settings, monkeypatch)
    moved_job(tmp_path, settings)  # as QGIS does: a temporary folder each time
    heard = Heard()
    export_chips(ExportChipsConfig(**settings), heard)
    assert any("Resuming an interrupted export" in text for text in heard.logs)
    assert not any("cannot be detected" in text for text in heard.warnings)


def test_rasters_without_files_are_told(tmp_path: Path, settings: dict[str, Any]) -> None:
    drawn = (
        '<VRTDataset rasterXSize="9" rasterYSize="9"><GeoTransform>0,1,0,0,0,-1</GeoTransform>'
        '<VRTRasterBand dataType="Byte" band="1"/></VRTDataset>'
    )
    config = ExportChipsConfig(**{**settings, "input": (drawn, settings["input"][0])})
    assert without_files(config) == [drawn]


def test_priorities_and_ids_count_too(tmp_path: Path, settings: dict[str, Any]) -> None:
    config = ExportChipsConfig(**settings)
    found = {fingerprint_of(config)}
    source = gdal.OpenEx(str(tmp_path / "labels.gpkg"), gdal.OF_VECTOR | gdal.OF_UPDATE)
    source.GetLayer(0).CreateField(ogr.FieldDefn("priority", ogr.OFTReal))
    source.FlushCache()
    found.add(fingerprint_of(config))
    for query in ("UPDATE labels SET priority = 1 WHERE fid = 1", "UPDATE labels SET fid = 99 WHERE fid = 8"):
        source.ExecuteSQL(query)
        source.FlushCache()
        found.add(fingerprint_of(config))
    source = None
    assert len(found) == 4
    assert len(json.dumps(sorted(found))) > 4 * 64
