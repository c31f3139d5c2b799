"""What is known of every file, what is asked, and the steps from headers and answers to facts."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

from . import _own_guess, _own_names
from ._own_look import Header

USES = ("fine", "coarse", "mask", "classes", "aside")
MASKS = (
    ("nonzero", "every number but 0 is missing"), ("zero", "0 is missing"),
    ("cfmask", "CFMask: shadow, snow, cloud and fill are missing"), ("fmask", "Fmask bits of HLS"),
    ("qa_pixel", "QA_PIXEL bits of Landsat Collection 2"), ("pixel_qa", "pixel_qa bits of Landsat Collection 1"),
    ("scl", "scene classes of Sentinel-2 Level 2A"),
)  # fmt: skip


@dataclass(frozen=True)
class Question:
    """What the files do not say.

    Parameters
    ----------
    id : str
        Key of its answer.
    text, why : str
        The question, and why it is asked.
    choices : tuple of (str, str)
        Answers that are likely, each with words; others of the same kind are taken too.
    suggestion : str or None
        The likeliest; None where none is to be had.
    """

    id: str
    text: str
    why: str
    choices: tuple[tuple[str, str], ...] = ()
    suggestion: str | None = None


@dataclass
class Facts:
    """What is known or decided of one file."""

    group: str
    use: str = ""
    sensor: str = ""
    days: tuple[date | None, ...] = (None,)
    bands: tuple[str, ...] = ()
    scale: str = ""
    nodata: tuple[float, ...] = ()
    place: str = "grid"
    mask: str = ""
    series: int = 0  # days from one layer to the next, where layers are days
    why: tuple[str, ...] = ()


@dataclass(frozen=True)
class Image:
    """One image of a data set: a day, and where each band lies as (file name, layer, band from 0)."""

    role: str
    day: date
    parts: Mapping[str, tuple[str, str, int]]
    masks: tuple[tuple[str, str], ...] = ()  # file name and kind
    span: int = 1


@dataclass(frozen=True)
class Plan:
    """Everything that follows from headers and answers."""

    facts: Mapping[str, Facts]
    questions: tuple[Question, ...]
    notes: tuple[str, ...]
    problems: tuple[str, ...]
    images: tuple[Image, ...] = ()
    bands: tuple[str, ...] = ()
    base: Header | None = None  # a fine file, whose grid is that of the data set
    size: float = 0.0  # metres of a fine pixel
    ratio: int = 0


@dataclass
class Draft:
    """A plan in the making."""

    heads: Sequence[Header]
    answers: Mapping[str, str]
    facts: dict[str, Facts] = field(default_factory=dict)
    groups: dict[str, list[Header]] = field(default_factory=dict)
    questions: list[Question] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def ask(self, key: str, text: str, why: str, choices: Any = (), suggestion: str | None = None) -> str | None:
        """Answer of a question, or None after putting it."""
        if key not in self.answers:
            self.questions.append(Question(key, text, why, tuple(choices), suggestion))
        return self.answers.get(key)

    def of(self, *uses: str) -> dict[str, list[Header]]:
        """Files of these uses by group; those set aside are left out."""
        kept = {k: [head for head in heads if self.facts[head.name].use in uses] for k, heads in self.groups.items()}
        return {key: heads for key, heads in kept.items() if heads}

    def set_aside(self, head: Header, why: str) -> None:
        """Leave a file out, and say so."""
        facts = self.facts[head.name]
        facts.use, facts.why = "aside", (*facts.why, why)


def _group(draft: Draft) -> None:
    """Files whose names differ in numbers only, and which have as many bands, are alike."""
    counts: dict[str, set[int]] = defaultdict(set)
    for head in draft.heads:
        counts[_own_names.pattern_of(head.name)].add(head.count)
    for head in draft.heads:
        pattern = _own_names.pattern_of(head.name)
        key = pattern if len(counts[pattern]) == 1 else f"{pattern} ({head.count} bands)"
        draft.groups.setdefault(key, []).append(head)
        sensor = _own_names.sensor_of(head.name)
        draft.facts[head.name] = Facts(key, sensor=sensor.name if sensor else "")


def put(draft: Draft, heads: Sequence[Header], why: str, **values: Any) -> None:
    for head in heads:
        facts = draft.facts[head.name]
        for name, value in values.items():
            setattr(facts, name, value)
        facts.why = (*facts.why, why) if why else facts.why


def _uses(draft: Draft) -> None:
    for key, heads in draft.groups.items():
        guess = _own_guess.use(heads)
        value = draft.answers.get(f"role:{key}")
        if value is None and not guess.sure:
            choices = [(use, use) for use in USES]
            draft.ask(f"role:{key}", f"What are the files {key}?", guess.why, choices, guess.value)
        elif value is None:
            put(draft, heads, f"{guess.value}: {guess.why}", use=guess.value)
        else:
            put(draft, heads, f"{value}: as you answered", use=value)


def _empty(draft: Draft) -> None:
    """Images without any value are of no use."""
    for heads in draft.of("fine", "coarse", "").values():
        for head in [head for head in heads if head.missing == 1]:
            draft.set_aside(head, "no pixel has a value")


def _series(draft: Draft) -> None:
    """A file of one index with many layers: each layer is a day."""
    for key, heads in draft.of("fine", "coarse").items():
        head = heads[0]
        index = next((name for name in ("ndvi", "evi") if name in head.name.lower()), None)
        asked = index is not None and head.count > 1 and head.days == (None,) and not any(head.descriptions)
        if not asked and f"series:{key}" not in draft.answers:
            continue
        step = re.search(r"(?<!\d)(\d{1,3})-?days?(?![a-z])", head.name.lower())
        year = _own_names.year_of(head.name)
        likely = f"{year}-01-01/{step[1]}" if year and step else None
        choices = [
            ("bands", "the layers are bands"),
            *([(likely, f"one every {step[1]} days")] if likely and step else []),
        ]
        value = draft.ask(
            f"series:{key}", f"The {head.count} layers of {key}: are they days? (first day/days between)",
            f"{head.count} layers and the name says {index}", choices, likely,
        )  # fmt: skip
        if value is not None and value != "bands":
            first, days = date.fromisoformat(value.split("/")[0]), int(value.split("/")[1])
            for one in heads:
                whole = tuple(first + timedelta(days=days * i) for i in range(one.count))
                put(draft, [one], f"layers every {days} days from {first}", days=whole, series=days)
        elif value is None:
            put(draft, heads, "", series=-1)


def _days(draft: Draft) -> None:
    for key, heads in draft.of("fine", "coarse", "mask").items():
        for head in heads:
            facts = draft.facts[head.name]
            if facts.series:
                continue
            given = draft.answers.get(f"day:{head.name}")
            found, where = _own_names.day_of(head.name)
            if given:
                put(draft, [head], "day: as you answered", days=(date.fromisoformat(given),))
            elif None not in head.days:
                put(draft, [head], "day: the file states it", days=head.days)
            elif found:
                put(draft, [head], f"day: {where} says it", days=(found,))
            else:
                _ask_day(draft, key, head)


def _ask_day(draft: Draft, key: str, head: Header) -> None:
    part, year = _own_names.month_and_day(head.name), draft.answers.get(f"year:{key}")
    if part is None:
        draft.ask(
            f"day:{head.name}", f"Which day is {head.name} of? (YYYY-MM-DD)", "neither the file nor its name says"
        )
    elif year is None:
        likely = _own_names.year_of(head.path)
        if f"year:{key}" not in [one.id for one in draft.questions]:
            why = f"the name says {part[0]:02d}-{part[1]:02d} and no year"
            draft.ask(f"year:{key}", f"Which year are the files {key} of?", why, (), str(likely) if likely else None)
    else:
        try:
            found = date(int(year), *part)
        except ValueError:
            draft.ask(f"day:{head.name}", f"Which day is {head.name} of? (YYYY-MM-DD)", f"{year} has no {part}")
            return
        put(draft, [head], "day: its name, and the year that you answered", days=(found,))


def _bands(draft: Draft) -> None:
    """Bands of every group; the side whose bands are known suggests them to the other."""
    known: dict[str, tuple[str, ...]] = {}
    groups = {**draft.of("fine"), **draft.of("coarse")}
    for ask in (False, True):
        for key, heads in groups.items():
            facts = draft.facts[heads[0].name]
            if facts.series > 0:
                index = next((name for name in ("ndvi", "evi") if name in heads[0].name.lower()), "band1")
                put(draft, heads, "", bands=(index,))
            elif not facts.series and not facts.bands:
                for one in _single(heads):
                    _bands_of(draft, key, one, known, ask)


def _bands_of(draft: Draft, key: str, heads: list[Header], known: dict[str, tuple[str, ...]], ask: bool) -> None:
    role = draft.facts[heads[0].name].use
    guess = _own_guess.bands(heads, known.get("coarse" if role == "fine" else "fine"))
    value = draft.answers.get(f"bands:{key}") or (guess.value if guess.sure else None)
    if value is None and ask:
        choices = [(guess.value, guess.value.replace(",", ", "))] if guess.value else []
        text = f"What are the {heads[0].count} bands of {key}, in order?"
        if f"bands:{key}" not in [one.id for one in draft.questions]:
            draft.ask(f"bands:{key}", text, guess.why, choices, guess.value)
        if guess.value:
            known.setdefault(role, tuple(guess.value.split(",")))
    elif value is not None:
        names = tuple(value.split(","))
        put(draft, heads, f"bands: {guess.why if value == guess.value else 'as you answered'}", bands=names)
        known.setdefault(role, names)


def _single(heads: Sequence[Header]) -> list[list[Header]]:
    """Files of one band each may be different bands of one image: each for itself; others together."""
    return [[head] for head in heads] if heads[0].count == 1 else [list(heads)]


def _units(draft: Draft) -> None:
    for key, heads in draft.of("fine", "coarse").items():
        if draft.facts[heads[0].name].series < 0:
            continue
        found = draft.facts[heads[0].name].bands
        guess = _own_guess.unit(heads, found)
        value = draft.answers.get(f"scale:{key}") or (guess.value if guess.sure else None)
        if value is None:
            choices = list(_own_guess.UNITS if guess.value else reversed(_own_guess.UNITS))
            choices += [("each", "each file in the unit that its numbers show")] if guess.value == "each" else []
            text = f"What do the numbers of {key} mean? (scale, or scale,offset of reflectance)"
            value = draft.ask(f"scale:{key}", text, guess.why, choices, guess.value)
        for head in heads if value is not None else []:
            own = _own_guess.unit([head], found).value if value == "each" else value
            put(draft, [head], f"unit: {guess.why}", scale=own or "")


def _nodata(draft: Draft) -> None:
    for key, heads in draft.of("fine", "coarse").items():
        given = draft.answers.get(f"nodata:{key}")
        border = max((head.border for head in heads if head.nodata != 0), default=0.0)
        index = draft.facts[heads[0].name].bands in (("ndvi",), ("evi",))
        if given is None and border > (0.05 if index else 0.01):
            why = f"up to {border:.0%} of the pixels are 0 in all bands, and no file says that 0 is missing"
            choices = (("0", "0 means missing"), ("none", "0 is a value"))
            draft.ask(f"nodata:{key}", f"Does 0 mean missing in {key}?", why, choices, "0")
        found = sorted({fill for head in heads for fill in head.fills})
        if found:
            draft.notes.append(f"{key}: {', '.join(f'{fill:g}' for fill in found)} stands apart; taken as missing.")
        own = [] if given in (None, "none") else [float(str(given))]
        for head in heads:
            stated = [] if head.nodata is None else [head.nodata]
            put(draft, [head], "", nodata=tuple(dict.fromkeys([*stated, *found, *own])))


def _masks(draft: Draft) -> None:
    for key, heads in draft.of("mask").items():
        kind = _own_names.mask_of(heads[0].name) or "mask"
        value = draft.answers.get(f"mask:{key}") or (kind if kind != "mask" else None)
        if value is None:
            values = f"its numbers go from {heads[0].least:g} to {heads[0].most:g}"
            value = draft.ask(f"mask:{key}", f"Which pixels are missing by the mask {key}?", values, MASKS, "nonzero")
        put(draft, heads, f"mask: {value}", mask=value or "")


def _choose(draft: Draft) -> None:
    """Where two groups have a day twice, one of them is used; until that is answered, the likelier one."""
    for role in ("fine", "coarse"):
        groups = draft.of(role)
        days = {key: {d for head in heads for d in draft.facts[head.name].days if d} for key, heads in groups.items()}
        rivals = [
            key for key in groups if any(days[key] & days[k] and _alike(groups, key, k) for k in groups if k != key)
        ]
        if len(rivals) < 2:
            continue
        best = min(rivals, key=lambda k: (round(max(h.missing for h in groups[k]), 2), k.count("/"), -len(days[k]), k))
        why = f"{', '.join(rivals)} have images of the same days"
        answer = draft.ask(f"use:{role}", f"Which are the {role} images?", why, [(key, key) for key in rivals], best)
        for key in [key for key in rivals if key != (answer or best)]:
            for head in groups[key]:
                draft.set_aside(head, f"another {role} file has its day")


def _alike(groups: Mapping[str, list[Header]], one: str, other: str) -> bool:
    """Tell whether two groups have a band in common, as far as names say; unknown ones may."""
    own, others = (
        {_own_names.bands_in(head.name, _own_names.sensor_of(head.name), head.count) for head in groups[key]}
        for key in (one, other)
    )
    return groups[one][0].count > 1 or None in own | others or bool(own & others)


STEPS = (_group, _uses, _empty, _series, _days, _choose, _bands, _units, _nodata, _masks)
