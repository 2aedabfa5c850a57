"""The job behind `classifyfeatures`: raster + features + classifier → an answer a feature."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..chips.features import FeatureFile
from ..chips.placement import Spots, box_spots, feature_spots, join, moved_inside
from ..config import ClassifyFeaturesConfig
from ..drafts import check_writable
from ..errors import InputError
from ..events import Reporter, Stage
from ..files import check_names
from ..models.header import ModelHeader
from ..models.model_file import load_classifier
from ..raster_io import RasterReader, crs_text
from ..training.device import choose_device, describe_device, explain_memory
from .answers import Answers, has_numbers, known_answers
from .checks import bands_text, compare_with_training, nodata_values, open_for
from .chip_predictor import ChipPredictor, probabilities
from .feature_chips import FeatureChipReader
from .outcome import number_of, tell_answers, tell_unanswered
from .outputs import limit_cache
from .pipeline import read_ahead, reading_thread
from .tables import Table

FEATURE_LAYER, ANSWER_LAYER = "features", "answers"
ROW_BYTES = 100
# Features are worked on in the order of such squares, so that GDAL finds what it has read for their neighbours.
NEIGHBOURHOOD = 512


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


def classify_features(config: ClassifyFeaturesConfig, reporter: Reporter) -> dict[str, Any]:
    """Give each feature that lies on a raster its class.

    Returns:
        output (a table by the features' ids, see `Answers.fields`), several (whether a feature may have several
        classes), classes (for each value, name, count), answered, unanswered (features on the raster without data or
        an answer), seconds.

    Raises:
        InputError: The raster, the features, the model or a setting cannot be used, or no feature has data.
        ResourceError: The table cannot be written, the device is not there, or memory is not enough.
        Cancelled: The user asked for the end, or is gone.
    """
    return _Job(config, reporter).run()


class _Job:
    """A layer of features on its way through a classifier."""

    def __init__(self, config: ClassifyFeaturesConfig, reporter: Reporter) -> None:
        self.config, self.reporter = config, reporter
        self.begun = time.monotonic()
        self.unanswered = 0  # features for which the network gives no numbers
        check_names({"OUTPUT": config.output}, {".gpkg": "a GeoPackage"})
        self.network, self.header = load_classifier(config.model)
        self.answers = Answers.of(self.header, config.threshold)
        self.layout = Layout.of(config, self.header)
        self.raster = open_for(self.header, config.input, config.input_crs, config.bands, reporter)
        self.spots = _spots(config, self.raster, self.layout, self.header.chip_size, reporter)
        check_writable(config.output, len(self.spots) * (ROW_BYTES + 10 * len(self.header.classes)))
        compare_with_training(self.raster, self.raster.info.grid.window, self.header, reporter)
        self.device = choose_device(config.device, reporter)

    def run(self) -> dict[str, Any]:
        """Classify all features."""
        config, header, reporter, info = self.config, self.header, self.reporter, self.raster.info
        size = header.chip_size
        reporter.log(
            f"Classifying {number_of(len(self.spots), 'feature')} on {info.path} ({info.size_text} in "
            f"{crs_text(info.crs)}) with {header.architecture} on {describe_device(self.device)}: {self.layout}, "
            f"{size} × {size} pixels."
        )
        reporter.log(known_answers(header, config.threshold))
        limit_cache(self.raster, NEIGHBOURHOOD + size)
        with Table(config.output, ANSWER_LAYER, self.answers.fields()) as table:
            counts, empty = self._fill(table)
            answered = table.count
            tell_unanswered(reporter, "feature", self.unanswered, answered)
            if not answered:
                raise InputError(
                    f"None of the {len(self.spots)} features lies where {config.input} has data.",
                    "Check that both belong together, and the raster's nodata value.",
                )
            table.close()
            table.publish()
        if empty:
            reporter.log(f"Without data in the raster, and so without a class: {number_of(empty, 'feature')}.")
        seconds = time.monotonic() - self.begun
        tell_answers(reporter, "feature", answered, seconds, self.answers, counts)
        return {
            "output": config.output,
            "several": self.answers.several,
            "classes": [
                {"value": kind.value, "name": kind.name, "count": count}
                for kind, count in zip(header.classes.classes, counts.tolist())
            ],
            "answered": answered,
            "unanswered": empty + self.unanswered,
            "seconds": seconds,
        }

    def _fill(self, table: Table) -> tuple[np.ndarray, int]:
        """Write all answers; gives the (C,) features of each class, and how many have no data."""
        config, header, info = self.config, self.header, self.raster.info
        blackened = FeatureFile(config.features, FEATURE_LAYER, info.grid) if self.layout.blacken else None
        reader = FeatureChipReader(self.raster, nodata_values(info, header), blackened, header.chip_size)
        stage = Stage(self.reporter, len(self.spots), "Classifying")
        predictor = ChipPredictor(self.network, header, self.device, config.batch_size, stage.advance)
        counts, empty = np.zeros(len(self.answers.classes), np.int64), 0
        doing = f"{config.batch_size} chips of {header.chip_size} × {header.chip_size} pixels in "
        doing += bands_text(len(header.band_names))
        with explain_memory(self.device, doing, "Halve BATCH_SIZE."), reading_thread() as thread:
            for chips in read_ahead(thread, reader.read, _batches(self.spots, config.batch_size)):
                if len(chips.ids):
                    pixels = predictor.normalised(chips.data, chips.missing)
                    shares = probabilities(predictor.logits(pixels), self.answers.several)
                    known = has_numbers(shares)
                    self.unanswered += int(np.count_nonzero(~known))
                    counts += self.answers.members(shares[known]).sum(axis=0)
                    table.add(self.answers.rows(shares[known]), ids=chips.ids[known].tolist())
                empty += chips.empty
                stage.advance(chips.empty)
        return counts, empty


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
