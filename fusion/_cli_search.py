"""The subcommand search: what sources there are, the images of one, or a recipe proposed from them."""

import argparse
import json
from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

from . import methods, sources
from ._cli_commands import data, default, pixel, settings
from ._cli_files import read_area, write_text
from ._cli_text import Progress, note, percent, print_json, strong, table
from ._cli_work import Result, in_turn, waited
from ._product import Product
from .area import Ring, extent, rectangle
from .errors import FusionError
from .propose import bounds_of, choose, find, options_of, plan_read, recipe_for
from .recipe import Recipe
from .sources import Dates, Item, is_remote, offered, product

ROLES = ("fine", "coarse", "truth")
SHOWN = 10  # data sets of own files that are named
PROPOSE = ("target", "pairs", "method", "set", "save")  # arguments with which a recipe is wanted


def search(args: argparse.Namespace) -> int:
    """List the images of a source, or propose a recipe from them; without a source list the sources."""
    if args.source is None:
        return _sources(args)
    source = sources.get(args.source)
    area, options = _area(args), settings(getattr(source, "Options", None), args.option)
    if args.product is not None and (args.fine or args.coarse):
        args.usage("--product lists one product: leave out --fine and --coarse")
    if is_remote(args.source):
        _check_bounded(args, area)
    _check_own(args, source, options)
    if any(getattr(args, name) is not None for name in PROPOSE):
        return _propose(args, area, options)
    rows = _rows(args, options)
    items = _searched(args, len(rows), lambda: _found(args, rows, area, options))
    if args.json:
        print_json([_item(item) for item in items])
        return 0
    if not items:
        note(f"No image of the source {args.source!r} in this area and time. {_coverage(rows)}")
        return 0
    cells = [(str(item.day), item.product, _side(item), percent(item.cloud), item.id) for item in items]
    print(table(("day", "product", "side and origin", "cloud over area", "id"), cells, right=(3,)))
    where = "--save recipe.json and without --product" if args.product else "--save recipe.json"
    note(f"\n{len(items)} images. A recipe of them: the same command with {where}")
    return 0


def _check_bounded(args: argparse.Namespace, area: Ring | None) -> None:
    """Raise FusionError unless a search over the network says where and when."""
    wanted = {
        "an area (--bounds W S E N or --area FILE.geojson)": area,
        "a first day (--from DAY)": args.first,
        "a last day (--to DAY)": args.last,
    }
    if lacking := [words for words, value in wanted.items() if value is None]:
        raise FusionError(
            f"The source {args.source!r} covers the world and years and is asked over the network: add "
            f"{', '.join(lacking)}."
        )


def _check_own(args: argparse.Namespace, source: Any, options: dict[str, Any]) -> None:
    """Raise FusionError where a source of own files is asked for none of them."""
    if _own(source) and not offered(args.source, "fine", options_of(args.source, options)) and args.product is None:
        keys = source.datasets()
        there = f"there are {', '.join(keys[:SHOWN])}" if keys else "there is none yet"
        raise FusionError(
            f"The source {args.source!r} wants a data set, --option dataset=KEY; {there}. Make one of your files with "
            f"`{args.prog} files FOLDER`."
        )


def _own(module: Any) -> bool:
    """Whether a source's products are made of a person's own files."""
    return hasattr(module, "datasets")


def _searched(args: argparse.Namespace, count: int, work: Callable[[], Result]) -> Result:
    """Search, with a bar where that takes a while."""
    if not is_remote(args.source):
        return work()
    with Progress(f"Searching {args.source}") as bar:
        return waited(work, in_turn(bar, count))


def _rows(args: argparse.Namespace, options: dict[str, Any]) -> list[Product]:
    """Products to list: the one named, one of either side, or all that the source has."""
    if args.product is not None:
        return [product(args.source, args.product)]
    given = options_of(args.source, options)
    if args.fine or args.coarse or is_remote(args.source):
        return [choose(args.source, role, getattr(args, role), given) for role in ("fine", "coarse")]
    return [row for role in ROLES for row in offered(args.source, role, given)]


def _found(args: argparse.Namespace, rows: Sequence[Product], area: Ring | None, options: dict[str, Any]) -> list[Item]:
    each = (find(args.source, row.name, area=area, dates=_dates(args), options=options) for row in rows)
    return sorted((item for items in each for item in items), key=lambda item: (item.day, item.product))


def _propose(args: argparse.Namespace, area: Ring | None, options: dict[str, Any]) -> int:
    if args.product is not None:
        args.usage("a recipe takes a fine and a coarse product: leave out --product")
    name = args.method or "starfm"
    method = methods.build(name, settings(methods.get(name), args.set or []))
    wanted = args.pairs or max(2, method.pairs)
    if lacks := method.lacks(wanted):
        raise FusionError(lacks)
    reasons: list[str] = []

    def made() -> Recipe:
        return recipe_for(
            args.source,
            args.target,
            area=area,
            pairs=wanted,
            method=method,
            options=options,
            dates=_dates(args),
            fine=args.fine,
            coarse=args.coarse,
            tell=reasons.append,
        )

    recipe = _searched(args, 2, made)
    why = " ".join(reasons)
    if lacks := method.lacks(len(recipe.pairs)):
        raise FusionError(f"{why} {lacks}")
    if args.save is not None:
        write_text(args.save, recipe.to_json())
    if args.json:
        print_json({"why": why, "saved": args.save, "recipe": json.loads(recipe.to_json())})
    else:
        _show(args, recipe, why)
    return 0


def _show(args: argparse.Namespace, recipe: Recipe, why: str) -> None:
    height, width = recipe.geobox.shape
    print(strong(f"Target {recipe.target.day}, {recipe.method.title}"))
    print(f"Pairs   {why}")
    print(f"Grid    {height} x {width} fine pixels of {pixel(recipe.geobox)}, ratio {recipe.ratio}")
    print(f"Bands   {', '.join(recipe.bands)}")
    print(f"Data    {data(recipe)}")
    print(f"Reads   {plan_read(recipe)}{', and the network for what is not on disk yet' * is_remote(args.source)}")
    if args.save is not None:
        print(f"Saved   {args.save}")
        real = is_remote(args.source) or _own(sources.get(args.source))
        first = f"{args.prog} align {args.save}, and then " if real else ""
        note(f"\nNext: {first}{args.prog} run {args.save} fused.tif")


def _sources(args: argparse.Namespace) -> int:
    """List all sources with their products and options."""
    given = ("bounds", "area", "first", "last", "product", "fine", "coarse", *PROPOSE)
    if args.option or any(getattr(args, name) is not None for name in given):
        args.usage(f"name the SOURCE to search: {', '.join(sources.names())}")
    every = {name: sources.get(name) for name in sources.names()}
    rows = {name: _products(name, module) for name, module in every.items()}
    if args.json:
        print_json([_source(name, module, rows[name]) for name, module in every.items()])
        return 0
    lines: list[tuple[str, ...]] = [
        (name, row.name, row.role, f"{row.resolution:g} m", _wants(name, module), row.title)
        for name, module in every.items()
        for row in rows[name]
    ]
    lines += [
        (name, "-", "-", "-", _wants(name, module), module.TITLE) for name, module in every.items() if not rows[name]
    ]
    print(table(("source", "product", "role", "pixel", "wants", "title"), lines, right=(3,)))
    chosen = [
        (name, item.name, default(item) or "-", item.allowed(), item.doc)
        for name, module in every.items()
        for item in _options(module)
    ]
    print(f"\n{table(('source', 'option', 'default', 'allowed', 'meaning'), chosen)}")
    note(f"\nThe images of one: {args.prog} search sample")
    return 0


def _products(name: str, module: Any) -> list[Product]:
    """All products of a source; of own files those of the newest data sets."""
    given = [module.Options(dataset=key) for key in module.datasets()[:SHOWN]] if _own(module) else [None]
    return [row for one in given for role in ROLES for row in offered(name, role, one)]


def _source(name: str, module: Any, rows: Sequence[Product]) -> dict[str, Any]:
    """Return what a source has, for JSON."""
    listed = ("name", "title", "role", "resolution", "origin", "level", "span", "licence", "citation", "note")
    return {
        "name": name,
        "title": module.TITLE,
        "description": module.DESCRIPTION,
        "network": is_remote(name),
        "account": _account(module),
        "options": [{"name": item.name, "default": item.default, "doc": item.doc} for item in _options(module)],
        "products": [{**{key: getattr(row, key) for key in listed}, "bands": list(row.bands)} for row in rows],
    }


def _account(module: Any) -> bool:
    """Whether somebody must sign in before a source is asked."""
    return hasattr(module, "sign_in")


def _wants(name: str, module: Any) -> str:
    if _own(module):
        return "own files"
    return ("network, account" if _account(module) else "network") if is_remote(name) else "nothing"


def _options(module: Any) -> tuple[Any, ...]:
    kind = getattr(module, "Options", None)
    return methods.params(kind) if kind is not None else ()


def _area(args: argparse.Namespace) -> Ring | None:
    if args.area is not None:
        return read_area(args.area)
    if args.bounds is None:
        return None
    west, south, east, north = args.bounds
    if not (west < east and south < north):
        raise FusionError(
            f"Bounds want west < east and south < north, got {west:g} to {east:g} and {south:g} to {north:g} degrees: "
            "swap or correct them."
        )
    return rectangle(west, south, east, north)


def _dates(args: argparse.Namespace) -> Dates | None:
    if args.first is None and args.last is None:
        return None
    first, last = args.first or date.min, args.last or date.max
    if first > last:
        raise FusionError(f"--from {first} is after --to {last}: swap them.")
    return first, last


def _item(item: Item) -> dict[str, Any]:
    row = product(item.source, item.product)
    return {
        "day": item.day.isoformat(),
        "source": item.source,
        "product": item.product,
        "role": row.role,
        "origin": row.origin,
        "cloud": item.cloud,
        "id": item.id,
    }


def _side(item: Item) -> str:
    row = product(item.source, item.product)
    return f"{row.role}, {row.origin}"


def _coverage(rows: Sequence[Product]) -> str:
    outline = extent(rows[0]) if rows else None
    if outline is None:
        return "Choose another area or a longer time."
    west, south, east, north = bounds_of(outline)
    return f"It covers --bounds {west:.3f} {south:.3f} {east:.3f} {north:.3f} (degrees)."
