"""What `metadata.txt` says of the plugin: the one place of its addresses."""

from __future__ import annotations

import re
from configparser import ConfigParser
from functools import cache
from pathlib import Path

FILE = Path(__file__).resolve().parent.parent / "metadata.txt"


@cache
def said(key: str) -> str:
    """The value of a key."""
    parser = ConfigParser(interpolation=None)
    parser.read(FILE, encoding="utf-8")
    return parser["general"][key]


def guide(heading: str) -> str:
    """The address of a part of the user guide, by its heading."""
    return f"{page('guide.md')}#{anchor(heading)}"


def page(name: str) -> str:
    """The address of a page of the documents."""
    return f"{said('repository')}/blob/HEAD/docs/{name}"


def anchor(heading: str) -> str:
    """What a heading of a Markdown page is reached by, where repositories show such pages."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
