"""The job behind `trainsegmenter`: chip dataset → model file and report."""

from __future__ import annotations

import dataclasses
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision

from ..assessment.report import Evaluation, TrainingReport, write_report
from ..chips.dataset import ChipDataset, open_dataset
from ..config import TrainSegmenterConfig
from ..errors import InputError
from ..events import Reporter, Stage, readable_time
from ..files import check_writable
from ..models.encoder_weights import download_weights, load_encoder_weights, read_weights
from ..models.factory import check_chip_size, count_parameters, create_model
from ..models.header import ModelHeader
from ..models.model_file import save_state
from ..models.networks import Segmenter
from .chips import ChipReader, StreamedChips, choose_place, prepare_chips
from .device import choose_device, describe_device, explain_memory
from .examples import choose_examples, predict_examples
from .loop import Fitted, evaluate, fit
from .schedule import automatic_epochs
from .segmentation import SegmentationTask

EXAMPLES = 6
# The shares of the progress bar: reading chips, training; the rest is for test chips and report.
READ, TRAINED = 0.05, 0.95


def train_segmenter(config: TrainSegmenterConfig, reporter: Reporter) -> dict[str, Any]:
    """Train a network on a chip dataset.

    Returns:
        `model` and `report` (paths; report may be None), `best_epoch`, `epochs` (trained), `seconds`, and for
        `validation` and `test` the figures of the best weights (loss, overall_accuracy, mean_iou, mean_f1, and per
        class iou and f1), or None where the split has no chips.

    Raises:
        InputError: The dataset, the weights file or a setting cannot be used.
        ResourceError: A folder cannot be written, the device is not there, or memory is not enough.
        Cancelled: The user asked for the end.
    """
    begun = time.monotonic()
    # All that can fail early does so before the first chip is read.
    device = choose_device(config.device, reporter)
    dataset = open_dataset(config.chips)
    splits = _labelled_splits(dataset, reporter)
    if config.epochs is None:
        epochs = automatic_epochs(len(splits["training"]), dataset.info.chip_size, device.type)
        config = dataclasses.replace(config, epochs=epochs)
        reporter.log(f"EPOCHS is automatic: {epochs} for {len(splits['training'])} training chips.")
    torch.manual_seed(config.seed)
    network = _make_network(config, dataset, reporter)
    parameters = count_parameters(network)
    check_writable(config.output, needed_bytes=4 * parameters)
    if config.report:
        check_writable(config.report)
    reporter.log(
        f"{config.architecture} with {config.encoder}: {parameters:,} parameters, "
        f"{len(dataset.info.band_names)} bands, {len(dataset.info.classes)} classes, on {describe_device(device)}."
    )

    reader = ChipReader(dataset)
    size = dataset.info.chip_size
    work = f"{config.batch_size} chips of {size} × {size} pixels a batch in {config.architecture} with {config.encoder}"
    with explain_memory(device, work):
        kept = len(splits["training"]) + len(splits["validation"])
        place = choose_place(kept * reader.chip_bytes, device, reporter)
        stage = Stage(reporter, kept, "Reading chips", 0.0, READ)
        training = prepare_chips(reader, splits["training"], device, place, stage)
        validation = prepare_chips(reader, splits["validation"], device, place, stage)
        network = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        task = SegmentationTask(dataset.info, config.class_weights, config.radiometric_jitter, device)
        checkpoint = Path(config.output).with_suffix(".checkpoint.safetensors")

        def save_checkpoint(fitted: Fitted) -> None:
            save_state(checkpoint, fitted.state, _header(config, dataset, fitted, {}, finished=False))

        fitted = fit(
            network, task, training, validation, config, device, reporter, save_checkpoint, span=(READ, TRAINED)
        )
        network.load_state_dict(fitted.state)

        evaluations: dict[str, Evaluation] = {}
        stage = Stage(reporter, len(splits["validation"]) + len(splits["test"]), "Evaluating", TRAINED, 0.99)
        test = StreamedChips(reader, splits["test"], device)
        for split, chips in (("validation", validation), ("test", test)):
            if len(chips):
                figures, matrix = evaluate(network, task, chips, config.batch_size, device, stage)
                evaluations[split] = Evaluation(figures, matrix)
        shown = next(split for split in ("test", "validation", "training") if len(splits[split]))
        chosen = choose_examples(dataset, splits[shown], EXAMPLES if config.report else 0, config.seed)
        examples = predict_examples(network, task, reader, chosen, shown, device)

    seconds = time.monotonic() - begun
    header = _header(config, dataset, fitted, evaluations, finished=True)
    save_state(config.output, fitted.state, header)
    if config.report:
        report = TrainingReport(header, dataset.info, str(dataset.folder), evaluations, examples,
                                fitted.best_epoch, parameters, seconds, describe_device(device))  # fmt: skip
        write_report(config.report, report)
    reporter.progress(1.0, "Done")
    reporter.log(f"Epoch {fitted.best_epoch} of {len(fitted.history)} was best; {readable_time(seconds)} in all.")
    return {
        "model": config.output,
        "report": config.report,
        "best_epoch": fitted.best_epoch,
        "epochs": len(fitted.history),
        "seconds": seconds,
        "validation": evaluations["validation"].figures if "validation" in evaluations else None,
        "test": evaluations["test"].figures if "test" in evaluations else None,
    }


def _labelled_splits(dataset: ChipDataset, reporter: Reporter) -> dict[str, np.ndarray]:
    """The chips of each split that have a label to learn from or compare with.

    Raises:
        InputError: There is nothing that a network could learn.
    """
    info = dataset.info
    if info.task != "segmentation":
        raise InputError(f"The chips in {dataset.folder} are for {info.task}.", "Export chips for segmentation.")
    check_chip_size(info.chip_size)
    labelled = dataset.pixels.sum(axis=1) > 0
    splits = {}
    for split in ("training", "validation", "test"):
        places = dataset.indices(split)
        splits[split] = places[labelled[places]]
        bare = len(places) - len(splits[split])
        if bare:
            reporter.log(f"{bare} of {len(places)} {split} chips have no labelled pixel and are left out.")
    counts = dataset.pixels[splits["training"]].sum(axis=0)
    present = [name for name, count in zip(info.classes.names, counts) if count]
    if len(present) < 2:
        what = f'only the class "{present[0]}"' if present else "no labelled pixel"
        raise InputError(
            f"The {len(splits['training'])} training chips in {dataset.folder} hold {what}; "
            "a network learns from two classes or more.",
            "Export chips with labels of another class, or with BACKGROUND set to class.",
        )
    absent = [name for name, count in zip(info.classes.names, counts) if not count]
    if absent:
        reporter.warning(f"No training chip shows {', '.join(absent)}: the network cannot learn it.")
    if not len(splits["validation"]):
        reporter.warning("There are no validation chips: the epoch with the lowest training loss is kept.")
    return splits


def _make_network(config: TrainSegmenterConfig, dataset: ChipDataset, reporter: Reporter) -> Segmenter:
    info = dataset.info
    network = create_model(config.architecture, config.encoder, len(info.band_names), len(info.classes))
    if config.encoder_weights:
        tensors, source = read_weights(config.encoder_weights), config.encoder_weights
    elif config.download_weights:
        reporter.log(f"Downloading ImageNet weights of {config.encoder} from the Hugging Face hub, as asked.")
        tensors, source = download_weights(config.encoder), f"ImageNet weights of {config.encoder} from the hub"
    else:
        reporter.log("The encoder starts from random weights.")
        return network
    reporter.log(load_encoder_weights(network.encoder, config.encoder, tensors, info.band_names, source))
    return network


def _header(
    config: TrainSegmenterConfig,
    dataset: ChipDataset,
    fitted: Fitted,
    evaluations: dict[str, Evaluation],
    finished: bool,
) -> ModelHeader:
    info = dataset.info
    metrics: dict[str, Any] = {"best_epoch": fitted.best_epoch, "seconds": fitted.seconds}
    for split, evaluation in evaluations.items():
        metrics[split] = {**evaluation.figures, "confusion_matrix": evaluation.matrix.tolist()}
    return ModelHeader(
        task="segmentation",
        architecture=config.architecture,
        encoder=config.encoder,
        band_names=info.band_names,
        dtype=info.dtype,
        nodata=info.nodata,
        mean=info.mean,
        std=info.std,
        classes=info.classes,
        chip_size=info.chip_size,
        pixel_size=info.pixel_size,
        crs=info.crs,
        training=dataclasses.asdict(config),
        history=fitted.history,
        metrics=metrics,
        dataset_fingerprint=dataset.fingerprint(),
        versions={
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "segmentation_models_pytorch": smp.__version__,
            "timm": timm.__version__,
        },
        finished=finished,
    )
