"""Answers as a table: with polygons a layer, without them a list. One file that appears whole."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from osgeo import gdal, ogr

from ..drafts import claim, publish
from ..errors import InputError, ResourceError
from ..raster_io import spatial_reference
from ..windows import Grid, Window
from .answers import INTEGER, NUMBER, TEXT, Field
from .layer_style import STYLE_TABLE, keep_inside

if TYPE_CHECKING:
    from typing_extensions import Self

ogr.UseExceptions()

# Kinds of files that are one file, and their drivers.
DRIVERS = {".gpkg": "GPKG", ".geojson": "GeoJSON", ".csv": "CSV"}
TABLE_ENDINGS = {".gpkg": "a GeoPackage", ".geojson": "GeoJSON", ".csv": "CSV"}
TYPES = {INTEGER: ogr.OFTInteger, NUMBER: ogr.OFTReal, TEXT: ogr.OFTString}
# A journal of everything since the begin of a transaction is kept on the disk.
ROWS_A_TRANSACTION = 50_000
# The tables that belong to any GeoPackage, and the indexes of its layers.
SYSTEM_TABLES = ("gpkg_", "sqlite_", "rtree_")
# The names of layers of answers.
SCENE_LAYER, PHOTOGRAPH_LAYER = "scenes", "photographs"
NAMED_LAYERS = 5  # of those that would be lost


class Table:
    """A new vector file with one layer; to be used in a `with` block, at whose end only what was published is left.

    Args:
        path: Its final name.
        layer: Its layer's name.
        fields: Its columns.
        crs: WKT2 of the polygons; None for a table without geometry.
        style: QGIS's, which a GeoPackage keeps in itself; other kinds of files do not.

    Raises:
        ResourceError: It cannot be made.
    """

    def __init__(
        self, path: str, layer: str, fields: Sequence[Field], crs: str | None = None, style: str | None = None
    ) -> None:
        self.path, self.style, self.count = path, style, 0
        driver = DRIVERS[Path(path).suffix.lower()]
        self._transactions = driver == "GPKG"
        self.draft = claim(path)
        try:
            self.dataset = gdal.GetDriverByName(driver).Create(str(self.draft.fresh()), 0, 0, 0, gdal.GDT_Unknown)
            spatial = crs is not None
            # By itself GDAL puts numbers in quotes, too.
            options = ["STRING_QUOTING=IF_NEEDED"] if driver == "CSV" else []
            options += ["GEOMETRY=AS_WKT"] if driver == "CSV" and spatial else []
            reference = spatial_reference(crs) if crs else None
            kind = ogr.wkbPolygon if spatial else ogr.wkbNone
            self.layer = self.dataset.CreateLayer(layer, reference, kind, options)
            for field in fields:
                definition = ogr.FieldDefn(field.name, TYPES[field.kind])
                if field.title:
                    definition.SetAlternativeName(field.title)
                self.layer.CreateField(definition)
            self._begin()
        except RuntimeError as error:
            self.__exit__()
            raise self._failure(error) from error

    def add(
        self, rows: Iterable[Sequence[Any]], polygons: Iterable[bytes] | None = None, ids: Iterable[int] | None = None
    ) -> None:
        """Write rows, with a polygon as WKB for each where the table has such, and an id where rows have their own.

        Raises:
            ResourceError: The disk is full, or gone.
        """
        shapes = iter(polygons) if polygons is not None else None
        numbers = iter(ids) if ids is not None else None
        definition = self.layer.GetLayerDefn()
        try:
            for row in rows:
                feature = ogr.Feature(definition)
                for place, value in enumerate(row):
                    if value is not None:
                        feature.SetField(place, value)
                if shapes is not None:
                    feature.SetGeometryDirectly(ogr.CreateGeometryFromWkb(next(shapes)))
                if numbers is not None:
                    feature.SetFID(next(numbers))
                self.layer.CreateFeature(feature)
                self.count += 1
                if self.count % ROWS_A_TRANSACTION == 0:
                    self._commit()
                    self._begin()
        except RuntimeError as error:
            raise self._failure(error) from error

    def close(self) -> None:
        """Write what is still in memory.

        Raises:
            ResourceError: As `add`.
        """
        try:
            self._commit()
            if self.style is not None and keeps_style(self.path):
                keep_inside(self.dataset, self.layer, self.style)
            self.dataset.FlushCache()
        except RuntimeError as error:
            raise self._failure(error) from error
        finally:
            self.layer = self.dataset = None

    def publish(self) -> None:
        """Give the closed file its final name; raises as `drafts.publish`."""
        publish(self.draft)

    def _begin(self) -> None:
        if self._transactions:
            self.layer.StartTransaction()

    def _commit(self) -> None:
        if self._transactions:
            self.layer.CommitTransaction()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.layer = self.dataset = None
        self.draft.close()

    def _failure(self, error: RuntimeError) -> ResourceError:
        return ResourceError(
            f"The file {self.path} could not be written ({error}).", "Free some space, or choose another folder."
        )


def keeps_style(path: str) -> bool:
    """Whether a file of this kind holds the style of its layer."""
    return DRIVERS[Path(path).suffix.lower()] == "GPKG"


def check_replaceable(outputs: Mapping[str, str | None], layer: str) -> None:
    """Refuse to replace a GeoPackage that holds more than the layer that will be written.

    Args:
        outputs: Parameter → path; None is not wanted.
        layer: The name of the layer.

    Raises:
        InputError: There is such a file.
    """
    for name, path in outputs.items():
        others = _tables(path) - {layer.lower(), STYLE_TABLE} if path else set()
        if others:
            shown = sorted(others)
            more = f" and {len(shown) - NAMED_LAYERS} more" if len(shown) > NAMED_LAYERS else ""
            raise InputError(
                f"{name} {path} is a GeoPackage that holds other data ({', '.join(shown[:NAMED_LAYERS])}{more}), which "
                "would be lost: the file is written as a whole.",
                "Give the name of a new file.",
            )


def _tables(path: str) -> set[str]:
    """What a GeoPackage that exists holds, in lower case: layers, rasters, tables of any kind."""
    if Path(path).suffix.lower() != ".gpkg" or not Path(path).is_file():
        return set()
    address = Path(path).absolute().as_uri() + "?mode=ro"
    try:
        with closing(sqlite3.connect(address, uri=True)) as database:
            rows = database.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')").fetchall()
    except sqlite3.DatabaseError:  # it is none
        return set()
    names = {str(name).lower() for (name,) in rows}
    return {name for name in names if not name.startswith(SYSTEM_TABLES)}


# Well-known binary of a polygon with one ring of five points: byte order, type, rings, points, coordinates.
_SQUARE = np.dtype([("order", "u1"), ("kind", "<u4"), ("rings", "<u4"), ("points", "<u4"), ("at", "<f8", (5, 2))])


def squares(grid: Grid, window: Window, wanted: np.ndarray) -> list[bytes]:
    """The pixels of a grid as polygons, in well-known binary.

    Args:
        window: Which pixels.
        wanted: (rows, cols) bool, the ones of the window that are asked for, row by row.
    """
    rows, cols = np.nonzero(wanted)
    x = grid.left + grid.step_x * (window.col_off + cols[:, None] + np.array([0, 1, 1, 0, 0]))
    y = grid.top + grid.step_y * (window.row_off + rows[:, None] + np.array([0, 0, 1, 1, 0]))
    table = np.zeros(len(rows), _SQUARE)
    table["order"], table["kind"], table["rings"], table["points"] = 1, ogr.wkbPolygon, 1, 5
    table["at"] = np.stack([x, y], axis=2)
    return [row.tobytes() for row in table]
