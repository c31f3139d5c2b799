"""How long a run will take on this machine: measured once per method and parameters, then remembered.

A method is run on small synthetic scenes of growing size, so that what every run costs and what every pixel costs can
be told apart; real runs mend the two numbers later (:func:`learn`). They are kept in memory and in ``times.json`` in
the user's cache folder; the environment variable ``FUSION_CACHE`` names another folder, and ``FUSION_CACHE=off`` keeps
them in memory only. A file that cannot be read or written is no error: then it is measured again.
"""

import json
import math
import os
import platform
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ._cache import folder
from .engine import fuse
from .errors import Cancelled, FusionError
from .methods import Method
from .methods._device import device
from .scene import identity_geobox
from .stack import Stack

SIDES = (32, 96, 192, 384)  # of the scenes, at least, in fine pixels; in the last ones samples for classes are full
LONG = 1.5  # seconds: a larger scene that would take longer is left out
CHEAP = 0.5  # seconds: a scene that takes less is run twice, and the quicker run counts
TELLING = 1.0  # seconds: a run that took less says little about the next
STEP = 2.0, 4.0  # most that one run raises and lowers what is kept, as factors
TOO_LONG = 6.0, 60.0  # seconds: a scene, or a compilation, that takes longer is given up
TILE = 1024  # as fuse cuts by itself
MOST = 1000  # entries of the file; the oldest go

Clock = Callable[[], float]
Cost = tuple[float, float]  # seconds per run and per fine pixel worked on

_COSTS: dict[str, Cost] = {}
_LOCK = threading.Lock()


@dataclass(frozen=True)
class Size:
    """What the time of a run depends on beside method and machine; height and width in fine pixels.

    `names` of the bands matter to networks alone, whose weights are for certain bands.
    """

    pairs: int
    bands: int
    height: int
    width: int
    ratio: int
    names: tuple[str, ...] = field(default=(), compare=False)

    @classmethod
    def of(cls, stack: Stack) -> "Size":
        """Size of a stack."""
        pairs, bands, height, width = stack.fine.shape
        return cls(pairs, bands, height, width, stack.ratio, stack.bands)


def seconds(method: Method, size: Size, *, measure: bool = True, clock: Clock = time.perf_counter) -> float | None:
    """Estimate how long ``fuse`` will take here, in seconds on the clock on the wall.

    Parameters
    ----------
    method : Method
        With its parameters.
    size : Size
        Of the stack.
    measure : bool
        Whether to measure a method that was not measured yet with these parameters, pairs, bands, ratio and device;
        about a second the first time, at most some.
    clock : callable
        Seconds from any start; for tests.

    Returns
    -------
    float or None
        None if it is not known, or the method cannot use such a stack.

    Examples
    --------
    >>> from fusion import methods
    >>> 0 < seconds(methods.get("nearest")(), Size(pairs=1, bands=6, height=500, width=500, ratio=16)) < 10
    True
    """
    key = _key(method, size)
    cost = _COSTS.get(key) or _kept().get(key)
    if cost is None and measure and (cost := _measured(method, size, clock)):
        _keep(key, cost)
    if cost is None:
        return None
    _COSTS[key] = cost
    return cost[0] + cost[1] * _worked(method, size)


def learn(method: Method, size: Size, seen: float) -> None:
    """Mend what is kept by a run that took `seen` seconds; for whole runs, cut into tiles as ``fuse`` does by itself.

    Other work on the machine makes a run slower and nothing makes it quicker. So a run that was quicker than expected
    is believed at once, and one that was slower half of the way (the geometric mean), until it is seen again: what a
    busy hour raised, the first run in a quiet one lowers. Runs of less than a second, and of methods that were not
    measured, change nothing.
    """
    key = _key(method, size)
    cost = _COSTS.get(key) or _kept().get(key)
    if cost is None or seen < TELLING:
        return
    (fixed, rate), worked = cost, _worked(method, size)
    expected = max(fixed + rate * worked, TELLING / 1000)
    if seen < expected:
        factor = max(seen / expected, 1 / STEP[1])
        cost = fixed * factor, rate * factor
    else:  # of a long run it is the pixels that take the time
        factor = min(math.sqrt(seen / expected), STEP[0])
        cost = fixed, rate + expected * (factor - 1) / worked
    _COSTS[key] = cost
    _keep(key, cost)


def words(time: float) -> str:
    """Duration for a reader: "less than 1 s", "about 7 s", "about 20 s", "about 3 min" or "about 2 h"."""
    if time < 1:
        return "less than 1 s"
    if time < 10:
        return f"about {time:.0f} s"
    if time < 57.5:
        return f"about {5 * round(time / 5)} s"
    if time < 90 * 60:
        return f"about {max(round(time / 60), 1)} min"
    return f"about {round(time / 3600)} h"


def _measured(method: Method, size: Size, clock: Clock) -> Cost | None:
    """Cost by the two largest scenes that do not take long; None if the method cannot use such a scene."""
    counts = {-(-side // size.ratio) for side in SIDES}
    scenes = [
        landscape(size.pairs, size.bands, n, size.ratio) for n in sorted(counts | {max(counts) + 1})[: len(SIDES)]
    ]
    scenes = [replace(stack, bands=size.names or stack.bands) for stack in scenes]
    if _timed(method, scenes[0], clock, TOO_LONG[1]) is None:  # compiles
        return None
    points: list[tuple[int, float]] = []  # pixels, seconds
    for stack in scenes:
        taken = _timed(method, stack, clock, TOO_LONG[0])
        if taken is None:
            break
        again = _timed(method, stack, clock, TOO_LONG[0]) if taken < CHEAP else None
        taken = taken if again is None else min(taken, again)
        growth = taken - points[-1][1] if points else 0.0
        points.append((stack.fine[0, 0].size, taken))
        if len(points) > 1 and taken + 4 * growth > LONG:
            break
    if len(points) < 2:
        return None
    (few, short), (many, long) = points[-2:]
    rate = max((long - short) / (many - few), long / many / 2)  # chance may make the larger scene as quick
    return max(long - rate * many, 0.0), rate


def _timed(method: Method, stack: Stack, clock: Clock, limit: float) -> float | None:
    """Seconds of one run; None if it is refused or takes too long."""
    start = clock()

    def watch(fraction: float) -> None:
        if clock() - start > limit:
            raise Cancelled

    try:
        fuse(stack, method, progress=watch)
    except (FusionError, Cancelled):
        return None
    return clock() - start


def _worked(method: Method, size: Size) -> int:
    """Fine pixels that all tiles together work on, their halos included."""
    side, margin = (-(-length // size.ratio) * size.ratio for length in (TILE, method.halo(size.ratio)))

    def along(length: int) -> int:
        return sum(min(at + side + margin, length) - max(at - margin, 0) for at in range(0, length, side))

    return along(size.height) * along(size.width)


def landscape(pairs: int, bands: int, coarse: int, ratio: int) -> Stack:
    """A scene of `coarse` x `coarse` coarse pixels: fields of many sizes and shades, with texture, that all change."""
    random, side = np.random.default_rng(0), coarse * ratio
    cuts = (np.cumsum(random.integers(8, 30, side)) for _ in range(2))
    y, x = (np.searchsorted(cut, np.arange(side)) for cut in cuts)
    fields = y[:, None] * (x.max() + 1) + x
    shade, pace = random.uniform(0.05, 0.45, (2, bands, int(fields.max()) + 1))
    images = [
        shade[:, fields] + 0.2 * k * pace[:, fields] / pairs + random.normal(0, 0.01, (bands, side, side))
        for k in range(pairs + 1)
    ]
    fine = np.array(images, np.float32)
    means = fine.reshape(pairs + 1, bands, coarse, ratio, coarse, ratio).mean((3, 5), dtype=np.float32)
    days = tuple(range(-8 * pairs, 0, 8))
    names = tuple(f"band {b}" for b in range(bands))
    return Stack(fine[:-1], means[:-1], means[-1], days, identity_geobox(side, side), names)


def _key(method: Method, size: Size) -> str:
    """All that a cost depends on, as text."""
    from . import __version__

    threads = os.environ.get("FUSION_THREADS", "").strip()
    machine = [platform.node(), platform.machine(), os.cpu_count(), threads, device()]
    problem = [method.name(), method.parameters(), size.pairs, size.bands, size.ratio]
    return json.dumps([__version__, *machine, *problem], sort_keys=True)


def _kept() -> dict[str, Cost]:
    """What the file holds; nothing if it is missing, unreadable or broken."""
    place = folder()
    try:
        body = json.loads((place / "times.json").read_text(encoding="utf-8")) if place else {}
        return {str(key): (_number(fixed), _number(rate)) for key, (fixed, rate) in body.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(f"wanted seconds, got {value!r}")
    return float(value)


def _keep(key: str, cost: Cost) -> None:
    """Add to the file, which is replaced whole, so that nobody reads half of it.

    Of two processes that write at the same moment one may lose its entry, which is then measured again.
    """
    place = folder()
    if place is None:
        return
    with _LOCK, suppress(OSError):  # read-only or full: memory will do
        place.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(dir=place, prefix="times-", suffix=".part")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(dict(list({**_kept(), key: cost}.items())[-MOST:]), file)
            os.replace(draft, place / "times.json")
        finally:
            Path(draft).unlink(missing_ok=True)
