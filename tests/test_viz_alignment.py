"""Figures of alignment: marks stand where the numbers say, axes name their units, and missing is left out."""

import json
import math
import re
from datetime import date

import numpy as np
import plotly.graph_objects as go
import pytest

from fusion import viz
from fusion.preprocess import Card, Report

FIRST, SECOND = date(2021, 4, 15), date(2021, 6, 18)


def card(day: date = FIRST, **more: object) -> Card:
    """A card of a coarse image 240 m east and 30 m south."""
    usual = {
        "dx": 240.0, "dy": -30.0, "dx_error": 6.0, "dy_error": 4.0, "sharpness": 0.14, "bands": ("red", "nir"),
        "gain": (0.9, 1.1), "offset": (0.01, -0.02),
    }  # fmt: skip
    return Card(day, **{**usual, **more})  # type: ignore[arg-type]


def report(*cards: Card, shift: tuple[float, float] = (240.0, -30.0), unit: str = "m") -> Report:
    return Report(cards, *shift, "in words", 480.0, unit)


def named(figure: go.Figure, name: str) -> go.Scatter:
    return next(trace for trace in figure.data if trace.name == name)


def titles(figure: go.Figure) -> tuple[str, str]:
    return figure.layout.xaxis.title.text, figure.layout.yaxis.title.text


def says_nothing(figure: go.Figure) -> bool:
    """Whether a figure has no axes and no data, and says why, without the word of a missing number."""
    texts = [note.text for note in figure.layout.annotations]
    shown = figure.layout.xaxis.visible is False and figure.layout.yaxis.visible is False and not figure.data
    words = f"{figure.layout.title.text} {figure.layout.title.subtitle.text}"
    return shown and texts == ["not enough coarse pixels"] and not re.search(r"\bnan\b", words)


def test_shifts_stand_where_the_cards_say_with_two_standard_errors() -> None:
    figure = viz.shifts(report(card(), card(SECOND, dx=-100.0, doubt="flat & unclear")))
    sharp, doubtful, accepted = (
        named(figure, name) for name in ("sharp peak", "doubtful: does not count", "shift to correct")
    )
    assert (sharp.x, sharp.y) == ((240.0,), (-30.0,))
    assert tuple(sharp.error_x.array) == (12.0,) and tuple(sharp.error_y.array) == (8.0,)
    assert doubtful.x == (-100.0,) and "flat &amp; unclear" in doubtful.text[0]
    assert (accepted.x, accepted.y) == ((240.0,), (-30.0,))
    assert titles(figure) == ("East (m)", "North (m)")


def test_the_circle_is_the_tolerance_and_the_square_a_coarse_pixel() -> None:
    square, circle = viz.shifts(report(card()), tolerance=0.25).layout.shapes
    assert (square.x0, square.x1) == (-240, 240) and (circle.y0, circle.y1) == (-120, 120)


def test_a_date_without_a_place_is_left_out_and_nothing_to_correct_has_no_cross() -> None:
    figure = viz.shifts(report(card(dx=math.nan, dy=math.nan, doubt="clouds"), shift=(0.0, 0.0)))
    assert [trace.name for trace in figure.data] == []
    assert says_nothing(figure)


def test_unknown_errors_draw_no_bar() -> None:
    trace = viz.shifts(report(card(dx_error=math.inf))).data[0]
    assert tuple(trace.error_x.array) == (0.0,) and tuple(trace.error_y.array) == (8.0,)


@pytest.mark.parametrize("unit", ["m", "degrees"])
def test_the_peak_map_has_no_displacement_in_its_middle(unit: str) -> None:
    values = np.full((5, 5), 0.2)
    values[1, 3] = 0.9  # one step south, one east
    figure = viz.peak(values, 0.25, card(dx=120.0, dy=-120.0), report(card(), unit=unit))
    heat = figure.data[0]
    north, east = np.unravel_index(np.argmax(np.array(heat.z)), (5, 5))
    assert (heat.x0 + east * heat.dx, heat.y0 + north * heat.dy) == (120.0, -120.0)
    assert (named(figure, "peak").x, named(figure, "peak").y) == ((120.0,), (-120.0,))
    assert named(figure, "as the grids say").x == (0.0,)
    assert titles(figure) == (f"East ({unit})", f"North ({unit})")


def test_a_peak_map_without_a_place_marks_none() -> None:
    figure = viz.peak(np.full((5, 5), 0.1), 0.25, card(dx=math.nan, sharpness=math.nan), report(card()))
    assert [trace.name for trace in figure.data][1:] == ["as the grids say"]
    assert "nan" not in figure.layout.title.subtitle.text


def test_without_a_number_there_are_no_axes_but_a_word_why() -> None:
    none = card(dx=math.nan, dy=math.nan, sharpness=math.nan, bands=(), gain=(), offset=(), doubt="few")
    gone, lost = np.full((5, 5), np.nan), card(gain=(math.nan, math.nan))
    for figure in (
        viz.shifts(report(none, shift=(0.0, 0.0))), viz.shifts(report(shift=(0.0, 0.0))),
        viz.peak(gone, 0.25, none, report(none)), viz.gains(report(none)), viz.gains(report(lost)),
        viz.coarse_on_fine(gone, gone, (math.nan, math.nan), "red"),
        viz.before_after({}, {}, "RMSE"), viz.before_after({"red": math.nan}, {"red": math.nan}, "RMSE"),
    ):  # fmt: skip
        assert says_nothing(figure)


def test_a_line_that_is_not_known_is_not_drawn() -> None:
    values = np.linspace(0, 1, 9)
    figure = viz.coarse_on_fine(values, values, (math.nan, 0.0), "red")
    assert [trace.name for trace in figure.data] == ["coarse pixels", "1:1"]


def test_gains_keep_their_bands_and_dates() -> None:
    figure = viz.gains(report(card(), card(SECOND, gain=(1.0, 1.2)), card(date(2021, 7, 1), bands=(), gain=())))
    assert [trace.name for trace in figure.data] == [str(FIRST), str(SECOND)]
    assert figure.data[1].x == ("red", "nir") and tuple(figure.data[1].y) == (1.0, 1.2)
    assert figure.data[0].marker.color != figure.data[1].marker.color


def test_the_scatter_leaves_missing_pixels_out_and_draws_the_line() -> None:
    fine = np.array([[0.1, 0.2, np.nan], [0.3, 0.4, 0.5]])
    coarse = 0.5 * fine + 0.1
    coarse[0, 0] = np.nan
    figure = viz.coarse_on_fine(fine, coarse, (0.5, 0.1), "nir", note="n & m")
    points, line = named(figure, "coarse pixels"), named(figure, "regression")
    assert list(points.x) == [0.2, 0.3, 0.4, 0.5]
    assert np.allclose(np.array(line.y), 0.5 * np.array(line.x) + 0.1)
    assert "4 coarse pixels; n &amp; m" in figure.layout.title.subtitle.text


def test_very_many_points_are_thinned_and_none_make_an_empty_figure() -> None:
    many = np.linspace(0, 1, 10_000)
    figure = viz.coarse_on_fine(many, many, (1.0, 0.0), "red")
    assert len(named(figure, "coarse pixels").x) <= 4000 and "10,000 coarse pixels" in figure.layout.title.subtitle.text
    empty = viz.coarse_on_fine(np.full(3, np.nan), np.zeros(3), (1.0, 0.0), "red")
    assert says_nothing(empty) and "0 coarse pixels" in empty.layout.title.subtitle.text


def test_before_and_after_are_pairs_of_bars() -> None:
    figure = viz.before_after({"red": 0.02, "nir": 0.03}, {"red": 0.01, "nir": 0.03}, "RMSE")
    assert [tuple(bar.y) for bar in figure.data] == [(0.02, 0.03), (0.01, 0.03)]
    assert figure.layout.yaxis.title.text == "RMSE (reflectance)"


def test_figures_are_plain_json_and_load_nothing() -> None:
    values = np.random.default_rng(0).random((5, 5))
    for figure in (
        viz.shifts(report(card())), viz.peak(values, 0.25, card(), report(card())), viz.gains(report(card())),
        viz.coarse_on_fine(values, values, (1, 0), "red"), viz.before_after({"red": 1.0}, {"red": 0.5}, "RMSE"),
    ):  # fmt: skip
        text = figure.to_json()
        assert json.loads(text)["layout"]["title"]["text"] and "http" not in text
