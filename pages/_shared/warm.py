"""Import what is slow to import while somebody looks at the first page, so that Fuse opens at once."""

import logging
import threading

import streamlit as st
from streamlit.runtime import Runtime, exists, get_instance

from fusion.errors import FusionError

from .catalogue import ordered

_LOG = logging.getLogger(__name__)


@st.cache_resource(show_spinner=False)
def begin() -> threading.Thread | None:
    """Import all methods, and torch with them, in the background: once per server, and not in tests of pages."""
    if not (exists() and isinstance(get_instance(), Runtime)):  # a test has none, or a stand-in
        return None
    thread = threading.Thread(target=_imports, name="fusion-warm", daemon=True)
    thread.start()
    return thread


def _imports() -> None:
    try:
        ordered()
    except (ImportError, OSError, RuntimeError, FusionError):  # whoever opens the page that needs it is told
        _LOG.debug("The methods could not be imported ahead of time.", exc_info=True)
