"""STAC catalogues: where they are, what they call things, and how a signature for their files is got."""

import os
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from json import JSONDecodeError, loads
from urllib.parse import quote, urlsplit

from ..errors import FusionError
from . import _addresses, _stac_web

ANY = "FUSION_STAC_ANY"
_SOON = 120  # seconds before its end that a token is taken for ended
_LEAST = 60.0  # seconds for which a token is used whatever the clocks say


@dataclass(frozen=True)
class Holding:
    """One product at one catalogue."""

    collection: str
    assets: Mapping[str, str] = field(default_factory=dict)  # own name of a band -> key, where they differ


@dataclass(frozen=True)
class Catalogue:
    """A STAC API.

    Parameters
    ----------
    name, url : str
    holds : mapping of str to Holding, optional
        By product; None = whatever has the collection's usual name.
    token : str
        Where signatures are got, followed by the collection's id; empty where files need none.
    signed : tuple of str
        Ends of the names of the hosts whose addresses are signed; a signature goes nowhere else.
    """

    name: str
    url: str
    title: str
    holds: Mapping[str, Holding] | None = None
    token: str = ""
    signed: tuple[str, ...] = ()


BUILT_IN = {
    "planetary": Catalogue(
        "planetary",
        "https://planetarycomputer.microsoft.com/api/stac/v1",
        "Microsoft Planetary Computer",
        {
            "landsat": Holding("landsat-c2-l2"),
            "sentinel2": Holding("sentinel-2-l2a"),
            "hls-l30": Holding("hls2-l30"),
            "hls-s30": Holding("hls2-s30"),
            "mcd43a4": Holding("modis-43A4-061"),
            "mod09a1": Holding("modis-09A1-061"),
        },
        "https://planetarycomputer.microsoft.com/api/sas/v1/token/",
        (".blob.core.windows.net",),
    ),
    "earthsearch": Catalogue(
        "earthsearch",
        "https://earth-search.aws.element84.com/v1",
        "Earth Search",
        {
            "sentinel2": Holding(
                "sentinel-2-l2a",
                {
                    "B02": "blue", "B03": "green", "B04": "red", "B08": "nir", "B11": "swir16", "B12": "swir22",
                    "SCL": "scl",
                },
            ),
        },
    ),
}  # fmt: skip


def names(product: str | None = None) -> tuple[str, ...]:
    """Catalogues that may be asked, the owner's own last; of one product, if given."""
    known = {**BUILT_IN, **{name: _own(name, url) for name, url in _addresses.configured().items()}}
    return tuple(name for name, one in known.items() if product is None or one.holds is None or product in one.holds)


def find(name: str) -> Catalogue:
    """Return a catalogue by name; by address, if the server's owner lets visitors give one.

    Raises
    ------
    FusionError
        If there is none of this name, or addresses are not allowed.
    """
    own = _addresses.configured()
    if name in own:
        return _own(name, own[name])
    if name in BUILT_IN:
        return BUILT_IN[name]
    if "://" not in name:
        shown = f" {name!r}" if re.fullmatch(r"[A-Za-z0-9 _-]{1,40}", name) else " of that name"  # no half address
        raise FusionError(f"There is no STAC catalogue{shown}; there are {', '.join(names())}.")
    parts = _addresses.check(name)
    if os.environ.get(ANY) != "1":
        raise FusionError(
            f"The STAC catalogue at {parts.hostname} is not one of {', '.join(names())}, and this server asks no "
            f"others. Its owner can add it (FUSION_STAC) or allow all public ones ({ANY}=1)."
        )
    if parts.query or parts.fragment or not re.fullmatch(r"[A-Za-z0-9._:/~-]+", name) or "::" in name:
        raise FusionError("A catalogue's address wants letters, digits and ._:/~- only, without ? and #: shorten it.")
    return _own(name.rstrip("/"), name.rstrip("/"))


def holding(catalogue: Catalogue, product: str, usual: str) -> Holding:
    """Return what a catalogue calls a product.

    Raises
    ------
    FusionError
        If it has not got the product.
    """
    if catalogue.holds is None:
        return Holding(usual)
    if product not in catalogue.holds:
        raise FusionError(
            f"{catalogue.title} does not offer {product}; it has {', '.join(catalogue.holds)}. "
            f"Take one of {', '.join(names(product))}."
        )
    return catalogue.holds[product]


def _own(name: str, url: str) -> Catalogue:
    return Catalogue(name, url, str(urlsplit(url).hostname) if name == url else name)


class Tokens:
    """Signatures for files, in memory only, by catalogue and collection."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[str, float]] = {}  # address -> token, monotonic second of its end

    def signed(self, href: str, catalogue: Catalogue, collection: str, refused: str = "") -> str:
        """Return the address with a signature, if its host wants one: another one than in the address `refused`."""
        host = urlsplit(href).hostname or ""
        if not catalogue.token or not host.endswith(catalogue.signed):
            return href
        address, plain = catalogue.token + quote(collection, safe=""), href.partition("?")[0]
        with self._lock:  # also so that sixteen threads get one token
            token, end = self._kept.get(address, ("", 0.0))
            if time.monotonic() >= end or f"{plain}?{token}" == refused:
                token, end = _token(address)
                self._kept[address] = token, end
        return f"{plain}?{token}"

    def clear(self) -> None:
        """Forget all signatures."""
        with self._lock:
            self._kept.clear()


def _token(address: str) -> tuple[str, float]:
    try:
        body = loads(_stac_web.ask(address, limit=2**16).data)
        token, text = str(body["token"]), str(body["msft:expiry"])
        left = (datetime.fromisoformat(text) - datetime.now(UTC)).total_seconds()
    except (JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, FusionError):
            raise
        raise FusionError(f"{_stac_web.shown(address)} gave no signature for the images: try again later.") from None
    return token, time.monotonic() + max(left - _SOON, _LEAST)
