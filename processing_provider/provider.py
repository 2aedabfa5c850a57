"""The Processing provider "terrazzo"."""

from __future__ import annotations

from qgis.core import QgsProcessingProvider
from qgis.PyQt.QtGui import QIcon

from .algorithm import icon
from .convertchips import ConvertChips
from .exportchips import ExportChips
from .importchips import ImportChips
from .segmentraster import SegmentRaster
from .status import Status
from .trainsegmenter import TrainSegmenter

ALGORITHMS = (ExportChips, ImportChips, ConvertChips, TrainSegmenter, SegmentRaster, Status)


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

    def loadAlgorithms(self) -> None:
        """Register each algorithm."""
        for algorithm in ALGORITHMS:
            self.addAlgorithm(algorithm())
