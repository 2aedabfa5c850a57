"""Writes chips and their index; the counterpart of `dataset.open_dataset`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

import numpy as np
from osgeo import gdal, ogr

from ..classes import ClassTable
from ..errors import ResourceError
from ..raster_io import gdal_type, spatial_reference
from ..windows import Grid, Window
from .dataset import CHIP_FIELDS, SPLITS

# Images are read in every epoch, and hardly shrink; labels shrink to nothing.
IMAGE_OPTIONS = ["INTERLEAVE=BAND"]
LABEL_OPTIONS = ["COMPRESS=DEFLATE", "ZLEVEL=1"]
FEATURES_A_TRANSACTION = 20_000


class ChipFiles:
    """Writes the image and label files of chips; safe to use from several threads.

    Args:
        folder: The dataset's folder, with `images` and `labels` in it.
        crs: Of all chips, WKT; "" for none.
        band_names: Written as band descriptions.
        nodata: Of the images; None for none.
        classes: Give the label chips their colours.
        label_nodata: Of the label chips.
    """

    def __init__(
        self,
        folder: Path,
        crs: str,
        band_names: Sequence[str],
        nodata: Optional[float],
        classes: ClassTable,
        label_nodata: int,
    ) -> None:
        self.folder, self.band_names, self.nodata, self.label_nodata = folder, band_names, nodata, label_nodata
        self.reference = spatial_reference(crs)
        self.colors: Optional[gdal.ColorTable] = None
        if classes.mask_dtype(label_nodata) == np.uint8:
            self.colors = gdal.ColorTable()
            for info in classes.classes:
                self.colors.SetColorEntry(info.value, (*info.rgb, 255))
        for name in ("images", "labels"):
            (folder / name).mkdir()

    def write_image(self, name: str, data: np.ndarray, transform: Sequence[float]) -> None:
        """Write (C, H, W) data as `images/<name>`."""
        target = self._create(f"images/{name}", data, transform, IMAGE_OPTIONS, self.nodata)
        for number, description in enumerate(self.band_names, start=1):
            target.GetRasterBand(number).SetDescription(description)
        self._fill(target, data)

    def write_label(self, name: str, mask: np.ndarray, transform: Sequence[float]) -> None:
        """Write an (H, W) mask of class values as `labels/<name>`."""
        target = self._create(f"labels/{name}", mask[None], transform, LABEL_OPTIONS, self.label_nodata)
        if self.colors is not None:
            target.GetRasterBand(1).SetColorTable(self.colors)
        self._fill(target, mask)

    def _create(
        self, name: str, data: np.ndarray, transform: Sequence[float], options: list[str], nodata: Optional[float]
    ) -> gdal.Dataset:
        bands, height, width = data.shape
        path = str(self.folder / name)
        target = gdal.GetDriverByName("GTiff").Create(path, width, height, bands, gdal_type(data.dtype), options)
        target.SetGeoTransform(list(transform))
        if self.reference is not None:
            target.SetSpatialRef(self.reference)
        if nodata is not None:
            target.GetRasterBand(1).SetNoDataValue(nodata)  # a GeoTIFF has one for all bands
        return target

    def _fill(self, target: gdal.Dataset, data: np.ndarray) -> None:
        try:
            target.WriteArray(data)
            target.FlushCache()
        except RuntimeError as error:
            raise ResourceError(
                f"A chip could not be written to {self.folder.parent} ({error}).",
                "Make room on the disk, or choose another folder.",
            ) from error


class ChipIndex:
    """Writes `chips.gpkg`: first one row a chip, then, when all is known, each block's split.

    Args:
        path: The GeoPackage to make.
        crs: WKT; "" for none.
        classes: Give the names of the columns with pixel counts.
    """

    def __init__(self, path: Path, crs: str, classes: ClassTable) -> None:
        # Rewritten from the start after a crash, so it need not be safe against one: much faster.
        gdal.SetThreadLocalConfigOption("OGR_SQLITE_SYNCHRONOUS", "OFF")
        try:
            self.source = gdal.GetDriverByName("GPKG").Create(str(path), 0, 0, 0, gdal.GDT_Unknown)
        finally:
            gdal.SetThreadLocalConfigOption("OGR_SQLITE_SYNCHRONOUS", None)
        self.layer = self.source.CreateLayer("chips", spatial_reference(crs), ogr.wkbPolygon)
        for name, kind in CHIP_FIELDS.items():
            self.layer.CreateField(ogr.FieldDefn(name, kind))
        self.columns = [f"pixels_{value}" for value in classes.values.tolist()]
        for name in self.columns:
            self.layer.CreateField(ogr.FieldDefn(name, ogr.OFTInteger64))
        self.definition = self.layer.GetLayerDefn()
        self.count = 0
        self.source.StartTransaction()

    def add(self, grid: Grid, window: Window, values: dict[str, Any], pixels: np.ndarray) -> None:
        """Add a chip's row: its window in its source's grid, `CHIP_FIELDS`, and (C,) pixels per class."""
        feature = ogr.Feature(self.definition)
        for name, value in values.items():
            feature.SetField(name, value)
        for name, value in zip(self.columns, pixels.tolist()):
            feature.SetField(name, value)
        left, bottom, right, top = grid.bounds_of(window)
        ring = f"{left!r} {bottom!r},{right!r} {bottom!r},{right!r} {top!r},{left!r} {top!r},{left!r} {bottom!r}"
        feature.SetGeometryDirectly(ogr.CreateGeometryFromWkt(f"POLYGON(({ring}))"))
        self.layer.CreateFeature(feature)
        self.count += 1
        if self.count % FEATURES_A_TRANSACTION == 0:
            self.source.CommitTransaction()
            self.source.StartTransaction()

    def set_splits(self, splits: dict[int, int]) -> None:
        """Write the split of every chip; `splits` maps each block to its place in `SPLITS`."""
        self.source.ExecuteSQL("CREATE TEMP TABLE block_splits (block INTEGER PRIMARY KEY, split TEXT)")
        for block, split in splits.items():
            self.source.ExecuteSQL(f"INSERT INTO block_splits VALUES ({block:d}, '{SPLITS[split]}')")
        self.source.ExecuteSQL(
            'UPDATE chips SET "split" = (SELECT "split" FROM block_splits WHERE block_splits.block = chips.block)'
        )

    def __enter__(self) -> ChipIndex:
        return self

    def __exit__(self, *error: object) -> None:
        self.source.CommitTransaction()
        self.layer = self.definition = self.source = None
