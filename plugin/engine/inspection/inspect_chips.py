"""The job of `inspectchips`: report, figures and a list of suspicious chips for a chip dataset."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from ..chips.dataset import SPLITS, open_dataset
from ..config import InspectChipsConfig
from ..drafts import check_writable
from ..errors import InputError
from ..events import Reporter, Stage, readable_time
from . import findings
from .chip_table import read_table
from .duplicates import find_duplicates
from .early_checks import check_inspection
from .ground import shared_ground
from .inspected import Inspection
from .measures import measure
from .report import write_inspection
from .suspects import find_suspects, suspicious_chips
from .suspects_file import write_suspects

# Shares of the progress for the index and the chips; the rest is for copies, the report and its pictures.
INDEXED, READ, COMPARED = 0.05, 0.85, 0.93


def inspect_chips(config: InspectChipsConfig, reporter: Reporter) -> dict[str, Any]:
    """Inspect a chip dataset.

    Returns:
        report, suspects (paths), chips, training, validation, test (counts), classes, duplicates, leaks, suspicious
        (counts), nodata_share, findings (their titles).

    Raises:
        InputError: The folder is not a chip dataset, no chip can be read, or the path of a result is not valid.
        ResourceError: The report cannot be written.
    """
    begun = time.monotonic()
    reporter.progress(0.0, "Reading the index")
    check_inspection(config)
    dataset = open_dataset(config.chips)
    check_writable(config.report)
    if config.suspects:
        check_writable(config.suspects)
    count = len(dataset.images)
    table = read_table(dataset, Stage(reporter, count, "Reading the index", 0.0, INDEXED))
    chips = np.arange(count)
    if config.max_chips is not None and config.max_chips < count:
        chips = np.sort(np.random.default_rng(config.seed).choice(count, config.max_chips, replace=False))
        reporter.log(f"{len(chips):,} of {count:,} chips are read; for the others only the index is used.")
    measures = measure(dataset, table, chips, config.seed, Stage(reporter, len(chips), "Reading chips", INDEXED, READ))
    if not measures.read.any():
        problem = next(iter(measures.problems.values()))
        raise InputError(f"None of the {len(chips):,} chips can be read. {problem}", "Export the chips again.")
    stage = Stage(reporter, 3, "Looking for copies", READ, COMPARED)
    duplicates = find_duplicates(dataset, table, measures, stage)
    shared = shared_ground(dataset, table, stage)
    stage.advance()
    suspects = find_suspects(dataset, table, measures, duplicates, shared)
    known = table.valid[~np.isnan(table.valid)]
    nodata_share = float(1 - known.mean()) if len(known) else 0.0
    found = findings.find(dataset, table, duplicates, suspects, nodata_share)
    seconds = time.monotonic() - begun
    inspection = Inspection(
        config, dataset, table, measures, duplicates, shared, suspects, found, nodata_share, seconds
    )
    if config.suspects:
        write_suspects(config.suspects, inspection)
    write_inspection(config.report, inspection, reporter, COMPARED)
    for finding in found:
        (reporter.warning if finding.level == "serious" else reporter.log)(f"{finding.title}. {finding.text}")
    if not found:
        reporter.log("Nothing conspicuous.")
    reporter.progress(1.0, "Done")
    reporter.log(f"{len(chips):,} chips inspected in {readable_time(time.monotonic() - begun)}.")
    return _numbers(inspection)


def _numbers(inspection: Inspection) -> dict[str, Any]:
    config, dataset = inspection.config, inspection.dataset
    return {
        "report": config.report,
        "suspects": config.suspects,
        "chips": len(dataset.images),
        **{split: int((dataset.splits == split).sum()) for split in SPLITS},
        "classes": len(dataset.info.classes),
        "duplicates": int(inspection.duplicates.surplus.sum()),
        "leaks": int(inspection.leaks.sum()),
        "suspicious": len(suspicious_chips(inspection.suspects)),
        "nodata_share": inspection.nodata_share,
        "findings": [finding.title for finding in inspection.findings],
    }
