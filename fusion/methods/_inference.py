"""A network over an image: patches in batches that fit into memory, blended where they overlap."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from .._pulse import report, stop_if_asked
from ..errors import FusionError
from ..stack import Stack
from ._patches import Axis, mirrored
from ._sample import Filled, Sample, filled

if TYPE_CHECKING:
    from ._networks import Loaded

MOST = 16  # patches in a batch
PIXELS = 100_000  # of a batch on a processor at least; more at once is no faster there
FLOATS = 600  # per fine pixel and pair: what the layers of a network hold at once, about
SHARE = 0.3  # of the free memory that a batch may take up
HALF = True  # half precision on a GPU
GUESS = 2 * 2**30  # bytes taken as free where the system does not say

Place = tuple[int, int]  # row and column


def predicted(found: "Loaded", stack: Stack, order: Sequence[int], offset: Place, shape: Place) -> np.ndarray:
    """Predict a window of a scene: ``(band, y, x)`` float32 reflectance, bands in the given order.

    Parameters
    ----------
    found : Loaded
        The network with its weights.
    stack : Stack
        The window.
    order : sequence of int
        Index of the stack's bands in the order of the network's channels.
    offset, shape : (int, int)
        Where the window begins in the scene and how large the scene is, in fine pixels.

    Returns
    -------
    numpy.ndarray
        Missing where the target or all pairs are, and where a patch is not wholly in the window.
    """
    mean, scale = (np.array(part, np.float32) for part in (found.checkpoint.mean, found.checkpoint.scale))
    images = filled(_ordered(stack, order), mean)
    window = _Window(images, stack.ratio, found.method.patch(stack.ratio), offset, shape)
    total, weight = np.zeros(stack.fine.shape[1:]), np.zeros(stack.fine.shape[2:])
    places = window.places()
    done = 0
    for now, data in _outputs(found, window, places, mean, scale):
        for place, patch in zip(now, data, strict=True):
            window.add(total, weight, place, patch)
        done += len(now)
        report(done / len(places))
    total = np.divide(total, weight, out=np.full_like(total, np.nan), where=weight > 0)
    total = total * scale[:, None, None] + mean[:, None, None]
    total[:, images.gone] = np.nan
    return total.astype(np.float32)


@dataclass(frozen=True)
class _Window:
    """Part of a scene, from which patches are cut and into which they are put back."""

    images: Filled
    ratio: int
    patch: tuple[int, int]  # side and margin in coarse pixels
    offset: Place  # fine pixels
    shape: Place  # of the scene

    @property
    def axes(self) -> tuple[Axis, Axis]:
        height, width = (Axis(size // self.ratio, *self.patch) for size in self.shape)
        return height, width

    @property
    def spans(self) -> list[tuple[int, int]]:
        """First and last coarse pixel of the window, along each axis of the scene."""
        sizes = self.images.target.shape[1:]
        return [(first // self.ratio, first // self.ratio + n) for first, n in zip(self.offset, sizes, strict=True)]

    def places(self) -> list[Place]:
        """Patches that lie wholly in the window."""
        rows, columns = (axis.inside(*span) for axis, span in zip(self.axes, self.spans, strict=True))
        return list(product(rows, columns))

    def cut(self, image: np.ndarray, place: Place, factor: int) -> np.ndarray:
        """Cut a patch out of ``(..., y, x)``; `factor` pixels of it are one coarse pixel along a side."""
        roi, before, after = [], [], []
        for start, axis, (first, _) in zip(place, self.axes, self.spans, strict=True):
            end = start + axis.length
            roi.append(slice((max(start, 0) - first) * factor, (min(end, axis.size) - first) * factor))
            before.append(max(-start, 0) * factor)
            after.append(max(end - axis.size, 0) * factor)
        return mirrored(image[..., roi[0], roi[1]], (before[0], before[1]), (after[0], after[1]))

    def add(self, total: np.ndarray, weight: np.ndarray, place: Place, patch: np.ndarray) -> None:
        """Put a predicted patch where it belongs, by its weights."""
        to, of, shares = [], [], []
        for start, axis, (first, _) in zip(place, self.axes, self.spans, strict=True):
            low, high = max(start, 0), min(start + axis.length, axis.size)
            to.append(slice((low - first) * self.ratio, (high - first) * self.ratio))
            of.append(slice((low - start) * self.ratio, (high - start) * self.ratio))
            shares.append(axis.weights(start, self.ratio)[of[-1]])
        share = np.outer(*shares)
        total[:, to[0], to[1]] += patch[:, of[0], of[1]] * share
        weight[to[0], to[1]] += share


def _ordered(stack: Stack, order: Sequence[int]) -> Stack:
    index = list(order)
    return replace(
        stack,
        fine=stack.fine[:, index],
        coarse=stack.coarse[:, index],
        target=stack.target[index],
        bands=tuple(stack.bands[i] for i in index),
    )


def _outputs(
    found: "Loaded", window: _Window, places: Sequence[Place], mean: np.ndarray, scale: np.ndarray
) -> Iterator[tuple[Sequence[Place], np.ndarray]]:
    """Run the network on batches of patches, smaller ones where memory does not suffice."""
    count, waiting = _fitting(found.device, window), list(places)
    while waiting:
        stop_if_asked()
        now = waiting[:count]
        sample = _sample(window, now, mean, scale, found.checkpoint.bands)
        try:
            data = _run(found, sample)
        except RuntimeError as error:  # torch.OutOfMemoryError is one; a processor's says it in words
            if not is_out_of_memory(error):
                raise
            if count == 1:
                raise FusionError(
                    f"{found.method.title} does not find memory on {found.device} for one patch of "
                    f"{sample.fine.shape[-2]} x {sample.fine.shape[-1]} pixels: close other work there, or set "
                    "FUSION_DEVICE=cpu."
                ) from error
            count = max(1, len(now) // 2)
            continue
        waiting = waiting[count:]
        yield now, data


def _run(found: "Loaded", sample: Sample) -> np.ndarray:
    half = HALF and found.method.half and found.device.startswith("cuda")
    with found.lock, torch.inference_mode(), torch.autocast("cuda", torch.float16, enabled=half):
        out: Tensor = found.method.forward(found.nets, sample.to(found.device))
    array: np.ndarray = out.float().cpu().numpy()
    return array


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch found no memory, on a GPU or on a processor; what a GPU had set aside is given back."""
    if isinstance(error, torch.OutOfMemoryError):
        torch.cuda.empty_cache()
        return True
    return "can't allocate memory" in str(error)


def _fitting(device: str, window: _Window) -> int:
    """How many patches a batch has."""
    rows, columns = (axis.length * window.ratio for axis in window.axes)
    pixels = rows * columns
    most = MOST if device.startswith("cuda") else min(MOST, max(1, PIXELS // pixels))
    need = pixels * FLOATS * 4 * len(window.images.fine)
    return max(1, min(most, int(free_memory(device) * SHARE / need)))


def free_memory(device: str) -> int:
    """Bytes that are free on a device now."""
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):  # not on this system
        return GUESS


def _sample(
    window: _Window, places: Sequence[Place], mean: np.ndarray, scale: np.ndarray, bands: tuple[str, ...]
) -> Sample:
    images, r = window.images, window.ratio
    m, s = mean[:, None, None], scale[:, None, None]

    def batch(image: np.ndarray, factor: int) -> np.ndarray:
        return np.stack([window.cut(image, place, factor) for place in places])

    return Sample(
        fine=torch.from_numpy((batch(images.fine, r) - m) / s),
        coarse=torch.from_numpy((batch(images.coarse, 1) - m) / s),
        target=torch.from_numpy((batch(images.target, 1) - m) / s),
        valid=torch.from_numpy(batch(images.valid[:, None].astype(np.float32), r)),
        mean=torch.from_numpy(m),
        scale=torch.from_numpy(s),
        bands=bands,
    )
