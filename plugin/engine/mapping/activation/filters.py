"""Draws the filters of a network's first convolution."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import nn

from ...drafts import claim, publish
from ...errors import InputError, ResourceError
from ...files import why_not_written
from ...models.classifier_network import Classifier
from ...models.header import ModelHeader
from ...models.input_bands import RGB, first_convolution
from ...models.networks import Segmenter

MOST_FILTERS, MOST_BANDS = 64, 16  # in one picture
A_ROW = 8
CELL = 0.55  # inches
DOTS = 160  # dots per inch
GAP = 1  # pixels between two filters


def write_filters(path: str, network: Classifier | Segmenter, header: ModelHeader) -> str:
    """Draw the first filters: in colour if the bands are red, green and blue, otherwise one column per band.

    Args:
        path: The PNG file.
        network: The network.
        header: Header of its model file.

    Returns:
        A sentence that describes the picture.

    Raises:
        InputError: The network has no convolution.
        ResourceError: The picture cannot be written.
    """
    module: nn.Module = network.network if isinstance(network, Classifier) else network.encoder
    try:
        name, convolution = first_convolution(module)
    except StopIteration:
        raise InputError(
            f"{header.architecture} has no convolution and therefore no filters.",
            "Choose the model of another network.",
        ) from None
    weight = convolution.weight.detach().cpu().float().numpy()  # (F, B, k, k)
    filters, bands, height, width = weight.shape
    names = [band.strip().lower() for band in header.band_names]
    largest = np.abs(weight).reshape(filters, -1).max(axis=1)
    shown = 0.5 + (weight / np.maximum(2 * largest, 1e-12)[:, None, None, None])[:MOST_FILTERS]
    text = f"{filters} filters of {height} × {width} pixels over {bands} bands ({name})"
    if len(shown) < filters:
        text += f", the first {len(shown)} of them"
    figure = Figure(dpi=DOTS, layout="constrained")
    axes = figure.subplots()
    if sorted(names) == sorted(RGB) and bands == len(RGB):
        picture = _mosaic(shown[:, [names.index(color) for color in RGB]].transpose(0, 2, 3, 1), A_ROW)
        axes.imshow(picture, interpolation="nearest")
        axes.set_xticks([])
        axes.set_yticks([])
    else:
        columns = min(bands, MOST_BANDS)
        cells = shown[:, :columns].reshape(-1, height, width, 1)
        a_row = columns if columns > 1 else A_ROW
        picture = _mosaic(cells, a_row)[..., 0]
        axes.imshow(picture, interpolation="nearest", cmap="RdBu_r", vmin=0, vmax=1)
        axes.set_yticks([])
        axes.set_xticks([])
        if columns > 1:
            middles = GAP + np.arange(columns) * (width + GAP) + (width - 1) / 2
            axes.set_xticks(middles, [band[:20].replace("$", r"\$") for band in header.band_names[:columns]],
                            rotation=45, ha="right", fontsize=7)  # fmt: skip
            if columns < bands:
                text += f", in the first {columns} bands"
    axes.set_title(f"{header.architecture}: {text}", fontsize=8, loc="left", wrap=True)
    rows, cols = picture.shape[0] / (height + GAP), picture.shape[1] / (width + GAP)
    figure.set_size_inches(max(4.5, CELL * cols + 0.6), CELL * rows + 1.1)
    try:
        with claim(path) as draft:
            FigureCanvasAgg(figure).print_png(str(draft.fresh()))
            publish(draft)
    except OSError as error:
        raise ResourceError(
            f"The picture {path} could not be written ({why_not_written(path, error)}).",
            "Free some disk space, or choose another folder.",
        ) from error
    return f"{text[0].upper()}{text[1:]}. Grey or white is 0; each filter is scaled to its own largest weight."


def _mosaic(cells: np.ndarray, a_row: int) -> np.ndarray:
    """(n, h, w, 1 or 3) cells → (H, W, 1 or 3), side by side; gaps are NaN, or white in colour pictures."""
    count, height, width, channels = cells.shape
    rows = math.ceil(count / a_row)
    empty = 1.0 if channels > 1 else np.nan
    picture = np.full((rows * (height + GAP) + GAP, min(count, a_row) * (width + GAP) + GAP, channels), empty)
    for number, cell in enumerate(cells):
        row, col = divmod(number, a_row)
        top, left = GAP + row * (height + GAP), GAP + col * (width + GAP)
        picture[top : top + height, left : left + width] = cell
    return picture
