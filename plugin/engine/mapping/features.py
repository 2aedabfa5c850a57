"""The job of `classifyfeatures`: raster, features and classifier → one answer per feature."""

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
from ..rasters.raster_io import crs_text
from ..windows import Grid
from .answers.answers import Answered, Answers, Tally, known_answers
from .answers.logits import answering
from .answers.outcome import number_of, tell_tally, tell_unanswered
from .early_checks import check_answers
from .outputs.tables import AnswerTable
from .pipeline.loop import finish, run
from .reading.checks import bands_text
from .reading.feature_chips import FeatureChipReader, FeatureChips
from .reading.opening import open_for_mapping
from .sources.classifier import predict_chips
from .sources.loading import load_all

FEATURE_LAYER, ANSWER_LAYER = "features", "answers"
ROW_BYTES = 100
# Side of the squares by which features are ordered, so that GDAL's cache serves neighbours.
NEIGHBOURHOOD = 512


@dataclass(frozen=True)
class Layout:
    """How chips are placed around features."""

    boxes: bool  # squares around the bounds, scaled to the chip size; otherwise chips of that size on the centre
    blacken: bool  # whether ground outside the feature counts as missing
    shifted: bool  # whether chips that extend beyond the raster are moved inside

    @classmethod
    def of(cls, config: ClassifyFeaturesConfig, header: ModelHeader) -> Layout:
        """Create from the settings; "auto" means as in training."""
        trained = header.placement
        boxes = config.placement == "bounding_boxes"
        if config.placement == "auto":
            boxes = trained.get("method") == "bounding_boxes"
        blacken = config.surroundings == "blacken"
        if config.surroundings == "auto":
            blacken = bool(trained.get("blacken"))
        return cls(boxes, blacken, trained.get("edges") != "pad")

    def __str__(self) -> str:
        where = "the square around each feature's bounds" if self.boxes else "chips centred on each feature"
        return where + (", with its surroundings blackened" if self.blacken else "")


def classify_features(config: ClassifyFeaturesConfig, reporter: Reporter) -> dict[str, Any]:
    """Give each feature on a raster its class or number.

    Args:
        config: Settings of the job.
        reporter: Receives progress and log lines.

    Returns:
        output (a table by feature id, see `Answers.fields`), several (whether a feature may have several classes),
        classes (value, name and count of each; none for a model of numbers), statistics (as of `classify_scenes`),
        answered, unanswered (features on the raster without data or without an answer), seconds.

    Raises:
        InputError: The raster, the features, the model or a setting cannot be used, or no feature has data.
        ResourceError: The table cannot be written, the device does not exist, or memory is insufficient.
        Cancelled: The user cancelled the job, or QGIS has ended.
    """
    begun = time.monotonic()
    check_names({"OUTPUT": config.output}, {".gpkg": "a GeoPackage"})
    models, header = load_all(load_classifier, config.models, reporter)
    check_answers(config, header)
    answers, layout, size = Answers.of(header, config.threshold), Layout.of(config, header), header.chip_size
    opened = open_for_mapping(config, header, {}, reporter)
    info = opened.info
    spots = _spots(config, info.grid, layout, size, reporter)
    check_writable(config.output, len(spots) * (ROW_BYTES + 10 * len(header.classes)))
    reporter.log(
        f"Classifying {number_of(len(spots), 'feature')} on {info.path} ({info.size_text} in {crs_text(info.crs)}) "
        f"with {header.architecture} on {opened.device_text}: {layout}, {size} × {size} pixels."
    )
    reporter.log(known_answers(header, config.threshold))
    blackened = FeatureFile(config.features, FEATURE_LAYER, info.grid) if layout.blacken else None
    reader = FeatureChipReader(opened.raster, blackened, size)
    predict = predict_chips(models, opened.device, config.averaging, config.batch_size)
    stage = Stage(reporter, len(spots), "Classifying")
    doing = f"{config.batch_size} chips of {size} × {size} pixels in {bands_text(len(header.band_names))}"
    with _FeatureTable(config.output, ANSWER_LAYER, answers) as table:
        tally = Tally(answers)
        with opened.at_work(NEIGHBOURHOOD + size, doing, "Halve BATCH_SIZE."):
            run(
                _batches(spots, config.batch_size), reader.read, answering(predict, answers), [tally, table],
                stage,
            )  # fmt: skip
        tell_unanswered(reporter, "feature", tally.unanswered, tally.answered)
        if not tally.answered:
            raise InputError(
                f"None of the {len(spots)} features lies where {config.input} has data.",
                "Check that the two layers belong together, and the nodata value of the raster.",
            )
        finish([table])
    if reader.empty:
        reporter.log(
            f"Without data in the raster, and therefore without a class: {number_of(reader.empty, 'feature')}."
        )
    seconds = time.monotonic() - begun
    tell_tally(reporter, "feature", tally, seconds)
    return {
        "output": config.output,
        "several": answers.several,
        "classes": [
            {"value": kind.value, "name": kind.name, "count": count}
            for kind, count in zip(header.classes.classes, tally.counts.tolist())
        ],
        **tally.statistics,
        "answered": tally.answered,
        "unanswered": reader.empty + tally.unanswered,
        "seconds": seconds,
    }


class _FeatureTable(AnswerTable):
    """A table with one row per feature, by id."""

    def write(self, chips: FeatureChips, found: Answered) -> None:
        """As `Sink.write`."""
        self.add(self.answers.rows(found.shares), ids=chips.ids[found.known].tolist())


def _spots(config: ClassifyFeaturesConfig, grid: Grid, layout: Layout, size: int, reporter: Reporter) -> Spots:
    """Return the positions of the chips, ordered so that neighbours follow each other.

    Raises:
        InputError: No feature lies on the raster.
    """
    features = FeatureFile(config.features, FEATURE_LAYER, grid).features(grid.window)
    if not len(features.ids):
        raise InputError(
            f"No feature lies on {config.input}.", "Check that the two layers belong together and have the right CRS."
        )
    points = int(features.without_size.sum())
    some = f"{points:,} of {number_of(len(features.ids), 'feature')}"
    if points and layout.blacken:
        reporter.warning(f"{some} are points, of which nothing would be left: their surroundings are kept.")
    if points and layout.boxes:
        reporter.warning(
            f"{some} are points and have no bounds: a square of {max(1, size // 4)} pixels around each is magnified "
            f"to {size}. To see them unscaled, set PLACEMENT to features."
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
