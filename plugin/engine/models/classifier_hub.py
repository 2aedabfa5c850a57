"""Downloads pretrained weights of classifiers from the hubs of torchvision and timm, if the user allows it."""

from __future__ import annotations

from typing import Any

import timm
import torch
import torchvision
from safetensors.torch import load

from ..errors import InputError, ResourceError
from .classifiers import find_family
from .timm_names import timm_name
from .weights_file import Weights
from .whole_file import read_whole


def describe_download(name: str) -> str:
    """Describe what `download_classifier` would download: its source, size and licence.

    Raises:
        InputError: There are no weights for this network.
    """
    if find_family(name).library == "timm":
        config = timm.get_pretrained_cfg(timm_name(name))
        with torch.device("meta"):
            count = sum(value.numel() for value in timm.create_model(timm_name(name), pretrained=False).parameters())
        megabytes = count * 4 / 1e6
        return (
            f"Downloading the weights {config.hf_hub_id} of timm, about {megabytes:.0f} MB, "
            f"licence {config.license or 'not stated'}."
        )
    weights = _torchvision_weights(name)
    megabytes = weights.meta.get("_file_size")
    size = f"{megabytes:.0f} MB" if megabytes else "size not stated"
    licence = weights.meta.get("license", "not stated by torchvision; ImageNet's terms may apply")
    return f"Downloading the weights {weights} of torchvision, {size}, licence {licence}."


def download_classifier(name: str) -> Weights:
    """Download the ImageNet weights of a classifier, or take them from the hub's cache.

    Raises:
        InputError: There are no weights for this network.
        ResourceError: The hub does not answer, or the download is damaged.
    """
    weights = None if find_family(name).library == "timm" else _torchvision_weights(name)
    try:
        if weights is not None:  # a pickle, but from the publisher of the installed torchvision
            tensors = torch.hub.load_state_dict_from_url(
                weights.url, map_location="cpu", progress=False, check_hash=True, weights_only=True
            )
        else:
            tensors = _from_timm(name)
        return Weights(tensors, f"Pretrained weights of {name}")
    except Exception as error:  # the hubs' clients raise errors of several libraries
        raise ResourceError(
            f"The pretrained weights of {name} could not be downloaded ({type(error).__name__}: {error}).",
            "Check the network, give a file as ENCODER_WEIGHTS, or train without DOWNLOAD_WEIGHTS.",
        ) from error


def _from_timm(name: str) -> dict[str, torch.Tensor]:
    # timm itself would also accept a pickled file.
    from huggingface_hub import hf_hub_download

    # No revision is pinned, because timm names none; this format cannot contain code.
    path = hf_hub_download(timm.get_pretrained_cfg(timm_name(name)).hf_hub_id, "model.safetensors")  # nosec B615
    return load(read_whole(path))


def _torchvision_weights(name: str) -> Any:
    """Return torchvision's newest complete ImageNet weights; those with a restrictive licence (SWAG) only if there are
    no others.
    """
    family = find_family(name)
    offered = list(torchvision.models.get_model_weights(name)) if family.library == "torchvision" else []
    if not offered:
        raise InputError(
            f"There are no pretrained weights for {name}.",
            "Train without DOWNLOAD_WEIGHTS, or choose another ARCHITECTURE.",
        )
    # For VGG-16, there are also weights without a classifier.
    usual = [weights for weights in offered if weights.name.startswith("IMAGENET1K_V")]
    return (usual or offered)[-1]
