"""Pictures for web maps: an RGBA image on any grid, warped to Web Mercator, and the pixel at a place."""

import io
import math
from dataclasses import dataclass

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox
from PIL import Image
from pyproj import Transformer
from rasterio.enums import Resampling
from rasterio.warp import reproject

MERCATOR = "EPSG:3857"
RADIUS = 6378137.0  # metres, of the sphere of EPSG:3857
OVERSAMPLE = 16  # at most: pixels keep straight edges and land where they belong
ENOUGH = 800  # pixels a side beyond which a picture is not oversampled


@dataclass(frozen=True)
class Overlay:
    """One picture in Web Mercator.

    Parameters
    ----------
    png : bytes
        The picture, RGBA, rows from north to south.
    bounds : tuple of float
        West, south, east, north in degrees: the outer edges of the outer pixels.
    georeferenced : bool
        False where the grid had no CRS, so that the place on the map means nothing.
    """

    png: bytes
    bounds: tuple[float, float, float, float]
    georeferenced: bool = True


def overlay(image: np.ndarray, geobox: GeoBox, *, max_side: int = 1400) -> Overlay:
    """Warp an image to Web Mercator, the projection of web maps, and encode it as PNG.

    Unwarped pictures sit up to hundreds of pixels off on such a map.

    Parameters
    ----------
    image : numpy.ndarray
        ``(y, x, 4)`` uint8 red, green, blue and alpha.
    geobox : odc.geo.geobox.GeoBox
        Grid of the image. One without a CRS is placed at longitude 0, latitude 0 with one unit of its
        transform as one Mercator metre (0.000009 degrees), so that grids of one scene lie on each other.
    max_side : int
        Most pixels along a side of the PNG; larger images are averaged down, small ones stay crisp.

    Raises
    ------
    ValueError
        If the image is not uint8 ``(y, x, 4)`` on this grid.

    Examples
    --------
    >>> grid = GeoBox.from_bbox((0, 0, 60, 90), "EPSG:3857", resolution=30)
    >>> west, south, east, north = overlay(np.zeros((3, 2, 4), np.uint8), grid).bounds
    >>> round(west, 9), round(east, 6)
    (0.0, 0.000539)
    """
    if image.dtype != np.uint8 or image.shape != (*geobox.shape, 4):
        raise ValueError(
            f"An overlay wants a uint8 image of shape {(*geobox.shape, 4)} (y, x, RGBA) for its grid, "
            f"got {image.dtype} {image.shape}."
        )
    source = placed(geobox)
    target = _target(source, max_side)
    shrinks = target.shape[0] * target.shape[1] < _mercator(source).shape[0] * _mercator(source).shape[1]
    warped = np.zeros((4, *target.shape), np.uint8)
    reproject(
        np.moveaxis(image, -1, 0), warped, src_transform=source.affine, src_crs=str(source.crs),
        dst_transform=target.affine, dst_crs=MERCATOR, src_alpha=4, dst_alpha=4,
        resampling=Resampling.average if shrinks else Resampling.nearest,
    )  # fmt: skip
    box = target.boundingbox
    corners = (*_degrees(box.left, box.bottom), *_degrees(box.right, box.top))
    return Overlay(_png(np.moveaxis(warped, 0, -1)), corners, geobox.crs is not None)


def locate(geobox: GeoBox, lon: float, lat: float) -> tuple[int, int] | None:
    """Return ``(row, column)`` of the pixel that `overlay` shows at a place in degrees, or None outside.

    Examples
    --------
    >>> grid = GeoBox.from_bbox((0, 0, 60, 90), "EPSG:3857", resolution=30)
    >>> locate(grid, 0.0004, 0.0001)
    (2, 1)
    """
    source = placed(geobox)
    x, y = Transformer.from_crs("EPSG:4326", str(source.crs), always_xy=True).transform(lon, lat)
    column, row = source.wld2pix(x, y)
    inside = 0 <= row < source.shape[0] and 0 <= column < source.shape[1]
    return (int(row), int(column)) if inside else None


def placed(geobox: GeoBox) -> GeoBox:
    """Give a grid without a CRS its place: units are Mercator metres, the first row is the northern one."""
    if geobox.crs is not None:
        return geobox
    a, b, c, d, e, f = geobox.affine[:6]
    turn = -1 if e > 0 else 1
    return GeoBox(geobox.shape, Affine(a, b, c, turn * d, turn * e, turn * f), MERCATOR)


def _mercator(source: GeoBox) -> GeoBox:
    """Grid in Web Mercator that covers the source with pixels of about the same size."""
    return source if source.crs == MERCATOR else source.to_crs(MERCATOR, tight=True)


def _target(source: GeoBox, max_side: int) -> GeoBox:
    """Grid of the PNG: the same extent, at most `OVERSAMPLE` times as many pixels a side."""
    cover = _mercator(source)
    side = max(cover.shape)
    scale = min(OVERSAMPLE, max(1, ENOUGH / side), max_side / side)
    if scale > 1 and source.crs == MERCATOR:
        scale = 1  # already on the map's own grid: nothing to place between pixels
    return cover.zoom_to((max(1, int(cover.shape[0] * scale)), max(1, int(cover.shape[1] * scale))))


def _degrees(x: float, y: float) -> tuple[float, float]:
    """Longitude and latitude of a place in Web Mercator metres."""
    return math.degrees(x / RADIUS), math.degrees(math.atan(math.sinh(y / RADIUS)))


def _png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()
