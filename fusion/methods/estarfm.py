"""ESTARFM: similar neighbours in two or more pairs, and a conversion coefficient."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, Literal

import numpy as np
from scipy.special import fdtri

from .._pulse import report
from ..stack import Stack
from . import Explanation, Method, param, register
from ._estarfm import TOP, Planes, Sums, similar_fine, similar_sums
from ._estarfm_explained import Rules, explained
from ._grids import reach, upsample

FEW = 5  # similar pixels up to which the mean change of the window is taken
STEEPEST = 5.0  # conversion coefficients above are taken for accidents
TINY = 1e-7  # keeps 1 / (1 - R) and 1 / |change| finite; far below what reflectance resolves
SIGNIFICANT = 0.95  # of the F test of the regression


@dataclass(frozen=True, eq=False)
class Facts:
    """What ESTARFM knows of the whole scene."""

    low: np.ndarray  # (pair, band) lowest fine reflectance
    step: np.ndarray  # (pair, band) levels per reflectance
    limits: np.ndarray  # (pair, band) uint16: similar pixels differ by at most so many levels
    mean_fine: np.ndarray  # (band,)
    mean_coarse: np.ndarray
    lowest: float  # reflectance that a prediction may have
    highest: float


@register
@dataclass(frozen=True)
class Estarfm(Method):
    """Adds the coarse change of similar pixels, converted to the change of the fine pixel.

    ESTARFM looks at two pairs, one before and one after the target day, or at more. Around each pixel a window is
    searched for similar pixels: those whose fine reflectance is close to the centre's in every band of every pair, so
    that they look alike and change alike. Their coarse change since each pair is averaged, with high weight where
    coarse and fine spectra agree (pure coarse pixels) and near the centre. The similar pixels also tell by how much
    the fine image changes where the coarse image changes by one: the conversion coefficient V, larger than one where
    a coarse pixel mixes what changes with what does not. The pairs are weighted by how little the coarse image
    changed since. Good for landscapes of fields smaller than a coarse pixel that change steadily between two pairs;
    a change that comes and goes between the pairs, or alters the shape of things, is not seen.

    Notes
    -----
    With k the pair, i a neighbour, p the centre, N pixels similar in all B bands of all K pairs, and every C
    interpolated to fine pixels with `kernel`::

        similar    |F_k(i, b) - F_k(p, b)| <= 2 std(F_k(b)) / classes         for all k and b
        R_i      = correlation of the K B fine with the K B coarse values of pixel i
        D_i      = (1 - R_i) d_i     d_i = 1 + |i - p| / (window / 2)
        W_i      = (1 / D_i) / sum_i (1 / D_i)
        V        = slope of the regression of F_k(i) on C_k(i) over all N K values
        P_k(p)   = F_k(p) + V sum_i W_i (C_2(i) - C_k(i))
        T_k      = (1 / |m_k|) / sum_k (1 / |m_k|)     m_k = mean of C_2 - C_k over the window
        F_2(p)   = sum_k T_k P_k(p)

    V is taken as 1 unless the mean of C over the similar pixels differs by `change` between two pairs, the F test of
    the regression has p <= 0.05, and 0 < V <= 5. With at most 5 similar pixels P_k = F_k(p) + m_k. A prediction
    outside the reflectance of the fine images, and outside 0 to 1, gives way to sum_k T_k sum_i W_i F_k(i). The
    paper takes V as 1 where the coarse change is within the uncertainty of the images; the limit of 0.02, the 5
    pixels and the last rule are those of the first author's program, in reflectance.

    Where this departs from paper and program: the standard deviation is of the whole scene, so no seams show between
    blocks. 1e-7 is added to 1 - R and to |m_k|. R is 0.5 where one of the spectra is flat; where there are fewer than
    three values to correlate, it is 1 - mean |F - C| / (|F| + |C|), as the program has it for one band. Fine
    reflectance is compared in 32767 steps between the lowest and the highest of the scene. More than two pairs are
    used alike, and two means must differ by `change` among them.

    A pixel missing in any band of any image of a pair is missing in that pair; it is predicted as if only the other
    pairs had been given, from neighbours valid in all of these; with a single pair left, V is 1. Windows are cut at
    the edge of the scene.
    """

    title = "ESTARFM"
    paper = "Zhu, Chen, Gao, Chen & Masek 2010, Remote Sensing of Environment 114(11), doi:10.1016/j.rse.2010.05.032"
    family = "weighted neighbours"
    pairs = 2
    explains = True
    departs: ClassVar = {
        "offset": "a change of the target changes the weights of the pairs and is multiplied by V",
        "bands": "pixels are similar if they are so in all bands",
    }

    window: int = param(51, doc="Side of the search window.", unit="fine pixels", low=3, high=201, odd=True)
    classes: int = param(
        4, doc="Pixels are similar within 2 std / classes: few classes blur, many sharpen.", low=1, high=200
    )
    change: float = param(
        0.02,
        doc="Least coarse change between pairs from which V is estimated.",
        unit="reflectance",
        low=0,
        high=1,
    )
    kernel: Literal["nearest", "bilinear", "cubic"] = param(
        "bilinear", doc="How coarse images are interpolated to fine pixels."
    )

    def halo(self, ratio: int) -> int:
        """Half the window and the reach of the interpolation, in fine pixels."""
        return self.window // 2 + reach(ratio, self.kernel)

    def prepare(self, stack: Stack) -> Facts:
        """Range, tolerance and means of the whole scene."""
        low, high, std, mean = np.moveaxis(_statistics(stack.fine), -1, 0)
        step = np.divide(TOP, high - low, out=np.zeros_like(low), where=high > low)
        limits = np.minimum(np.round(2 * std / self.classes * step), TOP).astype(np.uint16)
        coarse = _statistics(stack.coarse)[..., 3]
        return Facts(
            low=low.astype(np.float32),
            step=step.astype(np.float32),
            limits=limits,
            mean_fine=mean.mean(axis=0).astype(np.float32),
            mean_coarse=coarse.mean(axis=0).astype(np.float32),
            lowest=min(0.0, float(low.min())),
            highest=max(1.0, float(high.max())),
        )

    def predict(self, stack: Stack, state: Facts) -> np.ndarray:
        """Predict each pixel from the pairs in which it is valid."""
        coarse = upsample(stack.coarse, stack.ratio, self.kernel)
        change = upsample(stack.target - stack.coarse, stack.ratio, self.kernel)
        out = np.full(stack.fine.shape[1:], np.nan, np.float32)
        valid = _valid(stack.fine, coarse, change)
        for members, wanted in _combinations(valid):
            planes = _planes(stack.fine, coarse, change, valid, members, state)
            means = np.stack([_window_means(change[k], valid[k], self.window) for k in members])

            def use(start: int, stop: int, sums: Sums) -> None:
                rows = slice(start, stop)
                part = self._rows(planes, means, sums, rows, state)  # noqa: B023 - called before the next turn
                np.copyto(out[:, rows], part, where=wanted[rows])  # noqa: B023
                report(stop / len(wanted))  # noqa: B023

            similar_sums(planes, wanted, self.window, use)
        return out

    def _rows(self, planes: Planes, means: np.ndarray, sums: Sums, rows: slice, state: Facts) -> np.ndarray:
        """Prediction of some rows from their sums."""
        fine, mean = planes.fine[:, :, rows], means[:, :, rows]
        v = conversion(sums, self.change)
        coarse_change = np.where(sums.count > FEW, v * sums.change / np.maximum(sums.weight, TINY), mean)
        share = 1 / (np.abs(mean) + TINY)
        share /= share.sum(axis=0)
        out: np.ndarray = (share * (fine + coarse_change)).sum(axis=0)
        band, y, x = np.nonzero(((out < state.lowest) | (out > state.highest)) & (sums.count > 0))
        if len(band):
            similar = similar_fine(planes, np.stack([y + rows.start, x], axis=-1), self.window)
            out[band, y, x] = (share[:, band, y, x] * similar[:, band, np.arange(len(band))]).sum(axis=0)
        return out

    def explain(self, stack: Stack, state: Facts, band: int, y: int, x: int) -> Explanation:
        """Take the prediction of one pixel apart, with the equations as they are printed."""
        coarse = upsample(stack.coarse, stack.ratio, self.kernel)
        change = upsample(stack.target - stack.coarse, stack.ratio, self.kernel)
        valid = _valid(stack.fine, coarse, change)
        members = np.flatnonzero(valid[:, y, x]).tolist()
        planes = _planes(stack.fine, coarse, change, valid, members, state) if members else None
        return explained(
            Rules(self.window, self.change, FEW, STEEPEST, SIGNIFICANT, TINY, (state.lowest, state.highest)),
            stack.days,
            planes,
            valid,
            band,
            (y, x),
        )


def conversion(sums: Sums, least: float) -> np.ndarray:
    """Conversion coefficient V ``(band, y, x)``: the slope of F on C where it means something, else 1."""
    pairs = len(sums.c)
    count = np.maximum(sums.count, 1)
    total = pairs * count
    c = sums.c.sum(axis=0)
    cc = sums.cc - c * c / total
    cf = sums.cf - c * sums.f / total
    ff = sums.ff - sums.f * sums.f / total
    mean = sums.c / count
    r2 = _least_r2(int(total.max()).bit_length())[total]
    sure = (np.ptp(mean, axis=0) >= least) & (cf * cf >= r2 * cc * ff)
    v = np.divide(cf, cc, out=np.ones_like(cf), where=sure & (cc > 0))
    return np.where((v > 0) & (v <= STEEPEST) & (pairs > 1), v, 1.0)


@cache
def _least_r2(bits: int) -> np.ndarray:
    """Squared correlation from which a regression over N < 2**bits values is significant: F = (N - 2) r2 / (1 - r2)."""
    freedom = np.arange(2**bits) - 2.0
    limit = fdtri(1, np.maximum(freedom, 1), SIGNIFICANT)
    return np.where(freedom > 0, limit / (limit + np.maximum(freedom, 1)), 2.0)


def _quality(fine: np.ndarray, coarse: np.ndarray) -> np.ndarray:
    """1 / (1 - R) of every pixel, R the agreement of its fine and coarse values over pairs and bands."""
    f, c = (a.reshape(-1, *a.shape[2:]) for a in (fine, coarse))
    if len(f) < 3:
        r = 1 - sum(_ratio(np.abs(a - b), np.abs(a) + np.abs(b), 0.0) for a, b in zip(f, c, strict=True)) / len(f)
        return np.asarray(1 / (1 - r + TINY), np.float32)
    mean_f, mean_c = f.mean(axis=0, dtype=np.float64), c.mean(axis=0, dtype=np.float64)
    ff, cc, fc = np.zeros((3, *mean_f.shape))
    for a, b in zip(f, c, strict=True):
        a, b = a - mean_f, b - mean_c
        ff, cc, fc = ff + a * a, cc + b * b, fc + a * b
    r = np.minimum(_ratio(fc, np.sqrt(ff * cc), 0.5), 1)
    return np.asarray(1 / (1 - r + TINY), np.float32)


def _ratio(top: np.ndarray, bottom: np.ndarray, otherwise: float) -> np.ndarray:
    out: np.ndarray = np.divide(top, bottom, out=np.full(top.shape, otherwise), where=bottom > 0)
    return out


def _statistics(images: np.ndarray) -> np.ndarray:
    """``(pair, band, 4)`` float64: lowest, highest, standard deviation and mean; zeros where nothing is known."""
    out = np.zeros((*images.shape[:2], 4))
    for k, b in np.ndindex(*images.shape[:2]):
        known = images[k, b][np.isfinite(images[k, b])]
        if known.size:
            out[k, b] = known.min(), known.max(), known.std(dtype=np.float64), known.mean(dtype=np.float64)
    return out


def _valid(fine: np.ndarray, coarse: np.ndarray, change: np.ndarray) -> np.ndarray:
    """``(pair, y, x)`` where no band of any image of the pair, nor of the target, is missing."""
    valid: np.ndarray = np.logical_and.reduce([np.isfinite(a).all(axis=1) for a in (fine, coarse, change)])
    return valid


def _combinations(valid: np.ndarray) -> Iterator[tuple[list[int], np.ndarray]]:
    """Combinations of pairs that some pixels are valid in and no others, with these pixels ``(y, x)``."""
    known = list(range(len(valid)))
    code = sum(valid[k].astype(np.int64) << k for k in known)
    for one in np.unique(code):
        if one:
            yield [k for k in known if one >> k & 1], code == one


def _planes(
    fine: np.ndarray, coarse: np.ndarray, change: np.ndarray, valid: np.ndarray, members: list[int], state: Facts
) -> Planes:
    """Bring what the kernel reads together, of some of the pairs."""
    fine, coarse, change = (a if len(members) == len(a) else a[members] for a in (fine, coarse, change))
    return Planes(
        levels=_levels(fine, members, state),
        limits=state.limits[members].ravel(),
        known=np.logical_and.reduce(valid[members]),
        fine=fine,
        coarse=coarse,
        change=change,
        quality=_quality(fine, coarse),
        mean_fine=state.mean_fine,
        mean_coarse=state.mean_coarse,
    )


def _levels(fine: np.ndarray, members: list[int], state: Facts) -> np.ndarray:
    """``(plane, y, x)`` uint16 steps above the scene's lowest reflectance; 0 where missing."""
    out = np.empty(fine.shape, np.uint16)
    for row, (image, k) in enumerate(zip(fine, members, strict=True)):
        for b, plane in enumerate(image):
            out[row, b] = np.nan_to_num(np.clip(np.rint((plane - state.low[k, b]) * state.step[k, b]), 0, TOP))
    return out.reshape(-1, *fine.shape[2:])


def _window_means(values: np.ndarray, known: np.ndarray, window: int) -> np.ndarray:
    """``(band, y, x)`` float32 mean of what is known in the window of each pixel; the window is cut at the edges.

    The sums are of whole steps of 2**-40, and so exact: what lies outside the window changes no bit of them.
    """
    number = np.maximum(_window_sum(known, window), 1)
    steps = (np.rint(np.where(known, band, 0) * 2.0**40).astype(np.int64) for band in values)
    return np.stack([(_window_sum(band, window) / 2.0**40 / number).astype(np.float32) for band in steps])


def _window_sum(plane: np.ndarray, window: int) -> np.ndarray:
    """Sum of whole numbers over the window, along columns and then along rows."""
    for _ in range(2):
        total = np.zeros((len(plane) + 1, plane.shape[1]), np.int64)
        np.cumsum(plane, axis=0, out=total[1:])
        centre = np.arange(len(plane))
        first, behind = np.maximum(centre - window // 2, 0), np.minimum(centre + window // 2 + 1, len(plane))
        plane = (total[behind] - total[first]).T
    return plane
