"""Training: a network and pairs become a checkpoint. One loop for plain networks and adversarial ones.

The numbers of a step come from the seed and the step alone, so a training that was killed goes on where it was, to the
same weights. What a training is told of the clock only ends it; it changes no number.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any, Literal

from .. import checkpoints
from ..engine import ignore
from ..errors import FusionError
from ..methods._deep import Deep
from ..methods._sample import Sample
from ..params import check_params, param
from ..scene import Scene
from ..stack import Pair
from ._draws import Augment
from ._loop import Loop
from ._resume import Resume
from ._series import digest
from ._setting import Setting, provenance

__all__ = ["Options", "Report", "Sample", "samples", "train"]


@dataclass(frozen=True)
class Options:
    """How a network is trained.

    Raises
    ------
    FusionError
        If a value is out of its range.
    """

    batch: int = param(2, doc="Crops in a step.", low=1, high=256)
    patch: int = param(160, doc="Side of a crop, brought to whole coarse pixels.", unit="fine pixels", low=8, high=1024)
    steps: int = param(0, doc="Steps of an epoch; 0 = as many as show every pair of days once.", low=0, high=10_000)
    rate: float = param(0.0, doc="Learning rate; 0 = the network's own.", unit="1", low=0.0, high=1.0)
    schedule: Literal["cosine", "constant"] = param("cosine", doc="How the learning rate goes on: it falls, or stays.")
    turns: bool = param(True, doc="Crops are flipped and turned.")
    change: float = param(
        0.5, doc="Change between the days is scaled by up to so much more or less.", unit="1", low=0.0, high=1.0
    )
    noise: float = param(0.0, doc="Noise added to coarse pixels, in standard deviations.", unit="1", low=0.0, high=1.0)
    shift: float = param(0.0, doc="Coarse crops are shifted by up to so much.", unit="coarse pixels", low=0.0, high=2.0)
    average: float = param(
        0.99, doc="Decay of the running mean of weights that is kept.", unit="1", low=0.0, high=0.9999
    )
    clip: float = param(1.0, doc="Largest norm of a gradient.", unit="1", low=0.001, high=1000.0)
    patience: int = param(30, doc="Epochs without a better result after which training ends.", low=1, high=10_000)
    minutes: float = param(0.0, doc="Time after which training ends; 0 = no limit.", unit="min", low=0.0, high=10_000.0)
    hidden: str = param("", doc="Date that is hidden and predicted to judge, YYYY-MM-DD; empty = the middle one.")
    start: str = param("", doc="Checkpoint to adapt; empty = from scratch.")

    def __post_init__(self) -> None:
        check_params(self)
        _ = self.day

    @property
    def day(self) -> date | None:
        """The date to hide."""
        try:
            return date.fromisoformat(self.hidden) if self.hidden else None
        except ValueError as error:
            raise FusionError(f"The date to hide wants YYYY-MM-DD, got {self.hidden!r}.") from error

    @property
    def augment(self) -> Augment:
        """How crops are varied."""
        return Augment(self.turns, self.change, self.noise, self.shift)


@dataclass(frozen=True, eq=False)
class Report:
    """Where a training stands after an epoch; epoch 0 is before the first step.

    Parameters
    ----------
    epoch, epochs, step : int
        How far it is.
    losses : mapping of str to float
        Mean loss of each network over the epoch.
    scores : mapping of str to float
        Of the hidden date: ``{"RMSE": reflectance, "CC": ..., "SSIM": ..., "SAM": degrees}``, mean over bands.
    baselines : mapping of str to mapping
        The same scores of the floors on the same pixels, by name of the method.
    best : float
        Smallest RMSE so far.
    seconds : float
        Since the start of the training.
    prediction, truth : Scene
        The hidden date, as predicted now and as it was.
    note : str
        Why training ended, in words; "" while it goes on.
    resumed : int
        Step that it went on from, where an earlier try of the same training had stopped; 0 if it began anew.
    """

    epoch: int
    epochs: int
    step: int
    losses: Mapping[str, float]
    scores: Mapping[str, float]
    baselines: Mapping[str, Mapping[str, float]]
    best: float
    seconds: float
    prediction: Scene
    truth: Scene
    note: str = ""
    resumed: int = 0

    @property
    def floors(self) -> dict[str, float]:
        """RMSE of the baselines, reflectance."""
        return {name: scores["RMSE"] for name, scores in self.baselines.items()}


def samples(method: Deep, series: Sequence[Pair], *, seed: int = 0, options: Options = Options()) -> Iterator[Sample]:
    """Yield the batches that :func:`train` would learn from, without end; the hidden date is not in them.

    Parameters
    ----------
    method : Deep
        The network.
    series : sequence of Pair
        As of :func:`train`.
    seed : int
        Of the draws.
    options : Options
        Size and variation of the crops.

    Raises
    ------
    FusionError
        As of :func:`train`.
    """
    setting = Setting.of(method, series, options)
    step = 0
    while True:
        yield setting.draw(seed, step, options.batch)
        step += 1


def train(
    method: Deep,
    series: Sequence[Pair],
    *,
    epochs: int,
    seed: int = 0,
    progress: Callable[[float], None] = ignore,
    options: Options = Options(),
    watch: Callable[[Report], None] = lambda report: None,
    enough: Callable[[], bool] = lambda: False,
    about: Mapping[str, Any] = {},
) -> Path:
    """Train a network on pairs of coarse and fine images, and keep the weights that predict the hidden date best.

    Parameters
    ----------
    method : Deep
        For example ``methods.get("edcstfn")()``.
    series : sequence of Pair
        At least two days of an area; several areas, each on its own grid, are learnt from together. All ordered pairs
        of days (triples, of a network with two references) are used, but for those with the hidden date.
    epochs : int
        Rounds over all pairs of days; training ends earlier when nothing is gained any more.
    seed : int
        Of the weights and draws: the same seed gives the same weights.
    progress : callable
        Called in the caller's thread with the fraction done after every step. What it raises stops the training and
        reaches the caller; called again with the same arguments, `train` goes on where it was.
    options : Options
        Batch, crops, learning rate, hidden date, checkpoint to adapt and more.
    watch : callable
        Called with a :class:`Report` before the first step and after each epoch.
    enough : callable
        Asked after every step; if it says so, training ends and the best weights are kept.
    about : mapping
        What the checkpoint says of its data beside days and place: sensors, licence; plain JSON.

    Returns
    -------
    pathlib.Path
        The checkpoint, in :func:`fusion.checkpoints.folder`; ``method`` runs with it as
        ``dataclasses.replace(method, checkpoint=path.stem)``.

    Raises
    ------
    FusionError
        If there are too few days or nothing to see on them, the weights to adapt do not fit, the loss explodes before
        anything was learnt, memory does not suffice, or the checkpoint cannot be written (as a rule known at once).

    Examples
    --------
    >>> from fusion import methods
    >>> from fusion.training import Options, train
    >>> path = train(methods.get("edcstfn")(), pairs, epochs=20, options=Options(minutes=1))  # doctest: +SKIP
    """
    if epochs < 1:
        raise FusionError(f"Training wants at least one epoch, got {epochs}.")
    setting = Setting.of(method, series, options)
    nets = setting.networks(seed)
    checkpoints.check_room(sum(value.numel() * value.element_size() for value in nets.state_dict().values()))
    loop = Loop(
        setting.method, nets, seed=seed, epochs=epochs, steps=options.steps or setting.steps(options),
        rate=setting.rate(options), options=options, draw=setting.draw, judge=setting.judge,
        resume=Resume.of(setting.method, nets, options, epochs, seed, digest(series)),
    )  # fmt: skip
    baselines, began = setting.baselines(), time.monotonic()
    for stand in loop.run(progress, enough):
        watch(
            Report(
                stand.epoch, epochs, stand.step, stand.losses, stand.scores, baselines, stand.best,
                time.monotonic() - began, stand.prediction, setting.hidden[0].truth, stand.note, loop.resumed,
            )
        )  # fmt: skip
    origin = provenance(
        setting,
        series,
        {
            "seed": seed,
            "epochs": loop.epoch,
            "steps": loop.step,
            "best_epoch": loop.best_epoch,
            "options": asdict(options),
            **about,
        },
    )
    hidden = [each.stack.day.isoformat() for each in setting.hidden]
    scores = {name: value for name, value in loop.best_scores.items() if math.isfinite(value)}
    floors = {name: values["RMSE"] for name, values in baselines.items()}
    metrics = {**scores, "floors": floors, "hidden": hidden}
    title = f"{method.title}, {len(setting.about.bands)} bands, RMSE {loop.best:.4f} on {hidden[0]}"
    path = checkpoints.save(
        replace(setting.about, title=title, metrics=metrics, provenance=origin), loop.best_weights()
    )
    loop.resume.forget()
    return path
