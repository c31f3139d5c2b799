"""Layers that networks share."""

import torch
from torch import Tensor, nn
from torch.nn import functional


def conv(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> nn.Conv2d:
    """Convolution that keeps the size; beyond the edge the outermost pixels are repeated by the caller's context."""
    return nn.Conv2d(inputs, outputs, size, stride, size // 2)


def start_at_zero(layer: nn.Conv2d) -> nn.Conv2d:
    """Make a layer give nothing before training, so that a change that it predicts starts as none."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def resized(coarse: Tensor, fine: Tensor) -> Tensor:
    """Bring ``(n, channel, v, u)`` to the grid of `fine`, bilinearly; the outermost pixel is repeated."""
    if coarse.shape[-2:] == fine.shape[-2:]:
        return coarse
    size = (int(fine.shape[-2]), int(fine.shape[-1]))
    return functional.interpolate(coarse, size=size, mode="bilinear", align_corners=False)


def padded(image: Tensor, multiple: int) -> Tensor:
    """Extend ``(n, channel, y, x)`` below and right to multiples, by its outermost pixels; cut the result to size."""
    height, width = image.shape[-2:]
    more = (-height % multiple, -width % multiple)
    return functional.pad(image, (0, more[1], 0, more[0]), mode="replicate") if any(more) else image


def stacked(*images: Tensor) -> Tensor:
    """Join images band-wise."""
    return torch.cat(images, 1)
