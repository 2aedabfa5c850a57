"""Points and polygons for the made-up countryside: numpy in metres from its corner, OGR at its place on the map."""

from __future__ import annotations

import math
from typing import Optional

import numpy as np
from osgeo import ogr

ogr.UseExceptions()

EPSG = 32633
LEFT, BOTTOM = 468000.0, 5412000.0  # UTM coordinates of the lower left corner


def make_point(x: float, y: float) -> ogr.Geometry:
    """A point at (x, y) metres from the corner."""
    point = ogr.Geometry(ogr.wkbPoint)
    point.AddPoint_2D(LEFT + float(x), BOTTOM + float(y))
    return point


def make_line(points: np.ndarray) -> ogr.Geometry:
    """A line through (n, 2) points in metres from the corner."""
    line = ogr.Geometry(ogr.wkbLineString)
    for x, y in points:
        line.AddPoint_2D(LEFT + float(x), BOTTOM + float(y))
    return line


def make_polygon(points: object) -> ogr.Geometry:
    """The polygon inside (n, 2) points in metres from the corner; mended where it crosses itself."""
    ring = ogr.Geometry(ogr.wkbLinearRing)
    for x, y in points:  # type: ignore[attr-defined]
        ring.AddPoint_2D(LEFT + float(x), BOTTOM + float(y))
    ring.CloseRings()
    polygon = ogr.Geometry(ogr.wkbPolygon)
    polygon.AddGeometry(ring)
    return polygon.MakeValid()


def parts(geometry: Optional[ogr.Geometry]) -> list[ogr.Geometry]:
    """The polygons of a geometry that is a polygon or a collection."""
    if geometry is None or geometry.IsEmpty():
        return []
    if geometry.GetGeometryName() == "POLYGON":
        return [geometry.Clone()]
    found = []
    for index in range(geometry.GetGeometryCount()):
        found += parts(geometry.GetGeometryRef(index))
    return found


def union(geometries: list[ogr.Geometry]) -> ogr.Geometry:
    """All the ground of some polygons."""
    together = ogr.Geometry(ogr.wkbMultiPolygon)
    for geometry in geometries:
        for part in parts(geometry):
            together.AddGeometry(part)
    return together.UnionCascaded() if together.GetGeometryCount() else together


def difference(one: ogr.Geometry, other: ogr.Geometry) -> ogr.Geometry:
    """The ground of one geometry that the other leaves."""
    return one.Difference(other)


def polygon_area(polygon: np.ndarray) -> float:
    """The area inside (n, 2) points."""
    x, y = polygon.T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def cut(polygon: np.ndarray, through: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """The part of a convex polygon to the left of a line."""
    side = direction[0] * (polygon[:, 1] - through[1]) - direction[1] * (polygon[:, 0] - through[0])
    kept = []
    for index in range(len(polygon)):
        after = (index + 1) % len(polygon)
        if side[index] >= 0:
            kept.append(polygon[index])
        if (side[index] < 0) != (side[after] < 0):
            share = side[index] / (side[index] - side[after])
            kept.append(polygon[index] + share * (polygon[after] - polygon[index]))
    return np.array(kept)


def curve(start: np.ndarray, end: object, bulge: float) -> np.ndarray:
    """(40, 2) points from start to end, bent to one side by `bulge` metres."""
    t = np.linspace(0, 1, 40)[:, None]
    start, end = np.asarray(start, float), np.asarray(end, float)
    across = np.array([-(end - start)[1], (end - start)[0]]) / np.linalg.norm(end - start)
    return start + (end - start) * t + across * bulge * np.sin(math.pi * t)


def points_along(line: ogr.Geometry, step: float) -> np.ndarray:
    """(n, 2) points every `step` metres along a line, in metres from the corner."""
    count = max(2, int(line.Length() / step))
    points = [line.Value(line.Length() * index / count) for index in range(count)]
    return np.array([(point.GetX() - LEFT, point.GetY() - BOTTOM) for point in points])


def stations(line: ogr.Geometry, step: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """(place, direction of length 1) every `step` metres along a line."""
    points = points_along(line, step)
    directions = np.gradient(points, axis=0) if len(points) > 1 else np.array([[1.0, 0.0]])
    return [(place, along / np.linalg.norm(along)) for place, along in zip(points, directions)]


def broken_line(line: ogr.Geometry, width: float, length: float, gap: float) -> list[ogr.Geometry]:
    """The broken line in the middle of a road."""
    starts = stations(line, length + gap)
    return [make_line(np.stack([place, place + along * length])).Buffer(width, 2) for place, along in starts]


def edge_lines(line: ogr.Geometry, offset: float) -> list[ogr.Geometry]:
    """The two lines at the edges of a road."""
    return [line.Buffer(offset + 0.1).Boundary().Buffer(0.1, 2)]
