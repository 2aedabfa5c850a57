"""Parameters for results of earlier algorithms: chip datasets and model files; dialogs propose the last one written."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Optional

from qgis.core import QgsSettings

from ..plugin.translation import tr
from .parameters import InputFile, InputFolder, Row

SETTING = "terrazzo/last_result/{}"  # per algorithm that writes datasets or models: the path of the last one
CHIP_WRITERS = ("exportchips", "importchips")
TRAINERS = {"trainclassifier": "Train a classifier", "trainsegmenter": "Train a segmentation network"}


class DatasetFolder(InputFolder):
    """A chip dataset."""

    writers: tuple[str, ...] = CHIP_WRITERS


class ModelFile(InputFile):
    """A model file, and the algorithms that write models of the right task."""

    writers: tuple[str, ...] = ()


def chips_row(more: str = "") -> DatasetFolder:
    """Return the row for a chip dataset.

    Args:
        more: Further sentences of the help.
    """
    text = tr("A folder written by “Export training chips” or “Import chips of other programs”.")
    return DatasetFolder("CHIPS", tr("Chip dataset"), f"{text} {more}".rstrip())


def model_row(*trainers: str) -> ModelFile:
    """Return the row for a model file.

    Args:
        trainers: Ids of the algorithms that train such models.
    """
    names = tr(" or ").join(f"“{tr(TRAINERS[trainer])}”" for trainer in trainers)
    text = tr("The .safetensors file written by {}.").format(names)
    kind = tr("Model files") + " (*.safetensors)"
    return ModelFile("MODEL", tr("Model file"), text, filter=kind, writers=trainers)


def remember(algorithm: str, results: dict[str, Any]) -> None:
    """Store the path of the dataset or model that a run of an algorithm, given by its id, has written in a dialog."""
    path = results.get("OUTPUT")
    if path and algorithm in (*CHIP_WRITERS, *TRAINERS):
        QgsSettings().setValue(SETTING.format(algorithm), path)


def last_written(writers: tuple[str, ...]) -> Optional[str]:
    """Return the newest of the last results of some algorithms that still exist; None if there is none."""
    paths = [str(QgsSettings().value(SETTING.format(writer), "") or "") for writer in writers]
    there = [path for path in paths if path and Path(path).exists()]
    return max(there, key=lambda path: Path(path).stat().st_mtime, default=None)


def propose_inputs(rows: Iterable[Row], panel: Any) -> None:
    """Fill in the last dataset and model in a dialog.

    Args:
        rows: The rows of the dialog's algorithm.
        panel: The dialog's parameters, QGIS's `ParametersPanel`.
    """
    for row in rows:
        if isinstance(row, (DatasetFolder, ModelFile)) and not panel.wrappers[row.name].parameterValue():
            path = last_written(row.writers)
            if path is not None:
                panel.wrappers[row.name].setParameterValue(path, panel.processing_context)
