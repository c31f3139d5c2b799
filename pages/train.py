"""Train: teach a network on the work's own days, see how it does on a hidden one, and use it on Fuse."""

from collections.abc import Mapping
from datetime import date
from functools import partial
from typing import Any

import streamlit as st

from fusion.errors import FusionError
from fusion.methods import Method, params
from pages._shared import frame, messages, runs, scenes, state, training_curves, training_views, trainings, weights
from pages._shared.forms import bound, form, remembered
from pages._shared.trainings import Basics, Plan

SCRATCH = "From scratch"
USUAL = "edcstfn"  # few parameters, and one pair is enough for it
WHY_BASE = (
    "Base is what the network adds to. Here it begins as regression: the fine image plus the coarse change, with "
    "detail that a regression finds in the fine images. On most real scenes that we measured this is better than Delta "
    "before the first step, while a network that begins at the reference hardly ever gets there from a few days."
)


def choose_network(work: state.Work) -> tuple[type[Method], str]:
    """Which network, and the checkpoint that is adapted ("" = from scratch)."""
    networks = trainings.networks()
    if not networks:
        raise FusionError("There is no network here to train: add one as a method of the family deep learning.")
    left, right = st.columns(2)
    with left:
        name = remembered(
            st.selectbox, "Network", list(networks), name="train-network",
            default=USUAL if USUAL in networks else next(iter(networks)),
            format_func=lambda name: networks[name].title,
        )  # fmt: skip
    fitting = [row.name for row in trainings.adaptable(name, work.bands)]
    with right:
        start = remembered(
            st.selectbox, "Weights to begin with", [SCRATCH, *fitting], name="train-start", default=SCRATCH,
            help="Adapting a trained network takes fewer epochs and days. Offered are those of the work's bands.",
        )  # fmt: skip
    st.caption(f"{messages.plain(networks[name].summary())} {frame.paper(networks[name].paper)}")
    return networks[name], "" if start == SCRATCH else start


def choose_days(work: state.Work) -> tuple[list[date], date | None]:
    """Days to learn from, and the one that is hidden to judge; None where no day can be spared."""
    days = state.pair_days(work)
    fine, coarse = (scenes.clouds(items, days) for items in state.items(work))
    worst = {day: max(fine.get(day) or 0.0, coarse.get(day) or 0.0) for day in days}
    known, kept = (tuple(days), work.target), st.session_state.get("train-days")
    chosen = kept[1] if kept and kept[0] == known else trainings.usual_days(work, worst)
    bound(
        st.multiselect, "Days with both images", key="train-days-chosen", value=chosen, options=days,
        apply=lambda new: st.session_state.update({"train-days": (known, sorted(new))}),
        format_func=lambda day: scenes.label(day, worst) + (" (target)" if day == work.target else ""),
        max_selections=trainings.MOST_DAYS,
    )  # fmt: skip
    if work.target in chosen:
        st.warning(
            f"{work.target} is the day that the work predicts. A network that has seen its fine image, or was chosen "
            "by it, says nothing any more about how well that day is predicted.", icon=":material/warning:",
        )  # fmt: skip
    elif work.target in days:
        st.caption(f"The target day {work.target} is left out, so that its fine image can still judge the network.")
    if len(chosen) < 3:
        st.caption("With fewer than 3 days none can be spared: the eastern quarter of the last day is hidden instead.")
        return chosen, None
    hidden = remembered(
        st.selectbox, "Hidden day", chosen, name="train-hidden", default=chosen[len(chosen) // 2],
        help="Its fine image is never learnt from. It decides which epoch's weights are kept, and when to stop.",
    )  # fmt: skip
    return chosen, hidden


def values(group: str, owner: type, names: list[str]) -> Mapping[str, Any]:
    """What was set in a part of the form, else the defaults."""
    kept = {**trainings.begins_with(owner), **st.session_state.get(f"train-{group}", {})}
    return {item.name: kept.get(item.name, item.default) for item in params(owner) if item.name in names}


def fields(group: str, owner: type, names: list[str]) -> Mapping[str, Any]:
    """Draw a part of the form; return its values."""
    now = values(group, owner, names)
    form(trainings.part_of(owner, names), now, key=f"train-{group}", apply=partial(_set, group))
    return now


def _set(group: str, name: str, value: object) -> None:
    st.session_state[f"train-{group}"] = {**st.session_state.get(f"train-{group}", {}), name: value}


def choose_comparison(start: str) -> bool:
    """Whether a network is trained from scratch beside the one that is adapted."""
    if not start:
        return False
    compare: bool = bound(
        st.toggle, "Compare with one trained from scratch", key="train-compare-chosen",
        value=st.session_state.get("train-compare", True),
        apply=lambda new: st.session_state.update({"train-compare": new}),
        help="A second network of the same layers is trained from scratch, on the same days with the same epochs and "
        "minutes, to show what the checkpoint was good for. It is kept only if it does better.",
    )  # fmt: skip
    if compare:
        st.caption("It doubles the time: a second network with the same layers learns from the same days.")
    return compare


def warn_seen(plan: Plan) -> None:
    """Say of a checkpoint that is adapted that it knows the hidden image."""
    if plan.seen:
        st.warning(
            f"The checkpoint to adapt was trained on the image that is hidden here ({plan.hidden}), so its error "
            "there says little about other days. Hide a day that it does not know, or train from scratch.",
            icon=":material/visibility:",
        )  # fmt: skip


def choose_training(work: state.Work) -> Plan:
    """Everything a training is made of."""
    from fusion.training import Options  # needs torch

    kind, start = choose_network(work)
    compare = choose_comparison(start)
    days, hidden = choose_days(work)
    basics = Basics(**fields("basics", Basics, [item.name for item in params(Basics)]))
    with st.expander("Crops and learning", icon=":material/tune:"):
        own = [item.name for item in params(Options) if item.name not in trainings.ASKED]
        options = Options(**fields("options", Options, own), start=start)
    with st.expander(f"Parameters of {kind.title}", icon=":material/tune:"):
        st.markdown(kind.explanation())
        if start:
            st.caption("They are those of the checkpoint that is adapted.")
            method = kind()
        else:
            method = kind(**fields(f"net-{kind.name()}", kind, trainings.learning(kind)))
            if trainings.begins_with(kind):
                st.caption(WHY_BASE)
    return trainings.plan(work, method, days, hidden, basics, options, compare)


def begin(plan: Plan, busy: bool) -> None:
    """Start the training, or look at samples first."""
    warn_seen(plan)
    with st.container(horizontal=True, vertical_alignment="center"):
        pressed = st.button("Train", type="primary", icon=":material/model_training:", disabled=busy)
        shown = st.button("Show samples", icon=":material/grid_view:", disabled=busy)
        height, width = plan.recipe.geobox.shape
        st.caption(
            f"{len(plan.recipe.pairs) + 1} days of {width} x {height} pixels, {len(plan.recipe.bands)} bands, ratio "
            f"{plan.recipe.ratio}. Computed {weights.place()}."
        )
    if pressed or shown:
        state.wanted()
        try:
            (trainings.start if pressed else trainings.start_samples)(plan)
        except FusionError as error:  # such as a full queue
            messages.complain(str(error))
        st.rerun()
    if not busy and (found := trainings.samples(plan)) is not None:
        st.image(found[0])
        st.caption(found[1])


LEAD = "Teach a network on your own days. One day is hidden from it, and shows whether it has learnt anything."

with frame.page("Train", LEAD) as work:
    plan = None
    try:
        plan = choose_training(work) if scenes.at_hand(work) else None
    except FusionError as error:  # the checkpoints below are there all the same
        messages.error(str(error))
    record, job = trainings.current(plan)
    if plan is not None:
        begin(plan, busy=job is not None)
    rows = runs.show([*([record.key] if record else []), *([trainings.samples_key(plan)] if plan else [])])
    fits = partial(training_views.misfit, work)
    if record is not None:
        st.subheader(f"{'Adaptation' if record.start else 'Training'} of {record.title}")
        if words := trainings.resumed(record):
            st.caption(words)
        training_curves.live(record, running=job is not None)
        if record.checkpoint:
            training_views.result(record, fits, running=job is not None)
    training_views.all_checkpoints(fits)
    training_views.damaged()
    training_views.bring_along()
    runs.wait(rows, trainings.news(record))
