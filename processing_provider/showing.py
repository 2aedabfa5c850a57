"""Brings results into the project: new layers get their look, those of a file that was replaced its new content."""

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

# The ids of layers that were in the project before their file was written again.
_reloaded: set[str] = set()


class _Dresser(QgsProcessingLayerPostProcessorInterface):
    """Gives a layer its look when QGIS adds it to the project.

    QGIS takes a layer that is there already for the new one, where both have the same source; that one was looked
    after by `show_again`, and keeps the user's style if it can.
    """

    def __init__(self, look: Look) -> None:
        super().__init__()
        self.look = look
        self.above: Optional[str] = None  # the source of the layer that this one waits below

    def postProcessLayer(
        self, layer: QgsMapLayer, context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> None:
        """Style the layer, on QGIS's main thread."""
        if layer.id() not in _reloaded:
            self.look.draw(layer)
            layer.triggerRepaint()
            if self.above is not None:
                above, identity = place_of(self.above, "gdal"), layer.id()
                # Not now: QGIS may not have added the other one yet.
                QTimer.singleShot(0, lambda: _put_below(identity, above))


# A context deletes its post-processors at its end and keeps no Python object alive until then.
_kept: list[QgsProcessingLayerPostProcessorInterface] = []


def dress(source: str, look: Look, context: QgsProcessingContext) -> None:
    """If QGIS will add a layer to the project, let it do so in a look."""
    if context.willLoadLayerOnCompletion(source):
        dresser = _Dresser(look)
        _kept[:] = [*(earlier for earlier in _kept if not sip.isdeleted(earlier)), dresser]
        context.layerToLoadOnCompletionDetails(source).setPostProcessor(dresser)


def entitle(source: str, name: str, parameters: Mapping[str, Any], context: QgsProcessingContext) -> None:
    """If QGIS will add a layer to the project, let it call it so, unless the user or a model names that output.

    Args:
        source: The layer's.
        name: For the layer; where the user wants them named after their files, QGIS does that.
        parameters: The algorithm's.
        context: QGIS's.
    """
    if context.willLoadLayerOnCompletion(source):
        details = context.layerToLoadOnCompletionDetails(source)
        given = parameters.get(details.outputName)
        if not (isinstance(given, QgsProcessingOutputLayerDefinition) and given.destinationName):
            details.name = name


def forget(paths: Collection[Optional[str]], context: QgsProcessingContext) -> None:
    """Let QGIS not look for layers that were wished but do not come of these settings, as a table of a raster."""
    wished = context.layersToLoadOnCompletion()
    there = {source: details for source, details in wished.items() if absolute(source) not in paths}
    if len(there) < len(wished):
        context.setLayersToLoadOnCompletion(there)


def keep_below(source: str, above: str, context: QgsProcessingContext) -> None:
    """Let a layer that has its look be added to the project switched off, and below another raster of the results."""
    if context.willLoadLayerOnCompletion(source):
        dresser = context.layerToLoadOnCompletionDetails(source).postProcessor()
        if isinstance(dresser, _Dresser):
            dresser.above = above


def _put_below(identity: str, above: Place) -> None:
    """Switch a layer off in the legend, and move it below another one of the same group."""
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
        group.insertChildNode(max(places) + 1, node.clone())  # first: a layer without a node leaves the project
        group.removeChildNode(node)


class _Errand(QObject):
    """Something to do on the main thread."""

    wanted = pyqtSignal()
    waiting: list[_Errand] = []  # noqa: RUF012 (shared on purpose: it keeps them alive)

    def __init__(self, results: list[str], looks: dict[str, Look]) -> None:
        super().__init__()
        self.results, self.looks = results, looks
        self.waiting.append(self)
        self.moveToThread(QCoreApplication.instance().thread())
        self.wanted.connect(self.run)

    def run(self) -> None:
        """Do it."""
        self.waiting.remove(self)
        _show_again(self.results, self.looks)


def show_again(results: Iterable[Any], looks: Mapping[str, Look]) -> None:
    """Reload the layers of the project that show what was written; on the main thread, whichever this is.

    In a model, algorithms end on the thread of the model.

    Args:
        results: What the algorithm gives: files, folders, layers in files, and other things, which do not matter.
        looks: How layers look, by their sources.
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
                f'The layer "{layer.name()}" is being edited and was not reloaded, though {shown.path} was written '
                "again. Stop editing and add the layer anew.",
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
    """Whether two places are the same layer; a file is its only layer where no other is named."""
    if one.path is None or other.path is None or _real(one.path) != _real(other.path):
        return False
    return "" in (one.layer, other.layer) or one.layer == other.layer


def _reload(layer: Any) -> None:
    """Open a layer's file anew; where a provider reloads by itself, the layer keeps its extent, for one."""
    project, options = QgsProject.instance(), QgsDataProvider.ProviderOptions()
    options.transformContext = project.transformContext()
    bands = layer.bandCount() if isinstance(layer, QgsRasterLayer) else None
    layer.setDataSource(layer.source(), layer.name(), layer.providerType(), options)
    if isinstance(layer, QgsVectorLayer):
        layer.updateExtents(True)
        layer.removeSelection()  # the ids are those of other features now
    elif layer.bandCount() != bands:
        layer.setDataSource(layer.source(), layer.name(), layer.providerType(), options, True)


def _redraw(layer: Any, look: Look) -> None:
    """Give a layer its look, or leave it in the user's style where that says of all classes the same."""
    before, had, had_titles = QgsMapLayerStyle(), _classes(layer), _titles(layer)
    before.readFromLayer(layer)
    look.draw(layer)
    has, has_titles = _classes(layer), _titles(layer)
    same = had is None or has is None or has.items() <= had.items()
    if same and has_titles.items() <= had_titles.items():
        before.writeToLayer(layer)


def _classes(layer: Any) -> Optional[dict[Any, str]]:
    """What the legend calls the values of a layer; None where it is not drawn by classes."""
    renderer = layer.renderer()
    if isinstance(renderer, QgsPalettedRasterRenderer):
        return {int(entry.value): entry.label for entry in renderer.classes()}
    if isinstance(renderer, QgsCategorizedSymbolRenderer):
        field = renderer.classAttribute()
        return {(field, str(category.value())): category.label() for category in renderer.categories()}
    return None


def _titles(layer: Any) -> dict[str, str]:
    """What people read in the place of the names of fields."""
    if not isinstance(layer, QgsVectorLayer):
        return {}
    return {field.name(): field.alias() for field in layer.fields() if field.alias()}
