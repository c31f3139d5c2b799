"""Follow a call of the library that says itself how far it is, and stop it when it is not wanted any more."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

from fusion._pulse import PULSE, Pulse

LOOK = 0.2  # seconds between two looks
Value = TypeVar("Value")


def followed(call: Callable[[], Value], progress: Callable[[float], None]) -> Value:
    """Run `call` in a thread and tell `progress` what it reports; what `progress` raises stops it."""
    pulse = Pulse()

    def work() -> Value:
        PULSE.set(pulse)  # of this thread alone, which ends with the call
        return call()

    with ThreadPoolExecutor(1, thread_name_prefix="fusion-call") as pool:
        future = pool.submit(work)
        try:
            while not future.done():
                progress(pulse.fraction)
                wait([future], timeout=LOOK)
        except BaseException:
            pulse.stopped = True
            raise
        return future.result()
