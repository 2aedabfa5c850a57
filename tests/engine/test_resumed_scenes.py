"""Scenes whose classification is interrupted and resumed equal those that were left alone."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed
from heard import Heard
from held import contents
from known_classifier import SIZE, Breaking, header, mean, trained_looking
from ranked import start_ranks
from synthetic import LEFT, TOP, rectangle, write_polygons, write_raster

from plugin.engine.classes import ClassTable
from plugin.engine.config import ClassifyScenesConfig
from plugin.engine.drafts import PIECES, hidden_folder
from plugin.engine.errors import Cancelled, InputError, ResourceError
from plugin.engine.mapping import scenes
from plugin.engine.mapping.pipeline import keeping
from plugin.engine.mapping.sources import evaluation
from plugin.engine.models.model_file import save_model
from plugin.engine.torchrun import Rank

HEIGHT, WIDTH = 150, 180
NUMBERS = {"task": "chip_regression", "classes": ClassTable(())}
NUMBERS["target"] = {"mean": 100.0, "std": 20.0, "minimum": 0.0, "maximum": 250.0}
FILES = {
    "output": "map.tif", "probabilities": "shares.tif", "confidence": "sure.tif", "entropy": "entropy.tif",
    "margin": "margin.tif", "polygons": "regions.gpkg", "areas": "areas.csv", "grid": "grid.gpkg",
}  # fmt: skip
UNSURE = [name for name in FILES if name in ("output", "probabilities", "grid")]


class Failing(Breaking):
    """After some batches it ends the job."""

    def __init__(self) -> None:
        super().__init__(mean)
        self.last, self.numbers = 10**9, False
        self.failure: BaseException = ResourceError("The power is gone.", "Wait.")

    def forward(self, chips: torch.Tensor) -> torch.Tensor:
        if len(self.seen) >= self.last:
            raise self.failure
        found = super().forward(chips)
        return found[:, 2:] / 100 if self.numbers else found


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Failing:
    return use(monkeypatch)


def use(monkeypatch: pytest.MonkeyPatch, **values: Any) -> Failing:
    made = Failing()
    made.numbers = "target" in values
    monkeypatch.setattr(scenes, "load_classifier", lambda path: (made, header(**values)))
    monkeypatch.setattr(evaluation, "BLOCK_PIXELS", 8 * SIZE)
    return made


@pytest.fixture
def image(tmp_path: Path) -> str:
    """Chips of many tones, some of which the network has no answer to, and some without data (0)."""
    data = np.random.default_rng(3).integers(10, 256, (HEIGHT // SIZE + 1, WIDTH // SIZE + 1))
    data = np.kron(data, np.ones((SIZE, SIZE)))[:HEIGHT, :WIDTH]
    data[:90, 100:] = data[100:104, 20:70] = 0
    return write_raster(tmp_path / "image.tif", data.astype(np.uint8), nodata=0)


def classify(
    folder: Path, image: str, names: Any = ("output",), reporter: Any = None, **settings: Any
) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    config = {"input": image, "model": "m", "device": "cpu", "stride": SIZE // 2, "batch_size": 50, **settings}
    config.update({name: str(folder / FILES[name]) for name in names})
    return scenes.classify_scenes(ClassifyScenesConfig.from_json(config), reporter or Heard())


def interrupt(
    network: Failing, folder: Path, image: str, batches: int, names: Any = ("output",), **settings: Any
) -> Heard:
    """Begin a job that fails after some batches."""
    network.last, heard = len(network.seen) + batches, Heard()
    with pytest.raises(type(network.failure)):
        classify(folder, image, names, heard, **{"resume": True, **settings})
    network.last = 10**9
    return heard


@pytest.mark.parametrize(
    ("values", "names", "settings"),
    [
        ({}, FILES, {"majority_filter": 3, "threshold": 0.9}),
        ({}, FILES, {"raster_format": "COG", "probability_type": "uint8", "edges": "leave_out"}),
        ({"task": "multilabel"}, UNSURE, {"probability_type": "float16"}),
        ({}, ["grid"], {"stride": SIZE}),
        (NUMBERS, ["output", "grid"], {}),
    ],
)
def test_resumed_scenes_equal_those_that_were_left_alone(
    tmp_path: Path, image: str, monkeypatch: pytest.MonkeyPatch, values: Any, names: Any, settings: dict[str, Any]
) -> None:
    network = use(monkeypatch, **values)
    triangle = rectangle(LEFT + 20, TOP - 130, LEFT + 170, TOP - 20)
    settings = {**settings, "area": write_polygons(tmp_path / "area.gpkg", [(1, triangle)], layer="area")}
    expected = classify(tmp_path / "whole", image, names, **settings)
    whole = len(network.seen)
    network.seen.clear()
    resumed = tmp_path / "resumed"
    told = [interrupt(network, resumed, image, batches, names, **settings) for batches in (3, 1)]
    assert all("RESUME continues from there" in one.warnings[-1] for one in told)
    found = classify(resumed, image, names, resume=True, **settings)
    # What was under way is done again, nothing else.
    assert whole <= len(network.seen) <= whole + 4
    assert contents(resumed) == contents(tmp_path / "whole")
    assert {**found, "seconds": 0} == {
        name: value.replace("/whole/", "/resumed/") if isinstance(value, str) else value
        for name, value in {**expected, "seconds": 0}.items()
    }


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"stride": SIZE}, "STRIDE 4, not 8"),
        ({"min_valid_share": 0.9}, "MIN_VALID_SHARE 0.5, not 0.9"),
        ({"threshold": 0.9, "majority_filter": 5, "overviews": False}, ""),
    ],
)
def test_answers_of_another_job_are_named_and_not_used(
    tmp_path: Path, network: Failing, image: str, change: dict[str, Any], text: str
) -> None:
    interrupt(network, tmp_path / "map", image, 20)
    network.seen.clear()
    heard = Heard()
    classify(tmp_path / "map", image, ["output", "confidence"], heard, resume=True, **change)
    resumed = [one for one in heard.logs if one.startswith("Mapping resumes: ")]
    different = [one for one in heard.warnings if "different are" in one]
    assert len(different) == (text != "") and len(resumed) == (text == "")
    assert not text or different[0].endswith(f"different are {text}.")
    classify(tmp_path / "whole", image, ["output", "confidence"], **change)
    assert contents(tmp_path / "map") == contents(tmp_path / "whole")


def test_only_long_jobs_keep_answers_unless_the_user_resumes(
    tmp_path: Path, network: Failing, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(network, tmp_path / "map", image, 20, resume=False)
    assert not list((tmp_path / "map").iterdir())
    monkeypatch.setattr(keeping, "LONG_JOB", 0.0)
    heard = interrupt(network, tmp_path / "map", image, 20, resume=False)
    assert "RESUME continues from there" in heard.warnings[-1]
    network.failure = Cancelled()
    interrupt(network, tmp_path / "map", image, 3, resume=False)
    assert not list((tmp_path / "map").iterdir())


def test_scenes_without_an_answer_keep_nothing(tmp_path: Path, network: Failing) -> None:
    image = write_raster(tmp_path / "i.tif", np.zeros((HEIGHT, WIDTH), np.uint8), nodata=0)
    with pytest.raises(InputError, match="No step"):
        classify(tmp_path / "map", image, resume=True)
    assert not list((tmp_path / "map").iterdir())


def test_answers_are_kept_beside_the_first_result(tmp_path: Path, network: Failing, image: str) -> None:
    interrupt(network, tmp_path / "map", image, 20, ["grid", "margin"])
    assert (hidden_folder(tmp_path / "map" / FILES["margin"]) / PIECES).is_dir()


@pytest.mark.skipif(
    sys.platform == "win32" or not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
    reason="torch.distributed with gloo is not here",
)
def test_two_ranks_classify_the_scenes_of_one_process(tmp_path: Path) -> None:
    network, model = trained_looking("mlp", SIZE, 1), str(tmp_path / "m.safetensors")
    save_model(model, network, header(architecture="mlp"))
    data = np.random.default_rng(3).integers(10, 256, (600, 2100)).astype(np.uint8)
    data[:300, :700] = 0
    image = write_raster(tmp_path / "image.tif", data, nodata=0)
    names = [name for name in FILES if name != "polygons"]
    classify(tmp_path / "one", image, names, model=model, stride=SIZE)
    (tmp_path / "two").mkdir()
    config = {"input": image, "model": model, "device": "cpu", "stride": SIZE, "batch_size": 50}
    config.update({name: str(tmp_path / "two" / FILES[name]) for name in names})
    job = tmp_path / "job.json"
    job.write_text(json.dumps({"protocol": 1, "job": "classifyscenes", "config": config}))
    both = start_ranks(["tests/ranked.py", str(job)])
    said = [rank.communicate(timeout=120) for rank in both]
    assert [rank.returncode for rank in both] == [0, 0], said
    events = [json.loads(line) for line in said[0][0].splitlines()]
    assert [event["event"] for event in events].count("result") == 1 and not said[1][0]
    assert contents(tmp_path / "two") == contents(tmp_path / "one")


def test_photographs_are_not_shared_among_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenes, "own_rank", lambda: Rank(0, 2))
    config = {"input_folder": str(tmp_path), "model": "m", "table": str(tmp_path / "t.csv")}
    with pytest.raises(InputError, match="a single process"):
        scenes.classify_scenes(ClassifyScenesConfig.from_json(config), Heard())
