"""Patches: overlapping windows on one lattice of the whole scene, and their weights where they are put together.

The lattice depends on the scene's size alone. A tile of the scene works on the very patches that the whole scene would,
so that the tiled result equals the whole one whatever a network does inside a patch.
"""

from dataclasses import dataclass
from math import ceil

import numpy as np


@dataclass(frozen=True)
class Axis:
    """Patches along one axis of a scene of `size` pixels, in coarse pixels; `margin` of context at either end.

    Patches begin `margin` before the scene and end as much behind it, where the scene is mirrored.
    """

    size: int
    side: int  # of a patch at most, margins included
    margin: int

    @property
    def starts(self) -> tuple[int, ...]:
        """First pixel of each patch, margin included, relative to the scene."""
        total, overlap = self.size + 2 * self.margin, 3 * self.margin
        count = max(1, ceil((total - overlap) / (self.side - overlap)))
        return tuple(round(i * (total - self.length) / max(count - 1, 1)) - self.margin for i in range(count))

    @property
    def length(self) -> int:
        """Side of every patch: as short as the number of patches allows."""
        total, overlap = self.size + 2 * self.margin, 3 * self.margin
        count = max(1, ceil((total - overlap) / (self.side - overlap)))
        return ceil((total + (count - 1) * overlap) / count)

    def inside(self, first: int, last: int) -> list[int]:
        """Starts of the patches that pixels `first` to `last` (not included) hold wholly, but for mirrored ones."""
        return [s for s in self.starts if max(s, 0) >= first and min(s + self.length, self.size) <= last]

    def weights(self, start: int, ratio: int) -> np.ndarray:
        """Weight of each fine pixel of a patch: 0 in the margins, rising over another one where patches overlap."""
        m = self.margin * ratio
        index = np.arange(self.length * ratio) + 0.5
        rise = (index - m) / max(m, 1) if start > -self.margin else np.where(index > m, 1.0, 0.0)
        back = self.length * ratio - index
        last = start + self.length >= self.size + self.margin
        fall = (back - m) / max(m, 1) if not last else np.where(back > m, 1.0, 0.0)
        return np.clip(np.minimum(rise, fall), 0, 1)


def mirrored(image: np.ndarray, before: tuple[int, int], after: tuple[int, int]) -> np.ndarray:
    """Extend ``(..., y, x)`` by its mirror image, by so many pixels above and left, below and right."""
    width = [(0, 0)] * (image.ndim - 2) + list(zip(before, after, strict=True))
    return np.pad(image, width, mode="symmetric") if any(before) or any(after) else image
