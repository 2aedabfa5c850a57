"""From what a polygon layer says of its classes to class values, names and colours."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional

from qgis.core import (
    QgsCategorizedSymbolRenderer,
    QgsFeature,
    QgsFeatureRenderer,
    QgsFields,
    QgsProcessingFeatureSource,
    QgsSingleSymbolRenderer,
)

from ..plugin.engine.errors import InputError

# The engine holds class indices in a byte, one of which means "no label".
MAX_CLASSES = 254
LOWEST, HIGHEST = -(2**31) + 1, 2**31 - 1


@dataclass(frozen=True)
class OneClass:
    """All polygons are one class, named and coloured like their layer."""

    name: str
    color: Optional[str]

    @classmethod
    def of(cls, renderer: Optional[QgsFeatureRenderer], name: str) -> OneClass:
        """The class of a layer of that name; its colour, where it draws all its polygons alike."""
        alike = isinstance(renderer, QgsSingleSymbolRenderer) and renderer.symbol() is not None
        return cls(name, renderer.symbol().color().name() if alike else None)

    def attributes(self) -> list[int]:
        """The fields that `value_of` needs."""
        return []

    def prepare(self, source: QgsProcessingFeatureSource) -> None:
        """Nothing is needed."""

    def value_of(self, feature: QgsFeature) -> int:
        """The value of the class."""
        return 1

    def rows(self) -> list[list[Any]]:
        """[value, name, colour or None]."""
        return [[1, self.name, self.color]]


@dataclass
class ClassField:
    """The class of a polygon stands in a field: whole numbers, or texts, which get the values 1…n by their order.

    Attributes:
        place: The field's place.
        name: The field's name.
        styles: Name and colour of a field value, as far as the layer's categories tell.
        numbers: The class value of a field value, as far as known.
    """

    place: int
    name: str
    numeric: bool
    styles: dict[Any, tuple[str, Optional[str]]]
    numbers: dict[Any, int] = field(default_factory=dict)

    @classmethod
    def of(cls, renderer: Optional[QgsFeatureRenderer], fields: QgsFields, name: str, title: str) -> ClassField:
        """The classes in the field `name` of the layer `title`, which `renderer` draws.

        Raises:
            InputError: The layer has no such field.
        """
        place = fields.lookupField(name)
        if place < 0:
            there = ", ".join(fields.names()) or "none"
            raise InputError(f'The layer "{title}" has no field {name}.', f"Its fields are: {there}.")
        found = fields[place]
        return cls(place, found.name(), found.isNumeric(), category_styles(renderer, found.name()))

    def attributes(self) -> list[int]:
        """The fields that `value_of` needs."""
        return [self.place]

    def prepare(self, source: QgsProcessingFeatureSource) -> None:
        """Number the texts of the whole layer, so that a class has one value wherever its polygons lie.

        Raises:
            InputError: There are more texts than there can be classes.
        """
        if self.numeric:
            return
        names = sorted({str(value) for value in source.uniqueValues(self.place) if not _absent(value)})
        self._check_count(len(names))
        self.numbers = {name: value for value, name in enumerate(names, 1)}

    def value_of(self, feature: QgsFeature) -> Optional[int]:
        """The class value of a feature; None where the field is empty.

        Raises:
            InputError: A number is not whole or too large, or there are too many classes.
        """
        given = feature[self.place]
        if _absent(given):
            return None
        if not self.numeric:
            return self.numbers[str(given)]
        if given not in self.numbers:
            if not LOWEST <= given <= HIGHEST or given != int(given):  # NaN is in no range
                raise InputError(
                    f"The class field {self.name} holds {given:.15g} (feature id {feature.id()}).",
                    "Class values are whole numbers of 32 bits; choose another field, or convert it.",
                )
            self.numbers[given] = int(given)
            self._check_count(len(self.numbers))
        return self.numbers[given]

    def rows(self) -> list[list[Any]]:
        """[value, name, colour or None] of the classes met; names of numbers are left to the engine."""
        rows = []
        for given, value in sorted(self.numbers.items(), key=lambda item: item[1]):
            label, color = self.styles.get(str(value if self.numeric else given), ("", None))
            rows.append([value, label or ("" if self.numeric else given), color])
        return rows

    def _check_count(self, count: int) -> None:
        if count > MAX_CLASSES:
            raise InputError(
                f"The class field {self.name} holds more than {MAX_CLASSES} different values.",
                "Choose a field of classes; names or numbers of single features cannot be learned.",
            )


def category_styles(renderer: Optional[QgsFeatureRenderer], name: str) -> dict[str, tuple[str, Optional[str]]]:
    """Label and "#rrggbb" for a field's values as texts; empty where the layer is not drawn by that field."""
    if not isinstance(renderer, QgsCategorizedSymbolRenderer) or renderer.classAttribute().strip('"') != name:
        return {}
    styles: dict[str, tuple[str, Optional[str]]] = {}
    for category in renderer.categories():
        color = category.symbol().color().name() if category.symbol() is not None else None
        # A category may gather several values. They stay classes of their own, so they cannot share its label.
        together = category.value() if isinstance(category.value(), list) else None
        for value in together if together is not None else [category.value()]:
            text = f"{value:.15g}" if isinstance(value, float) else str(value)
            label = "" if together is not None or category.label() == text else category.label()
            styles[text] = (label, color)
    return styles


def _absent(value: Any) -> bool:
    """Whether a field is empty: NULL is a QVariant in some versions of QGIS and None in others."""
    return value is None or (hasattr(value, "isNull") and value.isNull()) or value == ""
