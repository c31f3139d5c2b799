"""Real scenes as a person reaches them: search, read, fuse and download in a real browser, from servers on loopback.

The world is `lab_satellites`, whose truth is known: every file that is taken home is held to it.
"""

import io
import json
import re
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from playwright.sync_api import Browser, Page, TimeoutError, expect

import browser
import earthengine_server
import lab_satellites as world
import stac_server
from browser import at, button, drag, fuse, heading, no_trace, ready, result_link, saved, shoot, step, summary
from fusion import Recipe, methods
from pages._shared.state import Work

pytestmark = pytest.mark.browser

KILOMETRES = 5.0
SMALL = world.area(KILOMETRES)
(WEST, SOUTH), (EAST, NORTH) = SMALL[0], SMALL[2]


@dataclass
class Place:
    """The app and the two servers that it may ask."""

    url: str
    stac: stac_server.Server
    earthengine: earthengine_server.Server
    folder: Path

    def calm(self) -> None:
        """Let the servers behave."""
        self.stac.faults.clear()
        self.earthengine.faults.clear()
        self.earthengine.delay = 0.0


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser.chromium() as running:
        yield running


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("world")
    with stac_server.running() as stac, earthengine_server.Server(world.earthengine_assets(folder)) as earthengine:
        world.fill_catalogue(stac)
        env = {"FUSION_STAC": f"loop={stac.url}", "FUSION_EE_URL": earthengine.url, **alone(folder)}
        with browser.serve("app.py", browser.ROOT, env=env) as url:
            yield Place(url, stac, earthengine, folder)


@pytest.fixture
def place(everything: Place) -> Iterator[Place]:
    yield everything
    everything.calm()


def alone(folder: Path) -> dict[str, str]:
    """Environment of an app that has nothing of this machine's user."""
    for name in ("home", "cache", "own"):
        (folder / name).mkdir(exist_ok=True)
    kept = {"HOME": f"{folder}/home", "FUSION_CACHE": f"{folder}/cache", "FUSION_OWN": f"{folder}/own"}
    return {**kept, "NO_GCE_CHECK": "true", "GOOGLE_APPLICATION_CREDENTIALS": "", "FUSION_EE_KEY": ""}


# What a person does


def open_area(page: Page, source: str) -> None:
    """From the start page to the area of a source."""
    page.get_by_test_id("stColumn").filter(has_text=source).get_by_role("button", name="Use this").click()
    heading(page, "Area")
    browser.idle(page)


def type_day(page: Page, label: str, day: date) -> None:
    """Type a day as a person does, who looks whether it is there: on a busy machine a redraw may swallow keys."""
    shown = page.get_by_role("group", name=label, exact=True).last
    for _ in range(3):
        browser.idle(page)
        page.get_by_role("spinbutton", name=re.compile(f"year, {label}")).click()
        page.keyboard.type(f"{day:%Y%m%d}", delay=20)
        page.keyboard.press("Enter")
        page.keyboard.press("Escape")
        with suppress(AssertionError):
            expect(shown).to_have_text(str(day), timeout=3000)
            break
    expect(shown).to_have_text(str(day))
    browser.idle(page)


def type_bounds(page: Page, edges: tuple[float, ...] = (WEST, SOUTH, EAST, NORTH)) -> None:
    if (closed := page.get_by_text("Bounds as numbers, or a GeoJSON")).count():
        closed.click()
    for name, edge in zip(("West", "South", "East", "North"), edges, strict=True):
        page.get_by_role("spinbutton", name=f"{name} (degrees)").fill(f"{edge:.5f}")
    button(page, "Use these bounds").click()
    expect(page.get_by_test_id("stSidebar")).to_contain_text("fine pixels", timeout=15_000)
    browser.idle(page)


def draw_area(page: Page) -> None:
    """Zoom in with the wheel, then drag a rectangle."""
    shown = page.get_by_test_id("map").first
    zoom = float(shown.get_attribute("data-zoom") or 0)
    while zoom < 11:
        page.mouse.move(*at(page, (WEST + EAST) / 2, (SOUTH + NORTH) / 2))
        page.mouse.wheel(0, -400 if zoom < 8 else -60)
        expect(shown).not_to_have_attribute("data-zoom", f"{zoom:g}")
        zoom = float(shown.get_attribute("data-zoom") or 0)
    assert zoom < 13  # the whole area is in view
    page.get_by_test_id("map-rectangle").click()
    drag(page, at(page, WEST, SOUTH), at(page, EAST, NORTH))
    expect(page.get_by_test_id("stSidebar")).to_contain_text("fine pixels", timeout=15_000)
    browser.idle(page)


def search(page: Page) -> None:
    button(page, "Search (images|again)").click()
    page.get_by_text(re.compile("^Found ")).wait_for(timeout=60_000)
    page.get_by_role("heading", name="Days").wait_for()
    browser.idle(page)


def choose(page: Page, label: str, option: str) -> None:
    """Choose the option of a list that begins so; a list that a rerun closes is opened again."""
    wanted = page.get_by_role("option", name=re.compile(f"^{re.escape(option)}")).first
    field = page.get_by_role("combobox", name=label)
    around = field.locator("xpath=ancestor::*[@data-testid='stMultiSelect' or @data-testid='stSelectbox'][1]")
    read = "e => e.innerText + [...e.querySelectorAll('input')].map(each => each.value).join()"
    for _ in range(4):
        browser.idle(page)
        field.click()
        with suppress(TimeoutError):
            wanted.click(timeout=4000)
        browser.idle(page)
        if page.get_by_role("listbox").count():  # only then: where no list is open, Escape takes the choice back
            page.keyboard.press("Escape")
            browser.idle(page)
        if option in around.evaluate(read):
            return
    raise AssertionError(f"{option} cannot be chosen in {label}, which shows {around.evaluate(read)}")


def show(page: Page, title: str) -> None:
    """Show one of the results; a click that meets a list just drawn anew is made again."""
    shown = page.get_by_text(f"{title}, predicted {world.TARGET}")
    for _ in range(3):
        page.get_by_role("radiogroup", name="Result shown").get_by_text(title).click()
        with suppress(TimeoutError):
            shown.wait_for(timeout=10_000)
            break
    expect(shown).to_be_visible()
    browser.idle(page)


def held_to_truth(page: Page, source: str) -> None:
    """Take STARFM and the floor home, and compare both with what is there."""
    errors = {}
    for title in ("Nearest", "STARFM"):
        show(page, title)
        with rasterio.MemoryFile(saved(page, result_link(page))) as memory, memory.open() as file:
            pixels, tags, crs = file.read(), file.tags(), file.crs
        recipe = Recipe.from_json(tags["FUSION_RECIPE"])
        assert recipe.method.title == title and tags["DATE"] == str(world.TARGET)
        assert {item.source for pair in recipe.pairs for item in pair} == {source} and len(recipe.pairs) == 2
        assert crs.to_epsg() == 32626 and pixels.shape[1:] == tuple(recipe.geobox.shape)
        told = json.dumps(tags)
        assert "127.0.0.1" not in told and not re.search(r"token|secret|/(home|root|tmp|usr)/", told, re.IGNORECASE)
        truth = world.truth(world.TARGET).to(recipe.geobox, "nearest").select(recipe.bands)
        assert np.isfinite(pixels).mean() > 0.7  # whole coarse pixels reach a little over the area
        errors[title] = float(np.sqrt(np.nanmean((pixels - truth.data) ** 2)))
    assert 0 < errors["STARFM"] < 0.8 * errors["Nearest"] < 0.05, errors
    assert errors["STARFM"] < 0.03, errors


def chosen(source: str, kilometres: float = KILOMETRES, **more: Any) -> Work:
    """The work that a person would have put together there, for tests about what comes after."""
    wanted = tuple(methods.get(name)() for name in ("nearest", "starfm"))
    kept = {"dates": world.DATES, "target": world.TARGET, "methods": wanted, **more}
    options = (("catalogue", "loop"),) if source == "stac" else ()
    return Work(source, options, world.area(kilometres), **kept)


# STAC


def test_stac_from_drawing_to_the_file(chromium: Browser, place: Place) -> None:
    with browser.visit(chromium, place.url, accept_downloads=True, reduced_motion="reduce") as page:
        open_area(page, "Satellite images, no account")
        page.get_by_text("Options of this source").click()
        choose(page, "Catalogue", "loop")
        choose(page, "Coarse images", "MODIS nadir BRDF-adjusted, daily, 500 m")
        type_day(page, "First day", world.DATES[0])
        type_day(page, "Last day", world.DATES[1])
        draw_area(page)
        assert not place.stac.requests("/search")  # nothing is asked before the person says so
        search(page)
        timeline_shows_clouds_over_the_area(page)
        choose(page, "Day to predict (target)", str(world.TARGET))
        ready(page)
        shoot(page, "stac-area")
        step(page, "3 Fuse")
        choose(page, "Methods to run", "Nearest")
        expect(page.get_by_test_id("stSidebar")).to_contain_text("STARFM, Nearest")
        fuse(page)
        shoot(page, "stac-fuse")
        held_to_truth(page, "stac")
        no_trace(page)
        address = page.url
    files, everything = len(place.stac.requests("/files/")), len(place.stac.log)
    assert files > 20
    with browser.visit(chromium, address, accept_downloads=True) as page:  # a second session, by the link
        assert "fine pixels" in summary(page)
        held_to_truth(page, "stac")
    assert len(place.stac.log) == everything


def timeline_shows_clouds_over_the_area(page: Page) -> None:
    found = page.get_by_text(re.compile("^Found ")).inner_text()
    assert f"{len(world.FINE_DAYS)} fine" in found and f"{len(world.DAYS)} coarse" in found
    plot = page.locator(".js-plotly-plot").first
    days = plot.evaluate("plot => plot.data.flatMap(trace => Array.from(trace.x ?? []).map(String))")
    assert {str(day) for day in world.FINE_DAYS} <= {day[:10] for day in days}
    options = page.get_by_role("option").first
    for _ in range(4):  # a list that a rerun closes is opened again
        browser.idle(page)
        page.get_by_role("combobox", name=re.compile("Days of the pairs")).click()
        with suppress(TimeoutError):
            options.wait_for(timeout=4000)
            break
    listed = " ".join(page.get_by_role("option").all_inner_texts())
    page.keyboard.press("Escape")
    cloudy = re.search(rf"{world.CLOUDY}, (\d+) % cloud", listed)
    assert cloudy and 30 < int(cloudy[1]) < 70, listed  # half of the area is under the cloud over the west
    assert f"{world.FINE_DAYS[0]}, 0 % cloud" in page.get_by_test_id("stMain").inner_text()  # a chosen pair


def test_faults_that_pass_are_waited_for_and_those_that_last_are_told(chromium: Browser, place: Place) -> None:
    work = chosen("stac", 4, dates=(date(2021, 6, 1), world.DATES[1]))
    place.stac.fault("/search", status=429, times=1, headers={"Retry-After": "0"})
    place.stac.fault("/files/", status=500, times=2)
    with (
        browser.visit(chromium, f"{place.url}/area?w={work.to_link()}") as page,
        browser.visit(chromium, f"{place.url}/fuse") as other,
    ):
        search(page)
        place.stac.fault("/files/", status=500)
        step(page, "3 Fuse")
        kept, address = summary(page).partition("Source")[2], page.url
        button(page, "Fuse").click()
        page.get_by_role("button", name="Cancel").first.wait_for()
        other.reload()  # somebody else goes on meanwhile
        heading(other, "Fuse")
        no_trace(other)
        page.get_by_role("alert").filter(has_text="127.0.0.1").filter(has_text="500").first.wait_for(timeout=60_000)
        no_trace(page)
        assert summary(page).partition("Source")[2] == kept and page.url == address
        assert result_link(page).count() == 0
        place.calm()
        fuse(page)  # what failed is asked again, and the work goes on
        assert other.get_by_role("alert").filter(has_text="127.0.0.1").count() == 0
        fuse(other)


def test_a_slow_search_and_a_slow_read_can_be_cancelled(chromium: Browser, place: Place) -> None:
    one = (methods.get("starfm")(),)
    work = chosen("stac", 7, dates=(date(2021, 7, 1), world.DATES[1]), methods=one)  # no other test reads that
    place.stac.fault("/search", slow=60)
    with browser.visit(chromium, f"{place.url}/area?w={work.to_link()}") as page:
        button(page, "Search images").click()
        cancels(page)
        button(page, "Search images").wait_for()
        place.calm()
        search(page)
        step(page, "3 Fuse")
        place.stac.fault("/files/", slow=60)
        button(page, "Fuse").click()
        cancels(page)
        expect(page.get_by_test_id("stMain")).to_contain_text("Nothing fused yet")
        place.calm()
        fuse(page)
        no_trace(page)


def cancels(page: Page) -> None:
    cancel = page.get_by_role("button", name="Cancel")
    cancel.wait_for(timeout=15_000)
    page.wait_for_timeout(200)
    cancel.click()
    cancel.wait_for(state="detached", timeout=10_000)  # long before the server answers
    browser.idle(page)


# Earth Engine


def test_earth_engine_says_who_asks_and_fuses(chromium: Browser, place: Place) -> None:
    with browser.visit(chromium, place.url, accept_downloads=True) as page:
        open_area(page, "Google Earth Engine")
        expect(page.get_by_text("Earth Engine: anonymous (test server), project test")).to_be_visible()
        choose(page, "Fine images", "Landsat")
        choose(page, "Coarse images", "MODIS nadir BRDF-adjusted")
        type_day(page, "First day", world.DATES[0])
        type_day(page, "Last day", world.DATES[1])
        type_bounds(page)
        search(page)
        choose(page, "Day to predict (target)", str(world.TARGET))
        step(page, "3 Fuse")
        choose(page, "Methods to run", "Nearest")
        expect(page.get_by_test_id("stSidebar")).to_contain_text("STARFM, Nearest")
        fuse(page)
        held_to_truth(page, "earthengine")
        no_trace(page)
        address = page.url
    pixels = place.earthengine.count("computePixels")
    assert pixels >= 5  # one for each image
    with browser.visit(chromium, address, accept_downloads=True) as page:
        held_to_truth(page, "earthengine")
    assert place.earthengine.count("computePixels") == pixels


def test_without_credentials_the_page_says_what_is_missing(chromium: Browser, tmp_path: Path) -> None:
    env = {**alone(tmp_path), "FUSION_EE_URL": "", "FUSION_EE_PROJECT": ""}
    with browser.serve("app.py", browser.ROOT, env=env) as url, browser.visit(chromium, f"{url}/area") as page:
        choose(page, "Source of images", "Google Earth Engine (account needed)")
        page.get_by_role("alert").filter(has_text="Earth Engine wants a sign-in and found none").wait_for()
        page.get_by_text("How to set up Earth Engine").click()
        page.get_by_text("Service account").first.wait_for()
        button(page, "Try again").click()
        page.get_by_role("alert").filter(has_text="Earth Engine wants a sign-in and found none").wait_for()
        no_trace(page)
        type_bounds(page)
        button(page, "Search images").click()
        page.get_by_role("alert").filter(has_text="STAC").last.wait_for()
        no_trace(page)
        choose(page, "Source of images", "Satellite images (STAC)")  # the way on that the message names
        assert "fine pixels" in summary(page)


# Own files


def test_own_files_from_the_zip_to_the_file(
    chromium: Browser, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fine = tuple(day for day in world.FINE_DAYS if date(2021, 6, 1) < day < date(2021, 8, 1))
    monkeypatch.setattr(world, "FINE_DAYS", fine)  # a few files are enough
    monkeypatch.setattr(world, "DAYS", (*fine, world.TARGET))
    monkeypatch.setenv("FUSION_OWN", f"{place.folder}/own")  # where the app keeps them, to read the recipe here
    world.write_folder(tmp_path / "mine")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        for path in sorted((tmp_path / "mine").rglob("*.tif")):
            file.write(path, path.relative_to(tmp_path))
    with browser.visit(chromium, place.url, accept_downloads=True) as page:
        page.get_by_test_id("stColumn").filter(has_text="Own files").get_by_role("button", name="Use this").click()
        heading(page, "Own files")
        page.get_by_test_id("stFileUploader").locator("input[type=file]").set_input_files(
            {"name": "mine.zip", "mimeType": "application/zip", "buffer": packed.getvalue()}
        )
        page.get_by_role("heading", name="What the files seem to be").wait_for(timeout=60_000)
        browser.idle(page)
        shoot(page, "own-files")
        while button(page, "Answer").count():  # every question has a suggestion
            button(page, "Answer").click()
            page.wait_for_timeout(200)
            browser.idle(page)
        page.get_by_text(re.compile("Ready: pairs")).wait_for()
        button(page, "Use these files").click()
        heading(page, "Area")
        browser.idle(page)
        type_bounds(page)
        choose(page, "Day to predict (target)", str(world.TARGET))
        step(page, "3 Fuse")
        choose(page, "Methods to run", "Nearest")
        expect(page.get_by_test_id("stSidebar")).to_contain_text("STARFM, Nearest")
        fuse(page)
        held_to_truth(page, "local")
        no_trace(page)
