"""Split training chips: divide an existing chip dataset into other splits."""

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
from ..plugin.translation import tr
from .algorithm import TerrazzoAlgorithm
from .earlier_results import chips_row
from .parameters import Parameters, Row
from .splitting import split_areas, split_outputs, split_results, split_rows


class SplitChips(TerrazzoAlgorithm):
    """Divides the chips of a dataset again."""

    ID = "splitchips"
    NAME = "Split training chips"
    TAGS = ("chips", "dataset", "split", "training", "validation", "test", "folds", "cross-validation")
    CONFIG = SplitChipsConfig
    GROUP = ("chips", "Chips")

    def summary(self) -> str:
        """Describe the algorithm."""
        return tr(
            "Divides the chips of a dataset into training, validation and test again, or into folds. Chips are not "
            "cut again: only the index and the description of the dataset change, in place.\nNo pixel of ground is in "
            "two splits, unless chips are split at random."
        )

    def rows(self) -> list[Row]:
        """Declare the parameters."""
        return [
            chips_row(tr("It is changed in place.")),
            *split_rows(tr("the blocks of the export")),
        ]  # fmt: skip

    def outputs(self) -> list[QgsProcessingOutputDefinition]:
        """Declare the dataset, its footprints and the numbers of chips."""
        return [QgsProcessingOutputFolder("DATASET", tr("Chip dataset")), *split_outputs()]

    def read(self, parameters: Parameters, context: QgsProcessingContext) -> dict[str, Any]:
        """Read the settings, with the split areas as a source."""
        from ..plugin.engine.chips.dataset import check_index, read_info
        from .saved_styles import opened_plainly

        settings = self.settings(parameters, context)
        info = read_info(settings["chips"] or "")
        check_index(settings["chips"])  # before QGIS opens it with any driver
        index = f"{Path(settings['chips']) / 'chips.gpkg'}|layername=chips"
        footprints = opened_plainly(index, QgsVectorLayer, "ogr")
        settings["split_areas"] = split_areas(
            self, parameters, context, settings["split_method"], QgsCoordinateReferenceSystem.fromWkt(info.crs),
            footprints.extent(),
        )  # fmt: skip
        return settings

    def work(self, settings: dict[str, Any], context: QgsProcessingContext, reporter: Reporter) -> dict[str, Any]:
        """Divide the chips and show their footprints."""
        from ..plugin.engine.chips.resplit import split_chips

        found = split_chips(SplitChipsConfig.from_json(settings), reporter)
        return {"DATASET": found["dataset"], **split_results(self.show_footprints(found["dataset"], context), found)}
