"""Layers → chip dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qgis.core import (
    QgsProcessing,
    QgsProcessingContext,
    QgsProcessingOutputDefinition,
    QgsProcessingOutputNumber,
    QgsProcessingOutputVectorLayer,
)

from ..plugin.engine.config import ExportChipsConfig
from ..plugin.engine.errors import InputError
from ..plugin.engine.events import Reporter
from .algorithm import TerrazzoAlgorithm, tr
from .layers import bounds, chosen_extent, gdal_path, raster_classes, raster_layers, union_extent
from .loading import load_footprints
from .parameters import Bands, Extent, FieldOf, OutputFolder, Parameters, Polygons, Rasters, Row, Setting
from .polygons import polygon_source


class ExportChips(TerrazzoAlgorithm):
    """Cuts image and label chips from rasters and their labels."""

    CONFIG = ExportChipsConfig
    GROUP = ("chips", "Chips")

    def name(self) -> str:
        """The id in scripts; it stays."""
        return "exportchips"

    def displayName(self) -> str:
        """The name in the Toolbox."""
        return tr("Export training chips")

    def tags(self) -> list[str]:
        """Words by which it is found."""
        return ["chips", "patches", "tiles", "training data", "samples", "labels", "masks", "deep learning", "dataset"]

    def summary(self) -> str:
        """What it does."""
        return tr(
            "Cuts chips (small images and their class masks) from rasters and labels, ready for training. "
            "Labels are polygons with a class field, or class rasters.\n"
            "The chips are divided into training, validation and test by square blocks of ground, so that no pixel of "
            "ground is in two of them and the accuracies found in training are honest.\n"
            "The footprints of the chips are added to the project, coloured by split."
        )

    def rows(self) -> list[Row]:
        """The parameters."""
        return [
            Rasters("INPUT", tr("Images"), tr(
                "The rasters to cut chips from: any that GDAL opens, with any number of bands. Several must have the "
                "same CRS, pixel size and bands.")),
            Polygons("LABELS", tr("Label polygons"), tr(
                "Polygons that say what is where, in any CRS. Where polygons overlap, the later one wins. Names and "
                "colours of the classes come from the layer's categories where it has them. Give either these or label "
                "rasters."), optional=True),
            FieldOf("CLASS_FIELD", tr("Class field"), tr(
                "The field of the label polygons that holds the class: whole numbers or texts. Without it all polygons "
                "are one class, and what they leave free is the other."), optional=True, parent="LABELS"),
            Rasters("LABEL_RASTERS", tr("Label rasters"), tr(
                "Class rasters instead of polygons: one for each image in the same order, or one for all. Another CRS "
                "or pixel size is brought to the image's by nearest neighbour."), optional=True),
            Setting("LABEL_NODATA", tr("Label value that means “no label”"), tr(
                "The value in the label rasters that is no class. Without it their own nodata value counts."),
                advanced=True),
            Setting("BACKGROUND", tr("Ground outside the label polygons"), tr(
                "auto: a class of its own where all polygons are one class, else unlabelled. ignore: unlabelled, so it "
                "is neither learned nor tested. class: a class of its own, named background.")),
            Bands("BANDS", tr("Bands, such as 1-3,5 (empty: all)"), tr(
                "The bands to use, by number from 1, in the order wanted. Empty takes all but an alpha band.")),
            Setting("CHIP_SIZE", tr("Chip size (pixels)"), tr(
                "Width and height of a chip. A multiple of 32 suits every network; 256 shows enough surroundings for "
                "most classes.")),
            Setting("STRIDE", tr("Stride (pixels; empty: chip size)"), tr(
                "How far one chip begins after the last. Less than the chip size makes them overlap: more chips, and "
                "each place seen in several surroundings.")),
            Extent("EXTENT", tr("Extent"), tr("Cut chips only inside this rectangle.")),
            Polygons("AREA", tr("Area of interest"), tr(
                "Polygons outside of which labels do not count."), optional=True),
            Setting("VALIDATION_SHARE", tr("Validation share (0 to 0.9)"), tr(
                "Share of the labelled ground kept for choosing the best epoch in training."), decimals=2),
            Setting("TEST_SHARE", tr("Test share (0 to 0.9)"), tr(
                "Share of the labelled ground kept for the final accuracy, which training never sees."), decimals=2),
            Setting("MIN_LABELLED_SHARE", tr("Minimum share of labelled pixels (0 to 1)"), tr(
                "Chips with fewer labelled pixels are left out. 0 keeps every chip with at least one."), advanced=True,
                decimals=2),
            Setting("EDGES", tr("Chips at the edges"), tr(
                "shift: the last chips are moved back inside. pad: they reach beyond the edge and are filled up with "
                "nodata."), advanced=True),
            Setting("BLOCK_SIZE", tr("Size of the split's blocks (pixels; empty: automatic)"), tr(
                "Side of the squares of ground that go to training, validation or test as a whole."), advanced=True),
            Setting("SEED", tr("Seed"), tr("The same seed divides the same blocks in the same way."), advanced=True),
            Setting("OVERWRITE", tr("Replace an earlier dataset in that folder"), tr(
                "Without this an existing dataset is an error. A folder that holds anything else is never touched."),
                advanced=True),
            OutputFolder("OUTPUT", tr("Chip dataset"), tr("The folder to write.")),
        ]  # fmt: skip

    def outputs(self) -> list[QgsProcessingOutputDefinition]:
        """The footprints, and how many chips there are."""
        return [
            QgsProcessingOutputVectorLayer(
                "FOOTPRINTS", tr("Chip footprints"), QgsProcessing.SourceType.TypeVectorPolygon
            ),
            QgsProcessingOutputNumber("CHIPS_COUNT", tr("Chips")),
            QgsProcessingOutputNumber("TRAINING_CHIPS", tr("Training chips")),
            QgsProcessingOutputNumber("VALIDATION_CHIPS", tr("Validation chips")),
            QgsProcessingOutputNumber("TEST_CHIPS", tr("Test chips")),
        ]

    def read(self, parameters: Parameters, context: QgsProcessingContext) -> dict[str, Any]:
        """The settings, with the label layers as sources."""
        settings = self.settings(parameters, context)
        images = raster_layers(self, parameters, "INPUT", context)
        if not images:
            raise InputError("No image is given.", "Choose one or more rasters as INPUT.")
        settings["input"] = [gdal_path(layer) for layer in images]
        extent = chosen_extent(self, parameters, "EXTENT", context, images[0])
        settings["extent"] = None if extent is None else bounds(extent)
        near = union_extent(images) if extent is None else extent
        labels = polygon_source(self, parameters, "LABELS", context, images[0], near)
        label_rasters = raster_layers(self, parameters, "LABEL_RASTERS", context)
        if (labels is None) == (not label_rasters):
            raise InputError(
                "No labels are given." if labels is None else "Label polygons and label rasters are given.",
                "Choose either polygons as LABELS or class rasters as LABEL_RASTERS.",
            )
        field = self.parameterAsString(parameters, "CLASS_FIELD", context)
        if field and labels is not None:
            labels.classify_by(field)
        settings["labels"] = labels
        settings["label_rasters"] = [gdal_path(layer) for layer in label_rasters]
        settings["classes"] = raster_classes(label_rasters, context)
        settings["area"] = polygon_source(self, parameters, "AREA", context, images[0], near)
        return settings

    def work(self, settings: dict[str, Any], context: QgsProcessingContext, reporter: Reporter) -> dict[str, Any]:
        """Export, and show the footprints."""
        # Here and not above: numpy is not needed to show the algorithm in the Toolbox.
        from ..plugin.engine.chips.export import export_chips

        found = export_chips(ExportChipsConfig.from_json(settings), reporter)
        footprints = f"{Path(found['dataset']) / 'chips.gpkg'}|layername=chips"
        load_footprints(footprints, context)
        return {
            "OUTPUT": found["dataset"],
            "FOOTPRINTS": footprints,
            "CHIPS_COUNT": found["chips"],
            "TRAINING_CHIPS": found["training"],
            "VALIDATION_CHIPS": found["validation"],
            "TEST_CHIPS": found["test"],
        }
