"""fuse: tiles, executors, progress, cancelling, feathering, and what it refuses."""

import multiprocessing
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import pytest

from fusion import Cancelled, FusionError, Method, fuse, methods
from fusion._pulse import report, stop_if_asked
from fusion.methods import _windows
from landscapes import stack


@dataclass(frozen=True)
class Level(Method):
    """Says 0.3 everywhere, but is not exact."""

    title = "Level"
    paper = "none"
    exact = False

    def halo(self, ratio):
        return 5

    def predict(self, stack, state):
        return np.full(stack.fine.shape[1:], 0.3, np.float32)


@dataclass(frozen=True)
class TileMean(Level):
    """Says the mean of its own tile: with hard edges it would show seams."""

    def predict(self, stack, state):
        return np.full(stack.fine.shape[1:], stack.target.mean(), np.float32)


@dataclass(frozen=True)
class Ramp(Level):
    """Says the column number: a plane must come out a plane."""

    def predict(self, stack, state):
        column = (stack.geobox.affine.c - 500_000) / 30 + np.arange(stack.fine.shape[3])
        return np.broadcast_to(column.astype(np.float32), stack.fine.shape[1:])


@dataclass(frozen=True)
class WrongShape(Level):
    """Forgets the bands."""

    def predict(self, stack, state):
        return stack.fine[0, 0]


@dataclass(frozen=True)
class Broken(Level):
    """Fails at work."""

    exact = True

    def predict(self, stack, state):
        raise ZeroDivisionError("broken kernel")


@dataclass(frozen=True)
class Sleeper(Method):
    """Takes its time, and notes where it worked."""

    title = "Sleeper"
    paper = "none"

    def predict(self, stack, state):
        time.sleep(0.6)
        return stack.fine[0]


@dataclass(frozen=True)
class HalfWay(Method):
    """Reports half of its tile, and takes its time for the rest."""

    title = "Half way"
    paper = "none"

    def predict(self, stack, state):
        report(0.5)
        time.sleep(0.5)
        return stack.fine[0].copy()


@dataclass(frozen=True)
class LongLook(Level):
    """Looks at the whole image until it is told to stop."""

    def prepare(self, stack):
        try:
            while True:
                time.sleep(0.01)
                stop_if_asked()
        finally:
            STOPPED.set()


STOPPED = threading.Event()


@dataclass(frozen=True)
class Two(Level):
    """Needs two pairs."""

    pairs = 2


STARFM = methods.get("starfm")(window=7)


@pytest.fixture(scope="module")
def work():
    return stack(rows=9, columns=13, ratio=3, gaps=2)


@pytest.fixture(scope="module")
def whole(work):
    return fuse(work, STARFM, tile=10_000)


def test_the_result_lies_on_the_stacks_grid(work, whole):
    assert (whole.geobox, whole.bands, whole.day) == (work.geobox, work.bands, work.day)
    assert whole.data.dtype == np.float32 and whole.data.shape == work.fine.shape[1:]
    np.testing.assert_array_equal(whole.data, STARFM.predict(work, STARFM.prepare(work)))


@pytest.mark.parametrize("tile", [1, 3, 7, 12, 26, 39])
def test_threads_and_tiles_change_nothing(work, whole, tile):
    np.testing.assert_allclose(fuse(work, STARFM, tile=tile).data, whole.data, atol=1e-6)
    with ThreadPoolExecutor(3) as pool:
        np.testing.assert_allclose(fuse(work, STARFM, tile=tile, executor=pool).data, whole.data, atol=1e-6)
        assert pool.submit(int, "7").result() == 7  # the caller's executor stays open


def test_processes_change_nothing(work, whole):
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        np.testing.assert_allclose(fuse(work, STARFM, tile=15, executor=pool).data, whole.data, atol=1e-6)


def test_progress_rises_from_0_to_1_on_the_callers_thread(work):
    seen = []
    fuse(work, STARFM, tile=9, progress=lambda fraction: seen.append((fraction, threading.get_ident())))
    fractions = [fraction for fraction, _ in seen]
    assert fractions[0] == 0 and fractions[-1] == 1 and fractions == sorted(fractions)
    assert len(set(fractions)) > 3  # 3 x 5 tiles, some of which end together
    assert {thread for _, thread in seen} == {threading.get_ident()}


def test_progress_is_called_while_a_tile_is_worked_on(work):
    seen = []
    fuse(work, Sleeper(), progress=seen.append)
    assert seen.count(0.0) >= 3 and seen[-1] == 1  # 0.6 s of work, a call every 0.2 s


def test_cancelling_stops_kernels_after_the_strips_that_were_begun(monkeypatch):
    big = stack(rows=64, columns=64, ratio=16, bands=1)
    slow = methods.get("starfm")(window=201)  # minutes of work
    fuse(stack(), STARFM)  # compiled before the clock runs
    working = []
    rows = _windows._similar_rows
    monkeypatch.setattr(_windows, "_similar_rows", lambda *args: (working.append(args[0]), rows(*args)))
    raised = []

    def stop_soon(fraction):
        if working:
            raised.append(time.monotonic())
            raise Cancelled("enough")

    with pytest.raises(Cancelled, match="enough"):
        fuse(big, slow, tile=512, progress=stop_soon)
    while any(t.name.startswith("fuse") for t in threading.enumerate()):
        assert time.monotonic() - raised[0] < 20, "kernels still run"
        time.sleep(0.02)
    assert len(working) < 20  # of 2 tiles of 42 strips each that were begun


def test_cancelling_reaches_the_look_at_the_whole_image(work):
    calls = []

    def stop_soon(fraction):
        calls.append(fraction)
        if len(calls) > 2:
            raise Cancelled("enough")

    with pytest.raises(Cancelled, match="enough"):
        fuse(work, LongLook(), progress=stop_soon)
    assert STOPPED.wait(20) and calls == [0.0, 0.0, 0.0]


def test_what_progress_raises_reaches_the_caller(work):
    def closed_tab(fraction):
        if fraction > 0.2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fuse(work, STARFM, tile=3, progress=closed_tab)


def test_what_a_method_raises_reaches_the_caller(work):
    with pytest.raises(ZeroDivisionError, match="broken kernel"):
        fuse(work, Broken(), tile=3)


def test_a_level_stays_level_when_feathered(work):
    for tile in (3, 8, 100):
        np.testing.assert_allclose(fuse(work, Level(), tile=tile).data, 0.3, rtol=1e-6)


def test_a_plane_stays_a_plane_when_feathered(work):
    got = fuse(work, Ramp(), tile=9).data
    np.testing.assert_allclose(got, np.broadcast_to(np.arange(39), got.shape), atol=1e-4)


def test_feathering_shows_no_seam():
    wide = stack(rows=4, columns=24, ratio=3)
    wide = replace(wide, target=np.broadcast_to(np.arange(24, dtype=np.float32) / 24, wide.target.shape).copy())
    got = fuse(wide, TileMean(), tile=18).data
    hard = TileMean().predict(wide[:, :18], None)[0, 0, 0], TileMean().predict(wide[:, 18:36], None)[0, 0, 0]
    step = np.abs(np.diff(got[0, 5])).max()
    assert 0 < step < 0.25 * abs(hard[1] - hard[0])


def test_a_target_without_a_valid_pixel_is_refused(work):
    with pytest.raises(FusionError, match="target day 2020-07-01 has no valid pixel.*choose another"):
        fuse(replace(work, target=np.full_like(work.target, np.nan)), STARFM)


def test_pairs_without_a_valid_pixel_are_refused(work):
    fine, coarse = work.fine.copy(), work.coarse.copy()
    fine[0], coarse[1] = np.nan, np.nan
    with pytest.raises(FusionError, match=r"No pair \(2020-05-22, 2020-07-26\) has a valid pixel"):
        fuse(replace(work, fine=fine, coarse=coarse), STARFM)


def test_one_pair_without_a_valid_pixel_is_no_error(work):
    fine = work.fine.copy()
    fine[0] = np.nan
    got = fuse(replace(work, fine=fine), STARFM)
    np.testing.assert_array_equal(got.data, fuse(work.select([1]), STARFM).data)


def test_too_few_pairs_are_refused(work):
    with pytest.raises(FusionError, match="Level wants at least 2 pairs, got 1: give it 2 pairs"):
        fuse(work.select([0]), Two())


@pytest.mark.parametrize("tile", [0, -5])
def test_a_tile_has_at_least_one_pixel(work, tile):
    with pytest.raises(ValueError, match=f"at least 1 fine pixel, got {tile}"):
        fuse(work, STARFM, tile=tile)


def test_a_prediction_of_the_wrong_shape_is_refused(work):
    with pytest.raises(TypeError, match=r"Level.predict returned \(27, 39\), wanted \(2, 27, 39\)"):
        fuse(work, WrongShape())


def test_progress_moves_within_one_tile(work):
    seen = []
    fuse(work, HalfWay(), progress=seen.append)
    assert 0.5 in seen and seen == sorted(seen) and seen[-1] == 1
