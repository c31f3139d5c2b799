"""propose: pairs, first target, what will be read, a recipe in one call."""

from dataclasses import replace
from datetime import date, timedelta

import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

import fusion
from fusion import FusionError, Item, propose
from fusion.area import rectangle
from fusion.stack import nearest_days

TARGET = date(2020, 6, 30)


def series(*days: tuple[int, float | None], product: str = "fine") -> list[Item]:
    """Items of days relative to the target, with their cloud share."""
    when = [(TARGET + timedelta(days=offset), cloud) for offset, cloud in days]
    return [Item("here", product, f"{product}-{day}", day, cloud) for day, cloud in when]


def both(*days: tuple[int, float | None]) -> tuple[list[Item], list[Item]]:
    return series(*days), series(*days, product="coarse")


def offsets(pairs: list[propose.ItemPair]) -> list[int]:
    assert all(coarse.product == "coarse" and fine.product == "fine" for coarse, fine in pairs)
    assert all(coarse.day == fine.day for coarse, fine in pairs)
    return [(coarse.day - TARGET).days for coarse, _ in pairs]


def proposed(fine: list[Item], coarse: list[Item], count: int = 2) -> list[int]:
    return offsets(propose.propose(fine, coarse, TARGET, count)[0])


def test_one_pair_on_either_side_of_the_target() -> None:
    assert proposed(*both((-30, 0), (-20, 0), (-10, 0), (0, 0), (90, 0))) == [-10, 90]


def test_target_day_is_never_a_pair() -> None:
    assert proposed(*both((0, 0), (8, 0)), count=5) == [8]


def test_a_day_wants_both_images() -> None:
    fine, coarse = series((-16, 0), (-8, 0), (24, 0)), series((-16, 0), (8, 0), (24, 0), product="coarse")
    assert proposed(fine, coarse) == [-16, 24]


def test_more_than_half_cloudy_is_left_out_and_said() -> None:
    fine, coarse = both((-40, 0.1), (-8, 0.51), (16, 0.0))
    pairs, why = propose.propose(fine, coarse, TARGET, 2)
    assert offsets(pairs) == [-40, 16]
    assert "1 cloudy pair was left out" in why


def test_a_cloudy_coarse_image_spoils_its_pair() -> None:
    fine, coarse = series((-8, 0.0), (-40, 0.0)), series((-8, 0.9), (-40, 0.0), product="coarse")
    assert proposed(fine, coarse, count=1) == [-40]


def test_cloudy_pairs_are_taken_where_there_is_nothing_else() -> None:
    pairs, why = propose.propose(*both((-8, 0.6), (8, 0.9)), TARGET, 2)
    assert offsets(pairs) == [-8, 8]
    assert "All pairs are more than half cloudy" in why


def test_half_clear_counts_as_twice_as_far() -> None:
    assert proposed(*both((-10, 0.5), (-19, 0.0)), count=1) == [-19]
    assert proposed(*both((-10, 0.5), (-21, 0.0)), count=1) == [-10]


def test_clearest_of_several_images_of_a_day() -> None:
    worse, better = Item("here", "fine", "worse", TARGET - timedelta(5), 0.4), series((-5, 0.1))[0]
    for fine in ([worse, better], [better, worse]):
        pairs, _ = propose.propose(fine, series((-5, 0.0), product="coarse"), TARGET, 1)
        assert pairs[0][1].id == better.id


def test_reason_names_days_distance_and_clearness() -> None:
    _, why = propose.propose(*both((-69, 0.0), (1, 0.02)), TARGET, 2)
    assert "2020-04-22 (69 days before, 100 % clear) and 2020-07-01 (1 day after, 98 % clear)" in why


def test_reason_says_what_is_missing() -> None:
    _, why = propose.propose(*both((-69, None)), TARGET, 2)
    assert "2020-04-22 (69 days before)" in why  # cloud is unknown, so nothing is claimed
    assert "2 were wanted" in why
    assert "no usable pair after" in why
    pairs, why = propose.propose(*both((0, 0)), TARGET, 2)
    assert pairs == []
    assert "2020-06-30" in why
    assert "another area or a longer time" in why


def test_at_least_one_pair_must_be_wanted() -> None:
    with pytest.raises(FusionError, match="at least 1 pair, got 0"):
        propose.propose(*both((8, 0)), TARGET, 0)


@given(st.sets(st.integers(-180, 180), max_size=12), st.integers(1, 5))
def test_among_clear_pairs_the_rule_is_that_of_holdout(days: set[int], count: int) -> None:
    fine, coarse = both(*((day, 0.0) for day in days))
    pairs, _ = propose.propose(fine, coarse, TARGET, count)
    expected = nearest_days([item.day for item in fine], TARGET, count)
    assert [pair[0].day for pair in pairs] == expected


def test_the_season_of_another_year_counts_more_than_another_season() -> None:
    fine, coarse = both((-365, 0.0), (-120, 0.0), (20, 0.0))
    pairs, why = propose.propose(fine, coarse, TARGET, 2)
    assert [(pair[0].day - TARGET).days for pair in pairs] == [-365, 20] and "by season" in why


def test_a_composite_makes_a_pair_with_every_day_that_it_spans() -> None:
    fine, coarse = both((-30, 0.0), (-20, 0.0))
    weeks = [replace(item, span=8) for item in coarse[:1]]
    sharp = [replace(fine[0], day=weeks[0].day + timedelta(days=days), id=str(days)) for days in (-1, 0, 3, 7, 8)]
    assert [(f.id, c.id, c.day == f.day) for c, f in propose.pairs_of(sharp, weeks)] == [
        (days, weeks[0].id, True) for days in ("0", "3", "7")
    ]


@given(st.dictionaries(st.integers(-300, 300), st.floats(0, 1), max_size=12))
def test_first_target_has_a_coarse_image_and_a_pair(clouds: dict[int, float]) -> None:
    fine, coarse = both(*clouds.items())
    target = propose.default_target(fine, coarse)
    if len(clouds) < 2:
        assert target is None
    else:
        assert target in {item.day for item in coarse}
        assert propose.propose(fine, coarse, target, 2)[0]


def test_first_target_fills_the_longest_gap_that_a_season_closes() -> None:
    fine, coarse = both(*((day, 0.0) for day in (-400, -150, -40, -30, 30, 95, 100, 105)))
    assert propose.default_target(fine, coarse) == TARGET + timedelta(days=30)  # -400 and -150 are too far apart


def test_first_target_of_a_regular_series_is_in_the_middle() -> None:
    fine, coarse = both(*((day, 0.0) for day in range(-48, 49, 16)))
    assert propose.default_target(fine, coarse) == TARGET


def test_first_target_of_a_sparse_series_still_lies_between_pairs() -> None:
    fine, coarse = both((-300, 0.0), (0, 0.0), (300, 0.0))
    assert propose.default_target(fine, coarse) == TARGET


def test_first_target_is_clear() -> None:
    fine, coarse = both((-40, 0.0), (-20, 0.0), (0, 0.8), (10, 0.0), (40, 0.0))
    assert propose.default_target(fine, coarse) != TARGET


def test_first_target_may_be_a_day_without_truth() -> None:
    fine, coarse = series((-20, 0)), series((-20, 0), (0, 0), product="coarse")
    assert propose.default_target(fine, coarse) == TARGET
    assert propose.default_target([], coarse) is None


def test_what_will_be_read_is_counted() -> None:
    box = GeoBox((200, 100), Affine(10, 0, 0, 0, -10, 0), "EPSG:3035")
    reading = propose.plan_read((box, 10), bands=4, pairs=2)
    assert reading.images == 5
    assert reading.pixels == 2 * 20_000 + 3 * 200
    assert reading.bytes == 40_600 * 4 * 4
    assert propose.plan_read((box, 10), bands=4, pairs=4).seconds > reading.seconds > 0
    assert str(reading) == "5 images, 40,600 pixels, 0.6 MB, under 1 s"
    with pytest.raises(ValueError, match="at least one band"):
        propose.plan_read((box, 10))


def test_reading_of_a_recipe_is_what_load_makes() -> None:
    recipe = propose.recipe_for("sample")
    stack = fusion.load(recipe)
    arrays = (stack.fine, stack.coarse, stack.target)
    assert propose.plan_read(recipe).bytes == sum(array.nbytes for array in arrays)


def test_recipe_in_one_call() -> None:
    recipe = fusion.recipe_for("sample", pairs=1, method="delta")
    assert recipe.method == fusion.methods.get("delta")()
    assert len(recipe.pairs) == 1
    assert recipe.geobox.shape == (100, 100)
    assert recipe.ratio == 10
    assert fusion.Recipe.from_json(recipe.to_json()) == recipe


def test_sample_starts_in_its_last_spring() -> None:
    recipe = fusion.recipe_for("sample")
    assert recipe.target.day == date(2018, 5, 2)
    assert [coarse.day for coarse, _ in recipe.pairs] == [date(2018, 4, 22), date(2018, 5, 22)]
    assert propose.truth_item(recipe).day == recipe.target.day


def test_truth_of_a_lab_recipe_is_of_the_same_landscape() -> None:
    usual = propose.recipe_for("lab")
    other = propose.recipe_for("lab", options={"seed": 7, "gain": 1.1})
    assert propose.truth_item(usual).product == "lab-truth"
    assert propose.truth_item(usual).id == usual.target.id
    assert propose.truth_item(other).id == other.target.id != usual.target.id


def test_lab_options_are_in_the_recipe_and_checked() -> None:
    recipe = propose.recipe_for("lab", options={"noise": 0.01})
    assert all("noise=0.01" in item.id for pair in recipe.pairs for item in (*pair, recipe.target))
    with pytest.raises(FusionError, match=r"clouds \(share\) wants a number from 0 to 0.8, got 2"):
        propose.recipe_for("lab", options={"clouds": 2})


def test_recipe_keeps_to_its_area() -> None:
    west, south, east, north = propose.bounds_of(fusion.recipe_for("sample").area)
    half = rectangle(west, south, (west + east) / 2, north)
    recipe = fusion.recipe_for("sample", area=half)
    assert recipe.area == half
    assert recipe.geobox.shape[1] < 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"source": "sampel"}, "Did you mean 'sample'"),
        (
            {"source": "sample", "target": date(1999, 1, 1)},
            "no coarse image of 1999-01-01.*nearest are of 20",
        ),
        ({"source": "sample", "area": rectangle(0, 0, 1, 1)}, "outside"),
        ({"source": "sample", "method": "starfmm"}, "Did you mean 'starfm'"),
        ({"source": "sample", "options": {"fog": 1}}, "no option 'fog'"),
        ({"source": "sample", "pairs": 0}, "at least 1 pair, got 0"),
    ],
)
def test_what_cannot_be_says_why(arguments: dict, message: str) -> None:
    with pytest.raises(FusionError, match=message):
        fusion.recipe_for(**arguments)


def test_unknown_product_is_named() -> None:
    with pytest.raises(FusionError, match="no product 'modis'"):
        propose.find("sample", "modis")
