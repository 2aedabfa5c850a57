"""The sampling: which training chips an epoch shows, and how often. `training.sampling` draws them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

from ..errors import InputError
from ..settings import Choice, Settings, setting
from ..tasks import NUMBER_TASKS

if TYPE_CHECKING:
    from ..classes import ClassTable

SAMPLINGS = {
    "none": Choice("Each chip once an epoch."),
    "root": Choice("Chips with rare classes more often, others less: halfway between none and balanced."),
    "balanced": Choice("Chips with rare classes so often that each class has the same share of an epoch."),
    "oversample": Choice(
        "Chips with rare classes as often as balanced shows them, and all others once: epochs are longer, up to twice.",
        "after Gupta et al. 2019",
    ),
}


class SamplingSettings(Settings):
    """The sampling."""

    sampling: str = setting("none", choices=SAMPLINGS)
    # Of the training chips that show nothing but background, so many an epoch shows, each time others.
    background_share: float = setting(1.0, low=0, high=1)
    background_class: str = ""  # value or name; "" = the one called "background"

    def background(self, classes: ClassTable) -> Optional[int]:
        """The index of the class that is background; None where there is none."""
        return classes.find(self.background_class.strip()) if self.background_class.strip() else classes.background

    def check(self, task: str, classes: ClassTable) -> None:
        """Whether the settings fit chips of a task, and their classes.

        Raises:
            InputError: The chips have no classes to go by, or none is background and some of it is to be left out.
        """
        if task in NUMBER_TASKS and (self.sampling != "none" or self.background_share < 1):
            name = "SAMPLING" if self.sampling != "none" else "BACKGROUND_SHARE"
            raise InputError(f"{name} is given, and the chips are for {task}, which has no classes.", "Leave it.")
        if self.background(classes) is not None:
            return
        known = ", ".join(f"{kind.value} {kind.name}" for kind in classes.classes)
        if self.background_class.strip():
            raise InputError(
                f'BACKGROUND_CLASS is "{self.background_class}", and the chips have no such class.',
                f"Choose one of {known}.",
            )
        if self.background_share < 1 and task != "multilabel":
            raise InputError(
                f"BACKGROUND_SHARE is {self.background_share:g}, and no class of the chips is called background.",
                f"Name it as BACKGROUND_CLASS: one of {known}.",
            )
