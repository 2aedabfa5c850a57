"""Work on threads, ahead of its use: GDAL gives up Python's lock while it reads and writes, so threads suffice."""

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
    """The threads this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# That read chips of a dataset, which are small, and that do anything else.
READERS = min(8, cpu_threads())
WORKERS = min(4, cpu_threads())


def work_ahead(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    stage: Optional[Stage] = None,
    threads: int = WORKERS,
    waiting: int = 64,
) -> Generator[tuple[Item, Result], None, None]:
    """Each item, in order, with what `function` makes of it on a thread while earlier ones are used.

    Whoever may leave the loop early closes the generator, so that no thread goes on.

    Args:
        stage: Advances by a step for each item.
        threads: How many work.
        waiting: How many items are begun or done, and not used; bounds the memory.

    Raises:
        Cancelled: The user asked for the end, where there is a stage; and whatever `function` raises.
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
