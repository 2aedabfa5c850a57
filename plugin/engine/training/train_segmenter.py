"""The job behind `trainsegmenter`: chip dataset → model file of a segmentation network, and report."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import torch

from ..assessment.regression_report import Errors, RegressionReport, write_regression_report
from ..assessment.report import Evaluation
from ..assessment.segmenter_report import SegmenterReport, write_report
from ..chips.dataset import ChipDataset, open_dataset
from ..config import TrainSegmenterConfig
from ..device import choose_device, describe_device, explain_memory
from ..events import Reporter
from ..models.encoder_weights import describe_download, download_weights, load_encoder_weights
from ..models.factory import count_parameters, create_model, lay_out_model, try_model
from ..models.header import ModelHeader
from ..models.input_bands import first_convolution
from ..models.model_file import load_tensors
from ..models.networks import Segmenter
from ..models.pretrained_weights import get_weights
from ..models.reach import sees_whole_window
from ..models.starting import start_from
from ..models.weights_file import Weights
from ..recipe.schedule import automatic_epochs
from ..tasks import SEGMENTER_TASKS
from ..torchrun import own_rank
from .chips import ChipReader, steps_an_epoch
from .determinism import deterministic, without_choices
from .early_checks import check_results, check_segmenter
from .examples import choose_examples, predict_examples
from .outcome import Trained, report_values, results, save, shown_split
from .plan import FineTuning, settle
from .ready import Training, check_classes, check_outputs, labelled_splits, settle_augmentation, warn_of_absent_classes
from .recipe_file import with_recipe
from .regression import RegressionTask, TargetReader
from .sampling import settle_sampling
from .seams import measure_seams
from .segmentation import SegmentationTask
from .train import train_compared
from .unlabelled import open_unlabelled

EXAMPLES = 6
# Seconds of a training that is worth it to measure seams at its end, which takes as long as a map of 12 megapixels.
LONG = 240.0
LACK = "no labelled pixel"


def train_segmenter(config: TrainSegmenterConfig, reporter: Reporter) -> dict[str, Any]:
    """Train a network on a chip dataset.

    Returns:
        `model` and `report` (paths; report may be None), `best_epoch`, `epochs` (trained), `seconds`, and for
        `validation` and `test` the figures of the best weights (loss, overall_accuracy, mean_iou, mean_f1, and per
        class iou and f1), or None where the split has no chips. `temperature` is None if the confidence is not
        calibrated; otherwise each split has `uncalibrated_error` and `calibration_error`, the expected calibration
        error before and after.

    Raises:
        InputError: The dataset, the weights file or a setting cannot be used.
        ResourceError: A folder cannot be written, the device is not there, or memory is not enough.
        Cancelled: The user asked for the end.
    """
    check_results(config)
    config = with_recipe(config)
    with deterministic(config.deterministic, reporter):
        return _train(config, reporter)


def _train(config: TrainSegmenterConfig, reporter: Reporter) -> dict[str, Any]:
    training = prepare(config, reporter)
    check_outputs(training)
    trained = train_compared(training, prepare, reporter)
    if own_rank().number:  # the first rank writes the results
        return {}
    if trained.fitted.seconds >= LONG and not training.kind["whole_window"]:
        places = training.splits[shown_split(training.splits)]
        with explain_memory(training.device, training.work):
            seams = measure_seams(training.network, training.task, training.reader, places)
        training = dataclasses.replace(training, kind={**training.kind, "seams": seams})
    header = save(training, trained, reporter)
    if config.report:
        report = _report(training, trained, header)
        if isinstance(report, RegressionReport):
            write_regression_report(config.report, report)
        else:
            write_report(config.report, report)
    return results(training, trained, reporter)


def prepare(config: TrainSegmenterConfig, reporter: Reporter) -> Training:
    """Check all that can fail early, before the first chip is read."""
    begun = time.monotonic()
    device = choose_device(config.device, reporter)
    config = without_choices(config, device)
    dataset = open_dataset(config.chips)
    info = dataset.info
    check_segmenter(config, str(dataset.folder), info)
    unlabelled = open_unlabelled(config, dataset, reporter)
    config = settle_augmentation(config, dataset, reporter)
    numbers = info.task == "regression"
    labelled = dataset.labelled_share > 0 if numbers else dataset.pixels.sum(axis=1) > 0
    splits = labelled_splits(dataset, config.fold, labelled, LACK, reporter)
    chips, shown = len(splits["training"]), dataset.pixels[splits["training"]]  # (n, C)
    if not numbers:
        pixels = shown.sum(axis=0)
        check_classes(
            dataset, chips, pixels, LACK, "Export chips with labels of another class, or with BACKGROUND set to class."
        )
        warn_of_absent_classes(dataset, pixels, reporter)
    sampling = settle_sampling(config.sampling, info, shown, reporter)
    if not config.schedule.has_length:
        config = config.replace(epochs=automatic_epochs(len(sampling), info.chip_size, device.type))
        reporter.log(f"EPOCHS is automatic: {config.schedule.epochs} for {chips} training chips.")
    config = config.replace(**config.optimizer.settled(info.task))
    torch.manual_seed(config.seed)
    config, network, pretrained = _make_network(config, dataset, reporter)
    known = config.schedule.known_epochs(steps_an_epoch(len(sampling), config.step_size))
    config = config.replace(**settle(config.fine_tuning, known, pretrained, "decoder", reporter))
    name = f"{config.architecture} with {config.encoder_name}"
    reporter.log(
        f"{name}: {count_parameters(network):,} parameters, "
        f"{len(info.band_names)} bands, {'a target' if numbers else f'{len(info.classes)} classes'}, on "
        f"{describe_device(device)}."
    )
    whole_window = sees_whole_window(network.eval(), len(info.band_names))
    with explain_memory(device, name):
        network = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Training(
        config=config,
        dataset=dataset,
        unlabelled=unlabelled,
        splits=splits,
        sampling=sampling,
        reader=TargetReader(dataset) if numbers else ChipReader(dataset),
        network=network,
        task=(RegressionTask if numbers else SegmentationTask)(info, sampling, config, device),
        plan=FineTuning(network, config.fine_tuning, config.unlabelled_ratio),
        device=device,
        kind={
            "task": info.task,
            "architecture": config.architecture,
            "encoder": config.encoder_name,
            "arguments": config.decoder.arguments(),
            "whole_window": whole_window,
            "target": info.target,
        },
        name=name,
        begun=begun,
    )


def _make_network(
    config: TrainSegmenterConfig, dataset: ChipDataset, reporter: Reporter
) -> tuple[TrainSegmenterConfig, Segmenter, bool]:
    """The settings that name the pretrained weights, the network, and whether it has such weights."""
    info, encoder = dataset.info, config.encoder_name
    shape = config.architecture, encoder, len(info.band_names), info.outputs, config.decoder
    if config.timm_encoder:  # all others are known to work
        try_model(*shape)

    def download() -> Weights:
        reporter.log(describe_download(encoder))
        return download_weights(encoder)

    if config.start_from:
        earlier, tensors = load_tensors(config.start_from, SEGMENTER_TASKS)
        network = create_model(*shape)
        first = f"encoder.{first_convolution(network.encoder)[0]}.weight"
        found = start_from(
            network, earlier, tensors, info.classes, info.band_names, first,
            lambda outputs: lay_out_model(*shape[:3], outputs, config.decoder),
        )  # fmt: skip
        reporter.log(f"The network starts from {config.start_from}: {found}")
        return config, network, True
    weights, pretrained = get_weights(
        encoder, config.pretrained, config.encoder_weights, config.download_weights, download, reporter
    )
    network = create_model(*shape)
    if weights is None:
        reporter.log("The encoder starts from random weights.")
    else:
        reporter.log(load_encoder_weights(network.encoder, encoder, weights, info.band_names))
    return config.replace(pretrained=pretrained), network, weights is not None


def _report(training: Training, trained: Trained, header: ModelHeader) -> SegmenterReport | RegressionReport:
    config, dataset, splits = training.config, training.dataset, training.splits
    shown = shown_split(splits)
    with explain_memory(training.device, training.work):
        chosen = choose_examples(dataset.pixels, splits[shown], EXAMPLES, config.seed)
        examples = predict_examples(training.network, training.task, training.reader, chosen, shown, training.device)
    common = {**report_values(training, trained, header, dataset.pixels), "examples": examples}
    if header.target is not None:
        found = {
            split: Errors(tally.figures(), tally.pair_counts(), tally.error_counts())
            for split, tally in trained.tallies.items()
        }
        return RegressionReport(evaluations=found, **common)
    return SegmenterReport(
        evaluations={split: Evaluation(tally.figures(), tally.matrix()) for split, tally in trained.tallies.items()},
        training_pixels=dataset.pixels[splits["training"]].sum(axis=0),
        **common,
    )
