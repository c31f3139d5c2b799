"""Accuracy of every method on the real scenes, beside the floors and the best public program of the same name.

Run: FUSION_TEST_DATA=... python -m benchmarks.accuracy [--methods starfm] [--set classes=5] [--json FILE]
     FUSION_TEST_DATA=... python benchmarks/accuracy.py --peers     only the rows that have a peer

The folder holds public benchmark scenes as GeoTIFF (int16 reflectance x 10 000). "raw" takes the coarse image as
distributed on the fine grid (ratio 1); "blocks" takes its 16 x 16 block means (ratio 16).

The column "coarse" is no truth but consistency: the RMSE, in reflectance, between the prediction's means over coarse
pixels and the coarse image of the target day. At ratio 1 it is that between the prediction and the coarse image
itself, and so holds all the detail that the coarse image lacks. Near 0 means that the prediction keeps to the coarse
image, with the noise and the offset of its sensor; the other columns say whether that was right.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fusion import Method, Scene, Stack, evaluate, fuse, methods
from fusion.scene import identity_geobox
from fusion.stack import UNKNOWN_DAY

METRICS = ("RMSE", "AD", "CC", "SSIM", "SAM", "ERGAS", "EDGE", "LBP")
RATIO = 16
CONSISTENCY = "coarse"

Case = tuple[str, Stack, Scene]  # its name, the problem and the hidden truth


@dataclass(frozen=True)
class Peer:
    """A public program, measured on the same images with these settings, and the RMSE to reach."""

    case: str
    method: str
    parameters: dict[str, Any]
    target: float
    name: str
    rmse: float


RAW2 = "BOREAS raw, 2 pairs, as distributed"
RAW1 = "BOREAS raw, 1 pair (05-24), blocks"
LGC = "LGC flood (simulated coarse), 1 pair, blocks"
SHENZHEN = "Shenzhen 0..479, 1 pair, blocks"
PEERS = (
    Peer(RAW2, "estarfm", {}, 0.0078, "author's Python", 0.00757),
    Peer(RAW2, "starfm", {"classes": 40}, 0.0082, "C++, window 31, 40 classes", 0.00818),
    Peer(RAW2, "efast", {}, 0.0077, "author's Python, which had blocks", 0.00765),
    Peer("BOREAS raw, 2 pairs, blocks", "efast", {}, 0.0077, "author's Python", 0.00765),
    Peer(RAW1, "fitfc", {}, 0.0111, "C++", 0.01112),
    Peer(RAW1, "fsdaf", {}, 0.0116, "author's Python", 0.01159),
    Peer(LGC, "fsdaf", {}, 0.0201, "author's Python", 0.02011),
    Peer(LGC, "fitfc", {}, 0.0214, "C++", 0.02136),
    Peer(LGC, "starfm", {"classes": 4}, 0.0235, "C++, 4 classes", 0.02351),
    Peer(SHENZHEN, "fitfc", {}, 0.0276, "C++", 0.02758),
    Peer(SHENZHEN, "starfm", {"classes": 4}, 0.0291, "C++, 4 classes", 0.02912),
)


def untrained() -> list[str]:
    """Names of the methods that need no training; networks have a benchmark of their own."""
    return [name for name in methods.names() if methods.get(name).family != "deep learning"]


def main() -> int:
    """Print the tables; optionally write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--peers", action="store_true", help="leave out the table of every case")
    parser.add_argument("--methods", type=lambda text: text.split(","), default=untrained())
    parser.add_argument("--set", action="append", default=[], metavar="NAME=NUMBER", help="of every method that has it")
    options = parser.parse_args()
    given = {name: float(value) for name, value in (text.split("=") for text in options.set)}
    if not os.environ.get("FUSION_TEST_DATA"):
        sys.exit("Set FUSION_TEST_DATA to the folder of the benchmark scenes.")
    found = list(cases(Path(os.environ["FUSION_TEST_DATA"])))
    rows = [] if options.peers else [row for case in found for row in table(case, options.methods, given)]
    rows += beside_peers(found, options.methods)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))
    return 0


def table(case: Case, names: list[str], given: dict[str, float]) -> Iterator[dict[str, Any]]:
    """Every method on one case; all metrics."""
    name, stack, truth = case
    print(f"\n{name}\n  {'method':10}" + "".join(f"{metric:>8}" for metric in (*METRICS, CONSISTENCY)) + "   CPU s")
    for method in (configured(each, given) for each in names):
        if len(stack.days) < method.pairs:
            print(f"  {method.title:10}  wants {method.pairs} pairs")
            continue
        means, seconds = measured(method, stack, truth)
        print(f"  {method.title:10}" + "".join(f"{value:8.4f}" for value in means.values()) + f"{seconds:8.2f}")
        yield {"case": name, "method": method.name(), "cpu_s": seconds, **means}


def beside_peers(found: list[Case], names: list[str]) -> Iterator[dict[str, Any]]:
    """Each method of which there is a public program: with its settings, with our defaults, and the floors."""
    print("\nRMSE beside the best public program of the same name, on the same images")
    heads = ("nearest", "delta", "target", "ours", "EDGE", "met", "peer", "defaults", "EDGE")
    print(f"  {'case':46}{'method':10}" + "".join(f"{head:>9}" for head in heads) + "  peer, and its settings here")
    by_name = {name: (stack, truth) for name, stack, truth in found}
    for peer in (each for each in PEERS if each.method in names and each.method in methods.names()):
        stack, truth = by_name[peer.case]
        floors = [measured(methods.get(name)(), stack, truth)[0]["RMSE"] for name in ("nearest", "delta")]
        ours, usual = (
            measured(methods.build(peer.method, parameters), stack, truth)[0] for parameters in (peer.parameters, {})
        )
        met = round(ours["RMSE"], 4) <= peer.target  # targets are stated with four digits
        cells = (
            *(f"{rmse:.5f}" for rmse in floors), f"{peer.target:.4f}", f"{ours['RMSE']:.5f}", f"{ours['EDGE']:+.3f}",
            "yes" if met else "NO", f"{peer.rmse:.5f}", f"{usual['RMSE']:.5f}", f"{usual['EDGE']:+.3f}",
        )  # fmt: skip
        words = ", ".join(f"{key}={value}" for key, value in peer.parameters.items())
        print(
            f"  {peer.case:46}{peer.method:10}" + "".join(f"{cell:>9}" for cell in cells) + f"  {peer.name}"
            + (f"; {words}" if words else "")
        )  # fmt: skip
        yield {"peer": asdict(peer), "ours": ours, "defaults": usual, "floors": floors, "met": met}


def measured(method: Method, stack: Stack, truth: Scene) -> tuple[dict[str, float], float]:
    """Metrics and consistency with the coarse target, means over bands, and CPU seconds."""
    fuse(stack[: 4 * stack.ratio, : 4 * stack.ratio], method)  # compile before the clock starts
    start = time.process_time()
    prediction = fuse(stack, method)
    seconds = time.process_time() - start
    result = evaluate(prediction, truth, METRICS, ratio=RATIO)
    means = {metric: result[metric]["mean"] for metric in METRICS}
    return means | {CONSISTENCY: consistency(prediction.data, stack)}, seconds


def consistency(prediction: np.ndarray, stack: Stack) -> float:
    """RMSE, mean over bands, between the means of coarse pixels and the coarse target; gaps do not count."""
    bands, rows, columns = stack.target.shape
    sides = rows, stack.ratio, columns, stack.ratio
    difference = np.nanmean(prediction.reshape(bands, *sides), axis=(2, 4), dtype=np.float64) - stack.target
    return float(np.sqrt(np.nanmean(difference**2, axis=(1, 2))).mean())


def configured(name: str, given: dict[str, float]) -> Method:
    """A method with those of the given parameters that it has."""
    known = {item.name for item in methods.params(methods.get(name))}
    return methods.build(name, {key: value for key, value in given.items() if key in known})


def cases(root: Path) -> Iterator[Case]:
    """Every case: its name, the stack and the hidden truth."""
    bands = ("green", "red", "nir")
    for label, folder in (("BOREAS raw", "boreas_estarfm_2001"), ("BOREAS coreg", "boreas_estarfm_2001/coreg")):
        fine = [_read(root / folder / f"fine/L7_2001-{day}.tif") for day in ("05-24", "08-12", "07-11")]
        coarse = [_read(root / folder / f"coarse/MODIS_2001-{day}.tif") for day in ("05-24", "08-12", "07-11")]
        yield (f"{label}, 2 pairs, as distributed", *_case(fine, coarse, (-48, 32), bands))
        yield (f"{label}, 1 pair (05-24), as distributed", *_case(fine[::2], coarse[::2], (-48,), bands))
        yield (f"{label}, 2 pairs, blocks", *_case(fine, coarse, (-48, 32), bands, blocks=True))
        yield (f"{label}, 1 pair (05-24), blocks", *_case(fine[::2], coarse[::2], (-48,), bands, blocks=True))
    folder = root / "lgc_fsdaf_2004"
    fine = [_read(folder / f"fine/L5_2004-{day}.tif") for day in ("11-26", "12-28")]
    coarse = [_read(folder / f"coarse/MODISsim_2004-{day}.tif") for day in ("11-26", "12-28")]
    yield ("LGC flood (simulated coarse), 1 pair, blocks", *_case(fine, coarse, (-32,), bands, blocks=True))
    folder = root / "shenzhen_l7_mod09_2000_2002"
    fine = [_read(folder / f"fine/L7{day}_SZ_B432_30m.tif") for day in ("2000306", "2002311")]
    coarse = [_read(folder / f"coarse/MOD09_{day}_SZ_B214_250m.tif") for day in ("2000306", "2002311")]
    fine, coarse = ([image[:, :480, :480] for image in images] for images in (fine, coarse))
    for label, blocks in (("as distributed", False), ("blocks", True)):
        yield (
            f"Shenzhen 0..479, 1 pair, {label}",
            *_case(fine, coarse, (-735,), ("nir", "red", "green"), blocks=blocks),
        )


def _case(
    fine: list[np.ndarray],
    coarse: list[np.ndarray],
    days: tuple[int, ...],
    bands: tuple[str, ...],
    *,
    blocks: bool = False,
) -> tuple[Stack, Scene]:
    """References first, the hidden day last."""
    height, width = (size // RATIO * RATIO if blocks else size for size in fine[0].shape[1:])
    fine, coarse = ([image[:, :height, :width] for image in images] for images in (fine, coarse))
    if blocks:
        coarse = [image.reshape(len(bands), height // RATIO, RATIO, -1, RATIO).mean((2, 4)) for image in coarse]
    geobox = identity_geobox(height, width)
    stack = Stack(np.stack(fine[:-1]), np.stack(coarse[:-1]), np.ascontiguousarray(coarse[-1]), days, geobox, bands)
    return stack, Scene(np.ascontiguousarray(fine[-1]), geobox, bands, UNKNOWN_DAY)


def _read(path: Path) -> np.ndarray:
    return Scene.read(path, bands=("a", "b", "c"), day=UNKNOWN_DAY, scale=1e-4, nodata=32767).data


if __name__ == "__main__":
    sys.exit(main())
