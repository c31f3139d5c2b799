"""Own files: a folder or uploads of GeoTIFF, COG, ENVI or NetCDF as a source of fine and coarse images.

``look`` reads headers and a sample of the pixels and proposes what is fine and what coarse on which day;
``Proposal.answer`` answers what only a person can know; ``add`` makes a data set and returns its key, which is the same
for the same files and answers on any machine. Its products are named ``KEY.fine`` and ``KEY.coarse``.

Examples
--------
>>> from fusion.sources import local                                     # doctest: +SKIP
>>> proposal = local.look("my/folder")                                   # doctest: +SKIP
>>> for question in proposal.questions:                                  # doctest: +SKIP
...     print(question.id, question.text, question.why, question.suggestion)
>>> proposal = proposal.answer({"size": 30}).accept()                    # doctest: +SKIP
>>> key = local.add(proposal)                                            # doctest: +SKIP
>>> series = local.series(key)                                           # doctest: +SKIP
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

from odc.geo.geobox import GeoBox

from .._product import Product
from .._pulse import report, stop_if_asked
from ..errors import FusionError
from ..overlay import placed
from ..params import check_params, param
from ..scene import MAX_PIXELS, Scene
from ..stack import Pair
from . import Bounds, Dates, Item, _own_data, _own_pixels, _own_store
from ._local_grid import footprint, window
from ._own_check import Unreached, in_metres, unreached
from ._own_look import HUGE, Header, format_of, header, raster
from ._own_proposal import File, Proposal, Question
from ._own_upload import MEGABYTES, Received, clean_name, paired, receive

__all__ = [
    "DESCRIPTION", "HUGE", "TITLE", "File", "Header", "Options", "Proposal", "Question", "Received", "Unreached",
    "add", "clean_name", "datasets", "describe", "in_metres", "look", "offered", "options_in", "product", "raster",
    "read", "receive", "search", "series", "unreached", "upload_limit",
]  # fmt: skip

TITLE = "Own files"
DESCRIPTION = (
    "Images that you have as GeoTIFF, ENVI or NetCDF. The files are looked at, and you are asked only what they do not "
    "say themselves. Nothing leaves this machine."
)
MAX_FILES = 2000


@dataclass(frozen=True)
class Own:
    """Which data set of own files."""

    dataset: str = param("", doc="Key of the data set, as given when the files were added.")

    def __post_init__(self) -> None:
        check_params(self)


Options = Own
_NONE = Own()


def look(where: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | Sequence[Received]) -> Proposal:
    """Look at a folder, at files, or at what :func:`receive` returned, and propose what they are.

    Reads headers and at most nine small windows of a large file; a small file is looked at whole. Only GeoTIFF, ENVI
    and NetCDF are opened, and symbolic links to folders are not followed.

    Raises
    ------
    FusionError
        If there is no such folder or file, nothing that is an image, or too many files.
    """
    if isinstance(where, str | os.PathLike):
        found = _in_folder(Path(where))
        return _proposal(found, uploaded=False)
    several = list(where)
    uploads = [one for one in several if isinstance(one, Received)]
    if uploads:
        return _proposal([(one.path, one.name) for one in paired(uploads)], uploaded=True)
    paths = [Path(one) for one in several if not isinstance(one, Received)]
    return _proposal([(path, path.name) for path in paths], uploaded=False)


def _in_folder(root: Path) -> list[tuple[Path, str]]:
    if root.is_file():
        return [(root, root.name)]
    if not root.is_dir():
        raise FusionError(f"There is no folder {root}: give the folder that holds the images.")
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(folder) / name
            if not name.startswith(".") and path.is_file():
                found.append((path, path.relative_to(root).as_posix()))
        if len(found) > 10 * MAX_FILES:
            break
    images = [(path, name) for path, name in found if format_of(path) is not None]
    if len(images) > MAX_FILES:
        raise FusionError(f"The folder holds more than {MAX_FILES} images, which is too many: choose a folder within.")
    return images


def _proposal(found: Sequence[tuple[Path, str]], uploaded: bool) -> Proposal:
    heads: list[Header] = []
    aside: list[tuple[str, str]] = []
    for i, (path, name) in enumerate(found):
        stop_if_asked()
        if not path.is_file():
            raise FusionError(f"There is no file {name}: give files that are there.")
        try:
            heads.append(header(path, name))
        except FusionError as error:  # one broken file must not keep the others out
            aside.append((name, str(error)))
        report((i + 1) / len(found))
    if not heads:
        told = f" {aside[0][1]}" if aside else ""
        raise FusionError(f"There is no image here that can be read: give GeoTIFF, ENVI or NetCDF.{told}")
    return Proposal(tuple(heads), tuple(aside), {}, uploaded)


def add(proposal: Proposal) -> str:
    """Make a data set of a complete proposal and return its content key, 24 digits.

    The key is made of the files' bytes and of what was decided: the same files and answers give the same key on any
    machine. A manifest is kept in the store; of a folder only the paths are.

    Raises
    ------
    FusionError
        If questions are open, or the store cannot be written.
    """
    return _own_data.add(proposal)


def upload_limit() -> int:
    """Bytes that an uploaded file may have."""
    return _own_store.room("FUSION_UPLOAD_MB", MEGABYTES)


def datasets() -> tuple[str, ...]:
    """Keys of all data sets kept on this machine, the newest first."""
    return _own_store.keys()


def describe(key: str) -> dict[str, Any]:
    """Return the title, bands, days, ratio, size, notes and answers of a data set.

    Raises
    ------
    FusionError
        If there is none of this key here.
    """
    return _own_data.facts(_own_store.read(key))


def product(name: str) -> Product:
    """Return the product of a data set by its name, ``KEY.fine`` or ``KEY.coarse``.

    Raises
    ------
    FusionError
        If there is no such data set here.
    """
    return _own_data.product(name)


def offered(role: str, options: Own | None = None) -> tuple[Product, ...]:
    """Products of one role of the data set that the options name; none where they name none."""
    key = (options or _NONE).dataset
    return (product(f"{key}.{role}"),) if key and role in _own_data.ROLES else ()


def options_in(item: Item) -> Own:
    """Return the options that make a search find this item."""
    return Own(_own_data.split(item.product)[0])


def search(product: str, bounds: Bounds | None = None, dates: Dates | None = None, options: Own = _NONE) -> list[Item]:
    """List the images of a product, in time order.

    Parameters
    ----------
    product : str
        ``KEY.fine`` or ``KEY.coarse``.
    bounds : tuple of float, optional
        West, south, east, north in degrees; each item's `cloud` is the share missing in there. Files without
        georeference lie at longitude 0, latitude 0, with their metres as metres of Web Mercator.
    dates : (date, date), optional
        First and last day, both included.
    options : Own
        Not needed: the product names the data set.

    Raises
    ------
    FusionError
        If there is no such data set, files of it are gone, or the bounds are none.
    """
    row = _own_data.product(product)
    key, role = _own_data.split(product)
    native = row.geobox
    if native is None:
        raise FusionError(f"The product {product} has no grid: add the files again.")
    there = placed(native)
    roi = window(there, bounds)
    if roi is None:
        return []
    first, last = dates or (date.min, date.max)
    manifest, everything = _own_store.read(key), footprint(there)
    days = [day for day in map(date.fromisoformat, manifest["days"][role]) if first <= day <= last]
    place = (roi[0].start, roi[0].stop, roi[1].start, roi[1].stop)
    return [
        Item("local", product, day.isoformat(), day, _missing(key, role, day, place, _own_data.stamp(key)), everything)
        for day in days
    ]


@lru_cache(maxsize=4096)
def _missing(key: str, role: str, day: date, place: tuple[int, int, int, int], _changed: int) -> float:
    row, manifest = _own_data.product(f"{key}.{role}"), _own_store.read(key)
    if row.geobox is None:
        raise FusionError(f"The data set {key} has no grid: add the files again.")
    image = _own_data.image_of(manifest, role, day)
    return _own_pixels.missing(manifest, image, row.geobox[place[0] : place[1], place[2] : place[3]])


def read(item: Item, geobox: GeoBox, bands: Sequence[str]) -> Scene:
    """Read one image on exactly this grid.

    Fine images give their own pixels. Coarse ones that came on the fine grid give the means of whole coarse pixels, or
    of the same area wherever the grid lies; those on their own nested grid their own pixels; others are brought onto
    the grid once, by cubic convolution, or by means where its pixels are much larger.

    Raises
    ------
    FusionError
        If item or band are unknown, the grid lies elsewhere, or files are gone or have changed.
    """
    key, role = _own_data.split(item.product)
    if item.source != "local" or item.id != item.day.isoformat():
        raise FusionError(f"There is no own image {item.id!r} of {item.product}: take the item from a search.")
    manifest = _own_store.read(key, f"The {role} image of {item.day} comes")
    stop_if_asked()
    return _own_pixels.scene(manifest, _own_data.image_of(manifest, role, item.day), geobox, tuple(bands))


def series(key: str, grid: GeoBox | None = None) -> list[Pair]:
    """Read every day that has both images, for :func:`fusion.holdout` and training.

    Parameters
    ----------
    key : str
        Key of the data set.
    grid : odc.geo.geobox.GeoBox, optional
        Fine grid in whole coarse pixels, a part of the fine product's; default is all of it.

    Raises
    ------
    FusionError
        As of :func:`read`; or if that is more than fits into memory.
    """
    manifest = _own_store.read(key)
    fine, coarse = (_own_data.product(f"{key}.{role}") for role in _own_data.ROLES)
    box, ratio = grid or fine.geobox, manifest["ratio"]
    if box is None or box.shape[0] % ratio or box.shape[1] % ratio:
        raise FusionError(
            f"The series wants a fine grid in whole coarse pixels of ratio {ratio}, got {box}: cut it so."
        )
    days = sorted(set(manifest["days"]["fine"]) & set(manifest["days"]["coarse"]))
    count = len(days) * len(fine.bands) * box.shape[0] * box.shape[1]
    if count > MAX_PIXELS:
        raise FusionError(
            f"The series has {count:,} fine numbers, at most {MAX_PIXELS:,} are read at once: pass a smaller grid, a "
            "part of product(key + '.fine').geobox."
        )
    pairs = []
    for i, text in enumerate(days):
        images = [
            read(Item("local", row.name, text, date.fromisoformat(text)), place, row.bands)
            for row, place in ((coarse, box.zoom_out(ratio)), (fine, box))
        ]
        pairs.append(Pair(*images))
        report((i + 1) / len(days))
    return pairs
