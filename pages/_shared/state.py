"""Work: what the person has chosen so far, in the session and in the address."""

import base64
import binascii
import json
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

import streamlit as st

from fusion import methods, pairing, propose, sources
from fusion.area import Ring, check_ring, extent, grid
from fusion.errors import FusionError
from fusion.methods import Method
from fusion.products import Product
from fusion.recipe import MAX_JSON, Recipe, parse_json
from fusion.sources import Dates, Item

from .finds import finds as finds
from .finds import found, search_key
from .finds import search as search
from .finds import searched as searched
from .messages import complain, plain
from .shifts import fine_unit, where

PARAMETER = "w"  # of the address
DEFAULT_METHODS = ("delta", "starfm")
MOST_METHODS = 8
ANEW = {"source", "options", "fine_name", "coarse_name"}
SETTLES = ANEW | {"area", "dates"}
USUAL_DAYS = 120  # of a search, back from today
MOST_DAYS = 731  # of a search: two years
FIRST_DAY = date(1999, 1, 1)  # before the first of the satellites


@dataclass(frozen=True)
class Work:
    """Everything a link holds; a Recipe per method comes out of it.

    ``area`` None means the whole source; ``target`` None and ``pairs`` () mean the proposal; ``fine_name`` and
    ``coarse_name`` "" mean the source's first products. ``dates`` bound the search of a source that covers years;
    ``shift`` (metres or units of the CRS) and ``harmonise`` are corrections of the coarse images.
    """

    source: str = "sample"
    options: tuple[tuple[str, Any], ...] = ()
    area: Ring | None = None
    target: date | None = None
    pairs: tuple[date, ...] = ()
    methods: tuple[Method, ...] = ()
    view: str = ""
    fine_name: str = ""
    coarse_name: str = ""
    dates: Dates | None = None
    shift: tuple[float, float] = (0.0, 0.0)
    harmonise: bool = False

    @property
    def missing(self) -> str:
        """What keeps the source from working as it is chosen, in words; empty where nothing does."""
        try:
            lacking = [role for role in ("fine", "coarse") if not sources.offered(self.source, role, self.given)]
        except FusionError as error:
            return str(error)
        if not lacking:
            return ""
        return f"{sources.get(self.source).TITLE} has no {' and no '.join(lacking)} images as it is chosen."

    @property
    def given(self) -> Any:
        """The source's options as its own dataclass; None where it has none."""
        return propose.options_of(self.source, dict(self.options))

    @property
    def fine(self) -> Product:
        """The fine product."""
        return propose.choose(self.source, "fine", self.fine_name or None, self.given)

    @property
    def coarse(self) -> Product:
        """The coarse product."""
        return propose.choose(self.source, "coarse", self.coarse_name or None, self.given)

    @property
    def remote(self) -> bool:
        """Whether the source asks the network, so that it is searched on request only."""
        return sources.is_remote(self.source)

    @property
    def bands(self) -> tuple[str, ...]:
        """Bands that both products have."""
        return propose.common_bands(self.fine, self.coarse)

    @property
    def ring(self) -> Ring:
        """The area, or the whole source where none is drawn."""
        ring = self.area or extent(self.fine)
        if ring is None:
            raise FusionError("No area is chosen yet: draw one on the Area page.")
        return ring

    def check(self) -> None:
        """Raise FusionError where a product or option is none of the source's, or the dates are too many."""
        propose.options_of(self.source, dict(self.options))
        if not self.missing:
            propose.common_bands(self.fine, self.coarse)
        if self.dates is not None:
            check_dates(*self.dates)

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
            **{name: value for name, value in self._more().items() if value},
        }
        packed = zlib.compress(json.dumps(body, separators=(",", ":")).encode(), 9)
        return base64.urlsafe_b64encode(packed).decode().rstrip("=")

    def _more(self) -> dict[str, Any]:
        """What older links do not have, and newer ones only where it says something."""
        return {
            "fine": self.fine_name,
            "coarse": self.coarse_name,
            "dates": self.dates and [day.isoformat() for day in self.dates],
            "shift": list(self.shift) if any(self.shift) else None,
            "harmonise": self.harmonise,
        }

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
            names = (str(body.get("fine", ""))[:80], str(body.get("coarse", ""))[:80])
            first, last = (date.fromisoformat(day) for day in body.get("dates") or ("0001-01-01", "0001-01-01"))
            east, north = (float(part) for part in body.get("shift") or (0, 0))
        except FusionError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise FusionError(f"The link is incomplete or broken near {error}: ask for it again.") from error
        if area:
            check_ring(area)
        if not math.isfinite(east + north):
            raise FusionError("The link's shift wants two numbers: ask for it again.")
        work = cls(
            source, options, area or None, target, pairs, tuple(built.values()), view, *names,
            dates=(first, last) if body.get("dates") else None, shift=(east, north),
            harmonise=body.get("harmonise") is True,
        )  # fmt: skip
        work.check()
        return work


def _unpack(text: str) -> str:
    try:
        packed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        unpacker = zlib.decompressobj()
        plain = unpacker.decompress(packed, MAX_JSON + 1)
        return plain.decode()
    except (binascii.Error, zlib.error, ValueError) as error:
        raise FusionError("The link is cut off or altered: copy the whole address and open it again.") from error


def check_dates(first: date, last: date) -> None:
    """Raise FusionError unless these are a first and a last day between which a search may look."""
    if not FIRST_DAY <= first <= last < date(2100, 1, 1):
        raise FusionError(
            f"A search wants a first and a last day from {FIRST_DAY} on, in order, got {first} and {last}: change them."
        )
    if (last - first).days >= MOST_DAYS:
        raise FusionError(
            f"A search looks at two years at most, got {first} to {last}: choose days that are nearer to each other."
        )


def usual_dates() -> Dates:
    """First and last day of a search unless others are chosen."""
    return date.today() - timedelta(days=USUAL_DAYS), date.today()


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
    _take_in()
    return st.session_state["work"]  # type: ignore[no-any-return]


def _take_in() -> None:
    """Once after a search: propose target and pairs from what it found."""
    held: Work = st.session_state["work"]
    if not held.remote or held.missing or not searched(held):
        return
    found = "".join(search_key(held, row) for row in (held.fine, held.coarse))
    if st.session_state.get("taken-in") != found:
        st.session_state["taken-in"] = found
        st.session_state["work"] = settle(held)


def change(**parts: Any) -> None:
    """Put a change into the session's work; a change that cannot be is refused with a message, nothing is lost."""
    old = work()
    st.session_state["linked"] = False
    try:
        new = replace(old, **parts)
        if ANEW & set(parts):  # a shift belongs to the images in which it was found
            new = _named(replace(new, shift=parts.get("shift", (0.0, 0.0))))
        if SETTLES & set(parts):
            new.check()
            new = settle(new)
        st.session_state["work"] = new
    except FusionError as error:
        complain(str(error))


def choose_source(name: str) -> None:
    """Take another source; area, days and pairs stay where both cover the world, until a search says otherwise."""
    old = work()
    if name == old.source:
        return
    kept: dict[str, Any] = {"area": None, "target": None, "pairs": ()}
    if old.remote and sources.is_remote(name):
        kept = {"area": old.area, "dates": old.dates, "target": old.target, "pairs": old.pairs}
    change(source=name, options=(), fine_name="", coarse_name="", **kept)


def _named(draft: Work) -> Work:
    """Return the work without names of products that the source does not offer as it is chosen now."""
    if draft.missing:
        return draft
    fine, coarse = (
        {row.name for row in sources.offered(draft.source, role, draft.given)} for role in ("fine", "coarse")
    )
    return replace(
        draft,
        fine_name=draft.fine_name if draft.fine_name in fine else "",
        coarse_name=draft.coarse_name if draft.coarse_name in coarse else "",
    )


def wanted() -> None:
    """Note that the person has asked for this work: from now on its images may be read to be shown."""
    st.session_state["linked"] = False


def may_read() -> bool:
    """Whether images may be read just to be shown: a link alone reads nothing, so a person is asked first."""
    if st.session_state.get("linked"):
        clicked = st.button("Show the images", help="This work came by a link, which reads nothing by itself.")
        st.session_state["linked"] = not clicked
    return not st.session_state.get("linked")


def settle(draft: Work) -> Work:
    """Fit target and pairs to what the source has for the area; what is missing is proposed.

    A source that is not searched yet leaves them as they are, and so does one that has no images.
    """
    if draft.remote and draft.dates is None:
        draft = replace(draft, dates=usual_dates())
    if draft.missing:
        return draft
    if draft.area is not None:
        grid(draft.area, draft.fine, draft.coarse)
    if not searched(draft):
        return draft
    fine, coarse = items(draft)
    targets = target_days(draft)
    target = draft.target if draft.target in targets else propose.first_target(draft.source, fine, coarse)
    possible = set(pair_days(draft)) - {target}
    pairs = tuple(sorted(possible & set(draft.pairs)))
    if not pairs and target is not None:
        pairs = proposed_days(draft, target)[0]
    return replace(draft, target=target, pairs=pairs)


def items(draft: Work) -> tuple[list[Item], list[Item]]:
    """Fine and coarse images that the source has of the area; none where it is not searched yet."""
    return found(draft, draft.fine), found(draft, draft.coarse)


def target_days(draft: Work) -> list[date]:
    """Days that can be predicted: those with a coarse image."""
    return sorted({item.day for item in items(draft)[1]})


def pair_days(draft: Work) -> list[date]:
    """Days that can be a pair: those with both images."""
    fine, coarse = items(draft)
    return sorted(pair[0].day for pair in pairing.pairs_of(fine, coarse))


def proposed_days(draft: Work, target: date, count: int = 2) -> tuple[tuple[date, ...], str]:
    """Reference days proposed for a target, and why."""
    fine, coarse = items(draft)
    pairs, why = pairing.propose(fine, coarse, target, count)
    return tuple(pair[0].day for pair in pairs), why


def truth_item(draft: Work, day: date) -> Item | None:
    """The fine image of a day, where the source has one: from a truth product, else from the fine one."""
    for row in (*sources.offered(draft.source, "truth", draft.given), draft.fine):
        for item in found(draft, row):
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
    if draft.missing:
        raise FusionError(draft.missing)
    fine, coarse = items(draft)
    if not searched(draft):
        raise FusionError("The source is not searched yet: press Search images on the Area page.")
    blurred = pairing.by_day(coarse, () if target is None else (target,))
    both = {pair[0].day: pair for pair in pairing.pairs_of(fine, coarse)}
    if target is None or target not in blurred:
        raise FusionError("No target day is chosen: choose one on the Area page.")
    if not pairs:
        raise FusionError("No pair is chosen: choose at least one day with both images on the Area page.")
    geobox, ratio = grid(draft.ring, draft.fine, draft.coarse)
    return Recipe(
        area=draft.ring,
        geobox=geobox,
        ratio=ratio,
        bands=draft.bands,
        pairs=tuple(both[day] for day in sorted(pairs)),
        target=blurred[target],
        method=method,
        shift=draft.shift,
        harmonise=draft.harmonise,
    )


def corrections(draft: Work) -> str:
    """What is done to the coarse images before they are fused, in words; empty where nothing is."""
    words = []
    if any(draft.shift):
        words.append(f"read {where(draft.shift, fine_unit(draft))} of where their grid says")
    if draft.harmonise:
        words.append("harmonised with the fine sensor band by band")
    return f"Coarse images are {' and '.join(words)}." if words else ""
