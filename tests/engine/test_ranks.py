"""Trainings in two ranks: equal to one process with the doubled batch, and nothing of them outlives its parent."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed
from heard import Heard
from made_chips import Chip, halves, textured, write_chips
from ranked import ROOT, loopback, start_ranks, without_batch_norm
from safetensors.torch import load_file
from scene_folder import write_scene_folder

from plugin.engine import ranks, worker
from plugin.engine.config import TrainClassifierConfig, TrainSegmenterConfig
from plugin.engine.device import choose_device
from plugin.engine.errors import InputError, ResourceError
from plugin.engine.models.header import read_header
from plugin.engine.training import train_segmenter as segmenter
from plugin.engine.training.chips import steps_an_epoch
from plugin.engine.training.train_classifier import train_classifier
from plugin.engine.training.watch import flat

pytestmark = pytest.mark.skipif(
    sys.platform == "win32" or not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
    reason="torch.distributed with gloo is not here",
)

SEGMENTER: dict[str, Any] = {
    "architecture": "fcn8s", "encoder": "mobilenet_v3_small", "pretrained": "none", "epochs": 2, "batch_size": 2,
    "device": "cpu", "augmentation": "none", "class_weights": "balanced", "optimizer": "sgd", "learning_rate": 0.05,
    "ema_decay": 0.9, "mixed_precision": False, "seed": 3,
}  # fmt: skip
CLASSIFIER: dict[str, Any] = {
    "architecture": "keras_cnn", "filters": [4, 8], "hidden_sizes": [8], "epochs": 2, "batch_size": 3,
    "device": "cpu", "augmentation": "none", "dropout": 0.0, "block_dropout": 0.0,
    "mixed_precision": False,
}  # fmt: skip
# Losses that are no mean over pixels: ranks share the sums that they are made of.
SUMMED: dict[str, dict[str, Any]] = {
    "areas": {"loss": "focal_tversky", "second_loss": "lovasz", "epochs": 1},
    "both": {"loss": "cross_entropy", "second_loss": "unified_focal", "epochs": 1, "accumulation": 2},
}


def labels(number: int) -> Any:
    """A mask in which few or nearly all pixels have no label."""
    mask = halves(1 + number % 3, 1 + (number + 1) % 3)
    mask[: 60 * (number % 4) // 3] = 0
    return mask


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of what two ranks have trained: `two`, the same after an interruption, and a classifier."""
    folder = tmp_path_factory.mktemp("ranks")
    splits = ["training"] * 11 + ["validation"] * 3 + ["test"]
    chips = [Chip(textured(number), labels(number), split) for number, split in enumerate(splits)]
    settings = {**SEGMENTER, "chips": write_chips(folder / "chips", chips)}
    rest = write_chips(folder / "rest", [Chip(textured(number), split="test") for number in range(5)], "unlabelled")
    more = {**settings, "unlabelled_chips": rest, "pseudo_label_confidence": 0.4, "unlabelled_ramp": 0.0}
    scenes = str(write_scene_folder(folder / "scenes", {"training": 12, "validation": 5, "test": 1}))
    configs = {
        "two": ("trainsegmenter", settings),
        "cut": ("trainsegmenter", {**settings, "output": str(folder / "resumed.safetensors"), "resume": True}),
        "kept/cut": ("trainsegmenter", {**settings, "output": str(folder / "kept.safetensors"), "resume": True}),
        "resumed": ("trainsegmenter", {**settings, "resume": True}),
        **{name: ("trainsegmenter", {**settings, **values}) for name, values in SUMMED.items()},
        "scenes": ("trainclassifier", {**CLASSIFIER, "chips": scenes}),
        "more": ("trainsegmenter", more),
        "more/cut": ("trainsegmenter", {**more, "output": str(folder / "more_resumed.safetensors"), "resume": True}),
        "more_resumed": ("trainsegmenter", {**more, "resume": True}),
    }
    for name, (job, config) in configs.items():
        config = {"output": str(folder / f"{name}.safetensors"), **config}
        (folder / f"{name}.json").parent.mkdir(exist_ok=True)
        (folder / f"{name}.json").write_text(json.dumps({"protocol": 1, "job": job, "config": config}))
    both = start_ranks(["tests/ranked.py", *(str(folder / f"{name}.json") for name in configs)])
    said = [rank.communicate(timeout=300) for rank in both]
    assert [rank.returncode for rank in both] == [0, 0], said
    # The first rank speaks for all, but for errors.
    assert [json.loads(line)["kind"] for line in said[1][0].splitlines()] == ["Cancelled"] * 3
    return folder


def alone(path: Path, kind: Any, train: Any) -> Path:
    """The model file of the same job in one process with the doubled batch."""
    config = json.loads(path.read_text())["config"]
    output = path.with_name(f"alone_{path.stem}.safetensors")
    values = {**config, "output": str(output), "batch_size": 2 * config["batch_size"]}
    train(kind.from_json(values), Heard())
    return output


def assert_alike(one: Path, other: Path) -> None:
    first, second = load_file(one), load_file(other)
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert torch.allclose(value.double(), second[key].double(), rtol=0, atol=1e-5), key
    mine, theirs = read_header(str(one)), read_header(str(other))
    for record, expected in zip([*mine.history, mine.metrics], [*theirs.history, theirs.metrics], strict=True):
        figures, wanted = flat(record), flat(expected)
        assert figures.keys() == wanted.keys()
        for name in figures.keys() - {"seconds", "chips_a_second", "memory"}:
            # A pixel on the edge between two classes may be counted otherwise.
            assert figures[name] == pytest.approx(wanted[name], abs=1e-5 if "loss" in name else 3e-4), name


def test_two_ranks_are_equal_to_one_process_with_the_doubled_batch(jobs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmenter, "create_model", without_batch_norm(segmenter.create_model))
    assert_alike(jobs / "two.safetensors", alone(jobs / "two.json", TrainSegmenterConfig, segmenter.train_segmenter))


@pytest.mark.parametrize("name", SUMMED)
def test_losses_of_areas_are_those_of_the_chips_of_all_ranks(
    jobs: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:  # fmt: skip
    monkeypatch.setattr(segmenter, "create_model", without_batch_norm(segmenter.create_model))
    one = alone(jobs / f"{name}.json", TrainSegmenterConfig, segmenter.train_segmenter)
    first, second = load_file(jobs / f"{name}.safetensors"), load_file(one)
    assert all(torch.allclose(value.double(), second[key].double(), rtol=0, atol=1e-5) for key, value in first.items())
    losses = [read_header(str(path)).history[0]["training"]["loss"] for path in (jobs / f"{name}.safetensors", one)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_ranks_count_the_chips_of_all(jobs: Path) -> None:
    assert_alike(jobs / "scenes.safetensors", alone(jobs / "scenes.json", TrainClassifierConfig, train_classifier))


def test_only_as_many_ranks_resume(jobs: Path) -> None:
    config = {**json.loads((jobs / "resumed.json").read_text())["config"], "resume": True}
    config["output"] = str(jobs / "kept.safetensors")
    with pytest.raises(InputError, match="of a training in 2 ranks, not 1"):
        segmenter.train_segmenter(TrainSegmenterConfig.from_json(config), Heard())


def test_ranks_resume_to_the_same_weights(jobs: Path) -> None:
    whole, resumed = load_file(jobs / "two.safetensors"), load_file(jobs / "resumed.safetensors")
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())
    assert_alike(jobs / "two.safetensors", jobs / "resumed.safetensors")
    assert not (jobs / "resumed.checkpoint.safetensors").exists()


def test_ranks_learn_from_unlabelled_chips_and_resume(jobs: Path) -> None:
    assert_alike(jobs / "more.safetensors", jobs / "more_resumed.safetensors")
    whole, resumed = load_file(jobs / "more.safetensors"), load_file(jobs / "more_resumed.safetensors")
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())
    history = read_header(str(jobs / "more.safetensors")).history
    assert all(0 < record["training"]["pseudo_label_share"] < 1 for record in history)


TEST_JOB = {"protocol": 1, "job": "test", "config": {}}
CODE = """
import os, sys
sys.path.insert(0, {root!r})
from plugin.engine import config, errors, worker
def job(settings, reporter):
{code}
job.config, job.ranks = config.TrainSegmenterConfig, {shared}
worker.JOBS["test"] = job
os._exit(worker.main(sys.argv[1:]))
"""


JOIN = """
    import torch
    from plugin.engine.torchrun import own_rank
    from plugin.engine import ranks
    ranks.join(torch.device("cpu"))
"""


def script(folder: Path, code: str, shared: bool = True) -> list[str]:
    """A command that runs a job with some code."""
    (folder / "job.json").write_text(json.dumps(TEST_JOB))
    text = CODE.format(root=str(ROOT), code=textwrap.indent(textwrap.dedent(code), "    "), shared=shared)
    (folder / "script.py").write_text(text)
    return [str(folder / "script.py"), str(folder / "job.json")]


def test_ranks_compare_and_gather_and_the_error_of_any_ends_all(tmp_path: Path) -> None:
    code = """
        ranks.check_same({"settings": {"a": 1}, "chips": "same"})
        try:
            ranks.check_same({"settings": {"a": own_rank().number}, "chips": "same"})
        except errors.InputError as error:
            reporter.log(error.problem)
        reporter.log(str(ranks.gather(torch.arange(3)[own_rank().number :]).tolist()))
        if own_rank().number:
            raise errors.InputError("The chip is damaged.", "Export it again.")
        while True:
            ranks.wait()
    """
    both = start_ranks(script(tmp_path, textwrap.dedent(JOIN) + textwrap.dedent(code)))
    (differs, rows, lost), (damaged,) = (map(json.loads, rank.communicate(timeout=60)[0].splitlines()) for rank in both)
    assert differs["text"] == "The ranks do not have the same settings."
    assert rows["text"] == "[0, 1, 2, 1, 2]"
    assert damaged["problem"] == "Rank 1: The chip is damaged." and damaged["remedy"] == "Export it again."
    assert lost["kind"] == "ResourceError" and "connection to another rank" in lost["problem"]
    assert "gloo" in lost["problem"], "and what it says itself"


def test_a_job_that_cannot_be_shared_is_refused(tmp_path: Path) -> None:
    both = start_ranks(script(tmp_path, "pass", shared=False))
    told = [json.loads(rank.communicate(timeout=60)[0]) for rank in both]
    assert all("runs as a single process, and torchrun has started 2" in event["problem"] for event in told)


def test_no_rank_outlives_torchrun(tmp_path: Path) -> None:
    code = f"""
        open({str(tmp_path)!r} + f"/{{os.getpid()}}.rank", "w").close()
        while True:
            ranks.wait()
    """
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    launcher = subprocess.Popen(
        [sys.executable, "-m", *torchrun, *script(tmp_path, textwrap.dedent(JOIN) + textwrap.dedent(code))],
        cwd=ROOT, env={**os.environ, **loopback()}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        pids = wait_for(lambda: pids if len(pids := [int(one.stem) for one in tmp_path.glob("*.rank")]) == 2 else None)
        assert pids, "the ranks have not started"
    finally:
        launcher.send_signal(signal.SIGKILL)
        launcher.wait()
    ended = wait_for(lambda: not any(map(lives, pids)), 3)
    for pid in filter(lives, pids):
        os.kill(pid, signal.SIGKILL)
    assert ended


def test_an_empty_standard_input_ends_no_rank_and_one_that_ends_later_does(tmp_path: Path) -> None:
    command = script(tmp_path, "while True:\n    reporter.check_wanted()")
    empty, open_ones = start_ranks(command), start_ranks(command, stdin=subprocess.PIPE)
    try:
        time.sleep(1.5)
        assert [rank.poll() for rank in (*empty, *open_ones)] == [None] * 4
        for rank in open_ones:
            rank.stdin.close()
        assert open_ones[0].wait(3) == worker.EXIT_CANCELLED
        assert empty[0].poll() is None and open_ones[1].poll() is None  # torchrun ends the other ranks
    finally:
        for rank in (*empty, *open_ones):
            rank.kill()


def wait_for(found: Any, seconds: float = 60) -> Any:
    """What a function returns as soon as it is true, or after some seconds."""
    end = time.monotonic() + seconds
    while not (result := found()) and time.monotonic() < end:
        time.sleep(0.02)
    return result


def lives(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return not Path("/proc/self").exists()


def test_steps_have_a_chip_for_each_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    assert steps_an_epoch(9, 4) == 3
    as_rank(monkeypatch, 0, 8)
    assert steps_an_epoch(1001, 1) == 125  # 126 would leave a rank without a chip
    assert steps_an_epoch(33, 2) == 3
    with pytest.raises(InputError, match="7 training chips for 8 ranks"):
        steps_an_epoch(7, 1)


def test_each_rank_of_a_machine_has_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr("plugin.engine.device._failure", lambda device: None)
    as_rank(monkeypatch, 3, 4)
    assert choose_device("auto") == choose_device("cuda") == torch.device("cuda", 3)
    assert choose_device("cpu") == torch.device("cpu")
    with pytest.raises(ResourceError, match="DEVICE is cuda:1, and 4 ranks"):
        choose_device("cuda:1")
    as_rank(monkeypatch, 4, 5)
    with pytest.raises(ResourceError, match="which has 4 GPUs"):
        choose_device("auto")


def test_ranks_that_cannot_be_connected_are_no_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    as_rank(monkeypatch, 0, 2)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setenv("MASTER_PORT", str(taken.getsockname()[1]))
        with pytest.raises(ResourceError, match=r"The 2 ranks cannot be connected \(.*(?i:address already in use)"):
            ranks.join(torch.device("cpu"))


def as_rank(monkeypatch: pytest.MonkeyPatch, number: int, count: int) -> None:
    """Let this process take itself for one of several ranks."""
    values = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    for name, value in {**values, **loopback(), "MASTER_PORT": 1}.items():
        monkeypatch.setenv(name, str(value))
