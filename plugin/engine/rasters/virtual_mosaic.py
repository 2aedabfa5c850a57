"""Mosaics of several rasters, as VRT text that GDAL opens like a path."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
from osgeo import gdal

from ..windows import Grid, Window
from ..xml_elements import Element, SubElement, tostring
from .raster_io import RasterInfo, can_hold, gdal_type, spatial_reference
from .stored import Stored, plain_text


@dataclass(frozen=True)
class Piece:
    """A raster aligned with the pixels of a mosaic."""

    source: str
    window: Window  # in the mosaic's grid; may extend beyond it
    bands: tuple[int, ...]
    dtype: np.dtype[Any]
    types: tuple[str, ...]  # GDAL's name of each band's data type
    nodata: tuple[Optional[float], ...]
    masked: bool
    block: tuple[int, int]

    @classmethod
    def of(cls, stored: Stored, shift: tuple[int, int]) -> Piece:
        """Make a piece of a raster whose first pixel falls on the column and row `shift`."""
        info = stored.info
        window = Window(*shift, info.grid.width, info.grid.height)
        source = plain_text(stored)
        bands = info.bands if source == stored.source else tuple(range(1, len(info.bands) + 1))
        return cls(source, window, bands, info.dtype, stored.types, info.nodata, bool(stored.mask), stored.block)


def mosaic(pieces: Sequence[Piece], grid: Grid, crs: str, like: RasterInfo) -> str:
    """The VRT text of a mosaic; where pieces overlap, the last one with data is on top.

    A band's nodata value is that of the first piece that has one, or NaN for floats. Bands without one get a mask of
    the pixels that are covered.

    Args:
        pieces: The rasters, in drawing order.
        grid: The mosaic's grid.
        crs: The mosaic's CRS, as WKT.
        like: Gives the band names and the data type.
    """
    root = Element("VRTDataset", rasterXSize=str(grid.width), rasterYSize=str(grid.height))
    reference = spatial_reference(crs)
    if reference is not None:
        axes = ",".join(map(str, reference.GetDataAxisToSRSAxisMapping()))
        SubElement(root, "SRS", dataAxisToSRSAxisMapping=axes).text = crs
    SubElement(root, "GeoTransform").text = ", ".join(map(repr, grid.geotransform(grid.window)))
    type_name = gdal.GetDataTypeName(gdal_type(like.dtype))
    nodata = [_band_nodata(pieces, place, like.dtype) for place in range(len(like.band_names))]
    for place, name in enumerate(like.band_names):
        band = SubElement(root, "VRTRasterBand", dataType=type_name, band=str(place + 1))
        SubElement(band, "Description").text = name
        if nodata[place] is not None:
            SubElement(band, "NoDataValue").text = repr(nodata[place])
        for piece in pieces:
            _add_values(band, piece, place)
    if None in nodata and (any(piece.masked for piece in pieces) or not covers(grid, pieces)):
        mask = SubElement(SubElement(root, "MaskBand"), "VRTRasterBand", dataType="Byte")
        for piece in pieces:
            source = _add_source(mask, "ComplexSource", piece, nodata.index(None), "mask,")
            SubElement(source, "NODATA").text = "0"
    return tostring(root, encoding="unicode")


def covers(grid: Grid, pieces: Sequence[Piece]) -> bool:
    """Return whether the pieces cover every pixel of the grid."""
    inside = [piece.window.intersection(grid.window) for piece in pieces]
    cols = np.unique([0, grid.width, *(edge for part in inside for edge in (part.col_off, part.col_end))])
    rows = np.unique([0, grid.height, *(edge for part in inside for edge in (part.row_off, part.row_end))])
    covered = np.zeros((len(rows) - 1, len(cols) - 1), bool)
    for part in inside:
        first_row, end_row = np.searchsorted(rows, (part.row_off, part.row_end))
        first_col, end_col = np.searchsorted(cols, (part.col_off, part.col_end))
        covered[first_row:end_row, first_col:end_col] = True
    return bool(covered.all())


def _band_nodata(pieces: Sequence[Piece], place: int, dtype: np.dtype[Any]) -> Optional[float]:
    for piece in pieces:
        value = piece.nodata[place]
        if value is not None and can_hold(dtype, value):
            return value
    return math.nan if dtype.kind == "f" else None


def _add_values(band: Element, piece: Piece, place: int) -> None:
    nodata = piece.nodata[place]
    if nodata is not None and not can_hold(piece.dtype, nodata):
        nodata = None
    if nodata is None and piece.dtype.kind == "f":
        nodata = math.nan
    kind = "SimpleSource" if nodata is None and not piece.masked else "ComplexSource"
    source = _add_source(band, kind, piece, place)
    if piece.masked:
        SubElement(source, "UseMaskBand").text = "true"
    if nodata is not None:
        SubElement(source, "NODATA").text = repr(nodata)


def _add_source(band: Element, kind: str, piece: Piece, place: int, prefix: str = "") -> Element:
    source = SubElement(band, kind)
    SubElement(source, "SourceFilename", relativeToVRT="0").text = piece.source
    SubElement(source, "SourceBand").text = f"{prefix}{piece.bands[place]}"
    width, height = str(piece.window.width), str(piece.window.height)
    # With these GDAL opens a piece only when it is read, and closes it when too many files are open.
    SubElement(
        source, "SourceProperties", RasterXSize=width, RasterYSize=height, DataType=piece.types[place],
        BlockXSize=str(piece.block[0]), BlockYSize=str(piece.block[1]),
    )  # fmt: skip
    SubElement(source, "SrcRect", xOff="0", yOff="0", xSize=width, ySize=height)
    col_off, row_off = str(piece.window.col_off), str(piece.window.row_off)
    SubElement(source, "DstRect", xOff=col_off, yOff=row_off, xSize=width, ySize=height)
    return source
