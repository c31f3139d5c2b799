"""Moving windows: the loop that weighted-neighbour methods share.

Every kernel exists twice: compiled for the CPU with numba (rows in threads, inner loop over contiguous x) and as
torch operations over window shifts for a GPU. Both walk the window in the same order and are tested to agree.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import numba
import numpy as np

from .._pulse import stop_if_asked
from ..errors import FusionError
from ._device import device

STRIP = 16  # rows between two looks at whether to stop
TOGETHER = 3  # neighbours that the inner loop visits at once
FASTMATH = {"contract", "nsz", "arcp"}  # freer rounding; NaN keeps its meaning


def distance_weights(window: int, scale: float) -> np.ndarray:
    """``(window, window)`` relative distance 1 + d / scale from the centre, d in pixels."""
    offset = np.arange(window) - window // 2
    return (1 + np.hypot(offset[:, None], offset[None, :]) / scale).astype(np.float32)


def similar_sum(
    value: np.ndarray,
    like: np.ndarray,
    weight: np.ndarray,
    gates: tuple[np.ndarray, np.ndarray],
    limits: tuple[np.ndarray, np.ndarray],
    tolerance: np.ndarray,
    distance: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Sum over the similar neighbours of every pixel, over all pairs.

    For centre p, neighbour i and pair k the neighbour counts if ``|like_k(i) - like_k(p)| <= tolerance_k``,
    ``gates[0]_k(i) < limits[0](p)`` and ``gates[1]_k(i) < limits[1](p)``; its weight is
    ``weight_k(i) / distance(i - p)``. A pixel with weight 0 never counts.

    Parameters
    ----------
    value, like, weight : numpy.ndarray
        ``(pair, y, x)`` float32; NaN in `like`, which may be a reflectance or the number of a class, excludes a pixel.
    gates : pair of numpy.ndarray
        ``(pair, y, x)`` float32.
    limits : pair of numpy.ndarray
        ``(y, x)`` float32.
    tolerance : numpy.ndarray
        ``(pair,)`` float32.
    distance : numpy.ndarray
        ``(window, window)`` float32.

    Returns
    -------
    total, norm : numpy.ndarray
        ``(y, x)`` float32 sums of weight * value and of weight.
    """
    if device() != "cpu":
        return similar_sum_torch(value, like, weight, gates, limits, tolerance, distance, device())
    pairs, height, width = like.shape
    window = len(distance)
    half, more = window // 2, -window % TOGETHER
    # Zero weight: neither the margin nor a neighbour beyond the window ever counts.
    planes = np.zeros((pairs, 5, height, width + 2 * half + more), np.float32)
    for plane, source in enumerate((like, *gates, weight, value)):
        planes[:, plane, :, half : half + width] = source
    most, near = np.stack(limits), np.pad(1 / distance, ((0, 0), (0, more)))
    out = np.empty((2, height, width), np.float32)
    in_strips(lambda start, stop: _similar_rows(start, stop, planes, most, tolerance, near, out), height)
    return out[0], out[1]


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a kernel that runs beside Python; the first call of a type of arguments takes seconds.

    numba keeps the result on disk beside this file or in the user's cache folder. Where it may write into neither, as
    in a container with a read-only file system, it raises RuntimeError; then every process compiles anew.
    """
    return _jit(function, FASTMATH)


def _compiled_to_the_letter(function: Callable[..., Any]) -> Callable[..., Any]:
    """:func:`_compiled` for a kernel whose rounding must not depend on the processor: nothing is fused."""
    return _jit(function, set())


def _jit(function: Callable[..., Any], fastmath: set[str]) -> Callable[..., Any]:
    try:
        return numba.njit(nogil=True, cache=True, fastmath=fastmath)(function)
    except RuntimeError:  # no folder to cache in
        return numba.njit(nogil=True, fastmath=fastmath)(function)


@_compiled
def _share(x, like, s, t, weight, centre, tolerance, most_s, most_t):  # type: ignore[no-untyped-def] # numba infers
    """Weight of the neighbour at x if it counts, else 0.

    Everything is loaded before anything is asked: loads that depend on a condition are vectorised by few processors.
    """
    heavy, similar, pure, still = weight[x], abs(like[x] - centre) <= tolerance, s[x] < most_s, t[x] < most_t
    return heavy if similar & pure & still else np.float32(0)


@_compiled
def _similar_rows(start, stop, planes, limits, tolerance, near, out):  # type: ignore[no-untyped-def] # numba infers
    """Sum rows start..stop; planes ``(pair, [like, gate, gate, weight, value], y, x with margin)``.

    A neighbour costs three comparisons, a difference and its sign, a multiplication and two sums: at 8 operations, 8
    lanes and 3 operations a cycle a window of 51 x 51 wants 0.3 s of a core of 3 GHz per million pixels and pair. To
    load and store the sums for every neighbour takes longer than that, so TOGETHER = 3 of them share one loop.
    """
    window, height, width = near.shape[0], planes.shape[2], limits.shape[2]
    half = window // 2
    for y in range(start, stop):
        total, norm = np.zeros(width, np.float32), np.zeros(width, np.float32)
        most_s, most_t = limits[0, y], limits[1, y]
        for k in range(planes.shape[0]):
            centre, most = planes[k, 0, y, half : half + width], tolerance[k]
            for yy in range(max(y - half, 0), min(y + half + 1, height)):
                row = near[yy - y + half]
                for dx in range(0, window, TOGETHER):
                    near0, near1, near2 = row[dx], row[dx + 1], row[dx + 2]
                    like, s, t = planes[k, 0, yy, dx:], planes[k, 1, yy, dx:], planes[k, 2, yy, dx:]
                    weight, value = planes[k, 3, yy, dx:], planes[k, 4, yy, dx:]
                    for x in range(width):
                        share0 = near0 * _share(x, like, s, t, weight, centre[x], most, most_s[x], most_t[x])
                        share1 = near1 * _share(x + 1, like, s, t, weight, centre[x], most, most_s[x], most_t[x])
                        share2 = near2 * _share(x + 2, like, s, t, weight, centre[x], most, most_s[x], most_t[x])
                        total[x] += share0 * value[x] + share1 * value[x + 1] + share2 * value[x + 2]
                        norm[x] += share0 + share1 + share2
        out[0, y], out[1, y] = total, norm


def similar_sum_torch(
    value: np.ndarray,
    like: np.ndarray,
    weight: np.ndarray,
    gates: tuple[np.ndarray, np.ndarray],
    limits: tuple[np.ndarray, np.ndarray],
    tolerance: np.ndarray,
    distance: np.ndarray,
    on: str,
) -> tuple[np.ndarray, np.ndarray]:
    """:func:`similar_sum` as torch operations on the device `on`."""
    import torch

    planes: list[Any] = [torch.from_numpy(np.ascontiguousarray(a)).to(on) for a in (value, like, weight, *gates)]
    centre, low, high = planes[1], *(torch.from_numpy(np.ascontiguousarray(a)).to(on) for a in limits)
    total, norm = torch.zeros_like(low), torch.zeros_like(low)
    height, width = like.shape[1:]
    half = distance.shape[0] // 2
    for k in range(len(like)):
        for dy in range(-half, half + 1):
            stop_if_asked()
            for dx in range(-half, half + 1):
                y, x = (slice(max(0, -d), min(n, n - d)) for d, n in ((dy, height), (dx, width)))
                if y.start >= y.stop or x.start >= x.stop:
                    continue
                yy, xx = slice(y.start + dy, y.stop + dy), slice(x.start + dx, x.stop + dx)
                v, f, w, g0, g1 = (plane[k, yy, xx] for plane in planes)
                counts = (f - centre[k, y, x]).abs() <= float(tolerance[k])
                counts &= (g0 < low[y, x]) & (g1 < high[y, x])
                share = torch.where(counts, w / float(distance[dy + half, dx + half]), 0)
                total[y, x] += share * v
                norm[y, x] += share
    return total.cpu().numpy(), norm.cpu().numpy()


def in_strips(work: Callable[[int, int], None], rows: int) -> None:
    """Call ``work(start, stop)`` for strips of rows in threads; stops between strips when asked to."""

    def one(start: int) -> None:
        stop_if_asked()
        work(start, min(start + STRIP, rows))

    with ThreadPoolExecutor(threads()) as pool:
        for future in [pool.submit(copy_context().run, one, start) for start in range(0, rows, STRIP)]:
            future.result()


def threads() -> int:
    """Threads a kernel may use: the environment variable ``FUSION_THREADS``, else all processors.

    Raises
    ------
    FusionError
        If ``FUSION_THREADS`` is no whole number from 1.
    """
    text = os.environ.get("FUSION_THREADS", "").strip()
    if not text:
        return os.cpu_count() or 1
    if not (text.isascii() and text.isdigit() and len(text) < 6 and int(text)):
        raise FusionError(f"FUSION_THREADS wants a whole number from 1, got {text!r}: set it so, or unset it.")
    return int(text)
