"""Recipe: everything that determines a result, as JSON; load() reads its stack, run() fuses it."""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Executor, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj.exceptions import CRSError

from . import methods, sources
from ._pulse import PULSE, Pulse, stop_if_asked
from .area import (  # noqa: F401 - some are here for those who know them from here
    MAX_FINE_PIXELS,
    MAX_VERTICES,
    Ring,
    check_ring,
    check_size,
    clip,
    extent,
    geometry,
    grid,
    is_number,
    moved,
    rectangle,
    ring_of,
)
from .engine import HEARTBEAT, fuse, ignore
from .errors import FusionError
from .methods import Method
from .preprocess import harmonise
from .scene import Scene
from .sources import Item, product
from .stack import Pair, Stack

FORMAT = 1
MAX_JSON = 64_000  # characters of a recipe or link
MAX_GEOJSON = 1_000_000  # characters of an area's file
MAX_COORDINATE = 1e9  # metres or degrees; far beyond any map, far below where sums of floats overflow
MIN_PIXEL_AREA = 1e-18  # square metres or degrees; a smaller pixel is none
MAX_SHIFT = 2.6  # coarse pixels; what the alignment report looks for, and a little
READERS = 4  # images read at once
READ_AT_ONCE = 96_000_000  # fine numbers in the images read at once: 16 million pixels of 6 bands, about 1 GB
READING = 0.3  # of a run's progress, where it has to read


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
    shift : (float, float)
        By how much the coarse images lie east and north of the fine ones, in units of the grid's CRS; they are read
        there. See :func:`fusion.preprocess.report`.
    harmonise : bool
        Whether the coarse images are brought to the fine sensor's scale by :func:`fusion.preprocess.harmonise`.

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
    shift: tuple[float, float] = (0.0, 0.0)
    harmonise: bool = False

    def __post_init__(self) -> None:
        check_ring(self.area)
        height, width = self.geobox.shape
        if self.ratio < 1 or height % self.ratio or width % self.ratio or not height * width:
            raise FusionError(
                f"A recipe's grid of {height} x {width} fine pixels wants whole coarse pixels of ratio {self.ratio}: "
                "choose the area again."
            )
        check_size(self.geobox)
        _check_shift(self)
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
            **({"shift": list(self.shift)} if any(self.shift) else {}),
            **({"harmonise": True} if self.harmonise else {}),
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
            shift=_shift(body.get("shift", [0.0, 0.0])),
            harmonise=_get({"harmonise": False, **body}, "harmonise", bool),
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


def load(recipe: Recipe, *, progress: Callable[[float], None] = ignore) -> Stack:
    """Read every image of a recipe onto its grids, several at once, and stack them.

    Parameters
    ----------
    recipe : Recipe
        What to read.
    progress : callable
        Called in the caller's thread with the fraction read; what it raises stops the reading and reaches the caller.

    Raises
    ------
    FusionError
        If a source cannot give an image.
    """
    items = [item for pair in recipe.pairs for item in pair] + [recipe.target]
    *scenes, target = _read_all(items, recipe, progress)
    stack = Stack.of([Pair(*two) for two in zip(scenes[::2], scenes[1::2], strict=True)], target)
    return harmonise(stack) if recipe.harmonise else stack


def _read_all(items: Sequence[Item], recipe: Recipe, progress: Callable[[float], None]) -> list[Scene]:
    """Read images in threads; each has a pulse of its own, by which it says how far it is and is told to stop."""
    pulses = [Pulse() for _ in items]

    def work(item: Item, pulse: Pulse) -> Scene:
        token = PULSE.set(pulse)
        try:
            stop_if_asked()
            return _read(item, recipe)
        finally:
            PULSE.reset(token)

    with ThreadPoolExecutor(_readers(recipe, items), thread_name_prefix="fusion-load") as pool:
        futures = [pool.submit(work, item, pulse) for item, pulse in zip(items, pulses, strict=True)]
        try:
            running = set(futures)
            while running:
                over, running = wait(running, timeout=HEARTBEAT, return_when=FIRST_EXCEPTION)
                for future in over:
                    future.result()
                shares = (1.0 if f.done() else p.fraction for f, p in zip(futures, pulses, strict=True))
                progress(sum(shares) / len(items))
        except BaseException:
            for pulse in pulses:
                pulse.stopped = True
            raise
        return [future.result() for future in futures]


def _readers(recipe: Recipe, items: Sequence[Item]) -> int:
    """How many images to read at once: fewer of large ones, so that memory is bounded; one without a network."""
    if not any(sources.is_remote(item.source) for item in items):
        return 1
    height, width = recipe.geobox.shape
    return max(1, min(READERS, READ_AT_ONCE // (height * width * len(recipe.bands))))


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
        As in :func:`fusion.fuse`; reading, where there is no `stack`, is the first 30 % of the progress.

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
    recipe.method.check_for(len(recipe.pairs), recipe.bands, recipe.ratio)
    read = READING if stack is None else 0.0
    stack = stack or load(recipe, progress=lambda done: progress(read * done))
    left = lambda done: progress(1 - (1 - read) * (1 - done))  # noqa: E731
    scene = fuse(stack, recipe.method, tile=tile, executor=executor, progress=left)
    return clip(scene, recipe.area)


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
    try:
        product(item.source, item.product)
    except FusionError as error:  # own files of another machine: which image is wanted, not only of which key
        raise FusionError(f"{error} The recipe wants the image of {day}.") from error
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
    read = sources.get(item.source).read
    if row.role != "coarse":
        return read(item, recipe.geobox, recipe.bands)
    box = recipe.geobox.zoom_out(recipe.ratio)
    return replace(read(item, moved(box, recipe.shift), recipe.bands), geobox=box)


def _method(body: dict[str, Any]) -> Method:
    return methods.build(_get(body, "name", str), _get(body, "parameters", dict))


def _geobox(body: dict[str, Any]) -> GeoBox:
    numbers, shape, crs = _get(body, "transform", list), _get(body, "shape", list), body.get("crs")
    good = len(numbers) == 6 and all(is_number(v) and abs(v) <= MAX_COORDINATE for v in numbers)
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


def _shift(body: Any) -> tuple[float, float]:
    if not isinstance(body, list) or len(body) != 2 or not all(map(is_number, body)):
        raise FusionError(f"A recipe's shift wants two numbers, east and north, got {body!r}.")
    return float(body[0]), float(body[1])


def _check_shift(recipe: Recipe) -> None:
    most = MAX_SHIFT * recipe.ratio * abs(recipe.geobox.affine.a)
    if len(recipe.shift) != 2 or not all(is_number(part) and abs(part) <= most for part in recipe.shift):
        raise FusionError(
            f"A recipe's shift wants (east, north) of at most {MAX_SHIFT:g} coarse pixels ({most:g} in units of the "
            f"grid), got {recipe.shift}: look at the alignment report."
        )


def _get(body: Any, name: str, kind: type) -> Any:
    value = body.get(name) if isinstance(body, dict) else None
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise FusionError(
            f"A recipe's {name!r} wants {kind.__name__}, got {type(value).__name__}: the recipe is broken."
        )
    return value
