"""Sources: one contract for all products on a grid of their own, then what the lab and the sample say of themselves."""

from dataclasses import replace
from datetime import date
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from fusion import PRODUCTS, FusionError, Item, Product, Scene, aggregate, sources
from fusion._assets import asset
from fusion.params import params
from fusion.products import LAB_GRID, SAMPLE_GRID
from fusion.sources import _lab_layers, _lab_year, lab, sample
from fusion.sources.lab import Landscape

ROWS = [row for row in PRODUCTS.values() if row.geobox is not None]
each_product = pytest.mark.parametrize("row", ROWS, ids=[f"{row.source}-{row.name}" for row in ROWS])


def native(row: Product) -> GeoBox:
    assert row.geobox is not None
    return row.geobox


def search(row: Product, *args: Any) -> list[Item]:
    return sources.get(row.source).search(row.name, *args)


def read(row: Product, item: Item, geobox: GeoBox, bands: tuple[str, ...] | None = None) -> Scene:
    return sources.get(row.source).read(item, geobox, bands or row.bands)


def part(row: Product) -> tuple[slice, slice]:
    """Rows and columns of a window that is neither square nor in the middle."""
    height, width = native(row).shape
    return slice(height // 5, height // 2), slice(width // 10, width - width // 5)


# --- the contract -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sources.names())
def test_every_source_says_who_it_is(name: str) -> None:
    source: Any = sources.get(name)
    assert source.TITLE and len(source.DESCRIPTION) > 100
    assert hasattr(source, "offered") or any(row.source == name for row in PRODUCTS.values())
    assert hasattr(source, "Options") == hasattr(source, "options_in")  # what an id was made with can be read back


@each_product
def test_search_lists_hashable_items_in_time_order(row: Product) -> None:
    items = search(row)
    assert len(items) > 10
    assert all(first.day < second.day for first, second in pairwise(items))
    assert len(set(items)) == len(items)
    for item in items:
        assert (item.source, item.product) == (row.source, row.name)
        assert item.id.startswith(item.day.isoformat())
        assert item.cloud is not None and 0 <= item.cloud <= 1


@each_product
def test_search_keeps_to_dates_and_place(row: Product) -> None:
    items = search(row)
    days = items[3].day, items[7].day
    assert search(row, None, days) == items[3:8]
    bounds = items[0].bounds
    assert bounds is not None
    west, south, east, north = bounds
    assert search(row, (west, south, (west + east) / 2, north)) == items
    assert search(row, (east + 0.01, south, east + 0.02, north)) == []
    assert search(row, (west - 1, south - 1, east + 1, north + 1), days) == items[3:8]


@each_product
@pytest.mark.parametrize("bounds", [(1, 0, 1, 2), (0, 3, 1, 2), (0, -91, 1, 0), (float("nan"), 0, 1, 1)])
def test_search_refuses_bounds_that_are_none(row: Product, bounds: tuple[float, float, float, float]) -> None:
    with pytest.raises(FusionError, match="west, south, east, north"):
        search(row, bounds)


@each_product
def test_read_gives_exactly_grid_and_bands(row: Product) -> None:
    item, window = search(row)[5], native(row)[part(row)]
    bands = row.bands[::-2]
    scene = read(row, item, window, bands)
    assert scene.geobox == window
    assert (scene.bands, scene.day, scene.data.dtype) == (bands, item.day, np.float32)
    assert scene.valid == 1 and 0 < scene.data.min() and scene.data.max() < 1


@each_product
def test_a_window_is_cut_out_of_the_whole(row: Product) -> None:
    item, window = search(row)[8], part(row)
    whole = read(row, item, native(row))
    np.testing.assert_array_equal(read(row, item, native(row)[window]).data, whole[window].data)


@each_product
def test_what_a_caller_does_to_its_pixels_stays_with_it(row: Product) -> None:
    item = search(row)[2]
    first = read(row, item, native(row))
    kept = first.data.copy()
    first.data[:] = 7
    np.testing.assert_array_equal(read(row, item, native(row)).data, kept)


@each_product
def test_another_crs_shows_the_same_ground(row: Product) -> None:
    """Every pixel of a grid in degrees resembles the native pixel that it lies in."""
    item, here = search(row)[6], native(row)
    box = here[here.shape[0] // 5 : -(here.shape[0] // 5), here.shape[1] // 4 : -(here.shape[1] // 4)]
    inside = box.geographic_extent.boundingbox
    step = (inside.right - inside.left) / box.shape[1]
    there = GeoBox(
        (box.shape[0] * 3 // 4, box.shape[1] * 4 // 5),
        Affine(step, 0, inside.left, 0, -step * 0.8, inside.top),
        "EPSG:4326",
    )
    moved = read(row, item, there)
    assert moved.geobox == there and moved.valid == 1
    x, y = there.pix2wld(*np.meshgrid(np.arange(there.shape[1]) + 0.5, np.arange(there.shape[0]) + 0.5))
    transformer = there.crs.transformer_to_crs(here.crs)  # type: ignore[union-attr]
    column, line = here.wld2pix(*transformer(x, y))
    under = read(row, item, here).data[:, np.floor(line).astype(int), np.floor(column).astype(int)]
    assert np.median(np.abs(moved.data - under)) < 0.012
    for band in range(len(row.bands)) if moved.data[0].size > 100 else ():
        assert np.corrcoef(moved.data[band].ravel(), under[band].ravel())[0, 1] > 0.85


@each_product
def test_a_grid_beyond_the_source_is_refused_with_numbers(row: Product) -> None:
    item, here = search(row)[0], native(row)
    beyond = GeoBox(here.shape, here.affine @ Affine.translation(here.shape[1] // 3, 0), here.crs)
    with pytest.raises(FusionError, match=rf"covers x {here.boundingbox.left:.0f} to .*, asked was x \d+ to \d+ and y"):
        read(row, item, beyond)
    with pytest.raises(FusionError, match="choose an area inside"):
        read(row, item, GeoBox((10, 10), Affine(0.01, 0, 100, 0, -0.01, 50), "EPSG:4326"))
    with pytest.raises(FusionError, match="no CRS"):
        read(row, item, GeoBox((10, 10), here.affine, None))


@each_product
def test_unknown_names_are_refused(row: Product) -> None:
    item, here = search(row)[0], native(row)
    with pytest.raises(FusionError, match="Band thermal is not in the scene"):
        read(row, item, here, ("red", "thermal"))
    with pytest.raises(FusionError, match="has no image '1999-01-01'"):
        read(row, replace(item, id="1999-01-01", day=date(1999, 1, 1)), here)
    with pytest.raises(FusionError, match="has no image"):
        read(row, replace(item, day=date(1999, 1, 1)), here)
    with pytest.raises(FusionError, match="has no image"):
        read(row, replace(item, source="elsewhere"), here)
    with pytest.raises(FusionError, match="has no product 'modis'"):
        search(replace(row, name="modis"))
    with pytest.raises(FusionError, match="has no product 'modis'"):
        read(row, replace(item, product="modis"), here)


@pytest.mark.parametrize("name", sources.names())
def test_every_fine_day_has_a_coarse_image(name: str) -> None:
    rows = {row.role: row for row in ROWS if row.source == name}
    if rows:
        coarse = {item.day for item in search(rows["coarse"])}
        assert {item.day for item in search(rows["fine"])} <= coarse


# --- the lab ----------------------------------------------------------------------------------------------------

FLOODED, BEFORE, AFTER = date(2021, 7, 4), date(2021, 6, 18), date(2021, 7, 20)


def lab_image(product: str, day: date, **options: Any) -> np.ndarray:
    """Whole image ``(band, y, x)`` of a day."""
    row = PRODUCTS["lab", product]
    item = next(item for item in lab.search(product, options=Landscape(**options)) if item.day == day)
    return lab.read(item, native(row), row.bands).data


def ndvi(image: np.ndarray) -> np.ndarray:
    red, nir = image[2].astype(np.float64), image[3].astype(np.float64)
    return (nir - red) / (nir + red)


def test_lab_has_a_year_of_coarse_days_and_fine_ones_around_the_events() -> None:
    assert len(lab.DAYS) == 46 and lab.DAYS[0] == date(2021, 1, 1) and lab.DAYS[-1] == date(2021, 12, 27)
    assert {b - a for a, b in pairwise(lab.DAYS)} == {lab.DAYS[1] - lab.DAYS[0]}
    assert len(lab.FINE_DAYS) == 14 and {BEFORE, FLOODED, AFTER} <= set(lab.FINE_DAYS)
    assert [item.day for item in lab.search("lab-truth")] == list(lab.DAYS)


def test_truth_is_the_fine_image_without_noise() -> None:
    truth = lab_image("lab-truth", BEFORE)
    np.testing.assert_array_equal(truth, lab_image("lab-fine", BEFORE, noise=0))
    np.testing.assert_array_equal(truth, lab_image("lab-truth", BEFORE, clouds=0.8, noise=0.02, gain=0.8))
    noise = lab_image("lab-fine", BEFORE, noise=0.01) - truth
    assert noise.std() == pytest.approx(0.01, rel=0.01) and abs(noise.mean()) < 1e-4
    assert abs(np.corrcoef(noise[0, 1:].ravel(), noise[0, :-1].ravel())[0, 1]) < 0.01


def test_a_perfect_coarse_sensor_sees_the_aggregated_truth() -> None:
    row = PRODUCTS["lab", "lab-fine"]
    truth = Scene(lab_image("lab-truth", AFTER), LAB_GRID, row.bands, AFTER)
    np.testing.assert_array_equal(lab_image("lab-coarse", AFTER, noise=0), aggregate(truth, 16).data)


def test_gain_and_offset_are_the_coarse_sensors() -> None:
    plain = lab_image("lab-coarse", AFTER, noise=0)
    np.testing.assert_allclose(
        lab_image("lab-coarse", AFTER, noise=0, gain=0.9, offset=0.02), 0.9 * plain + 0.02, atol=1e-6
    )
    np.testing.assert_array_equal(lab_image("lab-fine", AFTER, gain=0.9, offset=0.02), lab_image("lab-fine", AFTER))


def test_noise_of_the_coarse_sensor_is_its_own() -> None:
    noise = lab_image("lab-coarse", AFTER, noise=0.01) - lab_image("lab-coarse", AFTER, noise=0)
    assert noise.std() == pytest.approx(0.01, rel=0.05)
    other = lab_image("lab-coarse", BEFORE, noise=0.01) - lab_image("lab-coarse", BEFORE, noise=0)
    assert abs(np.corrcoef(noise.ravel(), other.ravel())[0, 1]) < 0.05


def test_misregistration_moves_the_coarse_image_by_metres() -> None:
    plain = lab_image("lab-coarse", AFTER, noise=0)[:, 4:-4, 4:-4]
    east = lab_image("lab-coarse", AFTER, noise=0, shift_east=480)[:, 4:-4, 5:-3]
    north = lab_image("lab-coarse", AFTER, noise=0, shift_north=960)[:, 2:-6, 4:-4]
    np.testing.assert_allclose(east, plain, atol=1e-6)
    np.testing.assert_allclose(north, plain, atol=1e-6)
    near, mid, far = (
        lab_image("lab-coarse", AFTER, noise=0, shift_north=metres)[:, 4:-4, 4:-4] for metres in (-60, -75, -90)
    )
    np.testing.assert_allclose(mid, (near + far) / 2, atol=1e-6)
    assert np.abs(near - far).max() > 1e-3


def test_clouds_are_missing_in_both_images_and_announced() -> None:
    options = Landscape(clouds=0.4, seed=3, noise=0)
    fine, coarse = (lab.search(name, options=options) for name in ("lab-fine", "lab-coarse"))
    share = np.array([_lab_year.clouds(3, day, 0.4).mean() for day in lab.DAYS])
    assert 0.5 < (share > 0).mean() < 0.85
    assert share[share > 0].mean() == pytest.approx(0.4, abs=0.06)
    cloudy = next(item for item in fine if item.cloud and item.cloud > 0.3)
    image = lab.read(cloudy, LAB_GRID, ("red", "nir")).data
    missing = np.isnan(image)
    np.testing.assert_array_equal(missing[0], missing[1])
    assert missing[0].mean() == pytest.approx(cloudy.cloud, abs=1e-9)
    truth = lab_image("lab-truth", cloudy.day, seed=3)[[2, 3]]
    np.testing.assert_array_equal(image[~missing], truth[~missing])
    twin = next(item for item in coarse if item.day == cloudy.day)
    seen = lab.read(twin, LAB_GRID.zoom_out(16), ("red",)).data[0]
    blocks = missing[0].reshape(40, 16, 40, 16).mean(axis=(1, 3))
    assert np.isnan(seen).mean() == pytest.approx(twin.cloud, abs=1e-9)
    assert np.isnan(seen[blocks == 1]).all() and not np.isnan(seen[blocks == 0]).all()


def test_cloud_of_an_item_is_the_share_of_the_searched_area() -> None:
    options = Landscape(clouds=0.4, seed=3)
    whole = lab.search("lab-fine", options=options)
    assert whole[0].bounds is not None
    west, south, east, north = whole[0].bounds
    halves = [
        lab.search("lab-fine", box, options=options)
        for box in ((west, south, (west + east) / 2, north), ((west + east) / 2, south, east, north))
    ]
    for all_of_it, left, right in zip(whole, *halves, strict=True):
        assert all_of_it.cloud == pytest.approx((left.cloud + right.cloud) / 2, abs=0.02)  # type: ignore[operator]
    assert any(abs(left.cloud - right.cloud) > 0.1 for left, right in zip(*halves, strict=True))  # type: ignore[operator]


def test_the_same_id_gives_the_same_pixels_again() -> None:
    first = lab_image("lab-fine", FLOODED, seed=11, clouds=0.5), lab_image("lab-coarse", FLOODED, seed=11, clouds=0.5)
    for kept in (_lab_layers.ground, _lab_year.truth, _lab_year.clouds, lab._coarse):
        kept.cache_clear()
    again = lab_image("lab-fine", FLOODED, seed=11, clouds=0.5), lab_image("lab-coarse", FLOODED, seed=11, clouds=0.5)
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert np.nanmax(np.abs(first[0] - lab_image("lab-fine", FLOODED, seed=12))) > 0.1


MEANS = (
    0.0398,
    0.0757,
    0.0604,
    0.3291,
    0.1797,
    0.0929,
)
FIELD = (
    0.0373,
    0.0801,
    0.0561,
    0.3499,
    0.2154,
    0.1151,
)  # rows 560 to 579, columns 40 to 51


def test_truth_of_the_default_landscape_is_what_it_was() -> None:
    """Recipes name images by id: changing the generator changes what a recipe means. Values of version 0.1."""
    truth = lab_image("lab-truth", FLOODED)
    np.testing.assert_allclose(truth.mean(axis=(1, 2)), MEANS, atol=5e-4)
    np.testing.assert_allclose(truth[:, 560:580, 40:52].mean(axis=(1, 2)), FIELD, atol=5e-4)


def test_landscape_is_plausible_and_asymmetrical() -> None:
    for day in lab.DAYS[::9]:
        truth = lab_image("lab-truth", day, seed=5)
        assert truth.min() > 0 and truth.max() < 0.9 and np.isfinite(truth).all()
        for other in (truth.transpose(0, 2, 1), truth[:, ::-1], truth[:, :, ::-1]):
            assert abs(np.corrcoef(other[3].ravel(), truth[3].ravel())[0, 1]) < 0.5
    greenness = [ndvi(lab_image("lab-truth", day, seed=5)).mean() for day in (lab.DAYS[2], BEFORE, lab.DAYS[40])]
    assert greenness[1] > max(greenness[0], greenness[2]) + 0.2


def test_flood_comes_and_goes_between_fine_days() -> None:
    under = {day: (lab_image("lab-truth", day)[3] < 0.12).mean() for day in (BEFORE, FLOODED, AFTER)}
    assert under[FLOODED] - under[BEFORE] > 0.04
    assert under[AFTER] == pytest.approx(under[BEFORE], abs=0.005)


def test_harvest_falls_between_two_fine_days() -> None:
    before, after = (lab_image("lab-truth", day) for day in (date(2021, 7, 20), date(2021, 8, 5)))
    cut = (after[4] - before[4] > 0.05) & (ndvi(after) < 0.3)
    assert 0.05 < cut.mean() < 0.5
    assert lab.FINE_DAYS[lab.FINE_DAYS.index(date(2021, 7, 20)) + 1] == date(2021, 8, 5)


def test_woods_are_felled_in_spring() -> None:
    ground = _lab_layers.ground(0)
    before, after = (ndvi(lab_image("lab-truth", day))[ground.felled].mean() for day in (BEFORE, lab.DAYS[9]))
    assert ground.felled.sum() > 300 and before < 0.4
    beside = ndvi(lab_image("lab-truth", BEFORE))[np.isin(ground.kind[ground.parcel], (7, 8)) & ~ground.felled].mean()
    assert beside > 0.8
    assert after > 0.2


@pytest.mark.parametrize(
    "values", [{"clouds": 0.81}, {"seed": -1}, {"seed": 1.5}, {"gain": 0.5}, {"offset": 0.06}, {"noise": float("nan")}]
)
def test_options_out_of_range_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(FusionError, match=f"{next(iter(values))}.* wants"):
        Landscape(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "2021-05-02",  # no such day
        "2021-05-01/",
        "2021-05-01/seed=03",
        "2021-05-01/seed=0",  # the default is not written
        "2021-05-01/clouds=0.4,seed=3",  # order
        "2021-05-01/seed=3,seed=3",
        "2021-05-01/seed=3.0",
        "2021-05-01/seed=3,",
        "2021-05-01/clouds=0.9",
        "2021-05-01/clouds=1e999",
        "2021-05-01/clouds=4e",
        "2021-05-01/fog=1",
        "2021-13-01",
        "2021-05-01/seed=3/gain=0.9",
    ],
)
def test_only_ids_that_a_search_writes_are_read(text: str) -> None:
    item = Item("lab", "lab-coarse", text, date(2021, 5, 1))
    with pytest.raises(FusionError):
        lab.read(item, LAB_GRID.zoom_out(16), ("red",))


def test_unknown_options_are_named() -> None:
    item = Item("lab", "lab-coarse", "2021-05-01/fog=1", date(2021, 5, 1))
    with pytest.raises(FusionError, match=r"no option fog; it has seed, clouds"):
        lab.read(item, LAB_GRID.zoom_out(16), ("red",))


NUMBERS = {
    item.name: (st.integers if item.kind is int else st.floats)(item.kind(item.low), item.kind(item.high))
    for item in params(Landscape)
}


@settings(max_examples=40)
@given(st.fixed_dictionaries({}, optional=NUMBERS))
def test_an_id_carries_its_options(values: dict[str, Any]) -> None:
    options = Landscape(**values)
    day = lab.DAYS[15]
    item = Item("lab", "lab-coarse", lab._id(day, options), day)
    assert lab._parse(item) == (day, options)


# --- the sample -------------------------------------------------------------------------------------------------


def test_sample_files_lie_on_the_products_grid() -> None:
    assert len(sample.days()) >= 12 and sample.days()[-1] < date(2019, 1, 1)
    for day in sample.days():
        with rasterio.open(asset(f"sample/S2_{day}.tif")) as file:
            assert GeoBox(file.shape, file.transform, file.crs.to_wkt()) == SAMPLE_GRID
            assert file.dtypes == ("int16",) * 4
            assert file.descriptions == PRODUCTS["sample", "sentinel2"].bands


def test_sample_numbers_are_reflectance() -> None:
    """Digital number 10000 is reflectance 1, read here past our own reader."""
    row = PRODUCTS["sample", "sentinel2"]
    item = sample.search("sentinel2")[-2]
    with rasterio.open(asset(f"sample/S2_{item.id}.tif")) as file:
        number = file.read(4)[70, 20]
    assert sample.read(item, SAMPLE_GRID, row.bands).data[3, 70, 20] == pytest.approx(number / 10_000, abs=1e-7)


CLEAR_CUT = slice(60, 66), slice(7, 11)  # rows and columns of a triangle felled in May 2018
STANDING = slice(60, 66), slice(40, 60)


def sample_ndvi(product: str, day: date) -> np.ndarray:
    row = PRODUCTS["sample", product]
    return ndvi(sample.read(Item("sample", product, day.isoformat(), day), native(row), row.bands).data)


def test_clear_cut_appears_between_two_dates() -> None:
    before, after = (sample_ndvi("sentinel2", date(2018, 5, day)) for day in (2, 22))
    assert before[CLEAR_CUT].mean() - after[CLEAR_CUT].mean() > 0.3
    assert abs(before[STANDING].mean() - after[STANDING].mean()) < 0.03


def test_coarse_sample_sees_the_clear_cut_faintly() -> None:
    before, after = (sample_ndvi("sentinel2-100m", date(2018, 5, day)) for day in (2, 22))
    drop = before - after
    assert before.shape == (10, 10)
    assert 0.05 < drop[6, 0] < 0.3 and drop[6, 0] > 4 * abs(drop[6, 4:7]).max()


def test_coarse_sample_is_the_aggregated_fine_one_and_sees_beyond_a_window() -> None:
    day, bands = date(2018, 7, 1), ("red", "nir")
    fine = sample.read(Item("sample", "sentinel2", "2018-07-01", day), SAMPLE_GRID, bands)
    item = Item("sample", "sentinel2-100m", "2018-07-01", day)
    window = SAMPLE_GRID.zoom_out(10)[3:6, 2:7]
    seen = sample.read(item, window, bands).data
    np.testing.assert_allclose(seen, aggregate(fine, 10)[3:6, 2:7].data, atol=1e-7)
    assert np.abs(seen - aggregate(fine[30:60, 20:70], 10).data).max() > 1e-4
