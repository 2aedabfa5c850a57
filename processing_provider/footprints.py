"""The footprints of the chips, added to the project and coloured by split."""

from __future__ import annotations

from qgis.core import (
    QgsCategorizedSymbolRenderer,
    QgsFillSymbol,
    QgsMapLayer,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingLayerPostProcessorInterface,
    QgsRendererCategory,
)
from qgis.PyQt import sip

from .algorithm import tr

# Told apart over any image, and by people who confuse red and green.
COLORS = {"training": "#ffb000", "validation": "#648fff", "test": "#dc267f"}


class FootprintStyle(QgsProcessingLayerPostProcessorInterface):
    """Draws chips as outlines in the colour of their split."""

    def postProcessLayer(
        self, layer: QgsMapLayer, context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> None:
        """Style the layer, on QGIS's main thread."""
        categories = []
        for split, color in COLORS.items():
            symbol = QgsFillSymbol.createSimple(
                {"color": f"{_rgb(color)},30", "outline_color": f"{_rgb(color)},255", "outline_width": "0.4"}
            )
            categories.append(QgsRendererCategory(split, symbol, tr(split)))
        layer.setRenderer(QgsCategorizedSymbolRenderer("split", categories))
        layer.triggerRepaint()


def _rgb(color: str) -> str:
    return ",".join(str(int(color[place : place + 2], 16)) for place in (1, 3, 5))


# A context deletes its post-processors at its end and keeps no Python object alive until then.
_kept: list[FootprintStyle] = []


def load_footprints(source: str, context: QgsProcessingContext) -> None:
    """Ask QGIS to add the footprints to the project when the algorithm has ended; headless nothing happens."""
    style = FootprintStyle()
    _kept[:] = [*(earlier for earlier in _kept if not sip.isdeleted(earlier)), style]
    details = QgsProcessingContext.LayerDetails(tr("Chip footprints"), context.project(), "FOOTPRINTS")
    details.setPostProcessor(style)
    context.addLayerToLoadOnCompletion(source, details)
