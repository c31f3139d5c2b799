"""Ground of the landscape lab: what never changes within a year, drawn from a seed."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ._lab_plants import CLASSES, FIELDS, FOREST_ZONES, LEAFY, NEEDLES

SIZE = 640  # pixels of 30 m, along y and x
DISTRICTS = 34
REACH = 110  # pixels; farther from the river all is equal
_GROUND = 101  # stream numbers: one random stream per purpose, so that one layer does not move another


@dataclass(frozen=True, eq=False)
class Ground:
    """Static layers; ``(y, x)`` float32 unless said otherwise.

    Parameters
    ----------
    parcel : numpy.ndarray
        int32 index into the per-parcel vectors below.
    kind : numpy.ndarray
        ``(parcel,)`` index into ``CLASSES``.
    late : numpy.ndarray
        ``(parcel,)`` days by which the parcel's calendar runs late.
    chance : numpy.ndarray
        ``(parcel,)`` 0..1, decides harvest days and the like.
    vigour, soil, grain : numpy.ndarray
        Growth, soil brightness and texture, mean 0, standard deviation 1.
    east, north : numpy.ndarray
        Slope of the terrain towards east and north, metres per metre.
    river, built, road : numpy.ndarray
        Share of the pixel that is water, town or road, 0..1.
    roofs : numpy.ndarray
        Brightness of the town's surfaces, about 1.
    above : numpy.ndarray
        Height above the river in metres, as a flood sees it.
    felled : numpy.ndarray
        bool, forest that is cut in spring.
    """

    parcel: np.ndarray
    kind: np.ndarray
    late: np.ndarray
    chance: np.ndarray
    vigour: np.ndarray
    soil: np.ndarray
    grain: np.ndarray
    east: np.ndarray
    north: np.ndarray
    river: np.ndarray
    built: np.ndarray
    road: np.ndarray
    roofs: np.ndarray
    above: np.ndarray
    felled: np.ndarray


@lru_cache(maxsize=2)
def ground(seed: int) -> Ground:
    """Draw the ground of a landscape."""
    rng = np.random.default_rng([seed, _GROUND])
    away, river = _river(rng)
    height = 90 * cloudy(rng, 4.0) + 5 * cloudy(rng, 3.0) + _tilt() - 60 * np.exp(-((away / 45) ** 2))
    district, parcel = _parcels(rng)
    town, built, roofs = _towns(rng, away)
    road = _roads(rng, district, town)
    wooded = 0.75 * _standard(height) + 0.55 * cloudy(rng, 3.0) > 0.62
    wooded &= (away > 9) & (built < 0.05)
    wooded |= (cloudy(rng, 2.7) > 1.8) & (built < 0.05) & (away > 4)  # copses among the fields
    parcel, kind, late = _covers(rng, district, parcel, wooded, height, away)
    north, east = np.gradient(height / 30)
    return Ground(
        parcel=parcel.astype(np.int32),
        kind=kind,
        late=late,
        chance=rng.random(len(kind)),
        vigour=_single(cloudy(rng, 1.6)),
        soil=_single(0.8 * cloudy(rng, 2.4) + 0.7 * rng.standard_normal(len(kind)).clip(-2, 2)[parcel]),
        grain=_single(_grain(rng, kind[parcel])),
        east=_single(east),
        north=_single(-north),
        river=_single(np.where(built > 0.5, 0.7, 1.0) * river),
        built=_single(built),
        road=_single(np.where(wooded, 0.5, 1.0) * road),
        roofs=_single(roofs),
        above=_single(0.045 * away**1.25 + 0.25 * cloudy(rng, 2.2) + 0.75 * cloudy(rng, 3.2)),
        felled=_felled(rng, kind[parcel]),
    )


def cloudy(rng: np.random.Generator, power: float, size: int = SIZE) -> np.ndarray:
    """``(size, size)`` noise whose power falls with frequency to `power`; mean 0, standard deviation 1."""
    spectrum = np.fft.rfft2(rng.standard_normal((size, size)))
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size))
    frequency[0, 0] = np.inf
    return _standard(np.fft.irfft2(spectrum * frequency ** (-power / 2), (size, size)))


def _standard(values: np.ndarray) -> np.ndarray:
    out: np.ndarray = (values - values.mean()) / values.std()
    return out


def _single(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32)


def _axes() -> tuple[np.ndarray, np.ndarray]:
    """Return y and x of the pixels as a column and a row."""
    return np.arange(SIZE, dtype=np.float64)[:, None], np.arange(SIZE, dtype=np.float64)[None, :]


def _tilt() -> np.ndarray:
    """Height in metres that rises to the north-east, steeper towards the north."""
    y, x = _axes()
    out: np.ndarray = 190 * (1 - y / SIZE) ** 1.6 + 50 * x / SIZE
    return out


def _river(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Distance to the river's middle in pixels, and the share of water in each pixel."""
    s = np.arange(0, 2600, 0.25)
    first, second = rng.uniform(0, 2 * np.pi, 2)
    bend = 1.15 + 0.3 * np.sin(2 * np.pi * s / 700 + second)
    angle = bend * np.sin(2 * np.pi * s / 150 + first) + 0.35 * np.sin(2 * np.pi * s / 61 + second)
    x, y = np.cumsum(np.cos(angle)) * 0.25 - 30, np.cumsum(np.sin(angle)) * 0.25
    keep = x < SIZE + 30
    x, y = x[keep], y[keep]
    y += 0.62 * SIZE - y[0] + (rng.uniform(0.62, 0.8) * SIZE - 0.62 * SIZE - (y[-1] - y[0])) * np.linspace(0, 1, len(y))
    inside = (x >= 0) & (x < SIZE) & (y >= 0) & (y < SIZE)
    wet = np.zeros((SIZE, SIZE), bool)
    wet[y[inside].astype(int), x[inside].astype(int)] = True
    away = _distance(wet)
    half = 1.4 + 2.0 * _axes()[1] / SIZE  # grows downstream, in pixels
    return away, np.clip(half + 0.5 - away, 0, 1)


def _distance(marked: np.ndarray) -> np.ndarray:
    """Distance to the nearest marked pixel, at most ``REACH``: along y first, then over the columns nearby."""
    rows = np.arange(SIZE)[:, None]
    above = np.maximum.accumulate(np.where(marked, rows, -SIZE), axis=0)
    below = np.minimum.accumulate(np.where(marked, rows, 3 * SIZE)[::-1], axis=0)[::-1]
    along = np.minimum(np.minimum(rows - above, below - rows), REACH).astype(np.float32) ** 2
    wide = np.pad(along, ((0, 0), (REACH, REACH)), constant_values=REACH**2)
    best = np.full((SIZE, SIZE), REACH**2, np.float32)
    for step in range(2 * REACH + 1):
        np.minimum(best, wide[:, step : step + SIZE] + (step - REACH) ** 2, out=best)
    out: np.ndarray = np.sqrt(best).astype(np.float64)
    return out


def _parcels(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """District and parcel of each pixel: districts are Voronoi cells, each split into strips and those into fields."""
    y, x = _axes()
    bent = [axis + 7 * cloudy(rng, 3.0) for axis in (y, x)]  # so that district borders are not ruled lines
    y, x = (axis + 6 * cloudy(rng, 4.5) for axis in (y, x))  # and fields follow the terrain a little
    seeds = rng.uniform(-40, SIZE + 40, (DISTRICTS, 2))
    district = np.argmin([(bent[0] - sy) ** 2 + (bent[1] - sx) ** 2 for sy, sx in seeds], axis=0)
    parcel = np.zeros((SIZE, SIZE), np.int64)
    for number in range(DISTRICTS):
        mask, angle, size = district == number, rng.uniform(-0.5, 1.6), rng.choice([0.55, 0.8, 1.0, 1.3])
        across = (np.cos(angle) * y - np.sin(angle) * x)[mask]
        along = (np.sin(angle) * y + np.cos(angle) * x)[mask] + 2 * SIZE
        widths = size * rng.uniform(8, 21, 400)
        strip = np.searchsorted(np.cumsum(widths) - 2 * SIZE, across)
        cuts = np.cumsum(size * rng.uniform(10, 52, (400, 240)), axis=1).clip(max=9999)
        cuts += 10_000 * np.arange(400)[:, None]  # one ascending row of numbers for all strips
        parcel[mask] = number * 1_000_000 + np.searchsorted(cuts.ravel(), along + 10_000 * strip)
    return district, np.unique(parcel, return_inverse=True)[1].reshape(SIZE, SIZE)


def _towns(rng: np.random.Generator, away: np.ndarray) -> tuple[tuple[float, float], np.ndarray, np.ndarray]:
    """Middle of the town (y, x), share of built surface and its brightness; five villages beside the town."""
    y, x = _axes()
    bank = np.argwhere((away > 16) & (away < 26))
    bank = bank[(np.abs(bank[:, 1] - 0.66 * SIZE) < 60) & (bank[:, 0] > 120) & (bank[:, 0] < SIZE - 120)]
    middle = bank[rng.integers(len(bank))]
    places = [(middle[0], middle[1], 40.0)]
    places += [(*rng.uniform(70, SIZE - 70, 2), rng.uniform(5, 10)) for _ in range(5)]
    rough, turn = 0.35 * cloudy(rng, 2.4), rng.uniform(0.3, 1.2)
    dense = np.max([np.exp(-((y - py) ** 2 + 0.7 * (x - px) ** 2) / (2 * r**2)) for py, px, r in places], axis=0)
    u, v = np.cos(turn) * y - np.sin(turn) * x, np.sin(turn) * y + np.cos(turn) * x
    street = (u % 7 < 1) | (v % 11 < 1)
    block = (np.floor(u / 7) * 131 + np.floor(v / 11) * 17).astype(np.int64) % 997
    garden, roof = rng.uniform(0.3, 0.95, 997), rng.uniform(0.6, 1.45, 997)
    inside = np.clip((dense * (1 + rough) - 0.25) * 5, 0, 1)
    built = inside * np.where(street, 0.85, garden[block])
    built[away < 5] = 0
    roofs = np.where(street, 0.8, roof[block] * (1 + 0.25 * rng.standard_normal((SIZE, SIZE)).clip(-2, 2)))
    return (float(middle[0]), float(middle[1])), built, roofs.clip(0.4, 2.4)


def _roads(rng: np.random.Generator, district: np.ndarray, town: tuple[float, float]) -> np.ndarray:
    """Share of road: country roads along district borders, two main roads that meet in the town."""
    y, x = _axes()
    lane = np.zeros((SIZE, SIZE))
    lane[:-1] = 0.65 * (district[1:] != district[:-1])
    lane[:, :-1] = np.maximum(lane[:, :-1], 0.65 * (district[:, 1:] != district[:, :-1]))
    bends, phases = rng.uniform(10, 26, 2), rng.uniform(100, 170, 2)
    across = town[0] + rng.uniform(-0.35, 0.1) * (x - town[1]) + bends[0] * np.sin((x - town[1]) / phases[0])
    down = town[1] + rng.uniform(0.1, 0.35) * (y - town[0]) + bends[1] * np.sin((y - town[0]) / phases[1])
    main = np.minimum(np.abs(y - across), np.abs(x - down))
    out: np.ndarray = np.maximum(lane, 0.8 * np.clip(1.1 - main, 0, 1))
    return out


def _covers(
    rng: np.random.Generator,
    district: np.ndarray,
    parcel: np.ndarray,
    wooded: np.ndarray,
    height: np.ndarray,
    away: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Parcel of each pixel with the woods as parcels too, and the class and lateness of every parcel."""
    count = int(parcel.max()) + 1
    home = np.zeros(count, np.int64)
    home[parcel.ravel()] = district.ravel()
    weights = np.array([CLASSES[i].share for i in FIELDS])
    odds = rng.dirichlet(4 * weights / weights.mean(), DISTRICTS)  # every district has its own favourites
    pick = (np.cumsum(odds, axis=1)[home] < rng.random(count)[:, None]).sum(axis=1).clip(max=len(FIELDS) - 1)
    kind = np.asarray(FIELDS)[pick]
    wet = np.unique(parcel[(away < 6) & (away > 2)])
    kind[wet] = np.where(rng.random(len(wet)) < 0.75, _index("meadow"), kind[wet])
    steps = np.quantile(height, np.linspace(0, 1, FOREST_ZONES + 1))[1:-1]
    zone = np.searchsorted(steps, height)
    needles = 0.8 * _standard(height) + cloudy(rng, 3.1) > 0.95
    woods = count + zone + FOREST_ZONES * needles
    late = np.concatenate([5 * rng.standard_normal(count).clip(-2, 2), np.tile(2.5 * np.arange(FOREST_ZONES), 2)])
    kind = np.concatenate([kind, np.repeat([LEAFY, NEEDLES], FOREST_ZONES)])
    return np.where(wooded, woods, parcel), kind, late


def _index(name: str) -> int:
    return [item.name for item in CLASSES].index(name)


def _grain(rng: np.random.Generator, kind: np.ndarray) -> np.ndarray:
    """Texture of pixels: rough tree crowns, smooth fields."""
    rough = np.array([item.texture for item in CLASSES])[kind]
    fine = 0.6 * rng.standard_normal((SIZE, SIZE)) + 0.8 * cloudy(rng, 1.2)
    out: np.ndarray = rough * fine
    return out


def _felled(rng: np.random.Generator, kind: np.ndarray) -> np.ndarray:
    """Five clear-cuts, turned rectangles in the woods."""
    y, x = _axes()
    woods = (kind == LEAFY) | (kind == NEEDLES)
    out = np.zeros((SIZE, SIZE), bool)
    inner = np.argwhere(woods)
    for _ in range(5):
        (py, px), turn = inner[rng.integers(len(inner))], rng.uniform(0.2, 1.3)
        long, short = rng.uniform(9, 20), rng.uniform(5, 9)
        u, v = np.cos(turn) * (y - py) - np.sin(turn) * (x - px), np.sin(turn) * (y - py) + np.cos(turn) * (x - px)
        out |= (np.abs(u) < short) & (np.abs(v) < long)
    cuts: np.ndarray = out & woods
    return cuts
