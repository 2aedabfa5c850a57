"""Untrusted images: opened by drivers that read no other file, and refused by their header if too large.

GDAL looks for files beside an image, and opens overviews and masks there with any driver that fits, such as a virtual
raster that names any file. So GDAL is given a list of these files: georeference files, if they are harmless, and
nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from osgeo import gdal

from ..errors import InputError
from ..files import SIDECARS, readable_size
from .crs import fault_of_crs
from .paths import check_plain, inside, is_plain, read_bytes
from .texts import LARGEST_XML, parse_xml

gdal.UseExceptions()

# Drivers that read only the file that they are given; a VRT, for example, can name any other.
DRIVERS = ("GTiff", "PNG", "JPEG", "BMP", "WEBP")
# The formats of a chip dataset, and the suffixes of their world files.
KEPT = {"GTiff": ".tfw", "PNG": ".pgw", "JPEG": ".jgw"}
ENDINGS = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp", ".webp", ".mrf")
WORLD_FILES = (*KEPT.values(), ".wld")
LARGEST_SIDE = 16384  # pixels; larger images are not chips
LARGEST_PIXELS, LARGEST_BYTES = 2**27, 2**28  # of an image in memory
LARGEST_BLOCK = 2**26  # bytes, for a chip smaller than a block
STRICT_JPEG = "GDAL_ERROR_ON_LIBJPEG_WARNING"
HARMLESS = "extraneous bytes before marker"  # some cameras write them; no pixel is lost

# The elements of MRF files that are allowed; all others (cached source, server) lead elsewhere. GDAL ignores case, and
# treats attributes like elements.
MRF_WORDS = frozenset((
    "mrf_meta", "raster", "size", "x", "y", "z", "c", "l", "pagesize", "compression", "datatype", "datavalues",
    "nodata", "min", "max", "quality", "photometric", "orientation", "options", "rsets", "model", "scale", "geotags",
    "boundingbox", "minx", "miny", "maxx", "maxy", "projection", "datafile", "indexfile", "offset", "palette",
    "entry", "mp_safe", "versioned", "idx", "c1", "c2", "c3", "c4",
))  # fmt: skip
MRF_DATA = (".idx", ".ppg", ".pjg", ".pjp", ".til", ".pzp", ".pzz", ".ptf", ".lrc", ".pq3")


class Unreadable(InputError):
    """Raised if a file is missing or damaged; other files of the folder may be fine."""


@contextmanager
def readable(path: str | Path) -> Iterator[None]:
    """Convert GDAL's errors while it reads a file to `Unreadable`."""
    try:
        yield
    except (RuntimeError, OSError) as error:
        raise Unreadable(f"The image {path} cannot be read ({error}).", "Check that the file is intact.") from error


def open_image(path: Path) -> gdal.Dataset:
    """Open an image together with its georeference files.

    Args:
        path: A path returned by `inside`.

    Raises:
        Unreadable: The file is missing, damaged or in another format.
        InputError: The file refers to another one, or is very large.
    """
    with readable(path):
        if path.suffix.lower() == ".mrf":
            _check_mrf(path)
            image = _open(path, ["MRF"], [])
        else:
            image = _open(path, DRIVERS, _sidecars(path))
        width, height = image.RasterXSize, image.RasterYSize
        size = width * height * pixel_bytes(image)
    if max(width, height) > LARGEST_SIDE or width * height > LARGEST_PIXELS or size > LARGEST_BYTES:
        raise InputError(
            f"The image {path} has {width} × {height} pixels ({readable_size(size)}), too many for a chip.",
            "Cut chips from it with “Export training chips”.",
        )
    _check_blocks(image, path, LARGEST_BYTES)
    return image


def read_chip(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """Read all bands of a dataset's chip as stored: (B, H, W); its georeference is ignored.

    Raises:
        InputError: The file is missing, damaged, or has another shape.
    """
    try:
        image = _open(path, tuple(KEPT), [])
        found = image.RasterCount, image.RasterYSize, image.RasterXSize
        if found != shape:
            raise InputError(
                f"The chip {path} has {found[0]} bands of {found[2]} × {found[1]} pixels, "
                f"but its dataset says {shape[0]} of {shape[2]} × {shape[1]}.",
                "Export the chips again.",
            )
        _check_blocks(image, path, max(LARGEST_BLOCK, 4 * found[1] * found[2] * pixel_bytes(image)))
        data: np.ndarray = image.ReadAsArray()
    except (RuntimeError, OSError) as error:
        raise InputError(f"The chip {path} cannot be read ({error}).", "Export the chips again.") from error
    return data if data.ndim == 3 else data[None]


def _open(path: Path, drivers: Sequence[str], siblings: Sequence[str]) -> gdal.Dataset:
    check_plain(path)
    for ending in SIDECARS:  # GDAL may open these even if they are not siblings
        if Path(f"{path}{ending}").is_symlink():
            raise OSError(f"{path.name}{ending} is a link")
    image = gdal.OpenEx(
        str(path.absolute()), gdal.OF_RASTER | gdal.OF_VERBOSE_ERROR, allowed_drivers=list(drivers),
        sibling_files=[path.name, *siblings],
    )  # fmt: skip
    if image.RasterCount == 0:
        raise RuntimeError("it has no bands")
    return image


def pixel_bytes(image: gdal.Dataset) -> int:
    """The bytes of a pixel in memory, over all bands."""
    return image.RasterCount * max(1, gdal.GetDataTypeSize(image.GetRasterBand(1).DataType) // 8)


def _check_blocks(image: gdal.Dataset, path: Path, most: int) -> None:
    """Refuse large blocks, since GDAL decodes a whole block for any pixel in it."""
    width, height = image.GetRasterBand(1).GetBlockSize()
    size = width * height * pixel_bytes(image)
    if size > most:
        raise InputError(
            f"The image {path} is stored in blocks of {width} × {height} pixels ({readable_size(size)} each).",
            "Save it with smaller blocks.",
        )


def read_pixels(image: gdal.Dataset, bands: Sequence[int] = ()) -> np.ndarray:
    """Read the given bands of an open image, or all: (C, H, W).

    Raises:
        Unreadable: The image is damaged.
    """
    numbers = list(bands) or None
    with readable(image.GetDescription()):
        try:
            with _no_half_jpegs():
                data: np.ndarray = image.ReadAsArray(band_list=numbers)
        except RuntimeError as error:
            if HARMLESS not in str(error):
                raise
            data = image.ReadAsArray(band_list=numbers)
    return data if data.ndim == 3 else data[None]


@contextmanager
def _no_half_jpegs() -> Iterator[None]:
    """Treat libjpeg's warnings as errors, in this thread only; else missing parts of a damaged image would be grey."""
    if not hasattr(gdal, "SetThreadLocalConfigOption"):  # GDAL before 3.4
        yield
        return
    before = gdal.GetThreadLocalConfigOption(STRICT_JPEG)
    gdal.SetThreadLocalConfigOption(STRICT_JPEG, "TRUE")
    try:
        yield
    finally:
        gdal.SetThreadLocalConfigOption(STRICT_JPEG, before)


def beside(path: Path) -> list[Path]:
    """The existing georeference files of an image that are not links."""
    endings = (*WORLD_FILES, f"{path.suffix}w") if path.suffix else WORLD_FILES
    worlds = [path.with_suffix(found) for ending in endings for found in (ending, ending.upper())]
    return [found for found in (*dict.fromkeys(worlds), Path(f"{path}.aux.xml")) if is_plain(found)]


def _sidecars(path: Path) -> list[str]:
    for found in beside(path):
        if found.suffix == ".xml":
            _check_auxiliary(found)
    return [found.name for found in beside(path)]


def _check_auxiliary(path: Path) -> None:
    """Check GDAL's auxiliary file, which may refer to overviews, masks and CRS definitions elsewhere.

    Raises:
        InputError: It refers to other files, or cannot be read.
    """
    try:
        root = parse_xml(read_bytes(path, LARGEST_XML))
    except (OSError, ValueError) as error:
        raise Unreadable(f"The file {path} cannot be read ({error}).", "Check that it is intact.") from error
    for element in root.iter():
        fault = fault_of_crs((element.text or "").strip()) if element.tag.lower() == "srs" else None
        names = {str(value).lower() for value in element.attrib.values()}
        if fault is not None or names & {"overview_file", "overviews", "subdatasets"}:
            raise InputError(f"The file {path} refers to other files.", "Remove it, or these references.")


def _check_mrf(path: Path) -> None:
    """Check an MRF file, whose data may be in another file.

    Raises:
        InputError: It refers to another file.
        Unreadable: It is damaged.
    """
    try:
        root = parse_xml(read_bytes(path, LARGEST_XML))
    except ValueError as error:
        raise Unreadable(f"The image {path} cannot be read ({error}).", "Check that the file is intact.") from error
    named = [path.with_suffix(ending).name for ending in MRF_DATA]
    for element in root.iter():
        held = {element.tag: element.text, **element.attrib}
        for word, text in ((word.lower(), (text or "").strip()) for word, text in held.items()):
            if word not in MRF_WORDS or (word == "projection" and fault_of_crs(text) and text != "LOCAL_CS"):
                raise InputError(f"{path} refers to an image elsewhere.", "Convert it to GeoTIFF with GDAL first.")
            if word in ("datafile", "indexfile") and text:
                named.append(text)
    for name in named:
        held_at = inside(path.parent, name, path)
        if held_at.exists() or held_at.is_symlink():
            check_plain(held_at)
