"""Preprocess: make images comparable before they are stacked."""

from ._aggregate import aggregate
from ._clean import clean, unit_mistake
from ._harmonise import Regression, harmonise, regression
from ._report import Card, Report, report
from ._shift import agreement, shift, surface

__all__ = [
    "Card",
    "Regression",
    "Report",
    "aggregate",
    "agreement",
    "clean",
    "harmonise",
    "regression",
    "report",
    "shift",
    "surface",
    "unit_mistake",
]
