"""Damaged or forged headers of model files are refused before a job uses them."""

import json
import re
import struct
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from known_classifier import header as known_header
from synthetic import reference, write_raster

from plugin.engine.classes import ClassTable
from plugin.engine.errors import InputError
from plugin.engine.mapping.reading.checks import pixel_sizes
from plugin.engine.models.classifier_arguments import LectureCnnArguments
from plugin.engine.models.classifier_network import create_classifier
from plugin.engine.models.factory import create_model
from plugin.engine.models.header import SECTIONS, ModelHeader, read_header
from plugin.engine.models.model_file import load_classifier, load_model, save_model
from plugin.engine.rasters.raster_io import RasterReader

ROOT = Path(__file__).resolve().parents[2]
FIELDS = {
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
    "recipe": {"epochs": 3},
}
HUGE = "1" + "0" * 400


def classes(**changes):
    return json.dumps([{**row, **changes} for row in FIELDS["classes"]])


def as_written(fields, version):
    """The JSON of a header: format 1 has all fields side by side, and calls the recipe "training"."""
    fields = {"format_version": version, **fields}
    if version == 1:
        return {"training" if name == "recipe" else name: value for name, value in fields.items()}
    sections = {
        section: {name: fields.pop(name) for name in names if name in fields} for section, names in SECTIONS.items()
    }
    return {**fields, **sections}


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
    ("recipe", deep(5000)),
    ("recipe", "[]"),
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
    ("format_version", "0"),
    ("format_version", "true"),
    ("format_version", "1.5"),
    ("format_version", HUGE),
]


def write_model(path, text):
    table = json.dumps({"__metadata__": {"terrazzo": text}}).encode()
    path.write_bytes(struct.pack("<Q", len(table)) + table)
    return str(path)


def with_field(name, text, version=2):
    return json.dumps(as_written({**FIELDS, name: "HERE"}, version)).replace('"HERE"', text)


@pytest.mark.parametrize("version", [1, 2])
def test_a_whole_header_is_read(tmp_path, version):
    found = read_header(write_model(tmp_path / "m.safetensors", json.dumps(as_written(FIELDS, version))))
    assert found.classes.colors == ["#ff0000"] * 3 and found.chip_size == 16
    assert found.recipe == {"epochs": 3} and found.arguments == FIELDS["arguments"]


def test_a_header_of_before_classification_is_still_read(tmp_path):
    values = {**as_written(FIELDS, 1), "task": "segmentation", "architecture": "unet", "encoder": "resnet18"}
    del values["arguments"]
    found = read_header(write_model(tmp_path / "m.safetensors", json.dumps(values)))
    assert found.arguments == {} and found.threshold is None and found.encoder == "resnet18"


def test_what_is_written_is_read_again():
    header = known_header(recipe={"seed": 3}, scales=((0.5, 1.0),), threshold=0.25, finished=False, description="ü")
    (text,) = header.to_metadata().values()
    assert ModelHeader.from_metadata(text, "m.safetensors") == header
    assert {name for names in SECTIONS.values() for name in names} == {spec.name for spec in fields(ModelHeader)}


def test_only_what_shapes_the_network_must_be_known(tmp_path):
    later = as_written(FIELDS, 2)
    later["about"]["place"] = "Bern"
    assert read_header(write_model(tmp_path / "m.safetensors", json.dumps(later))).chip_size == 16
    later["network"]["depth"] = 4
    with pytest.raises(InputError, match="depth"):
        read_header(write_model(tmp_path / "m.safetensors", json.dumps(later)))


@pytest.mark.parametrize("section", [*SECTIONS])
@pytest.mark.parametrize("text", ["null", "5", "[]", '"text"'])
def test_a_section_that_is_none_is_refused(tmp_path, section, text):
    values = json.dumps({**as_written(FIELDS, 2), section: "HERE"}).replace('"HERE"', text)
    with pytest.raises(InputError, match=re.escape("m.safetensors")):
        read_header(write_model(tmp_path / "m.safetensors", values))


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(("name", "text"), FAULTS, ids=lambda text: text[:30])
def test_a_header_that_no_job_can_rely_on_is_refused_in_words(tmp_path, name, text, version):
    with pytest.raises(InputError) as caught:
        read_header(write_model(tmp_path / "m.safetensors", with_field(name, text, version)))
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
    path = write_model(tmp_path / "m.safetensors", json.dumps(as_written(FIELDS, 2)))
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
    values = {**FIELDS, "classes": ClassTable.from_json(FIELDS["classes"])}
    for name in ("band_names", "mean", "std"):
        values[name] = tuple(values[name])
    save_model(path, network, ModelHeader(**values))
    return str(path)


BROKEN = [("running_mean", float("nan")), ("weight", float("inf")), ("running_var", -1.0)]


@pytest.mark.parametrize(("key", "value"), BROKEN)
def test_a_classifier_that_could_only_answer_nonsense_is_refused(tmp_path, key, value):
    load_classifier(classifier_file(tmp_path / "whole.safetensors"))
    with pytest.raises(InputError, match=rf"damaged: .*{key} (holds|contains)"):
        load_classifier(classifier_file(tmp_path / "m.safetensors", **{key: value}))


@pytest.mark.parametrize(("key", "value"), BROKEN)
def test_a_segmenter_that_could_only_answer_nonsense_is_refused(tmp_path, key, value):
    network = create_model("fcn8s", "mobilenet_v3_small", 2, 3)
    state = network.state_dict()
    state[next(name for name in state if name.endswith(key))].fill_(value)
    values = {
        **FIELDS,
        "task": "segmentation",
        "architecture": "fcn8s",
        "encoder": "mobilenet_v3_small",
        "arguments": {},
    }
    values["classes"] = ClassTable.from_json(FIELDS["classes"])
    for name in ("band_names", "mean", "std"):
        values[name] = tuple(values[name])
    save_model(tmp_path / "m.safetensors", network, ModelHeader(**values))
    with pytest.raises(InputError, match=rf"damaged: .*{key} (holds|contains)"):
        load_model(str(tmp_path / "m.safetensors"))


def test_a_segmenter_with_arguments_that_are_not_known_is_refused(tmp_path):
    fields = {**FIELDS, "task": "segmentation", "architecture": "unet", "encoder": "resnet18", "arguments": {"x": 1}}
    with pytest.raises(InputError, match=r"has no setting x.*which this version of Terrazzo does not know"):
        load_model(write_model(tmp_path / "m.safetensors", json.dumps(as_written(fields, 2))))
