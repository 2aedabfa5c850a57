"""What a network can be made of: decoders, encoders by our names and by timm's, and the settings of the decoder."""

from __future__ import annotations

import functools
import hashlib
import itertools
from functools import partial
from pathlib import Path

import known_segmenter
import pytest
import timm
import torch
from torch import nn

from plugin.engine.classes import ClassTable
from plugin.engine.errors import InputError
from plugin.engine.models import factory
from plugin.engine.models.architectures import ARCHITECTURES
from plugin.engine.models.decoder_settings import DecoderSettings, read_arguments
from plugin.engine.models.decoders import create_decoder
from plugin.engine.models.encoders import ENCODERS, check_pair
from plugin.engine.models.factory import create_encoder, create_model, lay_out_model, try_model
from plugin.engine.models.model_file import load_model, save_model
from plugin.engine.models.reach import sees_whole_window

USUAL = DecoderSettings()
# One of each family.
TRIED = (
    "resnet18", "efficientnet_lite0", "mobilenet_v2", "mobilenet_v3_large", "mobilenetv4_conv_small", "convnext_tiny",
    "swin_t", "mit_b0", "vit_small_patch14_dinov2", "vit_small_patch16_dinov3",
)  # fmt: skip


header = partial(
    known_segmenter.header, ("a", "b"), mean=(0.0, 0.0), std=(1.0, 1.0), whole_window=True,
    classes=ClassTable.from_rows([(1, "x", None), (2, "y", None), (7, "z", None)]),
)  # fmt: skip


@functools.cache
def features_of(encoder: str, stride: int, pyramid: bool) -> tuple[nn.Module, list[torch.Tensor]]:
    with torch.device("meta"), torch.no_grad():
        made = create_encoder(encoder, 5, stride, pyramid).eval()
        return made, made(torch.zeros(1, 5, 128, 192))


@pytest.mark.parametrize("encoder", TRIED)
def test_decoders_work_with_the_encoders_that_the_table_says(encoder: str) -> None:
    for architecture, row in ARCHITECTURES.items():
        try:
            check_pair(architecture, encoder)
        except InputError as error:
            assert row.output_stride < 32 and not ENCODERS[encoder].dilates
            assert "can be dilated" in error.problem and "unet" in error.remedy
            continue
        made, features = features_of(encoder, row.output_stride, architecture != "dpt")
        with torch.device("meta"), torch.no_grad():
            logits = create_decoder(architecture, made, 3, USUAL).eval()(list(features))
        stride = 128 // logits.shape[2]
        assert logits.shape == (1, 3, 128 // stride, 192 // stride)
    count = sum(value.numel() for value in features_of(encoder, 32, True)[0].parameters()) / 1e6
    assert abs(count - ENCODERS[encoder].millions) < 0.6
    features_of.cache_clear()


def test_networks_of_earlier_model_files_have_the_same_tensors() -> None:
    found = {}
    for architecture, encoder in itertools.product(("unet", "fcn", "fcn8s"), ("resnet18", "mobilenet_v3_small")):
        with torch.device("meta"):
            state = create_model(architecture, encoder, 4, 3).state_dict()
        text = " ".join(f"{key}{tuple(value.shape)}" for key, value in state.items())
        found[architecture, encoder] = hashlib.sha256(text.encode()).hexdigest()[:8]
    assert found == {
        ("unet", "resnet18"): "102dfa5f",
        ("unet", "mobilenet_v3_small"): "f7703fd9",
        ("fcn", "resnet18"): "29fe5228",
        ("fcn", "mobilenet_v3_small"): "94f0d502",
        ("fcn8s", "resnet18"): "d9917e48",
        ("fcn8s", "mobilenet_v3_small"): "f2b1ec32",
    }


@pytest.mark.parametrize(
    "name", ["hf-hub:timm/resnet18", "local-dir:/tmp/x", "../resnet18", "resnet18.", "a" * 200, "Resnet18", "resnet18 "]
)
def test_a_name_that_leads_elsewhere_than_to_timms_networks_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="no name of a network in timm"):
        check_pair("unet", f"timm:{name}")
    save_model(tmp_path / "m.safetensors", nn.Conv2d(2, 3, 1), header(architecture="unet", encoder=f"timm:{name}"))
    with pytest.raises(InputError, match="does not know"):
        load_model(str(tmp_path / "m.safetensors"))


def test_names_that_timm_does_not_have_and_networks_that_cannot_be_encoders_are_told_apart() -> None:
    with pytest.raises(InputError, match=r"has no network .*such as .*resnet18"):
        try_model("unet", "timm:resnet_18", 3, 2, USUAL)
    with pytest.raises(InputError, match=r"maxvit_tiny_tf_224 of timm cannot be an encoder .*divisible"):
        try_model("unet", "timm:maxvit_tiny_tf_224", 3, 2, USUAL)


@pytest.mark.parametrize("encoder", ["timm:swinv2_tiny_window8_256", "timm:deit_tiny_patch16_224"])
def test_an_encoder_that_is_not_dilated_is_refused_whether_it_says_so_or_not(encoder: str) -> None:
    with pytest.raises(InputError, match="deeplabv3 needs an encoder whose last stages can be dilated"):
        try_model("deeplabv3", encoder, 3, 2, USUAL)
    try_model("dpt", encoder, 3, 2, USUAL)


def test_a_network_of_an_earlier_model_file_is_made_though_its_encoder_is_not_dilated() -> None:
    lay_out_model("deeplabv3", "timm:deit_tiny_patch16_224", 3, 2, USUAL)


def test_a_library_that_refuses_a_network_without_a_word_is_an_input_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(factory, "create_model", refuse)
    with pytest.raises(InputError, match=r"unet does not work with the encoder resnet18 \(AssertionError\)"):
        try_model("unet", "resnet18", 3, 2, USUAL)


def test_any_encoder_of_timm_can_be_named_and_comes_back_from_its_model_file(tmp_path: Path) -> None:
    name = "timm:convnextv2_atto.fcmae_ft_in1k"
    settings = DecoderSettings(decoder_width=0.25, dropout=0.3, activation="gelu", normalization="group")
    network = create_model("unet", name, 2, 3, settings).eval()
    path = tmp_path / "m.safetensors"
    save_model(path, network, header(architecture="unet", encoder=name, arguments=settings.arguments()))
    loaded, found = load_model(str(path))
    assert found.encoder == name and found.arguments == settings.arguments()
    image = torch.randn(1, 2, 50, 70)
    with torch.no_grad():
        assert torch.equal(loaded(image), network(image))
    save_model(path, network, header(architecture="unet", encoder=name))
    with pytest.raises(InputError, match="do not fit"):
        load_model(str(path))


def kinds(network: nn.Module) -> set[type]:
    return {type(module) for module in network.decoder.modules()}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_each_setting_of_a_decoder_changes_it(architecture: str) -> None:
    known = ARCHITECTURES[architecture].arguments
    with torch.device("meta"):
        usual = create_model(architecture, "mobilenet_v2", 3, 2)
        for name in known:
            value = {"decoder_width": 0.5, "dropout": 0.3, "activation": "leaky_relu", "normalization": "group"}[name]
            other = create_model(architecture, "mobilenet_v2", 3, 2, DecoderSettings(**{name: value}))
            if name == "decoder_width":
                count, wide = (sum(value.numel() for value in made.decoder.parameters()) for made in (other, usual))
                assert count < wide
            elif name == "activation":
                assert nn.LeakyReLU in kinds(other) and nn.ReLU not in kinds(other)
            elif name == "normalization":
                assert nn.GroupNorm in kinds(other) and not any(
                    issubclass(kind, nn.BatchNorm2d) for kind in kinds(other)
                )
                assert nn.GroupNorm not in kinds(usual)
            else:
                drops = [
                    module.p for module in other.decoder.modules() if isinstance(module, (nn.Dropout, nn.Dropout2d))
                ]
                assert set(drops or [other.decoder.dropout]) == {0.3}
    for name in set(USUAL.to_json()) - set(known):
        with pytest.raises(InputError, match=f"The decoder of {architecture} has no {name.upper()}"):
            read_arguments(architecture, {name: {"decoder_width": 2.0, "activation": "gelu"}.get(name, "group")})


def test_dropout_leaves_out_while_learning_only() -> None:
    for architecture in ("unet", "fcn8s", "fcn"):
        network = create_model(architecture, "mobilenet_v3_small", 2, 3, DecoderSettings(dropout=0.5))
        for module in network.encoder.modules():
            module.eval()
        features = network.eval().encoder(torch.randn(2, 2, 64, 64))
        quiet = network.decoder(list(features)), network.decoder(list(features))
        assert torch.equal(*quiet)
        network.decoder.train()
        for module in network.decoder.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        assert not torch.allclose(network.decoder(list(features)), network.decoder(list(features)))


@pytest.mark.parametrize(
    "arguments",
    [
        {"dropout": 2},
        {"dropout": "0.5"},
        {"activation": "tanh"},
        {"normalization": 3},
        {"decoder_width": 1e9},
        {"x": 1},
    ],
)
def test_arguments_out_of_bounds_are_refused(tmp_path: Path, arguments: dict) -> None:
    with pytest.raises(InputError):
        read_arguments("unet", arguments)
    made = header(architecture="unet", encoder="mobilenet_v2", arguments=arguments)
    save_model(tmp_path / "m.safetensors", nn.Conv2d(2, 3, 1), made)
    with pytest.raises(InputError, match="does not know"):
        load_model(str(tmp_path / "m.safetensors"))


class FirstStage(nn.Module):
    """The features of a Swin transformer at stride 4, which see no further than their windows."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.model = timm.create_model(name, features_only=True, out_indices=(0,), in_chans=2, strict_img_size=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model(images)[0].permute(0, 3, 1, 2)


def test_a_place_counts_where_the_network_lays_out_windows_or_corners() -> None:
    class Corners(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            small = nn.functional.avg_pool2d(images, 4)
            return nn.functional.interpolate(small, scale_factor=4, mode="bilinear", align_corners=True)

    assert sees_whole_window(Corners().eval(), 2)
    torch.manual_seed(0)
    swin = ENCODERS["swin_t"].library_name.removeprefix("tu-")
    assert sees_whole_window(FirstStage(swin).eval(), 2)
    group = create_model("linknet", "mobilenet_v2", 2, 3, DecoderSettings(normalization="group")).eval()
    assert sees_whole_window(group, 2)
