"""Write the image and label files of chips."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

import numpy as np
from osgeo import gdal

from ..classes import ClassTable
from ..errors import InputError, ResourceError
from ..rasters.raster_io import gdal_type, spatial_reference

ENDINGS = {"GTiff": "tif", "PNG": "png", "JPEG": "jpg"}
COMPRESSION_OPTIONS = {
    "none": [],
    "deflate": ["COMPRESS=DEFLATE", "ZLEVEL=1"],
    "lzw": ["COMPRESS=LZW"],
    "zstd": ["COMPRESS=ZSTD", "ZSTD_LEVEL=1"],
}
# Masks have long runs of one value: PackBits, which every TIFF reader supports, takes half the time of deflate. It
# does not help with wider types, whose runs are not runs of bytes.
MASK_OPTIONS, WIDE_MASK_OPTIONS = ["COMPRESS=PACKBITS"], COMPRESSION_OPTIONS["deflate"]
JPEG_QUALITY = 95


class ChipFiles:
    """Writes the image and label files of chips; safe for use from several threads.

    Args:
        folder: The dataset's folder, in which `images` and `labels` are created.
        crs: The CRS of all chips as WKT; "" for none.
        band_names: Written as band descriptions.
        nodata: The nodata value of images; None for none.
        classes: Give the colours of label chips.
        label_nodata: The nodata value of label chips; None for float labels, which use NaN.
        chip_format: One of config.CHIP_FORMATS, for images.
        compression: One of config.COMPRESSIONS, for GeoTIFF images.
    """

    def __init__(
        self,
        folder: Path,
        crs: str,
        band_names: Sequence[str],
        nodata: Optional[float],
        classes: ClassTable,
        label_nodata: Optional[int],
        chip_format: str = "GTiff",
        compression: str = "none",
    ) -> None:
        self.folder, self.band_names, self.nodata, self.label_nodata = folder, band_names, nodata, label_nodata
        self.reference = spatial_reference(crs)
        self.format, self.compression = chip_format, compression
        self.ending = ENDINGS[chip_format]
        mask_type = classes.mask_dtype(label_nodata) if len(classes) and label_nodata is not None else None
        self.colors: Optional[gdal.ColorTable] = None
        if mask_type == np.uint8:
            self.colors = gdal.ColorTable()
            for info in classes.classes:
                self.colors.SetColorEntry(info.value, (*info.rgb, 255))
        # Masks must be lossless: PNG if it supports the data type, never JPEG.
        self.label_format = "PNG" if chip_format != "GTiff" and mask_type in (np.uint8, np.uint16) else "GTiff"
        self.label_ending = ENDINGS[self.label_format]
        for name in ("images", "labels"):
            (folder / name).mkdir(exist_ok=True)

    def write_image(self, name: str, data: np.ndarray, transform: Sequence[float]) -> str:
        """Write (C, H, W) data; returns the path relative to the dataset."""
        path = f"images/{name}.{self.ending}"
        if self.format == "GTiff":
            options = ["INTERLEAVE=BAND", *COMPRESSION_OPTIONS[self.compression]]
            target = self._create(path, data, transform, options, self.nodata)
        else:
            target = self._memory(data, transform)
        for number, description in enumerate(self.band_names, start=1):
            target.GetRasterBand(number).SetDescription(description)
        self._fill(target, data, path, self.format)
        return path

    def write_label(self, name: str, mask: np.ndarray, transform: Sequence[float]) -> str:
        """Write an (H, W) mask of class values or float32; returns the path relative to the dataset."""
        path = f"labels/{name}.{self.label_ending}"
        nodata = self.label_nodata if self.label_nodata is not None else float("nan")
        if self.label_format == "GTiff":
            options = MASK_OPTIONS if mask.dtype == np.uint8 else WIDE_MASK_OPTIONS
            target = self._create(path, mask[None], transform, options, nodata)
        else:
            target = self._memory(mask[None], transform)
        if self.colors is not None:
            target.GetRasterBand(1).SetColorTable(self.colors)
        self._fill(target, mask, path, self.label_format)
        return path

    def _create(
        self, name: str, data: np.ndarray, transform: Sequence[float], options: list[str], nodata: Optional[float]
    ) -> gdal.Dataset:
        bands, height, width = data.shape
        # One strip per band, since chips are always read as a whole.
        options = [*options, f"BLOCKYSIZE={height}"]
        driver, path = gdal.GetDriverByName("GTiff"), self._free(name)
        target = driver.Create(path, width, height, bands, gdal_type(data.dtype), options)
        self._place(target, transform)
        if nodata is not None:
            target.GetRasterBand(1).SetNoDataValue(nodata)  # GeoTIFF has one value for all bands
        return target

    def _free(self, name: str) -> str:
        """The path to write to. A killed export may have left a partial file, which GDAL cannot overwrite."""
        path = self.folder / name
        path.unlink(missing_ok=True)
        return str(path)

    def _memory(self, data: np.ndarray, transform: Sequence[float]) -> gdal.Dataset:
        bands, height, width = data.shape
        target = gdal.GetDriverByName("MEM").Create("", width, height, bands, gdal_type(data.dtype))
        self._place(target, transform)
        return target

    def _place(self, target: gdal.Dataset, transform: Sequence[float]) -> None:
        target.SetGeoTransform(list(transform))
        if self.reference is not None:
            target.SetSpatialRef(self.reference)

    def _fill(self, target: gdal.Dataset, data: np.ndarray, name: str, driver: str) -> None:
        try:
            target.WriteArray(data)
            if driver == "GTiff":
                target.FlushCache()
                return
            options = [f"QUALITY={JPEG_QUALITY}"] if driver == "JPEG" else ["ZLEVEL=1"]
            written = gdal.GetDriverByName(driver).CreateCopy(
                self._free(name), target, options=["WORLDFILE=YES", *options]
            )
            written.FlushCache()
        except RuntimeError as error:
            raise ResourceError(
                f"A chip could not be written to {self.folder.parent} ({error}).",
                "Free some disk space, or choose another folder.",
            ) from error


def check_format(chip_format: str, bands: int, dtype: np.dtype[Any], nodata: Optional[float]) -> None:
    """Check that chips can be stored losslessly in a format.

    Raises:
        InputError: They cannot.
    """
    if chip_format == "GTiff":
        return
    types = (np.uint8, np.uint16) if chip_format == "PNG" else (np.uint8,)
    words = "type uint8 or uint16" if chip_format == "PNG" else "type uint8"
    if bands not in (1, 3) or dtype not in types:
        raise InputError(
            f"{chip_format} supports 1 or 3 bands of {words}, but the images have {bands} of {dtype.name}.",
            "Choose other BANDS, or set CHIP_FORMAT to GTiff.",
        )
    if chip_format == "JPEG" and nodata is not None:
        raise InputError(
            f"JPEG compression changes pixel values, so the nodata value {nodata:g} would be lost.",
            "Set CHIP_FORMAT to GTiff or PNG.",
        )
