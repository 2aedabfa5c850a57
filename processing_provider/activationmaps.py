"""Show what a trained network looks for, and where: raster or photographs, and a model file → rasters or pictures."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsProcessingContext

from ..plugin.engine.config import ActivationMapsConfig
from ..plugin.engine.events import Reporter
from ..plugin.translation import tr
from .algorithm import WorkerAlgorithm
from .answer_parameters import UsualRaster, WishedFile, WishedFolder, check_bands, device_row, image_settings
from .earlier_results import model_row
from .layer_parameters import Extent, Polygons, Raster
from .list_parameters import Bands
from .map_results import form_rows, resume_row
from .mapped_raster import pixel_rows
from .parameters import InputFolder, Parameters, Row, Setting


class ActivationMaps(WorkerAlgorithm):
    """Shows what a network looks at."""

    ID = "activationmaps"
    NAME = "Activation maps"
    TAGS = (
        "deep learning", "grad-cam", "class activation", "saliency", "explain", "feature maps", "filters",
        "convolution", "cnn", "fcn", "heat map",
    )  # fmt: skip
    CONFIG = ActivationMapsConfig
    GROUP = ("mapping", "Mapping")

    def summary(self) -> str:
        """Describe the algorithm."""
        return tr(
            "Shows what a trained network, a classifier or a segmentation network, looks at.\n"
            "class_activation: where it sees a class (Grad-CAM), as a raster of the image or as pictures of "
            "photographs. feature_maps: the output of one of its layers, as a raster with one band per channel; the "
            "log lists the layers. filters: a picture of what its first layer responds to."
        )

    def rows(self) -> list[Row]:
        """Declare the parameters."""
        return [
            Setting("KIND", tr("What to show"), tr(
                "class_activation: where the network sees the class below. feature_maps: the output of the layer "
                "below. filters: the filters of the first layer, which need no image.")),
            model_row("trainclassifier", "trainsegmenter"),
            Raster("INPUT", tr("Image"), tr(
                "The raster to look at. It needs the bands that the model was trained on, and about the same pixel "
                "size."), optional=True),
            InputFolder("INPUT_FOLDER", tr("Folder of photographs"), tr(
                "For class_activation with a classifier: a picture is made of each image in this folder and its "
                "subfolders."),
                optional=True),
            Setting("TARGET_CLASS", tr("Class (value or name)"), tr(
                "The class to show. Required for rasters; if empty, the likeliest class of each "
                "photograph is shown."), optional=True),
            Setting("LAYER", tr("Layer (empty: the last)"), tr(
                "The layer to show, by its name in the list that feature_maps writes to the log. Empty: the last "
                "layer of the features."), optional=True),
            Setting("CHANNELS", tr("Channels of feature maps"), tr("How many channels of the layer are written, from "
                "the first.")),
            Extent("EXTENT", tr("Extent"), tr("Use only this rectangle.")),
            Polygons("AREA", tr("Area of interest"), tr(
                "Use only the ground inside these polygons; the rest is nodata."), optional=True),
            Bands("BANDS", tr("Bands (empty: by name or order)"), tr(
                "The band of the image for each band of the model, by number from 1, such as 3,2,1. Empty: bands are "
                "matched by name, otherwise by order.")),
            *pixel_rows(),
            Setting("STRIDE", tr("Stride (pixels)"), tr(
                "For classifiers: the distance of the chips in pixels. Overlapping chips are blended, each weighted "
                "most at its centre. Smaller values are smoother and slower. Empty: half a chip."), advanced=True),
            Setting("TILE_SIZE", tr("Tile size (pixels)"), tr(
                "Side of the squares that are processed at a time. Halve it if memory runs out."), advanced=True),
            Setting("HALO", tr("Halo (pixels)"), tr(
                "How many pixels around each tile are read as context for the network."), advanced=True),
            Setting("BATCH_SIZE", tr("Batch size (chips)"), tr("How many chips the network processes at a "
                "time."), advanced=True),
            device_row(),
            resume_row(),
            UsualRaster("OUTPUT", tr("Activation or feature maps"), tr(
                "The GeoTIFF to write: one band of activation, or one band per channel."), optional=True,
                called="activation"),
            WishedFile("PICTURE", tr("Picture of the filters"), tr("The PNG file to write, to show filters."),
                optional=True, filter=tr("PNG files") + " (*.png)"),
            WishedFolder("PICTURES", tr("Folder of pictures"), tr(
                "A new folder for photographs: each photograph with the activation drawn over it, and a table of the "
                "network's answers."), optional=True),
            *form_rows(),
        ]  # fmt: skip

    def read(self, parameters: Parameters, context: QgsProcessingContext) -> dict[str, Any]:
        """Read the settings and the header of the model file."""
        from ..plugin.engine.models.header import read_header
        from .layer_names import map_name

        settings = super().read(parameters, context)
        self._header = read_header(settings["model"] or "")
        check_bands(settings["bands"], self._header)
        for name in ("layer", "target_class"):
            settings[name] = settings[name] or ""
        if settings["kind"] != "filters":
            settings.update(image_settings(self, parameters, context, settings["input_folder"], self._header))
            self._name = map_name(self, parameters, context)
        return settings

    def check(self, config: ActivationMapsConfig) -> None:
        """Check that the settings, the model, the image and the outputs fit together."""
        from ..plugin.engine.mapping.early_checks import check_activation

        check_activation(config, self._header)

    def work(self, settings: dict[str, Any], context: QgsProcessingContext, reporter: Reporter) -> dict[str, Any]:
        """Run the job in the worker and style its results."""
        from .looks import Look, SavedStyle

        found = self.run_worker(settings, reporter)
        if settings["kind"] == "class_activation":
            title = tr("{}, activation of {}").format(self._name, settings["target_class"])
            self.show(found["output"], title, SavedStyle(), context)
        elif settings["kind"] == "feature_maps":
            self.show(found["output"], tr("{}, feature maps").format(self._name), Look(), context)
        return {name.upper(): found[name] for name in ("output", "picture", "pictures")}
