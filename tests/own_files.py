"""Small own files for tests: folders as people have them, written in four formats."""

import warnings
from datetime import date
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from rasterio.errors import NotGeoreferencedWarning

SIX = ("blue", "green", "red", "nir", "swir1", "swir2")
UTM = Affine(30, 0, 600_000, 0, -30, 5_100_000)
CRS = "EPSG:32633"
DAYS = (date(2001, 10, 8), date(2001, 10, 17), date(2001, 11, 2))


def ground(step: int = 0, bands: int = 6, height: int = 96, width: int = 80) -> np.ndarray:
    """``(band, y, x)`` reflectance x 10,000, int16: fields of different size, no symmetry, brighter at each step."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[0:height, 0:width]
    fields = rng.integers(300, 3000, (height // 5 + 1, width // 7 + 1))[y // 5, x // 7]
    noise = rng.integers(-60, 60, (bands, height, width))
    return (fields + 4 * x + 150 * np.arange(bands)[:, None, None] + noise + 180 * step).astype(np.int16)


def seen_coarse(fine: np.ndarray, ratio: int) -> np.ndarray:
    """Block means of ``(band, y, x)``, repeated to the fine grid."""
    bands, height, width = fine.shape
    means = fine.reshape(bands, height // ratio, ratio, width // ratio, ratio).mean(axis=(2, 4))
    return means.repeat(ratio, axis=1).repeat(ratio, axis=2).astype(fine.dtype)


def write(
    path: Path,
    data: np.ndarray,
    transform: Affine | None = UTM,
    crs: str | None = CRS,
    driver: str = "GTiff",
    names: tuple[str, ...] = (),
    **more: object,
) -> Path:
    """Write ``(band, y, x)`` numbers as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bands, height, width = data.shape
    place = {} if transform is None else {"transform": transform, "crs": crs}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # meant, where there is no transform
        with rasterio.open(
            path, "w", driver=driver, count=bands, height=height, width=width, dtype=data.dtype, **place, **more
        ) as file:
            file.write(data)
            if names:
                file.descriptions = names
    return path


def cia(root: Path, driver: str = "GTiff", transform: Affine | None = UTM, ratio: int = 16) -> Path:
    """Folder laid out as CIA and LGC: one folder a date, with a Landsat and a MODIS file on one grid."""
    ending = {"GTiff": "tif", "ENVI": "int"}[driver]
    for step, day in enumerate(DAYS):
        folder = root / f"{day:%Y_%j_%d}{day.strftime('%b').lower()}"
        fine = ground(step)
        write(folder / f"{day:%Y%m%d}_TM.{ending}", fine, transform, driver=driver)
        write(folder / f"MOD09GA_A{day:%Y%j}.{ending}", seen_coarse(fine, ratio), transform, driver=driver)
    return root


def pairs(root: Path, steps: int = 2, **more: object) -> Path:
    """Folders fine and coarse with sure names, three named bands and a ratio of 8."""
    for step, day in list(enumerate(DAYS))[:steps]:
        fine = ground(step, 3)
        write(root / f"fine/L7_{day}.tif", fine, names=SIX[1:4], **more)
        write(root / f"coarse/MODIS_{day}.tif", seen_coarse(fine, 8), names=SIX[1:4], **more)
    return root


def netcdf(path: Path, ratio: int = 1, offset_step: int = 0) -> Path:
    """Classic NetCDF with a time axis: red and nir on three days, floats 0..1, in the UTM zone of the others."""
    import xarray

    data = np.stack([ground(step + offset_step, 2) for step in range(3)]) / np.float32(1e4)
    if ratio > 1:
        steps, bands, height, width = data.shape
        data = data.reshape(steps, bands, height // ratio, ratio, width // ratio, ratio).mean(axis=(3, 5))
    side = 30 * ratio
    y = 5_100_000 - side * (np.arange(data.shape[2]) + 0.5)
    x = 600_000 + side * (np.arange(data.shape[3]) + 0.5)
    crs = rasterio.crs.CRS.from_epsg(32633)
    cube = xarray.Dataset(
        {
            name: (("time", "y", "x"), data[:, i].astype(np.float32), {"grid_mapping": "crs"})
            for i, name in enumerate(("red", "nir"))
        },
        coords={
            "time": ("time", [0, 9, 25], {"units": "days since 2001-10-08", "standard_name": "time"}),
            "y": ("y", y, {"standard_name": "projection_y_coordinate", "units": "m"}),
            "x": ("x", x, {"standard_name": "projection_x_coordinate", "units": "m"}),
            "crs": (
                (),
                0,
                {"crs_wkt": crs.to_wkt(), "spatial_ref": crs.to_wkt(), "grid_mapping_name": "transverse_mercator"},
            ),
        },
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    cube.to_netcdf(path, engine="scipy")
    return path
