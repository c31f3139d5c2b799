"""STNLFFM's kernel: one pair's prediction from the similar pixels of every window.

Floor per pixel, pair and band at window 51: two comparisons of 4 operations for each of 2601 neighbours, as vectors
of 8 some 2600 operations, and for each similar neighbour 4 loads and 15 operations; 40 bytes of memory traffic are
nothing beside it. In real scenes 1 to 20 in 100 neighbours are similar. So the comparisons run over the row of a
window for all bands in one pass, which the compiler turns into vectors, and then only similar neighbours are visited,
whose planes lie side by side.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from .._pulse import stop_if_asked
from ._device import device
from ._windows import _compiled, in_strips

LANES = 16  # the row of a window is padded to a multiple of this, so that no comparison is left over
SMALLEST, LARGEST = np.float32(1e-30), np.float32(1e30)  # no weight is 0, so the weights can be normalised
BRIGHTEST = np.float32(2)  # no surface reflects more; what is given in other units must not overflow


@dataclass(frozen=True)
class Planes:
    """The planes of one pair, each ``(band, y, x)`` float32; a pixel missing in any is NaN in all of them."""

    fine: np.ndarray
    coarse: np.ndarray
    target: np.ndarray
    change: np.ndarray  # |C_k - C_2|
    closeness: np.ndarray  # e^(C_k / h^2)
    centre: np.ndarray  # e^(-C_2 / h^2)
    tolerance: np.ndarray  # d 2^F_k

    @classmethod
    def of(cls, fine: np.ndarray, coarse: np.ndarray, target: np.ndarray, d: float, h: float) -> "Planes":
        """Compute what the kernel needs from the pair and the target on the fine grid."""
        known = np.isfinite(fine + coarse + target).all(axis=0)
        fine, coarse, target = (np.where(known, image, np.float32(np.nan)) for image in (fine, coarse, target))
        steepness = 1 / h**2

        def exp(image: np.ndarray, sign: int) -> np.ndarray:
            return np.exp(sign * np.clip((image - 0.5) * steepness, -80, 80)).astype(np.float32)

        return cls(
            fine=fine,
            coarse=coarse,
            target=target,
            change=np.abs(coarse - target),
            closeness=exp(coarse, 1),
            centre=exp(target, -1),
            tolerance=np.float32(d) * np.exp2(np.minimum(fine, BRIGHTEST)),
        )


def pair_prediction(planes: Planes, window: int, stability: float, stiffness: float) -> np.ndarray:
    """``(band, y, x)`` float32: a sum_i W_i F(i) + b of every pixel; NaN where the pixel is missing.

    Neighbour i of pixel p counts if ``|F(i) - F(p)| <= tolerance(p)`` and ``|change(i) - change(p)| <= stability`` in
    all bands; a and b fit ``target = a coarse + b`` over these neighbours with penalty ``stiffness (a - 1)^2``;
    ``W_i = exp(-|coarse(i) - target(p)| / h^2)``, normalised.
    """
    if device() != "cpu":
        return pair_prediction_torch(planes, window, stability, stiffness, device())
    bands, height, width = planes.fine.shape
    half = window // 2
    side = -(-window // LANES) * LANES
    padded = (height, width + half + side)
    inner = np.s_[..., half : half + width]
    gates = np.full((2 * bands, *padded), np.nan, np.float32)  # NaN counts as similar to nothing
    gates[:bands][inner], gates[bands:][inner] = planes.fine, planes.change
    visited = np.zeros((*padded, bands, 4), np.float32)  # what one neighbour adds lies side by side
    for plane, image in enumerate((planes.fine, planes.coarse, planes.target, planes.closeness)):
        visited[:, half : half + width, :, plane] = np.moveaxis(image, 0, -1)
    out = np.full((bands, height, width), np.nan, np.float32)

    def strip(start: int, stop: int) -> None:
        _rows(
            start, stop, (0,) * (2 * bands), half, side, gates, planes.tolerance, np.float32(stability), visited,
            planes.centre, stiffness, out,
        )  # fmt: skip

    in_strips(strip, height)
    return out


@_compiled
def _rows(start, stop, gated, half, side, gates, tolerance, stability, visited, centre, stiffness, out):  # type: ignore[no-untyped-def]
    """Predict rows start..stop; `gated` is a tuple only for its length, a constant by which the compiler unrolls."""
    bands, height, width = out.shape
    padded = gates.shape[2]
    planes = visited.reshape(-1, bands, 4)
    found = np.empty((2 * half + 1) * side, np.int64)
    inside = np.zeros(side, np.uint8)
    inside[: 2 * half + 1] = 1
    flags = np.zeros(side, np.uint8)
    words = flags.view(np.uint64)  # eight flags at a time, for most are 0
    here = np.empty(len(gated), np.float32)
    most = np.full(len(gated), stability, np.float32)
    for x in range(width):  # columns outside: the windows of a column share most of their pixels
        for y in range(start, stop):
            if np.isnan(gates[0, y, x + half]):
                continue
            for g in range(len(gated)):
                here[g] = gates[g, y, x + half]
            for b in range(bands):
                most[b] = tolerance[b, y, x]
            count = 0
            for yy in range(max(y - half, 0), min(y + half + 1, height)):
                for j in range(side):
                    similar = inside[j]
                    for g in range(len(gated)):
                        similar &= np.uint8(abs(gates[g, yy, x + j] - here[g]) <= most[g])
                    flags[j] = similar
                for word in range(side >> 3):
                    if words[word] != 0:
                        for j in range(8 * word, 8 * word + 8):
                            found[count] = yy * padded + x + j
                            count += flags[j]
            p = y * padded + x + half
            for b in range(bands):
                out[b, y, x] = _one(found, count, planes, b, p, centre[b, y, x], stiffness)


@_compiled
def _one(found, count, planes, b, p, centre, stiffness):  # type: ignore[no-untyped-def]
    """Predict one band of pixel p from its similar neighbours; deviations from p keep the sums well conditioned."""
    zero, one = np.float32(0), np.float32(1)
    sum_x = sum_y = sum_xx = sum_xy = sum_w = sum_wf = zero
    f0, x0, y0 = planes[p, b, 0], planes[p, b, 1], planes[p, b, 2]
    for m in range(count):
        i = found[m]
        f, x, y = planes[i, b, 0] - f0, planes[i, b, 1] - x0, planes[i, b, 2] - y0
        rise = max(min(planes[i, b, 3] * centre, LARGEST), SMALLEST)
        w = min(rise, one / rise)  # e^-|C_k(i) - C_2(p)| / h^2 from two factors
        sum_x += x
        sum_y += y
        sum_xx += x * x
        sum_xy += x * y
        sum_w += w
        sum_wf += w * f
    a = (sum_xy - sum_x * sum_y / count + stiffness) / (sum_xx - sum_x * sum_x / count + stiffness)
    return y0 + sum_y / count + a * (f0 + sum_wf / sum_w - x0 - sum_x / count)


def pair_prediction_torch(planes: Planes, window: int, stability: float, stiffness: float, on: str) -> np.ndarray:
    """:func:`pair_prediction` as torch operations over window shifts on the device `on`."""
    import torch

    def tensor(image: np.ndarray) -> Any:
        return torch.from_numpy(np.ascontiguousarray(image)).to(on)

    fine, coarse, target, change, closeness, centre, tolerance = (
        tensor(image)
        for image in (
            planes.fine, planes.coarse, planes.target, planes.change, planes.closeness, planes.centre, planes.tolerance
        )
    )  # fmt: skip
    sums = torch.zeros((7, *fine.shape), dtype=torch.float32, device=on)
    height, width = fine.shape[1:]
    half = window // 2
    for dy in range(-half, half + 1):
        stop_if_asked()
        for dx in range(-half, half + 1):
            y, x = (slice(max(0, -d), min(n, n - d)) for d, n in ((dy, height), (dx, width)))
            if y.start >= y.stop or x.start >= x.stop:
                continue
            p, i = (
                (slice(None), y, x),
                (slice(None), slice(y.start + dy, y.stop + dy), slice(x.start + dx, x.stop + dx)),
            )
            step = fine[i] - fine[p]
            similar = (step.abs() <= tolerance[p]) & ((change[i] - change[p]).abs() <= np.float32(stability).item())
            similar = similar.all(dim=0)
            u, v = coarse[i] - coarse[p], target[i] - target[p]
            rise = (closeness[i] * centre[p]).clamp(float(SMALLEST), float(LARGEST))
            w = torch.minimum(rise, 1 / rise)
            for total, term in zip(sums, (torch.ones_like(u), u, v, u * u, u * v, w, w * step), strict=True):
                total[p] += torch.where(similar, term, 0)
    n, su, sv, suu, suv, sw, swf = sums
    a = (suv - su * sv / n + stiffness) / (suu - su * su / n + stiffness)
    out: np.ndarray = (target + sv / n + a * (fine + swf / sw - coarse - su / n)).cpu().numpy()
    return out
