"""Records of trainings: what the server remembers of each, written by its job and read by every page that shows it."""

import math
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import streamlit as st

from fusion import methods, viz

if TYPE_CHECKING:  # both need torch, which a page imports only when it trains
    from fusion.training import Report

    from .trainings import Plan

KEPT = 40  # trainings that the server remembers, more than its queue holds; each takes 4 MB at most
POINTS = 400  # of a curve; beyond them every second one goes
SIDE = 360  # pixels of a picture


class Point(NamedTuple):
    """Where a training stood after an epoch."""

    epoch: int
    losses: Mapping[str, float]
    scores: Mapping[str, float]  # of the hidden date

    @property
    def rmse(self) -> float:
        """Error of the hidden date, reflectance."""
        return self.scores["RMSE"]


@dataclass(eq=False)
class Training:
    """What is known of one training."""

    key: str
    title: str
    hidden: str
    epochs: int
    shown: tuple[str, ...]
    start: str = ""  # the checkpoint that is adapted
    seen: bool = False  # whether that has seen the hidden image
    points: tuple[Point, ...] = ()
    baselines: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # scores of the floors, by title
    pictures: Mapping[str, np.ndarray] = field(default_factory=dict)  # RGBA: before, now, best, truth
    note: str = ""  # why it ended
    resumed: int = 0  # step of an earlier try from which it went on
    checkpoint: str = ""  # its name, once it is there
    stop: threading.Event = field(default_factory=threading.Event)
    scratch: "Training | None" = None  # the one from scratch that an adaptation is compared with

    @property
    def best(self) -> Point | None:
        """The epoch with the smallest error."""
        known = [point for point in self.points if math.isfinite(point.rmse)]
        return min(known, key=lambda point: point.rmse, default=None)

    @property
    def before(self) -> Point | None:
        """Before the first step; None of one that went on after the server had forgotten it."""
        return self.points[0] if self.points and self.points[0].epoch == 0 else None

    @property
    def stand(self) -> tuple[object, ...]:
        """What changes when there is news."""
        own = (self.points[-1].epoch if self.points else -1, self.note, self.checkpoint)
        return (*own, self.scratch.stand) if self.scratch else own

    def take(self, report: "Report") -> None:
        """Keep what a report says; one of epoch 0 begins anew, another goes on where a stopped training was."""
        before = tuple(point for point in self.points if point.epoch < report.epoch)
        point = Point(report.epoch, dict(report.losses), dict(report.scores))
        limits = viz.limits([report.truth], self.shown)
        now = _small(viz.rgba(report.prediction, self.shown, limits))
        pictures = {**(self.pictures if before else {"before": now}), "now": now}
        pictures["truth"] = _small(viz.rgba(report.truth, self.shown, limits))
        if point.rmse <= report.best or "best" not in pictures:
            pictures["best"] = now
        self.baselines = {methods.get(name).title: dict(scores) for name, scores in report.baselines.items()}
        self.pictures, self.note, self.resumed = pictures, report.note, report.resumed
        self.points = _thinned((*before, point))

    def go_on_from(self, old: "Training") -> None:
        """Take over the curves of a training that was cancelled, for the same one goes on where that was."""
        if not old.note:  # else it is over, and begins anew
            self.points, self.baselines, self.pictures = old.points, old.baselines, old.pictures
        if self.scratch is not None and old.scratch is not None:
            self.scratch.go_on_from(old.scratch)


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

    def open(self, plan: "Plan") -> Training:
        """Return a fresh record; curves of the same training that was cancelled are in it."""
        with self._lock:
            old = self._known.pop(plan.key, None)
            new = _record(plan)
            if old is not None:
                new.go_on_from(old)
            self._known[plan.key] = new
            while len(self._known) > KEPT:
                self._known.popitem(last=False)
            return new


def _record(plan: "Plan") -> Training:
    start = plan.options.start
    new = Training(plan.key, plan.method.title, plan.hidden, plan.epochs, plan.shown, start, plan.seen)
    if plan.compare:
        new.scratch = Training(plan.key, plan.method.title, plan.hidden, plan.epochs, plan.shown, stop=new.stop)
    return new


@st.cache_resource(show_spinner=False)
def board() -> Board:
    """Return the server's trainings."""
    return Board()
