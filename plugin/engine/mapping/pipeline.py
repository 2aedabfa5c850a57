"""The one loop of all mapping: a thread reads, the calling thread runs the network, another thread writes.

What is read, calculated and written goes through it piece by piece, one piece ahead of the network and one behind, so
that memory does not grow with the job.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from typing import Any, Protocol, TypeVar

from ..drafts import Draft, publish
from ..events import Stage
from ..threads import work_ahead

# Of the work that is done of a piece, the share since the last call; shares sum to 1, and a call may end the job.
Advance = Callable[[float], object]

Unit = TypeVar("Unit", bound=Sized)
Work = TypeVar("Work")
Found = TypeVar("Found")
_Work = TypeVar("_Work", contravariant=True)
_Found = TypeVar("_Found", contravariant=True)


class Sink(Protocol[_Work, _Found]):
    """Where what was found goes to."""

    def take(self, found: _Found) -> Any:
        """What the sink needs of it, off the device; called on the network's thread."""

    def write(self, work: _Work, taken: Any) -> None:
        """Write what was taken of a piece of work; called on the writing thread."""


class FileSink(Sink[_Work, _Found], Protocol[_Work, _Found]):
    """A sink that writes a file under a hidden name."""

    draft: Draft

    def finish(self) -> None:
        """Close the file."""


def run(
    units: Iterable[Unit], read: Callable[[Unit], Work | None], network: Callable[[Work, Advance], Found],
    sinks: Sequence[Sink[Work, Found]], stage: Stage,
) -> None:  # fmt: skip
    """Read, calculate and write all units of a job, in order; no thread is left when it ends, however that is.

    Args:
        units: What is read at once, each; `len()` tells how many of the stage's steps it has.
        read: A unit → the work that it makes for the network; None = none. Called on the reading thread.
        network: Work → what the sinks are given.
        sinks: Each gets everything.
        stage: What tells of the progress, and ends the job where it is not wanted any more.

    Raises:
        Cancelled: The user asked for the end, or is gone.
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
            del work, taken  # these are the writer's now, and gone when it is done
        if written is not None:
            written.result()


@contextmanager
def _thread(name: str) -> Iterator[ThreadPoolExecutor]:
    """A thread; what waits for it is dropped when the block fails or is cancelled."""
    with ThreadPoolExecutor(1, name) as executor:
        try:
            yield executor
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            raise


def _calculate(
    network: Callable[[Work, Advance], Found], work: Work, sinks: Sequence[Sink[Work, Found]], advance: Advance
) -> list[Any]:
    """What each sink takes; what was found leaves the device's memory with this."""
    found = network(work, advance)
    return [sink.take(found) for sink in sinks]


def _write(sinks: Sequence[Sink[Work, Found]], work: Work, taken: list[Any]) -> None:
    for sink, one in zip(sinks, taken):
        sink.write(work, one)


def _advance(stage: Stage, steps: int, share: float) -> None:
    stage.advance(share * steps)


def finish(sinks: Sequence[FileSink[Work, Found]]) -> None:
    """Close all files, then give them their names, in that order.

    Raises:
        ResourceError: The disk is full, or gone.
    """
    for sink in sinks:
        sink.finish()
    publish(*(sink.draft for sink in sinks))
