"""Raster, or folder of photographs, + model file of a classifier → an answer a step, or a photograph."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsProcessingContext

from ..plugin.engine.config import ClassifyScenesConfig
from ..plugin.engine.events import Reporter
from .algorithm import WorkerAlgorithm, tr
from .answer_parameters import (
    UsualRaster,
    WishedPolygons,
    WishedTable,
    check_bands,
    classifier_header,
    device_row,
    image_settings,
    threshold_row,
)
from .answer_styles import GivenStyle, Titles
from .layer_names import map_name
from .layer_parameters import Extent, Polygons, Raster
from .list_parameters import Bands
from .looks import SavedStyle
from .parameters import InputFile, InputFolder, OutputRaster, Parameters, Row, Setting


class ClassifyScenes(WorkerAlgorithm):
    """Goes over a raster with a scene classifier."""

    ID = "classifyscenes"
    NAME = "Classify scenes"
    TAGS = (
        "deep learning", "cnn", "inference", "predict", "scene", "sliding window", "central pixel", "grid", "map",
        "photographs", "images",
    )  # fmt: skip
    CONFIG = ClassifyScenesConfig
    GROUP = ("mapping", "Mapping")

    def summary(self) -> str:
        """What it does."""
        return tr(
            "Goes over a raster in steps, looks at a chip around each with a trained classifier, and gives the step "
            "the chip's class: as a raster whose pixels are the steps, as a grid of polygons, or both.\n"
            "With a stride of one pixel each pixel gets the class of the chip around it. What overlapping chips share "
            "is then calculated once, as far as the network allows; the log says so.\n"
            "A folder of photographs becomes a table of their classes."
        )

    def rows(self) -> list[Row]:
        """The parameters."""
        return [
            Raster("INPUT", tr("Image"), tr(
                "The raster to classify. It needs the bands that the model was trained on, at about the same pixel "
                "size."), optional=True),
            InputFolder("INPUT_FOLDER", tr("Folder of photographs"), tr(
                "Each image in it, and in the folders in it, is classified: the square in its middle, resampled to the "
                "model's chip size."), optional=True),
            InputFile("MODEL", tr("Model file"), tr(
                "The .safetensors file that “Train a classifier” wrote."),
                filter=tr("Model files") + " (*.safetensors)"),
            Setting("STRIDE", tr("Stride (empty: chip size)"), tr(
                "Pixels from one chip to the next. It is the pixel size of the result: the chip size lays chips side "
                "by side, "
                "1 classifies every pixel by the chip around it.")),
            Extent("EXTENT", tr("Extent"), tr("Classify only this rectangle.")),
            Polygons("AREA", tr("Area of interest"), tr(
                "Classify only steps whose middle lies in these polygons."), optional=True),
            Bands("BANDS", tr("Bands (empty: by name or order)"), tr(
                "The image's band, by number from 1, for each band of the model, such as 3,2,1. Empty: by name, else "
                "in "
                "order.")),
            threshold_row(),
            Setting("EDGES", tr("At the edges of the raster"), tr(
                "mirror: chips that reach out of the raster see its mirror image there. leave_out: their steps get no "
                "class."), advanced=True),
            Setting("MIN_VALID_SHARE", tr("Minimum share of data (0 to 1)"), tr(
                "Steps of whose ground less has data get no class."), advanced=True, decimals=2),
            Setting("BATCH_SIZE", tr("Batch size (chips)"), tr(
                "Chips at once in the network. Halve it when memory runs out."), advanced=True),
            device_row(),
            UsualRaster("OUTPUT", tr("Class raster"), tr(
                "The GeoTIFF of class values to write, a pixel a step. A model of several classes a chip gives a band "
                "for each class, 1 where it is and 0 where not."), optional=True, called="map"),
            OutputRaster("PROBABILITIES", tr("Probabilities"), tr(
                "A GeoTIFF with a band a class: how sure the network is of it."), optional=True),
            WishedPolygons("GRID", tr("Grid"), tr(
                "A layer with a square a step: value and name of its class, and the probability of each class."),
                optional=True),
            WishedTable("TABLE", tr("Table of photographs"), tr(
                "A row for each photograph: file, value and name of its class, and the probability of each class."),
                optional=True),
        ]  # fmt: skip

    def read(self, parameters: Parameters, context: QgsProcessingContext) -> dict[str, Any]:
        """The settings, once the file proves to be a classifier's."""
        settings = super().read(parameters, context)
        self._header = classifier_header(settings["model"])
        check_bands(settings["bands"], self._header)
        settings.update(image_settings(self, parameters, context, settings["input_folder"]))
        self._name = map_name(self, parameters, context)
        return settings

    def check(self, config: ClassifyScenesConfig) -> None:
        """Whether model, image and outputs go together."""
        from ..plugin.engine.mapping.early_checks import check_scenes

        check_scenes(config, self._header)

    def work(self, settings: dict[str, Any], context: QgsProcessingContext, reporter: Reporter) -> dict[str, Any]:
        """Classify in the worker."""
        from ..plugin.engine.mapping.answers import Answers, field_titles
        from ..plugin.engine.mapping.layer_style import grid_style

        if settings["input"]:
            settings["table"] = None  # which the dialog may have filled in
        answers = Answers.of(self._header, settings["threshold"])
        found = self.run_worker(settings, reporter)
        self.show(found["output"], self._name, SavedStyle(), context)
        self.show_probabilities(found["probabilities"], self._name, found["output"], context)
        self.show(found["grid"], tr("{}, grid").format(self._name), GivenStyle(grid_style(answers)), context)
        self.show(found["table"], self._name, Titles(field_titles(answers.fields())), context)
        return {name.upper(): found[name] for name in ("output", "probabilities", "grid", "table")}
