"""Area: where, which day, from which pairs."""

from dataclasses import replace

import streamlit as st

from fusion import methods, propose, sources, viz
from fusion.errors import FusionError
from fusion.methods import params
from fusion.recipe import MAX_GEOJSON, extent, grid, parse_json, rectangle, ring_of
from pages._shared import frame, maps, messages, runs, state, views
from pages._shared.forms import bound, form, remembered


def choose_source(work: state.Work) -> None:
    """Source and, where it has some, its options."""
    titles = {name: sources.get(name).TITLE for name in sources.names()}
    bound(
        st.selectbox, "Source of images", key="source", value=work.source, options=list(titles),
        format_func=titles.__getitem__,
        apply=lambda name: state.change(source=name, options=(), area=None, target=None, pairs=()),
    )  # fmt: skip
    st.caption(sources.get(work.source).DESCRIPTION)
    options = propose.options_of(work.source, dict(work.options))
    if options is not None:
        with st.expander("Options of this source", expanded=bool(work.options)):
            values = {item.name: getattr(options, item.name) for item in params(type(options))}
            form(
                type(options), values, key="options",
                apply=set_option,
            )  # fmt: skip


def set_option(name: str, value: object) -> None:
    """Change one option of the source, as the work is now: edits may follow each other fast."""
    options = {**dict(state.work().options), name: value}
    state.change(options=tuple(sorted(options.items())))


def type_bounds(work: state.Work) -> None:
    """Bounds as numbers, or a GeoJSON file: for those who do not draw."""
    longitudes, latitudes = zip(*work.ring, strict=True)
    with st.form("bounds", border=False):
        west, east = st.columns(2)
        south, north = st.columns(2)
        box = (
            west.number_input("West (degrees)", value=min(longitudes), format="%.5f", key=f"west-{work.ring}"),
            south.number_input("South (degrees)", value=min(latitudes), format="%.5f", key=f"south-{work.ring}"),
            east.number_input("East (degrees)", value=max(longitudes), format="%.5f", key=f"east-{work.ring}"),
            north.number_input("North (degrees)", value=max(latitudes), format="%.5f", key=f"north-{work.ring}"),
        )
        if st.form_submit_button("Use these bounds", width="stretch"):
            if not (box[0] < box[2] and box[1] < box[3]):
                raise FusionError(
                    f"Bounds want west < east and south < north, got {box[0]:g} to {box[2]:g} and {box[1]:g} to "
                    f"{box[3]:g} degrees: swap or correct them."
                )
            take(rectangle(*box))
    st.file_uploader(
        f"Or a GeoJSON file with one polygon (at most {MAX_GEOJSON:,} characters)",
        ["geojson", "json"],
        key="upload",
        on_change=upload,
        max_upload_size=2,
    )
    if st.button("Whole source", disabled=work.area is None, width="stretch"):
        take(None)


def upload() -> None:
    """Take the outline out of an uploaded file."""
    file = st.session_state.get("upload")
    if file is None:
        return
    try:
        text = file.getvalue().decode("utf-8")
        state.change(area=ring_of(parse_json(text, "GeoJSON file", most=MAX_GEOJSON)))
    except UnicodeDecodeError:
        messages.complain(f"{file.name} is no text in UTF-8: upload a GeoJSON file.")
    except FusionError as error:
        messages.complain(f"{file.name}: {error}")


def take(area: state.Ring | None) -> None:
    """Make this the area and draw the page again."""
    state.change(area=area)
    st.rerun()


def choose_days(work: state.Work) -> None:
    """Target and pairs, with the proposal and its reason."""
    fine, coarse = state.items(work)
    st.plotly_chart(viz.timeline(fine, coarse, target=work.target, pairs=work.pairs), key="timeline")
    left, right = st.columns(2)
    with left:
        bound(
            st.selectbox, "Day to predict (target)", key="target", value=work.target, options=state.target_days(work),
            apply=lambda day: state.change(target=day, pairs=state.proposed_days(work, day)[0]),
            format_func=lambda day: f"{day}" + (" (truth known)" if state.truth_item(work, day) else ""),
        )  # fmt: skip
    with right:
        bound(
            st.multiselect, "Days of the pairs (fine and coarse)", key="pairs", value=list(work.pairs),
            options=[day for day in state.pair_days(work) if day != work.target],
            apply=lambda days: state.change(pairs=tuple(sorted(days))),
        )  # fmt: skip
    if work.target is None:
        raise FusionError("There is no coarse image of this area: choose another area or source.")
    days, why = state.proposed_days(work, work.target)
    if days == work.pairs:
        st.caption(why)
    elif st.button(f"Use the proposed pairs ({', '.join(map(str, days))})", help=why):
        state.change(pairs=days)
        st.rerun()


def say_what_is_read(work: state.Work) -> None:
    """Pixels, bytes and time before anything is read."""
    geobox, ratio = grid(work.ring, work.fine, work.coarse)
    plan = propose.plan_read((geobox, ratio), len(work.fine.bands), max(len(work.pairs), 1))
    for column, (label, value) in zip(
        st.columns(3),
        (
            ("Pixels to read", f"{plan.pixels:,}"),
            ("Memory", f"{plan.bytes / 1e6:,.1f} MB"),
            ("Expected time to read", f"{plan.seconds:.1f} s" if plan.seconds >= 0.1 else "< 0.1 s"),
        ),
        strict=True,
    ):
        column.metric(label, value)
    st.page_link("pages/fuse.py", label="Continue to Fuse", icon=":material/arrow_forward:")


def background(work: state.Work) -> list[maps.Layer]:
    """The fine image of the first pair over the whole source, as a quick look under the drawing."""
    if work.target is None or not work.pairs:
        return []
    recipe = state.recipe(replace(work, area=None), methods.get("nearest")())
    item = recipe.pairs[0][1]
    scene = runs.kept_image(item, recipe)
    if scene is None:
        if not state.may_read():
            return []
        scene = runs.image(item, recipe)
    bands = next(iter(viz.combinations(work.fine.bands).values()))
    return [views.layer(f"Fine {item.day}", scene, bands, viz.limits([scene], bands))]


with frame.page("Area", "Draw the area, then choose the day to predict and the pairs to predict it from.") as work:
    map_column, form_column = frame.halves("area", (3, 2))
    with form_column:
        choose_source(work)
        type_bounds(work)
        tiles = remembered(
            st.radio, "Background map", ("offline", "online tiles (OpenStreetMap)"), name="tiles", default="offline",
            horizontal=True, help="Offline: nothing is asked of the internet.",
        )  # fmt: skip
    with map_column:
        outline = extent(work.fine)
        edit = maps.draw_map(
            "area",
            area=work.area,
            footprints=[(work.fine.title, outline)] if outline else [],
            layers=background(work),
            tiles=tiles != "offline",
            height=560,
        )
        st.caption(f"{work.fine.citation}. Licence {work.fine.licence}. Basemap: Natural Earth, public domain.")
    if edit is not None and edit.ring != work.area:
        take(edit.ring)
    st.subheader("Days")
    choose_days(work)
    st.subheader("What will be read")
    say_what_is_read(work)
