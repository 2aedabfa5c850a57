"""Names and colours of classes, from renderers, value maps and value relations of layers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import isnan
from typing import Any, Optional

from qgis.core import (
    QgsCategorizedSymbolRenderer,
    QgsExpression,
    QgsExpressionNodeBinaryOperator,
    QgsExpressionNodeColumnRef,
    QgsExpressionNodeLiteral,
    QgsFeatureRenderer,
    QgsFeatureRequest,
    QgsMapLayer,
    QgsPalettedRasterRenderer,
    QgsProcessingContext,
    QgsProject,
    QgsRasterLayer,
    QgsRuleBasedRenderer,
    QgsSymbol,
    QgsValueRelationFieldFormatter,
    QgsVectorLayer,
    QgsVectorLayerFeatureSource,
)
from qgis.PyQt.QtCore import Qt

from ..plugin.engine.class_names import class_text
from .saved_styles import dressed_from_file

# Name and colour ("#rrggbb") of the values of a field, by value as text.
Styles = dict[str, tuple[str, Optional[str]]]


@dataclass(frozen=True)
class Relation:
    """The table of a value relation, which can be read on any thread.

    Attributes:
        table: Source of its rows.
        key, name: Indices of its fields.
    """

    table: QgsVectorLayerFeatureSource
    key: int
    name: int

    def names(self, wanted: Iterable[str]) -> dict[str, str]:
        """Look up the names of values; one pass over the table, which may be long."""
        found: dict[str, str] = {}
        lacking = set(wanted)
        request = QgsFeatureRequest().setFlags(QgsFeatureRequest.Flag.NoGeometry)
        for row in self.table.getFeatures(request.setSubsetOfAttributes([self.key, self.name])):
            text = value_text(row[self.key])
            if text in lacking and not absent(row[self.name]):
                found[text] = str(row[self.name])
                lacking.remove(text)
                if not lacking:
                    break
        return found


@dataclass(frozen=True)
class FieldStyles:
    """Names and colours of the values of a field.

    Attributes:
        drawn: From the layer's renderer.
        named: From the field's value map.
        relation: Table of the field's value relation.
    """

    drawn: Styles = field(default_factory=dict)
    named: dict[str, str] = field(default_factory=dict)
    relation: Optional[Relation] = None

    def of(self, texts: Iterable[str]) -> Styles:
        """Return name ("" if unknown) and colour of each value; labels of the legend take precedence."""
        texts = list(texts)
        related = self.relation.names(texts) if self.relation is not None else {}
        found: Styles = {}
        for text in texts:
            label, color = self.drawn.get(text, ("", None))
            found[text] = (label or self.named.get(text) or related.get(text, ""), color)
        return found


@dataclass(frozen=True)
class LayerStyle:
    """The style that somebody chose for a vector layer.

    Attributes:
        layer: A layer with that style; not necessarily the layer of the project.
        renderer: Its renderer; None if nobody chose one.
        project: Holds the tables of value relations.
    """

    layer: Optional[QgsVectorLayer]
    renderer: Optional[QgsFeatureRenderer]
    project: Optional[QgsProject]

    @classmethod
    def of(cls, layer: Optional[QgsVectorLayer], context: QgsProcessingContext) -> LayerStyle:
        """Return the style of a layer that Processing opened."""
        styled = styled_layer(layer, context)
        return cls(styled, chosen_renderer(styled, layer, context), context.project())

    @property
    def drawn_by(self) -> str:
        """Name of the field by whose values the layer is drawn; "" if it is drawn otherwise, for example by an
        expression.
        """
        renderer = self.renderer
        return renderer.classAttribute().strip('"') if isinstance(renderer, QgsCategorizedSymbolRenderer) else ""

    def field(self, name: str) -> FieldStyles:
        """Return names and colours of the values of a field."""
        named: dict[str, str] = {}
        relation = None
        if self.layer is not None and self.layer.fields().lookupField(name) >= 0:
            setup = self.layer.editorWidgetSetup(self.layer.fields().lookupField(name))
            if setup.type() == "ValueMap":
                named = value_map(setup.config().get("map"))
            elif setup.type() == "ValueRelation":
                relation = value_relation(setup.config(), self.project)
        return FieldStyles(drawn_styles(self.renderer, name), named, relation)


def styled_layer(layer: Optional[QgsMapLayer], context: QgsProcessingContext) -> Optional[QgsMapLayer]:
    """Return a layer with its style, from the project or from the file beside the layer.

    Processing opens a path without its style, so a headless run would not know names and colours.
    """
    project = context.project()
    if layer is None or (project is not None and project.mapLayer(layer.id()) is not None):
        return layer
    if layer.providerType() == "memory":
        return layer
    return dressed_from_file(layer) or layer


def chosen_renderer(styled: Optional[QgsMapLayer], layer: Optional[QgsMapLayer], context: QgsProcessingContext) -> Any:
    """Return the renderer that somebody chose for a layer; None if nobody did.

    Args:
        styled: The result of `styled_layer` for `layer`.
        layer: The layer that Processing opened.
        context: The processing context.
    """
    if styled is None:
        return None
    project = context.project()
    renderer = styled.renderer()
    if styled is not layer or (project is not None and project.mapLayer(layer.id()) is not None):
        return renderer and renderer.clone()
    # Other renderers have a random colour, chosen by QGIS.
    chosen = (QgsCategorizedSymbolRenderer, QgsRuleBasedRenderer, QgsPalettedRasterRenderer)
    return renderer.clone() if isinstance(renderer, chosen) else None


def drawn_styles(renderer: Optional[QgsFeatureRenderer], name: str) -> Styles:
    """Return label and colour of a field's values; empty if the layer is not drawn by that field."""
    if isinstance(renderer, QgsCategorizedSymbolRenderer) and renderer.classAttribute().strip('"') == name:
        return _category_styles(renderer)
    if isinstance(renderer, QgsRuleBasedRenderer):
        return _rule_styles(renderer, name)
    return {}


def _category_styles(renderer: QgsCategorizedSymbolRenderer) -> Styles:
    styles: Styles = {}
    for category in renderer.categories():
        # A category may combine several values. They remain separate classes, so they cannot share its label.
        together = category.value() if isinstance(category.value(), list) else None
        for value in together if together is not None else [category.value()]:
            text = value_text(value)
            label = "" if together is not None or category.label() == text else category.label()
            styles.setdefault(text, (label, _color(category.symbol())))
    return styles


def _rule_styles(renderer: QgsRuleBasedRenderer, name: str) -> Styles:
    """Read rules of the form `"field" = value`; others are ignored."""
    styles: Styles = {}
    for rule in renderer.rootRule().descendants():
        expression = QgsExpression(rule.filterExpression())
        node = expression.rootNode()
        if (
            isinstance(node, QgsExpressionNodeBinaryOperator)
            and node.op() == QgsExpressionNodeBinaryOperator.BinaryOperator.boEQ
            and isinstance(node.opLeft(), QgsExpressionNodeColumnRef)
            and isinstance(node.opRight(), QgsExpressionNodeLiteral)
            and node.opLeft().name() == name
        ):
            text = value_text(node.opRight().value())
            label = "" if rule.label() == text else rule.label()
            styles.setdefault(text, (label, _color(rule.symbol())))
    return styles


def _color(symbol: Optional[QgsSymbol]) -> Optional[str]:
    return symbol.color().name() if symbol is not None else None


def value_map(given: Any) -> dict[str, str]:
    """Return description by value; QGIS stores the opposite, as one dictionary or a list of dictionaries."""
    parts = given if isinstance(given, list) else [given]
    pairs = [pair for part in parts if isinstance(part, dict) for pair in part.items()]
    return {value_text(value): str(name) for name, value in pairs}


def value_relation(config: dict[str, Any], project: Optional[QgsProject]) -> Optional[Relation]:
    """Return the table of a value relation; None if the project lacks the table or its fields."""
    table = QgsValueRelationFieldFormatter.resolveLayer(config, project) if project is not None else None
    if table is None or not table.isValid():
        return None
    key, name = (table.fields().lookupField(str(config.get(part, ""))) for part in ("Key", "Value"))
    return Relation(QgsVectorLayerFeatureSource(table), key, name) if min(key, name) >= 0 else None


def raster_classes(layers: list[QgsRasterLayer], context: QgsProcessingContext) -> list[list[Any]]:
    """Return [value, name, colour] of the classes in the renderers of label rasters; a label that is a number is no
    name.
    """
    rows: dict[int, list[Any]] = {}
    for layer in layers:
        renderer = chosen_renderer(styled_layer(layer, context), layer, context)
        if not isinstance(renderer, QgsPalettedRasterRenderer):
            continue
        for entry in renderer.classes():
            if float(entry.value).is_integer():
                name = "" if _is_number(entry.label) else entry.label
                rows.setdefault(int(entry.value), [int(entry.value), name, entry.color.name()])
    return [rows[value] for value in sorted(rows)]


def value_text(value: Any) -> str:
    """Convert a field's value to the text that identifies a class; whole numbers look the same in every type."""
    if isinstance(value, float):
        return f"{value:.15g}"
    if isinstance(value, bool):
        return str(value).lower()  # as QGIS displays it
    return class_text(value.toString(Qt.DateFormat.ISODate) if hasattr(value, "toString") else str(value))


def absent(value: Any) -> bool:
    """Return whether a value is empty or blank: NULL is a QVariant or None, depending on the version of QGIS."""
    if value is None or (hasattr(value, "isNull") and value.isNull()):
        return True
    return not class_text(value) if isinstance(value, str) else isinstance(value, float) and isnan(value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return not text
    return True
