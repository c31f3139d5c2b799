"""Metrics: cases computed by hand, and laws."""

import math
import os
import re
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from fusion import metrics
from fusion.errors import FusionError
from fusion.metrics import METRICS, best_of, evaluate
from fusion.scene import Scene

PER_BAND = [name for name, record in METRICS.items() if record.per_band]
POINTWISE = ["RMSE", "AD", "CC", "PSNR", "SAM", "ERGAS"]
BANDS = ("green", "red", "nir")


def value(name, pred, truth, **options):
    """The metric by name; SSIM at a fixed range and ERGAS at ratio 16 where a test does not say otherwise."""
    options = {"SSIM": {"data_range": 1.0}, "ERGAS": {"ratio": 16}}.get(name, {}) | options
    return METRICS[name].function(np.asarray(pred), np.asarray(truth), **options)


def landscape(seed=0, height=36, width=45):
    """Fields of different size and a slope, (3, y, x) in 0.05..0.6: no symmetry, many edges, exact in binary."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    fields = rng.uniform(0.1, 0.5, (3, 8, 8))[:, y // 7, x // 11]
    data = fields + 0.0005 * x + 0.001 * y + rng.normal(0, 0.01, (3, height, width))
    return np.round(data * 1024) / 1024


def noise(seed=1, shape=(3, 36, 45)):
    return np.random.default_rng(seed).normal(0, 1, shape)


def scene(data, bands=BANDS, origin=(0.0, 0.0)):
    height, width = data.shape[1:]
    geobox = GeoBox((height, width), Affine(30.0, 0.0, origin[0], 0.0, -30.0, origin[1]), "EPSG:32633")
    return Scene(np.asarray(data, np.float32), geobox, bands, date(2020, 5, 1))


# By hand


def test_rmse_and_ad_by_hand():
    truth = [[[0.1, 0.2], [0.3, 0.8]]]
    pred = [[[0.1, 0.2], [0.3, 0.4]]]
    assert value("RMSE", pred, truth) == pytest.approx([0.2])  # one error of 0.4: 0.16 / 4 = 0.04, root 0.2
    assert value("AD", pred, truth) == pytest.approx([-0.1])  # -0.4 / 4: the prediction is too dark


def test_cc_by_hand():
    # deviations (-1, 0, 1) and (-1, 1, 0): products sum to 1, squares to 2 and 2, 1 / 2
    assert value("CC", [[[1.0, 2.0, 3.0]]], [[[1.0, 3.0, 2.0]]]) == pytest.approx([0.5])
    assert value("CC", [[[1.0, 2.0, 3.0]]], [[[0.3, 0.2, 0.1]]]) == pytest.approx([-1.0])


def test_psnr_by_hand():
    truth = np.full((1, 3, 4), 0.2)
    assert value("PSNR", truth + 0.1, truth) == pytest.approx([20.0])  # 1 / 0.1 = 10^1
    assert value("PSNR", truth + 0.01, truth) == pytest.approx([40.0])  # 1 / 0.01 = 10^2
    assert value("PSNR", truth + 0.1, truth, data_range=0.1) == pytest.approx([0.0])


def test_ssim_of_flat_images_by_hand():
    flat = np.ones((1, 11, 13))
    # no variance, so brightness alone: (2 * 0.5 * 0.25 + 0.0001) / (0.25 + 0.0625 + 0.0001) = 0.2501 / 0.3126
    assert value("SSIM", 0.5 * flat, 0.25 * flat) == pytest.approx([0.2501 / 0.3126])


def test_uiqi_by_hand():
    flat = np.full((1, 8, 8), 0.25)
    assert value("UIQI", 2 * flat, flat) == pytest.approx([0.8])  # 2 * 0.5 * 0.25 / (0.25 + 0.0625)
    flat = np.full((1, 9, 11), 0.1)  # not exact in binary: rounding must not pass for a pattern
    assert value("UIQI", 3 * flat, flat) == pytest.approx([0.6])  # 2 * 0.3 * 0.1 / (0.09 + 0.01)
    half = np.zeros((1, 8, 8))
    half[:, :, :4] = 0.2
    # truth: mean 0.1, variance 0.01; prediction twice that: 0.2, 0.04; covariance 0.02
    # brightness 2 * 0.2 * 0.1 / (0.04 + 0.01) = 0.8; contrast and pattern 2 * 0.02 / (0.04 + 0.01) = 0.8
    assert value("UIQI", 2 * half, half) == pytest.approx([0.64])


def test_uiqi_slides_by_one_pixel_and_leaves_out_windows_with_a_missing_one():
    truth = np.full((1, 8, 9), 0.25)
    pred = truth.copy()
    pred[0, :, 8] = 0.5
    assert value("UIQI", pred, truth) == pytest.approx([0.5])  # left window 1; right one varies, the truth does not: 0
    pred[0, 3, 8] = np.nan
    assert value("UIQI", pred, truth) == pytest.approx([1.0])  # only the left window is whole


def test_sam_by_hand():
    # two bands, five pixels: 45, 90 and 0 degrees; black, in either image, has no colour
    truth = np.array([[[0.3, 0.3, 0.2, 0.0, 0.1]], [[0.0, 0.0, 0.2, 0.0, 0.2]]])
    pred = np.array([[[0.5, 0.0, 0.1, 0.2, 0.0]], [[0.5, 0.4, 0.1, 0.1, 0.0]]])
    assert value("SAM", pred, truth) == pytest.approx([45.0])


def test_sam_sees_small_angles():
    truth = np.array([[[1.0]], [[0.0]]])
    pred = np.array([[[1.0]], [[1e-9]]])
    assert value("SAM", pred, truth) == pytest.approx([math.degrees(1e-9)], rel=1e-6, abs=0)


def test_ergas_by_hand():
    truth = np.stack([np.full((2, 3), 0.2), np.full((2, 3), 0.4)])
    pred = np.stack([np.full((2, 3), 0.22), np.full((2, 3), 0.68)])
    # errors of 10 % and 70 % of the mean: root of (0.01 + 0.49) / 2 is 0.5; 100 * 0.5 / 16
    assert value("ERGAS", pred, truth, ratio=16) == pytest.approx([3.125])
    assert value("ERGAS", pred, truth, ratio=8) == pytest.approx([6.25])


def test_edge_by_hand():
    truth = [[[0.0, 0.0], [0.0, 0.2]]]  # |0 - 0.2| + |0 - 0| = 0.2
    pred = [[[0.0, 0.1], [0.3, 0.2]]]  # |0 - 0.2| + |0.1 - 0.3| = 0.4
    assert value("EDGE", pred, truth) == pytest.approx([1 / 3])  # (0.4 - 0.2) / (0.4 + 0.2)


def test_edge_of_the_strongest_tenth_by_hand():
    def stairs(steps):  # two equal rows: each step is an edge of twice its height
        return np.tile(np.cumsum([0.0, *steps]), (1, 2, 1))

    truth, pred = stairs([0.01] * 9 + [0.1]), stairs([0.03] * 9 + [0.05])
    # nine times (3 - 1) / 4 and once (5 - 10) / 15: (4.5 - 1/3) / 10
    assert value("EDGE", pred, truth) == pytest.approx([0.41667], abs=1e-5)
    assert value("EDGE", pred, truth, strongest=0.1) == pytest.approx([-1 / 3])


def test_lbp_by_hand():
    def around(*brighter):
        image = np.full((1, 3, 3), 0.2)
        for y, x in brighter:
            image[0, y, x] = 0.3
        return image

    upper_left, upper, right, left = (0, 0), (0, 1), (1, 2), (1, 0)
    # codes 128 + 64 and 128: 64 / 320
    assert value("LBP", around(upper_left, upper), around(upper_left)) == pytest.approx([0.2])
    # codes 16 + 1 and 1: 16 / 18
    assert value("LBP", around(right, left), around(left)) == pytest.approx([8 / 9])
    # each other neighbour against the left one, of code 1: (n - 1) / (n + 1)
    for code, place in {64: upper, 32: (0, 2), 16: right, 8: (2, 2), 4: (2, 1), 2: (2, 0)}.items():
        assert value("LBP", around(place), around(left)) == pytest.approx([(code - 1) / (code + 1)])
    noisy = around()
    noisy[0, 0, 0] += 0.004  # under the tolerance of 0.005
    assert value("LBP", noisy, around()) == [0.0]
    assert value("LBP", noisy, around(), tolerance=0.003) == [1.0]


# Against other programs and other ways to compute


def one_window(x, y, span):
    """SSIM of two 11 x 11 lists from its definition: two-dimensional weights, central moments, plain Python."""
    places = [(i, j) for i in range(11) for j in range(11)]
    weights = [math.exp(-((i - 5) ** 2 + (j - 5) ** 2) / (2 * 1.5**2)) for i, j in places]

    def mean(numbers):
        return math.fsum(w * n for w, n in zip(weights, numbers, strict=True)) / math.fsum(weights)

    mx, my = mean([x[i][j] for i, j in places]), mean([y[i][j] for i, j in places])
    dx, dy = [x[i][j] - mx for i, j in places], [y[i][j] - my for i, j in places]
    vx, vy = mean([d * d for d in dx]), mean([d * d for d in dy])
    together = mean([d * e for d, e in zip(dx, dy, strict=True)])
    c1, c2 = 0.0001 * span**2, 0.0009 * span**2
    return (2 * mx * my + c1) / (mx**2 + my**2 + c1) * (2 * together + c2) / (vx + vy + c2)


def windows_one_by_one(x, y, span):
    corners = [(r, c) for r in range(len(x) - 10) for c in range(x.shape[1] - 10)]
    cut = [(x[r : r + 11, c : c + 11].tolist(), y[r : r + 11, c : c + 11].tolist()) for r, c in corners]
    return math.fsum(one_window(*windows, span) for windows in cut) / len(cut)


def test_ssim_equals_its_definition_window_by_window():
    truth = landscape()[:2, :14, :12]
    pred = truth + 0.05 * noise()[:2, :14, :12]
    spans = [float(band.max() - band.min()) for band in truth]
    expected = [windows_one_by_one(x, y, s) for x, y, s in zip(pred, truth, spans, strict=True)]
    assert metrics.ssim(pred, truth) == pytest.approx(expected, rel=1e-9)
    fixed = [windows_one_by_one(x, y, 1.0) for x, y in zip(pred, truth, strict=True)]
    assert metrics.ssim(pred, truth, data_range=1.0) == pytest.approx(fixed, rel=1e-9)
    assert np.all(np.abs(np.subtract(fixed, expected)) > 0.01)  # the range matters, so the test sees it


@pytest.mark.skipif("FUSION_TEST_DATA" not in os.environ, reason="FUSION_TEST_DATA does not point to the test data")
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(
    ("folder", "first", "day", "expected"),
    [
        ("lgc_fsdaf_2004", "2004-11-26", "2004-12-28", (0.02209, 0.857, 0.601, 3.49, 1.12, 0.008)),
        ("boreas_estarfm_2001", "2001-05-24", "2001-07-11", (0.01239, 0.818, 0.799, 2.72, 1.39, None)),
    ],
)
def test_figures_of_other_programs_on_real_images(folder, first, day, expected):
    """F1 + C2 - C1 on Landsat and (simulated) MODIS, judged by other programs; mean over bands, ratio 16."""

    def read(kind, when):
        (path,) = (Path(os.environ["FUSION_TEST_DATA"]) / folder / kind).glob(f"*{when}.tif")
        return Scene.read(path, bands=BANDS, day=date(2000, 1, 1), scale=1e-4).data

    pred = read("fine", first) + read("coarse", day) - read("coarse", first)
    truth = read("fine", day)
    digits = {"RMSE": 2e-5, "CC": 1e-3, "SSIM": 1e-3, "SAM": 0.01, "ERGAS": 0.01, "EDGE": 1e-3}
    for (name, digit), figure in zip(digits.items(), expected, strict=True):
        options = {"data_range": None} if name == "SSIM" else {}
        if figure is not None:
            assert value(name, pred, truth, **options).mean() == pytest.approx(figure, abs=digit), name


# Laws


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("holes", [False, True])
def test_a_perfect_prediction_has_the_best_value(name, holes):
    truth = landscape().astype(np.float32)
    if holes:
        truth[1, 20:25, 3:9] = np.nan
    result = value(name, truth.copy(), truth)
    assert result.dtype == np.float64
    assert result.shape == ((3,) if METRICS[name].per_band else (1,))
    assert result == pytest.approx(METRICS[name].best, abs=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_a_constant_band_neither_warns_nor_misses_the_best_value(name):
    truth = np.full((2, 13, 12), 0.1, np.float32)
    best = np.nan if name == "CC" else METRICS[name].best
    options = {"data_range": None} if name == "SSIM" else {}
    assert value(name, truth, truth, **options) == pytest.approx(best, nan_ok=True)
    other = value(name, truth + 0.02 * noise(shape=truth.shape), truth, **options)
    assert np.isnan(other).all() == (name == "CC")
    black = np.zeros((2, 13, 12))
    nothing = np.nan if name in ("CC", "SAM") else METRICS[name].best
    assert value(name, black, black, **options) == pytest.approx(nothing, nan_ok=True)


@pytest.mark.parametrize("name", ["RMSE", "PSNR", "SSIM", "CC", "UIQI", "SAM", "ERGAS"])
def test_more_noise_is_worse(name):
    truth = landscape()
    far = [METRICS[name].distance(value(name, truth + s * noise(), truth)[0]) for s in (0, 0.002, 0.01, 0.03, 0.09)]
    assert far == sorted(far)
    assert len(set(far)) == len(far)


def test_blur_lowers_edge_and_texture_and_noise_raises_them():
    truth = landscape()
    shifted = [truth[:, 1 + dy : 35 + dy, 1 + dx : 44 + dx] for dy, dx in ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))]
    blurred = np.mean(shifted, axis=0)
    inner = truth[:, 1:-1, 1:-1]
    smooth = np.round(landscape() * 4) / 4  # flat fields
    for name in ("EDGE", "LBP"):
        assert (value(name, blurred, inner) < -0.05).all()
        assert (value(name, smooth + 0.01 * noise(), smooth) > 0.5).all()
    assert (value("EDGE", truth + 0.03 * noise(), truth) > 0.1).all()


def test_a_constant_added_is_bias_and_nothing_else():
    truth = landscape()
    pred = truth + 1 / 16
    assert value("AD", pred, truth) == pytest.approx(1 / 16)
    assert value("RMSE", pred, truth) == pytest.approx(1 / 16)
    assert value("CC", pred, truth) == pytest.approx(1.0)
    assert (value("EDGE", pred, truth) == 0).all()
    assert (value("LBP", pred, truth) == 0).all()
    assert value("SAM", pred, truth)[0] > 0.5


def test_brightness_does_not_change_colour_nor_correlation():
    truth = landscape()
    assert value("SAM", 1.7 * truth, truth) == pytest.approx([0.0], abs=1e-6)
    for factor in np.linspace(0.1, 3, 30):
        result = value("CC", factor * truth + 0.1, truth)
        assert result == pytest.approx(1.0)
        assert (result <= 1).all()


def test_ergas_does_not_depend_on_the_unit():
    truth = landscape()
    pred = truth + 0.02 * noise()
    assert value("ERGAS", 1e4 * pred, 1e4 * truth) == pytest.approx(value("ERGAS", pred, truth))


def test_ssim_is_symmetric_at_a_fixed_range_and_takes_the_truths_range_by_default():
    truth = landscape()
    pred = 0.5 * truth + 0.02 * noise()
    assert np.array_equal(metrics.ssim(pred, truth, data_range=0.4), metrics.ssim(truth, pred, data_range=0.4))
    spans = truth.max(axis=(1, 2)) - truth.min(axis=(1, 2))
    for band, span in enumerate(spans):
        assert metrics.ssim(pred, truth)[band] == pytest.approx(metrics.ssim(pred, truth, data_range=span)[band])
    hole = pred.copy()
    hole[:, :30] = np.nan  # the range is the truth's own, whatever a method leaves out
    rest = [metrics.ssim(pred[:, 30:], truth[:, 30:], data_range=s)[b] for b, s in enumerate(spans)]
    assert np.isnan(rest).all()  # six rows hold no window
    hole = pred.copy()
    hole[:, :20] = np.nan
    rest = [metrics.ssim(pred[:, 20:], truth[:, 20:], data_range=s)[b] for b, s in enumerate(spans)]
    assert metrics.ssim(hole, truth) == pytest.approx(rest, rel=1e-12)


@pytest.mark.parametrize("name", PER_BAND)
def test_bands_do_not_touch_each_other(name):
    truth = landscape()
    pred = truth + 0.03 * noise()
    alone = [value(name, pred[band : band + 1], truth[band : band + 1])[0] for band in range(3)]
    assert value(name, pred, truth).tolist() == alone
    assert len(set(alone)) == 3


# Missing pixels


@pytest.mark.parametrize("name", POINTWISE)
@given(
    lost=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6), st.booleans()), max_size=25),
    seed=st.integers(0, 99),
)
def test_a_missing_pixel_is_as_good_as_removed(name, lost, seed):
    truth = landscape(seed)[:2, :5, 20:27]
    pred = truth + 0.05 * noise(seed, (2, 5, 7))
    x, y, kept = pred.copy(), truth.copy(), np.ones((5, 7), bool)
    for row, column, in_pred in lost:
        (x if in_pred else y)[:, row, column] = np.nan
        kept[row, column] = False
    removed = value(name, pred[:, None, kept], truth[:, None, kept])
    assert value(name, x, y) == pytest.approx(removed, rel=1e-9, nan_ok=True)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("where", [0, 1])
@pytest.mark.parametrize("missing", [np.nan, np.inf])
def test_missing_rows_and_columns_are_as_good_as_cut_off(name, where, missing):
    truth = landscape()
    pred = truth + 0.03 * noise()
    images = [pred.copy(), truth.copy()]
    images[where][:, 25:] = missing
    images[where][:, :, :9] = missing
    assert value(name, *images) == pytest.approx(value(name, pred[:, :25, 9:], truth[:, :25, 9:]), rel=1e-12)


def test_sam_leaves_out_a_pixel_that_misses_any_band():
    truth = landscape()
    pred = truth + 0.03 * noise()
    one, all_bands = pred.copy(), pred.copy()
    one[2, 4, 5] = np.nan
    all_bands[:, 4, 5] = np.nan
    assert value("SAM", one, truth) == value("SAM", all_bands, truth) != value("SAM", pred, truth)


@pytest.mark.parametrize("name", METRICS)
def test_nothing_valid_is_nan_and_one_empty_band_spoils_no_other(name):
    truth = landscape()
    pred = truth + 0.03 * noise()
    assert np.isnan(value(name, np.full_like(truth, np.nan), truth)).all()
    full = value(name, pred, truth)
    pred[1] = np.nan
    result = value(name, pred, truth)
    if METRICS[name].per_band:
        assert np.isnan(result).tolist() == [False, True, False]
        assert result[[0, 2]] == pytest.approx(full[[0, 2]], rel=1e-12)
    elif name == "ERGAS":
        assert result == pytest.approx(value(name, pred[[0, 2]], truth[[0, 2]]))


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 1, 9), (2, 7, 2), (2, 0, 5)])
def test_images_smaller_than_a_window_do_not_crash(name, shape):
    truth = np.linspace(0.1, 0.4, num=math.prod(shape)).reshape(shape)
    result = value(name, truth, truth)
    assert np.all(np.isnan(result) | (result == METRICS[name].best))
    if name in ("SSIM", "UIQI", "LBP"):
        assert np.isnan(result).all()


@pytest.mark.parametrize("name", METRICS)
def test_inputs_stay_as_they_are(name):
    truth = landscape()
    truth[0, 3, 4] = np.nan
    pred = truth + 0.03 * noise()
    before = pred.copy(), truth.copy()
    value(name, pred, truth)
    assert np.array_equal(pred, before[0], equal_nan=True)
    assert np.array_equal(truth, before[1], equal_nan=True)


@pytest.mark.parametrize("name", METRICS)
def test_images_of_different_shape_are_refused(name):
    with pytest.raises(ValueError, match=r"\(3, 36, 45\) and \(3, 36, 44\)"):
        value(name, landscape(), landscape()[:, :, :-1])
    with pytest.raises(ValueError, match=r"\(band, y, x\)"):
        value(name, landscape()[0], landscape()[0])


# The registry


@pytest.mark.parametrize("record", METRICS.values(), ids=METRICS)
def test_every_metric_says_what_it_means(record):
    assert METRICS[record.name] is record
    assert record.title
    assert record.unit
    assert re.search(r"doi:10\.\d{4,}/\S+$", record.paper)
    assert re.fullmatch(r"[A-Z][^.]{40,160}\.", record.description), "one sentence"
    if record.name in ("SSIM", "PSNR", "ERGAS"):
        assert record.data_range


def test_the_metrics_of_the_field_are_there():
    assert set(METRICS) >= {"RMSE", "AD", "CC", "PSNR", "SSIM", "UIQI", "SAM", "ERGAS", "EDGE", "LBP"}
    goals = {name: record.goal for name, record in METRICS.items()}
    assert {name for name, goal in goals.items() if goal == "lower"} == {"RMSE", "SAM", "ERGAS"}
    assert {name for name, goal in goals.items() if goal == "closer"} == {"AD", "EDGE", "LBP"}
    assert {name for name, record in METRICS.items() if record.needs_ratio} == {"ERGAS"}


def test_a_new_metric_is_one_function_and_a_taken_name_is_refused(monkeypatch):
    monkeypatch.setattr(metrics, "METRICS", dict(METRICS))

    @metrics.metric("MAX", title="Largest error", best=0.0, unit="reflectance", paper="nobody")
    def largest(pred, truth):
        """The worst pixel,
        wherever it is.

        More.
        """
        return np.nanmax(np.abs(pred - truth), axis=(1, 2))

    assert metrics.METRICS["MAX"].description == "The worst pixel, wherever it is."
    truth = scene(landscape())
    assert evaluate(truth, truth, ["MAX"])["MAX"] == {"green": 0, "red": 0, "nir": 0, "mean": 0}
    with pytest.raises(ValueError, match="MAX exists already"):
        metrics.metric("MAX", title="", best=0.0, unit="1", paper="")(largest)


# evaluate


def test_evaluate_gives_bands_and_their_mean():
    truth = scene(np.stack([np.full((12, 14), v) for v in (0.25, 0.5, 0.75)]))
    pred = scene(truth.data + np.array([0.125, 0.25, -0.0625], np.float32)[:, None, None])
    table = evaluate(pred, truth, ["AD", "SAM", "RMSE"])
    assert list(table) == ["AD", "SAM", "RMSE"]
    assert table["AD"] == {"green": 0.125, "red": 0.25, "nir": -0.0625, "mean": 0.3125 / 3}
    assert table["RMSE"]["nir"] == 0.0625
    assert list(table["SAM"]) == ["mean"]
    assert all(type(number) is float for row in table.values() for number in row.values())


def test_evaluate_finds_bands_by_name():
    truth = scene(landscape())
    pred = scene(landscape() + 0.03 * noise())
    shuffled = pred.select(("nir", "green", "red"))
    assert evaluate(shuffled, truth, ratio=16) == evaluate(pred, truth, ratio=16)
    assert list(evaluate(shuffled, truth)["CC"]) == [*BANDS, "mean"]


def test_evaluate_leaves_out_ergas_without_a_ratio_and_takes_all_with_one():
    truth = scene(landscape())
    assert list(evaluate(truth, truth)) == [name for name in METRICS if name != "ERGAS"]
    assert list(evaluate(truth, truth, ratio=16)) == list(METRICS)
    pred = scene(landscape() + 0.03 * noise())
    eight, sixteen = (evaluate(pred, truth, ["ERGAS"], ratio=ratio)["ERGAS"]["mean"] for ratio in (8, 16))
    assert eight == pytest.approx(2 * sixteen)


def test_evaluate_takes_the_mean_of_the_bands_that_have_a_value():
    data = landscape()
    data[1] = np.nan
    row = evaluate(scene(data + 0.25), scene(data), ["AD"])["AD"]
    assert math.isnan(row["red"])
    assert row["mean"] == 0.25
    flat = scene(np.full((3, 12, 12), 0.5))
    assert math.isnan(evaluate(flat, flat, ["CC"])["CC"]["mean"])


@pytest.mark.parametrize(
    ("change", "options", "wanted"),
    [
        ({"bands": ("green", "red", "blue")}, {}, "green, red, blue.*green, red, nir.*select"),
        ({"origin": (30.0, 0.0)}, {}, "grid is 36 x 45 pixels.*to\\(geobox\\)"),
        ({"data": landscape()[:, :-1]}, {}, "35 x 45.*36 x 45"),
        ({"data": np.full((3, 36, 45), np.nan)}, {}, "No pixel is valid.*0% valid"),
        ({}, {"names": ["RMSE", "rmsd"]}, "'rmsd' is unknown.*did you mean RMSE"),
        ({}, {"names": ["ERGAS"]}, "ERGAS wants the ratio.*ratio="),
        ({}, {"ratio": 0}, "ratio .* from 1, got 0"),
    ],
)
def test_evaluate_says_what_does_not_fit(change, options, wanted):
    truth = scene(landscape())
    with pytest.raises(FusionError, match=wanted):
        evaluate(scene(**{"data": landscape(), **change}), truth, **options)


def test_evaluate_wants_one_pixel_in_common_not_one_in_each():
    first, second = landscape(), landscape()
    first[:, :20] = np.nan
    second[:, 20:] = np.nan
    with pytest.raises(FusionError, match="No pixel is valid in both"):
        evaluate(scene(first), scene(second))
    second[0, 20, 0] = first[0, 20, 0]
    assert evaluate(scene(first), scene(second), ["RMSE"])["RMSE"]["green"] == 0


# best_of


def table(name, **values):
    return {method: {name: {"mean": number}} for method, number in values.items()}


@pytest.mark.parametrize(
    ("name", "values", "best"),
    [
        ("RMSE", {"a": 0.03, "b": 0.01, "c": 0.02}, ("b",)),
        ("AD", {"a": -0.03, "b": 0.01, "c": 0.02}, ("b",)),
        ("AD", {"a": -0.01, "b": 0.02}, ("a",)),
        ("CC", {"a": 0.7, "b": 0.9}, ("b",)),
        ("PSNR", {"a": 30.0, "b": 40.0}, ("b",)),
        ("PSNR", {"a": math.inf, "b": 40.0}, ("a",)),
        ("RMSE", {"a": 0.01, "b": 0.01, "c": 0.02}, ("a", "b")),
        ("CC", {"a": math.nan, "b": -0.2}, ("b",)),
        ("CC", {"a": math.nan}, ()),
        ("CC", {}, ()),
    ],
)
def test_best_of(name, values, best):
    assert best_of(table(name, **values), name) == best


def test_best_of_one_band():
    rows = {"a": {"RMSE": {"red": 0.1, "mean": 0.3}}, "b": {"RMSE": {"red": 0.2, "mean": 0.2}}}
    assert best_of(rows, "RMSE", band="red") == ("a",)
    assert best_of(rows, "RMSE") == ("b",)
