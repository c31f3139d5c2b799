"""Folders in the layout of CIA and LGC: every way of naming, what becomes of pixels, and what is refused."""

from datetime import date
from pathlib import Path

import numpy as np
import pytest

from fusion.errors import FusionError
from fusion.folders import pairs_of
from fusion.sources import _own_look
from own_files import DAYS, SIX, UTM, cia, ground, seen_coarse, write


def two_folders(
    root: Path, inner: str, fine: str = "{day:%Y%m%d}_TM.tif", coarse: str = "MOD09GA_A{day:%Y%j}.tif"
) -> Path:
    """Sub-folders Landsat and MODIS, with a folder a date."""
    for step, day in enumerate(DAYS):
        image = ground(step)
        where = inner.format(day=day, month=day.strftime("%b").lower())
        write(root / "Landsat" / where / fine.format(day=day), image)
        write(root / "MODIS" / where / coarse.format(day=day), seen_coarse(image, 16))
    return root


def check(root: Path, place: bool = True) -> None:
    """The pairs are those of own_files.cia: reflectance, block means, days and places."""
    pairs = pairs_of(root, 16)
    assert [pair.day for pair in pairs] == list(DAYS)
    for step, pair in enumerate(pairs):
        fine, coarse = ground(step) / 1e4, seen_coarse(ground(step), 16)[:, ::16, ::16] / 1e4
        assert pair.fine.bands == pair.coarse.bands == SIX
        np.testing.assert_allclose(pair.fine.data, fine, atol=1e-7)
        np.testing.assert_allclose(pair.coarse.data, coarse, atol=1e-7)
        assert pair.coarse.geobox == pair.fine.geobox.zoom_out(16)
        assert (pair.fine.geobox.crs is not None) == place


@pytest.mark.parametrize("driver", ["GTiff", "ENVI"])
def test_both_images_of_a_date_in_one_folder(tmp_path, driver):
    check(cia(tmp_path, driver))


def test_images_without_a_place_lie_as_their_pixels_lie(tmp_path):
    check(cia(tmp_path, transform=None), place=False)


@pytest.mark.parametrize(
    ("inner", "names"),
    [
        ("{day:%Y_%j_%d}{month}", ()),
        ("{day:%Y%m%d}", ("image.tif", "image.tif")),
        (".", ("{day:%Y%j}.tif", "{day:%Y%j}.tif")),
        (".", ("L_{day:%Y_%j}.tif", "M_{day:%Y_%j}.tif")),
        (".", ("{day:%Y-%m-%d}.tif", "{day:%Y-%m-%d}.tif")),
    ],
)
def test_sub_folders_of_landsat_and_modis(tmp_path, inner, names):
    check(two_folders(tmp_path, inner, *names))


def test_sides_are_cut_to_whole_coarse_pixels_and_a_native_coarse_image_is_taken_as_it_is(tmp_path):
    for step, day in enumerate(DAYS[:2]):
        fine = ground(step, 3, 50, 37)
        write(tmp_path / f"fine/{day}.tif", fine)
        native = fine[:, :48, :32].reshape(3, 3, 16, 2, 16).mean((2, 4)).astype(np.float32) / np.float32(1e4)
        write(tmp_path / f"coarse/{day}.tif", native, UTM * UTM.scale(16))
    pair = pairs_of(tmp_path, 16, bands=("green", "red", "nir"))[0]
    assert pair.fine.shape == (3, 48, 32) and pair.coarse.shape == (3, 3, 2)
    np.testing.assert_allclose(pair.coarse.data, pair.fine.data.reshape(3, 3, 16, 2, 16).mean((2, 4)), atol=1e-6)
    assert pair.fine.bands == ("green", "red", "nir")


def test_missing_pixels_are_nan_whichever_way_they_are_said(tmp_path):
    for step, day in enumerate(DAYS[:2]):
        fine, coarse = ground(step), seen_coarse(ground(step), 16)
        fine[:, 0, 1], fine[:, 2, 3], fine[2, 4, 5], fine[1, 6, 7], fine[3, 8, 9] = -9999, 0, -32768, 7777, 0
        coarse[:, :16, :16] = -28672
        write(tmp_path / f"Landsat/{day}.tif", fine, nodata=-9999)
        write(tmp_path / f"MODIS/{day}.tif", coarse)
    pair = pairs_of(tmp_path, 16, nodata=7777)[0]
    missing = np.zeros(pair.fine.shape, bool)
    missing[:, 0, 1], missing[:, 2, 3], missing[2, 4, 5], missing[1, 6, 7] = True, True, True, True
    assert (np.isnan(pair.fine.data) == missing).all()
    assert pair.fine.data[3, 8, 9] == 0
    assert np.isnan(pair.coarse.data[:, 0, 0]).all() and np.isfinite(pair.coarse.data[:, 1:, 1:]).all()


def test_seven_modis_bands_are_brought_to_the_six_of_landsat(tmp_path):
    order = [2, 3, 0, 1, 5, 6]  # of sur_refl_b01 to b07: red, nir, blue, green, swir0, swir1, swir2
    for step, day in enumerate(DAYS[:2]):
        coarse = np.zeros((7, 96, 80), np.int16)
        coarse[order] = seen_coarse(ground(step), 16)
        coarse[4] = 1234
        write(tmp_path / f"Landsat/{day}.tif", ground(step))
        write(tmp_path / f"MODIS/{day}.tif", coarse)
    check_bands = pairs_of(tmp_path, 16)[1]
    np.testing.assert_allclose(check_bands.coarse.data, seen_coarse(ground(1), 16)[:, ::16, ::16] / 1e4, atol=1e-7)


def test_masks_and_notes_are_no_images_and_a_day_without_partner_is_left_out(tmp_path):
    cia(tmp_path)
    write(tmp_path / "20011008_fmask.tif", np.ones((1, 96, 80), np.uint8))
    (tmp_path / "readme.txt").write_text("of these images")
    write(tmp_path / "20020101_TM.tif", ground(4))
    assert len(pairs_of(tmp_path, 16)) == 3


def one(root: Path, name: str, data: np.ndarray, **more: object) -> None:
    """A second day whose one image is as given."""
    cia(root)
    for old in (root / "2001_290_17oct").glob(name.split(".")[0] + "*"):
        old.unlink()
    write(root / "2001_290_17oct" / name, data, **more)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda root: one(root, "20011017_TM.tif", ground(1, 6, 96, 64)), "20011017_TM.tif has 96 x 64 pixels"),
        (lambda root: one(root, "20011017_TM.tif", ground(1), transform=UTM * UTM.translation(1, 0)), "another place"),
        (lambda root: one(root, "20011017_TM.tif", ground(1, 5)), "has 5 bands, the others have 6"),
        (lambda root: one(root, "20011017_TM.tif", ground(1) / np.float32(1)), "another scale"),
        (lambda root: one(root, "MOD09GA_A2001290.tif", ground(1, 6, 24, 20)), "wanted the 96 x 80 .* or 6 x 5"),
        (
            lambda root: one(root, "MOD09GA_A2001290.tif", ground(1), transform=UTM * UTM.translation(40, 0)),
            "lies 40 fine pixels",
        ),
        (
            lambda root: write(cia(root) / "2001_290_17oct/20011017_ETM.tif", ground(1)),
            "both fine images of 2001-10-17",
        ),
        (lambda root: write(cia(root) / "TM_some_day.tif", ground(1)), "TM_some_day.tif nor its name says its day"),
        (lambda root: write(root / "Landsat/20011008.tif", ground(0)), "no day with both .* coarse ones of no day"),
        (lambda root: None, "no day with both a fine and a coarse image"),
        (lambda root: (cia(root) / "2001_281_08oct/20011008_TM.tif").write_bytes(b"II*\x00 cut off"), "cannot be read"),
    ],
    ids=[
        "size",
        "place",
        "count",
        "unit",
        "coarse size",
        "coarse place",
        "twice",
        "day",
        "one side",
        "empty",
        "broken",
    ],
)
def test_what_is_not_clear_is_said(tmp_path, spoil, words):
    spoil(tmp_path)
    with pytest.raises(FusionError, match=words):
        pairs_of(tmp_path, 16)


def test_wrong_arguments_are_said(tmp_path):
    cia(tmp_path)
    with pytest.raises(FusionError, match="from 1, got 0"):
        pairs_of(tmp_path, 0)
    with pytest.raises(FusionError, match="hold no coarse pixel of 100 x 100"):
        pairs_of(tmp_path, 100)
    with pytest.raises(FusionError, match="6 bands and the names red, nir: name each band"):
        pairs_of(tmp_path, 16, bands=("red", "nir"))
    with pytest.raises(FusionError, match="There is no folder"):
        pairs_of(tmp_path / "nowhere", 16)
    write(tmp_path / "more/Landsat/20011008.tif", ground(0, 5))
    write(tmp_path / "more/MODIS/20011008.tif", ground(0, 5))
    with pytest.raises(FusionError, match="has 5 bands and no names"):
        pairs_of(tmp_path / "more", 16)


def test_too_many_files_are_not_looked_at(tmp_path, monkeypatch):
    cia(tmp_path)
    monkeypatch.setattr("fusion.folders.MOST_FILES", 3)
    with pytest.raises(FusionError, match="holds 6 files, at most 3"):
        pairs_of(tmp_path, 16)


@pytest.mark.data
def test_real_pairs_read_as_they_are(test_data):
    pairs = pairs_of(test_data / "boreas_estarfm_2001" / "coreg", 16, bands=("green", "red", "nir"))
    assert [pair.day for pair in pairs] == [date(2001, 5, 24), date(2001, 7, 11), date(2001, 8, 12)]
    assert pairs[0].fine.shape == (3, 384, 368) and pairs[0].coarse.shape == (3, 24, 23)
    head = _own_look.header(test_data / "boreas_estarfm_2001/coreg/fine/L7_2001-05-24.tif")
    assert float(np.nanmedian(pairs[0].fine.data)) == pytest.approx(head.middle / 1e4, rel=0.05)
