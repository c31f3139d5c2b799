"""Scene: what it refuses, and that files and xarray give back what went in."""

from datetime import date
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from fusion import FusionError, Scene
from fusion.scene import identity_geobox
from landscapes import BANDS, DAY, grid, reflectance


def scene(height=37, width=53, bands=3, crs="EPSG:32633"):
    data = reflectance(0, bands, height, width)
    data[0, 4:9, 3:5] = np.nan
    return Scene(data, grid(height, width, crs=crs), BANDS[:bands], DAY)


def plain_tiff(path, numbers, *, crs="EPSG:32633", tags=None, **profile):
    """A file as others make them: no band names, no day."""
    bands, height, width = numbers.shape
    transform = profile.pop("transform", grid(height, width).affine)
    scales, offsets = profile.pop("scales", None), profile.pop("offsets", None)
    with rasterio.open(
        path, "w", driver="GTiff", count=bands, height=height, width=width, dtype=numbers.dtype, crs=crs,
        transform=transform, **profile,
    ) as file:  # fmt: skip
        file.write(numbers)
        file.update_tags(**(tags or {}))
        if scales:
            file.scales, file.offsets = scales, offsets
    return path


@pytest.mark.parametrize(
    ("data", "names", "wanted"),
    [
        (np.zeros((3, 4), np.float32), ("red",), "float32"),
        (np.zeros((1, 3, 4), np.float64), ("red",), "float64"),
        (np.zeros((1, 3, 4), np.uint16), ("red",), "uint16"),
        (np.zeros((1, 4, 3), np.float32), ("red",), r"\(4, 3\)"),
        (np.zeros((2, 3, 4), np.float32), ("red",), "2 bands"),
        (np.zeros((2, 3, 4), np.float32), ("red", "red"), "distinct"),
    ],
)
def test_arrays_that_are_no_image_are_refused(data, names, wanted):
    with pytest.raises(ValueError, match=wanted):
        Scene(data, grid(3, 4), names, DAY)


def test_a_cut_keeps_pixels_and_place():
    whole = scene()
    part = whole[5:30, 7:12]
    assert part.shape == (3, 25, 5) and np.shares_memory(part.data, whole.data)
    np.testing.assert_array_equal(part.data, whole.data[:, 5:30, 7:12])
    assert (part.geobox.affine.c, part.geobox.affine.f) == (500_000 + 7 * 30, 4_000_000 - 5 * 30)


def test_select_orders_bands_and_names_the_missing_one():
    whole = scene()
    picked = whole.select(["red", "blue"])
    assert picked.bands == ("red", "blue")
    np.testing.assert_array_equal(picked.data, whole.data[[2, 0]])
    with pytest.raises(FusionError, match="nir.*which has blue, green, red"):
        whole.select(["red", "nir"])


def test_valid_counts_pixels_that_all_bands_have():
    data = np.ones((2, 2, 5), np.float32)
    data[0, 0, 0] = data[1, 1, 1] = np.nan
    assert Scene(data, grid(2, 5), BANDS[:2], DAY).valid == pytest.approx(0.8)


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:4326", "+proj=laea +lat_0=52 +lon_0=11 +datum=WGS84", None])
def test_a_file_gives_back_the_scene(tmp_path, crs):
    before = scene(crs=crs)
    before.write(tmp_path / "a.tif", {"NOTE": "höhe = 3\nlines"})
    after = Scene.read(tmp_path / "a.tif")
    np.testing.assert_array_equal(after.data, before.data)  # bit for bit, NaN included
    assert after.data.dtype == np.float32
    assert (after.bands, after.day, after.geobox) == (before.bands, before.day, before.geobox)
    with rasterio.open(tmp_path / "a.tif") as file:
        assert file.tags()["NOTE"] == "höhe = 3\nlines" and file.tags()["DATE"] == "2020-07-01"
        assert np.isnan(file.nodata) and file.descriptions == before.bands
        np.testing.assert_array_equal(file.dataset_mask() == 0, np.isnan(before.data).all(axis=0))


def test_pixels_without_georeference_survive_a_file(tmp_path):
    before = Scene(reflectance(0, 1, 20, 30), identity_geobox(20, 30), ("red",), DAY)
    before.write(tmp_path / "a.tif")
    after = Scene.read(tmp_path / "a.tif")
    assert after.geobox == before.geobox and after.geobox.crs is None
    np.testing.assert_array_equal(after.data, before.data)


def test_the_file_is_a_cloud_optimized_geotiff_with_overviews(tmp_path):
    scene(640, 640, 2).write(tmp_path / "a.tif")
    with rasterio.open(tmp_path / "a.tif") as file:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert file.block_shapes == [(256, 256)] * 2
        assert file.overviews(1)[0] == 2 and 640 // file.overviews(1)[-1] <= 256
        assert file.compression.name == "deflate"
    assert [p.name for p in tmp_path.iterdir()] == ["a.tif"]  # no side-car file


def test_a_write_that_breaks_leaves_what_was_there(tmp_path, monkeypatch):
    scene().write(tmp_path / "a.tif")
    before = (tmp_path / "a.tif").read_bytes()

    def full_disk(self, name, tags):
        Path(name).write_bytes(b"half a file")
        raise OSError("no space left on device")

    monkeypatch.setattr(Scene, "_write_cog", full_disk)
    with pytest.raises(OSError, match="no space"):
        scene().write(tmp_path / "a.tif")
    with pytest.raises(OSError, match="no space"):
        scene().write(tmp_path / "b.tif")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"a.tif": before}


def test_integers_become_reflectance_by_the_scale_given(tmp_path):
    numbers = np.array([[[0, 1000], [2500, -9999], [65, 10000]]], np.int16)
    path = plain_tiff(tmp_path / "a.tif", numbers, nodata=-9999)
    got = Scene.read(path, bands=["red"], day=DAY, scale=2e-4, offset=-0.1, nodata=65)
    np.testing.assert_allclose(got.data[0], [[-0.1, 0.1], [0.4, np.nan], [np.nan, 1.9]], atol=1e-7)
    assert got.data.dtype == np.float32


def test_the_scale_in_the_file_is_the_default_for_each_band(tmp_path):
    numbers = np.full((2, 2, 3), 100, np.uint16)
    path = plain_tiff(
        tmp_path / "a.tif", numbers, scales=(0.001, 0.002), offsets=(0.0, 0.5), tags={"DATE": "2021-02-03"}
    )
    got = Scene.read(path, bands=["red", "nir"])
    np.testing.assert_allclose(got.data[:, 0, 0], [0.1, 0.7], rtol=1e-6)
    assert got.day == date(2021, 2, 3)


@pytest.mark.parametrize("kind", ["uint8", "int16", "uint16", "int32"])
def test_whole_numbers_without_a_scale_are_refused_and_never_guessed(tmp_path, kind):
    path = plain_tiff(tmp_path / "a.tif", np.full((2, 2, 3), 100, kind))
    names = ["red", "nir"]
    for more in ({}, {"offset": 0.1}):
        with pytest.raises(FusionError, match=rf"a\.tif holds whole numbers \({kind}\).*scale=1e-4.*or scale=1"):
            Scene.read(path, bands=names, day=DAY, **more)
    assert Scene.read(path, bands=names, day=DAY, scale=1).data.max() == 100
    half = plain_tiff(tmp_path / "b.tif", np.full((2, 2, 3), 100, kind), scales=(1e-3, 1.0), offsets=(0.0, 0.0))
    with pytest.raises(FusionError, match="whole numbers"):
        Scene.read(half, bands=names, day=DAY)
    real = plain_tiff(tmp_path / "c.tif", np.full((2, 2, 3), 0.25, np.float64))
    assert Scene.read(real, bands=names, day=DAY).data.max() == 0.25


def test_an_offset_alone_is_not_forgotten(tmp_path):
    path = plain_tiff(tmp_path / "a.tif", np.full((1, 2, 3), 0.25, np.float32))
    got = Scene.read(path, bands=["red"], day=DAY, offset=0.5)
    np.testing.assert_allclose(got.data, 0.75)


def test_infinite_numbers_are_missing(tmp_path):
    path = plain_tiff(tmp_path / "a.tif", np.array([[[0.5, np.inf, -np.inf, np.nan]]], np.float32))
    np.testing.assert_array_equal(
        Scene.read(path, bands=["red"], day=DAY).data, np.array([[[0.5, np.nan, np.nan, np.nan]]], np.float32)
    )


def test_a_file_must_say_bands_and_day_or_be_told(tmp_path):
    path = plain_tiff(tmp_path / "a.tif", np.zeros((2, 3, 4), np.uint8))
    with pytest.raises(FusionError, match="bands="):
        Scene.read(path, day=DAY)
    with pytest.raises(FusionError, match="2 bands"):
        Scene.read(path, bands=["red"], day=DAY)
    with pytest.raises(FusionError, match="day="):
        Scene.read(path, bands=["red", "nir"])
    dated = plain_tiff(tmp_path / "b.tif", np.zeros((1, 3, 4), np.uint8), tags={"DATE": "last spring"})
    with pytest.raises(FusionError, match="last spring.*YYYY-MM-DD"):
        Scene.read(dated, bands=["red"])


@pytest.mark.parametrize("content", [b"", b"not an image at all", b"II*\x00\x08\x00\x00\x00"])
def test_what_is_no_image_is_refused(tmp_path, content):
    (tmp_path / "bad.tif").write_bytes(content)
    with pytest.raises(FusionError, match=r"Cannot read bad\.tif"):
        Scene.read(tmp_path / "bad.tif", bands=["red"], day=DAY)


def test_a_broken_off_image_is_refused(tmp_path):
    scene(200, 200).write(tmp_path / "a.tif")
    whole = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "half.tif").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FusionError, match=r"Cannot read half\.tif"):
        Scene.read(tmp_path / "half.tif")


def test_no_file_is_refused(tmp_path):
    with pytest.raises(FusionError, match=r"Cannot read none\.tif"):
        Scene.read(tmp_path / "none.tif", bands=["red"], day=DAY)


@pytest.mark.parametrize(("size", "count"), [((30_000, 30_000), 1), ((5_000, 5_000), 100)])
def test_a_small_file_that_claims_a_huge_image_is_refused_before_it_is_read(tmp_path, size, count):
    with rasterio.open(
        tmp_path / "bomb.tif", "w", driver="GTiff", height=size[0], width=size[1], count=count, dtype="uint8",
        crs="EPSG:32633", transform=Affine(2, 0, 0, 0, -2, 0), sparse_ok=True, tiled=True, compress="DEFLATE",
    ):  # fmt: skip
        pass
    assert (tmp_path / "bomb.tif").stat().st_size < 5_000_000
    with pytest.raises(FusionError, match=r"bomb\.tif has .* at most 200,000,000"):
        Scene.read(tmp_path / "bomb.tif", bands=[f"b{i}" for i in range(count)], day=DAY)


def test_moving_by_whole_pixels_moves_the_pixels():
    before = scene()
    wanted = before.geobox.translate_pix(2, -3)  # two columns to the east, three rows to the north
    after = before.to(wanted, "nearest")
    np.testing.assert_array_equal(after.data[:, 3:, :-2], before.data[:, :-3, 2:])
    assert np.isnan(after.data[:, :3]).all() and np.isnan(after.data[:, :, -2:]).all()
    assert after.geobox == wanted and after.bands == before.bands


def test_resampling_onto_its_own_grid_is_the_scene_itself():
    before = scene()
    assert before.to(before.geobox) is before


@pytest.mark.parametrize("crs", ["EPSG:32633", None])
def test_average_onto_coarse_pixels_is_the_block_mean(crs):
    data = reflectance(0, 2, 24, 36)
    after = Scene(data, grid(24, 36, crs=crs), BANDS[:2], DAY).to(grid(24, 36, crs=crs).zoom_out(4), "average")
    np.testing.assert_allclose(after.data, data.reshape(2, 6, 4, 9, 4).mean(axis=(2, 4)), atol=1e-6)


def test_a_grid_with_and_one_without_crs_do_not_mix():
    with pytest.raises(FusionError, match="coordinate reference system"):
        scene().to(grid(5, 5, crs=None))
    with pytest.raises(FusionError, match="coordinate reference system"):
        scene(crs=None).to(grid(5, 5))


def test_an_unknown_resampling_is_named():
    with pytest.raises(ValueError, match="'magic'.*cubic"):
        scene().to(grid(5, 5), "magic")


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:4326", None])
def test_xarray_gives_back_the_scene(crs):
    before = scene(crs=crs)
    array = before.to_xarray()
    assert array.dims[0] == "band" and array.shape == before.shape
    after = Scene.from_xarray(array)
    np.testing.assert_array_equal(after.data, before.data)
    assert (after.bands, after.day) == (before.bands, before.day)
    assert after.geobox.crs == before.geobox.crs and after.geobox.shape == before.geobox.shape
    np.testing.assert_allclose(tuple(after.geobox.affine), tuple(before.geobox.affine), rtol=1e-9, atol=1e-9)


def test_xarray_in_another_order_of_dimensions_is_turned():
    before = scene()
    after = Scene.from_xarray(before.to_xarray().transpose(..., "band"))
    np.testing.assert_array_equal(after.data, before.data)


def test_xarray_without_a_band_a_name_or_a_day_is_refused():
    array = scene().to_xarray()
    with pytest.raises(FusionError, match="band"):
        Scene.from_xarray(array.isel(band=0, drop=True))
    with pytest.raises(FusionError, match="day="):
        Scene.from_xarray(array.drop_vars("time"))
    with pytest.raises(FusionError, match="name"):
        Scene.from_xarray(array.drop_vars("band"))
    with pytest.raises(FusionError, match="dimensions"):
        Scene.from_xarray(array.expand_dims(time=[np.datetime64("2020-07-01", "ns")]))
    assert Scene.from_xarray(array.drop_vars("time"), day=DAY).day == DAY
