"""The map widget: draw an area, or compare pictures by swiping or side by side. It works without the internet."""

import base64
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import streamlit as st
from xstatic.pkg import leaflet

from fusion._assets import asset

Ring = tuple[tuple[float, float], ...]  # (longitude, latitude) in degrees, not closed
Click = tuple[float, float]  # (longitude, latitude) in degrees
HERE = Path(__file__).parent
LEAFLET = Path(leaflet.BASE_DIR)
WORLD = "world/countries-110m.geojson"


@dataclass(frozen=True)
class Layer:
    """One picture on the map."""

    name: str  # shown in labels and legends
    url: str  # of a PNG in EPSG:3857; a data: URI or any address of this server
    corners: tuple[float, float, float, float]  # west, south, east, north in degrees, edges of the outer pixels


@dataclass(frozen=True)
class AreaEdit:
    """What the person did to the area: drew it, or cleared it (None)."""

    ring: Ring | None


def draw_map(
    key: str,
    *,
    area: Sequence[Sequence[float]] | None,
    footprints: Sequence[tuple[str, Sequence[Sequence[float]]]] = (),
    layers: Sequence[Layer] = (),
    world: bool = True,
    tiles: bool = False,
    drawing: bool = True,
    height: int = 460,
) -> AreaEdit | None:
    """Show an area on a map where a rectangle or polygon can be drawn; return the person's edit, once, else None.

    Without `drawing` the map only shows: it has no tools to draw with.
    Zoom and centre stay through reruns, other layers and page switches, as long as the browser's tab is open.
    """
    name = f"map-{key}"
    edit = _taken(name, "drawn")
    drawn = None if edit is None else AreaEdit(_ring(edit["ring"]))
    shown = area if drawn is None else drawn.ring
    data = {
        "kind": "draw",
        "key": key,
        "height": height,
        "area": None if shown is None else [list(point) for point in shown],
        "footprints": [[title, [list(point) for point in ring]] for title, ring in footprints],
        "layers": [asdict(layer) for layer in layers],
        "tiles": tiles,
        "drawing": drawing,
        # a new number after every edit, so that a refused area is drawn over by the one that stays
        "turn": st.session_state.get(f"{name}-turn", 0),
    }
    _widget("meantime_world" if world else "meantime_map")(
        key=name, data=data, height="content", on_drawn_change=_keeper(name, "drawn")
    )
    return drawn


def compare_maps(
    key: str,
    *,
    layers: Sequence[Layer],
    mode: Literal["swipe", "side"],
    height: int = 460,
    marker: Click | None = None,
) -> Click | None:
    """Compare two layers by swiping, or 1 to 4 side by side on linked maps; return a clicked place, once, else None.

    The clicked place is marked on every map until the next click; `marker` sets the mark from outside.

    Raises
    ------
    ValueError
        If the number of layers does not fit the mode.
    """
    allowed = (2, 2) if mode == "swipe" else (1, 4)
    if not allowed[0] <= len(layers) <= allowed[1]:
        raise ValueError(f"A {mode} map wants {allowed[0]} to {allowed[1]} layers, got {len(layers)}.")
    name = f"map-{key}"
    place = _taken(name, "clicked")
    if place is not None:
        st.session_state[f"{name}-last"] = (float(place[0]), float(place[1]))
    last = st.session_state.get(f"{name}-last")
    data = {
        "kind": "compare",
        "key": key,
        "height": height,
        "mode": mode,
        "layers": [asdict(layer) for layer in layers],
        # the widget knows its own last click: not sending it back keeps the message the same, so that Streamlit
        # does not send the pictures again after every click
        "marker": None if marker is None or tuple(marker) == last or place is not None else list(marker),
    }
    _widget("meantime_map")(key=name, data=data, height="content", on_clicked_change=_keeper(name, "clicked"))
    return None if place is None else last


def _keeper(name: str, event: str) -> Callable[[], None]:
    """Return the callback that keeps an edit until the page asks for it, even if a rerun is cut short before."""

    def keep() -> None:
        value = st.session_state[name][event]
        if value is not None:
            st.session_state[f"{name}-{event}"] = value
            st.session_state[f"{name}-turn"] = st.session_state.get(f"{name}-turn", 0) + 1

    return keep


def _taken(name: str, event: str) -> Any:
    return st.session_state.pop(f"{name}-{event}", None)


def _ring(points: Sequence[Sequence[float]] | None) -> Ring | None:
    return None if points is None else tuple((float(lon), float(lat)) for lon, lat in points)


@cache
def _widget(name: str) -> Callable[..., Any]:
    """Register one of the two widgets: with the outlines of countries, or without these 200 kB."""
    return st.components.v2.component(name, js=_script(world=name == "meantime_world"), css=_style())


def _script(*, world: bool) -> str:
    """One ES module: Leaflet (its compact build, kept from becoming global), the countries, the widget."""
    library = (LEAFLET / "leaflet.js").read_text("utf-8")
    library = re.sub(r"^//# sourceMappingURL=.*$", "", library, flags=re.MULTILINE)
    countries = _countries(asset(WORLD).read_text("utf-8")) if world else "null"
    return "\n".join(
        (
            "const L = (() => { const exports = {}, module = { exports };",
            library,
            "return exports.noConflict(), exports; })();",
            f"const WORLD = {countries};",
            (HERE / "map.js").read_text("utf-8"),
        )
    )


def _countries(text: str) -> str:
    """Only the shapes: names and other properties are not drawn."""
    shapes = [feature["geometry"] for feature in json.loads(text)["features"] if feature["geometry"]]
    return json.dumps({"type": "GeometryCollection", "geometries": shapes}, separators=(",", ":"))


def _style() -> str:
    """Leaflet's style sheet with its images inside, because a shadow root has no folder to find them in."""

    def inline(found: re.Match[str]) -> str:
        image = base64.b64encode((LEAFLET / found[1]).read_bytes()).decode()
        return f'url("data:image/png;base64,{image}")'

    sheet = (LEAFLET / "leaflet.css").read_text("utf-8")
    sheet = re.sub(r"url\((images/[\w.-]+\.png)\)", inline, sheet)
    return sheet + (HERE / "map.css").read_text("utf-8")
