"""What a check of own files wants to know beyond the report: that they are in metres, and where they end."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from ..area import Ring, clip, moved
from ..preprocess import Report
from ..scene import Scene
from . import Item, _own_data, _own_store
from ._own_pixels import geobox

_LENGTH = re.compile(r"(\d+(?:\.\d+)?) (?:units|pixels) (?=east|west|north|south)")
_SLACK = 1e-4  # pixels; grids are written with rounded numbers


@dataclass(frozen=True)
class Unreached:
    """What of an area has no coarse pixel any more once the images are read elsewhere.

    Parameters
    ----------
    share : float
        0..1, of the area.
    edges : tuple of str
        Where: "northern", "southern", "western", "eastern"; empty where it is no whole edge.
    """

    share: float = 0.0
    edges: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """A sentence, empty where nothing is lost."""
        if not self.share:
            return ""
        number = f"{100 * self.share:.0f}" if self.share >= 0.01 else f"{100 * self.share:.1g}"
        edge = f", at its {' and '.join(self.edges)} edge{'s' if len(self.edges) > 1 else ''}," if self.edges else ""
        return f"Read there, about {number} % of the area{edge} gets no value: the coarse images end before it."


def in_metres(found: Report, fine: Item, grid: GeoBox) -> Report:
    """Return the report in metres where own files without a CRS lie on a grid of the metres that were answered."""
    if fine.source != "local" or grid.crs is not None or found.unit == "m":
        return found
    if not np.isclose(abs(grid.affine.a), _own_data.product(fine.product).resolution):
        return found  # the files' own numbers for their place are no metres
    verdict = _LENGTH.sub(lambda part: f"{float(part[1]):.0f} m ", found.verdict)
    return replace(found, unit="m", verdict=verdict)


def unreached(coarse: Iterable[Item], box: GeoBox, area: Ring, shift: tuple[float, float]) -> Unreached:
    """Return what of an area has a coarse pixel now and none once own coarse images are read moved by `shift`.

    A coarse pixel counts where its middle lies in the file, which is where at least half of it does.
    """
    files = {grid for item in coarse if item.source == "local" for grid in _grids(item)}
    if not files or not any(shift):
        return Unreached()
    there = moved(box, shift)
    lost = np.any([_covers(file, box) & ~_covers(file, there) for file in files], axis=0)
    ones = Scene(np.ones((1, *box.shape), np.float32), box, ("inside",), date.min)
    inside = np.isfinite(clip(ones, area).data[0])
    share = float((lost & inside).sum() / max(inside.sum(), 1))
    lines = lost if box.affine.e < 0 else lost[::-1]
    sides = {"northern": lines[0], "southern": lines[-1], "western": lines[:, 0], "eastern": lines[:, -1]}
    return Unreached(share, tuple(name for name, side in sides.items() if side.all()) if share else ())


def _grids(item: Item) -> set[GeoBox]:
    key, role = _own_data.split(item.product)
    manifest = _own_store.read(key)
    image = _own_data.image_of(manifest, role, item.day)
    return {geobox(manifest["grids"][part["grid"]]) for part in image["parts"].values()}


def _covers(file: GeoBox, box: GeoBox) -> np.ndarray:
    """Where the middles of a grid's pixels lie in a file."""
    columns, rows = np.meshgrid(np.arange(box.shape[1]) + 0.5, np.arange(box.shape[0]) + 0.5)
    a, b, c, d, e, f = box.affine[:6]
    x, y = a * columns + b * rows + c, d * columns + e * rows + f
    if box.crs is not None and file.crs is not None and box.crs != file.crs:
        x, y = (np.asarray(axis) for axis in CRS(str(box.crs)).transformer_to_crs(str(file.crs))(x, y))
    a, b, c, d, e, f = (~file.affine)[:6]
    across, down = a * x + b * y + c, d * x + e * y + f
    found: np.ndarray = (np.abs(across / file.shape[1] - 0.5) <= 0.5 + _SLACK / file.shape[1]) & (
        np.abs(down / file.shape[0] - 0.5) <= 0.5 + _SLACK / file.shape[0]
    )
    return found
