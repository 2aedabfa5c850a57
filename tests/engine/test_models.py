import json
import struct
import warnings
from functools import partial

import known_segmenter
import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from plugin.engine.classes import ClassTable
from plugin.engine.errors import InputError
from plugin.engine.models import encoder_weights
from plugin.engine.models.architectures import ARCHITECTURES
from plugin.engine.models.factory import create_encoder, create_model
from plugin.engine.models.input_bands import adapt_filters
from plugin.engine.models.model_file import load_model, save_model
from plugin.engine.models.normalisation import BOUND, Normaliser, missing_values
from plugin.engine.models.weights_file import Weights, read_weights
from plugin.engine.rasters.raster_io import missing_values as missing_in_arrays

CPU = torch.device("cpu")
LIGHT = ("resnet18", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_lite0")


header = partial(
    known_segmenter.header, ("a", "b"), architecture="fcn8s", encoder="mobilenet_v3_small",
    mean=(1.0, 2.0), std=(1.0, 1.0), classes=ClassTable.from_rows([(1, "x", None), (2, "y", None), (7, "z", None)]),
)  # fmt: skip


@pytest.mark.parametrize(
    "architecture, encoder",
    [*((name, "mobilenet_v3_small") for name in ARCHITECTURES), *(("unet", name) for name in LIGHT), ("dpt", "mit_b0")],
)
def test_every_network_takes_any_size_and_learns_from_one_chip(architecture, encoder):
    for bands, size in ((5, (33, 50)), (1, (64, 64)), (13, (100, 75))):
        network = create_model(architecture, encoder, in_channels=bands, classes=3).train()
        logits = network(torch.randn(1, bands, *size))
        assert logits.shape == (1, 3, *size)
    logits.square().mean().backward()
    silent = [name for name, value in network.named_parameters() if value.grad is None]
    assert not silent


def test_unet_has_the_shape_of_smp():
    ours, theirs = create_model("unet", "resnet18", 3, 4), smp.Unet("resnet18", encoder_weights=None, classes=4)
    assert [value.shape for value in ours.state_dict().values()] == [
        value.shape for value in theirs.state_dict().values()
    ]


def test_fcn_with_resnet50_has_the_shape_of_torchvision():
    theirs = torchvision.models.segmentation.fcn_resnet50(weights=None, weights_backbone=None, num_classes=4)
    ours = create_model("fcn", "resnet50", 3, 4)
    assert [value.shape for value in ours.state_dict().values()] == [
        value.shape for value in theirs.state_dict().values()
    ]
    assert ours.encoder(torch.zeros(1, 3, 64, 64))[-1].shape[-2:] == (8, 8)


def test_fcn8s_sums_the_scores_of_three_strides():
    network = create_model("fcn8s", "resnet18", 3, 2).eval()
    shapes = {}
    for stride, score in zip((8, 16, 32), network.decoder.scores):
        score.register_forward_hook(lambda _, __, output, stride=stride: shapes.update({stride: output.shape[-1]}))
    with torch.no_grad():
        before = network(torch.ones(1, 3, 128, 128))
        for score in network.decoder.scores:
            score.bias += 1
        after = network(torch.ones(1, 3, 128, 128))
    assert shapes == {8: 16, 16: 8, 32: 4}
    assert torch.allclose(after - before, torch.tensor(3.0), atol=1e-5)


def test_sizes_are_padded_to_strides():
    network = create_model("fcn8s", "mobilenet_v3_small", 3, 2)
    assert [network.padded_size(size) for size in (1, 64, 65, 256)] == [64, 64, 96, 256]


def test_padding_leaves_what_fits_alone():
    network = create_model("unet", "mobilenet_v3_small", 3, 2).eval()
    image = torch.randn(1, 3, 96, 96)
    grown = nn.functional.pad(image[..., :90, :90], (0, 6, 0, 6), mode="replicate")
    with torch.no_grad():
        assert torch.allclose(network(image[..., :90, :90]), network(grown)[..., :90, :90])


def test_rgb_filters_go_to_the_bands_of_these_names():
    weight = torch.randn(4, 3, 3, 3)
    adapted = adapt_filters(weight, ("NIR", "Blue", "GREEN", "red"))
    assert torch.allclose(adapted[:, 1:] * 4 / 3, weight[:, [2, 1, 0]])
    assert torch.allclose(adapted[:, 0] * 4 / 3, weight.mean(1))


def test_three_bands_without_names_take_the_filters_in_order():
    weight = torch.randn(4, 3, 3, 3)
    assert torch.equal(adapt_filters(weight, ("band 1", "band 2", "band 3")), weight)
    assert torch.equal(adapt_filters(weight, ("blue", "green", "red")), weight[:, [2, 1, 0]])


@pytest.mark.parametrize("bands", [1, 2, 8, 13])
def test_a_grey_image_gives_the_same_activations_in_any_number_of_bands(bands):
    weight = torch.randn(4, 3, 3, 3)
    assert torch.allclose(adapt_filters(weight, ["x"] * bands).sum(1), weight.sum(1), atol=1e-5)


def test_real_weights_fit_with_thirteen_bands(shared_weights):
    weights = read_weights(str(shared_weights / "tf_efficientnet_lite0_imagenet.safetensors"))
    network = create_model("unet", "efficientnet_lite0", 13, 2)
    text = encoder_weights.load_encoder_weights(network.encoder, "efficientnet_lite0", weights, ["x"] * 13)
    assert "240 of 240" in text and "from 3 channels to 13 bands" in text
    assert torch.equal(
        network.encoder.state_dict()["model.blocks.6.0.bn3.weight"], weights.tensors["blocks.6.0.bn3.weight"]
    )


def test_weights_for_another_encoder_are_refused_by_name(shared_weights):
    weights = read_weights(str(shared_weights / "tf_efficientnet_lite0_imagenet.safetensors"))
    network = create_encoder("resnet18", 3)
    with pytest.raises(InputError, match=r"0 of its 100 tensors.*weights of efficientnet_lite0"):
        encoder_weights.load_encoder_weights(network, "resnet18", weights, ["x"] * 3)


@pytest.mark.parametrize("encoder", ["mobilenet_v2", "mobilenet_v3_small"])
def test_the_names_of_timm_and_torchvision_mean_the_same(encoder):
    other = encoder_weights.OTHER_SPELLINGS[encoder]()
    with torch.no_grad():
        for value in other.parameters():
            value.uniform_(-1, 1)
    network = create_encoder(encoder, 3)
    encoder_weights.load_encoder_weights(network, encoder, Weights(other.state_dict(), "file"), ["x"] * 3)
    for ours, theirs in zip(network.parameters(), other.parameters()):
        assert torch.equal(ours, theirs)


@pytest.mark.usefixtures("reads_pth")
def test_a_pth_file_with_code_in_it_is_refused_and_not_run(tmp_path):
    class Harm:
        def __reduce__(self):
            return (open, (str(tmp_path / "harm"), "w"))

    torch.save({"weight": Harm()}, tmp_path / "weights.pth")
    with pytest.raises(InputError, match=r"cannot be read.*contains more than tensors") as raised:
        read_weights(str(tmp_path / "weights.pth"))
    assert "weights_only" not in str(raised.value), "nobody is told to run it"
    assert not (tmp_path / "harm").exists()


@pytest.mark.usefixtures("reads_pth")
def test_a_pth_file_of_torchvision_is_read(tmp_path):
    torch.save({"state_dict": torchvision.models.resnet18().state_dict()}, tmp_path / "resnet18.pth")
    weights = read_weights(str(tmp_path / "resnet18.pth"))
    text = encoder_weights.load_encoder_weights(create_encoder("resnet18", 1), "resnet18", weights, ["pan"])
    assert "100 of 100" in text and "to 1 band." in text


@pytest.mark.parametrize("name", ["text.safetensors", "text.pth", "text.zip", "missing.pth"])
def test_what_is_no_weights_file_is_refused(tmp_path, name):
    if "missing" not in name:
        (tmp_path / name).write_text("these are no weights, but a text of some length")
    with pytest.raises(InputError):
        read_weights(str(tmp_path / name))


def test_missing_values_become_zero_and_the_rest_is_scaled():
    batch = torch.tensor([[10.0, float("nan"), -9999.0, float("inf"), 14.0]]).reshape(1, 1, 1, 5)
    normalise = Normaliser((12.0,), (2.0,), CPU)
    assert normalise(batch, missing_values(batch, -9999.0)).flatten().tolist() == [-1, 0, 0, 0, 1]


def test_a_constant_band_does_not_divide_by_zero():
    assert Normaliser((7.0,), (0.0,), CPU)(torch.full((1, 1, 2, 2), 7, dtype=torch.uint8)).abs().max() == 0


def test_no_value_is_so_far_off_that_it_drowns_the_others():
    batch = torch.tensor([14.0, 1e9, -3.4028235e38, float("inf"), float("nan")]).reshape(1, 1, 1, 5)
    found = Normaliser((12.0,), (2.0,), CPU)(batch).flatten().tolist()
    assert found == [1, BOUND, -BOUND, BOUND, 0]
    assert Normaliser((0.0,), (0.0,), CPU)(batch).abs().max() == 0
    for mean, std, ends in ((100.0, 20.0, [-5, 7.75]), (3.0, 2.0, [-1.5, BOUND]), (250.0, 1.0, [-BOUND, 5])):
        for dtype in (torch.uint8, torch.int16, torch.int32, torch.float32, torch.float64):
            extremes = torch.tensor([0, 255], dtype=dtype).reshape(1, 1, 1, 2)
            found = Normaliser((mean,), (std,), CPU)(extremes)
            assert found.dtype == torch.float32 and found.flatten().tolist() == ends
    ordinary = torch.linspace(-19.9, 19.9, 100).reshape(1, 1, 1, 100)
    assert torch.equal(Normaliser((0.0,), (1.0,), CPU)(ordinary), ordinary)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("nodata", [None, float("nan"), 0.0, 255.0, 3.5, -9999.0, 1e30, float("inf")])
def test_training_and_mapping_agree_on_what_is_missing(nodata, dtype):
    data = np.random.default_rng(0).integers(0, 256, (2, 40, 40)).astype(dtype)
    if dtype == np.float32:
        data[0, :4, 0] = np.nan, np.inf, -np.inf, -3.4028235e38
    here = missing_values(torch.from_numpy(data)[None], nodata)
    there = missing_in_arrays(data, (nodata, nodata))
    assert (here is None) == (there is None)
    assert there is None or (here[0].numpy() == there).all()


@pytest.mark.parametrize("nodata", [-9999.0, 256.0, 1e30])
def test_a_nodata_value_beyond_the_data_type_marks_nothing(nodata):
    assert missing_values(torch.zeros(1, 1, 2, 2, dtype=torch.uint8), nodata) is None


def test_a_saved_model_comes_back_the_same(tmp_path):
    network = create_model("fcn8s", "mobilenet_v3_small", 2, 3).eval()
    save_model(tmp_path / "model.safetensors", network, header())
    loaded, found = load_model(str(tmp_path / "model.safetensors"))
    image = torch.randn(1, 2, 64, 64)
    with torch.no_grad():
        assert torch.equal(loaded(image), network(image))
    assert found == header(whole_window=True) and not loaded.training
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize("name", [*LIGHT, "swin_t", "mit_b0", "vit_small_patch14_dinov2", "timm:swinv2_cr_tiny_ns_224"])
def test_no_part_of_a_loaded_network_stays_without_memory(tmp_path, name):
    network = create_model("unet", name, 2, 3).eval()
    save_model(tmp_path / "m.safetensors", network, header(architecture="unet", encoder=name, whole_window=True))
    loaded, _ = load_model(str(tmp_path / "m.safetensors"))
    image = torch.randn(1, 2, 64, 96)
    with torch.no_grad():
        assert torch.equal(loaded(image), network(image))
    assert all(value.device == CPU for value in (*loaded.parameters(), *loaded.buffers()))


@pytest.mark.parametrize(
    "changes",
    [
        {"architecture": "unet"},
        {"architecture": "rnn"},
        {"encoder": "../../etc/passwd"},
        {"encoder": ["resnet18"]},
        {"classes": ClassTable.from_rows([(value, "", None) for value in range(200)])},
        {"band_names": ("x",) * 5000, "mean": (0.0,) * 5000, "std": (1.0,) * 5000},
        {"band_names": (1, 2)},
        {"mean": ("1", "2")},
        {"dtype": "object; drop"},
        {"nodata": "none"},
        {"chip_size": "big"},
        {"task": "classification"},
    ],
    ids=lambda changes: ", ".join(changes),
)
def test_a_header_that_does_not_fit_its_weights_is_refused(tmp_path, changes):
    network = create_model("fcn8s", "mobilenet_v3_small", 2, 3)
    save_model(tmp_path / "model.safetensors", network, header(**changes))
    with pytest.raises(InputError):
        load_model(str(tmp_path / "model.safetensors"))


def test_a_truncated_model_is_refused_with_its_sizes(tmp_path):
    path = tmp_path / "model.safetensors"
    save_model(path, create_model("fcn8s", "mobilenet_v3_small", 2, 3), header())
    whole = path.read_bytes()
    path.write_bytes(whole[:-1000])
    with pytest.raises(InputError, match=f"truncated.*{len(whole) - 1000} of {len(whole)} bytes"):
        load_model(str(path))


def test_weights_of_another_type_are_refused(tmp_path):
    state = {
        key: value.double() for key, value in create_model("fcn8s", "mobilenet_v3_small", 2, 3).state_dict().items()
    }
    save_file(state, tmp_path / "model.safetensors", metadata=header().to_metadata())
    with pytest.raises(InputError, match="float64"):
        load_model(str(tmp_path / "model.safetensors"))


def test_a_giant_in_the_table_of_shapes_is_refused(tmp_path):
    table = {
        "__metadata__": header().to_metadata(),
        "encoder.model.conv_stem.weight": {"dtype": "F32", "shape": [2**40, 2**20], "data_offsets": [0, 8]},
    }
    text = json.dumps(table).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + b"\0" * 8)
    with pytest.raises(InputError):
        load_model(str(tmp_path / "model.safetensors"))


def test_making_a_network_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        create_model("unet", "efficientnet_lite0", 4, 2)
