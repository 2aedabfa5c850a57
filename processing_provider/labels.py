"""The labels of an export: what the user gave, whether it goes together, and what the job is told of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

from qgis.core import QgsProcessingAlgorithm, QgsProcessingContext, QgsRasterLayer, QgsRectangle

from ..plugin.engine.errors import InputError
from .class_styles import LayerStyle, raster_classes
from .class_table import ClassMapping
from .classes import ClassField, NumberField, OneClass, Values, find_field, together
from .features import ANY_KIND, FeatureSource, feature_source
from .layers import Images, gdal_path, given_crs, label_partners, raster_layers, vector_layer
from .saved_styles import opened_plainly

CLASS_TASKS = ("segmentation", "classification", "multilabel")
FEATURE_PLACEMENTS = ("features", "bounding_boxes")


def check_labels(values: dict[str, Any], kinds: list[str]) -> None:
    """Whether what the user gave goes together, as far as names of parameters tell.

    Args:
        values: What parameters hold, by their names in lower case.
        kinds: Which of LABELS, LABEL_RASTERS and LABEL_FOLDER are given.

    Raises:
        InputError: It does not.
    """
    task, placement = values["task"], values["placement"]
    around_features = placement in FEATURE_PLACEMENTS
    if len(kinds) > 1:
        raise InputError(f"{' and '.join(kinds)} are given.", "Choose one of them.")
    if around_features and kinds != ["LABELS"]:
        raise InputError(
            f"PLACEMENT is {placement}, and no features are given to place chips at.",
            "Choose a vector layer as LABELS, or set PLACEMENT to grid or random.",
        )
    if values["blacken"] and not around_features:
        raise InputError(
            f"BLACKEN is set, and PLACEMENT is {placement}: such chips have no feature of their own.",
            "Set PLACEMENT to features or bounding_boxes, or BLACKEN to false.",
        )
    if not kinds and task != "unlabelled":
        raise InputError(
            "No labels are given.",
            "Choose label features (LABELS) or label rasters (LABEL_RASTERS), or set the task (TASK) to unlabelled.",
        )
    if kinds and task == "unlabelled" and not around_features:
        raise InputError(
            f"TASK is unlabelled, and {kinds[0]} are given.", "Choose another TASK, or leave the labels out."
        )
    if values["buffer"] < 0:
        raise InputError(f"BUFFER is {values['buffer']:g}.", "Give 0 or more.")
    _check_fields(values, kinds)


def _check_fields(values: dict[str, Any], kinds: list[str]) -> None:
    features, task = kinds == ["LABELS"], values["task"]
    if task == "regression":
        if features and not values["value_field"]:
            raise InputError(
                "TASK is regression, and no VALUE_FIELD is given.", "Choose the field of LABELS that holds the numbers."
            )
        for name in ("class_field", "class_table", "class_file"):
            if values[name]:
                raise InputError(f"TASK is regression, and {name.upper()} is given.", "Leave it empty.")
    elif values["value_field"]:
        raise InputError(
            f"VALUE_FIELD is {values['value_field']}, and TASK is {task}.",
            "Set TASK to regression, or choose a CLASS_FIELD instead.",
        )
    if values["class_table"] and values["class_file"]:
        raise InputError("CLASS_TABLE and CLASS_FILE are given.", "Choose one of them.")
    if (values["class_table"] or values["class_file"]) and features and not values["class_field"]:
        raise InputError(
            "A class table is given, and no CLASS_FIELD, so that there are no values to map.",
            "Choose the field of LABELS that holds the classes.",
        )
    by_field = values["overlap_rule"] == "field"
    if by_field and not (features and values["priority_field"]):
        raise InputError(
            "OVERLAP_RULE is field, and no PRIORITY_FIELD is given.",
            "Choose the field of LABELS that says which feature wins.",
        )
    if values["priority_field"] and not by_field:
        raise InputError(
            f"PRIORITY_FIELD is {values['priority_field']}, and OVERLAP_RULE is {values['overlap_rule']}.",
            "Set OVERLAP_RULE to field, or leave PRIORITY_FIELD empty.",
        )


def class_mapping(values: dict[str, Any]) -> ClassMapping:
    """The class table that the user gave, in the dialog or as a file.

    Raises:
        InputError: It cannot be used.
    """
    if values["class_file"]:
        return ClassMapping.from_file(values["class_file"])
    return ClassMapping.from_rows("CLASS_TABLE", values["class_table"])


def label_features(
    algorithm: QgsProcessingAlgorithm,
    parameters: dict,
    context: QgsProcessingContext,
    values: dict[str, Any],
    images: Images,
    near: QgsRectangle,
    mapping: ClassMapping,
) -> Optional[FeatureSource]:
    """The features that LABELS holds, with what tells their values; None where it is not given.

    Args:
        values: What parameters hold, by their names in lower case.
        near: What the features must meet, in the CRS of the images.

    Raises:
        InputError: The layer or one of the fields cannot be used.
    """
    labels = feature_source(algorithm, parameters, "LABELS", context, images.crs, near, ANY_KIND)
    if labels is None:
        return None
    fields, title = labels.source.fields(), labels.title
    if values["task"] == "unlabelled":
        labels.values = Values()
    elif values["task"] == "regression":
        labels.values = NumberField.of(fields, values["value_field"], title)
    else:
        style = LayerStyle.of(vector_layer(algorithm, parameters, "LABELS", context), context)
        name = values["class_field"]
        labels.values = ClassField.of(style, fields, name, title, mapping) if name else OneClass.of(style, title)
    labels.buffer = values["buffer"]
    if values["priority_field"]:
        # Only to say early that there is no such field, or that it holds no numbers.
        NumberField.of(fields, values["priority_field"], title)
        labels.rank = find_field(fields, values["priority_field"], title)[0]
    return labels


@dataclass(frozen=True)
class LabelRasters:
    """Label rasters, and what is known of their classes.

    Attributes:
        paths: What GDAL opens.
        given: Of each, the CRS that the user gave it, as WKT; "" where its own holds.
        shown: Layers whose style may name classes.
    """

    paths: list[str]
    given: list[str]
    shown: list[QgsRasterLayer]

    @classmethod
    def of(
        cls,
        algorithm: QgsProcessingAlgorithm,
        parameters: dict,
        context: QgsProcessingContext,
        values: dict[str, Any],
        images: Images,
    ) -> LabelRasters:
        """What LABEL_RASTERS or LABEL_FOLDER holds.

        Args:
            values: What parameters hold, by their names in lower case.

        Raises:
            InputError: One cannot be opened, an image has no partner in the folder, or there are several for one image.
        """
        folder = values["label_folder"]
        found = cls._of_folder(folder, images) if folder else cls._of_layers(algorithm, parameters, context)
        if len(found.paths) > 1 and values["combine"] == "stack":
            raise InputError(
                f"COMBINE is stack, which makes one image of all on the pixels of the first, and {len(found.paths)} "
                "label rasters are given.",
                "Give one label raster.",
            )
        return found

    @classmethod
    def _of_layers(
        cls, algorithm: QgsProcessingAlgorithm, parameters: dict, context: QgsProcessingContext
    ) -> LabelRasters:
        layers = raster_layers(algorithm, parameters, "LABEL_RASTERS", context)
        return cls([gdal_path(layer) for layer in layers], [given_crs(layer) for layer in layers], layers)

    @classmethod
    def _of_folder(cls, folder: str, images: Images) -> LabelRasters:
        from ..plugin.engine.chips.sources import rasters_in

        paths = label_partners(images.paths, rasters_in(folder), folder)
        # One style says it for all: a folder may have thousands.
        return cls(paths, [""] * len(paths), [opened_plainly(paths[0], QgsRasterLayer, "gdal")])

    def settings(self, context: QgsProcessingContext, mapping: ClassMapping, task: str) -> dict[str, Any]:
        """The settings `label_rasters`, `class_map` and `classes`.

        Raises:
            InputError: The class table does not fit.
        """
        rasters = {"label_rasters": self.paths, "label_crs": self.given}
        if not self.paths or task not in CLASS_TASKS:
            return rasters
        become = mapping.for_rasters()
        shown = raster_classes(self.shown, context)
        classes = []
        values = {become.get(row[0], row[0]) for row in shown} | set(become.values())
        for value in sorted(value for value in values if value is not None):
            parts = [row for row in shown if become.get(row[0], row[0]) == value]
            name, color = mapping.style_of(value)
            name = name or together(row[1] for row in parts)
            color = color or next((row[2] for row in parts if row[2]), None)
            if name or color:
                classes.append([value, name, color])
        return {
            **rasters,
            "class_map": [list(pair) for pair in become.items()],
            "classes": classes,
        }
