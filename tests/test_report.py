"""Report on alignment: what is accepted and what is not, and in which words."""

from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from fusion import FusionError, Pair, Scene, aggregate, sources
from fusion.area import moved
from fusion.preprocess import report
from fusion.products import LAB_GRID
from fusion.scene import identity_geobox

BANDS = ("red", "nir")
BOX = LAB_GRID[64 : 64 + 22 * 16, : 26 * 16]


def lab_pair(number: int, east: float = 0.0, north: float = 0.0, noise: float = 0.005, box=BOX) -> Pair:
    """Pair of one of the lab's days; metres."""
    lab = sources.get("lab")
    options = lab.Options(shift_east=east, shift_north=north, noise=noise, gain=0.9, offset=0.02)
    fine = lab.search("lab-fine", options=options)[number]
    coarse = next(item for item in lab.search("lab-coarse", options=options) if item.day == fine.day)
    return Pair(lab.read(coarse, box.zoom_out(16), BANDS), lab.read(fine, box, BANDS))


def test_a_shift_common_to_all_dates_is_accepted_and_said_in_words() -> None:
    found = report([lab_pair(day, -480, 210) for day in (7, 3, 5)])
    assert found.corrected
    assert found.shift == pytest.approx((-480, 210), abs=0.05 * 480)
    assert [card.day for card in found.cards] == sorted(card.day for card in found.cards)
    assert "480 m west and 21" in found.verdict and "all 3 dates" in found.verdict
    assert "raises the correlation from 0." in found.verdict
    assert found.unit == "m" and found.pixel == pytest.approx(480)


def test_a_card_holds_the_line_the_width_and_the_sharpness() -> None:
    card = report([lab_pair(5, 240, -120, noise=0.002)]).cards[0]
    assert card.sharp and card.doubt == ""
    assert (card.dx, card.dy) == pytest.approx((240, -120), abs=10)
    assert 0 < card.dx_error < 10 and 0 < card.dy_error < 10
    assert card.bands == BANDS
    np.testing.assert_allclose(card.gain, 0.9, atol=0.02)  # planted
    np.testing.assert_allclose(card.offset, 0.02, atol=0.005)  # planted
    assert card.psf == pytest.approx(2.355 * 0.5, rel=0.1)  # aggregate's point-spread function
    assert card.psf_width == pytest.approx(card.psf * 480)
    assert card.r_zero < card.r < 1 and card.sharpness > 0.1
    assert min(card.correlation) > 0.98 and 0.8 < card.used <= 1
    assert card.over_zero > 10 and card.over_rival > 10


def test_correcting_what_the_report_found_leaves_nothing_to_correct() -> None:
    lab = sources.get("lab")
    first = lab_pair(5, -480, 240)
    found = report([first])
    coarse = next(
        item
        for item in lab.search("lab-coarse", options=lab.Options(shift_east=-480, shift_north=240, noise=0.005))
        if item.day == first.day
    )
    whole = lab.read(coarse, LAB_GRID.zoom_out(16), BANDS)
    there = whole.to(moved(BOX.zoom_out(16), found.shift), "cubic")
    again = report([Pair(replace(there, geobox=BOX.zoom_out(16)), first.fine)])
    assert not again.corrected
    assert abs(again.cards[0].dx) < 0.1 * 480 and abs(again.cards[0].dy) < 0.1 * 480


@pytest.mark.parametrize("noise", [0.002, 0.02])
def test_images_that_lie_right_are_left_alone(noise: float) -> None:
    found = report([lab_pair(day, noise=noise) for day in (3, 7)])
    assert found.shift == (0, 0) and not found.corrected
    assert "nothing is corrected" in found.verdict


def test_a_shift_below_the_tolerance_is_named_and_left_alone() -> None:
    found = report([lab_pair(day, 70, 0, noise=0.002) for day in (3, 7)])
    assert found.shift == (0, 0)
    assert found.verdict.startswith("A shift of 0.1") and "m east) is below the tolerance of 0.2" in found.verdict


def test_dates_that_disagree_are_not_corrected() -> None:
    pairs = [lab_pair(3, 480, 0), lab_pair(5, 480, 0), lab_pair(7, -240, 0)]
    found = report(pairs)
    assert found.shift == (0, 0)
    assert "The dates disagree" in found.verdict and f"Look at {pairs[2].day}" in found.verdict


def test_one_clouded_date_does_not_hinder_and_is_named() -> None:
    pairs = [lab_pair(day, 300, -300) for day in (3, 5, 7)]
    empty = replace(pairs[1].coarse, data=np.full_like(pairs[1].coarse.data, np.nan))
    found = report([pairs[0], Pair(empty, pairs[1].fine), pairs[2]])
    assert found.shift == pytest.approx((300, -300), abs=0.05 * 480)
    assert f"2 of 3 dates ({pairs[1].day}: 0 coarse pixels" in found.verdict
    assert np.isnan(found.cards[1].dx) and not found.cards[1].sharp


def test_an_empty_date_of_an_interpolated_series_says_nothing_about_the_size_of_a_pixel() -> None:
    pairs = [lab_pair(day, 300, -300) for day in (3, 5)]
    spread = [replace(pair.coarse).to(pair.fine.geobox, "bilinear") for pair in pairs]
    spread[1] = replace(spread[1], data=np.full_like(spread[1].data, np.nan))
    found = report([Pair(coarse, pair.fine) for coarse, pair in zip(spread, pairs, strict=True)])
    assert found.pixel == pytest.approx(480, rel=0.2)
    assert found.shift == pytest.approx((300, -300), abs=0.1 * 480)
    assert "1 of 2 dates" in found.verdict


def test_too_few_pixels_noise_only_and_no_texture_are_not_enough() -> None:
    rng = np.random.default_rng(0)
    good = lab_pair(5, 480, 0)
    few = lab_pair(5, 480, 0, box=BOX[: 6 * 16, : 8 * 16])
    noise = Pair(replace(good.coarse, data=rng.random(good.coarse.shape, np.float32)), good.fine)
    flat = Pair(replace(good.coarse, data=np.full_like(good.coarse.data, 0.2)), good.fine)
    dull = Pair(good.coarse, replace(good.fine, data=np.full_like(good.fine.data, 0.2)))
    for pair in (few, noise, flat, dull):
        found = report([pair])
        assert found.shift == (0, 0) and found.verdict.startswith("Not enough evidence"), found.verdict


def ground(height: int, width: int, ratio: int, day: int = 1) -> Pair:
    """Pair of bare pixels without structure, seen by a coarse sensor where it lies."""
    data = np.random.default_rng(day).random((1, height, width), np.float32)
    fine = Scene(data, identity_geobox(height, width), ("red",), date(2020, 5, day))
    return Pair(aggregate(fine, ratio), fine)


@pytest.mark.parametrize(
    ("rows", "columns", "said"),
    [(1, 1, "only 1 coarse pixel,"), (2, 2, "only 4 coarse pixels,"), (7, 7, "only 49 coarse pixels,")],
)
def test_an_area_of_few_coarse_pixels_is_called_small_and_none_missing(rows: int, columns: int, said: str) -> None:
    found = report([ground(16 * rows, 16 * columns, 16)], ratio=16)
    assert f"(the area has {said} 50 are wanted: draw a larger one)" in found.verdict
    assert found.cards[0].count == rows * columns and not found.corrected


def test_margins_that_leave_too_few_are_named_as_such_and_so_are_missing_pixels() -> None:
    pair = ground(16 * 5, 16 * 10, 16)  # the four corners see less than three quarters of what they should
    assert "of 50 coarse pixels 46 are left without the margins, 50 are wanted" in report([pair]).verdict
    wide = ground(16 * 8, 16 * 10, 16)
    data = wide.coarse.data.copy()
    data[:, 1:] = np.nan
    data[:, 0, 1:] = np.nan
    found = report([Pair(replace(wide.coarse, data=data), wide.fine)])
    assert "(1 coarse pixel has values in both images, 50 are wanted)" in found.verdict


def test_one_two_and_three_dates_are_named_in_plain_words() -> None:
    small, fine = [ground(32, 32, 16, day) for day in (1, 2, 3)], [lab_pair(day, -480, 0) for day in (3, 5)]
    for count, said in (
        (1, "on 2020-05-01, the only date (the"),
        (2, "on both dates (the"),
        (3, "on all 3 dates (the"),
    ):
        verdict = report(small[:count], ratio=16).verdict
        assert verdict.startswith("Not enough evidence " + said) and verdict.count("the area has only 4") == 1
    assert "images lie" in report(fine).verdict and "ones on both dates; reading them" in report(fine).verdict
    assert "image lies 48" in (one := report(fine[:1]).verdict) and f"{fine[0].day}, the only date; reading it" in one


def test_a_shift_beyond_the_search_is_not_accepted() -> None:
    box = BOX.zoom_out(16)
    good = lab_pair(5)
    away = Pair(replace(good.coarse, geobox=box.translate_pix(0, 6)), good.fine)
    assert report([away]).shift == (0, 0)


def test_stripes_that_fit_in_several_places_are_not_accepted() -> None:
    """Rows that repeat every coarse pixel and a half: the same a period farther."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:320, 0:320]
    data = (0.3 + 0.1 * np.sin(y * 2 * np.pi / 24) + 0.1 * np.sin(x * 2 * np.pi / 28))[None].astype(np.float32)
    fine = Scene(data, identity_geobox(320, 320), ("red",), date(2020, 5, 1))
    coarse = aggregate(fine, 16)
    noisy = coarse.data + rng.normal(0, 0.01, coarse.shape).astype(np.float32)
    found = report([Pair(replace(coarse, data=noisy, geobox=coarse.geobox.translate_pix(0.5, 0)), fine)])
    assert found.shift == (0, 0) and "another place fits nearly as well" in found.verdict


def test_a_report_wants_a_pair() -> None:
    with pytest.raises(FusionError, match="at least one pair"):
        report([])


def real(folder: Path, fine: str, coarse: str, days: dict[str, date], block: int = 1) -> list[Pair]:
    """Pairs of a set, pixel for pixel, as distributed or as means of blocks."""
    out = []
    for text, day in days.items():
        scenes = []
        for name in (coarse, fine):
            scene = Scene.read(folder / name.format(text), bands=("a", "b", "c"), day=day, scale=1e-4, nodata=32767)
            height, width = (size // block * block for size in scene.shape[1:])
            scenes.append(replace(scene[:height, :width], geobox=identity_geobox(height, width)))
        out.append(Pair(aggregate(scenes[0], block, psf=0) if block > 1 else scenes[0], scenes[1]))
    return out


BOREAS = {f"2001-{day}": date.fromisoformat(f"2001-{day}") for day in ("05-24", "07-11", "08-12")}
LGC = {day: date.fromisoformat(day) for day in ("2004-11-26", "2004-12-28")}
SHENZHEN = {"2000306": date(2000, 11, 1), "2002311": date(2002, 11, 7)}


@pytest.mark.data
@pytest.mark.parametrize("block", [1, 16])
def test_boreas_raw_lies_sixteen_columns_west_and_six_rows_north(test_data: Path, block: int) -> None:
    pairs = real(test_data / "boreas_estarfm_2001", "fine/L7_{}.tif", "coarse/MODIS_{}.tif", BOREAS, block)
    found = report(pairs)
    assert found.corrected and "all 3 dates" in found.verdict
    assert "pixels west and 6." in found.verdict
    assert found.shift == pytest.approx((-16.5, 6), abs=1.5)
    for card in found.cards:
        assert (card.dx, card.dy) == pytest.approx((-17, 6), abs=1.5)
        assert card.r - card.r_zero > 0.08 and card.over_zero > 5
    assert found.pixel == pytest.approx(16, abs=1)  # 480 m; as distributed the grids do not say


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "fine", "coarse", "days", "block"),
    [
        ("boreas_estarfm_2001/coreg", "fine/L7_{}.tif", "coarse/MODIS_{}.tif", BOREAS, 1),
        ("boreas_estarfm_2001/coreg", "fine/L7_{}.tif", "coarse/MODIS_{}.tif", BOREAS, 16),
        ("lgc_fsdaf_2004", "fine/L5_{}.tif", "coarse/MODISsim_{}.tif", LGC, 1),
        ("lgc_fsdaf_2004", "fine/L5_{}.tif", "coarse/MODISsim_{}.tif", LGC, 16),
        (
            "shenzhen_l7_mod09_2000_2002", "fine/L7{}_SZ_B432_30m.tif", "coarse/MOD09_{}_SZ_B214_250m.tif", SHENZHEN, 1,
        ),
        (
            "shenzhen_l7_mod09_2000_2002", "fine/L7{}_SZ_B432_30m.tif", "coarse/MOD09_{}_SZ_B214_250m.tif", SHENZHEN, 8,
        ),
    ],
)  # fmt: skip
def test_sets_that_lie_right_are_left_alone(test_data: Path, name, fine, coarse, days, block) -> None:
    found = report(real(test_data / name, fine, coarse, days, block))
    assert found.shift == (0, 0) and all(card.sharp for card in found.cards), found.verdict
    for card in found.cards:
        assert max(abs(card.dx), abs(card.dy)) < 0.2 * found.pixel


@pytest.mark.data
def test_kranj_is_too_small_to_say(test_data: Path) -> None:
    folder, bands = test_data / "kranj_l8_mcd43_2020", ("blue", "green", "red", "nir", "swir1", "swir2")
    pairs = []
    for text, path, day in (("2020068", "191-28", date(2020, 3, 8)), ("2020077", "190-28", date(2020, 3, 17))):
        fine = Scene.read(
            folder / f"fine/{text}_{path}.tif_filled_kranj.tif", bands=bands, day=day, scale=1e-4, nodata=-3.4e38
        )
        coarse = Scene.read(folder / f"coarse/{text}_18-04_kranj.tif", bands=bands, day=day, scale=1.0, nodata=-3.4e38)
        pairs.append(Pair(coarse, fine))
    found = report(pairs)
    assert found.shift == (0, 0) and found.verdict.startswith("Not enough evidence on both dates")
