"""Area: where, which images, which day, from which pairs."""

import streamlit as st

from fusion import sources
from fusion.methods import params
from pages._shared import accounts, frame, places, runs, scenes, state
from pages._shared.forms import bound, form, remembered


def choose_source(work: state.Work) -> bool:
    """Source, account and options; whether it can work as it is chosen."""
    titles = {name: sources.get(name).TITLE for name in scenes.names()}
    bound(
        st.selectbox, "Source of images", key="source", value=work.source, options=list(titles),
        format_func=titles.__getitem__, apply=state.choose_source,
    )  # fmt: skip
    st.caption(sources.get(work.source).DESCRIPTION)
    accounts.show(work.source)
    if work.source == "local" and not work.missing:
        scenes.to_files("Choose other files")
    elif work.given is not None and work.source != "local":  # own files are chosen on a page of their own
        with st.expander("Options of this source", expanded=bool(work.options)):
            kind = type(work.given)
            values = {item.name: getattr(work.given, item.name) for item in params(kind)}
            form(kind, values, key="options", apply=set_option, known=scenes.choices(work.source))
    if work.missing:
        scenes.lead_on(work)
    return not work.missing


def set_option(name: str, value: object) -> None:
    """Change one option of the source, as the work is now: edits may follow each other fast."""
    options = {**dict(state.work().options), name: value}
    state.change(options=tuple(sorted(options.items())))


with frame.page("Area", "Draw the area, then choose the day to predict and the pairs to predict it from.") as work:
    map_column, form_column = frame.halves("area", (3, 2))
    rows: runs.Rows = []
    with form_column:
        if usable := choose_source(work):
            scenes.choose_products(work)
            if work.remote:
                scenes.choose_dates(work)
                rows = scenes.search(work)
    with map_column:
        top = st.container()
    with map_column if usable and work.remote else form_column:  # where there is room
        if usable and work.remote:
            with st.expander("Bounds as numbers, or a GeoJSON file"):
                places.type_bounds(work)
        elif usable:
            places.type_bounds(work)
        tiles = remembered(
            st.radio, "Background map", ("offline", "online tiles (OpenStreetMap)"), name="tiles", default="offline",
            horizontal=True, help="Offline: nothing is asked of the internet.",
        )  # fmt: skip
    with top:
        places.draw(work, tiles)
    if usable and (work.area is not None or work.fine.geobox is not None):
        if state.searched(work):
            st.subheader("Days")
            scenes.choose_days(work)
        st.subheader("What will be read")
        scenes.say_what_is_read(work)
    runs.wait(rows)
