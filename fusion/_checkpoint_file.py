"""The file of a checkpoint: what it says about itself, and its weights, both looked at before anybody uses them."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from stat import S_ISREG
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from .errors import FusionError

FORMAT = 1
KEY = "meantime"  # of the metadata
MAX_HEAD = 1_000_000  # characters of metadata
MAX_RATIO = 1000
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


def header(path: Path) -> Checkpoint:
    """Read what a file says about itself; FusionError if it is damaged or none of ours."""
    try:
        stat = path.stat()
    except OSError as error:
        raise _broken(path.name, error) from error
    if not S_ISREG(stat.st_mode):  # to open a pipe would wait for ever
        raise FusionError(f"{path.name} wants to be a file, got a folder or a device: put it elsewhere.")
    return _read_header(path, stat.st_size, stat.st_mtime_ns)


def weights_in(path: Path) -> dict[str, np.ndarray]:
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
