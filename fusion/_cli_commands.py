"""The subcommands methods, search and run: each takes the parsed arguments and returns an exit code."""

import argparse
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any

from odc.geo.geobox import GeoBox

from . import estimate, methods
from ._cli_files import check_output, read_area, read_recipe, write_scene, write_text
from ._cli_text import Progress, note, percent, print_json, seconds, strong, table
from .engine import TILES
from .errors import FusionError
from .methods import Method
from .products import PRODUCTS, Product, product
from .propose import bounds_of, find, plan_read, recipe_for
from .recipe import Recipe, Ring, extent, load, rectangle, run
from .scene import Scene
from .sources import Dates, Item
from .sources import get as get_source
from .stack import Stack

LARGE = 1_500_000  # fine pixels; to measure a method for an estimate takes a tenth of the run


def list_methods(args: argparse.Namespace) -> int:
    """Show all methods, or one in full."""
    if args.name is None:
        kinds = [methods.get(name) for name in methods.names()]
        if args.json:
            print_json([describe(kind) for kind in kinds])
            return 0
        lines = [(kind.name(), kind.title, str(kind.pairs), kind.summary()) for kind in kinds]
        print(table(("name", "title", "pairs needed", "what it does"), lines, right=(2,)))
        note(f"\nMore of one method: {args.prog} methods {kinds[-1].name()}")
        return 0
    kind = methods.get(args.name)
    if args.json:
        print_json(describe(kind))
        return 0
    print(strong(f"{kind.title} ({kind.name()})"), kind.summary(), "", kind.explanation(), "", sep="\n")
    print(f"Pairs   at least {kind.pairs}\nPaper   {kind.paper}\n")
    rows = [
        (
            p.name,
            str(p.default).lower() if p.kind is bool else f"{p.default}",
            p.allowed(),
            p.unit or "-",
            p.doc,
        )
        for p in methods.params(kind)
    ]
    print(table(("parameter", "default", "allowed", "unit", "meaning"), rows) if rows else "No parameters.")
    return 0


def describe(kind: type[Method]) -> dict[str, Any]:
    """Return what the catalogue knows of a method, for JSON."""
    parameters = [
        {
            "name": item.name,
            "type": item.kind.__name__,
            "default": item.default,
            "low": item.low,
            "high": item.high,
            "odd": item.odd,
            "choices": list(item.choices),
            "unit": item.unit,
            "doc": item.doc,
        }
        for item in methods.params(kind)
    ]
    return {
        "name": kind.name(),
        "title": kind.title,
        "summary": kind.summary(),
        "explanation": kind.explanation(),
        "paper": kind.paper,
        "pairs": kind.pairs,
        "parameters": parameters,
    }


def search(args: argparse.Namespace) -> int:
    """List the images of a source, or propose a recipe from them."""
    area, options = _area(args), settings(getattr(get_source(args.source), "Options", None), args.option)
    if any(value is not None for value in (args.target, args.save, args.pairs, args.method, args.set)):
        return _propose(args, area, options)
    rows = [row for row in PRODUCTS.values() if row.source == args.source]
    if args.product is not None:
        rows = [product(args.source, args.product)]
    items = [
        item for row in rows for item in find(args.source, row.name, area=area, dates=_dates(args), options=options)
    ]
    items.sort(key=lambda item: (item.day, item.product))
    if args.json:
        print_json([_item(item) for item in items])
        return 0
    if not items:
        note(f"No image of the source {args.source!r} in this area and time. {_coverage(rows)}")
        return 0
    cells = [(str(item.day), item.product, _side(item), percent(item.cloud), item.id) for item in items]
    print(table(("day", "product", "side and origin", "cloud", "id"), cells, right=(3,)))
    note(f"\n{len(items)} images. A recipe of them: {args.prog} search {args.source} --save recipe.json")
    return 0


def _propose(args: argparse.Namespace, area: Ring | None, options: dict[str, Any]) -> int:
    if args.product is not None:
        args.usage("a recipe takes a fine and a coarse product: leave out --product")
    name = args.method or "starfm"
    method = methods.build(name, settings(methods.get(name), args.set or []))
    wanted = args.pairs or max(2, method.pairs)
    if lacks := method.lacks(wanted):
        raise FusionError(lacks)
    reasons: list[str] = []
    recipe = recipe_for(
        args.source,
        args.target,
        area=area,
        pairs=wanted,
        method=method,
        options=options,
        dates=_dates(args),
        tell=reasons.append,
    )
    why = " ".join(reasons)
    if lacks := method.lacks(len(recipe.pairs)):
        raise FusionError(f"{why} {lacks}")
    if args.save is not None:
        write_text(args.save, recipe.to_json())
    if args.json:
        print_json({"why": why, "saved": args.save, "recipe": json.loads(recipe.to_json())})
        return 0
    height, width = recipe.geobox.shape
    print(strong(f"Target {recipe.target.day}, {recipe.method.title}"))
    print(f"Pairs   {why}")
    print(f"Grid    {height} x {width} fine pixels of {pixel(recipe.geobox)}, ratio {recipe.ratio}")
    print(f"Bands   {', '.join(recipe.bands)}")
    print(f"Data    {_data(recipe)}")
    print(f"Reads   {plan_read(recipe)}")
    if args.save is not None:
        print(f"Saved   {args.save}")
        note(f"\nNext: {args.prog} run {args.save} fused.tif")
    return 0


def run_recipe(args: argparse.Namespace) -> int:
    """Fuse a recipe and write the result."""
    check_output(args.out)
    recipe = read_recipe(args.recipe)
    check_pairs(recipe, recipe.method)
    start = time.monotonic()
    scene = fused(recipe, read(recipe), args)
    write_scene(scene, args.out, recipe.tags())
    spent = time.monotonic() - start
    bands, height, width = scene.shape
    if args.json:
        facts = {
            "path": args.out,
            "method": recipe.method.name(),
            "target": recipe.target.day.isoformat(),
            "pairs": [coarse.day.isoformat() for coarse, _ in recipe.pairs],
            "bands": list(scene.bands),
            "shape": [height, width],
            "pixels": height * width,
            "valid": scene.valid,
            "seconds": spent,
        }
        print_json(facts)
        return 0
    days = " and ".join(str(coarse.day) for coarse, _ in recipe.pairs)
    print(strong(args.out))
    print(f"Day     {recipe.target.day}, by {recipe.method.title} from {days}")
    print(f"Pixels  {height} x {width} = {height * width:,} of {pixel(scene.geobox)}, {100 * scene.valid:.1f} % valid")
    print(f"Bands   {', '.join(scene.bands)} ({bands}), surface reflectance, float32")
    print(f"Data    {_data(recipe)}")
    print(f"Time    {seconds(spent)}")
    return 0


def check_pairs(recipe: Recipe, method: Method) -> None:
    """Find out before anything is read whether a recipe has pairs enough for a method."""
    if lacks := method.lacks(len(recipe.pairs)):
        raise FusionError(lacks)


def read(recipe: Recipe) -> Stack:
    """Read the images of a recipe."""
    with Progress("Reading"):
        return load(recipe)


def fused(recipe: Recipe, stack: Stack, args: argparse.Namespace) -> Scene:
    """Fuse a recipe with a progress bar, after saying how long it will take if that is known or cheap to know."""
    if args.threads:
        os.environ["FUSION_THREADS"] = str(args.threads)
    size = estimate.Size.of(stack)
    expected = estimate.seconds(recipe.method, size, measure=size.height * size.width >= LARGE)
    if expected is not None:
        note(f"{recipe.method.title}: {estimate.words(expected)} on this machine")
    tiles = min(args.threads or os.cpu_count() or 1, TILES)
    with Progress(recipe.method.title) as progress, ThreadPoolExecutor(tiles) as executor:
        start = time.perf_counter()
        scene = run(recipe, stack=stack, tile=args.tile or 1024, executor=executor, progress=progress)
    if not args.tile:
        estimate.learn(recipe.method, size, time.perf_counter() - start)
    return scene


def settings(kind: Any, given: Sequence[str]) -> dict[str, Any]:
    """Turn ``["window=41"]`` into ``{"window": 41}`` in the parameter's own type; the class checks it."""
    known = {item.name: item for item in methods.params(kind)} if kind is not None else {}
    out: dict[str, Any] = {}
    for text in given:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise FusionError(f"A setting wants name=value, got {text!r}: for example window=41.")
        out[name] = _value(known[name].kind, value) if name in known else value
    return out


def _value(kind: type, text: str) -> Any:
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    try:
        return kind(text)
    except ValueError:
        return text


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


def pixel(geobox: GeoBox) -> str:
    """Side of a pixel with its unit."""
    unit = "units" if geobox.crs is None else "degrees" if geobox.crs.geographic else "m"
    return f"{abs(geobox.affine.a):g} {unit}"


def _data(recipe: Recipe) -> str:
    rows = {item.product: product(item.source, item.product) for item in (recipe.pairs[0][1], recipe.target)}
    return "; ".join(row.title if row.origin in row.title else f"{row.title} ({row.origin})" for row in rows.values())
