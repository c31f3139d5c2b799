"""STAC: catalogues of satellite images that anybody may ask, without an account.

A search asks the catalogue with pystac-client and looks at the quality band of every image found, so that `cloud` is
the share of the drawn area, not of the image. Reading takes only the blocks of the files that the grid touches.

odc-stac is not used: it reads through GDAL's own HTTP client, where neither redirects nor the addresses behind names
can be judged, and that is what lets a catalogue make this machine ask its neighbours (see `_stac_tiff`).
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Literal
from urllib.parse import urlencode

import numpy as np
import pystac_client
from odc.geo.geobox import GeoBox
from pystac.errors import STACError
from pystac_client.errors import ClientTypeError
from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO

from .._product import Product
from .._pulse import report
from ..errors import FusionError
from ..params import check_params, param
from ..products import of_source
from ..products import product as row_of
from ..scene import Scene
from . import Bounds, Dates, Item, _stac_catalogues, _stac_items, _stac_web, check_area
from ._granules import mosaic
from ._stac_granules import Place, granule, seen

TITLE = "Satellite images (STAC)"
DESCRIPTION = (
    "Landsat, Sentinel-2, HLS and MODIS from public catalogues, without an account: the Planetary Computer and Earth "
    "Search. Only the part of each image that is needed is read. A search also looks at clouds over the chosen area."
)
REMOTE = True

MOST = 2000  # images of one search
PAGE = 100  # images of one answer
_GIVE_UP = 8  # quality bands that cannot be read, one after the other, before no more are asked for
_NO_STAC = (APIError, ClientTypeError, STACError, NotImplementedError)
_ID = re.compile(r"(?P<catalogue>.+?)::(?P<names>[A-Za-z0-9._:=&+~-]+(?:,[A-Za-z0-9._:=&+~-]+)*)(?P<snow>/snow=keep)?")
_NAME = re.compile(r"[A-Za-z0-9._:=&+~-]+")


@dataclass(frozen=True)
class Options:
    """Which catalogue is asked, and whether snow counts as ground."""

    catalogue: str = param(
        "planetary",
        doc="Catalogue asked first: planetary, earthsearch or one of the server's own; a product that it has not got "
        "comes from the first one that has it. The id of every image found begins with the catalogue it is from.",
    )
    snow: bool = param(False, doc="Keep pixels with snow; else they are missing, like clouds.")

    def __post_init__(self) -> None:
        check_params(self)
        _stac_catalogues.find(self.catalogue)


_DEFAULT = Options()


def catalogues(product: str | None = None) -> tuple[str, ...]:
    """Names of the catalogues that can be asked; of those that have a product, if one is given."""
    return _stac_catalogues.names(product)


def offered(role: Literal["fine", "coarse", "truth"], options: Options | None = None) -> tuple[Product, ...]:
    """Products of a role; what the chosen catalogue has not got comes from the first one that has it."""
    _stac_catalogues.find((options or _DEFAULT).catalogue)
    return of_source("stac", role)


def options_in(item: Item) -> Options:
    """Return the options that an item was searched with.

    Raises
    ------
    FusionError
        If the item is none of a search, or its catalogue is not known here.
    """
    parts = _parsed(item)
    return Options(parts["catalogue"], snow=parts["snow"] is not None)


def search(
    product: str, bounds: Bounds | None = None, dates: Dates | None = None, options: Options = _DEFAULT
) -> list[Item]:
    """List the days on which a product has images, in time order.

    Parameters
    ----------
    product : str
        Such as "landsat", "sentinel2" or "mcd43a4".
    bounds : tuple of float
        West, south, east, north in degrees; wanted here. `cloud` of an item is the share of this area that is missing
        or cloudy, or None where it could not be told.
    dates : (date, date)
        First and last day, both included; wanted here.
    options : Options
        Catalogue, and what becomes of snow.

    Raises
    ------
    FusionError
        If the catalogue cannot be asked, or has more than 2000 images.
    Cancelled
        If the search is stopped.

    Examples
    --------
    >>> from datetime import date, timedelta
    >>> days = date(2020, 6, 1), date(2020, 8, 31)
    >>> search("landsat", (14.2, 46.1, 14.4, 46.3), days)  # doctest: +SKIP
    [Item(source='stac', product='landsat', id='planetary::LC08_L2SP_190028_20200701_...', ...), ...]
    """
    place, area, asked = _place(product, _holder(product, options.catalogue)), check_area(bounds), _span(dates)
    span = (asked[0] - timedelta(days=place.row.span - 1) if place.row.span > 1 else asked[0], asked[1])
    found = _stac_web.together(lambda _: _asked(place, area, span), [None])[0]
    kept = _stac_items.newest(item for item in found if _stac_items.wanted(item, place.row.name))
    report(0.1)
    days: dict[date, list[dict[str, Any]]] = {}
    for item in kept:
        day = _stac_items.day_of(item)
        if day is not None and span[0] <= day <= span[1]:
            days.setdefault(day, []).append(place.keep(item))
    listed = [(day, sorted(items, key=lambda item: str(item["id"]))) for day, items in sorted(days.items())]
    clouds = _clouds(place, [items for _, items in listed], area, _keep(options))
    return [
        Item("stac", product, _id(place.catalogue.name, options, items), day, cloud, _around(items), place.row.span)
        for (day, items), cloud in zip(listed, clouds, strict=True)
    ]


def read(item: Item, geobox: GeoBox, bands: Sequence[str]) -> Scene:
    """Read the images of one day onto exactly this grid.

    Raises
    ------
    FusionError
        If the item is none of a search, or its pixels cannot be read.
    Cancelled
        If the reading is stopped.
    """
    parts, options = _parsed(item), options_in(item)
    place = _place(item.product, parts["catalogue"])
    if unknown := [band for band in bands if band not in place.row.bands]:
        raise FusionError(f"{place.row.title} has no band {', '.join(unknown)}; it has {', '.join(place.row.bands)}.")
    names = parts["names"].split(",")
    for name in names:
        first = _stac_items.day_of(place.item(name))
        if first is None or not 0 <= (item.day - first).days < place.row.span:
            raise FusionError(f"The image {name} is not of {item.day}: take the item from a search.")
    return mosaic([granule(place, name, bands) for name in names], geobox, bands, item.day, _keep(options))


class _Io(StacApiIO):
    """pystac-client's way to the network, replaced by ours: guarded, bounded, patient; and never to local files."""

    def read_text(self, source: Any, *args: Any, **kwargs: Any) -> str:
        if isinstance(source, str):
            return self.request(source, *args, **kwargs)
        return super().read_text(source, *args, **kwargs)

    def request(
        self,
        href: str,
        method: str | None = None,
        headers: Mapping[str, str] | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> str:
        body, kind = None, {"Accept": "application/geo+json, application/json"}
        if (method or "GET").upper() == "POST":
            body, kind["Content-Type"] = json.dumps(parameters or {}).encode(), "application/json"
        elif parameters:
            href += ("&" if "?" in href else "?") + urlencode(parameters, doseq=True)
        answer = _stac_web.ask(href, "POST" if body is not None else "GET", body=body, headers=kind)
        return answer.data.decode()


def _asked(place: Place, bounds: Bounds, dates: Dates) -> list[dict[str, Any]]:
    """Items of a collection as the catalogue gives them, page by page."""
    title = place.catalogue.title
    try:
        client = pystac_client.Client.open(place.catalogue.url, stac_io=_Io(max_retries=None))
        ways = {link.extra_fields.get("method") or "GET" for link in client.links if link.rel == "search"}
        answer = client.search(
            method="POST" if "POST" in ways or not ways else "GET",
            collections=[place.held.collection],
            bbox=list(bounds),
            datetime=f"{dates[0]}T00:00:00Z/{dates[1]}T23:59:59Z",
            limit=PAGE,
            max_items=MOST + 1,
        )
        found = []
        for number, page in enumerate(answer.pages_as_dicts(), 1):
            found += page["features"]
            report(min(0.1 * number * PAGE / MOST, 0.1))
        usable = [item for item in found if isinstance(item, dict) and _NAME.fullmatch(str(item["id"]))]
    except FusionError:
        raise
    except (*_NO_STAC, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FusionError(
            f"{title} does not answer as a STAC catalogue does ({type(error).__name__}): check its address, or try "
            "later."
        ) from error
    if len(found) > MOST:
        raise FusionError(f"{title} has more than {MOST} images of {place.row.title} in this time: shorten it.")
    if len(usable) < len(found):
        raise FusionError(f"{title} names its images with signs that no item can hold: take another catalogue.")
    return list({item["id"]: item for item in usable}.values())


def _clouds(
    place: Place, days: Sequence[Sequence[Mapping[str, Any]]], bounds: Bounds, keep: tuple[str, ...]
) -> list[float | None]:
    """Share of the area that each day misses; None where a quality band cannot be read."""
    tried = {"good": 0, "bad": 0}

    def look(item: Mapping[str, Any]) -> np.ndarray | None:
        if tried["bad"] >= _GIVE_UP and not tried["good"]:
            return None
        try:
            out = seen(place, item, bounds, keep)
        except FusionError:  # reading the image later will say what is wrong
            tried["bad"] += 1
            return None
        tried["good"] += 1
        return out

    items = [item for day in days for item in day]
    views = iter(_stac_web.together(look, items, lambda done: report(0.1 + 0.9 * done)))
    out: list[float | None] = []
    for day in days:
        known = [next(views) for _ in day]
        clear = [view for view in known if view is not None]
        out.append(1 - float(np.any(clear, axis=0).mean()) if len(clear) == len(known) else None)
    return out


def _place(product: str, catalogue: str) -> Place:
    row, found = row_of("stac", product), _stac_catalogues.find(catalogue)
    return Place(found, _stac_catalogues.holding(found, product, row.collection[0]), row)


def _holder(product: str, catalogue: str) -> str:
    """The catalogue asked for, or the first one that has the product: fine and coarse may come from two."""
    holds = _stac_catalogues.find(catalogue).holds
    return catalogue if holds is None or product in holds else next(iter(_stac_catalogues.names(product)), catalogue)


def _id(catalogue: str, options: Options, items: Sequence[Mapping[str, Any]]) -> str:
    names = ",".join(str(item["id"]) for item in items)
    out = f"{catalogue}::{names}" + ("/snow=keep" if options.snow else "")
    if len(out) > 600:
        raise FusionError(
            f"The area lies on {len(items)} images a day, more than a recipe can name: draw a smaller one."
        )
    return out


def _keep(options: Options) -> tuple[str, ...]:
    return ("snow",) if options.snow else ()


def _parsed(item: Item) -> re.Match[str]:
    parts = _ID.fullmatch(item.id)
    if item.source != "stac" or parts is None:
        raise FusionError(f"STAC has no image {item.id!r} of {item.product}: take the item from a search.")
    return parts


def _span(dates: Dates | None) -> Dates:
    if dates is None or dates[0] > dates[1]:
        raise FusionError(
            f"A search of satellite images wants a first and a last day, got {dates}: give both, in order."
        )
    return dates


def _around(items: Sequence[Mapping[str, Any]]) -> Bounds | None:
    """Bounds of all images of a day, in degrees; boxes may have heights."""
    boxes = [item["bbox"] for item in items if isinstance(item.get("bbox"), list) and len(item["bbox"]) in (4, 6)]
    if not boxes:
        return None
    flat = np.array([[*box[:2], *box[len(box) // 2 :][:2]] for box in boxes], float)
    low, high = flat.min(0), flat.max(0)
    return float(low[0]), float(low[1]), float(high[2]), float(high[3])
