"""Networks beside the floors and the classical methods, trained here, each on the same budget.

Run: FUSION_TEST_DATA=... python -m benchmarks.networks table [--minutes 1] [--only edcstfn,stfnet] [--json FILE]
     FUSION_TEST_DATA=... python -m benchmarks.networks adapt [--minutes 1] [--json FILE]
     FUSION_TEST_DATA=... python -m benchmarks.networks converted

table: every network from scratch, on the bundled sample (NRT: four dates hidden from one training, the others learnt
from) and on BOREAS (three scenes of which each in turn is hidden and the other two learnt from; coarse as 16 x 16 block
means of the co-registered images). Two pairs to each hidden date. The date that decides when to stop is one of those
learnt from, never the one that is scored. Each network is trained twice: with the base of its paper, and on top of the
regression, which is shown untrained too. Two processes with OMP_NUM_THREADS=1 and half of the networks each take half
the time on two cores.

adapt: the bundled checkpoint as it is, a network of the same size from scratch, and the checkpoint adapted, on BOREAS.

converted: the published DCSTFN weights, where FUSION_TEST_WEIGHTS names their folder, on Shenzhen and BOREAS.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from fusion import Method, Pair, Scene, Stack, evaluate, fuse, holdout, methods, propose, sources
from fusion.area import extent, grid
from fusion.pairing import pairs_of
from fusion.scene import identity_geobox
from fusion.training import Options, train

RATIO = 16
BOREAS = ("2001-05-24", "2001-07-11", "2001-08-12")
SAMPLE_HIDDEN = (date(2017, 7, 11), date(2018, 5, 22), date(2018, 7, 1), date(2018, 9, 19))
CLASSICAL = ("nearest", "delta", "starfm", "estarfm", "efast", "fsdaf")
SCORES = ("RMSE", "CC", "SSIM", "EDGE")
EPOCHS, STEPS = 100_000, 25  # the minutes end a training, which looks at the hidden date so often

REGRESSION = "regression"

Problems = Sequence[tuple[Stack, Scene]]  # with their truth
Fold = tuple[str, list[Pair], Problems]  # name, what is learnt from, what is predicted


def main() -> int:
    """Print one of the tables; optionally write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("table", "adapt", "converted"))
    parser.add_argument("--minutes", type=float, default=1.0, help="of each training, on the clock")
    parser.add_argument("--only", type=lambda text: text.split(","), help="networks")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if not os.environ.get("FUSION_TEST_DATA"):
        sys.exit("Set FUSION_TEST_DATA to the folder of the benchmark scenes.")
    data = Path(os.environ["FUSION_TEST_DATA"])
    with tempfile.TemporaryDirectory() as place:
        os.environ["FUSION_CHECKPOINTS"] = place
        rows = {"table": table, "adapt": adapt, "converted": converted}[options.what](data, options)
        rows = list(rows)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))
    return 0


def table(data: Path, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Train every network on every fold, and score all methods."""
    names = options.only or [name for name in methods.names() if methods.get(name).family == "deep learning"]
    _head()
    for case, folds in (("NRT", sample_folds()), ("BOREAS", boreas_folds(data))):
        for fold, series, problems in folds:
            for name in CLASSICAL:
                yield _row(name, case, fold, _mean(methods.get(name)(), problems))
            for base in ("delta", REGRESSION):
                yield _row(f"untrained, {base}", case, fold, _mean(_untrained(base, series), problems))
            for method in (methods.get(name)() for name in names):
                yield _learnt(method, "", case, fold, series, problems, options.minutes)
                if REGRESSION in next(item.choices for item in methods.params(type(method)) if item.name == "base"):
                    method = replace(method, base=REGRESSION)
                    yield _learnt(method, f", {REGRESSION}", case, fold, series, problems, options.minutes)
                if hasattr(method, "predictors"):
                    method = replace(method, predictors=4)
                    yield _learnt(method, ", predictors", case, fold, series, problems, options.minutes)


def _learnt(
    method: Any, more: str, case: str, fold: str, series: Sequence[Pair], problems: Problems, minutes: float
) -> dict[str, Any]:
    trained, facts = _trained(method, series, Options(minutes=minutes, steps=STEPS))
    return _row(method.name() + more, case, fold, _mean(trained, problems), facts)


def _untrained(base: str, series: Sequence[Pair]) -> Method:
    """A network that adds nothing to its base, with the scales that training would take."""
    method = methods.build("edcstfn", {"base": base, "width": 4})
    return _trained(method, series, Options(minutes=1e-9, rate=1e-30))[0]


def adapt(data: Path, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The bundled checkpoint as it is, from scratch, and adapted."""
    _head()
    for fold, series, problems in boreas_folds(data):
        plain = methods.get("edcstfn")()
        bundled = _bundled(problems[0][0])
        limit = {"minutes": options.minutes, "steps": STEPS}
        like = methods.build("edcstfn", {**bundled.parameters, "checkpoint": ""})
        for name in ("nearest", "delta", "starfm"):
            yield _row(name, "BOREAS", fold, _mean(methods.get(name)(), problems))
        yield _row("zero-shot", "BOREAS", fold, _mean(plain, problems))
        scratch, facts = _trained(like, series, Options(**limit))
        yield _row("scratch", "BOREAS", fold, _mean(scratch, problems), facts)
        adapted, facts = _trained(like, series, Options(**limit, start=bundled.name))
        yield _row("adapted", "BOREAS", fold, _mean(adapted, problems), facts)


def converted(data: Path, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The published DCSTFN weights beside the floors."""
    from fusion import convert

    if not os.environ.get("FUSION_TEST_WEIGHTS"):
        sys.exit("Set FUSION_TEST_WEIGHTS to the folder of the published weights.")
    weights = Path(os.environ["FUSION_TEST_WEIGHTS"])
    files = {band: next(weights.glob(f"dcstfn_{band}_*.hdf5")) for band in ("green", "red", "nir")}
    method = methods.build("dcstfn", {"checkpoint": convert.dcstfn(files).stem})
    _head()
    folds = [("BOREAS", fold) for fold in boreas_folds(data)] + [("Shenzhen", shenzhen(data))]
    for case, (name, _, problems) in folds:
        for each in (methods.get("nearest")(), methods.get("delta")(), methods.get("starfm")(), method):
            yield _row(each.name(), case, name, _mean(each, problems))


def sample_folds() -> Iterator[Fold]:
    """The bundled sample: one training on the dates that are not hidden."""
    fine, coarse = (propose.choose("sample", role, None) for role in ("fine", "coarse"))
    box, ratio = grid(extent(fine), fine, coarse)
    items = pairs_of(*(propose.find("sample", row.name) for row in (fine, coarse)))
    read, bands = sources.get("sample").read, propose.common_bands(fine, coarse)
    series = [Pair(read(blurred, box.zoom_out(ratio), bands), read(sharp, box, bands)) for blurred, sharp in items]
    known = [pair for pair in series if pair.day not in SAMPLE_HIDDEN]
    hidden = [pair for pair in series if pair.day in SAMPLE_HIDDEN]
    yield "4 dates", known, [holdout([*known, pair], pair.day, 2) for pair in hidden]


def boreas_folds(data: Path) -> Iterator[Fold]:
    """Each of three dates hidden in turn."""
    series = [boreas(data / "boreas_estarfm_2001" / "coreg", day) for day in BOREAS]
    for pair in series:
        stack, truth = holdout(series, pair.day, 2)
        yield str(pair.day), [each for each in series if each is not pair], [(stack, truth)]


def boreas(folder: Path, day: str) -> Pair:
    """Pair of one day, coarse as block means."""
    return _pair(folder / f"fine/L7_{day}.tif", folder / f"coarse/MODIS_{day}.tif", date.fromisoformat(day),
                 ("green", "red", "nir"))  # fmt: skip


def shenzhen(data: Path) -> Fold:
    """One pair to 2002."""
    folder, days = data / "shenzhen_l7_mod09_2000_2002", {"2000306": date(2000, 11, 1), "2002311": date(2002, 11, 7)}
    series = [
        _pair(
            folder / f"fine/L7{text}_SZ_B432_30m.tif", folder / f"coarse/MOD09_{text}_SZ_B214_250m.tif", day,
            ("nir", "red", "green"), side=480,
        )
        for text, day in days.items()
    ]  # fmt: skip
    return "2002-11-07", series[:1], [holdout(series, series[1].day, 1)]


def _pair(fine: Path, coarse: Path, day: date, bands: tuple[str, ...], side: int | None = None) -> Pair:
    sharp, blurred = (Scene.read(path, bands=bands, day=day, scale=1e-4).data for path in (fine, coarse))
    height, width = ((side or size) // RATIO * RATIO for size in sharp.shape[1:])
    box = identity_geobox(height, width)
    blocks = blurred[:, :height, :width].reshape(len(bands), height // RATIO, RATIO, width // RATIO, RATIO)
    means = blocks.mean((2, 4), dtype=np.float64).astype(np.float32)
    return Pair(Scene(means, box.zoom_out(RATIO), bands, day), Scene(sharp[:, :height, :width], box, bands, day))


def _trained(method: Any, series: Sequence[Pair], options: Options) -> tuple[Method, dict[str, Any]]:
    """Train, and return the method with its checkpoint and what it took."""
    seen: list[Any] = []
    began = time.monotonic()
    path = train(method, series, epochs=EPOCHS, options=options, watch=seen.append)
    facts = {"steps": seen[-1].step, "epochs": seen[-1].epoch, "seconds": round(time.monotonic() - began, 1)}
    return replace(method, checkpoint=path.stem), facts


def _mean(method: Method, problems: Problems) -> dict[str, float]:
    """Scores, means over problems and bands."""
    rows = [evaluate(fuse(stack, method), truth, SCORES, ratio=stack.ratio) for stack, truth in problems]
    return {score: float(np.mean([row[score]["mean"] for row in rows])) for score in SCORES}


def _head() -> None:
    print(f"{'':24}{'case':10}{'fold':12}" + "".join(f"{score:>8}" for score in SCORES) + "   steps  epochs")


def _row(name: str, case: str, fold: str, scores: Mapping[str, float], facts: Mapping[str, Any] = {}) -> dict[str, Any]:
    cells = f"{scores['RMSE']:8.5f}" + "".join(f"{scores[score]:8.3f}" for score in SCORES[1:])
    print(
        f"{name:24}{case:10}{fold:12}{cells}" + "".join(f"{facts.get(k, ''):>8}" for k in ("steps", "epochs")),
        flush=True,
    )
    return {"method": name, "case": case, "fold": fold, **scores, **facts}


def _bundled(stack: Stack) -> Any:
    """The bundled EDCSTFN checkpoint for a stack."""
    from fusion.methods._networks import chosen

    return chosen(methods.get("edcstfn")(), stack.bands, stack.ratio)


if __name__ == "__main__":
    sys.exit(main())
