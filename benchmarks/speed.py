"""Speed and memory of every method at its target's settings, beside the time that its operations take at least.

Run: python -m benchmarks.speed [--methods starfm,fsdaf] [--scene lab|flat] [--size 1000] [--json FILE]
     python -m benchmarks.speed --scaling      time and memory from 0.25 to 16 megapixels
     python -m benchmarks.speed --gpu          every method on the CPU and on the GPU: equal, and how fast
     python -m benchmarks.speed --first        what the first use costs, before and after kernels are kept on disk

"lab" is the landscape lab (640 x 640 pixels, 6 bands, ratio 16), mirrored at its edges to the size asked for; "flat" is
two plains with next to no noise, in which every neighbour is similar: the worst case of methods that skip dissimilar
ones. Sizes are cut to whole coarse pixels. Every method runs in a process of its own: CPU seconds are those of all its
threads, the best of some warm runs, and extra memory is the highest resident memory of the run less that before it
(Linux). FUSION_THREADS bounds the threads.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fusion import Method, Stack, fuse, methods
from fusion.methods._device import device
from fusion.propose import recipe_for
from fusion.recipe import load
from fusion.scene import identity_geobox

MEGA = 1e6
RATIO, BANDS = 16, 6
SIZES = (500, 1000, 2000, 4000)
ONE_TILE = 64  # side of the scene that compiles a method before the clock starts


@dataclass(frozen=True)
class Setting:
    """What a method's target was set for; CPU seconds per megapixel and band."""

    parameters: dict[str, Any] = field(default_factory=dict)
    pairs: int = 1
    target: float | None = None

    def method(self, name: str) -> Method:
        """Build the method."""
        return methods.build(name, self.parameters)


SETTINGS = {
    "starfm": Setting({"window": 51}, 1, 0.8),
    "estarfm": Setting({"window": 51}, 2, 1.0),
    "fsdaf": Setting({"window": 41}, 1, 1.5),
    "fitfc": Setting({"window": 31}, 1, 1.0),
    "stnlffm": Setting({"window": 51}, 1, 2.5),
    "ubdf": Setting(target=0.2),
    "strum": Setting(target=0.2),
    "efast": Setting({}, 2, 0.2),
    "spstfm": Setting({}, 2, 5.0),
}


def setting(name: str) -> Setting:
    """Settings of a method; one without a target runs with its defaults."""
    return SETTINGS.get(name) or Setting(pairs=methods.get(name).pairs)


# ---------------------------------------------------------------------------------------------------------- floors


@dataclass(frozen=True)
class Case:
    """What the operations of a method depend on."""

    method: Method
    pairs: int
    similar: float  # share of a window that is similar in all bands

    @property
    def window(self) -> int:
        """Pixels of the window."""
        return int(getattr(self.method, "window", 1)) ** 2


# Operations on float32 (+, x, multiply-add, absolute value, comparison, choice; on 16 bits they count half) per fine
# pixel and band. A look at every pixel of the window cannot be left out; what is done for similar pixels only is
# weighted with their share, or left out where the share is not known.
OPERATIONS: dict[str, tuple[str, Callable[[Case], float]]] = {
    "nearest": ("copy", lambda c: 1),
    "delta": ("bilinear change (4), sum over pairs (3)", lambda c: 7 * c.pairs),
    "starfm": (
        "window x pairs x (|F - F| 2, 3 comparisons, x D, 2 sums)",
        lambda c: c.window * c.pairs * 8,
    ),
    "estarfm": (
        "window x (|F - F| <= t, 3 on 16 bits, both pairs; of similar: 2 weighted changes, 5 sums of the regression)",
        lambda c: c.window * (1.5 * c.pairs + c.similar * (2 * c.pairs + 5)),
    ),
    "fsdaf": (
        "pairs x (window x (|F - F| 2, comparison, sum); 20 weighted changes); spline of 52 coarse neighbours",
        lambda c: c.pairs * (c.window * 4 + getattr(c.method, "similar", 20)) + 52,
    ),
    "fitfc": (
        "pairs x (window x (|F - F| 2, sum); 10 weighted values)",
        lambda c: c.pairs * (c.window * 3 + getattr(c.method, "similar", 10)),
    ),
    "stnlffm": (
        "window x pairs x (|F - F| <= t 3, |T - T| <= t 3); without the sums over similar pixels",
        lambda c: c.window * c.pairs * 6,
    ),
    "ubdf": (
        "class of each pixel, 3 for each of 20 classes; 2 for the unmixing",
        lambda c: 3 * getattr(c.method, "classes", 20) + 2,
    ),
    "strum": (
        "class of each pixel, 3 for each of 4 classes; 2 for the unmixing",
        lambda c: 3 * getattr(c.method, "classes", 4) + 2,
    ),
    "efast": ("20 per pair: interpolation, mosaics, weights", lambda c: 20 * c.pairs),
    "spstfm": (
        "pairs x 32 atoms x 7, the products of patches and atoms: 36 patches of 49 values in 256 pixels; no training",
        lambda c: c.pairs * getattr(c.method, "atoms", 32) * 36 * 49 / RATIO**2,
    ),
}


def moved(case: Case) -> int:
    """Bytes that must move per fine pixel and band: each fine image is read once, the prediction written once."""
    return 4 * case.pairs + 4


@dataclass(frozen=True)
class Machine:
    """One core, as measured."""

    clock: float  # cycles per second
    operations: float  # float32 multiply-adds per second
    bandwidth: float  # bytes per second of a copy, read and written

    def floor(self, name: str, case: Case) -> float | None:
        """CPU seconds per megapixel and band; None where the operations are not written down."""
        if name not in OPERATIONS:
            return None
        return MEGA * max(OPERATIONS[name][1](case) / self.operations, moved(case) / self.bandwidth)

    def words(self) -> str:
        """The machine in one line."""
        return (
            f"One core: {self.clock / 1e9:.2f} GHz, {self.operations / self.clock:.1f} float32 multiply-adds a cycle "
            f"({self.operations / 1e9:.0f} billion a second), copies {self.bandwidth / 1e9:.1f} GB/s. "
            "One operation counts as one multiply-add."
        )


def calibrate() -> Machine:
    """Measure one core: a chain of dependent integer operations, many independent multiply-adds, and a copy."""
    import numba

    @numba.njit
    def chain(count: int, x: int) -> int:
        for i in range(count):  # 2 cycles: xor and shift side by side, then the sum
            x = (x ^ i) + (x >> 1)
        return x

    @numba.njit(fastmath={"contract"})
    def multiply(values: Any, rounds: int) -> None:
        a, b = np.float32(0.999), np.float32(0.001)
        for _ in range(rounds):
            for i in range(values.size):
                v = values[i]
                for _ in range(8):
                    v = v * a + b
                values[i] = v

    values, big = np.ones(1024, np.float32), np.ones(1 << 25, np.float32)
    copy = np.empty_like(big)
    count, rounds = 20_000_000, 20_000
    return Machine(
        2 * count / best(lambda: chain(count, 1)),
        values.size * rounds * 8 / best(lambda: multiply(values, rounds)),
        2 * big.nbytes / best(lambda: np.copyto(copy, big)),
    )


def best(work: Callable[[], Any], runs: int = 5) -> float:
    """CPU seconds of the fastest of some runs, after one that does not count."""
    work()
    return min(clocked(work)[0] for _ in range(runs))


def clocked(work: Callable[[], Any]) -> tuple[float, float]:
    """CPU and wall seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


# ---------------------------------------------------------------------------------------------------------- scenes


def scene(kind: str, size: int) -> Stack:
    """Two pairs and a target, about `size` x `size` fine pixels."""
    rows = size // RATIO
    if kind == "flat":
        return _flat(rows)
    recipe = recipe_for("lab", pairs=2, method=methods.get("delta")())
    lab = load(recipe)
    y = x = rows * RATIO
    return Stack(
        _mirrored(lab.fine, y, x),
        _mirrored(lab.coarse, rows, rows),
        _mirrored(lab.target, rows, rows),
        lab.days,
        identity_geobox(y, x),
        lab.bands,
    )


def _mirrored(images: np.ndarray, height: int, width: int) -> np.ndarray:
    more = [(0, 0)] * (images.ndim - 2) + [
        (0, max(n - m, 0)) for n, m in zip((height, width), images.shape[-2:], strict=True)
    ]
    return np.ascontiguousarray(np.pad(images, more, "symmetric")[..., :height, :width])


def _flat(rows: int) -> Stack:
    random, size = np.random.default_rng(0), rows * RATIO
    plain = np.where(np.arange(size) < size // 2, 0.2, 0.4).astype(np.float32)
    fine = plain + random.normal(0, 1e-4, (2, BANDS, size, size)).astype(np.float32)
    coarse = fine.reshape(2, BANDS, rows, RATIO, rows, RATIO).mean((3, 5))
    target = (coarse.mean(axis=0) + random.normal(0.02, 0.002, coarse.shape[1:])).astype(np.float32)
    return Stack(fine, coarse, target, (-32, 32), identity_geobox(size, size), tuple("abcdef"))


def similar(stack: Stack, window: int, classes: int, together: bool) -> float:
    """Share of a window within 2 std / classes, of single bands or of all bands of all pairs together."""
    random, half, shares = np.random.default_rng(0), window // 2, []
    fine = stack.fine.reshape(-1, *stack.fine.shape[2:])
    most = 2 * fine.std(axis=(1, 2), dtype=np.float64) / classes
    for _ in range(200):
        y, x = (random.integers(half, size - half) for size in fine.shape[1:])
        near = np.abs(fine[:, y - half : y + half + 1, x - half : x + half + 1] - fine[:, y, x, None, None])
        close = near <= most[:, None, None]
        shares.append((close.all(axis=0) if together else close).mean())
    return float(np.mean(shares))


def chosen(stack: Stack, pairs: int) -> Stack:
    """The stack with so many pairs."""
    return stack.select(range(pairs))


def save(stack: Stack, folder: Path) -> None:
    """Write a stack for :func:`read`."""
    np.savez(folder / "scene.npz", fine=stack.fine, coarse=stack.coarse, target=stack.target, days=stack.days)


def read(folder: Path, pairs: int) -> Stack:
    """Read a stack with so many pairs."""
    with np.load(folder / "scene.npz") as parts:
        fine, coarse, days = (parts[name][:pairs] for name in ("fine", "coarse", "days"))
        grid = identity_geobox(*fine.shape[2:])
        return Stack(fine, coarse, parts["target"], tuple(days), grid, tuple("abcdefghij"[: fine.shape[1]]))


# --------------------------------------------------------------------------------------------------- one method alone


def alone(
    name: str, folder: Path, *, runs: int, cold: bool = False, env: dict[str, str] | None = None
) -> dict[str, Any]:
    """Measure one method in a fresh process."""
    call = [sys.executable, __file__, "--one", name, "--folder", str(folder), "--runs", str(runs)]
    call += ["--cold"] if cold else []
    root = str(Path(__file__).parents[1])
    here = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    done = subprocess.run(call, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": here, **(env or {})})
    if done.returncode:
        return {"method": name, "error": done.stderr.strip().splitlines()[-1]}
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def one(name: str, folder: Path, runs: int, cold: bool) -> dict[str, Any]:
    """Measure one method here: first use on a small scene, then some runs on the whole."""
    choice = setting(name)
    stack = read(folder, choice.pairs)
    small = stack[:ONE_TILE, :ONE_TILE]
    first, again = (clocked(lambda: fuse(small, choice.method(name)))[1] for _ in range(2))
    if cold:
        return {"method": name, "first": first, "again": again}
    method, before = choice.method(name), _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the highest resident memory so far
    times = [clocked(lambda: fuse(stack, method)) for _ in range(runs)]
    _, bands, height, width = stack.fine.shape
    return {
        "method": name,
        "cpu": min(cpu for cpu, _ in times) / (bands * height * width / MEGA),
        "wall": min(wall for _, wall in times),
        "extra": _resident("VmHWM") - before,
        "result": bands * height * width * 4 / 2**20,
    }


def _resident(kind: str) -> float:
    """Resident memory of this process, MB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{kind}:")[1].split()[0]) / 1024


# ---------------------------------------------------------------------------------------------------------- tables


def table(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Every method at its target's settings, beside its floor."""
    stack, machine = scene(options.scene, options.size), calibrate()
    shares = {together: similar(stack, 51, classes, together) for classes, together in ((20, False), (4, True))}
    height, width = stack.fine.shape[2:]
    print(machine.words())
    print(
        f"Scene {options.scene}, {height} x {width} x {BANDS}, ratio {RATIO}. Of a 51 x 51 window {shares[False]:.0%} "
        f"are within 2 std / 20 in a band, {shares[True]:.0%} within 2 std / 4 in all bands of both pairs."
    )
    print(
        "\nCPU s and floor: per megapixel and band, all threads together. Extra: MB beyond the stack, result included."
    )
    heads = ("pairs", "CPU s", "target", "met", "wall s", "extra", "floor", "of it")
    print(f"{'method':10}" + "".join(f"{head:>9}" for head in heads))
    with tempfile.TemporaryDirectory() as folder:
        save(stack, Path(folder))
        for name in options.methods:
            row = alone(name, Path(folder), runs=options.runs)
            case = Case(setting(name).method(name), setting(name).pairs, shares[True])
            row |= {"target": setting(name).target, "pairs": case.pairs, "floor": machine.floor(name, case)}
            print(_line(row), flush=True)
            yield row
    print("\nWhat the floors count, per fine pixel and band (and each fine image read, the prediction written, once):")
    for name in options.methods:
        print(f"  {name:10}{OPERATIONS[name][0] if name in OPERATIONS else 'not written down'}")


def _line(row: dict[str, Any]) -> str:
    if "error" in row:
        return f"{row['method']:10}  {row['error']}"
    target, floor = row["target"], row["floor"]
    met = "" if target is None else "yes" if row["cpu"] <= target else "NO"
    cells = (
        f"{row['pairs']}", f"{row['cpu']:.3f}", "" if target is None else f"{target:.1f}", met, f"{row['wall']:.2f}",
        f"{row['extra']:.0f}", *(("", "") if floor is None else (f"{floor:.4f}", f"{floor / row['cpu']:.0%}")),
    )  # fmt: skip
    return f"{row['method']:10}" + "".join(f"{cell:>9}" for cell in cells)


def scaling(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Time and memory against the number of pixels; tiles of 1024, so memory beyond the result stays flat."""
    print("CPU s per megapixel and band / MB beyond the result")
    print(f"{'method':10}" + "".join(f"{size * size / MEGA:>11g} Mpx" for size in SIZES))
    with tempfile.TemporaryDirectory() as folder:
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in options.methods}
        for size in SIZES:
            save(scene(options.scene, size), Path(folder))
            for name in options.methods:
                row = alone(name, Path(folder), runs=1) | {"size": size}
                found[name].append(row)
                yield row
        for name, rows in found.items():
            print(f"{name:10}" + "".join(f"{_point(row):>15}" for row in rows))


def _point(row: dict[str, Any]) -> str:
    return "failed" if "error" in row else f"{row['cpu']:.3f} / {row['extra'] - row['result']:.0f}"


def first_use(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The first use of each method in a fresh process, without and with kernels kept on disk."""
    print("Seconds of the first use on 64 x 64 pixels, imports of the method's packages included")
    print(f"{'method':10}{'nothing kept':>14}{'kernels kept':>14}{'second use':>12}")
    with tempfile.TemporaryDirectory() as folder:
        save(scene(options.scene, 2 * ONE_TILE), Path(folder))
        for name in options.methods:
            env = {"NUMBA_CACHE_DIR": str(Path(folder) / f"kernels-{name}")}
            empty, full = (alone(name, Path(folder), runs=0, cold=True, env=env) for _ in range(2))
            if "error" in full:
                print(f"{name:10}  {full['error']}")
                continue
            print(f"{name:10}{empty['first']:14.2f}{full['first']:14.2f}{full['again']:12.2f}", flush=True)
            yield {"method": name, "empty": empty["first"], "kept": full["first"], "again": full["again"]}


def gpu(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Every method on the CPU and on the GPU: the same to 1e-4, and the wall seconds of each, transfers included."""
    os.environ["FUSION_DEVICE"] = "auto"
    place = device()
    if place == "cpu":
        print("No GPU is here: nothing was run.")
        return
    stack, rate = scene(options.scene, options.size), _gpu_rate()
    height, width = stack.fine.shape[2:]
    print(
        f"{_gpu_name()}, {rate / 1e12:.0f} trillion multiply-adds a second; {height} x {width} x {BANDS}, ratio {RATIO}"
    )
    print(f"{'method':10}{'CPU s':>9}{'GPU s':>9}{'differ by':>12}{'met':>6}{'of the floor':>14}")
    share = similar(stack, 51, 4, True)
    for name in options.methods:
        row = _both(name, stack, place)
        floor = _gpu_floor(name, stack, rate, share)
        met = "yes" if row["differ"] <= 1e-4 else "NO"
        print(
            f"{name:10}{row['cpu']:9.2f}{row['gpu']:9.3f}{row['differ']:12.1e}{met:>6}{floor / row['gpu']:14.1%}",
            flush=True,
        )
        yield row
    if "estarfm" in options.methods:
        big = scene(options.scene, 7000)
        row = {"method": "estarfm", "size": 7000, "gpu": _wall(setting("estarfm").method("estarfm"), big, place)}
        floor = _gpu_floor("estarfm", big, rate, share)
        side = big.fine.shape[2]
        print(f"estarfm, {side} x {side} x {BANDS}: {row['gpu']:.2f} s, {floor / row['gpu']:.1%} of the floor")
        yield row


def _both(name: str, stack: Stack, place: str) -> dict[str, Any]:
    method, given = setting(name).method(name), chosen(stack, setting(name).pairs)
    out, seconds = {}, {}
    for where in ("cpu", place):
        os.environ["FUSION_DEVICE"] = where
        out[where] = fuse(given, method).data  # also compiles
        seconds[where] = _wall(method, given, where)
    same_gaps = (np.isnan(out["cpu"]) == np.isnan(out[place])).all()
    differ = float(np.nanmax(np.abs(out["cpu"] - out[place]))) if same_gaps else float("inf")
    return {"method": name, "cpu": seconds["cpu"], "gpu": seconds[place], "differ": differ}


def _wall(method: Method, stack: Stack, where: str) -> float:
    os.environ["FUSION_DEVICE"] = where
    return min(clocked(lambda: fuse(stack, method))[1] for _ in range(3 if where != "cpu" else 1))


def _gpu_floor(name: str, stack: Stack, rate: float, share: float) -> float:
    """Seconds of the operations alone; 0 where they are not written down."""
    case = Case(setting(name).method(name), setting(name).pairs, share)
    each = OPERATIONS[name][1](case) if name in OPERATIONS else 0
    return each * stack.fine[0].size / rate


def _gpu_rate() -> float:
    """Multiply-adds per second: processors x 128 lanes x highest clock."""
    import torch

    ask = ["nvidia-smi", "--query-gpu=clocks.max.sm", "--format=csv,noheader,nounits", "-i", "0"]
    clock = float(subprocess.run(ask, capture_output=True, text=True, check=True).stdout.split()[0]) * 1e6
    return torch.cuda.get_device_properties(0).multi_processor_count * 128 * clock


def _gpu_name() -> str:
    import torch

    return str(torch.cuda.get_device_name(0))


# ------------------------------------------------------------------------------------------------------------- command


def untrained() -> list[str]:
    """Names of the methods that need no training; networks have a benchmark of their own."""
    return [name for name in methods.names() if methods.get(name).family != "deep learning"]


def main() -> int:
    """Print one of the tables; optionally write its rows as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", type=lambda text: text.split(","), default=untrained())
    parser.add_argument("--scene", choices=("lab", "flat"), default="lab")
    parser.add_argument("--size", type=int, default=1000, help="side in fine pixels")
    parser.add_argument("--runs", type=int, default=2, help="warm runs of which the fastest counts")
    parser.add_argument("--json", type=Path)
    for name, what in (("scaling", scaling), ("gpu", gpu), ("first", first_use)):
        parser.add_argument(
            f"--{name}", dest="what", action="store_const", const=what, default=table, help=what.__doc__
        )
    for name in ("--one", "--folder", "--cold"):  # of the processes that this one starts
        parser.add_argument(name, help=argparse.SUPPRESS, **({"action": "store_true"} if name == "--cold" else {}))
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options.one, Path(options.folder), options.runs, options.cold)))
        return 0
    rows = list(options.what(options))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
