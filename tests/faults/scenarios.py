"""The jobs that are killed, and their inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

from jobs import BRIEF, CUT, SEGMENTER, TINY
from synthetic import reference
from tile_server import COLS, LEFT, ROWS, SIDE, SIZE, TOP, ZOOM

from plugin.engine.rasters.web_layer import zoom_sizes


@dataclass(frozen=True)
class Scenario:
    """A job on small inputs: {stock} stands for the folder of inputs, {here} for that of results.

    Attributes:
        results: Their names in {here}.
        earlier: Settings that differ in the run that made the earlier results; None = there are none.
        given: Folders of the stock that are copied into {here} first: the job changes them.
        once: Whether it refuses to replace a result.
        kept: Names in {here} that a run may leave when it is killed, for the next one.
    """

    name: str
    job: str
    settings: dict[str, Any]
    results: tuple[str, ...]
    earlier: Optional[dict[str, Any]] = None
    given: tuple[str, ...] = ()
    once: bool = False
    kept: tuple[str, ...] = ()


BESIDE = {"input": ["{stock}/beside/image.tif"], "label_rasters": ["{stock}/beside/labels.tif"]}
SCENE, SMALL = "{stock}/scene/image.tif", "{stock}/scene/small.tif"
CLASSIFIER, SEGMENTING = "{stock}/classifier.safetensors", "{stock}/segmenter.safetensors"
TILES = {"tile_size": 64, "halo": 32, "device": "cpu"}
# A server of tiles on this machine is at {address}.
LAYER = {"title": "ground", "url": "{address}/{{z}}/{{x}}/{{y}}.png", "resolutions": zoom_sizes(0, ZOOM, SIDE),
         "crs_wkt": reference(3857).ExportToWkt(), "fetched_size": zoom_sizes(ZOOM, ZOOM, SIDE)[0]}  # fmt: skip
WHOLE = (LEFT, TOP - ROWS * SIDE * SIZE, LEFT + COLS * SIDE * SIZE, TOP)
# Of a training whose baseline is over.
CHECKPOINTS = ("model.checkpoint.safetensors", "model.baseline.checkpoint.safetensors")
LEARNING = {"chips": "{stock}/chips", "output": "{here}/model.safetensors", "seed": 1, **SEGMENTER, **BRIEF}
SCENES = {"model": CLASSIFIER, "stride": 16, "device": "cpu"}

SCENARIOS = (
    Scenario("export", "exportchips", {**CUT, "overwrite": True}, ("chips",)),
    Scenario("export over", "exportchips", {**CUT, "overwrite": True}, ("chips",), {"seed": 7, "chip_size": 16}),
    Scenario("export resumed", "exportchips", {**CUT, "resume": True, "overwrite": True}, ("chips",), {"seed": 7}),
    Scenario("export appended", "exportchips", {**CUT, **BESIDE, "append": True}, ("chips",), {**CUT, "append": False}),
    Scenario("split", "splitchips", {"chips": "{here}/chips", "seed": 5}, ("chips",), None, ("chips",)),
    Scenario(
        "import", "importchips", {"input": "{stock}/coco", "output": "{here}/chips", "overwrite": True},
        ("chips",), {"input": "{stock}/arcgis"},
    ),
    *(
        Scenario(
            f"convert to {kind}", "convertchips",
            {"chips": f"{{stock}}/{chips}", "output": "{here}/folder", "folder_format": kind, "overwrite": True},
            ("folder",), {"folder_format": "voc"},
        )
        for kind, chips in (("arcgis", "regions"), ("coco", "regions"), ("imagenet", "whole"))
    ),
    Scenario(
        "inspect", "inspectchips",
        {"chips": "{stock}/chips", "report": "{here}/report.html", "suspects": "{here}/suspects.gpkg"},
        ("report.html", "suspects.gpkg"), {"chips": "{stock}/regions"},
    ),
    Scenario(
        "segmenter", "trainsegmenter", LEARNING, ("model.safetensors",), {"seed": 2}, kept=CHECKPOINTS[:1],
    ),
    *(
        Scenario(
            name, "trainsegmenter", {**LEARNING, "unlabelled_chips": "{stock}/rest", "baseline": True, **more},
            ("model.safetensors",), {"seed": 2}, kept=CHECKPOINTS,
        )
        for name, more in (("unlabelled", {}), ("unlabelled resumed", {"resume": True}))
    ),
    Scenario(
        "learning rate", "findlearningrate",
        {"chips": "{stock}/classes", "report": "{here}/rates.html", "test_steps": 30, "device": "cpu",
         "architecture": "lecture_cnn", "filters": [4, 4]},
        ("rates.html",), {"test_steps": 40},
    ),
    Scenario(
        "tiles", "fetchtiles", {**LAYER, "extent": WHOLE, "output": "{here}/tiles.tif"}, ("tiles.tif",),
        {"extent": (LEFT, TOP - SIDE * SIZE, LEFT + SIDE * SIZE, TOP)},
    ),
    Scenario(
        "tiles kept", "fetchtiles",
        {**LAYER, "extent": WHOLE, "output": "{here}/tiles.tif", "tile_cache": "{stock}/kept", "keep_tiles": 7},
        ("tiles.tif",), {"extent": (LEFT, TOP - SIDE * SIZE, LEFT + SIDE * SIZE, TOP)},
    ),
    Scenario(
        "classifier", "trainclassifier",
        {"chips": "{stock}/classes", "output": "{here}/model.safetensors", "report": "{here}/report.html", **TINY,
         "seed": 1, "epochs": 3},
        ("model.safetensors", "report.html"), {"seed": 2}, kept=CHECKPOINTS[:1],
    ),
    Scenario(
        "segment", "segmentraster",
        {"input": SCENE, "model": SEGMENTING, "output": "{here}/map.tif", "probabilities": "{here}/shares.tif",
         **TILES},
        ("map.tif", "shares.tif"), {"input": SMALL},
    ),
    Scenario(
        "segment resumed", "segmentraster",
        {"input": SCENE, "model": SEGMENTING, "output": "{here}/map.tif", "areas": "{here}/areas.csv", "resume": True,
         **TILES},
        ("map.tif", "areas.csv"), {"input": SMALL},
    ),
    Scenario(
        "strips resumed", "segmentraster",
        {"input": "{stock}/scene/tall.tif", "model": "{stock}/streamed.safetensors", "output": "{here}/map.tif",
         "areas": "{here}/areas.csv", "resume": True, "device": "cpu"},
        ("map.tif", "areas.csv"), {"input": SMALL},
    ),
    Scenario(
        "scenes", "classifyscenes",
        {"input": SCENE, "output": "{here}/map.tif", "probabilities": "{here}/shares.tif", "grid": "{here}/grid.gpkg",
         **SCENES},
        ("map.tif", "shares.tif", "grid.gpkg"), {"input": SMALL},
    ),
    Scenario(
        "scenes resumed", "classifyscenes",
        {"input": SCENE, "output": "{here}/map.tif", "areas": "{here}/areas.csv", "resume": True, **SCENES},
        ("map.tif", "areas.csv"), {"input": SMALL},
    ),
    Scenario("grid", "classifyscenes", {"input": SCENE, "grid": "{here}/grid.geojson", **SCENES}, ("grid.geojson",)),
    Scenario(
        "photographs", "classifyscenes",
        {"input_folder": "{stock}/photographs", "table": "{here}/table.csv", "model": CLASSIFIER, "device": "cpu"},
        ("table.csv",), {"model": CLASSIFIER, "threshold": 0.99},
    ),
    Scenario(
        "features", "classifyfeatures",
        {"input": SCENE, "model": CLASSIFIER, "features": "{stock}/features.gpkg", "output": "{here}/answers.gpkg",
         "device": "cpu"},
        ("answers.gpkg",), {"placement": "bounding_boxes"},
    ),
    Scenario(
        "activation", "activationmaps",
        {"input": SCENE, "model": CLASSIFIER, "output": "{here}/heat.tif", "target_class": "dark", **TILES},
        ("heat.tif",), {"target_class": "bright"},
    ),
    Scenario(
        "overlays", "activationmaps",
        {"input_folder": "{stock}/photographs", "model": CLASSIFIER, "pictures": "{here}/pictures", "device": "cpu"},
        ("pictures",), once=True,
    ),
    Scenario(
        "filters", "activationmaps",
        {"model": CLASSIFIER, "kind": "filters", "picture": "{here}/filters.png"}, ("filters.png",),
    ),
)  # fmt: skip
