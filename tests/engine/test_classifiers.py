import dataclasses
import itertools
import json
import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path

import known_classifier
import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from plugin.engine.classes import ClassTable
from plugin.engine.errors import InputError, ResourceError
from plugin.engine.models import classifier_hub
from plugin.engine.models.classifier_arguments import (
    KerasCnnArguments,
    LectureCnnArguments,
    MlpArguments,
    check_arguments,
    read_arguments,
)
from plugin.engine.models.classifier_network import create_classifier
from plugin.engine.models.classifier_weights import PHOTO_STD, load_classifier_weights
from plugin.engine.models.classifiers import CLASSIFIERS, FAMILIES, check_chip_size, find_family, padded_size
from plugin.engine.models.factory import create_model
from plugin.engine.models.fine_tuning import (
    freeze_encoder,
    parameter_groups,
    split_parameters,
    thaw_encoder,
)
from plugin.engine.models.input_bands import set_input_bands
from plugin.engine.models.model_file import load_classifier, load_model, save_model
from plugin.engine.models.summary import summarise
from plugin.engine.models.timm_names import TWINS, image_std_in_timm, names_in_timm, timm_name
from plugin.engine.models.weights_file import Weights, read_weights

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
BANDS = (1, 3, 4, 13)
# Networks beyond this are built for real with one number of bands, and else laid out without memory.
LARGE = 12_000_000
# This one would need 8 GB, and is like its neighbours in the catalogue but for its size.
REAL_FAMILIES = [family for family in FAMILIES if family.title != "ViT, patches of 14"]


header = partial(
    known_classifier.header, ("a", "b"), mean=(1.0, 2.0), std=(1.0, 1.0), chip_size=16,
    classes=ClassTable.from_rows([(1, "x", None), (2, "y", None), (7, "z", None)]),
    arguments={"filters": [4, 8], "hidden_sizes": [8]},
)  # fmt: skip


def header_of(name, bands, chip_size):
    return header(
        architecture=name,
        band_names=tuple(str(band) for band in range(bands)),
        mean=(0.0,) * bands,
        std=(1.0,) * bands,
        chip_size=chip_size,
        arguments={},
    )


def small_model():
    return create_classifier("lecture_cnn", 2, 3, 16, LectureCnnArguments(filters=(4, 8), hidden_sizes=(8,)))


def chip_size_for(family):
    """A small chip that leaves a map of more than one pixel."""
    return max(64, family.smallest + 32)


def on_meta(name, bands, classes=3, chip_size=224):
    with torch.device("meta"):
        return create_classifier(name, bands, classes, chip_size)


def roughen(network):
    """Give every parameter and statistic a value of its own, so that none can stand for another."""
    with torch.no_grad():
        for value in network.parameters():
            value.add_(torch.randn_like(value) * 0.02)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 2)
                module.eps = 1e-4  # the libraries differ here, by nothing that a file could tell


# The catalogue


def test_the_catalogue_has_every_classifier_of_torchvision():
    ours = {name for family in FAMILIES if family.library == "torchvision" for name in family.members}
    theirs = set(torchvision.models.list_models(module=torchvision.models))
    assert ours == theirs


def test_timm_has_the_rest_of_the_catalogue():
    assert {timm_name(name) for family in FAMILIES if family.library == "timm" for name in family.members} <= set(
        timm.list_models(pretrained=False)
    )


def test_no_name_is_in_the_catalogue_twice():
    assert len(CLASSIFIERS) == len(set(CLASSIFIERS)) == sum(len(family.members) for family in FAMILIES)


def test_the_catalogue_and_the_arguments_are_read_without_torch():
    code = (
        "import sys, plugin.engine.models.classifiers, plugin.engine.models.classifier_arguments as a;"
        "a.check_arguments('keras_cnn', a.read_arguments('keras_cnn', {}), 3, 64);"
        "sys.exit(any(name in sys.modules for name in ('torch', 'torchvision', 'timm', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.parametrize("name", ["resnet20", "", None, "../resnet18", ["resnet18"]])
def test_a_name_that_is_not_in_the_catalogue_is_refused(name):
    with pytest.raises(InputError, match="ARCHITECTURE"):
        create_classifier(name, 3, 2, 64)


@pytest.mark.parametrize("name", ["alexnet", "inception_v3", "vgg11", "densenet121", "googlenet", "squeezenet1_0",
                                  "squeezenet1_1", "convnext_tiny", "swin_t"])  # fmt: skip
def test_the_smallest_chip_size_is_the_smallest_that_works(name):
    smallest = find_family(name).smallest
    network = on_meta(name, 3, chip_size=smallest)
    assert network(torch.zeros(2, 3, smallest, smallest, device="meta")).shape == (2, 3)
    network.input_size = 0  # without padding
    try:
        left = network.features(torch.zeros(2, 3, smallest - 1, smallest - 1, device="meta")).numel()
    except RuntimeError:  # older PyTorch gives maps without pixels instead
        left = 0
    assert left == 0
    with pytest.raises(InputError, match=rf"{smallest - 1} × {smallest - 1}.*needs {smallest}.*CHIP_SIZE {smallest}"):
        check_chip_size(name, smallest - 1)


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0", "regnet_y_400mf", "dpn68", "mnasnet0_5"])
def test_networks_that_pad_by_themselves_take_the_smallest_chips(name):
    assert on_meta(name, 2, chip_size=1)(torch.zeros(1, 2, 1, 1, device="meta")).shape == (1, 3)


def test_giant_chips_are_refused():
    with pytest.raises(InputError, match="8192"):
        check_chip_size("resnet18", 10**6)


# The networks


@pytest.mark.parametrize("family", REAL_FAMILIES, ids=lambda family: family.title)
def test_a_family_takes_any_bands_learns_and_comes_back_the_same(family, tmp_path):
    name, size = family.members[0], chip_size_for(family)
    for bands in BANDS:
        meta = on_meta(name, bands, chip_size=size)
        if bands != 4 and sum(value.numel() for value in meta.parameters()) > LARGE:
            assert meta(torch.zeros(2, bands, size, size, device="meta")).shape == (2, 3)
            continue
        torch.manual_seed(0)
        network = create_classifier(name, bands, 3, size).train()
        images, targets = torch.randn(2, bands, size, size), torch.tensor([0, 2])
        before = network.output.weight.detach().clone()
        logits = network(images)
        assert logits.shape == (2, 3)
        nn.functional.cross_entropy(logits, targets).backward()
        assert [key for key, value in network.named_parameters() if value.grad is None] == []
        torch.optim.SGD(parameter_groups(network, 0.0), lr=1e-4).step()
        assert not torch.equal(network.output.weight, before)
        network.zero_grad()  # half a gigabyte in some
        with torch.no_grad():
            expected = network.eval()(images)
            assert expected.isfinite().all()
            _check_the_cut(network, images, expected)
            _check_the_file(network, images, expected, header_of(name, bands, size), tmp_path / "model.safetensors")


def _check_the_cut(network, images, expected):
    whole = network.network(images)
    assert torch.allclose(expected, whole, atol=1e-5 * max(1.0, whole.abs().max().item()))
    features = network.features(images)
    if network.has_map:
        deep = network.as_map(features)
        assert deep.ndim == 4 and len(deep) == 2 and deep.shape[-1] == deep.shape[-2] > 1
    assert torch.equal(network.head(features), expected)


def _check_the_file(network, images, expected, wanted, path):
    save_model(path, network, wanted)
    loaded, found = load_classifier(str(path))
    assert found == wanted and not loaded.training
    assert all(value.device == CPU for value in (*loaded.parameters(), *loaded.buffers()))
    assert torch.equal(loaded(images), expected)
    del loaded
    path.unlink()  # pytest keeps its folders, and some are large


@pytest.mark.parametrize("name", ["vit_h_14", *(name for family in FAMILIES for name in family.members[1:])])
def test_larger_members_build_without_memory(name):
    network = on_meta(name, 5, classes=7, chip_size=96)
    assert network.output.weight.shape[0] == 7
    assert all(value.is_meta for value in network.parameters())


def test_auxiliary_heads_are_off_and_dropout_is_kept():
    for name in ("googlenet", "inception_v3"):
        network = on_meta(name, 3)
        assert not [key for key in network.state_dict() if "aux" in key.lower()]
        assert any(isinstance(module, nn.Dropout) and module.p > 0 for module in network.modules())
    assert isinstance(on_meta("efficientnet_b0", 3).network.classifier[0], nn.Dropout)


@pytest.mark.parametrize("name", ["vit_b_32", "vit_b_16", "vit_h_14", "maxvit_t", "swin_t"])
@pytest.mark.parametrize("size", [50, 600])
def test_transformers_take_chips_of_any_size(name, size):
    network = on_meta(name, 2, chip_size=size)
    assert network.input_size == padded_size(name, size) >= size
    features = network.features(torch.zeros(1, 2, size, size, device="meta"))
    assert network.head(features).shape == (1, 3)
    assert network.as_map(features).ndim == 4


def test_a_vision_transformer_has_a_map_for_class_activation():
    network = create_classifier("vit_b_32", 3, 2, 96).eval()
    nn.init.normal_(network.output.weight)  # it starts with zeros, and so would every gradient
    features = network.features(torch.randn(1, 3, 96, 96)).detach().requires_grad_()
    network.head(features)[0, 1].backward()
    assert network.as_map(features.grad).shape == (1, 768, 3, 3)
    assert (network.as_map(features.grad).abs().amax(1) > 0).all()


@pytest.mark.parametrize("name", ["resnet18", "lecture_cnn", "mobilenet_v3_small"])
def test_a_batch_of_one_small_chip_can_be_learned_from(name):
    network = create_classifier(name, 3, 2, 32).train()
    network(torch.randn(1, 3, 32, 32)).sum().backward()
    assert all(module.training for module in network.modules())


@pytest.mark.parametrize("bands", [1, 13])
def test_fresh_first_filters_keep_the_scale_of_activations(bands):
    torch.manual_seed(0)
    first = nn.Conv2d(3, 64, 7)
    nn.init.normal_(first.weight, std=0.01)  # small, as in front of a transformer
    with torch.no_grad():
        before = first(torch.randn(4, 3, 32, 32)).std().item()
        set_input_bands(nn.Sequential(first), bands)
        assert first(torch.randn(4, bands, 32, 32)).std().item() == pytest.approx(before, rel=0.1)


def test_making_a_classifier_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("googlenet", "inception_v3", "dpn68", "densenet121"):
            on_meta(name, 4)
        create_classifier("efficientnet_lite0", 4, 2, 64)


# The teaching networks


def test_the_lecture_cnn_is_as_in_the_lecture():
    network = create_classifier("lecture_cnn", 3, 5, 64).network
    kinds = [type(module).__name__ for module in network.modules() if not list(module.children())]
    block = ["Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d"]
    assert kinds == block * 4 + ["Flatten", "Linear", "BatchNorm1d", "ReLU", "Linear"]
    assert [module.out_channels for module in network.modules() if isinstance(module, nn.Conv2d)] == [8, 16, 32, 64]


def test_the_keras_cnn_has_two_convolutions_a_block():
    network = create_classifier("keras_cnn", 3, 5, 32).network
    widths = [module.out_channels for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert widths == [32, 32, 64, 64, 128, 128]
    assert [module.p for module in network.modules() if isinstance(module, nn.Dropout)] == [0.25] * 3 + [0.5]
    assert network.output.in_features == 1024


def test_the_shape_of_a_teaching_network_is_a_parameter():
    arguments = read_arguments("lecture_cnn", {
        "filters": [4, 6], "kernel_size": 5, "stride": 2, "padding": 1, "activation": "prelu", "dropout": 0.3,
        "block_dropout": 0.1, "hidden_sizes": [20, 10],
    })  # fmt: skip
    network = create_classifier("lecture_cnn", 2, 3, 64, arguments)
    convolution = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    assert (convolution.kernel_size, convolution.stride, convolution.padding) == ((5, 5), (2, 2), (1, 1))
    kinds = [type(module) for module in network.modules()]
    assert kinds.count(nn.PReLU) == 4 and kinds.count(nn.Dropout) == 4 and kinds.count(nn.BatchNorm1d) == 2
    assert network.output.in_features == 10
    assert network(torch.randn(2, 2, 64, 64)).shape == (2, 3)


def test_an_mlp_has_the_hidden_layers_it_is_given():
    network = create_classifier("mlp", 3, 2, 8, MlpArguments(hidden_sizes=(7, 5), activation="leaky_relu"))
    shapes = [tuple(module.weight.shape) for module in network.modules() if isinstance(module, nn.Linear)]
    assert shapes == [(7, 192), (5, 7), (2, 5)]
    plain = create_classifier("mlp", 3, 2, 8, MlpArguments(hidden_sizes=()))
    assert plain(torch.randn(1, 3, 8, 8)).shape == (1, 2)


@pytest.mark.parametrize("name", ["lecture_cnn", "keras_cnn", "mlp"])
def test_arguments_go_through_json(name):
    arguments = read_arguments(name, {"hidden_sizes": (9,), "activation": "leaky_relu", "dropout": None})
    assert read_arguments(name, json.loads(json.dumps(arguments.to_json()))) == arguments


@pytest.mark.parametrize("kind", [LectureCnnArguments, KerasCnnArguments])
def test_the_smallest_chip_of_a_teaching_network_is_the_smallest_that_leaves_a_map(kind):
    for filters, kernel, stride, padding in itertools.product(
        ((4,), (4, 4), (4, 4, 4)), (1, 3, 5), (1, 2), (None, 0, 1, 2)
    ):
        if padding is not None and padding >= kernel:
            continue
        arguments = kind(filters=filters, kernel_size=kernel, stride=stride, padding=padding)
        smallest = next(size for size in range(1, 2000) if min(arguments.map_sizes(size)) >= 1)
        assert arguments.smallest_chip() == smallest


@pytest.mark.parametrize(
    ("kind", "kernel", "stride", "padding", "size"),
    [(LectureCnnArguments, 3, 1, None, 33), (LectureCnnArguments, 5, 2, 0, 61), (KerasCnnArguments, 3, 1, 0, 47)],
)
def test_the_sizes_of_maps_are_those_of_the_network(kind, kernel, stride, padding, size):
    name = "lecture_cnn" if kind is LectureCnnArguments else "keras_cnn"
    arguments = kind(filters=(4, 5), kernel_size=kernel, stride=stride, padding=padding)
    network = create_classifier(name, 2, 3, size, arguments)
    assert network.features(torch.zeros(1, 2, size, size)).shape[-1] == arguments.map_sizes(size)[-1]


def test_too_many_poolings_are_refused_with_what_to_do():
    arguments = read_arguments("lecture_cnn", {"filters": (8, 16, 32, 64, 128)})
    with pytest.raises(InputError, match=r"16 × 16.*5 blocks and needs 32 × 32.*block 5.*fewer FILTERS.*32 or more"):
        check_arguments("lecture_cnn", arguments, 3, 16)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("mlp", {"filters": (8,)}),
        ("resnet18", {"filters": (8,)}),
        ("lecture_cnn", {"kernel": 3}),
        ("lecture_cnn", {"filters": ()}),
        ("lecture_cnn", {"filters": (8,) * 13}),
        ("lecture_cnn", {"filters": (8, 0)}),
        ("lecture_cnn", {"filters": (8, 2.5)}),
        ("lecture_cnn", {"filters": "8,16"}),
        ("lecture_cnn", {"filters": (10**9,)}),
        ("lecture_cnn", {"kernel_size": 4}),
        ("lecture_cnn", {"kernel_size": 3.0}),
        ("lecture_cnn", {"kernel_size": True}),
        ("lecture_cnn", {"stride": 0}),
        ("lecture_cnn", {"padding": 3}),
        ("lecture_cnn", {"activation": "eval"}),
        ("lecture_cnn", {"activation": ["relu"]}),
        ("mlp", {"dropout": 1}),
        ("mlp", {"dropout": float("nan")}),
        ("mlp", {"hidden_sizes": (10**9,)}),
        ("mlp", {"hidden_sizes": 5}),
    ],
)
def test_arguments_that_make_no_network_are_refused(name, values):
    with pytest.raises(InputError):
        read_arguments(name, values)


@pytest.mark.parametrize(
    ("name", "values", "size"),
    [("mlp", {}, 1024), ("keras_cnn", {}, 2048), ("lecture_cnn", {"filters": (4096, 4096), "kernel_size": 15}, 32)],
)
def test_a_layer_beyond_any_memory_is_refused_with_its_size(name, values, size):
    with pytest.raises(InputError, match=r"[\d,]{11} weights"):
        create_classifier(name, 3, 2, size, read_arguments(name, values))


# Pretrained weights


# Of each family one that is not among those below: all its members differ in size only.
@pytest.mark.parametrize("name", ["vgg11_bn", "efficientnet_v2_m", "mobilenet_v3_large", "mnasnet0_75",
                                  "regnet_y_800mf", "convnext_small", "swin_s", "vit_l_32"])  # fmt: skip
def test_networks_in_both_libraries_have_tensors_of_the_same_sizes(name):
    ours = on_meta(name, 3, classes=2).network.state_dict()
    with torch.device("meta"):
        theirs = timm.create_model(TWINS[name], num_classes=2).state_dict()
    counters = ("num_batches_tracked", "relative_position_index")
    ours = [value.numel() for key, value in ours.items() if not key.endswith(counters)]
    assert ours == [theirs[key].numel() for key in names_in_timm(name) if not key.endswith(counters)]


@pytest.mark.parametrize(
    "name",
    ["efficientnet_b0", "mobilenet_v3_small", "mnasnet0_5", "regnet_x_400mf", "regnet_y_400mf", "convnext_tiny",
     "swin_t", "vit_b_32"],
)  # fmt: skip
def test_weights_under_the_names_of_timm_mean_the_same(name):
    torch.manual_seed(0)
    size = 224 if name in ("swin_t", "vit_b_32") else 64  # theirs take one size only
    theirs = timm.create_model(TWINS[name], num_classes=4).eval()
    roughen(theirs)
    network = create_classifier(name, 3, 4, size).eval()
    load_classifier_weights(network, name, Weights(theirs.state_dict(), "file"), ["x"] * 3)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-4
    image = torch.randn(1, 3, size, size)
    final = [module for module in theirs.modules() if isinstance(module, (nn.Linear, nn.Conv2d))][-1]
    with torch.no_grad():
        network.output.weight.copy_(final.weight.reshape(network.output.weight.shape))
        network.output.bias.copy_(final.bias)
        there = theirs(image * (PHOTO_STD / image_std_in_timm(TWINS[name])))
        assert torch.allclose(network(image), there, atol=1e-4 * there.abs().max().item())


@pytest.mark.parametrize("name", ["resnet18", "mnasnet0_5", "shufflenet_v2_x0_5", "squeezenet1_1"])
def test_weights_of_torchvision_fit_but_for_the_head(name):
    theirs = torchvision.models.get_model(name, weights=None)
    network = create_classifier(name, 3, 4, 64)
    before = network.output.weight.detach().clone()
    text = load_classifier_weights(network, name, Weights(theirs.state_dict(), "weights.pth"), ["x"] * 3)
    assert "weights.pth: " in text and text.endswith("all except the output layer.")
    ours = network.network.state_dict()
    for key, value in theirs.state_dict().items():
        assert torch.equal(ours[key], value) != key.startswith(network.output_name), key
    assert torch.equal(network.output.weight, before)


def test_real_weights_of_efficientnet_lite_fit_and_know_the_scale_of_our_chips(shared_weights):
    weights = read_weights(str(shared_weights / "tf_efficientnet_lite0_imagenet.safetensors"))
    network = create_classifier("efficientnet_lite0", 3, 9, 96).eval()
    text = load_classifier_weights(network, "efficientnet_lite0", weights, ["x"] * 3)
    assert "output layer" in text and "adapted" not in text
    theirs = timm.create_model("tf_efficientnet_lite0").eval()
    theirs.load_state_dict(weights.tensors)
    pixels = torch.rand(2, 3, 96, 96)  # theirs takes (pixels - 0.5) / 0.5, ours (pixels - mean) / standard deviation
    with torch.no_grad():
        there = theirs.forward_features((pixels - 0.5) / 0.5)
        here = network.features((pixels - 0.5) / PHOTO_STD)
    assert torch.allclose(here, there, atol=1e-4)


def test_real_weights_go_to_the_bands_of_their_names(shared_weights):
    weights = read_weights(str(shared_weights / "tf_efficientnet_lite0_imagenet.safetensors"))
    network = create_classifier("efficientnet_lite0", 4, 2, 64)
    bands = ["nir", "blue", "green", "red"]
    text = load_classifier_weights(network, "efficientnet_lite0", weights, bands)
    assert "from 3 channels to 4" in text
    ours, theirs = network.network.conv_stem.weight.detach(), weights.tensors["conv_stem.weight"]
    scale = PHOTO_STD / 0.5 * 3 / 4
    assert torch.allclose(ours[:, 1:], theirs[:, [2, 1, 0]] * scale, atol=1e-6)
    assert torch.allclose(ours[:, 0], theirs.mean(1) * scale, atol=1e-6)


def test_weights_of_another_network_are_refused_by_its_name(shared_weights):
    weights = read_weights(str(shared_weights / "tf_efficientnet_lite0_imagenet.safetensors"))
    with pytest.raises(InputError, match=r"0 of 100 tensors.*missing.*conv1\.weight.*more.*unexpected.*"
                                         r"weights of efficientnet_lite0"):  # fmt: skip
        load_classifier_weights(create_classifier("resnet18", 3, 2, 64), "resnet18", weights, ["x"] * 3)


def test_a_larger_network_of_the_family_is_not_taken_in_part():
    larger = torchvision.models.resnet34().state_dict()
    with pytest.raises(InputError, match=r"unexpected: layer1\.2.*They are the weights of resnet34"):
        load_classifier_weights(create_classifier("resnet18", 3, 2, 64), "resnet18", Weights(larger, "file"), ["x"] * 3)


def test_old_names_of_densenet_and_heads_used_in_training_only_are_understood():
    tensors = torchvision.models.densenet121().state_dict()
    old = {key.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): value for key, value in tensors.items()}
    network = create_classifier("densenet121", 3, 2, 64)
    load_classifier_weights(network, "densenet121", Weights(old, "file"), ["x"] * 3)
    assert torch.equal(network.state_dict()["network.features.denseblock1.denselayer1.conv2.weight"],
                       tensors["features.denseblock1.denselayer1.conv2.weight"])  # fmt: skip
    whole = torchvision.models.googlenet(weights=None, init_weights=True)
    assert whole.aux1 is not None
    weights = Weights(whole.state_dict(), "file")
    load_classifier_weights(create_classifier("googlenet", 3, 2, 64), "googlenet", weights, ["x"] * 3)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_networks_that_torchvision_shows_a_narrower_image_get_the_same_from_us(name):
    torch.manual_seed(0)
    theirs = torchvision.models.get_model(name, weights=None, init_weights=True, transform_input=True)
    network = create_classifier(name, 3, 2, 96)
    load_classifier_weights(network, name, Weights(theirs.state_dict(), "file"), ["red", "green", "blue"])
    first = next(module for module in theirs.modules() if isinstance(module, nn.Conv2d))
    ours = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    image = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        there, here = first(theirs._transform_input(image)), ours(image)
    # What else they add to each channel is the same all over the image, but at its edge, which they pad differently.
    there, here = (maps - maps.mean((2, 3), keepdim=True) for maps in (there, here))
    assert (here - there).std() < 0.1 * there.std()


def test_the_windows_of_maxvit_are_resized_to_the_chips():
    tensors = {key: torch.ones(value.shape) for key, value in on_meta("maxvit_t", 3).state_dict().items()}
    network = create_classifier("maxvit_t", 3, 2, 96)
    text = load_classifier_weights(network, "maxvit_t", Weights(tensors, "file"), ["x"] * 3)
    assert "positions were resized to the chips in 22 tables" in text
    tables = [value for key, value in network.state_dict().items() if key.endswith("bias_table")]
    assert all(value.shape[0] == 25 and torch.allclose(value, torch.tensor(1.0)) for value in tables)


def test_a_gradient_over_the_chip_survives_the_resizing_of_positions():
    tensors = {key: torch.zeros(value.shape) for key, value in on_meta("vit_b_32", 3).state_dict().items()}
    across = torch.linspace(0, 1, 7).repeat(7)  # left to right
    tensors["network.encoder.pos_embedding"][0, 1:] = across[:, None]
    network = create_classifier("vit_b_32", 3, 2, 96)
    load_classifier_weights(network, "vit_b_32", Weights(tensors, "file"), ["x"] * 3)
    table = network.network.encoder.pos_embedding[0, 1:, 0].reshape(3, 3)
    assert torch.allclose(table[0], torch.tensor([0.0, 0.5, 1.0]), atol=1e-4) and torch.allclose(table[0], table[2])


def test_a_model_of_ours_is_where_another_training_starts(tmp_path):
    network = create_classifier("efficientnet_lite0", 4, 3, 64)
    save_model(tmp_path / "m.safetensors", network, header_of("efficientnet_lite0", 4, 64))
    other = create_classifier("efficientnet_lite0", 4, 5, 64)
    weights = read_weights(str(tmp_path / "m.safetensors"))
    load_classifier_weights(other, "efficientnet_lite0", weights, ["a", "b", "c", "d"])
    assert torch.equal(other.network.conv_stem.weight, network.network.conv_stem.weight)


def test_teaching_networks_take_weights_of_their_own_shape_only():
    arguments = MlpArguments(hidden_sizes=(5,))
    tensors = create_classifier("mlp", 2, 3, 8, arguments).state_dict()
    network = create_classifier("mlp", 2, 4, 8, arguments)
    load_classifier_weights(network, "mlp", Weights(tensors, "file"), ["x"] * 2)
    assert torch.equal(network.state_dict()["network.hidden.1.weight"], tensors["network.hidden.1.weight"])
    with pytest.raises(InputError, match=r"0 of 4 tensors.*trained as mlp"):
        load_classifier_weights(create_classifier("mlp", 2, 4, 8), "mlp", Weights(tensors, "file"), ["x"] * 2)


def test_making_a_network_asks_no_hub(monkeypatch):
    def fail(*_, **__):
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fail)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
    create_classifier("resnet18", 3, 2, 64)
    create_classifier("efficientnet_lite0", 3, 2, 64)


def test_a_download_says_its_size_and_licence_and_runs_nothing(monkeypatch):
    asked = {}

    def load(url, **settings):
        asked.update(settings, url=url)
        return torchvision.models.squeezenet1_1().state_dict()

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", load)
    assert "SqueezeNet1_1_Weights" in classifier_hub.describe_download("squeezenet1_1")
    assert " MB, licence" in classifier_hub.describe_download("squeezenet1_1")
    weights = classifier_hub.download_classifier("squeezenet1_1")
    assert asked["weights_only"] and asked["check_hash"] and asked["url"].startswith("https://download.pytorch.org/")
    load_classifier_weights(create_classifier("squeezenet1_1", 1, 2, 64), "squeezenet1_1", weights, ["x"])


def test_a_download_from_timm_is_a_safetensors_file(monkeypatch, tmp_path):
    def fetch(repository, file):
        assert (repository, file) == ("timm/tf_efficientnet_lite0.in1k", "model.safetensors")
        save_file(timm.create_model("tf_efficientnet_lite0").state_dict(), tmp_path / file)
        return str(tmp_path / file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    assert "19 MB, licence apache-2.0" in classifier_hub.describe_download("efficientnet_lite0")
    assert "conv_stem.weight" in classifier_hub.download_classifier("efficientnet_lite0").tensors


def test_weights_of_restricted_use_are_the_last_choice_and_named():
    assert "SWAG" not in classifier_hub.describe_download("vit_b_16")
    assert "SWAG" not in classifier_hub.describe_download("regnet_y_16gf")
    assert "SWAG/blob/main/LICENSE" in classifier_hub.describe_download("vit_h_14")
    assert "FEATURES" not in classifier_hub.describe_download("vgg16")


def test_a_hub_that_does_not_answer_is_said_in_words(monkeypatch):
    def fail(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fail)
    with pytest.raises(ResourceError, match=r"no route to host.*DOWNLOAD_WEIGHTS"):
        classifier_hub.download_classifier("resnet18")
    with pytest.raises(InputError, match="There are no pretrained"):
        classifier_hub.download_classifier("lecture_cnn")


# Fine-tuning


def test_the_head_is_the_output_layer_and_the_encoder_all_else():
    network = create_classifier("mobilenet_v3_small", 3, 4, 64)
    encoder, head = split_parameters(network)
    assert [value.shape for value in head] == [(4, 1024), (4,)]
    assert len(encoder) + len(head) == len(list(network.parameters()))


def test_groups_know_the_share_of_the_learning_rate_and_who_decays():
    network = create_classifier("resnet18", 3, 4, 64)
    groups = parameter_groups(network, weight_decay=0.1, encoder_rate=0.2)
    assert [group["rate"] for group in groups] == [0.2, 0.2, 1.0, 1.0]
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0, 0.1, 0.0]
    assert all(value.ndim > 1 for group in groups[::2] for value in group["params"])
    optimizer = torch.optim.AdamW(groups, lr=1.0)
    assert [group["rate"] for group in optimizer.param_groups] == [0.2, 0.2, 1.0, 1.0]
    assert sum(len(group["params"]) for group in groups) == len(list(network.parameters()))


def test_a_frozen_encoder_changes_in_nothing_until_it_is_thawed():
    network = create_classifier("resnet18", 3, 2, 64)
    optimizer = torch.optim.AdamW(parameter_groups(network, 0.1), lr=1e-2)

    def step():
        before = {key: value.clone() for key, value in network.state_dict().items()}
        network.train()
        network(torch.randn(4, 3, 64, 64)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        return {key for key, value in network.state_dict().items() if not torch.equal(value, before[key])}

    freeze_encoder(network)
    assert step() == {"network.fc.weight", "network.fc.bias"}
    thaw_encoder(network)
    assert step() == set(network.state_dict())


@pytest.mark.parametrize("name", ["vit_b_16", "swin_t", "swin_v2_t", "convnext_tiny", "maxvit_t", "efficientnet_lite0"])
def test_only_what_is_multiplied_decays(name):
    with torch.device("meta"):
        network = create_classifier(name, 3, 4, 224)
    names = {id(value): key for key, value in network.named_parameters()}
    found = {group["weight_decay"] > 0: set() for group in parameter_groups(network, 0.1)}
    for group in parameter_groups(network, 0.1):
        found[group["weight_decay"] > 0] |= {names[id(value)] for value in group["params"]}
    layers = (torch.nn.Linear, torch.nn.Conv2d, torch.nn.MultiheadAttention)
    expected = {
        f"{name}.{own}"
        for name, module in network.named_modules()
        if isinstance(module, layers)
        for own in ("weight", "in_proj_weight")
        if isinstance(getattr(module, own, None), torch.Tensor)
    }
    assert found[True] == expected and len(found[False]) + len(expected) == len(names)


def test_layers_learn_the_slower_the_farther_they_are_from_the_output():
    network = create_classifier("resnet18", 3, 4, 64)
    groups = parameter_groups(network, weight_decay=0.0, encoder_rate=0.5, layer_decay=0.8)
    rates = {id(value): group["rate"] for group in groups for value in group["params"]}
    ordered = [rates[id(value)] for value in network.parameters()]
    assert ordered == sorted(ordered) and len(set(ordered)) == 13
    assert ordered[0] == pytest.approx(0.5 * 0.8**11) and ordered[-3:] == [0.5, 1.0, 1.0]
    assert len(parameter_groups(network, 0.1)) == 4


def test_the_encoder_of_a_segmenter_is_frozen_and_thawed():
    network = create_model("unet", "mobilenet_v2", 3, 2)
    optimizer = torch.optim.AdamW(parameter_groups(network, 0.1), lr=1e-2)

    def step():
        before = {key: value.clone() for key, value in network.state_dict().items()}
        network.train()
        network(torch.randn(2, 3, 64, 64)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        return {key for key, value in network.state_dict().items() if not torch.equal(value, before[key])}

    freeze_encoder(network)
    assert step() == {key for key in network.state_dict() if key.startswith("decoder.")}
    thaw_encoder(network)
    assert step() == set(network.state_dict())


@pytest.mark.parametrize("name", ["efficientnet_b0", "convnext_tiny", "swin_t"])
def test_features_of_a_frozen_encoder_do_not_change_from_look_to_look(name):
    network = create_classifier(name, 3, 2, 64)  # these leave out blocks at random while they learn
    images = torch.randn(4, 3, 64, 64)

    def steady():
        network.train()
        with torch.no_grad():
            return torch.equal(network.features(images), network.features(images))

    freeze_encoder(network)
    assert steady()
    thaw_encoder(network)
    assert not steady()


# The summary


@pytest.mark.parametrize("name", ["mlp", "keras_cnn", "resnet18", "densenet121", "inception_v3", "dpn68", "swin_v2_t",
                                  "convnext_tiny", "vit_h_14", "maxvit_t"])  # fmt: skip
def test_every_parameter_is_in_one_row_of_the_summary(name):
    network = on_meta(name, 4, chip_size=96)
    for max_rows in (12, 100000):
        summary = summarise(network, 4, 96, max_rows)
        assert sum(row.parameters for row in summary.rows) == summary.parameters
        assert summary.output_shape == (3,)
        names = [row.name for row in summary.rows]  # which may be given as LAYER
        assert len(set(names)) == len(names)
        assert {name.removeprefix("network.") for name, _ in network.named_modules()} >= set(names)


def test_the_summary_shows_layers_shapes_and_parameters():
    network = create_classifier("lecture_cnn", 4, 3, 32, LectureCnnArguments(filters=(8, 16)))
    summary = summarise(network, 4, 32)
    first = summary.rows[0]
    assert (first.name, first.kind, first.shape) == ("features.0.0", "Conv2d", (8, 32, 32))
    assert first.parameters == 4 * 3 * 3 * 8 + 8
    assert summary.parameters == summary.learning == sum(value.numel() for value in network.parameters())
    lines = summary.text().splitlines()
    assert lines[0].split() == ["layer", "type", "output", "shape", "parameters"]
    assert lines[1].split() == ["features.0.0", "Conv2d", "8", "×", "32", "×", "32", "296"]
    assert lines[-1].startswith("4 × 32 × 32 → 3: ")
    assert json.loads(json.dumps(summary.to_json()))["rows"][0]["kind"] == "Conv2d"


def test_the_summary_folds_blocks_and_leaves_the_network_as_it_was():
    network = create_classifier("resnet18", 3, 2, 64).train()
    freeze_encoder(network)
    modes = [module.training for module in network.modules()]
    before = {key: value.clone() for key, value in network.state_dict().items()}
    summary = summarise(network, 3, 64, max_rows=20)
    assert [row.name for row in summary.rows[4:8]] == ["layer1.0", "layer1.1", "layer2.0", "layer2.1"]
    assert summary.learning == 2 * 512 + 2 and "are frozen" in summary.text()
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_the_summary_calculates_nothing():
    network = create_classifier("resnet18", 3, 2, 64)
    places = set()
    network.network.layer4.register_forward_hook(lambda module, inputs, output: places.add(output.device.type))
    assert summarise(network, 3, 64).output_shape == (2,)
    assert places == {"meta"} and next(network.parameters()).device.type == "cpu"


# The model file


def test_task_threshold_and_arguments_come_back(tmp_path):
    wanted = header(task="multilabel", threshold=0.4)
    save_model(tmp_path / "m.safetensors", small_model(), wanted)
    loaded, found = load_classifier(str(tmp_path / "m.safetensors"))
    assert found == wanted and loaded.network.output.in_features == 8


@pytest.mark.parametrize(
    "changes",
    [
        {"task": "segmentation"},
        {"task": "regression"},
        {"architecture": "resnet18", "arguments": {}},
        {"architecture": "resnet18"},
        {"architecture": "regnet_y_128gf", "arguments": {}, "chip_size": 224},
        {"architecture": "__import__('os')"},
        {"architecture": ["lecture_cnn"]},
        {"arguments": {"filters": [4, 8], "hidden_sizes": [10**9]}},
        {"arguments": {"filters": [4096] * 12, "hidden_sizes": [8]}},
        {"arguments": {"filters": [4, 8, 8], "hidden_sizes": [8]}},
        {"arguments": {"filters": [[4], 8]}},
        {"arguments": {"__class__": "os.system"}},
        {"arguments": [1, 2]},
        {"arguments": None},
        {"chip_size": 17.5},
        {"chip_size": 10**9},
        {"chip_size": 3},
        {"threshold": 2},
        {"threshold": "high"},
        {"classes": ClassTable.from_rows([(value, "", None) for value in range(200)])},
        {"band_names": ("x",) * 5000, "mean": (0.0,) * 5000, "std": (1.0,) * 5000},
    ],
    ids=str,
)
def test_a_header_that_does_not_fit_its_classifier_is_refused(tmp_path, changes):
    save_model(tmp_path / "m.safetensors", small_model(), header(**changes))
    with pytest.raises(InputError):
        load_classifier(str(tmp_path / "m.safetensors"))


def test_neither_kind_of_model_is_taken_for_the_other(tmp_path):
    save_model(tmp_path / "m.safetensors", small_model(), header())
    with pytest.raises(InputError, match="is for classification, not for segmentation"):
        load_model(str(tmp_path / "m.safetensors"))
    save_model(tmp_path / "m.safetensors", small_model(), header(task="segmentation"))
    with pytest.raises(InputError, match="is for segmentation, not for classification"):
        load_classifier(str(tmp_path / "m.safetensors"))


def test_arguments_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        LectureCnnArguments().stride = 2
