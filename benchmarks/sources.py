"""Requests, bytes and seconds to reach an area of 10 x 10 km with two pairs and a target, through each source.

Run: PYTHONPATH=.:tests python benchmarks/sources.py [--json FILE]

The sources are real, their servers run on loopback: a STAC catalogue with COGs, an Earth Engine that evaluates what
the unmodified client sends, and a folder of GeoTIFFs. All hold the landscape lab as Landsat 8 (30 m) and MCD43A4
(463 m, sinusoidal) would deliver it, so the error of a result against the truth is printed as well. "cached" is the
same request with the pixels on disk. Loopback says nothing of the latency of the internet: requests and bytes do.

"full-size COG" reads one band of the same area out of a file of 7680 x 7680 pixels.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

import earthengine_server
import lab_satellites as world
import stac_server
from fusion import Recipe, evaluate, fuse, load, methods, recipe_for, sources
from fusion.area import clip
from fusion.sources import Item

Counts = Callable[[], tuple[int, int]]  # requests and bytes so far


def main() -> int:
    """Print the table; optionally write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    target = parser.parse_args().json
    rows: list[dict[str, Any]] = []
    print(f"{'source':14}{'step':16}{'requests':>9}{'MB':>9}{'seconds':>9}")
    with tempfile.TemporaryDirectory() as place:
        os.environ["FUSION_CACHE"] = f"{place}/cache"
        os.environ["FUSION_OWN"] = f"{place}/own"
        for name, start in (("stac", _stac), ("earthengine", _earthengine), ("local", _local)):
            with start(Path(place)) as (options, counts):
                rows += _way(name, options, counts)
        rows.append(_full_size())
    if target:
        target.write_text(json.dumps(rows, indent=1))
    return 0


def _way(name: str, options: dict[str, Any], counts: Counts) -> list[dict[str, Any]]:
    """Search, read cold, read again, and fuse."""
    rows: list[dict[str, Any]] = []

    def measured(step: str, work: Callable[[], Any]) -> Any:
        (requests, size), began = counts(), time.perf_counter()
        out = work()
        seconds, (more, larger) = time.perf_counter() - began, counts()
        rows.append(_row(name, step, more - requests, larger - size, seconds))
        return out

    products = {} if name == "local" else {"fine": "landsat", "coarse": "mcd43a4"}
    ring = world.area(10)

    def propose() -> Recipe:
        return recipe_for(name, world.TARGET, area=ring, options=options, dates=world.DATES, **products)

    if name == "earthengine":
        measured("sign in", sources.get(name).sign_in)  # type: ignore[attr-defined]
    recipe = measured("search", propose)
    measured("search cached", propose)
    stack = measured("read cold", lambda: load(recipe))
    measured("read cached", lambda: load(recipe))
    fused = clip(fuse(stack, methods.get("starfm")()), recipe.area)
    truth = world.truth(world.TARGET).to(recipe.geobox, "nearest").select(recipe.bands)
    rmse = evaluate(fused, truth, ("RMSE",))["RMSE"]["mean"]
    shape = "x".join(map(str, recipe.geobox.shape))
    print(f"{'':14}STARFM of {len(recipe.pairs)} pairs on {shape} pixels: RMSE {rmse:.5f} against the truth")
    return [{**row, "rmse": rmse} for row in rows]


def _row(name: str, step: str, requests: int, size: int, seconds: float) -> dict[str, Any]:
    print(f"{name:14}{step:16}{requests:9d}{size / 1e6:9.2f}{seconds:9.2f}", flush=True)
    return {"source": name, "step": step, "requests": requests, "bytes": size, "seconds": seconds}


@contextmanager
def _stac(place: Path) -> Iterator[tuple[dict[str, Any], Counts]]:
    with stac_server.running() as server:
        world.fill_catalogue(server)
        os.environ["FUSION_STAC"] = f"loop={server.url}"
        yield {"catalogue": "loop"}, lambda: (len(server.log), sum(one.sent for one in server.log))


@contextmanager
def _earthengine(place: Path) -> Iterator[tuple[dict[str, Any], Counts]]:
    (place / "assets").mkdir()
    with earthengine_server.Server(world.earthengine_assets(place / "assets")) as server:
        os.environ["FUSION_EE_URL"] = server.url
        yield {}, lambda: (len(server.asked), server.bytes)


@contextmanager
def _local(place: Path) -> Iterator[tuple[dict[str, Any], Counts]]:
    world.write_folder(place / "mine")
    local: Any = sources.get("local")
    began = time.perf_counter()
    proposal = local.look(place / "mine").accept()
    key = local.add(proposal)
    _row("local", "look and add", 0, 0, time.perf_counter() - began)
    yield {"dataset": key}, lambda: (0, 0)
    shutil.rmtree(place / "mine")


def _full_size() -> dict[str, Any]:
    """One band of 10 x 10 km from a file of full size."""
    grid = GeoBox((7680, 7680), Affine(30, 0, 399_990, 0, -30, 5_200_005), "EPSG:32633")
    data = stac_server.cog(stac_server.blocks(grid.shape), grid.affine, str(grid.crs))
    quality = stac_server.cog(np.full(grid.shape, 21824, np.uint16), grid.affine, str(grid.crs))
    zero = stac_server.cog(np.zeros(grid.shape, np.uint16), grid.affine, str(grid.crs))
    with stac_server.running() as server:
        files = {"red": data, "qa_pixel": quality, "qa_radsat": zero}
        server.files |= {f"{name}.tif": content for name, content in files.items()}
        assets = {name: f"{server.url}/files/{name}.tif" for name in files}
        name = "LC08_L2SP_190028_20200701_02_T1"
        server.add(
            "landsat-c2-l2", stac_server.item(name, "2020-07-01T10:00:00Z", grid, assets, {"platform": "landsat-8"})
        )
        os.environ["FUSION_STAC"] = f"loop={server.url}"
        day = world.date(2020, 7, 1)
        began = time.perf_counter()
        sources.get("stac").read(Item("stac", "landsat", f"loop::{name}", day), grid[4000:4334, 3000:3334], ("red",))
        seconds = time.perf_counter() - began
        row = _row("stac", "full-size COG", len(server.requests("red.tif")), server.sent("red.tif"), seconds)
    share = row["bytes"] / len(data)
    print(f"{'':14}{share:.2%} of a file of {len(data) / 1e6:.0f} MB")
    return {**row, "share": share}


if __name__ == "__main__":
    sys.exit(main())
