"""Parameters and outputs shared by the algorithms that divide chips into training, validation and test."""

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
from ..plugin.translation import tr
from .layer_parameters import FieldOf, Polygons
from .parameters import OutputFolder, Parameters, Row, Setting

if TYPE_CHECKING:
    from .features import FeatureSource

AREAS_LAYER = "areas"


def dataset_rows() -> list[Row]:
    """Return the rows for the dataset to write."""
    return [
        Setting("OVERWRITE", tr("Replace an earlier dataset in that folder"), tr(
            "Without this, an existing dataset is an error. A folder that holds anything else is never touched."),
            advanced=True),
        OutputFolder("OUTPUT", tr("Chip dataset"), tr("The folder to write."), called="chips"),
    ]  # fmt: skip


def split_rows(blocks: str) -> list[Row]:
    """Return the rows of the split parameters.

    Args:
        blocks: What an empty BLOCK_SIZE stands for.
    """
    return [
        Setting("SPLIT_METHOD", tr("Split by"), tr(
            "The unit that goes to training, validation or test as a whole. blocks: squares of ground; recommended. "
            "areas: your own polygons. rasters: each raster, to test on scenes that are not in training. random: "
            "single chips; neighbours are alike, so accuracies are too high, and the log tells how many chips are "
            "affected."), optional=True),
        Setting("BLOCK_SIZE", tr("Block size (pixels)"), tr(
            "Side of the squares of ground that go to training, validation or test as a whole. Empty: {}.")
            .format(blocks),
            advanced=True),
        Polygons("SPLIT_AREAS", tr("Split areas"), tr(
            "For a split by areas: polygons that each go to one split as a whole. Chips that are not completely "
            "inside one area are in no split."), optional=True, advanced=True),
        FieldOf("SPLIT_FIELD", tr("Split area field"), tr(
            "The field that identifies the split areas. It holds either training, validation and test (or train, val "
            "and valid), or names or numbers of areas, which Terrazzo then divides so that every class keeps its "
            "share. Without it, each polygon is an area."),
            optional=True, parent="SPLIT_AREAS", advanced=True),
        Setting("VALIDATION_SHARE", tr("Validation share (0 to 0.9)"), tr(
            "The share of the labelled ground used to choose the best epoch in training."), decimals=2),
        Setting("TEST_SHARE", tr("Test share (0 to 0.9)"), tr(
            "The share of the labelled ground used for the final accuracy; training never sees it."), decimals=2),
        Setting("FOLDS", tr("Folds (empty: none)"), tr(
            "Divides the chips that are not for testing into this many equal folds for cross-validation; each is the "
            "validation split once. Replaces the validation share."), advanced=True),
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
    """Return the areas of SPLIT_AREAS and SPLIT_FIELD; None if they are not given.

    Args:
        algorithm: The algorithm.
        parameters: Its parameters.
        context: The processing context.
        method: Value of SPLIT_METHOD.
        crs: CRS of the chips.
        extent: Only areas that intersect it are used, in `crs`.

    Raises:
        InputError: Areas are given for another method, are missing for this one, or cannot be read.
    """
    from .classes import Areas
    from .features import feature_source

    areas = feature_source(algorithm, parameters, "SPLIT_AREAS", context, crs, extent)
    if areas is None:
        if method == "areas":
            raise InputError(
                "SPLIT_METHOD is areas, but no SPLIT_AREAS are given.", "Choose a polygon layer as SPLIT_AREAS."
            )
        return None
    if method != "areas":
        raise InputError(
            f"SPLIT_AREAS are given, but SPLIT_METHOD is {method}.",
            "Set SPLIT_METHOD to areas, or leave SPLIT_AREAS empty.",
        )
    field = algorithm.parameterAsString(parameters, "SPLIT_FIELD", context)
    areas.layer = AREAS_LAYER
    areas.values = Areas.of(areas.source.fields(), field, areas.title)
    return areas


def split_outputs() -> list[QgsProcessingOutputDefinition]:
    """Declare the footprints and the numbers of chips."""
    return [
        QgsProcessingOutputVectorLayer("FOOTPRINTS", tr("Chip footprints"), QgsProcessing.SourceType.TypeVectorPolygon),
        QgsProcessingOutputNumber("CHIPS_COUNT", tr("Chips")),
        QgsProcessingOutputNumber("TRAINING_CHIPS", tr("Training chips")),
        QgsProcessingOutputNumber("VALIDATION_CHIPS", tr("Validation chips")),
        QgsProcessingOutputNumber("TEST_CHIPS", tr("Test chips")),
    ]


def split_results(footprints: str, found: dict[str, Any]) -> dict[str, Any]:
    """Return the values of `split_outputs` from the result of the job."""
    return {
        "FOOTPRINTS": footprints,
        "CHIPS_COUNT": found["chips"],
        "TRAINING_CHIPS": found["training"],
        "VALIDATION_CHIPS": found["validation"],
        "TEST_CHIPS": found["test"],
    }
