"""Simplified outlines of regions of pixels, with borders that neighbours still share.

An outline is divided at its nodes, the corners of pixels where three or more regions meet. The line between two nodes
is the border of the same two regions, whichever of them it is taken from, and is simplified to the same line for both.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
from osgeo import ogr

from ...windows import Window

# Nodes are looked for in windows of at most this side, however large the region is.
SIDE = 1024
OUTSIDE = -1  # label of what is not on the raster

# Window → (rows, cols) labels of its pixels.
Labels = Callable[[Window], np.ndarray]


class Borders:
    """The borders of regions.

    Args:
        labels: Gives the labels of pixels; pixels with the same label are of the same region if they touch.
        size: (height, width) of the raster.
        tolerance: How far a simplified line may be from the pixels' edges, in pixels.
    """

    def __init__(self, labels: Labels, size: tuple[int, int], tolerance: float) -> None:
        self._labels, self._tolerance = labels, tolerance
        self._whole = Window(0, 0, size[1], size[0])

    def simplified(self, ring: np.ndarray) -> np.ndarray | None:
        """Simplify an outline; None if it is thinner than the tolerance and vanishes.

        Args:
            ring: (n, 2) int64 columns and rows of corners of pixels, the first point again as the last.
        """
        points = _unit_steps(ring)
        steps = (points - np.concatenate([points[-1:], points[:-1]])) @ (1, 2)  # a number for each direction
        nodes = self._nodes(points)
        kept = np.flatnonzero(nodes | (steps != np.concatenate([steps[1:], steps[:1]])))
        points, places = points[kept], np.flatnonzero(nodes[kept]).tolist()
        first = places[0] if places else int(np.lexsort(points.T)[0])
        points = np.concatenate([points[first:], points[: first + 1]])
        ends = [place - first for place in places or [first]] + [len(points) - 1]
        lines = [self._line(points[begin : end + 1]) for begin, end in zip(ends, ends[1:])]
        found = np.concatenate([*(line[:-1] for line in lines), points[:1]])
        return found if len(found) > 3 and planar_area(found) else None

    def _line(self, line: np.ndarray) -> np.ndarray:
        """Simplify the line between two nodes, in the same direction for both regions."""
        if len(line) < 3:
            return line
        turned = (*line[0], *line[1]) > (*line[-1], *line[-2])
        shape = ogr.CreateGeometryFromWkb(_wkb(line[::-1] if turned else line)).Simplify(self._tolerance)
        found = np.frombuffer(shape.ExportToWkb(ogr.wkbNDR), "<f8", offset=9).reshape(-1, 2)
        return found[::-1] if turned else found

    def _nodes(self, points: np.ndarray) -> np.ndarray:
        """Return (n,) bool, true where three regions meet, or two of them cross."""
        if np.ptp(points, axis=0).max() <= SIDE:
            return self._nodes_near(points)
        found = np.zeros(len(points), bool)
        places = points // SIDE
        keys = places[:, 0] + places[:, 1] * (self._whole.width // SIDE + 1)
        for key in np.unique(keys):
            here = np.flatnonzero(keys == key)
            found[here] = self._nodes_near(points[here])
        return found

    def _nodes_near(self, points: np.ndarray) -> np.ndarray:
        left, top = points.min(axis=0).tolist()
        right, bottom = points.max(axis=0).tolist()
        outer = Window(left - 1, top - 1, right - left + 2, bottom - top + 2)
        inner = outer.intersection(self._whole)
        labels = self._labels(inner)
        if inner != outer:
            labels, there = np.full((outer.height, outer.width), OUTSIDE, np.int32), labels
            labels[inner.slices_in(outer)] = there
        flat, place = labels.ravel(), (points[:, 1] - top) * outer.width + (points[:, 0] - left)
        around = [flat[place + step] for step in (0, 1, outer.width + 1, outer.width)]
        # Around the corner, two regions that only touch have two borders.
        borders = sum((one != other).astype(np.uint8) for one, other in zip(around, [*around[1:], around[0]]))
        found: np.ndarray = borders > 2
        return found


def _unit_steps(ring: np.ndarray) -> np.ndarray:
    """Return all corners of pixels on an outline, the first one once."""
    steps = ring[1:] - ring[:-1]
    lengths = np.abs(steps[:, 0]) + np.abs(steps[:, 1])
    line = np.repeat(np.arange(len(lengths)), lengths)
    part = np.arange(len(line)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    found: np.ndarray = ring[line] + np.sign(steps)[line] * part[:, None]
    return found


def planar_area(ring: np.ndarray) -> float:
    """Return the area inside of a closed ring of (n, 2) points."""
    x, y = (ring - ring[0]).T
    return abs(float(x[:-1] @ y[1:] - x[1:] @ y[:-1])) / 2


def _wkb(line: np.ndarray) -> bytes:
    return struct.pack("<BII", 1, ogr.wkbLineString, len(line)) + np.ascontiguousarray(line, "<f8").tobytes()
