"""What all algorithms that divide chips into training, validation and test ask the user, and what they tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional

from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsProcessing,
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingOutputDefinition,
    QgsProcessingOutputNumber,
    QgsProcessingOutputVectorLayer,
    QgsRectangle,
)

from ..plugin.engine.errors import InputError
from .algorithm import tr
from .layer_parameters import FieldOf, Polygons
from .parameters import Parameters, Row, Setting

if TYPE_CHECKING:
    from .features import FeatureSource

AREAS_LAYER = "areas"


def split_rows(blocks: str) -> list[Row]:
    """The parameters.

    Args:
        blocks: What an empty BLOCK_SIZE means, in a word.
    """
    return [
        Setting("SPLIT_METHOD", tr("Split by"), tr(
            "What goes to training, validation or test as a whole. blocks: squares of ground; right unless you know "
            "better. areas: polygons of your own. rasters: each raster, for a test on scenes that training never saw. "
            "random: single chips; neighbours are alike, so accuracies come out too good, and the log says by how many "
            "chips."), optional=True),
        Setting("BLOCK_SIZE", tr("Block size (empty: {})").format(blocks), tr(
            "Side, in pixels, of the squares of ground that go to training, validation or test as a whole."),
            advanced=True),
        Polygons("SPLIT_AREAS", tr("Split areas"), tr(
            "For a split by areas: polygons, each of which goes to one split as a whole. Chips that do not lie "
            "wholly in one area are in no split."), optional=True, advanced=True),
        FieldOf("SPLIT_FIELD", tr("Split area field"), tr(
            "The field of the split areas that tells them apart: either it holds training, validation and test "
            "(train, val and valid will do), or names or numbers of areas, which Terrazzo then deals out so that every "
            "class keeps its share. Without it each polygon is an area of its own."),
            optional=True, parent="SPLIT_AREAS", advanced=True),
        Setting("VALIDATION_SHARE", tr("Validation share (0 to 0.9)"), tr(
            "Share of the labelled ground kept for choosing the best epoch in training."), decimals=2),
        Setting("TEST_SHARE", tr("Test share (0 to 0.9)"), tr(
            "Share of the labelled ground kept for the final accuracy, which training never sees."), decimals=2),
        Setting("FOLDS", tr("Folds (empty: none)"), tr(
            "Divides what is not kept for the test into so many equal parts for cross-validation, each of which is "
            "the validation once. It takes the place of the validation share."), advanced=True),
        Setting("SEED", tr("Seed"), tr("The same seed divides the same chips in the same way."), advanced=True),
    ]  # fmt: skip


def split_areas(
    algorithm: QgsProcessingAlgorithm,
    parameters: Parameters,
    context: QgsProcessingContext,
    method: str,
    crs: QgsCoordinateReferenceSystem,
    extent: QgsRectangle,
) -> Optional[FeatureSource]:
    """The areas that SPLIT_AREAS and SPLIT_FIELD hold; None where they are not given.

    Args:
        method: SPLIT_METHOD.
        crs: The CRS of the chips.
        extent: What the areas must meet, in that CRS.

    Raises:
        InputError: Areas are given for another method, or not for this one, or cannot be read.
    """
    from .classes import Areas
    from .features import feature_source

    areas = feature_source(algorithm, parameters, "SPLIT_AREAS", context, crs, extent)
    if areas is None:
        if method == "areas":
            raise InputError(
                "SPLIT_METHOD is areas, and no SPLIT_AREAS are given.", "Choose a polygon layer as SPLIT_AREAS."
            )
        return None
    if method != "areas":
        raise InputError(
            f"SPLIT_AREAS are given, and SPLIT_METHOD is {method}.", "Set SPLIT_METHOD to areas, or give no areas."
        )
    field = algorithm.parameterAsString(parameters, "SPLIT_FIELD", context)
    areas.layer = AREAS_LAYER
    areas.values = Areas.of(areas.source.fields(), field, areas.title)
    return areas


def split_outputs() -> list[QgsProcessingOutputDefinition]:
    """The footprints, and how many chips there are."""
    return [
        QgsProcessingOutputVectorLayer("FOOTPRINTS", tr("Chip footprints"), QgsProcessing.SourceType.TypeVectorPolygon),
        QgsProcessingOutputNumber("CHIPS_COUNT", tr("Chips")),
        QgsProcessingOutputNumber("TRAINING_CHIPS", tr("Training chips")),
        QgsProcessingOutputNumber("VALIDATION_CHIPS", tr("Validation chips")),
        QgsProcessingOutputNumber("TEST_CHIPS", tr("Test chips")),
    ]


def split_results(footprints: str, found: dict[str, Any]) -> dict[str, Any]:
    """The values of `split_outputs`, from what the engine found."""
    return {
        "FOOTPRINTS": footprints,
        "CHIPS_COUNT": found["chips"],
        "TRAINING_CHIPS": found["training"],
        "VALIDATION_CHIPS": found["validation"],
        "TEST_CHIPS": found["test"],
    }
