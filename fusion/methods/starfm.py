"""STARFM: weighted similar neighbours."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from ..stack import Stack
from . import Explanation, Method, Term, param, register
from ._classes import class_map, stack_centres
from ._explanation import Plane
from ._grids import reach, upsample
from ._pulse import report
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

    def explain(self, stack: Stack, state: np.ndarray, band: int, y: int, x: int) -> Explanation:
        """Weigh the neighbours of one pixel in plain numpy, and say of each whether it counts."""
        parts = _Parts.around(self, stack, state, band, y, x)
        verdict, weight, note = parts.weighed()
        total = float(weight.sum())
        found = Explanation(
            rows=parts.rows,
            columns=parts.columns,
            days=stack.days,
            weight=weight / total if total else weight,
            value=parts.value.astype(np.float64),
            verdict=verdict,
            verdicts=VERDICTS,
            base=0.0 if total else float("nan"),
            equation=EQUATION,
            terms=(),
            note=note,
            latex=LATEX.format(S=COST[self.combine].format("S"), T=COST[self.combine].format("T")),
            planes=parts.planes(),
        )
        return replace(found, terms=(*parts.terms(), *_sums(found)))


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
        product = method.combine == "product"
        cost = (s * DN + 1) * (t * DN + 1) if product else np.log(s * DN + 2) * np.log(t * DN + 2)
        sl, sm = method.fine_uncertainty, method.coarse_uncertainty
        return cls(
            fine=np.where(known, fine, np.nan).astype(np.float32),
            s=s,
            t=t,
            value=np.where(known, value, 0).astype(np.float32),
            weight=np.where(known, 1 / cost, 0).astype(np.float32),
            limits=(_max(s, known) + np.float32(np.hypot(sl, sm)), _max(t, known) + np.float32(np.sqrt(2) * sm)),
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


VERDICTS = ("counts", "missing", "centre missing", "not similar", "S too large", "T too large", "centre decides")
EQUATION = "F_2(p) = sum W_k(i) (F_k(i) + C_2(i) - C_k(i)), W_k(i) = 1 / (S' T' D) divided by the sum of all of them"
LATEX = (
    r"\begin{{aligned}}F_2(p)&=\sum_k\sum_i W_k(i)\,\bigl(F_k(i)+C_2(i)-C_k(i)\bigr)\\"
    r"W_k(i)&=\frac{{1}}{{S'\,T'\,D}}\Big/\sum_k\sum_j\frac{{1}}{{S'\,T'\,D}},\quad D=1+\lvert i-p\rvert/A\\"
    r"S'&={S},\quad S=\lvert F_k(i)-C_k(i)\rvert\\ T'&={T},\quad T=\lvert C_k(i)-C_2(i)\rvert\end{{aligned}}"
)
COST = {"log": r"\ln(10^4{}+2)", "product": "10^4{}+1"}
STILL = "The coarse image did not change here (T = 0): the pixel keeps its fine value."
PURE = "Fine and coarse are equal here (S = 0): the pixel takes the coarse value of the target day."
GONE = "The pixel is missing in the coarse target or in every pair, so there is no prediction."


@dataclass(frozen=True, eq=False)
class _Parts:
    """The equation around one pixel of one band: planes ``(pair, y, x)`` of its window, and what is asked of them.

    All is float32 as in `predict`, because a comparison of other digits can fall the other way.
    """

    rows: slice
    columns: slice
    p: tuple[int, int]  # the centre within the window
    f: np.ndarray
    c: np.ndarray
    c2: np.ndarray  # (y, x)
    like: np.ndarray  # by what pixels are similar
    tolerance: np.ndarray  # (pair,)
    d: np.ndarray  # (y, x)
    method: Starfm

    @classmethod
    def around(cls, method: Starfm, stack: Stack, state: np.ndarray, band: int, y: int, x: int) -> "_Parts":
        """Cut the window out of a stack and its state."""
        half, (height, width) = method.window // 2, stack.fine.shape[2:]
        rows = slice(max(y - half, 0), min(y + half + 1, height))
        columns = slice(max(x - half, 0), min(x + half + 1, width))
        p = (y - rows.start, x - columns.start)
        f = stack.fine[:, band, rows, columns]
        c = upsample(stack.coarse[:, band], stack.ratio, method.kernel)[:, rows, columns]
        c2 = upsample(stack.target[band], stack.ratio, method.kernel)[rows, columns]
        like, tolerance = (a[:, band] for a in method.compared(stack, state))
        like = like[:, rows, columns]
        d = 1 + np.hypot(*np.ogrid[rows.start - y : rows.stop - y, columns.start - x : columns.stop - x]) / method.scale
        return cls(rows, columns, p, f, c, c2, like, tolerance, d, method)

    @property
    def s(self) -> np.ndarray:
        """How much fine and coarse differ on the day of the pair."""
        return np.asarray(np.abs(self.f - self.c))

    @property
    def t(self) -> np.ndarray:
        """How much the coarse image changed since."""
        return np.asarray(np.abs(self.c - self.c2))

    @property
    def value(self) -> np.ndarray:
        """What each neighbour says of the target day."""
        return np.asarray(self.f + (self.c2 - self.c))

    @property
    def cost(self) -> np.ndarray:
        """S' T' D, without unit: 1 over the weight."""
        product = self.method.combine == "product"
        s, t = (np.asarray(plane * DN + 1 if product else np.log(plane * DN + 2)) for plane in (self.s, self.t))
        return np.asarray(s * t * self.d)

    @property
    def known(self) -> np.ndarray:
        """Pixels that no image of their pair misses."""
        return np.asarray(np.isfinite(self.value))

    @property
    def limits(self) -> tuple[float, float]:
        """What S and T must stay below: those of the centre and the uncertainty of the images."""
        sl, sm = self.method.fine_uncertainty, self.method.coarse_uncertainty
        most_s, most_t = (_max(plane, self.known)[self.p] for plane in (self.s, self.t))
        return most_s + np.float32(np.hypot(sl, sm)), most_t + np.float32(np.sqrt(2) * sm)

    def weighed(self) -> tuple[np.ndarray, np.ndarray, str]:
        """Verdict on each neighbour, its weight before the sum is made 1, and the special case that decided."""
        verdict, alone = self.verdict(), np.zeros(self.f.shape, bool)
        for same, why in ((self.t == 0, STILL), (self.s == 0, PURE)):
            alone[:, *self.p] = (self.known & same)[:, *self.p]
            if alone.any():
                verdict[verdict == 0] = VERDICTS.index("centre decides")
                verdict[alone] = 0
                return verdict, alone.astype(np.float64), why
        counts = verdict == 0
        return verdict, np.where(counts, 1 / np.where(counts, self.cost, 1), 0), "" if counts.any() else GONE

    def verdict(self) -> np.ndarray:
        """Index into `VERDICTS`: the first reason against each neighbour, 0 = there is none."""
        most_s, most_t = self.limits
        centre = np.broadcast_to(self.known[:, *self.p, None, None], self.known.shape)
        similar = np.abs(self.like - self.like[:, *self.p, None, None]) <= self.tolerance[:, None, None]
        against = (~self.known, ~centre, ~similar, ~(self.s < most_s), ~(self.t < most_t))
        return np.asarray(np.select(against, [1, 2, 3, 4, 5], 0), np.uint8)

    def planes(self) -> tuple[Plane, ...]:
        """What the weights are made of, to be looked at."""
        d = np.broadcast_to(self.d, self.f.shape)
        return (
            Plane("S", "fine minus coarse, |F_k(i) - C_k(i)|", self.s),
            Plane("T", "coarse change, |C_k(i) - C_2(i)|", self.t),
            Plane("D", "relative distance, 1 + |i - p| / A", d, "1"),
        )

    def terms(self) -> tuple[Term, ...]:
        """The numbers of the centre, and what is asked of its neighbours."""
        most_s, most_t = self.limits
        alike = (
            [Term("2 std / classes", "similar are pixels that differ by no more in F_k", float(most), pair=k)
             for k, most in enumerate(self.tolerance)]
            if self.method.similarity == "threshold"
            else [Term("class(p)", "similar are pixels of this class", float(self.like[0][self.p]), "number")]
        )  # fmt: skip
        each = [
            Term(symbol, meaning, float(plane[k]), pair=k)
            for k in range(len(self.f))
            for symbol, meaning, plane in (
                ("F_k(p)", "fine reflectance of the pixel", self.f[:, *self.p]),
                ("C_k(p)", "coarse reflectance of the pixel, same day", self.c[:, *self.p]),
                ("S(p)", "fine minus coarse, |F_k(p) - C_k(p)|", self.s[:, *self.p]),
                ("T(p)", "coarse change, |C_k(p) - C_2(p)|", self.t[:, *self.p]),
            )
        ]
        return (
            Term("C_2(p)", "coarse reflectance of the pixel, target day", float(self.c2[self.p])),
            *each,
            *alike,
            Term("max S", "S from which a neighbour does not count", float(most_s)),
            Term("max T", "T from which a neighbour does not count", float(most_t)),
        )


def _sums(found: Explanation) -> tuple[Term, ...]:
    """What comes out, per pair and in all."""
    counts, shares = (found.verdict == 0).sum(axis=(1, 2)), found.weight.sum(axis=(1, 2))
    each = [
        term
        for k in range(len(counts))
        for term in (
            Term("n", "neighbours that count in this pair", float(counts[k]), "pixels", k),
            Term("sum W", "their share of the prediction", 100 * float(shares[k]), "%", k),
        )
    ]
    return tuple(each)
