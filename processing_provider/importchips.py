"""A folder of chips from another program → chip dataset."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsProcessingContext, QgsProcessingOutputDefinition

from ..plugin.engine.config import ImportChipsConfig
from ..plugin.engine.events import Reporter
from .algorithm import ApartAlgorithm, tr
from .parameters import InputFolder, OutputFolder, Row, Setting
from .splitting import split_outputs, split_results


class ImportChips(ApartAlgorithm):
    """Reads chips of ArcGIS, ImageNet, COCO or Pascal VOC."""

    ID = "importchips"
    NAME = "Import chips of other programs"
    TAGS = (
        "chips", "import", "convert", "photographs", "scenes", "ArcGIS", "Classified Tiles", "ImageNet", "COCO",
        "Pascal VOC", "dataset",
    )  # fmt: skip
    CONFIG = ImportChipsConfig
    GROUP = ("chips", "Chips")

    def summary(self) -> str:
        """What it does."""
        return tr(
            "Makes a chip dataset of a folder from elsewhere: training data exported by ArcGIS Pro, a folder of images "
            "for each class (ImageNet), COCO annotations with outlines, or Pascal VOC.\n"
            "Images that have one size are copied as they are; those of another one are cut to the square in their "
            "middle and resampled. Places and splits are kept where the folder has them."
        )

    def rows(self) -> list[Row]:
        """The parameters."""
        return [
            InputFolder("INPUT", tr("Folder of chips"), tr(
                "The folder that holds map.txt (ArcGIS), the annotations (COCO), JPEGImages (Pascal VOC), or the "
                "folders of the classes or splits (ImageNet).")),
            Setting("FOLDER_FORMAT", tr("Format"), tr("auto finds it out by what is in the folder.")),
            Setting("SPLIT_METHOD", tr("Division into splits"), tr(
                "For folders without splits. blocks: by square blocks of ground, so that no ground is in two splits; "
                "chips without a place are divided at random. random: each chip by itself. A folder's own splits "
                "hold.")),
            Setting("VALIDATION_SHARE", tr("Validation share (0 to 0.9)"), tr(
                "Share of the chips kept for choosing the best epoch in training, where the folder has no splits."),
                decimals=2),
            Setting("TEST_SHARE", tr("Test share (0 to 0.9)"), tr(
                "Share of the chips kept for the final accuracy, where the folder has no splits."), decimals=2),
            Setting("FOLDS", tr("Folds (empty: none)"), tr(
                "Divides what is not for testing into so many folds for cross-validation, where the folder has no "
                "splits."), advanced=True),
            Setting("SEED", tr("Seed"), tr("The same seed divides the same chips in the same way."), advanced=True),
            Setting("OVERWRITE", tr("Replace an earlier dataset in that folder"), tr(
                "Without this an existing dataset is an error. A folder that holds anything else is never touched."),
                advanced=True),
            OutputFolder("OUTPUT", tr("Chip dataset"), tr("The folder to write."), called="chips"),
        ]  # fmt: skip

    def outputs(self) -> list[QgsProcessingOutputDefinition]:
        """The footprints, and how many chips there are."""
        return split_outputs()

    def work(self, settings: dict[str, Any], context: QgsProcessingContext, reporter: Reporter) -> dict[str, Any]:
        """Import, and show the footprints."""
        found = self.run_worker(settings, reporter)
        return {"OUTPUT": found["dataset"], **split_results(self.show_footprints(found["dataset"], context), found)}
