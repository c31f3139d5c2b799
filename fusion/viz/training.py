"""Figures of a training: what each network still gets wrong, and how well the hidden date is predicted."""

import math
from collections.abc import Mapping, Sequence
from html import escape

import plotly.graph_objects as go

from ._layout import INK, _figure
from .pictures import colour_of, symbol_of

FEW = 8  # epochs, each of which has its tick
SPREAD = 20  # times between the largest and smallest loss; beyond it the axis is logarithmic
DASHES = ("dash", "dot", "dashdot", "longdash")
NETWORK = "network"

Curve = tuple[Sequence[int], Sequence[float]]  # epochs, and what was measured in each


def loss_curves(epochs: Sequence[int], losses: Mapping[str, Sequence[float]]) -> go.Figure:
    """Show the mean loss of each network over the epochs.

    Parameters
    ----------
    epochs : sequence of int
        Epochs, in order; before the first step (epoch 0) there is no loss.
    losses : mapping of str to sequence of float
        Network to its loss in each of these epochs, NaN where it has none.

    Returns
    -------
    plotly.graph_objects.Figure
        The axis of losses is logarithmic where they fall by more than twenty times.

    Raises
    ------
    ValueError
        If a network has not one loss an epoch.

    Examples
    --------
    >>> loss_curves([1, 2], {"generator": [0.5, 0.2]}).data[0].y
    (0.5, 0.2)
    """
    _check(epochs, losses)
    known = [value for values in losses.values() for value in values if math.isfinite(value)]
    steep = bool(known) and min(known) > 0 and max(known) > SPREAD * min(known)
    note = "of normalised reflectance; mean over the steps of an epoch" + ("; logarithmic axis" if steep else "")
    figure = _figure("Loss", "Epoch (number)", "Loss (no unit)", note=note, height=380)
    for name, values in losses.items():
        figure.add_trace(_curve(name, epochs, values, list(losses), "loss %{y:.4g}"))
    if not known:
        return _empty(figure, "no epoch is done yet")
    figure.update_traces(connectgaps=True)  # two trainings need not have the same epochs
    _whole_epochs(figure, max(epochs)).update_xaxes(rangemode="tozero")
    return figure.update_yaxes(type="log" if steep else "linear").update_layout(showlegend=True)


def held_out(
    epochs: Sequence[int],
    rmse: Sequence[float],
    floors: Mapping[str, float],
    *,
    hidden: str = "the hidden date",
    name: str = NETWORK,
    others: Mapping[str, Curve] = {},
) -> go.Figure:
    """Show the error of the hidden date over the epochs beside what needs no network.

    Parameters
    ----------
    epochs : sequence of int
        Epochs, in order; epoch 0 is the untrained network.
    rmse : sequence of float
        Root mean square error of the hidden date in each, mean over bands, reflectance.
    floors : mapping of str to float
        Baseline to its error on the same pixels, drawn as horizontal lines.
    hidden : str
        What was hidden, for the title.
    name : str
        Of the curve, where there are others beside it.
    others : mapping of str to (epochs, errors)
        Curves of other trainings that are judged on the same pixels, by name.

    Returns
    -------
    plotly.graph_objects.Figure
        The smallest error of each curve is marked: the weights of that epoch are kept.

    Raises
    ------
    ValueError
        If a curve has not one error an epoch.

    Examples
    --------
    >>> figure = held_out([0, 1, 2], [0.03, 0.02, 0.025], {"Delta": 0.022})
    >>> [trace.name for trace in figure.data]
    ['network', 'Delta 0.0220', 'best 0.0200']
    """
    curves = {name: (epochs, rmse), **others}
    figure = _figure(
        f"Error of {hidden}", "Epoch (number)", "RMSE (reflectance)",
        note="lower is better; a network that stays above a dashed line adds nothing to it", height=380,
    )  # fmt: skip
    names = [name, *floors, *others]  # floors have their colours also where there are no others
    for each, (steps, errors) in curves.items():
        _check(steps, {each: errors})
        if len(steps):  # one that has not begun has no curve
            figure.add_trace(_curve(each, steps, errors, names, "RMSE %{y:.4f}"))
    if not any(math.isfinite(value) for _, errors in curves.values() for value in errors):
        return _empty(figure, "nothing is predicted yet")
    drawn = [epoch for steps, _ in curves.values() for epoch in steps]
    ends = [min(drawn), max(*drawn, min(drawn) + 1)]
    for number, (floor, value) in enumerate(floors.items()):
        if math.isfinite(value):
            figure.add_scatter(
                x=ends, y=[value, value], mode="lines", name=f"{escape(floor)} {value:.4f}",
                line=dict(color=colour_of(floor, names), dash=DASHES[number % len(DASHES)], width=2),
                hovertemplate="RMSE %{y:.4f}<extra>" + escape(floor) + "</extra>",
            )  # fmt: skip
    for each, (steps, errors) in curves.items():
        _mark_best(figure, steps, errors, f"{escape(each)}, best" if others else "best")
    figure.update_xaxes(range=[ends[0] - 0.03 * (ends[1] - ends[0]), ends[1] + 0.03 * (ends[1] - ends[0])])
    if others:  # a legend of three rows
        figure.update_layout(height=420, margin_b=130, legend_y=-0.3)
    return _whole_epochs(figure, ends[1]).update_layout(showlegend=True)


def _whole_epochs(figure: go.Figure, last: int) -> go.Figure:
    """Ticks at whole epochs only, also where there are few."""
    return figure.update_xaxes(tickformat="d", dtick=1 if last < FEW else None)


def _mark_best(figure: go.Figure, epochs: Sequence[int], errors: Sequence[float], name: str) -> None:
    known = {epoch: value for epoch, value in zip(epochs, errors, strict=True) if math.isfinite(value)}
    if not known:
        return
    best = min(known, key=known.__getitem__)
    figure.add_scatter(
        x=[best], y=[known[best]], mode="markers", name=f"{name} {known[best]:.4f}",
        marker=dict(symbol="circle-open", size=15, color=INK, line=dict(color=INK, width=2)),
        hovertemplate="epoch %{x}: RMSE %{y:.4f}<extra>" + name + "</extra>",
    )  # fmt: skip


def _curve(name: str, epochs: Sequence[int], values: Sequence[float], names: Sequence[str], what: str) -> go.Scatter:
    return go.Scatter(
        x=list(epochs), y=[value if math.isfinite(value) else None for value in values],
        mode="lines+markers", name=escape(name),
        line=dict(color=colour_of(name, names), width=2),
        marker=dict(symbol=symbol_of(name, names), size=6),
        hovertemplate=f"epoch %{{x}}: {what}<extra>{escape(name)}</extra>",
    )  # fmt: skip


def _check(epochs: Sequence[int], values: Mapping[str, Sequence[float]]) -> None:
    for name, row in values.items():
        if len(row) != len(epochs):
            raise ValueError(f"A curve wants one value an epoch, got {len(row)} of {name} and {len(epochs)} epochs.")


def _empty(figure: go.Figure, why: str) -> go.Figure:
    """Say in the middle of a figure why it shows nothing."""
    figure.data = ()
    figure.add_annotation(text=why, x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False)
    return figure.update_xaxes(visible=False).update_yaxes(visible=False)
