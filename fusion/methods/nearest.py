"""Nearest: the floor that every method must beat."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..stack import Stack
from . import Method, register


@register
@dataclass(frozen=True)
class Nearest(Method):
    """Copies the fine image of the nearest day.

    Nothing is predicted: the fine image whose day is closest to the target day stands in for it (the earlier of
    two equally close ones). It uses no coarse image at all, so it shows what "do nothing" costs. A method that does
    not beat it has added nothing but work.
    """

    title = "Nearest"
    paper = "The usual baseline; named F0 in Zhu et al. 2022, doi:10.1016/j.rse.2022.113002"
    family = "baseline"
    departs: ClassVar = {"offset": "it does not look at the coarse target"}

    def predict(self, stack: Stack, state: Any) -> np.ndarray:
        """Return the fine image of the nearest day."""
        return np.array(stack.fine[nearest_pair(stack.days)])


def nearest_pair(days: tuple[int, ...]) -> int:
    """Index of the day closest to the target; of two, the earlier day."""
    return min(range(len(days)), key=lambda i: (abs(days[i]), days[i]))
