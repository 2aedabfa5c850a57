"""What trainings have in common: from a chip dataset to the best weights and their figures."""

from __future__ import annotations

import dataclasses
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
from torch import nn

from .. import ranks
from ..assessment.calibration import Calibration
from ..assessment.confusion import doubt, never_answered
from ..assessment.regression import figures_text, regression_doubt
from ..chips.dataset import SPLITS, ChipDataset
from ..config import TrainingConfig
from ..device import describe_device, explain_memory
from ..drafts import check_writable
from ..errors import Cancelled, InputError
from ..events import Part, Reporter, Stage, readable_time
from ..models.factory import count_parameters
from ..models.header import ModelHeader
from ..models.model_file import save_state
from ..torchrun import own_rank
from .augmentation.example import find_colors
from .baseline import SHARE, BaselineReporter, without_unlabelled
from .calibration import Sample, calibrate
from .checkpoint import Checkpoints
from .chip_cache import cached_chips
from .chips import Batches, ChipReader, Chips, Draws, StreamedChips, choose_place, load_chips
from .compiling import compile_network
from .examples import choose_examples, vary_examples
from .loop import Exploded, Fit, Fitted, evaluate
from .plan import Plan
from .pseudo_labels import PseudoLabels
from .sampling import Sampling
from .tally import Tally
from .task import Lesson, Task
from .unlabelled import PairedChips, PairedDraws, Unlabelled, UnlabelledReader
from .watch import Watched, check_tensorboard, write_history

Config = TypeVar("Config", bound=TrainingConfig)

# Figures that the log ends with, and their names there.
TOLD = {
    "overall_accuracy": "overall accuracy", "mean_iou": "mean IoU", "mean_f1": "mean F1",
    "mean_average_precision": "mean average precision",
}  # fmt: skip
# The shares of the progress bar: reading chips, training; the rest is for test chips and report.
READ, TRAINED, TESTED = 0.05, 0.95, 0.99
VARIED = 6  # chips that a report shows as augmentation makes them


@dataclass(frozen=True)
class Training:
    """All that a training needs, checked and ready."""

    config: TrainingConfig  # its epochs are settled
    dataset: ChipDataset
    unlabelled: Unlabelled | None
    splits: dict[str, np.ndarray]  # from `labelled_splits`
    sampling: Sampling  # of the training chips
    reader: ChipReader
    network: nn.Module  # on the device
    task: Task
    plan: Plan
    device: torch.device
    kind: dict[str, Any]  # what the header says of the task and the network
    name: str  # of the network, for messages
    begun: float  # when the job did, time.monotonic

    @property
    def work(self) -> str:
        """What needs the memory."""
        size, chips = self.dataset.info.chip_size, self.config.batch_size * (1 + self.config.unlabelled_ratio)
        return f"{chips} chips of {size} × {size} pixels a batch in {self.name}"

    @property
    def fingerprint(self) -> str:
        """Of all chips: that of the dataset, and of the unlabelled one."""
        sets = [self.dataset, *([self.unlabelled.dataset] if self.unlabelled else [])]
        return "-".join(dataset.fingerprint() for dataset in sets)

    def lesson(self, chips: Mapping[str, Chips]) -> tuple[Lesson, Draws, Batches]:
        """Return what a step learns, what draws its chips, and the chips.

        Args:
            chips: By split, and "unlabelled".
        """
        if self.unlabelled is None:
            return self.task, self.sampling, chips["training"]
        settings, info = self.config.unlabelled, self.dataset.info
        flips = self.config.augmentation.settled().augment
        return (
            PseudoLabels(self.task, settings, flips, info, self.unlabelled.dataset.info.nodata),
            PairedDraws(self.sampling, len(self.unlabelled.places), self.config.unlabelled_ratio),
            PairedChips(chips["training"], chips["unlabelled"]),
        )


@dataclass(frozen=True)
class Trained:
    """The best weights, which the network then has, and what they answered to validation and test chips."""

    fitted: Fitted
    tallies: dict[str, Any]  # by split, a `Tally` each, where there are chips
    calibration: Calibration | None = None
    baseline: dict[str, dict[str, Any]] | None = None  # the figures of a training without unlabelled chips, by split

    def figures(self) -> dict[str, dict[str, Any]]:
        """Return the figures by split, those of the calibration included."""
        figures = {split: tally.figures() for split, tally in self.tallies.items()}
        for split, (before, after) in (self.calibration.splits if self.calibration else {}).items():
            figures[split].update(calibration_error=after.error, uncalibrated_error=before.error)
        return figures


def labelled_splits(
    dataset: ChipDataset, fold: int | None, labelled: np.ndarray, lack: str, reporter: Reporter
) -> dict[str, np.ndarray]:
    """The places of the chips of each split that have a label to learn from or compare with.

    Args:
        fold: See `ChipDataset.indices`.
        labelled: (n,) bool.
        lack: What the others have: "no labelled pixel".

    Raises:
        InputError: There is no such fold.
    """
    splits = {}
    for split in SPLITS:
        places = dataset.indices(split, fold)
        splits[split] = places[labelled[places]]
        bare = len(places) - len(splits[split])
        if bare:
            reporter.log(f"{bare} of {len(places)} {split} chips have {lack} and are left out.")
    if not len(splits["validation"]):
        reporter.warning("There are no validation chips: the epoch with the lowest training loss is kept.")
    return splits


def check_classes(dataset: ChipDataset, chips: int, counts: np.ndarray, lack: str, remedy: str) -> None:
    """Refuse training chips with fewer than two classes.

    Args:
        chips: How many training chips there are.
        counts: (C,) of each class in them.
        lack: What they hold where they hold none: "no labelled pixel".
        remedy: What to do.

    Raises:
        InputError: A network could learn nothing from them.
    """
    present = [name for name, count in zip(dataset.info.classes.names, counts) if count]
    if len(present) < 2:
        what = f'only the class "{present[0]}"' if present else lack
        raise InputError(
            f"The {chips} training chips in {dataset.folder} hold {what}; a network learns from two classes or more.",
            remedy,
        )


def warn_of_absent_classes(dataset: ChipDataset, counts: np.ndarray, reporter: Reporter) -> None:
    """Tell which of (C,) classes no training chip shows."""
    absent = [name for name, count in zip(dataset.info.classes.names, counts) if not count]
    if absent:
        reporter.warning(f"No training chip shows {', '.join(absent)}: the network cannot learn it.")


def settle_augmentation(config: Config, dataset: ChipDataset, reporter: Reporter) -> Config:
    """The settings with a number for each of the augmentation's that is left to the preset."""
    asked = config.augmentation.settled()
    if (asked.hue or asked.saturation) and find_colors(dataset.info.band_names) is None:
        reporter.log("HUE and SATURATION stay as they are: the bands are not red, green and blue, by their names.")
        asked = asked.replace(hue=0.0, saturation=0.0)
    numbers = [f"{name.upper()} {value:g}" for name, value in asked.strengths().items() if value and name != "augment"]
    if numbers:
        reporter.log(f"AUGMENTATION is {asked.augmentation}: {', '.join(numbers)}.")
    return config.replace(**asked.to_json())


def check_outputs(training: Training) -> None:
    """Try to write where the results will be, before hours of work.

    Raises:
        ResourceError: A folder cannot be written, or its disk is full.
    """
    config = training.config
    if own_rank().number:  # writes nothing
        return
    check_writable(config.output, needed_bytes=4 * count_parameters(training.network))
    for path in (config.report, config.history):
        if path:
            check_writable(path)
    if config.tensorboard:
        check_tensorboard()


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
    config, splits, device = training.config, training.splits, training.device
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
            compared = {split: chips[split] for split in ("validation", "test")}
            stage = Stage(reporter, sum(map(len, compared.values())), "Evaluating", TRAINED, TESTED)
            compared = {split: some for split, some in compared.items() if len(splits[split])}
            samples: dict[str, Sample] = {}
            if config.calibrate and training.dataset.info.target is None:
                samples = {split: training.task.sample(len(splits[split]), config.seed) for split in compared}
            tallies: dict[str, Tally] = {
                split: evaluate(
                    training.network, training.task, some, config.batch_size, stage.advance, samples.get(split)
                )
                for split, some in compared.items()
            }
            calibration = _calibrate(samples, tallies, reporter)
    return Trained(fitted, tallies, calibration)


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


def remove_checkpoints(config: TrainingConfig) -> None:
    """Remove the checkpoint of a training, and that of its baseline."""
    for path in config.unfinished(config.to_json()):
        path.unlink(missing_ok=True)


def shown_split(splits: dict[str, np.ndarray]) -> str:
    """The split whose chips a report shows: the one that training saw least of."""
    return next(split for split in ("test", "validation", "training") if len(splits[split]))


def save(training: Training, trained: Trained, reporter: Reporter) -> ModelHeader:
    """Write the model file; returns its header."""
    described = header(training, trained, finished=True)
    with reporter.saving():
        save_state(training.config.output, trained.fitted.state, described)
    remove_checkpoints(training.config)
    if training.config.history:
        write_history(training.config.history, trained.fitted.history)
    return described


def results(training: Training, trained: Trained, reporter: Reporter) -> dict[str, Any]:
    """What the job gives back; the last word in the log."""
    fitted, seconds = trained.fitted, time.monotonic() - training.begun
    reporter.progress(1.0, "Done")
    reporter.log(f"Epoch {fitted.best_epoch} of {len(fitted.history)} was best; {readable_time(seconds)} in all.")
    figures = trained.figures()
    for split, found in figures.items():
        reporter.log(f"{split.capitalize()} chips: {_told(found)}.")
        if trained.baseline is not None:
            reporter.log(f"{split.capitalize()} chips, baseline: {_told(trained.baseline[split])}.")
        matrix = trained.tallies[split].details().get("confusion_matrix")
        names = training.dataset.info.classes.names
        poor = doubt(np.array(matrix), names, split) if matrix else regression_doubt(found, split)
        if poor:
            reporter.warning(poor)
        never = never_answered(np.array(matrix), training.dataset.info.classes.names, split) if matrix else ""
        if never and not poor:
            reporter.warning(never)
        if found["loss"] is None and trained.tallies[split].labelled:
            reporter.warning(
                f"To some {split} chips the network gives no numbers, and so no answer. Look for extreme values in the "
                "bands, and declare them as nodata."
            )
    return {
        "model": training.config.output,
        "report": training.config.report,
        "history": training.config.history,
        "best_epoch": fitted.best_epoch,
        "epochs": len(fitted.history),
        "seconds": seconds,
        "validation": figures.get("validation"),
        "test": figures.get("test"),
        "temperature": trained.calibration.temperature if trained.calibration else None,
        "baseline": trained.baseline,
    }


def report_values(training: Training, trained: Trained, header: ModelHeader, shown: np.ndarray) -> dict[str, Any]:
    """What the reports of all trainings tell: the fields of `TrainingReport`.

    Args:
        training: The training.
        trained: What came of it.
        header: Of the model file.
        shown: (n, C) how much each chip of the dataset shows of each class.
    """
    config, device, info = training.config, training.device, training.dataset.info
    with explain_memory(device, training.work):
        chosen = choose_examples(shown, training.splits["training"], VARIED, config.seed)
        variants = vary_examples(training.task, training.reader, chosen, config.seed, device)
    return {
        "header": header,
        "info": info,
        "dataset": str(training.dataset.folder),
        "chips": {split: len(places) for split, places in training.splits.items()},
        "best_epoch": trained.fitted.best_epoch,
        "parameters": count_parameters(training.network),
        "seconds": time.monotonic() - training.begun,
        "device": describe_device(device),
        "variants": variants,
        "calibration": trained.calibration,
    }


def _told(found: dict[str, Any]) -> str:
    """Figures as a text."""
    shown = [f"{name} {100 * found[key]:.1f} %" for key, name in TOLD.items() if found.get(key) is not None]
    return ", ".join(shown) or figures_text(found) or "no figures"


def header(training: Training, trained: Trained, finished: bool) -> ModelHeader:
    """The description that goes into the model file."""
    info, fitted = training.dataset.info, trained.fitted
    metrics: dict[str, Any] = {
        "best_epoch": fitted.best_epoch,
        "seconds": fitted.seconds,
        "precision": fitted.precision,
    }
    for split, tally in trained.tallies.items():
        metrics[split] = {**tally.figures(), **tally.details()}
    calibration = trained.calibration
    if calibration is not None:
        metrics["calibration"] = calibration.to_json()
    if trained.baseline is not None:
        metrics["baseline"] = trained.baseline
    return ModelHeader(
        **training.kind,
        band_names=info.band_names,
        dtype=info.dtype,
        nodata=info.nodata,
        mean=info.mean,
        std=info.std,
        classes=info.classes,
        chip_size=info.chip_size,
        pixel_size=info.pixel_size,
        crs=info.crs,
        recipe=training.config.to_json(),
        history=fitted.history,
        metrics=metrics,
        dataset_fingerprint=training.fingerprint,
        versions={
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "segmentation_models_pytorch": smp.__version__,
            "timm": timm.__version__,
        },
        finished=finished,
        temperature=calibration.temperature if calibration else None,
        placement=info.placement,
        scales=info.scales,
    )
