"""Writes features of any vector layer to a GeoPackage in the CRS of the raster, which the engine can read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsCsException,
    QgsFeature,
    QgsFeatureRequest,
    QgsGeometry,
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingFeatureSource,
    QgsRectangle,
    QgsWkbTypes,
)

from ..plugin.engine.errors import InputError
from ..plugin.engine.events import Reporter, Stage
from .class_styles import absent
from .classes import Values
from .coordinates import crs_text, ground_crs, place_text, same_ground
from .geopackage import GeoPackage
from .layers import check_stays_here, vector_layer
from .parameters import Parameters

NAMED_FEATURES = 10
# If more than this share of the layer's extent is wanted, the whole layer is read.
MOST = 0.5
# Features read between two progress updates and checks for Cancel.
FEATURES_A_STEP = 500
# Segments per quarter circle around a point.
BUFFER_SEGMENTS = 16

Kind = QgsWkbTypes.GeometryType
POLYGONS = (Kind.PolygonGeometry,)
ANY_KIND = (Kind.PolygonGeometry, Kind.LineGeometry, Kind.PointGeometry)
PLAIN_POLYGONS = {
    QgsWkbTypes.Type.Polygon, QgsWkbTypes.Type.PolygonZ, QgsWkbTypes.Type.Polygon25D, QgsWkbTypes.Type.PolygonM,
    QgsWkbTypes.Type.PolygonZM, QgsWkbTypes.Type.MultiPolygon, QgsWkbTypes.Type.MultiPolygonZ,
    QgsWkbTypes.Type.MultiPolygon25D, QgsWkbTypes.Type.MultiPolygonM, QgsWkbTypes.Type.MultiPolygonZM,
}  # fmt: skip


def feature_source(
    algorithm: QgsProcessingAlgorithm,
    parameters: Parameters,
    name: str,
    context: QgsProcessingContext,
    crs: QgsCoordinateReferenceSystem,
    extent: QgsRectangle,
    kinds: tuple[Any, ...] = POLYGONS,
) -> Optional[FeatureSource]:
    """Return the features of a parameter, all with the value 1; None if it is not given.

    Args:
        algorithm: The algorithm.
        parameters: Its parameters.
        name: Name of the parameter.
        context: The processing context.
        crs: CRS to write the features in.
        extent: Only features that intersect it are wanted, in `crs`.
        kinds: Geometry types that can be used.

    Raises:
        InputError: The layer cannot be read, or holds other geometries.
    """
    if parameters.get(name) in (None, ""):
        return None
    check_stays_here(parameters[name], context)
    source = algorithm.parameterAsSource(parameters, name, context)
    if source is None:
        raise InputError(
            f"{name} ({parameters[name]}) is not a vector layer that QGIS can open.",
            "Check the path and the layer's name.",
        )
    if QgsWkbTypes.geometryType(source.wkbType()) not in (*kinds, Kind.UnknownGeometry):
        noun = "polygons" if kinds == POLYGONS else "places on the ground"
        words = QgsWkbTypes.displayString(source.wkbType())
        raise InputError(
            f'The layer "{source.sourceName()}" holds no {noun} (its geometry type is {words}).',
            "Choose a polygon layer." if kinds == POLYGONS else "Choose a layer of polygons, lines or points.",
        )
    own = (source.sourceCrs(), source.sourceExtent())
    if QgsWkbTypes.geometryType(source.wkbType()) == Kind.UnknownGeometry:
        # QGIS treats a layer of geometry collections as a table; only its data provider knows where its features are.
        layer = vector_layer(algorithm, parameters, name, context)
        if layer is not None:
            own = (layer.dataProvider().crs(), layer.dataProvider().extent())
    return FeatureSource(name.lower(), source, *own, kinds, crs, extent, context)


class Some:
    """Counts features of one kind and keeps the ids of the first ones."""

    def __init__(self) -> None:
        self.count = 0
        self.ids: list[int] = []

    def add(self, feature: QgsFeature) -> None:
        """Add a feature."""
        self.count += 1
        if len(self.ids) < NAMED_FEATURES:
            self.ids.append(feature.id())

    def __str__(self) -> str:
        more = ", …" if self.count > len(self.ids) else ""
        return f"feature id {', '.join(map(str, self.ids))}{more}"


@dataclass
class Odd:
    """Features that cannot be used unchanged."""

    without_value: int = 0
    without_geometry: Some = field(default_factory=Some)
    broken: Some = field(default_factory=Some)  # their geometry could not be repaired
    mended: Some = field(default_factory=Some)
    cut: Some = field(default_factory=Some)  # for example collections of which only the polygons are used

    @property
    def unusable(self) -> int:
        """Number of features without a usable geometry."""
        return self.without_geometry.count + self.broken.count


@dataclass
class FeatureSource:
    """Features of a layer that are still to be written to a file.

    Attributes:
        setting: Setting of the job that names the file; also the name of its layer.
        source: Source of the features; respects filters and "selected features only".
        own_crs: CRS of the layer.
        own_extent: Extent of the layer; null if unknown.
        kinds: Geometry types that can be used.
        crs: CRS to write in.
        extent: Only features that intersect it are written, in `crs`.
        context: Holds the user's choice of coordinate transformations.
        values: Gives the value of a feature.
        buffer: Buffer around points and lines, in units of `crs`; 0 for none.
        rank: Index of the field with the priorities of overlapping features.
        layer: Name of the file's layer, if it differs from the setting.
    """

    setting: str
    source: QgsProcessingFeatureSource
    own_crs: QgsCoordinateReferenceSystem
    own_extent: QgsRectangle
    kinds: tuple[Any, ...]
    crs: QgsCoordinateReferenceSystem
    extent: QgsRectangle
    context: QgsProcessingContext
    values: Values = field(default_factory=Values)
    buffer: float = 0.0
    rank: Optional[int] = None
    layer: str = ""

    @property
    def stand_in(self) -> str:
        """The setting for checks before the file is written."""
        return ""

    @property
    def title(self) -> str:
        """Name of the layer."""
        return self.source.sourceName()

    @property
    def file_layer(self) -> str:
        """Name of the file's layer."""
        return self.layer or self.setting

    def file_in(self, folder: Path) -> Path:
        """The file that `write` writes in a folder."""
        return folder / f"{self.setting}.gpkg"

    def write(self, folder: Path, reporter: Reporter) -> dict[str, Any]:
        """Write the features that intersect the extent to a new GeoPackage, one by one.

        Geometries are transformed and made valid; features that cannot be used are left out with a warning.

        Args:
            folder: Folder for the file.
            reporter: Receives progress and warnings.

        Returns:
            Settings of the job: the file, and those that follow from the values.

        Raises:
            InputError: No feature intersects the extent, or a value cannot be used.
        """
        path = self.file_in(folder)
        transform = self._transform(reporter)
        self.values.prepare(self.source)
        odd = Odd()
        stage = Stage(reporter, self.source.featureCount(), f'Reading the features of "{self.title}"', 0, 0)
        unchecked = QgsProcessingFeatureSource.Flag.FlagSkipGeometryValidityChecks
        value_of, extent, rank, read = self.values.value_of, self.extent, self.rank, 0
        ranked = rank is not None
        with GeoPackage(path, self.file_layer, self.crs, self.values.fractional, ranked) as target:
            for feature in self.source.getFeatures(self._request(transform), unchecked):
                read += 1
                if read % FEATURES_A_STEP == 0:
                    stage.advance(FEATURES_A_STEP)
                geometry = self._shape(feature, transform, odd)
                if geometry is None:
                    (odd.broken if feature.hasGeometry() else odd.without_geometry).add(feature)
                elif geometry.boundingBoxIntersects(extent):
                    value = value_of(feature)
                    if value is None:
                        odd.without_value += 1
                        continue
                    priority = _priority(feature[rank]) if ranked else None
                    feature.setGeometry(geometry)
                    target.add(feature, value, priority)
        odd.without_value -= self.values.dropped()
        self._warn(odd, reporter)
        if not target.count:
            raise self._nothing_there(odd)
        for text in self.values.notes():
            reporter.log(text)
        for text in self.values.doubts():
            reporter.warning(text)
        return {self.setting: str(path), **self.values.settings()}

    def _transform(self, reporter: Reporter) -> Optional[QgsCoordinateTransform]:
        own = ground_crs(self.own_crs)
        if same_ground(own, self.crs):
            return None
        if not own.isValid() or not self.crs.isValid():
            lacking, other = ("The raster", f'"{self.title}"') if own.isValid() else (f'"{self.title}"', "the raster")
            reporter.warning(f"{lacking} has no CRS: its coordinates are assumed to be in the CRS of {other}.")
            return None
        return QgsCoordinateTransform(own, self.crs, self.context.transformContext())

    def _request(self, transform: Optional[QgsCoordinateTransform]) -> QgsFeatureRequest:
        """Return a request for the features near the extent, or for all if most are near or the extent cannot be
        transformed.
        """
        ranks = [] if self.rank is None else [self.rank]
        request = QgsFeatureRequest().setSubsetOfAttributes([*self.values.attributes(), *ranks])
        near = self.extent.buffered(self.buffer)
        if transform is not None:
            back = QgsCoordinateTransform(self.crs, transform.sourceCrs(), self.context.transformContext())
            try:
                near = back.transformBoundingBox(near)
            except QgsCsException:
                return request
        # With a spatial index, features come in the index's order, in which writing them is much slower.
        whole = self.own_extent
        most = whole.isNull() or near.intersect(whole).area() > MOST * whole.area()
        return request if most or not near.isFinite() else request.setFilterRect(near)

    def _shape(
        self, feature: QgsFeature, transform: Optional[QgsCoordinateTransform], odd: Odd
    ) -> Optional[QgsGeometry]:
        """Return the geometry in the raster's CRS, valid and with straight edges; None if nothing usable is left."""
        geometry = feature.geometry()
        plain = geometry.wkbType() in PLAIN_POLYGONS
        if not plain:
            geometry, whole = _straight(geometry)
            if not whole:
                odd.cut.add(feature)
            plain = geometry.type() == Kind.PolygonGeometry
        if plain and not geometry.isGeosValid():
            geometry = _mended(geometry)
            if not geometry.isEmpty():
                odd.mended.add(feature)
        # A polygon that becomes a line when repaired is not one of the lines that the user wants labelled.
        kinds = POLYGONS if plain else self.kinds
        if geometry.isEmpty() or geometry.type() not in kinds:
            return None
        if transform is not None:
            try:
                geometry.transform(transform)
            except QgsCsException:
                return None
        elif plain:  # and valid, therefore finite
            return geometry
        if self.buffer and not plain:
            geometry = geometry.buffer(self.buffer, BUFFER_SEGMENTS)
        return geometry if geometry.boundingBox().isFinite() else None

    def _warn(self, odd: Odd, reporter: Reporter) -> None:
        if odd.without_value:
            count = _features(odd.without_value)
            reporter.warning(f'{count} of "{self.title}" left out: {self.values.missing}.')
        what = "polygon" if self.kinds == POLYGONS else "polygon, line or point"
        for some, tell, words in (
            (odd.without_geometry, reporter.warning, "left out: no geometry"),
            (odd.broken, reporter.warning, f"left out: the geometry gives no {what} in the raster's CRS"),
            (odd.mended, reporter.log, "repaired: the polygon crosses itself or is invalid in another way"),
            (odd.cut, reporter.log, "used in part: the polygons of a geometry collection, otherwise its lines"),
        ):
            if some.count:
                tell(f'{_features(some.count)} of "{self.title}" {words} ({some}).')

    def _nothing_there(self, odd: Odd) -> InputError:
        if self.source.featureCount() == 0:
            return InputError(
                f'The layer "{self.title}" holds no features, or none is selected.',
                "Check the layer and the selection.",
            )
        dropped = self.values.dropped()
        if odd.without_value or odd.unusable or dropped:
            return InputError(
                f'No feature of "{self.title}" can be used: {odd.without_value} with {self.values.missing}, {dropped} '
                f"dropped by the class table, {odd.unusable} with no geometry or one that is not usable in the "
                "raster's CRS.",
                "Check the field, the geometries and the CRS.",
            )
        own = self.own_crs
        return InputError(
            f'The features of "{self.title}" do not overlap the raster: they are at '
            f"{place_text(self.own_extent, own)}, but the part of the raster to work on is at "
            f"{place_text(self.extent, self.crs)}.",
            f"Check that the two layers belong together and that {crs_text(own)} is the right CRS of the features.",
        )


def _straight(geometry: QgsGeometry) -> tuple[QgsGeometry, bool]:
    """Convert curves to straight lines, and reduce a collection to its polygons, otherwise its lines, otherwise its
    points.

    Returns:
        The geometry, and whether it is complete.
    """
    if geometry.isEmpty():
        return geometry, True
    if QgsWkbTypes.isCurvedType(geometry.wkbType()):
        geometry = QgsGeometry(geometry.constGet().segmentize())
    if QgsWkbTypes.flatType(geometry.wkbType()) != QgsWkbTypes.Type.GeometryCollection:
        return geometry, True
    parts = [_straight(part)[0] for part in geometry.asGeometryCollection()]
    parts = [part for part in parts if not part.isEmpty()]
    for kind in ANY_KIND:
        same = [part for part in parts if part.type() == kind]
        if same:
            return _together(same), len(same) == len(parts)
    return QgsGeometry(), True


def _together(parts: list[QgsGeometry]) -> QgsGeometry:
    """Combine parts of one type into one geometry."""
    return parts[0] if len(parts) == 1 else QgsGeometry.collectGeometry(parts)


def _mended(geometry: QgsGeometry) -> QgsGeometry:
    """Make polygons valid; part by part, because GEOS makes holes where parts of one geometry overlap."""
    parts = []
    for part in geometry.asGeometryCollection():
        valid, _ = _straight(part.makeValid())
        if valid.type() == Kind.PolygonGeometry and not valid.isEmpty():
            parts.append(valid)
    return QgsGeometry.unaryUnion(parts) if parts else QgsGeometry()


def _priority(given: Any) -> Optional[float]:
    return None if absent(given) else float(given)


def _features(count: int) -> str:
    return f"{count} feature{'' if count == 1 else 's'}"
