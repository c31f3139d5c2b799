"""STFDCNN: coarse to intermediate to fine, with the detail of two references brought in at both steps."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from . import Law, param, register
from ._deep import Deep, Sample
from ._layers import resized, start_at_zero
from ._losses import mse

DARK = 0.01  # reflectance below which a ratio of two images says nothing
TARGET = 2  # index of the target day, after the two references
MARGIN = 4  # intermediate pixels around a patch: half of what a network sees


@register
@dataclass(frozen=True)
class Stfdcnn(Deep):
    """Sharpens the coarse image in two steps and brings in the detail of two fine images.

    A first network turns coarse images into what the fine sensor would show at an intermediate pixel size; a second one
    turns such images into fine ones. Neither can know details, so the outcome of each step only says how bright the
    place is: the detail comes from both reference days, multiplied by how much brighter or darker the place has become
    since. The two networks learn separately, from single days; pairs of days play no part before the prediction. Two
    references are needed, and the one whose coarse image changed less counts more. Where nothing changed, the fine
    image comes back, whatever the networks have learnt.

    Notes
    -----
    With the networks M (mapping) and S (sharpening), the intermediate image I_k = mean of s x s fine pixels of F_k,
    and k = 1, 3 for the references, in two steps of the same form::

        T_k = M(C_k),  T_2 = M(C_2):   I_2 = sum_k w_k (T_2 + g_k (I_k - T_k))
        T_k = S(I_k),  T_2 = S(I_2):   F_2 = sum_k w_k (T_2 + g_k (F_k - T_k))
        g_k = T_2 / T_k,   w_k ~ 1 / |C_2 - C_k|,   sum_k w_k = 1
        losses:  MSE(M(C), I)  and  MSE(S(I), F)

    Both networks are three convolutions of 9 x 9, 5 x 5 and 5 x 5 with 64, 32 and 1 channels, one of each for every
    band, and give what their input, interpolated to the new grid, lacks.

    Departures. (1) Networks see normalised values, which may be zero or negative, so the gain g is taken in
    reflectance, each image at least 0.01, and is kept within 1 / limit to limit; a limit of 1 adds the detail as it is.
    (2) The intermediate pixel has s = the largest proper divisor of the ratio, 8 of 16 where the paper takes about 10;
    where the ratio is a prime, the intermediate grid is the coarse one, so that grids stay nested.
    (3) Weights are per fine pixel of the interpolated root mean square change of all bands, in both steps. (4) The last
    layers start at zero: an untrained network gives each reference plus the interpolated coarse change or, with the
    base "reference", where the mapping has no residual connection, about the references themselves. (5) The paper has a
    network for each band, and so has this by default; one for all bands is several times as fast and can learn from the
    other bands, but is not the paper's. (6) Convolutions repeat the outermost pixel, as half of the intermediate
    network's reach lies beyond a patch. (7) The learning rate is ours: it is for normalised values and Adam. (8) The
    abstract speaks of five layers; these three convolutions are as in public code, 57,281 numbers a band and step.
    """

    title = "STFDCNN"
    paper = "Song, Liu, Wang, Hang & Huang 2018, doi:10.1109/JSTARS.2018.2797894"
    pairs = 2
    at_once = 2
    from_base = False  # the detail that is added to the mapped image is not exactly a reference's
    departs: ClassVar[dict[Law, str]] = {
        "offset": "for networks answer to levels as they have learnt, and detail grows with them",
        "bands": "for the references' weights are of the change of all bands",
        "turns": Deep.departs["turns"],
    }

    base: Literal["reference", "delta"] = param(
        "delta",
        doc="What the mapping starts from: the interpolated coarse image (delta), or nothing (reference).",
        training=True,
    )
    width: int = param(
        64, doc="Channels of the first layer; the second has half as many.", low=4, high=256, training=True
    )
    together: bool = param(False, doc="One network for all bands instead of one for each.", training=True)
    limit: float = param(
        2.0,
        doc="Largest gain of the references' detail; the smallest is 1 / limit.",
        unit="1",
        low=1,
        high=10,
        training=True,
    )

    def networks(self, bands: int, ratio: int) -> nn.ModuleDict:
        """Two networks that are alike."""
        names = ("mapping", "sharpening")
        return nn.ModuleDict({name: Network(bands, self.width, self.together) for name in names})

    def losses(self, nets: nn.ModuleDict, sample: Sample) -> Iterator[tuple[str, Tensor]]:
        """Yield the loss of each network, over all three days."""
        s = step(sample.ratio)
        loss = torch.zeros((), device=sample.fine.device)
        for day, coarse in enumerate(days(sample)):
            out = self.mapped(nets, coarse, sample)
            loss = loss + mse(out, pooled(_seen(sample, day, _repeated(out, s)), s)) / 3
        yield "mapping", loss
        loss = torch.zeros((), device=sample.fine.device)
        for day, coarse in enumerate(days(sample)):
            middle = pooled(_seen(sample, day, sample.up(coarse)), s)
            out = self.sharpened(nets, middle, sample)
            loss = loss + mse(out, _seen(sample, day, out)) / 3
        yield "sharpening", loss

    def forward(self, nets: nn.ModuleDict, sample: Sample) -> Tensor:
        """Predict in two steps, each of a network and the references' detail."""
        s, shares = step(sample.ratio), sample.shares()
        known = [pooled(sample.fine[:, k], s) for k in range(TARGET)]
        guesses = [self.mapped(nets, coarse, sample) for coarse in days(sample)]
        middle = self.fused(sample, guesses, known, [pooled(shares[:, k], s) for k in range(TARGET)])
        guesses = [self.sharpened(nets, image, sample) for image in (*known, middle)]
        return self.fused(sample, guesses, [*sample.fine.unbind(1)], [*shares.unbind(1)])

    def mapped(self, nets: nn.ModuleDict, coarse: Tensor, sample: Sample) -> Tensor:
        """Guess the intermediate image of a coarse one, ``(n, band, v, u)``."""
        s = step(sample.ratio)
        lifted = resized(coarse, pooled(sample.fine[:, 0], s))
        lacking: Tensor = nets["mapping"](lifted).float()
        return lifted + lacking if self.base == "delta" else lacking

    def sharpened(self, nets: nn.ModuleDict, middle: Tensor, sample: Sample) -> Tensor:
        """Guess the fine image ``(n, band, y, x)`` of an intermediate one."""
        lifted = resized(middle, sample.fine[:, 0])
        lacking: Tensor = nets["sharpening"](lifted).float()
        return lifted + lacking

    def fused(self, sample: Sample, guesses: list[Tensor], known: list[Tensor], shares: list[Tensor]) -> Tensor:
        """Add the references' detail, what they have beyond their guesses, to the guess of the target day."""
        now, out = guesses[TARGET], torch.zeros_like(known[0])
        for k, share in enumerate(shares):
            out = out + share * (now + self.gain(sample, guesses[k], now) * (known[k] - guesses[k]))
        return out

    def gain(self, sample: Sample, before: Tensor, now: Tensor) -> Tensor:
        """How much brighter the target day is than a reference day."""
        ratio = sample.reflectance(now).clamp(min=DARK) / sample.reflectance(before).clamp(min=DARK)
        return ratio.clamp(1 / self.limit, self.limit)

    def patch(self, ratio: int) -> tuple[int, int]:
        """Side of a patch, margins included, and margin, in coarse pixels."""
        side, margin = super().patch(ratio)
        margin = max(margin, -(-MARGIN * step(ratio) // ratio))
        return max(side, 5 * margin), margin


class Network(nn.Module):
    """Three convolutions for each band, or for all bands together."""

    def __init__(self, bands: int, width: int, together: bool) -> None:
        super().__init__()
        channels = bands if together else 1
        self.parts = nn.ModuleList(_part(channels, width) for _ in range(bands // channels))

    def forward(self, image: Tensor) -> Tensor:
        """Give what an image lacks."""
        parts = [part(bands) for part, bands in zip(self.parts, image.chunk(len(self.parts), 1), strict=True)]
        return torch.cat(parts, 1)


def step(ratio: int) -> int:
    """Fine pixels per intermediate one along a side: the largest proper divisor of the ratio, or a prime itself."""
    return next((n for n in range(ratio // 2, 1, -1) if ratio % n == 0), ratio)


def days(sample: Sample) -> tuple[Tensor, ...]:
    """Coarse images of the two references and of the target day."""
    return (*sample.coarse.unbind(1), sample.target)


def pooled(fine: Tensor, size: int) -> Tensor:
    """Mean of ``size x size`` fine pixels."""
    return functional.avg_pool2d(fine, size) if size > 1 else fine


def _repeated(middle: Tensor, size: int) -> Tensor:
    return middle.repeat_interleave(size, -2).repeat_interleave(size, -1)


def _seen(sample: Sample, day: int, instead: Tensor) -> Tensor:
    """Fine image of a day; where it was not seen, another one, so that no loss is felt."""
    if day == TARGET:
        return sample.wanted(instead)
    seen = sample.valid[:, : day + 1].amin(1) > 0  # a scaled change makes day 1 lean on day 0
    return torch.where(seen, sample.fine[:, day], instead.detach())


def _part(channels: int, width: int) -> nn.Sequential:
    half = width // 2
    return nn.Sequential(
        nn.Conv2d(channels, width, 9, padding=4, padding_mode="replicate"),
        nn.ReLU(),
        nn.Conv2d(width, half, 5, padding=2, padding_mode="replicate"),
        nn.ReLU(),
        start_at_zero(nn.Conv2d(half, channels, 5, padding=2, padding_mode="replicate")),
    )
