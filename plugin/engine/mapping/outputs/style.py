"""Writes colours and names of classes into rasters, and as styles for QGIS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from osgeo import gdal

from ...classes import ClassInfo, ClassTable
from ...xml_elements import Element, SubElement, indent, tostring
from ..answers.numbers import NumberRange

# Category names are a list from value 0; for larger values, only the attribute table has the names.
LARGEST_CATEGORY = 1023
# How pixels and polygons without a class are drawn.
NO_CLASS, NO_CLASS_RGB = "no class", (140, 140, 140)


def color_table(classes: ClassTable, nodata: int) -> gdal.ColorTable:
    """Return GDAL's colour table; class values must not be negative."""
    table = gdal.ColorTable()
    table.SetColorEntry(nodata, (0, 0, 0, 0))
    for info in classes.classes:
        table.SetColorEntry(info.value, (*info.rgb, 255))
    return table


def category_names(classes: ClassTable) -> list[str] | None:
    """Return a list with each class's name at the index of its value; None if values are negative or too large."""
    values = classes.values
    if values.min() < 0 or values.max() > LARGEST_CATEGORY:
        return None
    names = [""] * (int(values.max()) + 1)
    for info in classes.classes:
        names[info.value] = info.name
    return names


def attribute_table(classes: ClassTable, pixels: np.ndarray) -> gdal.RasterAttributeTable:
    """Return GDAL's raster attribute table: value, pixels, name and colour of each class; `pixels` is (C,)."""
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
    _write_palette(path, [(info.value, info.color, "255", info.name) for info in classes.classes])


def write_member_qml(path: Path, first: ClassInfo) -> None:
    """Write the QGIS style of a raster with a band (0 or 1) per class: its first band, in the colour of the class."""
    _write_palette(path, [(0, "#ffffff", "0", f"not {first.name}"), (1, first.color, "255", first.name)])


def _write_palette(path: Path, entries: list[tuple[int, str, str, str]]) -> None:
    """Write a paletted renderer of band 1: value, colour, opacity from 0 to 255 and name of each entry."""
    renderer, root = _raster_renderer("paletted")
    palette = SubElement(renderer, "colorPalette")
    for value, color, alpha, label in entries:
        SubElement(palette, "paletteEntry", value=str(value), color=color, alpha=alpha, label=label)
    _save(path, root)


def write_ramp_qml(path: Path, low: float, high: float, stops: Sequence[tuple[float, str, int]]) -> None:
    """Write the QGIS style of a raster of numbers: a colour ramp between `low` and `high`.

    Args:
        path: The style file.
        low, high: Range of the ramp.
        stops: Position from 0 to 1, colour as #rrggbb, and opacity from 0 to 255 of each stop.
    """
    renderer, root = _raster_renderer("singlebandpseudocolor")
    renderer.set("classificationMin", repr(low))
    renderer.set("classificationMax", repr(high))
    outer = SubElement(renderer, "rastershader")
    ramp = SubElement(
        outer, "colorrampshader", colorRampType="INTERPOLATED", classificationMode="1", clip="0",
        minimumValue=repr(low), maximumValue=repr(high),
    )  # fmt: skip
    for share, color, alpha in stops:
        value = low + share * (high - low)
        SubElement(ramp, "item", value=repr(value), color=color, alpha=str(alpha), label=f"{value:.3g}")
    _save(path, root)


def polygons_style(field: str | None, classes: ClassTable, titles: Mapping[str, str]) -> str:
    """Return the QGIS style of polygons of answers: names and translucent colours of classes, and titles of fields.

    Args:
        field: Field of the class value; polygons without a value are drawn as grey outlines. None leaves the drawing to
            QGIS, for polygons with several classes.
        classes: The classes.
        titles: Titles shown instead of field names.
    """
    root = _layer_style("Symbology|Fields" if field else "Fields", titles)
    if field:
        _draw_classes(root, field, classes)
    return _text(root)


def numbers_style(field: str, ranges: Sequence[NumberRange], titles: Mapping[str, str]) -> str:
    """Return the QGIS style of polygons of numbers: a graduated renderer in translucent colours, and titles of fields.

    Args:
        field: Field of the numbers.
        ranges: The colours.
        titles: Titles shown instead of field names.
    """
    root = _layer_style("Symbology|Fields", titles)
    renderer = SubElement(
        root, "renderer-v2", type="graduatedSymbol", attr=field, graduatedMethod="GraduatedColor", forceraster="0",
        symbollevels="0", enableorderby="0",
    )  # fmt: skip
    shown = SubElement(renderer, "ranges")
    symbols = SubElement(renderer, "symbols")
    for number, row in enumerate(ranges):
        SubElement(
            shown, "range", lower=repr(row.low), upper=repr(row.high), symbol=str(number), label=row.label,
            render="true",
        )  # fmt: skip
        _add_fill(symbols, number, ",".join(str(int(row.color[at : at + 2], 16)) for at in (1, 3, 5)), "solid")
    return _text(root)


def _layer_style(categories: str, titles: Mapping[str, str]) -> Element:
    """Return the style of a layer with titles of its fields."""
    root = Element("qgis", version="3.22.0", styleCategories=categories)
    aliases = SubElement(root, "aliases")
    for name, title in titles.items():
        SubElement(aliases, "alias", field=name, name=title)
    return root


def _draw_classes(root: Element, field: str, classes: ClassTable) -> None:
    """Add a categorized renderer of polygons."""
    renderer = SubElement(
        root, "renderer-v2", type="categorizedSymbol", attr=field, forceraster="0", symbollevels="0",
        enableorderby="0",
    )  # fmt: skip
    categories = SubElement(renderer, "categories")
    symbols = SubElement(renderer, "symbols")
    entries = [(str(info.value), info.name, info.rgb, "solid") for info in classes.classes]
    # QGIS draws polygons without a value with the category of an empty value.
    for number, (value, label, rgb, fill) in enumerate([*entries, ("", NO_CLASS, NO_CLASS_RGB, "no")]):
        SubElement(
            categories, "category", value=value, symbol=str(number), label=label, render="true"
        )  # fmt: skip
        _add_fill(symbols, number, ",".join(map(str, rgb)), fill)


def _add_fill(symbols: Element, number: int, color: str, fill: str) -> None:
    """Add the symbol of polygons of a colour, such as "255,0,0"."""
    symbol = SubElement(symbols, "symbol", name=str(number), type="fill", alpha="1", clip_to_extent="1", force_rhr="0")
    layer = SubElement(symbol, "layer", attrib={"class": "SimpleFill"}, enabled="1", locked="0")
    settings = {"color": f"{color},140", "outline_color": f"{color},255", "outline_width": "0.2", "style": fill}
    for key, setting in settings.items():
        SubElement(layer, "prop", k=key, v=setting)


def _raster_renderer(kind: str) -> tuple[Element, Element]:
    """Return a renderer of band 1, and the document that contains it."""
    root = Element("qgis", version="3.22.0", styleCategories="Symbology")
    pipe = SubElement(root, "pipe")
    renderer = SubElement(pipe, "rasterrenderer", type=kind, band="1", opacity="1", alphaBand="-1", nodataColor="")
    return renderer, root


def _save(path: Path, root: Element) -> None:
    path.write_text(_text(root), encoding="utf-8")


def _text(root: Element) -> str:
    indent(root)
    text = tostring(root, encoding="unicode")
    return f"<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n{text}\n"
