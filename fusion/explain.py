"""explain: why one pixel was predicted as it was."""

from dataclasses import replace
from typing import Any

from .errors import FusionError
from .methods import Explanation, Method
from .stack import Stack


def explain(stack: Stack, method: Method, band: str, y: int, x: int, *, state: Any = None) -> Explanation:
    """Take the prediction of one pixel of one band apart; the parts add up to what :func:`fusion.fuse` gives there.

    Parameters
    ----------
    stack : Stack
        The whole problem, as it was fused.
    method : Method
        One that declares ``explains = True``.
    band : str
        Name of the band.
    y, x : int
        Row and column of the pixel on the fine grid, from 0.
    state : optional
        What ``method.prepare(stack)`` returned, to spare that look at the whole image from the second pixel on.

    Returns
    -------
    Explanation
        Its `rows` and `columns` are those of the stack.

    Raises
    ------
    FusionError
        If the method explains nothing or cannot use the stack, the band is unknown or the pixel outside.
    """
    if not method.explains:
        raise FusionError(f"{method.title} does not explain its pixels: choose a method that does, such as STARFM.")
    if band not in stack.bands:
        raise FusionError(f"There is no band {band!r} to explain; there are {', '.join(stack.bands)}: choose one.")
    height, width = stack.fine.shape[2:]
    if not (0 <= y < height and 0 <= x < width):
        raise FusionError(
            f"Row {y}, column {x} is outside the image of {height} x {width} fine pixels: "
            f"choose a row from 0 to {height - 1} and a column from 0 to {width - 1}."
        )
    method.check(stack)
    if state is None:
        state = method.prepare(stack)
    ratio, halo = stack.ratio, method.halo(stack.ratio)
    rows, columns = _around(y, ratio, halo, height), _around(x, ratio, halo, width)
    found = method.explain(
        stack[rows, columns], state, stack.bands.index(band), int(y) - rows.start, int(x) - columns.start
    )
    return replace(found, rows=_shift(found.rows, rows.start), columns=_shift(found.columns, columns.start))


def _around(index: int, ratio: int, halo: int, size: int) -> slice:
    """Return the coarse pixel that holds a fine one, and its halo in whole coarse pixels, cut at the scene's edge."""
    first, margin = int(index) // ratio * ratio, -(-halo // ratio) * ratio
    return slice(max(first - margin, 0), min(first + ratio + margin, size))


def _shift(part: slice, by: int) -> slice:
    return slice(part.start + by, part.stop + by)
