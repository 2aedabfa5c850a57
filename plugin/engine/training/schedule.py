"""The learning rate over the steps of a training."""

from __future__ import annotations

import math

WARM_UP = 0.25  # of all steps
START = 1 / 25  # of the peak
END = 1 / 1000


def one_cycle(step: int, steps: int, peak: float) -> float:
    """The learning rate of a step: along cosines up from peak/25 to the peak, then down to peak/1000 (Smith 2018).

    Args:
        step: From 0 to steps − 1.
        steps: All steps of the training.
        peak: The highest rate.
    """
    top = WARM_UP * (steps - 1)
    if step < top:
        return peak * (START + (1 - START) * _rise(step / top))
    share = (step - top) / (steps - 1 - top) if steps > 1 else 0.0
    return peak * (1 - (1 - END) * _rise(share))


def _rise(share: float) -> float:
    """Half a cosine, from 0 to 1."""
    return (1 - math.cos(math.pi * share)) / 2
