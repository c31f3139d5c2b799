"""Uploads: bytes of strangers become files of the store, bounded in bytes and pixels before any pixel is read.

A name that came with an upload is only ever shown and searched for dates; files get names made of their content. What a
file is, its first bytes say; it is opened with that one driver, so that none can point to another file.
"""

import mmap
import os
import re
import stat
import tempfile
import unicodedata
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol

from ..errors import FusionError
from . import _own_hdf5, _own_store
from ._own_look import check_envi, format_of, header

MEGABYTES = 500
MAX_ENTRIES = 1000  # of a zip
MAX_RATIO = 200  # unpacked over packed bytes of a zip
MAX_NAME = 200
MAX_HEADER = 1_000_000  # bytes of an ENVI header
_RAW = (".dat", ".img", ".int", ".bsq", ".bil", ".bip", ".bin", ".raw", ".envi", "")
_ZIP = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")


class Stream(Protocol):
    """What bytes are read from: an open file or an upload."""

    def read(self, size: int = -1, /) -> bytes:
        """Return at most so many bytes; none at the end."""


@dataclass(frozen=True)
class Received:
    """One upload in the store.

    Parameters
    ----------
    name : str
        Name that a person knows it by, cleaned; it may have folders, from a zip.
    path : pathlib.Path
        Where it lies.
    kind : str
        "image", "pixels" (of ENVI, waiting for their header) or "header" (of ENVI).
    """

    name: str
    path: Path
    kind: str = "image"


def receive(name: str, stream: Stream, size: int | None = None) -> tuple[Received, ...]:
    """Take one uploaded file, or a zip of several, into the store after checking it.

    Parameters
    ----------
    name : str
        The file's name, only to be shown and searched for dates.
    stream : file-like
        Opened for bytes.
    size : int, optional
        Bytes as claimed; refused before reading if too many, and not believed.

    Returns
    -------
    tuple of Received
        One per file, for :func:`fusion.sources.local.look`.

    Raises
    ------
    FusionError
        If it is too large, of another type, claims too many pixels, holds no value, or a zip that is not safe.
    """
    shown, most = clean_name(name), _own_store.room("FUSION_UPLOAD_MB", MEGABYTES)
    if size is not None and (size < 1 or size > most):
        raise FusionError(f"{shown} has {size:,} bytes; 1 to {most:,} are taken: cut it or pack it (COG, DEFLATE).")
    handle, temporary = tempfile.mkstemp(dir=_own_store.place("incoming"))
    path = Path(temporary)
    try:
        with os.fdopen(handle, "wb") as file:
            _copy(stream, file, most, shown)
        with open(path, "rb") as file:
            start = file.read(4)
        if start in _ZIP:
            return _unpacked(path, shown, most)
        return (_taken(path, shown),)
    except OSError as error:
        raise FusionError(f"{shown} cannot be kept ({error.strerror}): make room, or set FUSION_OWN.") from error
    finally:
        path.unlink(missing_ok=True)


def clean_name(name: str) -> str:
    r"""Plain text of a file's name: the last part, without control characters, at most 200 characters.

    Examples
    --------
    >>> clean_name("../../etc/passwd"), clean_name("C:\\data\\L7.tif")
    ('passwd', 'L7.tif')
    """
    last = PurePosixPath(str(name).replace("\\", "/")).name
    text = "".join(c if c.isprintable() else "_" for c in unicodedata.normalize("NFC", last))
    return text[-MAX_NAME:].lstrip(".") or "unnamed"


def _copy(stream: Stream, file: BinaryIO, most: int, shown: str) -> int:
    """Copy bytes, at most so many."""
    total = 0
    while chunk := stream.read(_own_store.CHUNK):
        total += len(chunk)
        if total > most:
            raise FusionError(f"{shown} has more than {most:,} bytes, the most that are taken: cut it or pack it.")
        file.write(chunk)
    if not total:
        raise FusionError(f"{shown} is empty: give the whole file.")
    return total


def _taken(path: Path, shown: str) -> Received:
    """Check one file and move it into the store."""
    driver = format_of(path)
    with open(path, "rb") as file:
        start = file.read(64)
    if driver is None and start.startswith(b"ENVI"):
        if path.stat().st_size > MAX_HEADER:
            raise FusionError(f"{shown} is too long for an ENVI header: give the .hdr file itself.")
        return Received(shown, _renamed(path), "header")
    if driver is None and PurePosixPath(shown).suffix.lower() in _RAW and not _is_other(start):
        return Received(shown, _renamed(path), "pixels")
    if driver is None:
        raise FusionError(
            f"{shown} is no image that is taken here: give GeoTIFF (COG), NetCDF, ENVI with .hdr, or a zip of these."
        )
    if driver == "netCDF":
        _check_netcdf(path, shown)
    _check_image(path, shown)
    return Received(shown, _own_store.keep(path, driver))


def _is_other(start: bytes) -> bool:
    """Tell whether a file without ending is text or of a known other kind, not bare pixels."""
    return start.startswith((b"<", b"{", b"#!", b"\x7fELF", b"MZ", b"%PDF", b"\x89PNG", b"\xff\xd8\xff", b"GIF8"))


def _renamed(path: Path) -> Path:
    """Pixels and headers of ENVI wait for each other in the folder of what comes in, named by content."""
    target = path.with_name(_own_store.digest(path))
    os.replace(path, target)
    os.utime(target)
    _own_store.make_room(keep={target.name})
    return target


def _check_image(path: Path, shown: str) -> None:
    if header(path, shown).missing == 1:
        raise FusionError(f"{shown} has no pixel with a value: give an image that has some.")


def _check_netcdf(path: Path, shown: str) -> None:
    """Refuse NetCDF whose bytes would come from another file, or whose dimensions are beyond all bounds."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
        if whole[:8] == _own_hdf5.MAGIC:
            if _own_hdf5.refers_elsewhere(whole):
                raise FusionError(f"{shown} refers to other files, which is not taken: write its data into it.")
            return
        _check_classic(whole[:1_000_000], shown, len(whole))


def _check_classic(start: bytes, shown: str, size: int) -> None:
    """Read the dimensions of a classic NetCDF file; each must be one that its bytes could fill."""
    wide = 8 if start[3] == 5 else 4
    at, sizes = 4 + wide, []
    if int.from_bytes(start[at : at + 4], "big") == 10:
        count = int.from_bytes(start[at + 4 : at + 4 + wide], "big")
        at += 4 + wide
        for _ in range(min(count, 1000)):
            length = int.from_bytes(start[at : at + wide], "big")
            at += wide + (length + 3) // 4 * 4
            sizes.append(int.from_bytes(start[at : at + wide], "big"))
            at += wide
    if any(one > size for one in sizes):
        raise FusionError(f"{shown} claims a dimension of {max(sizes):,}, more than it has bytes: give the whole file.")


def _unpacked(path: Path, shown: str, most: int) -> tuple[Received, ...]:
    """Take every image of a zip; nothing is written anywhere but under names made of content."""
    out: list[Received] = []
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            _check_zip(entries, shown, most, path.stat().st_size)
            left = most
            for entry in entries:
                if _is_hidden(entry.filename) or not _may_be_image(entry.filename):
                    continue
                handle, temporary = tempfile.mkstemp(dir=path.parent)
                part = Path(temporary)
                try:
                    with os.fdopen(handle, "wb") as file, archive.open(entry) as stream:
                        left -= _copy(stream, file, left, shown)
                    with open(part, "rb") as file:
                        if file.read(4) in _ZIP:
                            raise FusionError(f"{shown} holds a zip within a zip: unpack the inner one.")
                    out.append(_taken(part, _inner_name(entry.filename)))
                finally:
                    part.unlink(missing_ok=True)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, RuntimeError) as error:
        raise FusionError(f"{shown} is a zip that cannot be unpacked ({error}): pack it again.") from error
    if not out:
        raise FusionError(f"{shown} holds no image: pack GeoTIFF, NetCDF or ENVI with its .hdr.")
    return tuple(out)


def _check_zip(entries: Sequence[zipfile.ZipInfo], shown: str, most: int, packed: int) -> None:
    if len(entries) > MAX_ENTRIES:
        raise FusionError(f"{shown} holds {len(entries)} files, at most {MAX_ENTRIES} are taken: pack fewer.")
    total = sum(entry.file_size for entry in entries)
    if total > most or total > MAX_RATIO * max(packed, 1):
        raise FusionError(
            f"{shown} unpacks from {packed:,} to {total:,} bytes; at most {most:,} and {MAX_RATIO} times its size are "
            "taken: pack fewer images, or upload them one by one."
        )
    for entry in entries:
        parts = PurePosixPath(entry.filename.replace("\\", "/")).parts
        if entry.filename.startswith(("/", "\\")) or ".." in parts or re.match(r"[A-Za-z]:", entry.filename):
            raise FusionError(f"{shown} holds a path that leads out of it: pack the files again without paths.")
        if entry.flag_bits & 1:
            raise FusionError(f"{shown} is locked with a password: pack it without.")
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise FusionError(f"{shown} holds a link instead of a file: pack the files themselves.")
        if PurePosixPath(entry.filename.lower()).suffix in (".zip", ".gz", ".tgz", ".7z", ".rar", ".xz", ".bz2"):
            raise FusionError(f"{shown} holds an archive within a zip: unpack the inner one.")


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts if part not in ("..", "."))


def _may_be_image(name: str) -> bool:
    """Leave out texts and pictures that lie beside images."""
    return PurePosixPath(name.lower()).suffix in (".tif", ".tiff", ".nc", ".nc4", ".cdf", ".h5", ".hdr", *_RAW)


def _inner_name(name: str) -> str:
    """Name within a zip, each folder cleaned."""
    parts = [clean_name(part) for part in PurePosixPath(name.replace("\\", "/")).parts[-4:]]
    return "/".join(parts)


def paired(uploads: Sequence[Received]) -> list[Received]:
    """Bring ENVI pixels and headers together by their names; images are passed on.

    Raises
    ------
    FusionError
        If pixels have no header, or are fewer than it says.
    """
    out = [one for one in uploads if one.kind == "image"]
    headers = {_stem(one.name): one for one in uploads if one.kind == "header"}
    for one in uploads:
        if one.kind != "pixels":
            continue
        beside = headers.get(one.name.lower()) or headers.get(_stem(one.name))
        if beside is None:
            raise FusionError(f"{one.name} is no GeoTIFF or NetCDF; if it is ENVI, its header .hdr is missing: add it.")
        out.append(_together(one, beside))
    return out


def _stem(name: str) -> str:
    return str(PurePosixPath(name.lower()).with_suffix(""))


def _together(pixels: Received, beside: Received) -> Received:
    """Put pixels and header into the store side by side, after checking them."""
    with tempfile.TemporaryDirectory(dir=_own_store.place("incoming")) as folder:
        part, head = Path(folder) / "pixels.img", Path(folder) / "pixels.hdr"
        try:
            os.link(pixels.path, part)
            os.link(beside.path, head)
        except OSError as error:
            raise FusionError(f"{pixels.name} is no longer there: upload it and its header again.") from error
        check_envi(part, pixels.name)
        _check_image(part, pixels.name)
        return Received(pixels.name, _own_store.keep(part, "ENVI", head))
