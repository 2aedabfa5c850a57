"""Classify scenes: raster or folder of photographs, and a classifier's model file → a class per step or photograph."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsProcessingContext, QgsProcessingOutputDefinition

from ..plugin.engine.config import ClassifyScenesConfig
from ..plugin.engine.events import Reporter
from ..plugin.translation import tr
from .algorithm import WorkerAlgorithm
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
from .averaging import averaging_rows
from .earlier_results import model_row
from .layer_parameters import Extent, Polygons, Raster
from .list_parameters import Bands
from .map_results import (
    area_outputs,
    area_results,
    raster_rows,
    refining_rows,
    region_rows,
    resume_row,
    show_results,
    sure_rows,
)
from .mapped_raster import pixel_rows
from .parameters import Destination, InputFolder, OutputRaster, Parameters, Row, Setting


class ClassifyScenes(WorkerAlgorithm):
    """Classifies a raster step by step with a scene classifier."""

    ID = "classifyscenes"
    NAME = "Classify scenes"
    TAGS = (
        "deep learning", "cnn", "inference", "predict", "scene", "sliding window", "central pixel", "grid", "map",
        "photographs", "images",
    )  # fmt: skip
    CONFIG = ClassifyScenesConfig
    GROUP = ("mapping", "Mapping")

    def summary(self) -> str:
        """Describe the algorithm."""
        return tr(
            "Moves over a raster in steps, classifies the chip around each step with a trained classifier, and gives "
            "the step the class of the chip, or the number that a model of numbers predicts: as a raster with one "
            "pixel per step, as a grid of polygons, or both.\n"
            "With a stride of one pixel, each pixel gets the class of the chip around it. What overlapping chips have "
            "in common is computed only once, as far as the network allows; the log tells.\n"
            "A folder of photographs becomes a table of their classes."
        )

    def rows(self) -> list[Row]:
        """Declare the parameters."""
        return [
            Raster("INPUT", tr("Image"), tr(
                "The raster to classify. It needs the bands that the model was trained on, and about the same pixel "
                "size."), optional=True),
            InputFolder("INPUT_FOLDER", tr("Folder of photographs"), tr(
                "Each image in this folder and its subfolders is classified: the square in its middle, resampled to "
                "the model's chip size."), optional=True),
            model_row("trainclassifier"),
            Setting("STRIDE", tr("Stride (pixels)"), tr(
                "Distance from one chip to the next in pixels, which is also the pixel size of the result. Empty: "
                "the chip size, so that chips lie side by side. With 1, every pixel is classified by the chip around "
                "it.")),
            Extent("EXTENT", tr("Extent"), tr("Classify only this rectangle.")),
            Polygons("AREA", tr("Area of interest"), tr(
                "Classify only steps whose centre lies in these polygons."), optional=True),
            Bands("BANDS", tr("Bands (empty: by name or order)"), tr(
                "The band of the image for each band of the model, by number from 1, such as 3,2,1. Empty: bands are "
                "matched by name, otherwise by order.")),
            *pixel_rows(),
            threshold_row(),
            Setting("EDGES", tr("At the edges of the raster"), tr(
                "mirror: outside the raster, chips see its mirror image. leave_out: steps whose chips reach outside "
                "get no class."), advanced=True),
            Setting("MIN_VALID_SHARE", tr("Minimum share of data (0 to 1)"), tr(
                "Steps with less data on their ground get no class."), advanced=True, decimals=2),
            Setting("BATCH_SIZE", tr("Batch size (chips)"), tr(
                "How many chips the network processes at a time. Halve it if memory runs out."), advanced=True),
            *averaging_rows(),
            device_row(),
            resume_row(),
            UsualRaster("OUTPUT", tr("Class raster"), tr(
                "The GeoTIFF of class values to write, one pixel per step. A model with several classes per chip "
                "gives one band per class: 1 where the class is present, otherwise 0. A model of numbers gives a "
                "raster of numbers in the units of the target."), optional=True, called="map"),
            OutputRaster("PROBABILITIES", tr("Probabilities"), tr(
                "A GeoTIFF with one band per class: the probability that the network gives it. A model of numbers has "
                "none."), optional=True),
            *sure_rows(),
            WishedPolygons("GRID", tr("Grid"), tr(
                "A polygon layer with one square per step: value and name of its class, and the probability of each "
                "class; or its number."),
                optional=True),
            WishedTable("TABLE", tr("Table of photographs"), tr(
                "One row per photograph: file, value and name of its class, and the probability of each class; or its "
                "number."),
                optional=True),
            *region_rows(),
            *refining_rows(),
            *raster_rows(),
        ]  # fmt: skip

    def outputs(self) -> list[QgsProcessingOutputDefinition]:
        """Declare the outputs that are no files."""
        return area_outputs()

    def read(self, parameters: Parameters, context: QgsProcessingContext) -> dict[str, Any]:
        """Read the settings and check that the model is a classifier."""
        from .layer_names import map_name

        settings = super().read(parameters, context)
        self._header = classifier_header(settings["model"], settings["ensemble"])
        check_bands(settings["bands"], self._header)
        settings.update(image_settings(self, parameters, context, settings["input_folder"], self._header))
        self._name = map_name(self, parameters, context)
        return settings

    def check(self, config: ClassifyScenesConfig) -> None:
        """Check that model, image and outputs fit together."""
        from ..plugin.engine.mapping.early_checks import check_scenes

        check_scenes(config, self._header)

    def work(self, settings: dict[str, Any], context: QgsProcessingContext, reporter: Reporter) -> dict[str, Any]:
        """Classify in the worker and style the results."""
        from ..plugin.engine.mapping.answers.answers import Answers, field_titles
        from ..plugin.engine.mapping.outputs.layer_style import grid_style
        from .answer_styles import GivenStyle, Titles
        from .looks import SavedStyle

        if settings["input"]:
            settings["table"] = None  # the dialog may have filled it in
        answers = Answers.of(self._header, settings["threshold"])
        found = self.run_worker(settings, reporter)
        self.show(found["output"], self._name, SavedStyle(), context)
        self.show_probabilities(found["probabilities"], self._name, found["output"], context)
        self.show(found["grid"], tr("{}, grid").format(self._name), GivenStyle(grid_style(answers)), context)
        self.show(found["table"], self._name, Titles(field_titles(answers.fields())), context)
        show_results(self, found, self._name, context)
        files = {row.name: found.get(row.name.lower()) for row in self.rows() if isinstance(row, Destination)}
        return {**files, **area_results([found])}
