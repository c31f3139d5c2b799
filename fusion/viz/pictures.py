"""Colours and pictures: one stretch for all layers, RGBA arrays, differences, legends."""

import io
import math
from collections.abc import Mapping, Sequence
from html import escape
from types import MappingProxyType
from typing import Any

import numpy as np
from PIL import Image
from plotly.colors import get_colorscale, unlabel_rgb

from ..errors import FusionError
from ..scene import Scene

Limits = tuple[tuple[float, float], ...]  # (low, high) reflectance of each band shown
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
COLOURS = (*OKABE_ITO, "#7F6FD9", "#44AA99", "#AA4466", "#A6761D", "#8FBC5A")  # of up to 13 names
SYMBOLS = (
    "circle", "square", "diamond", "triangle-up", "x", "star", "hexagon", "triangle-down", "cross", "pentagon",
    "triangle-left", "triangle-right", "hourglass",
)  # fmt: skip
SAMPLES = 250_000  # values of one band and scene that a stretch looks at
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
    return COLOURS[list(names).index(name) % len(COLOURS)]


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
