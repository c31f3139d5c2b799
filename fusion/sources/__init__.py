"""Source: where scenes come from. A source is one module in this folder with `search` and `read`."""

import importlib
import pkgutil
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from difflib import get_close_matches
from typing import Any, Protocol, cast

from odc.geo.geobox import GeoBox

from .. import products
from .._product import Product
from ..errors import FusionError
from ..scene import Scene

Bounds = tuple[float, float, float, float]  # west, south, east, north in degrees
Dates = tuple[date, date]  # first and last day, both included

_PLAIN = re.compile(r"[A-Za-z0-9._:/=&,+~-]{1,600}")


@dataclass(frozen=True)
class Item:
    """One acquisition in a catalogue: no pixels, hashable; source, product and id say which one it is.

    Parameters
    ----------
    source, product, id : str
        Registry name of the source, product within it, and the source's own name of the image.
    day : datetime.date
        Day of acquisition.
    cloud : float, optional
        Share of the searched area that is missing or cloudy, 0..1.
    bounds : tuple of float, optional
        West, south, east, north in degrees.
    span : int
        Days for which the image stands, from its own day on; more than 1 for composites.
    """

    source: str
    product: str
    id: str
    day: date
    cloud: float | None = field(default=None, compare=False)
    bounds: Bounds | None = field(default=None, compare=False)
    span: int = field(default=1, compare=False)

    def __post_init__(self) -> None:
        for name in ("source", "product", "id"):
            value = getattr(self, name)
            if not isinstance(value, str) or not _PLAIN.fullmatch(value) or ".." in value:
                raise FusionError(
                    f"An item's {name} wants 1 to 600 letters, digits or ._:/=&,+~-, got {value!r}: "
                    "take the item from a search."
                )


def check_bounds(bounds: Bounds) -> Bounds:
    """Return the bounds of a search, west, south, east and north in degrees, as floats.

    Raises
    ------
    FusionError
        If they are no rectangle on the globe.
    """
    west, south, east, north = (float(side) for side in bounds)
    if not (-180 <= west < east <= 180 and -90 <= south < north <= 90):
        raise FusionError(
            f"A search wants bounds (west, south, east, north) in degrees, got {tuple(bounds)}: "
            "west must be less than east and south less than north, within -180..180 and -90..90. "
            "An area across 180 degrees is searched in two halves."
        )
    return west, south, east, north


def check_area(bounds: Bounds | None) -> Bounds:
    """Return the bounds of a search over the world, which wants some.

    Raises
    ------
    FusionError
        If there are none, or they are no rectangle on the globe.
    """
    if bounds is None:
        raise FusionError("A search of satellite images wants an area: draw one, or give bounds in degrees.")
    return check_bounds(bounds)


class Source(Protocol):
    """What a source module offers.

    ``search(product, bounds, dates)`` lists acquisitions in time order (None = no limit); ``read(item, geobox,
    bands)`` returns the scene on exactly that grid, reflectance float32, clouds and gaps NaN.

    A module may have more: ``Options``, a dataclass of what one may choose, passed to ``search`` as ``options``;
    and then ``options_in(item)``, which reads them back from an item's id; ``REMOTE = True`` where it asks the network;
    ``offered(role, options)`` and ``product(name)`` where its products
    are made at run time instead of standing in :mod:`fusion.products`.
    """

    TITLE: str
    DESCRIPTION: str

    def search(self, product: str, bounds: Bounds | None = None, dates: Dates | None = None) -> list[Item]:
        """List acquisitions."""

    def read(self, item: Item, geobox: GeoBox, bands: Sequence[str]) -> Scene:
        """Read one acquisition."""


def names() -> tuple[str, ...]:
    """Names of all sources, without importing any."""
    return tuple(sorted(item.name for item in pkgutil.iter_modules(__path__) if not item.name.startswith("_")))


def get(name: str) -> Source:
    """Return the source's module.

    Raises
    ------
    FusionError
        If there is no source of this name.
    """
    if name not in names():
        close = get_close_matches(str(name), names(), n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise FusionError(f"There is no source {name!r}; there are {', '.join(names())}.{hint}")
    return cast(Source, importlib.import_module(f"{__name__}.{name}"))


def product(source: str, name: str) -> Product:
    """Return what the numbers of a source's product mean.

    Raises
    ------
    FusionError
        If there is no such source or product.
    """
    find = getattr(get(source), "product", None)
    row: Product = find(name) if find is not None else products.product(source, name)
    return row


def offered(source: str, role: str, options: Any = None) -> tuple[Product, ...]:
    """Return a source's products of one role: "fine", "coarse" or "truth"; `options` are the source's own, or None.

    Raises
    ------
    FusionError
        If there is no such source.
    """
    find = getattr(get(source), "offered", None)
    rows: tuple[Product, ...] = find(role, options) if find is not None else products.of_source(source, role)
    return rows


def is_remote(source: str) -> bool:
    """Whether a source asks the network, so that searching it is a step of its own."""
    return bool(getattr(get(source), "REMOTE", False))


def options_in(item: Item) -> Any:
    """Return the options that an item's id was made with, as its source's own dataclass; None where it has none."""
    find = getattr(get(item.source), "options_in", None)
    return find(item) if find is not None else None
