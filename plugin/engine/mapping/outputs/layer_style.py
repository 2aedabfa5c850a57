"""Stores the style of a vector layer: in its GeoPackage, otherwise in a file beside the layer's.

Style files are named by the stem only: X.qml belongs to X.geojson and to X.tif. So one is written only if it belongs to
no other file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path

from osgeo import gdal, ogr

from ..answers.answers import Answers, Numbers, field_titles
from ..answers.numbers import number_ranges
from .style import numbers_style, polygons_style

ogr.UseExceptions()

# The table in which QGIS stores styles of layers of databases.
STYLE_TABLE = "layer_styles"
_TEXTS = {
    "f_table_catalog": 256, "f_table_schema": 256, "f_table_name": 256, "f_geometry_column": 256, "styleName": 30,
    "styleQML": 0, "styleSLD": 0,
}  # fmt: skip
_MORE_TEXTS = {"description": 0, "owner": 30, "ui": 30}
# An attribute of the root element, which QGIS ignores, and drops when users save a style of their own.
_MARK = "terrazzo"
_BEGIN = 1000  # characters in which it is found


def grid_style(answers: Answers) -> str:
    """Return the QGIS style of a grid of answers."""
    titles = field_titles(answers.fields())
    if isinstance(answers, Numbers):
        return numbers_style("value", number_ranges(answers.target), titles)
    return polygons_style(None if answers.several else "value", answers.classes, titles)


def keep_inside(dataset: gdal.Dataset, layer: ogr.Layer, style: str) -> None:
    """Write the default style of a layer into its GeoPackage.

    Raises:
        RuntimeError: GDAL cannot write it.
    """
    table = dataset.CreateLayer(STYLE_TABLE, None, ogr.wkbNone)
    for name, width in _TEXTS.items():
        table.CreateField(_text_field(name, width))
    default = ogr.FieldDefn("useAsDefault", ogr.OFTInteger)
    default.SetSubType(ogr.OFSTBoolean)
    table.CreateField(default)
    for name, width in _MORE_TEXTS.items():
        table.CreateField(_text_field(name, width))
    table.CreateField(ogr.FieldDefn("update_time", ogr.OFTDateTime))
    row = ogr.Feature(table.GetLayerDefn())
    for name in (*_TEXTS, *_MORE_TEXTS):
        row.SetField(name, "")
    row.SetField("f_table_name", layer.GetName())
    row.SetField("f_geometry_column", layer.GetGeometryColumn())
    row.SetField("styleName", layer.GetName()[:30])
    row.SetField("styleQML", style)
    row.SetField("useAsDefault", 1)
    row.SetField("description", "Made by Terrazzo")
    row.SetField("update_time", datetime.now(timezone.utc).strftime("%Y/%m/%d %H:%M:%S+00"))
    table.CreateFeature(row)


def _text_field(name: str, width: int) -> ogr.FieldDefn:
    field = ogr.FieldDefn(name, ogr.OFTString)
    field.SetWidth(width)
    return field


def marked(style: str, path: str) -> str:
    """Add to a style the extension of the file that it was made for."""
    return style.replace("<qgis ", f'<qgis {_MARK}="{Path(path).suffix.lower()}" ', 1)


def why_not_beside(path: str, others: Iterable[str | None]) -> str | None:
    """Return why no style may be written beside a file; None if it may.

    Args:
        path: The layer's file.
        others: All other files written by the same job.
    """
    sidecar = Path(path).with_suffix(".qml")
    stem = Path(path).absolute().with_suffix("")
    for other in others:
        if other and other != path and Path(other).absolute().with_suffix("") == stem:
            return f"{sidecar} is the style of {other}"
    if sidecar.exists() and not _made_for(sidecar, path):
        return f"{sidecar} already exists"
    return None


def _made_for(sidecar: Path, path: str) -> bool:
    try:
        with sidecar.open(encoding="utf-8", errors="replace") as file:
            begin = file.read(_BEGIN)
    except OSError:
        return False
    found = re.search(rf'<qgis [^>]*\b{_MARK}="([^"]*)"', begin)
    return found is not None and found[1] == Path(path).suffix.lower()
