"""Reads the plugin's metadata and addresses from `metadata.txt`."""

from __future__ import annotations

import re
from configparser import ConfigParser
from functools import cache
from pathlib import Path

FILE = Path(__file__).resolve().parent.parent / "metadata.txt"


@cache
def said(key: str) -> str:
    """Return the value of a key."""
    parser = ConfigParser(interpolation=None)
    parser.read(FILE, encoding="utf-8")
    return parser["general"][key]


def guide(heading: str) -> str:
    """Return the address of a section of the user guide."""
    return f"{page('guide.md')}#{anchor(heading)}"


def page(name: str) -> str:
    """Return the address of a page of the documentation."""
    return f"{said('repository')}/blob/HEAD/docs/{name}"


def anchor(heading: str) -> str:
    """Return the anchor that code hosts give to a heading of a Markdown page."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
