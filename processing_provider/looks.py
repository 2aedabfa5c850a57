"""Styles of result layers."""

from __future__ import annotations

from qgis.core import (
    QgsCategorizedSymbolRenderer,
    QgsContrastEnhancement,
    QgsFillSymbol,
    QgsMapLayer,
    QgsRendererCategory,
    QgsSingleBandGrayRenderer,
)

from ..plugin.translation import tr

# Visible over any image, and distinguishable with red-green colour blindness.
SPLIT_COLORS = {"training": "255,176,0", "validation": "100,143,255", "test": "220,38,127"}

# Bright enough to be visible over any image.
OUTLINE_COLORS = ("#ff3b30", "#ffd60a", "#00c7ff", "#ff2dd4", "#34ff5b", "#ff9500", "#b18cff", "#ffffff")


class Look:
    """Base class of layer styles."""

    def draw(self, layer: QgsMapLayer) -> None:
        """Style a layer, on QGIS's main thread."""
        raise NotImplementedError


class FootprintStyle(Look):
    """Draws chips as outlines in the colours of their splits."""

    def draw(self, layer: QgsMapLayer) -> None:
        """Style the layer."""
        categories = []
        colors = dict(SPLIT_COLORS)
        # Chips that share ground with another split; most datasets have none.
        if "none" in layer.uniqueValues(layer.fields().lookupField("split")):
            colors["none"] = "140,140,140"
        for split, color in colors.items():
            symbol = QgsFillSymbol.createSimple(
                {"color": f"{color},30", "outline_color": f"{color},255", "outline_width": "0.4"}
            )
            words = tr(split)
            categories.append(QgsRendererCategory(split, symbol, words))
        layer.setRenderer(QgsCategorizedSymbolRenderer("split", categories))


class OutlineStyle(Look):
    """Draws polygons as outlines over the image, one colour per value of a field."""

    def __init__(self, field: str) -> None:
        self.field = field

    def draw(self, layer: QgsMapLayer) -> None:
        """Style the layer."""
        place = layer.fields().indexFromName(self.field)
        if place < 0 or not layer.isSpatial():
            return
        categories = []
        for number, value in enumerate(sorted(layer.uniqueValues(place))):
            color = OUTLINE_COLORS[number % len(OUTLINE_COLORS)]
            symbol = QgsFillSymbol.createSimple({"style": "no", "outline_color": color, "outline_width": "0.7"})
            categories.append(QgsRendererCategory(value, symbol, str(value)))
        layer.setRenderer(QgsCategorizedSymbolRenderer(self.field, categories))


class GreyStyle(Look):
    """Draws the first band of a raster of shares, black at 0 and white at 1."""

    def draw(self, layer: QgsMapLayer) -> None:
        """Style the layer."""
        provider = layer.dataProvider()
        stretch = QgsContrastEnhancement(provider.dataType(1))
        stretch.setMinimumValue(0)
        stretch.setMaximumValue(1)
        stretch.setContrastEnhancementAlgorithm(
            QgsContrastEnhancement.ContrastEnhancementAlgorithm.StretchToMinimumMaximum
        )
        renderer = QgsSingleBandGrayRenderer(provider, 1)
        renderer.setContrastEnhancement(stretch)
        layer.setRenderer(renderer)


class SavedStyle(Look):
    """Draws a layer in the style beside its file, which Processing does not load."""

    def draw(self, layer: QgsMapLayer) -> None:
        """Style the layer."""
        layer.loadDefaultStyle()
