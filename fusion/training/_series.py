"""The series that a training is given: its pairs by grid, its hash and its normalisation."""

import hashlib
from collections.abc import Sequence
from datetime import date

import numpy as np

from ..errors import FusionError
from ..stack import Pair


def digest(series: Sequence[Pair]) -> str:
    """Hash of the pixels, places and days of a series."""
    out = hashlib.sha256()
    for pair in series:
        for scene in (pair.coarse, pair.fine):
            out.update(f"{scene.day}{scene.bands}{tuple(scene.geobox.affine)}{scene.data.shape}".encode())
            out.update(np.ascontiguousarray(scene.data).tobytes())
    return out.hexdigest()[:24]


def by_grid(series: Sequence[Pair]) -> list[list[Pair]]:
    """Sort pairs into groups of one grid, in time order.

    Raises
    ------
    FusionError
        If there is no pair, bands differ, a day repeats on a grid, or a grid has less than two days.
    """
    if not series:
        raise FusionError("Training wants at least two pairs of coarse and fine images, got none: add pairs.")
    bands = series[0].fine.bands
    found: dict[tuple[object, ...], dict[date, Pair]] = {}
    for pair in series:
        if pair.fine.bands != bands or pair.coarse.bands != bands:
            raise FusionError(
                f"All pairs of a training want the bands {', '.join(bands)}, the pair of {pair.day} has "
                f"{', '.join(pair.fine.bands)} and {', '.join(pair.coarse.bands)}: select common bands."
            )
        days = found.setdefault((pair.fine.geobox, pair.coarse.geobox), {})
        if pair.day in days:
            raise FusionError(f"The series has two pairs of {pair.day} on one grid: give each day once.")
        days[pair.day] = pair
    groups = [[days[day] for day in sorted(days)] for days in found.values()]
    if lonely := [group[0].day for group in groups if len(group) < 2]:
        raise FusionError(
            f"Training wants at least two days of an area, got only {lonely[0]} of one: a network learns from changes "
            "between days. Add a pair of another day."
        )
    return groups


def normalisation(groups: Sequence[Sequence[Pair]]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each band over all fine images.

    Raises
    ------
    FusionError
        If a band has no valid pixel.
    """
    bands = groups[0][0].fine.bands
    total, square, count = (np.zeros(len(bands)) for _ in range(3))
    for pair in (pair for group in groups for pair in group):
        data = pair.fine.data.astype(np.float64)
        known = np.isfinite(data)
        data = np.where(known, data, 0)
        total += data.sum(axis=(1, 2))
        square += (data**2).sum(axis=(1, 2))
        count += known.sum(axis=(1, 2))
    if not count.all():
        band = bands[int(np.argmin(count))]
        raise FusionError(f"No fine image has a valid pixel of {band} (clouds or no data): choose other days.")
    mean = total / count
    deviation = np.sqrt(np.maximum(square / count - mean**2, 0))
    return mean.astype(np.float32), np.maximum(deviation, 1e-3).astype(np.float32)
