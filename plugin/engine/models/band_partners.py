"""Matches the bands of a raster to the channels of a pretrained network: by name, otherwise by wavelength."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Optional

# Centre wavelengths in nm of common band names; between those of the sensors where these differ.
WAVELENGTHS = {
    "coastal": 443, "coastalaerosol": 443, "ultrablue": 443, "blue": 490, "green": 560, "red": 660,
    "nir": 842, "nearinfrared": 842, "nir1": 842, "swir1": 1610, "swir2": 2200, "cirrus": 1374,
    "tir": 10900, "lwir": 10900, "thermal": 10900,
}  # fmt: skip
# A band whose wavelength differs from a channel's by at most this share shows about the same.
NEAR = 0.04
WITH_UNIT = re.compile(r"(\d+(?:[.,]\d+)?)\s*(nm|nanomet\w*|µm|μm|um|micromet\w*|micron\w*)(?![a-z])", re.IGNORECASE)
# "B4", "B04", "SR_B4" and "b8a", but not "band 4", which is Terrazzo's name for unnamed bands of any sensor.
SENSOR_CODE = re.compile(r"^(?:sr_)?b0*(\d+a?)$")


def find_partners(
    band_names: Sequence[str],
    channel_names: Sequence[str],
    channel_wavelengths: Sequence[Optional[float]] = (),
) -> list[Optional[int]]:
    """Find, for each band, the channel that showed the same, or None.

    The n-th band of a name is matched to the n-th channel of that name. A band whose name is not that of a channel, but
    gives a wavelength ("nir", "842 nm"), is matched to the nearest channel within 4 %.

    Args:
        band_names: Names of the raster's bands.
        channel_names: Names of the pretrained network's channels.
        channel_wavelengths: In nm, in the same order; None if one is unknown. Empty if all are.
    """
    places = {name: channel for channel, name in enumerate(_numbered(channel_names))}
    found = [places.get(name) for name in _numbered(band_names)]
    known = [(value, channel) for channel, value in enumerate(channel_wavelengths) if value is not None]
    for band, name in enumerate(band_names):
        wanted = wavelength_of(name)
        if found[band] is None and wanted is not None and known:
            value, channel = min(known, key=lambda pair: abs(pair[0] - wanted))
            if abs(value - wanted) <= NEAR * wanted:
                found[band] = channel
    return found


def wavelength_of(name: str) -> Optional[float]:
    """Return the wavelength in nm that a band's name gives, or None."""
    unit = WITH_UNIT.search(name)
    if unit is not None:
        value = float(unit.group(1).replace(",", "."))
        return value if unit.group(2).lower().startswith("n") else value * 1000
    words = re.findall(r"[a-z]+\d?", name.lower())
    if "edge" in words:  # a red edge band may have any wavelength from 700 to 790 nm
        return None
    found = {WAVELENGTHS[word] for word in (re.sub("[^a-z0-9]", "", name.lower()), *words) if word in WAVELENGTHS}
    return float(found.pop()) if len(found) == 1 else None


def _numbered(names: Sequence[str]) -> list[tuple[str, int]]:
    """Normalise names for comparison, and count how often each has occurred before."""
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        plain = SENSOR_CODE.sub(r"b\1", name.strip().lower())
        found.append((plain, seen[plain]))
        seen[plain] += 1
    return found
