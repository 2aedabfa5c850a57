"""Which format a folder has, and its reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...errors import InputError
from ...events import Reporter
from . import arcgis, coco, imagenet, voc
from .foreign import ForeignFolder

# In the order in which they are tried: folders of images are in all of them.
READERS: dict[str, Any] = {"arcgis": arcgis, "voc": voc, "coco": coco, "imagenet": imagenet}
NEEDED = {
    "arcgis": "map.txt, esri_accumulated_stats.json and esri_model_definition.emd, which ArcGIS writes when an export "
    "ends well",
    "voc": "JPEGImages with SegmentationClass or ImageSets",
    "coco": "a JSON file with images, annotations and categories",
    "imagenet": "a folder of images for each class",
}


def read_folder(folder: Path, folder_format: str, reporter: Reporter) -> ForeignFolder:
    """Read a folder of another program.

    Args:
        folder_format: One of config.CHIP_FOLDERS, or "auto".

    Raises:
        InputError: It is no such folder, or something in it cannot be used.
    """
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}.", "Choose one that is there.")
    if (folder / "dataset.json").is_file() and (folder / "chips.gpkg").is_file():
        raise InputError(f"{folder} is a chip dataset of Terrazzo already.", "Use it as it is.")
    kinds = list(READERS) if folder_format == "auto" else [folder_format]
    for kind in kinds:
        if not READERS[kind].recognise(folder):
            continue
        if kind == "imagenet" and folder_format == "auto":
            _check_no_rest(folder)
        return READERS[kind].read(folder, reporter)
    if folder_format != "auto":
        raise InputError(
            f"{folder} is no folder of {folder_format}: that has {NEEDED[folder_format]}.", "Choose another."
        )
    looked = "; ".join(f"{kind}: {needed}" for kind, needed in NEEDED.items())
    raise InputError(
        f"{folder} is no folder of chips that Terrazzo knows. It looked for {looked}.", "Choose another folder."
    )


def _check_no_rest(folder: Path) -> None:
    """Folders "images" and "labels" are no classes but an export of ArcGIS that was interrupted."""
    if (folder / "images").is_dir() and (folder / "labels").is_dir():
        raise InputError(
            f"{folder} has images and labels, and lacks {NEEDED['arcgis']}.",
            "Export them again in ArcGIS, or set FOLDER_FORMAT where the folder comes from elsewhere.",
        )
