"""From a STAC item to pixels: granules for the shared reader, and what of an area each image shows."""

import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from json import JSONDecodeError, dumps, loads
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
from affine import Affine
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from .. import _cache
from .._product import Product
from ..errors import FusionError
from ..preprocess._clean import broken
from . import Bounds, _addresses, _stac_items, _stac_web
from ._granules import Granule
from ._stac_catalogues import Catalogue, Holding, Tokens
from ._stac_pixels import Shelf, on_grid, parts_of, sampled
from ._stac_tiff import Tiff

FORMAT = 1  # of what is kept on disk; a new number makes all old entries misses
SAMPLES = 64  # places along each side of an area where clouds are looked for
_FRESH = 300.0  # seconds for which an item that was asked for again is used

TOKENS = Tokens()
SHELF = Shelf()
_LIVE: dict[str, tuple[Mapping[str, Any], float]] = {}
_LOCK = threading.Lock()


@dataclass(frozen=True)
class Place:
    """Where the images of a product are: a catalogue's collection."""

    catalogue: Catalogue
    held: Holding
    row: Product

    def key(self, name: str) -> str:
        """Key of an image for the disk cache."""
        return f"stac|{FORMAT}|{self.catalogue.url}|{self.held.collection}|{self.row.name}|{name}"

    def address(self, name: str) -> str:
        """Address of an item."""
        return f"{self.catalogue.url}/collections/{quote(self.held.collection, safe='')}/items/{quote(name, safe='')}"

    def keep(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """Return what reading needs of an item, and keep it on disk."""
        text = dumps(_stac_items.slim(item, self.row, self.held, self.address(str(item["id"]))))
        return dict(loads(_cache.text(self.key(str(item["id"])), lambda: text)))

    def item(self, name: str) -> dict[str, Any]:
        """Return an item from disk, or ask the catalogue for it."""
        make = lambda: dumps(_stac_items.slim(self.live(name), self.row, self.held, self.address(name)))  # noqa: E731
        return dict(loads(_cache.text(self.key(name), make)))

    def live(self, name: str) -> Mapping[str, Any]:
        """Ask the catalogue for an item."""
        try:
            found = loads(_stac_web.ask(self.address(name)).data)
        except (JSONDecodeError, UnicodeDecodeError) as error:
            raise FusionError(f"{self.catalogue.title} gave no JSON for the image {name}: try again later.") from error
        if not isinstance(found, dict) or found.get("id") != name or not isinstance(found.get("assets"), dict):
            raise FusionError(f"{self.catalogue.title} gave something else than the image {name}: search again.")
        return found


def granule(place: Place, name: str, bands: Sequence[str]) -> Granule:
    """Return an image for the shared reader, on the grid of the finest of some bands; asks for no pixels."""
    item = place.item(name)
    natives = place.row.named(tuple(bands))
    for each in (*natives, *place.row.quality(tuple(bands))):
        _stac_items.file_of(item, each)
    grid = min((_grid(place, item, each) for each in natives), key=lambda one: abs(one.affine.determinant))

    def fetch(tile: GeoBox, names: Sequence[str]) -> dict[str, np.ndarray]:
        got = _stac_web.together(lambda each: on_grid(table(place, item, each), tile), names)
        return dict(zip(names, got, strict=True))

    return Granule(place.key(name), grid, _stac_items.scaled(item, place.row), fetch)


def table(place: Place, item: Mapping[str, Any], name: str) -> Tiff:
    """Table of a band's file, from memory or from the head of the file."""
    asset = _stac_items.file_of(item, name)
    _addresses.check(asset["href"])

    def sign(refused: str) -> str:
        href = str(_live(place, item["id"], name, refused) if asset.get("signed") else asset["href"])
        return TOKENS.signed(href, place.catalogue, place.held.collection, refused)

    title = f"The file {urlsplit(asset['href']).path.rpartition('/')[2]} of {item['id']}"
    return SHELF.get(f"{place.key(item['id'])}|{asset['href']}", lambda: Tiff(title, parts_of(sign)))


def seen(place: Place, item: Mapping[str, Any], bounds: Bounds, keep: Collection[str]) -> np.ndarray:
    """Where an image shows the ground within bounds in degrees: ``(64, 64)`` bool, from north to south.

    It is asked of one quality band's overview, at the middles of 64 x 64 cells, and kept on disk.
    """
    area = ",".join(f"{edge:.6f}" for edge in bounds)
    key = f"{place.key(item['id'])}|seen|{area}|{','.join(sorted(keep))}"
    text = _cache.text(key, lambda: np.packbits(_seen(place, item, bounds, keep)).tobytes().hex())
    bits: np.ndarray = np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8)).astype(bool)
    return bits.reshape(SAMPLES, SAMPLES)


def _seen(place: Place, item: Mapping[str, Any], bounds: Bounds, keep: Collection[str]) -> np.ndarray:
    native = place.row.native[place.row.bands.index("red")]
    name = place.row.rules[0].quality(native)
    tiff = table(place, item, name)
    west, south, east, north = bounds
    middles = (np.arange(SAMPLES) + 0.5) / SAMPLES
    longitude, latitude = np.meshgrid(west + middles * (east - west), north - middles * (north - south))
    xs, ys = (
        np.asarray(axis) for axis in CRS("EPSG:4326").transformer_to_crs(str(tiff.geobox.crs))(longitude, latitude)
    )
    spread = min(np.ptp(xs) / abs(tiff.geobox.affine.a), np.ptp(ys) / abs(tiff.geobox.affine.e)) / SAMPLES
    numbers, inside = sampled(tiff, xs, ys, spread)
    for rule in place.row.rules:
        if rule.quality(native) == name and rule.what not in keep:
            inside &= ~broken(rule, numbers)
    return inside


def _grid(place: Place, item: Mapping[str, Any], name: str) -> GeoBox:
    """Grid of a band as the catalogue states it, else as its file does, which is then kept on disk."""
    stated = _stac_items.grid_of(item, name)
    if stated is not None:
        return stated

    def make() -> str:
        grid = table(place, item, name).geobox
        return dumps({"shape": list(grid.shape), "affine": list(grid.affine)[:6], "crs": str(grid.crs)})

    said = loads(_cache.text(f"{place.key(item['id'])}|grid|{name}", make))
    return GeoBox(tuple(said["shape"]), Affine(*said["affine"]), said["crs"])


def _live(place: Place, name: str, band: str, refused: str) -> str:
    """Address of a file with the catalogue's own signature, kept in memory for minutes or until it is refused."""
    key = place.key(name)
    with _LOCK:
        item, end = _LIVE.get(key, ({}, 0.0))
    href = _stac_items.address_of(item, place.row, place.held, band, place.address(name))
    if href != refused and time.monotonic() < end:
        return href
    item = place.live(name)
    with _LOCK:
        if len(_LIVE) > 500:
            _LIVE.clear()
        _LIVE[key] = item, time.monotonic() + _FRESH
    return _stac_items.address_of(item, place.row, place.held, band, place.address(name))
