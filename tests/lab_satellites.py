"""The landscape lab as satellites would deliver it: Landsat and MODIS numbers for a STAC catalogue, an Earth Engine
server or a folder of files. The truth is known on every day, so a whole way can be held to it."""

from datetime import date, datetime
from functools import lru_cache
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox

import earthengine_server
from earthengine_server import SINUSOIDAL
from fusion import Scene, sources
from fusion.area import Ring, rectangle
from fusion.products import LAB_GRID, product
from stac_server import Server, cog, item

FINE = GeoBox(LAB_GRID.shape, LAB_GRID.affine @ Affine.translation(0.5, -0.5), LAB_GRID.crs)  # Landsat's pixel edges
SIDE = 463.312716528
DAYS = tuple(day for day in sources.get("lab").DAYS if date(2021, 5, 1) <= day <= date(2021, 8, 31))  # type: ignore[attr-defined]
FINE_DAYS = tuple(day for day in sources.get("lab").FINE_DAYS if day in DAYS)  # type: ignore[attr-defined]
DATES = (date(2021, 5, 1), date(2021, 8, 31))
TARGET, CLOUDY = date(2021, 7, 12), FINE_DAYS[-1]
LANDSAT = {"SR_B2": "blue", "SR_B3": "green", "SR_B4": "red", "SR_B5": "nir08", "SR_B6": "swir16", "SR_B7": "swir22"}
MODIS = (3, 4, 1, 2, 6, 7)
COLLECTIONS = ("LANDSAT/LC08/C02/T1_L2", "LANDSAT/LC09/C02/T1_L2", "MODIS/061/MCD43A4")


def area(kilometres: float = 10.0) -> Ring:
    """Rectangle of this side in the middle of the landscape."""
    box = FINE.geographic_extent.boundingbox
    x, y = (box.left + box.right) / 2, (box.bottom + box.top) / 2
    dy = kilometres / 2 / 110.9
    dx = dy / np.cos(np.radians(y))
    return rectangle(x - dx, y - dy, x + dx, y + dy)


@lru_cache(maxsize=1)
def modis_grid() -> GeoBox:
    """Sinusoidal grid around the landscape, on MODIS's own lattice."""
    box = FINE.footprint(SINUSOIDAL.to_wkt()).boundingbox
    left, top = (np.floor(box.left / SIDE) - 4) * SIDE, (np.ceil(box.top / SIDE) + 4) * SIDE
    shape = tuple(int(length / SIDE) + 9 for length in (box.top - box.bottom, box.right - box.left))
    return GeoBox(shape, Affine(SIDE, 0, left, 0, -SIDE, top), SINUSOIDAL.to_wkt())


@lru_cache(maxsize=len(DAYS))
def truth(day: date) -> Scene:
    """What is there, on the fine grid."""
    lab = sources.get("lab")
    found = next(each for each in lab.search("lab-truth") if each.day == day)
    scene = lab.read(found, LAB_GRID, product("lab", "lab-truth").bands)
    scene.data.setflags(write=False)
    return Scene(scene.data, FINE, scene.bands, day)


def landsat(day: date) -> dict[str, np.ndarray]:
    """Numbers by Earth Engine's names; on one day the west is under clouds."""
    numbers = np.clip((truth(day).data + 0.2) / 2.75e-5, 1, 65455).round().astype(np.uint16)
    quality = np.full(FINE.shape, 21824, np.uint16)
    if day == CLOUDY:
        quality[:, : FINE.shape[1] // 2] = 22280
    return {**dict(zip(LANDSAT, numbers, strict=True)), "QA_PIXEL": quality, "QA_RADSAT": np.zeros_like(quality)}


def modis(day: date) -> dict[str, np.ndarray]:
    """Numbers of MCD43A4; its names are the same everywhere. Beyond the landscape all is fill."""
    seen = truth(day).to(modis_grid(), "average").data
    numbers = np.where(np.isnan(seen), 32767, (seen * 1e4).round().clip(0, 32766)).astype(np.int16)
    bands = {f"Nadir_Reflectance_Band{n}": band for n, band in zip(MODIS, numbers, strict=True)}
    quality = np.where(np.isnan(seen[0]), 255, 0).astype(np.uint8)
    return {**bands, **{f"BRDF_Albedo_Band_Mandatory_Quality_Band{n}": quality for n in MODIS}}


def fill_catalogue(server: Server) -> None:
    """Put all images into a STAC catalogue as COGs."""
    for day in FINE_DAYS:
        bands = {LANDSAT.get(name, name.lower()): numbers for name, numbers in landsat(day).items()}
        name = f"LC08_L2SP_209039_{day:%Y%m%d}_02_T1"
        _add(server, "landsat-c2-l2", name, day, FINE, bands, {"platform": "landsat-8", "proj:epsg": 32626})
    wkt = {"proj:epsg": None, "proj:wkt2": SINUSOIDAL.to_wkt()}
    for day in DAYS:
        _add(server, "modis-43A4-061", f"MCD43A4.A{day:%Y%j}.h16v06.061", day, modis_grid(), modis(day), wkt)


def _add(
    server: Server, collection: str, name: str, day: date, grid: GeoBox, bands: dict[str, np.ndarray], more: dict
) -> None:
    assets = {}
    for band, numbers in bands.items():
        server.files[f"{name}_{band}.tif"] = cog(numbers, grid.affine, str(grid.crs), block=128)
        assets[band] = f"{server.url}/files/{name}_{band}.tif"
    server.add(collection, item(name, f"{day}T10:00:00Z", grid, assets, more))


def earthengine_assets(folder: Path) -> dict[str, list[earthengine_server.Asset]]:
    """Write all images as GeoTIFFs and name them as Earth Engine does."""
    found: dict[str, list[earthengine_server.Asset]] = {name: [] for name in COLLECTIONS}
    for day in FINE_DAYS:
        name = f"{COLLECTIONS[0]}/LC08_209039_{day:%Y%m%d}"
        found[COLLECTIONS[0]].append(_asset(folder, name, day, FINE, landsat(day), ""))
    for day in DAYS:
        name = f"{COLLECTIONS[2]}/{day:%Y_%m_%d}"
        found[COLLECTIONS[2]].append(_asset(folder, name, day, modis_grid(), modis(day), "SR-ORG:6974"))
    return found


def _asset(
    folder: Path, name: str, day: date, grid: GeoBox, bands: dict[str, np.ndarray], crs: str
) -> earthengine_server.Asset:
    paths = {}
    for band, numbers in bands.items():
        paths[band] = folder / f"{name.replace('/', '_')}_{band}.tif"
        fill = 32767 if band.startswith("Nadir") else None
        _write(paths[band], numbers[None], grid, fill, ())
    return earthengine_server.Asset(name, datetime(day.year, day.month, day.day, 10, 0), paths, crs)


def write_folder(folder: Path) -> None:
    """Write the images as a person keeps them: one file a day and sensor, reflectance times 10,000 on one grid."""
    names = ("blue", "green", "red", "nir", "swir1", "swir2")
    coarse = FINE.zoom_out(16)
    for sub in ("Landsat", "MODIS"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    for day in DAYS:
        numbers = (truth(day).data * 1e4).round().astype(np.int16)
        if day in FINE_DAYS:
            _write(folder / "Landsat" / f"LC08_SR_{day:%Y%m%d}.tif", numbers, FINE, -9999, names)
        seen = (truth(day).to(coarse, "average").data * 1e4).round().astype(np.int16)
        _write(folder / "MODIS" / f"MCD43A4_{day:%Y%m%d}.tif", seen, coarse, -9999, names)


def _write(path: Path, numbers: np.ndarray, grid: GeoBox, fill: float | None, names: tuple[str, ...]) -> None:
    count, height, width = numbers.shape
    profile = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": numbers.dtype}
    with rasterio.open(path, "w", crs=str(grid.crs), transform=grid.affine, nodata=fill, **profile) as file:
        file.write(numbers)
        if names:
            file.descriptions = names
