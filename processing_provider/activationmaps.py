"""Raster, or folder of photographs, + model file → what a network looks for, and where it sees it."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsProcessingContext

from ..plugin.engine.config import ActivationMapsConfig
from ..plugin.engine.events import Reporter
from .algorithm import WorkerAlgorithm, tr
from .answer_parameters import UsualRaster, WishedFile, WishedFolder, check_bands, device_row, image_settings
from .layer_names import map_name
from .layer_parameters import Extent, Polygons, Raster
from .list_parameters import Bands
from .looks import Look, SavedStyle
from .parameters import InputFile, InputFolder, Parameters, Row, Setting


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
        """What it does."""
        return tr(
            "Looks into a trained network, of classification or of segmentation.\n"
            "class_activation: where it sees a class (Grad-CAM), as a raster over the image, or as pictures of "
            "photographs. feature_maps: what comes out of one of its layers, as a raster with a band a channel; the "
            "log lists the layers. filters: a picture of what its first layer looks for in the bare pixels."
        )

    def rows(self) -> list[Row]:
        """The parameters."""
        return [
            Setting("KIND", tr("What to show"), tr(
                "class_activation: where the network sees TARGET_CLASS. feature_maps: the output of LAYER. filters: "
                "those of the first layer, which need no image.")),
            InputFile("MODEL", tr("Model file"), tr(
                "The .safetensors file that “Train a classifier” or “Train a segmentation network” wrote."),
                filter=tr("Model files") + " (*.safetensors)"),
            Raster("INPUT", tr("Image"), tr(
                "The raster to look at. It needs the bands that the model was trained on, at about the same pixel "
                "size."), optional=True),
            InputFolder("INPUT_FOLDER", tr("Folder of photographs"), tr(
                "For class activation of a classifier: each image in it, and in the folders in it, becomes a picture."),
                optional=True),
            Setting("TARGET_CLASS", tr("Class"), tr(
                "The class to show, by its value or name. A raster needs one; empty, each photograph shows its "
                "likeliest."), optional=True),
            Setting("LAYER", tr("Layer (empty: the last)"), tr(
                "The layer to listen to, by its name in the list that feature_maps writes to the log. Empty: the last "
                "of "
                "the features."), optional=True),
            Setting("CHANNELS", tr("Channels of feature maps"), tr("The first ones of the layer are written.")),
            Extent("EXTENT", tr("Extent"), tr("Look only at this rectangle.")),
            Polygons("AREA", tr("Area of interest"), tr(
                "Look only inside these polygons; outside is nodata."), optional=True),
            Bands("BANDS", tr("Bands (empty: by name or order)"), tr(
                "The image's band, by number from 1, for each band of the model, such as 3,2,1. Empty: by name, else "
                "in "
                "order.")),
            Setting("STRIDE", tr("Stride (empty: half a chip)"), tr(
                "For classifiers: chips so many pixels apart are looked at and blended, each with most weight in its "
                "middle. Smaller is smoother and slower."), advanced=True),
            Setting("TILE_SIZE", tr("Tile size (pixels)"), tr(
                "Side of the squares that are worked on at once. Halve it when memory runs out."), advanced=True),
            Setting("HALO", tr("Halo (pixels)"), tr(
                "How much is read around each tile for the network to see the surroundings."), advanced=True),
            Setting("BATCH_SIZE", tr("Batch size (chips)"), tr("Chips at once in the network."), advanced=True),
            device_row(),
            UsualRaster("OUTPUT", tr("Activation or feature maps"), tr(
                "The GeoTIFF to write: the activation in a band, or a band a channel."), optional=True,
                called="activation"),
            WishedFile("PICTURE", tr("Picture of the filters"), tr("The PNG file to write for KIND filters."),
                optional=True, filter=tr("PNG files") + " (*.png)"),
            WishedFolder("PICTURES", tr("Folder of pictures"), tr(
                "A new folder for photographs: each beside itself with the activation laid over, and a table of what "
                "the network says of them."), optional=True),
        ]  # fmt: skip

    def read(self, parameters: Parameters, context: QgsProcessingContext) -> dict[str, Any]:
        """The settings, once the file proves to be a model."""
        from ..plugin.engine.models.header import read_header

        settings = super().read(parameters, context)
        self._header = read_header(settings["model"] or "")
        check_bands(settings["bands"], self._header)
        for name in ("layer", "target_class"):
            settings[name] = settings[name] or ""
        if settings["kind"] != "filters":
            settings.update(image_settings(self, parameters, context, settings["input_folder"]))
            self._name = map_name(self, parameters, context)
        return settings

    def check(self, config: ActivationMapsConfig) -> None:
        """Whether what is asked for, model, image and outputs go together."""
        from ..plugin.engine.mapping.early_checks import check_activation

        check_activation(config, self._header)

    def work(self, settings: dict[str, Any], context: QgsProcessingContext, reporter: Reporter) -> dict[str, Any]:
        """Look into the network in the worker."""
        found = self.run_worker(settings, reporter)
        if settings["kind"] == "class_activation":
            title = tr("{}, activation of {}").format(self._name, settings["target_class"])
            self.show(found["output"], title, SavedStyle(), context)
        elif settings["kind"] == "feature_maps":
            self.show(found["output"], tr("{}, feature maps").format(self._name), Look(), context)
        return {name.upper(): found[name] for name in ("output", "picture", "pictures")}
