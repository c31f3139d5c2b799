"""Year of the landscape lab: what is to be seen of the ground on a day."""

import math
from datetime import date
from functools import lru_cache

import numpy as np

from ._lab_layers import SIZE, Ground, cloudy, ground
from ._lab_plants import SPECTRA, endmembers, fractions

FELLED = date(2021, 4, 28)  # forest is cut
FLOOD = (date(2021, 6, 20), date(2021, 6, 27), date(2021, 7, 16))  # the river leaves its bed, is highest, is back
_CREST = 3.1  # metres
_LATITUDE = 45.0  # degrees, for the sun
_WEATHER, _CLOUDS = 202, 303  # stream numbers


@lru_cache(maxsize=4)
def truth(seed: int, day: date) -> np.ndarray:
    """``(band, y, x)`` float32 reflectance without clouds and noise; read only, because it is kept."""
    land, number = ground(seed), day.timetuple().tm_yday
    image = _plants(land, number, _wetness(seed, day))
    if day >= FELLED:
        image = _mix(image, land.felled * np.float32(0.92), "stumps", 1 + 0.1 * land.grain)
    image *= _light(land, number)
    image = _mix(image, land.built, "roof", land.roofs)
    image = _mix(image, land.road, "road", 1.0)
    image = _mix(image, _flooded(land, day), "flood", 1 + 0.05 * land.vigour)
    image = _mix(image, land.river, "water", 1.0 + 0.4 * flood_level(day) / _CREST)
    image = _blur(np.clip(image, 0.002, 0.9))
    image.setflags(write=False)
    return image


def flood_level(day: date) -> float:
    """Metres of water above the river's banks: rises steeply, falls slowly."""
    first, crest, last = (edge.toordinal() for edge in FLOOD)
    now = day.toordinal()
    share = (now - first) / (crest - first) if now <= crest else (last - now) / (last - crest)
    return _CREST * max(share, 0.0)


@lru_cache(maxsize=64)
def clouds(seed: int, day: date, mean: float) -> np.ndarray:
    """``(y, x)`` bool of clouds and their shadows; two days in three are cloudy, on average `mean` of the pixels."""
    rng = np.random.default_rng([seed, day.toordinal(), _CLOUDS])
    some, amount = rng.random(2)
    share = min(mean * (0.5 + amount), 0.97)
    if some > 2 / 3 or share == 0:
        return np.zeros((SIZE, SIZE), bool)
    small = cloudy(rng, 3.2, SIZE // 4)
    field = _enlarge(small) + 0.04 * _enlarge(cloudy(rng, 2.0, SIZE // 4))
    shadow = np.roll(field, (-10, -7), axis=(0, 1))  # the sun stands in the south-east
    both = np.maximum(field, shadow)
    count = round((1 - share) * SIZE * SIZE)
    out: np.ndarray = both > np.partition(both, count, axis=None)[count]
    out.setflags(write=False)
    return out


def _plants(land: Ground, number: int, wet: np.ndarray) -> np.ndarray:
    """Mix of ground, green and dry plants, stubble and petals in every parcel, then what varies within it."""
    part = fractions(number, land.kind, land.late, land.chance)
    bare = 1 - np.sum(list(part.values()), axis=0)
    below, green, dry = (endmembers(name)[land.kind] for name in ("ground", "green", "dry"))
    grown = part["green"][:, None] * (green - below)
    rest = part["dry"][:, None] * dry + part["green"][:, None] * below
    rest += part["petals"][:, None] * np.array(SPECTRA["petals"])
    earth = bare[:, None] * below + part["stubble"][:, None] * np.array(SPECTRA["stubble"])
    tint = 1 + 0.10 * land.soil - wet
    growth = 1 + 0.09 * land.vigour
    out = np.empty((6, SIZE, SIZE), np.float32)
    for band in range(6):
        tables = (table[:, band].astype(np.float32)[land.parcel] for table in (grown, rest, earth))
        vivid, steady, soil = tables
        out[band] = (vivid * growth + steady + soil * tint) * (1 + land.grain)
    return out


def _wetness(seed: int, day: date) -> np.ndarray:
    """``(y, x)`` share by which rain of the last days darkens bare soil."""
    rng = np.random.default_rng([seed, day.toordinal(), _WEATHER])
    rain = 0.30 * rng.random() ** 2
    out: np.ndarray = np.clip(rain * (1 + 0.6 * _enlarge(cloudy(rng, 3.5, SIZE // 4))), 0, 0.4).astype(np.float32)
    return out


def _light(land: Ground, number: int) -> np.ndarray:
    """``(y, x)`` illumination of the slopes at half past ten, and a faint gradient across the swath."""
    tilt = math.radians(-23.44 * math.cos(2 * math.pi * (number + 10) / 365))
    hour, latitude = math.radians(-22.5), math.radians(_LATITUDE)
    up = math.sin(latitude) * math.sin(tilt) + math.cos(latitude) * math.cos(tilt) * math.cos(hour)
    east = -math.cos(tilt) * math.sin(hour)
    north = math.cos(latitude) * math.sin(tilt) - math.sin(latitude) * math.cos(tilt) * math.cos(hour)
    facing = (up - land.east * east - land.north * north) / up / np.sqrt(1 + land.east**2 + land.north**2)
    swath = 0.02 * math.sin(0.9 * number) * (np.arange(SIZE, dtype=np.float32) / SIZE - 0.4)
    out: np.ndarray = ((1 + 0.6 * (np.clip(facing, 0.2, 2) - 1)) * (1 + swath)).astype(np.float32)
    return out


def _flooded(land: Ground, day: date) -> np.ndarray:
    """``(y, x)`` share under water: everything lower than the flood's level, with a soft shore."""
    level = flood_level(day)
    out: np.ndarray = np.clip((level - land.above) / 0.25, 0, 0.97 if level else 0) * (land.built < 0.5)
    return out


def _mix(image: np.ndarray, share: np.ndarray, surface: str, brightness: np.ndarray | float) -> np.ndarray:
    """Cover a share of every pixel with another surface."""
    where = share > 0
    kept, bright = share[where], np.broadcast_to(brightness, share.shape)[where]
    for band, value in enumerate(SPECTRA[surface]):
        image[band][where] = image[band][where] * (1 - kept) + kept * value * bright
    return image


def _blur(image: np.ndarray) -> np.ndarray:
    """See the ground as a sensor of 30 m does: 1-6-1 weights along y and x, edges repeated."""
    for axis in (1, 2):
        wide = np.pad(image, [(1, 1) if i == axis else (0, 0) for i in range(3)], mode="edge")
        before, after = (wide.take(range(i, i + SIZE), axis) for i in (0, 2))
        image = (before + 6 * image + after) / 8
    return image.astype(np.float32)


def _enlarge(small: np.ndarray) -> np.ndarray:
    """Bilinear from ``(160, 160)`` to ``(640, 640)``."""
    at = np.clip((np.arange(SIZE) + 0.5) / 4 - 0.5, 0, len(small) - 1)
    low = np.minimum(at.astype(int), len(small) - 2)
    part = at - low
    rows = small[low] * (1 - part)[:, None] + small[low + 1] * part[:, None]
    out: np.ndarray = rows[:, low] * (1 - part) + rows[:, low + 1] * part
    return out
