"""Pairing: which day to predict, from which pairs, and why, from what a search found."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date, timedelta

from .errors import FusionError
from .sources import Item

MAX_CLOUD = 0.5  # share of the area; a pair with more is proposed only where there is nothing else
CLEAR = 0.1  # share of the area; a first target and its pairs have no more cloud than that
SEASON = timedelta(days=90)
AGEING = 0.15  # days of season that a day of time counts: a pair of the same season a year away counts as 55 days away
YEAR = 365.2425  # days
UNKNOWN = 0.3  # share reckoned with where nobody knows the clouds

ItemPair = tuple[Item, Item]  # coarse, fine


def propose(fine: Sequence[Item], coarse: Sequence[Item], target: date, count: int = 2) -> tuple[list[ItemPair], str]:
    """Choose pairs for a target day.

    Pairs that are more than half cloudy are left out unless there is nothing else. The others are ranked by
    distance, divided by their clear share: a pair that is half clear counts as twice as far. The distance is that of
    the season (days within the year) plus 15 % of that in time, so that within a season the nearer day wins, and the
    same weeks of another year are preferred to another season of this one. From two pairs on, one is taken on either
    side of the target where there is one, as in :func:`fusion.stack.nearest_days`. An image that stands for several
    days (a composite) makes a pair with every fine image of these days, but not where it is the target's own. Where
    nobody knows the clouds, 30 % are reckoned with.

    Parameters
    ----------
    fine, coarse : sequence of Item
        What a search found.
    target : datetime.date
        The day to predict; never the day of a pair.
    count : int
        Pairs wanted.

    Returns
    -------
    list of (Item, Item)
        ``(coarse, fine)`` in time order; fewer than `count` where there are no more.
    str
        Why these, in words.
    """
    if count < 1:
        raise FusionError(f"A recipe wants at least 1 pair, got {count}: ask for 1 or more.")
    seen = by_day(coarse).get(target)
    every = [pair for pair in pairs_of(fine, coarse) if pair[0].day != target and not _same(pair[0], seen)]
    usable = [pair for pair in every if _cloud(pair) <= MAX_CLOUD] or every
    chosen = _around(usable, target, count)
    return chosen, " ".join([_reason(chosen, every, target, count), *clouded(seen)])


def default_target(fine: Sequence[Item], coarse: Sequence[Item]) -> date | None:
    """Choose a first target: a day that shows what fusion is for and whose truth is known.

    Of the clear days with both images and clear pairs before and after within a season, the one with the longest
    wait to its nearer pair is taken, a gap that is worth filling; of equal ones the nearest to the middle of the
    series. Without such a day, the clearest coarse day with a pair, of equal ones the nearest to the middle; None
    where there is no pair.
    """
    pairs = pairs_of(fine, coarse)
    days = sorted({pair[0].day for pair in pairs if _cloud(pair) <= CLEAR})
    gaps = {day: (day - before, after - day) for before, day, after in zip(days, days[1:], days[2:], strict=False)}
    close = [day for day, gap in gaps.items() if max(gap) <= SEASON] or list(gaps)
    if close:
        middle = days[0] + (days[-1] - days[0]) / 2
        return max(close, key=lambda day: (min(gaps[day]), -abs(day - middle)))
    known = {pair[0].day for pair in pairs}
    others = sorted((item for item in by_day(coarse).values() if known - {item.day}), key=lambda item: item.day)
    if not others:
        return None
    middle = others[0].day + (others[-1].day - others[0].day) / 2
    return min(others, key=lambda item: (max(_covered(item), CLEAR), abs(item.day - middle))).day


def pairs_of(fine: Sequence[Item], coarse: Sequence[Item]) -> list[ItemPair]:
    """Clearest coarse and fine image of every day that has both, in time order."""
    sharp = by_day(fine)
    blurred = by_day(coarse, sharp)
    return [(blurred[day], sharp[day]) for day in sorted(blurred.keys() & sharp.keys())]


def by_day(items: Sequence[Item], days: Iterable[date] = ()) -> dict[date, Item]:
    """Clearest image of every day.

    Parameters
    ----------
    items : sequence of Item
        Images of one product.
    days : iterable of date
        Days for which a composite that spans them is wanted too, as an image of that day.
    """
    clearest = {item.day: item for item in sorted(items, key=_covered, reverse=True)}
    for day in set(days) - clearest.keys():
        near = [item for item in items if 0 < (day - item.day).days < item.span]
        if near:
            clearest[day] = replace(max(near, key=lambda item: item.day), day=day)
    return clearest


def apart(day: date, target: date) -> float:
    """How unlike two days are: days between them within the year, plus 15 % of the days between them.

    Examples
    --------
    >>> from datetime import date
    >>> round(apart(date(2019, 7, 1), date(2020, 7, 1))), round(apart(date(2020, 4, 1), date(2020, 7, 1)))
    (56, 105)
    """
    days = abs((day - target).days)
    within = days % YEAR
    return min(within, YEAR - within) + AGEING * days


def _cloud(pair: ItemPair) -> float:
    """Cloud share of a pair's worse image."""
    return max(map(_covered, pair))


def _covered(item: Item) -> float:
    return UNKNOWN if item.cloud is None else item.cloud


def _same(one: Item, other: Item | None) -> bool:
    """Whether two items are one image, which a composite may be on several days."""
    return other is not None and (one.source, one.product, one.id) == (other.source, other.product, other.id)


def clouded(target: Item | None) -> list[str]:
    """Say that the coarse image of the target shows too little, as a list of no or one sentence."""
    if target is None or _covered(target) <= MAX_CLOUD:
        return []
    share = f"{_covered(target):.0%}".replace("%", " %")
    return [f"The coarse image of {target.day} itself misses {share} of the area: choose another day to predict."]


def _around(usable: Sequence[ItemPair], target: date, count: int) -> list[ItemPair]:
    def distance(pair: ItemPair) -> tuple[float, date]:
        return apart(pair[0].day, target) / max(1 - _cloud(pair), 1e-6), pair[0].day

    ranked = sorted(usable, key=distance)
    chosen = ranked[:count]
    before = [pair for pair in ranked if pair[0].day < target]
    after = [pair for pair in ranked if pair[0].day > target]
    for side in (before, after):
        if count > 1 and side and side[0] not in chosen:
            chosen[-1] = side[0]
    return sorted(chosen, key=lambda pair: pair[0].day)


def _reason(chosen: Sequence[ItemPair], every: Sequence[ItemPair], target: date, count: int) -> str:
    if not chosen:
        return (
            f"Beside the target day {target} there is no day with both a coarse and a fine image: "
            "choose another area or a longer time."
        )
    worst = max(map(_cloud, chosen))
    clear = "clear " if worst <= CLEAR else "usable " if worst <= MAX_CLOUD else ""
    what = f"the nearest {clear}{'day' if len(chosen) == 1 else 'days'}"
    sides = {pair[0].day < target for pair in chosen}
    if any(abs((pair[0].day - target).days) > SEASON.days for pair in chosen):
        what += " by season"
    if len(sides) == 2:
        what += ", with the target between them"
    elif count > 1:
        what += f"; there is no usable pair {'after' if True in sides else 'before'} the target"
    words = [f"{listed([_described(pair, target) for pair in chosen])}: {what}."]
    if len(chosen) < count:
        words.append(f"There are no more usable pairs; {count} were wanted.")
    if not clear:
        words.append("All pairs are more than half cloudy.")
    elif cloudy := sum(_cloud(pair) > MAX_CLOUD for pair in every):
        words.append(f"{cloudy} cloudy {'pair was' if cloudy == 1 else 'pairs were'} left out.")
    return " ".join(words)


def _described(pair: ItemPair, target: date) -> str:
    days = (pair[0].day - target).days
    when = f"{abs(days)} {'day' if abs(days) == 1 else 'days'} {'before' if days < 0 else 'after'}"
    known = all(item.cloud is not None for item in pair)
    clear = f"{1 - _cloud(pair):.0%} clear".replace("%", " %") if known else "clouds unknown"
    return f"{pair[0].day} ({when}, {clear})"


def listed(parts: Sequence[object]) -> str:
    """Join parts with commas and a last "and"."""
    texts = [str(part) for part in parts]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"
