"""Vector features from a GeoPackage, rasterised as labels and areas.

The file is in the CRS of the images. Its layers are `labels` with the field `value` (integers for classes, any number
for regression) and optionally `priority`; `area`; and `areas` with the integer field `value`. Feature ids follow the
user's order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
from osgeo import gdal, ogr

from ..errors import InputError
from ..sql import Sql, sql
from ..windows import Bounds, Grid, Window

LABEL_LAYER, VALUE_FIELD, PRIORITY_FIELD = "labels", "value", "priority"
AREA_LAYER = "area"
AREAS_LAYER = "areas"
# config.OVERLAP_RULES → the order in which features are rasterised; the last one is on top.
BURN_ORDERS = {"order": "{fid}", "field": "{priority}, {fid}", "smaller": "ST_Area({geometry}) DESC, {fid}"}
# The value that `FeatureFile.burn` writes: 1, the field, or the feature's id.
# OGR reads integers of a query as 32 bits; float64 holds larger ids exactly.
COLUMNS = {"": "1", "value": "{value}", "id": "CAST({fid} AS REAL)"}


@dataclass(frozen=True)
class Features:
    """Features of a layer as arrays of n; bounds are in CRS units."""

    ids: np.ndarray
    values: np.ndarray
    left: np.ndarray
    bottom: np.ndarray
    right: np.ndarray
    top: np.ndarray

    @property
    def without_size(self) -> np.ndarray:
        """(n,) bool, true for features without extent, such as points."""
        found: np.ndarray = (self.left == self.right) & (self.bottom == self.top)
        return found


class FeatureFile:
    """Features of a GeoPackage layer with a spatial index, rasterised window by window.

    Must not be used by several threads at once.

    Args:
        path: A GeoPackage.
        layer: The layer, in the CRS of the raster.
        grid: The grid of the raster.
        overlap_rule: One of config.OVERLAP_RULES.
        all_touched: Burn every pixel that a feature touches, not only those whose centre is covered.
    """

    def __init__(
        self, path: str, layer: str, grid: Grid, overlap_rule: str = "order", all_touched: bool = False
    ) -> None:
        self.source = gdal.OpenEx(path, gdal.OF_VECTOR, allowed_drivers=["GPKG"])
        opened = self.source.GetLayerByName(layer)
        if opened is None:
            raise InputError(f"{path} has no layer {layer}.", "Give a GeoPackage with that layer.")
        self.layer, self.grid = layer, grid
        self.extent: Bounds = _bounds(opened)
        self.count = opened.GetFeatureCount()
        self._geometry, self._fid = opened.GetGeometryColumn() or "geom", opened.GetFIDColumn() or "fid"
        # The identifiers used in queries.
        self._names = {
            "layer": layer, "geometry": self._geometry, "fid": self._fid, "value": VALUE_FIELD,
            "priority": PRIORITY_FIELD, "index": f"rtree_{layer}_{self._geometry}",
        }  # fmt: skip
        self._order = self._sql(BURN_ORDERS[overlap_rule])
        self._options = ["ALL_TOUCHED=TRUE"] if all_touched else []
        self._reference = opened.GetSpatialRef()

    def burn(
        self, window: Window, fill: float, attribute: str = "", dtype: int = gdal.GDT_Byte, only: Optional[int] = None
    ) -> np.ndarray:
        """Rasterise all features, or `only` one: (H, W) `attribute` of the topmost feature (1 for ""), else `fill`."""
        target = gdal.GetDriverByName("MEM").Create("", window.width, window.height, 1, dtype)
        target.SetGeoTransform(self.grid.geotransform(window))
        if self._reference is not None:
            target.SetSpatialRef(self._reference)
        if fill:
            target.GetRasterBand(1).Fill(fill)
        condition = self._near(window) if only is None else self._sql("{fid} = {only}", only=int(only))
        # The spatial index returns features in no particular order.
        query = self._sql(
            "SELECT {geometry}, {column} AS burnt FROM {layer} WHERE {condition} ORDER BY {order}",
            column=self._sql(COLUMNS[attribute]), condition=condition, order=self._order,
        )  # fmt: skip
        found = self.source.ExecuteSQL(query)
        if found is not None:
            gdal.RasterizeLayer(target, [1], found, burn_values=[1], options=["ATTRIBUTE=burnt", *self._options])
            self.source.ReleaseResultSet(found)
        return target.GetRasterBand(1).ReadAsArray()

    def features(self, window: Window) -> Features:
        """The features whose bounds intersect a window."""
        names = ("ST_MinX", "ST_MinY", "ST_MaxX", "ST_MaxY")
        columns = [self._sql(f"{name}({{geometry}}) AS b{place}") for place, name in enumerate(names)]
        found = self.source.ExecuteSQL(
            self._sql(
                "SELECT CAST({fid} AS REAL) AS id, {value} AS value, {columns} FROM {layer} "
                "WHERE {near} ORDER BY {fid}",
                columns=columns, near=self._near(window),
            )
        )  # fmt: skip
        rows = [[feature.GetField(place) for place in range(6)] for feature in found] if found is not None else []
        if found is not None:
            self.source.ReleaseResultSet(found)
        table = np.array(rows, np.float64).reshape(-1, 6)
        return Features(table[:, 0].astype(np.int64), *table[:, 1:].T)

    def areas(self, ids: np.ndarray) -> np.ndarray:
        """(n,) areas of features in squared CRS units; 0 for points and lines."""
        found = self.source.ExecuteSQL(
            self._sql(
                "SELECT CAST({fid} AS REAL) AS id, ST_Area({geometry}) AS area FROM {layer} WHERE {fid} IN ({ids})",
                ids=ids.tolist(),
            )
        )
        areas = {feature.GetField(0): feature.GetField(1) or 0.0 for feature in found}
        self.source.ReleaseResultSet(found)
        return np.array([areas.get(number, 0.0) for number in ids.tolist()])

    def spread(self, bounds: Bounds, side: int, attribute: str = "") -> dict[Optional[int], float]:
        """Estimate how many squares of ground features cover or have their centres in.

        Args:
            bounds: Only features inside these bounds are counted, in CRS units.
            side: The side of a square in pixels.
            attribute: An integer field whose values are counted separately; "" to count all together.

        Returns:
            Value of the field, or None → number of squares.
        """
        width, height = side * abs(self.grid.step_x), side * abs(self.grid.step_y)
        # A large polygon covers squares, a long line crosses some.
        sizes = {"square": width * height, "width": width, "height": height, "left": bounds[0], "bottom": bounds[1]}
        squares = "MAX(area / {square}, CAST(across / {width} AS INT), CAST(up / {height} AS INT))"
        middles = "{row} * CAST((x - {left}) / {width} AS INT) + CAST((y - {bottom}) / {height} AS INT)"
        found = self.source.ExecuteSQL(
            sql(
                "SELECT {value} AS value, SUM({squares}) AS filled, COUNT(DISTINCT {middles}) AS middles "
                "FROM ({shapes}) GROUP BY 1",
                value=Sql("value" if attribute else "NULL"), squares=sql(squares, **sizes),
                middles=sql(middles, row=1 << 31, **sizes), shapes=self._shapes(bounds, attribute),
            )
        )  # fmt: skip
        rows = [[row.GetField(place) for place in range(3)] for row in found]
        self.source.ReleaseResultSet(found)
        numbers = {None if value is None else int(value): max(filled, middles) for value, filled, middles in rows}
        return numbers if attribute else {None: numbers.get(None, 0)}

    def typical_side(self, bounds: Bounds) -> float:
        """The median of the features' longer sides in pixels, inside some bounds; 0 for points."""
        step_x, step_y = abs(self.grid.step_x), abs(self.grid.step_y)
        sides = sql(
            "SELECT MAX(across / {step_x}, up / {step_y}) AS side FROM ({shapes})",
            step_x=step_x, step_y=step_y, shapes=self._shapes(bounds),
        )  # fmt: skip
        found = self.source.ExecuteSQL(
            sql(
                "SELECT side FROM ({sides}) ORDER BY side LIMIT 1 OFFSET (SELECT COUNT(*) / 2 FROM ({sides}))",
                sides=sides,
            )
        )
        side = next((float(row.GetField(0)) for row in found), 0.0)
        self.source.ReleaseResultSet(found)
        return side

    def _shapes(self, bounds: Bounds, attribute: str = "") -> Sql:
        """A query of the size and centre of the features inside some bounds.

        The spatial index is not used, since it is slower if most features match.
        """
        left, bottom, right, top = bounds
        names = {"low_x": "ST_MinX", "low_y": "ST_MinY", "high_x": "ST_MaxX", "high_y": "ST_MaxY"}
        return self._sql(
            "SELECT {column} AS value, ST_Area({geometry}) AS area, {high_x} - {low_x} AS across, "
            "{high_y} - {low_y} AS up, ({low_x} + {high_x}) / 2 AS x, ({low_y} + {high_y}) / 2 AS y FROM {layer} "
            "WHERE {high_x} >= {left} AND {low_x} <= {right} AND {high_y} >= {bottom} AND {low_y} <= {top}",
            column=self._sql(COLUMNS[attribute]), left=left, bottom=bottom, right=right, top=top,
            **{place: self._sql(f"{function}({{geometry}})") for place, function in names.items()},
        )  # fmt: skip

    def _near(self, window: Window) -> Sql:
        left, bottom, right, top = map(float, self.grid.bounds_of(window))
        return self._sql(
            "{fid} IN (SELECT id FROM {index} "
            "WHERE maxx >= {left} AND minx <= {right} AND maxy >= {bottom} AND miny <= {top})",
            left=left, bottom=bottom, right=right, top=top,
        )  # fmt: skip

    def _sql(self, text: str, **parts: Any) -> Sql:
        return sql(text, **self._names, **parts)


class FeatureLabels:
    """Class labels from features with the integer field `value`."""

    def __init__(self, file: FeatureFile) -> None:
        self.file = file
        low, high = _value_range(file)
        # uint8 if it suffices: all further processing is several times faster.
        small = low >= 0 and high <= 254
        self.fill, self.dtype = (255, gdal.GDT_Byte) if small else (-(2**31), gdal.GDT_Int32)

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Read (H, W) class values, and (H, W) bool, true where a feature is."""
        values = self.file.burn(window, self.fill, "value", self.dtype)
        return values, values != self.fill


class FeatureTargets:
    """Continuous labels from features with the numeric field `value`."""

    def __init__(self, file: FeatureFile) -> None:
        self.file = file

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Read (H, W) float32, and (H, W) bool, true where a feature is."""
        values = self.file.burn(window, float("nan"), "value", gdal.GDT_Float32)
        return values, np.isfinite(values)


class Area:
    """The area of interest; labels outside of its polygons are ignored."""

    def __init__(self, path: str, grid: Grid, layer: str = AREA_LAYER) -> None:
        self.polygons = FeatureFile(path, layer, grid)

    def read(self, window: Window) -> np.ndarray:
        """(H, W) bool, true inside the area."""
        return self.polygons.burn(window, 0) == 1


def _value_range(file: FeatureFile) -> tuple[float, float]:
    found = file.source.ExecuteSQL(
        sql("SELECT MIN({value}) AS low, MAX({value}) AS high FROM {layer}", value=VALUE_FIELD, layer=file.layer)
    )
    low, high = next(((row.GetField(0), row.GetField(1)) for row in found), (None, None))
    file.source.ReleaseResultSet(found)
    return (low or 0), (high or 0)


def feature_values(path: str) -> list[int]:
    """The class values of a label GeoPackage, in ascending order."""
    source = gdal.OpenEx(path, gdal.OF_VECTOR, allowed_drivers=["GPKG"])
    found = source.ExecuteSQL(
        sql("SELECT DISTINCT {value} FROM {layer} ORDER BY 1", value=VALUE_FIELD, layer=LABEL_LAYER)
    )
    values = [int(feature.GetField(0)) for feature in found] if found is not None else []
    if found is not None:
        source.ReleaseResultSet(found)
    return values


def features_size(path: str) -> tuple[int, float]:
    """The number of features in a label GeoPackage, and their total area in squared CRS units."""
    source = gdal.OpenEx(path, gdal.OF_VECTOR, allowed_drivers=["GPKG"])
    geometry = source.GetLayerByName(LABEL_LAYER).GetGeometryColumn() or "geom"
    found = source.ExecuteSQL(
        sql(
            "SELECT COUNT(*) AS count, SUM(ST_Area({geometry})) AS area FROM {layer}",
            geometry=geometry, layer=LABEL_LAYER,
        )
    )  # fmt: skip
    count, area = next((int(row.GetField(0)), float(row.GetField(1) or 0)) for row in found)
    source.ReleaseResultSet(found)
    return count, area


def _bounds(layer: ogr.Layer) -> Bounds:
    if layer.GetFeatureCount() == 0:
        return (0.0, 0.0, 0.0, 0.0)
    left, right, bottom, top = layer.GetExtent()
    return (left, bottom, right, top)
