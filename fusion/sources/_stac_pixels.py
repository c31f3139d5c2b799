"""Pixels of files on the web: at the places of an area, or on a tile; and how their bytes are asked for."""

import math
import threading
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from ..errors import FusionError
from . import _stac_web
from ._stac_tiff import Tiff

KEPT = 256  # tables of files in memory


def sampled(tiff: Tiff, xs: np.ndarray, ys: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Numbers at some places from the overview that has about one pixel a `step`, and where the file has any.

    Parameters
    ----------
    tiff : Tiff
    xs, ys : numpy.ndarray
        Coordinates in the file's CRS, any shape.
    step : float
        Distance between the places in the file's pixels.
    """
    grid = tiff.geobox
    columns, rows = _pixels(grid.affine, xs, ys)
    inside = (columns >= 0) & (columns < grid.shape[1]) & (rows >= 0) & (rows < grid.shape[0])
    numbers = np.zeros(xs.shape, np.int64)
    if inside.any():
        level = tiff.level(step)
        y = np.minimum((rows[inside] * (level.height / grid.shape[0])).astype(int), level.height - 1)
        x = np.minimum((columns[inside] * (level.width / grid.shape[1])).astype(int), level.width - 1)
        window = tiff.read(level, slice(int(y.min()), int(y.max()) + 1), slice(int(x.min()), int(x.max()) + 1))
        numbers[inside] = window[y - y.min(), x - x.min()]
    return numbers, inside


def on_grid(tiff: Tiff, tile: GeoBox) -> np.ndarray:
    """Numbers ``(y, x)`` on a tile: the file's own pixels, each repeated where the tile's are smaller.

    Raises
    ------
    FusionError
        If the tile is turned against the file, or reaches beyond it.
    """
    grid = tiff.geobox
    height, width = tile.shape
    a, b = tile.affine, grid.affine
    xs, ys = a.c + a.a * (np.arange(width) + 0.5), a.f + a.e * (np.arange(height) + 0.5)
    with np.errstate(all="ignore"):  # numbers of a damaged file; they fail the test that follows
        places = [np.floor((xs - b.c) / b.a + 1e-6), np.floor((ys - b.f) / b.e + 1e-6)]
    codes = [box.crs.to_epsg() for box in (tile, grid) if box.crs is not None]
    straight = len({code for code in codes if code}) < 2 and not (a.b or a.d or b.b or b.d)
    inside = all((0 <= at).all() and (at < size).all() for at, size in zip(places, grid.shape[::-1], strict=True))
    if not straight or not inside or not math.isclose(a.a / a.e, b.a / b.e, rel_tol=1e-6):
        raise FusionError(f"{tiff.name} lies elsewhere than its catalogue says: take another image or catalogue.")
    columns, rows = (at.astype(int) for at in places)
    top, left = int(rows.min()), int(columns.min())
    window = tiff.read(tiff.levels[0], slice(top, int(rows.max()) + 1), slice(left, int(columns.max()) + 1))
    out: np.ndarray = window[np.ix_(rows - top, columns - left)]
    return out


def _pixels(affine: Affine, xs: np.ndarray, ys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    back = ~affine
    return back.a * xs + back.b * ys + back.c, back.d * xs + back.e * ys + back.f


class Shelf:
    """Tables of files that were read lately, so that the next tile of a file needs no new look at its head."""

    def __init__(self, room: int = KEPT) -> None:
        self._room, self._lock = room, threading.Lock()
        self._tables: OrderedDict[str, Tiff] = OrderedDict()

    def get(self, key: str, make: Callable[[], Tiff]) -> Tiff:
        """Return the table of a key, or make it; two threads may both make it, which costs one request."""
        with self._lock:
            if key in self._tables:
                self._tables.move_to_end(key)
                return self._tables[key]
        made = make()
        with self._lock:
            self._tables[key] = made
            while len(self._tables) > self._room:
                self._tables.popitem(last=False)
        return made

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._tables.clear()


def parts_of(sign: Callable[[str], str]) -> Callable[[int, int], tuple[bytes, int]]:
    """Return ``ask(first, last)`` for :class:`Tiff`.

    ``sign(refused)`` gives the address; if it was refused (401, 403) it is asked for once more, with what was refused.
    """
    whole: list[bytes] = []

    def ask(first: int, last: int) -> tuple[bytes, int]:
        if whole:
            return whole[0][first : last + 1], len(whole[0])
        part = {"Range": f"bytes={first}-{last}", "Accept-Encoding": "identity"}
        url = sign("")
        try:
            answer = _stac_web.ask(url, headers=part, limit=last - first + 1)
        except _stac_web.Refused:
            again = sign(url)
            if again == url:
                raise
            url = again
            answer = _stac_web.ask(url, headers=part, limit=last - first + 1)
        if answer.status == 200:  # the whole file, which is small: `web` refuses others
            whole.append(answer.data)
            return ask(first, last)
        return answer.data, _size(answer, first, url)

    return ask


def _size(answer: _stac_web.Answer, first: int, url: str) -> int:
    """Bytes of the whole file, from ``Content-Range: bytes first-last/size``."""
    span, _, size = answer.headers.get("content-range", "").removeprefix("bytes ").partition("/")
    if not size.isdecimal() or span != f"{first}-{first + len(answer.data) - 1}":
        raise FusionError(
            f"{_stac_web.shown(url)} gave another part of the file than was asked for: its server is at fault."
        )
    return int(size)
