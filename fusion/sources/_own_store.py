"""Store of own files: manifests of data sets by content key, and the bytes of uploads under names made of content."""

import hashlib
import json
import os
import re
import tempfile
import time
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from .._pulse import report, stop_if_asked
from ..errors import FusionError
from ._own_look import envi_header

MEGABYTES = 4096
CHUNK = 1 << 20
KEY = re.compile(r"[0-9a-f]{24}")
FORMAT = 1
STALE = 86_400  # seconds after which what waits in the folder of what comes in is given up
_WHOLE = re.compile(r"[0-9a-f]{64}")
_ENDINGS = {"GTiff": ".tif", "netCDF": ".nc", "ENVI": ".img"}
MAX_MANIFEST = 20_000_000  # characters


def folder() -> Path:
    """Where data sets of own files are kept: ``FUSION_OWN``, else the user's data folder.

    Raises
    ------
    FusionError
        If there is no such place.
    """
    named = os.environ.get("FUSION_OWN", "").strip()
    if named:
        return Path(named).expanduser().absolute()
    base = Path(os.environ.get("XDG_DATA_HOME") or os.environ.get("LOCALAPPDATA") or "")
    try:
        return (base if base.is_absolute() else Path.home() / ".local" / "share") / "meantime" / "own"
    except RuntimeError as error:
        raise FusionError("This user has no home folder to keep own files in: set FUSION_OWN to a folder.") from error


def room(name: str, usual: int) -> int:
    """Bytes that an environment variable allows in megabytes.

    Raises
    ------
    FusionError
        If that is no whole number from 1.
    """
    named = os.environ.get(name, "").strip() or str(usual)
    if not (named.isascii() and named.isdecimal() and 1 <= int(named) <= 10**8):
        raise FusionError(
            f"{name} wants a whole number of megabytes from 1, got {named[:20]!r}: set it so, or unset it."
        )
    return int(named) * 2**20


def place(part: str) -> Path:
    """Make and return a folder of the store: "sets", "files" or "incoming".

    Raises
    ------
    FusionError
        If it cannot be made.
    """
    out = folder() / part
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FusionError(
            f"The folder of own files cannot be made ({error.strerror}): set FUSION_OWN to another."
        ) from error
    return out


def digest(path: Path) -> str:
    """SHA-256 of a file's bytes, with those of its ENVI header where it has one; kept while the file is unchanged."""
    beside = envi_header(path) if path.suffix.lower() not in (".tif", ".tiff", ".nc") else None
    files = [path] if beside is None else [path, beside]
    stats = [file.stat() for file in files]
    return _digest(tuple((str(f), s.st_size, s.st_mtime_ns) for f, s in zip(files, stats, strict=True)))


@lru_cache(maxsize=4096)
def _digest(files: tuple[tuple[str, int, int], ...]) -> str:
    whole = hashlib.sha256()
    for name, size, _ in files:
        whole.update(f"{size};".encode())
        with open(name, "rb") as file:
            while chunk := file.read(CHUNK):
                stop_if_asked()
                whole.update(chunk)
    return whole.hexdigest()


def digests(paths: Iterable[Path]) -> dict[str, str]:
    """Digest of every path, reporting how far it is."""
    todo, out = list(dict.fromkeys(paths)), {}
    for i, path in enumerate(todo):
        out[str(path)] = digest(path)
        report((i + 1) / len(todo))
    return out


def keep(path: Path, driver: str, header: Path | None = None) -> Path:
    """Move a checked upload into the store under a name made of its content; return where it lies."""
    files, whole = place("files"), digest(path)
    kept = files / f"{whole}{_ENDINGS[driver]}"
    if header is not None:
        os.replace(header, kept.with_suffix(".hdr"))
    os.replace(path, kept)
    os.utime(kept)
    make_room(keep={kept.stem})
    return kept


def make_room(keep: Iterable[str] = ()) -> int:
    """Delete uploads that were not used for longest until the rest fits ``FUSION_OWN_MB``; return bytes freed."""
    spared, most = set(keep), room("FUSION_OWN_MB", MEGABYTES)
    found = []
    for path in (*place("files").iterdir(), *place("incoming").iterdir()):
        try:
            stat = path.stat()
        except FileNotFoundError:
            continue
        if path.parent.name == "incoming" and time.time() - stat.st_mtime > STALE and path.is_file():
            path.unlink(missing_ok=True)  # ENVI pixels whose header never came, or what a crash left
        elif _WHOLE.fullmatch(path.stem):
            found.append((stat.st_mtime_ns, stat.st_size, path))
    total, freed = sum(size for _, size, _ in found), 0
    for _, size, path in sorted(found):
        if total - freed <= most:
            break
        if path.stem not in spared:
            path.unlink(missing_ok=True)
            freed += size
    return freed


def is_kept(path: Path) -> bool:
    """Tell whether a file lies in the store of uploads."""
    return path.parent == folder() / "files"


def write(key: str, manifest: dict[str, Any]) -> None:
    """Keep a manifest; it appears whole or not at all."""
    target = place("sets") / f"{key}.json"
    handle, name = tempfile.mkstemp(prefix=".", dir=target.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(manifest, file)
        os.replace(name, target)
    except OSError as error:
        raise FusionError(f"The data set cannot be kept ({error.strerror}): make room, or set FUSION_OWN.") from error
    finally:
        Path(name).unlink(missing_ok=True)


def read(key: str, what: str = "The data set is made") -> dict[str, Any]:
    """Manifest of a data set; `what` begins the message where there is none.

    Raises
    ------
    FusionError
        If there is none of this key here, or it is broken.
    """
    if not isinstance(key, str) or not KEY.fullmatch(key):
        raise FusionError(f"A data set's key wants 24 digits 0-9a-f, got {str(key)[:40]!r}: add the files again.")
    path = folder() / "sets" / f"{key}.json"
    try:
        stat = path.stat()
    except OSError as error:
        raise FusionError(
            f"{what} from own files of the key {key}, which this machine has not got. Add them on the page Own files, "
            "or with python -m fusion files FOLDER: the same files and the same answers give the same key."
        ) from error
    return _manifest(str(path), stat.st_mtime_ns)


@lru_cache(maxsize=32)
def _manifest(path: str, _changed: int) -> dict[str, Any]:
    try:
        text = Path(path).read_text(encoding="utf-8")
        body: dict[str, Any] = json.loads(text) if len(text) < MAX_MANIFEST else {}
    except (OSError, ValueError) as error:
        raise FusionError("The data set's manifest is broken: add the files again.") from error
    if body.get("format") != FORMAT:
        raise FusionError("The data set was kept by another version: add the files again.")
    return body


def keys() -> tuple[str, ...]:
    """Keys of all data sets kept here, the newest first."""
    found = [path for path in (folder() / "sets").glob("*.json") if KEY.fullmatch(path.stem)]
    return tuple(path.stem for path in sorted(found, key=lambda path: -path.stat().st_mtime_ns))


def locate(entry: dict[str, Any], sha: str) -> str:
    """Path of a data set's file, after checking that it is there and the same.

    Raises
    ------
    FusionError
        If it is gone or has changed.
    """
    kept = entry["path"] is None
    path = folder() / "files" / f"{sha}{_ENDINGS[entry['driver']]}" if kept else Path(entry["path"])
    try:
        stat = path.stat()
        if kept:
            os.utime(path)  # the least recently used go first
        elif (stat.st_size, stat.st_mtime_ns) != (entry["size"], entry["changed"]) and digest(path) != sha:
            raise FusionError(f"{entry['name']} has changed since the data set was made: look at the folder again.")
    except OSError as error:
        told = (
            "uploads that were not used for long make room for others: upload it" if kept else "put it back or add it"
        )
        raise FusionError(f"{entry['name']} is no longer there; {told} again.") from error
    return str(path)
