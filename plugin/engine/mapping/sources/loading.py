"""Loads the models of a job: one, or an ensemble whose answers are averaged."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import nn

from ...events import Reporter
from ...models.header import ModelHeader
from ...rasters.likeness import far_off, sizes_differ
from ..pipeline.loop import Advance
from ..reading.tile_reader import Images
from .averaging import Kind, mean
from .ensembles import Member, combine

Network = TypeVar("Network", bound=nn.Module)
Some = TypeVar("Some", bound=Images)
# From images, and a function to report progress, to logits.
Values = Callable[[Some, Advance], torch.Tensor]


@dataclass(frozen=True)
class Model(Generic[Network]):
    """A network, its own header, and how it fits into the ensemble."""

    network: Network
    header: ModelHeader
    member: Member

    def part(self, images: Some) -> Some:
        """Return images with only the bands of this model."""
        bands = list(self.member.bands)
        if bands == list(range(images.data.shape[1])):
            return images
        missing = None if images.missing is None else images.missing[:, bands]
        return dataclasses.replace(images, data=images.data[:, bands], missing=missing)

    def in_common(self, values: torch.Tensor) -> torch.Tensor:
        """(N, K, …) values → the same in the order of the classes, or in the standard deviations, of the ensemble."""
        if self.header.target is not None:
            plain = self.member.factor == 1 and self.member.shift == 0
            return values if plain else values * self.member.factor + self.member.shift
        order = list(self.member.order)
        return values if order == sorted(order) else values[:, order]


def load_all(
    load: Callable[[str], tuple[Network, ModelHeader]], paths: Sequence[str], reporter: Reporter
) -> tuple[list[Model[Network]], ModelHeader]:
    """Load the models of a job.

    Args:
        load: Loads a model file.
        paths: The model files; the first one names the classes.
        reporter: Is told of an ensemble, and warned where its models differ.

    Returns:
        The models, and the header of the ensemble: that of a single model.

    Raises:
        InputError: A file is damaged, or the models do not fit together.
    """
    loaded = [load(path) for path in paths]
    headers = [header for _, header in loaded]
    joined, members = combine(paths, headers)
    models = [Model(network, header, member) for (network, header), member in zip(loaded, members)]
    if len(models) > 1:
        names = ", ".join(" with ".join(filter(None, (one.architecture, one.encoder))) for one in headers)
        reporter.log(f"An ensemble of {len(models)} models ({names}): the mean of their answers counts.")
        for path, model in zip(paths[1:], models[1:]):
            _compare(path, model, joined, reporter)
    return models, joined


def _compare(path: str, model: Model[Network], joined: ModelHeader, reporter: Reporter) -> None:
    """Warn if a model was trained on other values or another pixel size than those before it."""
    own = model.header
    for name, mean_value, std, place in zip(own.band_names, own.mean, own.std, model.member.bands):
        if far_off(mean_value, std, joined.mean[place], joined.std[place]):
            reporter.warning(
                f"The model {path} was trained on values of {mean_value:.4g} ± {std:.3g} in the band {name}, but "
                f"others of the ensemble on {joined.mean[place]:.4g} ± {joined.std[place]:.3g}. Check that they use "
                "the same units."
            )
    if own.crs == joined.crs and sizes_differ(own.pixel_size, joined.pixel_size):
        reporter.warning(
            f"The model {path} was trained on pixels of {own.pixel_size:.3g} units, but the first one on "
            f"{joined.pixel_size:.3g}: one of them sees objects in another size than it knows."
        )


def mean_values(models: Sequence[Model[Network]], values: Iterable[Values[Some]], kind: Kind) -> Values[Some]:
    """Return a function that averages what the models of an ensemble say of the same images.

    Args:
        models: The models.
        values: What each of them says of its own bands.
        kind: What is averaged.
    """
    pairs = list(zip(models, values))

    def found(images: Some, advance: Advance) -> torch.Tensor:
        def share(done: float) -> None:
            advance(done / len(pairs))

        return mean((model.in_common(say(model.part(images), share)) for model, say in pairs), kind)

    return found
