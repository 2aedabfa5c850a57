"""Grad-CAM: where a network sees a class (Selvaraju et al. 2017, "Grad-CAM: visual explanations from deep networks").

The gradients of a class's logit are computed with respect to the map of a layer. The mean gradient of a channel is its
weight for the class; the positive part of the weighted sum of channels is the activation of the class. It is not scaled
to 0 … 1, so that chips and tiles can be compared.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .taps import Tap


def chip_activation(tap: Tap, images: torch.Tensor, target: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute where a classifier sees a class in each chip.

    Args:
        tap: The network and its layer.
        images: (N, B, S, S) normalised bands.
        target: Index of the class; None takes the likeliest class of each chip.

    Returns:
        (N, h, w) activations, 0 or more, in logits; and the (N, C) logits.
    """
    with torch.set_grad_enabled(True):
        logits, heard = tap(images)
        chosen = logits.argmax(1) if target is None else torch.full((len(logits),), target, device=logits.device)
        score = logits.gather(1, chosen[:, None]).sum()
        (gradient,) = torch.autograd.grad(score, heard)
    weights = tap.as_map(gradient).mean((2, 3))
    return weighted(tap.as_map(heard.detach()), weights), logits.detach()


def weighted(maps: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """(N, F, h, w) maps and (N, F) or (1, F) weights → (N, h, w), the positive part of the weighted sum."""
    return F.relu((maps * weights[:, :, None, None]).sum(1))


def pixel_gradients(
    tap: Tap, images: torch.Tensor, target: int, wanted: torch.Tensor, only_predicted: bool
) -> tuple[torch.Tensor, int]:
    """Sum the gradients of a class's logits with respect to the channels of a segmentation network's layer.

    As in Seg-Grad-CAM (Vinogradova et al. 2020), the logits are summed over the pixels that the network predicts as the
    class, or over all.

    Args:
        tap: The network and its layer.
        images: (N, B, H, W) normalised bands.
        target: Index of the class.
        wanted: (N, H, W) bool, the pixels that count.
        only_predicted: Count only pixels predicted as the class.

    Returns:
        (F,) sums of the gradients, and the number of pixels counted.
    """
    with torch.set_grad_enabled(True):
        logits, heard = tap(images)
        counted = wanted & (logits.argmax(1) == target) if only_predicted else wanted
        number = int(counted.sum())
        if not number:
            return torch.zeros(tap.as_map(heard).shape[1], device=logits.device), 0
        (gradient,) = torch.autograd.grad(logits[:, target][counted].sum(), heard)
    return tap.as_map(gradient).sum((0, 2, 3)), number


def enlarged(maps: torch.Tensor, covered: tuple[int, int], size: tuple[int, int]) -> torch.Tensor:
    """(N, K, h, w) maps over `covered` pixels → (N, K, *size): interpolated, and cropped to remove padding."""
    found = F.interpolate(maps, size=covered, mode="bilinear", align_corners=False)
    return found[..., : size[0], : size[1]]
