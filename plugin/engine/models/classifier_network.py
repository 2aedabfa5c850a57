"""Classifiers: networks that return one row of logits per image.

N chips, B bands, S chip size, C classes; features are a map (N, F, h, w) of F channels if a network has one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torch.overrides import TorchFunctionMode
from torchvision.models.maxvit import MaxVit

from .classifier_arguments import TeachingArguments, check_arguments, read_arguments
from .classifiers import find_family, padded_size
from .input_bands import set_input_bands
from .teaching import create_keras_cnn, create_lecture_cnn, create_mlp
from .timm_names import timm_name

_TEACHING: dict[str, Callable[..., nn.Module]] = {
    "lecture_cnn": create_lecture_cnn,
    "keras_cnn": create_keras_cnn,
    "mlp": create_mlp,
}


class Classifier(nn.Module):
    """A network, split where its features are pooled.

    Its state dict is that of the network, with the prefix `network.`.

    Args:
        network: The network as built by its library; its forward is head(features(images)).
        pooling: Name of the first child after the features.
        input_size: The side that chips are padded to, in pixels.
    """

    # Whether the encoder works in training as in evaluation, see `fine_tuning.freeze_encoder`.
    encoder_held = False
    has_map = True

    def __init__(self, network: nn.Module, pooling: str, input_size: int) -> None:
        super().__init__()
        self.network = network
        self.pooling = pooling
        self.input_size = input_size
        # The layer that returns the logits; everything before it is the encoder.
        self.output_name = _last_layer(network)
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.register_forward_pre_hook(_pause_for_single_values)
                module.register_forward_hook(_resume)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, B, S, S) normalised bands → (N, C) logits."""
        return self.head(self.features(images))

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """(N, B, S, S) normalised bands → features, the input of `head`; see `as_map`."""
        images = self._padded(images)
        for child in self._children_until_pooling():
            images = child(images)
        return images

    def head(self, features: torch.Tensor) -> torch.Tensor:
        """Features → (N, C) logits: pooling, and everything after it."""
        pool = getattr(self.network, "avgpool", None)
        values = torch.flatten(pool(features) if pool else features.mean((2, 3)), 1)
        for child in self._children_from_pooling():
            if child is not pool:
                values = child(values)
        return values

    def as_map(self, features: torch.Tensor) -> torch.Tensor:
        """Features, or their gradients → (N, F, h, w) over the padded chip; only if `has_map`."""
        if not self.has_map:
            raise AssertionError("the network has no map of features")
        return features

    def train(self, mode: bool = True) -> Classifier:
        """As `nn.Module.train`, but a held encoder has no dropout, and its batch norms keep their statistics."""
        super().train(mode)
        if self.encoder_held:
            for child in self._children_until_pooling():
                child.eval()
            for module in self.network.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    @property
    def output(self) -> nn.Module:
        """The layer that returns the logits."""
        return self.network.get_submodule(self.output_name)

    def _padded(self, images: torch.Tensor) -> torch.Tensor:
        down, right = (max(0, self.input_size - side) for side in images.shape[-2:])
        return F.pad(images, (0, right, 0, down), mode="replicate") if down or right else images

    def _children_until_pooling(self) -> Iterator[nn.Module]:
        for name, child in self.network.named_children():
            if name == self.pooling:
                return
            yield from child if isinstance(child, nn.ModuleList) else (child,)

    def _children_from_pooling(self) -> Iterator[nn.Module]:
        names = [name for name, _ in self.network.named_children()]
        for name in names[names.index(self.pooling) :]:
            yield self.network.get_submodule(name)


class _DenseNetClassifier(Classifier):
    """DenseNet, whose last activation is not a module."""

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return F.relu(super().features(images))


class _WholeMapClassifier(Classifier):
    """A network whose head takes the whole map."""

    def head(self, features: torch.Tensor) -> torch.Tensor:
        for child in self._children_from_pooling():
            features = child(features)
        return torch.flatten(features, 1)


class _FlatClassifier(_WholeMapClassifier):
    """A network without a map: its features are the image."""

    has_map = False


class _TimmClassifier(Classifier):
    """A network of timm, which has its own method for the head."""

    network: Any

    def head(self, features: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network.forward_head(features)
        return logits


class _VitClassifier(Classifier):
    """A vision transformer, split before its last block: after it only the class token is used, so there is no map."""

    network: Any

    def features(self, images: torch.Tensor) -> torch.Tensor:
        patches = self.network.conv_proj(self._padded(images)).flatten(2).transpose(1, 2)  # (N, h * w, F)
        token = self.network.class_token.expand(len(images), -1, -1)
        encoder = self.network.encoder
        tokens: torch.Tensor = encoder.dropout(torch.cat([token, patches], dim=1) + encoder.pos_embedding)
        for block in list(encoder.layers)[:-1]:
            tokens = block(tokens)
        return tokens  # (N, 1 + h * w, F)

    def head(self, features: torch.Tensor) -> torch.Tensor:
        encoder = self.network.encoder
        logits: torch.Tensor = self.network.heads(encoder.ln(encoder.layers[-1](features))[:, 0])
        return logits

    def as_map(self, features: torch.Tensor) -> torch.Tensor:
        side = self.input_size // self.network.patch_size
        return features[:, 1:].transpose(1, 2).reshape(len(features), -1, side, side)


# Family → class for its networks, and their first child after the features.
_CUTS: dict[str, tuple[type[Classifier], str]] = {
    "lecture CNN": (_WholeMapClassifier, "hidden"),
    "Keras-style CNN": (_WholeMapClassifier, "hidden"),
    "MLP": (_FlatClassifier, "hidden"),
    "DenseNet": (_DenseNetClassifier, "classifier"),
    "MobileNetV2": (Classifier, "classifier"),
    "MNASNet": (Classifier, "classifier"),
    "ShuffleNetV2": (Classifier, "fc"),
    "SqueezeNet 1.0": (_WholeMapClassifier, "classifier"),
    "SqueezeNet 1.1": (_WholeMapClassifier, "classifier"),
    "ConvNeXt": (_WholeMapClassifier, "avgpool"),
    "MaxViT": (_WholeMapClassifier, "classifier"),
    "DPN": (_TimmClassifier, "global_pool"),
    "EfficientNet-Lite": (_TimmClassifier, "global_pool"),
    "ViT, patches of 32": (_VitClassifier, "heads"),
    "ViT, patches of 16": (_VitClassifier, "heads"),
    "ViT, patches of 14": (_VitClassifier, "heads"),
}
_USUAL_CUT = (Classifier, "avgpool")


def create_classifier(
    name: str, bands: int, classes: int, chip_size: int, arguments: TeachingArguments | None = None
) -> Classifier:
    """Create a classifier with random weights; nothing is downloaded.

    Args:
        name: One of `classifiers.CLASSIFIERS`.
        bands: Number of bands B.
        classes: Number of classes C; 1 for a number.
        chip_size: S, in pixels.
        arguments: Shape of a teaching network; None takes its defaults.

    Returns:
        (N, B, S, S) normalised bands → (N, C) logits. Under `torch.device("meta")` it takes no memory.

    Raises:
        InputError: There is no such network, or the chips are too small for it.
    """
    family = find_family(name)
    arguments = arguments or read_arguments(name, {})
    check_arguments(name, arguments, bands, chip_size)
    input_size = padded_size(name, chip_size)
    if arguments is not None:
        network = _TEACHING[name](arguments, bands, classes, chip_size)
    elif family.library == "timm":
        network = timm.create_model(timm_name(name), pretrained=False, num_classes=classes)
        set_input_bands(network, bands)
    else:
        network = _torchvision_network(name, classes, input_size)
        set_input_bands(network, bands)
    cut, pooling = _CUTS.get(family.title, _USUAL_CUT)
    classifier = cut(network, pooling, input_size)
    if arguments is None:
        _start_small(classifier.output)
    return classifier


def lay_out_classifier(
    name: str, bands: int, classes: int, chip_size: int, arguments: TeachingArguments | None
) -> Classifier:
    """Create a classifier as `create_classifier` does, but without memory."""
    with torch.device("meta"):
        return create_classifier(name, bands, classes, chip_size, arguments)


def _start_small(output: nn.Module) -> None:
    """Initialise an output layer for almost even first predictions; some networks start with logits above ten."""
    if not isinstance(output, (nn.Linear, nn.Conv2d)):
        raise AssertionError(f"the output layer is a {type(output).__name__}, not a linear one or a convolution")
    nn.init.normal_(output.weight, std=0.01)
    if output.bias is not None:
        nn.init.zeros_(output.bias)


def _torchvision_network(name: str, classes: int, input_size: int) -> nn.Module:
    if name == "maxvit_t":
        # As in torchvision, but with windows that fit any chip: 1/32 of its side, which is 7 at 224.
        windows = input_size // 32 if input_size <= 512 else 7
        network: nn.Module = MaxVit(
            input_size=(input_size, input_size),
            stem_channels=64,
            partition_size=windows,
            block_channels=[64, 128, 256, 512],
            block_layers=[2, 2, 5, 2],
            head_dim=32,
            stochastic_depth_prob=0.2,
            num_classes=classes,
        )
        return network
    settings: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        settings = {"aux_logits": False, "init_weights": True}
    elif name.startswith("vit_"):
        settings = {"image_size": input_size}
    with _RegNetArithmetic() if name.startswith("regnet_") else nullcontext():
        network = torchvision.models.get_model(name, weights=None, num_classes=classes, **settings)
    if name.startswith("squeezenet") and classes == 1:
        behind: Any = network.classifier
        behind[2] = nn.Identity()  # the only ReLU that follows an output layer: a number may be negative
    return network


class _RegNetArithmetic(TorchFunctionMode):
    """Allows RegNets on the meta device: torchvision uses tensors to compute their widths."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.arange or func is torch.tensor:
            kwargs.setdefault("device", "cpu")
        return func(*args, **kwargs)


def _last_layer(network: nn.Module) -> str:
    """Return the name of the layer that returns the logits: the last linear layer or convolution of every network."""
    return [name for name, module in network.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))][-1]


def _pause_for_single_values(module: Any, inputs: tuple[torch.Tensor]) -> None:
    """Use the running statistics of a batch norm if there is only one value per channel (a last batch of one small
    chip).
    """
    values = inputs[0]
    if module.training and values.numel() == values.shape[1]:
        module.training = False
        module.paused = True


def _resume(module: Any, _inputs: Any, _output: Any) -> None:
    if getattr(module, "paused", False):
        module.training = True
        module.paused = False
