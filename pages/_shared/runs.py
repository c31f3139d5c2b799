"""Runs and their results: one queue and one shelf for the whole server, shown to the session that asked."""

import os
import time
from collections.abc import Callable, Mapping, Sequence

import streamlit as st
from streamlit import runtime
from streamlit.delta_generator import DeltaGenerator
from streamlit.runtime import get_instance
from streamlit.runtime.scriptrunner import get_script_run_ctx

from fusion import estimate, sources
from fusion.errors import FusionError
from fusion.recipe import Recipe, clip, load, run
from fusion.scene import Scene
from fusion.sources import Item
from fusion.stack import Stack

from . import messages
from .jobs import Job, Queue, Shelf

Rows = list[tuple[Job, DeltaGenerator]]

LOOK = 0.25  # seconds between two looks at a job


@st.cache_resource(show_spinner=False)
def queue() -> Queue:
    """Return the server's queue; a session counts as alive while its browser tab is connected."""
    return Queue(get_instance().is_active_session if runtime.exists() else lambda session: True)


@st.cache_resource(show_spinner=False)
def shelf() -> Shelf:
    """Return the server's results, bounded by ``FUSION_RESULTS_MB`` (512)."""
    return Shelf(int(os.environ.get("FUSION_RESULTS_MB") or 512) * 2**20)


def session() -> str:
    """Name of this browser tab's session."""
    context = get_script_run_ctx()
    return context.session_id if context else "none"


def start(recipes: Sequence[Recipe]) -> None:
    """Queue every recipe whose result is not there yet."""
    mine: dict[str, Job] = st.session_state.setdefault("jobs", {})
    for recipe in recipes:
        key = recipe.to_json()
        if shelf().get(key) is None:
            mine[key] = queue().submit(key, recipe.method.title, _work(recipe, shelf()), session())


def _work(recipe: Recipe, keep: Shelf) -> Callable[[Callable[[float], None]], None]:
    def work(progress: Callable[[float], None]) -> None:
        stack = _stack(recipe, keep)
        progress(0.0)
        start = time.perf_counter()
        scene = run(recipe, stack=stack, progress=progress)
        estimate.learn(recipe.method, estimate.Size.of(stack), time.perf_counter() - start)
        keep.put(recipe.to_json(), scene, scene.data.nbytes)

    return work


def result(recipe: Recipe) -> Scene | None:
    """Return a finished result, or None."""
    scene: Scene | None = shelf().get(recipe.to_json())
    return scene


def stack(recipe: Recipe) -> Stack:
    """Return a recipe's stack, reading it if it is not kept."""
    return _stack(recipe, shelf())


def _stack(recipe: Recipe, keep: Shelf) -> Stack:
    key = "stack:" + recipe.to_json().rpartition(',"method"')[0]
    kept: Stack | None = keep.get(key)
    if kept is None:
        kept = load(recipe)
        keep.put(key, kept, kept.fine.nbytes + kept.coarse.nbytes + kept.target.nbytes)
    return kept


def image(item: Item, recipe: Recipe) -> Scene:
    """Read one more image on a recipe's fine grid (a truth, for example), within its area."""
    kept = kept_image(item, recipe)
    if kept is None:
        kept = clip(sources.get(item.source).read(item, recipe.geobox, recipe.bands), recipe.area)
        shelf().put(_image_key(item, recipe), kept, kept.data.nbytes)
    return kept


def kept_image(item: Item, recipe: Recipe) -> Scene | None:
    """Return such an image if it was read before."""
    kept: Scene | None = shelf().get(_image_key(item, recipe))
    return kept


def _image_key(item: Item, recipe: Recipe) -> str:
    return f"image:{item}:{recipe.geobox}:{recipe.area}:{recipe.bands}"


def show(recipes: Sequence[Recipe]) -> Rows:
    """Draw a row of progress for each job of these recipes; hand the rows to :func:`wait` at the end of the page.

    Rows stay until all jobs are over: Streamlit would show a row that is gone until the page has run to its end.
    """
    mine: dict[str, Job] = st.session_state.setdefault("jobs", {})
    for recipe in recipes:  # after a reload the same work may still be under way
        key = recipe.to_json()
        if key not in mine and (job := queue().find(key, session())):
            mine[key] = job
    ours = {key: mine[key] for key in (recipe.to_json() for recipe in recipes) if key in mine}
    if all(job.over for job in ours.values()):
        _collect(mine, ours)
        return []
    return [(job, _row(job)) for job in ours.values()]


def wait(rows: Rows) -> None:
    """Move the rows on until a job is over, then draw the page again."""
    if not rows:
        return
    running = [job for job, _ in rows if not job.over]  # none if the last one ended while the page was drawn
    while running and not any(job.over for job in running):
        for job, row in rows:
            row.progress(job.fraction, text=_words(job))
        time.sleep(LOOK)
    st.rerun()


def _row(job: Job) -> DeltaGenerator:
    bar, button = st.columns([5, 1], vertical_alignment="center")
    button.button("Cancel", key=f"cancel-{job.key}", on_click=_cancel, args=(job,), width="stretch", disabled=job.over)
    row = bar.empty()
    row.progress(job.fraction, text=_words(job))
    return row


def _cancel(job: Job) -> None:
    queue().leave(job, session())


def _words(job: Job) -> str:
    if job.over:
        return f"{job.title}: {job.state}"
    if job.state == "waiting":
        return f"{job.title}: waiting, {queue().position(job)} before it"
    left = job.remaining
    if job.fraction == 0:
        return f"{job.title}: reading and preparing"
    return f"{job.title}: {job.fraction:.0%}" + (f", about {max(left, 1):.0f} s left" if left is not None else "")


def _collect(mine: dict[str, Job], over: Mapping[str, Job]) -> None:
    """Take finished jobs out; what a person can put right is shown, anything else is raised here."""
    for key, job in over.items():
        del mine[key]
        problem: FusionError | None = job.error()
        if problem:
            messages.error(f"{job.title}: {problem}")
