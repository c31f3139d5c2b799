"""Harmonise: bring the coarse sensor's reflectance to the fine sensor's scale."""

from dataclasses import dataclass, replace

import numpy as np

from ..scene import Scene
from ..stack import Stack
from ._seen import HERE, WIDTH, at
from ._shift import ENOUGH, far_off, view_of, width_of

LIMITS = (0.5, 2.0)  # of the gain; two sensors for the same bands differ by less, so beyond is a mistake
CORRELATED = 0.5  # least correlation; below, a line says nothing
TRIM = 3.0  # robust standard deviations
ROUNDS = 5


@dataclass(frozen=True)
class Regression:
    """Coarse reflectance as a line of the fine one, ``coarse = gain * fine + offset``, per band.

    Parameters
    ----------
    bands : tuple of str
        Band names.
    gain, offset : tuple of float
        Of each band; 1 and 0 where the images do not tell.
    r : tuple of float
        Correlation over the pixels used; NaN where there are too few.
    count : tuple of int
        Coarse pixels, or samples between them, used over all pairs.
    """

    bands: tuple[str, ...]
    gain: tuple[float, ...]
    offset: tuple[float, ...]
    r: tuple[float, ...]
    count: tuple[int, ...]

    @property
    def identity(self) -> bool:
        """Whether it changes nothing."""
        return set(self.gain) <= {1.0} and set(self.offset) <= {0.0}


def regression(stack: Stack) -> Regression:
    """Regress the coarse images of all pairs on the fine ones as the coarse sensor sees them.

    One line per band over all pairs together: the fine images are blurred with the Gaussian point-spread function that
    fits best, sampled where the coarse pixels lie, and fitted by least squares; pixels more than 3 robust standard
    deviations off the line (clouds, shadows) are left out and the line is fitted again.

    Parameters
    ----------
    stack : Stack
        Aligned pairs; the target is not looked at.

    Returns
    -------
    Regression
        Gain 1 and offset 0 for a band with fewer than 50 pixels, a correlation below 0.5 or a gain outside 0.5 to 2.

    Examples
    --------
    >>> from fusion import Pair, sources
    >>> from fusion.products import LAB_GRID
    >>> lab = sources.get("lab")
    >>> fine, coarse = lab.search("lab-fine")[4], lab.search("lab-coarse", options=lab.Options(gain=0.9, offset=0.02))
    >>> seen = [lab.read(coarse[day], LAB_GRID.zoom_out(16), ("nir",)) for day in (17, 18)]
    >>> line = regression(Stack.of([Pair(seen[0], lab.read(fine, LAB_GRID, ("nir",)))], seen[1]))
    >>> round(line.gain[0], 2), round(line.offset[0], 2)
    (0.9, 0.02)
    """
    points = _points(stack)
    lines = [_line(*(np.concatenate(part) for part in zip(*points[band], strict=True))) for band in stack.bands]
    gain, offset, r, count = zip(*lines, strict=True)
    return Regression(stack.bands, gain, offset, r, count)


def harmonise(stack: Stack, line: Regression | None = None) -> Stack:
    """Bring the coarse images, the target too, to the fine sensor's scale: ``(coarse - offset) / gain``.

    Two sensors see one ground a little differently: bands are not the same, nor the correction of the atmosphere. Most
    methods add differences of coarse images to a fine one; a gain then scales each change.

    Parameters
    ----------
    stack : Stack
        Aligned pairs and target.
    line : Regression, optional
        Default is :func:`regression` of this stack.

    Returns
    -------
    Stack
        The same with other coarse reflectance; missing stays missing, and without data nothing changes.

    Notes
    -----
    What it can harm: images that are not aligned lower the gain, and dividing by it then exaggerates every change, so
    align first (:func:`report`). One line serves all dates; where the sensors' angles differ from date to date it mends
    the mean and not each date. Reflectance far from that of the pairs is extrapolated. A method that regresses coarse
    and fine images itself (Fit-FC, ESTARFM's conversion coefficient) gains little.

    Examples
    --------
    >>> from fusion.scene import identity_geobox
    >>> coarse = np.full((1, 1, 2, 2), 0.3, np.float32)
    >>> fine = np.full((1, 1, 4, 4), 0.3, np.float32)
    >>> stack = Stack(fine, coarse, coarse[0], (-8,), identity_geobox(4, 4), ("red",))
    >>> round(float(harmonise(stack, Regression(("red",), (1.5,), (0.0,), (1.0,), (99,))).target[0, 0, 0]), 3)
    0.2
    """
    line = line or regression(stack)
    if line.identity:
        return stack
    gain, offset = (np.array(part, np.float32)[:, None, None] for part in (line.gain, line.offset))
    return replace(stack, coarse=(stack.coarse - offset) / gain, target=(stack.target - offset) / gain)


def _points(stack: Stack) -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
    """Per band and pair: what is seen of the fine image, and the coarse pixels, where both have values."""
    box, out = stack.geobox, {band: [(np.zeros(0), np.zeros(0))] for band in stack.bands}
    for k, day in enumerate(stack.reference_days):
        fine = Scene(stack.fine[k], box, stack.bands, day)
        view = view_of(Scene(stack.coarse[k], box.zoom_out(stack.ratio), stack.bands, day), fine)
        if view.samples < ENOUGH:
            continue
        view = replace(view, coarse=np.where(far_off(view, HERE, WIDTH), np.nan, view.coarse))
        seen = at(view, HERE, width_of(view, HERE)) + view.middle[:, None, None]
        for band, x, y in zip(view.bands, seen, view.coarse, strict=True):
            both = np.isfinite(x) & np.isfinite(y)
            out[band].append((x[both], y[both]))
    return out


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float, int]:
    """Gain, offset, correlation and count of a line through points, some of which are off."""
    keep = np.ones(len(x), bool)
    gain, offset, r = 1.0, 0.0, float("nan")
    for _ in range(ROUNDS):
        if keep.sum() < ENOUGH or np.ptp(x[keep]) == 0 or np.ptp(y[keep]) == 0:
            return 1.0, 0.0, r, int(keep.sum())
        r = float(np.corrcoef(x[keep], y[keep])[0, 1])
        gain, offset = (float(part) for part in np.polyfit(x[keep], y[keep], 1))
        error = np.abs(y - gain * x - offset)
        keep = error <= TRIM * max(1.4826 * float(np.median(error[keep])), 1e-6)
    if r < CORRELATED or not LIMITS[0] <= gain <= LIMITS[1]:
        gain, offset = 1.0, 0.0
    return gain, offset, r, int(keep.sum())
