"""Builds the worker's environment on a thread of QGIS's task manager."""

from __future__ import annotations

import os
from typing import Optional

from qgis.core import QgsApplication, QgsTask
from qgis.PyQt.QtCore import pyqtSignal

from ..engine.errors import Cancelled, EngineError
from ..engine.events import Reporter
from ..proxy import qgis_proxy
from ..setup.building import Plan
from ..setup.planning import build_planned
from ..translation import tr


class _TaskReporter(Reporter):
    """Passes the builder's reports to a task's signals."""

    def __init__(self, task: SetupTask) -> None:
        self.task = task

    def progress(self, fraction: float, text: str = "", seconds_left: Optional[float] = None) -> None:
        self.task.setProgress(100 * fraction)
        self.task.told.emit(fraction, text, -1.0 if seconds_left is None else seconds_left)

    def log(self, text: str) -> None:
        self.task.line.emit(text)

    def cancel_requested(self) -> bool:
        return self.task.isCanceled()


class SetupTask(QgsTask):
    """A build in progress.

    Signals:
        told(fraction, text, seconds left or −1), line(text), and ended(error): "" on success, "cancelled" after
        Cancel, otherwise what went wrong.
    """

    told = pyqtSignal(float, str, float)
    line = pyqtSignal(str)
    ended = pyqtSignal(str)
    CANCELLED = "cancelled"

    def __init__(self, plan: Plan) -> None:
        super().__init__(tr("Terrazzo: setting up training and mapping"))
        self.plan = plan
        self.error = self.python = ""  # what went wrong; the interpreter that was built
        self.proxy = qgis_proxy()

    def run(self) -> bool:
        """Build the environment; runs on a thread, where an escaping exception would end QGIS."""
        try:
            self.python = build_planned(self.plan, _TaskReporter(self), {**os.environ, **self.proxy})
        except Cancelled:
            self.error = self.CANCELLED
        except EngineError as error:
            self.error = f"{error.problem}\n{error.remedy}"
        except Exception as error:
            self.error = f"{type(error).__name__}: {error}"
        return not self.error

    def finished(self, done: bool) -> None:
        """Report how the build ended; runs on the main thread, just before QGIS deletes the task."""
        global _running
        _running = None
        self.ended.emit(self.error or ("" if done else self.CANCELLED))


_running: Optional[SetupTask] = None


def running() -> Optional[SetupTask]:
    """Return the build in progress, or None."""
    return _running


def start(plan: Plan) -> SetupTask:
    """Start a build, or return the one in progress; call on the main thread."""
    global _running
    if _running is None:
        _running = SetupTask(plan)  # QGIS keeps no Python reference
        QgsApplication.taskManager().addTask(_running)
    return _running
