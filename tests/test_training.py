"""Training: what it learns from and what it never sees, the same weights for the same seed, and all that goes wrong."""

import errno
import io
import math
import os
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from fusion import Cancelled, FusionError, Pair, checkpoints, fuse, methods
from fusion.methods._deep import Deep
from fusion.methods._layers import conv, resized, stacked, start_at_zero
from fusion.training import Options, samples, train
from fusion.training._draws import _moved, prepared
from fusion.training._loop import Loop
from fusion.training._setting import Setting
from landscapes import BANDS, DAY, pair

OFFSETS = (-60, -35, 10, 45)
QUICK = Options(batch=2, patch=16, steps=2)
EDCSTFN = methods.get("edcstfn")(width=4, feature_weight=0, structure_weight=0)


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A folder without checkpoints; methods of this file are known, and none runs on a GPU."""
    monkeypatch.setenv("FUSION_CHECKPOINTS", str(tmp_path / "mine"))
    monkeypatch.setenv("FUSION_DEVICE", "cpu")
    monkeypatch.setattr(checkpoints, "_bundled_folder", lambda: None)
    monkeypatch.setitem(methods._METHODS, "test_training", Tiny)
    Tiny.calls = 0
    return tmp_path / "mine"


class Layer(nn.Module):
    """One convolution that gives the change."""

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.ones(()))
        self.layer = start_at_zero(conv(3 * bands, bands))

    def forward(self, fine, coarse, target):
        return self.gate * self.layer(stacked(fine, resized(coarse, fine), resized(target, fine)))


@dataclass(frozen=True)
class Tiny(Deep):
    """One layer against another one, with losses that go wrong when they are told to."""

    title = "Tiny"
    paper = "none"
    rate = 0.01
    calls = 0
    trouble = staticmethod(lambda loss, sample, calls: loss)

    def networks(self, bands, ratio):
        return nn.ModuleDict({"generator": Layer(bands), "discriminator": nn.Conv2d(bands, 1, 1)})

    def losses(self, nets, sample):
        out = self.forward(nets, sample)
        loss = (out - sample.wanted(out)).pow(2).mean() + 0.1 * (torch.rand_like(out) * out).mean()
        loss = loss - 0.01 * nets["discriminator"](out).mean()
        yield "generator", type(self).trouble(loss, sample, type(self).calls)
        yield "discriminator", nets["discriminator"](out.detach()).pow(2).mean()
        type(self).calls += 1


TINY = Tiny()


@dataclass(frozen=True)
class Two(Tiny):
    """Takes two references."""

    at_once = 2
    pairs = 2

    def forward(self, nets, sample):
        change = nets["generator"](sample.fine.mean(1), sample.coarse.mean(1), sample.target)
        return sample.start_of_all(self.base) + change


def series(offsets=OFFSETS, **size) -> list[Pair]:
    return [pair(offset, **{"rows": 4, "columns": 6, **size}) for offset in offsets]


def marked(each: Pair, fine: float | None = None, coarse: float | None = None, where=slice(None)) -> Pair:
    """Return the pair with a value in place of a part of its pixels."""
    scenes = []
    for scene, value in ((each.coarse, coarse), (each.fine, fine)):
        data = scene.data.copy()
        if value is not None:
            data[(..., *where) if isinstance(where, tuple) else (..., where)] = value
        scenes.append(replace(scene, data=data))
    return Pair(*scenes)


def reports(method=EDCSTFN, data=None, *, options=QUICK, epochs=2, **more):
    """Train, and return the file and what was told on the way."""
    told = []
    path = train(method, series() if data is None else data, epochs=epochs, options=options, watch=told.append, **more)
    return path, told


def some(method, data, *, options=QUICK, count=12, seed=0) -> list:
    drawn = samples(method, data, options=options, seed=seed)
    return [next(drawn) for _ in range(count)]


def disturbed(seeds):
    """Draw random numbers before each use of a seed, as other work in the process does."""
    for seed in seeds:
        torch.rand(3)
        yield seed


def equal(one, other) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)


# ---- the same seed, the same weights


@pytest.mark.parametrize("method", [EDCSTFN, TINY], ids=["edcstfn", "tiny"])
def test_the_same_seed_gives_the_same_file(method, judged):
    judged(*[0.3, 0.2, 0.1] * 3)
    one, same, other = (train(method, series(), epochs=2, options=QUICK, seed=seed) for seed in disturbed((1, 1, 2)))
    assert one == same and one != other
    assert not equal(checkpoints.arrays(one.stem), checkpoints.arrays(other.stem))


@pytest.mark.parametrize("method", [EDCSTFN, TINY], ids=["edcstfn", "tiny"])
@pytest.mark.parametrize("when", ["after", "within"])
def test_a_killed_training_goes_on_to_the_same_weights(method, when, place, tmp_path, monkeypatch, judged):
    judged(*[0.5, 0.4, 0.3, 0.2, 0.1] * 2)

    def watch(report):
        if when == "after" and report.epoch == 2:
            raise KeyboardInterrupt

    def progress(fraction):
        if when == "within" and fraction > 0.6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(method, series(), epochs=4, options=QUICK, watch=watch, progress=progress)
    assert checkpoints.names() == () and len(list((place / "unfinished").iterdir())) == 1
    path, told = reports(method, epochs=4)
    assert [(each.epoch, each.resumed) for each in told] == [(3, 4), (4, 4)]
    assert list((place / "unfinished").iterdir()) == []
    monkeypatch.setenv("FUSION_CHECKPOINTS", str(tmp_path / "another"))
    whole, told = reports(method, epochs=4)
    assert [each.epoch for each in told] == [0, 1, 2, 3, 4] and told[-1].note == "All epochs are done."
    assert not any(each.resumed for each in told)
    assert whole.name == path.name and whole.read_bytes() == path.read_bytes()
    assert checkpoints.read(path.stem).provenance["best_epoch"] == 4


def test_another_training_does_not_go_on_where_a_killed_one_was():
    def watch(report):
        if report.epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(EDCSTFN, series(), epochs=2, options=QUICK, watch=watch)
    changed = [series()[0], *series(seed=1)[1:]]
    for told in (
        reports(data=changed)[1],
        reports(seed=1)[1],
        reports(replace(EDCSTFN, base="delta"))[1],
        reports(options=replace(QUICK, batch=3))[1],
        reports(epochs=3)[1],
    ):
        assert told[0].epoch == 0


def zipped(code: bytes) -> bytes:
    """Make a file as torch's are, of which the pickle is some other one."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("archive/data.pkl", code)
        file.writestr("archive/version", "3")
    return out.getvalue()


@pytest.mark.parametrize(
    "damage",
    [b"", b"nonsense", zipped(b"\x80\x02R."), zipped(b"\x80\x02]q"), None],
    ids=["empty", "nonsense", "broken", "cut", "lacking"],
)
def test_a_damaged_file_of_a_killed_training_counts_as_none(place, damage):
    def watch(report):
        if report.epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(EDCSTFN, series(), epochs=2, options=QUICK, watch=watch)
    (left,) = (place / "unfinished").iterdir()
    left.write_bytes(damage) if damage is not None else torch.save({"nets": {}}, left)
    assert reports()[1][0].epoch == 0


def test_cancelling_reaches_the_caller_and_leaves_random_numbers_alone():
    def progress(fraction):
        raise Cancelled

    torch.manual_seed(5)
    wanted = torch.rand(1)
    torch.manual_seed(5)
    with pytest.raises(Cancelled):
        train(EDCSTFN, series(), epochs=2, options=QUICK, progress=progress)
    assert torch.equal(torch.rand(1), wanted) and checkpoints.names() == ()


# ---- how it ends, and what is kept


def test_progress_rises_to_1_and_each_epoch_is_told():
    seen = []
    _, told = reports(epochs=3, progress=seen.append)
    assert seen == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1])
    assert [(each.epoch, each.epochs, each.step) for each in told] == [(0, 3, 0), (1, 3, 2), (2, 3, 4), (3, 3, 6)]
    assert not told[0].losses and all(each.losses.keys() == {"generator"} for each in told[1:])
    assert all({"RMSE", "CC", "SSIM", "SAM"} == each.scores.keys() for each in told)
    assert [each.best for each in told] == [min(e.scores["RMSE"] for e in told[: i + 1]) for i in range(4)]
    assert told[0].prediction.day == told[0].truth.day == series()[2].day


def test_before_the_first_step_a_network_is_as_good_as_its_base():
    _, (first, *_) = reports(data=series((-60, 45)), epochs=1)
    assert first.scores["RMSE"] == pytest.approx(first.floors["nearest"], rel=1e-5)
    assert first.floors.keys() == {"nearest", "delta"}


@pytest.fixture
def judged(monkeypatch):
    """Let the hidden date's error be as given, one for each look."""

    def give(*errors):
        left, plain = list(errors), Setting.judge

        def judge(self, nets):
            found = plain(self, nets)
            return replace(found, scores={**found.scores, "RMSE": left.pop(0)})

        monkeypatch.setattr(Setting, "judge", judge)

    return give


def test_enough_ends_and_keeps_the_best(judged):
    judged(0.5, 0.3, 0.4)
    asked = []
    path, told = reports(epochs=9, enough=lambda: asked.append(0) or len(asked) == 3)
    assert [each.epoch for each in told] == [0, 1, 2] and told[-1].note == "Stopped by hand." and told[-1].step == 3
    found = checkpoints.read(path.stem)
    assert found.metrics["RMSE"] == 0.3 and found.provenance["best_epoch"] == 1 and found.provenance["steps"] == 3


def test_a_training_without_gain_ends_by_itself(judged):
    judged(0.5, 0.3, 0.4, 0.3, 0.31)
    path, told = reports(epochs=9, options=replace(QUICK, patience=3))
    assert told[-1].epoch == 4 and told[-1].note == "Stopped: nothing was gained for 3 epochs."
    assert not any(each.note for each in told[:-1]) and checkpoints.read(path.stem).metrics["RMSE"] == 0.3


def test_time_ends_a_training():
    _, told = reports(epochs=9, options=replace(QUICK, minutes=1e-9))
    assert (told[-1].epoch, told[-1].step) == (1, 1) and told[-1].note == "Stopped after 1e-09 minutes."


def test_the_rate_falls_with_the_epochs_or_with_the_time_that_is_left():
    def share(step, minutes, spent, schedule="cosine"):
        options = SimpleNamespace(schedule=schedule, minutes=minutes)
        began = time.monotonic() - 60 * spent
        return Loop._share(SimpleNamespace(options=options, step=step, epochs=10, steps=5, began=began))

    assert share(0, 0.0, 7.0) == 1 and share(50, 0.0, 0.0) == pytest.approx(0.05)
    assert share(1, 0.0, 7.0) > share(1, 100.0, 50.0) > share(1, 100.0, 100.0) == pytest.approx(0.05)
    assert share(50, 100.0, 0.0) == pytest.approx(0.05)  # whichever comes first
    assert share(50, 100.0, 100.0, "constant") == 1


def test_a_network_that_learns_nothing_is_kept_as_it_began(judged):
    judged(0.1, 0.2, 0.3)
    path, _ = reports(TINY)
    weights = checkpoints.arrays(path.stem)
    assert not weights["generator.layer.weight"].any() and weights["generator.gate"] == 1
    assert checkpoints.read(path.stem).provenance["best_epoch"] == 0


@pytest.mark.parametrize("average", [0.0, 0.2, 0.9])
def test_what_is_kept_is_the_running_mean_of_the_weights(average, judged):
    judged(0.3, 0.2)
    states, nets = [], []
    plain = Tiny.networks

    def networks(self, bands, ratio):
        nets.append(plain(self, bands, ratio))
        return nets[-1]

    def note(*_):
        states.append({key: value.numpy().copy() for key, value in nets[0].state_dict().items()})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tiny, "networks", networks)
        options = replace(QUICK, average=average, steps=4)
        path = train(TINY, series(), epochs=1, options=options, progress=note, watch=lambda r: states or note())
    mean = states[0]
    for step, state in enumerate(states[1:5]):
        decay = min(average, (1 + step) / (10 + step))  # the mean takes hold at once
        mean = {key: decay * mean[key] + (1 - decay) * state[key] for key in mean}
    weights = checkpoints.arrays(path.stem)
    assert {key for key in mean if key.startswith("generator")} == weights.keys()  # no discriminator
    for key, value in weights.items():
        np.testing.assert_allclose(value, mean[key], atol=1e-7)
    assert weights["generator.layer.weight"].any()


def test_a_checkpoint_says_where_it_comes_from():
    path, told = reports(epochs=2, seed=7, about={"licence": "CC-BY-4.0"})
    found = checkpoints.read(path.stem)
    days = [str(DAY + timedelta(days=offset)) for offset in OFFSETS]
    assert (found.method, found.bands, found.ratios) == ("edcstfn", BANDS[:2], (4, 4))
    assert found.parameters == EDCSTFN.parameters()
    assert found.metrics["hidden"] == [days[2]] and found.metrics["floors"] == told[0].floors
    assert found.metrics["RMSE"] == told[-1].best and days[2] in found.title and f"{told[-1].best:.4f}" in found.title
    (area,) = found.provenance["areas"]
    assert area["days"] == [days[0], days[1], days[3]]
    assert area["pixels"] == [16, 24] and area["pixel"] == 30 and area["ratio"] == 4
    west, south, east, north = area["bounds"]
    assert 14 < west < east < 16 and 35 < south < north < 37
    about = found.provenance
    assert (about["seed"], about["epochs"], about["steps"], about["licence"]) == (7, 2, 4, "CC-BY-4.0")
    assert about["options"]["patch"] == 16 and "adapted_from" not in about
    mean = np.concatenate([p.fine.data for p in series() if str(p.day) != days[2]], axis=1).mean(axis=(1, 2))
    np.testing.assert_allclose(found.mean, mean, rtol=1e-4)


def test_what_is_trained_predicts():
    data = series()
    path, told = reports(data=data)
    from fusion import holdout

    stack, truth = holdout(data, data[2].day, 2)
    got = fuse(stack, replace(EDCSTFN, checkpoint=path.stem))
    best = min(told, key=lambda each: each.scores["RMSE"])
    np.testing.assert_allclose(got.data, best.prediction.data, atol=1e-5)
    np.testing.assert_array_equal(truth.data, best.truth.data)


# ---- bad input


def test_series_that_cannot_be_learnt_from_are_refused():
    good = series()
    blind = [marked(each, fine=np.nan) for each in good]
    apart = [marked(each, fine=np.nan, where=np.s_[:, 6 * i + 6 :]) for i, each in enumerate(good)]
    apart = [marked(each, fine=np.nan, where=np.s_[:, : 6 * i]) for i, each in enumerate(apart)]
    for data, options, message in [
        ([], QUICK, "at least two pairs .* got none"),
        (good[:1], QUICK, f"at least two days of an area, got only {good[0].day}"),
        ([*good, pair(80, rows=3)], QUICK, f"at least two days of an area, got only {pair(80).day}"),
        ([*good, good[1]], QUICK, f"two pairs of {good[1].day} on one grid"),
        (
            [*good, pair(80, rows=4, columns=6, bands=3)],
            QUICK,
            "want the bands blue, green, the pair of .* blue, green, red",
        ),
        (good, replace(QUICK, hidden="1999-01-01"), f"one of {good[0].day}, .*, got 1999-01-01: choose one"),
        (good[:2], replace(QUICK, hidden=str(good[0].day)), "leaves 1 of 2 days, and training wants two"),
        (blind, QUICK, f"two days of an area with valid pixels, got 0 of {good[0].day}, "),
        (
            [*good[:2], marked(good[2], fine=np.nan)],
            replace(QUICK, hidden=str(good[2].day)),
            f"hidden part of {good[2].day} wants pixels",
        ),
        (
            [good[0], marked(good[1], fine=np.nan, where=np.s_[:, 16:])],
            QUICK,
            f"hidden part of {good[1].day} wants pixels",
        ),
        (apart, QUICK, f"hidden part of {good[2].day} wants pixels"),
        ([marked(good[0], fine=np.nan, where=np.s_[:, :16]), good[1]], QUICK, "No pixel is seen on two days"),
        (
            [marked(each, fine=np.nan, where=np.s_[0, :, :]) for each in good[:2]],
            QUICK,
            "wants pixels|valid pixel of blue",
        ),
    ]:
        with pytest.raises(FusionError, match=message):
            train(EDCSTFN, data, epochs=1, options=options)
        with pytest.raises(FusionError, match=message):
            next(samples(EDCSTFN, data, options=options))
    assert checkpoints.names() == ()


def test_options_out_of_range_are_refused():
    for options, message in [
        ({"batch": 0}, "batch wants a whole number from 1 to 256, got 0"),
        ({"rate": -0.1}, "rate"),
        ({"schedule": "steps"}, "one of cosine, constant"),
        ({"hidden": "2020-13-01"}, "wants YYYY-MM-DD, got '2020-13-01'"),
        ({"hidden": "middle"}, "wants YYYY-MM-DD"),
    ]:
        with pytest.raises(FusionError, match=message):
            Options(**options)
    with pytest.raises(FusionError, match="at least one epoch, got 0"):
        train(EDCSTFN, series(), epochs=0)


def test_a_clouded_date_is_not_the_one_that_judges():
    data = series()
    data[2] = marked(data[2], fine=np.nan)
    path, told = reports(data=data)
    assert told[0].truth.day == data[1].day and math.isfinite(told[-1].best)
    data[1] = marked(data[1], coarse=np.nan)
    assert reports(data=data, epochs=1)[1][0].truth.day == data[3].day
    assert checkpoints.read(path.stem).metrics["hidden"] == [str(data[1].day)]


def test_a_hidden_date_without_contrast_is_judged_and_saved():
    data = series()
    data[2] = marked(data[2], fine=0.2, coarse=0.2)
    path, told = reports(data=data)
    assert not math.isfinite(told[0].scores["CC"])  # correlation with a constant
    metrics = checkpoints.read(path.stem).metrics
    assert "CC" not in metrics and math.isfinite(metrics["RMSE"])


@pytest.mark.parametrize(
    ("rows", "columns", "ratio", "bands", "count"),
    [(1, 1, 4, 1, 3), (1, 5, 3, 6, 2), (3, 2, 1, 4, 3), (2, 2, 20, 3, 2)],
)
@pytest.mark.parametrize("method", [EDCSTFN, Two()], ids=["one", "two"])
def test_any_size_ratio_and_number_of_bands_trains(method, rows, columns, ratio, bands, count):
    data = [pair(o, rows=rows, columns=columns, ratio=ratio, bands=bands) for o in OFFSETS[:count]]
    path, told = reports(method, data, epochs=1)
    assert math.isfinite(told[-1].scores["RMSE"]) and checkpoints.read(path.stem).ratios == (ratio, ratio)


def test_crops_of_clouds_alone_teach_nothing_and_break_nothing():
    data = series()
    for i in (0, 1, 3):
        data[i] = marked(data[i], fine=np.nan, where=np.s_[3:, :])
    path, told = reports(data=data, options=replace(QUICK, patch=8))
    assert math.isfinite(told[-1].losses["generator"])
    assert all(np.isfinite(value).all() for value in checkpoints.arrays(path.stem).values())


# ---- losses that explode, memory, disk


def test_a_loss_that_explodes_ends_with_what_was_good(monkeypatch, judged):
    judged(0.5, 0.4, 0.3, 0.35, 0.3)
    monkeypatch.setattr(Tiny, "trouble", lambda loss, sample, calls: loss * (math.nan if calls >= 7 else 1))
    path, told = reports(TINY, epochs=9)
    *_, before, last = told
    assert (before.epoch, last.epoch, last.step) == (3, 3, 7) and not before.note
    note = r"Stopped: it exploded at step 7 .the loss of generator is nan.. Kept are the weights of epoch 2."
    assert last.note == note.replace(r" .the", " (the").replace("nan..", "nan).")
    assert last.best == 0.3 and checkpoints.read(path.stem).provenance["best_epoch"] == 2
    np.testing.assert_array_equal(last.prediction.data, told[2].prediction.data)  # the very weights that are kept


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        (lambda loss, sample, calls: loss * math.inf, "step 0 .the loss of generator is inf"),
        (lambda loss, sample, calls: (loss * 0).sqrt().sum(), "the gradient of generator is nan"),
        (lambda loss, sample, calls: loss * (1e7 if calls >= 25 else 1), "step 25 .the loss of generator is .*, usual"),
    ],
    ids=["loss", "gradient", "sudden"],
)
def test_a_loss_that_explodes_before_anything_is_learnt_is_an_error(monkeypatch, judged, place, trouble, message):
    judged(0.1, 0.2)
    monkeypatch.setattr(Tiny, "trouble", trouble)
    with pytest.raises(FusionError, match=rf"Training exploded at .*{message}.*take a learning rate below 0.01"):
        train(TINY, series(), epochs=9, options=replace(QUICK, steps=20))
    assert checkpoints.names() == () and list((place / "unfinished").iterdir()) == []


def test_a_batch_is_halved_until_it_fits_into_memory(monkeypatch):
    seen = []

    def trouble(loss, sample, calls):
        seen.append(sample.fine.shape[0])
        if seen[-1] > most:
            raise torch.OutOfMemoryError("made up")
        return loss

    monkeypatch.setattr(Tiny, "trouble", trouble)
    most = 2
    path, told = reports(TINY, epochs=2, options=replace(QUICK, batch=9))
    assert seen == [9, 4, 2, 2, 2, 2] and told[-1].step == 4 and path.exists()
    most, seen[:] = 0, []
    with pytest.raises(FusionError, match="Tiny does not find memory on cpu to learn from one crop of 16 x 16 pixels"):
        train(TINY, series(), epochs=2, options=QUICK)
    assert seen == [2, 1]


def test_another_error_while_learning_is_not_taken_for_lack_of_memory(monkeypatch):
    def trouble(loss, sample, calls):
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(Tiny, "trouble", trouble)
    with pytest.raises(RuntimeError, match="shapes differ"):
        train(TINY, series(), epochs=1, options=QUICK)


def no_room(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


def full(body, about, where):
    raise FusionError("No room")


def too_short(*args, **kwargs):
    raise RuntimeError("unexpected pos 64 vs 0")


@pytest.mark.parametrize(("call", "error"), [("tempfile.mkstemp", no_room), ("torch.save", too_short)])
def test_a_full_disk_while_going_is_only_said(place, monkeypatch, caplog, call, error):
    def watch(report):
        if report.note:
            monkeypatch.undo()  # there is room again when the checkpoint is written
            monkeypatch.setenv("FUSION_CHECKPOINTS", str(place))

    monkeypatch.setattr(call, error)
    path = train(EDCSTFN, series(), epochs=1, options=QUICK, watch=watch)
    assert path.exists() and list(place.glob("**/*.part")) == []
    assert len(caplog.records) == 2 and "cannot be resumed if it is killed" in caplog.text


def test_a_full_disk_at_the_end_is_an_error_and_nothing_is_lost(place, monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "_write", full)
        with pytest.raises(FusionError, match="No room"):
            train(EDCSTFN, series(), epochs=2, options=QUICK)
    assert checkpoints.names() == ()
    path, told = reports()
    assert told == [] and path.exists()  # all epochs were done
    monkeypatch.setenv("FUSION_CHECKPOINTS", str(tmp_path / "another"))
    assert reports()[0].read_bytes() == path.read_bytes()


# ---- what is learnt from


@pytest.mark.parametrize("method", [EDCSTFN, Two()], ids=["one", "two"])
@pytest.mark.parametrize("change", [0.0, 0.5])
def test_the_hidden_date_is_never_shown(method, change):
    data = series()
    data[2] = marked(data[2], fine=50.0, coarse=60.0)
    for hidden in ("", str(data[2].day)):
        for sample in some(method, data, options=replace(QUICK, change=change, hidden=hidden)):
            assert (sample.mean < 1).all() and (sample.scale < 1).all()
            for images in (sample.fine, sample.coarse, sample.target, sample.truth):
                assert sample.reflectance(images).max() < 2
    (group,) = Setting.of(method, data, replace(QUICK, hidden=str(data[0].day))).groups
    assert group.fine[1].min() > group.fine[0].max()  # it would have been seen


@pytest.mark.parametrize("method", [EDCSTFN, Two()], ids=["one", "two"])
def test_of_two_days_a_strip_is_hidden(method):
    data = series((-60, 45), columns=8)
    data[1] = marked(data[1], fine=50.0, where=np.s_[24:])
    options = replace(QUICK, change=0)
    drawn = some(method, data, options=options, count=20)
    assert (
        max(float(sample.reflectance(images).max()) for sample in drawn for images in (sample.fine, sample.truth)) < 2
    )
    setting = Setting.of(method, data, options)
    (hidden,) = setting.hidden
    assert np.isfinite(hidden.truth.data[..., 24:]).all() and np.isnan(hidden.truth.data[..., :24]).all()
    assert hidden.stack.reference_days == (data[0].day,) and hidden.stack.day == data[1].day
    assert not setting.groups[0].seen[1, :, 24:].any() and setting.groups[0].seen[1, :, :24].all()


def test_a_large_scene_is_judged_by_its_middle(monkeypatch):
    monkeypatch.setattr("fusion.training._hidden.MOST_SIDE", 10)
    (hidden,) = Setting.of(EDCSTFN, series(), QUICK).hidden
    assert hidden.truth.shape == (2, 8, 8) and hidden.stack.target.shape == (2, 2, 2)
    np.testing.assert_array_equal(hidden.truth.data, series()[2].fine.data[:, 4:12, 8:16])
    (strip,) = Setting.of(EDCSTFN, series((-60, 45)), QUICK).hidden
    np.testing.assert_array_equal(strip.truth.data[..., 4:], series()[3].fine.data[:, :8, 20:24])


GAP = -0.5  # of a coarse image: what fills gaps of the fine one, and no other pixel has


@pytest.mark.parametrize("change", [0.0, 0.5])
@pytest.mark.parametrize("method", [EDCSTFN, Two()], ids=["one", "two"])
def test_unknown_pixels_are_no_truth(method, change):
    data = [marked(each, coarse=GAP) for each in series()]
    for i in (0, 1, 3):
        level = (0.2, 0.3, 0.0, 0.4)[i]
        data[i] = marked(marked(data[i], fine=level), fine=np.nan, where=np.s_[2 * i : 2 * i + 6, 3 * i : 3 * i + 9])
    hits = 0
    for sample in some(method, data, options=replace(QUICK, change=change), count=25):
        truth, fine = sample.reflectance(sample.truth), sample.reflectance(sample.fine)
        known = (sample.known > 0).expand_as(truth)
        assert truth[known].min() > 0.05 and truth[known].max() < 0.55
        seen = (sample.valid > 0).expand_as(fine)
        assert fine[seen].min() > 0.05
        np.testing.assert_allclose(fine[~seen], GAP, atol=1e-5) if not change else None
        hits += int((~known).sum())
        prediction = torch.full_like(truth, 9.0)
        wanted = sample.wanted(prediction)
        assert torch.equal(wanted[~known], prediction[~known]) and torch.equal(wanted[known], sample.truth[known])
    assert hits > 100


@pytest.mark.parametrize("method", [EDCSTFN, Two()], ids=["one", "two"])
@pytest.mark.parametrize("options", [QUICK, replace(QUICK, change=1.0, patch=12)], ids=["usual", "wild"])
@pytest.mark.parametrize("rows", [4, 2])  # crops that are square, and not
def test_turned_and_scaled_crops_stay_aligned(method, options, rows):
    paces = set()
    for sample in some(method, series(rows=rows, bands=3), options=options):
        torch.testing.assert_close(sample.down(sample.truth), sample.target, atol=2e-5, rtol=0)
        torch.testing.assert_close(
            sample.down(sample.fine.flatten(0, 1)), sample.coarse.flatten(0, 1), atol=2e-5, rtol=0
        )
        assert sample.fine.shape[1] in (method.at_once, 2) and (sample.valid == 1).all()
        r, (height, width) = sample.ratio, sample.known.shape[2:]
        inner = [slice(r, -r) if size >= 3 * r else slice(None) for size in (height, width)]
        assert (sample.known[:, :, inner[0], inner[1]] == 1).all()
        paces.add(round(float((sample.target - sample.coarse[:, 0]).abs().mean()), 6))
    assert len(paces) > 5


def test_pixels_without_coarse_neighbours_are_learnt_from_at_the_scenes_edge_only():
    ring = {False: set(), True: set()}  # whether a crop's first row is known, by whether it is the scene's
    data = [shaded(pair) for pair in series(rows=6, columns=6)]
    for sample in some(EDCSTFN, data, options=replace(QUICK, turns=False, change=0.0, patch=12)):
        for truth, known in zip(sample.reflectance(sample.truth)[:, 0], sample.known[:, 0], strict=True):
            first = bool(truth[0, 6] < 0.015)  # the shade rises by .01 with every row
            ring[first].add(bool(known[0, 6]))
            assert known[4:8, 4:8].all() and known[0, 0] <= known[0, 6]
    assert ring == {False: {False}, True: {True}}


def shaded(pair: Pair) -> Pair:
    """The same pair with a fine image that says which row a pixel is in."""
    rows = np.arange(pair.fine.data.shape[1], dtype=np.float32)[:, None] * 0.01 + 0.01
    return replace(pair, fine=replace(pair.fine, data=np.broadcast_to(rows, pair.fine.data.shape).copy()))


def slopes(options) -> set:
    """Direction in which images rise, of crops of a scene that rises southwards."""
    ramp = np.linspace(0.1, 0.5, 24, dtype=np.float32)[:, None] + np.zeros((1, 24), np.float32)
    data = []
    for each in series(rows=6, columns=6):
        coarse = np.broadcast_to(ramp.reshape(6, 4, 24).mean(1)[:, ::4], each.coarse.data.shape)
        fine = replace(each.fine, data=np.broadcast_to(ramp, each.fine.data.shape).copy())
        data.append(Pair(replace(each.coarse, data=coarse.copy()), fine))
    found = set()
    for sample in some(EDCSTFN, data, options=options):
        for image in sample.truth[:, 0]:
            south, east = float(image[-1, 0] - image[0, 0]), float(image[0, -1] - image[0, 0])
            found.add(
                (
                    round(math.copysign(1, south)) if abs(south) > 0.1 else 0,
                    round(east / abs(east)) if abs(east) > 0.1 else 0,
                )
            )
    return found


def test_crops_are_turned_unless_told_otherwise():
    assert slopes(QUICK) == {(1, 0), (-1, 0), (0, 1), (0, -1)}
    assert slopes(replace(QUICK, turns=False)) == {(1, 0)}


def test_change_noise_and_shift_are_what_they_say():
    plain = replace(QUICK, turns=False, change=0.0)
    (sample,) = some(EDCSTFN, series(), options=plain, count=1)
    (noisy,) = some(EDCSTFN, series(), options=replace(plain, noise=0.5, batch=1), count=1)
    assert torch.equal(noisy.truth, sample.truth[:1]) and torch.equal(noisy.fine, sample.fine[:1])
    for name in ("coarse", "target"):
        assert 0.2 < (getattr(noisy, name) - getattr(sample, name)[:1]).std() < 0.8
    (moved,) = some(EDCSTFN, series(), options=replace(plain, shift=1.0), count=1)
    assert torch.equal(moved.truth, sample.truth) and not torch.equal(moved.coarse, sample.coarse)
    assert moved.coarse.min() >= sample.coarse.min() - 1e-5 and moved.coarse.max() <= sample.coarse.max() + 1e-5


def test_a_shift_by_a_pixel_moves_by_a_pixel():
    image = torch.rand(2, 1, 3, 5, 7)
    moved = _moved(image, torch.tensor([[1.0, 0.0], [0.0, -2.0]]))
    torch.testing.assert_close(moved[0, :, :, :-1], image[0, :, :, 1:], atol=1e-5, rtol=0)
    torch.testing.assert_close(moved[1, ..., 2:], image[1, ..., :-2], atol=1e-5, rtol=0)
    torch.testing.assert_close(moved[0, :, :, -1], image[0, :, :, -1], atol=1e-5, rtol=0)  # the edge is repeated


def test_two_references_lie_in_time_order_and_two_days_give_one_twice():
    data = series((-60, -35, 10, 45), rows=2, columns=2)
    for i, each in enumerate(data):
        data[i] = marked(each, fine=0.1 * (i + 1), coarse=0.1 * (i + 1))
    seen = set()
    for sample in some(Two(), data, options=replace(QUICK, change=0.0, batch=8)):
        images = (sample.fine[:, 0], sample.fine[:, 1], sample.truth)
        levels = [sample.reflectance(image)[:, 0, 0, 0].tolist() for image in images]
        seen |= {tuple(round(value, 2) for value in row) for row in zip(*levels, strict=True)}
    assert seen == {(0.1, 0.2, 0.4), (0.1, 0.4, 0.2), (0.2, 0.4, 0.1)}
    one, two = (prepared(data[:2], np.zeros(2, np.float32), np.ones(2, np.float32), at_once) for at_once in (1, 2))
    assert one.transitions.days == [(0, 1), (1, 0)] and two.transitions.days == [(0, 0, 1), (1, 1, 0)]


def test_several_areas_are_learnt_from_together():
    near = series()
    far = [
        Pair(*(replace(s, geobox=s.geobox.translate_pix(500, 0)) for s in (each.coarse, each.fine)))
        for each in near[:2]
    ]
    far = [marked(each, fine=0.9, coarse=0.9) for each in far]
    far = [Pair(each.coarse, replace(each.fine, geobox=each.coarse.geobox.zoom_out(1 / 4))) for each in far]
    setting = Setting.of(EDCSTFN, [*near, *far], QUICK)
    assert [len(group.days) for group in setting.groups] == [3, 2] and len(setting.hidden) == 2
    levels = {round(float(sample.reflectance(sample.truth).mean()), 1) for sample in some(EDCSTFN, [*near, *far])}
    assert 0.9 in levels and len(levels) > 1
    path, _ = reports(data=[*near, *far], epochs=1)
    assert [len(area["days"]) for area in checkpoints.read(path.stem).provenance["areas"]] == [3, 2]


# ---- adapting


def test_adapting_starts_where_the_checkpoint_is():
    first, told = reports(epochs=3)
    weights = checkpoints.arrays(first.stem)
    path, again = reports(options=replace(QUICK, start=first.stem), epochs=1)
    metrics = checkpoints.read(first.stem).metrics
    assert again[0].scores == pytest.approx({name: metrics[name] for name in again[0].scores}, rel=1e-4)
    assert told[-1].best < told[0].best
    found = checkpoints.read(path.stem)
    assert found.provenance["adapted_from"] == first.stem and found.mean == checkpoints.read(first.stem).mean
    assert equal(checkpoints.arrays(path.stem), weights) == (found.provenance["best_epoch"] == 0)


def test_a_checkpoint_is_adapted_to_another_ratio_and_order_of_bands():
    first = train(EDCSTFN, series(), epochs=1, options=QUICK)
    data = [
        Pair(*(scene.select(("green", "blue")) for scene in (each.coarse, each.fine)))
        for each in series(ratio=3, seed=2)
    ]
    path, told = reports(data=data, options=replace(QUICK, start=first.stem), epochs=1)
    found = checkpoints.read(path.stem)
    assert found.ratios == (3, 3) and found.bands == ("blue", "green") and told[0].prediction.bands == ("green", "blue")
    from fusion import holdout

    stack, truth = holdout(data, data[2].day, 2)
    got = fuse(stack, replace(EDCSTFN, checkpoint=path.stem))
    assert np.sqrt(((got.data - truth.data) ** 2).mean(axis=(1, 2))).mean() == pytest.approx(told[-1].best, rel=1e-3)


def test_adapting_what_does_not_fit_is_refused(monkeypatch):
    first = train(EDCSTFN, series(), epochs=1, options=QUICK)
    options = replace(QUICK, start=first.stem)
    with pytest.raises(FusionError, match="is for the bands blue, green, the pairs have blue, green, red: choose"):
        train(EDCSTFN, series(bands=3), epochs=1, options=options)
    with pytest.raises(FusionError, match="Tiny wants a checkpoint of its own to adapt, got edcstfn-.*of edcstfn"):
        train(TINY, series(), epochs=1, options=options)
    with pytest.raises(FusionError, match="There is no checkpoint 'gone'"):
        train(EDCSTFN, series(), epochs=1, options=replace(QUICK, start="gone"))
    plain = Tiny.networks

    def networks(self, bands, ratio):
        return nn.ModuleDict({**plain(self, bands, ratio), "steps": conv(1, ratio)})

    monkeypatch.setattr(Tiny, "networks", networks)
    start = train(TINY, series(), epochs=1, options=QUICK).stem
    with pytest.raises(FusionError, match=f"Tiny has other layers at ratio 3 than at that of {start} .4.: adapt a"):
        train(TINY, series(ratio=3), epochs=1, options=replace(QUICK, start=start))


def test_adversaries_start_anew_and_from_the_seed(judged):
    judged(0.2, 0.1, *[0.3, 0.2, 0.1] * 2)
    first = train(TINY, series(), epochs=1, options=QUICK)
    options = replace(QUICK, start=first.stem)
    one, same = (train(TINY, series(), epochs=2, options=options, seed=seed) for seed in disturbed((3, 3)))
    assert one == same


def test_a_folder_that_cannot_be_written_is_known_before_the_first_epoch(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("FUSION_CHECKPOINTS", str(tmp_path / "file"))
    with pytest.raises(FusionError, match="cannot be written to .*file: File exists"):
        train(EDCSTFN, series(), epochs=1, options=QUICK, watch=lambda report: pytest.fail("trained"))


def test_a_training_out_of_patience_that_could_not_be_saved_learns_no_more(monkeypatch, judged, place):
    judged(0.1, 0.2, 0.3, 0.05)
    options = replace(QUICK, patience=2)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "_write", full)
        with pytest.raises(FusionError, match="No room"):
            train(EDCSTFN, series(), epochs=9, options=options)
    path, told = reports(epochs=9, options=options)
    assert told == [] and checkpoints.read(path.stem).provenance["best_epoch"] == 0


def test_what_was_left_long_ago_is_deleted_and_no_other_training(place):
    unfinished = place / "unfinished"
    unfinished.mkdir(parents=True)
    for name, age in (("old.pt", 31), ("old.part", 31), ("new.pt", 29), ("old.txt", 31)):
        (unfinished / name).write_bytes(b"")
        then = time.time() - age * 24 * 3600
        os.utime(unfinished / name, (then, then))
    train(EDCSTFN, series(), epochs=1, options=QUICK)
    assert sorted(each.name for each in unfinished.iterdir()) == ["new.pt", "old.txt"]


def test_two_trainings_at_a_time_start_from_their_own_seeds(monkeypatch):
    together = threading.Barrier(2)

    def networks(self, bands, ratio):
        with suppress(threading.BrokenBarrierError):
            together.wait(0.3)  # both would draw in turns, if nothing kept them apart
        first = torch.rand(3)
        with suppress(threading.BrokenBarrierError):
            together.wait(0.3)
        return nn.ModuleDict({"generator": nn.ParameterList([first, torch.rand(3)])})

    monkeypatch.setattr(Tiny, "networks", networks)
    setting = Setting.of(TINY, series(), QUICK)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(setting.networks, (1, 2)))
    for seed, nets in zip((1, 2), found, strict=True):
        torch.manual_seed(seed)
        torch.testing.assert_close(torch.cat([*nets.parameters()]), torch.rand(6), rtol=0, atol=0)
