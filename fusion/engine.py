"""fuse: a stack and a method become a scene, tile by tile."""

import contextvars
import os
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._pulse import PULSE, Pulse
from .errors import FusionError
from .methods import Method
from .scene import ROI, Scene
from .stack import Stack

TILES = 4  # in work at once at most: kernels fill the processors by themselves, and each tile takes memory
HEARTBEAT = 0.2  # seconds between two calls of `progress` while a tile is being worked on


def ignore(fraction: float) -> None:
    """Progress callback that does nothing."""


@dataclass(frozen=True)
class Tile:
    """One piece of the work: the window to predict, and the larger one that is read for it."""

    inner: ROI
    outer: ROI


def fuse(
    stack: Stack,
    method: Method,
    *,
    tile: int = 1024,
    executor: Executor | None = None,
    progress: Callable[[float], None] = ignore,
) -> Scene:
    """Predict the fine image of the stack's target day.

    Parameters
    ----------
    stack : Stack
        Pairs and coarse target.
    method : Method
        For example ``methods.get("starfm")(window=31)``.
    tile : int
        Side of a tile in fine pixels; rounded up to whole coarse pixels. It changes memory and time, and of an
        exact method never the result.
    executor : concurrent.futures.Executor, optional
        Where tiles are worked on: at most four threads by default, as kernels use all processors by themselves; a
        process pool or ``dask.distributed.Client(...).get_executor()`` work as well.
    progress : callable
        Called in the caller's thread with the fraction done, several times a second. What it raises (such as
        :class:`fusion.Cancelled`) stops the run and reaches the caller.

    Returns
    -------
    Scene
        Prediction on the stack's fine grid.

    Raises
    ------
    FusionError
        If the method cannot use the stack, or the target or all pairs are wholly missing.
    """
    _check(stack, method, tile)
    tiles = _tiles(stack, tile, method.halo(stack.ratio), overlap=not method.exact)
    state = _prepared(method, stack, progress)
    total = np.full(stack.fine.shape[1:], np.nan, np.float32) if method.exact else np.zeros(stack.fine.shape[1:])
    weight = None if method.exact else np.zeros(stack.fine.shape[2:])
    with _workers(executor) as pool:
        for piece, data in _results(pool, stack, method, state, tiles, progress):
            if weight is None:
                total[(slice(None), *piece.inner)] = data
            else:
                _blend(total, weight, piece, data)
    if weight is not None:
        total = (total / weight).astype(np.float32)
    return Scene(total, stack.geobox, stack.bands, stack.day)


def _check(stack: Stack, method: Method, tile: int) -> None:
    if tile < 1:
        raise ValueError(f"fuse wants a tile of at least 1 fine pixel, got {tile}.")
    if not np.isfinite(stack.target).any():
        raise FusionError(
            f"The coarse image of the target day {stack.day} has no valid pixel here (clouds or no data): "
            "choose another target day or area."
        )
    usable = [
        day
        for day, fine, coarse in zip(stack.reference_days, stack.fine, stack.coarse, strict=True)
        if np.isfinite(fine).any() and np.isfinite(coarse).any()
    ]
    if not usable:
        raise FusionError(
            f"No pair ({', '.join(map(str, stack.reference_days))}) has a valid pixel here (clouds or no data): "
            "choose other pairs or another area."
        )
    method.check(stack)


def _tiles(stack: Stack, tile: int, halo: int, *, overlap: bool) -> list[Tile]:
    """Cut the grid; with `overlap` the predicted windows keep their halo, to be feathered."""
    r = stack.ratio
    side, margin = -(-tile // r) * r, -(-halo // r) * r
    height, width = stack.fine.shape[2:]
    tiles = []
    for y in range(0, height, side):
        for x in range(0, width, side):
            inner = (slice(y, min(y + side, height)), slice(x, min(x + side, width)))
            outer = (_grow(inner[0], margin, height), _grow(inner[1], margin, width))
            tiles.append(Tile(outer if overlap else inner, outer))
    return tiles


def _grow(part: slice, margin: int, size: int) -> slice:
    return slice(max(part.start - margin, 0), min(part.stop + margin, size))


def _prepared(method: Method, stack: Stack, progress: Callable[[float], None]) -> Any:
    """Look at the whole image, in a thread of this process; `progress` is called meanwhile and may stop it."""
    progress(0.0)
    with _workers(None) as pool:
        future, pulse = _submit(pool, method.prepare, stack)
        try:
            while not future.done():
                wait([future], timeout=HEARTBEAT)
                progress(0.0)
            return future.result()
        finally:
            pulse.stopped = True


def _predict(method: Method, stack: Stack, state: Any, tile: Tile) -> np.ndarray:
    """Predict one tile; runs in a worker."""
    data = method.predict(stack, state)
    if data.shape != stack.fine.shape[1:]:
        raise TypeError(f"{method.title}.predict returned {data.shape}, wanted {stack.fine.shape[1:]}.")
    y, x = (
        slice(inner.start - outer.start, inner.stop - outer.start)
        for inner, outer in zip(tile.inner, tile.outer, strict=True)
    )
    return np.asarray(data[:, y, x], np.float32)


@contextmanager
def _workers(executor: Executor | None) -> Iterator[Executor]:
    """Yield the caller's executor, or threads of our own that are not waited for when a run is stopped."""
    if executor is not None:
        yield executor
        return
    own = ThreadPoolExecutor(min(os.cpu_count() or 1, TILES), thread_name_prefix="fuse")
    try:
        yield own
    finally:
        own.shutdown(wait=False, cancel_futures=True)


def _results(
    pool: Executor,
    stack: Stack,
    method: Method,
    state: Any,
    tiles: list[Tile],
    progress: Callable[[float], None],
) -> Iterator[tuple[Tile, np.ndarray]]:
    """Submit tiles a few at a time, so that memory stays flat, and yield them as they finish."""
    waiting, running, done = list(reversed(tiles)), dict[Future[np.ndarray], tuple[Tile, Pulse]](), 0
    try:
        while waiting or running:
            while waiting and len(running) < 2 * (os.cpu_count() or 1):
                tile = waiting.pop()
                future, pulse = _submit(pool, _predict, method, stack[tile.outer], state, tile)
                running[future] = tile, pulse
            finished, _ = wait(running, timeout=HEARTBEAT, return_when=FIRST_COMPLETED)
            for future in finished:
                done += 1
                yield running.pop(future)[0], future.result()
            progress((done + sum(pulse.fraction for _, pulse in running.values())) / len(tiles))
    finally:
        for future, (_, pulse) in running.items():
            pulse.stopped = True
            future.cancel()


def _submit(pool: Executor, *call: Any) -> tuple[Future[np.ndarray], Pulse]:
    """Submit a call with its pulse, which only threads of this process can feel."""
    pulse = Pulse()
    if isinstance(pool, ThreadPoolExecutor):
        context = contextvars.copy_context()
        context.run(PULSE.set, pulse)
        call = (context.run, *call)
    return pool.submit(*call), pulse


def _blend(total: np.ndarray, weight: np.ndarray, tile: Tile, data: np.ndarray) -> None:
    """Add a tile with weights that fall linearly towards its edges, so that no seam shows."""
    y, x = (_ramp(part, size) for part, size in zip(tile.inner, weight.shape, strict=True))
    share = np.minimum.outer(y, x)
    total[(slice(None), *tile.inner)] += data * share
    weight[tile.inner] += share


def _ramp(part: slice, size: int) -> np.ndarray:
    """Weight along one side of a tile: rises from its edges, but not from the edges of the scene."""
    index = np.arange(part.start, part.stop)
    rise = np.full(index.shape, 1e6) if part.start == 0 else index - part.start + 1.0
    fall = np.full(index.shape, 1e6) if part.stop == size else part.stop - index + 0.0
    out: np.ndarray = np.minimum(rise, fall)
    return out
