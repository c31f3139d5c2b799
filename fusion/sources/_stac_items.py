"""STAC items: their day, their bands' files, numbers and grids; only what reading needs, without signatures."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

from affine import Affine
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from pyproj.exceptions import CRSError

from .._product import Product
from ..errors import FusionError
from ._stac_catalogues import Holding

Json = Mapping[str, Any]

_COMMON = {"swir1": ("swir16",), "swir2": ("swir22",)}  # our name -> names of STAC's extension `eo`
_NARROW = ("nir08", "nir")
_PROJ = ("proj:epsg", "proj:code", "proj:wkt2", "proj:projjson", "proj:shape", "proj:transform")
_PROPERTIES = (
    "datetime", "start_datetime", "platform", "landsat:collection_category", "s2:processing_baseline",
    "s2:mgrs_tile", "earthsearch:boa_offset_applied", "processing:version", "grid:code", "created", "updated", *_PROJ,
)  # fmt: skip
_MODIS = re.compile(r"\.A(\d{4})(\d{3})\.")
_SECRETS = re.compile(
    r"(?i)^(s[a-z]{1,2}|sig|sk[a-z]{1,3}|spr|srt|ses|x-amz-.*|x-goog-.*|.*(token|key|signature|expires|policy|pass|secret|auth).*)$"
)
_BASELINE = (4, 0)  # from here on Sentinel-2's numbers are 1000 higher
_SHIFTED = -0.1


def day_of(item: Json) -> date | None:
    """Day of acquisition, UTC; of a composite, the first; None where the item does not say."""
    properties = item.get("properties") or {}
    text = properties.get("datetime") or properties.get("start_datetime")
    try:
        if found := _MODIS.search(str(item.get("id", ""))):
            return date(int(found[1]), 1, 1) + timedelta(days=int(found[2]) - 1)
        when = datetime.fromisoformat(str(text))
    except (ValueError, OverflowError):
        return None
    return (when if when.tzinfo is None else when.astimezone(UTC)).date()


def wanted(item: Json, product: str) -> bool:
    """Whether an item of a collection is one of the product: some collections hold several sensors and qualities."""
    properties = item.get("properties") or {}
    name = str(item.get("id", ""))
    if product == "landsat":
        older = re.match(r"L[ETM]0[1-7]_", name) or re.fullmatch(r"landsat[-_]?[1-7]", str(properties.get("platform")))
        return not older and properties.get("landsat:collection_category", "T1") == "T1"
    return not (product == "mod09a1" and name.startswith("MYD"))


def newest(items: Iterable[Json]) -> list[Json]:
    """Leave out images that were processed again: of one tile and second, the highest baseline stays."""
    best: dict[Any, tuple[Any, Json]] = {}
    for item in items:
        properties = item.get("properties") or {}
        tile = properties.get("s2:mgrs_tile") or properties.get("grid:code")
        one = (tile, properties.get("datetime"), properties.get("platform")) if tile else item["id"]
        rank = (_baseline(properties) or (0, 0), str(properties.get("created") or ""), str(item["id"]))
        if one not in best or rank > best[one][0]:
            best[one] = rank, item
    return [item for _, item in best.values()]


def slim(item: Json, row: Product, held: Holding, base: str) -> dict[str, Any]:
    """Return what reading needs of an item, for the disk: addresses without signatures, files of the product only.

    An address that lost its signature is marked, so that a reader knows to ask the catalogue for a new one.
    """
    properties = item.get("properties") or {}
    out: dict[str, Any] = {"id": str(item["id"]), "bbox": item.get("bbox"), "assets": {}}
    out["properties"] = {key: properties[key] for key in _PROPERTIES if key in properties}
    for name in (*row.native, *row.quality(row.bands)):
        if (asset := _asset(item, row, held, name)) is not None:
            href, cut = unsigned(_joined(base, asset))
            kept = {
                key: asset[key] for key in (*_PROJ, "raster:bands", "raster:scale", "raster:offset") if key in asset
            }
            bands = asset.get("bands") or []
            if len(bands) == 1 and isinstance(bands[0], Mapping):
                kept |= {key: bands[0][key] for key in ("raster:scale", "raster:offset", *_PROJ) if key in bands[0]}
            out["assets"][name] = {"href": href, **({"signed": True} if cut else {}), **kept}
    return out


def address_of(item: Json, row: Product, held: Holding, name: str, base: str) -> str:
    """Address of a band's file in an item as the catalogue gives it, with its signature."""
    return _joined(base, _asset(item, row, held, name) or {})


def _joined(base: str, asset: Json) -> str:
    try:
        whole = urljoin(base, str(asset.get("href", "")))
        urlsplit(whole)
    except ValueError:  # no address, which reading the file will say
        return ""
    return whole


def unsigned(href: str) -> tuple[str, bool]:
    """Return an address without user, password and secrets in its query, and whether there were any."""
    parts = urlsplit(href)
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    plain = [(key, value) for key, value in pairs if not _SECRETS.match(key)]
    user, _, host = parts.netloc.rpartition("@")
    bare = parts._replace(netloc=host, query=urlencode(plain), fragment="")
    return urlunsplit(bare), len(plain) < len(pairs) or bool(user)


def file_of(item: Json, name: str) -> Json:
    """Return the file of a band, by the collection's own name of the band.

    Raises
    ------
    FusionError
        If the item has none.
    """
    found = item["assets"].get(name)
    if found is None:
        raise FusionError(
            f"The image {item['id']} has no band {name}; it has {', '.join(item['assets']) or 'none that is needed'}. "
            "Leave the band out, or take another day or catalogue."
        )
    return dict(found)


def grid_of(item: Json, name: str) -> GeoBox | None:
    """Grid of a band's file as the catalogue states it, or None where it does not."""
    asset, properties = file_of(item, name), item["properties"]

    def said(*keys: str) -> Any:
        given = (place[key] for place in (asset, properties) for key in keys if place.get(key) is not None)
        return next(given, None)

    shape, transform = said("proj:shape"), said("proj:transform")
    crs = said("proj:code", "proj:epsg", "proj:wkt2", "proj:projjson")
    try:
        if crs is None or len(transform) < 6 or len(shape) != 2 or min(shape) < 1:
            return None
        affine = Affine(*(float(number) for number in transform[:6]))
        if affine.is_degenerate or not all(map(math.isfinite, affine[:6])):
            return None
        return GeoBox((int(shape[0]), int(shape[1])), affine, CRS(crs))
    except (TypeError, ValueError, CRSError):
        return None


def scaled(item: Json, row: Product) -> Product:
    """Return the row with the item's own scale and offset of each band."""
    scales, offsets = zip(*(_scale(item, row, index) for index in range(len(row.bands))), strict=True)
    return replace(row, scale=scales, offset=offsets)


def _scale(item: Json, row: Product, index: int) -> tuple[float, float]:
    usual = (_each(row.scale, index), _each(row.offset, index))
    asset = item["assets"].get(row.native[index], {})
    stated = next((band for band in asset.get("raster:bands") or [] if isinstance(band, Mapping)), {})
    scale = _number(asset.get("raster:scale", stated.get("scale")))
    offset = _number(asset.get("raster:offset", stated.get("offset")))
    if scale is None or not 0 < scale < 1:  # absent, or a 1 that means nobody filled it in
        scale, offset = usual[0], offset if scale is None else None
    if row.name == "sentinel2":
        offset = _sentinel_offset(item["properties"], offset)
    return scale, usual[1] if offset is None else offset


def _sentinel_offset(properties: Json, stated: float | None) -> float | None:
    """Offset of Sentinel-2: some catalogues took it off already, some state it where it is not, some not at all."""
    baseline = _baseline(properties)
    if properties.get("earthsearch:boa_offset_applied") is True or (baseline and baseline < _BASELINE):
        return 0.0
    return _SHIFTED if stated is None and baseline else stated


def _baseline(properties: Json) -> tuple[int, int] | None:
    text = str(properties.get("s2:processing_baseline") or properties.get("processing:version") or "")
    found = re.match(r"0?(\d{1,2})\.(\d\d)$", text)
    return (int(found[1]), int(found[2])) if found else None


def _asset(item: Json, row: Product, held: Holding, name: str) -> Json | None:
    """File of a band: by its key, whatever the letters' case, else by the common name of the band in it."""
    assets = {str(key): asset for key, asset in (item.get("assets") or {}).items() if isinstance(asset, Mapping)}
    keys = {key.lower(): key for key in assets}
    for key in (held.assets.get(name, name), name):
        if key in assets or key.lower() in keys:
            return assets.get(key) or assets[keys[key.lower()]]
    if name not in row.native:
        return None
    band = row.bands[row.native.index(name)]
    common = (
        ("nir",)
        if row.name == "sentinel2" and band == "nir"
        else _NARROW
        if band == "nir"
        else _COMMON.get(band, (band,))
    )
    named = [(asset, _common_name(asset)) for asset in assets.values() if _is_tiff(asset)]
    found = (asset for word in common for asset, has in named if has == word)
    return min(found, key=lambda asset: _number(asset.get("gsd")) or 0, default=None)


def _common_name(asset: Json) -> str | None:
    """Common name of the only band in a file."""
    bands: Sequence[Any] = asset.get("eo:bands") or asset.get("bands") or []
    if len(bands) != 1 or not isinstance(bands[0], Mapping):
        return None
    return bands[0].get("common_name") or bands[0].get("eo:common_name")


def _is_tiff(asset: Json) -> bool:
    kind, path = str(asset.get("type") or ""), urlsplit(str(asset.get("href", ""))).path.lower()
    roles = asset.get("roles") or []
    return ("tiff" in kind or path.endswith((".tif", ".tiff"))) and not {"thumbnail", "overview"} & set(roles)


def _each(value: float | tuple[float, ...], index: int) -> float:
    return value[index] if isinstance(value, tuple) else value


def _number(value: Any) -> float | None:
    right = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if right else None
