from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugin.engine.windows import Grid, Window, count_tiles, mirror, mirrored, mirrored_span, offsets, tiles

NORTH_UP = Grid(400000.0, 5500000.0, 0.5, -0.5, 300, 200)


def test_bounds_of_a_window_are_in_crs_units() -> None:
    assert NORTH_UP.bounds_of(Window(10, 20, 30, 40)) == (400005.0, 5499970.0, 400020.0, 5499990.0)


def test_a_window_comes_back_from_its_bounds() -> None:
    for grid in (NORTH_UP, Grid(0.0, 0.0, 0.1, 0.1, 300, 200), Grid(5.0, 5.0, -2.0, -3.0, 300, 200)):
        window = Window(11, 22, 33, 44)
        assert grid.window_of(grid.bounds_of(window)) == window
        assert grid.window_of(grid.bounds_of(window), inner=True) == window


def test_bounds_between_pixels_touch_more_than_they_hold() -> None:
    bounds = (400000.25, 5499999.0, 400002.75, 5500000.0)
    assert NORTH_UP.window_of(bounds) == Window(0, 0, 6, 2)
    assert NORTH_UP.window_of(bounds, inner=True) == Window(1, 0, 4, 2)


def test_bounds_elsewhere_give_an_empty_window() -> None:
    assert NORTH_UP.window_of((0.0, 0.0, 10.0, 10.0)).empty


@given(st.integers(1, 300), st.integers(1, 300), st.integers(9, 99))
def test_tiles_cover_every_pixel_once(width: int, height: int, size: int) -> None:
    area = Window(7, 3, width, height)
    seen = np.zeros((height, width), int)
    for tile in tiles(area, size):
        seen[tile.slices_in(area)] += 1
    assert (seen == 1).all()
    assert count_tiles(area, size) == len(list(tiles(area, size)))


@given(st.integers(0, 50), st.integers(1, 400), st.integers(1, 90), st.integers(1, 120))
def test_shifted_chips_stay_inside_and_reach_the_end(start: int, length: int, size: int, stride: int) -> None:
    found = offsets(start, start + length, size, stride, "shift")
    if length < size:
        assert len(found) == 0
        return
    assert found[0] == start and found[-1] + size == start + length
    assert (np.diff(found) > 0).all() and (np.diff(found) <= stride).all()


@given(st.integers(0, 50), st.integers(1, 400), st.integers(1, 90), st.integers(1, 120))
def test_padded_chips_begin_inside_and_keep_the_stride(start: int, length: int, size: int, stride: int) -> None:
    found = offsets(start, start + length, size, stride, "pad")
    assert found[0] == start and (np.diff(found) == stride).all() and found[-1] < start + length
    if stride <= size:
        assert found[-1] + size >= start + length


def test_an_intersection_outside_is_empty() -> None:
    assert Window(0, 0, 5, 5).intersection(Window(9, 9, 5, 5)).empty


@pytest.mark.parametrize("halo", [0, 3])
def test_a_halo_grows_every_side(halo: int) -> None:
    assert Window(5, 5, 10, 10).expanded(halo) == Window(5 - halo, 5 - halo, 10 + 2 * halo, 10 + 2 * halo)


@given(st.integers(-40, 40), st.integers(1, 50), st.integers(1, 20), st.booleans())
def test_mirrored_values_are_those_that_mirrored_places_name(start: int, length: int, size: int, rows: bool) -> None:
    row = np.arange(size) * 10
    first, end = mirrored_span(start, start + length, size)
    part = row[first:end]
    seen = part[:, None].repeat(3, 1) if rows else part[None].repeat(3, 0)
    found = mirrored(seen, 0 if rows else 1, first, start, start + length, size)
    assert (np.moveaxis(found, 0, 0 if rows else 1)[:, 0] == row[mirror(start, start + length, size)]).all()
