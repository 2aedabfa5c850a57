"""What one or several classifiers say of chips, or of steps over a raster."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ...events import Reporter
from ...models.classifier_network import Classifier
from ...windows import Window
from ..reading.steps import Steps
from ..reading.tile_reader import Images
from ..settings import AveragingSettings
from .averaging import SYMMETRIES, kind_of
from .evaluation import ChipPredictor, StepSource, choose_evaluation
from .loading import Model, Values, mean_values
from .means import MemberSource, mean_of
from .source import Source


def predict_chips(
    models: Sequence[Model[Classifier]], device: torch.device, averaging: AveragingSettings, batch_size: int
) -> Values[Images]:
    """Return what turns chips into (N, C) logits of the mean of the models."""
    predictors = [_predictor(model, device, averaging, batch_size) for model in models]
    return mean_values(models, [predictor.values for predictor in predictors], kind_of(models[0].header))


def choose_step_source(
    models: Sequence[Model[Classifier]], device: torch.device, averaging: AveragingSettings, batch_size: int,
    steps: Steps, over: Window, reporter: Reporter,
) -> tuple[Source, int]:  # fmt: skip
    """Return the source of the mean of the models, and the number of steps per side of a block."""
    sources, sides = [], []
    for model in models:
        side, shared = choose_evaluation(model.network, model.header, steps.stride, over, reporter)
        sources.append(MemberSource(StepSource(_predictor(model, device, averaging, batch_size), steps, shared), model))
        sides.append(side)
    return mean_of(sources, kind_of(models[0].header)), min(sides)


def _predictor(
    model: Model[Classifier], device: torch.device, averaging: AveragingSettings, batch_size: int
) -> ChipPredictor:  # fmt: skip
    symmetries = SYMMETRIES[averaging.test_time_augmentation]
    return ChipPredictor(model.network, model.header, device, batch_size, symmetries)
