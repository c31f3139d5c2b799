# /// script
# requires-python = ">=3.11"
# dependencies = ["h5py==3.*", "numpy", "rasterio==1.4.*", "pip"]
# ///
"""Make the bundled sample: 16 dates of a real Sentinel-2 series out of the wheel of PyPI's package nrt.

    uv run assets/make_sample.py

or in any environment with h5py and rasterio: ``python assets/make_sample.py``. Run again, it writes the same bytes.
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path

import h5py
import numpy as np
import rasterio
from rasterio.transform import Affine

RELEASE = "nrt==0.2.1"
SHA256 = "cd0291f99ce91268a0d993f05be1c69678d62504b01d36e7124d0ff3a51b3ee9"
CUBE = "nrt/data/sentinel2_cube_subset_romania_10m.nc"
LICENCE = "nrt-0.2.1.dist-info/LICENSE"
EPOCH = date(2015, 8, 1)
PIXEL = 10.0  # metres
BANDS = {"blue": "B2", "green": "B3", "red": "B4", "nir": "B8"}
INVALID = (0, 1, 3, 8, 9, 10, 11)  # classes of SCL: no data, saturated, shadow, cloud (2), cirrus, snow
NODATA = -32768

# Chosen by eye among the dates that SCL calls clear, for it misses clouds and haze on 2017-06-21, 2017-07-01,
# 2018-04-02, 2018-07-21 and 2018-08-15. NOTICE.md tells what happens on them.
DAYS = (
    *("2015-08-31", "2016-08-05"),
    *("2017-04-12", "2017-06-06", "2017-07-11", "2017-08-15", "2017-09-14", "2017-10-19"),
    *("2018-04-12", "2018-04-22", "2018-05-02", "2018-05-22", "2018-07-01", "2018-08-25", "2018-09-19", "2018-10-14"),
)


def main() -> None:
    """Download, check, cut out and write."""
    folder = Path(__file__).parent / "sample"
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        wheel = download(Path(temporary))
        with zipfile.ZipFile(wheel) as archive:
            cube = archive.extract(CUBE, temporary)
            (folder / "LICENSE-EUPL-1.2.txt").write_bytes(archive.read(LICENCE))
        with h5py.File(cube) as file:
            transform = place(file)
            when = days(file)
            for day in map(date.fromisoformat, DAYS):
                write(folder / f"S2_{day}.tif", scene(file, when[day]), transform, day)


def download(folder: Path) -> Path:
    """Return the pinned wheel; stop if its bytes are not the ones this script was written for."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    subprocess.run([*pip, "--dest", str(folder), RELEASE], check=True)
    (wheel,) = folder.glob("*.whl")
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != SHA256:
        raise SystemExit(f"{wheel.name}: wanted sha256 {SHA256}, got {found}")
    return wheel


def place(file: Mapping[str, h5py.Dataset]) -> Affine:
    """Return the transform of the north-up grid; the file holds pixel centres, first row northernmost."""
    x, y = file["x"][:], file["y"][:]
    steps = np.diff(x), np.diff(y)
    if not (np.allclose(steps[0], PIXEL) and np.allclose(steps[1], -PIXEL)):
        raise SystemExit(f"wanted a north-up grid of {PIXEL} m, got steps {steps[0][0]} and {steps[1][0]}")
    if '"EPSG","3035"' not in file["spatial_ref"].attrs["spatial_ref"].decode():
        raise SystemExit("wanted coordinates in EPSG:3035")
    return Affine(PIXEL, 0, x[0] - PIXEL / 2, 0, -PIXEL, y[0] + PIXEL / 2)


def days(file: Mapping[str, h5py.Dataset]) -> dict[date, int]:
    """Return the index of every day in the cube."""
    unit = file["time"].attrs["units"].decode()
    if unit != f"days since {EPOCH} 00:00:00":
        raise SystemExit(f"wanted days since {EPOCH}, got {unit!r}")
    return {EPOCH + timedelta(days=int(count)): index for index, count in enumerate(file["time"][:])}


def scene(file: Mapping[str, h5py.Dataset], index: int) -> np.ndarray:
    """Return reflectance x 10000, (band, y, x) int16; what SCL calls invalid, or the source has not, is NODATA."""
    numbers = np.stack([file[name][index] for name in BANDS.values()])
    invalid = np.isin(file["SCL"][index], INVALID)
    if invalid.mean() > 0.02:
        raise SystemExit(f"date {index}: {invalid.mean():.0%} of the pixels are not clear, wanted at most 2 %")
    return np.where(invalid | (numbers == 0), NODATA, numbers).astype(np.int16)  # 0 is the cube's own nodata


def write(path: Path, numbers: np.ndarray, transform: Affine, day: date) -> None:
    """Write a small GeoTIFF that says its place, bands, scale and day."""
    count, height, width = numbers.shape
    shape = {"count": count, "height": height, "width": width, "dtype": "int16", "nodata": NODATA}
    packing = {"compress": "DEFLATE", "predictor": 2, "zlevel": 9, "interleave": "band"}
    with rasterio.open(path, "w", driver="GTiff", crs="EPSG:3035", transform=transform, **shape, **packing) as file:
        file.write(numbers)
        file.descriptions = tuple(BANDS)
        file.scales = (0.0001,) * count
        file.update_tags(
            DATE=day.isoformat(),
            UNITS="surface reflectance",
            SOURCE="Contains modified Copernicus Sentinel data 2015-2018; from nrt 0.2.1, (c) European Union, EUPL-1.2",
        )
        for band in range(1, count + 1):
            file.update_tags(band, NAME=file.descriptions[band - 1])


if __name__ == "__main__":
    main()
