"""How a running kernel learns that nobody wants its result any more."""

import threading
from contextvars import ContextVar

from ..errors import Cancelled

STOP: ContextVar[threading.Event | None] = ContextVar("STOP", default=None)


def stop_if_asked() -> None:
    """Raise :class:`fusion.Cancelled` if the run that this code works for was stopped."""
    event = STOP.get()
    if event is not None and event.is_set():
        raise Cancelled
