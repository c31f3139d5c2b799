"""Items of Earth Engine: ids, options, the area of a search, and which collection an image is in."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .._product import Product
from ..errors import FusionError
from ..params import check_params, param
from ..products import product as row_of
from . import Bounds, Item

MOST_ID = 600  # characters
CELLS = 256  # a side: on so many cells the clouds over the area are counted
_ID = re.compile(r"([A-Za-z0-9_.-]+(?:,[A-Za-z0-9_.-]+)*)(?:/([a-z]+=keep(?:,[a-z]+=keep)*))?")


@dataclass(frozen=True)
class Options:
    """What counts as missing."""

    snow: bool = param(False, doc="Keep pixels that the collection calls snow.")
    quality: bool = param(False, doc="MCD43A4: keep pixels of lower quality (magnitude inversions), too.")

    def __post_init__(self) -> None:
        check_params(self)

    def kept(self, row: Product) -> tuple[str, ...]:
        """Kinds of rules of a product that are left out."""
        kinds = {rule.what for rule in row.rules}
        return tuple(what for what in ("snow", "quality") if getattr(self, what) and what in kinds)


def parse(item: Item) -> tuple[Product, tuple[str, ...], tuple[str, ...]]:
    """Product, images' names and what is kept; the id must be the very text that a search writes."""
    row = row_of("earthengine", item.product)
    match = _ID.fullmatch(item.id)
    indices = tuple(match[1].split(",")) if match else ()
    kept = tuple(text.removesuffix("=keep") for text in (match[2] or "").split(",") if text) if match else ()
    options = Options(snow="snow" in kept, quality="quality" in kept)
    if item.source != "earthengine" or not indices or options.kept(row) != kept:
        raise FusionError(f"Earth Engine has no image {item.id[:80]!r} of {item.product}: take the item from a search.")
    return row, indices, kept


def make_id(indices: Sequence[str], kept: Sequence[str]) -> str:
    text = ",".join(indices) + ("/" + ",".join(f"{what}=keep" for what in kept) if kept else "")
    if len(text) > MOST_ID:
        raise FusionError(
            f"An area wants so few images a day that their names fit {MOST_ID} letters, got {len(indices)}: "
            "choose a smaller area."
        )
    return text


def cells(row: Product, area: Bounds) -> tuple[int, int]:
    """Cells across and down, no smaller than the collection's pixels."""
    west, south, east, north = area
    metres = 111_320 * np.cos(np.radians((south + north) / 2)), 111_320.0
    sides = ((east - west) * metres[0], (north - south) * metres[1])
    across, down = (int(np.clip(np.ceil(side / row.resolution), 1, CELLS)) for side in sides)
    return across, down


def collection(row: Product, index: str) -> str | None:
    """Collection of an image; of several, the one whose name has the image's first part (LC08) in it."""
    if len(row.collection) == 1:
        return row.collection[0]
    return next((name for name in row.collection if index.partition("_")[0] in name.split("/")), None)


def asset(row: Product, index: str) -> str:
    found = collection(row, index)
    if found is None:
        raise FusionError(f"{row.title} has no image {index[:80]!r}: take the item from a search.")
    return f"{found}/{index}"


def around(boxes: Sequence[Bounds | None]) -> Bounds | None:
    known = [box for box in boxes if box is not None]
    if not known:
        return None
    west, south, east, north = zip(*known, strict=True)
    return min(west), min(south), max(east), max(north)
