"""The job behind `findlearningrate`: chip dataset and settings of a training → learning rates that suit it."""

from __future__ import annotations

import time
from typing import Any

from ..assessment.range_report import RangeReport, write_report
from ..chips.dataset import read_info
from ..config import FindLearningRateConfig, TrainClassifierConfig, TrainSegmenterConfig
from ..device import describe_device, explain_memory
from ..drafts import check_writable
from ..errors import InputError, not_none
from ..events import Reporter, readable_time
from . import train_classifier, train_segmenter
from .early_checks import check_range_test
from .range_test import measure_losses, suggest
from .ready import Training

FEWEST = 10  # steps, without which a curve says nothing


def find_learning_rate(config: FindLearningRateConfig, reporter: Reporter) -> dict[str, Any]:
    """Try learning rates on the chips, with the network and the settings of a training; its weights are not kept.

    Returns:
        `report` (a path; may be None), `valley` and `steepest` (learning rates, or None where the loss does not fall),
        `automatic` (what a training takes by itself), `steps`, `seconds`.

    Raises:
        InputError: The dataset, the weights file or a setting cannot be used, or the loss is no number from the start.
        ResourceError: A folder cannot be written, the device is not there, or memory is not enough.
        Cancelled: The user asked for the end.
    """
    begun = time.monotonic()
    info = read_info(config.chips)
    settings = check_range_test(config, info)
    if config.report:
        check_writable(config.report)
    training = _prepared(settings, reporter)
    automatic = not_none(training.config.optimizer.learning_rate)
    with explain_memory(training.device, training.work):
        rates, losses = measure_losses(training, (config.first_rate, config.last_rate), config.test_steps, reporter)
    if len(rates) < FEWEST:
        raise InputError(
            f"After {len(rates)} steps, at a learning rate of {config.first_rate:.2g} and little more, the loss is no "
            "number or far too high.",
            "Lower FIRST_RATE; if that does not help, look for extreme values in the bands and declare them as nodata.",
        )
    smoothed, valley, steepest = suggest(rates, losses)
    reporter.log(f"{len(rates)} steps, at learning rates from {rates[0]:.2g} to {rates[-1]:.2g}.")
    if valley is None:
        reporter.warning(
            "The loss falls at none of these learning rates: nothing can be suggested. Begin with a lower FIRST_RATE, "
            "or look at the chips and their labels."
        )
    else:
        reporter.log(
            f"Enter LEARNING_RATE {valley:.2g} (valley) or {steepest:.2g} (steepest); left empty, it is {automatic:g}."
        )
    seconds = time.monotonic() - begun
    if config.report:
        write_report(
            config.report,
            RangeReport(
                dataset=config.chips,
                network=training.name,
                optimizer=training.config.optimizer.optimizer,
                batch_size=training.config.step_size,
                device=describe_device(training.device),
                seconds=seconds,
                rates=rates,
                losses=losses,
                smoothed=smoothed,
                valley=valley,
                steepest=steepest,
                automatic=automatic,
                settings=config.to_json(),
            ),
        )
    reporter.progress(1.0, "Done")
    reporter.log(f"Done in {readable_time(seconds)}.")
    return {
        "report": config.report,
        "valley": valley,
        "steepest": steepest,
        "automatic": automatic,
        "steps": len(rates),
        "seconds": seconds,
    }


def _prepared(settings: Any, reporter: Reporter) -> Training:
    if isinstance(settings, TrainSegmenterConfig):
        return train_segmenter.prepare(settings, reporter)
    if isinstance(settings, TrainClassifierConfig):
        return train_classifier.prepare(settings, reporter)[0]
    raise AssertionError(f"no training has {type(settings).__name__}")
