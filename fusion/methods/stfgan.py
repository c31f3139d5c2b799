"""STFGAN: two dates with pairs, from coarse to fine in two stages, judged by discriminators while training."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import log2, sqrt
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from . import param, register
from ._deep import Deep, Sample
from ._discriminators import Discriminator, fooling, judging
from ._layers import conv, resized, stacked, start_at_zero
from ._losses import mse


@register
@dataclass(frozen=True)
class Stfgan(Deep):
    """Brings the coarse images to fine detail in two stages, each with the detail of two fine images.

    Wants a pair before and one after the target day. A first stage predicts the target day half way between the coarse
    and the fine resolution, a second one from there. Each stage sharpens the coarser images of all three days, reads
    the detail of the two finer ones, and joins both. While it trains, a second network per stage looks at predictions
    and observed images and learns to tell them apart, and the first learns to leave it no difference to see. The
    largest of the networks here but for the transformer: slow without a GPU.

    Notes
    -----
    With M = images on the middle grid (m x m of its pixels in a coarse pixel, m = round(sqrt(ratio))), and a stage
    G(x_1, x_2, x_3; z_1, z_3) = conv(up(S(x_1, x_2, x_3)), H(z_1, z_3)) of a branch S of residual blocks with pixel
    shuffling and a branch H of half as many::

        M_2 = base_M + G_1(C_1, C_2, C_3; M_1, M_3),    F_2 = base + G_2(M_1, M_2, M_3; F_1, F_3)
        loss = MSE(M_2) + MSE(F_2) + adversarial_weight ((J_1(M_2, C_2) - 1)^2 + (J_2(F_2, C_2) - 1)^2) / 2

    with M_1 and M_3 the means of the fine images. At 6 bands, ratio 16, a width of 64 and 16 blocks each of both
    stages has 2 359 710 parameters: heads of 9 x 9 (93 376 + 62 272), 16 + 8 blocks of two 3 x 3 convolutions and the
    slope of an activation (73 857 each), the last of each branch (36 928 each), two shuffles (147 712 each), and the
    joint of 9 x 9 (62 214). Normalisation would add 6656.

    Departures. (1) Each stage gives the change since a base (`base` of all pairs, and its mean on the middle grid) and
    starts at zero, so that an untrained network returns its base; there is no tanh, for values are normalised and not
    bounded. (2) Both stages are trained together, each with its own loss, and the second one's reaches the first; the
    paper trains them one after the other. (3) No batch normalisation: its statistics differ between training and use.
    (4) The paper has ratio 16 and two factors of 4. Here a factor f is reached by floor(log2 f) shuffles and then
    bilinearly, so that any ratio works; at ratio 1 the stages only correct. (5) Discriminators know the coarse image,
    score patches by least squares, and have spectral in place of batch normalisation. (6) A difference of the
    discriminators' features (matching_weight, as in the refined loss of ID-CGAN, doi:10.1109/TCSVT.2019.2920407) can
    be added. (7) Training of only two days has the same pair on both sides of the target.
    """

    title = "STFGAN"
    paper = "Zhang, Song, Han & Zhang 2021, doi:10.1109/TGRS.2020.3010530"
    pairs = 2
    at_once = 2
    rate = 1e-4

    width: int = param(64, doc="Channels of all layers.", low=4, high=128, training=True)
    blocks: int = param(
        16, doc="Residual blocks for coarse images; half as many for fine ones.", low=2, high=32, training=True
    )
    adversarial_weight: float = param(
        1e-3, doc="Weight of the discriminators' verdict; 0 = none.", unit="1", low=0, high=10, training=True
    )
    matching_weight: float = param(
        0.0,
        doc="Weight of the difference in the discriminators' features; 0 = none.",
        unit="1",
        low=0,
        high=100,
        training=True,
    )

    def networks(self, bands: int, ratio: int) -> nn.ModuleDict:
        """Make the generator of two stages, and a discriminator for each."""
        judges = nn.ModuleList(Discriminator(2 * bands, self.width) for _ in range(2))
        generator = Generator(bands, ratio, self.width, self.blocks)
        return nn.ModuleDict({"generator": generator, "discriminator": judges})

    def forward(self, nets: nn.ModuleDict, sample: Sample) -> Tensor:
        """Predict ``(n, band, y, x)``, normalised, from two pairs."""
        return self.both(nets, sample)[1]

    def both(self, nets: nn.ModuleDict, sample: Sample) -> tuple[Tensor, Tensor]:
        """Predict on the middle and on the fine grid."""
        start = sample.start_of_all(self.base)
        changes = nets["generator"](sample.fine, sample.coarse, sample.target, start)
        return shrunk(start, sample) + changes[0], start + changes[1]

    def losses(self, nets: nn.ModuleDict, sample: Sample) -> Iterator[tuple[str, Tensor]]:
        """Yield the loss of the generator, then that of the discriminators."""
        out = self.both(nets, sample)
        wanted = _wanted_in_the_middle(out[0], sample), sample.wanted(out[1])
        loss = mse(out[0], wanted[0]) + mse(out[1], wanted[1])
        if not (self.adversarial_weight or self.matching_weight):
            yield "generator", loss
            return
        judges = [cast(Discriminator, judge) for judge in cast(nn.ModuleList, nets["discriminator"])]
        looks = list(zip(judges, out, wanted, strict=True))
        weights = self.adversarial_weight, self.matching_weight
        yield "generator", loss + sum(fooling(*look, sample.target, *weights) for look in looks)
        yield "discriminator", torch.stack([judging(*look, sample.target) for look in looks]).sum()


class Generator(nn.Module):
    """Two stages: from the coarse grid to the middle one, and from there to the fine one."""

    def __init__(self, bands: int, ratio: int, width: int, blocks: int) -> None:
        super().__init__()
        middle = halfway(ratio)
        self.first = Stage(bands, middle, width, blocks)
        self.second = Stage(bands, ratio / middle, width, blocks)

    def forward(self, fine: Tensor, coarse: Tensor, target: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        """Predict the change since `start` on both grids; fine and coarse are of two pairs."""
        n, pairs, bands = fine.shape[:3]
        size = middle_size(fine.shape[-1] // coarse.shape[-1], target)
        middle = mean_of(fine.flatten(0, 1), size).reshape(n, pairs, bands, *size)
        early: Tensor = self.first(_three(coarse, target), middle.flatten(1, 2))
        now = mean_of(start, size) + early
        return early, self.second(_three(middle, now), fine.flatten(1, 2))


class Stage(nn.Module):
    """Sharpens the coarser images of three days by a factor, with the detail of the finer ones of two."""

    def __init__(self, bands: int, factor: float, width: int, blocks: int) -> None:
        super().__init__()
        self.coarse = Branch(3 * bands, width, blocks)
        self.sharper = nn.Sequential(*(Shuffle(width) for _ in range(int(log2(factor)))))
        self.fine = Branch(2 * bands, width, max(1, blocks // 2))
        self.joint = start_at_zero(conv(2 * width, bands, 9))

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """Predict the change on the grid of `fine`; images of several days are stacked band-wise."""
        detail = self.fine(fine)
        out: Tensor = self.joint(stacked(resized(self.sharper(self.coarse(coarse)), detail), detail))
        return out


class Branch(nn.Module):
    """Features of stacked images: a wide look, residual blocks, and a short way past them."""

    def __init__(self, inputs: int, width: int, blocks: int) -> None:
        super().__init__()
        self.head = nn.Sequential(conv(inputs, width, 9), nn.ReLU())
        self.body = nn.Sequential(*(Residual(width) for _ in range(blocks)), conv(width, width))

    def forward(self, images: Tensor) -> Tensor:
        """Return features at the images' resolution."""
        features = self.head(images)
        out: Tensor = features + self.body(features)
        return out


class Residual(nn.Module):
    """Block of SRGAN (Ledig et al. 2017, doi:10.1109/CVPR.2017.19) without its batch normalisation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(width, width), nn.PReLU(), conv(width, width))

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same size."""
        out: Tensor = features + self.body(features)
        return out


class Shuffle(nn.Sequential):
    """Doubles the side: four times the channels become 2 x 2 pixels."""

    def __init__(self, width: int) -> None:
        super().__init__(conv(width, 4 * width), nn.PixelShuffle(2), nn.ReLU())


def halfway(ratio: int) -> int:
    """Pixels of the middle grid along a side of a coarse pixel."""
    return max(1, round(sqrt(ratio)))


def middle_size(ratio: int, coarse: Tensor) -> tuple[int, int]:
    """Rows and columns of the middle grid."""
    rows, columns = coarse.shape[-2:]
    return int(rows) * halfway(ratio), int(columns) * halfway(ratio)


def mean_of(fine: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring ``(n, channel, y, x)`` to a coarser grid: means of the pixels that each of its pixels touches."""
    return functional.adaptive_avg_pool2d(fine, size)


def shrunk(fine: Tensor, sample: Sample) -> Tensor:
    """Bring ``(n, channel, y, x)`` to the middle grid of a sample."""
    return mean_of(fine, middle_size(sample.ratio, sample.target))


def _three(two: Tensor, between: Tensor) -> Tensor:
    """Stack the images of both pairs and the target day in time order: ``(n, 3 * band, y, x)``."""
    return stacked(two[:, 0], between, two[:, 1])


def _wanted_in_the_middle(prediction: Tensor, sample: Sample) -> Tensor:
    """Truth on the middle grid; where a pixel of it is not wholly known, the prediction."""
    if sample.truth is None or sample.known is None:
        return sample.wanted(prediction)  # which says what is wrong
    known = shrunk(sample.known, sample) > 0.999
    return torch.where(known, shrunk(sample.truth, sample), prediction.detach())
