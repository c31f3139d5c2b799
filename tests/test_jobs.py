"""The queue and the shelf, without Streamlit: order, bound, cancel, heartbeat, sharing."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from fusion._pulse import report, stop_if_asked
from fusion.errors import Cancelled, FusionError
from pages._shared.jobs import Flights, Job, Progress, Queue, Shelf
from pages._shared.pulse import followed


class Gate:
    """Work that runs, ticking, until it is let through."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.running = threading.Event()
        self.stopped = threading.Event()

    def __call__(self, progress: Callable[[float], None]) -> None:
        self.running.set()
        try:
            while not self.open.wait(0.01):
                progress(0.5)
        except Cancelled:
            self.stopped.set()
            raise


@pytest.fixture
def connected() -> set[str]:
    return {"ann", "bob"}


@pytest.fixture
def queue(connected: set[str]) -> Iterator[Queue]:
    queue = Queue(connected.__contains__, bound=3, per_session=2, grace=0.2)
    yield queue
    queue.close()


def quiet(fraction: float, note: str = "") -> None:
    """Progress of somebody who does not ask."""


def until(true: Callable[[], bool], within: float = 5.0) -> None:
    end = time.monotonic() + within
    while not true():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.005)


def over(job: Job, within: float = 2.0) -> bool:
    end = time.monotonic() + within
    while not job.over and time.monotonic() < end:
        time.sleep(0.005)
    return job.over


def test_jobs_run_in_order_and_say_their_place(queue: Queue) -> None:
    gate, order = Gate(), []
    first = queue.submit("a", "A", gate, "ann")
    second = queue.submit("b", "B", lambda progress: order.append("b"), "bob")
    assert gate.running.wait(2)
    assert (first.state, second.state) == ("running", "waiting")
    assert (queue.position(first), queue.position(second)) == (0, 1)
    gate.open.set()
    assert over(second)
    assert (first.state, second.state, order) == ("done", "done", ["b"])


def test_same_work_asked_for_twice_is_one_job_and_one_leaving_does_not_stop_it(queue: Queue) -> None:
    gate = Gate()
    job = queue.submit("a", "A", gate, "ann")
    assert queue.submit("a", "A", gate, "bob") is job
    queue.leave(job, "ann")
    assert gate.running.wait(2)
    time.sleep(0.05)
    assert not job.over
    queue.leave(job, "bob")
    assert over(job)
    assert job.state == "cancelled"
    assert gate.stopped.is_set()


def test_cancel_of_a_waiting_job_never_starts_it(queue: Queue) -> None:
    gate, ran = Gate(), []
    queue.submit("a", "A", gate, "ann")
    waiting = queue.submit("b", "B", lambda progress: ran.append(1), "ann")
    queue.leave(waiting, "ann")
    gate.open.set()
    last = queue.submit("c", "C", lambda progress: None, "ann")
    assert over(last)
    assert waiting.state == "cancelled"
    assert ran == []


def test_closed_tab_frees_the_queue(queue: Queue, connected: set[str]) -> None:
    gate = Gate()
    abandoned = queue.submit("a", "A", gate, "ann")
    other = queue.submit("b", "B", lambda progress: None, "bob")
    assert gate.running.wait(2)
    connected.discard("ann")
    assert over(other)
    assert abandoned.state == "cancelled"
    assert other.state == "done"


def test_short_disconnection_does_not_stop_a_run(queue: Queue, connected: set[str]) -> None:
    gate = Gate()
    job = queue.submit("a", "A", gate, "ann")
    assert gate.running.wait(2)
    connected.discard("ann")
    time.sleep(0.05)
    connected.add("ann")
    time.sleep(0.3)
    assert not job.over
    gate.open.set()
    assert over(job)
    assert job.state == "done"


def test_a_job_says_what_is_under_way_and_its_pace_begins_anew_with_it(queue: Queue) -> None:
    told, gate = threading.Event(), threading.Event()

    def work(progress: Progress) -> None:
        progress(0.9, "reading 6 of 7 images")
        told.set()
        assert gate.wait(2)
        progress(0.0)

    job = queue.submit("a", "A", work, "ann")
    assert told.wait(2)
    assert (job.fraction, job.note) == (0.9, "reading 6 of 7 images")
    began = job.paced
    gate.set()
    assert over(job)
    assert job.note == "" and began is not None and job.paced is not None and job.paced > began


def test_cancel_stops_a_call_that_only_looks_at_its_pulse(queue: Queue) -> None:
    reading, stopped = threading.Event(), threading.Event()

    def read() -> None:
        report(0.25)
        reading.set()
        try:
            while True:
                stop_if_asked()
                time.sleep(0.005)
        except Cancelled:
            stopped.set()
            raise

    job = queue.submit("a", "A", lambda progress: followed(read, progress), "ann")
    assert reading.wait(2)
    end = time.monotonic() + 2
    while job.fraction != 0.25 and time.monotonic() < end:
        time.sleep(0.005)
    assert job.fraction == 0.25
    queue.leave(job, "ann")
    assert over(job) and job.state == "cancelled" and stopped.is_set()


def test_a_followed_call_gives_back_its_value_and_its_fault() -> None:
    assert followed(lambda: 7, lambda fraction: None) == 7

    def wrong() -> None:
        raise FusionError("all clouds")

    with pytest.raises(FusionError, match="all clouds"):
        followed(wrong, lambda fraction: None)


def test_full_queue_and_greedy_session_are_told_so(queue: Queue) -> None:
    gate = Gate()
    queue.submit("a", "A", gate, "ann")
    queue.submit("b", "B", gate, "ann")
    with pytest.raises(FusionError, match=r"busy.*2 of them yours"):
        queue.submit("c", "C", gate, "ann")
    queue.submit("c", "C", gate, "bob")
    with pytest.raises(FusionError, match="busy: 3 runs"):
        queue.submit("d", "D", gate, "bob")
    gate.open.set()


def test_user_errors_are_kept_and_bugs_reach_the_asking_thread(queue: Queue) -> None:
    def wrong(progress: Callable[[float], None]) -> None:
        raise FusionError("all clouds")

    def bug(progress: Callable[[float], None]) -> None:
        raise ZeroDivisionError

    job = queue.submit("a", "A", wrong, "ann")
    assert over(job)
    assert (job.state, str(job.error())) == ("failed", "all clouds")
    broken = queue.submit("b", "B", bug, "ann")
    assert over(broken)
    with pytest.raises(ZeroDivisionError):
        broken.error()
    after = queue.submit("c", "C", lambda progress: None, "ann")
    assert over(after)
    assert after.state == "done"


def test_finished_work_can_be_asked_for_again(queue: Queue) -> None:
    first = queue.submit("a", "A", lambda progress: None, "ann")
    assert over(first)
    second = queue.submit("a", "A", lambda progress: None, "ann")
    assert second is not first
    assert over(second)


def test_shelf_forgets_the_least_recently_used() -> None:
    shelf = Shelf(100)
    shelf.put("a", "A", 40)
    shelf.put("b", "B", 40)
    assert shelf.get("a") == "A"
    shelf.put("c", "C", 40)
    assert (shelf.get("a"), shelf.get("b"), shelf.get("c")) == ("A", None, "C")
    shelf.put("a", "AA", 70)
    assert (shelf.get("a"), shelf.get("c")) == ("AA", None)
    shelf.put("huge", "H", 1000)
    assert (shelf.get("huge"), shelf.get("a")) == ("H", None)


def test_what_waits_for_the_network_keeps_nobody_from_computing(queue: Queue) -> None:
    gate = Gate()
    slow = queue.submit("search", "Search", gate, "ann", network=True)
    assert gate.running.wait(5)
    queue.submit("fuse", "Fuse", lambda progress: None, "bob").future.result(timeout=5)
    assert slow.state == "running"
    gate.open.set()


def test_what_a_network_job_computes_takes_its_turn_on_the_device(queue: Queue) -> None:
    gate = Gate()
    queue.submit("a", "A", gate, "ann")
    assert gate.running.wait(5)
    ran: list[str] = []
    job = queue.submit("b", "B", lambda progress: queue.compute(lambda: ran.append("b"), progress), "bob", network=True)
    until(lambda: job.note == "waiting for its turn")
    assert not ran
    gate.open.set()
    job.future.result(timeout=5)
    assert ran == ["b"]


def test_a_network_job_can_be_cancelled_while_it_waits_for_the_device(queue: Queue) -> None:
    gate = Gate()
    queue.submit("a", "A", gate, "ann")
    assert gate.running.wait(5)
    ran: list[str] = []
    job = queue.submit("b", "B", lambda progress: queue.compute(lambda: ran.append("b"), progress), "bob", network=True)
    until(lambda: job.note == "waiting for its turn")
    queue.leave(job, "bob")
    until(lambda: job.over)
    gate.open.set()
    assert job.state == "cancelled" and not ran


def test_two_jobs_that_want_the_same_get_one_outcome() -> None:
    flights, made, finish = Flights(), [], threading.Event()

    def make() -> int:
        made.append(1)
        assert finish.wait(5)
        return 7

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(flights.once, "k", make, quiet)
        until(lambda: bool(made))
        second = pool.submit(flights.once, "k", make, quiet)
        finish.set()
        assert (first.result(timeout=5), second.result(timeout=5)) == (7, 7)
    assert flights.once("k", make, quiet) == 7 and len(made) in (2, 3)  # once over, it is made anew


def test_a_failure_is_shared_and_a_cancelled_one_is_taken_over() -> None:
    flights, go, tried = Flights(), threading.Event(), []

    def fail() -> int:
        tried.append(1)
        assert go.wait(5)
        raise FusionError("the server is gone") if len(tried) == 1 else Cancelled

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(flights.once, "k", fail, quiet)
        until(lambda: bool(tried))
        waits: list[str] = []
        second = pool.submit(flights.once, "k", fail, lambda fraction, note="": waits.append(note))
        until(lambda: bool(waits))
        go.set()
        for each in (first, second):
            with pytest.raises(FusionError, match="the server is gone"):
                each.result(timeout=5)
        assert len(tried) == 1
        go.clear()
        waits.clear()
        third = pool.submit(flights.once, "k", fail, quiet)  # this one is cancelled
        until(lambda: len(tried) == 2)
        fourth = pool.submit(flights.once, "k", lambda: 8, lambda fraction, note="": waits.append(note))
        until(lambda: bool(waits))
        go.set()
        with pytest.raises(Cancelled):
            third.result(timeout=5)
        assert fourth.result(timeout=5) == 8
