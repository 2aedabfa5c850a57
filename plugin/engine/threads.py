"""Parallel work on threads; GDAL releases the GIL while it reads and writes."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Optional, TypeVar

from .events import Stage

Item = TypeVar("Item")
Result = TypeVar("Result")


def cpu_threads() -> int:
    """The number of threads that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# The number of threads to read chips of a dataset, which are small, and for all other work.
READERS = min(8, cpu_threads())
WORKERS = min(4, cpu_threads())


def work_ahead(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    stage: Optional[Stage] = None,
    threads: int = WORKERS,
    waiting: int = 64,
) -> Generator[tuple[Item, Result], None, None]:
    """Apply a function to items on threads, and yield each item with its result, in order.

    If the loop may end early, the caller must close the generator, so that no thread goes on.

    Args:
        function: Called with each item, on a thread.
        items: The items, which are consumed in the calling thread.
        stage: Advanced by one step per item; None for no progress.
        threads: The number of threads.
        waiting: The maximum number of items in progress or not yet used, which limits memory.

    Raises:
        Cancelled: The user cancelled the job, if there is a stage. Errors of `function` are raised as well.
    """
    begun: deque[tuple[Item, Future[Result]]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="ahead") as pool:

        def first() -> tuple[Item, Result]:
            item, future = begun.popleft()
            result = future.result()
            if stage is not None:
                stage.advance()
            return item, result

        try:
            for item in items:
                begun.append((item, pool.submit(function, item)))
                if len(begun) >= waiting:
                    yield first()
            while begun:
                yield first()
        finally:
            pool.shutdown(cancel_futures=True)
