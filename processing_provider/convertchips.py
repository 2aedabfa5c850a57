"""Convert chips: chip dataset → a folder in the format of another program."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsProcessingContext, QgsProcessingOutputDefinition, QgsProcessingOutputNumber

from ..plugin.engine.config import ConvertChipsConfig
from ..plugin.engine.events import Reporter
from ..plugin.translation import tr
from .algorithm import ApartAlgorithm
from .earlier_results import chips_row
from .parameters import OutputFolder, Row, Setting


class ConvertChips(ApartAlgorithm):
    """Writes chips in the format of ArcGIS, ImageNet, COCO or Pascal VOC."""

    ID = "convertchips"
    NAME = "Convert chips for other programs"
    TAGS = ("chips", "convert", "export", "ArcGIS", "Classified Tiles", "ImageNet", "COCO", "Pascal VOC", "dataset")
    CONFIG = ConvertChipsConfig
    GROUP = ("chips", "Chips")
    NAMED_AFTER = ("CHIPS",)

    def summary(self) -> str:
        """Describe the algorithm."""
        return tr(
            "Writes a chip dataset in a format that other programs read: training data of ArcGIS Pro, a folder per "
            "class (ImageNet), COCO or Pascal VOC.\n"
            "The images are copied unchanged. “Import chips” reads the folder back with the same masks, classes and "
            "splits."
        )

    def rows(self) -> list[Row]:
        """Declare the parameters."""
        return [
            chips_row(),
            Setting("FOLDER_FORMAT", tr("Format"), tr(
                "arcgis: Classified_Tiles, Labeled_Tiles, MultiLabeled_Tiles or Export_Tiles with their four files. "
                "imagenet: train, val and test, with a folder per class (classification). coco: outlines of each "
                "region of a class (segmentation). voc: masks with a palette, or annotations of whole chips.")),
            Setting("OVERWRITE", tr("Replace an earlier folder of Terrazzo's"), tr(
                "Without this, an existing folder is an error. Folders that Terrazzo has not written are never "
                "touched."), advanced=True),
            OutputFolder("OUTPUT", tr("Folder"), tr("The folder to write."), called="converted"),
        ]  # fmt: skip

    def outputs(self) -> list[QgsProcessingOutputDefinition]:
        """Declare the number of chips."""
        return [QgsProcessingOutputNumber("CHIPS_COUNT", tr("Chips"))]

    def work(self, settings: dict[str, Any], context: QgsProcessingContext, reporter: Reporter) -> dict[str, Any]:
        """Convert in a separate process."""
        found = self.run_worker(settings, reporter)
        return {"OUTPUT": found["folder"], "CHIPS_COUNT": found["chips"]}
