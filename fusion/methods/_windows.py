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

from ..errors import FusionError
from ._device import device
from ._pulse import stop_if_asked

STRIP = 16  # rows between two looks at whether to stop
FASTMATH = {"contract", "nsz", "arcp"}  # freer rounding; NaN keeps its meaning


def distance_weights(window: int, scale: float) -> np.ndarray:
    """``(window, window)`` relative distance 1 + d / scale from the centre, d in pixels."""
    offset = np.arange(window) - window // 2
    return (1 + np.hypot(offset[:, None], offset[None, :]) / scale).astype(np.float32)


def similar_sum(
    value: np.ndarray,
    fine: np.ndarray,
    weight: np.ndarray,
    gates: tuple[np.ndarray, np.ndarray],
    limits: tuple[np.ndarray, np.ndarray],
    tolerance: np.ndarray,
    distance: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Sum over the similar neighbours of every pixel, over all pairs.

    For centre p, neighbour i and pair k the neighbour counts if ``|fine_k(i) - fine_k(p)| <= tolerance_k``,
    ``gates[0]_k(i) < limits[0](p)`` and ``gates[1]_k(i) < limits[1](p)``; its weight is
    ``weight_k(i) / distance(i - p)``. A pixel with weight 0 never counts.

    Parameters
    ----------
    value, fine, weight : numpy.ndarray
        ``(pair, y, x)`` float32; NaN in `fine` excludes a pixel.
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
        return similar_sum_torch(value, fine, weight, gates, limits, tolerance, distance, device())
    pairs, height, width = fine.shape
    half = distance.shape[0] // 2
    planes = np.zeros((pairs, 5, height, width + 2 * half), np.float32)  # zero weight: the margin never counts
    for plane, source in enumerate((fine, *gates, weight, value)):
        planes[:, plane, :, half : half + width] = source
    out = np.empty((2, height, width), np.float32)

    def strip(start: int, stop: int) -> None:
        _similar_rows(start, stop, planes, np.stack(limits), tolerance, 1 / distance, out)

    in_strips(strip, height)
    return out[0], out[1]


def _compiled(function: Callable[..., None]) -> Callable[..., None]:
    """Compile a kernel that runs beside Python; the first call of a type of arguments takes seconds.

    numba keeps the result on disk beside this file or in the user's cache folder. Where it may write into neither, as
    in a container with a read-only file system, it raises RuntimeError; then every process compiles anew.
    """
    try:
        return numba.njit(nogil=True, cache=True, fastmath=FASTMATH)(function)
    except RuntimeError:
        return numba.njit(nogil=True, fastmath=FASTMATH)(function)


@_compiled
def _similar_rows(start, stop, planes, limits, tolerance, closeness, out):  # type: ignore[no-untyped-def] # numba infers
    """Sum rows start..stop; planes ``(pair, [fine, gate, gate, weight, value], y, x with margin)``.

    One array of planes, one buffer and three short loops: with more arrays, or two of them written in one loop, the
    compiler gives up on vectorising, which costs a factor of ten.
    """
    pairs, _, height, padded = planes.shape
    half = closeness.shape[0] // 2
    width = padded - 2 * half
    share = np.empty(width, np.float32)
    for y in range(start, stop):
        total = np.zeros((2, width), np.float32)
        for k in range(pairs):
            centre = planes[k, 0, y, half : half + width]
            most = tolerance[k]
            for yy in range(max(y - half, 0), min(y + half + 1, height)):
                for dx in range(2 * half + 1):
                    near = closeness[yy - y + half, dx]
                    for x in range(width):
                        counts = (
                            (abs(planes[k, 0, yy, x + dx] - centre[x]) <= most)
                            & (planes[k, 1, yy, x + dx] < limits[0, y, x])
                            & (planes[k, 2, yy, x + dx] < limits[1, y, x])
                        )
                        share[x] = planes[k, 3, yy, x + dx] * near if counts else np.float32(0)
                    for x in range(width):
                        total[0, x] += share[x] * planes[k, 4, yy, x + dx]
                    for x in range(width):
                        total[1, x] += share[x]
        out[0, y], out[1, y] = total[0], total[1]


def similar_sum_torch(
    value: np.ndarray,
    fine: np.ndarray,
    weight: np.ndarray,
    gates: tuple[np.ndarray, np.ndarray],
    limits: tuple[np.ndarray, np.ndarray],
    tolerance: np.ndarray,
    distance: np.ndarray,
    on: str,
) -> tuple[np.ndarray, np.ndarray]:
    """:func:`similar_sum` as torch operations on the device `on`."""
    import torch

    planes: list[Any] = [torch.from_numpy(np.ascontiguousarray(a)).to(on) for a in (value, fine, weight, *gates)]
    centre, low, high = planes[1], *(torch.from_numpy(np.ascontiguousarray(a)).to(on) for a in limits)
    total, norm = torch.zeros_like(low), torch.zeros_like(low)
    height, width = fine.shape[1:]
    half = distance.shape[0] // 2
    for k in range(len(fine)):
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
