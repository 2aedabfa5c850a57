"""The builds of PyTorch: which one suits a computer, its size, and where it is downloaded from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from .machine import Machine

PYTORCH = "https://download.pytorch.org/whl"


@dataclass(frozen=True)
class TorchBuild:
    """A build of PyTorch.

    Attributes:
        name: PyTorch's name for it (cpu, cu126 …); pypi is the package index's own.
        index: Where it is downloaded from; None for the package index.
        download, installed: Approximate size in gigabytes, with all other packages of a worker.
        words: Description for the user.
    """

    name: str
    index: Optional[str]
    download: float
    installed: float
    words: str

    @property
    def size(self) -> str:
        """Describe its size."""
        return f"about {self.download:g} GB to download, {self.installed:g} GB on the disk"


CPU = TorchBuild("cpu", f"{PYTORCH}/cpu", 0.5, 1.7, "for the processor")
CUDA12 = TorchBuild("cu126", f"{PYTORCH}/cu126", 3.0, 6.0, "for the graphics card, CUDA 12.6")
CUDA13 = TorchBuild("cu130", f"{PYTORCH}/cu130", 2.7, 5.6, "for the graphics card, CUDA 13.0")
# For CUDA on Linux; for the processor on Windows; for processor and graphics on macOS.
PYPI = TorchBuild("pypi", None, 3.0, 6.0, "from the package index")
WINDOWS = TorchBuild("pypi", None, 0.5, 1.7, "for the processor, from the package index")
MAC = TorchBuild("pypi", None, 0.4, 1.4, "for this Mac")
BUILDS = {build.name: build for build in (CPU, CUDA12, CUDA13, PYPI)}

# CUDA 13 needs this driver and a card of the Turing generation or newer; CUDA 12 runs with any driver of its major
# version (CUDA's release notes, "minor version compatibility") and cards from Maxwell on. A Blackwell card needs
# CUDA 12.8 or newer, which of these is CUDA 13.
CUDA13_DRIVER, CUDA13_CARD = (580,), (7, 5)
CUDA12_DRIVER, CUDA12_CARD = (525,), (5, 0)
BLACKWELL = (10, 0)


@dataclass(frozen=True)
class Choice:
    """A build, and a sentence on why no better one can be used; "" if there is no reason."""

    build: TorchBuild
    note: str = ""


def of_package_index(system: str) -> TorchBuild:
    """Return the package index's own build for a system, named as in `sys.platform`."""
    return {"win32": WINDOWS, "darwin": MAC}.get(system, PYPI)


def choose_build(machine: Machine) -> Choice:
    """Return the build that suits a computer: with CUDA if card and driver support it, otherwise the smallest."""
    if machine.system == "darwin":
        return Choice(of_package_index(machine.system))
    gpu = machine.gpu
    if gpu is None:
        return Choice(CPU)
    card = gpu.capability or CUDA12_CARD
    if gpu.driver >= CUDA13_DRIVER and card >= CUDA13_CARD:
        return Choice(CUDA13)
    if card >= BLACKWELL:
        return Choice(CPU, _update(gpu.name, gpu.driver, CUDA13_DRIVER))
    if card < CUDA12_CARD:
        return Choice(CPU, f"{gpu.name} is too old for current versions of PyTorch: training runs on the processor.")
    if gpu.driver >= CUDA12_DRIVER:
        return Choice(CUDA12)
    return Choice(CPU, _update(gpu.name, gpu.driver, CUDA12_DRIVER))


def _update(name: str, driver: tuple[int, ...], needed: tuple[int, ...]) -> str:
    return (
        f"The driver {'.'.join(map(str, driver))} of {name} is too old. Install driver {needed[0]} or newer, and "
        "run the set-up again; until then, training runs on the processor."
    )
