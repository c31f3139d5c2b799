"""Read granules: native pixels in tiles, each from the disk cache or the provider, cleaned, and warped once.

A provider gives raw numbers on a tile of an image's own grid and nothing else. Tiles are kept on disk, so that a
reading that broke off goes on where it stopped and a second one asks nothing of the network.
"""

import contextvars
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import date

import numpy as np
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from .. import _cache
from .._product import Product
from .._pulse import report, stop_if_asked
from ..errors import FusionError
from ..preprocess import clean, unit_mistake
from ..scene import ROI, Scene
from ._regrid import fill, in_crs, own_pixels

TILE = 1024  # native pixels a side: of six bands and two quality bands of 16 bits, 16 MB
SNAP = 32  # native pixels; windows end on this lattice, so that a grid shifted a little reads the same window
END = 180 - 1e-9  # degrees; the last longitude that every projection of the world takes for its own
MARGIN = 4  # native pixels around the grid asked for: the kernel's reach and an alignment's shift
AT_ONCE = 8  # tiles of one image under way or waiting to be cleaned

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
    wanted = [(granule, roi) for granule in granules for roi in native_windows(granule.geobox, geobox)]
    for number, (granule, roi) in enumerate(wanted):
        _add(out, granule, roi, keep, (number, len(wanted)))
        if all(np.isfinite(band).all() for band in out.data):
            break
    if mistake := unit_mistake(out.data, known=True):
        raise FusionError(
            f"The image of {day} wants reflectance on the scale of 0 to 1, but {mistake}. "
            "Choose another collection or day, and tell us of it."
        )
    return out


def native_windows(native: GeoBox, geobox: GeoBox) -> tuple[ROI, ...]:
    """Rows and columns of an image that a grid needs, on the lattice of ``SNAP``; none where they do not meet.

    There are two windows where a grid lies across the 180th meridian and the image's projection ends there, as the
    sinusoidal one of MODIS does: one at either end of the world, in place of all between.
    """
    edge = _outline(geobox)
    direct = _windows(native, [in_crs(edge, geobox, native)])
    halves = _halves(edge, geobox, native)
    return direct if halves is None else min(direct, _windows(native, halves), key=_pixels)


def _windows(native: GeoBox, outlines: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[ROI, ...]:
    """Windows of an image around outlines in its CRS, as far as they meet it."""
    found = (_window(native, xs, ys) for xs, ys in outlines)
    return tuple(roi for roi in found if roi is not None)


def _window(native: GeoBox, xs: np.ndarray, ys: np.ndarray) -> ROI | None:
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


def _halves(
    edge: tuple[np.ndarray, np.ndarray], geobox: GeoBox, native: GeoBox
) -> list[tuple[np.ndarray, np.ndarray]] | None:
    """Outlines, in an image's CRS, of a grid's parts on either side of the 180th meridian; None where it has one."""
    if geobox.crs is None or native.crs is None or geobox.crs == native.crs:
        return None
    globe = CRS("EPSG:4326")
    longitude, latitude = (np.asarray(axis) for axis in geobox.crs.transformer_to_crs(globe)(*edge))
    if not np.isfinite(longitude).all():
        return None
    east = longitude % 360  # of a grid about the 180th meridian this has no jump
    if np.ptp(longitude) <= 180 or np.ptp(east) > 180:
        return None
    onto = globe.transformer_to_crs(native.crs)
    parts = (np.minimum(east, END), np.maximum(east - 360, -END))
    return [(np.asarray(x), np.asarray(y)) for x, y in (onto(part, latitude) for part in parts)]


def _pixels(windows: Sequence[ROI]) -> int:
    return sum((rows.stop - rows.start) * (columns.stop - columns.start) for rows, columns in windows)


def _add(out: Scene, granule: Granule, roi: ROI, keep: Collection[str], turn: tuple[int, int]) -> None:
    """Fill what is missing in a scene from one image's window; where pixels are the same, tile by tile."""
    window = granule.geobox[roi]
    pieces = _cleaned(granule, window, out, keep, turn)
    if own_pixels(window, out.geobox, inside=False) is not None:
        for _, piece in pieces:
            fill(out.data, out.geobox, piece)
        return
    whole = np.full((len(out.bands), *window.shape), np.nan, np.float32)
    for place, piece in pieces:
        whole[(slice(None), *place)] = piece.data
    fill(out.data, out.geobox, Scene(whole, window, out.bands, out.day))


def _cleaned(
    granule: Granule, window: GeoBox, out: Scene, keep: Collection[str], turn: tuple[int, int]
) -> Iterator[tuple[ROI, Scene]]:
    """One image's own pixels in a window: tiles as they come, with the bands and day of `out`."""
    row = granule.row
    native = row.named(out.bands)
    tiles = list(_tiles(window))
    for done, (place, raw) in enumerate(_fetched(granule, window, tiles, (*native, *row.quality(out.bands))), 1):
        numbers = np.stack([raw[name] for name in native])
        yield place, Scene(clean(numbers, raw, row, bands=out.bands, keep=keep), window[place], out.bands, out.day)
        report((turn[0] + done / len(tiles)) / turn[1])


def _fetched(
    granule: Granule, window: GeoBox, tiles: Sequence[ROI], names: tuple[str, ...]
) -> Iterator[tuple[ROI, Raw]]:
    """Raw numbers of each tile, as they come, several under way at once; what is done stays on disk if one fails."""

    def get(place: ROI) -> Raw:
        stop_if_asked()
        box = window[place]
        key = f"{granule.key}|{box.crs}|{tuple(box.affine)[:6]}|{tuple(box.shape)}|{','.join(names)}"
        return _cache.arrays(key, lambda: granule.fetch(box, names))

    waiting, running = list(reversed(tiles)), dict[Future[Raw], ROI]()
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="fusion-read") as pool:
        try:
            while waiting or running:
                while waiting and len(running) < AT_ONCE:
                    place = waiting.pop()
                    running[pool.submit(contextvars.copy_context().run, get, place)] = place
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
        finally:
            for future in running:
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
