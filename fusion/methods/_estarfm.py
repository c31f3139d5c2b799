"""The window kernel of ESTARFM: sums over the similar neighbours of every pixel, for all bands at once.

Two forms of one kernel: compiled for the CPU with numba, and torch operations over window shifts for a GPU; tested to
agree. On the CPU the similarity test, which all bands share, compares 64 neighbours at once in 16 bits; only those
that pass are visited, and each adds one contiguous vector with the numbers of all bands to sums that stay in registers.

The floor with window 51, two pairs and 6 bands: the test takes three operations on 64 x 16 bits for each of 12 planes
and 51 rows, with vectors of 32 bytes 0.9 us a pixel on a core of 3 GHz that does three a cycle. A visit loads and adds
seven vectors of 8 floats, of which a core does two a cycle: 1.2 ns. `benchmarks/speed.py` prints what is reached.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .._pulse import stop_if_asked
from ._device import device
from ._vectors import LANES, PLAIN, WEIGHTED, WIDE, add_rows, count_bits, similar_bits
from ._windows import _compiled, distance_weights, in_strips

BLOCK = 64  # centres whose sums, and the row of neighbours they look at, are in the processor's first cache together
ROWS = 5  # of a window that are summed in 32 bits, before they are added in 64
TOP = 32767  # the highest level of a quantised fine image


@dataclass(frozen=True)
class Planes:
    """What the kernel reads, of the pairs that it works with.

    Parameters
    ----------
    levels : numpy.ndarray
        ``(plane, y, x)`` uint16, 0 to `TOP`: fine images of all pairs and bands; anything where not `known`.
    limits : numpy.ndarray
        ``(plane,)`` uint16: similar pixels differ by no more.
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
    pairs, bands, height, width = planes.fine.shape
    limits = np.append(planes.limits, np.uint16(0))
    near = np.zeros((window, -(-window // WIDE) * WIDE), np.float32)
    near[:, :window] = 1 / distance_weights(window, window / 2)
    shape = Shape(window, width, (pairs + 4) * bands, pairs * bands + 1)

    def strip(start: int, stop: int) -> None:
        if not wanted[start:stop].any():
            return
        levels, table = _strip(planes, start - window // 2, stop + window // 2, shape)
        count = np.zeros((stop - start, width), np.int32)
        sums = np.zeros((stop - start, width, shape.size))
        _sum_rows(levels, limits, table, near, wanted[start:stop], shape, count, sums)
        use(start, stop, Sums.of(count, shape.planes(sums), pairs))

    in_strips(strip, height)


class Shape(NamedTuple):
    """How the arrays of a strip are laid out."""

    window: int
    width: int
    plain: int  # numbers of a pixel that are summed as they are
    weighted: int  # numbers that are summed with weights

    @property
    def vectors(self) -> tuple[int, int]:
        """Vectors that hold the plain and the weighted numbers."""
        return -(-self.plain // LANES), -(-self.weighted // LANES)

    @property
    def size(self) -> int:
        """Numbers of a pixel in the table, with those that fill up vectors."""
        return LANES * sum(self.vectors)

    @property
    def columns(self) -> int:
        """Pixels in a row of levels: a comparison reads WIDE of them from any neighbour on."""
        return self.width - 1 + -(-self.window // WIDE) * WIDE

    def planes(self, sums: np.ndarray) -> np.ndarray:
        """Sums ``(y, x, size)`` as planes ``(plane, y, x)``."""
        first = LANES * self.vectors[0]
        parts = sums[..., : self.plain], sums[..., first : first + self.weighted]
        return np.concatenate([np.moveaxis(part, -1, 0) for part in parts])


def _strip(planes: Planes, start: int, stop: int, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """Rows of levels ``(plane, y, x)``, the last plane 0 where known, else 1; and the table ``(y, x, size)``."""
    half, height, width = shape.window // 2, *planes.known.shape
    rows, cut = stop - start, slice(max(start, 0), min(stop, height))
    inside = (slice(cut.start - start, cut.stop - start), slice(half, half + width))
    levels = np.ones((len(planes.levels) + 1, rows, shape.columns), np.uint16)
    levels[:-1, *inside], levels[-1, *inside] = planes.levels[:, cut], ~planes.known[cut]
    table = np.zeros((rows, width + 2 * half, shape.size), np.float32)
    _fill_table(
        planes.fine[:, :, cut], planes.coarse[:, :, cut], planes.change[:, :, cut], planes.quality[cut],
        planes.known[cut], planes.mean_fine, planes.mean_coarse, LANES * shape.vectors[0], table[inside],
    )  # fmt: skip
    return levels, table


@_compiled
def _fill_table(fine, coarse, change, quality, known, mean_fine, mean_coarse, first, table):  # type: ignore[no-untyped-def]
    """Write what each pixel adds: C_k, F, CC, CF, FF by band; from `first` on (C_2 - C_k) / (1 - R), 1 / (1 - R)."""
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
                    row[first + k * bands + b] = change[k, b, y, x] * q
                row[pairs * bands + b] = sum_f
                row[(pairs + 1) * bands + b] = sum_cc
                row[(pairs + 2) * bands + b] = sum_cf
                row[(pairs + 3) * bands + b] = sum_ff
            row[first + pairs * bands] = q


def _sum_rows(
    levels: np.ndarray,
    limits: np.ndarray,
    table: np.ndarray,
    near: np.ndarray,
    wanted: np.ndarray,
    shape: Shape,
    count: np.ndarray,
    sums: np.ndarray,
) -> None:
    """Sum the rows `wanted` of a strip into ``count (y, x)`` and ``sums (y, x, size)``."""
    _sum_blocks(
        levels.ravel(), levels.shape[1] * levels.shape[2], shape.columns, limits, table.ravel(), table.shape[1],
        near.ravel(), shape.window, wanted, *shape.vectors, count, sums,
    )  # fmt: skip


@_compiled
def _sum_blocks(  # type: ignore[no-untyped-def]
    levels, stride, columns, limits, table, pixels, near, window, wanted, plain, weighted, count, sums
):
    """Sum a strip, block of columns by block, so that what they look at stays in the processor's second cache."""
    (height, width, size), half, planes = sums.shape, window // 2, len(limits)
    least, most = np.empty(BLOCK * planes, np.uint16), (2 * limits).astype(np.uint16)
    part, across = np.zeros(BLOCK * size, np.float32), len(near) // window
    for x0 in range(0, width, BLOCK):
        block = min(BLOCK, width - x0)
        for y in range(height):
            if not wanted[y, x0 : x0 + block].any():
                continue
            for x in range(block):
                for q in range(planes):
                    centre = levels[q * stride + (y + half) * columns + x0 + half + x]
                    least[x * planes + q] = centre - limits[q]
            for row in range(window):
                for x in range(block):
                    if not wanted[y, x0 + x]:
                        continue
                    for dx in range(0, window, WIDE):
                        first = (y + row) * columns + x0 + x + dx
                        bits = similar_bits(levels, first, stride, least, x * planes, most, planes)
                        if window - dx < WIDE:
                            bits &= (np.uint64(1) << np.uint64(window - dx)) - np.uint64(1)
                        if bits:
                            count[y, x0 + x] += count_bits(bits)
                            first = ((y + row) * pixels + x0 + x + dx) * size
                            _add(bits, table, first, size, near, row * across + dx, part, x * size, plain, weighted)
                if row % ROWS == ROWS - 1 or row == window - 1:
                    for x in range(block):
                        for q in range(size):
                            sums[y, x0 + x, q] += part[x * size + q]
                    part[:] = 0


@_compiled
def _add(bits, table, first, size, near, at, total, to, plain, weighted):  # type: ignore[no-untyped-def]
    """Add the numbers of the pixels found; all in one walk where the processor has registers enough."""
    if plain <= PLAIN and weighted <= WEIGHTED:
        add_rows(bits, table, first, size, near, at, total, to, plain, weighted)
        return
    for p in range(0, plain, PLAIN):
        add_rows(bits, table, first + p * LANES, size, near, at, total, to + p * LANES, min(PLAIN, plain - p), 0)
    for w in range(plain, plain + weighted, WEIGHTED):
        some = min(WEIGHTED, plain + weighted - w)
        add_rows(bits, table, first + w * LANES, size, near, at, total, to + w * LANES, 0, some)


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
