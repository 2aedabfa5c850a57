"""Connected regions of a mask, and their encodings in COCO: polygons and run lengths."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
from osgeo import gdal, ogr, osr

from ...errors import InputError
from ...rasters.raster_io import gdal_type
from ...strangers.rules import DAMAGES

gdal.UseExceptions()
ogr.UseExceptions()

# GDAL 3.11 merged two drivers into one.
MEMORY = "Memory" if int(gdal.VersionInfo()) < 3110000 else "MEM"
MOST_WORK = 4 * 10**9  # limit of pixels, and of corners × rows, per image
PIXELS = (0.0, 1.0, 0.0, 0.0, 0.0, 1.0)  # geotransform with x, y = column, row


@dataclass(frozen=True)
class Region:
    """Pixels of one class that are connected by their sides."""

    value: int
    area: int  # pixels
    bounds: tuple[int, int, int, int]  # first column, first row, width, height
    outline: Any  # an OGR polygon in pixel coordinates
    holes: int


def regions(mask: np.ndarray, counted: np.ndarray) -> list[Region]:
    """The connected regions of an (H, W) mask where `counted` (H, W) is true, ordered by row."""
    height, width = mask.shape
    memory = gdal.GetDriverByName("MEM")
    # gdal.Polygonize supports 32 bits, which class values fit.
    values = memory.Create("", width, height, 1, gdal.GDT_Int32)
    shown = memory.Create("", width, height, 1, gdal.GDT_Byte)
    for target, data in ((values, mask.astype(np.int32)), (shown, counted.astype(np.uint8))):
        target.SetGeoTransform(PIXELS)
        target.WriteArray(data)
    layer = _Shapes()
    gdal.Polygonize(values.GetRasterBand(1), shown.GetRasterBand(1), layer.layer, 0)
    found = []
    for feature in layer.layer:
        outline = feature.GetGeometryRef().Clone()
        left, right, top, bottom = outline.GetEnvelope()
        bounds = (round(left), round(top), round(right - left), round(bottom - top))
        holes = outline.GetGeometryCount() - 1
        found.append(Region(feature.GetField(0), round(outline.Area()), bounds, outline, holes))
    return sorted(found, key=lambda region: (region.bounds[1], region.bounds[0], region.value))


class _Shapes:
    """An in-memory layer with one integer field; keeps its data source alive."""

    def __init__(self) -> None:
        self.source = ogr.GetDriverByName(MEMORY).CreateDataSource("")
        self.layer = self.source.CreateLayer("regions", _pixel_reference(), ogr.wkbPolygon)
        self.layer.CreateField(ogr.FieldDefn("value", ogr.OFTInteger))

    def add(self, value: int, geometry: Any) -> None:
        """Add a polygon."""
        feature = ogr.Feature(self.layer.GetLayerDefn())
        feature.SetField(0, value)
        feature.SetGeometry(geometry)
        self.layer.CreateFeature(feature)


def _pixel_reference() -> osr.SpatialReference:
    """A CRS for pixel coordinates; without one, GDAL warns for each mask."""
    reference = osr.SpatialReference()
    reference.SetLocalCS("pixels")
    return reference


def polygon_of(region: Region) -> list[int]:
    """The outline of a region without holes in COCO's notation: x, y, x, y … in pixels, not closed."""
    ring = region.outline.GetGeometryRef(0)
    return [round(number) for place in range(ring.GetPointCount() - 1) for number in ring.GetPoint_2D(place)]


def run_lengths(found: Sequence[Region], height: int, width: int) -> list[list[int]]:
    """The run lengths of regions in column order, starting with the background (which may have length 0)."""
    layer = _Shapes()
    for number, region in enumerate(found, start=1):
        layer.add(number, region.outline)
    target = gdal.GetDriverByName("MEM").Create("", width, height, 1, gdal.GDT_Int32)
    target.SetGeoTransform(PIXELS)
    target.SetSpatialRef(_pixel_reference())
    gdal.RasterizeLayer(target, [1], layer.layer, options=["ATTRIBUTE=value"])
    numbers = target.ReadAsArray().ravel(order="F")
    return [encode_runs(numbers == number) for number in range(1, len(found) + 1)]


def encode_runs(flat: np.ndarray) -> list[int]:
    """The run lengths of an (n,) bool array; the first run is false."""
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    lengths = np.diff(np.concatenate(([0], edges, [len(flat)]))).tolist()
    return [0, *lengths] if flat[0] else lengths


def decode_runs(counts: Any, height: int, width: int) -> np.ndarray:
    """Decode COCO's run lengths, a list or a text: (H, W) bool.

    Raises:
        ValueError: They do not fill the image exactly.
    """
    total = height * width
    lengths = _unpacked(counts) if isinstance(counts, str) else [int(number) for number in counts]
    # Python integers, since sums in 64 bits could overflow and seem to fit.
    if min(lengths, default=0) < 0 or sum(lengths) != total:
        raise ValueError("its run lengths do not fill the image")
    flat = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return flat.reshape(width, height).T


def _unpacked(text: str) -> list[int]:
    """Decode run lengths packed as text (COCO's `maskApi`).

    Each character has five bits of a number, lowest first, and a sixth bit for "more". From the third number on, values
    are differences to the last but one.
    """
    found: list[int] = []
    at = 0
    while at < len(text):
        number = shift = 0
        more = True
        while more:
            if at >= len(text):
                raise ValueError("its run lengths are incomplete")
            bits = ord(text[at]) - 48
            if not 0 <= bits < 64 or shift > 60:
                raise ValueError("its run lengths are damaged")
            number |= (bits & 31) << shift
            more = bool(bits & 32)
            at, shift = at + 1, shift + 5
            if not more and bits & 16:
                number -= 1 << shift
        if len(found) > 2:
            number += found[-2]
        found.append(number)
    return found


def burn(mask: np.ndarray, shapes: Iterable[tuple[int, Any]]) -> None:
    """Draw COCO segmentations on an (H, W) int32 mask; later ones are on top.

    Args:
        mask: The mask, which is changed.
        shapes: Class value and segmentation: a list of polygons, or run lengths with their size.

    Raises:
        InputError: A segmentation is damaged or has another size.
    """
    height, width = mask.shape
    layer: Optional[_Shapes] = None
    work = 0
    for value, shape in shapes:
        try:
            if isinstance(shape, list):
                layer = layer or _Shapes()
                for numbers in shape:
                    work += len(numbers) * height
                    _check_work(work)
                    layer.add(value, _ring(numbers, 16 * max(height, width)))
                continue
            _draw(mask, layer)
            layer = None
            if list(shape["size"]) != [height, width]:
                raise ValueError(f"its size is {reprlib.repr(shape['size'])}")
            work += height * width + len(shape["counts"])
            _check_work(work)
            mask[decode_runs(shape["counts"], height, width)] = value
        except DAMAGES as error:
            raise InputError(
                f"A segmentation of an image of {width} × {height} pixels is damaged ({error}).",
                "Check the annotations.",
            ) from error
    _draw(mask, layer)


def _draw(mask: np.ndarray, layer: Optional[_Shapes]) -> None:
    """Draw the collected polygons."""
    if layer is None:
        return
    height, width = mask.shape
    target = gdal.GetDriverByName("MEM").Create("", width, height, 1, gdal_type(mask.dtype))
    target.SetGeoTransform(PIXELS)
    target.SetSpatialRef(_pixel_reference())
    target.WriteArray(mask)
    gdal.RasterizeLayer(target, [1], layer.layer, options=["ATTRIBUTE=value"])
    mask[:] = target.ReadAsArray()


def _check_work(work: int) -> None:
    """Limit the work: GDAL examines each corner for each row, and run lengths fill the whole image."""
    if work > MOST_WORK:
        raise ValueError("there are too many to draw")


def _ring(numbers: Sequence[Any], farthest: float) -> Any:
    """An OGR polygon from x, y, x, y …; no coordinate may be larger than `farthest`."""
    places = [float(number) for number in numbers]
    if len(places) < 6 or len(places) % 2:
        raise ValueError("a polygon needs three points")
    if not all(-farthest <= place <= farthest for place in places):
        raise ValueError("a polygon is far outside of the image")
    ring = ogr.Geometry(ogr.wkbLinearRing)
    for x, y in zip(places[::2], places[1::2]):
        ring.AddPoint_2D(x, y)
    ring.CloseRings()
    polygon = ogr.Geometry(ogr.wkbPolygon)
    polygon.AddGeometryDirectly(ring)
    return polygon
