"""What a step asks of a GPU, looked at without one: no waiting, and nothing random in its order where that matters."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from heard import Heard
from torch import nn

from benchmarks.passes import CLASSES, GPU, Passes, described, pretended
from plugin.engine.config import TrainClassifierConfig, TrainSegmenterConfig
from plugin.engine.models.factory import create_model
from plugin.engine.recipe.loss import LOSSES
from plugin.engine.training.classification import ClassificationTask, MultilabelTask
from plugin.engine.training.determinism import deterministic
from plugin.engine.training.regression import ChipRegressionTask, RegressionTask
from plugin.engine.training.sampling import Sampling
from plugin.engine.training.segmentation import SegmentationTask
from plugin.engine.training.task import Moment, Task

# Older ones ask the driver of a GPU that only seems to be there, and abort the process without one (seen with 2.5).
RELEASE = tuple(int(number) for number in torch.__version__.split(".")[:2])
pytestmark = pytest.mark.skipif(
    torch.version.cuda is None or RELEASE < (2, 14), reason="needs PyTorch 2.14 or later, in a build for GPUs"
)

KINDS: dict[str, Any] = {
    "segmentation": SegmentationTask, "regression": RegressionTask, "classification": ClassificationTask,
    "multilabel": MultilabelTask, "chip_regression": ChipRegressionTask,
}  # fmt: skip
# What `torch.use_deterministic_algorithms` refuses on a GPU, or says is slower, in one of PyTorch 2.5 to 2.14: always,
# where it is to be differentiated, or in certain cases.
ALWAYS = {"histc", "put", "put_", "kthvalue", "median", "bincount", "scatter_reduce", "max_unpool2d", "_histogramdd"}
DIFFERENTIATED = {
    "upsample_linear1d", "upsample_bilinear2d", "upsample_bicubic2d", "upsample_trilinear3d", "_upsample_bilinear2d_aa",
    "_upsample_bicubic2d_aa", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "adaptive_max_pool2d", "avg_pool3d",
    "max_pool3d_with_indices", "reflection_pad1d", "reflection_pad2d", "replication_pad1d", "replication_pad2d",
    "grid_sampler_2d", "grid_sampler_3d", "_scaled_dot_product_flash_attention", "_embedding_bag", "_ctc_loss",
    "_scaled_dot_product_efficient_attention", "_scaled_dot_product_cudnn_attention",
}  # fmt: skip


class Refused(Passes):
    """Collects what is not deterministic, or slow where it need not be."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [value for value in args if isinstance(value, torch.Tensor)]
        if torch.are_deterministic_algorithms_enabled() and any(value.is_cuda for value in given):
            name = func.overloadpacket.__name__
            learns = any(value.requires_grad for value in given)
            counts = name == "scatter_add_" and not args[0].is_floating_point()
            sums = name == "cumsum" and args[0].is_floating_point()
            reduces = name == "nll_loss2d_forward" and args[3] != 0
            if name in ALWAYS or (learns and name in DIFFERENTIATED) or counts or sums or reduces:
                self.found.add(name)
        return super().__torch_dispatch__(func, types, args, kwargs)


@pytest.fixture
def refused() -> Iterator[Refused]:
    passes = Refused()
    with pretended(passes.fake):
        yield passes


def make_config(kind: str) -> TrainSegmenterConfig | TrainClassifierConfig:
    """With all defaults."""
    made = TrainSegmenterConfig if kind in ("segmentation", "regression") else TrainClassifierConfig
    return made(chips="", output="")


def make_task(kind: str, loss: str, varied: bool) -> Task:
    """A task with a loss, and with all kinds of augmentation or none."""
    config = make_config(kind).replace(loss=loss)
    if varied:
        config = config.replace(augmentation="strong", mixup=0.2, cutmix=0.2, hue=9.0, elastic=0.02)
    config = config.replace(**config.augmentation.settled().to_json())
    info = dataclasses.replace(
        described(3, 16), task=kind, target={"mean": 2.0, "std": 1.0}, band_names=("green", "blue", "red")
    )
    sampling = Sampling(config.sampling, info, np.ones((4, CLASSES), np.int64))
    task: Task = KINDS[kind](info, sampling, config, GPU)
    return task


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_deterministic_step_does_beside_its_network_is_deterministic(refused: Refused, kind: str) -> None:
    numbers = "regression" in kind
    places = (16, 16) if kind in ("segmentation", "regression") else ()
    shape = (CLASSES,) if kind == "multilabel" else places
    network = torch.nn.Identity()
    with deterministic(True, Heard()), refused.fake:
        images = torch.empty(4, 3, 16, 16, dtype=torch.uint8, device=GPU)
        targets = torch.empty(4, *shape, dtype=torch.float32 if numbers else torch.uint8, device=GPU)
        logits = torch.empty(4, 1 if numbers else CLASSES, *places, device=GPU, requires_grad=True)
        network.forward = lambda images: logits  # type: ignore[method-assign,assignment]
        for number, loss in enumerate(name for name, row in LOSSES.items() if kind in row.tasks):
            task = make_task(kind, loss, not number)
            for seed in range(1 if number else 4):  # a coin says whether chips are mixed
                moment = Moment(torch.Generator().manual_seed(seed), network, 0.5)
                with refused:
                    task.tally().add(*task.learn(network, (images, targets), moment))
                assert not refused.found, loss
                assert not refused.waits or not (number or seed), loss  # the first step makes what is kept
                refused.waits.clear()


def test_validation_waits_for_nothing(refused: Refused) -> None:
    network = torch.nn.Identity()
    with refused.fake:
        logits = torch.empty(4, CLASSES, 16, 16, device=GPU)
        images = torch.empty(4, 3, 16, 16, dtype=torch.uint8, device=GPU)
        targets = torch.empty(4, 16, 16, dtype=torch.uint8, device=GPU)
        network.forward = lambda images: logits  # type: ignore[method-assign,assignment]
        task = make_task("segmentation", "cross_entropy", False)
        sample = task.sample(4, 0)
        with refused:
            answers = task.answer(network, (images, targets))
            task.tally().add(*answers)
            sample.add(answers.logits, answers.targets)
    assert not refused.waits and refused.copies == 1  # which places are drawn


@pytest.mark.parametrize(
    ("architecture", "encoder", "known"),
    [
        ("unet", "resnet18", set()),
        ("fcn8s", "efficientnet_lite0", set()),
        ("fcn", "resnet18", set()),
        ("unet", "mit_b0", set()),  # attention
        ("upernet", "resnet18", {"_adaptive_avg_pool2d"}),  # which the log names
    ],
)
def test_networks_are_deterministic_or_it_is_known_what_is_not(
    refused: Refused, architecture: str, encoder: str, known: set[str]
) -> None:
    network = create_model(architecture, encoder, 3, CLASSES).train()
    with deterministic(True, Heard()), refused.fake:
        for module in network.modules():
            for values in (module._parameters, module._buffers):
                for key, value in values.items():
                    made = torch.empty(value.shape, dtype=value.dtype, device=GPU) if value is not None else None
                    values[key] = nn.Parameter(made) if values is module._parameters and value is not None else made
        with refused:
            logits = network(torch.empty(2, 3, 64, 64, device=GPU))
    assert logits.shape == (2, CLASSES, 64, 64) and refused.found == known
