"""Sample: what networks see of a fusion problem. Normalised, without gaps, many patches at once."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..stack import Stack
from ._regression import detail

Base = Literal["reference", "delta", "regression"]
Features = Callable[[Tensor], Tensor]  # (n, band, y, x) to (n, feature, y, x)
NOISE = 0.2  # standard deviations by which an unchanged pixel differs between two days


@dataclass(frozen=True)
class Sample:
    """Patches of pairs and target, normalised per band by ``(reflectance - mean) / scale``; gaps are filled."""

    fine: Tensor  # (n, pair, band, y, x)
    coarse: Tensor  # (n, pair, band, v, u), native coarse pixels; y = v * ratio
    target: Tensor  # (n, band, v, u)
    valid: Tensor  # (n, pair, 1, y, x): 1 where the pair was seen, 0 where it was filled
    mean: Tensor  # (band, 1, 1) reflectance
    scale: Tensor  # (band, 1, 1) reflectance
    bands: tuple[str, ...]
    truth: Tensor | None = None  # (n, band, y, x), in training; filled where it is not known
    known: Tensor | None = None  # (n, 1, y, x): 1 where the truth is known

    @property
    def ratio(self) -> int:
        """Fine pixels per coarse pixel, along one side."""
        return int(self.fine.shape[-1] // self.coarse.shape[-1])

    def up(self, coarse: Tensor) -> Tensor:
        """Bring ``(n, channel, v, u)`` to the fine grid, bilinearly; the outermost pixel is repeated."""
        if self.ratio == 1:
            return coarse
        return functional.interpolate(coarse, scale_factor=self.ratio, mode="bilinear", align_corners=False)

    def down(self, fine: Tensor) -> Tensor:
        """Mean of the fine pixels of each coarse pixel: ``(n, channel, y, x)`` to ``(n, channel, v, u)``."""
        return fine if self.ratio == 1 else functional.avg_pool2d(fine, self.ratio)

    def reflectance(self, image: Tensor) -> Tensor:
        """Undo the normalisation of ``(n, band, y, x)``."""
        return image * self.scale + self.mean

    def wanted(self, prediction: Tensor) -> Tensor:
        """Truth to compare a prediction with: where it is not known, the prediction itself, so that no loss is felt."""
        if self.truth is None or self.known is None:
            raise ValueError("A loss wants a sample with truth, got one of a prediction: take it from samples().")
        return torch.where(self.known > 0, self.truth, prediction.detach())

    def change(self) -> Tensor:
        """How much the coarse image changed since each pair: ``(n, pair, 1, y, x)``, root mean square of the bands."""
        n, pairs = self.coarse.shape[:2]
        rms = (self.target.unsqueeze(1) - self.coarse).pow(2).mean(2, keepdim=True).add(1e-8).sqrt()
        fine = self.up(rms.flatten(0, 1))
        return fine.reshape(n, pairs, *fine.shape[1:])

    def shares(self) -> Tensor:
        """Weight of each pair in a mean, ``(n, pair, 1, y, x)``: 1 / (change^2 + noise^2); none where it is a gap."""
        weight = self.valid / (self.change().pow(2) + NOISE**2) + 1e-9
        return weight / weight.sum(1, keepdim=True)

    def since(self, pair: int, base: Base, features: Features | None = None) -> Tensor:
        """Change since a pair as its base has it, ``(n, band, y, x)``: none, the coarse one, or that with detail.

        What tells the detail are the bands of the pair and of the one beside it, and features of these images.
        """
        if base == "reference":
            return torch.zeros_like(self.fine[:, pair])
        change = self.target - self.coarse[:, pair]
        if base == "delta":
            return self.up(change)
        other = pair + 1 if pair + 1 < self.fine.shape[1] else max(pair - 1, 0)
        images = self.fine[:, sorted({pair, other})]
        known = images.flatten(1, 2)
        if features is not None:
            more = features(images.flatten(0, 1))
            known = torch.cat([known, more.reshape(len(known), -1, *known.shape[2:])], 1)
        return self.up(change) + detail(known, change, self.valid[:, pair])

    def start(self, pair: int, base: Base, features: Features | None = None) -> Tensor:
        """What a network adds to, ``(n, band, y, x)``: a pair's fine image and the change since."""
        return self.fine[:, pair] + self.since(pair, base, features)

    def start_of_all(self, base: Base) -> Tensor:
        """Mean of the starts of all pairs, the less changed the heavier."""
        starts = torch.stack([self.start(k, base) for k in range(self.fine.shape[1])], 1)
        return starts[:, 0] if starts.shape[1] == 1 else (starts * self.shares()).sum(1)

    def to(self, device: str) -> "Sample":
        """Return the sample on a device."""
        parts = {
            name: value.to(device, non_blocking=True) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return Sample(**parts, bands=self.bands)


class Filled(NamedTuple):
    """A stack without gaps, float32 reflectance; `gone` = no pair or no target there."""

    fine: np.ndarray  # (pair, band, y, x)
    coarse: np.ndarray  # (pair, band, v, u)
    target: np.ndarray  # (band, v, u)
    valid: np.ndarray  # (pair, y, x) bool
    gone: np.ndarray  # (y, x) bool


def filled(stack: Stack, mean: np.ndarray) -> Filled:
    """Fill gaps from the same pixel of other days, else with the mean `(band,)`; nothing spreads."""
    r = stack.ratio
    days = np.concatenate([stack.coarse, stack.target[None]])
    seen = np.isfinite(days)
    instead = _mean_of_days(days, seen)
    instead = np.where(np.isfinite(instead), instead, mean[:, None, None])
    days = np.where(seen, days, instead).astype(np.float32)
    coarse, target = days[:-1], days[-1]
    there = np.isfinite(stack.fine)
    fine = stack.fine
    if not there.all():
        blurred = repeated(coarse, r)
        detail = _mean_of_days(fine - blurred, there)  # what other days have beyond their coarse image
        fine = np.where(there, fine, blurred + np.where(np.isfinite(detail), detail, 0)).astype(np.float32)
    valid = there.all(axis=1) & repeated(seen[:-1].all(axis=1), r)
    gone = ~valid.any(axis=0) | ~repeated(seen[-1].all(axis=0), r)
    return Filled(fine, coarse, target, valid, gone)


def _mean_of_days(values: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Mean over the first axis of what was seen; NaN where nothing was."""
    count = seen.sum(axis=0)
    total = np.where(seen, values, 0).sum(axis=0, dtype=np.float64)
    mean: np.ndarray = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return mean


def repeated(coarse: np.ndarray, ratio: int) -> np.ndarray:
    """Give every fine pixel of ``(..., y, x)`` the value of the coarse one it lies in."""
    return coarse.repeat(ratio, axis=-2).repeat(ratio, axis=-1)
