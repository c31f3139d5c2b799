"""Setting: what one training works with, made of its method, pairs and options."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import Any

import numpy as np
import torch
from torch import nn

from .. import checkpoints, methods
from ..checkpoints import Checkpoint
from ..engine import fuse
from ..errors import FusionError
from ..methods._deep import Deep, offset
from ..methods._device import device
from ..methods._inference import predicted
from ..methods._networks import DRAWING, Loaded, build
from ..methods._sample import Sample
from ..metrics import evaluate
from ..scene import Scene
from ..stack import Pair, Stack
from ._draws import Augment, Group, check_shows, drawn, prepared
from ._hidden import Hidden, split
from ._loop import Judged
from ._series import by_grid, normalisation

ADAPTED = 0.05  # of its own learning rate where weights are adapted: with more, one change is learnt by heart
MOST_STEPS = 200  # of an epoch
FLOORS = ("nearest", "delta")
SCORES = ("RMSE", "CC", "SSIM", "SAM")


@dataclass(frozen=True, eq=False)
class Setting:
    """Method (of the checkpoint that is adapted, where one is), groups to learn from, hidden dates, normalisation."""

    method: Deep
    start: Checkpoint | None
    groups: tuple[Group, ...]
    hidden: tuple[Hidden, ...]
    about: Checkpoint  # what the result will say of itself, without metrics and provenance
    patch: int
    augment: Augment

    @classmethod
    def of(cls, method: Deep, series: Sequence[Pair], options: Any) -> "Setting":
        """Check and prepare everything that does not depend on the seed.

        Raises
        ------
        FusionError
            As of :func:`fusion.training.train`.
        """
        pairs = by_grid(series)
        start = checkpoints.read(options.start) if options.start else None
        if start is not None:
            method = _continued(method, start)
        bands = pairs[0][0].fine.bands
        kept, hidden = split(pairs, options.day, method.at_once)
        if start is None:
            mean, scale = normalisation(kept)
        else:
            if set(start.bands) != set(bands):
                raise FusionError(
                    f"The checkpoint {start.name} is for the bands {', '.join(start.bands)}, the pairs have "
                    f"{', '.join(bands)}: choose these bands, another checkpoint, or train from scratch."
                )
            bands = start.bands
            kept = [[Pair(pair.coarse.select(bands), pair.fine.select(bands)) for pair in group] for group in kept]
            mean, scale = np.array(start.mean, np.float32), np.array(start.scale, np.float32)
        groups = tuple(prepared(group, mean, scale, method.at_once) for group in kept)
        check_shows(groups)
        ratios = [group.ratio for group in groups]
        about = Checkpoint(
            method=type(method).name(),
            parameters={**method.parameters(), "checkpoint": ""},
            bands=tuple(bands),
            ratios=(min(ratios), max(ratios)),
            mean=tuple(map(float, mean)),
            scale=tuple(map(float, scale)),
        )
        return cls(method, start, groups, tuple(hidden), about, int(options.patch), options.augment)

    def networks(self, seed: int) -> nn.ModuleDict:
        """Make the networks: from the seed, or those of the checkpoint that is adapted."""
        ratio = self.about.ratios[0]
        with DRAWING, torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # networks that are only for training start anew also where others go on
            if self.start is None:
                return self.method.networks(len(self.about.bands), ratio)
            try:
                return build(self.start, ratio)[1]
            except FusionError as error:  # it was built before, for its own ratio
                raise FusionError(
                    f"{self.method.title} has other layers at ratio {ratio} than at that of {self.start.name} "
                    f"({self.start.ratios[0]}): adapt a checkpoint of ratio {ratio}, or train from scratch."
                ) from error

    def rate(self, options: Any) -> float:
        """Learning rate."""
        return float(options.rate or self.method.rate * (ADAPTED if self.start else 1))

    def steps(self, options: Any) -> int:
        """Steps that show as many pixels as all pairs of days have."""
        count = 0.0
        for group in self.groups:
            height, width = group.fine.shape[2:]
            pixels = min(self.patch, height) * min(self.patch, width)
            count += len(group.transitions.days) * height * width / pixels
        return min(MOST_STEPS, max(1, ceil(count / int(options.batch))))

    def draw(self, seed: int, step: int, batch: int) -> Sample:
        """Batch of a step."""
        return drawn(
            self.groups,
            np.random.default_rng([seed, step]),
            batch=batch,
            patch=self.patch,
            augment=self.augment,
            mean=np.array(self.about.mean, np.float32),
            scale=np.array(self.about.scale, np.float32),
            bands=self.about.bands,
        )

    def judge(self, nets: nn.ModuleDict) -> Judged:
        """Predict the hidden dates with networks as they are now."""
        found = Loaded(self.method, nets, self.about, device())

        def predict(stack: Stack) -> Scene:
            facts = self.method.prepare(stack)
            order = [stack.bands.index(band) for band in self.about.bands]
            out = np.empty(stack.fine.shape[1:], np.float32)
            with torch.inference_mode():
                out[order] = predicted(found, stack.select(facts.pairs), order, offset(stack, facts), facts.shape)
            return Scene(out, stack.geobox, stack.bands, stack.day)

        return self._judged(predict)

    def baselines(self) -> dict[str, dict[str, float]]:
        """Scores of the floors on the hidden dates, by name of the method."""
        return {name: self._judged(partial(fuse, method=methods.get(name)())).scores for name in FLOORS}

    def _judged(self, predict: Callable[[Stack], Scene]) -> Judged:
        """Score predictions of the hidden dates: means over groups and bands."""
        scenes = [predict(each.stack) for each in self.hidden]
        tables = [
            evaluate(scene, each.truth, SCORES, ratio=each.stack.ratio)
            for scene, each in zip(scenes, self.hidden, strict=True)
        ]
        return Judged({name: float(np.mean([table[name]["mean"] for table in tables])) for name in SCORES}, scenes[0])


def _continued(method: Deep, start: Checkpoint) -> Deep:
    """Return the method as the checkpoint has it: its layers, its base and its losses."""
    if start.method != type(method).name():
        raise FusionError(
            f"{method.title} wants a checkpoint of its own to adapt, got {start.name}, which is of {start.method}."
        )
    return build(start)[0]


def provenance(setting: Setting, series: Sequence[Pair], more: Mapping[str, Any]) -> dict[str, Any]:
    """Where weights come from, for their checkpoint."""
    areas = []
    for group, learnt in zip(by_grid(series), setting.groups, strict=True):
        box = group[0].fine.geobox
        bounds = box.extent.to_crs("EPSG:4326").boundingbox if box.crs is not None else None
        areas.append(
            {
                "days": [day.isoformat() for day in learnt.days],  # with one of which a strip alone was hidden
                "bounds": None if bounds is None else [round(value, 5) for value in bounds.bbox],
                "pixels": list(box.shape),
                "pixel": abs(box.affine.a),
                "ratio": box.shape[1] // group[0].coarse.shape[2],
            }
        )
    start = {"adapted_from": setting.start.name} if setting.start else {}
    return {"areas": areas, **start, **more}
