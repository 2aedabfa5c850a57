"""Every job by its id, with small inputs, for killing and mutation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from foreign import SPLITS, make_dataset, photo, write_image
from heard import Heard
from known_classifier import CLASSES, header, trained_looking
from made_chips import Chip, textured, write_chips
from scene_folder import write_scene_folder
from synthetic import LEFT, TOP, class_mask, rectangle, scene, write_polygons, write_raster, write_scene

# Imported here, once for all calls.
import plugin.engine.assessment.classifier_report
import plugin.engine.assessment.segmenter_report
import plugin.engine.chips.formats.convert
import plugin.engine.chips.formats.importing
import plugin.engine.inspection.inspect_chips
import plugin.engine.mapping.activation_maps
import plugin.engine.mapping.features
import plugin.engine.mapping.scenes
import plugin.engine.mapping.segment
import plugin.engine.rasters.fetch_tiles
import plugin.engine.training.find_learning_rate
import plugin.engine.training.train_classifier
import plugin.engine.training.train_segmenter  # noqa: F401
from plugin.engine.chips.export import export_chips
from plugin.engine.chips.resplit import split_chips
from plugin.engine.config import ExportChipsConfig, SplitChipsConfig
from plugin.engine.events import Reporter
from plugin.engine.jobs import JOBS as WORKER_JOBS
from plugin.engine.models.classifier_arguments import read_arguments
from plugin.engine.models.factory import create_model
from plugin.engine.models.model_file import save_model
from plugin.engine.worker import carry_out

torch.set_num_threads(1)

Job = Callable[[dict[str, Any], Reporter], dict[str, Any]]
JOBS: dict[str, Job] = {
    "exportchips": lambda settings, reporter: export_chips(ExportChipsConfig.from_json(settings), reporter),
    "splitchips": lambda settings, reporter: split_chips(SplitChipsConfig.from_json(settings), reporter),
    **{name: partial(carry_out, name) for name in WORKER_JOBS},
}
SIZE = 32  # pixels of a chip
# Of trainings: as short as can be, on the processor.
BRIEF = {"epochs": 1, "device": "cpu", "batch_size": 8}
CUT = {"input": ["{stock}/scene/image.tif"], "label_rasters": ["{stock}/scene/labels.tif"], "output": "{here}/chips",
       "chip_size": SIZE, "block_size": SIZE}  # fmt: skip
TINY = {"architecture": "lecture_cnn", "filters": [4, 4], **BRIEF}
SEGMENTER = {"architecture": "unet", "encoder": "mobilenet_v3_small"}
STREAMED = {"architecture": "linknet", "encoder": "mobilenet_v2"}  # runs in strips
WHOLE = ([2], [5], [9], [5], [9], [2])  # the class of each chip
SEVERAL = ([2, 5], [5], [], [5, 9], [9, 2], [2])


def make_stock(stock: Path) -> None:
    """Write all inputs into a folder."""
    write_scene(stock / "scene", 96, 128)
    write_scene(stock / "beside", 96, 128, left=LEFT + 128)
    write_raster(stock / "scene/small.tif", scene(class_mask(40, 40)))
    tall = scene(class_mask(2**13, 2**9))  # as large as a map has to be for strips, and as quick as can be
    tall[:, 600:-600] = 0
    write_raster(stock / "scene/tall.tif", tall, nodata=0, options=["COMPRESS=DEFLATE"])
    squares = [(value, rectangle(LEFT + 20 * value, TOP - 60, LEFT + 20 * value + 18, TOP - 30)) for value in (1, 2, 3)]
    write_polygons(stock / "features.gpkg", squares, "features")
    write_polygons(stock / "labels.gpkg", squares)
    JOBS["exportchips"](filled(CUT, stock=stock, here=stock), Heard())
    bare = {**CUT, "label_rasters": [], "task": "unlabelled", "output": "{here}/rest"}
    JOBS["exportchips"](filled(bare, stock=stock, here=stock), Heard())
    write_scene_folder(stock / "classes", {"training": 8, "validation": 4, "test": 3}, size=16)
    make_dataset(stock / "regions")
    make_dataset(stock / "whole", "classification", shown=WHOLE)
    make_dataset(stock / "several", "multilabel", shown=SEVERAL)
    numbers = [Chip(textured(seed), np.full((64, 64), float(seed)), split) for seed, split in enumerate(SPLITS)]
    write_chips(stock / "targets", numbers, "regression")
    for kind in ("arcgis", "coco", "voc"):
        convert_into(stock / "regions", kind, stock / kind)
    for kind in ("arcgis", "imagenet", "voc"):
        convert_into(stock / "whole", kind, stock / f"{kind}_whole")
    photographs = stock / "photographs"
    for number in range(5):
        write_image(photographs / f"{number}.png", photo(number), "PNG")
    write_image(photographs / "5.jpg", photo(5), "JPEG")
    torch.manual_seed(0)
    for name, parts in (("segmenter", SEGMENTER), ("streamed", STREAMED)):
        segmenter = create_model(parts["architecture"], parts["encoder"], 3, len(CLASSES)).eval()
        described = header(3, task="segmentation", chip_size=SIZE, **parts)
        save_model(stock / f"{name}.safetensors", segmenter, described)
    shape = read_arguments("lecture_cnn", {"filters": [4, 4]}).to_json()
    classifier = trained_looking("lecture_cnn", 16, 3, filters=[4, 4])
    save_model(stock / "classifier.safetensors", classifier, header(3, chip_size=16, arguments=shape))
    torch.save(dict(classifier.state_dict()), stock / "weights.pth")
    torch.save({"state_dict": dict(classifier.state_dict()), "epoch": 3}, stock / "checkpoint.pth")


def convert_into(dataset: Path, kind: str, folder: Path) -> None:
    """Convert a dataset of the stock."""
    JOBS["convertchips"]({"chips": str(dataset), "output": str(folder), "folder_format": kind}, Heard())


def filled(settings: dict[str, Any], **folders: Any) -> dict[str, Any]:
    """Settings in which {names} of folders and others are replaced, in lists as well."""

    def fill(value: Any) -> Any:
        if isinstance(value, str):
            return value.format(**folders) if "{" in value else value
        return [fill(entry) for entry in value] if isinstance(value, (list, tuple)) else value

    return {name: fill(value) for name, value in settings.items()}
