"""Files of weights are read once, so that later changes have no effect."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import known_classifier
import pytest
import torch
from known_segmenter import header
from safetensors.torch import save_file
from torch import nn

from plugin.engine.classes import ClassTable
from plugin.engine.errors import InputError, ResourceError
from plugin.engine.models.classifier_network import create_classifier
from plugin.engine.models.factory import create_model
from plugin.engine.models.header import ModelHeader
from plugin.engine.models.model_file import load_classifier, load_model, save_model
from plugin.engine.models.weights_file import read_weights


def overwrite(path: Path) -> None:
    """As a copy onto the file does: the same file with another content."""
    with open(path, "r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(os.urandom(path.stat().st_size // 2))


def truncate(path: Path) -> None:
    os.truncate(path, 100)


def remove(path: Path) -> None:
    path.unlink()


def segmenter(path: Path) -> Callable[[], torch.Tensor]:
    classes = ClassTable.from_rows([(1, "a", "#101010"), (2, "b", "#808080")])
    save_model(path, create_model("fcn8s", "resnet18", 1, 2), header(["a"], architecture="fcn8s", classes=classes))
    return answers(load_model(str(path))[0], 64)


def classifier(path: Path) -> Callable[[], torch.Tensor]:
    save_model(path, create_classifier("lecture_cnn", 1, 3, 32), known_classifier.header(chip_size=32))
    return answers(load_classifier(str(path))[0], 32)


def answers(network: nn.Module, side: int) -> Callable[[], torch.Tensor]:
    image = torch.randn(1, 1, side, side)
    with torch.no_grad():
        return lambda: network(image)


def weights(path: Path) -> Callable[[], torch.Tensor]:
    tensors = {"w": torch.randn(200_000)}
    if path.suffix == ".pth":
        torch.save(tensors, path)
    else:
        save_file(tensors, path)
    read = read_weights(str(path))
    return lambda: read.tensors["w"].clone()


@pytest.mark.parametrize("harm", [overwrite, truncate, remove])
@pytest.mark.parametrize(
    "make, name",
    [(segmenter, "m.safetensors"), (classifier, "m.safetensors"), (weights, "w.safetensors"), (weights, "w.pth")],
)
def test_what_happens_to_a_file_once_it_is_read_changes_nothing(
    tmp_path: Path,
    make: Callable[[Path], Callable[[], torch.Tensor]],
    name: str,
    harm: Callable[[Path], None],
    request: pytest.FixtureRequest,
) -> None:
    if name.endswith(".pth"):
        request.getfixturevalue("reads_pth")
    path = tmp_path / name
    answer = make(path)
    before = answer()
    harm(path)
    assert torch.equal(answer(), before)


def test_header_and_weights_are_of_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.safetensors"
    segmenter(path)
    other = tmp_path / "other.safetensors"
    classes = ClassTable.from_rows([(5, "x", "#101010"), (6, "y", "#808080")])
    described = header(["z"], architecture="fcn8s", mean=(9.0,), std=(3.0,), classes=classes)
    save_model(other, create_model("fcn8s", "resnet18", 1, 2), described)
    from plugin.engine.models import model_file

    first = model_file.read_header

    def exchanged(read: str, *content: Any) -> ModelHeader:
        found = first(read, *content)
        if not content:  # after the first look at it
            other.replace(path)
        return found

    monkeypatch.setattr(model_file, "read_header", exchanged)
    assert load_model(str(path))[1].band_names == ("z",)


def test_a_file_that_is_being_written_is_not_taken_for_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from plugin.engine.models import whole_file

    path = tmp_path / "w.safetensors"
    save_file({"w": torch.zeros(1000)}, path)

    class Growing(io.FileIO):
        def read(self, size: int = -1) -> bytes:
            found = super().read(size) or b""
            with open(path, "ab") as file:
                file.write(b"more")
            return found

    monkeypatch.setattr(whole_file, "open_plain", Growing)
    with pytest.raises(InputError, match="changed while it was read"):
        read_weights(str(path))


@pytest.mark.usefixtures("reads_pth")
def test_a_file_that_memory_cannot_hold_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from plugin.engine.models import whole_file

    path = tmp_path / "w.pth"
    torch.save({"w": torch.zeros(100_000)}, path)
    monkeypatch.setattr(whole_file, "machine_memory", lambda: (2**30, 500_000))
    with pytest.raises(ResourceError, match="are free"):
        read_weights(str(path))
