"""How long runs will take on this machine: measured in the background, once for all sessions."""

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

import streamlit as st

from fusion import estimate
from fusion.estimate import Size
from fusion.methods import Method
from fusion.recipe import Recipe

LOOK = 0.5  # seconds between two looks at what is being measured
PATIENCE = 0.05  # seconds that a page waits, once, for what may be known already
MOST = 16  # measurements that may wait; what is asked for beyond them stays unknown
KEPT = 256  # answers

State = tuple[float | None, bool]  # seconds if they are known, and whether they are being measured


class Times:
    """Measures one method after the other in a thread; who asks hardly waits."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="estimate")
        self._lock = threading.Lock()
        self._asked: dict[tuple[Method, Size], Future[float | None]] = {}

    def of(self, recipe: Recipe) -> State:
        """Return what is known of a run's time."""
        size = Size(len(recipe.pairs), len(recipe.bands), *recipe.geobox.shape, recipe.ratio, recipe.bands)
        answer = self._answer(recipe.method, size)
        if answer is None:
            return None, False
        if not answer.done():
            return None, True
        if answer.exception() or answer.result() is None:  # a method's own fault shows when it is run
            return None, False
        return estimate.seconds(recipe.method, size, measure=False), False  # runs since then have mended it

    def _answer(self, method: Method, size: Size) -> "Future[float | None] | None":
        with self._lock:
            if (answer := self._asked.get((method, size))) is not None:
                return answer
            waiting = {key: other for key, other in self._asked.items() if not other.done()}
            if len(waiting) >= MOST:
                return None
            if len(self._asked) >= KEPT:
                self._asked = waiting
            answer = self._asked[method, size] = self._pool.submit(estimate.seconds, method, size)
        wait([answer], timeout=PATIENCE)
        return answer


@st.cache_resource(show_spinner=False)
def times() -> Times:
    """Return the server's measurements."""
    return Times()


def show(recipes: Sequence[Recipe], reading: str = "") -> None:
    """Say in one line what each run and all of them will take; the line mends itself while times are measured.

    `reading` says what reading the images adds, which depends on where they are.
    """
    waiting = any(times().of(recipe)[1] for recipe in recipes)

    @st.fragment(run_every=LOOK if waiting else None)
    def line() -> None:
        found = [times().of(recipe) for recipe in recipes]
        st.caption(_line(recipes, found) + (f"; plus {reading}" if recipes and reading else ""))
        if waiting and not any(measuring for _, measuring in found):
            st.rerun()  # the whole page, once, so that it stops looking

    line()


def words(recipe: Recipe) -> str:
    """Say what one run will take."""
    return _words(*times().of(recipe))


def _line(recipes: Sequence[Recipe], found: Sequence[State]) -> str:
    if not recipes:
        return ""
    alike: dict[str, list[str]] = {}
    for recipe, state in zip(recipes, found, strict=True):
        alike.setdefault(_words(*state), []).append(recipe.method.title)
    clear = {_words(*state) for state in found if state[0] is not None}
    each = [
        f"{', '.join(titles)} {words}" + (" each" if words in clear and len(titles) > 1 else "")
        for words, titles in alike.items()
    ]
    known = [seconds for seconds, _ in found if seconds is not None]
    total = [f"together {estimate.words(sum(known))}"] if len(known) == len(found) > 1 else []
    return f"On this machine: {'; '.join([*each, *total])}"


def _words(seconds: float | None, measuring: bool) -> str:
    if seconds is not None:
        return estimate.words(seconds)
    return "measuring..." if measuring else "unknown"
