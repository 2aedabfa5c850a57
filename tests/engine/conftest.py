"""Fixtures for tests of the engine."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest
from torch import nn

from plugin.engine.models import model_file
from plugin.engine.models.reach import sees_whole_window
from plugin.engine.training import train_segmenter


@pytest.fixture(scope="session", autouse=True)
def tested_once() -> Iterator[None]:
    """Networks of one shape are tested once for whether they see their whole window: it is a third of a short training.

    test_whole_window.py tests each anew.
    """
    found: dict[tuple[str, int], bool] = {}

    @functools.wraps(sees_whole_window)
    def remembered(network: nn.Module, bands: int) -> bool:
        key = (str(network), bands)
        if key not in found:
            found[key] = sees_whole_window(network, bands)
        return found[key]

    with pytest.MonkeyPatch.context() as patch:
        for module in (train_segmenter, model_file):
            patch.setattr(module, "sees_whole_window", remembered)
        yield
