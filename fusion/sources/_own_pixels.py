"""Pixels of own files on any grid: missing as NaN, scaled to reflectance, brought onto the grid once.

A fine image, and a coarse one on its own nested grid, give their own pixels where the grid asked for has them, and are
else brought onto it as :mod:`fusion.sources._regrid` says. A coarse image that came on the fine grid gives means over
the area of each coarse pixel, wherever the grid asked for lies; missing where more than half of a pixel is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from functools import lru_cache
from typing import Any

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.windows import Window

from ..errors import FusionError
from ..overlay import placed
from ..scene import ROI, Scene
from . import _own_store
from ._own_look import HUGE, raster
from ._regrid import regrid

MARGIN = 4  # pixels beyond the grid asked for, for the kernel
HALF = 0.5  # share of a coarse pixel that must be known
MANY = 4_000_000  # pixels from which on the share missing is counted in windows of SIDE, SPREAD a side
SIDE, SPREAD = 192, 5
FEW = 600  # pixels a side of a warped image at which it is counted

# Values of a mask that mean missing, and bits of one that do
_VALUES: Mapping[str, tuple[int, ...]] = {"cfmask": (2, 3, 4, 255), "scl": (0, 1, 3, 8, 9, 10, 11), "zero": (0,)}
_BITS: Mapping[str, tuple[int, ...]] = {"qa_pixel": (0, 1, 2, 3, 4, 5), "pixel_qa": (0, 3, 4, 5), "fmask": (1, 2, 3, 4)}


def geobox(body: Mapping[str, Any]) -> GeoBox:
    """Grid as a manifest holds it."""
    return _geobox(tuple(body["shape"]), tuple(body["transform"]), body["crs"])


@lru_cache(maxsize=256)
def _geobox(shape: tuple[int, int], transform: tuple[float, ...], crs: str | None) -> GeoBox:
    return GeoBox(shape, Affine(*transform), crs)


def scene(manifest: Mapping[str, Any], image: Mapping[str, Any], wanted: GeoBox, bands: Sequence[str]) -> Scene:
    """One image of a data set on exactly this grid.

    Raises
    ------
    FusionError
        If a band is unknown, the grid lies elsewhere, or a file is gone, changed or broken.
    """
    if unknown := [band for band in bands if band not in image["parts"]]:
        raise FusionError(
            f"The own files have no band {unknown[0]!r}; they have {', '.join(manifest['bands'])}: choose among these."
        )
    own = geobox(manifest["grids"][image["parts"][bands[0]]["grid"]])
    if (own.crs is None) != (wanted.crs is None):
        raise FusionError(
            f"The own files {'have no CRS' if own.crs is None else 'have a CRS'}, the grid asked for has "
            f"{'none' if wanted.crs is None else 'one'}: take the grid from the data set's product."
        )
    day = date.fromisoformat(image["day"])
    parts = [_onto(manifest, image, band, wanted, day) for band in bands]
    return Scene(np.concatenate([part.data for part in parts]), wanted, tuple(bands), day)


def _onto(manifest: Mapping[str, Any], image: Mapping[str, Any], band: str, wanted: GeoBox, day: date) -> Scene:
    part = image["parts"][band]
    own = geobox(manifest["grids"][part["grid"]])
    roi = _window(own, wanted)
    data = _band(manifest, image, part, roi)
    piece = Scene(data[None], own[roi], (band,), day)
    means = image["role"] == "coarse" and part["place"] == "grid"
    if means and (weights := _weights(piece.geobox, wanted)) is not None:
        return replace(piece, data=_means(piece.data, *weights), geobox=wanted)
    if own.crs is not None:
        return regrid(piece, wanted)
    there = regrid(replace(piece, geobox=placed(piece.geobox)), placed(wanted))  # a warp wants a CRS; any will do
    return replace(there, geobox=wanted)


def _window(own: GeoBox, wanted: GeoBox) -> ROI:
    """Pixels of an image that a grid needs."""
    there = wanted if wanted.crs == own.crs else None
    if there is None:
        box = wanted.footprint(str(own.crs)).boundingbox
        corners = [(x, y) for x in (box.left, box.right) for y in (box.bottom, box.top)]
    else:
        corners = [there.pix2wld(x, y) for x in (0, there.shape[1]) for y in (0, there.shape[0])]
    places = np.array([own.wld2pix(*corner) for corner in corners])
    low, high = np.floor(places.min(axis=0) + 1e-6) - MARGIN, np.ceil(places.max(axis=0) - 1e-6) + MARGIN
    (x0, y0), (x1, y1) = np.maximum(low, 0).astype(int), np.minimum(high, own.shape[::-1]).astype(int)
    if x0 >= x1 or y0 >= y1 or (high - MARGIN <= 0).any() or (low + MARGIN >= own.shape[::-1]).any():
        raise FusionError("The grid asked for lies outside the own files: choose an area inside their footprint.")
    return slice(int(y0), int(y1)), slice(int(x0), int(x1))


def _band(manifest: Mapping[str, Any], image: Mapping[str, Any], part: Mapping[str, Any], roi: ROI) -> np.ndarray:
    """``(y, x)`` reflectance of one band, missing as NaN."""
    sha = part["file"]
    numbers = _read(manifest["files"][sha], sha, part["layer"], part["index"], roi).astype(np.float64)
    missing = ~np.isfinite(numbers) | (np.abs(numbers) > HUGE)
    for value in part["nodata"]:
        missing |= numbers == value
    for name, kind in image["masks"]:
        missing |= _masked(_read(manifest["files"][name], name, "", 0, roi), kind)
    with np.errstate(invalid="ignore", over="ignore"):
        out: np.ndarray = (numbers * part["scale"] + part["offset"]).astype(np.float32)
    out[missing] = np.nan
    return out


def _read(entry: dict[str, Any], sha: str, layer: str, index: int, roi: ROI) -> np.ndarray:
    rows, columns = roi
    size = rows.stop - rows.start, columns.stop - columns.start
    with raster(_own_store.locate(entry, sha), entry["driver"], layer, entry["name"]) as file:
        out: np.ndarray = file.read(index + 1, window=Window(columns.start, rows.start, *size[::-1]))
    return out


def _masked(mask: np.ndarray, kind: str) -> np.ndarray:
    """Where a mask says that a pixel is missing."""
    if kind in _BITS:
        bits = sum(1 << bit for bit in _BITS[kind])
        out: np.ndarray = (mask.astype(np.int64) & bits) != 0
        return out | (mask == 255) if kind == "fmask" else out
    chosen: np.ndarray = np.isin(mask, _VALUES[kind]) if kind in _VALUES else mask != 0
    return chosen


def _weights(own: GeoBox, wanted: GeoBox) -> tuple[np.ndarray, np.ndarray] | None:
    """``(coarse, fine)`` shares of each coarse pixel's rows and columns, or None where grids are turned."""
    if wanted.crs != own.crs:
        return None
    relative = ~own.affine * wanted.affine
    if abs(relative.b) + abs(relative.d) > 1e-9 or relative.a <= 0 or relative.e <= 0:
        return None
    return (
        _shares(own.shape[0], wanted.shape[0], relative.f, relative.e),
        _shares(own.shape[1], wanted.shape[1], relative.c, relative.a),
    )


def _shares(fine: int, coarse: int, start: float, step: float) -> np.ndarray:
    """How much of each of `coarse` intervals lies in each of `fine` unit intervals; inside, rows sum to one."""
    edges = start + step * np.arange(coarse + 1)
    whole = np.rint(edges)
    edges = np.where(np.abs(edges - whole) < 1e-4, whole, edges)  # grids are written with rounded numbers
    low, high = edges[:-1, None], edges[1:, None]
    places = np.arange(fine)
    shares: np.ndarray = np.clip(np.minimum(high, places + 1) - np.maximum(low, places), 0, None) / (high - low)
    return shares


def _means(data: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Means of ``(band, y, x)`` over coarse pixels; NaN where more than half of one is missing or outside."""
    numbers = data.astype(np.float64)
    known = np.isfinite(numbers)
    weight = rows @ known.astype(np.float64) @ columns.T
    total = rows @ np.where(known, numbers, 0.0) @ columns.T
    enough = weight >= HALF - 1e-9
    out: np.ndarray = np.where(enough, total / np.where(enough, weight, 1.0), np.nan).astype(np.float32)
    return out


def missing(manifest: Mapping[str, Any], image: Mapping[str, Any], wanted: GeoBox) -> float:
    """Share of a grid without a value in some band; of a large one, counted in windows over it."""
    parts = tuple(image["parts"].values())
    if any(part["place"] != "grid" for part in parts):
        step = max(1, max(wanted.shape) // FEW)
        known = scene(manifest, image, wanted.zoom_out(step) if step > 1 else wanted, tuple(image["parts"])).data
    else:
        roi = _within(geobox(manifest["grids"][parts[0]["grid"]]), wanted)
        pieces = [np.stack([_band(manifest, image, part, one) for part in parts]) for one in _windows(roi)]
        known = np.concatenate([piece.reshape(len(parts), -1) for piece in pieces], axis=1)
    return float(1 - np.isfinite(known).all(axis=0).mean())


def _windows(roi: ROI) -> list[ROI]:
    """The whole of a small window, or small ones evenly over a large one."""
    sizes = [part.stop - part.start for part in roi]
    if sizes[0] * sizes[1] <= MANY:
        return [roi]
    cuts = []
    for part, size in zip(roi, sizes, strict=True):
        side = min(SIDE, size)
        starts = sorted({part.start + round(i * (size - side) / (SPREAD - 1)) for i in range(SPREAD)})
        cuts.append([slice(start, start + side) for start in starts])
    return [(rows, columns) for rows in cuts[0] for columns in cuts[1]]


def _within(own: GeoBox, wanted: GeoBox) -> ROI:
    """Pixels of a grid that another one on the same lattice covers."""
    (x0, y0), (x1, y1) = (own.wld2pix(*wanted.pix2wld(x, y)) for x, y in ((0, 0), wanted.shape[::-1]))
    return slice(max(round(y0), 0), min(round(y1), own.shape[0])), slice(
        max(round(x0), 0), min(round(x1), own.shape[1])
    )
