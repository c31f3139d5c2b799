"""Why this pixel? One prediction taken apart: the window, the weights, the sum."""

import pickle
from typing import Any

import numpy as np
import streamlit as st

from fusion import explain, methods, viz
from fusion.methods import Explanation, Method
from fusion.overlay import locate
from fusion.recipe import Recipe
from fusion.scene import Scene
from fusion.stack import Stack

from . import frame, messages, runs, state, views
from .forms import remembered


def show(work: state.Work) -> None:
    """Draw the section; without a click, or a result that can be explained, say what to do."""
    found = [(method, scene) for method, scene in views.results(work) if method.explains]
    where = st.session_state.get("clicked")
    if not found:
        able = [methods.get(name).title for name in methods.names() if methods.get(name).explains]
        st.info(f"None of the results explains its pixels; {', '.join(able)} do: run one of them on the Fuse page.")
    elif where is None:
        st.info("Click a pixel on a map to see which neighbours predicted it, and with which weights.")
    elif (pixel := locate(found[0][1].geobox, *where)) is None:
        st.info(f"The place {where[0]:.5f} E, {where[1]:.5f} N is outside the images: click inside them.")
    else:
        explain_pixel(work, found, pixel)


def explain_pixel(work: state.Work, found: list[tuple[Method, Scene]], at: tuple[int, int]) -> None:
    """Choose result and band, then show the numbers and figures of one pixel."""
    one, two, three = st.columns(3)
    titles = [method.title for method, _ in found]
    with one:
        title = remembered(st.selectbox, "Result explained", titles, name="why-result", default=titles[-1])
    method, scene = found[titles.index(title)]
    with two:
        band = remembered(st.selectbox, "Band explained", scene.bands, name="why-band", default=scene.bands[-1])
    recipe = state.recipe(work, method)
    stack = runs.stack(recipe)
    parts = explain(stack, method, band, *at, state=_prepared(recipe, stack))
    days = [str(day) for day in stack.reference_days]
    with three:
        heaviest = days[int(parts.weight.sum(axis=(1, 2)).argmax())]
        day = remembered(st.selectbox, "Window of the pair", days, name="why-pair", default=heaviest)
    band_index = scene.bands.index(band)
    result = float(scene.data[band_index, *at])
    st.markdown(
        f"The {messages.plain(band)} reflectance that {title} predicts for {stack.day} at row {at[0]}, column {at[1]}, "
        "taken apart:"
    )
    if _said(parts, result):
        pair = days.index(day)
        _equation(parts, days)
        _window(parts, stack.fine[pair, band_index, parts.rows, parts.columns], at, pair, day)
        _sum(parts, at, days)
        of_pair = any(term.pair is not None for term in parts.terms)
        st.markdown("**Numbers of the equation** for this pixel p" + (f" and the pair k of {day}" if of_pair else ""))
        st.table(viz.term_rows(parts, pair))


def _said(parts: Explanation, result: float) -> bool:
    """Say what the parts add up to and what the result holds; whether there is anything to add up."""
    if np.isnan(parts.prediction):
        st.info(parts.note or "There is no prediction here: the images miss this pixel. Click another one.")
        return False
    held = f"{result:.6f}" if np.isfinite(result) else "outside the area"
    numbers = (
        ("The parts add up to (reflectance)", f"{parts.prediction:.6f}"),
        ("The result holds (reflectance)", held),
        ("Neighbours that count", f"{int((parts.verdict == 0).sum()):,} of {parts.verdict.size:,}"),
    )
    for column, (label, value) in zip(frame.halves("why-numbers", (1, 1, 1)), numbers, strict=True):
        column.metric(label, value)
    return True


def _equation(parts: Explanation, days: list[str]) -> None:
    """The equation, and the same with numbers."""
    left, right = frame.halves("why-equation")
    with left:
        st.latex(viz.equation(parts))
    with right:
        st.latex(viz.sum_in_numbers(parts, days))
    if parts.note:
        st.info(parts.note)


def _window(parts: Explanation, fine: np.ndarray, at: tuple[int, int], pair: int, day: str) -> None:
    """The window twice: a quantity of the equation, and the weights."""
    shown = {f"Fine image {day}": (fine, "reflectance"), "What each says": (parts.value[pair], "reflectance")}
    for plane in parts.planes:
        shown[viz.subscripts(f"{plane.symbol}: {plane.meaning}")] = (plane.value[pair], plane.unit)
    name = remembered(st.selectbox, "Show beside the weights", list(shown), name="why-plane", default=next(iter(shown)))
    left, right = frame.halves("why-window")
    values, unit = shown[name]
    palette = "grey" if values is fine else "cividis"
    with left:
        figure = viz.window(parts, values, at, pair=pair, name=name, unit=unit, palette=palette)
        st.plotly_chart(figure, key="why-values")
    with right:
        st.plotly_chart(viz.weights(parts, at, pair=pair), key="why-weights")
    st.caption("Point at a neighbour to see why it counts or not, what it says and what its weight is made of.")


def _sum(parts: Explanation, at: tuple[int, int], days: list[str]) -> None:
    """How the parts add up."""
    choices = {"distance": "by pair and distance", "neighbour": "largest contributions first"}
    by = remembered(
        st.radio, "Steps of the sum", list(choices), name="why-by", default="distance", horizontal=True,
        format_func=choices.__getitem__,
    )  # fmt: skip
    st.plotly_chart(viz.build_up(parts, at, days, by=by), key="why-sum")


def _prepared(recipe: Recipe, stack: Stack) -> Any:
    """Return what the method knows of the whole image; kept, so that the second click is answered at once."""
    key = "state:" + recipe.to_json()
    kept = runs.shelf().get(key)
    if kept is None:
        with st.spinner(f"{recipe.method.title} looks at the whole image once"):
            prepared = recipe.method.prepare(stack)
        kept = (prepared,)  # a state may be None
        runs.shelf().put(key, kept, len(pickle.dumps(prepared)))
    return kept[0]
