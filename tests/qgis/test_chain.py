"""From layers to a styled map through the worker: headless, as a saved model, and when things go wrong."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest
from conftest import BOTTOM, LEFT, Listener, leftovers, said
from osgeo import gdal
from qgis.core import (
    QgsApplication,
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransformContext,
    QgsDistanceArea,
    QgsGeometry,
    QgsPalettedRasterRenderer,
    QgsProcessingAlgRunnerTask,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingModelAlgorithm,
    QgsProcessingModelChildParameterSource,
    QgsProcessingOutputLayerDefinition,
    QgsProcessingUtils,
    QgsProject,
    QgsRasterLayer,
    QgsVectorFileWriter,
    QgsVectorLayer,
)

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "resources" / "models" / "chips_to_map.model3"
QUICK = {"ENCODER": "mobilenet_v3_small", "EPOCHS": 1, "DEVICE": "cpu"}


@pytest.fixture(scope="module")
def chain(qgis_process, worker_python, scene, tmp_path_factory):
    """What the three steps give when `qgis_process` runs them one after the other."""
    folder = tmp_path_factory.mktemp("chain")
    chips = qgis_process("terrazzo:exportchips", INPUT=scene[0], LABEL_RASTERS=scene[1], CHIP_SIZE=64,
                         OUTPUT=folder / "chips")  # fmt: skip
    model = qgis_process("terrazzo:trainsegmenter", CHIPS=chips["OUTPUT"], **QUICK,
                         OUTPUT=folder / "model.safetensors", REPORT=folder / "report.html")  # fmt: skip
    mapped = qgis_process("terrazzo:segmentraster", INPUT=scene[0], MODEL=model["OUTPUT"], DEVICE="cpu",
                          OUTPUT=folder / "map.tif", PROBABILITIES=folder / "probabilities.tif")  # fmt: skip
    return {"chips": chips, "model": model, "map": mapped}


def test_headless_steps_give_all_their_outputs(chain):
    assert chain["chips"]["CHIPS_COUNT"] == 20
    assert chain["model"]["BEST_EPOCH"] == 1
    assert 0 < chain["model"]["TEST_OVERALL_ACCURACY"] <= 1
    assert 0 < chain["model"]["VALIDATION_MEAN_IOU"] <= 1
    for path in (chain["model"]["OUTPUT"], chain["model"]["REPORT"], chain["map"]["OUTPUT"]):
        assert Path(path).is_file(), path
    probabilities = gdal.Open(chain["map"]["PROBABILITIES"])
    assert probabilities.RasterCount == 3


def test_the_map_opens_in_the_names_and_colours_of_the_labels(chain, provider):
    layer = QgsRasterLayer(chain["map"]["OUTPUT"], "map")
    assert (layer.width(), layer.height()) == (320, 256)
    assert isinstance(layer.renderer(), QgsPalettedRasterRenderer)
    shown = {entry.value: (entry.label, entry.color.name()) for entry in layer.renderer().classes()}
    assert shown == {1: ("water", "#3366cc"), 2: ("field", "#cccc33"), 3: ("forest", "#116622")}


def test_without_the_style_beside_it_a_map_keeps_names_and_colours(chain, provider, tmp_path):
    path = Path(chain["map"]["OUTPUT"])
    for name in (path.name, f"{path.name}.aux.xml"):
        (tmp_path / name).write_bytes(path.with_name(name).read_bytes())
    layer = QgsRasterLayer(str(tmp_path / path.name), "map")
    shown = {entry.value: (entry.label, entry.color.name()) for entry in layer.dataProvider().colorTable(1)}
    assert [shown[value] for value in (1, 2, 3)] == [("water", "#3366cc"), ("field", "#cccc33"), ("forest", "#116622")]


def test_a_map_in_the_project_is_called_by_image_and_model(chain, provider, scene, tmp_path):
    import processing

    project, before = QgsProject.instance(), set(QgsProject.instance().mapLayers())
    given = {"INPUT": scene[0], "MODEL": chain["model"]["OUTPUT"], "DEVICE": "cpu", "OUTPUT": str(tmp_path / "a.tif"),
             "PROBABILITIES": str(tmp_path / "b.tif")}  # fmt: skip
    try:
        processing.runAndLoadResults("terrazzo:segmentraster", given, feedback=Listener())
        names = {layer.name() for key, layer in project.mapLayers().items() if key not in before}
        assert names == {"image: model", "image: model, probabilities"}
    finally:
        project.removeMapLayers([key for key in project.mapLayers() if key not in before])


def halves(folder, image):
    """The left and the right half of an image, in a folder of their own."""
    folder.mkdir()
    for name, start in (("left", 0), ("right", 160)):
        gdal.Translate(str(folder / f"{name}.tif"), image, srcWin=[start, 0, 160, 256])
    return str(folder / "left.tif"), str(folder / "right.tif")


def test_several_images_become_one_map_or_one_each_in_the_project(chain, provider, scene, tmp_path):
    import processing

    project, before = QgsProject.instance(), set(QgsProject.instance().mapLayers())
    left, right = halves(tmp_path / "images", scene[0])
    usual = {"MODEL": chain["model"]["OUTPUT"], "DEVICE": "cpu", "OUTPUT": str(tmp_path / "map.tif")}
    one = processing.run("terrazzo:segmentraster", {**usual, "INPUT": left, "MORE_IMAGES": [right]})
    mapped = gdal.Open(one["OUTPUT"])
    assert (mapped.RasterXSize, mapped.RasterYSize) == (320, 256)
    wanted = {**usual, "INPUT_FOLDER": str(tmp_path / "images"), "COMBINE": "separate",
              "OUTPUT": str(tmp_path / "m.tif"), "CONFIDENCE": str(tmp_path / "sure.tif")}  # fmt: skip
    try:
        found = processing.runAndLoadResults("terrazzo:segmentraster", wanted, feedback=Listener())
        layers = {layer.name(): layer for key, layer in project.mapLayers().items() if key not in before}
        names = {f"{name}: model{what}" for name in ("left", "right") for what in ("", ", confidence")}
        assert set(layers) == names and all(layer.isValid() for layer in layers.values())
        assert isinstance(layers["right: model"].renderer(), QgsPalettedRasterRenderer)
    finally:
        project.removeMapLayers([key for key in project.mapLayers() if key not in before])
    assert found["OUTPUT"] == str(tmp_path / "m_left.tif") and found["POLYGONS"] is None
    for name in ("m_left", "m_right", "sure_left", "sure_right"):
        assert gdal.Open(str(tmp_path / f"{name}.tif")).RasterXSize == 160
    assert sum(json.loads(found["CLASS_PIXELS"]).values()) == sum(json.loads(one["CLASS_PIXELS"]).values()) == 320 * 256
    assert found["HECTARES"] == pytest.approx(one["HECTARES"], rel=1e-4)
    heard = Listener()
    assert processing.run("terrazzo:segmentraster", {**wanted, "RESUME": True}, feedback=heard) == found
    assert sum("is there already, made by the same job, and is kept" in text for text in heard.infos) == 2


def test_several_images_need_one_way_of_naming_them(chain, provider, scene, tmp_path):
    import processing

    halves(tmp_path / "images", scene[0])
    usual = {"MODEL": chain["model"]["OUTPUT"], "OUTPUT": str(tmp_path / "m.tif")}
    for given, problem in (({}, "No image is given"), ({"INPUT": scene[0]}, "are both given")):
        folder = {"INPUT_FOLDER": str(tmp_path / "images")} if given else {}
        with pytest.raises(QgsProcessingException, match=problem):
            processing.run("terrazzo:segmentraster", {**usual, **given, **folder}, feedback=Listener())


def test_a_folder_of_images_is_mapped_headless(qgis_process, chain, scene, tmp_path):
    halves(tmp_path / "images", scene[0])
    found = qgis_process("terrazzo:segmentraster", INPUT_FOLDER=tmp_path / "images", MODEL=chain["model"]["OUTPUT"],
                         OUTPUT=tmp_path / "map.tif", DEVICE="cpu")  # fmt: skip
    assert found["OUTPUT"] == str(tmp_path / "map.tif")


def test_the_saved_model_is_valid(provider):
    model = QgsProcessingModelAlgorithm()
    assert model.fromFile(str(MODEL))
    assert model.validate() == (True, [])


def test_steps_of_a_model_run_on_a_background_thread(provider, scene, land, tmp_path):
    model = QgsProcessingModelAlgorithm()
    assert model.fromFile(str(MODEL))
    for name in ("train", "map"):
        child = model.childAlgorithm(name)
        child.setActive(False)
        model.setChildAlgorithm(child)
    export = model.childAlgorithm("export")
    static = QgsProcessingModelChildParameterSource.fromStaticValue
    export.addParameterSources("OUTPUT", [static(str(tmp_path / "chips"))])
    model.setChildAlgorithm(export)
    parameters = {"IMAGE": scene[0], "MAP_IMAGE": scene[0], "LABELS": land, "CLASS_FIELD": "class"}
    run_as_task(model, parameters, QgsProcessingContext())
    assert json.loads((tmp_path / "chips" / "dataset.json").read_text())["chip_size"] == 64


def test_the_saved_model_runs_headless(qgis_process, worker_python, scene, land, tmp_path):
    options = QgsVectorFileWriter.SaveVectorOptions()
    options.driverName = "GPKG"
    QgsVectorFileWriter.writeAsVectorFormatV3(land, str(tmp_path / "land.gpkg"), land.transformContext(), options)
    found = qgis_process(str(MODEL), IMAGE=scene[0], MAP_IMAGE=scene[0], LABELS=tmp_path / "land.gpkg",
                         CLASS_FIELD="class", EPOCHS=1,
                         **{"map:Class raster": tmp_path / "map.tif",
                            "train:Model file": tmp_path / "model.safetensors"},
                         )  # fmt: skip
    assert found["map:Class raster"] == str(tmp_path / "map.tif")
    assert Path(found["train:Model file"]).is_file()


def run_as_task(algorithm, parameters, context):
    """Run an algorithm as the Toolbox does: on a background thread."""
    listener, ended = Listener(), []
    task = QgsProcessingAlgRunnerTask(algorithm, parameters, context, listener)
    task.executed.connect(lambda fine, results: ended.append((fine, results)))
    QgsApplication.taskManager().addTask(task)
    while not ended:
        QgsApplication.processEvents()
    assert ended[0][0], listener.warnings
    return ended[0][1]


def test_a_map_of_a_part_is_added_to_the_project(provider, chain, scene, land, tmp_path):
    context = QgsProcessingContext()
    context.setProject(QgsProject.instance())
    extent = f"{LEFT},{LEFT + 100},{BOTTOM},{BOTTOM + 50} [EPSG:32633]"
    output = QgsProcessingOutputLayerDefinition(str(tmp_path / "map.tif"), QgsProject.instance())
    parameters = {"INPUT": scene[0], "MODEL": chain["model"]["OUTPUT"], "EXTENT": extent, "AREA": land,
                  "OUTPUT": output}  # fmt: skip
    found = run_as_task(provider.algorithm("segmentraster").create(), parameters, context)
    assert list(context.layersToLoadOnCompletion()) == [found["OUTPUT"]]
    layer = QgsProcessingUtils.mapLayerFromString(found["OUTPUT"], context)
    details = context.layerToLoadOnCompletionDetails(found["OUTPUT"])
    details.postProcessor().postProcessLayer(layer, context, Listener())
    assert [entry.label for entry in layer.renderer().classes()] == ["water", "field", "forest"]
    assert layer.extent().toString(0) == f"{LEFT:.0f},{BOTTOM:.0f} : {LEFT + 100:.0f},{BOTTOM + 50:.0f}"
    assert found["PROBABILITIES"] is None


@pytest.mark.parametrize(
    ("algorithm", "change", "words"),
    [
        ("trainsegmenter", {"CHIPS": "/no/such/folder"}, "is not a chip dataset"),
        ("segmentraster", {"MODEL": "/no/model.safetensors"}, "There is no model file"),
        ("segmentraster", {"MODEL": __file__}, "is not a model file of Terrazzo"),
        ("segmentraster", {"MODEL": "truncated"}, "is truncated"),
        ("segmentraster", {"BANDS": "1,2"}, "BANDS has 2 bands, but the model needs 3: red, green, blue"),
        ("segmentraster", {"OUTPUT": "/proc/nothing/map.tif"}, "cannot be written"),
    ],
)
def test_bad_input_to_the_worker_is_refused_in_words(
    provider, run, chain, dataset, scene, tmp_path, algorithm, change, words
):
    output = tmp_path / "out"
    output.mkdir()
    given = {
        "trainsegmenter": {"CHIPS": dataset, **QUICK, "OUTPUT": str(output / "model.safetensors")},
        "segmentraster": {"INPUT": scene[0], "MODEL": chain["model"]["OUTPUT"], "OUTPUT": str(output / "map.tif")},
    }[algorithm]
    if change.get("MODEL") == "truncated":
        change = {"MODEL": str(tmp_path / "short.safetensors")}
        Path(change["MODEL"]).write_bytes(Path(given["MODEL"]).read_bytes()[:-1000])
    with pytest.raises(QgsProcessingException) as error:
        run(algorithm, **{**given, **change})
    assert said(provider, algorithm, words) in str(error.value)
    assert leftovers(output) == []


def workers() -> list[int]:
    """The process ids of this process's workers."""
    # Read from /proc, because ps is not on every machine. A process that ends meanwhile takes its files along.
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            text, command = status.read_text(), status.with_name("cmdline").read_text()
        except OSError:
            continue
        if f"PPid:\t{os.getpid()}\n" in text and "plugin.engine.worker" in command:
            found.append(int(status.parent.name))
    return found


def kill_workers() -> None:
    for worker in workers():
        os.kill(worker, signal.SIGKILL)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("algorithm", ["trainsegmenter", "segmentraster"])
def test_a_killed_worker_gives_one_message_and_leaves_earlier_files_whole(
    run, chain, dataset, scene, tmp_path, algorithm
):
    earlier = {"trainsegmenter": tmp_path / "model.safetensors", "segmentraster": tmp_path / "map.tif"}[algorithm]
    earlier.write_text("from an earlier run")
    given = {
        "trainsegmenter": {"CHIPS": dataset, **{**QUICK, "EPOCHS": 50}},
        "segmentraster": {"INPUT": scene[0], "MODEL": chain["model"]["OUTPUT"], "TILE_SIZE": 32},
    }[algorithm]
    killed = []

    def kill(text):
        # The first text comes before the work, the second in the middle of it.
        if not killed and ("epoch" in text.lower() or algorithm == "segmentraster"):
            killed.extend(workers())
            kill_workers()

    with pytest.raises(QgsProcessingException) as error:
        run(algorithm, Listener(on_text=kill), **given, OUTPUT=str(earlier))
    assert killed and workers() == []
    assert "worker" in str(error.value) and "Traceback" not in str(error.value)
    assert leftovers(tmp_path) == [earlier.name]
    assert earlier.read_text() == "from an earlier run"


def test_cancelling_a_training_ends_the_worker_and_leaves_nothing(
    provider, worker_python, dataset, tmp_path, monkeypatch
):
    listener = Listener(on_text=lambda text: listener.cancel() if "epoch" in text.lower() else None)
    parameters = {"CHIPS": dataset, **QUICK, "EPOCHS": 50, "OUTPUT": str(tmp_path / "model.safetensors")}
    found, _ = provider.algorithm("trainsegmenter").create().run(parameters, QgsProcessingContext(), listener)
    assert found == {}
    assert workers() == [] and leftovers(tmp_path) == []


def test_a_python_without_torch_is_named_before_any_work(run, dataset, tmp_path, monkeypatch, bare_python):
    monkeypatch.setenv("TERRAZZO_PYTHON", bare_python)
    with pytest.raises(QgsProcessingException, match=r"lacks .*torch") as error:
        run("trainsegmenter", CHIPS=dataset, OUTPUT=str(tmp_path / "model.safetensors"))
    assert 'environment.py" build' in str(error.value)
    assert leftovers(tmp_path) == []


def test_status_tells_what_is_there(run, worker_python):
    found = run("status")
    assert found["READY"] is True and not found["MISSING"]
    assert found["PYTHON_VERSION"].startswith("3.") and found["TORCH"] and found["TORCHVISION"] and found["MEMORY"]


def test_status_succeeds_where_torch_is_missing_and_says_so(run, bare_python, monkeypatch):
    monkeypatch.setenv("TERRAZZO_PYTHON", bare_python)
    listener = Listener()
    found = run("status", listener)
    assert found["READY"] is False and "torch" in found["MISSING"] and not found["TORCH"]
    assert any("environment.py" in text for text in listener.warnings)


def test_status_succeeds_where_there_is_no_python_at_all(run, monkeypatch):
    monkeypatch.setenv("TERRAZZO_PYTHON", "/no/python")
    found = run("status")
    assert found["READY"] is False and "The Python /no/python" in found["MISSING"]


def test_areas_are_a_table_and_numbers_of_the_ground_as_qgis_measures_it(chain, run, scene, tmp_path):
    """In a geographic CRS, against QGIS's own areas on the ellipsoid, of the raster's pixels and of the polygons."""
    image = str(tmp_path / "degrees.tif")
    gdal.Warp(image, scene[0], dstSRS="EPSG:4326")
    files = {"OUTPUT": "map.tif", "POLYGONS": "p.gpkg", "AREAS": "a.gpkg"}
    found = run("segmentraster", INPUT=image, MODEL=chain["model"]["OUTPUT"], DEVICE="cpu",
                **{name: str(tmp_path / file) for name, file in files.items()})  # fmt: skip
    table = QgsVectorLayer(found["AREAS"], "areas")
    assert [field.name() for field in table.fields()] == ["fid", "value", "class", "pixels", "share", "hectares"]
    rows = {row["class"]: row["hectares"] for row in table.getFeatures()}
    pixels = json.loads(found["CLASS_PIXELS"])
    assert json.loads(found["CLASS_HECTARES"]) == pytest.approx(rows) and set(pixels) == set(rows)
    assert found["HECTARES"] == pytest.approx(sum(rows.values()))
    measure = QgsDistanceArea()
    measure.setSourceCrs(QgsCoordinateReferenceSystem("EPSG:4326"), QgsCoordinateTransformContext())
    assert measure.setEllipsoid("EPSG:7030")
    layer = QgsRasterLayer(found["OUTPUT"], "map")
    whole = measure.measureArea(QgsGeometry.fromRect(layer.extent())) / 1e4
    share = sum(pixels.values()) / (layer.width() * layer.height())
    assert found["HECTARES"] == pytest.approx(whole * share, rel=1e-4)
    regions: dict = {}
    for row in QgsVectorLayer(f"{found['POLYGONS']}|layername=polygons", "regions").getFeatures():
        regions[row["class"]] = regions.get(row["class"], 0) + measure.measureArea(row.geometry()) / 1e4
    assert regions == pytest.approx({name: size for name, size in rows.items() if size}, rel=1e-5)


def test_torch_was_never_imported_into_qgis(chain):
    assert "torch" not in sys.modules


def test_an_ensemble_and_test_time_augmentation_run_headless(chain, qgis_process, worker_python, scene, tmp_path):
    other = tmp_path / "other.safetensors"
    other.write_bytes(Path(chain["model"]["OUTPUT"]).read_bytes())
    found = qgis_process("terrazzo:segmentraster", INPUT=scene[0], MODEL=chain["model"]["OUTPUT"], ENSEMBLE=other,
                         TEST_TIME_AUGMENTATION="mirror", TEST_TIME_SCALES="1,0.75", DEVICE="cpu",
                         OUTPUT=tmp_path / "map.tif", DISAGREEMENT=tmp_path / "disagreement.tif")  # fmt: skip
    # The same weights twice agree with each other.
    assert gdal.Open(found["DISAGREEMENT"]).ReadAsArray().max() < 1e-5
    assert gdal.Open(found["OUTPUT"]).RasterXSize == 320
