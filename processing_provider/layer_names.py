"""What results are called in the project."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from qgis.core import QgsProcessingAlgorithm, QgsProcessingContext, QgsProcessingUtils
from qgis.PyQt.QtCore import QCoreApplication

from .parameters import Parameters


def file_name(path: Optional[str]) -> str:
    """What people call a file or folder: its name without ending; "" for a temporary one, which QGIS named."""
    if not path or Path(QgsProcessingUtils.tempFolder()) in Path(path).parents:
        return ""
    return Path(path).stem


def map_name(algorithm: QgsProcessingAlgorithm, parameters: Parameters, context: QgsProcessingContext) -> str:
    """What comes of a raster (INPUT) or a folder of photographs (INPUT_FOLDER) and a model: "scene6: landcover"."""
    layer = algorithm.parameterAsRasterLayer(parameters, "INPUT", context)
    image = layer.name() if layer is not None else file_name(parameters.get("INPUT_FOLDER"))
    return answer_name(image, algorithm.parameterAsFile(parameters, "MODEL", context))


def answer_name(subject: str, model: str) -> str:
    """What comes of something and a model file, in a few words."""
    words = file_name(model) or QCoreApplication.translate("Terrazzo", "map")
    return f"{subject}: {words}" if subject else words
