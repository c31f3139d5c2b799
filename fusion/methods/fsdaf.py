"""FSDAF: class changes and a thin plate spline, mixed by how homogeneous a place is.

Floor: step 6 asks 1681 neighbours for 3 operations in each band, 5 thousand per pixel and band, .1 CPU s per megapixel
at 50 thousand million operations a second. All else is some 60 passes over planes of 4 bytes, .03 s. Measured with six
bands at ratio 16: .61 s, of which prepare, spline and steps 3 to 5 take .04 each.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from scipy.optimize import lsq_linear

from .._pulse import report, stop_if_asked
from ..stack import Stack
from . import Explanation, Method, param, register
from ._classes import check_classes, class_labels, class_map, fractions, numbered_map, stack_centres
from ._fsdaf_explained import Steps, explained
from ._neighbours import nearest_mean
from ._splines import reach, thin_plate
from ._windows import distance_weights

LEAST = 1e-6  # added to the weight CW, so that it never vanishes
MOST = 10  # a weight above so many times the mean of its coarse pixel is an accident
EQUAL = 2e-7  # coarse changes this close are equal, for they are differences of float32
DARK = 0.01  # reflectances below count as this much where differences are relative


class Facts(NamedTuple):
    """What the whole image says about one pair."""

    centres: np.ndarray  # (class, band) of the classification
    labels: np.ndarray  # (class,) of a map that is given
    change: np.ndarray  # (band, class) dF of each class
    tolerance: np.ndarray  # (band,) pixels within it are similar
    range: np.ndarray  # ([low, high], band) of C2 and the temporal prediction


class Change(NamedTuple):
    """The planes of the equations of one band, ``(y, x)`` on the fine grid."""

    of_class: np.ndarray  # dF_class
    spatial: np.ndarray  # F_SP
    residual: np.ndarray  # R of the coarse pixel
    homogeneity: np.ndarray  # HI
    weight: np.ndarray  # CW
    share: np.ndarray  # W
    total: np.ndarray  # dF


@register
@dataclass(frozen=True)
class Fsdaf(Method):
    """Adds the change of each class, put right by a smooth surface and averaged over similar pixels.

    The fine image is classified. The purest coarse pixels tell how much each class changed, which is added to the
    fine image: the temporal prediction. Inside a coarse pixel it misses what the classes do not explain: a residual.
    Where the land is homogeneous, the residual goes where a smooth surface through the coarse target differs from the
    temporal prediction, so that a new shape (a flood, a burn) appears at its place; where it is mixed, it is spread
    evenly. At last the change is averaged over similar neighbours, which takes away blocks and noise. One pair is
    enough, and abrupt change is found; a change smaller than a coarse pixel is still a blur.

    Notes
    -----
    With X the coarse pixel of fine pixel p, f_c(X) the share of class c in it and dC = C2 - C1, in the steps of the
    paper::

        1  classes by k-means of F1
        2  dC(X) = sum_c f_c(X) dF_c          least squares, min dC - std dC <= dF_c <= max dC + std dC
        3  F_TP(p) = F1(p) + dF_class(p)      R(X) = dC(X) - mean over X of (F_TP - F1)
        4  F_SP = thin plate spline through the centres of C2
        5  E_ho = F_SP - F_TP                 E_he = R
           CW(p) = |E_ho| HI + |E_he| (1 - HI) + 10^-6, with E_ho = 0 where its sign is not that of R
           dF(p) = dF_class(p) + R(X) W(p)    W = CW / mean over X of CW
        6  F2(p) = F1(p) + sum_i w_i dF(i)    w_i = 1 / D_i, normalised; D_i = 1 + |i - p| / A

    Step 2 uses the `pure` coarse pixels with the highest share of each class, without those whose change is beyond
    the 10 % and 90 % quantiles, for land cover may have changed there. Equals of the last one all count, so that the
    order of pixels does not matter. HI is the share of p's class among the pixels of a square around p as large as a
    coarse pixel; where the ratio is even, of ratio + 1 pixels, so that p is its centre. As in the author's code a W
    above 10 becomes 1, and the W are brought to mean 1 again: the change of a coarse pixel is kept exactly. Step 6
    takes the `similar` pixels with the least sum over bands of |F1(i) - F1(p)| / F1(p) among those within 2 std /
    classes in every band, with the number of classes found or of a given map; all equals of the last one count.

    Departures. The spline is local, blended from those of 7 x 7 coarse pixels, for one through all would take the cube
    of their number. F1 + dF is kept within the range that C2 and F_TP have in the whole image, but not within
    a fixed one: a constant added to the coarse target is added to the prediction. F1 below .01 counts as .01 in
    relative differences. A pixel of unknown class changes as its coarse pixel, and a class that the chosen coarse
    pixels do not determine as they do on average. Several pairs, which the paper does not have, are predicted one by
    one and averaged with weights 1 / |days to the target|. At ratio 1 what is left is C2 - C1, smoothed by step 6.
    A is 10 pixels where the paper has window / 2, and the defaults are 4 classes and 30 pure pixels where the author's
    code has 4 to 6 and 100. Over ten predictions between days of three scenes these choices change the mean RMSE by
    less than 1 %, but a smaller A keeps a flood's edge (RMSE .0201 instead of .0203), and only pure pixels give the
    class changes that the paper prints for its simulated scene.

    On that scene (the paper's Fig. 2) the RMSE is .0380 with a window of 41 and .0254 with one of 11, where the paper
    has .0256; before step 6 it is .0252. Only noise tells the pixels of its background apart, so that similar ones are
    chosen at random from all over the window, and a mean over them blurs.
    """

    title = "FSDAF"
    paper = "Zhu, Helmer, Gao, Liu, Chen & Lefsky 2016, RSE 172, doi:10.1016/j.rse.2015.11.016"
    family = "unmixing"
    explains = True
    departs: ClassVar = {"bands": "pixels are classified and compared by all bands together"}

    window: int = param(
        41, doc="Side of the window in which similar pixels are sought.", unit="fine pixels", low=3, high=201, odd=True
    )
    classes: int = param(4, doc="Classes of the fine image; pixels are similar within 2 std / classes.", low=1, high=30)
    similar: int = param(20, doc="Similar pixels whose change is averaged.", low=1, high=200)
    scale: float = param(
        10.0, doc="A: distance at which a similar pixel counts half as much.", unit="fine pixels", low=0.1, high=1e4
    )
    pure: int = param(30, doc="Purest coarse pixels of each class, which tell its change.", low=5, high=10_000)

    def check(self, stack: Stack) -> None:
        """Raise FusionError also if the stack's class map has too many classes."""
        super().check(stack)
        check_classes(stack, self.title)

    def halo(self, ratio: int) -> int:
        """Half the window, and the reach of the spline or of the homogeneity within a coarse pixel."""
        return self.window // 2 + max(reach(ratio), ratio // 2 + ratio - 1)

    def prepare(self, stack: Stack) -> tuple[Facts, ...]:
        """Classes and their changes, pair by pair."""
        return tuple(self._facts(stack.select([k])) for k in range(len(stack.days)))

    def _facts(self, pair: Stack) -> Facts:
        centres = stack_centres(pair, self.classes)
        labels = class_labels(pair, centres)
        classes, count = numbered_map(pair, centres, labels), len(labels)
        difference = pair.target - pair.coarse[0]
        change = class_changes(fractions(classes, count, pair.ratio), difference, self.pure)
        spread = np.array([_std(band) for band in pair.fine[0]])
        tolerance = (2 * spread / max(count, 1)).astype(np.float32)
        return Facts(centres, labels, change, tolerance, _range(pair.fine[0], classes, change, pair.target))

    def predict(self, stack: Stack, state: tuple[Facts, ...]) -> np.ndarray:
        """Mean of the predictions from each pair, of near days more."""
        spatial = thin_plate(stack.target, stack.ratio)
        total, norm = np.zeros((2, *stack.fine.shape[1:]), np.float32)
        for k, facts in enumerate(state):
            one = self._from_pair(stack.select([k]), facts, spatial)
            known = np.isfinite(one)
            share = np.float32(_nearness(stack.days[k]))
            total[known] += share * one[known]
            norm[known] += share
            report((k + 1) / len(state))
        with np.errstate(invalid="ignore"):
            return np.asarray(total / norm)

    def _from_pair(self, pair: Stack, facts: Facts, spatial: np.ndarray) -> np.ndarray:
        """Step 6."""
        fine = np.ascontiguousarray(pair.fine[0])
        change = np.stack([each.total for each in changes(pair, facts, spatial)])
        mean = nearest_mean(
            fine,
            change,
            window=self.window,
            count=self.similar,
            distance=distance_weights(self.window, self.scale),
            gain=_gain(fine),
            tolerance=facts.tolerance,
        )
        return fine + np.where(np.isnan(mean), change, mean)  # a pixel that misses another band has no neighbours

    def explain(self, stack: Stack, state: tuple[Facts, ...], band: int, y: int, x: int) -> Explanation:
        """Take one pixel apart: the change of every similar neighbour, and the terms of the pixel itself."""
        spatial, pairs = thin_plate(stack.target, stack.ratio), [stack.select([k]) for k in range(len(state))]
        steps = [
            Steps(
                planes=list(changes(pair, facts, spatial)),
                classes=class_map(pair, facts.centres),
                gain=_gain(pair.fine[0, :, y, x]),
                tolerance=facts.tolerance,
                share=_nearness(day),
            )
            for pair, facts, day in zip(pairs, state, stack.days, strict=True)
        ]
        return explained(self, stack, steps, band, (y, x))


def class_changes(share: np.ndarray, difference: np.ndarray, pure: int) -> np.ndarray:
    """Solve for the change of each class: step 2.

    Parameters
    ----------
    share : numpy.ndarray
        ``(class, y, x)`` f_c of each coarse pixel, NaN = unknown.
    difference : numpy.ndarray
        ``(band, y, x)`` dC, NaN = missing.
    pure : int
        Coarse pixels of each class, those with the highest share.

    Returns
    -------
    numpy.ndarray
        ``(band, class)`` float32.
    """
    out = np.zeros((len(difference), len(share)), np.float32)
    for b, band in enumerate(difference):
        known = np.isfinite(share).all(axis=0) & np.isfinite(band)
        if len(share) and known.any():
            out[b] = _bounded(share[:, known].astype(np.float64), band[known].astype(np.float64), pure)
    return out


def _bounded(share: np.ndarray, change: np.ndarray, pure: int) -> np.ndarray:
    """Bounded least squares of one band; `share` is ``(class, pixel)``, `change` is ``(pixel,)``.

    A pixel counts once for every class that chose it. The mean is taken out first, so that what the chosen pixels do
    not determine is the mean instead of 0; that loses nothing, for the shares of a pixel add up to 1.
    """
    votes = np.sum([_chosen(part, change, pure) for part in share], axis=0)
    mean = float(votes @ change / votes.sum())
    strength, axes = np.linalg.eigh((share * votes) @ share.T)  # normal equations: few numbers however many pixels
    told = strength > 1e-9 * strength[-1]
    root, axes = np.sqrt(strength[told]), axes[:, told].T
    right = axes @ ((share * votes) @ (change - mean)) / root
    spread = max(float(change.std()), 1e-9)
    limits = change.min() - spread - mean, change.max() + spread - mean
    return np.asarray(mean + lsq_linear(root[:, None] * axes, right, limits, method="bvls", max_iter=100).x)


def _chosen(share: np.ndarray, change: np.ndarray, pure: int) -> np.ndarray:
    """1 for the purest pixels of a class whose change is an ordinary one, else 0."""
    there = share > 0.01
    if not there.any():
        return np.zeros(len(share))
    chosen = there & (share >= np.sort(share)[-min(pure, len(share))])
    low, high = np.quantile(change[chosen], 0.1, method="lower"), np.quantile(change[chosen], 0.9, method="higher")
    return np.asarray(chosen & (change >= low - EQUAL) & (change <= high + EQUAL), np.float64)


def _range(fine: np.ndarray, classes: np.ndarray, change: np.ndarray, target: np.ndarray) -> np.ndarray:
    """``([low, high], band)`` of the coarse target and of the temporal prediction, where they are known."""
    out = np.full((2, len(fine)), np.nan, np.float32)
    for b in range(len(fine)):
        known = target[b][np.isfinite(target[b])]
        ends = [known.min(initial=np.inf), known.max(initial=-np.inf)]
        for top in range(0, len(classes), 256):  # strips of rows, so that memory stays flat
            part, which = fine[b, top : top + 256], classes[top : top + 256]
            inside = np.isfinite(part) & (which >= 0)
            temporal = part[inside] + change[b].take(which[inside])
            ends = [temporal.min(initial=ends[0]), temporal.max(initial=ends[1])]
        out[:, b] = ends
    return out


def changes(pair: Stack, facts: Facts, spatial: np.ndarray) -> Iterator[Change]:
    """Steps 3 to 5, band by band; `spatial` is F_SP."""
    classes = numbered_map(pair, facts.centres, facts.labels)
    pure = homogeneity(classes, pair.ratio)
    for b, fine in enumerate(pair.fine[0]):
        stop_if_asked()
        difference = pair.target[b] - pair.coarse[0, b]
        of_class = difference.repeat(pair.ratio, axis=0).repeat(pair.ratio, axis=1)
        if facts.change.size:
            np.copyto(
                of_class, facts.change[b].take(classes, mode="clip"), where=(classes >= 0) & np.isfinite(of_class)
            )
        yield _distributed(fine, of_class, spatial[b], pure, difference, facts.range[:, b])


def _distributed(
    fine: np.ndarray,
    of_class: np.ndarray,
    spatial: np.ndarray,
    pure: np.ndarray,
    difference: np.ndarray,
    ends: np.ndarray,
) -> Change:
    """Spread the residual of every coarse pixel over its fine pixels."""
    cells = Cells(np.isfinite(fine) & np.isfinite(of_class), len(fine) // len(difference))
    residual = cells.spread(difference - cells.mean(of_class))
    towards = np.maximum((spatial - fine - of_class) * np.sign(residual), 0)
    weight = towards * pure + np.abs(residual) * (1 - pure) + np.float32(LEAST)
    share = weight / cells.spread(cells.mean(weight))
    share[share > MOST] = 1
    share /= cells.spread(cells.mean(share))
    total = np.clip(of_class + residual * share, ends[0] - fine, ends[1] - fine)
    return Change(of_class, spatial, residual, pure, weight, share, total)


class Cells:
    """Coarse pixels of a fine plane: means over the known fine pixels, and back."""

    def __init__(self, known: np.ndarray, ratio: int) -> None:
        self.known, self.ratio = known, ratio
        self.count = np.maximum(self._sum(known), 1)

    def mean(self, plane: np.ndarray) -> np.ndarray:
        """``(y, x)`` of coarse pixels, 0 where no fine pixel is known."""
        out: np.ndarray = (self._sum(np.where(self.known, plane, 0)) / self.count).astype(np.float32)
        return out

    def spread(self, coarse: np.ndarray) -> np.ndarray:
        """Repeat coarse pixels."""
        return coarse.repeat(self.ratio, axis=0).repeat(self.ratio, axis=1)

    def _sum(self, plane: np.ndarray) -> np.ndarray:
        y, x = plane.shape
        r = self.ratio
        out: np.ndarray = plane.reshape(y // r, r, x // r, r).sum(axis=(1, 3), dtype=np.float64)
        return out


def homogeneity(classes: np.ndarray, ratio: int) -> np.ndarray:
    """HI: share of a pixel's class among the pixels of known class of the square around it; 0 for an unknown one."""
    same, known = np.zeros(classes.shape, np.int32), np.zeros(classes.shape, np.int32)
    for c in range(int(classes.max(initial=-1)) + 1):
        inside = classes == c
        count = _box_sum(inside, ratio // 2)
        known += count
        np.copyto(same, count, where=inside)
    return (same / np.maximum(known, 1)).astype(np.float32)


def _box_sum(plane: np.ndarray, half: int) -> np.ndarray:
    """Sum over the square of ``2 half + 1`` pixels around each pixel, cut at the edge."""
    for axis in (0, 1):
        size = plane.shape[axis]
        total = np.insert(plane.cumsum(axis=axis, dtype=np.int32), 0, 0, axis=axis)
        at = np.arange(size)
        plane = total.take(np.minimum(at + half + 1, size), axis=axis)
        plane -= total.take(np.maximum(at - half, 0), axis=axis)
    return plane


def _gain(fine: np.ndarray) -> np.ndarray:
    """1 / F1(p), by which differences become relative ones."""
    return np.asarray(1 / np.maximum(fine, np.float32(DARK)))


def _nearness(day: int) -> float:
    return 1 / max(abs(day), 1)


def _std(band: np.ndarray) -> float:
    known = band[np.isfinite(band)]
    return float(known.std(dtype=np.float64)) if known.size else 0.0
