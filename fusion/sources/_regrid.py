"""Bring an image onto another grid in one step.

Where the grid asked for has the very pixels of the image, they are copied. Where its pixels are more than
1.5 times as large, each is the mean of those in it, weighted by area; else cubic convolution [1]_ is used. A pixel is
missing where the image's pixel nearest to its centre is, so that masks neither grow nor shrink by interpolation; of
averaged ones, where half of it or more is.

References
----------
.. [1] Keys, R. (1981). Cubic convolution interpolation for digital image processing. IEEE Trans. Acoust. Speech
   Signal Process. 29, 1153-1160. doi:10.1109/TASSP.1981.1163711
"""

import math
from dataclasses import replace

import numpy as np
from odc.geo.geobox import GeoBox

from ..errors import FusionError
from ..scene import ROI, Scene

SHRINK = 1.5  # times the image's own pixel; from there on pixels are averaged
HALF = 0.5  # share of an averaged pixel that must be known
_SAME = 1e-3  # pixels; grids that differ by less are one


def regrid(scene: Scene, geobox: GeoBox) -> Scene:
    """Bring an image onto a grid in one step, as the head of this file says."""
    out = np.full((len(scene.bands), *geobox.shape), np.nan, np.float32)
    fill(out, geobox, scene)
    return replace(scene, data=out, geobox=geobox)


def fill(out: np.ndarray, geobox: GeoBox, scene: Scene) -> None:
    """Bring an image onto a grid where `out` ``(band, y, x)`` of that grid is NaN, in place.

    It goes band by band, so that beside `out` and the image no more than single bands are held.
    """
    roi = own_pixels(scene.geobox, geobox, inside=False)
    if roi is not None:
        here, there = _shared(roi, scene.data.shape[1:])
        for into, band in zip(out, scene.data, strict=True):
            np.copyto(into[here], band[there], where=np.isnan(into[here]))
        return
    larger = _pixel(geobox) > SHRINK * _pixel_in(scene.geobox, geobox)
    for index, into in enumerate(out):
        one = replace(scene, data=scene.data[index : index + 1], bands=scene.bands[index : index + 1])
        np.copyto(into, _warped(one, geobox, larger=larger), where=np.isnan(into))


def _warped(one: Scene, geobox: GeoBox, *, larger: bool) -> np.ndarray:
    """One band ``(y, x)`` of an image on a grid of other pixels."""
    if larger:
        known = replace(one, data=np.isfinite(one.data).astype(np.float32)).to(geobox, "average").data
        missing = ~(known > HALF)
    else:
        missing = np.isnan(one.to(geobox, "nearest").data)
    out = one.to(geobox, "average" if larger else "cubic").data
    out[missing] = np.nan
    band: np.ndarray = out[0]
    return band


def own_pixels(native: GeoBox, geobox: GeoBox, *, inside: bool = True) -> ROI | None:
    """Rows and columns of `native` that `geobox` is, or None where its pixels are others or, if asked, lie outside."""
    if geobox.crs != native.crs:
        return None
    height, width = geobox.shape
    corners = ((0, 0), (width, 0), (0, height))  # x, y; the third fixes a turn or another pixel size
    places = [native.wld2pix(*geobox.pix2wld(x, y)) for x, y in corners]
    column, row = round(places[0][0]), round(places[0][1])
    drift = [max(abs(px - x - column), abs(py - y - row)) for (px, py), (x, y) in zip(places, corners, strict=True)]
    exact = max(drift) < _SAME
    within = 0 <= row and row + height <= native.shape[0] and 0 <= column and column + width <= native.shape[1]
    return (slice(row, row + height), slice(column, column + width)) if exact and (within or not inside) else None


def _shared(roi: ROI, shape: tuple[int, ...]) -> tuple[ROI, ROI]:
    """Of rows and columns that may lie outside an image, those inside: counted from their own start, and its."""
    inside = [(max(part.start, 0), max(min(part.stop, size), 0)) for part, size in zip(roi, shape, strict=True)]
    there = tuple(slice(start, max(stop, start)) for start, stop in inside)
    here = tuple(slice(t.start - part.start, t.stop - part.start) for t, part in zip(there, roi, strict=True))
    return (here[0], here[1]), (there[0], there[1])


def in_crs(points: tuple[np.ndarray, np.ndarray], of: GeoBox, to: GeoBox) -> tuple[np.ndarray, np.ndarray]:
    """Bring points x, y from the CRS of one grid into that of another."""
    if of.crs is None or to.crs is None:
        raise FusionError("Both grids want a CRS: give the image and the grid one, such as EPSG:32633.")
    if of.crs == to.crs:
        return points
    x, y = of.crs.transformer_to_crs(to.crs)(*points)
    return np.asarray(x), np.asarray(y)


def _pixel(geobox: GeoBox) -> float:
    return math.sqrt(abs(geobox.affine.determinant))


def _pixel_in(native: GeoBox, geobox: GeoBox) -> float:
    """Side of an image's pixel in the units of a grid, about the grid's middle."""
    height, width = geobox.shape
    x, y = geobox.pix2wld(width / 2, height / 2)
    xs, ys = in_crs((np.array([x]), np.array([y])), geobox, native)
    column, row = native.wld2pix(float(xs[0]), float(ys[0]))
    corners = [native.pix2wld(column + dx, row + dy) for dx, dy in ((0, 0), (1, 0), (0, 1))]
    xs, ys = in_crs((np.array([c[0] for c in corners]), np.array([c[1] for c in corners])), native, geobox)
    return math.sqrt(math.hypot(xs[1] - xs[0], ys[1] - ys[0]) * math.hypot(xs[2] - xs[0], ys[2] - ys[0]))
