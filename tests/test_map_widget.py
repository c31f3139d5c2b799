"""The map widget in a real browser, with mouse, keyboard and touch, on a small script and without the internet."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

import browser

pytestmark = pytest.mark.browser

SCRIPT = """
import base64, json
import numpy as np
import streamlit as st
from affine import Affine
from odc.geo.geobox import GeoBox
from fusion.overlay import locate, overlay
from pages._shared import maps

GRID = GeoBox((100, 100), Affine(10, 0, 5_272_000, 0, -10, 2_532_400), "EPSG:3035")
COLOURS = {"red": (200, 0, 0), "green": (0, 150, 0), "blue": (0, 0, 220), "grey": (120, 120, 120)}

@st.cache_data
def layer(name):
    rows, columns = np.indices(GRID.shape)
    image = np.empty((100, 100, 4), np.uint8)
    image[:] = (*COLOURS[name], 255)
    image[(rows + columns) % 10 == 0, :3] += np.random.default_rng(0).integers(0, 30, 3, np.uint8)
    shown = overlay(image, GRID)
    return maps.Layer(name, "data:image/png;base64," + base64.b64encode(shown.png).decode(), shown.bounds)

def say(**facts):
    st.text(json.dumps(facts))

def draw():
    kept = st.session_state.setdefault("kept", {"area": None, "edits": 0})
    tint = st.radio("Bands", ["red", "blue"], horizontal=True)
    refuse = st.checkbox("Refuse")
    tiles = st.checkbox("Tiles")
    tile = layer(tint)
    west, south, east, north = tile.corners
    outline = ((west, south), (east, south), (east, north), (west, north))
    edit = maps.draw_map("area", area=kept["area"], footprints=[("Tile <b>1</b>", outline)], layers=[tile], tiles=tiles)
    if edit is not None:
        kept["edits"] += 1
        if not refuse:
            kept["area"] = edit.ring
        st.rerun()
    say(**kept, corners=tile.corners)

def compare():
    mode = st.radio("Mode", ["swipe", "side"], horizontal=True)
    names = st.multiselect("Layers", list(COLOURS), ["red", "blue"])
    click = maps.compare_maps("compare", layers=[layer(name) for name in names], mode=mode,
                              marker=st.session_state.get("clicked"))
    if click is not None:
        st.session_state["clicked"] = click
    runs = st.session_state["runs"] = st.session_state.get("runs", 0) + 1
    last = st.session_state.get("clicked")
    say(click=click, last=last, pixel=last and locate(GRID, *last), runs=runs, corners=layer("red").corners)

st.set_page_config(layout="wide")
st.navigation([st.Page(draw, title="Draw", default=True), st.Page(compare, title="Compare")]).run()
st.button("Again")
"""
PIXEL = 10 / 78_000  # degrees of longitude of 10 m near 45 degrees north; of latitude it is less


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser.chromium() as running:
        yield running


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("maps")
    (folder / "demo.py").write_text(SCRIPT)
    with browser.serve("demo.py", folder) as address:
        yield address


@pytest.fixture
def draw(chromium: Browser, url: str) -> Iterator[Page]:
    with browser.visit(chromium, url) as page:
        ready(page)
        yield page


@pytest.fixture
def compare(chromium: Browser, url: str) -> Iterator[Page]:
    with browser.visit(chromium, f"{url}/compare") as page:
        ready(page)
        yield page


def ready(page: Page) -> None:
    browser.idle(page)
    page.wait_for_selector("[data-testid=map-widget][data-ready=true]")


def said(page: Page) -> dict[str, Any]:
    """What Python knows."""
    return json.loads(page.get_by_test_id("stText").inner_text())


def until(page: Page, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Wait until Python knows something."""
    end = time.monotonic() + 15
    while not holds(facts := said(page)):
        assert time.monotonic() < end, f"Python still says {facts}"
        page.wait_for_timeout(50)
    ready(page)
    return said(page)


def at(page: Page, lon: float, lat: float, which: int = 0) -> tuple[float, float]:
    """Where on the screen a place is."""
    x, y = page.get_by_test_id("map").nth(which).evaluate("(map, p) => map.place(...p)", [lon, lat])
    return x, y


def view(page: Page, which: int = 0) -> tuple[str | None, str | None]:
    """Centre and zoom of a map."""
    shown = page.get_by_test_id("map").nth(which)
    return shown.get_attribute("data-center"), shown.get_attribute("data-zoom")


def drag(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move((start[0] + end[0]) / 2, (start[1] + end[1]) / 2, steps=4)
    page.mouse.move(*end, steps=4)
    page.wait_for_timeout(150)  # the hand rests, so that the map does not glide on
    page.mouse.up()


def inside(corners: list[float], x: float, y: float) -> tuple[float, float]:
    """Place at a share of the width from west and of the height from south."""
    west, south, east, north = corners
    return west + x * (east - west), south + y * (north - south)


def pan(page: Page, dx: float, dy: float) -> None:
    """Drag the first map and wait until it rests."""
    box = page.get_by_test_id("map").first.bounding_box()
    assert box
    before = view(page)
    x, y = box["x"] + box["width"] / 3, box["y"] + box["height"] / 2
    drag(page, (x, y), (x + dx, y + dy))
    page.wait_for_timeout(400)
    assert view(page) != before


def colour(page: Page, x: float, y: float) -> tuple[int, int, int]:
    """Colour of the screen at a point."""
    import io

    from PIL import Image

    shot = page.screenshot(clip={"x": int(x), "y": int(y), "width": 1, "height": 1})
    red, green, blue = Image.open(io.BytesIO(shot)).convert("RGB").getpixel((0, 0))
    return red, green, blue


def draw_rectangle(page: Page, corners: list[float]) -> list[tuple[float, float]]:
    """Drag from corner to corner; return west-south and east-north."""
    ends = [inside(corners, 0.3, 0.25), inside(corners, 0.7, 0.6)]
    page.get_by_test_id("map-rectangle").click()
    drag(page, at(page, *ends[0]), at(page, *ends[1]))
    return ends


def test_a_rectangle_drawn_by_mouse_is_python_s_area(draw: Page) -> None:
    (west, south), (east, north) = draw_rectangle(draw, said(draw)["corners"])
    facts = until(draw, lambda facts: facts["area"] is not None)
    assert facts["edits"] == 1
    expected = [(west, south), (east, south), (east, north), (west, north)]
    for corner, wanted in zip(facts["area"], expected, strict=True):
        assert corner == pytest.approx(wanted, abs=PIXEL)
    assert draw.locator("path.area").count() == 1


def test_two_clicks_draw_a_rectangle_too(draw: Page) -> None:
    corners = said(draw)["corners"]
    draw.get_by_test_id("map-rectangle").click()
    draw.mouse.click(*at(draw, *inside(corners, 0.7, 0.6)))
    draw.mouse.click(*at(draw, *inside(corners, 0.3, 0.25)))
    area = until(draw, lambda facts: facts["area"] is not None)["area"]
    assert area[0] == pytest.approx(inside(corners, 0.3, 0.25), abs=PIXEL)


@pytest.mark.parametrize("end", ["double click", "Enter", "first corner"])
def test_a_polygon_closes_in_three_ways(draw: Page, end: str) -> None:
    corners = said(draw)["corners"]
    wanted = [inside(corners, *share) for share in [(0.2, 0.3), (0.8, 0.2), (0.7, 0.8), (0.4, 0.6)]]
    draw.get_by_test_id("map-polygon").click()
    for place in wanted[:-1]:
        draw.mouse.click(*at(draw, *place))
        draw.wait_for_timeout(30)
    if end == "double click":
        draw.mouse.dblclick(*at(draw, *wanted[-1]))
    else:
        draw.mouse.click(*at(draw, *wanted[-1]))
        if end == "Enter":
            draw.keyboard.press("Enter")
        else:
            draw.mouse.click(*at(draw, *wanted[0]))
    facts = until(draw, lambda facts: facts["area"] is not None)
    assert facts["edits"] == 1
    for corner, place in zip(facts["area"], wanted, strict=True):
        assert corner == pytest.approx(place, abs=PIXEL)


def test_escape_cancels_and_backspace_takes_a_corner_back(draw: Page) -> None:
    corners = said(draw)["corners"]
    draw.get_by_test_id("map-polygon").click()
    for share in [(0.2, 0.3), (0.8, 0.2), (0.7, 0.8)]:
        draw.mouse.click(*at(draw, *inside(corners, *share)))
    assert draw.locator("path.corner").count() == 3
    draw.keyboard.press("Backspace")
    assert draw.locator("path.corner").count() == 2
    draw.keyboard.press("Escape")
    assert draw.locator("path.sketch").count() == 0
    assert draw.get_by_test_id("map-polygon").get_attribute("aria-pressed") == "false"
    draw.get_by_role("button", name="Again").click()
    browser.idle(draw)
    assert said(draw)["edits"] == 0


def test_clear_takes_the_area_away(draw: Page) -> None:
    assert draw.get_by_test_id("map-clear").is_disabled()
    draw_rectangle(draw, said(draw)["corners"])
    until(draw, lambda facts: facts["area"] is not None)
    draw.get_by_test_id("map-clear").click()
    until(draw, lambda facts: facts["area"] is None and facts["edits"] == 2)
    assert draw.locator("path.area").count() == 0


def test_an_area_that_python_refuses_does_not_stay_on_the_map(draw: Page) -> None:
    draw.get_by_text("Refuse").click()
    browser.idle(draw)
    for count in (1, 2):
        draw_rectangle(draw, said(draw)["corners"])
        until(draw, lambda facts, count=count: facts["edits"] == count)
        draw.wait_for_function("!document.querySelector('.st-key-map-area *').shadowRoot?.querySelector('path.area')")
        assert draw.locator("path.area").count() == 0


def test_view_and_area_survive_rerun_layer_swap_and_page_switch(draw: Page) -> None:
    draw_rectangle(draw, said(draw)["corners"])
    area = until(draw, lambda facts: facts["area"] is not None)["area"]
    draw.get_by_test_id("map-in").click()
    draw.wait_for_timeout(400)
    pan(draw, 60, -40)
    kept = view(draw)
    picture = draw.locator("img.leaflet-image-layer")
    before = picture.get_attribute("src")

    draw.get_by_role("button", name="Again").click()
    ready(draw)
    assert view(draw) == kept
    draw.get_by_text("blue").click()
    until(draw, lambda facts: picture.get_attribute("src") != before)
    assert view(draw) == kept
    assert picture.count() == 1

    draw.get_by_role("link", name="Compare").click()
    draw.get_by_test_id("map-swipe").wait_for()
    draw.get_by_role("link", name="Draw").click()
    draw.get_by_test_id("map-rectangle").wait_for()
    ready(draw)
    assert view(draw) == kept
    assert said(draw)["area"] == area
    assert draw.locator("path.area").count() == 1
    assert draw.get_by_test_id("map-widget").count() == 1


def test_the_picture_is_on_the_screen_where_its_corners_say(draw: Page) -> None:
    west, south, east, north = said(draw)["corners"]
    box = draw.locator("img.leaflet-image-layer").bounding_box()
    assert box
    left, top = at(draw, west, north)
    right, bottom = at(draw, east, south)
    assert (box["x"], box["y"]) == pytest.approx((left, top), abs=1)
    assert (box["x"] + box["width"], box["y"] + box["height"]) == pytest.approx((right, bottom), abs=1)


def test_countries_lie_under_the_picture_and_everything_is_named(draw: Page) -> None:
    assert draw.locator("path.land").count() > 100
    assert "Natural Earth" in draw.get_by_test_id("map-widget").inner_text()
    legend = draw.get_by_test_id("map-legend").inner_text()
    assert legend.splitlines() == ["Tile <b>1</b>", "red"]  # and no area, because none is drawn
    for _ in range(16):
        draw.get_by_test_id("map-out").click()
        draw.wait_for_timeout(300)
    places = {"Atlantic": (-40, 25), "Pacific": (-140, 15), "Sahara": (3, 26), "Siberia": (100, 65)}
    seen = {name: colour(draw, *at(draw, *place)) for name, place in places.items()}
    assert seen["Atlantic"] == seen["Pacific"] != seen["Sahara"] == seen["Siberia"]


def test_tiles_that_do_not_load_leave_the_offline_map_and_say_so(chromium: Browser, url: str) -> None:
    with browser.visit(chromium, url, check=False) as page:
        ready(page)
        page.route("https://tile.openstreetmap.org/**", lambda route: route.abort())
        page.get_by_text("Tiles", exact=True).click()
        page.get_by_test_id("map-notice").get_by_text("Online tiles do not load").wait_for()
        assert page.locator("path.land").count() > 100
        assert page.locator("img.leaflet-image-layer").count() == 1
        assert "OpenStreetMap" in page.get_by_test_id("map-widget").inner_text()
        hosts = {address.split("/")[2] for address in page.record.external}  # type: ignore[attr-defined]
        assert hosts == {"tile.openstreetmap.org"}
        page.get_by_text("Tiles", exact=True).click()
        page.get_by_test_id("map-notice").wait_for(state="hidden")


def test_swipe_by_mouse_shows_one_layer_on_each_side(compare: Page) -> None:
    handle = compare.get_by_test_id("map-swipe")
    corners = said(compare)["corners"]
    x, y = at(compare, *inside(corners, 0.5, 0.5))
    red, _, blue = colour(compare, x - 80, y)
    assert red > 150 and blue < 100
    red, _, blue = colour(compare, x + 80, y)
    assert red < 100 and blue > 150

    box = handle.bounding_box()
    assert box
    middle = (box["x"] + box["width"] / 2, box["y"] + 60)
    drag(compare, middle, (middle[0] - 100, middle[1]))
    width = compare.get_by_test_id("map").bounding_box()["width"]  # type: ignore[index]
    assert int(handle.get_attribute("aria-valuenow") or 0) == pytest.approx(50 - 100 / width * 100, abs=1)
    assert colour(compare, x - 60, y)[2] > 150  # now blue here
    pan(compare, -60, 0)
    assert colour(compare, x - 130, y)[0] > 150  # the cut stays with the handle, not with the map
    assert colour(compare, x - 60, y)[2] > 150


def test_swipe_by_keyboard(compare: Page) -> None:
    handle = compare.get_by_role("slider")
    assert handle.get_attribute("aria-label") == "Swipe between red and blue"
    kept = view(compare)
    handle.focus()
    for key, value in [("ArrowLeft", 48), ("ArrowRight", 50), ("PageUp", 60), ("Home", 0), ("ArrowLeft", 0),
                       ("End", 100), ("PageDown", 90)]:  # fmt: skip
        compare.keyboard.press(key)
        assert handle.get_attribute("aria-valuenow") == str(value)
    assert handle.get_attribute("aria-valuetext") == "90 % red"
    assert view(compare) == kept
    compare.get_by_role("button", name="Again").click()
    until(compare, lambda facts: facts["runs"] >= 2)
    assert handle.get_attribute("aria-valuenow") == "90"
    compare.get_by_role("link", name="Draw").click()
    compare.get_by_test_id("map-rectangle").wait_for()
    compare.get_by_role("link", name="Compare").click()
    compare.get_by_test_id("map-swipe").wait_for()
    ready(compare)
    assert compare.get_by_role("slider").get_attribute("aria-valuenow") == "90"
    assert compare.get_by_test_id("map-widget").count() == 1


def side(page: Page, count: int = 2) -> None:
    """Choose side by side, with more layers if asked."""
    page.get_by_text("side", exact=True).click()
    page.get_by_test_id("map").nth(1).wait_for()
    for name in ["green", "grey"][: count - 2]:
        page.get_by_test_id("stMultiSelect").locator("input").click()
        page.get_by_role("option", name=name).click()
    page.get_by_test_id("map").nth(count - 1).wait_for()
    page.keyboard.press("Escape")
    ready(page)


def test_a_view_nobody_chose_fits_the_pictures_in_frames_of_any_size(compare: Page) -> None:
    side(compare, 4)
    compare.set_viewport_size({"width": 800, "height": 900})
    compare.wait_for_timeout(500)
    for which in range(4):
        frame = compare.get_by_test_id("map").nth(which).bounding_box()
        picture = compare.locator("img.leaflet-image-layer").nth(which).bounding_box()
        assert frame and picture
        assert frame["x"] <= picture["x"] and picture["x"] + picture["width"] <= frame["x"] + frame["width"]
        assert frame["y"] <= picture["y"] and picture["y"] + picture["height"] <= frame["y"] + frame["height"]
        assert max(picture["width"] / frame["width"], picture["height"] / frame["height"]) > 0.5


@pytest.mark.parametrize("count", [2, 4])
def test_maps_side_by_side_pan_and_zoom_together(compare: Page, count: int) -> None:
    side(compare, count)
    assert compare.get_by_test_id("map").count() == count
    assert compare.get_by_test_id("map-label").all_inner_texts() == ["red", "blue", "green", "grey"][:count]
    before = view(compare)
    pan(compare, 50, 30)
    assert {view(compare, i) for i in range(count)} == {view(compare)}
    assert view(compare)[0] != before[0]
    x, y = at(compare, *inside(said(compare)["corners"], 0.5, 0.5), count - 1)
    compare.mouse.move(x, y)
    compare.mouse.wheel(0, -240)
    compare.wait_for_timeout(500)
    assert float(view(compare)[1] or 0) > float(before[1] or 0)
    assert {view(compare, i) for i in range(count)} == {view(compare)}


@pytest.mark.parametrize("mode", ["swipe", "side"])
def test_a_click_gives_the_pixel_under_the_mouse_and_marks_it(compare: Page, mode: str) -> None:
    if mode == "side":
        side(compare)
    corners = said(compare)["corners"]
    wanted = inside(corners, 0.35, 0.6)
    compare.mouse.click(*at(compare, *wanted, 0))
    facts = until(compare, lambda facts: facts["click"] is not None)
    assert facts["click"] == pytest.approx(wanted, abs=PIXEL)
    assert facts["pixel"] is not None
    marks = compare.locator(".cross")
    assert marks.count() == (2 if mode == "side" else 1)
    for which in range(marks.count()):
        box = marks.nth(which).bounding_box()
        assert box
        centre = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        assert centre == pytest.approx(at(compare, *wanted, which), abs=2)
    compare.get_by_role("button", name="Again").click()
    after = until(compare, lambda later: later["runs"] > facts["runs"])
    assert after["click"] is None and after["last"] == facts["click"]
    assert marks.count() == (2 if mode == "side" else 1)


def test_enter_picks_the_pixel_in_the_middle(compare: Page) -> None:
    compare.get_by_test_id("map").focus()
    compare.keyboard.press("Enter")
    click = until(compare, lambda facts: facts["click"] is not None)["click"]
    assert click == pytest.approx([float(part) for part in (view(compare)[0] or "").split(",")], abs=1e-5)


def test_a_click_does_not_send_the_pictures_again(chromium: Browser, url: str) -> None:
    sizes: list[int] = []
    with browser.visit(chromium, f"{url}/compare") as page:
        page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: sizes.append(len(frame))))
        page.reload()
        ready(page)
        assert max(sizes) > 150_000
        for share in (0.4, 0.6):
            runs = said(page)["runs"]
            sizes.clear()
            page.mouse.click(*at(page, *inside(said(page)["corners"], share, 0.5)))
            until(page, lambda facts, runs=runs: facts["runs"] > runs and facts["click"] is not None)
        assert max(sizes) < 20_000


def test_a_finger_draws(chromium: Browser, url: str) -> None:
    with browser.visit(chromium, url, width=800, has_touch=True) as page:
        ready(page)
        corners = said(page)["corners"]
        page.get_by_test_id("map-rectangle").tap()
        for share in [(0.3, 0.3), (0.7, 0.7)]:
            page.touchscreen.tap(*at(page, *inside(corners, *share)))
        area = until(page, lambda facts: facts["area"] is not None)["area"]
        assert area[0] == pytest.approx(inside(corners, 0.3, 0.3), abs=2 * PIXEL)


@pytest.mark.parametrize("path", ["", "compare"])
def test_everything_fits_800_pixels(chromium: Browser, url: str, path: str) -> None:
    with browser.visit(chromium, f"{url}/{path}", width=800) as page:
        ready(page)
        widget = page.get_by_test_id("map-widget").bounding_box()
        assert widget
        for box in page.get_by_test_id("map-widget").locator("button, .frame").all():
            inner = box.bounding_box()
            assert inner
            assert inner["x"] >= widget["x"] - 1
            assert inner["x"] + inner["width"] <= min(widget["x"] + widget["width"], 800) + 1


def test_every_control_has_a_name_and_is_reached_by_keyboard(draw: Page) -> None:
    names = draw.get_by_role("toolbar", name="Map tools").get_by_role("button")
    assert [button.get_attribute("aria-label") for button in names.all()] == [
        "Draw a rectangle", "Draw a polygon", "Clear the area", "Zoom to area", "Zoom in", "Zoom out",
    ]  # fmt: skip
    names.first.focus()
    reached = []
    for _ in range(5):
        script = "() => { let e = document.activeElement; while (e.shadowRoot) e = e.shadowRoot.activeElement; "
        reached.append(draw.evaluate(script + "return e.dataset.testid; }"))
        draw.keyboard.press("Tab")
    assert reached == ["map-rectangle", "map-polygon", "map-fit", "map-in", "map-out"]
    draw.get_by_test_id("map").focus()
    before = view(draw)
    draw.keyboard.press("ArrowRight")
    draw.wait_for_timeout(500)
    assert view(draw) != before


def test_a_browser_that_is_missing_fails_only_in_ci(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CHROMIUM", str(tmp_path / "none"))
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no browser at"):
        browser.executable()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no browser at"):
        browser.executable()
