"""The subcommand align: how coarse and fine images of a recipe lie on each other, and the recipe that corrects it."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ._cli_files import check_folder, read_recipe, write_text
from ._cli_text import Progress, note, print_json, strong, table
from ._cli_work import read, waited
from .preprocess import Card, Regression, Report, regression, report
from .recipe import Recipe
from .sources import local
from .stack import Stack


def align(args: argparse.Namespace) -> int:
    """Print the alignment report of a recipe's pairs, and save the recipe that corrects what was found."""
    if args.save is not None:
        check_folder(Path(args.save).parent)
    recipe = read_recipe(args.recipe)
    raw = read(replace(recipe, shift=(0.0, 0.0), harmonise=False))
    with Progress("Comparing") as bar:
        found = waited(lambda: local.in_metres(report(raw.scenes()), recipe.pairs[0][1], recipe.geobox), bar)
    shift = found.shift if found.corrected else recipe.shift
    better = replace(recipe, shift=shift, harmonise=args.harmonise or recipe.harmonise)
    gone = _unreached(better)
    lines = _lines(args, better, raw)
    if args.save is not None:
        write_text(args.save, better.to_json())
    if args.json:
        line = None if lines is None else asdict(lines)
        print_json({**_facts(found, better), "unreached": asdict(gone), "harmonise": line, "saved": args.save})
        return 0
    _show(args, found, recipe)
    if gone.share:
        print(gone.words)
    if lines is not None:
        _show_lines(lines)
    _show_end(args, found, recipe)
    return 0


def _unreached(recipe: Recipe) -> local.Unreached:
    """What of the result will have no coarse pixel because of the recipe's shift."""
    coarse = [recipe.target, *(pair[0] for pair in recipe.pairs)]
    return local.unreached(coarse, recipe.geobox.zoom_out(recipe.ratio), recipe.area, recipe.shift)


def _lines(args: argparse.Namespace, recipe: Recipe, raw: Stack) -> Regression | None:
    """Regression of the coarse sensor on the fine one where it is asked for, on images that are aligned."""
    if not args.harmonise:
        return None
    aligned = read(replace(recipe, harmonise=False)) if any(recipe.shift) else raw
    with Progress("Regressing") as bar:
        return waited(lambda: regression(aligned), bar)


def _facts(found: Report, recipe: Recipe) -> dict[str, Any]:
    cards = [{**asdict(card), "day": card.day.isoformat(), "sharp": card.sharp} for card in found.cards]
    return {
        "verdict": found.verdict,
        "corrected": found.corrected,
        "shift": list(found.shift),
        "unit": found.unit,
        "coarse_pixel": found.pixel,
        "fine_pixel": abs(recipe.geobox.affine.a),
        "dates": cards,
        "recipe": json.loads(recipe.to_json()),
    }


def _show(args: argparse.Namespace, found: Report, recipe: Recipe) -> None:
    size, unit = abs(recipe.geobox.affine.a), found.unit
    header = ("day", f"east {unit}", f"north {unit}", "east px", "north px", "r before", "r after", f"PSF {unit}", "")
    print(table(header, [_row(card, size, unit) for card in found.cards], right=range(1, 8)))
    if args.bands:
        rows = [row for card in found.cards for row in _band_rows(card)]
        print(f"\n{table(('day', 'band', 'gain', 'offset', 'r'), rows, right=(2, 3, 4))}")
    print(f"\n{strong('Verdict')} {found.verdict}")


def _row(card: Card, size: float, unit: str) -> tuple[str, ...]:
    digits = _digits(unit)
    places = ((card.dx, card.dx_error), (card.dy, card.dy_error))
    away = [_pm(value, error, digits) for value, error in places]
    away += [_pm(value / size, error / size, 2) for value, error in places]
    width = _number(card.psf_width, 0 if unit == "m" else digits)
    return str(card.day), *away, _number(card.r_zero, 3), _number(card.r, 3), width, card.doubt or "sharp"


def _band_rows(card: Card) -> list[tuple[str, ...]]:
    values = zip(card.bands, card.gain, card.offset, card.correlation, strict=True)
    return [(str(card.day), band, f"{gain:.3f}", f"{offset:+.4f}", _number(r, 3)) for band, gain, offset, r in values]


def _digits(unit: str) -> int:
    """Digits after the point: a tenth of a metre or pixel."""
    return 6 if unit == "degrees" else 1


def _pm(value: float, error: float, digits: int) -> str:
    if value != value:
        return "-"
    return f"{round(value, digits) + 0.0:+.{digits}f} ± {error:.{digits}f}"  # + 0.0: no "-0.0"


def _number(value: float, digits: int) -> str:
    return "-" if value != value else f"{value:.{digits}f}"


def _show_lines(lines: Regression) -> None:
    rows: Sequence[tuple[str, ...]] = [
        (band, f"{gain:.3f}", f"{offset:+.4f}", _number(r, 3), f"{count:,}")
        for band, gain, offset, r, count in zip(
            lines.bands, lines.gain, lines.offset, lines.r, lines.count, strict=True
        )
    ]
    print(f"\n{strong('Harmonise')} coarse = gain x fine + offset, over all pairs")
    print(table(("band", "gain", "offset", "r", "pixels"), rows, right=(1, 2, 3, 4)))
    if lines.identity:
        print("It changes nothing: the images tell no line (too few pixels, r below 0.5, or a gain beyond 0.5 to 2).")


def _show_end(args: argparse.Namespace, found: Report, recipe: Recipe) -> None:
    """Say what was saved, and what to do next."""
    if any(recipe.shift):
        east, north = (f"{part:+.{_digits(found.unit)}f} {found.unit}" for part in recipe.shift)
        note(f"\nThe recipe had a shift of {east} east and {north} north; the report is of the images without it.")
    if args.save is None:
        if found.corrected:
            note(f"\nNext: {args.prog} align {args.recipe} --save corrected.json")
        return
    if found.corrected:
        east, north = (f"{part:+.{_digits(found.unit)}f} {found.unit}" for part in found.shift)
        print(f"Saved   {args.save}, which reads the coarse images {east} east and {north} north")
    else:
        kept = "its own shift stays" if any(recipe.shift) else "the recipe reads the images where they say they lie"
        print(f"Saved   {args.save}; there was nothing to correct, {kept}")
    note(f"\nNext: {args.prog} run {args.save} fused.tif")
