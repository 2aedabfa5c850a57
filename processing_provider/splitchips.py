"""Chip dataset → the same with other splits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsProcessingContext,
    QgsProcessingOutputDefinition,
    QgsProcessingOutputFolder,
    QgsVectorLayer,
)

from ..plugin.engine.config import SplitChipsConfig
from ..plugin.engine.events import Reporter
from .algorithm import TerrazzoAlgorithm, tr
from .parameters import InputFolder, Parameters, Row
from .splitting import split_areas, split_outputs, split_results, split_rows


class SplitChips(TerrazzoAlgorithm):
    """Divides the chips of a dataset anew."""

    ID = "splitchips"
    NAME = "Split training chips anew"
    TAGS = ("chips", "dataset", "split", "training", "validation", "test", "folds", "cross-validation")
    CONFIG = SplitChipsConfig
    GROUP = ("chips", "Chips")

    def summary(self) -> str:
        """What it does."""
        return tr(
            "Divides the chips of a dataset into other parts for training, validation and test, or into folds. No chip "
            "is cut anew: only the dataset's index and description change, in place.\n"
            "No pixel of ground comes into two splits, unless chips are split at random."
        )

    def rows(self) -> list[Row]:
        """The parameters."""
        return [
            InputFolder("CHIPS", tr("Chip dataset"), tr(
                "The folder that “Export training chips” wrote. It is changed in place.")),
            *split_rows(tr("as exported")),
        ]  # fmt: skip

    def outputs(self) -> list[QgsProcessingOutputDefinition]:
        """The dataset, its footprints, and how many chips there are."""
        return [QgsProcessingOutputFolder("DATASET", tr("Chip dataset")), *split_outputs()]

    def read(self, parameters: Parameters, context: QgsProcessingContext) -> dict[str, Any]:
        """The settings, with the split areas as a source."""
        from ..plugin.engine.chips.dataset import check_index, read_info
        from .saved_styles import opened_plainly

        settings = self.settings(parameters, context)
        info = read_info(settings["chips"] or "")
        check_index(settings["chips"])  # before QGIS opens it, with any driver
        index = f"{Path(settings['chips']) / 'chips.gpkg'}|layername=chips"
        footprints = opened_plainly(index, QgsVectorLayer, "ogr")
        settings["split_areas"] = split_areas(
            self, parameters, context, settings["split_method"], QgsCoordinateReferenceSystem.fromWkt(info.crs),
            footprints.extent(),
        )  # fmt: skip
        return settings

    def work(self, settings: dict[str, Any], context: QgsProcessingContext, reporter: Reporter) -> dict[str, Any]:
        """Divide, and show the footprints."""
        from ..plugin.engine.chips.resplit import split_chips

        found = split_chips(SplitChipsConfig.from_json(settings), reporter)
        return {"DATASET": found["dataset"], **split_results(self.show_footprints(found["dataset"], context), found)}
