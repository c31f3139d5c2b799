"""Area: an outline on the globe, the grid that covers it, and what lies outside."""

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.geom import Geometry, polygon
from rasterio.features import geometry_mask

from ._utm import utm_grid
from .errors import FusionError
from .overlay import placed
from .products import Product
from .scene import Scene

Ring = tuple[tuple[float, float], ...]  # (longitude, latitude) in degrees, not closed
MAX_VERTICES = 500
MAX_FINE_PIXELS = 16_000_000


def check_ring(area: Sequence[Sequence[float]]) -> None:
    """Raise FusionError unless this is an outline on the globe with a surface."""
    if not 3 <= len(area) <= MAX_VERTICES:
        raise FusionError(f"An area wants 3 to {MAX_VERTICES} corners, got {len(area)}: draw it again.")
    for point in area:
        if len(point) != 2 or not all(map(is_number, point)):
            raise FusionError(f"An area's corners want (longitude, latitude) in degrees, got {point!r}.")
        if not (-180 <= point[0] <= 180 and -90 <= point[1] <= 90):
            raise FusionError(
                f"The corner (longitude {point[0]:g}, latitude {point[1]:g}) is not on the globe: "
                "longitude goes from -180 to 180 and latitude from -90 to 90 degrees. Where an area crosses longitude "
                "180, draw one on each side."
            )
    outline = geometry(tuple((float(x), float(y)) for x, y in area))
    if not outline.is_valid or outline.area < 1e-12:
        raise FusionError("The area's outline crosses itself or has no surface: draw it again without a crossing.")


def check_size(geobox: GeoBox) -> None:
    """Raise FusionError if a grid has more fine pixels than are fused in one go."""
    count = geobox.shape[0] * geobox.shape[1]
    if count > MAX_FINE_PIXELS:
        raise FusionError(
            f"The area has {count / 1e6:.0f} million fine pixels; at most {MAX_FINE_PIXELS / 1e6:.0f} million are "
            "fused in one go: draw a smaller area."
        )


def rectangle(west: float, south: float, east: float, north: float) -> Ring:
    """Return the outline of a rectangle in degrees."""
    return ((west, south), (east, south), (east, north), (west, north))


def ring_of(shape: Any) -> Ring:
    """Outline from GeoJSON: a Polygon, or a Feature or FeatureCollection that holds one.

    Raises
    ------
    FusionError
        If there is not exactly one polygon, or it has holes.
    """
    while isinstance(shape, dict) and shape.get("type") in ("Feature", "FeatureCollection"):
        if shape["type"] == "Feature":
            shape = shape.get("geometry")
            continue
        features = shape.get("features")
        if not isinstance(features, list) or len(features) != 1:
            count = len(features) if isinstance(features, list) else 0
            raise FusionError(f"The GeoJSON wants one feature, got {count}: save the one polygon alone.")
        shape = features[0]
    kind = shape.get("type") if isinstance(shape, dict) else type(shape).__name__
    rings = shape.get("coordinates") if kind == "Polygon" else None
    if not isinstance(rings, list) or len(rings) != 1 or not isinstance(rings[0], list):
        raise FusionError(f"The GeoJSON wants one Polygon without holes, got {kind!r}: draw or save a plain polygon.")
    if len(rings[0]) > MAX_VERTICES + 1:
        raise FusionError(f"The polygon has {len(rings[0])} corners, at most {MAX_VERTICES} are read: simplify it.")
    if not all(isinstance(point, list | tuple) and all(map(is_number, point[:2])) for point in rings[0]):
        raise FusionError(
            "The polygon's corners want pairs of numbers (longitude, latitude): save it again as GeoJSON in degrees."
        )
    points = [tuple(map(float, point[:2])) for point in rings[0]]
    ring = tuple(points[:-1] if len(points) > 1 and points[0] == points[-1] else points)
    check_ring(ring)
    return ring  # type: ignore[return-value] # check_ring has looked: every point has two numbers


def geometry(area: Ring) -> Geometry:
    """Return the area as a geometry in EPSG:4326."""
    return polygon([*area, area[0]], "EPSG:4326")


def extent(row: Product) -> Ring | None:
    """Outline of a product in degrees, or None where it covers the world."""
    if row.geobox is None:
        return None
    outline = placed(row.geobox).extent.to_crs("EPSG:4326")
    return tuple((float(x), float(y)) for x, y in outline.exterior.points[:-1])


def grid(area: Ring, fine: Product, coarse: Product) -> tuple[GeoBox, int]:
    """Fine grid of an area in whole coarse pixels, and the ratio.

    Where the products cover one place the grid is cut from theirs; where they cover the world it is laid out in the
    UTM zone of the area, on the fine product's own pixels.

    Raises
    ------
    FusionError
        If the products do not nest, the area lies outside them or has too many pixels.
    """
    check_ring(area)
    ratio = round(coarse.resolution / fine.resolution)
    if fine.geobox is None:
        if coarse.geobox is not None:
            raise FusionError(
                f"{coarse.title} covers one place and {fine.title} the world: choose a fine product of that place."
            )
        geobox = utm_grid(area, fine.resolution, ratio, fine.anchor)
        check_size(geobox)
        return geobox, ratio
    whole = coarse.geobox or _whole(fine.geobox, ratio)
    there = placed(whole)
    overlap = geometry(area) & there.geographic_extent  # in degrees: far away there are no metres of this CRS
    if overlap.is_empty or not overlap.area:
        raise FusionError(
            f"The area {_degrees(area)} lies outside {fine.title}, which covers {_degrees(extent(fine))}: "
            "draw inside the footprint on the map."
        )
    box = overlap.to_crs(str(there.crs)).boundingbox
    (x0, y0), (x1, y1) = there.wld2pix(box.left, box.top), there.wld2pix(box.right, box.bottom)
    rows, columns = _pixels(y0, y1, whole.shape[0]), _pixels(x0, x1, whole.shape[1])
    geobox = fine.geobox[rows.start * ratio : rows.stop * ratio, columns.start * ratio : columns.stop * ratio]
    check_size(geobox)
    return geobox, ratio


def _whole(geobox: GeoBox, ratio: int) -> GeoBox:
    """Coarse grid of the whole coarse pixels in a fine one."""
    rows, columns = (size // ratio for size in geobox.shape)
    if not rows or not columns:
        raise FusionError(
            f"The fine images have {geobox.shape[0]} x {geobox.shape[1]} pixels, a coarse pixel wants {ratio} x "
            f"{ratio}: choose larger fine images or a coarse product with smaller pixels."
        )
    return geobox[: rows * ratio, : columns * ratio].zoom_out(ratio)


def moved(geobox: GeoBox, shift: tuple[float, float]) -> GeoBox:
    """Return a grid moved by (east, north) in units of its CRS; without a CRS up is north, as in the report."""
    if not any(shift):
        return geobox
    a, b, c, d, e, f = geobox.affine[:6]
    up = -1 if geobox.crs is None and e > 0 else 1
    return GeoBox(geobox.shape, Affine(a, b, c + shift[0], d, e, f + up * shift[1]), geobox.crs)


def clip(scene: Scene, area: Ring) -> Scene:
    """Return the scene with NaN outside the area; a pixel that the outline touches stays."""
    there = placed(scene.geobox)
    outline = geometry(area).to_crs(str(there.crs))
    outside = geometry_mask([outline.json], out_shape=tuple(there.shape), transform=there.affine, all_touched=True)
    return replace(scene, data=np.where(outside, np.float32(np.nan), scene.data)) if outside.any() else scene


def _pixels(low: float, high: float, size: int) -> slice:
    """Whole pixels from `low` to `high`, at least one; an outline drawn along an edge takes in no further pixel."""
    slack = 0.02  # of a pixel
    start = min(max(math.floor(low + slack), 0), size - 1)
    return slice(start, max(min(math.ceil(high - slack), size), start + 1))


def _degrees(area: Ring | None) -> str:
    if area is None:
        return "the world"
    (west, south), (east, north) = (tuple(pick(p[i] for p in area) for i in (0, 1)) for pick in (min, max))
    return f"{west:.3f} to {east:.3f} E, {south:.3f} to {north:.3f} N"


def is_number(value: Any) -> bool:
    """Tell whether this is a finite number that a float can hold; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
