"""The STAC source against a catalogue that runs on loopback and is spoken to by the real client."""

import json
import logging
import re
import socket
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import urllib3
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile

from fusion import Cancelled, FusionError
from fusion._pulse import PULSE, Pulse
from fusion.products import product
from fusion.sources import Item, _addresses, _stac_catalogues, _stac_granules, _stac_items, _stac_web, stac
from stac_server import blocks, cog, item, running

GRID = GeoBox((200, 240), Affine(30, 0, 499_980, 0, -30, 5_099_985), "EPSG:32633")
AREA = GRID[40:100, 60:140]
SUMMER = date(2020, 6, 1), date(2020, 8, 31)
WHEN = "2020-07-01T10:00:00Z"
NAME = "LC08_L2SP_190028_20200701_02_T1"
LANDSAT = ("blue", "green", "red", "nir08", "swir16", "swir22")
SECRET = "sig=NobodyMaySeeThis"


@pytest.fixture
def server(monkeypatch, tmp_path):
    with running() as served:
        monkeypatch.setenv("FUSION_STAC", f"loop={served.url}")
        monkeypatch.setenv("FUSION_CACHE", str(tmp_path / "cache"))
        for name in ("FUSION_CACHE_MB", "FUSION_STAC_ANY", "FUSION_STAC_HOSTS"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("no_proxy", "*")
        monkeypatch.setattr(_stac_web, "PAUSE", 0.001)
        for kept in (_stac_granules.SHELF, _stac_granules.TOKENS, _stac_granules._LIVE):
            kept.clear()
        yield served
        _stac_web._pool.cache_clear()


@pytest.fixture(scope="module")
def full_size():
    """A Landsat-like file of 7680 x 7680 pixels, 111 MB."""
    return cog(blocks((7680, 7680)), Affine(30, 0, 399_990, 0, -30, 5_200_005), "EPSG:32633")


def bounds_of(grid):
    box = grid.geographic_extent.boundingbox
    return box.left, box.bottom, box.right, box.top


@lru_cache(maxsize=200)
def made(grid, seed, value=0):
    """File of noise, or of one value where there is no seed."""
    numbers = np.full(grid.shape, value, np.uint16) if seed is None else blocks(grid.shape, seed)
    return cog(numbers, grid.affine, str(grid.crs), block=128)


def landsat(server, name=NAME, when=WHEN, grid=GRID, qa=None, **how):
    """Put a Landsat image into the catalogue; returns its numbers by band."""
    numbers = {band: blocks(grid.shape, seed) for seed, band in enumerate(LANDSAT)}
    files = {band: made(grid, seed) for seed, band in enumerate(LANDSAT)}
    files |= {"qa_pixel": made(grid, None, 64), "qa_radsat": made(grid, None, 0)}
    if qa is not None:
        files["qa_pixel"] = cog(qa, grid.affine, str(grid.crs), block=128)
    keys = {}
    for band, data in files.items():
        server.files[f"{name}_{band}.tif"] = data
        keys[band] = f"{server.url}/files/{name}_{band}.tif"
    server.add("landsat-c2-l2", item(name, when, grid, keys, {"platform": "landsat-8"}, **how))
    return numbers


def one(server, area=AREA, **options):
    (found,) = stac.search("landsat", bounds_of(area), SUMMER, stac.Options("loop", **options))
    return found


def reflectance(numbers, window):
    return (numbers[window] * 2.75e-5 - 0.2).astype(np.float32)


WINDOW = np.s_[40:100, 60:140]


# What is read.


def test_pixels_are_exact_and_clouds_are_missing(server):
    qa = np.full(GRID.shape, 64, np.uint16)
    qa[50:53, 70:75] = 8  # cloud
    numbers = landsat(server, qa=qa)
    scene = stac.read(one(server), AREA, ("red", "swir1"))
    cloud = (qa[WINDOW] == 8)[None].repeat(2, 0)
    assert scene.geobox == AREA and scene.bands == ("red", "swir1") and scene.day == date(2020, 7, 1)
    assert np.array_equal(np.isnan(scene.data), cloud)
    expected = np.stack([reflectance(numbers["red"], WINDOW), reflectance(numbers["swir16"], WINDOW)])
    np.testing.assert_allclose(scene.data[~cloud], expected[~cloud], atol=1e-7)


def test_the_item_says_all_and_the_options_can_be_read_from_it(server):
    landsat(server)
    found = one(server, snow=True)
    assert found.id == f"loop::{NAME}/snow=keep" and found.source == "stac" and found.day == date(2020, 7, 1)
    assert stac.options_in(found) == stac.Options("loop", snow=True)
    west, south, east, north = bounds_of(GRID)
    assert found.bounds == pytest.approx((west, south, east, north))


def test_snow_is_missing_unless_kept(server):
    landsat(server, qa=np.full(GRID.shape, 64 + 32, np.uint16))
    bare, kept = one(server), one(server, snow=True)
    assert (bare.cloud, kept.cloud) == (1.0, 0.0)
    assert np.isnan(stac.read(bare, AREA, ("red",)).data).all()
    assert np.isfinite(stac.read(kept, AREA, ("red",)).data).all()


@pytest.mark.parametrize(
    ("properties", "stated", "offset"),
    [
        ({"s2:processing_baseline": "03.01"}, {}, 0.0),
        ({"s2:processing_baseline": "04.00"}, {}, -0.1),
        ({"s2:processing_baseline": "05.09"}, {}, -0.1),
        ({"s2:processing_baseline": "05.09"}, {"raster:bands": [{"scale": 1e-4, "offset": 0}]}, 0.0),
        ({}, {"raster:bands": [{"scale": 1e-4, "offset": -0.1}]}, -0.1),
        ({}, {"bands": [{"raster:scale": 1e-4, "raster:offset": -0.1}]}, -0.1),
        (
            {"s2:processing_baseline": "05.09", "earthsearch:boa_offset_applied": True},
            {"raster:bands": [{"scale": 1e-4, "offset": -0.1}]},
            0.0,
        ),
        (
            {"s2:processing_baseline": "05.09", "earthsearch:boa_offset_applied": False},
            {"raster:bands": [{"scale": 1e-4, "offset": -0.1}]},
            -0.1,
        ),
        ({"s2:processing_baseline": "02.14"}, {"raster:bands": [{"scale": 1e-4, "offset": -0.1}]}, 0.0),
        ({}, {}, 0.0),
    ],
)
def test_sentinel_offset_is_that_of_each_item(server, properties, stated, offset):
    sentinel(server, "S2A_33TVM", properties=properties, stated=stated)
    (found,) = stac.search("sentinel2", bounds_of(AREA), SUMMER, stac.Options("loop"))
    scene = stac.read(found, S2[40:60, 20:60], ("red",))
    np.testing.assert_allclose(scene.data[0], blocks(S2.shape, 2)[40:60, 20:60] * 1e-4 + offset, atol=1e-6)


S2 = GeoBox((600, 720), Affine(10, 0, 499_980, 0, -10, 5_099_980), "EPSG:32633")
KEYS = {"blue": 0, "green": 1, "red": 2, "nir": 3}


def sentinel(server, name, properties=None, stated=None, when=WHEN, keys=None, scl=5):
    """Put a Sentinel-2 image into the catalogue, with 20 m bands and grids at the files as real ones have."""
    half = S2.zoom_out(2)
    assets = {}
    for key, seed in {"B02": 0, "B03": 1, "B04": 2, "B08": 3, "B11": 4, "B12": 5, "SCL": 6}.items():
        grid = S2 if seed < 4 else half
        values = np.full(grid.shape, scl, np.uint8) if key == "SCL" else blocks(grid.shape, seed)
        server.files[f"{name}_{key}.tif"] = cog(values, grid.affine, str(grid.crs), block=256)
        place = {"proj:shape": list(grid.shape), "proj:transform": list(grid.affine)}
        band = {} if key == "SCL" else (stated or {})
        assets[(keys or {}).get(key, key)] = {"href": f"{server.url}/files/{name}_{key}.tif", **place, **band}
    one = item(name, when, S2, assets, {"proj:epsg": 32633, **(properties or {})}, projection=False)
    server.add("sentinel-2-l2a", one)
    return assets


def test_bands_of_20_m_are_repeated_on_the_grid_of_10_m(server):
    sentinel(server, "S2A_33TVM")
    (found,) = stac.search("sentinel2", bounds_of(AREA), SUMMER, stac.Options("loop"))
    scene = stac.read(found, S2[40:60, 20:60], ("red", "swir1"))
    expected = blocks(S2.zoom_out(2).shape, 4)[20:30, 10:30].repeat(2, 0).repeat(2, 1)
    np.testing.assert_allclose(scene.data[1], expected * 1e-4, atol=1e-6)
    alone = stac.read(found, S2.zoom_out(2)[20:30, 10:30], ("swir1",))
    np.testing.assert_allclose(alone.data[0], blocks(S2.zoom_out(2).shape, 4)[20:30, 10:30] * 1e-4, atol=1e-6)


def test_files_are_found_by_key_in_any_case_and_by_common_name(server):
    names = {"B04": "red-file", "B08": "near", "SCL": "scl"}
    sentinel(server, "S2A_33TVM", keys=names)
    asset = server.items["sentinel-2-l2a"]["S2A_33TVM"]["assets"]
    asset["red-file"]["eo:bands"] = [{"name": "B04", "common_name": "red"}]
    asset["near"]["bands"] = [{"name": "B08", "eo:common_name": "nir"}]
    asset["visual"] = {**asset["red-file"], "eo:bands": [{"common_name": c} for c in ("red", "green", "blue")]}
    (found,) = stac.search("sentinel2", bounds_of(AREA), SUMMER, stac.Options("loop"))
    scene = stac.read(found, S2[40:60, 20:60], ("red", "nir"))
    np.testing.assert_allclose(scene.data[1], blocks(S2.shape, 3)[40:60, 20:60] * 1e-4, atol=1e-6)


def test_of_two_processings_the_newer_baseline_is_taken(server):
    for name, baseline in (("S2A_old", "02.12"), ("S2A_new", "05.00"), ("S2A_mid", "03.00")):
        sentinel(server, name, {"s2:mgrs_tile": "33TVM", "s2:processing_baseline": baseline})
    (found,) = stac.search("sentinel2", bounds_of(AREA), SUMMER, stac.Options("loop"))
    assert found.id == "loop::S2A_new"


def test_neighbours_of_one_day_are_one_item_and_one_image(server):
    left, right = GRID, GRID.translate_pix(200, 0)
    a = landsat(server, NAME, WHEN, left)
    b = landsat(server, NAME.replace("190028", "190029"), "2020-07-01T10:00:24Z", right)
    area = GRID.pad(60)[100:160, 240:340]  # columns 180..280 of the left one, which ends at 240
    found = one(server, area)
    assert found.id == f"loop::{NAME},{NAME.replace('190028', '190029')}" and found.cloud == 0
    scene = stac.read(found, area, ("red",))
    expected = np.hstack([reflectance(a["red"], np.s_[40:100, 180:240]), reflectance(b["red"], np.s_[40:100, 40:80])])
    np.testing.assert_allclose(scene.data[0], expected, atol=1e-7)


def test_composites_in_the_sinusoidal_projection_have_the_day_of_their_name(server):
    sinus = "+proj=sinu +lon_0=0 +x_0=0 +y_0=0 +R=6371007.181 +units=m +no_defs"
    grid = GeoBox((240, 240), Affine(463.312716528, 0, 1_000_000, 0, -463.312716528, 5_150_000), sinus)
    native = product("stac", "mod09a1").native
    for name in ("MOD09A1.A2020177.h19v04.061.1", "MYD09A1.A2020177.h19v04.061.1"):
        keys = {band: f"{server.url}/files/{name}_{band}.tif" for band in (*native, "sur_refl_state_500m")}
        for seed, band in enumerate(native):
            server.files[f"{name}_{band}.tif"] = cog(blocks(grid.shape, seed).astype(np.int16), grid.affine, sinus)
        state = np.zeros(grid.shape, np.uint16)
        server.files[f"{name}_sur_refl_state_500m.tif"] = cog(state, grid.affine, sinus)
        extra = {"start_datetime": "2020-06-25T00:00:00Z", "end_datetime": "2020-07-02T23:59:59Z"}
        extra |= {"proj:wkt2": grid.crs.to_wkt(), "proj:epsg": None}
        entry = item(name, "", grid, keys, extra)
        entry["properties"] |= {"datetime": None, "proj:epsg": None}
        server.add("modis-09A1-061", entry)
    box = grid[100:140, 100:140]
    (found,) = stac.search("mod09a1", bounds_of(box), SUMMER, stac.Options("loop"))
    assert found.id == "loop::MOD09A1.A2020177.h19v04.061.1" and found.day == date(2020, 6, 25)
    scene = stac.read(found, box, ("red",))
    np.testing.assert_allclose(scene.data[0], blocks(grid.shape, 2)[100:140, 100:140] * 1e-4, atol=1e-6)
    assert (
        found.span == 8
        and len(stac.search("mod09a1", bounds_of(box), (date(2020, 7, 2),) * 2, stac.Options("loop"))) == 1
    )
    assert not stac.search("mod09a1", bounds_of(box), (date(2020, 7, 3),) * 2, stac.Options("loop"))
    later = stac.read(replace(found, day=date(2020, 7, 2)), box, ("red",))  # as the pair of a fine image of that day
    np.testing.assert_array_equal(later.data, scene.data)
    with pytest.raises(FusionError, match="is not of 2020-07-03"):
        stac.read(replace(found, day=date(2020, 7, 3)), box, ("red",))


# What is found.


def test_cloud_is_that_of_the_area_not_of_the_image(server):
    qa = np.full(GRID.shape, 8, np.uint16)
    qa[40:100, 60:140] = 64  # the area is the only clear part: 10 % of the image
    landsat(server, qa=qa)
    qa = qa.copy()
    qa[40:70, 60:140] = 16  # northern half in shadow
    landsat(server, NAME.replace("0701", "0717"), "2020-07-17T10:00:00Z", qa=qa)
    landsat(server, NAME.replace("0701", "0802"), "2020-08-02T10:00:00Z", qa=np.full(GRID.shape, 1, np.uint16))
    inner = AREA.pad(-3)
    found = stac.search("landsat", bounds_of(inner), SUMMER, stac.Options("loop"))
    assert [one.day for one in found] == [date(2020, 7, 1), date(2020, 7, 17), date(2020, 8, 2)]
    assert [one.cloud for one in found] == [0, pytest.approx(0.5, abs=0.05), 1]
    assert np.isnan(stac.read(found[2], AREA, ("red",)).data).all()


def test_what_lies_beside_the_image_counts_as_missing(server):
    landsat(server)
    half = GRID.translate_pix(120, 0)
    assert one(server, half).cloud == pytest.approx(0.5, abs=0.05)


def test_a_quality_band_that_cannot_be_read_leaves_the_cloud_unknown(server):
    landsat(server)
    server.fault("qa_pixel", status=404)
    assert one(server).cloud is None


def test_clouds_are_looked_up_in_overviews_and_once(server, full_size):
    keys = {band: f"{server.url}/files/big.tif" for band in (*LANDSAT, "qa_pixel", "qa_radsat")}
    server.files["big.tif"] = full_size
    grid = GeoBox((7680, 7680), Affine(30, 0, 399_990, 0, -30, 5_200_005), "EPSG:32633")
    server.add("landsat-c2-l2", item(NAME, WHEN, grid, keys, {"platform": "landsat-8"}))
    area = grid[1000:5000, 1000:5000]
    one(server, area)
    spent = server.sent()
    assert 0 < spent < 0.01 * len(full_size)
    one(server, area)
    assert server.sent() == spent


def test_pages_are_followed_and_the_filters_are_sent(server):
    server.page = 3
    first = datetime(2020, 5, 20, 10, tzinfo=UTC)
    for step in range(10):
        when = first + timedelta(days=4 * step)
        landsat(server, f"LC08_L2SP_190028_{when:%Y%m%d}_02_T1", when.isoformat())
    server.add("landsat-c2-l2", item("LE07_L2SP_190028_20200703_02_T1", WHEN, GRID, {}, {"platform": "landsat-7"}))
    server.add(
        "landsat-c2-l2", item("LC08_L2SP_190028_20200703_02_T2", WHEN, GRID, {}, {"landsat:collection_category": "T2"})
    )
    found = stac.search("landsat", bounds_of(AREA), SUMMER, stac.Options("loop"))
    assert [one.day for one in found] == [(first + timedelta(days=4 * step)).date() for step in range(3, 10)]
    asked = [one.body for one in server.requests("/search")]
    assert len(asked) == 3 and {one.method for one in server.requests("/search")} == {"POST"}
    assert asked[0]["datetime"] == "2020-06-01T00:00:00Z/2020-08-31T23:59:59Z"
    assert asked[0]["bbox"] == pytest.approx(bounds_of(AREA)) and asked[0]["collections"] == ["landsat-c2-l2"]


def test_a_catalogue_without_post_is_asked_with_get(server):
    server.post, server.page = False, 1
    landsat(server)
    landsat(server, NAME.replace("0701", "0717"), "2020-07-17T10:00:00Z")
    found = stac.search("landsat", bounds_of(AREA), SUMMER, stac.Options("loop"))
    assert [one.day.day for one in found] == [1, 17] and {r.method for r in server.requests("/search")} == {"GET"}


def test_too_many_images_are_an_error_that_says_so(server, monkeypatch):
    monkeypatch.setattr(stac, "MOST", 2)
    for day in (1, 2, 3):
        landsat(server, f"LC08_L2SP_190028_2020070{day}_02_T1", f"2020-07-0{day}T10:00:00Z")
    with pytest.raises(FusionError, match="more than 2 images .*: shorten it"):
        one(server)


def test_nothing_found_is_an_empty_list(server):
    landsat(server)
    for area, dates in ((AREA.translate_pix(5000, 0), SUMMER), (AREA, (date(2021, 1, 1), date(2021, 2, 1)))):
        assert stac.search("landsat", bounds_of(area), dates, stac.Options("loop")) == []


@pytest.mark.parametrize("bounds", [None, (1, 2, 0, 3), (0, 5, 1, 4), (0, 0, 1, 91), (float("nan"), 0, 1, 1)])
def test_an_area_that_is_none_is_refused(server, bounds):
    with pytest.raises(FusionError, match="bounds"):
        stac.search("landsat", bounds, SUMMER, stac.Options("loop"))
    assert not server.log


def test_a_search_wants_days_in_order(server):
    for dates in (None, (SUMMER[1], SUMMER[0])):
        with pytest.raises(FusionError, match="first and a last day"):
            stac.search("landsat", bounds_of(AREA), dates, stac.Options("loop"))


@pytest.mark.parametrize("name", ["x", "loop::", "loop::a/b=c", "nowhere::a", "loop::a/snow=drop", "::a"])
def test_an_item_of_no_search_is_refused(server, name):
    with pytest.raises(FusionError, match="take the item from a search|no STAC catalogue"):
        stac.read(Item("stac", "landsat", name, date(2020, 7, 1)), AREA, ("red",))
    assert not server.log


def test_a_day_or_band_that_the_image_has_not_is_refused(server):
    landsat(server)
    found = one(server)
    with pytest.raises(FusionError, match="is not of 2020-07-02"):
        stac.read(Item("stac", "landsat", found.id, date(2020, 7, 2)), AREA, ("red",))
    with pytest.raises(FusionError, match="no band mauve; it has blue"):
        stac.read(found, AREA, ("mauve",))


# What it costs.


def test_ten_kilometres_of_a_full_file_cost_less_than_five_percent(server, full_size, record_property):
    server.files["big.tif"] = full_size
    server.files["qa.tif"] = cog(
        np.full((7680, 7680), 64, np.uint16), Affine(30, 0, 399_990, 0, -30, 5_200_005), "EPSG:32633"
    )
    keys = {band: f"{server.url}/files/big.tif" for band in LANDSAT}
    keys |= {"qa_pixel": f"{server.url}/files/qa.tif", "qa_radsat": f"{server.url}/files/zero.tif"}
    server.files["zero.tif"] = cog(
        np.zeros((7680, 7680), np.uint16), Affine(30, 0, 399_990, 0, -30, 5_200_005), "EPSG:32633"
    )
    grid = GeoBox((7680, 7680), Affine(30, 0, 399_990, 0, -30, 5_200_005), "EPSG:32633")
    server.add("landsat-c2-l2", item(NAME, WHEN, grid, keys, {"platform": "landsat-8"}))
    area = grid[3000:3334, 2900:3234]
    found = one(server, area)
    server.log.clear()
    scene = stac.read(found, area, ("red",))
    share = server.sent("big.tif") / len(full_size)
    record_property("share of the file", f"{share:.2%} in {len(server.requests('big.tif'))} requests")
    assert np.isfinite(scene.data).all() and 0.001 < share < 0.05


def test_a_second_read_needs_no_network(server):
    numbers = landsat(server)
    found = one(server)
    stac.read(found, AREA, ("red", "nir"))
    server.log.clear()
    server.fault("/", status=500)
    _stac_granules.SHELF.clear()
    again = stac.read(found, AREA, ("red", "nir"))
    assert not server.log
    np.testing.assert_allclose(again.data[0], reflectance(numbers["red"], WINDOW), atol=1e-7)


def test_an_item_is_asked_for_again_where_the_cache_lost_it(server, monkeypatch):
    numbers = landsat(server)
    found = one(server)
    monkeypatch.setenv("FUSION_CACHE", "off")
    server.log.clear()
    scene = stac.read(found, AREA, ("red",))
    assert server.requests("/collections/landsat-c2-l2/items/")
    np.testing.assert_allclose(scene.data[0], reflectance(numbers["red"], WINDOW), atol=1e-7)


def test_two_who_want_the_same_pixels_make_one_reading(server):
    landsat(server)
    found = one(server)
    server.log.clear()
    server.fault("_red.tif", slow=0.1)
    with ThreadPoolExecutor(2) as pool:
        a, b = pool.map(lambda _: stac.read(found, AREA, ("red",)), range(2))
    assert np.array_equal(a.data, b.data)
    parts = [one.part for one in server.requests("_red.tif")]
    assert len(parts) == len(set(parts)) > 0


# What goes wrong.


@pytest.mark.parametrize("fault", [{"status": 429}, {"status": 500}, {"status": 503}, {"cut": True}])
@pytest.mark.parametrize("where", ["_red.tif", "_qa_pixel.tif", "/search", "loop"])
def test_faults_that_pass_are_waited_for(server, fault, where):
    numbers = landsat(server)
    if where == "loop":
        where = "/"
    server.fault(where, times=4, headers={"Retry-After": "0"}, **fault)
    scene = stac.read(one(server), AREA, ("red",))
    np.testing.assert_allclose(scene.data[0], reflectance(numbers["red"], WINDOW), atol=1e-7)
    assert server.faults[0].times == 0


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"status": 401}, "refuses access \\(HTTP 401\\)"),
        ({"status": 403}, "refuses access \\(HTTP 403\\)"),
        ({"status": 404}, "is not there \\(HTTP 404\\)"),
        ({"status": 418}, "answered with HTTP 418"),
        ({"status": 429}, "asked 5 times; at last it wanted fewer requests \\(HTTP 429\\). Try again later"),
        ({"status": 500}, "asked 5 times; at last the server had a fault of its own \\(HTTP 500\\)"),
        ({"cut": True}, "asked 5 times; at last the connection failed \\(cut off\\)"),
    ],
)
@pytest.mark.parametrize("where", ["_red.tif", "/search"])
def test_faults_that_stay_are_named(server, fault, words, where):
    landsat(server)
    found = Item("stac", "landsat", f"loop::{NAME}", date(2020, 7, 1))
    server.fault(where, **fault)
    with pytest.raises(FusionError, match=words):
        one(server) if where == "/search" else stac.read(found, AREA, ("red",))


def test_a_slow_server_is_waited_for_and_a_silent_one_asked_again(server, monkeypatch):
    monkeypatch.setattr(_stac_web, "TIMEOUT", urllib3.Timeout(connect=1, read=0.1))
    numbers = landsat(server)
    found = one(server)
    server.fault("_red.tif", slow=0.02, times=1)
    server.fault("_red.tif", slow=0.2, times=2)
    scene = stac.read(found, AREA, ("red",))
    np.testing.assert_allclose(scene.data[0], reflectance(numbers["red"], WINDOW), atol=1e-7)
    _stac_granules.SHELF.clear()
    server.fault("_green.tif", slow=0.2)
    with pytest.raises(FusionError, match="at last the connection failed \\(too slow\\)"):
        stac.read(found, AREA, ("green",))


def test_nothing_on_the_line_is_named(server, monkeypatch):
    landsat(server)
    found = one(server)
    with running() as gone:
        pass
    monkeypatch.setenv("FUSION_STAC", f"loop={server.url},gone={gone.url}")
    with pytest.raises(FusionError, match="asked 5 times; at last the connection failed"):
        stac.search("landsat", bounds_of(AREA), SUMMER, stac.Options("gone"))
    assert np.isfinite(stac.read(found, AREA, ("red",)).data).all()


@pytest.mark.parametrize("keep", [0, 5, 200, 3000, -200])
def test_a_truncated_file_is_an_error_never_zeros(server, keep):
    landsat(server)
    found = one(server)
    server.files[f"{NAME}_red.tif"] = server.files[f"{NAME}_red.tif"][:keep]
    with pytest.raises(FusionError, match="cut short|damaged|ends early|HTTP 416"):
        stac.read(found, GRID, ("red",))


def test_a_block_with_a_wrong_bit_that_gdal_reads_without_complaint_is_an_error(server):
    numbers = landsat(server)
    found = one(server)
    good, rng = server.files[f"{NAME}_red.tif"], np.random.default_rng(0)
    for _ in range(400):
        data = bytearray(good)
        data[int(rng.integers(len(good) // 2, len(good)))] ^= 1 << int(rng.integers(0, 8))
        if not np.array_equal(read_by_gdal(bytes(data), numbers["red"]), numbers["red"]):
            break
    else:
        pytest.skip("this build of GDAL notices every wrong bit")
    server.files[f"{NAME}_red.tif"] = bytes(data)
    with pytest.raises(FusionError, match="cannot be decoded: it is damaged"):
        stac.read(found, GRID, ("red",))


def read_by_gdal(data, otherwise):
    try:
        with MemoryFile(data) as memory, memory.open() as file:
            return file.read(1)
    except RasterioError:
        return otherwise


@pytest.mark.parametrize("seed", range(30))
def test_a_corrupt_table_is_a_clear_error_or_changes_nothing(server, seed):
    numbers = landsat(server)
    found = one(server)
    data = bytearray(server.files[f"{NAME}_red.tif"])
    rng = np.random.default_rng(seed)
    for place in rng.integers(0, 500, 3):
        data[place] ^= int(rng.integers(1, 256))
    server.files[f"{NAME}_red.tif"] = bytes(data)
    try:
        scene = stac.read(found, GRID, ("red",))
    except FusionError as error:
        assert re.search("damaged|cut short|lies elsewhere|too large|where on the ground|bands in one", str(error))
    else:
        np.testing.assert_allclose(scene.data[0], reflectance(numbers["red"], np.s_[:, :]), atol=1e-7)


def test_an_item_without_projection_is_read_by_its_files(server):
    numbers = landsat(server, projection=False)
    found = one(server)
    scene = stac.read(found, AREA, ("red",))
    np.testing.assert_allclose(scene.data[0], reflectance(numbers["red"], WINDOW), atol=1e-7)
    server.log.clear()
    stac.read(found, AREA, ("red",))
    assert not server.log


def test_a_catalogue_that_misplaces_an_image_is_noticed(server):
    landsat(server)
    entry = server.items["landsat-c2-l2"][NAME]
    entry["properties"]["proj:transform"][2] += 30 * 150
    found = one(server)
    with pytest.raises(FusionError, match="lies elsewhere than its catalogue says"):
        stac.read(found, GRID.translate_pix(150, 0), ("red",))


def test_an_item_without_a_band_is_named(server):
    landsat(server)
    del server.items["landsat-c2-l2"][NAME]["assets"]["nir08"]
    found = one(server)
    assert np.isfinite(stac.read(found, AREA, ("red",)).data).all()
    with pytest.raises(FusionError, match=f"{NAME} has no band nir08; it has blue"):
        stac.read(found, AREA, ("nir",))


def test_a_server_that_gives_whole_files_only_is_used_for_small_ones(server, monkeypatch):
    numbers = landsat(server)
    found = one(server)
    server.fault("_red.tif", whole=True)
    np.testing.assert_allclose(stac.read(found, AREA, ("red",)).data[0], reflectance(numbers["red"], WINDOW), atol=1e-7)
    assert len(server.requests("_red.tif")) == 1
    monkeypatch.setattr(_stac_web, "WHOLE", 2**15)
    server.fault("_green.tif", whole=True)
    with pytest.raises(FusionError, match="gives only whole files"):
        stac.read(found, AREA, ("green",))


@pytest.mark.parametrize("text", [b"not json", b"[]", b"{}", b'{"type": "Catalog", "id": "x"}', b"\xff\xfe"])
def test_an_answer_that_is_no_catalogue_is_named(server, monkeypatch, text):
    server.files["api"] = text
    monkeypatch.setenv("FUSION_STAC", f"loop={server.url}/files/api")
    with pytest.raises(FusionError, match="loop does not answer as a STAC catalogue does"):
        stac.search("landsat", bounds_of(AREA), SUMMER, stac.Options("loop"))


def test_stopping_ends_a_wait(server, monkeypatch):
    monkeypatch.setattr(_stac_web, "PAUSE", 1000.0)
    monkeypatch.setattr(_stac_web, "LONGEST", 1000.0)
    landsat(server)
    found = one(server)
    server.fault("_red.tif", status=429)
    pulse = Pulse()
    token = PULSE.set(pulse)
    try:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(stop_after, pulse, server, "_red.tif")
            with pytest.raises(Cancelled):
                stac.read(found, AREA, ("red",))
    finally:
        PULSE.reset(token)


def test_stopping_ends_a_search_while_the_catalogue_is_silent(server):
    landsat(server)
    pulse, go = Pulse(), threading.Event()
    server.fault("/search", slow=0.2)
    token = PULSE.set(pulse)
    try:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(stop_after, pulse, server, "/search")
            with pytest.raises(Cancelled):
                one(server)
    finally:
        PULSE.reset(token)
        go.set()


def stop_after(pulse, server, where):
    while not server.requests(where):
        threading.Event().wait(0.005)
    pulse.stopped = True


def test_a_pause_ends_when_nobody_wants_the_result():
    pulse = Pulse()
    pulse.stopped = True
    token = PULSE.set(pulse)
    try:
        with pytest.raises(Cancelled):
            _stac_web.rest(1000)
    finally:
        PULSE.reset(token)


def test_progress_reaches_the_end(server):
    landsat(server)
    pulse = Pulse()
    token = PULSE.set(pulse)
    try:
        found = one(server)
        assert pulse.fraction == 1
        pulse.fraction = 0
        stac.read(found, AREA, ("red",))
        assert pulse.fraction == 1
    finally:
        PULSE.reset(token)


def test_a_search_of_many_images_says_smoothly_how_far_it_is_and_stops_at_once(server, monkeypatch):
    monkeypatch.setattr(stac, "PAGE", 10)
    for number in range(60):
        day = date(2020, 6, 1) + timedelta(days=number)
        landsat(server, f"LC08_{day:%Y%m%d}_T1", f"{day}T10:00:00Z")
    seen = []

    class Seen(Pulse):
        def __setattr__(self, name, value):
            seen.append(value)
            self.__dict__[name] = value

    pulse = Seen()
    token = PULSE.set(pulse)
    try:
        server.fault("_qa_pixel.tif", slow=0.05)
        assert len(stac.search("landsat", bounds_of(AREA), SUMMER, stac.Options("loop"))) == 60
        assert seen == sorted(seen) and seen[-1] == 1 and max(np.diff(seen)) < 0.6
        _stac_granules.SHELF.clear()
        before = len(server.requests("_qa_pixel.tif"))
        with ThreadPoolExecutor(1) as pool:
            pool.submit(stop_after_more, pulse, server, before)
            with pytest.raises(Cancelled):
                stac.search("landsat", bounds_of(GRID[:50, :50]), SUMMER, stac.Options("loop"))
        assert len(server.requests("_qa_pixel.tif")) - before < 60  # of 120
    finally:
        PULSE.reset(token)


def stop_after_more(pulse, server, count):
    while len(server.requests("_qa_pixel.tif")) <= count:
        threading.Event().wait(0.005)
    pulse.stopped = True


# Where it may go.

REFUSED = [
    "http://127.0.0.1/x", "http://127.0.0.1:8501/x", "http://127.1/x", "http://2130706433/x", "http://0x7f000001/x",
    "http://0177.0.0.1/x", "http://0/x", "http://0.0.0.0/x", "http://10.1.2.3/x", "http://172.16.0.1/x",
    "http://192.168.1.1/x", "http://169.254.169.254/latest/meta-data", "http://100.64.0.1/x", "http://100.100.100.200/",
    "http://198.18.0.1/x", "http://192.0.0.192/x", "http://224.0.0.1/x", "http://240.0.0.1/x", "http://255.255.255.255/",
    "http://168.63.129.16/x", "http://[::1]/x", "http://[::]/x", "http://[fe80::1]/x", "http://[fc00::1]/x",
    "http://[fd00:ec2::254]/x", "http://[ff02::1]/x", "http://[fec0::1]/x", "http://[::ffff:127.0.0.1]/x",
    "http://[::ffff:a9fe:a9fe]/x", "http://[64:ff9b::7f00:1]/x", "http://[64:ff9b::a9fe:a9fe]/x",
    "http://[2002:7f00:1::]/x", "http://localhost/x", "https://localhost/x", "http://LOCALHOST/x",
    "file:///etc/passwd", "/etc/passwd", "ftp://1.1.1.1/x", "s3://bucket/key", "gopher://1.1.1.1/", "/vsicurl/http://1.1.1.1/x",
    "http:///x", "http://user:pw@1.1.1.1/x", "http://1.1.1.1:0/x", "http://1.1.1.1:99999/x", "http://1.1.1.1 /x",
    "http://1.1.1.1\\@127.0.0.1/", "",
]  # fmt: skip


@pytest.mark.parametrize("url", REFUSED)
def test_addresses_that_are_not_asked(monkeypatch, url):
    monkeypatch.delenv("FUSION_STAC", raising=False)
    with pytest.raises(FusionError, match="wants|closed network|user name|port 0|no internet address"):
        parts = _addresses.check(url)
        _addresses.addresses(parts.hostname, _addresses.port_of(parts))


@pytest.mark.parametrize("host", ["1.1.1.1", "8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"])
def test_public_addresses_are_asked(host):
    assert _addresses.addresses(host, 443) == (host,)


def test_an_owner_frees_one_host_and_port_only(monkeypatch):
    monkeypatch.setenv("FUSION_STAC", "own=http://127.0.0.1:8000/stac, two=https://10.0.0.1")
    monkeypatch.setenv("FUSION_STAC_HOSTS", "10.0.0.2:9000")
    assert _addresses.configured() == {"own": "http://127.0.0.1:8000/stac", "two": "https://10.0.0.1"}
    for host, port in (("127.0.0.1", 8000), ("10.0.0.1", 443), ("10.0.0.2", 9000)):
        assert _addresses.addresses(host, port) == (host,)
    for host, port in (("127.0.0.1", 8001), ("127.0.0.2", 8000), ("localhost", 8000), ("10.0.0.1", 80)):
        with pytest.raises(FusionError, match="closed network"):
            _addresses.addresses(host, port)


@pytest.mark.parametrize("text", ["x", "A=http://h", "a=ftp://h", "=http://h", "a=file:///etc"])
def test_a_setting_that_cannot_be_understood_is_named(monkeypatch, text):
    monkeypatch.setenv("FUSION_STAC", text)
    with pytest.raises(FusionError, match="FUSION_STAC wants"):
        _addresses.configured()


PASSWORD = "s3cret"
HIDING = [
    "https://me:s3cret@host/api", "https://me:s3cret@host/api?key=s3cret", "https://host/api?s3cret=1", "s3cret",
    "lab=https://me:s3cret@host/api", "lab=https://host/api?key=s3cret", "lab=https://host/#s3cret",
    "lab=me:s3cret@host", "lab=https://host:s3cret/api", "lab=https://[s3cret]/api", "a=https://h/x, b=ftp://me:s3cret@host",
    "Lab=https://s3cret@h",
]  # fmt: skip


@pytest.mark.parametrize("text", HIDING)
def test_no_setting_is_repeated_where_it_may_hold_a_password(monkeypatch, text):
    monkeypatch.setenv("FUSION_STAC", text)
    for work in (_addresses.configured, lambda: stac.Options("nowhere"), lambda: stac.Options(text)):
        with pytest.raises(FusionError, match="got part [12]") as error:
            work()
        assert PASSWORD not in str(error.value) and "://me" not in str(error.value)
    monkeypatch.setenv("FUSION_STAC", "")
    monkeypatch.setenv("FUSION_STAC_HOSTS", "me:s3cret@host:1")
    with pytest.raises(FusionError, match="FUSION_STAC_HOSTS wants.*part 1") as error:
        _addresses.check("http://127.0.0.1/x")
    assert PASSWORD not in str(error.value)


@pytest.mark.parametrize("text", HIDING)
def test_no_address_of_a_visitor_is_repeated(monkeypatch, text):
    monkeypatch.setenv("FUSION_STAC", "")
    monkeypatch.setenv("FUSION_STAC_ANY", "1")
    for name in {text, text.partition("=")[2] or text} - {"s3cret"}:
        with pytest.raises(FusionError) as error:
            stac.Options(name)
        assert PASSWORD not in str(error.value)


@pytest.mark.parametrize("text", ["lab=", "lab=ftp://x", "lab=https://", "lab=host", "lab=https://h:99999/x"])
def test_a_setting_with_a_wrong_address_blames_the_address(monkeypatch, text):
    monkeypatch.setenv("FUSION_STAC", f"good=https://h/api,{text}")
    with pytest.raises(FusionError, match=r"got part 2 \(lab\) with an address that does not begin with https"):
        _addresses.configured()


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("http://[s3cret]/x", "redirects to an address that is none"),
        ("http://h:s3cret/x", "host or port is broken"),
        ("{url}/files/x_red.tif", "redirects more than 5 times"),
        ("{other}/files/x_red.tif", "closed network"),
        ("http://localhost:1/x", "closed network"),
        ("http://169.254.169.254/latest/meta-data/", "closed network"),
        ("http://[::ffff:169.254.169.254]/", "closed network"),
        ("file:///etc/passwd", "wants to begin with https"),
        ("//127.0.0.1:1/x", "closed network"),
    ],
)
@pytest.mark.parametrize("where", ["/files/", "/search"])
def test_redirects_are_judged_like_addresses(server, target, words, where):
    landsat(server)
    found = Item("stac", "landsat", f"loop::{NAME}", date(2020, 7, 1))
    with running() as other:
        to = target.format(url=server.url, other=other.url)
        server.fault(where, status=302, headers={"Location": to})
        if where == "/search" and "{url}" in target:
            server.fault("/files/", status=302, headers={"Location": to})
        with pytest.raises(FusionError, match=words) as caught:
            one(server) if where == "/search" else stac.read(found, AREA, ("red",))
        assert not other.log and "meta-data/" not in str(caught.value)


def test_a_name_that_answers_differently_the_second_time_gains_nothing(server, monkeypatch):
    """What was judged is what is connected to."""
    real, asked = socket.getaddrinfo, []

    def hostile(host, *args, **kwargs):
        if host == "twice.example":
            asked.append(host)
            return real("1.1.1.1" if len(asked) == 1 else "127.0.0.1", *args, **kwargs)
        return real(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", hostile)
    monkeypatch.setattr(_stac_web, "TRIES", 1)
    monkeypatch.setattr(_stac_web, "TIMEOUT", urllib3.Timeout(connect=0.05, read=0.05))
    with pytest.raises(FusionError, match="the connection failed"):
        _stac_web.ask(f"http://twice.example:{urlsplit(server.url).port}/token/x")
    assert asked and not server.log


def test_a_redirect_within_what_is_allowed_is_followed(server):
    numbers = landsat(server)
    server.files["moved.tif"] = server.files[f"{NAME}_red.tif"]
    server.fault("_red.tif", status=307, headers={"Location": "/files/moved.tif"})
    server.fault("/search", status=308, times=1, headers={"Location": f"{server.url}/search?moved"})
    scene = stac.read(one(server), AREA, ("red",))
    np.testing.assert_allclose(scene.data[0], reflectance(numbers["red"], WINDOW), atol=1e-7)


@pytest.mark.parametrize(
    "href", ["file:///etc/passwd", "s3://bucket/x.tif", "http://127.0.0.1:1/x.tif", "http://localhost/x"]
)
def test_files_elsewhere_are_not_read(server, href):
    landsat(server)
    server.items["landsat-c2-l2"][NAME]["assets"]["red"]["href"] = href
    with pytest.raises(FusionError, match="wants to begin with https|closed network"):
        stac.read(one(server), AREA, ("red",))


@pytest.mark.parametrize("href", ["http://me:s3cret@{host}/x.tif", "http://[s3cret]/x.tif", "http://h:s3cret/x.tif"])
def test_passwords_in_addresses_of_files_are_neither_used_nor_kept_nor_shown(server, tmp_path, href):
    landsat(server)
    href = href.format(host=urlsplit(server.url).netloc)
    server.items["landsat-c2-l2"][NAME]["assets"]["red"]["href"] = href
    with pytest.raises(FusionError, match="user name or password|host or port is broken|wants to begin") as error:
        stac.read(one(server), AREA, ("red",))
    assert PASSWORD not in str(error.value)
    kept = [path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert kept and not any(b"me:s3cret" in body for body in kept)


def test_a_list_of_files_that_calls_itself_a_tif_is_refused(server, tmp_path):
    numbers = landsat(server)
    here = tmp_path / "here.tif"
    here.write_bytes(cog(numbers["red"], GRID.affine, "EPSG:32633", block=128))
    vrt = '<VRTDataset rasterXSize="240" rasterYSize="200"><VRTRasterBand dataType="UInt16" band="1"><SimpleSource>'
    vrt += (
        f"<SourceFilename>{here}</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    server.files[f"{NAME}_red.tif"] = vrt.encode()
    with pytest.raises(FusionError, match="is no GeoTIFF"):
        stac.read(one(server), AREA, ("red",))


def test_a_link_of_the_catalogue_to_a_file_of_this_machine_is_not_opened(server, monkeypatch, tmp_path):
    secret = tmp_path / "secret.json"
    secret.write_text('{"features": [{"id": "secret"}]}')
    head = {"type": "Catalog", "id": "x", "description": "x", "stac_version": "1.0.0"}
    head["conformsTo"] = ["https://api.stacspec.org/v1.0.0/core", "https://api.stacspec.org/v1.0.0/item-search"]
    for href in (str(secret), secret.as_uri()):
        head["links"] = [
            {"rel": "search", "href": href, "method": "GET", "type": "application/json"},
            {"rel": "self", "href": server.url},
        ]
        server.files["api"] = json.dumps(head).encode()
        monkeypatch.setenv("FUSION_STAC", f"loop={server.url}/files/api")
        with pytest.raises(FusionError) as caught:
            stac.search("landsat", bounds_of(AREA), SUMMER, stac.Options("loop"))
        assert "features" not in str(caught.value)


def test_a_visitors_catalogue_wants_the_owners_leave(server, monkeypatch):
    landsat(server)
    with pytest.raises(FusionError, match="asks no others"):
        stac.Options("https://example.com/stac")
    monkeypatch.setenv("FUSION_STAC_ANY", "1")
    assert stac.Options("https://example.com/stac").catalogue == "https://example.com/stac"
    for url in (
        "http://127.0.0.1:1/stac",
        "http://169.254.169.254/",
        "https://example.com/a?key=1",
        "ftp://example.com",
    ):
        with pytest.raises(FusionError):
            stac.Options(url)
    found = stac.search("landsat", bounds_of(AREA), SUMMER, stac.Options(server.url))  # the owner's by host and port
    assert found[0].id == f"{server.url}::{NAME}"
    assert np.isfinite(stac.read(found[0], AREA, ("red",)).data).all()


def test_a_proxy_is_used_for_public_addresses_and_no_way_round(server, monkeypatch):
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", server.url)
    server.files["token"] = b"through the proxy"
    assert _stac_web.ask("http://1.1.1.1/token/x").data == b"through the proxy"
    assert [one.path for one in server.log] == ["http://1.1.1.1/token/x"]
    for url in ("http://169.254.169.254/token/x", "http://localhost:1/token/x"):
        with pytest.raises(FusionError, match="closed network"):
            _stac_web.ask(url)
    assert len(server.log) == 1


def test_connections_are_used_again(server):
    landsat(server)
    server.log.clear()
    found = one(server)
    stac.read(found, AREA, ("red",))
    assert len(server.log) > 8 and server.connections < 8


# Who has what.


def test_catalogues_and_what_they_offer(server):
    assert stac.catalogues() == ("planetary", "earthsearch", "loop")
    assert stac.catalogues("landsat") == ("planetary", "loop") and "earthsearch" in stac.catalogues("sentinel2")
    assert {row.name for row in stac.offered("coarse", stac.Options("earthsearch"))} == {"mcd43a4", "mod09a1"}
    with pytest.raises(FusionError, match="no STAC catalogue 'x'"):
        stac.Options("x")


def test_what_a_catalogue_has_not_got_comes_from_another(server, monkeypatch):
    own = _stac_catalogues.BUILT_IN["planetary"]
    there = _stac_catalogues.Catalogue("planetary", server.url, own.title, own.holds)
    monkeypatch.setitem(_stac_catalogues.BUILT_IN, "planetary", there)
    landsat(server)
    assert "The id of every image found begins with the catalogue" in fields(stac.Options)[0].metadata["doc"]
    (found,) = stac.search("landsat", bounds_of(AREA), SUMMER, stac.Options("earthsearch"))  # which has Sentinel-2 only
    assert found.id == f"planetary::{NAME}" and stac.options_in(found) == stac.Options("planetary")
    assert np.isfinite(stac.read(found, AREA, ("red",)).data).all()


def test_earth_searchs_own_names_of_bands_are_understood(server, monkeypatch):
    own = _stac_catalogues.BUILT_IN["earthsearch"]
    there = _stac_catalogues.Catalogue("earthsearch", server.url, own.title, own.holds)
    monkeypatch.setitem(_stac_catalogues.BUILT_IN, "earthsearch", there)
    sentinel(server, "S2A_33TVM_20200701_0_L2A", keys=dict(own.holds["sentinel2"].assets))
    (found,) = stac.search("sentinel2", bounds_of(AREA), SUMMER, stac.Options("earthsearch"))
    scene = stac.read(found, S2[40:60, 20:60], ("nir",))
    np.testing.assert_allclose(scene.data[0], blocks(S2.shape, 3)[40:60, 20:60] * 1e-4, atol=1e-6)


# What nobody may see.


@pytest.fixture
def signing(server, monkeypatch):
    """The Planetary Computer's way of signing, on loopback: files want a token that another address gives."""
    own = _stac_catalogues.BUILT_IN["planetary"]
    there = _stac_catalogues.Catalogue(
        "planetary", server.url, own.title, own.holds, f"{server.url}/token/", ("0.0.1",)
    )
    monkeypatch.setitem(_stac_catalogues.BUILT_IN, "planetary", there)
    server.query = SECRET
    token(server, SECRET, hours=1)
    return server


def token(server, secret, hours):
    expiry = (datetime.now(UTC) + timedelta(hours=hours)).isoformat()
    server.files["token"] = json.dumps({"token": f"st=a&{secret}", "msft:expiry": expiry}).encode()


def test_signatures_are_asked_for_once_and_kept_nowhere(signing, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    landsat(signing)
    (found,) = stac.search("landsat", bounds_of(AREA), SUMMER)
    assert found.cloud == 0 and np.isfinite(stac.read(found, AREA, ("red", "nir")).data).all()
    assert [one.path for one in signing.requests("/token/")] == ["/token/landsat-c2-l2"]
    signing.fault("_blue.tif", status=500)
    with pytest.raises(FusionError) as caught:
        stac.read(found, AREA, ("blue",))
    shown = [str(caught.value), repr(caught.value.__cause__), found.id, caplog.text]
    kept = [path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert len(kept) >= 3 and caplog.records
    for data in kept:
        with_text = data[16:]
        shown.append(data.decode("latin1"))
        try:
            shown.append(zlib.decompress(with_text).decode("latin1"))
        except zlib.error:
            continue
    assert any(NAME in text for text in shown[4:])  # the items are readable here, so a signature would be
    assert not any("NobodyMay" in text or "sig=" in text for text in shown)


def test_a_signature_that_ran_out_is_renewed(signing):
    landsat(signing)
    (found,) = stac.search("landsat", bounds_of(AREA), SUMMER)
    signing.query = "sig=Second"
    token(signing, "sig=Second", hours=1)
    assert np.isfinite(stac.read(found, AREA, ("red",)).data).all()
    assert len(signing.requests("/token/")) == 2


@pytest.mark.parametrize("hours", [-5, 5])
def test_clocks_that_disagree_do_no_harm(signing, hours):
    token(signing, SECRET, hours)
    landsat(signing)
    (found,) = stac.search("landsat", bounds_of(AREA), SUMMER)
    assert np.isfinite(stac.read(found, AREA, ("red",)).data).all()
    assert len(signing.requests("/token/")) == 1


def test_a_refusal_that_a_new_signature_does_not_help_is_named(signing):
    landsat(signing)
    signing.query = "sig=Other"
    found = Item("stac", "landsat", f"planetary::{NAME}", date(2020, 7, 1))
    with pytest.raises(FusionError, match="refuses access") as caught:
        stac.read(found, AREA, ("red",))
    assert "sig=" not in str(caught.value)


@pytest.mark.parametrize("text", [b"", b"{}", b'{"token": "sig=x", "msft:expiry": "soon"}', b"[1]"])
def test_an_answer_without_a_signature_is_named(signing, text):
    landsat(signing)
    signing.files["token"] = text
    with pytest.raises(FusionError, match="gave no signature") as caught:
        stac.read(Item("stac", "landsat", f"planetary::{NAME}", date(2020, 7, 1)), AREA, ("red",))
    assert "sig=" not in str(caught.value)


def test_a_signature_goes_to_its_own_hosts_only():
    tokens = _stac_catalogues.Tokens()
    planetary = _stac_catalogues.find("planetary")
    for href in ("https://example.com/x.tif", "https://blob.core.windows.net.example.com/x.tif"):
        assert tokens.signed(href, planetary, "landsat-c2-l2") == href


def test_signatures_that_a_catalogue_puts_into_addresses_are_not_kept_but_asked_for_again(server, tmp_path):
    numbers = landsat(server)
    for asset in server.items["landsat-c2-l2"][NAME]["assets"].values():
        asset["href"] += f"?v=1&{SECRET}"
    server.query = SECRET
    found = one(server)
    scene = stac.read(found, AREA, ("red",))
    np.testing.assert_allclose(scene.data[0], reflectance(numbers["red"], WINDOW), atol=1e-7)
    for path in (tmp_path / "cache").rglob("*.bin"):
        data = path.read_bytes()
        assert b"NobodyMay" not in data
        try:
            assert b"NobodyMay" not in zlib.decompress(data[16:])
        except zlib.error:
            continue


@pytest.mark.parametrize(
    ("href", "plain"),
    [
        ("https://h/a.tif?se=2020&sp=r&sv=1&sr=c&sig=x", "https://h/a.tif"),
        ("https://h/a.tif?X-Amz-Signature=x&X-Amz-Expires=1&v=2", "https://h/a.tif?v=2"),
        ("https://h/a.tif?access_token=x", "https://h/a.tif"),
        ("https://h/a.tif?api_key=x&apikey=y&Key-Pair-Id=z&Policy=p", "https://h/a.tif"),
    ],
)
def test_secrets_are_cut_out_of_addresses(href, plain):
    assert _stac_items.unsigned(href) == (plain, True)
    assert _stac_items.unsigned(plain) == (plain, False)


def test_this_file_is_where_the_client_is_imported():
    """What the source's own files need must not pull the client into `import fusion`."""
    private = Path(stac.__file__).parent.glob("_stac_*.py")
    assert not [
        path.name for path in private if "pystac" in path.read_text(encoding="utf-8").replace("pystac-client", "")
    ]
