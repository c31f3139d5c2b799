"""What a file's name and its folders say: the day, the sensor, the role and the bands."""

import re
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import PurePosixPath

SIX = ("blue", "green", "red", "nir", "swir1", "swir2")
KNOWN_BANDS = frozenset((*SIX, "coastal", "ndvi", "evi", "red1", "red2", "red3", "nir8a", "swir0"))

_YEAR = r"((?:19|20)\d\d)"
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS_OF_YEAR = (
    rf"(?<![a-z0-9])a{_YEAR}([0-3]\d\d)(?!\d)",  # MOD09GA.A2001281
    rf"(?<![a-z0-9])l[cetom]\d\d{{6}}{_YEAR}([0-3]\d\d)(?!\d)",  # LC81900282020183LGN00
    rf"(?<![a-z0-9])l[45789]{_YEAR}([0-3]\d\d)(?!\d)",  # L72002311
    rf"(?<!\d){_YEAR}([0-3]\d\d)(?!\d)",
    rf"(?<!\d){_YEAR}[-_.]([0-3]\d\d)(?!\d)",  # 2001_281_08oct, L_2016_220
)
_CALENDAR_DAYS = (
    rf"(?<!\d){_YEAR}([-_.]?)(0[1-9]|1[0-2])\2([0-3]\d)(?!\d)",
    rf"(?<![a-z0-9])l[45789]{_YEAR}()(0[1-9]|1[0-2])([0-3]\d)(?!\d)",
)
_NO_YEAR = r"(?<!\d)(0[1-9]|1[0-2])([0-3]\d)(?!\d)"
TAGS = ("DATE", "DATE_ACQUIRED", "ACQUISITION_DATE", "acquisition_time", "RANGEBEGINNINGDATE", "time_coverage_start")


@dataclass(frozen=True)
class Sensor:
    """What is known of a sensor by its name: role, nominal pixel in metres, and its bands by number."""

    name: str
    role: str
    pixel: float
    numbers: tuple[tuple[str, str], ...] = ()


_TM = tuple(zip("123457", SIX, strict=True))
_OLI = tuple(zip("1234567", ("coastal", *SIX), strict=True))
_MSI = (
    ("1", "coastal"), ("2", "blue"), ("3", "green"), ("4", "red"), ("5", "red1"), ("6", "red2"), ("7", "red3"),
    ("8", "nir"), ("8a", "nir8a"), ("11", "swir1"), ("12", "swir2"),
)  # fmt: skip
_MODIS = tuple(zip("1234567", ("red", "nir", "blue", "green", "swir0", "swir1", "swir2"), strict=True))
_START, _END = r"(?<![a-z0-9])", r"(?![a-z])"

_SENSORS = (
    (r"m[oy]d(?:09[gq]q|09q1|13q1)\w*", Sensor("MODIS", "coarse", 250, _MODIS)),
    (r"(?:mod|myd|mcd)\d\d\w*|modis\w*|m(?=_\d{4}_\d{3})", Sensor("MODIS", "coarse", 500, _MODIS)),
    (r"vnp\d\d|viirs", Sensor("VIIRS", "coarse", 500)),
    (r"olci|s3[ab]?(?=[_-])|sentinel-?3|meris", Sensor("OLCI", "coarse", 300)),
    (r"hls\.?s30", Sensor("Sentinel-2", "fine", 30, _MSI)),
    (r"s2[ab]?(?=[_.-])|sentinel-?2|msi|t\d\d[a-z]{3}(?=_\d{8})", Sensor("Sentinel-2", "fine", 10, _MSI)),
    (r"l[co]0?[89]|l[89](?=[_\d-])|oli|landsat-?[89]|hls\.?l30", Sensor("Landsat 8/9", "fine", 30, _OLI)),
    (r"l[et]0?[4-7]|l[457](?=[_\d-])|e?tm\+?|landsat-?[457]", Sensor("Landsat 4-7", "fine", 30, _TM)),
    (r"landsat|l(?=_\d{4}_\d{3})|\d{7}_\d{3}-\d\d(?!\d)(?=.*filled)", Sensor("Landsat", "fine", 30)),
)
_FOLDERS = ((r"fine", "fine"), (r"coarse", "coarse"))
_MASKS = (
    (r"qa_?pixel", "qa_pixel"), (r"pixel_?qa", "pixel_qa"), (r"cfmask", "cfmask"), (r"fmask", "fmask"),
    (r"(?<![a-z])scl(?![a-z])", "scl"), (r"mask|cloud", "mask"),
)  # fmt: skip
_CLASSES = r"class|land_?cover|lulc|(?<![a-z])svm(?![a-z])|isodata|kmeans"
_OTHER = r"(?<![a-z])(st_b\d+|qa_radsat|sr_qa\w*|st_\w+|angles?|b10|b9|b09)(?![a-z0-9])"


def _parts(name: str) -> list[str]:
    """File name first, then its folders from the inside out, in small letters."""
    path = PurePosixPath(name)
    return [path.name.lower(), *(part.lower() for part in reversed(path.parts[:-1]))]


def day_in(text: str) -> date | None:
    """Day that a text says, or None.

    Examples
    --------
    >>> day_in("MOD09GA.A2001281.tif"), day_in("tm0524")
    (datetime.date(2001, 10, 8), None)
    """
    low = text.lower()
    for pattern in _CALENDAR_DAYS:
        for match in re.finditer(pattern, low):
            if found := _calendar(int(match[1]), int(match[3]), int(match[4])):
                return found
    for pattern in _DAYS_OF_YEAR:
        for match in re.finditer(pattern, low):
            year, number = int(match[1]), int(match[2])
            last = (date(year, 12, 31) - date(year, 1, 1)).days + 1
            if 1 <= number <= last:
                return date(year, 1, 1) + timedelta(days=number - 1)
    match2 = re.search(rf"(?<!\d)([0-3]?\d)[-_]?({'|'.join(_MONTHS)})[a-z]*[-_]?{_YEAR}(?!\d)", low)
    return _calendar(int(match2[3]), _MONTHS.index(match2[2]) + 1, int(match2[1])) if match2 else None


def day_of(name: str) -> tuple[date | None, str]:
    """Day of a file by its name, else by its folders, and where it was found."""
    for place, part in enumerate(_parts(name)):
        if found := day_in(part):
            return found, "its name" if place == 0 else f"the folder {part}"
    return None, ""


def month_and_day(name: str) -> tuple[int, int] | None:
    """Month and day of a name that says no year, such as tm0524."""
    match = re.search(_NO_YEAR, _parts(name)[0])
    return (int(match[1]), int(match[2])) if match and _calendar(2000, int(match[1]), int(match[2])) else None


def year_of(name: str) -> int | None:
    """Year that stands alone in a name or folder."""
    for part in _parts(name):
        if match := re.search(rf"(?<!\d){_YEAR}(?!\d)", part):
            return int(match[1])
    return None


def _calendar(year: int, month: int, day: int) -> date | None:
    try:
        return date(year, month, day)
    except ValueError:
        return None


def sensor_of(name: str) -> Sensor | None:
    """Sensor by the file's name, else by its folders; "250m" in the name of a coarse one sets its pixel."""
    for part in _parts(name):
        for pattern, sensor in _SENSORS:
            if re.search(f"{_START}(?:{pattern}){_END}", part):
                size = re.search(r"(?<!\d)(\d{2,4})m(?![a-z0-9])", part) if sensor.role == "coarse" else None
                return Sensor(sensor.name, sensor.role, float(size[1]), sensor.numbers) if size else sensor
    return None


def folder_role(name: str) -> str | None:
    """Role that a folder's name says: "fine" or "coarse"."""
    for part in _parts(name):
        for pattern, role in _FOLDERS:
            if re.search(rf"(?<![a-z]){pattern}(?![a-z])", part):
                return role
    return None


def mask_of(name: str) -> str | None:
    """Kind of mask that a file's name says: qa_pixel, pixel_qa, cfmask, fmask, scl or mask."""
    part = _parts(name)[0]
    return next((kind for pattern, kind in _MASKS if re.search(pattern, part)), None)


def is_classes(name: str) -> bool:
    """Tell whether the name says a map of classes."""
    return re.search(_CLASSES, _parts(name)[0]) is not None


def is_other(name: str) -> bool:
    """Tell whether the name says a layer that is no reflectance: temperature, angles, quality."""
    return re.search(_OTHER, _parts(name)[0]) is not None


def bands_in(name: str, sensor: Sensor | None, count: int) -> tuple[str, ...] | None:
    """Bands that the file's name says: an index, SR_B4 or sur_refl_b01 alone, B432 for three."""
    stem = _parts(name)[0]
    for index in ("ndvi", "evi"):
        if count == 1 and index in stem:
            return (index,)
    if sensor is None or not sensor.numbers:
        return None
    numbers = dict(sensor.numbers)
    if count == 1:
        match = re.search(r"(?<![a-z0-9])b0?(8a|1[12]|[1-8])(?![0-9a-z])", stem)
        found = (match[1],) if match else ()
    else:
        match = re.search(rf"(?<![a-z0-9])b([1-8]{{{count}}})(?![0-9])", stem)
        found = tuple(match[1]) if match else ()
    known = tuple(numbers[number] for number in found if number in numbers)
    return known if len(known) == count and len(set(known)) == count else None


def bands_of(sensor: Sensor | None, count: int) -> tuple[str, ...] | None:
    """Usual order of a file of so many bands; six are blue to swir2, also for MODIS in the CIA and LGC sets."""
    if count == 6:
        return SIX
    if sensor is not None and sensor.name == "MODIS" and count == 7:
        return tuple(band for _, band in _MODIS)
    if sensor is not None and sensor.name == "Landsat 8/9" and count == 7:
        return ("coastal", *SIX)
    if sensor is not None and sensor.name == "Sentinel-2" and count == 4:
        return SIX[:4]
    return None


def plain(description: str) -> str:
    """Band name of a description: "Red", "band_red" or "SR_red" are "red"; "" where it says none."""
    words = re.split(r"[^a-z0-9?]+", description.lower())
    found = [word for word in words if word in KNOWN_BANDS]
    return found[0] if len(found) == 1 else ""


def pattern_of(name: str) -> str:
    """Name with every date, number and date folder as a star: files alike are of one group.

    Examples
    --------
    >>> pattern_of("2001_281_08oct/20011008_TM.tif"), pattern_of("fine/L7_2001-05-24.tif")
    ('*/*_TM.tif', 'fine/L*.tif')
    """
    months = "|".join(_MONTHS)
    out = []
    for part in PurePosixPath(name).parts:
        text = re.sub(rf"(?i)(?<=\d)({months})(?![a-z])", "", part) if re.search(_YEAR, part) else part
        text = re.sub(r"\d+(?:[-_.]\d+)*", "*", text)
        out.append(text if part == PurePosixPath(name).name else re.sub(r"^\*[_-]\*?$|^\*+_?\*?$", "*", text))
    return "/".join(out)
