"""Turns the attributes of vector features into the values that the engine rasterises."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Optional

from qgis.core import (
    QgsFeature,
    QgsFeatureRequest,
    QgsField,
    QgsFields,
    QgsProcessingFeatureSource,
    QgsSingleSymbolRenderer,
)

from ..plugin.engine.class_names import HIGHEST, LOWEST, class_values, own_numbers, remarks_on, whole_number
from ..plugin.engine.errors import InputError
from . import field_types
from .class_styles import FieldStyles, LayerStyle, absent, value_text
from .class_table import ClassMapping

# The engine stores class indices in one byte, of which one value means "no label".
MAX_CLASSES = 254
NAMES_SHOWN = 3
# Typical names of fields that hold classes.
PLAUSIBLE = re.compile(
    r"cla(ss|zz)|klass|clase|label|categ|kateg|land_?(use|cover)|lulc|nutzung|habitat|species|"
    r"(^|_)(code|types?|typ|kind|art|crop|cover)($|_)",
    re.IGNORECASE,
)


class Values:
    """The values of features; this base class gives every feature the value 1.

    Attributes:
        fractional: Whether values may be any numbers, not only whole ones.
        missing: Why a feature has no value, for messages.
    """

    fractional = False
    missing = "no class given"

    def attributes(self) -> list[int]:
        """Return the indices of the fields that `value_of` needs."""
        return []

    def prepare(self, source: QgsProcessingFeatureSource) -> None:
        """Read the whole layer in advance, if that is necessary."""

    def value_of(self, feature: QgsFeature) -> Optional[float]:
        """Return the value of a feature; None leaves it out."""
        return 1

    def dropped(self) -> int:
        """Return how many features were left out on the user's request."""
        return 0

    def settings(self) -> dict[str, Any]:
        """Return the settings of the job that follow from the values found."""
        return {}

    def notes(self) -> list[str]:
        """Return remarks for the log."""
        return []

    def doubts(self) -> list[str]:
        """Return warnings about values that may not be what the user wants."""
        return []


@dataclass
class OneClass(Values):
    """All features are one class, with the name and colour of their layer.

    Attributes:
        name, color: Name and colour of the class.
        drawn_by: Field by whose values the layer is drawn, if any.
        doubt: Text of the warning.
    """

    name: str
    color: Optional[str]
    drawn_by: str = ""
    doubt: str = ""

    @classmethod
    def of(cls, style: LayerStyle, name: str) -> OneClass:
        """Return the class of a layer; it has a colour if the layer draws all features alike."""
        renderer = style.renderer
        symbol = renderer.symbol() if isinstance(renderer, QgsSingleSymbolRenderer) else None
        return cls(name, None if symbol is None else symbol.color().name(), style.drawn_by)

    def prepare(self, source: QgsProcessingFeatureSource) -> None:
        """Look for a field that seems to hold classes."""
        for place, found in enumerate(source.fields()):
            plausible = found.name() == self.drawn_by or PLAUSIBLE.search(found.name())
            if not plausible or found.type() not in (field_types.TEXT, field_types.INTEGER, field_types.LONG):
                continue
            given = source.uniqueValues(place, MAX_CLASSES + 2)
            texts = sorted({value_text(value) for value in given if not absent(value)})
            if 1 < len(texts) <= min(MAX_CLASSES, source.featureCount() - 1):
                self.doubt = (
                    f'The layer "{self.name}" has the field {found.name()} with {len(texts)} different values '
                    f"({together(texts)}), but no CLASS_FIELD is given, so all its features are one class. If the "
                    f"field holds the classes, set CLASS_FIELD to {found.name()}."
                )
                return

    def doubts(self) -> list[str]:
        """Return the warning about a field that seems to hold classes."""
        return [self.doubt] if self.doubt else []

    def settings(self) -> dict[str, Any]:
        """Return the class."""
        return {"classes": [[1, self.name, self.color]]}


@dataclass
class ClassField(Values):
    """The class of a feature is in a field: a whole number, or a text, which `class_values` turns into a number.

    Attributes:
        place: Index of the field.
        name: Name of the field.
        numeric: Whether it holds numbers.
        styles: Names and colours of its values.
        mapping: The user's class table.
        known: Class value by number or class text found so far; None if the class table drops it.
        seen: Number or class text by content of the field found so far; None if it is no class.
        unlisted: Texts that the class table does not list.
        left: Number of features that the class table dropped.
    """

    place: int
    name: str
    numeric: bool
    styles: FieldStyles
    mapping: ClassMapping
    known: dict[Any, Optional[int]] = field(default_factory=dict)
    seen: dict[Any, Any] = field(default_factory=dict)
    unlisted: list[str] = field(default_factory=list)
    left: int = 0

    @classmethod
    def of(cls, style: LayerStyle, fields: QgsFields, name: str, title: str, mapping: ClassMapping) -> ClassField:
        """Return the classes in the field `name` of the layer `title`.

        Raises:
            InputError: The layer has no such field, or the class table does not fit it.
        """
        place, found = find_field(fields, name, title)
        if found.isNumeric():
            mapping.by_number()
        return cls(place, found.name(), found.isNumeric(), style.field(found.name()), mapping)

    def attributes(self) -> list[int]:
        """Return the index of the class field."""
        return [self.place]

    def prepare(self, source: QgsProcessingFeatureSource) -> None:
        """Number the texts of the whole layer, so that a class has the same value wherever its features are.

        Raises:
            InputError: There are more texts than classes allowed.
        """
        if self.numeric:
            return
        rows = self.mapping.rows
        found = self.mapping.rows_of(self._texts(source, len(rows) + MAX_CLASSES))
        self.unlisted = [text for text, row in found.items() if row is None]
        # An unlisted number may get the same class as a listed number, but not the class of a word.
        of_words = {row.value for row in rows if whole_number(row.source) is None}
        values = own_numbers(self.unlisted, of_words) or class_values(self.unlisted, {row.value for row in rows})
        for text, row in found.items():
            self.known[text] = values[text] if row is None else row.value
        self._check_count()

    def value_of(self, feature: QgsFeature) -> Optional[int]:
        """Return the class value of a feature; None if the field is empty or the class table drops it.

        Raises:
            InputError: A number is not whole or too large, or there are too many classes.
        """
        given = _plain(feature[self.place])
        if given not in self.seen:
            self.seen[given] = self._meet(given, feature.id())
        key = self.seen[given]
        value = self.known[key] if key is not None else None
        if key is not None and value is None:
            self.left += 1
        return value

    def dropped(self) -> int:
        """Return the number of features that the class table dropped."""
        return self.left

    def settings(self) -> dict[str, Any]:
        """Return the classes found; the engine names plain numbers."""
        gathered: dict[int, list[str]] = {}
        for given, value in self.known.items():
            if value is not None:
                gathered.setdefault(value, []).append(value_text(given))
        styles = self.styles.of(text for texts in gathered.values() for text in texts)
        rows = []
        for value, texts in sorted(gathered.items()):
            name, color = self.mapping.style_of(value)
            names = [styles[text][0] or ("" if self.numeric or text == str(value) else text) for text in texts]
            colors = [styles[text][1] for text in texts if styles[text][1]]
            rows.append([value, name or together(names), color or next(iter(colors), None)])
        return {"classes": rows}

    def notes(self) -> list[str]:
        """Report what the class table does not list, and how many features it dropped."""
        found = []
        if self.unlisted and self.mapping.rows:
            numbered = ", ".join(f"{text} {self.known[text]}" for text in self.unlisted)
            found.append(f"Values of {self.name} that {self.mapping.title} does not list were numbered: {numbered}.")
        if self.left:
            features = f"{self.left} feature{'' if self.left == 1 else 's'}"
            found.append(f"{features} left out, because {self.mapping.title} drops their value.")
        if not self.numeric:
            unlisted = {text: value for text in self.unlisted if (value := self.known[text]) is not None}
            found += remarks_on(filter(None, map(str, self.seen)), unlisted, f"the field {self.name}")
        return found

    def _texts(self, source: QgsProcessingFeatureSource, limit: int) -> set[str]:
        """Return the class texts of the whole layer; if there are more than `limit`, at least that many."""
        if source.fields()[self.place].type() == field_types.TEXT:
            found = source.uniqueValues(self.place, limit + 1)
            texts = {value_text(given) for given in found if not absent(given)}
            if len(texts) > limit or len(found) <= limit:
                return texts
            found = source.uniqueValues(self.place)  # the same class may be written in many ways
        else:  # for dates and lists, QGIS's unique values differ from those of the features
            request = QgsFeatureRequest().setFlags(QgsFeatureRequest.Flag.NoGeometry)
            rows = source.getFeatures(request.setSubsetOfAttributes([self.place]))
            found = {_plain(row[self.place]) for row in rows}
        return {value_text(given) for given in found if not absent(given)}

    def _meet(self, given: Any, number: int) -> Any:
        """Return the number or class text of a new content of the field; None if it is no class."""
        if absent(given):
            return None
        if self.numeric:
            self._meet_number(given, number)
            return given
        text = value_text(given)
        if text not in self.known:
            raise InputError(
                f'The class field {self.name} holds "{text}" (feature id {number}), which QGIS does not list among the '
                "values of the field.",
                "Save the layer to a new file.",
            )
        return text

    def _meet_number(self, given: float, number: int) -> None:
        row = self.mapping.by_number().get(given)
        if row is None and (not LOWEST <= given <= HIGHEST or given != int(given)):  # NaN is outside any range
            raise InputError(
                f"The class field {self.name} holds {given:.15g} (feature id {number}).",
                "Class values must be 32-bit whole numbers: choose another field, or convert it.",
            )
        self.known[given] = int(given) if row is None else row.value
        self._check_count()

    def _check_count(self) -> None:
        if len(set(self.known.values()) - {None}) > MAX_CLASSES:
            raise InputError(
                f"The class field {self.name} holds more than {MAX_CLASSES} different values.",
                "Choose a field of classes; a name or number for each single feature cannot be learned.",
            )


@dataclass(frozen=True)
class NumberField(Values):
    """The value of a feature is a number in a field, such as a height.

    Attributes:
        place: Index of the field.
        name: Name of the field.
    """

    place: int
    name: str

    fractional = True
    missing = "no value given"

    @classmethod
    def of(cls, fields: QgsFields, name: str, title: str) -> NumberField:
        """Return the numbers in the field `name` of the layer `title`.

        Raises:
            InputError: The layer has no such field, or it holds no numbers.
        """
        place, found = find_field(fields, name, title)
        if not found.isNumeric():
            raise InputError(
                f'The field {name} of the layer "{title}" holds no numbers ({found.typeName()}).',
                "Choose a field of numbers, or convert it.",
            )
        return cls(place, found.name())

    def attributes(self) -> list[int]:
        """Return the index of the field."""
        return [self.place]

    def value_of(self, feature: QgsFeature) -> Optional[float]:
        """Return the number; None if there is none."""
        given = feature[self.place]
        return float(given) if not absent(given) and isfinite(given) else None


@dataclass
class Areas(Values):
    """Areas that go to one split as a whole: one for each text of a field, or for each feature.

    Attributes:
        place: Index of the field; None makes each feature an area.
        numbers: Number of each area, by name.
    """

    place: Optional[int] = None
    numbers: dict[str, int] = field(default_factory=dict)

    missing = "no area given"

    @classmethod
    def of(cls, fields: QgsFields, name: str, title: str) -> Areas:
        """Return the areas in the field `name` of the layer `title`; without a name, each feature is one.

        Raises:
            InputError: The layer has no such field.
        """
        return cls(find_field(fields, name, title)[0] if name else None)

    def attributes(self) -> list[int]:
        """Return the index of the field, if there is one."""
        return [] if self.place is None else [self.place]

    def value_of(self, feature: QgsFeature) -> Optional[int]:
        """Return the number of the area; None if the field is empty."""
        given = feature.id() if self.place is None else feature[self.place]
        if absent(given):
            return None
        return self.numbers.setdefault(value_text(given), len(self.numbers) + 1)

    def settings(self) -> dict[str, Any]:
        """Return the names of the areas.

        Raises:
            InputError: Some areas have the names of splits, and others do not.
        """
        from ..plugin.engine.chips.divide import SPLIT_WORDS

        others = [name for name in self.numbers if name.lower() not in SPLIT_WORDS]
        if others and len(others) < len(self.numbers):
            splits = ", ".join(name for name in self.numbers if name not in others)
            raise InputError(
                f"SPLIT_FIELD holds names of splits ({splits}) as well as other names ({together(others)}).",
                "Give a split for every area, or other names for all areas, which Terrazzo then divides.",
            )
        return {"split_names": [[number, name] for name, number in self.numbers.items()]}


def find_field(fields: QgsFields, name: str, title: str) -> tuple[int, QgsField]:
    """Return the index of a field and the field.

    Raises:
        InputError: The layer `title` has no field of that name.
    """
    place = fields.lookupField(name)
    if place < 0:
        there = ", ".join(fields.names()) or "none"
        raise InputError(f'The layer "{title}" has no field {name}.', f"Its fields are: {there}.")
    return place, fields[place]


def _plain(given: Any) -> Any:
    """Convert the content of a field to a number or text that can be a dictionary key; None for empty."""
    if isinstance(given, (str, int)):
        return given
    if absent(given):
        return None
    return given if isinstance(given, float) else value_text(given)


def together(names: Iterable[str]) -> str:
    """Combine the names of merged values into one; "" if none has a name."""
    known = list(dict.fromkeys(name for name in names if name))
    return ", ".join(known[:NAMES_SHOWN]) + (", …" if len(known) > NAMES_SHOWN else "")
