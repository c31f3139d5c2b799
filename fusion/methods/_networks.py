"""Networks in memory: loaded once from their checkpoints, shared by all sessions, bounded in bytes."""

import os
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from .. import checkpoints, methods
from ..checkpoints import Checkpoint
from ..errors import FusionError
from ._device import device

if TYPE_CHECKING:
    from ._deep import Deep

MEGABYTES = 1024
_LOADED: "OrderedDict[tuple[Any, ...], Loaded]" = OrderedDict()
_LOCK = threading.Lock()
DRAWING = threading.RLock()  # whoever makes networks: torch has one source of random numbers for all threads


@dataclass(frozen=True, eq=False)
class Loaded:
    """A network with its weights on a device; `lock` lets one thread at a time run it."""

    method: "Deep"
    nets: nn.ModuleDict
    checkpoint: Checkpoint
    device: str
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def bytes(self) -> int:
        """What parameters and buffers take up."""
        tensors = [*self.nets.parameters(), *self.nets.buffers()]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def chosen(method: "Deep", bands: tuple[str, ...], ratio: int) -> Checkpoint:
    """Return the checkpoint that a method runs with: the one it names, else a bundled one that fits.

    Raises
    ------
    FusionError
        If there is none, or the one named is not for this method, these bands or this ratio.
    """
    name = type(method).name()
    if method.checkpoint:
        found = checkpoints.read(method.checkpoint)
        if found.method != name:
            own = " or ".join(checkpoints.names(name))
            raise FusionError(
                f"{method.title} wants a checkpoint of its own, got {found.name}, which is of {found.method}: "
                f"{f'choose {own}' if own else 'train one'}."
            )
        if why := found.misfit(bands, ratio):
            raise FusionError(why)
        return found
    mine = [row for row in checkpoints.every() if row.method == name]
    fitting = [row for row in mine if not row.misfit(bands, ratio)]
    for row in fitting:
        if checkpoints.is_bundled(row.name):
            return row
    what = f"{len(bands)} band{'s' if len(bands) > 1 else ''} ({', '.join(bands)}) at ratio {ratio}"
    if fitting:
        raise FusionError(
            f"{method.title} has no bundled weights for {what}, but checkpoints of yours fit: choose "
            f"{' or '.join(row.name for row in fitting)}."
        )
    raise FusionError(
        f"{method.title} has no weights for {what}: train it on your own pairs, or adapt a checkpoint (on the Train "
        "page of the app, with the command train, or with fusion.training.train)."
    )


def loaded(checkpoint: Checkpoint) -> Loaded:
    """Return the networks of a checkpoint on the device in use, from memory where they are there already.

    Raises
    ------
    FusionError
        If the file is damaged, or its weights are not those of the network that it describes.
    """
    path = checkpoints.path_of(checkpoint.name)
    key = (path, _stamp(path), device())
    with _LOCK:
        if key not in _LOADED:
            _LOADED[key] = _load(checkpoint)
        _LOADED.move_to_end(key)
        found = _LOADED[key]
        while sum(each.bytes for each in _LOADED.values()) > _limit() and len(_LOADED) > 1:
            _LOADED.popitem(last=False)
        return found


def in_memory() -> list[tuple[str, int, str]]:
    """Name, bytes and device of the networks in memory, the least recently used first."""
    with _LOCK:
        return [(each.checkpoint.name, each.bytes, each.device) for each in _LOADED.values()]


def build(checkpoint: Checkpoint, ratio: int | None = None) -> "tuple[Deep, nn.ModuleDict]":
    """Make the networks that a checkpoint describes (for its smallest ratio), and put its weights into them.

    Raises
    ------
    FusionError
        If they do not fit each other.
    """
    if not hasattr(methods.get(checkpoint.method), "networks"):
        raise FusionError(f"The checkpoint {checkpoint.name} is of {checkpoint.method}, which is no network.")
    method: Any = methods.build(checkpoint.method, {**checkpoint.parameters, "checkpoint": ""})
    size = (len(checkpoint.bands), ratio or checkpoint.ratios[0])
    weights = {key: torch.from_numpy(value) for key, value in checkpoints.arrays(checkpoint.name).items()}
    with torch.device("meta"):  # takes no memory: a file may describe a far larger network than it holds
        compare(method.networks(*size), weights, checkpoint.name)
    with DRAWING:
        nets = method.networks(*size)
    fit(nets, weights, checkpoint.name)
    return method, nets


def fit(nets: nn.ModuleDict, weights: dict[str, torch.Tensor], name: str) -> None:
    """Put weights into networks; those of networks that are only for training may be missing.

    Raises
    ------
    FusionError
        As of :func:`compare`.
    """
    compare(nets, weights, name)
    nets.load_state_dict(weights, strict=False)


def compare(nets: nn.ModuleDict, weights: dict[str, torch.Tensor], name: str) -> None:
    """Raise FusionError if weights are missing, are too many, or have another shape than the networks'."""
    have = {key: value.shape for key, value in nets.state_dict().items()}
    wrong = [key for key, value in weights.items() if have.get(key) != value.shape]
    lacking = [key for key in have if key not in weights and not key.startswith("discriminator")]
    if wrong or lacking:
        parts = [f"{key} {tuple(weights[key].shape)}" for key in wrong[:2]] + [f"no {key}" for key in lacking[:2]]
        raise FusionError(
            f"The weights of {name} are not those of the network that it describes ({', '.join(parts)}): it comes "
            "from another version; train it again."
        )


def weights_of(nets: nn.ModuleDict) -> dict[str, Any]:
    """Weights for a checkpoint as numpy arrays, without those of networks that are only for training."""
    return {
        key: value.detach().cpu().numpy().copy()
        for key, value in nets.state_dict().items()
        if not key.startswith("discriminator")
    }


def _load(checkpoint: Checkpoint) -> Loaded:
    method, nets = build(checkpoint)
    place = device()
    return Loaded(method, nets.to(place).eval().requires_grad_(False), checkpoint, place)


def _stamp(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size


def _limit() -> int:
    text = os.environ.get("FUSION_NETWORKS_MB", "").strip() or str(MEGABYTES)
    if not (text.isascii() and text.isdecimal()):
        raise FusionError(f"FUSION_NETWORKS_MB wants a whole number of megabytes, got {text!r}: set it so.")
    return int(text) * 2**20
