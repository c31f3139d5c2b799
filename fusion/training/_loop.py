"""The loop: draw, step, judge, keep the best."""

import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import FusionError
from ..methods._deep import Deep
from ..methods._device import device
from ..methods._inference import is_out_of_memory
from ..methods._networks import DRAWING, weights_of
from ..methods._sample import Sample
from ..scene import Scene
from ._resume import Resume

FALL = 0.05  # of the learning rate is left at the end of a cosine
EXPLODED = 1e3  # times the usual loss
WARM = 10  # steps over which the running mean of weights takes hold

Weights = dict[str, Tensor]


class Exploded(Exception):
    """The loss is no number any more, or a thousand times what it was."""


@dataclass(frozen=True)
class Judged:
    """Scores of the hidden date and its prediction."""

    scores: dict[str, float]
    prediction: Scene


@dataclass(frozen=True)
class Stand:
    """Where the loop stands after an epoch."""

    epoch: int
    step: int
    losses: dict[str, float]
    scores: dict[str, float]
    prediction: Scene
    best: float
    note: str = ""


class Loop:
    """One training: state, steps and the best weights so far."""

    def __init__(
        self,
        method: Deep,
        nets: nn.ModuleDict,
        *,
        seed: int,
        epochs: int,
        steps: int,
        rate: float,
        options: Any,
        draw: Callable[[int, int, int], Sample],  # seed, step, batch
        judge: Callable[[nn.ModuleDict], Judged],
        resume: Resume,
    ) -> None:
        self.method, self.seed, self.epochs, self.steps, self.rate = method, seed, epochs, steps, rate
        self.options, self.draw, self.judge, self.resume = options, draw, judge, resume
        self.device = device()
        self.nets = nets.to(self.device)
        self.gpu = self.device.startswith("cuda")
        if self.gpu:
            self.nets.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimisers = {
            name: torch.optim.Adam(net.parameters(), lr=rate)
            for name, net in nets.items()
            if any(True for _ in net.parameters())
        }
        self.scaler = torch.amp.GradScaler(self.device, enabled=self.gpu)
        self.mean = {key: value.detach().clone() for key, value in self.nets.state_dict().items()}
        self.best, self.best_epoch, self.best_scores = math.inf, 0, dict[str, float]()
        self.kept: Weights = {}
        self.epoch, self.step = 0, 0
        self.resumed = 0  # the step it went on from, where an earlier try had stopped
        self.spent, self.began = 0.0, time.monotonic()  # seconds, and when it would have begun at one go
        self.batch = int(options.batch)
        self.recent: list[float] = []
        self.note = ""

    def run(self, progress: Callable[[float], None], enough: Callable[[], bool]) -> Iterator[Stand]:
        """Train; yields after a look at the untrained network, and after each epoch."""
        with _seeded(self.seed):
            if not self._resumed():
                yield self._look({})
            elif self._idle():  # it had ended, but could not be saved
                self.note = self._impatient()
            self.began = time.monotonic() - self.spent
            while self.epoch < self.epochs and not self.note:
                losses = self._epoch(progress, enough)
                self.spent = time.monotonic() - self.began
                yield self._look(losses) if losses else self._ended()

    def best_weights(self) -> dict[str, Any]:
        """Weights that predicted the hidden date best, as arrays for a checkpoint."""
        self.nets.load_state_dict(self.kept)
        return weights_of(self.nets)

    def _epoch(self, progress: Callable[[float], None], enough: Callable[[], bool]) -> dict[str, float]:
        """Take the steps of one epoch; return the mean loss of each network, nothing if the loss exploded."""
        sums: dict[str, list[float]] = {}
        self.nets.train()
        first = self.step
        while self.step < first + self.steps - first % self.steps:
            try:
                for name, loss in self._step():
                    sums.setdefault(name, []).append(loss)
            except Exploded as error:
                self._give_up(error)
                return {}
            self.step += 1
            progress(self.step / (self.epochs * self.steps))
            if enough():
                self.note = "Stopped by hand."
                break
            if self.options.minutes and time.monotonic() - self.began > 60 * self.options.minutes:
                self.note = f"Stopped after {self.options.minutes:g} minutes."
                break
        self.epoch += 1
        return {name: statistics.fmean(values) for name, values in sums.items()}

    def _step(self) -> list[tuple[str, float]]:
        """One step of every network; with a smaller batch where memory does not suffice."""
        while True:
            sample = self.draw(self.seed, self.step, self.batch)
            try:
                return self._learn(sample.to(self.device))
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if self.batch == 1:
                    raise FusionError(
                        f"{self.method.title} does not find memory on {self.device} to learn from one crop of "
                        f"{sample.fine.shape[-2]} x {sample.fine.shape[-1]} pixels: make the crops smaller, or set "
                        "FUSION_DEVICE=cpu."
                    ) from error
                self.batch //= 2

    def _learn(self, sample: Sample) -> list[tuple[str, float]]:
        out = []
        rate = self.rate * self._share()
        with DRAWING:  # networks that another thread makes now are not drawn from this seed
            torch.manual_seed(int(np.random.SeedSequence([self.seed, self.step]).generate_state(1)[0]))
        with torch.autocast("cuda", torch.float16, enabled=self.gpu):
            steps = self.method.losses(self.nets, sample)
        while True:
            with torch.autocast("cuda", torch.float16, enabled=self.gpu):
                try:
                    name, loss = next(steps)
                except StopIteration:
                    break
            value = float(loss.detach())
            self._watch(value, name)
            optimiser = self.optimisers[name]
            optimiser.param_groups[0]["lr"] = rate
            self.nets.zero_grad(set_to_none=True)
            self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            self.scaler.unscale_(optimiser)
            norm = nn.utils.clip_grad_norm_(self.nets[name].parameters(), self.options.clip)
            if not self.gpu and not torch.isfinite(norm):
                raise Exploded(f"the gradient of {name} is {float(norm)}")
            self.scaler.step(optimiser)
            self.scaler.update()
            out.append((name, value))
        self._average()
        return out

    def _share(self) -> float:
        """Share of the learning rate at this step; it falls with the epochs or, where that is sooner, with the time."""
        if self.options.schedule == "constant":
            return 1.0
        done = self.step / (self.epochs * self.steps)
        if self.options.minutes:
            done = max(done, (time.monotonic() - self.began) / (60 * self.options.minutes))
        return FALL + (1 - FALL) * (1 + math.cos(math.pi * min(done, 1.0))) / 2

    def _watch(self, value: float, name: str) -> None:
        if not math.isfinite(value):
            raise Exploded(f"the loss of {name} is {value}")
        if name == next(iter(self.optimisers)):
            if len(self.recent) >= 20 and value > EXPLODED * max(statistics.median(self.recent), 1e-6):
                raise Exploded(f"the loss of {name} is {value:.3g}, usual were {statistics.median(self.recent):.3g}")
            self.recent = [*self.recent[-49:], value]

    @torch.no_grad()
    def _average(self) -> None:
        """Move the running mean of the weights."""
        decay = min(self.options.average, (1 + self.step) / (WARM + self.step))
        for key, value in self.nets.state_dict().items():
            if value.is_floating_point():
                self.mean[key].lerp_(value, 1 - decay)
            else:
                self.mean[key].copy_(value)

    def _give_up(self, error: Exploded) -> None:
        if not math.isfinite(self.best) or not self.best_epoch:
            self.resume.forget()
            raise FusionError(
                f"Training exploded at step {self.step} ({error}) before anything better than the untrained network "
                f"was learnt: take a learning rate below {self.rate:g}, or a smaller clip."
            ) from error
        self.note = (
            f"Stopped: it exploded at step {self.step} ({error}). Kept are the weights of epoch {self.best_epoch}."
        )

    def _look(self, losses: dict[str, float]) -> Stand:
        """Judge the running mean of the weights, and keep it if it is the best."""
        trained = {key: value.detach().clone() for key, value in self.nets.state_dict().items()}
        self.nets.load_state_dict(self.mean)
        self.nets.eval()
        try:
            judged = self.judge(self.nets)
        finally:
            self.nets.load_state_dict(trained)
        score = judged.scores["RMSE"]
        if math.isfinite(score) and score < self.best:
            self.best, self.best_epoch, self.best_scores = score, self.epoch, judged.scores
            self.kept = {key: value.detach().cpu().clone() for key, value in self.mean.items()}
        if not self.kept:
            self.kept = {key: value.detach().cpu().clone() for key, value in self.mean.items()}
        if not self.note and self._idle():
            self.note = self._impatient()
        if not self.note and self.epoch == self.epochs:
            self.note = "All epochs are done."
        self.resume.write(self._state())
        return Stand(self.epoch, self.step, losses, judged.scores, judged.prediction, self.best, self.note)

    def _idle(self) -> bool:
        return bool(self.epoch - self.best_epoch >= self.options.patience)

    def _impatient(self) -> str:
        return f"Stopped: nothing was gained for {self.options.patience} epochs."

    def _ended(self) -> Stand:
        """Where a training ends that exploded: with the best weights, what they predict, and why."""
        self.nets.load_state_dict(self.kept)
        self.nets.eval()
        judged = self.judge(self.nets)
        return Stand(self.epoch, self.step, {}, judged.scores, judged.prediction, self.best, self.note)

    def _state(self) -> dict[str, Any]:
        return {
            "nets": self.nets.state_dict(),
            "optimisers": {name: each.state_dict() for name, each in self.optimisers.items()},
            "scaler": self.scaler.state_dict(),
            "mean": self.mean,
            "kept": self.kept,
            "numbers": [self.best, self.best_epoch, self.epoch, self.step, self.spent, self.batch],
            "recent": self.recent,
            "scores": self.best_scores,
        }

    def _resumed(self) -> bool:
        """Go on where a killed training was; False where there is none."""
        state = self.resume.read()
        if state is None or not state.keys() >= self._state().keys():
            return False
        self.nets.load_state_dict(state["nets"])
        for name, each in self.optimisers.items():
            each.load_state_dict(state["optimisers"][name])
        if self.gpu:
            self.scaler.load_state_dict(state["scaler"])
        self.mean = {key: value.to(self.device) for key, value in state["mean"].items()}
        self.kept, self.recent, self.best_scores = state["kept"], state["recent"], state["scores"]
        self.best, self.best_epoch, self.epoch, self.step, self.spent, self.batch = state["numbers"]
        self.resumed = self.step
        return True


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Draw torch's random numbers from a seed, and leave others' as they were."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield
