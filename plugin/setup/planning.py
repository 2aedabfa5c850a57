"""Plans an environment for this computer and the user's choices, and builds it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

from ..engine.errors import EngineError, InputError, ResourceError
from ..engine.events import Reporter
from ..engine.probe import REQUIREMENTS
from ..worker_python import SYSTEM_PYTHONS, check, clean_environment, default_folder, own_python, probe
from .bases import WITH_GDAL, Base, choose_base
from .building import PYTHONS, UV, Plan, active_python, active_recipe, build
from .machine import Machine
from .torch_builds import BUILDS, PYPI, TorchBuild, choose_build, of_package_index
from .troubles import usable_certificates

UNPACKED = 3.0  # approximate ratio of installed size to the size of the wheels


def plan_build(
    machine: Machine,
    build_name: str = "",
    wheels: Optional[Path] = None,
    folder: Optional[str] = None,
    base: str = "",
) -> Plan:
    """Plan what to build on this computer.

    Args:
        machine: This computer.
        build_name: One of `BUILDS`; empty = the one that fits this computer.
        wheels: A folder of wheels to install everything from.
        folder: Folder for environments; None = `default_folder()`.
        base: The Python to build upon; empty = the one this code runs in, otherwise the system's.

    Raises:
        InputError: The build is unknown, or the folder of wheels does not exist.
        ResourceError: There is no Python to build upon.
    """
    if build_name and build_name not in BUILDS:
        raise InputError(f'There is no build of PyTorch "{build_name}".', f"Choose one of {', '.join(BUILDS)}.")
    if wheels is not None and not wheels.is_dir():
        raise InputError(f"There is no folder of wheels {wheels}.", "Choose another folder, or leave it empty.")
    found, chosen = _find_base([base] if base else list(dict.fromkeys([own_python(), *SYSTEM_PYTHONS])), machine)
    pytorch = _choose_torch(machine, build_name, wheels)
    root = Path(folder).expanduser().absolute() if folder else default_folder(found["python"])
    recipe = {
        "requirements": hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest(),
        "base": UV if chosen.managed else chosen.python,
        "python": chosen.version,
        "numpy": chosen.numpy,
        "torch": pytorch.name,
    }
    return Plan(root, chosen, pytorch, recipe, wheels)


def _choose_torch(machine: Machine, name: str, wheels: Optional[Path]) -> TorchBuild:
    if name and name != PYPI.name:
        build = BUILDS[name]
    elif name or wheels is not None:
        build = of_package_index(machine.system)
    else:
        build = choose_build(machine).build
    if wheels is None:
        return build
    there = sum(path.stat().st_size for path in wheels.glob("*.whl")) / 1e9
    return replace(build, download=0.0, installed=UNPACKED * there)


def _find_base(candidates: list[str], machine: Machine) -> tuple[dict[str, Any], Base]:
    """Return the first Python with a usable GDAL of its own, otherwise the first that can be built upon at all."""
    complaints, second = [], None
    for python in candidates:
        if not Path(python).is_file():
            complaints.append(f"{python} does not exist")
            continue
        try:
            found = probe(python)
            base = choose_base(python, found, machine)
        except EngineError as error:
            complaints.append(error.problem.rstrip("."))
            continue
        if base.shares:
            return found, base
        second = second or (found, base)
    if second is None:
        raise ResourceError(
            f"There is no Python to build upon: {'; '.join(complaints) or 'none was found'}.",
            WITH_GDAL,
        )
    return second


def build_planned(plan: Plan, reporter: Reporter, variables: Optional[Mapping[str, str]] = None) -> str:
    """Build an environment, or reuse the active one if it has the same recipe and is complete.

    Args:
        plan: What to build.
        reporter: Receives lines and progress, and is asked whether to cancel.
        variables: Environment variables for the installers; None = those of this process.

    Returns:
        The path of the interpreter.

    Raises:
        InputError, ResourceError, Cancelled: As `building.build`.
    """
    held = active_python(plan.root)
    if held is not None and active_recipe(plan.root) == plan.recipe and not _broken(str(held)):
        reporter.log(f"The environment {held.parent.parent} is complete.")
        return str(held)
    given = os.environ if variables is None else variables
    environment = usable_certificates(clean_environment(plan.base.python, given))
    # The user's package folder is not part of the environment, and pip must never install into it.
    environment.update(PYTHONNOUSERSITE="1", PIP_USER="0", PIP_DISABLE_PIP_VERSION_CHECK="1")
    environment.update(UV_PYTHON_INSTALL_DIR=str(plan.root / PYTHONS), UV_SYSTEM_CERTS="1", UV_NATIVE_TLS="1")
    return str(build(plan, environment, reporter))


def _broken(python: str) -> bool:
    try:
        return bool(check(python))
    except ResourceError:
        return True
