"""Which Python the worker gets, and environments that are never taken for whole when they are not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from plugin import environment
from plugin.engine import probe
from plugin.engine.errors import InputError, ResourceError

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the fake Pythons are POSIX scripts")

# A Python that makes environments of itself, counts its installations, and is as broken as its files say.
FAKE = """#!/bin/sh
here=$(dirname "$0")
case "$*" in
  *probe.py) cat "$(dirname "$0")/answer";;
  "-m venv"*) mkdir -p "$4/bin"; touch "$4/pyvenv.cfg"; cp "$0" "$here/answer" "$4/bin/";;
  "-m pip"*) echo "installing"; echo "$*" >> {log}; cp "$8" {constraints}; test ! -e {broken};;
  "-c import"*) test ! -e "{broken}-imports";;
esac
"""
ANSWER = '{"python": "3.11.2", "missing": {}, "versions": {"numpy": "1.24.2"}}'


@pytest.fixture
def fake(tmp_path: Path) -> str:
    folder = tmp_path / "base"
    folder.mkdir()
    python = folder / "python"
    python.write_text(FAKE.format(log=tmp_path / "pip.log", broken=tmp_path / "broken",
                                  constraints=tmp_path / "constraints"))  # fmt: skip
    python.chmod(0o755)
    (folder / "answer").write_text(ANSWER)
    return str(python)


def installations(tmp_path: Path) -> int:
    log = tmp_path / "pip.log"
    return len(log.read_text().splitlines()) if log.exists() else 0


def quiet(line: str) -> None:
    """Take a line of the installers."""


@pytest.fixture(autouse=True)
def no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(environment.VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "cache"))


def test_the_setting_comes_before_the_variable_and_that_before_all_else(
    fake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert environment.find_python().origin == "QGIS's Python"
    monkeypatch.setenv(environment.VARIABLE, fake)
    assert environment.find_python().path == fake
    assert environment.find_python(sys.executable).path == sys.executable


@pytest.mark.skipif(sys.platform == "darwin", reason="the cache folder is elsewhere there")
def test_an_own_environment_is_found_only_when_whole(fake: str) -> None:
    folder = environment.default_folder()
    environment.build(str(folder), quiet, fake)
    assert environment.find_python().origin == "Terrazzo's own environment"
    (folder / environment.MARKER).unlink()
    assert environment.find_python().origin == "QGIS's Python"


def test_a_setting_that_names_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="which Terrazzo's setting names"):
        environment.find_python(str(tmp_path / "nothing"))


def test_the_python_of_a_qgis_that_is_its_own_executable_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "bin" / "python3"
    python.parent.mkdir()
    python.touch()
    monkeypatch.setattr(sys, "executable", "/Applications/QGIS.app/Contents/MacOS/QGIS")
    for prefix in ("prefix", "exec_prefix", "base_prefix"):
        monkeypatch.setattr(sys, prefix, str(tmp_path))
    assert environment.qgis_python() == str(python)


def test_check_finds_nothing_missing_in_the_workers_python() -> None:
    assert environment.check(sys.executable) == {}


def test_check_names_what_is_missing_and_the_remedy_is_one_command(fake: str) -> None:
    answer = Path(fake).with_name("answer")
    too_old = '"python": "Python 3.10 or newer", "torch": "torch"'
    answer.write_text(f'{{"python": "3.9.5", "missing": {{{too_old}}}, "versions": {{}}}}')
    with pytest.raises(ResourceError, match=r"lacks Python 3.10 or newer, torch. Choose a newer Python"):
        environment.require_python(fake)
    answer.write_text('{"python": "3.11.2", "missing": {"torch": "torch", "timm": "timm"}, "versions": {}}')
    with pytest.raises(ResourceError, match=f'lacks torch, timm. Install them with: "{fake}" -m pip install -r'):
        environment.require_python(fake)


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
        environment.check(str(python))


def test_a_bare_python_runs_the_script() -> None:
    script = environment.HERE / "environment.py"
    done = subprocess.run([sys.executable, "-S", str(script), "check", "/none"], capture_output=True, text=True)
    assert done.returncode == 1 and "There is no Python /none" in done.stderr and not done.stdout


def test_a_build_is_one_installation_with_the_systems_numpy_and_is_reused(fake: str, tmp_path: Path) -> None:
    folder = tmp_path / "built"
    python = environment.build(str(folder), quiet, fake)
    assert python == str(folder / "bin" / "python") and installations(tmp_path) == 1
    assert environment.build(str(folder), quiet, fake) == python and installations(tmp_path) == 1
    assert (tmp_path / "constraints").read_text() == "numpy==1.24.2"


def test_a_numpy_that_is_too_old_gives_way_to_a_later_one_for_which_gdal_was_not_compiled_anew(
    fake: str, tmp_path: Path
) -> None:
    missing = '{"numpy": "numpy 1.23.2 or newer (it has 1.21.5)"}'
    Path(fake).with_name("answer").write_text(
        f'{{"python": "3.10.12", "missing": {missing}, "versions": {{"numpy": "1.21.5"}}}}'
    )
    environment.build(str(tmp_path / "built"), quiet, fake)
    assert (tmp_path / "constraints").read_text() == "numpy<2"


def test_another_requirement_or_another_numpy_builds_anew(
    fake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(tmp_path / "built")
    environment.build(folder, quiet, fake)
    changed = tmp_path / "requirements.txt"
    changed.write_text("torch")
    monkeypatch.setattr(environment, "REQUIREMENTS", changed)
    environment.build(folder, quiet, fake)
    assert installations(tmp_path) == 2
    Path(fake).with_name("answer").write_text(ANSWER.replace("1.24.2", "2.1.0"))
    environment.build(folder, quiet, fake)
    assert installations(tmp_path) == 3


@pytest.mark.parametrize("broken", ["broken", "broken-imports"])
def test_an_interrupted_build_is_not_taken_for_a_whole_one(fake: str, tmp_path: Path, broken: str) -> None:
    folder = tmp_path / "built"
    (tmp_path / broken).touch()
    with pytest.raises(ResourceError, match="Building the environment failed"):
        environment.build(str(folder), quiet, fake)
    assert environment.read_marker(folder) is None
    (tmp_path / broken).unlink()
    (folder / "rest").touch()
    environment.build(str(folder), quiet, fake)
    assert environment.read_marker(folder) and not (folder / "rest").exists()


def test_whoever_listens_can_end_a_build(fake: str, tmp_path: Path) -> None:
    def stop(line: str) -> None:
        if line == "installing":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        environment.build(str(tmp_path / "built"), stop, fake)
    assert environment.read_marker(tmp_path / "built") is None


def test_a_folder_with_something_else_is_left_alone(fake: str, tmp_path: Path) -> None:
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "chapter1.txt").touch()
    with pytest.raises(InputError, match="is no Python environment"):
        environment.build(str(folder), quiet, fake)
    assert (folder / "chapter1.txt").exists()


def test_a_base_without_gdal_is_refused(fake: str, tmp_path: Path) -> None:
    missing = '{"osgeo": "osgeo", "torch": "torch"}'
    Path(fake).with_name("answer").write_text(f'{{"python": "3.11.2", "missing": {missing}, "versions": {{}}}}')
    with pytest.raises(ResourceError, match=r"lacks osgeo. Install GDAL's bindings"):
        environment.build(str(tmp_path / "built"), quiet, fake)


def test_an_own_environment_is_shut_off_from_the_users_packages(fake: str, tmp_path: Path) -> None:
    python = environment.build(str(tmp_path / "built"), quiet, fake)
    assert environment.clean_environment(python)["PYTHONNOUSERSITE"] == "1"
    assert "PYTHONNOUSERSITE" not in environment.clean_environment(fake)
