"""What all figures share: a neutral template, titles, colour bars, axes in map units."""

from collections.abc import Mapping
from html import escape
from typing import Any

import plotly.graph_objects as go
from odc.geo.geobox import GeoBox

from .pictures import OKABE_ITO

INK = "#757a82"  # contrast above 4:1 on white and on Streamlit's dark page
LINE = "rgba(128,128,128,0.28)"
MARGIN = dict(l=10, r=10, t=92, b=10)
AXIS = dict(gridcolor=LINE, linecolor=LINE, zerolinecolor=LINE, ticks="outside", tickcolor=LINE, automargin=True)
TEMPLATE = go.layout.Template(
    layout=dict(
        font=dict(color=INK, size=13),
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        colorway=list(OKABE_ITO),
        xaxis=AXIS,
        yaxis=AXIS,
    )
)


def _figure(title: str, x: str, y: str, *, note: str = "", height: int = 420) -> go.Figure:
    """Return an empty figure with title, a smaller note under it, and axis titles."""
    figure = go.Figure()
    figure.update_layout(
        template=TEMPLATE,
        title=dict(
            text=escape(title),
            subtitle=dict(text=note, font_size=12),
            x=0,
            xanchor="left",
            y=0.97,
            yanchor="top",
            font_size=16,
        ),
        margin=MARGIN,
        height=height,
        legend=dict(orientation="h", x=0, xanchor="left", y=-0.28, yanchor="top"),
    )
    return figure.update_xaxes(title_text=x).update_yaxes(title_text=y)


def _colorbar(title: str, **more: Any) -> dict[str, Any]:
    return dict(title=dict(text=title, side="right"), thickness=14, outlinewidth=0, **more)


def _geo_axes(geobox: GeoBox) -> tuple[dict[str, float], str, str]:
    """Centre of the first pixel and steps as plotly wants them, and the titles of both axes."""
    a = geobox.affine
    if geobox.crs is None or a.b or a.d:
        return dict(x0=0.5, dx=1, y0=0.5, dy=1), "Column (pixels)", "Row (pixels)"
    place = dict(x0=a.c + a.a / 2, dx=a.a, y0=a.f + a.e / 2, dy=a.e)
    if geobox.crs.geographic:
        return place, "Longitude (degrees)", "Latitude (degrees)"
    code = f"EPSG:{geobox.crs.to_epsg()}" if geobox.crs.to_epsg() else "own CRS"
    return place, f"Easting in {code} (m)", f"Northing in {code} (m)"


def _square(figure: go.Figure, place: Mapping[str, float], shape: tuple[int, int]) -> go.Figure:
    """Give both axes one scale, whole numbers and the extent of the image, first row on top."""
    (rows, columns), half = shape, 0.5
    x = [place["x0"] - half * place["dx"], place["x0"] + (columns - half) * place["dx"]]
    y = [place["y0"] + (rows - half) * place["dy"], place["y0"] - half * place["dy"]]
    form = "d" if abs(place["dx"]) >= 1 else None
    figure.update_xaxes(range=x, constrain="domain", tickformat=form, nticks=5, showgrid=False)
    # Fixed margins: with one scale on both axes plotly's own search for margins does not end.
    figure.update_layout(margin=dict(l=95, b=60)).update_xaxes(automargin=False).update_yaxes(automargin=False)
    figure.layout.yaxis.scaleanchor = "x"  # the axes of further images follow the first by `matches`
    return figure.update_yaxes(
        range=y, constrain="domain", constraintoward="top", tickformat=form, nticks=6, showgrid=False
    )
