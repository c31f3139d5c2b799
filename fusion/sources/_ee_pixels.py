"""Pixels of an Earth Engine image: a tile is asked for in strips that fit into one answer each."""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from odc.geo.geobox import GeoBox

from .._product import Product
from ._ee_calls import TooLarge
from ._ee_images import Picture, filled, is_radiance, rows_at_once, toa

Compute = Callable[[Mapping[str, Any], Sequence[str]], bytes]  # grid and types -> NPY
Patiently = Callable[[Callable[[], np.ndarray]], np.ndarray]  # runs what asks, again where that helps


def fetch(
    row: Product, found: Picture, tile: GeoBox, names: Sequence[str], compute: Compute, patiently: Patiently
) -> dict[str, np.ndarray]:
    """Numbers ``(y, x)`` by band on a tile of the image's grid; masked pixels are the band's fill value, or NaN."""
    fills = {name: filled(row, found.types[name]) for name in names if name in row.native}
    types = [fills[name][1] if name in fills else found.types[name] for name in names]
    step, height = rows_at_once(tile, types), tile.shape[0]
    parts = [
        _strip(found, tile[top : min(top + step, height), :], names, types, compute, patiently)
        for top in range(0, height, step)
    ]
    out = {name: np.concatenate([part[name] for part in parts]) for name in names}
    for name, (fill, dtype) in fills.items():
        if is_radiance(row):
            out[name] = toa(out[name], name, tile, found.time)
        elif dtype.startswith("float"):
            out[name] = np.where(out[name] == fill, np.nan, out[name]).astype(dtype)
    return out


def _strip(
    found: Picture, tile: GeoBox, names: Sequence[str], types: Sequence[str], compute: Compute, patiently: Patiently
) -> np.ndarray:
    """Structured array ``(y, x)`` of one answer; halved where Earth Engine finds it too large."""
    try:
        return patiently(partial(_answer, found, tile, names, types, compute))
    except TooLarge:
        half = tile.shape[0] // 2
        if not half:
            raise
        parts = tile[:half, :], tile[half:, :]
        return np.concatenate([_strip(found, part, names, types, compute, patiently) for part in parts])


def _answer(found: Picture, tile: GeoBox, names: Sequence[str], types: Sequence[str], compute: Compute) -> np.ndarray:
    data = compute(_grid(found.crs, tile), types)
    array: np.ndarray = np.load(io.BytesIO(data), allow_pickle=False)
    if array.shape != tile.shape or array.dtype.names is None or set(array.dtype.names) != set(names):
        raise ValueError("not the pixels asked for")
    return array


def _grid(crs: str, tile: GeoBox) -> dict[str, Any]:
    """Pixel grid as Earth Engine's interface writes it."""
    a, (height, width) = tile.affine, tile.shape
    corner = {"scaleX": a.a, "shearX": a.b, "translateX": a.c, "shearY": a.d, "scaleY": a.e, "translateY": a.f}
    name = "crsCode" if re.fullmatch(r"[A-Z-]+:\d+", crs) else "crsWkt"
    return {"dimensions": {"width": width, "height": height}, "affineTransform": corner, name: crs}
