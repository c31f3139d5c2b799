"""Answers: whether there is such a question, and whether this can be its answer."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date

from ..errors import FusionError
from . import _own_guess
from ._own_facts import MASKS, USES, Plan
from ._own_look import HUGE, Header


def _one_of(*allowed: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        if text not in allowed:
            raise ValueError(text)
        return text

    return check


def _number(low: float, high: float, whole: bool = False) -> Callable[[str], str]:
    def check(text: str) -> str:
        value = float(text)
        if not low <= value <= high or (whole and value != int(value)):
            raise ValueError(text)
        return f"{value:.12g}"

    return check


def _is_nodata(text: str) -> str:
    if text != "none" and not (math.isfinite(float(text)) and abs(float(text)) < 10 * HUGE**2):
        raise ValueError(text)
    return text


def _is_series(text: str) -> str:
    if text != "bands":
        first, _, days = text.partition("/")
        return f"{date.fromisoformat(first)}/{_number(1, 400, True)(days)}"
    return text


def _is_scale(text: str) -> str:
    if text != "each":
        _own_guess.numbers(text)
    return text


def _is_bands(text: str) -> str:
    names = [part.strip() for part in text.split(",")]
    used = [name for name in names if name != "-"]
    if not used or len(set(used)) != len(used) or not all(re.fullmatch(r"[a-z][a-z0-9_]{0,15}", name) for name in used):
        raise ValueError(text)
    return ",".join(names)


_KINDS: Mapping[str, tuple[Callable[[str], str], str]] = {
    "role": (_one_of(*USES), f"one of {', '.join(USES)}"),
    "day": (lambda text: date.fromisoformat(text).isoformat(), "a day, YYYY-MM-DD"),
    "year": (_number(1970, 2100, True), "a year"),
    "series": (_is_series, 'first day/days between, such as 2015-01-01/16, or "bands"'),
    "bands": (_is_bands, "names in order with commas, such as green,red,nir; - for a band to skip"),
    "scale": (_is_scale, "scale or scale,offset, such as 0.0001 or 0.00002,-0.1"),
    "nodata": (_is_nodata, 'a number or "none"'),
    "mask": (_one_of(*(kind for kind, _ in MASKS)), f"one of {', '.join(kind for kind, _ in MASKS)}"),
    "place": (_one_of("pixels", "georeference"), "pixels or georeference"),
    "ratio": (_number(1, 1000, True), "a whole number from 1"),
    "size": (_number(0.01, 10_000), "metres"),
}


def checked(key: str, value: object, plan: Plan, heads: Sequence[Header]) -> str:
    """Answer as text, or FusionError where there is no such question or it is no answer to it."""
    kind, _, of = key.partition(":")
    groups = {facts.group: name for name, facts in plan.facts.items()}
    if kind == "use" and of in ("fine", "coarse"):
        if value not in groups:
            raise FusionError(f"{key} wants a group of files, got {value!r}: choose among {', '.join(groups)}.")
        return str(value)
    known = of in plan.facts if kind == "day" else (of in groups if kind not in ("ratio", "size") else not of)
    if kind not in _KINDS or not known:
        asked = ", ".join(question.id for question in plan.questions) or "nothing"
        raise FusionError(f"There is no question {key!r}; asked is {asked}.")
    check, wanted = _KINDS[kind]
    try:
        text = check(str(value).strip())
    except (ValueError, OverflowError) as error:
        raise FusionError(f"{key} wants {wanted}, got {value!r}.") from error
    if kind == "bands":
        _check_count(of, text, plan, heads)
    return text


def _check_count(group: str, text: str, plan: Plan, heads: Sequence[Header]) -> None:
    """Raise FusionError unless there is a name for each band that the files have; layers that are days are none."""
    own = [head for head in heads if plan.facts[head.name].group == group and plan.facts[head.name].series <= 0]
    counts, given = {head.count for head in own}, len(text.split(","))
    if counts and given not in counts:
        have = " or ".join(map(str, sorted(counts)))
        raise FusionError(
            f"{group} has {have} band{'' if have == '1' else 's'} a file, got {given} name{'' if given == 1 else 's'} "
            f"({text}): give one each, in order, - for one to skip."
        )
