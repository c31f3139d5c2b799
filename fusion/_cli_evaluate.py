"""The subcommand evaluate: predictions against the truth, as a table, CSV or JSON."""

import argparse
import csv
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import checkpoints, methods, sources
from ._cli_commands import check_pairs, fused, pixel, read
from ._cli_files import check_folder, read_header, read_recipe, write_scene
from ._cli_text import note, print_json, strong, table
from .area import clip
from .errors import FusionError
from .methods import Method
from .metrics import METRICS, Metric, best_of, evaluate
from .propose import bounds_of, truth_item
from .recipe import Recipe, data_tags
from .scene import Scene
from .stack import UNKNOWN_DAY

FLOORS = ("nearest", "delta")

Scores = dict[str, dict[str, float]]  # metric -> band or "mean" -> value


def evaluate_files(args: argparse.Namespace) -> int:
    """Compare two files, or predict the hidden image of a recipe's target day with several methods."""
    _check_outputs(args)
    _check_metrics(args)
    if args.truth is not None:
        return _two_files(args)
    if args.ratio is not None:
        args.usage("a recipe knows its ratio: leave out --ratio, or give --truth")
    if args.scale is not None:
        args.usage("a recipe knows the scale of its images: leave out --scale, or give --truth")
    return _recipe(args)


def _recipe(args: argparse.Namespace) -> int:
    recipe = read_recipe(args.recipe)
    if args.bands is not None:
        recipe = replace(recipe, bands=_known_bands(recipe, args.bands))
    candidates = _candidates(recipe, args.methods or [])
    for method in candidates.values():
        check_pairs(recipe, method)
        _note_seen(recipe, method)
    item = truth_item(recipe)
    truth = clip(sources.get(item.source).read(item, recipe.geobox, recipe.bands), recipe.area)
    stack, scores = read(recipe), dict[str, Scores]()
    for name, method in candidates.items():
        one = replace(recipe, method=method)
        scene = fused(one, stack, args)
        scores[name] = evaluate(scene, truth, args.metrics, ratio=recipe.ratio)
        if args.save is not None:
            write_scene(scene, str(Path(args.save) / f"{name}.tif"), one.tags())
    if args.save is not None:
        write_scene(truth, str(Path(args.save) / "truth.tif"), data_tags([item]))
    days = [coarse.day.isoformat() for coarse, _ in recipe.pairs]
    facts = {
        "target": recipe.target.day.isoformat(),
        "pairs": days,
        "truth": item.id,
        "ratio": recipe.ratio,
        "valid": truth.valid,
    }
    title = f"Hidden image of {truth.day} ({item.product}), predicted from {' and '.join(days)}"
    return _report(args, scores, truth, facts, title)


def _note_seen(recipe: Recipe, method: Any) -> None:
    """Say of a network whose weights were trained on the image that is hidden that it knows the answer.

    Raises
    ------
    FusionError
        If a network has no weights: said before anything is read.
    """
    if not hasattr(method, "networks"):
        return
    from .methods._networks import chosen  # needs torch, which a network has imported already

    row, day = chosen(method, recipe.bands, recipe.ratio), recipe.target.day
    if checkpoints.seen(row, day, bounds_of(recipe.area)):
        note(
            f"Note: the weights of {method.title} ({row.name}) were trained on the fine image of {day} over this area, "
            "so they have seen the answer. How well they predict this day says nothing about others."
        )


def _two_files(args: argparse.Namespace) -> int:
    for option in ("methods", "save"):
        if getattr(args, option) is not None:
            args.usage(f"with --truth two files are compared and no method runs: leave out --{option}")
    pred, truth = _read_both(args.recipe, args.truth, args.scale)
    if args.bands is not None:
        pred, truth = pred.select(args.bands), truth.select(args.bands)
    if UNKNOWN_DAY not in (pred.day, truth.day) and pred.day != truth.day:
        note(f"Note: the prediction is of {pred.day}, the truth of {truth.day}.")
    scores = {"prediction": evaluate(pred, truth, args.metrics, ratio=args.ratio)}
    facts = {"prediction": args.recipe, "truth": args.truth, "ratio": args.ratio, "valid": truth.valid}
    return _report(args, scores, truth, facts, f"{args.recipe} against {args.truth}")


def _read_both(prediction: str, truth: str, scale: float | None) -> tuple[Scene, Scene]:
    """Read two images; bands without names are taken in the order of the other file's.

    `scale` is for a file of whole numbers that states none; the other file may be a result, which is reflectance.
    """
    headers = {path: read_header(path) for path in (prediction, truth)}
    some = headers[prediction].bands or headers[truth].bands
    scenes = []
    for path, header in headers.items():
        names = header.bands or some or tuple(f"band{i + 1}" for i in range(header.count))
        if not header.bands and some:
            note(f"Note: {path} does not name its bands; they are taken as {', '.join(names)}.")
        day = None if header.dated else UNKNOWN_DAY
        scenes.append(Scene.read(path, bands=names, day=day, scale=None if header.scaled else scale))
    return scenes[0], scenes[-1]


def _candidates(recipe: Recipe, names: list[str]) -> dict[str, Method]:
    """Floors, then the recipe's method with its parameters, then the others with their defaults."""
    out = {name: methods.get(name)() for name in (*FLOORS, *names)}
    own = recipe.method.name()
    return (
        {name: out[name] for name in FLOORS if name != own}
        | {own: recipe.method}
        | {name: method for name, method in out.items() if name not in (*FLOORS, own)}
    )


def _known_bands(recipe: Recipe, bands: list[str]) -> tuple[str, ...]:
    if unknown := [band for band in bands if band not in recipe.bands]:
        raise FusionError(
            f"The recipe has no band {', '.join(unknown)}; it has {', '.join(recipe.bands)}: choose among these."
        )
    return tuple(dict.fromkeys(bands))


def _check_metrics(args: argparse.Namespace) -> None:
    """Find an unknown name before the work, not after it."""
    args.metrics = args.metrics and [name.upper() for name in args.metrics]
    if unknown := [name for name in args.metrics or () if name not in METRICS]:
        raise FusionError(
            f"There is no metric {', '.join(unknown)}; there are {', '.join(METRICS)}: choose among these."
        )


def _check_outputs(args: argparse.Namespace) -> None:
    if args.csv is not None:
        check_folder(Path(args.csv).parent)
    if args.save is not None:
        try:
            Path(args.save).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FusionError(f"Cannot make the folder {args.save}: {error.strerror}. Give another one.") from error
        check_folder(Path(args.save))


def _report(
    args: argparse.Namespace, scores: Mapping[str, Scores], truth: Scene, facts: dict[str, Any], title: str
) -> int:
    """Write the scores in the forms asked for."""
    best = _best(scores)
    if args.csv is not None:
        _write_csv(args.csv, scores, best)
    if args.json:
        print_json({**facts, "metrics": {name: _about(METRICS[name]) for name in best}, "scores": scores, "best": best})
        return 0
    height, width = truth.geobox.shape
    print(strong(title))
    print(f"{height} x {width} pixels of {pixel(truth.geobox)}, {100 * truth.valid:.1f} % of the truth valid")
    for band in (*truth.bands, "mean"):
        rows = [_row(name, band, scores, best) for name in best if band in best[name]]
        print(f"\n{strong(band if band != 'mean' else 'mean of the bands')}")
        print(
            table(
                ("metric", "unit", "ideal", *(f"{method} " for method in scores)),
                rows,
                right=range(2, 3 + len(scores)),
            )
        )
    ranges = [(name, METRICS[name].data_range) for name in best if METRICS[name].data_range]
    if ranges:
        print(f"\n{table(('metric', 'relative to'), ranges)}")
    if args.csv is not None:
        note(f"\nThe table as CSV: {args.csv}")
    return 0


def _about(metric: Metric) -> dict[str, Any]:
    """What is published beside a metric's values; `data_range` is null where they are absolute."""
    return {"unit": metric.unit, "ideal": metric.best, "data_range": metric.data_range or None}


def _best(scores: Mapping[str, Scores]) -> dict[str, dict[str, tuple[str, ...]]]:
    """Methods that are best, by metric and band; with one method there is nothing to be best of."""
    first = next(iter(scores.values()))
    many = len(scores) > 1
    return {
        name: {band: best_of(scores, name, band=band) if many else () for band in values}
        for name, values in first.items()
    }


def _row(
    name: str, band: str, scores: Mapping[str, Scores], best: Mapping[str, Mapping[str, tuple[str, ...]]]
) -> list[str]:
    values = (f"{_number(scores[method][name][band])}{'*' if method in best[name][band] else ' '}" for method in scores)
    unit = METRICS[name].unit
    return [name, "-" if unit == "1" else unit, f"{METRICS[name].best:g}", *values]


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "-" if math.isnan(value) else f"{value:g}"
    return f"{round(value, 4) + 0.0:.4f}" if abs(value) < 10 else f"{value:.2f}"  # + 0.0: no "-0.0000"


def _write_csv(path: str, scores: Mapping[str, Scores], best: Mapping[str, Mapping[str, tuple[str, ...]]]) -> None:
    """Write one line per method, metric and band; a value that is not finite is empty."""
    try:
        with open(path, "w", newline="", encoding="utf-8") as file:
            lines = csv.writer(file)
            lines.writerow(("method", "metric", "band", "value", "unit", "ideal", "data_range", "best"))
            for method, rows in scores.items():
                for name, values in rows.items():
                    for band, value in values.items():
                        known = repr(value) if math.isfinite(value) else ""
                        about = METRICS[name].unit, f"{METRICS[name].best:g}", METRICS[name].data_range
                        lines.writerow((method, name, band, known, *about, int(method in best[name][band])))
    except OSError as error:
        raise FusionError(f"Cannot write {path}: {error.strerror}. Give another file name.") from error
