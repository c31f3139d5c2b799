"""Figures of one prediction taken apart: who was asked, what each said, and how the parts add up."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import plotly.graph_objects as go

from ._layout import INK, _colorbar, _figure, _square
from .pictures import OKABE_ITO, scale

if TYPE_CHECKING:
    from ..methods import Explanation

HERE = "#D55E00"  # marks the pixel
COUNTS = "#E69F00"  # outlines the neighbours that count
TINTS = ("128,128,128,0.32", "213,94,0,0.36", "0,114,178,0.36", "204,121,167,0.45", "240,228,66,0.45")
MISSING = "128,128,128,0.08"
RINGS = 4  # distances that the sum is grouped by
SMALL = str.maketrans("0123456789kipx", "₀₁₂₃₄₅₆₇₈₉ₖᵢₚₓ")
SPAN = 1000  # between the heaviest weight and the lightest that has a colour of its own
TICKS = [n * 10.0**power for power in range(-7, 3) for n in (1, 2, 5)]  # %
LARGEST = 10  # neighbours that the sum names


def window(
    found: "Explanation",
    values: np.ndarray,
    at: tuple[int, int],
    *,
    pair: int = 0,
    name: str = "Fine image of the pair",
    unit: str = "reflectance",
    palette: str = "grey",
) -> go.Figure:
    """Show the window around a pixel, with a line around the neighbours that count.

    Hovering over a neighbour says why it counts or not, what it says and what its weight is made of.

    Parameters
    ----------
    found : Explanation
        From :func:`fusion.explain`.
    values : numpy.ndarray
        ``(y, x)`` what to show of the window: the fine image, or another quantity of each neighbour.
    at : tuple of int
        Row and column of the pixel in the stack.
    pair : int
        Index of the pair.
    name, unit : str
        Of the values; unit "1" for a number without unit.
    palette : str
        One of :data:`fusion.viz.PALETTES`.
    """
    counts = found.verdict[pair] == 0
    figure, place = _frame(found, at, name, note=f"outlined: the {int(counts.sum()):,} pixels of this pair that count")
    bar = _under(f"{escape(name)} ({'no unit' if unit == '1' else escape(unit)})")
    figure.add_heatmap(z=values, colorscale=scale(palette), colorbar=bar, **_hover(found, pair), **place)
    x, y = _borders(counts)
    figure.add_scatter(
        x=[v if v is None else v + place["x0"] - 0.5 for v in x],
        y=[v if v is None else v + place["y0"] - 0.5 for v in y],
        mode="lines", name="counts", line=dict(color=COUNTS, width=1.5), hoverinfo="skip",
    )  # fmt: skip
    return _here(figure)


def weights(found: "Explanation", at: tuple[int, int], *, pair: int = 0) -> go.Figure:
    """Show which neighbours of a pair count with which weight, and in muted colours why the others do not.

    Parameters
    ----------
    found, at, pair
        As in :func:`window`.
    """
    verdict, share = found.verdict[pair], 100 * found.weight[pair]
    note = f"{int((verdict == 0).sum()):,} of {verdict.size:,} pixels; their weights add up to {share.sum():.1f} %"
    figure, place = _frame(found, at, "Who counts, and how much", note=note)
    asked = {**_hover(found, pair), "hoverongaps": False, **place}
    _reasons(figure, verdict, found.verdicts, asked)
    _heat(figure, np.where(verdict == 0, share, 0), asked)
    return _here(figure)


def _reasons(figure: go.Figure, verdict: np.ndarray, verdicts: Sequence[str], asked: dict[str, Any]) -> None:
    """Tint the neighbours that do not count, with an entry of the legend for every reason that occurs."""
    colours, last = _tints(verdicts), len(verdicts) - 1
    figure.add_heatmap(
        z=np.where(verdict > 0, verdict, np.nan), zmin=-0.5, zmax=last + 0.5, showscale=False,
        colorscale=[[end / (last + 1), colour] for i, colour in enumerate(colours) for end in (i, i + 1)],
        colorbar=_colorbar("verdict (number)"), **asked,
    )  # fmt: skip
    for index in sorted(set(verdict[verdict > 0].tolist())):
        marker = dict(symbol="square", size=13, color=colours[index], line=dict(color=INK, width=1))
        figure.add_scatter(x=[None], y=[None], mode="markers", name=escape(verdicts[index]), marker=marker)


def _heat(figure: go.Figure, share: np.ndarray, asked: dict[str, Any]) -> None:
    """Colour the weights (%), 0 = none, on a logarithmic scale: a few are often many times the others."""
    heaviest = float(share.max()) or 1.0
    lightest = float(share.min(initial=heaviest, where=share > 0))
    low = min(max(lightest, heaviest / SPAN), heaviest / 2.5)  # wide enough to hold a tick
    ticks = [n for n in TICKS if low <= n <= heaviest]
    logs = np.log10(share, out=np.full(share.shape, np.nan), where=share > 0)
    figure.add_heatmap(
        z=logs, zmin=math.log10(low), zmax=math.log10(heaviest), colorscale=scale("viridis"),
        colorbar=_under(
            "weight (%, logarithmic)", tickvals=np.log10(ticks).tolist(), ticktext=[f"{n:g}" for n in ticks]
        ),
        **asked,
    )  # fmt: skip


def _frame(found: "Explanation", at: tuple[int, int], title: str, *, note: str) -> tuple[go.Figure, dict[str, int]]:
    """Return an empty map of the window, and where its pixels lie; the pixel itself is at 0, 0."""
    shape = found.verdict.shape[1:]
    place = dict(x0=found.columns.start - at[1], dx=1, y0=found.rows.start - at[0], dy=1)
    figure = _figure(title, "Columns from the pixel (fine pixels)", "Rows from the pixel (fine pixels)", note=note)
    _square(figure, place, (shape[0], shape[1])).update_xaxes(nticks=7, zeroline=False).update_yaxes(zeroline=False)
    figure.update_layout(height=640, margin=dict(l=60, b=175), showlegend=True, hoverlabel_align="left")
    return figure.update_layout(legend=dict(yref="container", y=0.015, yanchor="bottom", itemclick=False)), place


def _under(title: str, **more: Any) -> dict[str, Any]:
    """Return a colour bar that lies under its picture."""
    bar = _colorbar(title, orientation="h", x=0.5, xanchor="center", y=-0.17, yanchor="top", **more)
    return {**bar, "len": 0.9, "title": {"text": title, "side": "top"}}


def _here(figure: go.Figure) -> go.Figure:
    """Frame the pixel."""
    x, y = [-0.5, 0.5, 0.5, -0.5, -0.5], [-0.5, -0.5, 0.5, 0.5, -0.5]
    return figure.add_scatter(
        x=x, y=y, mode="lines", name="the pixel", line=dict(color=HERE, width=3), hoverinfo="skip"
    )


def _hover(found: "Explanation", pair: int) -> dict[str, Any]:
    """What is said of every neighbour, whichever of the pictures it is pointed at in."""
    planes = [100 * found.weight[pair], found.value[pair], *(plane.value[pair] for plane in found.planes)]
    lines = ["<b>%{text}</b>", "row %{y:+d}, column %{x:+d} from the pixel", "weight %{customdata[0]:.3f} %"]
    lines.append("says %{customdata[1]:.5f} (reflectance)")
    for index, plane in enumerate(found.planes, start=2):
        lines.append(f"{escape(subscripts(plane.symbol))} %{{customdata[{index}]:.5f}} {_unit(plane.unit)}".rstrip())
    return dict(
        customdata=np.stack(planes, axis=-1).astype(np.float32),
        text=np.array(found.verdicts, object)[found.verdict[pair]].tolist(),
        hovertemplate="<br>".join(lines) + "<extra></extra>",
    )


def _tints(verdicts: Sequence[str]) -> list[str]:
    """Colour of each verdict: that of the first is never seen, and what is missing is nearly clear."""
    kinds = [reason for reason in verdicts[1:] if "missing" not in reason]
    tints = [TINTS[kinds.index(reason) % len(TINTS)] if reason in kinds else MISSING for reason in verdicts]
    return [f"rgba({tint})" for tint in tints]


def _borders(mask: np.ndarray) -> tuple[list[float | None], list[float | None]]:
    """Return the edges between pixels inside and outside a mask, in pixels from the corner; None between the lines."""
    padded = np.pad(mask, 1)
    across = np.argwhere(padded[1:, 1:-1] != padded[:-1, 1:-1])  # (y, x): from (x, y) to (x + 1, y)
    down = np.argwhere(padded[1:-1, 1:] != padded[1:-1, :-1])
    x: list[float | None] = []
    y: list[float | None] = []
    for lines, dy, dx in ((across, 0, 1), (down, 1, 0)):
        for row, column in lines.tolist():
            x += [column, column + dx, None]
            y += [row, row + dy, None]
    return x, y


@dataclass(frozen=True)
class Part:
    """One step of the sum: neighbours of one pair that are taken together."""

    label: str
    pair: int | None  # None = of several
    count: int
    share: float
    says: float  # weighted mean of what they say, reflectance
    adds: float  # share * says, reflectance


def build_up(
    found: "Explanation",
    at: tuple[int, int],
    days: Sequence[str],
    *,
    by: Literal["distance", "neighbour"] = "distance",
    name: str = "prediction",
) -> go.Figure:
    """Show how the sum builds up to the prediction, step by step from top to bottom.

    Parameters
    ----------
    found : Explanation
        From :func:`fusion.explain`.
    at : tuple of int
        Row and column of the pixel in the stack.
    days : sequence of str
        Name of each pair.
    by : {"distance", "neighbour"}
        Take neighbours of one pair and about the same distance together, or name those that add most.
    name : str
        Of the prediction, for the last row.
    """
    steps = parts(found, at, days, by=by)
    ends = found.base + np.cumsum([0.0, *(step.adds for step in steps)])
    what = "neighbours by pair and distance" if by == "distance" else f"the {LARGEST} neighbours that add most"
    figure = _figure(
        "How the sum builds up to the prediction", "Sum so far (reflectance)", "Step (from the top)",
        note=f"{what}; each adds weight x what it says", height=180 + 28 * (len(steps) + 2),
    )  # fmt: skip
    figure.add_scatter(
        x=[v for value in ends for v in (value, value, None)],
        y=[v for row in range(len(ends)) for v in (row, row + 1, None)],
        mode="lines", line=dict(color=INK, width=1, dash="dot"), hoverinfo="skip", showlegend=False,
    )  # fmt: skip
    for pair in dict.fromkeys(step.pair for step in steps):
        rows = [row for row, step in enumerate(steps) if step.pair == pair]
        figure.add_trace(_bars(steps, rows, ends, "several pairs" if pair is None else days[pair], pair))
    figure.add_scatter(
        x=[ends[0], ends[-1]], y=[0, len(ends)], mode="markers", showlegend=False,
        marker=dict(symbol=["circle", "diamond"], size=13, color=[INK, HERE]),
        hovertemplate="%{x:.6f} (reflectance)<extra></extra>",
    )  # fmt: skip
    labels = [
        f"start {found.base:.5f}" if found.base else "start 0",
        *_labels(steps, days),
        f"<b>{escape(name)} {found.prediction:.5f}</b>",
    ]
    span = max(float(np.ptp(ends)), 1e-4)
    figure.update_xaxes(range=[float(ends.min()) - 0.06 * span, float(ends.max()) + 0.25 * span], nticks=9)
    figure.update_yaxes(
        range=[len(ends) + 0.7, -0.7], tickvals=list(range(len(labels))), ticktext=labels, showgrid=False,
        zeroline=False, title_standoff=24,
    )  # fmt: skip
    legend = dict(yref="container", y=0.01, yanchor="bottom", itemclick=False)
    return figure.update_layout(showlegend=True, legend=legend, bargap=0.25, margin_b=90)


def _labels(steps: Sequence[Part], days: Sequence[str]) -> list[str]:
    """Name of each step; the first of every pair has its day before it."""
    out = []
    for before, step in zip([None, *steps], steps, strict=False):
        new = step.pair is not None and (before is None or before.pair != step.pair)
        out.append(
            (f"<b>{escape(days[step.pair])}</b>  " if new and step.pair is not None else "") + escape(step.label)
        )
    return out


def _bars(steps: Sequence[Part], rows: Sequence[int], ends: np.ndarray, name: str, pair: int | None) -> go.Bar:
    some = [steps[row] for row in rows]
    return go.Bar(
        orientation="h",
        name=escape(name),
        y=[row + 1 for row in rows],
        x=[step.adds for step in some],
        base=[float(ends[row]) for row in rows],
        text=[_signed(step.adds) for step in some],
        textposition="outside",
        cliponaxis=False,
        marker=dict(color=OKABE_ITO[6] if pair is None else OKABE_ITO[(pair + 1) % 6], line=dict(color=INK, width=0.5)),
        customdata=[[step.count, 100 * step.share, step.says, step.adds, step.label] for step in some],
        hovertemplate="%{customdata[4]}: %{customdata[0]:,} neighbours<br>weight %{customdata[1]:.2f} %, they say "
        "%{customdata[2]:.4f} (reflectance)<br>adds %{customdata[3]:+.6f} (reflectance)<extra></extra>",
    )


def parts(
    found: "Explanation",
    at: tuple[int, int],
    days: Sequence[str],
    *,
    by: Literal["distance", "neighbour"] = "distance",
) -> list[Part]:
    """Return the steps of :func:`build_up`; `base` and all that they add make the prediction."""
    pair, row, column = np.nonzero(found.weight > 0)
    weight, value = found.weight[pair, row, column], found.value[pair, row, column]
    y, x = row + found.rows.start - at[0], column + found.columns.start - at[1]
    if by == "neighbour":
        order = np.argsort(-np.abs(weight * value), kind="stable")
        largest = [_part(_where(int(y[i]), int(x[i])), int(pair[i]), weight[[i]], value[[i]]) for i in order[:LARGEST]]
        rest = order[LARGEST:]
        same = int(pair[rest[0]]) if len(rest) and (pair[rest] == pair[rest[0]]).all() else None
        return [*largest, *([_part(f"the other {len(rest):,}", same, weight[rest], value[rest])] if len(rest) else [])]
    step, ring = _rings(np.hypot(y, x))
    out = []
    for k, r in sorted({(int(a), int(b)) for a, b in zip(pair, ring, strict=True)}):
        some = (pair == k) & (ring == r)
        label = f"{(r - 1) * step} to {r * step} pixels away" if r else "the pixel itself"
        out.append(_part(label, k, weight[some], value[some]))
    return out


def _rings(distance: np.ndarray) -> tuple[int, np.ndarray]:
    """Width of a ring in pixels, and the ring of each distance; ring 0 is the pixel itself."""
    step = max(1, int(np.ceil(distance.max(initial=0) / RINGS)))
    return step, np.ceil(distance / step).astype(int)


def _part(label: str, pair: int | None, weight: np.ndarray, value: np.ndarray) -> Part:
    share, adds = float(weight.sum()), float((weight * value).sum())
    return Part(label, pair, len(weight), share, adds / share, adds)


def _where(y: int, x: int) -> str:
    """Place of a neighbour in words."""
    if not y and not x:
        return "the pixel itself"
    sides = [(abs(y), "up" if y < 0 else "down"), (abs(x), "left" if x < 0 else "right")]
    return ", ".join(f"{n} {side}" for n, side in sides if n)


def equation(found: "Explanation") -> str:
    """Return the equation as LaTeX: as the method wrote it, or made from its plain text."""
    text = found.equation
    for plain, pretty in ((r"\b([FC])(\d)", r"\1_\2"), (r"\bdF", r"\\Delta F"), (r"\b(mean)", r"\\operatorname{\1}")):
        text = re.sub(plain, pretty, text)
    return found.latex or re.sub(r"\bsum", r"\\sum", text)


def sum_in_numbers(found: "Explanation", days: Sequence[str]) -> str:
    r"""Return the sum as LaTeX: the base, and for each pair its share of the weight times what it says on average.

    Examples
    --------
    ``0.23451 = 0.6123 \times 0.23119 + 0.3877 \times 0.23975``
    """
    summands = [] if found.base == 0 else [rf"\underbrace{{{found.base:.5f}}}_{{\text{{start}}}}"]
    for k, day in enumerate(days):
        counts = found.weight[k] > 0
        if counts.any():
            whole = _part(day, k, found.weight[k][counts], found.value[k][counts])
            says = f"{whole.says:.5f}" if whole.says >= 0 else f"({whole.says:.5f})"
            summands.append(rf"\underbrace{{{whole.share:.4f}\times {says}}}_{{\text{{{day}}}}}")
    lines = [" + ".join(summands[i : i + 2]) for i in range(0, len(summands), 2)]
    return r"\begin{aligned}" + rf"{found.prediction:.5f} &= " + r"\\ &+ ".join(lines) + r"\end{aligned}"


def term_rows(found: "Explanation", pair: int) -> list[dict[str, str]]:
    """Return the numbers of the equation as rows of a table: those of all pairs, of one of them, and the sum."""
    numbers = [(t.symbol, t.meaning, t.value, t.unit) for t in found.terms if t.pair in (None, pair)]
    if found.base:
        numbers.append(("start", "what the sum is added to", found.base, "reflectance"))
        numbers.append(
            ("sum", "weight x what it says, over all neighbours", found.prediction - found.base, "reflectance")
        )
    numbers.append(("prediction", "what all parts add up to", found.prediction, "reflectance"))
    return [
        {
            "symbol": subscripts(symbol),
            "meaning": subscripts(meaning),
            "value": _value(value, unit),
            "unit": "no unit" if unit == "1" else unit,
        }
        for symbol, meaning, value, unit in numbers
    ]


def _value(value: float, unit: str) -> str:
    if not np.isfinite(value):
        return "missing"
    whole = unit != "reflectance" and float(value).is_integer()
    text = f"{value:,.0f}" if whole else f"{value:.5f}" if unit == "reflectance" else f"{value:.4g}"
    return text.replace("-", "\N{MINUS SIGN}")


def subscripts(text: str) -> str:
    """Return the symbols of a text with true subscripts.

    Examples
    --------
    >>> subscripts("F_2(p) = F_k(p)")
    'F₂(p) = Fₖ(p)'
    """
    return re.sub(r"_([0-9kipx])", lambda found: found[1].translate(SMALL), text)


def _unit(unit: str) -> str:
    return "" if unit == "1" else f"({escape(unit)})"


def _signed(value: float) -> str:
    text = f"{value:+.4f}" if abs(value) >= 5e-5 else f"{value:+.0e}"
    return text.replace("-", "\N{MINUS SIGN}")
