"""Parts of losses that networks share; images are ``(n, band, y, x)``, normalised."""

from torch import Tensor

from ._sample import Sample


def structure(pred: Tensor, truth: Tensor) -> Tensor:
    return (pred - truth).abs().mean()


def perceptual(pred: Tensor, truth: Tensor, sample: Sample) -> Tensor:
    return (pred - truth).pow(2).mean()
