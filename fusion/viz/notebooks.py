"""Interactive maps for notebooks; they load Leaflet from the internet."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..overlay import Overlay, overlay
from ..scene import Scene
from .figures import _limits
from .pictures import Limits, legend, rgba


def to_map(
    layers: Mapping[str, Scene],
    bands: Sequence[str],
    limits: Limits | None = None,
    *,
    palette: str = "viridis",
    tiles: str | None = None,
) -> Any:
    """Return a folium map with one layer a scene, all with one stretch, a switch for layers and a legend.

    For notebooks and HTML files, which load Leaflet from the internet; :func:`compare` needs none.

    Parameters
    ----------
    layers : mapping
        Name to scene; grids and CRS may differ, pictures are warped to the map's own projection.
    bands : sequence of str
        Three bands for red, green and blue, or one.
    limits : tuple of (low, high), optional
        Of each band; default is one stretch of all layers.
    palette : str
        Colour map of a single band.
    tiles : str, optional
        Background as folium names it, such as "OpenStreetMap"; default is none.

    Returns
    -------
    folium.Map
    """
    import folium

    limits = _limits(list(layers.values()), bands, limits)
    view = folium.Map(tiles=tiles, control_scale=True)
    pictures = [overlay(rgba(s, bands, limits, palette=palette), s.geobox) for s in layers.values()]
    for name, picture in zip(layers, pictures, strict=True):
        _layer(picture, name).add_to(view)
    folium.LayerControl(collapsed=False).add_to(view)
    return _frame(view, pictures, legend(bands, limits, palette=palette))


def swipe(
    left: tuple[str, Scene],
    right: tuple[str, Scene],
    bands: Sequence[str],
    limits: Limits | None = None,
    *,
    palette: str = "viridis",
) -> Any:
    """Return a leafmap map with a slider between two scenes, for notebooks and HTML files.

    Parameters
    ----------
    left, right : tuple of (str, Scene)
        Name and scene of either side.
    bands, limits, palette
        As in :func:`to_map`.

    Returns
    -------
    leafmap.foliumap.Map

    Notes
    -----
    Own slider: the one of folium and leafmap (Leaflet.Side-by-side) calls ``getContainer``, which a layer of
    one image does not have. Here each side has its own pane and the slider clips the panes. Arrow keys
    move it.
    """
    import folium
    from leafmap import foliumap

    limits = _limits([left[1], right[1]], bands, limits)
    controls = ("draw", "measure", "fullscreen", "search", "locate", "layers", "latlon")
    view = foliumap.Map(tiles=None, **{f"{name}_control": False for name in controls})
    pictures = [overlay(rgba(s, bands, limits, palette=palette), s.geobox) for _, s in (left, right)]
    for pane, name, picture in zip(("left", "right"), (left[0], right[0]), pictures, strict=True):
        folium.map.CustomPane(pane, z_index=450).add_to(view)
        _layer(picture, name, pane).add_to(view)
    title = f"{left[0]} | {right[0]}"
    view.add_child(_slider(title))
    return _frame(view, pictures, legend(bands, limits, title=title, palette=palette))


def _layer(picture: Overlay, name: str, pane: str = "overlayPane") -> Any:
    import folium

    source = "data:image/png;base64," + base64.b64encode(picture.png).decode()
    return folium.raster_layers.ImageOverlay(source, _corners(picture), name=name, pane=pane, pixelated=True)


def _corners(picture: Overlay) -> list[list[float]]:
    """South-west and north-east corner as Leaflet wants them, ``[[lat, lon], [lat, lon]]`` in degrees."""
    west, south, east, north = picture.bounds
    return [[south, west], [north, east]]


def _frame(view: Any, pictures: Sequence[Overlay], key: str) -> Any:
    """Zoom to the layers and put the legend into the corner."""
    import folium

    corners = np.array([_corners(picture) for picture in pictures])
    view.fit_bounds([corners[:, 0].min(axis=0).tolist(), corners[:, 1].max(axis=0).tolist()])
    place = "position:absolute;bottom:24px;right:8px;z-index:1000;background:#fff;color:#222;padding:6px"
    view.get_root().html.add_child(folium.Element(f'<div style="{place}">{key}</div>'))
    return view


SLIDER = """
{% macro script(this, kwargs) %}
(() => {
  const map = {{ this._parent.get_name() }};
  const input = document.createElement("input");
  Object.assign(input, {type: "range", min: 0, max: 1, step: 0.005, value: 0.5});
  input.title = {{ this.label|tojson }};
  input.setAttribute("aria-label", {{ this.label|tojson }});
  input.style.cssText = "position:absolute;top:4px;left:0;width:100%;margin:0;z-index:1000";
  map.getContainer().querySelector(".leaflet-top.leaflet-left").style.top = "20px";
  map.getContainer().append(input);
  L.DomEvent.disableClickPropagation(input);
  const clip = () => {
    const size = map.getSize(), start = map.containerPointToLayerPoint([0, 0]);
    const end = start.add(size), x = start.x + 8 + (size.x - 16) * input.value;
    map.getPane("left").style.clip = `rect(${start.y}px,${x}px,${end.y}px,${start.x}px)`;
    map.getPane("right").style.clip = `rect(${start.y}px,${end.x}px,${end.y}px,${x}px)`;
  };
  input.addEventListener("input", clip);
  map.on("move zoomend resize viewreset", clip);
  clip();
})();
{% endmacro %}
"""


def _slider(label: str) -> Any:
    from branca import element
    from jinja2 import Template

    slider: Any = type("Slider", (element.MacroElement,), {"_template": Template(SLIDER)})()
    slider.label = label
    return slider
