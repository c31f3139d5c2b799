"""Trainings: what one is made of, and the job that runs it."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, make_dataclass, replace
from datetime import date
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st

from fusion import checkpoints, methods, pairing, sources, viz
from fusion.checkpoints import Checkpoint
from fusion.errors import FusionError
from fusion.methods import Method
from fusion.params import check_params, param, params
from fusion.propose import bounds_of
from fusion.recipe import Recipe, data_tags, item_json, software
from fusion.scene import Scene, identity_geobox
from fusion.sources import Item
from fusion.stack import Pair, Stack

from . import accounts, checks, runs, state
from .catalogue import ordered
from .jobs import Job, Progress, Shelf
from .records import Training, board

if TYPE_CHECKING:  # both need torch, which a page imports only when it trains
    from fusion.training import Options, Sample

FAMILY = "deep learning"
MOST_DAYS, USUAL_DAYS = 60, 24  # of a series, and of the one that is proposed
CROPS = 6  # shown before training
BASE = "regression"  # from it a few days suffice to be better than the floors, from a reference hardly ever
ASKED = ("hidden", "start", "minutes")  # options that the page asks for elsewhere


@dataclass(frozen=True)
class Basics:
    """What is asked first."""

    epochs: int = param(
        30, doc="Rounds over all pairs of days; it ends earlier when nothing is gained.", low=1, high=10_000
    )
    minutes: float = param(
        10.0, doc="Time after which it ends and the best weights are kept; 0 = no limit.", low=0, high=1440
    )
    seed: int = param(0, doc="Of the weights and draws: the same seed gives the same weights.", low=0, high=2**31 - 1)

    def __post_init__(self) -> None:
        check_params(self)


@dataclass(frozen=True)
class Plan:
    """One training: `recipe` predicts the hidden date from the other days, `fine` is what it hides."""

    recipe: Recipe
    fine: Item
    method: Any  # a fusion.methods._deep.Deep
    options: "Options"
    epochs: int
    seed: int
    shown: tuple[str, ...]  # bands of its pictures
    compare: bool = False  # a network of the same layers is trained from scratch beside the one that is adapted

    @property
    def key(self) -> str:
        """Name of its job, made of everything that it depends on."""
        read = self.recipe.to_json().rpartition(',"method"')[0]
        learn = [self.method.name(), self.method.parameters(), asdict(self.options), self.epochs, self.seed]
        learn += [self.compare]
        return "train:" + blake2b(json.dumps([read, item_json(self.fine), *learn]).encode(), digest_size=12).hexdigest()

    @property
    def hidden(self) -> str:
        """What is hidden, in words."""
        day = self.options.hidden
        return day or f"the eastern quarter of {self.recipe.target.day}"

    @property
    def seen(self) -> bool:
        """Whether the weights that are adapted were trained on the image that is hidden."""
        start = self.options.start
        return bool(start) and checkpoints.seen(
            checkpoints.read(start), self.recipe.target.day, bounds_of(self.recipe.area)
        )


def networks() -> dict[str, type[Method]]:
    """Methods that are trained, by name."""
    return {name: method for name, method in ordered().items() if method.family == FAMILY}


def adaptable(method: str, bands: Sequence[str]) -> list[Checkpoint]:
    """Checkpoints of a network that can be adapted to images of these bands."""
    return [row for row in checkpoints.every() if row.method == method and set(row.bands) == set(bands)]


def usual_days(work: state.Work, worst: Mapping[date, float]) -> list[date]:
    """Days to learn from unless others are chosen: clear ones within the work's dates, without the target."""
    first, last = work.dates or (date.min, date.max)
    days = [day for day in worst if first <= day <= last and day != work.target]
    clear = [day for day in days if worst[day] <= checks.CLEAR] if sum(map(bool, worst.values())) else days
    days = clear if len(clear) > 1 else days
    step = max(len(days) / USUAL_DAYS, 1)
    return [days[int(n * step)] for n in range(min(len(days), USUAL_DAYS))]


def part_of(owner: type, names: Sequence[str]) -> type:
    """Return a dataclass of some parameters of another, for a form."""
    fields = owner.__dataclass_fields__  # type: ignore[attr-defined]
    made = []
    for name in names:
        facts = {**fields[name].metadata, "training": False}  # this form is the place for them
        made.append((name, fields[name].type, field(default=fields[name].default, metadata=facts)))
    return make_dataclass(owner.__name__, made, frozen=True)


def learning(owner: type) -> list[str]:
    """Names of the parameters that matter while a network is trained."""
    return [item.name for item in params(owner) if item.training]


def begins_with(owner: type) -> dict[str, Any]:
    """Values that the form of a network begins with, where they are others than the parameters' defaults."""
    known = {item.name: item.choices for item in params(owner)}
    return {"base": BASE} if BASE in known.get("base", ()) else {}


def plan(
    work: state.Work,
    method: Method,
    days: Sequence[date],
    hidden: date | None,
    basics: Basics,
    options: "Options",
    compare: bool = False,
) -> Plan:
    """Return the plan of a training; without a `hidden` date a part of the last day is hidden.

    Raises
    ------
    FusionError
        If there are too few days.
    """
    if len(days) < 2:
        raise FusionError(
            f"Training wants at least 2 days with both images, got {len(days)}: a network learns from changes between "
            "days. Choose more days, another area or a longer time."
        )
    away = hidden or max(days)
    rest = tuple(sorted(set(days) - {away}))
    recipe = state.recipe(work, methods.get("nearest")(), away, rest)
    fine = next(pair[1] for pair in pairing.pairs_of(*state.items(work)) if pair[0].day == away)
    combinations = viz.combinations(recipe.bands)
    shown = combinations.get(work.view) or next(iter(combinations.values()))
    options = replace(options, hidden="" if hidden is None else hidden.isoformat(), minutes=basics.minutes)
    compare = compare and bool(options.start)
    return Plan(recipe, fine, method, options, basics.epochs, basics.seed, tuple(shown), compare)


# Jobs


def start(chosen: Plan) -> None:
    """Queue a training, or join the same one that is under way."""
    if runs.queue().find(chosen.key) is None:
        record = board().open(chosen)
        title = f"{'Adaptation' if chosen.options.start else 'Training'} of {chosen.method.title}"
        title += " and one from scratch" if chosen.compare else ""
        _submit(chosen.key, title, chosen, lambda *found: _train(chosen, record, *found))
    st.session_state["training"] = chosen.key


def start_samples(chosen: Plan) -> None:
    """Queue the drawing of a few samples; :func:`samples` has them when it is over."""
    keep = runs.shelf()
    _submit(samples_key(chosen), "Samples", chosen, lambda *found: _sample(chosen, keep, *found))


def samples_key(chosen: Plan) -> str:
    """Name of the job that draws a plan's samples."""
    return chosen.key.replace("train:", "samples:")


def samples(chosen: Plan) -> tuple[bytes, str] | None:
    """Return a plan's samples as one picture and what it shows, or None before they are drawn."""
    found: tuple[bytes, str] | None = runs.shelf().get(samples_key(chosen))
    return found


def current(chosen: Plan | None) -> tuple[Training | None, Job | None]:
    """The training that this session started last, and its job while it is under way.

    A session that is new, as after a reload, finds the one that it would start.
    """
    key = st.session_state.get("training", chosen.key if chosen else "")
    return board().get(key), runs.queue().find(key)


def resumed(record: Training) -> str:
    """Say of a training that it goes on where an earlier try stopped; "" of one that began anew."""
    whose = {"Goes": record, **({"The network from scratch goes": record.scratch} if record.scratch else {})}
    return " ".join(
        f"{who} on from step {each.resumed} of an earlier try." for who, each in whose.items() if each.resumed
    )


def _submit(key: str, title: str, chosen: Plan, call: Callable[[list[Pair], Progress], None]) -> None:
    """Queue a job that reads a plan's images and then computes; reading from servers has lines of its own."""
    source = chosen.recipe.target.source
    accounts.ensure(source)
    keep, fly, remote = runs.shelf(), runs.flights(), sources.is_remote(source)
    compute = runs.queue().compute if remote else runs.at_once

    def work(progress: Progress) -> None:
        stack, (truth,) = runs.fetch(chosen.recipe, [chosen.fine], keep, fly, progress)
        compute(lambda: call(series(stack, truth), progress), progress)

    runs.submit(key, title, work, network=remote)


def series(stack: Stack, truth: Scene) -> list[Pair]:
    """All pairs of a stack, and its target with the fine image of that day."""
    target = Scene(stack.target, stack.geobox.zoom_out(stack.ratio), stack.bands, stack.day)
    return [*stack.scenes(), Pair(target, Scene(truth.data, stack.geobox, stack.bands, stack.day))]


def _train(chosen: Plan, record: Training, pairs: list[Pair], progress: Progress) -> None:
    progress(0.0, "getting ready")
    parts = 2 if chosen.compare else 1
    told = _share(progress, 0, parts, chosen.options.minutes)
    record.checkpoint = _learn(chosen, chosen.method, chosen.options, record, pairs, told)
    if record.scratch is None or record.stop.is_set():
        return
    start = checkpoints.read(chosen.options.start)
    same = methods.build(start.method, {**start.parameters, "checkpoint": ""})
    had, told = checkpoints.paths(), _share(progress, 1, parts, chosen.options.minutes)
    name = _learn(chosen, same, replace(chosen.options, start=""), record.scratch, pairs, told)
    if _error(name) < _error(record.checkpoint):
        record.scratch.checkpoint = name
    elif name not in had:  # its figures are what it was for
        checkpoints.remove(name)


def _learn(
    chosen: Plan,
    method: Any,
    options: "Options",
    record: Training,
    pairs: list[Pair],
    progress: Callable[[float], None],
) -> str:
    """Train one network; return the name of its checkpoint."""
    from fusion.training import train

    items = [chosen.recipe.target, chosen.fine, *(item for pair in chosen.recipe.pairs for item in pair)]
    tags = data_tags(items)
    about = {"data": tags["FUSION_DATA"], "citation": tags["COPYRIGHT"], "software": software()}
    path = train(
        method, pairs, epochs=chosen.epochs, seed=chosen.seed, progress=progress, options=options,
        watch=record.take, enough=record.stop.is_set, about=about,
    )  # fmt: skip
    return path.stem


def _share(progress: Progress, part: int, parts: int, minutes: float) -> Callable[[float], None]:
    """Return what tells the progress of one of several trainings, by epochs or by time, whichever ends it first."""
    began = time.monotonic()

    def tell(fraction: float) -> None:
        spent = (time.monotonic() - began) / (60 * minutes) if minutes else 0.0
        progress((part + min(1.0, max(fraction, spent))) / parts)

    return tell


def _error(name: str) -> float:
    found = checkpoints.read(name).metrics.get("RMSE")
    return float(found) if isinstance(found, int | float) else float("inf")


def _sample(chosen: Plan, keep: Shelf, pairs: list[Pair], progress: Progress) -> None:
    progress(0.0, "drawing samples")
    from fusion.training import samples as drawn

    sample = next(drawn(chosen.method, pairs, seed=chosen.seed, options=replace(chosen.options, batch=CROPS)))
    found = sheet(sample, chosen.shown)
    keep.put(samples_key(chosen), found, len(found[0]))


def sheet(sample: "Sample", shown: Sequence[str]) -> tuple[bytes, str]:
    """Return the crops of a sample side by side, with references, coarse target and truth below each other."""
    rows = [sample.fine[:, k] for k in range(sample.fine.shape[1])]
    rows += [sample.target.repeat_interleave(sample.ratio, -1).repeat_interleave(sample.ratio, -2)]
    rows += [] if sample.truth is None else [sample.truth]
    images = np.stack([sample.reflectance(row).numpy() for row in rows])  # (row, crop, band, y, x)
    height, width = images.shape[-2:]
    gap = max(2, width // 24)
    high, wide = (n * (side + gap) - gap for n, side in zip(images.shape[:2], (height, width), strict=True))
    canvas = np.full((images.shape[2], high, wide), np.nan, np.float32)
    for row, crop in np.ndindex(*images.shape[:2]):
        y, x = row * (height + gap), crop * (width + gap)
        canvas[:, y : y + height, x : x + width] = images[row, crop]
    scene = Scene(canvas, identity_geobox(high, wide), sample.bands, date(2000, 1, 1))
    picture = viz.rgba(scene, shown, viz.limits([scene], shown))
    names = ["fine image of the reference day"] if len(rows) == 3 else ["fine images of both reference days"]
    words = (
        f"{images.shape[1]} crops of {height} x {width} fine pixels. From top to bottom: {', '.join(names)}, coarse "
        "image of another day, and the fine image of that day, which the network is to predict."
    )
    return viz.png(picture, zoom=max(1, round(110 / width))), words


def news(record: Training | None) -> Callable[[], bool]:
    """Return what says whether a training has something new to show, at most every 2 seconds."""
    drawn, shown = time.monotonic(), record.stand if record else None
    return lambda: record is not None and record.stand != shown and time.monotonic() - drawn > 2
