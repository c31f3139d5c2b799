"""Figures of errors: where, how much, per band, and edges against texture."""

import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
import plotly.graph_objects as go

from ..errors import FusionError
from ..metrics import METRICS, correlation, rmse
from ..scene import Scene
from ._layout import INK, _colorbar, _figure, _geo_axes, _square
from .pictures import _round_up, bound_of, colour_of, difference, scale

MOST_PIXELS = 1000  # along a side of a heat map; a screen shows no more
Tables = Mapping[str, Mapping[str, Mapping[str, float]]]  # method -> metric -> band or "mean" -> value


def error_map(
    pred: Scene,
    truth: Scene,
    band: str = "mean",
    bound: float | None = None,
    *,
    name: str = "prediction",
    other: str = "truth",
) -> go.Figure:
    """Map prediction minus truth (or any two images, named); colours end at ``-bound`` and ``+bound`` reflectance.

    An image of more than 1000 pixels a side is shown as means of square blocks, and says so.
    """
    values, block = _shrink(difference(pred, truth, band))
    bound = bound_of(values) if bound is None else bound
    place, x, y = _geo_axes(truth.geobox)
    sides = "too dark, red = too bright" if other == "truth" else "lower, red = higher"
    note = f"{pred.day}; blue = {sides}" + (f"; means of {block} x {block} pixels" if block > 1 else "")
    of = "mean of all bands" if band == "mean" else band
    figure = _figure(f"{name} minus {other}, {of}", x, y, note=note, height=520)
    place = {
        **place,
        "x0": place["x0"] + (block - 1) / 2 * place["dx"],
        "dx": block * place["dx"],
        "y0": place["y0"] + (block - 1) / 2 * place["dy"],
        "dy": block * place["dy"],
    }
    figure.add_heatmap(
        z=values,
        zmin=-bound,
        zmax=bound,
        colorscale=scale("difference"),
        colorbar=_colorbar("difference (reflectance)"),
        hovertemplate="%{x:.0f}, %{y:.0f}<br>difference %{z:.4f}<extra></extra>",
        **place,
    )
    rows, columns = values.shape
    return _square(figure, place, (rows, columns))


def _shrink(image: np.ndarray, most: int = MOST_PIXELS) -> tuple[np.ndarray, int]:
    """Means of k x k blocks of ``(y, x)`` without the missing pixels; no side is longer than `most`."""
    k = math.ceil(max(image.shape) / most)
    if k == 1:
        return image, 1
    padded = np.pad(image, [(0, -size % k) for size in image.shape], constant_values=np.nan)
    blocks = padded.reshape(padded.shape[0] // k, k, padded.shape[1] // k, k)
    seen = np.isfinite(blocks)
    count = seen.sum(axis=(1, 3))
    means = np.full(count.shape, np.nan, np.float32)
    np.divide(blocks.sum(axis=(1, 3), where=seen), count, out=means, where=count > 0)
    return means, k


def scatter(pred: Scene, truth: Scene, band: str, *, name: str = "prediction", bins: int = 100) -> go.Figure:
    """Show predicted against true reflectance as a density: counts of pixels on a logarithmic colour scale.

    The counts are made here, so a large image costs no more to show than a small one. The view opens on the
    inner 99.8 % of the values; every pixel is counted and zooming out shows the rest.
    """
    difference(pred, truth, band)  # one check of grid and band for all figures of two scenes
    p, t = pred.select([band]).data, truth.select([band]).data
    seen = np.isfinite(p) & np.isfinite(t)
    if not seen.any():
        raise FusionError(f"No pixel of {band} is valid in both images of {truth.day}: choose another day or area.")
    counts, start, step, view = _counts(p[seen], t[seen], bins)
    note = f"n = {int(seen.sum()):,}, CC = {correlation(p, t)[0]:.4f}, RMSE = {rmse(p, t)[0]:.4f} reflectance"
    figure = _figure(
        f"{name} against truth, {band}",
        f"True {band} (reflectance)",
        f"Predicted {band} (reflectance)",
        note=note,
        height=480,
    )
    logs = np.full(counts.shape, np.nan, np.float32)
    np.log10(counts, out=logs, where=counts > 0)
    top = max(1, math.ceil(float(np.log10(counts.max()))))
    bar = _colorbar("pixels (count)", tickvals=list(range(top + 1)), ticktext=[f"{10**i:,}" for i in range(top + 1)])
    figure.add_heatmap(
        z=logs,
        customdata=counts,
        **dict(x0=start + step / 2, dx=step, y0=start + step / 2, dy=step, zmin=0, zmax=top),
        colorscale=scale("viridis", 0.12, 0.97),  # the very ends vanish on dark and on white
        colorbar=bar,
        hovertemplate="true %{x:.3f}, predicted %{y:.3f}<br>%{customdata} pixels<extra></extra>",
    )
    ends = [start, start + step * counts.shape[0]]
    figure.add_scatter(
        x=ends, y=ends, mode="lines", name="1:1 line (perfect)", line=dict(color=INK, dash="dash", width=2)
    )
    figure.update_xaxes(range=view, constrain="domain")
    return figure.update_yaxes(range=view, constrain="domain", scaleanchor="x").update_layout(showlegend=True)


def _counts(pred: np.ndarray, truth: np.ndarray, bins: int) -> tuple[np.ndarray, float, float, list[float]]:
    """Count ``(pred, truth)`` on one square grid: counts, start, width of a bin, range worth viewing."""
    both = np.concatenate([pred, truth])
    inner = np.percentile(both, (0.1, 99.9))
    width = max(float(inner[1] - inner[0]), 1e-4)
    low, high = float(both.min()), float(both.max())
    step = max(width / bins, (high - low) / (5 * bins))
    count = int((high - low) / step) + 1
    row, column = (np.minimum(((side - low) / step).astype(int), count - 1) for side in (pred, truth))
    counts = np.bincount(row * count + column, minlength=count * count).reshape(count, count)
    return counts, low, step, [float(inner[0]) - 0.05 * width, float(inner[1]) + 0.05 * width]


def bars(tables: Tables, metric: str, *, names: Sequence[str] | None = None) -> go.Figure:
    """Show one metric per band and method as grouped bars, with the value of a perfect prediction marked.

    Parameters
    ----------
    tables : mapping
        Method to the result of :func:`fusion.evaluate`.
    metric : str
        Key of :data:`fusion.metrics.METRICS`.
    names : sequence of str, optional
        All methods of the page, which fixes their colours; default is those of `tables`.
    """
    row = METRICS[metric]
    names = list(tables) if names is None else names
    better = {
        "higher": "higher is better",
        "lower": "lower is better",
        "closer": "closer to the ideal is better",
    }
    note = better[row.goal] + (f"; data range: {row.data_range}" if row.data_range else "")
    perfect = [f"{name} ({band})" for name, table in tables.items() for band, v in table[metric].items() if np.isinf(v)]
    note += f"; infinite: {', '.join(perfect)}" if perfect else ""
    unit = "no unit" if row.unit == "1" else row.unit
    figure = _figure(f"{row.title} ({metric})", "Band (name)", f"{metric} ({unit})", note=escape(note))
    for name, table in tables.items():
        values = table[metric]
        figure.add_bar(
            name=name,
            x=["all bands" if band == "mean" and len(values) == 1 else band for band in values],
            y=[value if math.isfinite(value) else None for value in values.values()],
            marker=dict(color=colour_of(name, names), line=dict(color=INK, width=0.5)),
            hovertemplate="%{x}: %{y:.4f}<extra>" + escape(name) + "</extra>",
        )
    if math.isfinite(row.best):
        ideal = dict(color=INK, dash="dash", width=2)
        figure.add_hline(y=row.best, line=ideal)
        figure.add_scatter(x=[None], y=[None], mode="lines", name=f"ideal {row.best:g}", line=ideal)
    return figure.update_layout(barmode="group", showlegend=True)


NOTES = (  # (x, y, text) in the corners of the APA diagram
    (-1, -1, "over-smoothed:<br>edges and detail lost"),
    (1, 1, "too sharp:<br>noise or false detail"),
    (-1, 1, "blurred edges,<br>false detail"),
    (1, -1, "hard edges,<br>detail lost"),
)


def apa(
    tables: Tables,
    *,
    band: str = "mean",
    references: Tables | None = None,
    names: Sequence[str] | None = None,
) -> go.Figure:
    """Draw the all-round performance diagram: one point a method, best in the centre, small and dark.

    Across EDGE (below zero is smoother than the truth), up LBP (texture, likewise), colour RMSE, circle size
    the absolute bias |AD|. `references` are drawn as crosses.

    References
    ----------
    Zhu, Zhan, Zhou et al. 2022, Remote Sensing of Environment 274, 113002, doi:10.1016/j.rse.2022.113002
    """
    points = {name: _apa_point(table, band) for name, table in tables.items()}
    others = {name: _apa_point(table, band) for name, table in (references or {}).items()}
    points, others = ({k: v for k, v in some.items() if all(map(math.isfinite, v))} for some in (points, others))
    far = max((math.hypot(p[0], p[1]) for p in [*points.values(), *others.values()]), default=0.1)
    reach = min(_round_up(1.15 * far, (1, 1.5, 2, 3, 5, 10)), 1.5) if far else 0.1
    largest = max((abs(p[3]) for p in points.values()), default=0.0)
    of = "mean of bands" if band == "mean" else band
    note = f"best in the centre, small and dark; large circle = large bias |AD|, at most {largest:.4f} reflectance"
    figure = _figure(f"All-round performance (APA), {of}", "EDGE (no unit)", "LBP (no unit)", note=note, height=540)
    for share in (0.2, 0.4, 0.6, 0.8, 1):
        r = share * reach
        figure.add_shape(
            type="circle",
            x0=-r,
            x1=r,
            y0=-r,
            y1=r,
            line=dict(color=INK, width=1, dash="dot"),
            opacity=0.6,
            layer="below",
        )
        figure.add_annotation(x=0, y=r, text=f"{r:.3g}", showarrow=False, yshift=8, font_size=10)
    for x, y, text in NOTES:
        place = dict(x=1.12 * x * reach, y=1.12 * y * reach, xanchor="right" if x > 0 else "left")
        figure.add_annotation(
            text=f"<i>{text}</i>",
            yanchor="top" if y > 0 else "bottom",
            showarrow=False,
            align=place["xanchor"],
            **place,
        )
    if points:
        figure.add_trace(_apa_marks(points, largest))
        _apa_labels(figure, points)
    if others:
        figure.add_scatter(
            name="references", x=[p[0] for p in others.values()], y=[p[1] for p in others.values()],
            text=list(others), mode="markers+text", textposition="bottom center",
            marker=dict(symbol="x-thin", size=10, line=dict(color=INK, width=2)),
        )  # fmt: skip
    span = [-1.15 * reach, 1.15 * reach]
    figure.update_xaxes(range=span, constrain="domain", zeroline=True, showgrid=False)
    return figure.update_yaxes(range=span, constrain="domain", scaleanchor="x", zeroline=True, showgrid=False)


def _apa_point(table: Mapping[str, Mapping[str, float]], band: str) -> tuple[float, float, float, float]:
    """EDGE, LBP, RMSE, AD."""
    edge, texture, error, bias = (float(table[metric][band]) for metric in ("EDGE", "LBP", "RMSE", "AD"))
    return edge, texture, error, bias


def _apa_labels(figure: go.Figure, points: Mapping[str, tuple[float, float, float, float]]) -> None:
    """Name the points around them, in the order in which they lie about their middle, so that no line crosses."""
    edge, texture = (sum(p[axis] for p in points.values()) / len(points) for axis in (0, 1))
    angles = {name: math.atan2(p[1] - texture, p[0] - edge) for name, p in points.items()}
    first, step = min(angles.values()), 2 * math.pi / len(points)
    for n, name in enumerate(sorted(points, key=angles.__getitem__)):
        turn = first + n * step
        figure.add_annotation(
            x=points[name][0], y=points[name][1], text=escape(name), ax=60 * math.cos(turn), ay=-48 * math.sin(turn),
            showarrow=True, arrowhead=0, arrowwidth=1, arrowcolor=INK, standoff=8,
        )  # fmt: skip


def _apa_marks(points: Mapping[str, tuple[float, float, float, float]], largest: float) -> go.Scatter:
    edges, textures, errors, biases = zip(*points.values(), strict=True)
    return go.Scatter(
        x=edges,
        y=textures,
        mode="markers",
        showlegend=False,
        text=[escape(name) for name in points],
        customdata=list(zip(errors, biases, strict=True)),
        hovertemplate="%{text}<br>EDGE %{x:.3f}, LBP %{y:.3f}<br>RMSE %{customdata[0]:.4f}, "
        "AD %{customdata[1]:.4f}<extra></extra>",
        marker=dict(
            size=[10 + 24 * math.sqrt(abs(bias) / largest) if largest else 10 for bias in biases],
            color=errors,
            opacity=1,
            colorscale=scale("viridis", 0.0, 0.97),
            colorbar=_colorbar("RMSE (reflectance)"),
            line=dict(color=INK, width=1.5),
        ),
    )
