"""Proposal: which own file is fine or coarse on which day, and the questions that only a person can answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from ..errors import FusionError
from . import Bounds, _own_answers, _own_guess, _own_plan
from ._own_look import Header
from ._own_plan import Plan, Question

__all__ = ["File", "Plan", "Proposal", "Question"]
MAX_ROUNDS = 20  # answers may bring up further questions


@dataclass(frozen=True)
class File:
    """One file as a person should see it.

    Parameters
    ----------
    name, group : str
        Name with its folders; and of the group of files alike, with stars for numbers.
    use : str
        "fine", "coarse", "mask", "classes", "aside", or "" where that is asked.
    days : tuple of str
        Days, YYYY-MM-DD; "" where a day is asked.
    bands : tuple of str
        Names; empty where they are asked.
    sensor, unit, crs : str
        In words; "" where unknown.
    shape : tuple of int
        Rows and columns.
    pixel : float or None
        Side of a pixel in metres.
    dtype : str
        Kind of its numbers.
    nodata : tuple of float
        Numbers that mean missing, declared or found.
    low, high : float
        Percentiles 1 and 99 of a sample of its numbers, before scaling.
    missing : float
        Share of the sample without a value.
    bounds : tuple of float or None
        West, south, east, north in degrees; without georeference at longitude 0, latitude 0.
    why : tuple of str
        Reasons for what is proposed.
    """

    name: str
    group: str
    use: str
    days: tuple[str, ...]
    bands: tuple[str, ...]
    sensor: str
    unit: str
    crs: str
    shape: tuple[int, int]
    pixel: float | None
    dtype: str
    nodata: tuple[float, ...]
    low: float
    high: float
    missing: float
    bounds: Bounds | None
    why: tuple[str, ...]


def _unit(facts: _own_plan.Facts) -> str:
    words = _own_guess.label(facts.scale) if facts.scale else ""
    return words.replace("reflectance", "index") if facts.bands in (("ndvi",), ("evi",)) else words


@dataclass(frozen=True, eq=False)
class Proposal:
    """What files seem to be; made by :func:`fusion.sources.local.look`, changed only by answers.

    Parameters
    ----------
    headers : tuple of Header
        What was read of each file.
    aside : tuple of (str, str)
        Files that are not used, with the reason.
    answers : mapping of str to str
        Answers by the id of their question; they may also overrule what was not asked.
    uploaded : bool
        Whether the files lie in the store of uploads.
    """

    headers: tuple[Header, ...]
    aside: tuple[tuple[str, str], ...] = ()
    answers: Mapping[str, str] = field(default_factory=dict)
    uploaded: bool = False

    @cached_property
    def plan(self) -> Plan:
        """Everything that follows from headers and answers."""
        return _own_plan.make(self.headers, self.answers)

    @property
    def questions(self) -> tuple[Question, ...]:
        """What is still to be answered."""
        return self.plan.questions

    @property
    def notes(self) -> tuple[str, ...]:
        """What was decided without asking and should be known: conflicts, kernels, files left out."""
        return self.plan.notes

    @property
    def problems(self) -> tuple[str, ...]:
        """What no answer can put right, such as no coarse file at all."""
        return self.plan.problems

    @property
    def complete(self) -> bool:
        """Whether a data set can be made of it."""
        return not self.questions and not self.problems

    @cached_property
    def files(self) -> tuple[File, ...]:
        """Every file, used or not, in the order of their names."""
        left = [
            File(name, name, "aside", (), (), "", "", "", (0, 0), None, "", (), 0.0, 0.0, 1.0, None, (reason,))
            for name, reason in self.aside
        ]
        return tuple(sorted((*(self._file(head) for head in self.headers), *left), key=lambda file: file.name))

    def _file(self, head: Header) -> File:
        facts = self.plan.facts[head.name]
        return File(
            head.name, facts.group, facts.use, tuple("" if day is None else day.isoformat() for day in facts.days),
            facts.bands, facts.sensor, _unit(facts), _own_plan.crs_words(head),
            head.shape, _own_guess.pixel(head), head.dtype, facts.nodata, head.low, head.high, head.missing,
            _own_plan.bounds(head), facts.why,
        )  # fmt: skip

    def answer(self, answers: Mapping[str, object]) -> "Proposal":
        """Return the proposal with these answers added.

        Parameters
        ----------
        answers : mapping
            Id of a question to its answer, as text or number. Beside what is asked these may be set:
            ``role:GROUP``, ``day:FILE``, ``year:GROUP``, ``series:GROUP``, ``bands:GROUP``, ``scale:GROUP``,
            ``nodata:GROUP``, ``mask:GROUP``, ``place:GROUP``, ``use:fine``, ``use:coarse``, ``ratio`` and ``size``.

        Raises
        ------
        FusionError
            If there is no such question or the answer is not of its kind.
        """
        given = {key: _own_answers.checked(key, value, self.plan, self.headers) for key, value in answers.items()}
        return replace(self, answers={**self.answers, **given})

    def accept(self) -> "Proposal":
        """Return the proposal with the suggestion taken wherever there is one."""
        current = self
        for _ in range(MAX_ROUNDS):
            taken = {one.id: one.suggestion for one in current.questions if one.suggestion is not None}
            if not taken:
                break
            current = current.answer(taken)
        return current

    def check_complete(self) -> None:
        """Raise FusionError, naming what is open, unless a data set can be made of it."""
        if self.problems:
            raise FusionError(f"No data set can be made of these files: {' '.join(self.problems)}")
        if self.questions:
            first: Sequence[str] = [f"{one.text} ({one.why}; answer {one.id!r})" for one in self.questions[:3]]
            more = f" and {len(self.questions) - 3} more" if len(self.questions) > 3 else ""
            raise FusionError(f"The proposal wants {len(self.questions)} answers: {' '.join(first)}{more}.")
