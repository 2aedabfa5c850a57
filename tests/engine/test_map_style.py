"""Names and colours of classes in a class raster."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from osgeo import gdal
from synthetic import write_raster

from plugin.engine.classes import ClassTable
from plugin.engine.drafts import hidden_folder
from plugin.engine.mapping.outputs.class_rasters import ClassRaster
from plugin.engine.mapping.pipeline.loop import finish
from plugin.engine.rasters.raster_io import RasterReader
from plugin.engine.windows import Window

CLASSES = ClassTable.from_rows([(1, 'water & "ice"', "#3366cc"), (4, "Wälder", "#116622")])


def write(folder: Path, classes: ClassTable) -> gdal.Dataset:
    """A map of 40 × 60 pixels; its lower half is never written."""
    info = RasterReader(write_raster(folder / "image.tif", np.zeros((60, 40), np.uint8))).info
    target = ClassRaster(str(folder / "map.tif"), info, info.grid.window, classes, 32, np.asarray)
    target.write_tile(Window(0, 0, 40, 30), None, np.repeat([[0, 1]], 30, 0).repeat(20, 1).astype(np.uint8))
    assert not (folder / "map.tif").exists()
    finish([target])
    target.draft.close()
    assert not hidden_folder(folder / "map.tif").exists()
    return gdal.Open(str(folder / "map.tif"))


def test_colours_names_and_counts_are_in_the_file(tmp_path: Path) -> None:
    source = write(tmp_path, CLASSES)
    band = source.GetRasterBand(1)
    table = band.GetColorTable()
    assert table.GetColorEntry(1)[:3] == (0x33, 0x66, 0xCC) and table.GetColorEntry(4)[:3] == (0x11, 0x66, 0x22)
    assert band.GetCategoryNames() == ["", 'water & "ice"', "", "", "Wälder"]
    rat = band.GetDefaultRAT()
    rows = [[rat.GetValueAsString(row, col) for col in range(6)] for row in range(rat.GetRowCount())]
    assert rows == [["1", "600", 'water & "ice"', "51", "102", "204"], ["4", "600", "Wälder", "17", "102", "34"]]
    assert band.GetDescription() == "class" and band.GetNoDataValue() == 0


def test_what_is_never_written_is_nodata(tmp_path: Path) -> None:
    data = write(tmp_path, CLASSES).ReadAsArray()
    assert (data[30:] == 0).all() and (data[:30, :20] == 1).all() and (data[:30, 20:] == 4).all()


def test_the_style_of_qgis_lies_beside_it(tmp_path: Path) -> None:
    write(tmp_path, CLASSES)
    root = ElementTree.parse(tmp_path / "map.qml").getroot()
    renderer = root.find("pipe/rasterrenderer")
    assert renderer is not None and renderer.get("type") == "paletted"
    entries = [(entry.get("value"), entry.get("label"), entry.get("color")) for entry in root.iter("paletteEntry")]
    assert entries == [("1", 'water & "ice"', "#3366cc"), ("4", "Wälder", "#116622")]


@pytest.mark.parametrize("values, dtype", [((-3, 5), gdal.GDT_Int16), ((7, 60000), gdal.GDT_UInt16)])
def test_odd_class_values_are_named_in_the_attribute_table(tmp_path: Path, values: tuple[int, int], dtype: int) -> None:
    source = write(tmp_path, ClassTable.from_rows([(value, f"c{value}", None) for value in values]))
    band = source.GetRasterBand(1)
    assert band.DataType == dtype and band.GetCategoryNames() is None
    rat = band.GetDefaultRAT()
    assert [rat.GetValueAsString(row, 2) for row in range(2)] == [f"c{value}" for value in values]
    assert band.ReadAsArray()[0, 39] == values[1]
