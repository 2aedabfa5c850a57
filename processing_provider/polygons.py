"""Polygons from any layer, brought to where the engine can read them: a GeoPackage in the CRS of the raster."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsCsException,
    QgsFeature,
    QgsFeatureRenderer,
    QgsFeatureRequest,
    QgsGeometry,
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingFeatureSource,
    QgsRasterLayer,
    QgsRectangle,
    QgsWkbTypes,
)

from ..plugin.engine.errors import InputError
from ..plugin.engine.events import Reporter, Stage
from .classes import ClassField, OneClass
from .geopackage import GeoPackage
from .layers import chosen_renderer, crs_text, place_text

NAMED_FEATURES = 10


def polygon_source(
    algorithm: QgsProcessingAlgorithm,
    parameters: dict,
    name: str,
    context: QgsProcessingContext,
    raster: QgsRasterLayer,
    extent: QgsRectangle,
) -> Optional[PolygonSource]:
    """The polygons that a parameter holds, all of one class; None where it is not given.

    Args:
        raster: The layer whose CRS they are wanted in.
        extent: What they must meet, in that CRS.

    Raises:
        InputError: The layer cannot be read, or holds lines or points.
    """
    if parameters.get(name) in (None, ""):
        return None
    source = algorithm.parameterAsSource(parameters, name, context)
    if source is None:
        raise InputError(
            f"{name} ({parameters[name]}) is no vector layer that QGIS can open.",
            "Check the path and the layer's name.",
        )
    title = source.sourceName()
    kind = QgsWkbTypes.geometryType(source.wkbType())
    allowed = (QgsWkbTypes.GeometryType.PolygonGeometry, QgsWkbTypes.GeometryType.UnknownGeometry)
    if kind not in allowed:
        words = QgsWkbTypes.displayString(source.wkbType())
        raise InputError(
            f'The layer "{title}" holds no polygons (its geometry is {words}).',
            "Choose a polygon layer; points and lines can be buffered first.",
        )
    renderer = chosen_renderer(algorithm.parameterAsVectorLayer(parameters, name, context), context)
    return PolygonSource(source, OneClass.of(renderer, title), renderer, raster.crs(), extent, context)


@dataclass
class Skipped:
    """What cannot be used of a layer."""

    without_class: int = 0
    broken: int = 0
    ids: list[int] = field(default_factory=list)  # of the first broken ones

    def add_broken(self, feature: QgsFeature) -> None:
        """Count a feature of whose geometry no polygon can be made."""
        self.broken += 1
        if len(self.ids) < NAMED_FEATURES:
            self.ids.append(feature.id())


@dataclass
class PolygonSource:
    """Polygons of a layer, still to be written.

    Attributes:
        source: Gives the features; honours filters and "selected features only".
        classes: Tells the class of a feature.
        renderer: How the layer is drawn, where somebody chose that.
        crs: The CRS to write in.
        extent: What the polygons must meet, in `crs`.
        context: Holds the user's choice of transformations between CRSs.
    """

    source: QgsProcessingFeatureSource
    classes: ClassField | OneClass
    renderer: Optional[QgsFeatureRenderer]
    crs: QgsCoordinateReferenceSystem
    extent: QgsRectangle
    context: QgsProcessingContext

    @property
    def title(self) -> str:
        """The layer's name."""
        return self.source.sourceName()

    def classify_by(self, name: str) -> None:
        """Take the classes from a field.

        Raises:
            InputError: The layer has no such field.
        """
        self.classes = ClassField.of(self.renderer, self.source.fields(), name, self.title)

    def write(self, path: Path, layer: str, reporter: Reporter) -> list[list[Any]]:
        """Write the polygons that meet the extent to a new GeoPackage, one by one.

        Geometries are transformed and made valid; features that cannot be used are left out with a warning.

        Returns:
            [value, name, colour or None] of each class.

        Raises:
            InputError: No polygon meets the extent, or a class value is no whole number.
        """
        transform = self._transform(reporter)
        self.classes.prepare(self.source)
        skipped = Skipped()
        stage = Stage(reporter, self.source.featureCount(), f'Reading the polygons of "{self.title}"', 0, 0)
        unchecked = QgsProcessingFeatureSource.Flag.FlagSkipGeometryValidityChecks
        with GeoPackage(path, layer, self.crs) as target:
            for feature in self.source.getFeatures(self._request(transform), unchecked):
                stage.advance()
                geometry = _polygons(feature, transform)
                if geometry is None:
                    skipped.add_broken(feature)
                elif geometry.boundingBoxIntersects(self.extent):
                    value = self.classes.value_of(feature)
                    if value is None:
                        skipped.without_class += 1
                    else:
                        target.add(feature.id(), geometry, value)
        self._warn(skipped, reporter)
        if not target.count:
            raise self._nothing_there(skipped)
        return self.classes.rows()

    def _transform(self, reporter: Reporter) -> Optional[QgsCoordinateTransform]:
        own = self.source.sourceCrs()
        if own == self.crs:
            return None
        if not own.isValid() or not self.crs.isValid():
            lacking, other = ("The raster", f'"{self.title}"') if own.isValid() else (f'"{self.title}"', "the raster")
            reporter.warning(f"{lacking} has no CRS: its coordinates are taken to be in that of {other}.")
            return None
        return QgsCoordinateTransform(own, self.crs, self.context.transformContext())

    def _request(self, transform: Optional[QgsCoordinateTransform]) -> QgsFeatureRequest:
        """Asks for the features near the extent; for all where that cannot be told in the layer's CRS."""
        request = QgsFeatureRequest().setSubsetOfAttributes(self.classes.attributes())
        if transform is None:
            return request.setFilterRect(self.extent)
        back = QgsCoordinateTransform(self.crs, self.source.sourceCrs(), self.context.transformContext())
        try:
            near = back.transformBoundingBox(self.extent)
        except QgsCsException:
            return request
        return request.setFilterRect(near) if near.isFinite() else request

    def _warn(self, skipped: Skipped, reporter: Reporter) -> None:
        if skipped.without_class:
            reporter.warning(f'{_features(skipped.without_class)} of "{self.title}" left out: no class given.')
        if skipped.broken:
            more = ", …" if skipped.broken > len(skipped.ids) else ""
            ids = ", ".join(str(number) for number in skipped.ids) + more
            reporter.warning(
                f'{_features(skipped.broken)} of "{self.title}" left out: the geometry makes no polygon '
                f"in the raster's CRS (feature id {ids})."
            )

    def _nothing_there(self, skipped: Skipped) -> InputError:
        count = self.source.featureCount()
        if count == 0:
            return InputError(f'The layer "{self.title}" holds no polygons, or none is selected.', "Check the layer.")
        if skipped.without_class or skipped.broken:
            return InputError(
                f'No polygon of "{self.title}" can be used: {skipped.without_class} have no class, and of '
                f"{skipped.broken} the geometry is broken.",
                "Check the class field, and the geometries.",
            )
        own = self.source.sourceCrs()
        return InputError(
            f'The polygons of "{self.title}" do not overlap the raster: they lie at '
            f"{place_text(self.source.sourceExtent(), own)}, the part of the raster to work on at "
            f"{place_text(self.extent, self.crs)}.",
            f"Check that both belong together and that {crs_text(own)} is the right CRS of the polygons.",
        )


def _polygons(feature: QgsFeature, transform: Optional[QgsCoordinateTransform]) -> Optional[QgsGeometry]:
    """The feature's polygons in the raster's CRS, valid and with straight edges; None where there are none."""
    geometry = feature.geometry()
    if geometry.isEmpty():
        return None
    if QgsWkbTypes.isCurvedType(geometry.wkbType()):
        geometry = QgsGeometry(geometry.constGet().segmentize())
    if not geometry.isGeosValid():
        geometry = geometry.makeValid()
        geometry.convertGeometryCollectionToSubclass(QgsWkbTypes.GeometryType.PolygonGeometry)
    if geometry.isEmpty() or geometry.type() != QgsWkbTypes.GeometryType.PolygonGeometry:
        return None
    if transform is not None:
        try:
            geometry.transform(transform)
        except QgsCsException:
            return None
    return geometry if geometry.boundingBox().isFinite() else None


def _features(count: int) -> str:
    return f"{count} polygon{'' if count == 1 else 's'}"
