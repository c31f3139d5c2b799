"""Recipe: everything that determines a result, as JSON; load() reads its stack, run() fuses it."""

import json
import math
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.geom import Geometry, polygon
from pyproj.exceptions import CRSError
from rasterio.features import geometry_mask

from . import methods, sources
from .engine import fuse, ignore
from .errors import FusionError
from .methods import Method
from .products import Product, product
from .scene import Scene
from .sources import Item
from .stack import Pair, Stack

Ring = tuple[tuple[float, float], ...]  # (longitude, latitude) in degrees, not closed
FORMAT = 1
MAX_JSON = 64_000  # characters of a recipe or link
MAX_GEOJSON = 1_000_000  # characters of an area's file
MAX_COORDINATE = 1e9  # metres or degrees; far beyond any map, far below where sums of floats overflow
MIN_PIXEL_AREA = 1e-18  # square metres or degrees; a smaller pixel is none
MAX_VERTICES = 500
MAX_FINE_PIXELS = 16_000_000


@dataclass(frozen=True)
class Recipe:
    """Everything that determines a result.

    Parameters
    ----------
    area : tuple of (lon, lat)
        Outline in degrees, at least three corners, not closed; pixels outside it are NaN in the result.
    geobox : odc.geo.geobox.GeoBox
        Grid of the fine images.
    ratio : int
        Fine pixels per coarse pixel, along one side.
    bands : tuple of str
        Band names.
    pairs : tuple of (Item, Item)
        ``(coarse, fine)`` of each reference day.
    target : Item
        Coarse image of the day to predict.
    method : Method
        With its parameters.

    Raises
    ------
    FusionError
        If the parts do not make a recipe that can be run.
    """

    area: Ring
    geobox: GeoBox
    ratio: int
    bands: tuple[str, ...]
    pairs: tuple[tuple[Item, Item], ...]
    target: Item
    method: Method = field(default_factory=lambda: methods.get("starfm")())

    def __post_init__(self) -> None:
        check_ring(self.area)
        height, width = self.geobox.shape
        if self.ratio < 1 or height % self.ratio or width % self.ratio or not height * width:
            raise FusionError(
                f"A recipe's grid of {height} x {width} fine pixels wants whole coarse pixels of ratio {self.ratio}: "
                "choose the area again."
            )
        check_size(self.geobox)
        if not self.pairs or not self.bands:
            raise FusionError(
                f"A recipe wants at least one pair and one band, got {len(self.pairs)} pairs and {len(self.bands)} "
                "bands: choose them on the Area page of the app, with search in the shell or recipe_for in Python."
            )
        _check_items(self.pairs, self.target, self.bands)
        _check_ratio(self.pairs, self.target, self.ratio)
        for coarse, fine in self.pairs:
            if coarse.day != fine.day:
                raise FusionError(f"A pair wants one day, got coarse {coarse.day} and fine {fine.day}.")
        days = [coarse.day for coarse, _ in self.pairs]
        if len(set(days)) != len(days):
            raise FusionError(f"A recipe's pairs repeat a day ({', '.join(map(str, days))}): give each day once.")
        if self.target.day in days:
            raise FusionError(
                f"The target day {self.target.day} is also the day of a pair: choose another target or take that "
                "pair out."
            )

    def to_json(self) -> str:
        """Return the recipe as JSON text; :meth:`from_json` gives back an equal recipe."""
        crs = self.geobox.crs
        body = {
            "format": FORMAT,
            "area": {"type": "Polygon", "coordinates": [[list(p) for p in (*self.area, self.area[0])]]},
            "grid": {
                "crs": None if crs is None else (f"EPSG:{crs.to_epsg()}" if crs.to_epsg() else crs.to_wkt()),
                "transform": list(self.geobox.affine)[:6],
                "shape": list(self.geobox.shape),
                "ratio": self.ratio,
            },
            "bands": list(self.bands),
            "pairs": [{"coarse": item_json(coarse), "fine": item_json(fine)} for coarse, fine in self.pairs],
            "target": item_json(self.target),
            "method": {"name": self.method.name(), "parameters": self.method.parameters()},
        }
        return json.dumps(body, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "Recipe":
        """Read a recipe, checking every part of it.

        Raises
        ------
        FusionError
            Naming the part that is broken.
        """
        body = parse_json(text)
        if body.get("format") != FORMAT:
            raise FusionError(f"A recipe wants format {FORMAT}, got {body.get('format')!r}: make it again in the app.")
        return cls(
            area=ring_of(_get(body, "area", dict)),
            geobox=_geobox(_get(body, "grid", dict)),
            ratio=_get(_get(body, "grid", dict), "ratio", int),
            bands=tuple(_get(body, "bands", list)),
            pairs=tuple(
                (item_of(_get(pair, "coarse", dict)), item_of(_get(pair, "fine", dict)))
                for pair in _get(body, "pairs", list)
            ),
            target=item_of(_get(body, "target", dict)),
            method=_method(_get(body, "method", dict)),
        )

    def tags(self) -> dict[str, str]:
        """Tags that a result file carries: the recipe, the method and where the data come from."""
        return {
            "FUSION_RECIPE": self.to_json(),
            "FUSION_METHOD": f"{self.method.title} ({self.method.paper})",
            "FUSION_SOFTWARE": software(),
            **data_tags([self.target, *(item for pair in self.pairs for item in pair)]),
        }


def data_tags(items: Sequence[Item]) -> dict[str, str]:
    """Tags that say where the data of some items come from, their licences and whom to cite."""
    rows = {(item.source, item.product): product(item.source, item.product) for item in items}.values()
    return {
        "FUSION_DATA": "; ".join(f"{row.title} [{row.origin}; {row.licence}]" for row in rows),
        "COPYRIGHT": "; ".join(dict.fromkeys(row.citation for row in rows)),
    }


def load(recipe: Recipe) -> Stack:
    """Read every image of a recipe onto its grids and stack them.

    Raises
    ------
    FusionError
        If a source cannot give an image.
    """
    pairs = [Pair(_read(coarse, recipe), _read(fine, recipe)) for coarse, fine in recipe.pairs]
    return Stack.of(pairs, _read(recipe.target, recipe))


def run(
    recipe: Recipe,
    *,
    stack: Stack | None = None,
    tile: int = 1024,
    executor: Executor | None = None,
    progress: Callable[[float], None] = ignore,
) -> Scene:
    """Read and fuse a recipe; pixels outside its area are NaN.

    Parameters
    ----------
    recipe : Recipe
        What to make.
    stack : Stack, optional
        The recipe's stack where it is loaded already.
    tile, executor, progress
        As in :func:`fusion.fuse`.

    Raises
    ------
    FusionError
        As of :func:`load` and :func:`fusion.fuse`; or if the stack has a class map, which no recipe can name.
    """
    if stack is not None and stack.classes is not None:
        raise FusionError(
            "A run of a recipe wants what the recipe names, and it cannot name a class map: use "
            "fuse(stack, method) and keep the map beside the result."
        )
    scene = fuse(stack or load(recipe), recipe.method, tile=tile, executor=executor, progress=progress)
    return clip(scene, recipe.area)


def clip(scene: Scene, area: Ring) -> Scene:
    """Return the scene with NaN outside the area; a pixel that the outline touches stays."""
    if scene.geobox.crs is None:
        return scene
    outline = geometry(area).to_crs(str(scene.geobox.crs))
    outside = geometry_mask(
        [outline.json], out_shape=tuple(scene.geobox.shape), transform=scene.geobox.affine, all_touched=True
    )
    return replace(scene, data=np.where(outside, np.float32(np.nan), scene.data)) if outside.any() else scene


def grid(area: Ring, fine: Product, coarse: Product) -> tuple[GeoBox, int]:
    """Fine grid of an area in whole coarse pixels, and the ratio.

    Raises
    ------
    FusionError
        If the products do not nest, the area lies outside them or has too many pixels.
    """
    check_ring(area)
    if fine.geobox is None or coarse.geobox is None:
        raise FusionError(f"{fine.title} has no grid of its own: choose a source that covers one place.")
    ratio = round(coarse.resolution / fine.resolution)
    whole = coarse.geobox
    overlap = geometry(area) & whole.geographic_extent  # in degrees: far away there are no metres of this CRS
    if overlap.is_empty or not overlap.area:
        raise FusionError(
            f"The area {_degrees(area)} lies outside {fine.title}, which covers {_degrees(extent(fine))}: "
            "draw inside the footprint on the map."
        )
    box = overlap.to_crs(str(whole.crs)).boundingbox
    (x0, y0), (x1, y1) = whole.wld2pix(box.left, box.top), whole.wld2pix(box.right, box.bottom)
    rows, columns = _pixels(y0, y1, whole.shape[0]), _pixels(x0, x1, whole.shape[1])
    geobox = fine.geobox[rows.start * ratio : rows.stop * ratio, columns.start * ratio : columns.stop * ratio]
    check_size(geobox)
    return geobox, ratio


def _pixels(low: float, high: float, size: int) -> slice:
    """Whole pixels from `low` to `high`, at least one; an outline drawn along an edge takes in no further pixel."""
    slack = 0.02  # of a pixel
    start = min(max(math.floor(low + slack), 0), size - 1)
    return slice(start, max(min(math.ceil(high - slack), size), start + 1))


def extent(row: Product) -> Ring | None:
    """Outline of a product in degrees, or None where it covers the world."""
    if row.geobox is None:
        return None
    outline = row.geobox.extent.to_crs("EPSG:4326")
    return tuple((float(x), float(y)) for x, y in outline.exterior.points[:-1])


def geometry(area: Ring) -> Geometry:
    """Return the area as a geometry in EPSG:4326."""
    return polygon([*area, area[0]], "EPSG:4326")


def check_ring(area: Sequence[Sequence[float]]) -> None:
    """Raise FusionError unless this is an outline on the globe with a surface."""
    if not 3 <= len(area) <= MAX_VERTICES:
        raise FusionError(f"An area wants 3 to {MAX_VERTICES} corners, got {len(area)}: draw it again.")
    for point in area:
        if len(point) != 2 or not all(map(_is_number, point)):
            raise FusionError(f"An area's corners want (longitude, latitude) in degrees, got {point!r}.")
        if not (-180 <= point[0] <= 180 and -90 <= point[1] <= 90):
            raise FusionError(
                f"The corner (longitude {point[0]:g}, latitude {point[1]:g}) is not on the globe: "
                "longitude goes from -180 to 180 and latitude from -90 to 90 degrees."
            )
    outline = geometry(tuple((float(x), float(y)) for x, y in area))
    if not outline.is_valid or outline.area < 1e-12:
        raise FusionError("The area's outline crosses itself or has no surface: draw it again without a crossing.")


def check_size(geobox: GeoBox) -> None:
    """Raise FusionError if a grid has more fine pixels than are fused in one go."""
    count = geobox.shape[0] * geobox.shape[1]
    if count > MAX_FINE_PIXELS:
        raise FusionError(
            f"The area has {count / 1e6:.0f} million fine pixels; at most {MAX_FINE_PIXELS / 1e6:.0f} million are "
            "fused in one go: draw a smaller area."
        )


def rectangle(west: float, south: float, east: float, north: float) -> Ring:
    """Return the outline of a rectangle in degrees."""
    return ((west, south), (east, south), (east, north), (west, north))


def ring_of(shape: Any) -> Ring:
    """Outline from GeoJSON: a Polygon, or a Feature or FeatureCollection that holds one.

    Raises
    ------
    FusionError
        If there is not exactly one polygon, or it has holes.
    """
    while isinstance(shape, dict) and shape.get("type") in ("Feature", "FeatureCollection"):
        if shape["type"] == "Feature":
            shape = shape.get("geometry")
            continue
        features = shape.get("features")
        if not isinstance(features, list) or len(features) != 1:
            count = len(features) if isinstance(features, list) else 0
            raise FusionError(f"The GeoJSON wants one feature, got {count}: save the one polygon alone.")
        shape = features[0]
    kind = shape.get("type") if isinstance(shape, dict) else type(shape).__name__
    rings = shape.get("coordinates") if kind == "Polygon" else None
    if not isinstance(rings, list) or len(rings) != 1 or not isinstance(rings[0], list):
        raise FusionError(f"The GeoJSON wants one Polygon without holes, got {kind!r}: draw or save a plain polygon.")
    if len(rings[0]) > MAX_VERTICES + 1:
        raise FusionError(f"The polygon has {len(rings[0])} corners, at most {MAX_VERTICES} are read: simplify it.")
    if not all(isinstance(point, list | tuple) and all(map(_is_number, point[:2])) for point in rings[0]):
        raise FusionError(
            "The polygon's corners want pairs of numbers (longitude, latitude): save it again as GeoJSON in degrees."
        )
    points = [tuple(map(float, point[:2])) for point in rings[0]]
    ring = tuple(points[:-1] if len(points) > 1 and points[0] == points[-1] else points)
    check_ring(ring)
    return ring  # type: ignore[return-value] # check_ring has looked: every point has two numbers


def item_json(item: Item) -> dict[str, str]:
    """Return what identifies an item, for JSON."""
    return {"source": item.source, "product": item.product, "id": item.id, "day": item.day.isoformat()}


def item_of(body: Any) -> Item:
    """Read an item back; source and product must be known."""
    text = _get(body, "day", str)
    try:
        day = date.fromisoformat(text)
    except ValueError as error:
        raise FusionError(f"An item's day wants YYYY-MM-DD, got {text!r}.") from error
    item = Item(_get(body, "source", str), _get(body, "product", str), _get(body, "id", str), day)
    sources.get(item.source)
    product(item.source, item.product)
    return item


def parse_json(text: str, what: str = "recipe", *, most: int = MAX_JSON) -> dict[str, Any]:
    """Parse a JSON object of at most `most` characters; `what` names it in messages.

    Raises
    ------
    FusionError
        If it is longer, no JSON or no object.
    """
    name = "A recipe" if what == "recipe" else f"The {what}"
    if len(text) > most:
        raise FusionError(f"{name} has at most {most:,} characters, got {len(text):,}: give a smaller one.")
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError also for a number of thousands of digits
        raise FusionError(f"{name} wants JSON, got text that breaks off or is none ({error}).") from error
    if not isinstance(body, dict):
        raise FusionError(f"{name} wants a JSON object, got {type(body).__name__}.")
    return body


def software() -> str:
    """Name and version of this software."""
    from . import __version__

    return f"Meantime {__version__}"


def _read(item: Item, recipe: Recipe) -> Scene:
    row = product(item.source, item.product)
    box = recipe.geobox.zoom_out(recipe.ratio) if row.role == "coarse" else recipe.geobox
    return sources.get(item.source).read(item, box, recipe.bands)


def _method(body: dict[str, Any]) -> Method:
    return methods.build(_get(body, "name", str), _get(body, "parameters", dict))


def _geobox(body: dict[str, Any]) -> GeoBox:
    numbers, shape, crs = _get(body, "transform", list), _get(body, "shape", list), body.get("crs")
    good = len(numbers) == 6 and all(_is_number(v) and abs(v) <= MAX_COORDINATE for v in numbers)
    good = good and abs(Affine(*numbers).determinant) >= MIN_PIXEL_AREA
    if not good or len(shape) != 2 or not all(type(v) is int and 0 < v < 100_000 for v in shape):
        raise FusionError(f"A recipe's grid wants 6 transform numbers and a shape [y, x], got {numbers} and {shape}.")
    wrong = f"A recipe's grid wants a CRS such as EPSG:32633, got {crs!r}."
    if not isinstance(crs, str | None):
        raise FusionError(wrong)
    try:
        return GeoBox(tuple(shape), Affine(*numbers), crs)
    except (ValueError, CRSError) as error:
        raise FusionError(wrong) from error


def _is_number(value: Any) -> bool:
    """Tell whether this is a finite number that a float can hold; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _check_items(pairs: Sequence[tuple[Item, Item]], target: Item, bands: Sequence[str]) -> None:
    """Raise FusionError unless every item stands on its side of a pair and has the bands."""
    if len(set(map(repr, bands))) != len(bands):
        raise FusionError(f"A recipe's bands want distinct names, got {list(bands)}: give each band once.")
    sides = [("coarse", target), *(side for pair in pairs for side in zip(("coarse", "fine"), pair, strict=True))]
    for role, item in sides:
        row = product(item.source, item.product)
        if row.role != role:
            raise FusionError(f"A {role} image is wanted here, got {item.product} of {item.day}, which is {row.role}.")
        if missing := [band for band in bands if band not in row.bands]:
            raise FusionError(f"{row.title} has no band {missing[0]!r}: choose among {', '.join(row.bands)}.")


def _check_ratio(pairs: Sequence[tuple[Item, Item]], target: Item, ratio: int) -> None:
    """Raise FusionError unless the ratio is that of the products, where these have grids of their own."""
    coarse = {product(item.source, item.product) for item in (target, *(pair[0] for pair in pairs))}
    fine = {product(item.source, item.product) for _, item in pairs}
    for one, other in ((c, f) for c in coarse for f in fine if c.geobox is not None and f.geobox is not None):
        if ratio != round(one.resolution / other.resolution):
            raise FusionError(
                f"{one.title} and {other.title} have the ratio {round(one.resolution / other.resolution)}, "
                f"got a recipe of ratio {ratio}: choose the area again."
            )


def _get(body: Any, name: str, kind: type) -> Any:
    value = body.get(name) if isinstance(body, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise FusionError(
            f"A recipe's {name!r} wants {kind.__name__}, got {type(value).__name__}: the recipe is broken."
        )
    return value


def _degrees(area: Ring | None) -> str:
    if area is None:
        return "the world"
    (west, south), (east, north) = (tuple(pick(p[i] for p in area) for i in (0, 1)) for pick in (min, max))
    return f"{west:.3f} to {east:.3f} E, {south:.3f} to {north:.3f} N"
