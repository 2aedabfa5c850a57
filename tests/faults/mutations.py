"""Inputs of every kind that are damaged or made to do harm, each given to a job that reads it.

Whatever it is, the job ends with a result or with an `EngineError` in a few words: no crash, no hang, no hunger for
memory, nothing opened elsewhere, nothing half written left.
"""

from __future__ import annotations

import json
import random
import re
import resource
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bad_images import IMAGES
from bad_indexes import INDEXES
from bad_models import CHECKPOINTS, MODELS
from canaries import DeafServer, watching
from jobs import BRIEF, CUT, JOBS, SEGMENTER, TINY, WORKER_JOBS, filled
from mutators import ANY, JSON, LISTS, XML, Mutator, Target
from server import Outcome, Server, remove_tree
from synthetic import write_raster

from plugin.engine.errors import Cancelled, EngineError
from plugin.engine.models.whole_file import COPIES
from plugin.engine.worker import JsonReporter
from plugin.engine.worker import run as run_job_file

MOST_SECONDS = 10.0
MOST_MEMORY = 2_000_000_000  # bytes, beside weights that are read whole: so large as they are, the user chose them
LONGEST_TEXT = 1000
# Of Python and torch, in what a user reads.
RAW_WORDS = re.compile(r"Traceback|weights_only|torch\.load|File \"|0x[0-9a-f]{8}| object at ")


@dataclass(frozen=True)
class Reading:
    """A job that reads a subject: {subject} stands for it, {stock} for whole inputs, {out} for results."""

    job: str
    settings: dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """What is mutated.

    Attributes:
        name: A file or folder of the stock.
        share: How often it is taken, compared with the others.
    """

    name: str
    share: int
    readings: tuple[Reading, ...]


SCENE, SMALL = "{stock}/scene/image.tif", "{stock}/scene/small.tif"
SPLIT = Reading("splitchips", {"chips": "{subject}", "seed": 3})
INSPECT = Reading("inspectchips", {"chips": "{subject}", "report": "{out}/r.html", "suspects": "{out}/s.gpkg"})
MODEL = {"model": "{subject}", "device": "cpu"}
IMPORT = {"input": "{subject}", "output": "{out}/chips"}
SEGMENT = {"input": SMALL, "output": "{out}/map.tif", "probabilities": "{out}/shares.tif", "tile_size": 64, "halo": 32}
FEATURES = {"input": SCENE, "features": "{stock}/features.gpkg", "output": "{out}/answers.gpkg"}
KNOWN = {"model": "{stock}/classifier.safetensors", "device": "cpu", "input_folder": "{subject}"}


def converting(*kinds: str) -> tuple[Reading, ...]:
    """Conversions of a dataset."""
    settings = {"chips": "{subject}", "output": "{out}/folder"}
    return tuple(Reading("convertchips", {**settings, "folder_format": kind}) for kind in kinds)


def importing(name: str, share: int, *kinds: str) -> Subject:
    """A folder of another program."""
    return Subject(name, share, tuple(Reading("importchips", {**IMPORT, "folder_format": kind}) for kind in kinds))


def learning(job: str, **settings: Any) -> Reading:
    """A training."""
    kind = SEGMENTER if job == "trainsegmenter" else TINY
    return Reading(job, {"output": "{out}/m.safetensors", **BRIEF, **kind, **settings})


SEGMENTING, CLASSIFYING = "trainsegmenter", "trainclassifier"
RATES = {"chips": "{subject}", "report": "{out}/r.html", "test_steps": 30, "batch_size": 2, "device": "cpu"}
RATES_OF_SEGMENTER = Reading("findlearningrate", {**RATES, "architecture": "fcn8s", "encoder": SEGMENTER["encoder"]})
RATES_OF_CLASSIFIER = Reading("findlearningrate", {**RATES, "architecture": "lecture_cnn", "filters": [4, 4]})
SUBJECTS = (
    Subject(
        "chips", 16,
        (SPLIT, INSPECT, *converting("arcgis", "coco", "voc"), learning(SEGMENTING, chips="{subject}"),
         RATES_OF_SEGMENTER,
         Reading("exportchips", {**CUT, "input": ["{stock}/beside/image.tif"],
                 "label_rasters": ["{stock}/beside/labels.tif"], "output": "{subject}", "append": True})),
    ),
    Subject(
        "classes", 12,
        (SPLIT, INSPECT, *converting("arcgis", "imagenet", "voc"), learning(CLASSIFYING, chips="{subject}"),
         RATES_OF_CLASSIFIER),
    ),
    Subject("rest", 5, (SPLIT, INSPECT, learning(SEGMENTING, chips="{stock}/chips", unlabelled_chips="{subject}"))),
    Subject("several", 5, (SPLIT, INSPECT, *converting("voc"), learning(CLASSIFYING, chips="{subject}"))),
    Subject("targets", 4, (SPLIT, INSPECT, learning(SEGMENTING, chips="{subject}"))),
    Subject(
        "segmenter.safetensors", 9,
        (Reading("segmentraster", {**SEGMENT, **MODEL}),
         Reading("activationmaps", {"kind": "filters", "picture": "{out}/f.png", "model": "{subject}"}),
         learning(SEGMENTING, chips="{stock}/chips", encoder_weights="{subject}")),
    ),
    Subject(
        "classifier.safetensors", 11,
        (Reading("classifyscenes", {**MODEL, "input": SMALL, "output": "{out}/map.tif", "grid": "{out}/grid.gpkg"}),
         Reading("classifyscenes", {**MODEL, "input_folder": "{stock}/photographs", "table": "{out}/table.csv"}),
         Reading("classifyfeatures", {**FEATURES, **MODEL}),
         Reading("activationmaps", {**MODEL, "input": SMALL, "output": "{out}/heat.tif"}),
         learning(CLASSIFYING, chips="{stock}/classes", encoder_weights="{subject}")),
    ),
    *(
        Subject(name, 6, (learning(CLASSIFYING, chips="{stock}/classes", encoder_weights="{subject}"),))
        for name in ("weights.pth", "checkpoint.pth")
    ),
    importing("arcgis", 6, "auto", "arcgis"),
    importing("arcgis_whole", 5, "auto", "arcgis"),
    importing("coco", 7, "auto", "coco"),
    importing("voc", 6, "auto", "voc"),
    importing("voc_whole", 4, "auto"),
    importing("imagenet_whole", 4, "auto", "imagenet"),
    Subject(
        "photographs", 4,
        (Reading("classifyscenes", {**KNOWN, "table": "{out}/table.csv"}),
         Reading("activationmaps", {**KNOWN, "pictures": "{out}/pictures"})),
    ),
    Subject("job.json", 4, (Reading("", {}),)),
)  # fmt: skip


BY_ENDING: dict[str, Sequence[Mutator]] = {
    **dict.fromkeys((".json", ".emd"), JSON),
    ".xml": XML,
    **dict.fromkeys((".txt", ".csv"), LISTS),
    ".gpkg": INDEXES,
    **dict.fromkeys((".tif", ".png", ".jpg"), IMAGES),
    ".safetensors": MODELS,
    ".pth": CHECKPOINTS,
}
ANY_SHARE = 0.3  # of the mutations that suit any file


def mutate(path: Path, rng: random.Random, target: Target) -> str:
    """Change a file in a way that suits its kind; says how."""
    own = BY_ENDING.get(path.suffix.lower(), ANY)
    mutator = rng.choice(ANY if rng.random() < ANY_SHARE else own)
    try:
        done = mutator(path, rng, target)
    except Exception as error:  # what an earlier mutation has left is not what this one is for
        done = f"{mutator.__name__} fails ({type(error).__name__})"
    return f"{path.relative_to(target.folder)}: {done}"


@dataclass(frozen=True)
class Case:
    """A mutation and who reads it, all drawn from one seed."""

    seed: str
    subject: Subject
    reading: Reading

    def __str__(self) -> str:
        return f"{self.subject.name} for {self.reading.job or 'the worker'}"


class Mutating:
    """Mutates inputs and has them read.

    Args:
        base: An empty folder.
        stock: That of the inputs, see `jobs.make_stock`.
        note: Called with each finding: the seed and what it is about, and what is wrong.
    """

    def __init__(self, server: Server, base: Path, stock: Path, note: Callable[[str, str], None]) -> None:
        self.server, self.stock, self.note = server, stock, note
        self.work, self.outside = base / "work", base / "outside"
        self.deaf = DeafServer()
        self.ends: dict[str, int] = {}
        self.counts: dict[str, int] = {}
        self.slowest, self.largest = 0.0, 0

    def draw(self, seed: str) -> tuple[Case, random.Random]:
        """The case of a seed, and the generator for the rest of it."""
        rng = random.Random(seed)
        subject = rng.choices(SUBJECTS, [subject.share for subject in SUBJECTS])[0]
        return Case(seed, subject, rng.choice(subject.readings)), rng

    def run(self, seed: str) -> Outcome:
        """Run the case of a seed, and note what is wrong."""
        case, rng = self.draw(seed)
        done = self._prepare(case, rng)
        with watching(self.outside, self.outside / "images") as watch:
            self.deaf.calls()
            outcome = self._read(case)
            found = self._faults(outcome, self._weights_bytes(case))
            found += [f"touched: {text}" for text in watch.seen()[:4]]
        calls = self.deaf.calls()
        if calls:
            found.append(f"called a server {calls} times")
        if outcome.end != "result":
            left = sorted(path.name for path in (self.work / "out").rglob("*"))
            if left and outcome.end in ("refused", "raw"):
                found.append(f"leaves {left[:5]}")
        self.ends[outcome.end] = self.ends.get(outcome.end, 0) + 1
        self.counts[case.subject.name] = self.counts.get(case.subject.name, 0) + 1
        self.slowest, self.largest = max(self.slowest, outcome.processor), max(self.largest, outcome.memory)
        for text in found:
            self.note(f"mutation {seed} ({case}; {done})", text)
        self.server.clear_temporary()
        remove_tree(self.work)
        return outcome

    def _prepare(self, case: Case, rng: random.Random) -> str:
        """Copy the subject and mutate it; says how."""
        remove_tree(self.work)
        (self.work / "in").mkdir(parents=True)
        (self.work / "out").mkdir()
        remove_tree(self.outside)
        (self.outside / "images").mkdir(parents=True)
        target = Target(self.work / "in", self.outside, self.deaf.address)
        copy = self._subject(case)

        def spoil(_: Any) -> str:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            write_secrets(self.outside, self.stock)
            if case.subject.name == "job.json":
                write_job(copy, rng, self.stock, self.work / "out")
            elif (self.stock / case.subject.name).is_dir():
                shutil.copytree(self.stock / case.subject.name, copy)
            else:
                shutil.copyfile(self.stock / case.subject.name, copy)
            done = []
            for _ in range(rng.choice([1, 1, 1, 2])):
                path = choose_file(copy, rng)
                if path is not None:
                    done.append(mutate(path, rng, target))
            return "; ".join(done)

        outcome = self.server.call(spoil)
        if outcome.end != "result":
            return f"the mutation itself ended: {outcome}"
        return str(outcome.result)

    def _subject(self, case: Case) -> Path:
        return self.work / "in" / case.subject.name

    def _read(self, case: Case) -> Outcome:
        subject = self._subject(case)
        if case.subject.name == "job.json":
            return self.server.call(lambda _: read_job_file(subject, self.work / "events.txt"), MOST_SECONDS)
        settings = filled(case.reading.settings, subject=subject, stock=self.stock, out=self.work / "out")
        return self.server.call(lambda heard: bool(JOBS[case.reading.job](settings, heard)), MOST_SECONDS)

    def _weights_bytes(self, case: Case) -> int:
        """What a file of weights may take in memory."""
        path = self._subject(case)
        return COPIES * path.stat().st_size if path.suffix in (".pth", ".safetensors") and path.is_file() else 0

    @staticmethod
    def _faults(outcome: Outcome, weights_bytes: int) -> list[str]:
        """What is wrong with the way a job ended."""
        found = []
        if outcome.end not in ("result", "refused"):
            found.append(str(outcome))
        if outcome.memory > MOST_MEMORY + weights_bytes:
            found.append(f"took {outcome.memory / 1e9:.2f} GB")
        for text in outcome.texts:
            if len(text) > LONGEST_TEXT:
                found.append(f"says {len(text)} letters: {text[:200]!r} …")
            if RAW_WORDS.search(text):
                found.append(f"says {text[:400]!r}")
        if outcome.end == "refused" and not (outcome.problem and outcome.remedy):
            found.append("says nothing")
        return found


def choose_file(subject: Path, rng: random.Random) -> Path | None:
    """A file of a subject: a description as likely as a chip, however many chips there are."""
    if not subject.is_dir():
        return subject if subject.is_file() and not subject.is_symlink() else None
    files = [path for path in sorted(subject.rglob("*")) if path.is_file() and not path.is_symlink()]
    if not files:
        return None
    kinds = sorted({path.suffix for path in files})
    weights = [1 if kind in (".tif", ".png", ".jpg", "") else 2 for kind in kinds]
    kind = rng.choices(kinds, weights)[0]
    return rng.choice([path for path in files if path.suffix == kind])


def write_secrets(outside: Path, stock: Path) -> None:
    """What nothing may open; it would be of use where it is read."""
    shutil.copyfile(stock / "scene/small.tif", outside / "secret.tif")
    shutil.copyfile(stock / "chips/chips.gpkg", outside / "secret.gpkg")
    (outside / "secret.txt").write_text("secret\n")
    write_raster(outside / "images/0000000.tif", np.zeros((3, 32, 32), np.uint8))


def write_job(path: Path, rng: random.Random, stock: Path, out: Path) -> None:
    """A job file that could be carried out."""
    readings = [reading for subject in SUBJECTS for reading in subject.readings if reading.job in WORKER_JOBS]
    reading = rng.choice(readings)
    settings = filled(reading.settings, subject=stock / "nothing", stock=stock, out=out)
    path.write_text(json.dumps({"protocol": 1, "job": reading.job, "config": settings}))


def read_job_file(path: Path, events: Path) -> bool:
    """Let the worker carry out a job file; its errors become ours again.

    Raises:
        AssertionError: It did not end as a worker ends, or in a raw exception.
    """
    with events.open("w", encoding="utf-8") as file:
        status = run_job_file(str(path), JsonReporter(file))
    lines = [json.loads(line) for line in events.read_text(encoding="utf-8").splitlines()]
    last = lines[-1]
    assert status in (0, 2, 3) and last["event"] == ("result" if status == 0 else "error"), (status, last)
    if last["event"] == "error":
        if last["kind"] == "Cancelled":
            raise Cancelled
        assert not last["problem"].startswith("The job failed with"), last["problem"]
        raise EngineError(last["problem"], last["remedy"])
    return True
