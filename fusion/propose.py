"""Propose: which pairs for a target day and why, which target first, what is read, a whole recipe, and its series."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from odc.geo.geobox import GeoBox

from . import methods, sources
from ._product import Product
from .area import Ring, check_ring, extent, grid
from .engine import ignore
from .errors import FusionError
from .methods import Method
from .pairing import ItemPair, default_target, listed, pairs_of, propose
from .recipe import Recipe, load
from .sources import Bounds, Dates, Item, offered, product
from .stack import Pair

NOTHING = 0.995  # share of the area that is missing
RATE = 15e6  # bytes of float32 pixels read and brought to reflectance in a second
OVERHEAD = 0.02  # seconds to open one image


@dataclass(frozen=True)
class Reading:
    """What will be read for a recipe, before it is read.

    Parameters
    ----------
    images : int
        Fine and coarse images.
    pixels : int
        Pixels of all images together, each counted once for all its bands.
    bands : int
        Bands of a pixel.
    """

    images: int
    pixels: int
    bands: int

    @property
    def bytes(self) -> int:
        """Memory that the pixels take as float32."""
        return 4 * self.pixels * self.bands

    @property
    def seconds(self) -> float:
        """Expected time to read them."""
        return self.images * OVERHEAD + self.bytes / RATE

    def __str__(self) -> str:
        time = "under 1 s" if self.seconds < 1 else f"about {self.seconds:.0f} s"
        return f"{self.images} images, {self.pixels:,} pixels, {self.bytes / 1e6:.1f} MB, {time}"


def plan_read(what: Recipe | tuple[GeoBox, int], bands: int | None = None, pairs: int | None = None) -> Reading:
    """Say what a recipe will read, or a grid before there is a recipe.

    Parameters
    ----------
    what : Recipe or (GeoBox, int)
        A recipe, or fine grid and ratio as :func:`fusion.recipe.grid` returns them.
    bands, pairs : int, optional
        Number of bands and pairs; default is the recipe's.

    Raises
    ------
    ValueError
        If a grid comes without `bands` or `pairs`.

    Examples
    --------
    >>> plan_read((GeoBox((100, 100), (10, 0, 0, 0, -10, 0), "EPSG:3035"), 10), bands=4, pairs=2)
    Reading(images=5, pixels=20300, bands=4)
    """
    if isinstance(what, Recipe):
        geobox, ratio = what.geobox, what.ratio
        bands, pairs = bands or len(what.bands), pairs or len(what.pairs)
    else:
        geobox, ratio = what
    if not bands or not pairs:
        raise ValueError(f"plan_read wants at least one band and one pair, got {bands} and {pairs}: pass both.")
    fine = geobox.shape[0] * geobox.shape[1]
    return Reading(2 * pairs + 1, pairs * fine + (pairs + 1) * (fine // ratio**2), bands)


def first_target(source: str, fine: Sequence[Item], coarse: Sequence[Item]) -> date | None:
    """Return the day that a source itself shows first (its ``FIRST_TARGET``), else :func:`default_target`."""
    shown: date | None = getattr(sources.get(source), "FIRST_TARGET", None)
    return shown if shown in {item.day for item in coarse} else default_target(fine, coarse)


def find(
    source: str,
    name: str,
    *,
    area: Ring | None = None,
    dates: Dates | None = None,
    options: Mapping[str, Any] | None = None,
) -> list[Item]:
    """Search one product of a source, by names.

    Parameters
    ----------
    source, name : str
        Registry name of the source, and product within it.
    area : tuple of (lon, lat), optional
        Outline in degrees; default is everywhere.
    dates : (date, date), optional
        First and last day, both included; default is always.
    options : mapping, optional
        What the source lets one choose, by name.

    Raises
    ------
    FusionError
        If source, product or an option is unknown.
    """
    return _search(source, product(source, name), area, dates, options_of(source, options or {}))


def _search(source: str, row: Product, area: Ring | None, dates: Dates | None, options: Any) -> list[Item]:
    search: Any = sources.get(source).search
    if area is not None:
        check_ring(area)
    bounds = None if area is None else bounds_of(area)
    found: list[Item] = search(row.name, bounds, dates, **({} if options is None else {"options": options}))
    return found


def truth_item(recipe: Recipe) -> Item:
    """Find the fine image of a recipe's target day, to be hidden and compared with.

    Raises
    ------
    FusionError
        If the source has none.
    """
    fine, target = recipe.pairs[0][1], recipe.target
    given = sources.options_in(fine)
    for row in (*offered(fine.source, "truth", given), product(fine.source, fine.product)):
        for item in _search(fine.source, row, recipe.area, (target.day, target.day), given):
            if item.day == target.day:
                return item
    raise FusionError(
        f"The source {fine.source!r} has no fine image of the target day {target.day} to compare with: "
        "choose a target day that has one."
    )


def days_of(recipe: Recipe) -> dict[date, ItemPair]:
    """Pairs ``(coarse, fine)`` that there are over a recipe's area, by day; the target's day is not among them.

    Of a source of the whole world they are those between the recipe's first and last day.

    Raises
    ------
    FusionError
        If a source cannot be searched.
    """
    fine, target = recipe.pairs[0][1], recipe.target
    given = sources.options_in(fine)
    known = sorted([target.day, *(coarse.day for coarse, _ in recipe.pairs)])
    sharp, blurred = (
        _search(
            item.source, product(item.source, item.product), recipe.area,
            (known[0], known[-1]) if sources.is_remote(item.source) else None, given,
        )
        for item in (fine, target)
    )  # fmt: skip
    found = {pair[0].day: pair for pair in pairs_of(sharp, blurred) if max(item.cloud or 0 for item in pair) < NOTHING}
    found |= {pair[0].day: pair for pair in recipe.pairs}
    return {day: found[day] for day in sorted(found) if day != target.day}


def with_days(recipe: Recipe, days: Iterable[date]) -> Recipe:
    """Return the recipe with the pairs of these days in place of its own.

    Raises
    ------
    FusionError
        If a day has no pair, or is the target's.
    """
    wanted = sorted(set(days))
    have = {pair[0].day: pair for pair in recipe.pairs}
    if recipe.target.day in wanted:
        raise FusionError(
            f"The target day {recipe.target.day} is to be predicted, so its fine image would be the answer: leave it "
            "out."
        )
    if set(wanted) - have.keys():
        have = days_of(recipe)
    if missing := [day for day in wanted if day not in have]:
        raise FusionError(
            f"There is no pair of {listed(missing)} over this area; there are pairs of {listed(list(have))}: choose "
            "among these."
        )
    return replace(recipe, pairs=tuple(have[day] for day in wanted))


def series(
    recipe: Recipe, days: Iterable[date] | None = None, *, progress: Callable[[float], None] = ignore
) -> list[Pair]:
    """Read pairs on a recipe's grids, shifted and harmonised as it says: what :func:`fusion.training.train` takes.

    Parameters
    ----------
    recipe : Recipe
        Area, grids, products and corrections.
    days : iterable of datetime.date, optional
        Days of the pairs; default is those of the recipe, and ``days_of(recipe)`` is all that there are.
    progress : callable
        As of :func:`fusion.recipe.load`.

    Raises
    ------
    FusionError
        As of :func:`with_days` and :func:`fusion.recipe.load`.

    Examples
    --------
    >>> recipe = recipe_for("sample")
    >>> [pair.day == coarse.day for pair, (coarse, _) in zip(series(recipe), recipe.pairs)]
    [True, True]
    """
    return load(recipe if days is None else with_days(recipe, days), progress=progress).scenes()


def options_of(source: str, values: Mapping[str, Any]) -> Any:
    """Return a source's options as its own dataclass, checked; None where it has none.

    Raises
    ------
    FusionError
        If an option is unknown or out of its range.
    """
    kind: Any = getattr(sources.get(source), "Options", None)
    known = [item.name for item in methods.params(kind)] if kind is not None else []
    if unknown := sorted(set(values) - set(known)):
        have = ", ".join(known) or "none"
        raise FusionError(f"The source {source!r} has no option {', '.join(map(repr, unknown))}; it has {have}.")
    return None if kind is None else kind(**values)


def bounds_of(area: Ring) -> Bounds:
    """West, south, east and north of an outline in degrees."""
    longitudes, latitudes = zip(*area, strict=True)
    return min(longitudes), min(latitudes), max(longitudes), max(latitudes)


def recipe_for(
    source: str,
    target: date | None = None,
    *,
    area: Ring | None = None,
    pairs: int = 2,
    method: str | Method = "starfm",
    options: Mapping[str, Any] | None = None,
    dates: Dates | None = None,
    fine: str | None = None,
    coarse: str | None = None,
    tell: Callable[[str], None] | None = None,
) -> Recipe:
    """Make a recipe in one call: search, choose pairs, fit the grid.

    Parameters
    ----------
    source : str
        Registry name, such as "sample".
    target : datetime.date, optional
        The day to predict; default is :func:`first_target`.
    area : tuple of (lon, lat), optional
        Outline in degrees; default is all that the source covers.
    pairs : int
        Pairs wanted.
    method : str or Method
        Registry name, or a method with its parameters.
    options : mapping, optional
        What the source lets one choose, by name.
    dates : (date, date), optional
        First and last day of the images, both included; default is always. A source that covers the world wants it.
    fine, coarse : str, optional
        Products of the source; default is its first ones.
    tell : callable, optional
        Called with the reason for the pairs, in words.

    Raises
    ------
    FusionError
        If there is no such image, no pair, or the area does not fit.

    Examples
    --------
    >>> from datetime import date
    >>> recipe_for("sample", date(2018, 7, 1)).ratio
    10
    """
    given = options_of(source, options or {})
    fine_row, coarse_row = choose(source, "fine", fine, given), choose(source, "coarse", coarse, given)
    ring = area or extent(fine_row)
    if ring is None or (dates is None and sources.is_remote(source)):
        raise FusionError(f"{fine_row.title} covers the world and years: pass the area to fuse and the dates between.")
    geobox, ratio = grid(ring, fine_row, coarse_row)
    sharp, blurred = (_search(source, row, area, dates, given) for row in (fine_row, coarse_row))
    item = _target(blurred, target or first_target(source, sharp, blurred), source)
    chosen, why = propose(sharp, blurred, item.day, pairs)
    if not chosen:
        raise FusionError(why)
    if tell is not None:
        tell(why)
    return Recipe(
        area=ring,
        geobox=geobox,
        ratio=ratio,
        bands=common_bands(fine_row, coarse_row),
        pairs=tuple(chosen),
        target=item,
        method=methods.get(method)() if isinstance(method, str) else method,
    )


def choose(source: str, role: str, name: str | None, options: Any = None) -> Product:
    """Return a source's product of a role by name, or its first one.

    Raises
    ------
    FusionError
        If it has none of that role or name.
    """
    rows = {row.name: row for row in offered(source, role, options)}
    if not rows:
        raise FusionError(f"The source {source!r} has no {role} product: choose another source.")
    if name is not None and name not in rows:
        raise FusionError(f"The source {source!r} has no {role} product {name!r}; it has {', '.join(rows)}.")
    return rows[name] if name is not None else next(iter(rows.values()))


def common_bands(fine: Product, coarse: Product) -> tuple[str, ...]:
    """Bands that both products have, in the order of the fine one.

    Raises
    ------
    FusionError
        If there is none.
    """
    bands = tuple(band for band in fine.bands if band in coarse.bands)
    if not bands:
        raise FusionError(
            f"{fine.title} ({', '.join(fine.bands)}) and {coarse.title} ({', '.join(coarse.bands)}) have no band in "
            "common: choose other products."
        )
    return bands


def _target(coarse: Sequence[Item], day: date | None, source: str) -> Item:
    if day is None or not coarse:
        raise FusionError(
            f"The source {source!r} has too few images here to propose anything ({len(coarse)} coarse): "
            "choose a larger area or a longer time."
        )
    same = [item for item in coarse if item.day == day]
    if not same:
        near = sorted({item.day for item in coarse}, key=lambda other: (abs((other - day).days), other))[:3]
        raise FusionError(
            f"There is no coarse image of {day} to predict from; the nearest are of {listed(sorted(near))}: "
            "choose one of these days."
        )
    clearest = min(same, key=lambda item: item.cloud or 0)
    if clearest.cloud is not None and clearest.cloud >= NOTHING:
        raise FusionError(
            f"The coarse image of {day} shows nothing of the area, only clouds or gaps: choose another day to predict."
        )
    return clearest
