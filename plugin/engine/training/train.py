"""Trains: from the chips to the best weights and what they answer; all ranks together."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .. import ranks
from ..assessment.calibration import Calibration
from ..chips.dataset import SPLITS
from ..device import explain_memory
from ..errors import Cancelled, InputError
from ..events import Part, Reporter, Stage
from ..torchrun import own_rank
from .baseline import SHARE, BaselineReporter, without_unlabelled
from .calibration import Sample, calibrate
from .checkpoint import Checkpoints, remove_checkpoints
from .chip_cache import cached_chips
from .chips import Chips, StreamedChips, choose_place, load_chips
from .compiling import compile_network
from .loop import Exploded, Fit, evaluate
from .outcome import Trained, header
from .ready import Training
from .tally import Tally
from .unlabelled import UnlabelledReader
from .watch import Watched

# The shares of the progress bar: reading chips, training; the rest is for test chips and report.
READ, TRAINED, TESTED = 0.05, 0.95, 0.99


def train_compared(training: Training, prepare: Callable[[Any, Reporter], Training], reporter: Reporter) -> Trained:
    """Train, after the baseline if there is to be one: the same network with the labelled chips alone.

    The checkpoint of the baseline is kept until the training ends, so that both can be resumed.

    Args:
        training: Ready.
        prepare: Gets ready a training with other settings.
        reporter: Receives the progress of both.

    Raises:
        InputError, ResourceError, Cancelled: As `train`.
    """
    config, baseline = training.config, None
    if config.unlabelled.baseline:
        first = BaselineReporter(reporter)
        first.log("The network is trained on the labelled chips alone.")
        baseline = train(prepare(without_unlabelled(config), first), first).figures()
        reporter = Part(reporter, SHARE, 1.0)
    return dataclasses.replace(train(training, reporter), baseline=baseline)


def train(training: Training, reporter: Reporter) -> Trained:
    """Read the chips, train, and count what the best weights answer; all ranks together.

    Raises:
        InputError: A chip cannot be read, or the loss is no longer a number.
        ResourceError: Memory is not enough.
        Cancelled: The user asked for the end.
    """
    config, device = training.config, training.device
    if config.tensorboard and own_rank().number == 0:
        reporter = Watched(reporter, config.tensorboard)
    ranks.join(device)
    ranks.check_same({"settings": config.to_json(), "chips": training.fingerprint, "kind of device": device.type})
    ranks.copy_first(training.network)
    with explain_memory(device, training.work):
        chips = _prepare_chips(training, reporter)
        lesson, draws, shown = training.lesson(chips)
        closing = len(chips["validation"]) + len(chips["test"])
        fit = Fit(
            training.network, training.task, lesson, training.plan, draws, config, shown, chips["validation"], device,
            reporter, closing, time.monotonic() - training.begun,
        )  # fmt: skip
        if config.compile:
            compile_network(training.network, device, reporter)
        checkpoints = Checkpoints(
            config.output, lambda found: header(training, Trained(found, {}), finished=False),
            config.checkpoint_minutes, reporter,
        )  # fmt: skip
        if config.resume:
            checkpoints.resume(fit)
            ranks.check_same({"checkpoint": fit.pace.steps})
        with _kept(fit, checkpoints, reporter):
            fitted = fit.run(checkpoints.offer, Stage(reporter, fit.work, "Training", READ, TRAINED))
            training.network.load_state_dict(fitted.state)
            tallies, calibration = _count_answers(training, chips, reporter)
    return Trained(fitted, tallies, calibration)


def _count_answers(
    training: Training, chips: dict[str, Chips], reporter: Reporter
) -> tuple[dict[str, Tally], Calibration | None]:
    """Count what the network answers to the validation and test chips, calibrated."""
    config, splits = training.config, training.splits
    stage = Stage(reporter, len(chips["validation"]) + len(chips["test"]), "Evaluating", TRAINED, TESTED)
    compared = [split for split in ("validation", "test") if len(splits[split])]
    samples: dict[str, Sample] = {}
    if config.calibrate and training.dataset.info.target is None:
        samples = {split: training.task.sample(len(splits[split]), config.seed) for split in compared}
    tallies: dict[str, Tally] = {
        split: evaluate(
            training.network, training.task, chips[split], config.batch_size, stage.advance, samples.get(split)
        )
        for split in compared
    }
    return tallies, _calibrate(samples, tallies, reporter)


def _calibrate(samples: dict[str, Sample], tallies: dict[str, Tally], reporter: Reporter) -> Calibration | None:
    """Fit a temperature to the validation chips, count answers with it, and report its effect."""
    if not samples:
        return None
    calibration = calibrate({split: sample.merged() for split, sample in samples.items()})
    if calibration is None:
        reporter.log("Confidence is not calibrated: there are no labelled validation chips.")
        return None
    for tally in tallies.values():
        tally.calibrate(calibration.temperature)
    reporter.log(f"Confidence is calibrated: {calibration}.")
    return calibration


def _prepare_chips(training: Training, reporter: Reporter) -> dict[str, Chips]:
    """The chips of each split, decoded once; test chips, which are read once, only where all chips are on disk.

    Each rank gets its share of the validation and test chips. It trains on other chips in each epoch, so it needs all.
    """
    device = training.device
    readers, places = dict.fromkeys(SPLITS, training.reader), {}
    for split, found in training.splits.items():
        places[split] = found if split == "training" else ranks.share(found)
    if training.unlabelled:
        readers["unlabelled"] = UnlabelledReader(training.unlabelled.dataset)
        places["unlabelled"] = training.unlabelled.places
    kept = [name for name in places if name != "test"]
    place = choose_place(sum(len(places[name]) * readers[name].chip_bytes for name in kept), device, reporter)
    sources = list(dict.fromkeys(readers.values()))
    whole = sum(len(reader.dataset.images) for reader in sources)
    steps = sum(len(places[name]) for name in kept) if place else whole
    stage = Stage(reporter, steps, "Reading chips", 0.0, READ)
    if place is None:
        with ranks.in_turns():
            cached = {reader: cached_chips(reader, training.config.cache_folder, reporter, stage) for reader in sources}
        return {name: StreamedChips(cached[readers[name]], places[name], device) for name in places}
    loaded = {name: load_chips(readers[name], places[name], device, place, stage) for name in kept}
    return {**loaded, "test": StreamedChips(training.reader, places["test"], device)}


@contextmanager
def _kept(fit: Fit, checkpoints: Checkpoints, reporter: Reporter) -> Iterator[None]:
    """A block after whose interruption what the training has learned so far is there, unless the user wants none.

    A checkpoint holds what all ranks have counted, so a rank that is orphaned among others leaves the last one.
    """
    with reporter.saving():
        try:
            yield
        except Cancelled:
            if reporter.orphaned() and own_rank().count == 1:
                checkpoints.write(fit)
            elif not (reporter.orphaned() or fit.config.resume):
                remove_checkpoints(fit.config)
            raise
        except Exploded as error:  # on all ranks at once; the first one to end would end the others
            with ranks.in_turns():
                kept = _keep_best(fit, checkpoints)
            raise InputError(f"{error.problem}{kept}", error.remedy) from error


def _keep_best(fit: Fit, checkpoints: Checkpoints) -> str:
    """Replace the checkpoint by the best weights of a training whose last ones are of no use; returns a sentence."""
    if own_rank().number:
        return ""
    remove_checkpoints(fit.config)
    if not fit.fitted.best_epoch:
        return ""
    path = checkpoints.keep_best(fit.fitted)
    return f" The best epoch so far, {fit.fitted.best_epoch}, is kept in {path}."
