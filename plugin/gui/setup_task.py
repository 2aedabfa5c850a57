"""Builds the worker's environment on a thread of QGIS's task manager."""

from __future__ import annotations

import os
from typing import Optional
from urllib.parse import quote

from qgis.core import QgsApplication, QgsAuthMethodConfig, QgsSettings, QgsTask
from qgis.PyQt.QtCore import QCoreApplication, pyqtSignal

from ..engine.errors import Cancelled, EngineError
from ..engine.events import Reporter
from ..setup.building import Plan
from ..setup.planning import build_planned


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
        super().__init__(QCoreApplication.translate("Terrazzo", "Terrazzo: setting up training and mapping"))
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


def qgis_proxy() -> dict[str, str]:
    """Return QGIS's proxy (Settings ▸ Options ▸ Network) as the variables that installers read; {} if none is set."""
    settings = QgsSettings()
    if not settings.value("proxy/proxyEnabled", False, type=bool):
        return {}
    host, port = settings.value("proxy/proxyHost", ""), settings.value("proxy/proxyPort", "")
    kind = {"HttpProxy": "http", "HttpCachingProxy": "http", "Socks5Proxy": "socks5"}.get(
        settings.value("proxy/proxyType", "")
    )
    if not host or kind is None:  # the system's own settings, which installers read themselves
        return {}
    user, password = settings.value("proxy/proxyUser", ""), settings.value("proxy/proxyPassword", "")
    stored = settings.value("proxy/authcfg", "")
    if stored:
        config = QgsAuthMethodConfig()
        if QgsApplication.authManager().loadAuthenticationConfig(stored, config, True):
            user, password = config.config("username"), config.config("password")
    login = f"{quote(user, safe='')}:{quote(password, safe='')}@" if user else ""
    address = f"{kind}://{login}{host}{f':{port}' if port else ''}"
    excluded = ",".join(settings.value("proxy/noProxyUrls", [], type=list) or [])
    found = {"HTTP_PROXY": address, "HTTPS_PROXY": address}
    return {**found, "NO_PROXY": excluded} if excluded else found


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
