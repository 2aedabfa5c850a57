"""Parameters for means of several answers to the same place."""

from __future__ import annotations

from .algorithm import tr
from .list_parameters import Numbers
from .parameters import Row, Setting


def symmetry_row() -> Row:
    """Which mirror images and turns the network sees."""
    return Setting("TEST_TIME_AUGMENTATION", tr("Test-time augmentation"), tr(
        "The network also sees each place mirrored or turned, and the mean of its probabilities counts. This is a "
        "little more accurate, and takes longer."), optional=True, advanced=True)  # fmt: skip


def scales_row() -> Row:
    """In which sizes the network sees the image."""
    return Numbers("TEST_TIME_SCALES", tr("Test-time scales (empty: 1)"), tr(
        "The network sees the image in each of these sizes, such as 0.75,1,1.25, and the mean of its probabilities "
        "counts. For objects of many sizes; larger scales need more memory."), advanced=True,
        example="0.75,1,1.25")  # fmt: skip
