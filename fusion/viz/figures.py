"""Figures of images: over time, as pictures, and the spectrum of a pixel."""

import base64
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from html import escape

import numpy as np
import plotly.graph_objects as go
from odc.geo.geobox import GeoBox
from plotly.subplots import make_subplots

from ..errors import FusionError
from ..scene import Scene
from ..sources import Item
from ._layout import INK, MARGIN, _colorbar, _figure, _geo_axes, _square
from .pictures import WAVELENGTHS, Limits, _number, _rgb, colour_of, png, rgba, scale, symbol_of
from .pictures import limits as limits_of

CLOUD_SCALE = ((0.0, "#0072B2"), (0.5, "#7fa6bd"), (1.0, "#b9b9b9"))  # clear days stand out


def timeline(
    fine: Sequence[Item],
    coarse: Sequence[Item],
    *,
    target: date | None = None,
    pairs: Sequence[date] = (),
) -> go.Figure:
    """Show which days have a fine and a coarse image, how cloudy they are, and which are chosen.

    Colour is the share of the area that is cloudy or missing (hollow = not known), shape the part a day plays:
    circle for an image, square for a pair, star for the target, hollow star for a fine image of the target day, which
    fusion does not see. A bar goes through the days for which a composite stands. Every marker's ``customdata`` is
    ``[row, id, day]``.
    """
    note = "Colour: share of the area that is cloudy or missing; hollow where it is not known."
    figure = _figure("Images over time", "Day of acquisition", "Images", note=note, height=340)
    marks = [("fine", item) for item in fine] + [("coarse", item) for item in coarse]
    parts = [_kind(side, item, target, pairs) for side, item in marks]
    if any(item.span > 1 for _, item in marks):
        figure.add_traces(_bars([mark for mark in marks if mark[1].span > 1]))
    for kind, (symbol, size) in KINDS.items():
        some = [mark for mark, part in zip(marks, parts, strict=True) if part == kind]
        if some:
            small = size if kind != "image" or len(some) <= CROWD else max(size * CROWD / len(some), 6)
            figure.add_trace(_marks(kind, some, symbol, small)).add_trace(_legend_mark(kind, symbol))
    if target is not None:
        figure.add_vline(x=target.isoformat(), line=dict(color=INK, dash="dot", width=1))
    if not marks:
        place = dict(x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False)
        figure.add_annotation(text="no images found", **place)
    figure.update_yaxes(tickvals=[0, 1], ticktext=["coarse", "fine"], range=[-0.7, 1.7], showgrid=False)
    bar = _colorbar("cloud over the area (%)", tickvals=[0, 50, 100])
    key = dict(color=[0, 100], cmin=0, cmax=100, colorscale=CLOUD_SCALE, showscale=True, colorbar=bar)
    figure.add_scatter(x=[None, None], y=[None, None], mode="markers", marker=key, showlegend=False)
    return figure.update_xaxes(type="date").update_layout(legend_y=-0.6)


CROWD = 90  # images of a row; where there are more, their marks are smaller
BELOW = -0.2  # where the bar of a composite lies, beneath its mark
KINDS = {  # part a day plays -> symbol, size in screen pixels
    "image": ("circle", 11),
    "pair": ("square", 16),
    "target": ("star", 20),
    "hidden fine image": ("star-open", 16),
}


def _kind(side: str, item: Item, target: date | None, pairs: Sequence[date]) -> str:
    if item.day == target:
        return "target" if side == "coarse" else "hidden fine image"
    return "pair" if any(0 <= (day - item.day).days < item.span for day in pairs) else "image"


def _bars(marks: Sequence[tuple[str, Item]]) -> Iterator[go.Scatter]:
    """Draw the days of composites, one trace for each row, and an entry of the legend."""
    for row in ("coarse", "fine"):
        some = [item for side, item in marks if side == row]
        ends = [(item.day, item.day + timedelta(days=item.span - 1)) for item in some]
        x = [day and day.isoformat() for first, last in ends for day in (first, last, None)]
        y = [int(row == "fine") + BELOW] * len(x)
        line = dict(color=INK, width=5)
        yield go.Scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", showlegend=False)
    yield go.Scatter(name="days of a composite", x=[None], y=[None], mode="lines", line=dict(color=INK, width=5))


def _marks(kind: str, marks: Sequence[tuple[str, Item]], symbol: str, size: float) -> go.Scatter:
    """Draw one kind of days; pairs are labelled above, the target below, so that words do not collide."""
    labels = {("target", "coarse"): "target"}
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
            f"{side} {item.day}{_until(item)}<br>{escape(item.product)}<br>cloud {_percent(item.cloud)}"
            for side, item in marks
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


def _until(item: Item) -> str:
    return f" to {item.day + timedelta(days=item.span - 1)}" if item.span > 1 else ""


def _percent(share: float | None) -> str:
    return "not known" if share is None else f"{share:.0%}"


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
    return limits_of(scenes, bands) if given is None else given


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
