"""How results look when QGIS adds them to the project."""

from __future__ import annotations

from typing import Optional

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
SPLIT_COLORS = {"training": "255,176,0", "validation": "100,143,255", "test": "220,38,127"}

# Bright enough to be seen over any image.
OUTLINE_COLORS = ("#ff3b30", "#ffd60a", "#00c7ff", "#ff2dd4", "#34ff5b", "#ff9500", "#b18cff", "#ffffff")


class FootprintStyle(QgsProcessingLayerPostProcessorInterface):
    """Draws chips as outlines in the colour of their split."""

    def postProcessLayer(
        self, layer: QgsMapLayer, context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> None:
        """Style the layer, on QGIS's main thread."""
        categories = []
        colors = dict(SPLIT_COLORS)
        # Chips that share ground with another split's; most datasets have none of them.
        if "none" in layer.uniqueValues(layer.fields().lookupField("split")):
            colors["none"] = "140,140,140"
        for split, color in colors.items():
            symbol = QgsFillSymbol.createSimple(
                {"color": f"{color},30", "outline_color": f"{color},255", "outline_width": "0.4"}
            )
            categories.append(QgsRendererCategory(split, symbol, tr(split)))
        layer.setRenderer(QgsCategorizedSymbolRenderer("split", categories))
        layer.triggerRepaint()


class OutlineStyle(QgsProcessingLayerPostProcessorInterface):
    """Draws polygons as outlines over the image, in a colour for each value of a field."""

    def __init__(self, field: str) -> None:
        super().__init__()
        self.field = field

    def postProcessLayer(
        self, layer: QgsMapLayer, context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> None:
        """Style the layer, on QGIS's main thread."""
        place = layer.fields().indexFromName(self.field)
        if place < 0 or not layer.isSpatial():
            return
        categories = []
        for number, value in enumerate(sorted(layer.uniqueValues(place))):
            color = OUTLINE_COLORS[number % len(OUTLINE_COLORS)]
            symbol = QgsFillSymbol.createSimple({"style": "no", "outline_color": color, "outline_width": "0.7"})
            categories.append(QgsRendererCategory(value, symbol, str(value)))
        layer.setRenderer(QgsCategorizedSymbolRenderer(self.field, categories))
        layer.triggerRepaint()


class SavedStyle(QgsProcessingLayerPostProcessorInterface):
    """Draws a layer in the style that lies beside its file; Processing itself looks at the file alone."""

    def postProcessLayer(
        self, layer: QgsMapLayer, context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> None:
        """Style the layer, on QGIS's main thread."""
        layer.loadDefaultStyle()
        layer.triggerRepaint()


# A context deletes its post-processors at its end and keeps no Python object alive until then.
_kept: list[QgsProcessingLayerPostProcessorInterface] = []


def keep(style: QgsProcessingLayerPostProcessorInterface) -> QgsProcessingLayerPostProcessorInterface:
    """A post-processor, kept alive until QGIS deletes it."""
    _kept[:] = [*(earlier for earlier in _kept if not sip.isdeleted(earlier)), style]
    return style


def load_footprints(source: str, context: QgsProcessingContext) -> None:
    """Ask QGIS to add the footprints to the project when the algorithm has ended; headless nothing happens."""
    details = QgsProcessingContext.LayerDetails(tr("Chip footprints"), context.project(), "FOOTPRINTS")
    details.setPostProcessor(keep(FootprintStyle()))
    context.addLayerToLoadOnCompletion(source, details)


def show_saved_style(path: Optional[str], context: QgsProcessingContext) -> None:
    """If QGIS will add a raster to the project, let it do so in the style beside the file."""
    if path and context.willLoadLayerOnCompletion(path):
        context.layerToLoadOnCompletionDetails(path).setPostProcessor(keep(SavedStyle()))


def show_outlines(path: Optional[str], field: str, context: QgsProcessingContext) -> None:
    """If QGIS will add a layer of polygons to the project, let it draw outlines by the values of a field."""
    if path and context.willLoadLayerOnCompletion(path):
        context.layerToLoadOnCompletionDetails(path).setPostProcessor(keep(OutlineStyle(field)))
