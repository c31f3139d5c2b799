"""Grid of an area for collections that cover the world: UTM, on the lattice of their own pixels."""

import math
from collections.abc import Sequence

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import CRS, Proj, Transformer
from pyproj.exceptions import CRSError

from .errors import FusionError

NORTH, SOUTH = 84.0, -80.0  # degrees: as far as UTM goes
DISTORTION = 0.005  # most that lengths on the map may differ from those on the ground
SLACK = 0.02  # of a coarse pixel: an outline drawn along an edge takes in no further pixel
STEP = 0.02  # degrees: an edge is followed in steps, which leaves out 0.1 m at most of what a parallel bends
STEPS = 1000  # of an edge, at most

Ring = Sequence[tuple[float, float]]


def utm_grid(ring: Ring, resolution: float, ratio: int, anchor: float = 0.0, crs: str | None = None) -> GeoBox:
    """Fine grid that covers an area in whole coarse pixels, all on one lattice for each UTM zone.

    Parameters
    ----------
    ring : sequence of (lon, lat)
        Outline in degrees, WGS 84, not closed.
    resolution : float
        Side of a fine pixel in metres.
    ratio : int
        Fine pixels per coarse pixel, along one side.
    anchor : float
        Edges of pixels lie at `anchor` modulo `resolution`, those of coarse pixels at `anchor` modulo
        ``ratio * resolution``: metres. 0 fits Sentinel-2, 15 Landsat Collection 2.
    crs : str, optional
        Projected CRS in metres to take in place of the UTM zone; its distortion is not checked.

    Returns
    -------
    odc.geo.geobox.GeoBox
        At least one coarse pixel; every row and column of them is reached by the area. Its size is not bounded here.

    Raises
    ------
    FusionError
        If the area crosses the antimeridian, goes further north or south than UTM does, or so far east or west of the
        zone's middle that lengths are off by more than 0.5 % (660 km: 6 degrees at the equator, 12 at 60 degrees).

    Notes
    -----
    The zone is that of the middle of the area. Without an anchor it is the zone of the military grid, as Sentinel-2's
    tiles have it: EPSG:327xx in the south, and wider zones in Norway (32V) and Svalbard (31X, 33X, 35X, 37X). With one
    it is that of Landsat: six degrees everywhere, and EPSG:326xx in the south too, where northings are negative (USGS:
    Why do Landsat scenes in the Southern Hemisphere display negative UTM values?).

    Examples
    --------
    >>> box = utm_grid([(14.3, 46.2), (14.4, 46.2), (14.4, 46.3)], resolution=30, ratio=16, anchor=15)
    >>> box.crs.to_epsg(), box.shape.yx, box.affine.c % 480, box.affine.f % 480
    (32633, (384, 272), 15.0, 15.0)
    """
    if not (0 < resolution < math.inf and ratio >= 1 and math.isfinite(anchor)):
        raise ValueError(f"wanted pixels with a side and a ratio from 1, got {resolution} m, ratio {ratio}")
    _check_antimeridian(ring)
    if crs is None:
        _check_poles(ring)
        system = CRS.from_epsg(_zone(_middle(ring, 0), _middle(ring, 1), landsat=anchor != 0))
        lon, lat = _outline(ring)
        _check_distortion(lon, lat, system)
    else:
        system = _projected(crs)
        lon, lat = _outline(ring)
    x, y = _placed(lon, lat, system)
    side = ratio * resolution
    left, right = _pixels((x - anchor) / side)
    bottom, top = _pixels((y - anchor) / side)
    corner = Affine(resolution, 0, anchor + left * side, 0, -resolution, anchor + top * side)
    return GeoBox(((top - bottom) * ratio, (right - left) * ratio), corner, system)


def _pixels(along: np.ndarray) -> tuple[int, int]:
    """First coarse pixel and the one after the last."""
    first = math.floor(along.min() + SLACK)
    return first, max(math.ceil(along.max() - SLACK), first + 1)


def _zone(lon: float, lat: float, *, landsat: bool) -> int:
    """EPSG number of the UTM zone, by the rules of Landsat or those of the military grid (Sentinel-2)."""
    number = min(math.floor((lon + 180) / 6) + 1, 60)
    if landsat:
        return 32600 + number
    if 56 <= lat < 64 and 3 <= lon < 12:
        number = 32
    elif lat >= 72 and 0 <= lon < 42:
        number = 31 + 2 * sum(lon >= edge for edge in (9, 21, 33))
    return (32600 if lat >= 0 else 32700) + number


def _middle(ring: Ring, axis: int) -> float:
    return (min(point[axis] for point in ring) + max(point[axis] for point in ring)) / 2


def _outline(ring: Ring) -> tuple[np.ndarray, np.ndarray]:
    """Longitudes and latitudes of points along the outline, which is straight in degrees."""
    ends = np.array(ring, float)
    edges = np.roll(ends, -1, axis=0) - ends
    counts = np.clip(np.ceil(np.abs(edges).max(1) / STEP), 1, STEPS).astype(int)
    points = [end + edge * np.arange(n)[:, None] / n for end, edge, n in zip(ends, edges, counts, strict=True)]
    lon, lat = np.concatenate(points).T
    return lon, lat


def _placed(lon: np.ndarray, lat: np.ndarray, system: CRS) -> tuple[np.ndarray, np.ndarray]:
    x, y = Transformer.from_crs("EPSG:4326", system, always_xy=True).transform(lon, lat)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise FusionError(f"{system.name} wants an area within its reach, got one that leaves it: choose another CRS.")
    return x, y


def _projected(crs: str) -> CRS:
    try:
        system = CRS.from_user_input(crs)
    except CRSError as error:
        raise FusionError(f"A grid wants a CRS such as EPSG:32633, got {crs!r}: give its EPSG number.") from error
    if not system.is_projected or any(axis.unit_conversion_factor != 1 for axis in system.axis_info):
        raise FusionError(f"A grid wants a projected CRS in metres, got {system.name}: give one such as EPSG:32633.")
    return system


def _check_antimeridian(ring: Ring) -> None:
    width = max(abs(ring[i][0] - ring[i - 1][0]) for i in range(len(ring)))
    if width > 180:
        raise FusionError(
            f"An area's edges want to reach over 180 degrees of longitude at most, got {width:g}: where the area "
            "crosses the antimeridian (longitude 180), draw one on each side."
        )


def _check_poles(ring: Ring) -> None:
    lat = max((point[1] for point in ring), key=lambda lat: max(lat - NORTH, SOUTH - lat))
    if not SOUTH <= lat <= NORTH:
        raise FusionError(
            f"UTM covers the latitudes from {-SOUTH:g} S to {NORTH:g} N, got an area up to {abs(lat):g} "
            f"{'N' if lat > 0 else 'S'}: draw inside them."
        )


def _check_distortion(lon: np.ndarray, lat: np.ndarray, system: CRS) -> None:
    scale = np.asarray(Proj(system).get_factors(lon, lat).meridional_scale)  # UTM is conformal: the same every way
    off = np.where(np.isfinite(scale), np.abs(scale - 1), np.inf)
    worst = int(off.argmax())
    if off[worst] > DISTORTION:
        raise FusionError(
            f"{system.name} wants an area where lengths are off by {DISTORTION:.1%} at most, which is 660 km to either "
            f"side of the zone's middle; got one that reaches ({lon[worst]:.4g} E, {lat[worst]:.4g} N): draw a "
            "narrower area."
        )
