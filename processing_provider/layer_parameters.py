"""Parameters that hold layers, and what belongs to layers: fields and extents."""

from __future__ import annotations

from typing import Any

from qgis.core import (
    QgsProcessing,
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterExtent,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterField,
    QgsProcessingParameterMultipleLayers,
    QgsProcessingParameterRasterLayer,
)

from ..plugin.engine.config import JobConfig
from .parameters import Parameters, Row, ValueRow


class Raster(Row):
    """One raster layer."""

    def definition(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """A raster layer or the path of one."""
        return QgsProcessingParameterRasterLayer(self.name, self.label, optional=self.optional)


class Rasters(Row):
    """Several raster layers."""

    def definition(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """A list of raster layers or paths."""
        kind = QgsProcessing.SourceType.TypeRaster
        return QgsProcessingParameterMultipleLayers(self.name, self.label, layerType=kind, optional=self.optional)


class _NeededLayers(QgsProcessingParameterMultipleLayers):
    """Layers that the dialog does not call optional, although a folder may take their place, as in models."""

    def checkValueIsAcceptable(self, input: Any, context: Any = None) -> bool:
        """Whether they will do as far as can be told without the folder; `read` tells the rest."""
        return input in (None, "", []) or super().checkValueIsAcceptable(input, context)


class NeededRasters(Rasters):
    """Several raster layers, for which nothing but another parameter can stand in."""

    def definition(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """A list of raster layers or paths, not marked as optional."""
        return _NeededLayers(self.name, self.label, layerType=QgsProcessing.SourceType.TypeRaster)


class Polygons(Row):
    """The polygons of a layer, or its selected ones."""

    def definition(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """A feature source, so that "selected features only" and filters work."""
        kinds = [QgsProcessing.SourceType.TypeVectorPolygon]
        return QgsProcessingParameterFeatureSource(self.name, self.label, types=kinds, optional=self.optional)


class Features(Polygons):
    """The polygons, lines or points of a layer, or its selected ones."""

    def definition(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """A feature source of any geometry."""
        kinds = [QgsProcessing.SourceType.TypeVectorAnyGeometry]
        return QgsProcessingParameterFeatureSource(self.name, self.label, types=kinds, optional=self.optional)


class FieldOf(ValueRow):
    """A field of the layer that another parameter holds."""

    parent: str = ""

    def definition(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """A field of any type."""
        return QgsProcessingParameterField(
            self.name, self.label, parentLayerParameterName=self.parent, optional=self.optional
        )

    def value(self, algorithm: QgsProcessingAlgorithm, parameters: Parameters, context: QgsProcessingContext) -> Any:
        """Its name; "" where none is given."""
        return algorithm.parameterAsString(parameters, self.name, context)


class NumberFieldOf(FieldOf):
    """A field of numbers."""

    def definition(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """A numeric field."""
        return QgsProcessingParameterField(
            self.name,
            self.label,
            parentLayerParameterName=self.parent,
            type=QgsProcessingParameterField.DataType.Numeric,
            optional=self.optional,
        )


class Extent(Row):
    """A rectangle, in any CRS."""

    def definition(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """An extent."""
        return QgsProcessingParameterExtent(self.name, self.label, optional=True)
