"""Loads pretrained weights of encoders, and downloads them if the user allows it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
from torch import nn

from ..errors import InputError, ResourceError
from .encoders import ENCODERS, library_name
from .factory import count_parameters, create_encoder
from .input_bands import adapt_filters, first_convolution
from .pretrained import PHOTO_STD
from .timm_encoders import create_timm_encoder
from .weights_file import Weights

ALIKE = 0.05  # tolerance between standard deviations of photographs
# The feature extractors of timm write layers_0 for layers.0.
TAKEN_APART = re.compile(r"^([a-z]+)_(\d+)\.")
# Prefixes that wrappers of a network add to the keys.
PREFIXES = re.compile(r"^(?:(?:module|model|network|encoder|backbone)\.)+")
# Networks with the same tensors in the same order in two libraries, under different names.
OTHER_SPELLINGS = {
    "mobilenet_v2": lambda: timm.create_model("mobilenetv2_100"),
    "mobilenet_v3_small": lambda: torchvision.models.mobilenet_v3_small(),
}


def describe_download(encoder: str) -> str:
    """One sentence for the log: what `download_weights` would fetch, how large it is, and under which licence.

    Raises:
        InputError: Nobody offers weights for this encoder.
    """
    with torch.device("meta"):
        megabytes = 4 * count_parameters(create_encoder(encoder, 3)) / 1e6
    config = _timm_config(encoder)
    what = f"the weights {config.hf_hub_id} of timm" if config else f"ImageNet weights of {encoder}"
    licence = config.license if config else None
    return (
        f"Downloading {what} from the Hugging Face hub, about {megabytes:.0f} MB, licence {licence or 'not stated'}, "
        "as asked."
    )


def download_weights(encoder: str) -> Weights:
    """Download the pretrained weights of an encoder from the Hugging Face hub; called only if the user allows it.

    Raises:
        ResourceError: The hub does not answer.
    """
    config = _timm_config(encoder)
    try:
        if config:
            network = create_timm_encoder(library_name(encoder).removeprefix("tu-"), 32, True, pretrained=True)
        else:
            network = smp.encoders.get_encoder(library_name(encoder), weights="imagenet")
    except Exception as error:  # the hub's client raises errors of several libraries
        raise ResourceError(
            f"The pretrained weights of {encoder} could not be downloaded ({type(error).__name__}: {error}).",
            "Check the network, give a file as ENCODER_WEIGHTS, or train without DOWNLOAD_WEIGHTS.",
        ) from error
    # What timm divided photographs by is noted where it was not what our normalisation divides chips by.
    spread = sum(config.std) / len(config.std) if config else PHOTO_STD
    stds = (PHOTO_STD / spread,) * 3 if abs(spread / PHOTO_STD - 1) > ALIKE else None
    return Weights(dict(network.state_dict()), f"Pretrained weights of {encoder} from the hub", stds=stds)


def _timm_config(encoder: str) -> Any:
    """What timm says of the weights of an encoder of its own; None for those of segmentation_models_pytorch.

    Raises:
        InputError: timm knows of none.
    """
    name = library_name(encoder)
    if not name.startswith("tu-"):
        return None
    config = timm.get_pretrained_cfg(name.removeprefix("tu-"), allow_unregistered=False)
    if config is None or not config.has_weights:
        raise InputError(
            f"Nobody offers pretrained weights for {encoder}.", "Set PRETRAINED to none, or choose another encoder."
        )
    return config


def load_encoder_weights(network: nn.Module, encoder: str, weights: Weights, band_names: Sequence[str]) -> str:
    """Load pretrained weights into an encoder; its first convolution is adapted to the bands.

    Args:
        network: The encoder.
        encoder: Its name.
        weights: Weights from a file or the hub; keys that the encoder does not have (a classifier) are ignored.
        band_names: Names of the bands that the network will see.

    Returns:
        A sentence for the log with the number of tensors that matched.

    Raises:
        InputError: A tensor of the encoder is not in the file or has another shape.
    """
    tensors, source = weights.tensors, weights.source
    found = _match(network, encoder, tensors)
    wanted = [key for key in network.state_dict() if not _optional(key)]
    matched = [key for key in wanted if key in found]
    if len(matched) < len(wanted):
        missing = next(key for key in wanted if key not in found)
        raise InputError(
            f"{source} does not fit the encoder {encoder}: {len(matched)} of its {len(wanted)} tensors match "
            f"({missing} is the first that does not).",
            _suggestion(tensors, encoder),
        )
    name = first_convolution(network)[0] + ".weight"
    filters = found[name].to(torch.float32)
    channels = filters.shape[1]
    if weights.stds is not None:  # the network will get bands with standard deviation 1
        filters = filters * torch.tensor(weights.stds)[:, None, None]
    found[name] = adapt_filters(filters, band_names, weights.channel_names(channels), weights.wavelengths)
    nn.Module.load_state_dict(network, found, strict=False)  # those of the library's encoders take less
    bands = "band" if len(band_names) == 1 else "bands"
    text = f"{source}: {len(matched)} of {len(wanted)} tensors of {encoder} matched"
    beside = len(tensors) - len(found)
    if beside:
        text += f", {beside} other tensors in it (such as a classifier) are not used"
    if channels != len(band_names):
        text += f"; the first convolution was adapted from {channels} channels to {len(band_names)} {bands}"
    elif not torch.equal(filters, found[name]):
        text += "; the filters of the first convolution were assigned to bands by name"
    return text + "."


def _match(network: nn.Module, encoder: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors that fit, by the encoder's own keys, under the naming that fits best."""
    stripped = {PREFIXES.sub("", key): value for key, value in tensors.items()}
    state = network.state_dict()
    spellings = [{key: PREFIXES.sub("", key) for key in state}]
    # timm writes layers_0 where it takes a network apart for its features, and layers.0 elsewhere.
    spellings.append({key: TAKEN_APART.sub(r"\1.\2.", name) for key, name in spellings[0].items()})
    if encoder in OTHER_SPELLINGS:
        with torch.device("meta"):
            other = OTHER_SPELLINGS[encoder]().state_dict()
        spellings.append(dict(zip(state, other)))
    first = first_convolution(network)[0] + ".weight"

    def fits(key: str, name: str) -> bool:
        if name not in stripped:
            return False
        have, want = stripped[name].shape, state[key].shape
        return len(have) == 4 and have[0] == want[0] and have[2:] == want[2:] if key == first else have == want

    found = [{key: stripped[name] for key, name in spelling.items() if fits(key, name)} for spelling in spellings]
    return max(found, key=len)


def _optional(key: str) -> bool:
    """Return whether a key is a counter of a batch norm, which old files lack and evaluation ignores."""
    return key.endswith("num_batches_tracked")


def _suggestion(tensors: Mapping[str, torch.Tensor], wanted: str) -> str:
    """Suggest the encoder that the tensors seem to belong to."""
    count = sum(value.numel() for value in tensors.values()) / 1e6  # with a classifier's output layer
    for encoder, row in ENCODERS.items():
        if encoder == wanted or not row.millions - 1 <= count <= 2 * row.millions + 5:
            continue
        with torch.device("meta"):
            network = create_encoder(encoder, 3)
        found = _match(network, encoder, tensors)
        if all(key in found or _optional(key) for key in network.state_dict()):
            return f"They are the weights of {encoder}: choose that as ENCODER."
    return "Choose a file with weights of that encoder, with the names of timm or torchvision."
