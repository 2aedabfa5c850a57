"""Chip dataset → a folder as other programs have it."""

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
# Chips from whose files the size of all is guessed.
SAMPLE = 20


def convert_chips(config: ConvertChipsConfig, reporter: Reporter) -> dict[str, Any]:
    """Write a chip dataset as the folder of another program.

    The folder appears under its final name when it is whole; a cancelled or failed job leaves nothing.

    Returns:
        folder, chips (number).

    Raises:
        InputError: The format cannot hold these chips, or something else stands at the output.
        ResourceError: The folder cannot be written or its disk is full.
        Cancelled: The user asked for the end.
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
        f"The chip dataset {dataset.folder} is for {task}, and folders of {kind.KIND} hold chips for "
        f"{' or '.join(kind.TASKS)}.",
        f"Convert it to {' or '.join(others)}." if others else "No other format holds it; use the dataset itself.",
    )


def _places(dataset: ChipDataset, kind: type[FolderWriter], reporter: Reporter) -> np.ndarray:
    """(n,) the chips to write: all, but where the format has splits those that belong to none."""
    outside = dataset.splits == NO_SPLIT
    if kind is ArcgisWriter or not outside.any():
        return np.arange(len(dataset.images))
    reporter.log(f"{counted(int(outside.sum()), 'chip')} of no split left out: they share ground with other splits'.")
    if outside.all():
        raise InputError("No chip of the dataset belongs to a split.", "Use “Split training chips” first.")
    return np.flatnonzero(~outside)


def _check_target(config: ConvertChipsConfig) -> None:
    """A folder of ours is replaced only when asked; any other with something in it never is."""
    folder = Path(config.output)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if not folder.is_dir() or Note.read(folder) is None:
            raise InputError(
                f"{folder} exists, and Terrazzo has not written it (there is no {NOTE}).",
                "Choose a new or an empty folder.",
            )
        if not config.overwrite:
            raise InputError(f"The folder {folder} exists.", "Choose another folder, or set OVERWRITE.")
    check_writable(config.output)
