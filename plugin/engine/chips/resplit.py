"""Divide the chips of a dataset again, without cutting them again."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from ..config import SplitChipsConfig
from ..errors import InputError
from ..events import Reporter, Stage
from ..files import check_space
from .builder import building
from .dataset import index_of, read_info
from .divide import SplitRule, divide
from .export import result_of
from .index import ChipIndex


def split_chips(config: SplitChipsConfig, reporter: Reporter) -> dict[str, Any]:
    """Assign the chips of a dataset to new splits; index and description are replaced together.

    Returns:
        See `export_chips`.
        As `export_chips`.

    Raises:
        InputError: The folder is not a dataset, its format 1 has no statistics, or the rule does not suit it.
        ResourceError: The folder cannot be written.
        Cancelled: The user cancelled the job.
    """
    rule = SplitRule.of(config)
    folder = Path(os.path.realpath(config.chips))  # a link to the dataset stays a link
    read_info(folder)
    with building(str(folder), join=True) as fresh:
        info = read_info(folder)  # read again now that the folder is locked
        if info.format_version < 2:
            raise InputError(
                f"The chip dataset {folder} has format 1, without statistics of single chips.", "Export it again."
            )
        index_path = index_of(folder)
        check_space(index_path, index_path.stat().st_size)
        stage = Stage(reporter, 2, "Dividing chips")
        shutil.copyfile(index_path, fresh / "chips.gpkg")
        stage.advance()
        with ChipIndex(fresh / "chips.gpkg", info.classes) as index:
            index.forget_splits()
            found = divide(index, info, rule, reporter)
        (fresh / "dataset.json").write_text(found.to_json(), encoding="utf-8")
        stage.advance()
    return result_of(config.chips, found)
