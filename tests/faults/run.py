"""Faults on purpose: jobs that are killed, and inputs that are damaged or made to do harm.

Ends with a summary, and with exit status 1 where anything was found. What was found can be tried again by its seed.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1])]

import kills  # noqa: E402
import mutations  # noqa: E402
import processes  # noqa: E402
import scenarios  # noqa: E402
from jobs import make_stock  # noqa: E402
from server import Server  # noqa: E402
from tile_server import serving_elsewhere  # noqa: E402

# In the short run: scenarios that take moments, of every way to publish.
QUICK = ("export over", "split", "convert to coco", "scenes", "features")
QGIS_SHARE = 0.1  # of the kills in real processes


class Findings:
    """What was found, printed as it comes and kept in a file."""

    def __init__(self, path: Path) -> None:
        self.path, self.texts = path, list[str]()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)

    def note(self, about: str, text: str) -> None:
        """Keep a finding."""
        self.texts.append(f"{about}: {text}")
        print(f"FINDING {about}: {text}"[:2000], flush=True)
        with self.path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{about}: {text}\n")


def main() -> int:
    """Run what the command line asks for; the exit status."""
    options = read_options()
    begun = time.monotonic()
    findings = Findings(Path(options.findings))
    print(f"seed {options.seed}; findings go to {findings.path}", flush=True)
    with scratch_folder(options.scratch) as base, serving_elsewhere() as address:
        server, stock = Server(base / "scratch"), base / "stock"
        stock.mkdir()
        made = server.call(lambda _: make_stock(stock))
        if made.end != "result":
            print(f"The inputs cannot be made: {made}\n{server.printed()}")
            return 1
        killing = kills.Killing(server, base / "kills", stock, findings.note, {}, address)
        mutating = mutations.Mutating(server, base / "mutations", stock, findings.note)
        if options.mutation:
            print(mutating.run(options.mutation))
        else:
            kill(killing, options, base)
            for number in range(options.mutations):
                mutating.run(f"{options.seed}/{number}")
                tell(number + 1, options.mutations, "mutations")
    print("\n== faults")
    total = sum(killing.counts.values())
    print(f"kills        {total}" + "".join(f"\n  {count:5} {kind}" for kind, count in killing.counts.items()))
    total = sum(mutating.ends.values())
    print(f"mutations    {total}" + "".join(f"\n  {count:5} {end}" for end, count in mutating.ends.items()))
    print("  of " + ", ".join(f"{name} {count}" for name, count in sorted(mutating.counts.items())))
    print(f"  the slowest took {mutating.slowest:.1f} s of the processor, the largest {mutating.largest / 1e9:.2f} GB")
    print(f"findings     {len(findings.texts)}\nseed         {options.seed}")
    print(f"time         {time.monotonic() - begun:.0f} s")
    return 1 if findings.texts else 0


def kill(killing: kills.Killing, options: argparse.Namespace, base: Path) -> None:
    """Kill jobs: before each rename, and as often as is asked for at other touches of the disk and at any time."""
    names = options.job or (QUICK if options.short else [scenario.name for scenario in scenarios.SCENARIOS])
    chosen = [scenario for scenario in scenarios.SCENARIOS if scenario.name in names]
    for scenario in chosen if options.kills else []:
        killing.at_renames(scenario, both=not options.short)
        print(f"{scenario.name}: killed before each rename", flush=True)
    for number in range(options.kills):
        rng = random.Random(f"{options.seed}/kill/{number}")
        scenario = chosen[number % len(chosen)]
        if rng.random() < 0.5:
            killing.at_touch(scenario, rng.randrange(len(killing.learn(scenario).touches)), rng.random() < 0.5)
        else:
            killing.at_time(scenario, rng)
        tell(number + 1, options.kills, "kills")
    if options.processes:
        kill_processes(killing, chosen, options.processes, options.seed, base)


def kill_processes(
    killing: kills.Killing, chosen: Sequence[scenarios.Scenario], count: int, seed: int, base: Path
) -> None:
    """Kill real workers and real parents."""
    by_worker = [scenario for scenario in chosen if scenario.name in processes.IN_WORKERS]
    by_qgis = [scenario for scenario in chosen if scenario.name in processes.IN_QGIS]
    script, program = processes.RealKilling(killing, by_worker), processes.find_qgis()
    if program is None:
        print("There is no QGIS on this machine: none is killed.")
    in_qgis = round((QGIS_SHARE if by_worker else 1) * count) if program and by_qgis else 0
    count = count if by_worker else in_qgis
    for number in range(count - in_qgis):
        victim = processes.WORKER if number % 2 else processes.PARENTS
        script.at_any_time(random.Random(f"{seed}/process/{number}"), victim)
        tell(number + 1, count, "kills of processes", 10)
    if program and in_qgis:
        qgis = processes.QgisKilling(killing, by_qgis, program, base / "qgis")
        for number in range(in_qgis):
            qgis.at_any_time(random.Random(f"{seed}/qgis/{number}"), processes.QGIS)
            tell(count - in_qgis + number + 1, count, "kills of processes", 10)
        for scenario in by_qgis:
            qgis.at_renames(scenario, processes.QGIS_RENAMES)


def tell(done: int, all_of_them: int, what: str, step: int = 50) -> None:
    """Show now and then how far it is."""
    if done % step == 0 or done == all_of_them:
        print(f"{done} of {all_of_them} {what}", flush=True)


@contextmanager
def scratch_folder(given: str | None) -> Iterator[Path]:
    """An empty folder: the one that is given, or one that is removed at the end."""
    base = Path(given or tempfile.mkdtemp(prefix="faults-"))
    shutil.rmtree(base, ignore_errors=True)
    base.mkdir(parents=True)
    yield base
    if given is None:
        shutil.rmtree(base, ignore_errors=True)


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=240, help="beside those before each rename; 0 = not these either")
    parser.add_argument("--processes", type=int, default=60, help="kills of real workers and real parents")
    parser.add_argument("--mutations", type=int, default=2000)
    parser.add_argument("--short", action="store_true", help="few jobs only")
    names = [scenario.name for scenario in scenarios.SCENARIOS]
    parser.add_argument("--job", action="append", choices=names, help="kill only this one; may be repeated")
    parser.add_argument("--mutation", help="try only this one again: SEED/NUMBER")
    parser.add_argument("--findings", default="build/faults.txt", help="the file for what is found")
    parser.add_argument("--scratch", help="an empty folder that is kept")
    return parser.parse_args()


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    status = main()
    sys.stdout.flush()
    os._exit(status)
