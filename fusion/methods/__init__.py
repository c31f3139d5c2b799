"""Method: a fusion algorithm as a frozen dataclass of its parameters, and the registry of all methods.

A method is one file in this folder. Its dataclass alone makes the form in the app, the options of the command
line, the range checks, the catalogue and the JSON; the file's name is the method's name. ``nearest.py`` is the
shortest, and README.md has one with a parameter, to copy and change.
"""

import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np

from ..errors import FusionError
from ..params import Param, check_params, param, params
from ..stack import Stack
from ._explanation import Explanation, Term

__all__ = [
    "FAMILIES",
    "LAWS",
    "Explanation",
    "Law",
    "Method",
    "Param",
    "Term",
    "build",
    "check_params",
    "get",
    "names",
    "param",
    "params",
    "register",
]

Law = Literal["offset", "copy", "bands", "turns"]
LAWS: Mapping[Law, str] = MappingProxyType(
    {
        "offset": "A constant added to the coarse target is added to the prediction:",
        "copy": "Where nothing changed, the prediction is the fine image:",
        "bands": "Each band is predicted the same way alone:",
        "turns": "A turned scene has a turned prediction:",
    }
)
FAMILIES = (
    "baseline",
    "weighted neighbours",
    "regression",
    "unmixing",
    "time series",
    "learning",
    "deep learning",
)


@dataclass(frozen=True)
class Method:
    """A fusion algorithm: parameters, whole-image facts (`prepare`) and local work (`predict`).

    Class variables tell the catalogue and the tests what the method promises:

    title, paper
        Name and source with DOI.
    family
        Kind of method, by which the catalogue groups; one of `FAMILIES`, or "" for none of them.
    pairs
        Reference pairs needed at least.
    exact
        The tiled result equals the whole one; else overlaps are feathered.
    explains
        `explain` takes a prediction apart.
    departs
        Laws of the contract tests that the method does not obey, each with its reason:
        "offset" (a constant added to all of the target is added to the prediction), "copy" (where nothing
        changed, the prediction is the fine image), "bands" (each band is predicted the same way alone), "turns" (a
        flipped or transposed scene has a flipped or transposed prediction).
    """

    title: ClassVar[str]
    paper: ClassVar[str]
    family: ClassVar[str] = ""
    pairs: ClassVar[int] = 1
    exact: ClassVar[bool] = True
    explains: ClassVar[bool] = False
    departs: ClassVar[Mapping[Law, str]] = {}

    def __post_init__(self) -> None:
        check_params(self)

    @classmethod
    def name(cls) -> str:
        """Registry name: the name of the file."""
        return cls.__module__.rpartition(".")[2]

    @classmethod
    def summary(cls) -> str:
        """Return the first sentence of the docstring."""
        return (inspect.getdoc(cls) or "").partition("\n\n")[0].replace("\n", " ")

    @classmethod
    def explanation(cls) -> str:
        """Return the docstring's prose between the first sentence and the first numpydoc section."""
        return _sections(cls)[""].partition("\n\n")[2].strip()

    @classmethod
    def notes(cls) -> str:
        """Return the docstring's section Notes: equations and choices."""
        return _sections(cls).get("Notes", "")

    def parameters(self) -> dict[str, Any]:
        """Parameters and values, ready for JSON."""
        return dataclasses.asdict(self)

    def lacks(self, pairs: int) -> str:
        """Say why so many pairs are too few, and what to do; "" if they are enough."""
        if pairs >= self.pairs:
            return ""
        return (
            f"{self.title} wants at least {self.pairs} pairs, got {pairs}: give it {self.pairs} pairs (on the Area "
            f"page of the app, or --pairs {self.pairs} in the shell), or choose another method."
        )

    def check_for(self, pairs: int, bands: tuple[str, ...], ratio: int) -> None:
        """Raise FusionError if the method cannot use such a stack, as far as is known before anything is read."""
        if why := self.lacks(pairs):
            raise FusionError(why)

    def check(self, stack: Stack) -> None:
        """Raise FusionError if the method cannot use this stack; called before any work."""
        self.check_for(len(stack.days), stack.bands, stack.ratio)

    def halo(self, ratio: int) -> int:
        """Context that `predict` needs around a tile, in fine pixels."""
        return 0

    def prepare(self, stack: Stack) -> Any:
        """Facts of the whole image; small, because they travel to every worker."""
        return None

    def predict(self, stack: Stack, state: Any) -> np.ndarray:
        """Predict all pixels of `stack`: ``(band, y, x)`` float32 reflectance, NaN = missing."""
        raise NotImplementedError

    def explain(self, stack: Stack, state: Any, band: int, y: int, x: int) -> Explanation:
        """Take the prediction of one pixel of one band apart; for methods that declare ``explains = True``."""
        raise FusionError(f"{self.title} does not explain its pixels: choose one of the methods that do.")


def _sections(owner: type) -> dict[str, str]:
    """Docstring of a class by numpydoc section; the prose before the first one is ""."""
    out, title = {"": ""}, ""
    lines = (inspect.getdoc(owner) or "").splitlines()
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        if below and set(below) == {"-"}:
            title = line
            out[title] = ""
        elif not (line and set(line) == {"-"}):
            out[title] += line + "\n"
    return {name: text.strip() for name, text in out.items()}


Kind = TypeVar("Kind", bound=type[Method])
_METHODS: dict[str, type[Method]] = {}


def register(method: Kind) -> Kind:
    """Enter a method into the registry under its file's name."""
    name = method.name()
    if name in _files() and method.__module__ != f"{__name__}.{name}":
        raise ValueError(f"A method named {name!r} comes with fusion; rename the file of {method.__module__}.")
    known = _METHODS.setdefault(name, method)
    if known is not method and (known.__module__, known.__qualname__) != (method.__module__, method.__qualname__):
        raise ValueError(f"Two methods are named {name!r}: {known.__module__} and {method.__module__}; rename a file.")
    _METHODS[name] = method
    return method


def names() -> tuple[str, ...]:
    """Names of all methods, without importing any."""
    return tuple(sorted(_files() | set(_METHODS)))


def _files() -> set[str]:
    return {item.name for item in pkgutil.iter_modules(__path__) if not item.name.startswith("_")}


def get(name: str) -> type[Method]:
    """Return the method's dataclass.

    Raises
    ------
    FusionError
        If there is no method of this name.

    Examples
    --------
    >>> get("delta").title
    'Delta'
    """
    if name not in names():
        close = get_close_matches(str(name), names(), n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise FusionError(f"There is no method {name!r}; there are {', '.join(names())}.{hint}")
    if name not in _METHODS:
        importlib.import_module(f"{__name__}.{name}")
    return _METHODS[name]


def build(name: str, parameters: Mapping[str, Any]) -> Method:
    """Make a method from its name and a mapping of parameters, as recipes, links and the command line hold them.

    Raises
    ------
    FusionError
        If the name or a parameter is unknown, or a value is out of its range.
    """
    method = get(name)
    known = {item.name for item in params(method)}
    if unknown := sorted(set(parameters) - known):
        have = ", ".join(sorted(known)) or "none"
        raise FusionError(f"{method.title} has no parameter {', '.join(map(repr, unknown))}; it has {have}.")
    return method(**parameters)
