"""Environments are built beside the old one, become active only after a test, and leave nothing behind."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from heard import Heard

from plugin import worker_python
from plugin.engine.errors import Cancelled, InputError, ResourceError
from plugin.setup import building, planning
from plugin.setup.building import ACTIVE, MARKER, active_python
from plugin.setup.machine import Machine
from plugin.setup.planning import build_planned, plan_build
from plugin.worker_process import run_job

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the fake Pythons are POSIX scripts")

# A Python that makes environments of itself, notes what pip and uv are asked for, and is as broken as files say.
FAKE = """#!/bin/sh
here=$(dirname "$0")
for last; do :; done
case "$*" in
  *probe.py) cat "$here/answer";;
  "-m venv"*) mkdir -p "$last/bin"; touch "$last/pyvenv.cfg"; cp "$0" "$here/answer" "$last/bin/";;
  *"--target"*uv) mkdir -p "{root}/uv/bin"; cp "$0" "$here/answer" "{root}/uv/bin/"; mv "{root}/uv/bin/python" "{root}/uv/bin/uv";;
  "-m ensurepip") echo "$*" >> {log};;
  "venv"*) echo "uv $*" >> {log}; mkdir -p "$last/bin" "$UV_PYTHON_INSTALL_DIR"; cp "$0" "$last/bin/python"; cp "$here/answer" "$last/bin/";;
  "-m pip"*) echo "installing"; echo "$*" >> {log}; test ! -e {root}-broken;;
  *proof.py) test ! -e {root}-useless || {{ echo "WinError 126 c10.dll"; exit 1; }};;
esac
"""  # noqa: E501 (a line of the shell)
ANSWER = {"python": "3.11.2", "missing": {}, "versions": {"numpy": "1.24.2"}}
PC = Machine("linux", "x86_64", None)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "built"


@pytest.fixture
def fake(tmp_path: Path, root: Path) -> str:
    folder = tmp_path / "base"
    folder.mkdir()
    python = folder / "python"
    python.write_text(FAKE.format(log=tmp_path / "pip.log", root=root))
    python.chmod(0o755)
    (folder / "answer").write_text(json.dumps(ANSWER))
    return str(python)


@pytest.fixture(autouse=True)
def no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(worker_python.VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "cache"))
    monkeypatch.setattr(building, "TRIES", 1)


def make_old(fake: str) -> None:
    """Let the Python be one for which uv brings another."""
    answer = {**ANSWER, "python": "3.9.5", "missing": {"python": "Python 3.10 or newer", "osgeo": "osgeo"}}
    Path(fake).with_name("answer").write_text(json.dumps(answer))


def make_unreachable(fake: str) -> None:
    """Let PyTorch's own indexes be out of reach."""
    unreachable = '*download.pytorch.org*) echo "No route to host"; exit 1;;'
    Path(fake).write_text(Path(fake).read_text().replace('"-m pip"*)', f'{unreachable}\n  "-m pip"*)'))


class CancelledBy(Heard):
    """Asks for the end once a file is there."""

    def __init__(self, sign: Path) -> None:
        super().__init__()
        self.sign = sign

    def cancel_requested(self) -> bool:
        return self.sign.exists()


def asked(tmp_path: Path) -> list[str]:
    log = tmp_path / "pip.log"
    return log.read_text().splitlines() if log.exists() else []


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def build(root: Path, fake: str, reporter: Heard | None = None, torch: str = "pypi", **wishes: object) -> str:
    return build_planned(plan_build(PC, torch, folder=str(root), base=fake, **wishes), reporter or Heard())


def test_an_environment_has_torch_in_one_call_keeps_the_systems_numpy_and_is_reused(fake, root, tmp_path):
    python = build(root, fake)
    assert python == str(root / "env1" / "bin" / "python") == str(active_python(root))
    update, pair, others = asked(tmp_path)
    assert "--upgrade pip" in update and " -r " in others
    assert " torch" in pair and " torchvision" in pair and "--index-url" not in pair
    constraints = root / "env1" / "constraints.txt"
    assert f"-c {constraints}" in others and constraints.read_text() == "numpy==1.24.2"
    reporter = Heard()
    assert build(root, fake, reporter) == python and len(asked(tmp_path)) == 3
    assert reporter.logs == [f"The environment {root / 'env1'} is complete."]


def test_another_recipe_builds_beside_and_replaces(fake, root, monkeypatch, tmp_path):
    build(root, fake)
    changed = tmp_path / "requirements.txt"
    changed.write_text("torch>=2\ntorchvision\n")
    monkeypatch.setattr(planning, "REQUIREMENTS", changed)
    assert build(root, fake) == str(root / "env2" / "bin" / "python")
    assert [path.name for path in root.glob("env*")] == ["env2"]
    Path(fake).with_name("answer").write_text(json.dumps({**ANSWER, "versions": {"numpy": "2.1.0"}}))
    assert build(root, fake) == str(root / "env1" / "bin" / "python")


@pytest.mark.parametrize(("broken", "match"), [("broken", "could not be"), ("useless", "Visual C\\+\\+ runtime")])
def test_a_build_that_fails_leaves_the_old_environment_in_force_and_nothing_else(fake, root, broken, match, tmp_path):
    first = build(root, fake)
    Path(f"{root}-{broken}").touch()
    with pytest.raises(ResourceError, match=match):
        build(root, fake, torch="cu130")
    assert str(active_python(root)) == first and names(root) == [ACTIVE, "env1"]
    Path(f"{root}-{broken}").unlink()
    assert build(root, fake, torch="cu130") == str(root / "env2" / "bin" / "python")


def test_what_a_killed_build_left_is_cleared_by_the_next(fake, root):
    (root / "env1" / "lib").mkdir(parents=True)
    (root / "env7" / "lib").mkdir(parents=True)
    build(root, fake)
    assert names(root) == [ACTIVE, "env1"] and not (root / "env1" / "lib").exists()


def test_an_environment_without_its_marker_is_never_taken(fake, root, monkeypatch):
    build(root, fake)
    monkeypatch.setattr(worker_python, "default_folder", lambda: root)
    assert worker_python.find_python().origin == "Terrazzo's own environment"
    (root / "env1" / MARKER).unlink()
    assert active_python(root) is None and worker_python.find_python().origin == "QGIS's Python"


@pytest.mark.parametrize(
    "text", ['{"environment": "../../etc"}', '{"environment": ""}', "[]", "{", '{"environment": 7}']
)
def test_a_damaged_note_of_the_active_environment_means_none(fake, root, text):
    build(root, fake)
    (root / ACTIVE).write_text(text)
    assert active_python(root) is None


def test_an_environment_in_which_a_worker_runs_stays_until_the_next_build(fake, root, tmp_path):
    python = build(root, fake)
    Path(python).write_text(f'#!/bin/sh\ncase "$*" in *engine.worker*) touch {tmp_path}/runs; cat;; esac\n')
    end = tmp_path / "end"

    def use() -> None:
        with contextlib.suppress(Cancelled):
            run_job(python, "status", {}, CancelledBy(end))

    user = threading.Thread(target=use)
    with contextlib.ExitStack() as stack:
        stack.callback(end.touch)
        user.start()
        while not (tmp_path / "runs").exists():
            time.sleep(0.02)
        assert build(root, fake, torch="cu130") == str(root / "env2" / "bin" / "python")
        assert names(root) == [ACTIVE, "env1", "env2"] and (root / "env1" / MARKER).exists()
        assert build(root, fake, torch="cu126") == str(root / "env3" / "bin" / "python")
        assert names(root) == [ACTIVE, "env1", "env3"]
    user.join()
    (root / "env1" / "worker-killed.lock").touch()  # as one whose QGIS was killed
    assert build(root, fake, torch="cpu") == str(root / "env1" / "bin" / "python") and names(root) == [ACTIVE, "env1"]


def test_two_builds_in_one_folder_do_not_spoil_each_other(fake, root):
    class Second(Heard):
        def log(self, text: str) -> None:
            super().log(text)
            if "installing" in text and not refused:
                with pytest.raises(InputError, match=f"Another build is running.*process {os.getpid()}") as error:
                    build(root, fake)
                refused.append(error)

    refused: list[object] = []
    assert build(root, fake, Second()) and refused


def test_cancelling_leaves_nothing_of_the_new(fake, root):
    class Impatient(Heard):
        def cancel_requested(self) -> bool:
            return any("installing" in line for line in self.logs)

    with pytest.raises(Cancelled):
        build(root, fake, Impatient())
    assert names(root) == []
    make_old(fake)
    with pytest.raises(Cancelled):
        build(root, fake, Impatient())
    assert names(root) == []


def test_the_build_for_a_card_comes_from_its_index_and_else_from_the_package_index(fake, root, tmp_path):
    build(root, fake, torch="cu130")
    assert [line for line in asked(tmp_path) if "--index-url https://download.pytorch.org/whl/cu130" in line]
    make_unreachable(fake)
    reporter = Heard()
    build(root, fake, reporter, torch="cpu")
    assert "--index-url" not in asked(tmp_path)[-2]
    # The panel shows this plan again, and a rebuild finds it complete.
    plan = plan_build(PC, "cpu", folder=str(root), base=fake)
    assert "from the package index: about 3 GB to download, 6 GB on the disk" in plan.words
    again = Heard()
    build_planned(plan, again)
    assert "is complete" in again.logs[-1]


def test_a_larger_download_than_was_asked_for_is_said_before_it_begins(fake, root):
    class Told(Heard):
        def progress(self, fraction: float, text: str = "", seconds_left: float | None = None) -> None:
            super().log(text)

    plan = plan_build(PC, "cpu", folder=str(root), base=fake)
    small, large = "about 0.5 GB to download, 1.7 GB on the disk", "about 3 GB to download, 6 GB on the disk"
    assert f"for the processor: {small}" in plan.words and large in plan.words
    make_unreachable(fake)
    reporter = Told()
    build_planned(plan, reporter)
    said = next(number for number, line in enumerate(reporter.logs) if large in line and small in line)
    assert "The server of the packages cannot be reached" in reporter.logs[said]
    assert "From https://download.pytorch.org/whl/cpu" in reporter.logs[said]
    step, pip = reporter.logs[said + 1 : said + 3]
    assert step == "Installing PyTorch from the package index (3 GB instead of 0.5 GB)" and " -m pip install" in pip


def test_when_all_is_downloaded_no_time_left_is_promised(fake, root):
    class Told(Heard):
        def progress(self, fraction: float, text: str = "", seconds_left: float | None = None) -> None:
            told.append((text, seconds_left))

    told: list[tuple[str, float | None]] = []
    printed = 'echo "Progress 90 of 100"; echo "Installing collected packages: torch"'
    Path(fake).write_text(Path(fake).read_text().replace('echo "installing"', printed))
    build(root, fake, Told())
    assert ("Installing PyTorch (3 GB): unpacking", None) in told


def test_a_larger_build_is_not_tried_where_the_disk_is_too_small_for_it(fake, root, monkeypatch):
    monkeypatch.setattr(building, "free_space", lambda folder: 3e9)
    make_unreachable(fake)
    with pytest.raises(ResourceError, match=r"has 3 GB free.*needs about 6 GB.*Advanced ▸ Folder"):
        build(root, fake, torch="cpu")
    assert names(root) == []


def test_where_the_trouble_lies_in_the_computer_no_other_download_is_tried(fake, root, tmp_path):
    full = '*pytorch.org*) echo "No space left on device"; exit 1;;'
    Path(fake).write_text(Path(fake).read_text().replace('"-m pip"*)', f'{full}\n  "-m pip"*)'))
    reporter = Heard()
    with pytest.raises(ResourceError, match=r"PyTorch could not be installed. The disk is full. Free some disk space"):
        build(root, fake, reporter, torch="cpu")
    assert "installed instead" not in "\n".join(reporter.logs)


def test_a_folder_of_wheels_that_lacks_one_is_named_as_the_reason(fake, root, tmp_path):
    lacks = '*no-index*) echo "ERROR: No matching distribution found for torch>=2.5"; exit 1;;'
    Path(fake).write_text(Path(fake).read_text().replace('"-m pip"*)', f'{lacks}\n  "-m pip"*)'))
    (tmp_path / "wheels").mkdir()
    with pytest.raises(ResourceError, match="The folder of packages lacks torch, or has it"):
        build(root, fake, wheels=tmp_path / "wheels")


def test_a_folder_of_wheels_is_all_that_is_asked(fake, root, tmp_path):
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / "torch-2.9-py3-none-any.whl").write_bytes(bytes(10**6))
    plan = plan_build(PC, wheels=wheels, folder=str(root), base=fake)
    assert "Nothing is downloaded" in plan.words and plan.build.installed == pytest.approx(0.003)
    build_planned(plan, Heard())
    assert asked(tmp_path) and all(f"--no-index --find-links {wheels}" in line for line in asked(tmp_path))
    with pytest.raises(InputError, match="There is no folder of wheels"):
        build(root, fake, wheels=tmp_path / "none")


def test_an_old_python_gets_another_from_uv_with_gdal_of_its_own(fake, root, tmp_path):
    make_old(fake)
    plan = plan_build(PC, "pypi", folder=str(root), base=fake)
    assert "uv downloads Python 3.13" in plan.words
    build_planned(plan, Heard())
    made = next(line for line in asked(tmp_path) if line.startswith("uv venv"))
    assert "--managed-python" in made and "--python 3.13" in made
    # uv knows nothing of pip's index, so pip comes from the Python itself.
    assert "--seed" not in made and "-m ensurepip" in asked(tmp_path)
    assert asked(tmp_path)[-1].endswith("gdal-wheel") and "-c " not in asked(tmp_path)[-1]
    assert names(root) == [ACTIVE, "env1", "python"]
    Path(fake).with_name("answer").write_text(json.dumps(ANSWER))
    build(root, fake)
    assert names(root) == [ACTIVE, "env2"], "without an environment of uv's its Python is of no use"


def test_a_folder_with_something_else_is_left_alone(fake, root):
    root.mkdir()
    (root / "chapter1.txt").touch()
    with pytest.raises(InputError, match=r"not an environment of Terrazzo \(chapter1.txt\)"):
        build(root, fake)
    assert names(root) == ["chapter1.txt"]


def test_a_base_that_is_no_python_is_refused_in_whole_sentences(root, tmp_path):
    (tmp_path / "python").write_text("#!/bin/sh\nexit 3\n")
    (tmp_path / "python").chmod(0o755)
    with pytest.raises(ResourceError, match=r"newer \(status 3\)\. Install a 64-bit Python"):
        build(root, str(tmp_path / "python"))


def test_a_disk_without_room_is_refused_before_anything_is_downloaded(fake, root, monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**11, 10**11, 2 * 10**9))
    with pytest.raises(ResourceError, match=r"has 2 GB free, but the environment needs about 6 GB"):
        build(root, fake)
    assert not asked(tmp_path) and names(root) == []


def test_a_folder_that_may_not_be_written_is_said(fake, tmp_path, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(ResourceError, match="You are not allowed to write there"):
        build(tmp_path / "elsewhere", fake)


def test_paths_with_spaces_and_umlauts_will_do(fake, tmp_path):
    python = build(tmp_path / "built", fake)
    strange = tmp_path / "Über uns" / "terrazzo"
    shutil.copytree(tmp_path / "built", strange)
    assert python and str(active_python(strange)).endswith("Über uns/terrazzo/env1/bin/python")


def test_an_own_environment_is_shut_off_from_the_users_packages(fake, root):
    python = build(root, fake)
    assert worker_python.clean_environment(python)["PYTHONNOUSERSITE"] == "1"
    assert "PYTHONNOUSERSITE" not in worker_python.clean_environment(fake)


def test_the_command_builds_and_prints_the_interpreter_last(fake, root):
    command = [sys.executable, str(worker_python.HERE / "environment.py"), "build", str(root), "--torch", "pypi"]
    done = subprocess.run([*command, "--base", fake], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{root / 'env1' / 'bin' / 'python'}\n" and "3 GB to download" in done.stderr
