"""EFAST: a mosaic weighted by time and by the distance to clouds, corrected with the coarse change."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from .._pulse import report
from ..stack import Stack
from . import Method, param, register
from ._grids import reach, upsample

CLOUDY = 0.05  # share of missing fine pixels from which a coarse pixel is cloudy
LEAST = 1e-3  # weight beside a cloud, where the paper has none: else clouds would grow


@register
@dataclass(frozen=True)
class Efast(Method):
    """Averages the pairs by time and distance to clouds, and adds their coarse change.

    Each fine image is brought to the target day with the change that the coarse images show, F_k + C_2 - C_k. The
    images are then averaged: days near the target count most, and pixels near a cloud count little, because cloud
    masks miss haze and shadows at the rim. Nothing is searched, so it is as fast as arithmetic can be, and smooth in
    space and time: made for long series of clouded images of rangeland or crops that change together over kilometres.
    It cannot tell apart what changes differently inside a coarse pixel.

    Notes
    -----
    Sections 2.4 and 2.5 of the paper, with k the pair, t_k its day minus the target day and d_k the distance of a
    coarse pixel to the nearest cloudy one, in coarse pixels::

        w_k = exp(-t_k^2 / (2 sigma^2)) clip((d_k - 1) / clear, 0, 1)
        F_2 = sum_k w_k (F_k + up(C_2 - C_k)) / sum_k w_k

    A coarse pixel is cloudy where a twentieth or more of its fine pixels are missing in the pair; the second factor
    is interpolated bilinearly to fine pixels, as are the coarse changes (up).

    The paper interpolates composites of the daily coarse images in time; here the coarse images of the days
    themselves are given, and a missing target pixel stays missing. The paper leaves out pixels within one coarse
    pixel of a cloud, and whole images of little weight; here they keep a thousandth of their weight, so that they
    are used where there is nothing else. Weights are taken relative to the nearest day that a pixel has, so that
    days many sigma away still give a prediction. The paper interpolates C_2 and C_k apart; the interpolated
    difference is the same without clouds, and beside a cloud it does not compare two differently filled images.

    About 20 operations and 100 bytes per pixel, pair and band.
    """

    title = "EFAST"
    paper = "Senty et al. 2024, Remote Sensing 16(11) 1833, doi:10.3390/rs16111833"
    family = "time series"

    sigma: float = param(
        20.0, doc="How fast the weight of a day falls with its distance to the target.", unit="days", low=1, high=1000
    )
    clear: int = param(
        15, doc="Distance from which a cloud no longer matters: short keeps more of a day.", unit="coarse pixels",
        low=1, high=50,
    )  # fmt: skip

    def halo(self, ratio: int) -> int:
        """Distance at which a cloud matters, and the reach of the interpolation, in fine pixels."""
        return (self.clear + 1) * ratio + reach(ratio, "bilinear")

    def predict(self, stack: Stack, state: Any) -> np.ndarray:
        """Weighted mean of F_k + up(C_2 - C_k), band by band (section 2.4)."""
        out = np.empty(stack.fine.shape[1:], np.float32)
        clearness = _Clearness(self.clear, stack.ratio)
        for b in range(len(out)):
            out[b] = self._band(stack.fine[:, b], stack.coarse[:, b], stack.target[b], stack.days, clearness)
            report((b + 1) / len(out))
        return out

    def _band(
        self, fine: np.ndarray, coarse: np.ndarray, target: np.ndarray, days: tuple[int, ...], clearness: "_Clearness"
    ) -> np.ndarray:
        total, norm = np.zeros((2, *fine.shape[1:]), np.float32)
        nearest = np.full(fine.shape[1:], np.inf)  # exponent of the nearest day that a pixel has
        for k in sorted(range(len(days)), key=lambda k: abs(days[k])):
            term = fine[k] + upsample(target - coarse[k], clearness.ratio)
            known = np.isfinite(term)
            exponent = days[k] ** 2 / (2 * self.sigma**2)
            nearest[known & np.isinf(nearest)] = exponent
            weight = np.exp(np.minimum(nearest - exponent, 0)).astype(np.float32)
            weight *= clearness.of(k, np.isfinite(fine[k]), np.isfinite(coarse[k]))
            weight[~known] = 0
            term[~known] = 0
            total += weight * term
            norm += weight
        out: np.ndarray = np.full_like(total, np.nan)
        np.divide(total, norm, out=out, where=norm > 0)
        return out


class _Clearness:
    """Second factor of the weight; as the bands of an image mostly share their mask, each pair's last is kept."""

    def __init__(self, clear: int, ratio: int) -> None:
        self.clear, self.ratio = clear, ratio
        self._last: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def of(self, pair: int, fine: np.ndarray, coarse: np.ndarray) -> np.ndarray:
        """``(y, x)`` float32 from LEAST to 1, from where the images of a pair are known; a single 1 if all is."""
        missing = ~fine.reshape(len(coarse), self.ratio, -1, self.ratio)
        cloudy = (missing.mean(axis=(1, 3)) >= CLOUDY) | ~coarse
        if not cloudy.any():
            return np.ones((1, 1), np.float32)
        if pair not in self._last or not np.array_equal(self._last[pair][0], cloudy):
            ramp = np.clip((_distance(cloudy, self.clear + 1) - 1) / self.clear, LEAST, 1)
            self._last[pair] = cloudy, upsample(ramp, self.ratio)
        return self._last[pair][1]


def _distance(there: np.ndarray, most: int) -> np.ndarray:
    """Distance in pixels to the nearest one that is `there`, up to `most`; two passes of one axis each."""
    square = np.where(there, 0, most**2).astype(np.float32)
    for axis in (0, 1):
        source = np.moveaxis(square, axis, 0)
        best = source.copy()
        for step in range(1, min(most, len(source))):
            np.minimum(best[step:], source[:-step] + step**2, out=best[step:])
            np.minimum(best[:-step], source[step:] + step**2, out=best[:-step])
        square = np.moveaxis(best, 0, axis)
    out: np.ndarray = np.sqrt(square)
    return out
