"""Detect the format of a folder, and read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...errors import InputError
from ...events import Reporter
from . import arcgis, coco, imagenet, voc
from .foreign import ForeignFolder

# In the order of detection: image folders last, since all formats contain some.
READERS: dict[str, Any] = {"arcgis": arcgis, "voc": voc, "coco": coco, "imagenet": imagenet}
NEEDED = {
    "arcgis": "map.txt, esri_accumulated_stats.json and esri_model_definition.emd, which ArcGIS writes when an export "
    "is complete",
    "voc": "JPEGImages with SegmentationClass or ImageSets",
    "coco": "a JSON file with images, annotations and categories",
    "imagenet": "one folder of images per class",
}


def read_folder(folder: Path, folder_format: str, reporter: Reporter) -> ForeignFolder:
    """Read a folder of another program.

    Args:
        folder: The folder.
        folder_format: One of config.CHIP_FOLDERS, or "auto" to detect it.
        reporter: Receives warnings.

    Raises:
        InputError: The folder does not have this format, or something in it cannot be used.
    """
    if not folder.is_dir():
        raise InputError(f"The folder {folder} does not exist.", "Choose another folder.")
    if (folder / "dataset.json").is_file() and (folder / "chips.gpkg").is_file():
        raise InputError(f"{folder} is already a chip dataset of Terrazzo.", "Use it without import.")
    kinds = list(READERS) if folder_format == "auto" else [folder_format]
    for kind in kinds:
        if not READERS[kind].recognise(folder):
            continue
        if kind == "imagenet" and folder_format == "auto":
            _check_no_rest(folder)
        return READERS[kind].read(folder, reporter)
    if folder_format != "auto":
        raise InputError(
            f"{folder} is not a folder of {folder_format}, which has {NEEDED[folder_format]}.", "Choose another one."
        )
    looked = "; ".join(f"{kind}: {needed}" for kind, needed in NEEDED.items())
    raise InputError(f"{folder} has no known chip format. Terrazzo looked for {looked}.", "Choose another folder.")


def _check_no_rest(folder: Path) -> None:
    """Refuse folders "images" and "labels" as classes, since they are an incomplete export of ArcGIS."""
    if (folder / "images").is_dir() and (folder / "labels").is_dir():
        raise InputError(
            f"{folder} has images and labels, but not {NEEDED['arcgis']}.",
            "Export again in ArcGIS, or set FOLDER_FORMAT if it is from another program.",
        )
