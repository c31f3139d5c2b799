"""area: the grid of an outline where products cover the world or have no georeference, and grids that are moved."""

from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from fusion import PRODUCTS, FusionError
from fusion.area import clip, extent, grid, moved, rectangle
from fusion.scene import Scene

LANDSAT, SENTINEL = PRODUCTS["earthengine", "landsat"], PRODUCTS["stac", "sentinel2"]
MODIS, LAB = PRODUCTS["stac", "mcd43a4"], PRODUCTS["lab", "lab-coarse"]
TOWN = rectangle(14.28, 46.20, 14.40, 46.29)
BARE = GeoBox((480, 320), Affine.identity(), None)  # y downwards, as files without georeference have it


def test_products_of_the_world_get_a_grid_of_their_own_pixels_in_utm() -> None:
    geobox, ratio = grid(TOWN, LANDSAT, MODIS)
    assert ratio == 16 and str(geobox.crs) == "EPSG:32633" and abs(geobox.affine.a) == 30
    assert geobox.affine.c % 30 == 15 and geobox.affine.f % 30 == 15  # Landsat's pixel edges
    assert not geobox.shape[0] % 16 and not geobox.shape[1] % 16
    west, south, east, north = TOWN[0][0], TOWN[0][1], TOWN[2][0], TOWN[2][1]
    around = geobox.geographic_extent.boundingbox
    assert around.left < west and around.right > east and around.bottom < south and around.top > north


def test_sentinel2_has_another_ratio_and_other_edges() -> None:
    geobox, ratio = grid(TOWN, SENTINEL, MODIS)
    assert ratio == 48 and geobox.affine.c % 10 == 0 and abs(geobox.affine.e) == 10


def test_own_fine_images_take_coarse_ones_of_the_world() -> None:
    own = replace(LANDSAT, geobox=GeoBox((500, 700), Affine(30, 0, 480_000, 0, -30, 5_130_000), "EPSG:32633"))
    geobox, ratio = grid(extent(own), own, MODIS)
    assert ratio == 16 and geobox == own.geobox[: 31 * 16, : 43 * 16]  # whole coarse pixels from the first one on


def test_a_coarse_product_of_one_place_wants_a_fine_one_of_that_place() -> None:
    with pytest.raises(FusionError, match="covers one place and Landsat .* the world"):
        grid(TOWN, LANDSAT, LAB)


def test_without_georeference_an_outline_means_pixels_all_the_same() -> None:
    fine = replace(LANDSAT, resolution=1, geobox=BARE)
    coarse = replace(MODIS, resolution=16, geobox=BARE.zoom_out(16))
    whole = extent(fine)
    assert grid(whole, fine, coarse) == (BARE, 16)
    (west, south), (east, north) = whole[0], whole[2]
    south, north = min(south, north), max(south, north)
    part = rectangle(west, (south + north) / 2, west + (east - west) / 4, north)  # the north-west: first rows
    geobox, _ = grid(part, fine, coarse)
    assert geobox == BARE[:240, :80] and geobox.crs is None


def test_without_georeference_the_result_is_clipped_to_the_outline_too() -> None:
    fine = replace(LANDSAT, resolution=1, geobox=BARE)
    (west, south), (east, north) = extent(fine)[0], extent(fine)[2]
    south, north = min(south, north), max(south, north)
    scene = Scene(np.ones((1, *BARE.shape), np.float32), BARE, ("red",), date(2020, 7, 1))
    kept = np.isfinite(clip(scene, rectangle(west, (south + north) / 2, east, north)).data[0])
    assert kept[:240].all() and not kept[242:].any()
    assert clip(scene, extent(fine)) is scene


def test_a_grid_moves_east_and_north() -> None:
    there = GeoBox((4, 5), Affine(30, 0, 600_000, 0, -30, 5_000_000), "EPSG:32633")
    east = moved(there, (480.0, -60.0))
    assert (east.boundingbox.left, east.boundingbox.top) == (600_480, 4_999_940) and east.shape == there.shape
    assert moved(there, (0.0, 0.0)) is there


def test_without_georeference_north_is_towards_the_first_row() -> None:
    assert moved(BARE, (3.0, 2.0)).affine == Affine(1, 0, 3, 0, 1, -2)
