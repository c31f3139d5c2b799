"""Checkpoints: weights of networks as safetensors files that say what they are, in one folder of this user.

A checkpoint's name is made of its method, bands, ratio and content, so that a recipe that names it means these very
weights. The bundled ones lie in the installed package. Nothing here needs torch, and nothing is ever unpickled.
"""

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as pack

from ._assets import asset
from .errors import FusionError

FORMAT = 1
KEY = "meantime"  # of the metadata
ENDING = ".safetensors"
MAX_BYTES = 512 * 2**20  # of a file that is taken in
MAX_HEAD = 1_000_000  # characters of metadata
MAX_RATIO = 1000
MAX_STARTS = 20  # checkpoints that each started from the next
NAME = re.compile(r"[a-z0-9_]+-[a-z0-9_-]{1,79}")  # without ending; a method, a hyphen, and what tells it from others
METHOD = re.compile(r"[a-z0-9_]{1,40}")


@dataclass(frozen=True)
class Checkpoint:
    """What a file of weights says about itself.

    Parameters
    ----------
    method, parameters
        The network: name and parameters of its method while it was trained.
    bands : tuple of str
        Bands in the order of the network's channels.
    ratios : (int, int)
        Smallest and largest ratio that the weights are for.
    mean, scale : tuple of float
        Per band: networks see ``(reflectance - mean) / scale``.
    title : str
        One line for lists.
    metrics : mapping
        Of the hidden date, or empty: ``{"RMSE": ..., "floors": {"nearest": ..., "delta": ...}}`` and more.
    provenance : mapping
        Where the weights come from: data, days, area, seed, steps, licence; plain JSON.
    name : str
        File name without ending; "" while it is not saved.
    """

    method: str
    parameters: Mapping[str, Any]
    bands: tuple[str, ...]
    ratios: tuple[int, int]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    title: str = ""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""

    def misfit(self, bands: tuple[str, ...], ratio: int) -> str:
        """Say why these weights are not for a stack of such bands and ratio; "" if they are."""
        if set(self.bands) != set(bands):
            return (
                f"The checkpoint {self.name} is for the bands {', '.join(self.bands)}, got {', '.join(bands)}: "
                "choose these bands, another checkpoint, or train one on your own pairs."
            )
        low, high = self.ratios
        if not low <= ratio <= high:
            wanted = f"ratio {low}" if low == high else f"ratios from {low} to {high}"
            return (
                f"The checkpoint {self.name} is for {wanted}, got ratio {ratio}: choose another checkpoint, or adapt "
                "this one to your own pairs."
            )
        return ""


def folder() -> Path:
    """Where this user's checkpoints are kept: ``FUSION_CHECKPOINTS``, else the user's data folder.

    Raises
    ------
    FusionError
        If there is no such place.
    """
    named = os.environ.get("FUSION_CHECKPOINTS", "").strip()
    if named:
        return Path(named).expanduser().absolute()
    base = Path(os.environ.get("XDG_DATA_HOME") or os.environ.get("LOCALAPPDATA") or "")
    try:
        return (base if base.is_absolute() else Path.home() / ".local" / "share") / "meantime" / "checkpoints"
    except RuntimeError as error:
        raise FusionError(
            "This user has no home folder to keep checkpoints in: set FUSION_CHECKPOINTS to a folder."
        ) from error


def paths() -> dict[str, Path]:
    """Files of all checkpoints by name, bundled ones first.

    Raises
    ------
    FusionError
        If the folder cannot be looked into.
    """
    found: dict[str, Path] = {}
    for place in (_bundled_folder(), folder()):
        if place is not None and place.is_dir():
            found = {**{path.stem: path for path in _files(place)}, **found}
    return dict(sorted(found.items(), key=lambda item: (not is_bundled(item[0]), item[0])))


def names(method: str | None = None) -> tuple[str, ...]:
    """Names of the checkpoints that can be read, of one method or of all; bundled ones first."""
    return tuple(row.name for row in every() if method is None or row.method == method)


def every() -> list[Checkpoint]:
    """All checkpoints that can be read; a file that cannot is left out."""
    out = []
    for path in paths().values():
        try:
            out.append(_header(path))
        except FusionError:
            continue
    return out


def is_bundled(name: str) -> bool:
    """Whether a checkpoint comes with Meantime."""
    place = _bundled_folder()
    return place is not None and bool(NAME.fullmatch(name)) and (place / f"{name}{ENDING}").exists()


def path_of(name: str) -> Path:
    """Return the file of a checkpoint, given by its name or by the path that :func:`fusion.training.train` returned.

    Raises
    ------
    FusionError
        If there is none of this name, here or among the bundled ones.
    """
    for stem, path in paths().items():  # compared only: no path is built of the text
        if name in (stem, str(path)):
            return path
    have = ", ".join(paths()) or "none"
    raise FusionError(
        f"There is no checkpoint {name[:200]!r} here; there are {have}. Train one, or take in its file on the Train "
        "page or with the command checkpoints."
    )


def read(name: str) -> Checkpoint:
    """Read what a checkpoint says about itself.

    Raises
    ------
    FusionError
        If there is none of this name, or its file is damaged or none of ours.
    """
    return _header(path_of(name))


def arrays(name: str) -> dict[str, np.ndarray]:
    """Read a checkpoint's weights by name of parameter.

    Raises
    ------
    FusionError
        As of :func:`read`.
    """
    path = path_of(name)
    _header(path)
    return _weights(path)


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


def take_in(data: bytes) -> Checkpoint:
    """Take a file into the folder that somebody else made, after looking at all of it.

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
        draft = Path(place) / f"given{ENDING}"
        try:
            draft.write_bytes(data)
        except OSError as error:
            raise _no_room(len(data), place, error) from error
        found = _header(draft)
        _weights(draft)
    return _header(_write(data, found, None))


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


def remove(name: str) -> None:
    """Delete a checkpoint of this user.

    Raises
    ------
    FusionError
        If there is none of this name, or it is a bundled one.
    """
    path = path_of(name)
    if is_bundled(path.stem):
        raise FusionError(f"The checkpoint {path.stem} comes with Meantime and stays.")
    path.unlink(missing_ok=True)


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
    """Return the files of a folder that are named as checkpoints are."""
    try:
        return sorted(path for path in place.iterdir() if path.suffix == ENDING and NAME.fullmatch(path.stem))
    except OSError as error:
        raise FusionError(
            f"The folder of checkpoints {place} cannot be looked into: {error.strerror}. Make it readable, or set "
            "FUSION_CHECKPOINTS to another folder."
        ) from error


def _weights(path: Path) -> dict[str, np.ndarray]:
    """Read all weights of a file; FusionError if they cannot be read, or some are no finite numbers."""
    try:
        with safe_open(str(path), framework="np") as file:
            found = {key: file.get_tensor(key) for key in file.keys()}
        bad = [key for key, value in found.items() if not np.isfinite(value).all()]
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise _broken(path.name, error) from error
    if bad:
        raise FusionError(f"The weights {bad[0][:200]} of {path.name} are not all finite: it cannot be used.")
    return found


def _bundled_folder() -> Path | None:
    try:
        return asset("weights")
    except FileNotFoundError:
        return None


def _header(path: Path) -> Checkpoint:
    try:
        stat = path.stat()
    except OSError as error:
        raise _broken(path.name, error) from error
    return _read_header(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=256)
def _read_header(path: Path, size: int, changed: int) -> Checkpoint:
    try:
        with safe_open(str(path), framework="np") as file:
            text = (file.metadata() or {}).get(KEY, "")
    except (SafetensorError, OSError, ValueError) as error:
        raise _broken(path.name, error) from error
    return _parse(text, path)


def _broken(name: str, error: Exception) -> FusionError:
    return FusionError(
        f"{name} wants to be a safetensors file that Meantime has written, got one that is damaged, cut short or of "
        f"another kind ({error}): pickles (.pt, .pth, .ckpt) are never opened. Download it again, or convert it."
    )


def _parse(text: str, path: Path) -> Checkpoint:
    name = path.name
    if not text:
        raise FusionError(
            f"{name} is a safetensors file without Meantime's description: weights alone do not say which network, "
            "bands and scale they are for. Train or convert it with Meantime."
        )
    try:
        body = json.loads(text) if len(text) <= MAX_HEAD else None
    except (ValueError, RecursionError) as error:
        raise _broken(name, error) from error
    if not isinstance(body, dict):
        raise FusionError(f"{name} describes itself by {len(text):,} characters that are no JSON object.")
    if body.get("format") != FORMAT:
        raise FusionError(
            f"{name} has format {body.get('format')!r}, this version of Meantime reads {FORMAT}: update Meantime, or "
            "train the network again."
        )
    try:
        found = Checkpoint(
            method=str(body["method"]),
            parameters=dict(body["parameters"]),
            bands=tuple(str(band)[:80] for band in body["bands"]),
            ratios=(int(body["ratios"][0]), int(body["ratios"][1])),
            mean=tuple(float(value) for value in body["mean"]),
            scale=tuple(float(value) for value in body["scale"]),
            title=str(body.get("title", ""))[:200],
            metrics=dict(body.get("metrics", {})),
            provenance=dict(body.get("provenance", {})),
            name=path.stem,
        )
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise FusionError(f"{name} lacks a part of its description, or it is broken ({error!r}).") from error
    numbers = (*found.mean, *found.scale)
    count = len(found.bands)
    if (
        not METHOD.fullmatch(found.method)
        or not 1 <= count <= 100
        or len(set(found.bands)) != count
        or len(numbers) != 2 * count
        or not np.isfinite(numbers).all()
        or min(found.scale) <= 0
        or not 1 <= found.ratios[0] <= found.ratios[1] <= MAX_RATIO
    ):
        raise FusionError(
            f"{name} describes a network of method {found.method[:40]!r}, {count} bands, ratios {found.ratios}, means "
            f"{found.mean[:6]} and scales {found.scale[:6]}, which cannot be: it wants one mean and one scale above 0 "
            "per band."
        )
    return found
