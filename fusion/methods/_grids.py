"""From coarse pixels to the fine grid: the kernels that methods share, and state in their documentation."""

from typing import Literal

import numpy as np

Kernel = Literal["nearest", "bilinear", "cubic"]


def upsample(coarse: np.ndarray, ratio: int, kernel: Kernel = "bilinear") -> np.ndarray:
    """Interpolate coarse pixels at the centres of fine pixels.

    The weights of missing coarse pixels go to their neighbours, and a fine pixel inside a missing coarse pixel is
    missing, so clouds neither leak nor grow. At the edge of the image the outermost pixel is repeated.

    Parameters
    ----------
    coarse : numpy.ndarray
        ``(..., y, x)``.
    ratio : int
        Fine pixels per coarse pixel.
    kernel : {"nearest", "bilinear", "cubic"}
        "nearest" repeats each pixel; "cubic" is Keys' kernel (a = -0.5).

    Returns
    -------
    numpy.ndarray
        ``(..., y * ratio, x * ratio)`` float32.

    References
    ----------
    Keys 1981, doi:10.1109/TASSP.1981.1163711
    """
    if ratio == 1:
        return np.array(coarse, np.float32)
    inside = np.repeat(np.repeat(coarse, ratio, axis=-2), ratio, axis=-1)
    if kernel == "nearest":
        return np.asarray(inside, np.float32)
    known = np.isfinite(coarse)
    filled = _resize(np.where(known, coarse, 0).astype(np.float32), ratio, kernel)
    if known.all():
        return filled
    weight = _resize(known.astype(np.float32), ratio, kernel)
    weight /= _resize(np.ones(coarse.shape[-2:], np.float32), ratio, kernel)  # exactly 1 where no neighbour is missing
    out = np.full_like(filled, np.nan)
    np.divide(filled, weight, out=out, where=np.isfinite(inside) & (weight > 0.05))
    return out


def reach(ratio: int, kernel: Kernel) -> int:
    """Context in fine pixels that :func:`upsample` needs around a tile."""
    return 0 if ratio == 1 else {"nearest": 0, "bilinear": 1, "cubic": 2}[kernel] * ratio


def _resize(values: np.ndarray, ratio: int, kernel: Kernel) -> np.ndarray:
    rows = _weights(values.shape[-2], ratio, kernel)
    columns = _weights(values.shape[-1], ratio, kernel)
    return _along(_along(values, *columns, axis=-1), *rows, axis=-2)  # the many pixels come in whole rows


def _weights(size: int, ratio: int, kernel: Kernel) -> tuple[np.ndarray, np.ndarray]:
    """Coarse indices and weights ``(tap, fine)`` of every fine pixel along one axis."""
    centre = (np.arange(size * ratio) + 0.5) / ratio - 0.5
    first = np.floor(centre).astype(int)
    taps = np.array([0, 1]) if kernel == "bilinear" else np.array([-1, 0, 1, 2])
    index = first + taps[:, None]
    distance = np.abs(centre - index)
    weight = np.maximum(1 - distance, 0) if kernel == "bilinear" else _keys(distance)
    return np.clip(index, 0, size - 1), weight.astype(np.float32)


def _keys(t: np.ndarray) -> np.ndarray:
    near = 1.5 * t**3 - 2.5 * t**2 + 1
    far = -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
    return np.where(t <= 1, near, np.where(t < 2, far, 0))


def _along(values: np.ndarray, index: np.ndarray, weight: np.ndarray, axis: int) -> np.ndarray:
    shape = [1] * values.ndim
    shape[axis] = -1
    out: np.ndarray = np.take(values, index[0], axis=axis) * weight[0].reshape(shape)
    for i, w in zip(index[1:], weight[1:], strict=True):
        part = np.take(values, i, axis=axis)
        part *= w.reshape(shape)
        out += part
    return out
