"""The n most similar pixels of a window: by hand, in plain Python, and on both kinds of processor."""

import math

import numpy as np
import pytest

from fusion.methods import _neighbours
from fusion.methods._neighbours import nearest_mean, nearest_mean_torch
from fusion.methods._windows import distance_weights


@pytest.fixture(autouse=True)
def on_the_processor(monkeypatch):
    monkeypatch.setenv("FUSION_DEVICE", "cpu")


def images(seed=0, features=3, planes=2, height=14, width=19, step=0.01):
    """Features that are whole numbers of steps, so that many scores tie, and values; each with missing pixels."""
    rng = np.random.default_rng(seed)
    like = (rng.integers(10, 60, (features, height, width)) * step).astype(np.float32)
    values = rng.random((planes, height, width), np.float32)
    like[rng.integers(features), rng.random((height, width)) < 0.1] = np.nan
    values[rng.integers(planes), rng.random((height, width)) < 0.05] = np.nan
    return like, values


def options(kind, like, seed=1):
    rng = np.random.default_rng(seed)
    gain = (rng.integers(1, 4, like.shape) * 0.5).astype(np.float32)
    tolerance = rng.uniform(0.12, 0.3, len(like)).astype(np.float32)
    return {
        "plain": {},
        "gain": {"gain": gain},
        "tolerance": {"tolerance": tolerance},
        "both": {"gain": gain, "tolerance": tolerance},
        "square": {"square": True},
        "all": {"gain": gain, "tolerance": tolerance, "square": True},
    }[kind]


KINDS = ("plain", "gain", "tolerance", "both", "square", "all")


def plain_python(like, values, window, count, distance, gain=None, tolerance=None, square=False):
    """The docstring, pixel by pixel and by sorting."""
    _, height, width = like.shape
    known = np.isfinite(like).all(axis=0) & np.isfinite(values).all(axis=0)
    out, half = np.full(values.shape, np.nan), window // 2
    for y, x in np.ndindex(height, width):
        if not known[y, x]:
            continue
        found = []
        for j, i in np.ndindex(window, window):
            v, u = y + j - half, x + i - half
            if not (0 <= v < height and 0 <= u < width and known[v, u]):
                continue
            apart = [abs(float(a) - float(b)) for a, b in zip(like[:, v, u], like[:, y, x], strict=True)]
            if tolerance is not None and any(a > t for a, t in zip(apart, tolerance, strict=True)):
                continue
            factors = [1.0] * len(apart) if gain is None else gain[:, y, x]
            score = sum(g * a ** (2 if square else 1) for g, a in zip(factors, apart, strict=True))
            found.append((math.sqrt(score) if square else score, v, u, 1 / distance[j, i]))
        limit = sorted(found)[min(count, len(found)) - 1][0] + 1e-6
        chosen = [(v, u, w) for score, v, u, w in found if score <= limit]
        total = sum(w for _, _, w in chosen)
        out[:, y, x] = sum(w * values[:, v, u].astype(float) for v, u, w in chosen) / total
    return out


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("window", "count"), [(3, 2), (7, 5), (9, 100)])
def test_sorting_in_plain_python_gives_the_same(kind, window, count):
    like, values = images()
    distance = distance_weights(window, 2.0)
    got = nearest_mean(like, values, window=window, count=count, distance=distance, **options(kind, like))
    want = plain_python(like, values, window, count, distance, **options(kind, like))
    assert got.dtype == np.float32 and 0 < np.isnan(got).mean() < 0.5
    np.testing.assert_allclose(got, want, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(1, 1, 1, 1), (1, 5, 1, 40), (6, 2, 17, 33), (2, 9, 40, 3)])
def test_torch_gives_the_same(monkeypatch, kind, size):
    monkeypatch.setattr(_neighbours, "MEMORY", 4000)  # several blocks of rows
    features, planes, height, width = size
    like, values = images(3, features, planes, height, width, step=1e-4)
    for window, count in ((3, 1), (11, 20)):
        choice = {"window": window, "count": count, "distance": distance_weights(window, 4.0), **options(kind, like)}
        np.testing.assert_allclose(
            nearest_mean_torch(like, values, "cpu", **choice), nearest_mean(like, values, **choice), atol=1e-6
        )


def test_another_device_goes_through_torch(monkeypatch):
    like, values = images()
    choice = {"window": 5, "count": 4, "distance": distance_weights(5, 4.0)}
    want = nearest_mean(like, values, **choice)
    monkeypatch.setattr(_neighbours, "device", lambda: "cpu:0")
    monkeypatch.setattr(_neighbours, "_mean_rows", None)
    np.testing.assert_allclose(nearest_mean(like, values, **choice), want, atol=1e-6)


def test_five_pixels_by_hand():
    # Centre .30; beside it .31 and .33, two away .30 and .36. The two most similar are the centre and the far .30, at
    # distances 1 and 1 + 2/2: (10 + 50/2) / (1 + 1/2) = 23.33; with three also .31 at 1 + 1/2: 20/1.5 more.
    like = np.array([[[0.30, 0.31, 0.30, 0.33, 0.36]]], np.float32)
    values = np.array([[[50, 20, 10, 30, 40]]], np.float32)
    for count, want in ((2, 35 / 1.5), (3, (35 + 20 / 1.5) / (1.5 + 1 / 1.5)), (1, 35 / 1.5)):
        got = nearest_mean(like, values, window=5, count=count, distance=distance_weights(5, 2.0))
        assert got[0, 0, 2] == pytest.approx(want, rel=1e-6)  # for one, two tie


def test_ties_are_all_taken_although_they_differ_in_the_last_bit():
    # .1 + .2 and .3 differ in float arithmetic; as reflectances they are the same number of steps.
    like = np.array([[[0.4, 0.5, 0.7]], [[0.4, 0.6, 0.4]]], np.float32)
    scores = np.abs(like - like[:, :, :1]).sum(axis=0)[0]
    assert scores[1] != scores[2]
    values = np.array([[[1, 2, 4]]], np.float32)
    got = nearest_mean(like, values, window=5, count=2, distance=np.ones((5, 5), np.float32))
    assert got[0, 0, 0] == pytest.approx(7 / 3, rel=1e-6)


@pytest.mark.parametrize("step", [0, 1e-7, 0.5])
def test_a_flat_image_is_averaged_whole(step):
    # Every score is equal, or there are two: half of the pixels are alike.
    like = np.full((2, 12, 12), 0.3, np.float32)
    like[:, :, ::2] += np.float32(step)
    values = np.random.default_rng(0).random((1, 12, 12), np.float32)
    got = nearest_mean(like, values, window=5, count=3, distance=np.ones((5, 5), np.float32))
    window = values[0, 3:8, 4:9]
    same = window[:, ::2] if step == 0.5 else window
    assert got[0, 5, 6] == pytest.approx(same.mean(), rel=1e-5)


def test_one_neighbour_is_the_pixel_itself():
    like, values = images(step=1e-4)
    like += np.random.default_rng(5).random(like.shape, np.float32)  # no two alike
    got = nearest_mean(like, values, window=9, count=1, distance=distance_weights(9, 2.0))
    known = np.isfinite(like).all(axis=0) & np.isfinite(values).all(axis=0)
    np.testing.assert_array_equal(got[:, known], values[:, known])
    assert np.isnan(got[:, ~known]).all()


def test_scores_of_any_size_work():
    rng = np.random.default_rng(4)
    like, values = rng.random((3, 15, 18), np.float32), rng.random((2, 15, 18), np.float32)
    choice = {"window": 7, "count": 6, "distance": distance_weights(7, 2.0)}
    want = nearest_mean(like, values, **choice)
    for scale in (2.0**-5, 2.0**20):
        np.testing.assert_allclose(nearest_mean(like * np.float32(scale), values, **choice), want, atol=1e-6)
        gain = np.full_like(like, scale)
        np.testing.assert_allclose(nearest_mean(like, values, gain=gain, **choice), want, atol=1e-6)


def test_the_number_of_threads_and_the_order_of_features_change_nothing(monkeypatch):
    like, values = images(features=4, height=50)
    choice = {"window": 9, "count": 7, "distance": distance_weights(9, 2.0)}
    want = nearest_mean(like, values, **choice)
    monkeypatch.setenv("FUSION_THREADS", "3")
    np.testing.assert_array_equal(nearest_mean(like, values, **choice), want)
    np.testing.assert_allclose(nearest_mean(like[[2, 0, 3, 1]], values, **choice), want, atol=1e-6)
