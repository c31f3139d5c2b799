"""Classes: seeded, blind to the order of pixels and bands, the same for a tile as for the whole."""

from dataclasses import replace

import numpy as np
import pytest

from fusion.methods import _classes
from fusion.methods._classes import assign, centres, class_map, features, fractions, stack_centres
from landscapes import stack

# Three clusters of two features whose means are known: 0.1, 0.2 | 0.5, 0.1 | 0.4, 0.6.
MIDDLES = np.array([[0.1, 0.2], [0.5, 0.1], [0.4, 0.6]])


def clusters(height=30, width=41, noise=0.01, seed=0):
    rng = np.random.default_rng(seed)
    label = rng.choice(3, (height, width), p=[0.5, 0.3, 0.2])
    image = np.moveaxis(MIDDLES[label], 2, 0) + rng.normal(0, noise, (2, height, width))
    return image.astype(np.float32), label


def test_separate_clusters_are_found_darkest_first():
    image, label = clusters()
    got = centres(image, 3)
    want = [image[:, label == c].mean(axis=1) for c in (0, 1, 2)]  # sums .3, .6, 1.0
    np.testing.assert_allclose(got, want, rtol=1e-5)
    np.testing.assert_array_equal(assign(image, got), label)


def test_a_pixel_goes_to_the_nearest_centre_and_to_the_first_of_equally_near_ones():
    image = np.array([[[0.0, 0.2, 0.5, 0.9, np.nan]], [[0.0, 0.0, 0.0, 0.0, 0.0]]], np.float32)
    middle = np.array([[0, 0], [1, 0]], np.float32)
    assert assign(image, middle).tolist() == [[0, 0, 0, 1, -1]]


@pytest.mark.parametrize("count", [1, 2, 5, 9])
@pytest.mark.parametrize("sample", [300, 20_000])
def test_the_order_of_pixels_and_features_does_not_matter(monkeypatch, count, sample):
    monkeypatch.setattr(_classes, "SAMPLE", sample)
    monkeypatch.setattr(_classes, "PIECE", 1000)  # many pieces
    problem = stack((-40,), bands=3, rows=8, columns=9, gaps=2)
    image = problem.fine[0]
    got = centres(image, count, seed=4)
    rng = np.random.default_rng(1)
    shuffled = rng.permutation(image.reshape(3, -1), axis=1).reshape(image.shape)
    for other in (image[:, ::-1], image.swapaxes(1, 2), shuffled):
        np.testing.assert_array_equal(centres(np.ascontiguousarray(other), count, seed=4), got)
    order = [2, 0, 1]
    np.testing.assert_array_equal(centres(image[order], count, seed=4), got[:, order])
    np.testing.assert_array_equal(assign(image[order], got[:, order]), assign(image, got))


def test_mirrored_features_of_one_hash_keep_the_law():
    # (a, b) and (b, a) have the same hash; both must count, and the answer must turn with the features.
    a, b = np.random.default_rng(2).random((2, 400)).astype(np.float32)
    image = np.array([[np.concatenate([a, b, a])], [np.concatenate([b, a, b / 2])]])
    got = centres(image, 4)
    np.testing.assert_array_equal(centres(image[::-1], 4), got[:, ::-1])
    np.testing.assert_allclose(centres(image, 1), [image.mean(axis=(1, 2), dtype=np.float64)], rtol=1e-6)


def test_the_seed_decides_and_repeats():
    image = np.random.default_rng(0).random((2, 60, 60), np.float32)
    np.testing.assert_array_equal(centres(image, 7, seed=1), centres(image, 7, seed=1))
    assert (centres(image, 7, seed=1) != centres(image, 7, seed=2)).any()


def test_fewer_values_than_classes_give_the_values():
    image = np.array([[[0.3, 0.1, 0.3, 0.1, -0.0, 0.0]], [[0.2, 0.2, 0.2, 0.2, 0.6, 0.6]]], np.float32)
    np.testing.assert_array_equal(centres(image, 6), np.array([[0.1, 0.2], [0.3, 0.2], [0.0, 0.6]], np.float32))
    assert centres(np.full((3, 2, 2), np.nan, np.float32), 4).shape == (0, 3)
    assert (assign(image, np.zeros((0, 2), np.float32)) == -1).all()


def test_repeated_values_weigh_as_many_pixels_as_they_have():
    # One class: the centre is the mean over pixels, not over distinct values, also when only a sample is clustered.
    image = np.repeat(np.array([0.1, 0.2, 0.6], np.float32), [5000, 300, 100]).reshape(1, 54, 100)
    np.testing.assert_allclose(centres(image, 1), [[(500 + 60 + 60) / 5400]], rtol=1e-6)


def test_a_sample_of_a_large_image_finds_what_all_pixels_would(monkeypatch):
    monkeypatch.setattr(_classes, "SAMPLE", 500)
    monkeypatch.setattr(_classes, "PIECE", 1 << 14)
    image, _ = clusters(200, 300)
    np.testing.assert_allclose(centres(image, 3), MIDDLES, atol=4e-3)  # .01 / sqrt(100) = .001 per class
    points, weight = _classes._sample([image], 2, 0)
    assert len(points) == weight.sum() == 500  # all values differ


def test_k_means_is_as_good_as_many_starts_from_random_points():
    image = stack((-40,), bands=3, rows=6, columns=6).fine[0]
    points = image.reshape(3, -1).T.astype(float)

    def inertia(middle):
        return float(((points[:, None] - middle) ** 2).sum(axis=2).min(axis=1).sum())

    def plain(rng):
        middle = points[rng.choice(len(points), 5, replace=False)]
        for _ in range(60):
            label = ((points[:, None] - middle) ** 2).sum(axis=2).argmin(axis=1)
            middle = np.array([points[label == c].mean(axis=0) if (label == c).any() else middle[c] for c in range(5)])
        return inertia(middle)

    rng = np.random.default_rng(0)
    assert inertia(centres(image, 5)) <= 1.02 * min(plain(rng) for _ in range(20))


def test_the_nearest_pair_classifies_and_the_next_fills_its_gaps():
    problem = stack((-60, 25, 40))
    fine = problem.fine.copy()
    fine[1, 0, 2, 3] = np.nan  # one band is enough
    fine[1:, :, 7, 8] = np.nan
    fine[:, :, 9, 9] = np.nan
    got = features(replace(problem, fine=fine))
    want = problem.fine[1].copy()
    want[:, 2, 3] = problem.fine[2][:, 2, 3]
    want[:, 7, 8] = problem.fine[0][:, 7, 8]
    want[:, 9, 9] = np.nan
    np.testing.assert_array_equal(got, want)
    assert (class_map(replace(problem, fine=fine), centres(got, 3)) < 0).sum() == 1


def test_centres_of_a_stack_are_those_of_its_features(monkeypatch):
    problem = stack((-40, 25), gaps=2)
    monkeypatch.setattr(_classes, "PIECE", 500)
    np.testing.assert_array_equal(stack_centres(problem, 4), centres(features(problem), 4))


def test_a_given_map_is_taken_as_it_is():
    problem = stack()
    given = np.random.default_rng(0).integers(-1, 3, (20, 28)).astype(np.int16)
    problem = replace(problem, classes=given)
    assert stack_centres(problem, 4).shape == (0, 2)
    np.testing.assert_array_equal(class_map(problem, stack_centres(problem, 4)), given)


def test_fractions_by_hand():
    classes = np.array([[0, 0, 1, -1], [0, 2, -1, 1], [-1, -1, 2, 2], [-1, -1, 2, 0]], np.int16)
    got = fractions(classes, 3, 2)
    want = [[[0.75, 0], [np.nan, 0.25]], [[0, 1], [np.nan, 0]], [[0.25, 0], [np.nan, 0.75]]]
    np.testing.assert_array_equal(got, np.array(want, np.float32))
    assert got.dtype == np.float32 and fractions(classes, 0, 2).shape == (0, 2, 2)


def test_threads_change_nothing(monkeypatch):
    image, _ = clusters(70, 90, noise=0.2)
    got = []
    for number in ("1", "3"):
        monkeypatch.setenv("FUSION_THREADS", number)
        middle = centres(image, 6)
        label = assign(image, middle)
        got.append((middle, label, fractions(label, 6, 10)))
    for one, other in zip(*got, strict=True):
        np.testing.assert_array_equal(one, other)
