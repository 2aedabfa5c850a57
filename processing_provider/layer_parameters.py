"""Parameters for layers, their fields and extents."""

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
    """A raster layer."""

    def definition(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """Create a raster layer parameter."""
        return QgsProcessingParameterRasterLayer(self.name, self.label, optional=self.optional)


class Rasters(Row):
    """Several raster layers."""

    def definition(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """Create a parameter for a list of raster layers or paths."""
        kind = QgsProcessing.SourceType.TypeRaster
        return QgsProcessingParameterMultipleLayers(self.name, self.label, layerType=kind, optional=self.optional)


class _NeededLayers(QgsProcessingParameterMultipleLayers):
    """Layers that the dialog does not mark as optional, although a folder may replace them, for example in models."""

    def checkValueIsAcceptable(self, input: Any, context: Any = None) -> bool:
        """Accept an empty value, because the folder is not known here; `read` checks both."""
        return input in (None, "", []) or super().checkValueIsAcceptable(input, context)


class NeededRasters(Rasters):
    """Several raster layers that may be empty only if another parameter replaces them."""

    def definition(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """Create a parameter for raster layers or paths that is not marked as optional."""
        return _NeededLayers(self.name, self.label, layerType=QgsProcessing.SourceType.TypeRaster)


class Polygons(Row):
    """The polygons of a layer, or the selected ones."""

    def definition(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """Create a feature source parameter, so that "selected features only" and filters work."""
        kinds = [QgsProcessing.SourceType.TypeVectorPolygon]
        return QgsProcessingParameterFeatureSource(self.name, self.label, types=kinds, optional=self.optional)


class Features(Polygons):
    """The polygons, lines or points of a layer, or the selected ones."""

    def definition(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """Create a feature source parameter for any geometry."""
        kinds = [QgsProcessing.SourceType.TypeVectorAnyGeometry]
        return QgsProcessingParameterFeatureSource(self.name, self.label, types=kinds, optional=self.optional)


class FieldOf(ValueRow):
    """A field of the layer in another parameter."""

    parent: str = ""

    def definition(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """Create a field parameter for any type."""
        return QgsProcessingParameterField(
            self.name, self.label, parentLayerParameterName=self.parent, optional=self.optional
        )

    def value(self, algorithm: QgsProcessingAlgorithm, parameters: Parameters, context: QgsProcessingContext) -> Any:
        """Return the name of the field; "" if none is given."""
        return algorithm.parameterAsString(parameters, self.name, context)


class NumberFieldOf(FieldOf):
    """A numeric field."""

    def definition(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """Create a field parameter for numbers."""
        return QgsProcessingParameterField(
            self.name,
            self.label,
            parentLayerParameterName=self.parent,
            type=QgsProcessingParameterField.DataType.Numeric,
            optional=self.optional,
        )


class Extent(Row):
    """A rectangle in any CRS."""

    def definition(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """Create an extent parameter."""
        return QgsProcessingParameterExtent(self.name, self.label, optional=True)
