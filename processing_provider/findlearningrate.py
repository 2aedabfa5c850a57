"""Chip dataset and settings of a training → the learning rates that suit it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from qgis.core import QgsProcessingContext, QgsProcessingOutputDefinition, QgsProcessingOutputNumber

from ..plugin.engine.config import FindLearningRateConfig
from ..plugin.engine.events import Reporter
from ..plugin.translation import tr
from .parameters import Destination, OutputFile, Row, Setting
from .trainclassifier import TrainClassifier
from .training_algorithm import LearningAlgorithm
from .trainsegmenter import TrainSegmenter

# The settings of a training that are not folded away.
SHOWN = ("CHIPS", "ARCHITECTURE", "ENCODER", "BATCH_SIZE", "PRETRAINED")


class FindLearningRate(LearningAlgorithm):
    """Tries which learning rates suit a training."""

    ID = "findlearningrate"
    NAME = "Find a learning rate"
    TAGS = ("deep learning", "learning rate", "finder", "range test", "lr", "training", "cnn", "pytorch")
    CONFIG = FindLearningRateConfig

    def summary(self) -> str:
        """Return what it does."""
        return tr(
            "Finds learning rates that suit your chips, network and settings (a range test). "
            "The network learns from a hundred batches, each at a higher rate than the one before, until its loss "
            "diverges; the report shows the loss at each rate, and two suggestions to enter as the highest learning "
            "rate of a training. It takes a few minutes on a processor, and seconds on a GPU.\n"
            "The settings are those of the trainings. An empty one has the default of “Train a segmentation network” "
            "or “Train a classifier”, whichever is for the chips. Nothing of the network is kept."
        )

    def rows(self) -> list[Row]:
        """Return the parameters."""
        known = self.CONFIG.declared()
        trainings: list[Row] = [*TrainSegmenter().rows(), *TrainClassifier().rows()]
        settings = [row for row in trainings if row.name.lower() in known and not isinstance(row, Destination)]
        shared = {row.name: row for row in reversed(settings)}
        shared["ARCHITECTURE"] = Setting("ARCHITECTURE", tr("Architecture (empty: usual)"), tr(
            "A segmentation network for chips whose task is segmentation or regression (empty: unet), or a classifier "
            "for others (empty: efficientnet_lite0)."))  # fmt: skip
        own = [
            Setting("TEST_STEPS", tr("Steps"), tr("Number of batches, and so of learning rates."), advanced=True),
            Setting("FIRST_RATE", tr("First rate"), tr(
                "The learning rate of the first step."), advanced=True, decimals=10),
            Setting("LAST_RATE", tr("Last rate"), tr(
                "The learning rate of the last step, if the loss has not diverged before."), advanced=True),
            OutputFile("REPORT", tr("Report"), tr("The HTML page to write, with the plot."), optional=True,
                called="learning_rate", filter=tr("HTML files") + " (*.html)"),
        ]  # fmt: skip
        daily = [shared.pop(name) for name in SHOWN]
        return [*daily, *(replace(row, advanced=True) for row in reversed(shared.values())), *own]

    def outputs(self) -> list[QgsProcessingOutputDefinition]:
        """Return the suggestions."""
        return [
            QgsProcessingOutputNumber("VALLEY", tr("Learning rate in the valley")),
            QgsProcessingOutputNumber("STEEPEST", tr("Learning rate at the steepest point")),
        ]

    def check(self, config: FindLearningRateConfig) -> None:
        """Check whether a training with these settings could learn from the chips."""
        from ..plugin.engine.training.early_checks import check_range_test

        check_range_test(config, self._info)

    def work(self, settings: dict[str, Any], context: QgsProcessingContext, reporter: Reporter) -> dict[str, Any]:
        """Run the test in the worker."""
        found = self.run_worker(settings, reporter)
        return {"REPORT": found["report"], "VALLEY": found["valley"], "STEEPEST": found["steepest"]}
