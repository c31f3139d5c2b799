"""Requests to catalogues and files: guarded at every step, bounded, tried again with patience, cancelled at once."""

import logging
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

import certifi
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util.connection import create_connection

from .._pulse import stop_if_asked
from ..errors import FusionError
from . import _addresses

AT_ONCE = 16  # requests of this process
TRIES = 5
PAUSE = 0.5  # seconds before the second try; doubles
LONGEST = 20.0  # seconds of one pause, whatever the server asks for
HOPS = 5  # redirects
WHOLE = 32 * 2**20  # bytes of a file that is taken whole where a server cannot give parts
SPENT = 120.0  # seconds for one answer
TIMEOUT = urllib3.Timeout(connect=10, read=30)
_AGAIN = {408, 425, 429, 500, 502, 503, 504}
_REDIRECTS = {301, 302, 303, 307, 308}
_ROOM = threading.BoundedSemaphore(AT_ONCE)


def _without_query(record: logging.LogRecord) -> bool:
    """Take signatures out of urllib3's own notes, which it writes for whoever debugs."""
    if isinstance(record.args, tuple):
        record.args = tuple(one.partition("?")[0] if isinstance(one, str) else one for one in record.args)
    return True


logging.getLogger("urllib3.connectionpool").addFilter(_without_query)

Part = TypeVar("Part")
Result = TypeVar("Result")


class Refused(FusionError):
    """The server wants other credentials (401, 403)."""


@dataclass(frozen=True)
class Answer:
    """What a server said."""

    status: int
    headers: Mapping[str, str]
    data: bytes


class _Later(Exception):
    """A failure that may pass: what happened in words, and the seconds that the server asks to wait."""

    def __init__(self, words: str, seconds: float = 0.0) -> None:
        super().__init__(words)
        self.seconds = seconds


class _Judged(HTTPConnection):
    """Connects to an address that was judged, not to whatever the name says a moment later."""

    def _new_conn(self) -> Any:
        try:
            found = _addresses.addresses(self.host, self.port)
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        last: OSError | None = None
        for address in found:
            try:
                return create_connection((address, self.port), self.timeout, socket_options=self.socket_options)
            except OSError as error:
                last = error
        if isinstance(last, TimeoutError):
            raise ConnectTimeoutError(self, "no answer") from last
        raise NewConnectionError(self, "no connection") from last


class _JudgedSafe(_Judged, HTTPSConnection):
    """The same for https; the certificate is still checked against the name."""


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Judged


class _SafePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _JudgedSafe


def ask(
    url: str,
    method: str = "GET",
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    limit: int = WHOLE,
) -> Answer:
    """Ask a server, with up to five tries.

    Parameters
    ----------
    url, method, body, headers
        What is asked. Neither the address's query nor the headers appear in errors.
    limit : int
        Bytes that an answer may have.

    Raises
    ------
    FusionError
        If the address may not be asked, or the answer is none that can be used.
    Cancelled
        If nobody wants the answer any more.
    """
    for attempt in range(TRIES):
        stop_if_asked()
        try:
            with _room():
                return _follow(url, method, body, dict(headers or {}), limit)
        except _Later as error:
            if attempt == TRIES - 1:
                raise FusionError(f"{shown(url)} was asked {TRIES} times; at last {error}. Try again later.") from None
            pause = PAUSE * 2**attempt * random.uniform(0.8, 1.2)
            rest(min(max(pause, error.seconds), LONGEST))
    raise RuntimeError("unreachable")


@contextmanager
def _room() -> Iterator[None]:
    while not _ROOM.acquire(timeout=0.1):
        stop_if_asked()
    try:
        yield
    finally:
        _ROOM.release()


def rest(seconds: float) -> None:
    """Wait, but not when nobody wants the result any more."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        stop_if_asked()
        time.sleep(min(left, 0.1))


def shown(url: str) -> str:
    """Host and file name of an address: never its query, where signatures are."""
    parts = urlsplit(url)
    name = parts.path.rstrip("/").rpartition("/")[2]
    return f"{parts.hostname}{f' ({name})' if name else ''}"


def together(
    work: Callable[[Part], Result], parts: Sequence[Part], progress: Callable[[float], None] = lambda fraction: None
) -> list[Result]:
    """Results of `work` for each part, in order; in threads, so that the caller can stop while servers are silent."""
    if not parts:
        return []
    pool = ThreadPoolExecutor(min(len(parts), AT_ONCE))
    try:
        futures = [pool.submit(copy_context().run, work, part) for part in parts]
        left = set(futures)
        while left:
            stop_if_asked()
            done, left = wait(left, timeout=0.1, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()  # raise the first failure without waiting for the others
            progress(1 - len(left) / len(parts))
        return [future.result() for future in futures]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _follow(url: str, method: str, body: bytes | None, headers: dict[str, str], limit: int) -> Answer:
    """One try: every redirect is judged like the first address."""
    for _ in range(HOPS + 1):
        parts = _addresses.check(url)
        answer, onward = _once(url, method, body, headers, limit)
        if onward is None:
            return answer
        try:
            url = urljoin(url, onward)
        except ValueError:  # whose words repeat the address
            raise FusionError(f"{shown(url)} redirects to an address that is none: its server is at fault.") from None
        if parts.scheme == "https" and urlsplit(url).scheme != "https":
            raise FusionError(f"{parts.hostname} redirects from https to an open connection: its data are not read.")
        if answer.status == 303:
            method, body = "GET", None
    raise FusionError(f"{shown(url)} redirects more than {HOPS} times: the catalogue or the server is at fault.")


def _once(url: str, method: str, body: bytes | None, headers: dict[str, str], limit: int) -> tuple[Answer, str | None]:
    """One request; with the address to go on to, if it is a redirect."""
    try:
        response = _pool(_proxy(url)).urlopen(
            method, url, body=body, headers=headers, redirect=False, retries=False, preload_content=False,
            timeout=TIMEOUT,
        )  # fmt: skip
        try:
            onward = response.headers.get("Location") if response.status in _REDIRECTS else None
            if onward is not None:
                return Answer(response.status, {}, b""), onward
            _judge(response, url)
            data = _body(response, url, "Range" in headers, limit)
            response.release_conn()  # read to its end, so the next request may use the connection
            return Answer(response.status, {k.lower(): v for k, v in response.headers.items()}, data), None
        finally:
            response.close()
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise _Later(f"the connection failed ({_kind(error)})") from None  # its text may repeat the address


def _judge(response: urllib3.BaseHTTPResponse, url: str) -> None:
    status = response.status
    if status in _AGAIN:
        words = "it wanted fewer requests" if status == 429 else "the server had a fault of its own"
        raise _Later(f"{words} (HTTP {status})", _seconds(response.headers.get("Retry-After")))
    if status in (401, 403):
        raise Refused(
            f"{shown(url)} refuses access (HTTP {status}): it wants a sign-in that this source has not, "
            "or a signature ran out. Search again, or take another catalogue."
        )
    if status in (404, 410):
        raise FusionError(
            f"{shown(url)} is not there (HTTP {status}): the catalogue is wrong or has changed; search again."
        )
    if not 200 <= status < 300:
        raise FusionError(f"{shown(url)} answered with HTTP {status}: search again, or take another catalogue.")


def _body(response: urllib3.BaseHTTPResponse, url: str, part: bool, limit: int) -> bytes:
    whole = part and response.status == 200
    most = WHOLE if whole else limit
    too_much = (
        f"{shown(url)} gives only whole files, of more than {WHOLE >> 20} MB: its server cannot be read in parts."
        if whole
        else f"{shown(url)} answers with more than {most:,} bytes, which is not read: ask for less."
    )
    if int(response.headers.get("Content-Length") or 0) > most:
        raise FusionError(too_much)
    out, end = bytearray(), time.monotonic() + SPENT
    for chunk in response.stream(2**16):
        out += chunk
        stop_if_asked()
        if len(out) > most:
            raise FusionError(too_much)
        if time.monotonic() > end:
            raise _Later(f"the answer took more than {SPENT:.0f} seconds")
    return bytes(out)


@lru_cache(maxsize=4)
def _pool(proxy: str | None) -> urllib3.PoolManager:
    trusted: dict[str, Any] = {
        "ca_certs": os.environ.get("SSL_CERT_FILE") or certifi.where(),
        "maxsize": AT_ONCE,
        "num_pools": 20,
    }
    if proxy is not None:
        return urllib3.ProxyManager(proxy, **trusted)
    manager = urllib3.PoolManager(**trusted)
    manager.pool_classes_by_scheme = {"http": _Pool, "https": _SafePool}
    return manager


def _proxy(url: str) -> str | None:
    """The owner's proxy; it makes the connection, so the name is judged before it is asked."""
    parts = urlsplit(url)
    host, port = str(parts.hostname), _addresses.port_of(parts)
    proxy = getproxies().get(parts.scheme)
    if not proxy or proxy_bypass(host):
        return None
    _addresses.addresses(host, port)
    return proxy


def _seconds(text: str | None) -> float:
    """Seconds that a server asks to wait; a date is not looked at, for clocks differ."""
    return float(text) if text and text.strip().isdecimal() else 0.0


def _kind(error: Exception) -> str:
    """Kind of a failure without its text, in which urllib3 repeats the address."""
    names = {"IncompleteRead": "cut off", "ProtocolError": "cut off", "ReadTimeoutError": "too slow"}
    names |= {"ConnectTimeoutError": "no answer", "NewConnectionError": "no connection", "SSLError": "certificate"}
    names |= {"NameResolutionError": "the host's name is unknown", "gaierror": "the host's name is unknown"}
    return names.get(type(error).__name__, type(error).__name__)
