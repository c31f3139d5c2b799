"""What a piece of work and the one who waits for it tell each other: how far it is, and whether to go on."""

from contextvars import ContextVar

from .errors import Cancelled


class Pulse:
    """State of one tile that is worked on in this process; written by its worker, read by the caller, or reverse."""

    fraction: float = 0.0
    stopped: bool = False


PULSE: ContextVar[Pulse | None] = ContextVar("PULSE", default=None)


def report(fraction: float) -> None:
    """Say how much of the tile is done; a method calls this between bands or steps that take long."""
    pulse = PULSE.get()
    if pulse is not None:
        pulse.fraction = fraction


def stop_if_asked() -> None:
    """Raise :class:`fusion.Cancelled` if nobody wants the result any more."""
    pulse = PULSE.get()
    if pulse is not None and pulse.stopped:
        raise Cancelled
