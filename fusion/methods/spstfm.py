"""SPSTFM: sparse codes of coarse change patches, read with a dictionary of fine ones."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from .._pulse import report, stop_if_asked
from ..stack import Stack
from . import Method, param, register
from ._device import device
from ._grids import reach, upsample
from ._sparse import Dictionary, overlapped, overlapped_torch, train

STRIP = 512  # rows searched for training patches at a time, in fine pixels


@register
@dataclass(frozen=True)
class Spstfm(Method):
    """Learns from two pairs how fine change looks where the coarse image changes in a certain way.

    The difference of the two fine images is cut into small patches, and so is that of the two coarse images. Two
    dictionaries of typical patches, a coarse and a fine one, are learned together, so that a mixture of few coarse
    patches and the same mixture of their fine partners describe one place. For the target day only the coarse change
    is known: it is written as such a mixture, and the fine partners tell the fine change. This is done from every
    pair, and the pair that changed least since its day counts most. It needs two pairs that differ much as the target
    does from either; with patches smaller than a coarse pixel it mostly learns how far to trust the coarse detail.

    Notes
    -----
    With X_31 = F_3 - F_1 and Y_31 = up(C_3 - C_1) of the two days around the target, patches without their means::

        min |Y_31 - D_l A|^2 + |X_31 - D_h A|^2   with at most `sparsity` atoms in each column of A
        X_2k = mean(Y_2k) + D_h a,   a the code of Y_2k = up(C_2 - C_k) in D_l
        F_2  = sum_k w_k (F_k + X_2k) / sum_k w_k,   w_k = 1 / (v_k^2 + noise^2)

    where v_k is the root mean square of C_2 - C_k over the patch and the bands, and overlapping patches are averaged.
    Patches lie about half their size apart, at the same places in every coarse pixel.

    Departures. (1) The paper codes patches with their mean. The ratio of the mean changes that two days show is no
    law for a third, for two sensors differ by an offset as well as by a factor, and with it we found errors up to a
    fifth larger; so the mean change is taken as the coarse image has it. (2) Days are weighted by the change of all
    bands together, squared and not as it is: the best mean of two predictions whose errors grow with change, and
    steadier than one band's. (3) An atom stands for its eight turned copies: 32 atoms are the paper's 256, and a
    turned scene has a turned answer. (4) Codes are found from Y alone, by orthogonal matching pursuit, in training as
    in prediction; in the equation above those of training see X too, which prediction cannot. (5) All atoms are fitted
    at once (method of optimal directions), and the fine ones are drawn towards the coarse ones by the weight of one
    patch, so that little is made of little data. (6) Codes have at most `sparsity` atoms where the paper's have an L1
    penalty. (7) The paper takes one day alone where the changes since both differ much; here squared weights do much
    the same. (8) All pairs take part; the two around the target train. Training
    patches are drawn by a hash of their own values: seeded, and independent of their order.

    Of the six per cent by which its error is below that of `delta` in the mean over real scenes, the weights bring
    five and the dictionaries one: more atoms, samples or sparsity change less than half a per cent.

    A missing pixel counts as the mean of its patch. Floor: 7 multiply-adds per pixel, pair, band and atom at ratio 16,
    for the products of patches and atoms (0.1 s per megapixel for two pairs and 32 atoms in double precision); training
    takes the same time whatever the size of the scene.
    """

    title = "SPSTFM"
    paper = "Huang & Song 2012, IEEE TGRS 50(10), doi:10.1109/TGRS.2012.2186638"
    family = "learning"
    pairs = 2
    departs: ClassVar = {
        "offset": "the weights of the days depend on how much the coarse image changed",
        "bands": "the weights of the days come from the change of all bands together",
    }

    patch: int = param(7, doc="Side of a patch.", unit="fine pixels", low=3, high=15, odd=True)
    atoms: int = param(32, doc="Patches in the dictionary, each of which stands for its 8 turns.", low=1, high=256)
    sparsity: int = param(3, doc="Atoms mixed for one patch.", low=1, high=6)
    samples: int = param(2000, doc="Training patches per band.", low=50, high=20_000)
    noise: float = param(0.01, doc="Change below which days count alike.", unit="reflectance", low=1e-4, high=1)

    def halo(self, ratio: int) -> int:
        """Patches that hold a pixel, and the reach of the interpolation, in fine pixels."""
        return self.patch - 1 + reach(ratio, "bilinear")

    def prepare(self, stack: Stack) -> list[Dictionary | None]:
        """Dictionaries of every band, from the two days around the target; None where no coarse change is seen."""
        both = stack.select(_around(stack))
        return [self._trained(both, b) for b in range(len(stack.bands))]

    def _trained(self, both: Stack, band: int) -> Dictionary | None:
        half, r = self.patch // 2, both.ratio
        best: list[np.ndarray] = []
        for inner, part in _strips(both, half):
            stop_if_asked()
            rows, columns = places(part.fine.shape[2:], r, half)
            rows = rows[(rows >= inner.start) & (rows < inner.stop)]
            found = _samples(part, band, np.ix_(rows, columns), half, self.samples)
            best = [np.concatenate(two) for two in zip(best, found, strict=True)] if best else found
            first = np.argsort(best[0], kind="stable")[: self.samples]
            best = [one[first] for one in best]
        return train(best[1], best[2], self.atoms, self.sparsity)

    def predict(self, stack: Stack, state: list[Dictionary | None]) -> np.ndarray:
        """Weighted mean of F_k + X_2k."""
        total, norm = np.zeros((2, *stack.fine.shape[1:]), np.float32)
        for k, (fine, coarse) in enumerate(zip(stack.fine, stack.coarse, strict=True)):
            change = _up(stack.target - coarse, stack.ratio)
            weight = 1 / (_mean_square(change, self.patch // 2) + np.float32(self.noise) ** 2)
            for b, dictionary in enumerate(state):
                term = fine[b] + self._fine_change(change[b], dictionary, stack.ratio)
                known = np.isfinite(term)
                total[b][known] += (weight * term)[known]
                norm[b][known] += weight[known]
                report((k * len(state) + b + 1) / (len(state) * len(stack.fine)))
        out: np.ndarray = np.full_like(total, np.nan)
        np.divide(total, norm, out=out, where=norm > 0)
        return out

    def _fine_change(self, change: np.ndarray, dictionary: Dictionary | None, ratio: int) -> np.ndarray:
        """X_2k of one band from Y_2k: overlapping patches predicted and averaged."""
        if dictionary is None:
            return change
        half, on = self.patch // 2, device()
        rows, columns = places(change.shape, ratio, half)
        known = np.pad(change, half, constant_values=np.nan)
        if on == "cpu":
            total = overlapped(known, dictionary, rows, columns, self.sparsity)
        else:
            total = overlapped_torch(known, dictionary, rows, columns, self.sparsity, on)
        mean = total[half:-half, half:-half] / _covered(change.shape, rows, columns, half)
        out: np.ndarray = np.where(np.isfinite(change), mean, np.nan).astype(np.float32)
        return out


def _up(coarse: np.ndarray, ratio: int) -> np.ndarray:
    """Interpolate along rows and columns and the other way round, and take the mean.

    The two differ in their last bits. Which atom is most like a patch may hang on these, and a patch must not depend
    on how the scene is turned.
    """
    out = upsample(coarse, ratio)
    out += upsample(coarse.swapaxes(-1, -2), ratio).swapaxes(-1, -2)
    out /= 2
    return out


def _around(stack: Stack) -> list[int]:
    """Indices of two pairs: the nearest, and the nearest on the other side of the target if there is one.

    A pair whose fine or coarse image is wholly missing is taken only where nothing else is left.
    """
    days = stack.days
    seen = [bool(np.isfinite(f).any() and np.isfinite(c).any()) for f, c in zip(stack.fine, stack.coarse, strict=True)]
    ranked = sorted(range(len(days)), key=lambda k: (not seen[k], abs(days[k]), days[k]))
    other = [k for k in ranked if seen[k] and (days[k] > 0) != (days[ranked[0]] > 0)]
    return sorted([ranked[0], (other or ranked[1:])[0]])


def places(shape: tuple[int, ...], ratio: int, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of patch centres: the same in each coarse pixel and from either side, about `step` apart."""
    count = -(-ratio // step)
    count += (count - ratio) % 2 if ratio % 2 == 0 else 0  # an even side has no middle
    left = np.floor((np.arange(count // 2) + 0.5) * ratio / count).astype(int)
    middle = [ratio // 2] if count % 2 else []
    inside = np.concatenate([left, middle, ratio - 1 - left[::-1]]).astype(int)
    rows, columns = ((np.arange(0, size, ratio)[:, None] + inside).ravel() for size in shape)
    return rows, columns


def _covered(shape: tuple[int, ...], rows: np.ndarray, columns: np.ndarray, half: int) -> np.ndarray:
    """Number of patches that hold each pixel."""
    y, x = (
        np.convolve(np.bincount(centres, minlength=size), np.ones(2 * half + 1))[half : half + size]
        for size, centres in zip(shape, (rows, columns), strict=True)
    )
    out: np.ndarray = np.multiply.outer(y, x).astype(np.float32)
    return out


def _strips(stack: Stack, half: int) -> Iterator[tuple[slice, Stack]]:
    """Strips of rows with the context their patches need; the slice says which of a strip's rows are its own."""
    r, height = stack.ratio, stack.fine.shape[2]
    side, margin = -(-STRIP // r) * r, (-(-half // r) + 1) * r
    for start in range(0, height, side):
        first = max(start - margin, 0)
        stop = min(start + side, height)
        yield slice(start - first, stop - first), stack[first : min(stop + margin, height), :]


def _samples(part: Stack, band: int, at: tuple[np.ndarray, ...], half: int, count: int) -> list[np.ndarray]:
    """Keys, and coarse and fine patches of change, around the known ones of these centres with the smallest keys."""
    x = part.fine[1, band] - part.fine[0, band]
    y = _up(part.coarse[1, band] - part.coarse[0, band], part.ratio)
    known = np.isfinite(x) & np.isfinite(y)
    y[~known] = x[~known] = np.nan
    keys = _keys(part.fine[:, band], known, half)[at][known[at]]
    first = np.argsort(keys, kind="stable")[:count]
    row, column = (np.broadcast_to(index, known[at].shape)[known[at]][first] for index in at)
    return [keys[first], *(_windows(plane, half)[row, column].reshape(-1, (2 * half + 1) ** 2) for plane in (y, x))]


def _windows(plane: np.ndarray, half: int) -> np.ndarray:
    """``(y, x, size, size)`` view of the window around every pixel, missing outside the image."""
    return sliding_window_view(np.pad(plane, half, constant_values=np.nan), (2 * half + 1, 2 * half + 1))


def _keys(fine: np.ndarray, known: np.ndarray, half: int) -> np.ndarray:
    """Sort keys of all patches: the complete ones first, else a hash of their values, however they are turned."""
    bits = np.ascontiguousarray(fine).view(np.uint32).astype(np.uint64)
    pixels = np.where(known, _mixed(_mixed(bits[0]) + bits[1]), np.uint64(0))
    missing = np.uint64((2 * half + 1) ** 2) - _window_sum(known.astype(np.uint64), half)
    out: np.ndarray = missing << np.uint64(56) | _mixed(_window_sum(pixels, half)) >> np.uint64(8)
    return out


def _mixed(bits: np.ndarray) -> np.ndarray:
    """Spread 64 bits evenly (the finaliser of splitmix64); sums wrap around, so they do not depend on their order."""
    bits = bits + np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ bits >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ bits >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    out: np.ndarray = bits ^ bits >> np.uint64(31)
    return out


def _mean_square(change: np.ndarray, half: int) -> np.ndarray:
    """``(y, x)`` mean of the squares of ``(band, y, x)`` over the bands and a window."""
    known = np.isfinite(change)
    total = _window_sum(np.square(np.where(known, change, 0), dtype=np.float64).sum(axis=0), half)
    count = _window_sum(known.sum(axis=0).astype(np.float64), half)
    out: np.ndarray = (total / np.maximum(count, 1)).astype(np.float32)
    return out


def _window_sum(plane: np.ndarray, half: int) -> np.ndarray:
    """Sum over the window of every pixel, cut at the edge of the image."""
    for _ in range(2):
        sums: np.ndarray = np.cumsum(np.pad(plane, ((half + 1, half), (0, 0))), axis=0, dtype=plane.dtype)
        plane = (sums[2 * half + 1 :] - sums[: -2 * half - 1]).T
    return plane
