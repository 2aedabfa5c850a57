"""What networks are made of, as far as settings choose it; readable without torch. `layers.py` has the layers."""

from __future__ import annotations

from ..settings import Choice

ACTIVATIONS = {
    "relu": Choice("0 below 0: quick, and the usual one.", "Nair and Hinton 2010"),
    "leaky_relu": Choice("A hundredth of the value below 0, so that no filter falls silent.", "Maas et al. 2013"),
    "prelu": Choice("A share of the value below 0 that is learned.", "He et al. 2015"),
    "gelu": Choice("Smooth around 0, as transformers have it; a little slower.", "Hendrycks and Gimpel 2016"),
}
NORMALIZATIONS = {
    "batch": Choice(
        "By mean and spread over the batch: the best where a batch has 8 chips or more.", "Ioffe and Szegedy 2015"
    ),
    "group": Choice(
        "By mean and spread of 16 channels of each chip, whatever the batch: for batches of 1 to 4 chips. The network "
        "then sees its whole window.",
        "Wu and He 2018",
    ),
}
