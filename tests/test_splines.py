"""Local thin plate splines against the one spline through all centres, and against what a surface must do."""

import numpy as np
import pytest
from scipy.interpolate import RBFInterpolator

from fusion.methods._splines import HALF, reach, thin_plate


def through_all(coarse, ratio):
    """The thin plate spline through all known centres of one band, by scipy."""
    known = np.isfinite(coarse)
    fine = [(np.arange(size * ratio) + 0.5) / ratio - 0.5 for size in coarse.shape]
    places = np.stack(np.meshgrid(*fine, indexing="ij"), axis=-1)
    spline = RBFInterpolator(np.argwhere(known), coarse[known], kernel="thin_plate_spline", degree=1)
    out = spline(places.reshape(-1, 2)).reshape(places.shape[:2])
    return np.where(np.kron(known, np.ones((ratio, ratio), bool)), out, np.nan)


def surface(kind, rows=14, columns=17, seed=0):
    y, x = np.mgrid[0:rows, 0:columns]
    return {
        "noise": np.random.default_rng(seed).normal(0, 1, (rows, columns)),
        "waves": np.sin(y / 2) * np.cos(x / 3),
        "step": np.where(2 * y + x > 20, 1.0, 0.0),
    }[kind]


def rms(difference):
    return float(np.sqrt(np.nanmean(difference**2)))


# The rms error, and the largest one two coarse pixels from the edge, where the contrast is about 1. Noise is the worst
# that can come; at the edge, where both extrapolate, its error was .2.
AGREEMENT = [("noise", 0.02, 0.02), ("waves", 0.004, 0.0015), ("step", 0.002, 0.002)]


@pytest.mark.parametrize(("kind", "everywhere", "inside"), AGREEMENT)
@pytest.mark.parametrize("ratio", [5, 8])
def test_local_splines_are_nearly_the_one_through_all(kind, everywhere, inside, ratio):
    coarse = surface(kind)
    difference = thin_plate(coarse[None], ratio)[0] - through_all(coarse, ratio)
    assert rms(difference) < everywhere
    assert np.abs(difference[2 * ratio : -2 * ratio, 2 * ratio : -2 * ratio]).max() < inside


def test_around_gaps_too():
    coarse = surface("waves")
    coarse[np.random.default_rng(3).random(coarse.shape) < 0.15] = np.nan
    coarse[4:7, 6:9] = np.nan
    difference = thin_plate(coarse[None], 6)[0] - through_all(coarse, 6)
    assert rms(difference) < 0.006  # had .0042
    gone = np.kron(np.isnan(coarse), np.ones((6, 6), bool))
    np.testing.assert_array_equal(np.isnan(difference), gone)


@pytest.mark.parametrize("gaps", [0, 0.3])
@pytest.mark.parametrize(("rows", "columns", "ratio"), [(9, 11, 4), (2, 3, 7), (3, 1, 2)])
def test_a_plane_stays_a_plane_up_to_the_edge_and_around_gaps(gaps, rows, columns, ratio):
    def plane(y, x):
        return 0.3 + 0.02 * y - (0.05 if columns > 1 else 0) * x  # one column tells no slope across it

    coarse = plane(*np.mgrid[0:rows, 0:columns].astype(float))
    hidden = np.random.default_rng(1).random(coarse.shape) < gaps
    hidden[:2, :2] = False
    fine = [(np.arange(size * ratio) + 0.5) / ratio - 0.5 for size in coarse.shape]
    want = plane(fine[0][:, None], fine[1][None, :])
    want[np.kron(hidden, np.ones((ratio, ratio), bool))] = np.nan
    coarse[hidden] = np.nan
    np.testing.assert_allclose(thin_plate(coarse[None], ratio)[0], want, atol=2e-6)


@pytest.mark.parametrize("ratio", [3, 5, 33])
def test_it_passes_through_every_centre(ratio):
    coarse = surface("noise", 6, 5)
    coarse[2, 3] = np.nan
    centres = thin_plate(coarse[None], ratio)[0, ratio // 2 :: ratio, ratio // 2 :: ratio]
    np.testing.assert_allclose(centres, coarse, atol=1e-5)


def test_neither_value_nor_slope_jumps_where_the_splines_meet():
    # Of what sets it apart from the one smooth spline, the second difference falls by 27 / 9 = 3 across a jump of slope
    # and not at all across a jump of value; it falls by 9 where there is neither.
    coarse = surface("noise", 8, 9, seed=4)
    bends = []
    for ratio in (9, 27):
        difference = thin_plate(coarse[None], ratio)[0] - through_all(coarse, ratio)
        bends.append(np.abs(np.diff(difference, 2, axis=1)).max())
    assert bends[1] < bends[0] / 7


@pytest.mark.parametrize("gaps", [0, 0.2])
def test_a_tile_with_its_reach_knows_enough(gaps):
    ratio, rows, columns = 3, 21, 24
    coarse = np.random.default_rng(2).random((2, rows, columns))
    coarse[:, np.random.default_rng(5).random((rows, columns)) < gaps] = np.nan
    whole = thin_plate(coarse, ratio)
    margin = reach(ratio) // ratio
    assert margin * ratio == reach(ratio)
    part = thin_plate(coarse[:, 8 - margin : 13 + margin, 7 - margin : 15 + margin], ratio)
    inner = part[:, margin * ratio : -margin * ratio, margin * ratio : -margin * ratio]
    np.testing.assert_allclose(inner, whole[:, 8 * ratio : 13 * ratio, 7 * ratio : 15 * ratio], atol=1e-6)


def test_a_pixel_beyond_the_reach_does_not_matter_and_one_within_does():
    before = np.random.default_rng(2).random((1, 15, 15))
    after = before.copy()
    after[0, 7, 7] = np.nan
    changed = ~np.isclose(thin_plate(before, 4), thin_plate(after, 4), atol=1e-6, equal_nan=True)
    _, y, x = np.nonzero(changed)
    assert min(y.min(), x.min()) >= 7 * 4 - reach(4) and max(y.max(), x.max()) < 8 * 4 + reach(4)
    assert y.min() < 6 * 4


@pytest.mark.parametrize("turn", [lambda a: a[:, ::-1], lambda a: a[:, :, ::-1], lambda a: a.swapaxes(1, 2)])
@pytest.mark.parametrize("ratio", [2, 3])
def test_a_turned_image_has_a_turned_surface(turn, ratio):
    coarse = np.random.default_rng(0).random((2, 9, 12))
    coarse[:, 4, 3:6] = np.nan
    np.testing.assert_allclose(thin_plate(turn(coarse), ratio), turn(thin_plate(coarse, ratio)), atol=1e-6)


def test_bands_keep_their_own_gaps():
    coarse = np.random.default_rng(0).random((3, 6, 7))
    coarse[0, 2, 2] = coarse[2, 4, 5] = np.nan
    together = thin_plate(coarse, 4)
    for band, alone in zip(together, coarse, strict=True):
        np.testing.assert_allclose(band, thin_plate(alone[None], 4)[0], atol=1e-6)


def test_few_pixels():
    np.testing.assert_allclose(thin_plate(np.full((1, 1, 1), 0.3), 5), np.full((1, 5, 5), 0.3), atol=1e-7)
    row = thin_plate(np.array([[[1.0, 2.0, 3.0]]]), 4)[0]  # a straight line, the same in each row
    np.testing.assert_allclose(row, np.broadcast_to(0.625 + 0.25 * np.arange(12), (4, 12)), atol=1e-5)
    lonely = np.full((1, 3, 3), np.nan)
    lonely[0, 1, 1] = 0.7
    got = thin_plate(lonely, 2)[0]
    np.testing.assert_allclose(got[2:4, 2:4], 0.7, atol=1e-6)
    assert np.isnan(got).sum() == 32
    assert np.isnan(thin_plate(np.full((2, 2, 3), np.nan), 2)).all()


def test_ratio_one_gives_the_pixels_themselves_in_a_new_array():
    coarse = np.random.default_rng(0).random((1, 3, 4)).astype(np.float32)
    got = thin_plate(coarse, 1)
    np.testing.assert_array_equal(got, coarse)
    assert got.dtype == np.float32 and not np.shares_memory(got, coarse) and reach(1) == 0


def test_a_bump_far_away_is_not_felt():
    coarse = np.zeros((1, 20, 20))
    coarse[0, 10, 10] = 1
    got = thin_plate(coarse, 2)[0]
    assert np.abs(got[:, : 2 * (10 - HALF - 1)]).max() == 0
    assert np.abs(got[20:22, 2 * (10 - HALF) : 2 * (11 - HALF)]).max() < 0.02
