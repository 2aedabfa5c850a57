"""Export training chips: rasters and labels → chip dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional, Union

from qgis.core import QgsProcessingContext, QgsProcessingOutputDefinition, QgsRectangle

from ..plugin.engine.config import ExportChipsConfig
from ..plugin.engine.errors import InputError, not_none
from ..plugin.engine.events import Reporter
from ..plugin.translation import tr
from .algorithm import TerrazzoAlgorithm
from .coordinates import bounds
from .layer_parameters import Extent, Features, FieldOf, NeededRasters, NumberFieldOf, Polygons, Rasters
from .layers import Images, chosen_extent, raster_layers
from .list_parameters import CLASS_COLUMNS, Bands, Numbers, Table
from .mapped_raster import web_rows
from .parameters import InputFile, InputFolder, Number, Parameters, Row, Setting
from .splitting import dataset_rows, split_areas, split_outputs, split_results, split_rows

if TYPE_CHECKING:
    from .features import FeatureSource
    from .web_parts import Part

# How far a chip, which may be turned, reaches from one of its pixels, in chip sizes; and the largest automatic size.
CHIP_REACH, LARGEST_AUTOMATIC = 1.5, 256


class ExportChips(TerrazzoAlgorithm):
    """Cuts image and label chips from rasters and their labels."""

    ID = "exportchips"
    NAME = "Export training chips"
    TAGS = ("chips", "patches", "tiles", "training data", "samples", "labels", "masks", "deep learning", "dataset")
    CONFIG = ExportChipsConfig
    GROUP = ("chips", "Chips")
    NAMED_AFTER = ("INPUT", "INPUT_FOLDER")

    def summary(self) -> str:
        """Describe the algorithm."""
        return tr(
            "Cuts chips (small images and their labels) from rasters, ready for training. Labels are polygons, lines "
            "or points with a class or a number, or label rasters.\nThe chips are divided into training, validation "
            "and test by square blocks of ground, so that no pixel of ground is in two of them and the accuracies "
            "reported by training are realistic.\nThe footprints of the chips are added to the project, coloured by "
            "split."
        )

    def rows(self) -> list[Row]:
        """Declare the parameters."""
        return [*self._image_rows(), *self._label_rows(), *self._chip_rows(), *self._rare_rows(),
                *split_rows(tr("a size chosen by Terrazzo")), *self._output_rows()]  # fmt: skip

    def _image_rows(self) -> list[Row]:
        return [
            NeededRasters("INPUT", tr("Images"), tr(
                "The rasters to cut chips from, in any format of GDAL and with any number of bands. Required, unless "
                "a folder of images is given. Layers from the web (XYZ, WMS, WMTS) need a pixel size, and an extent "
                "or area: their tiles are fetched from the server, whose terms of use apply.")),
            InputFolder("INPUT_FOLDER", tr("Folder of images"), tr(
                "A folder used instead: all rasters in it, in the order of their "
                "names."), optional=True, advanced=True),
        ]  # fmt: skip

    def _label_rows(self) -> list[Row]:
        return [
            Features("LABELS", tr("Label features (or rasters)"), tr(
                "Polygons, lines or points that show what is where, in any CRS. Names and colours of the classes come "
                "from the layer's style, if it has them. These or label rasters are required, unless the task is "
                "unlabelled."), optional=True),
            FieldOf("CLASS_FIELD", tr("Class field (empty: one class)"), tr(
                "The field of the label features that holds the class: whole numbers or texts. Without it, all "
                "features are one class, and the ground between them is the other."), optional=True, parent="LABELS"),
            Rasters("LABEL_RASTERS", tr("Label rasters (or features)"), tr(
                "Rasters of classes, or of numbers to learn, used instead of features: one for each image in "
                "the same order, or one for all. Rasters in another CRS or pixel size are resampled to the "
                "image's."), optional=True),
            InputFolder("LABEL_FOLDER", tr("Folder of label rasters"), tr(
                "A folder used instead: the labels of each image have the image's name, with any "
                "extension."), optional=True,
                advanced=True),
            Setting("TASK", tr("Task"), tr(
                "What the network will learn. segmentation: the class of each pixel. classification: one class per "
                "chip, that of its feature or of most of its pixels. multilabel: all classes in a chip. regression: a "
                "number for each pixel, such as a height. chip_regression: one number per chip, that of its feature or "
                "the mean of its pixels. unlabelled: images only."),
                optional=True),
            NumberFieldOf("VALUE_FIELD", tr("Value field (for regression)"), tr(
                "The field of the label features that holds the numbers to learn."), optional=True, parent="LABELS"),
            Setting("BACKGROUND", tr("Ground outside the label features"), tr(
                "auto: a separate class if all features are one class, otherwise unlabelled. ignore: unlabelled, so "
                "it is used neither for learning nor for testing. class: a separate class, named background.")),
        ]  # fmt: skip

    def _chip_rows(self) -> list[Row]:
        return [
            Setting("COMBINE", tr("Several images are"), tr(
                "separate: each is cut into chips of its own; all need the same bands. mosaic: one large image, in "
                "which later rasters lie on top and chips cross the seams. stack: bands of the same ground, such as "
                "an orthophoto and a surface model, resampled to the pixels of the first."), optional=True),
            Setting("PIXEL_SIZE", tr("Pixel size (map units)"), tr(
                "In map units. Images of another pixel size are resampled to this one. Empty: that of the first "
                "image. Of a layer from the web, the zoom level of this size is fetched, or the next finer "
                "one."), advanced=True, decimals=10),
            *web_rows(),
            Bands("BANDS", tr("Bands (empty: all)"), tr(
                "The bands to use, by number from 1, in the order wanted, such as 1-3,5. Empty: all except an alpha "
                "band.")),
            Setting("CHIP_SIZE", tr("Chip size (pixels or automatic)"), tr(
                "Width and height of a chip in pixels. Empty: 256, or less if images are small or labels are in few "
                "places. Multiples of 32 suit every network.")),
            Setting("STRIDE", tr("Stride (pixels)"), tr(
                "Distance from one chip to the next in pixels. With less than the chip size, chips overlap: there are "
                "more of them, and each place is seen in several surroundings. Empty: the chip size.")),
            Setting("PLACEMENT", tr("Placement of chips"), tr(
                "grid: side by side over the whole image. features: centred on each label feature. bounding_boxes: "
                "the square around each label feature, resampled to the chip size. random: at random places."),
                optional=True),
            Extent("EXTENT", tr("Extent"), tr("Cut chips only inside this rectangle.")),
            Polygons("AREA", tr("Area of interest"), tr(
                "Labels outside these polygons are ignored."), optional=True),
        ]  # fmt: skip

    def _rare_rows(self) -> list[Row]:
        return [
            Setting("NODATA", tr("Image value for “no data”"), tr(
                "A value that means “no data” in the images but is not declared there, such as −9999. Without it, the "
                "images' own nodata value is used; infinite values and NaN are always missing."), advanced=True),
            Setting("LABEL_NODATA", tr("Label value for “no label”"), tr(
                "The value in the label rasters that is no class. Without it, their own nodata value is used."),
                advanced=True),
            Table("CLASS_TABLE", tr("Class table"), tr(
                "The class, name and colour (#rrggbb) for each value of the labels. Values with the same class are "
                "merged; an empty class drops the value; values that are not listed are "
                "kept."), headers=(tr("value in the layer"), tr("class value"), tr("name"), tr("colour")),
                advanced=True),
            InputFile("CLASS_FILE", tr("Class table as a file"), tr(
                "The same as a .csv file with the header {}, or as a .json list of objects with these keys.").format(
                ",".join(CLASS_COLUMNS)), filter=tr("Class tables") + " (*.csv *.json)", optional=True, advanced=True),
            Number("BUFFER", tr("Buffer (map units)"), tr(
                "How far labels reach around points and lines, in units of the first image's CRS, which may be "
                "degrees. 0 labels only the pixels that they touch."), optional=True, advanced=True),
            Setting("OVERLAP_RULE", tr("Where label features overlap"), tr(
                "order: the later feature in the layer wins. field: the one with the higher priority. smaller: the "
                "one with the smaller area."), optional=True, advanced=True),
            NumberFieldOf("PRIORITY_FIELD", tr("Priority field"), tr(
                "The field of the label features with their priorities, for the rule “field”; features without a "
                "priority lose to all others."),
                optional=True, parent="LABELS", advanced=True),
            Setting("ALL_TOUCHED", tr("Label every pixel that a feature touches"), tr(
                "Without this, a polygon labels the pixels whose centre it covers. Useful for narrow features."),
                optional=True, advanced=True),
            Setting("CHIPS_PER_FEATURE", tr("Chips per feature"), tr(
                "For chips around features: the number of chips for each feature."), optional=True, advanced=True),
            Setting("POSITION_JITTER", tr("Position jitter (pixels)"), tr(
                "For chips around features: how far a chip may be moved from its feature in each direction, so that "
                "the network does not learn that objects are always in the middle."), optional=True, advanced=True),
            Setting("RANDOM_CHIPS", tr("Random chips: number"), tr(
                "For random chips: about how many places are tried. Chips without labels are left out."),
                optional=True, advanced=True),
            Setting("MIN_DISTANCE", tr("Random chips: distance (pixels)"), tr(
                "For random chips: the minimum distance of their centres in pixels. Empty: half a chip."),
                advanced=True),
            Numbers("ROTATIONS", tr("Rotations (°), such as 0,30,60"), tr(
                "Each chip is cut once for each of these angles in degrees, clockwise. Empty: none. Angles other than "
                "quarter turns resample the image."), advanced=True, example="0,90,180,270"),
            Setting("BLACKEN", tr("Blacken the surroundings"), tr(
                "For chips around features: ground outside the chip's own feature becomes nodata."),
                optional=True, advanced=True),
            Setting("MIN_LABELLED_SHARE", tr("Minimum share of labelled pixels (0 to 1)"), tr(
                "Chips with a smaller share of labelled pixels are left out. 0 keeps every chip with at least "
                "one."), advanced=True,
                decimals=2),
            Setting("MIN_CLASS_SHARE", tr("Minimum class share (0 to 1)"), tr(
                "For classification and multilabel: the share of a chip (0 to 1) that a class must cover to become a "
                "class of the chip."),
                optional=True, advanced=True, decimals=2),
            Setting("MIN_FEATURE_SHARE", tr("Minimum feature share (0 to 1)"), tr(
                "The share of a label feature (0 to 1) that must lie inside a chip; smaller parts at the edges of "
                "chips are not labelled."), optional=True, advanced=True, decimals=2),
            Setting("BACKGROUND_SHARE", tr("Background chips kept (0 to 1)"), tr(
                "The share (0 to 1) of chips with nothing but background that is kept."), optional=True,
                advanced=True,
                decimals=2),
            Setting("EDGES", tr("Chips at the edges"), tr(
                "shift: the last chips are moved back inside. pad: they extend beyond the edge and are filled with "
                "nodata."), advanced=True),
        ]  # fmt: skip

    def _output_rows(self) -> list[Row]:
        return [
            Setting("CHIP_FORMAT", tr("Format of the images"), tr(
                "GTiff keeps everything: any number of bands, any data type, and the georeference. PNG and JPEG are "
                "for one or three bands; JPEG loses detail and stores bytes only. Masks are always "
                "lossless."), optional=True,
                advanced=True),
            Setting("COMPRESSION", tr("Compression of GeoTIFF images"), tr(
                "Smaller files, but slower to write and to read in training."), optional=True, advanced=True),
            Setting("APPEND", tr("Add to the dataset in that folder"), tr(
                "The new chips are added to the existing ones, which keep their splits. Bands, chip size and classes "
                "must be the same."), optional=True, advanced=True),
            Setting("RESUME", tr("Resume an interrupted export"), tr(
                "Keeps what an export has written when it is cancelled or killed, and resumes there when it is "
                "started again with the same settings."), optional=True, advanced=True),
            *dataset_rows(),
        ]  # fmt: skip

    def outputs(self) -> list[QgsProcessingOutputDefinition]:
        """Declare the footprints and the numbers of chips."""
        return split_outputs()

    def read(self, parameters: Parameters, context: QgsProcessingContext) -> dict[str, Any]:
        """Read the settings, with the layers of features as sources."""
        from .features import feature_source
        from .labels import LabelRasters, check_labels, class_mapping, label_features
        from .web_parts import place_of

        values = self.values(parameters, context)
        settings = self.settings(parameters, context)
        given = {row.name for row in self.rows() if row.given(parameters)}
        check_labels(values, [name for name in ("LABELS", "LABEL_RASTERS", "LABEL_FOLDER") if name in given])
        mapping = class_mapping(values)
        images = self._images(parameters, context, values["input_folder"])
        settings["input_crs"] = images.given
        extent = chosen_extent(self, parameters, "EXTENT", context, images.crs)
        settings["extent"] = None if extent is None else bounds(extent)
        near = images.extent if extent is None else extent
        settings["labels"] = label_features(self, parameters, context, values, images, near, mapping)
        rasters = LabelRasters.of(self, parameters, context, values, images)
        settings.update(rasters.settings(context, mapping, values["task"]))
        area = settings["area"] = feature_source(self, parameters, "AREA", context, images.crs, near)
        place = place_of(area, images.crs, context) if extent is None else extent
        settings.update(_located(images, place, area, values, context))
        method = values["split_method"]
        settings["split_areas"] = split_areas(self, parameters, context, method, images.crs, near)
        return settings

    def _images(self, parameters: Parameters, context: QgsProcessingContext, folder: str) -> Images:
        layers = raster_layers(self, parameters, "INPUT", context)
        if layers and folder:
            raise InputError("INPUT and INPUT_FOLDER are both given.", "Choose one of them.")
        if layers:
            return Images.of_layers(layers, context)
        if not folder:
            raise InputError("No image is given.", "Choose rasters as INPUT, or a folder as INPUT_FOLDER.")
        from ..plugin.engine.chips.sources import rasters_in

        return Images.of_files(rasters_in(folder), context)

    def work(self, settings: dict[str, Any], context: QgsProcessingContext, reporter: Reporter) -> dict[str, Any]:
        """Export the chips and show their footprints."""
        from ..plugin.engine.chips.export import export_chips

        found = export_chips(ExportChipsConfig.from_json(settings), reporter)
        return {"OUTPUT": found["dataset"], **split_results(self.show_footprints(found["dataset"], context), found)}


def _located(
    images: Images, place: Optional[QgsRectangle], area: Optional[FeatureSource], values: dict[str, Any],
    context: QgsProcessingContext,
) -> dict[str, Any]:  # fmt: skip
    """Return the settings `input` and `pixel_size`; of web layers, only the tiles at the place are wanted.

    Every chip has labelled pixels in the area; if it may be larger than a known size, all tiles of the place are.
    """
    from .web_parts import WebInput, part_of

    sources: list[Union[str, Part]] = []
    sizes: list[float] = []
    wanted = values["pixel_size"] or images.pixel_size
    unknown = values["placement"] == "bounding_boxes" or (values["append"] and not values["chip_size"])
    near = None if unknown else area
    reach = CHIP_REACH * (values["chip_size"] or LARGEST_AUTOMATIC)
    for source in images.paths:
        if isinstance(source, str):
            sources.append(source)
            continue
        part, size = part_of(source, place, images.crs, wanted, 0, values, context, near, reach)
        sources.append(part)
        sizes.append(size)
    if not sizes:
        return {"input": sources}
    # The tiles reach beyond the place, but chips are wanted only there.
    return {"input": WebInput(sources, alone=False), "pixel_size": sizes[0], "extent": bounds(not_none(place))}
