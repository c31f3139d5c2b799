"""Checkpoints: weights of networks as safetensors files that say what they are, in one folder of this user.

A checkpoint's name is made of its method, bands, ratio and content, so that a recipe that names it means these very
weights. The bundled ones lie in the installed package. Nothing here needs torch, and nothing is ever unpickled.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save as pack

from ._assets import asset
from ._checkpoint_file import FORMAT, KEY, MAX_HEAD, Checkpoint, header, weights_in
from .errors import FusionError

__all__ = [
    "ENDING",
    "FORMAT",
    "KEY",
    "MAX_BYTES",
    "MAX_HEAD",
    "NAME",
    "Checkpoint",
    "arrays",
    "check_room",
    "damaged",
    "every",
    "folder",
    "is_bundled",
    "names",
    "path_of",
    "paths",
    "read",
    "remove",
    "save",
    "seen",
    "take_in",
]

ENDING = ".safetensors"
MAX_BYTES = 512 * 2**20  # of a file that is taken in
MAX_STARTS = 20  # checkpoints that each started from the next
NAME = re.compile(r"[a-z0-9_]+-[a-z0-9_-]{1,79}")  # without ending; a method, a hyphen, and what tells it from others
MAX_WHY = 600  # characters about a file that cannot be used, which holds what others wrote
UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")  # in the name of a file that is taken in


def folder() -> Path:
    """Where this user's checkpoints are kept: ``FUSION_CHECKPOINTS``, else the user's data folder.

    Raises
    ------
    FusionError
        If there is no such place.
    """
    named = os.environ.get("FUSION_CHECKPOINTS", "").strip()
    base = Path(os.environ.get("XDG_DATA_HOME") or os.environ.get("LOCALAPPDATA") or "")
    try:
        if named:
            return Path(named).expanduser().absolute()
        return (base if base.is_absolute() else Path.home() / ".local" / "share") / "meantime" / "checkpoints"
    except RuntimeError as error:
        raise FusionError(
            "This user has no home folder to keep checkpoints in: set FUSION_CHECKPOINTS to a folder."
        ) from error


def paths() -> dict[str, Path]:
    """Files of all checkpoints by name, bundled ones first; those alone where this user has no home folder.

    Raises
    ------
    FusionError
        If the folder cannot be looked into.
    """
    found: dict[str, Path] = {}
    for place in (_bundled_folder(), _own_folder()):
        if place is not None:
            own = {path.stem: path for path in _files(place) if NAME.fullmatch(path.stem)}
            found = {**own, **found}
    return dict(sorted(found.items(), key=lambda item: (not is_bundled(item[0]), item[0])))


def names(method: str | None = None) -> tuple[str, ...]:
    """Names of the checkpoints that can be read, of one method or of all; bundled ones first."""
    return tuple(row.name for row in every() if method is None or row.method == method)


def every() -> list[Checkpoint]:
    """All checkpoints that can be read; :func:`damaged` has the files that cannot."""
    out = []
    for path in paths().values():
        try:
            out.append(header(path))
        except FusionError:
            continue
    return out


def damaged() -> dict[str, str]:
    """What is wrong with each file in this user's folder that cannot be used, by the file's name with its ending.

    Characters that cannot be printed are written as escapes, in names too; :func:`remove` takes such a name.

    Raises
    ------
    FusionError
        If the folder cannot be looked into.
    """
    return {_shown(path.name): why for path, why in _damaged().items()}


def is_bundled(name: str) -> bool:
    """Whether a checkpoint comes with Meantime."""
    place = _bundled_folder()
    return place is not None and bool(NAME.fullmatch(name)) and (place / f"{name}{ENDING}").exists()


def path_of(name: str | os.PathLike[str]) -> Path:
    """Return the file of a checkpoint, given by its name or by the path that :func:`fusion.training.train` returned.

    Raises
    ------
    FusionError
        If there is none of this name, here or among the bundled ones.
    """
    text = os.fspath(name)
    for stem, path in paths().items():  # compared only: no path is built of the text
        if text in (stem, str(path)):
            return path
    have = ", ".join(paths()) or "none"
    raise FusionError(
        f"There is no checkpoint {text[:200]!r} here; there are {have}. Train one, or take in its file on the Train "
        "page or with the command checkpoints."
    )


def read(name: str | os.PathLike[str]) -> Checkpoint:
    """Read what a checkpoint says about itself.

    Raises
    ------
    FusionError
        If there is none of this name, or its file is damaged or none of ours.
    """
    return header(path_of(name))


def arrays(name: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read a checkpoint's weights by name of parameter.

    Raises
    ------
    FusionError
        As of :func:`read`.
    """
    path = path_of(name)
    header(path)
    return weights_in(path)


def save(checkpoint: Checkpoint, weights: Mapping[str, np.ndarray], place: Path | None = None) -> Path:
    """Write a checkpoint into the folder, whole or not at all; its name is made of what it is and holds.

    Raises
    ------
    FusionError
        If the folder cannot be written (full disk, no permission).
    """
    head = {key: value for key, value in asdict(checkpoint).items() if key != "name"}
    body = pack(
        {key: np.asarray(value, order="C") for key, value in sorted(weights.items())},
        {KEY: json.dumps({"format": FORMAT, **head}, sort_keys=True, allow_nan=False)},
    )
    return _write(body, checkpoint, place)


def take_in(data: bytes, name: str = "") -> Checkpoint:
    """Take a file into the folder that somebody else made, after looking at all of it; `name` is for messages alone.

    Raises
    ------
    FusionError
        If it is too large, damaged or not a checkpoint of ours (pickles and other formats are never opened), or there
        is no room for it.
    """
    if len(data) > MAX_BYTES:
        raise FusionError(
            f"A checkpoint has at most {MAX_BYTES // 2**20} MB, got {len(data) / 2**20:.0f} MB: give a smaller network."
        )
    with tempfile.TemporaryDirectory(prefix="fusion-") as place:
        draft = Path(place) / (UNSAFE.sub("_", name).strip(".")[-80:] or "The file")
        try:
            draft.write_bytes(data)
        except OSError as error:
            raise _no_room(len(data), place, error) from error
        found = header(draft)
        weights_in(draft)
    return header(_write(data, found, None))


def check_room(size: int) -> None:
    """Find out before a long work whether a checkpoint of `size` bytes can be written.

    Raises
    ------
    FusionError
        If the folder cannot be made or written, or the disk is full.
    """
    place = folder()
    try:
        place.mkdir(parents=True, exist_ok=True)
        if not os.access(place, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        if shutil.disk_usage(place).free < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        raise _no_room(size, place, error) from error


def seen(checkpoint: Checkpoint, day: date, bounds: Sequence[float]) -> bool:
    """Tell whether weights were trained on a day's fine image over an area, as far as their provenance says.

    Weights that were adapted have seen what those saw that they started from, where these are still here.

    Parameters
    ----------
    checkpoint : Checkpoint
        The weights.
    day : datetime.date
        The day that is to be predicted.
    bounds : sequence of float
        West, south, east and north of the area in degrees.
    """
    for _ in range(MAX_STARTS):
        areas = checkpoint.provenance.get("areas", ())
        if isinstance(areas, list | tuple) and any(_shows(area, day.isoformat(), bounds) for area in areas):
            return True
        try:
            checkpoint = read(str(checkpoint.provenance["adapted_from"]))
        except (KeyError, FusionError):
            return False
    return False


def _shows(area: Any, day: str, bounds: Sequence[float]) -> bool:
    """Whether an entry of a provenance has the day, and its bounds meet others; a broken entry has nothing."""
    if not isinstance(area, Mapping) or not isinstance(days := area.get("days"), list | tuple) or day not in days:
        return False
    box = area.get("bounds")
    if not isinstance(box, list | tuple) or len(box) != 4 or not all(isinstance(side, int | float) for side in box):
        return False
    west, south, east, north = box
    return bool(west < bounds[2] and bounds[0] < east and south < bounds[3] and bounds[1] < north)


def remove(name: str | os.PathLike[str]) -> None:
    """Delete a checkpoint of this user, or one of the files that :func:`damaged` has.

    Raises
    ------
    FusionError
        If there is none of this name, it is a bundled one, or the folder cannot be changed.
    """
    wrong = {_shown(path.name): path for path in _damaged()}
    path = wrong.get(os.fspath(name)) or path_of(name)  # compared only: no path is built of the text
    if path not in wrong.values() and is_bundled(path.stem):
        raise FusionError(f"The checkpoint {path.stem} comes with Meantime and stays.")
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise FusionError(f"{_shown(path.name)} cannot be deleted: {error.strerror}. Delete it by hand.") from error


def _write(body: bytes, checkpoint: Checkpoint, place: Path | None) -> Path:
    low, high = checkpoint.ratios
    ratio = f"r{low}" if low == high else f"r{low}-{high}"
    digest = hashlib.sha256(body).hexdigest()[:10]
    place = place or folder()
    path = place / f"{checkpoint.method}-{len(checkpoint.bands)}b-{ratio}-{digest}{ENDING}"
    try:
        place.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(dir=place, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(body)
            os.chmod(draft, 0o644)
            os.replace(draft, path)
        finally:
            Path(draft).unlink(missing_ok=True)
    except OSError as error:
        raise _no_room(len(body), place, error) from error
    return path


def _no_room(size: int, place: Path | str, error: OSError) -> FusionError:
    return FusionError(
        f"The checkpoint ({size / 2**20:.1f} MB) cannot be written to {place}: {error.strerror}. Make room there, or "
        "set FUSION_CHECKPOINTS to another folder."
    )


def _files(place: Path) -> list[Path]:
    """Return what ends in a folder as checkpoints do, but for hidden files."""
    try:
        return sorted(path for path in place.iterdir() if path.suffix == ENDING and not path.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):  # nothing was saved yet
        return []
    except OSError as error:
        raise FusionError(
            f"The folder of checkpoints {place} cannot be looked into: {error.strerror}. Make it readable, or set "
            "FUSION_CHECKPOINTS to another folder."
        ) from error


def _damaged() -> dict[Path, str]:
    """Return the files of this user's folder that cannot be used, and why."""
    place, found = _own_folder(), {}
    for path in [] if place is None else _files(place):
        try:
            header(path)
        except FusionError as error:
            found[path] = _shown(str(error))[:MAX_WHY]
        else:
            if not NAME.fullmatch(path.stem):
                found[path] = (
                    "It is a checkpoint, but not named as one: bring it along on the Train page, or with "
                    "checkpoints --take-in, which names it. Then delete this one."
                )
    return found


def _shown(text: str) -> str:
    """Return a text with escapes for what cannot be printed: a file's name may hold anything."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _own_folder() -> Path | None:
    try:
        return folder()
    except FusionError:  # whoever saves is told; the bundled ones are there for everybody
        return None


def _bundled_folder() -> Path | None:
    try:
        return asset("weights")
    except FileNotFoundError:
        return None
