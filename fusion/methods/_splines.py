"""Thin plate splines through the centres of coarse pixels, evaluated at the centres of fine pixels.

One spline through all coarse pixels costs the cube of their number. But far data hardly matter: their weight falls
exponentially with distance. So each coarse pixel gets a spline of its own through its neighbourhood, and a fine pixel
blends the splines of the coarse pixels around it with weights that fall smoothly to zero one coarse pixel away. The
blend passes through every centre, has no jumps in value or slope, and does not know where a tile ends.

Floor: away from gaps and edges all neighbourhoods are alike, so one small matrix serves them all; a fine pixel costs
four products with 52 numbers, 0.2 thousand multiplications, next to nothing.
"""

from typing import NamedTuple

import numpy as np

from .._pulse import stop_if_asked

HALF = 3  # 7 x 7 coarse pixels; with 5 x 5 the error against the spline through all is five times as large
SIDE = 2 * HALF + 1
BATCH = 4096  # coarse pixels worked on at once
SLACK = 1e-10  # a single row of centres says nothing of the slope across it; this makes it 0


def thin_plate(coarse: np.ndarray, ratio: int) -> np.ndarray:
    """Interpolate coarse pixels by local thin plate splines.

    The spline of a coarse pixel passes through all known ones of its neighbourhood, which is cut at the edge of the
    image. Only known pixels have a spline, and a fine pixel inside a missing coarse pixel is missing, so clouds
    neither leak nor grow.

    Parameters
    ----------
    coarse : numpy.ndarray
        ``(band, y, x)``, NaN = missing.
    ratio : int
        Fine pixels per coarse pixel; 1 gives the coarse pixels themselves.

    Returns
    -------
    numpy.ndarray
        ``(band, y * ratio, x * ratio)`` float32.

    Notes
    -----
    With nodes X_i in coarse pixels, phi(d) = d^2 ln d and P = (1, y, x), the surface ``sum_i l_i phi(|p - X_i|) +
    P(p) c`` with ``K l + P c = v`` and ``P' l = 0`` bends least of all that pass through the values v (Duchon 1977).

    References
    ----------
    Duchon 1977, doi:10.1007/BFb0086566
    """
    if ratio == 1:
        return np.array(coarse, np.float32)
    bands, rows, columns = coarse.shape
    out = np.full((bands, rows, ratio, columns, ratio), np.nan, np.float32)
    known = np.isfinite(coarse)
    patches = _patches(ratio)
    for mask in np.unique(known.reshape(bands, -1), axis=0).reshape(-1, rows, columns):
        alike = np.flatnonzero((known == mask).all(axis=(1, 2)))  # bands with the same gaps share their systems
        norm = np.zeros((rows + 2, ratio, columns + 2, ratio), np.float32)
        for patch in patches:
            norm[patch.place(0, rows, columns)] += mask[:, None, :, None] * patch.hat[:, None]
        for b, surface in zip(alike, _surfaces(np.where(mask, coarse[alike], 0), mask, patches, ratio), strict=True):
            np.divide(surface, norm[1:-1, :, 1:-1], out=out[b], where=mask[:, None, :, None])
    return out.reshape(bands, rows * ratio, columns * ratio)


def reach(ratio: int) -> int:
    """Context in fine pixels that :func:`thin_plate` needs around a tile."""
    return 0 if ratio == 1 else (HALF + 1) * ratio


class Patch(NamedTuple):
    """The splines' contribution to fine pixels of their own coarse pixel, or of one of the eight around it."""

    step: tuple[int, int]  # which coarse pixel
    part: tuple[slice, slice]  # its fine pixels that are less than one coarse pixel away
    basis: np.ndarray  # (coefficient, pixel), times the hat
    hat: np.ndarray  # (y, x) weight of the blend

    def place(self, top: int, bottom: int, columns: int) -> tuple[slice, slice, slice, slice]:
        """Where the patches of rows of coarse pixels belong in ``(row + 2, y, column + 2, x)``."""
        (dy, dx), (y, x) = self.step, self.part
        return slice(top + 1 + dy, bottom + 1 + dy), y, slice(1 + dx, 1 + dx + columns), x


def _patches(ratio: int) -> list[Patch]:
    out = []
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            (y, ys), (x, xs) = (_near(d, ratio) for d in (dy, dx))
            hat = np.outer(_hat(ys), _hat(xs))
            basis = _basis(*(a.ravel() for a in np.meshgrid(ys, xs, indexing="ij")))
            out.append(Patch((dy, dx), (y, x), (basis * hat.reshape(-1, 1)).T.copy(), hat.astype(np.float32)))
    return out


def _near(step: int, ratio: int) -> tuple[slice, np.ndarray]:
    """Fine pixels of a coarse pixel `step` away that are less than one coarse pixel from the centre; their offsets."""
    offset = (2 * np.arange(ratio) + 1 - ratio) / (2 * ratio) + step
    near = np.flatnonzero(np.abs(offset) < 1)
    return slice(int(near[0]), int(near[-1]) + 1), offset[near]


def _hat(offset: np.ndarray) -> np.ndarray:
    """Weight that is 1 at 0, flat there and at 1, and adds up to 1 with its neighbour's."""
    t = np.abs(offset)
    return np.asarray(1 - 3 * t**2 + 2 * t**3)


def _nodes() -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[-HALF : HALF + 1, -HALF : HALF + 1].reshape(2, -1)
    return y, x


def _basis(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """``(point, coefficient)``: phi of the distance to every node, then 1, y and x."""
    nodes = _nodes()
    square = (y[:, None] - nodes[0]) ** 2 + (x[:, None] - nodes[1]) ** 2
    phi = 0.5 * square * np.log(np.where(square > 0, square, 1))
    return np.column_stack([phi, np.ones_like(y), y, x])


def _surfaces(values: np.ndarray, mask: np.ndarray, patches: list[Patch], ratio: int) -> np.ndarray:
    """``(band, row, y, column, x)`` sums of hat times spline; `values` are 0 where `mask` is False."""
    bands, rows, columns = values.shape
    total = np.zeros((bands, rows + 2, ratio, columns + 2, ratio), np.float32)
    padded, there = (np.pad(a, [(0, 0)] * (a.ndim - 2) + [(HALF, HALF)] * 2) for a in (values.astype(np.float64), mask))
    step = max(1, BATCH // columns)
    for top in range(0, rows, step):
        stop_if_asked()
        bottom = min(top + step, rows)
        around = slice(top, bottom + 2 * HALF)
        factors = _coefficients(_windows(padded[:, around]), _windows(there[around]))
        for band, each in zip(total, factors, strict=True):
            for patch in patches:
                piece = (each @ patch.basis).reshape(bottom - top, columns, *patch.hat.shape)
                band[patch.place(top, bottom, columns)] += piece.swapaxes(1, 2)
    return total[:, 1:-1, :, 1:-1]


def _windows(padded: np.ndarray) -> np.ndarray:
    """``(..., coarse pixel, node)``: the neighbourhood of every coarse pixel."""
    windows = np.lib.stride_tricks.sliding_window_view(padded, (SIDE, SIDE), axis=(-2, -1))
    return windows.reshape(*padded.shape[:-2], -1, SIDE**2)


def _coefficients(values: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Solve for the spline of every coarse pixel: ``(band, coarse pixel, coefficient)``, 0 where it is missing."""
    bands, _, nodes = values.shape
    system = _system(np.ones((1, nodes), bool))[0]
    out = values @ np.linalg.inv(system)[:, :nodes].T
    out[:, ~there[:, nodes // 2]] = 0
    cut = np.flatnonzero(there[:, nodes // 2] & ~there.all(axis=1))
    for some in np.array_split(cut, len(cut) // 256 + 1):
        right = np.zeros((len(some), nodes + 3, bands))
        right[:, :nodes] = values[:, some].transpose(1, 2, 0)
        out[:, some] = np.linalg.solve(_system(there[some]), right).transpose(2, 0, 1)
    return out


def _system(there: np.ndarray) -> np.ndarray:
    """Matrices ``[K P; P' -SLACK]`` of neighbourhoods; the coefficient of a missing node is its value, 0."""
    nodes = there.shape[1]
    basis = _basis(*_nodes())
    out = np.zeros((len(there), nodes + 3, nodes + 3))
    out[:, :nodes] = basis * there[:, :, None]
    out[:, :, :nodes] = out[:, :, :nodes] * there[:, None, :]
    out[:, nodes:, :nodes] = basis[:, nodes:].T * there[:, None, :]
    diagonal = np.arange(nodes + 3)
    out[:, diagonal, diagonal] = np.column_stack([~there, np.full((len(there), 3), -SLACK)])
    return out
