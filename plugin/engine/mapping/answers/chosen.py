"""Finds the classes that settings name by value or by name."""

from __future__ import annotations

from ...classes import ClassTable
from ...errors import InputError
from ...models.header import ModelHeader


def find_class(header: ModelHeader, text: str) -> int:
    """Return the index of a class from its value or name.

    Raises:
        InputError: There is no such class, or the text is empty.
    """
    wanted = text.strip()
    if header.target is not None:
        raise InputError(
            "The model predicts numbers, which have no class whose activation could be mapped.",
            "Choose KIND feature_maps, or a model of classes.",
        )
    known = ", ".join(f"{kind.value} {kind.name}" for kind in header.classes.classes)
    if not wanted:
        raise InputError(
            "A raster shows the activation of one class, but no TARGET_CLASS is given.", f"Give one of {known}."
        )
    found = header.classes.find(wanted)
    if found is not None:
        return found
    raise InputError(f'TARGET_CLASS is "{text}", but the model has no such class.', f"Choose one of {known}.")


def chosen_classes(text: str, classes: ClassTable) -> list[int]:
    """Return the indices of classes from a list of values or names, separated by commas; all for an empty one.

    Raises:
        InputError: There is no such class.
    """
    found = []
    for word in filter(None, map(str.strip, text.split(","))):
        index = classes.find(word)
        if index is None:
            known = ", ".join(f"{kind.value} {kind.name}" for kind in classes.classes)
            raise InputError(
                f'POLYGON_CLASSES names "{word}", but the model has no such class.', f"Choose from {known}."
            )
        found.append(index)
    return sorted(set(found)) or list(range(len(classes)))
