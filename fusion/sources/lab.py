"""Landscape lab: a synthetic landscape whose truth is known on every date.

Nothing here is observed. From a seed, 19.2 x 19.2 km of ground are drawn in pixels of 30 m: hills with woods, a
meandering river, a town, villages and roads, and some two thousand parcels in districts that each have their own
direction and favourite crops. Every class of land cover has a calendar of two logistic curves (greening and ageing),
every parcel runs early or late; the shares of ground, green and dry plants times their plausible spectra give the
reflectance in six bands. Soil darkens after rain, slopes are lit by the sun of half past ten at 45 degrees north.

Some changes are abrupt: meadows are mown, wheat and rapeseed are harvested between 20 July and 5 August 2021 and maize
and beet in autumn, woods are felled on 28 April, and from 20 June to 16 July the river stands on its flood plain.

The fine sensor sees this truth with noise. The coarse sensor sees it through :func:`fusion.preprocess.aggregate` with a
ratio of 16, displaced, with a gain, an offset and noise of its own. Clouds and their shadows are missing in both.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, timedelta
from functools import lru_cache
from typing import Any

import numpy as np
from odc.geo.geobox import GeoBox

from ..errors import FusionError
from ..params import check_params, param, params
from ..preprocess import aggregate
from ..products import LAB_GRID, Product
from ..products import product as row_of
from ..scene import Scene
from . import Bounds, Dates, Item, _lab_year
from ._local_grid import SHIFT_SLACK, SLACK, cut, footprint, window

TITLE = "Landscape lab (synthetic)"
DESCRIPTION = (
    "A made-up landscape of 19 x 19 km in which everything is known: woods, fields through a year of growth, a "
    "river with a flood in June, harvests, clear-cuts and a town. The fine sensor sees it with pixels of 30 m on 14 "
    "days, the coarse one with 480 m on 46 days. Add clouds, noise or a badly calibrated coarse sensor, and compare "
    "each prediction with the truth. Nothing in it was observed."
)

RATIO = 16
DAYS = tuple(date(2021, 1, 1) + timedelta(days=8 * i) for i in range(46))
FINE_DAYS = tuple(DAYS[i] for i in (1, 5, 9, 13, 17, 21, 23, 25, 27, 29, 33, 37, 41, 45))  # flood and harvest: closer
_NOISE_FINE, _NOISE_COARSE = 404, 505  # stream numbers
_ID = re.compile(r"(\d{4}-\d\d-\d\d)(?:/([a-z_]+=[0-9.e+-]+(?:,[a-z_]+=[0-9.e+-]+)*))?")


@dataclass(frozen=True)
class Landscape:
    """Which landscape, and how well the sensors see it."""

    seed: int = param(0, doc="Which landscape; every number draws another one.", low=0, high=9999)
    clouds: float = param(
        0.0, doc="Mean share of clouds and shadows on cloudy days, two days in three.", unit="share", low=0, high=0.8
    )
    gain: float = param(1.0, doc="Factor on the coarse sensor's reflectance.", unit="factor", low=0.8, high=1.2)
    offset: float = param(
        0.0, doc="Constant added to the coarse sensor's reflectance.", unit="reflectance", low=-0.05, high=0.05
    )
    noise: float = param(0.002, doc="Standard deviation of both sensors' noise.", unit="reflectance", low=0, high=0.02)
    shift_east: float = param(0.0, doc="Displacement of the coarse image to the east.", unit="m", low=-960, high=960)
    shift_north: float = param(0.0, doc="Displacement of the coarse image to the north.", unit="m", low=-960, high=960)

    def __post_init__(self) -> None:
        check_params(self)


Options = Landscape
_DEFAULT = Landscape()


def search(
    product: str, bounds: Bounds | None = None, dates: Dates | None = None, options: Landscape = _DEFAULT
) -> list[Item]:
    """List the days of a product, in time order.

    Parameters
    ----------
    product : str
        "lab-fine", "lab-coarse" or "lab-truth".
    bounds : tuple of float, optional
        West, south, east, north in degrees.
    dates : (date, date), optional
        First and last day, both included.
    options : Landscape
        Written into the items' ids.

    Raises
    ------
    FusionError
        If the product is unknown or the bounds are none.
    """
    row, native = _row(product)
    roi, everything = window(native, bounds), footprint(native)
    if roi is None:
        return []
    first, last = dates or (date.min, date.max)
    return [
        Item("lab", row.name, _id(day, options), day, _missing(row, day, options)[roi].mean().item(), everything)
        for day in (FINE_DAYS if row.role == "fine" else DAYS)
        if first <= day <= last
    ]


def read(item: Item, geobox: GeoBox, bands: Sequence[str]) -> Scene:
    """Make one image on exactly this grid; the item's id says all that it depends on.

    Raises
    ------
    FusionError
        If the item or a band is unknown, or the grid reaches beyond the landscape.
    """
    row, _ = _row(item.product)
    day, options = _parse(item)
    if row.role == "coarse":
        scene = _coarse(day, options)
    else:
        scene = _fine(day, options, noisy=row.role == "fine")
    return cut(scene, geobox, SHIFT_SLACK if row.role == "coarse" else SLACK).select(bands)  # a copy: the scene is kept


def options_in(item: Item) -> Landscape:
    """Return the landscape of an item."""
    return _parse(item)[1]


def _row(name: str) -> tuple[Product, GeoBox]:
    row = row_of("lab", name)
    return row, LAB_GRID.zoom_out(RATIO) if row.role == "coarse" else LAB_GRID


def _id(day: date, options: Landscape) -> str:
    """Day and whatever differs from the defaults, in the order of the fields."""
    usual = asdict(_DEFAULT)
    given = [f"{name}={value!r}" for name, value in asdict(options).items() if value != usual[name]]
    return day.isoformat() + ("/" + ",".join(given) if given else "")


def _parse(item: Item) -> tuple[date, Landscape]:
    """Day and options of an item; its id must be the very text that a search writes."""
    wanted = f"The lab has no image {item.id!r} of {item.product}: take the item from a search."
    match = _ID.fullmatch(item.id)
    if item.source != "lab" or match is None:
        raise FusionError(wanted)
    pairs = [text.split("=") for text in (match[2] or "").split(",") if text]
    kinds = {known.name: known.kind for known in params(Landscape)}
    if unknown := [name for name, _ in pairs if name not in kinds]:
        raise FusionError(f"The lab has no option {', '.join(unknown)}; it has {', '.join(kinds)}.")
    try:
        day = date.fromisoformat(match[1])
        values: dict[str, Any] = {name: kinds[name](text) for name, text in pairs}
    except ValueError as error:
        raise FusionError(f"{wanted[:-1]} ({error}).") from error
    options = Landscape(**values)
    days = FINE_DAYS if row_of("lab", item.product).role == "fine" else DAYS
    if day not in days or item.day != day or item.id != _id(day, options):
        raise FusionError(wanted)
    return day, options


def _missing(row: Product, day: date, options: Landscape) -> np.ndarray:
    """``(y, x)`` bool: pixels of a product that are clouds or shadows."""
    if row.role == "truth" or not options.clouds:
        return np.zeros(_row(row.name)[1].shape, bool)
    return _veiled(day, options) if row.role == "coarse" else _lab_year.clouds(options.seed, day, options.clouds)


@lru_cache(maxsize=256)
def _veiled(day: date, options: Landscape) -> np.ndarray:
    """Coarse pixels that are missing, without making the image."""
    veil = _cloudy(np.zeros((1, *LAB_GRID.shape), np.float32), day, options)
    out: np.ndarray = np.isnan(aggregate(Scene(_displace(veil, options), LAB_GRID, ("veil",), day), RATIO).data[0])
    return out


def _fine(day: date, options: Landscape, noisy: bool) -> Scene:
    data = _lab_year.truth(options.seed, day)
    if noisy and options.noise:
        data = data + _noise(options, day, _NOISE_FINE, data.shape)
    if noisy and options.clouds:
        data = _cloudy(data, day, options)
    return Scene(data, LAB_GRID, row_of("lab", "lab-fine").bands, day)


@lru_cache(maxsize=64)
def _coarse(day: date, options: Landscape) -> Scene:
    """Whole coarse image, so that the point-spread function sees beyond a small area."""
    data = _displace(_cloudy(_lab_year.truth(options.seed, day), day, options), options)
    scene = aggregate(Scene(data, LAB_GRID, row_of("lab", "lab-coarse").bands, day), RATIO)
    seen = np.float32(options.gain) * scene.data + np.float32(options.offset)
    return replace(scene, data=seen + _noise(options, day, _NOISE_COARSE, seen.shape))


def _cloudy(data: np.ndarray, day: date, options: Landscape) -> np.ndarray:
    mask = _lab_year.clouds(options.seed, day, options.clouds)
    return np.where(mask, np.float32(np.nan), data) if mask.any() else data


def _noise(options: Landscape, day: date, stream: int, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng([options.seed, day.toordinal(), stream])
    return rng.standard_normal(shape, np.float32) * np.float32(options.noise)


def _displace(data: np.ndarray, options: Landscape) -> np.ndarray:
    """Move the image; parts of a pixel by linear interpolation, the edge repeated where nothing is known."""
    for axis, metres in ((1, options.shift_north), (2, -options.shift_east)):
        pixels = metres / LAB_GRID.affine.a
        whole, part = math.floor(pixels), np.float32(pixels - math.floor(pixels))
        size = data.shape[axis]
        low, high = (np.clip(np.arange(size) + whole + more, 0, size - 1) for more in (0, 1))
        if part:
            data = data.take(low, axis) * (1 - part) + data.take(high, axis) * part
        elif whole:
            data = data.take(low, axis)
    return data
