"""The shape of a decoder as settings, which the header of a model file keeps as arguments; readable without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InputError
from ..settings import Settings, setting
from .architectures import ARCHITECTURES
from .layer_choices import ACTIVATIONS, NORMALIZATIONS


class DecoderSettings(Settings):
    """What stands between the encoder's features and the classes."""

    decoder_width: float = setting(1.0, low=0.125, high=4)  # × the channels that the decoder usually has
    dropout: float | None = setting(None, low=0, high=0.95)  # of the last features; None = the decoder's own
    activation: str = setting("relu", choices=ACTIVATIONS)
    normalization: str = setting("batch", choices=NORMALIZATIONS)

    def arguments(self) -> dict[str, Any]:
        """What is not as usual, by name."""
        usual = type(self)().to_json()
        return {name: value for name, value in self.to_json().items() if value != usual[name]}

    def check(self, architecture: str) -> None:
        """Refuse a setting that the decoder of an architecture does not have.

        Raises:
            InputError: There is one.
        """
        known = ARCHITECTURES[architecture].arguments
        unknown = sorted(set(self.arguments()) - set(known))
        if unknown:
            raise InputError(
                f"The decoder of {architecture} has no {', '.join(name.upper() for name in unknown)}.",
                f"Leave that as it was: it has {' and '.join(name.upper() for name in known)}. Or choose another "
                "ARCHITECTURE.",
            )


def read_arguments(architecture: str, values: Mapping[str, Any]) -> DecoderSettings:
    """The settings in the header of a model file.

    Raises:
        InputError: The decoder of this architecture has no such argument, or a value is out of bounds.
    """
    found = DecoderSettings.from_json(dict(values))
    found.check(architecture)
    return found
