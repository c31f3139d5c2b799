"""Every page's logic through Streamlit's own test harness, without a browser: state, links, errors, results."""

import base64
import json
import re
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import streamlit as st
from rasterio.warp import transform
from streamlit.testing.v1 import AppTest

import satellites
from fusion import checkpoints, estimate, methods
from fusion.errors import FusionError
from fusion.estimate import Size
from fusion.methods import Method
from fusion.propose import bounds_of
from fusion.recipe import Recipe, run
from fusion.scene import Scene
from fusion.sources import _stac_granules, _stac_web, earthengine, sample
from fusion.stack import Stack
from pages._shared import runs, scenes, state
from pages._shared.state import Work
from stac_server import Server, running

# rasterio hides this warning of its own, but not where several threads warp at once
pytestmark = pytest.mark.filterwarnings("ignore:Dataset has no geotransform")

ROOT = Path(__file__).parents[1]
PAGES = ("area", "fuse", "compare", "evaluate", "methods")


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[AppTest]:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("FUSION_CACHE", "off")
    st.cache_data.clear()
    st.cache_resource.clear()
    yield AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)


def visit(app: AppTest, name: str) -> AppTest:
    app.switch_page(f"pages/{name}.py").run()
    assert not app.exception, [e.message for e in app.exception]
    return app


def texts(app: AppTest) -> str:
    kinds = (app.markdown, app.caption, app.info, app.error, app.title, app.subheader)
    return "\n".join(str(element.value) for kind in kinds for element in kind)


@pytest.mark.parametrize("name", PAGES)
def test_page_opens_without_error_and_says_where_one_is(app: AppTest, name: str) -> None:
    page = visit(app.run(), name)
    assert not page.error
    assert page.title[0].value.lower() == name
    shown = texts(page)
    for word in ("**Area**", "**Target**", "**Pairs**", "**Methods**", "simulated"):
        assert word in shown


def test_fuse_runs_two_methods_and_offers_the_result(app: AppTest) -> None:
    page = visit(app.run(), "fuse")
    button(page, "Fuse").click().run()
    assert not page.exception and not page.error
    shown = texts(page)
    assert "Delta, predicted" in shown or "STARFM, predicted" in shown
    assert "simulated" in shown
    assert any("run(recipe)" in block.value for block in page.code)


def one_pair(app: AppTest, *names: str) -> AppTest:
    """Open the sample with one pair and these methods."""
    chosen = tuple(methods.get(name)() for name in names)
    app.query_params[state.PARAMETER] = Work(methods=chosen, pairs=(date(2018, 4, 22),)).to_link()
    return app.run()


def test_a_method_that_wants_more_pairs_says_so_before_the_run_and_the_others_run(app: AppTest) -> None:
    page = visit(one_pair(app, "estarfm", "delta"), "fuse")
    assert [said(warning) for warning in page.warning] == [
        "ESTARFM wants at least 2 pairs, got 1: give it 2 pairs (on the Area page of the app, or --pairs 2 in the "
        "shell), or choose another method."
    ]
    options = by_label(page.multiselect, "Methods to run").options
    assert "ESTARFM (wants 2 pairs)" in options and "STARFM" in options
    button(page, "Fuse").click().run()
    assert not page.exception and not page.error
    assert "Delta, predicted" in texts(page)
    by_label(page.multiselect, "Methods to run").set_value(["estarfm"]).run()
    assert button(page, "Fuse").disabled and page.warning


def test_evaluate_leaves_out_a_method_that_wants_more_pairs(app: AppTest) -> None:
    page = visit(one_pair(app, "estarfm"), "evaluate")
    by_label(page.selectbox, "Pairs to predict it from").set_value(1).run()
    assert "ESTARFM wants at least 2 pairs, got 1" in said(page.warning[0])
    button(page, "Evaluate").click().run()
    assert not page.exception and not page.error
    assert {"Nearest", "Delta"} <= set(page.table[0].value.columns)
    by_label(page.selectbox, "Pairs to predict it from").set_value(2).run()
    assert not page.warning and "**Nearest, Delta, ESTARFM**" in texts(page)


def test_as_many_methods_as_may_be_chosen_can_be_evaluated_at_once(app: AppTest) -> None:
    names = [name for name in methods.names() if name not in ("nearest", "delta")][: state.MOST_METHODS]
    page = visit(one_pair(app, *names), "evaluate")
    finish, queue = threading.Event(), runs.queue()
    queue.submit("another", "Another", lambda progress: finish.wait(30), runs.session())  # nothing else gets ahead
    work = page.session_state["work"]
    asked = [*work.methods, methods.get("nearest")(), methods.get("delta")()]
    try:
        for method in asked:
            queue.submit(method.name(), method.title, lambda progress: None, runs.session())
    finally:
        finish.set()


def weights(page: AppTest, name: str, **about: object) -> str:
    """Save weights that fit the page's work; return their name."""
    import networks  # needs torch

    recipe = state.recipe(page.session_state["work"], methods.get("nearest")())
    return networks.saved(networks.small(name), recipe.bands, recipe.ratio, **about).stem


@pytest.fixture
def unbundled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No checkpoint comes with the app, and the user has none."""
    monkeypatch.setattr(checkpoints, "_bundled_folder", lambda: None)
    monkeypatch.setenv("FUSION_CHECKPOINTS", str(tmp_path / "checkpoints"))


def test_a_network_without_weights_says_so_and_leads_to_train(app: AppTest, unbundled: None) -> None:
    page = visit(one_pair(app, "edcstfn"), "fuse")
    assert "EDCSTFN has no weights for 4 bands (blue, green, red, nir) at ratio 10" in said(page.warning[0])
    assert "Train EDCSTFN, or adapt weights" in [link.proto.label for link in page.get("page_link")]
    assert button(page, "Fuse").disabled and not page.error
    options = by_label(page.multiselect, "Methods to run").options
    assert {"Delta", "EDCSTFN (no weights yet)", "STFDCNN (wants 2 pairs, no weights yet)"} <= set(options)
    assert "Width" not in [widget.label for widget in page.number_input]  # it matters only while training
    page = visit(page, "evaluate")
    assert "EDCSTFN has no weights" in said(page.warning[0]) and "Runs **Nearest, Delta**" in texts(page)


def test_fitting_weights_are_offered_with_their_scores_and_run(app: AppTest, unbundled: None) -> None:
    page = visit(one_pair(app, "delta"), "fuse")
    scores = {"RMSE": 0.0123, "floors": {"nearest": 0.05, "delta": 0.0167}, "hidden": ["2018-07-01"]}
    name = weights(page, "edcstfn", metrics=scores)
    by_label(page.multiselect, "Methods to run").set_value(["edcstfn"]).run()
    box = by_label(page.selectbox, "Checkpoint")
    assert box.value == name and box.options[1] == f"{name} (RMSE 0.0123, delta 0.0167 on 2018-07-01)"
    box.set_value("").run()
    assert f"choose {name}" in said(page.warning[0]) and button(page, "Fuse").disabled
    by_label(page.selectbox, "Checkpoint").set_value(name).run()
    button(page, "Fuse").click().run()
    assert not page.exception and not page.error and not page.warning
    assert "EDCSTFN, predicted" in texts(page)


def test_weights_that_have_seen_the_answer_are_said(app: AppTest, unbundled: None) -> None:
    page = visit(one_pair(app, "delta"), "fuse")
    day = page.session_state["work"].target
    west, south, east, north = bounds_of(page.session_state["work"].ring)
    area = {"days": [str(day)], "bounds": [west, south, east, north]}
    name = weights(page, "edcstfn", provenance={"areas": [area]})
    by_label(page.multiselect, "Methods to run").set_value(["edcstfn"]).run()
    assert f"{name} were trained on the fine image of {day}" in said(page.warning[0])
    assert not button(page, "Fuse").disabled
    page = visit(page, "evaluate")
    by_label(page.selectbox, "Day whose fine image is hidden").set_value(day).run()
    assert "have seen the answer" in said(page.warning[0])
    by_label(page.selectbox, "Day whose fine image is hidden").set_value(date(2018, 7, 1)).run()
    assert not page.warning


def test_a_link_to_weights_that_are_not_here_opens_and_says_so(app: AppTest, unbundled: None) -> None:
    work = Work(methods=(methods.get("edcstfn")(checkpoint="edcstfn-4b-r10-gone"),), pairs=(date(2018, 4, 22),))
    app.query_params[state.PARAMETER] = work.to_link()
    page = visit(app.run(), "fuse")
    assert "no checkpoint 'edcstfn-4b-r10-gone'" in said(page.warning[0])
    assert by_label(page.selectbox, "Checkpoint").options[-1] == "edcstfn-4b-r10-gone (does not fit, or is not here)"


def test_parameters_of_a_training_stand_apart_on_the_methods_page(app: AppTest) -> None:
    page = visit(app.run(), "methods")
    tables = {box.label: box.table[0].value for box in page.expander if box.label.startswith("Parameters of its")}
    assert tables and any("width" in set(table["parameter"]) for table in tables.values())
    assert not any("checkpoint" in set(table["parameter"]) for table in tables.values())


def test_the_catalogue_begins_with_an_overview_baselines_first(app: AppTest) -> None:
    page = visit(one_pair(app, "delta"), "methods")
    rows = page.table[0].value.to_dict("records")
    names = [re.fullmatch(r"\[.+\]\(#(\w+)\)", row["method"])[1] for row in rows]
    assert sorted(names) == list(methods.names()) and set(names[:2]) == {"nearest", "delta"}
    assert names.index("starfm") < names.index("estarfm") < names.index("fitfc")
    assert {heading.anchor for heading in page.subheader} == set(names)
    by_name = dict(zip(names, rows, strict=True))
    assert by_name["estarfm"]["pairs"] == "2 or more (got 1)" and by_name["starfm"]["pairs"] == "1 or more"


def test_choices_survive_page_switches(app: AppTest) -> None:
    page = visit(app.run(), "fuse")
    by_label(page.multiselect, "Methods to run").set_value(["nearest"]).run()
    page = visit(visit(page, "methods"), "fuse")
    assert by_label(page.multiselect, "Methods to run").value == ["nearest"]
    assert "**Methods** Nearest" in texts(page)


def test_parameter_out_of_range_is_refused_in_words_and_nothing_is_lost(app: AppTest) -> None:
    work = start(app).session_state["work"]
    with pytest.raises(FusionError, match=r"window.*odd.*3 to 201.*got 30"):
        replace(work.methods[1], window=30)
    page = visit(app, "fuse")
    by_label(page.number_input, "Window (fine pixels)").set_value(30).run()
    assert any("odd" in said(error) for error in page.error)
    assert by_label(page.number_input, "Window (fine pixels)").value == 31


def test_link_brings_everything_back(app: AppTest) -> None:
    work = start(app).session_state["work"]
    work = replace(work, methods=(methods.get("starfm")(window=17),), view="nir alone")
    other = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    other.query_params[state.PARAMETER] = work.to_link()
    other.run()
    assert not other.error
    assert other.session_state["work"] == work


@pytest.mark.parametrize(
    "text",
    [
        "nonsense!",
        "AAAA",
        base64.urlsafe_b64encode(zlib.compress(b"[1, 2]")).decode(),
        base64.urlsafe_b64encode(zlib.compress(b'{"v": 1}')).decode(),
        base64.urlsafe_b64encode(zlib.compress(b" " * 50_000_000)).decode(),
    ],
    ids=["letters", "cut", "list", "empty", "bomb"],
)
def test_broken_link_is_refused_in_words_and_the_sample_opens(app: AppTest, text: str) -> None:
    app.query_params[state.PARAMETER] = text
    app.run()
    assert not app.exception
    assert "could not be opened" in said(app.error[0])
    assert app.session_state["work"].source == "sample"


def mutated(**parts: object) -> str:
    body = json.loads(state._unpack(Work().to_link())) | parts
    return base64.urlsafe_b64encode(zlib.compress(json.dumps(body).encode())).decode()


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"source": "nowhere"}, "no source 'nowhere'"),
        ({"methods": [["nothing", {}]]}, "no method 'nothing'"),
        ({"methods": [["starfm", {"window": 4}]]}, "odd"),
        ({"methods": [["starfm", {"depth": 4}]]}, "no parameter 'depth'"),
        ({"methods": 7}, "broken"),
        ({"target": "tomorrow"}, "broken"),
        ({"pairs": [5]}, "broken"),
        ({"area": [[0, 0], [1, 1]]}, "3 to"),
        ({"area": [[0, 0], [1, 1], [400, 2]]}, "globe"),
        ({"options": {"seed": 1}}, "no option"),
        ({"options": []}, "broken"),
    ],
)
def test_every_part_of_a_link_is_checked(parts: dict[str, object], words: str) -> None:
    with pytest.raises(FusionError, match=words):
        Work.from_link(mutated(**parts))


def test_link_without_change_is_identity() -> None:
    work = Work(
        "lab", (("clouds", 0.3),), ((1.5, 2.0), (3.0, 2.0), (3.0, 4.25)), date(2021, 5, 1), (date(2021, 4, 1),),
        (methods.get("starfm")(window=5),), "nir alone",
    )  # fmt: skip
    assert Work.from_link(work.to_link()) == work


def test_area_outside_the_source_is_refused_and_the_old_one_stays(app: AppTest) -> None:
    page = visit(app.run(), "area")
    before = page.session_state["work"]
    for label, value in (("West", 10.0), ("South", 50.0), ("East", 10.1), ("North", 50.1)):
        by_label(page.number_input, f"{label} (degrees)").set_value(value)
    button(page, "Use these bounds").click().run()
    assert not page.exception
    assert any("outside" in said(error) for error in page.error)
    assert page.session_state["work"] == before


def test_bounds_in_the_wrong_order_are_named(app: AppTest) -> None:
    page = visit(app.run(), "area")
    by_label(page.number_input, "West (degrees)").set_value(30.0)
    button(page, "Use these bounds").click().run()
    assert any("west < east" in said(error) for error in page.error)


def test_evaluate_shows_the_floors_beside_every_method(app: AppTest) -> None:
    page = visit(app.run(), "evaluate")
    button(page, "Evaluate").click().run()
    assert not page.exception and not page.error
    table = page.table[0].value
    assert {"Nearest", "Delta", "STARFM"} <= set(table.columns)
    assert sum("best" in str(cell) for cell in table.iloc[0]) >= 1


def test_lab_options_make_a_form_and_change_the_work(app: AppTest) -> None:
    page = visit(app.run(), "area")
    by_label(page.selectbox, "Source of images").set_value("lab").run()
    assert not page.exception and not page.error
    by_label(page.number_input, "Clouds").set_value(0.4).run()
    assert not page.exception
    assert dict(page.session_state["work"].options)["clouds"] == 0.4
    assert "synthetic" in texts(page)


def start(app: AppTest) -> AppTest:
    app.run()
    assert not app.exception
    return app


def button(app: AppTest, label: str):  # type: ignore[no-untyped-def]
    return next(b for b in app.button if b.label == label)


def by_label(widgets, label: str):  # type: ignore[no-untyped-def]
    return next(widget for widget in widgets if widget.label.startswith(label))


def said(error) -> str:  # type: ignore[no-untyped-def]
    """What a person reads: the message without the escapes that keep it from being Markdown."""
    return re.sub(r"\\(.)", r"\1", error.value)


def test_names_in_messages_are_never_markdown(app: AppTest) -> None:
    app.query_params[state.PARAMETER] = mutated(source="![x](http://example.org/a.png)")
    app.run()
    assert "![x](http://example.org/a.png)" in said(app.error[0])
    assert not re.search(r"(?<!\\)[\[\](){}*_`!<>]", app.error[0].value)


def test_huge_numbers_in_a_link_are_refused_in_words() -> None:
    with pytest.raises(FusionError):
        Work.from_link(mutated(area=[[10**400, 1], [2, 3], [4, 5]]))


def test_a_method_or_day_given_twice_counts_once(app: AppTest) -> None:
    delta = ["delta", {}]
    app.query_params[state.PARAMETER] = mutated(methods=[delta, delta], pairs=["2018-04-22", "2018-04-22"])
    page = visit(app.run(), "fuse")
    assert [method.name() for method in page.session_state["work"].methods] == ["delta"]
    assert page.session_state["work"].pairs == (date(2018, 4, 22),)


def test_a_link_alone_reads_nothing(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    read = sample.read
    monkeypatch.setattr(sample, "read", lambda *args: (asked.append(args), read(*args))[1])
    app.query_params[state.PARAMETER] = Work(methods=(methods.get("nearest")(),)).to_link()
    app.run()
    for name in PAGES:
        visit(app, name)
    assert asked == []
    button(visit(app, "compare"), "Show the images").click().run()
    assert asked


def test_the_time_of_a_run_is_measured_in_the_background_and_shown(
    app: AppTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish, known = threading.Event(), {}

    def seconds(method: Method, size: Size, *, measure: bool = True) -> float:
        finish.wait(30)
        known[method.name()] = {"delta": 0.2, "starfm": 21.0}[method.name()]
        return known[method.name()]

    monkeypatch.setattr(estimate, "seconds", seconds)
    page = visit(app.run(), "fuse")  # comes back although nothing is measured yet
    assert "On this machine: Delta, STARFM measuring..." in texts(page)
    finish.set()
    patiently(lambda: len(known) == 2)
    page.run()
    assert "On this machine: Delta less than 1 s; STARFM about 20 s; together about 20 s" in texts(page)
    assert "Time on this machine: about 20 s" in texts(page)


def test_a_finished_run_mends_the_time_that_is_shown(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    learnt: dict[str, float] = {}

    def seconds(method: Method, size: Size, *, measure: bool = True) -> float:
        return learnt.get(method.name(), 21.0)

    def learn(method: Method, size: Size, seen: float) -> None:
        assert size.ratio == 10 and 0 < seen < 600
        learnt[method.name()] = 42.0

    monkeypatch.setattr(estimate, "seconds", seconds)
    monkeypatch.setattr(estimate, "learn", learn)
    page = visit(app.run(), "fuse")
    patiently(lambda: "Delta, STARFM about 20 s each" in texts(page.run()))
    by_label(page.multiselect, "Methods to run").set_value(["delta"]).run()
    button(page, "Fuse").click().run()
    patiently(lambda: "delta" in learnt)
    assert set(learnt) == {"delta"}
    assert "Delta about 40 s" in texts(page.run())


def test_a_method_that_cannot_be_measured_has_no_time(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    def seconds(method: Method, size: Size, *, measure: bool = True) -> float | None:
        if method.name() == "delta":
            return None
        raise ZeroDivisionError("a fault of the method's own, which shows when it is run")

    monkeypatch.setattr(estimate, "seconds", seconds)
    page = visit(app.run(), "fuse")
    patiently(lambda: "measuring" not in texts(page.run()))
    assert "Delta, STARFM unknown" in texts(page)


def patiently(done: Callable[[], bool]) -> None:
    """Wait for another thread, but not for ever."""
    end = time.monotonic() + 30
    while not done():
        assert time.monotonic() < end
        time.sleep(0.01)


# Why this pixel?


@pytest.fixture
def compared(app: AppTest) -> AppTest:
    """The Compare page with results of Delta and STARFM."""
    page = visit(app.run(), "fuse")
    button(page, "Fuse").click().run()
    return visit(page, "compare")


def clicked(page: AppTest, row: int, column: int) -> AppTest:
    """The page after a click in the middle of a pixel."""
    work = page.session_state["work"]
    geobox = state.recipe(work, work.methods[0]).geobox
    (lon,), (lat,) = transform(str(geobox.crs), "EPSG:4326", *([v] for v in geobox.pix2wld(column + 0.5, row + 0.5)))
    page.session_state["clicked"] = (lon, lat)
    page.run()
    assert not page.exception and not page.error
    return page


def results(page: AppTest) -> dict[str, Scene]:
    work = page.session_state["work"]
    return {method.name(): run(state.recipe(work, method)) for method in work.methods}


def test_the_parts_of_a_clicked_pixel_add_up_to_the_result(compared: AppTest) -> None:
    truth = results(compared)["starfm"]
    for row, column, band in ((0, 99, "nir"), (53, 62, "nir"), (20, 31, "red")):
        page = clicked(compared, row, column)
        by_label(page.selectbox, "Band explained").set_value(band).run()
        shown = {metric.label: metric.value for metric in page.metric}
        value = f"{truth.data[truth.bands.index(band), row, column]:.6f}"
        assert shown["The result holds (reflectance)"] == value
        assert float(shown["The parts add up to (reflectance)"]) == pytest.approx(float(value), abs=2e-6)
        assert f"row {row}, column {column}" in texts(page)
        table = page.table[0].value
        assert float(table["value"].iloc[-1]) == pytest.approx(float(value), abs=1.1e-5)
        assert any("F_2(p)" in block.value for block in page.latex)


def test_the_second_click_finds_what_the_method_knows_of_the_whole_image(
    compared: AppTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    prepare = methods.get("starfm").prepare
    monkeypatch.setattr(methods.get("starfm"), "prepare", lambda *args: (asked.append(args), prepare(*args))[1])
    clicked(clicked(compared, 10, 20), 30, 40)
    assert len(asked) == 1


def test_the_choices_of_the_explanation_change_what_is_drawn(compared: AppTest) -> None:
    page = clicked(compared, 53, 62)
    pair = by_label(page.selectbox, "Window of the pair")
    other = next(option for option in pair.options if option != pair.value)
    pair.set_value(other)
    plane = by_label(page.selectbox, "Show beside the weights")
    assert [option.partition(":")[0] for option in plane.options[1:]] == ["What each says", "S", "T", "D"]
    plane.set_value(plane.options[-1])
    by_label(page.radio, "Steps of the sum").set_value("neighbour").run()
    assert not page.exception and not page.error
    assert f"the pair k of {other}" in texts(page)
    assert by_label(page.selectbox, "Show beside the weights").value == plane.options[-1]


def test_without_a_click_or_a_result_that_explains_the_page_says_what_to_do(compared: AppTest) -> None:
    assert "Click a pixel on a map to see which neighbours" in texts(compared)
    compared.session_state["clicked"] = (0.0, 0.0)
    assert "is outside the images: click inside them" in texts(compared.run())
    page = visit(compared, "fuse")
    by_label(page.multiselect, "Methods to run").set_value(["delta"]).run()
    shown = texts(visit(page, "compare"))
    assert "None of the results explains its pixels" in shown and "STARFM" in shown


def test_a_pixel_without_prediction_says_why(compared: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    load = runs.stack

    def cloudy(recipe: Recipe) -> Stack:
        stack = load(recipe)
        target = stack.target.copy()
        target[:, 5, 6] = np.nan
        return replace(stack, target=target)

    monkeypatch.setattr(runs, "stack", cloudy)
    page = clicked(compared, 53, 62)
    assert "missing in every pair or in the coarse target" in texts(page)
    assert not page.metric


# Images from a catalogue that asks the network: it runs on loopback.


@pytest.fixture(scope="module")
def catalogue() -> Iterator[Server]:
    with running() as server:
        satellites.fill(server, satellites.FINE_DAYS[:4], satellites.COARSE_DAYS[:13:4] + satellites.COARSE_DAYS[1:7:4])
        yield server


@pytest.fixture
def far(app: AppTest, catalogue: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[AppTest]:
    """The app, and a link to an area of the catalogue that nobody has searched yet."""
    monkeypatch.setenv("FUSION_STAC", f"loop={catalogue.url}")
    monkeypatch.setenv("FUSION_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(_stac_web, "PAUSE", 0.001)
    for kept in (_stac_granules.SHELF, _stac_granules.TOKENS, _stac_granules._LIVE):
        kept.clear()
    catalogue.log.clear()
    catalogue.faults.clear()
    app.query_params[state.PARAMETER] = away().to_link()
    yield app
    _stac_web._pool.cache_clear()


def away(**parts: object) -> Work:
    chosen = tuple(methods.get(name)() for name in ("nearest", "delta"))
    options = (("catalogue", "loop"),)
    work = Work("stac", options, satellites.area(), methods=chosen, dates=satellites.DATES)
    return replace(work, **parts)  # type: ignore[arg-type]


def searched(app: AppTest) -> AppTest:
    page = visit(app.run(), "area")
    button(page, "Search images").click().run()
    assert not page.exception and not page.error
    return page


def test_a_link_to_a_remote_source_asks_nothing_and_every_page_says_what_to_do(far: AppTest, catalogue: Server) -> None:
    far.run()
    for name in ("fuse", "compare", "evaluate"):
        page = visit(far, name)
        assert "search the images of the area on the Area page" in texts(page) and not page.error
    page = visit(far, "area")
    assert "Not searched yet" in texts(page) and "Fine grid" in texts(page)
    assert catalogue.log == []
    assert page.session_state["work"] == away()


def test_without_an_area_the_map_invites_to_draw_one(far: AppTest, catalogue: Server) -> None:
    far.query_params[state.PARAMETER] = away(area=None, dates=None).to_link()
    page = visit(far.run(), "area")
    assert not page.error and "Draw the area that you want to see sharp" in texts(page)
    assert "**Area** not drawn yet" in texts(page) and button(page, "Search images").disabled
    first, last = page.session_state["work"].dates
    assert (last - first).days == state.USUAL_DAYS
    button(page, "Use these bounds").click().run()
    assert any("four numbers" in said(error) for error in page.error)
    for label, value in (("West", 15.03), ("South", 45.98), ("East", 15.10), ("North", 46.03)):
        by_label(page.number_input, f"{label} (degrees)").set_value(value)
    button(page, "Use these bounds").click().run()
    assert not page.error and not button(page, "Search images").disabled and catalogue.log == []


def test_a_search_proposes_days_and_shows_clouds_over_the_area(far: AppTest) -> None:
    page = searched(far)
    work = page.session_state["work"]
    assert "Found 4 fine images and 6 coarse images, 4 days with both." in texts(page)
    assert work.target in satellites.FINE_DAYS and work.pairs and work.target not in work.pairs
    cloudy = by_label(page.multiselect, "Days of the pairs").options
    assert any(option == f"{satellites.CLOUDY}, 50 % cloud" for option in cloudy)


def test_another_area_asks_for_a_new_search_and_the_old_one_is_still_known(far: AppTest, catalogue: Server) -> None:
    page = searched(far)
    work = page.session_state["work"]
    by_label(page.date_input, "Last day").set_value(date(2020, 7, 10)).run()
    assert "have changed since the last search" in texts(page)
    assert page.session_state["work"] == replace(work, dates=(satellites.DATES[0], date(2020, 7, 10)))
    asked = len(catalogue.log)
    by_label(page.date_input, "Last day").set_value(satellites.DATES[1]).run()
    assert "Found 4 fine images" in texts(page) and page.session_state["work"] == work
    assert len(catalogue.log) == asked


def test_a_search_that_finds_nothing_says_what_to_do(far: AppTest) -> None:
    far.query_params[state.PARAMETER] = away(dates=(date(2015, 1, 1), date(2015, 3, 1))).to_link()
    page = searched(far)
    assert "No fine images, no coarse images, 0 days with both" in page.warning[0].value
    assert "take more days" in page.warning[0].value


def test_a_search_that_fails_is_told_to_the_one_who_asked_and_nothing_is_lost(far: AppTest, catalogue: Server) -> None:
    catalogue.fault("/search", status=500)
    page = visit(far.run(), "area")
    button(page, "Search images").click().run()
    assert not page.exception
    assert [said(error)[:7] for error in page.error] == ["Search:"]
    assert page.session_state["work"] == away()
    other = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    other.query_params[state.PARAMETER] = away().to_link()
    assert not visit(other.run(), "area").error
    catalogue.faults.clear()
    button(page, "Search images").click().run()
    assert not page.error and "Found 4 fine" in texts(page)


def test_two_methods_read_each_part_of_a_file_once(far: AppTest, catalogue: Server) -> None:
    page = visit(searched(far), "fuse")
    catalogue.log.clear()  # the search has looked at the quality bands
    button(page, "Fuse").click().run()
    assert not page.exception and not page.error
    assert {"Nearest", "Delta"} <= set(by_label(page.radio, "Result shown").options)
    parts = [(one.path, one.part) for one in catalogue.requests("/files/") if one.part]
    assert parts and len(parts) == len(set(parts))


def test_no_page_reads_a_remote_image_by_itself(far: AppTest, catalogue: Server) -> None:
    page = visit(searched(far), "compare")
    asked = len(catalogue.log)
    assert "The images are not read yet" in texts(page)
    button(page, "Read the images").click().run()
    assert not page.exception and not page.error
    assert len(catalogue.log) > asked
    assert "The images are not read yet" not in texts(page)
    assert any(option.startswith("Coarse") for option in by_label(page.selectbox, "Left of the swipe").options)
    recipe = state.recipe(page.session_state["work"], methods.get("nearest")())
    runs.shelf().put("something", "large", 2**40)  # puts everything else off the shelf
    with pytest.raises(FusionError, match="Read the images"):
        runs.stack(recipe)
    asked = len(catalogue.log)
    button(page.run(), "Read the images").click().run()
    assert not page.error and len(catalogue.log) == asked  # from the disk


def test_results_are_compared_at_once_and_only_the_truth_is_offered(far: AppTest) -> None:
    page = visit(searched(far), "fuse")
    work = page.session_state["work"]
    day = next(day for day in satellites.FINE_DAYS if state.truth_item(work, day) and day not in work.pairs)
    page.session_state["work"] = replace(work, target=day)
    button(page.run(), "Fuse").click().run()
    page = visit(page, "compare")
    assert "The images are not read yet" not in texts(page)
    options = by_label(page.selectbox, "Left of the swipe").options
    assert {"Nearest", "Delta", f"Fine {work.pairs[0]}"} < set(options) and f"Truth {day}" not in options
    button(page, f"Read the fine image of {day} (truth)").click().run()
    assert not page.exception and not page.error
    assert f"Truth {day}" in (by_label(page.selectbox, side).value for side in ("Left", "Right"))
    assert not [one for one in page.button if one.label.startswith("Read the")]


def test_a_search_that_is_out_of_date_leads_nowhere_and_one_under_way_is_waited_for(far: AppTest) -> None:
    page = searched(far)
    assert "Continue to Fuse" in [link.proto.label for link in page.get("page_link")]
    work = page.session_state["work"]
    page.session_state["work"] = replace(work, dates=(satellites.DATES[0], date(2020, 7, 10)))
    page.run()
    assert "Continue to Fuse" not in [link.proto.label for link in page.get("page_link")]
    draft = page.session_state["work"]
    finish = threading.Timer(0.2, lambda: None)
    keep = state.finds()

    def work_of_it(progress: Callable[..., None]) -> None:
        finish.join()
        state.search(draft, progress, keep)

    finish.start()
    runs.queue().submit(scenes._job(draft), "Search", work_of_it, runs.session(), network=True)
    page = visit(page, "fuse")
    assert not page.error and "Nothing to work with yet" not in texts(page)
    assert button(page, "Fuse")


def test_another_remote_source_keeps_days_and_pairs(far: AppTest) -> None:
    page = searched(far)
    work = page.session_state["work"]
    by_label(page.selectbox, "Source of images").set_value("earthengine").run()
    moved = page.session_state["work"]
    assert moved.source == "earthengine"
    assert (moved.area, moved.dates, moved.target, moved.pairs) == (work.area, work.dates, work.target, work.pairs)


def test_evaluate_hides_the_fine_image_of_a_remote_day(far: AppTest) -> None:
    page = visit(searched(far), "evaluate")
    options = by_label(page.selectbox, "Day whose fine image is hidden").options
    assert [option[:10] for option in options] == [str(day) for day in satellites.FINE_DAYS[:4]]
    button(page, "Evaluate").click().run()
    assert not page.exception and not page.error
    assert {"Nearest", "Delta"} <= set(page.table[0].value.columns)


def test_a_read_that_fails_is_said_once_and_the_work_is_kept(far: AppTest, catalogue: Server) -> None:
    page = visit(searched(far), "fuse")
    work = page.session_state["work"]
    catalogue.fault("blue.tif", status=404)
    button(page, "Fuse").click().run()
    assert not page.exception
    assert len(page.error) == 1 and said(page.error[0]).startswith("Nearest, Delta: ")
    assert page.session_state["work"] == work


def test_corrections_are_said_beside_the_result(app: AppTest) -> None:
    work = Work(methods=(methods.get("nearest")(),), shift=(20.0, -10.0), harmonise=True)
    app.query_params[state.PARAMETER] = work.to_link()
    page = visit(app.run(), "fuse")
    button(page, "Fuse").click().run()
    words = "Coarse images are read 20 m east and 10 m south of where their grid says and harmonised"
    assert any(words in str(caption.value) for caption in page.caption)
    assert state.corrections(Work()) == ""


def test_moving_one_day_too_far_takes_the_other_along(far: AppTest) -> None:
    page = visit(far.run(), "area")
    by_label(page.date_input, "First day").set_value(date(2014, 1, 1)).run()
    assert page.session_state["work"].dates == (date(2014, 1, 1), date(2014, 4, 2)) and not page.error
    by_label(page.date_input, "Last day").set_value(date(2015, 1, 1)).run()
    assert page.session_state["work"].dates == (date(2014, 1, 1), date(2015, 1, 1))
    with pytest.raises(FusionError, match="two years at most"):
        away(dates=(date(2014, 1, 1), date(2019, 1, 1))).check()


def test_a_catalogue_without_coarse_images_leaves_the_choice_of_them(far: AppTest) -> None:
    page = visit(far.run(), "area")
    by_label(page.selectbox, "Catalogue").set_value("earthsearch").run()
    assert not page.exception and not page.warning and not page.error
    assert "MODIS" in by_label(page.selectbox, "Coarse images").options[0]  # they come from another catalogue
    assert page.session_state["work"].area == satellites.area()


def test_own_files_without_a_data_set_lead_to_their_page(app: AppTest) -> None:
    page = visit(app.run(), "area")
    by_label(page.selectbox, "Source of images").set_value("local").run()
    assert not page.exception and not page.error
    assert "No files are chosen yet" in texts(page)
    assert "No files are chosen yet" in texts(visit(page, "fuse"))


def test_earth_engine_says_what_is_missing_and_tries_again_when_asked(
    app: AppTest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FUSION_EE_KEY", str(tmp_path / "none.json"))
    app.query_params[state.PARAMETER] = Work("earthengine").to_link()
    page = visit(app.run(), "area")
    assert "FUSION_EE_KEY wants the path" in said(page.warning[0]) and "registered" in texts(page)
    tried = []
    monkeypatch.setattr(earthengine, "sign_in", lambda *given: (tried.append(given), known)[1])
    known = earthengine.Identity("service account", "reader@example.org", "my-project")
    assert page.run().warning and not tried
    button(page, "Try again").click().run()
    assert not page.warning and len(tried) == 1
    assert any("reader@example.org" in said(caption) for caption in page.caption)
