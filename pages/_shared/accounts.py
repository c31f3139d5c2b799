"""Accounts: with which identity the server asks Earth Engine, and how to set one up. Nothing secret is ever shown."""

import threading
from collections.abc import Mapping
from typing import Any

import streamlit as st
from streamlit.errors import StreamlitSecretNotFoundError

from fusion import sources
from fusion.errors import FusionError

from .messages import plain

WITH_ACCOUNT = "earthengine"


class Sign:
    """One sign-in for all sessions; one that failed is not tried again until somebody asks for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._refused = ""

    def who(self, key: Mapping[str, Any] | None) -> Any:
        """Return the identity in use, signing in where nobody is.

        Raises
        ------
        FusionError
            If nobody can sign in, in words without secrets.
        """
        module: Any = sources.get(WITH_ACCOUNT)
        with self._lock:
            if self._refused:
                raise FusionError(self._refused)
            try:
                return module.identity() or module.sign_in(key, (key or {}).get("project"))
            except FusionError as error:
                self._refused = str(error)
                raise

    def forget(self) -> None:
        """Let the next one try again."""
        with self._lock:
            self._refused = ""


@st.cache_resource(show_spinner=False)
def sign() -> Sign:
    """Return the server's sign-in."""
    return Sign()


def key() -> dict[str, Any] | None:
    """Return the service account's fields in the server's secrets, if there are any."""
    try:
        found = st.secrets.get(WITH_ACCOUNT)
    except StreamlitSecretNotFoundError:
        return None
    return dict(found) if found else None


def ensure(source: str) -> None:
    """Sign in where a source wants it, before it is asked anything.

    Raises
    ------
    FusionError
        If that does not work.
    """
    if source == WITH_ACCOUNT:
        sign().who(key())


def show(source: str) -> bool:
    """Say which account and project are in use, or what is missing and how to set it up; whether one is in use."""
    if source != WITH_ACCOUNT:
        return True
    module: Any = sources.get(WITH_ACCOUNT)
    try:
        with st.spinner("Signing in to Earth Engine"):
            who = sign().who(key())
    except FusionError as error:
        st.warning(plain(str(error)), icon=":material/key_off:")
        st.button("Try again", on_click=sign().forget, key="sign-in", icon=":material/refresh:")
        with st.expander("How to set up Earth Engine"):
            st.markdown(module.HELP)
        return False
    st.caption(f":material/key: Earth Engine: {plain(who.account)} ({who.kind}), project **{plain(who.project)}**")
    return True
