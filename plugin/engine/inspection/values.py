"""The parts of an inspection report that show values of bands, classes and targets."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..chips.dataset import SPLITS
from ..classes import IGNORE_INDEX
from ..rasters.raster_io import missing_values
from ..reports import pictures
from ..reports.page import MISSING, percent
from ..tasks import CLASS_TASKS, NUMBER_TASKS
from . import charts
from .inspected import Inspection

# The maximum number of bands and classes to draw.
SHOWN_BANDS, SHOWN_CLASSES = 24, 60
LEAST_SIGNATURE_PIXELS = 50


def bands_content(inspection: Inspection) -> dict[str, Any]:
    """Statistics and histograms of the bands, and the spectral signatures of the classes."""
    dataset, table, sample = inspection.dataset, inspection.table, inspection.measures.sample
    info, total = dataset.info, inspection.table.bands.total()
    size = info.chip_size**2 * int(table.bands.known.sum())
    splits = [split for split in SPLITS if split in table.bands.splits]
    rows = []
    for band, name in enumerate(info.band_names):
        seen = total.count[band] > 0
        figures = (total.minimum, total.maximum, total.mean, total.std)
        rows.append({
            "name": name,
            "figures": [f"{figure[band]:.5g}" if seen else MISSING for figure in figures],
            "means": [f"{table.bands.splits[split].mean[band]:.5g}" for split in splits],
            "nodata": percent(1 - total.count[band] / size) if size else MISSING,
        })  # fmt: skip
    step = -(-len(rows) // SHOWN_BANDS)
    chosen = list(range(0, len(rows), step))
    return {
        "rows": rows,
        "splits": splits,
        "histograms": charts.histograms(
            [info.band_names[band] for band in chosen], [_values_by_split(inspection, band) for band in chosen]
        ),
        "shown": len(chosen),
        "chips": int(sample.read.sum()),
        "pixels": len(sample.positions),
        "chip_pixels": info.chip_size**2,
        "known": int(table.bands.known.sum()),
        "signatures": _signatures(inspection),
    }


def _values_by_split(inspection: Inspection, band: int) -> dict[str, np.ndarray]:
    """The sampled pixels of a band by split, without missing ones."""
    dataset, sample = inspection.dataset, inspection.measures.sample
    found = {}
    for split in SPLITS:
        chips = sample.read & (dataset.splits[sample.chips] == split)
        values = sample.values[band : band + 1, chips]
        missing = missing_values(values, (dataset.info.nodata,))
        if values.size:
            found[split] = values.ravel() if missing is None else values[~missing]
    return found


def _signatures(inspection: Inspection) -> str:
    """The spectral signatures of the classes; "" if there is nothing to compare."""
    dataset, bands, sample = inspection.dataset, inspection.table.bands, inspection.measures.sample
    count = len(dataset.info.band_names)
    if dataset.info.task not in CLASS_TASKS or not 1 < len(dataset.info.classes) <= SHOWN_CLASSES or count < 2:
        return ""
    labels = sample.classes
    if dataset.info.task != "segmentation":  # a chip with one class has it in all pixels
        single = dataset.shown[sample.chips].sum(axis=1) == 1
        whole = np.where(single, dataset.shown[sample.chips].argmax(axis=1), IGNORE_INDEX)
        labels = np.broadcast_to(whole.astype(np.uint8)[:, None], labels.shape)
    labels = np.where(sample.read[:, None], labels, IGNORE_INDEX)
    means = np.full((len(dataset.info.classes), count), np.nan)
    deviations = means.copy()
    for band in range(count):
        values = sample.values[band]
        missing = missing_values(values[None], (dataset.info.nodata,))
        usable = labels if missing is None else np.where(missing[0], IGNORE_INDEX, labels)
        for index in range(len(means)):
            some = values[usable == index].astype(np.float64)
            if len(some) >= LEAST_SIGNATURE_PIXELS:
                means[index, band] = (some.mean() - bands.mean[band]) / bands.std[band]
                deviations[index, band] = some.std() / bands.std[band]
    if np.isnan(means).all():
        return ""
    return charts.signatures(dataset.info.classes, dataset.info.band_names, means, deviations)


def target_content(inspection: Inspection) -> dict[str, Any] | None:
    """The numbers to learn; None for other tasks."""
    target, sample = inspection.table.target, inspection.measures.sample
    if inspection.dataset.info.task not in NUMBER_TASKS or not target.count[0]:
        return None
    values = {}
    for split in SPLITS:
        some = sample.targets[sample.read & (inspection.dataset.splits[sample.chips] == split)].ravel()
        if some.size:
            values[split] = some[np.isfinite(some)]
    figures = (target.minimum, target.maximum, target.mean, target.std)
    return {
        "figures": [f"{figure[0]:.5g}" for figure in figures],
        "labelled": percent(float(np.nanmean(inspection.table.labelled))),
        "histogram": charts.histograms(["value"], [values]),
    }


def target_range(inspection: Inspection) -> tuple[float, float]:
    """The range of the colour ramp of regression masks."""
    known = inspection.measures.sample.targets
    known = known[np.isfinite(known)]
    if known.size == 0:
        return 0.0, 1.0
    low, high = np.percentile(known, pictures.STRETCH)
    return float(low), float(high)


def ramp_content(inspection: Inspection) -> dict[str, str] | None:
    """The legend of the colour ramp; None for other tasks."""
    if inspection.dataset.info.task != "regression":
        return None
    low, high = target_range(inspection)
    picture = pictures.ramp(np.broadcast_to(np.linspace(0, 1, 128), (10, 128)), 0, 1)
    return {"picture": pictures.png(picture), "low": f"{low:.4g}", "high": f"{high:.4g}"}
