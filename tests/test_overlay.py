"""Overlays: every pixel where its coordinates say, none where there is no image."""

import io
from typing import Any

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox
from PIL import Image
from pyproj import Transformer

from fusion.overlay import Overlay, locate, overlay

ROMANIA = GeoBox((100, 100), Affine(10, 0, 5_272_000, 0, -10, 2_532_400), "EPSG:3035")
BOREAS_LIKE = GeoBox((640, 640), Affine(30, 0, 480_000, 0, -30, 6_190_000), "EPSG:32626")
TRACED = [(0, 0), (0, -1), (-1, 0), (-1, -1), (30, 71), (55, 12)]
TO_MERCATOR = Transformer.from_crs("EPSG:4326", "EPSG:3857", always_xy=True).transform


def picture(grid: GeoBox) -> np.ndarray:
    """An opaque image whose every pixel carries its own row and column as colour."""
    rows, columns = np.indices(grid.shape)
    code = rows * grid.shape[1] + columns
    return np.stack([code >> 16 & 255, code >> 8 & 255, code & 255, np.full_like(code, 255)], -1).astype(np.uint8)


def pixels(shown: Overlay) -> np.ndarray:
    """Decode the PNG to ``(y, x, 4)`` int."""
    return np.asarray(Image.open(io.BytesIO(shown.png))).astype(int)


def place(grid: GeoBox, row: Any, column: Any) -> Any:
    """Longitude and latitude of positions on the grid, by pyproj alone."""
    t = grid.affine
    transformer = Transformer.from_crs(str(grid.crs), "EPSG:4326", always_xy=True)
    return transformer.transform(t.a * column + t.b * row + t.c, t.d * column + t.e * row + t.f)


def on_png(shown: Overlay, lon: Any, lat: Any) -> np.ndarray:
    """Row and column in the PNG of places, as a web map puts them: linear in Mercator between the corners."""
    (left, bottom), (right, top) = TO_MERCATOR(*shown.bounds[:2]), TO_MERCATOR(*shown.bounds[2:])
    x, y = TO_MERCATOR(lon, lat)
    height, width = pixels(shown).shape[:2]
    return np.array([(top - y) / (top - bottom) * height, (x - left) / (right - left) * width])


@pytest.mark.parametrize("grid", [ROMANIA, BOREAS_LIKE], ids=["EPSG:3035 10 m", "EPSG:32626 30 m"])
def test_every_pixel_is_drawn_where_pyproj_says(grid: GeoBox) -> None:
    image = picture(grid)
    shown = overlay(image, grid)
    drawn = pixels(shown)
    for row, column in TRACED:
        row, column = row % grid.shape[0], column % grid.shape[1]
        expected = on_png(shown, *place(grid, row + 0.5, column + 0.5))
        here = (drawn[..., :3] == image[row, column, :3]).all(-1) & (drawn[..., 3] == 255)
        assert here.any(), (row, column)
        centre = np.argwhere(here).mean(0) + 0.5
        assert np.abs(centre - expected).max() < 1, (row, column)


@pytest.mark.parametrize("grid", [ROMANIA, BOREAS_LIKE])
def test_the_corners_enclose_the_image_and_nothing_more(grid: GeoBox) -> None:
    shown = overlay(picture(grid), grid)
    rows, columns = grid.shape
    k, zero = np.linspace(0, 1, 401), np.zeros(401)
    row = np.concatenate([zero, zero + rows, k * rows, k * rows])
    column = np.concatenate([k * columns, k * columns, zero, zero + columns])
    edge = on_png(shown, *place(grid, row, column))
    size = np.array(pixels(shown).shape[:2])
    pixel = (size / grid.shape).max()  # one pixel of the image, in pixels of the PNG
    assert (edge.min(1) >= 0).all() and (edge.max(1) <= size).all()
    assert (edge.min(1) < 2 * pixel).all() and (edge.max(1) > size - 2 * pixel).all()


def test_large_pixels_keep_their_shape() -> None:
    coarse = ROMANIA.zoom_out(10)
    image = picture(coarse)
    shown = overlay(image, coarse)
    drawn = pixels(shown)
    for row, column in [(0, 0), (4, 7), (9, 9)]:
        for r, c in [(0.1, 0.1), (0.1, 0.9), (0.9, 0.1), (0.9, 0.9)]:
            y, x = on_png(shown, *place(coarse, row + r, column + c))
            assert (drawn[int(y), int(x)] == image[row, column]).all(), (row, column, r, c)


def test_outside_the_image_it_is_transparent() -> None:
    drawn = pixels(overlay(picture(ROMANIA), ROMANIA))
    assert drawn[0, 0, 3] == 0  # the grid is turned against north in Romania
    share = (drawn[..., 3] > 0).mean()
    assert 0.5 < share < 0.9


def test_missing_pixels_stay_missing() -> None:
    image = picture(ROMANIA)
    image[20:30, 40:60, 3] = 0
    shown = overlay(image, ROMANIA)
    row, column = on_png(shown, *place(ROMANIA, 25, 50))
    assert pixels(shown)[int(row), int(column), 3] == 0
    row, column = on_png(shown, *place(ROMANIA, 25, 70))
    assert pixels(shown)[int(row), int(column), 3] == 255


@pytest.mark.parametrize(("side", "limit"), [(100, 1400), (640, 1400), (640, 200)])
def test_no_side_is_longer_than_asked(side: int, limit: int) -> None:
    grid = BOREAS_LIKE[:side, :side]
    assert max(pixels(overlay(picture(grid), grid, max_side=limit)).shape[:2]) <= limit


def test_a_large_image_is_averaged_and_missing_pixels_do_not_darken_it() -> None:
    grid = GeoBox((64, 64), Affine(30, 0, 0, 0, -30, 0), "EPSG:3857")
    image = np.zeros((64, 64, 4), np.uint8)
    image[::2] = (100, 40, 200, 255)
    image[1::2] = (200, 80, 100, 255)
    image[:32, 1::2] = 0  # black and transparent
    image[:8, :8] = 0
    drawn = pixels(overlay(image, grid, max_side=16))
    assert drawn.shape == (16, 16, 4)
    assert (drawn[:2, :2, 3] == 0).all()
    seen = drawn[..., 3] > 0
    assert seen.sum() == 16 * 16 - 4
    assert np.abs(drawn[seen][:, :3] - (150, 60, 150)).max() <= 1


def test_a_grid_without_crs_is_placed_at_zero_and_says_so() -> None:
    fine = GeoBox((6, 9), Affine.identity(), None)
    shown = overlay(picture(fine), fine)
    assert not shown.georeferenced
    assert overlay(picture(ROMANIA), ROMANIA).georeferenced
    assert np.allclose(shown.bounds, (0, -6 / 111_319.49, 9 / 111_319.49, 0), atol=1e-9)
    assert (pixels(shown) == picture(fine)).all()  # the first row stays on top


def test_fine_and_coarse_grids_without_crs_lie_on_each_other() -> None:
    fine = GeoBox((64, 96), Affine.identity(), None)
    coarse = fine.zoom_out(16)
    pair = overlay(picture(fine), fine), overlay(picture(coarse), coarse)
    assert np.allclose(pair[0].bounds, pair[1].bounds)


@pytest.mark.parametrize("grid", [ROMANIA, BOREAS_LIKE])
def test_a_place_is_found_back_as_its_pixel(grid: GeoBox) -> None:
    for row, column in TRACED:
        row, column = row % grid.shape[0], column % grid.shape[1]
        assert locate(grid, *place(grid, row + 0.5, column + 0.5)) == (row, column)
    assert locate(grid, *place(grid, -0.5, 5)) is None
    assert locate(grid, *place(grid, 5, grid.shape[1] + 0.5)) is None


def test_a_place_on_a_grid_without_crs_is_found_back() -> None:
    grid = GeoBox((6, 9), Affine.identity(), None)
    degree = 1 / 111_319.49  # of one Mercator metre
    assert locate(grid, 7.5 * degree, -2.5 * degree) == (2, 7)
    assert locate(grid, 7.5 * degree, 2.5 * degree) is None


@pytest.mark.parametrize("bad", [np.zeros((100, 100, 3), np.uint8), np.zeros((100, 99, 4), np.uint8),
                                 np.zeros((100, 100, 4), np.float32)])  # fmt: skip
def test_an_image_that_does_not_fit_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"wants a uint8 image of shape \(100, 100, 4\)"):
        overlay(bad, ROMANIA)
