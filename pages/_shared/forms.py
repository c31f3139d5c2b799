"""Forms made from dataclasses, and widgets whose value lives in the work rather than in the widget."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import streamlit as st

from fusion.methods import Param, params

Known = Sequence[str] | Mapping[str, str]


def bound(
    widget: Callable[..., Any], label: str, *, key: str, value: Any, apply: Callable[[Any], None], **more: Any
) -> Any:
    """Draw a widget that always shows `value` and hands each edit to `apply`.

    Streamlit forgets a widget's value when its page is left; the value is written before the widget is drawn, so the
    work stays the one place where it lives.
    """
    st.session_state[key] = value
    return widget(label, key=key, on_change=lambda: apply(st.session_state[key]), **more)


def remembered(
    widget: Callable[..., Any], label: str, options: Sequence[Any], *, name: str, default: Any, **more: Any
) -> Any:
    """Draw a choice that the session remembers under `name` while it is among the options; return the choice."""
    kept = st.session_state.get(name, default)
    return bound(
        widget,
        label,
        key=f"{name}-choice",
        value=kept if kept in options else default,
        apply=lambda value: st.session_state.update({name: value}),
        options=options,
        **more,
    )


def form(
    owner: type,
    values: Mapping[str, Any],
    *,
    key: str,
    apply: Callable[[str, Any], None],
    known: Mapping[str, Known] = {},
) -> None:
    """Draw the parameters of a dataclass; each edit is handed to ``apply(name, value)``.

    Those that matter only while a network is trained are left out. `known` has values to choose among of parameters
    that are free text: of a sequence another may be typed, a mapping has all there are with words for each.
    """
    asked = [item for item in params(owner) if not item.training]
    wide = [item for item in asked if isinstance(known.get(item.name), Mapping)]  # their words are long
    narrow = [item for item in asked if item not in wide]
    places = [*(st.container() for _ in wide), *((st.columns(3) if narrow else []) * len(narrow))[: len(narrow)]]
    for place, item in zip(places, [*wide, *narrow], strict=True):
        with place:
            apply_one = partial(apply, item.name)
            _field(item, values[item.name], f"{key}-{item.name}", apply_one, known.get(item.name, ()))


def _field(item: Param, value: Any, key: str, apply: Callable[[Any], None], known: Known) -> None:
    label = item.name.replace("_", " ").capitalize() + (f" ({item.unit})" if item.unit else "")
    if isinstance(known, Mapping):
        words = {**known, **({} if value in known else {value: f"{value} (does not fit, or is not here)"})}
        bound(
            st.selectbox, label, key=key, value=value, apply=apply, options=list(words), help=item.doc,
            format_func=words.__getitem__,
        )  # fmt: skip
    elif known:
        options = list(dict.fromkeys([*known, value]))
        bound(
            st.selectbox, label, key=key, value=value, apply=lambda new: new and apply(new), options=options,
            help=item.doc, accept_new_options=True,
        )  # fmt: skip
    elif item.choices:
        bound(st.selectbox, label, key=key, value=value, apply=apply, options=item.choices, help=item.doc)
    elif item.kind is bool:
        bound(st.toggle, label, key=key, value=value, apply=apply, help=item.doc)
    elif item.kind is str:
        bound(st.text_input, label, key=key, value=value, apply=apply, help=item.doc)
    else:
        low, high = (None if end is None else item.kind(end) for end in (item.low, item.high))
        whole = item.kind is int
        step = (2 if item.odd else 1) if whole else _step(item)
        bound(
            st.number_input, label, key=key, value=value, apply=apply, min_value=low, max_value=high, step=step,
            format="%d" if whole else "%g", help=_help(item),
        )  # fmt: skip


def _step(item: Param) -> float:
    """A step that moves the value visibly: a tenth of the default, or a hundredth of the range.

    It is at most a tenth of the room to an end of the range: 0.99 of at most 0.9999 goes on in thousandths.
    """
    if not item.default:
        return float(f"{((item.high or 1) - (item.low or 0)) / 100:.0e}")
    room = [abs(item.default - end) for end in (item.low, item.high) if end not in (None, item.default)]
    return float(f"{min([abs(item.default), *room]) / 10:.0e}")


def _help(item: Param) -> str:
    return f"{item.doc} Allowed: {item.allowed()}. Default {item.default:g}."
