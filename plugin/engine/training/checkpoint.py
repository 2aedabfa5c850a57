"""Checkpoints: a model file of the best weights so far, which also holds the whole state of its training.

The state lies beside the weights in tensors whose names begin with `header.STATE_PREFIX`, and in the metadata under
`KEY` as JSON. A model file that is not finished may be used for mapping like any other.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load

from .. import ranks
from ..config import TrainingConfig
from ..drafts import recover
from ..errors import EngineError, InputError, ResourceError
from ..events import Reporter
from ..files import checkpoint_path
from ..models.header import STATE_PREFIX, ModelHeader, metadata_in, read_header
from ..models.model_file import save_state
from ..models.whole_file import read_whole
from ..strangers.rules import DAMAGES
from ..strangers.texts import parse_json
from ..torchrun import own_rank
from .loop import Fit, Fitted, copy_state

KEY = "terrazzo_training"
FORMAT_VERSION = 1
# Settings that may differ when a training is resumed: where things lie, and where it runs.
FREE = (
    "chips", "output", "report", "history", "tensorboard", "device", "resume", "checkpoint_minutes",
    "download_weights", "recipe", "cache_folder", "compile", "calibrate", "unlabelled_chips", "baseline",
)  # fmt: skip

# Between two checkpoints lies so many times the time that it took to write the last one.
FEWEST_COSTS = 20

State = tuple[dict[str, torch.Tensor], dict[str, Any]]  # tensors, and what is ready for JSON


def write_checkpoint(path: Path, best: dict[str, torch.Tensor], header: ModelHeader, state: State) -> None:
    """Write a checkpoint under its final name, whole.

    Args:
        path: The file.
        best: The best weights so far.
        header: Describes them; not finished.
        state: Of the training.

    Raises:
        ResourceError: The file cannot be written.
    """
    tensors, facts = state
    text = json.dumps({"format_version": FORMAT_VERSION, **facts}, allow_nan=False)
    save_state(path, {**best, **{STATE_PREFIX + key: value for key, value in tensors.items()}}, header, {KEY: text})


def read_checkpoint(path: Path, header: ModelHeader) -> tuple[dict[str, torch.Tensor], ModelHeader, State]:
    """Read a checkpoint of which nothing is trusted, and compare it with the training that it shall resume.

    Args:
        path: The file.
        header: Of the training that resumes.

    Returns:
        The best weights, their header, and the state.

    Raises:
        InputError: The file is damaged, or of a training with other settings or chips.
        ResourceError: Memory is not enough.
    """
    try:
        content = read_whole(str(path))
        found = read_header(str(path), content)
        _compare(path, found, header)
        metadata = metadata_in(content)
        if KEY not in metadata:
            raise InputError(
                f"{path} holds the best weights of a training, but not the state to resume it from.",
                "Turn RESUME off to train from the beginning. ENCODER_WEIGHTS takes the file to start with.",
            )
        facts = parse_json(metadata[KEY].encode())
        if facts["format_version"] != FORMAT_VERSION:
            raise ValueError(f"its format is {facts['format_version']!r}")
        tensors = load(content)
    except (InputError, ResourceError):
        raise
    except Exception as error:  # on garbage, safetensors' reader fails in several ways
        raise damaged(path, error) from error
    state = {key[len(STATE_PREFIX) :]: value for key, value in tensors.items() if key.startswith(STATE_PREFIX)}
    best = {key: value for key, value in tensors.items() if not key.startswith(STATE_PREFIX)}
    return best, found, (state, facts)


def damaged(path: Path, error: Exception) -> InputError:
    """The error for a checkpoint that cannot be resumed from."""
    return InputError(f"The checkpoint {path} is damaged ({error}).", "Turn RESUME off to train from the beginning.")


def _compare(path: Path, found: ModelHeader, header: ModelHeader) -> None:
    """Refuse the checkpoint of another training."""
    if found.dataset_fingerprint != header.dataset_fingerprint:
        raise InputError(
            f"The checkpoint {path} is of a training on other chips than those in {header.recipe['chips']}.",
            "Choose the chip dataset that the training began with, or turn RESUME off to train from the beginning.",
        )
    now = json.loads(json.dumps(header.recipe))
    names = sorted(name for name in {*now, *found.recipe} - set(FREE) if now.get(name) != found.recipe.get(name))
    if names:
        differences = ", ".join(f"{name.upper()} {found.recipe.get(name)}, not {now.get(name)}" for name in names)
        raise InputError(
            f"The checkpoint {path} is of a training with other settings: {differences}.",
            "Choose the settings that the training began with, or turn RESUME off to train from the beginning.",
        )


class Checkpoints:
    """The checkpoint of one training: written from time to time, and read to resume it.

    Args:
        output: The model file that comes of the training.
        describe: The header for the best weights so far.
        minutes: Between two checkpoints inside of an epoch; there is one after each epoch, unless writing takes long.
        reporter: Is told what cannot be written.
    """

    def __init__(
        self, output: str, describe: Callable[[Fitted], ModelHeader], minutes: float, reporter: Reporter
    ) -> None:
        self.path, self.describe, self.minutes, self.reporter = checkpoint_path(output), describe, minutes, reporter
        self.written, self.cost = time.monotonic(), 0.0  # seconds
        self.failed = False

    def resume(self, fit: Fit) -> None:
        """Go on where an interrupted training was, if it has left a checkpoint.

        Raises:
            InputError: The checkpoint is damaged, or of another training.
            ResourceError: Memory is not enough.
        """
        with ranks.in_turns():
            recover(self.path)
        if not self.path.exists():
            self.reporter.log(f"There is no checkpoint {self.path}: training starts from the beginning.")
            return
        best, header, (tensors, facts) = read_checkpoint(self.path, self.describe(fit.fitted))
        then, now = facts.get("ranks", 1), own_rank().count
        if then != now:
            raise InputError(
                f"The checkpoint {self.path} is of a training in {then} ranks, not {now}: its steps have other chips.",
                "Start as many ranks as before, or turn RESUME off to train from the beginning.",
            )
        try:
            fit.restore(best, header.history, tensors, facts)
        except (*DAMAGES, RuntimeError) as error:
            raise damaged(self.path, error) from error
        self.reporter.log(f"Training resumes at step {fit.pace.steps}, in epoch {fit.epoch}, from {self.path}.")

    def offer(self, fit: Fit) -> None:
        """Write a checkpoint if it is time for one."""
        pause = 0.0 if not fit.batches else 60 * self.minutes
        if ranks.of_first(time.monotonic() - self.written >= max(pause, FEWEST_COSTS * self.cost)):
            self.write(fit)

    def write(self, fit: Fit) -> None:
        """Write a checkpoint; where that fails, training goes on without. Called by all ranks, written by the first."""
        begun, state = time.monotonic(), fit.state()
        if own_rank().number:
            return
        fitted = fit.fitted if fit.fitted.best_epoch else Fitted(copy_state(fit.optimization.result))
        try:
            write_checkpoint(self.path, fitted.state, self.describe(fitted), state)
        except EngineError as error:  # no space, or another job writes a checkpoint of this name
            if not self.failed:
                self.reporter.warning(f"No checkpoint is kept: {error.problem}")
            self.failed = True
        self.written = time.monotonic()
        self.cost = self.written - begun

    def keep_best(self, fitted: Fitted) -> Path:
        """Write the best weights without the state of the training, which is no good."""
        save_state(self.path, fitted.state, self.describe(fitted))
        return self.path


def remove_checkpoints(config: TrainingConfig) -> None:
    """Remove the checkpoint of a training, and that of its baseline."""
    for path in config.unfinished(config.to_json()):
        path.unlink(missing_ok=True)
