"""The app as a person uses it: every page and the whole main job in a real browser, offline.

With ``FUSION_SCREENSHOTS=folder`` the main job and the explained pixel also leave the pictures of the README there.
"""

import csv
import io
import json
import math
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import date
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import rasterio
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect
from rasterio.warp import transform, transform_bounds

import browser
from browser import (
    at,
    button,
    drag,
    fuse,
    heading,
    no_trace,
    pick,
    ready,
    result_link,
    saved,
    shoot,
    step,
    summary,
)  # fmt: skip
from fusion import Recipe, methods, run
from fusion.area import Ring, rectangle
from fusion.overlay import locate
from fusion.products import SAMPLE_GRID
from pages._shared import state
from pages._shared.state import Work

pytestmark = pytest.mark.browser

PAGES = {"": "Meantime", "area": "Area", "check": "Check", "fuse": "Fuse", "compare": "Compare",
         "evaluate": "Evaluate", "files": "Own files", "train": "Train", "methods": "Methods"}  # fmt: skip
STEPS = ["Start", "1 Area", "2 Check", "3 Fuse", "4 Compare", "5 Evaluate", "Own files", "Train", "Methods"]
SHOWN = ("Open this", "Use these bounds", None, "Fuse", None, "Evaluate", "Upload", "Train", None)  # a button of each
SAMPLE = transform_bounds(str(SAMPLE_GRID.crs), "EPSG:4326", *SAMPLE_GRID.boundingbox)
LONG = Work(
    source="lab",
    target=date(2021, 6, 26),
    pairs=(date(2021, 3, 14), date(2021, 4, 15), date(2021, 5, 17), date(2021, 6, 18)),
    methods=(methods.get("starfm")(window=201),),
)  # minutes on any machine


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser.chromium() as running:
        yield running


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with browser.serve("app.py", browser.ROOT) as address:
        yield address


def share(box: tuple[float, ...], x: float, y: float) -> tuple[float, float]:
    """Place at a share of the width from west and of the height from south."""
    west, south, east, north = box
    return west + x * (east - west), south + y * (north - south)


def piece(x0: float, y0: float, x1: float, y1: float) -> Ring:
    """Rectangle within the sample, in shares of its bounds."""
    return rectangle(*share(SAMPLE, x0, y0), *share(SAMPLE, x1, y1))


def linked(url: str, page: str, work: Work) -> str:
    return f"{url}/{page}?w={work.to_link()}"


# Every page


@pytest.mark.parametrize(("path", "title"), PAGES.items())
def test_a_cold_deep_link_opens_every_page_whole(chromium: Browser, path: str, title: str) -> None:
    with browser.serve("app.py", browser.ROOT) as url, browser.visit(chromium, f"{url}/{path}") as page:
        heading(page, title)
        browser.idle(page)
        assert page.title() == f"{title} - Meantime"
        sidebar = page.get_by_test_id("stSidebar")
        expect(sidebar.get_by_role("link", name=STEPS[-1])).to_be_visible(timeout=15_000)
        expect(sidebar).to_contain_text("STARFM", timeout=15_000)  # at the end of the summary
        links = sidebar.get_by_role("link").all_inner_texts()
        assert [text.splitlines()[-1] for text in links if text.strip()] == STEPS
        told = summary(page).replace("\u00a0", " ")
        for word in ("Source Bundled", "Area 1 x 1 km, 100 x 100 fine pixels", "Target 2018-", "Pairs 2018-", "STARFM"):
            assert word in told
        assert page.get_by_test_id("stAlertContentError").count() == 0
        no_trace(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_is_usable_at_800_pixels(chromium: Browser, url: str, scheme: str) -> None:
    area = piece(0.1, 0.1, 0.9, {"light": 0.9, "dark": 0.8}[scheme])  # that no test reads or fuses
    work = Work(area=area, methods=(methods.get("nearest")(),))
    with browser.visit(chromium, linked(url, "", work), width=800, color_scheme=scheme) as page:
        for name, wanted in zip(STEPS, SHOWN, strict=True):
            if name != "Start":
                step(page, name)
            seen = [] if wanted is None else [button(page, wanted).first]
            if name == "2 Check":
                button(page, "Show the images").click()
                page.get_by_role("heading", name="Sensors").wait_for()
                browser.idle(page)
                seen.append(page.locator(".js-plotly-plot").first)
            if name in ("1 Area", "4 Compare"):
                ready(page)
                seen.append(page.get_by_test_id("map-widget"))
            for part in ("document.scrollingElement", "document.querySelector('[data-testid=stMain]')"):
                assert page.evaluate(f"{part}.scrollWidth <= {part}.clientWidth + 1"), name
            for element in seen:
                element.scroll_into_view_if_needed()
                box = element.bounding_box()
                assert box and box["x"] >= 0 and box["x"] + box["width"] <= 801 and box["width"] > 60, name


# The main job


def test_the_main_job_from_drawing_to_the_file(chromium: Browser, url: str) -> None:
    with browser.visit(chromium, f"{url}/area", accept_downloads=True) as page:
        draws_an_area(page)
        fuses(page)
        recipe = takes_it_home(page)
        compares(page, recipe)
        evaluates(page)
        no_trace(page)


def draws_an_area(page: Page) -> None:
    ready(page)
    before = summary(page)
    page.get_by_test_id("map-rectangle").click()
    drag(page, at(page, *share(SAMPLE, 0.22, 0.2)), at(page, *share(SAMPLE, 0.83, 0.8)))
    expect(page.get_by_test_id("stSidebar")).not_to_contain_text("100 x 100 fine pixels")
    ready(page)
    width, height = map(int, re.findall(r"(\d+) x (\d+) fine pixels, ratio 10", summary(page))[0])
    assert width % 10 == height % 10 == 0 and 50 <= width < 100 and 50 <= height < 100  # whole coarse pixels
    assert before != summary(page)
    assert page.locator("path.area").count() == 1
    expect(page.locator(".js-plotly-plot").first).to_be_visible()
    timeline = page.locator(".js-plotly-plot").first.inner_text()
    assert {"Images over time", "Day of acquisition", "fine", "coarse", "target"} <= set(timeline.splitlines())
    page.get_by_test_id("stMain").evaluate("main => main.scrollTo(0, 0)")
    shoot(page, "area")


def fuses(page: Page) -> None:
    step(page, "3 Fuse")
    assert result_link(page).count() == 0
    fuse(page)
    expect(page.get_by_text("STARFM, predicted 2018-05-02, from simulated coarse images")).to_be_visible()
    assert page.get_by_role("radiogroup", name="Result shown").inner_text().split() == ["Delta", "STARFM"]
    if os.environ.get("FUSION_SCREENSHOTS"):
        page.get_by_text("Result shown").evaluate("element => element.scrollIntoView()")
        shoot(page, "fuse")


def takes_it_home(page: Page) -> Recipe:
    """Download everything that is offered; return the recipe."""
    content = saved(page, result_link(page))
    with rasterio.MemoryFile(content) as memory, memory.open() as file:
        pixels, tags, crs, names = file.read(), file.tags(), file.crs, file.descriptions
        affine, nodata = file.transform, file.nodata
    recipe = Recipe.from_json(tags["FUSION_RECIPE"])
    again = run(recipe)
    np.testing.assert_array_equal(pixels, again.data)
    assert np.isfinite(pixels).mean() > 0.5
    assert crs.to_epsg() == 3035
    assert affine == again.geobox.affine and math.isnan(nodata)
    assert names == ("blue", "green", "red", "nir")
    assert tags["DATE"] == "2018-05-02"
    assert "simulated" in tags["FUSION_DATA"]
    told = json.dumps(tags)
    assert str(browser.ROOT) not in told and str(Path.home()) not in told and "static" not in told
    assert not re.search(r"token|secret|password|/(home|root|tmp|usr)/", told, re.IGNORECASE)
    assert Recipe.from_json(saved(page, page.get_by_role("button", name="Download recipe")).decode()) == recipe
    picture = Image.open(io.BytesIO(saved(page, page.get_by_role("button", name="Download picture"))))
    assert picture.format == "PNG" and picture.size == recipe.geobox.shape[::-1]
    return recipe


def compares(page: Page, recipe: Recipe) -> None:
    step(page, "4 Compare")
    ready(page)
    assert page.get_by_test_id("map-label").all_inner_texts() == ["STARFM", "Truth 2018-05-02"]
    handle = page.get_by_role("slider", name="Swipe between STARFM and Truth 2018-05-02")
    handle.scroll_into_view_if_needed()
    box = handle.bounding_box()
    assert box and handle.get_attribute("aria-valuenow") == "50"
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    drag(page, (x, y), (x - 200, y))
    moved = int(handle.get_attribute("aria-valuenow") or 50)
    assert 20 < moved < 40
    handle.focus()
    page.keyboard.press("ArrowRight")
    assert abs(int(handle.get_attribute("aria-valuenow") or 0) - moved - 2) <= 1
    place = share(SAMPLE, 0.6, 0.45)
    page.mouse.click(*at(page, *place))
    plot = page.locator(".st-key-spectrum .js-plotly-plot")
    plot.wait_for()
    browser.idle(page)
    traces = dict(plot.evaluate("plot => plot.data.map(trace => [trace.name, Array.from(trace.y)])"))
    assert list(traces) == ["Fine 2018-04-22", "Fine 2018-05-22", "Coarse 2018-05-02 (target, simulated)", "Delta",
                            "STARFM", "Truth 2018-05-02"]  # fmt: skip
    row, column = locate(recipe.geobox, *place) or (-1, -1)
    near = run(recipe).data[:, row - 1 : row + 2, column - 1 : column + 2].reshape(4, -1)
    shown = np.array(traces["STARFM"], np.float32)  # the mouse meets the pixel or, at its edge, a neighbour
    assert np.isclose(near, shown[:, None], atol=1e-6).all(axis=0).any()
    pick(page, "Left of the swipe", "Coarse 2018-05-02 (target, simulated)")
    pick(page, "Right of the swipe", "STARFM")
    expect(page.get_by_test_id("map-label").first).to_have_text("Coarse 2018-05-02 (target, simulated)")
    ready(page)
    page.get_by_role("slider", name="Swipe between").press("End")
    for _ in range(5):
        page.keyboard.press("PageDown")
    page.get_by_text("Left of the swipe").evaluate("element => element.scrollIntoView()")
    shoot(page, "compare")


def evaluates(page: Page) -> None:
    step(page, "5 Evaluate")
    button(page, "Evaluate").click()
    table = page.get_by_test_id("stTable").first
    table.wait_for(timeout=60_000)
    browser.idle(page)
    head = table.locator("th").all_inner_texts()
    assert {"Nearest", "Delta", "STARFM"} <= set(head)
    rows = [text for text in table.locator("tbody tr").all_inner_texts() if text.strip()]
    assert len(rows) >= 10 and all("(best)" in row for row in rows)
    numbers = list(csv.DictReader(io.StringIO(saved(page, page.get_by_role("button", name="CSV")).decode())))
    assert {row["method"] for row in numbers} == {"Nearest", "Delta", "STARFM"}
    rmse = {row["method"]: float(row["value"]) for row in numbers if (row["metric"], row["band"]) == ("RMSE", "mean")}
    assert 0 < rmse["STARFM"] < rmse["Nearest"] < 0.2
    shown = next(row for row in rows if row.startswith("RMSE"))
    assert f"{rmse['STARFM']:.5f}" in shown
    titles = page.locator(".js-plotly-plot").evaluate_all("plots => plots.map(plot => plot.layout.title.text)")
    assert len(titles) >= 4 and all(titles)
    if os.environ.get("FUSION_SCREENSHOTS"):
        page.get_by_role("heading", name="Metrics").evaluate("element => element.scrollIntoView()")
        shoot(page, "evaluate")


def test_a_clicked_pixel_is_explained_by_numbers_that_add_up(chromium: Browser, url: str) -> None:
    work = Work(area=piece(0.05, 0.1, 0.85, 0.95), methods=(methods.get("starfm")(window=15),), view="red alone")
    with browser.visit(chromium, linked(url, "fuse", work)) as page:
        fuse(page)
        step(page, "4 Compare")
        ready(page)
        main = page.get_by_test_id("stMain")
        expect(main).to_contain_text("Click a pixel on a map to see which neighbours predicted it")
        page.mouse.click(*at(page, *share(SAMPLE, 0.65, 0.4)))  # beside the handle of the swipe
        weights = page.locator(".st-key-why-weights .js-plotly-plot")
        weights.wait_for()
        browser.idle(page)
        row, column = map(
            int, re.findall(r"nir reflectance that STARFM .* row (\d+), column (\d+)", main.inner_text())[0]
        )
        result = run(Recipe.from_json(saved_recipe(page))).data[3, row, column]
        metrics = [float(text) for text in page.get_by_test_id("stMetricValue").all_inner_texts()[:2]]
        assert metrics == pytest.approx([result, result], abs=2e-6)
        adds = page.locator(".st-key-why-sum .js-plotly-plot").evaluate(
            "plot => plot.data.filter(t => t.type == 'bar').flatMap(t => Array.from(t.x))"
        )
        assert sum(adds) == pytest.approx(result, abs=1e-6)
        coloured = weights.evaluate(
            "plot => plot._fullData.filter(t => t.type == 'heatmap').at(-1).z.map(row => Array.from(row))"
        )
        assert f"{np.isfinite(np.array(coloured, float)).sum()} of 225 pixels" in weights.inner_text()
        if os.environ.get("FUSION_SCREENSHOTS"):
            page.get_by_text("taken apart:").evaluate("element => element.scrollIntoView()")
            shoot(page, "why")
        page.locator(".st-key-why-values .js-plotly-plot .nsewdrag").first.hover()
        told = page.locator(".st-key-why-values .hoverlayer")
        expect(told).to_contain_text("row +0, column +0 from the pixel")
        expect(told).to_contain_text(re.compile(r"S 0\.\d{5} \(reflectance\)"))
        page.mouse.click(*at(page, *share(SAMPLE, 0.25, 0.6)))
        expect(page.get_by_test_id("stMetricValue").first).not_to_have_text(f"{metrics[0]:.6f}")
        no_trace(page)


def saved_recipe(page: Page) -> str:
    """The recipe of the work in the address, for its one method."""
    work = Work.from_link(parse_qs(urlsplit(page.url).query)["w"][0])
    return state.recipe(work, work.methods[0]).to_json()


def test_a_network_is_trained_and_used_on_fuse(chromium: Browser, tmp_path: Path) -> None:
    own = {"FUSION_CHECKPOINTS": str(tmp_path)}
    link = Work(methods=(methods.get("nearest")(),)).to_link()
    with (
        browser.serve("app.py", browser.ROOT, env=own) as url,
        browser.visit(chromium, f"{url}/train?w={link}") as page,
    ):
        heading(page, "Train")
        typed(page, "Epochs", "2")
        page.get_by_text("Crops and learning").click()
        typed(page, "Steps", "2")
        typed(page, "Batch", "1")
        button(page, "Train").click()
        verdict = page.get_by_text(re.compile("It (beats|does not beat) the floors"))
        verdict.wait_for(timeout=60_000)
        expect(page.get_by_role("button", name="Cancel")).to_have_count(0, timeout=20_000)
        browser.idle(page)
        curve = page.locator(".st-key-train-errors .js-plotly-plot")
        traces = curve.evaluate("plot => Object.fromEntries(plot.data.map(t => [t.name, Array.from(t.x)]))")
        assert traces["network"] == [0, 1, 2]
        assert [name.split()[0] for name in traces] == ["network", "Nearest", "Delta", "best"]
        table = page.get_by_test_id("stTable").first.inner_text()
        assert "RMSE (reflectance)" in table and "SAM (degrees)" in table and table.count("(best)") >= 4
        assert page.locator("[data-testid=stMain] img").count() >= 3  # before, best and truth
        (made,) = tmp_path.glob("edcstfn-4b-r10-*.safetensors")
        button(page, "Use it on Fuse").first.click()  # of the result; the list below has it too
        heading(page, "Fuse")
        fuse(page)
        expect(page.get_by_text("EDCSTFN, predicted 2018-05-02")).to_be_visible()
        asked = Work.from_link(parse_qs(urlsplit(page.url).query)["w"][0])
        assert asked.methods[-1].parameters()["checkpoint"] == made.stem
        no_trace(page)


def typed(page: Page, label: str, value: str) -> None:
    """Type into a number's field."""
    field = page.get_by_role("spinbutton", name=label)
    field.fill(value)
    field.press("Tab")
    browser.idle(page)


# What stays


def test_the_area_survives_bands_pages_reload_and_a_shared_link(chromium: Browser, url: str) -> None:
    work = Work(area=piece(0.3, 0.35, 0.7, 0.75), methods=(methods.get("delta")(),))
    with browser.visit(chromium, linked(url, "fuse", work)) as page:
        fuse(page)
        kept = re.findall(r"Area .*", summary(page))[0]
        assert "100 x 100" not in kept
        page.get_by_role("combobox", name=re.compile("Bands shown")).click()
        page.get_by_role("option").nth(1).click()
        ready(page)
        for name in ("4 Compare", "1 Area", "5 Evaluate", "3 Fuse"):
            step(page, name)
            assert kept in summary(page)
        page.reload()
        browser.idle(page)
        assert kept in summary(page)
        address = page.url
    with browser.visit(chromium, address) as other:
        heading(other, "Fuse")
        assert kept in summary(other)
    fresh = Work(area=piece(0.35, 0.35, 0.7, 0.75), methods=work.methods)
    with browser.visit(chromium, linked(url, "fuse", fresh)) as page:
        page.wait_for_timeout(800)
        assert "Nothing fused yet" in page.get_by_test_id("stMain").inner_text()
        assert "Running" not in summary(page) and page.get_by_role("button", name="Cancel").count() == 0


def test_the_picture_lies_where_the_grid_is(chromium: Browser, url: str) -> None:
    """Corners of what is opaque on the screen, against corners of the grid by PROJ: within one fine pixel."""
    with browser.visit(chromium, linked(url, "fuse", Work(methods=(methods.get("delta")(),)))) as page:
        fuse(page)
        picture = page.locator("img.leaflet-image-layer")
        script = "async image => (await fetch(image.src)).arrayBuffer().then(all => Array.from(new Uint8Array(all)))"
        alpha = np.asarray(Image.open(io.BytesIO(bytes(picture.evaluate(script)))).convert("RGBA"))[..., 3] > 0
        rows, columns = np.nonzero(alpha)
        grid = SAMPLE_GRID
        corners = [grid.affine @ place for place in ((0, 0), (100, 0), (100, 100), (0, 100))]
        places = zip(*transform(str(grid.crs), "EPSG:4326", *zip(*corners, strict=True)), strict=True)
        truth = np.array([at(page, *place) for place in places])
        box = picture.bounding_box()
        assert box
        screen = np.stack(
            [(columns + 0.5) * box["width"] / alpha.shape[1], (rows + 0.5) * box["height"] / alpha.shape[0]]
        )
        screen += [[box["x"]], [box["y"]]]
        pixel = math.dist(truth[0], truth[1]) / 100
        assert pixel > 2
        for corner in truth:
            found = screen[:, ((corner - truth.mean(0)) @ screen).argmax()]  # what reaches furthest towards it
            assert math.dist(found, corner) <= pixel


# Many at once


def test_five_sessions_fuse_at_once_and_each_sees_its_own(chromium: Browser, url: str) -> None:
    rings = [piece(0.25 + 0.05 * i, 0.3, 0.6 + 0.05 * i, 0.8) for i in range(5)]
    works = [Work(area=ring, methods=(methods.get("starfm")(window=31 + 2 * i),)) for i, ring in enumerate(rings)]
    with ExitStack() as stack:
        pages = [
            stack.enter_context(browser.visit(chromium, linked(url, "fuse", work), accept_downloads=True))
            for work in works
        ]
        for page in pages:
            button(page, "Fuse").click(no_wait_after=True)
        for page, work in zip(pages, works, strict=True):
            result_link(page).wait_for(timeout=60_000)
            browser.idle(page)
            with rasterio.MemoryFile(saved(page, result_link(page))) as memory, memory.open() as file:
                recipe = Recipe.from_json(file.tags()["FUSION_RECIPE"])
            assert recipe.area == pytest.approx(np.array(work.area))
            assert recipe.method == work.methods[0]
            height, width = recipe.geobox.shape
            assert f"{width} x {height} fine pixels" in summary(page)
            no_trace(page)


def begin_long_run(page: Page) -> Locator:
    """Press Fuse on minutes of work; return the button to cancel it."""
    button(page, "Fuse").click()
    cancel = page.get_by_role("button", name="Cancel")
    cancel.wait_for(timeout=15_000)
    page.get_by_text(re.compile(r"STARFM: (reading|under way|\d+%)")).wait_for(timeout=15_000)
    page.wait_for_timeout(1500)
    return cancel


def test_cancel_works_at_once_and_frees_the_queue(chromium: Browser, url: str) -> None:
    # patience here is a fraction of what the run would take; how fast it is, benchmarks/app.py measures
    with browser.visit(chromium, linked(url, "fuse", LONG)) as page:
        cancel = begin_long_run(page)
        cancel.click()
        cancel.wait_for(state="detached", timeout=10_000)
        browser.idle(page)
        assert "Nothing fused yet" in page.get_by_test_id("stMain").inner_text()
        with browser.visit(chromium, linked(url, "fuse", Work(methods=(methods.get("nearest")(),)))) as other:
            fuse(other, 10)


def test_a_closed_tab_frees_the_queue(chromium: Browser, url: str) -> None:
    work = Work(area=piece(0.2, 0.2, 0.6, 0.6), methods=(methods.get("delta")(),))
    with browser.visit(chromium, linked(url, "fuse", work)) as waiting:
        other = replace(LONG, methods=(methods.get("starfm")(window=199),))
        with browser.visit(chromium, linked(url, "fuse", other)) as page:
            begin_long_run(page)
            button(waiting, "Fuse").click()
            waiting.get_by_text("Delta: waiting, 1 before it").wait_for(timeout=10_000)
        result_link(waiting).wait_for(timeout=20_000)  # the grace time of a closed tab is 5 s; the run takes minutes


# Bad input


def polygon(ring: Ring) -> bytes:
    return json.dumps({"type": "Polygon", "coordinates": [[*ring, ring[0]]]}).encode()


@pytest.fixture(scope="module")
def area_page(chromium: Browser, url: str) -> Iterator[Page]:
    work = Work(area=piece(0.3, 0.35, 0.7, 0.75), methods=(methods.get("starfm")(window=17),))
    with browser.visit(chromium, linked(url, "area", work)) as page:
        ready(page)
        yield page


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"this is no JSON {", "wants JSON"),
        (b"\xff\xfe\x00\x01", "UTF-8"),
        (b'{"type": "Point", "coordinates": [22.15, 45.2]}', "one Polygon"),
        (b" " * 1_000_100, "1,000,100"),
        (polygon(rectangle(10, 50, 10.1, 50.1)), "outside"),
        (polygon(((22.15, 45.2), (22.155, 45.205), (22.155, 45.2), (22.15, 45.205))), "crosses itself"),
    ],
    ids=["no JSON", "no text", "point", "huge", "outside", "crossing"],
)
def test_a_bad_upload_is_refused_in_words_and_nothing_is_lost(area_page: Page, content: bytes, words: str) -> None:
    kept = re.findall(r"Source[^M]*", summary(area_page))
    uploader = area_page.get_by_test_id("stFileUploader")
    uploader.locator("input[type=file]").set_input_files(
        {"name": "area.geojson", "mimeType": "application/json", "buffer": content}
    )
    alert = area_page.get_by_role("alert").filter(has_text=words)
    alert.wait_for()
    no_trace(area_page)
    ready(area_page)
    assert re.findall(r"Source[^M]*", summary(area_page)) == kept
    uploader.get_by_role("button", name=re.compile("Remove|Delete")).first.click()
    alert.wait_for(state="detached")
    browser.idle(area_page)


def test_reversed_bounds_are_refused_in_words(area_page: Page) -> None:
    kept = summary(area_page)
    west = area_page.get_by_role("spinbutton", name="West (degrees)")
    west.fill("30")
    west.press("Tab")
    button(area_page, "Use these bounds").click()
    area_page.get_by_role("alert").filter(has_text="west < east").wait_for()
    no_trace(area_page)
    assert summary(area_page) == kept


PICTURE = replace(Work(), source="![x](http://example.org/a.png)")  # visit() fails if the page asks for it


@pytest.mark.parametrize("link", ["nonsense!", "A" * 3000, PICTURE.to_link()], ids=["letters", "long", "picture"])
def test_a_broken_link_says_so_and_opens_the_sample(chromium: Browser, url: str, link: str) -> None:
    with browser.visit(chromium, f"{url}/fuse?w={link}") as page:
        page.get_by_role("alert").filter(has_text="This link could not be opened").wait_for()
        no_trace(page)
        assert "sample" in summary(page) and button(page, "Fuse").is_enabled()


def test_a_parameter_out_of_range_is_refused_and_the_old_one_stays(chromium: Browser, url: str) -> None:
    with browser.visit(chromium, linked(url, "fuse", Work(methods=(methods.get("starfm")(window=17),)))) as page:
        page.get_by_text("STARFM: Averages").click()
        window = page.get_by_role("spinbutton", name=re.compile("Window"))
        window.fill("30")
        window.press("Enter")
        page.get_by_role("alert").filter(has_text="odd").wait_for()
        browser.idle(page)
        expect(window).to_have_value("17")
        window.fill("999")
        window.press("Enter")
        browser.idle(page)
        page.wait_for_timeout(300)
        kept = Work.from_link(parse_qs(urlsplit(page.url).query)["w"][0])
        assert kept.methods == (methods.get("starfm")(window=17),)
        no_trace(page)


# Keyboard


def test_fuse_by_keyboard_alone(chromium: Browser, url: str) -> None:
    work = Work(area=piece(0.4, 0.4, 0.8, 0.8), methods=(methods.get("nearest")(),))
    with browser.visit(chromium, linked(url, "fuse", work)) as page:
        focused = "document.activeElement.innerText"
        for _ in range(60):
            page.keyboard.press("Tab")
            if (page.evaluate(focused) or "").strip().endswith("Fuse") and page.evaluate(
                "document.activeElement.localName"
            ) == "button":
                break
        else:
            pytest.fail("Tab does not reach the Fuse button")
        page.keyboard.press("Enter")
        result_link(page).wait_for(timeout=30_000)
        ready(page)
