"""What can be said of an inspection while the dialog is still open."""

from __future__ import annotations

from ..chips.dataset import DATASET, own_files
from ..config import InspectChipsConfig
from ..files import check_kept, check_names
from ..vector_files import VECTOR_ENDINGS


def check_inspection(config: InspectChipsConfig) -> None:
    """Whether the names of the results will do.

    Raises:
        InputError: SUSPECTS is of another kind, or one would replace part of the dataset.
    """
    check_names({"SUSPECTS": config.suspects}, VECTOR_ENDINGS)
    check_kept({"REPORT": config.report, "SUSPECTS": config.suspects}, {DATASET: own_files(config.chips)})
