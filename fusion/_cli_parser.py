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
of your own area and days: {prog} search --help
of your own files: {prog} files --help
of networks on your own pairs: {prog} train --help

exit codes: 0 done, 1 something you can put right (said on stderr), 2 wrong usage, 130 interrupted by Ctrl-C.
Results go to stdout, remarks and progress to stderr. Set NO_COLOR for output without bold type."""
METHODS = """\
examples:
  {prog} methods
  {prog} methods starfm
  {prog} methods starfm --json"""
SEARCH = """\
examples, listing what there is:
  {prog} search
  {prog} search sample
  {prog} search sample --product sentinel2 --from 2018-01-01 --to 2018-12-31
  {prog} search lab --bounds -27.1 30.0 -27.0 30.1 --json
examples, proposing a recipe and saving it:
  {prog} search sample --save recipe.json
  {prog} search sample --target 2018-07-01 --pairs 1 --method delta --save delta.json
  {prog} search sample --method starfm --set window=21 --set classes=10 --save starfm.json
examples, over the network:
  {prog} search stac --bounds 14.25 46.20 14.40 46.30 --from 2020-06-01 --to 2020-08-31
  {prog} search stac --bounds 14.25 46.20 14.40 46.30 --from 2020-06-01 --to 2020-08-31 --save recipe.json
  {prog} search stac --fine sentinel2 --coarse mcd43a4 --bounds 14.25 46.20 14.40 46.30 \\
    --from 2020-06-01 --to 2020-08-31 --option snow=true --target 2020-07-01 --save recipe.json

Without SOURCE the sources are listed, with their products and options. A source of the whole world (stac,
earthengine) wants an area and both days; of several products it takes the first fine and the first coarse one
unless --fine and --coarse name others. Cloud is the share of the area that is cloudy or missing.
With --target, --pairs, --method, --set or --save a recipe is proposed: pairs on either side of the target
day, near in time and clear, and the reason in words. What you leave out is proposed too."""
ALIGN = """\
examples, on a landscape whose coarse images were put 480 m too far east:
  {prog} search lab --option shift_east=480 --method delta --save recipe.json
  {prog} align recipe.json --bands
  {prog} align recipe.json --save corrected.json --harmonise

Each pair is compared by itself: by how much the coarse image lies east and north of the fine one, with standard
errors, the correlation before and after, the width of the coarse sensor's view and, with --bands, gain, offset
and correlation of each band. A shift is accepted if it is sharp and the same on all dates; --save then writes a
recipe that reads the coarse images there. It is never applied without being asked for."""
FILES = """\
examples, with images in the folder scenes:
  {prog} files scenes --accept
  {prog} files scenes --accept --json
  {prog} files scenes/*.tif --accept

The files are looked at: GeoTIFF, COG, ENVI and NetCDF. What they say themselves is shown; what they do not say
is asked, with the likely answers. Answer with --answer KEY=VALUE as shown there, with --accept to take what is
suggested, or with --ask to be asked on the terminal. Once nothing is open a data set is made and its key is
printed; the files stay where they are. The exit code is 1 while questions are open."""
ACCOUNT = """\
examples, with an account:
  {prog} account
  {prog} account --json

Earth Engine wants a Google account and a registered Cloud project. Shown are who is signed in and for which
project, or what to do; never a key or a token. The source stac needs no account."""
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

TRAIN = """\
examples:
  {prog} search sample --save recipe.json
  {prog} train recipe.json --all-days --epochs 1 --option steps=2 --json
  {prog} train recipe.json --method edcstfn --set width=8 --epochs 2 --option steps=2 --save mine.safetensors
  {prog} train recipe.json --set base=regression --epochs 2 --option steps=2
examples, of a data set in the layout of CIA and LGC in the folder CIA:
  {prog} train --folder CIA --ratio 20 --minutes 30
  {prog} train --folder CIA --ratio 20 --days 2001-10-08,2001-10-17,2001-11-02 --hidden 2001-10-17

The pairs of the recipe are learnt from, or with --all-days every day of its area that has both images; never the
target's. One day is hidden and predicted after each epoch: what predicts it best is kept as a checkpoint, whose
name is printed. Nearest and delta are the floors: a network that does not beat them adds nothing. With
--set base=regression it adds to the coarse change with detail by a regression, which usually is better than delta
before the first step; from the reference, the default, a few days hardly ever suffice for that. Training ends
after all epochs, after --minutes, when nothing was gained for a while, or with Ctrl-C, which keeps the best.
A training that was killed goes on where it was when the same command is given again within 30 days."""
CHECKPOINTS = """\
examples:
  {prog} checkpoints
  {prog} checkpoints --json
examples, with a file of weights:
  {prog} checkpoints --take-in mine.safetensors
  {prog} checkpoints --convert green=green.hdf5 red=red.hdf5 nir=nir.hdf5

A checkpoint is a safetensors file that says its network, bands, ratio, scores and data. They lie in one folder of
this user, or in the one that FUSION_CHECKPOINTS names. A recipe runs with one by the method's parameter:
--method edcstfn --set checkpoint=NAME. --convert reads the published Keras weights of DCSTFN, one file a band.
Pickles (.pt, .pth, .ckpt) are never opened."""


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
        (_search, "search", "list sources or the images of one, or propose a recipe from them", SEARCH),
        (_files, "files", "make a data set of your own image files, asking what they do not say", FILES),
        (_account, "account", "show who is signed in to Earth Engine, or what to do for it", ACCOUNT),
        (_align, "align", "report how coarse and fine images lie on each other, and correct it", ALIGN),
        (_run, "run", "fuse a recipe into a GeoTIFF", RUN),
        (_evaluate, "evaluate", "measure predictions against the truth, per band", EVALUATE),
        (_train, "train", "train a network on pairs of a recipe or a folder", TRAIN),
        (_checkpoints, "checkpoints", "list, show, take in, convert or remove weights of networks", CHECKPOINTS),
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
    command.add_argument(
        "source",
        nargs="?",
        metavar="SOURCE",
        help="sample (real, small), lab (synthetic, larger), stac, earthengine, local (own files); default: list them",
    )
    where = command.add_mutually_exclusive_group()
    where.add_argument(
        "--bounds",
        nargs=4,
        type=float,
        metavar=("W", "S", "E", "N"),
        help="area in degrees; default: the whole source; wanted where it covers the world",
    )
    where.add_argument("--area", metavar="FILE.geojson", help="area as one GeoJSON polygon")
    command.add_argument("--from", dest="first", type=_day, metavar="DAY", help="first day, YYYY-MM-DD")
    command.add_argument("--to", dest="last", type=_day, metavar="DAY", help="last day, included")
    command.add_argument("--product", metavar="NAME", help="list this product only")
    command.add_argument(
        "--fine", metavar="NAME", help="fine product, where the source has several; default: its first"
    )
    command.add_argument("--coarse", metavar="NAME", help="coarse product; default: its first")
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


def _files(command: argparse.ArgumentParser) -> None:
    command.add_argument("files", nargs="+", metavar="FOLDER_OR_FILE", help="one folder, or all files")
    command.add_argument(
        "--answer", action="append", default=[], metavar="KEY=VALUE", help="answer to a question; may be repeated"
    )
    command.add_argument("--accept", action="store_true", help="take every answer that is suggested")
    command.add_argument("--ask", action="store_true", help="ask what is open here, on the terminal")


def _account(command: argparse.ArgumentParser) -> None:
    """Takes no argument of its own."""


def _align(command: argparse.ArgumentParser) -> None:
    command.add_argument("recipe", metavar="RECIPE", help="recipe.json, or a result whose recipe is taken")
    command.add_argument("--bands", action="store_true", help="show gain, offset and correlation of each band too")
    command.add_argument("--save", metavar="CORRECTED.json", help="write the recipe with the accepted shift")
    command.add_argument(
        "--harmonise",
        action="store_true",
        help="show the regression of the coarse sensor on the fine one, and have the saved recipe apply it",
    )


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


def _train(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "recipe",
        nargs="?",
        metavar="RECIPE",
        help="recipe.json, or a result whose recipe is taken; its pairs are learnt",
    )
    command.add_argument("--folder", metavar="PATH", help="learn from a folder of Landsat and MODIS images instead")
    command.add_argument("--ratio", type=_count, metavar="N", help="with --folder: fine pixels per coarse pixel")
    command.add_argument(
        "--bands", type=_names, metavar="A,B", help="with --folder: bands of each file; default of six: blue to swir2"
    )
    command.add_argument(
        "--scale", type=_positive, metavar="N", help="with --folder: reflectance of the number 1; whole numbers: 0.0001"
    )
    days = command.add_mutually_exclusive_group()
    days.add_argument("--days", type=_days, metavar="A,B", help="days to learn from; default: those of the recipe")
    days.add_argument("--all-days", action="store_true", help="all days of the recipe's area with both images")
    command.add_argument("--hidden", type=_day, metavar="DAY", help="day to hide and judge by; default: the middle one")
    command.add_argument("--method", metavar="NAME", help="network (default edcstfn, or that of --start)")
    command.add_argument(
        "--set", action="append", metavar="NAME=VALUE", help="parameter of the network; may be repeated"
    )
    command.add_argument(
        "--option", action="append", metavar="NAME=VALUE", help="option of the training, such as batch=8 or patch=64"
    )
    command.add_argument("--start", metavar="CHECKPOINT", help="adapt these weights; default: train from scratch")
    command.add_argument(
        "--epochs", type=_count, default=40, metavar="N", help="rounds over all pairs of days (default 40)"
    )
    command.add_argument(
        "--minutes", type=_positive, metavar="M", help="end after so many minutes, with the best so far"
    )
    command.add_argument("--seed", type=_seed, default=0, metavar="N", help="of weights and draws (default 0)")
    command.add_argument("--save", metavar="OUT.safetensors", help="write the checkpoint to this file too")


def _checkpoints(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", nargs="?", metavar="NAME", help="checkpoint to show; default: list all")
    change = command.add_mutually_exclusive_group()
    change.add_argument("--take-in", metavar="FILE", help="take in a checkpoint that somebody gave you")
    change.add_argument("--convert", nargs="+", metavar="BAND=FILE", help="convert Keras weights of DCSTFN, one a band")
    change.add_argument("--export", nargs=2, metavar=("NAME", "FILE"), help="write a checkpoint to a file")
    change.add_argument("--remove", metavar="NAME", help="delete a checkpoint of yours")


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


def _days(text: str) -> list[date]:
    return [_day(part.strip()) for part in text.split(",")]


def _seed(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise argparse.ArgumentTypeError(f"wants a whole number from 0, got {text!r}")
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
