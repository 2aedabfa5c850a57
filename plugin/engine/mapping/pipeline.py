"""Reading, the network and writing side by side, in memory that does not depend on the raster's size."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import numpy as np

from ..classes import IGNORE_INDEX
from ..events import Stage
from .predictor import Predictor, classes, probabilities
from .reading import Batch, TileReader
from .tiling import Tile
from .writer import ClassRaster, ProbabilityRaster

# Batches that are read ahead of the network, and written behind it; they bound the memory.
AHEAD, BEHIND = 2, 2


class Mapper:
    """The network between two threads: one reads the next batches while the other writes the last.

    Args:
        predictor: The network.
        target: Gets the classes.
        shares: Gets the probabilities, where wanted.
    """

    def __init__(self, predictor: Predictor, target: ClassRaster, shares: ProbabilityRaster | None) -> None:
        self.predictor, self.target, self.shares = predictor, target, shares
        self.pixels = np.zeros(len(target.classes), np.int64)
        self.unanswered = 0  # pixels for which the network gives no numbers

    def run(self, reader: TileReader, batches: Iterable[list[Tile]], stage: Stage) -> np.ndarray:
        """Map all batches; gives the (C,) pixels of each class.

        Raises:
            InputError: The raster cannot be read.
            ResourceError: An output cannot be written.
            Cancelled: The user asked for the end, or is gone.
        """
        with ThreadPoolExecutor(1, "reading") as reading, ThreadPoolExecutor(1, "writing") as writing:
            written: deque[Future[None]] = deque()
            try:
                for batch in read_ahead(reading, reader.read, batches):
                    if batch.tiles:
                        while len(written) >= BEHIND:
                            written.popleft().result()
                        written.append(writing.submit(self._write, batch, *self._predict(batch, stage.advance)))
                    stage.advance(batch.skipped)
                for future in written:
                    future.result()
            except BaseException:
                reading.shutdown(wait=False, cancel_futures=True)
                writing.shutdown(wait=False, cancel_futures=True)
                raise
        return self.pixels

    def _predict(
        self, batch: Batch, advance: Callable[[float], object]
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """(N, H, W) class indices of the tiles' cores, and (N, C, H, W) probabilities where wanted."""
        logits = self.predictor.logits(batch, advance)
        return classes(logits), probabilities(logits) if self.shares is not None else None

    def _write(self, batch: Batch, indices: np.ndarray, shares: np.ndarray | None) -> None:
        for number, (tile, wanted) in enumerate(zip(batch.tiles, batch.wanted)):
            if wanted is not None:
                indices[number][~wanted] = IGNORE_INDEX
            counts = np.bincount(indices[number].ravel(), minlength=256)
            self.pixels += counts[: len(self.pixels)]
            self.unanswered += int(counts[IGNORE_INDEX]) - (0 if wanted is None else np.count_nonzero(~wanted))
            self.target.write_indices(tile.core, indices[number])
            if self.shares is not None and shares is not None:
                if wanted is not None:
                    shares[number][:, ~wanted] = np.nan
                self.shares.write(tile.core, shares[number])


Work = TypeVar("Work")
Found = TypeVar("Found")


def read_ahead(executor: ThreadPoolExecutor, read: Callable[[Work], Found], work: Iterable[Work]) -> Iterator[Found]:
    """What `read` gives for each piece of work, in order; while one is used, the next are read."""
    waiting: deque[Future[Found]] = deque()
    for piece in work:
        waiting.append(executor.submit(read, piece))
        if len(waiting) > AHEAD:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


@contextmanager
def reading_thread() -> Iterator[ThreadPoolExecutor]:
    """A thread to read on; what waits there is dropped when the block fails or is cancelled."""
    with ThreadPoolExecutor(1, "reading") as executor:
        try:
            yield executor
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            raise
