"""Weights of networks: which fit the work, which network lacks them, and whether they have seen the answer."""

import subprocess
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import streamlit as st

from fusion import checkpoints
from fusion.area import grid
from fusion.checkpoints import Checkpoint
from fusion.errors import FusionError
from fusion.methods import Method
from fusion.methods._device import device
from fusion.propose import bounds_of
from fusion.recipe import Recipe

from . import messages, state

Images = tuple[tuple[str, ...], int]  # bands and ratio: what weights are for


def images(work: state.Work) -> Images:
    """Bands and ratio of the work."""
    return work.bands, grid(work.ring, work.fine, work.coarse)[1]


def is_network(method: Method | type[Method]) -> bool:
    """Whether a method needs weights."""
    return hasattr(method, "networks")


def place() -> str:
    """Where networks compute, in words.

    Raises
    ------
    FusionError
        If ``FUSION_DEVICE`` names a device that is not here.
    """
    found = device()
    if found == "cpu":
        return "on the processor"
    if not found.startswith("cuda"):
        return f"on {found}"
    return "on the GPU" + (f" ({name})" if (name := _card()) else "")


@lru_cache
def _card() -> str:
    """Name of the GPU; "" where there are several, or nobody knows."""
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        names = subprocess.run(query, capture_output=True, text=True, timeout=5, check=True).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return ""
    return names[0].strip() if len(names) == 1 else ""


def fitting(method: Method | type[Method], wanted: Images) -> list[Checkpoint]:
    """Checkpoints of a network for these images, bundled ones first."""
    return [row for row in checkpoints.every() if row.method == method.name() and not row.misfit(*wanted)]


def used(method: Method, wanted: Images) -> Checkpoint:
    """Return the checkpoint that a network runs with.

    Raises
    ------
    FusionError
        If there is none.
    """
    from fusion.methods._networks import chosen  # needs torch, which a network has imported already

    network: Any = method
    return chosen(network, *wanted)


def lack(method: Method, wanted: Images) -> str:
    """Say why a method has no weights to run with; "" where it has some, or needs none."""
    if not is_network(method):
        return ""
    try:
        used(method, wanted)
    except FusionError as error:
        return str(error)
    return ""


def fresh(kind: type[Method], wanted: Images) -> Method:
    """Return a method as it is when it is chosen: a network without bundled weights takes the first own ones."""
    method = kind()
    own = fitting(kind, wanted) if lack(method, wanted) else []
    settings: dict[str, Any] = {"checkpoint": own[0].name} if own else {}
    return replace(method, **settings)


def choices(method: Method, wanted: Images) -> dict[str, dict[str, str]]:
    """Checkpoints to choose among, with their scores in words, for a form; nothing of a method without weights."""
    if not is_network(method):
        return {}
    rows = fitting(method, wanted)
    bundled = [row for row in rows if checkpoints.is_bundled(row.name)]
    usual = f"Bundled: {words(bundled[0])}" if bundled else "None is bundled for these images"
    return {"checkpoint": {"": usual, **{row.name: words(row) for row in rows}}}


def words(row: Checkpoint) -> str:
    """Name of a checkpoint and how well it predicted its hidden date, beside the floors."""
    own, floors, days = (row.metrics.get(key) for key in ("RMSE", "floors", "hidden"))
    if not isinstance(own, int | float):
        return row.name
    score = f"RMSE {own:.4f}"
    if isinstance(floors, dict) and floors and all(isinstance(value, int | float) for value in floors.values()):
        best = min(floors, key=lambda name: floors[name])
        score += f", {best} {floors[best]:.4f}"
    return f"{row.name} ({score}{f' on {days[0]}' if isinstance(days, list) and days else ''})"


def able(chosen: Sequence[Method], wanted: Images) -> list[Method]:
    """Return the methods that can run on such images; says of each network without weights what to do."""
    out = []
    for method in chosen:
        if why := lack(method, wanted):
            st.warning(messages.plain(why), icon=":material/warning:")
            st.page_link("pages/train.py", label=f"Train {method.title}, or adapt weights", icon=":material/school:")
        else:
            out.append(method)
    return out


def warn_seen(recipes: Sequence[Recipe]) -> None:
    """Say of each network whose weights have learnt from the target day's fine image that it knows the answer."""
    for recipe in recipes:
        if not is_network(recipe.method):
            continue
        row, day = used(recipe.method, (recipe.bands, recipe.ratio)), recipe.target.day
        if checkpoints.seen(row, day, bounds_of(recipe.area)):
            st.warning(
                f"{recipe.method.title}: its weights {messages.plain(row.name)} were trained on the fine image of "
                f"{day} over this area, so they have seen the answer. How well they predict this day says nothing "
                "about others: choose another day, or weights that do not know it.",
                icon=":material/visibility:",
            )
