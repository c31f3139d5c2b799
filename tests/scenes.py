"""The real scenes that tests of several methods read, from the folder of the fixture ``test_data``."""

from dataclasses import replace
from datetime import date
from pathlib import Path

from fusion import Pair, Scene
from fusion.scene import identity_geobox
from landscapes import block_mean


def boreas(folder: Path, day: str, ratio: int) -> Pair:
    """Pair of one day; the coarse image comes resampled to 400 x 400 fine pixels and is brought to block means."""
    names = ("green", "red", "nir")
    fine, coarse = (
        Scene.read(folder / side / f"{sensor}_{day}.tif", bands=names, day=date.fromisoformat(day), scale=1e-4)
        for side, sensor in (("fine", "L7"), ("coarse", "MODIS"))
    )
    grid = identity_geobox(400, 400)
    box = grid if ratio == 1 else grid.zoom_out(ratio)
    return Pair(Scene(block_mean(coarse.data, ratio), box, names, coarse.day), replace(fine, geobox=grid))
