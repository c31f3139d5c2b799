"""What a collection's pixels mean: one row per product."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from affine import Affine
from odc.geo.geobox import GeoBox

from .errors import FusionError


@dataclass(frozen=True)
class Product:
    """One collection of images.

    Parameters
    ----------
    name : str
        Name within its source.
    source : str
        Registry name of the source that has it.
    title : str
        What a person reads.
    role : {"fine", "coarse", "truth"}
        On which side of a pair it stands; "truth" is a fine image without clouds and noise, to compare with only.
    bands : tuple of str
        Common names.
    resolution : float
        Side of a pixel in metres.
    scale, offset : float
        ``reflectance = number * scale + offset``.
    origin : str
        "observed", "simulated" (made from finer images) or "synthetic" (made from nothing); shown wherever the
        product is.
    licence, citation : str
        Shown beside the data and written into results.
    geobox : odc.geo.geobox.GeoBox, optional
        Native grid of a collection that covers only one place.
    """

    name: str
    source: str
    title: str
    role: Literal["fine", "coarse", "truth"]
    bands: tuple[str, ...]
    resolution: float
    origin: Literal["observed", "simulated", "synthetic"]
    licence: str
    citation: str
    scale: float = 1.0
    offset: float = 0.0
    geobox: GeoBox | None = None


SAMPLE_GRID = GeoBox((100, 100), Affine(10, 0, 5271982.576551932, 0, -10, 2533004.2149151857), "EPSG:3035")
LAB_GRID = GeoBox((640, 640), Affine(30, 0, 489_600, 0, -30, 3_331_200), "EPSG:32626")
_S2 = "Contains modified Copernicus Sentinel data 2015-2018; series as packed in nrt 0.2.1 (European Union, JRC)"
_S2_BANDS = ("blue", "green", "red", "nir")
_TM_BANDS = ("blue", "green", "red", "nir", "swir1", "swir2")

_ROWS = (
    Product(
        "sentinel2", "sample", "Sentinel-2 L2A, 10 m", "fine", _S2_BANDS, 10, "observed",
        "EUPL-1.2", _S2, scale=1e-4, geobox=SAMPLE_GRID,
    ),
    Product(
        "sentinel2-100m", "sample", "Sentinel-2 seen at 100 m (simulated)", "coarse", _S2_BANDS, 100, "simulated",
        "EUPL-1.2", _S2, scale=1e-4, geobox=SAMPLE_GRID.zoom_out(10),
    ),
    Product(
        "lab-fine", "lab", "Landscape lab, 30 m (synthetic)", "fine", _TM_BANDS, 30, "synthetic",
        "CC0-1.0", "Meantime landscape lab", geobox=LAB_GRID,
    ),
    Product(
        "lab-coarse", "lab", "Landscape lab, 480 m (synthetic)", "coarse", _TM_BANDS, 480, "synthetic",
        "CC0-1.0", "Meantime landscape lab", geobox=LAB_GRID.zoom_out(16),
    ),
    Product(
        "lab-truth", "lab", "Landscape lab, truth at 30 m (synthetic)", "truth", _TM_BANDS, 30, "synthetic",
        "CC0-1.0", "Meantime landscape lab", geobox=LAB_GRID,
    ),
)  # fmt: skip

PRODUCTS: Mapping[tuple[str, str], Product] = MappingProxyType({(row.source, row.name): row for row in _ROWS})


def product(source: str, name: str) -> Product:
    """Return the row of a product.

    Raises
    ------
    FusionError
        If the source has no such product.
    """
    if (source, name) not in PRODUCTS:
        have = ", ".join(row.name for row in PRODUCTS.values() if row.source == source) or "none"
        raise FusionError(f"The source {source!r} has no product {name!r}; it has {have}.")
    return PRODUCTS[source, name]


def of_source(source: str, role: str) -> tuple[Product, ...]:
    """Products of a source of one role: "fine", "coarse" or "truth"."""
    return tuple(row for row in PRODUCTS.values() if row.source == source and row.role == role)
