"""Calls to Earth Engine: 40 at once in this process, again after passing faults, stoppable at any moment."""

import random
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from typing import Any, TypeVar

import google.auth.exceptions
import googleapiclient.errors  # type: ignore[import-untyped]
import requests

from .._pulse import stop_if_asked
from ..errors import FusionError

AT_ONCE = 40  # requests that Earth Engine answers at a time for a project
TRIES = 6
FIRST_WAIT = 0.5  # seconds before the second try; doubled each time
LONGEST_WAIT = 30.0
STEP = 0.1  # seconds between two looks whether work is to stop
PASSING = (429, 500, 502, 503, 504)

# What a call may raise that is no fault of this program; Earth Engine's own class is added by who may import it.
FAULTS: tuple[type[Exception], ...] = (
    google.auth.exceptions.GoogleAuthError, googleapiclient.errors.Error, requests.RequestException, OSError,
    ValueError, EOFError,
)  # fmt: skip
_SECRET = re.compile(r"-----BEGIN.*|ya29\.\S+|\b[A-Za-z0-9+/_=-]{60,}|Bearer \S+", re.DOTALL)

_POOL = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="fusion-earthengine")
Value = TypeVar("Value")


class TooLarge(FusionError):
    """An answer would have more bytes than Earth Engine sends at once."""


def call(ask: Callable[[], Value], what: str, project: str, faults: tuple[type[Exception], ...]) -> Value:
    """Answer of a request, patiently.

    Parameters
    ----------
    ask : callable
        Sends one request; runs in another thread, so that a slow one can be left.
    what : str
        What is wanted, for the error.
    project : str
        Named in errors that a project's settings cause.
    faults : tuple of exception classes
        What `ask` may raise.

    Raises
    ------
    FusionError
        If Earth Engine refuses, or does not answer after ``TRIES`` tries.
    Cancelled
        If the work that this is part of is stopped.
    """
    for turn in range(1, TRIES + 1):
        try:
            return _watched(ask)
        except faults as error:
            if isinstance(error, FusionError):
                raise
            if not _passes(error):
                raise in_words(error, what, project) from None
            if turn == TRIES:
                raise FusionError(
                    f"Earth Engine wants patience: {what} failed {TRIES} times, last with: {_told(error)}. "
                    "Try again in some minutes; what was read so far is kept."
                ) from None
            _sleep(min(FIRST_WAIT * 2 ** (turn - 1), LONGEST_WAIT) * random.uniform(0.5, 1))
    raise AssertionError("unreachable")


def status(error: BaseException) -> int:
    """HTTP status of an error, 0 if it had none; the client keeps it only in the exception it came from."""
    for one in (error, error.__context__, error.__cause__):
        found = getattr(getattr(one, "resp", None), "status", None)
        if found is not None:
            return int(found)
    return 0


def in_words(error: BaseException, what: str, project: str) -> FusionError:
    """What a refusal means and what to do about it; nothing of the credentials is in it."""
    told, code = _told(error), status(error)
    if isinstance(error, google.auth.exceptions.GoogleAuthError) or code == 401:
        return FusionError(_not_signed_in(str(error), what))
    if code == 403:
        return FusionError(_not_allowed(told, what, project))
    if "must be less than or equal to" in told and "bytes" in told:
        return TooLarge(f"Earth Engine sends at most 48 MB at once; {what} has more ({told}). Choose a smaller area.")
    if "did not match any bands" in told:
        return FusionError(f"Earth Engine has no such band for {what}: {told}. Choose other bands or another day.")
    if code == 404 or "not found" in told:
        return FusionError(f"Earth Engine has no image for {what}: {told}. Search anew and choose another item.")
    return FusionError(f"Earth Engine wanted something else for {what}: {told}. Choose a smaller area or another day.")


def _not_signed_in(text: str, what: str) -> str:
    if re.search(r"short-lived token|\biat\b|clock|reasonable timeframe|too early", text, re.IGNORECASE):
        return (
            f"Earth Engine did not accept the sign-in for {what}: by its clock the sign-in is too old or not yet "
            "valid. Set this computer's date and time right, or sign in anew, and try again."
        )
    return (
        f"Earth Engine did not accept the sign-in for {what}: the key or sign-in is wrong, withdrawn or expired. "
        "Make a new key for the service account, or run `earthengine authenticate` on this computer, and try again."
    )


def _not_allowed(told: str, what: str, project: str) -> str:
    begin = f"Earth Engine does not let the project {project!r} have {what}: {told} "
    if "has not been used" in told or "disabled" in told:
        return begin + f"Enable the Earth Engine API for the project {project!r} in the Google Cloud console."
    if "regist" in told:
        return begin + f"Register the project {project!r} at https://code.earthengine.google.com/register."
    return begin + (
        "Give the account the roles Earth Engine Resource Viewer and Service Usage Consumer in it, enable the Earth "
        "Engine API, and register the project at https://code.earthengine.google.com/register."
    )


def _passes(error: BaseException) -> bool:
    """Whether the same request may succeed later."""
    if code := status(error):
        return code in PASSING
    if isinstance(error, google.auth.exceptions.GoogleAuthError):
        return isinstance(error, google.auth.exceptions.TransportError)
    return isinstance(error, (requests.RequestException, OSError, ValueError, EOFError, googleapiclient.errors.Error))


def _told(error: BaseException) -> str:
    """First words of a message, without anything that may be a secret."""
    words = {429: "too many requests", 500: "internal error", 503: "not available"}.get(status(error), "")
    if isinstance(error, TimeoutError | requests.Timeout):
        return "no answer in time"
    if isinstance(error, ConnectionError | requests.RequestException):
        return "the connection broke off"
    if isinstance(error, ValueError | EOFError | googleapiclient.errors.Error) and not status(error):
        return "an answer that is cut short or damaged"
    text = " ".join(_SECRET.sub("...", str(error)).split())[:300].rstrip(".")
    return f"{words}: {text}" if words and text else words or text or type(error).__name__


def _watched(ask: Callable[[], Value]) -> Value:
    """Run in the pool, looking now and then whether the answer is still wanted."""
    stop_if_asked()
    future: Future[Value] = _POOL.submit(ask)
    try:
        while True:
            try:
                return future.result(STEP)
            except NotYet:
                if future.done():  # the request itself ran out of time
                    return future.result()
                stop_if_asked()
    finally:
        future.cancel()  # no effect unless it is still waiting for its turn


def _sleep(seconds: float) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        stop_if_asked()
        threading.Event().wait(min(left, STEP))


def plain_number(value: Any) -> float:
    """Return the number of an answer, or raise ValueError: what comes over the network may be anything."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"wanted a number, got {type(value).__name__}")
    return float(value)
