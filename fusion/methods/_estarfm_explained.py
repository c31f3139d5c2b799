"""ESTARFM taken apart: the equations as they are printed, for one pixel in plain numpy, apart from the kernel."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import fdtrc

from ._estarfm import Planes
from ._explanation import GONE, Explanation, Plane, Term, Window

VERDICTS = ("counts", "missing in a pair", "not similar", "pair is missing at the centre")
USUAL = "F_2(p) = sum_k T_k [F_k(p) + V sum_i W_i (C_2(i) - C_k(i))]"
FEW = "F_2(p) = sum_k T_k [F_k(p) + mean_i (C_2(i) - C_k(i))]"
RANGE = "F_2(p) = sum_k T_k sum_i W_i F_k(i)"
LATEX = {
    USUAL: r"F_2(p)&=\sum_k T_k\,\Bigl(F_k(p)+V\sum_i W_i\,\bigl(C_2(i)-C_k(i)\bigr)\Bigr)",
    FEW: r"F_2(p)&=\sum_k T_k\,\bigl(F_k(p)+m_k\bigr)",
    RANGE: r"F_2(p)&=\sum_k T_k\sum_i W_i\,F_k(i)",
}
PAIRS = r"T_k&=\frac{1}{\lvert m_k\rvert}\Big/\sum_j\frac{1}{\lvert m_j\rvert},\quad m_k=\overline{C_2-C_k}"
NEIGHBOURS = (
    r"W_i&=\frac{1}{D_i}\Big/\sum_j\frac{1}{D_j}\\"
    r"D_i&=(1-R_i)\,\bigl(1+\lvert i-p\rvert/\tfrac{\text{window}}{2}\bigr)"
)


class Rules(NamedTuple):
    """The numbers by which the method decides."""

    window: int
    change: float  # least coarse change between pairs from which V is estimated
    few: int
    steepest: float
    significant: float
    tiny: float
    range: tuple[float, float]  # that a prediction may have


def explained(
    rules: Rules, days: tuple[int, ...], planes: Planes | None, valid: np.ndarray, band: int, at: tuple[int, int]
) -> Explanation:
    """Take one pixel of one band apart; `planes` are those of the pairs in which it is valid, None = there is none."""
    window = Window.around(at, rules.window, valid.shape)
    layers = Layers(len(days), np.flatnonzero(valid[:, *at]).tolist(), window)
    if planes is None:
        verdict = layers.of(3, 3).astype(np.uint8)
        weight, value = layers.of(0.0, 0.0), layers.of(np.nan, np.nan)
        return Explanation(
            window.rows, window.columns, days, weight, value, verdict, VERDICTS, float("nan"), USUAL, (), GONE,
            rf"\begin{{aligned}}{LATEX[USUAL]}\end{{aligned}}",
        )  # fmt: skip
    there = Neighbourhood.of(rules, planes, window.of(valid)[layers.members], window)
    equation, base, share, said, note = there.decided(band)
    counts = layers.of(np.where(share > 0, 0, np.where(there.valid.all(axis=0), 2, 1)), 3)
    second = PAIRS if equation == FEW else rf"{NEIGHBOURS}\\{PAIRS}"
    return Explanation(
        rows=window.rows,
        columns=window.columns,
        days=days,
        weight=layers.of(there.times(band)[0][:, None, None] * share, 0.0),
        value=layers.of(np.where(there.valid, said, np.nan), np.nan),
        verdict=counts.astype(np.uint8),
        verdicts=VERDICTS,
        base=base,
        equation=equation,
        terms=tuple(there.terms(band, layers.members)),
        note=note,
        latex=rf"\begin{{aligned}}{LATEX[equation]}\\{second}\end{{aligned}}",
        planes=tuple(
            Plane(symbol, meaning, layers.of(plane, np.nan), unit)
            for symbol, meaning, plane, unit in there.planes(band)
        ),
    )


class Layers(NamedTuple):
    """Layers ``(pair, y, x)`` of all pairs, made from those of the pairs in which the pixel is valid."""

    pairs: int
    members: list[int]
    window: Window

    def of(self, values: np.ndarray | float, otherwise: float) -> np.ndarray:
        """Put ``(member, y, x)`` or ``(y, x)`` in its place; the other pairs have one value everywhere."""
        out = np.full((self.pairs, *self.window.apart.shape), otherwise, np.float64)
        out[self.members] = values
        return out


@dataclass(frozen=True, eq=False)
class Neighbourhood:
    """The window around one pixel, in the pairs in which that pixel is valid; images are float64."""

    rules: Rules
    window: Window
    fine: np.ndarray  # (pair, band, y, x), like the next two
    coarse: np.ndarray
    change: np.ndarray
    valid: np.ndarray  # (pair, y, x)
    similar: np.ndarray  # (y, x)
    r: np.ndarray  # (y, x) R
    d: np.ndarray  # (y, x) D

    @classmethod
    def of(cls, rules: Rules, planes: Planes, valid: np.ndarray, window: Window) -> "Neighbourhood":
        """Cut the window out of the planes, and find the similar pixels."""
        levels = window.of(planes.levels).astype(int)
        apart = np.abs(levels - levels[:, *window.centre][:, None, None])
        similar = (apart <= planes.limits[:, None, None]).all(axis=0) & valid.all(axis=0)
        fine, coarse, change = (
            window.of(images).astype(np.float64) for images in (planes.fine, planes.coarse, planes.change)
        )
        differ = 1 / window.of(planes.quality).astype(np.float64)  # 1 - R
        d = differ * (1 + window.apart / (rules.window / 2))
        return cls(rules, window, fine, coarse, change, valid, similar, 1 - differ, d)

    def decided(self, band: int) -> tuple[str, float, np.ndarray, np.ndarray, str]:
        """Equation, base, share ``(pair, y, x)`` of each neighbour within its pair, what it says, and a note."""
        (t, _), said = self.times(band), self.change[:, band]
        fine, base = self.fine[:, band], float(t @ self.fine[:, band, *self.window.centre])
        v, *_, against = self.coefficient(band)
        equation, share = USUAL, v * np.broadcast_to(self.w, said.shape)
        note = f"V is 1: {against}." if against else ""
        if self.similar.sum() <= self.rules.few:
            equation, share = FEW, self.valid / self.valid.sum(axis=(1, 2), keepdims=True)
            note = f"No more than {self.rules.few} pixels are similar: the mean coarse change of the window is taken."
        prediction = base + float(t @ np.where(share > 0, share * said, 0).sum(axis=(1, 2)))
        if not self.rules.range[0] <= prediction <= self.rules.range[1]:
            note = f"{prediction:.4f} is no reflectance of this scene: the similar pixels' fine values are averaged."
            return RANGE, 0.0, np.broadcast_to(self.w, said.shape), fine, note
        return equation, base, share, said, note

    @property
    def w(self) -> np.ndarray:
        """W_i ``(y, x)``: 0 where a neighbour is not similar."""
        w = np.where(self.similar, 1 / self.d, 0)
        return np.asarray(w / w.sum())

    def times(self, band: int) -> tuple[np.ndarray, np.ndarray]:
        """T_k and m_k ``(pair,)``: weights of the pairs, from the mean coarse change of the window."""
        mean = np.array([d[known].mean() for d, known in zip(self.change[:, band], self.valid, strict=True)])
        t = 1 / (np.abs(mean) + self.rules.tiny)
        return t / t.sum(), mean

    def coefficient(self, band: int) -> tuple[float, float, float, float, str]:
        """V, the difference of mean coarse values, the slope, p of its F test, and what speaks against the slope."""
        f, c = self.fine[:, band, self.similar], self.coarse[:, band, self.similar]
        differ, number = float(np.ptp(c.mean(axis=1))), f.size
        f, c = f.ravel() - f.mean(), c.ravel() - c.mean()
        cc, cf, ff = float(c @ c), float(c @ f), float(f @ f)
        slope, rest = cf / cc if cc > 0 else 1.0, cc * ff - cf * cf
        p = float(fdtrc(1, number - 2, (number - 2) * cf * cf / rest)) if rest > 0 and number > 2 else 0.0
        doubts = (
            (len(self.fine) < 2, "only one pair knows the pixel"),
            (differ < self.rules.change, f"the coarse pairs differ by less than {self.rules.change:g}"),
            (p > 1 - self.rules.significant, "fine values do not follow coarse ones (F test)"),
            (not 0 < slope <= self.rules.steepest, f"the slope is not between 0 and {self.rules.steepest:g}"),
        )
        against = next((why for doubt, why in doubts if doubt), "")
        return 1.0 if against else slope, differ, slope, p, against

    def terms(self, band: int, members: list[int]) -> list[Term]:
        """The numbers of the pixel, in the order in which they are computed; `members` are its pairs."""
        (v, differ, slope, p, _), (t, mean) = self.coefficient(band), self.times(band)
        fine = self.fine[:, band, *self.window.centre]
        each = [
            Term(symbol, meaning, float(values[k]), unit, pair)
            for k, pair in enumerate(members)
            for symbol, meaning, values, unit in (
                ("F_k(p)", "fine reflectance of the pixel", fine, "reflectance"),
                ("m_k", "mean coarse change of the window since this pair", mean, "reflectance"),
                ("T_k", "share of this pair in the prediction, from 1 / |m_k|", t, "1"),
            )
        ]
        return [
            Term("N", "similar pixels, the centre with them", float(self.similar.sum()), "pixels"),
            Term("|C_1 - C_3|", "largest difference of their mean coarse values between pairs", differ),
            Term("slope", "of the regression of their fine on their coarse values", slope, "1"),
            Term("p", "of its F test", p, "1"),
            Term("V", "conversion coefficient: the slope where it means something, else 1", v, "1"),
            *each,
        ]

    def planes(self, band: int) -> tuple[tuple[str, str, np.ndarray, str], ...]:
        """What the weights and the change are made of: symbol, meaning, values and unit."""
        known = self.valid.all(axis=0)
        return (
            ("R", "correlation of fine and coarse spectra over all pairs", np.where(known, self.r, np.nan), "1"),
            ("D", "(1 - R) (1 + |i - p| / (window / 2))", np.where(known, self.d, np.nan), "1"),
            ("W", "weight of a similar pixel, 1 / D over the sum of all", np.where(known, self.w, np.nan), "1"),
            ("C_2 - C_k", "coarse change since the pair", self.change[:, band], "reflectance"),
        )
