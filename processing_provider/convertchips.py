"""Chip dataset → a folder as other programs have it."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsProcessingContext, QgsProcessingOutputDefinition, QgsProcessingOutputNumber

from ..plugin.engine.config import ConvertChipsConfig
from ..plugin.engine.events import Reporter
from .algorithm import ApartAlgorithm, tr
from .parameters import InputFolder, OutputFolder, Row, Setting


class ConvertChips(ApartAlgorithm):
    """Writes chips as ArcGIS, ImageNet, COCO or Pascal VOC have them."""

    ID = "convertchips"
    NAME = "Convert chips for other programs"
    TAGS = ("chips", "convert", "export", "ArcGIS", "Classified Tiles", "ImageNet", "COCO", "Pascal VOC", "dataset")
    CONFIG = ConvertChipsConfig
    GROUP = ("chips", "Chips")
    NAMED_AFTER = ("CHIPS",)

    def summary(self) -> str:
        """What it does."""
        return tr(
            "Writes a chip dataset as a folder that other programs read: as ArcGIS Pro exports training data, as a "
            "folder for each class (ImageNet), as COCO or as Pascal VOC.\n"
            "The images are copied as they are. “Import chips” reads the folder back to the same masks, classes and "
            "splits."
        )

    def rows(self) -> list[Row]:
        """The parameters."""
        return [
            InputFolder("CHIPS", tr("Chip dataset"), tr("A folder that “Export training chips” has written.")),
            Setting("FOLDER_FORMAT", tr("Format"), tr(
                "arcgis: Classified_Tiles, Labeled_Tiles, MultiLabeled_Tiles or Export_Tiles with their four files. "
                "imagenet: train, val and test, with a folder for each class (classification). coco: outlines of each "
                "region of a class (segmentation). voc: masks with a palette, or annotations of whole chips.")),
            Setting("OVERWRITE", tr("Replace an earlier folder of Terrazzo's"), tr(
                "Without this a folder that exists is an error. A folder that Terrazzo has not written is never "
                "touched."), advanced=True),
            OutputFolder("OUTPUT", tr("Folder"), tr("The folder to write."), called="converted"),
        ]  # fmt: skip

    def outputs(self) -> list[QgsProcessingOutputDefinition]:
        """How many chips there are."""
        return [QgsProcessingOutputNumber("CHIPS_COUNT", tr("Chips"))]

    def work(self, settings: dict[str, Any], context: QgsProcessingContext, reporter: Reporter) -> dict[str, Any]:
        """Convert."""
        found = self.run_worker(settings, reporter)
        return {"OUTPUT": found["folder"], "CHIPS_COUNT": found["chips"]}
