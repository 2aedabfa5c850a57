"""Images of foreign folders: their properties, reading, copying and georeference."""

from __future__ import annotations

import dataclasses
import math
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np
from osgeo import gdal, gdal_array

from ...errors import InputError
from ...rasters.raster_io import band_name, crs_of, is_alpha, spatial_reference
from ...strangers.crs import fault_of_crs
from ...strangers.images import beside, open_image, read_pixels, readable
from ...strangers.paths import check_plain
from .orientation import UPRIGHT, lies_on_its_side, orientation_of, upright

COLORS = ("red", "green", "blue")


@dataclass(frozen=True)
class ImageFacts:
    """The properties of an image."""

    path: Path
    driver: str
    width: int  # after applying the EXIF orientation
    height: int
    orientation: int  # EXIF orientation, 1 to 8
    bands: int  # without alpha; 3 for a palette
    plain: bool  # whether the file has exactly these bands
    dtype: np.dtype[Any]
    nodata: Optional[float]
    names: tuple[str, ...]  # names of the bands
    transform: Optional[tuple[float, ...]]  # GDAL geotransform
    crs: str  # WKT2, or ""
    size: int  # of the file, bytes

    @property
    def side(self) -> int:
        """The side of the central square in pixels."""
        return min(self.width, self.height)

    def as_drawn(self, shape: tuple[int, ...]) -> ImageFacts:
        """The image in the orientation of its (H, W) mask: as stored, unless only the rotated image has that shape."""
        stored = self.as_stored()
        return stored if shape == (stored.height, stored.width) else self

    def as_stored(self) -> ImageFacts:
        """The image without EXIF orientation."""
        if lies_on_its_side(self.orientation):
            return dataclasses.replace(self, width=self.height, height=self.width, orientation=UPRIGHT)
        return dataclasses.replace(self, orientation=UPRIGHT)


def look_at(path: Path) -> ImageFacts:
    """Describe an image.

    Raises:
        Unreadable: The image is missing or damaged.
        InputError: The image cannot be used.
    """
    image = open_image(path)
    with readable(path):
        return _facts(path, image)


def _facts(path: Path, image: gdal.Dataset) -> ImageFacts:
    numbers = _value_bands(image)
    first = image.GetRasterBand(numbers[0])
    if gdal.DataTypeIsComplex(first.DataType):
        raise InputError(f"The image {path} holds complex numbers.", "Compute amplitude or phase first.")
    codes = {image.GetRasterBand(number).DataType for number in numbers}
    dtypes = [np.dtype(gdal_array.GDALTypeCodeToNumericTypeCode(code)) for code in codes]
    palette = len(numbers) == 1 and first.GetColorTable() is not None
    crs = sys.intern(_text(crs_of(image)))  # thousands of chips share it
    fault = fault_of_crs(crs)
    if fault is not None:
        raise InputError(f"The CRS of the image {path} cannot be used: {fault}.", "Give the image another CRS.")
    nodata = first.GetNoDataValue()
    bands = 3 if palette else len(numbers)
    width, height, orientation = image.RasterXSize, image.RasterYSize, orientation_of(image)
    if lies_on_its_side(orientation):
        width, height = height, width
    return ImageFacts(
        path=path,
        driver=image.GetDriver().ShortName,
        width=width,
        height=height,
        orientation=orientation,
        bands=bands,
        plain=not palette and len(numbers) == image.RasterCount,
        dtype=np.result_type(*dtypes),
        # NaN is missing in any case.
        nodata=None if nodata is None or palette or math.isnan(nodata) else float(nodata),
        names=COLORS if palette else tuple(_text(band_name(image.GetRasterBand(number), number)) for number in numbers),
        transform=image.GetGeoTransform(can_return_null=True),
        crs=crs,
        size=path.stat().st_size,
    )


def _text(found: str | bytes) -> str:
    """Decode a text from GDAL, which returns bytes if a file does not contain UTF-8."""
    return found.decode("utf-8", "replace") if isinstance(found, bytes) else found


def _value_bands(image: gdal.Dataset) -> list[int]:
    numbers = range(1, image.RasterCount + 1)
    return [number for number in numbers if not is_alpha(image, number)] or list(numbers)


def read_image(facts: ImageFacts, bands: int, dtype: np.dtype[Any]) -> np.ndarray:
    """Read the pixels of an image: (bands, H, W), with its EXIF orientation applied.

    A single band is repeated, and a palette is expanded to colours.

    Raises:
        InputError: The image has another number of bands.
        Unreadable: The image is damaged.
    """
    path = facts.path
    image = open_image(path)
    with readable(path):
        numbers = _value_bands(image)
        colors = image.GetRasterBand(numbers[0]).GetColorTable() if len(numbers) == 1 else None
    data = read_pixels(image, numbers)
    if colors is not None:
        table = np.zeros((256, 3), np.uint8)
        for place in range(min(256, colors.GetCount())):
            table[place] = colors.GetColorEntry(place)[:3]
        data = table[np.minimum(data[0], 255)].transpose(2, 0, 1)
    if len(data) == 1 and bands > 1:
        data = np.repeat(data, bands, axis=0)
    if len(data) != bands:
        raise InputError(
            f"The image {path} has {len(data)} bands, but most images of the folder have {bands}.",
            "Put only images with the same bands into a folder.",
        )
    return upright(data.astype(dtype, copy=False), facts.orientation)


def corners(transform: Sequence[float], size: int) -> list[tuple[float, float]]:
    """The corners of a chip as (x, y), clockwise from its first pixel."""
    places = ((0, 0), (size, 0), (size, size), (0, size))
    return [
        (
            transform[0] + column * transform[1] + row * transform[2],
            transform[3] + column * transform[4] + row * transform[5],
        )
        for column, row in places
    ]


def turn(transform: Sequence[float]) -> float:
    """The clockwise rotation of an image in degrees, at least 0 and less than 360."""
    return round(math.degrees(math.atan2(-transform[4], transform[1])), 6) % 360


def world_file(transform: Sequence[float]) -> str:
    """The text of a world file: six numbers, with the origin at the centre of the first pixel."""
    left, right, across, top, down, below = transform
    numbers = (right, down, across, below, left + (right + across) / 2, top + (down + below) / 2)
    return "".join(f"{number!r}\n" for number in map(float, numbers))


def copy_chip(source: Path, target: Path) -> None:
    """Copy an image of a chip dataset, with its georeference files, byte for byte."""
    check_plain(source)
    shutil.copyfile(source, target)
    for found in beside(source):
        shutil.copyfile(found, target.with_name(target.stem + found.name[len(source.stem) :]))


def place_image(path: Path, transform: Sequence[float], crs: str) -> None:
    """Write the georeference of a copied image to a sidecar file, so that the image stays unchanged."""
    image = open_image(path)
    if image.GetGeoTransform(can_return_null=True) != tuple(transform):
        image.SetGeoTransform(list(transform))
    reference, own = spatial_reference(crs), image.GetSpatialRef()
    if reference is not None and (own is None or not own.IsSame(reference)):
        image.SetSpatialRef(reference)
