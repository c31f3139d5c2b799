"""How coarse files lie on the grid of the fine ones, and where numbers of pixels and georeference disagree."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.windows import Window

from ..errors import FusionError
from ._own_look import HUGE, Header, raster

SAME = 0.1  # fine pixels by which two georeferences may differ and still be one
LEFT_OUT = 0.02  # share of the fine pixels that may go without a word
MAX_SIDE = 1500  # pixels of the piece that is correlated


@dataclass(frozen=True)
class Conflict:
    """A coarse file of the fine file's shape whose georeference says another place."""

    right: float  # pixels by which the georeference puts it to the right
    down: float
    pixels: float  # correlation with the fine image, pixel for pixel
    georeference: float  # the same, placed as the georeference says


def place(head: Header, fine: Header) -> str:
    """How a file lies on the grid of a fine one.

    Returns
    -------
    str
        "grid": the same pixels; "conflict": as many pixels at another place; "native": its own, nested pixels;
        "warp": by georeference; "none": nothing says how.
    """
    same = head.shape == fine.shape
    if head.crs is None or fine.crs is None:
        if same:
            return "grid"
        return "native" if head.crs is None and fine.crs is None and nested(head, fine) else "none"
    if same and same_crs(head, fine) and _off(head, fine)[2] < SAME:
        return "grid"
    if same and same_crs(head, fine) and max(map(abs, _off(head, fine)[:2])) < 0.25 * max(fine.shape):
        return "conflict"
    return "native" if nested(head, fine) else "warp"


def same_crs(one: Header, other: Header) -> bool:
    """Tell whether two headers say one CRS."""
    return one.crs == other.crs or geobox(one).crs == geobox(other).crs


def geobox(head: Header) -> GeoBox:
    """Grid as the file states it."""
    return GeoBox(head.shape, Affine(*head.transform), head.crs)


def _off(head: Header, fine: Header) -> tuple[float, float, float]:
    """Pixels to the right and down of the first corner, and the largest of any corner."""
    own, base = Affine(*head.transform), ~Affine(*fine.transform)
    rows, columns = head.shape
    gaps = []
    for x, y in ((0, 0), (columns, 0), (0, rows)):
        u, v = base * (own * (x, y))
        gaps.append((u - x, v - y))
    return gaps[0][0], gaps[0][1], max(max(abs(u), abs(v)) for u, v in gaps)


def nested(head: Header, fine: Header) -> int:
    """Fine pixels per coarse pixel where the grids nest as they are, else 0."""
    if head.crs is None and fine.crs is None:
        ratio = round(fine.shape[1] / head.shape[1])
        fits = (
            all(fine.shape[i] // ratio == head.shape[i] and fine.shape[i] % ratio == 0 for i in (0, 1)) if ratio else 0
        )
        return ratio if ratio > 1 and fits else 0
    if head.crs is None or fine.crs is None or not same_crs(head, fine):
        return 0
    relative = ~Affine(*fine.transform) * Affine(*head.transform)
    ratio = round(relative.a)
    straight = abs(relative.b) + abs(relative.d) < 1e-6 and abs(relative.a - ratio) + abs(relative.e - ratio) < 1e-3
    corner = [relative.c / max(ratio, 1), relative.f / max(ratio, 1)]
    return ratio if ratio > 1 and straight and all(abs(c - round(c)) < 0.01 for c in corner) else 0


def conflict(head: Header, fine: Header, band: int, fine_band: int) -> Conflict:
    """Correlate a coarse file with a fine one as its pixels lie and as its georeference says."""
    right, down, _ = _off(head, fine)
    one, other = _piece(head, band), _piece(fine, fine_band)
    return Conflict(right, down, _correlation(one, other, 0, 0), _correlation(one, other, round(right), round(down)))


def _correlation(coarse: np.ndarray, fine: np.ndarray, right: int, down: int) -> float:
    """Correlation of the coarse image moved by whole pixels with the fine one, where both have values."""
    rows, columns = (min(a, b) for a, b in zip(coarse.shape, fine.shape, strict=True))
    moved = coarse[max(-down, 0) : rows - max(down, 0), max(-right, 0) : columns - max(right, 0)]
    still = fine[max(down, 0) : rows - max(-down, 0), max(right, 0) : columns - max(-right, 0)]
    both = np.isfinite(moved) & np.isfinite(still)
    if both.sum() < 10 or not moved[both].std() or not still[both].std():
        return math.nan
    return float(np.corrcoef(moved[both], still[both])[0, 1])


def _piece(head: Header, band: int) -> np.ndarray:
    return _read_piece(head.path, head.driver, band, head.nodata, head.fills, head.shape)


@lru_cache(maxsize=8)
def _read_piece(
    path: str, driver: str, band: int, nodata: float | None, fills: Sequence[float], shape: tuple[int, int]
) -> np.ndarray:
    """Middle of one band, missing as NaN."""
    rows, columns = (min(size, MAX_SIDE) for size in shape)
    window = Window((shape[1] - columns) // 2, (shape[0] - rows) // 2, columns, rows)
    with raster(path, driver) as file:
        piece: np.ndarray = file.read(band + 1, window=window).astype(np.float32)
    piece[np.isin(piece, [*fills, *([] if nodata is None else [nodata])]) | (np.abs(piece) > HUGE)] = np.nan
    return piece


def left_out(ratio: int, shape: tuple[int, int]) -> str:
    """Say what the cut to whole coarse pixels leaves out; "" where it is next to nothing."""
    rows, columns = (side // ratio * ratio for side in shape)
    share = 1 - rows * columns / (shape[0] * shape[1])
    if share <= LEFT_OUT:
        return ""
    return (
        f"Of {shape[0]} x {shape[1]} fine pixels {rows} x {columns} are used, whole coarse pixels of {ratio}: "
        f"{100 * share:.0f} % are left out; a smaller ratio leaves out less."
    )


def check_shapes(ratio: int, shape: tuple[int, int]) -> None:
    """Raise FusionError unless at least one whole coarse pixel fits."""
    if ratio < 1 or min(shape) < ratio:
        raise FusionError(
            f"The fine images of {shape[0]} x {shape[1]} pixels hold no coarse pixel of {ratio} x {ratio}: "
            "answer a smaller ratio or give larger images."
        )
