"""Fixtures for tests inside QGIS: the provider, layers made on the spot, and a Python for the worker."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

# Workers share the machine with other tests.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import synthetic
from qgis.core import QgsApplication, QgsFeature, QgsGeometry, QgsProcessingFeedback, QgsProject, QgsVectorLayer

# The ground of `synthetic.write_scene`, in metres from its lower left corner.
HEIGHT, WIDTH = 256, 320
LEFT, BOTTOM = synthetic.LEFT, synthetic.TOP - HEIGHT


STATUS = pytest.StashKey[int]()


CLASSIFIER_CHIP = 16


class Listener(QgsProcessingFeedback):
    """A feedback that keeps what it hears, and calls `on_text` with every text."""

    def __init__(self, on_text: Callable[[str], None] = lambda text: None) -> None:
        super().__init__(False)
        self.infos: list[str] = []
        self.warnings: list[str] = []
        self.texts: list[str] = []
        self.on_text = on_text

    def pushInfo(self, info: str) -> None:
        self.infos.append(info)
        self.on_text(info)

    def pushCommandInfo(self, info: str) -> None:
        self.infos.append(info)
        self.on_text(info)

    def pushWarning(self, warning: str) -> None:
        self.warnings.append(warning)

    def setProgressText(self, text: str) -> None:
        self.texts.append(text)
        self.on_text(text)


@pytest.fixture(scope="session")
def provider(qgis_app: Any, qgis_processing: None) -> Iterator[Any]:
    """The provider, registered."""
    from processing.gui import Postprocessing
    from terrazzo.processing_provider.provider import TerrazzoProvider

    # From QGIS 3.44 on results go into the layer tree of the window, of which pytest-qgis has only a double.
    Postprocessing.iface = None
    made = TerrazzoProvider()
    QgsApplication.processingRegistry().addProvider(made)
    yield made
    QgsApplication.processingRegistry().removeProvider(made)


@pytest.fixture
def run(provider: Any) -> Callable[..., dict[str, Any]]:
    """Runs an algorithm of the provider: run("exportchips", INPUT=…)."""
    import processing

    def run(name: str, feedback: Any = None, **parameters: Any) -> dict[str, Any]:
        return processing.run(f"terrazzo:{name}", parameters, feedback=feedback or Listener())

    return run


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Paths of an image of 320 × 256 pixels and its label raster."""
    return synthetic.write_scene(tmp_path_factory.mktemp("scene"))


def polygon_layer(
    squares: Sequence[tuple[Any, float, float, float, float]], kind: str = "string", epsg: int = synthetic.UTM
) -> QgsVectorLayer:
    """A memory layer with a field `class` and rectangles (class, left, bottom, right, top) in metres of the scene."""
    layer = QgsVectorLayer(f"Polygon?crs=EPSG:{epsg}&field=class:{kind}&field=note:string", "land", "memory")
    features = []
    for value, left, bottom, right, top in squares:
        feature = QgsFeature(layer.fields())
        feature.setAttributes([value, "note"])
        wkt = synthetic.rectangle(LEFT + left, BOTTOM + bottom, LEFT + right, BOTTOM + top)
        feature.setGeometry(QgsGeometry.fromWkt(wkt))
        features.append(feature)
    assert layer.dataProvider().addFeatures(features)[0]
    layer.updateExtents()
    return layer


@pytest.fixture
def land(provider: Any) -> QgsVectorLayer:
    """Three classes as texts over the whole scene."""
    return polygon_layer([("forest", 0, 0, 120, 256), ("field", 120, 0, 240, 256), ("water", 240, 0, 320, 256)])


@pytest.fixture(scope="session")
def worker_python() -> str:
    """A Python that has all a worker needs."""
    from terrazzo.plugin.engine.errors import EngineError
    from terrazzo.plugin.worker_python import require_python

    try:
        return require_python().path
    except EngineError as error:
        pytest.skip(f"no worker environment: {error}")


@pytest.fixture(scope="session")
def dataset(scene: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small chip dataset of the scene."""
    return synthetic.write_dataset(tmp_path_factory.mktemp("dataset"))


@pytest.fixture(scope="session")
def classifier(
    provider: Any, worker_python: str, scene: tuple[str, str], tmp_path_factory: pytest.TempPathFactory
) -> str:
    """A model file: a classifier of chips of `CLASSIFIER_CHIP` pixels, trained on the scene."""
    import processing

    folder = tmp_path_factory.mktemp("classifier")
    chips = {"INPUT": scene[0], "LABEL_RASTERS": scene[1], "TASK": "classification", "CHIP_SIZE": CLASSIFIER_CHIP,
             "MIN_CLASS_SHARE": 0.8, "OUTPUT": str(folder / "chips")}  # fmt: skip
    processing.run("terrazzo:exportchips", chips, feedback=Listener())
    given = {"CHIPS": str(folder / "chips"), "ARCHITECTURE": "lecture_cnn", "FILTERS": "8,8", "EPOCHS": 12,
             "DEVICE": "cpu", "OUTPUT": str(folder / "m.safetensors")}  # fmt: skip
    return processing.run("terrazzo:trainclassifier", given, feedback=Listener())["OUTPUT"]


@pytest.fixture(scope="session")
def qgis_process(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Runs `qgis_process` with the plugin enabled, from a folder of another name than the checkout's."""
    from headless import Headless

    # Debian 12's wrapper `qgis_process` passes an option that the program does not know.
    program = shutil.which("qgis_process.bin") or shutil.which("qgis_process")
    if program is None:
        pytest.skip("there is no qgis_process")
    return Headless(program, tmp_path_factory.mktemp("headless")).run


def leftovers(folder: Path) -> list[str]:
    """What lies in a folder, hidden things included."""
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="session")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python with nothing but its standard library."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    return str(folder / "bin" / "python")


@pytest.fixture(scope="module", autouse=True)
def empty_project() -> Iterator[None]:
    """Layers that a file leaves in the project are not there for the next one, whichever that is."""
    yield
    QgsProject.instance().removeAllMapLayers()


@pytest.fixture(autouse=True)
def nothing_outlives_qgis() -> Iterator[None]:
    """Objects of QGIS that wait in cycles for Python's collector would be deleted after QGIS itself, and crash."""
    yield
    gc.collect()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Remember how the tests went, for `pytest_unconfigure`."""
    session.config.stash[STATUS] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """End at once with the tests' own status: Python and QGIS are known to crash now and then while they tear down."""
    status = config.stash.get(STATUS, None)
    if status is not None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


@pytest.fixture
def project(provider):
    """The user's project, empty again afterwards."""
    yield QgsProject.instance()
    QgsProject.instance().removeAllMapLayers()


def said(provider, name, words):
    """What the engine says, as the dialog of an algorithm says it."""
    from terrazzo.processing_provider.wording import in_words_of

    return in_words_of(provider.algorithm(name), words)
