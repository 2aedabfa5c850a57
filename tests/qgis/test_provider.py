"""Ids and names that scripts and models depend on, and the cost of starting QGIS."""

import re
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest
from qgis.core import QgsApplication, QgsProcessingModelChildParameterSource, QgsProcessingParameterDefinition

EXAMPLE = "Chips to map"
ROOT = Path(__file__).resolve().parents[2]

# Ids and names are forever: a change here breaks people's scripts.
# Of all trainings; one line for each group of the recipe.
TRAINING = " ".join(
    [
        "EPOCHS BATCH_SIZE PATIENCE PRETRAINED ENCODER_WEIGHTS START_FROM DOWNLOAD_WEIGHTS MIXED_PRECISION DEVICE FOLD",
        "SEED LOSS SECOND_LOSS SECOND_LOSS_SHARE CLASS_WEIGHTS CLASS_WEIGHT_LIST EFFECTIVE_NUMBER_BETA LABEL_SMOOTHING "
        "FOCAL_GAMMA TVERSKY_ALPHA TVERSKY_BETA FOCAL_TVERSKY_GAMMA UNIFIED_FOCAL_LAMBDA UNIFIED_FOCAL_DELTA "
        "UNIFIED_FOCAL_GAMMA OHEM_SHARE SYMMETRIC_ALPHA SYMMETRIC_BETA GENERALIZED_Q HUBER_DELTA",
        "MINUTES STEPS ACCUMULATION EMA_DECAY MONITOR RECIPE TENSORBOARD RESUME CHECKPOINT_MINUTES",
        "CACHE_FOLDER COMPILE CALIBRATE DETERMINISTIC",
        "AUGMENTATION AUGMENT SCALE_JITTER ROTATION ZOOM SHIFT SHEAR ELASTIC BLUR SHARPEN GAMMA_JITTER HUE SATURATION "
        "CONTRAST BRIGHTNESS RADIOMETRIC_JITTER NOISE BAND_DROPOUT CUTOUT MIXUP CUTMIX",
        "SAMPLING BACKGROUND_SHARE BACKGROUND_CLASS",
        "UNLABELLED_CHIPS UNLABELLED_WEIGHT UNLABELLED_RAMP UNLABELLED_RATIO UNLABELLED_AUGMENTATION "
        "PSEUDO_LABEL_CONFIDENCE BASELINE",
        "OPTIMIZER LEARNING_RATE MOMENTUM WEIGHT_DECAY NESTEROV SQUARE_MOMENTUM EPSILON GRADIENT_CLIP",
        "SCHEDULE WARM_UP LOWEST_RATE DROP_FACTOR DROPS MILESTONES CYCLES PLATEAU_EPOCHS",
        "FREEZE FREEZE_EPOCHS ENCODER_RATE LAYER_DECAY",
        "OUTPUT REPORT HISTORY",
    ]
)
# Those that a range test, which takes single steps at rates of its own and keeps nothing, does without.
WHOLE_TRAININGS = (
    "EPOCHS PATIENCE MINUTES STEPS EMA_DECAY RESUME CHECKPOINT_MINUTES LEARNING_RATE SCHEDULE WARM_UP LOWEST_RATE "
    "DROP_FACTOR DROPS MILESTONES CYCLES PLATEAU_EPOCHS FREEZE_EPOCHS THRESHOLD OUTPUT MONITOR CACHE_FOLDER HISTORY "
    "TENSORBOARD CALIBRATE UNLABELLED_CHIPS UNLABELLED_WEIGHT UNLABELLED_RAMP UNLABELLED_RATIO "
    "UNLABELLED_AUGMENTATION PSEUDO_LABEL_CONFIDENCE BASELINE DETERMINISTIC"
)
PARAMETERS = {
    "exportchips": "INPUT INPUT_FOLDER LABELS CLASS_FIELD LABEL_RASTERS LABEL_FOLDER TASK VALUE_FIELD BACKGROUND "
    "COMBINE PIXEL_SIZE MAX_TILES KEEP_TILES BANDS CHIP_SIZE STRIDE PLACEMENT EXTENT AREA NODATA "
    "LABEL_NODATA CLASS_TABLE CLASS_FILE BUFFER "
    "OVERLAP_RULE PRIORITY_FIELD ALL_TOUCHED CHIPS_PER_FEATURE POSITION_JITTER RANDOM_CHIPS MIN_DISTANCE ROTATIONS "
    "BLACKEN MIN_LABELLED_SHARE MIN_CLASS_SHARE MIN_FEATURE_SHARE BACKGROUND_SHARE EDGES SPLIT_METHOD BLOCK_SIZE "
    "SPLIT_AREAS SPLIT_FIELD VALIDATION_SHARE TEST_SHARE FOLDS SEED CHIP_FORMAT COMPRESSION APPEND RESUME OVERWRITE "
    "OUTPUT",
    "splitchips": "CHIPS SPLIT_METHOD BLOCK_SIZE SPLIT_AREAS SPLIT_FIELD VALIDATION_SHARE TEST_SHARE FOLDS SEED",
    "importchips": "INPUT FOLDER_FORMAT SPLIT_METHOD VALIDATION_SHARE TEST_SHARE FOLDS SEED OVERWRITE OUTPUT",
    "convertchips": "CHIPS FOLDER_FORMAT OVERWRITE OUTPUT",
    "trainsegmenter": f"CHIPS ARCHITECTURE ENCODER TIMM_ENCODER DECODER_WIDTH DROPOUT ACTIVATION NORMALIZATION "
    f"{TRAINING}",
    "trainclassifier": f"CHIPS ARCHITECTURE THRESHOLD FILTERS HIDDEN_SIZES "
    f"KERNEL_SIZE STRIDE PADDING ACTIVATION DROPOUT BLOCK_DROPOUT {TRAINING}",
    "segmentraster": "INPUT MORE_IMAGES INPUT_FOLDER COMBINE MODEL EXTENT AREA BANDS PIXEL_SIZE MAX_TILES "
    "KEEP_TILES TILE_SIZE "
    "MAP_GRID HALO BATCH_SIZE MIXED_PRECISION DEVICE RESUME OUTPUT "
    "PROBABILITIES CONFIDENCE ENTROPY MARGIN MIN_CONFIDENCE MAJORITY_FILTER MIN_MAPPING_UNIT "
    "AREA_UNIT CONNECTEDNESS PROBABILITY_TYPE RASTER_FORMAT OVERVIEWS TEST_TIME_AUGMENTATION "
    "TEST_TIME_SCALES ENSEMBLE DISAGREEMENT POLYGONS AREAS POLYGON_CLASSES MIN_POLYGON_AREA FILL_HOLES SIMPLIFY",
    "classifyscenes": "INPUT INPUT_FOLDER MODEL STRIDE EXTENT AREA BANDS THRESHOLD EDGES MIN_VALID_SHARE BATCH_SIZE "
    "DEVICE OUTPUT PROBABILITIES GRID TABLE TEST_TIME_AUGMENTATION ENSEMBLE CONFIDENCE ENTROPY MARGIN PROBABILITY_TYPE "
    "RASTER_FORMAT OVERVIEWS PIXEL_SIZE MAX_TILES KEEP_TILES "
    "POLYGONS AREAS POLYGON_CLASSES MIN_POLYGON_AREA FILL_HOLES SIMPLIFY "
    "MAJORITY_FILTER MIN_MAPPING_UNIT AREA_UNIT CONNECTEDNESS RESUME",
    "classifyfeatures": "INPUT FEATURES MODEL PLACEMENT SURROUNDINGS BANDS THRESHOLD PREFIX BATCH_SIZE DEVICE OUTPUT "
    "TEST_TIME_AUGMENTATION ENSEMBLE PIXEL_SIZE MAX_TILES KEEP_TILES",
    "activationmaps": "KIND MODEL INPUT INPUT_FOLDER TARGET_CLASS LAYER CHANNELS EXTENT AREA BANDS STRIDE TILE_SIZE "
    "HALO BATCH_SIZE DEVICE OUTPUT PICTURE PICTURES RASTER_FORMAT OVERVIEWS PIXEL_SIZE MAX_TILES KEEP_TILES RESUME",
    "inspectchips": "CHIPS MAX_CHIPS SEED REPORT SUSPECTS",
    "status": "",
}
PARAMETERS["findlearningrate"] = " ".join(
    {*f"{PARAMETERS['trainsegmenter']} {PARAMETERS['trainclassifier']}".split()} - {*WHOLE_TRAININGS.split()}
    | {"TEST_STEPS", "FIRST_RATE", "LAST_RATE"}
)


def figures_of(names: str) -> str:
    """The outputs of a training for figures, on each of the splits, also of the baseline."""
    places = ("VALIDATION", "TEST", "BASELINE_VALIDATION", "BASELINE_TEST")
    return " ".join(f"{place}_{name}" for place in places for name in names.split())


OUTPUTS = {
    "exportchips": "OUTPUT FOOTPRINTS CHIPS_COUNT TRAINING_CHIPS VALIDATION_CHIPS TEST_CHIPS",
    "splitchips": "DATASET FOOTPRINTS CHIPS_COUNT TRAINING_CHIPS VALIDATION_CHIPS TEST_CHIPS",
    "importchips": "OUTPUT FOOTPRINTS CHIPS_COUNT TRAINING_CHIPS VALIDATION_CHIPS TEST_CHIPS",
    "convertchips": "OUTPUT CHIPS_COUNT",
    "trainsegmenter": "OUTPUT REPORT HISTORY BEST_EPOCH TEMPERATURE "
    + figures_of("OVERALL_ACCURACY MEAN_IOU CALIBRATION_ERROR R2 RMSE"),
    "trainclassifier": "OUTPUT REPORT HISTORY BEST_EPOCH TEMPERATURE "
    + figures_of("OVERALL_ACCURACY MEAN_F1 MEAN_AVERAGE_PRECISION CALIBRATION_ERROR R2 RMSE"),
    "findlearningrate": "REPORT VALLEY STEEPEST",
    "segmentraster": "OUTPUT PROBABILITIES CONFIDENCE ENTROPY MARGIN DISAGREEMENT POLYGONS AREAS HECTARES "
    "CLASS_HECTARES CLASS_PIXELS",
    "classifyscenes": "OUTPUT PROBABILITIES GRID TABLE CONFIDENCE ENTROPY MARGIN POLYGONS AREAS HECTARES "
    "CLASS_HECTARES CLASS_PIXELS",
    "classifyfeatures": "OUTPUT",
    "activationmaps": "OUTPUT PICTURE PICTURES",
    "inspectchips": "REPORT SUSPECTS CHIPS_COUNT TRAINING_CHIPS VALIDATION_CHIPS TEST_CHIPS CLASSES_COUNT "
    "DUPLICATES_COUNT LEAKS_COUNT SUSPICIOUS_COUNT NODATA_SHARE",
    "status": "PYTHON PYTHON_VERSION TORCH TORCHVISION GPU GPU_MEMORY MEMORY MISSING READY",
}


def test_the_algorithms_are_those_that_scripts_know(provider):
    assert provider.id() == "terrazzo"
    assert {algorithm.name() for algorithm in provider.algorithms()} == {*PARAMETERS, EXAMPLE}


def test_the_toolbox_has_the_groups_in_the_order_of_the_work_and_an_example(provider):
    groups = {algorithm.group() for algorithm in provider.algorithms()}
    assert sorted(groups) == ["1 Chips", "2 Training", "3 Mapping", "4 Setup", "5 Examples"]
    assert provider.algorithm("segmentraster").groupId() == "mapping"
    model = QgsApplication.processingRegistry().createAlgorithmById(f"terrazzo:{EXAMPLE}")
    assert model.canExecute() == (True, "") and model.validate() == (True, [])
    assert {row.name() for row in model.parameterDefinitions()} >= {"IMAGE", "LABELS", "map:Class raster"}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_and_outputs_keep_their_names(provider, name):
    algorithm = provider.algorithm(name)
    assert sorted(row.name() for row in algorithm.parameterDefinitions()) == sorted(PARAMETERS[name].split())
    assert sorted(row.name() for row in algorithm.outputDefinitions()) == sorted(OUTPUTS[name].split())


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_algorithm_and_parameter_explains_itself(provider, name):
    algorithm = provider.algorithm(name)
    assert (ROOT / "resources" / "icons" / f"{name}.svg").is_file() and not algorithm.icon().isNull()
    assert algorithm.svgIconPath().endswith(f"{name}.svg") and Path(algorithm.svgIconPath()).is_file()
    assert algorithm.shortDescription() and algorithm.tags() and algorithm.group()
    for row in algorithm.parameterDefinitions():
        assert row.help() and row.description() in algorithm.shortHelpString(), row.name()
    assert "<b>" not in algorithm.shortHelpString()  # QGIS's dialog draws it in a grey that dark themes hide


@pytest.mark.parametrize("name", PARAMETERS)
def test_defaults_ranges_and_choices_are_those_of_the_config(provider, name):
    algorithm = provider.algorithm(name)
    destinations = [row.name() for row in algorithm.parameterDefinitions() if row.isDestination()]
    for said in algorithm.CONFIG.declared().values():
        row = algorithm.parameterDefinition(said.name.upper())
        if row is None or said.name.upper() in destinations or (said.low, said.high, said.choices) == (None, None, ()):
            continue
        assert row.defaultValue() == said.default, said.name
        if said.choices:
            assert row.options() == list(said.choices)
        elif said.high is not None:
            assert (row.minimum(), row.maximum()) == (said.low, said.high)


def test_settings_for_experts_are_folded_away(provider):
    advanced = QgsProcessingParameterDefinition.Flag.FlagAdvanced
    rows = provider.algorithm("trainsegmenter").parameterDefinitions()
    assert [row.name() for row in rows if not row.flags() & advanced] == [
        "CHIPS", "ARCHITECTURE", "ENCODER", "EPOCHS", "MINUTES", "BATCH_SIZE", "AUGMENTATION", "PRETRAINED", "OUTPUT",
        "REPORT",
    ]  # fmt: skip


@pytest.mark.parametrize("name", PARAMETERS)
def test_help_leads_to_a_part_of_the_guide(provider, name):
    from terrazzo.plugin.metadata import anchor, said

    headings = re.findall(r"^#+ (.*)$", (ROOT / "docs" / "guide.md").read_text(encoding="utf-8"), re.MULTILINE)
    address, _, part = provider.algorithm(name).helpUrl().partition("#")
    assert address == f"{said('repository')}/blob/HEAD/docs/guide.md"
    assert part and part in [anchor(heading) for heading in headings]


def test_the_commands_of_the_readme_are_those_of_the_algorithms(provider):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^qgis_process run terrazzo:(\w+) -- (.*)$", text, re.MULTILINE)
    assert len(commands) == 6 and "qgis_process.bin" in text and "qgis_process plugins enable terrazzo" in text
    for name, given in commands:
        rows = {row.name() for row in provider.algorithm(name).parameterDefinitions()}
        assert {part.partition("=")[0] for part in given.split()} <= rows


OPTIONAL = " [optional]"
# QGIS's own dialog is 688 pixels wide, of which rows have 376; so many letters of 12 points fit there.
LONGEST = 42


@pytest.mark.parametrize("name", PARAMETERS)
def test_labels_fit_into_the_dialog_as_qgis_opens_it(provider, name):
    for row in provider.algorithm(name).parameterDefinitions():
        marked = row.flags() & QgsProcessingParameterDefinition.Flag.FlagOptional and row.type() != "boolean"
        assert len(row.description() + (OPTIONAL if marked else "")) <= LONGEST, row.description()


# Lengths on the ground or in the image.
PIXELS = ("CHIP_SIZE", "BLOCK_SIZE", "TILE_SIZE", "HALO", "POSITION_JITTER", "MIN_DISTANCE", "SIMPLIFY")


@pytest.mark.parametrize("name", PARAMETERS)
def test_labels_name_units_and_help_texts_name_parameters_as_the_dialog_does(provider, name):
    for row in provider.algorithm(name).parameterDefinitions():
        assert row.name() not in PIXELS or "(pixels" in row.description(), row.name()
        assert row.name() != "PIXEL_SIZE" or "(map units" in row.description(), row.name()
    words = set(re.findall(r"\w+", provider.algorithm(name).shortHelpString()))
    names = {name for names in PARAMETERS.values() for name in names.split()}
    assert not words & ({name for name in names if "_" in name} | {"TASK", "KIND", "LAYER", "MINUTES"})


def test_the_example_model_asks_in_the_order_of_the_work_and_has_the_defaults_of_today(provider):
    model = next(model for model in provider.algorithms() if model.displayName() == EXAMPLE)
    inputs = [row.name() for row in model.parameterDefinitions() if not row.isDestination()]
    assert inputs == ["IMAGE", "LABELS", "CLASS_FIELD", "MAP_IMAGE", "CHIP_SIZE", "EPOCHS"]
    fixed = QgsProcessingModelChildParameterSource.fromStaticValue(0).source()
    for child in model.childAlgorithms().values():
        for name, (source, *_) in child.parameterSources().items():
            default = child.algorithm().parameterDefinition(name).defaultValue()
            assert source.source() != fixed or source.staticValue() == default, name


def test_what_an_export_needs_comes_first_and_is_not_called_optional(provider):
    rows = provider.algorithm("exportchips").parameterDefinitions()
    flags = QgsProcessingParameterDefinition.Flag
    shown = [row for row in rows if not row.flags() & flags.FlagAdvanced]
    assert [row.name() for row in shown[:4]] == ["INPUT", "LABELS", "CLASS_FIELD", "LABEL_RASTERS"]
    assert not shown[0].flags() & flags.FlagOptional
    assert shown[0].checkValueIsAcceptable(None) and shown[0].checkValueIsAcceptable(["a.tif"])
    assert not shown[0].checkValueIsAcceptable(5)


def test_metadata_says_what_the_plugin_needs():
    parser = ConfigParser(interpolation=None)
    parser.read(ROOT / "metadata.txt", encoding="utf-8")
    general = parser["general"]
    assert general["name"] == "Terrazzo" and general["hasProcessingProvider"] == "yes"
    assert (general["qgisMinimumVersion"], general["qgisMaximumVersion"]) == ("3.22", "4.99")
    for dependency in (
        "3.10",
        "PyTorch",
        "torchvision",
        "segmentation-models-pytorch",
        "timm",
        "safetensors",
        "torchinfo",
    ):
        assert dependency in general["about"]
    assert (ROOT / general["icon"]).is_file()


SLOW = {"torch", "torchvision", "numpy", "osgeo", "timm", "matplotlib", "segmentation_models_pytorch", "argparse"}
# What nothing but a run, or the set-up's window, needs; benchmarks/startup.py tells what it would cost.
ONLY_FOR_RUNS = tuple(f"anyname.{name}" for name in (
    "plugin.worker_python", "plugin.worker_process", "plugin.setup.", "plugin.gui.setup_panel",
    "plugin.engine.rasters.raster_io", "plugin.engine.drafts", "plugin.engine.chips",
    "processing_provider.features", "processing_provider.classes", "processing_provider.class_",
    "processing_provider.dialog",
    "processing_provider.looks", "processing_provider.showing",
    "processing_provider.feedback", "processing_provider.answer_styles",
))  # fmt: skip
MOST_MODULES = 70
QGIS_PLUGINS = Path(QgsApplication.pkgDataPath()) / "python" / "plugins"


def test_starting_the_plugin_imports_nothing_slow(provider):
    code = (
        "import importlib.util, os, sys\n"
        f"spec = importlib.util.spec_from_file_location('anyname', r'{ROOT / '__init__.py'}', "
        f"submodule_search_locations=[r'{ROOT}'])\n"
        "module = importlib.util.module_from_spec(spec); sys.modules['anyname'] = module\n"
        "spec.loader.exec_module(module)\n"
        "from qgis.core import QgsApplication\n"
        "app = QgsApplication([], True); app.initQgis()\n"
        "from qgis.gui import QgsMessageBar\n"
        "from qgis.PyQt.QtWidgets import QMainWindow\n"
        "class Iface:\n"
        "    window = QMainWindow()\n"
        "    def __getattr__(self, name): return lambda *given: None\n"
        "    def mainWindow(self): return self.window\n"
        f"sys.path.append(r'{QGIS_PLUGINS}'); import processing\n"
        "from processing.core.Processing import Processing\n"
        "Processing.initialize()\n"
        "before = set(sys.modules)\n"
        "plugin = module.classFactory(Iface()); plugin.initGui()\n"
        "assert QgsApplication.processingRegistry().algorithmById('terrazzo:exportchips') is not None\n"
        "print(*sorted(set(sys.modules) - before), flush=True)\n"
        "plugin.unload(); assert QgsApplication.processingRegistry().providerById('terrazzo') is None\n"
        "print('whole', flush=True); os._exit(0)\n"  # QGIS is known to crash now and then while it tears down
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0 and done.stdout.split()[-1] == "whole", done.stderr
    loaded = set(done.stdout.split()[:-1])
    # QGIS itself may have loaded these before, which costs us nothing.
    assert not {name.partition(".")[0] for name in loaded} & SLOW
    own = {name for name in loaded if name.startswith("anyname.")}
    assert not {name for name in own if name.startswith(ONLY_FOR_RUNS)}, own
    assert 20 < len(own) <= MOST_MODULES, sorted(own)


def test_the_desktop_gets_an_options_page_and_gives_it_back(provider, monkeypatch):
    from qgis.core import QgsSettings
    from terrazzo.plugin.gui.options import OptionsFactory
    from terrazzo.plugin.python_setting import PYTHON_SETTING, python_setting

    page = OptionsFactory().createWidget(None)
    try:
        page.panel.python.setFilePath("/no/such/python")
        page.panel.use()
        assert "/no/such/python, which Terrazzo's setting names, does not exist" in page.panel.answer.text()
        page.apply()
        assert python_setting() == "/no/such/python"
    finally:
        QgsSettings().remove(PYTHON_SETTING)
