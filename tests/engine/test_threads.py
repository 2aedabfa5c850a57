"""Work on threads, ahead of its use."""

from __future__ import annotations

import threading
import time
from contextlib import closing

import pytest
from heard import Heard

from plugin.engine.events import Stage
from plugin.engine.threads import work_ahead


def test_items_come_back_in_order_with_their_results_and_are_counted() -> None:
    def work(number: int) -> int:
        time.sleep(0.02 if number % 3 == 0 else 0)  # later ones are done first
        return number**2

    stage = Stage(Heard(), 20, "Squaring")
    assert list(work_ahead(work, range(20), stage, threads=4)) == [(number, number**2) for number in range(20)]
    assert stage.done == 20


def test_no_more_is_begun_than_may_wait() -> None:
    begun = []
    with closing(work_ahead(begun.append, range(50), threads=1, waiting=2)) as results:
        for used, _ in enumerate(results, start=1):
            time.sleep(0.002)
            assert len(begun) <= used + 1


def test_whoever_leaves_early_leaves_no_thread_behind() -> None:
    begun = []

    def work(number: int) -> None:
        begun.append(number)
        time.sleep(0.01)

    before = threading.active_count()
    with closing(work_ahead(work, range(1000), threads=2, waiting=20)) as results:
        next(results)
    assert threading.active_count() == before
    count = len(begun)
    time.sleep(0.05)
    assert len(begun) == count < 20


def test_an_error_on_a_thread_comes_in_its_place() -> None:
    results = work_ahead(lambda number: 1 / (3 - number), range(6), threads=2)
    assert [number for number, _ in (next(results) for _ in range(3))] == [0, 1, 2]
    with pytest.raises(ZeroDivisionError):
        next(results)
