"""Chip dataset → HTML report, numbers, and a layer of the chips to look at."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsProcessingContext, QgsProcessingOutputDefinition, QgsProcessingOutputNumber

from ..plugin.engine.config import InspectChipsConfig
from ..plugin.engine.events import Reporter
from .algorithm import WorkerAlgorithm, tr
from .layer_names import file_name
from .looks import OutlineStyle
from .parameters import InputFolder, OutputFile, OutputVector, Parameters, Row, Setting

# Output → what the job calls it.
NUMBERS = {
    "CHIPS_COUNT": "chips",
    "TRAINING_CHIPS": "training",
    "VALIDATION_CHIPS": "validation",
    "TEST_CHIPS": "test",
    "CLASSES_COUNT": "classes",
    "DUPLICATES_COUNT": "duplicates",
    "LEAKS_COUNT": "leaks",
    "SUSPICIOUS_COUNT": "suspicious",
    "NODATA_SHARE": "nodata_share",
}


class InspectChips(WorkerAlgorithm):
    """Looks through a chip dataset and tells what to look at before training."""

    ID = "inspectchips"
    NAME = "Inspect training chips"
    TAGS = ("chips", "dataset", "statistics", "histogram", "duplicates", "leak", "report", "contact sheet")
    CONFIG = InspectChipsConfig
    GROUP = ("chips", "Chips")
    NAMED_AFTER = ("CHIPS",)

    def summary(self) -> str:
        """What it does."""
        return tr(
            "Looks through a chip dataset before training and writes a report: what to look at first, chips and pixels "
            "of each class in each split, a map of the splits, histograms and statistics of the bands, and a contact "
            "sheet of each class.\n"
            "It finds copies of chips, also turned, mirrored, brightened or compressed ones; chips of validation and "
            "test that training has seen; images of one value; and labels that look wrong. Nothing in the dataset is "
            "changed."
        )

    def rows(self) -> list[Row]:
        """The parameters."""
        return [
            InputFolder("CHIPS", tr("Chip dataset"), tr("The folder that “Export training chips” wrote.")),
            Setting("MAX_CHIPS", tr("Chips to read (empty: all)"), tr(
                "A quick look at a large dataset: so many chips are drawn and read. Copies and wrong labels are then "
                "found among these alone; counts, classes, splits and statistics of the bands are those of all."),
                optional=True),
            Setting("SEED", tr("Seed"), tr("The same seed draws the same chips and pixels."), advanced=True),
            OutputFile("REPORT", tr("Report"), tr("The HTML page to write."), called="inspection",
                filter=tr("HTML files") + " (*.html)"),
            OutputVector("SUSPECTS", tr("Chips to look at"), tr(
                "A layer with the footprint of each chip that is named in the report, the reason, and for a copy the "
                "other chip: a GeoPackage, GeoJSON or CSV."), optional=True, called="suspects"),
        ]  # fmt: skip

    def outputs(self) -> list[QgsProcessingOutputDefinition]:
        """The numbers of the report."""
        labels = {
            "CHIPS_COUNT": tr("Chips"),
            "TRAINING_CHIPS": tr("Training chips"),
            "VALIDATION_CHIPS": tr("Validation chips"),
            "TEST_CHIPS": tr("Test chips"),
            "CLASSES_COUNT": tr("Classes"),
            "DUPLICATES_COUNT": tr("Chips that repeat another"),
            "LEAKS_COUNT": tr("Validation and test chips that an earlier split has seen"),
            "SUSPICIOUS_COUNT": tr("Chips whose image or label looks wrong"),
            "NODATA_SHARE": tr("Share of pixels without image data"),
        }
        return [QgsProcessingOutputNumber(name, label) for name, label in labels.items()]

    def read(self, parameters: Parameters, context: QgsProcessingContext) -> dict[str, Any]:
        """The settings, once the folder proves to be a dataset."""
        from ..plugin.engine.chips.dataset import read_info

        settings = super().read(parameters, context)
        read_info(settings["chips"] or "")
        return settings

    def check(self, config: InspectChipsConfig) -> None:
        """Whether the names of the results will do."""
        from ..plugin.engine.inspection.early_checks import check_inspection

        check_inspection(config)

    def work(self, settings: dict[str, Any], context: QgsProcessingContext, reporter: Reporter) -> dict[str, Any]:
        """Inspect in the worker, where there is matplotlib."""
        found = self.run_worker(settings, reporter)
        name = file_name(settings["chips"])
        title = tr("{}: chips to look at").format(name) if name else tr("Chips to look at")
        self.show(found["suspects"], title, OutlineStyle("reason"), context)
        numbers = {name: found[key] for name, key in NUMBERS.items()}
        return {"REPORT": found["report"], "SUSPECTS": found["suspects"], **numbers}
