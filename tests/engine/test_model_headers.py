"""Headers of model files that somebody damaged, or made up: each is refused in words before a job relies on it."""

import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from known_classifier import header as known_header
from synthetic import reference, write_raster

from plugin.engine.classes import ClassTable
from plugin.engine.errors import InputError
from plugin.engine.mapping.checks import pixel_sizes
from plugin.engine.models.classifier_arguments import LectureCnnArguments
from plugin.engine.models.classifier_network import create_classifier
from plugin.engine.models.factory import create_model
from plugin.engine.models.header import ModelHeader, read_header
from plugin.engine.models.model_file import load_classifier, load_model, save_model
from plugin.engine.rasters.raster_io import RasterReader

ROOT = Path(__file__).resolve().parents[2]
WHOLE = {
    "format_version": 1,
    "task": "classification",
    "architecture": "lecture_cnn",
    "encoder": "",
    "band_names": ["a", "b"],
    "dtype": "uint8",
    "nodata": None,
    "mean": [1.0, 2.0],
    "std": [1.0, 0.0],
    "classes": [{"value": value, "name": f"c{value}", "color": "#FF0000"} for value in range(3)],
    "chip_size": 16,
    "pixel_size": 1.0,
    "crs": "",
    "arguments": {"filters": [4], "hidden_sizes": [4]},
}
HUGE = "1" + "0" * 400


def classes(**changes):
    return json.dumps([{**row, **changes} for row in WHOLE["classes"]])


def deep(levels):
    return "[" * levels + "]" * levels


# A field, and the JSON text that stands in it.
FAULTS = [
    ("task", '["classification"]'),
    ("architecture", "{}"),
    ("encoder", "null"),
    ("band_names", "[1, 2]"),
    ("band_names", "[]"),
    ("band_names", '["a", "b", "c"]'),
    ("dtype", '"i4,,"'),
    ("dtype", '"O"'),
    ("dtype", '"complex64"'),
    ("dtype", '[["a", "u1"]]'),
    ("nodata", '"none"'),
    ("nodata", "NaN"),
    ("nodata", HUGE),
    ("mean", '["a", 0]'),
    ("mean", "[true, 0]"),
    ("mean", f"[{HUGE}, 0]"),
    ("mean", "[1e999, 0]"),
    ("mean", "[1e308, 0]"),
    ("std", "[1e-300, 1]"),
    ("std", "[-1, 1]"),
    ("std", "[NaN, 1]"),
    ("classes", "[]"),
    ("classes", "{}"),
    ("classes", '[{"value": 1e999, "name": "x", "color": "#ff0000"}]'),
    ("classes", f'[{{"value": {10**30}, "name": "x", "color": "#ff0000"}}]'),
    ("classes", f'[{{"value": {2**31}, "name": "x", "color": "#ff0000"}}]'),
    ("classes", classes(color="red")),
    ("classes", classes(color="#ff00")),
    ("classes", json.dumps([{"value": value, "name": "x", "color": "#ff0000"} for value in range(300)])),
    ("chip_size", HUGE),
    ("chip_size", "0"),
    ("chip_size", "16.5"),
    ("chip_size", "true"),
    ("chip_size", "1000000000"),
    ("chip_size", "null"),
    ("pixel_size", "0"),
    ("pixel_size", "-1"),
    ("pixel_size", "1e999"),
    ("crs", "5"),
    ("crs", '"junk"'),
    ("crs", '"http://example.com/crs"'),
    ("crs", '"/etc/passwd"'),
    ("training", deep(5000)),
    ("training", "[]"),
    ("history", "{}"),
    ("history", "[5]"),
    ("metrics", "null"),
    ("arguments", "[1, 2]"),
    ("threshold", "2"),
    ("threshold", "true"),
    ("threshold", '"high"'),
    ("threshold", "NaN"),
    ("placement", "[1]"),
    ("finished", '"no"'),
    ("description", "{}"),
    ("format_version", '"9"'),
    ("format_version", HUGE),
]


def write_model(path, text):
    table = json.dumps({"__metadata__": {"terrazzo": text}}).encode()
    path.write_bytes(struct.pack("<Q", len(table)) + table)
    return str(path)


def with_field(name, text):
    return json.dumps({**WHOLE, name: "HERE"}).replace('"HERE"', text)


def test_a_whole_header_is_read(tmp_path):
    found = read_header(write_model(tmp_path / "m.safetensors", json.dumps(WHOLE)))
    assert found.classes.colors == ["#ff0000"] * 3 and found.chip_size == 16


@pytest.mark.parametrize(("name", "text"), FAULTS, ids=lambda text: text[:30])
def test_a_header_that_no_job_can_rely_on_is_refused_in_words(tmp_path, name, text):
    with pytest.raises(InputError) as caught:
        read_header(write_model(tmp_path / "m.safetensors", with_field(name, text)))
    assert "m.safetensors" in caught.value.problem and len(caught.value.problem) < len(str(tmp_path)) + 300


@pytest.mark.parametrize("text", ["", "[]", "5", "{}", deep(100_000), '"text"'], ids=lambda text: text[:10])
def test_what_is_no_header_is_refused(tmp_path, text):
    with pytest.raises(InputError):
        read_header(write_model(tmp_path / "m.safetensors", text))


@pytest.mark.parametrize(
    "table",
    [deep(100_000), '{"a": {"data_offsets": [0, [8]]}}', '{"a": {"data_offsets": [0, 1e999]}}', '{"a": 5}', "[]"],
    ids=lambda text: text[:30],
)
def test_a_table_of_tensors_that_makes_no_sense_is_refused(tmp_path, table):
    path = tmp_path / "m.safetensors"
    path.write_bytes(struct.pack("<Q", len(table)) + table.encode())
    with pytest.raises(InputError):
        read_header(str(path))


@pytest.mark.parametrize("values", [(-5, 0, 255), (2**31 - 1,), (-(2**31) + 1, 7)])
def test_class_values_that_a_raster_can_hold_are_read(tmp_path, values):
    text = json.dumps([{"value": value, "name": "x", "color": "#ff0000"} for value in values])
    found = read_header(write_model(tmp_path / "m.safetensors", with_field("classes", text)))
    assert set(found.classes.values.tolist()) == set(values)


def test_headers_are_read_without_torch_and_gdal(tmp_path):
    path = write_model(tmp_path / "m.safetensors", json.dumps(WHOLE))
    code = (
        "import sys; from plugin.engine.models.header import read_header; read_header(sys.argv[1]);"
        "sys.exit(any(name in sys.modules for name in ('torch', 'osgeo', 'safetensors')))"
    )
    assert subprocess.run([sys.executable, "-c", code, path], cwd=ROOT).returncode == 0


def test_a_crs_that_cannot_be_read_is_said_in_words(tmp_path):
    raster = RasterReader(str(write_raster(tmp_path / "r.tif", torch.zeros(8, 8).numpy())))
    with pytest.raises(InputError, match="CRS in the model file cannot be read"):
        pixel_sizes(raster.info, known_header(crs="PROJCRS[junk"))
    assert pixel_sizes(raster.info, known_header(crs=reference(32633).ExportToWkt())) is not None


# The weights beside the header


def classifier_file(path, **changes):
    network = create_classifier("lecture_cnn", 2, 3, 16, LectureCnnArguments(filters=(4,), hidden_sizes=(4,)))
    state = network.state_dict()
    for key, value in changes.items():
        state[next(name for name in state if name.endswith(key))].fill_(value)
    values = {**WHOLE, "classes": ClassTable.from_json(WHOLE["classes"])}
    for name in ("band_names", "mean", "std"):
        values[name] = tuple(values[name])
    save_model(path, network, ModelHeader(**values))
    return str(path)


BROKEN = [("running_mean", float("nan")), ("weight", float("inf")), ("running_var", -1.0)]


@pytest.mark.parametrize(("key", "value"), BROKEN)
def test_a_classifier_that_could_only_answer_nonsense_is_refused(tmp_path, key, value):
    load_classifier(classifier_file(tmp_path / "whole.safetensors"))
    with pytest.raises(InputError, match=rf"damaged: .*{key} holds"):
        load_classifier(classifier_file(tmp_path / "m.safetensors", **{key: value}))


@pytest.mark.parametrize(("key", "value"), BROKEN)
def test_a_segmenter_that_could_only_answer_nonsense_is_refused(tmp_path, key, value):
    network = create_model("fcn8s", "mobilenet_v3_small", 2, 3)
    state = network.state_dict()
    state[next(name for name in state if name.endswith(key))].fill_(value)
    values = {**WHOLE, "task": "segmentation", "architecture": "fcn8s", "encoder": "mobilenet_v3_small"}
    values["classes"] = ClassTable.from_json(WHOLE["classes"])
    for name in ("band_names", "mean", "std"):
        values[name] = tuple(values[name])
    save_model(tmp_path / "m.safetensors", network, ModelHeader(**values))
    with pytest.raises(InputError, match=rf"damaged: .*{key} holds"):
        load_model(str(tmp_path / "m.safetensors"))
