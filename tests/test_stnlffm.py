"""STNLFFM against its paper: cases by hand, the equations in plain Python, and real images."""

import math
from dataclasses import replace

import numpy as np
import pytest

from fusion import Scene, fuse, methods
from fusion.methods._stnlffm import Planes, pair_prediction, pair_prediction_torch
from fusion.scene import identity_geobox
from fusion.stack import UNKNOWN_DAY
from landscapes import bare, block_mean, stack

STNLFFM = methods.get("stnlffm")


def run(problem, **parameters):
    method = STNLFFM(**parameters)
    return method.predict(problem, method.prepare(problem))


def rows(fine, coarse, target):
    """A problem of one pair and one row at ratio 1; each argument is a list of bands."""
    return bare([[[band] for band in fine]], [[[band] for band in coarse]], [[band] for band in target])


def test_three_pixels_by_hand():
    # Window 3, h^2 = .04, gamma = .001; all three pixels are similar (F within .02, changes .03, .02, .04 within .02).
    #   F  .300 .310 .305    C  .20 .24 .22    C2  .23 .26 .26
    # Middle: mean C = .22, mean C2 = .25; sum (C - .22)^2 = .0008, sum (C - .22)(C2 - .25) = .0004 + .0002 + 0 = .0006
    #   a = (.0006 + .001) / (.0008 + .001) = .888889     b = .25 - .888889 * .22 = .054444
    #   W = exp(-|C - .26| / .04): exp(-1.5) = .223130, exp(-.5) = .606531, exp(-1) = .367879, sum 1.197540
    #   sum W F = (.223130 * .300 + .606531 * .310 + .367879 * .305) / 1.197540 = .306601
    #   F2 = .888889 * .306601 + .054444 = .326979
    got = run(
        rows([[0.300, 0.310, 0.305]], [[0.20, 0.24, 0.22]], [[0.23, 0.26, 0.26]]),
        window=3, similarity=0.02, stability=0.025, stiffness=1e-3, smoothing=0.2,
    )  # fmt: skip
    assert got[0, 0, 1] == pytest.approx(0.326979, abs=2e-6)
    # Left pixel, two in its window: mean C = .22, mean C2 = .245; a = .0016 / .0018 again, b = .049444
    #   W = exp(-.75) = .472367, exp(-.25) = .778801; sum W F = (.141710 + .241428) / 1.251168 = .306224
    assert got[0, 0, 0] == pytest.approx(0.888889 * 0.306224 + 0.049444, abs=2e-6)


def test_a_neighbour_must_be_similar_in_every_band():
    fine = [[0.30, 0.31, 0.31], [0.20, 0.20, 0.25]]  # the right one only in the first band
    still = [[0.3] * 3, [0.2] * 3]
    got = run(rows(fine, still, still), window=3, similarity=0.02)
    np.testing.assert_allclose(got[:, 0, 0], [0.305, 0.20], atol=1e-6)
    np.testing.assert_allclose(got[:, 0, 1], [0.305, 0.20], atol=1e-6)
    np.testing.assert_allclose(got[:, 0, 2], [0.31, 0.25], atol=1e-6)


def test_a_neighbour_must_have_changed_by_the_same_amount_in_every_band():
    same, coarse = [[0.30, 0.31, 0.32], [0.2] * 3], [[0.3] * 3, [0.2] * 3]
    target = [[0.3] * 3, [0.21, 0.21, 0.23]]  # changes .01 .01 .03 of the second band
    got = run(rows(same, coarse, target), window=5, similarity=0.05, stability=0.015)
    np.testing.assert_allclose(got[0, 0], [0.305, 0.305, 0.32], atol=1e-6)
    wide = run(rows(same, coarse, target), window=5, similarity=0.05, stability=0.025)
    np.testing.assert_allclose(wide[0, 0], [0.31, 0.31, 0.31], atol=1e-6)


def test_the_amount_counts_not_the_direction_of_a_change():
    # A neighbour that fell by .02 is as similar as one that rose by .02: the mean change is 0 (a stays 1).
    got = run(rows([[0.3, 0.3]], [[0.3, 0.3]], [[0.32, 0.28]]), window=3, stiffness=1e6)
    np.testing.assert_allclose(got[0, 0], [0.3, 0.3], atol=1e-6)


def test_the_tolerance_doubles_from_black_to_white():
    # d 2^F with d = .01: .01 at F = 0 and .02 at F = 1; neighbours .015 away.
    for value, joined in ((0.0, False), (1.0, True)):
        got = run(rows([[value, value + 0.015]], [[0.5, 0.5]], [[0.5, 0.5]]), window=3, similarity=0.01)
        assert got[0, 0, 0] == pytest.approx(value + (0.0075 if joined else 0), abs=1e-6)


def similar_pixels(problem, y, x, window, d, s):
    """Indices of the similar pixels of one pair at ratio 1, as the paper defines them."""
    fine, change = problem.fine[0].astype(float), np.abs(problem.coarse[0].astype(float) - problem.target)
    half = window // 2
    return [
        (yy, xx)
        for yy in range(max(0, y - half), min(fine.shape[1], y + half + 1))
        for xx in range(max(0, x - half), min(fine.shape[2], x + half + 1))
        if (np.abs(fine[:, yy, xx] - fine[:, y, x]) <= d * 2 ** fine[:, y, x]).all()
        and (np.abs(change[:, yy, xx] - change[:, y, x]) <= s).all()
    ]


def noisy(pairs=1, bands=2, height=13, width=17, seed=0, spread=0.02):
    """Pairs and target at ratio 1 with noise, so that some neighbours are similar and some are not."""
    rng = np.random.default_rng(seed)
    fine = rng.normal(0.2, spread, (pairs, bands, height, width))
    coarse = rng.normal(0.25, spread, (pairs, bands, height, width))
    return bare(fine, coarse, coarse[0] + rng.normal(0.03, 0.01, coarse[0].shape), tuple(range(-pairs, 0)))


def test_a_stiff_line_and_even_weights_give_the_mean_of_fine_plus_coarse_change():
    problem = noisy()
    got = run(problem, window=7, similarity=0.03, stability=0.02, stiffness=1e6, smoothing=10)
    shared = 0
    for y, x in np.ndindex(13, 17):
        near = similar_pixels(problem, y, x, 7, 0.03, 0.02)
        shared += len(near) > 1
        where = tuple(np.transpose(near))
        said = (problem.fine[0] + problem.target - problem.coarse[0])[(slice(None), *where)]
        np.testing.assert_allclose(got[:, y, x], said.mean(axis=1), atol=2e-5)
    assert shared > 150


def test_gamma_moves_the_slope_from_the_fitted_line_to_one():
    # The coarse image became 1.5 C + .02 everywhere; fine pixels are alike, so that only the line matters.
    rng = np.random.default_rng(1)
    coarse = rng.uniform(0.1, 0.3, (1, 1, 30, 30))
    problem = bare(np.full_like(coarse, 0.2), coarse, 1.5 * coarse[0] + 0.02)
    soft = run(problem, window=21, stability=0.2, stiffness=1e-4)
    np.testing.assert_allclose(soft, 1.5 * 0.2 + 0.02, atol=1e-4)
    stiff = run(problem, window=21, stability=0.2, stiffness=1e6)
    around = coarse[0, 0, 5:26, 5:26].mean()  # a = 1: the mean change is added
    assert stiff[0, 15, 15] == pytest.approx(0.2 + 0.5 * around + 0.02, abs=1e-6)
    between = [float(run(problem, window=21, stability=0.2, stiffness=g)[0, 15, 15]) for g in (0.01, 1, 100)]
    steps = np.diff([soft[0, 15, 15], *between, stiff[0, 15, 15]])
    assert (np.abs(steps) > 1e-6).all() and len(set(np.sign(steps))) == 1


def test_a_pixel_like_no_other_changes_as_its_coarse_pixel():
    rng = np.random.default_rng(3)
    fine = rng.permutation(np.linspace(0.1, 0.9, 15 * 20)).reshape(1, 1, 15, 20)
    coarse, target = rng.uniform(0.1, 0.9, (1, 1, 15, 20)), rng.uniform(0.1, 0.9, (1, 15, 20))
    got = run(bare(fine, coarse, target), window=9, similarity=1e-4)
    np.testing.assert_allclose(got, fine[0] + target - coarse[0], atol=1e-6)


def test_without_change_the_prediction_stays_within_the_tolerance_of_the_fine_image():
    problem = stack((-40, 25))
    fine = np.broadcast_to(problem.fine[0], problem.fine.shape)
    still = replace(problem, fine=fine, coarse=np.broadcast_to(problem.target, problem.coarse.shape))
    error = np.abs(run(still, window=9, similarity=0.02) - fine[0])
    assert error.max() > 1e-3  # it does average
    assert (error <= 0.02 * 2 ** fine[0] + 1e-6).all()


def test_pairs_share_by_the_inverse_of_the_change_around():
    flat = np.ones((1, 6, 6))
    fine = np.stack([0.30 * flat, 0.40 * flat])
    coarse = np.stack([0.20 * flat, 0.26 * flat])
    # Changes .04 and .02: weights 1 / .04001 and 1 / .02001; each pair says F + C2 - C: .34 and .38.
    got = run(bare(fine, coarse, 0.24 * flat, (-5, 5)), window=3)
    w = 1 / 0.04001, 1 / 0.02001
    np.testing.assert_allclose(got, (0.34 * w[0] + 0.38 * w[1]) / sum(w), atol=1e-6)
    # Nothing changed since the second pair: it decides.
    got = run(bare(fine, coarse, coarse[1], (-5, 5)), window=3)
    np.testing.assert_allclose(got, 0.40, atol=1e-4)


def plain_python(problem, window, d, s, gamma, h):
    """The docstring's equations, pixel by pixel; ratio 1, so that nothing is interpolated."""
    f, c, c2 = (a.astype(float) for a in (problem.fine, problem.coarse, problem.target))
    pairs, bands, height, width = f.shape
    ok = np.isfinite(f).all(1) & np.isfinite(c).all(1) & np.isfinite(c2).all(0)
    out = np.full((bands, height, width), np.nan)
    half = window // 2
    for y, x, b in np.ndindex(height, width, bands):
        top = bottom = 0.0
        for k in range(pairs):
            if not ok[k, y, x]:
                continue
            fs, cs, ts, changes = [], [], [], []
            for yy in range(max(0, y - half), min(height, y + half + 1)):
                for xx in range(max(0, x - half), min(width, x + half + 1)):
                    if not ok[k, yy, xx]:
                        continue
                    changes.append(abs(c[k, b, yy, xx] - c2[b, yy, xx]))
                    alike = True
                    for q in range(bands):
                        alike &= abs(f[k, q, yy, xx] - f[k, q, y, x]) <= d * 2 ** f[k, q, y, x]
                        there, here = (abs(c[k, q, v, u] - c2[q, v, u]) for v, u in ((yy, xx), (y, x)))
                        alike &= abs(there - here) <= s
                    if alike:
                        fs.append(f[k, b, yy, xx])
                        cs.append(c[k, b, yy, xx])
                        ts.append(c2[b, yy, xx])
            n = len(fs)
            cm, tm = sum(cs) / n, sum(ts) / n
            cov = sum((u - cm) * (v - tm) for u, v in zip(cs, ts, strict=True))
            a = (cov + gamma) / (sum((u - cm) ** 2 for u in cs) + gamma)
            w = [math.exp(-abs(u - c2[b, y, x]) / h**2) for u in cs]
            said = sum(wi * (a * fi + tm - a * cm) for wi, fi in zip(w, fs, strict=True)) / sum(w)
            share = 1 / (sum(changes) / len(changes) + 1e-5)
            top, bottom = top + share * said, bottom + share
        if bottom:
            out[b, y, x] = top / bottom
    return out


@pytest.mark.parametrize("pairs", [1, 2])
@pytest.mark.parametrize("bands", [1, 3])
def test_the_equations_in_plain_python_agree_with_gaps(pairs, bands):
    problem = noisy(pairs, bands, height=12, width=15, seed=pairs + 10 * bands)
    problem.fine[0, 0, 3:5, 6] = np.nan
    problem.coarse[-1, -1, 8, 2:7] = np.nan
    problem.target[0, 10, 10:12] = np.nan
    want = plain_python(problem, 7, 0.03, 0.015, 0.002, 0.2)
    got = run(problem, window=7, similarity=0.03, stability=0.015, stiffness=0.002, smoothing=0.2)
    np.testing.assert_allclose(got, want, atol=2e-6)
    assert np.isnan(want).any() and np.isnan(want).mean() < 0.1


def test_coarse_images_are_interpolated_as_said():
    problem = stack((-40,), rows=3, columns=4, ratio=3)
    repeat = np.ones((3, 3))
    fine_grid = bare(problem.fine, np.kron(problem.coarse, repeat), np.kron(problem.target, repeat))
    wide = {"window": 7, "similarity": 0.1, "stability": 0.1}
    np.testing.assert_allclose(run(problem, kernel="nearest", **wide), run(fine_grid, **wide), atol=1e-6)
    assert np.abs(run(problem, **wide) - run(fine_grid, **wide)).max() > 1e-3


def planes_of(bands, height, width, seed=0, h=0.15):
    """Planes of one noisy pair with some missing pixels."""
    problem = noisy(1, bands, height, width, seed)
    problem.fine[0, 0][np.random.default_rng(seed + 1).random((height, width)) < 0.1] = np.nan
    return Planes.of(problem.fine[0], problem.coarse[0], problem.target, 0.03, h)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5, 40), (2, 33, 17), (6, 16, 16), (3, 4, 3)])
@pytest.mark.parametrize("window", [3, 9, 17])
def test_compiled_and_torch_kernels_agree(monkeypatch, shape, window):
    monkeypatch.setenv("FUSION_DEVICE", "cpu")
    planes = planes_of(*shape)
    one = pair_prediction(planes, window, 0.01, 0.01)
    other = pair_prediction_torch(planes, window, 0.01, 0.01, on="cpu")
    np.testing.assert_allclose(one, other, atol=2e-6)
    np.testing.assert_array_equal(np.isnan(one), np.isnan(planes.fine))


def test_the_device_and_the_number_of_threads_change_nothing(monkeypatch):
    problem = stack((-40, 25), gaps=1)
    got = []
    for place, threads in (("cpu", "1"), ("cpu", "3"), ("cpu:0", "")):  # the last one goes through torch
        monkeypatch.setenv("FUSION_DEVICE", place)
        monkeypatch.setenv("FUSION_THREADS", threads)
        got.append(run(problem, window=9, similarity=0.05))
    np.testing.assert_array_equal(got[0], got[1])
    np.testing.assert_allclose(got[0], got[2], atol=2e-6)


@pytest.mark.parametrize("place", ["cpu", "cpu:0"])
def test_values_far_out_of_range_keep_their_weights_finite(monkeypatch, place):
    # |C - C2| / h^2 is 250 for all neighbours: no exponential of it fits into float32.
    monkeypatch.setenv("FUSION_DEVICE", place)
    fine, coarse = np.full((1, 1, 8, 8), 0.3), np.full((1, 1, 8, 8), -0.6)
    fine[..., ::2] = 0.302
    got = run(bare(fine, coarse, np.full((1, 8, 8), 1.9)), window=5, smoothing=0.1)
    assert (got > 2.8 - 1e-5).all() and (got < 2.802 + 1e-5).all()


@pytest.mark.parametrize(("bands", "ratio", "size"), [(1, 2, (9, 4)), (1, 33, (2, 3)), (2, 16, (1, 1))])
def test_any_ratio_shape_and_number_of_bands(bands, ratio, size):
    problem = stack((-40,), rows=size[0], columns=size[1], ratio=ratio, bands=bands)
    got = run(problem, window=11)
    assert got.shape == (bands, size[0] * ratio, size[1] * ratio) and np.isfinite(got).all()
    truth_change = np.abs(got - problem.fine[0]).mean()
    assert 0 < truth_change < 0.2


def test_tiles_equal_the_whole_with_the_window_of_the_default():
    problem = stack((-40, 25), rows=6, columns=7, ratio=16, gaps=1)
    method = STNLFFM(similarity=0.02)
    np.testing.assert_allclose(fuse(problem, method, tile=48).data, fuse(problem, method).data, atol=1e-5)


def boreas(folder):
    names = [f"fine/L7_2001-{day}.tif" for day in ("05-24", "08-12", "07-11")]
    coarse = [f"coarse/MODIS_2001-{day}.tif" for day in ("05-24", "08-12", "07-11")]
    return problem_of(folder / "boreas_estarfm_2001", names, coarse, (-48, 32), blocks=False)


def lgc(folder):
    names = [f"fine/L5_2004-{day}.tif" for day in ("11-26", "12-28")]
    coarse = [f"coarse/MODISsim_2004-{day}.tif" for day in ("11-26", "12-28")]
    return problem_of(folder / "lgc_fsdaf_2004", names, coarse, (-32,), blocks=True)


def shenzhen(folder):
    names = [f"fine/L7{day}_SZ_B432_30m.tif" for day in ("2000306", "2002311")]
    coarse = [f"coarse/MOD09_{day}_SZ_B214_250m.tif" for day in ("2000306", "2002311")]
    return problem_of(folder / "shenzhen_l7_mod09_2000_2002", names, coarse, (-735,), blocks=True)


def problem_of(folder, fine, coarse, days, blocks):
    """Stack and truth from files, the last of each being the target's."""

    def read(name):
        path = folder / name
        return Scene.read(path, bands=("a", "b", "c"), day=UNKNOWN_DAY, scale=1e-4, nodata=32767).data[:, :480, :480]

    fine, coarse = ([read(name) for name in names] for names in (fine, coarse))
    if blocks:
        coarse = [block_mean(image, 16) for image in coarse]
    problem = bare(np.stack(fine[:-1]), np.stack(coarse[:-1]), coarse[-1], days)
    return replace(problem, geobox=identity_geobox(*fine[0].shape[1:])), fine[-1]


@pytest.mark.data
@pytest.mark.parametrize(
    ("scene", "most"), [(boreas, 0.0081), (lgc, 0.0213), (shenzhen, 0.0312)], ids=["boreas", "lgc", "shenzhen"]
)
def test_real_scenes_are_predicted_better_than_by_delta(test_data, scene, most):
    # Ours had .00807, .02129 and .03111; delta has .00816, .02131 and .03117.
    problem, truth = scene(test_data)

    def error(name):
        difference = fuse(problem, methods.get(name)()).data - truth
        return float(np.sqrt(np.nanmean(difference**2, axis=(1, 2))).mean())

    assert error("stnlffm") < error("delta")
    assert error("stnlffm") <= most
