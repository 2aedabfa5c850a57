"""Reading, the network and writing run in parallel, one piece ahead and one behind, and end together."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from heard import Heard

from plugin.engine.errors import Cancelled, InputError
from plugin.engine.events import Stage
from plugin.engine.mapping.pipeline.loop import Advance, run

PATIENCE = 10.0  # seconds for what takes none
UNITS = [[number] * (number + 1) for number in range(6)]


class Kept:
    """A sink that keeps what it is given, and the thread it is given it on."""

    def __init__(self, write: Callable[[int], object] = lambda work: None) -> None:
        self.also, self.kept, self.threads = write, [], []

    def take(self, found: int) -> int:
        self.threads.append(threading.current_thread().name)
        return found + 1

    def write(self, work: int, taken: int) -> None:
        self.also(work)
        self.threads.append(threading.current_thread().name)
        self.kept.append((work, taken))


def stage(heard: Any = None) -> Stage:
    made = Stage(heard or Heard(), sum(map(len, UNITS)), "Mapping")
    made.INTERVAL = 0  # type: ignore[misc]
    return made


def times_ten(work: int, advance: Advance) -> int:
    advance(0.5)
    advance(0.5)
    return work * 10


def test_every_sink_gets_every_piece_in_order_and_progress_is_whole() -> None:
    heard, sinks = Heard(), [Kept(), Kept()]
    run(UNITS, lambda unit: None if unit[0] == 3 else unit[0], times_ten, sinks, stage(heard))
    for sink in sinks:
        assert sink.kept == [(number, number * 10 + 1) for number in range(6) if number != 3]
        assert {name.partition("_")[0] for name in sink.threads} == {"MainThread", "writing"}
    assert heard.fractions == sorted(heard.fractions) and heard.fractions[-1] == pytest.approx(1)


def test_one_piece_is_read_and_one_is_written_while_the_network_is_at_work() -> None:
    read_next, written_last = threading.Event(), threading.Event()
    read: list[int] = []

    def reading(unit: list[int]) -> int:
        read.append(unit[0])
        if unit[0] == 3:
            read_next.set()
        return unit[0]

    def network(work: int, advance: Advance) -> int:
        if work == 2:  # waits for both of its neighbours; nobody else would let it go
            assert read_next.wait(PATIENCE) and written_last.wait(PATIENCE)
            assert read == [0, 1, 2, 3], "no more than one ahead"
        return work

    run(UNITS, reading, network, [Kept(lambda work: work == 1 and written_last.set())], stage())


def test_the_network_waits_for_a_slow_writer() -> None:
    calculated: list[int] = []

    def slowly(work: int) -> None:
        if work == 1:
            threading.Event().wait(0.3)
            assert len(calculated) <= 3, "one is written, one waits"

    def network(work: int, advance: Advance) -> int:
        calculated.append(work)
        return work

    run(UNITS, lambda unit: unit[0], network, [Kept(slowly)], stage())


@pytest.mark.parametrize("place", ["reading", "network", "writing"])
def test_the_first_error_of_any_thread_ends_all(place: str) -> None:
    def fail(work: int) -> int:
        if work == 2:
            raise InputError("It broke.", "Mend it.")
        return work

    def network(work: int, advance: Advance) -> int:
        return fail(work) if place == "network" else work

    sink = Kept(fail if place == "writing" else lambda work: None)
    before = threading.active_count()
    with pytest.raises(InputError, match=r"It broke\."):
        run(UNITS, lambda unit: fail(unit[0]) if place == "reading" else unit[0], network, [sink], stage())
    assert threading.active_count() == before
    assert [work for work, _ in sink.kept] in ([0], [0, 1])


def test_cancelling_ends_all_threads() -> None:
    sink, before = Kept(), threading.active_count()
    with pytest.raises(Cancelled):
        run(UNITS, lambda unit: unit[0], times_ten, [sink], stage(Heard(cancel_after=3)))
    assert threading.active_count() == before and len(sink.kept) <= 2
