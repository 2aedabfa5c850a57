"""Files that lead GDAL to a server: Terrazzo uses the network only for addresses that the user gives.

A virtual raster, its mask or its overviews may name any address, and GDAL would ask there while it reads the file. So
before a file of this computer is opened, what it names is looked at, also in files that these name in turn.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from functools import lru_cache
from typing import Optional

from ..errors import InputError
from .addresses import host_asked, share_of
from .named import INDEX, INDEX_NAME, beside, look, names_of, paths_in

WINDOWS = sys.platform == "win32"
FOLDER = re.compile(r".*[\\/]", re.DOTALL)
ABSOLUTE = re.compile(r"[\\/]|[A-Za-z]:[\\/]")
BASE = ":::BASE:::"  # in names of overviews: the folder of the raster


def check_here(source: str, name: str = "") -> None:
    """Check that a file of this computer, or the text of a virtual raster, leads GDAL to no server.

    Args:
        source: What GDAL would open; an address, which the user asks for, is fine.
        name: The name for messages; "" for the source.

    Raises:
        InputError: It leads to a server, or names files in a way that cannot be read.
    """
    if host_asked(source):
        return
    shown = name or source
    places = tuple(_places(source, ""))
    try:
        found = _leads_to(places, tuple(look(near) for place in places for near in (place, *beside(place))))
    except (OSError, ValueError) as error:
        raise InputError(
            f"What other files {shown} names cannot be read ({error}).", "Check that the file is intact."
        ) from None
    if found:
        raise InputError(
            f"{shown} leads to a server ({found}), which is not asked: the network is used only for addresses that you "
            "give yourself.",
            "Give that address itself, or save the data on this computer.",
        )


@lru_cache
def _leads_to(places: tuple[str, ...], state: tuple[tuple[int, int], ...]) -> Optional[str]:
    """The first server that files or texts lead to, known until their state changes; None if there is none."""
    waiting, seen = list(places), set(places)
    while waiting:
        place = waiting.pop()
        folder = "" if place.lstrip().startswith("<") else _folder(place.removeprefix(INDEX))
        for name in names_of(place):
            host = host_asked(name) or _elsewhere(name, place)
            if host:
                return host
            for further in _places(name, folder):
                if further not in seen:
                    seen.add(further)
                    waiting.append(further)
    return None


def _places(name: str, folder: str) -> Iterator[str]:
    """What is to be looked at for a name in a file of a folder."""
    if name.lstrip().startswith("<"):
        yield name
        return
    index = INDEX if INDEX in name.upper() or INDEX_NAME.search(name) else ""
    for path in paths_in(name.replace(BASE, "", 1)):
        yield f"{index}{path}"
        if folder and not ABSOLUTE.match(path):
            yield f"{index}{folder}{path}"


def _folder(path: str) -> str:
    found = FOLDER.match(path)
    return found[0] if found else ""


def _elsewhere(name: str, place: str) -> str:
    """The computer that a path of Windows leads to, unless the file that names it is there as well."""
    if not WINDOWS or name.lstrip().startswith("<"):
        return ""
    shares = filter(None, map(share_of, paths_in(name)))
    return next((share for share in shares if share != share_of(place)), "")
