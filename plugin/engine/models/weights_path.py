"""Checks the path of a file of pretrained weights; does not import torch."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError

ENDINGS = (".safetensors", ".pth", ".pt")


def check_weights_path(path: str) -> None:
    """Refuse a path that cannot be a file of weights.

    Raises:
        InputError: It has another extension, or does not exist.
    """
    if not path.lower().endswith(ENDINGS):
        raise InputError(f"ENCODER_WEIGHTS is {path}.", f"Choose a file with the extension {', '.join(ENDINGS)}.")
    if not Path(path).is_file():
        raise InputError(f"There is no weights file {path}.", "Check ENCODER_WEIGHTS.")
