"""SwinSTFM: Swin transformers read the images, and attention spreads the coarse change over alike fine pixels."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from . import param, register
from ._deep import Deep, Sample
from ._layers import conv, padded, resized, start_at_zero
from ._losses import charbonnier, structure
from ._swin import Grid, Stage, Unmixing, merged, spread

DEPTHS = (2, 2, 6, 2)  # blocks of each level
LEVELS = (1, 2, 4, 8, 8)  # times the width: channels of each level, the last one being that of the deepest tokens
STEP = 2 ** len(LEVELS)  # fine pixels of a deepest token along a side


@register
@dataclass(frozen=True)
class Swinstfm(Deep):
    """Spreads the coarse change by attention over places that look alike in both images.

    Transformers with shifted windows read the fine image and, with weights of their own, both coarse images, at five
    resolutions. At each one the change of the coarse features is gathered from places that are alike in the fine and
    in the coarse images, as unmixing does with classes, and is added to the fine features; a decoder goes from the
    deepest of them up to fine pixels. This is by far the largest of the networks here, and wants many pairs, large
    crops (128 fine pixels and more, since the deepest windows span 256) and preferably a GPU to train.

    Notes
    -----
    With features F_1, C_1, C_2 of a level (`C` from one shared encoder) and weights q, k, v of each head, d channels::

        A = softmax((q(C_1) k(F_1) + q'(C_1) k'(C_2)) / sqrt(d) + B)
        U = F_1 + A v(C_2 - C_1)
        X = Swin(W [C_2, U, up(X of the next deeper level)]),   X of the deepest level = U
        F_2 = base + head(X of the first level)
        loss = Charbonnier(F_2) + structure_weight (1 - MS-SSIM(F_2))

    At the default width and six bands there are 37 527 482 parameters; the paper's code has 37 535 290. The difference
    are biases that departure 4 leaves out: with 64 + 128 + 256 + 512 = 960 channels in four levels of two unmixing
    blocks and 512 in the deepest of one, 2 (2 * 960 + 512) = 4 864 of keys and 2 (960 + 512) = 2 944 of norms.

    Departures. (1) The head gives the change since a base and starts at zero, so that an untrained network returns its
    reference; it has no tanh, which would bound the change. (2) Any size: images are extended to multiples of 32
    pixels (a patch of 2, halved four times), windows are as even as their number allows (18 tokens are three windows
    of 6) and tokens that fill the last ones are seen by none. Positions have a table by window, not by resolution.
    (3) The authors multiply two softmaxes with B in each, add 1e-6 and normalise; this is one softmax of the sum, with
    one B, where nothing can vanish. (4) The keys of that attention and the norms before them have no bias, since a
    softmax does not feel it. (5) The loss is of values with standard deviation 1, theirs of reflectance brought to
    -1 .. 1.
    """

    title = "SwinSTFM"
    paper = "Chen, Jiao, Hu, Xiao & Ye 2022, doi:10.1109/TGRS.2022.3182809"
    rate = 1e-4

    width: int = param(
        64,
        doc="Channels of the first level; deeper ones have up to eight times as many.",
        low=4,
        high=256,
        training=True,
    )
    window: int = param(
        8, doc="Side of an attention window at most, in tokens of 2 pixels on the first level.", low=2, high=16,
        training=True,
    )  # fmt: skip
    structure_weight: float = param(1.0, doc="Weight of 1 - MS-SSIM.", unit="1", low=0, high=100, training=True)

    def networks(self, bands: int, ratio: int) -> nn.ModuleDict:
        """One generator."""
        return nn.ModuleDict({"generator": Generator(bands, self.width, self.window)})

    def losses(self, nets: nn.ModuleDict, sample: Sample) -> Iterator[tuple[str, Tensor]]:
        """Yield Charbonnier's loss plus that of structure."""
        out = self.forward(nets, sample)
        wanted = sample.wanted(out)
        loss = charbonnier(out, wanted)
        if self.structure_weight:
            loss = loss + self.structure_weight * structure(out, wanted)
        yield "generator", loss


class Generator(nn.Module):
    """Encoders of the fine and of the coarse images, and a decoder."""

    def __init__(self, bands: int, width: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.fine = Encoder(bands, width, window)
        self.coarse = Encoder(bands, width, window)
        self.decoder = Decoder(bands, width, window)

    def forward(self, fine: Tensor, coarse: Tensor, target: Tensor) -> Tensor:
        """Predict the change of the fine image until the target day."""
        both = padded(resized(torch.cat([coarse, target]), fine), STEP)
        whole = padded(fine, STEP)
        sizes = [(whole.shape[-2] >> k, whole.shape[-1] >> k) for k in range(1, len(LEVELS) + 1)]
        grids = [Grid.of(height, width, self.window, fine.device) for height, width in sizes]
        days = [tokens.chunk(2) for tokens in self.coarse(both, grids)]
        out: Tensor = self.decoder(self.fine(whole, grids), days, grids)
        return out[..., : fine.shape[-2], : fine.shape[-1]]


class Encoder(nn.Module):
    """Tokens of an image at five levels, each half as many along a side as the one before."""

    def __init__(self, bands: int, width: int, window: int) -> None:
        super().__init__()
        channels = [width * times for times in LEVELS]
        self.embed = nn.Sequential(nn.Linear(4 * bands, width), nn.LayerNorm(width))
        self.stages = nn.ModuleList([Stage(c, depth, window) for c, depth in zip(channels, DEPTHS, strict=False)])
        self.merges = nn.ModuleList(
            [
                nn.Sequential(nn.LayerNorm(4 * here), nn.Linear(4 * here, below, bias=False))
                for here, below in pairwise(channels)
            ]
        )

    def forward(self, image: Tensor, grids: Sequence[Grid]) -> list[Tensor]:
        """Give ``(n, y, x, channel)`` of each level; the first as embedded, the others as merged."""
        levels = [self.embed(merged(image.permute(0, 2, 3, 1)))]
        for stage, merge, grid in zip(self.stages, self.merges, grids, strict=False):
            levels.append(merge(merged(stage(levels[-1], grid))))
        return levels


class Decoder(nn.Module):
    """From the deepest tokens up to pixels."""

    def __init__(self, bands: int, width: int, window: int) -> None:
        super().__init__()
        channels = [width * times for times in LEVELS]
        self.deepest = Unmixing(channels[-1], 1, window)
        self.rises = nn.ModuleList(
            [
                Rise(here, max(here // 2, width), depth, window)
                for here, depth in zip(channels[:-1], DEPTHS, strict=True)
            ]
        )
        self.expand = conv(width, 4 * width)
        self.head = start_at_zero(conv(width, bands))

    def forward(self, fine: list[Tensor], days: Sequence[Sequence[Tensor]], grids: Sequence[Grid]) -> Tensor:
        """Give the change ``(n, band, y, x)``; `days` are the coarse tokens before and after, level by level."""
        before, after = days[-1]
        x = fine[-1] + self.deepest(before, fine[-1], after, grids[-1])
        for k in reversed(range(len(self.rises))):
            x = self.rises[k](x, fine[k], *days[k], grids[k])
        change: Tensor = self.head(expanded(self.expand, x).permute(0, 3, 1, 2))
        return change


class Rise(nn.Module):
    """One level up: deeper tokens made four, joined with unmixed ones and mixed."""

    def __init__(self, channels: int, outputs: int, depth: int, window: int) -> None:
        super().__init__()
        self.expand = conv(channels, 4 * channels)
        self.unmixing = Unmixing(channels, 2, window)
        self.join = nn.Linear(3 * channels, outputs)
        self.stage = Stage(outputs, depth, window)

    def forward(self, deeper: Tensor, fine: Tensor, before: Tensor, after: Tensor, grid: Grid) -> Tensor:
        """Give ``(n, y, x, outputs)``."""
        unmixed = fine + self.unmixing(before, fine, after, grid)
        joined = self.join(torch.cat([after, unmixed, expanded(self.expand, deeper)], -1))
        out: Tensor = self.stage(joined, grid)
        return out


def expanded(layer: nn.Conv2d, tokens: Tensor) -> Tensor:
    """Make each token four by a convolution; tokens are an image with channels last, so that nothing is moved."""
    return spread(layer(tokens.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
