"""Where: the map on which an area is drawn, its bounds as numbers or a file, and a quick look under the drawing."""

from dataclasses import replace

import streamlit as st

from fusion import methods, viz
from fusion.area import extent, grid, rectangle, ring_of
from fusion.errors import FusionError
from fusion.recipe import MAX_GEOJSON, parse_json
from fusion.scene import Scene

from . import maps, messages, runs, state, views

MOST_LOOK = 4_000_000  # fine pixels that are read for a quick look


def background(work: state.Work) -> list[maps.Layer]:
    """The fine image of the first pair as a quick look under the drawing: over the whole source, or what is kept."""
    if work.missing or work.target is None or not work.pairs or not state.searched(work):
        return []
    scene = _kept_look(work) if work.remote else _look(work)
    if scene is None:
        return []
    bands = next(iter(viz.combinations(work.bands).values()))
    return [views.layer(f"Fine {scene.day}", scene, bands, viz.limits([scene], bands))]


def _kept_look(work: state.Work) -> Scene | None:
    if work.area is None:
        return None
    recipe = state.recipe(work, methods.get("nearest")())
    stack = runs.kept_stack(recipe)
    return None if stack is None else Scene(stack.fine[0], stack.geobox, stack.bands, stack.reference_days[0])


def _look(work: state.Work) -> Scene | None:
    whole = replace(work, area=None)
    if work.fine.geobox is None or work.fine.geobox.shape[0] * work.fine.geobox.shape[1] > MOST_LOOK:
        whole = work  # too much to read for a quick look
    geobox, _ = grid(whole.ring, work.fine, work.coarse)
    if geobox.shape[0] * geobox.shape[1] > MOST_LOOK:
        return None
    recipe = state.recipe(whole, methods.get("nearest")())
    item = recipe.pairs[0][1]
    if runs.kept_image(item, recipe) is None and not state.may_read():
        return None
    return runs.image(item, recipe)


def draw(work: state.Work, tiles: str) -> None:
    """The map, with what is known of the place; a new area is taken at once."""
    usable = not work.missing
    outline = extent(work.fine) if usable else None
    if usable and work.area is None and outline is None:
        st.info("Draw the area that you want to see sharp: zoom in, choose Rectangle above the map, then drag over it.")
    edit = maps.draw_map(
        "area",
        area=work.area,
        footprints=[(work.fine.title, outline)] if outline else [],
        layers=background(work),
        tiles=tiles != "offline",
        height=560,
    )
    if usable:
        both = dict.fromkeys(f"{row.citation.rstrip('.')}. Licence: {row.licence}." for row in (work.fine, work.coarse))
        st.caption(f"{messages.plain(' '.join(both))} Basemap: Natural Earth, public domain.")
    if edit is not None and edit.ring != work.area:
        take(edit.ring)


def type_bounds(work: state.Work) -> None:
    """Bounds as numbers, or a GeoJSON file: for those who do not draw."""
    ring = work.area or extent(work.fine)
    longitudes, latitudes = zip(*ring, strict=True) if ring else ((None,), (None,))
    edges = {
        "West": min(longitudes), "East": max(longitudes), "South": min(latitudes), "North": max(latitudes),
    }  # fmt: skip
    with st.form("bounds", border=False):
        columns = [*st.columns(2), *st.columns(2)]
        west, east, south, north = (
            column.number_input(f"{name} (degrees)", value=edge, format="%.5f", key=f"{name.lower()}-{ring}")
            for column, (name, edge) in zip(columns, edges.items(), strict=True)
        )
        if st.form_submit_button("Use these bounds", width="stretch"):
            if None in (west, east, south, north):
                raise FusionError("Bounds want four numbers, got fewer: fill in west, east, south and north.")
            if not (west < east and south < north):
                raise FusionError(
                    f"Bounds want west < east and south < north, got {west:g} to {east:g} and {south:g} to "
                    f"{north:g} degrees: swap or correct them."
                )
            take(rectangle(west, south, east, north))
    st.file_uploader(
        f"Or a GeoJSON file with one polygon (at most {MAX_GEOJSON:,} characters)",
        ["geojson", "json"],
        key="upload",
        on_change=upload,
        max_upload_size=2,
    )
    if work.fine.geobox is not None:
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
