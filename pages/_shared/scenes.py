"""Choice of images: products, time, the search of a source that asks the network, and days with their clouds."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta

import streamlit as st

from fusion import pairing, propose, sources, viz
from fusion.area import grid
from fusion.errors import FusionError
from fusion.products import Product
from fusion.sources import Item

from . import accounts, runs, state
from .forms import bound, remembered
from .messages import complain, plain

ORDER = ("sample", "lab", "stac", "earthengine", "local")
MANY = 40  # days; from here on cloudy ones can be left out of the lists


def names() -> list[str]:
    """Names of the sources, those that work at once first."""
    return sorted(sources.names(), key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))


def choices(source: str) -> dict[str, tuple[str, ...]]:
    """Values to choose among of options that are free text, by the option's name."""
    catalogues = getattr(sources.get(source), "catalogues", None)
    return {} if catalogues is None else {"catalogue": catalogues()}


def at_hand(work: state.Work) -> bool:
    """Whether the work's images are known; else say what is missing and lead to where it can be put right."""
    if work.missing:
        lead_on(work)
        return False
    if not work.remote or (work.area is not None and state.searched(work)):
        return True
    if work.area is not None and (rows := runs.show([_job(work)])):
        st.info("The search is running. This page goes on by itself when it is over.", icon=":material/search:")
        runs.wait(rows)
    todo = "draw an area and search its images" if work.area is None else "search the images of the area"
    st.info(f"Nothing to work with yet: {todo} on the Area page.")
    st.page_link("pages/area.py", label="Go to Area", icon=":material/crop_free:")
    return False


def lead_on(work: state.Work) -> None:
    """Say why a source cannot work as it is chosen, and where that is put right."""
    if work.source == "local":
        chosen = "The files chosen before are not on this server." if work.options else "No files are chosen yet."
        st.info(f"{chosen} Add your images on the page Own files; they come back here as fine and coarse images.")
        to_files("Go to Own files")
    else:
        st.warning(plain(f"{work.missing} Change the options of the source, or choose another source."))


def to_files(label: str) -> None:
    """A link to the page on which own files are added."""
    st.page_link("pages/files.py", label=label, icon=":material/folder_open:")


def choose_products(work: state.Work) -> None:
    """Fine and coarse product, with what one should know of each; a choice only where there is one."""
    for role, chosen in (("fine", work.fine), ("coarse", work.coarse)):
        rows = {row.name: row for row in sources.offered(work.source, role, work.given)}
        if len(rows) > 1:
            bound(
                st.selectbox, f"{role.capitalize()} images", key=f"product-{role}", value=chosen.name,
                options=list(rows), format_func=lambda name, rows=rows: rows[name].title,
                apply=lambda name, role=role: state.change(**{f"{role}_name": name}),
            )  # fmt: skip
        if len(rows) > 1 or work.source == "local":
            st.caption(plain(_facts(chosen)))


def _facts(row: Product) -> str:
    every = f" Each image stands for {row.span} days." if row.span > 1 else ""
    level = row.level[0].upper() + row.level[1:]
    note = f" {row.note}" if row.note else ""
    return f"{level}, read in pixels of {row.resolution:g} m. Licence: {row.licence}.{every}{note}"


def choose_dates(work: state.Work) -> None:
    """First and last day of the search; where they go too far apart, the other one follows."""
    first, last = work.dates or state.usual_dates()
    ends = {"min_value": state.FIRST_DAY, "max_value": max(date.today(), last), "format": "YYYY-MM-DD"}
    left, right = st.columns(2)
    with left:
        bound(st.date_input, "First day", key="first-day", value=first, apply=lambda day: _move(day, None), **ends)
    with right:
        bound(st.date_input, "Last day", key="last-day", value=last, apply=lambda day: _move(None, day), **ends)
    days = (last - first).days + 1
    st.caption(
        f"{days} days. At most two years are searched at once; if you move one day further away, the other follows."
    )


def _move(first: date | None, last: date | None) -> None:
    old = state.work().dates or state.usual_dates()
    most, length = timedelta(days=state.MOST_DAYS - 1), old[1] - old[0]
    if first is not None:
        last = old[1] if timedelta(0) <= old[1] - first <= most else min(first + length, date.today())
        state.change(dates=(first, max(first, last)))
    elif last is not None:
        first = old[0] if timedelta(0) <= last - old[0] <= most else max(last - length, state.FIRST_DAY)
        state.change(dates=(first, last))


def search(work: state.Work) -> runs.Rows:
    """The button that searches, and how far the search is; the rows are for :func:`runs.wait`."""
    known = work.area is not None and state.searched(work)
    rows = runs.show([_job(work)]) if work.area is not None else []
    pressed = st.button(
        "Search again" if known else "Search images", type="secondary" if known else "primary", width="stretch",
        icon=":material/search:", disabled=work.area is None or bool(rows),
        help="Asks the source for images of the area between the two days, and looks at the clouds over the area.",
    )  # fmt: skip
    if pressed:
        try:
            start(work, again=known)
        except FusionError as error:
            complain(str(error))
        st.rerun()
    if rows:
        return rows
    if work.area is None:
        st.caption("Draw the area on the map first, or give its bounds as numbers.")
    elif known:
        st.session_state["last-search"] = _job(work)
        fine, coarse = state.items(work)
        both = len(state.pair_days(work))
        days = f"{both or 'no'} day{'s' * (both != 1)} with both"
        st.caption(f"Found {_count(fine, 'fine')} and {_count(coarse, 'coarse')}, {days}.")
    elif st.session_state.get("last-search", _job(work)) != _job(work):
        st.caption(":material/sync_problem: Area, days or images have changed since the last search: search again.")
    else:
        st.caption("Not searched yet. Nothing is asked of the source before you press the button.")
    return rows


def start(work: state.Work, *, again: bool = False) -> None:
    """Queue the search of the work's source."""
    accounts.ensure(work.source)
    keep = state.finds()
    runs.submit(_job(work), "Search", lambda progress: state.search(work, progress, keep, again=again), network=True)


def _job(work: state.Work) -> str:
    return " ".join(state.search_key(work, row) for row in (work.fine, work.coarse))


def _count(items: Sequence[Item], role: str) -> str:
    return f"{len(items) or 'no'} {role} image{'s' * (len(items) != 1)}"


def choose_days(work: state.Work) -> None:
    """Target and pairs, with the proposal and its reason."""
    fine, coarse = state.items(work)
    st.plotly_chart(viz.timeline(fine, coarse, target=work.target, pairs=work.pairs), key="timeline")
    if not enough(work):
        return
    share, sharp = clouds(coarse, state.pair_days(work)), clouds(fine)
    worse = {day: max(share.get(day) or 0, sharp[day] or 0) for day in sharp}
    targets, both = state.target_days(work), state.pair_days(work)
    most = most_cloud() if len(targets) > MANY else 1.0
    targets = [day for day in targets if day == work.target or (share[day] or 0) <= most]
    both = [day for day in both if day in work.pairs or (worse.get(day, 0) <= most and day != work.target)]
    with st.container(key="halves-days"):  # below each other where the window is narrow
        left, right = st.columns(2)
    with left:
        bound(
            st.selectbox, "Day to predict (target)", key="target", value=work.target, options=targets,
            apply=lambda day: state.change(target=day, pairs=state.proposed_days(work, day)[0]),
            format_func=lambda day: label(day, share, truth=state.truth_item(work, day) is not None),
        )  # fmt: skip
    with right:
        bound(
            st.multiselect, "Days of the pairs (fine and coarse)", key="pairs", value=list(work.pairs),
            options=both, apply=lambda days: state.change(pairs=tuple(sorted(days))),
            format_func=lambda day: label(day, worse),
        )  # fmt: skip
    if work.target is None:
        return
    days, why = state.proposed_days(work, work.target)
    for words in pairing.clouded(pairing.by_day(coarse, (work.target,)).get(work.target)):
        st.warning(words, icon=":material/cloud:")
        why = why.removesuffix(words).rstrip()
    if days == work.pairs:
        st.caption(why)
    elif st.button(f"Use the proposed pairs ({', '.join(map(str, days))})", help=why):
        state.change(pairs=days)
        st.rerun()


def say_what_is_read(work: state.Work) -> None:
    """Pixels, bytes and time before anything is read."""
    say_grid(work)
    geobox, ratio = grid(work.ring, work.fine, work.coarse)
    plan = propose.plan_read((geobox, ratio), len(work.bands), max(len(work.pairs), 1))
    time = ("Expected time to read", f"{plan.seconds:.1f} s" if plan.seconds >= 0.1 else "< 0.1 s")
    for column, (label, value) in zip(
        st.columns(3),
        (
            ("Pixels to read", f"{plan.pixels:,}"),
            ("Memory", f"{plan.bytes / 1e6:,.1f} MB"),
            ("Images to read", f"{plan.images}") if work.remote else time,
        ),
        strict=True,
    ):
        column.metric(label, value)
    if work.remote:
        st.caption("How long reading takes depends on the network; what was read before is not asked for again.")
    if work.target is not None and work.pairs and state.searched(work):
        with st.container(horizontal=True):
            st.page_link("pages/fuse.py", label="Continue to Fuse", icon=":material/arrow_forward:")
            st.page_link("pages/check.py", label="Check the pairs first", icon=":material/fact_check:")


def say_grid(work: state.Work) -> None:
    """Both grids and their ratio in words."""
    geobox, ratio = grid(work.ring, work.fine, work.coarse)
    height, width = geobox.shape
    name = "" if geobox.crs is None else geobox.crs.proj.name
    place = " in a projection without a name" if name == "unknown" else f" in {name}" if name else ""
    st.caption(
        plain(
            f"Fine grid: {width:,} x {height:,} pixels of {work.fine.resolution:g} m{place}. Coarse grid: "
            f"{width // ratio:,} x {height // ratio:,} pixels of {work.coarse.resolution:g} m. One coarse pixel covers "
            f"{ratio} x {ratio} fine ones (ratio {ratio})."
        )
    )


def enough(work: state.Work) -> bool:
    """Whether there is a day to predict and a pair; else say what there is, and what to do."""
    fine, coarse = state.items(work)
    pairs = state.pair_days(work)
    if coarse and pairs and set(state.target_days(work)) - {pairs[0] if len(pairs) == 1 else None}:
        return True
    found = f"{_count(fine, 'fine').capitalize()}, {_count(coarse, 'coarse')}, {len(pairs)} days with both"
    todo = "take more days, or other images" if work.remote else "choose a larger area, or another source"
    st.warning(f"{found}: that is too little to predict from. To have more, {todo}.", icon=":material/search_off:")
    return bool(coarse)


def clouds(items: Sequence[Item], days: Sequence[date] = ()) -> dict[date, float | None]:
    """Share missing or cloudy of the clearest image of each day, and of these `days`; None where nobody knows."""
    return {day: item.cloud for day, item in pairing.by_day(items, days).items()}


def most_cloud() -> float:
    """The cloud share up to which days are in the lists, where these are long."""
    most = remembered(
        st.select_slider, "Days in the lists: cloud at most", (0, 10, 20, 30, 50, 70, 100), name="most-cloud",
        default=50, format_func=lambda part: f"{part} %", help="Days whose cloud is not known stay in the lists.",
    )  # fmt: skip
    return float(most) / 100


def label(day: date, share: Mapping[date, float | None], *, truth: bool = False) -> str:
    """A day in a list, with its cloud share where known."""
    cloud = share.get(day)
    notes = [] if cloud is None else [f"{cloud:.0%} cloud".replace("%", " %")]
    return ", ".join([f"{day}", *notes]) + (" (truth known)" if truth else "")
