"""Text from strangers: JSON, XML, lines and tables, each of bounded size and depth."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, TextIO
from xml.parsers import expat

from ..errors import InputError
from ..files import readable_size
from ..xml_elements import Element, TreeBuilder
from .paths import check_plain, open_plain, read_bytes

LARGEST_LINES = 2**28  # bytes
LARGEST_XML = 2_000_000  # the label of a chip has some hundred
# What a JSON file may take in memory once it is read, bytes.
JSON_MEMORY = 2**28
DEEPEST = 64  # lists and objects in each other
DEEPEST_XML = 128  # elements in each other; a QGIS style has some thirty
LONGEST_NUMBER = 24  # digits

# Also one that does not end, as looking for its end again and again would take for ever.
_STRINGS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_LONG_NUMBERS = re.compile(rb"(?<![0-9.])[0-9]{%d,}" % (LONGEST_NUMBER + 1))
_PAIRS = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_HALVES = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")


def parse_json(data: bytes, memory: int = JSON_MEMORY, constants: bool = False) -> Any:
    """What a JSON text holds.

    Args:
        memory: What it may take once it is read, bytes.
        constants: Whether NaN and Infinity may stand in it.

    Raises:
        ValueError: It is no JSON, or deep, long or odd beyond reason.
    """
    text = data.decode("utf-8-sig")
    # Python's objects are up to thirty times as large as their text.
    costs = ((b"{", 240), (b"[", 90), (b",", 40), (b'"', 25))
    if 2 * len(data) + sum(cost * data.count(mark) for mark, cost in costs) > memory:
        raise ValueError(f"it would take more than {readable_size(memory)} of memory")
    bare = _STRINGS.sub(b"0", data)
    brackets = bare.translate(None, _NO_BRACKETS)
    for _ in range(DEEPEST):
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
    if brackets:
        raise ValueError("its brackets do not match, or lie too deep in each other")
    if _LONG_NUMBERS.search(bare):
        raise ValueError(f"a number has more than {LONGEST_NUMBER} digits")
    if _HALVES.search(_PAIRS.sub(b"", data.replace(b"\\\\", b""))):
        raise ValueError("it holds half a character")
    try:
        return json.loads(text, parse_constant=None if constants else _refuse_constant)
    except RecursionError as error:
        raise ValueError("its parts lie too deep in each other") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"it holds {name}")


def read_json(path: Path, memory: int = JSON_MEMORY, constants: bool = True) -> Any:
    """What a JSON file holds; arguments as in `parse_json`.

    Raises:
        InputError: It is missing, no plain file, or no JSON of reasonable size.
    """
    try:
        return parse_json(read_bytes(path, memory), memory, constants)
    except (OSError, ValueError) as error:
        raise InputError(f"The file {path} cannot be read ({error}).", "Check that the file is whole.") from error


def parse_xml(data: bytes, doctype: bool = False) -> Element:
    """The root of an XML text.

    Args:
        doctype: Whether it may name a document type; never may it declare one, since entities can grow to any size.

    Raises:
        ValueError: It is no XML, or a very deep one.
    """
    builder = TreeBuilder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    depth = 0

    def begin(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > DEEPEST_XML:  # Python would crash when it lets go of such a tree
            raise ValueError("its elements lie too deep in each other")
        builder.start(name, attributes)

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(name)

    def begin_doctype(name: str, system: Any, public: Any, declares: int) -> None:
        if declares or not doctype:
            raise ValueError("it declares a document type")

    parser.StartDoctypeDeclHandler = begin_doctype
    parser.StartElementHandler = begin
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(data, True)
        return builder.close()
    except (expat.ExpatError, LookupError) as error:
        raise ValueError(str(error)) from error


def read_xml(path: Path) -> Element:
    """The root of an XML file.

    Raises:
        InputError: It is missing, no XML, very large, or declares a document type.
    """
    try:
        return parse_xml(read_bytes(path, LARGEST_XML))
    except (OSError, ValueError) as error:
        raise InputError(f"The label {path} cannot be read ({error}).", "Check that the file is whole.") from error


def read_lines(path: Path) -> Iterator[str]:
    """The lines of a text file that hold something, without white space around them.

    Raises:
        InputError: It cannot be read, or is very large.
    """
    with _text_of(path) as file:
        yield from (line.strip() for line in file if line.strip())


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table with commas, whose first line names the columns.

    Raises:
        InputError: It cannot be read, is very large, or a row has more or fewer cells than there are columns.
    """
    try:
        with _text_of(path) as file:
            rows = list(csv.DictReader(file))
        if any(None in row or None in row.values() for row in rows):
            raise ValueError("its rows differ in length")
    except (ValueError, csv.Error) as error:
        raise InputError(f"The file {path} is damaged ({error}).", "Mend or remove it.") from error
    return rows


def _text_of(path: Path) -> TextIO:
    try:
        if check_plain(path) > LARGEST_LINES:
            raise ValueError(f"it has more than {readable_size(LARGEST_LINES)}")
        return io.TextIOWrapper(open_plain(path), encoding="utf-8-sig", errors="replace")
    except (OSError, ValueError) as error:
        raise InputError(f"The file {path} cannot be read ({error}).", "Check that the file is whole.") from error


def contains_all(path: Path, words: set[bytes], step: int = 2**20) -> bool:
    """Whether a file holds some short words, without reading it whole."""
    wanted, end = set(words), b""
    try:
        with open_plain(path) as file:
            while wanted and (some := file.read(step)):
                wanted -= {word for word in wanted if word in end + some}
                end = some[-32:]
    except OSError:
        return False
    return not wanted
