"""The process-wide queue: one run at a time, bounded, cancelled when nobody looks any more."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from fusion.errors import Cancelled, FusionError

LOOK = 0.2  # seconds between two looks at what another job does


class Progress(Protocol):
    """How a job says how far it is; raises Cancelled when its result is not wanted any more."""

    def __call__(self, fraction: float, note: str = "") -> None:
        """Say the fraction done of what is under way, and what that is where it is not the run itself."""


Work = Callable[[Progress], Any]
State = Literal["waiting", "running", "done", "failed", "cancelled"]


@dataclass(eq=False)
class Job:
    """One run. Sessions that want its result watch it; when none is left, it stops."""

    key: str
    title: str
    alive: Callable[[str], bool]
    grace: float
    fraction: float = 0.0
    note: str = ""  # what is under way, where it is not the run itself
    started: float | None = None
    paced: float | None = None  # when what is under way began
    watchers: set[str] = field(default_factory=set)
    last_seen: float = field(default_factory=time.monotonic)
    future: "Future[Any]" = field(default_factory=Future)

    @property
    def over(self) -> bool:
        """Whether nothing more will happen."""
        return self.future.done()

    @property
    def state(self) -> State:
        """Where the job stands."""
        if not self.future.done():
            return "waiting" if self.started is None else "running"
        if self.future.cancelled() or isinstance(self.future.exception(), Cancelled):
            return "cancelled"
        return "failed" if self.future.exception() else "done"

    @property
    def remaining(self) -> float | None:
        """Seconds left at the pace so far, once there is a pace."""
        if self.paced is None or self.fraction < 0.02:
            return None
        return (time.monotonic() - self.paced) * (1 - self.fraction) / self.fraction

    def wanted(self) -> bool:
        """Heartbeat: whether a session that watches is still connected, or was so within the grace time."""
        if any(self.alive(session) for session in tuple(self.watchers)):
            self.last_seen = time.monotonic()
        return bool(self.watchers) and time.monotonic() - self.last_seen < self.grace

    def tick(self, fraction: float, note: str = "") -> None:
        """Progress callback of the run; raises Cancelled when the result is not wanted any more."""
        if self.paced is None or bool(note) != bool(self.note):
            self.paced = time.monotonic()
        self.fraction, self.note = fraction, note
        if not self.wanted():
            raise Cancelled

    def error(self) -> FusionError | None:
        """What the user can put right; any other exception is raised here, on the asking page's thread."""
        if not self.future.done() or self.state in ("done", "cancelled"):
            return None
        try:
            self.future.result()
        except FusionError as problem:
            return problem
        return None


class Queue:
    """Runs jobs in order on one worker per device; the same work asked for twice is done once.

    Jobs that mostly wait for the network have workers of their own, so that a slow server keeps nobody from fusing;
    what they compute they hand to the device with :meth:`compute`.
    """

    def __init__(
        self,
        alive: Callable[[str], bool],
        *,
        workers: int = 1,
        lines: int = 4,  # jobs that wait for the network at once
        bound: int = 36,
        per_session: int = 12,  # Evaluate asks for all chosen methods and two baselines at once
        grace: float = 5.0,
    ) -> None:
        self._alive, self._bound, self._per_session, self._grace = alive, bound, per_session, grace
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="fusion-job")
        self._lines = ThreadPoolExecutor(lines, thread_name_prefix="fusion-line")
        self._lock = threading.Lock()
        self._jobs: OrderedDict[str, Job] = OrderedDict()

    def submit(self, key: str, title: str, work: Work, session: str, *, network: bool = False) -> Job:
        """Queue `work`, or join the job of the same key that is under way; `network`: it mostly waits for servers.

        Raises
        ------
        FusionError
            If the queue is full.
        """
        with self._lock:
            self._sweep()
            job = self._jobs.get(key)
            if job is None:
                mine = sum(session in other.watchers for other in self._jobs.values())
                if len(self._jobs) >= self._bound or mine >= self._per_session:
                    raise FusionError(
                        f"The server is busy: {len(self._jobs)} runs are waiting, {mine} of them yours (at most "
                        f"{self._bound} and {self._per_session}). Try again in a moment, or cancel one."
                    )
                job = self._jobs[key] = Job(key, title, self._alive, self._grace)
                job.watchers.add(session)
                job.future = (self._lines if network else self._pool).submit(self._run, job, work)
            job.watchers.add(session)
            return job

    def compute(self, call: Callable[[], Any], progress: Progress) -> Any:
        """Run a job's computing on the device when it is its turn; for jobs of the network only."""
        future = self._pool.submit(call)
        try:
            while not future.done():
                if not future.running():
                    progress(0.0, "waiting for its turn")
                wait([future], timeout=LOOK)
        finally:
            future.cancel()
        return future.result()

    def find(self, key: str, session: str | None = None) -> Job | None:
        """Return the job of this key that is under way; with `session` it is watched from now on."""
        with self._lock:
            job = self._jobs.get(key)
            if job is None or job.over:
                return None
            if session is not None:
                job.watchers.add(session)
            return job

    def leave(self, job: Job, session: str) -> None:
        """Cancel for one session; the run stops when no other session watches it."""
        with self._lock:
            job.watchers.discard(session)
            if not job.watchers:
                job.future.cancel()
                self._jobs.pop(job.key, None)

    def position(self, job: Job) -> int:
        """How many jobs are before this one."""
        with self._lock:
            self._sweep()
            order = [other for other in self._jobs.values() if not other.over]
            return order.index(job) if job in order else 0

    def of(self, session: str) -> list[Job]:
        """Jobs under way that a session watches."""
        with self._lock:
            return [job for job in self._jobs.values() if session in job.watchers and not job.over]

    def close(self) -> None:
        """Stop the worker."""
        with self._lock:
            for job in self._jobs.values():
                job.watchers.clear()
        for pool in (self._pool, self._lines):
            pool.shutdown(wait=False, cancel_futures=True)

    def _sweep(self) -> None:
        for key, job in list(self._jobs.items()):
            if job.state == "waiting" and not job.wanted():
                job.future.cancel()
            if job.over:
                del self._jobs[key]

    def _run(self, job: Job, work: Work) -> None:
        job.started = time.monotonic()
        job.tick(0.0)
        work(job.tick)
        job.fraction = 1.0


class Flights:
    """What several jobs ask for at once is done by the first; the others get its outcome, a failure too."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flying: dict[str, Future[Any]] = {}

    def once(self, key: str, call: Callable[[], Any], progress: Progress) -> Any:
        """Return ``call()``, or the outcome of the same call that is under way in another job."""
        while True:
            with self._lock:
                other = self._flying.get(key)
                if other is None:
                    mine = self._flying[key] = Future()
            if other is None:
                return self._fly(key, mine, call)
            while not other.done():
                progress(0.0, "waiting for images that another run reads")
                wait([other], timeout=LOOK)
            if not isinstance(other.exception(), Cancelled):  # then it is for us to do it
                return other.result()

    def _fly(self, key: str, mine: "Future[Any]", call: Callable[[], Any]) -> Any:
        try:
            value = call()
        except BaseException as problem:
            mine.set_exception(problem)
            raise
        else:
            mine.set_result(value)
            return value
        finally:
            with self._lock:
                del self._flying[key]


class Shelf:
    """Keeps results and stacks by recipe text, up to a number of bytes; the least recently used goes first."""

    def __init__(self, limit: int) -> None:
        self._limit, self._used = limit, 0
        self._lock = threading.Lock()
        self._things: OrderedDict[str, tuple[Any, int]] = OrderedDict()

    def put(self, key: str, thing: Any, size: int) -> None:
        """Keep a thing of `size` bytes; one larger than the shelf is kept alone."""
        with self._lock:
            if key in self._things:
                self._used -= self._things.pop(key)[1]
            self._things[key] = (thing, size)
            self._used += size
            while self._used > self._limit and len(self._things) > 1:
                self._used -= self._things.popitem(last=False)[1][1]

    def get(self, key: str) -> Any | None:
        """Return a thing, or None if it is not kept (any more)."""
        with self._lock:
            if key not in self._things:
                return None
            self._things.move_to_end(key)
            return self._things[key][0]
