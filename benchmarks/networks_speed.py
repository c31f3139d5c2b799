"""Speed and size of every network, untrained: on a processor, and on a GPU where there is one.

Run: python -m benchmarks.networks_speed [--only edcstfn] [--base regression] [--threads 2] [--json FILE]
     python -m benchmarks.networks_speed --gpu [--json FILE]

On a processor: parameters of the generator, CPU seconds of one forward pass over a patch of 256 x 256 x 6 at ratio 16
beside the public program's (shared x86-64 cores, random weights), peak memory of a process that does it, and training
steps in a second (8 crops of 64 x 64). With --gpu: seconds of `fuse` over 1008 x 1008 x 6 and memory, largest
difference between half and full precision, training steps in a second, and the share of that time in which the GPU
was at work.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fusion import Stack, checkpoints, fuse, methods
from fusion.checkpoints import Checkpoint
from fusion.estimate import landscape

BANDS, RATIO, SIDE = 6, 16, 256
PEERS = {"edcstfn": 1.0, "ganstfm": 2.9, "swinstfm": 7.0}  # CPU seconds of the public programs on such a patch
RUNS = 3


def main() -> int:
    """Print the table; optionally write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=lambda text: text.split(","))
    parser.add_argument("--base", default="", help="what networks add to; empty = as each has it")
    parser.add_argument("--threads", type=int, default=0, help="0 = as torch chooses")
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.one:
        method = methods.build(options.one, {"base": options.base} if options.base else {})
        print(json.dumps((on_gpu if options.gpu else on_cpu)(method, options.threads)))
        return 0
    names = options.only or [name for name in methods.names() if methods.get(name).family == "deep learning"]
    rows = list(each(names, options))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))
    return 0


def each(names: list[str], options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure each network in a process of its own, so that memory is its own."""
    for name in names:
        command = [sys.executable, "-m", "benchmarks.networks_speed", "--one", name]
        command += ["--threads", str(options.threads), "--base", options.base, *(["--gpu"] if options.gpu else [])]
        out = subprocess.run(command, capture_output=True, text=True)
        if out.returncode:
            sys.exit(out.stderr)
        row = {"network": name, **json.loads(out.stdout.splitlines()[-1])}
        print(
            "  ".join(
                f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()
            ),
            flush=True,
        )
        yield row


def on_cpu(method: Any, threads: int) -> dict[str, Any]:
    """Forward pass and training step on the processor."""
    import torch

    if threads:
        torch.set_num_threads(threads)
    nets = method.networks(BANDS, RATIO).eval()
    generators = [net for key, net in nets.items() if not key.startswith("discriminator")]
    sample = batch(method, 1, SIDE)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with torch.inference_mode():
        method.forward(nets, sample)
        times, walls = [], []
        for _ in range(RUNS):
            start, wall = time.process_time(), time.perf_counter()
            method.forward(nets, sample)
            times.append(time.process_time() - start)
            walls.append(time.perf_counter() - wall)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    steps, seconds = training(method, nets, "cpu")
    return {
        "parameters": sum(p.numel() for net in generators for p in net.parameters()),
        "cpu_s": min(times),
        "wall_s": min(walls),
        "peer_cpu_s": PEERS.get(method.name(), float("nan")),
        "memory_mb": (after - before) / 1024,
        "train_steps_per_s": steps / seconds,
    }


def on_gpu(method: Any, threads: int) -> dict[str, Any]:
    """Fuse a scene, compare precisions and train on the GPU."""
    import torch

    from fusion.methods import _inference
    from fusion.methods._networks import weights_of

    stack = scene(1000 // RATIO + 1, method.pairs)
    torch.manual_seed(0)
    nets = method.networks(BANDS, RATIO)
    with torch.no_grad():
        for net in nets.values():
            for weight in net.parameters():
                if not weight.any():
                    weight.normal_(0, 0.01)  # the heads start at zero
    with tempfile.TemporaryDirectory() as place:
        about = Checkpoint(
            method.name(), method.parameters(), stack.bands, (RATIO, RATIO), (0.2,) * BANDS, (0.1,) * BANDS
        )
        import os

        os.environ["FUSION_CHECKPOINTS"] = place
        method = replace(method, checkpoint=checkpoints.save(about, weights_of(nets)).stem)
        fuse(stack, method)
        torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        half = fuse(stack, method).data
        seconds = time.perf_counter() - start
        memory = torch.cuda.max_memory_allocated() / 2**20
        _inference.HALF = False
        full = fuse(stack, method).data
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as seen:
        steps, spent = training(method, nets.cuda(), "cuda")
    busy = sum(event.self_device_time_total for event in seen.key_averages()) / 1e6  # seconds
    return {
        "pixels": stack.fine[0, 0].size,
        "seconds": seconds,
        "memory_mb": memory,
        "half_error": float(np.abs(half - full).max()),
        "train_steps_per_s": steps / spent,
        "busy": busy / spent,
        "device": torch.cuda.get_device_name(),
    }


def training(method: Any, nets: Any, device: str) -> tuple[int, float]:
    """Steps of training in about five seconds."""
    import torch

    sample = batch(method, 8, 64).to(device)
    optimisers = {name: torch.optim.Adam(net.parameters(), lr=1e-5) for name, net in nets.items()}

    def step() -> None:
        for name, loss in method.losses(nets, sample):
            nets.zero_grad(set_to_none=True)
            loss.backward()
            optimisers[name].step()

    nets.train()
    step()
    start, steps = time.perf_counter(), 0
    while time.perf_counter() - start < 5:
        step()
        steps += 1
    if device == "cuda":
        torch.cuda.synchronize()
    return steps, time.perf_counter() - start


def batch(method: Any, count: int, side: int) -> Any:
    """Random sample of `count` patches."""
    import torch

    from fusion.methods._sample import Sample

    torch.manual_seed(0)
    pairs, rows = method.at_once, side // RATIO
    fine, coarse = torch.randn(count, pairs, BANDS, side, side), torch.randn(count, pairs, BANDS, rows, rows)
    ones = torch.ones(count, pairs, 1, side, side)
    names = ("blue", "green", "red", "nir", "swir1", "swir2")
    mean, scale = torch.full((BANDS, 1, 1), 0.2), torch.full((BANDS, 1, 1), 0.05)
    truth = torch.randn(count, BANDS, side, side)
    return Sample(fine, coarse, coarse[:, 0] + 0.1, ones, mean, scale, names, truth, ones[:, 0])


def scene(coarse: int, pairs: int) -> Stack:
    """A synthetic scene with the usual band names."""
    return replace(landscape(pairs, BANDS, coarse, RATIO), bands=("blue", "green", "red", "nir", "swir1", "swir2"))


if __name__ == "__main__":
    sys.exit(main())
