"""Parameters: one declaration makes the form, the command-line options, the range checks and the JSON."""

import dataclasses
import math
import sys
import types
import typing
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from .errors import FusionError


def param(
    default: Any,
    *,
    doc: str,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    odd: bool = False,
    training: bool = False,
) -> Any:
    """Declare one parameter of a method: default, one sentence, unit and allowed range (ends included).

    One that is for `training` matters only while a network is trained, and is asked for there alone.
    """
    known = {"doc": doc, "unit": unit, "low": low, "high": high, "odd": odd, "training": training}
    return field(default=default, metadata=known)


@dataclass(frozen=True)
class Param:
    """What is known of one parameter; made by :func:`params`."""

    name: str
    kind: type
    default: Any
    doc: str
    unit: str
    low: float | None
    high: float | None
    odd: bool
    training: bool
    choices: tuple[str, ...]

    def check(self, value: Any, owner: str) -> Any:
        """Return `value` in the parameter's own type, or raise what was wanted and what came."""
        right = value in self.choices if self.choices else _is_kind(value, self.kind)
        if right and self.kind in (int, float):
            value = self.kind(value)
            right = self._allows(value)
        if not right:
            unit = f" ({self.unit})" if self.unit else ""
            raise FusionError(
                f"{owner}: {self.name}{unit} wants {self.wanted()}, got {value!r}; the default is {self.default!r}."
            )
        return value

    def wanted(self) -> str:
        """What values are allowed, in words."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}[self.kind]
        words += " that is odd" if self.odd else ""
        words += f" from {self.low:g}" if self.low is not None else ""
        return words + (f" to {self.high:g}" if self.high is not None else "")

    def allowed(self) -> str:
        """What values are allowed, in few words for a table."""
        if self.choices:
            return ", ".join(self.choices)
        if self.kind is bool:
            return "true or false"
        if self.kind is str:
            return "text"
        low, high = (None if end is None else f"{end:g}" for end in (self.low, self.high))
        if low is not None:
            words = f"from {low}" if high is None else f"{low} to {high}"
        else:
            words = "any" if high is None else f"up to {high}"
        return f"{words}, odd" if self.odd else words

    def _allows(self, number: float) -> bool:
        above = self.low is None or number >= self.low
        below = self.high is None or number <= self.high
        return above and below and not (self.odd and number % 2 == 0)


def _is_kind(value: Any, kind: type) -> bool:
    if kind is bool or isinstance(value, bool):
        return kind is bool and isinstance(value, bool)
    if kind is int:
        return isinstance(value, int | np.integer) or (isinstance(value, float) and value.is_integer())
    if kind is float:
        if isinstance(value, int | np.integer):
            return abs(int(value)) <= sys.float_info.max  # a longer one does not fit a float
        return isinstance(value, float | np.floating) and math.isfinite(value)
    return isinstance(value, kind)


def params(owner: type) -> tuple[Param, ...]:
    """Parameters of a method (or of any dataclass made with :func:`param`), in the order of declaration."""
    kinds = typing.get_type_hints(owner)
    out = []
    for item in dataclasses.fields(owner):
        kind = kinds[item.name]
        choices = typing.get_args(kind) if typing.get_origin(kind) is Literal else ()
        plain = str if choices else kind
        if plain not in (int, float, bool, str) or isinstance(kind, types.UnionType):
            raise TypeError(f"{owner.__name__}.{item.name}: parameters are int, float, bool, str or Literal[...].")
        meta = {"doc": "", "unit": "", "low": None, "high": None, "odd": False, "training": False, **item.metadata}
        out.append(Param(item.name, plain, item.default, choices=choices, **meta))
    return tuple(out)


def check_params(owner: Any) -> None:
    """Check every parameter of an instance; numbers are brought to their declared type."""
    for item in params(type(owner)):
        value = item.check(getattr(owner, item.name), getattr(owner, "title", type(owner).__name__))
        object.__setattr__(owner, item.name, value)
