"""Loads pretrained weights of classifiers, under the names of torchvision, timm or a model file of Terrazzo."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from ..errors import InputError
from .classifier_network import Classifier, create_classifier
from .classifiers import FAMILIES, find_family
from .encoder_weights import PREFIXES
from .input_bands import adapt_filters
from .pretrained import PHOTO_STD
from .timm_names import TWINS, image_std_in_timm, names_in_timm
from .weights_file import Weights

# Most networks were pretrained on photographs divided by `PHOTO_STD`, as our normalisation does. A network that was
# trained on photographs divided by more expects smaller values than ours.
DIVIDED_BY = {"googlenet": 0.5, "inception_v3": 0.5}
# Tensors other than weights: counters, and tables that follow from a network's shape.
DERIVED = re.compile(r"(^|\.)(num_batches_tracked|relative_position_index|relative_coords_table|attn_mask)$")
# Heads that GoogLeNet and Inception v3 only have in training.
AUXILIARY = re.compile(r"^(aux1|aux2|AuxLogits)\.")
# torchvision's files of DenseNets use older names.
OLD_DENSENET = re.compile(r"(\.denselayer\d+\.(?:norm|conv))\.([12])\.")
# Beginnings of tensor names in either library.
BEGINNINGS = re.compile(
    r"(features|classifier|fc|heads?|conv\d*|conv_\w+|bn\d*|layers?\d*|inception\d\w|Conv2d_\w+|Mixed_\w+|aux\d|AuxLogits|"
    r"blocks|stem|stages?\d*|s\d|trunk_output|norm|ln|patch_embed|class_token|cls_token|pos_embed\w*|pre_logits)(\.|$)"
)
POSITIONS = re.compile(r"(pos_embedding|relative_position_bias_table)$")


@dataclass(frozen=True)
class _Match:
    """The tensors of a file that belong to a network, under the names of one library."""

    found: dict[str, torch.Tensor]  # our key → the tensor in our shape, except for the first convolution
    resized: int  # tables of positions
    missing: list[str]  # names that the file lacks, or has in another shape
    unexpected: list[str]  # other names in the file
    divided_by: float  # see `PHOTO_STD`

    @property
    def whole(self) -> bool:
        """Whether the file belongs to this network."""
        return not self.missing and not self.unexpected


def load_classifier_weights(classifier: Classifier, name: str, weights: Weights, band_names: Sequence[str]) -> str:
    """Load pretrained weights into a classifier, except for its output layer.

    The first convolution is adapted to the bands, and to the scale of our chips if the network was pretrained on
    another one. Position embeddings are resized to the chips.

    Args:
        classifier: On the CPU.
        name: Its name in the catalogue.
        weights: Weights from a file or from the hub (`classifier_hub`).
        band_names: Names of the bands that the network will see.

    Returns:
        A sentence for the log.

    Raises:
        InputError: Tensors are missing, have another shape, or belong to another network.
    """
    tensors, source = weights.tensors, weights.source
    match = _best_match(classifier, name, tensors)
    if not match.whole:
        wanted = len(match.found) + len(match.missing)
        missing = _listed("missing or with another shape", match.missing)
        unexpected = _listed("unexpected", match.unexpected)
        raise InputError(
            f"{source} does not fit {name}: {len(match.found)} of {wanted} tensors match{missing}{unexpected}.",
            _suggestion(name, tensors),
        )
    found = dict(match.found)
    text = f"{source}: {len(found)} tensors of {name} loaded, all except the output layer"
    key = first_layer(classifier)
    if key is not None:
        filters, bands = found[key].to(torch.float32), len(band_names)
        is_mlp = filters.ndim == 2
        if is_mlp:  # with the same number of bands and pixels as ours, otherwise it would not have matched
            filters = filters.reshape(len(filters), bands, -1, 1)
        channels = filters.shape[1]
        source_names = weights.channel_names(channels)
        if is_mlp and source_names is None:
            source_names = tuple(band_names)
        stds = weights.stds or (PHOTO_STD / match.divided_by,) * channels
        filters = filters * torch.tensor(stds)[:, None, None]
        adapted = adapt_filters(filters, band_names, source_names, weights.wavelengths)
        found[key] = adapted.flatten(1) if is_mlp else adapted
        if channels != bands:
            text += f"; the first convolution was adapted from {channels} channels to {bands}"
        elif not torch.equal(filters, adapted):
            text += "; the filters of the first layer were assigned to bands by name"
    if match.resized:
        text += f"; positions were resized to the chips in {match.resized} tables"
    state = classifier.state_dict()
    state.update(found)
    classifier.load_state_dict(state)
    return text + "."


def _best_match(classifier: Classifier, name: str, tensors: Mapping[str, torch.Tensor]) -> _Match:
    """Match a file under each library's names, and return the best match."""
    stripped = {OLD_DENSENET.sub(r"\1\2.", PREFIXES.sub("", key)): value for key, value in tensors.items()}
    keys = [key for key in classifier.state_dict() if not DERIVED.search(key)]
    own = [PREFIXES.sub("", key) for key in keys]
    if _from_terrazzo(tensors):  # pretrained on chips like ours
        divided_by = PHOTO_STD
    elif find_family(name).library == "timm":
        divided_by = image_std_in_timm(name)
    else:
        divided_by = DIVIDED_BY.get(name, PHOTO_STD)
    matches = [_match(classifier, dict(zip(keys, own)), stripped, divided_by)]
    timms = names_in_timm(name)
    if timms is not None and not matches[0].whole:
        timms = [key for key in timms if not DERIVED.search(key)]
        matches.append(_match(classifier, dict(zip(keys, timms)), stripped, image_std_in_timm(TWINS[name])))
    return max(matches, key=lambda match: len(match.found))


def _match(
    classifier: Classifier, names: Mapping[str, str], stripped: Mapping[str, torch.Tensor], divided_by: float
) -> _Match:
    state = classifier.state_dict()
    first = first_layer(classifier)
    output = f"network.{classifier.output_name}."
    found, missing, resized = {}, [], 0
    for key, name in names.items():
        if key.startswith(output):
            continue
        value = fitted(stripped.get(name), state[key], key, key == first)
        if value is None:
            missing.append(name)
        else:
            found[key] = value
            resized += bool(POSITIONS.search(key)) and value.shape != stripped[name].shape
    known = set(names.values())
    unexpected = [key for key in stripped if key not in known and not DERIVED.search(key) and not AUXILIARY.match(key)]
    return _Match(found, resized, missing, unexpected, divided_by)


def fitted(value: torch.Tensor | None, want: torch.Tensor, key: str, is_first: bool) -> torch.Tensor | None:
    """Return a tensor in the wanted shape, or None if it cannot have that shape."""
    if value is None or value.is_complex() or value.shape == want.shape:
        return None if value is None or value.is_complex() else value
    if is_first and value.ndim == 4 and value.shape[0] == want.shape[0] and value.shape[2:] == want.shape[2:]:
        return value
    if POSITIONS.search(key):
        return _resized(value, want)
    # What is a 1 × 1 convolution or a vector in one library may be a linear layer or a map of one pixel in the other.
    if value.numel() == want.numel() and value.shape[:1] == want.shape[:1]:
        return value.reshape(want.shape)
    return None


def _resized(table: torch.Tensor, want: torch.Tensor) -> torch.Tensor | None:
    """Resize a table of positions to a square of another size.

    Args:
        table: (1, 1 + s², F) with a class token first, or (s², heads).
        want: A table for another s.

    Returns:
        The resized table; None if the shapes do not fit.
    """
    tokens = int(table.ndim == 3)
    if table.ndim != want.ndim or table.shape[-1] != want.shape[-1] or table.shape[:tokens] != want.shape[:tokens]:
        return None
    rows = table.reshape(-1, table.shape[-1])
    side, new = (round(max(value.shape[-2] - tokens, 0) ** 0.5) for value in (table, want))
    if side < 1 or side**2 + tokens != len(rows):
        return None
    grid = rows[tokens:].to(torch.float32).T.reshape(1, -1, side, side)
    grid = F.interpolate(grid, size=(new, new), mode="bicubic", align_corners=True)
    resized = torch.cat([rows[:tokens], grid.reshape(rows.shape[1], -1).T.to(rows.dtype)])
    return resized.reshape(want.shape)


def first_layer(classifier: Classifier) -> str | None:
    """Return the key of the first convolution's or MLP layer's weights; None if that is the output layer."""
    layers = [name for name, module in classifier.named_modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    return None if classifier.get_submodule(layers[0]) is classifier.output else f"{layers[0]}.weight"


def _from_terrazzo(tensors: Mapping[str, torch.Tensor]) -> bool:
    """Return whether tensors come from the model file of a classifier, by the prefix of `Classifier`."""
    return all(key.startswith("network.") for key in tensors)


def _listed(what: str, names: Iterable[str]) -> str:
    names = list(names)
    if not names:
        return ""
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return f"; {what}: {', '.join(names[:2])}{more}"


def _suggestion(wanted: str, tensors: Mapping[str, torch.Tensor]) -> str:
    """Suggest the network that the tensors seem to belong to."""
    if _from_terrazzo(tensors):
        return f"They belong to a Terrazzo model of another network or shape: choose one trained as {wanted}."
    known = sum(bool(BEGINNINGS.match(PREFIXES.sub("", key))) for key in tensors)
    # Building a network of each family takes seconds.
    for family in FAMILIES if 2 * known >= len(tensors) else ():
        if family.library == "terrazzo":
            continue
        for place, name in enumerate(family.members):
            with torch.device("meta"):
                network = create_classifier(name, 3, 2, max(family.smallest, 224))
            match = _best_match(network, name, tensors)
            if match.whole and name != wanted:
                return f"They are the weights of {name}: choose that as ARCHITECTURE."
            # Larger members mostly have the layers of the smallest; building all of them would take long.
            if place == 0 and len(match.found) < len(match.missing):
                break
    return f"Choose a file with weights of {wanted}, with the names of timm or torchvision."
