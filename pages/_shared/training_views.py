"""What the Train page shows: a training while it runs and when it is over, and the checkpoints."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

import streamlit as st

from fusion import checkpoints, methods, viz
from fusion.checkpoints import MAX_BYTES, Checkpoint
from fusion.errors import FusionError

from . import frame, messages, state
from .forms import remembered
from .trainings import Training

PICTURES = {"before": "Before the first step", "now": "Now", "best": "Best so far", "truth": "Truth"}
MOST_CHECKPOINT = min(MAX_BYTES // 2**20, 256)  # MB of an upload, which is held in memory
MOST_WEIGHTS = 32  # MB of a Keras file that is converted; a published one has 2
BANDS = ("blue", "green", "red", "nir", "swir1", "swir2")

Misfit = Callable[[Checkpoint], str]


def live(record: Training, running: bool) -> None:
    """Curves, floors and pictures of a training, as far as it is."""
    if not record.points:
        if running:
            st.info("The images are read and the untrained network is looked at first; curves come with each epoch.")
        return
    last, best = record.points[-1], record.best
    words = f"**{record.title}**, epoch {last.epoch} of {record.epochs}. Hidden: {record.hidden}."
    if best is not None:
        words += f" {'Best so far' if running else 'Best'}: RMSE {best.rmse:.4f} reflectance in epoch {best.epoch}"
        words += " (untrained)." if best.epoch == 0 else "."
    st.markdown(words)
    if record.note:
        st.caption(messages.plain(record.note))
    if not running and not record.checkpoint:
        st.caption("It was stopped without a checkpoint. Started again with the same choices it goes on where it was.")
    if running:
        st.button(
            "Stop and keep the best", icon=":material/stop_circle:", on_click=record.stop.set, key="train-enough",
            disabled=record.stop.is_set(),
            help="Training ends after this step and the weights of the best epoch become a checkpoint. Cancel keeps "
            "no checkpoint; the same training started again goes on where it was.",
        )  # fmt: skip
    curves(record)
    pictures(record, running)


def curves(record: Training) -> None:
    """Losses and the error of the hidden date."""
    epochs = [point.epoch for point in record.points]
    names = dict.fromkeys(name for point in record.points for name in point.losses)
    done = [point for point in record.points if point.losses]
    losses = {name: [point.losses.get(name, math.nan) for point in done] for name in names}
    floors = {title_of(name): value for name, value in record.floors.items()}
    left, right = frame.halves("curves")
    errors = viz.held_out(epochs, [point.rmse for point in record.points], floors, hidden=record.hidden)
    left.plotly_chart(errors, key="train-errors")
    left.caption("What counts: the network never saw this image. Nearest and Delta are the floors.")
    right.plotly_chart(viz.loss_curves([point.epoch for point in done], losses), key="train-losses")
    right.caption("What training makes smaller, of each network. It may fall while the hidden date gets worse.")


def pictures(record: Training, running: bool) -> None:
    """The hidden date as it is predicted now, beside the truth."""
    wanted = ("before", "now", "truth") if running else ("before", "best", "truth")
    best = record.best
    epochs = {"now": record.points[-1].epoch, "best": best.epoch if best else 0}
    for column, name in zip(st.columns(3), wanted, strict=True):
        if name in record.pictures:
            told = f"{PICTURES[name]}, epoch {epochs[name]}" if name in epochs else PICTURES[name]
            picture = record.pictures[name]
            zoom = max(1, 360 // max(picture.shape[:2]))
            column.image(viz.png(picture, zoom=zoom), caption=told if running else told.replace(" so far", ""))
    st.caption(
        f"{messages.plain(record.hidden[:1].upper() + record.hidden[1:])}, {', '.join(record.shown)} on the stretch of "
        "the truth. An untrained network returns its reference, which is why the first picture is sharp."
    )


def result(record: Training, misfit: Misfit) -> None:
    """What came of a training, and the way on."""
    try:
        found = checkpoints.read(record.checkpoint)
    except FusionError:  # deleted since
        return
    st.subheader("Result")
    verdict(found)
    st.table(scores(found))
    st.caption(
        "Of the hidden date, mean over bands. On the other days of the series the network has seen the fine images: "
        "to compare it with other methods on Evaluate, hide the day that was hidden here."
    )
    actions(found, misfit, key="result")


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
            f"{messages.plain(listed)}: use that method instead, or give the network more days, more epochs or a "
            "checkpoint to adapt.",
            icon=":material/warning:",
        )
    else:
        gain = 1 - error / min(floors.values())
        st.success(
            f"**It beats the floors.** RMSE {error:.4f} on the hidden date, {gain:.0%} below the better floor.",
            icon=":material/check_circle:",
        )


def scores(found: Checkpoint) -> list[dict[str, str]]:
    """Scores of the hidden date, the network's and the floors' where they are known."""
    units = {"RMSE": "RMSE (reflectance)", "SAM": "SAM (degrees)"}
    rows = []
    for name in ("RMSE", "CC", "SSIM", "SAM"):
        others = {title: digits(value) if name == "RMSE" else "" for title, value in floors_of(found).items()}
        rows.append({"score": units.get(name, name), "network": digits(number(found.metrics.get(name))), **others})
    return rows


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


# Files that come in


def bring_along() -> None:
    """Uploads of checkpoints, and of published weights that are converted."""
    turn = st.session_state.setdefault("train-turn", 0)  # a new number empties the uploaders
    left, right = frame.halves("uploads")
    given = left.file_uploader(
        f"Bring a checkpoint along (.safetensors, at most {MOST_CHECKPOINT} MB)",
        ["safetensors"],
        key=f"checkpoint-file-{turn}",
        max_upload_size=MOST_CHECKPOINT,
        help="Only safetensors files that Meantime has written; pickles are never opened.",
    )
    if given is not None:
        _taken(lambda: checkpoints.take_in(given.getvalue()).name, "Taken in")
    files = right.file_uploader(
        f"Convert published DCSTFN weights (Keras .h5 or .hdf5, one per band, at most {MOST_WEIGHTS} MB)",
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
                "RMSE": digits(number(row.metrics.get("RMSE"))),
                "floors (RMSE)": floors or "-",
                "MB": f"{checkpoints.path_of(row.name).stat().st_size / 2**20:.2f}",
                "from": "Meantime" if checkpoints.is_bundled(row.name) else "this server",
            }
        )
    return out


def digits(value: float) -> str:
    """An error in words."""
    return f"{value:.4f}" if math.isfinite(value) else "-"
