"""The choice of the worker's Python, and the messages about an unsuitable one."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from plugin import worker_python
from plugin.engine import probe
from plugin.engine.errors import InputError, ResourceError

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the fake Pythons are POSIX scripts")

# A Python that answers what its file says.
FAKE = """#!/bin/sh
cat "$(dirname "$0")/answer"
"""
ANSWER = '{"python": "3.11.2", "missing": {}, "versions": {"numpy": "1.24.2"}}'


@pytest.fixture
def fake(tmp_path: Path) -> str:
    folder = tmp_path / "base"
    folder.mkdir()
    python = folder / "python"
    python.write_text(FAKE)
    python.chmod(0o755)
    (folder / "answer").write_text(ANSWER)
    return str(python)


@pytest.fixture(autouse=True)
def no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(worker_python.VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "cache"))


def test_the_setting_comes_before_the_variable_and_that_before_all_else(
    fake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert worker_python.find_python().origin == "QGIS's Python"
    monkeypatch.setenv(worker_python.VARIABLE, fake)
    assert worker_python.find_python().path == fake
    assert worker_python.find_python(sys.executable).path == sys.executable


def test_a_setting_that_names_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="which Terrazzo's setting names"):
        worker_python.find_python(str(tmp_path / "nothing"))


def test_the_python_of_a_qgis_that_is_its_own_executable_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "bin" / "python3"
    python.parent.mkdir()
    python.touch()
    monkeypatch.setattr(worker_python, "_prefixes_of_loaded", list)
    monkeypatch.setattr(sys, "executable", "/Applications/QGIS.app/Contents/MacOS/QGIS")
    for prefix in ("prefix", "exec_prefix", "base_prefix"):
        monkeypatch.setattr(sys, prefix, str(tmp_path))
    assert worker_python.qgis_python() == str(python)


def test_the_python_that_the_bindings_came_from_goes_before_one_that_is_first_in_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    for folder in ("usr", "pyenv"):
        (tmp_path / folder / "bin").mkdir(parents=True)
        (tmp_path / folder / "bin" / version).touch()
    for prefix in ("prefix", "exec_prefix", "base_prefix"):  # as an embedded Python has them under pyenv
        monkeypatch.setattr(sys, prefix, str(tmp_path / "pyenv"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "pyenv" / "bin" / version))
    qgis = types.ModuleType("qgis")
    qgis.__file__ = str(tmp_path / "usr/lib/python3/dist-packages/qgis/__init__.py")
    monkeypatch.setitem(sys.modules, "qgis", qgis)
    assert worker_python.qgis_python() == str(tmp_path / "usr" / "bin" / version)


def test_check_finds_nothing_missing_in_the_workers_python() -> None:
    assert worker_python.check(sys.executable) == {}


def test_check_names_what_is_missing_and_the_remedy_is_one_command(fake: str) -> None:
    answer = Path(fake).with_name("answer")
    too_old = '"python": "Python 3.10 or newer", "torch": "torch"'
    answer.write_text(f'{{"python": "3.9.5", "missing": {{{too_old}}}, "versions": {{}}}}')
    with pytest.raises(ResourceError, match=r"lacks Python 3.10 or newer, torch. Choose a newer Python"):
        worker_python.require_python(fake)
    answer.write_text('{"python": "3.11.2", "missing": {"torch": "torch", "timm": "timm"}, "versions": {}}')
    with pytest.raises(ResourceError, match=f'lacks torch, timm. Install them with: "{fake}" -m pip install -r'):
        worker_python.require_python(fake)


def test_what_is_too_old_counts_as_missing_and_both_versions_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    here = probe.versions()
    old = {**here, "torch": "2.4.1+cu121", "timm": "0.9.16", "safetensors": "unknown"}
    monkeypatch.setattr(probe, "versions", lambda: old)
    torch, timm = (probe.spell(probe.lowest_versions()[name]) for name in ("torch", "timm"))
    assert probe.missing() == {
        "torch": f"torch {torch} or newer (it has 2.4.1+cu121)",
        "timm": f"timm {timm} or newer (it has 0.9.16)",
    }


def test_every_module_has_a_lowest_version_in_the_requirements() -> None:
    assert {"GDAL", *probe.lowest_versions()} == set(probe.MODULES.values())
    assert probe.lowest_versions()["torch"] < probe.OLDEST_TORCH_FOR_PTH


@pytest.mark.parametrize(
    "version, numbers", [("2.6.0+debian", (2, 6, 0)), ("3.11.2", (3, 11, 2)), ("1.0rc1", (1, 0)), ("2.14", (2, 14))]
)
def test_versions_are_compared_by_their_numbers(version: str, numbers: tuple[int, ...]) -> None:
    assert probe.parse(version) == numbers < probe.parse("unknown")


@pytest.mark.parametrize(
    "script, words", [("exit 3", "status 3"), ("echo hello", "hello"), (None, "cannot be started")]
)
def test_what_is_no_python_is_said(tmp_path: Path, script: str | None, words: str) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}")
    python.chmod(0o755 if script else 0o644)
    with pytest.raises(ResourceError, match=words):
        worker_python.check(str(python))


def test_a_bare_python_runs_the_script() -> None:
    script = worker_python.HERE / "environment.py"
    done = subprocess.run([sys.executable, "-S", str(script), "check", "/none"], capture_output=True, text=True)
    assert done.returncode == 1 and "The Python /none" in done.stderr and not done.stdout
