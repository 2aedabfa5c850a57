"""The check of the zip, and the documents, which must name every setting."""

import importlib.util
import re
import zipfile
from pathlib import Path

import pytest

from plugin.engine import config

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def check_zip():
    spec = importlib.util.spec_from_file_location("check_zip", ROOT / ".ci" / "check_zip.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "eval('1')",
        "exec(code)",
        "subprocess.run('ls', shell=True)",
        "os.system('ls')",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
    ],
)
def test_python_that_could_run_a_strangers_data_is_found(check_zip, source):
    assert len(check_zip.check_python("x.py", source)) == 1


def test_harmless_python_is_let_through(check_zip):
    source = "torch.load(path, weights_only=True)\nnetwork.eval()\nsubprocess.run(['ls'])\ndialog.exec()"
    assert check_zip.check_python("x.py", source) == []


def test_a_zip_without_its_parts_is_refused_by_name(check_zip, tmp_path):
    path = tmp_path / "terrazzo.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("terrazzo/__init__.py", "")
        archive.writestr("terrazzo/plugin/engine/worker.py", "")
        archive.writestr("terrazzo/library.so", b"\x7fELF\0")
        archive.writestr("terrazzo/tests/conftest.py", "")
    wrong = check_zip.check(path)
    assert "LICENSE is missing" in wrong
    assert "plugin/engine/__init__.py is missing" in wrong
    assert "library.so is a file of an unknown kind" in wrong
    assert "tests/conftest.py does not belong in it" in wrong


@pytest.mark.parametrize(
    "job",
    [
        config.ExportChipsConfig,
        config.SplitChipsConfig,
        config.ImportChipsConfig,
        config.ConvertChipsConfig,
        config.InspectChipsConfig,
        config.TrainSegmenterConfig,
        config.TrainClassifierConfig,
        config.FindLearningRateConfig,
        config.SegmentRasterConfig,
        config.ClassifyScenesConfig,
        config.ClassifyFeaturesConfig,
        config.ActivationMapsConfig,
    ],
)
def test_the_guide_names_every_parameter(job):
    guide = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    read_from_layers = {"CLASSES", "CLASS_MAP", "SPLIT_NAMES", "INPUT_CRS", "LABEL_CRS", "MORE_CRS"}
    fields = {name.upper() for name in job.declared()} - read_from_layers
    assert sorted(name for name in fields if f"`{name}`" not in guide) == []


def test_links_between_documents_lead_somewhere():
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name} → {link}"
