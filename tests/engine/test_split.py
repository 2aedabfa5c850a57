from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from plugin.engine.chips.split import deal_groups

SHARES = (0.7, 0.15, 0.15)


def test_every_class_keeps_about_its_share_in_every_split() -> None:
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 1000, (200, 4)) * (rng.random((200, 4)) < 0.4)
    found = deal_groups(pixels, SHARES, seed=0)
    totals = np.array([pixels[found == split].sum(axis=0) for split in range(3)])
    assert np.abs(totals / totals.sum(axis=0) - np.array(SHARES)[:, None]).max() < 0.03


def test_the_seed_decides_and_repeats() -> None:
    pixels = np.random.default_rng(0).integers(1, 100, (40, 3))
    assert (deal_groups(pixels, SHARES, 1) == deal_groups(pixels, SHARES, 1)).all()
    assert (deal_groups(pixels, SHARES, 1) != deal_groups(pixels, SHARES, 2)).any()


def test_a_class_in_one_block_goes_to_training() -> None:
    pixels = np.zeros((30, 2), int)
    pixels[:, 0] = 100
    pixels[17, 1] = 5
    assert deal_groups(pixels, SHARES, 0)[17] == 0


@given(st.integers(1, 30), st.integers(0, 5))
def test_no_wanted_split_is_empty_while_there_are_blocks(blocks: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 9, (blocks, 3))
    found = deal_groups(pixels, SHARES, seed)
    assert len(set(found.tolist())) == min(3, blocks)
    assert 0 in found


def test_a_split_with_no_share_gets_nothing() -> None:
    pixels = np.ones((50, 2), int)
    assert 2 not in deal_groups(pixels, (0.8, 0.2, 0.0), 0)


def test_an_empty_part_is_filled_without_taking_a_class_from_another() -> None:
    # Class 2 is in one group only; the last part must get one of the others.
    weights = np.array([[5, 0, 0], [5, 0, 0], [4, 3, 0], [4, 3, 0], [0, 0, 9]])
    for seed in range(20):
        parts = deal_groups(weights, np.array([0.8, 0.1, 0.1]), seed)
        assert set(parts.tolist()) == {0, 1, 2} and parts[4] == 0


def test_few_groups_of_unlike_size_reach_more_than_one_part() -> None:
    weights = np.array([[9, 53], [9, 27], [9, 15], *[[9, 0]] * 40])
    for seed in range(20):
        parts = deal_groups(weights, np.array([0.7, 0.15, 0.15]), seed)
        assert len(set(parts[:3].tolist())) > 1
