"""STARFM: weighted similar neighbours."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from .._pulse import report
from ..stack import Stack
from . import Explanation, Method, param, register
from ._classes import class_map, stack_centres
from ._grids import reach, upsample
from ._starfm_explained import explained
from ._windows import distance_weights, similar_sum

DN = 1e4  # the paper's constants are written for reflectance times 10 000
SAME = np.float32(0.25)  # tolerance between the numbers of classes


@register
@dataclass(frozen=True)
class Starfm(Method):
    """Averages F + C2 - C1 over the similar pixels of a moving window.

    Around each pixel a window is searched, in every pair, for pixels whose fine reflectance is similar to the
    centre's. Each says what the target day may look like: its fine value plus the coarse change at its place. They
    are averaged with weights that are high where fine and coarse agree (S small: a pure coarse pixel), where the
    coarse image changed little (T small) and near the centre (D small). Good for gradual change in patches at least
    as large as a coarse pixel; a change that no coarse pixel shows purely is smeared.

    Notes
    -----
    With k the pair, i the neighbour and p the centre (equations 2 to 16 of the paper)::

        S = |F_k(i) - C_k(i)|    T = |C_k(i) - C_2(i)|    D = 1 + |i - p| / A
        similar    |F_k(i) - F_k(p)| <= 2 std(F_k) / classes    or    class(i) = class(p)
        filter     S < max_k S_k(p) + sqrt(sl^2 + sm^2)   and   T < max_k T_k(p) + sqrt(2) sm
        weight     W = 1 / (S' T' D), normalised over all i and k
        F_2(p)   = sum W (F_k(i) + C_2(i) - C_k(i))

    where S' = ln(S B + 2), T' = ln(T B + 2), B = 10 000 with ``combine="log"``, and S' = S B + 1, T' = T B + 1 with
    ``combine="product"``. The paper prints ln(S B + 1), which is zero for S = 0 and gives a single neighbour all the
    weight by the accident of rounding; like later implementations we add 2. Its two special cases hold exactly for
    the centre: no coarse change (T = 0) keeps F_k(p), and F_k(p) = C_k(p) gives C_2(p).

    Similar pixels are found in either of the paper's two ways (its section III-B). With ``similarity="threshold"``
    each band is compared with a tolerance. With ``similarity="classes"`` all bands share one map of classes: the one
    given with the images, or as many classes as asked for, found by k-means in all bands of the pair nearest in time
    (pixels missing there: the next nearest). A pixel of unknown class is like no other and is predicted from itself,
    so that a hole in the map is none in the prediction. Classes look past noise and shading within a kind of
    surface, and so blur more; a tolerance follows every shade.

    The standard deviation is the whole scene's, so the result does not depend on tiles. The window is cut at the
    edge of the scene. A pixel missing in any image of a pair is no neighbour in that pair; the prediction is missing
    where the centre is missing in every pair or in the coarse target. C is interpolated to fine pixels with `kernel`.
    """

    title = "STARFM"
    paper = "Gao, Masek, Schwaller & Hall 2006, IEEE TGRS 44(8), doi:10.1109/TGRS.2006.872081"
    family = "weighted neighbours"
    explains = True
    departs: ClassVar = {"offset": "a change of the target changes T and so the weights among similar pixels"}

    window: int = param(31, doc="Side of the search window.", unit="fine pixels", low=3, high=201, odd=True)
    similarity: Literal["threshold", "classes"] = param(
        "threshold", doc="Which pixels are similar: those within a tolerance in the band, or those of one class."
    )
    classes: int = param(
        20,
        doc="How finely pixels are told apart: within 2 std / classes, or in so many classes; few blur, many sharpen.",
        low=1,
        high=200,
    )
    scale: float = param(
        25.0, doc="A: distance at which a neighbour counts half as much.", unit="fine pixels", low=0.1, high=1e4
    )
    fine_uncertainty: float = param(
        0.005, doc="sl: uncertainty of the fine image.", unit="reflectance", low=0, high=0.1
    )
    coarse_uncertainty: float = param(
        0.005, doc="sm: uncertainty of the coarse image.", unit="reflectance", low=1e-5, high=0.1
    )
    combine: Literal["log", "product"] = param("log", doc="How S and T are combined: by logarithms or as they are.")
    kernel: Literal["nearest", "bilinear", "cubic"] = param(
        "bilinear", doc="How coarse images are interpolated to fine pixels."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.similarity == "classes":  # a law that only this choice does not obey
            object.__setattr__(self, "departs", {**self.departs, "bands": "all bands are classified together"})

    def halo(self, ratio: int) -> int:
        """Half the window and the reach of the interpolation, in fine pixels."""
        return self.window // 2 + reach(ratio, self.kernel)

    def prepare(self, stack: Stack) -> np.ndarray:
        """Look at the whole image: similarity tolerance ``(pair, band)``, or centres ``(class, band)`` of classes."""
        if self.similarity == "classes":
            return stack_centres(stack, self.classes)
        spread = np.array([[_std(band) for band in image] for image in stack.fine], np.float32)
        return 2 * spread / np.float32(self.classes)

    def predict(self, stack: Stack, state: np.ndarray) -> np.ndarray:
        """Weighted mean of similar neighbours, band by band."""
        coarse = upsample(stack.coarse, stack.ratio, self.kernel)
        target = upsample(stack.target, stack.ratio, self.kernel)
        like, tolerance = self.compared(stack, state)
        distance = distance_weights(self.window, self.scale)
        out = np.empty(stack.fine.shape[1:], np.float32)
        for b in range(len(out)):
            terms = Terms.of(self, stack.fine[:, b], coarse[:, b], target[b])
            out[b] = _mean(terms, np.where(terms.weight > 0, like[:, b], np.nan), tolerance[:, b], distance)
            out[b] = _special_cases(out[b], terms, target[b])
            report((b + 1) / len(out))
        return out

    def compared(self, stack: Stack, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """By what pixels are similar: planes ``(pair, band, y, x)`` and their tolerance ``(pair, band)``."""
        if self.similarity == "threshold":
            return stack.fine, state
        classes = class_map(stack, state)
        y, x = np.ogrid[: classes.shape[0], : classes.shape[1]]
        alone = -1 - (y % self.window * self.window + x % self.window)  # a number that no pixel within reach shares
        like = np.where(classes < 0, alone, classes).astype(np.float32)
        return np.broadcast_to(like, stack.fine.shape), np.full(stack.fine.shape[:2], SAME)

    def cost(self, plane: np.ndarray) -> np.ndarray:
        """S' of S, T' of T."""
        return plane * DN + 1 if self.combine == "product" else np.asarray(np.log(plane * DN + 2))

    def uncertainty(self) -> tuple[np.float32, np.float32]:
        """By how much S and T of a neighbour may exceed those of the centre."""
        sl, sm = self.fine_uncertainty, self.coarse_uncertainty
        return np.float32(np.hypot(sl, sm)), np.float32(np.sqrt(2) * sm)

    def explain(self, stack: Stack, state: np.ndarray, band: int, y: int, x: int) -> Explanation:
        """Weigh the neighbours of one pixel in plain numpy, and say of each whether it counts."""
        return explained(self, stack, self.compared(stack, state), band, (y, x))


@dataclass(frozen=True)
class Terms:
    """The planes of the equation, each ``(pair, y, x)`` float32; a pixel missing in a pair has weight 0."""

    fine: np.ndarray
    s: np.ndarray
    t: np.ndarray
    value: np.ndarray  # F + C2 - Ck
    weight: np.ndarray  # 1 / (S' T')
    limits: tuple[np.ndarray, np.ndarray]  # (y, x) of S and T

    @classmethod
    def of(cls, method: Starfm, fine: np.ndarray, coarse: np.ndarray, target: np.ndarray) -> "Terms":
        """Compute the planes of one band."""
        s, t, value = np.abs(fine - coarse), np.abs(coarse - target), fine + (target - coarse)
        known = np.isfinite(value)
        more_s, more_t = method.uncertainty()
        return cls(
            fine=np.where(known, fine, np.nan).astype(np.float32),
            s=s,
            t=t,
            value=np.where(known, value, 0).astype(np.float32),
            weight=np.where(known, 1 / (method.cost(s) * method.cost(t)), 0).astype(np.float32),
            limits=(_max(s, known) + more_s, _max(t, known) + more_t),
        )


def _mean(terms: Terms, like: np.ndarray, tolerance: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Weighted mean over the similar neighbours, NaN where there is none."""
    total, norm = similar_sum(terms.value, like, terms.weight, (terms.s, terms.t), terms.limits, tolerance, distance)
    out = np.full_like(total, np.nan)
    np.divide(total, norm, out=out, where=norm > 0)
    return out


def _special_cases(out: np.ndarray, terms: Terms, target: np.ndarray) -> np.ndarray:
    """Keep F where the coarse centre did not change; take C2 where the fine centre equals the coarse one."""
    known = terms.weight > 0
    for same, keep in (
        ((terms.s == 0) & known, np.broadcast_to(target, terms.s.shape)),
        ((terms.t == 0) & known, terms.fine),
    ):
        count = same.sum(axis=0)
        mean = np.where(same, keep, 0).sum(axis=0, dtype=np.float32) / np.maximum(count, 1)
        out = np.where(count > 0, mean, out).astype(np.float32)
    return out


def _max(plane: np.ndarray, known: np.ndarray) -> np.ndarray:
    highest = np.where(known, plane, -np.inf).max(axis=0).astype(np.float32)
    return np.where(known.any(axis=0), highest, np.nan).astype(np.float32)


def _std(band: np.ndarray) -> float:
    known = band[np.isfinite(band)]
    return float(known.std(dtype=np.float64)) if known.size else 0.0
