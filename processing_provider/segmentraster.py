"""Segment a raster: raster and model file → class raster."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsProcessingContext, QgsProcessingOutputDefinition

from ..plugin.engine.config import SegmentRasterConfig
from ..plugin.engine.events import Reporter
from .algorithm import WorkerAlgorithm, tr
from .averaging import averaging_rows
from .earlier_results import model_row
from .layer_parameters import Extent, Polygons, Raster, Rasters
from .layers import gdal_path, given_crs, raster_layers
from .list_parameters import Bands
from .map_results import (
    area_outputs,
    area_results,
    confidence_row,
    measure_rows,
    raster_rows,
    refining_rows,
    region_rows,
    show_results,
)
from .mapped_raster import mapped_raster, pixel_rows
from .parameters import Destination, OutputRaster, Parameters, Row, Setting


class SegmentRaster(WorkerAlgorithm):
    """Maps a raster with a segmentation network."""

    ID = "segmentraster"
    NAME = "Segment a raster"
    TAGS = ("deep learning", "inference", "predict", "classify", "map", "land cover", "segmentation", "fcn")
    CONFIG = SegmentRasterConfig
    GROUP = ("mapping", "Mapping")

    def summary(self) -> str:
        """Describe the algorithm."""
        return tr(
            "Classifies each pixel of a raster with a trained network. The result holds the class values of your own "
            "labels, with their names and colours; with a model of numbers (regression) it is a raster of numbers in "
            "the units of the training data.\nThe raster may be of any size: it is processed in tiles, which "
            "are read with enough context that their edges do not show. Where the raster has no data, the result has "
            "none either."
        )

    def rows(self) -> list[Row]:
        """Declare the parameters."""
        return [
            Raster("INPUT", tr("Image"), tr(
                "The raster to map. It needs the bands that the model was trained on, and about the same pixel size.")),
            model_row("trainsegmenter"),
            Rasters("MORE_IMAGES", tr("More images of a mosaic"), tr(
                "Rasters beside the first one, with the same bands: all become one map, without seams at their "
                "borders. Where they overlap, later ones are on top; those with other pixels or in another CRS are "
                "resampled to the pixels of the first."), optional=True, advanced=True),
            Extent("EXTENT", tr("Extent"), tr("Map only this rectangle.")),
            Polygons("AREA", tr("Area of interest"), tr(
                "Map only inside these polygons; the rest is nodata."), optional=True),
            Bands("BANDS", tr("Bands (empty: by name or order)"), tr(
                "The band of the image for each band of the model, by number from 1, such as 3,2,1. Empty: bands are "
                "matched by name, otherwise by order.")),
            *pixel_rows(),
            Setting("TILE_SIZE", tr("Tile size (empty: automatic)"), tr(
                "Side of the squares that are mapped at a time, in pixels. Empty: as large as is useful and as the "
                "free memory allows. The result is practically the same."), advanced=True),
            Setting("HALO", tr("Halo (empty: automatic)"), tr(
                "How many pixels around each tile are read as context for the network. Empty: so many that the edges "
                "of tiles should change no more than about 0.2 % of the pixels, as estimated for this network."),
                advanced=True),
            Setting("BATCH_SIZE", tr("Batch size (tiles)"), tr("How many tiles the network processes at a "
                "time."), advanced=True),
            *averaging_rows(scales=True),
            Setting("MIXED_PRECISION", tr("Mixed precision"), tr(
                "Calculate with 16 bits on a GPU, and on a processor with bfloat16: faster. The first tile is compared "
                "with 32 bits; if more than 0.5 % of its pixels differ, 32 bits are used."), advanced=True,
                optional=True),
            Setting("DEVICE", tr("Device (auto, cpu, cuda or cuda:n)"), tr(
                "Where to compute. auto uses an NVIDIA GPU if there is one."), advanced=True),
            Setting("RESUME", tr("Resume an interrupted map"), tr(
                "Goes on from the finished pieces that a job with the same settings has left beside the map, if there "
                "are any; it ends with the same map as if it had not been interrupted."),
                optional=True, advanced=True),
            OutputRaster("OUTPUT", tr("Class raster"), tr(
                "The GeoTIFF of class values, or numbers, to write."), called="map"),
            OutputRaster("PROBABILITIES", tr("Probabilities"), tr(
                "A GeoTIFF with one band per class: the probability that the network gives it."), optional=True),
            *measure_rows(),
            *region_rows(),
            confidence_row(),
            *refining_rows(),
            *raster_rows(),
        ]  # fmt: skip

    def outputs(self) -> list[QgsProcessingOutputDefinition]:
        """Declare the outputs that are no files."""
        return area_outputs()

    def read(self, parameters: Parameters, context: QgsProcessingContext) -> dict[str, Any]:
        """Read the settings and the header of the model file."""
        from ..plugin.engine.mapping.ensembles import ensemble_header
        from .layer_names import map_name

        settings = super().read(parameters, context)
        self._header = ensemble_header([settings["model"] or "", *settings["ensemble"]])
        more = raster_layers(self, parameters, "MORE_IMAGES", context)
        settings["more_images"] = [gdal_path(layer) for layer in more]
        settings["more_crs"] = [given_crs(layer) for layer in more]
        settings.update(mapped_raster(self, parameters, context, self._header, more))
        self._name = map_name(self, parameters, context)
        return settings

    def check(self, config: SegmentRasterConfig) -> None:
        """Check that model, image and outputs fit together."""
        from ..plugin.engine.mapping.early_checks import check_segmentation

        check_segmentation(config, self._header)

    def work(self, settings: dict[str, Any], context: QgsProcessingContext, reporter: Reporter) -> dict[str, Any]:
        """Map in the worker and style the results."""
        from .looks import SavedStyle

        found = self.run_worker(settings, reporter)
        self.show(found["output"], self._name, SavedStyle(), context)
        self.show_probabilities(found["probabilities"], self._name, found["output"], context)
        show_results(self, found, self._name, context)
        files = {row.name: found[row.name.lower()] for row in self.rows() if isinstance(row, Destination)}
        return {**files, **area_results(found)}
