"""Measures what a trained network needs for maps without seams, on some of its chips."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from ..models.reach import SEEN, seam_costs
from ..windows import mirror
from .chips import ChipReader
from .task import Task

CHIPS = 16


@torch.inference_mode()
def measure_seams(network: nn.Module, task: Task, reader: ChipReader, places: np.ndarray) -> tuple[float, ...]:
    """Return the costs of seams, see `reach.seam_costs`.

    Chips are smaller than what is to be measured, so each is continued by its mirror image.

    Args:
        network: The network on the device; it is set to evaluation mode.
        task: Prepares chips.
        reader: Reads them.
        places: (n,) the chips to choose from.
    """
    network.eval()
    chosen = places[np.unique(np.linspace(0, len(places) - 1, CHIPS, dtype=int))]
    size = reader.dataset.info.chip_size
    index = torch.from_numpy(mirror(0, SEEN, size)).to(task.device)

    def continued(place: int) -> torch.Tensor:
        images, targets = reader.read([place])
        image = task.prepare((images.to(task.device), targets.to(task.device))).images[0]
        return image[:, index][:, :, index].contiguous()

    return seam_costs(lambda images: network(images).float(), map(continued, chosen.tolist()))
