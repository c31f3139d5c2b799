"""DCSTFN: features of a fine image, less those of its coarse image, plus those of the target day's."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import log2
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from . import param, register
from ._deep import Deep, Sample
from ._layers import conv, padded, resized, start_at_zero
from ._losses import mse

Layer = TypeVar("Layer", nn.Conv2d, "Doubling")

HALF = 2  # fine pixels per pixel of the features, along one side


@register
@dataclass(frozen=True)
class Dcstfn(Deep):
    """Exchanges, in features, the coarse image of the reference day for that of the target day.

    One branch reads the coarse images at their own size and enlarges what it finds by learnt steps of two, another
    reads the fine image and halves it. From the features of the fine image those of its coarse image are taken away
    and those of the target day's are added; the rest of the network turns the sum into an image. It is small and
    quick. Published weights, one network for each of green, red and near infrared, can be converted and used at
    ratio 16.

    Notes
    -----
    With the coarse branch H and the fine branch L, which ends at half the fine grid, and the reconstruction D
    (transposed convolution, two dense layers)::

        F_2 = D(L(F_1) - H(C_1) + H(C_2))
        loss = MSE(F_2)

    Layers, order and activations are those of the published weights: the transposed convolutions of H are linear, and
    every transposed one lays pixel i on pixels 2i to 2i + 2.

    Departures. (1) By default D gives the change since a base (F_1, or F_1 + up(C_2 - C_1)) and starts at zero, so
    that an untrained network returns its reference; with ``head = "image"`` it gives the image, as the paper's does,
    and starts at the mean of each band.
    (2) By default all bands go through one network, so that each may learn from the others; ``per_band`` gives each
    its own, as the paper has it. (3) The paper's network is for ratio 16, which is three doublings by H and one by D.
    At another ratio r, H doubles round(log2(r / 2)) times, and its features are brought to half the fine grid
    bilinearly; at 16 nothing is left to bring. (4) At an odd ratio, an odd row or column of coarse pixels is repeated
    before and cut after. (5) Predictions of several references are averaged, the less the coarse image changed
    the heavier; the published network takes one.
    """

    title = "DCSTFN"
    paper = "Tan, Yue, Di & Tang 2018, doi:10.3390/rs10071066"

    head: Literal["change", "image"] = param(
        "change", doc="What the network gives: the change since the base, or the image itself.", training=True
    )
    per_band: bool = param(False, doc="Each band has a network of its own, which sees no other band.", training=True)
    width: int = param(
        32, doc="Channels of the first layer; the next have two and four times as many.", low=4, high=128, training=True
    )

    def networks(self, bands: int, ratio: int) -> nn.ModuleDict:
        """One generator."""
        return nn.ModuleDict({"generator": Generator(bands, self.width, doublings(ratio), self.per_band)})

    def losses(self, nets: nn.ModuleDict, sample: Sample) -> Iterator[tuple[str, Tensor]]:
        """Yield the mean squared error."""
        out = self.forward(nets, sample)
        yield "generator", mse(out, sample.wanted(out))

    @property
    def half(self) -> bool:
        """Published weights predict an image from numbers so large that half precision is 1.4e-3 off."""
        return self.head == "change"

    def single(self, nets: nn.ModuleDict, sample: Sample, pair: int) -> Tensor:
        """Predict ``(n, band, y, x)``, normalised, from one pair of a sample."""
        if self.head == "change":
            return super().single(nets, sample, pair)
        image: Tensor = nets["generator"](sample.fine[:, pair], sample.coarse[:, pair], sample.target)
        return image


class Generator(nn.Module):
    """One network for all bands, or one for each."""

    def __init__(self, bands: int, width: int, doublings: int, per_band: bool) -> None:
        super().__init__()
        count = bands if per_band else 1
        self.nets = nn.ModuleList(Network(bands // count, width, doublings) for _ in range(count))

    def forward(self, fine: Tensor, coarse: Tensor, target: Tensor) -> Tensor:
        """Predict the fine image of the target day, or its change: ``(n, band, y, x)``."""
        height, width = fine.shape[-2:]
        ratio = width // coarse.shape[-1]
        even = 1 if ratio % HALF == 0 else HALF  # coarse pixels that have an even number of fine ones
        images = padded(fine, even * ratio), padded(coarse, even), padded(target, even)
        parts = zip(self.nets, *(image.chunk(len(self.nets), 1) for image in images), strict=True)
        return torch.cat([net(*part) for net, *part in parts], 1)[..., :height, :width]


class Network(nn.Module):
    """Coarse branch, fine branch and reconstruction."""

    def __init__(self, bands: int, width: int, doublings: int) -> None:
        super().__init__()
        self.coarse = nn.Sequential(
            _he(conv(bands, width)),
            nn.ReLU(),
            _he(conv(width, 2 * width)),
            nn.ReLU(),
            *(_he(Doubling(2 * width, 2 * width)) for _ in range(doublings)),
            _he(conv(2 * width, 4 * width)),
            nn.ReLU(),
        )
        self.fine = nn.Sequential(
            _he(conv(bands, width)),
            nn.ReLU(),
            _he(conv(width, 2 * width)),
            nn.ReLU(),
            nn.MaxPool2d(HALF),
            _he(conv(2 * width, 2 * width)),
            nn.ReLU(),
            _he(conv(2 * width, 4 * width)),
            nn.ReLU(),
        )
        self.head = nn.Sequential(
            _he(Doubling(4 * width, 2 * width)),
            nn.ReLU(),
            _he(conv(2 * width, width, 1)),
            nn.ReLU(),
            start_at_zero(conv(width, bands, 1)),
        )

    def forward(self, fine: Tensor, coarse: Tensor, target: Tensor) -> Tensor:
        """Predict from images whose fine size is even."""
        features: Tensor = self.fine(fine)
        before, after = self.coarse(torch.cat([coarse, target])).chunk(2)  # one pass over both days
        out: Tensor = self.head(features + resized(after - before, features))
        return out


class Doubling(nn.ConvTranspose2d):
    """Transposed convolution to twice the size: pixel i goes to pixels 2i, 2i + 1 and 2i + 2."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, stride=2)

    def forward(self, image: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Double the size; what the last pixel lays beyond it is cut."""
        return super().forward(image, output_size)[..., :-1, :-1]


def doublings(ratio: int) -> int:
    """How often the coarse branch doubles to come near half the fine grid."""
    return max(0, round(log2(ratio / HALF)))


def _he(layer: Layer) -> Layer:
    """Start as the paper does: with torch's own start, three linear layers in a row all but erase the coarse image."""
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
