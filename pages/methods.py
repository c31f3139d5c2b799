"""Methods: the catalogue, made from the registry."""

import streamlit as st

from fusion import methods
from fusion.methods import Method
from pages._shared import frame, messages, state
from pages._shared.catalogue import ordered


def overview(work: state.Work) -> None:
    """All methods in one table, each with the way to its card."""
    count = len(work.pairs)
    rows = [
        {
            "method": f"[{method.title}](#{name})",
            "kind": method.family or "other",
            "what it does": messages.plain(method.summary()),
            "pairs": f"{method.pairs} or more" + (f" (got {count})" if method().lacks(count) else ""),
            "explains": "yes" if method.explains else "no",
        }
        for name, method in ordered().items()
    ]
    st.table(rows)
    st.caption(
        "Baselines are the floor: a method that does not beat them adds nothing. Within a kind, older papers come "
        "first. Methods that explain a pixel show on Compare which neighbours made it, and why."
    )


def card(name: str, method: type[Method]) -> None:
    """Everything about one method."""
    st.subheader(method.title, anchor=name)
    st.markdown(f"*{messages.plain(method.summary())}*")
    st.markdown(method.explanation())
    st.markdown(f"**Paper** {frame.paper(method.paper)}")
    st.markdown(
        f"**Needs** at least {method.pairs} pair{'s' if method.pairs > 1 else ''}. "
        + ("Tiled and whole results are equal." if method.exact else "Tiles are feathered into each other.")
    )
    if method.departs:
        laws = [f"- {methods.LAWS[law]} not here, {why}." for law, why in method.departs.items()]
        st.caption("Departs from what most methods obey:\n" + "\n".join(laws))
    if method.notes():
        with st.expander("Equations and choices"):
            st.markdown(method.notes().replace("::\n", ":\n"))
    for title, training in (("Parameters", False), ("Parameters of its training", True)):
        if rows := parameters(method, training=training):
            with st.expander(f"{title} ({len(rows)})"):
                st.table(rows)


def parameters(method: type[Method], *, training: bool) -> list[dict[str, str]]:
    """One row per parameter, of those that matter only while a network is trained or of the others."""
    return [
        {
            "parameter": messages.plain(item.name),
            "meaning": messages.plain(item.doc),
            "unit": "none" if item.unit in ("", "1") else item.unit,
            "default": str(item.default),
            "allowed": item.allowed(),
        }
        for item in methods.params(method)
        if item.training == training
    ]


with frame.page("Methods", "What each method does, what it needs, and where it comes from.") as work:
    overview(work)
    for name, method in ordered().items():
        with st.container(border=True):
            card(name, method)
