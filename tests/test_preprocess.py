"""Point-spread function aggregation: laws, and numbers that can be checked by hand."""

from datetime import date

import numpy as np
import pytest

from fusion import FusionError, Scene, aggregate
from landscapes import grid

DAY = date(2020, 5, 1)


def scene(data: np.ndarray, pixel: float = 30.0) -> Scene:
    names = ("blue", "green", "red")[: data.shape[0]]
    return Scene(np.asarray(data, np.float32), grid(*data.shape[1:], pixel=pixel), names, DAY)


def test_without_blur_it_is_the_mean_of_each_block() -> None:
    fine = scene(np.array([[[1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12]]]) / 100)
    coarse = aggregate(fine, 2, psf=0)
    np.testing.assert_allclose(coarse.data, [[[0.045, 0.065, 0.085]]], rtol=1e-6)


def test_result_lies_on_the_coarse_grid_and_keeps_bands_and_day() -> None:
    fine = scene(np.random.default_rng(0).random((3, 8, 20)))
    before = fine.data.copy()
    coarse = aggregate(fine, 4)
    assert coarse.geobox == fine.geobox.zoom_out(4)
    assert (coarse.shape, coarse.bands, coarse.day) == ((3, 2, 5), fine.bands, DAY)
    assert coarse.data.dtype == np.float32
    np.testing.assert_array_equal(fine.data, before)


@pytest.mark.parametrize("psf", [0, 0.01, 0.5, 1.3])
@pytest.mark.parametrize("ratio", [1, 2, 5])
def test_a_uniform_image_stays_uniform_to_the_edge(psf: float, ratio: int) -> None:
    coarse = aggregate(scene(np.full((1, 4 * ratio, 7 * ratio), 0.3)), ratio, psf=psf)
    np.testing.assert_allclose(coarse.data, 0.3, atol=1e-6)


def test_a_slope_is_kept_away_from_the_edge() -> None:
    y, x = np.mgrid[0:60, 0:70]
    coarse = aggregate(scene((0.002 * y + 0.005 * x)[None]), 5).data[0, 3:-3, 3:-3]
    np.testing.assert_allclose(np.diff(coarse, axis=0), 0.010, atol=1e-6)
    np.testing.assert_allclose(np.diff(coarse, axis=1), 0.025, atol=1e-6)


@pytest.mark.parametrize("psf", [0.3, 0.5, 0.9])
def test_the_width_of_the_response_is_the_one_asked_for(psf: float) -> None:
    """Moves one bright column through the scene: what the middle pixel answers has standard deviation `psf`."""
    ratio, count = 10, 11
    answer = []
    for column in range(ratio * count):
        data = np.zeros((1, ratio, ratio * count))
        data[0, :, column] = 1
        answer.append(aggregate(scene(data), ratio, psf=psf).data[0, 0, count // 2])
    weight, away = np.array(answer), (np.arange(ratio * count) + 0.5) / ratio - count / 2
    assert weight.sum() == pytest.approx(1, abs=1e-5)
    assert np.sqrt((weight * away**2).sum()) == pytest.approx(psf, rel=0.01)
    half = away[weight > weight.max() / 2]
    assert half.max() - half.min() == pytest.approx(2.355 * psf, abs=1.1 / ratio)
    assert np.abs(away[weight > 0]).max() <= 4 * psf + 1 / ratio


def test_both_axes_blur_alike_and_apart() -> None:
    dot = np.zeros((1, 50, 70))
    dot[0, 22, 37] = 1
    image = aggregate(scene(dot), 10).data[0]
    np.testing.assert_allclose(image * image.sum(), np.outer(image.sum(axis=1), image.sum(axis=0)), atol=1e-7)
    assert np.unravel_index(image.argmax(), image.shape) == (2, 3)


def test_a_quarter_may_be_missing_but_not_more() -> None:
    fine = np.arange(32, dtype=np.float32).reshape(1, 4, 8) / 100
    fine[0, 0, :4] = np.nan  # 4 of the left pixel's 16
    fine[0, 0, 4:] = fine[0, 1, 4] = np.nan  # 5 of the right pixel's 16
    coarse = aggregate(scene(fine), 4, psf=0).data[0, 0]
    assert coarse[0] == pytest.approx((8 + 9 + 10 + 11 + 16 + 17 + 18 + 19 + 24 + 25 + 26 + 27) / 1200)
    assert np.isnan(coarse[1])


def test_missing_pixels_concern_their_own_band_and_do_not_darken() -> None:
    fine = np.full((2, 40, 40), 0.4)
    fine[1, 18:21, 17:20] = np.nan
    coarse = aggregate(scene(fine), 8).data
    np.testing.assert_allclose(coarse, 0.4, atol=1e-6)
    fine[1, 8:32, 8:32] = np.nan
    coarse = aggregate(scene(fine), 8).data
    assert np.isfinite(coarse[0]).all() and np.isnan(coarse[1, 2, 2]) and np.isfinite(coarse[1, 0, 0])


@pytest.mark.parametrize("ratio", [3, 0, -2, 2.5])
def test_whole_coarse_pixels_are_wanted(ratio: float) -> None:
    with pytest.raises(FusionError, match=rf"8 x 20 fine pixels at a ratio of {ratio}"):
        aggregate(scene(np.zeros((1, 8, 20))), ratio)  # type: ignore[arg-type]


@pytest.mark.parametrize("psf", [-0.1, 4.1, float("nan")])
def test_psf_out_of_range_is_refused(psf: float) -> None:
    with pytest.raises(FusionError, match="psf of 0 to 4"):
        aggregate(scene(np.zeros((1, 8, 20))), 4, psf=psf)
