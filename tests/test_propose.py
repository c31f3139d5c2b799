"""propose: pairs, first target, what will be read, a recipe in one call."""

from dataclasses import replace
from datetime import date

import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

import fusion
from fusion import FusionError, Item, propose
from fusion.area import rectangle


def test_what_will_be_read_is_counted() -> None:
    box = GeoBox((200, 100), Affine(10, 0, 0, 0, -10, 0), "EPSG:3035")
    reading = propose.plan_read((box, 10), bands=4, pairs=2)
    assert reading.images == 5
    assert reading.pixels == 2 * 20_000 + 3 * 200
    assert reading.bytes == 40_600 * 4 * 4
    assert propose.plan_read((box, 10), bands=4, pairs=4).seconds > reading.seconds > 0
    assert str(reading) == "5 images, 40,600 pixels, 0.6 MB, under 1 s"
    with pytest.raises(ValueError, match="at least one band"):
        propose.plan_read((box, 10))


def test_reading_of_a_recipe_is_what_load_makes() -> None:
    recipe = propose.recipe_for("sample")
    stack = fusion.load(recipe)
    arrays = (stack.fine, stack.coarse, stack.target)
    assert propose.plan_read(recipe).bytes == sum(array.nbytes for array in arrays)


def test_recipe_in_one_call() -> None:
    recipe = fusion.recipe_for("sample", pairs=1, method="delta")
    assert recipe.method == fusion.methods.get("delta")()
    assert len(recipe.pairs) == 1
    assert recipe.geobox.shape == (100, 100)
    assert recipe.ratio == 10
    assert fusion.Recipe.from_json(recipe.to_json()) == recipe


def test_sample_starts_in_its_last_spring() -> None:
    recipe = fusion.recipe_for("sample")
    assert recipe.target.day == date(2018, 5, 2)
    assert [coarse.day for coarse, _ in recipe.pairs] == [date(2018, 4, 22), date(2018, 5, 22)]
    assert propose.truth_item(recipe).day == recipe.target.day


def test_truth_of_a_lab_recipe_is_of_the_same_landscape() -> None:
    usual = propose.recipe_for("lab")
    other = propose.recipe_for("lab", options={"seed": 7, "gain": 1.1})
    assert propose.truth_item(usual).product == "lab-truth"
    assert propose.truth_item(usual).id == usual.target.id
    assert propose.truth_item(other).id == other.target.id != usual.target.id


def test_lab_options_are_in_the_recipe_and_checked() -> None:
    recipe = propose.recipe_for("lab", options={"noise": 0.01})
    assert all("noise=0.01" in item.id for pair in recipe.pairs for item in (*pair, recipe.target))
    with pytest.raises(FusionError, match=r"clouds \(share\) wants a number from 0 to 0.8, got 2"):
        propose.recipe_for("lab", options={"clouds": 2})


def test_recipe_keeps_to_its_area() -> None:
    west, south, east, north = propose.bounds_of(fusion.recipe_for("sample").area)
    half = rectangle(west, south, (west + east) / 2, north)
    recipe = fusion.recipe_for("sample", area=half)
    assert recipe.area == half
    assert recipe.geobox.shape[1] < 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"source": "sampel"}, "Did you mean 'sample'"),
        (
            {"source": "sample", "target": date(1999, 1, 1)},
            "no coarse image of 1999-01-01.*nearest are of 20",
        ),
        ({"source": "sample", "area": rectangle(0, 0, 1, 1)}, "outside"),
        ({"source": "sample", "method": "starfmm"}, "Did you mean 'starfm'"),
        ({"source": "sample", "options": {"fog": 1}}, "no option 'fog'"),
        ({"source": "sample", "pairs": 0}, "at least 1 pair, got 0"),
    ],
)
def test_what_cannot_be_says_why(arguments: dict, message: str) -> None:
    with pytest.raises(FusionError, match=message):
        fusion.recipe_for(**arguments)


def test_unknown_product_is_named() -> None:
    with pytest.raises(FusionError, match="no product 'modis'"):
        propose.find("sample", "modis")


def test_a_target_under_clouds_is_refused_before_anything_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = fusion.sources.get("lab")
    search = lab.search

    def veiled(product: str, *args: object, **more: object) -> list[Item]:
        found = search(product, *args, **more)  # type: ignore[arg-type]
        return [replace(item, cloud=1.0) if item.day == date(2021, 7, 12) else item for item in found]

    monkeypatch.setattr(lab, "search", veiled)
    with pytest.raises(FusionError, match="2021-07-12 shows nothing of the area"):
        propose.recipe_for("lab", date(2021, 7, 12))
