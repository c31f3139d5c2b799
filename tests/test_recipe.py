"""Recipe: JSON and back, every broken part named, areas and grids, and a run from recipe to file."""

import json
import math
from copy import deepcopy
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from fusion import PRODUCTS, FusionError, Item, Recipe, Scene, Stack, fuse, load, methods, run, sources
from fusion.area import MAX_FINE_PIXELS, MAX_VERTICES, check_ring, clip, extent, geometry, rectangle, ring_of
from fusion.area import grid as grid_of
from fusion.recipe import MAX_GEOJSON, MAX_JSON, READERS, READING, _readers, item_of, parse_json
from landscapes import DAY, grid

FINE, COARSE = PRODUCTS["lab", "lab-fine"], PRODUCTS["lab", "lab-coarse"]
LAB = extent(FINE)
WEST, NORTH = min(x for x, _ in LAB), max(y for _, y in LAB)
EAST, SOUTH = max(x for x, _ in LAB), min(y for _, y in LAB)


def at(u: float, v: float) -> tuple[float, float]:
    """Longitude and latitude `u` of the way from west to east and `v` from south to north through the lab."""
    return WEST + u * (EAST - WEST), SOUTH + v * (NORTH - SOUTH)


AREA = (at(0.2, 0.3), at(0.5, 0.25), at(0.45, 0.6))  # a triangle


def items() -> dict[str, list[Item]]:
    return {role: sources.get("lab").search(f"lab-{role}") for role in ("fine", "coarse")}


def make(area=AREA, method=None, bands=("red", "nir"), count=2) -> Recipe:
    there = items()
    fine, coarse = there["fine"], {item.day: item for item in there["coarse"]}
    box, ratio = grid_of(area, FINE, COARSE)
    pairs = tuple((coarse[item.day], item) for item in fine[2 : 2 + count])
    target = next(item for item in there["coarse"] if item.day > fine[1 + count].day)
    return Recipe(area, box, ratio, bands, pairs, target, method or methods.get("starfm")(window=5))


RECIPE = make()


def test_json_gives_back_the_recipe():
    again = Recipe.from_json(RECIPE.to_json())
    assert again == RECIPE and hash(again) == hash(RECIPE)
    assert again.to_json() == RECIPE.to_json()


@given(
    corners=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=40, unique=True),
    scale=st.floats(0.1, 1e4),
    nudge=st.floats(-1e5, 1e5),
)
@settings(max_examples=40)
def test_awkward_floats_and_polygons_survive_json(corners, scale, nudge):
    middle = (sum(x for x, _ in corners) / len(corners), sum(y for _, y in corners) / len(corners))
    ring = tuple(
        sorted((at(*c) for c in corners), key=lambda p: math.atan2(p[1] - at(*middle)[1], p[0] - at(*middle)[0]))
    )
    try:
        check_ring(ring)
    except FusionError:
        return
    box = GeoBox((32, 48), Affine(30 + nudge / 1e6, 0, nudge, 0, -30 - nudge / 1e6, 0.1 + nudge), "EPSG:32626")
    recipe = replace(RECIPE, area=ring, geobox=box, method=methods.get("starfm")(scale=scale))
    again = Recipe.from_json(recipe.to_json())
    assert again == recipe and again.area == ring and again.geobox.affine == box.affine


@pytest.mark.parametrize("crs", ["EPSG:4326", "+proj=laea +lat_0=52 +lon_0=11 +datum=WGS84 +units=m", None])
def test_any_reference_system_survives_json(crs):
    recipe = replace(RECIPE, geobox=grid(32, 48, crs=crs))
    assert Recipe.from_json(recipe.to_json()).geobox == recipe.geobox


def test_every_method_survives_json():
    for name in methods.names():
        recipe = replace(RECIPE, method=methods.get(name)())
        assert Recipe.from_json(recipe.to_json()).method == recipe.method


BODY = json.loads(RECIPE.to_json())
HUGE = 10**400
MUTATIONS = [
    # path, value (or the way to remove it), what the message must say
    (("format",), 2, "format 1, got 2"),
    (("format",), None, "format 1"),
    (("area",), "everywhere", "'area' wants dict, got str"),
    (("area",), {}, "one Polygon"),
    (("area", "type"), "MultiPolygon", "one Polygon.*'MultiPolygon'"),
    (("area", "coordinates"), [], "one Polygon without holes"),
    (("area", "coordinates"), [[[0, 0], [1, 1]]], "3 to 500 corners, got 2"),
    (("area", "coordinates"), [[[0, 0], [1, 1], [1, 0], [0, 1]]], "crosses itself"),
    (("area", "coordinates"), [[[0, 0], [1, 1], [2, 2]]], "no surface"),
    (("area", "coordinates"), [[[0, 0], [200, 0], [0, 1]]], "longitude 200.*not on the globe"),
    (("area", "coordinates"), [[[0, 0], [1, -91], [0, 1]]], "latitude -91.*not on the globe"),
    (("area", "coordinates"), [[[0, 0], [1, math.nan], [0, 1]]], "corners want"),
    (("area", "coordinates"), [[[0, 0], [1, math.inf], [0, 1]]], "corners want"),
    (("area", "coordinates"), [[[0, 0], [1, HUGE], [0, 1]]], "corners want"),
    (("area", "coordinates"), [[[0, 0], [1, "1"], [0, 1]]], "corners want"),
    (("area", "coordinates"), [[[0, 0], "12", [0, 1]]], "corners want"),
    (("area", "coordinates"), [[[0, 0], [1], [0, 1]]], "corners want"),
    (("area", "coordinates"), [[[0, 0], {}, None]], "corners want"),
    (
        ("area", "coordinates"),
        [[[i / 1e3, (i / 1e3) ** 2] for i in range(MAX_VERTICES + 2)]],
        "502 corners, at most 500",
    ),
    (("grid",), [], "'grid' wants dict, got list"),
    (("grid", "crs"), "EPSG:99999", "CRS such as EPSG:32633, got 'EPSG:99999'"),
    (("grid", "crs"), "the moon", "CRS such as EPSG:32633"),
    (("grid", "crs"), 32633, "CRS such as EPSG:32633"),
    (("grid", "crs"), {"a": 1}, "CRS such as EPSG:32633"),
    (("grid", "crs"), ["EPSG:4326"], "CRS such as EPSG:32633"),
    (("grid", "transform"), [1, 2, 3], "6 transform numbers"),
    (("grid", "transform"), [30, 0, 0, 0, "-30", 0], "6 transform numbers"),
    (("grid", "transform"), [30, 0, HUGE, 0, -30, 0], "6 transform numbers"),
    (("grid", "transform"), [30, 0, math.nan, 0, -30, 0], "6 transform numbers"),
    (("grid", "transform"), [0, 0, 0, 0, 0, 0], "6 transform numbers"),
    (("grid", "transform"), [1e308, 0, 0, 0, -1e308, 0], "6 transform numbers"),
    (("grid", "transform"), [30, 0, 1e308, 0, -30, 0], "6 transform numbers"),
    (("grid", "transform"), [1e-100, 0, 0, 0, -1e-100, 0], "6 transform numbers"),
    (("grid", "shape"), [16], "shape"),
    (("grid", "shape"), [16, 16.0], "shape"),
    (("grid", "shape"), [True, True], "shape"),
    (("grid", "shape"), [0, 16], "shape"),
    (("grid", "shape"), [-16, 16], "shape"),
    (("grid", "shape"), [HUGE, 16], "shape"),
    (("grid", "shape"), [16_000, 16_000], "256 million fine pixels; at most 16 million"),
    (("grid", "shape"), [17, 16], "17 x 16 fine pixels wants whole coarse pixels of ratio 16"),
    (("grid", "ratio"), 8, "have the ratio 16, got a recipe of ratio 8"),
    (("grid", "ratio"), 0, "ratio 0"),
    (("grid", "ratio"), -16, "ratio -16"),
    (("grid", "ratio"), 16.0, "'ratio' wants int, got float"),
    (("grid", "ratio"), True, "'ratio' wants int, got bool"),
    (("grid", "ratio"), HUGE, "ratio"),
    (("bands",), [], "one band"),
    (("bands",), "red", "'bands' wants list"),
    (("bands",), ["red", "red"], "band.*red"),
    (("bands",), ["red", 3], "band.*3"),
    (("bands",), ["red", "infrared"], "band.*infrared"),
    (("bands",), [["red"]], "band"),
    (("pairs",), [], "at least one pair"),
    (("pairs",), {}, "'pairs' wants list"),
    (("pairs",), [None], "'coarse' wants dict"),
    (("pairs", 0, "coarse"), 7, "'coarse' wants dict, got int"),
    (("pairs", 0, "fine"), None, "'fine' wants dict"),
    (("pairs", 0, "fine", "day"), "2021-02-30", "day wants YYYY-MM-DD, got '2021-02-30'"),
    (("pairs", 0, "fine", "day"), 20210230, "'day' wants str, got int"),
    (("pairs", 0, "fine", "day"), None, "'day' wants str, got NoneType"),
    (("pairs", 0, "fine", "day"), "1999-01-01", "pair wants one day, got coarse .* and fine 1999-01-01"),
    (("pairs", 0, "fine", "source"), "os", "no source 'os'"),
    (("pairs", 0, "fine", "source"), "__init__", "no source"),
    (("pairs", 0, "fine", "product"), "spot", "'lab' has no product 'spot'"),
    (("pairs", 0, "fine", "id"), "../../etc/passwd", "id wants"),
    (("pairs", 0, "fine", "id"), "", "id wants"),
    (("pairs", 0, "fine", "id"), "x" * 601, "id wants"),
    (("pairs", 0, "fine", "product"), "lab-coarse", "fine.*lab-coarse"),
    (("pairs", 0, "coarse", "product"), "lab-fine", "coarse.*lab-fine"),
    (("target",), None, "'target' wants dict"),
    (("target", "product"), "lab-fine", "coarse.*lab-fine"),
    (("target", "day"), RECIPE.pairs[0][0].day.isoformat(), "is also the day of a pair"),
    (("target", "id"), 5, "'id' wants str"),
    (("method",), None, "'method' wants dict"),
    (("method", "name"), "starfn", "Did you mean 'starfm'"),
    (("method", "name"), "_windows", "no method '_windows'"),
    (("method", "parameters"), [], "'parameters' wants dict"),
    (("method", "parameters", "windw"), 5, "no parameter 'windw'"),
    (("method", "parameters", "window"), 4, "window .* wants a whole number that is odd"),
    (("method", "parameters", "window"), HUGE + 1, "window"),
    (("method", "parameters", "scale"), HUGE, "scale"),
    (("method", "parameters", "scale"), "far", "scale .* got 'far'"),
    (("method", "parameters", "combine"), ["log"], "combine"),
]


def mutated(path, value) -> str:
    body = deepcopy(BODY)
    place = body
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return json.dumps(body)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    MUTATIONS,
    ids=[f"{'.'.join(map(str, p))}-{str(v)[:20]}" for p, v, _ in MUTATIONS],
)
def test_a_broken_part_is_named(path, value, message):
    with pytest.raises(FusionError, match=f"(?s){message}"):
        Recipe.from_json(mutated(path, value))


def paths(body, here=()):
    """All places in a JSON value."""
    inside = body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ()
    for key, value in inside:
        yield (*here, key)
        yield from paths(value, (*here, key))


def required(path) -> bool:
    return len(path) < 3 and path[:2] != ("method", "parameters") and path != ("grid", "crs")


@pytest.mark.parametrize(
    "path", [p for p in paths(BODY) if isinstance(p[-1], str)], ids=lambda p: ".".join(map(str, p))
)
def test_a_part_that_is_not_there_is_named_or_has_a_default(path):
    body = deepcopy(BODY)
    place = body
    for step in path[:-1]:
        place = place[step]
    del place[path[-1]]
    if path[:2] == ("method", "parameters") and len(path) == 3:
        Recipe.from_json(json.dumps(body))  # a parameter has a default
    elif path == ("grid", "crs"):
        assert Recipe.from_json(json.dumps(body)).geobox.crs is None
    else:
        with pytest.raises(FusionError):
            Recipe.from_json(json.dumps(body))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "wants JSON"),
        ("{", "wants JSON"),
        ("[]", "JSON object, got list"),
        ("null", "JSON object, got NoneType"),
        ("[" * 60_000, "wants JSON"),
        (" " * (MAX_JSON + 1), "at most 64,000 characters, got 64,001"),
        (f'{{"format": {"9" * 5000}}}', "wants JSON"),
    ],
)
def test_text_that_is_no_recipe_is_refused(text, message):
    with pytest.raises(FusionError, match=message):
        Recipe.from_json(text)


def test_a_message_says_what_the_text_was_to_be():
    with pytest.raises(FusionError, match=r"^A recipe wants JSON"):
        parse_json("{")
    with pytest.raises(FusionError, match=r"^The link wants a JSON object, got list"):
        parse_json("[]", "link")
    with pytest.raises(FusionError, match=r"^The GeoJSON file has at most 10 characters, got 11"):
        parse_json(" " * 11, "GeoJSON file", most=10)
    for text in ("9" * 5000, "[" * 60_000):
        with pytest.raises(FusionError, match=r"^The GeoJSON file wants JSON"):
            parse_json(text, "GeoJSON file", most=MAX_GEOJSON)
    assert parse_json(f'{{"a": "{" " * MAX_JSON}"}}', "GeoJSON file", most=MAX_GEOJSON)["a"].isspace()


def test_the_order_of_the_pairs_changes_no_bit():
    turned_round = replace(RECIPE, pairs=RECIPE.pairs[::-1])
    np.testing.assert_array_equal(run(turned_round).data, run(RECIPE).data)


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([HUGE, -HUGE, 2**63, 1e308])
    | st.floats()
    | st.text(max_size=8)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(list(paths(BODY))), values)
@settings(max_examples=300)
def test_whatever_stands_in_a_recipe_only_a_fusion_error_comes_out(path, value):
    try:
        recipe = Recipe.from_json(mutated(path, value))
    except FusionError as error:
        assert len(str(error)) > 20
    else:
        assert Recipe.from_json(recipe.to_json()) == recipe


@given(values)
@settings(max_examples=100)
def test_whatever_geojson_comes_only_a_fusion_error_comes_out(value):
    for shape in (value, {"type": "Polygon", "coordinates": value}, {"type": "Feature", "geometry": value}):
        try:
            ring_of(shape)
        except FusionError:
            continue


def test_an_item_of_a_product_that_is_not_here_is_refused_with_its_day():
    body = {"source": "local", "product": "0" * 24 + ".fine", "id": "2001-05-24", "day": "2001-05-24"}
    with pytest.raises(FusionError, match=r"key 0{24}, .* The recipe wants the image of 2001-05-24\."):
        item_of(body)


def test_an_item_that_is_no_object_is_refused():
    with pytest.raises(FusionError, match="'day' wants str"):
        item_of(None)


def test_geojson_of_usual_kinds_is_read():
    polygon = {"type": "Polygon", "coordinates": [[[1, 2, 99.5], [3, 2, 99.5], [3, 5, 99.5], [1, 2, 99.5]]]}
    feature = {"type": "Feature", "properties": {"name": "field"}, "geometry": polygon}
    collection = {"type": "FeatureCollection", "features": [feature]}
    for shape in (polygon, feature, collection):
        assert ring_of(shape) == ((1, 2), (3, 2), (3, 5))
    with pytest.raises(FusionError, match="one feature, got 2"):
        ring_of({"type": "FeatureCollection", "features": [feature, feature]})
    with pytest.raises(FusionError, match="without holes"):
        ring_of({"type": "Polygon", "coordinates": [polygon["coordinates"][0]] * 2})
    with pytest.raises(FusionError, match="'Point'"):
        ring_of({"type": "Point", "coordinates": [1, 2]})


def test_a_recipe_refuses_what_cannot_be_run():
    with pytest.raises(FusionError, match="pair wants one day"):
        replace(RECIPE, pairs=((RECIPE.pairs[0][0], RECIPE.pairs[1][1]),))
    with pytest.raises(FusionError, match="at least one pair"):
        replace(RECIPE, pairs=())
    with pytest.raises(FusionError, match=r"pairs repeat a day \(20.*, 20.*\): give each day once"):
        replace(RECIPE, pairs=(RECIPE.pairs[0], RECIPE.pairs[0]))
    with pytest.raises(FusionError, match="not on the globe"):
        replace(RECIPE, area=((0, 0), (181, 0), (0, 1)))


@given(st.tuples(*[st.floats(0, 1)] * 4))
@settings(max_examples=60)
def test_the_grid_holds_the_area_in_whole_coarse_pixels(corners):
    u0, u1, v0, v1 = *sorted(corners[:2]), *sorted(corners[2:])
    if u1 - u0 < 1e-3 or v1 - v0 < 1e-3:
        return
    area = rectangle(*at(u0, v0), *at(u1, v1))
    box, ratio = grid_of(area, FINE, COARSE)
    assert ratio == 16 and box.shape[0] % 16 == 0 and box.shape[1] % 16 == 0
    column, row = ~FINE.geobox.affine @ (box.affine.c, box.affine.f)
    assert round(column, 6) % 16 == 0 and round(row, 6) % 16 == 0  # on the coarse pixels of the source
    outline, whole = geometry(area).to_crs("EPSG:32626").boundingbox, FINE.geobox.boundingbox
    slack = 0.021 * 480
    have = box.boundingbox
    assert have.left <= max(outline.left, whole.left) + slack and have.right >= min(outline.right, whole.right) - slack
    assert have.bottom <= max(outline.bottom, whole.bottom) + slack and have.top >= min(outline.top, whole.top) - slack
    assert have.left > outline.left - 480 - slack and have.right < outline.right + 480 + slack  # and no more


def test_an_outline_along_pixel_edges_takes_in_no_further_pixels():
    part = FINE.geobox[64:96, 160:320]
    corners = tuple((float(x), float(y)) for x, y in part.extent.to_crs("EPSG:4326").exterior.points[:-1])
    assert grid_of(corners, FINE, COARSE)[0] == part


@given(st.floats(-180, 179), st.floats(-90, 89), st.floats(0.001, 1), st.floats(0.001, 1))
@settings(max_examples=100)
def test_an_area_anywhere_on_the_globe_has_a_grid_or_is_refused(west, south, width, height):
    area = rectangle(west, south, west + width, south + height)
    try:
        box, _ = grid_of(area, FINE, COARSE)
    except FusionError as error:
        assert "lies outside" in str(error) or "no surface" in str(error)
    else:
        assert not (geometry(area) & FINE.geobox.geographic_extent).is_empty and box.shape[0] > 0


@pytest.mark.parametrize(
    "area", [rectangle(-180, -90, 180, 90), rectangle(100, -90, 101, -89), rectangle(26, 0, 27, 1)]
)
def test_the_ends_of_the_globe_are_no_crash(area):
    try:
        grid_of(area, FINE, COARSE)
    except FusionError as error:
        assert "outside" in str(error)


def test_an_area_outside_says_what_is_covered():
    with pytest.raises(
        FusionError, match=r"10.000 to 11.000 E, 50.000 to 51.000 N.*lies outside Landscape lab.*covers"
    ):
        grid_of(rectangle(10, 50, 11, 51), FINE, COARSE)


def test_an_area_too_large_is_refused_with_the_numbers():
    wide = replace(FINE, geobox=GeoBox((8000, 8000), FINE.geobox.affine, "EPSG:32626"))
    coarse = replace(COARSE, geobox=wide.geobox.zoom_out(16))
    assert MAX_FINE_PIXELS == 16_000_000
    with pytest.raises(FusionError, match="64 million fine pixels; at most 16 million"):
        grid_of(extent(wide), wide, coarse)


def test_a_product_without_a_grid_is_refused():
    with pytest.raises(FusionError, match="30 m .* the world: choose a fine product of that place"):
        grid_of(AREA, replace(FINE, geobox=None), COARSE)


def scene_of_ones(geobox: GeoBox) -> Scene:
    return Scene(np.ones((2, *geobox.shape), np.float32), geobox, ("red", "nir"), DAY)


def test_outside_the_area_there_is_nothing():
    clipped = clip(scene_of_ones(RECIPE.geobox), AREA)
    shape = geometry(AREA).to_crs("EPSG:32626")
    kept = np.isfinite(clipped.data).all(axis=0)
    assert clipped.data[:, kept].min() == 1 and 0.4 < kept.mean() < 0.7  # a triangle in its bounding box
    share = kept.sum() * 900 / shape.area
    assert 1.01 < share < 1.05  # a pixel that the outline touches stays
    y, x = (np.array(np.nonzero(kept)) + 0.5).mean(axis=1)
    east, north = RECIPE.geobox.affine @ (x, y)
    assert math.hypot(east - shape.centroid.coords[0][0], north - shape.centroid.coords[0][1]) < 30  # no axis swapped


def test_an_area_as_large_as_the_grid_clips_nothing():
    whole = scene_of_ones(FINE.geobox[0:32, 0:48])
    assert clip(whole, rectangle(WEST - 1, SOUTH - 1, EAST + 1, NORTH + 1)).data is whole.data
    bare = scene_of_ones(grid(32, 48, crs=None))
    assert clip(bare, extent(replace(FINE, geobox=bare.geobox))) is bare  # on the plane that stands for its place


def test_tags_say_how_the_file_was_made_and_no_path():
    tags = RECIPE.tags()
    assert Recipe.from_json(tags["FUSION_RECIPE"]) == RECIPE
    assert "STARFM" in tags["FUSION_METHOD"] and "doi:10.1109/TGRS.2006.872081" in tags["FUSION_METHOD"]
    assert "synthetic" in tags["FUSION_DATA"] and "Meantime 0." in tags["FUSION_SOFTWARE"]
    text = json.dumps(tags)
    assert not any(f'"{folder}' in text or f" {folder}" in text for folder in ("/home", "/root", "/tmp", "C:\\\\"))
    assert str(rasterio.__path__[0]) not in text


def test_loading_gives_the_stack_of_the_recipe():
    stack = load(RECIPE)
    assert isinstance(stack, Stack)
    assert (stack.geobox, stack.ratio, stack.bands, stack.day) == (
        RECIPE.geobox,
        16,
        ("red", "nir"),
        RECIPE.target.day,
    )
    assert stack.reference_days == tuple(fine.day for _, fine in RECIPE.pairs)
    height, width = RECIPE.geobox.shape
    assert stack.fine.shape == (2, 2, height, width) and stack.target.shape == (2, height // 16, width // 16)


def test_running_is_loading_fusing_and_clipping_and_ends_in_a_file(tmp_path):
    seen = []
    got = run(RECIPE, tile=64, progress=seen.append)
    want = clip(fuse(load(RECIPE), RECIPE.method), RECIPE.area)
    np.testing.assert_allclose(got.data, want.data, atol=1e-6)
    assert np.isnan(got.data).any() and np.isfinite(got.data).any() and seen[-1] == 1
    got.write(tmp_path / "out.tif", RECIPE.tags())
    back = Scene.read(tmp_path / "out.tif")
    np.testing.assert_array_equal(back.data, got.data)
    with rasterio.open(tmp_path / "out.tif") as file:
        again = Recipe.from_json(file.tags()["FUSION_RECIPE"])
    np.testing.assert_allclose(run(again).data, got.data, atol=1e-6)  # the file says enough to be made again


def test_a_network_without_weights_is_refused_before_anything_is_read(monkeypatch, tmp_path):
    monkeypatch.setenv("FUSION_CHECKPOINTS", str(tmp_path))
    monkeypatch.setattr(sources.get("lab"), "read", lambda *args: pytest.fail("read"))
    for name in ("../../x", "edcstfn-4b-r10-0123456789"):
        recipe = Recipe.from_json(make(method=methods.get("edcstfn")(checkpoint=name)).to_json())
        assert recipe.method.checkpoint == name
        with pytest.raises(FusionError, match=f"There is no checkpoint '{name}' here"):
            run(recipe)


def test_a_day_that_the_source_does_not_have_is_refused():
    recipe = replace(RECIPE, target=replace(RECIPE.target, day=RECIPE.target.day + timedelta(1)))
    with pytest.raises(FusionError, match="lab"):
        load(recipe)


def test_the_sample_makes_a_recipe_as_well():
    fine, coarse = (sources.get("sample").search(name) for name in ("sentinel2", "sentinel2-100m"))
    rows = PRODUCTS["sample", "sentinel2"], PRODUCTS["sample", "sentinel2-100m"]
    area = extent(rows[0])
    box, ratio = grid_of(area, *rows)
    assert ratio == 10 and box == rows[0].geobox
    by_day = {item.day: item for item in coarse}
    recipe = Recipe(area, box, ratio, ("red",), ((by_day[fine[0].day], fine[0]),), by_day[fine[1].day])
    assert Recipe.from_json(recipe.to_json()) == recipe and isinstance(recipe.target.day, date)
    assert run(replace(recipe, method=methods.get("delta")())).valid > 0.9


def test_a_class_map_that_the_recipe_cannot_name_is_refused():
    stack = load(RECIPE)
    mapped = replace(stack, classes=np.zeros(stack.fine.shape[2:], np.int16))
    with pytest.raises(FusionError, match=r"cannot name a class map: use fuse\(stack, method\)"):
        run(RECIPE, stack=mapped)
    assert fuse(mapped, RECIPE.method).data.shape == stack.fine.shape[1:]


def test_reading_moves_the_bar_and_it_never_falls():
    seen, alone = [], []
    run(replace(RECIPE, method=methods.get("delta")()), progress=seen.append)  # one tile: fusing goes from 0 to 1
    assert seen == sorted(seen) and seen[-1] == 1 and seen[0] <= READING
    assert any(0 < done <= READING for done in seen)
    run(RECIPE, stack=load(RECIPE), tile=64, progress=alone.append)
    assert alone[0] == 0 and alone == sorted(alone) and alone[-1] == 1


def test_what_stops_a_run_while_it_reads_is_passed_on():
    def stop(done):
        raise FusionError(f"stopped at {done}")

    with pytest.raises(FusionError, match="stopped at 0"):
        run(RECIPE, progress=stop)


@pytest.mark.parametrize(
    ("side", "bands", "readers"), [(4000, 6, 1), (4000, 2, 3), (2000, 6, READERS), (400, 6, READERS)]
)
def test_fewer_large_images_are_read_at_once(side, bands, readers):
    def item(name, day):
        return Item("earthengine", name, f"x/{day}", date(2020, 7, day))

    box = GeoBox((side, side), Affine(30, 0, 500_025, 0, -30, 5_100_015), "EPSG:32633")
    names = PRODUCTS["earthengine", "landsat"].bands[:bands]
    pairs = tuple((item("mcd43a4", day), item("landsat", day)) for day in (1, 17))
    recipe = Recipe(rectangle(15, 45.5, 15.5, 46), box, 16 if side % 16 == 0 else 1, names, pairs, item("mcd43a4", 9))
    assert _readers(recipe, [recipe.target]) == readers
    assert _readers(RECIPE, [RECIPE.target]) == 1  # no network to wait for
