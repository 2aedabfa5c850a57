"""Segment a raster: raster and model file → class raster."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsProcessingContext, QgsProcessingOutputDefinition

from ..plugin.engine.config import SegmentRasterConfig
from ..plugin.engine.errors import InputError
from ..plugin.engine.events import Reporter
from ..plugin.translation import tr
from .algorithm import WorkerAlgorithm
from .averaging import averaging_rows
from .earlier_results import model_row
from .layer_parameters import Extent, Polygons, Raster, Rasters
from .layers import Images, raster_layers
from .list_parameters import Bands
from .map_results import (
    area_outputs,
    area_results,
    confidence_row,
    measure_rows,
    raster_rows,
    refining_rows,
    region_rows,
    resume_row,
    show_results,
)
from .mapped_raster import mapped_raster, more_rasters, pixel_rows
from .parameters import Destination, InputFolder, OutputRaster, Parameters, Row, Setting


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
            "the units of the training data.\nThe raster may be of any size: it is processed in parts (on a GPU in "
            "tiles, on a processor mostly in strips), which are read with enough context that their edges do not show. "
            "Where the raster has no data, the result has none either."
        )

    def rows(self) -> list[Row]:
        """Declare the parameters."""
        return [
            Raster("INPUT", tr("Image (or folder)"), tr(
                "The raster to map. It needs the bands that the model was trained on, and about the same pixel size."),
                optional=True),
            model_row("trainsegmenter"),
            Rasters("MORE_IMAGES", tr("More images"), tr(
                "Rasters beside the first one, with the same bands; layers from the web as well."), optional=True,
                advanced=True),
            InputFolder("INPUT_FOLDER", tr("Folder of images"), tr(
                "A folder used instead of images: all rasters in it, in the order of their names."), optional=True,
                advanced=True),
            Setting("COMBINE", tr("Several images are"), tr(
                "mosaic: all become one map, without seams at their borders. Where they overlap, later ones are on "
                "top; those with other pixels or in another CRS are resampled to the pixels of the first. separate: "
                "each gets a map of its own, with the image's name appended to the names of the results; an image "
                "that cannot be mapped does not stop the others."), optional=True, advanced=True),
            Extent("EXTENT", tr("Extent"), tr("Map only this rectangle.")),
            Polygons("AREA", tr("Area of interest"), tr(
                "Map only inside these polygons; the rest is nodata."), optional=True),
            Bands("BANDS", tr("Bands (empty: by name or order)"), tr(
                "The band of the image for each band of the model, by number from 1, such as 3,2,1. Empty: bands are "
                "matched by name, otherwise by order.")),
            *pixel_rows(),
            Setting("MAP_GRID", tr("Pixels of the map"), tr(
                "Where the image is read at another pixel size, the map may have the image's own pixels all the same."),
                optional=True, advanced=True),
            Setting("TILE_SIZE", tr("Tile size (pixels or automatic)"), tr(
                "Side of the squares that are mapped at a time, in pixels. Empty: as is fastest with the free memory, "
                "on a processor in strips down wide columns. The result is practically the same."), advanced=True),
            Setting("HALO", tr("Halo (pixels or automatic)"), tr(
                "How many pixels around each tile, or beside each column of strips, are read as context for the "
                "network. Empty: so many that their edges should change no more than about 0.2 % of the pixels, as "
                "estimated for this network."), advanced=True),
            Setting("BATCH_SIZE", tr("Batch size (tiles)"), tr("How many tiles the network processes at a "
                "time; strips are processed one by one."), advanced=True),
            *averaging_rows(scales=True),
            Setting("MIXED_PRECISION", tr("Mixed precision"), tr(
                "Calculate with 16 bits on a GPU, and on a processor with bfloat16: faster. Some parts of the raster "
                "are compared with 32 bits first; if more than 0.5 % of their pixels differ, 32 bits are used."),
                advanced=True, optional=True),
            Setting("DEVICE", tr("Device (auto, cpu, cuda or cuda:n)"), tr(
                "Where to compute. auto uses an NVIDIA GPU if there is one."), advanced=True),
            resume_row(),
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
        from ..plugin.engine.mapping.sources.ensembles import ensemble_header
        from .layer_names import map_name

        settings = super().read(parameters, context)
        self._header = ensemble_header([settings["model"] or "", *settings["ensemble"]])
        folder = self.values(parameters, context)["input_folder"]
        paths = self._paths(parameters, context, folder)
        more = raster_layers(self, parameters, "MORE_IMAGES", context)
        given = {**parameters, "INPUT": paths[0]} if paths else parameters
        near = Images.of_files(paths, context).extent if paths else None
        mapped = mapped_raster(self, given, context, self._header, more, near)
        beside = more_rasters(self, given, context, self._header, more, mapped)
        settings.update(mapped, **(beside if more else {"more_images": paths[1:], "more_crs": []}))
        self._name = map_name(self, parameters, context)
        return settings

    def _paths(self, parameters: Parameters, context: QgsProcessingContext, folder: str) -> list[str]:
        """Return the rasters in the folder of images; none if there is no folder.

        Raises:
            InputError: There are images and a folder, or neither.
        """
        given = [row.label for row in self.rows() if row.name in ("INPUT", "MORE_IMAGES") and row.given(parameters)]
        if given and folder:
            raise InputError("INPUT and INPUT_FOLDER are both given.", "Choose images, or a folder of images.")
        if folder:
            from ..plugin.engine.chips.sources import rasters_in

            return rasters_in(folder)
        if not parameters.get("INPUT"):
            raise InputError("No image is given.", "Choose a raster as INPUT, or a folder as INPUT_FOLDER.")
        return []

    def check(self, config: SegmentRasterConfig) -> None:
        """Check that model, image and outputs fit together."""
        from ..plugin.engine.mapping.early_checks import check_segmentation

        check_segmentation(config, self._header)

    def work(self, settings: dict[str, Any], context: QgsProcessingContext, reporter: Reporter) -> dict[str, Any]:
        """Map in the worker and style the results."""
        from ..plugin.engine.files import raster_names
        from .layer_names import answer_name
        from .looks import SavedStyle
        from .showing import load_each

        found = self.run_worker(settings, reporter)
        maps, alone = [found, *found.get("more", ())], settings["combine"] == "separate"
        if alone:
            load_each(settings, maps, context)
        for one in maps:
            name = answer_name(raster_names([one["input"]])[0], settings["model"]) if alone else self._name
            self.show(one["output"], name, SavedStyle(), context)
            self.show_probabilities(one["probabilities"], name, one["output"], context)
            show_results(self, one, name, context)
        files = {row.name: found[row.name.lower()] for row in self.rows() if isinstance(row, Destination)}
        return {**files, **area_results(maps)}
