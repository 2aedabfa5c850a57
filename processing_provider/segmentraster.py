"""Raster + model file → class raster."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsProcessingContext

from ..plugin.engine.config import SegmentRasterConfig
from ..plugin.engine.events import Reporter
from .algorithm import WorkerAlgorithm, tr
from .layer_names import map_name
from .layer_parameters import Extent, Polygons, Raster
from .list_parameters import Bands
from .looks import SavedStyle
from .mapped_raster import mapped_raster
from .parameters import InputFile, OutputRaster, Parameters, Row, Setting


class SegmentRaster(WorkerAlgorithm):
    """Maps a raster with a trained network."""

    ID = "segmentraster"
    NAME = "Segment a raster"
    TAGS = ("deep learning", "inference", "predict", "classify", "map", "land cover", "segmentation", "fcn")
    CONFIG = SegmentRasterConfig
    GROUP = ("mapping", "Mapping")

    def summary(self) -> str:
        """What it does."""
        return tr(
            "Gives each pixel of a raster the class that a trained network sees there. The result holds the class "
            "values of your own labels, with their names and colours.\n"
            "The raster may be of any size: it is read and written tile by tile, with so much around each tile that "
            "their edges do not show. Where the raster has no data, neither has the result."
        )

    def rows(self) -> list[Row]:
        """The parameters."""
        return [
            Raster("INPUT", tr("Image"), tr(
                "The raster to map. It needs the bands that the model was trained on, at about the same pixel size.")),
            InputFile("MODEL", tr("Model file"), tr(
                "The .safetensors file that “Train a segmentation network” wrote."),
                filter=tr("Model files") + " (*.safetensors)"),
            Extent("EXTENT", tr("Extent"), tr("Map only this rectangle.")),
            Polygons("AREA", tr("Area of interest"), tr(
                "Map only inside these polygons; outside is nodata."), optional=True),
            Bands("BANDS", tr("Bands (empty: by name or order)"), tr(
                "The raster's band, by number from 1, for each band of the model, such as 3,2,1. Empty: by name, else "
                "in "
                "order.")),
            Setting("TILE_SIZE", tr("Tile size (pixels)"), tr(
                "Side of the squares that are mapped at once. Larger ones are a little faster and need more memory; "
                "the result is the same but for traces."), advanced=True),
            Setting("HALO", tr("Halo (pixels)"), tr(
                "How much is read around each tile for the network to see the surroundings."), advanced=True),
            Setting("BATCH_SIZE", tr("Batch size (tiles)"), tr("Tiles at once in the network."), advanced=True),
            Setting("DEVICE", tr("Device: auto, cpu, cuda or cuda:n"), tr(
                "Where to calculate. auto takes an NVIDIA GPU where there is one."), advanced=True),
            OutputRaster("OUTPUT", tr("Class raster"), tr("The GeoTIFF of class values to write."), called="map"),
            OutputRaster("PROBABILITIES", tr("Probabilities"), tr(
                "A GeoTIFF with a band a class: how sure the network is of it."), optional=True),
        ]  # fmt: skip

    def read(self, parameters: Parameters, context: QgsProcessingContext) -> dict[str, Any]:
        """The settings, once the file proves to be a model."""
        from ..plugin.engine.models.header import read_header

        settings = super().read(parameters, context)
        self._header = read_header(settings["model"] or "")
        settings.update(mapped_raster(self, parameters, context))
        self._name = map_name(self, parameters, context)
        return settings

    def check(self, config: SegmentRasterConfig) -> None:
        """Whether model, image and outputs go together."""
        from ..plugin.engine.mapping.early_checks import check_segmentation

        check_segmentation(config, self._header)

    def work(self, settings: dict[str, Any], context: QgsProcessingContext, reporter: Reporter) -> dict[str, Any]:
        """Map in the worker."""
        found = self.run_worker(settings, reporter)
        self.show(found["output"], self._name, SavedStyle(), context)
        self.show_probabilities(found["probabilities"], self._name, found["output"], context)
        return {"OUTPUT": found["output"], "PROBABILITIES": found["probabilities"]}
