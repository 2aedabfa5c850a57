"""Layers of web map services: how they are recognised, and what QGIS knows of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Optional
from urllib.parse import parse_qsl

from qgis.core import QgsRasterLayer

from ..plugin.engine.config import WebLayer
from ..plugin.engine.errors import InputError
from .coordinates import WKT2

# Appended by QGIS to a GDAL source if the user set open options.
OPEN_OPTIONS = re.compile(r"\|(option|credential):.*$")
SAVE_IT = 'Save it as a GeoTIFF at the pixel size that you want ("Export", "Save As…") and use that.'
# Of a description for GDAL.
MOST_BYTES = 100_000


def is_web(layer: QgsRasterLayer) -> bool:
    """Return whether a layer comes from a server of tiles or maps, also if a file for GDAL describes it."""
    return layer.providerType() == "wms" or description_of(layer) is not None


def description_of(layer: QgsRasterLayer) -> Optional[Path]:
    """Return the file that describes a web layer for GDAL's driver WMS; None for any other layer."""
    path = OPEN_OPTIONS.sub("", layer.source())
    return Path(path) if layer.providerType() == "gdal" and describes_tiles(path) else None


def describes_tiles(path: str) -> bool:
    """Return whether a file describes a web layer for GDAL's driver WMS."""
    try:
        with open(path, "rb") as file:
            return file.read(1000).lstrip().startswith(b"<GDAL_WMS")
    except (OSError, ValueError):
        return False


def web_layer(layer: QgsRasterLayer) -> WebLayer:
    """Return where the tiles of a layer are.

    Raises:
        InputError: They cannot be fetched.
    """
    from ..plugin.engine.rasters.web_layer import check_headers, check_url, zoom_sizes

    crs = layer.dataProvider().crs()
    wkt = crs.toWkt(WKT2)
    path = description_of(layer)
    if path is not None:
        return described_at(path, layer.name()).replace(crs_wkt=wkt)
    pairs = parse_qsl(layer.source().replace("+", "%2B"), keep_blank_values=True)
    given = dict(pairs)
    why = _why_not(given)
    if why:
        raise InputError(f'The web layer "{layer.name()}" {why}.', SAVE_IT)
    known: dict[str, Any] = {
        "title": layer.name(), "url": given.get("url", ""), "crs_code": crs.authid(),
        "crs_wkt": wkt,
        "headers": _headers(layer.name(), given),
        "referer": given.get("http-header:referer") or given.get("referer") or "",
        "image_format": given.get("format") or "image/png",
        "layers": ",".join(value for name, value in pairs if name == "layers"),
        "styles": ",".join(value for name, value in pairs if name == "styles"),
    }  # fmt: skip
    if given.get("type") == "xyz":
        side = 512 if given.get("tilePixelRatio") == "2" else 256
        known["tile_side"] = side
        known["resolutions"] = zoom_sizes(_zoom(given, "zmin", 0), _zoom(given, "zmax", 18), side)
    elif "tileMatrixSet" in given:
        known.update(service="wmts", matrix_set=given["tileMatrixSet"])
        known["resolutions"] = tuple(sorted(layer.dataProvider().nativeResolutions(), reverse=True))
    else:
        known["service"] = "wms"
    found = WebLayer(**known)
    check_url(found)
    check_headers(found)
    return found


def described_at(path: Path, title: str) -> WebLayer:
    """Return the layer that a description for GDAL's driver WMS describes.

    Raises:
        InputError: It describes one that cannot be fetched.
    """
    from ..plugin.engine.rasters.web_layer import described

    with open(path, "rb") as file:
        return described(file.read(MOST_BYTES), title)


def _why_not(given: dict[str, str]) -> str:
    """Return why a layer cannot be fetched; "" if it can."""
    if given.get("type", "") not in ("", "xyz"):
        return f"is of the type {given['type'][:20]}, which cannot be fetched"
    if given.get("interpretation"):
        return "shows values that QGIS calculates from colours"
    if given.get("tileDimensions"):
        return f"shows a choice of the server's pictures ({given['tileDimensions'][:40]}), which cannot be asked for"
    if given.get("filter"):
        return "is filtered, which cannot be asked for"
    if set(given.get("opacities", "").split(",")) - {"", "255"}:
        return "shows sublayers that are partly transparent, which cannot be asked for"
    return ""


def _headers(title: str, given: dict[str, str]) -> tuple[str, ...]:
    """Return the headers of a layer's requests but for the referer; its login is one of them.

    Raises:
        InputError: Its login cannot be passed on.
    """
    from .logins import basic, login_headers

    start = "http-header:"
    found = [f"{name[len(start) :]}: {value}" for name, value in given.items() if name.startswith(start) and value]
    found = [header for header in found if not header.lower().startswith("referer:")]
    if given.get("authcfg"):
        found += login_headers(title, given["authcfg"], given.get("url", ""))
    elif given.get("username") or given.get("password"):
        found.append(basic(given.get("username", ""), given.get("password", "")))
    return tuple(found)


def _zoom(given: dict[str, str], name: str, otherwise: int) -> int:
    text = given.get(name, "")
    return int(text) if text.isdigit() else otherwise
