"""Figures, colours and maps: pure builders that return what they make and never show it.

Plotly figures carry their own neutral template (transparent, mid-grey ink, so that they read on light and on
dark pages); an app's theme may replace it. Colours are safe for colour-blind readers: viridis and cividis for
amounts, blue-white-red for differences (blue = too dark, red = too bright), Okabe & Ito's palette for names.
"""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from datetime import date
from html import escape
from types import MappingProxyType
from typing import Any

import numpy as np
import plotly.graph_objects as go
from odc.geo.geobox import GeoBox
from PIL import Image
from plotly.colors import get_colorscale, unlabel_rgb
from plotly.subplots import make_subplots

from .errors import FusionError
from .metrics import METRICS, correlation, rmse
from .overlay import Overlay, overlay
from .scene import Scene
from .sources import Item

Limits = tuple[tuple[float, float], ...]  # (low, high) reflectance of each band shown
Tables = Mapping[str, Mapping[str, Mapping[str, float]]]  # method -> metric -> band or "mean" -> value

COMBINATIONS: Mapping[str, tuple[str, str, str]] = MappingProxyType(
    {
        "True colour": ("red", "green", "blue"),
        "False colour (near infrared)": ("nir", "red", "green"),
        "Shortwave infrared": ("swir2", "nir", "red"),
        "Agriculture": ("swir1", "nir", "blue"),
    }
)
WAVELENGTHS: Mapping[str, int] = MappingProxyType(  # nm, typical centres: Sentinel-2 and Landsat 8 differ by < 30
    {"blue": 485, "green": 560, "red": 660, "nir": 850, "swir1": 1610, "swir2": 2200}
)
OKABE_ITO = (  # Okabe & Ito 2008, Color Universal Design; black left out, for it vanishes on dark pages
    "#E69F00", "#56B4E9", "#009E73", "#D55E00", "#0072B2", "#CC79A7", "#999999", "#F0E442",
)  # fmt: skip
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star", "hexagon", "triangle-down")
INK = "#757a82"  # contrast above 4:1 on white and on Streamlit's dark page
LINE = "rgba(128,128,128,0.28)"
CLOUD_SCALE = ((0.0, "#0072B2"), (0.5, "#7fa6bd"), (1.0, "#b9b9b9"))  # clear days stand out
MOST_PIXELS = 1000  # along a side of a heat map; a screen shows no more
SAMPLES = 250_000  # values of one band and scene that a stretch looks at
MARGIN = dict(l=10, r=10, t=92, b=10)

PALETTES = ("viridis", "cividis", "grey", "difference")


def _anchors(palette: str) -> list[tuple[float, tuple[float, float, float]]]:
    """Positions 0..1 and colours 0..255 of a palette."""
    if palette not in PALETTES:
        raise ValueError(f"A palette is one of {', '.join(PALETTES)}, got {palette!r}.")
    if palette == "grey":
        return [(0.0, (0.0, 0.0, 0.0)), (1.0, (255.0, 255.0, 255.0))]
    scale = get_colorscale("RdBu_r" if palette == "difference" else palette)
    return [(float(at), _rgb(colour)) for at, colour in scale]


def _rgb(colour: str) -> tuple[float, float, float]:
    if colour.startswith("#"):
        return (int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16))
    red, green, blue = unlabel_rgb(colour)
    return (red, green, blue)


def lookup(palette: str) -> np.ndarray:
    """Return the 256 colours of one of `PALETTES`, ``(256, 3)`` uint8."""
    at, colours = zip(*_anchors(palette), strict=True)
    steps = np.linspace(0, 1, 256)
    table = np.stack([np.interp(steps, at, channel) for channel in np.transpose(colours)], axis=-1)
    colours256: np.ndarray = np.rint(table).astype(np.uint8)
    return colours256


def scale(palette: str, low: float = 0.0, high: float = 1.0) -> list[list[Any]]:
    """Return the part `low` to `high` of a palette as a plotly colour scale of 17 steps."""
    table = lookup(palette)
    steps = np.linspace(0, 1, 17)
    index = np.rint(255 * (low + steps * (high - low))).astype(int)
    return [[float(at), f"rgb({r},{g},{b})"] for at, (r, g, b) in zip(steps, table[index].tolist(), strict=True)]


def colour_of(name: str, names: Sequence[str]) -> str:
    """Return the colour of one of several names: the same in every figure that is given the same `names`.

    Examples
    --------
    >>> colour_of("delta", ["nearest", "delta"])
    '#56B4E9'
    """
    return OKABE_ITO[list(names).index(name) % len(OKABE_ITO)]


def symbol_of(name: str, names: Sequence[str]) -> str:
    """Return the marker of one of several names, to tell them apart without colour too."""
    return SYMBOLS[list(names).index(name) % len(SYMBOLS)]


def combinations(bands: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return what can be shown of these bands: the colour combinations, then each band alone.

    Examples
    --------
    >>> list(combinations(["red", "nir"]))
    ['red alone', 'nir alone']
    """
    three = {title: names for title, names in COMBINATIONS.items() if set(names) <= set(bands)}
    return {**three, **{f"{band} alone": (band,) for band in bands}}


def limits(scenes: Sequence[Scene], bands: Sequence[str], *, percent: tuple[float, float] = (2, 98)) -> Limits:
    """Return one stretch for several images, so that equal colours mean equal reflectance in all of them.

    Parameters
    ----------
    scenes : sequence of Scene
        Images to be shown together.
    bands : sequence of str
        Bands to be shown.
    percent : tuple of float
        Lower and upper percentile of all valid pixels together.

    Returns
    -------
    tuple of (low, high)
        Reflectance per band, ``low < high``; (0, 1) where no pixel is valid.
    """
    if not 0 <= percent[0] < percent[1] <= 100:
        raise ValueError(f"limits wants percentiles 0 <= low < high <= 100, got {percent}.")
    return tuple(_stretch([scene.select([band]).data for scene in scenes], percent) for band in bands)


def _stretch(images: Sequence[np.ndarray], percent: tuple[float, float]) -> tuple[float, float]:
    parts = [image.ravel()[:: max(1, image.size // SAMPLES)] for image in images]
    values = np.concatenate([part[np.isfinite(part)] for part in parts] or [np.zeros(0)])
    if not values.size:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(values, percent))
    return (low, high) if high - low > 1e-6 else (low - 0.01, low + 0.01)


def rgba(scene: Scene, bands: Sequence[str], limits: Limits, *, palette: str = "viridis") -> np.ndarray:
    """Return the picture of a scene, ``(y, x, 4)`` uint8, transparent where a shown band is missing.

    Parameters
    ----------
    scene : Scene
        Image.
    bands : sequence of str
        Three bands for red, green and blue, or one for a colour map.
    limits : tuple of (low, high)
        Of each band, from :func:`limits`.
    palette : str
        Colour map of a single band: "viridis", "cividis" or "grey".
    """
    if len(bands) not in (1, 3) or len(limits) != len(bands):
        raise ValueError(f"rgba wants 1 or 3 bands and as many limits, got {tuple(bands)} and {limits}.")
    data = scene.select(bands).data
    low, high = (np.array(side, np.float32)[:, None, None] for side in zip(*limits, strict=True))
    share = (data - low) / (high - low)
    return _paint(share, None if len(bands) == 3 else palette)


def _paint(share: np.ndarray, palette: str | None) -> np.ndarray:
    """Colour ``(3, y, x)`` as it is, or ``(1, y, x)`` by a palette; values 0..1, NaN transparent."""
    seen = np.isfinite(share).all(axis=0)
    levels = np.rint(255 * np.clip(np.where(seen, share, 0), 0, 1)).astype(np.uint8)
    colours = np.moveaxis(levels, 0, -1) if palette is None else lookup(palette)[levels[0]]
    return np.dstack([np.where(seen[..., None], colours, 0), np.where(seen, 255, 0)]).astype(np.uint8)


def png(picture: np.ndarray, *, zoom: int = 1) -> bytes:
    """Return an RGBA picture ``(y, x, 4)`` as PNG; each pixel becomes a square of `zoom` x `zoom`."""
    large = picture.repeat(zoom, axis=0).repeat(zoom, axis=1)
    buffer = io.BytesIO()
    Image.fromarray(large, "RGBA").save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def difference(pred: Scene, truth: Scene, band: str = "mean") -> np.ndarray:
    """Return prediction minus truth ``(y, x)`` in reflectance, of one band or the mean over all bands.

    Raises
    ------
    FusionError
        If the grids differ or a band is missing.
    """
    if pred.geobox != truth.geobox:
        raise FusionError(
            f"A difference wants two images on one grid, got {tuple(pred.geobox.shape)} and "
            f"{tuple(truth.geobox.shape)} pixels or other corners: use scene.to(geobox)."
        )
    names = truth.bands if band == "mean" else (band,)
    out: np.ndarray = (pred.select(names).data - truth.select(names).data).mean(axis=0)
    return out


def bound_of(values: np.ndarray) -> float:
    """Return a round number (1, 2 or 5 times a power of ten) that covers 98 % of the absolute values."""
    seen = np.abs(values[np.isfinite(values)])
    return _round_up(float(np.percentile(seen, 98))) if seen.size else 0.01


def _round_up(value: float, steps: Sequence[float] = (1, 2, 5, 10)) -> float:
    if value <= 1e-6:
        return 0.001
    power = 10.0 ** math.floor(math.log10(value))
    step = next(step for step in steps if value <= step * power * (1 + 1e-9))
    return float(f"{step * power:.3g}")


def difference_rgba(
    pred: Scene, truth: Scene, band: str = "mean", bound: float | None = None
) -> tuple[np.ndarray, float]:
    """Return the picture of prediction minus truth, and the reflectance at either end of its colours.

    Blue where the prediction is too dark, white where it is right, red where it is too bright; the ends stand
    for ``-bound`` and ``+bound``. Missing pixels are transparent.
    """
    values = difference(pred, truth, band)
    bound = bound_of(values) if bound is None else bound
    return _paint((values / bound / 2 + 0.5)[None], "difference"), bound


def legend(
    bands: Sequence[str],
    limits: Limits,
    *,
    title: str = "",
    unit: str = "reflectance",
    palette: str = "viridis",
) -> str:
    """Return colour bars with numbers as one HTML element, to stand beside a map.

    Three bands give three bars (what red, green and blue stand for), one band the bar of its palette. Text has the
    colour of the page around it and so reads on light and dark. Plain `div` and inline style: ``st.html`` drops SVG.
    """
    tables = [lookup(palette)] if len(bands) == 1 else list(_channels())
    if len(tables) != len(bands) or len(limits) != len(bands):
        raise ValueError(f"legend wants 1 or 3 bands and as many limits, got {tuple(bands)} and {limits}.")
    heading = f"{title}: {unit}" if title else unit
    rows = [_bar(band, table, *pair) for band, table, pair in zip(bands, tables, limits, strict=True)]
    spoken = f"{heading}; " + ", ".join(
        f"{band} from {_number(low)} to {_number(high)}" for band, (low, high) in zip(bands, limits, strict=True)
    )
    look = "width:280px;max-width:100%;font:12px sans-serif;line-height:1.3"
    return (
        f'<div role="img" aria-label="{escape(spoken)}" title="{escape(spoken)}" style="{look}">'
        f"<div>{escape(heading)}</div>{''.join(rows)}</div>"
    )


def _channels() -> np.ndarray:
    """Black to red, to green and to blue: ``(3, 256, 3)``."""
    ramp = np.arange(256, dtype=np.uint8)
    return np.stack([np.where(np.arange(3) == channel, ramp[:, None], 0) for channel in range(3)])


def _bar(name: str, table: np.ndarray, low: float, high: float) -> str:
    """Draw one bar with its name on the left and three numbers below."""
    stops = ",".join(f"rgb({r},{g},{b})" for r, g, b in table[:: 255 // 15].tolist())
    numbers = "".join(f"<span>{_number(low + share * (high - low))}</span>" for share in (0, 0.5, 1))
    row = 'style="display:flex;gap:8px;margin-top:4px"'
    bar = f"height:12px;border:1px solid rgba(128,128,128,0.6);background:linear-gradient(90deg,{stops})"
    return (
        f'<div {row}><div style="flex:0 0 52px">{escape(name)}</div><div style="flex:1"><div style="{bar}"></div>'
        f'<div style="display:flex;justify-content:space-between">{numbers}</div></div></div>'
    )


def _number(value: float) -> str:
    """Three decimals, with a true minus sign and no minus zero."""
    text = f"{value:.3f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")


AXIS = dict(gridcolor=LINE, linecolor=LINE, zerolinecolor=LINE, ticks="outside", tickcolor=LINE, automargin=True)
TEMPLATE = go.layout.Template(
    layout=dict(
        font=dict(color=INK, size=13),
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        colorway=list(OKABE_ITO),
        xaxis=AXIS,
        yaxis=AXIS,
    )
)


def _figure(title: str, x: str, y: str, *, note: str = "", height: int = 420) -> go.Figure:
    """Return an empty figure with title, a smaller note under it, and axis titles."""
    figure = go.Figure()
    figure.update_layout(
        template=TEMPLATE,
        title=dict(
            text=escape(title),
            subtitle=dict(text=note, font_size=12),
            x=0,
            xanchor="left",
            y=0.97,
            yanchor="top",
            font_size=16,
        ),
        margin=MARGIN,
        height=height,
        legend=dict(orientation="h", x=0, xanchor="left", y=-0.28, yanchor="top"),
    )
    return figure.update_xaxes(title_text=x).update_yaxes(title_text=y)


def _colorbar(title: str, **more: Any) -> dict[str, Any]:
    return dict(title=dict(text=title, side="right"), thickness=14, outlinewidth=0, **more)


def _geo_axes(geobox: GeoBox) -> tuple[dict[str, float], str, str]:
    """Centre of the first pixel and steps as plotly wants them, and the titles of both axes."""
    a = geobox.affine
    if geobox.crs is None or a.b or a.d:
        return dict(x0=0.5, dx=1, y0=0.5, dy=1), "Column (pixels)", "Row (pixels)"
    place = dict(x0=a.c + a.a / 2, dx=a.a, y0=a.f + a.e / 2, dy=a.e)
    if geobox.crs.geographic:
        return place, "Longitude (degrees)", "Latitude (degrees)"
    code = f"EPSG:{geobox.crs.to_epsg()}" if geobox.crs.to_epsg() else "own CRS"
    return place, f"Easting in {code} (m)", f"Northing in {code} (m)"


def _square(figure: go.Figure, place: Mapping[str, float], shape: tuple[int, int]) -> go.Figure:
    """Give both axes one scale, whole numbers and the extent of the image, first row on top."""
    (rows, columns), half = shape, 0.5
    x = [place["x0"] - half * place["dx"], place["x0"] + (columns - half) * place["dx"]]
    y = [place["y0"] + (rows - half) * place["dy"], place["y0"] - half * place["dy"]]
    form = "d" if abs(place["dx"]) >= 1 else None
    figure.update_xaxes(range=x, constrain="domain", tickformat=form, nticks=5, showgrid=False)
    # Fixed margins: with one scale on both axes plotly's own search for margins does not end.
    figure.update_layout(margin=dict(l=95, b=60)).update_xaxes(automargin=False).update_yaxes(automargin=False)
    figure.layout.yaxis.scaleanchor = "x"  # the axes of further images follow the first by `matches`
    return figure.update_yaxes(
        range=y, constrain="domain", constraintoward="top", tickformat=form, nticks=6, showgrid=False
    )


def timeline(
    fine: Sequence[Item],
    coarse: Sequence[Item],
    *,
    target: date | None = None,
    pairs: Sequence[date] = (),
) -> go.Figure:
    """Show which days have a fine and a coarse image, how cloudy they are, and which are chosen.

    Colour is the cloud share over the area (hollow = not known), shape the part a day plays: circle for an
    image, square for a pair, star for the target, hollow star for a fine image of the target day, which
    fusion does not see. Every marker's ``customdata`` is ``[row, id, day]``.
    """
    figure = _figure("Images over time", "Day of acquisition", "Images", height=340)
    marks = [("fine", item) for item in fine] + [("coarse", item) for item in coarse]
    for kind, (symbol, size) in KINDS.items():
        some = [(side, item) for side, item in marks if _kind(side, item, target, pairs) == kind]
        if some:
            figure.add_trace(_marks(kind, some, symbol, size)).add_trace(_legend_mark(kind, symbol))
    if target is not None:
        figure.add_vline(x=target.isoformat(), line=dict(color=INK, dash="dot", width=1))
    if not marks:
        place = dict(x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False)
        figure.add_annotation(text="no images found", **place)
    figure.update_yaxes(tickvals=[0, 1], ticktext=["coarse", "fine"], range=[-0.7, 1.7], showgrid=False)
    bar = _colorbar("cloud share (%)", tickvals=[0, 50, 100])
    key = dict(color=[0, 100], cmin=0, cmax=100, colorscale=CLOUD_SCALE, showscale=True, colorbar=bar)
    figure.add_scatter(x=[None, None], y=[None, None], mode="markers", marker=key, showlegend=False)
    return figure.update_xaxes(type="date").update_layout(legend_y=-0.38)


KINDS = {  # part a day plays -> symbol, size in screen pixels
    "image": ("circle", 11),
    "pair": ("square", 16),
    "target": ("star", 20),
    "hidden fine image": ("star-open", 16),
}


def _kind(side: str, item: Item, target: date | None, pairs: Sequence[date]) -> str:
    if item.day == target:
        return "target" if side == "coarse" else "hidden fine image"
    return "pair" if item.day in pairs else "image"


def _marks(kind: str, marks: Sequence[tuple[str, Item]], symbol: str, size: int) -> go.Scatter:
    """Draw one kind of days; pairs are labelled above, the target below, so that words do not collide."""
    labels = {("pair", "fine"): "pair", ("target", "coarse"): "target"}
    hollow = [item.cloud is None or "open" in symbol for _, item in marks]
    return go.Scatter(
        name=kind,
        legendgroup=kind,
        showlegend=False,
        mode="markers+text",
        x=[item.day.isoformat() for _, item in marks],
        y=[int(side == "fine") for side, _ in marks],
        text=[labels.get((kind, side), "") for side, _ in marks],
        textposition=["top center" if side == "fine" else "bottom center" for side, _ in marks],
        customdata=[[side, item.id, item.day.isoformat()] for side, item in marks],
        hovertext=[
            f"{side} {item.day}<br>{escape(item.product)}<br>cloud {_percent(item.cloud)}" for side, item in marks
        ],
        hoverinfo="text",
        marker=dict(
            size=size,
            color=[
                INK if empty else _cloud_colour(item.cloud or 0) for (_, item), empty in zip(marks, hollow, strict=True)
            ],
            symbol=[symbol.removesuffix("-open") + "-open" * empty for empty in hollow],
            line=dict(color=INK, width=1 if kind == "image" else 2),
        ),
    )


def _legend_mark(kind: str, symbol: str) -> go.Scatter:
    """Return an entry of the legend in ink: the marks themselves have the colours of their clouds."""
    marker = dict(symbol=symbol, color=INK, size=11)
    return go.Scatter(name=kind, legendgroup=kind, x=[None], y=[None], mode="markers", marker=marker)


def _cloud_colour(share: float) -> str:
    at, colours = zip(*((float(at), _rgb(colour)) for at, colour in CLOUD_SCALE), strict=True)
    r, g, b = (round(float(np.interp(share, at, channel))) for channel in np.transpose(colours))
    return f"rgb({r},{g},{b})"


def _percent(share: float | None) -> str:
    return "not known" if share is None else f"{share:.0%}"


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


def _apa_marks(points: Mapping[str, tuple[float, float, float, float]], largest: float) -> go.Scatter:
    edges, textures, errors, biases = zip(*points.values(), strict=True)
    return go.Scatter(
        x=edges,
        y=textures,
        mode="markers+text",
        showlegend=False,
        text=[escape(name) for name in points],
        textposition=["top center", "bottom center", "middle right", "middle left"] * len(points),
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


def spectrum(
    values: Mapping[str, Sequence[float]],
    bands: Sequence[str],
    *,
    at: tuple[float, float] | None = None,
    title: str = "Spectrum",
    names: Sequence[str] | None = None,
) -> go.Figure:
    """Show the reflectance of one pixel in several layers, band by band.

    Parameters
    ----------
    values : mapping
        Layer to reflectance per band; NaN leaves a gap.
    bands : sequence of str
        Names of the bands, in the order of the values.
    at : tuple of float, optional
        Longitude and latitude of the pixel in degrees, named in the title.
    title : str
        Start of the title.
    names : sequence of str, optional
        All layers of the page, which fixes their colours.
    """
    names = list(values) if names is None else names
    ticks = [f"{escape(band)}<br>{WAVELENGTHS[band]} nm" if band in WAVELENGTHS else escape(band) for band in bands]
    where = f" at {_degrees(at[0], 'EW')}, {_degrees(at[1], 'NS')}" if at else ""
    figure = _figure(title + where, "Band (typical centre wavelength, nm)", "Reflectance (0 to 1)")
    for name, numbers in values.items():
        figure.add_scatter(
            name=name,
            x=ticks,
            y=[float(v) if math.isfinite(v) else None for v in numbers],
            mode="lines+markers",
            line=dict(color=colour_of(name, names), width=2),
            marker=dict(symbol=symbol_of(name, names), size=9, line=dict(color=INK, width=1)),
            hovertemplate="%{y:.4f}<extra>" + escape(name) + "</extra>",
        )
    figure.update_xaxes(categoryorder="array", categoryarray=ticks)
    return figure.update_layout(showlegend=True, legend_y=-0.28)


def _degrees(value: float, sides: str) -> str:
    return f"{abs(value):.5f}° {sides[value < 0]}"


def image(
    scene: Scene,
    bands: Sequence[str],
    limits: Limits | None = None,
    title: str = "",
    *,
    palette: str = "viridis",
) -> go.Figure:
    """Show a scene on axes in the units of its CRS, with a colour bar for a single band.

    Parameters
    ----------
    scene : Scene
        Image.
    bands : sequence of str
        Three bands for red, green and blue, or one.
    limits : tuple of (low, high), optional
        Of each band; default is the scene's own.
    title : str
        Default names the bands and the day.
    palette : str
        Colour map of a single band.
    """
    return compare({title or f"{', '.join(bands)}, {scene.day}": scene}, bands, limits, palette=palette)


def compare(
    scenes: Mapping[str, Scene],
    bands: Sequence[str],
    limits: Limits | None = None,
    title: str = "",
    *,
    palette: str = "viridis",
) -> go.Figure:
    """Show 1 to 4 scenes side by side with one stretch; zooming and panning one moves all.

    Fine and coarse scenes of one CRS go together: the axes are in the units of the CRS.
    """
    if not 1 <= len(scenes) <= 4:
        raise FusionError(f"Side by side there is room for 1 to 4 images, got {len(scenes)}: choose fewer.")
    limits = _limits(list(scenes.values()), bands, limits)
    first = next(iter(scenes.values()))
    place, x, y = _geo_axes(first.geobox)
    single = len(scenes) == 1
    titles = None if single else [escape(name) for name in scenes]
    figure = make_subplots(1, len(scenes), subplot_titles=titles, shared_xaxes="all", shared_yaxes="all")
    base = _figure(title or " | ".join(scenes), x, y, note=_stretch_note(bands, limits), height=460 if single else 400)
    figure.update_layout(base.layout, margin_t=MARGIN["t"] + (0 if single else 20)).update_xaxes(
        title_text=x
    ).update_yaxes(title_text=y, col=1)
    for column, scene in enumerate(scenes.values(), start=1):
        picture = rgba(scene, bands, limits, palette=palette)
        figure.add_trace(_picture(picture, scene.geobox), row=1, col=column)
    height, width = first.geobox.shape
    _square(figure, place, (height, width)).update_xaxes(nticks=5 if single else 3)
    figure.update_yaxes(showticklabels=False).update_yaxes(showticklabels=True, col=1)
    if len(bands) == 1:
        figure.add_trace(_key(bands[0], limits[0], palette))
    return figure


def _picture(picture: np.ndarray, geobox: GeoBox) -> go.Image:
    """Place an RGBA picture on axes that grow upwards; plotly wants its rows from the bottom then."""
    place, _, _ = _geo_axes(geobox)
    if place["dy"] < 0:
        place["y0"] += (len(picture) - 1) * place["dy"]
        place["dy"] *= -1
        picture = picture[::-1]
    source = "data:image/png;base64," + base64.b64encode(png(picture)).decode()
    return go.Image(source=source, hoverinfo="x+y", **place)


def _limits(scenes: Sequence[Scene], bands: Sequence[str], given: Limits | None) -> Limits:
    return limits(scenes, bands) if given is None else given


def _stretch_note(bands: Sequence[str], pairs: Limits) -> str:
    ranges = [f"{band} {_number(low)} to {_number(high)}" for band, (low, high) in zip(bands, pairs, strict=True)]
    if len(ranges) == 3:
        ranges = [f"{colour} = {text}" for colour, text in zip(("red", "green", "blue"), ranges, strict=True)]
    return escape("; ".join(ranges) + " (reflectance)")


def _key(band: str, pair: tuple[float, float], palette: str) -> go.Scatter:
    """Return an invisible trace that only carries the colour bar, which pictures cannot have."""
    marker = dict(
        color=list(pair),
        cmin=pair[0],
        cmax=pair[1],
        colorscale=scale(palette),
        showscale=True,
        colorbar=_colorbar(f"{band} (reflectance)"),
    )
    return go.Scatter(x=[None, None], y=[None, None], mode="markers", marker=marker, showlegend=False, hoverinfo="skip")


def to_map(
    layers: Mapping[str, Scene],
    bands: Sequence[str],
    limits: Limits | None = None,
    *,
    palette: str = "viridis",
    tiles: str | None = None,
) -> Any:
    """Return a folium map with one layer a scene, all with one stretch, a switch for layers and a legend.

    For notebooks and HTML files, which load Leaflet from the internet; :func:`compare` needs none.

    Parameters
    ----------
    layers : mapping
        Name to scene; grids and CRS may differ, pictures are warped to the map's own projection.
    bands : sequence of str
        Three bands for red, green and blue, or one.
    limits : tuple of (low, high), optional
        Of each band; default is one stretch of all layers.
    palette : str
        Colour map of a single band.
    tiles : str, optional
        Background as folium names it, such as "OpenStreetMap"; default is none.

    Returns
    -------
    folium.Map
    """
    import folium

    limits = _limits(list(layers.values()), bands, limits)
    view = folium.Map(tiles=tiles, control_scale=True)
    pictures = [overlay(rgba(s, bands, limits, palette=palette), s.geobox) for s in layers.values()]
    for name, picture in zip(layers, pictures, strict=True):
        _layer(picture, name).add_to(view)
    folium.LayerControl(collapsed=False).add_to(view)
    return _frame(view, pictures, legend(bands, limits, palette=palette))


def swipe(
    left: tuple[str, Scene],
    right: tuple[str, Scene],
    bands: Sequence[str],
    limits: Limits | None = None,
    *,
    palette: str = "viridis",
) -> Any:
    """Return a leafmap map with a slider between two scenes, for notebooks and HTML files.

    Parameters
    ----------
    left, right : tuple of (str, Scene)
        Name and scene of either side.
    bands, limits, palette
        As in :func:`to_map`.

    Returns
    -------
    leafmap.foliumap.Map

    Notes
    -----
    Own slider: the one of folium and leafmap (Leaflet.Side-by-side) calls ``getContainer``, which a layer of
    one image does not have. Here each side has its own pane and the slider clips the panes. Arrow keys
    move it.
    """
    import folium
    from leafmap import foliumap

    limits = _limits([left[1], right[1]], bands, limits)
    controls = ("draw", "measure", "fullscreen", "search", "locate", "layers", "latlon")
    view = foliumap.Map(tiles=None, **{f"{name}_control": False for name in controls})
    pictures = [overlay(rgba(s, bands, limits, palette=palette), s.geobox) for _, s in (left, right)]
    for pane, name, picture in zip(("left", "right"), (left[0], right[0]), pictures, strict=True):
        folium.map.CustomPane(pane, z_index=450).add_to(view)
        _layer(picture, name, pane).add_to(view)
    title = f"{left[0]} | {right[0]}"
    view.add_child(_slider(title))
    return _frame(view, pictures, legend(bands, limits, title=title, palette=palette))


def _layer(picture: Overlay, name: str, pane: str = "overlayPane") -> Any:
    import folium

    source = "data:image/png;base64," + base64.b64encode(picture.png).decode()
    return folium.raster_layers.ImageOverlay(source, _corners(picture), name=name, pane=pane, pixelated=True)


def _corners(picture: Overlay) -> list[list[float]]:
    """South-west and north-east corner as Leaflet wants them, ``[[lat, lon], [lat, lon]]`` in degrees."""
    west, south, east, north = picture.bounds
    return [[south, west], [north, east]]


def _frame(view: Any, pictures: Sequence[Overlay], key: str) -> Any:
    """Zoom to the layers and put the legend into the corner."""
    import folium

    corners = np.array([_corners(picture) for picture in pictures])
    view.fit_bounds([corners[:, 0].min(axis=0).tolist(), corners[:, 1].max(axis=0).tolist()])
    place = "position:absolute;bottom:24px;right:8px;z-index:1000;background:#fff;color:#222;padding:6px"
    view.get_root().html.add_child(folium.Element(f'<div style="{place}">{key}</div>'))
    return view


SLIDER = """
{% macro script(this, kwargs) %}
(() => {
  const map = {{ this._parent.get_name() }};
  const input = document.createElement("input");
  Object.assign(input, {type: "range", min: 0, max: 1, step: 0.005, value: 0.5});
  input.title = {{ this.label|tojson }};
  input.setAttribute("aria-label", {{ this.label|tojson }});
  input.style.cssText = "position:absolute;top:4px;left:0;width:100%;margin:0;z-index:1000";
  map.getContainer().querySelector(".leaflet-top.leaflet-left").style.top = "20px";
  map.getContainer().append(input);
  L.DomEvent.disableClickPropagation(input);
  const clip = () => {
    const size = map.getSize(), start = map.containerPointToLayerPoint([0, 0]);
    const end = start.add(size), x = start.x + 8 + (size.x - 16) * input.value;
    map.getPane("left").style.clip = `rect(${start.y}px,${x}px,${end.y}px,${start.x}px)`;
    map.getPane("right").style.clip = `rect(${start.y}px,${end.x}px,${end.y}px,${x}px)`;
  };
  input.addEventListener("input", clip);
  map.on("move zoomend resize viewreset", clip);
  clip();
})();
{% endmacro %}
"""


def _slider(label: str) -> Any:
    from branca import element
    from jinja2 import Template

    slider: Any = type("Slider", (element.MacroElement,), {"_template": Template(SLIDER)})()
    slider.label = label
    return slider
