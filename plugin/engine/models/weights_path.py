"""Files of pretrained weights, before one is opened; needs no torch."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError

ENDINGS = (".safetensors", ".pth", ".pt")


def check_weights_path(path: str) -> None:
    """Refuse what cannot be a file of weights.

    Raises:
        InputError: It has another ending, or is not there.
    """
    if not path.lower().endswith(ENDINGS):
        raise InputError(f"ENCODER_WEIGHTS is {path}.", f"Choose a file that ends in {', '.join(ENDINGS)}.")
    if not Path(path).is_file():
        raise InputError(f"There is no weights file {path}.", "Check ENCODER_WEIGHTS.")
