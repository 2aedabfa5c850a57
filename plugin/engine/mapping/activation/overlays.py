"""Class activation of photographs: a folder of pictures, each a photograph beside a copy with its activation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib import image as pictures

from ...config import ActivationMapsConfig
from ...device import choose_device, describe_device, explain_memory
from ...drafts import check_writable, claim, publish
from ...errors import ResourceError, not_none
from ...events import Reporter, Stage
from ...files import why_not_written
from ...models.header import ModelHeader
from ...models.normalisation import Normaliser
from ...reports.pictures import between, stretch, visible_bands
from ...vector_files import TEXT, Field
from ..answers.answers import Answered, Answers
from ..answers.chosen import find_class
from ..answers.logits import answered
from ..answers.outcome import tell_unanswered
from ..outputs.tables import FILE_FIELD, Table
from ..pipeline.loop import Advance, finish, run
from ..reading.photograph_chips import PhotographReader, Photographs, chunks
from ..reading.photograph_files import photographs_in
from ..sources.source import normalised
from .grad_cam import chip_activation, enlarged
from .taps import Tap

PICTURE_FIELD, SHOWN_FIELD = Field("picture", TEXT), Field("activation", TEXT)
TABLE_NAME, LAYER = "answers.csv", "answers"
RAMP = "inferno"
OPACITY = 0.65  # at the highest activation
SMALLEST = 224  # pixels per side; smaller photographs are enlarged
GAP = 8
PICTURE_BYTES = 150_000


def write_overlays(config: ActivationMapsConfig, tap: Tap, header: ModelHeader, reporter: Reporter) -> None:
    """Write a picture for each photograph of a folder, and a table of the network's answers.

    The activation of each photograph is scaled to its own maximum.

    Args:
        config: Settings of the job.
        tap: The network and its layer.
        header: Header of the model file.
        reporter: Receives progress and log lines.

    Raises:
        InputError: The folder contains no usable photographs.
        ResourceError: The folder cannot be written, or memory is insufficient.
        Cancelled: The user cancelled the job, or QGIS has ended.
    """
    photographs, output = not_none(config.input_folder), not_none(config.pictures)
    target = find_class(header, config.target_class) if config.target_class else None
    answers = Answers.of(header)
    paths = photographs_in(photographs)
    reader = PhotographReader(photographs, header, config.bands)
    check_writable(output, len(paths) * PICTURE_BYTES)
    device = choose_device(config.device, reporter)
    tap.network.to(device)
    normalise = Normaliser(header.mean, header.std, device)
    what = f'"{header.classes.names[target]}"' if target is not None else "the likeliest class"
    reporter.log(
        f"Activation of {what} at {tap.title} of {header.architecture} in {len(paths):,} photographs, on "
        f"{describe_device(device)}."
    )
    size = header.chip_size
    doing = f"{config.batch_size} chips of {size} × {size} pixels"
    stage = Stage(reporter, len(paths), "Drawing")

    def look(some: Photographs, advance: Advance) -> _Seen:
        heat, logits = _activation(tap, normalise, some, target)
        advance(1)
        return heat, answered(logits, some.asked, answers)

    with building_pictures(output) as folder:
        with _Pictures(folder, answers, header, target) as pictures:
            with explain_memory(device, doing, "Halve BATCH_SIZE."):
                run(chunks(paths, config.batch_size), reader.read, look, [pictures], stage)
            finish([pictures])
        reader.remarks.tell(reporter)
        tell_unanswered(reporter, "photograph", pictures.unanswered, pictures.count)
        if not pictures.count:
            raise reader.remarks.none_left(photographs, len(paths))
    reporter.log(f"{pictures.count:,} pictures, and {TABLE_NAME} with the network's answers.")


# (N, S, S) activations from 0 to 1, and the answers for the photographs.
_Seen = tuple[np.ndarray, Answered]


class _Pictures(Table):
    """A sink that writes pictures, and a table with one row for each."""

    def __init__(self, folder: Path, answers: Answers, header: ModelHeader, target: int | None) -> None:
        fields = [FILE_FIELD, PICTURE_FIELD, SHOWN_FIELD, *answers.fields()]
        super().__init__(str(folder / TABLE_NAME), LAYER, fields)
        self.folder, self.answers, self.header, self.target = folder, answers, header, target
        self.unanswered = 0  # photographs for which the network gave NaN or infinity

    def take(self, found: _Seen) -> _Seen:
        """As `Sink.take`."""
        return found

    def write(self, some: Photographs, found: _Seen) -> None:
        """As `Sink.write`.

        Raises:
            ResourceError: The disk is full or no longer available.
        """
        heat, said = found
        self.unanswered += said.lost
        rows = self.answers.rows(said.shares)
        for place, shares, row in zip(np.flatnonzero(said.known).tolist(), said.shares, rows):
            seen = int(shares.argmax()) if self.target is None else self.target
            picture = f"{some.names[place]}.png"
            save_picture(self.folder / picture, _beside(some, place, heat[place], self.header))
            self.add([[some.names[place], picture, self.header.classes.names[seen], *row]])


def _activation(
    tap: Tap, normalise: Normaliser, some: Photographs, target: int | None
) -> tuple[np.ndarray, torch.Tensor]:
    """Return (N, S, S) activations from 0 to 1, and the (N, C) logits."""
    found, logits = chip_activation(tap, normalised(some, normalise), target)
    side = some.data.shape[-1]
    covered = tap.covers(side)
    heat = enlarged(found[:, None], (covered, covered), (side, side))[:, 0]
    heat = heat / heat.amax((1, 2), keepdim=True).clamp_min(1e-12)
    return heat.cpu().numpy(), logits


def _beside(some: Photographs, place: int, heat: np.ndarray, header: ModelHeader) -> np.ndarray:
    """Return (H, W, 3) uint8: the photograph, and the same with its activation."""
    data = some.data[place]
    if data.dtype == np.uint8:
        photograph = between(data[visible_bands(header.band_names)], np.array([[0, 255]] * 3))
    else:
        photograph = stretch(data, header.band_names, header.nodata)
    times = -(-SMALLEST // len(heat))
    photograph = photograph.repeat(times, 0).repeat(times, 1)
    heat = heat.repeat(times, 0).repeat(times, 1)
    colors = matplotlib.colormaps[RAMP](heat)[..., :3] * 255
    opacity = OPACITY * heat[..., None] ** 0.5
    laid = np.round(photograph * (1 - opacity) + colors * opacity).astype(np.uint8)
    gap = np.full((len(photograph), GAP, 3), 255, np.uint8)
    return np.concatenate([photograph, gap, laid], axis=1)


def save_picture(path: Path, picture: np.ndarray) -> None:
    """Write (H, W, 3) uint8 as a PNG; its folder is created if necessary.

    Raises:
        ResourceError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pictures.imsave(path, np.ascontiguousarray(picture), format="png")
    except OSError as error:
        raise ResourceError(
            f"The picture {path} could not be written ({why_not_written(path, error)}).",
            "Free some disk space, or choose another folder.",
        ) from error


@contextmanager
def building_pictures(final: str) -> Iterator[Path]:
    """Create a hidden folder that gets its final name if the block succeeds, and is removed otherwise."""
    try:
        with claim(final) as draft:
            draft.fresh().mkdir()
            yield draft.path
            publish(draft)
    except OSError as error:
        raise ResourceError(
            f"The folder {final} could not be written ({why_not_written(final, error)}).",
            "Close its files in other programs, or choose another folder.",
        ) from error
