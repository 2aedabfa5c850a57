"""Convert a chip dataset to a folder of another program."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from ...config import ConvertChipsConfig
from ...drafts import check_writable, claim
from ...errors import InputError
from ...events import Reporter, Stage
from ...strangers.paths import check_apart, check_plain
from ...threads import work_ahead
from ..builder import building, file_errors
from ..dataset import NO_SPLIT, ChipDataset, open_dataset
from .arcgis_folder import ArcgisWriter
from .coco import CocoWriter
from .foreign import NOTE, FolderWriter, Note
from .imagenet import ImagenetWriter
from .voc_folder import VocWriter
from .words import counted

WRITERS: dict[str, type[FolderWriter]] = {
    writer.KIND: writer for writer in (ArcgisWriter, ImagenetWriter, CocoWriter, VocWriter)
}
# How many chips are examined to estimate the total size.
SAMPLE = 20


def convert_chips(config: ConvertChipsConfig, reporter: Reporter) -> dict[str, Any]:
    """Write a chip dataset as a folder of another program.

    The folder appears under its final name when it is complete; a cancelled or failed job leaves nothing.

    Returns:
        folder, chips (number).

    Raises:
        InputError: The format does not support these chips, or the output folder exists.
        ResourceError: The folder cannot be written, or the disk is full.
        Cancelled: The user cancelled the job.
    """
    check_apart(config.chips, config.output)
    with claim(config.output):
        return _convert_chips(config, reporter)


def _convert_chips(config: ConvertChipsConfig, reporter: Reporter) -> dict[str, Any]:
    dataset = open_dataset(config.chips)
    kind = WRITERS[config.folder_format]
    _check_task(dataset, kind)
    places = _places(dataset, kind, reporter)
    _check_target(config)
    sample = places[:: max(1, len(places) // SAMPLE)]
    with file_errors():
        sizes = [check_plain(dataset.image_path(place)) for place in sample]
    check_writable(config.output, int(np.mean(sizes) * len(places)))
    with file_errors(), building(config.output) as partial, closing(kind(dataset, partial, places)) as writer:
        for remark in writer.remarks:
            reporter.log(remark)
        stage = Stage(reporter, len(places), "Writing chips")
        with closing(work_ahead(writer.write, places.tolist(), stage)) as chips:
            for place, written in chips:
                writer.collect(place, written)
        writer.finish()
    reporter.log(f"{counted(len(places), 'chip')} written as a folder of {config.folder_format}.")
    return {"folder": config.output, "chips": len(places)}


def _check_task(dataset: ChipDataset, kind: type[FolderWriter]) -> None:
    task = dataset.info.task
    if task in kind.TASKS:
        return
    others = [name for name, writer in WRITERS.items() if task in writer.TASKS]
    raise InputError(
        f"The chip dataset {dataset.folder} is for {task}, but {kind.KIND} supports only {' or '.join(kind.TASKS)}.",
        f"Convert it to {' or '.join(others)}." if others else "No other format supports it; use the dataset itself.",
    )


def _places(dataset: ChipDataset, kind: type[FolderWriter], reporter: Reporter) -> np.ndarray:
    """(n,) indices of the chips to write: all, or those in a split if the format has splits."""
    outside = dataset.splits == NO_SPLIT
    if kind is ArcgisWriter or not outside.any():
        return np.arange(len(dataset.images))
    reporter.log(f"{counted(int(outside.sum()), 'chip')} left out for belonging to no split.")
    if outside.all():
        raise InputError("No chip of the dataset belongs to a split.", "Use “Split training chips” first.")
    return np.flatnonzero(~outside)


def _check_target(config: ConvertChipsConfig) -> None:
    """Check that the output is new or empty, or a folder written by Terrazzo that may be overwritten."""
    folder = Path(config.output)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if not folder.is_dir() or Note.read(folder) is None:
            raise InputError(
                f"{folder} exists and was not written by Terrazzo (it has no {NOTE}).",
                "Choose a new or empty folder.",
            )
        if not config.overwrite:
            raise InputError(f"The folder {folder} exists.", "Choose another folder, or set OVERWRITE.")
    check_writable(config.output)
