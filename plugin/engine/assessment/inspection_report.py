"""The report of an inspection: what its page shows, worked out from what was found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..chips.dataset import CLASS_TASKS, NO_SPLIT, SPLITS
from ..classes import IGNORE_INDEX
from ..events import Reporter, Stage, readable_time
from ..raster_io import crs_text, missing_values
from . import inspection_charts, pictures, split_map
from .contact import ChipPictures, Shown, typical_chips
from .inspection_charts import SPLIT_COLORS
from .page import MISSING, percent, write_page
from .shares import ClassShares, fold_shares, split_shares
from .suspects import REASONS, Suspicion

if TYPE_CHECKING:
    from .inspection import Inspection

# How much the page shows of what there may be any number of.
SHOWN_BANDS, SHOWN_CLASSES, SHOWN_SUSPECTS, LISTED_SUSPECTS, LISTED_SOURCES = 24, 60, 6, 100, 60
LEAST_SIGNATURE_PIXELS = 50
LEAST_VALID = 0.5  # share of data in a chip that is shown as typical
ANGLE_STEP = 15  # degrees, where there are more angles than SHOWN_ANGLES
SHOWN_ANGLES = 24


def write_inspection(path: str, inspection: Inspection, reporter: Reporter, start: float) -> None:
    """Write the report of an inspection.

    Args:
        start: Where in the job's progress this begins.

    Raises:
        ResourceError: The file cannot be written.
    """
    write_page(path, "inspection_report.html.j2", _content(inspection, reporter, start))


def _content(inspection: Inspection, reporter: Reporter, start: float) -> dict[str, Any]:
    dataset, info = inspection.dataset, inspection.dataset.info
    shares, folds = split_shares(dataset), fold_shares(dataset)
    showing = _showing(inspection)
    sheets = typical_chips(dataset, showing, inspection.config.seed)
    reasons = _by_reason(inspection.suspects)
    shown_suspects = {key: some[:SHOWN_SUSPECTS] for key, some in reasons.items()}
    steps = sum(len(chips) for _, chips in sheets) + sum(map(len, shown_suspects.values()))
    stage = Stage(reporter, steps, "Drawing the report", start, 1.0)
    chip_pictures = ChipPictures(dataset, inspection.measures.sample, showing, _target_range(inspection))
    return {
        "title": dataset.folder.name,
        "cards": _cards(inspection, shares),
        "findings": inspection.findings,
        "facts": _facts(inspection),
        "task": info.task,
        "classes": info.classes.classes,
        "split_colors": {name: SPLIT_COLORS[name] for name in shares.names},
        "split_counts": dict(zip(shares.names, shares.counts.tolist())),
        "shares": shares,
        "class_rows": _class_rows(inspection, shares),
        "class_bars": _class_bars(inspection, shares),
        "by_pixels": shares.by_pixels,
        "map": _map(inspection),
        "bands": _bands(inspection),
        "target": _target(inspection),
        "sheets": [_sheet(inspection, chip_pictures, index, chips, stage) for index, chips in sheets],
        "ramp": _ramp(inspection),
        "reasons": [
            _reason(inspection, key, some, shown_suspects[key], chip_pictures, stage) for key, some in reasons.items()
        ],
        "unchecked": inspection.duplicates.unchecked,
        "folds": _folds(folds),
        "angles": _angles(inspection.table.angles),
        "sources": _sources(inspection),
        "settings": inspection.config.to_json(),
    }


def _showing(inspection: Inspection) -> np.ndarray:
    """(n,) bool: chips that were read and show something, if there are any."""
    table, read = inspection.table, inspection.measures.read
    showing = read & ~table.bands.constant & ~(table.valid < LEAST_VALID)
    return showing if showing.any() else read


def _cards(inspection: Inspection, shares: ClassShares) -> list[tuple[str, str]]:
    """The figures at the top."""
    counts = dict(zip(shares.names, shares.counts.tolist()))
    suspicious = {suspicion.chip for suspicion in inspection.suspects}
    cards = [("chips", f"{len(inspection.dataset.images):,}")]
    cards += [(split, f"{counts.get(split, 0):,}") for split in SPLITS]
    if counts.get(NO_SPLIT):
        cards.append(("in no split", f"{counts[NO_SPLIT]:,}"))
    if len(inspection.dataset.info.classes):
        cards.append(("classes", f"{len(inspection.dataset.info.classes)}"))
    return [
        *cards,
        ("copies", f"{int(inspection.duplicates.surplus.sum()):,}"),
        ("leaks", f"{int(inspection.leaks.sum()):,}"),
        ("to look at", f"{len(suspicious):,}"),
        ("without data", percent(inspection.nodata_share)),
    ]


def _facts(inspection: Inspection) -> list[tuple[str, str]]:
    dataset, info, read = inspection.dataset, inspection.dataset.info, inspection.measures.read
    names = ", ".join(info.band_names[:16]) + (", …" if len(info.band_names) > 16 else "")
    split = {name: value for name, value in info.split.items() if value is not None}
    words = [f"{split.pop('method', 'unknown')}"]
    words += [f"{name.replace('_', ' ')} {value:g}" for name, value in split.items() if isinstance(value, (int, float))]
    placement = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in info.placement.items() if value)
    nodata = MISSING if info.nodata is None else f"{info.nodata:g}"
    return [
        ("Chip dataset", str(dataset.folder)),
        ("Task", info.task),
        ("Chips", f"{info.chip_size} × {info.chip_size} pixels, stride {info.stride}"
                  + (f"; {placement}" if placement else "")),
        ("Bands", f"{len(info.band_names)} ({names}), {info.dtype}, nodata {nodata}"),
        ("Pixel size, CRS", f"{info.pixel_size:g}, {crs_text(info.crs)}"),
        ("Split", ", ".join(words)),
        ("Read", f"{int(read.sum()):,} of {len(read):,} chips in {readable_time(max(1, inspection.seconds))}"),
        ("Format", f"{info.format_version}" + (f", made {info.created}" if info.created else "")),
    ]  # fmt: skip


def _class_rows(inspection: Inspection, shares: ClassShares) -> list[dict[str, Any]]:
    rows = []
    for index, info in enumerate(inspection.dataset.info.classes.classes):
        splits = []
        for row in range(len(shares.names)):
            share = shares.shares[row, index]
            splits.append({
                "chips": f"{shares.chips[row, index]:,}",
                "pixels": f"{shares.pixels[row, index]:,}",
                "share": MISSING if np.isnan(share) else f"{share:.2%}",
            })  # fmt: skip
        rows.append({"class": info, "whole": f"{shares.whole[index]:.2%}", "splits": splits})
    return rows


def _class_bars(inspection: Inspection, shares: ClassShares) -> str:
    classes = inspection.dataset.info.classes
    splits = [name for name in shares.names if name in SPLITS]
    if not splits or not 0 < len(classes) <= SHOWN_CLASSES:
        return ""
    return inspection_charts.class_bars(shares, classes)


def _map(inspection: Inspection) -> dict[str, Any] | None:
    dataset, table = inspection.dataset, inspection.table
    if not table.placed:
        return None
    kinds = np.where(np.isin(dataset.splits, SPLITS), dataset.splits, NO_SPLIT)
    # Chips of no split lie below those of the splits.
    colors = {kind: SPLIT_COLORS[kind] for kind in (NO_SPLIT, *SPLITS)}
    places = split_map.count_places(table.corners, table.sources)
    names = [Path(str(source.get("raster", ""))).stem for source in dataset.info.sources]
    return {
        "chart": split_map.split_map(table.corners, kinds, colors, table.sources, names, dataset.info.crs),
        "crs": crs_text(dataset.info.crs),
        "left_out": max(0, places - split_map.PANELS),
    }


def _bands(inspection: Inspection) -> dict[str, Any]:
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
        "histograms": inspection_charts.histograms(
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
    """The drawn pixels of one band, by split, without those that are missing."""
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
    """How the classes look in the bands; "" where there is nothing to compare."""
    dataset, bands, sample = inspection.dataset, inspection.table.bands, inspection.measures.sample
    count = len(dataset.info.band_names)
    if dataset.info.task not in CLASS_TASKS or not 1 < len(dataset.info.classes) <= SHOWN_CLASSES or count < 2:
        return ""
    labels = sample.classes
    if dataset.info.task != "segmentation":  # the class of a chip with one is that of all its pixels
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
    return inspection_charts.signatures(dataset.info.classes, dataset.info.band_names, means, deviations)


def _target(inspection: Inspection) -> dict[str, Any] | None:
    """The values of regression masks."""
    target, sample = inspection.table.target, inspection.measures.sample
    if inspection.dataset.info.task != "regression" or not target.count[0]:
        return None
    values = {}
    for split in SPLITS:
        some = sample.targets[sample.read & (inspection.dataset.splits[sample.chips] == split)].ravel()
        if some.size:
            values[split] = some[~np.isnan(some)]
    figures = (target.minimum, target.maximum, target.mean, target.std)
    return {
        "figures": [f"{figure[0]:.5g}" for figure in figures],
        "labelled": percent(float(np.nanmean(inspection.table.labelled))),
        "histogram": inspection_charts.histograms(["value"], [values]),
    }


def _target_range(inspection: Inspection) -> tuple[float, float]:
    known = inspection.measures.sample.targets
    known = known[~np.isnan(known)]
    if known.size == 0:
        return 0.0, 1.0
    low, high = np.percentile(known, pictures.STRETCH)
    return float(low), float(high)


def _ramp(inspection: Inspection) -> dict[str, str] | None:
    if inspection.dataset.info.task != "regression":
        return None
    low, high = _target_range(inspection)
    picture = pictures.ramp(np.broadcast_to(np.linspace(0, 1, 128), (10, 128)), 0, 1)
    return {"picture": pictures.png(picture), "low": f"{low:.4g}", "high": f"{high:.4g}"}


def _sheet(
    inspection: Inspection, chip_pictures: ChipPictures, index: int, chips: np.ndarray, stage: Stage
) -> dict[str, Any]:
    shown = []
    for chip in chips.tolist():
        shown.append(chip_pictures.show(chip))
        stage.advance()
    info = None if index < 0 else inspection.dataset.info.classes.classes[index]
    count = len(inspection.dataset.images) if index < 0 else int(inspection.dataset.shown[:, index].sum())
    return {"class": info, "chips": [one for one in shown if one is not None], "count": f"{count:,}"}


def _by_reason(suspects: Sequence[Suspicion]) -> dict[str, list[Suspicion]]:
    found: dict[str, list[Suspicion]] = {}
    for suspicion in suspects:
        found.setdefault(suspicion.reason, []).append(suspicion)
    return found


def _reason(
    inspection: Inspection, key: str, some: list[Suspicion], shown: list[Suspicion], chip_pictures: ChipPictures,
    stage: Stage,
) -> dict[str, Any]:  # fmt: skip
    """One reason for suspicion, its first chips with pictures and more of them by name."""
    dataset = inspection.dataset
    figures: list[list[Shown]] = []
    for suspicion in shown:
        both = [chip_pictures.show(suspicion.chip, suspicion.detail)]
        if suspicion.other >= 0:
            both.append(chip_pictures.show(suspicion.other))
        figures.append([one for one in both if one is not None])
        stage.advance()
    listed = [
        (str(dataset.images[one.chip]), str(dataset.splits[one.chip]), one.detail,
         str(dataset.images[one.other]) if one.other >= 0 else "")
        for one in some[:LISTED_SUSPECTS]
    ]  # fmt: skip
    return {
        "key": key,
        "reason": REASONS[key],
        "count": f"{len(some):,}",
        "chips": [pair for pair in figures if pair],
        "pairs": any(one.other >= 0 for one in some),
        "listed": listed,
        "more": len(some) - len(listed),
    }


def _folds(folds: ClassShares) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "chips": f"{folds.counts[row]:,}",
            "shares": [MISSING if np.isnan(share) else f"{share:.1%}" for share in folds.shares[row].tolist()],
            "difference": f"{100 * folds.differences[row]:.1f}",
        }
        for row, name in enumerate(folds.names)
    ]


def _angles(angles: np.ndarray) -> str:
    """How many chips are turned by how much; "" where none is."""
    turned = np.round(angles % 360, 3)
    if not turned.any():
        return ""
    values, counts = np.unique(turned, return_counts=True)
    if len(values) > SHOWN_ANGLES:
        counts = np.histogram(turned, np.arange(0, 361, ANGLE_STEP))[0]
        labels = [f"{begin}–{begin + ANGLE_STEP}°" for begin in range(0, 360, ANGLE_STEP)]
    else:
        labels = [f"{value:g}°" for value in values.tolist()]
    return inspection_charts.counts_chart(labels, counts.tolist(), "turned clockwise by")


def _sources(inspection: Inspection) -> dict[str, Any] | None:
    """How many chips each raster gave to each split."""
    dataset, sources = inspection.dataset, inspection.table.sources
    if len(dataset.info.sources) < 2 or (sources < 0).all():
        return None
    rows = []
    for number, source in enumerate(dataset.info.sources[:LISTED_SOURCES]):
        of_source = dataset.splits[sources == number]
        counts = [f"{int((of_source == split).sum()):,}" for split in SPLITS]
        rows.append((str(source.get("raster", "")), f"{len(of_source):,}", counts))
    return {"rows": rows, "more": max(0, len(dataset.info.sources) - LISTED_SOURCES)}
