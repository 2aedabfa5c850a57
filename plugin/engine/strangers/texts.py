"""Untrusted text files: JSON, XML, lines and tables, with limits on size and depth."""

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
LARGEST_XML = 2_000_000  # the label of a chip takes some hundred
# The maximum memory of a parsed JSON file, bytes.
JSON_MEMORY = 2**28
DEEPEST = 64  # nesting of lists and objects
DEEPEST_XML = 128  # nesting of elements; a QGIS style has some thirty levels
LONGEST_NUMBER = 24  # digits

# Also matches an unterminated string, since searching for its end repeatedly would be very slow.
_STRINGS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_LONG_NUMBERS = re.compile(rb"(?<![0-9.])[0-9]{%d,}" % (LONGEST_NUMBER + 1))
_PAIRS = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_HALVES = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")


def parse_json(data: bytes, memory: int = JSON_MEMORY, constants: bool = False) -> Any:
    """Parse a JSON text.

    Args:
        data: The text, in UTF-8.
        memory: The maximum memory of the result, bytes.
        constants: Allow NaN and Infinity.

    Raises:
        ValueError: It is not valid JSON, or is too deep or too large.
    """
    text = data.decode("utf-8-sig")
    # Python objects are up to thirty times as large as their text.
    costs = ((b"{", 240), (b"[", 90), (b",", 40), (b'"', 25))
    if 2 * len(data) + sum(cost * data.count(mark) for mark, cost in costs) > memory:
        raise ValueError(f"it would take more than {readable_size(memory)} of memory")
    bare = _STRINGS.sub(b"0", data)
    brackets = bare.translate(None, _NO_BRACKETS)
    for _ in range(DEEPEST):
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
    if brackets:
        raise ValueError("its brackets do not match, or are nested too deeply")
    if _LONG_NUMBERS.search(bare):
        raise ValueError(f"a number has more than {LONGEST_NUMBER} digits")
    if _HALVES.search(_PAIRS.sub(b"", data.replace(b"\\\\", b""))):
        raise ValueError("it holds half a character")
    try:
        return json.loads(text, parse_constant=None if constants else _refuse_constant)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"it holds {name}")


def read_json(path: Path, memory: int = JSON_MEMORY, constants: bool = True) -> Any:
    """Read a JSON file; see `parse_json` for the arguments.

    Raises:
        InputError: It is missing, not a regular file, not valid JSON, or too large.
    """
    try:
        return parse_json(read_bytes(path, memory), memory, constants)
    except (OSError, ValueError) as error:
        raise InputError(f"The file {path} cannot be read ({error}).", "Check that the file is intact.") from error


def parse_xml(data: bytes, doctype: bool = False, builder: Any = None) -> Any:
    """Parse an XML text and return its root.

    Args:
        data: The text.
        builder: Receives the elements, and gives what is returned; None for one that gives the root.
        doctype: Allow a document type; declarations are never allowed, since entities can expand to any size.

    Raises:
        ValueError: It is not valid XML, or is nested very deeply.
    """
    builder = TreeBuilder() if builder is None else builder
    parser = expat.ParserCreate()
    parser.buffer_text = True
    depth = 0

    def begin(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > DEEPEST_XML:  # Python would crash when it frees such a tree
            raise ValueError("its elements are nested too deeply")
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
    """Read an XML file and return its root.

    Raises:
        InputError: It is missing, not valid XML, very large, or declares a document type.
    """
    try:
        return parse_xml(read_bytes(path, LARGEST_XML))
    except (OSError, ValueError) as error:
        raise InputError(f"The label {path} cannot be read ({error}).", "Check that the file is intact.") from error


def read_lines(path: Path) -> Iterator[str]:
    """The non-empty lines of a text file, stripped.

    Raises:
        InputError: It cannot be read, or is very large.
    """
    with _text_of(path) as file:
        yield from (line.strip() for line in file if line.strip())


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a comma-separated table whose first line names the columns.

    Raises:
        InputError: It cannot be read, is very large, or a row does not have one cell per column.
    """
    try:
        with _text_of(path) as file:
            rows = list(csv.DictReader(file))
        if any(None in row or None in row.values() for row in rows):
            raise ValueError("its rows differ in length")
    except (ValueError, csv.Error) as error:
        raise InputError(f"The file {path} is damaged ({error}).", "Repair or remove it.") from error
    return rows


def _text_of(path: Path) -> TextIO:
    try:
        if check_plain(path) > LARGEST_LINES:
            raise ValueError(f"it has more than {readable_size(LARGEST_LINES)}")
        return io.TextIOWrapper(open_plain(path), encoding="utf-8-sig", errors="replace")
    except (OSError, ValueError) as error:
        raise InputError(f"The file {path} cannot be read ({error}).", "Check that the file is intact.") from error


def contains_all(path: Path, words: set[bytes], step: int = 2**20) -> bool:
    """Return whether a file contains some short byte strings; it is read in steps, not as a whole."""
    wanted, end = set(words), b""
    try:
        with open_plain(path) as file:
            while wanted and (some := file.read(step)):
                wanted -= {word for word in wanted if word in end + some}
                end = some[-32:]
    except OSError:
        return False
    return not wanted
