"""What a collection's pixels mean: one row per product."""

from collections.abc import Mapping
from types import MappingProxyType

from affine import Affine
from odc.geo.geobox import GeoBox

from ._collections import ROWS
from ._product import Product, Rule
from .errors import FusionError

__all__ = ["LAB_GRID", "PRODUCTS", "SAMPLE_GRID", "Product", "Rule", "of_source", "product"]

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

PRODUCTS: Mapping[tuple[str, str], Product] = MappingProxyType({(row.source, row.name): row for row in (*_ROWS, *ROWS)})


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
