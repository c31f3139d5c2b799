"""Unmixing: what the classes of a moving window of coarse pixels measured, from what those pixels measured.

A coarse pixel is taken for the mean of its classes, weighted by their shares. A window of coarse pixels gives more
equations than it has classes, and is solved for one value per class and band.

The floor, per coarse pixel with k classes and m planes in a window of n x n: sums that slide over the window, twice
(row and column) an addition and a subtraction for each of k (k + 1) / 2 + k m + k numbers; one solution of k^3 / 6 +
k^2 m multiplications. With m = 6 and ratio 16 that is about .2 operations per fine pixel and band for k = 4 (STRUM's
default), 3 for k = 20 (UBDF's); classifying (3 k per fine pixel and band) and writing (4 bytes) cost more.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..stack import Stack
from ._classes import class_labels, fractions, numbered_map, stack_centres
from ._windows import _compiled, in_strips

Solver = Literal["bayesian", "bounded"]

LEAST = 0.1  # a class that fills less of every coarse pixel of a window is not solved for
PURITY = 8  # power of the share by which coarse pixels count in a prior: half pure 0.4 %, 90 % pure 43 %
RIDGE = 1e-4  # pull to the prior in a bounded solution: decides where the window does not
PIECE = 1 << 20  # fine pixels classified together when looking at a whole image


@dataclass(frozen=True, eq=False)
class Mixture:
    """Facts of the whole image: its classes, and what each is expected to be.

    Parameters
    ----------
    centres : numpy.ndarray
        ``(class, feature)`` of the k-means; none where the stack has a class map.
    labels : numpy.ndarray
        ``(class,)`` the map's label of each class.
    prior : numpy.ndarray
        ``(plane, class)`` float64 expected value.
    limits : numpy.ndarray
        ``(plane, 2)`` float64 lowest and highest value that a bounded solution may take.
    """

    centres: np.ndarray
    labels: np.ndarray
    prior: np.ndarray
    limits: np.ndarray

    def classes(self, stack: Stack) -> np.ndarray:
        """``(y, x)`` int16 class from 0, -1 = unknown."""
        return numbered_map(stack, self.centres, self.labels)


def survey(stack: Stack, values: np.ndarray, count: int) -> Mixture:
    """Look at a whole image: classes of the fine pixels, priors and range of ``(plane, v, u)`` coarse values.

    The prior is the mean of the coarse values weighted by the class's share to the power PURITY, so that the purest
    coarse pixels make it however pure they are; of a class that no known pixel holds, it is the mean of all.
    """
    centres = stack_centres(stack, count)
    labels = class_labels(stack, centres)
    total, weight = np.zeros((2, len(values), len(labels)))
    rows = max(PIECE // (stack.fine.shape[3] * stack.ratio), 1)
    for v in range(0, values.shape[1], rows):
        part = stack[v * stack.ratio : (v + rows) * stack.ratio, :]
        share = fractions(numbered_map(part, centres, labels), len(labels), stack.ratio).astype(np.float64)
        pure, here = np.where(np.isnan(share), 0, share) ** PURITY, values[:, v : v + rows]
        total += np.einsum("cvu,pvu->pc", pure, np.where(np.isnan(here), 0, here))
        weight += np.einsum("cvu,pvu->pc", pure, np.isfinite(here).astype(np.float64))
    known = np.isfinite(values)
    mean = np.where(known, values, 0).sum(axis=(1, 2), dtype=np.float64) / np.maximum(known.sum(axis=(1, 2)), 1)
    prior = np.divide(total, weight, out=np.repeat(mean[:, None], len(labels), axis=1), where=weight > 0)
    low, high = (
        end(values, axis=(1, 2), where=known, initial=start) for end, start in ((np.min, np.inf), (np.max, -np.inf))
    )
    return Mixture(centres, labels, prior, np.stack([low, high], axis=1).astype(np.float64))


def unmix(stack: Stack, values: np.ndarray, mixture: Mixture, window: int, solver: Solver, noise: float) -> np.ndarray:
    """Value of each fine pixel's class in the window around its coarse pixel.

    Parameters
    ----------
    stack : Stack
        Its fine pixels are classified.
    values : numpy.ndarray
        ``(plane, v, u)`` what is unmixed; NaN = missing.
    mixture : Mixture
        Facts of the whole image.
    window : int
        Side of the window in coarse pixels.
    solver : {"bayesian", "bounded"}
        How the equations of a window are solved.
    noise : float
        Standard deviation of the coarse values relative to that of the prior, for the Bayesian solution.

    Returns
    -------
    numpy.ndarray
        ``(plane, y, x)`` float32; the coarse value itself where the class is unknown, NaN where that is missing.
    """
    classes = mixture.classes(stack)
    share = np.moveaxis(fractions(classes, len(mixture.labels), stack.ratio), 0, 2).astype(np.float64)
    ridge = noise**2 if solver == "bayesian" else RIDGE
    out = np.empty((len(values), *classes.shape), np.float32)
    for planes in _alike(values):
        limits = mixture.limits[planes] if solver == "bounded" else np.zeros((0, 2))
        problem = (np.moveaxis(values[planes], 0, 2).astype(np.float64), share, mixture.prior[planes].T, limits)
        out[planes] = _unmix(*problem, classes, window // 2, ridge)
    return out


def _unmix(
    value: np.ndarray,
    share: np.ndarray,
    prior: np.ndarray,
    limits: np.ndarray,
    classes: np.ndarray,
    half: int,
    ridge: float,
) -> np.ndarray:
    """Unmix planes that miss the same coarse pixels: ``(v, u, plane)`` to ``(plane, y, x)``."""
    known = np.isfinite(value[..., :1]) & np.isfinite(share).all(axis=2, keepdims=True)
    share = np.where(known, share, 0)
    rest = np.where(known, value - share @ prior, 0)  # what the prior does not explain
    out = np.empty((value.shape[2], *classes.shape), np.float32)

    def strip(start: int, stop: int) -> None:
        solution = np.empty((stop - start, share.shape[1], *prior.shape))
        _solve_rows(start, stop, share, rest, prior, limits, half, ridge, solution)
        _spread_rows(start, stop, classes, len(classes) // len(share), solution, value, out)

    in_strips(strip, len(share))
    return out


def _alike(values: np.ndarray) -> list[list[int]]:
    """Planes grouped by the coarse pixels that they miss."""
    groups: dict[bytes, list[int]] = {}
    for plane, missing in enumerate(np.isnan(values)):
        groups.setdefault(np.packbits(missing).tobytes(), []).append(plane)
    return list(groups.values())


@_compiled
def _solve_rows(start, stop, share, rest, prior, limits, half, ridge, out):  # type: ignore[no-untyped-def] # numba infers
    """Solve the windows around rows start..stop of coarse pixels; without limits the solution is Bayesian.

    The sums over a window of A^T A, A^T r and of pixels that hold enough of each class slide: first down the columns,
    then along the row.
    """
    height, width, size = share.shape
    planes = rest.shape[2]
    pairs = size * (size + 1) // 2
    column = np.zeros((width, pairs + size * planes + size))
    total = np.empty(column.shape[1])
    normal, right = np.empty((size, size)), np.empty((size, planes))
    for v in range(max(start - half, 0), min(start + half, height)):
        _add_row(share[v], rest[v], 1.0, column)
    for v in range(start, stop):
        if v + half < height:
            _add_row(share[v + half], rest[v + half], 1.0, column)
        if v > start and v - half - 1 >= 0:
            _add_row(share[v - half - 1], rest[v - half - 1], -1.0, column)
        total[:] = 0
        for u in range(min(half, width)):
            total += column[u]
        for u in range(width):
            if u + half < width:
                total += column[u + half]
            if u - half - 1 >= 0:
                total -= column[u - half - 1]
            held = np.flatnonzero(total[pairs + size * planes :] > 0.5)
            out[v - start, u] = prior
            _equations(total, held, size, ridge, normal, right)
            if len(limits):
                for p in range(planes):
                    low, high = limits[p, 0] - prior[held, p], limits[p, 1] - prior[held, p]
                    _bounded(normal[: len(held), : len(held)], right[: len(held), p], low, high)
            else:
                _factor(normal[: len(held), : len(held)])
                for p in range(planes):
                    _substitute(normal[: len(held), : len(held)], right[: len(held), p])
            for p in range(planes):
                for i in range(len(held)):
                    out[v - start, u, held[i], p] += right[i, p]


@_compiled
def _add_row(share, rest, sign, column):  # type: ignore[no-untyped-def] # numba infers
    """Add what each coarse pixel of a row says to the sums of its column."""
    size, planes = share.shape[1], rest.shape[1]
    for u in range(share.shape[0]):
        at = 0
        for i in range(size):
            for j in range(i + 1):
                column[u, at] += sign * share[u, i] * share[u, j]
                at += 1
        for i in range(size):
            for p in range(planes):
                column[u, at] += sign * share[u, i] * rest[u, p]
                at += 1
        for i in range(size):
            if share[u, i] >= LEAST:
                column[u, at] += sign
            at += 1


@_compiled
def _equations(total, held, size, ridge, normal, right):  # type: ignore[no-untyped-def] # numba infers
    """Unpack the sums of a window: A^T A + ridge I and A^T r of the classes that it holds."""
    pairs, planes = size * (size + 1) // 2, right.shape[1]
    for a in range(len(held)):
        i = held[a]
        for b in range(a + 1):
            normal[a, b] = total[i * (i + 1) // 2 + held[b]]
            normal[b, a] = normal[a, b]
        normal[a, a] += ridge
        for p in range(planes):
            right[a, p] = total[pairs + i * planes + p]


@_compiled
def _factor(matrix):  # type: ignore[no-untyped-def] # numba infers
    """Cholesky's factor in the lower half, in place."""
    for j in range(len(matrix)):
        for i in range(j, len(matrix)):
            for c in range(j):
                matrix[i, j] -= matrix[i, c] * matrix[j, c]
            if i == j:
                matrix[j, j] = np.sqrt(matrix[j, j])
            else:
                matrix[i, j] /= matrix[j, j]


@_compiled
def _substitute(factor, right):  # type: ignore[no-untyped-def] # numba infers
    """Solve factor factor^T x = right in place."""
    size = len(factor)
    for i in range(size):
        for c in range(i):
            right[i] -= factor[i, c] * right[c]
        right[i] /= factor[i, i]
    for i in range(size - 1, -1, -1):
        for c in range(i + 1, size):
            right[i] -= factor[c, i] * right[c]
        right[i] /= factor[i, i]


@_compiled
def _bounded(normal, right, low, high):  # type: ignore[no-untyped-def] # numba infers
    """Minimise x^T normal x / 2 - right^T x within low <= x <= high by an active set, in place of right.

    The unknowns that are free take their unbounded optimum as far as the bounds allow; one that meets its bound stays
    there until the gradient pulls it back in (Stark & Parker 1995). All start free, for most windows meet no bound.
    """
    size = len(right)
    x = np.minimum(np.maximum(np.zeros(size), low), high)
    free = np.ones(size, np.bool_)
    for _ in range(10 * size + 10):
        _descend(normal, right, low, high, x, free)
        most, at = 1e-12, -1
        for i in range(size):
            if not free[i]:
                pull = right[i]
                for j in range(size):
                    pull -= normal[i, j] * x[j]
                inward = pull if x[i] <= low[i] else -pull
                if low[i] < high[i] and inward > most:
                    most, at = inward, i
        if at < 0:
            break
        free[at] = True
    right[:] = x


@_compiled
def _descend(normal, right, low, high, x, free):  # type: ignore[no-untyped-def] # numba infers
    """Move the free unknowns to their optimum; whichever meets a bound first is fixed there, and the others go on."""
    while True:
        which = np.flatnonzero(free)
        matrix, goal = np.empty((len(which), len(which))), np.empty(len(which))
        for a in range(len(which)):
            goal[a] = right[which[a]]
            for j in range(len(x)):
                if not free[j]:
                    goal[a] -= normal[which[a], j] * x[j]
            for b in range(len(which)):
                matrix[a, b] = normal[which[a], which[b]]
        _factor(matrix)
        _substitute(matrix, goal)
        step, at = 1.0, -1
        for a in range(len(which)):
            i = which[a]
            bound = low[i] if goal[a] < low[i] else high[i]
            if goal[a] < low[i] or goal[a] > high[i]:
                way = (bound - x[i]) / (goal[a] - x[i])
                if at < 0 or way < step:
                    step, at = way, i
        for a in range(len(which)):
            i = which[a]
            x[i] = min(max(x[i] + step * (goal[a] - x[i]), low[i]), high[i])
        if at < 0:
            return
        x[at] = low[at] if x[at] - low[at] < high[at] - x[at] else high[at]
        free[at] = False


@_compiled
def _spread_rows(start, stop, classes, ratio, solution, value, out):  # type: ignore[no-untyped-def] # numba infers
    """Write to the fine pixels of coarse rows start..stop what their classes measured."""
    for v in range(start, stop):
        for y in range(v * ratio, (v + 1) * ratio):
            for p in range(out.shape[0]):
                for u in range(value.shape[1]):
                    here = value[v, u, p]
                    for x in range(u * ratio, (u + 1) * ratio):
                        at = classes[y, x]
                        got = solution[v - start, u, at, p] if at >= 0 else here
                        out[p, y, x] = got if here == here else np.nan
