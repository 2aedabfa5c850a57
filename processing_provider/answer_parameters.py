"""Parameters and checks shared by the algorithms that use a classifier."""

from __future__ import annotations

from collections.abc import Sequence
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
from ..plugin.engine.tasks import CLASSIFIER_TASKS
from ..plugin.translation import tr
from .algorithm import WorkerAlgorithm
from .parameters import Destination, OutputFile, OutputRaster, OutputVector, Parameters, Row, Setting, ValueRow


class Text(ValueRow):
    """A text that is not a setting of the job."""

    default: str = ""

    def definition(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """Create a text parameter that may be empty."""
        return QgsProcessingParameterString(self.name, self.label, defaultValue=self.default, optional=True)

    def value(self, algorithm: QgsProcessingAlgorithm, parameters: Parameters, context: QgsProcessingContext) -> Any:
        """Return the text."""
        return algorithm.parameterAsString(parameters, self.name, context)


class UsualRaster(OutputRaster):
    """A raster that the dialog creates unless the user skips it."""

    def definition(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """Create an optional raster destination that is created by default."""
        return QgsProcessingParameterRasterDestination(self.name, self.label, optional=True, createByDefault=True)


class WishedPolygons(OutputVector):
    """A polygon layer that is written only on request."""

    def definition(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """Create an optional vector destination that is not created by default."""
        kind = QgsProcessing.SourceType.TypeVectorPolygon
        return QgsProcessingParameterVectorDestination(
            self.name, self.label, type=kind, optional=True, createByDefault=False
        )


class WishedTable(OutputVector):
    """A table that is written only on request."""

    def definition(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """Create a vector destination as for polygons, but geometry is not required."""
        kind = QgsProcessing.SourceType.TypeVector
        return QgsProcessingParameterVectorDestination(
            self.name, self.label, type=kind, optional=True, createByDefault=False
        )


class WishedFile(OutputFile):
    """A file that is written only on request."""

    def definition(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """Create an optional file destination that is not created by default."""
        return QgsProcessingParameterFileDestination(
            self.name, self.label, fileFilter=self.filter, optional=True, createByDefault=False
        )


class WishedFolder(Destination):
    """A folder that is written only on request."""

    def definition(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """Create an optional folder destination that is not created by default."""
        return QgsProcessingParameterFolderDestination(self.name, self.label, optional=True, createByDefault=False)


class FeatureSink(Destination):
    """A layer written feature by feature to any format of QGIS; the algorithm opens it itself."""

    def definition(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """Create a feature sink for any geometry."""
        return QgsProcessingParameterFeatureSink(self.name, self.label)

    def value(self, algorithm: QgsProcessingAlgorithm, parameters: Parameters, context: QgsProcessingContext) -> Any:
        """Return None, because the fields of the sink depend on the model."""
        return None

    def wished(self, algorithm: QgsProcessingAlgorithm, parameters: Parameters, context: QgsProcessingContext) -> str:
        """Return the path if the sink is a file, otherwise ""."""
        return super().wished(algorithm, parameters, context) or ""


def device_row() -> Row:
    """Return the row for the device to compute on."""
    return Setting("DEVICE", tr("Device (auto, cpu, cuda or cuda:n)"), tr(
        "Where to compute. auto uses an NVIDIA GPU if there is one."), advanced=True)  # fmt: skip


def threshold_row() -> Row:
    """Return the row for the probability threshold."""
    return Setting("THRESHOLD", tr("Threshold (empty: the model's)"), tr(
        "The probability (0 to 1) from which a class counts. With several classes per chip: for each class. With two "
        "classes: for the second one, otherwise the first is taken. With more: the likeliest class must reach it, "
        "otherwise there is no class. Empty: the model's threshold; without one, the likeliest "
        "class."), optional=True, decimals=3)  # fmt: skip


def classifier_header(path: Optional[str], more: Sequence[str] = ()) -> Any:
    """Read the header of a model file, or of an ensemble, and check that it is a classifier's.

    Raises:
        InputError: The file is not the model of a classifier.
    """
    # Imported here because numpy is not needed to list the algorithms in the Toolbox.
    from ..plugin.engine.mapping.sources.ensembles import ensemble_header
    from ..plugin.engine.models.tasks import check_task

    header = ensemble_header([path or "", *more])
    check_task(header, path or "", CLASSIFIER_TASKS)
    return header


def check_bands(bands: Any, header: Any) -> None:
    """Check that BANDS names as many bands as the model has.

    Raises:
        InputError: The numbers differ.
    """
    if bands and len(bands) != len(header.band_names):
        raise InputError(
            f"BANDS has {len(bands)} bands, but the model needs {len(header.band_names)}: "
            f"{', '.join(header.band_names)}.",
            "Give one band for each band of the model, or leave BANDS empty.",
        )


def image_settings(
    algorithm: WorkerAlgorithm,
    parameters: Parameters,
    context: QgsProcessingContext,
    folder: Optional[str],
    header: Any,
) -> dict[str, Any]:
    """Return the settings of `mapped_raster` of an algorithm that takes a raster or a folder of photographs.

    Raises:
        InputError: Both or neither are given, or EXTENT or AREA is given without a raster.
    """
    from .mapped_raster import mapped_raster

    has_raster = parameters.get("INPUT") not in (None, "")
    if has_raster == bool(folder):
        what = "INPUT and INPUT_FOLDER are both given." if has_raster else "Neither INPUT nor INPUT_FOLDER is given."
        raise InputError(what, "Choose a raster as INPUT, or a folder of photographs as INPUT_FOLDER.")
    if not has_raster:
        for name in ("EXTENT", "AREA"):
            if parameters.get(name) not in (None, ""):
                raise InputError(
                    f"{name} is given with a folder of photographs.",
                    "Extents and areas apply to rasters only: leave it empty.",
                )
        return {"input": None, "extent": None, "area": None}
    return mapped_raster(algorithm, parameters, context, header)
