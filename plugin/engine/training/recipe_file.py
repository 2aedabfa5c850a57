"""Settings of an earlier training: from its model file, or from a JSON file; its network. Needs no torch."""

from __future__ import annotations

from typing import Any, TypeVar

from ..config import TrainClassifierConfig, TrainingConfig, TrainSegmenterConfig
from ..errors import InputError
from ..models.classifier_arguments import ARGUMENTS
from ..models.decoder_settings import DecoderSettings
from ..models.encoders import TIMM
from ..models.header import read_header
from ..recipe.augmentation import AugmentationSettings
from ..strangers.paths import read_bytes
from ..strangers.rules import DAMAGES
from ..strangers.texts import parse_json

Config = TypeVar("Config", bound=TrainingConfig)

MOST_BYTES = 2**20
# Settings that are no part of a recipe: what is trained on, what is written, and where the training runs.
OWN = frozenset(
    (
        "chips", "output", "report", "history", "tensorboard", "fold", "encoder_weights", "start_from",
        "download_weights", "device", "resume", "checkpoint_minutes", "recipe", "cache_folder", "compile",
        "unlabelled_chips", "baseline",
    )
)  # fmt: skip
LENGTHS = ("epochs", "steps", "minutes")
# What is chosen for the value of another setting, by hand or by itself, and would not suit another value of it.
BELONGING = {
    **dict.fromkeys(LENGTHS, (*LENGTHS, "freeze_epochs")),
    "augmentation": tuple(AugmentationSettings.declared()),
    "class_weights": ("class_weight_list",),
    "freeze": ("freeze_epochs",),
    "optimizer": ("learning_rate", "weight_decay", "square_momentum", "epsilon"),
}
BELONGING_TO_NETWORK: dict[type[TrainingConfig], dict[str, tuple[str, ...]]] = {
    TrainSegmenterConfig: {
        "architecture": tuple(DecoderSettings.declared()),
        "encoder": ("timm_encoder", "pretrained"),
        "timm_encoder": ("pretrained",),
    },
    TrainClassifierConfig: {"architecture": (*ARGUMENTS, "pretrained")},
}


def with_recipe(config: Config) -> Config:
    """The settings with those of their recipe, and the network of START_FROM, wherever they have the default value.

    Raises:
        InputError: The recipe or the model cannot be read, or has a setting that this training does not have.
    """
    if config.recipe:
        config = _with_settings(config, config.recipe)
    return _with_network(config, config.start_from) if config.start_from else config


def _with_network(config: Config, path: str) -> Config:
    """The settings with those that shape the network of a model file."""
    header = read_header(path)
    name = header.encoder
    encoder = {"timm_encoder": name.removeprefix(TIMM)} if name.startswith(TIMM) else {"encoder": name}
    found = {"architecture": header.architecture, **(encoder if name else {}), **header.arguments}
    declared, given = config.declared(), config.to_json()
    return config.replace(
        **{
            name: value
            for name, value in found.items()
            if name in declared and given[name] == declared[name].default and value != given[name]
        }
    )


def _with_settings(config: Config, recipe: str) -> Config:
    """The settings with those of a recipe."""
    found = read_recipe(recipe)
    declared = config.declared()
    unknown = sorted(set(found) - set(declared))
    if unknown:
        raise InputError(
            f"The recipe {recipe} has {', '.join(name.upper() for name in unknown)}, which this training does "
            "not have.",
            "Choose the recipe of a training of this kind.",
        )
    found = {name: _listed(value, declared[name].kind) for name, value in found.items()}
    given = {name: value for name, value in config.to_json().items() if value != declared[name].default}
    belonging = {**BELONGING, **BELONGING_TO_NETWORK.get(type(config), {})}
    changed = [name for name in belonging if name in given and given[name] != found.get(name, declared[name].default)]
    unfit = {other for name in changed for other in belonging[name]}
    found = {name: value for name, value in found.items() if name not in unfit}
    try:
        return config.replace(**{**found, **given})
    except InputError as error:
        raise InputError(f"The recipe {recipe} does not fit: {error.problem}", error.remedy) from error


def read_recipe(path: str) -> dict[str, Any]:
    """The settings in a file, by name.

    A JSON file holds an object of settings, in upper or lower case; QGIS's "Copy as JSON" of a training is one as well.

    Raises:
        InputError: It is no recipe.
    """
    if path.lower().endswith(".safetensors"):
        values = read_header(path).recipe
    else:
        try:
            values = parse_json(read_bytes(path, MOST_BYTES))
            values = dict(values.get("inputs", values))
        except OSError as error:
            raise InputError(f"The recipe {path} cannot be read ({error.strerror}).", "Check the path.") from error
        except DAMAGES as error:
            raise InputError(
                f"{path} is no recipe ({error}).", "Choose a model file, or a JSON file with an object of settings."
            ) from error
    # In QGIS's JSON what is not given is null or an empty text.
    return {
        name.lower(): value for name, value in values.items() if name.lower() not in OWN and value not in (None, "")
    }


def _listed(value: Any, kind: str) -> Any:
    """A list of numbers, where a setting is one and the dialog has it as a text: "8, 16"."""
    if not (kind.startswith("tuple[") and isinstance(value, str)):
        return value
    number = int if kind.startswith("tuple[int") else float
    try:
        return [number(part) for part in value.split(",")]
    except ValueError:
        return value  # which the setting will refuse
