"""What the Train page shows of a training: curves and pictures while it runs, and its scores when it is over."""

import math
from collections.abc import Mapping

import numpy as np
import streamlit as st

from fusion import metrics, viz

from . import frame, messages
from .records import Training

WAS, SCRATCH, ADAPTED = "As it was", "From scratch", "Adapted"  # the three that are compared
SCORES = ("RMSE", "CC", "SSIM", "SAM")


def live(record: Training, running: bool) -> None:
    """Curves, floors and pictures of a training, as far as it is."""
    if not record.points:
        if running:
            st.info(
                "The images are read and the network is looked at before its first step; curves come with each epoch."
            )
        return
    for each in (record, record.scratch):
        if each is not None and each.points:
            words = _stand(each, _name(record, each), running and not each.note)
            st.markdown(f"{words} {messages.plain(each.note)}".strip())
    if not running and not record.checkpoint:
        st.caption("It was stopped without a checkpoint. Started again with the same choices it goes on where it was.")
    if running:
        _stop(record)
    curves(record)
    pictures(record, running)


def _name(record: Training, each: Training) -> str:
    if not record.start:
        return record.title
    return f"{record.title} {(SCRATCH if each is record.scratch else ADAPTED).lower()}"


def _stand(record: Training, name: str, running: bool) -> str:
    words = f"**{name}**, epoch {record.points[-1].epoch} of {record.epochs}. Hidden: {record.hidden}."
    if (best := record.best) is None:
        return words
    words += f" {'Best so far' if running else 'Best'}: RMSE {best.rmse:.4f} reflectance in epoch {best.epoch}"
    return words + (f" ({'as it was' if record.start else 'untrained'})." if best.epoch == 0 else ".")


def _stop(record: Training) -> None:
    both = " There is no comparison then, unless the adaptation is over already." if record.scratch else ""
    st.button(
        "Stop and keep the best", icon=":material/stop_circle:", on_click=record.stop.set, key="train-enough",
        disabled=record.stop.is_set(),
        help="Training ends after this step and the weights of the best epoch become a checkpoint. Cancel keeps "
        f"no checkpoint of what is under way; the same training started again goes on where it was.{both}",
    )  # fmt: skip


def curves(record: Training) -> None:
    """Losses and the error of the hidden date."""
    floors = {title: scores["RMSE"] for title, scores in record.baselines.items()}
    scratch = {} if record.scratch is None else {SCRATCH.lower(): errors(record.scratch)}
    name = ADAPTED.lower() if record.start else "network"
    left, right = frame.halves("curves")
    figure = viz.held_out(*errors(record), floors, hidden=record.hidden, name=name, others=scratch)
    left.plotly_chart(figure, key="train-errors")
    left.caption("What counts: the network never saw this image. Nearest and Delta are the floors.")
    right.plotly_chart(viz.loss_curves(*losses(record)), key="train-losses")
    right.caption("What training makes smaller, of each network. It may fall while the hidden date gets worse.")


def errors(record: Training) -> tuple[list[int], list[float]]:
    """Epochs, and the error of the hidden date after each."""
    return [point.epoch for point in record.points], [point.rmse for point in record.points]


def losses(record: Training) -> tuple[list[int], dict[str, list[float]]]:
    """Epochs, and the losses of every network in each of them."""
    found: dict[str, dict[int, float]] = {}
    for each in (record, record.scratch):
        for point in each.points if each is not None else ():
            for name, value in point.losses.items():
                told = name if record.scratch is None else f"{name}, {(ADAPTED if each is record else SCRATCH).lower()}"
                found.setdefault(told, {})[point.epoch] = value
    epochs = sorted({epoch for values in found.values() for epoch in values})
    return epochs, {name: [values.get(epoch, math.nan) for epoch in epochs] for name, values in found.items()}


def pictures(record: Training, running: bool) -> None:
    """The hidden date as it is predicted, beside the truth."""
    found = _pictures(record, running)
    with st.container(key="quarters-pictures"):
        columns = st.columns(len(found))
    for column, (words, picture) in zip(columns, found.items(), strict=True):
        column.image(viz.png(picture, zoom=max(1, 360 // max(picture.shape[:2]))), caption=words)
    first = (
        f"The first picture is what the checkpoint {messages.plain(record.start)} predicts without any training here."
        if record.start
        else "The first picture is what an untrained network gives: its base."
    )
    st.caption(
        f"{messages.plain(record.hidden[:1].upper() + record.hidden[1:])}, {', '.join(record.shown)}, all on the "
        f"stretch of the truth. {first}"
    )


def _pictures(record: Training, running: bool) -> Mapping[str, np.ndarray]:
    """Pictures with their words, from before the first step to the truth."""
    out = {}
    if "before" in record.pictures:
        out[f"{WAS} (zero-shot)" if record.start else "Before the first step"] = record.pictures["before"]
    for each in (record.scratch, record):
        if each is not None and each.pictures:
            going = running and not each.note
            point = each.points[-1] if going else each.best
            name = (ADAPTED if each is record else SCRATCH) if record.start else ("Now" if going else "Best")
            words = f"{name}, epoch {point.epoch if point else 0}"
            out[words] = each.pictures["now" if going else "best"]
    if "truth" in record.pictures:
        out["Truth"] = record.pictures["truth"]
    return out


# Scores


def tables(record: Training) -> dict[str, Mapping[str, float]]:
    """Scores of the hidden date by name: floors first, the trained network last."""
    found = dict(record.baselines)
    if record.start:
        found[f"{WAS} (zero-shot)"] = record.before.scores if record.before else {}
    if record.scratch is not None:
        found[SCRATCH] = record.scratch.best.scores if record.scratch.best else {}
    found[ADAPTED if record.start else record.title] = record.best.scores if record.best else {}
    return found


def scores(record: Training) -> list[dict[str, str]]:
    """One row per score; the best of each is marked."""
    found = tables(record)
    rows = []
    for name in SCORES:
        about = metrics.METRICS[name]
        values = {title: row.get(name, math.nan) for title, row in found.items()}
        best = metrics.best_of({title: {name: {"mean": value}} for title, value in values.items()}, name)
        texts = {title: f"{value:.4f}" if math.isfinite(value) else "-" for title, value in values.items()}
        unit = "" if about.unit in ("", "1") else f" ({about.unit})"
        told = {title: f"**{text}** (best)" if title in best else text for title, text in texts.items()}
        rows.append({"score": f"{name}{unit}", "ideal": f"{about.best:g}", **told})
    return rows


def compared(record: Training) -> None:
    """Say in words what adapting was good for, and what became of the network that was trained beside it."""
    scratch = record.scratch
    if scratch is None or record.best is None or scratch.best is None:
        st.caption("It was stopped before a network was trained from scratch, so there is nothing to compare with.")
        return
    own = record.best.rmse
    parts = [_against(own, scratch.best.rmse, "that of the network trained from scratch on the same budget")]
    if record.before is not None:
        parts.append(_against(own, record.before.rmse, "that of the checkpoint as it was"))
    st.markdown(f"**Adapted**: RMSE {own:.4f}, {' and '.join(parts)}.")
    if scratch.checkpoint:
        name = messages.plain(scratch.checkpoint)
        st.caption(f"The network from scratch did better and is kept too, as the checkpoint {name}.")
    else:
        st.caption("The network from scratch did no better and is not kept; it would have been, had it done better.")
    if record.seen:
        st.caption(
            f"Beware: the checkpoint {messages.plain(record.start)} was trained on the hidden image, so the columns "
            f"{WAS} and {ADAPTED} are better than they would be of a day that it does not know."
        )


def _against(own: float, other: float, whose: str) -> str:
    share = 1 - own / other if other else math.nan
    if not math.isfinite(share) or abs(share) < 0.0005:
        return f"equal to {whose}"
    return f"{abs(share):.1%} {'below' if share > 0 else 'above'} {whose} ({other:.4f})"
