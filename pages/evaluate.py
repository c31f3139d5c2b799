"""Evaluate: hide a day that has a fine image, predict it, and measure the errors."""

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import date

import streamlit as st

from fusion import methods, metrics, viz
from fusion.errors import FusionError
from fusion.methods import Method
from fusion.recipe import Recipe
from fusion.scene import Scene
from fusion.sources import Item
from pages._shared import frame, runs, scenes, state, views, weights
from pages._shared.forms import remembered

FLOORS = ("nearest", "delta")
Table = Mapping[str, Mapping[str, float]]


def choose_day(work: state.Work) -> tuple[date, tuple[date, ...]]:
    """The day to hide and the pairs to predict it from."""
    days = state.pair_days(work)
    if len(days) < 2:
        raise FusionError(
            f"Evaluation wants at least 2 days with both images, got {len(days)}: choose another area or a longer time."
        )
    fine, coarse = (scenes.clouds(items, days) for items in state.items(work))
    worse = {day: max(fine[day] or 0, coarse[day] or 0) for day in days}
    clearest = min(days[1:-1] or days, key=lambda day: worse[day])
    start = work.target if work.target in days else clearest if work.remote else days[len(days) // 2]
    counts = range(1, min(4, len(days) - 1) + 1)
    left, right = st.columns(2)
    with left:
        day = remembered(
            st.selectbox, "Day whose fine image is hidden", days, name="hide", default=start,
            format_func=lambda day: scenes.label(day, worse),
        )  # fmt: skip
    with right:
        count = remembered(st.selectbox, "Pairs to predict it from", counts, name="count", default=min(2, counts[-1]))
    pairs, why = state.proposed_days(work, day, count)
    st.caption(why)
    return day, pairs


def contenders(work: state.Work) -> list[Method]:
    """The floors, then the chosen methods; one per name."""
    floors = {name: methods.get(name)() for name in FLOORS}
    return list((floors | {method.name(): method for method in work.methods}).values())


def show_tables(tables: Mapping[str, Table], bands: Sequence[str]) -> None:
    """All metrics as a table, of one band or the mean over bands, with the best of each marked."""
    band = remembered(st.radio, "Values of", ("mean", *bands), name="table-band", default="mean", horizontal=True)
    rows = []
    for name, first in next(iter(tables.values())).items():
        if band not in first:
            continue  # SAM and ERGAS are of all bands together
        record = metrics.METRICS[name]
        best = metrics.best_of(tables, name, band=band)
        digits = 5 if record.unit == "reflectance" else 4
        numbers = {title: f"{table[name][band]:.{digits}f}" for title, table in tables.items()}
        values = {title: f"**{text}** (best)" if title in best else text for title, text in numbers.items()}
        unit = "" if record.unit in ("", "1") else f" ({record.unit})"
        ideal = f"{record.best:g}".replace("inf", "no upper end")
        rows.append({"metric": f"{name}{unit}", "ideal": ideal, **values})
    st.table(rows)
    ranges = {name: metrics.METRICS[name].data_range for name in next(iter(tables.values()))}
    st.caption("Data range: " + "; ".join(f"{name} {text}" for name, text in ranges.items() if text) + ".")
    with st.expander("What the metrics mean"):
        for name in ranges:
            record = metrics.METRICS[name]
            st.markdown(f"**{name}** {record.description} {frame.paper(record.paper)}")


def as_csv(tables: Mapping[str, Table]) -> str:
    """Long table: method, metric, unit, band, value."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["method", "metric", "unit", "data range", "band", "value"])
    for title, table in tables.items():
        for name, values in table.items():
            for band, value in values.items():
                record = metrics.METRICS[name]
                writer.writerow([title, name, record.unit, record.data_range, band, repr(value)])
    return out.getvalue()


def show_images(found: Mapping[str, Scene], truth: Scene) -> None:
    """Scatter density and error map of one method and band, on one scale for all methods."""
    left, right = st.columns(2)
    with left:
        title = remembered(st.selectbox, "Method", list(found), name="looked-at", default=list(found)[-1])
    with right:
        band = remembered(st.selectbox, "Band", truth.bands, name="looked-band", default=truth.bands[-1])
    most = viz.bound_of(
        viz.difference(found[methods.get("delta").title], truth, band)
    )  # one scale for all: the floor's
    left, right = frame.halves("images")
    left.plotly_chart(viz.scatter(found[title], truth, band, name=title), key="scatter")
    right.plotly_chart(viz.error_map(found[title], truth, band, most, name=title), key="errors")


def hidden(work: state.Work, day: date) -> Item:
    """The fine image of the day, to be compared with."""
    item = state.truth_item(work, day)
    if item is None:
        raise FusionError(f"There is no fine image of {day} to compare with: choose another day.")
    return item


def show(work: state.Work, day: date, found: Mapping[str, Scene], recipe: Recipe, item: Item) -> None:
    """Everything that is measured."""
    truth = runs.image(item, recipe)
    tables = {title: metrics.evaluate(scene, truth, ratio=recipe.ratio) for title, scene in found.items()}
    st.subheader("Metrics")
    note = "" if work.coarse.origin == "observed" else f" Coarse images are {work.coarse.origin}."
    st.caption(
        f"{day} predicted from {' and '.join(str(pair[0].day) for pair in recipe.pairs)}, against the "
        f"{'known truth' if item.product != work.fine.name else 'hidden fine image'}; ratio {recipe.ratio}.{note} "
        f"{state.corrections(work)}"
    )
    show_tables(tables, truth.bands)
    st.download_button(
        "Download all numbers (CSV)", as_csv(tables), f"evaluation_{day}.csv", "text/csv", on_click="ignore"
    )
    names = [name for name, values in next(iter(tables.values())).items() if len(values) > 1]
    metric = remembered(st.selectbox, "Metric per band", names, name="metric", default=names[0])
    left, right = frame.halves("metrics")
    left.plotly_chart(viz.bars(tables, metric), key="bars")
    right.plotly_chart(viz.apa(tables), key="apa")
    st.subheader("Where and how much")
    show_images(found, truth)


with frame.page(
    "Evaluate", "Hide a day that has a fine image, predict it, and see how far the methods can be trusted.", images=True
) as work:
    day, pairs = choose_day(work)
    truth = hidden(work, day)
    chosen = weights.able(state.able(contenders(work), pairs), weights.images(work))
    recipes = [state.recipe(work, method, day, pairs) for method in chosen]
    weights.warn_seen(recipes)
    st.markdown(
        f"Runs **{', '.join(method.title for method in chosen)}**. Nearest and Delta are the floors: a method that "
        "does not beat them adds nothing. Choose more methods on Fuse."
    )
    if st.button("Evaluate", type="primary", icon=":material/monitoring:"):
        runs.start(recipes, [truth])
    rows = runs.show(recipes)
    found = {m.title: s for m, r in zip(chosen, recipes, strict=True) if (s := runs.result(r)) is not None}
    if len(found) == len(chosen):
        there = not work.remote or runs.kept_image(truth, recipes[0]) is not None
        if not there and not rows:  # the results are kept, the truth is not any more
            there, rows = views.readable(recipes[0], [truth])
        if there:
            show(work, day, found, recipes[0], truth)
    elif not found:
        st.info(f"Nothing evaluated yet. Evaluate hides {day} and predicts it from {' and '.join(map(str, pairs))}.")
    else:
        st.info("Some methods have not been run for this day: Evaluate runs the missing ones.")
    runs.wait(rows)
