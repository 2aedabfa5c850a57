"""Which modules of the engine may import which."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from plugin.engine import probe

ROOT = Path(__file__).resolve().parents[2]
ENGINE = "plugin.engine."
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for room in ("plugin", "processing_provider")
    for path in (ROOT / room).rglob("*.py")
}


def known_to(name: str) -> set[str]:
    """The modules that one imports, also for type hints, also late."""
    package = name.split(".")
    if MODULES[name].name != "__init__.py":
        package.pop()
    found = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*package[: len(package) - node.level + 1], *(node.module or "").split(".")]
            parent = ".".join(part for part in base if part)
            names = {f"{parent}.{alias.name}" for alias in node.names}
            found |= names & MODULES.keys() or {parent}
    return found & MODULES.keys() - {name}


def test_no_import_goes_round_in_a_circle() -> None:
    left = {name: known_to(name) for name in MODULES}
    while free := [name for name, known in left.items() if not known & left.keys()]:
        for name in free:
            del left[name]
    assert not left, f"in circles, or known to such: {sorted(left)}"


def test_the_engine_knows_only_itself_and_the_plugin_only_registers_the_provider() -> None:
    def floor(name: str) -> int:
        return next(height for height, room in enumerate(("plugin.engine", "plugin", "")) if name.startswith(room))

    upwards = [(name, other) for name in MODULES for other in known_to(name) if floor(other) > floor(name)]
    assert upwards == [("plugin.main", "processing_provider.provider")]


ALONE = "its modules"  # those of a place that are in no room of it


@pytest.mark.parametrize(
    ("place", "floors", "beside"),
    [
        (
            ENGINE,
            (
                ["training", "mapping", "inspection"],
                ["assessment", "models", "chips"],
                ["reports", "rasters", "strangers", "recipe"],
            ),
            True,
        ),
        (
            f"{ENGINE}mapping.",
            ([ALONE], ["activation"], ["sources", "outputs"], ["answers"], ["pipeline"], ["reading"], ["settings"]),
            False,
        ),
    ],
)
def test_rooms_know_only_those_beneath_them(place: str, floors: tuple[list[str], ...], beside: bool) -> None:
    """And those beside them, if `beside`."""
    floor = {room: height for height, rooms in enumerate(floors) for room in rooms}

    def room_of(name: str) -> str:
        room, _, within = name.removeprefix(place).partition(".")
        return room if within or room in floor else ALONE

    here = {name for name, path in MODULES.items() if name.startswith(place) and path.name != "__init__.py"}
    assert {room_of(name) for name in here} == {ALONE, *floor}
    wrong = {
        f"{name} → {other}"
        for name in here
        for other in known_to(name) & here
        if (room := room_of(name)) in floor and (above := room_of(other)) in floor and room != above
        if floor[above] < floor[room] + (not beside)
    }
    assert sorted(wrong) == []


WORKERS_ALONE = sorted(probe.MODULES.keys() - {"osgeo", "numpy"})
WITHOUT_THEM = f"""
import importlib, sys
class Nowhere:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in {WORKERS_ALONE}:
            raise ImportError(f"{{name}} is for the worker alone")
sys.meta_path.insert(0, Nowhere())
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def test_what_qgis_knows_of_the_engine_needs_nothing_that_only_the_worker_has() -> None:
    rooms = tuple(ENGINE + room for room in ("chips.", "rasters.", "strangers.", "recipe."))
    known = {name for name in MODULES if name.startswith(rooms)}
    for name in MODULES:
        if not name.startswith(ENGINE):
            known |= {other for other in known_to(name) if other.startswith(ENGINE)}  # also what is imported late
    assert {ENGINE + name for name in ("training.early_checks", "mapping.early_checks", "jobs")} <= known
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_THEM, *sorted(known)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
