"""Train the autoencoder whose features the loss "perceptual" compares, and write weights/autoencoder.safetensors.

    python -m assets.make_autoencoder

Seven minutes on one busy thread. It learns from the bundled sample series (surface reflectance by Sentinel-2, four
bands) and from the landscape lab (made up, six bands), and is judged by days and landscapes that it has not seen. On
the same machine and versions it writes the same bytes; elsewhere the last digits differ. weights/NOTICE.md tells more.
"""

import argparse
import hashlib
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from fusion.methods._features import SLOTS, WIDTHS, Autoencoder, groups
from fusion.products import LAB_GRID, product
from fusion.sources import lab, sample

SEED = 5
STEPS = 5000
BATCH, SIDE = 12, 48
RATE = 2e-3
HIDDEN = (date(2017, 6, 6), date(2018, 4, 12), date(2018, 9, 19))  # of the sample: summer, bare, autumn
LANDSCAPES, JUDGES = (11, 12, 13, 14), (15,)  # seeds of the lab
LAB_DAYS = range(2, 46, 6)  # places in lab.DAYS
DROPPED = 0.5  # of the crops lose bands
SHUFFLED = 0.15  # of the crops have their bands in other slots, for images with bands of other names
BRIGHTER = 0.15  # of the crops are brighter or darker
FILE = Path(__file__).parent / "weights" / "autoencoder.safetensors"


def main() -> None:
    """Train, judge and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--out", type=Path, default=FILE)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    began = time.monotonic()
    days = [day for day in sample.days() if day.year <= 2018]
    images = [*[observed(day) for day in days if day not in HIDDEN], *made_up(LANDSCAPES)]
    net = Autoencoder().to(memory_format=torch.channels_last)  # faster
    net.mean, net.scale = normalisation(images)
    learn(net, images, options.steps)
    measure_spreads(net, images)
    for title, judges in (("sample", [observed(day) for day in HIDDEN]), ("lab", made_up(JUDGES))):
        report(net, title, judges)
    options.out.parent.mkdir(exist_ok=True)
    body = save({key: value.contiguous() for key, value in sorted(net.state_dict().items())})
    options.out.write_bytes(body)
    print(f"{options.out}: {len(body):,} bytes, sha256 {hashlib.sha256(body).hexdigest()}")
    print(f"{options.steps} steps, {time.monotonic() - began:.0f} s")


def observed(day: date) -> Tensor:
    """Image of the sample, ``(6, y, x)`` reflectance; NaN in the slots that it has no band for."""
    item = next(item for item in sample.search("sentinel2") if item.day == day)
    row = product("sample", "sentinel2")
    scene = sample.read(item, row.geobox, row.bands)
    return in_slots(scene.data, scene.bands)


def made_up(seeds: Sequence[int]) -> list[Tensor]:
    """Images of the lab."""
    out = []
    for seed in seeds:
        items = lab.search("lab-truth", options=lab.Landscape(seed=seed))
        out += [in_slots(lab.read(items[k], LAB_GRID, SLOTS).data, SLOTS) for k in LAB_DAYS]
    return out


def in_slots(image: np.ndarray, bands: Sequence[str]) -> Tensor:
    out = np.full((6, *image.shape[1:]), np.nan, np.float32)
    for slot, band in enumerate(groups(bands)[0]):
        if band >= 0:
            out[slot] = image[band]
    return torch.from_numpy(out)


def normalisation(images: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each slot; every image counts alike."""
    parts = [image.flatten(1).double() for image in images]
    mean = torch.stack([part.mean(1) for part in parts]).nanmean(0)
    square = torch.stack([part.square().mean(1) for part in parts]).nanmean(0)
    scale = (square - mean.square()).sqrt()
    return mean.float()[:, None, None], scale.float()[:, None, None]


def crop(net: Autoencoder, images: Sequence[Tensor], rng: np.random.Generator, observed_first: int) -> Tensor:
    """One crop, normalised and turned; half of them are observed, NaN where there is no band."""
    real = rng.random() < 0.5
    image = images[rng.integers(observed_first) if real else rng.integers(observed_first, len(images))]
    y, x = (int(rng.integers(size - SIDE + 1)) for size in image.shape[1:])
    out = (image[:, y : y + SIDE, x : x + SIDE] - net.mean) / net.scale
    out = out.rot90(int(rng.integers(4)), (1, 2))
    return out.flip(1) if rng.random() < 0.5 else out


def varied(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Drop bands, move them into other slots, change their level; NaN marks what is not there."""
    out = image.clone()
    if rng.random() < DROPPED:
        there = np.flatnonzero(~torch.isnan(out[:, 0, 0]).numpy())
        out[rng.permutation(there)[int(rng.integers(1, len(there) + 1)) :]] = torch.nan
    if rng.random() < SHUFFLED:
        out = out[torch.from_numpy(rng.permutation(6))]
    if rng.random() < BRIGHTER:
        level, pace = rng.normal(0, 0.7, (6, 1, 1)), rng.uniform(0.5, 2, (6, 1, 1))
        out = out * torch.from_numpy(pace.astype(np.float32)) + torch.from_numpy(level.astype(np.float32))
    return out


def learn(net: Autoencoder, images: Sequence[Tensor], steps: int) -> None:
    """Reduce the squared difference between the given bands and what comes back."""
    count = sum(bool(torch.isnan(image).any()) for image in images)
    optimiser = torch.optim.Adam(net.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps, RATE / 100)
    rng = np.random.default_rng(SEED)
    for step in range(steps):
        batch = torch.stack([varied(crop(net, images, rng, count), rng) for _ in range(BATCH)])
        given = ~torch.isnan(batch)
        batch = batch.nan_to_num(0).contiguous(memory_format=torch.channels_last)
        loss = ((net(batch) - batch) * given).square().sum() / given.sum()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 250 == 0 or step == steps - 1:
            print(f"step {step}: {float(loss.detach()):.5f}", flush=True)


@torch.no_grad()
def measure_spreads(net: Autoencoder, images: Sequence[Tensor]) -> None:
    """Find the standard deviation of each feature; every image counts alike. One that hardly varies is not blown up."""
    spreads = [net.get_buffer(f"spread{part}") for part in range(len(WIDTHS) + 1)]
    sums = [torch.zeros(2, *spread.shape, dtype=torch.float64) for spread in spreads]
    for image in images:
        normal = ((image - net.mean) / net.scale).nan_to_num(0)
        for total, value in zip(sums, net.parts(normal[None]), strict=True):
            value = value[0].double()
            total += torch.stack([value.mean((1, 2)), value.square().mean((1, 2))])[..., None, None]
    for spread, total in zip(spreads, sums, strict=True):
        mean, square = total / len(images)
        found = (square - mean.square()).clamp(min=0).sqrt()
        spread.copy_(found.maximum(0.1 * found.median()))
        print(f"spreads: {found.min():.3f} to {found.max():.3f}, median {found.median():.3f}")


@torch.no_grad()
def report(net: Autoencoder, title: str, images: Sequence[Tensor]) -> None:
    """Print the error of each band, in reflectance, over images that were not learnt from."""
    errors = []
    for image in images:
        normal = (image - net.mean) / net.scale
        errors.append(((net(normal.nan_to_num(0)[None])[0] - normal) * net.scale).square().mean((1, 2)))
    rmse, spread = torch.stack(errors).mean(0).sqrt(), torch.stack([i.flatten(1).std(1) for i in images]).mean(0)
    cells = [f"{name} {e:.4f} of {s:.4f}" for name, e, s in zip(SLOTS, rmse, spread, strict=True) if e == e]
    print(f"{title}: RMSE of standard deviation, reflectance: {', '.join(cells)}")


if __name__ == "__main__":
    main()
