"""Adds results to the project: new layers get their style, and layers of replaced files are reloaded."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Optional

from qgis.core import (
    Qgis,
    QgsCategorizedSymbolRenderer,
    QgsDataProvider,
    QgsMapLayer,
    QgsMapLayerStyle,
    QgsMessageLog,
    QgsPalettedRasterRenderer,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingLayerPostProcessorInterface,
    QgsProcessingOutputLayerDefinition,
    QgsProject,
    QgsRasterLayer,
    QgsVectorLayer,
)
from qgis.PyQt import sip
from qgis.PyQt.QtCore import QCoreApplication, QObject, QThread, QTimer, pyqtSignal

from .looks import Look
from .parameters import absolute
from .places import Place, layer_place, place_of

# The ids of layers that were in the project before their file was rewritten.
_reloaded: set[str] = set()


class _Dresser(QgsProcessingLayerPostProcessorInterface):
    """Styles a layer when QGIS adds it to the project.

    If the project already has a layer with the same source, QGIS passes that one instead; `show_again` has then already
    updated it, and keeps the user's style where possible.
    """

    def __init__(self, look: Look) -> None:
        super().__init__()
        self.look = look
        self.above: Optional[str] = None  # source of the layer that this one is placed below

    def postProcessLayer(
        self, layer: QgsMapLayer, context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> None:
        """Style the layer, on QGIS's main thread."""
        if layer.id() not in _reloaded:
            self.look.draw(layer)
            layer.triggerRepaint()
            if self.above is not None:
                above, identity = place_of(self.above, "gdal"), layer.id()
                # Deferred, because QGIS may not have added the other layer yet.
                QTimer.singleShot(0, lambda: _put_below(identity, above))


# A context deletes its post-processors when it ends, but keeps no reference that would keep the Python objects alive.
_kept: list[QgsProcessingLayerPostProcessorInterface] = []


def dress(source: str, look: Look, context: QgsProcessingContext) -> None:
    """Style a layer when QGIS adds it to the project."""
    if context.willLoadLayerOnCompletion(source):
        dresser = _Dresser(look)
        _kept[:] = [*(earlier for earlier in _kept if not sip.isdeleted(earlier)), dresser]
        context.layerToLoadOnCompletionDetails(source).setPostProcessor(dresser)


def entitle(source: str, name: str, parameters: Mapping[str, Any], context: QgsProcessingContext) -> None:
    """Name a layer that QGIS will add to the project, unless the user or a model names that output.

    Args:
        source: Source of the layer.
        name: Name of the layer; QGIS ignores it if the user prefers file names.
        parameters: Parameters of the algorithm.
        context: The processing context.
    """
    if context.willLoadLayerOnCompletion(source):
        details = context.layerToLoadOnCompletionDetails(source)
        given = parameters.get(details.outputName)
        if not (isinstance(given, QgsProcessingOutputLayerDefinition) and given.destinationName):
            details.name = name


def forget(paths: Collection[Optional[str]], context: QgsProcessingContext) -> None:
    """Stop QGIS from loading requested layers that these settings do not produce, such as a table for a raster."""
    wished = context.layersToLoadOnCompletion()
    there = {source: details for source, details in wished.items() if absolute(source) not in paths}
    if len(there) < len(wished):
        context.setLayersToLoadOnCompletion(there)


def load_each(wished: Mapping[str, Any], results: Collection[Mapping[str, Any]], context: QgsProcessingContext) -> None:
    """Let QGIS load the layers of several results where it was asked for one.

    Args:
        wished: The path of each output by name, as the user gave it.
        results: For each of several rasters, the paths that were written instead.
        context: The processing context.
    """
    names = {path: name for name, path in wished.items() if isinstance(path, str)}
    there = {}
    for source, details in context.layersToLoadOnCompletion().items():
        name = names.get(absolute(source) or "")
        if name is None:
            there[source] = details
            continue
        for result in results:
            if result[name]:
                there[result[name]] = QgsProcessingContext.LayerDetails(
                    details.name, details.project, details.outputName
                )
    context.setLayersToLoadOnCompletion(there)


def keep_below(source: str, above: str, context: QgsProcessingContext) -> None:
    """Place a layer, when it is added to the project, below another raster of the results and switch it off."""
    if context.willLoadLayerOnCompletion(source):
        dresser = context.layerToLoadOnCompletionDetails(source).postProcessor()
        if isinstance(dresser, _Dresser):
            dresser.above = above


def _put_below(identity: str, above: Place) -> None:
    """Switch a layer off in the legend, and move it below another layer of the same group."""
    project = QgsProject.instance()
    node = project.layerTreeRoot().findLayer(identity)
    if node is None:
        return
    node.setItemVisibilityChecked(False)
    layers = (layer for layer in project.mapLayers().values() if _same(layer_place(layer), above))
    others = [project.layerTreeRoot().findLayer(layer.id()) for layer in layers]
    rows = node.parent().children()
    places = [rows.index(other) for other in others if other in rows]
    if places and rows.index(node) < max(places):
        group = node.parent()
        # Inserted first, because a layer without a node is removed from the project.
        group.insertChildNode(max(places) + 1, node.clone())
        group.removeChildNode(node)


class _Errand(QObject):
    """Runs a reload on the main thread."""

    wanted = pyqtSignal()
    waiting: list[_Errand] = []  # noqa: RUF012 (shared on purpose: it keeps them alive)

    def __init__(self, results: list[str], looks: dict[str, Look]) -> None:
        super().__init__()
        self.results, self.looks = results, looks
        self.waiting.append(self)
        self.moveToThread(QCoreApplication.instance().thread())
        self.wanted.connect(self.run)

    def run(self) -> None:
        """Reload the layers."""
        self.waiting.remove(self)
        _show_again(self.results, self.looks)


def show_again(results: Iterable[Any], looks: Mapping[str, Look]) -> None:
    """Reload the layers of the project whose files were written; on the main thread, whatever the calling thread.

    In a model, algorithms end on the model's thread.

    Args:
        results: Values of the algorithm's outputs; those that are not files, folders or layers are ignored.
        looks: Styles of the layers, by source.
    """
    texts = [text for text in results if isinstance(text, str)]
    if QThread.currentThread() == QCoreApplication.instance().thread():
        _show_again(texts, dict(looks))
    else:
        _Errand(texts, dict(looks)).wanted.emit()


def _show_again(results: list[str], looks: dict[str, Look]) -> None:
    written = {_real(place.path) for place in map(place_of, results) if place.path is not None and place.path.exists()}
    known = [(place_of(source), look) for source, look in looks.items()]
    for layer in QgsProject.instance().mapLayers().values():
        shown = layer_place(layer)
        if shown.path is None or not isinstance(layer, (QgsRasterLayer, QgsVectorLayer)):
            continue
        real = _real(shown.path)
        if written.isdisjoint((real, *real.parents)):
            continue
        _reloaded.add(layer.id())
        if isinstance(layer, QgsVectorLayer) and layer.isEditable():
            QgsMessageLog.logMessage(
                f'The layer "{layer.name()}" is being edited and was not reloaded, although {shown.path} was '
                "rewritten. Stop editing and add the layer again.",
                "Terrazzo",
                Qgis.MessageLevel.Warning,
            )
            continue
        _reload(layer)
        look = next((look for place, look in known if _same(place, shown)), None)
        if look is not None and layer.isValid():
            _redraw(layer, look)
        layer.triggerRepaint()


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _same(one: Place, other: Place) -> bool:
    """Return whether two locations are the same layer; a file without a layer name stands for its only layer."""
    if one.path is None or other.path is None or _real(one.path) != _real(other.path):
        return False
    return "" in (one.layer, other.layer) or one.layer == other.layer


def _reload(layer: Any) -> None:
    """Reopen the file of a layer; the provider's own reload would keep the old extent, for example."""
    project, options = QgsProject.instance(), QgsDataProvider.ProviderOptions()
    options.transformContext = project.transformContext()
    bands = layer.bandCount() if isinstance(layer, QgsRasterLayer) else None
    layer.setDataSource(layer.source(), layer.name(), layer.providerType(), options)
    if isinstance(layer, QgsVectorLayer):
        layer.updateExtents(True)
        layer.removeSelection()  # ids now belong to other features
    elif layer.bandCount() != bands:
        layer.setDataSource(layer.source(), layer.name(), layer.providerType(), options, True)


def _redraw(layer: Any, look: Look) -> None:
    """Apply a style to a layer, unless the user's style shows the same classes and titles."""
    before, had, had_titles = QgsMapLayerStyle(), _classes(layer), _titles(layer)
    before.readFromLayer(layer)
    look.draw(layer)
    has, has_titles = _classes(layer), _titles(layer)
    same = had is None or has is None or has.items() <= had.items()
    if same and has_titles.items() <= had_titles.items():
        before.writeToLayer(layer)


def _classes(layer: Any) -> Optional[dict[Any, str]]:
    """Return the legend's name of each value; None if the layer is not drawn by classes."""
    renderer = layer.renderer()
    if isinstance(renderer, QgsPalettedRasterRenderer):
        return {int(entry.value): entry.label for entry in renderer.classes()}
    if isinstance(renderer, QgsCategorizedSymbolRenderer):
        field = renderer.classAttribute()
        return {(field, str(category.value())): category.label() for category in renderer.categories()}
    return None


def _titles(layer: Any) -> dict[str, str]:
    """Return the aliases of fields by name."""
    if not isinstance(layer, QgsVectorLayer):
        return {}
    return {field.name(): field.alias() for field in layer.fields() if field.alias()}
