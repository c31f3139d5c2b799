"""STRUM: what the paper's equations say on small problems, and its accuracy on real scenes."""

from dataclasses import replace

import numpy as np
import pytest

from fusion import FusionError, fuse, methods
from fusion.methods._classes import assign, centres, features
from landscapes import bare, block_mean, stack
from test_starfm import fsdaf_scene
from test_ubdf import boreas, by_all_active_sets, lgc, mixed, scores, shenzhen

STRUM = methods.get("strum")


def run(problem, **parameters):
    method = STRUM(**parameters)
    return method.predict(problem, method.prepare(problem))


def plain_python(problem, label, window, solver, noise):
    """The docstring's equations, coarse pixel by coarse pixel."""
    (pairs, bands, height, width), ratio = problem.fine.shape, problem.ratio
    rows, columns, count = height // ratio, width // ratio, int(label.max()) + 1
    total, weights = np.zeros((bands, height, width)), np.zeros((bands, height, width))
    block = lambda v, u: (slice(v * ratio, (v + 1) * ratio), slice(u * ratio, (u + 1) * ratio))  # noqa: E731 - short
    for k in range(pairs):
        for b in range(bands):
            r = problem.target[b].astype(float) - problem.coarse[k, b]
            seen = {}
            for v, u in np.ndindex(rows, columns):
                here = label[block(v, u)]
                if np.isfinite(r[v, u]) and (here >= 0).any():
                    seen[v, u] = [(here[here >= 0] == c).mean() for c in range(count)]
            purity = np.array([[share**8 for share in shares] for shares in seen.values()])
            values = np.array([r[at] for at in seen])
            prior = (purity * values[:, None]).sum(axis=0) / purity.sum(axis=0)
            for v, u in np.ndindex(rows, columns):
                near = [at for at in seen if max(abs(at[0] - v), abs(at[1] - u)) <= window // 2]
                e = prior.copy()
                if near:
                    a, rest = np.array([seen[at] for at in near]), np.array([r[at] for at in near])
                    held = a.max(axis=0) >= 0.1
                    rest = rest - a[:, ~held] @ prior[~held]
                    a, e0 = a[:, held], prior[held]
                    if solver == "bayesian":
                        normal = a.T @ a + noise**2 * np.eye(held.sum())
                        e[held] = e0 + np.linalg.solve(normal, a.T @ (rest - a @ e0))
                    else:
                        e[held] = by_all_active_sets(a, rest, np.nanmin(r), np.nanmax(r), 1e-4, e0)
                for y, x in np.ndindex(ratio, ratio):
                    at = (b, v * ratio + y, u * ratio + x)
                    c = label[at[1:]]
                    value = problem.fine[k][at] + (e[c] if c >= 0 else r[v, u])
                    if np.isfinite(value) and np.isfinite(r[v, u]):
                        total[at] += value / abs(problem.days[k])
                        weights[at] += 1 / abs(problem.days[k])
    return np.where(weights > 0, total / np.where(weights > 0, weights, 1), np.nan)


@pytest.mark.parametrize("solver", ["bayesian", "bounded"])
@pytest.mark.parametrize("window", [1, 3, 5])
@pytest.mark.parametrize("gaps", [0, 2])
@pytest.mark.parametrize("given", [False, True], ids=["k-means", "map"])
def test_the_equations_in_plain_python_give_the_same(solver, window, gaps, given):
    problem = stack((-40, 15), rows=5, columns=6, ratio=3, gaps=gaps, seed=2)
    target = problem.target.copy()
    target[1, 2, 2] = np.nan  # in one band only
    problem = replace(problem, target=target + 0.1 * problem.coarse[0] ** 2)
    label = assign(features(problem), centres(features(problem), 4))
    if given:
        label = np.where(np.random.default_rng(0).random(label.shape) < 0.1, -1, label).astype(np.int16)
        problem = replace(problem, classes=label)
    got = run(problem, classes=4, window=window, solver=solver, noise=0.3)
    np.testing.assert_allclose(got, plain_python(problem, label, window, solver, 0.3), atol=2e-6)


def test_each_class_is_given_its_own_change():
    problem, _, truth = mixed()
    assert np.abs(truth - problem.fine[0] - (truth - problem.fine[0]).mean(axis=(1, 2), keepdims=True)).max() > 0.1
    np.testing.assert_allclose(run(problem, window=5, noise=0.01), truth, atol=2e-4)


def test_differences_within_a_class_are_kept():
    problem, _, truth = mixed()
    texture = np.random.default_rng(1).normal(0, 0.02, truth.shape)
    fine = problem.fine + texture.astype(np.float32)
    coarse = block_mean(fine[0], 4)[None]
    target = problem.target + coarse[0] - problem.coarse[0]
    problem = replace(problem, fine=fine, coarse=coarse, target=target)
    np.testing.assert_allclose(run(problem, window=5, noise=0.01), truth + texture, atol=2e-4)


def test_one_class_changes_by_the_mean_of_its_window():
    problem = stack((-40,))
    got = run(problem, classes=1, window=3, noise=0.01) - problem.fine[0]
    change = problem.target - problem.coarse[0]
    for v, u in ((2, 3), (0, 0), (4, 6)):
        mean = change[:, max(v - 1, 0) : v + 2, max(u - 1, 0) : u + 2].mean(axis=(1, 2))
        np.testing.assert_allclose(got[:, 4 * v : 4 * v + 4, 4 * u].mean(axis=1), mean, atol=1e-5)


def test_alone_and_without_noise_a_coarse_pixel_keeps_its_mass():
    # One equation and several unknowns: whatever their shares, together they make the change of the coarse pixel.
    problem = stack((-40,), bands=3)
    got = run(problem, window=1, noise=0.01)
    np.testing.assert_allclose(block_mean(got, 4), problem.target, atol=5e-5)
    change = (got - problem.fine[0]).reshape(3, 5, 4, 7, 4)
    assert np.ptp(change, axis=(2, 4)).max() > 1e-3  # and yet the classes in it differ


def test_much_noise_gives_each_class_one_change_everywhere():
    problem, *_ = mixed()
    change = run(problem, window=3, noise=100.0) - problem.fine[0]
    for c in range(3):
        assert np.ptp(change[:, problem.classes == c], axis=1).max() < 1e-3


def test_pairs_are_averaged_by_nearness_in_time_and_stand_in_for_each_other():
    problem = stack((-40, 10, 25), rows=6)
    fine = problem.fine.copy()
    fine[0, :, 3:9, 5:11] = np.nan
    fine[1, :, 5:9, 5:11] = np.nan
    fine[2, :, 7:9, 5:11] = np.nan
    coarse = problem.coarse.copy()
    coarse[1, :, 5, 6] = np.nan
    problem = replace(problem, fine=fine, coarse=coarse)
    got = run(problem)
    label = assign(features(problem), centres(features(problem), 4))
    alone = np.stack([run(replace(problem.select([k]), classes=label)) for k in range(3)])
    weight = np.where(np.isnan(alone), 0, np.array([1 / 40, 1 / 10, 1 / 25])[:, None, None, None])
    want = (np.nan_to_num(alone) * weight).sum(axis=0) / np.where(weight.sum(axis=0) > 0, weight.sum(axis=0), np.nan)
    np.testing.assert_allclose(got, want, atol=2e-6)
    assert np.isnan(got).sum() == 2 * 2 * 6  # where all pairs are missing, in two bands


def test_a_pixel_of_unknown_class_changes_as_its_coarse_pixel():
    problem, *_ = mixed()
    label = problem.classes.copy()
    label[5, 6] = -1
    got = run(replace(problem, classes=label))
    want = problem.fine[0] + np.repeat(np.repeat(problem.target - problem.coarse[0], 4, axis=1), 4, axis=2)
    np.testing.assert_allclose(got[:, 5, 6], want[:, 5, 6], atol=1e-7)


def test_a_map_decides_the_classes_and_too_many_are_refused():
    problem = stack((-40,), rows=6, columns=6)
    halves = np.zeros((24, 24), np.int16)
    halves[:, 12:] = 7
    change = run(replace(problem, classes=halves)) - problem.fine[0]
    for half in (change[:, 8:12, 8:12], change[:, 8:12, 12:16]):  # one class, one coarse pixel: one change
        assert np.ptp(half, axis=(1, 2)).max() < 1e-6
    many = np.arange(24 * 24, dtype=np.int16).reshape(24, 24)
    with pytest.raises(FusionError, match="STRUM wants a class map of at most 100 classes, got 576"):
        fuse(replace(problem, classes=many), STRUM())


def test_threads_and_tiles_change_nothing(monkeypatch):
    problem = stack((-40, 25), rows=40, columns=37, ratio=3, gaps=2)
    got = []
    for threads, tile in (("1", 1000), ("3", 1000), ("2", 15)):
        monkeypatch.setenv("FUSION_THREADS", threads)
        got.append(fuse(problem, STRUM(solver="bounded", window=5), tile=tile).data)
    np.testing.assert_array_equal(got[0], got[1])
    np.testing.assert_allclose(got[0], got[2], atol=1e-5)


@pytest.mark.parametrize("solver", ["bayesian", "bounded"])
@pytest.mark.parametrize(
    ("rows", "columns", "ratio", "bands"), [(1, 1, 5, 1), (1, 4, 2, 1), (2, 1, 33, 2), (5, 3, 1, 1)]
)
def test_small_scenes_work(solver, rows, columns, ratio, bands):
    problem = stack((-40,), rows=rows, columns=columns, ratio=ratio, bands=bands)
    got = run(problem, solver=solver)
    change = problem.target - problem.coarse[0]
    if rows * columns == 1:  # nothing tells the classes apart
        np.testing.assert_allclose(got, problem.fine[0] + change, atol=1e-5)
    assert np.isfinite(got).all()
    most = np.abs(change).max()  # no class runs away
    assert np.abs(got - problem.fine[0]).max() <= (1.5 * most if solver == "bayesian" else most + 1e-5)


def test_the_scene_of_the_fsdaf_paper():
    # There, STARFM has RMSE .0405 and UBDF .0583. STRUM has .0500 on our drawing of it: a disc that grew is no change
    # of a class.
    old, new = fsdaf_scene()
    problem = bare(old[None], block_mean(old, 16)[None], block_mean(new, 16))
    got = fuse(problem, STRUM(classes=3)).data
    assert 0.03 < float(np.sqrt(np.mean((got - new) ** 2))) < 0.052
    outside = np.abs(old - 0.5) < 0.01
    assert np.abs((got - old)[0][300:420, 60:200].mean() + 0.1) < 0.01  # the rectangle fell from .3 to .2
    assert np.abs((got - old)[outside].mean()) < 0.02


@pytest.mark.data
def test_fields_and_a_town_are_better_than_delta(test_data):
    # RMSE .00684, .00650 and .02893; delta .00714, .00697 and .03117.
    for (problem, truth), most in (
        (boreas(test_data, "boreas_estarfm_2001"), 0.0070),
        (boreas(test_data, "boreas_estarfm_2001/coreg"), 0.0066),
        (shenzhen(test_data), 0.0291),
    ):
        error, edge = scores(problem, truth, STRUM())
        assert error <= most and abs(edge) < 0.08
        assert error < 0.97 * scores(problem, truth, methods.get("delta")())[0]


@pytest.mark.data
def test_a_flood_is_worse_than_delta_because_it_is_no_change_of_a_class(test_data):
    # RMSE .02592, delta .02131. What the classes leave of the coarse change, added back by blocks, gains it all again:
    # the loss lies in the change that does not go with the classes, and in nothing within the coarse pixels.
    problem, truth = lgc(test_data)
    got = fuse(problem, STRUM()).data
    rest = problem.target - block_mean(got, 16)
    with_rest = got + np.repeat(np.repeat(rest, 16, axis=1), 16, axis=2)
    error = lambda image: float(np.sqrt(np.mean((image - truth.data) ** 2, axis=(1, 2))).mean())  # noqa: E731 - short
    floor = error(fuse(problem, methods.get("delta")(kernel="nearest")).data)
    assert error(with_rest) < 1.01 * floor < error(got) < 0.0262
