"""Delta: add the coarse change to the fine image."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..stack import Stack
from . import Method, param, register
from ._grids import reach, upsample


@register
@dataclass(frozen=True)
class Delta(Method):
    """Adds the coarse change since each pair to its fine image.

    Between the pair's day and the target day the coarse image changed by C2 - C1. Delta brings this change to the
    fine grid and adds it: F2 = F1 + up(C2 - C1). Several pairs are averaged with weights 1 / |days to the target|.
    Simple, fast and hard to beat where whole fields change together; blind to what happens inside a coarse pixel.

    Notes
    -----
    At a pixel that is missing in one pair the other pairs share its weight.
    """

    title = "Delta"
    paper = "Temporal-change baseline; equation 1 of Gao et al. 2006, doi:10.1109/TGRS.2006.872081"
    family = "baseline"

    kernel: Literal["nearest", "bilinear", "cubic"] = param(
        "bilinear", doc="How the coarse change is interpolated to fine pixels."
    )

    def halo(self, ratio: int) -> int:
        """Reach of the interpolation, in fine pixels."""
        return reach(ratio, self.kernel)

    def predict(self, stack: Stack, state: Any) -> np.ndarray:
        """Average F_k + up(C_2 - C_k) over the pairs k."""
        total = np.zeros(stack.fine.shape[1:], np.float32)
        weights = np.zeros_like(total)
        for fine, coarse, days in zip(stack.fine, stack.coarse, stack.days, strict=True):
            term = fine + upsample(stack.target - coarse, stack.ratio, self.kernel)
            known = np.isfinite(term)
            weight = np.float32(1 / max(abs(days), 1))
            total[known] += weight * term[known]
            weights[known] += weight
        out = np.full_like(total, np.nan)
        return np.divide(total, weights, out=out, where=weights > 0)
