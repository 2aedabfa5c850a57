"""The losses, over what has a label: a file a family, and `table` with all of them.

A loss takes logits and targets of a batch and gives its mean cost, and how much the batch counts beside others: the
mean over many batches is that of their costs by these weights. A batch without labels costs and weighs nothing.

All functions of `table.LOSS_FUNCTIONS` take the same arguments, and calculate in float32:

    logits: (N, C, ...).
    targets: (N, ...) class indices, where `IGNORE_INDEX` counts nothing; for multilabel chips (N, C), 1 where a chip
        shows a class, else 0; for regression (N, ...) numbers, where NaN counts nothing.
    weights: (C,) of the classes.
    settings: The loss's.

What they give is the same whether pixels are ignored or not there. All pixels, or chips, of a batch are taken
together, also where a loss compares areas: a chip that shows a class at its edge only would rule otherwise.
"""
