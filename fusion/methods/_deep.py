"""Deep: the base of methods that are networks. A method gives its networks and losses; this gives the rest.

Weights come from a checkpoint, images are worked on in overlapping patches of one lattice (see :mod:`._patches`), and
the predictions from several references are put together by how little the coarse image changed since each.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
from affine import Affine
from torch import Tensor, nn

from ..stack import Stack, nearest_days
from . import Law, Method, param
from ._inference import predicted
from ._networks import chosen, loaded
from ._sample import Sample

__all__ = ["Deep", "Facts", "Sample"]

SIDE = 288  # of a patch in fine pixels, about, with its margins
CONTEXT = 16  # fine pixels around a patch's core, at least


class Facts(NamedTuple):
    """What patches depend on beside their pixels: the pairs in use and the whole scene's place and size."""

    pairs: tuple[int, ...]
    transform: tuple[float, ...]
    shape: tuple[int, int]


@dataclass(frozen=True)
class Deep(Method):
    """A network: predicts after training, with the weights of a checkpoint.

    Class variables beside those of a method:

    at_once
        Pairs that the network takes at once. With 1, the network "generator" takes ``(fine, coarse, target)`` of one
        pair and gives the change that is added to `base`, and predictions from several pairs are averaged by
        `Sample.shares`; with 2, a method overrides `forward`.
    rate
        Learning rate of the paper.
    from_base
        An untrained network gives exactly its base; else it does where nothing changed.
    """

    at_once: ClassVar[int] = 1
    rate: ClassVar[float] = 1e-3
    from_base: ClassVar[bool] = True
    family: ClassVar[str] = "deep learning"
    departs: ClassVar[dict[Law, str]] = {
        "offset": "for a network answers to levels as it has learnt",
        "copy": "for a trained network is not bound to change nothing",
        "bands": "for a network sees all bands at once",
        "turns": "for the weights of a convolution have a direction",
    }

    checkpoint: str = param("", doc="Name of the checkpoint with the weights; empty for the bundled one that fits.")

    base: Literal["reference", "delta", "regression"] = param(
        "reference",
        doc="What the network adds to: the fine image; that plus the coarse change; or that plus detail by regression.",
        training=True,
    )

    def networks(self, bands: int, ratio: int) -> nn.ModuleDict:
        """Make the networks, untrained: ``{"generator": ...}``; a name with "discriminator" is only for training."""
        raise NotImplementedError

    def losses(self, nets: nn.ModuleDict, sample: Sample) -> Iterator[tuple[str, Tensor]]:
        """Yield the name of a network and the loss that it is to reduce; the caller steps before it asks for more."""
        raise NotImplementedError

    def forward(self, nets: nn.ModuleDict, sample: Sample) -> Tensor:
        """Predict ``(n, band, y, x)``, normalised, from all pairs of a sample."""
        one = [self.single(nets, sample, k) for k in range(sample.fine.shape[1])]
        return one[0] if len(one) == 1 else (torch.stack(one, 1) * sample.shares()).sum(1)

    def single(self, nets: nn.ModuleDict, sample: Sample, pair: int) -> Tensor:
        """Predict ``(n, band, y, x)``, normalised, from one pair of a sample."""
        change: Tensor = nets["generator"](sample.fine[:, pair], sample.coarse[:, pair], sample.target)
        if self.base != "reference":  # what is added to the coarse change scales with it
            change = change * sample.change()[:, pair]
        return self.start(nets, sample, pair) + change

    def start(self, nets: nn.ModuleDict, sample: Sample, pair: int) -> Tensor:
        """What the network's change of one pair is added to, ``(n, band, y, x)``."""
        return sample.start(pair, self.base)

    @property
    def half(self) -> bool:
        """Whether half precision is exact enough for it on a GPU."""
        return True

    def patch(self, ratio: int) -> tuple[int, int]:
        """Side of a patch, margins included, and margin, in coarse pixels."""
        margin = max(1, -(-CONTEXT // ratio))
        return max(-(-SIDE // ratio), 5 * margin), margin

    def halo(self, ratio: int) -> int:
        """Side of a patch in fine pixels: every patch that touches a tile lies within it."""
        return self.patch(ratio)[0] * ratio

    def check_for(self, pairs: int, bands: tuple[str, ...], ratio: int) -> None:
        """Raise FusionError if there are too few pairs, or no weights for these bands and this ratio."""
        super().check_for(pairs, bands, ratio)
        chosen(self, bands, ratio)

    def prepare(self, stack: Stack) -> Facts:
        """Find the pairs that show anything, and where the scene lies."""
        seen = [
            k for k in range(len(stack.days)) if np.isfinite(stack.fine[k]).any() and np.isfinite(stack.coarse[k]).any()
        ]
        if self.at_once > 1:
            days = {stack.reference_days[k]: k for k in seen}
            seen = [days[day] for day in nearest_days(list(days), stack.day, self.at_once)]
            seen = [*seen, *seen[:1]] if len(seen) == 1 else seen
        return Facts(tuple(seen), tuple(stack.geobox.affine)[:6], stack.fine.shape[2:])

    def predict(self, stack: Stack, state: Facts) -> np.ndarray:
        """Predict with the weights of the checkpoint, patch by patch."""
        found = loaded(chosen(self, stack.bands, stack.ratio))
        order = [stack.bands.index(band) for band in found.checkpoint.bands]
        out = np.empty(stack.fine.shape[1:], np.float32)
        out[order] = predicted(found, stack.select(state.pairs), order, offset(stack, state), state.shape)
        return out


def offset(stack: Stack, state: Facts) -> tuple[int, int]:
    """Row and column of the stack's first pixel in the whole scene."""
    x, y = ~Affine(*state.transform) * (stack.geobox.affine.c, stack.geobox.affine.f)
    return round(y), round(x)
