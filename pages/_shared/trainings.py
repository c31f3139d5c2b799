"""Trainings: what one is made of, the job that runs it, and what the server remembers of each."""

import json
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, make_dataclass, replace
from datetime import date
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import streamlit as st

from fusion import checkpoints, methods, pairing, sources, viz
from fusion.checkpoints import Checkpoint
from fusion.errors import FusionError
from fusion.methods import Method
from fusion.params import check_params, param, params
from fusion.recipe import Recipe, data_tags, item_json, software
from fusion.scene import Scene, identity_geobox
from fusion.sources import Item
from fusion.stack import Pair, Stack

from . import accounts, checks, runs, state
from .catalogue import ordered
from .jobs import Job, Progress, Shelf

if TYPE_CHECKING:  # both need torch, which a page imports only when it trains
    from fusion.training import Options, Report, Sample

FAMILY = "deep learning"
MOST_DAYS, USUAL_DAYS = 60, 24  # of a series, and of the one that is proposed
KEPT = 40  # trainings that the server remembers, more than its queue holds; each takes 2 MB at most
POINTS = 400  # of a curve; beyond them every second one goes
SIDE = 360  # pixels of a picture
CROPS = 6  # shown before training
ASKED = ("hidden", "start", "minutes")  # options that the page asks for elsewhere


@dataclass(frozen=True)
class Basics:
    """What is asked first."""

    epochs: int = param(
        30, doc="Rounds over all pairs of days; it ends earlier when nothing is gained.", low=1, high=10_000
    )
    minutes: float = param(
        10.0, doc="Time after which it ends and the best weights are kept; 0 = no limit.", unit="min", low=0, high=1440
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

    @property
    def key(self) -> str:
        """Name of its job, made of everything that it depends on."""
        read = self.recipe.to_json().rpartition(',"method"')[0]
        learn = [self.method.name(), self.method.parameters(), asdict(self.options), self.epochs, self.seed]
        return "train:" + blake2b(json.dumps([read, item_json(self.fine), *learn]).encode(), digest_size=12).hexdigest()

    @property
    def hidden(self) -> str:
        """What is hidden, in words."""
        day = self.options.hidden
        return day or f"the eastern quarter of {self.recipe.target.day}"


class Point(NamedTuple):
    """Where a training stood after an epoch."""

    epoch: int
    losses: Mapping[str, float]
    rmse: float  # of the hidden date, reflectance


@dataclass(eq=False)
class Training:
    """What is known of one training; written by its job, read by every page that shows it."""

    key: str
    title: str
    hidden: str
    epochs: int
    shown: tuple[str, ...]
    points: tuple[Point, ...] = ()
    floors: Mapping[str, float] = field(default_factory=dict)
    pictures: Mapping[str, np.ndarray] = field(default_factory=dict)  # RGBA: before, now, best, truth
    note: str = ""  # why it ended
    checkpoint: str = ""  # its name, once it is there
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def best(self) -> Point | None:
        """The epoch with the smallest error."""
        known = [point for point in self.points if math.isfinite(point.rmse)]
        return min(known, key=lambda point: point.rmse, default=None)

    @property
    def stand(self) -> tuple[int, str, str]:
        """What changes when there is news."""
        return (self.points[-1].epoch if self.points else -1, self.note, self.checkpoint)

    def take(self, report: "Report") -> None:
        """Keep what a report says; one of epoch 0 begins anew, another goes on where a stopped training was."""
        before = tuple(point for point in self.points if point.epoch < report.epoch)
        point = Point(report.epoch, dict(report.losses), report.scores["RMSE"])
        limits = viz.limits([report.truth], self.shown)
        now = _small(viz.rgba(report.prediction, self.shown, limits))
        pictures = {**(self.pictures if before else {"before": now}), "now": now}
        pictures["truth"] = _small(viz.rgba(report.truth, self.shown, limits))
        if point.rmse <= report.best or "best" not in pictures:
            pictures["best"] = now
        self.floors, self.pictures, self.note = dict(report.floors), pictures, report.note
        self.points = _thinned((*before, point))


def _small(picture: np.ndarray) -> np.ndarray:
    every = max(1, math.ceil(max(picture.shape) / SIDE))
    return picture[::every, ::every].copy()


def _thinned(points: tuple[Point, ...]) -> tuple[Point, ...]:
    """Every second point of a long curve, but for its ends and the best."""
    if len(points) <= POINTS:
        return points
    best = min(points, key=lambda point: point.rmse)
    last = len(points) - 1
    return tuple(point for n, point in enumerate(points) if n % 2 == 0 or n == last or point is best)


class Board:
    """The trainings that the server remembers, so that who leaves the page finds them again; the oldest go first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Training] = OrderedDict()

    def get(self, key: str) -> Training | None:
        """Return a training, or None if it is not remembered (any more)."""
        with self._lock:
            return self._known.get(key)

    def open(self, plan: Plan) -> Training:
        """Return a fresh record; curves of the same training that was cancelled are in it, for it goes on there."""
        with self._lock:
            old = self._known.pop(plan.key, None)
            new = Training(plan.key, plan.method.title, plan.hidden, plan.epochs, plan.shown)
            if old is not None:
                new.points, new.floors, new.pictures = old.points, old.floors, old.pictures
            self._known[plan.key] = new
            while len(self._known) > KEPT:
                self._known.popitem(last=False)
            return new


@st.cache_resource(show_spinner=False)
def board() -> Board:
    """Return the server's trainings."""
    return Board()


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


def plan(
    work: state.Work, method: Method, days: Sequence[date], hidden: date | None, basics: Basics, options: "Options"
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
    return Plan(recipe, fine, method, options, basics.epochs, basics.seed, tuple(shown))


# Jobs


def start(chosen: Plan) -> None:
    """Queue a training, or join the same one that is under way."""
    if runs.queue().find(chosen.key) is None:
        record = board().open(chosen)
        _submit(chosen.key, f"Training of {chosen.method.title}", chosen, lambda *found: _train(chosen, record, *found))
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
    return [*checks.pairs_of(stack), Pair(target, Scene(truth.data, stack.geobox, stack.bands, stack.day))]


def _train(chosen: Plan, record: Training, pairs: list[Pair], progress: Progress) -> None:
    progress(0.0, "getting ready")
    from fusion.training import train

    items = [chosen.recipe.target, chosen.fine, *(item for pair in chosen.recipe.pairs for item in pair)]
    tags = data_tags(items)
    about = {"data": tags["FUSION_DATA"], "citation": tags["COPYRIGHT"], "software": software()}
    path = train(
        chosen.method, pairs, epochs=chosen.epochs, seed=chosen.seed, progress=progress, options=chosen.options,
        watch=record.take, enough=record.stop.is_set, about=about,
    )  # fmt: skip
    record.checkpoint = path.stem


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
