"""explain: the parts of a prediction add up to what fuse gives, for every method that explains itself."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from fusion import FusionError, Method, Stack, explain, fuse, methods
from landscapes import bare, stack

EXPLAINING = [name for name in methods.names() if methods.get(name).explains]


@cache
def variants(name: str) -> list[Method]:
    """The method with its defaults, and with each other choice of each of its choices; windows kept small."""
    kind = methods.get(name)
    items = methods.params(kind)
    small = {item.name: 7 for item in items if item.name == "window"}
    choices = [(item.name, choice) for item in items for choice in item.choices if choice != item.default]
    return [kind(**small), *(kind(**small, **{key: choice}) for key, choice in choices)]


EACH = [pytest.param(m, id=f"{m.name()}-{i}") for name in EXPLAINING for i, m in enumerate(variants(name))]
ALL = [pytest.param(variants(name)[0], id=name) for name in EXPLAINING]


def problem(method: Method, extra: int = 0, **size: int) -> Stack:
    """A problem with as many pairs as the method needs, and `extra` more."""
    return stack((-40, 25, 60, -75)[: method.pairs + extra], **{"rows": 7, "columns": 9, "bands": 2, **size})


def pixels(shape: tuple[int, ...], count: int, seed: int = 0) -> list[tuple[int, int, int]]:
    """Band, row and column of the four corners and of `count` more pixels."""
    bands, height, width = shape
    rng = np.random.default_rng(seed)
    corners = [(b % bands, y, x) for b, (y, x) in enumerate(np.ndindex(2, 2))]
    corners = [(b, y * (height - 1), x * (width - 1)) for b, y, x in corners]
    return corners + [tuple(int(rng.integers(n)) for n in shape) for _ in range(count)]


@pytest.mark.parametrize("method", EACH)
@pytest.mark.parametrize(("extra", "gaps"), [(0, 0), (1, 0), (0, 2), (2, 2)])
def test_the_parts_add_up_to_the_prediction(method, extra, gaps):
    whole = problem(method, extra, gaps=gaps)
    truth, state = fuse(whole, method).data, method.prepare(whole)
    missing = np.argwhere(np.isnan(truth))[:: max(1, int(np.isnan(truth).sum()) // 4)].tolist()
    for b, y, x in [*pixels(truth.shape, 20), *missing]:
        found = explain(whole, method, whole.bands[b], y, x, state=state)
        np.testing.assert_allclose(found.prediction, truth[b, y, x], rtol=0, atol=1e-5)
        assert np.isnan(found.base) == np.isnan(truth[b, y, x])


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize("ratio", [1, 3])
def test_other_ratios_and_a_scene_smaller_than_the_window(method, ratio):
    whole = problem(method, rows=3, columns=2, ratio=ratio, bands=1)
    truth = fuse(whole, method).data
    for b, y, x in pixels(truth.shape, 4):
        found = explain(whole, method, "blue", y, x)
        np.testing.assert_allclose(found.prediction, truth[b, y, x], rtol=0, atol=1e-5)


@pytest.mark.parametrize("method", EACH)
@pytest.mark.parametrize("at", [(0, 0), (13, 20), (27, 35)], ids=["corner", "middle", "other corner"])
def test_the_window_its_weights_and_its_verdicts_fit_together(method, at):
    whole = problem(method, 1)
    found = explain(whole, method, "green", *at)
    assert found.days == whole.days
    shape = (len(whole.days), found.rows.stop - found.rows.start, found.columns.stop - found.columns.start)
    assert found.weight.shape == found.value.shape == found.verdict.shape == shape
    assert found.weight.dtype == found.value.dtype == np.float64 and found.verdict.dtype == np.uint8
    half = method.window // 2
    for part, place, size in ((found.rows, at[0], 28), (found.columns, at[1], 36)):
        assert part == slice(max(place - half, 0), min(place + half + 1, size))
    assert found.verdict.max() < len(found.verdicts) == len(set(found.verdicts))
    assert (found.weight >= 0).all() and (found.weight[found.verdict != 0] == 0).all()
    assert np.isfinite(found.value[found.weight > 0]).all() and (found.weight > 0).any()
    for plane in found.planes:
        assert plane.value.shape == shape and plane.symbol and plane.meaning
    if found.base == 0:
        assert found.weight.sum() == pytest.approx(1)
    assert found.equation and all(term.symbol and term.meaning and term.unit for term in found.terms)
    assert {term.pair for term in found.terms} <= {None, *range(len(whole.days))}


@pytest.mark.parametrize("method", ALL)
def test_what_is_drawn_and_said_is_there(method):
    whole = problem(method, 1)
    found = explain(whole, method, "green", 13, 20)
    assert found.latex.count("{") == found.latex.count("}") and "F_2(p)" in found.latex
    assert len(found.planes) >= 3
    for k, day in enumerate(whole.days):  # each pair has its own numbers, and its day is not in the words
        mine = [term for term in found.terms if term.pair == k]
        assert "F_k(p)" in [term.symbol for term in mine]
        assert not [term for term in mine if str(abs(day)) in term.meaning]
    target = whole.target.copy()
    target[:] = np.nan
    gone = explain(replace(whole, target=target), method, "green", 13, 20)
    assert np.isnan(gone.prediction) and "no prediction" in gone.note and not gone.weight.any()


@pytest.mark.parametrize("method", ALL)
def test_what_is_missing_in_a_pair_does_not_count_in_it(method):
    whole = problem(method, 1)
    fine = whole.fine.copy()
    fine[0, :, 10:14, 12:20] = np.nan
    found = explain(replace(whole, fine=fine), method, "blue", 13, 21)
    y, x = slice(10 - found.rows.start, 14 - found.rows.start), slice(0, 20 - found.columns.start)
    gone = np.zeros(found.weight.shape, bool)
    gone[0, y, max(12 - found.columns.start, 0) : x.stop] = True
    assert gone.any() and (found.weight[gone] == 0).all() and (found.verdict[gone] != 0).all()
    assert all("missing" in found.verdicts[i] for i in np.unique(found.verdict[gone]))


@pytest.mark.parametrize("method", ALL)
def test_the_state_is_made_of_the_whole_stack_unless_it_is_given(method):
    # What a tile would know of itself is not what the whole image knows.
    rng = np.random.default_rng(5)
    whole = problem(method, rows=12, columns=12, bands=1)
    fine = whole.fine.copy()
    fine[..., 30:, 30:] = rng.uniform(0, 1, fine[..., 30:, 30:].shape)
    whole = replace(whole, fine=fine)
    given = explain(whole, method, "blue", 5, 6, state=method.prepare(whole))
    made = explain(whole, method, "blue", 5, 6)
    assert made.prediction == given.prediction
    assert made.prediction == pytest.approx(float(fuse(whole, method).data[0, 5, 6]), abs=1e-5)


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize(("y", "x"), [(-1, 0), (0, -1), (28, 0), (0, 36), (1000, 1000)])
def test_a_pixel_outside_is_named_with_the_size(method, y, x):
    with pytest.raises(FusionError, match=f"Row {y}, column {x} is outside the image of 28 x 36 fine pixels.*0 to 27"):
        explain(problem(method), method, "blue", y, x)


def test_a_band_that_is_not_there_is_named_with_those_that_are():
    method = methods.get("starfm")()
    with pytest.raises(FusionError, match="no band 'red' to explain; there are blue, green"):
        explain(problem(method), method, "red", 0, 0)


def test_a_method_that_does_not_explain_says_so():
    with pytest.raises(FusionError, match="Delta does not explain its pixels: choose"):
        explain(stack(), methods.get("delta")(), "blue", 0, 0)


@pytest.mark.parametrize("method", [m for m in ALL if m.values[0].pairs > 1])
def test_too_few_pairs_are_refused_as_before_a_run(method):
    with pytest.raises(FusionError, match=r"at least \d pairs, got 1"):
        explain(problem(method).select([0]), method, "blue", 0, 0)


# STARFM by hand


def row(fine, coarse, target):
    """A problem of one row at ratio 1 with one pair and one band."""
    return bare([[[fine]]], [[[coarse]]], [[target]])


LOOSE = dict(window=3, classes=1, scale=1.0, fine_uncertainty=0.05, coarse_uncertainty=0.1, combine="product")


def test_starfm_three_pixels_by_hand():
    # The first case of test_starfm.py: 1 / (S' T' D) is 1/40 602, 1/30 401 and 1/161 202, each says F + C2 - C.
    whole = row([0.30, 0.32, 0.34], [0.31, 0.31, 0.36], [0.33, 0.34, 0.40])
    found = explain(whole, methods.get("starfm")(**LOOSE), "blue", 0, 1)
    shares = np.array([1 / 40_602, 1 / 30_401, 1 / 161_202])
    np.testing.assert_allclose(found.weight[0, 0], shares / shares.sum(), rtol=2e-4)
    np.testing.assert_allclose(found.value[0, 0], [0.32, 0.35, 0.38], atol=1e-6)
    np.testing.assert_allclose(found.planes[0].value[0, 0], [0.01, 0.01, 0.02], atol=1e-6)
    numbers = {term.symbol: term.value for term in found.terms}
    assert numbers["S(p)"] == pytest.approx(0.01, abs=1e-6) and numbers["T(p)"] == pytest.approx(0.03, abs=1e-6)
    assert numbers["2 std / classes"] == pytest.approx(2 * 0.0163299, abs=1e-6)
    assert numbers["n"] == 3 and numbers["sum W"] == pytest.approx(100)
    assert found.prediction == pytest.approx(0.341326, abs=2e-6)


def test_starfm_names_the_first_reason_against_each_neighbour():
    # Around the third pixel, S .01, T .02: a missing one, one of another F, one of a large S, one of a large T.
    fine = [0.30, np.nan, 0.30, 0.80, 0.30, 0.30, 0.30, 0.30]
    coarse = [0.31, 0.31, 0.31, 0.31, 0.36, 0.31, 0.31, 0.31]
    target = [0.33, 0.33, 0.33, 0.33, 0.38, 0.40, 0.33, 0.33]
    method = methods.get("starfm")(window=7, classes=20)
    found = explain(row(fine, coarse, target), method, "blue", 0, 2)
    said = [found.verdicts[i] for i in found.verdict[0, 0]]
    assert said == ["counts", "missing", "counts", "not similar", "S too large", "T too large"]
    assert (found.rows, found.columns) == (slice(0, 1), slice(0, 6))


@pytest.mark.parametrize(
    ("coarse", "target", "wanted", "words"), [(0.31, 0.31, 0.30, "T = 0"), (0.30, 0.37, 0.37, "S = 0")]
)
def test_starfm_lets_the_centre_alone_decide_in_the_special_cases_of_the_paper(coarse, target, wanted, words):
    whole = row([0.30, 0.30, 0.30], [0.32, coarse, 0.32], [0.36, target, 0.36])
    found = explain(whole, methods.get("starfm")(**LOOSE), "blue", 0, 1)
    assert found.prediction == pytest.approx(wanted, abs=1e-6) and words in found.note
    assert found.weight.tolist() == [[[0, 1, 0]]]
    assert [found.verdicts[i] for i in found.verdict[0, 0]] == ["centre decides", "counts", "centre decides"]


def test_starfm_says_which_pair_lacks_the_centre():
    whole = problem(methods.get("starfm")(), 1)
    fine = whole.fine.copy()
    fine[1, :, 9, 9] = np.nan
    found = explain(replace(whole, fine=fine), methods.get("starfm")(window=5), "blue", 9, 9)
    assert {found.verdicts[i] for i in np.unique(found.verdict[1])} == {"missing", "centre missing"}
    assert found.weight[0].sum() == pytest.approx(1) and not found.weight[1].any()


# ESTARFM


def test_estarfm_the_planes_make_the_weights():
    method = methods.get("estarfm")(window=9)
    whole = problem(method, 1, gaps=1)
    found = explain(whole, method, "blue", 13, 20)
    r, d, w, change = (plane.value for plane in found.planes)
    numbers = {term.symbol: term.value for term in found.terms if term.pair in (None, 1)}
    y, x = np.ogrid[found.rows.start - 13 : found.rows.stop - 13, found.columns.start - 20 : found.columns.stop - 20]
    np.testing.assert_allclose(d[1], (1 - r[1]) * (1 + np.hypot(y, x) / 4.5), rtol=1e-5)
    counts = found.verdict[1] == 0
    np.testing.assert_allclose(w[1][counts], (1 / d[1])[counts] / (1 / d[1])[counts].sum(), rtol=1e-6)
    np.testing.assert_allclose(found.weight[1], numbers["T_k"] * numbers["V"] * np.nan_to_num(w[1]), rtol=1e-6)
    np.testing.assert_allclose(found.value[1][counts], change[1][counts])
    assert numbers["N"] == counts.sum() > 5


@pytest.mark.parametrize(
    ("missing", "least", "words"),
    [
        ((1, 2), 0.0, "V is 1: only one pair knows the pixel."),
        ((), 1.0, "V is 1: the coarse pairs differ by less than 1."),
        ((), 0.0, "V is 1: fine values do not follow coarse ones (F test)."),
    ],
)
def test_estarfm_says_why_there_is_no_conversion_coefficient(missing, least, words):
    whole = problem(methods.get("estarfm")(), 1, bands=1)
    fine = whole.fine.copy()
    for k in missing:
        fine[k, :, 13, 22] = np.nan
    found = explain(replace(whole, fine=fine), methods.get("estarfm")(window=9, change=least), "blue", 13, 22)
    assert found.note == words
    assert {term.pair for term in found.terms if term.symbol == "T_k"} == {0, 1, 2} - set(missing)
    assert next(term.value for term in found.terms if term.symbol == "V") == 1
    assert [found.verdicts[found.verdict[k, 0, 0]] for k in missing] == ["pair is missing at the centre"] * len(missing)


@pytest.mark.parametrize(("slope", "words"), [(1.3, ""), (6.0, "V is 1: the slope is not between 0 and 5.")])
def test_estarfm_takes_the_slope_where_it_means_something(slope, words):
    rng = np.random.default_rng(2)
    coarse = 0.1 + rng.normal(0, 0.005, (2, 1, 9, 9)) + np.array([0, 0.03])[:, None, None, None]
    whole = bare(slope * coarse, coarse, coarse.mean(axis=0), (-40, 25))
    found = explain(whole, methods.get("estarfm")(window=9, classes=1), "blue", 4, 4)
    v = next(term.value for term in found.terms if term.symbol == "V")
    assert found.note == words and v == pytest.approx(1 if words else slope, rel=1e-4)
