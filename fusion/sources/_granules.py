"""Read granules: native pixels in tiles, each from the disk cache or the provider, cleaned, and warped once.

A provider gives raw numbers on a tile of an image's own grid and nothing else. Tiles are kept on disk, so that a
reading that broke off goes on where it stopped and a second one asks nothing of the network.
"""

import contextvars
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
from odc.geo.geobox import GeoBox

from .. import _cache
from .._product import Product
from .._pulse import report, stop_if_asked
from ..errors import FusionError
from ..preprocess import clean, unit_mistake
from ..scene import ROI, Scene
from ._regrid import in_crs, regrid

TILE = 1024  # native pixels a side: of six bands and two quality bands of 16 bits, 16 MB
SNAP = 32  # native pixels; windows end on this lattice, so that a grid shifted a little reads the same window
MARGIN = 4  # native pixels around the grid asked for: the kernel's reach and an alignment's shift
AT_ONCE = 8  # tiles of one image under way

Raw = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Granule:
    """One image of a provider on its own grid.

    Parameters
    ----------
    key : str
        What names its pixels for good: source, catalogue, collection, id. Nothing secret.
    geobox : odc.geo.geobox.GeoBox
        Own grid of the whole image.
    row : Product
        Its collection, with the image's own scale and offset where they differ from image to image.
    fetch : callable
        ``fetch(tile, names)`` returns the raw numbers ``(y, x)`` of bands and quality bands, by their own names, on a
        tile of `geobox`; at most ``TILE`` pixels a side.
    """

    key: str
    geobox: GeoBox
    row: Product
    fetch: Callable[[GeoBox, Sequence[str]], Raw]


def mosaic(
    granules: Sequence[Granule], geobox: GeoBox, bands: Sequence[str], day: date, keep: Collection[str] = ()
) -> Scene:
    """Read the images of one day onto a grid; where several have a pixel, the first one counts.

    Parameters
    ----------
    granules : sequence of Granule
        Images that together cover the grid, or parts of it.
    geobox : odc.geo.geobox.GeoBox
        Grid wanted; pixels that no image has are NaN.
    bands : sequence of str
        Common names.
    day : datetime.date
        Day of the images.
    keep : collection of str
        Kinds of pixels that stay though a rule would take them out, such as ``("snow",)``.

    Raises
    ------
    FusionError
        If a provider does not deliver, or the numbers cannot be reflectance.
    """
    if geobox.crs is None:
        raise FusionError("A grid without a CRS cannot be read from satellites: give it one, such as EPSG:32633.")
    out = Scene(np.full((len(bands), *geobox.shape), np.nan, np.float32), geobox, tuple(bands), day)
    wanted = [(granule, roi) for granule in granules if (roi := native_window(granule.geobox, geobox)) is not None]
    for number, (granule, roi) in enumerate(wanted):
        part = regrid(_native(granule, roi, tuple(bands), day, keep, (number, len(wanted))), geobox)
        holes = np.isnan(out.data)
        out = replace(out, data=np.where(holes, part.data, out.data))
        if np.isfinite(out.data).all():
            break
    if mistake := unit_mistake(out.data):
        raise FusionError(
            f"The image of {day} wants reflectance on the scale of 0 to 1, but {mistake}. "
            "Choose another collection or day, and tell us of it."
        )
    return out


def native_window(native: GeoBox, geobox: GeoBox) -> ROI | None:
    """Rows and columns of an image that a grid needs, on the lattice of ``SNAP``; None where they do not meet."""
    edge = _outline(geobox)
    xs, ys = in_crs(edge, geobox, native)
    if not (np.isfinite(xs).all() and np.isfinite(ys).all()):
        return None
    inverse = ~native.affine
    columns, rows = inverse.a * xs + inverse.b * ys + inverse.c, inverse.d * xs + inverse.e * ys + inverse.f
    sides = []
    for values, size in ((rows, native.shape[0]), (columns, native.shape[1])):
        if values.max() <= 0 or values.min() >= size:
            return None
        start = math.floor((values.min() - MARGIN) / SNAP) * SNAP
        stop = math.ceil((values.max() + MARGIN) / SNAP) * SNAP
        sides.append(slice(max(start, 0), min(stop, size)))
    return sides[0], sides[1]


def _native(
    granule: Granule, roi: ROI, bands: tuple[str, ...], day: date, keep: Collection[str], turn: tuple[int, int]
) -> Scene:
    """One image's own pixels in a window, cleaned tile by tile."""
    row, window = granule.row, granule.geobox[roi]
    native = row.named(bands)
    names = (*native, *row.quality(bands))
    out = np.full((len(bands), *window.shape), np.nan, np.float32)
    tiles = list(_tiles(window))
    for done, (place, raw) in enumerate(_fetched(granule, window, tiles, names), 1):
        numbers = np.stack([raw[name] for name in native])
        out[(slice(None), *place)] = clean(numbers, raw, row, bands=bands, keep=keep)
        report((turn[0] + done / len(tiles)) / turn[1])
    return Scene(out, window, bands, day)


def _fetched(
    granule: Granule, window: GeoBox, tiles: Sequence[ROI], names: tuple[str, ...]
) -> Iterator[tuple[ROI, Raw]]:
    """Raw numbers of each tile, several under way at once; what is done stays on disk if another one fails."""

    def get(place: ROI) -> Raw:
        stop_if_asked()
        box = window[place]
        key = f"{granule.key}|{box.crs}|{tuple(box.affine)[:6]}|{tuple(box.shape)}|{','.join(names)}"
        return _cache.arrays(key, lambda: granule.fetch(box, names))

    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="fusion-read") as pool:
        futures = [pool.submit(contextvars.copy_context().run, get, place) for place in tiles]
        try:
            for place, future in zip(tiles, futures, strict=True):
                yield place, future.result()
        finally:
            for future in futures:
                future.cancel()


def _tiles(window: GeoBox) -> Iterator[ROI]:
    height, width = window.shape
    for y in range(0, height, TILE):
        for x in range(0, width, TILE):
            yield slice(y, min(y + TILE, height)), slice(x, min(x + TILE, width))


def _outline(geobox: GeoBox, steps: int = 21) -> tuple[np.ndarray, np.ndarray]:
    """Points x, y along the four edges, so that a bent edge in another projection is seen."""
    height, width = geobox.shape
    along = np.linspace(0, 1, steps)
    x = np.concatenate([along, along, np.zeros(steps), np.ones(steps)]) * width
    y = np.concatenate([np.zeros(steps), np.ones(steps), along, along]) * height
    a = geobox.affine
    return a.a * x + a.b * y + a.c, a.d * x + a.e * y + a.f
