"""What a Python interpreter offers to a worker, found without imports, and the versions that a worker needs.

`plugin/worker_python.py` runs this file with any interpreter, however old: only the standard library, no relative
imports, nothing newer than Python 3.7.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import re
import sys
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements.txt"  # has the minimum versions of all but these
OLDEST_PYTHON = (3, 10)
# With torch.load(weights_only=True), untrusted files can run code before 2.6 (CVE-2025-32434), and write out of bounds
# before 2.10 (CVE-2026-24747).
OLDEST_TORCH_FOR_PTH = (2, 10)
# Module → distribution.
MODULES = {
    "osgeo": "GDAL",
    "numpy": "numpy",
    "torch": "torch",
    "torchvision": "torchvision",
    "segmentation_models_pytorch": "segmentation-models-pytorch",
    "timm": "timm",
    "safetensors": "safetensors",
    "torchinfo": "torchinfo",
    "matplotlib": "matplotlib",
    "jinja2": "jinja2",
}


def missing() -> dict[str, str]:
    """What this Python lacks: "python" or a module → description; empty if it can run a worker."""
    lacking = {}
    if sys.version_info < OLDEST_PYTHON:
        lacking["python"] = f"Python {spell(OLDEST_PYTHON)} or newer"
    found, lowest = versions(), lowest_versions()
    for module, distribution in MODULES.items():
        if module not in found:
            lacking[module] = module
        elif distribution in lowest and parse(found[module]) < lowest[distribution]:
            lacking[module] = f"{module} {spell(lowest[distribution])} or newer (it has {found[module]})"
    return lacking


def lowest_versions() -> dict[str, tuple[int, ...]]:
    """The minimum versions of the distributions in requirements.txt."""
    bounds = re.findall(r"^([\w-]+)>=([\d.]+)", REQUIREMENTS.read_text(encoding="utf-8"), re.MULTILINE)
    return {distribution: parse(version) for distribution, version in bounds}


def parse(version: str) -> tuple[int, ...]:
    """The leading numbers of a version, such as (2, 6, 0) for 2.6.0+debian.

    An unknown version counts as the newest.
    """
    numbers = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, numbers.group().split("."))) if numbers else (sys.maxsize,)


def spell(version: tuple[int, ...]) -> str:
    """A version as text."""
    return ".".join(map(str, version))


def versions() -> dict[str, str]:
    """The versions of the installed modules; "unknown" if not recorded."""
    found = {}
    for module, distribution in MODULES.items():
        if importlib.util.find_spec(module) is None:
            continue
        try:
            found[module] = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            found[module] = "unknown"
    return found


def describe() -> dict[str, object]:
    """The above as JSON values; "python" is the interpreter's version, "venv" whether it can make environments."""
    return {
        "python": sys.version.split()[0],
        "bits": 64 if sys.maxsize > 2**32 else 32,
        "venv": all(importlib.util.find_spec(name) is not None for name in ("venv", "ensurepip")),
        "missing": missing(),
        "versions": versions(),
    }


if __name__ == "__main__":
    del sys.path[0]  # the engine's folder, whose files must not shadow modules
    print(json.dumps(describe()))
