"""Work on threads whose results come back in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from ...errors import ResourceError
from ...events import Stage

Item = TypeVar("Item")
Result = TypeVar("Result")

# Results that wait; bounds the memory.
WAITING = 64


def in_order(
    function: Callable[[Item], Result], items: Iterable[Item], stage: Stage
) -> Generator[tuple[Item, Result], None, None]:
    """Each item with what `function` makes of it on one of some threads; counts a step of `stage` for each.

    Whoever may leave the loop early where threads write closes it, so that none goes on.

    Raises:
        Cancelled: The user asked for the end; and whatever `function` raises.
    """
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="chips") as pool:
        try:
            for item in items:
                waiting.append((item, pool.submit(function, item)))
                if len(waiting) >= WAITING:
                    yield _first(waiting, stage)
            while waiting:
                yield _first(waiting, stage)
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def file_errors() -> Iterator[None]:
    """Failures of the file system become errors in words.

    Raises:
        ResourceError: A file cannot be read or written.
    """
    try:
        yield
    except OSError as error:
        raise ResourceError(
            f"Reading or writing failed ({error}).", "Check that all files are there and the disk has room."
        ) from error


def _first(waiting: deque[tuple[Item, Future[Result]]], stage: Stage) -> tuple[Item, Result]:
    item, future = waiting.popleft()
    result = future.result()
    stage.advance()
    return item, result
