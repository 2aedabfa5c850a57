"""Drafts: results are written in a locked hidden folder beside their final name, and published when complete.

`.NAME.partial/` contains a lock, and the result under its final name, with its sidecar files. Publishing means renaming
these files. If that takes several renames, a note is written first, so that the next job that accesses the result can
complete an interrupted publication, for which everything is in the folder.
"""

from __future__ import annotations

import datetime
import json
import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from .errors import EngineError, InputError, ResourceError
from .files import JOURNALS, SHAPEFILE_PARTS, SIDECARS, check_space, rename
from .locks import Lock, read_words

# Names in the hidden folder: the lock, the number of parent folders created, the mark of a resumable job, the list of
# files to rename, the files of an earlier result, and the folder of finished pieces of an interrupted job.
LOCK, MADE, KEPT, NOTE, EARLIER, PIECES = (
    f"terrazzo.{name}" for name in ("lock", "made", "kept", "note", "earlier", "pieces")
)
RESERVED = (LOCK, MADE, KEPT, NOTE, EARLIER, PIECES)
ATTEMPTS = 100  # to create a folder that others create and remove at the same time
REMOVALS = 3  # attempts to remove a folder that a thread still writes to

# Renames a file or folder; the flag allows it to keep its old name as well until that is replaced.
_Move = Callable[[Path, Path, bool], None]
# Hidden folder → draft held by this process, for all its threads.
_held: dict[Path, Draft] = {}
_guard = threading.RLock()
# Held while files are renamed, so that the process does not exit between two renames.
_publishing = threading.RLock()


def hidden_folder(final: str | os.PathLike[str]) -> Path:
    """The hidden folder in which a result is written; links to its parent folder are resolved."""
    final = Path(final)
    return Path(os.path.realpath(final.parent)) / f".{final.name}.partial"


def claim(final: str | os.PathLike[str], keep: bool = False) -> Draft:
    """Lock a result for this job, in a `with` block, which removes unpublished files at its end.

    The parent folder is created if necessary. Files of an interrupted job are published if that had already begun, and
    removed otherwise, except for finished pieces (`Draft.pieces`). If the same thread claims a result again, as a
    writer does within a job, it gets the same draft.

    Args:
        final: The file or folder to write.
        keep: Continue with the files of an interrupted job, and keep the files if this one is interrupted.

    Raises:
        InputError: Another job is writing it, or a foreign file or folder is in the way.
        ResourceError: The folder cannot be written.
    """
    return _claim(final, keep, settle=True)


def check_writable(final: str | os.PathLike[str], needed_bytes: int = 0) -> None:
    """Check early that a result can be written.

    Args:
        final: The file or folder to write.
        needed_bytes: An estimate of its size; 0 to skip the check of the disk space.

    Raises:
        InputError, ResourceError: See `claim`; or the disk space is not enough.
    """
    with claim(final):
        check_space(final, needed_bytes)


def recover(final: str | os.PathLike[str], undecided: bool = False, discard: bool = False) -> None:
    """Complete an interrupted publication, unless a job is running.

    Args:
        final: A result that will be read.
        undecided: Also remove drafts whose publication has not begun, since their job has ended.
        discard: Then remove its finished pieces, too.
    """
    hidden = hidden_folder(final)
    if os.path.lexists(hidden if undecided else hidden / NOTE):
        with suppress(EngineError), claim(final) as draft:
            if discard:
                draft.clear()


def publish(*drafts: Draft, join: bool = False, mark: str = "") -> None:
    """Rename drafts to their final names: all of them or, if that fails, none.

    Sidecar files of an earlier result, such as overviews, are removed unless they are replaced.

    Args:
        drafts: The drafts of a job; the file of the last one is renamed last.
        join: Add the files of a draft folder to the existing folder.
        mark: The value of `Draft.finished` for the job that completes this publication if it is interrupted.

    Raises:
        ResourceError: A file cannot be replaced, for example because another program has opened it.
    """
    last = drafts[-1]
    with _publishing:
        try:
            if len(drafts) > 1 or join or not last.is_one_rename():
                for draft in drafts:
                    members = [str(other.final) for other in drafts[:-1]] if draft is last else []
                    leader = None if draft is last else str(last.final)
                    stale = draft.stale(join)
                    draft.note({"leader": leader, "members": members, "join": join, "stale": stale, "mark": mark})
            _rename_all(drafts)
        except OSError as error:
            for draft in reversed(drafts):
                (draft.folder / NOTE).unlink(missing_ok=True)
            raise ResourceError(
                f"{last.final} could not be replaced ({error.strerror or error}).",
                "Close it in other programs, remove its layer from the project, or choose another name.",
            ) from error
        for draft in drafts:
            draft.clear()


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A temporary folder; those of killed processes are removed first."""
    for left in Path(tempfile.gettempdir()).glob("terrazzo-*"):
        if left.is_dir() and not left.is_symlink() and (left / LOCK).is_file():
            with suppress(OSError):
                lock = Lock(left / LOCK, "")
                if lock.real:
                    shutil.rmtree(left, ignore_errors=True)
                lock.release()
    with tempfile.TemporaryDirectory(prefix="terrazzo-") as folder:
        lock = Lock(Path(folder) / LOCK, _holder())
        try:
            yield Path(folder)
        finally:
            lock.release()


def abandon() -> None:
    """Remove all unpublished drafts of this process, which is about to exit, whatever its threads do."""
    with _publishing:
        for draft in reversed(list(_held.values())):
            draft.end()


class Draft:
    """A claimed result, see `claim`.

    Attributes:
        final: The final path.
        path: The path to write to. Files beside it whose names start alike are sidecar files, and move with it.
        pieces: A folder that the job may create for finished pieces of its work. It stays until the result is
            published or `clear` is called, so that another job can continue from it.
        finished: The mark of an interrupted publication that was completed by the claim; "" for none.
    """

    def __init__(self, final: str | os.PathLike[str], keep: bool) -> None:
        self.folder = hidden_folder(final)
        self.final = self.folder.parent / Path(final).name
        self.path, self.pieces = self.folder / self.final.name, self.folder / PIECES
        self.keep, self.users, self.thread, self.finished = keep, 0, threading.get_ident(), ""
        self._made = _make_parents(self.folder)
        self._lock = self._take()
        if self._made:
            (self.folder / MADE).write_text(str(self._made))

    def fresh(self) -> Path:
        """Return `path` after removing all earlier contents but finished pieces."""
        self.clear(pieces=False)
        if self.keep:
            (self.folder / KEPT).touch()
        return self.path

    def note(self, words: dict[str, Any]) -> None:
        """Write the list of files to rename, atomically.

        The note is valid in this folder only, so that one copied from untrusted files has no effect.
        """
        fresh = self.folder / f"{NOTE}.new"
        fresh.write_text(json.dumps({**words, "folder": self.folder.stat().st_ino}), encoding="utf-8")
        rename(fresh, self.folder / NOTE)

    def noted(self) -> dict[str, Any]:
        """The contents of the note; {} if there is none."""
        try:
            words: dict[str, Any] = json.loads((self.folder / NOTE).read_text(encoding="utf-8"))
            return words if words["folder"] == self.folder.stat().st_ino else {}
        except (OSError, ValueError, RecursionError, KeyError, TypeError):
            return {}

    def is_one_rename(self) -> bool:
        """Whether a single rename publishes the draft."""
        alone = [entry.name for entry in self._entries()] == [self.path.name]
        return alone and not self.stale() and not (self.path.is_dir() and os.path.lexists(self.final))

    def stale(self, join: bool = False) -> list[str]:
        """The names of sidecar files of an earlier result that are not replaced; see `publish`."""
        if self.path.is_dir():  # its files may be indexes
            inside = [f"{self.final.name}/{entry.name}" for entry in self.path.iterdir() if entry.is_file()]
            names = [f"{name}{ending}" for name in inside for ending in JOURNALS] if join else []
        else:
            names = [f"{self.final.name}{ending}" for ending in (*SIDECARS, *JOURNALS)]
        if self.final.suffix.lower() == ".shp":
            names += [f"{self.final.stem}{ending}" for ending in SHAPEFILE_PARTS]
        new = {entry.name for entry in self._entries()}
        return [name for name in names if name not in new and os.path.lexists(self.final.parent / name)]

    def put_in_place(self, move: _Move, replace: bool) -> None:
        """Rename all files that are not renamed yet; continues an interrupted publication.

        Args:
            move: Renames a file or folder.
            replace: Replace an earlier file directly, if it is not needed to undo the publication.
        """
        words = self.noted()
        entries = self._joined() if words.get("join") else self._entries()
        if not entries:
            return
        for name in words.get("stale", ()):
            self._put_aside(Path(name), move)
        for entry in entries:
            place = entry.relative_to(self.folder)
            if not (replace and entry == entries[-1] and not entry.is_dir()):
                self._put_aside(place, move, succeeded=True)
            target = self.final.parent / place
            target.parent.mkdir(exist_ok=True)
            move(entry, target, False)

    def settle(self) -> None:
        """Complete an interrupted publication and remove the rest; the place must be claimed."""
        words = self.noted()
        if words.get("leader"):
            with suppress(EngineError), claim(str(words["leader"])):
                pass  # which also renames these files, if the note lists them
        elif words:
            with ExitStack() as stack:
                members = []
                for final in words["members"]:
                    with suppress(EngineError):
                        members.append(stack.enter_context(_claim(str(final), False, settle=False)))
                ours = [draft for draft in members if draft.noted().get("leader") == str(self.final)]
                try:
                    _rename_all((*ours, self))
                except OSError as error:
                    raise ResourceError(
                        f"An interrupted job has left {self.final} partly replaced, and this cannot be completed "
                        f"({error.strerror or error}).",
                        "Close it in other programs and try again.",
                    ) from error
                for draft in (*ours, self):
                    draft.clear()
                self.finished = str(words["mark"])
        if words or not (self.folder / KEPT).exists():
            self.clear(pieces=bool(words))

    def clear(self, pieces: bool = True) -> None:
        """Remove the contents of the hidden folder, maybe without finished pieces; links are removed, not followed."""
        left = {LOCK, MADE} if pieces else {LOCK, MADE, PIECES}
        for _ in range(REMOVALS):
            # The note first, since it refers to the other files.
            names = sorted(set(_listed(self.folder)) - left, key=lambda name: name != NOTE)
            if not names:
                return
            for entry in (self.folder / name for name in names):
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry, ignore_errors=True)
                else:
                    with suppress(OSError):
                        entry.unlink()

    def end(self) -> None:
        """Release the lock, and remove unpublished files unless they may be continued."""
        with _guard:
            _held.pop(self.folder, None)
        if not any((self.folder / name).exists() for name in (KEPT, NOTE)):
            self.clear(pieces=False)
        made = self._made_before()
        if set(_listed(self.folder)) <= {LOCK, MADE}:
            (self.folder / MADE).unlink(missing_ok=True)
        self._lock.release()
        _remove_empty([self.folder, *list(self.folder.parents)[:made]])

    def busy(self) -> InputError:
        """The error for other jobs that try to write the same result."""
        return InputError(
            f"{self.final} is being written by another job ({read_words(self.folder / LOCK)}).",
            "Wait until it has ended, or choose another name.",
        )

    def __enter__(self) -> Draft:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def close(self) -> None:
        """End one use of the draft; the last one is that of the job."""
        with _guard:
            self.users -= 1
            if self.users:
                return
        self.end()

    def _take(self) -> Lock:
        """Create the hidden folder, or take over that of a killed job."""
        for _ in range(ATTEMPTS):
            try:
                with suppress(FileExistsError):
                    self.folder.mkdir(0o700)
                self._check_ours()
                return Lock(self.folder / LOCK, _holder())
            except FileNotFoundError:  # another job has just removed the folder or its parent
                self._made = max(self._made, _make_parents(self.folder))
            except BlockingIOError:
                raise self.busy() from None
            except OSError as error:
                self._fail(error)
        raise ResourceError(f"{self.folder} is repeatedly removed by other jobs.", "Try again, or choose another name.")

    def _check_ours(self) -> None:
        """Refuse a folder or link that was placed here to redirect the output."""
        status = os.lstat(self.folder)
        is_folder = stat.S_ISDIR(status.st_mode)
        if not is_folder or (hasattr(os, "geteuid") and status.st_uid != os.geteuid()):
            raise InputError(
                f"{self.folder}, in which {self.final} is written first, is "
                f"{'not from Terrazzo' if is_folder else 'not a folder'}.",
                "Remove it, or choose another name.",
            )

    def _made_before(self) -> int:
        """The number of parent folders created for this result, by this job or a killed one."""
        try:
            return int((self.folder / MADE).read_text())
        except (OSError, ValueError):
            return 0

    def _fail(self, error: OSError) -> None:
        _remove_empty(list(self.folder.parents)[: self._made])
        raise _unwritable(self.final.parent, error) from error

    def _entries(self) -> list[Path]:
        """The files to rename, the result itself last; [] if they are renamed."""
        if not os.path.lexists(self.path):
            return []
        if self.path.is_dir():
            return [self.path]
        beside = [entry for entry in self.folder.iterdir() if entry != self.path and self._belongs(entry.name)]
        return [*sorted(beside), self.path]

    def _joined(self) -> list[Path]:
        """The files of a draft folder, subfolders first, then sorted by name; [] if they are renamed."""
        if not self.path.is_dir():
            return []
        folders = sorted(entry for entry in self.path.iterdir() if entry.is_dir())
        inside = [file for folder in folders for file in folder.iterdir()]
        return [*inside, *sorted(entry for entry in self.path.iterdir() if not entry.is_dir())]

    def _belongs(self, name: str) -> bool:
        """Return whether a file beside the result is part of it."""
        starts = (f"{self.final.name}.", f"{self.final.name}-", f"{self.final.stem}.")
        return name not in RESERVED and name.startswith(starts)

    def _put_aside(self, place: Path, move: _Move, succeeded: bool = False) -> None:
        """Move an existing file aside, unless done before; with `succeeded` it will be replaced."""
        earlier, aside = self.final.parent / place, self.folder / EARLIER / place
        if os.path.lexists(earlier) and not os.path.lexists(aside):
            aside.parent.mkdir(parents=True, exist_ok=True)
            move(earlier, aside, succeeded and not earlier.is_dir())


def _claim(final: str | os.PathLike[str], keep: bool, settle: bool) -> Draft:
    with _guard:
        held = _held.get(hidden_folder(final))
        if held is not None:
            if held.thread != threading.get_ident():
                raise held.busy()
            held.users += 1
            return held
        draft = Draft(final, keep)
        _held[draft.folder], draft.users = draft, 1
    if settle:
        try:
            draft.settle()
        except BaseException:
            draft.close()
            raise
    return draft


def _rename_all(drafts: tuple[Draft, ...]) -> None:
    """Rename the files of drafts, and undo this if it fails."""
    done: list[tuple[Path, Path]] = []

    def move(source: Path, target: Path, stays: bool) -> None:
        if not (stays and _linked(source, target)):
            rename(source, target)
        done.append((source, target))

    try:
        for draft in drafts:
            draft.put_in_place(move, replace=draft is drafts[-1])
    except OSError as failure:
        try:
            for source, target in reversed(done):
                rename(target, source)
        except OSError as error:  # the note stays, so that the next claim continues
            raise ResourceError(
                f"{drafts[-1].final} is partly replaced ({failure.strerror or failure}; {error.strerror or error}).",
                "Close it in other programs and start the job again.",
            ) from error
        raise


def _linked(source: Path, target: Path) -> bool:
    """Add a hard link, so that a file exists until its successor replaces it; not supported by all file systems."""
    try:
        os.link(source, target, follow_symlinks=False)
        return True
    except (OSError, NotImplementedError):
        return False


def _holder() -> str:
    return f"process {os.getpid()}, since {datetime.datetime.now().isoformat(' ', 'minutes')}"


def _listed(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in folder.iterdir()]
    except OSError:  # removed by the user
        return []


def _make_parents(folder: Path) -> int:
    """Create the parent folders; returns how many did not exist."""
    missing = sum(not os.path.lexists(parent) for parent in folder.parents)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _remove_empty(list(folder.parents)[:missing])
        raise _unwritable(folder.parent, error) from error
    return missing


def _remove_empty(folders: Iterable[Path]) -> None:
    for folder in folders:
        with suppress(OSError):  # not empty
            folder.rmdir()


def _unwritable(folder: Path, error: OSError) -> ResourceError:
    return ResourceError(
        f"The folder {folder} cannot be written ({error.strerror or error}).",
        "Choose another folder, or change its permissions.",
    )
