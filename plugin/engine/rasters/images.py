"""Prepare a raster for a network: apply the CRS set in QGIS, expand colour tables, rescale values.

The result is the XML of a virtual raster, which GDAL opens like a path. No file is written, and values are computed
when they are read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
from osgeo import gdal

from ..errors import InputError
from ..strangers.texts import parse_xml
from ..xml_elements import Element, SubElement, tostring
from .opening import name_of, open_any_raster, virtual_text, with_nodata
from .raster_io import Scale, band_dtype, gdal_type, is_alpha, is_signed_byte
from .stored import Stored, look_at

OPAQUE = 255
# Metadata with which GDAL makes a virtual raster of another one as it is. Otherwise it takes the sources of that one,
# and what they do to values would be overwritten.
AS_IT_IS = "TERRAZZO_SOURCE=as it is"


@dataclass(frozen=True)
class Image:
    """A raster to learn from or to map.

    Attributes:
        path: The name shown to the user.
        source: The path or VRT text that GDAL opens.
        crs: The CRS that overrides the raster's own, as WKT; "" for none.
        note: How the values differ from those stored; "" if they do not.
        warning: A problem with the values that the user should know of; "" for none.
    """

    path: str
    source: str
    crs: str = ""
    note: str = ""
    warning: str = ""

    def look_at(self, bands: tuple[int, ...] = (), filling: Optional[float] = None) -> Stored:
        """Describe the given bands, or all but an alpha band if none are given; arguments as for `stored.look_at`."""
        return look_at(self.source, bands, self.path, self.crs, filling)


def open_image(path: str, crs: str = "", keep_numbers: bool = False, nodata: Optional[float] = None) -> Image:
    """Open a raster, and expand its colour table to red, green and blue unless the table stands for classes.

    Args:
        path: The path or VRT text that GDAL opens.
        crs: The CRS that overrides the raster's own, as WKT; "" for none.
        keep_numbers: Keep the indices of a colour table instead of expanding it.
        nodata: The nodata value that replaces the raster's own; None to keep it.

    Raises:
        InputError: As `open_any_raster`, or `nodata` is given for signed bytes as stored by GDAL before 3.7.
    """
    dataset, source, note = open_any_raster(path), path, ""
    name = name_of(dataset, path)
    if nodata is not None:
        source, note = with_nodata(path, nodata), _nodata_note(dataset, nodata)
        dataset = open_any_raster(source, path)
    numbers = [band for band in range(1, dataset.RasterCount + 1) if not is_alpha(dataset, band)]
    tables = [band for band in numbers if dataset.GetRasterBand(band).GetColorTable() is not None]
    if not tables:
        return Image(name, source, crs, note)
    classes = _class_names(dataset.GetRasterBand(tables[0]))
    if classes:
        shown = ", ".join(classes[:3]) + (", …" if len(classes) > 3 else "")
        what = f"holds class values ({shown}), which the network treats as measurements"
    elif keep_numbers or len(numbers) > 1:
        what = f"has a colour table in band {tables[0]}, whose indices the network treats as measurements"
    else:
        text = _colors_text(dataset, tables[0])
        return Image(name, text, crs, note="its colour table is expanded to red, green and blue bands")
    return Image(name, source, crs, note, warning=f"{name} {what}.")


def _nodata_note(dataset: gdal.Dataset, nodata: float) -> str:
    """Describe what another nodata value changes; "" if the raster has no other of its own.

    Raises:
        InputError: The raster holds signed bytes as stored by GDAL before 3.7.
    """
    bands = [dataset.GetRasterBand(number + 1) for number in range(dataset.RasterCount)]
    if any(is_signed_byte(band) for band in bands):
        raise InputError(
            f"{dataset.GetDescription()} holds signed bytes, which lose their sign when NODATA is set.",
            "Save it as Int16 first.",
        )
    own = {value for value in (band.GetNoDataValue() for band in bands) if value is not None and value == value}
    shown = ", ".join(f"{value:.9g}" for value in sorted(own - {nodata}))
    return f"its nodata value is {nodata:.9g} as set by NODATA, instead of {shown}" if shown else ""


def in_units(image: Image, scales: Mapping[int, Scale], filling: Optional[float] = None) -> Image:
    """Convert bands to physical units: value × scale + offset, as floats, with NaN as nodata.

    Args:
        scales: Band number → (scale, offset); other bands stay unchanged.
        filling: The stored nodata value of bands that declare none.

    Raises:
        InputError: The raster holds signed bytes as stored by GDAL before 3.7.
    """
    dataset = open_any_raster(image.source, image.path)
    bands = [dataset.GetRasterBand(number) for number in scales]
    if any(is_signed_byte(band) for band in bands):
        raise InputError(f"{image.path} holds signed bytes, which cannot be rescaled.", "Save it as Int16 first.")
    root = parse_xml(virtual_text(gdal.Translate("", dataset, format="VRT", metadataOptions=[AS_IT_IS])).encode())
    for element in root.findall("VRTRasterBand"):
        number = int(element.attrib["band"])
        if number not in scales:
            continue
        ratio, offset = scales[number]
        own = dataset.GetRasterBand(number).GetNoDataValue()
        nodata = filling if own is None else own
        element.set("dataType", _float_name(dataset.GetRasterBand(number)))
        for tag in ("NoDataValue", "Scale", "Offset"):
            for old in element.findall(tag):
                element.remove(old)
        if nodata is not None:
            _insert(element, "NoDataValue", "nan")
        for source in [*element.findall("SimpleSource"), *element.findall("ComplexSource")]:
            source.tag = "ComplexSource"
            for tag, value in (("ScaleOffset", offset), ("ScaleRatio", ratio), ("NODATA", nodata)):
                for old in source.findall(tag):
                    source.remove(old)
                if value is not None:
                    SubElement(source, tag).text = repr(value)
    return dataclasses.replace(image, source=tostring(root, encoding="unicode"))


def _float_name(band: gdal.Band) -> str:
    """GDAL's name of the float type that can hold a band's values."""
    return str(gdal.GetDataTypeName(gdal_type(np.result_type(band_dtype(band), np.float32))))


def _insert(element: Element, tag: str, text: str) -> None:
    """Insert a child first: GDAL requires a band's properties before its sources."""
    made = Element(tag)
    made.text = text
    element.insert(0, made)


def _colors_text(dataset: gdal.Dataset, number: int) -> str:
    """The VRT text of a band's colours; an alpha band hides transparent entries.

    The band's nodata value and mask go into the alpha band as well, since no colour can stand for them.
    """
    band = dataset.GetRasterBand(number)
    table = band.GetColorTable()
    alphas = [table.GetColorEntry(place)[3] for place in range(table.GetCount())]
    hidden = min(alphas, default=OPAQUE) < OPAQUE or band.GetMaskFlags() != gdal.GMF_ALL_VALID
    expand = "rgba" if hidden else "rgb"
    made = gdal.Translate(
        "", dataset, format="VRT", bandList=[number], rgbExpand=expand, maskBand="none", noData="none"
    )
    root = parse_xml(virtual_text(made).encode())
    for element in root.findall("VRTRasterBand"):
        if element.attrib["band"] == "4":
            for source in element.findall("ComplexSource"):
                SubElement(source, "UseMaskBand").text = "true"
    return tostring(root, encoding="unicode")


def _class_names(band: gdal.Band) -> list[str]:
    """The names of the classes in a band, from its category names or its raster attribute table."""
    names = [name for name in band.GetCategoryNames() or [] if name]
    attributes: Optional[Any] = band.GetDefaultRAT()
    if names or attributes is None:
        return names
    for column in range(attributes.GetColumnCount()):
        if attributes.GetUsageOfCol(column) == gdal.GFU_Name:
            found = (attributes.GetValueAsString(row, column) for row in range(attributes.GetRowCount()))
            return [name for name in found if name]
    return []
