"""The base of the algorithms that train: what they read and check, and the figures that they give."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsProcessingContext, QgsProcessingOutputDefinition, QgsProcessingOutputNumber

from ..plugin.engine.config import TrainingConfig
from ..plugin.engine.events import Reporter
from ..plugin.translation import tr
from .algorithm import WorkerAlgorithm
from .parameters import Parameters


class LearningAlgorithm(WorkerAlgorithm):
    """Learns from a chip dataset."""

    GROUP = ("training", "Training")
    NAMED_AFTER = ("CHIPS",)

    def read(self, parameters: Parameters, context: QgsProcessingContext) -> dict[str, Any]:
        """Read the settings and check that the folder is a chip dataset."""
        from ..plugin.engine.chips.dataset import read_info

        settings = super().read(parameters, context)
        self._info = read_info(settings["chips"] or "")
        return settings


class TrainingAlgorithm(LearningAlgorithm):
    """Trains a network, of which the best epoch is kept."""

    KEEPS_BEST = True

    def figures(self) -> dict[str, str]:
        """Return the figures of the best epoch: name → what people call it."""
        raise NotImplementedError

    def check_network(self, config: Any) -> None:
        """Check that the network can learn from the chips.

        Args:
            config: With the settings of its recipe.

        Raises:
            InputError: It cannot.
        """
        raise NotImplementedError

    def outputs(self) -> list[QgsProcessingOutputDefinition]:
        """Declare the best epoch, its temperature, and its figures on validation and test chips."""
        places = {
            "VALIDATION": tr("on validation chips"),
            "TEST": tr("on test chips"),
            "BASELINE_VALIDATION": tr("on validation chips, baseline"),
            "BASELINE_TEST": tr("on test chips, baseline"),
        }
        return [
            QgsProcessingOutputNumber("BEST_EPOCH", tr("Best epoch")),
            QgsProcessingOutputNumber("TEMPERATURE", tr("Temperature")),
            *(
                QgsProcessingOutputNumber(f"{split}_{name.upper()}", f"{label} {where}")
                for split, where in places.items()
                for name, label in self.figures().items()
            ),
        ]

    def check(self, config: TrainingConfig) -> None:
        """Check that the network can learn from the chips, and that the results can be written."""
        from ..plugin.engine.training.early_checks import check_results
        from ..plugin.engine.training.recipe_file import with_recipe

        self.check_network(with_recipe(config))
        check_results(config)

    def work(self, settings: dict[str, Any], context: QgsProcessingContext, reporter: Reporter) -> dict[str, Any]:
        """Train in the worker."""
        found = self.run_worker(settings, reporter)
        places = {
            f"{begin}{split.upper()}": (some or {}).get(split)
            for begin, some in (("", found), ("BASELINE_", found["baseline"]))
            for split in ("validation", "test")
        }
        figures = {
            f"{place}_{name.upper()}": (some or {}).get(name)
            for place, some in places.items()
            for name in self.figures()
        }
        told = {name.upper(): found[name] for name in ("report", "history", "best_epoch", "temperature")}
        return {"OUTPUT": found["model"], **told, **figures}
