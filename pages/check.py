"""Check: do coarse and fine images of the pairs fit together, and should something be corrected before fusing?"""

import streamlit as st

from fusion import viz
from fusion.errors import FusionError
from fusion.recipe import Recipe
from pages._shared import checks, frame, messages, runs, state
from pages._shared.checks import Checked, Day
from pages._shared.forms import bound, remembered

PAIRS, ALL = "The pairs of the work", f"All clear days (at most {checks.MOST_DAYS})"


def correction_in_use(work: state.Work) -> None:
    """Say which shift is in use and offer the way back; stands above everything that may fail because of it."""
    if any(work.shift):
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            st.markdown(
                ":material/check_circle: **In use:** coarse images are read "
                f"{checks.where(work.shift, checks.fine_unit(work))} of where their grid says."
            )
            st.button("Undo", icon=":material/undo:", on_click=lambda: state.change(shift=(0.0, 0.0)))


def choose_days(work: state.Work) -> Recipe:
    """Which days are compared; more of them make the verdict surer."""
    every = checks.clear_days(work)
    if set(every) <= set(work.pairs):
        return checks.plan(work, work.pairs)
    choice = remembered(
        st.radio, "Days compared", [PAIRS, ALL], name="checked-days", default=PAIRS, horizontal=True,
        help="A shift is believed only if it is the same on all dates, so more dates make it surer.",
    )  # fmt: skip
    return checks.plan(work, every if choice == ALL else work.pairs)


def ask(work: state.Work, recipe: Recipe) -> None:
    """Start the job: by itself where images are near, on a click where they must be fetched or a job has failed."""
    key = checks.key(recipe)
    if runs.queue().find(key, runs.session()):
        return
    if st.session_state.get("check-tried") == key or (work.remote and not runs.kept(recipe)):
        wanted = st.button("Read and check the pairs", type="primary", icon=":material/fact_check:")
        if not wanted:
            st.info("Nothing is read yet: the check reads the images of these days once; they are kept for Fuse.")
    else:
        wanted = state.may_read()
    if wanted:
        st.session_state["check-tried"] = key
        checks.start(recipe)


def verdict(work: state.Work, recipe: Recipe, checked: Checked) -> None:
    """In plain words, with what can be done."""
    report = checked.report
    worries = [f"{day.card.day}: {text}" for day in checked.days for text in day.warnings]
    if report.corrected:
        st.warning(f"**Shifted.** {messages.plain(report.verdict)}", icon=":material/warning:")
        st.button(
            "Correct it: read the coarse images there", type="primary", icon=":material/my_location:",
            on_click=_correct, args=(report.shift,),
        )  # fmt: skip
    elif any(card.sharp for card in report.cards) and not worries:
        st.success(f"**Fits.** {messages.plain(report.verdict)}", icon=":material/check_circle:")
    else:
        st.info(f"**Not sure.** {messages.plain(report.verdict)}" if not worries else messages.plain(report.verdict))
    if said := checks.unreached(recipe, report.shift):
        st.caption(said)
    for text in worries:
        st.warning(messages.plain(text), icon=":material/warning:")
    for text in checks.decided(work):
        st.caption(messages.plain(text))


def _correct(shift: tuple[float, float]) -> None:
    try:
        state.change(shift=checks.add_shift(state.work(), shift))
    except FusionError as error:
        messages.complain(str(error))


def overview(checked: Checked, ratio: int) -> None:
    """All dates in one table and one figure."""
    st.subheader("All dates")
    st.dataframe(checks.rows(checked, ratio), hide_index=True)
    st.caption(
        "East and north: by how much the coarse image lies off the fine one, with its standard error. Sharpness: how "
        "much the correlation falls one coarse pixel away from its peak; a flat peak says little. Blur: full width at "
        "half maximum of what one coarse pixel sees, in coarse pixels usually 1 to 2."
    )
    left, right = frame.halves("dates")
    left.plotly_chart(viz.shifts(checked.report), key="shifts")
    left.caption("If all dates lie together outside the dotted circle, the coarse images are displaced: correct it.")
    right.plotly_chart(viz.gains(checked.report), key="gains")
    right.caption("A gain far from 1, on all dates alike, says that the coarse sensor is calibrated differently.")


def one_day(checked: Checked, day: Day) -> None:
    """Pictures and figures of one date."""
    left, right = frame.halves("pictures")
    for column, name, picture, share in zip((left, right), ("Fine", "Coarse"), day.pictures, day.missing, strict=True):
        column.image(picture, caption=f"{name} {day.card.day}, {share:.0%} missing", width=checks.SIDE)
    st.caption("Both on one stretch: the same fields, rivers and towns should lie at the same place in both.")
    left, right = frame.halves("figures")
    if day.peak is None:
        left.info(f"No peak to show: {day.card.doubt}.")
    else:
        left.plotly_chart(viz.peak(day.peak, day.step, day.card, checked.report), key="peak")
        left.caption(
            "The coarse image is moved over the fine one; where it fits best lies the peak (red cross). "
            "The white ring is where the grids say it lies."
        )
    with right:
        band = remembered(st.selectbox, "Band", checked.bands, name="checked-band", default=checked.bands[-1])
        number = checked.bands.index(band)
        seen, coarse = day.seen[number], day.coarse[number]
        st.plotly_chart(viz.coarse_on_fine(seen, coarse, checks.line_of(seen, coarse), band), key="scatter")
        st.caption("Each point is one coarse pixel: on the dashed line both sensors say the same reflectance.")
    if rows := checks.band_rows(day.card):
        st.dataframe(rows, hide_index=True)
        st.caption("After alignment: coarse = gain x fine as seen by the coarse sensor + offset.")


def harmonise(work: state.Work, checked: Checked) -> None:
    """The toggle, and what it does to these pairs."""
    st.subheader("Sensors")
    bound(
        st.toggle, "Harmonise the coarse sensor", key="harmonise", value=work.harmonise,
        apply=lambda on: state.change(harmonise=on),
        help="Each band of the coarse images is brought to the fine sensor's scale: (coarse - offset) / gain.",
    )  # fmt: skip
    if checked.report.corrected:
        st.caption("Correct the shift first: images that are not aligned make the gains too small.")
    left, right = frame.halves("harmonise")
    left.dataframe(checks.harmonise_rows(checked), hide_index=True)
    left.caption(
        "One line per band over all dates, coarse = gain x fine + offset. Gain 1 and offset 0 mean that nothing is "
        "changed, because the sensors agree or the images do not tell."
    )
    right.plotly_chart(
        viz.before_after(checked.before, checked.after, "Coarse against fine seen as coarse"), key="rmse"
    )
    right.caption(
        "What is left between the sensors on the days of the pairs; it helps only if the bars become shorter."
    )


with frame.page(
    "Check", "Do the coarse and fine images of the pairs fit together? Look before you fuse.", images=True
) as work:
    correction_in_use(work)
    recipe = choose_days(work)
    checked = checks.found(recipe)
    if checked is None:
        ask(work, recipe)
        rows = runs.show([checks.key(recipe)])
        runs.wait(rows)
        checked = checks.found(recipe)
    if checked is not None:
        verdict(work, recipe, checked)
        overview(checked, recipe.ratio)
        st.subheader("One date")
        names = [str(day.card.day) for day in checked.days]
        name = remembered(st.radio, "Date shown", names, name="checked-day", default=names[0], horizontal=True)
        one_day(checked, checked.days[names.index(name)])
        harmonise(work, checked)
        st.page_link("pages/fuse.py", label="Continue to Fuse", icon=":material/arrow_forward:")
