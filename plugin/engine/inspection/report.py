"""The content of an inspection report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..chips.dataset import NO_SPLIT, SPLITS
from ..classes import PALETTE
from ..events import Reporter, Stage, readable_time
from ..rasters.raster_io import crs_text
from ..reports.page import MISSING, percent, write_page
from . import charts, split_map
from .charts import SPLIT_COLORS
from .contact import ChipPictures, Shown, typical_chips
from .inspected import Inspection
from .shares import ClassShares, fold_shares, split_shares
from .suspects import REASONS, Suspicion
from .values import SHOWN_CLASSES, bands_content, ramp_content, target_content, target_range

# Limits on the number of items shown.
SHOWN_SUSPECTS, LISTED_SUSPECTS, LISTED_SOURCES = 6, 100, 60
LEAST_VALID = 0.5  # minimum share of valid pixels in a typical chip
ANGLE_STEP = 15  # degrees, if there are more angles than SHOWN_ANGLES
SHOWN_ANGLES = 24
FOLD_COLORS = PALETTE


def write_inspection(path: str, inspection: Inspection, reporter: Reporter, start: float) -> None:
    """Write the report of an inspection.

    Args:
        path: The HTML file.
        inspection: The results.
        reporter: Receives the progress.
        start: The job's progress before this, 0 to 1.

    Raises:
        ResourceError: The file cannot be written.
    """
    write_page(path, "inspection/report.html.j2", _content(inspection, reporter, start))


def _content(inspection: Inspection, reporter: Reporter, start: float) -> dict[str, Any]:
    dataset, info = inspection.dataset, inspection.dataset.info
    shares = split_shares(dataset)
    showing = _showing(inspection)
    sheets = typical_chips(dataset, showing, inspection.config.seed)
    reasons = _by_reason(inspection.suspects)
    shown_suspects = {key: some[:SHOWN_SUSPECTS] for key, some in reasons.items()}
    steps = sum(len(chips) for _, chips in sheets) + sum(map(len, shown_suspects.values()))
    stage = Stage(reporter, steps, "Drawing the report", start, 1.0)
    chip_pictures = ChipPictures(dataset, inspection.measures.sample, showing, target_range(inspection))
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
        "bands": bands_content(inspection),
        "target": target_content(inspection),
        "sheets": [_sheet(inspection, chip_pictures, index, chips, stage) for index, chips in sheets],
        "ramp": ramp_content(inspection),
        "reasons": [
            _reason(inspection, key, some, shown_suspects[key], chip_pictures, stage) for key, some in reasons.items()
        ],
        "unchecked": inspection.duplicates.unchecked,
        "folds": _folds(inspection),
        "angles": _angles(inspection.table.angles),
        "sources": _sources(inspection),
        "settings": inspection.config.to_json(),
    }


def _showing(inspection: Inspection) -> np.ndarray:
    """(n,) bool: chips that were read and are not empty, if there are any."""
    table, measures = inspection.table, inspection.measures
    read, constant = measures.read, measures.constant | table.bands.constant
    showing = read & ~constant & ~(table.valid < LEAST_VALID)
    return showing if showing.any() else read


def _cards(inspection: Inspection, shares: ClassShares) -> list[tuple[str, str]]:
    """The figures at the top of the page."""
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
        ("no data", percent(inspection.nodata_share)),
    ]


def _facts(inspection: Inspection) -> list[tuple[str, str]]:
    dataset, info, read = inspection.dataset, inspection.dataset.info, inspection.measures.read
    names = ", ".join(info.band_names[:16]) + (", …" if len(info.band_names) > 16 else "")
    # The difference between the splits is in the table of classes.
    split = {name: value for name, value in info.split.items() if value is not None and name != "disagreement"}
    words = [f"{split.pop('method', 'unknown')}"]
    words += [f"{name.replace('_', ' ')} {value:g}" for name, value in split.items() if isinstance(value, (int, float))]
    placed = {name.replace("_", " "): value for name, value in info.placement.items() if value}
    placement = ", ".join(f"{name} {_words(value)}" for name, value in placed.items())
    nodata = MISSING if info.nodata is None else f"{info.nodata:g}"
    return [
        ("Chip dataset", str(dataset.folder)),
        ("Task", info.task),
        ("Chips", f"{info.chip_size} × {info.chip_size} pixels, stride {info.stride}"
                  + (f"; {placement}" if placement else "")),
        ("Bands", f"{len(info.band_names)} ({names}), {info.dtype}, nodata {nodata}"),
        ("Pixel size, CRS", f"{info.pixel_size:g} map units, {crs_text(info.crs)}"),
        ("Split", ", ".join(words)),
        ("Read", f"{int(read.sum()):,} of {len(read):,} chips in {readable_time(max(1, inspection.seconds))}"),
        ("Format", f"{info.format_version}" + (f", written {info.created[:10]}" if info.created else "")),
    ]  # fmt: skip


def _words(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(_words(one) for one in value)
    return f"{value:g}" if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)


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
    return charts.class_bars(shares, classes)


def _map(inspection: Inspection) -> dict[str, Any] | None:
    dataset, table = inspection.dataset, inspection.table
    if not table.placed:
        return None
    kinds = np.where(np.isin(dataset.splits, SPLITS), dataset.splits, NO_SPLIT)
    # Chips in no split are drawn first.
    colors = {kind: SPLIT_COLORS[kind] for kind in (NO_SPLIT, *SPLITS)}
    places = split_map.count_places(table.corners, table.sources)
    return {
        "chart": _drawn_map(inspection, kinds, colors),
        "crs": crs_text(dataset.info.crs),
        "nominal": not dataset.info.crs,
        "left_out": max(0, places - split_map.PANELS),
    }


def _drawn_map(inspection: Inspection, kinds: np.ndarray, colors: dict[str, str]) -> str:
    table, info = inspection.table, inspection.dataset.info
    names = [Path(str(source.get("raster", ""))).stem for source in info.sources]
    return split_map.split_map(table.corners, kinds, colors, table.sources, names, info.crs)


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
    """The content for one reason: its first chips with pictures, and more of them by name."""
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


def _folds(inspection: Inspection) -> dict[str, Any] | None:
    """The folds as a table and, if there are enough colours, as a map."""
    dataset, folds = inspection.dataset, fold_shares(inspection.dataset)
    if not folds.names:
        return None
    rows = [
        {
            "name": name,
            "chips": f"{folds.counts[row]:,}",
            "shares": [MISSING if np.isnan(share) else f"{share:.1%}" for share in folds.shares[row].tolist()],
            "difference": f"{100 * folds.differences[row]:.1f}",
        }
        for row, name in enumerate(folds.names)
    ]
    colors = {"in no fold": SPLIT_COLORS[NO_SPLIT], **dict(zip(folds.names, FOLD_COLORS))}
    if len(folds.names) > len(FOLD_COLORS) or not inspection.table.placed:
        return {"rows": rows, "map": "", "colors": {}}
    kinds = np.array([f"fold {fold}" if fold else "in no fold" for fold in dataset.folds.tolist()])
    return {"rows": rows, "map": _drawn_map(inspection, kinds, colors), "colors": colors}


def _angles(angles: np.ndarray) -> str:
    """A chart of the chips' rotation angles; "" if there are none."""
    turned = np.round(angles % 360, 3)
    if not turned.any():
        return ""
    values, counts = np.unique(turned, return_counts=True)
    if len(values) > SHOWN_ANGLES:
        counts = np.histogram(turned, np.arange(0, 361, ANGLE_STEP))[0]
        labels = [f"{begin}–{begin + ANGLE_STEP}°" for begin in range(0, 360, ANGLE_STEP)]
    else:
        labels = [f"{value:g}°" for value in values.tolist()]
    return charts.counts_chart(labels, counts.tolist(), "clockwise rotation")


def _sources(inspection: Inspection) -> dict[str, Any] | None:
    """The number of chips of each raster in each split."""
    dataset, sources = inspection.dataset, inspection.table.sources
    if len(dataset.info.sources) < 2 or (sources < 0).all():
        return None
    rows = []
    for number, source in enumerate(dataset.info.sources[:LISTED_SOURCES]):
        of_source = dataset.splits[sources == number]
        counts = [f"{int((of_source == split).sum()):,}" for split in SPLITS]
        rows.append((str(source.get("raster", "")), f"{len(of_source):,}", counts))
    return {"rows": rows, "more": max(0, len(dataset.info.sources) - LISTED_SOURCES)}
