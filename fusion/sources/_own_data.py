"""Data sets of own files: from a complete proposal to a manifest with a content key, and back to products."""

import hashlib
import json
from collections.abc import Mapping
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

from odc.geo.geobox import GeoBox

from .._product import Product, Role
from ..errors import FusionError
from . import _own_guess, _own_place, _own_plan, _own_store
from ._own_look import Header
from ._own_pixels import geobox
from ._own_proposal import Proposal

ROLES: tuple[Role, ...] = ("fine", "coarse")


def add(proposal: Proposal) -> str:
    """Make a data set of a complete proposal and keep its manifest; return its content key."""
    proposal.check_complete()
    plan, heads = proposal.plan, {head.name: head for head in proposal.headers}
    used = sorted({part[0] for image in plan.images for part in image.parts.values()})
    used += sorted({mask for image in plan.images for mask, _ in image.masks} - set(used))
    shas = _own_store.digests(Path(heads[name].path) for name in used)
    sha_of = {name: shas[heads[name].path] for name in used}
    images = [_image(image, plan, heads, sha_of) for image in plan.images]
    key = _key(plan, images, heads, sha_of)
    grids = _grids(plan, heads)
    for image in images:
        for part in image["parts"].values():
            part["grid"] = grids[part.pop("name")][0]
    _own_store.write(key, {
        "format": _own_store.FORMAT, "key": key, "title": _title(plan, heads), "bands": list(plan.bands),
        "ratio": plan.ratio, "size": plan.size, "base": _grid_json(_own_plan.grid(plan)),
        "grids": [grid for _, grid in sorted({i: g for i, g in grids.values()}.items())],
        "files": {sha_of[name]: _entry(heads[name], proposal.uploaded) for name in used},
        "images": images, "notes": list(plan.notes), "answers": dict(proposal.answers),
        "days": {role: sorted(i["day"] for i in images if i["role"] == role) for role in ROLES},
    })  # fmt: skip
    return key


def _image(
    image: _own_plan.Image, plan: _own_plan.Plan, heads: Mapping[str, Header], sha_of: Mapping[str, str]
) -> dict[str, Any]:
    parts = {}
    for band in plan.bands:
        name, layer, index = image.parts[band]
        facts = plan.facts[name]
        scale, offset = _own_guess.numbers(facts.scale)
        parts[band] = {
            "name": name, "file": sha_of[name], "layer": layer, "index": index, "scale": scale, "offset": offset,
            "nodata": sorted(facts.nodata), "place": facts.place,
        }  # fmt: skip
    masks = sorted((sha_of[name], kind) for name, kind in image.masks)
    return {"role": image.role, "day": image.day.isoformat(), "parts": parts, "masks": masks, "span": image.span}


def _key(
    plan: _own_plan.Plan, images: list[dict[str, Any]], heads: Mapping[str, Header], sha_of: Mapping[str, str]
) -> str:
    """Digest of the files' bytes and of all that was decided; names and places on disk do not enter."""
    told = [
        {**image, "parts": {b: {k: v for k, v in p.items() if k != "name"} for b, p in image["parts"].items()}}
        for image in images
    ]
    base = plan.base
    if base is None:
        raise FusionError("The proposal has no fine file: answer its questions first.")
    size = plan.size if base.crs is None else None  # else the files say it
    body = [_own_store.FORMAT, plan.bands, plan.ratio, size, sha_of.get(base.name), sorted(map(_text, told))]
    return hashlib.sha256(_text(body).encode()).hexdigest()[:24]


def _text(body: Any) -> str:
    return json.dumps(body, sort_keys=True, separators=(",", ":"))


def _grids(plan: _own_plan.Plan, heads: Mapping[str, Header]) -> dict[str, tuple[int, dict[str, Any]]]:
    """Number and grid of every image file, by its name."""
    base = plan.base
    if base is None:
        raise FusionError("The proposal has no fine file: answer its questions first.")
    affine = _own_plan.grid(plan).affine
    whole = GeoBox(base.shape, affine, base.crs)
    out: dict[str, tuple[int, dict[str, Any]]] = {}
    known: dict[str, int] = {}
    for name in sorted({part[0] for image in plan.images for part in image.parts.values()}):
        head, place = heads[name], plan.facts[name].place
        if place == "grid":
            grid = whole
        elif place == "native" and head.crs is None:
            grid = GeoBox(head.shape, affine * affine.scale(_own_place.nested(head, base)), None)
        else:
            grid = _own_place.geobox(head)
        body = _grid_json(grid)
        out[name] = known.setdefault(_text(body), len(known)), body
    return out


def _grid_json(grid: GeoBox) -> dict[str, Any]:
    crs = None if grid.crs is None else grid.crs.to_wkt()
    return {"shape": list(grid.shape), "transform": list(grid.affine)[:6], "crs": crs}


def _entry(head: Header, uploaded: bool) -> dict[str, Any]:
    path = Path(head.path)
    stat = path.stat()
    kept = uploaded and _own_store.is_kept(path)
    return {
        "name": head.name, "driver": head.driver, "path": None if kept else str(path.absolute()),
        "size": stat.st_size, "changed": stat.st_mtime_ns,
    }  # fmt: skip


def _title(plan: _own_plan.Plan, heads: Mapping[str, Header]) -> str:
    days = sorted(image.day for image in plan.images if image.role == "fine")
    return f"{len(days)} fine images, {days[0]} to {days[-1]}" if len(days) > 1 else f"1 fine image of {days[0]}"


def split(name: str) -> tuple[str, Role]:
    """Key and role of a product's name, ``KEY.fine`` or ``KEY.coarse``.

    Raises
    ------
    FusionError
        If it is none.
    """
    key, _, role = str(name).partition(".")
    for known in ROLES:
        if role == known and _own_store.KEY.fullmatch(key):
            return key, known
    raise FusionError(f"A product of own files is named KEY.fine or KEY.coarse, got {str(name)[:60]!r}: add the files.")


def product(name: str) -> Product:
    """Product of a data set by its name.

    Raises
    ------
    FusionError
        If there is no such data set here.
    """
    key, role = split(name)
    return _product(_own_store.read(key, f"The {role} images come")["key"], role, stamp(key))


def stamp(key: str) -> int:
    """When the manifest of a data set was written: what is kept of an older one does not count."""
    return (_own_store.folder() / "sets" / f"{key}.json").stat().st_mtime_ns


@lru_cache(maxsize=64)
def _product(key: str, role: Role, _changed: int) -> Product:
    manifest = _own_store.read(key)
    fine = geobox(manifest["base"])
    ratio = manifest["ratio"] if role == "coarse" else 1
    span = max(image["span"] for image in manifest["images"] if image["role"] == role)
    size = manifest["size"] * ratio
    return Product(
        name=f"{key}.{role}", source="local", title=f"Own {role} images, {size:g} m", role=role,
        bands=tuple(manifest["bands"]), resolution=size, origin="observed", licence="the owner's",
        citation=f"Own files, content key {key}", geobox=fine.zoom_out(ratio) if ratio > 1 else fine, span=span,
    )  # fmt: skip


def image_of(manifest: Mapping[str, Any], role: str, day: date) -> dict[str, Any]:
    """Image of one day.

    Raises
    ------
    FusionError
        If there is none.
    """
    for image in manifest["images"]:
        if image["role"] == role and image["day"] == day.isoformat():
            found: dict[str, Any] = image
            return found
    have = ", ".join(manifest["days"][role])
    raise FusionError(f"The own files have no {role} image of {day}; there are {have}: take one of these days.")


def facts(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Few facts of a data set for a list: title, bands, days, ratio, notes and answers."""
    return {name: manifest[name] for name in ("key", "title", "bands", "days", "ratio", "size", "notes", "answers")}
