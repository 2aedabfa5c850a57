"""Results appear complete or not at all: locks, killed jobs, and interrupted renames."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from plugin.engine import drafts
from plugin.engine.drafts import check_writable, claim, hidden_folder, publish, recover, scratch_folder
from plugin.engine.errors import InputError, ResourceError
from plugin.engine.locks import NO_LOCKS

ROOT = Path(__file__).resolve().parents[2]
POSIX = pytest.mark.skipif(os.name == "nt", reason="kills as POSIX does")


def tree(folder: Path) -> dict[str, str]:
    """The files of a folder and what they hold, hidden ones too."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


def names(folder: Path) -> list[str]:
    """What lies in a folder, hidden things too."""
    return sorted(path.name for path in folder.iterdir())


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A process that runs `code` with what this module imports."""
    begin = "import os, sys, time\nfrom pathlib import Path\nfrom plugin.engine import drafts\n"
    begin += "from plugin.engine.drafts import claim, publish, scratch_folder\n"
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-c", begin + textwrap.dedent(code), *map(str, arguments)],
        cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True,
    )  # fmt: skip


def holder(final: Path) -> subprocess.Popen[str]:
    """A process that has begun to write a result, and waits."""
    code = "with claim(sys.argv[1]) as draft:\n    draft.fresh().write_text('half'); print(1, flush=True); input()"
    process = python(code, final)
    assert process.stdout is not None and process.stdout.readline() == "1\n"
    return process


# --- publishing


def test_a_result_takes_its_sidecars_along_and_drops_stale_ones(tmp_path: Path) -> None:
    final = tmp_path / "map.tif"
    final.write_text("old")
    (tmp_path / "map.tif.ovr").write_text("overview of the old")
    (tmp_path / "map.txt").write_text("the user's")
    with claim(final) as draft:
        draft.fresh().write_text("new")
        Path(f"{draft.path}.aux.xml").write_text("names")
        draft.path.with_suffix(".qml").write_text("style")
        publish(draft)
    assert tree(tmp_path) == {
        "map.tif": "new", "map.tif.aux.xml": "names", "map.qml": "style", "map.txt": "the user's",
    }  # fmt: skip


def test_an_index_leaves_no_journal_of_the_earlier_one(tmp_path: Path) -> None:
    final = tmp_path / "a.gpkg"
    final.write_text("old")
    (tmp_path / "a.gpkg-journal").write_text("would be rolled back into the new one")
    with claim(final) as draft:
        draft.fresh().write_text("new")
        publish(draft)
    assert tree(tmp_path) == {"a.gpkg": "new"}


def test_what_is_not_published_goes_and_the_earlier_result_stays(tmp_path: Path) -> None:
    (tmp_path / "map.tif").write_text("earlier")
    with pytest.raises(ZeroDivisionError), claim(tmp_path / "map.tif") as draft:
        draft.fresh().write_text("half")
        raise ZeroDivisionError
    assert names(tmp_path) == ["map.tif"]


def test_finished_pieces_stay_until_the_result_is_there_or_they_are_discarded(tmp_path: Path) -> None:
    final = tmp_path / "map.tif"
    pieces = hidden_folder(final) / drafts.PIECES
    for discard in (False, True):
        process = python(
            """
            with claim(sys.argv[1]) as draft:
                draft.fresh().write_text("half")
                draft.pieces.mkdir()
                (draft.pieces / "0").write_text("piece")
                os._exit(9)
            """,
            final,
        )
        assert process.wait() == 9
        recover(final, undecided=True)
        assert tree(hidden_folder(final)) == {f"{drafts.PIECES}/0": "piece"}
        with claim(final) as draft:  # a job that fails
            draft.fresh().write_text("half")
        assert tree(hidden_folder(final)) == {f"{drafts.PIECES}/0": "piece"}
        if discard:
            recover(final, undecided=True, discard=True)
        else:
            with claim(final) as draft:
                draft.fresh().write_text("whole")
                publish(draft)
        assert not hidden_folder(final).exists() and not pieces.exists()
    assert tree(tmp_path) == {"map.tif": "whole"}


def test_a_rename_that_fails_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.tif", "a.tif.aux.xml", "b.tif"):
        (tmp_path / name).write_text("old")
    rename = drafts.rename

    def fail(source: Path, target: Path) -> None:
        if target == tmp_path / "b.tif" and source.parent != tmp_path / ".b.tif.partial" / drafts.EARLIER:
            raise PermissionError(13, "held open")
        rename(source, target)

    monkeypatch.setattr(drafts, "rename", fail)
    first, second = tmp_path / "a.tif", tmp_path / "b.tif"
    with pytest.raises(ResourceError, match="held open"), claim(first) as a, claim(second) as b:
        for draft in (a, b):
            draft.fresh().write_text("new")
            Path(f"{draft.path}.aux.xml").write_text("new")
        publish(a, b)
    assert tree(tmp_path) == {"a.tif": "old", "a.tif.aux.xml": "old", "b.tif": "old"}
    assert not list(tmp_path.glob(".*"))


def test_a_folder_replaces_an_earlier_one_or_joins_it(tmp_path: Path) -> None:
    final = tmp_path / "chips"
    for number, join in ((1, False), (2, False), (3, True)):
        with claim(final) as draft:
            (draft.fresh() / "images").mkdir(parents=True)
            (draft.path / "images" / f"{number}.tif").write_text(str(number))
            (draft.path / "dataset.json").write_text(str(number))
            publish(draft, join=join)
    assert tree(tmp_path) == {"chips/dataset.json": "3", "chips/images/2.tif": "2", "chips/images/3.tif": "3"}
    assert names(tmp_path) == ["chips"]


# --- kills before every rename


BEFORE = {
    "files": {"a.tif": "old", "a.tif.ovr": "old", "a.qml": "old", "b.tif": "old", "b.tif.aux.xml": "old"},
    "folder": {"c/dataset.json": "old", "c/images/1": "old"},
    "join": {"c/dataset.json": "old", "c/chips.gpkg": "old", "c/chips.gpkg-wal": "old", "c/images/1": "old"},
}
AFTER = {
    "files": {"a.tif": "new", "a.tif.aux.xml": "new", "a.qml": "new", "b.tif": "new"},
    "folder": {"c/dataset.json": "new", "c/images/2": "new"},
    "join": {"c/dataset.json": "new", "c/chips.gpkg": "new", "c/images/1": "old", "c/images/2": "new"},
}
WRITE = {
    "files": """
        with claim(root / "a.tif") as a, claim(root / "b.tif") as b:
            a.fresh().write_text("new"); b.fresh().write_text("new")
            Path(f"{a.path}.aux.xml").write_text("new"); a.path.with_suffix(".qml").write_text("new")
            publish(b, a)
    """,
    "folder": """
        with claim(root / "c") as c:
            (c.fresh() / "images").mkdir(parents=True)
            (c.path / "dataset.json").write_text("new"); (c.path / "images/2").write_text("new")
            publish(c)
    """,
    "join": """
        with claim(root / "c") as c:
            (c.fresh() / "images").mkdir(parents=True)
            (c.path / "dataset.json").write_text("new"); (c.path / "images/2").write_text("new")
            (c.path / "chips.gpkg").write_text("new")
            publish(c, join=True)
    """,
}
KILL = """
    root, last = Path(sys.argv[1]), int(sys.argv[2])
    rename, count = drafts.rename, [0]
    def counted(source, target):
        count[0] += 1
        if count[0] == last:
            os.kill(os.getpid(), 9)
        rename(source, target)
    drafts.rename = counted
"""


@POSIX
@pytest.mark.parametrize(
    ("kind", "finals"),
    [("files", ["a.tif", "b.tif"]), ("files", ["b.tif", "a.tif"]), ("folder", ["c"]), ("join", ["c"])],
)
def test_a_kill_before_any_rename_leaves_the_earlier_result_or_the_new_one(
    tmp_path: Path, kind: str, finals: list[str]
) -> None:
    seen = []
    for number in range(1, 30):
        root = tmp_path / str(number)
        for name, text in BEFORE[kind].items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        process = python(textwrap.dedent(KILL) + textwrap.dedent(WRITE[kind]), root, number)
        _, log = process.communicate(timeout=30)
        if process.returncode == 0:
            assert tree(root) == AFTER[kind]
            break
        assert process.returncode == -signal.SIGKILL, log
        for final in finals:
            recover(root / final, undecided=True)
        assert tree(root) in (BEFORE[kind], AFTER[kind]), number
        assert not list(root.glob(".*"))
        seen.append(tree(root) == AFTER[kind])
    assert seen == sorted(seen) and seen[0] is False and seen[-1] is True and len(seen) > 2


def test_a_note_from_elsewhere_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "chips").mkdir()
    (tmp_path / "chips" / "dataset.json").write_text("the user's")
    hidden = hidden_folder(tmp_path / "chips")
    (hidden / "chips").mkdir(parents=True)
    (hidden / "chips" / "dataset.json").write_text("a stranger's")
    (hidden / drafts.NOTE).write_text('{"leader": null, "members": [], "join": true, "stale": [], "folder": 1}')
    recover(tmp_path / "chips")
    assert tree(tmp_path) == {"chips/dataset.json": "the user's"}


# --- who may write


@POSIX
def test_a_second_job_is_told_at_once_and_a_killed_one_gives_way(tmp_path: Path) -> None:
    final = tmp_path / "map.tif"
    final.write_text("earlier")
    process = holder(final)
    try:
        with pytest.raises(InputError, match=rf"another job \(process {process.pid}, since 20\d\d-.*\)") as caught:
            claim(final)
        assert "Wait" in caught.value.remedy
        with pytest.raises(InputError):
            check_writable(final)
        recover(final, undecided=True)
        assert tree(hidden_folder(final))["map.tif"] == "half"
    finally:
        process.kill()
        process.wait()
    assert hidden_folder(final).exists()
    with claim(final) as draft:
        assert names(draft.folder) == [drafts.LOCK]
    assert tree(tmp_path) == {"map.tif": "earlier"} and not hidden_folder(final).exists()


def test_threads_keep_each_other_off_and_a_job_shares_with_its_writers(tmp_path: Path) -> None:
    problems = []

    def other() -> None:
        try:
            claim(tmp_path / "there" / "map.tif")
        except InputError as error:
            problems.append(error.problem)

    (tmp_path / "there").symlink_to(tmp_path)
    with claim(tmp_path / "map.tif") as job:
        with claim(str(tmp_path / "map.tif")) as writer:
            assert writer is job
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert job.folder.exists()
    assert len(problems) == 1 and f"process {os.getpid()}" in problems[0]
    assert names(tmp_path) == ["there"]


def test_a_file_system_without_locks_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")

    def flock(*_: object) -> None:
        raise OSError(NO_LOCKS[0], "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with claim(tmp_path / "a.html") as draft:
        draft.fresh().write_text("new")
        publish(draft)
    assert tree(tmp_path) == {"a.html": "new"}


# --- hidden names


@pytest.mark.parametrize("target", ["folder", "file", "nothing"])
def test_a_link_of_the_hidden_name_is_refused_and_not_followed(tmp_path: Path, target: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "map.tif").write_text("the user's")
    (tmp_path / "file").write_text("the user's")
    hidden_folder(tmp_path / "map.tif").symlink_to(tmp_path / target)
    before = tree(tmp_path)
    with pytest.raises(InputError, match=r"in which .* is written first, is not a folder"):
        claim(tmp_path / "map.tif")
    recover(tmp_path / "map.tif", undecided=True)
    assert tree(tmp_path) == before


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give folders away")
def test_a_hidden_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    hidden = hidden_folder(tmp_path / "map.tif")
    hidden.mkdir()
    os.chown(hidden, 12345, 12345)
    with pytest.raises(InputError, match="is not from Terrazzo"):
        claim(tmp_path / "map.tif")


def test_links_in_a_folder_that_was_left_are_removed_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a").write_text("the user's")
    hidden = hidden_folder(tmp_path / "out" / "map.tif")
    hidden.mkdir(parents=True)
    (hidden / "map.tif").symlink_to(tmp_path / "mine" / "a")
    (hidden / "deep").symlink_to(tmp_path / "mine")
    (hidden / drafts.KEPT).symlink_to(tmp_path / "mine" / "a")
    with claim(tmp_path / "out" / "map.tif") as draft:
        draft.fresh().write_text("new")
        publish(draft)
    assert tree(tmp_path) == {"mine/a": "the user's", "out/map.tif": "new"}
    hidden.mkdir()
    (hidden / drafts.LOCK).symlink_to(tmp_path / "mine" / "a")
    with pytest.raises(ResourceError):
        claim(tmp_path / "out" / "map.tif")
    assert (tmp_path / "mine" / "a").read_text() == "the user's"


@pytest.mark.skipif(os.name == "nt", reason="permissions as POSIX has them")
def test_the_hidden_folder_is_its_owners_alone(tmp_path: Path) -> None:
    with claim(tmp_path / "map.tif") as draft:
        assert draft.folder.stat().st_mode & 0o777 == 0o700
        draft.fresh().write_text("new")
        publish(draft)
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "map.tif").stat().st_mode & 0o777 == 0o666 & ~mask


# --- folders


def test_a_folder_that_cannot_be_made_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(ResourceError, match="Choose another folder"):
        check_writable(tmp_path / "file" / "map.tif")


def test_folders_that_were_made_and_stay_empty_go_again(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "deep" / "map.tif")
    assert names(tmp_path) == []
    with pytest.raises(ZeroDivisionError), claim(tmp_path / "new" / "map.tif"), claim(tmp_path / "new" / "a.html"):
        raise ZeroDivisionError
    assert names(tmp_path) == []
    two = claim(tmp_path / "new" / "map.tif"), claim(tmp_path / "new" / "a.html")
    two[0].fresh().write_text("new")
    publish(two[0])
    for draft in two:
        draft.close()
    assert tree(tmp_path) == {"new/map.tif": "new"}


@POSIX
def test_a_temporary_folder_of_a_killed_process_goes_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "terrazzo-mine").mkdir()  # not one of ours
    process = python("with scratch_folder() as folder:\n    print(folder, flush=True); input()")
    assert process.stdout is not None
    folder = Path(process.stdout.readline().strip())
    with scratch_folder():
        assert folder.parent == tmp_path and folder.exists()
    process.kill()
    process.wait()
    with scratch_folder() as own:
        assert not folder.exists() and own.exists()
    assert names(tmp_path) == ["terrazzo-mine"]


def test_messages_name_results_and_not_the_hidden_folder(tmp_path: Path) -> None:
    for name in ("map.tif", "a b.gpkg", "x.partial"):
        with claim(tmp_path / name) as draft:
            error = ResourceError(f"{draft.path} is full ({draft.path}.aux.xml: no space).", "Free some.")
            assert error.problem == f"{draft.final} is full ({draft.final}.aux.xml: no space)."
            assert str(draft.folder) in ResourceError(f"{draft.folder} is a link.", "Remove it.").problem
