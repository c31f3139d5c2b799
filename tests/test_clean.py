"""clean: digital numbers, quality bits and mistaken units, against values that the products' guides name."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from fusion import PRODUCTS, Product
from fusion.preprocess import clean, unit_mistake
from fusion.products import Rule

LANDSAT = PRODUCTS["earthengine", "landsat"]
MODIS = PRODUCTS["earthengine", "mod09ga"]
NADIR = PRODUCTS["earthengine", "mcd43a4"]
SCENE = PRODUCTS["earthengine", "sentinel2"]
HLS = PRODUCTS["earthengine", "hls-l30"]
SATELLITES = [row for row in PRODUCTS.values() if row.collection]


def one(row: Product, qa: dict[str, int], number: float = 5000, **more: object) -> float:
    """Reflectance of one pixel that has the same number in all bands; its first band's."""
    names = row.quality(row.bands)
    bands = {name: np.array([[qa.get(name, 0)]]) for name in names}
    return float(clean(np.full((len(row.bands), 1, 1), number), bands, row, **more)[0, 0, 0])


# Values of QA_PIXEL as listed in the Landsat 8-9 Collection 2 Level 2 Science Product Guide (LSDS-1619), table 6-3.
@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (1, False), (21824, True), (21952, True), (21826, False), (22280, False), (23888, False), (24344, False),
        (30048, False), (54596, False), (55052, False),
    ],
)  # fmt: skip
def test_landsat_quality_values_of_the_guide(value: int, kept: bool) -> None:
    assert np.isfinite(one(LANDSAT, {"QA_PIXEL": value})) == kept


def test_landsat_scale_of_the_guide() -> None:
    assert one(LANDSAT, {"QA_PIXEL": 21824}, 7273) == pytest.approx(0.0, abs=1e-5)  # valid range 7273 to 43636: 0 to 1
    assert one(LANDSAT, {"QA_PIXEL": 21824}, 43636) == pytest.approx(1.0, abs=2e-5)


def test_fill_and_saturation_are_missing() -> None:
    assert np.isnan(one(LANDSAT, {"QA_PIXEL": 21824}, 0))
    assert np.isnan(one(LANDSAT, {"QA_PIXEL": 21824, "QA_RADSAT": 4}))


def test_snow_stays_on_request_and_nothing_else() -> None:
    assert np.isnan(one(LANDSAT, {"QA_PIXEL": 30048}))
    assert np.isfinite(one(LANDSAT, {"QA_PIXEL": 30048}, keep=("snow",)))
    assert np.isnan(one(LANDSAT, {"QA_PIXEL": 30048 | 8}, keep=("snow",)))  # snow and cloud


# 72 = land with low aerosol; MOD09 user's guide, table of the 1 km state.
@pytest.mark.parametrize(
    ("state", "kept"),
    [
        (72, True), (72 | 1, False), (72 | 2, False), (72 | 3, True), (72 | 4, False), (72 | 1 << 8, False),
        (72 | 1 << 9, False), (72 | 1 << 10, False), (72 | 1 << 11, True), (72 | 1 << 12, False), (72 | 1 << 13, False),
        (72 | 1 << 15, False),
    ],
)  # fmt: skip
def test_modis_state(state: int, kept: bool) -> None:
    assert np.isfinite(one(MODIS, {"state_1km": state})) == kept


def test_modis_range_and_fill() -> None:
    assert one(MODIS, {"state_1km": 72}, 1234) == pytest.approx(0.1234)
    assert np.isfinite(one(MODIS, {"state_1km": 72}, -100)) and np.isnan(one(MODIS, {"state_1km": 72}, -101))
    assert np.isnan(one(MODIS, {"state_1km": 72}, -28672)) and np.isnan(one(MODIS, {"state_1km": 72}, 16001))


def test_a_rule_per_band_takes_out_that_band_alone() -> None:
    qa = {name: np.zeros((1, 1), int) for name in NADIR.quality(NADIR.bands)}
    qa["BRDF_Albedo_Band_Mandatory_Quality_Band2"][:] = 1  # MODIS band 2 is near infrared
    out = clean(np.full((6, 1, 1), 3000), qa, NADIR)[:, 0, 0]
    assert [band for band, value in zip(NADIR.bands, out, strict=True) if np.isnan(value)] == ["nir"]


@pytest.mark.parametrize(
    ("code", "kept"),
    [(0, False), (1, False), (2, True), (3, False), (4, True), (5, True), (6, True), (7, True), (8, False),
     (9, False), (10, False), (11, False)],
)  # fmt: skip
def test_sentinel2_scene_classes(code: int, kept: bool) -> None:
    assert np.isfinite(one(SCENE, {"SCL": code})) == kept
    assert np.isfinite(one(SCENE, {"SCL": code}, keep=("snow",))) == (kept or code == 11)


@pytest.mark.parametrize(
    ("mask", "kept"), [(0, True), (2, False), (4, False), (8, False), (16, False), (32, True), (255, False)]
)
def test_hls_fmask(mask: int, kept: bool) -> None:
    assert np.isfinite(one(HLS, {"Fmask": mask}, 0.2)) == kept


def test_bands_may_be_chosen_and_their_order_is_kept() -> None:
    raw = np.array([10_000, 20_000]).reshape(2, 1, 1)
    qa = {"QA_PIXEL": np.array([[21824]]), "QA_RADSAT": np.zeros((1, 1), int)}
    out = clean(raw, qa, LANDSAT, bands=("nir", "blue"))
    assert out[:, 0, 0] == pytest.approx([0.075, 0.35])


def test_scales_per_band_follow_the_bands_chosen() -> None:
    row = replace(HLS, scale=(1.0, 2.0, 3.0, 4.0, 5.0, 6.0), offset=0.5, valid=None, rules=())
    out = clean(np.ones((2, 1, 1)), {}, row, bands=("red", "green"))
    assert out[:, 0, 0].tolist() == [3.5, 2.5]


def test_a_quality_band_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match="quality band QA_RADSAT .*only QA_PIXEL: read it"):
        clean(np.ones((6, 1, 1)), {"QA_PIXEL": np.array([[21824]])}, LANDSAT)
    with pytest.raises(ValueError, match=r"quality band QA_PIXEL of shape \(1, 1\), got \(2, 1\)"):
        clean(np.ones((6, 1, 1)), {"QA_PIXEL": np.zeros((2, 1))}, LANDSAT)
    with pytest.raises(ValueError, match="pass a mapping"):
        clean(np.ones((6, 1, 1)), np.zeros((1, 1)), LANDSAT)


def test_one_quality_band_needs_no_name() -> None:
    out = clean(np.full((6, 1, 2), 5000), np.array([[4, 9]]), SCENE)
    assert np.isfinite(out[:, 0, 0]).all() and np.isnan(out[:, 0, 1]).all()


def test_unknown_quality_is_missing() -> None:
    qa = {"QA_PIXEL": np.array([[np.nan]]), "QA_RADSAT": np.zeros((1, 1))}
    assert np.isnan(clean(np.full((6, 1, 1), 9000), qa, LANDSAT)).all()


def test_the_numbers_given_are_not_changed() -> None:
    raw, qa = np.full((6, 1, 1), 9000), {"QA_PIXEL": np.array([[8]]), "QA_RADSAT": np.zeros((1, 1), int)}
    clean(raw, qa, LANDSAT)
    assert (raw == 9000).all() and qa["QA_PIXEL"][0, 0] == 8


@pytest.mark.parametrize("row", SATELLITES, ids=lambda row: f"{row.source}-{row.name}")
def test_every_collection_says_all_that_reading_it_needs(row: Product) -> None:
    assert len(row.native) == len(row.bands) and row.rules and row.collection and row.licence and row.citation
    assert {"cloud", "quality"} & {rule.what for rule in row.rules}
    middle = 0.2 if row.scale == 1 else 3000
    low, high = row.valid or (-np.inf, np.inf)
    assert low <= middle <= high and row.fill != middle


def test_a_rule_wants_good_values_or_bad_ones() -> None:
    with pytest.raises(ValueError, match="good values or bad ones"):
        Rule("cloud", "QA")
    with pytest.raises(ValueError, match="give one"):
        Rule("cloud", "QA", good=(0,), bad=(1,))


def test_mistaken_units_are_named() -> None:
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.02, 0.45, 500)
    assert unit_mistake(truth) is None
    assert "10,000" in str(unit_mistake(truth * 1e4)) and "percent" in str(unit_mistake(truth * 100))
    assert "scaled twice" in str(unit_mistake(truth * 1e-4))
    assert unit_mistake(np.full(9, np.nan)) is None and unit_mistake(np.full(9, 1.2)) is None  # nothing; fresh snow


def test_a_few_dark_values_are_no_mistake_and_of_a_known_collection_none_are() -> None:
    rng = np.random.default_rng(0)
    dark = rng.uniform(2e-6, 4.5e-5, 500)
    assert unit_mistake(dark[:99]) is None and "scaled twice" in str(unit_mistake(dark[:100]))
    assert unit_mistake(dark, known=True) is None
    assert "10,000" in str(unit_mistake(np.full(100, 2000.0), known=True))
    assert unit_mistake(np.full(99, 2000.0), known=True) is None
    assert unit_mistake(np.r_[np.full(200, 0.1), np.full(150, 3.0)], known=True) is None  # glint, not the whole image


def test_of_a_large_image_a_sample_is_looked_at() -> None:
    image = np.full((6, 1000, 1000), 0.1, np.float32)
    tracemalloc.start()
    try:
        assert unit_mistake(image) is None
        assert tracemalloc.get_traced_memory()[1] < image.nbytes / 8  # 100,000 values, not 6 million
    finally:
        tracemalloc.stop()


def test_a_sample_sees_all_rows_and_columns() -> None:
    image = np.full((6, 1000, 1000), 5.0, np.float32)  # 6 million values: every 60th would meet 50 columns only
    image[:, :, ::20] = 0.1
    assert "light" in str(unit_mistake(image))
    image = np.full((6, 1000, 1000), np.nan, np.float32)
    image[0, 0, :120] = 812.0  # hardly any, still found
    assert "10,000" in str(unit_mistake(image))
