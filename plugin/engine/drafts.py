"""Results on their way: written in a hidden folder beside their final name, which no other job may touch meanwhile.

`.NAME.partial/` holds a lock, and what is to become NAME under its final name, with all that lies beside it. To publish
is to rename what lies there. Where that takes several renames, a note is written before the first of them: whoever
comes next to a result whose publication was interrupted finishes it, because all that it needs lies there whole.
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

# In a hidden folder beside the result: the lock, how many folders above were made for it, the mark of what may be gone
# on with, what is to be renamed, and what an earlier result was before.
LOCK, MADE, KEPT, NOTE, EARLIER = (f"terrazzo.{name}" for name in ("lock", "made", "kept", "note", "earlier"))
RESERVED = (LOCK, MADE, KEPT, NOTE, EARLIER)
ATTEMPTS = 100  # at a folder that others make and remove at the same time
REMOVALS = 3  # of a folder that a thread still writes to

# Renames something; whether it may keep its name as well until that is replaced.
_Move = Callable[[Path, Path, bool], None]
# Hidden folder → the draft there that this process holds, for all its threads.
_held: dict[Path, Draft] = {}
_guard = threading.RLock()
# Held while files are renamed, so that a process which has to end does not end between two renames.
_publishing = threading.RLock()


def hidden_folder(final: str | os.PathLike[str]) -> Path:
    """Where something is written until it is whole; links to the folder that it lies in are followed."""
    final = Path(final)
    return Path(os.path.realpath(final.parent)) / f".{final.name}.partial"


def claim(final: str | os.PathLike[str], keep: bool = False) -> Draft:
    """Keep a result to this job, in a `with` block, whose end removes what was not published.

    The folder that it will lie in is made where there is none. What an interrupted job has left is finished where it
    was about to be published, and removed where not. Whoever claims the same once more in the same thread, as a writer
    does for the job that called it, gets the same draft.

    Args:
        final: The file or folder that will be written.
        keep: Go on with what an interrupted job has left, and leave what there is when this one is interrupted.

    Raises:
        InputError: Another job is writing it, or something that is not ours stands in the way.
        ResourceError: Nothing can be written there.
    """
    return _claim(final, keep, settle=True)


def check_writable(final: str | os.PathLike[str], needed_bytes: int = 0) -> None:
    """Try to write something, before hours of work.

    Args:
        final: The file or folder that will be written.
        needed_bytes: An estimate of its size; 0 asks for nothing.

    Raises:
        InputError, ResourceError: As `claim`; or its disk has too little space.
    """
    with claim(final):
        check_space(final, needed_bytes)


def recover(final: str | os.PathLike[str], undecided: bool = False) -> None:
    """Finish what an interrupted publication has left, unless a job is at it.

    Args:
        final: A result that is about to be read.
        undecided: Also remove what no publication was begun of: the job that wrote it has ended.
    """
    hidden = hidden_folder(final)
    if os.path.lexists(hidden if undecided else hidden / NOTE):
        with suppress(EngineError), claim(final):
            pass


def publish(*drafts: Draft, join: bool = False, mark: str = "") -> None:
    """Give what drafts hold their final names: all or, where that fails, nothing.

    What belongs to an earlier result of a name and has no successor, such as the overviews of a raster, goes with it.

    Args:
        drafts: Of one job; the file of the last one is the last to be renamed.
        join: The files of a drafted folder go into the folder of its name, beside what that holds already.
        mark: What `Draft.finished` will be for who finishes this, if it is interrupted.

    Raises:
        ResourceError: A file cannot be replaced, because another program keeps it open, say.
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
    """A temporary folder; those that killed processes have left are removed first."""
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
    """Remove what this process has claimed and not published; it is about to end, whatever its threads do."""
    with _publishing:
        for draft in reversed(list(_held.values())):
            draft.end()


class Draft:
    """A claimed result, see `claim`.

    Attributes:
        final: The name that it will have.
        path: What to write; it gets that name. All files beside it whose names begin alike move with it.
        finished: The mark of an interrupted publication that the claim has finished; "" for none, and for one without.
    """

    def __init__(self, final: str | os.PathLike[str], keep: bool) -> None:
        self.folder = hidden_folder(final)
        self.final = self.folder.parent / Path(final).name
        self.path = self.folder / self.final.name
        self.keep, self.users, self.thread, self.finished = keep, 0, threading.get_ident(), ""
        self._made = _make_parents(self.folder)
        self._lock = self._take()
        if self._made:
            (self.folder / MADE).write_text(str(self._made))

    def fresh(self) -> Path:
        """`path`, once nothing is there any more, also of what might have been gone on with."""
        self.clear()
        if self.keep:
            (self.folder / KEPT).touch()
        return self.path

    def note(self, words: dict[str, Any]) -> None:
        """Write down what is to be renamed, in one step.

        The note holds in this very folder only: one that came with a stranger's files says nothing.
        """
        fresh = self.folder / f"{NOTE}.new"
        fresh.write_text(json.dumps({**words, "folder": self.folder.stat().st_ino}), encoding="utf-8")
        rename(fresh, self.folder / NOTE)

    def noted(self) -> dict[str, Any]:
        """What `note` wrote; {} where it wrote nothing."""
        try:
            words: dict[str, Any] = json.loads((self.folder / NOTE).read_text(encoding="utf-8"))
            return words if words["folder"] == self.folder.stat().st_ino else {}
        except (OSError, ValueError, RecursionError, KeyError, TypeError):
            return {}

    def is_one_rename(self) -> bool:
        """Whether one rename publishes it."""
        alone = [entry.name for entry in self._entries()] == [self.path.name]
        return alone and not self.stale() and not (self.path.is_dir() and os.path.lexists(self.final))

    def stale(self, join: bool = False) -> list[str]:
        """The names of what lies beside an earlier result, belongs to it and has no successor; see `publish`."""
        if self.path.is_dir():  # whose files may be indexes
            inside = [f"{self.final.name}/{entry.name}" for entry in self.path.iterdir() if entry.is_file()]
            names = [f"{name}{ending}" for name in inside for ending in JOURNALS] if join else []
        else:
            names = [f"{self.final.name}{ending}" for ending in (*SIDECARS, *JOURNALS)]
        if self.final.suffix.lower() == ".shp":
            names += [f"{self.final.stem}{ending}" for ending in SHAPEFILE_PARTS]
        new = {entry.name for entry in self._entries()}
        return [name for name in names if name not in new and os.path.lexists(self.final.parent / name)]

    def put_in_place(self, move: _Move, replace: bool) -> None:
        """Rename all that is still to be renamed; begun before, it is gone on with.

        Args:
            move: Renames one file or folder.
            replace: The file itself replaces an earlier one, which need not be kept to take this back.
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
        """Finish what an interrupted publication has left, and remove the rest; the place is claimed already."""
        words = self.noted()
        if words.get("leader"):
            with suppress(EngineError), claim(str(words["leader"])):
                pass  # which renames this as well, if it was to be renamed
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
                        f"An interrupted job has left {self.final} half replaced, and it cannot be finished "
                        f"({error.strerror or error}).",
                        "Close it in other programs, and try again.",
                    ) from error
                for draft in (*ours, self):
                    draft.clear()
                self.finished = str(words["mark"])
        if words or not (self.folder / KEPT).exists():
            self.clear()

    def clear(self) -> None:
        """Remove all that lies in the hidden folder; links are removed, not followed."""
        for _ in range(REMOVALS):
            # The note first: without what it names it would be wrong.
            names = sorted(set(_listed(self.folder)) - {LOCK, MADE}, key=lambda name: name != NOTE)
            if not names:
                return
            for entry in (self.folder / name for name in names):
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry, ignore_errors=True)
                else:
                    with suppress(OSError):
                        entry.unlink()

    def end(self) -> None:
        """Give the place free; what was not published goes, unless it may be gone on with."""
        with _guard:
            _held.pop(self.folder, None)
        if not any((self.folder / name).exists() for name in (KEPT, NOTE)):
            self.clear()
        made = self._made_before()
        if set(_listed(self.folder)) <= {LOCK, MADE}:
            (self.folder / MADE).unlink(missing_ok=True)
        self._lock.release()
        _remove_empty([self.folder, *list(self.folder.parents)[:made]])

    def busy(self) -> InputError:
        """What is said to another job that wants to write the same."""
        return InputError(
            f"{self.final} is being written by another job ({read_words(self.folder / LOCK)}).",
            "Wait until that has ended, or choose another name.",
        )

    def __enter__(self) -> Draft:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def close(self) -> None:
        """End one of its uses, the last of which is that of the job."""
        with _guard:
            self.users -= 1
            if self.users:
                return
        self.end()

    def _take(self) -> Lock:
        """Make the hidden folder, or take over what a job has left that was killed."""
        for _ in range(ATTEMPTS):
            try:
                with suppress(FileExistsError):
                    self.folder.mkdir(0o700)
                self._check_ours()
                return Lock(self.folder / LOCK, _holder())
            except FileNotFoundError:  # another job has just removed the folder, or the one that it lies in
                self._made = max(self._made, _make_parents(self.folder))
            except BlockingIOError:
                raise self.busy() from None
            except OSError as error:
                self._fail(error)
        raise ResourceError(f"{self.folder} comes and goes.", "Try again, or choose another name.")

    def _check_ours(self) -> None:
        """Refuse a folder that somebody has put there to have us write elsewhere."""
        status = os.lstat(self.folder)
        is_folder = stat.S_ISDIR(status.st_mode)
        if not is_folder or (hasattr(os, "geteuid") and status.st_uid != os.geteuid()):
            raise InputError(
                f"{self.folder} is {'not ours' if is_folder else 'no folder'}, and stands where {self.final} is to be "
                "written first.",
                "Remove it, or choose another name.",
            )

    def _made_before(self) -> int:
        """How many folders above were made for this result, by this job or one that was killed."""
        try:
            return int((self.folder / MADE).read_text())
        except (OSError, ValueError):
            return 0

    def _fail(self, error: OSError) -> None:
        _remove_empty(list(self.folder.parents)[: self._made])
        raise _unwritable(self.final.parent, error) from error

    def _entries(self) -> list[Path]:
        """What is to be renamed, the result itself last; [] once that was done."""
        if not os.path.lexists(self.path):
            return []
        if self.path.is_dir():
            return [self.path]
        beside = [entry for entry in self.folder.iterdir() if entry != self.path and self._belongs(entry.name)]
        return [*sorted(beside), self.path]

    def _joined(self) -> list[Path]:
        """The files of a drafted folder, those in folders first, then the others by name; [] once all were renamed."""
        if not self.path.is_dir():
            return []
        folders = sorted(entry for entry in self.path.iterdir() if entry.is_dir())
        inside = [file for folder in folders for file in folder.iterdir()]
        return [*inside, *sorted(entry for entry in self.path.iterdir() if not entry.is_dir())]

    def _belongs(self, name: str) -> bool:
        """Whether a file of this name beside the result is part of it."""
        starts = (f"{self.final.name}.", f"{self.final.name}-", f"{self.final.stem}.")
        return name not in RESERVED and name.startswith(starts)

    def _put_aside(self, place: Path, move: _Move, succeeded: bool = False) -> None:
        """Keep what stands at the final place of something, unless that was done; `succeeded`: it will be replaced."""
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
    """Rename what drafts hold; where that fails, take it all back."""
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
        except OSError as error:  # the note stays, so that the next claim goes on
            raise ResourceError(
                f"{drafts[-1].final} is half replaced ({failure.strerror or failure}; {error.strerror or error}).",
                "Close it in other programs, and start the job again.",
            ) from error
        raise


def _linked(source: Path, target: Path) -> bool:
    """Give a file a second name, so that it is never gone until its successor has the first; not all disks can."""
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
    except OSError:  # somebody has removed it by hand
        return []


def _make_parents(folder: Path) -> int:
    """Make the folders above one; gives how many were not there."""
    missing = sum(not os.path.lexists(parent) for parent in folder.parents)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _remove_empty(list(folder.parents)[:missing])
        raise _unwritable(folder.parent, error) from error
    return missing


def _remove_empty(folders: Iterable[Path]) -> None:
    for folder in folders:
        with suppress(OSError):  # something is in it
            folder.rmdir()


def _unwritable(folder: Path, error: OSError) -> ResourceError:
    return ResourceError(
        f"Nothing can be written to the folder {folder} ({error.strerror or error}).",
        "Choose another folder, or change its permissions.",
    )
