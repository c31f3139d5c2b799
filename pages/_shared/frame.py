"""The frame around every page: title, steps, messages and the sidebar that says where one is."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

import fusion
from fusion import sources
from fusion._assets import asset
from fusion.area import grid
from fusion.errors import FusionError

from . import messages, runs, scenes, state, warm

STEPS = (
    ("app.py", "Start", ":material/home:"),
    ("pages/area.py", "1 Area", ":material/crop_free:"),
    ("pages/check.py", "2 Check", ":material/fact_check:"),
    ("pages/fuse.py", "3 Fuse", ":material/merge:"),
    ("pages/compare.py", "4 Compare", ":material/compare:"),
    ("pages/evaluate.py", "5 Evaluate", ":material/monitoring:"),
    ("pages/files.py", "Own files", ":material/folder_open:"),
    ("pages/train.py", "Train", ":material/model_training:"),
    ("pages/methods.py", "Methods", ":material/menu_book:"),
)
STYLE = """<style>
.stMainBlockContainer {padding-top: 3.5rem}
@media (max-width: 1050px) {
  [class*="st-key-halves"] .stHorizontalBlock {flex-wrap: wrap}
  [class*="st-key-halves"] > * > .stHorizontalBlock > .stColumn,
  [class*="st-key-halves"] > .stHorizontalBlock > .stColumn {min-width: 100%}
  [class*="st-key-quarters"] .stHorizontalBlock {flex-wrap: wrap}
  [class*="st-key-quarters"] .stColumn {min-width: 40%}
}
</style>"""
NOTES = {
    "simulated": "Coarse images are **simulated** from the fine ones.",
    "synthetic": "All images are **synthetic**: made by the landscape lab.",
}


@contextmanager
def page(title: str, lead: str, *, images: bool = False) -> Iterator[state.Work]:
    """Set up a page and show what goes wrong on it in words; every page is written inside ``with page(...)``.

    A page that wants `images` leads to the Area page instead while the work has no area, or is not searched yet.
    """
    st.set_page_config(page_title=f"{title} - Meantime", page_icon=str(asset("favicon.png")), layout="wide")
    st.logo(str(asset("logo.svg")), size="large")
    work = state.work()
    if st.query_params.get(state.PARAMETER) != (link := work.to_link()):
        st.query_params[state.PARAMETER] = link
    _sidebar(work)
    st.html(STYLE)
    st.title(title)
    st.markdown(lead)
    top = st.container()  # always there, so that a message does not shift what follows and close what is open
    with top:
        old, late = st.empty(), st.empty()  # drawn at once: what was said before must not stay while a new try runs
        if waiting := messages.complaints():
            with old.container():
                for message in waiting:
                    messages.error(message)
    if images and not scenes.at_hand(work):
        st.stop()
    try:
        yield work
    except FusionError as error:
        with late:
            messages.error(str(error))
    warm.begin()  # after the page, which is not to wait for it


def halves(key: str, shares: Sequence[int] = (1, 1)) -> list[DeltaGenerator]:
    """Return columns that stand below each other where the window is narrow."""
    with st.container(key=f"halves-{key}"):
        return st.columns(shares)


def _sidebar(work: state.Work) -> None:
    with st.sidebar:
        for path, label, icon in STEPS:
            st.page_link(path, label=label, icon=icon)
        st.divider()
        st.markdown("\n".join(f"- {line}" for line in summary(work)))
        if not work.missing and work.coarse.origin in NOTES:
            st.caption(NOTES[work.coarse.origin])
        for job in runs.queue().of(runs.session()):
            st.caption(f"Running: {job.title}, {job.fraction:.0%}")
        st.caption(f"Meantime {fusion.__version__} - copy the address to share this work: it holds every choice.")


def summary(work: state.Work) -> list[str]:
    """Area, dates and methods in a few words each."""
    lines = [
        f"**Source** {sources.get(work.source).TITLE}",
        f"**Area** {_size(work)}",
        f"**Target** {work.target or 'not chosen'}",
        f"**Pairs** {', '.join(map(str, work.pairs)) or 'not chosen'}",
        f"**Methods** {', '.join(method.title for method in work.methods) or 'none'}",
    ]
    return lines + ([f"**Corrected** {words}"] if (words := state.corrections(work)) else [])


def _size(work: state.Work) -> str:
    if work.missing:
        return "no images chosen"
    if work.area is None and work.fine.geobox is None:
        return "not drawn yet"
    try:
        geobox, ratio = grid(work.ring, work.fine, work.coarse)
    except FusionError:  # said on the page that needs the grid
        return "too large, or outside the images"
    height, width = geobox.shape
    sides = " x ".join(_kilometres(side * work.fine.resolution / 1000) for side in (width, height))
    return f"{sides} km, {width} x {height} fine pixels, ratio {ratio}"


def _kilometres(length: float) -> str:
    return f"{length:.3g}" if length < 999.5 else f"{length:.0f}"


def paper(text: str) -> str:
    """Return a citation with its DOI as a link."""
    return re.sub(r"doi:(10\.\S+)", r"[doi:\1](https://doi.org/\1)", text)
