"""StfNet: the changes before and after the target day, learnt so that they add up."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from . import param, register
from ._deep import Deep, Sample
from ._layers import conv, resized, stacked, start_at_zero
from ._losses import mse, temporal


@register
@dataclass(frozen=True)
class Stfnet(Deep):
    """Predicts the change since one date and until another, and lets the two agree.

    Two networks of the same build each take the change of the coarse image between a reference date and the target
    day, with the fine image of that date, whose texture shows where the change has its edges; each gives the change of
    the fine image. What changed before the target day and what changes after it must together be what changed between
    the two references, which is known: training asks for that beside the right answers. The prediction is the mean of
    both, and the reference whose coarse image changed less counts more.

    Notes
    -----
    With the networks N_1 and N_2 and the references on the days 1 and 3::

        dF_12 = N_1(C_2 - C_1, F_1)
        dF_23 = N_2(C_3 - C_2, F_3)
        F_2 = w_1 (F_1 + dF_12) + w_3 (F_3 - dF_23),   w_k ~ 1 / |C_2 - C_k|,   w_1 + w_3 = 1
        loss = MSE(F_1 + dF_12) + MSE(F_3 - dF_23) + temporal_weight |dF_12 + dF_23 - (F_3 - F_1)|

    Both networks are three convolutions of 9 x 9, 5 x 5 and 5 x 5 with 32, 16 and as many channels as there are bands.

    Departures. (1) The last layers start at zero: an untrained network returns its references; with the base "delta",
    the interpolated coarse change is added to dF. (2) Weights are per fine pixel of the interpolated root mean square
    change of all bands. (3) The weight of the temporal term is a parameter. (4) References on one side of the target
    day are taken as they come, in time order: the changes add up there, too. (5) The learning rate is ours: it is for
    normalised values and Adam.
    """

    title = "StfNet"
    paper = "Liu, Deng, Chanussot, Hong & Zhao 2019, doi:10.1109/TGRS.2019.2907310"
    pairs = 2
    at_once = 2

    width: int = param(
        32, doc="Channels of the first layer; the second has half as many.", low=4, high=128, training=True
    )
    temporal_weight: float = param(
        1.0,
        doc="Weight of the demand that both changes add up to the one between the references.",
        unit="1",
        low=0,
        high=100,
        training=True,
    )

    def networks(self, bands: int, ratio: int) -> nn.ModuleDict:
        """One generator of two streams."""
        return nn.ModuleDict({"generator": Generator(bands, self.width)})

    def losses(self, nets: nn.ModuleDict, sample: Sample) -> Iterator[tuple[str, Tensor]]:
        """Yield the loss of both streams and of their sum."""
        changes = self.changes(nets, sample)
        loss = torch.zeros((), device=sample.fine.device)
        for k, out in enumerate(self.both(sample, changes)):
            loss = loss + mse(out, torch.where(sample.valid[:, k] > 0, sample.wanted(out), out.detach()))
        if self.temporal_weight:
            loss = loss + self.temporal_weight * temporal(*changes, between(sample, *changes))
        yield "generator", loss

    def forward(self, nets: nn.ModuleDict, sample: Sample) -> Tensor:
        """Predict the mean of both streams, the reference that changed less the heavier."""
        return (torch.stack(self.both(sample, self.changes(nets, sample)), 1) * sample.shares()).sum(1)

    def changes(self, nets: nn.ModuleDict, sample: Sample) -> tuple[Tensor, Tensor]:
        """Predict the changes of the fine image from day 1 to 2 and from day 2 to 3."""
        coarse = sample.target - sample.coarse[:, 0], sample.coarse[:, 1] - sample.target
        fine = nets["generator"](sample.fine, *coarse)
        return fine[0] + sample.since(0, self.base), fine[1] - sample.since(1, self.base)

    def both(self, sample: Sample, changes: tuple[Tensor, Tensor]) -> list[Tensor]:
        """Predictions from either reference."""
        return [sample.fine[:, 0] + changes[0], sample.fine[:, 1] - changes[1]]


class Generator(nn.Module):
    """One stream for each reference."""

    def __init__(self, bands: int, width: int) -> None:
        super().__init__()
        self.since, self.until = _stream(bands, width), _stream(bands, width)

    def forward(self, fine: Tensor, since: Tensor, until: Tensor) -> tuple[Tensor, Tensor]:
        """Predict both changes from the fine images ``(n, 2, band, y, x)`` and the changes of the coarse one."""
        first, last = fine.unbind(1)
        return (
            self.since(stacked(resized(since, first), first)).float(),
            self.until(stacked(resized(until, last), last)).float(),
        )


def between(sample: Sample, since: Tensor, until: Tensor) -> Tensor:
    """Change between the references; where one was not seen, the predicted one, so that no loss is felt."""
    seen = sample.valid.amin(1) > 0
    return torch.where(seen, sample.fine[:, 1] - sample.fine[:, 0], (since + until).detach())


def _stream(bands: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        conv(2 * bands, width, 9),
        nn.ReLU(),
        conv(width, width // 2, 5),
        nn.ReLU(),
        start_at_zero(conv(width // 2, bands, 5)),
    )
