"""UBDF: unmix the coarse image itself."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from ..stack import Stack
from . import Method, param, register
from ._classes import check_classes
from ._unmixing import Mixture, survey, unmix


@register
@dataclass(frozen=True)
class Ubdf(Method):
    """Finds the reflectance of each class around a pixel, and gives it to all pixels of the class.

    A coarse pixel sees a mixture: its value is the mean of the values of the classes in it, weighted by the area that
    each covers. The classes and areas are known from a fine image. A window of neighbouring coarse pixels of the
    target day thus gives several equations for the few unknown values, one per class; they are solved, and each fine
    pixel is given the value of its class. Of the fine image only its classes are used, so fine and coarse sensors need
    not have the same bands or calibration, and no coarse image of the fine one's day is looked at. For the same
    reason all differences within a class are lost, and the result looks like a map. STRUM, which unmixes the change
    instead, keeps them.

    Notes
    -----
    The fine image of the pair nearest in time is classified by k-means, or the stack brings a class map. With A the
    shares of the classes in the coarse pixels of the window (rows; a coarse pixel that is missing has none) and r
    their values C_2, per band::

        r = A e + error
        bounded    e minimises |r - A e|^2 within the least and the greatest coarse value of the image
        bayesian   e = e0 + (A^T A + (sr / s0)^2 I)^-1 A^T (r - A e0)
        F_2(p)   = e_class(p)

    The paper bounds e by 0 and saturation; the image's own range is narrower, has the same meaning in every unit, and
    lowered the error on each scene that we tried. The second solution is that of Gevaert & García-Haro 2015,
    doi:10.1016/j.rse.2014.09.012, for the same equations. e0 is the expected value of a class: that of the purest
    coarse pixels of the image, taken as the mean weighted by share^8, which has no rank at which to cut. ``noise`` is
    sr / s0: near 0 gives least squares, a large one e0. "bounded" has a pull of 1e-4 to e0 in place of (sr / s0)^2, so
    that a window with fewer coarse pixels than classes still has one answer. It wants few classes and a larger window,
    several times more coarse pixels than classes (the paper has window^2 > classes); as "bayesian" does not, that is
    the default.

    A class that fills less than a tenth of every coarse pixel of its window keeps e0. A fine pixel of unknown class
    takes the coarse value. The window is cut at the edge of the scene. The prediction is missing where the coarse
    target is, and where no fine image shows the pixel.
    """

    title = "UBDF"
    paper = "Zurita-Milla, Clevers & Schaepman 2008, IEEE GRSL 5(3), doi:10.1109/LGRS.2008.919685"
    family = "unmixing"
    departs: ClassVar = {
        "copy": "of the fine image only the classes are used, not its values",
        "bands": "the classes are those of all bands together",
    }

    classes: int = param(
        20,
        doc="Classes of the fine image; a class map that is given has its own. Fewer than window^2 if bounded.",
        low=1,
        high=40,
    )
    window: int = param(3, doc="Side of the window that is unmixed.", unit="coarse pixels", low=1, high=51, odd=True)
    solver: Literal["bayesian", "bounded"] = param(
        "bayesian",
        doc="How a window is solved: with what is expected of each class, or within bounds, which wants few classes.",
    )
    noise: float = param(
        0.5, doc="sr / s0, for bayesian: trust in what is expected over what is seen.", unit="1", low=0.01, high=100
    )

    def check(self, stack: Stack) -> None:
        """Raise FusionError also if the stack's class map has too many classes."""
        super().check(stack)
        check_classes(stack, self.title)

    def halo(self, ratio: int) -> int:
        """Reach of the window from the far edge of a coarse pixel, in fine pixels."""
        return (self.window // 2 + 1) * ratio - 1

    def prepare(self, stack: Stack) -> Mixture:
        """Classes, and the value of each in the purest coarse pixels."""
        return survey(stack, stack.target, self.classes)

    def predict(self, stack: Stack, state: Mixture) -> np.ndarray:
        """Value of each pixel's class."""
        out = unmix(stack, stack.target, state, self.window, self.solver, self.noise)
        unseen = (state.classes(stack) < 0) & np.isnan(stack.fine).all(axis=0)
        out[unseen] = np.nan
        return out
