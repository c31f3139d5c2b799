"""STRUM: unmix the coarse change."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from ..stack import Stack
from . import Method, param, register
from ._classes import check_classes
from ._unmixing import Mixture, survey, unmix


@register
@dataclass(frozen=True)
class Strum(Method):
    """Finds how much each class changed around a pixel, and adds that to the fine image.

    A coarse pixel sees a mixture: its change is the mean of the changes of the classes in it, weighted by the area
    that each covers. The classes and areas are known from the fine image. A window of neighbouring coarse pixels thus
    gives several equations for the few unknown changes, one per class; they are solved, and each fine pixel is given
    the change of its class. Good where classes change each in its own way, as fields of different crops do, also when
    a field is smaller than a coarse pixel. Blind to a change that ignores the classes, such as a flood or a fire: it
    is shared out among the classes that it struck, struck or not.

    Notes
    -----
    The fine image of the pair nearest in time is classified by k-means, or the stack brings a class map. With A the
    shares of the classes in the coarse pixels of the window (rows; a coarse pixel that is missing has none) and r
    their change C_2 - C_k, per band::

        r = A e + error
        bayesian   e = e0 + (A^T A + (sr / s0)^2 I)^-1 A^T (r - A e0)
        bounded    e minimises |r - A e|^2 within the least and the greatest coarse change of the image
        F_2(p)   = F_k(p) + e_class(p)

    e0 is the expected change of a class: that of the purest coarse pixels of the image, taken as the mean weighted by
    share^8, which has no rank at which to cut. ``noise`` is sr / s0: near 0 gives least squares, a large one e0.
    "bounded" has a pull of 1e-4 to e0 in place of (sr / s0)^2, so that a window with fewer coarse pixels than classes
    still has one answer; it wants a window with several times more coarse pixels than classes.

    A class that fills less than a tenth of every coarse pixel of its window keeps e0. A fine pixel of unknown class
    changes as its coarse pixel does. The window is cut at the edge of the scene. Several pairs are averaged with
    weights 1 / days to the target, as by Delta, all with the same classes; a pair in which a pixel is missing leaves
    its weight to the others.
    """

    title = "STRUM"
    paper = "Gevaert & García-Haro 2015, Remote Sensing of Environment 156, doi:10.1016/j.rse.2014.09.012"
    family = "unmixing"
    departs: ClassVar = {"bands": "the classes are those of all bands together"}

    classes: int = param(4, doc="Classes of the fine image; a class map that is given has its own.", low=1, high=40)
    window: int = param(3, doc="Side of the window that is unmixed.", unit="coarse pixels", low=1, high=51, odd=True)
    solver: Literal["bayesian", "bounded"] = param(
        "bayesian", doc="How a window is solved: with what is expected of each class, or within bounds."
    )
    noise: float = param(
        1.0, doc="sr / s0, for bayesian: trust in what is expected over what is seen.", unit="1", low=0.01, high=100
    )

    def check(self, stack: Stack) -> None:
        """Raise FusionError also if the stack's class map has too many classes."""
        super().check(stack)
        check_classes(stack, self.title)

    def halo(self, ratio: int) -> int:
        """Reach of the window from the far edge of a coarse pixel, in fine pixels."""
        return (self.window // 2 + 1) * ratio - 1

    def prepare(self, stack: Stack) -> Mixture:
        """Classes, and the change of each in the purest coarse pixels."""
        return survey(stack, _change(stack), self.classes)

    def predict(self, stack: Stack, state: Mixture) -> np.ndarray:
        """Average F_k + e over the pairs k."""
        change = unmix(stack, _change(stack), state, self.window, self.solver, self.noise).reshape(stack.fine.shape)
        weights = [np.float32(1 / max(abs(days), 1)) for days in stack.days]
        out = np.empty(stack.fine.shape[1:], np.float32)
        for band, image in enumerate(out):
            total, norm = np.zeros((2, *image.shape), np.float32)
            for fine, moved, weight in zip(stack.fine[:, band], change[:, band], weights, strict=True):
                moved += fine
                known = np.isfinite(moved)
                np.add(total, weight * moved, out=total, where=known)
                np.add(norm, weight, out=norm, where=known)
            image[:] = np.nan
            np.divide(total, norm, out=image, where=norm > 0)
        return out


def _change(stack: Stack) -> np.ndarray:
    """``(pair * band, v, u)`` coarse change since each pair."""
    change: np.ndarray = stack.target - stack.coarse
    return change.reshape(-1, *stack.target.shape[1:])
