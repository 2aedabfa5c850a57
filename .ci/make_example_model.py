"""Writes resources/models/chips_to_map.model3: export, train and map in one graphical model.

Run it with QGIS's Python when a default or a parameter of an algorithm has changed
(the seed keeps its lines in order):

    QT_HASH_SEED=0 QT_QPA_PLATFORM=offscreen /usr/bin/python3 .ci/make_example_model.py
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from qgis.core import (
    QgsApplication,
    QgsProcessing,
    QgsProcessingModelAlgorithm,
    QgsProcessingModelChildAlgorithm,
    QgsProcessingModelChildParameterSource,
    QgsProcessingModelOutput,
    QgsProcessingModelParameter,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterField,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterLayer,
)
from qgis.PyQt.QtCore import QPointF

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "resources" / "models" / "chips_to_map.model3"
Source = QgsProcessingModelChildParameterSource
POLYGONS = [QgsProcessing.SourceType.TypeVectorPolygon]
WHOLE = QgsProcessingParameterNumber.Type.Integer

# (parameter, what it does, where its box stands)
INPUTS = (
    (QgsProcessingParameterRasterLayer("IMAGE", "Image to learn from"),
     "The raster that the label polygons lie on.", (120, 40)),
    (QgsProcessingParameterFeatureSource("LABELS", "Label polygons", POLYGONS),
     "Polygons that say what is where.", (340, 40)),
    (QgsProcessingParameterField("CLASS_FIELD", "Class field", parentLayerParameterName="LABELS"),
     "The field that holds the class, as numbers or texts.", (560, 40)),
    (QgsProcessingParameterNumber("CHIP_SIZE", "Chip size (pixels or automatic)", WHOLE, None, True, 8, 8192),
     "Width and height of a chip in pixels.", (780, 40)),
    (QgsProcessingParameterNumber("EPOCHS", "Epochs (empty: automatic)", WHOLE, None, True, 1, 100000),
     "How often training goes through all training chips at most.", (780, 210)),
    (QgsProcessingParameterRasterLayer("MAP_IMAGE", "Image to map"),
     "The raster to map: the same as above, or another with the same bands.", (120, 380)),
)  # fmt: skip
ORDER = ["IMAGE", "LABELS", "CLASS_FIELD", "MAP_IMAGE", "CHIP_SIZE", "EPOCHS"]  # in the dialog


def add_step(
    model: QgsProcessingModelAlgorithm,
    name: str,
    algorithm: str,
    place: tuple[int, int],
    sources: dict[str, Source],
    outputs: dict[str, tuple[str, tuple[int, int]]],
) -> None:
    """Add an algorithm; what `sources` leaves open gets its default, as the model designer would write it.

    Args:
        outputs: Output of the algorithm → what the model calls it, and where its box stands.
    """
    child = QgsProcessingModelChildAlgorithm(algorithm)
    child.setChildId(name)
    child.setDescription(child.algorithm().displayName())
    child.setPosition(QPointF(*place))
    optional = QgsProcessingParameterDefinition.Flag.FlagOptional
    for row in child.algorithm().parameterDefinitions():
        if row.name() in sources:
            child.addParameterSources(row.name(), [sources[row.name()]])
        elif not row.isDestination() and not row.flags() & optional:
            child.addParameterSources(row.name(), [Source.fromStaticValue(row.defaultValue())])
    made = {}
    for output, (label, position) in outputs.items():
        made[label] = QgsProcessingModelOutput(label, label)
        made[label].setChildId(name)
        made[label].setChildOutputName(output)
        made[label].setPosition(QPointF(*position))
    child.setModelOutputs(made)
    model.addChildAlgorithm(child)


def build() -> QgsProcessingModelAlgorithm:
    """The model."""
    model = QgsProcessingModelAlgorithm("Chips to map", "Terrazzo", "chips_to_map")
    for parameter, text, place in INPUTS:
        parameter.setHelp(text)
        box = QgsProcessingModelParameter(parameter.name())
        box.setPosition(QPointF(*place))
        model.addModelParameter(parameter, box)
    model.setParameterOrder(ORDER)
    given = Source.fromModelParameter
    export = {name: given(name) for name in ("LABELS", "CLASS_FIELD", "CHIP_SIZE")}
    add_step(model, "export", "terrazzo:exportchips", (430, 210), {"INPUT": given("IMAGE"), **export}, {})
    train = {"CHIPS": Source.fromChildOutput("export", "OUTPUT"), "EPOCHS": given("EPOCHS")}
    files = {"OUTPUT": ("Model file", (700, 340)), "REPORT": ("Training report", (700, 420))}
    add_step(model, "train", "terrazzo:trainsegmenter", (430, 380), train, files)
    mapping = {"INPUT": given("MAP_IMAGE"), "MODEL": Source.fromChildOutput("train", "OUTPUT")}
    add_step(model, "map", "terrazzo:segmentraster", (430, 550), mapping, {"OUTPUT": ("Class raster", (700, 550))})
    text = "Exports chips from an image and its label polygons, trains a network on them, and maps an image with it."
    model.setHelpContent({"ALG_DESC": text})
    return model


def main() -> int:
    """Start QGIS with the plugin, and write the model."""
    application = QgsApplication([], False)
    application.initQgis()
    spec = importlib.util.spec_from_file_location(
        "terrazzo", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["terrazzo"] = module
    spec.loader.exec_module(module)
    plugin = module.classFactory(None)
    plugin.initProcessing()
    model = build()
    valid, problems = model.validate()
    if not valid or not model.toFile(str(TARGET)):
        print(f"{TARGET} was not written. {' '.join(problems)}", file=sys.stderr)
        return 1
    del model
    plugin.unload()
    return 0


if __name__ == "__main__":
    sys.exit(main())
