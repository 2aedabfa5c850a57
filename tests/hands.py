"""Lets a script inside QGIS Desktop find widgets by their texts, click and type.

A script is a generator: each `yield` waits, for seconds or until a function says that it is time, while QGIS goes on.
Clicks and keys are the screen's own (xdotool), and arrive after the next `yield`; windows need a manager (openbox).
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import TypeVar, Union

from qgis.core import QgsApplication
from qgis.PyQt.QtCore import QModelIndex, QPoint, QTimer
from qgis.PyQt.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QComboBox,
    QLineEdit,
    QMenu,
    QMenuBar,
    QTreeView,
    QWidget,
)

Wait = Union[float, Callable[[], bool]]
Kind = TypeVar("Kind", bound=QWidget)
LONGEST = 3600.0  # seconds for anything to happen


def plain(text: str) -> str:
    """Words without what marks a key."""
    return text.replace("&", "").rstrip("…").strip()


def shown(kind: type[Kind], within: QWidget | None = None) -> list[Kind]:
    """The widgets of a kind that are on the screen."""
    found = QgsApplication.allWidgets() if within is None else within.findChildren(kind)
    return [widget for widget in found if isinstance(widget, kind) and widget.isVisible()]


def one(kind: type[Kind], words: str, within: QWidget | None = None) -> Kind:
    """The widget of a kind with these words on it or, for a window, in its title."""
    for widget in shown(kind, within):
        said = widget.text() if hasattr(widget, "text") else widget.windowTitle()
        if plain(str(said)) == plain(words):
            return widget
    raise LookupError(f"There is no {kind.__name__} “{words}” on the screen.")


def window(words: str) -> QWidget:
    """The window with these words in its title."""
    for widget in QgsApplication.topLevelWidgets():
        if widget.isVisible() and words in widget.windowTitle():
            return widget
    raise LookupError(f"There is no window “{words}”.")


def is_open(words: str) -> bool:
    """Whether a window with these words in its title is there."""
    return any(widget.isVisible() and words in widget.windowTitle() for widget in QgsApplication.topLevelWidgets())


def hand(*arguments: object) -> None:
    """Move the pointer, click, type; does not wait, since QGIS must go on to notice."""
    subprocess.Popen(["xdotool", *map(str, arguments)])


def press(widget: QWidget, at: QPoint | None = None, times: int = 1) -> None:
    """Click a widget, in its middle or at a place in it."""
    place = widget.mapToGlobal(at if at is not None else widget.rect().center())
    hand("mousemove", place.x(), place.y(), "sleep", 0.1, "click", "--repeat", times, "--delay", 60, 1)


def click(words: str, within: QWidget | None = None) -> None:
    """Click the button with these words."""
    press(one(QAbstractButton, words, within))


def open_menu(words: str) -> Wait:
    """Click a word in the menu bar."""
    bar = next(bar for bar in shown(QMenuBar) if words in [plain(action.text()) for action in bar.actions()])
    action = next(action for action in bar.actions() if plain(action.text()) == words)
    press(bar, bar.actionGeometry(action).center())
    return lambda: bool(shown(QMenu))


def choose(words: str) -> None:
    """Click an entry of the menu that is open."""
    for menu in reversed(shown(QMenu)):
        for action in menu.actions():
            if plain(action.text()) == plain(words):
                press(menu, menu.actionGeometry(action).center())
                return
    raise LookupError(f"There is no menu entry “{words}”.")


def select(box: QComboBox, words: str) -> Iterator[Wait]:
    """Open a list of choices, and click one."""
    press(box)
    yield 0.5
    view = box.view()
    row = [words in box.itemText(row) for row in range(box.count())].index(True)
    index = box.model().index(row, box.modelColumn(), box.rootModelIndex())
    view.scrollTo(index)
    press(view.viewport(), view.visualRect(index).center())
    yield 0.5


def write(line: QLineEdit, text: str) -> Iterator[Wait]:
    """Click into a line, and type in place of what stands there."""
    press(line)
    yield line.hasFocus
    hand("key", "ctrl+a", "type", "--delay", 8, text)
    yield lambda: line.text() == text


def row_of(view: QAbstractItemView, words: str, parent: QModelIndex | None = None) -> QModelIndex:
    """The row with these words in its first column, and in any depth."""
    model = view.model()
    top = parent if parent is not None else view.rootIndex()
    for row in range(model.rowCount(top)):
        index = model.index(row, 0, top)
        if plain(str(index.data())) == plain(words):
            return index
        below = row_of(view, words, index)
        if below.isValid():
            return below
    return QModelIndex()


def open_row(view: QTreeView, words: str, twice: bool = True) -> None:
    """Click a row of a tree, twice to open what it stands for."""
    index = row_of(view, words)
    if not index.isValid():
        raise LookupError(f"There is no row “{words}”.")
    view.scrollTo(index)
    press(view.viewport(), view.visualRect(index).center(), 2 if twice else 1)


def run(script: Iterator[Wait], after: Callable[[], None], failed: Callable[[str], None]) -> None:
    """Go through a script, from QGIS's own loop.

    Args:
        after: What to do at the end.
        failed: Told the traceback where it broke off; then comes the end as well.
    """
    walk(script, 0.0, time.monotonic(), after, failed)


def walk(
    script: Iterator[Wait], wait: Wait, since: float, after: Callable[[], None], failed: Callable[[str], None]
) -> None:
    """Take the next step if it is time, and look again a moment later."""
    gone = time.monotonic() - since
    try:
        if gone > LONGEST:
            raise TimeoutError("What was waited for did not happen.")
        if wait() if callable(wait) else gone >= wait:
            wait, since = next(script), time.monotonic()
    except StopIteration:
        after()
    except Exception:
        failed(traceback.format_exc())
        after()
    else:
        QTimer.singleShot(100, lambda: walk(script, wait, since, after, failed))


def leave() -> None:
    """End QGIS at once, whatever is open: the profile is a temporary one."""
    sys.stdout.flush()
    os._exit(0)
