"""Google Earth Engine: the great free collections, read straight from the provider in their own pixels.

A search is two or few requests for all images of all days, clouds over the area included. Reading asks for each
image's own pixels in tiles; see :mod:`fusion.sources._granules`. An item's id holds the images of one day.
"""

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from functools import partial, reduce
from itertools import groupby
from typing import Any, TypeVar

import ee
import numpy as np
from odc.geo.geobox import GeoBox

from .. import _cache
from .._product import Product
from .._pulse import report, stop_if_asked
from ..errors import FusionError
from ..products import product as row_of
from ..scene import Scene
from . import Bounds, Dates, Item, _ee_calls, _ee_graphs, _ee_images, _ee_items, _ee_pixels, _ee_sign_in, check_area
from ._ee_items import Options
from ._ee_sign_in import HELP, YOURS, Identity
from ._granules import Granule, mosaic

__all__ = [
    "DESCRIPTION", "HELP", "REMOTE", "TITLE", "Identity", "Options", "identity", "options_in", "read", "search",
    "sign_in", "sign_out",
]  # fmt: skip

TITLE = "Google Earth Engine (account needed)"
DESCRIPTION = (
    "Landsat 8 and 9, Sentinel-2, HLS, MODIS and Sentinel-3 OLCI of the whole world, read from Google Earth Engine. "
    "It needs a Google account and a registered Cloud project; without one, take the source STAC."
)
REMOTE = True

MOST = 2000  # images of one search
DAYS = 50  # days whose clouds one request counts
DEADLINE = 120_000  # milliseconds for one request

_ERRORS: tuple[type[Exception], ...] = (ee.EEException, *_ee_calls.FAULTS)
_FIRST, _LAST = date(1970, 1, 1), date(2999, 12, 31)  # no image is older or younger
_LOCK = threading.RLock()
_who: list[Identity] = []  # empty = nobody; the client's own state is one per process too
Value = TypeVar("Value")


_DEFAULT = Options()


def sign_in(key: Mapping[str, Any] | None = None, project: str | None = None) -> Identity:
    """Sign in to Earth Engine once for this process, and say who asks.

    Parameters
    ----------
    key : mapping, optional
        A service account's JSON key. Without one: ``FUSION_EE_KEY`` (path of a key file), application default
        credentials, then those of ``earthengine authenticate``. Nothing ever opens a browser.
    project : str, optional
        Cloud project; default is the key's, ``FUSION_EE_PROJECT`` or the credentials' own.

    Raises
    ------
    FusionError
        If there is no sign-in or no project, or Earth Engine does not accept them.

    Examples
    --------
    >>> sign_in().project  # doctest: +SKIP
    'my-project'
    """
    with _alone():
        now = identity()
        same = now and (key is None or key.get("client_email") == now.account) and project in (None, now.project)
        if now and same:
            return now
        if key is None and now is None and ee.data.is_initialized():
            _who[:] = [_of_this_program()]
            return _who[0]
        found = _ee_sign_in.find(key, project, _persisted())
        url = _ee_sign_in.server() or None
        sign_out()
        ee.data.setMaxRetries(0)  # the client sleeps between its tries and cannot be stopped; we try again ourselves
        try:
            start = partial(ee.Initialize, found.credentials, url=url, project=found.project)
            for step in (start, partial(ee.data.setDeadline, DEADLINE)):
                _call(partial(_json, step), "signing in", found.project)
        except BaseException:
            sign_out()
            raise
        _who[:] = [Identity(found.kind, found.account, found.project)]
        return _who[0]


def identity() -> Identity | None:
    """Who asks Earth Engine now; None = nobody signed in yet. Asks nobody and never waits."""
    who = tuple(_who)
    return who[0] if who and ee.data.is_initialized() else None


def sign_out() -> None:
    """Forget who asks; the next request signs in anew."""
    with _LOCK:
        _who.clear()
        ee.Reset()


def search(
    product: str, bounds: Bounds | None = None, dates: Dates | None = None, options: Options = _DEFAULT
) -> list[Item]:
    """List the days of a product over an area, in time order.

    Parameters
    ----------
    product : str
        "landsat", "sentinel2", "hls-l30", "hls-s30", "mod09ga", "myd09ga", "mcd43a4" or "olci".
    bounds : tuple of float
        West, south, east, north in degrees.
    dates : (date, date), optional
        First and last day, both included, UTC.
    options : Options
        Written into the items' ids where they matter to the product.

    Returns
    -------
    list of Item
        One a day; `cloud` is the share of the area that is missing or cloudy, counted in the red band on up to
        256 x 256 cells.

    Raises
    ------
    FusionError
        If the product or area is none, the search finds more than 2000 images, or Earth Engine refuses.

    Examples
    --------
    >>> items = search("landsat", (14.9, 46.0, 15.1, 46.1), (date(2020, 7, 1), date(2020, 7, 31)))  # doctest: +SKIP
    >>> items[0].id, items[0].cloud  # doctest: +SKIP
    ('LC08_190028_20200701', 0.12)
    """
    row = row_of("earthengine", product)
    area = check_area(bounds)
    sign_in()
    kept = options.kept(row)
    days = [(day, list(group)) for day, group in groupby(_listed(row, area, dates), key=lambda found: found[0])]
    out: list[Item] = []
    for start in range(0, len(days), DAYS):
        stop_if_asked()
        part = days[start : start + DAYS]
        for (day, found), (share, boxes) in zip(part, _clouds(row, area, [day for day, _ in part], kept), strict=True):
            out.append(
                Item(
                    "earthengine", product, _ee_items.make_id([index for _, _, index in found], kept), day, share, boxes
                )
            )
        report(len(out) / len(days))
    return out


def read(item: Item, geobox: GeoBox, bands: Sequence[str]) -> Scene:
    """Read the images of one day on exactly this grid; what was read before comes from the disk.

    Raises
    ------
    FusionError
        If the item or a band is unknown, or Earth Engine refuses or does not answer.
    """
    row, indices, kept = _ee_items.parse(item)
    if unknown := [band for band in bands if band not in row.bands]:
        raise FusionError(f"{row.title} has no band {', '.join(unknown)}; it has {', '.join(row.bands)}.")
    return mosaic([_granule(row, index) for index in indices], geobox, bands, item.day, kept)


def options_in(item: Item) -> Options:
    """Options that an item's id was made with."""
    kept = _ee_items.parse(item)[2]
    return Options(snow="snow" in kept, quality="quality" in kept)


def _images(row: Product, area: Bounds, dates: Dates | None) -> list[Any]:
    """One collection for each of the provider's, over the area and time."""
    shape = ee.Geometry.Rectangle(list(area), "EPSG:4326", False)
    found = [ee.ImageCollection(name).filterBounds(shape) for name in row.collection]
    if dates is None:
        return found
    first, last = max(dates[0], _FIRST), min(dates[1], _LAST)
    return [one.filterDate(first.isoformat(), (last + timedelta(days=1)).isoformat()) for one in found]


def _listed(row: Product, area: Bounds, dates: Dates | None) -> list[tuple[date, float, str]]:
    """Day, time and name of all images, in time order: one request."""
    names = ("system:time_start", "system:index")
    few = [one.limit(MOST + 1) for one in _images(row, area, dates)]
    answer = _asked(
        lambda: ee.List([[one.aggregate_array(name) for name in names] for one in few]), "the list of images"
    )
    found = [
        (_ee_calls.plain_number(t), str(i)) for times, indices in answer for t, i in zip(times, indices, strict=True)
    ]
    if len(found) > MOST:
        raise FusionError(
            f"A search wants at most {MOST} images of {row.title}, this one finds more: shorten the time or the area."
        )
    return sorted((datetime.fromtimestamp(time / 1000, UTC).date(), time, index) for time, index in found)


def _clouds(
    row: Product, area: Bounds, days: Sequence[date], kept: Sequence[str]
) -> Iterator[tuple[float, Bounds | None]]:
    """Share missing or cloudy and outline of each day: one request, or two halves where that was too much."""
    try:
        answer = _asked(lambda: _cloud_graph(row, area, days, kept), "clouds over the area")
    except FusionError as error:
        if len(days) == 1 or not re.search("timed out|memory limit|too large|capacity", str(error)):
            raise
        half = len(days) // 2
        yield from _clouds(row, area, days[:half], kept)
        yield from _clouds(row, area, days[half:], kept)
        return
    for clear, images in answer:
        boxes = [_ee_images.footprint(_remember(row, info)) for info in images]
        yield 1 - _ee_calls.plain_number(clear), _ee_items.around(boxes)


def _cloud_graph(row: Product, area: Bounds, days: Sequence[date], kept: Sequence[str]) -> Any:
    shape = ee.Geometry.Rectangle(list(area), "EPSG:4326", False)
    west, south, east, north = area
    across, down = _ee_items.cells(row, area)
    cell = [(east - west) / across, 0, west, 0, (south - north) / down, north]
    collection = reduce(lambda one, two: one.merge(two), _images(row, area, None))
    names = [*row.native, *row.quality(row.bands)]

    def of_day(first: Any) -> Any:
        images = collection.filterDate(ee.Date(first), ee.Date(first).advance(1, "day"))
        clear = images.map(partial(_ee_graphs.clear, row=row, kept=kept)).max()
        share = clear.reduceRegion("mean", shape, crs="EPSG:4326", crsTransform=cell, maxPixels=_ee_items.CELLS**2 * 4)
        return ee.List([share.get("clear"), images.map(lambda image: image.select(names)).toList(MOST)])

    return ee.List([day.isoformat() for day in days]).map(of_day)


def _remember(row: Product, info: Any) -> _ee_images.Picture:
    """Keep on disk what reading needs to know of an image."""
    index = str(info["properties"]["system:index"]) if isinstance(info, Mapping) else ""
    index = next(
        name for name in (index, index.partition("_")[2]) if _ee_items.collection(row, name)
    )  # merged ones are "1_..."
    told = _cache.text(_key(row, index), lambda: json.dumps(_needed(info)))
    return _ee_images.picture(_ee_items.asset(row, index), json.loads(told), row.native)


def _picture(row: Product, index: str) -> _ee_images.Picture:
    names = [*row.native, *row.quality(row.bands)]

    def ask() -> str:
        return json.dumps(
            _needed(_asked(lambda: ee.Image(_ee_items.asset(row, index)).select(names), f"the image {index}"))
        )

    return _ee_images.picture(_ee_items.asset(row, index), json.loads(_cache.text(_key(row, index), ask)), row.native)


def _needed(info: Any) -> dict[str, Any]:
    return {"bands": info["bands"], "properties": {"system:time_start": info["properties"]["system:time_start"]}}


def _key(row: Product, index: str) -> str:
    return f"earthengine|{_ee_sign_in.server()}|{_ee_items.asset(row, index)}|{','.join(row.native)}"


def _granule(row: Product, index: str) -> Granule:
    found = _picture(row, index)
    own = _ee_images.own_row(row, found)
    unit = "toa" if _ee_images.is_radiance(row) else "dn"
    return Granule(f"{_key(row, index)}|{unit}", found.geobox, own, partial(_fetch, own, found))


def _fetch(row: Product, found: _ee_images.Picture, tile: GeoBox, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Numbers of a tile, in as many requests as their size wants."""
    sign_in()

    def compute(grid: Mapping[str, Any], types: Sequence[str]) -> bytes:
        graph = _ee_graphs.pixels(ee.Image(found.id), row, found, names, types)
        answer: bytes = ee.data.computePixels({"expression": graph, "fileFormat": "NPY", "grid": grid})
        return answer

    return _ee_pixels.fetch(row, found, tile, names, compute, lambda ask: _call(ask, f"pixels of {found.id}"))


def _asked(graph: Callable[[], Any], what: str) -> Any:
    """Value of an expression, made and sent in another thread."""
    sign_in()

    def ask() -> Any:
        expression = graph()
        return _json(partial(ee.data.computeValue, expression))

    return _call(ask, what)


def _json(ask: Callable[[], Value]) -> Value:
    """Answer of a request; the client takes one that is no JSON for a text and stumbles over it."""
    try:
        return ask()
    except (TypeError, AttributeError, KeyError) as error:
        raise ValueError("the answer is no JSON") from error


def _call(ask: Callable[[], Value], what: str, project: str | None = None) -> Value:
    now = _who[0].project if _who else ""
    return _ee_calls.call(ask, what, project or now, _ERRORS)


@contextmanager
def _alone() -> Iterator[None]:
    """Hold the lock; waiting for another thread's sign-in can be stopped."""
    while not _LOCK.acquire(timeout=_ee_calls.STEP):
        stop_if_asked()
    try:
        yield
    finally:
        _LOCK.release()


def _persisted() -> Mapping[str, Any] | None:
    """What ``earthengine authenticate`` left on this computer."""
    try:
        found: Mapping[str, Any] = ee.oauth.get_credentials_arguments()
    except (OSError, ValueError):
        return None
    return found


def _of_this_program() -> Identity:
    """Who signed in before us, in a notebook for instance; the client tells it nowhere else."""
    state = ee.data._get_state()
    account = getattr(state.credentials, "service_account_email", "") or YOURS
    return Identity("this program", str(account), str(state.cloud_api_user_project))
