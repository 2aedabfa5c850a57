"""Parameters of what is written of a map, and how those results are shown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from qgis.core import (
    QgsProcessingContext,
    QgsProcessingOutputDefinition,
    QgsProcessingOutputNumber,
    QgsProcessingOutputString,
)

from ..plugin.translation import tr
from .algorithm import TerrazzoAlgorithm
from .answer_parameters import WishedPolygons, WishedTable
from .parameters import OutputRaster, Row, Setting


def sure_rows() -> list[Row]:
    """Return the rows of rasters that tell how sure the network is."""
    return [
        OutputRaster("CONFIDENCE", tr("Output: confidence"), tr(
            "A GeoTIFF with the probability of the likeliest class of each pixel, from 1 / number of classes to 1."),
            optional=True),
        OutputRaster("ENTROPY", tr("Output: entropy"), tr(
            "A GeoTIFF with the entropy of the probabilities, divided by its largest possible value: 0 where the "
            "network is certain, 1 where all classes are equally likely."), optional=True),
        OutputRaster("MARGIN", tr("Output: margin"), tr(
            "A GeoTIFF with the probability of the likeliest class less that of the second: 0 where two classes are "
            "equally likely."), optional=True),
    ]  # fmt: skip


def measure_rows() -> list[Row]:
    """Return the rows of rasters that tell how sure a network, or an ensemble, is."""
    return [
        *sure_rows(),
        OutputRaster("DISAGREEMENT", tr("Output: disagreement"), tr(
            "Of an ensemble, a GeoTIFF with the part of the entropy that is there because the models contradict each "
            "other: 0 where they all say the same. High values show ground that the training did not have."),
            optional=True),
    ]  # fmt: skip


def region_rows() -> list[Row]:
    """Return the rows of polygons and areas of classes."""
    return [
        WishedPolygons("POLYGONS", tr("Output: polygons"), tr(
            "A GeoPackage with a polygon for each region of the class raster: value and name of its class, and its "
            "area on the ground, in the colours of the classes."), optional=True),
        WishedTable("AREAS", tr("Output: areas of classes"), tr(
            "A table (.csv, .gpkg or .geojson) with a row per class: its pixels, its share of the mapped ground, and "
            "its area on the ground in hectares."), optional=True),
        Setting("POLYGON_CLASSES", tr("Polygons: classes"), tr(
            "Only regions of these classes become polygons: values or names, separated by commas. Empty: all."),
            optional=True, advanced=True),
        Setting("MIN_POLYGON_AREA", tr("Polygons: minimum area"), tr(
            "Smaller polygons are left out. In the area unit."), optional=True, advanced=True),
        Setting("FILL_HOLES", tr("Polygons: fill holes below"), tr(
            "Holes with a smaller area are filled, also where another class lies in them. In the area unit."),
            optional=True, advanced=True),
        Setting("SIMPLIFY", tr("Polygons: simplify (pixels)"), tr(
            "How far borders may be from the edges of pixels; 1 removes the stairs. Neighbours keep their common "
            "border; what is thinner vanishes."), optional=True, advanced=True, decimals=2),
    ]  # fmt: skip


def confidence_row() -> Row:
    """Return the row of the least confidence of a class."""
    return Setting("MIN_CONFIDENCE", tr("Classes: minimum confidence"), tr(
        "0 to 1. Pixels whose likeliest class has a smaller probability become nodata in the class raster."),
        optional=True, advanced=True, decimals=3)  # fmt: skip


def refining_rows() -> list[Row]:
    """Return the rows of what is done to a raster of classes."""
    return [
        Setting("MAJORITY_FILTER", tr("Classes: majority filter"), tr(
            "Each pixel gets the most frequent class of the square of this side in pixels around it; an odd number. "
            "Pixels without a class do not count and stay without."), optional=True, advanced=True),
        Setting("MIN_MAPPING_UNIT", tr("Classes: minimum mapping unit"), tr(
            "Regions that are smaller join their largest neighbour (sieve). In the area unit."),
            optional=True, advanced=True),
        Setting("AREA_UNIT", tr("Classes: area unit"), tr(
            "The unit of the minimum mapping unit, and of the areas of polygons and holes. Square metres and hectares "
            "are measured on the ground, in any CRS; for the minimum mapping unit, with the pixel in the middle of the "
            "map."), optional=True, advanced=True),
        Setting("CONNECTEDNESS", tr("Classes: connectedness"), tr(
            "Which pixels of a class are one region."), optional=True, advanced=True),
    ]  # fmt: skip


def raster_rows() -> list[Row]:
    """Return the rows of how the rasters of a map are stored."""
    return [
        Setting("PROBABILITY_TYPE", tr("Rasters: type of probabilities"), tr(
            "How probabilities, confidence, entropy and margin are stored."), optional=True, advanced=True),
        *form_rows(),
    ]  # fmt: skip


def form_rows() -> list[Row]:
    """Return the rows of the kind of files."""
    return [
        Setting("RASTER_FORMAT", tr("Rasters: format"), tr(
            "The kind of GeoTIFF."), optional=True, advanced=True),
        Setting("OVERVIEWS", tr("Rasters: overviews"), tr(
            "Write smaller copies into the files, so that large rasters are drawn at once: of classes the most "
            "frequent one, of numbers the mean."), optional=True, advanced=True),
    ]  # fmt: skip


def resume_row() -> Row:
    """Return the row of whether an interrupted map is continued."""
    return Setting("RESUME", tr("Resume an interrupted map"), tr(
        "Goes on from the finished pieces that a job with the same settings has left beside the map, if there are any; "
        "it ends with the same map as if it had not been interrupted."), optional=True, advanced=True)  # fmt: skip


def area_outputs() -> list[QgsProcessingOutputDefinition]:
    """Return the outputs of how much was mapped, and of each class."""
    return [
        QgsProcessingOutputNumber("HECTARES", tr("Mapped hectares")),
        QgsProcessingOutputString("CLASS_HECTARES", tr("Hectares of each class (JSON)")),
        QgsProcessingOutputString("CLASS_PIXELS", tr("Pixels of each class (JSON)")),
    ]


def area_results(maps: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the values of `area_outputs`, of all maps of a job together.

    Args:
        maps: The result of each. Hectares are None where the ground of one of them is not known.
    """
    hectares: dict[str, Optional[float]] = {}
    pixels: dict[str, int] = {}
    for row in (row for one in maps for row in one["classes"]):  # two classes may have the same name
        earlier, own = hectares.get(row["name"], 0.0), row["hectares"]
        hectares[row["name"]] = None if earlier is None or own is None else earlier + own
        pixels[row["name"]] = pixels.get(row["name"], 0) + row["pixels"]
    known = [size for size in hectares.values() if size is not None]
    whole = bool(known) and len(known) == len(hectares)
    return {
        "HECTARES": sum(known) if whole else None,
        "CLASS_HECTARES": json.dumps(hectares, ensure_ascii=False) if whole else None,
        "CLASS_PIXELS": json.dumps(pixels, ensure_ascii=False),
    }


def show_results(
    algorithm: TerrazzoAlgorithm, found: Mapping[str, Any], name: str, context: QgsProcessingContext
) -> None:
    """Name and style polygons and areas, and the rasters that tell how sure the network is, below the class raster.

    Args:
        algorithm: The algorithm that wrote them.
        found: The paths by output.
        name: Name of the class raster.
        context: The processing context.
    """
    from .answer_styles import Titles
    from .looks import SavedStyle
    from .showing import keep_below

    algorithm.show(found.get("polygons"), tr("{}, polygons").format(name), SavedStyle(), context)
    algorithm.show(found.get("areas"), tr("{}, areas").format(name), Titles({}), context)
    titles = {"confidence": tr("{}, confidence"), "entropy": tr("{}, entropy"), "margin": tr("{}, margin"),
              "disagreement": tr("{}, disagreement")}  # fmt: skip
    for measure, title in titles.items():
        source, classes = found.get(measure), found["output"]
        algorithm.show(source, title.format(name), SavedStyle(), context)
        if source and classes and context.willLoadLayerOnCompletion(classes):
            keep_below(source, classes, context)
