"""What names say: days, sensors, roles, bands."""

from datetime import date

import pytest

from fusion.sources import _own_names as names


@pytest.mark.parametrize(
    ("name", "day"),
    [
        ("fine/L7_2001-05-24.tif", date(2001, 5, 24)),
        ("20010524_x.tif", date(2001, 5, 24)),
        ("a_2001144.tif", date(2001, 5, 24)),
        ("LC08_L2SP_190028_20200701_20200713_02_T1_SR_B4.TIF", date(2020, 7, 1)),
        ("LC81900282020183LGN00.tif", date(2020, 7, 1)),
        ("MCD43A4.A2020183.h18v04.061.2020192000000.tif", date(2020, 7, 1)),
        ("L_2016_220.tif", date(2016, 8, 7)),
        ("L72002311_SZ_B432_30m.tif", date(2002, 11, 7)),
        ("fine/2020068_191-28.tif_filled_kranj.tif", date(2020, 3, 8)),
        ("2001_281_08oct/TM.tif", date(2001, 10, 8)),
        ("Landsat/2004_107_16Apr/TM.tif", date(2004, 4, 16)),
        ("L5_16Apr2004.tif", date(2004, 4, 16)),
        ("2001_281_08oct/20011017_TM.tif", date(2001, 10, 17)),  # the name comes before its folder
        ("tm0524.tif", None),
        ("2020366.tif", date(2020, 12, 31)),
        ("2021366.tif", None),  # no leap year
        ("2021-02-30.tif", None),
        ("image_250m.tif", None),
    ],
)
def test_a_day_is_read_from_names_and_folders(name: str, day: date | None) -> None:
    assert names.day_of(name)[0] == day


def test_month_and_day_without_a_year() -> None:
    assert names.month_and_day("tm0524.tif") == (5, 24)
    assert names.month_and_day("tm1324.tif") is None
    assert names.year_of("boreas_2001/tm0524") == 2001


@pytest.mark.parametrize(
    ("name", "sensor", "role", "pixel"),
    [
        ("20011008_TM.tif", "Landsat 4-7", "fine", 30),
        ("L7_2001-05-24.tif", "Landsat 4-7", "fine", 30),
        ("LC09_L2SP_190028_20220701.tif", "Landsat 8/9", "fine", 30),
        ("S2_2017-08-05.tif", "Sentinel-2", "fine", 10),
        ("MOD09GA_A2001281.tif", "MODIS", "coarse", 500),
        ("MOD09GQ.A2001281.tif", "MODIS", "coarse", 250),
        ("MYD09GA.A2001281.tif", "MODIS", "coarse", 500),
        ("MOD09_2002311_SZ_B214_250m.tif", "MODIS", "coarse", 250),
        ("MODISsim_2004-12-28.tif", "MODIS", "coarse", 500),
        ("S3A_OLCI_20200701.tif", "OLCI", "coarse", 300),
        ("M_2016_220.tif", "MODIS", "coarse", 500),
        ("L_2016_220.tif", "Landsat", "fine", 30),
        ("modis/2016220.tif", "MODIS", "coarse", 500),
    ],
)
def test_a_sensor_is_read_from_names_and_folders(name: str, sensor: str, role: str, pixel: float) -> None:
    found = names.sensor_of(name)
    assert found is not None
    assert (found.name, found.role, found.pixel) == (sensor, role, pixel)


@pytest.mark.parametrize("name", ["image.tif", "myatm_2001.tif", "model_2020.tif", "steam.tif", "fields2.tif"])
def test_other_words_are_no_sensor(name: str) -> None:
    assert names.sensor_of(name) is None


@pytest.mark.parametrize(
    ("name", "count", "bands"),
    [
        ("L72002311_SZ_B432_30m.tif", 3, ("nir", "red", "green")),
        ("MOD09_2002311_SZ_B214_250m.tif", 3, ("nir", "red", "green")),
        ("LC08_L2SP_190028_20200701_SR_B4.TIF", 1, ("red",)),
        ("LE07_L2SP_190028_20000701_SR_B4.TIF", 1, ("nir",)),
        ("S2A_20200701_B8A.tif", 1, ("nir8a",)),
        ("MOD09GA_A2001281_sur_refl_b02.tif", 1, ("nir",)),
        ("L8_NDVI_2015-07-19.tif", 1, ("ndvi",)),
        ("L8_2015-07-19.tif", 4, None),
    ],
)
def test_bands_are_read_from_names(name: str, count: int, bands: tuple[str, ...] | None) -> None:
    assert names.bands_in(name, names.sensor_of(name), count) == bands


def test_masks_and_classes_are_told_by_name() -> None:
    assert names.mask_of("L8_cfmask_2015-04-14.tif") == "cfmask"
    assert names.mask_of("LC08_L2SP_190028_20200701_QA_PIXEL.TIF") == "qa_pixel"
    assert names.mask_of("L8_2015-04-14.tif") is None
    assert names.is_classes("L5_2004-11-26_svm_classes.tif")
    assert not names.is_classes("L5_2004-11-26.tif")


def test_descriptions_become_band_names() -> None:
    assert [names.plain(text) for text in ("Red", "SR_nir", "swir?", "red nir", "Band 1")] == ["red", "nir", "", "", ""]
