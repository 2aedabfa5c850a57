"""The job behind `classifyfeatures`: raster + features + classifier → an answer a feature.

Chips are laid out and sampled by the very code that exports chips around features, so the network sees what it was
trained on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..chips.features import FeatureFile
from ..chips.placement import Spots, box_spots, feature_spots, join, moved_inside
from ..chips.sampling import is_slice, sample_image
from ..config import ClassifyFeaturesConfig
from ..errors import InputError
from ..events import Reporter, Stage
from ..files import check_names, check_writable
from ..models.header import ModelHeader
from ..models.model_file import load_classifier
from ..raster_io import RasterReader, crs_text, missing_values
from ..training.device import choose_device, describe_device, explain_memory
from ..windows import Window
from .answers import Answers, known_answers
from .checks import bands_text, compare_with_training, match_bands, nodata_values
from .chip_predictor import ChipPredictor, probabilities
from .outcome import number_of, tell_answers
from .outputs import limit_cache
from .pipeline import read_ahead, reading_thread
from .reading import COMPACT_TYPES, explain_reading
from .tables import Table

FEATURE_LAYER, ANSWER_LAYER = "features", "answers"
ROW_BYTES = 100
# Features are worked on in the order of such squares, so that GDAL finds what it has read for their neighbours.
NEIGHBOURHOOD = 512
# Wider chips are averaged to about this before they are sampled: memory must not grow with a polygon.
LARGEST_SIDE = 2048


@dataclass(frozen=True)
class Layout:
    """How chips lie around features."""

    boxes: bool  # squares around the bounds, scaled to the chip size; else chips of that size on the centre
    blacken: bool  # ground outside of the feature counts as missing
    shifted: bool  # chips that reach out of the raster are moved inside

    @classmethod
    def of(cls, config: ClassifyFeaturesConfig, header: ModelHeader) -> Layout:
        """As the settings say; where they are "auto", as the chips of training were laid out."""
        trained = header.placement
        boxes = config.placement == "bounding_boxes"
        if config.placement == "auto":
            boxes = trained.get("method") == "bounding_boxes"
        blacken = config.surroundings == "blacken"
        if config.surroundings == "auto":
            blacken = bool(trained.get("blacken"))
        return cls(boxes, blacken, trained.get("edges") != "pad")

    def __str__(self) -> str:
        where = "the square around each feature's bounds" if self.boxes else "chips on the middle of each feature"
        return where + (", with its surroundings blackened" if self.blacken else "")


@dataclass(frozen=True)
class FeatureChips:
    """Chips of some features."""

    ids: np.ndarray  # (N,)
    data: np.ndarray  # (N, B, S, S)
    missing: np.ndarray  # bool of that shape
    empty: int  # features beside these, whose chips show no data


class FeatureChipReader:
    """Reads chips around features; to be used by one thread.

    Args:
        raster: The raster, with its bands in the order of the model's.
        nodata: One value a band that means "no data".
        file: The features, for blackening; None where that is not wanted.
        size: S, the chip size.
    """

    def __init__(
        self, raster: RasterReader, nodata: tuple[float | None, ...], file: FeatureFile | None, size: int
    ) -> None:
        self.raster, self.nodata, self.file, self.size = raster, nodata, file, size

    def read(self, spots: Spots) -> FeatureChips:
        """Read the chips at some spots.

        Raises:
            InputError: The raster cannot be read.
        """
        ids, images, gaps = [], [], []
        for place, window in enumerate(spots.windows().tolist()):
            data, missing = self._chip(spots, place, Window(*window))
            if missing.all():
                continue
            ids.append(int(spots.features[place]))
            images.append(data)
            gaps.append(missing)
        empty = len(spots) - len(ids)
        if not ids:
            return FeatureChips(np.empty(0, np.int64), np.empty(0), np.empty(0, bool), empty)
        return FeatureChips(np.array(ids), np.stack(images), np.stack(gaps), empty)

    def _chip(self, spots: Spots, place: int, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """(B, S, S) values, and bool where they are missing."""
        number = int(spots.features[place])
        part = window.intersection(self.raster.info.grid.window)
        bands = len(self.raster.info.bands)
        if part.empty:
            return np.zeros((bands, self.size, self.size), np.float32), np.ones((bands, self.size, self.size), bool)
        factor = math.ceil(window.width / LARGEST_SIDE)
        if is_slice(spots, place, self.size):
            data, missing = self._pixels(part, self._own(part, number))
            around = [(0, 0), (part.row_off - window.row_off, window.row_end - part.row_end),
                      (part.col_off - window.col_off, window.col_end - part.col_end)]  # fmt: skip
            return np.pad(data, around), np.pad(missing, around, constant_values=True)
        if factor == 1:
            data, missing = self._pixels(part, self._own(part, number))
            return sample_image(data, missing, spots, place, part, self.size)
        data, missing = self._averaged(part, number, factor)
        return sample_image(data, missing, *_scaled(spots, place, part, factor), self.size)

    def _own(self, part: Window, number: int) -> np.ndarray | None:
        """(h, w) bool, true on the feature; None where all counts, as for points, on which nothing would be left."""
        if self.file is None:
            return None
        own = _burnt(self.file, part, number)
        return own if np.count_nonzero(own) > 1 else None

    def _pixels(self, part: Window, own: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """(B, h, w) of a window on the raster, and bool where they are missing to the feature's chip."""
        with explain_reading(self.raster.info.path):
            data = self.raster.read(part)
            missing = missing_values(data, self.nodata)
            shown = self.raster.shown(part)
        if missing is None:
            missing = np.zeros(data.shape, bool)
        for counts in (shown, own):
            if counts is not None:
                missing |= ~counts
        return (data if data.dtype in COMPACT_TYPES else data.astype(np.float32)), missing

    def _averaged(self, part: Window, number: int, factor: int) -> tuple[np.ndarray, np.ndarray]:
        """(B, h / factor, w / factor) float32: the means of squares of pixels, read and burnt in strips."""
        width, height = -(-part.width // factor), -(-part.height // factor)
        bands = len(self.raster.info.bands)
        data = np.zeros((bands, height, width), np.float32)
        missing = np.ones((bands, height, width), bool)
        begins = np.arange(0, part.width, factor)
        owned = self._owned(part, number, factor)
        for row, strip in enumerate(_strips(part, factor)):
            values, gaps = self._pixels(strip, None if owned is None else next(owned))
            known = np.add.reduceat((~gaps).sum(axis=1), begins, axis=1)  # (B, width)
            total = np.add.reduceat(np.where(gaps, 0, values).sum(axis=1, dtype=np.float64), begins, axis=1)
            missing[:, row] = 2 * known < strip.height * factor
            data[:, row] = total / np.maximum(1, known)
        return data, missing

    def _owned(self, part: Window, number: int, factor: int) -> Iterator[np.ndarray] | None:
        """As `_own`, for one strip of `factor` rows after the other."""
        file = self.file
        if file is None:
            return None
        # Many at once: a feature is fetched and drawn anew for each burning.
        strips = list(_strips(part, factor * max(1, LARGEST_SIDE**2 // (part.width * factor))))
        count = 0
        for strip in strips:
            count += np.count_nonzero(_burnt(file, strip, number))
            if count > 1:
                break
        else:
            return None
        return (
            own[begin : begin + factor]
            for own in (_burnt(file, strip, number) for strip in strips)
            for begin in range(0, len(own), factor)
        )


def _burnt(file: FeatureFile, window: Window, number: int) -> np.ndarray:
    """(h, w) bool, true on a feature."""
    own: np.ndarray = file.burn(window, 0, only=number) == 1
    return own


def _strips(window: Window, height: int) -> Iterator[Window]:
    """Cut a window into strips of `height` rows; the last one may be lower."""
    for row in range(window.row_off, window.row_end, height):
        yield Window(window.col_off, row, window.width, min(height, window.row_end - row))


def _scaled(spots: Spots, place: int, part: Window, factor: int) -> tuple[Spots, int, Window]:
    """A spot on pixels that are `factor` times as wide, counted from a window's corner; with its place and window."""
    one = spots.select(np.array([place]))
    shrunk = Spots(
        (one.x - part.col_off) / factor, (one.y - part.row_off) / factor, one.sides / factor, one.angles,
        one.features, one.values,
    )  # fmt: skip
    return shrunk, 0, Window(0, 0, -(-part.width // factor), -(-part.height // factor))


def classify_features(config: ClassifyFeaturesConfig, reporter: Reporter) -> dict[str, Any]:
    """Give each feature that lies on a raster its class.

    Returns:
        output (a table by the features' ids, see `Answers.fields`), several (whether a feature may have several
        classes), classes (for each value, name, count), answered, unanswered (features on the raster without data),
        seconds.

    Raises:
        InputError: The raster, the features, the model or a setting cannot be used, or no feature has data.
        ResourceError: The table cannot be written, the device is not there, or memory is not enough.
        Cancelled: The user asked for the end, or is gone.
    """
    begun = time.monotonic()
    check_names({"OUTPUT": config.output}, {".gpkg": "a GeoPackage"})
    network, header = load_classifier(config.model)
    answers, layout = Answers.of(header, config.threshold), Layout.of(config, header)
    bands = match_bands(header.band_names, RasterReader(config.input).info, config.bands, reporter)
    raster = RasterReader(config.input, bands)
    info, size = raster.info, header.chip_size
    spots = _spots(config, raster, layout, size, reporter)
    check_writable(config.output, len(spots) * (ROW_BYTES + 10 * len(header.classes)))
    compare_with_training(raster, info.grid.window, header, reporter)
    device = choose_device(config.device, reporter)
    reporter.log(
        f"Classifying {len(spots):,} features on {info.path} ({info.size_text} in {crs_text(info.crs)}) with "
        f"{header.architecture} on {describe_device(device)}: {layout}, {size} × {size} pixels."
    )
    reporter.log(known_answers(header, config.threshold))
    limit_cache(raster, NEIGHBOURHOOD + size)
    blackened = FeatureFile(config.features, FEATURE_LAYER, info.grid) if layout.blacken else None
    reader = FeatureChipReader(raster, nodata_values(info, header), blackened, size)
    predictor = ChipPredictor(network, header, device, config.batch_size)
    counts, empty = np.zeros(len(answers.classes), np.int64), 0
    stage = Stage(reporter, len(spots), "Classifying")
    doing = f"{config.batch_size} chips of {size} × {size} pixels in {bands_text(len(bands))}"
    with Table(config.output, ANSWER_LAYER, answers.fields()) as table:
        with explain_memory(device, doing, "Halve BATCH_SIZE."), reading_thread() as thread:
            for chips in read_ahead(thread, reader.read, _batches(spots, config.batch_size)):
                empty += chips.empty
                if len(chips.ids):
                    pixels = predictor.normalised(chips.data, chips.missing)
                    shares = probabilities(predictor.logits(pixels), answers.several)
                    counts += answers.members(shares).sum(axis=0)
                    table.add(answers.rows(shares), ids=chips.ids.tolist())
                stage.advance(len(chips.ids) + chips.empty)
        answered = table.count
        if not answered:
            raise InputError(
                f"None of the {len(spots)} features lies where {config.input} has data.",
                "Check that both belong together, and the raster's nodata value.",
            )
        table.close()
        table.publish()
    if empty:
        reporter.warning(f"{empty} features get no class: the raster has no data there.")
    seconds = time.monotonic() - begun
    tell_answers(reporter, "feature", answered, seconds, answers, counts)
    return {
        "output": config.output,
        "several": answers.several,
        "classes": [
            {"value": kind.value, "name": kind.name, "count": count}
            for kind, count in zip(header.classes.classes, counts.tolist())
        ],
        "answered": answered,
        "unanswered": empty,
        "seconds": seconds,
    }


def _spots(
    config: ClassifyFeaturesConfig, raster: RasterReader, layout: Layout, size: int, reporter: Reporter
) -> Spots:
    """Where the chips lie, neighbours next to each other.

    Raises:
        InputError: No feature lies on the raster.
    """
    grid = raster.info.grid
    features = FeatureFile(config.features, FEATURE_LAYER, grid).features(grid.window)
    if not len(features.ids):
        raise InputError(
            f"No feature lies on {config.input}.", "Check that both belong together and have the right CRS."
        )
    points = int(features.without_size.sum())
    some = f"{points:,} of {number_of(len(features.ids), 'feature')}"
    if points and layout.blacken:
        reporter.warning(f"{some} are points, of which nothing would be left: their surroundings are kept.")
    if points and layout.boxes:
        reporter.warning(
            f"{some} are points and have no bounds: a square of {max(1, size // 4)} pixels "
            f"around each is magnified to {size}. Give PLACEMENT features to see them as they are."
        )
    if layout.boxes:
        spots = box_spots(features, grid, size, (0.0,))
    else:
        spots = feature_spots(features, grid, size, 1, 0, (0.0,), np.random.default_rng(0))
    if layout.shifted:
        windows = spots.windows()
        larger = (windows[:, 2] > grid.width) | (windows[:, 3] > grid.height)
        spots = join([moved_inside(spots, grid.window), spots.select(larger)])
    order = np.lexsort((spots.x, spots.y // NEIGHBOURHOOD, spots.x // NEIGHBOURHOOD))
    return spots.select(order)


def _batches(spots: Spots, size: int) -> Iterator[Spots]:
    for begin in range(0, len(spots), size):
        yield spots.select(np.arange(begin, min(begin + size, len(spots))))
