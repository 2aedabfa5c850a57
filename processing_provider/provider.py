"""The Processing provider "terrazzo"."""

from __future__ import annotations

from pathlib import Path

from qgis.core import QgsProcessingModelAlgorithm, QgsProcessingProvider
from qgis.PyQt.QtGui import QIcon

from .activationmaps import ActivationMaps
from .algorithm import GROUPS, icon, icon_path
from .classifyfeatures import ClassifyFeatures
from .classifyscenes import ClassifyScenes
from .convertchips import ConvertChips
from .exportchips import ExportChips
from .importchips import ImportChips
from .inspectchips import InspectChips
from .segmentraster import SegmentRaster
from .splitchips import SplitChips
from .status import Status
from .trainclassifier import TrainClassifier
from .trainsegmenter import TrainSegmenter

ALGORITHMS = (
    ExportChips, ImportChips, ConvertChips, SplitChips, InspectChips, TrainClassifier, TrainSegmenter, SegmentRaster,
    ClassifyScenes, ClassifyFeatures, ActivationMaps, Status,
)  # fmt: skip

MODELS = Path(__file__).resolve().parent.parent / "resources" / "models"


class TerrazzoProvider(QgsProcessingProvider):
    """Holds the algorithms of Terrazzo."""

    def id(self) -> str:
        """The id that scripts and models name; it stays."""
        return "terrazzo"

    def name(self) -> str:
        """What the Toolbox calls the provider."""
        return "Terrazzo"

    def longName(self) -> str:
        """The name with a word on what it is."""
        return self.tr("Terrazzo: deep learning on your own layers")

    def icon(self) -> QIcon:
        """The icon in the Toolbox."""
        return icon("terrazzo")

    def svgIconPath(self) -> str:
        """The same as a file, for the model designer."""
        return icon_path("terrazzo")

    def supportedOutputVectorLayerExtensions(self) -> list[str]:
        """What the dialogs offer; each is one file, so that it appears whole or not at all."""
        return ["gpkg", "geojson", "csv"]

    def defaultVectorFileExtension(self, hasGeometry: bool = True) -> str:
        """Of temporary layers."""
        return "gpkg"

    def loadAlgorithms(self) -> None:
        """Register each algorithm, and the models that show how they go together."""
        for algorithm in ALGORITHMS:
            self.addAlgorithm(algorithm())
        for path in sorted(MODELS.glob("*.model3")):
            model = QgsProcessingModelAlgorithm()
            if model.fromFile(str(path)):
                model.setGroup(f"{len(GROUPS) + 1} {self.tr('Examples')}")
                self.addAlgorithm(model)
