"""Shift between a coarse and a fine image: planted displacements are found, in the right direction and unit."""

from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from fusion import FusionError, Scene, aggregate, sources
from fusion.preprocess import agreement, shift
from fusion.products import LAB_GRID
from fusion.scene import identity_geobox
from landscapes import grid

DAY = date(2020, 5, 1)
RATIO = 8
BANDS = ("red", "nir")


def ground(height: int = 200, width: int = 280) -> np.ndarray:
    """``(band, y, x)``: parcels on a slope, a river that bends; nothing symmetrical."""
    rng = np.random.default_rng(4)
    y, x = np.mgrid[0:height, 0:width]
    parcels = (y + x // 7) // 11 * 40 + (x + y // 5) // 17
    level = rng.uniform(0.05, 0.45, (2, int(parcels.max()) + 1))[:, parcels]
    river = np.abs(x - 90 - 30 * np.sin(y / 31) - y / 9) < 6
    return np.where(river, 0.03, level + 0.05 * y / height).astype(np.float32)


def seen(down: int, right: int, noise: float = 0.005, ratio: int = RATIO) -> tuple[Scene, Scene]:
    """Coarse and fine image; the coarse one's content lies by these fine pixels lower and farther right."""
    whole, rng = ground(), np.random.default_rng(1)
    box = grid(160, 240)
    coarse = aggregate(Scene(whole[:, 20 - down : 180 - down, 20 - right : 260 - right], box, BANDS, DAY), ratio)
    fine = whole[:, 20:180, 20:260] + rng.normal(0, noise, (2, 160, 240)).astype(np.float32)
    data = 0.9 * coarse.data + 0.02 + rng.normal(0, noise, coarse.shape).astype(np.float32)
    return replace(coarse, data=data.astype(np.float32)), Scene(fine, box, BANDS, DAY)


def turned(box: GeoBox) -> GeoBox:
    return GeoBox(box.shape, box.affine * Affine.rotation(20), box.crs)


@pytest.mark.parametrize(("down", "right"), [(0, 0), (3, -11), (-14, 5), (1, 16)])
def test_a_planted_displacement_is_found_in_metres_east_and_north(down: int, right: int) -> None:
    dx, dy = shift(*seen(down, right))
    assert dx == pytest.approx(30 * right, abs=0.05 * 30 * RATIO)
    assert dy == pytest.approx(-30 * down, abs=0.05 * 30 * RATIO)


def test_parts_of_a_pixel_are_found_at_usual_noise() -> None:
    """The lab's own displacement, which is not a whole number of fine pixels: error below 0.1 coarse pixel."""
    lab = sources.get("lab")
    options = lab.Options(shift_east=-137, shift_north=371, noise=0.005, gain=0.9, offset=0.02, clouds=0.3)
    fine = lab.search("lab-fine", options=options)[5]
    coarse = next(item for item in lab.search("lab-coarse", options=options) if item.day == fine.day)
    box = LAB_GRID[: 24 * 16, 160 : 160 + 28 * 16]
    found = shift(lab.read(coarse, box.zoom_out(16), BANDS), lab.read(fine, box, BANDS))
    assert found == pytest.approx((-137, 371), abs=0.05 * 480)


def test_without_crs_up_is_north_and_the_unit_is_the_pixel() -> None:
    coarse, fine = seen(5, -9)
    bare = identity_geobox(160, 240)
    dx, dy = shift(replace(coarse, geobox=bare.zoom_out(RATIO)), replace(fine, geobox=bare))
    assert (dx, dy) == pytest.approx((-9, -5), abs=0.4)


def test_an_image_stored_from_south_to_north_gives_the_same_displacement() -> None:
    coarse, fine = (
        replace(
            scene,
            data=np.ascontiguousarray(scene.data[:, ::-1]),
            geobox=scene.geobox.flipy(),
        )
        for scene in seen(5, -9)
    )
    assert fine.geobox.affine.e > 0
    assert shift(coarse, fine) == pytest.approx((-270, -150), abs=12)


def test_moving_both_grids_changes_nothing_and_moving_one_is_a_displacement() -> None:
    coarse, fine = seen(0, 0)
    there = replace(coarse, geobox=coarse.geobox.translate_pix(0.5, -1))
    dx, dy = shift(there, fine)
    assert (dx, dy) == pytest.approx((120, 240), abs=12)


def test_a_coarse_image_interpolated_onto_the_fine_grid_is_found_as_well() -> None:
    coarse, fine = seen(4, -10)
    spread = replace(coarse, data=coarse.data, geobox=coarse.geobox).to(fine.geobox, "bilinear")
    for ratio in (None, RATIO):
        dx, dy = shift(spread, fine, ratio=ratio)
        assert (dx, dy) == pytest.approx((-300, -120), abs=0.1 * 30 * RATIO)


def test_missing_pixels_and_whole_missing_bands_take_no_part() -> None:
    coarse, fine = seen(3, -6)
    data, other = coarse.data.copy(), fine.data.copy()
    data[:, 4:9, 10:15] = np.nan
    other[:, 90:140, 20:70] = np.nan
    dx, dy = shift(replace(coarse, data=data), replace(fine, data=other))
    assert (dx, dy) == pytest.approx((-180, -90), abs=12)
    data[0] = np.nan  # red alone
    dx, dy = shift(replace(coarse, data=data), replace(fine, data=other))
    assert (dx, dy) == pytest.approx((-180, -90), abs=12)


def test_stripes_missing_as_in_landsat_7_do_not_carry_it_away() -> None:
    coarse, fine = seen(3, -6)
    data = fine.data.copy()
    y, x = np.mgrid[0:160, 0:240]
    data[:, (y + x // 6) % 20 < 4] = np.nan  # a fifth
    assert shift(coarse, replace(fine, data=data)) == pytest.approx((-180, -90), abs=0.1 * 240)


def test_clouds_that_nobody_masked_do_not_carry_it_away() -> None:
    coarse, fine = seen(3, -6)
    data = coarse.data.copy()
    data[:, 2:5, 3:7] += 0.4
    dx, dy = shift(replace(coarse, data=data), fine)
    assert (dx, dy) == pytest.approx((-180, -90), abs=0.1 * 240)


def test_inputs_stay_as_they_are() -> None:
    coarse, fine = seen(1, 2)
    before = coarse.data.copy(), fine.data.copy()
    shift(coarse, fine)
    np.testing.assert_array_equal(coarse.data, before[0])
    np.testing.assert_array_equal(fine.data, before[1])


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (lambda c, f: (c.select(("red",)), f), "same bands"),
        (lambda c, f: (replace(c, geobox=GeoBox(c.geobox.shape, c.geobox.affine, "EPSG:32634")), f), "one CRS"),
        (lambda c, f: (f, c), "coarse pixels the larger"),
        (
            lambda c, f: (replace(c, geobox=turned(c.geobox)), f),
            "axes parallel",
        ),
        (lambda c, f: (replace(c, data=np.full_like(c.data, np.nan)), f), "at least 50 coarse pixels"),
        (lambda c, f: (c[:6, :8], f[:48, :64]), "at least 50 coarse pixels"),
    ],
)  # fmt: skip
def test_what_cannot_be_aligned_says_why(broken, words) -> None:
    with pytest.raises(FusionError, match=words):
        shift(*broken(*seen(0, 0)))


def test_an_image_without_texture_gives_a_number_and_no_crash() -> None:
    coarse, fine = seen(0, 0)
    flat = replace(coarse, data=np.full_like(coarse.data, 0.2))
    assert np.isfinite(shift(flat, fine)).all()


def test_agreement_is_highest_where_the_image_belongs() -> None:
    coarse, fine = seen(0, 0, noise=0.01)
    right = agreement(coarse, fine)
    for columns, rows in ((0.5, 0), (0, -0.5), (1, 1)):
        assert agreement(replace(coarse, geobox=coarse.geobox.translate_pix(columns, rows)), fine) < right - 0.02
    assert right > 0.95
    assert np.isnan(agreement(replace(coarse, data=np.full_like(coarse.data, np.nan)), fine))


@pytest.mark.data
def test_the_georeference_conflict_of_shenzhen_is_measured(test_data: Path) -> None:
    """PROVENANCE: the MODIS files lie about 165 m east and 160 m south of where their pixels belong."""
    folder = test_data / "shenzhen_l7_mod09_2000_2002"
    coarse, fine = (
        Scene.read(folder / name, bands=("nir", "red", "green"), day=DAY, scale=1e-4, nodata=32767)
        for name in ("coarse/MOD09_2000306_SZ_B214_250m.tif", "fine/L72000306_SZ_B432_30m.tif")
    )
    assert agreement(coarse, fine) == pytest.approx(0.93, abs=0.01)
    assert agreement(replace(coarse, geobox=fine.geobox), fine) == pytest.approx(0.98, abs=0.01)
    assert shift(coarse, fine) == pytest.approx((165, -160), abs=30)
