"""Classes: one seeded k-means of the fine image that every method working by class shares.

The classes depend on the values only, not on the order of pixels or bands, so that a turned image has turned classes
and every tile the classes of the whole. A class map that comes with the stack is used instead, whatever its labels.
"""

from collections.abc import Iterable

import numpy as np

from ..errors import FusionError
from ..stack import Stack
from ._windows import _compiled, in_strips

SAMPLE = 20_000  # distinct values that are clustered; the error of a mean of 2 000 is 2 % of its class's spread
STARTS = 4  # k-means++ beginnings; the best is kept
ROUNDS = 60  # iterations of one start at most
MOST = 100  # classes of a map; k-means is asked for fewer
PIECE = 1 << 20  # values looked at together while sampling


def centres(features: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Centres of k-means classes, darkest first.

    Parameters
    ----------
    features : numpy.ndarray
        ``(feature, y, x)`` float32; a pixel with a NaN is left out.
    count : int
        Classes wanted; fewer come back where there are fewer distinct values.
    seed : int
        Of the sample and of the starts.

    Returns
    -------
    numpy.ndarray
        ``(class, feature)`` float32; ``(0, feature)`` where every pixel has a NaN.

    Notes
    -----
    Of a large image a sample is clustered: its distinct values are hashed with the seed, and those with the lowest
    hashes are kept, each weighted by its number of pixels. The hash is symmetric in the features. The starts are
    k-means++ (Arthur & Vassilvitskii 2007), refined by Lloyd's iteration; sums are float64.
    """
    rows = max(PIECE // max(features.shape[0] * features.shape[2], 1), 1)
    return _cluster((features[:, y : y + rows] for y in range(0, features.shape[1], rows)), len(features), count, seed)


def stack_centres(stack: Stack, count: int, seed: int = 0) -> np.ndarray:
    """:func:`centres` of the :func:`features` of a stack, which are never held whole; none if it has a class map."""
    _, bands, height, width = stack.fine.shape
    if stack.classes is not None:
        return np.zeros((0, bands), np.float32)
    rows = max(PIECE // (bands * width * stack.ratio), 1) * stack.ratio
    return _cluster((features(stack[y : y + rows, :]) for y in range(0, height, rows)), bands, count, seed)


def assign(features: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """``(y, x)`` int16 class of the nearest centre, the first of equally near ones; -1 where a feature is missing."""
    _, height, width = features.shape
    out = np.full((height, width), -1, np.int16)
    order = _feature_order(centres)
    centres = np.ascontiguousarray(centres, np.float32)
    if len(centres):
        in_strips(lambda start, stop: _assign_rows(start, stop, features, centres, order, out), height)
    return out


def features(stack: Stack) -> np.ndarray:
    """``(feature, y, x)`` what pixels are classified by: all bands of the pair nearest in time to the target.

    Where a pixel misses a band there, the next nearest pair in which it has all bands takes its place.
    """
    order = sorted(range(len(stack.days)), key=lambda k: (abs(stack.days[k]), stack.days[k]))
    out: np.ndarray = stack.fine[order[0]]
    for k in order[1:]:
        gone = np.isnan(out).any(axis=0)
        if not gone.any():
            break
        whole = gone & ~np.isnan(stack.fine[k]).any(axis=0)
        out = np.where(whole, stack.fine[k], out)
    return out


def class_map(stack: Stack, centres: np.ndarray) -> np.ndarray:
    """``(y, x)`` int16 class of every fine pixel, -1 = unknown: the stack's own map, else by nearest centre."""
    return stack.classes if stack.classes is not None else assign(features(stack), centres)


def check_classes(stack: Stack, title: str) -> None:
    """Raise FusionError if the stack's own map has more classes than can be told apart."""
    if stack.classes is not None and (count := len(_seen(stack.classes))) > MOST:
        raise FusionError(
            f"{title} wants a class map of at most {MOST} classes, got {count}: merge classes, or leave the "
            "map out to have the fine image classified."
        )


def class_labels(stack: Stack, centres: np.ndarray) -> np.ndarray:
    """``(class,)`` int16 labels, in rising order: those that the stack's own map has, else the indices of centres."""
    return np.arange(len(centres), dtype=np.int16) if stack.classes is None else _seen(stack.classes)


def numbered_map(stack: Stack, centres: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """`class_map` with labels replaced by their indices in `labels`, which are the whole image's; other ones by -1."""
    classes = class_map(stack, centres)
    if np.array_equal(labels, np.arange(len(labels))):
        return classes
    number = np.full(1 << 16, -1, np.int16)  # the upper half is that of negative labels
    number[labels] = np.arange(len(labels))
    out: np.ndarray = number[classes]
    return out


def _seen(classes: np.ndarray) -> np.ndarray:
    """Labels from 0 that a map has."""
    seen = np.zeros(np.iinfo(np.int16).max + 1, bool)
    seen[classes[classes >= 0]] = True
    return np.flatnonzero(seen).astype(np.int16)


def fractions(classes: np.ndarray, count: int, ratio: int) -> np.ndarray:
    """``(class, y/ratio, x/ratio)`` float32 share of each class among the known fine pixels of a coarse pixel.

    NaN where a coarse pixel has no known fine pixel.
    """
    rows, columns = (size // ratio for size in classes.shape)
    out = np.zeros((rows, columns, count), np.float32)
    if count:
        in_strips(lambda start, stop: _count_rows(start, stop, classes, ratio, out), rows)
    with np.errstate(invalid="ignore"):
        out /= out.sum(axis=2, keepdims=True)
    return np.ascontiguousarray(np.moveaxis(out, 2, 0))


@_compiled
def _assign_rows(start, stop, features, centres, order, out):  # type: ignore[no-untyped-def] # numba infers
    """Classify rows; per pixel, feature and class one subtraction, multiplication and addition."""
    width = features.shape[2]
    distance = np.empty(width, np.float32)
    nearest = np.empty(width, np.float32)
    label = np.empty(width, np.int32)
    for y in range(start, stop):
        nearest[:] = np.inf
        label[:] = -1
        for c in range(centres.shape[0]):
            distance[:] = 0
            for f in order:
                row, at = features[f, y], centres[c, f]
                for x in range(width):
                    distance[x] += (row[x] - at) * (row[x] - at)
            for x in range(width):
                closer = distance[x] < nearest[x]
                label[x] = c if closer else label[x]
                nearest[x] = distance[x] if closer else nearest[x]
        for x in range(width):
            out[y, x] = label[x]


@_compiled
def _count_rows(start, stop, classes, ratio, out):  # type: ignore[no-untyped-def] # numba infers
    """Count the classes of rows of coarse pixels."""
    for v in range(start, stop):
        for y in range(v * ratio, (v + 1) * ratio):
            for u in range(out.shape[1]):
                for x in range(u * ratio, (u + 1) * ratio):
                    if classes[y, x] >= 0:
                        out[v, u, classes[y, x]] += 1


def _cluster(pieces: Iterable[np.ndarray], size: int, count: int, seed: int) -> np.ndarray:
    """Sample, then the best of several k-means, all in an order of features and points that is the data's own."""
    points, weight = _sample(pieces, size, seed)
    order = _feature_order(np.sort(points * weight[:, None], axis=0))
    points = points[:, order]
    row = np.lexsort(points.T[::-1])
    points, weight = points[row], weight[row]
    best, lowest = points[:0], np.inf
    random = np.random.default_rng(seed)
    for _ in range(STARTS if len(points) > count else 1):
        middle = _plus_plus(points, weight, min(count, len(points)), random)
        inertia = _lloyd(points, weight, middle)
        if inertia < lowest:
            best, lowest = middle, inertia
    best = best[np.lexsort((*best.T[::-1], best.sum(axis=1)))]
    out = np.empty(best.shape, np.float32)
    out[:, order] = best
    return out


def _feature_order(columns: np.ndarray) -> np.ndarray:
    """Order of features that goes with the features when they are put in another order."""
    return np.array(sorted(range(columns.shape[1]), key=lambda f: tuple(columns[:, f].tolist())), np.int64)


def _sample(pieces: Iterable[np.ndarray], size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The distinct values with the lowest hashes, ``(point, feature)`` float64, and their numbers of pixels.

    A value that is kept at the end was never above the limit on the way, so its number is exact.
    """
    keys, points, weight = np.zeros(0, np.uint64), np.zeros((0, size), np.float32), np.zeros(0, np.int64)
    limit = ~np.uint64(0)
    for piece in pieces:
        flat = np.ascontiguousarray(piece, np.float32).reshape(size, -1) + np.float32(0)  # -0 becomes 0
        key = _hash(flat, seed)
        take = (key <= limit) & ~np.isnan(flat).any(axis=0)
        keys = np.concatenate([keys, key[take]])
        points = np.concatenate([points, flat[:, take].T])
        weight = np.concatenate([weight, np.ones(int(take.sum()), np.int64)])
        distinct = np.unique(keys)
        if len(distinct) > SAMPLE:
            limit = distinct[SAMPLE - 1]
            keys, points, weight = (a[keys <= limit] for a in (keys, points, weight))
        keys, points, weight = _merged(keys, points, weight)
    return points.astype(np.float64), weight.astype(np.float64)


def _merged(keys: np.ndarray, points: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each distinct value once, sorted by key, with its numbers of pixels added up."""
    row = np.argsort(keys, kind="stable")
    same = keys[row[1:]] == keys[row[:-1]]
    if (points[row[1:][same]] != points[row[:-1][same]]).any():  # one hash of several values: the same in other order
        row = np.lexsort((*points.T, keys))
    keys, points, weight = keys[row], points[row], weight[row]
    new = np.ones(len(keys), bool)
    new[1:] = (keys[1:] != keys[:-1]) | (points[1:] != points[:-1]).any(axis=1)
    first = np.flatnonzero(new)
    return keys[first], points[first], np.add.reduceat(weight, first) if len(first) else weight


def _hash(flat: np.ndarray, seed: int) -> np.ndarray:
    """``(pixel,)`` uint64 of ``(feature, pixel)`` float32: mixed bits added over the features, and mixed again."""
    start = np.random.default_rng(seed).integers(0, 1 << 63, dtype=np.uint64)
    total = np.zeros(flat.shape[1], np.uint64)
    for plane in flat.view(np.uint32):
        total += _mix(plane.astype(np.uint64) ^ start)
    return _mix(total)


def _mix(z: np.ndarray) -> np.ndarray:
    """The finalizer of splitmix64 (Steele, Lea & Flood 2014, doi:10.1145/2660193.2660195)."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    out: np.ndarray = z ^ (z >> np.uint64(31))
    return out


def _plus_plus(points: np.ndarray, weight: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Starting centres: each next one drawn by its squared distance to the nearest chosen one."""
    chance, chosen = weight.copy(), np.empty((count, points.shape[1]))
    nearest = np.full(len(points), np.inf)
    for c in range(count):
        at = np.searchsorted(np.cumsum(chance), random.random() * chance.sum(), side="right")
        chosen[c] = points[min(at, np.flatnonzero(chance)[-1])]
        nearest = np.minimum(nearest, ((points - chosen[c]) ** 2).sum(axis=1))
        chance = weight * nearest
    return chosen


def _lloyd(points: np.ndarray, weight: np.ndarray, middle: np.ndarray) -> float:
    """Move the centres to the means of their points until none changes class; return the inertia."""
    label, state = np.full(len(points), -1, np.int64), np.zeros(2)
    for _ in range(ROUNDS):
        _round(points, weight, middle, label, state)
        if not state[1]:
            break
    return float(state[0])


@_compiled
def _round(points, weight, middle, label, state):  # type: ignore[no-untyped-def] # numba infers
    """One iteration in place; state: inertia, points that changed class."""
    count, size = middle.shape
    total, number = np.zeros((count, size)), np.zeros(count)
    state[:] = 0
    for i in range(points.shape[0]):
        nearest, at = np.inf, 0
        for c in range(count):
            distance = 0.0
            for f in range(size):
                distance += (points[i, f] - middle[c, f]) ** 2
            if distance < nearest:
                nearest, at = distance, c
        state[0] += weight[i] * nearest
        state[1] += label[i] != at
        label[i] = at
        number[at] += weight[i]
        for f in range(size):
            total[at, f] += weight[i] * points[i, f]
    for c in range(count):
        if number[c] > 0:  # a centre that lost all its points stays
            for f in range(size):
                middle[c, f] = total[c, f] / number[c]
