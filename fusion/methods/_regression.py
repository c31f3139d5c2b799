"""Detail of a coarse change: how the bands of the fine images tell, here, which surfaces changed.

A geographically weighted regression (Brunsdon, Fotheringham & Charlton 1996, doi:10.1111/j.1538-4632.1996.tb00936.x):
around each coarse pixel the change is regressed on what the coarse pixels are in the fine images on average, near ones
the heavier, and the slopes carry the change on to the fine pixels, in so far as these differ from their coarse pixel.
"""

import torch
from torch import Tensor
from torch.nn import functional

REACH = 3.0  # coarse pixels: standard deviation of the weights
RIDGE = 0.1  # added to the variance of a predictor, of which that of the whole patch is 1
LEAST = 0.01  # standard deviation of a predictor in the patch, where that of the training's images is 1
MOST = 8.0  # standard deviations by which a fine pixel differs from its coarse one at most, lest one outlier rules


def detail(known: Tensor, change: Tensor, valid: Tensor) -> Tensor:
    """Find what a coarse change lacks within coarse pixels.

    Parameters
    ----------
    known : Tensor
        Predictors without gaps: the bands of one fine image or of several, ``(n, predictor, y, x)``.
    change : Tensor
        Coarse change, ``(n, band, v, u)``.
    valid : Tensor
        1 where the fine image was seen, 0 where it was filled, ``(n, 1, y, x)``; a coarse pixel counts by its share.

    Returns
    -------
    Tensor
        ``(n, band, y, x)`` in the units of `change`; all 0 at ratio 1.
    """
    ratio = known.shape[-1] // change.shape[-1]
    with torch.autocast(known.device.type, enabled=False):
        known, change = known.float(), change.float()
        means, seen = functional.avg_pool2d(known, ratio), functional.avg_pool2d(valid.float(), ratio) + 1e-6
        share = seen / seen.sum((2, 3), keepdim=True)
        middle = (share * means).sum((2, 3), keepdim=True)
        scale = (share * (means - middle) ** 2).sum((2, 3), keepdim=True).sqrt() + LEAST
        slopes = _slopes((means - middle) / scale, change, seen)
        apart = ((known - _up(means, ratio)) / scale).clamp(-MOST, MOST)
        return sum(
            (_up(slopes[:, k], ratio) * apart[:, k : k + 1] for k in range(known.shape[1])),
            start=torch.zeros((), device=known.device),
        )


def _slopes(means: Tensor, change: Tensor, seen: Tensor) -> Tensor:
    """Slope of each band's change on each predictor: ``(n, predictor, band, v, u)``."""
    n, count, rows, columns = means.shape
    weight = _blurred(seen)

    def product(other: Tensor) -> Tensor:
        """Covariance with the predictors, ``(n, v, u, predictor, channel)``."""
        both = _blurred((means[:, :, None] * other[:, None]).flatten(1, 2) * seen) / weight
        apart = (_blurred(means * seen) / weight)[:, :, None] * (_blurred(other * seen) / weight)[:, None]
        return (both.reshape(n, count, -1, rows, columns) - apart).permute(0, 3, 4, 1, 2)

    ridge = RIDGE * torch.eye(count, device=means.device)
    slopes: Tensor = torch.linalg.solve(product(means) + ridge, product(change))
    return slopes.permute(0, 3, 4, 1, 2)


def _blurred(image: Tensor) -> Tensor:
    """Sum of neighbours by their Gaussian weights, ``(n, channel, v, u)``; beyond the edge there are none."""
    for axis in (2, 3):
        reach = min(int(3 * REACH), image.shape[axis] - 1)
        steps = torch.arange(-reach, reach + 1, device=image.device, dtype=image.dtype)
        kernel = torch.exp(-((steps / REACH) ** 2) / 2)
        shape, padding = ([1, 1, -1, 1], (reach, 0)) if axis == 2 else ([1, 1, 1, -1], (0, reach))
        flat = image.reshape(-1, 1, *image.shape[2:])
        image = functional.conv2d(flat, kernel.reshape(shape), padding=padding).reshape(image.shape)
    return image


def _up(coarse: Tensor, ratio: int) -> Tensor:
    return functional.interpolate(coarse, scale_factor=ratio, mode="bilinear", align_corners=False)
