"""Writes and reads model files: weights and header in one `.safetensors` file."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping

import torch
from safetensors.torch import load, save
from torch import nn

from ..drafts import claim, publish
from ..errors import InputError, ResourceError
from ..files import why_not_written
from ..tasks import CLASSIFIER_TASKS, SEGMENTER_TASKS
from . import classifier_arguments
from .architectures import ARCHITECTURES
from .classifier_network import Classifier, lay_out_classifier
from .classifiers import CLASSIFIERS
from .decoder_settings import read_arguments
from .encoders import TIMM
from .factory import create_model, lay_out_model
from .header import STATE_PREFIX, ModelHeader, read_header
from .networks import Segmenter
from .reach import sees_whole_window
from .tasks import check_task
from .weights_file import find_fault
from .whole_file import read_whole


def save_model(path: str | os.PathLike[str], network: nn.Module, header: ModelHeader) -> None:
    """Write a network and its header to a model file.

    Raises:
        ResourceError: The file cannot be written, because of space or permissions.
    """
    save_state(path, network.state_dict(), header)


def save_state(
    path: str | os.PathLike[str], state: dict[str, torch.Tensor], header: ModelHeader, beside: Mapping[str, str] = {}
) -> None:
    """Write a state dict and its header to a model file; raises as `save_model`.

    Args:
        path: The file.
        state: Tensors by name.
        header: Describes them.
        beside: More entries of the metadata.
    """
    tensors = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    try:
        with claim(path) as draft:
            # Not with safetensors' own writer, which creates a file that only its owner can read.
            draft.fresh().write_bytes(save(tensors, metadata={**header.to_metadata(), **beside}))
            publish(draft)
    except OSError as error:
        raise ResourceError(
            f"The model file {path} could not be written ({why_not_written(path, error)}).",
            "Free some disk space, or choose another folder.",
        ) from error


def load_model(path: str) -> tuple[Segmenter, ModelHeader]:
    """Read the model file of a segmentation network; the file may come from an untrusted source.

    The file is read once, so that header and weights are from the same bytes. The network is first created without
    memory and compared with the weights, so that a header with absurd sizes does no harm.

    Returns:
        The network in evaluation mode on the CPU, and the header with `whole_window` set.

    Raises:
        InputError: The file is damaged, written by a later version, or its weights do not fit its header.
        ResourceError: Memory is insufficient.
    """
    header, content = _read(path, SEGMENTER_TASKS)
    name = f"{header.architecture} with {header.encoder}"
    if header.architecture not in ARCHITECTURES:
        raise _unknown(path, name)
    try:
        settings = read_arguments(header.architecture, header.arguments)
        shape = header.architecture, header.encoder, len(header.band_names), header.outputs, settings
        network = lay_out_model(*shape)
    except InputError as error:
        raise _unknown(path, f"{name} ({error.problem.rstrip('.')})") from error
    _fill(network, content, path, f"{name}, {_size(header)}")
    if header.encoder.startswith(TIMM) or any(value.is_meta for value in network.buffers()):
        # What a network calculates when it is made, and no file holds, is not there without memory.
        filled, network = network, create_model(*shape).eval().requires_grad_(False)
        network.load_state_dict(filled.state_dict())
    if header.whole_window is None:  # written by an earlier version
        whole = sees_whole_window(network, len(header.band_names))
        header = dataclasses.replace(header, whole_window=whole)
    return network, header


def load_classifier(path: str) -> tuple[Classifier, ModelHeader]:
    """Read the model file of a classifier, from any source; returns and raises as `load_model`."""
    header, content = _read(path, CLASSIFIER_TASKS)
    if header.architecture not in CLASSIFIERS:
        raise _unknown(path, header.architecture)
    try:
        arguments = classifier_arguments.read_arguments(header.architecture, header.arguments)
        network = lay_out_classifier(
            header.architecture, len(header.band_names), header.outputs, header.chip_size, arguments
        )
    except InputError as error:
        raise _damaged(path, error.problem.rstrip(".")) from error
    _fill(network, content, path, f"{header.architecture} with {_size(header)}")
    return network, header


def load_tensors(path: str, tasks: tuple[str, ...]) -> tuple[ModelHeader, dict[str, torch.Tensor]]:
    """Read header and weights of a model file for one of the given tasks, for a network that may have another shape.

    Raises:
        InputError: As `load_model`, but for weights that do not fit the header.
        ResourceError: Memory is insufficient.
    """
    header, content = _read(path, tasks)
    tensors = _tensors(content, path)
    _check_numbers(tensors, path)
    return header, tensors


def _read(path: str, tasks: tuple[str, ...]) -> tuple[ModelHeader, bytes]:
    """Return the header and the content of a model file for one of the given tasks."""
    check_task(read_header(path), path, tasks)  # before the whole file is read
    try:
        content = read_whole(path)
    except OSError as error:
        raise _damaged(path, str(error.strerror)) from error
    header = read_header(path, content)
    check_task(header, path, tasks)
    return header, content


def _fill(network: nn.Module, content: bytes, path: str, what: str) -> None:
    """Load weights from a file's content into a network on the meta device, and set it to evaluation mode."""
    expected = network.state_dict()
    tensors = _tensors(content, path)
    wrong = sorted(set(tensors) ^ set(expected))
    wrong = wrong or [key for key, value in tensors.items() if value.shape != expected[key].shape]
    if wrong:
        raise _damaged(path, f"{len(wrong)} of its tensors, such as {wrong[0]}, do not fit {what}")
    strange = [key for key, value in tensors.items() if value.dtype != expected[key].dtype]
    if strange:
        raise _damaged(path, f"the tensor {strange[0]} is of type {tensors[strange[0]].dtype}")
    _check_numbers(tensors, path)
    expected.update(tensors)  # keeps entries that some networks expect in addition to the tensors
    network.load_state_dict(expected, assign=True)
    network.eval().requires_grad_(False)


def _tensors(content: bytes, path: str) -> dict[str, torch.Tensor]:
    """The weights in a file's content."""
    try:
        return {key: value for key, value in load(content).items() if not key.startswith(STATE_PREFIX)}
    except Exception as error:  # the reader raises various errors on garbage
        raise _damaged(path, str(error)) from error


def _check_numbers(tensors: Mapping[str, torch.Tensor], path: str) -> None:
    """Refuse numbers that no network can calculate with."""
    faults = (find_fault(key, value) for key, value in tensors.items())
    fault = next((fault for fault in faults if fault is not None), None)
    if fault is not None:
        raise _damaged(path, fault)


def _size(header: ModelHeader) -> str:
    found = "a target" if header.target else f"{len(header.classes)} classes"
    return f"{len(header.band_names)} bands and {found}"


def _unknown(path: str, what: str) -> InputError:
    return InputError(
        f"The model file {path} needs {what}, which this version of Terrazzo does not know.",
        "Update Terrazzo, or choose another model file.",
    )


def _damaged(path: str, reason: str) -> InputError:
    return InputError(f"The model file {path} is damaged: {reason}.", "Copy it again, or train again.")
