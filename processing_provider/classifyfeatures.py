"""Classify features: raster, features and the model file of a classifier → the features with their classes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from osgeo import gdal
from qgis.core import (
    QgsFeature,
    QgsFeatureRequest,
    QgsFeatureSink,
    QgsField,
    QgsFields,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeatureSource,
    QgsRasterLayer,
    QgsRectangle,
)

from ..plugin.engine.config import ClassifyFeaturesConfig
from ..plugin.engine.errors import InputError, not_none
from ..plugin.engine.events import Reporter
from ..plugin.translation import tr
from . import field_types
from .algorithm import WorkerAlgorithm
from .answer_parameters import FeatureSink, Text, check_bands, classifier_header, device_row, threshold_row
from .averaging import averaging_rows
from .earlier_results import model_row
from .layer_parameters import Features, Raster
from .layers import layer_crs, raster_layer
from .list_parameters import Bands
from .mapped_raster import pixel_rows, raster_settings
from .parameters import Parameters, Row, Setting
from .places import place_wished
from .web_layers import is_web

if TYPE_CHECKING:
    from .sinks import WholeSink

PREFIX = "predicted_"
LOOK_EVERY = 1000  # features between two checks for Cancel
TYPES = {"integer": field_types.LONG, "number": field_types.NUMBER, "text": field_types.TEXT}


class Count:
    """Counts the features written."""

    def __init__(self) -> None:
        self.features = 0
        self.unknown = 0  # features without an answer

    def tell(self, reporter: Reporter) -> None:
        """Warn about features without an answer."""
        if self.unknown:
            one = self.unknown == 1
            reporter.warning(
                f"{self.unknown:,} of {self.features:,} features {'gets' if one else 'get'} no class: "
                f"{'it lies' if one else 'they lie'} outside the image or where it has no data, or "
                f"{'has' if one else 'have'} no geometry."
            )


def _reach(source: Any, image: QgsRasterLayer, place: Optional[QgsRectangle]) -> float:
    """Return how far beyond all features the square around one may reach, in units of the image's CRS; only of web
    layers, of which no more than needed is fetched.
    """
    if place is None or not is_web(image):
        return 0.0
    boxes = (feature.geometry().boundingBox() for feature in source.source.getFeatures(QgsFeatureRequest()))
    largest = max((max(box.width(), box.height()) for box in boxes if not box.isNull()), default=0.0)
    whole = max(source.own_extent.width(), source.own_extent.height())
    return largest / 2 * (max(place.width(), place.height()) / whole if whole else 1.0)


class ClassifyFeatures(WorkerAlgorithm):
    """Gives each feature of a layer the class of the ground around it."""

    ID = "classifyfeatures"
    NAME = "Classify features"
    TAGS = (
        "deep learning", "cnn", "inference", "predict", "polygons", "points", "objects", "buildings", "parcels",
        "zonal",
    )  # fmt: skip
    CONFIG = ClassifyFeaturesConfig
    GROUP = ("mapping", "Mapping")

    def summary(self) -> str:
        """Describe the algorithm."""
        return tr(
            "Classifies a chip of the image for each feature with a trained classifier, and writes the features with "
            "the class, the confidence, and the probability of each class, or with the number that a model of numbers "
            "predicts. Their own fields are kept.\n"
            "Chips are cut as they were for training: centred on the feature, or the square around its bounds, scaled "
            "to the chip size. Features outside the image, or where it has no data, are written without a class."
        )

    def rows(self) -> list[Row]:
        """Declare the parameters."""
        return [
            Raster("INPUT", tr("Image"), tr(
                "The raster to classify. It needs the bands that the model was trained on, and about the same pixel "
                "size.")),
            Features("FEATURES", tr("Features"), tr(
                "Polygons, lines or points in any CRS. Selections and filters are respected.")),
            model_row("trainclassifier"),
            Setting("PLACEMENT", tr("Chips"), tr(
                "auto: as in training. features: chips of the model's size, centred on each feature. bounding_boxes: "
                "the square around each feature's bounds, scaled to the chip size.")),
            Setting("SURROUNDINGS", tr("Ground around a feature"), tr(
                "auto: as in training. keep: the network sees it. blacken: it counts as missing; not possible for "
                "points."),
                advanced=True),
            Bands("BANDS", tr("Bands (empty: by name or order)"), tr(
                "The band of the image for each band of the model, by number from 1, such as 3,2,1. Empty: bands are "
                "matched by name, otherwise by order.")),
            *pixel_rows(),
            threshold_row(),
            Text("PREFIX", tr("Prefix of the new fields"), tr(
                "Put before the names of the new fields value, class, confidence and probability_…."),
                default=PREFIX, advanced=True),
            Setting("BATCH_SIZE", tr("Batch size (chips)"), tr(
                "How many chips the network processes at a time. Halve it if memory runs out."), advanced=True),
            *averaging_rows(),
            device_row(),
            FeatureSink("OUTPUT", tr("Classified features"), tr(
                "The layer to write: the features with all their fields and the new ones."), called="features"),
        ]  # fmt: skip

    def read(self, parameters: Parameters, context: QgsProcessingContext) -> dict[str, Any]:
        """Read the settings, with the features as a source, and check that the model is a classifier."""
        from .features import ANY_KIND, feature_source
        from .layer_names import answer_name
        from .web_parts import place_of

        settings = super().read(parameters, context)
        self._prefix = self.values(parameters, context)["prefix"]
        self._header = classifier_header(settings["model"], settings["ensemble"])
        check_bands(settings["bands"], self._header)
        image = raster_layer(self, parameters, "INPUT", context)
        source = feature_source(self, parameters, "FEATURES", context, layer_crs(image), image.extent(), ANY_KIND)
        if source is None:
            raise InputError("No FEATURES are given.", "Choose a vector layer.")
        place = place_of(source, layer_crs(image), context)
        reach = _reach(source, image, place)
        settings.update(raster_settings(self, parameters, context, self._header, place, source, reach))
        self._source: QgsProcessingFeatureSource = source.source
        self._own_crs = source.own_crs
        self._name = answer_name(source.title, settings["model"])
        settings["features"] = source
        self._place = place_wished(parameters.get("OUTPUT"), context)
        return settings

    def check(self, config: ClassifyFeaturesConfig) -> None:
        """Check that model and image fit together, and that the result replaces no other layer."""
        from ..plugin.engine.mapping.early_checks import check_features
        from ..plugin.engine.mapping.outputs.tables import check_replaceable

        check_features(config, self._header)
        path = self._place.path
        if path is not None and not self._place.layer:  # in that case QGIS creates a new file
            check_replaceable({"OUTPUT": str(path)}, path.stem)

    def destinations(self, parameters: Parameters, context: QgsProcessingContext) -> dict[str, Any]:
        """Return no destinations for the worker: the layer is opened when its answers are known."""
        return {}

    def work(self, settings: dict[str, Any], context: QgsProcessingContext, reporter: Reporter) -> dict[str, Any]:
        """Classify in the worker, then write the features."""
        from .sinks import WholeSink

        # Claimed before the job, which may take long.
        with WholeSink(self, self._given, "OUTPUT", context) as output:
            return self._classify(settings, output, context, reporter)

    def _classify(
        self, settings: dict[str, Any], output: WholeSink, context: QgsProcessingContext, reporter: Reporter
    ) -> dict[str, Any]:
        from ..plugin.engine.mapping.answers.answers import Answers, Numbers, field_titles
        from ..plugin.engine.mapping.answers.numbers import number_ranges
        from .answer_styles import ClassStyle, NumberStyle, Titles, set_titles
        from .field_names import unlike, warn_of_cut_names

        answers = Answers.of(self._header, settings["threshold"])
        settings["output"] = str(Path(settings["features"]).with_name("answers.gpkg"))
        own = self._source.fields()
        wanted = unlike(answers.fields(self._prefix), own.names(), reporter)
        warn_of_cut_names(output.path, [*own.names(), *(field.name for field in wanted)], reporter)
        fields = QgsFields(own)
        for field in wanted:
            made = QgsField(field.name, TYPES[field.kind])
            made.setAlias(field.title)
            fields.append(made)
        self.run_worker(settings, reporter)
        output.open(fields, self._source.wkbType(), self._own_crs)
        written = self._write(settings["output"], output, fields, len(wanted), reporter)
        name = output.publish()
        written.tell(reporter)
        titles = field_titles(wanted)
        style = Titles(titles)
        if isinstance(answers, Numbers):
            style = NumberStyle(wanted[0].name, number_ranges(answers.target), titles)
        elif not answers.several:
            style = ClassStyle(wanted[0].name, self._header.classes, titles)
        self.show(name, self._name, style, context)
        in_memory = context.temporaryLayerStore().mapLayer(name)
        if in_memory is not None:
            set_titles(in_memory, titles)
        return {"OUTPUT": name}

    def _write(self, path: str, output: WholeSink, fields: QgsFields, added: int, reporter: Reporter) -> Count:
        """Write all features of the source, with their answers where there are any."""
        from .geopackage import UNSAVED

        source = gdal.OpenEx(path, gdal.OF_VECTOR)
        answers = source.GetLayer(0)
        unchecked = QgsProcessingFeatureSource.Flag.FlagSkipGeometryValidityChecks
        count, sink = Count(), not_none(output.sink)
        known = {answer.GetFID() for answer in answers}  # asking for a missing one is an error
        for feature in self._source.getFeatures(QgsFeatureRequest(), unchecked):
            number = feature.id()
            number = number if number >= 0 else UNSAVED - number
            values = [None] * added
            if count.features % LOOK_EVERY == 0:
                reporter.check_wanted()
            count.features += 1
            if number not in known:
                count.unknown += 1
            else:
                answer = answers.GetFeature(number)
                values = [answer.GetField(place) for place in range(added)]
            written = QgsFeature(fields)
            written.setGeometry(feature.geometry())
            written.setAttributes([*feature.attributes(), *values])
            if not sink.addFeature(written, QgsFeatureSink.Flag.FastInsert):
                raise QgsProcessingException(self.writeFeatureError(sink, self._given, "OUTPUT"))
        return count
