"""GAN-STFM: the coarse image of the day and one fine image of any day, judged by a discriminator while training."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from . import param, register
from ._deep import Deep, Sample
from ._discriminators import MultiScale, fooling, judging
from ._layers import conv, resized, stacked, start_at_zero
from ._losses import l1, perceptual, spectral_angle, structure

LEAK = 0.01  # slope of an activation below zero
FACTORS = (1, 2, 4, 8)  # channels of the encoder's blocks, times the width


@register
@dataclass(frozen=True)
class Ganstfm(Deep):
    """Gives the coarse image of the target day the detail of one fine image of any day.

    The network sees the coarse image of the target day and one fine image; it does not compare two coarse images, so
    the day of the fine image matters little and one that is a year away can serve. A trunk of residual blocks reads
    the fine image and takes in features of the coarse one at every block; a decoder turns both into an image. While
    it trains, a second network looks at predictions and observed images at three scales and learns to tell them
    apart, and the first learns to leave it no difference to see.

    Notes
    -----
    With the trunk t, the lateral features s, switchable normalisation N, activation a and convolutions K, k = 1..4::

        s_k = a(K s_{k-1}),    t_k = s_k + K a N K a N t_{k-1},    F_2 = base + D(s_4, t_4)
        loss = feature_weight MSE(A(F_2)) + angle_weight SAM(F_2) + structure_weight (1 - MS-SSIM(F_2))
               + adversarial_weight (J(F_2, C_2) - 1)^2 / 2

    At 6 bands and a width of 16 the authors' generator has 578 130 parameters, this one 579 188.

    Departures. (1) The decoder gives the change since a base (F_ref, or F_ref plus the coarse change) and not the
    image: it starts at zero, so that an untrained network returns its reference. (2) A change needs the level of
    F_ref, which normalisation takes away: s_0 is C_2 together with the mean of F_ref in each coarse pixel, where the
    paper has C_2 alone. (3) Switchable normalisation (Luo et al. 2019, arXiv:1806.10779) mixes the statistics of each
    channel of a patch with those of all its channels; those of the batch are left out, for they differ between
    training and use. (4) Scores are of patches, at three scales of one design with spectral normalisation alone; the
    authors' code has one score of an image, and batch normalisation besides. (5) Edges are padded with zeros: patches
    carry more context than the generator sees. (6) A difference of pixels (content_weight) and one of the judge's
    features (matching_weight, as in the refined loss of ID-CGAN, doi:10.1109/TCSVT.2019.2920407) can be added.
    (7) Several fine images are predicted from one by one, and those whose coarse image changed least count most.
    (8) Weights start so that features keep their size from layer to layer, and learning does not begin with a wait.
    (9) Spectra differ by their angle, where the authors take 1 minus its cosine, which hardly feels small angles.

    The network needs no coarse image of the reference day. This implementation still asks for one, as every method
    does, for the share of a pair among several and for the base "delta".
    """

    title = "GAN-STFM"
    paper = "Tan, Gao, Li & Jiang 2021, doi:10.1109/TGRS.2021.3050551"
    rate = 2e-4

    width: int = param(
        16, doc="Channels of the first block; the next have 2, 4 and 8 times as many.", low=4, high=64, training=True
    )
    feature_weight: float = param(
        1.0, doc="Weight of the difference in the autoencoder's features.", unit="1", low=0, high=100, training=True
    )
    angle_weight: float = param(
        1.0, doc="Weight of the angle between spectra.", unit="1", low=0, high=100, training=True
    )
    structure_weight: float = param(1.0, doc="Weight of 1 - MS-SSIM.", unit="1", low=0, high=100, training=True)
    adversarial_weight: float = param(
        1e-3, doc="Weight of the discriminator's verdict; 0 = none.", unit="1", low=0, high=10, training=True
    )
    matching_weight: float = param(
        0.0,
        doc="Weight of the difference in the discriminator's features; 0 = none.",
        unit="1",
        low=0,
        high=100,
        training=True,
    )
    content_weight: float = param(
        0.0, doc="Weight of the mean absolute difference of pixels; 0 = none.", unit="1", low=0, high=100, training=True
    )

    def networks(self, bands: int, ratio: int) -> nn.ModuleDict:
        """Make the generator, and the discriminator of three scales."""
        judge = MultiScale(2 * bands, 2 * self.width)
        return nn.ModuleDict({"generator": Generator(bands, self.width), "discriminator": judge})

    def losses(self, nets: nn.ModuleDict, sample: Sample) -> Iterator[tuple[str, Tensor]]:
        """Yield the generator's loss, then the discriminator's."""
        judge = cast(MultiScale, nets["discriminator"])
        out = self.forward(nets, sample)
        wanted = sample.wanted(out)
        loss = self._content(out, wanted, sample)
        if not (self.adversarial_weight or self.matching_weight):
            yield "generator", loss
            return
        verdict = fooling(judge, out, wanted, sample.target, self.adversarial_weight, self.matching_weight)
        yield "generator", loss + verdict
        yield "discriminator", judging(judge, out, wanted, sample.target)

    def _content(self, out: Tensor, wanted: Tensor, sample: Sample) -> Tensor:
        loss = 0 * out.sum()  # that has a gradient whatever the weights
        if self.feature_weight:
            loss = loss + self.feature_weight * perceptual(out, wanted, sample)
        if self.angle_weight:
            loss = loss + self.angle_weight * spectral_angle(out, wanted, sample)
        if self.structure_weight:
            loss = loss + self.structure_weight * structure(out, wanted)
        if self.content_weight:
            loss = loss + self.content_weight * l1(out, wanted)
        return loss


class Generator(nn.Module):
    """Four encoder blocks on a trunk and a lateral branch, four decoder blocks."""

    def __init__(self, bands: int, width: int) -> None:
        super().__init__()
        channels = [width * factor for factor in FACTORS]
        trunk, lateral = [bands, *channels[:-1]], [2 * bands, *channels[:-1]]
        self.encoder = nn.ModuleList(Lateral(*each) for each in zip(trunk, lateral, channels, strict=True))
        back = [2 * channels[-1], *reversed(channels)]
        last = Point(width, bands)
        self.decoder = nn.Sequential(*(Block(*each) for each in pairwise(back)), last)
        self.apply(_keep_size)
        start_at_zero(last)

    def forward(self, fine: Tensor, coarse: Tensor, target: Tensor) -> Tensor:
        """Predict the change of the fine image until the target day; the coarse image of its own day is not used."""
        rows, columns = target.shape[-2:]
        level = functional.adaptive_avg_pool2d(fine, (int(rows), int(columns)))
        trunk, lateral = fine, resized(stacked(target, level), fine)
        for block in self.encoder:
            trunk, lateral = block(trunk, lateral)
        out: Tensor = self.decoder(stacked(lateral, trunk))
        return out


class Lateral(nn.Module):
    """Block of the encoder: the trunk, normalised, takes in the features of the lateral branch."""

    def __init__(self, trunk: int, lateral: int, channels: int) -> None:
        super().__init__()
        self.before, self.between = Switchable(trunk), Switchable(trunk)
        self.first, self.second = conv(trunk, trunk), Point(trunk, channels)
        self.lateral = nn.Sequential(conv(lateral, lateral), Point(lateral, channels))

    def forward(self, trunk: Tensor, lateral: Tensor) -> tuple[Tensor, Tensor]:
        """Return trunk and lateral features."""
        lateral = active(self.lateral(lateral))
        trunk = self.first(active(self.before(trunk)))
        trunk = self.second(active(self.between(trunk)))
        return trunk + lateral, lateral


class Block(nn.Module):
    """Block of the decoder: two convolutions, and a short way past them."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first, self.second = conv(inputs, outputs), Point(outputs, outputs)
        self.past = Point(inputs, outputs)

    def forward(self, image: Tensor) -> Tensor:
        """Return features of as many channels as the block gives."""
        out: Tensor = self.second(active(self.first(image)))
        out += self.past(image)
        return out


class Point(nn.Conv2d):
    """Convolution of single pixels, as a product of matrices: on a processor a sixth of the network's time less."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Mix the channels of every pixel."""
        return functional.linear(image.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


class Switchable(nn.Module):
    """Normalisation that learns whose mean and variance to use: each channel's, or those of all channels together.

    They are of one patch, in training and in use alike; there are no running averages.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.of_mean, self.of_variance = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
        self.eps = eps

    def forward(self, image: Tensor) -> Tensor:
        """Normalise ``(n, channel, y, x)``."""
        variance, mean = torch.var_mean(image.float(), (2, 3), correction=0)  # (n, channel)
        whole = mean.mean(1, keepdim=True)
        spread = (variance + mean.square()).mean(1, keepdim=True) - whole.square()
        shares = self.of_mean.softmax(0), self.of_variance.softmax(0)
        middle = shares[0][0] * mean + shares[0][1] * whole
        gain = self.weight * torch.rsqrt(shares[1][0] * variance + shares[1][1] * spread.clamp_min(0) + self.eps)
        shift = self.bias - middle * gain
        return torch.addcmul(shift[..., None, None].to(image), image, gain[..., None, None].to(image))


def _keep_size(layer: nn.Module) -> None:
    """Start a convolution such that what comes out is as large as what goes in: there are sixteen in a row."""
    if isinstance(layer, nn.Conv2d):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
        nn.init.zeros_(cast(Tensor, layer.bias))


def active(image: Tensor) -> Tensor:
    """Leaky rectifier; overwrites its input, which is always an intermediate one."""
    return functional.leaky_relu(image, LEAK, inplace=True)
