from __future__ import annotations

import numpy as np
import pytest

from plugin.engine.classes import IGNORE_INDEX, PALETTE, ClassTable


@pytest.mark.parametrize("values", [(0, 1), (3, 7, 250), (-5, 0, 4000), (1, 70000)])
def test_values_become_indices_and_come_back(values: tuple[int, ...]) -> None:
    table = ClassTable.from_rows((value, "", None) for value in reversed(values))
    nodata = table.free_value()
    mask = np.array([*values, nodata], dtype=table.mask_dtype(nodata))
    indices = table.to_indices(mask)
    assert indices.tolist() == [*range(len(values)), IGNORE_INDEX]
    assert table.to_values(indices, nodata).tolist() == mask.tolist()
    assert table.to_values(indices, nodata).dtype == mask.dtype


def test_the_free_value_is_no_class() -> None:
    assert ClassTable.from_rows([(0, "a", None), (255, "b", None)]).free_value() == -1


def test_missing_names_and_colours_are_made_up_and_differ() -> None:
    table = ClassTable.from_rows([(4, None, None), (2, "", None)])
    assert table.names == ["class 2", "class 4"]
    assert len(set(table.colors)) == 2


def test_a_table_survives_json() -> None:
    table = ClassTable.from_rows([(1, "Wald", "#00FF00"), (-1, "See", None)])
    assert ClassTable.from_json(table.to_json()) == table


def test_classes_get_the_colours_that_maps_usually_have():
    table = ClassTable.from_rows([(1, "Gewässer", None), (2, "Deciduous forest", None), (3, "Bâtiment", None)])
    assert table.colors == ["#2b83ba", "#1a7a3c", "#b2182b"]
    # Two kinds of water do not look alike, words within words do not count, and what is given is kept.
    table = ClassTable.from_rows([(1, "river", None), (2, "lake", None), (3, "Seat", None), (4, "water", "#123456")])
    assert len(set(table.colors)) == 4 and table.colors[0] == "#2b83ba" and table.colors[3] == "#123456"
    assert table.colors[1:3] == list(PALETTE[1:3])
