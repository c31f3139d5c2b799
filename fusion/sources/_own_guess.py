"""What a group of files alike most likely is: role, bands and unit, each with the reason in words."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from affine import Affine
from pyproj import CRS

from . import _own_names as names
from ._own_look import Header

COARSE_FROM = 100.0  # metres a pixel
SMOOTH, ROUGH = 0.08, 0.15  # step between neighbours over the standard deviation
DEGREE = 111_320.0  # metres

UNITS = (
    ("0.0001", "reflectance x 10,000"),
    ("1", "reflectance, 0 to 1"),
    ("0.01", "percent"),
    ("0.0000275,-0.2", "Landsat Collection 2 Level 2 numbers"),
    ("0.00002,-0.1", "Landsat 8/9 Level 1 numbers: top-of-atmosphere reflectance, without the sun's height"),
)


@dataclass(frozen=True)
class Guess:
    """A value, the reason, and whether it is sure enough not to be asked."""

    value: str | None
    why: str
    sure: bool = True


def pixel(head: Header) -> float | None:
    """Side of a pixel in metres, or None without georeference."""
    transform = Affine(*head.transform)
    side = math.sqrt(abs(transform.determinant))
    if head.crs is None:
        return None if head.transform == (1.0, 0.0, 0.0, 0.0, 1.0, 0.0) else side
    crs = CRS.from_user_input(head.crs)
    return side * (DEGREE if crs.is_geographic else crs.axis_info[0].unit_conversion_factor if crs.axis_info else 1.0)


def use(heads: Sequence[Header]) -> Guess:
    """Role of files alike: "fine", "coarse", "mask", "classes" or "aside"."""
    head = heads[0]
    whole = not head.dtype.startswith("float")
    index = names.bands_in(head.name, None, 1) if head.count == 1 else None
    if head.count == 1 and whole and names.mask_of(head.name):
        return Guess("mask", "its name says a mask")
    if head.count == 1 and whole and names.is_classes(head.name):
        return Guess("classes", "its name says classes")
    if names.is_other(head.name):
        return Guess("aside", "its name says a layer that is no reflectance")
    if head.count == 1 and whole and head.distinct <= 32 and head.most < 256 and not index:
        return Guess("classes", f"one band with {head.distinct} different whole numbers", sure=False)
    return _role(head)


def _role(head: Header) -> Guess:
    sensor, folder, side = names.sensor_of(head.name), names.folder_role(head.name), pixel(head)
    if sensor and folder and sensor.role != folder:
        return Guess(folder, f"the folder says {folder}, the name {sensor.name} says {sensor.role}", sure=False)
    if folder:
        return Guess(folder, f"the folder says {folder}")
    if sensor:
        return Guess(sensor.role, f"the name says {sensor.name}")
    if side is not None and side >= COARSE_FROM:
        return Guess("coarse", f"its pixels are {side:.0f} m")
    if head.rough and head.rough < SMOOTH:
        return Guess("coarse", f"it is smooth: neighbours differ by {head.rough:.2f} standard deviations")
    if head.rough > ROUGH:
        return Guess("fine", f"it is rich in detail: neighbours differ by {head.rough:.2f} standard deviations")
    return Guess(None, "neither name, folder, pixel size nor detail tell its side", sure=False)


def bands(heads: Sequence[Header], partner: tuple[str, ...] | None) -> Guess:
    """Bands of files alike, as comma-separated text; `partner` are the other side's, where these are known."""
    head, sensor = heads[0], names.sensor_of(heads[0].name)
    count = head.count
    if all(head.descriptions) and len(set(head.descriptions)) == count:
        return Guess(",".join(head.descriptions), "the file names them")
    if found := names.bands_in(head.name, sensor, count):
        return Guess(",".join(found), "the name says them")
    if found := names.bands_of(sensor, count):
        return Guess(",".join(found), f"the usual order of {count} bands{f' of {sensor.name}' if sensor else ''}")
    if any(head.descriptions):
        rest = iter(band for band in reversed(names.SIX) if band not in head.descriptions)
        return Guess(",".join(word or next(rest, "band") for word in head.descriptions), "only some are named", False)
    if partner and len(partner) == count:
        return Guess(",".join(partner), "the other side's bands in their order", sure=False)
    usual = {1: "red", 3: "green,red,nir", 4: "blue,green,red,nir"}.get(count)
    return Guess(usual, f"{count} bands without names", sure=False)


def unit(heads: Sequence[Header], found: tuple[str, ...]) -> Guess:
    """Scale and offset of files alike as text, "0.0001" or "0.00002,-0.1"; value None where it is only asked."""
    seen = {(_unit(head, found).value, _unit(head, found).sure): _unit(head, found) for head in heads}
    if len(seen) == 1:
        return next(iter(seen.values()))
    if all(value is not None and sure for value, sure in seen):
        said = "; ".join(dict.fromkeys(guess.why for guess in seen.values()))
        return Guess("each", f"files alike have different units ({said})", sure=False)
    return next(guess for guess in seen.values() if not guess.sure)


def _unit(head: Header, found: tuple[str, ...]) -> Guess:
    name = head.name.rsplit("/", 1)[-1].lower()
    spread = f"1 to 99 % of the numbers are {head.low:.4g} to {head.high:.4g}"
    if head.scale is not None:
        return Guess(
            f"{head.scale:.9g},{head.offset:.9g}" if head.offset else f"{head.scale:.9g}", "the file states it"
        )
    if found in (("ndvi",), ("evi",)):
        return Guess("1" if abs(head.high) <= 1.2 else "0.0001", f"an index; {spread}")
    if re.search(r"l2s[pr]_", name) and head.dtype == "uint16":
        return Guess("0.0000275,-0.2", "the name says Landsat Collection 2 Level 2")
    if _is_level1(head, name):
        return Guess(
            None, f"these are digital numbers, not reflectance ({spread}; the least is {head.least:.4g})", sure=False
        )
    if re.search(r"_n0[4-9]\d\d_", name):
        return Guess("0.0001,-0.1", "the name says Sentinel-2 from processing 04.00 on")
    if head.dtype.startswith("float") and head.high <= 1.6:
        return Guess("1", f"{spread}: reflectance, 0 to 1")
    if 200 < head.high <= 20_000:
        return Guess("0.0001", f"{spread}: reflectance x 10,000")
    if 2 < head.high <= 110 and head.dtype != "uint8":
        return Guess("0.01", f"{spread}: perhaps percent", sure=False)
    return Guess(None, f"{spread}: no usual unit of reflectance", sure=False)


def _is_level1(head: Header, name: str) -> bool:
    """Level 1 numbers: said by the name, or whole numbers that start far above zero."""
    said = re.search(r"(?<![a-z])dn(?![a-z])|l1tp|l1gt|l1gs|l1g(?![a-z])", name)
    return said is not None or (head.dtype == "uint16" and head.low >= 4500 and head.middle >= 6000)


def label(text: str) -> str:
    """Unit of a scale in words."""
    scale, offset = numbers(text)
    for known, words in UNITS:
        if numbers(known) == (scale, offset):
            return words
    return f"number x {scale:g}" + (f" {offset:+g}" if offset else "")


def numbers(text: str) -> tuple[float, float]:
    """Scale and offset of "scale" or "scale,offset"; ValueError where it is none."""
    parts = [float(part) for part in text.split(",")]
    if len(parts) > 2 or not all(map(math.isfinite, parts)) or parts[0] == 0:
        raise ValueError(text)
    return parts[0], parts[1] if len(parts) == 2 else 0.0


def same_unit(texts: Sequence[str]) -> bool:
    """Tell whether scales differ by less than a factor of two."""
    scales = [abs(numbers(text)[0]) for text in texts]
    return max(scales) < 2 * min(scales) if scales else True


def typical(heads: Sequence[Header]) -> float:
    """Median over files of their 99th percentile."""
    return median(head.high for head in heads)
