"""The job behind `trainclassifier`: chip dataset → CNN model file and report, for classes or for numbers."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from ..assessment.classifier_report import Answered, ClassifierReport, write_report
from ..assessment.regression_report import ChipErrors, ChipRegressionReport, write_regression_report
from ..chips.dataset import ChipDataset, open_dataset
from ..config import TrainClassifierConfig
from ..device import choose_device, describe_device, explain_memory
from ..errors import InputError
from ..events import Reporter
from ..models.classifier_arguments import TeachingArguments
from ..models.classifier_hub import describe_download, download_classifier
from ..models.classifier_network import Classifier, create_classifier, lay_out_classifier
from ..models.classifier_weights import first_layer, load_classifier_weights
from ..models.cost import work_per_chip
from ..models.decision import USUAL_THRESHOLD
from ..models.fine_tuning import freeze_encoder
from ..models.header import ModelHeader
from ..models.model_file import load_tensors
from ..models.pretrained_weights import get_weights
from ..models.starting import start_from
from ..models.summary import Summary, summarise
from ..models.weights_file import Weights
from ..recipe.schedule import automatic_classifier_epochs
from ..tasks import CLASSIFIER_TASKS
from ..torchrun import own_rank
from .chips import SceneReader, steps_an_epoch
from .classification import ClassificationTask, MultilabelTask
from .determinism import deterministic, without_choices
from .early_checks import check_classifier, check_results
from .mistakes import find_misses, find_mistakes
from .outcome import Trained, report_values, results, save, shown_split
from .plan import FineTuning, settle
from .ready import Training, check_classes, check_outputs, labelled_splits, settle_augmentation, warn_of_absent_classes
from .recipe_file import with_recipe
from .regression import ChipRegressionTask, NumberReader
from .sampling import settle_sampling
from .train import train_compared
from .unlabelled import open_unlabelled

TASKS = {"classification": ClassificationTask, "multilabel": MultilabelTask, "chip_regression": ChipRegressionTask}


def train_classifier(config: TrainClassifierConfig, reporter: Reporter) -> dict[str, Any]:
    """Train a network that gives each chip a class, several, or a number.

    Returns:
        As `train_segmenter`, but with the figures of `scores.class_figures`, `scores.labels_figures` or
        `RegressionTally.accuracies`, and the loss.

    Raises:
        InputError: The dataset, the weights file or a setting cannot be used.
        ResourceError: A folder cannot be written, the device is not there, or memory is not enough.
        Cancelled: The user asked for the end.
    """
    check_results(config)
    config = with_recipe(config)
    with deterministic(config.deterministic, reporter):
        return _train(config, reporter)


def _train(config: TrainClassifierConfig, reporter: Reporter) -> dict[str, Any]:
    training, summary = prepare(config, reporter)
    check_outputs(training)
    trained = train_compared(training, lambda *again: prepare(*again)[0], reporter)
    if own_rank().number:  # the first rank writes the results
        return {}
    header = save(training, trained, reporter)
    if config.report:
        report = _report(training, trained, header, summary)
        if isinstance(report, ChipRegressionReport):
            write_regression_report(config.report, report)
        else:
            write_report(config.report, report)
    return results(training, trained, reporter)


def prepare(config: TrainClassifierConfig, reporter: Reporter) -> tuple[Training, Summary]:
    """Check all that can fail early, before the first chip is read."""
    begun = time.monotonic()
    device = choose_device(config.device, reporter)
    config = without_choices(config, device)
    dataset = open_dataset(config.chips)
    info = dataset.info
    arguments = check_classifier(config, str(dataset.folder), info)
    unlabelled = open_unlabelled(config, dataset, reporter)
    config = settle_augmentation(config, dataset, reporter)
    splits = _splits(config, dataset, reporter)
    sampling = settle_sampling(config.sampling, info, dataset.shown[splits["training"]], reporter)
    name = config.architecture

    def download() -> Weights:
        reporter.log(describe_download(name))
        return download_classifier(name)

    weights = None
    if not config.start_from:
        weights, pretrained = get_weights(
            name, config.pretrained, config.encoder_weights, config.download_weights, download, reporter
        )
        config = config.replace(pretrained=pretrained)
    begins = weights is not None or bool(config.start_from)  # with weights that are worth keeping
    config = _settled(config, arguments, dataset, len(sampling), device, begins, reporter)
    torch.manual_seed(config.seed)
    network = _make_network(config, arguments, dataset, weights, reporter)
    if config.fine_tuning.freeze == "encoder":
        freeze_encoder(network)  # before its layers are counted
    summary = summarise(network, len(info.band_names), info.chip_size)
    reporter.log(summary.text())
    reporter.log(
        f"{config.architecture}: {summary.parameters:,} parameters, {len(info.band_names)} bands, "
        f"{f'{len(info.classes)} classes' if info.target is None else 'a target'}, on {describe_device(device)}."
    )
    with explain_memory(device, config.architecture):
        network = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    training = Training(
        config=config,
        dataset=dataset,
        unlabelled=unlabelled,
        splits=splits,
        sampling=sampling,
        reader=SceneReader(dataset) if info.target is None else NumberReader(dataset),
        network=network,
        task=TASKS[info.task](info, sampling, config, device),
        plan=FineTuning(network, config.fine_tuning, config.unlabelled_ratio),
        device=device,
        kind={
            "task": info.task,
            "architecture": config.architecture,
            "encoder": "",
            "arguments": arguments.to_json() if arguments else {},
            "threshold": config.threshold,
            "target": info.target,
        },
        name=config.architecture,
        begun=begun,
    )
    return training, summary


def _splits(config: TrainClassifierConfig, dataset: ChipDataset, reporter: Reporter) -> dict[str, np.ndarray]:
    """The chips of each split that can be used.

    Raises:
        InputError: There is nothing that a network could learn.
    """
    if dataset.info.task == "chip_regression":
        return labelled_splits(dataset, config.fold, np.isfinite(dataset.targets), "no number", reporter)
    single = dataset.info.task == "classification"
    # That a chip shows none of several classes is an answer as well.
    labelled = np.asarray(dataset.shown.any(axis=1)) if single else np.ones(len(dataset.images), bool)
    splits = labelled_splits(dataset, config.fold, labelled, "no class", reporter)
    shown = dataset.shown[splits["training"]]
    counts = shown.sum(axis=0)
    if single:
        check_classes(dataset, len(shown), counts, "no class", "Export chips of another class as well.")
    elif not ((counts > 0) & (counts < len(shown))).any():
        raise InputError(
            f"The {len(shown)} training chips in {dataset.folder} all show the same classes, or none; a network learns "
            "from chips that differ.",
            "Export chips with and without each class.",
        )
    warn_of_absent_classes(dataset, counts, reporter)
    return splits


def _settled(
    config: TrainClassifierConfig,
    arguments: TeachingArguments | None,
    dataset: ChipDataset,
    chips: int,
    device: torch.device,
    pretrained: bool,
    reporter: Reporter,
) -> TrainClassifierConfig:
    """The settings with a value for all that is automatic."""
    info, name = dataset.info, config.architecture
    epochs = config.schedule.epochs
    if not config.schedule.has_length:
        bands, outputs, size = len(info.band_names), info.outputs, info.chip_size
        work = work_per_chip(
            lambda: create_classifier(name, bands, outputs, size, arguments), bands, size, config.batch_size
        )
        epochs = automatic_classifier_epochs(chips, work, device.type, pretrained, config.batch_size)
        reporter.log(f"EPOCHS is automatic: {epochs} for {chips} training chips in {name}.")
    known = config.schedule.replace(epochs=epochs).known_epochs(steps_an_epoch(chips, config.step_size))
    threshold = config.threshold
    if threshold is None and info.task == "multilabel":
        threshold = USUAL_THRESHOLD
    return config.replace(
        epochs=epochs,
        threshold=threshold,
        **config.optimizer.settled(info.task),
        **settle(config.fine_tuning, known, pretrained, "output layer", reporter),
    )


def _make_network(
    config: TrainClassifierConfig,
    arguments: TeachingArguments | None,
    dataset: ChipDataset,
    weights: Weights | None,
    reporter: Reporter,
) -> Classifier:
    info, name = dataset.info, config.architecture
    network = create_classifier(name, len(info.band_names), info.outputs, info.chip_size, arguments)
    if config.start_from:
        earlier, tensors = load_tensors(config.start_from, CLASSIFIER_TASKS)
        found = start_from(
            network, earlier, tensors, info.classes, info.band_names, first_layer(network),
            lambda outputs: lay_out_classifier(name, len(info.band_names), outputs, info.chip_size, arguments),
        )  # fmt: skip
        reporter.log(f"The network starts from {config.start_from}: {found}")
    elif weights is None:
        reporter.log("The network starts from random weights.")
    else:
        reporter.log(load_classifier_weights(network, name, weights, info.band_names))
    return network


def _report(
    training: Training, trained: Trained, header: ModelHeader, summary: Summary
) -> ClassifierReport | ChipRegressionReport:
    dataset, splits, threshold = training.dataset, training.splits, header.threshold
    shown = shown_split(splits)
    common = {**report_values(training, trained, header, dataset.shown.astype(np.int64)), "summary": summary}
    if header.target is not None:
        found = {
            split: ChipErrors(tally.figures(), tally.pair_counts(), tally.error_counts(), tally.answers())
            for split, tally in trained.tallies.items()
        }
        misses = find_misses(found[shown].answers, splits[shown], shown, training.reader) if shown in found else []
        return ChipRegressionReport(evaluations=found, misses=misses, misses_split=shown, **common)
    answered = {
        split: Answered(tally.figures(), tally.probabilities(), tally.targets())
        for split, tally in trained.tallies.items()
    }
    mistakes = []
    if shown in answered:
        mistakes = find_mistakes(answered[shown], threshold, splits[shown], shown, training.reader)
    return ClassifierReport(
        answered=answered,
        shown={split: dataset.shown[places].sum(axis=0) for split, places in splits.items()},
        mistakes=mistakes,
        mistakes_split=shown,
        **common,
    )
