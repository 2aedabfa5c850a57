"""Checks of an inspection's settings that are possible in the dialog."""

from __future__ import annotations

from ..chips.dataset import DATASET, own_files
from ..config import InspectChipsConfig
from ..files import check_kept, check_names
from ..vector_files import VECTOR_ENDINGS


def check_inspection(config: InspectChipsConfig) -> None:
    """Check the paths of the results.

    Raises:
        InputError: SUSPECTS has an unsupported format, or a result would overwrite part of the dataset.
    """
    check_names({"SUSPECTS": config.suspects}, VECTOR_ENDINGS)
    check_kept({"REPORT": config.report, "SUSPECTS": config.suspects}, {DATASET: own_files(config.chips)})
