"""Reads folders of photographs as chips for a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...chips.formats.images import ImageFacts, look_at, read_image
from ...chips.formats.squares import square_chip
from ...errors import InputError
from ...events import Reporter
from ...models.header import ModelHeader
from ...rasters.likeness import far_off
from ...strangers.paths import inside
from .checks import bands_text
from .tile_reader import COMPACT_TYPES, Images

NAMED = 5  # of the files left out
SAMPLE = 32  # photographs whose values are compared with those of training


@dataclass(frozen=True)
class Photographs(Images):
    """Photographs as chips."""

    names: list[str]  # paths relative to the folder, with "/"


class PhotographReader:
    """Reads photographs as chips: upright, cropped to the central square, and resampled to the model's chip size.

    Args:
        folder: The folder of the photographs.
        header: Header of the model file.
        bands: Band of the photographs for each band of the model, from 1; empty = by name, otherwise in order.

    Raises:
        InputError: The number of bands differs from the model's, or one is below 1.
    """

    def __init__(self, folder: str, header: ModelHeader, bands: tuple[int, ...]) -> None:
        self.folder, self.header, self.chosen = Path(folder), header, bands
        self.remarks = Remarks(header)  # remarks on the photographs read so far
        if bands and len(bands) != len(header.band_names):
            raise InputError(
                f"BANDS has {bands_text(len(bands))}, but the model needs {len(header.band_names)}: "
                f"{', '.join(header.band_names)}.",
                "Give one band of the photographs for each band of the model, in that order.",
            )
        if bands and min(bands) < 1:
            raise InputError(
                f"BANDS is {','.join(map(str, bands))}, but there is no band {min(bands)}.", "Give band numbers from 1."
            )

    def read(self, paths: Sequence[Path]) -> Photographs | None:
        """Read some photographs; those that cannot be used are noted in `remarks`.

        Returns:
            The chips; None if no photograph can be used.
        """
        names, images, gaps = [], [], []
        for path in paths:
            try:
                name = path.relative_to(self.folder).as_posix()
                facts = look_at(inside(self.folder, name, self.folder))
                data = self._bands_of(facts)
            except InputError as error:
                self.remarks.failures.append(error.problem)
                continue
            nodata = self.header.nodata if facts.nodata is None else facts.nodata
            data, missing = square_chip(data, nodata, self.header.chip_size)
            gaps.append(np.zeros(data.shape, bool) if missing is None else missing)
            images.append(data if data.dtype in COMPACT_TYPES else data.astype(np.float32))
            names.append(name)
            self.remarks.add(facts, images[-1], gaps[-1])
        if not images:
            return None
        some = any(gap.any() for gap in gaps)
        return Photographs(np.stack(_one_type(images)), np.stack(gaps) if some else None, names)

    def _bands_of(self, facts: ImageFacts) -> np.ndarray:
        """Return (B, H, W) of the bands of the model, in its order."""
        wanted = len(self.header.band_names)
        if facts.bands == 1 and not self.chosen:
            return read_image(facts, wanted, facts.dtype)
        data = read_image(facts, facts.bands, facts.dtype)
        names = [name.casefold() for name in facts.names]
        searched = [name.casefold() for name in self.header.band_names]
        if self.chosen:
            places = [number - 1 for number in self.chosen]
        elif len(set(searched)) == wanted and all(names.count(name) == 1 for name in searched):
            places = [names.index(name) for name in searched]
        else:
            places = list(range(wanted))
        if max(places) >= len(data):
            raise InputError(
                f"The image {facts.path} has {bands_text(len(data))}, but the model needs {bands_text(wanted)}.",
                "Choose photographs with the bands of the model.",
            )
        return data[places]


def _one_type(images: list[np.ndarray]) -> list[np.ndarray]:
    dtype = np.result_type(*images)
    return [image.astype(dtype if dtype in COMPACT_TYPES else np.float32, copy=False) for image in images]


def chunks(paths: Sequence[Path], size: int) -> Iterator[Sequence[Path]]:
    """Cut a list into pieces of `size`."""
    for begin in range(0, len(paths), size):
        yield paths[begin : begin + size]


@dataclass
class Remarks:
    """Collects what the user should know about the photographs."""

    header: ModelHeader
    failures: list[str] = field(default_factory=list)
    other_size: int = 0
    sample: list[np.ndarray] = field(default_factory=list)  # (B, 3): count, sum and sum of squares

    def add(self, facts: ImageFacts, image: np.ndarray, missing: np.ndarray) -> None:
        """Add a photograph, and the (B, S, S) chip made from it."""
        size = self.header.chip_size
        self.other_size += (facts.height, facts.width) != (size, size)
        if len(self.sample) < SAMPLE:
            known = np.isfinite(image) & ~missing
            values = np.where(known, image, 0).astype(np.float64)
            self.sample.append(np.stack([known.sum((1, 2)), values.sum((1, 2)), (values**2).sum((1, 2))], axis=1))

    def none_left(self, folder: str, count: int) -> InputError:
        """Return the error for a folder with `count` images of which none can be used."""
        return InputError(
            f"None of the {count} images in {folder} can be used: {self.failures[0]}",
            "Choose a folder of intact images with the bands of the model.",
        )

    def tell(self, reporter: Reporter) -> None:
        """Report everything at the end."""
        if self.failures:
            more = f" … {len(self.failures)} in all" if len(self.failures) > NAMED else ""
            reporter.warning(f"Images left out: {' '.join(self.failures[:NAMED])}{more}")
        if self.other_size:
            size = self.header.chip_size
            reporter.log(
                f"{self.other_size} images do not have the model's chip size: their central square was resampled to "
                f"{size} × {size} pixels."
            )
        if not self.sample:
            return
        count, total, squares = np.sum(self.sample, axis=0).T
        mean = total / np.maximum(1, count)
        std = np.sqrt(np.maximum(0, squares / np.maximum(1, count) - mean**2))
        for band, name in enumerate(self.header.band_names):
            if count[band] and far_off(mean[band], std[band], self.header.mean[band], self.header.std[band]):
                reporter.warning(
                    f"The photographs have values of {mean[band]:.4g} ± {std[band]:.3g} in the band used for {name}, "
                    f"but the model was trained on {self.header.mean[band]:.4g} ± {self.header.std[band]:.3g}. Check "
                    "that the bands are in the right order and in the units of training."
                )
