"""Disk cache of arrays and texts: what was read over the network once is not asked for again.

One file per key, in the folder ``pixels`` of ``FUSION_CACHE``. A file begins with a checksum over its own name and the
rest, so whatever is cut short, damaged or put there by others is deleted and counts as missing. Files appear whole
(written aside, then renamed), so any number of threads and processes may share the folder. ``FUSION_CACHE_MB`` bounds
it (2048); what was used longest ago goes first. Keys are never written down: a file's name is the key's hash.
"""

import json
import logging
import math
import os
import re
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from ._pulse import stop_if_asked
from .errors import FusionError

FORMAT = 1  # of the files; a new number makes all old ones misses
NOWHERE = ("off", "0", "no")  # values of either variable that switch the cache off
MEGABYTES = 2048
LEVEL = 1  # of zlib: 3 and 6 take longer and save 1 to 3 % more
SUM = 16  # bytes of a checksum
BLOCK = 4096  # bytes: what a file takes up on most disks is a multiple of this
LOOK = 1 / 64  # of the bound: after so much was written here, the folder is looked through for what others wrote
FREE = 0.9  # of the bound stays filled when files go, so that they do not go one by one
ABANDONED = 3600.0  # seconds: a file still half written after that belongs to a process that died
WAIT = 0.1  # seconds between two looks whether work is to stop
OURS = re.compile(r"[0-9a-f]{40}\.(bin|\w+\.part)")

Value = TypeVar("Value")
Spoilt = (ValueError, TypeError, zlib.error, RecursionError)  # what reading a spoilt file raises

_LOG = logging.getLogger(__name__)
_FLIGHTS: dict[str, "_Flight"] = {}  # what is being made now, by name; empty when nobody works
_FLYING = threading.Lock()  # of _FLIGHTS and the numbers waiting
_FILLED: dict[Path, tuple[int, int]] = {}  # bytes that were in a folder, and bytes written here since
_ROOM = threading.Lock()  # of _FILLED
_WARNED = threading.Event()


@dataclass(frozen=True)
class _Kind(Generic[Value]):
    """How values of one type become bytes and come back."""

    name: str
    pack: Callable[[Value], bytes]
    unpack: Callable[[bytes], Value]
    copy: Callable[[Value], Value]


@dataclass
class _Flight:
    """One thread makes a value, others wait for it."""

    landed: threading.Event = field(default_factory=threading.Event)
    waiting: int = 0
    value: Any = None  # for those who wait; None if making it failed


def arrays(key: str, make: Callable[[], Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Arrays of a key: from disk, or made and kept.

    Parameters
    ----------
    key : str
        All that the arrays depend on, without secrets.
    make : callable
        Gives the arrays by name: any number, of integers, floats or booleans. Of several threads that ask for one key
        at a time one runs it and the others wait; if it fails, the next one tries.

    Returns
    -------
    dict of str to numpy.ndarray
        The caller's own, to change at will.

    Raises
    ------
    Cancelled
        If the work that this is part of is stopped while another thread is waited for.
    FusionError
        If ``FUSION_CACHE_MB`` is no number. Whatever `make` raises is passed on.

    Examples
    --------
    >>> import numpy as np
    >>> arrays("an example", lambda: {"red": np.zeros((2, 3), "u2")})["red"].shape
    (2, 3)
    """
    return _cached(_ARRAYS, key, lambda: _numbers(make()))


def text(key: str, make: Callable[[], str]) -> str:
    """Text of a key: from disk, or made and kept; as :func:`arrays`.

    Examples
    --------
    >>> text("an example", lambda: '{"cloud": 0.1}')
    '{"cloud": 0.1}'
    """
    return _cached(_TEXT, key, make)


def size() -> int:
    """Bytes that the cache takes up on disk."""
    place = _place()
    return sum(taken for _, taken, _ in _files(place)) if place else 0


def clear() -> None:
    """Delete all that the cache holds; what is being written at this moment may stay."""
    place = _place()
    if place is None:
        return
    for used, _, path in _files(place):
        if _may_go(used, path):
            _delete(path)


def folder() -> Path | None:
    """Where this user's cached files are kept; None = nowhere."""
    named = os.environ.get("FUSION_CACHE", "").strip()
    if named.lower() in NOWHERE:
        return None
    if named:
        return Path(named)
    base = Path(os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or "")
    try:
        return (base if base.is_absolute() else Path.home() / ".cache") / "meantime"
    except RuntimeError:  # this user has no home
        return None


def limit() -> int:
    """Most bytes that the cache takes up on disk, by ``FUSION_CACHE_MB``; 0 = it is off.

    Raises
    ------
    FusionError
        If that is no whole number from 0.
    """
    named = os.environ.get("FUSION_CACHE_MB", "").strip() or str(MEGABYTES)
    if named.lower() in NOWHERE:
        return 0
    if not (named.isascii() and named.isdecimal() and len(named) <= 9):
        raise FusionError(
            f"FUSION_CACHE_MB wants a whole number of megabytes, or off; got {named[:20]!r}: set it so, or unset it."
        )
    return int(named) * 2**20


def _cached(kind: _Kind[Value], key: str, make: Callable[[], Value]) -> Value:
    name = blake2b(f"{FORMAT}\n{kind.name}\n{key}".encode("utf-8", "surrogatepass"), digest_size=20).hexdigest()
    most, place = limit(), _place()
    path = place / f"{name}.bin" if place and most else None

    def fly() -> Value:
        found = _read(path, kind, most)  # another thread may have made it since this one looked
        if found is None:
            found = make()
            if path:
                _write(path, kind.pack(found), most)
        return found

    found = _read(path, kind, most)
    return _once(name, fly, kind.copy) if found is None else found


def _once(name: str, fly: Callable[[], Value], copy: Callable[[Value], Value]) -> Value:
    """What `fly` gives in this thread, or a copy of what it gives in another that runs it already."""
    while True:
        with _FLYING:
            flight = _FLIGHTS.get(name)
            if flight is None:
                mine = _FLIGHTS[name] = _Flight()
                break
            flight.waiting += 1
        while not flight.landed.wait(WAIT):
            stop_if_asked()
        if flight.value is not None:
            return copy(flight.value)
    value = None
    try:
        value = fly()
        return value
    finally:
        with _FLYING:
            del _FLIGHTS[name]  # from here on nobody joins
        try:
            if mine.waiting and value is not None:
                mine.value = copy(value)  # before this thread's caller can change it
        finally:
            mine.landed.set()


def _read(path: Path | None, kind: _Kind[Value], most: int) -> Value | None:
    """What a file holds, which counts as a use; None if there is no good one."""
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            data = file.read() if os.fstat(file.fileno()).st_size <= most else b""
    except OSError:  # most often there is none
        return None
    try:
        if data[:SUM] != _sum(path, data[SUM:]):
            raise ValueError("damaged, or not ours")
        value = kind.unpack(data[SUM:])
    except Spoilt:
        _delete(path)
        return None
    with suppress(OSError):  # gone in the meantime, or a folder that is only read
        os.utime(path, ns=(time.time_ns(),) * 2)
    return value


def _write(path: Path, body: bytes, most: int) -> None:
    """Keep a file; that the disk is full or may only be read is no error."""
    data = _sum(path, body) + body
    if _taken(len(data)) > most:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _make_room(path.parent, _taken(len(data)), most)
        handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f"{path.stem}.", suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            os.replace(draft, path)
        finally:
            Path(draft).unlink(missing_ok=True)
    except OSError as error:
        if not _WARNED.is_set():
            _WARNED.set()
            why = error.strerror or type(error).__name__
            _LOG.warning("The cache %s keeps nothing new (%s): what is read now is read again later.", path.parent, why)


def _make_room(place: Path, more: int, most: int) -> None:
    """Delete what was used longest ago until `more` bytes have room."""
    with _ROOM:
        filled, since = _FILLED.get(place, (most, 0))
        since += more
        if filled + since <= most and since <= most * LOOK:
            _FILLED[place] = filled, since
            return
        files = sorted(_files(place))
        filled = more + sum(taken for _, taken, _ in files)
        aim = most * FREE if filled > most else most
        for used, taken, path in files:
            if filled <= aim:
                break
            if _may_go(used, path) and _delete(path):
                filled -= taken
        _FILLED[place] = filled, 0


def _files(place: Path) -> Iterator[tuple[int, int, Path]]:
    """Time of last use in ns, bytes taken up and path of all files of ours; others' files are let alone."""
    try:
        names = os.listdir(place)
    except OSError:
        return
    for name in filter(OURS.fullmatch, names):
        with suppress(OSError):  # gone in the meantime
            stat = (place / name).stat()
            yield stat.st_mtime_ns, _taken(stat.st_size), place / name


def _may_go(used: int, path: Path) -> bool:
    """Tell whether a file is whole, or was left half written long ago."""
    return path.suffix == ".bin" or time.time() - used / 1e9 > ABANDONED


def _delete(path: Path) -> bool:
    """Tell whether the file is gone; another process may have been quicker."""
    try:
        path.unlink(missing_ok=True)
    except OSError:  # read-only, or open in another process on Windows
        return False
    return True


def _place() -> Path | None:
    base = folder()
    return base / "pixels" if base else None


def _taken(length: int) -> int:
    return -(-length // BLOCK) * BLOCK


def _sum(path: Path, body: bytes) -> bytes:
    return blake2b(body, digest_size=SUM, key=path.stem.encode()).digest()


def _numbers(made: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Raise ValueError where there is more to an array than numbers: a mask would be lost, an object is no number."""
    for name, array in made.items():
        if isinstance(array, np.ma.MaskedArray) or not _plain(np.asarray(array).dtype):
            what = f"{type(array).__name__} of {np.asarray(array).dtype}"
            raise ValueError(f"The cache wants arrays of integers, floats or booleans, got {what} for {name!r}.")
    return {str(name): np.asarray(array) for name, array in made.items()}


def _plain(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "biuf"


def _pack(made: Mapping[str, np.ndarray]) -> bytes:
    """A line of JSON that says what comes, then the bytes: first bytes of all numbers, then second ones, and so on.

    So sorted, 16-bit reflectance takes a quarter less time and up to 15 % less room than as it stands.
    """
    head = json.dumps([[name, array.dtype.str, array.shape] for name, array in made.items()])
    planes = (np.frombuffer(a.tobytes(), np.uint8).reshape(-1, a.itemsize).T.tobytes() for a in made.values())
    return head.encode() + b"\n" + zlib.compress(b"".join(planes), LEVEL)


def _unpack(body: bytes) -> dict[str, np.ndarray]:
    head, _, rest = body.partition(b"\n")
    data, at, out = memoryview(zlib.decompress(rest)), 0, {}
    for name, code, shape in json.loads(head):
        dtype = np.dtype(code)
        if not _plain(dtype):
            raise ValueError(f"wanted numbers, got {dtype}")
        end = at + math.prod(shape) * dtype.itemsize
        planes = np.frombuffer(data[at:end], np.uint8).reshape(dtype.itemsize, -1)
        out[name] = np.array(planes.T, order="C").view(dtype).reshape(shape)
        at = end
    if at != len(data):
        raise ValueError(f"wanted {at} bytes, got {len(data)}")
    return out


def _unpack_text(body: bytes) -> str:
    return zlib.decompress(body).decode("utf-8", "surrogatepass")


_ARRAYS = _Kind("arrays", _pack, _unpack, lambda made: {name: array.copy() for name, array in made.items()})
_TEXT = _Kind[str](
    "text", lambda made: zlib.compress(made.encode("utf-8", "surrogatepass"), LEVEL), _unpack_text, lambda made: made
)
