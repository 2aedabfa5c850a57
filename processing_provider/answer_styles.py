"""The styles of layers of answers: colours of classes or numbers, and titles of fields."""

from __future__ import annotations

from typing import Any

from qgis.core import (
    QgsCategorizedSymbolRenderer,
    QgsGraduatedSymbolRenderer,
    QgsMapLayer,
    QgsRendererCategory,
    QgsRendererRange,
    QgsSymbol,
)
from qgis.PyQt.QtGui import QColor
from qgis.PyQt.QtXml import QDomDocument

from ..plugin.translation import tr
from .looks import Look

OPACITY = 0.6


class Titles(Look):
    """Shows titles instead of field names."""

    def __init__(self, titles: dict[str, str]) -> None:
        self.titles = titles

    def draw(self, layer: QgsMapLayer) -> None:
        """Style the layer."""
        set_titles(layer, self.titles)


class ClassStyle(Titles):
    """Draws features in the colours of their classes."""

    def __init__(self, field: str, classes: Any, titles: dict[str, str]) -> None:
        super().__init__(titles)
        self.field, self.classes = field, classes

    def draw(self, layer: QgsMapLayer) -> None:
        """Style the layer."""
        super().draw(layer)
        if not layer.isSpatial():
            return
        categories = []
        for kind in self.classes.classes:
            categories.append(QgsRendererCategory(kind.value, _symbol(layer, kind.color), kind.name))
        categories.append(QgsRendererCategory(None, _symbol(layer, "#bbbbbb"), tr("no class")))
        layer.setRenderer(QgsCategorizedSymbolRenderer(self.field, categories))


class NumberStyle(Titles):
    """Draws features in the colours of ranges of numbers."""

    def __init__(self, field: str, ranges: Any, titles: dict[str, str]) -> None:
        super().__init__(titles)
        self.field, self.ranges = field, ranges

    def draw(self, layer: QgsMapLayer) -> None:
        """Style the layer."""
        super().draw(layer)
        if layer.isSpatial():
            shown = [QgsRendererRange(row.low, row.high, _symbol(layer, row.color), row.label) for row in self.ranges]
            layer.setRenderer(QgsGraduatedSymbolRenderer(self.field, shown))


class GivenStyle(Look):
    """Applies a style given as QML."""

    def __init__(self, style: str) -> None:
        self.style = style

    def draw(self, layer: QgsMapLayer) -> None:
        """Style the layer."""
        document = QDomDocument()
        document.setContent(self.style)
        layer.importNamedStyle(document)


def _symbol(layer: QgsMapLayer, color: str) -> QgsSymbol:
    symbol = QgsSymbol.defaultSymbol(layer.geometryType())
    symbol.setColor(QColor(color))
    symbol.setOpacity(OPACITY)
    return symbol


def set_titles(layer: QgsMapLayer, titles: dict[str, str]) -> None:
    """Set the aliases of those fields that the layer has."""
    for name, title in titles.items():
        place = layer.fields().lookupField(name)
        if place >= 0:
            layer.setFieldAlias(place, title)
