"""Networks for tests: what they see, weights for any bands and ratio without training, and checkpoints of such."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from fusion import checkpoints, methods
from fusion.checkpoints import Checkpoint
from fusion.methods import _deep
from fusion.methods._deep import Deep
from fusion.methods._networks import Loaded, weights_of
from fusion.methods._sample import Sample
from landscapes import BANDS

DEEP = [name for name in methods.names() if issubclass(methods.get(name), Deep)]
LEVEL, SPREAD = 0.3, 0.15  # of reflectance, about
_LOCK = threading.Lock()


def smallest(name: str) -> dict[str, Any]:
    """Return the parameters that make a method's networks smallest."""
    return {
        item.name: int(item.low) for item in methods.params(methods.get(name)) if item.training and item.kind is int
    }


def small(name: str, **parameters: Any) -> Deep:
    """Return the method with its smallest networks."""
    return methods.get(name)(**{**smallest(name), **parameters})


def stirred(nets: nn.ModuleDict, seed: int = 0) -> nn.ModuleDict:
    """Give networks random weights, also where they start at zero, so that they change a little."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in nets.parameters():
            if not parameter.any():
                size = 0.3 / parameter[0].numel() ** 0.5 if parameter.ndim > 1 else 0.05
                parameter.normal_(0, size, generator=draw)
    return nets


def made(method: Deep, bands: int, ratio: int, seed: int = 0) -> nn.ModuleDict:
    """Make the networks of a method with random weights that depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return stirred(method.networks(bands, ratio), seed)


def parameter_count(net: nn.Module) -> int:
    """Number of trained numbers."""
    return sum(parameter.numel() for parameter in net.parameters())


def random_sample(
    *,
    bands: int = 2,
    rows: int = 3,
    columns: int = 5,
    ratio: int = 4,
    pairs: int = 1,
    n: int = 2,
    gaps: bool = False,
    seed: int = 0,
) -> Sample:
    """Days of noise on levels of their own, the last one the truth; coarse images are means of fine ones, and noise."""
    draw = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=draw)

    size, days = (rows * ratio, columns * ratio), pairs + 1
    fine = noise(n, days, bands, *size) + noise(n, days, bands, 1, 1)
    # Another sensor has an error of its own, so that fine and coarse differ also where the ratio is 1.
    coarse = functional.avg_pool3d(fine, (1, ratio, ratio)) + 0.3 * noise(n, days, bands, rows, columns)
    seen = (noise(n, days, 1, *size) > -1).float() if gaps else torch.ones(n, days, 1, *size)
    level = torch.full((bands, 1, 1), 0.3)
    return Sample(
        fine[:, :-1], coarse[:, :-1], coarse[:, -1], seen[:, :-1], level, level / 6, BANDS[:bands],
        truth=fine[:, -1], known=seen[:, -1],
    )  # fmt: skip


def described(method: Deep, bands: tuple[str, ...], ratio: int) -> Checkpoint:
    """Return what a checkpoint of such networks says of itself; the order of its bands is its own."""
    bands = tuple(sorted(bands))
    return Checkpoint(
        method=type(method).name(),
        parameters={**method.parameters(), "checkpoint": ""},
        bands=bands,
        ratios=(ratio, ratio),
        mean=tuple(LEVEL + 0.01 * len(band) for band in bands),
        scale=tuple(SPREAD + 0.01 * len(band) for band in bands),
        name=f"{type(method).name()}-made-up",
    )


def saved(method: Deep, bands: tuple[str, ...], ratio: int, /, seed: int = 0, **about: Any) -> Path:
    """Save a checkpoint with random weights; `about` changes what it says of itself."""
    nets = made(method, len(bands), ratio, seed)
    return checkpoints.save(replace(described(method, bands, ratio), **about), weights_of(nets))


def chosen(method: Deep, bands: tuple[str, ...], ratio: int) -> Checkpoint:
    """Stand in for the function of this name: there are weights for everything."""
    return described(method, bands, ratio)


def loaded(checkpoint: Checkpoint) -> Loaded:
    """Stand in for the function of this name: random weights, made once."""
    with _LOCK:
        return _made_up(
            checkpoint.method, json.dumps(dict(checkpoint.parameters)), checkpoint.bands, checkpoint.ratios[0]
        )


@cache
def _made_up(name: str, parameters: str, bands: tuple[str, ...], ratio: int) -> Loaded:
    method = methods.build(name, json.loads(parameters))
    nets = made(method, len(bands), ratio).eval().requires_grad_(False)
    return Loaded(method, nets, described(method, bands, ratio), "cpu")


@contextmanager
def weights_for_everything() -> Iterator[None]:
    """Let every network run on every stack, with random weights instead of a checkpoint."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_deep, "chosen", chosen)
        patch.setattr(_deep, "loaded", loaded)
        yield
