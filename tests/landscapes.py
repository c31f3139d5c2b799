"""Small synthetic landscapes for tests: asymmetrical, so that a swapped axis, pair or band cannot pass."""

from datetime import date, timedelta

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from fusion import Pair, Scene, Stack

DAY = date(2020, 7, 1)  # the target day
BANDS = ("blue", "green", "red", "nir", "swir1", "swir2")


def grid(height: int, width: int, pixel: float = 30.0, crs: str | None = "EPSG:32633") -> GeoBox:
    """Return a grid of `height` x `width` pixels whose upper left corner is (500 000, 4 000 000)."""
    return GeoBox((height, width), Affine(pixel, 0, 500_000, 0, -pixel, 4_000_000), crs)


def block_mean(fine: np.ndarray, ratio: int) -> np.ndarray:
    """Mean of ``ratio x ratio`` fine pixels: ``(band, y, x) -> (band, y/ratio, x/ratio)``; any NaN gives NaN."""
    bands, height, width = fine.shape
    blocks = fine.reshape(bands, height // ratio, ratio, width // ratio, ratio)
    return blocks.mean(axis=(2, 4), dtype=np.float64).astype(np.float32)


def reflectance(day: int, bands: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """``(band, y, x)`` float32: parcels that change at their own pace and not evenly, two slopes, and texture."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    parcels = 3 + 2 * (y // 5) + 7 * (x // 8)
    level, pace = rng.uniform(0.1, 0.5, (2, bands, int(parcels.max()) + 1))
    slope = 0.05 * y / height - 0.02 * (x / width) ** 2
    texture = rng.normal(0, 0.01, (bands, height, width))
    change = (pace[:, parcels] - 0.3) * day / 200 + (0.3 - level[:, parcels]) * (day / 200) ** 2
    out = level[:, parcels] + slope + texture + change
    return np.clip(out, 0.001, 0.999).astype(np.float32)


def blobs(image: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return a copy with `count` rectangles of NaN, in all bands alike."""
    rng = np.random.default_rng(seed)
    out = image.copy()
    height, width = image.shape[-2:]
    for _ in range(count):
        y, x = rng.integers(height), rng.integers(width)
        out[..., y : y + 1 + height // 6, x : x + 1 + width // 9] = np.nan
    return out


def pair(
    offset: int,
    *,
    rows: int = 5,
    columns: int = 7,
    ratio: int = 4,
    bands: int = 2,
    gaps: int = 0,
    seed: int = 0,
) -> Pair:
    """Pair of the day ``DAY + offset``: `rows` x `columns` coarse pixels, `gaps` NaN rectangles in each image."""
    day, names = DAY + timedelta(days=offset), BANDS[:bands]
    fine = reflectance(offset, bands, rows * ratio, columns * ratio, seed)
    coarse = block_mean(fine, ratio)
    fine = blobs(fine, gaps, seed + 31 * offset + 100_000)
    coarse = blobs(coarse, gaps, seed + 17 * offset + 200_000)
    place = grid(rows * ratio, columns * ratio)
    return Pair(Scene(coarse, place.zoom_out(ratio), names, day), Scene(fine, place, names, day))


def stack(
    offsets: tuple[int, ...] = (-40, 25),
    *,
    rows: int = 5,
    columns: int = 7,
    ratio: int = 4,
    bands: int = 2,
    gaps: int = 0,
    seed: int = 0,
) -> Stack:
    """Stack that predicts ``DAY`` from pairs at these offsets in days."""
    size = {"rows": rows, "columns": columns, "ratio": ratio, "bands": bands, "gaps": gaps, "seed": seed}
    return Stack.of([pair(offset, **size) for offset in offsets], pair(0, **size).coarse)


def bare(fine: np.ndarray, coarse: np.ndarray, target: np.ndarray, days: tuple[int, ...] = (-10,)) -> Stack:
    """Stack from arrays ``(pair, band, y, x)``, ``(pair, band, v, u)`` and ``(band, v, u)``."""
    fine, coarse, target = (np.asarray(a, np.float32) for a in (fine, coarse, target))
    return Stack(fine, coarse, target, days, grid(*fine.shape[2:]), BANDS[: fine.shape[1]], DAY)
