"""Names of results in the project."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Optional

from qgis.core import QgsProcessingAlgorithm, QgsProcessingContext, QgsProcessingUtils

from ..plugin.translation import tr
from .parameters import Parameters


def file_name(path: Optional[str]) -> str:
    """Return the name of a file or folder without extension; "" for a temporary one, which has a random name."""
    if not path or Path(QgsProcessingUtils.tempFolder()) in Path(path).parents:
        return ""
    return Path(path).stem


def dataset_name(path: Optional[str]) -> str:
    """Return the name of a chip dataset without the "_chips" that dialogs append; "" if nothing is left."""
    return re.sub(r"^chips$|_chips(?=_\d+$|$)", "", file_name(path))


def map_name(algorithm: QgsProcessingAlgorithm, parameters: Parameters, context: QgsProcessingContext) -> str:
    """Return the name for the result of a raster (INPUT) or folder of photographs (INPUT_FOLDER) and a model: "scene6:
    landcover".
    """
    layer = algorithm.parameterAsRasterLayer(parameters, "INPUT", context)
    image = layer.name() if layer is not None else file_name(parameters.get("INPUT_FOLDER"))
    return answer_name(image, algorithm.parameterAsFile(parameters, "MODEL", context))


def answer_name(subject: str, model: str) -> str:
    """Return the name for the result of a subject and a model file."""
    words = file_name(model) or tr("map")
    return f"{subject}: {words}" if subject else words
