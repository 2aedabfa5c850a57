"""Builds an environment beside the old one, and replaces the old one when the new one has been tested.

    ROOT/active.json      names the active environment
    ROOT/env1, env2 …     environments; one without a marker is incomplete and is removed by the next build
    ROOT/python           Pythons downloaded by uv; uv itself is in ROOT during a build

The active environment, those in which a worker runs, and the packages of QGIS are never changed.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from ..engine.errors import InputError, ResourceError
from ..engine.events import Reporter
from ..engine.files import readable_size
from ..engine.locks import Lock, read_words
from ..engine.probe import REQUIREMENTS
from .bases import GDAL_PACKAGE, Base
from .machine import free_space
from .running import InstallerFailed, Runner
from .torch_builds import TorchBuild, of_package_index
from .troubles import ELSEWHERE, find_trouble

ACTIVE = "active.json"
LOCK = "env.lock"  # exists during a build
MARKER = "terrazzo-environment.json"  # in every complete environment
IN_USE = "worker-{}.lock"  # in an environment, one file for each worker that runs in it
UV, PYTHONS = "uv", "python"
HERE = Path(__file__).resolve().parent
PROOF = HERE / "proof.py"
FALLBACK = "fallback"  # in the marker, if PyTorch came from the package index instead of the plan's own index
TORCH = ("torch", "torchvision")
TRIES = 3
OTHERS_BYTES = 150e6  # approximate download size of the packages other than PyTorch
# Positions of the steps on the progress bar.
MADE, TORCH_THERE, ALL_THERE = 0.05, 0.75, 0.92


@dataclass(frozen=True)
class Plan:
    """An environment to build.

    Attributes:
        root: The folder for its environments.
        base: The Python to build upon.
        build: The build of PyTorch.
        recipe: What identifies the result; an environment with the same recipe is reused.
        wheels: A folder of wheels to install everything from, without network.
    """

    root: Path
    base: Base
    build: TorchBuild
    recipe: dict[str, str]
    wheels: Optional[Path] = None

    @property
    def expected(self) -> TorchBuild:
        """The build that will be installed: the package index's own, if an earlier build of this plan had to use it."""
        active = active_python(self.root)
        marker = read_json(_marker(active)) if active is not None else None
        fell_back = marker == {**self.recipe, FALLBACK: True}
        return of_package_index(sys.platform) if fell_back else self.build

    @property
    def fallback(self) -> Optional[TorchBuild]:
        """The build that is installed if the one chosen cannot be downloaded; None if there is no other."""
        return None if self.build.index is None or self.wheels is not None else of_package_index(sys.platform)

    @property
    def words(self) -> str:
        """Describe what will be installed, and how much is downloaded."""
        if self.wheels is not None:
            texts = [f"PyTorch and all other packages from {self.wheels}, into {self.root}. Nothing is downloaded."]
        else:
            texts = [f"PyTorch {self.expected.words}: {self.expected.size}, in {self.root}."]
        other = self.fallback
        if other is not None and other.size != self.expected.size:
            texts.append(f"If its own server cannot be reached, PyTorch {other.words} is taken: {other.size}.")
        return " ".join([*texts, self.base.why]).rstrip()


def python_of(environment: Path) -> Path:
    """Return the interpreter of a virtual environment."""
    return environment / "Scripts" / "python.exe" if sys.platform == "win32" else environment / "bin" / "python"


def active_python(root: Path) -> Optional[Path]:
    """Return the interpreter of the active environment; None if there is none."""
    name = (read_json(root / ACTIVE) or {}).get("environment", "")
    environment = root / str(name)
    if not name or environment.parent != root or not (environment / MARKER).is_file():
        return None
    python = python_of(environment)
    return python if python.is_file() else None


def active_recipe(root: Path) -> Optional[dict[str, Any]]:
    """Return the recipe of the active environment; None if there is none."""
    python = active_python(root)
    recipe = read_json(_marker(python)) if python is not None else None
    return recipe and {name: value for name, value in recipe.items() if name != FALLBACK}


def _marker(python: Path) -> Path:
    return python.parent.parent / MARKER


def read_json(path: Path) -> Optional[dict[str, Any]]:
    """Read a small JSON file written by Terrazzo; None if it is missing or not an object."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def build(plan: Plan, environment: dict[str, str], reporter: Reporter) -> Path:
    """Build an environment, test it, and make it the active one.

    Args:
        plan: What to build.
        environment: Environment variables for the installers.
        reporter: Receives lines and progress, and is asked whether to cancel.

    Returns:
        The interpreter of the environment.

    Raises:
        InputError: The folder contains something else, or another build is running there.
        ResourceError: The disk is too small, or an installer failed; an earlier environment stays active.
        Cancelled: The user cancelled the build.
    """
    try:
        plan.root.mkdir(parents=True, exist_ok=True)
        lock = Lock(plan.root / LOCK, f"process {os.getpid()}")
    except BlockingIOError as error:
        raise InputError(
            f"Another build is running in {plan.root} ({read_words(plan.root / LOCK)}).",
            "Wait for it to end, or stop it.",
        ) from error
    except OSError as error:
        trouble = find_trouble(f"{error.strerror} {error}")
        problem = trouble.problem if trouble is not None else f"{error.strerror or error}."
        remedy = trouble.remedy if trouble is not None else "Choose another folder under Advanced ▸ Folder."
        raise ResourceError(f"{plan.root} cannot be used: {problem}", remedy) from error
    try:
        return _build_alone(plan, environment, reporter)
    finally:
        lock.release()


def _build_alone(plan: Plan, environment: dict[str, str], reporter: Reporter) -> Path:
    clear_leftovers(plan.root)
    target = _claim(plan.root)
    try:
        _check_disk(plan.root, plan.build)
        builder = _Builder(plan, target, environment, reporter)
        python = builder.build()
        marker = {**plan.recipe, FALLBACK: True} if builder.fell_back else plan.recipe
        (target / MARKER).write_text(json.dumps(marker, indent=1), encoding="utf-8")
        fresh = plan.root / f"{ACTIVE}.new"
        fresh.write_text(json.dumps({"environment": target.name}), encoding="utf-8")
        fresh.replace(plan.root / ACTIVE)
    finally:
        clear_leftovers(plan.root)
    return python


def clear_leftovers(root: Path) -> None:
    """Remove incomplete environments, and those that another one has replaced.

    An environment in which a worker runs stays until the next time, with the Python that uv downloaded for it.
    """
    held = active_python(root)
    managed = False
    for folder in root.glob("env*"):
        if not folder.is_dir() or folder.is_symlink():
            continue
        if (held is not None and folder == held.parent.parent) or _is_used(folder):
            managed = managed or (read_json(folder / MARKER) or {}).get("base") == UV
        else:
            (folder / MARKER).unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
    for name in (UV,) if managed else (UV, PYTHONS):
        shutil.rmtree(root / name, ignore_errors=True)


@contextmanager
def in_use(python: str) -> Iterator[None]:
    """Keep an environment of Terrazzo from being removed while a worker runs in it.

    Args:
        python: The worker's interpreter; nothing is done if it is not in such an environment.
    """
    environment = Path(python).parent.parent
    lock = None
    if (environment / MARKER).is_file():
        try:
            lock = Lock(environment / IN_USE.format(uuid.uuid4().hex), f"process {os.getpid()}")
        except OSError:
            pass  # without the right to write there, nothing can be removed there either
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


def _is_used(environment: Path) -> bool:
    for path in environment.glob(IN_USE.format("*")):
        try:
            Lock(path, "").release()  # also removes the lock of a killed process
        except BlockingIOError:
            return True
        except OSError:
            pass
    return False


def _claim(root: Path) -> Path:
    """Create the folder of a new environment; its name is short because paths in it are long."""
    strange = [path.name for path in root.iterdir() if not path.name.startswith(("env", ACTIVE, UV, PYTHONS))]
    if strange:
        raise InputError(
            f"{root} contains something that is not an environment of Terrazzo ({strange[0]}).",
            "Choose an empty or new folder.",
        )
    for number in range(1, 1000):
        try:
            (root / f"env{number}").mkdir()
            return root / f"env{number}"
        except FileExistsError:
            continue
    raise ResourceError(f"{root} has too many old environments.", "Remove them by hand, and try again.")


def _check_disk(root: Path, build: TorchBuild) -> None:
    needed = build.installed * 1e9
    free = free_space(root)
    if free < needed * 1.1:
        raise ResourceError(
            f"The disk of {root} has {readable_size(free)} free, but the environment needs about "
            f"{readable_size(needed)}.",
            f"Free some disk space, or {ELSEWHERE}.",
        )


class _Builder:
    """A build in progress."""

    def __init__(self, plan: Plan, target: Path, environment: dict[str, str], reporter: Reporter) -> None:
        self.plan, self.target, self.reporter = plan, target, reporter
        self.python = python_of(target)
        self.fell_back = False  # whether PyTorch came from the package index instead of the plan's own index
        self.runner = Runner(environment, reporter, self._downloaded, self._unpacking)

    def build(self) -> Path:
        """Create, fill and test the environment."""
        plan = self.plan
        self._enter(0.0, MADE, "Creating the environment")
        self._make()
        self._install_torch()
        self._enter(TORCH_THERE, ALL_THERE, "Installing the other packages", OTHERS_BYTES)
        others = ["-r", str(REQUIREMENTS)]
        if not plan.base.shares:
            others.append(GDAL_PACKAGE)
        self._pip(others, "The packages could not be installed")
        self._enter(ALL_THERE, 1.0, "Testing it")
        self.runner.run([str(self.python), str(PROOF)], "The new environment does not work")
        self.reporter.progress(1.0, "Done")
        return self.python

    def _make(self) -> None:
        base = self.plan.base
        # venv creates the folder again; it was only made to claim the name.
        if base.managed:
            uv = self._bring_uv()
            command = [uv, "venv", "--clear", "--python", base.version, "--managed-python", str(self.target)]
            self.runner.run(command, "uv could not install a Python", TRIES)
            # With ensurepip, because uv would download pip from the package index even if wheels are to be used.
            self.runner.run([str(self.python), "-m", "ensurepip"], "pip could not be installed")
        else:
            shared = ["--system-site-packages"] if base.shares else []
            self.runner.run(
                [base.python, "-m", "venv", *shared, str(self.target)], "The environment could not be created"
            )
        if self.plan.wheels is None:
            # An old pip knows neither the system's trust store nor how to resume a download.
            self._pip(["--upgrade", "pip"], "pip could not be updated")

    def _bring_uv(self) -> str:
        folder = self.plan.root / UV
        install = [self.plan.base.python, "-m", "pip", "install", "--upgrade", "--no-input", *self._offline()]
        self.runner.run([*install, "--target", str(folder), "uv"], "uv could not be installed", TRIES)
        return str(folder / "bin" / ("uv.exe" if sys.platform == "win32" else "uv"))

    def _install_torch(self) -> None:
        pair = [line for line in requirement_lines() if line.split(">")[0].split("=")[0].strip() in TORCH]
        failed = "PyTorch could not be installed"
        build, other = self.plan.build, self.plan.fallback
        self._enter_torch(build, f" ({build.download:g} GB)" if build.download else "")
        if build.index is None or other is None:
            self._pip(pair, failed)
            return
        try:
            self._pip([*pair, "--index-url", build.index], failed)
        except InstallerFailed as error:
            if error.trouble is not None and error.trouble.local:
                raise
            _check_disk(self.plan.root, other)
            # Downloads may cost money, so both sizes are said before, and stay in sight.
            self.reporter.log(
                f"{error.problem} PyTorch {other.words} is downloaded instead: {other.size}. From {build.index}, it "
                f"would have been {build.size}. Cancel if that is too much."
            )
            self._enter_torch(other, f" {other.words} ({other.download:g} GB instead of {build.download:g} GB)")
            self._pip(pair, f"{failed}, neither from {build.index} nor from the package index")
            self.fell_back = True

    def _enter_torch(self, build: TorchBuild, words: str) -> None:
        self._enter(MADE, TORCH_THERE, f"Installing PyTorch{words}", build.download * 1e9)

    def _pip(self, what: list[str], failed: str) -> None:
        command = [str(self.python), "-m", "pip", "install", "--no-input", "--retries", "5", "--timeout", "30"]
        command += ["--progress-bar", "raw" if self._raw_progress() else "off"]
        pinned = self.plan.base.numpy
        if pinned:
            constraints = self.target / "constraints.txt"
            constraints.write_text(pinned, encoding="utf-8")
            command += ["-c", str(constraints)]
        self.runner.run([*command, *self._offline(), *what], failed, TRIES)

    def _offline(self) -> list[str]:
        return ["--no-index", "--find-links", str(self.plan.wheels)] if self.plan.wheels is not None else []

    def _raw_progress(self) -> bool:
        """Return whether the environment's pip can report its progress in numbers (24.1 and newer)."""
        found = list(self.target.glob("[Ll]ib/**/site-packages/pip-*.dist-info"))
        versions = [tuple(int(part) for part in path.name[4:-10].split(".")[:2] if part.isdigit()) for path in found]
        return bool(versions) and max(versions) >= (24, 1)

    def _enter(self, start: float, end: float, text: str, expected: float = 0.0) -> None:
        """Begin a step from `start` to `end` of the progress bar, which downloads about `expected` bytes."""
        self.start, self.end, self.text, self.expected = start, end, text, expected
        self.begun, self.files, self.last = time.monotonic(), 0, (0, 0)
        self.reporter.progress(start, text)

    def _downloaded(self, done: int, total: int) -> None:
        """Advance the bar by the bytes downloaded: those of this file and of the files before it."""
        if done < self.last[0] or total != self.last[1]:  # a new file
            self.files += self.last[1]
        self.last = (done, total)
        share = min(1.0, (self.files + done) / max(self.expected, self.files + total))
        spent = time.monotonic() - self.begun
        # not yet a good estimate at the beginning
        left = spent * (1 - share) / share if share > 0.02 and spent > 3 else None
        self.reporter.progress(self.start + (self.end - self.start) * share, self.text, left)

    def _unpacking(self) -> None:
        """Report that a download has ended, because unpacking it takes minutes, for which there is no estimate."""
        if self.expected:
            self.reporter.progress(self.end, f"{self.text}: unpacking")


def requirement_lines() -> list[str]:
    """Return the requirements without comments."""
    lines = (line.split("#")[0].strip() for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]
