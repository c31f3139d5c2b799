"""Bundled sample: real Sentinel-2 images of a forest in Romania, and the same seen by a coarser sensor."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from functools import lru_cache

from odc.geo.geobox import GeoBox

from .._assets import asset
from ..errors import FusionError
from ..preprocess import aggregate
from ..products import product as row_of
from ..scene import Scene
from . import Bounds, Dates, Item
from ._local_grid import SHIFT_SLACK, SLACK, cut, footprint, window

TITLE = "Bundled sample: clear-cuts in Romania"
DESCRIPTION = (
    "One square kilometre of forest in the south-west of Romania, seen by Sentinel-2 from 2015 to 2018 with pixels of "
    "10 m. The woods green up in April and turn in October; in between, harvesters leave clear-cuts that are "
    "there on one image and not on the one before. The fine images are real. The coarse ones are simulated from them "
    "with the point-spread function of a sensor with pixels of 100 m."
)

FIRST_TARGET = date(2018, 5, 2)  # spring: much changes within the days around it
RATIO = 10


def search(product: str, bounds: Bounds | None = None, dates: Dates | None = None) -> list[Item]:
    """List the images of a product, in time order.

    Parameters
    ----------
    product : str
        "sentinel2" or "sentinel2-100m".
    bounds : tuple of float, optional
        West, south, east, north in degrees; each item's `cloud` is the share missing in there.
    dates : (date, date), optional
        First and last day, both included.

    Raises
    ------
    FusionError
        If the product is unknown or the bounds are none.
    """
    native = _grid(product)
    roi = window(native, bounds)
    if roi is None:
        return []
    first, last = dates or (date.min, date.max)
    everything = footprint(native)
    return [
        Item("sample", product, day.isoformat(), day, 1 - _image(product, day)[roi].valid, everything)
        for day in days()
        if first <= day <= last
    ]


def read(item: Item, geobox: GeoBox, bands: Sequence[str]) -> Scene:
    """Read one image on exactly this grid.

    Raises
    ------
    FusionError
        If the item or a band is unknown, or the grid reaches beyond the sample.
    """
    _grid(item.product)
    if item.source != "sample" or item.day not in days() or item.id != item.day.isoformat():
        raise FusionError(
            f"The sample has no image {item.id!r} of {item.product}; its days are {', '.join(map(str, days()))}."
        )
    slack = SHIFT_SLACK if row_of("sample", item.product).role == "coarse" else SLACK
    return cut(_image(item.product, item.day), geobox, slack).select(bands)  # copies, because the image is kept


@lru_cache(maxsize=1)
def days() -> tuple[date, ...]:
    """Days of the series, in time order."""
    return tuple(sorted(date.fromisoformat(path.stem[3:]) for path in asset("sample").glob("S2_*.tif")))


def _grid(name: str) -> GeoBox:
    native = row_of("sample", name).geobox
    if native is None:
        raise ValueError(f"The sample's product {name!r} has no grid: add it to fusion/products.py.")
    return native


@lru_cache(maxsize=64)
def _image(name: str, day: date) -> Scene:
    """Whole image of a day: the coarse one must see beyond a small area. 160 kB each; read only."""
    row = row_of("sample", name)
    if row.role == "coarse":
        return aggregate(_image("sentinel2", day), RATIO)
    scene = Scene.read(asset(f"sample/S2_{day}.tif"), bands=row.bands, day=day, scale=row.scale, offset=row.offset)
    scene.data.setflags(write=False)
    return replace(scene, geobox=_grid(name))
