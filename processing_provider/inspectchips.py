"""Inspect training chips: chip dataset → HTML report, counts, and a layer of the chips to look at."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsProcessingContext, QgsProcessingOutputDefinition, QgsProcessingOutputNumber

from ..plugin.engine.config import InspectChipsConfig
from ..plugin.engine.events import Reporter
from ..plugin.translation import tr
from .algorithm import WorkerAlgorithm
from .earlier_results import chips_row
from .parameters import OutputFile, OutputVector, Parameters, Row, Setting

# Output → its name in the result of the job.
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
    """Checks a chip dataset for problems before training."""

    ID = "inspectchips"
    NAME = "Inspect training chips"
    TAGS = ("chips", "dataset", "statistics", "histogram", "duplicates", "leak", "report", "contact sheet")
    CONFIG = InspectChipsConfig
    GROUP = ("chips", "Chips")
    NAMED_AFTER = ("CHIPS",)

    def summary(self) -> str:
        """Describe the algorithm."""
        return tr(
            "Checks a chip dataset before training and writes a report: what to look at first, chips and pixels of "
            "each class in each split, a map of the splits, histograms and statistics of the bands, and a contact "
            "sheet of each class.\nIt finds copies of chips, including turned, mirrored, brightened or compressed "
            "ones; validation and test chips that are also in training; images with a single value; and labels that "
            "look wrong. The dataset is not changed."
        )

    def rows(self) -> list[Row]:
        """Declare the parameters."""
        return [
            chips_row(),
            Setting("MAX_CHIPS", tr("Chips to read (empty: all)"), tr(
                "For a quick look at a large dataset: this many chips are drawn at random and read. Copies and wrong "
                "labels are then found among these only; counts, classes, splits and statistics of the bands cover "
                "all chips."),
                optional=True),
            Setting("SEED", tr("Seed"), tr("The same seed draws the same chips and pixels."), advanced=True),
            OutputFile("REPORT", tr("Report"), tr("The HTML page to write."), called="inspection",
                filter=tr("HTML files") + " (*.html)"),
            OutputVector("SUSPECTS", tr("Chips to look at"), tr(
                "A layer with the footprint of each chip named in the report, the reason, and the other chip if it is "
                "a copy: GeoPackage, GeoJSON or CSV."), optional=True, called="suspects"),
        ]  # fmt: skip

    def outputs(self) -> list[QgsProcessingOutputDefinition]:
        """Declare the numbers of the report."""
        labels = {
            "CHIPS_COUNT": tr("Chips"),
            "TRAINING_CHIPS": tr("Training chips"),
            "VALIDATION_CHIPS": tr("Validation chips"),
            "TEST_CHIPS": tr("Test chips"),
            "CLASSES_COUNT": tr("Classes"),
            "DUPLICATES_COUNT": tr("Chips that repeat another"),
            "LEAKS_COUNT": tr("Validation and test chips also in an earlier split"),
            "SUSPICIOUS_COUNT": tr("Chips whose image or label looks wrong"),
            "NODATA_SHARE": tr("Share of pixels without image data"),
        }
        return [QgsProcessingOutputNumber(name, label) for name, label in labels.items()]

    def read(self, parameters: Parameters, context: QgsProcessingContext) -> dict[str, Any]:
        """Read the settings and check that the folder is a chip dataset."""
        from ..plugin.engine.chips.dataset import read_info

        settings = super().read(parameters, context)
        read_info(settings["chips"] or "")
        return settings

    def check(self, config: InspectChipsConfig) -> None:
        """Check that the results can be written."""
        from ..plugin.engine.inspection.early_checks import check_inspection

        check_inspection(config)

    def work(self, settings: dict[str, Any], context: QgsProcessingContext, reporter: Reporter) -> dict[str, Any]:
        """Inspect the chips in the worker, which has matplotlib."""
        from .layer_names import dataset_name
        from .looks import OutlineStyle

        found = self.run_worker(settings, reporter)
        name = dataset_name(settings["chips"])
        title = tr("{}: chips to look at").format(name) if name else tr("Chips to look at")
        self.show(found["suspects"], title, OutlineStyle("reason"), context)
        numbers = {name: found[key] for name, key in NUMBERS.items()}
        return {"REPORT": found["report"], "SUSPECTS": found["suspects"], **numbers}
