"""The part of a web layer that is fetched for a job."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Union

from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsCsException,
    QgsProcessingContext,
    QgsRectangle,
)

from ..plugin.engine.config import FetchTilesConfig, WebLayer
from ..plugin.engine.errors import InputError
from ..plugin.engine.events import Reporter
from ..plugin.engine.records import Record
from ..plugin.engine.windows import Grid
from ..plugin.metadata import said
from ..plugin.python_setting import python_setting
from .coordinates import bounds, same_ground

if TYPE_CHECKING:
    from .features import FeatureSource

# Pixels around a part that is resampled.
SPARE = 2


class Part(Record):
    """The part of a web layer that is fetched for a job.

    Attributes:
        layer: The layer.
        size: Pixel size to fetch, in units of the layer's CRS.
        extent: Bounds in its CRS.
        most: Number of tiles that may be fetched.
        days: For how long tiles are kept.
        near: Only tiles near these features are wanted; None for all.
        margin: How far around them pixels are wanted, in units of the layer's CRS.
    """

    layer: WebLayer
    size: float
    extent: tuple[float, ...]
    most: int
    days: float = 0.0
    near: Optional[FeatureSource] = None
    margin: float = 0.0

    @property
    def stand_in(self) -> str:
        """A raster without data that has the same pixels, for checks before the tiles are fetched."""
        from ..plugin.engine.rasters.web_layer import stand_in

        return stand_in(self.layer, self._grid)

    @property
    def _grid(self) -> Grid:
        from ..plugin.engine.rasters.web_layer import grid_around

        return grid_around(self.layer, self.size, self.extent)

    def check(self) -> None:
        """Refuse a part with too many tiles.

        Raises:
            InputError: There are too many, or none.
        """
        from ..plugin.engine.rasters.web_layer import check_amount, tiles_in

        count = tiles_in(self.layer, self._grid)
        if count > self.most and self.near is not None:
            count = self._count_near(self.near)
        check_amount(self.layer, count, self.most)

    def _count_near(self, near: FeatureSource) -> int:
        from ..plugin.engine.drafts import scratch_folder
        from ..plugin.engine.rasters.touched_tiles import touched_tiles

        with scratch_folder() as folder:
            near.write(folder, Reporter())
            place = str(near.file_in(folder)), near.file_layer
            side = self.layer.tile_side
            return len(touched_tiles(*place, self._grid, self.layer.crs_wkt, side, self.margin, self.most))

    def fetch(self, folder: Path, name: str, reporter: Reporter) -> str:
        """Fetch the tiles into a GeoTIFF, in a process that ends at once when the job is cancelled.

        Args:
            folder: Folder for the file; that of `near` is there already.
            name: Name of a folder for it in there, which no other part of the job has.
            reporter: Receives progress and warnings.

        Returns:
            The file's path; its name is that of the layer.
        """
        from ..plugin.engine.files import cache_folder, raster_names
        from ..plugin.proxy import qgis_proxy
        from ..plugin.worker_process import run_job
        from ..plugin.worker_python import qgis_python, require_python

        own = qgis_python()
        inside = folder / name
        inside.mkdir()
        title = re.sub(r"[/\\?]", "_", self.layer.title)
        near = self.near
        settings = {
            **self.layer.to_json(), "output": str(inside / f"{raster_names([f'{title}.tif'])[0]}.tif"),
            "fetched_size": self.size, "extent": self.extent, "max_tiles": self.most,
            "tile_cache": str(cache_folder() / "tiles"), "keep_tiles": self.days,
            "near": None if near is None else str(near.file_in(folder)),
            "near_layer": "" if near is None else near.file_layer, "margin": self.margin,
            "agent": f"Terrazzo/{said('version')} (QGIS plugin; {said('homepage')})",
        }  # fmt: skip
        config = FetchTilesConfig.from_json(settings)
        python = own or require_python(python_setting()).path
        found = run_job(
            python, "fetchtiles", config.to_json(), reporter, inherit=own is not None, variables=qgis_proxy()
        )
        return str(found["output"])


class WebInput(Record):
    """Rasters of a job of which some are still to be fetched.

    Attributes:
        sources: Paths for GDAL, and parts of web layers.
        alone: Whether the setting is a single path.
        setting: Setting of the job that names the files.
    """

    sources: list[Union[str, Part]]
    alone: bool
    setting: str = "input"

    @property
    def stand_in(self) -> Any:
        """The setting for checks before anything is fetched."""
        return self._shaped([source if isinstance(source, str) else source.stand_in for source in self.sources])

    def write(self, folder: Path, reporter: Reporter) -> dict[str, Any]:
        """Fetch what is to be fetched.

        Args:
            folder: Folder for the files.
            reporter: Receives progress and warnings.

        Returns:
            The setting, now with paths only.
        """
        found = []
        for number, source in enumerate(self.sources, start=1):
            name = f"web_{self.setting}_{number}"
            found.append(source if isinstance(source, str) else source.fetch(folder, name, reporter))
        return {self.setting: self._shaped(found)}

    def _shaped(self, found: list[str]) -> Any:
        return found[0] if self.alone else found


def part_of(
    layer: WebLayer,
    place: Optional[QgsRectangle],
    crs: QgsCoordinateReferenceSystem,
    wanted: Optional[float],
    margin: float,
    values: dict[str, Any],
    context: QgsProcessingContext,
    near: Optional[FeatureSource] = None,
    reach: float = 0.0,
) -> tuple[Part, float]:
    """Return the part of a web layer to fetch, and the pixel size for the job in units of `crs`.

    Args:
        layer: The layer.
        place: The part that the job is about, in `crs`; None if the user gave none.
        crs: CRS of the job's first raster.
        wanted: Pixel size in units of `crs`; None if unknown.
        margin: Pixels around the place that are needed as well.
        values: Values of the parameters: how many tiles may be fetched, and how long they are kept.
        context: Holds the user's choice of coordinate transformations.
        near: Only tiles near these features are wanted; None for the whole place.
        reach: Pixels around them that are needed as well.

    Raises:
        InputError: The place or the pixel size is not given, or there are too many tiles.
    """
    from ..plugin.engine.rasters.web_layer import LIKE_WANTED, fitting_size

    if place is None:
        raise InputError(
            f'"{layer.title}" is a web layer, which may cover the whole world, but neither EXTENT nor AREA is given.',
            "Give one of them: only its tiles are fetched.",
        )
    if wanted is None:
        known = f" It has pixels of {_few(layer.resolutions)}." if layer.resolutions else ""
        raise InputError(
            f'"{layer.title}" is a web layer, whose pixels change with the zoom level, but no PIXEL_SIZE is given.',
            f"Give it in units of {crs.authid()}.{known}",
        )
    own = QgsCoordinateReferenceSystem.fromWkt(layer.crs_wkt)
    ratio = 1.0  # units of the layer's CRS in a unit of the job's
    around = QgsRectangle(place)
    if not same_ground(own, crs):
        try:
            around = QgsCoordinateTransform(crs, own, context.transformContext()).transformBoundingBox(around)
        except QgsCsException as error:
            raise InputError(
                f'The place to fetch is outside the area of the web layer "{layer.title}" ({error}).',
                "Choose another EXTENT.",
            ) from error
        ratio = (around.width() * around.height() / (place.width() * place.height())) ** 0.5
    size = fitting_size(layer, wanted * ratio)
    like = ratio == 1 and max(size, wanted) <= LIKE_WANTED * min(size, wanted)
    pixel, spare = (size, 0.0) if like else (max(size, wanted * ratio), SPARE)
    around.grow(max(margin, spare) * pixel)
    most, days = int(values["max_tiles"]), values["keep_tiles"]
    found = Part(layer, size, bounds(around), most, days, near, max(reach, spare) * pixel)
    found.check()
    return found, size if like else wanted


def place_of(source: Any, crs: QgsCoordinateReferenceSystem, context: QgsProcessingContext) -> Optional[QgsRectangle]:
    """Return the rectangle around the features of a `FeatureSource`, in `crs`; None if there are none.

    Raises:
        InputError: They are outside the area of the CRS.
    """
    if source is None or source.own_extent.isNull():
        return None
    if not source.own_crs.isValid() or source.own_crs == crs:
        return QgsRectangle(source.own_extent)
    try:
        return QgsCoordinateTransform(source.own_crs, crs, context.transformContext()).transformBoundingBox(
            source.own_extent
        )
    except QgsCsException as error:
        raise InputError(
            f'The features of "{source.title}" are outside the area of {crs.authid()} ({error}).',
            "Check the CRS of the layer.",
        ) from error


def size_of_model(layer: WebLayer, header: Any, place: QgsRectangle) -> float:
    """Return the pixel size that a model was trained on, in units of a web layer's CRS.

    Raises:
        InputError: The model has no CRS.
    """
    from ..plugin.engine.mapping.reading.checks import size_of_model
    from ..plugin.engine.rasters.raster_io import RasterReader
    from ..plugin.engine.rasters.web_layer import grid_around, stand_in

    about = grid_around(layer, max(place.width(), place.height()) / 100, bounds(place))
    return size_of_model(RasterReader(stand_in(layer, about), name=layer.title).info, header)


def _few(sizes: tuple[float, ...]) -> str:
    """Return some pixel sizes: "0.3, 0.6, 1.2, …"."""
    smallest = sorted(sizes)[:6]
    return ", ".join(f"{size:.4g}" for size in smallest) + (", …" if len(sizes) > len(smallest) else "")
