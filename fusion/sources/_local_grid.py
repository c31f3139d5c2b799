"""Grid work of sources that hold one place: which part is asked for, and the cut or the resampling."""

import numpy as np
from odc.geo.geobox import GeoBox
from odc.geo.geom import box

from ..errors import FusionError
from ..scene import ROI, Scene
from . import Bounds, check_bounds
from ._regrid import regrid

SLACK = 0.5  # pixels of the image by which a grid may reach beyond it
SHIFT_SLACK = 2.6  # the same for coarse images, which an alignment reads displaced by up to 2.5


def window(native: GeoBox, bounds: Bounds | None) -> ROI | None:
    """Pixels that an area in degrees touches, or None where it touches none.

    Raises
    ------
    FusionError
        If the bounds are no rectangle on the globe.
    """
    if bounds is None:
        return slice(0, native.shape[0]), slice(0, native.shape[1])
    outline = box(*check_bounds(bounds), "EPSG:4326") & native.geographic_extent
    if outline.is_empty or not outline.area:
        return None
    corners = outline.to_crs(str(native.crs)).boundingbox
    (x0, y0), (x1, y1) = native.wld2pix(corners.left, corners.top), native.wld2pix(corners.right, corners.bottom)
    rows, columns = ((max(int(np.floor(a)), 0), int(np.ceil(b))) for a, b in ((y0, y1), (x0, x1)))
    roi = slice(rows[0], min(rows[1], native.shape[0])), slice(columns[0], min(columns[1], native.shape[1]))
    return roi if all(part.start < part.stop for part in roi) else None


def footprint(native: GeoBox) -> Bounds:
    """West, south, east and north of a grid in degrees."""
    corners = native.geographic_extent.boundingbox
    return corners.left, corners.bottom, corners.right, corners.top


def cut(scene: Scene, geobox: GeoBox, slack: float = SLACK) -> Scene:
    """Bring an image onto a grid inside it, give or take `slack` of its pixels, where nothing is known: NaN.

    Raises
    ------
    FusionError
        If the grid has no CRS or reaches beyond the image.
    """
    if geobox.crs is None:
        raise FusionError(
            f"The image of {scene.day} is in {_crs(scene.geobox)}, the grid asked for has no CRS: "
            "give the grid a coordinate reference system."
        )
    _check_inside(scene, geobox, slack)
    return regrid(scene, geobox)


def _check_inside(scene: Scene, geobox: GeoBox, slack: float) -> None:
    """Compare the edge of the asked grid with the image, in the image's pixels."""
    native = scene.geobox
    edge = geobox.extent if geobox.crs == native.crs else geobox.footprint(str(native.crs))
    asked = edge.boundingbox
    a, whole = native.affine, native.boundingbox
    over = max(whole.left - asked.left, asked.right - whole.right) / abs(a.a)
    over = max(over, max(whole.bottom - asked.bottom, asked.top - whole.top) / abs(a.e))
    if not over <= slack:
        raise FusionError(
            f"The image of {scene.day} covers x {whole.left:.0f} to {whole.right:.0f} and y {whole.bottom:.0f} to "
            f"{whole.top:.0f} in {_crs(native)}, asked was x {asked.left:.0f} to {asked.right:.0f} and "
            f"y {asked.bottom:.0f} to {asked.top:.0f}: choose an area inside."
        )


def _crs(geobox: GeoBox) -> str:
    code = geobox.crs.to_epsg() if geobox.crs is not None else None
    return f"EPSG:{code}" if code else "its own CRS"
