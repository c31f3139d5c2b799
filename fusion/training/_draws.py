"""What a training learns from: pairs on one grid without gaps, and random crops of transitions between their days."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from itertools import combinations, permutations
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..errors import FusionError
from ..methods._sample import Sample, repeated
from ..stack import Pair

NEAR = 0.05  # coarse change, in standard deviations, below which transitions are drawn alike
BOTH = 0.75  # of the batches show a network that takes one pair two of them, whose predictions are averaged as in use
TRIES = 40  # places looked at for a crop that shows enough
ENOUGH = 0.5  # of a crop's pixels are known, at least


class Transitions(NamedTuple):
    """Indices of days, references first and target last, and how often each is drawn."""

    days: list[tuple[int, ...]]
    chances: np.ndarray


@dataclass(frozen=True, eq=False)
class Group:
    """Pairs on one grid, gaps filled; the arrays are normalised."""

    days: tuple[date, ...]
    fine: np.ndarray  # (day, band, y, x)
    coarse: np.ndarray  # (day, band, v, u)
    seen: np.ndarray  # (day, y, x) bool: both images were seen
    at_once: int  # pairs that the network takes

    @property
    def ratio(self) -> int:
        """Fine pixels per coarse pixel, along one side."""
        return int(self.fine.shape[-1] // self.coarse.shape[-1])

    @cached_property
    def pairs(self) -> Transitions:
        """``(reference, target)`` of all ordered pairs of days."""
        return self._drawn(list(permutations(range(len(self.days)), 2)))

    @cached_property
    def triples(self) -> Transitions:
        """``(reference, reference, target)`` of all triples of days, references in time order.

        Where there are only two days, one day is both references.
        """
        count = len(self.days)
        days: list[tuple[int, ...]] = [(i, k, j) for i, k, j in permutations(range(count), 3) if i < k]
        return self._drawn(days if count > 2 else [(0, 0, 1), (1, 1, 0)])

    @cached_property
    def between(self) -> Transitions:
        """``(reference, reference, target)`` with the target between the references, as pairs are chosen in use."""
        return self._drawn([(i, k, j) for i, j, k in combinations(range(len(self.days)), 3)])

    @property
    def transitions(self) -> Transitions:
        """What the network learns from alone: pairs, or triples where it takes two pairs at once."""
        return self.pairs if self.at_once == 1 else self.triples

    def _drawn(self, days: list[tuple[int, ...]]) -> Transitions:
        """Draw the more often the less the coarse image changes since the references, as pairs are chosen in use."""
        index = np.array(days)
        weight = np.prod([self._change[ref, index[:, -1]] + NEAR for ref in index.T[:-1]], axis=0)
        weight **= -2 / (index.shape[1] - 1)
        return Transitions(days, weight / weight.sum())

    @cached_property
    def _change(self) -> np.ndarray:
        """Root mean square change of the coarse image between any two days."""
        out = np.zeros((len(self.days),) * 2)
        for i, k in combinations(range(len(self.days)), 2):
            out[i, k] = out[k, i] = _rms(self.coarse[i] - self.coarse[k])
        return out


@dataclass(frozen=True)
class Augment:
    """How samples are varied."""

    turns: bool = True
    change: float = 0.5  # the change is scaled by 1 - this to 1 + this
    noise: float = 0.0  # of the coarse image, in its standard deviations
    shift: float = 0.0  # of the coarse images against the fine ones, in coarse pixels


def prepared(pairs: Sequence[Pair], mean: np.ndarray, scale: np.ndarray, at_once: int) -> Group:
    """Normalise a group's images and fill their gaps: coarse ones with the mean, fine ones from the coarse one."""
    m, s = mean[:, None, None], scale[:, None, None]
    fine = np.stack([(pair.fine.data - m) / s for pair in pairs])
    coarse = np.stack([(pair.coarse.data - m) / s for pair in pairs])
    r = fine.shape[-1] // coarse.shape[-1]
    known = np.isfinite(coarse)
    seen = np.isfinite(fine).all(axis=1) & repeated(known.all(axis=1), r)
    coarse = np.where(known, coarse, 0).astype(np.float32)
    fine = np.where(np.isfinite(fine), fine, repeated(coarse, r)).astype(np.float32)
    return Group(tuple(pair.day for pair in pairs), fine, coarse, seen, at_once)


def check_shows(groups: Sequence[Group]) -> None:
    """Raise FusionError unless some transition has pixels that are seen on all its days."""
    for group in groups:
        for days in group.transitions.days:
            if group.seen[list(days)].all(axis=0).any():
                return
    raise FusionError(
        "No pixel is seen on two days of the series (clouds or no data): a network has nothing to learn from. Choose "
        "other days or another area."
    )


def drawn(
    groups: Sequence[Group],
    rng: np.random.Generator,
    *,
    batch: int,
    patch: int,
    augment: Augment,
    mean: np.ndarray,
    scale: np.ndarray,
    bands: tuple[str, ...],
) -> Sample:
    """Draw a batch of crops of random transitions and places of one group."""
    pixels = np.sqrt([group.fine[0, 0].size * len(group.days) for group in groups])  # small areas are not lost
    group = groups[int(rng.choice(len(groups), p=pixels / pixels.sum()))]
    both = group.at_once == 1 and len(group.days) > 2 and rng.random() < BOTH
    transitions = group.between if both else group.transitions
    crops = [_crop(group, transitions, rng, patch, augment) for _ in range(batch)]
    fine, coarse, target, valid, truth, known = (
        torch.from_numpy(np.ascontiguousarray(np.stack(part))) for part in zip(*crops, strict=True)
    )
    if augment.shift:
        moves = rng.uniform(-augment.shift, augment.shift, (batch, 2)).astype(np.float32)
        coarse, target = _moved(coarse, torch.from_numpy(moves)), _moved(target[:, None], torch.from_numpy(moves))[:, 0]
    return Sample(
        fine, coarse, target, valid,
        torch.from_numpy(mean[:, None, None]), torch.from_numpy(scale[:, None, None]), bands, truth, known,
    )  # fmt: skip


def _crop(
    group: Group, transitions: Transitions, rng: np.random.Generator, patch: int, augment: Augment
) -> tuple[np.ndarray, ...]:
    """One crop, varied: fine, coarse, target, valid, truth and known, as in Sample without the first axis."""
    r = group.ratio
    rows, columns = group.coarse.shape[2:]
    side = max(1, patch // r)
    height, width = min(side, rows), min(side, columns)
    for _ in range(TRIES):
        *refs, day = transitions.days[int(rng.choice(len(transitions.days), p=transitions.chances))]
        v, u = int(rng.integers(rows - height + 1)), int(rng.integers(columns - width + 1))
        y, x = slice(v * r, (v + height) * r), slice(u * r, (u + width) * r)
        seen = group.seen[:, y, x]
        known = seen[day] & seen[refs].any(axis=0)
        if known.mean() >= ENOUGH:
            break
    known = known & _with_context(v, height, rows, r)[:, None] & _with_context(u, width, columns, r)
    area = (slice(v, v + height), slice(u, u + width))
    fine, coarse = group.fine[refs][..., y, x], group.coarse[refs][..., area[0], area[1]]
    target, truth = group.coarse[day][..., area[0], area[1]], group.fine[day][..., y, x]
    if augment.change:
        pace = np.float32(rng.uniform(1 - augment.change, 1 + augment.change))
        target, truth = coarse[0] + pace * (target - coarse[0]), fine[0] + pace * (truth - fine[0])
        if len(refs) == 2:  # all three days lie on one line in time: scale all changes since the first
            coarse = np.stack([coarse[0], coarse[0] + pace * (coarse[1] - coarse[0])])
            fine = np.stack([fine[0], fine[0] + pace * (fine[1] - fine[0])])
        known, seen = known & seen[refs[0]], seen & seen[refs[0]]  # what grows out of a filled gap is not seen
    if augment.noise:
        coarse = coarse + augment.noise * rng.standard_normal(coarse.shape).astype(np.float32)
        target = target + augment.noise * rng.standard_normal(target.shape).astype(np.float32)
    out = (fine, coarse, target, seen[refs][:, None].astype(np.float32), truth, known[None].astype(np.float32))
    turn = _turn(rng, augment, height == width)
    return tuple(_turned(part, turn) for part in out)


def _with_context(start: int, length: int, size: int, ratio: int) -> np.ndarray:
    """Which fine pixels along one side of a crop have a coarse pixel beside theirs, or lie at the scene's own edge.

    Beyond the others the coarse image is only guessed, which it is not in use: they are not learnt from.
    """
    out = np.ones(length * ratio, bool)
    if length >= 3:
        out[:ratio], out[-ratio:] = start == 0, start + length == size
    return out


def _turn(rng: np.random.Generator, augment: Augment, square: bool) -> int:
    turn = int(rng.integers(8))
    return (turn if square else turn & 3) if augment.turns else 0


def _turned(image: np.ndarray, turn: int) -> np.ndarray:
    """One of eight ways to lay a square down: flipped by bits 0 and 1, transposed by bit 2."""
    image = image[..., ::-1, :] if turn & 1 else image
    image = image[..., ::-1] if turn & 2 else image
    return image.swapaxes(-1, -2) if turn & 4 else image


def _moved(coarse: Tensor, moves: Tensor) -> Tensor:
    """Shift ``(n, pair, band, v, u)`` by `moves` ``(n, 2)`` coarse pixels, bilinearly."""
    n, pairs, bands, rows, columns = coarse.shape
    v, u = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    y = (v + moves[:, 0, None, None]) * 2 / max(rows - 1, 1) - 1
    x = (u + moves[:, 1, None, None]) * 2 / max(columns - 1, 1) - 1
    grid = torch.stack([x, y], -1).float()
    flat = coarse.reshape(n, pairs * bands, rows, columns)
    moved = functional.grid_sample(flat, grid, mode="bilinear", padding_mode="border", align_corners=True)
    return moved.reshape(coarse.shape)


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.square(values, dtype=np.float64).mean()))
