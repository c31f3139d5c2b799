"""Finds: which images a source has for the work; a source that asks the network is searched on request only."""

from typing import TYPE_CHECKING, Any

import streamlit as st

from fusion import propose
from fusion.area import Ring
from fusion.errors import FusionError
from fusion.products import Product
from fusion.sources import Item

from .jobs import Progress, Shelf
from .pulse import followed

if TYPE_CHECKING:
    from .state import Work

FINDS = 64 * 2**20  # bytes of what searches found


@st.cache_resource(show_spinner=False)
def finds() -> Shelf:
    """Return what searches of remote sources found, for all sessions."""
    return Shelf(FINDS)


@st.cache_data(max_entries=64, show_spinner=False)
def _search(source: str, product: str, area: Ring | None, options: tuple[tuple[str, Any], ...]) -> list[Item]:
    return propose.find(source, product, area=area, options=dict(options))


def found(draft: "Work", row: Product) -> list[Item]:
    """Images of a product for the work's area: found at once, or kept from the last search of a remote source."""
    if not draft.remote:
        return _search(draft.source, row.name, draft.ring, draft.options)
    kept: list[Item] | None = finds().get(search_key(draft, row))
    return kept or []


def search_key(draft: "Work", row: Product) -> str:
    """Name of a search of a remote source among the finds."""
    return f"search:{draft.source}:{row.name}:{draft.area}:{draft.options}:{draft.dates}"


def searched(draft: "Work") -> bool:
    """Whether the images of the work's area are known: always, or after a search where the source is remote."""
    if not draft.remote:
        return True
    return all(finds().get(search_key(draft, row)) is not None for row in (draft.fine, draft.coarse))


def search(draft: "Work", progress: Progress, keep: Shelf, *, again: bool = False) -> None:
    """Search a remote source for the work's area and dates, and keep what is found; the work of a job.

    What is known already is not searched a second time, unless `again`.

    Raises
    ------
    FusionError
        If area or dates are missing, or the source does not answer.
    """
    if draft.area is None or draft.dates is None:
        raise FusionError("A search wants an area and dates: draw the area and choose the first and last day.")
    rows = [row for row in (draft.fine, draft.coarse) if again or keep.get(search_key(draft, row)) is None]
    for number, row in enumerate(rows):

        def ask(row: Product = row) -> list[Item]:
            return propose.find(draft.source, row.name, area=draft.area, dates=draft.dates, options=dict(draft.options))

        def tell(fraction: float, row: Product = row, number: int = number) -> None:
            progress((number + fraction) / len(rows), f"{row.role} images, {row.title}")

        found = followed(ask, tell)
        keep.put(search_key(draft, row), found, 1000 * (1 + len(found)))
