"""Fuse: choose methods, run them, look at the results and take them home."""

from dataclasses import replace
from functools import partial

import numpy as np
import streamlit as st

from fusion import methods, propose, sources, viz
from fusion.area import clip
from fusion.errors import FusionError
from fusion.methods import Method
from fusion.recipe import Recipe
from fusion.scene import Scene
from pages._shared import checks, downloads, frame, maps, messages, runs, state, times, views, weights
from pages._shared.catalogue import ordered
from pages._shared.forms import bound, form, remembered


def choose_methods(work: state.Work) -> None:
    """Which methods, with explanation and parameters of each."""
    wanted = weights.images(work)
    names = {name: title(method, len(work.pairs), wanted) for name, method in ordered().items()}

    def choose(chosen: list[str]) -> None:
        have = {method.name(): method for method in state.work().methods}  # now, not when the page was drawn
        state.change(methods=tuple(have.get(name) or weights.fresh(methods.get(name), wanted) for name in chosen))

    bound(
        st.multiselect, "Methods to run", key="methods", value=[method.name() for method in work.methods],
        options=list(names), format_func=names.__getitem__, apply=choose, max_selections=state.MOST_METHODS,
    )  # fmt: skip
    for method in work.methods:
        lack = method.lacks(len(work.pairs)) or weights.lack(method, wanted)
        with st.expander(
            f"{method.title}: {messages.plain(method.summary())}", icon=":material/warning:" if lack else None
        ):
            st.markdown(method.explanation())
            st.caption(method.paper)
            if work.target and work.pairs and not lack:
                where = f" ({weights.place()})" if weights.is_network(method) else ""
                st.caption(f"Time on this machine: {times.words(state.recipe(work, method))}{where}")
            form(
                type(method), method.parameters(), key=f"method-{method.name()}",
                apply=partial(set_parameter, method.name()), known=weights.choices(method, wanted),
            )  # fmt: skip


def title(method: type[Method], pairs: int, wanted: weights.Images) -> str:
    """Name of a method in the list, with what it lacks."""
    lacks = [f"wants {method.pairs} pairs"] if method().lacks(pairs) else []
    lacks += ["no weights yet"] if weights.is_network(method) and not weights.fitting(method, wanted) else []
    return method.title + (f" ({', '.join(lacks)})" if lacks else "")


def set_parameter(kind: str, name: str, value: object) -> None:
    """Change one parameter of one chosen method, as the work is now: edits may follow each other fast."""
    try:
        changed = [replace(m, **{name: value}) if m.name() == kind else m for m in state.work().methods]
    except FusionError as error:
        messages.complain(str(error))
        return
    state.change(methods=tuple(changed))


def reading(recipes: list[Recipe]) -> str:
    """What reading the images adds to the time; nothing where they are at hand or read at once."""
    if not recipes or runs.kept_stack(recipes[0]) is not None:
        return ""
    plan = propose.plan_read(recipes[0])
    if sources.is_remote(recipes[0].target.source):
        return f"reading {plan.images} images, which depends on the network"
    return f"about {plan.seconds:.0f} s of reading" if plan.seconds >= 1 else ""


def show(work: state.Work, found: list[tuple[Method, Scene]]) -> None:
    """One result on the map, with its downloads."""
    titles = [method.title for method, _ in found]
    title = remembered(st.radio, "Result shown", titles, name="shown", default=titles[-1], horizontal=True)
    method, scene = found[titles.index(title)]
    bands, percent = views.controls(work, "fuse")
    limits = viz.limits([result for _, result in found], bands, percent=percent)
    note = "" if work.coarse.origin == "observed" else f", from {work.coarse.origin} coarse images"
    st.markdown(f"**{method.title}, predicted {scene.day}**{note}")
    maps.compare_maps("fused", layers=[views.layer(method.title, scene, bands, limits)], mode="side", height=460)
    st.html(viz.legend(bands, limits))
    st.caption(
        f"{scene.shape[2]} x {scene.shape[1]} pixels of {work.fine.resolution:g} m, {len(scene.bands)} bands, surface "
        f"reflectance.{lacking(work, scene, state.recipe(work, method))} {state.corrections(work)}"
    )
    take_home(work, method, scene, viz.rgba(scene, bands, limits))


def lacking(work: state.Work, scene: Scene, recipe: Recipe) -> str:
    """Which share of the drawn area has no value, and why; empty where all of it has one."""
    ones = np.ones((1, *scene.shape[1:]), np.float32)
    inside = np.isfinite(clip(Scene(ones, scene.geobox, ("inside",), scene.day), recipe.area).data[0])
    share = 1 - np.isfinite(scene.data).all(axis=0)[inside].mean()
    if not share:
        return ""
    edge = ", or an edge that the shifted coarse images do not reach" if any(work.shift) else ""
    return f" {share:.1%} of the area has no value (clouds, gaps{edge}). {checks.unreached(recipe, (0, 0))}".rstrip()


def take_home(work: state.Work, method: Method, scene: Scene, rgba: np.ndarray) -> None:
    """Downloads, and the same run as Python and as a command."""
    recipe = state.recipe(work, method)
    text = recipe.to_json()
    with st.container(horizontal=True, vertical_alignment="center"):
        downloads.link("Download GeoTIFF (COG)", downloads.publish(scene, recipe), downloads.name(recipe, "tif"))
        for label, data, ending, kind in (
            ("Download picture (PNG)", lambda: viz.png(rgba), "png", "image/png"),  # encoded only when asked for
            ("Download recipe (JSON)", text, "json", "application/json"),
        ):
            st.download_button(label, data, downloads.name(recipe, ending), kind, on_click="ignore")
    with st.expander("The same in Python or in the shell"):
        file = downloads.name(recipe, "json")
        st.code(
            "from pathlib import Path\nfrom fusion import Recipe, run\n\n"
            f'recipe = Recipe.from_json(Path("{file}").read_text())\n'
            f'run(recipe).write("{downloads.name(recipe, "tif")}", recipe.tags())',
            language="python",
        )
        st.code(f"python -m fusion run {file} {downloads.name(recipe, 'tif')}", language="bash")


with frame.page("Fuse", "Choose one or more methods, run them, and see what they predict.", images=True) as work:
    choose_methods(work)
    able = weights.able(state.able(work.methods, work.pairs), weights.images(work))
    recipes = [state.recipe(work, method) for method in able]
    weights.warn_seen(recipes)
    if not work.methods:
        st.info("Choose at least one method.")
    with st.container(horizontal=True, vertical_alignment="center"):
        pressed = st.button("Fuse", type="primary", disabled=not recipes, icon=":material/merge:")
        times.show(recipes, reading(recipes[:1]))
    if pressed:
        state.wanted()
        runs.start(recipes)
    rows = runs.show(recipes)
    if found := views.results(work):
        st.subheader("Result")
        show(work, found)
        st.page_link("pages/compare.py", label="Continue to Compare", icon=":material/arrow_forward:")
    elif recipes:
        st.info(f"Nothing fused yet. Fuse predicts {work.target} from {' and '.join(map(str, work.pairs))}.")
    runs.wait(rows)
