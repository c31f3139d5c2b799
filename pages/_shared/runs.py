"""Runs and their results: one queue and one shelf for the whole server, shown to the session that asked."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from typing import Any

import streamlit as st
from streamlit import runtime
from streamlit.delta_generator import DeltaGenerator
from streamlit.runtime import get_instance
from streamlit.runtime.scriptrunner import get_script_run_ctx

from fusion import estimate, sources
from fusion.area import clip
from fusion.errors import FusionError
from fusion.recipe import Recipe, load, run
from fusion.scene import Scene
from fusion.sources import Item
from fusion.stack import Stack

from . import accounts, messages
from .jobs import Flights, Job, Progress, Queue, Shelf, Work
from .pulse import followed

Compute = Callable[[Callable[[], Any], Progress], Any]
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


@st.cache_resource(show_spinner=False)
def flights() -> Flights:
    """Return the readings under way, so that two runs of the same images read them once."""
    return Flights()


def submit(key: str, title: str, work: Work, *, network: bool = False) -> None:
    """Queue a piece of work for this session, or join the same one that is under way."""
    mine: dict[str, Job] = st.session_state.setdefault("jobs", {})
    mine[key] = queue().submit(key, title, work, session(), network=network)


def start(recipes: Sequence[Recipe], more: Sequence[Item] = ()) -> None:
    """Queue every recipe whose result is not there yet; `more` images are read with it."""
    for recipe in recipes:
        key = recipe.to_json()
        if shelf().get(key) is None:
            accounts.ensure(recipe.target.source)
            remote = sources.is_remote(recipe.target.source)
            compute = queue().compute if remote else at_once
            submit(key, recipe.method.title, _work(recipe, more, shelf(), flights(), compute), network=remote)


def read(recipe: Recipe, more: Sequence[Item] = ()) -> None:
    """Queue the reading of a recipe's images, and of `more` on its fine grid."""
    accounts.ensure(recipe.target.source)
    keep, fly, remote = shelf(), flights(), sources.is_remote(recipe.target.source)
    submit(read_key(recipe), "Images", lambda progress: fetch(recipe, more, keep, fly, progress), network=remote)


def read_key(recipe: Recipe) -> str:
    """Name of the job that reads a recipe's images."""
    return "read:" + _stack_key(recipe)


def at_once(call: Callable[[], Any], progress: Progress) -> Any:
    """Compute in the job itself, which has the device already."""
    return call()


def _work(
    recipe: Recipe,
    more: Sequence[Item],
    keep: Shelf,
    fly: Flights,
    compute: Callable[[Callable[[], Any], Progress], Any],
) -> Work:
    def work(progress: Progress) -> None:
        stack, _ = fetch(recipe, more, keep, fly, progress)
        compute(lambda: _fuse(recipe, stack, keep, progress), progress)

    return work


def _fuse(recipe: Recipe, stack: Stack, keep: Shelf, progress: Progress) -> None:
    progress(0.0)
    start = time.perf_counter()
    scene = run(recipe, stack=stack, progress=progress)
    estimate.learn(recipe.method, estimate.Size.of(stack), time.perf_counter() - start)
    keep.put(recipe.to_json(), scene, scene.data.nbytes)


def fetch(
    recipe: Recipe, more: Sequence[Item], keep: Shelf, fly: Flights, progress: Progress
) -> tuple[Stack, list[Scene]]:
    """A recipe's stack and more images, read where they are not kept; says how far it is. For jobs."""
    stack: Stack = fly.once(_stack_key(recipe), lambda: loaded(recipe, keep, progress), progress)
    scenes = []
    for item in more:
        scene = keep.get(_image_key(item, recipe))
        if scene is None:
            note = f"reading the fine image of {item.day}"
            scene = followed(lambda item=item: _image(item, recipe), lambda done, note=note: progress(done, note))
            keep.put(_image_key(item, recipe), scene, scene.data.nbytes)
        scenes.append(scene)
    return stack, scenes


def result(recipe: Recipe) -> Scene | None:
    """Return a finished result, or None."""
    scene: Scene | None = shelf().get(recipe.to_json())
    return scene


def kept(recipe: Recipe, more: Sequence[Item] = ()) -> bool:
    """Whether a recipe's images, and `more`, were read before and are at hand."""
    return kept_stack(recipe) is not None and all(kept_image(item, recipe) is not None for item in more)


def kept_stack(recipe: Recipe) -> Stack | None:
    """Return a recipe's stack if it was read before."""
    found: Stack | None = shelf().get(_stack_key(recipe))
    return found


def stack(recipe: Recipe) -> Stack:
    """Return a recipe's stack, reading it if it is not kept; images of a remote source are read by a job only.

    Raises
    ------
    FusionError
        If the source is remote and the stack is not kept.
    """
    found = kept_stack(recipe)
    if found is None:
        _check_here(recipe.target)
        found = loaded(recipe, shelf(), lambda fraction, note="": None)
    return found


def _check_here(item: Item) -> None:
    if sources.is_remote(item.source):
        raise FusionError(f"The image of {item.day} is not at hand any more: press Read the images.")


def _stack_key(recipe: Recipe) -> str:
    return "stack:" + recipe.to_json().rpartition(',"method"')[0]


def loaded(recipe: Recipe, keep: Shelf, progress: Progress) -> Stack:
    found: Stack | None = keep.get(_stack_key(recipe))
    if found is None:
        count = 2 * len(recipe.pairs) + 1
        found = load(
            recipe, progress=lambda done: progress(done, f"reading {int(done * count + 1e-6)} of {count} images")
        )
        keep.put(_stack_key(recipe), found, found.fine.nbytes + found.coarse.nbytes + found.target.nbytes)
    return found


def image(item: Item, recipe: Recipe) -> Scene:
    """Read one more image on a recipe's fine grid (a truth, for example), within its area.

    Raises
    ------
    FusionError
        If the source is remote and the image is not kept.
    """
    found = kept_image(item, recipe)
    if found is None:
        _check_here(item)
        found = _image(item, recipe)
        shelf().put(_image_key(item, recipe), found, found.data.nbytes)
    return found


def _image(item: Item, recipe: Recipe) -> Scene:
    return clip(sources.get(item.source).read(item, recipe.geobox, recipe.bands), recipe.area)


def kept_image(item: Item, recipe: Recipe) -> Scene | None:
    """Return such an image if it was read before."""
    kept: Scene | None = shelf().get(_image_key(item, recipe))
    return kept


def _image_key(item: Item, recipe: Recipe) -> str:
    return f"image:{item}:{recipe.geobox}:{recipe.area}:{recipe.bands}"


def show(jobs: Sequence[Recipe | str]) -> Rows:
    """Draw a row of progress for each job of these recipes or names; hand the rows to :func:`wait` at the page's end.

    Rows stay until all jobs are over: Streamlit would show a row that is gone until the page has run to its end.
    """
    mine: dict[str, Job] = st.session_state.setdefault("jobs", {})
    keys = [job if isinstance(job, str) else job.to_json() for job in jobs]
    for key in keys:  # after a reload the same work may still be under way
        if key not in mine and (job := queue().find(key, session())):
            mine[key] = job
    ours = {key: mine[key] for key in keys if key in mine}
    if all(job.over for job in ours.values()):
        _collect(mine, ours)
        return []
    return [(job, _row(job)) for job in ours.values()]


def wait(rows: Rows, news: Callable[[], bool] = lambda: False) -> None:
    """Move the rows on until a job is over or there is news to show, then draw the page again."""
    if not rows:
        return
    running = [job for job, _ in rows if not job.over]  # none if the last one ended while the page was drawn
    while running and not any(job.over for job in running) and not news():
        for job, row in rows:
            row.progress(job.fraction, text=_words(job))
        futures.wait([job.future for job in running], timeout=LOOK, return_when=futures.FIRST_COMPLETED)
    st.rerun()


def _row(job: Job) -> DeltaGenerator:
    bar, button = st.columns([3, 1], vertical_alignment="center")
    button.button("Cancel", key=f"cancel-{job.key}", on_click=_cancel, args=(job,), width="stretch", disabled=job.over)
    row = bar.empty()
    row.progress(job.fraction, text=_words(job))
    return row


def _cancel(job: Job) -> None:
    queue().leave(job, session())


def _words(job: Job) -> str:
    if job.over:
        return f"{job.title}: {job.state}"
    if not job.watchers:
        return f"{job.title}: stopping"
    if job.state == "waiting":
        return f"{job.title}: waiting, {queue().position(job)} before it"
    left = job.remaining
    time_left = f", about {max(left, 1):.0f} s left" if left is not None else ""
    if job.note:
        return messages.plain(f"{job.title}: {job.note}{time_left}")
    return f"{job.title}: {job.fraction:.0%}{time_left}" if job.fraction else f"{job.title}: preparing"


def _collect(mine: dict[str, Job], over: Mapping[str, Job]) -> None:
    """Take finished jobs out; what a person can put right is said at the top, anything else is raised here."""
    problems: dict[str, list[str]] = {}
    for key, job in over.items():
        del mine[key]
        problem: FusionError | None = job.error()
        if problem:
            problems.setdefault(str(problem), []).append(job.title)
    for words, titles in problems.items():
        messages.complain(f"{', '.join(titles)}: {words}")
    if problems:
        st.rerun()
