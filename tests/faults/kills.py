"""Jobs that are killed: at each rename, at any other touch of the disk, and at any time.

After each kill the results that were there, or the new ones, are there and whole; the same job then succeeds, and
leaves nothing but its results.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from checks import ABSENT, known_as, names_in
from jobs import JOBS, filled
from scenarios import Scenario
from server import Outcome, Server, remove_tree
from touches import RENAME, Touch, observe, traced

from plugin.engine.chips import journal
from plugin.engine.drafts import recover

# What QGIS leaves by itself when it is killed.
OTHERS_TEMPORARY = ("QGIS3", "qgis_process", "oauth2-cache", "runtime-")


@dataclass
class State:
    """What lies in the folder of results.

    Attributes:
        results: Name → its text, see `known_as`; "half: …" where that fails.
        names: Everything there.
    """

    results: dict[str, str]
    names: set[str] = field(default_factory=set)


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
        address: Of a server of map tiles.
    """

    def __init__(
        self,
        server: Server,
        base: Path,
        stock: Path,
        note: Callable[[str, str], None],
        counts: dict[str, int],
        address: str,
    ) -> None:
        self.server, self.stock, self.note, self.counts, self.address = server, stock, note, counts, address
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
        trace = self.server.scratch / "touches.txt"
        trace.unlink(missing_ok=True)
        outcome = self.run(scenario, trace=str(trace))
        self.must(outcome, scenario, "an undisturbed run")
        new = self.look(scenario)
        touches = traced(trace)
        again = self.run(scenario)
        if not (scenario.once and _may_not_replace(again)):
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
        kill_at: Optional[int] = None,
        kill_after: Optional[float] = None,
        trace: Optional[str] = None,
        **other: Any,
    ) -> Outcome:
        """Run a scenario's job in a child.

        Args:
            kill_at: The touch of the disk before which it is killed.
            kill_after: The seconds after which it is killed.
            trace: The file to list the touches in.
            other: Settings that are different this time.
        """
        settings = self.settings(scenario, **other)

        def begin() -> None:
            journal.SECONDS_BETWEEN_NOTES = 0.0  # so that there is something to resume
            observe(str(self.here), kill_at, trace)

        return self.server.call(
            lambda heard: bool(JOBS[scenario.job](settings, heard)), at_begin=begin, kill_after=kill_after
        )

    def settings(self, scenario: Scenario, **other: Any) -> dict[str, Any]:
        """A scenario's settings with all paths."""
        return filled({**scenario.settings, **other}, stock=self.stock, here=self.here, address=self.address)

    def look(self, scenario: Scenario) -> State:
        """What is there when somebody opens it, in a child."""

        def read(_: Any) -> dict[str, str]:
            found = {}
            for name in scenario.results:
                try:
                    recover(self.here / name)  # as its next opening does, or the parent of a killed worker
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

    def at_renames(self, scenario: Scenario, kind: str = "before a rename", both: bool = True) -> None:
        """Kill a scenario's job before each of its renames.

        Args:
            both: Once a reader comes next and once the job; else in turns.
        """
        touches = self.learn(scenario).touches
        for number in (place for place, touch in enumerate(touches) if touch.event == RENAME):
            for reads in (True, False) if both else (number % 2 == 0,):
                self.at_touch(scenario, number, reads, kind)

    def at_touch(self, scenario: Scenario, number: int, reads: bool, kind: str = "before a touch of the disk") -> None:
        """Kill a scenario's job before the touch of that number."""
        expected = self.learn(scenario)
        self.restore(scenario)
        outcome = self.run(scenario, kill_at=number)
        self._after(scenario, outcome, reads, kind, f"touch {number} ({expected.touches[number]})")

    def at_time(self, scenario: Scenario, rng: random.Random, kind: str = "at a random time") -> None:
        """Kill a scenario's job at any time."""
        seconds = rng.uniform(0.01, self.learn(scenario).seconds)
        self.restore(scenario)
        outcome = self.run(scenario, kill_after=seconds)
        self._after(scenario, outcome, rng.random() < 0.5, kind, f"after {seconds:.3f} s")

    def _after(self, scenario: Scenario, outcome: Outcome, reads: bool, kind: str, when: str) -> None:
        if outcome.end not in ("signal 9", "result"):
            self.note(scenario.name, f"{kind}, {when}: ended otherwise: {outcome}")
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self.check(scenario, reads, f"{kind}, {when}, then {'a reader' if reads else 'the job again'}")

    def check(self, scenario: Scenario, reads: bool, when: str) -> None:
        """Look whether a kill has done harm, and whether the job can be run again.

        Args:
            reads: Whether somebody opens the results before.
        """
        expected = self.learn(scenario)
        found = list(self._strange_names(scenario, expected))
        middle = self.look(scenario) if reads else None
        if middle is not None:
            found += self._harm(middle, expected)
        outcome = self.run(scenario)
        end = self.look(scenario)
        refused = scenario.once and _may_not_replace(outcome)
        if outcome.end != "result" and not refused:
            found.append(f"the next run fails: {outcome}")
        reached = expected.new if middle is None else self._successor(expected, middle)
        if middle is None and end.results == expected.newer.results:  # a job that adds may have done so twice
            reached = expected.newer
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

    def _strange_names(self, scenario: Scenario, expected: Expected) -> Iterator[str]:
        """What is neither a result nor hidden; what lies in a folder and no index names does no harm there."""
        strange = names_in(self.here) - expected.old.names - expected.new.names - set(scenario.kept)
        inside = tuple(f"{result}/" for result in scenario.results)
        shown = sorted(name for name in strange - self._odd(strange) if not name.startswith(inside))
        if shown:
            yield f"names that belong to no result: {shown[:5]}"

    @staticmethod
    def _harm(middle: State, expected: Expected) -> Iterator[str]:
        """What is not whole after a kill, when it is opened."""
        for name, text in middle.results.items():
            if text.startswith("half"):
                yield f"a half result: {name} ({text})"
            elif text not in (expected.old.results[name], expected.new.results[name]):
                gone = text == ABSENT
                yield f"{name} is gone" if gone else f"{name} is neither the earlier result nor the new one"

    @staticmethod
    def _successor(expected: Expected, middle: State) -> State:
        """What running the job comes to from here: a job that adds to its results adds once more."""
        if middle.results == expected.new.results and middle.results != expected.old.results:
            return expected.newer
        return expected.new


def _may_not_replace(outcome: Outcome) -> bool:
    """Whether a job does not replace results, and there are some."""
    return outcome.end == "refused" and " exists" in outcome.problem
