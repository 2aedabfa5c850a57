"""How features with a class look when QGIS adds them to the project."""

from __future__ import annotations

from typing import Any

from qgis.core import (
    QgsCategorizedSymbolRenderer,
    QgsMapLayer,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingLayerPostProcessorInterface,
    QgsRendererCategory,
    QgsSymbol,
)
from qgis.PyQt.QtGui import QColor

from .algorithm import tr
from .loading import keep

OPACITY = 0.6


class ClassStyle(QgsProcessingLayerPostProcessorInterface):
    """Draws features in the colour of the class whose value stands in a field."""

    def __init__(self, field: str, classes: Any) -> None:
        super().__init__()
        self.field, self.classes = field, classes

    def postProcessLayer(
        self, layer: QgsMapLayer, context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> None:
        """Style the layer, on QGIS's main thread."""
        if not layer.isSpatial():
            return
        categories = []
        for kind in self.classes.classes:
            categories.append(QgsRendererCategory(kind.value, self._symbol(layer, kind.color), kind.name))
        categories.append(QgsRendererCategory(None, self._symbol(layer, "#bbbbbb"), tr("no class")))
        layer.setRenderer(QgsCategorizedSymbolRenderer(self.field, categories))
        layer.triggerRepaint()

    def _symbol(self, layer: QgsMapLayer, color: str) -> QgsSymbol:
        symbol = QgsSymbol.defaultSymbol(layer.geometryType())
        symbol.setColor(QColor(color))
        symbol.setOpacity(OPACITY)
        return symbol


def show_classes(source: str, field: str, classes: Any, several: bool, context: QgsProcessingContext) -> None:
    """If QGIS will add a layer to the project, let it draw them in the colours of their one class."""
    if not several and context.willLoadLayerOnCompletion(source):
        details = context.layerToLoadOnCompletionDetails(source)
        details.setPostProcessor(keep(ClassStyle(field, classes)))
