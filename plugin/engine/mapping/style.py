"""What makes a class raster readable wherever it is opened: colours and names, inside the file and for QGIS."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from osgeo import gdal

from ..classes import ClassTable

# Category names are a list from value 0 on; of sparse large values the attribute table knows the names.
LARGEST_CATEGORY = 1023


def color_table(classes: ClassTable, nodata: int) -> gdal.ColorTable:
    """GDAL's colour table; class values must not be negative."""
    table = gdal.ColorTable()
    table.SetColorEntry(nodata, (0, 0, 0, 0))
    for info in classes.classes:
        table.SetColorEntry(info.value, (*info.rgb, 255))
    return table


def category_names(classes: ClassTable) -> list[str] | None:
    """The names in a list in which each stands at its value; None where the values do not suit that."""
    values = classes.values
    if values.min() < 0 or values.max() > LARGEST_CATEGORY:
        return None
    names = [""] * (int(values.max()) + 1)
    for info in classes.classes:
        names[info.value] = info.name
    return names


def attribute_table(classes: ClassTable, pixels: np.ndarray) -> gdal.RasterAttributeTable:
    """GDAL's raster attribute table: value, pixels, name and colour of each class; `pixels` is (C,)."""
    table = gdal.RasterAttributeTable()
    columns = (
        ("Value", gdal.GFT_Integer, gdal.GFU_MinMax),
        ("Count", gdal.GFT_Real, gdal.GFU_PixelCount),  # integers end at 2³¹
        ("Class", gdal.GFT_String, gdal.GFU_Name),
        ("Red", gdal.GFT_Integer, gdal.GFU_Red),
        ("Green", gdal.GFT_Integer, gdal.GFU_Green),
        ("Blue", gdal.GFT_Integer, gdal.GFU_Blue),
    )
    for column in columns:
        table.CreateColumn(*column)
    table.SetRowCount(len(classes))
    for row, (info, count) in enumerate(zip(classes.classes, pixels.tolist())):
        table.SetValueAsInt(row, 0, info.value)
        table.SetValueAsDouble(row, 1, count)
        table.SetValueAsString(row, 2, info.name)
        for place, part in enumerate(info.rgb, start=3):
            table.SetValueAsInt(row, place, part)
    return table


def write_qml(path: Path, classes: ClassTable) -> None:
    """Write the QGIS style of a class raster: a paletted renderer with names and colours (QGIS 3.22 to 4)."""
    root = ElementTree.Element("qgis", version="3.22.0", styleCategories="Symbology")
    pipe = ElementTree.SubElement(root, "pipe")
    renderer = ElementTree.SubElement(
        pipe, "rasterrenderer", type="paletted", band="1", opacity="1", alphaBand="-1", nodataColor=""
    )
    palette = ElementTree.SubElement(renderer, "colorPalette")
    for info in classes.classes:
        ElementTree.SubElement(
            palette, "paletteEntry", value=str(info.value), color=info.color, alpha="255", label=info.name
        )
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    path.write_text(f"<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n{text}\n", encoding="utf-8")
