"""FSDAF taken apart: step 6 for one pixel in plain numpy, apart from the kernel."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..stack import Stack
from ._explanation import GONE, Explanation, Plane, Term, Window
from ._neighbours import SLACK

if TYPE_CHECKING:
    from .fsdaf import Change, Fsdaf

VERDICTS = ("counts", "missing", "centre missing", "not similar", "others are more similar")
EQUATION = "F_2(p) = sum_k T_k (F_k(p) + sum_i w_k(i) dF_k(i)), w = 1 / D divided by the sum of all of them"
LATEX = (
    r"\begin{aligned}F_2(p)&=\sum_k T_k\,\bigl(F_k(p)+\sum_i w_k(i)\,\Delta F_k(i)\bigr),\quad "
    r"w_k(i)=\frac{1}{D}\Big/\sum_j\frac{1}{D},\quad D=1+\lvert i-p\rvert/A\\"
    r"\Delta F&=\Delta F_{class}+R\,W,\quad W=CW/\overline{CW},\quad "
    r"CW=\lvert F_{SP}-F_{TP}\rvert\,HI+\lvert R\rvert\,(1-HI)\end{aligned}"
)
ALONE = "The pixel misses another band, so it has no similar neighbours and keeps its own change."
PLANES = (
    (("S", "dissimilarity, sum over bands of |F_k(i) - F_k(p)| / F_k(p)"), "1"),
    (("D", "relative distance, 1 + |i - p| / A"), "1"),
    (("HI", "homogeneity, share of the same class around"), "1"),
    (("W", "share of the residual, 1 on average of a coarse pixel"), "1"),
)


class Steps(NamedTuple):
    """What one pair says before step 6."""

    planes: Sequence["Change"]  # of each band
    classes: np.ndarray  # (y, x)
    gain: np.ndarray  # (band,) by which differences from the pixel become relative ones
    tolerance: np.ndarray  # (band,)
    share: float  # in the prediction, relative to that of the other pairs


def explained(method: "Fsdaf", stack: Stack, steps: Sequence[Steps], band: int, at: tuple[int, int]) -> Explanation:
    """Take one pixel of one band apart."""
    window = Window.around(at, method.window, stack.fine.shape)
    parts = [Part.of(method, window.of(fine), each, band, window) for fine, each in zip(stack.fine, steps, strict=True)]
    shares = [each.share * part.known for each, part in zip(steps, parts, strict=True)]
    shares = [share / max(sum(shares), 1e-30) for share in shares]
    both = list(zip(shares, parts, strict=True))
    return Explanation(
        rows=window.rows,
        columns=window.columns,
        days=stack.days,
        weight=np.stack([share * part.weight for share, part in both]),
        value=np.stack([part.value for part in parts]),
        verdict=np.stack([part.verdict for part in parts]),
        verdicts=VERDICTS,
        base=sum(share * part.fine for share, part in both if share) if any(shares) else float("nan"),
        equation=EQUATION,
        terms=tuple(term for k, (share, part) in enumerate(both) for term in part.terms(k, share)),
        note=(ALONE if any(part.alone for part in parts) else "") if any(shares) else GONE,
        latex=LATEX,
        planes=tuple(Plane(*name, np.stack([part.planes[name[0]] for part in parts]), unit) for name, unit in PLANES),
    )


@dataclass(frozen=True, eq=False)
class Part:
    """What one pair contributes to one pixel; planes are ``(y, x)`` of its window."""

    weight: np.ndarray  # adds up to 1, or to 0 where the pair does not know the pixel
    value: np.ndarray  # dF of the band
    verdict: np.ndarray
    planes: dict[str, np.ndarray]
    fine: float
    group: int
    centre: dict[str, float]  # fields of Change
    alone: bool

    @classmethod
    def of(cls, method: "Fsdaf", fine: np.ndarray, steps: Steps, band: int, window: Window) -> "Part":
        """Step 6 for one pixel; `fine` is ``(band, y, x)`` of its window."""
        change = np.stack([window.of(each.total) for each in steps.planes])
        verdict, cost = _verdict(method, fine, change, steps, window.centre)
        alone = bool((verdict != 0).all() and np.isfinite(change[(band, *window.centre)]))
        if alone:
            verdict[window.centre] = 0
        distance = 1 + window.apart / method.scale
        weight = (verdict == 0) / distance
        mine = {name: window.of(plane) for name, plane in steps.planes[band]._asdict().items()}
        return cls(
            weight=weight / max(weight.sum(), 1e-30),
            value=change[band].astype(np.float64),
            verdict=verdict,
            planes={"S": cost, "D": distance, "HI": mine["homogeneity"], "W": mine["share"]},
            fine=float(fine[(band, *window.centre)]),
            group=int(window.of(steps.classes)[window.centre]),
            centre={name: float(plane[window.centre]) for name, plane in mine.items()},
            alone=alone,
        )

    @property
    def known(self) -> bool:
        """Whether the pair predicts the pixel."""
        return bool(np.isfinite(self.fine + self.centre["total"]))

    def terms(self, pair: int, share: float) -> list[Term]:
        """The numbers of the pixel, in the order in which they are computed."""
        c = self.centre
        whose = f"of its class, number {self.group}" if self.group >= 0 else "of its coarse pixel: its class is unknown"
        rows = (
            ("F_k(p)", "fine reflectance of the pixel", self.fine, "reflectance"),
            (
                "class(p)",
                "its class" + ": unknown" * (self.group < 0),
                self.group if self.group >= 0 else math.nan,
                "number",
            ),
            ("dF_class", f"change {whose}", c["of_class"], "reflectance"),
            ("F_TP", "temporal prediction, F_k + dF_class", self.fine + c["of_class"], "reflectance"),
            ("F_SP", "spatial prediction, thin plate spline through the coarse target", c["spatial"], "reflectance"),
            ("R", "residual: coarse change that the classes do not explain", c["residual"], "reflectance"),
            ("HI", "homogeneity: share of its class around it", c["homogeneity"], "1"),
            ("CW", "weight of the residual, |F_SP - F_TP| HI + |R| (1 - HI)", c["weight"], "reflectance"),
            ("W", "CW over its mean in the coarse pixel", c["share"], "1"),
            ("dF(p)", "change of the pixel itself, dF_class + R W", c["total"], "reflectance"),
            ("n", "similar pixels whose change is averaged", int((self.verdict == 0).sum()), "pixels"),
            ("sum w dF", "their mean change", float(np.nansum(self.weight * self.value)), "reflectance"),
            ("T_k", "share of this pair in the prediction", 100 * share, "%"),
        )
        return [Term(symbol, meaning, float(value), unit, pair) for symbol, meaning, value, unit in rows]


def _verdict(
    method: "Fsdaf", fine: np.ndarray, change: np.ndarray, steps: Steps, centre: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Index into `VERDICTS` of each neighbour, and its dissimilarity S."""
    there = np.isfinite(fine).all(axis=0) & np.isfinite(change).all(axis=0)
    far = np.abs(fine - fine[:, *centre][:, None, None])
    similar = (far <= steps.tolerance[:, None, None]).all(axis=0)
    cost = (steps.gain[:, None, None] * far).sum(axis=0)
    limit = np.sort(cost[there & similar])[: method.similar].max(initial=-1)  # none where the centre is missing
    against = [~there, np.full(there.shape, not there[centre]), ~similar, cost > limit + SLACK]
    return np.select(against, [1, 2, 3, 4], 0).astype(np.uint8), cost
