"""Import chips: a folder of chips from another program → chip dataset."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsProcessingContext, QgsProcessingOutputDefinition

from ..plugin.engine.config import ImportChipsConfig
from ..plugin.engine.events import Reporter
from ..plugin.translation import tr
from .algorithm import ApartAlgorithm
from .parameters import InputFolder, Row, Setting
from .splitting import dataset_rows, split_outputs, split_results


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
        """Describe the algorithm."""
        return tr(
            "Creates a chip dataset from a folder of another program: training data exported by ArcGIS Pro, a folder "
            "of images per class (ImageNet), COCO annotations with outlines, or Pascal VOC.\nIf all images have the "
            "same size, they are copied unchanged; images of another size are cropped to a central square and "
            "resampled. Georeferences and splits are kept where the folder has them."
        )

    def rows(self) -> list[Row]:
        """Declare the parameters."""
        return [
            InputFolder("INPUT", tr("Folder of chips"), tr(
                "The folder with map.txt (ArcGIS), the annotations (COCO), JPEGImages (Pascal VOC), or the folders of "
                "the classes or splits (ImageNet).")),
            Setting("FOLDER_FORMAT", tr("Format"), tr("auto: detected from the contents of the folder.")),
            Setting("SPLIT_METHOD", tr("Division into splits"), tr(
                "For folders without splits of their own. blocks: by square blocks of ground, so that no ground is in "
                "two splits; chips without a georeference are divided at random. random: chip by chip.")),
            Setting("VALIDATION_SHARE", tr("Validation share (0 to 0.9)"), tr(
                "The share of the chips used to choose the best epoch in training, if the folder has no splits."),
                decimals=2),
            Setting("TEST_SHARE", tr("Test share (0 to 0.9)"), tr(
                "The share of the chips used for the final accuracy, if the folder has no splits."), decimals=2),
            Setting("FOLDS", tr("Folds (empty: none)"), tr(
                "Divides the chips that are not for testing into this many folds for cross-validation, if the folder "
                "has no splits."), advanced=True),
            Setting("SEED", tr("Seed"), tr("The same seed divides the same chips in the same way."), advanced=True),
            *dataset_rows(),
        ]  # fmt: skip

    def outputs(self) -> list[QgsProcessingOutputDefinition]:
        """Declare the footprints and the numbers of chips."""
        return split_outputs()

    def work(self, settings: dict[str, Any], context: QgsProcessingContext, reporter: Reporter) -> dict[str, Any]:
        """Import the chips in a separate process and show their footprints."""
        found = self.run_worker(settings, reporter)
        return {"OUTPUT": found["dataset"], **split_results(self.show_footprints(found["dataset"], context), found)}
