"""Nearest: the floor that every method must beat."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..stack import Stack
from . import Method, register


@register
@dataclass(frozen=True)
class Nearest(Method):
    """Copies the fine image of the nearest day.

    Nothing is predicted: the fine image whose day is closest to the target day stands in for it (the earlier of
    two equally close ones; an image without any pixel is passed over). It uses no coarse image at all, so it shows
    what "do nothing" costs. A method that does not beat it has added nothing but work.
    """

    title = "Nearest"
    paper = "The usual baseline; named F0 in Zhu et al. 2022, doi:10.1016/j.rse.2022.113002"
    family = "baseline"
    departs: ClassVar = {"offset": "it does not look at the coarse target"}

    def prepare(self, stack: Stack) -> int:
        """Index of the day closest to the target that shows anything; of two, the earlier day."""
        seen = [bool(np.isfinite(image).any()) for image in stack.fine]
        return min(range(len(seen)), key=lambda k: (not seen[k], abs(stack.days[k]), stack.days[k]))

    def predict(self, stack: Stack, state: int) -> np.ndarray:
        """Return the fine image of the nearest day."""
        return np.array(stack.fine[state])
