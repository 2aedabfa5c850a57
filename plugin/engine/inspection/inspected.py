"""What an inspection has found out."""

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
    """All that was found out about a dataset."""

    config: InspectChipsConfig
    dataset: ChipDataset
    table: ChipTable
    measures: Measures
    duplicates: Duplicates
    shared: np.ndarray  # (n,) for chips on ground of an earlier split, a chip there; -1 for the others
    suspects: list[Suspicion]
    findings: list[Finding]
    nodata_share: float  # of the pixels of all chips
    seconds: float

    @property
    def leaks(self) -> np.ndarray:
        """(n,) bool: validation and test chips whose picture or ground an earlier split shows as well."""
        found: np.ndarray = self.duplicates.leaking | (self.shared >= 0)
        return found
