"""Seen: the fine image as a coarse sensor would see it at any displacement, and how well the coarse image fits."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from affine import Affine

from ..errors import FusionError
from ..scene import Scene
from ._aggregate import REACH

DETAIL = 8  # the fine image is first averaged to about this many pixels per coarse pixel
WIDTH = 0.5  # coarse pixels: standard deviation of the point-spread function before it is estimated, as in aggregate
KNOWN = 0.75  # least share of a coarse pixel's weight that must be seen
THERE = 0.25  # the same of a pixel that is only counted: one whose centre is a corner of the fine image
ALMOST = 1e-6  # 1 - r^2 of images that differ by rounding only

Place = tuple[float, float]  # (down, right) in coarse pixels
HERE: Place = (0.0, 0.0)


@dataclass(frozen=True, eq=False)
class View:
    """Coarse pixels over a fine image: all that the estimate needs, without units."""

    coarse: np.ndarray  # (band, v, u) float64, NaN = missing, in all bands alike
    fine: np.ndarray  # (band, y, x) float32 about its mean, 0 where missing; pixels are means of `block` x `block`
    known: np.ndarray  # (1, y, x) float32, 1 where the fine image has values
    rows: np.ndarray  # (v,) centres of the coarse pixels, in these pixels from the upper edge
    columns: np.ndarray  # (u,)
    bands: tuple[str, ...]
    middle: np.ndarray  # (band,) the fine image's mean, taken off
    block: int
    ratio: float  # fine pixels as given per coarse pixel
    step: float  # coarse pixels from one sample to the next; below 1 where the coarse image came interpolated

    @property
    def samples(self) -> int:
        """Samples with values in both images where they lie."""
        return int((np.isfinite(self.coarse[0]) & np.isfinite(at(self, HERE, WIDTH)[0])).sum())

    @property
    def count(self) -> float:
        """The same in coarse pixels; samples between them do not count."""
        return self.samples * self.step**2

    @property
    def there(self) -> float:
        """Coarse pixels with values in both images, those at the margins too, whose sight reaches beyond."""
        seen = at(self, HERE, WIDTH, THERE)[0]
        return int((np.isfinite(self.coarse[0]) & np.isfinite(seen)).sum()) * self.step**2

    @property
    def whole(self) -> float:
        """Coarse pixels that lie on the fine image, with values or without."""
        sides = zip((self.rows, self.columns), self.known.shape[1:], strict=True)
        rows, columns = (int(((centres >= 0) & (centres <= size)).sum()) for centres, size in sides)
        return rows * columns * self.step**2

    def seen(self, down: np.ndarray, right: np.ndarray, width: float, known: float = KNOWN) -> np.ndarray:
        """The fine image as the coarse sensor would see it at every displacement ``down x right``.

        Returns ``(band, down, right, v, u)``, NaN where less than the share `known` of a pixel's weight is.
        """
        rows = _weights(self.rows, down, width, self.ratio / self.block, self.fine.shape[1])
        columns = _weights(self.columns, right, width, self.ratio / self.block, self.fine.shape[2])
        layers = np.concatenate([self.fine, self.known])
        shape = len(layers), len(down), len(self.rows), len(right), len(self.columns)
        out = np.empty((len(layers), rows.shape[0], columns.shape[0]))
        for layer, image in zip(out, layers, strict=True):
            layer[:] = (columns @ (rows @ image).T).T
        total = out.reshape(shape).swapaxes(2, 3)
        weight = total[-1]
        return np.where(weight >= known, total[:-1] / np.maximum(weight, known), np.nan)


def _weights(centres: np.ndarray, away: np.ndarray, width: float, unit: float, size: int) -> Any:
    """Sparse ``(displacement * centre, size)``: a Gaussian over each pixel; what lies beyond the image is lost."""
    from scipy.sparse import csr_array
    from scipy.special import erf

    at = (centres - np.asarray(away)[:, None] * unit).ravel()  # content displaced by d was at p - d
    scale = max(width, 0.05) * unit * math.sqrt(2)
    first = np.floor(at - REACH * width * unit).astype(int)
    edges = first[:, None] + np.arange(math.ceil(2 * REACH * width * unit) + 3)
    below = erf((edges - at[:, None]) / scale)
    weights = np.diff(below, axis=1) / (below[:, -1:] - below[:, :1])
    pixels, row = edges[:, :-1], np.repeat(np.arange(len(at)), edges.shape[1] - 1).reshape(len(at), -1)
    inside = (pixels >= 0) & (pixels < size)
    return csr_array((weights[inside], (row[inside], pixels[inside])), shape=(len(at), size), dtype=np.float32)


def lay(moving: Scene, fixed: Scene) -> View:
    """Lay a coarse image over a fine one; FusionError where they do not go together."""
    check_together(moving, fixed)
    usable = [i for i in range(len(moving.bands)) if has_values(moving.data[i]) and has_values(fixed.data[i])]
    bands = usable or [0]
    to_fine = ~fixed.geobox.affine * moving.geobox.affine
    known = np.isfinite(fixed.data[bands]).all(axis=0)
    fine = fixed.data[bands]
    middle = np.array([image[known].mean(dtype=np.float64) if known.any() else 0 for image in fine], np.float32)
    fine = np.where(known, fine - middle[:, None, None], 0).astype(np.float32)
    coarse = moving.data[bands].astype(np.float64)
    coarse[:, ~np.isfinite(coarse).all(axis=0)] = np.nan
    rows, columns = _centres(to_fine, coarse.shape)
    return View(
        coarse=coarse,
        fine=fine,
        known=known[None].astype(np.float32),
        rows=rows,
        columns=columns,
        bands=tuple(moving.bands[i] for i in bands),
        middle=middle,
        block=1,
        ratio=max(to_fine.a, 1.0),
        step=1.0,
    )


def check_together(moving: Scene, fixed: Scene) -> None:
    """Raise FusionError unless bands, CRS and axes are alike."""
    if moving.bands != fixed.bands:
        raise FusionError(
            f"Aligning wants the same bands in both images, got {', '.join(moving.bands)} and "
            f"{', '.join(fixed.bands)}: select the common ones with scene.select(bands)."
        )
    to_fine = ~fixed.geobox.affine * moving.geobox.affine
    straight = (
        abs(to_fine.b) + abs(to_fine.d) < 1e-6 and to_fine.a > 0 and abs(to_fine.a - to_fine.e) < 0.02 * to_fine.a
    )
    if moving.geobox.crs != fixed.geobox.crs or not straight or to_fine.a < 0.9:
        raise FusionError(
            f"Aligning wants both images of {fixed.day} in one CRS, axes parallel and coarse pixels the larger ones, "
            f"got {moving.geobox.crs} and {fixed.geobox.crs} with {to_fine.a:.3g} x {to_fine.e:.3g} fine pixels "
            "per coarse pixel: bring the coarse image onto the fine image's CRS with scene.to(...)."
        )


def has_values(image: np.ndarray) -> bool:
    """Tell whether any pixel has a value."""
    return bool(np.isfinite(image).any())


def _centres(to_fine: Affine, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    return (
        to_fine.f + to_fine.e * (np.arange(shape[1]) + 0.5),
        to_fine.c + to_fine.a * (np.arange(shape[2]) + 0.5),
    )


def sampled(view: View, every: int, ratio: float) -> View:
    """Average `every x every` pixels of a coarse image that came interpolated, so that samples do not repeat."""
    shape = tuple(size // every for size in view.coarse.shape[1:])
    cut = view.coarse[:, : shape[0] * every, : shape[1] * every]
    return replace(
        view,
        coarse=cut.reshape(-1, shape[0], every, shape[1], every).mean(axis=(2, 4)),
        rows=view.rows[: shape[0] * every].reshape(-1, every).mean(axis=1),
        columns=view.columns[: shape[1] * every].reshape(-1, every).mean(axis=1),
        ratio=ratio,
        step=min(1.0, every * view.step * view.ratio / ratio),
    )


def averaged(view: View) -> View:
    """Average the fine image to about 8 pixels per coarse pixel: faster, and no less exact."""
    k = int(view.ratio // DETAIL)
    if k < 2:
        return view
    height, width = (size // k for size in view.known.shape[1:])

    def mean(image: np.ndarray) -> np.ndarray:
        cut = image[:, : height * k, : width * k].reshape(-1, height, k, width, k)
        return np.asarray(cut.mean(axis=(2, 4)), np.float32)

    known = mean(view.known)
    fine = mean(view.fine)
    return replace(view, fine=fine, known=known, rows=view.rows / k, columns=view.columns / k, block=k)


def at(view: View, place: Place, width: float, known: float = KNOWN) -> np.ndarray:
    """``(band, v, u)`` seen at one place."""
    return view.seen(np.array(place[:1]), np.array(place[1:]), width, known)[:, 0, 0]


def correlation(a: np.ndarray, b: np.ndarray, here: np.ndarray) -> np.ndarray:
    """Correlation over the last two axes of images that are 0 where not `here`; 0 where one does not vary."""
    count = np.maximum(here.sum((-2, -1)), 1)
    axes = (-2, -1)
    mean_a, mean_b = (image.sum(axes) / count for image in (a, b))
    cross = (a * b).sum(axes) / count - mean_a * mean_b
    power = ((a * a).sum(axes) / count - mean_a**2) * ((b * b).sum(axes) / count - mean_b**2)
    return np.where(power > 1e-16, cross / np.sqrt(np.maximum(power, 1e-16)), 0)


def likelihood(coarse: np.ndarray, seen: np.ndarray, least: float = 0) -> np.ndarray:
    """L of displacements: ``(band, v, u)`` and ``(band, place, v, u)`` -> ``(place,)``; -inf where few are left."""
    here = np.isfinite(coarse)[:, None] & np.isfinite(seen)
    enough = here[0].sum((-2, -1)) >= max(least, 3)
    r = np.clip(correlation(np.where(here, coarse[:, None], 0), np.where(here, seen, 0), here), -1, 1)
    values = -np.sign(r) / 2 * np.log(np.maximum(1 - r**2, ALMOST))
    return np.where(enough, values.sum(axis=0), -np.inf)


@dataclass(frozen=True, eq=False)
class Fit:
    """The model at one place: gain, offset and errors per band."""

    gain: np.ndarray  # (band,)
    offset: np.ndarray  # (band,)
    r: np.ndarray  # (band,)
    error: np.ndarray  # (band, v, u) in its own standard deviations, NaN = missing
    terms: np.ndarray  # (v, u) the pixel's part of the log-likelihood, NaN = missing


def fit(coarse: np.ndarray, seen: np.ndarray) -> Fit:
    """Regress coarse pixels on what is seen, ``(band, v, u)`` each."""
    here = np.isfinite(coarse[0]) & np.isfinite(seen[0])
    if here.sum() < 3:
        nothing = np.zeros(len(coarse))
        return Fit(nothing, nothing, nothing, np.full(coarse.shape, np.nan), np.full(coarse.shape[1:], np.nan))
    x, y = seen[:, here], coarse[:, here]
    mx, my = x.mean(1, keepdims=True), y.mean(1, keepdims=True)
    vx, vy, cov = ((a * b).mean(1) for a, b in ((x - mx, x - mx), (y - my, y - my), (x - mx, y - my)))
    gain = cov / np.maximum(vx, 1e-16)
    r = cov / np.sqrt(np.maximum(vx * vy, 1e-16))
    sd = np.sqrt(np.maximum(vy * (1 - r**2), ALMOST * np.maximum(vy, 1e-12)))
    error = np.full(coarse.shape, np.nan)
    error[:, here] = (y - my - gain[:, None] * (x - mx)) / sd[:, None]
    terms = -(error**2 / 2 + np.log(sd)[:, None, None]).sum(axis=0)
    return Fit(gain, (my - gain[:, None] * mx)[:, 0], r, error, terms)
