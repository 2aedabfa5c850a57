"""Parameters for means of several answers to the same place."""

from __future__ import annotations

from typing import Any

from qgis.core import (
    QgsProcessing,
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterMultipleLayers,
)

from ..plugin.engine.config import JobConfig
from ..plugin.translation import tr
from .list_parameters import Numbers
from .parameters import Parameters, Row, Setting, ValueRow, absolute


class ModelFiles(ValueRow):
    """Several model files."""

    def definition(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """Create a parameter for a list of files."""
        kind = QgsProcessing.SourceType.TypeFile
        return QgsProcessingParameterMultipleLayers(self.name, self.label, layerType=kind, optional=True)

    def value(self, algorithm: QgsProcessingAlgorithm, parameters: Parameters, context: QgsProcessingContext) -> Any:
        """Return the absolute paths."""
        return [absolute(path) for path in algorithm.parameterAsFileList(parameters, self.name, context) if path]


def ensemble_row() -> Row:
    """More models."""
    return ModelFiles("ENSEMBLE", tr("More models (ensemble)"), tr(
        "Model files that look at the same place as well; the mean of the probabilities of all counts. They have the "
        "classes of the first model, by name, and may have other networks and bands. A few models that were trained "
        "with different seeds are usually more accurate than one."), advanced=True)  # fmt: skip


def averaging_rows(scales: bool = False) -> list[Row]:
    """All rows of this module.

    Args:
        scales: Whether the image may be seen in other sizes.
    """
    return [symmetry_row(), *([scales_row()] if scales else []), ensemble_row()]


def symmetry_row() -> Row:
    """Which mirror images and turns the network sees."""
    return Setting("TEST_TIME_AUGMENTATION", tr("Test-time augmentation"), tr(
        "The network also sees each place mirrored or turned, and the mean of its probabilities counts. This is a "
        "little more accurate, and takes longer."), optional=True, advanced=True)  # fmt: skip


def scales_row() -> Row:
    """In which sizes the network sees the image."""
    return Numbers("TEST_TIME_SCALES", tr("Test-time scales (empty: 1)"), tr(
        "The network sees the image in each of these sizes, such as 0.75,1,1.25, and the mean of its probabilities "
        "counts. For objects of many sizes; larger scales need more memory."), advanced=True,
        example="0.75,1,1.25")  # fmt: skip
