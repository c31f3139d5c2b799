"""Work that takes a while: done in a thread of its own under a progress bar, and ended by Ctrl-C within two seconds."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextvars import copy_context
from typing import TypeVar

from ._cli_text import Progress
from ._pulse import PULSE, Pulse, report, stop_if_asked
from .recipe import Recipe, load
from .stack import Stack

BEAT = 0.1  # seconds between two looks at the work
GRACE = 0.5  # seconds that stopped work has to put away what it holds

Result = TypeVar("Result")


def waited(work: Callable[[], Result], show: Callable[[float], None]) -> Result:
    """Do `work` in a thread of its own and show how far it is; an interrupt stops it and is passed on.

    The work says how far it is, and learns that it is to stop, through :mod:`fusion._pulse`. A thread that waits for a
    silent server cannot be ended; it is left behind and dies with the process.
    """
    pulse, done = Pulse(), Future[Result]()

    def inside() -> None:
        PULSE.set(pulse)
        try:
            done.set_result(work())
        except BaseException as error:  # raised again below, where somebody waits
            done.set_exception(error)

    threading.Thread(target=copy_context().run, args=(inside,), daemon=True).start()
    try:
        while not done.done():
            wait([done], timeout=BEAT)
            show(pulse.fraction)
        return done.result()
    except BaseException:
        pulse.stopped = True
        wait([done], timeout=GRACE)
        raise


def in_turn(show: Callable[[float], None], count: int) -> Callable[[float], None]:
    """Show `count` pieces of work, one after the other, as one; a fraction that falls begins the next piece.

    Examples
    --------
    >>> seen = []
    >>> show = in_turn(seen.append, 2)
    >>> for fraction in (0.0, 0.5, 1.0, 0.5):
    ...     show(fraction)
    >>> seen
    [0.0, 0.25, 0.5, 0.75]
    """
    step, last = 0, 0.0

    def turn(fraction: float) -> None:
        nonlocal step, last
        step += fraction < last and step < count - 1
        last = fraction
        show((step + fraction) / count)

    return turn


def read(recipe: Recipe) -> Stack:
    """Read the images of a recipe under a bar that counts them."""
    images = 2 * len(recipe.pairs) + 1

    def tell(fraction: float) -> None:
        stop_if_asked()
        report(fraction)

    with Progress(f"Reading {images} images") as bar:

        def show(fraction: float) -> None:
            bar.title = f"Reading {min(int(fraction * images + 1e-6) + 1, images)} of {images} images"
            bar(fraction)

        stack = waited(lambda: load(recipe, progress=tell), show)
        bar.title = f"Reading {images} images"
        return stack
