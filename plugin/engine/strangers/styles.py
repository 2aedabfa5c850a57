"""Read only class names and colours from an untrusted QGIS style file (QML).

QGIS itself would load everything, including expressions, paths of images, actions and scripts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Optional

from ..xml_elements import Element
from .texts import parse_xml

LARGEST_QML = 2**24  # bytes; a class with a complex symbol takes some thousand
MOST_CLASSES = 10_000
LONGEST = 1000  # letters of a name or filter
COLOR_KEYS = ("color", "line_color", "outline_color")
NUMBERS = re.compile(r"\s*(\d{1,3})\s*,\s*(\d{1,3})\s*,\s*(\d{1,3})")
HEX = re.compile(r"#[0-9a-fA-F]{6}")


@dataclass(frozen=True)
class SavedClass:
    """A legend entry: its values or filter, its label, and its colour as #rrggbb."""

    values: tuple[str, ...]
    label: str
    color: Optional[str]
    filter: str = ""


@dataclass(frozen=True)
class SavedStyle:
    """The classes with which a layer is drawn.

    Attributes:
        kind: "categories", "rules" or "palette"; "" for other renderers.
        attribute: The field or expression of the categories.
        classes: The legend entries.
        names: Field → value → description, from the field's value map.
    """

    kind: str = ""
    attribute: str = ""
    classes: tuple[SavedClass, ...] = ()
    names: dict[str, dict[str, str]] = field(default_factory=dict)


def read_style(data: bytes) -> SavedStyle:
    """Read the classes from the text of a style.

    Raises:
        ValueError: It is not XML, or is very large.
    """
    if len(data) > LARGEST_QML:
        raise ValueError("it is very large")
    root = parse_xml(data, doctype=True)
    names = {
        _short(part.get("name")): _value_map(part)
        for part in root.iterfind("fieldConfiguration/field")
        if part.find("editWidget[@type='ValueMap']") is not None
    }
    renderer = root.find("renderer-v2")
    if renderer is not None:
        colors = {symbol.get("name", ""): _color_of(symbol) for symbol in renderer.iterfind("symbols/symbol")}
        if renderer.get("type") == "categorizedSymbol":
            lines = (_category(part, colors) for part in renderer.iterfind("categories/category"))
            return SavedStyle("categories", _short(renderer.get("attr")), _bounded(lines), names)
        if renderer.get("type") == "RuleRenderer":
            lines = (_rule(part, colors) for part in renderer.iterfind("rules//rule"))
            return SavedStyle("rules", "", _bounded(lines), names)
    palette = root.find("pipe/rasterrenderer[@type='paletted']/colorPalette")
    if palette is not None:
        return SavedStyle("palette", "", _bounded(_entry(part) for part in palette.iterfind("paletteEntry")), names)
    return SavedStyle(names=names)


def _bounded(lines: Iterable[SavedClass]) -> tuple[SavedClass, ...]:
    found: list[SavedClass] = []
    for line in lines:
        if len(found) == MOST_CLASSES:
            raise ValueError(f"it has more than {MOST_CLASSES} classes")
        found.append(line)
    return tuple(found)


def _category(part: Element, colors: dict[str, Optional[str]]) -> SavedClass:
    together = [_short(value.get("value")) for value in part.iterfind("val")]
    values = together or [_short(part.get("value"))]
    return SavedClass(tuple(values), _short(part.get("label")), colors.get(part.get("symbol", "")))


def _rule(part: Element, colors: dict[str, Optional[str]]) -> SavedClass:
    color = colors.get(part.get("symbol", ""))
    text = part.get("filter") or ""
    return SavedClass((), _short(part.get("label")), color, text if len(text) <= LONGEST else "")


def _entry(part: Element) -> SavedClass:
    color = part.get("color", "").lower()
    return SavedClass((_short(part.get("value")),), _short(part.get("label")), color if HEX.fullmatch(color) else None)


def _color_of(symbol: Element) -> Optional[str]:
    """The colour of a symbol's first layer, in both notations of QGIS 3."""
    layer = symbol.find("layer")
    if layer is None:
        return None
    given = {part.get("k"): part.get("v", "") for part in layer.iterfind("prop")}
    given.update({part.get("name"): part.get("value", "") for part in layer.iterfind("Option/Option")})
    for key in COLOR_KEYS:
        numbers = NUMBERS.match(given.get(key, ""))
        if numbers is not None and max(map(int, numbers.groups())) <= 255:
            return "#" + "".join(f"{int(number):02x}" for number in numbers.groups())
    return None


def _value_map(part: Element) -> dict[str, str]:
    """Value → description of a value map, which QGIS stores the other way round, as a map or a list of maps."""
    found: dict[str, str] = {}
    for option in part.iterfind("editWidget/config/Option/Option[@name='map']//Option[@value]"):
        if len(found) < MOST_CLASSES:
            found[_short(option.get("value"))] = _short(option.get("name"))
    return found


def _short(text: Optional[str]) -> str:
    return (text or "")[:LONGEST]
