"""pairing: pairs of a target day with the reason, and the first target."""

from dataclasses import replace
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion import FusionError, Item, pairing
from fusion.stack import nearest_days

TARGET = date(2020, 6, 30)


def series(*days: tuple[int, float | None], product: str = "fine") -> list[Item]:
    """Items of days relative to the target, with their cloud share."""
    when = [(TARGET + timedelta(days=offset), cloud) for offset, cloud in days]
    return [Item("here", product, f"{product}-{day}", day, cloud) for day, cloud in when]


def both(*days: tuple[int, float | None]) -> tuple[list[Item], list[Item]]:
    return series(*days), series(*days, product="coarse")


def offsets(pairs: list[pairing.ItemPair]) -> list[int]:
    assert all(coarse.product == "coarse" and fine.product == "fine" for coarse, fine in pairs)
    assert all(coarse.day == fine.day for coarse, fine in pairs)
    return [(coarse.day - TARGET).days for coarse, _ in pairs]


def proposed(fine: list[Item], coarse: list[Item], count: int = 2) -> list[int]:
    return offsets(pairing.propose(fine, coarse, TARGET, count)[0])


def test_one_pair_on_either_side_of_the_target() -> None:
    assert proposed(*both((-30, 0), (-20, 0), (-10, 0), (0, 0), (90, 0))) == [-10, 90]


def test_target_day_is_never_a_pair() -> None:
    assert proposed(*both((0, 0), (8, 0)), count=5) == [8]


def test_a_day_wants_both_images() -> None:
    fine, coarse = series((-16, 0), (-8, 0), (24, 0)), series((-16, 0), (8, 0), (24, 0), product="coarse")
    assert proposed(fine, coarse) == [-16, 24]


def test_more_than_half_cloudy_is_left_out_and_said() -> None:
    fine, coarse = both((-40, 0.1), (-8, 0.51), (16, 0.0))
    pairs, why = pairing.propose(fine, coarse, TARGET, 2)
    assert offsets(pairs) == [-40, 16]
    assert "1 cloudy pair was left out" in why


def test_a_cloudy_coarse_image_spoils_its_pair() -> None:
    fine, coarse = series((-8, 0.0), (-40, 0.0)), series((-8, 0.9), (-40, 0.0), product="coarse")
    assert proposed(fine, coarse, count=1) == [-40]


def test_cloudy_pairs_are_taken_where_there_is_nothing_else() -> None:
    pairs, why = pairing.propose(*both((-8, 0.6), (8, 0.9)), TARGET, 2)
    assert offsets(pairs) == [-8, 8]
    assert "All pairs are more than half cloudy" in why


def test_half_clear_counts_as_twice_as_far() -> None:
    assert proposed(*both((-10, 0.5), (-19, 0.0)), count=1) == [-19]
    assert proposed(*both((-10, 0.5), (-21, 0.0)), count=1) == [-10]


def test_clearest_of_several_images_of_a_day() -> None:
    worse, better = Item("here", "fine", "worse", TARGET - timedelta(5), 0.4), series((-5, 0.1))[0]
    for fine in ([worse, better], [better, worse]):
        pairs, _ = pairing.propose(fine, series((-5, 0.0), product="coarse"), TARGET, 1)
        assert pairs[0][1].id == better.id


def test_reason_names_days_distance_and_clearness() -> None:
    _, why = pairing.propose(*both((-69, 0.0), (1, 0.02)), TARGET, 2)
    assert "2020-04-22 (69 days before, 100 % clear) and 2020-07-01 (1 day after, 98 % clear)" in why


def test_reason_says_what_is_missing() -> None:
    _, why = pairing.propose(*both((-69, None)), TARGET, 2)
    assert "2020-04-22 (69 days before, clouds unknown)" in why
    assert "2 were wanted" in why
    assert "no usable pair after" in why
    pairs, why = pairing.propose(*both((0, 0)), TARGET, 2)
    assert pairs == []
    assert "2020-06-30" in why
    assert "another area or a longer time" in why


def test_at_least_one_pair_must_be_wanted() -> None:
    with pytest.raises(FusionError, match="at least 1 pair, got 0"):
        pairing.propose(*both((8, 0)), TARGET, 0)


@given(st.sets(st.integers(-180, 180), max_size=12), st.integers(1, 5))
def test_among_clear_pairs_the_rule_is_that_of_holdout(days: set[int], count: int) -> None:
    fine, coarse = both(*((day, 0.0) for day in days))
    pairs, _ = pairing.propose(fine, coarse, TARGET, count)
    expected = nearest_days([item.day for item in fine], TARGET, count)
    assert [pair[0].day for pair in pairs] == expected


def test_the_season_of_another_year_counts_more_than_another_season() -> None:
    fine, coarse = both((-365, 0.0), (-120, 0.0), (20, 0.0))
    pairs, why = pairing.propose(fine, coarse, TARGET, 2)
    assert [(pair[0].day - TARGET).days for pair in pairs] == [-365, 20] and "by season" in why


def test_a_composite_makes_a_pair_with_every_day_that_it_spans() -> None:
    fine, coarse = both((-30, 0.0), (-20, 0.0))
    weeks = [replace(item, span=8) for item in coarse[:1]]
    sharp = [replace(fine[0], day=weeks[0].day + timedelta(days=days), id=str(days)) for days in (-1, 0, 3, 7, 8)]
    assert [(f.id, c.id, c.day == f.day) for c, f in pairing.pairs_of(sharp, weeks)] == [
        (days, weeks[0].id, True) for days in ("0", "3", "7")
    ]


@given(st.dictionaries(st.integers(-300, 300), st.floats(0, 1), max_size=12))
def test_first_target_has_a_coarse_image_and_a_pair(clouds: dict[int, float]) -> None:
    fine, coarse = both(*clouds.items())
    target = pairing.default_target(fine, coarse)
    if len(clouds) < 2:
        assert target is None
    else:
        assert target in {item.day for item in coarse}
        assert pairing.propose(fine, coarse, target, 2)[0]


def test_first_target_fills_the_longest_gap_that_a_season_closes() -> None:
    fine, coarse = both(*((day, 0.0) for day in (-400, -150, -40, -30, 30, 95, 100, 105)))
    assert pairing.default_target(fine, coarse) == TARGET + timedelta(days=30)  # -400 and -150 are too far apart


def test_first_target_of_a_regular_series_is_in_the_middle() -> None:
    fine, coarse = both(*((day, 0.0) for day in range(-48, 49, 16)))
    assert pairing.default_target(fine, coarse) == TARGET


def test_first_target_of_a_sparse_series_still_lies_between_pairs() -> None:
    fine, coarse = both((-300, 0.0), (0, 0.0), (300, 0.0))
    assert pairing.default_target(fine, coarse) == TARGET


def test_first_target_is_clear() -> None:
    fine, coarse = both((-40, 0.0), (-20, 0.0), (0, 0.8), (10, 0.0), (40, 0.0))
    assert pairing.default_target(fine, coarse) != TARGET


def test_first_target_may_be_a_day_without_truth() -> None:
    fine, coarse = series((-20, 0)), series((-20, 0), (0, 0), product="coarse")
    assert pairing.default_target(fine, coarse) == TARGET
    assert pairing.default_target([], coarse) is None


def test_unknown_clouds_count_as_some_and_are_said() -> None:
    fine = [*series((-8, None)), *series((-10, 0.0))]
    coarse = series((-8, 0.0), (-10, 0.0), product="coarse")
    pairs, why = pairing.propose(fine, coarse, TARGET, 1)
    assert offsets(pairs) == [-10] and "100 % clear" in why
    pairs, why = pairing.propose(fine, coarse, TARGET, 2)
    assert "clouds unknown" in why and "usable days" in why


def test_the_first_target_is_one_on_which_something_is_seen() -> None:
    fine = series((-16, 0.0), (16, 0.0))
    coarse = series(*((day, 1.0 if abs(day) <= 6 else 0.0) for day in range(-16, 17, 2)), product="coarse")
    target = pairing.default_target(fine, coarse)
    assert target is not None and abs((target - TARGET).days) == 8


def test_a_cloudy_target_is_said() -> None:
    fine, coarse = both((-8, 0.0), (8, 0.0))
    _, why = pairing.propose(fine, [*coarse, *series((0, 0.97), product="coarse")], TARGET, 2)
    assert "The coarse image of 2020-06-30 itself misses 97 % of the area: choose another day" in why
    _, why = pairing.propose(fine, [*coarse, *series((0, 0.2), product="coarse")], TARGET, 2)
    assert "itself misses" not in why


def test_a_composite_is_no_pair_of_itself() -> None:
    fine = series((3, 0.0), (12, 0.0))
    weeks = [replace(item, span=8) for item in series((0, 0.0), (8, 0.0), product="coarse")]
    assert offsets(pairing.propose(fine, weeks, TARGET, 2)[0]) == [12]
