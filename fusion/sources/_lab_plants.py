"""Plants and surfaces of the landscape lab: spectra and the calendar of a year."""

from typing import NamedTuple

import numpy as np

# Reflectance in blue, green, red, near infrared and two short-wave infrared bands: plausible values of the kind that
# Landsat surface reflectance shows, set by hand, not measured anywhere.
SPECTRA = {
    "soil": (0.075, 0.110, 0.150, 0.220, 0.300, 0.255),
    "stubble": (0.125, 0.180, 0.240, 0.320, 0.410, 0.320),
    "straw": (0.075, 0.128, 0.160, 0.330, 0.290, 0.180),
    "cereal": (0.025, 0.062, 0.030, 0.450, 0.195, 0.080),
    "rape": (0.028, 0.075, 0.036, 0.480, 0.210, 0.090),
    "petals": (0.045, 0.190, 0.190, 0.500, 0.225, 0.105),
    "maize": (0.030, 0.068, 0.034, 0.420, 0.185, 0.078),
    "beet": (0.032, 0.082, 0.032, 0.530, 0.210, 0.085),
    "grass": (0.033, 0.082, 0.048, 0.370, 0.225, 0.115),
    "hay": (0.065, 0.105, 0.125, 0.250, 0.300, 0.195),
    "leaf": (0.020, 0.052, 0.025, 0.400, 0.165, 0.066),
    "autumn": (0.040, 0.078, 0.105, 0.290, 0.215, 0.115),
    "twigs": (0.042, 0.056, 0.070, 0.170, 0.195, 0.130),
    "needle": (0.017, 0.034, 0.021, 0.235, 0.098, 0.042),
    "stumps": (0.070, 0.092, 0.120, 0.205, 0.285, 0.205),
    "water": (0.050, 0.062, 0.045, 0.018, 0.008, 0.005),
    "flood": (0.078, 0.108, 0.112, 0.062, 0.020, 0.011),
    "road": (0.098, 0.115, 0.130, 0.170, 0.200, 0.175),
    "roof": (0.105, 0.120, 0.138, 0.185, 0.215, 0.190),
}


class Cover(NamedTuple):
    """One class of land cover and its calendar, in days of the year.

    `ground` shows where nothing grows, `green` is the full canopy, `dry` what becomes of it; greenness rises by a
    logistic curve around `start` and falls by another around `end`, both with their own pace, between `winter` and
    `peak` share of the pixel. `harvest` is the first and the last day on which parcels are cut, `plough` how many
    days later the stubble goes under.
    """

    name: str
    share: float
    ground: str
    green: str
    dry: str
    winter: float
    peak: float
    start: float
    rise: float
    end: float
    fall: float
    harvest: tuple[float, float] | None
    plough: float
    texture: float


CLASSES = (
    Cover("wheat", 0.24, "soil", "cereal", "straw", 0.22, 0.93, 98, 9, 184, 7, (203, 216), 40, 0.045),
    Cover("rapeseed", 0.11, "soil", "rape", "straw", 0.35, 0.95, 88, 9, 176, 7, (202, 212), 30, 0.045),
    Cover("maize", 0.22, "soil", "maize", "straw", 0.0, 0.92, 163, 8, 254, 8, (266, 290), 18, 0.05),
    Cover("beet", 0.10, "soil", "beet", "straw", 0.0, 0.96, 152, 8, 305, 12, (279, 312), 2, 0.04),
    Cover("meadow", 0.17, "hay", "grass", "hay", 0.35, 0.92, 92, 12, 285, 16, None, 0, 0.06),
    Cover("pasture", 0.10, "hay", "grass", "hay", 0.30, 0.78, 100, 14, 270, 20, None, 0, 0.10),
    Cover("fallow", 0.06, "soil", "grass", "hay", 0.08, 0.35, 120, 18, 250, 20, None, 0, 0.12),
    Cover("broadleaf", 0.0, "twigs", "leaf", "autumn", 0.04, 0.96, 116, 5, 288, 7, None, 0, 0.14),
    Cover("conifer", 0.0, "twigs", "needle", "needle", 0.90, 0.97, 120, 15, 280, 20, None, 0, 0.15),
)
FIELDS = range(7)  # classes that parcels are drawn from
LEAFY, NEEDLES = 7, 8
FOREST_ZONES = 8  # by height, each later in spring than the one below
_MOWN = (146.0, 205.0, 258.0)  # first days on which meadows are mown
_PETALS = (122.0, 9.0)  # day of full flower of rapeseed and its standard deviation


def fractions(day: float, kind: np.ndarray, late: np.ndarray, chance: np.ndarray) -> dict[str, np.ndarray]:
    """Share of each surface in every parcel on a day of the year.

    Parameters
    ----------
    day : float
        Day of the year, 1 to 365.
    kind, late, chance : numpy.ndarray
        ``(parcel,)`` class, lateness in days and a number of its own in 0..1.

    Returns
    -------
    dict of str to numpy.ndarray
        ``(parcel,)`` of "green", "dry", "stubble" and "petals"; what is left is ground.
    """
    row = {name: np.array([getattr(item, name) for item in CLASSES], np.float64)[kind] for name in _NUMBERS}
    up, down = _logistic(day, row["start"] + late, row["rise"]), _logistic(day, row["end"] + late, row["fall"])
    green = row["winter"] + (row["peak"] - row["winter"]) * up * (1 - down)
    dry = 0.9 * row["peak"] * up * down
    stubble = np.zeros(len(kind))
    first, last = (np.array([(item.harvest or (999, 999))[end] for item in CLASSES])[kind] for end in (0, 1))
    cut = np.rint(first + chance * (last - first))
    gone = day >= cut
    stubble[gone] = np.exp(-(((day - cut) / np.maximum(row["plough"], 1)) ** 4))[gone] * 0.85
    sown = row["winter"] * _logistic(day, 312 + late, 8)  # next year's winter crop
    green, dry = np.where(gone, sown, green), np.where(gone, 0.0, dry)
    dry[kind == LEAFY] *= 1 - _logistic(day, 312 + late, 6)[kind == LEAFY]  # leaves fall
    green = np.where(kind == MEADOW, green * _mown(day, chance), green)
    petals = np.where(kind == RAPE, 0.75 * np.exp(-(((day - _PETALS[0] - late) / _PETALS[1]) ** 2) / 2), 0.0)
    return {"green": green * (1 - petals), "dry": dry, "stubble": stubble, "petals": green * petals}


_NUMBERS = ("winter", "peak", "start", "rise", "end", "fall", "plough")
RAPE, MEADOW = (next(i for i, item in enumerate(CLASSES) if item.name == name) for name in ("rapeseed", "meadow"))


def _logistic(day: float, middle: np.ndarray, pace: np.ndarray | float) -> np.ndarray:
    out: np.ndarray = 1 / (1 + np.exp(-(day - middle) / pace))
    return out


def _mown(day: float, chance: np.ndarray) -> np.ndarray:
    """Factor on the greenness of meadows: cut to a third on days of their own, grown back within a month."""
    out = np.ones(len(chance))
    for first in _MOWN:
        since = day - np.rint(first + 16 * chance)
        out *= np.where(since >= 0, 1 - 0.66 * np.exp(-np.maximum(since, 0) / 14), 1.0)
    return out


def endmembers(column: str) -> np.ndarray:
    """``(class, band)`` spectra of one column of the classes: "ground", "green" or "dry"."""
    return np.array([SPECTRA[getattr(item, column)] for item in CLASSES])
