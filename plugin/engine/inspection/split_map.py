"""A map of the splits, for any number of chips."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ..rasters.raster_io import spatial_reference
from ..reports.charts import FAINT, STYLE, svg
from .charts import shown_name

# Above this number of footprints, the map is a raster image, whose size does not grow with them.
DRAWN_FOOTPRINTS = 1200
PICTURE_SIDE = 700  # pixels
# Places far from each other get separate panels, the largest first.
PANELS = 6
WIDTH, HEIGHT = 10.4, 6.4  # inches
# Places are shown in one panel if they fill at least this share of their bounding box.
FILLED = 0.3


def split_map(
    corners: np.ndarray,
    kinds: np.ndarray,
    colors: dict[str, str],
    sources: np.ndarray,
    names: Sequence[str],
    crs: str,
) -> str:
    """Draw footprints in the colours of their kinds.

    Args:
        corners: (n, 4, 2) in CRS units; chips with NaN are ignored.
        kinds: (n,) str, keys of `colors`.
        colors: Kind → colour; later kinds are drawn on top.
        sources: (n,) raster of each chip.
        names: Names of the rasters, for the titles if there are several panels.
        crs: WKT, for the labels of the axes.
    """
    known = ~np.isnan(corners).any(axis=(1, 2))
    corners, kinds, sources = corners[known], kinds[known], sources[known]
    places = _places(corners, sources)
    shown = places[:PANELS]
    boxes = [_box(corners[place]) for place in shown]
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    height = HEIGHT if len(shown) > 1 else _fitting_height(boxes[0])
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, min(height, 0.6 + 3.4 * rows) if len(shown) > 1 else height),
                        layout="constrained")  # fmt: skip
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, place, box in zip(panels, shown, boxes):
            if len(kinds) <= DRAWN_FOOTPRINTS:
                _draw(axes, corners[place], kinds[place], colors)
            else:
                axes.imshow(_picture(corners[place], kinds[place], colors, box), interpolation="nearest",
                            extent=(box[0], box[2], box[1], box[3]))  # fmt: skip
            _frame(axes, box, crs)
            if len(shown) > 1:
                axes.set_title(_title(sources[place], names), loc="left", fontsize=9, fontweight="bold")
        for axes in panels[len(shown) :]:
            axes.set_visible(False)
        return svg(figure)


def _title(sources: np.ndarray, names: Sequence[str]) -> str:
    numbers = np.unique(sources)
    if len(numbers) > 1 or not 0 <= numbers[0] < len(names):
        return f"{len(numbers)} rasters"
    return shown_name(names[numbers[0]])


def count_places(corners: np.ndarray, sources: np.ndarray) -> int:
    """The number of places far from each other, of which `PANELS` are shown."""
    known = ~np.isnan(corners).any(axis=(1, 2))
    return len(_places(corners[known], sources[known]))


def _fitting_height(box: tuple[float, float, float, float]) -> float:
    """The height of a figure with one panel that leaves little empty space."""
    ratio = (box[3] - box[1]) / (box[2] - box[0])
    return float(np.clip((WIDTH - 1.2) * ratio + 1.1, 2.6, HEIGHT))


def _places(corners: np.ndarray, sources: np.ndarray) -> list[np.ndarray]:
    """The chips of each panel: all chips, or groups of rasters near each other, the largest first."""
    everything = [np.arange(len(corners))]
    low, high = corners.min(axis=1), corners.max(axis=1)
    numbers, back = np.unique(sources, return_inverse=True)
    boxes = np.array([[*low[back == n].min(axis=0), *high[back == n].max(axis=0)] for n in range(len(numbers))])
    whole = np.array([*boxes[:, :2].min(axis=0), *boxes[:, 2:].max(axis=0)])
    filled = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1).sum()
    if len(numbers) == 1 or filled >= FILLED * np.prod(whole[2:] - whole[:2]):
        return everything
    group = np.arange(len(numbers))
    reach = np.max(boxes[:, 2:] - boxes[:, :2]) / 2
    for one in range(len(numbers)):
        near = ((boxes[one, :2] < boxes[:, 2:] + reach) & (boxes[:, :2] < boxes[one, 2:] + reach)).all(axis=1)
        group[np.isin(group, group[near])] = group[one]
    members = [np.flatnonzero(group[back] == number) for number in np.unique(group)]
    return sorted(members, key=len, reverse=True)


def _box(corners: np.ndarray) -> tuple[float, float, float, float]:
    """(left, bottom, right, top) with a small margin."""
    low, high = corners.min(axis=(0, 1)), corners.max(axis=(0, 1))
    margin = 0.02 * max(float((high - low).max()), 1e-9)
    left, bottom, right, top = (float(value) for value in (*(low - margin), *(high + margin)))
    return left, bottom, right, top


def _draw(axes: Axes, corners: np.ndarray, kinds: np.ndarray, colors: dict[str, str]) -> None:
    for kind, color in colors.items():
        some = corners[kinds == kind]
        if len(some):
            inside = (*to_rgb(color), 0.55)
            axes.add_collection(PolyCollection(some, facecolors=inside, edgecolors=color, linewidths=0.7))


def _picture(
    corners: np.ndarray, kinds: np.ndarray, colors: dict[str, str], box: tuple[float, float, float, float]
) -> np.ndarray:
    """Rasterise the envelopes of the footprints: (H, W, 4) uint8, with the mean colour where kinds overlap.

    Only the corners of envelopes are written, and then summed cumulatively, so the work does not grow with their area.
    """
    pixel = max(box[2] - box[0], box[3] - box[1]) / PICTURE_SIDE
    width, height = (max(1, int(np.ceil(side / pixel))) for side in (box[2] - box[0], box[3] - box[1]))
    low, high = corners.min(axis=1), corners.max(axis=1)
    first_col = np.clip(np.floor((low[:, 0] - box[0]) / pixel).astype(int), 0, width - 1)
    first_row = np.clip(np.floor((box[3] - high[:, 1]) / pixel).astype(int), 0, height - 1)
    # Chips smaller than a pixel must be visible.
    last_col = np.clip(np.round((high[:, 0] - box[0]) / pixel).astype(int), first_col + 1, width)
    last_row = np.clip(np.round((box[3] - low[:, 1]) / pixel).astype(int), first_row + 1, height)
    total, mixture = np.zeros((height, width)), np.zeros((height, width, 3))
    for kind, color in colors.items():
        chosen = kinds == kind
        changes = np.zeros((height + 1, width + 1))
        for rows, cols, sign in ((first_row, first_col, 1), (first_row, last_col, -1),
                                 (last_row, first_col, -1), (last_row, last_col, 1)):  # fmt: skip
            np.add.at(changes, (rows[chosen], cols[chosen]), sign)
        cover = changes.cumsum(axis=0).cumsum(axis=1)[:height, :width]
        total += cover
        mixture += cover[..., None] * np.array(to_rgb(color))
    picture = np.zeros((height, width, 4), np.uint8)
    covered = total > 0
    picture[covered, :3] = np.round(255 * mixture[covered] / total[covered][:, None])
    picture[covered, 3] = 255
    return picture


def _frame(axes: Axes, box: tuple[float, float, float, float], crs: str) -> None:
    axes.set_xlim(box[0], box[2])
    axes.set_ylim(box[1], box[3])
    axes.set_aspect("equal")
    axes.grid(color=FAINT, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=7.5)
    for axis, count in ((axes.xaxis, 4), (axes.yaxis, 5)):
        axis.set_major_locator(MaxNLocator(count))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.10g}"))
    x_name, y_name = axis_names(crs)
    axes.set_xlabel(x_name, fontsize=8)
    axes.set_ylabel(y_name, fontsize=8)


def axis_names(crs: str) -> tuple[str, str]:
    """The labels of the axes of a map in a CRS, with units."""
    reference = spatial_reference(crs)
    if reference is None:
        return "x", "y"
    if reference.IsGeographic():
        return "longitude (degrees)", "latitude (degrees)"
    unit = reference.GetLinearUnitsName() or "units"
    return f"easting ({unit})", f"northing ({unit})"
