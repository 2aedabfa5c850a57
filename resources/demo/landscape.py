"""A made-up piece of countryside as polygons: fields, woods, water, roads, houses.

Everything is drawn in metres from the lower left corner of a square, x to the east and y to the north, and moved
to its place in UTM zone 33 when it becomes a geometry. The features come in drawing order: where two overlap, the
later one is on top, in the picture as in the labels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from osgeo import ogr
from shapes import (
    broken_line,
    curve,
    cut,
    difference,
    edge_lines,
    make_line,
    make_point,
    make_polygon,
    parts,
    points_along,
    polygon_area,
    stations,
    union,
)

CLASSES = {  # name → colour on the map
    "building": "#c8452f",
    "crops": "#e3c565",
    "grass": "#a3cf62",
    "road": "#6f6f6f",
    "trees": "#2f7d32",
    "water": "#3f7fc1",
}


@dataclass
class Feature:
    """One polygon of the landscape and what it looks like from above."""

    geometry: ogr.Geometry
    name: str  # a class
    color: tuple[float, float, float, float]  # red, green, blue, near infrared; 0 to 255
    angle: float = 0.0  # of rows, or of a roof's ridge: radians from east, counter-clockwise
    spacing: float = 0.0  # metres between rows; 0 = no rows
    contrast: float = 0.0  # of the rows
    patchiness: float = 0.05  # of what varies slowly within it
    center: tuple[float, float] = (0.0, 0.0)  # metres
    half_width: float = 1.0  # of a roof across its ridge, metres
    height: float = 0.0  # metres


CROPS = (  # colour, spacing of rows, contrast of rows, patchiness
    ((74, 102, 52, 192), 1.6, 0.06, 0.10),  # winter wheat
    ((186, 163, 108, 165), 1.8, 0.05, 0.06),  # ripe barley
    ((171, 152, 116, 150), 3.0, 0.10, 0.07),  # stubble
    ((126, 101, 78, 108), 2.2, 0.09, 0.16),  # ploughed
    ((104, 84, 67, 92), 2.6, 0.08, 0.18),  # ploughed, moist
    ((172, 164, 74, 188), 2.0, 0.05, 0.08),  # rape in flower
    ((92, 110, 62, 170), 1.5, 0.20, 0.10),  # maize
    ((88, 121, 66, 205), 1.5, 0.10, 0.08),  # beets
    ((118, 116, 76, 150), 2.5, 0.34, 0.08),  # vines
)
ROOFS = ((164, 92, 68, 150), (139, 80, 62, 132), (122, 84, 66, 118), (96, 95, 98, 98), (128, 124, 120, 120))
HALL = (196, 196, 192, 190)
GRASS = (108, 118, 74, 172)
TREES = (58, 78, 44, 158)
WATER = (50, 66, 64, 24)
ASPHALT = (121, 119, 117, 106)
TRACK = (163, 145, 115, 146)


class Landscape:
    """Features of a square of `side` metres, made from one seed."""

    def __init__(self, side: float, seed: int) -> None:
        self.side = side
        self.rng = np.random.default_rng(seed)
        self.features: list[Feature] = []
        self.markings: list[ogr.Geometry] = []  # lines painted on the road
        box = make_polygon([(0, 0), (side, 0), (side, side), (0, side)])
        self.features.append(Feature(box, "grass", GRASS, patchiness=0.14))

        river = self._river()
        lakes = [self._blob(self._place(0.82, 0.80), 0.085 * side, 0.2)]
        lakes += [self._blob(self._place(*at), 0.02 * side, 0.25) for at in ((0.12, 0.30), (0.60, 0.12))]
        water = union([river, *lakes])
        roads = self._roads()
        paved = union([line.Buffer(width / 2) for line, width in roads])
        villages = [self._blob(center, 0.13 * side, 0.15) for center in self.villages]
        built_up = union(villages)

        parcels = self._parcels()
        tracks = self._tracks(union([water.Buffer(14), built_up]))
        woods = self._woods(union([built_up.Buffer(15), *lakes]), water.Buffer(2), parcels)
        kept_free = union([water.Buffer(11), paved.Buffer(3.5), tracks.Buffer(1.2), built_up.Buffer(6)])
        for parcel in parcels:
            self._field(parcel, kept_free)
        self._add(water, "water", WATER, patchiness=0.05)
        self._add(difference(woods, paved.Buffer(3)), "trees", TREES, height=13, patchiness=0.08)
        self._add(tracks, "road", TRACK, patchiness=0.10)
        self._add(paved, "road", ASPHALT, patchiness=0.06)
        self._houses(roads, union([water.Buffer(8), paved.Buffer(2.5)]), villages)

    def _add(self, geometry: ogr.Geometry, name: str, color: tuple[float, float, float, float], **looks: float) -> None:
        """Add each part of a geometry as a feature of its own."""
        for part in parts(geometry):
            self.features.append(Feature(part, name, color, **looks))  # type: ignore[arg-type]

    def _place(self, x: float, y: float) -> np.ndarray:
        """A point at shares (x, y) of the square, moved a little."""
        return (np.array([x, y]) + self.rng.uniform(-0.03, 0.03, 2)) * self.side

    def _river(self) -> ogr.Geometry:
        """A winding band of water from the upper to the lower edge."""
        t = np.linspace(-0.05, 1.05, 240)
        phase = self.rng.uniform(0, 2 * math.pi, 3)
        bend = 0.07 * np.sin(2 * math.pi * 1.1 * t + phase[0]) + 0.025 * np.sin(2 * math.pi * 2.9 * t + phase[1])
        x = (0.36 + 0.22 * t + bend) * self.side
        center = np.stack([x, (1 - t) * self.side], axis=1)
        along = np.gradient(center, axis=0)
        across = np.stack([-along[:, 1], along[:, 0]], axis=1) / np.linalg.norm(along, axis=1, keepdims=True)
        half = 12 + 3 * np.sin(2 * math.pi * 2.3 * t + phase[2])
        banks = half[:, None] + self.rng.normal(0, 0.7, (len(t), 2))
        self.river_line = center
        return make_polygon([*(center + across * banks[:, :1]), *(center - across * banks[:, 1:])[::-1]])

    def _blob(self, center: np.ndarray, radius: float, roughness: float) -> ogr.Geometry:
        """A rounded shape with bays and noses."""
        angle = np.linspace(0, 2 * math.pi, 180, endpoint=False)
        reach = np.ones_like(angle)
        for wave in range(2, 9):
            reach += self.rng.normal(0, roughness / wave**0.9) * np.cos(wave * angle + self.rng.uniform(0, 2 * math.pi))
        reach = radius * np.clip(reach, 0.35, 1.8)
        return make_polygon(center + reach[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1))

    def _roads(self) -> list[tuple[ogr.Geometry, float]]:
        """(centre line, width in metres) of a main road, two side roads and the streets of two villages."""
        side = self.side
        t = np.linspace(-0.03, 1.03, 120)
        y = 0.60 - 0.16 * t + 0.035 * np.sin(2 * math.pi * 0.9 * t + self.rng.uniform(0, 6))
        main = np.stack([t, y], axis=1) * side
        west, east = main[int(0.22 * 120)], main[int(0.76 * 120)]
        self.villages = [west, east]
        south = curve(west, (0.14 * side, -0.03 * side), 0.05 * side)
        north = curve(east, (0.62 * side, 1.03 * side), -0.04 * side)
        roads = [(make_line(main), 8.0), (make_line(south), 6.5), (make_line(north), 6.5)]
        for center, through in ((west, main), (east, main), (west, south), (east, north)):
            for street in self._streets(center, through):
                roads.append((make_line(street), 5.0))
        for line, width in roads[:3]:
            self.markings += broken_line(line, 0.16, 4, 8) + edge_lines(line, width / 2 - 0.5)
        return roads

    def _streets(self, center: np.ndarray, through: np.ndarray) -> list[np.ndarray]:
        """Streets that leave the road `through` at about right angles near the middle of a village."""
        streets = []
        distance = np.linalg.norm(through - center, axis=1)
        for gap in (0.03, 0.06, 0.09):
            near = np.flatnonzero(np.abs(distance - gap * self.side) < 0.008 * self.side)
            if not len(near):
                continue
            place = int(near[0])
            along = through[min(place + 1, len(through) - 1)] - through[place - 1]
            along /= np.linalg.norm(along)
            across = np.array([-along[1], along[0]]) * (1 if len(streets) % 2 else -1)
            end = (
                through[place]
                + (across + along * self.rng.uniform(-0.3, 0.3)) * self.rng.uniform(0.08, 0.11) * self.side
            )
            streets.append(curve(through[place], end, self.rng.uniform(-0.02, 0.02) * self.side))
        return streets

    def _parcels(self) -> list[np.ndarray]:
        """The square cut into convex parcels, each (n, 2); the first cuts are kept, tracks run along them."""
        self.cuts: list[np.ndarray] = []
        whole = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], float) * self.side
        waiting, done = [(whole, 0)], []
        while waiting:
            parcel, depth = waiting.pop()
            if polygon_area(parcel) < self.rng.uniform(1.6e4, 4.5e4):
                done.append(parcel)
                continue
            low, high = parcel.min(axis=0), parcel.max(axis=0)
            middle = (low + high) / 2 + self.rng.uniform(-0.12, 0.12, 2) * (high - low)
            direction = np.array([0.0, 1.0] if high[0] - low[0] > high[1] - low[1] else [1.0, 0.0])
            turn = self.rng.normal(0.22, 0.10)  # fields lie askew to the grid of the map
            direction = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]]) @ direction
            one, other = cut(parcel, middle, direction), cut(parcel, middle, -direction)
            if depth in (2, 3):
                seam = np.array([p for p in one if abs(np.cross(direction, p - middle)) < 1e-6])
                if len(seam) == 2:
                    self.cuts.append(seam)
            waiting += [(one, depth + 1), (other, depth + 1)]
        return done

    def _tracks(self, kept_free: ogr.Geometry) -> ogr.Geometry:
        """Farm tracks along some borders of the parcels."""
        chosen = [cut for cut in self.cuts if self.rng.random() < 0.75]
        return difference(union([make_line(cut).Buffer(1.9) for cut in chosen]), kept_free)

    def _woods(self, kept_free: ogr.Geometry, wet: ogr.Geometry, parcels: list[np.ndarray]) -> ogr.Geometry:
        """Woods with scalloped edges, a broken belt of trees along the river, hedges and single trees."""
        shapes = []
        for x, y, size in (
            (0.10, 0.86, 0.13),
            (0.62, 0.68, 0.07),
            (0.88, 0.16, 0.12),
            (0.30, 0.12, 0.06),
            (0.55, 0.92, 0.07),
        ):
            blob = self._blob(self._place(x, y), size * self.side, 0.28)
            outline = blob.GetBoundary()
            shapes += [blob, *self._crowns(points_along(outline, 4.5), 2.5, 4.8, 0.6)]
        belt = self.river_line
        normal = np.gradient(belt, axis=0)[:, ::-1] * [1, -1]
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        for sign in (-1, 1):
            dense = np.sin(np.linspace(0, 26, len(belt)) + self.rng.uniform(0, 6)) > -0.15
            shapes += self._crowns((belt + sign * 19 * normal)[dense], 2.6, 4.6, 1.5)
        for parcel in parcels:
            if self.rng.random() < 0.35:
                first = int(self.rng.integers(len(parcel)))
                border = np.stack([parcel[first], parcel[(first + 1) % len(parcel)]])
                shapes += self._crowns(points_along(make_line(border), 4.0)[self.rng.integers(4) :], 1.8, 3.2, 0.5)
        lonely = self.rng.uniform(0, self.side, (int(55 * (self.side / 1000) ** 2), 2))
        gardens = np.concatenate([self.rng.normal(c, 0.07 * self.side, (90, 2)) for c in self.villages])
        return union(
            [
                difference(difference(union(shapes), kept_free), wet),
                difference(union(self._crowns(lonely, 2.6, 5.0, 0)), wet),
                difference(union(self._crowns(gardens, 1.8, 3.6, 0)), wet),
            ]
        )

    def _crowns(self, points: np.ndarray, low: float, high: float, jitter: float) -> list[ogr.Geometry]:
        """Round tree crowns about some points."""
        moved = points + self.rng.normal(0, jitter + 1e-9, points.shape)
        radii = self.rng.uniform(low, high, len(points))
        return [make_point(x, y).Buffer(r, 5) for (x, y), r in zip(moved, radii)]

    def _field(self, parcel: np.ndarray, kept_free: ogr.Geometry) -> None:
        """One field in a parcel, less a margin of grass; some parcels stay meadows."""
        if self.rng.random() < 0.16:
            return
        color, spacing, contrast, patchiness = CROPS[int(self.rng.integers(len(CROPS)))]
        edges = np.roll(parcel, -1, axis=0) - parcel
        longest = edges[int(np.argmax((edges**2).sum(axis=1)))]
        tint = tuple(np.array(color) * self.rng.normal(1, 0.05) + self.rng.normal(0, 3, 4))
        ground = difference(make_polygon(parcel).Buffer(-self.rng.uniform(0.6, 1.8)), kept_free)
        for part in parts(ground):
            if part.GetArea() > 1500:
                angle = math.atan2(longest[1], longest[0])
                self.features.append(
                    Feature(part, "crops", tint, angle, spacing, contrast, patchiness)  # type: ignore[arg-type]
                )

    def _houses(
        self, roads: list[tuple[ogr.Geometry, float]], taken: ogr.Geometry, villages: list[ogr.Geometry]
    ) -> None:
        """Houses along the streets of the villages, halls at their edges, farms in the open."""
        for line, width in roads:
            for place, along in stations(line, 16 + self.rng.uniform(0, 3)):
                for sign in (-1, 1):
                    if self.rng.random() < 0.1 or not any(v.Contains(make_point(*place)) for v in villages):
                        continue
                    across = sign * np.array([-along[1], along[0]])
                    center = place + across * (width / 2 + self.rng.uniform(9, 14)) + along * self.rng.uniform(-2, 2)
                    turn = math.atan2(along[1], along[0]) + self.rng.normal(0, 0.04) + self.rng.choice([0, math.pi / 2])
                    length, depth = self.rng.uniform(10, 15), self.rng.uniform(8, 10.5)
                    taken = self._house(center, length, depth, turn, taken)
                    shed = center + across * self.rng.uniform(11, 16) + along * self.rng.uniform(-5, 5)
                    if self.rng.random() < 0.4:
                        taken = self._house(shed, 7, 5, turn, taken)
        for x, y in ((0.30, 0.80), (0.46, 0.30), (0.90, 0.60), (0.70, 0.30), (0.25, 0.28), (0.93, 0.93), (0.50, 0.66)):
            yard, turn = self._place(x, y), self.rng.uniform(0, math.pi)
            u, v = np.array([math.cos(turn), math.sin(turn)]), np.array([-math.sin(turn), math.cos(turn)])
            taken = self._house(yard, 34, 15, turn, taken, hall=True)
            taken = self._house(yard + 24 * v + 4 * u, 22, 11, turn, taken)
            taken = self._house(yard - 28 * u + 14 * v, 14, 10, turn + math.pi / 2, taken)
            taken = self._house(
                yard + 34 * u + 10 * v, 27, 13, turn + math.pi / 2, taken, hall=bool(self.rng.random() < 0.5)
            )

    def _house(
        self, center: np.ndarray, length: float, depth: float, turn: float, taken: ogr.Geometry, hall: bool = False
    ) -> ogr.Geometry:
        """Put up a house if its plot is free; returns the ground taken so far."""
        u, v = np.array([math.cos(turn), math.sin(turn)]), np.array([-math.sin(turn), math.cos(turn)])
        corners = [center + i * u * length / 2 + j * v * depth / 2 for i, j in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
        plan = make_polygon(corners)
        if center.min() < 12 or center.max() > self.side - 12 or plan.Buffer(3).Intersects(taken):
            return taken
        roof = HALL if hall else ROOFS[int(self.rng.integers(len(ROOFS)))]
        color = tuple(np.array(roof) * self.rng.normal(1, 0.07))
        self.features.append(
            Feature(plan, "building", color, turn, 0.5, 0.04, 0.05, tuple(center), depth / 2, 8.0 if hall else 6.5)  # type: ignore[arg-type]
        )
        return union([taken, plan.Buffer(2)])
