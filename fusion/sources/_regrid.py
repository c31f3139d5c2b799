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
    roi = own_pixels(scene.geobox, geobox, inside=False)
    if roi is not None:
        return replace(scene, data=_cut(scene.data, roi), geobox=geobox)
    larger = _pixel(geobox) > SHRINK * _pixel_in(scene.geobox, geobox)
    warped = scene.to(geobox, "average" if larger else "cubic")
    if larger:
        known = replace(scene, data=np.isfinite(scene.data).astype(np.float32)).to(geobox, "average")
        missing = ~(known.data > HALF)
    else:
        missing = np.isnan(scene.to(geobox, "nearest").data)
    return replace(warped, data=np.where(missing, np.float32(np.nan), warped.data))


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


def _cut(data: np.ndarray, roi: ROI) -> np.ndarray:
    """Return ``data[:, rows, columns]``, NaN where rows or columns lie outside."""
    rows, columns = roi
    out = np.full((len(data), rows.stop - rows.start, columns.stop - columns.start), np.nan, np.float32)
    (top, bottom), (left, right) = ((max(s.start, 0), min(s.stop, n)) for s, n in zip(roi, data.shape[1:], strict=True))
    if top < bottom and left < right:
        inside = (slice(top - rows.start, bottom - rows.start), slice(left - columns.start, right - columns.start))
        out[(slice(None), *inside)] = data[:, top:bottom, left:right]
    return out


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
