"""STNLFFM: non-local filter with a regularised linear change."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from .._pulse import report
from ..stack import Stack
from . import Method, param, register
from ._grids import reach, upsample
from ._stnlffm import Planes, pair_prediction

NO_CHANGE = 1e-5  # reflectance: keeps 1 / change finite where a pair's coarse image did not change at all


@register
@dataclass(frozen=True)
class Stnlffm(Method):
    """Carries similar pixels over to the target day by a line fitted to their coarse change.

    Around each pixel a window is searched, in every pair, for pixels like the centre: their fine reflectance is nearly
    the same in every band, and so is the amount by which the coarse image changed there. A straight line fitted
    to these pixels says how coarse reflectance became that of the target day; the same line is applied to their fine
    values, which are averaged. A neighbour weighs more the closer its coarse value is to the one the centre has on the
    target day, however far away it lies (that is the non-local filter), and a pair weighs more the less changed around
    the pixel since. Good where many pixels of a kind change together, and steady against noise; the average blurs what
    differs by less than the tolerance, and a change that no coarse pixel shows is missed.

    Notes
    -----
    With k the pair, i the neighbour and p the centre, on the fine grid::

        similar   |F_k(i) - F_k(p)| <= d 2^F_k(p)                       in all bands
                  ||C_k(i) - C_2(i)| - |C_k(p) - C_2(p)|| <= s          in all bands
        a_k, b_k  minimise  sum (C_2(i) - a C_k(i) - b)^2 + gamma (a - 1)^2  over the similar pixels
        W_i     = exp(-|C_k(i) - C_2(p)| / h^2), normalised over the similar pixels of the pair
        W_k     = 1 / (mean over the window of |C_k - C_2|), normalised over the pairs
        F_2(p)  = sum W_k sum W_i (a_k F_k(i) + b_k)

    The penalty is weighed against sums of squares of reflectance, so gamma has their unit: some hundred similar pixels
    have together about 0.01, with less of which the line is in truth a shift by the mean change (a = 1).

    Where we depart. (1) d = 0.005 and gamma = 0.01, where the paper has 0.01 and 1: on three scenes half the tolerance
    gave about half the blur (EDGE -0.14 instead of -0.23, -0.05 instead of -0.13) and an RMSE up to 1.5 % higher;
    gamma = 1 leaves a at 1 whatever the data say, and 0.01 lowered the RMSE of every scene or left it. (2) Weights
    compare pixels, not patches of 3: interpolated coarse images hardly vary within 3 fine pixels, and even h = 0.1 or
    0.3 moves the RMSE by less than 0.5 %. (3) a_k and b_k are the centre's; a public implementation takes those of
    each neighbour, which needs a second pass and twice the halo, and had the same RMSE to 2 % here. (4) It also takes
    a neighbour that meets the second condition or just resembles its coarse pixel; we want both conditions above.
    (5) And it asks the second condition of the predicted band alone: RMSE 2 % higher on one scene, 1 % lower on
    another, while one set of similar pixels for all bands is faster and keeps the bands consistent. (6) W_i is
    normalised within each pair and W_k over the pairs, so that a pair with more similar pixels does not count more.

    The window is cut at the edge of the scene. A pixel missing in any band of any image of a pair is no neighbour in
    that pair; the prediction is missing where that is so of the centre in every pair. Where a pair's coarse image did
    not change at all in the window, its change counts as 1e-5. C is interpolated to fine pixels with `kernel`.
    """

    title = "STNLFFM"
    paper = "Cheng, Liu, Shen, Wu & Zhang 2017, IEEE TGRS 55(8), 4476-4488, preprint doi:10.48550/arXiv.1611.07231"
    family = "weighted neighbours"
    departs: ClassVar = {
        "offset": "a change of the target changes which coarse changes are alike, and the weights",
        "copy": "without a change it still averages the fine values of similar pixels, which differ by up to d 2^F",
        "bands": "pixels are similar in all bands together",
    }

    window: int = param(51, doc="Side of the search window.", unit="fine pixels", low=3, high=101, odd=True)
    similarity: float = param(
        0.005, doc="d: similar pixels differ by at most d * 2^F in each band.", unit="reflectance", low=1e-4, high=0.2
    )
    stability: float = param(
        0.005, doc="s: coarse changes of similar pixels differ by no more.", unit="reflectance", low=1e-4, high=0.2
    )
    stiffness: float = param(
        0.01, doc="Gamma: how firmly the slope of the line is held at 1.", unit="reflectance^2", low=1e-4, high=1e6
    )
    smoothing: float = param(
        0.15,
        doc="Filter h: the weight falls to 1/e where coarse values differ by h^2.",
        unit="root of reflectance",
        low=0.1,
        high=10,
    )
    kernel: Literal["nearest", "bilinear", "cubic"] = param(
        "bilinear", doc="How coarse images are interpolated to fine pixels."
    )

    def halo(self, ratio: int) -> int:
        """Half the window and the reach of the interpolation, in fine pixels."""
        return self.window // 2 + reach(ratio, self.kernel)

    def predict(self, stack: Stack, state: Any) -> np.ndarray:
        """Weighted mean over the pairs of what each pair predicts."""
        target = upsample(stack.target, stack.ratio, self.kernel)
        total = np.zeros(stack.fine.shape[1:], np.float32)
        norm = np.zeros_like(total)
        for k, fine in enumerate(stack.fine):
            value, weight = self._pair(fine, upsample(stack.coarse[k], stack.ratio, self.kernel), target)
            known = np.isfinite(value)
            total[known] += weight[known] * value[known]
            norm[known] += weight[known]
            report((k + 1) / len(stack.fine))
        out = np.full_like(total, np.nan)
        return np.divide(total, norm, out=out, where=norm > 0)

    def _pair(self, fine: np.ndarray, coarse: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What one pair predicts and its weight W_k, both ``(band, y, x)``."""
        planes = Planes.of(fine, coarse, target, self.similarity, self.smoothing)
        weight = 1 / (_window_mean(planes.change, self.window) + NO_CHANGE)
        return pair_prediction(planes, self.window, self.stability, self.stiffness), weight


def _window_mean(image: np.ndarray, window: int) -> np.ndarray:
    """Mean of the pixels of each window that are not missing; the window is cut at the edge."""
    known = np.isfinite(image[0])
    count = _window_sum(known.astype(float), window)
    out = np.zeros_like(image)
    for band, plane in enumerate(image):
        out[band] = _window_sum(np.where(known, plane, 0).astype(float), window) / np.maximum(count, 1)
    return out


def _window_sum(plane: np.ndarray, window: int) -> np.ndarray:
    """Sum of each window of a ``(y, x)`` float64 plane, from cumulative sums."""
    half = window // 2
    for _ in range(2):
        sums = np.vstack([np.zeros((1, plane.shape[1])), plane.cumsum(axis=0)])
        rows = np.arange(len(plane))
        plane = (sums[np.minimum(rows + half + 1, len(plane))] - sums[np.maximum(rows - half, 0)]).T
    return plane
