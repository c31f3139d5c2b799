"""The bundled weights: small, described with their licence, for three sets of bands, and not worse than the floors."""

import re
from datetime import date
from pathlib import Path

import pytest

from fusion import checkpoints, evaluate, fuse, holdout, methods, propose, recipe_for
from fusion.methods._networks import chosen

PLACE = Path(__file__).parent.parent / "assets" / "weights"
SETS = (
    ("green", "red", "nir"),
    ("blue", "green", "red", "nir"),
    ("blue", "green", "red", "nir", "swir1", "swir2"),
)
BUNDLED = [row for row in checkpoints.every() if checkpoints.is_bundled(row.name)]


@pytest.mark.parametrize("bands", SETS, ids=len)
@pytest.mark.parametrize("ratio", [10, 16, 20])
def test_each_set_of_bands_has_its_weights_in_any_order(bands, ratio):
    found = chosen(methods.get("edcstfn")(), bands[::-1], ratio)
    assert found in BUNDLED and set(found.bands) == set(bands)


@pytest.mark.parametrize("row", BUNDLED, ids=lambda row: row.name)
def test_a_bundled_checkpoint_is_small_and_says_where_it_comes_from(row):
    size = checkpoints.path_of(row.name).stat().st_size
    assert size < 2_000_000 and row.method == "edcstfn"
    assert "landscape lab" in row.provenance["data"] and row.provenance["licence"]
    assert row.metrics["RMSE"] < min(row.metrics["floors"].values())
    notice = (PLACE / "NOTICE.md").read_text(encoding="utf-8")
    assert row.name in notice and re.search(rf"\b{size:,}\b", notice)


def test_nothing_else_is_bundled():
    names = {path.name for path in PLACE.iterdir()}
    assert names == {"NOTICE.md", "autoencoder.safetensors", *(f"{row.name}.safetensors" for row in BUNDLED)}


def test_days_of_the_sample_are_known_as_seen():
    row = chosen(methods.get("edcstfn")(), SETS[1], 10)
    recipe = recipe_for("sample", date(2018, 5, 2))
    west, south, east, north = recipe.geobox.extent.to_crs("EPSG:4326").boundingbox.bbox
    assert checkpoints.seen(row, date(2018, 5, 2), (west, south, east, north))
    assert not checkpoints.seen(row, date(2018, 5, 3), (west, south, east, north))
    assert not checkpoints.seen(row, date(2018, 5, 2), (0.0, 0.0, 1.0, 1.0))


# Not adapted they are no better than delta everywhere: on this summer day of the sample they are 8 % worse.
@pytest.mark.parametrize(("source", "options", "most"), [("sample", {}, 1.1), ("lab", {"seed": 77}, 0.65)])
def test_without_training_the_bundled_weights_do_about_as_well_as_the_floors(source, options, most):
    recipe = recipe_for(source, options=options)
    series = propose.series(recipe, propose.days_of(recipe))
    stack, truth = holdout(series, series[len(series) // 3].day, 2)
    score = {
        name: evaluate(fuse(stack, methods.get(name)()), truth, ["RMSE"])["RMSE"]["mean"]
        for name in ("nearest", "delta", "edcstfn")
    }
    assert score["edcstfn"] < min(score["nearest"], most * score["delta"]), score
