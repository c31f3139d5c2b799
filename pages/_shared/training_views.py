"""What the Train page shows of checkpoints: what came of a training, the list, and files that come in."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

import streamlit as st

from fusion import checkpoints, methods
from fusion.checkpoints import MAX_BYTES, Checkpoint
from fusion.errors import FusionError

from . import frame, messages, state, training_curves
from .forms import remembered
from .records import Training

MOST_CHECKPOINT = min(MAX_BYTES // 2**20, 256)  # MB of an upload, which is held in memory
MOST_WEIGHTS = 32  # MB of a Keras file that is converted; a published one has 2
BANDS = ("blue", "green", "red", "nir", "swir1", "swir2")

Misfit = Callable[[Checkpoint], str]


def result(record: Training, misfit: Misfit, *, running: bool) -> None:
    """What came of a training, and the way on."""
    try:
        found = checkpoints.read(record.checkpoint)
    except FusionError:  # deleted since
        return
    st.subheader("Result")
    verdict(found)
    if record.points and record.points[0].epoch == 0:
        st.caption(learnt(record.points[0].rmse, number(found.metrics.get("RMSE"))))
    if record.scratch is not None and running:
        st.caption("The network from scratch is still being trained; the adapted one can be used already.")
    elif record.scratch is not None:
        training_curves.compared(record)
    st.table(training_curves.scores(record))
    st.caption(
        "Of the hidden date, mean over bands. On the other days of the series the network has seen the fine images: "
        "to compare it with other methods on Evaluate, hide the day that was hidden here."
    )
    actions(found, misfit, key="result")


def learnt(before: float, after: float) -> str:
    """Say what training itself has brought."""
    gain = f"{1 - after / before:.1%}" if after < before else ""
    brought = f"training has lowered it by {gain}" if gain not in ("", "0.0%") else "training has not lowered it"
    return f"Before the first step it was {before:.4f}: {brought}."


def verdict(found: Checkpoint) -> None:
    """Whether the network adds anything."""
    error, floors = number(found.metrics.get("RMSE")), floors_of(found)
    if not floors or not math.isfinite(error):
        st.info("Nothing is known of how well this checkpoint predicts: no date was hidden.")
        return
    lost = {name: value for name, value in floors.items() if not error < value}
    if lost:
        listed = " and ".join(f"{name} ({value:.4f})" for name, value in lost.items())
        st.warning(
            f"**It does not beat the floors.** RMSE {error:.4f} on the hidden date is not below that of "
            f"{messages.plain(listed)}: use that method instead, or give the network more days, more epochs or "
            "other weights to begin with.",
            icon=":material/warning:",
        )
    else:
        gain = 1 - error / min(floors.values())
        st.success(
            f"**It beats the floors.** RMSE {error:.4f} on the hidden date, {gain:.0%} below the better floor.",
            icon=":material/check_circle:",
        )


def actions(found: Checkpoint, misfit: Misfit, *, key: str) -> None:
    """Use, download and delete one checkpoint."""
    why = misfit(found)
    st.code(found.name, language=None)
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button(
            "Use it on Fuse", type="primary", icon=":material/merge:", key=f"{key}-use", disabled=bool(why)
        ):  # fmt: skip
            use(found)
            st.switch_page("pages/fuse.py")
        path = checkpoints.path_of(found.name)
        st.download_button(
            "Download checkpoint", path.read_bytes, path.name, "application/octet-stream", on_click="ignore",
            key=f"{key}-download", icon=":material/download:",
        )  # fmt: skip
        if not checkpoints.is_bundled(found.name):
            with st.popover("Delete", icon=":material/delete:"):
                st.markdown("Recipes that name it cannot be run any more without its file.")
                st.button("Delete it now", key=f"{key}-delete", on_click=_remove, args=(found.name,))
    if why:
        st.caption(f"Not for this work: {messages.plain(why)}")


def _remove(name: str) -> None:
    try:
        checkpoints.remove(name)
    except FusionError as error:
        messages.complain(str(error))


def all_checkpoints(misfit: Misfit) -> None:
    """The list, and one of them to use, download or delete."""
    st.subheader("Checkpoints")
    found = {row.name: row for row in checkpoints.every()}
    if not found:
        st.info("There are none yet: train a network above, or bring a file along.")
        return
    st.dataframe(rows(list(found.values()), misfit), hide_index=True)
    st.caption(
        "RMSE is that of the date that was hidden while the network was trained, in reflectance, and so are the "
        "floors; figures of other dates and places cannot be compared. All who use this server share this list."
    )
    name = remembered(st.selectbox, "Checkpoint", list(found), name="checkpoint", default=list(found)[-1])
    if found[name].title:
        st.caption(messages.plain(found[name].title))
    actions(found[name], misfit, key="listed")


def damaged() -> None:
    """Files among the checkpoints that cannot be used, what is wrong, and a button to be rid of one."""
    found = checkpoints.damaged()
    if not found:
        return
    st.markdown("**Files that cannot be used**")
    st.dataframe([{"file": name, "what is wrong": why} for name, why in found.items()], hide_index=True)
    name = remembered(st.selectbox, "File that cannot be used", list(found), name="damaged", default=next(iter(found)))
    st.caption(messages.plain(found[name]))
    with st.popover("Delete the file", icon=":material/delete:"):
        st.markdown("It is gone then, for all who use this server.")
        st.button("Delete the file now", key="damaged-delete", on_click=_remove, args=(name,))


# Files that come in


def bring_along() -> None:
    """Uploads of checkpoints, and of published weights that are converted."""
    turn = st.session_state.setdefault("train-turn", 0)  # a new number empties the uploaders
    left, right = frame.halves("uploads")
    given = left.file_uploader(
        "Bring a checkpoint along (.safetensors)",
        ["safetensors"],
        key=f"checkpoint-file-{turn}",
        max_upload_size=MOST_CHECKPOINT,
        help="Only safetensors files that Meantime has written; pickles are never opened.",
    )
    if given is not None:
        _taken(lambda: checkpoints.take_in(given.getvalue(), given.name).name, "Taken in")
    files = right.file_uploader(
        "Convert published DCSTFN weights (Keras, one file per band)",
        ["h5", "hdf5"], accept_multiple_files=True, key=f"keras-files-{turn}", max_upload_size=MOST_WEIGHTS,
    )  # fmt: skip
    with right:
        convert(files)
    if refused := st.session_state.get("train-refused"):
        messages.error(refused)


def convert(files: Sequence[Any]) -> None:
    """Ask for the band of each file, and convert them together."""
    chosen = [
        st.selectbox(
            f"Band of {messages.plain(file.name)}", BANDS, index=guess(file.name), key=f"keras-{n}-{file.name}"
        )
        for n, file in enumerate(files)
    ]
    if not files:
        return
    twice = len(set(chosen)) < len(chosen)
    if twice:
        st.caption("Two files have the same band: choose another for one of them.")
    if st.button("Convert", icon=":material/sync_alt:", disabled=twice or None in chosen):
        given = {str(band): file.getvalue() for band, file in zip(chosen, files, strict=True)}
        _taken(lambda: _converted(given), "Converted")


def _converted(files: Mapping[str, bytes]) -> str:
    from fusion import convert as conversion  # needs h5py, which is imported only where it is used

    with st.spinner("Converting"):
        return str(conversion.dcstfn(files).stem)


def guess(name: str) -> int | None:
    """Number of the band that a file's name holds."""
    stem = PurePosixPath(name.lower()).stem
    return next((n for n, band in enumerate(BANDS) if band in stem), None)


def _taken(call: Callable[[], str], done: str) -> None:
    """Take files in; whatever comes of it is said and the uploaders are emptied, so that it happens once."""
    try:
        name = call()
    except FusionError as error:
        st.session_state["train-refused"] = str(error)  # said beside the uploaders, far below the top of the page
    else:
        st.session_state["checkpoint"] = name
        st.session_state["train-refused"] = ""
        st.toast(f"{done}: {messages.plain(name)}", icon=":material/check_circle:", duration="long")
    st.session_state["train-turn"] += 1
    st.rerun()


# Checkpoints


def use(found: Checkpoint) -> None:
    """Put a network with this checkpoint among the work's methods.

    Raises
    ------
    FusionError
        If there is no such network here, or no room for one more method.
    """
    have = {method.name(): method for method in state.work().methods}
    if found.method not in have and len(have) >= state.MOST_METHODS:
        raise FusionError(f"Fuse runs at most {state.MOST_METHODS} methods at once: take one out there first.")
    method = replace(have.get(found.method) or methods.get(found.method)(), checkpoint=found.name)
    state.change(methods=tuple({**have, found.method: method}.values()))


def floors_of(found: Checkpoint) -> dict[str, float]:
    """RMSE of the baselines on a checkpoint's hidden date, by title."""
    given = found.metrics.get("floors")
    if not isinstance(given, dict):
        return {}
    return {title_of(str(name)): number(value) for name, value in given.items()}


def title_of(name: str) -> str:
    """Title of a method; its name where it is none of ours."""
    return methods.get(name).title if name in methods.names() else name


def number(value: Any) -> float:
    """A number of a file that others wrote; NaN where it is none."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def misfit(work: state.Work, found: Checkpoint) -> str:
    """Why a checkpoint is not for the work's images, or for this version; "" where it is or nobody can know yet."""
    if found.method not in methods.names():
        return f"There is no network {found.method} in this version of Meantime."
    try:
        recipe = state.recipe(work, methods.get("nearest")())
    except FusionError:
        return ""
    return found.misfit(recipe.bands, recipe.ratio)


def rows(found: Sequence[Checkpoint], misfit: Misfit) -> list[dict[str, str]]:
    """One row per checkpoint for the list."""
    out = []
    for row in found:
        low, high = row.ratios
        floors = ", ".join(f"{name} {digits(value)}" for name, value in floors_of(row).items())
        out.append(
            {
                "checkpoint": row.name,
                "network": title_of(row.method),
                "bands": ", ".join(row.bands),
                "ratio": str(low) if low == high else f"{low} to {high}",
                "fits": "no" if misfit(row) else "yes",
                "hidden": hidden_of(row),
                "RMSE": digits(number(row.metrics.get("RMSE"))),
                "floors (RMSE)": floors or "-",
                "MB": f"{checkpoints.path_of(row.name).stat().st_size / 2**20:.2f}",
                "from": "Meantime" if checkpoints.is_bundled(row.name) else "this server",
            }
        )
    return out


def hidden_of(found: Checkpoint) -> str:
    """Dates that judged a checkpoint, as far as it says so."""
    days = found.metrics.get("hidden")
    return ", ".join(str(day)[:10] for day in days[:3]) if isinstance(days, list) and days else "-"


def digits(value: float) -> str:
    """An error in words."""
    return f"{value:.4f}" if math.isfinite(value) else "-"
