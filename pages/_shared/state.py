"""Work: what the person has chosen so far, in the session and in the address."""

import base64
import binascii
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import streamlit as st

from fusion import methods, products, propose
from fusion.errors import FusionError
from fusion.methods import Method
from fusion.recipe import MAX_JSON, Recipe, Ring, check_ring, extent, grid, parse_json
from fusion.sources import Item

from .messages import complain, plain

PARAMETER = "w"  # of the address
DEFAULT_METHODS = ("delta", "starfm")
MOST_METHODS = 8


@dataclass(frozen=True)
class Work:
    """Everything a link holds; a Recipe per method comes out of it.

    ``area`` None means the whole source; ``target`` None and ``pairs`` () mean the proposal.
    """

    source: str = "sample"
    options: tuple[tuple[str, Any], ...] = ()
    area: Ring | None = None
    target: date | None = None
    pairs: tuple[date, ...] = ()
    methods: tuple[Method, ...] = ()
    view: str = ""

    @property
    def fine(self) -> products.Product:
        """The fine product."""
        return products.of_source(self.source, "fine")[0]

    @property
    def coarse(self) -> products.Product:
        """The coarse product."""
        return products.of_source(self.source, "coarse")[0]

    @property
    def ring(self) -> Ring:
        """The area, or the whole source where none is drawn."""
        ring = self.area or extent(self.fine)
        if ring is None:
            raise FusionError("No area is chosen yet: draw one on the Area page.")
        return ring

    def to_link(self) -> str:
        """Return the work as text for the address."""
        body = {
            "v": 1,
            "source": self.source,
            "options": dict(self.options),
            "area": self.area,
            "target": self.target and self.target.isoformat(),
            "pairs": [day.isoformat() for day in self.pairs],
            "methods": [[method.name(), method.parameters()] for method in self.methods],
            "view": self.view,
        }
        packed = zlib.compress(json.dumps(body, separators=(",", ":")).encode(), 9)
        return base64.urlsafe_b64encode(packed).decode().rstrip("=")

    @classmethod
    def from_link(cls, text: str) -> "Work":
        """Read a link, checking every part of it like any input.

        Raises
        ------
        FusionError
            If a part is broken.
        """
        body = parse_json(_unpack(text), "link")
        try:
            target = body["target"] and date.fromisoformat(body["target"])
            pairs = tuple(sorted({date.fromisoformat(day) for day in body["pairs"]}))
            area = tuple((float(x), float(y)) for x, y in body["area"] or ())
            built = {name: methods.build(name, parameters) for name, parameters in body["methods"][:MOST_METHODS]}
            options, source, view = tuple(sorted(body["options"].items())), str(body["source"]), str(body["view"])[:60]
        except FusionError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise FusionError(f"The link is incomplete or broken near {error}: ask for it again.") from error
        if area:
            check_ring(area)
        work = cls(source, options, area or None, target, pairs, tuple(built.values()), view)
        propose.options_of(source, dict(options))
        return work


def _unpack(text: str) -> str:
    try:
        packed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        unpacker = zlib.decompressobj()
        plain = unpacker.decompress(packed, MAX_JSON + 1)
        return plain.decode()
    except (binascii.Error, zlib.error, ValueError) as error:
        raise FusionError("The link is cut off or altered: copy the whole address and open it again.") from error


def work() -> Work:
    """Return the session's work: what it holds, else the link's, else the sample with everything proposed."""
    if "work" not in st.session_state:
        text = st.query_params.get(PARAMETER)
        start = Work(methods=tuple(methods.get(name)() for name in DEFAULT_METHODS))
        try:
            st.session_state["work"] = settle(Work.from_link(text) if text else start)
            st.session_state["linked"] = bool(text)
        except FusionError as error:
            st.session_state["work"] = settle(start)
            complain(f"This link could not be opened, so the bundled sample is shown instead. {error}")
    return st.session_state["work"]  # type: ignore[no-any-return]


def change(**parts: Any) -> None:
    """Put a change into the session's work; a change that cannot be is refused with a message, nothing is lost."""
    old = work()
    st.session_state["linked"] = False
    try:
        new = replace(old, **parts)
        if {"source", "options", "area"} & set(parts):
            new = settle(new)
        st.session_state["work"] = new
    except FusionError as error:
        complain(str(error))


def may_read() -> bool:
    """Whether images may be read just to be shown: a link alone reads nothing, so a person is asked first."""
    if st.session_state.get("linked"):
        clicked = st.button("Show the images", help="This work came by a link, which reads nothing by itself.")
        st.session_state["linked"] = not clicked
    return not st.session_state.get("linked")


def settle(draft: Work) -> Work:
    """Fit target and pairs to what the source has for the area; what is missing is proposed."""
    grid(draft.ring, draft.fine, draft.coarse)
    fine, coarse = items(draft)
    targets = target_days(draft)
    target = draft.target if draft.target in targets else propose.first_target(draft.source, fine, coarse)
    possible = set(pair_days(draft)) - {target}
    pairs = tuple(sorted(possible & set(draft.pairs)))
    if not pairs and target is not None:
        pairs = proposed_days(draft, target)[0]
    return replace(draft, target=target, pairs=pairs)


@st.cache_data(max_entries=64, show_spinner=False)
def _search(source: str, product: str, area: Ring, options: tuple[tuple[str, Any], ...]) -> list[Item]:
    return propose.find(source, product, area=area, options=dict(options))


def items(draft: Work) -> tuple[list[Item], list[Item]]:
    """Fine and coarse images that the source has of the area."""
    fine = _search(draft.source, draft.fine.name, draft.ring, draft.options)
    return fine, _search(draft.source, draft.coarse.name, draft.ring, draft.options)


def target_days(draft: Work) -> list[date]:
    """Days that can be predicted: those with a coarse image."""
    return sorted({item.day for item in items(draft)[1]})


def pair_days(draft: Work) -> list[date]:
    """Days that can be a pair: those with both images."""
    fine, coarse = items(draft)
    return sorted({item.day for item in fine} & {item.day for item in coarse})


def proposed_days(draft: Work, target: date, count: int = 2) -> tuple[tuple[date, ...], str]:
    """Reference days proposed for a target, and why."""
    fine, coarse = items(draft)
    pairs, why = propose.propose(fine, coarse, target, count)
    return tuple(pair[0].day for pair in pairs), why


def truth_item(draft: Work, day: date) -> Item | None:
    """The fine image of a day, where the source has one: from a truth product, else from the fine one."""
    for row in (*products.of_source(draft.source, "truth"), draft.fine):
        for item in _search(draft.source, row.name, draft.ring, draft.options):
            if item.day == day:
                return item
    return None


def able(chosen: Sequence[Method], pairs: Sequence[date]) -> list[Method]:
    """Return the methods that these pairs are enough for; says of each other one what it lacks."""
    for method in chosen:
        if why := method.lacks(len(pairs)):
            st.warning(plain(why), icon=":material/warning:")
    return [method for method in chosen if not method.lacks(len(pairs))]


def recipe(draft: Work, method: Method, target: date | None = None, pairs: tuple[date, ...] | None = None) -> Recipe:
    """Return the recipe of one method, for the work's own target and pairs or for others.

    Raises
    ------
    FusionError
        If target or pairs are missing.
    """
    target, pairs = target or draft.target, draft.pairs if pairs is None else pairs
    fine, coarse = items(draft)
    by_day: tuple[Mapping[date, Item], Mapping[date, Item]] = (
        {item.day: item for item in coarse},
        {item.day: item for item in fine},
    )
    if target is None or target not in by_day[0]:
        raise FusionError("No target day is chosen: choose one on the Area page.")
    if not pairs:
        raise FusionError("No pair is chosen: choose at least one day with both images on the Area page.")
    geobox, ratio = grid(draft.ring, draft.fine, draft.coarse)
    return Recipe(
        area=draft.ring,
        geobox=geobox,
        ratio=ratio,
        bands=draft.fine.bands,
        pairs=tuple((by_day[0][day], by_day[1][day]) for day in sorted(pairs)),
        target=by_day[0][target],
        method=method,
    )
