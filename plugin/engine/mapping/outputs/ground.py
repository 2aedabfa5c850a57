"""Areas on the ground: on the ellipsoid of the CRS, whatever its projection.

Coordinates are brought to a plane on which areas are those of the ellipsoid, and measured there. Lines are straight in
the CRS of the raster, as pixels and their borders are, and not the shortest ones (geodesics): so polygons of pixels
cover just what their pixels do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from osgeo import osr

from ...rasters.raster_io import RasterInfo, spatial_reference
from ...windows import Window

osr.UseExceptions()

# Pixels of a window count as equally large if their areas differ by at most this share.
ALIKE = 1e-4
# Weights of the first, middle and last place of a range in its mean (Simpson's rule).
SIMPSON = np.array([1.0, 4.0, 1.0]) / 6
# Longer lines are divided before they are projected.
LONGEST_LINE, MOST_PARTS = 1000.0, 1000  # metres; parts of a line

# (n,) x and y in the CRS → (n, 2) metres on the plane; not finite where there is no ground.
Plane = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Ground:
    """The ground of a raster.

    Args:
        plane: Projects coordinates to the plane of true areas.
        transform: The raster's geotransform.
        longest: The longest line of a polygon that is projected in one piece, in units of the CRS.
    """

    def __init__(self, plane: Plane, transform: Sequence[float], longest: float = np.inf) -> None:
        self._plane, self._transform, self._longest = plane, transform, longest

    @classmethod
    def of(cls, crs: str, transform: Sequence[float], size: tuple[int, int]) -> Ground | None:
        """Create for a raster; None if its CRS does not tell how large pixels are.

        Args:
            crs: WKT of the CRS; "" for none.
            transform: The geotransform.
            size: (height, width) in pixels.
        """
        reference = spatial_reference(crs)
        if reference is None:
            return None
        if reference.IsGeographic():
            return cls(_cylinder(reference), transform)
        if reference.IsProjected():
            middle = _places(transform, np.array([size[1] / 2]), np.array([size[0] / 2]))
            try:
                return cls(_azimuthal(reference, *middle), transform, LONGEST_LINE / reference.GetLinearUnits())
            except RuntimeError:  # PROJ cannot convert this projection back to longitudes and latitudes
                return None
        if reference.IsLocal() and reference.GetLinearUnits() > 0:
            unit = reference.GetLinearUnits()
            return cls(lambda x, y: np.stack([x, y], 1) * unit, transform)
        return None

    def pixel(self, col: float, row: float) -> float:
        """Return the area of the pixel around a place in m²."""
        return float(self._pixels(np.array([float(col)]), np.array([float(row)]))[0])

    def windows(self, window: Window) -> Iterator[tuple[Window, float]]:
        """Divide a window into parts of equally large pixels, and yield the mean area of a pixel of each in m²."""
        waiting = [window]
        while waiting:
            part = waiting.pop()
            found = self._lattice(part)
            mean = float(SIMPSON @ found @ SIMPSON)
            across, along = np.ptp(found, axis=1).max(), np.ptp(found, axis=0).max()
            if max(across, along) <= ALIKE * mean or part.width * part.height == 1:
                yield part, mean
            else:
                waiting += _halves(part, along > across if min(part.width, part.height) > 1 else part.height > 1)

    def polygon(self, rings: Sequence[np.ndarray]) -> float:
        """Return the area of a polygon in m².

        Args:
            rings: (n, 2) coordinates of the outer ring and of each hole, the first point again as the last.
        """
        sizes = [self._ring(ring) for ring in rings]
        return sizes[0] - sum(sizes[1:])

    def _ring(self, ring: np.ndarray) -> float:
        points = self._plane(*_divided(ring, self._longest).T)
        points = points - points[0]
        x, y = points[:, 0], points[:, 1]
        return abs(float(x[:-1] @ y[1:] - x[1:] @ y[:-1])) / 2

    def _lattice(self, window: Window) -> np.ndarray:
        """Return (3, 3) areas: of the pixels around the corners, the middles of the sides, and the middle."""
        cols = window.col_off + np.array([0, window.width / 2, window.width])
        rows = window.row_off + np.array([0, window.height / 2, window.height])
        if window.width == 1:
            cols[:] = cols[1]
        if window.height == 1:
            rows[:] = rows[1]
        at_row, at_col = np.meshgrid(rows, cols, indexing="ij")
        return self._pixels(at_col.ravel(), at_row.ravel()).reshape(3, 3)

    def _pixels(self, cols: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return (n,) the areas of pixels around places, 0 where there is no ground."""
        half = np.array([[-0.5, 0], [0.5, 0], [0, -0.5], [0, 0.5]])
        points = self._plane(*_places(self._transform, *(part.ravel() for part in (
            cols[:, None] + half[:, 0], rows[:, None] + half[:, 1]))))  # fmt: skip
        left, right, upper, lower = points.reshape(-1, 4, 2).transpose(1, 0, 2)
        with np.errstate(invalid="ignore"):
            across, along = right - left, lower - upper
            found = np.abs(across[:, 0] * along[:, 1] - across[:, 1] * along[:, 0])
        return np.where(np.isfinite(found), found, 0.0)


def ground_of(info: RasterInfo, window: Window) -> Ground | None:
    """Return the ground of a part of a raster, whose pixels are counted from the corner of the part."""
    return Ground.of(info.crs, info.grid.geotransform(window), (window.height, window.width))


def _places(transform: Sequence[float], cols: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    left, x_col, x_row, top, y_col, y_row = transform
    return left + cols * x_col + rows * x_row, top + cols * y_col + rows * y_row


def _halves(window: Window, rows: bool) -> list[Window]:
    col, row, width, height = window
    if rows:
        half = height // 2
        return [Window(col, row, width, half), Window(col, row + half, width, height - half)]
    half = width // 2
    return [Window(col, row, half, height), Window(col + half, row, width - half, height)]


def _cylinder(reference: osr.SpatialReference) -> Plane:
    """Longitudes and latitudes on the equal-area cylinder around the ellipsoid; any longitude, also beyond 180°."""
    unit, radius = reference.GetAngularUnits(), reference.GetSemiMajor()
    squared = 1 - (reference.GetSemiMinor() / radius) ** 2
    eccentricity = np.sqrt(squared)

    def plane(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        sine = np.sin(np.clip(y * unit, -np.pi / 2, np.pi / 2))
        bend = np.arctanh(eccentricity * sine) / eccentricity if eccentricity else sine
        return np.stack([radius * unit * x, radius / 2 * (1 - squared) * (sine / (1 - squared * sine**2) + bend)], 1)

    return plane


def _azimuthal(reference: osr.SpatialReference, x: np.ndarray, y: np.ndarray) -> Plane:
    """A projected CRS on Lambert's azimuthal equal-area plane around a place."""
    geographic = reference.CloneGeogCS()
    geographic.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
    longitude, latitude, _ = osr.CoordinateTransformation(reference, geographic).TransformPoint(
        float(x[0]), float(y[0])
    )
    if not np.isfinite([longitude, latitude]).all():
        longitude = latitude = 0.0
    target = osr.SpatialReference()
    target.SetProjCS("areas")
    target.CopyGeogCSFrom(reference)
    degrees = geographic.GetAngularUnits() * 180 / np.pi
    target.SetLAEA(latitude * degrees, longitude * degrees, 0, 0)
    target.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
    transformation = osr.CoordinateTransformation(reference, target)

    def plane(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.array(transformation.TransformPoints(np.stack([x, y], 1).tolist()))[:, :2]

    return plane


def _divided(ring: np.ndarray, longest: float) -> np.ndarray:
    """Return a ring with more points, so that no line is longer than `longest`."""
    steps = np.diff(ring, axis=0)
    parts = np.clip(np.ceil(np.hypot(*steps.T) / longest), 1, MOST_PARTS).astype(np.int64)
    if parts.max(initial=1) == 1:
        return ring
    line = np.repeat(np.arange(len(parts)), parts)
    part = np.arange(len(line)) - np.repeat(np.cumsum(parts) - parts, parts)
    return np.concatenate([ring[line] + steps[line] * (part / parts[line])[:, None], ring[-1:]])
