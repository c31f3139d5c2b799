"""Folders: pairs from data sets in the layout of CIA and LGC, which much of the field is trained and judged on.

Both images of a day lie on one fine grid, the coarse one resampled to it; names or folders say the sensor and the day:
``Landsat/2001_281_08oct/20011008_TM.tif``, ``MODIS/20040416.tif`` or ``2001_281/M_2001_281.tif``.
"""

import os
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Literal

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from .errors import FusionError
from .preprocess import aggregate, unit_mistake
from .scene import Scene
from .sources import _own_guess, _own_names
from .sources._own_look import FILLS, HUGE, Header, format_of, header, raster
from .sources._own_place import SAME, check_shapes
from .stack import Pair

WHOLE = 1e-4  # reflectance of the number 1 in files of whole numbers that state none
MOST_FILES = 5000
INDICES = {"ndvi", "evi"}
BESIDE = {".hdr", ".enp", ".aux", ".xml", ".ovr", ".sta", ".jpg", ".jpeg", ".png", ".txt", ".md", ".csv", ".json"}

Role = Literal["fine", "coarse"]


def pairs_of(
    folder: str | os.PathLike[str],
    ratio: int,
    *,
    bands: Sequence[str] | None = None,
    scale: float | None = None,
    nodata: float | None = None,
) -> list[Pair]:
    """Read all pairs of a folder in the layout of CIA and LGC.

    Parameters
    ----------
    folder : path
        Folder with GeoTIFF or ENVI images, one file an image, in any sub-folders. Names of files or folders say the
        side (Landsat or fine, MODIS or coarse) and the day (2001_281, 2001281, 20011008, 2001-10-08).
    ratio : int
        Fine pixels per coarse pixel, along one side.
    bands : sequence of str, optional
        Names of the bands of each file, in order; default is what the files say, and blue, green, red, nir, swir1 and
        swir2 for six bands without names.
    scale : float, optional
        Reflectance of the number 1; default is what a file states, else 0.0001 for whole numbers and 1 for others.
    nodata : float, optional
        Number that means missing, beside what a file states, -9999 and its like, and 0 in all of several bands.

    Returns
    -------
    list of Pair
        In time order, one for each day that has both images. The sides are cut to whole coarse pixels, on the right
        and below; coarse images that came on the fine grid are means of ``ratio x ratio`` pixels. Images without
        georeference lie as their pixels lie.

    Raises
    ------
    FusionError
        If there is no pair, a day has two images of one side, sizes or places differ, or bands, day or unit of a file
        are not clear.
    """
    if ratio < 1:
        raise FusionError(f"The ratio of coarse to fine pixels wants a whole number from 1, got {ratio}.")
    found = _by_day(Path(folder))
    days = sorted(found["fine"].keys() & found["coarse"].keys())
    if not days:
        seen = (f"{role} ones of {', '.join(map(str, sorted(found[role]))) or 'no day'}" for role in found)
        raise FusionError(
            f"The folder {Path(folder).name} has no day with both a fine and a coarse image; it has "
            f"{' and '.join(seen)}: let names or folders say Landsat and MODIS (or fine and coarse), and the day as in "
            "2001_281 or 20011008."
        )
    base = found["fine"][days[0]]
    check_shapes(ratio, base.shape)
    names = {role: _bands(found[role][days[0]], bands) for role in found}
    common = tuple(band for band in names["fine"] if band in names["coarse"])
    if not common:
        raise FusionError(
            f"Fine images have the bands {', '.join(names['fine'])}, coarse ones {', '.join(names['coarse'])}, none in "
            "common: name them."
        )
    pairs = []
    for day in days:
        fine, coarse = found["fine"][day], found["coarse"][day]
        _check_place(fine, coarse, base, ratio)
        scenes = [_read(head, day, names[role], scale, nodata) for role, head in (("fine", fine), ("coarse", coarse))]
        pairs.append(_pair(scenes[0].select(common), scenes[1].select(common), base, ratio))
    return pairs


def _by_day(folder: Path) -> dict[str, dict[date, Header]]:
    """Headers of the fine and of the coarse images by day."""
    if not folder.is_dir():
        raise FusionError(f"There is no folder {folder}: give one with images of Landsat and MODIS.")
    found: dict[str, dict[date, Header]] = {"fine": {}, "coarse": {}}
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size > 8)
    if len(paths) > MOST_FILES:
        raise FusionError(f"{folder.name} holds {len(paths):,} files, at most {MOST_FILES:,} are looked at.")
    for path in paths:
        if path.suffix.lower() in BESIDE or format_of(path) not in ("GTiff", "ENVI"):
            continue  # what lies beside the pixels of an ENVI image would pass for them
        head = header(path, str(path.relative_to(folder)))
        use = _own_guess.use([head]).value
        if use not in ("fine", "coarse"):
            continue  # masks, classes, angles
        day = _day(head)
        if day in found[use]:
            raise FusionError(
                f"{head.name} and {found[use][day].name} are both {use} images of {day}: keep one image a day, "
                "with all its bands in one file, or give a sub-folder."
            )
        found[use][day] = head
    return found


def _day(head: Header) -> date:
    day = head.days[0] if len(head.days) == 1 and head.days[0] else _own_names.day_of(head.name)[0]
    if day is None:
        raise FusionError(
            f"Neither {head.name} nor its name says its day: let the name or its folder hold it, such as 2001_281, "
            "2001281 or 20011008."
        )
    return day


def _bands(head: Header, given: Sequence[str] | None) -> tuple[str, ...]:
    """Names of a file's bands: those given, else what it says, else the usual ones."""
    guess = _own_guess.bands([head], None)
    if given is not None and len(given) == head.count:
        return tuple(given)
    if given is None and guess.sure and guess.value:
        return tuple(guess.value.split(","))
    got = "no names" if given is None else f"the names {', '.join(given)}"
    raise FusionError(f"{head.name} has {head.count} bands and {got}: name each band, such as green,red,nir.")


def _check_place(fine: Header, coarse: Header, base: Header, ratio: int) -> None:
    """Raise FusionError unless both images of a day lie on the first fine image's grid."""
    if fine.shape != base.shape or _off(fine, base) > SAME:
        raise FusionError(
            f"Fine images want one grid: {base.name} has {_size(base)}, {fine.name} has {_size(fine)}"
            f"{'' if fine.shape != base.shape else ' at another place'}. Bring them onto one, or add them as own "
            "files, which are brought onto one."
        )
    rows, columns = base.shape
    native = (rows // ratio, columns // ratio)
    if coarse.shape not in (base.shape, native):
        raise FusionError(
            f"{coarse.name} has {_size(coarse)}, wanted the {rows} x {columns} of the fine images, or {native[0]} x "
            f"{native[1]} at a ratio of {ratio}: give another ratio, or resample it."
        )
    if _off(coarse, base) > ratio:
        raise FusionError(
            f"{coarse.name} lies {_off(coarse, base):.0f} fine pixels from the fine images, more than a coarse pixel: "
            "bring it to its place, or add the folder as own files."
        )


def _off(head: Header, base: Header) -> float:
    """Fine pixels from one first corner to the other; 0 where one has no georeference."""
    if head.crs is None or base.crs is None:
        return 0.0
    x, y = ~Affine(*base.transform) * (head.transform[2], head.transform[5])
    return float(max(abs(x), abs(y)))


def _size(head: Header) -> str:
    return f"{head.shape[0]} x {head.shape[1]} pixels"


def _read(head: Header, day: date, names: tuple[str, ...], scale: float | None, nodata: float | None) -> Scene:
    """One file as reflectance, on pixels without a place."""
    if head.count != len(names):
        raise FusionError(f"{head.name} has {head.count} bands, the others have {len(names)} ({', '.join(names)}).")
    with raster(head.path, head.driver, shown=head.name) as file:
        numbers = file.read()
        missing = file.read_masks() == 0
    missing |= ~np.isfinite(numbers) | (np.abs(numbers, dtype=np.float64) > HUGE) | np.isin(numbers, FILLS)
    if nodata is not None:
        missing |= numbers == nodata
    if head.count > 1:
        missing |= (numbers == 0).all(axis=0)
    whole = numbers.dtype.kind in "ui"
    factor = scale or head.scale or (WHOLE if whole else 1.0)
    data = (numbers * np.float64(factor) + (0.0 if scale else head.offset)).astype(np.float32)
    data[missing] = np.nan
    if not set(names) <= INDICES and (mistake := unit_mistake(data)):
        raise FusionError(f"{head.name} taken times {factor:g} is no reflectance: {mistake}. Give another scale.")
    return Scene(data, GeoBox(head.shape, Affine.identity(), None), names, day)


def _pair(fine: Scene, coarse: Scene, base: Header, ratio: int) -> Pair:
    """Cut to whole coarse pixels and lay on the first fine image's grid."""
    rows, columns = (side // ratio for side in base.shape)
    place = GeoBox(base.shape, Affine(*base.transform), base.crs)[: rows * ratio, : columns * ratio]
    if coarse.shape[1:] == base.shape:
        coarse = aggregate(coarse[: rows * ratio, : columns * ratio], ratio, psf=0)
    cut = fine[: rows * ratio, : columns * ratio]
    return Pair(
        Scene(coarse.data, place.zoom_out(ratio), coarse.bands, coarse.day), Scene(cut.data, place, cut.bands, cut.day)
    )
