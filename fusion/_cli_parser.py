"""Arguments and help of the command line; imports nothing heavy, so that --help is instant."""

import argparse
import math
from collections.abc import Sequence
from datetime import date
from typing import Any

OVERVIEW = """\
examples, from nothing to a measured result:
  {prog} search sample --save recipe.json
  {prog} run recipe.json fused.tif
  {prog} evaluate recipe.json

exit codes: 0 done, 1 something you can put right (said on stderr), 2 wrong usage, 130 interrupted by Ctrl-C.
Results go to stdout, remarks and progress to stderr. Set NO_COLOR for output without bold type."""
METHODS = """\
examples:
  {prog} methods
  {prog} methods starfm
  {prog} methods starfm --json"""
SEARCH = """\
examples, listing what there is:
  {prog} search sample
  {prog} search sample --product sentinel2 --from 2018-01-01 --to 2018-12-31
  {prog} search lab --bounds -27.1 30.0 -27.0 30.1 --json
examples, proposing a recipe and saving it:
  {prog} search sample --save recipe.json
  {prog} search sample --target 2018-07-01 --pairs 1 --method delta --save delta.json
  {prog} search sample --method starfm --set window=21 --set classes=10 --save starfm.json

With --target, --pairs, --method, --set or --save a recipe is proposed: pairs on either side of the target
day, near in time and clear, and the reason in words. What you leave out is proposed too."""
RUN = """\
examples:
  {prog} search sample --save recipe.json
  {prog} run recipe.json fused.tif
  {prog} run fused.tif again.tif --json

The result is a Cloud Optimized GeoTIFF of surface reflectance (float32, NaN = missing) that carries its
recipe, so a result can be given in place of a recipe and is made again. A file of that name is replaced,
whole or not at all."""
EVALUATE = """\
examples, hiding the fine image of the target day and predicting it:
  {prog} search sample --save recipe.json
  {prog} evaluate recipe.json
  {prog} evaluate recipe.json --methods starfm,delta --metrics RMSE,CC,SSIM --csv table.csv
  {prog} evaluate recipe.json --save predictions
examples, comparing two files on one grid:
  {prog} evaluate predictions/starfm.tif --truth predictions/truth.tif
  {prog} evaluate predictions/starfm.tif --truth predictions/truth.tif --ratio 10 --json

The methods nearest (a copy of the nearest fine image) and delta (fine image plus coarse change) always stand
beside the others: a method that does not beat them has added nothing. The best of a line is marked with *.
ERGAS wants the ratio of coarse to fine pixel size; a recipe knows it. A value that is not finite is empty in
CSV and null in JSON."""


def parser_of(prog: str) -> argparse.ArgumentParser:
    """Make the parser of the whole command line; the examples in its help are typed with `prog`."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Meantime: fuse coarse images of many days with fine ones of few days.",
        epilog=OVERVIEW.format(prog=prog),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version)
    parser.set_defaults(prog=prog)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    parts = (
        (_methods, "methods", "list the fusion methods, or explain one with its parameters", METHODS),
        (_search, "search", "list the images of a source, or propose a recipe from them", SEARCH),
        (_run, "run", "fuse a recipe into a GeoTIFF", RUN),
        (_evaluate, "evaluate", "measure predictions against the truth, per band", EVALUATE),
    )
    for add, name, text, epilog in parts:
        command = commands.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            epilog=epilog.format(prog=prog),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        add(command)
        command.set_defaults(usage=command.error)
        command.add_argument("--json", action="store_true", help="write JSON to stdout, an error as well")
    return parser


def _methods(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", nargs="?", metavar="METHOD", help="method to explain; default: list all")


def _search(command: argparse.ArgumentParser) -> None:
    command.add_argument("source", metavar="SOURCE", help="sample (real, small), lab (synthetic, larger), ...")
    where = command.add_mutually_exclusive_group()
    where.add_argument(
        "--bounds",
        nargs=4,
        type=float,
        metavar=("W", "S", "E", "N"),
        help="area in degrees; default: the whole source",
    )
    where.add_argument("--area", metavar="FILE.geojson", help="area as one GeoJSON polygon")
    command.add_argument("--from", dest="first", type=_day, metavar="DAY", help="first day, YYYY-MM-DD")
    command.add_argument("--to", dest="last", type=_day, metavar="DAY", help="last day, included")
    command.add_argument("--product", metavar="NAME", help="list this product only")
    command.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="option of the source; may be repeated",
    )
    recipe = command.add_argument_group("to propose a recipe")
    recipe.add_argument("--target", type=_day, metavar="DAY", help="day to predict; default: a telling one")
    recipe.add_argument(
        "--pairs", type=_count, metavar="N", help="pairs of coarse and fine image (default 2, or as the method needs)"
    )
    recipe.add_argument("--method", metavar="NAME", help="fusion method (default starfm)")
    recipe.add_argument("--set", action="append", metavar="NAME=VALUE", help="parameter of the method; may be repeated")
    recipe.add_argument("--save", metavar="RECIPE.json", help="write the recipe to this file")


def _run(command: argparse.ArgumentParser) -> None:
    command.add_argument("recipe", metavar="RECIPE", help="recipe.json, or a result whose recipe is taken")
    command.add_argument("out", metavar="OUT.tif", help="file to write")
    _work(command)


def _evaluate(command: argparse.ArgumentParser) -> None:
    command.add_argument("recipe", metavar="RECIPE_OR_PRED", help="recipe.json; with --truth a predicted image")
    command.add_argument("--truth", metavar="TRUTH.tif", help="observed image to compare with; starts no fusion")
    command.add_argument("--ratio", type=_count, metavar="N", help="with --truth: coarse / fine pixel size, for ERGAS")
    command.add_argument(
        "--scale",
        type=_positive,
        metavar="N",
        help="with --truth: reflectance of the number 1 in files that state none",
    )
    command.add_argument("--methods", type=_names, metavar="A,B", help="more methods, with their default parameters")
    command.add_argument("--metrics", type=_names, metavar="A,B", help="only these metrics, such as RMSE,CC,SSIM")
    command.add_argument("--bands", type=_names, metavar="A,B", help="only these bands, such as red,nir")
    command.add_argument("--csv", metavar="FILE", help="write the table as CSV too")
    command.add_argument("--save", metavar="FOLDER", help="write predictions and truth as GeoTIFF into this folder")
    _work(command)


def _work(command: argparse.ArgumentParser) -> None:
    command.add_argument("--tile", type=_count, metavar="N", help="side of a tile in fine pixels; default: as fits")
    command.add_argument("--threads", type=_count, metavar="N", help="threads; default: one per processor core")


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"wants a day as YYYY-MM-DD, got {text!r}") from error


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"wants a whole number from 1, got {text!r}")
    return int(text)


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"wants a number above 0, got {text!r}")
    return number


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise argparse.ArgumentTypeError(f"wants names with commas between, such as a,b, got {text!r}")
    return names


class _Version(argparse.Action):
    """Print name and version; imported only when asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="show the version and exit")

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from .recipe import software

        print(software())
        parser.exit()
