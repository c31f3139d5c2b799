"""Interpolation from coarse pixels to the fine grid."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.methods._grids import reach, upsample

KERNELS = ("nearest", "bilinear", "cubic")


def test_bilinear_by_hand():
    # Centres of fine pixels lie at -1/4, 1/4, 3/4 and 5/4 coarse pixels; outside, the edge pixel is repeated.
    out = upsample(np.array([[0.0, 4.0]], np.float32), 2, "bilinear")
    np.testing.assert_allclose(out, [[0, 1, 3, 4], [0, 1, 3, 4]])
    assert out.dtype == np.float32


def test_cubic_by_hand():
    # Keys, a = -1/2, at distance 1/4: taps -1, 0, 1, 2 weigh -9/128, 111/128, 29/128, -3/128.
    out = upsample(np.array([[0.0, 0.0, 128.0, 0.0, 0.0]], np.float32), 2, "cubic")
    np.testing.assert_allclose(out[0], [0, -3, -9, 29, 111, 111, 29, -9, -3, 0], atol=1e-5)


def test_nearest_by_hand():
    out = upsample(np.array([[1.0, 2.0], [3.0, 4.0]], np.float32), 2, "nearest")
    np.testing.assert_array_equal(out, [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]])


@pytest.mark.parametrize("kernel", ["bilinear", "cubic"])
@pytest.mark.parametrize("ratio", [2, 3, 7])
def test_a_plane_stays_a_plane_away_from_the_edges(kernel, ratio):
    y, x = np.mgrid[0:9, 0:7]
    out = upsample((0.3 * y - 0.1 * x).astype(np.float32), ratio, kernel)
    fine_y, fine_x = ((np.mgrid[0 : 9 * ratio, 0 : 7 * ratio] + 0.5) / ratio) - 0.5
    inside = np.s_[2 * ratio : -2 * ratio, 2 * ratio : -2 * ratio]
    np.testing.assert_allclose(out[inside], (0.3 * fine_y - 0.1 * fine_x)[inside], atol=1e-5)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("ratio", [1, 2, 3, 5, 16])
def test_a_constant_stays_constant_even_beside_clouds(kernel, ratio):
    coarse = np.full((2, 5, 6), 0.25, np.float32)
    coarse[0, 1:3, 2] = np.nan
    out = upsample(coarse, ratio, kernel)
    cloud = np.kron(np.isnan(coarse), np.ones((ratio, ratio), bool))
    np.testing.assert_array_equal(np.isnan(out), cloud)
    np.testing.assert_allclose(out[~cloud], 0.25, rtol=1e-6)


@given(st.integers(0, 2**31), st.integers(1, 7))
@settings(max_examples=20)
def test_nearest_keeps_block_means_exactly(seed, ratio):
    coarse = np.random.default_rng(seed).random((3, 4, 5), np.float32)
    out = upsample(coarse, ratio, "nearest")
    blocks = out.reshape(3, 4, ratio, 5, ratio)
    np.testing.assert_array_equal(blocks.min(axis=(2, 4)), coarse)
    np.testing.assert_array_equal(blocks.max(axis=(2, 4)), coarse)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("ratio", [1, 2, 5])
def test_a_coarse_pixel_reaches_no_farther_than_reach_says(kernel, ratio):
    coarse = np.random.default_rng(1).random((9, 11), np.float32)
    changed = coarse.copy()
    changed[4, 5] += 1
    rows, columns = np.nonzero(upsample(changed, ratio, kernel) != upsample(coarse, ratio, kernel))
    far = reach(ratio, kernel)
    assert rows.min() >= 4 * ratio - far and rows.max() < 5 * ratio + far
    assert columns.min() >= 5 * ratio - far and columns.max() < 6 * ratio + far


@pytest.mark.parametrize("kernel", ["bilinear", "cubic"])
def test_a_cloud_far_away_changes_not_one_bit(kernel):
    # Else "the coarse pixel did not change" would be true in one tile and false in the whole image.
    coarse = np.random.default_rng(2).random((12, 12), np.float32)
    clouded = coarse.copy()
    clouded[0, 0] = np.nan
    np.testing.assert_array_equal(upsample(clouded, 7, kernel)[28:], upsample(coarse, 7, kernel)[28:])


def test_the_share_of_a_missing_pixel_goes_to_its_neighbours():
    # Between 0 and a cloud only 0 is known; between 0 and 8 the usual weights hold.
    out = upsample(np.array([[np.nan, 0.0, 8.0]], np.float32), 2, "bilinear")
    np.testing.assert_allclose(out[0], [np.nan, np.nan, 0, 2, 6, 8])
