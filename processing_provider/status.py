"""Check the set-up: reports the worker's Python, PyTorch and GPU, without installing anything."""

from __future__ import annotations

from typing import Any

from qgis.core import (
    QgsProcessingContext,
    QgsProcessingOutputBoolean,
    QgsProcessingOutputDefinition,
    QgsProcessingOutputString,
)

from ..plugin.engine.config import StatusConfig
from ..plugin.engine.errors import EngineError
from ..plugin.engine.events import Reporter
from ..plugin.python_setting import python_setting
from ..plugin.translation import tr
from .algorithm import TerrazzoAlgorithm
from .parameters import Row

TEXTS = ("PYTHON", "PYTHON_VERSION", "TORCH", "TORCHVISION", "GPU", "GPU_MEMORY", "MEMORY", "MISSING")


class Status(TerrazzoAlgorithm):
    """Reports whether training and mapping can run, and what is missing if not."""

    ID = "status"
    NAME = "Check the set-up"
    TAGS = ("status", "install", "dependencies", "pytorch", "gpu", "cuda", "python", "environment", "version")
    CONFIG = StatusConfig
    GROUP = ("setup", "Setup")

    def summary(self) -> str:
        """Describe the algorithm."""
        return tr(
            "Reports the Python that training and mapping run in, its versions of PyTorch and torchvision, the GPU, "
            "the memory, and what is missing, with the command that installs it. Nothing is installed.\nPlugins ▸ "
            "Terrazzo ▸ Set up training and mapping installs what is missing, or uses a Python of your own."
        )

    def rows(self) -> list[Row]:
        """Declare no parameters."""
        return []

    def outputs(self) -> list[QgsProcessingOutputDefinition]:
        """Declare texts on what was found, and whether everything is available."""
        labels = {
            "PYTHON": tr("Python"),
            "PYTHON_VERSION": tr("Version of Python"),
            "TORCH": tr("Version of PyTorch"),
            "TORCHVISION": tr("Version of torchvision"),
            "GPU": tr("GPU"),
            "GPU_MEMORY": tr("Memory of the GPU"),
            "MEMORY": tr("Memory"),
            "MISSING": tr("What is missing"),
        }
        texts = [QgsProcessingOutputString(name, label) for name, label in labels.items()]
        return [*texts, QgsProcessingOutputBoolean("READY", tr("Whether training and mapping can run"))]

    def work(self, settings: dict[str, Any], context: QgsProcessingContext, reporter: Reporter) -> dict[str, Any]:
        """Ask the worker's Python; its problems are a result, not an error."""
        from ..plugin.engine.files import readable_size
        from ..plugin.engine.probe import OLDEST_TORCH_FOR_PTH, parse, spell
        from ..plugin.worker_process import run_job
        from ..plugin.worker_python import find_python, remedy

        try:
            interpreter = find_python(python_setting())
            reporter.log(f"Python: {interpreter.path} ({interpreter.origin})")
            found = run_job(interpreter.path, self.name(), settings, reporter)
        except EngineError as error:
            reporter.warning(str(error))
            return {**dict.fromkeys(TEXTS, ""), "MISSING": error.problem, "READY": False}
        problems = list(found["missing"].values())
        if problems:
            reporter.warning(f"Missing: {', '.join(problems)}. {remedy(interpreter, found['missing'])}")
        if found["torch_error"]:
            problems.append(f"torch, which cannot be imported ({found['torch_error']})")
            reporter.warning(f"PyTorch is installed but cannot be imported: {found['torch_error']}")
        gpus = found["gpus"]
        outputs = {
            "PYTHON": found["python"],
            "PYTHON_VERSION": found["python_version"],
            "TORCH": found["versions"].get("torch", ""),
            "TORCHVISION": found["versions"].get("torchvision", ""),
            "GPU": ", ".join(gpu["name"] for gpu in gpus),
            "GPU_MEMORY": ", ".join(readable_size(gpu["memory"]) for gpu in gpus),
            "MEMORY": readable_size(found["memory"]) if found["memory"] else "",
            "MISSING": ", ".join(problems),
            "READY": bool(found["ready"]),
        }
        memory = outputs["MEMORY"] or "unknown"
        reporter.log(f"Python {outputs['PYTHON_VERSION']}, {found['threads']} threads, memory {memory}")
        reporter.log(f"PyTorch {outputs['TORCH'] or 'missing'}, torchvision {outputs['TORCHVISION'] or 'missing'}")
        if outputs["TORCH"] and parse(outputs["TORCH"]) < OLDEST_TORCH_FOR_PTH:
            needed = spell(OLDEST_TORCH_FOR_PTH)
            reporter.log(
                f"Weights can only be read from .safetensors files: .pth files need PyTorch {needed} or newer."
            )
        reporter.log(f"GPU: {outputs['GPU'] or 'none, the processor is used'} {outputs['GPU_MEMORY']}".rstrip())
        reporter.log("Ready for training and mapping." if outputs["READY"] else "Not ready for training and mapping.")
        return outputs
