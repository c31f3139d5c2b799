"""Messages that may hold other people's words: shown as they are, never as Markdown."""

import re

import streamlit as st


def plain(text: str) -> str:
    """Escape Markdown, so that a name in a link or a file can neither load a picture nor pose as a link."""
    return re.sub(r"([\\`*_{}\[\]()#+!|<>$~:-])", r"\\\1", text).replace("\n", " ")


def error(text: str) -> None:
    """Show what went wrong, in words."""
    st.error(plain(text), icon=":material/error:")


def complain(text: str) -> None:
    """Show a message at the top of the next page that is drawn."""
    st.session_state.setdefault("complaints", []).append(text)


def complaints() -> list[str]:
    """Take the messages that wait, each once."""
    return list(dict.fromkeys(st.session_state.pop("complaints", [])))
