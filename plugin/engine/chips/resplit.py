"""Chip dataset → the same with other splits; no chip is cut anew."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from ..config import SplitChipsConfig
from ..errors import InputError
from ..events import Reporter, Stage
from ..files import check_writable, partial_path, remove_partial
from .dataset import read_info
from .divide import SplitRule, divide
from .export import result_of
from .index import ChipIndex


def split_chips(config: SplitChipsConfig, reporter: Reporter) -> dict[str, Any]:
    """Divide a dataset's chips anew; index and description are replaced when both are whole.

    Returns:
        As `export_chips`.

    Raises:
        InputError: The folder is no dataset, the rule does not fit it, or it is of format 1 (without statistics).
        ResourceError: It cannot be written.
        Cancelled: The user asked for the end.
    """
    rule = SplitRule.of(config)
    folder = Path(config.chips)
    info = read_info(folder)
    if info.format_version < 2:
        raise InputError(
            f"The chip dataset {folder} was exported before chips kept their own statistics.", "Export it again."
        )
    index_path, description = folder / "chips.gpkg", folder / "dataset.json"
    check_writable(index_path, index_path.stat().st_size)
    stage = Stage(reporter, 2, "Dividing chips")
    try:
        shutil.copy2(index_path, partial_path(index_path))
        stage.advance()
        with ChipIndex(partial_path(index_path), info.classes) as index:
            index.forget_splits()
            found = divide(index, info, rule, reporter)
        partial_path(description).write_text(found.to_json(), encoding="utf-8")
        stage.advance()
        partial_path(index_path).replace(index_path)
        partial_path(description).replace(description)
    finally:
        remove_partial(index_path)
        remove_partial(description)
    return result_of(config.chips, found)
