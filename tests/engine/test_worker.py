"""The worker's side of the protocol, in real processes."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any, Optional

import pytest

from plugin.engine import worker
from plugin.engine.errors import InputError, ResourceError

ROOT = Path(__file__).resolve().parents[2]


def start(folder: Path, job: Any, code: str = "") -> subprocess.Popen[str]:
    """A worker whose job "test" runs `code` with `reporter`; without code, the real command line."""
    path = folder / "job.json"
    path.write_text(json.dumps(job))
    command = [sys.executable, "-m", "plugin.engine.worker", str(path)]
    if code:
        script = (
            "import os, sys, time\nfrom plugin.engine import config, worker\n"
            "def job(settings, reporter):\n" + textwrap.indent(textwrap.dedent(code), "    ") + "\n"
            "job.config = config.SegmentRasterConfig\n"
            "worker.JOBS['test'] = job\nstatus = worker.main(sys.argv[1:])\nsys.stdout.flush()\nos._exit(status)"
        )
        command = [sys.executable, "-c", script, str(path)]
    pipe = subprocess.PIPE
    with open(folder / "worker.log", "w") as log:
        return subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=log, text=True)


def ended(process: subprocess.Popen[str], folder: Path, commands: str = "") -> tuple[str, str]:
    """What a worker gives and logs until its end; its standard input stays open, as it does while QGIS lives."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(commands)
    process.stdin.flush()
    output = process.stdout.read()
    process.wait(20)
    process.stdin.close()
    return output, (folder / "worker.log").read_text()


TEST_JOB = {"protocol": 1, "job": "test", "config": {}}


def events(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def test_only_events_reach_standard_output_whatever_libraries_print(tmp_path: Path) -> None:
    code = """
        print("from Python")
        os.write(1, b"from C")
        os.system("echo from a child")
        reporter.log("ünïcode")
        return {"answer": 42}
    """
    output, log = ended(start(tmp_path, TEST_JOB, code), tmp_path)
    assert events(output) == [{"event": "log", "text": "ünïcode"}, {"event": "result", "result": {"answer": 42}}]
    assert "from Python" in log and "from C" in log and "from a child" in log


def test_numbers_of_numpy_travel_as_json(tmp_path: Path) -> None:
    code = """
        import numpy as np
        return {"count": np.int64(3), "values": np.array([0.5, 1])}
    """
    output, _ = ended(start(tmp_path, TEST_JOB, code), tmp_path)
    assert events(output)[-1]["result"] == {"count": 3, "values": [0.5, 1.0]}


def test_cancel_ends_the_job_without_a_result(tmp_path: Path) -> None:
    process = start(tmp_path, TEST_JOB, "while True:\n    reporter.check_wanted()\n    time.sleep(0.01)")
    output, _ = ended(process, tmp_path, "cancel\n")
    assert process.returncode == worker.EXIT_CANCELLED
    assert events(output)[-1]["kind"] == "Cancelled"


def test_finish_and_the_end_of_standard_input_are_heard(tmp_path: Path) -> None:
    code = """
        while not (reporter.finish_requested() and reporter.orphaned()):
            time.sleep(0.01)
        return {"cancelled": reporter.cancel_requested()}
    """
    process = start(tmp_path, TEST_JOB, code)
    output, _ = process.communicate("nonsense\nfinish\n", timeout=20)
    log = (tmp_path / "worker.log").read_text()
    assert process.returncode == 0 and events(output)[-1]["result"] == {"cancelled": False}
    assert "Unknown command: 'nonsense'" in log


def test_a_job_goes_on_when_nobody_reads_its_events(tmp_path: Path) -> None:
    code = f"""
        while not reporter.orphaned():
            reporter.log("x" * 10000)
        open({str(tmp_path / "saved")!r}, "w").close()
        return {{}}
    """
    process = start(tmp_path, TEST_JOB, code)
    assert process.stdout is not None
    process.stdout.close()
    process.wait(20)
    assert (tmp_path / "saved").exists()


def test_an_unexpected_failure_is_one_sentence_and_a_traceback_in_the_log(tmp_path: Path) -> None:
    process = start(tmp_path, TEST_JOB, "raise RuntimeError('first line\\nsecond line')")
    output, log = ended(process, tmp_path)
    error = events(output)[-1]
    assert process.returncode == worker.EXIT_ERROR
    assert error["problem"] == "The job failed with RuntimeError: first line" and error["remedy"]
    assert "Traceback" in log and "second line" in log


@pytest.mark.parametrize(
    "job, words",
    [
        ({"protocol": 1, "job": "dance", "config": {}}, '"dance"'),
        ({"protocol": 2, "job": "status", "config": {}}, "protocol 2"),
        ({"protocol": 1, "job": "segmentraster", "config": {"color": 1}}, "color"),
        ({"protocol": 1, "job": "trainsegmenter", "config": {"chips": "a", "output": "b", "epochs": 0}}, "EPOCHS is 0"),
        ([], "not a job file"),
    ],
)
def test_a_job_that_cannot_be_is_refused_in_words(tmp_path: Path, job: Any, words: str) -> None:
    process = start(tmp_path, job)
    output, _ = ended(process, tmp_path)
    (error,) = events(output)
    assert process.returncode == worker.EXIT_ERROR
    assert (error["event"], error["kind"]) == ("error", "InputError") and words in error["problem"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"protocol": 1, "job": "status", "config": {"a": ' + "[" * 100_000 + "]" * 100_000 + "}}", "too deep"),
        ('{"protocol": 1, "job": ["status"], "config": {}}', "is not supported by this worker"),
        ('{"protocol": 1, "job": "status", "config": {"a": ' + "9" * 5000 + "}}", "digits"),
        (None, "not a regular file"),
    ],
)
def test_an_odd_job_file_is_refused_in_words(tmp_path: Path, text: Optional[str], words: str) -> None:
    path = tmp_path / "job.json"
    if text is None:
        os.mkfifo(path)
    else:
        path.write_text(text)
    with pytest.raises(InputError, match=words):
        worker.read_job(str(path))


def test_wrong_settings_are_refused_before_torch_is_imported(tmp_path: Path) -> None:
    path = tmp_path / "job.json"
    path.write_text(json.dumps({"protocol": 1, "job": "segmentraster", "config": {}}))
    code = "import sys; from plugin.engine import worker; worker.main(sys.argv[1:]); sys.exit('torch' in sys.modules)"
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], cwd=ROOT, stdin=subprocess.PIPE)
    assert process.wait(60) == 0
    process.communicate()


class OutOfMemoryError(RuntimeError):
    """Called as torch's."""


@pytest.mark.parametrize(
    "error, words",
    [
        (OutOfMemoryError("Tried to allocate 2.00 GiB"), "GPU's memory is not enough"),
        (RuntimeError("CUDA out of memory. Tried"), "GPU's memory is not enough"),
        (MemoryError(), "computer's memory is not enough"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "computer's memory is not enough"),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), "computer's memory is not enough"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "computer's memory is not enough"),
        (RuntimeError("CUDA error: device-side assert triggered"), "The GPU failed"),
        (OSError(errno.ENOSPC, "No space left on device"), "The disk is full"),
        (ModuleNotFoundError("No module named 'timm'", name="timm"), "has no module timm"),
    ],
)
def test_what_the_machine_lacks_is_said_with_a_remedy(error: Exception, words: str) -> None:
    known = worker.explain(error)
    assert isinstance(known, ResourceError) and words in known.problem and known.remedy


def test_errors_of_the_engine_stay_as_they_are() -> None:
    error = InputError("a", "b")
    assert worker.explain(error) is error


def test_status_tells_of_the_machine(tmp_path: Path) -> None:
    output, _ = ended(start(tmp_path, {"protocol": 1, "job": "status", "config": {}}), tmp_path)
    found = events(output)[-1]["result"]
    assert found["python"] == sys.executable and found["ready"] and found["missing"] == {}
    assert found["versions"]["torch"][0].isdigit() and found["threads"] >= 1 and found["memory"] > 2**28


def test_status_works_without_torch_and_says_so(tmp_path: Path) -> None:
    code = """
        import importlib.util as util
        find = util.find_spec
        util.find_spec = lambda name: None if name == "torch" else find(name)
        from plugin.engine import jobs
        return jobs.JOBS["status"]({}, reporter)
    """
    output, _ = ended(start(tmp_path, TEST_JOB, code), tmp_path)
    found = events(output)[-1]["result"]
    assert found["missing"] == {"torch": "torch"} and not found["ready"] and found["gpus"] == []


# --- whoever started it is gone


def orphan(tmp_path: Path, code: str) -> tuple[subprocess.Popen[str], float]:
    """A worker that has begun to write `out/map.tif` and runs `code`, without a parent; and since when."""
    begin = f"""
        from plugin.engine.drafts import claim, publish
        claim({str(tmp_path / "out" / "a.html")!r}).fresh().write_text("half")
        reporter.log("begun")
    """
    job = {"protocol": 1, "job": "test", "config": {"output": str(tmp_path / "out" / "map.tif")}}
    process = start(tmp_path, job, textwrap.dedent(begin) + textwrap.dedent(code))
    assert process.stdin is not None and process.stdout is not None
    assert "begun" in process.stdout.readline()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {".map.tif.partial", ".a.html.partial"}
    process.stdin.close()
    return process, time.monotonic()


@pytest.mark.parametrize("code", ["time.sleep(60)", "while True:\n    pass"])
def test_an_orphan_ends_within_two_seconds_and_leaves_nothing(tmp_path: Path, code: str) -> None:
    process, begun = orphan(tmp_path, code)
    assert process.wait(20) == worker.EXIT_CANCELLED
    assert time.monotonic() - begun < 2 and not (tmp_path / "out").exists()


def test_an_orphan_that_saves_gets_the_time(tmp_path: Path) -> None:
    code = f"""
        with reporter.saving():
            while not reporter.orphaned():
                time.sleep(0.01)
            time.sleep(1.5)
            with claim({str(tmp_path / "out" / "b.html")!r}) as draft:
                draft.fresh().write_text("saved")
                publish(draft)
        time.sleep(60)
    """
    process, _ = orphan(tmp_path, code)
    process.wait(20)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.html"]


def test_a_second_worker_for_a_result_ends_before_it_imports_torch(tmp_path: Path) -> None:
    job = {"protocol": 1, "job": "segmentraster", "config": {"output": str(tmp_path / "out" / "map.tif")}}
    (tmp_path / "first").mkdir()
    first = start(tmp_path / "first", {**job, "job": "test"}, "reporter.log('begun')\ntime.sleep(60)")
    try:
        assert first.stdout is not None and "begun" in first.stdout.readline()
        begun = time.monotonic()
        output, _ = ended(start(tmp_path, job), tmp_path)
        (error,) = events(output)
        assert error["kind"] == "InputError" and f"another job (process {first.pid}, since" in error["problem"]
        assert time.monotonic() - begun < 5
    finally:
        first.kill()
        first.communicate()
    output, _ = ended(start(tmp_path, job), tmp_path)
    assert " lacks " in events(output)[0]["problem"]
    assert not (tmp_path / "out").exists()
