"""One map for each of several rasters: the names of the results, and what happens if a raster cannot be mapped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ..config import SegmentRasterConfig
from ..drafts import claim
from ..errors import EngineError, InputError, NothingToMap, ResourceError
from ..events import Part, Reporter
from ..files import raster_names, with_name
from ..rasters.images import open_image
from ..rasters.raster_io import crs_text, same_crs

NAMED = 5  # failures that the error names; the log has all


def each_of(config: SegmentRasterConfig) -> list[SegmentRasterConfig]:
    """Return the settings for each raster of a job, whose results have the raster's name appended.

    Raises:
        InputError: A result would overwrite one of the rasters.
    """
    rasters = [(config.input, config.input_crs), *config.more]
    own = {key for key in (_file_key(path) for path, _ in rasters) if key is not None}
    outputs = {name: path for name in config.outputs() if (path := config.to_json()[name])}
    found = []
    for (path, crs), name in zip(rasters, raster_names([path for path, _ in rasters])):
        named = {output: with_name(place, name) for output, place in outputs.items()}
        for output, place in named.items():
            if _file_key(place) in own:
                raise InputError(
                    f"{output.upper()} of {path} would be {place}, which is one of the rasters to be mapped.",
                    "Give the result another name.",
                )
        alone = {"input": path, "input_crs": crs, "more_images": (), "more_crs": (), "combine": "mosaic"}
        found.append(SegmentRasterConfig.from_json({**config.to_json(), **alone, **named}))
    return found


def _file_key(path: str) -> tuple[int, int] | None:
    try:
        there = Path(path).stat()
    except (OSError, ValueError):  # not there, or not a file
        return None
    return there.st_dev, there.st_ino


def map_each(
    config: SegmentRasterConfig, map_one: Callable[[SegmentRasterConfig, Reporter], dict[str, Any]], reporter: Reporter
) -> dict[str, Any]:
    """Map each raster of a job; one that cannot be mapped does not stop the others.

    Args:
        config: Settings of the job.
        map_one: Maps a raster, and returns its result.
        reporter: Receives progress and log lines.

    Returns:
        The result for the first raster that has a map, and as `more` those for the others.

    Raises:
        InputError, ResourceError: A raster could not be mapped; the maps of the others are there.
        Cancelled: The user cancelled the job, or QGIS has ended; finished maps are there.
    """
    every = each_of(config)
    crs = _crs_of(every[0]) if config.extent or config.area else ""
    results: list[dict[str, Any]] = []
    failed: list[tuple[str, EngineError]] = []
    empty = 0
    for number, one in enumerate(every):
        reporter.check_wanted()
        reporter.log(f"Raster {number + 1} of {len(every)}: {one.input}.")
        try:
            with ExitStack() as stack:
                for path in _written(one):
                    stack.enter_context(claim(path))
                _check_place(one, crs)
                results.append(map_one(one, Part(reporter, number / len(every), (number + 1) / len(every))))
        except NothingToMap as nothing:
            empty += 1
            reporter.log(f"There is nothing to map: {nothing.problem}")
        except EngineError as error:
            failed.append((one.input, error))
            reporter.warning(f"{one.input} could not be mapped: {error}")
    if failed:
        raise _failure(failed, len(results))
    if not results:
        raise InputError(f"There is nothing to map in any of the {empty} rasters.", "Choose other rasters or areas.")
    return {**results[0], "more": results[1:]}


def _crs_of(config: SegmentRasterConfig) -> str:
    return open_image(config.input, config.input_crs).look_at().info.crs


def _check_place(config: SegmentRasterConfig, crs: str) -> None:
    """Check that a raster is in the CRS of the part to map, if that is given.

    Raises:
        InputError: It is not.
    """
    if not crs:
        return
    own = _crs_of(config)
    if not same_crs(own, crs):
        raise InputError(
            f"{config.input} is in {crs_text(own)}, but EXTENT and AREA are in {crs_text(crs)}, that of the first "
            "raster.",
            "Map it by itself.",
        )


def _written(config: SegmentRasterConfig) -> list[str]:
    values = config.to_json()
    return [values[name] for name in config.outputs() if values[name]]


def _failure(failed: Sequence[tuple[str, EngineError]], mapped: int) -> EngineError:
    """The error at the end of a job in which some rasters could not be mapped."""
    shown = "; ".join(f"{path} ({error.problem.rstrip('.')})" for path, error in failed[:NAMED])
    more = f" and {len(failed) - NAMED} more" if len(failed) > NAMED else ""
    kind = ResourceError if all(isinstance(error, ResourceError) for _, error in failed) else InputError
    remedy = failed[0][1].remedy if len({error.remedy for _, error in failed}) == 1 else "See the log for what to do."
    return kind(
        f"{len(failed)} of {len(failed) + mapped} rasters could not be mapped: {shown}{more}. The maps of the other "
        f"{mapped} are complete.",
        remedy,
    )
