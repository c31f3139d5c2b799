"""Alignment: errors with planted shifts, BOREAS before and after its correction, and what must stay as it is.

Run: FUSION_TEST_DATA=... python -m benchmarks.alignment [--only planted] [--json FILE]

planted   Known displacements of the landscape lab and of real fine images seen through a point-spread function, with
          noise on both sides; errors in coarse pixels. "z" is the error over its standard error, root mean square.
          "missed" counts reports that leave a displacement of more than 0.25 coarse pixels uncorrected, "false" those
          that correct by what is more than 0.25 coarse pixels off.
tolerance How much worse fused images of the lab get with the displacement of the coarse ones, in per cent of RMSE.
boreas    The report on the raw images, and RMSE on the same pixels before and after the coarse images are read again
          on the displaced grid, by means over the area of each coarse pixel there.
kept      Reports on sets that lie right or say too little.

Without FUSION_TEST_DATA only the lab is used.
"""

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from fusion import Pair, Scene, Stack, aggregate, evaluate, fuse, methods, sources
from fusion.preprocess import Report, agreement, report, shift
from fusion.products import LAB_GRID, product
from fusion.scene import identity_geobox

Row = dict[str, Any]

RATIO = 16
NOISE = (0.002, 0.005, 0.01, 0.02)
PLACES = ((0.0, 0.0), (0.27, -0.16), (-0.94, 0.62), (0.5, 0.85))  # coarse pixels (east, north)
DAYS = (1, 4, 7, 11)  # of the lab's fine images: February to September
SUMMER = ("2001-05-24", "2001-07-11", "2001-08-12")
SERIES = {  # folder, names of the fine and the coarse image, days
    "BOREAS": ("boreas_estarfm_2001", "fine/L7_{}.tif", "coarse/MODIS_{}.tif", SUMMER),
    "BOREAS coreg": ("boreas_estarfm_2001/coreg", "fine/L7_{}.tif", "coarse/MODIS_{}.tif", SUMMER),
    "LGC": ("lgc_fsdaf_2004", "fine/L5_{}.tif", "coarse/MODISsim_{}.tif", ("2004-11-26", "2004-12-28")),
    "Shenzhen": (
        "shenzhen_l7_mod09_2000_2002",
        "fine/L7{}_SZ_B432_30m.tif",
        "coarse/MOD09_{}_SZ_B214_250m.tif",
        ("2000306", "2002311"),
    ),
}


def main() -> int:
    """Print the tables; optionally write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", choices=sorted(TABLES), action="append")
    options = parser.parse_args()
    folder = os.environ.get("FUSION_TEST_DATA")
    root = Path(folder) if folder else None
    rows = [row for name, table in TABLES.items() if name in (options.only or TABLES) for row in table(root)]
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))
    return 0


def planted(root: Path | None) -> Iterator[Row]:
    """Errors of known displacements, by scene, size and noise."""
    print("\nPlanted displacements: errors in coarse pixels")
    print(
        f"  {'scene':34}{'coarse':>8}{'noise':>8}{'dates':>7}{'rms':>8}{'max':>8}{'s.e.':>8}{'z':>6}"
        f"{'missed':>8}{'false':>7}"
    )
    for size in (40, 20, 10):
        for noise in NOISE:
            yield _errors(f"lab, {size} x {size}", noise, _lab_series(size, noise=noise))
    yield _errors("lab, clouds 0.4", 0.005, _lab_series(40, noise=0.005, clouds=0.4))
    yield _errors("lab, gain 0.85, offset 0.03", 0.005, _lab_series(40, noise=0.005, gain=0.85, offset=0.03))
    for name, scenes, ratio in _real(root):
        for noise in NOISE[:3]:
            yield _errors(f"{name}, real fine images", noise, _real_series(scenes, ratio, noise))


def _errors(name: str, noise: float, series: Iterator[tuple[list[Pair], tuple[float, float], float]]) -> Row:
    away, scaled, sizes, counts, missed, false, dates = [], [], [], [], 0, 0, 0
    for pairs, (dx, dy), pixel in series:
        found = report(pairs)
        cards = [card for card in found.cards if math.isfinite(card.dx)]
        error = np.array([(card.dx - dx, card.dy - dy) for card in cards]).reshape(-1, 2)
        spread = np.array([(card.dx_error, card.dy_error) for card in cards]).reshape(-1, 2)
        away.append(error / pixel)
        scaled.append(error / spread)
        sizes.append(spread / pixel)
        counts += [card.count for card in cards]
        dates += len(pairs)
        off = math.dist(found.shift, (dx, dy)) / pixel > 0.25
        missed, false = missed + (off and not found.corrected), false + (off and found.corrected)
    error, z, size = (np.concatenate(part) for part in (away, scaled, sizes))
    row = {
        "table": "planted", "scene": name, "noise": noise, "dates": dates, "coarse_pixels": float(np.mean(counts)),
        "rms": _rms(error), "max": float(np.abs(error).max()), "standard_error": float(size.mean()), "z": _rms(z),
        "missed": missed, "false": false, "reports": len(away),
    }  # fmt: skip
    print(
        f"  {name:34}{row['coarse_pixels']:8.0f}{noise:8.3f}{dates:7d}{row['rms']:8.4f}{row['max']:8.4f}"
        f"{row['standard_error']:8.4f}{row['z']:6.2f}{missed:5d}/{len(away)}{false:5d}/{len(away)}",
        flush=True,
    )
    return row


def _lab_series(size: int, **options: float) -> Iterator[tuple[list[Pair], tuple[float, float], float]]:
    """Pairs of four dates with one displacement each time, of two landscapes."""
    for seed in (0, 3):
        for east, north in PLACES:
            moved = {"shift_east": 480 * east, "shift_north": 480 * north}
            pairs = [_lab_pair(day, size, seed=seed, **moved, **options) for day in DAYS]
            yield pairs, (480 * east, 480 * north), 480


def _lab_pair(day: int, size: int, **options: float) -> Pair:
    lab = sources.get("lab")
    given = lab.Options(**options)
    fine = lab.search("lab-fine", options=given)[day]
    coarse = next(item for item in lab.search("lab-coarse", options=given) if item.day == fine.day)
    grid = LAB_GRID[: size * RATIO, 64 : 64 + size * RATIO] if size < 40 else LAB_GRID
    bands = ("green", "red", "nir", "swir1")
    return Pair(lab.read(coarse, grid.zoom_out(RATIO), bands), lab.read(fine, grid, bands))


def _real(root: Path | None) -> Iterator[tuple[str, list[Scene], int]]:
    sample = sources.get("sample")
    items = sample.search("sentinel2")[::8]
    whole = product("sample", "sentinel2").geobox
    yield "sample (Romania, 100 m)", [sample.read(item, whole, ("green", "red", "nir")) for item in items], 10
    for name, ratio in (("BOREAS", 16), ("LGC", 16), ("Shenzhen", 8)) if root else ():
        yield name, [pair.fine for pair in read_series(root, name)], ratio


def _real_series(
    scenes: list[Scene], ratio: int, noise: float
) -> Iterator[tuple[list[Pair], tuple[float, float], float]]:
    """Coarse images of a part of the fine ones that is displaced by whole fine pixels."""
    for number, (east, north) in enumerate(PLACES):
        right, up = round(east * ratio), round(north * ratio)
        pairs = []
        for scene in scenes:
            height, width = ((size - 2 * ratio) // ratio * ratio for size in scene.shape[1:])
            rng = np.random.default_rng([number, scene.day.toordinal()])
            fine = scene[ratio : ratio + height, ratio : ratio + width]
            top, left = ratio + up, ratio - right
            seen = aggregate(scene[top : top + height, left : left + width], ratio)
            coarse = replace(seen, geobox=fine.geobox.zoom_out(ratio), data=_noisy(0.9 * seen.data + 0.02, noise, rng))
            pairs.append(Pair(coarse, replace(fine, data=_noisy(fine.data, noise, rng))))
        pixel = abs(scenes[0].geobox.affine.a)
        yield pairs, (right * pixel, up * pixel), ratio * pixel


def _noisy(data: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
    return (data + rng.normal(0, noise, data.shape)).astype(np.float32)


def tolerance(root: Path | None) -> Iterator[Row]:
    """Fused images of the lab by displacement."""
    print("\nRMSE of fused lab images by displacement of the coarse ones, per cent above none")
    lab, days = sources.get("lab"), (9, 10, 11)
    bands = ("red", "nir")
    away = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.5, 1.0)
    print(f"  {'method':10}" + "".join(f"{each:>8.2f}" for each in away) + "   coarse pixels")
    for name in ("starfm", "estarfm", "fsdaf"):
        found = []
        for each in away:
            pairs = [
                _lab_pair(day, 40, noise=0.005, shift_east=480 * each * 0.8, shift_north=480 * each * 0.6)
                for day in days
            ]
            pairs = [Pair(pair.coarse.select(bands), pair.fine.select(bands)) for pair in pairs]
            (before, target, after), truth = pairs, lab.search("lab-truth")
            hidden = lab.read(next(item for item in truth if item.day == target.day), LAB_GRID, bands)
            method = methods.get(name)()
            used = [before, after] if method.pairs > 1 else [before]
            found.append(evaluate(fuse(Stack.of(used, target.coarse), method), hidden, ("RMSE",))["RMSE"]["mean"])
        worse = [100 * (rmse / found[0] - 1) for rmse in found]
        print(f"  {name:10}" + "".join(f"{part:8.2f}" for part in worse), flush=True)
        yield {"table": "tolerance", "method": name, "coarse_pixels": away, "per_cent": worse, "rmse": found}


def boreas(root: Path | None) -> Iterator[Row]:
    """Report on the raw images; RMSE before and after."""
    if root is None:
        return
    pairs = read_series(root, "BOREAS")
    found = report(pairs)
    _show("BOREAS raw", found)
    print("\n  RMSE on the same pixels before and after, each date hidden in turn (2 pairs) or 07-11 hidden (1 pair)")
    for blocks in (False, True):
        for name, parameters in (("delta", {}), ("estarfm", {}), ("starfm", {}), ("starfm", {"classes": 40})):
            yield _before_after(pairs, found, name, parameters, ((1, (0, 2)), (0, (1, 2)), (2, (0, 1))), blocks)
        for name, used in (("starfm", 0), ("starfm", 2), ("fsdaf", 0), ("fitfc", 0)):
            if blocks or name == "starfm":
                yield _before_after(pairs, found, name, {}, ((1, (used,)),), blocks)


def _before_after(
    pairs: list[Pair], found: Report, name: str, parameters: dict[str, Any],
    cases: Sequence[tuple[int, tuple[int, ...]]], blocks: bool,
) -> Row:  # fmt: skip
    """RMSE of some hidden dates, each predicted from some others, as distributed and read where the report says."""
    ratio, method = RATIO if blocks else 1, methods.build(name, parameters)
    rmse = []
    for displacement in ((0.0, 0.0), found.shift):
        cut = [_read_again(pair, displacement, ratio) for pair in pairs]
        for hidden, used in cases:
            stack = Stack.of([cut[i] for i in used], cut[hidden].coarse)
            rmse.append(evaluate(fuse(stack, method), cut[hidden].fine, ("RMSE",))["RMSE"]["mean"])
    before, after = np.array(rmse).reshape(2, -1)
    change, mean = 100 * (after / before - 1), 100 * (after.mean() / before.mean() - 1)
    count = len(cases[0][1])
    words = f"{name} {', '.join(f'{k}={v}' for k, v in parameters.items())} {count} pair{'s' if count > 1 else ''}"
    words += f" ({pairs[cases[0][1][0]].day:%m-%d})" if count == 1 else ""
    print(f"  {words + (', blocks' if blocks else ', as distributed'):42}", end="")
    for (hidden, _), *numbers in zip(cases, before, after, change, strict=True):
        print(f"  {pairs[hidden].day:%m-%d} {numbers[0]:.5f} -> {numbers[1]:.5f} ({numbers[2]:+.1f} %)", end="")
    print(f"  mean {mean:+.1f} %" if len(cases) > 1 else "", flush=True)
    return {
        "table": "boreas", "method": name, "parameters": parameters, "pairs": count, "blocks": blocks,
        "hidden": [str(pairs[hidden].day) for hidden, _ in cases], "before": before.tolist(), "after": after.tolist(),
        "per_cent": change.tolist(), "mean_per_cent": mean, "shift": found.shift,
    }  # fmt: skip


def _read_again(pair: Pair, displacement: tuple[float, float], ratio: int) -> Pair:
    """Cut both images to the pixels that stay, the coarse one read at its displaced place by means over areas."""
    top, left = RATIO, 2 * RATIO  # what the displaced grid of BOREAS has no coarse image for
    fine = pair.fine[top:, left:]
    height, width = fine.shape[1:]
    east, north = displacement
    rows = _areas(height // ratio, ratio, top - north, pair.coarse.shape[1])
    columns = _areas(width // ratio, ratio, left + east, pair.coarse.shape[2])
    data = (rows @ pair.coarse.data.astype(np.float64) @ columns.T).astype(np.float32)
    return Pair(replace(pair.coarse, data=data, geobox=fine.geobox.zoom_out(ratio) if ratio > 1 else fine.geobox), fine)


def _areas(count: int, ratio: int, start: float, size: int) -> np.ndarray:
    """``(coarse, fine)`` shares of each fine pixel in coarse pixels that begin at `start`."""
    low = start + ratio * np.arange(count)[:, None]
    pixel = np.arange(size)
    return np.clip(np.minimum(low + ratio, pixel + 1) - np.maximum(low, pixel), 0, 1) / ratio


def kept(root: Path | None) -> Iterator[Row]:
    """Reports on sets that lie right, and on one that says too little."""
    for name in ("BOREAS coreg", "LGC", "Shenzhen") if root else ():
        pairs = read_series(root, name)
        for ratio in (1, 8 if name == "Shenzhen" else RATIO):
            found = report([_blocks(pair, ratio) for pair in pairs])
            _show(f"{name}, {'as distributed' if ratio == 1 else f'{ratio} x {ratio} blocks'}", found)
            yield {"table": "kept", "set": name, "ratio": ratio, "shift": found.shift, "verdict": found.verdict}
    if root:
        yield from _conflict(root)


def _conflict(root: Path) -> Iterator[Row]:
    """Shenzhen as its georeference says, and pixel for pixel."""
    folder, fine_name, coarse_name, days = SERIES["Shenzhen"]
    for day in days:
        fine, coarse = (
            _read(root / folder / part.format(day), date(2000, 1, 1), place=True) for part in (fine_name, coarse_name)
        )
        there, same = agreement(coarse, fine), agreement(replace(coarse, geobox=fine.geobox), fine)
        found = shift(coarse, fine)
        print(f"\nShenzhen {day}: correlation {there:.3f} where its georeference puts it, {same:.3f} pixel for pixel;")
        print(f"  displaced there by {found[0]:.0f} m east and {found[1]:.0f} m north")
        yield {"table": "conflict", "day": day, "georeference": there, "pixel_for_pixel": same, "shift": found}


def _blocks(pair: Pair, ratio: int) -> Pair:
    if ratio == 1:
        return pair
    height, width = (size // ratio * ratio for size in pair.fine.shape[1:])
    fine, coarse = (scene[:height, :width] for scene in (pair.fine, pair.coarse))
    return Pair(aggregate(coarse, ratio, psf=0), fine)


def _show(name: str, found: Report) -> None:
    print(f"\n{name}: {found.verdict}")
    heads = ("dx", "dy", "s.e.", "r at 0", "r", "fall", "over 0", "rival", "psf", "used")
    print(f"  {'day':12}" + "".join(f"{head:>8}" for head in heads))
    for card in found.cards:
        cells = (
            card.dx, card.dy, max(card.dx_error, card.dy_error), card.r_zero, card.r, card.sharpness, card.over_zero,
            card.over_rival, card.psf, card.used,
        )  # fmt: skip
        print(f"  {card.day!s:12}" + "".join(f"{cell:8.2f}" for cell in cells) + f"  {card.doubt}", flush=True)


def read_series(root: Path, name: str) -> list[Pair]:
    """Pairs of a set, pixel for pixel, on a grid without CRS."""
    folder, fine, coarse, days = SERIES[name]
    out = []
    for text in days:
        day = date.fromisoformat(text) if "-" in text else date(int(text[:4]), 1, 1) + timedelta(int(text[4:]) - 1)
        out.append(Pair(*(_read(root / folder / part.format(text), day) for part in (coarse, fine))))
    return out


def _read(path: Path, day: date, place: bool = False) -> Scene:
    scene = Scene.read(path, bands=("a", "b", "c"), day=day, scale=1e-4, nodata=32767)
    return scene if place else replace(scene, geobox=identity_geobox(*scene.shape[1:]))


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt((values**2).mean()))


TABLES: dict[str, Callable[[Path | None], Iterator[Row]]] = {
    "planted": planted,
    "tolerance": tolerance,
    "boreas": boreas,
    "kept": kept,
}

if __name__ == "__main__":
    sys.exit(main())
