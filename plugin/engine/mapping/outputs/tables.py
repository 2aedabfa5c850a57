"""Writes answers as a table: a layer with polygons, or without geometry; the file appears only when it is complete."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from osgeo import ogr

from ...drafts import claim
from ...errors import InputError, ResourceError
from ...files import why_not_written
from ...vector_files import TEXT, Field, GdalFile, create_vector_file, keeps_style
from ...windows import Grid, Window
from ..answers.answers import Answered, Answers
from .layer_style import STYLE_TABLE, keep_inside

if TYPE_CHECKING:
    from typing_extensions import Self

ogr.UseExceptions()

# Tables that any GeoPackage has, and the indexes of its layers.
SYSTEM_TABLES = ("gpkg_", "sqlite_", "rtree_")
# Names of layers.
SCENE_LAYER, PHOTOGRAPH_LAYER, POLYGON_LAYER, AREA_LAYER = "scenes", "photographs", "polygons", "areas"
# The column of the name of a photograph.
FILE_FIELD = Field("file", TEXT)
NAMED_LAYERS = 5  # in the message about layers that would be lost


class Table:
    """A new vector file with one layer; at the end of its `with` block, only a published file remains.

    Args:
        path: Final name of the file.
        layer: Name of the layer.
        fields: Its columns.
        crs: WKT2 of the polygons; None for a table without geometry.
        style: QGIS style, which is stored in GeoPackages only.
        several: Whether a row has several polygons.

    Raises:
        ResourceError: It cannot be created.
    """

    def __init__(
        self, path: str, layer: str, fields: Sequence[Field], crs: str | None = None, style: str | None = None,
        several: bool = False,
    ) -> None:  # fmt: skip
        self.path, self.style, self.count = path, style, 0
        self.draft = claim(path)
        try:
            self._file = create_vector_file(self.draft.fresh(), layer, fields, crs, several)
        except (RuntimeError, OSError) as error:
            self.draft.close()
            raise self._failure(error) from error

    def add(
        self, rows: Iterable[Sequence[Any]], polygons: Iterable[bytes] | None = None, ids: Iterable[int] | None = None
    ) -> None:
        """Write rows.

        Args:
            rows: Values of the fields.
            polygons: A polygon for each row as WKB, in a layer with geometry.
            ids: An id for each row; None lets the driver choose.

        Raises:
            ResourceError: The disk is full or no longer available.
        """
        shapes = iter(polygons) if polygons is not None else None
        numbers = iter(ids) if ids is not None else None
        try:
            for row in rows:
                polygon = ogr.CreateGeometryFromWkb(next(shapes)) if shapes is not None else None
                self._file.add(row, polygon, next(numbers) if numbers is not None else None)
                self.count += 1
        except (RuntimeError, OSError) as error:
            raise self._failure(error) from error

    def finish(self) -> None:
        """Write what is still in memory, and close the file.

        Raises:
            ResourceError: As `add`.
        """
        try:
            self._file.commit()
            if self.style is not None and isinstance(self._file, GdalFile) and keeps_style(self.path):
                keep_inside(self._file.dataset, self._file.layer, self.style)
            self._file.close()
        except (RuntimeError, OSError) as error:
            raise self._failure(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        with suppress(RuntimeError, OSError):
            self._file.close()
        self.draft.close()

    def _failure(self, error: Exception) -> ResourceError:
        return ResourceError(
            f"The file {self.path} could not be written ({why_not_written(self.path, error)}).",
            "Free some disk space, or choose another folder.",
        )


class AnswerTable(Table):
    """A `Table` as a sink of answers; subclasses define in `write` what each row belongs to.

    Args:
        path, layer, crs, style: As for `Table`.
        answers: How probabilities are read.
        first: Columns before those of the answers.
    """

    def __init__(
        self, path: str, layer: str, answers: Answers, first: Sequence[Field] = (), crs: str | None = None,
        style: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(path, layer, [*first, *answers.fields()], crs, style)
        self.answers = answers

    def take(self, found: Answered) -> Answered:
        """As `Sink.take`."""
        return found


def check_replaceable(outputs: Mapping[str, str | None], layer: str) -> None:
    """Refuse to replace a GeoPackage that contains more than the layer to be written.

    Args:
        outputs: Path of each output by parameter; None is not written.
        layer: Name of the layer.

    Raises:
        InputError: There is such a file.
    """
    for name, path in outputs.items():
        others = _tables(path) - {layer.lower(), STYLE_TABLE} if path else set()
        if others:
            shown = sorted(others)
            more = f" and {len(shown) - NAMED_LAYERS} more" if len(shown) > NAMED_LAYERS else ""
            raise InputError(
                f"{name} {path} is a GeoPackage with other data ({', '.join(shown[:NAMED_LAYERS])}{more}), which "
                "would be lost, because the whole file is replaced.",
                "Give the name of a new file.",
            )


def _tables(path: str) -> set[str]:
    """Return the names of an existing GeoPackage's layers, rasters and tables, in lower case."""
    if Path(path).suffix.lower() != ".gpkg" or not Path(path).is_file():
        return set()
    address = Path(path).absolute().as_uri() + "?mode=ro"
    try:
        with closing(sqlite3.connect(address, uri=True)) as database:
            rows = database.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')").fetchall()
    except sqlite3.DatabaseError:  # it is not a GeoPackage
        return set()
    names = {str(name).lower() for (name,) in rows}
    return {name for name in names if not name.startswith(SYSTEM_TABLES)}


# Well-known binary (WKB) of a polygon with one ring of five points: byte order, type, rings, points, coordinates.
_SQUARE = np.dtype([("order", "u1"), ("kind", "<u4"), ("rings", "<u4"), ("points", "<u4"), ("at", "<f8", (5, 2))])


def squares(grid: Grid, window: Window, wanted: np.ndarray) -> list[bytes]:
    """Return the pixels of a grid as polygons, in well-known binary.

    Args:
        grid: The grid.
        window: Window of pixels.
        wanted: (rows, cols) bool, the pixels of the window to return, row by row.
    """
    rows, cols = np.nonzero(wanted)
    x = grid.left + grid.step_x * (window.col_off + cols[:, None] + np.array([0, 1, 1, 0, 0]))
    y = grid.top + grid.step_y * (window.row_off + rows[:, None] + np.array([0, 0, 1, 1, 0]))
    table = np.zeros(len(rows), _SQUARE)
    table["order"], table["kind"], table["rings"], table["points"] = 1, ogr.wkbPolygon, 1, 5
    table["at"] = np.stack([x, y], axis=2)
    return [row.tobytes() for row in table]
