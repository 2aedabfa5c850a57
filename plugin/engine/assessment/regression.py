"""Regression: the bins in which answers and targets are counted, and what figures are called.

Bins are even, and reach from −`WIDEST` to `WIDEST` standard deviations of the target around its mean; what is further
out is counted in the outermost. Errors have the same bins around 0.
"""

from __future__ import annotations

from typing import Any

from ..reports.page import decimal

BINS, WIDEST = 120, 4.0
# Figures and their names; all but R² are in the units of the target.
FIGURES = {"r2": "R²", "rmse": "RMSE", "mae": "MAE", "bias": "Bias"}


def figures_text(figures: dict[str, Any]) -> str:
    """List the figures: "R² 0.71, RMSE 2.3, MAE 1.7, bias −0.1"; "" if they are not of a regression."""
    found = {name: figures.get(key) for key, name in FIGURES.items()}
    return ", ".join(f"{name} {decimal(value)}" for name, value in found.items() if value is not None)


def regression_doubt(figures: dict[str, Any], split: str) -> str:
    """Return a warning about a result that is no better than the mean of the targets everywhere; "" if it is."""
    if figures.get("r2") is None or figures["r2"] > 0:
        return ""
    return (
        f"R² of the {split} chips is {figures['r2']:.2f}: their mean everywhere would be at least as good. Train for "
        "more epochs, at another LEARNING_RATE, with more chips, or look whether the bands can show the target at all."
    )
