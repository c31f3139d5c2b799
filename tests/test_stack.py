"""Stack: what belongs together, how it is cut, and how a day is hidden."""

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from fusion import FusionError, Pair, Scene, Stack, fuse, holdout, methods
from fusion.stack import nearest_days
from landscapes import DAY, bare, grid, pair, stack
from networks import smallest, weights_for_everything

FIRST, SECOND, TARGET = pair(-40), pair(25), pair(0).coarse


def moved(scene: Scene, geobox: GeoBox) -> Scene:
    return replace(scene, geobox=geobox)


def test_stack_of_has_time_order_days_and_grid():
    made = Stack.of([SECOND, FIRST], TARGET)
    np.testing.assert_array_equal(made.fine[0], FIRST.fine.data)
    np.testing.assert_array_equal(made.coarse[1], SECOND.coarse.data)
    np.testing.assert_array_equal(made.target, TARGET.data)
    assert (made.days, made.ratio, made.day) == ((-40, 25), 4, DAY)
    assert made.reference_days == (DAY - timedelta(40), DAY + timedelta(25))
    assert made.geobox == FIRST.fine.geobox and made.bands == ("blue", "green")


def test_a_pair_is_two_images_of_one_day():
    with pytest.raises(FusionError, match=r"coarse 2020-07-26 and fine 2020-05-22.*same day"):
        Pair(SECOND.coarse, FIRST.fine)


@pytest.mark.parametrize("name", methods.names())
def test_the_order_of_the_pairs_changes_no_bit(name):
    pairs = [pair(offset, gaps=1) for offset in (-40, -8, 25, 60)]
    method = methods.get(name)(**smallest(name))
    with weights_for_everything():
        first = fuse(Stack.of(pairs, TARGET), method)
        second = fuse(Stack.of([pairs[i] for i in (2, 0, 3, 1)], TARGET), method)
    np.testing.assert_array_equal(first.data, second.data)


def test_days_and_names_may_be_arrays_and_lists():
    made = bare(np.zeros((2, 2, 6, 9)), np.zeros((2, 2, 2, 3)), np.zeros((2, 2, 3)), days=(-5, 6))
    other = replace(made, days=np.array([-5, 6]), bands=["blue", "green"])
    assert (other.days, other.bands) == (made.days, made.bands) and type(other.days[0]) is int
    assert other.reference_days == made.reference_days


@pytest.mark.parametrize("window", [np.s_[0:16], np.s_[0, 0], np.s_[0:8, 0], np.s_[0:8, 0:8, 0:8], ..., 3])
def test_a_cut_that_is_not_two_slices_is_refused_in_words(window):
    for image in (stack(), FIRST.fine):
        with pytest.raises(ValueError, match=r"wants two slices, \[y0:y1, x0:x1\], got"):
            image[window]


def bad_inputs():
    shifted = TARGET.geobox.translate_pix(0.5, 0)
    turned = GeoBox(TARGET.geobox.shape, Affine(120, 0, 500_000, 0, 120, 4_000_000), "EPSG:32633")
    other_crs = GeoBox(TARGET.geobox.shape, TARGET.geobox.affine, "EPSG:32634")
    all_on = lambda box: ([Pair(moved(p.coarse, box), p.fine) for p in (FIRST, SECOND)], moved(TARGET, box))  # noqa: E731 - short, and used here only
    wide, wide_target = [pair(-40, columns=9), SECOND], TARGET
    half = [Pair(FIRST.fine[0:10, 0:14], FIRST.fine)]
    yield "no pair", [], TARGET, "at least one pair.*got none"
    yield "target in pairs", [FIRST, SECOND], FIRST.coarse, "target day 2020-05-22 is also the day of a pair"
    yield "day twice", [FIRST, FIRST], TARGET, r"repeat a day \(2020-05-22, 2020-05-22\)"
    yield "other bands", [pair(-40, bands=3), SECOND], TARGET, "blue, green, red, .*has blue, green"
    yield "target's bands", [FIRST], TARGET.select(["green", "blue"]), "same order.*green, blue"
    yield "fine grids differ", wide, wide_target, "fine images.*20 x 28.*20 x 36"
    yield "coarse grids differ", [FIRST, SECOND], moved(TARGET, shifted), "coarse images.*different grids"
    yield "half a pixel off", *all_on(shifted), "do not nest.*share CRS and corners"
    yield "upside down", *all_on(turned), "do not nest"
    yield "another CRS", *all_on(other_crs), "do not nest.*EPSG:32633.*EPSG:32634"
    yield "ratio not whole", half, pair(0, rows=10, columns=14, ratio=1).coarse, "different grids|do not nest"


@pytest.mark.parametrize(("name", "pairs", "target", "message"), [pytest.param(*b, id=b[0]) for b in bad_inputs()])
def test_what_does_not_belong_together_is_refused(name, pairs, target, message):
    with pytest.raises(FusionError, match=f"(?s){message}"):
        Stack.of(pairs, target)


@pytest.mark.parametrize("shape", [(3, 7), (5, 3), (10, 7), (5, 14), (40, 56), (1, 28)])
def test_grids_of_no_single_whole_ratio_do_not_nest(shape):
    box = GeoBox(shape, Affine(28 * 30 / shape[1], 0, 500_000, 0, -20 * 30 / shape[0], 4_000_000), "EPSG:32633")
    images = [Scene(np.zeros((2, *shape), np.float32), box, ("blue", "green"), day) for day in (FIRST.day, DAY)]
    with pytest.raises(FusionError, match="do not nest"):
        Stack.of([Pair(images[0], FIRST.fine)], images[1])


def test_transposed_grids_do_not_nest():
    box = GeoBox((5, 5), Affine(0, 120, 500_000, -120, 0, 4_000_000), "EPSG:32633")  # x runs south, y runs east
    fine = Scene(np.zeros((1, 20, 20), np.float32), grid(20, 20), ("red",), FIRST.day)
    images = [Scene(np.zeros((1, 5, 5), np.float32), box, ("red",), day) for day in (FIRST.day, DAY)]
    with pytest.raises(FusionError, match="corners"):
        Stack.of([Pair(images[0], fine)], images[1])


GOOD = dict(
    fine=(2, 3, 8, 12),
    coarse=(2, 3, 2, 3),
    target=(3, 2, 3),
    days=(-5, 6),
    bands=("a", "b", "c"),
    grid=(8, 12),
)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fine": (2, 3, 8)}, r"Stack.fine wants float32 \(pair, band, y, x\), got .*astype"),
        ({"target": (1, 3, 2, 3)}, r"Stack.target wants float32 \(band, y, x\)"),
        ({"days": (-5,)}, "one day per pair"),
        ({"fine": (0, 3, 8, 12), "coarse": (0, 3, 2, 3), "days": ()}, "at least one pair"),
        ({"bands": ("a", "b")}, "3 bands named"),
        ({"coarse": (1, 3, 2, 3)}, "2 pairs and 3 bands"),
        ({"coarse": (2, 3, 4, 3)}, "one coarse grid"),
        ({"coarse": (2, 3, 2, 6), "target": (3, 2, 6)}, "do not nest"),
        ({"coarse": (2, 3, 3, 3), "target": (3, 3, 3)}, "do not nest"),
        ({"coarse": (2, 3, 0, 3), "target": (3, 0, 3)}, "do not nest"),
        ({"grid": (8, 13)}, r"geobox is \(8, 13\)"),
    ],
)
def test_arrays_that_make_no_stack_are_refused(change, message):
    size = GOOD | change
    arrays = [np.zeros(size[name], np.float32) for name in ("fine", "coarse", "target")]
    with pytest.raises(ValueError, match=message):
        Stack(*arrays, size["days"], grid(*size["grid"]), size["bands"], DAY)


def test_numbers_that_are_not_float32_are_refused():
    whole = stack()
    with pytest.raises(ValueError, match="float64"):
        replace(whole, coarse=whole.coarse.astype(np.float64))


def test_a_cut_takes_the_same_place_from_both_grids():
    whole = stack()
    part = whole[4:12, 8:20]
    np.testing.assert_array_equal(part.fine, whole.fine[:, :, 4:12, 8:20])
    np.testing.assert_array_equal(part.coarse, whole.coarse[:, :, 1:3, 2:5])
    np.testing.assert_array_equal(part.target, whole.target[:, 1:3, 2:5])
    assert part.geobox == whole.geobox[4:12, 8:20]
    assert (part.ratio, part.days, part.bands, part.day) == (4, whole.days, whole.bands, whole.day)
    assert np.shares_memory(part.fine, whole.fine)


cuts = st.tuples(st.integers(0, 4), st.integers(1, 5), st.integers(0, 6), st.integers(1, 7))


@given(cuts, cuts)
def test_cutting_twice_is_cutting_once(first, second):
    whole = stack()
    (a, b, c, d), (e, _, g, _) = first, second
    part = whole[4 * a :, 4 * c :]
    rows, columns = (5 - a), (7 - c)
    y0, x0 = min(e, rows - 1), min(g, columns - 1)
    y1, x1 = min(y0 + b, rows), min(x0 + d, columns)
    twice = part[4 * y0 : 4 * y1, 4 * x0 : 4 * x1]
    once = whole[4 * (a + y0) : 4 * (a + y1), 4 * (c + x0) : 4 * (c + x1)]
    np.testing.assert_array_equal(twice.fine, once.fine)
    np.testing.assert_array_equal(twice.target, once.target)
    assert twice.geobox == once.geobox


@pytest.mark.parametrize(
    "window",
    [
        np.s_[1:8, 0:8],
        np.s_[0:8, 0:9],
        np.s_[0:8:2, 0:8],
        np.s_[8:8, 0:8],
        np.s_[0:8, 28:],
        np.s_[8:0:-1, 0:8],
    ],
)
def test_a_cut_across_coarse_pixels_is_refused(window):
    with pytest.raises(ValueError, match="multiples of 4 within 20 x 28"):
        stack()[window]


def test_select_takes_pairs_by_index():
    whole = stack((-40, 25, 60))
    part = whole.select([2, 0])
    assert part.days == (60, -40)
    np.testing.assert_array_equal(part.fine, whole.fine[[2, 0]])
    np.testing.assert_array_equal(part.coarse, whole.coarse[[2, 0]])
    with pytest.raises(FusionError, match="at least one pair"):
        whole.select([])


SERIES = [pair(offset) for offset in (-40, -8, 0, 25, 30)]


def test_holdout_hides_the_truth_and_brackets_the_day():
    made, truth = holdout(SERIES, DAY, 2)
    assert made.days == (-8, 25) and made.day == DAY
    np.testing.assert_array_equal(truth.data, SERIES[2].fine.data)
    np.testing.assert_array_equal(made.target, SERIES[2].coarse.data)
    assert not any(np.array_equal(image, truth.data) for image in made.fine)


def test_holdout_of_the_last_day_takes_the_nearest():
    made, _ = holdout(SERIES, DAY + timedelta(30), 2)
    assert [str(day) for day in made.reference_days] == ["2020-07-01", "2020-07-26"]


@pytest.mark.parametrize("pairs", [0, -1, 5])
def test_holdout_wants_pairs_that_there_are(pairs):
    with pytest.raises(FusionError, match=f"Wanted {pairs} reference pairs.*there are 4"):
        holdout(SERIES, DAY, pairs)


def test_holdout_of_a_day_without_an_image_is_refused():
    with pytest.raises(FusionError, match="No pair of 2019-01-01.*2020-05-22.*choose one"):
        holdout(SERIES, date(2019, 1, 1), 1)


def test_holdout_of_a_series_that_repeats_a_day_is_refused():
    with pytest.raises(FusionError, match="repeat"):
        holdout([*SERIES, pair(25, seed=1)], DAY, 1)


days = st.lists(st.integers(-400, 400), unique=True, max_size=12)


@given(days, st.integers(0, 6))
def test_nearest_days_are_few_ordered_and_near(offsets, count):
    there = [DAY + timedelta(o) for o in offsets]
    chosen = nearest_days(there, DAY, count)
    others = sorted(d for d in there if d != DAY)
    assert chosen == sorted(set(chosen)) and set(chosen) <= set(others)
    assert len(chosen) == min(count, len(others))
    assert chosen == nearest_days(there[::-1], DAY, count)
    before, after = [d for d in others if d < DAY], [d for d in others if d > DAY]
    if chosen:  # the nearest of all is always among them
        nearest = min(abs((d - DAY).days) for d in others)
        assert min(abs((d - DAY).days) for d in chosen) == nearest
    if count >= 2 and before and after:
        assert max(before) in chosen and min(after) in chosen


def test_two_equally_near_days_the_earlier_wins():
    assert nearest_days([DAY + timedelta(3), DAY - timedelta(3)], DAY, 1) == [DAY - timedelta(3)]


def test_a_stack_of_bare_arrays_is_a_stack():
    made = bare(np.zeros((1, 1, 6, 9)), np.zeros((1, 1, 2, 3)), np.zeros((1, 2, 3)))
    assert made.ratio == 3


def test_a_class_map_is_cut_with_the_images_and_checked():
    problem = stack()
    classes = np.arange(20 * 28).reshape(20, 28).astype(np.int16)
    mapped = replace(problem, classes=classes)
    np.testing.assert_array_equal(mapped[4:12, 8:28].classes, classes[4:12, 8:28])
    np.testing.assert_array_equal(mapped.select([1]).classes, classes)
    assert problem[4:12, 8:28].classes is None
    for wrong in (classes.T, classes.astype(np.int64), classes[None]):
        with pytest.raises(FusionError, match=r"wants int16 \(y, x\) of 20 x 28 .*got .*classes from 0"):
            replace(problem, classes=wrong)
