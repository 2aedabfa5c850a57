"""The results of an inspection."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..chips.dataset import ChipDataset
from ..config import InspectChipsConfig
from .chip_table import ChipTable
from .duplicates import Duplicates
from .findings import Finding
from .measures import Measures
from .suspects import Suspicion


@dataclass(frozen=True)
class Inspection:
    """All results about a dataset."""

    config: InspectChipsConfig
    dataset: ChipDataset
    table: ChipTable
    measures: Measures
    duplicates: Duplicates
    shared: np.ndarray  # (n,) index of an overlapping chip of an earlier split, or -1
    suspects: list[Suspicion]
    findings: list[Finding]
    nodata_share: float  # share of all pixels
    seconds: float

    @property
    def leaks(self) -> np.ndarray:
        """(n,) bool: validation and test chips that share their picture or ground with an earlier split."""
        found: np.ndarray = self.duplicates.leaking | (self.shared >= 0)
        return found
