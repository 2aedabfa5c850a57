"""What a Python offers to a worker, found without importing any of it.

`plugin/environment.py` runs this file by its path with any interpreter, however old or bare: standard library
only, no relative imports, nothing newer than Python 3.7.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import sys

OLDEST_PYTHON = (3, 10)
# module → the distribution that has it
MODULES = {
    "osgeo": "GDAL",
    "numpy": "numpy",
    "torch": "torch",
    "torchvision": "torchvision",
    "segmentation_models_pytorch": "segmentation-models-pytorch",
    "timm": "timm",
    "safetensors": "safetensors",
    "matplotlib": "matplotlib",
    "jinja2": "jinja2",
}


def missing() -> list[str]:
    """What this Python lacks: "Python 3.10 or newer" and names of modules; empty where it can run a worker."""
    lacking = []
    if sys.version_info < OLDEST_PYTHON:
        lacking.append(f"Python {OLDEST_PYTHON[0]}.{OLDEST_PYTHON[1]} or newer")
    return lacking + [module for module in MODULES if importlib.util.find_spec(module) is None]


def versions() -> dict[str, str]:
    """The versions of those modules that are there; "unknown" where nothing records it."""
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
    """Everything above, ready for JSON; "python" is the interpreter's version."""
    return {"python": sys.version.split()[0], "missing": missing(), "versions": versions()}


if __name__ == "__main__":
    del sys.path[0]  # the engine's folder: its files must not pass for somebody's modules
    print(json.dumps(describe()))
