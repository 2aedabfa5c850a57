"""The EXIF orientation of photographs, which GDAL does not apply."""

from __future__ import annotations

import numpy as np
from osgeo import gdal

UPRIGHT = 1


def orientation_of(image: gdal.Dataset) -> int:
    """The EXIF orientation of an open image, 1 to 8; 1 (as stored) if there is none.

    Georeferenced images are always used as stored.
    """
    if image.GetGeoTransform(can_return_null=True) is not None:
        return UPRIGHT
    text = str(image.GetMetadataItem("EXIF_Orientation") or "").strip()
    return int(text) if text in tuple("12345678") else UPRIGHT


def lies_on_its_side(orientation: int) -> bool:
    """Return whether the orientation swaps rows and columns."""
    return orientation >= 5


def upright(data: np.ndarray, orientation: int) -> np.ndarray:
    """Apply an EXIF orientation: (C, H, W) to (C, H, W) or (C, W, H), as a view."""
    if lies_on_its_side(orientation):
        data = data.transpose(0, 2, 1)
    if orientation in (3, 4, 7, 8):
        data = data[:, ::-1]
    if orientation in (2, 3, 6, 7):
        data = data[:, :, ::-1]
    return data
