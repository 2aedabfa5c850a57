"""What the algorithms that use a classifier share: their outputs, the rows of raster and model, early checks."""

from __future__ import annotations

from typing import Any, Optional

from qgis.core import (
    QgsProcessing,
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterFeatureSink,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterFolderDestination,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterString,
    QgsProcessingParameterVectorDestination,
)

from ..plugin.engine.config import JobConfig
from ..plugin.engine.errors import InputError
from .algorithm import WorkerAlgorithm, tr
from .mapped_raster import mapped_raster
from .parameters import Destination, OutputFile, OutputRaster, OutputVector, Parameters, Row, Setting, ValueRow


class Text(ValueRow):
    """A text that is no setting of the job."""

    default: str = ""

    def definition(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """A text that may be empty."""
        return QgsProcessingParameterString(self.name, self.label, defaultValue=self.default, optional=True)

    def value(self, algorithm: QgsProcessingAlgorithm, parameters: Parameters, context: QgsProcessingContext) -> Any:
        """The text."""
        return algorithm.parameterAsString(parameters, self.name, context)


class UsualRaster(OutputRaster):
    """A raster that the dialog writes unless the user skips it."""

    def definition(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """An optional raster destination that is made by default."""
        return QgsProcessingParameterRasterDestination(self.name, self.label, optional=True, createByDefault=True)


class WishedPolygons(OutputVector):
    """A layer of polygons that is written only where the user asks for it."""

    def definition(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """An optional vector destination that is not made by default."""
        kind = QgsProcessing.SourceType.TypeVectorPolygon
        return QgsProcessingParameterVectorDestination(
            self.name, self.label, type=kind, optional=True, createByDefault=False
        )


class WishedTable(OutputVector):
    """A table that is written only where the user asks for it."""

    def definition(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """As of polygons, but it may have no geometry."""
        kind = QgsProcessing.SourceType.TypeVector
        return QgsProcessingParameterVectorDestination(
            self.name, self.label, type=kind, optional=True, createByDefault=False
        )


class WishedFile(OutputFile):
    """A file that is written only where the user asks for it."""

    def definition(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """An optional file destination that is not made by default."""
        return QgsProcessingParameterFileDestination(
            self.name, self.label, fileFilter=self.filter, optional=True, createByDefault=False
        )


class WishedFolder(Destination):
    """A folder that is written only where the user asks for it."""

    def definition(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """An optional folder destination that is not made by default."""
        return QgsProcessingParameterFolderDestination(self.name, self.label, optional=True, createByDefault=False)


class FeatureSink(Destination):
    """A layer that is written feature by feature, to wherever QGIS can write; the algorithm opens it by itself."""

    def definition(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """A feature sink of any geometry."""
        return QgsProcessingParameterFeatureSink(self.name, self.label)

    def value(self, algorithm: QgsProcessingAlgorithm, parameters: Parameters, context: QgsProcessingContext) -> Any:
        """Nothing: what it holds depends on the model."""
        return None

    def wished(self, algorithm: QgsProcessingAlgorithm, parameters: Parameters, context: QgsProcessingContext) -> str:
        """As far as it is a file."""
        return super().wished(algorithm, parameters, context) or ""


def device_row() -> Row:
    """Where the network calculates."""
    return Setting("DEVICE", tr("Device: auto, cpu, cuda or cuda:n"), tr(
        "Where to calculate. auto takes an NVIDIA GPU where there is one."), advanced=True)  # fmt: skip


def threshold_row() -> Row:
    """From which probability a class counts."""
    return Setting("THRESHOLD", tr("Threshold (empty: the model's)"), tr(
        "The probability from which a class counts, 0 to 1. Of several classes a chip, each; of two, the second one, "
        "else the "
        "first one is taken; of more, the likeliest has to reach it, or there is no class. Empty: as the model says, "
        "which for one class a chip is the likeliest."), optional=True, decimals=3)  # fmt: skip


def classifier_header(path: Optional[str]) -> Any:
    """The header of a model file, once it proves to be that of a classifier.

    Raises:
        InputError: It is none.
    """
    # Here and not above: numpy is not needed to show the algorithms in the Toolbox.
    from ..plugin.engine.models.header import read_header
    from ..plugin.engine.models.tasks import CLASSIFIER_TASKS, check_task

    header = read_header(path or "")
    check_task(header, path or "", CLASSIFIER_TASKS)
    return header


def check_bands(bands: Any, header: Any) -> None:
    """Whether as many bands are named as the model has.

    Raises:
        InputError: They are not.
    """
    if bands and len(bands) != len(header.band_names):
        raise InputError(
            f"BANDS names {len(bands)} bands, and the model has {len(header.band_names)}: "
            f"{', '.join(header.band_names)}.",
            "Name one band for each of the model's, or leave BANDS empty.",
        )


def image_settings(
    algorithm: WorkerAlgorithm, parameters: Parameters, context: QgsProcessingContext, folder: Optional[str]
) -> dict[str, Any]:
    """`input`, `extent` and `area` of an algorithm that takes a raster or a folder of photographs.

    Raises:
        InputError: Both or neither are given, or a part of a raster without one.
    """
    has_raster = parameters.get("INPUT") not in (None, "")
    if has_raster == bool(folder):
        what = "INPUT and INPUT_FOLDER are given." if has_raster else "Neither INPUT nor INPUT_FOLDER is given."
        raise InputError(what, "Choose a raster as INPUT, or a folder of photographs as INPUT_FOLDER.")
    if not has_raster:
        for name in ("EXTENT", "AREA"):
            if parameters.get(name) not in (None, ""):
                raise InputError(f"{name} is given with a folder of photographs.", "It is for rasters: leave it empty.")
        return {"input": None, "extent": None, "area": None}
    return mapped_raster(algorithm, parameters, context)
