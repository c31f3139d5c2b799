"""The subcommands methods and run: each takes the parsed arguments and returns an exit code."""

import argparse
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from odc.geo.geobox import GeoBox

from . import estimate, methods
from ._cli_files import check_output, read_recipe, write_scene
from ._cli_text import Progress, note, print_json, seconds, strong, table
from ._cli_work import read as read
from .engine import TILES
from .errors import FusionError
from .methods import Method
from .params import Param
from .recipe import Recipe, run
from .scene import Scene
from .sources import product
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
            default(p),
            p.allowed(),
            p.unit or "-",
            p.doc,
        )
        for p in methods.params(kind)
    ]
    print(table(("parameter", "default", "allowed", "unit", "meaning"), rows) if rows else "No parameters.")
    return 0


def default(item: Param) -> str:
    """Default of a parameter as one types it."""
    return str(item.default).lower() if item.kind is bool else f"{item.default}"


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
    print(f"Data    {data(recipe)}")
    print(f"Time    {seconds(spent)}")
    return 0


def check_pairs(recipe: Recipe, method: Method) -> None:
    """Find out before anything is read whether a recipe has pairs enough for a method, and a network its weights."""
    method.check_for(len(recipe.pairs), recipe.bands, recipe.ratio)


def fused(recipe: Recipe, stack: Stack, args: argparse.Namespace) -> Scene:
    """Fuse a recipe with a progress bar, after saying how long it will take if that is known or cheap to know."""
    if args.threads:
        os.environ["FUSION_THREADS"] = str(args.threads)
    size = estimate.Size.of(stack)
    expected = estimate.seconds(recipe.method, size, measure=size.height * size.width >= LARGE)
    if expected is not None:
        note(f"{recipe.method.title}: {estimate.words(expected)} on this machine")
    tiles = min(args.threads or os.cpu_count() or 1, TILES)
    executor, start = ThreadPoolExecutor(tiles), time.perf_counter()
    try:
        with Progress(recipe.method.title) as progress:
            scene = run(recipe, stack=stack, tile=args.tile or 1024, executor=executor, progress=progress)
    finally:  # after Ctrl-C nobody waits for tiles that nobody wants
        executor.shutdown(wait=False, cancel_futures=True)
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


def pixel(geobox: GeoBox) -> str:
    """Side of a pixel with its unit."""
    unit = "units" if geobox.crs is None else "degrees" if geobox.crs.geographic else "m"
    return f"{abs(geobox.affine.a):g} {unit}"


def data(recipe: Recipe) -> str:
    """Titles of a recipe's products, with where they come from."""
    rows = {item.product: product(item.source, item.product) for item in (recipe.pairs[0][1], recipe.target)}
    return "; ".join(row.title if row.origin in row.title else f"{row.title} ({row.origin})" for row in rows.values())
