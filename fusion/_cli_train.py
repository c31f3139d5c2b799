"""The subcommand train: a network learns from the pairs of a recipe or a folder, and is judged by the floors."""

import argparse
import json
import math
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from . import checkpoints, methods
from ._cli_checkpoints import check_file, copy, facts
from ._cli_commands import settings
from ._cli_files import read_recipe
from ._cli_text import Progress, note, print_json, seconds, strong, table
from ._cli_work import waited
from ._pulse import report as tell
from ._pulse import stop_if_asked
from .checkpoints import Checkpoint
from .errors import FusionError
from .folders import pairs_of
from .metrics import METRICS
from .propose import days_of, series, with_days
from .recipe import Recipe, data_tags
from .stack import Pair

if TYPE_CHECKING:  # torch takes seconds to import: only a training waits for it
    from .methods._deep import Deep
    from .training import Options, Report

LINES = 20  # of progress that stay, about
USUAL = "edcstfn"

Given = tuple[list[Pair], dict[str, Any]]  # pairs, and what the checkpoint is to say of them


def train_network(args: argparse.Namespace) -> int:
    """Train a network on the pairs of a recipe or a folder, and say whether it beats the floors."""
    _check_usage(args)
    if args.save is not None:
        check_file(args.save)
    method, options = _method(args), _options(args)
    pairs, about = _of_folder(args) if args.recipe is None else _of_recipe(args)
    began = time.monotonic()
    log = _Log(args.epochs, options.minutes)
    with _stoppable() as stop, log:
        from .training import train

        path = train(
            method, pairs, epochs=args.epochs, seed=args.seed, options=options, progress=log, watch=log.watch,
            enough=lambda: stop.asked, about=about,
        )  # fmt: skip
    if args.save is not None:
        copy(path.stem, args.save)
    return _report(args, checkpoints.read(path.stem), log, time.monotonic() - began)


def _check_usage(args: argparse.Namespace) -> None:
    if (args.recipe is None) == (args.folder is None):
        args.usage("give a RECIPE, or --folder PATH with --ratio N")
    if (args.folder is None) != (args.ratio is None):
        args.usage("--folder and --ratio go together")
    if args.folder is None and (args.bands is not None or args.scale is not None):
        args.usage("a recipe knows its bands and units: leave out --bands and --scale, or give --folder")
    if args.folder is not None and args.all_days:
        args.usage("of a folder all days are taken: leave out --all-days")


def _method(args: argparse.Namespace) -> "Deep":
    """The network: the one named, else that of the checkpoint to start from, else the usual one."""
    name = args.method or (checkpoints.read(args.start).method if args.start else USUAL)
    kind = methods.get(name)
    if not hasattr(kind, "networks"):
        found = [each for each in methods.names() if hasattr(methods.get(each), "networks")]
        raise FusionError(f"{kind.title} has no weights to train: choose a network, one of {', '.join(found)}.")
    given = settings(kind, args.set or [])
    if "checkpoint" in given:
        raise FusionError("Training makes a checkpoint: to go on from one, give --start, not --set checkpoint.")
    method: Any = methods.build(name, given)
    return method  # type: ignore[no-any-return]


def _options(args: argparse.Namespace) -> "Options":
    from .training import Options

    values = settings(Options, args.option or [])
    known = {item.name for item in methods.params(Options)}
    if unknown := sorted(set(values) - known):
        raise FusionError(f"A training has no option {', '.join(unknown)}; it has {', '.join(sorted(known))}.")
    named = {
        "start": args.start and checkpoints.path_of(args.start).stem,
        "hidden": args.hidden and args.hidden.isoformat(),
        "minutes": args.minutes,
    }
    return Options(**values, **{name: value for name, value in named.items() if value is not None})


def _of_recipe(args: argparse.Namespace) -> Given:
    """Pairs of a recipe on the days asked for, and where they come from."""
    recipe = read_recipe(args.recipe)
    if args.all_days or args.days:
        with Progress("Searching") as bar:
            recipe = waited(lambda: _chosen(recipe, args.days), bar)

    def work(fraction: float) -> None:
        stop_if_asked()
        tell(fraction)

    with Progress(f"Reading {len(recipe.pairs)} pairs") as bar:
        pairs = waited(lambda: series(recipe, progress=work), bar)
    tags = data_tags([recipe.target, *(item for pair in recipe.pairs for item in pair)])
    about = {"data": tags["FUSION_DATA"], "citation": tags["COPYRIGHT"], "recipe": json.loads(recipe.to_json())}
    return pairs, about


def _chosen(recipe: Recipe, days: Sequence[date] | None) -> Recipe:
    return with_days(recipe, days or days_of(recipe))


def _of_folder(args: argparse.Namespace) -> Given:
    """Pairs of a folder; of the folder's own place nothing is kept but its name."""
    with Progress("Reading the folder") as bar:
        pairs = waited(lambda: pairs_of(args.folder, args.ratio, bands=args.bands, scale=args.scale), bar)
    if args.days:
        have = {pair.day: pair for pair in pairs}
        if missing := [day for day in args.days if day not in have]:
            raise FusionError(
                f"The folder has no pair of {', '.join(map(str, missing))}; it has {', '.join(map(str, have))}: choose "
                "among these."
            )
        pairs = [have[day] for day in sorted(set(args.days))]
    return pairs, {"data": f"own files, folder {Path(args.folder).resolve().name}"}


@dataclass
class _Stop:
    asked: bool = False


@contextmanager
def _stoppable() -> Iterator[_Stop]:
    """The first Ctrl-C asks to stop, the second one interrupts; outside the main thread none of them arrives."""
    stop = _Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def asked(number: int, frame: FrameType | None) -> None:
        if stop.asked:
            raise KeyboardInterrupt
        stop.asked = True
        note("\nStopping; the best weights so far are kept. Ctrl-C again gives them up.")

    before = signal.signal(signal.SIGINT, asked)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


class _Log(Progress):
    """Progress bar under lines that stay: loss and hidden-date RMSE of some epochs beside the floors."""

    def __init__(self, epochs: int, minutes: float) -> None:
        super().__init__("Training")
        self.epochs, self.minutes = epochs, minutes
        self.last: Report | None = None

    def __call__(self, fraction: float) -> None:
        """Show the fraction done of the epochs, or of the time where that ends it earlier."""
        super().__call__(min(1.0, max(fraction, self.elapsed / (60 * self.minutes) if self.minutes else 0.0)))

    def watch(self, report: "Report") -> None:
        """Write a line of an epoch."""
        if self.last is None:
            if report.resumed:
                self._line(f"Goes on from step {report.resumed} of an earlier try.")
            self._line(f"RMSE to beat on {report.truth.day}: {_floors(report.floors)}")
            self._line(f"{'epoch':>5}  {'loss':>8}  {'RMSE':>7}  {'best':>7}")
        self.last = report
        self.title = f"Epoch {min(report.epoch + 1, self.epochs)} of {self.epochs}"
        if report.note or report.epoch % math.ceil(self.epochs / LINES) == 0:
            loss = f"{next(iter(report.losses.values())):8.4f}" if report.losses else f"{'-':>8}"
            self._line(f"{report.epoch:5}  {loss}  {report.scores['RMSE']:7.4f}  {report.best:7.4f}")
        if report.note:
            self.title = "Training"
            self._line(report.note)

    def _line(self, text: str) -> None:
        if self.live:
            self._show("")
            self.stream.write("\r")
        print(text, file=self.stream, flush=True)


def _floors(floors: Mapping[str, float]) -> str:
    return ", ".join(f"{value:.4f} ({name})" for name, value in floors.items())


def _report(args: argparse.Namespace, found: Checkpoint, log: _Log, spent: float) -> int:
    """Scores of the hidden date, and in words whether the floors were beaten."""
    if args.json:
        why, step = (log.last.note, log.last.resumed) if log.last is not None else ("", 0)
        known = {"beaten": _beats(found), "start_has_seen": _start_has_seen(found)}
        print_json({**facts(found), **known, "note": why, "resumed": step, "seconds": spent, "saved": args.save})
        return 0
    title = methods.get(found.method).title
    print(strong(found.name))
    print(f"{found.title}\nTime    {seconds(spent)}\nFile    {args.save or checkpoints.path_of(found.name)}\n")
    names = sorted((name for name in found.metrics if name in METRICS), key=lambda name: name != "RMSE")
    floors: Mapping[str, float] = found.metrics["floors"]
    rows = [(name, f"{value:.4f}", *("-" for _ in names[1:])) for name, value in floors.items()]
    rows.append((title, *(f"{found.metrics[name]:.4f}" for name in names)))
    print(table(("hidden date", *(_headed(name) for name in names)), rows, right=range(1, len(names) + 1)))
    print(f"\n{_verdict(found, title)}")
    if _start_has_seen(found):
        print("The weights it started from were trained on the hidden date, so these scores are better than it is.")
    note(f"\nUse it: {args.prog} search ... --method {found.method} --set checkpoint={found.name} --save recipe.json")
    return 0


def _headed(name: str) -> str:
    unit = METRICS[name].unit
    return name if unit in ("", "1") else f"{name} ({unit})"


def _beats(found: Checkpoint) -> bool:
    """Whether the weights beat every floor on the hidden date."""
    return bool(found.metrics["RMSE"] < min(found.metrics["floors"].values()))


def _start_has_seen(found: Checkpoint) -> bool:
    """Whether the weights that were adapted had learnt from a date that is hidden now."""
    if "adapted_from" not in found.provenance:
        return False
    start = checkpoints.read(found.provenance["adapted_from"])
    places = [area["bounds"] for area in found.provenance["areas"] if area["bounds"] is not None]
    days = [date.fromisoformat(day) for day in found.metrics["hidden"]]
    return any(checkpoints.seen(start, day, place) for day in days for place in places)


def _verdict(found: Checkpoint, title: str) -> str:
    floors: Mapping[str, float] = found.metrics["floors"]
    name = min(floors, key=lambda each: floors[each])
    numbers = f"RMSE {found.metrics['RMSE']:.4f} against {floors[name]:.4f} of {name}"
    if _beats(found):
        return f"{title} beats the floors on the hidden date: {numbers}."
    return (
        f"{title} does not beat the floors on the hidden date: {numbers}, so as it is it adds nothing there. Train "
        f"longer or on more days (--all-days), or start from trained weights (--start){_base(found)}."
    )


def _base(found: Checkpoint) -> str:
    """Advice on what the network adds to, where it could have been given a better start."""
    if "adapted_from" in found.provenance or found.parameters.get("base") == "regression":
        return ""
    choices = {item.name: item.choices for item in methods.params(methods.get(found.method))}
    return " or from a regression (--set base=regression)" if "regression" in choices.get("base", ()) else ""
