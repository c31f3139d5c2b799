"""An Earth Engine image without pixels: its grid, the types of its bands, and numbers in which nothing is masked.

Masked pixels come over the network as zeros. So each band is asked for with a number in their place that it cannot hold
otherwise (its own fill value, or one beyond its valid range), and a band is masked wherever one of its quality bands
is: a pixel whose quality nobody knows is missing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from affine import Affine
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from pyproj.exceptions import CRSError

from .._product import Product
from ..errors import FusionError
from . import Bounds
from ._ee_calls import plain_number

LARGEST = 50_331_648 - 2**20  # bytes of an answer, less some for its head
FILL = -9999.0  # in place of masked pixels of decimal bands; no reflectance and no radiance
SINUSOIDAL = "+proj=sinu +lon_0=0 +x_0=0 +y_0=0 +R=6371007.181 +units=m +no_defs"
_WHOLE = ("uint8", "uint16", "int16", "int32", "uint32")
_MODIS = ("SR-ORG:6974", "SR-ORG:6842")  # Earth Engine's names of the sphere's sinusoidal projection

# Solar irradiance at one astronomical unit, W m-2 um-1, at 490, 560, 665 and 865 nm: Thuillier et al. 2003
# (doi:10.1023/A:1024048429145) over MERIS bands 3, 5, 7 and 13, whose centres and widths are those of OLCI's.
SUN = {"Oa04_radiance": 1926.6102, "Oa06_radiance": 1804.2762, "Oa08_radiance": 1531.4067, "Oa17_radiance": 955.07043}
LOW_SUN = 0.05  # cosine of the zenith angle; below, 3 degrees above the horizon, there is no reflectance


@dataclass(frozen=True)
class Picture:
    """What is known of one image.

    Parameters
    ----------
    id : str
        Asset id.
    time : float
        Milliseconds since 1970, UTC.
    crs : str
        As Earth Engine calls it, a code or WKT.
    geobox : odc.geo.geobox.GeoBox
        Grid of its finest band.
    types : mapping of str to str
        Type of each band's numbers, as numpy calls it.
    """

    id: str
    time: float
    crs: str
    geobox: GeoBox
    types: Mapping[str, str]


def picture(id: str, info: Any, native: Sequence[str]) -> Picture:
    """Read what Earth Engine tells of an image; `native` are the bands of which the finest gives the grid.

    Raises
    ------
    FusionError
        If a band or its projection is missing or unknown.
    """
    try:
        bands = {str(band["id"]): band for band in info["bands"]}
        time = plain_number(info["properties"]["system:time_start"])
        types = {name: _type(band["data_type"]) for name, band in bands.items()}
        finest = min((bands[name] for name in native), key=lambda band: abs(plain_number(band["crs_transform"][0])))
        crs = str(finest.get("crs") or finest.get("crs_wkt") or finest["wkt"])
        affine = Affine(*(plain_number(value) for value in finest["crs_transform"]))
        affine = affine * Affine.translation(*(plain_number(value) for value in finest.get("origin", (0, 0))))
        width, height = (int(plain_number(value)) for value in finest["dimensions"])
        geobox = GeoBox((height, width), affine, CRS(SINUSOIDAL if crs in _MODIS else crs))
    except (KeyError, TypeError, ValueError, CRSError) as error:
        raise FusionError(
            f"The image {id} wants bands with a projection, a size and a day; {error} is missing or unknown: "
            "choose another image."
        ) from error
    return Picture(id, time, crs, geobox, types)


def footprint(found: Picture) -> Bounds | None:
    """West, south, east and north of an image in degrees; None for one that covers the world."""
    if found.crs in _MODIS or math.prod(found.geobox.shape) > 2**31:
        return None
    corners = found.geobox.geographic_extent.boundingbox
    return corners.left, corners.bottom, corners.right, corners.top


def own_row(row: Product, found: Picture) -> Product:
    """Product of one image: scale and valid range by the type of its numbers.

    HLS comes as decimal reflectance in some versions and as whole numbers of 10,000 for 1 in others; OLCI is turned
    into reflectance when it is read.
    """
    whole = all(found.types[name] in _WHOLE for name in row.native)
    if is_radiance(row):
        return replace(row, scale=1.0, offset=0.0, valid=None, fill=None)
    if row.scale == 1.0 and whole:
        return replace(row, scale=1e-4, fill=FILL, valid=(-2000, 16000))
    return row


def is_radiance(row: Product) -> bool:
    """Whether the numbers are radiance, to be divided by the sun's."""
    return all(name in SUN for name in row.native)


def filled(row: Product, dtype: str) -> tuple[float, str]:
    """Return the number that stands for masked pixels of a band, and the type that holds it and all others."""
    if dtype not in _WHOLE:
        return FILL, dtype
    number = row.fill
    if number is None:
        number = row.valid[0] - 1 if row.valid else FILL
    holds = [name for name in _WHOLE if _holds(name, dtype, number)]
    return number, holds[0] if holds else "float64"


def rows_at_once(tile: GeoBox, types: Sequence[str]) -> int:
    """How many rows of a tile fit into one answer."""
    bytes_of_row: int = tile.shape[1] * sum(np.dtype(name).itemsize for name in types)
    return max(1, LARGEST // bytes_of_row)


def toa(radiance: np.ndarray, band: str, tile: GeoBox, time: float) -> np.ndarray:
    """Top-of-atmosphere reflectance, pi L d2 / (E0 cos z), of radiance L in W m-2 sr-1 um-1; NaN where it is missing.

    Notes
    -----
    Earth Engine's OLCI holds radiance; the scale factors of its description must not be applied [1]_. The sun's height
    is computed at each pixel for the image's time, within 0.1 degrees.

    References
    ----------
    .. [1] Prikaziuk, E., Yang, P., van der Tol, C. (2021). Google Earth Engine Sentinel-3 OLCI Level-1 Dataset
       Deviates from the Original Data. Remote Sensing 13, 1098. doi:10.3390/rs13061098
    """
    missing = (radiance == FILL) | ~np.isfinite(radiance) | (radiance <= 0) | (radiance >= 65535)
    height, distance = sun(tile, time)
    cosine = np.where(height > LOW_SUN, height, np.nan)
    light = np.where(missing, np.nan, radiance.astype(np.float64))
    out: np.ndarray = (math.pi * light * distance**2 / (SUN[band] * cosine)).astype(np.float32)
    return out


def sun(tile: GeoBox, time: float) -> tuple[np.ndarray, float]:
    """Cosine of the sun's zenith angle ``(y, x)`` and its distance in astronomical units.

    Notes
    -----
    Low-precision formulas of the Astronomical Almanac: 0.01 degrees between 1950 and 2050, refraction left out.
    """
    days = (datetime.fromtimestamp(time / 1000, UTC) - datetime(2000, 1, 1, 12, tzinfo=UTC)).total_seconds() / 86400
    mean = math.radians(357.528 + 0.9856003 * days)
    along = math.radians(280.460 + 0.9856474 * days + 1.915 * math.sin(mean) + 0.020 * math.sin(2 * mean))
    tilt = math.radians(23.439 - 4e-7 * days)
    declination = math.asin(math.sin(tilt) * math.sin(along))
    ascension = math.atan2(math.cos(tilt) * math.sin(along), math.cos(along))
    sidereal = math.radians(15 * (18.697374558 + 24.06570982441908 * days))
    longitude, latitude = _places(tile)
    hour = sidereal + longitude - ascension
    cosine: np.ndarray = np.sin(latitude) * math.sin(declination) + np.cos(latitude) * math.cos(declination) * np.cos(
        hour
    )
    return cosine, 1.00014 - 0.01671 * math.cos(mean) - 0.00014 * math.cos(2 * mean)


def _places(tile: GeoBox) -> tuple[np.ndarray, np.ndarray]:
    """Longitude and latitude of all pixels' centres, radians."""
    x, y = np.meshgrid(np.arange(tile.shape[1]) + 0.5, np.arange(tile.shape[0]) + 0.5)
    a = tile.affine
    east, north = a.a * x + a.b * y + a.c, a.d * x + a.e * y + a.f
    if tile.crs is not None and not tile.crs.geographic:
        east, north = tile.crs.transformer_to_crs(CRS("EPSG:4326"), always_xy=True)(east, north)
    return np.radians(east), np.radians(north)


def _holds(name: str, dtype: str, number: float) -> bool:
    one, two = np.iinfo(name), np.iinfo(dtype)
    return one.min <= min(two.min, number) and max(two.max, number) <= one.max and number == int(number)


def _type(told: Mapping[str, Any]) -> str:
    """Smallest type that holds what Earth Engine says of a band."""
    if told.get("precision") != "int":
        return "float32" if told.get("precision") == "float" else "float64"
    low, high = plain_number(told["min"]), plain_number(told["max"])
    return next((n for n in _WHOLE if np.iinfo(n).min <= low and high <= np.iinfo(n).max), "float64")
