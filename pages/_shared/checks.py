"""Quality of the pairs before fusing: read them in a job, measure how they lie, say it in words."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

import numpy as np

from fusion import methods, sources, viz
from fusion.errors import FusionError
from fusion.preprocess import Card, Regression, Report, aggregate, harmonise, regression, report, surface, unit_mistake
from fusion.recipe import Recipe
from fusion.scene import Scene, identity_geobox
from fusion.sources import Item, local
from fusion.stack import Pair, Stack

from . import accounts, runs, state
from .jobs import Progress, Shelf
from .jobs import Work as JobWork
from .shifts import fine_unit as fine_unit
from .shifts import where as where

MOST_DAYS = 12  # read and compared in one go
CLEAR = 0.5  # share that may be missing of a day that is compared beside the pairs
SIDE = 420  # pixels of a picture
FULL = 2 * math.sqrt(2 * math.log(2))  # full width at half maximum of a Gaussian, in standard deviations
BRIGHTER = 2.5  # times; two sensors for the same bands differ by less


@dataclass(frozen=True, eq=False)
class Day:
    """What is shown of one pair."""

    card: Card
    missing: tuple[float, float]  # shares of the fine and of the coarse image
    pictures: tuple[bytes, bytes]  # PNG of the fine and of the coarse image, of one size and stretch
    peak: np.ndarray | None  # (north, east) correlation at every displacement; None where too few pixels are known
    step: float  # coarse pixels between two of these
    seen: np.ndarray  # (band, y, x) fine image as the coarse sensor would see it
    coarse: np.ndarray  # (band, y, x)
    warnings: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Checked:
    """Everything that the page shows of some pairs."""

    report: Report
    days: tuple[Day, ...]
    bands: tuple[str, ...]
    line: Regression  # of the coarse sensor on the fine one, before harmonising
    left: Regression  # and what is left of it afterwards
    before: Mapping[
        str, float
    ]  # band -> RMSE between the coarse images and the fine ones as the coarse sensor sees them
    after: Mapping[str, float]


def plan(work: state.Work, days: Sequence[date]) -> Recipe:
    """Recipe of what is read to compare these days, without harmonising."""
    return state.recipe(replace(work, harmonise=False), methods.get("nearest")(), pairs=tuple(days))


def clear_days(work: state.Work) -> list[date]:
    """Days with both images, clear enough to compare; at most twelve, spread over the time, the pairs among them."""
    fine, coarse = ({item.day: item for item in found} for found in state.items(work))
    known = [day for day in state.pair_days(work) if day != work.target]
    clear = [day for day in known if max(_cloud(fine.get(day)), _cloud(coarse.get(day))) <= CLEAR]
    rest = [day for day in clear if day not in work.pairs]
    room = max(MOST_DAYS - len(work.pairs), 0)
    step = max(len(rest) / room, 1) if room else 1
    spread = [rest[int(i * step)] for i in range(min(room, len(rest)))]
    return sorted({*work.pairs, *spread})


def _cloud(item: Item | None) -> float:
    return item.cloud or 0.0 if item else 0.0


def key(recipe: Recipe) -> str:
    """Name of the job that checks a recipe's pairs, and of what it finds."""
    return "check:" + recipe.to_json().rpartition(',"method"')[0]


def found(recipe: Recipe) -> Checked | None:
    """What is known of a recipe's pairs, or None before the job has run."""
    kept: Checked | None = runs.shelf().get(key(recipe))
    return kept


def start(recipe: Recipe) -> None:
    """Queue the reading and comparing; the images read are kept for Fuse."""
    accounts.ensure(recipe.target.source)
    runs.submit(key(recipe), "Check of the pairs", _work(recipe, runs.shelf()))


def _work(recipe: Recipe, keep: Shelf) -> JobWork:
    def work(progress: Progress) -> None:
        stack = runs.loaded(recipe, keep, progress)
        checked = check(stack, recipe, lambda share: progress(share, "comparing the images"))
        size = sum(len(p) for day in checked.days for p in day.pictures) + sum(2 * d.seen.nbytes for d in checked.days)
        keep.put(key(recipe), checked, size)

    return work


def check(stack: Stack, recipe: Recipe, progress: Callable[[float], None] = lambda share: None) -> Checked:
    """Compare coarse and fine images of all pairs of a stack."""
    pairs = stack.scenes()
    progress(0.1)
    fine = recipe.pairs[0][1]
    row = sources.product(fine.source, fine.product)
    found = local.in_metres(report(pairs, ratio=float(stack.ratio)), fine, stack.geobox)
    progress(0.5)
    index = row.level.startswith("index")
    line = regression(stack)
    even = harmonise(stack, line)
    progress(0.7)
    days = []
    for number, (pair, card) in enumerate(zip(pairs, found.cards, strict=True)):
        days.append(_day(pair, card, stack.ratio, index))
        progress(0.7 + 0.3 * (number + 1) / len(pairs))
    seen = np.stack([day.seen for day in days])
    return Checked(
        found, tuple(days), stack.bands, line, regression(even) if even is not stack else line,
        _errors(stack.coarse, seen, stack.bands), _errors(even.coarse, seen, stack.bands),
    )  # fmt: skip


def _day(pair: Pair, card: Card, ratio: int, index: bool) -> Day:
    width = card.psf / FULL if math.isfinite(card.psf) else 0.5
    seen = aggregate(pair.fine, ratio, psf=min(max(width, 0.0), 4.0)).data
    missing = tuple(float(np.isnan(side.data).any(axis=0).mean()) for side in (pair.fine, pair.coarse))
    peak, step = surface(pair.coarse, pair.fine, ratio=float(ratio)) or (None, 0.0)
    return Day(
        card, (missing[0], missing[1]), _pictures(pair, ratio), peak, step, seen, pair.coarse.data,
        tuple(_warnings(pair, card, seen, missing, index)),
    )  # fmt: skip


def _pictures(pair: Pair, ratio: int) -> tuple[bytes, bytes]:
    """Both images as large as each other, on one stretch."""
    every = max(1, math.ceil(max(pair.fine.shape[1:]) / SIDE))
    zoom = max(1, SIDE // max(pair.fine.shape[1:]))
    sides = [
        pair.fine.data[:, ::every, ::every],
        pair.coarse.data.repeat(ratio, axis=1).repeat(ratio, axis=2)[:, ::every, ::every],
    ]
    scenes = [Scene(data, identity_geobox(*data.shape[1:]), pair.fine.bands, pair.day) for data in sides]
    shown = next(iter(viz.combinations(pair.fine.bands).values()))
    seen = [scene for scene in scenes if np.isfinite(scene.select(shown).data).any()]
    limits = viz.limits(seen, shown) if seen else ((0.0, 1.0),) * len(shown)
    fine, coarse = (viz.png(viz.rgba(scene, shown, limits), zoom=zoom) for scene in scenes)
    return fine, coarse


def _warnings(pair: Pair, card: Card, seen: np.ndarray, missing: Sequence[float], index: bool) -> list[str]:
    out = []
    for name, side, share in zip(("fine", "coarse"), (pair.fine, pair.coarse), missing, strict=True):
        if share == 1:
            out.append(f"The {name} image has no value at all (clouds or gaps): choose another day for this pair.")
        elif share > CLEAR:
            out.append(f"{share:.0%} of the {name} image are missing: what it says rests on the rest.")
        if not index and (said := unit_mistake(side.data)):
            out.append(f"The {name} image has a mistake of units: {said}.")
    both = np.isfinite(seen) & np.isfinite(pair.coarse.data)
    if both.any():
        middle = float(np.median(pair.coarse.data[both])) / max(abs(float(np.median(seen[both]))), 1e-6)
        if not 1 / BRIGHTER <= middle <= BRIGHTER:
            out.append(f"The coarse image is {middle:.3g} times as bright as the fine one: their units do not match.")
    if "edge of the search" in card.doubt:
        out.append(
            "The coarse image fits best as far away as was searched: perhaps the georeference of one image is wrong "
            "(a conflict), or the images show different places."
        )
    return out


def _errors(coarse: np.ndarray, seen: np.ndarray, bands: Sequence[str]) -> dict[str, float]:
    """RMSE per band over all pairs; pixels that are missing in either are left out."""
    gap = coarse.astype(np.float64) - seen
    return {
        band: float(np.sqrt(np.nanmean(gap[:, number] ** 2))) if np.isfinite(gap[:, number]).any() else math.nan
        for number, band in enumerate(bands)
    }


def line_of(seen: np.ndarray, coarse: np.ndarray) -> tuple[float, float]:
    """Gain and offset of the coarse pixels on the fine ones as they lie now; (1, 0) where too few are known."""
    both = np.isfinite(seen) & np.isfinite(coarse)
    if both.sum() < 3 or not np.ptp(seen[both]):
        return 1.0, 0.0
    gain, offset = np.polyfit(seen[both], coarse[both], 1)
    return float(gain), float(offset)


def rows(checked: Checked, ratio: int) -> list[dict[str, str]]:
    """One row per date for the overview."""
    pixel, unit = checked.report.pixel, checked.report.unit
    fine = pixel / ratio
    return [
        {
            "day": str(day.card.day),
            "counts": "yes" if day.card.sharp else f"no: {day.card.doubt}",
            "missing, fine / coarse": f"{day.missing[0]:.0%} / {day.missing[1]:.0%}",
            f"east ({unit})": _with_error(day.card.dx, day.card.dx_error),
            f"north ({unit})": _with_error(day.card.dy, day.card.dy_error),
            "east, north (fine pixels)": _two(day.card.dx / fine, day.card.dy / fine),
            "sharpness": _number(day.card.sharpness, ".3f"),
            "correlation now": _number(day.card.r_zero, ".3f"),
            "if corrected": _number(day.card.r, ".3f"),
            "blur": _blur(day.card, unit),
        }
        for day in checked.days
    ]


def _blur(card: Card, unit: str) -> str:
    return f"{card.psf_width:.0f} {unit} = {card.psf:.2f} pixels" if math.isfinite(card.psf) else "-"


def _with_error(value: float, error: float) -> str:
    if not math.isfinite(value):
        return "-"
    return f"{value:+.1f} ± {error:.1f}" if math.isfinite(error) else f"{value:+.1f} ± ?"


def _two(one: float, other: float) -> str:
    return f"{one:+.2f}, {other:+.2f}" if math.isfinite(one + other) else "-"


def _number(value: float, form: str) -> str:
    return format(value, form) if math.isfinite(value) else "-"


def band_rows(card: Card) -> list[dict[str, str]]:
    """Gain, offset and correlation per band of one date."""
    return [
        {"band": band, "gain": f"{gain:.3f}", "offset": f"{offset:+.4f}", "correlation": f"{r:.3f}"}
        for band, gain, offset, r in zip(card.bands, card.gain, card.offset, card.correlation, strict=True)
    ]


def harmonise_rows(checked: Checked) -> list[dict[str, str]]:
    """What harmonising does, per band."""
    return [
        {
            "band": band,
            "gain": f"{gain:.3f}",
            "offset": f"{offset:+.4f}",
            "gain after": f"{checked.left.gain[i]:.3f}",
            "offset after": f"{checked.left.offset[i]:+.4f}",
            "RMSE before": f"{checked.before[band]:.4f}",
            "RMSE after": f"{checked.after[band]:.4f}",
        }
        for i, (band, gain, offset) in enumerate(
            zip(checked.line.bands, checked.line.gain, checked.line.offset, strict=True)
        )
    ]


def decided(work: state.Work) -> list[str]:
    """What was decided about own files when they were added, conflicts of georeference among them."""
    key = dict(work.options).get("dataset")
    if work.source != "local" or not key:
        return []
    facts = local.describe(str(key))
    words = {
        "pixels": "Georeference conflict: the images were taken to line up pixel for pixel, as you answered.",
        "georeference": "Georeference conflict: the coarse images lie where their georeference says, as you answered.",
    }
    placed = [str(value) for name, value in facts.get("answers", {}).items() if name.startswith("place:")]
    return [*(words[one] for one in dict.fromkeys(placed) if one in words), *facts["notes"]]


def unreached(recipe: Recipe, more: tuple[float, float]) -> str:
    """Say what of the result has no coarse pixel where own files are read moved by `more` beyond the recipe's shift."""
    shift = (recipe.shift[0] + more[0], recipe.shift[1] + more[1])
    coarse = [recipe.target, *(pair[0] for pair in recipe.pairs)]
    return local.unreached(coarse, recipe.geobox.zoom_out(recipe.ratio), recipe.area, shift).words


def add_shift(work: state.Work, more: tuple[float, float]) -> tuple[float, float]:
    """The shift in use with what was found on top of it.

    Raises
    ------
    FusionError
        If it is farther than a recipe allows.
    """
    digits = 1 if fine_unit(work) == "m" else 6  # what is less than that is noise
    east, north = (round(one + other, digits) for one, other in zip(work.shift, more, strict=True))
    try:
        replace(plan(work, work.pairs), shift=(east, north))
    except FusionError as error:
        raise FusionError(f"The correction cannot be used: {error}") from error
    return east, north
