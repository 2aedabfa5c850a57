"""Reads names and colours of classes, and nothing else, from the style beside a layer's file or in its GeoPackage."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Optional

from osgeo import gdal
from qgis.core import (
    QgsCategorizedSymbolRenderer,
    QgsEditorWidgetSetup,
    QgsMapLayer,
    QgsPalettedRasterRenderer,
    QgsProviderRegistry,
    QgsRasterLayer,
    QgsRendererCategory,
    QgsRuleBasedRenderer,
    QgsSymbol,
    QgsVectorLayer,
)
from qgis.PyQt.QtGui import QColor

if TYPE_CHECKING:
    from ..plugin.engine.strangers.styles import SavedStyle

UNKNOWN = "#808080"  # for palette entries without a colour; the renderer needs one


def opened_plainly(source: str, kind: type[QgsMapLayer], provider: str) -> QgsMapLayer:
    """Open a layer without the style beside it, which QGIS would load completely, also when the layer is copied."""
    return kind(source, "", provider, kind.LayerOptions(loadDefaultStyle=False))


def dressed_from_file(layer: QgsMapLayer) -> Optional[QgsMapLayer]:
    """Return a copy of the layer with the classes of the style beside its file; None if there are none.

    QGIS's own loading would also apply everything else that a style may contain.
    """
    # Imported here because it is not needed to list the algorithms in the Toolbox.
    from ..plugin.engine.strangers.styles import read_style

    data = _style_of(layer)
    if data is None:
        return None
    try:
        style = read_style(data)
    except ValueError:
        return None  # the layer can be used without its style
    fresh = opened_plainly(layer.source(), type(layer), layer.providerType())
    return fresh if _dress(fresh, style) else None


def _dress(layer: QgsMapLayer, style: SavedStyle) -> bool:
    """Apply the classes of a style to a layer, and return whether there are any."""
    if isinstance(layer, QgsRasterLayer):
        if style.kind != "palette" or not layer.bandCount():
            return False
        classes = [
            QgsPalettedRasterRenderer.Class(number, QColor(line.color or UNKNOWN), line.label)
            for line in style.classes
            if (number := _number(line.values[0])) is not None
        ]
        layer.setRenderer(QgsPalettedRasterRenderer(layer.dataProvider(), 1, classes))
        return True
    for name, values in style.names.items():
        place = layer.fields().lookupField(name)
        if place >= 0:
            pairs = [{label: value} for value, label in values.items()]
            layer.setEditorWidgetSetup(place, QgsEditorWidgetSetup("ValueMap", {"map": pairs}))
    if style.kind == "categories":
        layer.setRenderer(
            QgsCategorizedSymbolRenderer(
                style.attribute,
                [
                    QgsRendererCategory(
                        list(line.values) if len(line.values) > 1 else line.values[0],
                        _symbol(layer, line.color),
                        line.label,
                    )
                    for line in style.classes
                ],
            )
        )
    elif style.kind == "rules":
        root = QgsRuleBasedRenderer.Rule(None)
        for line in style.classes:
            root.appendChild(QgsRuleBasedRenderer.Rule(_symbol(layer, line.color), 0, 0, line.filter, line.label))
        layer.setRenderer(QgsRuleBasedRenderer(root))
    return bool(style.kind or style.names)


def _symbol(layer: QgsVectorLayer, color: Optional[str]) -> Optional[QgsSymbol]:
    """Return a symbol in a colour; None if the style has no colour."""
    symbol = QgsSymbol.defaultSymbol(layer.geometryType()) if color is not None else None
    if symbol is not None:
        symbol.setColor(QColor(color))
    return symbol


def _number(text: str) -> Optional[float]:
    try:
        return float(text)
    except ValueError:
        return None


def _style_of(layer: QgsMapLayer) -> Optional[bytes]:
    """Return the text of the style beside a layer's file, or of the default style in its GeoPackage."""
    from ..plugin.engine.strangers.paths import read_bytes
    from ..plugin.engine.strangers.styles import LARGEST_QML

    parts = QgsProviderRegistry.instance().decodeUri(layer.providerType(), layer.source())
    path = Path(parts.get("path") or "")
    if not path.is_file():
        return None
    if path.suffix.lower() == ".gpkg" and isinstance(layer, QgsVectorLayer):
        stored = _style_in(path, parts.get("layerName") or "")
        if stored is not None:
            return stored
    try:
        return read_bytes(path.with_suffix(".qml"), LARGEST_QML)
    except (OSError, ValueError):
        return None


def _style_in(path: Path, name: str) -> Optional[bytes]:
    """Return the default style of a layer in a GeoPackage's table of styles, otherwise the newest."""
    try:
        source = gdal.OpenEx(str(path), gdal.OF_VECTOR, allowed_drivers=["GPKG"])
        name = name or source.GetLayer(0).GetName()
        table = source.GetLayerByName("layer_styles")
        if table is None:
            return None
        quoted = name.replace("'", "''")
        table.SetAttributeFilter(f"f_table_name = '{quoted}'")
        rows = [(bool(row["useAsDefault"]), str(row["update_time"]), row["styleQML"]) for row in table]
    except (RuntimeError, KeyError, AttributeError):
        return None
    text = max(rows, default=(False, "", None), key=lambda row: row[:2])[2]
    return text.encode() if isinstance(text, str) else None
