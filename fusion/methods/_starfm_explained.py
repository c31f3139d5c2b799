"""STARFM taken apart: the weights of one pixel's neighbours in plain numpy, apart from the kernel."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ..stack import Stack
from ._explanation import GONE, Explanation, Plane, Term, Window
from ._grids import upsample

if TYPE_CHECKING:
    from .starfm import Starfm

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


def explained(
    method: "Starfm", stack: Stack, compared: tuple[np.ndarray, np.ndarray], band: int, at: tuple[int, int]
) -> Explanation:
    """Take one pixel of one band apart; `compared` says by what pixels are similar: planes and their tolerance."""
    parts = Parts.around(method, stack, compared, band, at)
    verdict, weight, note = parts.weighed()
    total = float(weight.sum())
    latex = LATEX.format(S=COST[method.combine].format("S"), T=COST[method.combine].format("T"))
    found = Explanation(
        rows=parts.window.rows,
        columns=parts.window.columns,
        days=stack.days,
        weight=weight / total if total else weight,
        value=parts.value.astype(np.float64),
        verdict=verdict,
        verdicts=VERDICTS,
        base=0.0 if total else float("nan"),
        equation=EQUATION,
        terms=(),
        note=note,
        latex=latex,
        planes=parts.planes(),
    )
    return replace(found, terms=(*parts.terms(), *_sums(found)))


@dataclass(frozen=True, eq=False)
class Parts:
    """The equation around one pixel of one band: planes ``(pair, y, x)`` of its window, and what is asked of them.

    All is float32 as in `predict`, because a comparison of other digits can fall the other way.
    """

    method: "Starfm"
    window: Window
    f: np.ndarray
    c: np.ndarray
    c2: np.ndarray  # (y, x)
    like: np.ndarray  # by what pixels are similar
    tolerance: np.ndarray  # (pair,)

    @classmethod
    def around(
        cls, method: "Starfm", stack: Stack, compared: tuple[np.ndarray, np.ndarray], band: int, at: tuple[int, int]
    ) -> "Parts":
        """Cut the window out of a stack."""
        window = Window.around(at, method.window, stack.fine.shape)
        return cls(
            method=method,
            window=window,
            f=window.of(stack.fine[:, band]),
            c=window.of(upsample(stack.coarse[:, band], stack.ratio, method.kernel)),
            c2=window.of(upsample(stack.target[band], stack.ratio, method.kernel)),
            like=window.of(compared[0][:, band]),
            tolerance=compared[1][:, band],
        )

    @property
    def p(self) -> tuple[int, int]:
        """The centre within the window."""
        return self.window.centre

    @property
    def d(self) -> np.ndarray:
        """Relative distance ``(y, x)``."""
        return np.asarray(1 + self.window.apart / self.method.scale)

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
        return np.asarray(self.method.cost(self.s) * self.method.cost(self.t) * self.d)

    @property
    def known(self) -> np.ndarray:
        """Pixels that no image of their pair misses."""
        return np.asarray(np.isfinite(self.value))

    @property
    def limits(self) -> tuple[np.float32, np.float32]:
        """What S and T must stay below: those of the centre and the uncertainty of the images."""
        known, more = self.known[:, *self.p], self.method.uncertainty()
        s, t = (max(plane[:, *self.p][known], default=np.float32("nan")) for plane in (self.s, self.t))
        return s + more[0], t + more[1]

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
            else [self.group()]
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

    def group(self) -> Term:
        """The class of the centre; an unknown one is negative here."""
        group = float(self.like[0][self.p])
        if group < 0:
            return Term("class(p)", "unknown: like no other pixel", float("nan"), "number")
        return Term("class(p)", "similar are pixels of this class", group, "number")


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
