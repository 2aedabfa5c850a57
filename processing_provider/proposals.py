"""Where a dialog proposes to write results: beside what they are made of, under names that say so."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, Optional

from qgis.core import QgsProcessing, QgsProcessingUtils

from .parameters import Destination, Row
from .places import Place, file_given, place_wished

FOLDER = "terrazzo"  # folder beside the image; results of what lies in it stay in it
# Parameter → the suffix of proposed names, which is removed before the next step adds its own.
WORDS = {"CHIPS": "chips", "MODEL": "model"}


class Proposals:
    """Fills in proposed names of results in a dialog, until the user changes them.

    Nothing is created on disk, and a name is never that of an existing file. If nothing can be written beside the
    input, results stay temporary.

    Args:
        rows: The rows of the dialog's algorithm.
        named_after: Parameters; results are proposed beside the file or folder of the first that is given.
        panel: The dialog's parameters, QGIS's `ParametersPanel`.
    """

    def __init__(self, rows: Iterable[Row], named_after: tuple[str, ...], panel: Any) -> None:
        self.named_after, self.wrappers, self.context = named_after, panel.wrappers, panel.processing_context
        self.rows = {
            row.name: row
            for row in rows
            if isinstance(row, Destination) and row.called and self._place(row.name).temporary
        }
        self.shown = {name: self._place(name) for name in self.rows}
        for name in (*named_after, "MODEL"):
            if name in self.wrappers:
                self.wrappers[name].widgetValueHasChanged.connect(lambda *_: self.refresh())
        self.refresh()

    def leave(self, names: Any) -> None:
        """Stop proposing values for some destinations, because they have been set."""
        for name in names:
            self.shown.pop(name, None)

    def refresh(self) -> None:
        """Propose names that fit the current inputs."""
        self.leave([name for name, place in self.shown.items() if self._place(name) != place])
        paths = self._paths()
        for name in self.shown:
            self.wrappers[name].setParameterValue(paths.get(name, QgsProcessing.TEMPORARY_OUTPUT), self.context)
            self.shown[name] = self._place(name)

    def _place(self, name: str) -> Place:
        return place_wished(self.wrappers[name].parameterValue(), self.context)

    def _paths(self) -> dict[str, str]:
        """Return the proposed paths by parameter name; empty if nothing is to be proposed."""
        try:
            folder, stem = next(self._subjects(), (None, ""))
            if folder is None:
                return {}
            for number in count(1):
                paths = {name: folder / self._file_name(name, stem, number) for name in self.shown}
                if not any(path.exists() for path in paths.values()):
                    return {name: str(path) for name, path in paths.items()}
        except OSError:
            pass  # for example a disk that is no longer mounted
        return {}

    def _subjects(self) -> Iterator[tuple[Optional[Path], str]]:
        """Yield, for each input that is given, the folder for results (None if they cannot be written) and their base
        name.
        """
        for name in self.named_after:
            subject = self._file(name)
            if subject is not None:
                model = self._file("MODEL")
                words = [_stem(subject, name), *([] if model is None else [_stem(model, "MODEL")])]
                yield _folder(subject), "_".join(dict.fromkeys(words))

    def _file(self, name: str) -> Optional[Path]:
        wrapper = self.wrappers.get(name)
        return None if wrapper is None else file_given(wrapper.parameterValue(), self.context)

    def _file_name(self, name: str, stem: str, number: int) -> str:
        ending = self.wrappers[name].parameterDefinition().defaultFileExtension()
        words = [stem, self.rows[name].called, *([str(number)] if number > 1 else [])]
        return "_".join(words) + (f".{ending}" if ending else "")


def _stem(path: Path, parameter: str) -> str:
    name = path.name if path.is_dir() else path.stem
    word = WORDS.get(parameter)
    return name[: -len(word) - 1] if word and name.endswith(f"_{word}") and len(name) > len(word) + 1 else name


def _folder(subject: Path) -> Optional[Path]:
    """Return the folder for results of a file or folder; None if it is temporary or not writable."""
    if Path(QgsProcessingUtils.tempFolder()) in subject.parents:
        return None
    beside = subject.parent
    folder = beside if beside.name == FOLDER else beside / FOLDER
    there = folder if folder.exists() else beside
    return folder if there.is_dir() and os.access(there, os.W_OK) else None
