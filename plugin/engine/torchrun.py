"""What `torchrun` tells a worker that it has started as one of several ranks; does not need torch."""

from __future__ import annotations

import os
from dataclasses import dataclass

# Other launchers, such as `srun`, may set the same variables.
VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Rank:
    """This worker among those that train one network together; by default the only one."""

    number: int = 0  # from 0; the first one writes all files, and speaks for all
    count: int = 1
    local: int = 0  # the number on this machine
    neighbours: int = 1  # the count on this machine


def launched() -> bool:
    """Whether `torchrun` has started this worker, maybe as the only one."""
    return all(name in os.environ for name in VARIABLES)


def own_rank() -> Rank:
    """The rank of this worker."""
    return Rank(*(int(os.environ[name]) for name in VARIABLES[:4])) if launched() else Rank()
