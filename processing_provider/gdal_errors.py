"""Lets GDAL raise exceptions while a job of ours runs, but not for other plugins."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from osgeo import gdal, ogr, osr


class _GdalErrors:
    """Counts the jobs that need GDAL to raise exceptions, because other plugins in this process may rely on it not to.

    GDAL has one setting for all threads, and the engine reads and writes on several.
    """

    lock = threading.Lock()
    users = 0
    switched: list[Any] = []  # noqa: RUF012 (shared on purpose)

    @classmethod
    def need(cls) -> None:
        """Turn exceptions on for one more job."""
        with cls.lock:
            cls.users += 1
            if cls.users == 1:
                # Importing the engine's modules also turns exceptions on; that always happens inside this context.
                cls.switched = [module for module in (gdal, ogr, osr) if not module.GetUseExceptions()]
                for module in cls.switched:
                    module.UseExceptions()

    @classmethod
    def release(cls) -> None:
        """Count one job less; the last one restores GDAL's setting."""
        with cls.lock:
            cls.users -= 1
            if not cls.users:
                try:
                    # GDAL before 3.7 restores them in reverse order only.
                    for module in reversed(cls.switched):
                        module.DontUseExceptions()
                except RuntimeError:
                    pass  # another plugin has turned exceptions on in the meantime: leave them on


@contextmanager
def gdal_errors() -> Iterator[None]:
    """Let GDAL raise exceptions, as the engine expects; the previous setting returns when the last job ends."""
    _GdalErrors.need()
    try:
        yield
    finally:
        _GdalErrors.release()


@contextmanager
def gdal_errors_paused() -> Iterator[None]:
    """Inside `gdal_errors`: suspend it while the job does not use GDAL."""
    _GdalErrors.release()
    try:
        yield
    finally:
        _GdalErrors.need()
