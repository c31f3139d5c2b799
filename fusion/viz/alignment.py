"""Figures of alignment: where the coarse images of all dates lie, how clear that is, and how the sensors compare."""

import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
import plotly.graph_objects as go

from ..preprocess import Card, Report
from ._layout import INK, _colorbar, _figure
from .pictures import OKABE_ITO, colour_of, scale

ORANGE, BLUE, _, RED = OKABE_ITO[:4]
ERRORS = 2.0  # standard errors that a bar reaches to either side
MOST_POINTS = 4000  # of a scatter; a screen shows no more


def shifts(report: Report, *, tolerance: float = 0.2) -> go.Figure:
    """Show where the coarse image of every date lies against the fine one, with bars of 2 standard errors.

    Parameters
    ----------
    report : Report
        Of :func:`fusion.preprocess.report`.
    tolerance : float
        Coarse pixels that are left alone: the dotted circle.

    Returns
    -------
    plotly.graph_objects.Figure
        East across and north up, in the units of the report; doubtful dates are hollow.

    Examples
    --------
    >>> from datetime import date
    >>> card = Card(date(2020, 5, 1), dx=240.0, dy=-10.0, dx_error=6.0, dy_error=6.0)
    >>> shifts(Report((card,), 240.0, -10.0, "", 480.0, "m")).data[0].x
    (240.0,)
    """
    placed = [card for card in report.cards if math.isfinite(card.dx) and math.isfinite(card.dy)]
    unit, far = report.unit, tolerance * report.pixel
    note = f"square = one coarse pixel ({report.pixel:g} {unit}); within the dotted circle nothing is corrected"
    figure = _figure(
        "Shift of the coarse image on every date", f"East ({unit})", f"North ({unit})", note=note, height=460
    )
    for sharp, name in ((True, "sharp peak"), (False, "doubtful: does not count")):
        cards = [card for card in placed if card.sharp is sharp]
        if cards:
            figure.add_trace(_dates(cards, name, unit, hollow=not sharp))
    if not placed:
        return _empty(figure)
    if report.corrected:
        figure.add_scatter(
            x=(report.dx,), y=(report.dy,), mode="markers", name="shift to correct",
            marker=dict(symbol="x-thin", size=18, line=dict(color=RED, width=3)),
            hovertemplate=f"%{{x:.4g}} east, %{{y:.4g}} north ({unit})<extra>shift to correct</extra>",
        )  # fmt: skip
    half = report.pixel / 2
    figure.add_shape(type="rect", x0=-half, x1=half, y0=-half, y1=half, line=dict(color=INK, width=1), layer="below")
    figure.add_shape(
        type="circle", x0=-far, x1=far, y0=-far, y1=far, line=dict(color=INK, width=1, dash="dot"), layer="below"
    )
    reach = max([half, *(abs(v) for card in placed for v in (card.dx, card.dy))]) * 1.25
    return _equal(figure, reach)


def _axes(unit: str) -> tuple[str, str]:
    return f"East ({unit})", f"North ({unit})"


def _dates(cards: Sequence[Card], name: str, unit: str, *, hollow: bool) -> go.Scatter:
    bar = dict(type="data", thickness=1.5, width=5, color=INK)
    errors = [[ERRORS * e if math.isfinite(e) else 0 for e in (card.dx_error, card.dy_error)] for card in cards]
    return go.Scatter(
        x=tuple(card.dx for card in cards),
        y=tuple(card.dy for card in cards),
        error_x={**bar, "array": [e[0] for e in errors]},
        error_y={**bar, "array": [e[1] for e in errors]},
        mode="markers",
        name=name,
        text=[f"{card.day}{': ' + escape(card.doubt) if card.doubt else ''}" for card in cards],
        marker=dict(symbol="circle-open" if hollow else "circle", size=10, color=ORANGE if hollow else BLUE),
        hovertemplate=f"%{{x:.4g}} east, %{{y:.4g}} north ({unit})<extra>%{{text}}</extra>",
    )


def peak(correlation: np.ndarray, step: float, card: Card, report: Report) -> go.Figure:
    """Show how well the coarse image fits the fine one at every displacement, with the peak marked.

    Parameters
    ----------
    correlation : numpy.ndarray
        ``(north, east)``: from the farthest south to the farthest north and from west to east, no displacement in the
        middle; NaN where too few pixels overlap.
    step : float
        Coarse pixels from one displacement to the next.
    card : Card
        Of the date.
    report : Report
        That holds the card.
    """
    rows, columns = correlation.shape
    unit, far = report.unit, step * report.pixel
    note = "the sharper the peak, the surer the place"
    if math.isfinite(card.sharpness):
        note += f"; sharpness {card.sharpness:.3f}"
    figure = _figure(f"Correlation over displacement, {card.day}", *_axes(unit), note=note, height=460)
    if not np.isfinite(correlation).any():
        return _empty(figure)
    figure.add_heatmap(
        z=correlation,
        **dict(x0=-(columns // 2) * far, dx=far, y0=-(rows // 2) * far, dy=far),
        colorscale=scale("viridis"),
        colorbar=_colorbar("correlation (no unit)"),
        hovertemplate=f"%{{x:.4g}} east, %{{y:.4g}} north ({unit})<br>correlation %{{z:.3f}}<extra></extra>",
    )
    figure.add_scatter(
        x=(0.0,), y=(0.0,), mode="markers", name="as the grids say",
        marker=dict(symbol="circle-open", size=13, color="white", line=dict(width=2.5)), hoverinfo="name",
    )  # fmt: skip
    if math.isfinite(card.dx) and math.isfinite(card.dy):
        figure.add_scatter(
            x=(card.dx,), y=(card.dy,), mode="markers", name="peak", hoverinfo="name",
            marker=dict(symbol="x-thin", size=15, line=dict(color=RED, width=3)),
        )  # fmt: skip
    return _equal(figure, (columns // 2 + 0.5) * far).update_layout(legend_bgcolor="rgba(128,128,128,0.25)")


def gains(report: Report) -> go.Figure:
    """Show the coarse sensor's gain against the fine one in every band, one mark per date."""
    figure = _figure(
        "Gain of the coarse sensor per band", "Band (name)", "Gain (no unit)",
        note="coarse = gain x fine as seen by the coarse sensor + offset; 1 = the sensors agree", height=400,
    )  # fmt: skip
    days = [str(card.day) for card in report.cards]
    for card in report.cards:
        if np.isfinite(card.gain).any():
            figure.add_scatter(
                x=card.bands, y=card.gain, name=str(card.day), mode="markers", customdata=card.offset,
                marker=dict(size=11, color=colour_of(str(card.day), days), line=dict(color=INK, width=0.5)),
                hovertemplate="%{x}: gain %{y:.3f}, offset %{customdata:.4f}<extra>" + str(card.day) + "</extra>",
            )  # fmt: skip
    if not figure.data:
        return _empty(figure)
    figure.add_hline(y=1, line=dict(color=INK, dash="dash", width=2))
    return figure.update_layout(showlegend=True)


def coarse_on_fine(
    fine: np.ndarray, coarse: np.ndarray, line: tuple[float, float], band: str, *, note: str = ""
) -> go.Figure:
    """Plot coarse pixels of one band against the fine image as the coarse sensor would see it.

    Parameters
    ----------
    fine, coarse : numpy.ndarray
        Reflectance of the same shape; pixels missing in either are left out, of very many some are shown.
    line : (float, float)
        Gain and offset of the regression.
    """
    both = np.isfinite(fine) & np.isfinite(coarse)
    x, y = fine[both], coarse[both]
    every = max(1, math.ceil(x.size / MOST_POINTS))
    shown = f"{x.size:,} coarse pixels" + (f", every {every}th shown" if every > 1 else "")
    figure = _figure(
        f"Coarse against fine, {band}", "Fine as seen by the coarse sensor (reflectance)", "Coarse (reflectance)",
        note=escape(f"{shown}{'; ' + note if note else ''}"), height=440,
    )  # fmt: skip
    if not x.size:
        return _empty(figure)
    figure.add_scattergl(
        x=x[::every], y=y[::every], mode="markers", name="coarse pixels", marker=dict(size=4, color=BLUE, opacity=0.5),
        hovertemplate="fine %{x:.3f}, coarse %{y:.3f}<extra></extra>",
    )  # fmt: skip
    low, high = (float(v) for v in np.percentile(np.concatenate([x, y]), (0.2, 99.8)))
    ends = np.array([low, high])
    figure.add_scatter(x=ends, y=ends, mode="lines", name="1:1", line=dict(color=INK, dash="dash", width=2))
    if all(map(math.isfinite, line)):
        figure.add_scatter(
            x=ends, y=line[0] * ends + line[1], mode="lines", name="regression", line=dict(color=RED, width=2)
        )
    room = 0.05 * max(high - low, 1e-4)
    figure.update_xaxes(range=[low - room, high + room]).update_yaxes(range=[low - room, high + room])
    return figure.update_layout(showlegend=True)


def before_after(
    before: Mapping[str, float], after: Mapping[str, float], title: str, unit: str = "reflectance"
) -> go.Figure:
    """Show one number per band before and after a correction as pairs of bars; lower is better."""
    figure = _figure(title, "Band (name)", f"RMSE ({unit})", note="lower is better", height=380)
    if not any(map(math.isfinite, (*before.values(), *after.values()))):
        return _empty(figure)
    for name, values, colour in (("before", before, ORANGE), ("after", after, BLUE)):
        figure.add_bar(
            name=name, x=tuple(values), y=tuple(values.values()),
            marker=dict(color=colour, line=dict(color=INK, width=0.5)),
            hovertemplate=f"%{{x}}: %{{y:.4f}} {unit}<extra>{name}</extra>",
        )  # fmt: skip
    return figure.update_layout(barmode="group", showlegend=True)


def _empty(figure: go.Figure) -> go.Figure:
    """No axes, which would run from -1 to 4, but a word why there is nothing."""
    figure.add_annotation(
        text="not enough coarse pixels", x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False, font_size=15
    )
    return figure.update_xaxes(visible=False).update_yaxes(visible=False).update_layout(showlegend=False)


def _equal(figure: go.Figure, reach: float) -> go.Figure:
    """One scale on both axes, zero in the middle."""
    # Fixed margins: with one scale on both axes plotly's own search for margins does not end.
    figure.update_layout(margin=dict(l=75, b=60), showlegend=True)
    figure.update_xaxes(range=[-reach, reach], constrain="domain", zeroline=True, automargin=False)
    return figure.update_yaxes(
        range=[-reach, reach], constrain="domain", scaleanchor="x", zeroline=True, automargin=False
    )
