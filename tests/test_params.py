"""Params: how the allowed values read in a table."""

from dataclasses import dataclass
from typing import Literal

import pytest

from fusion import methods, param
from fusion.params import params


@dataclass(frozen=True)
class Many:
    """A parameter of every kind."""

    window: int = param(31, doc="Side.", low=3, high=201, odd=True)
    scale: float = param(1.0, doc="Scale.", low=0.1, high=1e4)
    least: float = param(1.0, doc="Least.", low=0)
    most: int = param(1, doc="Most.", high=5)
    free: float = param(1.0, doc="Free.")
    odd: int = param(1, doc="Odd.", low=1, odd=True)
    on: bool = param(True, doc="On.")
    how: Literal["log", "product"] = param("log", doc="How.")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("window", "3 to 201, odd"),
        ("scale", "0.1 to 10000"),
        ("least", "from 0"),
        ("most", "up to 5"),
        ("free", "any"),
        ("odd", "from 1, odd"),
        ("on", "true or false"),
        ("how", "log, product"),
    ],
)
def test_what_is_allowed_in_words(name, words):
    assert {item.name: item.allowed() for item in params(Many)}[name] == words


def test_what_is_allowed_of_every_method_is_in_words():
    assert all(item.allowed() != "any" for name in methods.names() for item in params(methods.get(name)))
