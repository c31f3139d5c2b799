"""Look at one raster: its header and a small sample of its pixels. Only four formats are opened."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.errors import RasterioError
from rasterio.windows import Window

from ..errors import FusionError
from ..scene import _place_or_none
from . import _own_names as names

MAX_NUMBERS = 2_000_000_000  # of one file, over all bands and days; only windows of it are ever read
WHOLE = 6_000_000  # numbers; a file of at most so many is looked at whole
SIDE = 128  # pixels of each of 9 windows of a larger one
MAX_BLOCK = 512 * 2**20  # bytes that one compressed block unpacks to
MAX_BANDS = 400  # layers of one file
FILLS = (-9999.0, -32768.0, -32767.0, -28672.0, -999.0, 32767.0, 65535.0)
HUGE = 1e30  # beyond lies the usual "no data" of float files

_MAGIC = (
    (b"II*\x00", "GTiff"), (b"MM\x00*", "GTiff"), (b"II+\x00", "GTiff"), (b"MM\x00+", "GTiff"),
    (b"CDF\x01", "netCDF"), (b"CDF\x02", "netCDF"), (b"CDF\x05", "netCDF"), (b"\x89HDF\r\n\x1a\n", "netCDF"),
)  # fmt: skip


@dataclass(frozen=True)
class Header:
    """What one file says of itself, and what a sample of its pixels shows.

    Parameters
    ----------
    name, path : str
        Name that a person knows it by, with folders; where it lies.
    driver, dtype : str
        Format (GTiff, ENVI or netCDF) and kind of its numbers.
    count : int
        Bands of one day.
    days : tuple of (date or None)
        One day per time step; ``(None,)`` where the file does not say.
    layers : tuple of str
        Variables of a NetCDF that are the bands; empty where bands are numbered.
    shape : tuple of int
        Rows and columns.
    crs : str or None
        Coordinate reference system as WKT.
    transform : tuple of float
        Six numbers of the affine transform.
    nodata, scale, offset : float
        As the file states them; None where it does not.
    low, high, least, most, middle : float
        Percentiles 1 and 99, extremes and median of the sample, without missing values; NaN where all are missing.
    missing, border : float
        Share without a value, and share of zeros in all bands at once.
    fills : tuple of float
        Usual "no data" numbers that occur and are not declared.
    distinct : int
        Different numbers in the first band, at most 257.
    rough : float
        Mean step between neighbouring pixels over the standard deviation: small where pixels are smooth.
    block : int
        Pixels after which the image repeats its steps: the true pixel of an image on a finer grid; 0 where unclear.
    """

    name: str
    path: str
    driver: str
    dtype: str
    count: int
    days: tuple[date | None, ...]
    layers: tuple[str, ...]
    descriptions: tuple[str, ...]
    shape: tuple[int, int]
    crs: str | None
    transform: tuple[float, ...]
    nodata: float | None
    scale: float | None
    offset: float
    low: float = float("nan")
    high: float = float("nan")
    least: float = float("nan")
    most: float = float("nan")
    middle: float = float("nan")
    missing: float = 1.0
    border: float = 0.0
    fills: tuple[float, ...] = ()
    distinct: int = 0
    rough: float = 0.0
    block: int = 0


def format_of(path: str | os.PathLike[str]) -> str | None:
    """Format by the first bytes: "GTiff" or "netCDF"; "ENVI" where a header lies beside; else None."""
    with open(path, "rb") as file:
        start = file.read(8)
    found = next((driver for magic, driver in _MAGIC if start.startswith(magic)), None)
    return found or ("ENVI" if envi_header(Path(path)) is not None else None)


def envi_header(path: Path) -> Path | None:
    """Header file that lies beside ENVI pixels, or None."""
    for other in (path.with_name(path.name + ".hdr"), path.with_suffix(".hdr"), path.with_suffix(".HDR")):
        if other != path and other.is_file():
            with open(other, "rb") as file:
                return other if file.read(4) == b"ENVI" else None
    return None


@contextmanager
def raster(path: str, driver: str, layer: str = "", shown: str = "") -> Iterator[Any]:
    """Open a file with one driver only, so that none can point to another file.

    Raises
    ------
    FusionError
        If it cannot be opened or, within the ``with``, not be read.
    """
    name = f'netcdf:"{path}":{layer}' if layer else path
    try:
        with _place_or_none(), rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR" if driver == "GTiff" else "FALSE"):
            with rasterio.open(name, driver=driver) as file:
                yield file
    except RasterioError as error:
        shown = shown or Path(path).name
        said = str(error).replace(path, shown).replace(Path(path).name, shown)
        raise FusionError(f"{shown} cannot be read as {driver}: {said}. Give the whole file again.") from error


def header(path: str | os.PathLike[str], name: str = "") -> Header:
    """Look at a file; reads its header and at most a sample of its pixels.

    Raises
    ------
    FusionError
        If it is no GeoTIFF, ENVI or NetCDF image, cannot be read, or claims too many pixels.
    """
    path = Path(path)
    name = name or path.name
    driver = format_of(path)
    if driver is None:
        raise FusionError(
            f"{name} is no image that is read here: give GeoTIFF (COG), NetCDF, or ENVI with its .hdr beside it."
        )
    if driver == "ENVI":
        check_envi(path, name)
    with raster(str(path), driver, shown=name) as file:
        layers = _variables(file, name) if driver == "netCDF" and file.subdatasets else ()
    with raster(str(path), driver, layers[0] if layers else "", name) as file:
        _check(file, name, max(len(layers), 1))
        head = _facts(file, str(path), name, driver, layers)
        sample = _sample(file, head)
    return _measured(head, sample)


def check_envi(path: Path, name: str) -> None:
    """Raise FusionError unless the pixels are as many as the ENVI header says and nothing is compressed."""
    header_path = envi_header(path)
    text = header_path.read_bytes()[:1_000_000].decode("latin-1").lower() if header_path else ""
    said = dict(re.findall(r"(?m)^\s*([a-z ]+?)\s*=\s*(\d+)\s*$", text))
    widths = {"1": 1, "2": 2, "3": 4, "4": 4, "5": 8, "12": 2, "13": 4}
    try:
        size = int(said["samples"]) * int(said["lines"]) * int(said["bands"]) * widths[said["data type"]]
    except KeyError as error:
        raise FusionError(f"The ENVI header of {name} says no usable {error}: write it again as GeoTIFF.") from error
    if said.get("file compression", "0") != "0":
        raise FusionError(
            f"The ENVI file {name} is compressed, which is not read: write it uncompressed or as GeoTIFF."
        )
    if path.stat().st_size < size + int(said.get("header offset", "0")):
        raise FusionError(
            f"{name} has {path.stat().st_size:,} bytes, but its ENVI header promises {size:,}: give the whole file."
        )


def _check(file: Any, name: str, layers: int) -> None:
    numbers = file.count * layers * file.width * file.height
    if numbers > MAX_NUMBERS or file.count * layers > MAX_BANDS:
        raise FusionError(
            f"{name} claims {file.count * layers} bands of {file.width} x {file.height} pixels; at most "
            f"{MAX_NUMBERS:,} numbers and {MAX_BANDS} bands are read: cut it."
        )
    if file.width < 2 or file.height < 2:
        raise FusionError(
            f"{name} has {file.height} x {file.width} pixels: an image wants at least 2 x 2; give the whole image."
        )
    rows, columns = file.block_shapes[0]
    together = file.count if file.interleaving is not None and file.interleaving.name == "pixel" else 1
    if rows * columns * np.dtype(file.dtypes[0]).itemsize * together > MAX_BLOCK and file.driver != "ENVI":
        raise FusionError(f"{name} is written as one block of {rows} x {columns} pixels: write it in tiles (COG).")
    if any(np.dtype(kind).kind not in "uif" for kind in file.dtypes):
        raise FusionError(f"{name} holds {file.dtypes[0]} numbers: give whole or real ones.")


def _variables(file: Any, name: str) -> tuple[str, ...]:
    """Variables that are images of the size and number of times of the largest one."""
    found: dict[str, tuple[int, int, int]] = {}
    for text in file.subdatasets[: MAX_BANDS + 1]:
        layer = text.rsplit(":", 1)[1].strip('"')
        if not re.fullmatch(r"[A-Za-z0-9_ /.+-]{1,120}", layer):
            continue
        with raster(file.name, "netCDF", layer) as part:
            found[layer] = (part.count, part.height, part.width)
    if not found:
        raise FusionError(f"{name} holds no image: give a NetCDF with variables over y and x.")
    largest = max(found.values(), key=lambda size: size[1] * size[2] * 1000 + size[0])
    return tuple(layer for layer, size in found.items() if size == largest)


def _facts(file: Any, path: str, name: str, driver: str, layers: tuple[str, ...]) -> Header:
    days = _days(file) if driver == "netCDF" else _tagged_day(file)
    count = len(layers) if layers else file.count // len(days)
    words = tuple(names.plain(text) for text in layers)
    if not layers:
        words = tuple(names.plain(text or "") for text in file.descriptions[:count])
    if driver == "netCDF" and not layers and count == 1:
        words = (names.plain(file.tags(1).get("NETCDF_VARNAME", "")),)
    stated = file.scales[0] != 1 or file.offsets[0] != 0
    place = file.crs is not None or not file.transform.is_identity
    return Header(
        name, path, driver, file.dtypes[0], count, days, layers, words, (file.height, file.width),
        None if file.crs is None else file.crs.to_wkt(),
        tuple(file.transform)[:6] if place else (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
        None if file.nodata is None or np.isnan(file.nodata) else float(file.nodata),
        float(file.scales[0]) if stated else None, float(file.offsets[0]) if stated else 0.0,
    )  # fmt: skip


def _tagged_day(file: Any) -> tuple[date | None, ...]:
    tags = {**file.tags(), **file.tags(ns="ENVI")}
    for key in names.TAGS:
        if key in tags and (found := names.day_in(tags[key][:10])):
            return (found,)
    return (None,)


def _days(file: Any) -> tuple[date | None, ...]:
    """Days of the time axis of a NetCDF; one step without a day where it has none or an unusual calendar."""
    tags = file.tags()
    match = re.fullmatch(
        r"\s*(day|hour|minute|second)s? since (\d{4})-(\d{1,2})-(\d{1,2}).*", tags.get("time#units", "")
    )
    values = [file.tags(band + 1).get("NETCDF_DIM_time") for band in range(file.count)]
    usual = tags.get("time#calendar", "standard") in ("standard", "gregorian", "proleptic_gregorian")
    if match is None or not usual or any(value is None for value in values):
        return _tagged_day(file)
    start = datetime(int(match[2]), int(match[3]), int(match[4]))
    try:
        days = [(start + timedelta(**{f"{match[1]}s": float(str(value))})).date() for value in values]
    except (OverflowError, ValueError):
        return (None,)
    return tuple(dict.fromkeys(days)) if len(set(days)) in (1, len(days)) else (None,)


def _sample(file: Any, head: Header) -> list[np.ndarray]:
    """Pieces ``(band, y, x)``: the whole of a small image, nine windows of a large one."""
    height, width = head.shape
    bands = list(range(1, min(file.count, 12) + 1))
    if len(bands) * height * width <= WHOLE:
        return [file.read(bands)]
    starts = [[int(f * (size - SIDE)) for f in (0, 0.5, 1)] if size > 3 * SIDE else [0] for size in (height, width)]
    return [
        file.read(bands, window=Window(x, y, min(SIDE, width), min(SIDE, height))) for y in starts[0] for x in starts[1]
    ]


def _measured(head: Header, pieces: list[np.ndarray]) -> Header:
    numbers = np.concatenate([piece.reshape(piece.shape[0], -1) for piece in pieces], axis=1).astype(np.float64)
    bad = ~np.isfinite(numbers) | (np.abs(numbers) > HUGE)
    if head.nodata is not None:
        bad |= numbers == head.nodata
    fills = tuple(v for v in FILLS if v != head.nodata and (numbers == v).any() and _far(numbers, bad, v))
    border = float((numbers == 0).all(axis=0).mean()) if numbers.shape[1] else 0.0
    gone = bad | np.isin(numbers, fills)
    known = numbers[~gone]
    if not known.size:
        return replace(head, missing=1.0, fills=fills)
    low, middle, high = (float(v) for v in np.percentile(known, (1, 50, 99)))
    piece = max(pieces, key=lambda piece: _known(piece, head, fills).mean())[0].astype(np.float64)
    piece[~_known(piece, head, fills)] = np.nan
    return replace(
        head, low=low, high=high, middle=middle, least=float(known.min()), most=float(known.max()),
        missing=float(gone.any(axis=0).mean()), border=border, fills=fills,
        distinct=len(np.unique(numbers[0][:100_000])[:257]), rough=_rough(piece), block=_block(piece),
    )  # fmt: skip


def _known(piece: np.ndarray, head: Header, fills: tuple[float, ...]) -> np.ndarray:
    bad = np.isin(piece, [*fills, *([] if head.nodata is None else [head.nodata])]) | ~np.isfinite(piece)
    out: np.ndarray = ~bad & (np.abs(piece.astype(np.float64)) < HUGE)
    return out


def _far(numbers: np.ndarray, bad: np.ndarray, value: float) -> bool:
    """Tell whether a number stands apart from all others, as a "no data" number does."""
    rest = numbers[~bad & (numbers != value)]
    if not rest.size:
        return True
    spread = float(np.percentile(rest, 99) - np.percentile(rest, 1))
    near = rest.max() if value > 0 else rest.min()
    return abs(value - float(near)) > 0.05 * max(spread, 1.0)


def _rough(piece: np.ndarray) -> float:
    deviation = np.nanstd(piece) if np.isfinite(piece).any() else 0.0
    if not deviation or piece.shape[1] < 2:
        return 0.0
    steps = np.abs(np.diff(piece, axis=1))
    return float(np.nanmean(steps) / deviation) if np.isfinite(steps).any() else 0.0


def _block(piece: np.ndarray) -> int:
    """Pixels between the steps of an image of repeated or linearly stretched coarse pixels; 0 where unclear."""
    piece = np.where(np.isfinite(piece), piece, np.nanmean(piece))
    sizes = [_period(np.abs(np.diff(turned, axis=1)).mean(axis=0)) for turned in (piece, piece.T)]
    return sizes[0] if sizes[0] == sizes[1] else 0


def _period(profile: np.ndarray) -> int:
    """Distance between steps where most places have none at all."""
    if profile.size < 8 or not profile.max():
        return 0
    steps = np.flatnonzero(profile > 1e-6 * profile.max())
    if len(steps) < 2 or len(steps) > 0.5 * profile.size:
        return 0
    gaps, counts = np.unique(np.diff(steps), return_counts=True)
    return int(gaps[counts.argmax()]) if counts.max() > 0.6 * counts.sum() else 0
