"""Discriminators: networks that tell observed fine images from predicted ones, and the losses that come of it.

They are only for training: no checkpoint keeps them. Spectral normalisation bounds how fast their scores change with
the image (Miyato et al. 2018, arXiv:1802.05957); scores are judged by least squares (Mao et al. 2017,
doi:10.1109/ICCV.2017.304).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from ._layers import conv, resized, stacked

__all__ = [
    "Discriminator",
    "MultiScale",
    "Seen",
    "fooling",
    "for_fake",
    "for_real",
    "frozen",
    "judging",
    "matching",
    "to_fool",
]

MOST = 8  # times the first layer's channels that a layer has at most
LEAK = 0.2  # slope of an activation below zero


class Seen(NamedTuple):
    """What a discriminator makes of images: maps of scores, 1 for observed and 0 for predicted, and features."""

    scores: list[Tensor]  # (n, 1, y, x) each
    features: list[Tensor]  # (n, channel, y, x) of every layer


class Discriminator(nn.Module):
    """Scores patches of an image; what else is known of its day is the condition, an image of any size.

    Parameters
    ----------
    bands_in : int
        Bands of the image and of the condition together.
    width : int
        Channels of the first layer; each next one has twice as many, up to eight times.
    layers : int
        Layers; each halves the side, and a score sees ``4 * 2**layers - 3`` pixels along a side.
    """

    def __init__(self, bands_in: int, width: int = 64, layers: int = 4) -> None:
        super().__init__()
        channels = [bands_in, *(width * min(2**k, MOST) for k in range(layers))]
        self.layers = nn.ModuleList(_halving(*pair) for pair in pairwise(channels))
        self.score = spectral_norm(conv(channels[-1], 1, 1))

    def see(self, image: Tensor, condition: Tensor) -> Seen:
        """Return scores and features together, for the price of either."""
        features = [stacked(image, resized(condition, image))]
        for layer in self.layers:
            features.append(layer(features[-1]))
        return Seen([self.score(features[-1])], features[1:])

    def forward(self, image: Tensor, condition: Tensor) -> list[Tensor]:
        """Return maps of scores."""
        return self.see(image, condition).scores

    def features(self, image: Tensor, condition: Tensor) -> list[Tensor]:
        """Return the features of every layer."""
        return self.see(image, condition).features


class MultiScale(nn.Module):
    """Discriminators of the image and of its means over 2 x 2, 4 x 4 ... pixels; parameters as of one."""

    def __init__(self, bands_in: int, width: int = 64, layers: int = 4, scales: int = 3) -> None:
        super().__init__()
        self.scales = nn.ModuleList(Discriminator(bands_in, width, layers) for _ in range(scales))

    def see(self, image: Tensor, condition: Tensor) -> Seen:
        """Return scores and features together, for the price of either."""
        condition = resized(condition, image)
        out = Seen([], [])
        for number, scale in enumerate(self.scales):
            if number:  # an odd size keeps its last row and column: a side of one pixel stays one
                image, condition = (functional.avg_pool2d(each, 2, ceil_mode=True) for each in (image, condition))
            seen = cast(Discriminator, scale).see(image, condition)
            out.scores.extend(seen.scores)
            out.features.extend(seen.features)
        return out

    def forward(self, image: Tensor, condition: Tensor) -> list[Tensor]:
        """Return maps of scores of every scale."""
        return self.see(image, condition).scores

    def features(self, image: Tensor, condition: Tensor) -> list[Tensor]:
        """Return the features of every layer of every scale."""
        return self.see(image, condition).features


def for_real(scores: Sequence[Tensor]) -> Tensor:
    """Loss of a discriminator for scores of observed images: they are to be 1."""
    return _mean([(each.float() - 1).pow(2).mean() for each in scores]) / 2


def for_fake(scores: Sequence[Tensor]) -> Tensor:
    """Loss of a discriminator for scores of predicted images: they are to be 0."""
    return _mean([each.float().pow(2).mean() for each in scores]) / 2


def to_fool(scores: Sequence[Tensor]) -> Tensor:
    """Loss of a generator for scores of its predictions: they are to be 1."""
    return for_real(scores)


def matching(features_pred: Sequence[Tensor], features_true: Sequence[Tensor]) -> Tensor:
    """Mean square difference of features, each layer counting the same; no gradient goes to those of the truth.

    The refined loss of ID-CGAN (Zhang, Sindagi & Patel 2020, doi:10.1109/TCSVT.2019.2920407) adds to the content and
    the adversarial loss a perceptual one. There it is of the features of a network that was trained on photographs;
    here of those of the discriminator, which has seen surface reflectance in any bands.
    """
    if not features_pred or len(features_pred) != len(features_true):
        raise ValueError(
            f"Features of two images want to be as many, got {len(features_pred)} and {len(features_true)}: take both "
            "from one discriminator."
        )
    pairs = zip(features_pred, features_true, strict=True)
    return _mean([(pred.float() - true.detach().float()).pow(2).mean() for pred, true in pairs])


def fooling(
    judge: "Discriminator | MultiScale", pred: Tensor, truth: Tensor, condition: Tensor, weight: float, like: float
) -> Tensor:
    """Loss of a generator: `weight` of :func:`to_fool` and `like` of :func:`matching`; the discriminator stays."""
    with frozen(judge):
        seen = judge.see(pred, condition)
        loss = weight * to_fool(seen.scores)
        if like:
            with torch.no_grad():
                features = judge.features(truth, condition)
            loss = loss + like * matching(seen.features, features)
    return loss


def judging(judge: "Discriminator | MultiScale", pred: Tensor, truth: Tensor, condition: Tensor) -> Tensor:
    """Loss of a discriminator: observed images are to score 1, predicted ones 0; the generator learns nothing."""
    return for_real(judge(truth, condition)) + for_fake(judge(pred.detach(), condition))


@contextmanager
def frozen(net: nn.Module) -> Iterator[None]:
    """Take the weights of a network as given: what is computed here has gradients of its inputs alone."""
    learning = [parameter for parameter in net.parameters() if parameter.requires_grad]
    try:
        for parameter in learning:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


def _mean(losses: list[Tensor]) -> Tensor:
    return torch.stack(losses).mean()


def _halving(inputs: int, outputs: int) -> nn.Sequential:
    """Two convolutions, the second with half the side: a side of one pixel stays one."""
    return nn.Sequential(
        spectral_norm(conv(inputs, outputs)),
        nn.LeakyReLU(LEAK),
        spectral_norm(conv(outputs, outputs, stride=2)),
        nn.LeakyReLU(LEAK),
    )
