"""From what a vector layer says of its features to the values that the engine burns."""

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

# The engine holds class indices in a byte, one of which means "no label".
MAX_CLASSES = 254
NAMES_SHOWN = 3
# What fields of classes are called, as far as one can guess.
PLAUSIBLE = re.compile(
    r"cla(ss|zz)|klass|clase|label|categ|kateg|land_?(use|cover)|lulc|nutzung|habitat|species|"
    r"(^|_)(code|types?|typ|kind|art|crop|cover)($|_)",
    re.IGNORECASE,
)


class Values:
    """What features are worth, where nothing tells them apart: 1.

    Attributes:
        fractional: Whether values are any numbers, not whole ones.
        missing: Why a feature without a value has none, in words.
    """

    fractional = False
    missing = "no class given"

    def attributes(self) -> list[int]:
        """The places of the fields that `value_of` needs."""
        return []

    def prepare(self, source: QgsProcessingFeatureSource) -> None:
        """Look at the whole layer first, where that is needed."""

    def value_of(self, feature: QgsFeature) -> Optional[float]:
        """The value of a feature; None leaves it out."""
        return 1

    def dropped(self) -> int:
        """How many of the features without a value the user wanted to be without one."""
        return 0

    def settings(self) -> dict[str, Any]:
        """What the job has to know of the values met."""
        return {}

    def notes(self) -> list[str]:
        """What the user should know of the values, for the log."""
        return []

    def doubts(self) -> list[str]:
        """What may not be what the user wants, as warnings."""
        return []


@dataclass
class OneClass(Values):
    """All features are one class, named and coloured like their layer.

    Attributes:
        name, color: Of the class.
        drawn_by: The field by whose values the layer is drawn, if any.
        doubt: What to warn of.
    """

    name: str
    color: Optional[str]
    drawn_by: str = ""
    doubt: str = ""

    @classmethod
    def of(cls, style: LayerStyle, name: str) -> OneClass:
        """The class of a layer of that name; its colour, where it draws all its features alike."""
        renderer = style.renderer
        symbol = renderer.symbol() if isinstance(renderer, QgsSingleSymbolRenderer) else None
        return cls(name, None if symbol is None else symbol.color().name(), style.drawn_by)

    def prepare(self, source: QgsProcessingFeatureSource) -> None:
        """Look for a field that looks as if it held classes."""
        for place, found in enumerate(source.fields()):
            plausible = found.name() == self.drawn_by or PLAUSIBLE.search(found.name())
            if not plausible or found.type() not in (field_types.TEXT, field_types.INTEGER, field_types.LONG):
                continue
            given = source.uniqueValues(place, MAX_CLASSES + 2)
            texts = sorted({value_text(value) for value in given if not absent(value)})
            if 1 < len(texts) <= min(MAX_CLASSES, source.featureCount() - 1):
                self.doubt = (
                    f'The layer "{self.name}" has the field {found.name()} with {len(texts)} different values '
                    f"({together(texts)}), and no CLASS_FIELD is given: all its features are taken for one class. Set "
                    f"CLASS_FIELD to {found.name()} where that field holds the classes."
                )
                return

    def doubts(self) -> list[str]:
        """A field that looks as if it held classes."""
        return [self.doubt] if self.doubt else []

    def settings(self) -> dict[str, Any]:
        """The class."""
        return {"classes": [[1, self.name, self.color]]}


@dataclass
class ClassField(Values):
    """The class of a feature stands in a field: whole numbers, or texts, which become such as `class_values` has it.

    Attributes:
        place: The field's place.
        name: The field's name.
        numeric: Whether it holds numbers.
        styles: What is known of its values.
        mapping: The user's class table.
        known: The class value of a number or a class text, as far as met; None where the class table drops it.
        seen: The number or class text of what stands in the field, as far as met; None where that is no class.
        unlisted: The texts that the class table does not list.
        left: How many features the class table dropped.
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
        """The classes in the field `name` of the layer `title`.

        Raises:
            InputError: The layer has no such field, or the class table does not fit it.
        """
        place, found = find_field(fields, name, title)
        if found.isNumeric():
            mapping.by_number()
        return cls(place, found.name(), found.isNumeric(), style.field(found.name()), mapping)

    def attributes(self) -> list[int]:
        """The class field."""
        return [self.place]

    def prepare(self, source: QgsProcessingFeatureSource) -> None:
        """Number the texts of the whole layer, so that a class has one value wherever its features lie.

        Raises:
            InputError: There are more texts than there can be classes.
        """
        if self.numeric:
            return
        rows = self.mapping.rows
        found = self.mapping.rows_of(self._texts(source, len(rows) + MAX_CLASSES))
        self.unlisted = [text for text, row in found.items() if row is None]
        # A number that stays is the class that a listed number becomes, but none that a word does.
        of_words = {row.value for row in rows if whole_number(row.source) is None}
        values = own_numbers(self.unlisted, of_words) or class_values(self.unlisted, {row.value for row in rows})
        for text, row in found.items():
            self.known[text] = values[text] if row is None else row.value
        self._check_count()

    def value_of(self, feature: QgsFeature) -> Optional[int]:
        """The class value of a feature; None where the field is empty or the class table drops it.

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
        """The features that the class table dropped."""
        return self.left

    def settings(self) -> dict[str, Any]:
        """The classes met; names of plain numbers are left to the engine."""
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
        """What the class table does not list, and how much it dropped."""
        found = []
        if self.unlisted and self.mapping.rows:
            numbered = ", ".join(f"{text} {self.known[text]}" for text in self.unlisted)
            found.append(f"Values of {self.name} that are not in {self.mapping.title} were numbered: {numbered}.")
        if self.left:
            features = f"{self.left} feature{'' if self.left == 1 else 's'}"
            found.append(f"{features} left out, because {self.mapping.title} gives them no class.")
        if not self.numeric:
            unlisted = {text: value for text in self.unlisted if (value := self.known[text]) is not None}
            found += remarks_on(filter(None, map(str, self.seen)), unlisted, f"the field {self.name}")
        return found

    def _texts(self, source: QgsProcessingFeatureSource, limit: int) -> set[str]:
        """The class texts of the whole layer; where there are more than `limit`, at least so many."""
        if source.fields()[self.place].type() == field_types.TEXT:
            found = source.uniqueValues(self.place, limit + 1)
            texts = {value_text(given) for given in found if not absent(given)}
            if len(texts) > limit or len(found) <= limit:
                return texts
            found = source.uniqueValues(self.place)  # many ways to write a class
        else:  # of dates and lists QGIS looks up other values than it reads
            request = QgsFeatureRequest().setFlags(QgsFeatureRequest.Flag.NoGeometry)
            rows = source.getFeatures(request.setSubsetOfAttributes([self.place]))
            found = {_plain(row[self.place]) for row in rows}
        return {value_text(given) for given in found if not absent(given)}

    def _meet(self, given: Any, number: int) -> Any:
        """Take up what was not met before: the number or class text that it is; None where it is no class."""
        if absent(given):
            return None
        if self.numeric:
            self._meet_number(given, number)
            return given
        text = value_text(given)
        if text not in self.known:
            raise InputError(
                f'The class field {self.name} holds "{text}" (feature id {number}), which QGIS does not find among the '
                "values of the field.",
                "Save the layer to a new file.",
            )
        return text

    def _meet_number(self, given: float, number: int) -> None:
        row = self.mapping.by_number().get(given)
        if row is None and (not LOWEST <= given <= HIGHEST or given != int(given)):  # NaN is in no range
            raise InputError(
                f"The class field {self.name} holds {given:.15g} (feature id {number}).",
                "Class values are whole numbers of 32 bits; choose another field, or convert it.",
            )
        self.known[given] = int(given) if row is None else row.value
        self._check_count()

    def _check_count(self) -> None:
        if len(set(self.known.values()) - {None}) > MAX_CLASSES:
            raise InputError(
                f"The class field {self.name} holds more than {MAX_CLASSES} different values.",
                "Choose a field of classes; names or numbers of single features cannot be learned.",
            )


@dataclass(frozen=True)
class NumberField(Values):
    """The value of a feature is a number of a field, such as a height.

    Attributes:
        place: The field's place.
        name: The field's name.
    """

    place: int
    name: str

    fractional = True
    missing = "no value given"

    @classmethod
    def of(cls, fields: QgsFields, name: str, title: str) -> NumberField:
        """The numbers in the field `name` of the layer `title`.

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
        """The field."""
        return [self.place]

    def value_of(self, feature: QgsFeature) -> Optional[float]:
        """The number; None where there is none."""
        given = feature[self.place]
        return float(given) if not absent(given) and isfinite(given) else None


@dataclass
class Areas(Values):
    """Areas that go to one split as a whole: one for each text of a field, or for each feature.

    Attributes:
        place: The field's place; None makes each feature an area.
        numbers: The number of an area.
    """

    place: Optional[int] = None
    numbers: dict[str, int] = field(default_factory=dict)

    missing = "no area given"

    @classmethod
    def of(cls, fields: QgsFields, name: str, title: str) -> Areas:
        """The areas in the field `name` of the layer `title`; without a name each feature is one.

        Raises:
            InputError: The layer has no such field.
        """
        return cls(find_field(fields, name, title)[0] if name else None)

    def attributes(self) -> list[int]:
        """The field."""
        return [] if self.place is None else [self.place]

    def value_of(self, feature: QgsFeature) -> Optional[int]:
        """The area's number; None where the field is empty."""
        given = feature.id() if self.place is None else feature[self.place]
        if absent(given):
            return None
        return self.numbers.setdefault(value_text(given), len(self.numbers) + 1)

    def settings(self) -> dict[str, Any]:
        """What the areas are called.

        Raises:
            InputError: Some are called by the names of splits, and others are not.
        """
        from ..plugin.engine.chips.divide import SPLIT_WORDS

        others = [name for name in self.numbers if name.lower() not in SPLIT_WORDS]
        if others and len(others) < len(self.numbers):
            splits = ", ".join(name for name in self.numbers if name not in others)
            raise InputError(
                f"SPLIT_FIELD names splits ({splits}) and other areas ({together(others)}).",
                "Give every area its split, or areas of any names, which Terrazzo deals out.",
            )
        return {"split_names": [[number, name] for name, number in self.numbers.items()]}


def find_field(fields: QgsFields, name: str, title: str) -> tuple[int, QgsField]:
    """The place of a field and the field.

    Raises:
        InputError: The layer `title` has none of that name.
    """
    place = fields.lookupField(name)
    if place < 0:
        there = ", ".join(fields.names()) or "none"
        raise InputError(f'The layer "{title}" has no field {name}.', f"Its fields are: {there}.")
    return place, fields[place]


def _plain(given: Any) -> Any:
    """What stands in a field as something to look up: a text, a number, a text of anything else; None for nothing."""
    if isinstance(given, (str, int)):
        return given
    if absent(given):
        return None
    return given if isinstance(given, float) else value_text(given)


def together(names: Iterable[str]) -> str:
    """One name for what was merged; "" where nothing has one."""
    known = list(dict.fromkeys(name for name in names if name))
    return ", ".join(known[:NAMES_SHOWN]) + (", …" if len(known) > NAMES_SHOWN else "")
