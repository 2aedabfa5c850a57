"""A raster as a network is to see it: where it lies in QGIS, its colour table as colours, its numbers in other units.

All of it as text that GDAL opens like a path: nothing is written, and values are found when they are read.
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
from .opening import open_any_raster, virtual_text, with_nodata
from .raster_io import Scale, band_dtype, gdal_type, is_alpha, is_signed_byte
from .stored import Stored, look_at

OPAQUE = 255


@dataclass(frozen=True)
class Image:
    """A raster to learn from or to map.

    Attributes:
        path: What people call it.
        source: What GDAL opens.
        crs: The CRS that it has for people, as WKT; "" = its own.
        note: What is done to its values, in words; "" where they are as stored.
        warning: What the user should know of them; "" for nothing.
    """

    path: str
    source: str
    crs: str = ""
    note: str = ""
    warning: str = ""

    def look_at(self, bands: tuple[int, ...] = ()) -> Stored:
        """What is to be known of some of its bands, or of all but alpha; raises as `stored.look_at`."""
        return look_at(self.source, bands, self.path, self.crs)


def open_image(path: str, crs: str = "", keep_numbers: bool = False, nodata: Optional[float] = None) -> Image:
    """A raster with the colours of its table, where it has one and is a picture; one that names classes is none.

    Args:
        path: What GDAL opens.
        crs: The CRS that it has for people, as WKT; "" = its own.
        keep_numbers: Whether the numbers of a table's entries are wanted all the same.
        nodata: The value that means "no data" in it, instead of its own; None = its own.

    Raises:
        InputError: As `open_any_raster`, or another nodata value is given for signed bytes as GDAL before 3.7 had them.
    """
    source, note = path, ""
    if nodata is not None:
        source, note = with_nodata(path, nodata), _nodata_note(open_any_raster(path), nodata)
    dataset = open_any_raster(source, path)
    numbers = [band for band in range(1, dataset.RasterCount + 1) if not is_alpha(dataset, band)]
    tables = [band for band in numbers if dataset.GetRasterBand(band).GetColorTable() is not None]
    if not tables:
        return Image(path, source, crs, note)
    classes = _class_names(dataset.GetRasterBand(tables[0]))
    if classes:
        shown = ", ".join(classes[:3]) + (", …" if len(classes) > 3 else "")
        what = f"holds class numbers ({shown}), which the network sees as if they were measured"
    elif keep_numbers or len(numbers) > 1:
        what = f"holds places in a colour table in band {tables[0]}, which are taken as numbers"
    else:
        text = _colors_text(dataset, tables[0])
        return Image(path, text, crs, note="its colour table is read as the bands red, green and blue")
    return Image(path, source, crs, note, warning=f"{path} {what}.")


def _nodata_note(dataset: gdal.Dataset, nodata: float) -> str:
    """What another nodata value changes, in words; "" where the raster has none of its own.

    Raises:
        InputError: It holds signed bytes as GDAL before 3.7 had them.
    """
    bands = [dataset.GetRasterBand(number + 1) for number in range(dataset.RasterCount)]
    if any(is_signed_byte(band) for band in bands):
        raise InputError(
            f"{dataset.GetDescription()} holds signed bytes, which would lose their signs with NODATA.",
            "Save it as Int16 first.",
        )
    own = {value for value in (band.GetNoDataValue() for band in bands) if value is not None and value == value}
    shown = ", ".join(f"{value:.9g}" for value in sorted(own - {nodata}))
    return f"{nodata:.9g} means no data, as NODATA says, and no longer {shown}" if shown else ""


def in_units(image: Image, scales: Mapping[int, Scale], filling: Optional[float] = None) -> Image:
    """An image whose bands hold value × scale + offset, as floats, and NaN where they have no data.

    Args:
        scales: Scale and offset of bands, by number; others stay as they are.
        filling: The value, as stored, that means "no data" in bands without a nodata value of their own.

    Raises:
        InputError: It holds signed bytes as GDAL before 3.7 had them.
    """
    dataset = open_any_raster(image.source, image.path)
    bands = [dataset.GetRasterBand(number) for number in scales]
    if any(is_signed_byte(band) for band in bands):
        raise InputError(f"{image.path} holds signed bytes, which cannot be scaled.", "Save it as Int16 first.")
    root = parse_xml(virtual_text(gdal.Translate("", dataset, format="VRT")).encode())
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
    """The floats of GDAL that hold a band's values."""
    return str(gdal.GetDataTypeName(gdal_type(np.result_type(band_dtype(band), np.float32))))


def _insert(element: Element, tag: str, text: str) -> None:
    """Put an element in front: GDAL reads what describes a band before its sources."""
    made = Element(tag)
    made.text = text
    element.insert(0, made)


def _colors_text(dataset: gdal.Dataset, number: int) -> str:
    """A virtual raster of the colours of a band's table; what has none, or is see-through, is hidden by an alpha band.

    The raster's own nodata value and mask come into the alpha band: no colour could stand for them.
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
    """What a band calls the classes that its numbers stand for, by category names or its attribute table."""
    names = [name for name in band.GetCategoryNames() or [] if name]
    attributes: Optional[Any] = band.GetDefaultRAT()
    if names or attributes is None:
        return names
    for column in range(attributes.GetColumnCount()):
        if attributes.GetUsageOfCol(column) == gdal.GFU_Name:
            found = (attributes.GetValueAsString(row, column) for row in range(attributes.GetRowCount()))
            return [name for name in found if name]
    return []
