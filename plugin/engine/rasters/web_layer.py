"""The pixels and tiles of a web layer, and the descriptions with which GDAL reads it; nothing here uses the network."""

from __future__ import annotations

import math
import re
from urllib.parse import urlsplit

from ..config import WebLayer
from ..errors import InputError
from ..strangers.texts import parse_xml
from ..windows import Bounds, Grid, count_tiles
from ..xml_elements import Element, SubElement, tostring
from .opening import NAME_ITEM

# Half the width of the world in EPSG:3857.
HALF = 20037508.342789244
# Pixels of a level that differ from the wanted size by no more than this factor are used as they are.
LIKE_WANTED = 1.05
WORLD_CODES = ("EPSG:3857", "EPSG:900913")
FINEST_ZOOM = 22  # GDAL counts no more pixels across the world
# What is fetched for 256 × 256 pixels, about.
TILE_BYTES = 30_000
PLACES = re.compile(r"\{(?:x|-?y|z|q)\}")
HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+: [\x20-\x7e]*")
# Rounding errors, in tiles.
SLACK = 1e-6
TIMEOUT = 30  # seconds for a tile
BANDS = 4  # red, green, blue, alpha


def host_of(url: str) -> str:
    """The host of an address, with its port."""
    parts = urlsplit(url)
    return parts.netloc.rpartition("@")[2]


def check_url(layer: WebLayer) -> None:
    """Check that an address leads to a server, because projects of others may name files of this computer.

    Raises:
        InputError: It does not.
    """
    bare = PLACES.sub("", layer.url)
    try:
        parts = urlsplit(layer.url)
        fine = (
            parts.scheme in ("http", "https") and bool(parts.hostname) and not re.search(r"[\s\x00-\x1f\x7f{}]", bare)
        )
    except ValueError:
        fine = False
    if not fine or "${" in bare:
        raise InputError(
            f'The address of the web layer "{layer.title}" cannot be used.',
            "It must begin with http:// or https://, and hold no placeholders but {x}, {y}, {-y}, {z} and {q}.",
        )


def check_headers(layer: WebLayer) -> None:
    """Check that headers are such.

    Raises:
        InputError: They are not.
    """
    if not all(HEADER.fullmatch(header) for header in layer.headers):
        raise InputError(
            f'A header of the requests of the web layer "{layer.title}" has a name or value that no header can have.',
            "Correct it in the layer's settings in QGIS.",
        )


def zoom_sizes(first: int, last: int, side: int) -> tuple[float, ...]:
    """The pixel sizes of the zoom levels of XYZ tiles, in units of EPSG:3857."""
    return tuple(2 * HALF / (side * 2**zoom) for zoom in range(max(0, first), min(last, FINEST_ZOOM) + 1))


def fitting_size(layer: WebLayer, wanted: float) -> float:
    """The pixel size to fetch: that of a level if it is about the wanted one, otherwise of the next finer level.

    Raises:
        InputError: The layer has no pixels as small as wanted.
    """
    if not layer.resolutions:
        return wanted
    near = min(layer.resolutions, key=lambda size: abs(math.log(size / wanted)))
    if max(near, wanted) <= LIKE_WANTED * min(near, wanted):
        return near
    finer = [size for size in layer.resolutions if size < wanted]
    if not finer:
        raise InputError(
            f'PIXEL_SIZE is {wanted:.6g}, but the smallest pixels of the web layer "{layer.title}" are '
            f"{min(layer.resolutions):.6g} units of {layer.crs_code} wide.",
            "Give a larger PIXEL_SIZE.",
        )
    return max(finer)


def grid_around(layer: WebLayer, size: float, bounds: Bounds) -> Grid:
    """The pixels of the tiles around a place, counted from the corner of the world or the origin of the CRS.

    Whole tiles, so that steps and tiles of a map lie in the same places whatever the extent.

    Raises:
        InputError: There is nothing at that place.
    """
    left, bottom, right, top = bounds
    begin_x, begin_y = (-HALF, HALF) if layer.service == "xyz" else (0.0, 0.0)
    step = size * layer.tile_side
    col, end_col = math.floor((left - begin_x) / step + SLACK), math.ceil((right - begin_x) / step - SLACK)
    row, end_row = math.floor((begin_y - top) / step + SLACK), math.ceil((begin_y - bottom) / step - SLACK)
    if layer.service == "xyz":
        across = round(2 * HALF / step)
        col, row = max(0, col), max(0, row)
        end_col, end_row = min(across, end_col), min(across, end_row)
    if end_col <= col or end_row <= row:
        raise InputError(
            f'The web layer "{layer.title}" has nothing at x {left:.9g} to {right:.9g}, y {bottom:.9g} to {top:.9g}.',
            "Choose another EXTENT.",
        )
    width, height = (end_col - col) * layer.tile_side, (end_row - row) * layer.tile_side
    return Grid(begin_x + col * step, begin_y - row * step, size, -size, width, height)


def tiles_in(layer: WebLayer, grid: Grid) -> int:
    """How many tiles show the pixels of a grid; about as many for WMTS, whose tiles the server defines."""
    return count_tiles(grid.window, layer.tile_side)


def amount_text(layer: WebLayer, tiles: int) -> str:
    """What is fetched: "1,200 tiles (about 36 MB) from tiles.example"."""
    megabytes = tiles * TILE_BYTES * (layer.tile_side / 256) ** 2 / 1e6
    return f"{tiles:,} tiles (about {math.ceil(megabytes):,} MB) from {host_of(layer.url)}"


def check_amount(layer: WebLayer, tiles: int, most: int) -> None:
    """Refuse to fetch more tiles than the user allows.

    Raises:
        InputError: There would be more.
    """
    if tiles > most:
        raise InputError(
            f"{amount_text(layer, tiles)} would be fetched, but MAX_TILES is {most:,}.",
            "Choose a smaller EXTENT or a larger PIXEL_SIZE, or raise MAX_TILES if the provider's terms of use allow "
            "that many.",
        )


def shown_name(layer: WebLayer, size: float) -> str:
    """The name of the layer for logs and datasets; without its address, which may hold a key."""
    return f"{layer.title} ({host_of(layer.url)}, pixels of {size:.6g})"


def stand_in(layer: WebLayer, grid: Grid) -> str:
    """The VRT text of a raster without data that has the bands and the grid of a web layer, for checks before it is
    fetched.
    """
    root = Element("VRTDataset", rasterXSize=str(grid.width), rasterYSize=str(grid.height))
    SubElement(root, "SRS", dataAxisToSRSAxisMapping="1,2").text = layer.crs_wkt
    SubElement(root, "GeoTransform").text = ", ".join(map(repr, grid.geotransform(grid.window)))
    metadata = SubElement(root, "Metadata")
    SubElement(metadata, "MDI", key=NAME_ITEM).text = shown_name(layer, grid.step_x)
    for number, color in enumerate(("Red", "Green", "Blue", "Alpha"), start=1):
        band = SubElement(root, "VRTRasterBand", dataType="Byte", band=str(number))
        SubElement(band, "ColorInterp").text = color
    return tostring(root, encoding="unicode")


def described(text: bytes, title: str) -> WebLayer:
    """The layer of a description for GDAL's driver WMS, as far as it has XYZ tiles of the world in EPSG:3857.

    Nothing else of such a file is used, because it may name files of this computer.

    Raises:
        InputError: It is another one.
    """
    try:
        root = parse_xml(text)

        def said(path: str) -> str:
            return (root.findtext(path) or "").strip()

        service = root.find("Service")
        edges = [
            float(said(f"DataWindow/{name}")) for name in ("UpperLeftX", "UpperLeftY", "LowerRightX", "LowerRightY")
        ]
        whole = all(abs(edge - world) < 1 for edge, world in zip(edges, (-HALF, HALF, HALF, -HALF)))
        fine = service is not None and service.get("name") == "TMS" and whole and said("Projection") in WORLD_CODES
        fine = fine and {said("DataWindow/TileCountX"), said("DataWindow/TileCountY")} == {"1"}
        last, side = int(said("DataWindow/TileLevel")), int(said("BlockSizeX") or 1024)
    except ValueError:
        fine, last, side = False, 0, 256
    if not fine:
        raise InputError(
            f"{title} is a description of a web layer other than XYZ tiles of the world in EPSG:3857.",
            "Add the layer to the project as XYZ tiles, WMS or WMTS, and use that.",
        )
    url = said("Service/ServerUrl").replace("${y}", "{y}" if said("DataWindow/YOrigin") == "top" else "{-y}")
    for place in ("x", "z"):
        url = url.replace(f"${{{place}}}", f"{{{place}}}")
    sizes = zoom_sizes(0, last, side)
    known = WebLayer(title=title, url=url, tile_side=side, resolutions=sizes, referer=said("Referer"))
    check_url(known)
    return known


# --- GDAL's descriptions


def xyz_text(layer: WebLayer, size: float, agent: str) -> str:
    """The description of one level of XYZ tiles for GDAL's driver WMS."""
    root, service = _root("VirtualEarth" if "{q}" in layer.url else "TMS")
    SubElement(service, "ServerUrl").text = _filled(layer.url)
    window = SubElement(root, "DataWindow")
    zoom = round(math.log2(2 * HALF / (layer.tile_side * size)))
    sides = (("UpperLeftX", -HALF), ("UpperLeftY", HALF), ("LowerRightX", HALF), ("LowerRightY", -HALF))
    for name, value in (*sides, ("TileLevel", zoom), ("TileCountX", 1), ("TileCountY", 1)):
        SubElement(window, name).text = repr(value)
    SubElement(window, "YOrigin").text = "bottom" if "{-y}" in layer.url else "top"
    return _finished(root, layer, agent)


def wms_text(layer: WebLayer, grid: Grid, agent: str) -> str:
    """The description of a part of a WMS layer for GDAL's driver WMS."""
    root, service = _root("WMS")
    for name, value in (
        ("Version", "1.1.1"), ("ServerUrl", _filled(layer.url)), ("SRS", layer.crs_code),
        ("ImageFormat", layer.image_format), ("Layers", layer.layers), ("Styles", layer.styles),
    ):  # fmt: skip
        SubElement(service, name).text = value
    if "png" in layer.image_format:
        SubElement(service, "Transparent").text = "TRUE"
    left, bottom, right, top = grid.bounds
    window = SubElement(root, "DataWindow")
    sides = (("UpperLeftX", left), ("UpperLeftY", top), ("LowerRightX", right), ("LowerRightY", bottom))
    for name, edge in (*sides, ("SizeX", grid.width), ("SizeY", grid.height)):
        SubElement(window, name).text = repr(edge)
    return _finished(root, layer, agent)


def wmts_text(layer: WebLayer, agent: str) -> str:
    """The description of a WMTS layer for GDAL's driver WMTS, which asks the server for its levels."""
    root = Element("GDAL_WMTS")
    for name, value in (
        ("GetCapabilitiesUrl", layer.url), ("Layer", layer.layers), ("Style", layer.styles),
        ("TileMatrixSet", layer.matrix_set), ("Format", layer.image_format),
    ):  # fmt: skip
        if value:
            SubElement(root, name).text = value
    return _requests(root, layer, agent)


def with_cache(text: str, folder: str) -> str:
    """A description of GDAL's driver WMS with a cache in a folder, which gets the bytes of each tile that is read."""
    cache = Element("Cache")
    for name, value in (
        ("Path", folder),
        ("Depth", "0"),
        ("Extension", ""),
        ("Unique", "False"),
        ("CleanTimeout", "0"),
    ):
        SubElement(cache, name).text = value
    return text.replace("</GDAL_WMS>", f"{tostring(cache, encoding='unicode')}</GDAL_WMS>")


def _root(service: str) -> tuple[Element, Element]:
    root = Element("GDAL_WMS")
    return root, SubElement(root, "Service", name=service)


def _filled(url: str) -> str:
    """An address with the placeholders of GDAL."""
    names = {"{q}": "${quadkey}", "{-y}": "${y}"}
    return PLACES.sub(lambda found: names.get(found[0], f"${found[0]}"), url)


def _finished(root: Element, layer: WebLayer, agent: str) -> str:
    SubElement(root, "Projection").text = layer.crs_code
    for name in ("BlockSizeX", "BlockSizeY"):
        SubElement(root, name).text = str(layer.tile_side)
    SubElement(root, "BandsCount").text = str(BANDS)
    return _requests(root, layer, agent)


def _requests(root: Element, layer: WebLayer, agent: str) -> str:
    SubElement(root, "MaxConnections").text = "1"  # of each thread
    SubElement(root, "Timeout").text = str(TIMEOUT)
    SubElement(root, "UserAgent").text = agent
    if layer.referer:
        SubElement(root, "Referer").text = layer.referer
    return tostring(root, encoding="unicode")
