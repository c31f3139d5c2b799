"""Own files as a person sees them: the table and its corrections, questions, outlines and quick-looks."""

import math
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np
import streamlit as st

from fusion import viz
from fusion.area import rectangle
from fusion.scene import Scene, identity_geobox
from fusion.sources.local import HUGE, File, Header, Proposal, Question, raster

from . import files, frame, maps, messages, runs
from .forms import remembered
from .maps import Ring

SIDE = 420  # pixels of a quick-look
LEFT_OUT = "left out"  # how "aside" is called on the page
USES = ("fine", "coarse", "mask", "classes", LEFT_OUT)
EDITED = {"bands": "bands", "scale": "scale", "nodata": "nodata"}  # columns and kinds of their answers, per group
CLOSED = ("role", "place", "use", "mask", "nodata")  # kinds of questions that have no answers but their choices
EDITABLE = ("what it is", "day", "bands", "scale", "nodata")
MOST_ASKED = 8  # questions at once; the rest follow, or are answered in the table
KINDS = {
    "pixels": "The images line up pixel for pixel, and what the coarse files say of their place is not used.",
    "georeference": "Each file lies where it says; the coarse images are read there, off the fine ones' pixels.",
}


def table(shown: Proposal) -> None:
    """All files; what was guessed can be corrected in place."""
    key = f"own-table-{files.turn()}"

    def edited() -> None:
        files.answer(answers_of(shown, st.session_state[key]["edited_rows"]))

    column = st.column_config
    lines = rows(shown)
    st.data_editor(
        lines, key=key, on_change=edited, hide_index=True, disabled=[name for name in lines[0] if name not in EDITABLE],
        column_config={
            "file": column.TextColumn(width=290, pinned=True),
            "what it is": column.SelectboxColumn(options=list(USES), help="For all files alike."),
            "day": column.TextColumn(help="YYYY-MM-DD; first day/days between where every layer is a day."),
            "bands": column.TextColumn(help="In the file's order, with commas; - for a band to skip. For all alike."),
            "scale": column.TextColumn(
                help="Reflectance = number x scale + offset, as scale or scale,offset: 0.0001 for 10,000 = 1; "
                "0.0000275,-0.2 for Landsat Collection 2. For all files alike."
            ),
            "nodata": column.TextColumn(help="Number that means missing, or none. For all files alike."),
            "values": column.TextColumn("values, 1 to 99 %", help="Of a sample of the numbers, before scaling."),
            "missing": column.TextColumn(help="Share of a sample without a value."),
        },
    )  # fmt: skip
    st.caption(
        "Double-click a cell of *what it is*, *day*, *bands*, *scale* or *nodata* to correct it. Files whose names "
        "differ in numbers only are alike and change together, but for the day."
    )


def questions(shown: Proposal) -> None:
    """What the files do not say, each with its reason and a suggestion."""
    if not shown.questions:
        return
    asked = shown.questions[:MOST_ASKED]
    rest = len(shown.questions) - len(asked)
    st.subheader("What only you can know")
    with st.form(f"own-questions-{files.turn()}"):
        answers = {question.id: ask(question) for question in asked}
        if st.form_submit_button("Answer", type="primary", icon=":material/check:"):
            files.answer(answers)
            st.rerun()
    if rest:
        st.caption(f"{rest} more questions follow; days can also be typed into the table.")


def looks(shown: Proposal) -> None:
    """Footprints on the map and one fine and one coarse image beside each other."""
    known = days(shown)
    outlines = footprints(shown)
    place, pictures = frame.halves("looks") if outlines else (None, st.container())
    if place is not None:
        with place:
            maps.draw_map("own", area=None, footprints=outlines, drawing=False, height=380)
            st.caption("Where the files say they lie. The area to fuse is drawn on the Area page.")
    with pictures:
        if not known:
            return
        day = remembered(st.selectbox, "Quick-look of", known, name="own-day", default=known[0])
        for column, use in zip(st.columns(2), ("fine", "coarse"), strict=True):
            picture = quick_look(shown, use, day)
            if picture is None:
                column.caption(f"No {use} image of {day}.")
            else:
                column.image(picture, caption=f"{use}, {day}", width="stretch")


def rows(shown: Proposal) -> list[dict[str, str]]:
    """One row per file for the table."""
    return [_row(file, shown) for file in shown.files]


def _row(file: File, shown: Proposal) -> dict[str, str]:
    facts = shown.plan.facts.get(file.name)
    known = bool(file.dtype)
    return {
        "file": file.name,
        "what it is": LEFT_OUT if file.use == "aside" else file.use,
        "day": _days(file.days),
        "sensor": file.sensor,
        "bands": ", ".join(file.bands),
        "unit": file.unit,
        "values": f"{file.low:.4g} to {file.high:.4g}" if known and math.isfinite(file.low) else "",
        "missing": f"{file.missing:.1%}" if known else "",
        "grid": _grid(file) if known else "",
        "scale": facts.scale if facts else "",
        "nodata": ", ".join(f"{value:g}" for value in file.nodata) or ("none" if known else ""),
        "why": "; ".join(file.why),
    }


def _days(days: Sequence[str]) -> str:
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]} ({len(days)} days)" if days else ""


def _grid(file: File) -> str:
    size = f"{file.shape[1]} x {file.shape[0]}"
    pixel = f", {file.pixel:.4g} m" if file.pixel else ", pixel size unknown"
    return f"{size}{pixel}, {file.crs or 'no CRS'}"


def answers_of(shown: Proposal, changes: Mapping[int, Mapping[str, Any]]) -> dict[str, str]:
    """Answers that stand for edits of the table: row number -> column -> new value."""
    out: dict[str, str] = {}
    for number, cells in changes.items():
        file = shown.files[number]
        for column, value in cells.items():
            text = str(value or "").strip()
            if column == "what it is":
                use = "aside" if text == LEFT_OUT else text
                out[f"role:{file.group}"] = use
                if file.use == "aside" and use in ("fine", "coarse"):  # it may have lost against another group
                    out[f"use:{use}"] = file.group
            elif column == "day":
                out[f"series:{file.group}" if "/" in text else f"day:{file.name}"] = text
            elif column in EDITED:
                joined = ",".join(part.strip() for part in text.split(","))
                out[f"{EDITED[column]}:{file.group}"] = joined
    return out


def ask(question: Question) -> Any:
    """Draw a question as a widget that holds its suggestion; return what it holds."""
    kind, key = question.id.partition(":")[0], f"own-q-{files.turn()}-{question.id}"
    st.markdown(f"**{messages.plain(question.text)}**")
    st.caption(f"Why this is asked: {messages.plain(question.why)}.")
    values = [value for value, _ in question.choices]
    words = {value: LEFT_OUT if text == "aside" else text for value, text in question.choices}
    at = values.index(question.suggestion) if question.suggestion in values else None
    name = f"Answer to: {messages.plain(question.text)}"
    if kind == "day":
        return st.date_input(name, value=None, key=key, label_visibility="collapsed", min_value=date(1970, 1, 1))
    if kind in CLOSED and values:
        captions = [KINDS.get(value, "") for value in values]
        return st.radio(
            name, values, at, key=key, format_func=lambda value: messages.plain(words[value]),
            captions=captions if any(captions) else None, label_visibility="collapsed",
        )  # fmt: skip
    if values:
        return st.selectbox(
            name, values, at, key=key, label_visibility="collapsed", accept_new_options=True,
            format_func=lambda value: choice(value, words.get(value, value)),
            placeholder="Choose, or type another answer",
        )  # fmt: skip
    return st.text_input(name, question.suggestion or "", key=key, label_visibility="collapsed")


def choice(value: str, words: str) -> str:
    """A choice in a list: its value with what it means, each thing once."""
    return words if words.startswith(value) else f"{value}: {words}"


def footprints(shown: Proposal) -> list[tuple[str, Ring]]:
    """Outlines for the map, one for all files of a side that cover the same ground; none without a CRS."""
    found: dict[tuple[str, tuple[float, ...]], int] = {}
    rings: dict[tuple[str, tuple[float, ...]], Ring] = {}
    for file in shown.files:
        if file.bounds is None or not file.crs or file.use not in ("fine", "coarse"):
            continue
        key = file.use, tuple(round(value, 3) for value in file.bounds)
        found[key] = found.get(key, 0) + 1
        rings[key] = rectangle(*file.bounds)
    return [(f"{use}, {count} file{'s' if count > 1 else ''}", rings[use, box]) for (use, box), count in found.items()]


def days(shown: Proposal) -> list[str]:
    """Days that have an image, those with both first."""
    sides = [{day for file in shown.files if file.use == use for day in file.days if day} for use in ("fine", "coarse")]
    return [*sorted(sides[0] & sides[1]), *sorted(sides[0] ^ sides[1])]


def quick_look(shown: Proposal, use: str, day: str) -> bytes | None:
    """PNG of a side's image of a day, from a few of its pixels; None where there is none.

    Raises
    ------
    FusionError
        If the file cannot be read any more.
    """
    parts = _parts(shown, use, day)
    if not parts:
        return None
    bands = tuple(parts)
    picked = next(iter(viz.combinations(bands).values())) if len(bands) > 1 else bands
    heads = {head.name: head for head in shown.headers}
    names = "".join(f"{parts[band]}{heads[parts[band][0]].path}" for band in picked)
    kept: bytes | None = runs.shelf().get(f"quick-look:{names}")
    if kept is None:
        layers = [_few(heads[name], layer, index, shown) for name, layer, index in (parts[band] for band in picked)]
        shape = min(layer.shape for layer in layers)
        data = np.stack([layer[: shape[0], : shape[1]] for layer in layers])
        scene = Scene(data, identity_geobox(*shape), tuple(picked), date.fromisoformat(day))
        if not np.isfinite(data).any():
            return None
        zoom = max(1, SIDE // max(shape))
        kept = viz.png(viz.rgba(scene, picked, viz.limits([scene], picked)), zoom=zoom)
        runs.shelf().put(f"quick-look:{names}", kept, len(kept))
    return kept


def _parts(shown: Proposal, use: str, day: str) -> dict[str, tuple[str, str, int]]:
    """Where each band of an image lies: by the plan, or before it is complete by the order in the file."""
    for image in shown.plan.images:
        if image.role == use and image.day.isoformat() == day:
            return dict(image.parts)
    for head in shown.headers:
        facts = shown.plan.facts[head.name]
        if facts.use == use and date.fromisoformat(day) in facts.days:
            step = facts.days.index(date.fromisoformat(day))
            if facts.series:
                return {"band": (head.name, "", step)}
            names = facts.bands if len(facts.bands) == head.count else tuple(f"band {i}" for i in range(head.count))
            if head.layers:
                return {name: (head.name, layer, step) for name, layer in zip(names, head.layers, strict=False)}
            return {name: (head.name, "", step * head.count + i) for i, name in enumerate(names) if name != "-"}
    return {}


def _few(head: Header, layer: str, index: int, shown: Proposal) -> np.ndarray:
    """Single pixels of one band, missing as NaN."""
    shape = tuple(max(1, min(side, round(side * SIDE / max(head.shape)))) for side in head.shape)
    with raster(head.path, head.driver, layer) as file:
        numbers = file.read(index + 1, out_shape=shape).astype(np.float32)
    numbers[np.isin(numbers, shown.plan.facts[head.name].nodata) | (np.abs(numbers) > HUGE)] = np.nan
    return np.asarray(numbers)
