"""The Check page: what it finds in the sample and in the lab, what it offers, and how each number comes about."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import streamlit as st
from affine import Affine
from streamlit.testing.v1 import AppTest

from fusion import methods
from fusion.errors import FusionError
from fusion.recipe import load
from fusion.sources import local
from fusion.stack import Stack
from own_files import DAYS, SIX, UTM, ground, seen_coarse, write
from pages._shared import checks, runs, state
from pages._shared.state import Work
from test_local import displaced

ROOT = Path(__file__).parents[1]


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[AppTest]:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("FUSION_CACHE", "off")
    st.cache_data.clear()
    st.cache_resource.clear()
    yield AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)


def opened(app: AppTest, **parts: object) -> AppTest:
    """The Check page with this work, chosen by a person and not by a link."""
    app.run()
    with_methods = {"methods": (methods.get("nearest")(),), **parts}
    app.session_state["work"] = state.settle(Work(**with_methods))  # type: ignore[arg-type]
    return visit(app)


def visit(app: AppTest) -> AppTest:
    app.switch_page("pages/check.py").run()
    assert not app.exception, [e.message for e in app.exception]
    return app


def texts(app: AppTest) -> str:
    kinds = (app.markdown, app.caption, app.info, app.error, app.success, app.warning, app.title, app.subheader)
    return re.sub(r"\\(.)", r"\1", "\n".join(str(element.value) for kind in kinds for element in kind))


def labels(app: AppTest) -> list[str]:
    return [button.label for button in app.button]


def press(app: AppTest, label: str) -> AppTest:
    next(button for button in app.button if button.label == label).click().run()
    assert not app.exception, [e.message for e in app.exception]
    return app


CORRECT = "Correct it: read the coarse images there"


def test_the_sample_fits_and_nothing_is_offered(app: AppTest) -> None:
    page = visit(app.run())
    shown = texts(page)
    assert "Fits." in shown and "nothing is corrected" in shown
    assert CORRECT not in labels(page) and "Undo" not in labels(page)
    table = page.dataframe[0].value
    assert list(table["day"]) == [str(day) for day in page.session_state["work"].pairs]
    assert not page.error


def test_a_displaced_lab_is_found_corrected_and_undone(app: AppTest) -> None:
    page = opened(app, source="lab", options=(("shift_east", 240.0),))
    shown = texts(page)
    assert re.search(r"24\d m east of the fine ones on (both|all 2) dates", shown), shown
    page = press(page, CORRECT)
    east, north = page.session_state["work"].shift
    assert east == pytest.approx(240, abs=5) and north == pytest.approx(0, abs=5)
    shown = texts(page)
    assert "Shifted." not in shown and "nothing is corrected" in shown and "In use:" in shown
    assert CORRECT not in labels(page)
    page = press(page, "Undo")
    assert page.session_state["work"].shift == (0.0, 0.0) and CORRECT in labels(page)


def own(app: AppTest, key: str) -> AppTest:
    return opened(app, source="local", options=(("dataset", key),))


def test_own_files_without_crs_are_in_metres_and_the_edge_that_is_lost_is_told(
    app: AppTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUSION_OWN", str(tmp_path / "store"))
    page = own(app, displaced(tmp_path / "files", -6))
    shown = texts(page)
    assert re.search(r"images? lies? 1[78]\d m west", shown) and "units" not in shown
    assert {"east (m)", "north (m)"} < set(page.dataframe[0].value.columns)
    assert all(" m = " in text for text in page.dataframe[0].value["blur"])
    lost = "Read there, about 5 % of the area, at its western edge, gets no value"
    assert lost in shown
    assert lost in texts(press(page, CORRECT))  # and still while it is in use


def test_how_a_conflict_of_georeference_was_decided_is_named(
    app: AppTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUSION_OWN", str(tmp_path / "store"))
    displaced(tmp_path / "files", 0, transform=UTM)
    for step, day in enumerate(DAYS):  # the same pixels with a georeference 5 pixels farther east
        coarse = seen_coarse(ground(step, 3, 240, 240)[:, 40:200, 40:200], 8)
        write(tmp_path / f"files/coarse/MODIS_{day}.tif", coarse, Affine.translation(150, 0) * UTM, names=SIX[1:4])
    proposal = local.look(tmp_path / "files")
    (question,) = proposal.questions
    for answer, words in (("pixels", "line up pixel for pixel"), ("georeference", "lie where their georeference says")):
        key = local.add(proposal.answer({question.id: answer}))
        shown = texts(own(app, key))
        assert "Georeference conflict" in shown and f"{words}, as you answered" in shown


def test_harmonising_is_off_until_it_is_chosen_and_shows_its_effect(app: AppTest) -> None:
    page = opened(app, source="lab", options=(("gain", 0.85), ("offset", 0.03)))
    assert page.session_state["work"].harmonise is False
    table = page.dataframe[-1].value
    assert [float(value) for value in table["gain"]] == pytest.approx([0.85] * len(table), abs=0.02)
    assert [float(value) for value in table["gain after"]] == pytest.approx([1] * len(table), abs=0.01)
    assert all(float(row["RMSE after"]) < 0.5 * float(row["RMSE before"]) for _, row in table.iterrows())
    next(toggle for toggle in page.toggle if toggle.label.startswith("Harmonise")).set_value(True).run()
    assert page.session_state["work"].harmonise is True and not page.exception


def test_a_link_alone_reads_nothing(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(checks, "start", asked.append)
    app.query_params[state.PARAMETER] = Work(methods=(methods.get("nearest")(),)).to_link()
    page = visit(app.run())
    assert not asked and "Show the images" in labels(page)


def test_more_days_make_more_rows(app: AppTest) -> None:
    page = visit(app.run())
    choice = next(radio for radio in page.radio if radio.label == "Days compared")
    choice.set_value(choice.options[1]).run()
    table = page.dataframe[0].value
    assert not page.exception and 2 < len(table) <= checks.MOST_DAYS
    assert set(map(str, page.session_state["work"].pairs)) <= set(table["day"])


def stack_of(**options: object) -> tuple[Stack, object]:
    draft = state.settle(Work("lab", tuple(sorted(options.items())), methods=(methods.get("nearest")(),)))
    recipe = checks.plan(draft, draft.pairs)
    return load(recipe), recipe


@pytest.fixture
def lab(app: AppTest) -> tuple[Stack, object]:
    """The stack and recipe of the lab, displaced to the north-east."""
    return stack_of(shift_east=240.0, shift_north=480.0)


def test_the_peak_stands_where_the_card_says(lab: tuple[Stack, object]) -> None:
    checked = checks.check(*lab)
    for day in checked.days:
        assert day.peak is not None
        north, east = np.unravel_index(np.nanargmax(day.peak), day.peak.shape)
        middle = (len(day.peak) - 1) / 2
        pixel = checked.report.pixel
        assert (east - middle) * day.step * pixel == pytest.approx(day.card.dx, abs=0.6 * day.step * pixel)
        assert (north - middle) * day.step * pixel == pytest.approx(day.card.dy, abs=0.6 * day.step * pixel)
        assert 0.9 < np.nanmax(day.peak) <= 1


def test_clouds_units_and_brightness_are_named(lab: tuple[Stack, object]) -> None:
    stack, recipe = lab
    fine, coarse = stack.fine.copy(), stack.coarse.copy()
    fine[0] = np.nan
    coarse[1] *= 10_000
    checked = checks.check(replace(stack, fine=fine, coarse=coarse), recipe)
    assert checked.days[0].missing == (1.0, 0.0)
    first, second = (" ".join(day.warnings) for day in checked.days)
    assert "The fine image has no value at all" in first and checked.days[0].peak is None
    assert "The coarse image has a mistake of units" in second and "times as bright" in second
    table = checks.rows(checked, stack.ratio)
    assert table[0]["missing, fine / coarse"] == "100% / 0%" and table[0]["counts"].startswith("no: ")


def test_root_mean_square_errors_leave_missing_pixels_out() -> None:
    seen = np.zeros((2, 2, 2, 2))
    coarse = np.full((2, 2, 2, 2), np.nan)
    coarse[0, 0] = [[3.0, np.nan], [np.nan, 4.0]]
    assert checks._errors(coarse, seen, ("red", "nir"))["red"] == pytest.approx(np.sqrt(12.5))
    assert np.isnan(checks._errors(coarse, seen, ("red", "nir"))["nir"])


def test_the_line_through_coarse_pixels_is_that_of_two_points() -> None:
    seen = np.array([[0.1, 0.3, np.nan, 0.2]])
    assert checks.line_of(seen, 0.5 * seen + 0.1) == pytest.approx((0.5, 0.1))
    assert checks.line_of(seen * np.nan, seen) == (1.0, 0.0)


def test_a_shift_farther_than_recipes_allow_is_refused_in_words(app: AppTest) -> None:
    draft = state.settle(Work("lab", shift=(960.0, 0.0)))
    assert checks.add_shift(draft, (-720.0, 4.0)) == (240.0, 4.0)
    with pytest.raises(FusionError, match="correction cannot be used.*at most 2.6 coarse pixels"):
        checks.add_shift(draft, (960.0, 0.0))


def test_days_compared_hold_the_pairs_and_neither_the_target_nor_cloudy_ones(
    app: AppTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = state.settle(Work())
    days = checks.clear_days(draft)
    assert set(draft.pairs) < set(days) and draft.target not in days and days == sorted(days)
    assert len(days) <= checks.MOST_DAYS
    fine, coarse = state.items(draft)
    cloudy = next(day for day in days if day not in draft.pairs)
    veiled = [replace(item, cloud=0.9) if item.day == cloudy else item for item in fine]
    monkeypatch.setattr(state, "items", lambda _: (veiled, coarse))
    assert cloudy not in checks.clear_days(draft)


@pytest.mark.parametrize(
    ("shift", "words"), [((240.4, -3.0), "240 m east and 3 m south"), ((-1.0, 2.0), "1 m west and 2 m north")]
)
def test_shifts_are_said_in_words(shift: tuple[float, float], words: str) -> None:
    assert checks.where(shift, "m") == words


def test_a_cancelled_check_starts_again_only_on_a_click(app: AppTest) -> None:
    page = app.run()
    work = page.session_state["work"]
    key = checks.key(checks.plan(work, work.pairs))
    page.session_state["check-tried"] = key  # as after a job that was cancelled
    page = visit(page)
    assert "Nothing is read yet" in texts(page) and runs.shelf().get(key) is None
    assert "Fits." in texts(press(page, "Read and check the pairs"))
