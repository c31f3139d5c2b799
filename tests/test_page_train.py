"""The Train page: what it proposes, a short training until its checkpoint is used, and files that come in."""

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import streamlit as st
import torch
from streamlit.testing.v1 import AppTest

import networks
from fusion import checkpoints, convert, methods
from fusion.checkpoints import Checkpoint
from fusion.errors import Cancelled, FusionError
from fusion.propose import bounds_of
from fusion.scene import Scene, identity_geobox
from fusion.training import Options
from pages._shared import forms, records, runs, state, training_views, trainings, weights
from pages._shared.records import Board, Training
from pages._shared.state import Work
from pages._shared.trainings import Basics, Plan

ROOT = Path(__file__).parents[1]
SMALL = {
    "train-basics": {"epochs": 2},
    "train-options": {"patch": 20, "steps": 1, "batch": 1},
    "train-net-edcstfn": {"width": 4, "feature_weight": 0.0},
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small are slower on several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[AppTest]:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("FUSION_CACHE", "off")
    monkeypatch.setenv("FUSION_CHECKPOINTS", str(tmp_path))
    monkeypatch.setattr(checkpoints, "_bundled_folder", lambda: None)
    st.cache_data.clear()
    st.cache_resource.clear()
    yield AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    runs.queue().close()  # so that a training of a test that failed writes into no other test's folder


@pytest.fixture
def page(app: AppTest) -> AppTest:
    """The page with a training that takes a second."""
    app.run()
    for name, value in SMALL.items():
        app.session_state[name] = value
    return visit(app)


def visit(app: AppTest) -> AppTest:
    app.switch_page("pages/train.py").run()
    assert not app.exception, [e.message for e in app.exception]
    return app


def texts(app: AppTest) -> str:
    kinds = (app.markdown, app.caption, app.info, app.error, app.success, app.warning, app.subheader)
    return re.sub(r"\\(.)", r"\1", "\n".join(str(element.value) for kind in kinds for element in kind))


def box(app: AppTest, label: str) -> Any:
    return next(each for each in [*app.selectbox, *app.multiselect] if each.label == label)


def press(app: AppTest, label: str) -> AppTest:
    next(button for button in app.button if button.label == label).click().run()
    assert not app.exception, [e.message for e in app.exception]
    return app


def checkpoint(**more: object) -> Checkpoint:
    usual: dict[str, object] = {
        "method": "edcstfn", "parameters": {}, "bands": ("blue", "green", "red", "nir"), "ratios": (10, 10),
        "mean": (0.1,) * 4, "scale": (0.1,) * 4, "metrics": {"RMSE": 0.02, "floors": {"nearest": 0.05, "delta": 0.03}},
    }  # fmt: skip
    return Checkpoint(**{**usual, **more})  # type: ignore[arg-type]


def kept(**more: object) -> str:
    """Name of a checkpoint that lies in the folder."""
    return checkpoints.save(checkpoint(**more), {"a": np.zeros(3, np.float32)}).stem


def test_all_days_but_the_target_are_proposed_and_the_middle_one_is_hidden(page: AppTest) -> None:
    work: Work = page.session_state["work"]
    chosen = page.session_state["train-days-chosen"]
    assert work.target in state.pair_days(work) and work.target not in chosen
    assert set(chosen) == set(state.pair_days(work)) - {work.target}
    assert box(page, "Hidden day").value == chosen[len(chosen) // 2]
    assert f"target day {work.target} is left out" in texts(page) and not page.warning
    assert box(page, "Weights to begin with").options == ["From scratch"]
    assert box(page, "Network").value == "edcstfn"


def test_the_target_among_the_days_is_warned_of(page: AppTest) -> None:
    days = box(page, "Days with both images")
    days.set_value([*days.value, page.session_state["work"].target]).run()
    assert not page.exception and "says nothing any more about how well that day is predicted" in texts(page)


def test_one_day_is_too_few_and_the_checkpoints_are_there_all_the_same(page: AppTest) -> None:
    kept()
    days = box(page, "Days with both images")
    days.set_value(days.value[:1]).run()
    assert "Training wants at least 2 days with both images, got 1" in texts(page)
    assert "Train" not in [button.label for button in page.button] and len(page.dataframe) == 1


def test_with_two_days_a_part_of_the_last_is_hidden(page: AppTest) -> None:
    days = box(page, "Days with both images")
    days.set_value(days.value[:2]).run()
    assert "eastern quarter of the last day is hidden" in texts(page)
    assert "Hidden day" not in [each.label for each in page.selectbox]
    press(page, "Train")
    assert "Hidden: the eastern quarter of 2016-08-05" in texts(page) and len(checkpoints.every()) == 1


def test_a_training_ends_in_a_checkpoint_beside_its_floors_that_is_used_on_fuse(page: AppTest) -> None:
    days = box(page, "Days with both images")
    days.set_value(days.value[:5]).run()
    box(page, "Base").set_value("reference").run()
    press(page, "Show samples")
    assert "6 crops of 20 x 20 fine pixels" in texts(page)
    press(page, "Train")
    assert len(names := checkpoints.names()) == 1, names
    (found,) = checkpoints.every()
    hidden = box(page, "Hidden day").value
    assert found.metrics["hidden"] == [hidden.isoformat()] and found.parameters["width"] == 4
    assert found.parameters["base"] == "reference"
    assert str(page.session_state["work"].target) not in str(found.provenance["areas"])
    assert "Sentinel-2 L2A" in found.provenance["data"]
    shown = texts(page)
    assert f"epoch 2 of 2. Hidden: {hidden}." in shown and "All epochs are done." in shown
    delta = found.metrics["floors"]["delta"]
    assert found.metrics["RMSE"] > delta and f"is not below that of Delta ({delta:.4f})" in shown
    scores = page.table[0].value.iloc[0]
    assert (scores["EDCSTFN"], scores["Delta"]) == (f"{found.metrics['RMSE']:.4f}", f"**{delta:.4f}** (best)")
    assert list(page.table[0].value["score"]) == ["RMSE (reflectance)", "CC", "SSIM", "SAM (degrees)"]
    assert not (page.table[0].value == "-").any(axis=None)  # the floors have all scores
    record, job = trainings.board().get(page.session_state["training"]), runs.queue().of("none")
    assert record is not None and [point.epoch for point in record.points] == [0, 1, 2] and not job
    app = visit(page.switch_page("pages/methods.py").run())  # it is there when one comes back
    assert box(app, "Base").value == "reference"
    assert "does not beat the floors" in texts(app)
    press(app, "Use it on Fuse")
    assert app.title[0].value == "Fuse"
    (network,) = [method for method in app.session_state["work"].methods if method.name() == "edcstfn"]
    assert network.checkpoint == found.name
    assert "checkpoint" in Work.from_link(app.session_state["work"].to_link()).methods[-1].parameters()


def test_a_network_begins_with_a_regression_where_it_can_and_is_better_than_delta_at_once(page: AppTest) -> None:
    assert box(page, "Base").value == "regression" and "Here it begins as regression" in texts(page)
    assert methods.get("edcstfn")().parameters()["base"] == "reference"  # a recipe's does not
    days = box(page, "Days with both images")
    days.set_value(days.value[:3]).run()
    press(page, "Train")
    record = trainings.board().get(page.session_state["training"])
    assert record is not None and record.before is not None and record.checkpoint
    assert record.before.rmse < record.baselines["Delta"]["RMSE"]
    assert checkpoints.read(record.checkpoint).parameters["base"] == "regression"
    box(page, "Network").set_value("stfdcnn").run()
    assert not page.exception and box(page, "Base").value == "delta"
    assert "Here it begins as regression" not in texts(page)


def planned(**options: object) -> Plan:
    work = state.settle(Work(methods=(methods.get("nearest")(),)))
    method = methods.get("edcstfn")(width=4, feature_weight=0.0)  # type: ignore[call-arg]
    days = state.pair_days(work)[:4]
    chosen = Options(patch=20, steps=1, batch=1, **options)  # type: ignore[arg-type]
    return trainings.plan(work, method, days, days[1], Basics(epochs=50), chosen)


def run(chosen: Plan, record: Training, progress: Any = lambda fraction, note="": None) -> None:
    stack, (truth,) = runs.fetch(chosen.recipe, [chosen.fine], runs.shelf(), runs.flights(), progress)
    trainings._train(chosen, record, trainings.series(stack, truth), progress)


def test_the_hidden_day_is_the_target_of_what_is_read_and_its_truth_the_fine_image(app: AppTest) -> None:
    chosen = planned()
    stack, (truth,) = runs.fetch(chosen.recipe, [chosen.fine], runs.shelf(), runs.flights(), lambda *some: None)
    pairs = {pair.day: pair for pair in trainings.series(stack, truth)}
    assert chosen.recipe.target.day == chosen.options.day == chosen.fine.day and len(pairs) == 4
    np.testing.assert_array_equal(pairs[chosen.fine.day].fine.data, truth.data)
    assert len({pair.fine.geobox for pair in pairs.values()}) == 1
    assert chosen.options.minutes == Basics().minutes


def test_enough_keeps_the_best_and_cancel_keeps_nothing_but_the_way_on(app: AppTest) -> None:
    chosen = planned()
    record = trainings.board().open(chosen)

    def impatient(fraction: float, note: str = "") -> None:
        if len(record.points) > 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        run(chosen, record, impatient)
    assert not checkpoints.every() and not record.checkpoint and not trainings.resumed(record)
    again = trainings.board().open(chosen)
    assert again is not record and again.points == record.points
    assert not trainings.resumed(again)  # nobody knows yet
    again.stop.set()
    run(chosen, again)
    assert trainings.resumed(again) == "Goes on from step 2 of an earlier try."
    epochs = [point.epoch for point in again.points]
    assert epochs == sorted(set(epochs)) and 3 <= len(epochs) < 10 and again.note == "Stopped by hand."
    assert [row.name for row in checkpoints.every()] == [again.checkpoint]


@pytest.fixture
def known(app: AppTest) -> str:
    """Name of a checkpoint of the sample's bands and ratio, with weights."""
    method, bands = networks.small("edcstfn", feature_weight=0.0), ("blue", "green", "red", "nir")
    return networks.saved(method, bands, 10, mean=(0.1,) * 4, scale=(0.1,) * 4).stem


def test_adapting_is_compared_with_what_was_and_with_scratch(page: AppTest, known: str) -> None:
    page.run()
    assert "Compare with one trained from scratch" not in [toggle.label for toggle in page.toggle]
    box(page, "Weights to begin with").set_value(known).run()
    toggle = next(each for each in page.toggle if each.label == "Compare with one trained from scratch")
    assert toggle.value and "It doubles the time" in texts(page)
    days = box(page, "Days with both images")
    days.set_value(days.value[:4]).run()
    press(page, "Train")
    record = trainings.board().get(page.session_state["training"])
    assert record is not None and record.scratch is not None and not page.error
    was, scratch, adapted = record.points[0], record.scratch.best, record.best
    assert was.epoch == 0 and scratch is not None and adapted is not None
    assert [point.epoch for point in record.scratch.points] == [0, 1, 2]
    assert adapted.rmse < scratch.rmse and adapted.rmse < was.rmse
    table = page.table[0].value.set_index("score")
    assert list(table.columns) == ["ideal", "Nearest", "Delta", "As it was (zero-shot)", "From scratch", "Adapted"]
    told = [re.sub(r"[^\d.]", "", text) for text in table.loc["RMSE (reflectance)"][3:]]
    assert told == [f"{point.rmse:.4f}" for point in (was, scratch, adapted)]
    assert all(sum("(best)" in text for text in row) >= 1 for row in table.values)
    assert f"% below that of the network trained from scratch on the same budget ({scratch.rmse:.4f})" in texts(page)
    assert "did no better and is not kept" in texts(page)
    assert {row.name for row in checkpoints.every()} == {known, record.checkpoint}
    np.testing.assert_array_equal(record.pictures["truth"], record.scratch.pictures["truth"])  # one stretch


def test_a_network_from_scratch_that_does_no_better_is_dropped_unless_it_was_there(
    app: AppTest, known: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = replace(planned(start=known), epochs=1, compare=True)
    record = trainings.board().open(chosen)
    monkeypatch.setattr(trainings, "_error", lambda name: 0.1)
    run(chosen, record)
    assert record.scratch is not None and record.scratch.best is not None and not record.scratch.checkpoint
    assert {row.name for row in checkpoints.every()} == {known, record.checkpoint}
    monkeypatch.setattr(trainings, "_error", lambda name: {record.checkpoint: 0.1}.get(name, 0.0))
    again = trainings.board().open(chosen)
    run(chosen, again)
    assert again.scratch is not None
    found = checkpoints.read(again.scratch.checkpoint)
    assert found.parameters == checkpoints.read(known).parameters and "adapted_from" not in found.provenance
    monkeypatch.setattr(trainings, "_error", lambda name: 0.1)
    run(chosen, trainings.board().open(chosen))
    assert again.scratch.checkpoint in checkpoints.names()


def test_who_stops_an_adaptation_waits_for_no_comparison(app: AppTest, known: str) -> None:
    chosen = replace(planned(start=known), compare=True)
    record = trainings.board().open(chosen)
    fractions: list[float] = []

    def hasty(fraction: float, note: str = "") -> None:
        if not note:  # else images are read
            fractions.append(fraction)
        if len(record.points) > 1:
            record.stop.set()

    run(chosen, record, hasty)
    assert record.checkpoint and record.scratch is not None and not record.scratch.points
    assert 0 < max(fractions) < 0.5  # one of 50 epochs is a hundredth of both trainings


def test_a_checkpoint_that_knows_the_hidden_image_is_warned_of(page: AppTest) -> None:
    hidden = box(page, "Hidden day").value
    west, south, east, north = bounds_of(page.session_state["work"].ring)
    name = kept(provenance={"areas": [{"days": [str(hidden)], "bounds": [west, south, east, north]}]})
    page.run()
    assert not page.warning
    box(page, "Weights to begin with").set_value(name).run()
    assert f"was trained on the image that is hidden here ({hidden})" in texts(page)


def test_where_networks_compute_is_said(page: AppTest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(weights, "device", lambda: "cpu")
    assert "Computed on the processor." in texts(page.run())
    monkeypatch.setattr(weights, "device", lambda: "cuda")
    told = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    for names, words in (("Card 1", "on the GPU (Card 1)."), ("Card 1\nCard 2", "on the GPU.")):
        told.write_text(f"#!/bin/sh\necho '{names}'\n")
        told.chmod(0o755)
        weights._card.cache_clear()
        assert f"Computed {words}" in texts(page.run())
    weights._card.cache_clear()


@pytest.mark.parametrize(
    ("default", "low", "high", "step"),
    [(0.99, 0.0, 0.9999, 0.001), (1.0, 0.0, 1.0, 0.1), (0.5, 0.0, 1.0, 0.05), (0.0, 0.0, 1.0, 0.01), (4.0, 0, 99, 0.4)],
)
def test_a_step_stays_within_the_range(default: float, low: float, high: float, step: float) -> None:
    item = methods.Param("x", float, default, "", "1", low, high, False, False, ())
    assert forms._step(item) == pytest.approx(step)


def report(epoch: int, rmse: float, best: float, level: float = 0.1, note: str = "") -> Any:
    scene = Scene(np.full((1, 4, 4), level, np.float32), identity_geobox(4, 4), ("red",), date(2018, 5, 2))
    truth = replace(scene, data=np.linspace(0, 1, 16, dtype=np.float32).reshape(1, 4, 4))
    return SimpleNamespace(
        epoch=epoch, losses={"generator": 1.0} if epoch else {}, scores={"RMSE": rmse},
        baselines={"delta": {"RMSE": 0.03}},
        best=best, prediction=scene, truth=truth, note=note, resumed=0,
    )  # fmt: skip


def test_a_record_keeps_curves_and_the_pictures_of_first_best_and_last() -> None:
    record = Training("train:x", "Net", "2018-05-02", 9, ("red",))
    for epoch, rmse, best, level in ((0, 0.05, 0.05, 0.1), (1, 0.02, 0.02, 0.4), (2, 0.04, 0.02, 0.9)):
        record.take(report(epoch, rmse, best, level))
    assert [point.rmse for point in record.points] == [0.05, 0.02, 0.04]
    assert record.best is not None and record.best.epoch == 1
    shades = {name: tuple(picture[0, 0]) for name, picture in record.pictures.items()}
    assert len({shades["before"], shades["best"], shades["now"]}) == 3
    record.take(report(0, 0.05, 0.05, 0.1))  # begun anew
    assert [point.epoch for point in record.points] == [0]
    assert tuple(record.pictures["best"][0, 0]) == shades["before"]


def test_a_long_curve_is_thinned_and_keeps_its_ends_and_the_best() -> None:
    record = Training("train:x", "Net", "2018-05-02", 9, ("red",))
    for epoch in range(records.POINTS + 2):
        record.take(report(epoch, 0.01 if epoch == 7 else 0.05, 0.01 if epoch >= 7 else 0.05))
    epochs = [point.epoch for point in record.points]
    assert len(epochs) <= records.POINTS / 2 + 4 and {0, 7, records.POINTS + 1} <= set(epochs)


def test_the_board_forgets_the_oldest(app: AppTest) -> None:
    board, first = Board(), planned()
    plans = [replace(first, seed=seed) for seed in range(records.KEPT + 1)]
    for each in plans:
        board.open(each)
    assert board.get(plans[0].key) is None and board.get(plans[1].key) is not None
    assert len({each.key for each in plans}) == len(plans)


def test_checkpoints_are_listed_adapted_and_deleted(page: AppTest) -> None:
    mine, other = kept(), kept(bands=("red", "nir"), mean=(0.1,) * 2, scale=(0.1,) * 2, title="*Two* bands")
    page.run()
    table = page.dataframe[0].value.set_index("checkpoint")
    assert table.loc[mine, "fits"] == "yes" and table.loc[other, "fits"] == "no"
    assert (table.loc[mine, "hidden"], table.loc[mine, "RMSE"]) == ("-", "0.0200")
    assert table.loc[mine, "floors (RMSE)"] == "Delta 0.0300, Nearest 0.0500"
    assert box(page, "Weights to begin with").options == ["From scratch", mine]
    box(page, "Weights to begin with").set_value(mine).run()
    assert "those of the checkpoint that is adapted" in texts(page)
    box(page, "Checkpoint").set_value(other).run()
    assert "Not for this work" in texts(page)
    assert next(button for button in page.button if button.label == "Use it on Fuse").disabled
    press(page, "Delete it now")
    assert [row.name for row in checkpoints.every()] == [mine]


def test_a_file_that_cannot_be_used_is_listed_as_it_is_named_and_deleted(page: AppTest, tmp_path: Path) -> None:
    mine, name = kept(), "![x](http://a.example) *cut*.safetensors"
    assert "Files that cannot be used" not in texts(page.run())
    path = tmp_path / name.replace("http://a.example", "x")
    path.write_bytes(b"<html>")
    page.run()
    assert list(page.dataframe[0].value["checkpoint"]) == [mine] and not page.exception
    assert list(page.dataframe[1].value["file"]) == [path.name]
    told = next(text.value for text in page.caption if "safetensors file that Meantime" in text.value)
    assert told.startswith(r"\!\[x\]\(x\) \*cut\*.safetensors wants to be a safetensors file")
    press(page, "Delete the file now")
    assert not path.exists() and "Files that cannot be used" not in texts(page) and checkpoints.names() == (mine,)


def test_a_checkpoint_comes_in_and_a_pickle_does_not(page: AppTest) -> None:
    path = checkpoints.path_of(kept())
    data = path.read_bytes()
    path.unlink()
    page.file_uploader[0].upload("mine.safetensors", data).run()
    assert [row.name for row in checkpoints.every()] == [path.stem] and not page.exception and not page.error
    assert box(page, "Checkpoint").value == path.stem
    page.file_uploader[0].upload("evil.safetensors", b"\x80\x04cos\nsystem\n.").run()
    assert not page.exception and "pickles (.pt, .pth, .ckpt) are never opened" in texts(page)
    assert len(checkpoints.every()) == 1


def test_keras_weights_are_converted_together_each_for_its_band(page: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, bytes] = {}

    def fake(files: dict[str, bytes]) -> Path:
        seen.update(files)
        return Path(kept(method="dcstfn") + ".safetensors")

    monkeypatch.setattr(convert, "dcstfn", fake)
    given = [(name, name.encode(), "application/x-hdf5") for name in ("dcstfn_red_ep.hdf5", "second.h5")]
    page.file_uploader[1].set_value(given).run()
    assert box(page, "Band of dcstfn\\_red\\_ep.hdf5").value == "red"
    second = box(page, "Band of second.h5")
    assert second.value is None
    assert next(button for button in page.button if button.label == "Convert").disabled
    second.set_value("red").run()
    assert "Two files have the same band" in texts(page)
    box(page, "Band of second.h5").set_value("nir").run()
    press(page, "Convert")
    assert seen == {"red": b"dcstfn_red_ep.hdf5", "nir": b"second.h5"}
    assert [row.method for row in checkpoints.every()] == ["dcstfn"]


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (0.02, 0.019, "training has lowered it by 5.0%"),
        (0.02, 0.02, "training has not lowered it"),
        (0.02, 0.019999, "training has not lowered it"),
        (0.02, 0.021, "training has not lowered it"),
    ],
)
def test_what_training_itself_has_brought_is_said(before, after, words):
    assert training_views.learnt(before, after) == f"Before the first step it was 0.0200: {words}."


@pytest.mark.parametrize(
    ("metrics", "floors", "error"),
    [
        ({"RMSE": 0.02, "floors": {"delta": 0.03}}, {"Delta": 0.03}, 0.02),
        ({"RMSE": "0.02", "floors": [1]}, {}, math.nan),
        ({}, {}, math.nan),
    ],
)
def test_metrics_that_others_wrote_are_read_with_care(metrics: Any, floors: dict[str, float], error: float) -> None:
    found = checkpoint(metrics=metrics)
    assert training_views.floors_of(found) == floors
    assert training_views.number(found.metrics.get("RMSE")) == pytest.approx(error, nan_ok=True)


def test_no_more_methods_than_fuse_runs(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    full = tuple(methods.get(name)() for name in ("nearest", "delta", "starfm"))
    monkeypatch.setattr(state, "MOST_METHODS", 3)
    monkeypatch.setattr(state, "work", lambda: Work(methods=full))
    with pytest.raises(FusionError, match="at most 3 methods at once"):
        training_views.use(checkpoint(name="edcstfn-x"))
