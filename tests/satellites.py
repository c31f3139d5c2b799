"""A small STAC catalogue of Landsat and MODIS images for tests of the whole way; run it beside the real client."""

from collections.abc import Sequence
from datetime import date, timedelta

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from fusion.area import Ring, rectangle
from stac_server import Server, blocks, cog, item

FINE = GeoBox((320, 352), Affine(30, 0, 499_695, 0, -30, 5_099_535), "EPSG:32633")
COARSE = FINE.zoom_out(16).pad(2)
LANDSAT = ("blue", "green", "red", "nir08", "swir16", "swir22")
MODIS = (3, 4, 1, 2, 6, 7)
FIRST = date(2020, 6, 7)
FINE_DAYS = tuple(FIRST + timedelta(days=16 * n) for n in range(5))
COARSE_DAYS = tuple(FIRST + timedelta(days=4 * n) for n in range(18))
CLOUDY = FINE_DAYS[3]
DATES = (date(2020, 6, 1), date(2020, 8, 31))


def area(part: float = 0.5) -> Ring:
    """Rectangle in the middle of the images, this share of their sides."""
    box = FINE.geographic_extent.boundingbox
    x, y = (box.right - box.left) * (1 - part) / 2, (box.top - box.bottom) * (1 - part) / 2
    return rectangle(box.left + x, box.bottom + y, box.right - x, box.top - y)


def fill(server: Server, fine: Sequence[date] = FINE_DAYS, coarse: Sequence[date] = COARSE_DAYS) -> None:
    """Put the images into a catalogue; on one day half of the fine image is under clouds."""
    for day in fine:
        _add(server, "landsat-c2-l2", f"LC08_L2SP_190028_{day:%Y%m%d}_02_T1", day, FINE, _landsat(day))
    for day in coarse:
        name = f"MCD43A4.A{day:%Y%j}.h18v04.061.2020300000000"
        _add(server, "modis-43A4-061", name, day, COARSE, _modis(day))


def _add(server: Server, collection: str, name: str, day: date, grid: GeoBox, bands: dict[str, np.ndarray]) -> None:
    assets = {}
    for band, numbers in bands.items():
        file = f"{name}_{band}.tif"
        server.files[file] = cog(numbers, grid.affine, str(grid.crs), block=128)
        assets[band] = f"{server.url}/files/{file}"
    platform = {"platform": "landsat-8"} if "landsat" in collection else {}
    server.add(collection, item(name, f"{day}T10:00:00Z", grid, assets, platform))


def _landsat(day: date) -> dict[str, np.ndarray]:
    rising = 40 * (day - FIRST).days
    bands = {band: blocks(FINE.shape, seed) + np.uint16(rising) for seed, band in enumerate(LANDSAT)}
    clouds = np.full(FINE.shape, 64, np.uint16)
    clouds[:, : FINE.shape[1] // 2] = 8 if day == CLOUDY else 64
    return {**bands, "qa_pixel": clouds, "qa_radsat": np.zeros(FINE.shape, np.uint16)}


def _modis(day: date) -> dict[str, np.ndarray]:
    rising = 11 * (day - FIRST).days
    shape = COARSE.shape
    bands = {f"Nadir_Reflectance_Band{n}": (blocks(shape, n) // 8 + rising).astype(np.int16) for n in MODIS}
    quality = {f"BRDF_Albedo_Band_Mandatory_Quality_Band{n}": np.zeros(shape, np.uint8) for n in MODIS}
    return bands | quality
