"""The tasks of chips and models: what a network learns, and for which of them there are masks, classes or numbers."""

from __future__ import annotations

TASKS = ("segmentation", "classification", "multilabel", "regression", "chip_regression", "unlabelled")
CLASS_TASKS = ("segmentation", "classification", "multilabel")
# Numbers of pixels, and one number a chip.
NUMBER_TASKS = ("regression", "chip_regression")
# Those with a mask for each chip are learned by `trainsegmenter`, those with an answer for the whole chip by
# `trainclassifier`.
SEGMENTER_TASKS, CLASSIFIER_TASKS = ("segmentation", "regression"), ("classification", "multilabel", "chip_regression")
