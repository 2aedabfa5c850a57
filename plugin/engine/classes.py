"""The class table: values, names and colours of classes."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np

# Class indices are uint8; this one marks unlabelled pixels.
IGNORE_INDEX = 255
MAX_CLASSES = 255
BACKGROUND_NAME = "background"  # of the class that ground without a label becomes

# Matplotlib's Tableau palette, whose colours are easy to distinguish.
PALETTE = (
    "#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd",
    "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf",
)  # fmt: skip


# Usual map colours by words in the class name (English, German, French, Spanish); the first match is used. All colours
# are distinct, and none is in the palette.
USUAL_COLORS = (
    ("#2b83ba", "water wasser gewasser eau agua river lake sea ocean fluss meer fleuve mer rio pond canal flood"),
    ("#1a7a3c", "forest wald foret bosque tree trees baum arbre arbol wood woodland"),
    ("#a6d96a", "grass grassland gras meadow wiese prairie pasture weide pradera lawn"),
    ("#66a61e", "vegetation plants shrub scrub bush busch matorral"),
    ("#e6c229", "crop crops cropland field acker agriculture farmland culture cultivo arable"),
    ("#c8a26b", "soil bare land ground boden sol suelo sand rock fels beach strand"),
    ("#b2182b", "building buildings gebaude haus house roof dach batiment edificio residential resident"),
    ("#8d6e97", "urban settlement siedlung built industry industrial industrie city stadt"),
    ("#6b6b6b", "road roads strasse street route carretera pavement parking asphalt rail"),
    ("#76c7b7", "wetland swamp marsh moor mangrove humedal marais"),
    ("#dfe9f3", "snow ice schnee eis neige nieve glacier cloud clouds wolken nuage"),
)


def usual_color(name: str) -> Optional[str]:
    """The usual map colour of a class with this name; None if no word is known."""
    plain = unicodedata.normalize("NFKD", name.replace("ß", "ss")).encode("ascii", "ignore").decode().lower()
    words = set(re.findall(r"[a-z]+", plain))
    return next((color for color, known in USUAL_COLORS if words & set(known.split())), None)


@dataclass(frozen=True)
class ClassInfo:
    """A class: its value in the user's layer, name and colour as #rrggbb."""

    value: int
    name: str
    color: str

    @property
    def rgb(self) -> tuple[int, int, int]:
        """The colour as three numbers from 0 to 255."""
        return int(self.color[1:3], 16), int(self.color[3:5], 16), int(self.color[5:7], 16)


@dataclass(frozen=True)
class ClassTable:
    """The classes of a dataset or model, ordered by value; a class's index is its position."""

    classes: tuple[ClassInfo, ...]

    @classmethod
    def from_rows(cls, rows: Iterable[Sequence[Any] | ClassInfo]) -> ClassTable:
        """Make a table from (value, name, colour) rows; missing names and colours are generated."""
        found: dict[int, ClassInfo] = {}
        for row in rows:
            value, name, color = (row.value, row.name, row.color) if isinstance(row, ClassInfo) else row
            usual = usual_color(str(name or ""))
            if usual in {info.color for info in found.values()}:  # such as two kinds of water
                usual = None
            color = color or usual or PALETTE[len(found) % len(PALETTE)]
            found[int(value)] = ClassInfo(int(value), str(name or f"class {value}"), str(color).lower()[:7])
        return cls(tuple(found[value] for value in sorted(found)))

    @classmethod
    def from_json(cls, rows: list[dict[str, Any]]) -> ClassTable:
        """Read the result of `to_json`."""
        return cls.from_rows((row["value"], row["name"], row["color"]) for row in rows)

    def to_json(self) -> list[dict[str, Any]]:
        """The table as rows for a JSON file."""
        return [{"value": info.value, "name": info.name, "color": info.color} for info in self.classes]

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def values(self) -> np.ndarray:
        """(C,) int64: the class values in ascending order."""
        return np.array([info.value for info in self.classes], dtype=np.int64)

    @property
    def names(self) -> list[str]:
        """The class names, by class index."""
        return [info.name for info in self.classes]

    @property
    def colors(self) -> list[str]:
        """The colours as #rrggbb, by class index."""
        return [info.color for info in self.classes]

    def find(self, word: str) -> int | None:
        """The index of a class by its value, or by its name in letters of any case; None where there is no one such."""
        values = [str(info.value) for info in self.classes]
        if word in values:
            return values.index(word)
        names = [name.casefold() for name in self.names]
        return names.index(word.casefold()) if names.count(word.casefold()) == 1 else None

    @property
    def background(self) -> int | None:
        """The index of the class of ground without a label; None where there is none."""
        return self.find(BACKGROUND_NAME)

    def to_indices(self, mask: np.ndarray) -> np.ndarray:
        """Convert class values to uint8 class indices of the same shape; unknown values become `IGNORE_INDEX`."""
        values = self.values
        if mask.dtype == np.uint8:
            lookup = np.full(256, IGNORE_INDEX, np.uint8)
            held = (values >= 0) & (values <= 255)
            lookup[values[held]] = np.flatnonzero(held)
            return lookup[mask]
        place = np.minimum(np.searchsorted(values, mask), len(values) - 1)
        return np.where(values[place] == mask, place, IGNORE_INDEX).astype(np.uint8)

    def to_values(self, indices: np.ndarray, nodata: int) -> np.ndarray:
        """Convert uint8 class indices to class values in `mask_dtype`; `IGNORE_INDEX` becomes `nodata`."""
        lookup = np.full(256, nodata, self.mask_dtype(nodata))
        lookup[: len(self.classes)] = self.values
        if lookup.itemsize == 1:  # in less than half of the time
            return np.frombuffer(bytearray(indices).translate(lookup.data), np.uint8).reshape(indices.shape)
        found: np.ndarray = lookup.take(indices)  # a third faster than lookup[indices]
        return found

    def mask_dtype(self, nodata: int) -> np.dtype[Any]:
        """The smallest of uint8, int16, uint16 and int32 that can hold all class values and `nodata`."""
        low, high = min(int(self.values.min()), nodata), max(int(self.values.max()), nodata)
        for dtype in (np.uint8, np.int16, np.uint16, np.int32):
            if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
                return np.dtype(dtype)
        raise OverflowError(f"class values from {low} to {high}")

    def free_value(self) -> int:
        """A value that no class has, for unlabelled pixels: 0, else 255, else one next to the class values."""
        taken = {int(value) for value in self.values}
        return next(value for value in (0, 255, -1, max(taken) + 1) if value not in taken)
