"""How a camera was held: EXIF says how pixels are to be turned so that up is up; GDAL leaves them as they are."""

from __future__ import annotations

import numpy as np
from osgeo import gdal

UPRIGHT = 1


def orientation_of(image: gdal.Dataset) -> int:
    """EXIF's number for an open image, from 1 to 8; 1, for pixels that lie as they should, where it says nothing.

    What has a place on the ground has it as its pixels are stored.
    """
    if image.GetGeoTransform(can_return_null=True) is not None:
        return UPRIGHT
    text = str(image.GetMetadataItem("EXIF_Orientation") or "").strip()
    return int(text) if text in tuple("12345678") else UPRIGHT


def lies_on_its_side(orientation: int) -> bool:
    """Whether the rows of the pixels are columns of the image."""
    return orientation >= 5


def upright(data: np.ndarray, orientation: int) -> np.ndarray:
    """(C, H, W) pixels as stored → (C, H, W) or (C, W, H) as they are to be seen; a view."""
    if lies_on_its_side(orientation):
        data = data.transpose(0, 2, 1)
    if orientation in (3, 4, 7, 8):
        data = data[:, ::-1]
    if orientation in (2, 3, 6, 7):
        data = data[:, :, ::-1]
    return data
