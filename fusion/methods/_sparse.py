"""Sparse coding of image patches with two coupled dictionaries.

A patch is a row of ``size * size`` values less their mean. Before it is coded it is turned into a standard position
(its values rise downwards and to the right, and downwards the more), so that a dictionary holds each structure once
and not in its eight turned copies, and a turned image has a turned code. As in `_windows`, what runs over all pixels is
compiled for the CPU and written as torch operations for a GPU; one patch at a time stays in a processor's first cache.
"""

from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import Any

import numpy as np

from .._pulse import stop_if_asked
from ._windows import _compiled, in_strips

ROUNDS = 10  # of coding and fitting a dictionary
SLACK = 1e-3  # share of a patch's norm by which a position may miss the standard one: symmetric patches have several
ENOUGH = 1e-3  # share of a patch's norm that need not be coded
FLAT = 1e-6  # norm below which a patch has no structure
UNLIKE = 0.99  # cosine above which two patches are no two atoms
PER_ATOM = 8  # patches that an atom is worth
RIDGE = 1e-4  # keeps apart atoms that are nearly alike
BATCH = 1 << 17  # patches at a time on a GPU

_TURNS = [(swap, flip, mirror) for swap in (0, 1) for flip in (0, 1) for mirror in (0, 1)]


@dataclass(frozen=True)
class Dictionary:
    """Two dictionaries ``(atom, size * size)`` float32 for one code: coarse atoms of length 1, and fine ones."""

    coarse: np.ndarray
    fine: np.ndarray


def train(coarse: np.ndarray, fine: np.ndarray, atoms: int, sparsity: int) -> Dictionary | None:
    """Fit both dictionaries to pairs of patches ``(patch, size * size)``; None if the coarse ones are all flat.

    The coarse dictionary minimises ``|Y - A D|`` by turns over the sparse codes A and over all atoms at once (method
    of optimal directions). The fine one is the least squares fit of the fine patches to the same codes, with one
    more patch for each atom that says that fine is as coarse; so an atom seen rarely does no harm.
    """
    y, x, patch = _standard(without_mean(coarse), without_mean(fine))
    if not len(y):
        return None
    first = np.flatnonzero(np.diff(patch, prepend=-1))
    middle = np.add.reduceat(y, first) / np.diff(first, append=len(y))[:, None]  # of the positions of each patch
    d = _first(middle, min(atoms, 1 + len(y) // PER_ATOM))
    for _ in range(ROUNDS):
        stop_if_asked()
        gram, product = _normal(y, y, d, sparsity)
        used = np.diagonal(gram) > 0
        gram, product = gram[used][:, used], product[used]
        d = _unit(np.linalg.solve(gram + (1e-6 * np.trace(gram) / len(gram)) * np.eye(len(gram)), product))
    gram, product = _normal(y, x, d, sparsity)
    one = np.trace(gram) / len(y)  # the energy of an average code
    detail = np.linalg.solve(gram + one * np.eye(len(d)), product - gram @ d)
    return Dictionary(d.astype(np.float32), (d + detail).astype(np.float32))


def without_mean(patches: np.ndarray) -> np.ndarray:
    """Patches less their means; a missing value counts as the mean."""
    known = np.isfinite(patches)
    total = np.where(known, patches, 0).sum(axis=1, dtype=np.float64, keepdims=True)
    return np.where(known, patches - total / np.maximum(known.sum(axis=1, keepdims=True), 1), 0)


def _standard(y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Patches in all their standard positions, and which patch each one is; flat ones are left out."""
    norm = np.sqrt(np.square(y).sum(axis=1))
    y, x, norm = (one[norm > FLAT] for one in (y, x, norm))
    size = _side(y)
    axis = np.arange(size) - (size - 1) / 2
    square = y.reshape(-1, size, size)
    down, right = square.sum(axis=2) @ axis, square.sum(axis=1) @ axis
    slack = SLACK * norm * np.sqrt(size * np.square(axis).sum())
    fits = [
        (down * (1 - 2 * flip) >= -slack)
        & (right * (1 - 2 * mirror) >= -slack)
        & ((np.abs(down) - np.abs(right)) * (1 - 2 * swap) >= -slack)
        for swap, flip, mirror in _TURNS
    ]
    patch, turn = np.nonzero(np.array(fits).T)
    index = turned(size)[turn]
    return np.take_along_axis(y[patch], index, 1), np.take_along_axis(x[patch], index, 1), patch


@lru_cache
def turned(size: int) -> np.ndarray:
    """``(8, size * size)``: where the values of a turned patch come from."""
    place = np.arange(size * size).reshape(size, size)
    out = []
    for swap, flip, mirror in _TURNS:
        one = place[:: -1 if flip else 1, :: -1 if mirror else 1]
        out.append((one.T if swap else one).ravel())
    return np.array(out)


def _side(patches: Any) -> int:
    return int(patches.shape[1] ** 0.5 + 0.5)


def _unit(rows: np.ndarray) -> np.ndarray:
    out: np.ndarray = rows / np.maximum(np.sqrt(np.square(rows).sum(axis=1, keepdims=True)), 1e-30)
    return out


def _first(y: np.ndarray, atoms: int) -> np.ndarray:
    """First dictionary: the first patches of length 1 that are unlike one another; twins would be chosen by chance."""
    rest, out = _unit(y), list[np.ndarray]()
    while len(rest) and len(out) < atoms:
        out.append(rest[0])
        rest = rest[np.abs(rest @ rest[0]) < UNLIKE]
    return np.array(out)


def _normal(y: np.ndarray, z: np.ndarray, d: np.ndarray, sparsity: int) -> tuple[np.ndarray, np.ndarray]:
    """Code `y` in `d` as A: the matrices A^T A and A^T z."""
    gram, product = np.zeros((len(d), len(d))), np.zeros(d.shape)
    _normal_rows(y, z, *_tables(d), min(sparsity, len(d)), gram, product)
    return gram, product


def _tables(d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Atoms by pixel, so that the inner loop runs over atoms, and their products.

    In float64: what is left of a patch is a small difference, and which atom is most like it must not hang on the
    rounding, which is another one on another device.
    """
    d = d.astype(np.float64)
    return np.ascontiguousarray(d.T), d @ d.T + RIDGE * np.eye(len(d))


@_compiled
def _pursue(y, atoms, gram, choice, weight, start, like, lower):  # type: ignore[no-untyped-def] # numba infers
    """Code one patch by orthogonal matching pursuit: the atoms chosen, and their weights, 0 after the last.

    Each step takes the atom most like what is left and fits all atoms taken so far anew, by the Cholesky factor of
    their products that grows in `lower`; it ends when only a share of ENOUGH is left. `start` is atoms times patch.
    """
    norm = 0.0
    start[:], choice[:], weight[:] = 0, 0, 0
    for p in range(len(y)):
        norm += y[p] * y[p]
        for a in range(len(start)):
            start[a] += y[p] * atoms[p, a]
    like[:] = start
    for step in range(len(choice)):
        best = 0
        for a in range(1, len(like)):
            if abs(like[a]) > abs(like[best]):
                best = a
        if abs(like[best]) <= ENOUGH * np.sqrt(norm):
            return
        choice[step] = best
        for i in range(step + 1):  # lower lower^T = gram
            rest = gram[best, choice[i]]
            for j in range(i):
                rest -= lower[step, j] * lower[i, j]
            lower[step, i] = rest / lower[i, i] if i < step else np.sqrt(max(rest, RIDGE))
        for i in range(step + 1):  # lower v = start
            rest = start[choice[i]]
            for j in range(i):
                rest -= lower[i, j] * weight[j]
            weight[i] = rest / lower[i, i]
        for back in range(step + 1):  # lower^T weight = v
            i = step - back
            for j in range(i + 1, step + 1):
                weight[i] -= lower[j, i] * weight[j]
            weight[i] /= lower[i, i]
        like[:] = start
        for i in range(step + 1):
            for a in range(len(like)):
                like[a] -= weight[i] * gram[choice[i], a]
        for i in range(step + 1):
            like[choice[i]] = 0


@_compiled
def _normal_rows(patches, z, atoms, gram, sparsity, square, product):  # type: ignore[no-untyped-def] # numba infers
    choice, weight = np.empty(sparsity, np.int64), np.empty(sparsity)
    start, like = np.empty(len(gram)), np.empty(len(gram))
    lower = np.empty((sparsity, sparsity))
    for n in range(len(patches)):
        _pursue(patches[n], atoms, gram, choice, weight, start, like, lower)
        for i in range(sparsity):
            for j in range(sparsity):
                square[choice[i], choice[j]] += weight[i] * weight[j]
            for p in range(z.shape[1]):
                product[choice[i], p] += weight[i] * z[n, p]


def overlapped(
    change: np.ndarray, dictionary: Dictionary, rows: np.ndarray, columns: np.ndarray, sparsity: int
) -> np.ndarray:
    """Sum over patches around each of `rows` and `columns` of the fine patch, with the mean of the coarse one.

    Parameters
    ----------
    change : numpy.ndarray
        ``(y, x)`` float32, with a margin of half a patch; NaN counts as the mean of a patch.

    Returns
    -------
    numpy.ndarray
        As `change`, with its margin; to be divided by the number of patches at each pixel.
    """
    size = _side(dictionary.coarse)
    total, lock = np.zeros_like(change), Lock()
    tables = (turned(size), *_tables(dictionary.coarse), dictionary.fine)
    sparsity = min(sparsity, len(dictionary.fine))

    def strip(start: int, stop: int) -> None:
        some = rows[start:stop]
        part = np.zeros((some[-1] - some[0] + size, change.shape[1]), np.float32)
        _predict_rows(some, columns, change, *tables, sparsity, part)
        with lock:  # two strips at most share a row, and a + b = b + a
            total[some[0] : some[-1] + size] += part

    in_strips(strip, len(rows))
    return total


@_compiled
def _predict_rows(rows, columns, change, turns, atoms, gram, fine, sparsity, out):  # type: ignore[no-untyped-def] # numba infers
    area = len(atoms)
    size = int(np.sqrt(area) + 0.5)
    choice, weight = np.empty(sparsity, np.int64), np.empty(sparsity)
    start, like = np.empty(len(gram)), np.empty(len(gram))
    lower = np.empty((sparsity, sparsity))
    patch, upright, found = np.empty(area), np.empty(area), np.empty(area)
    spread = 0.0
    for i in range(size):
        spread += size * (i - (size - 1) / 2) ** 2
    for y in rows:
        for x in columns:
            total, known = 0.0, 0
            for i in range(size):
                for j in range(size):
                    value = change[y + i, x + j]
                    patch[i * size + j] = value
                    if not np.isnan(value):
                        total += value
                        known += 1
            mean = total / max(known, 1)
            norm, down, right = 0.0, 0.0, 0.0
            for i in range(size):
                for j in range(size):
                    p = i * size + j
                    patch[p] = 0 if np.isnan(patch[p]) else patch[p] - mean
                    norm += patch[p] * patch[p]
                    down += patch[p] * (i - (size - 1) / 2)
                    right += patch[p] * (j - (size - 1) / 2)
            found[:] = 0
            slack, count = SLACK * np.sqrt(norm * spread), 0
            for turn in range(8 if norm > FLAT**2 else 0):
                swap, flip, mirror = 1 - 2 * (turn >> 2), 1 - 2 * (turn >> 1 & 1), 1 - 2 * (turn & 1)
                steep = abs(down) - abs(right)
                if down * flip < -slack or right * mirror < -slack or steep * swap < -slack:
                    continue
                count += 1
                for p in range(area):
                    upright[p] = patch[turns[turn, p]]
                _pursue(upright, atoms, gram, choice, weight, start, like, lower)
                for s in range(sparsity):
                    for p in range(area):
                        found[turns[turn, p]] += weight[s] * fine[choice[s], p]
            share = 1 / max(count, 1)
            for i in range(size):
                for j in range(size):
                    out[y - rows[0] + i, x + j] += mean + share * found[i * size + j]


def overlapped_torch(
    change: np.ndarray, dictionary: Dictionary, rows: np.ndarray, columns: np.ndarray, sparsity: int, on: str
) -> np.ndarray:
    """:func:`overlapped` as torch operations on the device `on`."""
    import torch

    size = _side(dictionary.coarse)
    plane = torch.from_numpy(np.asarray(change, np.float64)).to(on)
    windows, total = plane.unfold(0, size, 1).unfold(1, size, 1), torch.zeros_like(plane)
    coarse, fine = (torch.from_numpy(one).to(on, plane.dtype) for one in (dictionary.coarse, dictionary.fine))
    x = torch.from_numpy(columns).to(on)
    for some in np.array_split(rows, -(-len(rows) * len(columns) // BATCH)):
        stop_if_asked()
        y = torch.from_numpy(some).to(on)[:, None]
        patches = windows[y, x].flatten(2).flatten(0, 1)
        known = patches.isfinite()
        mean = torch.where(known, patches, 0).sum(1, keepdim=True) / known.sum(1, keepdim=True).clamp_min(1)
        found = mean + _predict_torch(torch.where(known, patches - mean, 0), coarse, fine, sparsity)
        found = found.reshape(len(some), len(columns), size, size)
        for dy, dx in np.ndindex(size, size):
            total[y + dy, x + dx] += found[:, :, dy, dx]
    out: np.ndarray = total.float().cpu().numpy()
    return out


def _predict_torch(patches: Any, coarse: Any, fine: Any, sparsity: int) -> Any:
    import torch

    size, norm = _side(patches), patches.norm(dim=1)
    axis = torch.arange(size, dtype=patches.dtype, device=patches.device) - (size - 1) / 2
    square = patches.reshape(-1, size, size)
    down, right = square.sum(2) @ axis, square.sum(1) @ axis
    steep, slack = down.abs() - right.abs(), SLACK * norm * axis.norm() * size**0.5
    out, count = torch.zeros_like(patches), torch.zeros_like(norm)
    for (swap, flip, mirror), index in zip(_TURNS, torch.from_numpy(turned(size)).to(patches.device), strict=True):
        fits = (norm > FLAT) & (down * (1 - 2 * flip) >= -slack) & (right * (1 - 2 * mirror) >= -slack)
        some = (fits & (steep * (1 - 2 * swap) >= -slack)).nonzero()[:, 0]
        choice, weight = _code_torch(patches[some][:, index], coarse, sparsity)
        out[some] += torch.einsum("ns,nsp->np", weight, fine[choice])[:, index.argsort()]
        count[some] += 1
    return out / count.clamp_min(1)[:, None]


def _code_torch(y: Any, d: Any, sparsity: int) -> tuple[Any, Any]:
    """:func:`_pursue` of all rows of `y`: chosen atoms and weights, both ``(patch, sparsity)``."""
    import torch

    sparsity = min(sparsity, len(d))
    gram, start = d @ d.T + RIDGE * torch.eye(len(d), dtype=d.dtype, device=d.device), y @ d.T
    choice = torch.zeros((len(y), sparsity), dtype=torch.long, device=y.device)
    weight, like = torch.zeros((len(y), sparsity), dtype=y.dtype, device=y.device), start.clone()
    going = torch.ones(len(y), dtype=torch.bool, device=y.device)
    for step in range(sparsity):
        most, choice[:, step] = like.abs().max(dim=1)
        going &= most > ENOUGH * y.norm(dim=1)
        taken = choice[:, : step + 1]
        block = gram[taken[:, :, None], taken[:, None, :]]
        block[~going] = torch.eye(
            step + 1, dtype=y.dtype, device=y.device
        )  # it ended: an atom taken twice has no solution
        fit = torch.linalg.solve(block, start.gather(1, taken)[..., None])[..., 0]
        weight[:, : step + 1] = torch.where(going[:, None], fit, weight[:, : step + 1])
        like = start - torch.einsum("ns,nsa->na", weight[:, : step + 1], gram[taken])
        like.scatter_(1, taken, 0)
    return choice, weight
