"""Opening rasters with GDAL, with clear errors for those that cannot be used."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from osgeo import gdal

from ..errors import InputError, without_key
from ..strangers.elsewhere import check_here

gdal.UseExceptions()

ASK_SERVER = "Check that the server answers, or copy the raster to this computer."
UNKNOWN_FORMAT = "not recognized as"  # part of GDAL's message
# Layers from web map services hold rendered images for one zoom level, not measured values.
WEB_DRIVERS = ("WMS", "WMTS", "WCS", "OGCAPI", "PLMOSAIC", "NGW")
# The metadata item of rasters made for a job, with the name shown to the user.
NAME_ITEM = "TERRAZZO_NAME"
LONGEST_NAME = 200  # letters
# QGIS shows a raster without a geotransform with its top left corner at the origin and pixels of one unit.
NO_GEOTRANSFORM = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)


def open_raster(source: str, name: str = "") -> gdal.Dataset:
    """Open a raster whose pixels are aligned with the axes of its CRS; `virtual.on_grid` converts others.

    Raises:
        InputError: As `open_any_raster`, or the raster is rotated, or placed by ground control points only.
    """
    dataset = open_any_raster(source, name)
    if not is_upright(dataset):
        how = "placed by ground control points" if dataset.GetGCPCount() else "rotated against its CRS"
        raise InputError(f"The pixels of {name or source} are {how}.", "Warp it to a north-up raster first.")
    return dataset


def open_any_raster(source: str, name: str = "") -> gdal.Dataset:
    """Open a raster for reading, whether or not its pixels are aligned with the axes.

    Args:
        source: The path or VRT text that GDAL opens.
        name: The name used in messages; "" for the path.

    Raises:
        InputError: GDAL cannot open it, or it has no bands, only complex bands, is a web map service, or is a file
            that leads to a server.
    """
    name = name or without_key(source)
    if not source.startswith("<"):  # a text made of sources that were checked
        check_here(source, name)
    try:
        dataset = gdal.OpenEx(source, gdal.OF_RASTER | gdal.OF_VERBOSE_ERROR)
    except RuntimeError as error:
        remedy = ASK_SERVER if "://" in name else "Check that the file exists and is intact."
        if UNKNOWN_FORMAT in str(error):
            remedy = (
                "Check that the file is intact. If QGIS can show it, save it as a GeoTIFF: the GDAL of the "
                "worker's Python may read fewer formats than QGIS's."
            )
        raise InputError(f"The raster {name} cannot be opened ({without_key(str(error))}).", remedy) from None
    driver = dataset.GetDriver().ShortName
    if driver in WEB_DRIVERS:
        raise InputError(
            f"{name} is a web map ({driver}), whose images change with the zoom level.",
            "Save it as a GeoTIFF with the pixel size that you need, and use that.",
        )
    if dataset.RasterCount == 0:
        raise _no_bands(name, dataset)
    if all(gdal.DataTypeIsComplex(dataset.GetRasterBand(band + 1).DataType) for band in range(dataset.RasterCount)):
        raise complex_error(name, dataset, 1)
    if dataset.GetGeoTransform(can_return_null=True) is None and not dataset.GetGCPCount():
        return _placed_by_pixels(dataset)
    return dataset


def files_behind(paths: Iterable[str]) -> list[str]:
    """Return files of rasters, and those that the virtual rasters among them are made of.

    Raises:
        InputError: As `open_any_raster`.
    """
    found: dict[str, None] = {}
    waiting = list(paths)
    while waiting:
        path = waiting.pop()
        if path not in found and path.lower().endswith(".vrt") and gdal.VSIStatL(path) is not None:
            waiting += open_any_raster(path).GetFileList() or ()
        found[path] = None
    return list(found)


def name_of(dataset: gdal.Dataset, source: str) -> str:
    """The name of a raster that is shown to the user: its path, unless it was made for a job."""
    return (dataset.GetMetadataItem(NAME_ITEM) or "")[:LONGEST_NAME] or without_key(source)


def _placed_by_pixels(dataset: gdal.Dataset) -> gdal.Dataset:
    """Place a raster without georeference where QGIS shows it; with GDAL's default it would be upside down."""
    placed = gdal.Translate("", dataset, format="VRT")
    placed.SetGeoTransform(NO_GEOTRANSFORM)
    return gdal.Open(virtual_text(placed))


def virtual_text(dataset: gdal.Dataset) -> str:
    """The XML of a virtual raster, which GDAL opens like a path; all its sources must be paths or such texts."""
    return str(dataset.GetMetadata("xml:VRT")[0])


def with_nodata(source: str, nodata: float, name: str = "", bands: Sequence[int] = ()) -> str:
    """The VRT text of a raster, or of some of its bands, with another nodata value.

    Raises:
        InputError: As `open_any_raster`.
    """
    options = {"bandList": list(bands)} if bands else {}
    return virtual_text(gdal.Translate("", open_any_raster(source, name), format="VRT", noData=nodata, **options))


def _no_bands(name: str, dataset: gdal.Dataset) -> InputError:
    inside = [address for address, _ in dataset.GetSubDatasets()]
    if not inside:
        return InputError(f"{name} holds no raster bands.", "Choose another raster.")
    shown = ", ".join(inside[:5]) + (f", … ({len(inside)} in total)" if len(inside) > 5 else "")
    return InputError(f"{name} contains several rasters.", f"Choose one of them: {shown}.")


def complex_error(name: str, dataset: gdal.Dataset, band: int) -> InputError:
    """The error for a band of complex numbers."""
    kind = gdal.GetDataTypeName(dataset.GetRasterBand(band).DataType)
    return InputError(
        f"Band {band} of {name} holds complex numbers ({kind}).",
        "Compute amplitude or phase bands first, or choose other bands with BANDS.",
    )


def is_upright(dataset: gdal.Dataset) -> bool:
    """Return whether rows are parallel to the x axis and columns to the y axis, in either direction."""
    found = dataset.GetGeoTransform(can_return_null=True)
    if found is None:
        return False
    return abs(found[2]) <= 1e-9 * abs(found[1]) and abs(found[4]) <= 1e-9 * abs(found[5])
