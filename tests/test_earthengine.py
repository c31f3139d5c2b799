"""Earth Engine, spoken to by its own client: a server on loopback evaluates what the client sends over GeoTIFFs."""

import json
import logging
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime

import ee
import numpy as np
import pytest
import rasterio
from affine import Affine
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from odc.geo.geobox import GeoBox
from pyproj import Transformer

import earthengine_server
from earthengine_server import SINUSOIDAL, Asset, Server
from fusion import Cancelled, FusionError, sources
from fusion._pulse import PULSE, Pulse
from fusion.sources import Item, _ee_calls, _ee_images, _granules, earthengine

LANDSAT = "LANDSAT/LC08/C02/T1_L2"
LANDSAT9 = "LANDSAT/LC09/C02/T1_L2"
UTM = "EPSG:32633"
NATIVE = GeoBox((96, 64), Affine(30, 0, 500_985, 0, -30, 5_100_015), UTM)
SOUTH = GeoBox((96, 64), Affine(30, 0, 500_985, 0, -30, 5_100_015 - 80 * 30), UTM)  # overlaps by 16 rows
INSIDE = NATIVE[16:80, 8:56]
ALL = ("blue", "green", "red", "nir", "swir1", "swir2")
CLEAR, CLOUD, SNOW = 1 << 6, 1 << 3, 1 << 5
MODIS = Affine(463.3127165279165, 0, -20015109.354, 0, -463.3127165279167, 10007554.677003)


def tif(path, data, affine, crs, nodata=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = data.shape
    profile = {"driver": "GTiff", "height": height, "width": width, "count": 1, "dtype": data.dtype, "crs": crs}
    with rasterio.open(path, "w", transform=affine, nodata=nodata, **profile) as file:
        file.write(data, 1)
    return path


def numbers(seed, box=NATIVE):
    """Digital numbers without symmetry."""
    return np.random.default_rng(seed).integers(8000, 20000, box.shape, dtype=np.uint16)


def landsat(folder, index, day, box=NATIVE, quality=None, **changed):
    """One Landsat image as (asset, its numbers by band); masked where the numbers are 0."""
    bands = {f"SR_B{i}": numbers(i + 100 * day, box) for i in range(2, 8)} | changed
    quality = np.full(box.shape, CLEAR, np.uint16) if quality is None else quality
    files = {**bands, "QA_PIXEL": quality, "QA_RADSAT": np.zeros(box.shape, np.uint16)}
    paths = {
        name: tif(folder / index / f"{name}.tif", data, box.affine, UTM, None if name == "QA_RADSAT" else 0)
        for name, data in files.items()
    }
    collection = LANDSAT if index.startswith("LC08") else LANDSAT9
    return Asset(f"{collection}/{index}", datetime(2020, 7, day, 9, 55), paths), bands


def reflectance(bands, name="SR_B4"):
    return (bands[name].astype(np.float64) * 2.75e-5 - 0.2).astype(np.float32)


def degrees(box):
    corners = box.geographic_extent.boundingbox
    return corners.left, corners.bottom, corners.right, corners.top


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """Nobody is signed in, nothing is cached, no waiting between tries."""
    for name in ("FUSION_EE_KEY", "FUSION_EE_PROJECT", "FUSION_EE_URL", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FUSION_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setattr(_ee_calls, "FIRST_WAIT", 0.001)
    earthengine.sign_out()
    yield
    earthengine.sign_out()


@pytest.fixture
def serve(monkeypatch):
    """Start a server over some assets; ``serve(assets...)``."""
    running = []

    def start(*assets):
        collections = {}
        for asset in assets:
            collections.setdefault(asset.id.rpartition("/")[0], []).append(asset)
        for empty in (LANDSAT, LANDSAT9):
            collections.setdefault(empty, [])
        server = Server(collections).__enter__()
        running.append(server)
        monkeypatch.setenv("FUSION_EE_URL", server.url)
        return server

    yield start
    for server in running:
        server.__exit__()


@pytest.fixture
def one(serve, tmp_path):
    """A server with one Landsat image, its numbers and its item."""
    asset, bands = landsat(tmp_path, "LC08_190028_20200701", 1)
    return serve(asset), bands, Item("earthengine", "landsat", "LC08_190028_20200701", date(2020, 7, 1))


def pixel_requests(server):
    return server.count("computePixels")


def test_the_source_is_registered_as_remote():
    assert sources.get("earthengine") is earthengine and sources.is_remote("earthengine")
    assert {row.name for role in ("fine", "coarse") for row in sources.offered("earthengine", role)} == {
        "landsat", "sentinel2", "hls-l30", "hls-s30", "mcd43a4", "mod09ga", "myd09ga", "olci",
    }  # fmt: skip


# Right pixels


def test_pixels_are_exactly_those_of_the_files(one):
    server, bands, item = one
    scene = earthengine.read(item, INSIDE, ("nir", "red"))
    np.testing.assert_array_equal(scene.data[0], reflectance(bands, "SR_B5")[16:80, 8:56])
    np.testing.assert_array_equal(scene.data[1], reflectance(bands)[16:80, 8:56])
    assert scene.geobox == INSIDE and scene.bands == ("nir", "red") and scene.day == item.day
    assert (server.count("value:compute"), pixel_requests(server)) == (1, 1)


def test_masked_pixels_and_clouds_are_missing_and_never_zero(serve, tmp_path):
    quality = np.full(NATIVE.shape, CLEAR, np.uint16)
    quality[20, 30], quality[21, 31], quality[25, 12] = CLOUD, SNOW, 0  # 0 is masked in the server
    red = numbers(7)
    red[40, 41] = 0  # masked
    asset, bands = landsat(tmp_path, "LC08_190028_20200701", 1, quality=quality, SR_B4=red)
    serve(asset)
    scene = earthengine.read(Item("earthengine", "landsat", asset.id[-20:], date(2020, 7, 1)), NATIVE, ("red", "nir"))
    expected = np.stack([reflectance(bands), reflectance(bands, "SR_B5")])
    expected[:, [20, 21, 25], [30, 31, 12]] = np.nan
    expected[0, 40, 41] = np.nan
    np.testing.assert_array_equal(scene.data, expected)
    kept = Item("earthengine", "landsat", asset.id[-20:] + "/snow=keep", date(2020, 7, 1))
    assert earthengine.read(kept, NATIVE, ("red",)).data[0, 21, 31] == reflectance(bands)[21, 31]


def test_a_day_all_in_clouds_is_all_missing_and_no_error(serve, tmp_path):
    cloudy = np.full(NATIVE.shape, CLOUD, np.uint16)
    asset, _ = landsat(tmp_path, "LC08_190028_20200701", 1, quality=cloudy)
    serve(asset)
    (item,) = earthengine.search("landsat", degrees(INSIDE), (date.min, date.max))
    assert item.cloud == 1 and np.isnan(earthengine.read(item, INSIDE, ("red",)).data).all()


def test_a_grid_beyond_the_image_is_missing_there(one):
    _, bands, item = one
    wide = NATIVE.pad(5)
    data = earthengine.read(item, wide, ("red",)).data[0]
    np.testing.assert_array_equal(data[5:-5, 5:-5], reflectance(bands))
    data[5:-5, 5:-5] = np.nan
    assert np.isnan(data).all()


def test_two_rows_of_one_day_are_one_item_and_one_image(serve, tmp_path):
    north, above = landsat(tmp_path, "LC08_190028_20200701", 1)
    south, below = landsat(tmp_path, "LC08_190029_20200701", 1, SOUTH)
    later, _ = landsat(tmp_path, "LC09_190028_20200709", 9)
    serve(later, south, north)
    items = earthengine.search("landsat", degrees(NATIVE | SOUTH))
    assert [item.id for item in items] == ["LC08_190028_20200701,LC08_190029_20200701", "LC09_190028_20200709"]
    assert [item.day for item in items] == [date(2020, 7, 1), date(2020, 7, 9)]
    whole = GeoBox((176, 64), NATIVE.affine, UTM)
    scene = earthengine.read(items[0], whole, ("red",))
    np.testing.assert_array_equal(scene.data[0, :96], reflectance(above))
    np.testing.assert_array_equal(scene.data[0, 96:], reflectance(below)[16:])


def test_modis_lies_where_it_belongs(serve, tmp_path):
    column, row = 44_480, 10_560  # a corner of the world's grid near 15 degrees east, 46 north
    box = GeoBox((24, 40), MODIS * Affine.translation(column, row), SINUSOIDAL.to_wkt())
    red = np.full(box.shape, 500, np.int16)
    red[11, 22] = 8000
    state = np.zeros((12, 20), np.uint16)
    state[2, 3] = 1  # cloud in 1 km
    lost = np.full(box.shape, -28672, np.int16)
    files = {f"sur_refl_b0{i}": red if i == 1 else np.full(box.shape, 100 * i, np.int16) for i in (1, 2, 3, 4, 6)}
    paths = {
        name: tif(tmp_path / f"{name}.tif", data, box.affine, SINUSOIDAL, -28672)
        for name, data in {**files, "sur_refl_b07": lost}.items()
    }
    paths["state_1km"] = tif(tmp_path / "state.tif", state, box.affine * Affine.scale(2), SINUSOIDAL)
    server = serve(Asset("MODIS/061/MOD09GA/2020_07_01", datetime(2020, 7, 1), paths, "SR-ORG:6974"))
    item = Item("earthengine", "mod09ga", "2020_07_01", date(2020, 7, 1))
    native = GeoBox(box.shape, box.affine, _ee_images.SINUSOIDAL)
    data = earthengine.read(item, native, ("red", "nir", "swir2")).data
    assert np.isnan(data[2]).all()  # fill
    expected = np.where(np.repeat(np.repeat(state, 2, 0), 2, 1), np.nan, red * 1e-4).astype(np.float32)
    np.testing.assert_array_equal(data[0], expected)
    asked = [body["grid"] for path, body in server.asked if "computePixels" in path]
    assert asked[0]["crsCode"] == "SR-ORG:6974" and asked[0]["affineTransform"]["scaleX"] == MODIS.a

    x, y = box.affine * (22.5, 11.5)
    x, y = Transformer.from_crs(SINUSOIDAL, UTM, always_xy=True).transform(x, y)
    grid = GeoBox((20, 20), Affine(480, 0, x - 4900, 0, -480, y + 4700), UTM)
    bright = earthengine.read(item, grid, ("red",)).data[0]
    weight = np.nan_to_num(bright - 0.05, nan=0)
    rows, columns = np.indices(weight.shape) + 0.5
    east = grid.affine.c + 480 * (weight * columns).sum() / weight.sum()
    north = grid.affine.f - 480 * (weight * rows).sum() / weight.sum()
    assert abs(east - x) < 240 and abs(north - y) < 240


def test_sentinel_2_has_its_classes_at_20_m(serve, tmp_path):
    box = GeoBox((60, 40), Affine(10, 0, 500_000, 0, -10, 5_100_000), UTM)
    half = box.affine * Affine.scale(2)
    files = {name: tif(tmp_path / f"{name}.tif", numbers(i, box), box.affine, UTM, 0) for i, name in enumerate(("B2", "B3", "B4", "B8"))}  # fmt: skip  # noqa: E501
    swir = np.random.default_rng(9).integers(1, 9000, (30, 20), dtype=np.uint16)
    scl = np.full((30, 20), 4, np.uint8)
    scl[3, 5] = 9
    files |= {name: tif(tmp_path / f"{name}.tif", swir, half, UTM, 0) for name in ("B11", "B12")}
    files["SCL"] = tif(tmp_path / "SCL.tif", scl, half, UTM, 0)
    index = "20200701T100031_20200701T100025_T33TVM"
    serve(Asset(f"COPERNICUS/S2_SR_HARMONIZED/{index}", datetime(2020, 7, 1, 10), files))
    scene = earthengine.read(Item("earthengine", "sentinel2", index, date(2020, 7, 1)), box, ("red", "swir1"))
    expected = np.stack([numbers(2, box), np.repeat(np.repeat(swir, 2, 0), 2, 1)]).astype(np.float32)
    expected = (expected.astype(np.float64) * 1e-4).astype(np.float32)
    expected[:, 6:8, 10:12] = np.nan
    np.testing.assert_array_equal(scene.data, expected)


def test_mcd43_judges_each_band_apart(serve, tmp_path):
    box = GeoBox((8, 9), MODIS * Affine.translation(44_480, 10_560), SINUSOIDAL.to_wkt())
    paths = {}
    for i in (1, 2, 3, 4, 6, 7):
        quality = np.zeros(box.shape, np.uint8)
        quality[i, 2] = 1
        name = f"Band{i}"
        values = np.full(box.shape, 1000 + i, np.int16)
        paths[f"Nadir_Reflectance_{name}"] = tif(tmp_path / f"{name}.tif", values, box.affine, SINUSOIDAL, 32767)
        where = tmp_path / f"Q{name}.tif"
        paths[f"BRDF_Albedo_Band_Mandatory_Quality_{name}"] = tif(where, quality, box.affine, SINUSOIDAL, 255)
    serve(Asset("MODIS/061/MCD43A4/2020_07_01", datetime(2020, 7, 1), paths, "SR-ORG:6974"))
    native = GeoBox(box.shape, box.affine, _ee_images.SINUSOIDAL)
    plain, lower = (
        earthengine.read(Item("earthengine", "mcd43a4", f"2020_07_01{more}", date(2020, 7, 1)), native, ("red", "nir"))
        for more in ("", "/quality=keep")
    )
    assert np.argwhere(np.isnan(plain.data)).tolist() == [[0, 1, 2], [1, 2, 2]]
    assert np.isfinite(lower.data).all() and lower.data[1, 0, 0] == np.float32(0.1002)


@pytest.mark.parametrize("whole", [False, True])
def test_hls_may_be_decimal_or_whole_numbers(serve, tmp_path, whole):
    truth = (numbers(5) - 7900).astype(np.float64) * 1e-4 / 2
    paths = {}
    for name in ("B2", "B3", "B4", "B5", "B6", "B7"):
        data = np.round(truth * 1e4).astype(np.int16) if whole else truth.astype(np.float32)
        data[3, 4] = -9999
        paths[name] = tif(tmp_path / f"{name}.tif", data, NATIVE.affine, UTM, -9999)
    mask = np.zeros(NATIVE.shape, np.uint8)
    mask[7, 8] = 2
    paths["Fmask"] = tif(tmp_path / "Fmask.tif", mask, NATIVE.affine, UTM, 255)
    serve(Asset("NASA/HLS/HLSL30/v002/T33TVM_20200701T095500", datetime(2020, 7, 1, 9), paths))
    item = Item("earthengine", "hls-l30", "T33TVM_20200701T095500", date(2020, 7, 1))
    data = earthengine.read(item, NATIVE, ("red",)).data[0]
    assert np.argwhere(np.isnan(data)).tolist() == [[3, 4], [7, 8]]
    np.testing.assert_allclose(data[np.isfinite(data)], truth[np.isfinite(data)], atol=5.1e-5 if whole else 1e-7)


def test_the_sun_stands_where_the_almanac_says():
    # Reda & Andreas 2004, doi:10.1016/j.solener.2003.12.003, table A5.1: zenith angle 50.1116 degrees (of which
    # refraction and parallax are 0.02) and distance 0.9965423 on 17 October 2003, 19:30:30 UTC.
    time = datetime(2003, 10, 17, 19, 30, 30, tzinfo=UTC).timestamp() * 1000
    spot = GeoBox((1, 1), Affine(1e-6, 0, -105.1786, 0, -1e-6, 39.742476), "EPSG:4326")
    cosine, distance = _ee_images.sun(spot, time)
    assert math.degrees(math.acos(cosine.item())) == pytest.approx(50.1116, abs=0.03)
    assert distance == pytest.approx(0.9965423, abs=1e-4)


def test_olci_radiance_becomes_reflectance_at_the_top_of_the_atmosphere(serve, tmp_path):
    box = GeoBox((30, 20), Affine(0.003, 0, 15, 0, -0.003, 46.2), "EPSG:4326")
    light = np.random.default_rng(3).integers(20, 120, box.shape, dtype=np.uint16)
    light[4, 5] = 0
    paths = {name: tif(tmp_path / f"{name}.tif", light, box.affine, "EPSG:4326", 0) for name in _ee_images.SUN}
    flags = np.zeros(box.shape, np.uint32)
    flags[6, 7], flags[8, 9] = 1 << 27, 1 << 31  # bright; land
    paths["quality_flags"] = tif(tmp_path / "flags.tif", flags, box.affine, "EPSG:4326")
    serve(Asset("COPERNICUS/S3/OLCI/S3A_20200701T092000", datetime(2020, 7, 1, 9, 20), paths))
    item = Item("earthengine", "olci", "S3A_20200701T092000", date(2020, 7, 1))
    data = earthengine.read(item, box, ("red",)).data[0]
    assert np.argwhere(np.isnan(data)).tolist() == [[4, 5], [6, 7]]
    # On 1 July the sun is 1.0167 units away, its declination 23.1 degrees and solar time 4 minutes behind: at 15 E the
    # hour angle is -26.0 degrees, so the sine of its height is sin 46.2 sin 23.1 + cos 46.2 cos 23.1 cos 26 = 0.8554.
    expected = math.pi * light / (1531.4067 / 1.0167**2 * 0.8554)
    np.testing.assert_allclose(data[10:], expected[10:], rtol=0.005)


# Search


def test_cloud_is_counted_over_the_area_not_the_image(serve, tmp_path):
    quality = np.full(NATIVE.shape, CLEAR, np.uint16)
    quality[16:48, 8:56] = CLOUD  # the northern half of the area, a sixth of the image
    asset, _ = landsat(tmp_path, "LC08_190028_20200701", 1, quality=quality)
    snowy, _ = landsat(tmp_path, "LC08_190028_20200717", 17, quality=np.full(NATIVE.shape, SNOW, np.uint16))
    server = serve(asset, snowy)
    items = earthengine.search("landsat", degrees(INSIDE), (date(2020, 7, 1), date(2020, 7, 17)))
    assert [item.cloud for item in items] == [pytest.approx(0.5, abs=0.03), 1]
    assert server.count("value:compute") == 2 and pixel_requests(server) == 0
    kept = earthengine.search("landsat", degrees(INSIDE), None, earthengine.Options(snow=True))
    assert [item.cloud for item in kept] == [pytest.approx(0.5, abs=0.03), 0]
    assert kept[1].id.endswith("/snow=keep") and sources.options_in(kept[1]) == earthengine.Options(snow=True)
    assert sources.options_in(items[1]) == earthengine.Options()
    west, south, east, north = items[0].bounds
    assert (west, north) == pytest.approx(degrees(NATIVE)[::3]) and south < north and west < east


def test_what_the_image_does_not_reach_is_missing_too(one):
    west, south, east, north = degrees(NATIVE)
    (item,) = earthengine.search("landsat", (west - (east - west), south, east, north))
    assert item.cloud == pytest.approx(0.5, abs=0.03)


def test_days_are_those_of_the_dates_and_come_in_few_requests(serve, tmp_path, monkeypatch):
    assets = [landsat(tmp_path, f"LC08_190028_202007{day:02}", day)[0] for day in (1, 5, 9, 13, 17)]
    server = serve(*reversed(assets))
    monkeypatch.setattr(earthengine, "DAYS", 2)
    items = earthengine.search("landsat", degrees(INSIDE), (date(2020, 7, 5), date(2020, 7, 13)))
    assert [item.day.day for item in items] == [5, 9, 13] and {item.cloud for item in items} == {0}
    assert server.count("value:compute") == 1 + 2
    assert earthengine.search("landsat", degrees(INSIDE), (date(2021, 1, 1), date(2021, 2, 1))) == []
    assert earthengine.search("landsat", (100, 10, 101, 11)) == []
    monkeypatch.setattr(earthengine, "MOST", 3)
    with pytest.raises(FusionError, match="at most 3 images of Landsat 8 and 9.*shorten the time"):
        earthengine.search("landsat", degrees(INSIDE))


def test_a_count_that_takes_too_long_is_halved(serve, tmp_path):
    server = serve(*(landsat(tmp_path, f"LC08_190028_202007{day:02}", day)[0] for day in (1, 5, 9)))
    server.fail("value:compute", status=400, message="Computation timed out.", after=1)
    assert len(earthengine.search("landsat", degrees(INSIDE))) == 3
    assert server.count("value:compute") == 4


def test_a_search_wants_an_area_on_the_globe(one):
    for bounds in (None, (15, 46, 14, 47), (170, -10, 190, 10), (0, math.nan, 1, 1)):
        with pytest.raises(FusionError, match="wants"):
            earthengine.search("landsat", bounds)
    with pytest.raises(FusionError, match="no product 'lansat'"):
        earthengine.search("lansat", (0, 0, 1, 1))
    assert not one[0].asked


@pytest.mark.parametrize(
    "id",
    ["LC07_1_1", "LC08_1/cloud=keep", "LC08_1/snow=keep,snow=keep", "LC08_1/quality=keep", "a/b/c", "LC08_1/snow=drop"],
)
def test_ids_that_no_search_writes_are_refused(one, id):
    with pytest.raises(FusionError, match="take the item from a search"):
        earthengine.read(Item("earthengine", "landsat", id, date(2020, 7, 1)), INSIDE, ("red",))
    assert not one[0].asked


def test_an_unknown_band_is_named(one):
    with pytest.raises(FusionError, match="has no band thermal; it has blue"):
        earthengine.read(one[2], INSIDE, ("red", "thermal"))


# Cache


def test_a_second_read_asks_nothing_even_of_the_sign_in(one):
    server, _, item = one
    first = earthengine.read(item, INSIDE, ALL)
    asked = len(server.asked)
    earthengine.sign_out()
    second = earthengine.read(item, INSIDE, ALL)
    np.testing.assert_array_equal(first.data, second.data)
    assert len(server.asked) == asked and earthengine.identity() is None


def test_what_a_search_learnt_is_not_asked_again(one):
    server, _, _ = one
    (item,) = earthengine.search("landsat", degrees(INSIDE))
    earthengine.read(item, INSIDE, ("red",))
    assert (server.count("value:compute"), pixel_requests(server)) == (2, 1)


def test_a_reading_goes_on_where_it_broke_off(one, monkeypatch):
    server, bands, item = one
    monkeypatch.setattr(_granules, "TILE", 32)  # 3 x 2 tiles
    monkeypatch.setattr(_granules, "AT_ONCE", 1)
    server.fail("computePixels", status=403, message="Quota gone.", after=3)
    with pytest.raises(FusionError, match="Quota gone"):
        earthengine.read(item, NATIVE, ("red",))
    before = [json.dumps(body["grid"]) for path, body in server.asked if "computePixels" in path]
    scene = earthengine.read(item, NATIVE, ("red",))
    np.testing.assert_array_equal(scene.data[0], reflectance(bands))
    every = [json.dumps(body["grid"]) for path, body in server.asked if "computePixels" in path]
    done, again = {*before[:3], *before[4:]}, every[len(before) :]  # one more may have been under way
    assert not done & set(again) and len(done | set(again)) == 6 and len(done) + len(again) == 6


def test_two_threads_that_want_one_item_ask_once(one):
    server, _, item = one
    server.delay = 0.05
    with ThreadPoolExecutor(4) as pool:
        scenes = list(pool.map(lambda _: earthengine.read(item, INSIDE, ("red",)), range(4)))
    assert (server.count("value:compute"), pixel_requests(server), server.count("algorithms")) == (1, 1, 1)
    assert all(np.array_equal(scene.data, scenes[0].data) for scene in scenes)


# Limits and faults


def test_never_more_than_40_requests_at_once(serve, tmp_path, monkeypatch):
    made = [landsat(tmp_path, f"LC08_190028_202007{day:02}", day) for day in range(1, 9)]
    server = serve(*(asset for asset, _ in made))
    server.hold = True  # answers wait until no more requests come
    monkeypatch.setattr(_granules, "TILE", 32)
    items = [Item("earthengine", "landsat", asset.id[-20:], asset.time.date()) for asset, _ in made]
    with ThreadPoolExecutor(8) as pool:
        scenes = list(pool.map(lambda item: earthengine.read(item, NATIVE, ("red",)), items))
    for scene, (_, bands) in zip(scenes, made, strict=True):
        np.testing.assert_array_equal(scene.data[0], reflectance(bands))
    assert 8 < server.peak <= 40 and pixel_requests(server) == 8 * 6


def test_a_tile_larger_than_48_mb_is_asked_in_strips(one, monkeypatch):
    server, bands, item = one
    whole = 64 * 96 * (6 + 2) * 2
    monkeypatch.setattr(_ee_images, "LARGEST", whole // 4)
    monkeypatch.setattr(earthengine_server, "LARGEST", whole // 4)
    scene = earthengine.read(item, NATIVE, ALL)
    np.testing.assert_array_equal(scene.data[2], reflectance(bands))
    assert pixel_requests(server) == 4


def test_what_earth_engine_finds_too_large_is_halved(one, monkeypatch):
    server, bands, item = one
    monkeypatch.setattr(earthengine_server, "LARGEST", 64 * 96 * (6 + 2) * 2 // 3)
    np.testing.assert_array_equal(earthengine.read(item, NATIVE, ALL).data[2], reflectance(bands))
    assert pixel_requests(server) == 1 + 2 + 4


@pytest.mark.parametrize("how", ["cut", "half", "words", "429", "503"])
@pytest.mark.parametrize("where", ["value:compute", "computePixels", "algorithms", "discovery"])
def test_passing_faults_end_in_the_right_pixels(one, where, how):
    server, bands, item = one
    server.fail(where, times=3, **({"status": int(how)} if how.isdigit() else {"how": how}))
    scene = earthengine.read(item, INSIDE, ("red",))
    np.testing.assert_array_equal(scene.data[0], reflectance(bands)[16:80, 8:56])


@pytest.mark.parametrize(
    "status, message, words",
    [
        (429, "Quota exceeded.", "failed 6 times, last with: too many requests: Quota exceeded.*Try again"),
        (500, "Internal error.", "failed 6 times, last with: internal error"),
        (401, "Invalid authentication credentials.", "did not accept the sign-in"),
        (403, "Earth Engine API has not been used in project 7 before or it is disabled", "Enable the Earth Engine"),
        (403, "Project is not registered to use Earth Engine.", "Register the project 'test'"),
        (403, "Caller does not have permission.", "roles Earth Engine Resource Viewer"),
        (400, "User memory limit exceeded.", "User memory limit exceeded.*smaller area"),
    ],
)
def test_lasting_faults_are_said_in_words(one, status, message, words):
    server, _, item = one
    server.fail("computePixels", times=99, status=status, message=message)
    with pytest.raises(FusionError, match=words):
        earthengine.read(item, INSIDE, ("red",))
    assert pixel_requests(server) == (6 if status in (429, 500) else 1)


@pytest.mark.parametrize("how", ["cut", "half", "words"])
def test_an_answer_that_is_always_broken_is_an_error_not_zeros(one, how):
    server, _, item = one
    server.fail("computePixels", how, times=99, message="{")
    with pytest.raises(FusionError, match="failed 6 times, last with: (the connection broke|an answer that is cut)"):
        earthengine.read(item, INSIDE, ("red",))


def test_a_slow_server_is_left_after_a_while_and_at_once_when_asked(one, monkeypatch):
    server, _, item = one
    monkeypatch.setattr(earthengine, "DEADLINE", 400)
    monkeypatch.setattr(_ee_calls, "TRIES", 2)
    server.fail("computePixels", "slow", times=99)
    with pytest.raises(FusionError, match="no answer in time"):
        earthengine.read(item, INSIDE, ("red",))
    earthengine.sign_out()
    monkeypatch.setattr(earthengine, "DEADLINE", 60_000)
    assert stopped_while(lambda: pixel_requests(server) > 2, item)


def test_waiting_for_the_next_try_can_be_stopped(one, monkeypatch):
    server, _, item = one
    monkeypatch.setattr(_ee_calls, "FIRST_WAIT", 30)
    server.fail("computePixels", times=99)
    assert stopped_while(lambda: pixel_requests(server), item)
    assert pixel_requests(server) == 1


def stopped_while(state, item):
    """Whether a reading ends as cancelled, and soon, once `state()` is reached."""
    pulse, over, soon = Pulse(), threading.Event(), []

    def watch():
        while not state() and not over.wait(0.01):
            pass
        pulse.stopped = True
        soon.append(over.wait(10))  # shorter than what is waited for

    token = PULSE.set(pulse)
    thread = threading.Thread(target=watch)
    thread.start()
    try:
        earthengine.read(item, INSIDE, ("red",))
        cancelled = False
    except Cancelled:
        cancelled = True
    finally:
        over.set()
        thread.join()
        PULSE.reset(token)
    return cancelled and soon == [True]


def test_an_image_that_is_gone_is_named(one):
    with pytest.raises(FusionError, match="no image for the image LC08_190028_20200702.*Search anew"):
        gone = Item("earthengine", "landsat", "LC08_190028_20200702", date(2020, 7, 2))
        earthengine.read(gone, INSIDE, ("red",))


def test_a_band_that_is_missing_is_named(serve, tmp_path):
    asset, _ = landsat(tmp_path, "LC08_190028_20200701", 1)
    del asset.bands["SR_B5"]
    serve(asset)
    item = Item("earthengine", "landsat", "LC08_190028_20200701", date(2020, 7, 1))
    with pytest.raises(FusionError, match="no such band.*'SR_B5' did not match any bands"):
        earthengine.read(item, INSIDE, ("red",))


def test_an_image_without_a_projection_is_named():
    info = {"properties": {"system:time_start": 0}, "bands": [{"id": "a", "data_type": {"precision": "float"}}]}
    with pytest.raises(FusionError, match="The image x/y wants bands with a projection.*'crs_transform'"):
        _ee_images.picture("x/y", info, ("a",))


# Sign-in


@pytest.fixture(scope="module")
def private_key():
    made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    plain = serialization.NoEncryption()
    return made.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain).decode()


@pytest.fixture
def key(one, private_key):
    return {
        "type": "service_account", "client_email": "reader@my-project.iam.gserviceaccount.com",
        "private_key": private_key, "private_key_id": "0123456789abcdef", "token_uri": f"{one[0].url}/token",
        "project_id": "my-project",
    }  # fmt: skip


def clean_of(secret, *texts):
    """No line of the key, and no token, is in any text."""
    lines = [line for line in secret.splitlines() if len(line) > 20]
    return not any(part in text for text in texts for part in (*lines, "a-token-that-is-secret", "PRIVATE"))


def test_a_service_account_signs_in_once(one, key, private_key, caplog, tmp_path):
    caplog.set_level(logging.DEBUG)
    server, bands, item = one
    who = earthengine.sign_in(key)
    assert who == earthengine.identity() == earthengine.sign_in() == earthengine.sign_in(key)
    assert who == earthengine.Identity("service account", key["client_email"], "my-project")
    scene = earthengine.read(item, INSIDE, ("red",))
    np.testing.assert_array_equal(scene.data[0], reflectance(bands)[16:80, 8:56])
    assert server.count("/token") and any("/projects/my-project/image" in path for path, _ in server.asked)
    kept = [path.read_bytes().decode("latin-1") for path in (tmp_path / "cache").rglob("*.bin")]
    assert kept and clean_of(private_key, repr(who), caplog.text, *kept)


def test_a_key_file_is_named_by_its_path(key, tmp_path, monkeypatch, private_key):
    path = tmp_path / "key.json"
    path.write_text(json.dumps(key))
    monkeypatch.setenv("FUSION_EE_KEY", str(path))
    assert earthengine.sign_in().account == key["client_email"]
    earthengine.sign_out()
    path.write_text(json.dumps(key)[:-20])
    with pytest.raises(FusionError, match="JSON key file") as caught:
        earthengine.sign_in()
    assert clean_of(private_key, str(caught.value), repr(caught.value.__context__))


@pytest.mark.parametrize(
    "message, words",
    [
        ("Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat "
         "and exp values in the JWT claim.", "Set this computer's date and time right"),
        ("Invalid JWT Signature.", "key or sign-in is wrong, withdrawn or expired"),
    ],
)  # fmt: skip
def test_a_sign_in_that_is_not_accepted(one, key, private_key, caplog, message, words):
    caplog.set_level(logging.DEBUG)
    one[0].fail("/token", times=99, status=400, message=message)
    with pytest.raises(FusionError, match=words) as caught:
        earthengine.sign_in(key)
    assert earthengine.identity() is None and caught.value.__cause__ is None
    assert clean_of(private_key, str(caught.value), caplog.text)


@pytest.mark.parametrize("damage", ["private_key", "client_email", "token_uri"])
def test_a_damaged_key_is_refused_without_being_quoted(key, private_key, damage):
    broken = {name: value for name, value in key.items() if name != damage}
    if damage == "private_key":
        broken["private_key"] = private_key[:-200]
    with pytest.raises(FusionError, match="service account|FUSION_EE_URL") as caught:
        earthengine.sign_in(broken)
    assert clean_of(private_key, str(caught.value))


def test_a_google_key_is_not_sent_to_another_server(one, key):
    with pytest.raises(FusionError, match="it would be sent there"):
        earthengine.sign_in({**key, "token_uri": "https://oauth2.googleapis.com/token"})
    assert not one[0].asked


def test_without_a_sign_in_or_a_project_it_is_said_what_to_do(tmp_path):
    with pytest.raises(FusionError, match="found none.*earthengine authenticate"):
        earthengine.sign_in()
    folder = tmp_path / "home" / ".config" / "earthengine"
    folder.mkdir(parents=True)
    (folder / "credentials").write_text(json.dumps({"refresh_token": "1//very-secret"}))
    with pytest.raises(FusionError, match="set FUSION_EE_PROJECT") as caught:
        earthengine.sign_in()
    assert "secret" not in str(caught.value)


def test_a_notebook_that_signed_in_itself_is_respected(one):
    from google.auth.credentials import AnonymousCredentials

    server, bands, item = one
    ee.Initialize(AnonymousCredentials(), url=server.url, project="mine")
    assert earthengine.identity() is None
    scene = earthengine.read(item, INSIDE, ("red",))
    np.testing.assert_array_equal(scene.data[0], reflectance(bands)[16:80, 8:56])
    assert earthengine.identity() == earthengine.Identity("this program", "your own sign-in", "mine")
    assert server.count("algorithms") == 1


def test_the_help_says_what_to_set():
    for word in ("FUSION_EE_KEY", "FUSION_EE_PROJECT", "secrets.toml", "earthengine authenticate", "register"):
        assert word in earthengine.HELP
