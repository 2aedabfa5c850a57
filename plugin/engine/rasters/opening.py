"""Opening rasters with GDAL, and the words on those that cannot be used."""

from __future__ import annotations

from collections.abc import Sequence

from osgeo import gdal

from ..errors import InputError

gdal.UseExceptions()

# Layers from a web map service hold pictures at one zoom level, no measured values.
UNKNOWN_FORMAT = "not recognized as"  # in GDAL's words
WEB_DRIVERS = ("WMS", "WMTS", "WCS", "OGCAPI", "PLMOSAIC", "NGW")
# Where QGIS shows a raster that lies nowhere: a unit a pixel, downwards from the origin.
NO_GEOTRANSFORM = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)


def open_raster(source: str, name: str = "") -> gdal.Dataset:
    """Open a raster whose pixels run along the axes of its CRS; `virtual.on_grid` makes one of any other.

    Raises:
        InputError: As `open_any_raster`, or its pixels are rotated, or placed by ground control points only.
    """
    dataset = open_any_raster(source, name)
    if not is_upright(dataset):
        how = "placed by ground control points" if dataset.GetGCPCount() else "rotated against its CRS"
        raise InputError(f"The pixels of {name or source} are {how}.", "Warp it to a north-up raster first.")
    return dataset


def open_any_raster(source: str, name: str = "") -> gdal.Dataset:
    """Open a raster for reading, however its pixels lie.

    Args:
        source: What GDAL opens.
        name: What messages call it, if not by its path.

    Raises:
        InputError: GDAL cannot open it, it has no bands, holds nothing but complex numbers, or is a map service.
    """
    name = name or source
    try:
        dataset = gdal.OpenEx(source, gdal.OF_RASTER | gdal.OF_VERBOSE_ERROR)
    except RuntimeError as error:
        remedy = "Check that the file is there and whole."
        if UNKNOWN_FORMAT in str(error):
            remedy = (
                "Check that the file is whole. If QGIS shows it, save it as a GeoTIFF: the GDAL of the worker's Python "
                "may read fewer formats than QGIS's."
            )
        raise InputError(f"The raster {name} cannot be opened ({error}).", remedy) from error
    driver = dataset.GetDriver().ShortName
    if driver in WEB_DRIVERS:
        raise InputError(
            f"{name} is a web map ({driver}), whose pictures change with the zoom level.",
            "Save it as a GeoTIFF at the pixel size that you want, and use that.",
        )
    if dataset.RasterCount == 0:
        raise _no_bands(name, dataset)
    if all(gdal.DataTypeIsComplex(dataset.GetRasterBand(band + 1).DataType) for band in range(dataset.RasterCount)):
        raise complex_error(name, dataset, 1)
    if dataset.GetGeoTransform(can_return_null=True) is None and not dataset.GetGCPCount():
        return _placed_by_pixels(dataset)
    return dataset


def _placed_by_pixels(dataset: gdal.Dataset) -> gdal.Dataset:
    """A raster without a place in the world where QGIS shows it; GDAL's own default would have it upside down."""
    placed = gdal.Translate("", dataset, format="VRT")
    placed.SetGeoTransform(NO_GEOTRANSFORM)
    return gdal.Open(virtual_text(placed))


def virtual_text(dataset: gdal.Dataset) -> str:
    """The text that GDAL opens as the same virtual raster; every raster in it must be open by path or text."""
    return str(dataset.GetMetadata("xml:VRT")[0])


def with_nodata(source: str, nodata: float, name: str = "", bands: Sequence[int] = ()) -> str:
    """The text of a virtual raster: another's bands, all or some, with this nodata value instead of their own.

    Raises:
        InputError: As `open_any_raster`.
    """
    options = {"bandList": list(bands)} if bands else {}
    return virtual_text(gdal.Translate("", open_any_raster(source, name), format="VRT", noData=nodata, **options))


def _no_bands(name: str, dataset: gdal.Dataset) -> InputError:
    inside = [address for address, _ in dataset.GetSubDatasets()]
    if not inside:
        return InputError(f"{name} holds no raster bands.", "Choose another raster.")
    shown = ", ".join(inside[:5]) + (f" … {len(inside)} in all" if len(inside) > 5 else "")
    return InputError(f"{name} is a container of several rasters.", f"Choose one of them: {shown}.")


def complex_error(name: str, dataset: gdal.Dataset, band: int) -> InputError:
    """The error for a band of complex numbers."""
    kind = gdal.GetDataTypeName(dataset.GetRasterBand(band).DataType)
    return InputError(
        f"Band {band} of {name} holds complex numbers ({kind}).",
        "Derive amplitude or phase bands first, or choose other bands with BANDS.",
    )


def is_upright(dataset: gdal.Dataset) -> bool:
    """Whether the rows run along the x axis and the columns along y, in either direction."""
    found = dataset.GetGeoTransform(can_return_null=True)
    if found is None:
        return False
    return abs(found[2]) <= 1e-9 * abs(found[1]) and abs(found[4]) <= 1e-9 * abs(found[5])
