"""Reads and checks the label parameters of an export."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

from qgis.core import QgsProcessingAlgorithm, QgsProcessingContext, QgsRasterLayer, QgsRectangle

from ..plugin.engine.errors import InputError
from ..plugin.engine.tasks import CLASS_TASKS, NUMBER_TASKS
from .class_styles import LayerStyle, raster_classes
from .class_table import ClassMapping
from .classes import ClassField, NumberField, OneClass, Values, find_field, together
from .features import ANY_KIND, FeatureSource, feature_source
from .layers import Images, gdal_path, given_crs, label_partners, raster_layers, vector_layer
from .parameters import Parameters
from .saved_styles import opened_plainly

FEATURE_PLACEMENTS = ("features", "bounding_boxes")


def check_labels(values: dict[str, Any], kinds: list[str]) -> None:
    """Check that the label parameters fit together, as far as this follows from the parameters alone.

    Args:
        values: Values of the parameters, by name in lower case.
        kinds: Those of LABELS, LABEL_RASTERS and LABEL_FOLDER that are given.

    Raises:
        InputError: They do not fit together.
    """
    task, placement = values["task"], values["placement"]
    around_features = placement in FEATURE_PLACEMENTS
    if len(kinds) > 1:
        raise InputError(f"{' and '.join(kinds)} are given together.", "Choose one of them.")
    if around_features and kinds != ["LABELS"]:
        raise InputError(
            f"PLACEMENT is {placement}, but no features are given to place chips at.",
            "Choose a vector layer as LABELS, or set PLACEMENT to grid or random.",
        )
    if values["blacken"] and not around_features:
        raise InputError(
            f"BLACKEN is set, but PLACEMENT is {placement}: such chips have no feature of their own.",
            "Set PLACEMENT to features or bounding_boxes, or BLACKEN to false.",
        )
    if not kinds and task != "unlabelled":
        raise InputError(
            "No labels are given.",
            "Choose label features as LABELS or label rasters as LABEL_RASTERS, or set TASK to unlabelled.",
        )
    if kinds and task == "unlabelled" and not around_features:
        raise InputError(f"TASK is unlabelled, but {kinds[0]} are given.", "Choose another TASK, or give no labels.")
    if values["buffer"] < 0:
        raise InputError(f"BUFFER is {values['buffer']:g}.", "Give 0 or more.")
    _check_fields(values, kinds)


def _check_fields(values: dict[str, Any], kinds: list[str]) -> None:
    features, task = kinds == ["LABELS"], values["task"]
    if task in NUMBER_TASKS:
        if features and not values["value_field"]:
            raise InputError(
                f"TASK is {task}, but no VALUE_FIELD is given.", "Choose the field of LABELS that holds the numbers."
            )
        for name in ("class_field", "class_table", "class_file"):
            if values[name]:
                raise InputError(f"TASK is {task}, but {name.upper()} is given.", "Leave it empty.")
    elif values["value_field"]:
        raise InputError(
            f"VALUE_FIELD is {values['value_field']}, but TASK is {task}.",
            "Set TASK to regression or chip_regression, or choose a CLASS_FIELD instead.",
        )
    if values["class_table"] and values["class_file"]:
        raise InputError("CLASS_TABLE and CLASS_FILE are both given.", "Choose one of them.")
    if (values["class_table"] or values["class_file"]) and features and not values["class_field"]:
        raise InputError(
            "A class table is given, but no CLASS_FIELD with the values to map.",
            "Choose the field of LABELS that holds the classes.",
        )
    by_field = values["overlap_rule"] == "field"
    if by_field and not (features and values["priority_field"]):
        raise InputError(
            "OVERLAP_RULE is field, but no PRIORITY_FIELD is given.",
            "Choose the field of LABELS that holds the priorities.",
        )
    if values["priority_field"] and not by_field:
        raise InputError(
            f"PRIORITY_FIELD is {values['priority_field']}, but OVERLAP_RULE is {values['overlap_rule']}.",
            "Set OVERLAP_RULE to field, or leave PRIORITY_FIELD empty.",
        )


def class_mapping(values: dict[str, Any]) -> ClassMapping:
    """Return the class table that the user gave in the dialog or as a file.

    Raises:
        InputError: It cannot be used.
    """
    if values["class_file"]:
        return ClassMapping.from_file(values["class_file"])
    return ClassMapping.from_rows("CLASS_TABLE", values["class_table"])


def label_features(
    algorithm: QgsProcessingAlgorithm,
    parameters: Parameters,
    context: QgsProcessingContext,
    values: dict[str, Any],
    images: Images,
    near: QgsRectangle,
    mapping: ClassMapping,
) -> Optional[FeatureSource]:
    """Return the features of LABELS, with what gives their values; None if LABELS is not given.

    Args:
        algorithm: The algorithm.
        parameters: Its parameters.
        context: The processing context.
        values: Values of the parameters, by name in lower case.
        images: The images.
        near: Only features that intersect it are used, in the CRS of the images.
        mapping: The user's class table.

    Raises:
        InputError: The layer or one of its fields cannot be used.
    """
    labels = feature_source(algorithm, parameters, "LABELS", context, images.crs, near, ANY_KIND)
    if labels is None:
        return None
    fields, title = labels.source.fields(), labels.title
    if values["task"] == "unlabelled":
        labels.values = Values()
    elif values["task"] in NUMBER_TASKS:
        labels.values = NumberField.of(fields, values["value_field"], title)
    else:
        style = LayerStyle.of(vector_layer(algorithm, parameters, "LABELS", context), context)
        name = values["class_field"]
        labels.values = ClassField.of(style, fields, name, title, mapping) if name else OneClass.of(style, title)
    labels.buffer = values["buffer"]
    if values["priority_field"]:
        # Only to report early that the field does not exist or holds no numbers.
        NumberField.of(fields, values["priority_field"], title)
        labels.rank = find_field(fields, values["priority_field"], title)[0]
    return labels


@dataclass(frozen=True)
class LabelRasters:
    """Label rasters, and what is known about their classes.

    Attributes:
        paths: Sources that GDAL opens.
        given: CRS of each as the user set it in QGIS, as WKT; "" for the file's own.
        shown: Layers whose style may name classes.
    """

    paths: list[str]
    given: list[str]
    shown: list[QgsRasterLayer]

    @classmethod
    def of(
        cls,
        algorithm: QgsProcessingAlgorithm,
        parameters: Parameters,
        context: QgsProcessingContext,
        values: dict[str, Any],
        images: Images,
    ) -> LabelRasters:
        """Return the label rasters of LABEL_RASTERS or LABEL_FOLDER.

        Args:
            algorithm: The algorithm.
            parameters: Its parameters.
            context: The processing context.
            values: Values of the parameters, by name in lower case.
            images: The images.

        Raises:
            InputError: A raster cannot be opened, an image has no label raster in the folder, or one image has several.
        """
        folder = values["label_folder"]
        found = cls._of_folder(folder, images) if folder else cls._of_layers(algorithm, parameters, context)
        if len(found.paths) > 1 and values["combine"] == "stack":
            raise InputError(
                f"COMBINE is stack, which makes one image on the pixels of the first raster, but {len(found.paths)} "
                "label rasters are given.",
                "Give one label raster.",
            )
        return found

    @classmethod
    def _of_layers(
        cls, algorithm: QgsProcessingAlgorithm, parameters: Parameters, context: QgsProcessingContext
    ) -> LabelRasters:
        layers = raster_layers(algorithm, parameters, "LABEL_RASTERS", context)
        return cls([gdal_path(layer) for layer in layers], [given_crs(layer) for layer in layers], layers)

    @classmethod
    def _of_folder(cls, folder: str, images: Images) -> LabelRasters:
        from ..plugin.engine.chips.sources import rasters_in

        paths = label_partners(images.paths, rasters_in(folder), folder)
        # One style is enough for all: a folder may hold thousands.
        return cls(paths, [""] * len(paths), [opened_plainly(paths[0], QgsRasterLayer, "gdal")])

    def settings(self, context: QgsProcessingContext, mapping: ClassMapping, task: str) -> dict[str, Any]:
        """Return the settings `label_rasters`, `label_crs`, `class_map` and `classes`.

        Raises:
            InputError: The class table does not fit the rasters.
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
