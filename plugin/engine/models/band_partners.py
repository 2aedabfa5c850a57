"""Which band of a raster shows what a channel of a pretrained network showed: by name, else by wavelength."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Optional

# Centres in nm of what people call bands; where sensors differ, between them.
WAVELENGTHS = {
    "coastal": 443, "coastalaerosol": 443, "ultrablue": 443, "blue": 490, "green": 560, "red": 660,
    "nir": 842, "nearinfrared": 842, "nir1": 842, "swir1": 1610, "swir2": 2200, "cirrus": 1374,
    "tir": 10900, "lwir": 10900, "thermal": 10900,
}  # fmt: skip
# A band this share of the wavelength away from a channel shows about the same.
NEAR = 0.04
WITH_UNIT = re.compile(r"(\d+(?:[.,]\d+)?)\s*(nm|nanomet\w*|µm|μm|um|micromet\w*|micron\w*)(?![a-z])", re.IGNORECASE)
# "B4", "B04", "SR_B4" and "b8a", but not "band 4": so Terrazzo calls bands without a name, of any sensor.
SENSOR_CODE = re.compile(r"^(?:sr_)?b0*(\d+a?)$")


def find_partners(
    band_names: Sequence[str],
    channel_names: Sequence[str],
    channel_wavelengths: Sequence[Optional[float]] = (),
) -> list[Optional[int]]:
    """For each band the channel that showed the same, or None.

    The second band of a name goes to the second channel of that name. A band whose name is no channel's, but tells a
    wavelength ("nir", "842 nm"), goes to the nearest channel within 4 %.

    Args:
        band_names: Of the raster.
        channel_names: Of the pretrained network.
        channel_wavelengths: In nm, in the same order; None where one is not known. Empty where none is.
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
    """The wavelength in nm that a band's name tells, or None."""
    unit = WITH_UNIT.search(name)
    if unit is not None:
        value = float(unit.group(1).replace(",", "."))
        return value if unit.group(2).lower().startswith("n") else value * 1000
    words = re.findall(r"[a-z]+\d?", name.lower())
    if "edge" in words:  # red edge: of any wavelength from 700 to 790
        return None
    found = {WAVELENGTHS[word] for word in (re.sub("[^a-z0-9]", "", name.lower()), *words) if word in WAVELENGTHS}
    return float(found.pop()) if len(found) == 1 else None


def _numbered(names: Sequence[str]) -> list[tuple[str, int]]:
    """Names as they are compared, each with how often it was there before."""
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        plain = SENSOR_CODE.sub(r"b\1", name.strip().lower())
        found.append((plain, seen[plain]))
        seen[plain] += 1
    return found
