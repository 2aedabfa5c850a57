"""Writing and reading model files: weights and header in one `.safetensors` file, published whole."""

from __future__ import annotations

import dataclasses
import os

import torch
from safetensors.torch import load, save
from torch import nn

from ..config import ARCHITECTURES, ENCODERS
from ..drafts import claim, publish
from ..errors import InputError, ResourceError
from .classifier_arguments import read_arguments
from .classifier_network import Classifier, create_classifier
from .classifiers import CLASSIFIERS
from .factory import create_model
from .header import ModelHeader, read_header
from .networks import Segmenter
from .reach import sees_whole_window
from .tasks import CLASSIFIER_TASKS, SEGMENTER_TASKS, check_task
from .weights_file import find_fault
from .whole_file import read_whole


def save_model(path: str | os.PathLike[str], network: nn.Module, header: ModelHeader) -> None:
    """Write a network and its header to a model file.

    Raises:
        ResourceError: The file cannot be written, for want of space or permission.
    """
    save_state(path, network.state_dict(), header)


def save_state(path: str | os.PathLike[str], state: dict[str, torch.Tensor], header: ModelHeader) -> None:
    """Write a state dict and its header to a model file; raises as `save_model`."""
    tensors = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    try:
        with claim(path) as draft:
            # Written by us: safetensors would make a file that only its owner may read.
            draft.fresh().write_bytes(save(tensors, metadata=header.to_metadata()))
            publish(draft)
    except OSError as error:
        raise ResourceError(
            f"The model file {path} could not be written ({error.strerror}).",
            "Free some space, or choose another folder.",
        ) from error


def load_model(path: str) -> tuple[Segmenter, ModelHeader]:
    """Read the model file of a segmentation network, of which nothing is trusted.

    The file is read once, and its header and weights are of the same bytes. The network is first laid out without
    memory and compared with the weights, so a header that claims a giant costs nothing.

    Returns:
        The network in evaluation mode, on the CPU, and the header, which says whether it sees the whole window.

    Raises:
        InputError: The file is damaged, made by a later Terrazzo, or its weights do not fit its header.
        ResourceError: Memory is not enough.
    """
    header, content = _read(path, SEGMENTER_TASKS)
    if header.architecture not in ARCHITECTURES or header.encoder not in ENCODERS:
        raise _unknown(path, f"{header.architecture} with {header.encoder}")
    if header.arguments:
        raise _unknown(path, f"{header.architecture} with {', '.join(sorted(header.arguments))}")
    with torch.device("meta"):
        network = create_model(header.architecture, header.encoder, len(header.band_names), len(header.classes))
    _fill(network, content, path, f"{header.architecture} with {header.encoder}, {_size(header)}")
    if header.whole_window is None:  # of a file from before this was known
        whole = sees_whole_window(network, len(header.band_names))
        header = dataclasses.replace(header, whole_window=whole)
    return network, header


def load_classifier(path: str) -> tuple[Classifier, ModelHeader]:
    """Read the model file of a classifier, of which nothing is trusted; returns and raises as `load_model`."""
    header, content = _read(path, CLASSIFIER_TASKS)
    if header.architecture not in CLASSIFIERS:
        raise _unknown(path, header.architecture)
    try:
        arguments = read_arguments(header.architecture, header.arguments)
        with torch.device("meta"):
            network = create_classifier(
                header.architecture, len(header.band_names), len(header.classes), header.chip_size, arguments
            )
    except InputError as error:
        raise _damaged(path, error.problem.rstrip(".")) from error
    _fill(network, content, path, f"{header.architecture} with {_size(header)}")
    return network, header


def _read(path: str, tasks: tuple[str, ...]) -> tuple[ModelHeader, bytes]:
    """The header and the whole content of a model file for one of some tasks."""
    check_task(read_header(path), path, tasks)  # before much is read
    try:
        content = read_whole(path)
    except OSError as error:
        raise _damaged(path, str(error.strerror)) from error
    header = read_header(path, content)
    check_task(header, path, tasks)
    return header, content


def _fill(network: nn.Module, content: bytes, path: str, what: str) -> None:
    """Give a network without memory the weights in a file's content, and make it ready to predict."""
    expected = network.state_dict()
    try:
        tensors = load(content)
    except Exception as error:  # on garbage, the reader fails in several ways
        raise _damaged(path, str(error)) from error
    wrong = sorted(set(tensors) ^ set(expected))
    wrong = wrong or [key for key, value in tensors.items() if value.shape != expected[key].shape]
    if wrong:
        raise _damaged(path, f"{len(wrong)} of its tensors, such as {wrong[0]}, do not fit {what}")
    strange = [key for key, value in tensors.items() if value.dtype != expected[key].dtype]
    if strange:
        raise _damaged(path, f"the tensor {strange[0]} is of type {tensors[strange[0]].dtype}")
    faults = (find_fault(key, value) for key, value in tensors.items())
    fault = next((fault for fault in faults if fault is not None), None)
    if fault is not None:
        raise _damaged(path, fault)
    expected.update(tensors)  # what some networks look for beside the tensors stays
    network.load_state_dict(expected, assign=True)
    network.eval().requires_grad_(False)


def _size(header: ModelHeader) -> str:
    return f"{len(header.band_names)} bands and {len(header.classes)} classes"


def _unknown(path: str, what: str) -> InputError:
    return InputError(
        f"The model file {path} asks for {what}, unknown to this Terrazzo.",
        "Update Terrazzo, or choose another model file.",
    )


def _damaged(path: str, reason: str) -> InputError:
    return InputError(f"The model file {path} is damaged: {reason}.", "Copy it again, or train again.")
