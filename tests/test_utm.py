"""The grid of an area anywhere on Earth."""

import math

import numpy as np
import pytest
from affine import Affine
from hypothesis import assume, given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from odc.geo.geom import polygon
from pyproj import Proj, Transformer

from fusion import FusionError
from fusion._utm import DISTORTION, SLACK, utm_grid

LANDSAT = {"resolution": 30, "ratio": 16, "anchor": 15.0}
SENTINEL = {"resolution": 10, "ratio": 30}
KINDS = st.sampled_from([LANDSAT, SENTINEL, {"resolution": 20, "ratio": 23}, {"resolution": 30, "ratio": 1}])


def rectangle(west, south, east, north):
    return ((west, south), (east, south), (east, north), (west, north))


@st.composite
def rings(draw, south=-79.5, north=83.5, widest=1.5):
    """Triangles and quadrangles of all sizes from metres up."""
    lat = draw(st.floats(south, north - 0.1))
    lon = draw(st.floats(-180, 178.4))
    side = st.floats(-4.5, math.log10(widest)).map(lambda power: 10**power)
    width, height = draw(side), min(draw(side), north - lat)
    corners = rectangle(lon, lat, min(lon + width, 180), lat + height)
    return corners if draw(st.booleans()) else corners[:3]


def reached(ring, box, ratio):
    """Least and greatest column and row, in coarse pixels, that the ring reaches, by another library's densifying."""
    outline = polygon([*ring, ring[0]], "EPSG:4326").segmented(0.003).to_crs(str(box.crs))
    points = np.array(outline.exterior.coords)
    x, y = np.array([~box.affine @ tuple(point[:2]) for point in points]).T / ratio
    return x.min(), x.max(), y.min(), y.max()


def on_utm(epsg, *points):
    to_degrees = Transformer.from_crs(epsg, 4326, always_xy=True)
    return tuple(to_degrees.transform(*point) for point in points)


@given(rings(), KINDS)
def test_the_grid_covers_the_ring_and_no_row_or_column_is_idle(ring, kind):
    box = utm_grid(ring, **kind)
    ratio, near = kind["ratio"], 0.01
    rows, columns = (length // ratio for length in box.shape)
    assert rows * ratio == box.shape[0] > 0 and columns * ratio == box.shape[1] > 0
    left, right, top, bottom = reached(ring, box, ratio)
    for low, high, count in ((left, right, columns), (top, bottom, rows)):
        assert low > -SLACK - near and high < count + SLACK + near
        if count > 1:
            assert low < 1 - SLACK + near and high > count - 1 + SLACK - near


@given(rings(), KINDS)
def test_fine_and_coarse_edges_lie_on_the_lattice(ring, kind):
    box = utm_grid(ring, **kind)
    resolution, anchor = kind["resolution"], kind.get("anchor", 0)
    assert box.affine.almost_equals(Affine(resolution, 0, box.affine.c, 0, -resolution, box.affine.f), 1e-12)
    for edge in (box.affine.c, box.affine.f):
        assert (edge - anchor) % (resolution * kind["ratio"]) == 0


def test_edges_are_straight_in_degrees_and_bend_on_the_map():
    # The parallel of 60 N lies 945 m further south in the zone's middle than 1.5 degrees beside it.
    box = utm_grid(rectangle(13.5, 60, 16.5, 60.5), **LANDSAT)
    _, lowest = Transformer.from_crs(4326, 32633, always_xy=True).transform(15, 60)
    bottom = box.affine.f - 30 * box.shape[0]
    assert bottom <= lowest + SLACK * 480 and lowest < bottom + 480


@given(st.floats(0, 0.4), st.floats(0, 0.4), KINDS)
def test_neighbouring_areas_share_coarse_pixels(dx, dy, kind):
    one, other = (utm_grid(rectangle(14 + x, 46 + y, 14.3 + x, 46.2 + y), **kind) for x, y in ((0, 0), (dx, dy)))
    column, row = ~one.affine @ (other.affine.c, other.affine.f)
    assert one.crs == other.crs and column % kind["ratio"] == 0 and row % kind["ratio"] == 0


@given(
    st.integers(-600, 600), st.integers(-19_000, 19_000), st.integers(1, 15), st.integers(1, 15), KINDS,
    st.lists(st.floats(0.1, 0.9), min_size=4, max_size=4),
)  # fmt: skip
def test_a_ring_moved_by_one_coarse_pixel_moves_the_grid_by_one(column, row, columns, rows, kind, parts):
    # A ring drawn on known pixels, from somewhere in the first to somewhere in the last.
    resolution, ratio = kind["resolution"], kind["ratio"]
    anchor, side = kind.get("anchor", 0.0), resolution * ratio
    epsg = 32633
    middle = round(500_000 / side)
    left, bottom, right, top = parts
    assume(columns > 1 or left < right - 0.05)
    assume(rows > 1 or bottom < top - 0.05)

    def drawn(dx, dy):
        west, south = column + middle + dx, row // 4 + 8000 + dy
        x = [anchor + side * (west + part) for part in (left, columns - 1 + right)]
        y = [anchor + side * (south + part) for part in (bottom, rows - 1 + top)]
        ring = on_utm(epsg, (x[0], y[0]), (x[1], y[0]), (x[1], y[1]), (x[0], y[1]))
        corner = Affine(resolution, 0, anchor + west * side, 0, -resolution, anchor + (south + rows) * side)
        return ring, GeoBox((rows * ratio, columns * ratio), corner, epsg)

    for dx, dy in ((0, 0), (1, 0), (0, 1), (-1, -1)):
        ring, expected = drawn(dx, dy)
        assert utm_grid(ring, **kind, crs=f"EPSG:{epsg}") == expected


@pytest.mark.parametrize("slip", [-0.019, 0.0, 0.019])
def test_an_outline_drawn_along_an_edge_takes_in_no_further_pixel(slip):
    side, (west, south) = 480, (500_000 // 480 * 480 + 15, 5_000_160 + 15)
    low, high = -slip * side, (2 + slip) * side
    ring = on_utm(32633, *((west + x, south + y) for x, y in ((low, low), (high, low), (high, high), (low, high))))
    box = utm_grid(ring, **LANDSAT)
    assert box.shape == (32, 32) and (box.affine.c, box.affine.f) == (west, south + 2 * side)


def test_landsat_pixels_are_taken_as_they_are():
    # A Collection 2 scene's grid: pixels' middles at multiples of 30 m from the equator, south of it as well.
    for lat, top in ((46.2, 5_216_415.0), (-33.0, -3_534_285.0)):
        scene = GeoBox((7_900, 7_800), Affine(30, 0, 345_285.0, 0, -30, top), "EPSG:32633")
        box = utm_grid(rectangle(14.0, lat - 0.1, 14.2, lat), **LANDSAT)
        between = ~scene.affine @ box.affine
        assert box.crs == scene.crs
        assert between.almost_equals(Affine.translation(round(between.c), round(between.f)), 1e-9)
        assert 0 < between.c < 7_800 and 0 < between.f < 7_900


@pytest.mark.parametrize("resolution", [10, 20, 60])
def test_sentinel_2_pixels_are_taken_as_they_are(resolution):
    # Tiles 33TVM and 33JXG-like: 109 800 m wide, corners at multiples of 60 m, false northing in the south.
    for lat, epsg, top in ((46.2, 32633, 5_200_020.0), (-33.0, 32733, 6_400_000.0)):
        tile = GeoBox((109_800 // resolution,) * 2, Affine(resolution, 0, 399_960.0, 0, -resolution, top), epsg)
        box = utm_grid(rectangle(14.2, lat - 0.1, 14.4, lat), resolution, 3)
        column, row = ~tile.affine @ (box.affine.c, box.affine.f)
        assert box.crs == tile.crs and column % 1 == 0
        assert row % 1 == 0 or resolution == 60  # 10 000 km are no multiple of 60 m


@pytest.mark.parametrize(
    ("lon", "lat", "sentinel", "landsat"),
    [
        (-180, 10, 32601, 32601), (-174.01, 10, 32601, 32601), (-173.99, 10, 32602, 32602), (0.01, 51, 32631, 32631),
        (-0.02, 51, 32630, 32630), (179.9, 10, 32660, 32660), (14.5, 46, 32633, 32633), (14.5, -46, 32733, 32633),
        (0.01, -0.02, 32731, 32631), (5.3, 60.4, 32632, 32631), (2.9, 60.4, 32631, 32631), (5.3, 55.9, 32631, 32631),
        (5.3, 64.1, 32631, 32631), (11.9, 60.4, 32632, 32632), (8.9, 78, 32631, 32632), (9.1, 78, 32633, 32632),
        (20.9, 78, 32633, 32634), (21.1, 78, 32635, 32634), (32.9, 78, 32635, 32636), (33.1, 78, 32637, 32636),
        (41.9, 78, 32637, 32637), (42.1, 78, 32638, 32638), (-3, 78, 32630, 32630),
    ],
)  # fmt: skip
def test_zones(lon, lat, sentinel, landsat):
    ring = rectangle(lon, lat, lon + 0.005, lat + 0.005)
    assert utm_grid(ring, **SENTINEL).crs.to_epsg() == sentinel
    assert utm_grid(ring, **LANDSAT).crs.to_epsg() == landsat


def test_an_area_across_a_zone_edge_has_the_zone_of_its_middle():
    west, east = rectangle(11.7, 46, 12.2, 46.1), rectangle(11.8, 46, 12.3, 46.1)
    assert utm_grid(west, **LANDSAT).crs.to_epsg() == 32632 and utm_grid(east, **LANDSAT).crs.to_epsg() == 32633


@pytest.mark.parametrize(("shift", "epsg"), [(0.01, 32631), (-0.01, 32731)])
def test_an_area_across_the_equator_is_of_one_piece(shift, epsg):
    box = utm_grid(rectangle(3, -0.1 + shift, 3.1, 0.1 + shift), **SENTINEL)
    equator = 0 if epsg == 32631 else 10_000_000
    bottom = box.affine.f - 10 * box.shape[0]
    assert box.crs.to_epsg() == epsg and bottom < equator < box.affine.f and 73 <= box.shape[0] / 30 <= 76


@given(st.floats(-179.9, 179.9), st.floats(-79, 83), KINDS)
def test_a_tiny_area_has_one_coarse_pixel_or_those_it_touches(lon, lat, kind):
    box = utm_grid(rectangle(lon, lat, lon + 2e-6, lat + 2e-6), **kind)
    assert all(length // kind["ratio"] in (1, 2) for length in box.shape)


def test_another_crs_may_be_given():
    box = utm_grid(rectangle(14, 46, 14.2, 46.1), **LANDSAT, crs="EPSG:3035")
    assert box.crs.to_epsg() == 3035 and box.affine.c % 480 == 15
    zone = utm_grid(rectangle(14, 46, 14.2, 46.1), **LANDSAT, crs="EPSG:32632")
    assert zone.crs.to_epsg() == 32632 and zone.affine.c > 800_000
    pole = utm_grid(rectangle(-180, 88, 0, 90), 250, 2, crs="EPSG:3413")
    assert pole.crs.to_epsg() == 3413 and min(pole.shape) * 250 > 200_000


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:2263", "EPSG:0", "no CRS", ""])
def test_a_crs_that_is_none_or_not_in_metres_is_refused(crs):
    with pytest.raises(FusionError, match="A grid wants a .*CRS .* got .*: give"):
        utm_grid(rectangle(-74, 40.6, -73.9, 40.7), **LANDSAT, crs=crs)


@pytest.mark.parametrize(
    "ring",
    [
        rectangle(179.5, 10, -179.5, 11),
        rectangle(-179.5, 10, 179.5, 11),
        ((179, 10), (179.9, 10), (-179.9, 10.5), (179, 11)),
    ],
)
def test_an_area_across_the_antimeridian_is_refused(ring):
    for crs in (None, "EPSG:32660"):
        with pytest.raises(FusionError, match="antimeridian .* draw one on each side"):
            utm_grid(ring, **LANDSAT, crs=crs)


def test_an_area_up_to_the_antimeridian_has_a_grid():
    assert utm_grid(rectangle(179.5, 10, 180, 11), **LANDSAT).crs.to_epsg() == 32660
    assert utm_grid(rectangle(-180, 10, -179.5, 11), **LANDSAT).crs.to_epsg() == 32601
    assert utm_grid(((180, 10), (180, 10.1), (180, 10.2)), **LANDSAT).crs.to_epsg() == 32660


@pytest.mark.parametrize(
    ("south", "north", "words"),
    [(83.9, 84.01, "84.01 N: draw inside"), (-80.01, -79, "80.01 S: draw inside"), (-85, 86, "UTM covers")],
)
def test_beyond_84_north_and_80_south_there_is_no_utm(south, north, words):
    with pytest.raises(FusionError, match=words):
        utm_grid(rectangle(10, south, 11, north), **SENTINEL)


def test_up_to_84_north_and_80_south_there_is():
    assert utm_grid(rectangle(10, 83.9, 10.2, 84), **SENTINEL).crs.to_epsg() == 32633
    assert utm_grid(rectangle(10, -80, 10.2, -79.9), **SENTINEL).crs.to_epsg() == 32732


@pytest.mark.parametrize(
    "ring",
    [
        rectangle(8.9, 0, 21.1, 1),  # 6.1 degrees to either side of 15 E
        rectangle(-90, 40, 90, 41),
        rectangle(-180, -60, 0, 60),
        ((1, -60), (9.2, -60), (9.2, 60), (1, 60)),  # its corners are near in metres; at the equator it is too far
    ],
)
def test_an_area_too_far_from_the_zones_middle_is_refused(ring):
    with pytest.raises(FusionError, match="lengths are off by 0.5% at most.* got one that reaches .* narrower"):
        utm_grid(ring, 500, 1)


@pytest.mark.parametrize("ring", [rectangle(9.1, 0, 20.9, 1), rectangle(3.5, 60, 26.5, 61)])
def test_up_to_half_a_percent_it_is_not(ring):
    box = utm_grid(ring, 500, 1)
    assert box.crs.to_epsg() == 32633
    lon, lat = np.array(ring, float).T
    assert np.abs(Proj(str(box.crs)).get_factors(lon, lat).meridional_scale - 1).max() == pytest.approx(DISTORTION, 0.1)


def test_an_areas_size_is_not_its_business():
    assert math.prod(utm_grid(rectangle(12, -40, 18, 40), 10, 30).shape) > 1e10


@pytest.mark.parametrize("wrong", [{"resolution": 0}, {"resolution": math.nan}, {"ratio": 0}, {"anchor": math.inf}])
def test_a_grid_without_pixels_is_a_programmers_error(wrong):
    with pytest.raises(ValueError, match="wanted pixels"):
        utm_grid(rectangle(14, 46, 14.1, 46.1), **{**LANDSAT, **wrong})
