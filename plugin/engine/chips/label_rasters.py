"""Label rasters: their location, label bands and class names."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Optional

from osgeo import gdal

from ..errors import InputError
from ..rasters.opening import open_any_raster
from ..rasters.raster_io import crs_of, ground_crs, is_alpha

RGB = (gdal.GCI_RedBand, gdal.GCI_GreenBand, gdal.GCI_BlueBand)


@dataclass(frozen=True)
class LabelRaster:
    """A label raster.

    Attributes:
        path: The name shown to the user.
        source: The path or VRT text that GDAL opens.
        crs: Its CRS as WKT; "" for none.
        bands: The label band, or red, green and blue if colours are the classes.
        unused: The number of other bands with values.
        more: The rasters that lie on top of this one in a mosaic.
    """

    path: str
    source: str
    crs: str
    bands: tuple[int, ...] = (1,)
    unused: int = 0
    more: tuple[LabelRaster, ...] = ()

    @property
    def name(self) -> str:
        """What the raster, or the mosaic, is called in messages."""
        return f"{self.path} + {len(self.more)} more" if self.more else self.path

    @property
    def colored(self) -> bool:
        """Whether the classes are colours."""
        return len(self.bands) > 1

    @classmethod
    def of(cls, path: str, crs: str = "") -> LabelRaster:
        """Examine a label raster.

        Args:
            path: The path or VRT text that GDAL opens.
            crs: The CRS that overrides the raster's own, as WKT; "" for none.

        Raises:
            InputError: It cannot be opened.
        """
        dataset = open_any_raster(path)
        values = [band for band in range(1, dataset.RasterCount + 1) if not is_alpha(dataset, band)]
        bands = _color_bands(dataset, values)
        unused = 0 if bands else max(0, len(values) - 1)
        return cls(path, path, ground_crs(crs) or crs_of(dataset), bands or (1,), unused)


def _color_bands(dataset: gdal.Dataset, values: Sequence[int]) -> tuple[int, ...]:
    """The red, green and blue bands of an RGB image of bytes; () for any other raster."""
    if len(values) not in (3, 4):
        return ()
    bands = {dataset.GetRasterBand(band).GetColorInterpretation(): band for band in values}
    found = tuple(bands[color] for color in RGB if color in bands)
    bytes_only = all(dataset.GetRasterBand(band).DataType == gdal.GDT_Byte for band in values)
    return found if len(found) == len(RGB) and bytes_only else ()


def label_mosaic(rasters: Sequence[LabelRaster]) -> LabelRaster:
    """Combine label rasters into a mosaic; later ones are on top.

    Raises:
        InputError: Some are colour images and others not.
    """
    first = rasters[0]
    for raster in rasters[1:]:
        if first.bands != raster.bands:
            raise unlike_labels(first, raster)
    return dataclasses.replace(first, more=tuple(rasters[1:]))


def unlike_labels(one: LabelRaster, other: LabelRaster) -> InputError:
    """The error for label rasters of which some hold colours and others class values."""
    colored, plain = (one, other) if one.colored else (other, one)
    if plain.colored:
        return InputError(
            f"The label rasters {one.path} and {other.path} have their colours in different bands.", "Save both as RGB."
        )
    return InputError(
        f"The label raster {colored.path} is a colour image, but {plain.path} holds numbers.",
        "Give label rasters of the same kind.",
    )


def color_values(
    colors: Iterable[int], class_map: Mapping[int, Optional[int]], given: Mapping[int, tuple[str, Optional[str]]]
) -> dict[int, Optional[int]]:
    """Assign a class value to each colour, in the order of the colours.

    A colour gets its value from the class table, or from a class with that colour, or the next free number from 1.

    Args:
        colors: Colours as 0xRRGGBB.
        class_map: Colour → class value, or None for no label.
        given: Class value → (name, colour as "#rrggbb").
    """
    by_color = {color.lower(): value for value, (_, color) in given.items() if color}
    taken = {*given, *class_map.values()}
    free = (number for number in count(1) if number not in taken)
    become: dict[int, Optional[int]] = {}
    for color in sorted(colors):
        if color in class_map:
            become[color] = class_map[color]
        else:
            known = by_color.get(color_text(color))
            become[color] = next(free) if known is None else known
    return become


def color_text(color: int) -> str:
    """A colour 0xRRGGBB as "#rrggbb"."""
    return f"#{color:06x}"


def raster_classes(path: str) -> dict[int, tuple[str, Optional[str]]]:
    """Read class names and colours stored in a raster: value → (name, "#rrggbb" or None).

    Sources are the category names, the colour table and the raster attribute table, in this order of priority.
    """
    dataset = open_any_raster(path)  # a band does not keep its dataset alive
    band = dataset.GetRasterBand(1)
    names: dict[int, str] = {value: name for value, name in enumerate(band.GetCategoryNames() or []) if name}
    colors: dict[int, str] = {}
    table = band.GetColorTable()
    for value in range(table.GetCount() if table is not None else 0):
        colors[value] = "#{:02x}{:02x}{:02x}".format(*table.GetColorEntry(value)[:3])
    attributes = band.GetDefaultRAT()
    if attributes is not None:
        columns = {attributes.GetUsageOfCol(column): column for column in range(attributes.GetColumnCount())}
        value_column = columns.get(gdal.GFU_MinMax)
        rgb = [columns.get(usage) for usage in (gdal.GFU_Red, gdal.GFU_Green, gdal.GFU_Blue)]
        for row in range(attributes.GetRowCount() if value_column is not None else 0):
            value = attributes.GetValueAsInt(row, value_column)
            if gdal.GFU_Name in columns:
                names.setdefault(value, attributes.GetValueAsString(row, columns[gdal.GFU_Name]))
            if None not in rgb:
                colors.setdefault(value, "#{:02x}{:02x}{:02x}".format(*(attributes.GetValueAsInt(row, c) for c in rgb)))
    return {value: (names.get(value, ""), colors.get(value)) for value in {*names, *colors}}
