"""Aggregate: the image that a coarser sensor sees of the same ground."""

import math
from dataclasses import replace
from functools import lru_cache

import numpy as np

from ..errors import FusionError
from ..scene import Scene

REACH = 4.0  # standard deviations; beyond lies 0.006 % of a Gaussian
MAX_MISSING = 0.25  # share of a coarse pixel's weight
MAX_PSF = 4.0  # coarse pixels


def aggregate(scene: Scene, ratio: int, *, psf: float = 0.5) -> Scene:
    """Make the image that a coarser sensor sees of the same ground.

    A coarse pixel is the mean of the fine pixels around its centre, weighted with a Gaussian point-spread function:
    the Gaussian is integrated over each fine pixel, separately in y and x, and cut off at 4 standard deviations. At
    the edge of the scene, and where fine pixels are missing, the weights of the others are scaled up to sum to one.

    Parameters
    ----------
    scene : Scene
        Fine image ``(band, y, x)``; height and width must be multiples of `ratio`.
    ratio : int
        Fine pixels per coarse pixel, along one side.
    psf : float
        Standard deviation of the point-spread function in coarse pixels, 0 to 4; its full width at half maximum is
        2.355 times that. 0 stands for a detector without blur: the plain mean of ``ratio x ratio`` fine pixels.

    Returns
    -------
    Scene
        ``(band, y/ratio, x/ratio)`` on ``scene.geobox.zoom_out(ratio)``; NaN where more than a quarter of a pixel's
        weight inside the scene is missing.

    Raises
    ------
    FusionError
        If the scene does not divide into whole coarse pixels or a number is out of its range.

    Notes
    -----
    The default of half a coarse pixel makes a full width at half maximum of 1.18 coarse pixels. Optical sensors are
    said to have a width of about 0.5 to 1 pixels before the detector's own size is added [1]_.

    References
    ----------
    .. [1] Frans, E. P., Schowengerdt, R. A. (1997). Spatial-spectral unmixing using the sensor PSF. Proc. SPIE 3118,
       Imaging Spectrometry III, 241-249. doi:10.1117/12.283830

    Examples
    --------
    >>> from datetime import date
    >>> from fusion.scene import identity_geobox
    >>> fine = Scene(np.full((1, 6, 9), 0.2, np.float32), identity_geobox(6, 9), ("red",), date(2020, 5, 1))
    >>> aggregate(fine, 3).shape
    (1, 2, 3)
    """
    _, height, width = scene.shape
    if isinstance(ratio, bool) or ratio != int(ratio) or ratio < 1 or height % ratio or width % ratio:
        raise FusionError(
            f"aggregate wants whole coarse pixels, got {height} x {width} fine pixels at a ratio of {ratio}: "
            "cut the scene to a multiple of the ratio."
        )
    if not 0 <= psf <= MAX_PSF:
        raise FusionError(f"aggregate wants a psf of 0 to {MAX_PSF:g} coarse pixels, got {psf}: the default is 0.5.")
    rows, columns = (_weights(size // ratio, ratio, float(psf)) for size in (height, width))
    data = scene.data.astype(np.float64)
    known = np.isfinite(data)
    if known.all():
        coarse = rows @ data @ columns.T
    else:
        weight = rows @ known.astype(np.float64) @ columns.T
        total = rows @ np.where(known, data, 0.0) @ columns.T
        enough = weight >= 1 - MAX_MISSING - 1e-9  # exactly a quarter missing is still enough
        coarse = np.where(enough, total / np.where(enough, weight, 1.0), np.nan)
    return replace(scene, data=coarse.astype(np.float32), geobox=scene.geobox.zoom_out(ratio))


@lru_cache(maxsize=16)
def _weights(count: int, ratio: int, psf: float) -> np.ndarray:
    """``(coarse, fine)`` weights along one axis; every row sums to one."""
    centre = np.arange(count)[:, None] + 0.5
    away = np.abs((np.arange(count * ratio) + 0.5) / ratio - centre)  # coarse pixels from centre to centre
    half = 0.5 / ratio
    if psf == 0:
        weights = np.where(away < 0.5, 1.0, 0.0)
    else:
        scale = 1 / (psf * math.sqrt(2))
        steps = np.arange(min(math.ceil((REACH * psf + half) * ratio) + 1, count * ratio) * 2 + 1) * half
        area = np.array([math.erf((d + half) * scale) - math.erf((d - half) * scale) for d in steps])
        nearest = np.minimum(np.rint(away / half).astype(int), len(steps) - 1)  # centres lie whole half pixels apart
        weights = np.where(away < REACH * psf + half, area[nearest], 0.0)
    weights /= weights.sum(axis=1, keepdims=True)
    weights.setflags(write=False)
    return weights
