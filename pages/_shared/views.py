"""What pages share in showing images: layers, one stretch for all of them, overlays and legends."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import streamlit as st

from fusion import methods, propose, sources, viz
from fusion.methods import Method
from fusion.overlay import locate, overlay
from fusion.recipe import Recipe
from fusion.scene import Scene
from fusion.sources import Item

from . import runs, state
from .forms import bound, remembered
from .maps import Layer

STRETCHES = {"Strong (5-95 %)": (5, 95), "Usual (2-98 %)": (2, 98), "Whole range": (0, 100)}


def controls(work: state.Work, key: str) -> tuple[tuple[str, ...], tuple[float, float]]:
    """Draw the choice of band combination and stretch; the combination is part of the work and its link."""
    combinations = viz.combinations(work.bands)
    view = work.view if work.view in combinations else next(iter(combinations))
    left, right = st.columns(2)
    with left:
        bound(
            st.selectbox, "Bands shown", key=f"{key}-view", value=view, options=list(combinations),
            apply=lambda name: state.change(view=name), help="Red, green and blue of the picture, or one band alone.",
        )  # fmt: skip
    with right:
        stretch = remembered(
            st.selectbox, "Stretch", list(STRETCHES), name="stretch", default="Usual (2-98 %)",
            help="Reflectance below the lower percentile is dark, above the upper one bright; the same for all layers.",
        )  # fmt: skip
    low, high = STRETCHES[stretch]
    return tuple(combinations[view]), (float(low), float(high))


@dataclass(frozen=True)
class Shown:
    """One image that can be shown, and its part in the work."""

    kind: Literal["fine", "coarse", "result", "truth"]
    scene: Scene


def readable(recipe: Recipe, more: Sequence[Item] = ()) -> tuple[bool, runs.Rows]:
    """Whether a recipe's images, and `more` on its fine grid, may be shown now; else draw what can be done about it.

    Images of a remote source are read by a job; its rows are for :func:`runs.wait` at the end of the page.
    """
    if not sources.is_remote(recipe.target.source):
        return runs.kept(recipe, more) or state.may_read(), []
    rows = runs.show([runs.read_key(recipe)])
    if runs.kept(recipe, more):
        return True, rows
    if not rows:
        plan = propose.plan_read(recipe)
        st.info(
            f"The images are not read yet: {plan.images + len(more)} images, {plan.pixels:,} pixels. "
            "Only the part that covers the area is asked for, and what was read before is not asked for again."
        )
        if st.button("Read the images", type="primary", icon=":material/download:"):
            runs.read(recipe, more)
            st.rerun()
    return False, rows


def offer(recipe: Recipe, more: Sequence[Item]) -> None:
    """The button that reads each of `more` images that is not at hand beside a remote recipe's own."""
    for item in more:
        there = runs.kept_image(item, recipe) is not None
        if there and st.session_state.get("offered") == item:
            del st.session_state["offered"]
            st.session_state.pop("layers", None)  # it was asked for to be looked at
        elif not there and st.button(
            f"Read the fine image of {item.day} (truth)", icon=":material/download:",
            help="The source has a sharp image of this day: read it to see how near the results come.",
        ):  # fmt: skip
            st.session_state["offered"] = item
            runs.read(recipe, [item])
            st.rerun()


def inputs(work: state.Work) -> tuple[Recipe, list[Item]]:
    """The recipe whose images :func:`layers` shows, and the truth where there is one.

    Raises
    ------
    FusionError
        If the work has no target or pair yet.
    """
    recipe = state.recipe(work, (work.methods or (methods.get("nearest")(),))[0])
    item = state.truth_item(work, recipe.target.day)
    return recipe, [] if item is None else [item]


def layers(work: state.Work, *, images: bool = True) -> dict[str, Shown]:
    """Everything that can be shown for the work, by name: inputs, each finished result, the truth where known.

    Without `images` it is the results only; a remote truth that is not read yet is left out.
    """
    if not images:
        return {method.title: Shown("result", scene) for method, scene in results(work)}
    recipe, truth = inputs(work)
    stack = runs.stack(recipe)
    out = {
        f"Fine {day}": Shown("fine", Scene(fine, stack.geobox, stack.bands, day))
        for day, fine in zip(stack.reference_days, stack.fine, strict=True)
    }
    note = "" if work.coarse.origin == "observed" else f", {work.coarse.origin}"
    target = Scene(stack.target, stack.geobox.zoom_out(stack.ratio), stack.bands, stack.day)
    out[f"Coarse {stack.day} (target{note})"] = Shown("coarse", target)
    out |= {method.title: Shown("result", scene) for method, scene in results(work)}
    for item in truth:
        if sources.is_remote(item.source) and runs.kept_image(item, recipe) is None:
            continue
        out[f"Truth {stack.day}"] = Shown("truth", runs.image(item, recipe))
    return out


def results(work: state.Work) -> list[tuple[Method, Scene]]:
    """The work's methods whose results are there."""
    found = [(method, runs.result(state.recipe(work, method))) for method in work.methods]
    return [(method, scene) for method, scene in found if scene is not None]


def layer(name: str, scene: Scene, bands: Sequence[str], limits: viz.Limits) -> Layer:
    """Return a scene as a picture for the map."""
    return picture(name, viz.rgba(scene, bands, limits), scene)


def picture(name: str, rgba: np.ndarray, scene: Scene) -> Layer:
    """Return any RGBA picture ``(y, x, 4)`` of a scene's pixels as a layer for the map; kept by a hash of all of it."""
    digest = hashlib.blake2b(repr(scene.geobox).encode() + rgba.tobytes()).hexdigest()
    kept = runs.shelf().get("picture:" + digest)
    if kept is None:
        warped = overlay(rgba, scene.geobox)
        kept = ("data:image/png;base64," + base64.b64encode(warped.png).decode(), warped.bounds)
        runs.shelf().put("picture:" + digest, kept, len(kept[0]))
    return Layer(name, *kept)


def spectra(layers: Mapping[str, Scene], where: tuple[float, float]) -> dict[str, list[float]]:
    """Spectrum of every layer that has a pixel at (lon, lat)."""
    found = {name: locate(scene.geobox, *where) for name, scene in layers.items()}
    return {name: layers[name].data[:, *pixel].tolist() for name, pixel in found.items() if pixel is not None}
