"""Text from strangers: paths that must stay in their folder, XML without entities, JSON that may be anything."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...files import is_same, lies_in

LARGEST_XML = 10_000_000  # bytes; the label of a chip has some hundred


class _PlainTree(ET.TreeBuilder):
    """A tree of XML without a document type: entities are declared there, and can grow to any size."""

    def doctype(self, *declared: Any) -> None:
        """Called where a document type begins, before what it declares is used."""
        raise ValueError("it declares a document type")


def read_xml(path: Path) -> ET.Element:
    """The root of an XML file.

    Raises:
        InputError: It is missing, no XML, very large, or declares a document type.
    """
    try:
        if path.stat().st_size > LARGEST_XML:
            raise ValueError("it is very large")
        return ET.fromstring(path.read_bytes(), ET.XMLParser(target=_PlainTree()))
    except (OSError, ET.ParseError, ValueError, LookupError) as error:
        raise InputError(f"The label {path} cannot be read ({error}).", "Check that the file is whole.") from error


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        InputError: It is missing or no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"The file {path} cannot be read ({error}).", "Check that the file is whole.") from error


def inside(folder: Path, text: str, named_in: Path) -> Path:
    """The file inside `folder` that a text names, with / or \\ between its parts.

    Raises:
        InputError: It lies elsewhere, by its name or through a link.
    """
    name = text.replace("\\", "/")
    path = folder / name
    strays = name.startswith("/") or ".." in name.split("/") or re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", name)
    if strays or "\0" in name or not path.resolve().is_relative_to(folder.resolve()):
        raise InputError(f'{named_in} names "{text}", which lies outside of its folder.', "Do not use it.")
    return path


def check_apart(source: str, output: str) -> None:
    """A folder that is written must not lie in the one that is read, nor the other way round.

    Raises:
        InputError: It does.
    """
    one, other = Path(source), Path(output)
    if is_same(one, other) or lies_in(one, other) or lies_in(other, one):
        raise InputError(f"The folders {source} and {output} lie in each other.", "Choose another OUTPUT.")


def read_lines(path: Path) -> Iterator[str]:
    """The lines of a text file that hold something, without white space around them.

    Raises:
        InputError: It cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            yield from (line.strip() for line in file if line.strip())
    except OSError as error:
        raise InputError(f"The file {path} cannot be read ({error}).", "Check that the file is whole.") from error


def counted(number: int, noun: str) -> str:
    """A number with its noun: "1 chip", "2 chips"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def first_of(names: Iterable[str], most: int = 5) -> str:
    """Some names for a message: "a, b, c and 7 more"."""
    names = list(names)
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
