"""The Processing provider "terrazzo"."""

from __future__ import annotations

from pathlib import Path

from qgis.core import QgsProcessingModelAlgorithm, QgsProcessingProvider
from qgis.PyQt.QtGui import QIcon

from ..plugin.icons import icon, icon_path
from .activationmaps import ActivationMaps
from .algorithm import GROUPS, TerrazzoAlgorithm
from .classifyfeatures import ClassifyFeatures
from .classifyscenes import ClassifyScenes
from .convertchips import ConvertChips
from .exportchips import ExportChips
from .findlearningrate import FindLearningRate
from .importchips import ImportChips
from .inspectchips import InspectChips
from .segmentraster import SegmentRaster
from .splitchips import SplitChips
from .status import Status
from .trainclassifier import TrainClassifier
from .trainsegmenter import TrainSegmenter

ALGORITHMS = (
    ExportChips, ImportChips, ConvertChips, SplitChips, InspectChips, FindLearningRate, TrainClassifier, TrainSegmenter,
    SegmentRaster, ClassifyScenes, ClassifyFeatures, ActivationMaps, Status,
)  # fmt: skip
TerrazzoAlgorithm.ALL = ALGORITHMS

MODELS = Path(__file__).resolve().parent.parent / "resources" / "models"


class TerrazzoProvider(QgsProcessingProvider):
    """The provider, which holds Terrazzo's algorithms."""

    def id(self) -> str:
        """Return the id, which scripts and models use, so it never changes."""
        return "terrazzo"

    def name(self) -> str:
        """Return the name shown in the Toolbox."""
        return "Terrazzo"

    def longName(self) -> str:
        """Return the name with a short description."""
        return self.tr("Terrazzo: deep learning on your own layers")

    def icon(self) -> QIcon:
        """Return the icon shown in the Toolbox."""
        return icon("terrazzo")

    def svgIconPath(self) -> str:
        """Return the path of the icon, which the model designer needs."""
        return icon_path("terrazzo")

    def supportedOutputVectorLayerExtensions(self) -> list[str]:
        """Return the formats that dialogs offer; each is a single file, so that a result is written completely or not
        at all.
        """
        return ["gpkg", "geojson", "csv"]

    def defaultVectorFileExtension(self, hasGeometry: bool = True) -> str:
        """Return the format of temporary layers."""
        return "gpkg"

    def loadAlgorithms(self) -> None:
        """Register the algorithms, and example models that combine them."""
        for algorithm in ALGORITHMS:
            self.addAlgorithm(algorithm())
        for path in sorted(MODELS.glob("*.model3")):
            model = QgsProcessingModelAlgorithm()
            if model.fromFile(str(path)):
                model.setGroup(f"{len(GROUPS) + 1} {self.tr('Examples')}")
                self.addAlgorithm(model)
