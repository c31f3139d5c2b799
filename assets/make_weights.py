"""Train the bundled checkpoints of EDCSTFN, for three, four and six bands.

    python -m assets.make_weights [--bands 4] [--epochs 5]

Data: the bundled sample (its dates of 2015 to 2018, EUPL-1.2) where the bands allow, at ratios 10 and 20, and
landscapes of the synthetic lab, at ratio 16 (for six bands at 10 and 20 too), seen by coarse sensors of different
calibration. Nothing else: so the weights may be published with Meantime. Run again on the same machine, it gives the
same weights.
"""

import argparse
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from affine import Affine

from fusion import Pair, aggregate, methods, propose, sources
from fusion.area import extent, grid
from fusion.pairing import pairs_of
from fusion.training import Options, Report, train

SETS = {
    3: ("green", "red", "nir"),
    4: ("blue", "green", "red", "nir"),
    6: ("blue", "green", "red", "nir", "swir1", "swir2"),
}
LABS = (
    {"seed": 1},
    {"seed": 2, "gain": 1.05, "offset": 0.005},
    {"seed": 3, "gain": 0.96, "offset": -0.003, "clouds": 0.2},
    {"seed": 4, "gain": 0.98, "offset": 0.003},
)
SETTINGS = {
    "width": 16, "base": "regression", "predictors": 4,
    "error": "relative", "feature_weight": 0.0, "structure_weight": 0.0,
}  # fmt: skip
PLACE = Path(__file__).parent / "weights"
ABOUT = {
    "data": "bundled sample (Sentinel-2, 2015 to 2018, EUPL-1.2) and the synthetic landscape lab",
    "licence": "Apache-2.0",
}


def main() -> None:
    """Train one set of bands after the other, and put the files where they are bundled."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bands", type=int, choices=SETS, action="append")
    parser.add_argument("--epochs", type=int, default=5)
    options = parser.parse_args()
    for count in options.bands or SETS:
        series = data(SETS[count])
        with tempfile.TemporaryDirectory() as place:
            os.environ["FUSION_CHECKPOINTS"] = place
            method = methods.build("edcstfn", SETTINGS)
            print("without a network:")
            base = replace(method, predictors=0)
            train(base, series, epochs=1, watch=told, options=Options(batch=1, patch=64, steps=1, rate=1e-9))
            print("trained:")
            path = train(
                method, series, epochs=options.epochs, watch=told, about=ABOUT,
                options=Options(batch=2, patch=192, steps=50, rate=1e-3, noise=0.02, shift=0.1, patience=1000),
            )  # fmt: skip
            for old in PLACE.glob(f"edcstfn-{count}b-*.safetensors"):
                old.unlink()
            shutil.copy(path, PLACE)
            print(PLACE / path.name, path.stat().st_size, "bytes")


def told(report: Report) -> None:
    """Print where the training stands."""
    floors = ", ".join(f"{name} {rmse:.5f}" for name, rmse in report.floors.items())
    print(f"epoch {report.epoch:4}  RMSE {report.scores['RMSE']:.5f}  ({floors})  {report.seconds:.0f} s", flush=True)


def data(bands: Sequence[str]) -> list[Pair]:
    """All pairs of all areas, each area on a grid of its own."""
    out: list[Pair] = []
    for index, options in enumerate(LABS):
        out += [_elsewhere(pair, index) for pair in everything("lab", bands, options)]
    if set(bands) <= {"blue", "green", "red", "nir"}:
        pairs = everything("sample", bands, {})
        return [*out, *pairs, *(_elsewhere(_coarser(pair, 20), 9) for pair in pairs)]
    for index, ratio in ((5, 10), (6, 20)):
        out += [_elsewhere(_coarser(pair, ratio), index) for pair in everything("lab", bands, {"seed": index})]
    return out


def everything(source: str, bands: Sequence[str], options: dict[str, float]) -> list[Pair]:
    """Every pair that a bundled source has, whole."""
    given = propose.options_of(source, options)
    fine, coarse = (propose.choose(source, role, None, given) for role in ("fine", "coarse"))
    box, ratio = grid(extent(fine), fine, coarse)
    items = pairs_of(*(propose.find(source, row.name, options=options) for row in (fine, coarse)))
    read = sources.get(source).read
    return [Pair(read(blurred, box.zoom_out(ratio), bands), read(sharp, box, bands)) for blurred, sharp in items]


def _coarser(pair: Pair, ratio: int) -> Pair:
    """The same pair with another ratio: its coarse image simulated anew from the fine one."""
    coarse = aggregate(pair.fine, ratio)
    return Pair(coarse, pair.fine)


def _elsewhere(pair: Pair, index: int) -> Pair:
    """The same pair at another place, so that it counts as another area."""
    move = Affine.translation(index * 1e5, 0)

    def moved(scene):
        box = scene.geobox
        return replace(scene, geobox=type(box)(box.shape, move @ box.affine, box.crs))

    return Pair(moved(pair.coarse), moved(pair.fine))


if __name__ == "__main__":
    main()
