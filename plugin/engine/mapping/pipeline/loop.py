"""The loop of all mapping jobs: one thread reads, the calling thread runs the network, another thread writes.

Work goes through it piece by piece, one piece ahead of the network and one behind it, so memory does not grow with the
size of the job. The calling thread never waits for a GPU: while the writing thread waits for what the GPU has computed
of a piece, the next one is under way there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from typing import Any, Protocol, TypeVar

from ...drafts import Draft, publish
from ...events import Stage
from ...threads import work_ahead

# Called with the share of a piece of work done since the last call; shares sum to 1. A call may end the job.
Advance = Callable[[float], object]

Unit = TypeVar("Unit", bound=Sized)
Work = TypeVar("Work")
Found = TypeVar("Found")
_Work = TypeVar("_Work", contravariant=True)
_Found = TypeVar("_Found", contravariant=True)


class Sink(Protocol[_Work, _Found]):
    """Receives what the network found."""

    def take(self, found: _Found) -> Any:
        """Return what the sink needs; called on the network's thread, which should not wait for a device."""

    def write(self, work: _Work, taken: Any) -> None:
        """Write what was taken from a piece of work; called on the writing thread, which may wait."""


class FileSink(Sink[_Work, _Found], Protocol[_Work, _Found]):
    """A sink that writes a file under a hidden name."""

    draft: Draft

    def finish(self) -> None:
        """Close the file."""


def run(
    units: Iterable[Unit], read: Callable[[Unit], Work | None], network: Callable[[Work, Advance], Found],
    sinks: Sequence[Sink[Work, Found]], stage: Stage,
) -> None:  # fmt: skip
    """Read, compute and write all units of a job in order; all threads have ended when this returns or raises.

    Args:
        units: What is read at a time; `len()` gives the number of the stage's steps in a unit.
        read: Turns a unit into work for the network, or None if there is none; called on the reading thread.
        network: Turns work into what the sinks receive.
        sinks: Each receives everything.
        stage: Reports progress, and ends the job if it is cancelled.

    Raises:
        Cancelled: The user cancelled the job, or QGIS has ended.
        EngineError: The first error of any thread.
    """
    with closing(work_ahead(read, units, threads=1, waiting=2)) as pieces, _thread("writing") as writing:
        written: Future[None] | None = None
        for unit, work in pieces:
            if work is None:
                stage.advance(len(unit))
                continue
            taken = _calculate(network, work, sinks, partial(_advance, stage, len(unit)))
            if written is not None:
                written.result()
            written = writing.submit(_write, sinks, work, taken)
            del work, taken  # only the writer refers to them now, so they are freed when it is done
        if written is not None:
            written.result()


@contextmanager
def _thread(name: str) -> Iterator[ThreadPoolExecutor]:
    """A thread; its waiting tasks are dropped if the block fails or is cancelled."""
    with ThreadPoolExecutor(1, name) as executor:
        try:
            yield executor
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            raise


def _calculate(
    network: Callable[[Work, Advance], Found], work: Work, sinks: Sequence[Sink[Work, Found]], advance: Advance
) -> list[Any]:
    """Return what each sink takes; afterwards, the result can be freed on the device."""
    found = network(work, advance)
    return [sink.take(found) for sink in sinks]


def _write(sinks: Sequence[Sink[Work, Found]], work: Work, taken: list[Any]) -> None:
    for sink, one in zip(sinks, taken):
        sink.write(work, one)


def _advance(stage: Stage, steps: int, share: float) -> None:
    stage.advance(share * steps)


def finish(sinks: Sequence[FileSink[Work, Found]]) -> None:
    """Close all files, then publish them under their final names, in this order.

    Raises:
        ResourceError: The disk is full or no longer available.
    """
    for sink in sinks:
        sink.finish()
    publish(*(sink.draft for sink in sinks))
