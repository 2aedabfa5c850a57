"""Jobs that are killed: at each rename, at any other touch of the disk, and at any time.

After each kill the results that were there, or the new ones, are there and whole; the same job then succeeds, and
leaves nothing but its results.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from checks import ABSENT, known_as, names_in
from jobs import BRIEF, CUT, JOBS, SEGMENTER, TINY, filled
from server import Outcome, Server, remove_tree

from plugin.engine.chips import journal
from plugin.engine.drafts import recover

RENAMES = ("os.rename",)
# Python's own names of what changes a disk; GDAL's and SQLite's writing is met at random times.
TOUCHES = (*RENAMES, "open", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate")
# What QGIS leaves by itself when it is killed.
OTHERS_TEMPORARY = ("QGIS3", "qgis_process", "oauth2-cache", "runtime-")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@dataclass(frozen=True)
class Scenario:
    """A job on small inputs: {stock} stands for the folder of inputs, {here} for that of results.

    Attributes:
        results: Their names in {here}.
        earlier: Settings that differ in the run that made the earlier results; None = there are none.
        given: Folders of the stock that are copied into {here} first: the job changes them.
    """

    name: str
    job: str
    settings: dict[str, Any]
    results: tuple[str, ...]
    earlier: Optional[dict[str, Any]] = None
    given: tuple[str, ...] = ()


BESIDE = {"input": ["{stock}/beside/image.tif"], "label_rasters": ["{stock}/beside/labels.tif"]}
SCENE, SMALL = "{stock}/scene/image.tif", "{stock}/scene/small.tif"
CLASSIFIER, SEGMENTING = "{stock}/classifier.safetensors", "{stock}/segmenter.safetensors"
TILES = {"tile_size": 64, "halo": 32, "device": "cpu"}
SCENES = {"model": CLASSIFIER, "stride": 16, "device": "cpu"}

SCENARIOS = (
    Scenario("export", "exportchips", {**CUT, "overwrite": True}, ("chips",)),
    Scenario("export over", "exportchips", {**CUT, "overwrite": True}, ("chips",), {"seed": 7, "chip_size": 16}),
    Scenario("export resumed", "exportchips", {**CUT, "resume": True, "overwrite": True}, ("chips",), {"seed": 7}),
    Scenario("export appended", "exportchips", {**CUT, **BESIDE, "append": True}, ("chips",), {**CUT, "append": False}),
    Scenario("split", "splitchips", {"chips": "{here}/chips", "seed": 5}, ("chips",), None, ("chips",)),
    Scenario(
        "import", "importchips", {"input": "{stock}/coco", "output": "{here}/chips", "overwrite": True},
        ("chips",), {"input": "{stock}/arcgis"},
    ),
    *(
        Scenario(
            f"convert to {kind}", "convertchips",
            {"chips": f"{{stock}}/{chips}", "output": "{here}/folder", "folder_format": kind, "overwrite": True},
            ("folder",), {"folder_format": "voc"},
        )
        for kind, chips in (("arcgis", "regions"), ("coco", "regions"), ("imagenet", "whole"))
    ),
    Scenario(
        "inspect", "inspectchips",
        {"chips": "{stock}/chips", "report": "{here}/report.html", "suspects": "{here}/suspects.gpkg"},
        ("report.html", "suspects.gpkg"), {"chips": "{stock}/regions"},
    ),
    Scenario(
        "segmenter", "trainsegmenter",
        {"chips": "{stock}/chips", "output": "{here}/model.safetensors", "seed": 1, **SEGMENTER, **BRIEF},
        ("model.safetensors",), {"seed": 2},
    ),
    Scenario(
        "classifier", "trainclassifier",
        {"chips": "{stock}/classes", "output": "{here}/model.safetensors", "report": "{here}/report.html", **TINY,
         "seed": 1, "epochs": 3},
        ("model.safetensors", "report.html"), {"seed": 2},
    ),
    Scenario(
        "segment", "segmentraster",
        {"input": SCENE, "model": SEGMENTING, "output": "{here}/map.tif", "probabilities": "{here}/shares.tif",
         **TILES},
        ("map.tif", "shares.tif"), {"input": SMALL},
    ),
    Scenario(
        "scenes", "classifyscenes",
        {"input": SCENE, "output": "{here}/map.tif", "probabilities": "{here}/shares.tif", "grid": "{here}/grid.gpkg",
         **SCENES},
        ("map.tif", "shares.tif", "grid.gpkg"), {"input": SMALL},
    ),
    Scenario("grid", "classifyscenes", {"input": SCENE, "grid": "{here}/grid.geojson", **SCENES}, ("grid.geojson",)),
    Scenario(
        "photographs", "classifyscenes",
        {"input_folder": "{stock}/photographs", "table": "{here}/table.csv", "model": CLASSIFIER, "device": "cpu"},
        ("table.csv",), {"model": CLASSIFIER, "threshold": 0.99},
    ),
    Scenario(
        "features", "classifyfeatures",
        {"input": SCENE, "model": CLASSIFIER, "features": "{stock}/features.gpkg", "output": "{here}/answers.gpkg",
         "device": "cpu"},
        ("answers.gpkg",), {"placement": "bounding_boxes"},
    ),
    Scenario(
        "activation", "activationmaps",
        {"input": SCENE, "model": CLASSIFIER, "output": "{here}/heat.tif", "target_class": "dark", **TILES},
        ("heat.tif",), {"target_class": "bright"},
    ),
    Scenario(
        "overlays", "activationmaps",
        {"input_folder": "{stock}/photographs", "model": CLASSIFIER, "pictures": "{here}/pictures", "device": "cpu"},
        ("pictures",),
    ),
    Scenario(
        "filters", "activationmaps",
        {"model": CLASSIFIER, "kind": "filters", "picture": "{here}/filters.png"}, ("filters.png",),
    ),
)  # fmt: skip


@dataclass
class Touch:
    """Something that a job did to the disk."""

    event: str
    path: str

    def __str__(self) -> str:
        return f"{self.event} {self.path}"


def watch(folders: tuple[Path, ...], on_touch: Callable[[Touch], None]) -> None:
    """Call `on_touch` before everything that this process does to the disk in some folders; for good."""
    begins = tuple(map(str, folders))

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in TOUCHES or not isinstance(arguments[0], (str, bytes, os.PathLike)):
            return
        path = os.fsdecode(arguments[0])
        if path.startswith(begins) and (event != "open" or (arguments[2] or 0) & WRITING):
            on_touch(Touch(event, path))

    sys.addaudithook(hook)


@dataclass
class State:
    """What lies in the folder of results.

    Attributes:
        results: Name → its text, see `known_as`; "half: …" where that fails.
        names: Everything there.
    """

    results: dict[str, str]
    names: set[str] = field(default_factory=set)

    @property
    def half(self) -> list[str]:
        """Results that cannot be read."""
        return [f"{name} ({text})" for name, text in self.results.items() if text.startswith("half")]


@dataclass(frozen=True)
class Expected:
    """What a scenario comes to: before it, after it, and after it was run once more."""

    old: State
    new: State
    newer: State
    touches: list[Touch]
    seconds: float


class Killing:
    """Kills jobs, and keeps what it found.

    Args:
        base: An empty folder.
        stock: That of the inputs, see `jobs.make_stock`.
        note: Called with each finding.
        counts: Kind of kill → how many; is added to.
    """

    def __init__(
        self, server: Server, base: Path, stock: Path, note: Callable[[str, str], None], counts: dict[str, int]
    ) -> None:
        self.server, self.stock, self.note, self.counts = server, stock, note, counts
        self.here, self.kept = base / "here", base / "earlier"
        self.expected: dict[str, Expected] = {}

    # What is to be expected

    def learn(self, scenario: Scenario) -> Expected:
        """Run a scenario undisturbed, and keep its earlier results for all runs to come."""
        if scenario.name in self.expected:
            return self.expected[scenario.name]
        remove_tree(self.here)
        self.here.mkdir(parents=True)
        for name in scenario.given:
            shutil.copytree(self.stock / name, self.here / name)
        if scenario.earlier is not None:
            self.must(self.run(scenario, **scenario.earlier), scenario, "the earlier run")
        shutil.copytree(self.here, self.kept / scenario.name)
        self.server.clear_temporary()
        old = self.look(scenario)
        traced = self.server.scratch / "touches.txt"
        traced.unlink(missing_ok=True)

        def trace() -> None:
            log = traced.open("a")  # stays open: the child ends with os._exit
            watch((self.here,), lambda touch: print(touch.event, touch.path, sep="\t", file=log, flush=True))

        outcome = self.run(scenario, at_begin=trace)
        self.must(outcome, scenario, "an undisturbed run")
        new = self.look(scenario)
        touches = [Touch(*line.split("\t")) for line in traced.read_text().splitlines()] if traced.exists() else []
        again = self.run(scenario)
        if not _may_not_replace(again):
            self.must(again, scenario, "the second run")
        found = Expected(old, new, self.look(scenario), touches, outcome.seconds)
        odd = self._odd(found.new.names | found.newer.names)
        if odd:
            self.note(scenario.name, f"an undisturbed run leaves {sorted(odd)}")
        self.expected[scenario.name] = found
        return found

    @staticmethod
    def _odd(names: set[str]) -> set[str]:
        return {name for name in names if any(part.startswith(".") for part in name.split("/"))}

    def must(self, outcome: Outcome, scenario: Scenario, what: str) -> None:
        """Nothing can be tried with a job that fails undisturbed."""
        if outcome.end != "result":
            raise AssertionError(f"{scenario.name}: {what} failed: {outcome}")

    def run(
        self,
        scenario: Scenario,
        at_begin: Callable[[], None] = lambda: None,
        kill_after: Optional[float] = None,
        **other: Any,
    ) -> Outcome:
        """Run a scenario's job in a child."""
        settings = self.settings(scenario, **other)

        def begin() -> None:
            journal.SECONDS_BETWEEN_NOTES = 0.0  # so that there is something to resume
            at_begin()

        return self.server.call(
            lambda heard: bool(JOBS[scenario.job](settings, heard)), at_begin=begin, kill_after=kill_after
        )

    def settings(self, scenario: Scenario, **other: Any) -> dict[str, Any]:
        """A scenario's settings with all paths."""
        return filled({**scenario.settings, **other}, stock=self.stock, here=self.here)

    def look(self, scenario: Scenario) -> State:
        """What is there now, read in a child."""

        def read(_: Any) -> dict[str, str]:
            found = {}
            for name in scenario.results:
                recover(self.here / name)  # as its next opening does, or the parent of a killed worker
                try:
                    found[name] = known_as(self.here / name)
                except BaseException as error:
                    found[name] = f"half: {type(error).__name__}: {error}"[:300]
            return found

        outcome = self.server.call(read)
        if outcome.end != "result":
            return State(dict.fromkeys(scenario.results, f"half: {outcome}"), names_in(self.here))
        return State(outcome.result, names_in(self.here))

    def restore(self, scenario: Scenario) -> None:
        """Put the earlier results back."""
        remove_tree(self.here)
        shutil.copytree(self.kept / scenario.name, self.here)
        self.server.clear_temporary()

    # Kills

    def at_renames(self, scenario: Scenario) -> None:
        """Kill a scenario's job before each of its renames."""
        for number, touch in enumerate(self.learn(scenario).touches):
            if touch.event in RENAMES:
                self.at_touch(scenario, number, "before a rename")

    def at_touch(self, scenario: Scenario, number: int, kind: str = "before a touch of the disk") -> None:
        """Kill a scenario's job before the touch of that number."""
        expected = self.learn(scenario)
        self.restore(scenario)
        left = [number]

        def count(touch: Touch) -> None:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)

        outcome = self.run(scenario, at_begin=lambda: watch((self.here,), count))
        self._after(scenario, outcome, kind, f"touch {number} ({expected.touches[number]})")

    def at_time(self, scenario: Scenario, rng: random.Random, kind: str = "at a random time") -> None:
        """Kill a scenario's job at any time."""
        seconds = rng.uniform(0.01, self.learn(scenario).seconds)
        self.restore(scenario)
        outcome = self.run(scenario, kill_after=seconds)
        self._after(scenario, outcome, kind, f"after {seconds:.3f} s")

    def _after(self, scenario: Scenario, outcome: Outcome, kind: str, when: str) -> None:
        if outcome.end not in ("signal 9", "result"):
            self.note(scenario.name, f"{kind}, {when}: ended otherwise: {outcome}")
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self.check(scenario, f"{kind}, {when}")

    def check(self, scenario: Scenario, when: str) -> None:
        """Look whether a kill has done harm, and whether the job can be run again."""
        expected = self.learn(scenario)
        found = list(self._harm(scenario, expected))
        middle = self.look(scenario)
        outcome = self.run(scenario)
        reached = self._successor(expected, middle)
        if outcome.end != "result" and not (reached is expected.newer and _may_not_replace(outcome)):
            found.append(f"the next run fails: {outcome}")
        else:
            end = self.look(scenario)
            for name, text in reached.results.items():
                if end.results[name] != text:
                    found.append(f"the next run's {name} is not what it should be ({end.results[name]})")
            more, fewer = sorted(end.names - reached.names), sorted(reached.names - end.names)
            if more or fewer:
                found.append(f"the next run leaves {more[:5]} and lacks {fewer[:5]}")
        left = [name for name in self.server.left_temporary() if not name.startswith(OTHERS_TEMPORARY)]
        if left:
            found.append(f"temporary files are left: {left[:5]}")
        for text in found:
            self.note(scenario.name, f"{when}: {text}")

    def _harm(self, scenario: Scenario, expected: Expected) -> Iterator[str]:
        """What is neither whole nor hidden after a kill."""
        seen = names_in(self.here)
        strange = seen - expected.old.names - expected.new.names
        shown = sorted(name for name in strange - self._odd(strange) if not _inside_result(name, scenario))
        if shown:
            yield f"names that belong to no result: {shown[:5]}"
        state = self.look(scenario)
        yield from (f"a half result: {text}" for text in state.half)
        for name, text in state.results.items():
            if text not in (expected.old.results[name], expected.new.results[name]) and not text.startswith("half"):
                gone = text == ABSENT
                yield f"{name} is gone" if gone else f"{name} is neither the earlier result nor the new one"

    @staticmethod
    def _successor(expected: Expected, middle: State) -> State:
        """What running the job comes to from here: a job that adds to its results adds once more."""
        if middle.results == expected.new.results and middle.results != expected.old.results:
            return expected.newer
        return expected.new


def _inside_result(name: str, scenario: Scenario) -> bool:
    """Whether a file lies in a folder that is a result; what no index names does no harm there."""
    return any(name.startswith(f"{result}/") for result in scenario.results)


def _may_not_replace(outcome: Outcome) -> bool:
    """Whether a job does not replace results, and there are some."""
    return outcome.end == "refused" and " exists" in outcome.problem
