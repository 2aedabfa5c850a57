"""Trainings that start from a whole model with other classes or bands."""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from pathlib import Path
from typing import Any

import known_segmenter
import pytest
import torch
from heard import Heard
from known_classifier import header as classifier_header
from known_classifier import trained_looking
from synthetic import write_dataset

from plugin.engine.chips.dataset import read_info
from plugin.engine.classes import ClassTable
from plugin.engine.config import TrainClassifierConfig, TrainSegmenterConfig
from plugin.engine.errors import InputError
from plugin.engine.models.classifier_network import create_classifier, lay_out_classifier
from plugin.engine.models.classifier_weights import first_layer
from plugin.engine.models.decoder_settings import DecoderSettings
from plugin.engine.models.factory import create_model, lay_out_model
from plugin.engine.models.header import ModelHeader
from plugin.engine.models.model_file import load_tensors, save_model
from plugin.engine.models.starting import start_from
from plugin.engine.tasks import SEGMENTER_TASKS
from plugin.engine.training.early_checks import check_classifier, check_segmenter
from plugin.engine.training.recipe_file import with_recipe
from plugin.engine.training.train_classifier import train_classifier
from plugin.engine.training.train_segmenter import train_segmenter

SHAPE = "unet", "mobilenet_v2"
OLD = ClassTable.from_rows([(1, "Water", None), (4, "road", None), (7, "forest", None)])
NEW = ClassTable.from_rows([(1, "forest", None), (2, "water ", None), (3, "field", None), (4, "house", None)])


header = partial(known_segmenter.header, ("red", "green", "blue"), architecture=SHAPE[0], encoder=SHAPE[1], classes=OLD)


def begin(old: ModelHeader, tensors: dict[str, torch.Tensor], classes: ClassTable, bands: tuple[str, ...]) -> Any:
    """A network that starts from another, what it was before, and the sentence of the log."""
    torch.manual_seed(5)
    network = create_model(old.architecture, old.encoder, len(bands), len(classes) or 1)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    first = next(key for key, value in before.items() if value.ndim == 4)
    text = start_from(
        network, old, tensors, classes, bands, first,
        lambda outputs: lay_out_model(old.architecture, old.encoder, len(bands), outputs, DecoderSettings()),
    )  # fmt: skip
    return network.state_dict(), before, text, first


@pytest.mark.parametrize("architecture", ["unet", "fcn8s", "fcn"])
def test_all_that_fits_is_taken_and_rows_of_classes_of_the_same_name(architecture: str) -> None:
    encoder = "resnet18" if architecture == "fcn" else SHAPE[1]
    old = header(architecture=architecture, encoder=encoder)
    torch.manual_seed(0)
    tensors = create_model(architecture, encoder, 3, 3).state_dict()
    now, before, text, first = begin(old, tensors, NEW, ("nir", "red", "green", "blue"))
    outputs = [key for key in now if key.startswith("decoder.") and now[key].shape[:1] == (4,)]
    assert outputs
    for key in outputs:
        assert now[key][0].equal(tensors[key][2]) and now[key][1].equal(tensors[key][0])  # forest and water
        assert now[key][2:].equal(before[key][2:])
    assert now[first][:, 1:].equal(tensors[first] * 0.75)  # red, green and blue, as of three bands
    assert now[first][:, 0].allclose(tensors[first].mean(1) * 0.75)
    others = [key for key in now if key not in (*outputs, first)]
    assert all(now[key].equal(tensors[key]) for key in others)
    assert f"{len(others) + 1} of {len(others) + 1} tensors" in text
    assert "fitted from red, green, blue to nir, red, green, blue" in text
    assert text.endswith("of the output layer, forest, water  are taken and field, house are new.")


def test_the_same_classes_in_another_order_keep_their_meaning() -> None:
    torch.manual_seed(0)
    tensors = create_model(*SHAPE, 3, 3).state_dict()
    turned = ClassTable.from_rows([(1, "forest", None), (2, "road", None), (3, "water", None)])
    now, _, text, first = begin(header(), tensors, turned, ("red", "green", "blue"))
    (weight,) = (key for key in now if key.startswith("decoder.head") and key.endswith("weight"))
    assert now[weight].equal(tensors[weight].flip(0)) and now[first].equal(tensors[first])
    assert "are new" not in text and "fitted" not in text


def test_numbers_go_on_as_numbers_and_begin_anew_after_classes() -> None:
    target = {"mean": 1.0, "std": 2.0, "minimum": 0.0, "maximum": 3.0}
    torch.manual_seed(0)
    tensors = create_model(*SHAPE, 3, 1).state_dict()
    none = ClassTable(())
    old = header(task="regression", classes=none, target=target)
    now, _, text, _ = begin(old, tensors, none, ("red", "green", "blue"))
    assert all(value.equal(tensors[key]) for key, value in now.items()) and "output layer is taken" in text
    torch.manual_seed(0)
    tensors = create_model(*SHAPE, 3, 3).state_dict()
    now, before, text, _ = begin(header(), tensors, none, ("red", "green", "blue"))
    (weight,) = (key for key in now if key.startswith("decoder.head") and key.endswith("weight"))
    assert now[weight].equal(before[weight]) and "output layer is new" in text


def test_what_has_another_shape_is_left_and_named() -> None:
    torch.manual_seed(0)
    tensors = create_model(*SHAPE, 3, 3, DecoderSettings(decoder_width=0.5)).state_dict()
    now, before, text, _ = begin(header(), tensors, OLD, ("red", "green", "blue"))
    assert all(now[key].equal(tensors[key]) for key in now if key.startswith("encoder."))
    assert "decoder.blocks" in text and "… not)" in text
    assert any(now[key].equal(before[key]) and now[key].ndim == 4 for key in now if key.startswith("decoder.blocks"))


@pytest.mark.parametrize("name", ["lecture_cnn", "mlp", "squeezenet1_1"])
def test_classifiers_start_so_as_well(name: str) -> None:
    size, bands = 32, ("a", "b", "c")
    old = create_classifier(name, 2, 3, size)
    described = classifier_header(band_names=("b", "a"), mean=(0.0,) * 2, std=(1.0,) * 2, architecture=name)
    torch.manual_seed(1)
    network = create_classifier(name, 3, 2, size)
    kept = ClassTable.from_rows([(1, "bright", None), (2, "other", None)])
    text = start_from(
        network, described, old.state_dict(), kept, bands, first_layer(network),
        lambda outputs: lay_out_classifier(name, 3, outputs, size, None),
    )  # fmt: skip
    assert network.output.weight[0].equal(old.output.weight[2]) and "bright is taken and other is new" in text
    first = first_layer(network)
    new, earlier = (model.state_dict()[first] for model in (network, old))
    new, earlier = (value.reshape(len(value), count, -1) for value, count in ((new, 3), (earlier, 2)))
    assert new[:, 0].allclose(earlier[:, 1] * 2 / 3) and new[:, 2].allclose(earlier.mean(1) * 2 / 3)


@pytest.fixture(scope="module")
def chips(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_dataset(tmp_path_factory.mktemp("chips"))


@pytest.fixture
def model(tmp_path: Path, chips: str) -> str:
    """A model file of two of the three classes of the chips, and another one."""
    info = read_info(chips)
    classes = ClassTable.from_rows([(1, "forest", None), (2, "water", None), (3, "snow", None)])
    torch.manual_seed(0)
    path = tmp_path / "earlier.safetensors"
    described = header(band_names=info.band_names, classes=classes, arguments={"decoder_width": 0.5})
    save_model(path, create_model(*SHAPE, 3, 3, DecoderSettings(decoder_width=0.5)).eval(), described)
    return str(path)


def settings(chips: str, folder: Path, **values: Any) -> TrainSegmenterConfig:
    common = {"chips": chips, "output": str(folder / "m.safetensors"), "steps": 2, "device": "cpu", "batch_size": 2}
    return TrainSegmenterConfig.from_json({**common, **values})


def test_a_training_starts_from_a_model_with_its_network(chips: str, model: str, tmp_path: Path) -> None:
    heard = Heard()
    train_segmenter(
        settings(chips, tmp_path, start_from=model, learning_rate=1e-8, report=str(tmp_path / "r.html")), heard
    )
    described, tensors = load_tensors(str(tmp_path / "m.safetensors"), SEGMENTER_TASKS)
    assert (described.architecture, described.encoder, described.arguments) == (*SHAPE, {"decoder_width": 0.5})
    (text,) = (line for line in heard.logs if line.startswith(f"The network starts from {model}: "))
    assert "water, forest are taken and field is new" in text
    earlier = load_tensors(model, SEGMENTER_TASKS)[1]
    (weight,) = (key for key in tensors if key.startswith("decoder.head") and key.endswith("weight"))
    assert tensors[weight][2].allclose(earlier[weight][0], atol=1e-6)  # forest
    same = [key for key in tensors if key.endswith("conv.weight") or key.endswith("0.weight")]
    assert same and all(tensors[key].allclose(earlier[key], atol=1e-6) for key in same)
    assert "all of earlier.safetensors" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_a_classifier_starts_from_a_model(tmp_path: Path) -> None:
    chips = write_dataset(tmp_path / "set", chip_size=32, task="classification")
    info = read_info(chips)
    path = tmp_path / "earlier.safetensors"
    described = classifier_header(
        band_names=info.band_names, mean=(100.0,) * 3, std=(50.0,) * 3, chip_size=32, classes=info.classes,
        arguments={"filters": [4, 4]},
    )  # fmt: skip
    save_model(path, trained_looking("lecture_cnn", 32, 3, 3, filters=(4, 4)), described)
    heard = Heard()
    config = TrainClassifierConfig.from_json({
        "chips": chips, "output": str(tmp_path / "m.safetensors"), "start_from": str(path), "epochs": 1,
        "device": "cpu",
    })  # fmt: skip
    train_classifier(with_recipe(config), heard)
    assert any("of the output layer, water, field, forest are taken" in line for line in heard.logs)


def test_settings_that_contradict_the_model_are_refused_early(chips: str, model: str, tmp_path: Path) -> None:
    info = read_info(chips)
    check_segmenter(with_recipe(settings(chips, tmp_path, start_from=model)), chips, info)
    for values, message in (
        ({"encoder": "resnet18"}, r"is a model of unet with mobilenet_v2, and the network is to be unet with resnet18"),
        ({"architecture": "fcn8s"}, "the network is to be fcn8s"),
        ({"pretrained": "imagenet"}, "PRETRAINED imagenet is given, and START_FROM"),
        ({"encoder_weights": model}, "ENCODER_WEIGHTS is given, and START_FROM"),
    ):
        with pytest.raises(InputError, match=message):
            check_segmenter(with_recipe(settings(chips, tmp_path, start_from=model, **values)), chips, info)
    with pytest.raises(InputError, match=r"no model file .*missing"):
        with_recipe(settings(chips, tmp_path, start_from=str(tmp_path / "missing.safetensors")))
    scenes = dataclasses.replace(info, task="classification")
    with pytest.raises(InputError, match="is for segmentation"):
        config = TrainClassifierConfig(chips=chips, output="m.safetensors", start_from=model)
        check_classifier(config, chips, scenes)
    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps({"start_from": "elsewhere.safetensors", "epochs": 3}))
    assert with_recipe(settings(chips, tmp_path, recipe=str(recipe), steps=None)).start_from is None
