"""The methods in the order in which pages show them."""

import re

from fusion import methods
from fusion.methods import FAMILIES, Method


def ordered() -> dict[str, type[Method]]:
    """Methods by name: the baselines first, then family by family, each in the order of their papers."""
    found = {name: methods.get(name) for name in methods.names()}
    return dict(sorted(found.items(), key=lambda item: _place(item[1])))


def _place(method: type[Method]) -> tuple[int, str, str]:
    family = FAMILIES.index(method.family) if method.family in FAMILIES else len(FAMILIES)
    year = re.search(r"\b(?:19|20)\d\d\b", method.paper)
    return family, year[0] if year else "", method.title
