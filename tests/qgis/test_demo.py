"""The demonstration: its scene, and styles beside files in headless runs."""

import json
import subprocess
import sys
from pathlib import Path

from osgeo import gdal
from qgis.core import QgsVectorLayer

DEMO = Path(__file__).resolve().parents[2] / "resources" / "demo"


def make_scene(folder):
    command = [sys.executable, str(DEMO / "make_scene.py"), str(folder), "--size", "640", "--pixel", "1"]
    subprocess.run(command, check=True, capture_output=True)
    return gdal.Open(str(folder / "scene.tif")), QgsVectorLayer(str(folder / "labels.gpkg"), "labels", "ogr")


def test_the_scene_is_the_same_each_time_and_holds_every_class(tmp_path):
    scene, labels = make_scene(tmp_path / "one")
    again, _ = make_scene(tmp_path / "other")
    assert [scene.GetRasterBand(b).Checksum() for b in range(1, 5)] == [
        again.GetRasterBand(b).Checksum() for b in range(1, 5)
    ]
    assert labels.uniqueValues(labels.fields().lookupField("landcover")) == {
        "building", "crops", "grass", "road", "trees", "water",
    }  # fmt: skip
    assert all(feature.geometry().isGeosValid() for feature in labels.getFeatures())


def test_a_path_without_a_project_brings_the_style_beside_it(run, tmp_path):
    make_scene(tmp_path)
    run("exportchips", INPUT=[str(tmp_path / "scene.tif")], LABELS=str(tmp_path / "labels.gpkg"),
        CLASS_FIELD="landcover", CHIP_SIZE=64, OUTPUT=str(tmp_path / "chips"))  # fmt: skip
    classes = json.loads((tmp_path / "chips" / "dataset.json").read_text())["classes"]
    assert {row["name"]: row["color"] for row in classes}["water"] == "#3f7fc1"
