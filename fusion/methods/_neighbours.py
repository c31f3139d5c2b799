"""Most similar pixels: the mean over the n pixels of a window that resemble its centre most.

As in `_windows`, the kernel exists twice: compiled for the CPU and as torch operations for a GPU. Both compute the
scores in the same order of operations, never fusing a product into a sum, so that they choose the same pixels.
"""

from typing import Any

import numpy as np

from .._pulse import stop_if_asked
from ._device import device
from ._windows import _compiled_to_the_letter, in_strips

SLACK = 1e-6  # scores this close are equal: images are whole numbers x 1e-4, and their ties must survive rounding
ROOM = 4  # the first bound may let through so many times too many
ROUNDS = 16  # steps of the search for it; after them, it may let through any number
PLANES = 4  # values averaged at once
HUGE = 3e38  # above any score but the infinite one of a pixel that is no neighbour
MEMORY = 1 << 26  # scores that a GPU holds at once


def nearest_mean(
    features: np.ndarray,
    values: np.ndarray,
    *,
    window: int,
    count: int,
    distance: np.ndarray,
    gain: np.ndarray | None = None,
    tolerance: np.ndarray | None = None,
    square: bool = False,
) -> np.ndarray:
    """Mean over the `count` pixels of each window that are most similar to its centre.

    The dissimilarity of neighbour i and centre p is ``S = sum_f gain_f(p) |features_f(i) - features_f(p)|``; the
    `count` smallest count, with weight ``1 / distance(i - p)``, and with them all others whose S equals the largest
    of these within 1e-6, so that neither the order of the search nor rounding decides. The window is cut at the edge
    of the image.

    Parameters
    ----------
    features : numpy.ndarray
        ``(feature, y, x)`` float32 in which pixels are compared.
    values : numpy.ndarray
        ``(plane, y, x)`` float32 that are averaged. A pixel with a NaN in any feature or value is no neighbour.
    window : int
        Side of the window in pixels, odd.
    count : int
        Pixels to average; fewer where the window has fewer.
    distance : numpy.ndarray
        ``(window, window)`` float32 relative distances.
    gain : numpy.ndarray, optional
        ``(feature, y, x)`` float32 factors from 0 of the centre; 1 if not given.
    tolerance : numpy.ndarray, optional
        ``(feature,)`` float32: a neighbour differs from the centre in no feature by more.
    square : bool
        Sum the squares of the differences instead; then the square roots of S are equal within 1e-6.

    Returns
    -------
    numpy.ndarray
        ``(plane, y, x)`` float32; NaN where the centre has a NaN.
    """
    if device() != "cpu":
        return nearest_mean_torch(
            features, values, device(), window=window, count=count, distance=distance,
            gain=gain, tolerance=tolerance, square=square,
        )  # fmt: skip
    near, known_values = _known(features, values)
    half, (number, height, width) = window // 2, near.shape
    padded = np.full((number, height + 2 * half, width + 2 * half), np.nan, np.float32)
    padded[:, half : half + height, half : half + width] = near
    spread = np.zeros((height * width, -(-len(values) // PLANES) * PLANES), np.float32)
    spread[:, : len(values)] = known_values.reshape(len(values), -1).T
    out = np.empty_like(spread)
    plain = gain is None and tolerance is None and not square
    gains = np.ones_like(near) if gain is None else np.ascontiguousarray(gain, np.float32)
    most = np.full(number, np.inf, np.float32) if tolerance is None else np.asarray(tolerance, np.float32)
    closeness = np.ascontiguousarray(1 / distance, np.float32)

    def strip(start: int, stop: int) -> None:
        _mean_rows(start, stop, padded, spread, closeness, count, gains, most, square, plain, out)

    in_strips(strip, height)
    return np.ascontiguousarray(out.T[: len(values)]).reshape(values.shape)


def _known(features: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both as float32, with NaN in all features and 0 in all values of a pixel that has a NaN anywhere."""
    known = np.isfinite(features).all(axis=0) & np.isfinite(values).all(axis=0)
    return np.where(known, features, np.nan).astype(np.float32), np.where(known, values, 0).astype(np.float32)


# The untyped functions below are numba's, which infers the types. A pixel of a window costs, per feature, a difference,
# its absolute value and a sum, all vectorised: at 8 lanes and 3 operations a cycle 961 pixels x 6 features want 720
# cycles, .24 s per million centres at 3 GHz. The search for the limit then passes some four times over the scores.


@_compiled_to_the_letter
def _mean_rows(start, stop, padded, values, closeness, count, gains, most, square, plain, out):  # type: ignore[no-untyped-def]
    """Average rows start..stop; padded ``(feature, y, x)`` with margins of NaN, values and out ``(pixel, plane)``.

    Rows of a strip as high as the window are turned, so that any window of it is one contiguous run of pixels.
    """
    window = len(closeness)
    width, size, middle = padded.shape[2] - window + 1, window * window, window * window // 2
    strip = np.empty((padded.shape[0], padded.shape[2] * window), np.float32)
    scores, kept, index = np.empty(size, np.float32), np.empty(size, np.float32), np.empty(size, np.int32)
    near, step = closeness.T.copy().ravel(), np.empty(size, np.int32)
    for i in range(size):
        step[i] = (i % window - window // 2) * width + i // window - window // 2  # to the i-th pixel of a window
    gain = np.ones(padded.shape[0], np.float32)
    for y in range(start, stop):
        _turn(padded, y, window, strip)
        guess = np.float32(0)
        for x in range(width):
            centre = y * width + x
            if np.isnan(strip[0, x * window + middle]):
                out[centre] = np.nan
                continue
            if plain:
                _scores(strip, x * window, middle, scores)
            else:
                for f in range(len(gain)):
                    gain[f] = gains[f, y, x]
                _weighted_scores(strip, x * window, middle, gain, most, square, scores)
            bound = _bound(scores, count, guess)
            guess = bound if bound < np.float32(HUGE) else guess
            found = _most_similar(scores, count, bound, square, kept, index)
            _mean(values, centre, step, near, index, found, out)


@_compiled_to_the_letter
def _turn(padded, y, window, strip):  # type: ignore[no-untyped-def]
    """Copy `window` rows from y of each feature, column by column."""
    for f in range(padded.shape[0]):
        for x in range(padded.shape[2]):
            for dy in range(window):
                strip[f, x * window + dy] = padded[f, y + dy, x]


@_compiled_to_the_letter
def _scores(strip, first, middle, scores):  # type: ignore[no-untyped-def]
    """S of each pixel of a window that begins at `first`: sum over the features of the absolute differences."""
    for f in range(strip.shape[0]):
        row = strip[f, first : first + len(scores)]
        centre = row[middle]
        if f == 0:
            for i in range(len(scores)):
                scores[i] = abs(row[i] - centre)
        else:
            for i in range(len(scores)):
                scores[i] += abs(row[i] - centre)


@_compiled_to_the_letter
def _weighted_scores(strip, first, middle, gain, most, square, scores):  # type: ignore[no-untyped-def]
    """S with gains, tolerances or squares; infinite for a pixel that is too different or missing."""
    for f in range(strip.shape[0]):
        row = strip[f, first : first + len(scores)]
        centre, factor, limit = row[middle], gain[f], most[f]
        if f == 0:
            scores[:] = 0
        for i in range(len(scores)):
            difference = abs(row[i] - centre)
            term = difference * difference if square else difference
            scores[i] = scores[i] + factor * term if difference <= limit else np.float32(np.inf)


@_compiled_to_the_letter
def _bound(scores, count, guess):  # type: ignore[no-untyped-def]
    """Return a number that `count` scores or more, if possible few more, do not exceed; HUGE if there are fewer.

    The guess, best the bound of the neighbouring window, saves time and changes no result.
    """
    low, high, bound = np.float32(0), np.float32(HUGE), guess
    for n in range(ROUNDS):
        have = 0
        for i in range(len(scores)):
            have += scores[i] <= bound
        if have < count:
            low = bound
            if bound == high:
                return high
        elif have <= ROOM * count or bound == 0:
            return bound
        else:
            high = bound
        if high == np.float32(HUGE):
            bound = high if n == 2 else np.float32(8) * low + np.float32(SLACK)
        else:
            bound = np.float32(0.5) * (low + high) if high > SLACK else np.float32(0)  # zero: for a flat window
    return high


@_compiled_to_the_letter
def _most_similar(scores, count, bound, square, kept, index):  # type: ignore[no-untyped-def]
    """Write the indices of the `count` smallest scores, and of those equal to the last; return how many they are."""
    most, found = _widened(bound, square), 0
    for i in range(len(scores)):
        if scores[i] <= most:
            index[found] = i
            found += 1
    if found <= count or bound == 0:
        return found
    largest = np.float32(0)
    for j in range(found):
        kept[j] = scores[index[j]]
        largest = max(largest, kept[j])
    limit, chosen = _widened(_smallest(kept[:found], count, largest), square), 0
    for j in range(found):
        index[chosen] = index[j]
        chosen += kept[j] <= limit
    return chosen


@_compiled_to_the_letter
def _smallest(scores, count, high):  # type: ignore[no-untyped-def]
    """Return the `count`-th smallest score, of which `high` is an upper bound: bisection, then from score to score."""
    low = np.float32(0)
    for _ in range(ROUNDS):
        bound = np.float32(0.5) * (low + high)
        have = 0
        for i in range(len(scores)):
            have += scores[i] <= bound
        if have < count:
            low = bound
        else:
            high = bound
            if have == count:
                break
    while True:
        largest = np.float32(0)
        for i in range(len(scores)):
            if scores[i] <= high and scores[i] > largest:
                largest = scores[i]
        have = 0
        for i in range(len(scores)):
            have += scores[i] < largest
        if have < count:
            return largest
        high = np.nextafter(largest, np.float32(-1))


@_compiled_to_the_letter
def _mean(values, centre, step, near, index, found, out):  # type: ignore[no-untyped-def]
    """Weighted mean of the values at the indices of a window, four planes at once."""
    norm = np.float32(0)
    for n in range(found):
        norm += near[index[n]]
    for p in range(0, values.shape[1], PLANES):
        a, b, c, d = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
        for n in range(found):
            weight, here = near[index[n]], centre + step[index[n]]
            a += weight * values[here, p]
            b += weight * values[here, p + 1]
            c += weight * values[here, p + 2]
            d += weight * values[here, p + 3]
        out[centre, p], out[centre, p + 1], out[centre, p + 2], out[centre, p + 3] = (
            a / norm,
            b / norm,
            c / norm,
            d / norm,
        )


@_compiled_to_the_letter
def _widened(score, square):  # type: ignore[no-untyped-def]
    """Largest score that counts as equal."""
    if square:
        root = np.sqrt(score) + np.float32(SLACK)
        return root * root
    return score + np.float32(SLACK)


def nearest_mean_torch(
    features: np.ndarray,
    values: np.ndarray,
    on: str,
    *,
    window: int,
    count: int,
    distance: np.ndarray,
    gain: np.ndarray | None = None,
    tolerance: np.ndarray | None = None,
    square: bool = False,
) -> np.ndarray:
    """:func:`nearest_mean` as torch operations on the device `on`, in blocks of rows that fit into its memory."""
    import torch

    near, spread = _known(features, values)
    half, (_, height, width) = window // 2, near.shape
    windows, around = _torch_windows(near, window, np.nan, on), _torch_windows(spread, window, 0.0, on)
    gains = None if gain is None else torch.from_numpy(np.ascontiguousarray(gain, np.float32)).to(on)
    most = None if tolerance is None else np.asarray(tolerance, np.float32)
    closeness = torch.from_numpy((1 / distance).astype(np.float32)).to(on)
    out = np.empty_like(spread)
    rows = max(MEMORY // (window * window * width), 1)
    for y in range(0, height, rows):
        stop_if_asked()
        part = slice(y, min(y + rows, height))
        scores = _torch_scores(windows[:, part], None if gains is None else gains[:, part], most, square)
        last = scores.flatten(2).kthvalue(min(count, window * window)).values
        limit = (last.sqrt() + SLACK) ** 2 if square else last + SLACK
        weight = torch.where((scores <= limit[..., None, None]) & (scores < torch.inf), closeness, 0)
        norm = weight.sum((2, 3))
        for p in range(len(spread)):
            mean = (weight * around[p, part]).sum((2, 3)) / norm
            out[p, part] = torch.where(windows[0, part, :, half, half].isnan(), torch.nan, mean).cpu().numpy()
    return out


def _torch_windows(planes: np.ndarray, window: int, fill: float, on: str) -> Any:
    """Windows ``(plane, y, x, dy, dx)`` of planes ``(plane, y, x)``, as views."""
    import torch

    padded = torch.nn.functional.pad(torch.from_numpy(planes).to(on), (window // 2,) * 4, value=fill)
    return padded.unfold(1, window, 1).unfold(2, window, 1)


def _torch_scores(windows: Any, gains: Any, most: np.ndarray | None, square: bool) -> Any:
    """S ``(y, x, dy, dx)`` of windows ``(feature, y, x, dy, dx)``; infinite for a pixel that is no neighbour."""
    half = windows.shape[-1] // 2
    scores: Any = 0
    for f in range(len(windows)):
        term = (windows[f] - windows[f, :, :, half, half, None, None]).abs()
        too_far = term > float(most[f]) if most is not None else None
        term = term * term if square else term
        scores = scores + (term if gains is None else gains[f, :, :, None, None] * term)
        if too_far is not None:
            scores = scores.masked_fill(too_far, float("inf"))
    return scores.nan_to_num(nan=float("inf"), posinf=float("inf"))
