"""The window kernel of ESTARFM: sums over the similar neighbours of every pixel, for all bands at once.

Two forms of one kernel: compiled for the CPU with numba, and torch operations over window shifts for a GPU; tested to
agree. On the CPU the similarity test, which all bands share, writes a mask of 16-bit comparisons along rows; only
neighbours that pass are visited, and each adds one contiguous vector with the planes of all bands.

The floor with window 51, two pairs and 6 bands, on one core whose nearest cache gives 156 GB/s: the test reads
2601 x 12 levels of 2 bytes for each pixel, 0.4 us, and takes 1.3 us; to list those that pass takes up to 1.5 us. A
visit adds 49 floats, 1.3 ns, and takes 4.7 to 6 ns: the vectors come from the second cache, and each four ask whether
arrays overlap. With all else (interpolation, means, regression, 1.5 us) that is 0.55 CPU seconds per megapixel and
band, and 1 to 1.3 more for each thousand similar neighbours. Tried and left: vectors spelled in LLVM (visits 15 to 35 %
faster), matrix products of masks (3 us for any number of neighbours with AVX-512, twice that with AVX2, and the masks
to be written), sums in 64 bits throughout (a third slower), one window row after the other (no gain).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._device import device
from ._pulse import stop_if_asked
from ._windows import _compiled, distance_weights, in_strips

BLOCK = 256  # centres whose masks and lists of neighbours are in the processor's cache together
GROUP = 4  # neighbours that are added at a time
CHUNK = 64 * GROUP  # neighbours that are summed in 32 bits
TOP = 32767  # the highest level of a quantised fine image


@dataclass(frozen=True)
class Planes:
    """What the kernel reads, of the pairs that it works with.

    Parameters
    ----------
    levels : numpy.ndarray
        ``(plane, y, x)`` uint16, 0 to `TOP`: fine images of all pairs and bands; anything where not `known`.
    limits : numpy.ndarray
        ``(plane,)`` uint16: most that similar pixels differ by.
    known : numpy.ndarray
        ``(y, x)`` bool: valid in all images of these pairs and in the target.
    fine, coarse, change : numpy.ndarray
        ``(pair, band, y, x)`` float32: F_k, C_k and C_2 - C_k.
    quality : numpy.ndarray
        ``(y, x)`` float32, 1 / (1 - R).
    mean_fine, mean_coarse : numpy.ndarray
        ``(band,)`` float32, subtracted before squares are summed, because float32 would lose them.
    """

    levels: np.ndarray
    limits: np.ndarray
    known: np.ndarray
    fine: np.ndarray
    coarse: np.ndarray
    change: np.ndarray
    quality: np.ndarray
    mean_fine: np.ndarray
    mean_coarse: np.ndarray


@dataclass(frozen=True)
class Sums:
    """Sums over the similar neighbours; the coarse and fine values are less their whole-image means."""

    count: np.ndarray  # (y, x) similar neighbours, the centre with them
    c: np.ndarray  # (pair, band, y, x) of C_k
    f: np.ndarray  # (band, y, x) of F over all pairs, like the next three
    cc: np.ndarray
    cf: np.ndarray
    ff: np.ndarray
    change: np.ndarray  # (pair, band, y, x) of (C_2 - C_k) / D
    weight: np.ndarray  # (y, x) of 1 / D

    @classmethod
    def of(cls, count: np.ndarray, sums: np.ndarray, pairs: int) -> "Sums":
        """Name the planes ``(plane, y, x)`` that a kernel wrote."""
        bands = (len(sums) - 1) // (2 * pairs + 4)
        c, f, cc, cf, ff, change, weight = np.split(sums, np.cumsum([pairs * bands, *[bands] * 4, pairs * bands]))
        c, change = (part.reshape(pairs, bands, *count.shape) for part in (c, change))
        return cls(count, c, f, cc, cf, ff, change, weight[0])


Use = Callable[[int, int, Sums], None]


def similar_sums(planes: Planes, wanted: np.ndarray, window: int, use: Use) -> None:
    """Sum over the similar neighbours of the pixels ``wanted``; `use` gets ``(start, stop, sums)`` of strips of rows.

    A neighbour is similar if it is known and differs by no more than the limit in every plane of levels.
    """
    if device() != "cpu":
        use(0, len(wanted), similar_sums_torch(planes, wanted, window, device()))
        return
    pairs, _, height, width = planes.fine.shape
    half, padded = window // 2, width + window - 1
    near = np.zeros((window, padded), np.float32)  # the strides of a window's rows, so that one index serves both
    near[:, :window] = 1 / distance_weights(window, window / 2) - 1  # for t / d = t + (1 / d - 1) t
    weighted = np.zeros(planes.fine.shape[1] * (2 * pairs + 4) + 1, np.float32)
    weighted[planes.fine.shape[1] * (pairs + 4) :] = 1

    def strip(start: int, stop: int) -> None:
        if not wanted[start:stop].any():
            return
        levels, known, table = _strip(planes, start - half, stop + half, half)
        count = np.zeros((stop - start, width), np.int32)
        sums = np.zeros((stop - start, width, table.shape[1]))
        _sum_rows(levels, planes.limits, known, table, near.ravel(), weighted, wanted[start:stop], window, count, sums)
        use(start, stop, Sums.of(count, np.ascontiguousarray(np.moveaxis(sums, -1, 0)), pairs))

    in_strips(strip, height)


def _strip(planes: Planes, start: int, stop: int, half: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of the planes with a margin where nothing is known, and the table: one vector for each pixel."""
    pairs, bands, height, width = planes.fine.shape
    rows, cut = stop - start, slice(max(start, 0), min(stop, height))
    inside = (slice(cut.start - start, cut.stop - start), slice(half, half + width))
    levels = np.zeros((len(planes.levels), rows, width + 2 * half), np.uint16)
    known = np.zeros((rows, width + 2 * half), np.uint8)
    levels[:, *inside], known[inside] = planes.levels[:, cut], planes.known[cut]
    table = np.zeros((rows * known.shape[1] + 1, bands * (2 * pairs + 4) + 1), np.float32)  # the last row stays zero
    _fill_table(
        planes.fine[:, :, cut], planes.coarse[:, :, cut], planes.change[:, :, cut], planes.quality[cut],
        planes.known[cut], planes.mean_fine, planes.mean_coarse,
        table[:-1].reshape(*known.shape, -1)[inside],
    )  # fmt: skip
    return levels, known, table


@_compiled
def _fill_table(fine, coarse, change, quality, known, mean_fine, mean_coarse, table):  # type: ignore[no-untyped-def]
    """Write what each pixel adds to the sums: C_k, F, CC, CF, FF by band, then (C_2 - C_k) / (1 - R), 1 / (1 - R)."""
    pairs, bands, height, width = fine.shape
    for y in range(height):
        for x in range(width):
            if not known[y, x]:
                continue
            q = quality[y, x]
            row = table[y, x]
            for b in range(bands):
                sum_f = sum_cc = sum_cf = sum_ff = np.float32(0)
                for k in range(pairs):
                    c, f = coarse[k, b, y, x] - mean_coarse[b], fine[k, b, y, x] - mean_fine[b]
                    row[k * bands + b] = c
                    sum_f, sum_cc, sum_cf, sum_ff = sum_f + f, sum_cc + c * c, sum_cf + c * f, sum_ff + f * f
                    row[(pairs + 4 + k) * bands + b] = change[k, b, y, x] * q
                row[pairs * bands + b] = sum_f
                row[(pairs + 1) * bands + b] = sum_cc
                row[(pairs + 2) * bands + b] = sum_cf
                row[(pairs + 3) * bands + b] = sum_ff
            row[(2 * pairs + 4) * bands] = q


@_compiled
def _sum_rows(levels, limits, known, table, near, weighted, wanted, window, count, sums):  # type: ignore[no-untyped-def]
    """Sum rows; the arrays of neighbours have a margin of half a window on all sides."""
    height, width = wanted.shape
    padded, half = known.shape[1], window // 2
    flat, part = table.ravel(), np.empty(table.shape[1], np.float32)
    mask, some = np.empty((window, BLOCK), np.uint8), np.empty(BLOCK, np.uint8)
    low = np.empty((len(levels), BLOCK), np.uint16)
    found = np.empty((BLOCK, window * window + GROUP), np.int32)
    number = np.empty(BLOCK, np.int64)
    for y in range(height):
        for x0 in range(0, width, BLOCK):
            block = min(BLOCK, width - x0)
            if not wanted[y, x0 : x0 + block].any():
                continue
            for q in range(len(levels)):
                for x in range(block):
                    low[q, x] = levels[q, y + half, x0 + half + x] - limits[q]
            number[:] = 0
            for yy in range(y, y + window):
                _mask_row(levels, known, yy, x0, low, limits, window, block, mask, some)
                for x in range(block):
                    if some[x] and wanted[y, x0 + x]:
                        n, first, mine = np.uint64(number[x]), yy * padded + x0 + x, found[x]
                        for dx in range(window):  # without a branch: what does not count is written over
                            mine[n] = first + dx
                            n += mask[dx, x]
                        number[x] = n
            for x in range(block):
                n, total = number[x], sums[y, x0 + x]
                count[y, x0 + x] = n
                found[x, n : n + GROUP] = len(table) - 1
                for j in range(0, n, CHUNK):
                    part[:] = 0
                    _add(flat, found[x, j:], min(CHUNK, n - j), near, y * padded + x0 + x, weighted, part)
                    for q in range(len(part)):
                        total[q] += part[q]


@_compiled
def _mask_row(levels, known, yy, x0, low, limits, window, block, mask, some):  # type: ignore[no-untyped-def]
    """Write which neighbours in row yy of a block of centres are similar, ``mask[dx, x]``, and ``some[x]`` if any is.

    ``level - (centre - limit)``, in 16 bits that wrap, is at most twice the limit just where levels differ by no more
    than the limit: one subtraction and one comparison. Levels of 15 bits never wrap into that range.
    """
    some[:] = 0
    for dx in range(window):
        similar, valid = mask[dx], known[yy, x0 + dx : x0 + dx + block]
        for x in range(block):
            similar[x] = valid[x]
    for q in range(len(limits)):
        least, most = low[q], np.uint16(2 * limits[q])
        for dx in range(window):
            similar, plane = mask[dx], levels[q, yy, x0 + dx : x0 + dx + block]
            for x in range(block):
                similar[x] &= np.uint16(plane[x] - least[x]) <= most
    for dx in range(window):
        similar = mask[dx]
        for x in range(block):
            some[x] |= similar[x]


@_compiled
def _add(flat, found, number, near, corner, weighted, part):  # type: ignore[no-untyped-def]
    """Add the vectors of the neighbours found, four at a time; behind the last one the list goes on with zeros.

    One loop over all planes, of which `weighted` says 1 where `near` counts and 0 elsewhere: two loops would be slower,
    for each begins by asking whether its arrays overlap.
    """
    size, last = np.uint64(len(part)), len(near) - 1
    for j in range(0, number, GROUP):
        i0, i1, i2, i3 = found[j], found[j + 1], found[j + 2], found[j + 3]
        w0, w1 = near[min(i0 - corner, last)], near[min(i1 - corner, last)]
        w2, w3 = near[min(i2 - corner, last)], near[min(i3 - corner, last)]
        o0, o1, o2, o3 = np.uint64(i0) * size, np.uint64(i1) * size, np.uint64(i2) * size, np.uint64(i3) * size
        for plane in range(len(part)):
            q = np.uint64(plane)  # numba asks of a signed sum whether it is negative
            t0, t1, t2, t3 = flat[o0 + q], flat[o1 + q], flat[o2 + q], flat[o3 + q]
            part[q] += ((t0 + t1) + (t2 + t3)) + weighted[q] * ((w0 * t0 + w1 * t1) + (w2 * t2 + w3 * t3))


def similar_fine(planes: Planes, points: np.ndarray, window: int) -> np.ndarray:
    """Weighted mean of F_k over the similar neighbours of a few points ``(point, [y, x])``: ``(pair, band, point)``."""
    out = np.zeros((len(points), planes.fine[:, :, 0, 0].size))
    near = 1 / distance_weights(window, window / 2)
    flat = planes.fine.reshape(-1, *planes.known.shape)
    _mean_fine(planes.levels, planes.limits, planes.known, planes.quality, flat, near, points, out)
    return np.moveaxis(out.reshape(len(points), *planes.fine.shape[:2]), 0, -1)


@_compiled
def _mean_fine(levels, limits, known, quality, fine, near, points, out):  # type: ignore[no-untyped-def]
    height, width = known.shape
    half = len(near) // 2
    for p in range(len(points)):
        y, x = points[p]
        norm = 0.0
        for yy in range(max(y - half, 0), min(y + half + 1, height)):
            for xx in range(max(x - half, 0), min(x + half + 1, width)):
                similar = known[yy, xx]
                for q in range(len(limits)):
                    if not similar:
                        break
                    similar = abs(np.int64(levels[q, yy, xx]) - np.int64(levels[q, y, x])) <= limits[q]
                if similar:
                    share = quality[yy, xx] * near[yy - y + half, xx - x + half]
                    norm += share
                    for q in range(len(fine)):
                        out[p, q] += share * fine[q, yy, xx]
        out[p] /= norm


def similar_sums_torch(planes: Planes, wanted: np.ndarray, window: int, on: str) -> Sums:
    """Sums of :func:`similar_sums` for all pixels, as torch operations on the device `on`."""
    import torch

    def there(array: np.ndarray) -> Any:
        return torch.from_numpy(np.ascontiguousarray(array)).to(on)

    pairs, _, height, width = planes.fine.shape
    levels = there(np.where(planes.known, planes.levels.astype(np.int32), 3 * TOP))  # 3 TOP: far from every level
    limits = there(planes.limits.astype(np.int32))[:, None, None]
    known, quality = there(planes.known), there(planes.quality)
    c = there(planes.coarse - planes.mean_coarse[:, None, None])
    f = there(planes.fine - planes.mean_fine[:, None, None])
    change = there(planes.change) * quality
    plain = torch.cat([c.flatten(0, 1), f.sum(0), (c * c).sum(0), (c * f).sum(0), (f * f).sum(0)])
    weighted = torch.cat([change.flatten(0, 1), quality[None]])
    plain, weighted = (torch.where(known, table, 0) for table in (plain, weighted))
    count = torch.zeros((height, width), dtype=torch.int32, device=on)
    row = torch.zeros((len(plain) + len(weighted), height, width), device=on)  # of the window, in 32 bits
    sums = torch.zeros_like(row, dtype=torch.float64)
    distance, half = distance_weights(window, window / 2), window // 2
    for dy in range(-half, half + 1):
        stop_if_asked()
        for dx in range(-half, half + 1):
            y, x = (slice(max(0, -d), min(n, n - d)) for d, n in ((dy, height), (dx, width)))
            if y.start >= y.stop or x.start >= x.stop:
                continue
            yy, xx = slice(y.start + dy, y.stop + dy), slice(x.start + dx, x.stop + dx)
            similar = ((levels[:, yy, xx] - levels[:, y, x]).abs() <= limits).all(0)
            count[y, x] += similar
            row[: len(plain), y, x] += plain[:, yy, xx] * similar
            row[len(plain) :, y, x] += weighted[:, yy, xx] * (similar / float(distance[dy + half, dx + half]))
        sums += row
        row.zero_()
    use = there(wanted) & known
    return Sums.of((count * use).cpu().numpy(), (sums * use).cpu().numpy(), pairs)
