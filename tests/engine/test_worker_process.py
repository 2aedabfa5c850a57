"""Starting workers and explaining how they end; most workers here are small scripts that misbehave."""

from __future__ import annotations

import os
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
from heard import Heard

from plugin.engine.drafts import PIECES, hidden_folder
from plugin.engine.errors import Cancelled
from plugin.engine.events import PROTOCOL, Reporter
from plugin.worker_process import WorkerError, run_job

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the fake workers are POSIX scripts")


def fake_worker(folder: Path, code: str) -> str:
    """An "interpreter" that runs `code` whatever it is told to run."""
    path = folder / "python"
    start = f"#!{sys.executable}\nimport json, os, signal, subprocess, sys, time\n"
    send = "def send(event, **values): print(json.dumps({'event': event, **values}), flush=True)\n"
    path.write_text(start + send + textwrap.dedent(code))
    path.chmod(0o755)
    return str(path)


class CancelAt(Reporter):
    """Asks for the end once a file is there, so that the worker is surely running."""

    def __init__(self, sign: Path) -> None:
        self.sign = sign
        self.asked = 0.0

    def cancel_requested(self) -> bool:
        if self.sign.exists() and not self.asked:
            self.asked = time.monotonic()
        return bool(self.asked)


def test_a_real_worker_gives_its_result() -> None:
    assert run_job(sys.executable, "status", {}, Reporter())["ready"]


def test_a_real_workers_error_comes_as_problem_and_remedy(tmp_path: Path) -> None:
    settings = {"input": "no.tif", "model": str(tmp_path / "no.safetensors"), "output": str(tmp_path / "map.tif")}
    with pytest.raises(WorkerError, match="There is no model file") as caught:
        run_job(sys.executable, "segmentraster", settings, Reporter())
    assert caught.value.remedy == "Check the path."


def test_events_reach_the_reporter(tmp_path: Path) -> None:
    python = fake_worker(
        tmp_path,
        """
        send("progress", fraction=0.5, text="Training", seconds_left=None)
        send("log", text="a line")
        send("warning", text="look out")
        send("step", record={"step": 1})
        send("epoch", record={"epoch": 1})
        send("result", result={"model": "m"})
        """,
    )
    heard = Heard()
    assert run_job(python, "status", {}, heard) == {"model": "m"}
    assert (heard.fractions, heard.logs, heard.warnings, heard.steps, heard.epochs) == (
        [0.5], ["a line"], ["look out"], [{"step": 1}], [{"epoch": 1}],
    )  # fmt: skip


@pytest.mark.parametrize(
    "code, words",
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "killed by signal 9 (SIGKILL)"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "signal 11 (SIGSEGV)"),
        ("pass", "without a result after 0 s (status 0)"),
        ("sys.exit('ImportError: no lib')", "(status 1). The last line of its log is “ImportError: no lib”"),
        ("print('Hello'); print('{\"event\": \"dance\"}')", "It printed “Hello ⏎ {\"event\": \"dance\"}”"),
        ("os.write(1, bytes(range(256)) * 5000)", "without a result"),
        ("send('progress', fraction='half', text='', seconds_left=None)", "It printed"),
        ("send('result', result=None)", "It printed"),
        ("print('[1, 2]'); print('null')", "It printed “[1, 2] ⏎ null”"),
        ("sys.stdin.close()", "without a result"),
    ],
)  # fmt: skip
def test_an_end_without_result_is_one_clear_message(tmp_path: Path, code: str, words: str) -> None:
    with pytest.raises(WorkerError) as caught:
        run_job(fake_worker(tmp_path, code), "status", {}, Reporter())
    assert words in caught.value.problem and caught.value.remedy
    assert len(str(caught.value)) < 2000


def test_a_kill_speaks_of_memory(tmp_path: Path) -> None:
    with pytest.raises(WorkerError) as caught:
        run_job(fake_worker(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)"), "status", {}, Reporter())
    assert "ran out of memory" in caught.value.remedy


def test_garbage_before_the_result_does_no_harm(tmp_path: Path) -> None:
    python = fake_worker(tmp_path, "print('conda says hello'); send('result', result={'a': 1})")
    assert run_job(python, "status", {}, Reporter()) == {"a": 1}


def test_a_worker_that_hangs_after_its_result_is_ended(tmp_path: Path) -> None:
    python = fake_worker(tmp_path, "send('result', result={'pid': os.getpid()}); time.sleep(60)")
    pid = run_job(python, "status", {}, Reporter())["pid"]
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize("python, words", [("/no/such/python", "No such file"), (__file__, "Permission denied")])
def test_a_python_that_cannot_be_started_is_named(python: str, words: str) -> None:
    with pytest.raises(WorkerError, match=words) as caught:
        run_job(python, "status", {}, Reporter())
    assert python in caught.value.problem


def test_cancel_is_answered_within_a_second_by_a_deaf_worker(tmp_path: Path) -> None:
    sign = tmp_path / "child"
    code = f"""
        child = subprocess.Popen(["sleep", "60"])
        open({str(sign)!r}, "w").write(str(child.pid))
        time.sleep(60)
    """
    reporter = CancelAt(sign)
    with pytest.raises(Cancelled):
        run_job(fake_worker(tmp_path, code), "status", {}, reporter)
    assert time.monotonic() - reporter.asked < 1.0
    for _ in range(100):  # until whoever inherits the child has noticed its end
        status = Path(f"/proc/{sign.read_text()}/stat")
        if not status.exists() or status.read_text().split()[2] == "Z":
            return
        time.sleep(0.02)
    pytest.fail("the worker's own child lives on")


@pytest.mark.parametrize("ends", [False, True])
def test_a_long_job_that_nobody_reads_blocks_nothing(tmp_path: Path, ends: bool) -> None:
    sign = tmp_path / "running"
    python = fake_worker(tmp_path, f"open({str(sign)!r}, 'w'); time.sleep({0 if ends else 60})")
    reporter, begun = CancelAt(tmp_path / "never" if ends else sign), time.monotonic()
    images = [f"/somewhere/{number}.tif" for number in range(10_000)]
    with pytest.raises(WorkerError if ends else Cancelled):
        run_job(python, "segmentraster", {"more_images": images}, reporter)
    assert time.monotonic() - (begun if ends else reporter.asked) < 5


def test_cancel_while_torch_is_imported_is_answered_within_a_second(tmp_path: Path) -> None:
    class AtOnce(Reporter):
        def __init__(self) -> None:
            self.begun = time.monotonic()

        def cancel_requested(self) -> bool:
            return time.monotonic() - self.begun > 0.4

    settings = {"input": "a", "model": "b", "output": str(tmp_path / "map.tif")}
    reporter = AtOnce()
    with pytest.raises((Cancelled, WorkerError)):  # a fast machine has found by then that there is no model
        run_job(sys.executable, "segmentraster", settings, reporter)
    assert time.monotonic() - reporter.begun < 1.5


def test_a_worker_may_end_by_itself_when_told_to(tmp_path: Path) -> None:
    sign = tmp_path / "sign"
    code = f"""
        open({str(sign)!r}, "w").close()
        sys.stdin.readline()
        assert sys.stdin.readline() == "cancel\\n"
        open({str(tmp_path / "tidy")!r}, "w").close()
    """
    with pytest.raises(Cancelled):
        run_job(fake_worker(tmp_path, code), "status", {}, CancelAt(sign))
    assert (tmp_path / "tidy").exists()


def test_the_job_is_passed_on_no_disk_and_in_no_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    code = """
        from pathlib import Path
        files = {str(path): path.read_text() for path in Path(TEMPORARY).rglob("*") if path.is_file()}
        job = json.loads(sys.stdin.readline())
        send("result", result={"job": job, "files": files, "command": sys.argv, "proxy": os.environ["GDAL_HTTP_PROXY"]})
    """.replace("TEMPORARY", repr(str(tmp_path / "temporary")))
    config, variables = (
        {"url": "https://a.example/?key=geheim", "long": "x" * 200_000},
        {"GDAL_HTTP_PROXY": "http://p:1"},
    )
    found = run_job(fake_worker(tmp_path, code), "status", config, Reporter(), variables=variables)
    assert found["job"] == {"protocol": PROTOCOL, "job": "status", "config": config} and found["proxy"] == "http://p:1"
    assert found["files"] and "geheim" not in str((found["files"], found["command"]))


def test_finish_is_passed_on(tmp_path: Path) -> None:
    class Finishing(Reporter):
        def finish_requested(self) -> bool:
            return True

    python = fake_worker(tmp_path, "sys.stdin.readline(); send('result', result={'heard': sys.stdin.readline()})")
    assert run_job(python, "status", {}, Finishing()) == {"heard": "finish\n"}


def test_a_failure_leaves_no_partial_output_and_earlier_files_whole(tmp_path: Path) -> None:
    settings = {name: str(tmp_path / f"{name}.tif") for name in ("output", "probabilities")}
    for path in settings.values():
        Path(path).write_text("earlier")
        hidden_folder(path).mkdir()
        (hidden_folder(path) / Path(path).name).write_text("half")
    with pytest.raises(WorkerError):
        run_job(fake_worker(tmp_path, "sys.exit(1)"), "segmentraster", settings, Reporter())
    assert {path.name for path in tmp_path.iterdir()} == {"python", "output.tif", "probabilities.tif"}
    assert all(Path(path).read_text() == "earlier" for path in settings.values())


@pytest.mark.parametrize("cancelled, resume", [(False, False), (False, True), (True, False), (True, True)])
def test_finished_pieces_stay_unless_the_user_cancels_a_job_that_does_not_resume(
    tmp_path: Path, cancelled: bool, resume: bool
) -> None:
    class Cancelling(Reporter):
        def cancel_requested(self) -> bool:
            return cancelled

    pieces = hidden_folder(tmp_path / "map.tif") / PIECES
    pieces.mkdir(parents=True)
    (pieces / "0").write_text("piece")
    settings = {"output": str(tmp_path / "map.tif"), "resume": resume}
    with pytest.raises(Cancelled if cancelled else WorkerError) as caught:
        run_job(fake_worker(tmp_path, "sys.exit(1)"), "segmentraster", settings, Cancelling())
    assert cancelled or "RESUME goes on from what" in str(caught.value)
    assert (pieces / "0").exists() == (resume or not cancelled)
    assert pieces.parent.exists() == (resume or not cancelled)


@pytest.mark.parametrize("resume", [False, True])
def test_a_cancelled_training_that_has_to_be_killed_leaves_its_checkpoint_only_with_resume(
    tmp_path: Path, resume: bool
) -> None:
    """That of an earlier training stays, until this one has replaced it."""
    sign, mine = tmp_path / "sign", tmp_path / "m.checkpoint.safetensors"
    earlier = tmp_path / "m.baseline.checkpoint.safetensors"
    earlier.write_text("earlier")
    os.utime(earlier, (1e9, 1e9))
    code = f"""
        open({str(mine)!r}, "w").write("mine")
        open({str(sign)!r}, "w").close()
        time.sleep(60)
    """
    settings = {"output": str(tmp_path / "m.safetensors"), "resume": resume, "baseline": True}
    with pytest.raises(Cancelled):
        run_job(fake_worker(tmp_path, code), "trainsegmenter", settings, CancelAt(sign))
    assert mine.exists() == resume and earlier.exists()


def test_a_reporter_that_fails_ends_the_worker(tmp_path: Path) -> None:
    class Failing(Reporter):
        pid = 0

        def log(self, text: str) -> None:
            self.pid = int(text)
            raise ZeroDivisionError

    reporter = Failing()
    with pytest.raises(ZeroDivisionError):
        run_job(fake_worker(tmp_path, "send('log', text=os.getpid()); time.sleep(60)"), "status", {}, reporter)
    with pytest.raises(ProcessLookupError):
        os.kill(reporter.pid, 0)


def test_the_log_is_kept_where_asked_and_else_told_after_a_failure(tmp_path: Path) -> None:
    python = fake_worker(tmp_path, "print('some detail', file=sys.stderr); sys.exit(2)")
    heard = Heard()
    with pytest.raises(WorkerError):
        run_job(python, "status", {}, heard)
    assert heard.logs == ["some detail"]
    with pytest.raises(WorkerError):
        run_job(python, "status", {}, Reporter(), str(tmp_path / "worker.log"))
    assert (tmp_path / "worker.log").read_text() == "some detail\n"


def test_the_worker_sees_none_of_qgis_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTHONHOME", "PROJ_LIB", "GDAL_DATA", "QGIS_PREFIX_PATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV"):
        monkeypatch.setenv(name, "/wrong")
    monkeypatch.setenv("KEPT", "yes")
    python = fake_worker(tmp_path, "send('result', result=dict(os.environ))")
    # The script's own interpreter must not see the wrong settings either, which is what is tested.
    seen: dict[str, Any] = run_job(python, "status", {}, Reporter())
    assert "/wrong" not in seen.values() and seen["KEPT"] == "yes" and seen["PYTHONUNBUFFERED"] == "1"
