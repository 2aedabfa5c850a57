"""Makes the plugin importable as in QGIS, whatever the name of the checkout's folder."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
# `synthetic` and other helpers; and `plugin.engine`, the engine's name in the worker.
sys.path[:0] = [str(TESTS), str(ROOT)]


def _load_as(name: str) -> None:
    spec = importlib.util.spec_from_file_location(name, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


if "terrazzo" not in sys.modules and (ROOT / "__init__.py").exists():
    _load_as("terrazzo")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real imagery that may lie beside the checkout."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("there is no folder of real imagery (../shared/data) beside this checkout")
    return folder


@pytest.fixture(scope="session")
def reads_pth() -> None:
    """Nothing, where the installed PyTorch is trusted with files of its own format."""
    import torch

    from plugin.engine.probe import OLDEST_TORCH_FOR_PTH, parse

    if parse(torch.__version__) < OLDEST_TORCH_FOR_PTH:
        pytest.skip(f"PyTorch {torch.__version__} is too old to be trusted with .pth files")


@pytest.fixture(scope="session")
def shared_weights() -> Path:
    """The folder of real pretrained weights that may lie beside the checkout."""
    folder = ROOT.parent / "shared" / "weights"
    if not folder.is_dir():
        pytest.skip("there is no folder of real weights (../shared/weights) beside this checkout")
    return folder
