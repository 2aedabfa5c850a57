"""Files of weights from others and from Terrazzo: what is read, and the assignment of first filters to bands."""

import time

import pytest
import torch
from known_segmenter import header
from safetensors.torch import save_file

from plugin.engine.classes import ClassTable
from plugin.engine.errors import InputError
from plugin.engine.models.classifier_arguments import MlpArguments
from plugin.engine.models.classifier_network import create_classifier
from plugin.engine.models.classifier_weights import BEGINNINGS, load_classifier_weights
from plugin.engine.models.classifiers import FAMILIES
from plugin.engine.models.encoder_weights import PREFIXES, load_encoder_weights
from plugin.engine.models.factory import create_model
from plugin.engine.models.input_bands import adapt_filters
from plugin.engine.models.model_file import save_model
from plugin.engine.models.timm_names import names_in_timm
from plugin.engine.models.weights_file import Weights, read_weights

BGR = ("blue", "green", "red")


def save(path, network, task, architecture, encoder, bands, **changes):
    classes = ClassTable.from_rows([(1, "x", None), (2, "y", None)])
    kind = {"task": task, "architecture": architecture, "encoder": encoder, "classes": classes}
    save_model(path, network, header(bands, **{**kind, **changes}))
    return read_weights(str(path))


# Which band the filters go to

SAME, SWAPPED = [0, 1, 2], [2, 1, 0]
ORDERS = [
    (BGR, BGR, SAME),
    (("nir", "red", "green"), ("nir", "red", "green"), SAME),
    (BGR, ("red", "green", "blue"), SWAPPED),
    ((*BGR, "nir"), ("red", "green", "blue", "nir"), [2, 1, 0, 3]),
    ((*BGR, "nir"), ("NIR", " Red", "green", "blue"), [3, 2, 1, 0]),
    (("band 1", "band 2", "band 3"), ("red", "green", "blue"), SAME),
    (("x", "x"), ("x", "x"), [0, 1]),
]


@pytest.mark.parametrize(("source", "bands", "order"), ORDERS, ids=str)
def test_filters_go_to_the_bands_of_their_names(source, bands, order):
    weight = torch.randn(4, len(source), 3, 3)
    assert torch.equal(adapt_filters(weight, bands, source), weight[:, order])


def test_a_band_that_the_network_never_saw_gets_the_mean():
    weight = torch.randn(4, 3, 3, 3)
    adapted = adapt_filters(weight, ("red", "swir", "blue", "x"), ("nir", "red", "green")) * 4 / 3
    assert torch.allclose(adapted[:, 0], weight[:, 1])
    assert all(torch.allclose(adapted[:, band], weight.mean(1)) for band in (1, 2, 3))


def test_three_filters_of_named_bands_are_not_taken_for_red_green_and_blue():
    weight = torch.randn(4, 3, 3, 3)
    adapted = adapt_filters(weight, ("red", "nir"), ("swir", "nir", "mir")) * 2 / 3
    assert torch.allclose(adapted[:, 0], weight.mean(1)) and torch.allclose(adapted[:, 1], weight[:, 1])


def test_filters_of_unknown_bands_are_taken_in_order():
    weight = torch.randn(4, 4, 3, 3)
    assert torch.equal(adapt_filters(weight, ("red", "green", "blue", "nir")), weight)


@pytest.mark.parametrize(("source", "bands", "order"), ORDERS, ids=str)
def test_a_classifier_trains_on_from_our_own_model_by_band_names(tmp_path, source, bands, order):
    first = create_classifier("squeezenet1_1", len(source), 2, 64)
    weights = save(tmp_path / "m.safetensors", first, "classification", "squeezenet1_1", "", source)
    second = create_classifier("squeezenet1_1", len(bands), 5, 64)
    text = load_classifier_weights(second, "squeezenet1_1", weights, bands)
    assert torch.equal(second.network.features[0].weight, first.network.features[0].weight[:, order])
    assert ("assigned to bands by name" in text) == (order != sorted(order)) and "adapted" not in text


@pytest.mark.parametrize(("source", "bands", "order"), ORDERS, ids=str)
def test_a_segmenter_trains_on_from_our_own_model_by_band_names(tmp_path, source, bands, order):
    first = create_model("fcn8s", "mobilenet_v3_small", len(source), 2)
    weights = save(tmp_path / "m.safetensors", first, "segmentation", "fcn8s", "mobilenet_v3_small", source)
    second = create_model("unet", "mobilenet_v3_small", len(bands), 3)
    text = load_encoder_weights(second.encoder, "mobilenet_v3_small", weights, bands)
    key = "model.conv_stem.weight"
    assert torch.equal(second.encoder.state_dict()[key], first.encoder.state_dict()[key][:, order])
    assert ("assigned to bands by name" in text) == (order != sorted(order)) and "adapted" not in text


def test_an_mlp_trains_on_by_band_names(tmp_path):
    arguments = MlpArguments(hidden_sizes=(5,))
    first = create_classifier("mlp", 3, 2, 4, arguments)
    weights = save(tmp_path / "m.safetensors", first, "classification", "mlp", "", BGR, chip_size=4)
    second = create_classifier("mlp", 3, 4, 4, arguments)
    load_classifier_weights(second, "mlp", weights, ("red", "green", "blue"))
    image = torch.randn(2, 3, 4, 4)
    ours, theirs = second.network.hidden(image), first.network.hidden(image[:, [2, 1, 0]])
    assert torch.allclose(ours, theirs, atol=1e-5)
    load_classifier_weights(second, "mlp", Weights(first.state_dict(), "file"), BGR)
    assert torch.equal(second.network.hidden(image), first.network.hidden(image))


def test_a_header_that_names_other_bands_than_the_filters_have_is_refused(tmp_path):
    network = create_classifier("squeezenet1_1", 4, 2, 64)
    weights = save(tmp_path / "m.safetensors", network, "classification", "squeezenet1_1", "", BGR)
    with pytest.raises(InputError, match="names 3 bands, but its first layer has 4"):
        load_classifier_weights(network, "squeezenet1_1", weights, BGR)


# What is read


def test_only_model_files_of_ours_tell_the_bands(tmp_path, shared_weights):
    assert read_weights(str(shared_weights / "tf_efficientnet_lite0_imagenet.safetensors")).band_names is None
    network = create_classifier("squeezenet1_1", 3, 2, 64)
    assert save(tmp_path / "m.safetensors", network, "classification", "x", "", BGR).band_names == BGR


MALFORMED = {
    "NaN": (lambda: torch.tensor([1.0, float("nan")]), "contains NaN or infinite"),
    "infinite": (lambda: torch.tensor([float("inf")]), "contains NaN or infinite"),
    "beyond float32": (lambda: torch.tensor([1e300], dtype=torch.float64), "contains NaN or infinite"),
    "sparse": (lambda: torch.eye(3).to_sparse(), "plain table"),
    "compressed": (lambda: torch.eye(3).to_sparse_csr(), "plain table"),
    "quantised": (lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8), "plain table"),
    "without memory": (lambda: torch.ones(3, device="meta"), "plain table"),
    "8 bits": (lambda: torch.ones(3).to(torch.float8_e4m3fn), "type float8_e4m3fn"),
    "larger than stored": (lambda: torch.zeros(1).expand(2**20, 2**20), "larger than its stored"),
}


@pytest.mark.usefixtures("reads_pth")
@pytest.mark.filterwarnings("ignore")  # torch's, of kinds of tensors that it gives up or has begun
@pytest.mark.parametrize(("make", "words"), MALFORMED.values(), ids=MALFORMED)
def test_tensors_that_no_network_can_calculate_with_are_refused(tmp_path, make, words):
    torch.save({"fine": torch.ones(2), "odd.weight": make()}, tmp_path / "weights.pth")
    with pytest.raises(InputError, match=rf"odd\.weight.*{words}"):
        read_weights(str(tmp_path / "weights.pth"))


def test_negative_variances_are_refused(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file({"bn1.running_var": torch.tensor([1.0, -0.1])}, path)
    with pytest.raises(InputError, match=r"bn1\.running_var holds negative variances"):
        read_weights(str(path))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_other_precision_are_read(tmp_path, dtype):
    save_file({"a": torch.ones(2, dtype=dtype), "n": torch.tensor(3)}, tmp_path / "weights.safetensors")
    assert read_weights(str(tmp_path / "weights.safetensors")).tensors["a"].dtype == dtype


@pytest.mark.parametrize("version", ["2.5.0+cu124", "2.9.1", "2.6.0+debian"])
def test_an_old_torch_never_opens_a_pth_file(tmp_path, monkeypatch, version):
    path = tmp_path / "weights.pth"
    torch.save({"a": torch.ones(2)}, path)
    monkeypatch.setattr(torch, "__version__", version)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was opened"))
    with pytest.raises(InputError, match=r"may contain code that PyTorch 2\..*PyTorch 2\.10 or newer"):
        read_weights(str(path))
    save_file({"a": torch.ones(2)}, tmp_path / "weights.safetensors")
    assert torch.equal(read_weights(str(tmp_path / "weights.safetensors")).tensors["a"], torch.ones(2))


@pytest.mark.parametrize("shape", [(1, 0, 768), (1, 1, 768), (768,), (1, 3, 768), (0,)])
def test_positions_of_no_square_do_not_fit(shape):
    network = create_classifier("vit_b_32", 3, 2, 64)
    tensors = {**network.state_dict(), "network.encoder.pos_embedding": torch.zeros(shape)}
    with pytest.raises(InputError, match="missing or with another shape: pos_embedding"):
        load_classifier_weights(network, "vit_b_32", Weights(tensors, "file"), ["x"] * 3)


# Which network a file is of


def test_a_file_of_no_network_is_refused_at_once():
    network = create_classifier("squeezenet1_1", 3, 2, 64)
    begun = time.process_time()
    with pytest.raises(InputError, match=r"0 of 50 tensors.*Choose a file with weights of squeezenet1_1"):
        load_classifier_weights(network, "squeezenet1_1", Weights({"foo": torch.zeros(3)}, "file"), ["x"] * 3)
    assert time.process_time() - begun < 1


@pytest.mark.parametrize(
    "family", [family for family in FAMILIES if family.library != "terrazzo"], ids=lambda family: family.title
)
def test_the_names_of_every_family_are_known(family):
    name = family.members[0]
    with torch.device("meta"):
        network = create_classifier(name, 3, 2, max(64, family.smallest))
    keys = [*network.state_dict(), *(names_in_timm(name) or [])]
    assert [key for key in keys if not BEGINNINGS.match(PREFIXES.sub("", key))] == []
