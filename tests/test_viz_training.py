"""Figures of a training: curves stand where the numbers say, floors are lines, and axes name their units."""

import math

import plotly.graph_objects as go
import pytest

from fusion import viz


def named(figure: go.Figure, start: str) -> go.Scatter:
    return next(trace for trace in figure.data if trace.name.startswith(start))


def titles(figure: go.Figure) -> tuple[str, str]:
    return figure.layout.xaxis.title.text, figure.layout.yaxis.title.text


def test_each_network_has_its_own_curve_colour_and_symbol() -> None:
    figure = viz.loss_curves([1, 2, 3], {"generator": [0.5, 0.4, 0.3], "discriminator": [1.0, math.nan, 0.8]})
    first, second = figure.data
    assert (first.name, first.x, first.y) == ("generator", (1, 2, 3), (0.5, 0.4, 0.3))
    assert second.y == (1.0, None, 0.8)
    assert first.line.color != second.line.color and first.marker.symbol != second.marker.symbol
    assert titles(figure) == ("Epoch (number)", "Loss (no unit)") and figure.layout.showlegend
    assert figure.layout.yaxis.type == "linear"


def test_steep_losses_are_shown_on_a_logarithmic_axis_but_never_ones_below_zero() -> None:
    steep = viz.loss_curves([1, 2], {"generator": [5.0, 0.01]})
    assert steep.layout.yaxis.type == "log" and "logarithmic" in steep.layout.title.subtitle.text
    below = viz.loss_curves([1, 2], {"generator": [5.0, 0.01], "critic": [-1.0, -0.5]})
    assert below.layout.yaxis.type == "linear" and "logarithmic" not in below.layout.title.subtitle.text


def test_floors_are_level_lines_over_all_epochs_and_the_best_is_marked() -> None:
    figure = viz.held_out(
        [0, 1, 2, 3], [0.05, 0.03, 0.02, 0.04], {"Nearest": 0.06, "Delta": 0.025}, hidden="2018-05-02"
    )
    assert named(figure, "network").y == (0.05, 0.03, 0.02, 0.04)
    for name, value in (("Nearest", 0.06), ("Delta", 0.025)):
        floor = named(figure, name)
        assert (floor.x, floor.y, floor.name) == ((0, 3), (value, value), f"{name} {value:.4f}")
        assert floor.line.dash != "solid"
    assert named(figure, "Nearest").line.dash != named(figure, "Delta").line.dash
    best = named(figure, "best")
    assert (best.x, best.y) == ((2,), (0.02,))
    assert titles(figure) == ("Epoch (number)", "RMSE (reflectance)") and figure.layout.showlegend
    assert "2018-05-02" in figure.layout.title.text


def test_two_trainings_share_floors_and_each_has_its_best() -> None:
    figure = viz.held_out(
        [0, 1, 2],
        [0.03, 0.02, 0.025],
        {"Delta": 0.022},
        name="adapted",
        others={"from scratch": ([0, 1], [0.05, 0.04])},
    )
    first, second = named(figure, "adapted"), named(figure, "from scratch")
    assert (second.x, second.y) == ((0, 1), (0.05, 0.04))
    assert first.line.color != second.line.color and first.marker.symbol != second.marker.symbol
    assert named(figure, "Delta").x == (0, 2)
    assert [trace.name for trace in figure.data[-2:]] == ["adapted, best 0.0200", "from scratch, best 0.0400"]
    assert (figure.data[-1].x, figure.data[-1].y) == ((1,), (0.04,))


def test_a_training_that_has_not_begun_has_no_curve_yet() -> None:
    figure = viz.held_out([0], [0.03], {}, name="adapted", others={"from scratch": ([], [])})
    assert [trace.name for trace in figure.data] == ["adapted", "adapted, best 0.0300"]


def test_one_epoch_alone_has_floors_that_can_be_seen() -> None:
    figure = viz.held_out([0], [0.05], {"Delta": 0.025})
    assert named(figure, "Delta").x == (0, 1)
    assert figure.layout.xaxis.dtick == 1  # not 0, 0, 1, 1


def test_unknown_errors_and_floors_are_left_out() -> None:
    figure = viz.held_out([0, 1], [math.nan, 0.03], {"Nearest": math.nan, "Delta": 0.025})
    assert named(figure, "network").y == (None, 0.03)
    assert [trace.name for trace in figure.data] == ["network", "Delta 0.0250", "best 0.0300"]


@pytest.mark.parametrize(
    ("figure", "words"),
    [
        (viz.loss_curves([], {}), "no epoch is done yet"),
        (viz.held_out([0], [math.nan], {"Delta": 0.1}), "nothing is predicted yet"),
    ],
)
def test_nothing_to_show_is_said(figure: go.Figure, words: str) -> None:
    assert [note.text for note in figure.layout.annotations] == [words]
    assert not figure.data and figure.layout.xaxis.visible is False


def test_names_from_elsewhere_are_no_markup() -> None:
    figure = viz.held_out([0], [0.1], {"<b>x</b>": 0.2})
    assert named(figure, "&lt;b&gt;").name == "&lt;b&gt;x&lt;/b&gt; 0.2000"


def test_a_curve_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="one value an epoch, got 1 of generator and 2 epochs"):
        viz.loss_curves([1, 2], {"generator": [0.5]})
    with pytest.raises(ValueError, match="one value an epoch, got 2 of network and 1 epochs"):
        viz.held_out([0], [0.1, 0.2], {})
    with pytest.raises(ValueError, match="one value an epoch, got 2 of other and 1 epochs"):
        viz.held_out([0], [0.1], {}, others={"other": ([0], [0.1, 0.2])})
