"""Command line: through main() where that is enough, through a real process where it is not."""

import csv
import io
import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from datetime import timedelta
from glob import glob
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning

import fusion
from fusion import _cli_commands, _cli_evaluate, checkpoints, estimate, methods
from fusion.__main__ import main
from fusion._cli_parser import ALIGN, EVALUATE, METHODS, OVERVIEW, RUN, SEARCH, parser_of
from fusion._cli_text import Progress, print_json, seconds, strong, table
from fusion.area import extent
from fusion.metrics import METRICS
from fusion.propose import bounds_of, recipe_for
from fusion.recipe import MAX_GEOJSON
from fusion.sources import sample

PROG = "python -m fusion"

# rasterio hides this warning of its own while it warps, but what one thread hides another one shows again.
pytestmark = pytest.mark.filterwarnings("ignore:Dataset has no geotransform")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Every test works in a folder of its own, and leaves no measured times behind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FUSION_CACHE", "off")
    return tmp_path


@pytest.fixture
def recipe(folder):
    """A small recipe of the sample, also as recipe.json."""
    recipe = recipe_for("sample", method="delta")
    (folder / "recipe.json").write_text(recipe.to_json())
    return recipe


def process(*arguments, **options):
    """Start the command line as a process of its own, which hears Ctrl-C even if these tests run in the background."""
    environment = {**os.environ, "PYTHONPATH": str(Path(fusion.__file__).parents[1])}
    command = [sys.executable, "-m", "fusion", *arguments]
    return subprocess.Popen(command, env=environment, preexec_fn=hears, **options)


def hears():
    """Undo what a shell does to commands in the background: they are deaf to Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def failure(capsys, *arguments):
    """Run what must fail with code 1 and return the message; with --json it is on stdout as well."""
    assert main(arguments) == 1
    plain = capsys.readouterr()
    assert plain.out == ""
    assert "Traceback" not in plain.err
    assert main([*arguments, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"] in plain.err
    return plain.err


# help


def examples(epilog):
    """Examples of a help text as (what the heading above says they need, arguments); a shell would do the same."""
    needs, out = "", []
    for line in epilog.format(prog=PROG).replace("\\\n", "").splitlines():
        if line.startswith("examples, "):
            needs = line
        elif line.startswith(f"  {PROG} "):
            out.append((needs, [path for part in shlex.split(line)[3:] for path in sorted(glob(part)) or [part]]))
    return out


# Those that need a network, an account or files are typed in test_cli_sources.py.
@pytest.mark.parametrize("epilog", [OVERVIEW, METHODS, SEARCH, ALIGN, RUN, EVALUATE])
def test_examples_in_the_help_work_as_typed(epilog, capsys):
    lines = [line for needs, line in examples(epilog) if "network" not in needs]
    assert len(lines) >= 3
    for line in lines:
        assert main(line) == 0, f"{line}\n{capsys.readouterr().err}"


@pytest.mark.parametrize("command", ["methods", "search", "files", "account", "align", "run", "evaluate"])
def test_help_of_each_command_shows_its_examples(command, capsys):
    assert main([command, "--help"]) == 0
    assert f"  {PROG} {command}" in capsys.readouterr().out


def test_help_speaks_of_the_installed_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/meantime"])
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert "  meantime run recipe.json fused.tif" in text
    assert PROG not in text


def test_without_a_command_the_help_is_shown_as_an_error(capsys):
    assert main([]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "search sample --save recipe.json" in shown.err


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"Meantime {fusion.__version__}\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("fuse", "invalid choice"),
        ("search sample --from 2018-13-01", "YYYY-MM-DD, got '2018-13-01'"),
        ("search sample --target 2018-07-01 --pairs 0", "whole number from 1, got '0'"),
        ("search sample --target 2018-07-01 --product sentinel2", "leave out --product"),
        ("search sample --product sentinel2 --fine sentinel2", "leave out --fine and --coarse"),
        ("search --from 2018-01-01", "name the SOURCE to search: earthengine, lab, local"),
        ("search --option seed=3", "name the SOURCE to search"),
        ("search sample --bounds 1 2 3", "--bounds"),
        ("evaluate recipe.json --ratio 10", "leave out --ratio"),
        ("evaluate a.tif --truth b.tif --methods delta", "leave out --methods"),
        ("evaluate recipe.json --metrics RMSE,", "names with commas"),
    ],
)
def test_wrong_usage_is_code_2(line, message, capsys):
    assert main(line.split()) == 2
    assert message in capsys.readouterr().err


# methods


def test_every_method_is_listed(capsys):
    assert main(["methods"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(methods.names())
    assert main(["methods", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == list(methods.names())


def test_one_method_is_explained_with_every_parameter(capsys):
    kind = methods.get("starfm")
    assert main(["methods", "starfm"]) == 0
    text = capsys.readouterr().out
    assert kind.paper in text
    assert kind.explanation() in text
    assert re.search(r"^window +31 +3 to 201, odd +fine pixels +Side", text, re.M)
    assert re.search(r"^combine +log +log, product +- ", text, re.M)
    assert main(["methods", "starfm", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["parameters"]}
    assert list(rows) == [item.name for item in methods.params(kind)]
    assert rows["window"]["default"] == 31
    assert (rows["window"]["low"], rows["window"]["high"], rows["window"]["odd"]) == (3, 201, True)


def test_unknown_method_says_which_there_are(capsys):
    assert "Did you mean 'starfm'" in failure(capsys, "methods", "starfmm")


# search


def test_search_lists_what_the_source_has(capsys):
    assert main(["search", "sample", "--product", "sentinel2"]) == 0
    shown = capsys.readouterr()
    items = sample.search("sentinel2")
    lines = shown.out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == [str(item.day) for item in items]
    assert all(item.id in line for item, line in zip(items, lines[1:], strict=True))
    assert main(["search", "sample", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["origin"] for row in rows} == {"observed", "simulated"}
    assert [row["day"] for row in rows] == sorted(row["day"] for row in rows)


def test_search_between_days(capsys):
    days = [item.day for item in sample.search("sentinel2")]
    first, last = str(days[1]), str(days[-2])
    assert main(["search", "sample", "--product", "sentinel2", "--from", first, "--to", last, "--json"]) == 0
    assert [row["day"] for row in json.loads(capsys.readouterr().out)] == [str(day) for day in days[1:-1]]
    assert "swap" in failure(capsys, "search", "sample", "--from", last, "--to", first)


def test_options_of_the_source_reach_the_recipe(capsys):
    line = "search lab --option seed=3 --option clouds=0.2 --target 2021-07-28 --json"
    assert main(line.split()) == 0
    recipe = fusion.Recipe.from_json(json.dumps(json.loads(capsys.readouterr().out)["recipe"]))
    assert "seed=3" in recipe.target.id
    assert "clouds=0.2" in recipe.target.id


def test_search_saves_a_recipe_that_loads(capsys):
    line = "search sample --pairs 1 --method starfm --set window=21 --set combine=product --save r.json"
    assert main(line.split()) == 0
    recipe = fusion.Recipe.from_json(Path("r.json").read_text())
    assert recipe.method == methods.get("starfm")(window=21, combine="product")
    assert len(recipe.pairs) == 1
    text = capsys.readouterr().out
    assert str(recipe.target.day) in text
    assert f"{recipe.pairs[0][0].day} (" in text
    assert "simulated" in text


@pytest.mark.parametrize("form", ["", " --json"])
def test_search_refuses_fewer_pairs_than_the_method_needs_and_saves_nothing(form, capsys):
    line = f"search sample --method estarfm --pairs 1 --save r.json{form}"
    assert main(line.split()) == 1
    text = "".join(capsys.readouterr())
    assert "ESTARFM wants at least 2 pairs, got 1" in text and "--pairs 2" in text
    assert not Path("r.json").exists()


def test_search_proposes_as_many_pairs_as_the_method_needs(capsys, monkeypatch):
    monkeypatch.setattr(methods.get("estarfm"), "pairs", 3)
    assert main("search sample --method estarfm --save r.json".split()) == 0
    assert len(fusion.Recipe.from_json(Path("r.json").read_text()).pairs) == 3


def test_search_refuses_where_there_are_fewer_pairs_than_the_method_needs(capsys, monkeypatch):
    monkeypatch.setattr(methods.get("estarfm"), "pairs", 99)
    assert main("search sample --method estarfm --save r.json".split()) == 1
    text = capsys.readouterr().err
    assert "There are no more usable pairs; 99 were wanted." in text and "ESTARFM wants at least 99 pairs" in text
    assert not Path("r.json").exists()


@pytest.mark.parametrize("line", ["run r.json fused.tif", "evaluate r.json", "evaluate delta.json --methods estarfm"])
def test_too_few_pairs_are_refused_before_anything_is_read(line, capsys, monkeypatch):
    recipe = recipe_for("sample", pairs=1, method="estarfm")
    Path("r.json").write_text(recipe.to_json())
    Path("delta.json").write_text(replace(recipe, method=methods.get("delta")()).to_json())
    monkeypatch.setattr(sample, "read", lambda *_: pytest.fail("read"))
    assert main(line.split()) == 1
    assert "ESTARFM wants at least 2 pairs, got 1: give it 2 pairs" in capsys.readouterr().err


def test_search_as_json_holds_recipe_and_reason(capsys):
    target = recipe_for("sample").target.day
    assert main(["search", "sample", "--target", str(target), "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert fusion.Recipe.from_json(json.dumps(body["recipe"])).target.day == target
    assert "days before" in body["why"]
    assert body["saved"] is None


def test_area_from_geojson(capsys, folder):
    west, south, east, north = bounds_of(extent(fusion.PRODUCTS["sample", "sentinel2"]))
    middle = (west + east) / 2
    ring = [[west, south], [middle, south], [middle, north], [west, north], [west, south]]
    shape = {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
    (folder / "half.geojson").write_text(json.dumps(shape))
    assert main(["search", "sample", "--area", "half.geojson", "--save", "r.json"]) == 0
    recipe = fusion.Recipe.from_json(Path("r.json").read_text())
    assert recipe.area == tuple(map(tuple, ring[:-1]))
    assert recipe.geobox.shape[1] < 100
    (folder / "half.geojson").write_text(json.dumps(shape)[:-5])
    capsys.readouterr()
    said = failure(capsys, "search", "sample", "--area", "half.geojson")
    assert "half.geojson: The GeoJSON file wants JSON" in said


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f'{{"type": "Polygon", "coordinates": [[[{"9" * 5000}, 1]]]}}', "The GeoJSON file wants JSON"),
        ("[" * 500_000, "The GeoJSON file wants JSON"),
        (" " * (MAX_GEOJSON + 1), "at most 1,000,000 characters, got 1,000,001"),
        ("[]", "wants a JSON object, got list"),
        ('{"type": "Point"}', "wants one Polygon without holes, got 'Point'"),
    ],
)
def test_a_broken_area_names_the_file_and_what_it_wants(content, message, capsys, folder):
    (folder / "a.geojson").write_text(content)
    said = failure(capsys, "search", "sample", "--area", "a.geojson")
    assert "a.geojson: " in said and message in said


def test_search_where_nothing_is_says_so_on_stderr(capsys):
    assert main("search sample --from 1980-01-01 --to 1980-12-31".split()) == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "No image" in shown.err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("search sampel", "Did you mean 'sample'"),
        ("search sample --product modis", "no product 'modis'"),
        ("search sample --option fog=1", "no option 'fog'"),
        ("search lab --option clouds=2", "clouds (share) wants a number from 0 to 0.8, got 2"),
        ("search lab --option seed=1.5", "seed wants a whole number from 0 to 9999, got '1.5'"),
        ("search sample --target 1999-01-01", "no coarse image of 1999-01-01"),
        (
            "search sample --method starfm --set window=4",
            "window (fine pixels) wants a whole number that is odd",
        ),
        ("search sample --method starfm --set window=big", "window (fine pixels) wants a whole number"),
        ("search sample --method starfm --set windows=5", "no parameter 'windows'"),
        ("search sample --method starfm --set window", "name=value"),
        ("search sample --method starfmm", "Did you mean 'starfm'"),
        ("search sample --bounds 0 0 1 1 --save r.json", "outside"),
        ("search sample --bounds 0 0 900 1", "900"),
        (
            "search sample --bounds 23 46 22 47",
            "west < east and south < north, got 23 to 22 and 46 to 47 degrees: swap",
        ),
        (
            "search sample --bounds 22 47 23 46 --save r.json",
            "west < east and south < north, got 22 to 23 and 47 to 46",
        ),
        ("search sample --bounds nan 46 23 47", "west < east"),
        ("search sample --area nowhere.geojson", "nowhere.geojson"),
        ("search sample --save nowhere/r.json", "nowhere/r.json"),
    ],
)
def test_search_says_what_is_wrong(line, message, capsys):
    assert message in failure(capsys, *line.split())


# run


def test_run_writes_the_result_with_its_recipe(recipe, capsys):
    assert main(["run", "recipe.json", "fused.tif"]) == 0
    text = capsys.readouterr().out
    assert "10,000" in text
    assert "10 m" in text
    assert re.search(r"Time +\d+\.\d s", text)
    with rasterio.open("fused.tif") as file:
        assert fusion.Recipe.from_json(file.tags()["FUSION_RECIPE"]) == recipe
        np.testing.assert_array_equal(file.read(), fusion.run(recipe).data)


def test_run_as_json(recipe, capsys):
    assert main(["run", "recipe.json", "fused.tif", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["pixels"] == 10_000
    assert facts["valid"] == fusion.Scene.read("fused.tif").valid
    assert facts["target"] == str(recipe.target.day)
    assert facts["method"] == "delta"
    assert facts["seconds"] > 0


def test_a_result_is_made_again_from_its_own_recipe(recipe):
    assert main(["run", "recipe.json", "fused.tif"]) == 0
    assert main(["run", "fused.tif", "again.tif"]) == 0
    first, second = fusion.Scene.read("fused.tif"), fusion.Scene.read("again.tif")
    np.testing.assert_array_equal(first.data, second.data)
    assert first.day == second.day


def test_tile_and_threads_change_nothing(recipe):
    assert main(["run", "recipe.json", "one.tif"]) == 0
    assert main("run recipe.json two.tif --tile 30 --threads 3".split()) == 0
    np.testing.assert_array_equal(fusion.Scene.read("one.tif").data, fusion.Scene.read("two.tif").data)


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("nowhere/out.tif", "no folder nowhere"),
        ("recipe.json/out.tif", "no folder recipe.json"),
        ("out.png", "end in .tif"),
        ("folder.tif", "is a folder"),
        pytest.param(
            "/proc/out.tif",
            "Cannot write into /proc",
            marks=pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc here"),
        ),
    ],
)
def test_run_finds_out_first_that_it_cannot_write(recipe, out, message, capsys, monkeypatch):
    Path("folder.tif").mkdir()
    monkeypatch.setattr("fusion._cli_work.load", lambda _: pytest.fail("worked before it looked"))
    assert message in failure(capsys, "run", "recipe.json", out)


def broken(change):
    def write(recipe):
        body = json.loads(recipe.to_json())
        change(body)
        return json.dumps(body).encode()

    return write


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda recipe: recipe.to_json()[:200].encode(), "wants JSON"),
        (lambda _: b"\xff\xfe\x00\x81", "not text"),
        (lambda _: b"II*\0 and no more", "Cannot read"),
        (lambda _: b" " * 300_000, "300,000 bytes"),
        (broken(lambda body: body.pop("pairs")), "'pairs' wants list"),
        (broken(lambda body: body["method"].update(name="magic")), "no method 'magic'"),
        (
            broken(lambda body: body["method"].update(name="starfm", parameters={"window": 5000})),
            "from 3 to 201, got 5000",
        ),
        (broken(lambda body: body["target"].update(source="moon")), "no source 'moon'"),
        (broken(lambda body: body["grid"].update(transform=[1e308, 0, 0, 0, -1e308, 0])), "6 transform numbers"),
    ],
)
def test_broken_recipe_says_where(recipe, content, message, capsys):
    Path("broken.json").write_bytes(content(recipe))
    assert message in failure(capsys, "run", "broken.json", "out.tif")
    assert not Path("out.tif").exists()


@pytest.mark.parametrize("value", ["abc", "0", "-2", "1.5", "9" * 5000])
def test_a_broken_number_of_threads_is_named(recipe, value, capsys, monkeypatch):
    monkeypatch.setenv("FUSION_DEVICE", "cpu")
    monkeypatch.setenv("FUSION_THREADS", value)
    Path("starfm.json").write_text(recipe_for("sample").to_json())
    assert "FUSION_THREADS wants a whole number from 1, got" in failure(capsys, "run", "starfm.json", "out.tif")


def test_missing_recipe(capsys):
    assert "nothing.json: No such file" in failure(capsys, "run", "nothing.json", "out.tif")


def test_an_image_without_a_recipe_is_no_recipe(recipe, capsys):
    fusion.run(recipe).write("plain.tif")
    assert "carries no recipe" in failure(capsys, "run", "plain.tif", "out.tif")


# evaluate


def test_evaluate_measures_the_hidden_image_beside_the_floors(recipe, capsys):
    assert main(["evaluate", "recipe.json", "--methods", "starfm", "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert list(body["scores"]) == ["nearest", "delta", "starfm"]
    truth = sample.read(
        next(item for item in sample.search("sentinel2") if item.day == recipe.target.day),
        recipe.geobox,
        recipe.bands,
    )
    expected = fusion.evaluate(fusion.run(recipe), truth, ratio=10)
    assert body["scores"]["delta"]["RMSE"] == pytest.approx(expected["RMSE"])
    assert body["scores"]["delta"]["ERGAS"] == pytest.approx(expected["ERGAS"])
    errors = {name: rows["RMSE"]["red"] for name, rows in body["scores"].items()}
    assert body["best"]["RMSE"]["red"] == [min(errors, key=errors.get)]


def test_evaluate_keeps_the_parameters_of_the_recipe(folder, capsys):
    small, usual = (recipe_for("sample", method=methods.get("starfm")(window=w)) for w in (5, 31))
    values = []
    for recipe in (small, usual):
        (folder / "r.json").write_text(recipe.to_json())
        assert main("evaluate r.json --methods starfm --metrics RMSE --json".split()) == 0
        values.append(json.loads(capsys.readouterr().out)["scores"]["starfm"]["RMSE"]["mean"])
    assert values[0] != values[1]


def test_evaluate_notes_weights_that_have_seen_the_answer(recipe, folder, capsys, monkeypatch):
    import networks  # needs torch

    monkeypatch.setenv("FUSION_CHECKPOINTS", str(folder / "checkpoints"))
    area = {"bounds": list(bounds_of(recipe.area))}
    for days, known in (([str(recipe.target.day)], True), (["2018-07-01"], False)):
        method = networks.small("edcstfn")
        row = networks.saved(method, recipe.bands, recipe.ratio, provenance={"areas": [{**area, "days": days}]})
        network = replace(recipe, method=replace(method, checkpoint=row.stem))
        (folder / "network.json").write_text(network.to_json())
        assert main("evaluate network.json --metrics RMSE --json".split()) == 0
        out, err = capsys.readouterr()
        assert list(json.loads(out)["scores"]) == ["nearest", "delta", "edcstfn"]
        said = f"Note: the weights of EDCSTFN ({row.stem}) were trained on the fine image of {recipe.target.day}"
        assert (said in err) == known


def test_evaluate_finds_out_first_that_a_network_has_no_weights(recipe, folder, capsys, monkeypatch):
    monkeypatch.setenv("FUSION_CHECKPOINTS", str(folder / "checkpoints"))
    monkeypatch.setattr(checkpoints, "_bundled_folder", lambda: None)
    monkeypatch.setattr(_cli_evaluate, "read", lambda recipe: pytest.fail("read too early"))
    assert "EDCSTFN has no weights" in failure(capsys, "evaluate", "recipe.json", "--methods", "edcstfn")


def test_evaluate_marks_the_best_of_every_line(recipe, capsys):
    assert main("evaluate recipe.json --metrics RMSE,CC --bands red,nir".split()) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("RMSE", "CC"))]
    assert len(lines) == 2 * 3  # red, nir and their mean
    assert all("*" in line for line in lines)


def test_evaluate_writes_csv(recipe, capsys):
    assert main("evaluate recipe.json --csv table.csv --json".split()) == 0
    body = json.loads(capsys.readouterr().out)
    with open("table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == sum(len(values) for scores in body["scores"].values() for values in scores.values())
    for row in rows:
        value = body["scores"][row["method"]][row["metric"]][row["band"]]
        assert (float(row["value"]) if row["value"] else None) == value
        assert row["best"] == str(int(row["method"] in body["best"][row["metric"]][row["band"]]))
    assert {row["unit"] for row in rows if row["metric"] == "RMSE"} == {"reflectance"}


def test_evaluate_saves_what_it_compared(recipe, capsys):
    assert main("evaluate recipe.json --save images --metrics RMSE --json".split()) == 0
    hidden = json.loads(capsys.readouterr().out)["scores"]["delta"]
    assert main("evaluate images/delta.tif --truth images/truth.tif --metrics RMSE --json".split()) == 0
    assert json.loads(capsys.readouterr().out)["scores"]["prediction"] == hidden
    with rasterio.open("images/nearest.tif") as file:
        assert fusion.Recipe.from_json(file.tags()["FUSION_RECIPE"]).method.name() == "nearest"
    with rasterio.open("images/truth.tif") as file:
        tags, row = file.tags(), fusion.PRODUCTS["sample", "sentinel2"]
        assert tags["COPYRIGHT"] == row.citation
        assert tags["FUSION_DATA"] == f"{row.title} [observed; {row.licence}]"


def test_a_perfect_prediction(recipe, capsys):
    fusion.run(recipe).write("a.tif")
    assert main("evaluate a.tif --truth a.tif --ratio 10 --json".split()) == 0
    scores = json.loads(capsys.readouterr().out)["scores"]["prediction"]
    assert scores["RMSE"] == dict.fromkeys((*recipe.bands, "mean"), 0.0)
    assert scores["ERGAS"]["mean"] == 0
    assert scores["PSNR"]["mean"] is None  # infinite, which JSON cannot say
    assert main("evaluate a.tif --truth a.tif".split()) == 0
    assert re.search(r"^PSNR +dB +inf +inf", capsys.readouterr().out, re.M)


def test_files_without_names_and_day_are_compared_in_order(recipe, capsys):
    scene = fusion.run(recipe)
    scene.write("a.tif")
    profile = {"driver": "GTiff", "count": 4, "height": 100, "width": 100, "dtype": "float32"}
    place = {"crs": str(scene.geobox.crs), "transform": scene.geobox.affine}
    with rasterio.open("b.tif", "w", **profile, **place) as file:
        file.write(scene.data + np.float32(0.25))
    assert main("evaluate a.tif --truth b.tif --metrics AD --json".split()) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["scores"]["prediction"]["AD"]["red"] == pytest.approx(-0.25, abs=1e-6)
    assert "b.tif does not name its bands" in shown.err


def whole_numbers(path, scene, **place):
    """Write a scene as others do: as int16 times 10,000, without names, day or scale."""
    count, height, width = scene.shape
    profile = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": "int16", **place}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", **profile) as file:
            file.write(np.rint(scene.data * 1e4).astype(np.int16))


def test_a_truth_of_whole_numbers_wants_its_scale(recipe, capsys):
    scene = fusion.run(recipe)
    scene.write("a.tif")
    whole_numbers("b.tif", scene, crs=str(scene.geobox.crs), transform=scene.geobox.affine)
    line = "evaluate a.tif --truth b.tif --metrics RMSE"
    assert "b.tif holds whole numbers (int16)" in (said := failure(capsys, *line.split())) and "--scale 1e-4" in said
    assert main(f"{line} --scale 1e-4 --json".split()) == 0
    assert json.loads(capsys.readouterr().out)["scores"]["prediction"]["RMSE"]["mean"] < 1e-4
    for wrong in ("0", "-1", "nan", "inf", "big"):
        assert main(f"{line} --scale={wrong}".split()) == 2
    assert main("evaluate recipe.json --scale 1e-4".split()) == 2


def test_images_without_a_place_are_compared_without_a_warning(recipe, capsys):
    whole_numbers("a.tif", fusion.run(recipe))
    assert main("evaluate a.tif --truth a.tif --metrics RMSE --scale 1e-4".split()) == 0  # a warning is an error here
    capsys.readouterr()
    assert "no recipe" in failure(capsys, "run", "a.tif", "out.tif")


def test_other_bands_are_refused_with_what_to_do_in_the_shell(recipe, capsys):
    scene = fusion.run(recipe)
    scene.write("a.tif")
    scene.select(["red", "nir"]).write("b.tif")
    assert "--bands" in failure(capsys, *"evaluate a.tif --truth b.tif".split())
    assert main("evaluate a.tif --truth b.tif --bands nir,red --metrics RMSE".split()) == 0


def test_a_relative_metric_says_relative_to_what(recipe, capsys):
    fusion.run(recipe).write("a.tif")
    line = "evaluate a.tif --truth a.tif --ratio 10"
    relative = {name: item.data_range for name, item in METRICS.items() if item.data_range}
    assert set(relative) == {"PSNR", "SSIM", "ERGAS"}
    assert main(f"{line} --csv t.csv".split()) == 0
    text = capsys.readouterr().out
    assert all(re.search(rf"^{name} +{re.escape(to)}$", text, re.M) for name, to in relative.items())
    with open("t.csv", newline="") as file:
        assert {row["metric"]: row["data_range"] for row in csv.DictReader(file) if row["data_range"]} == relative
    assert main(f"{line} --json".split()) == 0
    about = json.loads(capsys.readouterr().out)["metrics"]
    assert {name: item["data_range"] for name, item in about.items() if item["data_range"]} == relative
    assert main(f"{line} --metrics RMSE".split()) == 0
    assert "relative" not in capsys.readouterr().out


def test_different_days_are_remarked(recipe, capsys):
    scene = fusion.run(recipe)
    scene.write("a.tif")
    later = scene.day + timedelta(days=5)
    fusion.Scene(scene.data, scene.geobox, scene.bands, later).write("b.tif")
    assert main("evaluate a.tif --truth b.tif".split()) == 0
    assert f"the truth of {later}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("evaluate recipe.json --methods magic", "no method 'magic'"),
        ("evaluate recipe.json --metrics rms", "no metric RMS; there are RMSE, AD"),
        ("evaluate recipe.json --bands thermal", "no band thermal; it has blue"),
        ("evaluate recipe.json --csv nowhere/t.csv", "no folder nowhere"),
        ("evaluate recipe.json --save recipe.json", "Cannot make the folder recipe.json"),
        ("evaluate a.tif --truth nowhere.tif", "nowhere.tif"),
        ("evaluate a.tif --truth a.tif --metrics ERGAS", "ERGAS wants the ratio"),
    ],
)
def test_evaluate_says_what_is_wrong(recipe, line, message, capsys):
    fusion.run(recipe).write("a.tif")
    assert message in failure(capsys, *line.split())


def test_evaluate_wants_a_known_truth(recipe, capsys, monkeypatch):
    search = sample.search
    monkeypatch.setattr(
        sample,
        "search",
        lambda product, *where, **more: [
            item
            for item in search(product, *where, **more)
            if item.product != "sentinel2" or item.day != recipe.target.day
        ],
    )
    assert f"no fine image of the target day {recipe.target.day}" in failure(capsys, "evaluate", "recipe.json")


# what is written


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_table_columns_line_up():
    text = table(("name", "size"), [("a", "1"), ("longer", "100")], right=(1,))
    assert text.splitlines() == ["name    size", "a          1", "longer   100"]


def test_bold_only_on_a_terminal_that_wants_it(monkeypatch):
    assert strong("best") == "best"
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert strong("best") == "\x1b[1mbest\x1b[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert strong("best") == "best"


@pytest.mark.parametrize(
    ("value", "text"), [(0.84, "0.8 s"), (41.6, "42 s"), (185.2, "3 min 05 s"), (59.7, "1 min 00 s")]
)
def test_durations(value, text):
    assert seconds(value) == text


def test_progress_tells_share_and_time_left(monkeypatch):
    now = 1000.0
    monkeypatch.setattr("fusion._cli_text.time.monotonic", lambda: now)
    stream = Terminal()
    with Progress("Fusing", stream) as progress:
        now += 30
        progress(0.25)
        now += 20
        progress(0.25)
    lines = [line.rstrip() for line in stream.getvalue().split("\r")]
    assert lines[1] == "Fusing [....................]   0 %, 0.0 s elapsed"
    assert lines[2] == "Fusing [#####...............]  25 %, 30 s elapsed, 1 min 30 s left"
    assert lines[3] == "Fusing [#####...............]  25 %, 50 s elapsed, 1 min 10 s left"
    assert lines[4:] == ["", ""]  # wiped out, so that the summary starts on a clean line


def test_progress_in_a_log_is_one_line():
    stream = io.StringIO()
    with Progress("Fusing", stream) as progress:
        for step in range(5):
            progress(step / 5)
    assert re.fullmatch(r"Fusing: done in \d+\.\d s\n", stream.getvalue())


def test_json_knows_no_nan(capsys):
    print_json({"a": [float("nan"), float("inf"), 1.5], "b": (1, "x")})
    assert json.loads(capsys.readouterr().out) == {"a": [None, None, 1.5], "b": [1, "x"]}


def test_nothing_in_the_parser_is_unexplained():
    parser = parser_of(PROG)
    for command in parser._subparsers._group_actions[0].choices.values():
        assert all(action.help for action in command._actions), command.prog


# as a process


def test_process_end_to_end(folder):
    made = process("search", "sample", "--method", "delta", "--save", "r.json", stdout=subprocess.PIPE)
    assert "r.json" in made.communicate(timeout=60)[0].decode()
    assert made.returncode == 0
    ran = process("run", "r.json", "o.tif", "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = ran.communicate(timeout=60)
    assert json.loads(out)["path"] == "o.tif"
    assert b"\x1b" not in out + err
    assert b"\r" not in err
    failed = process("run", "o.json", "o.tif", stderr=subprocess.PIPE)
    assert b"Traceback" not in failed.communicate(timeout=60)[1]
    assert failed.returncode == 1


def test_a_reader_that_leaves_is_no_error():
    talker = process("search", "sample", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    talker.stdout.close()
    error = talker.stderr.read()
    talker.stderr.close()
    assert talker.wait(60) == 0
    assert b"Traceback" not in error
    assert b"Broken" not in error


def test_ctrl_c_leaves_nothing_behind(folder):
    slow = methods.get("starfm")(window=201)
    (folder / "slow.json").write_text(recipe_for("lab", method=slow).to_json())
    ours, theirs = pty.openpty()
    worker = process("run", "slow.json", "out.tif", stderr=theirs, stdout=subprocess.DEVNULL)
    os.close(theirs)
    shown = until(ours, "STARFM", worker)
    time.sleep(1.5)  # let the kernels start
    worker.send_signal(signal.SIGINT)
    shown += until(ours, None, worker)
    assert worker.wait(30) == 130  # the run would take minutes
    os.close(ours)
    assert "Interrupted." in shown
    assert "Traceback" not in shown
    assert sorted(path.name for path in folder.iterdir()) == ["slow.json"]


def until(terminal, text, worker):
    """Read a terminal until a text is seen, or to its end."""
    shown, end = "", time.monotonic() + 120
    while text is None or text not in shown:
        assert time.monotonic() < end, shown
        try:
            part = os.read(terminal, 4096).decode(errors="replace")
        except OSError:  # how Linux says that the other side has closed
            part = ""
        if not part:
            assert text is None, f"ended with {worker.wait()}: {shown}"
            break
        shown += part
    return shown


def test_run_says_before_it_starts_how_long_it_will_take_if_that_is_known(recipe, capsys, monkeypatch):
    asked = []
    monkeypatch.setattr(estimate, "seconds", lambda method, size, measure: asked.append((size, measure)) or 21.0)
    assert main(["run", "recipe.json", "fused.tif"]) == 0
    assert "Delta: about 20 s on this machine" in capsys.readouterr().err
    assert asked == [(estimate.Size.of(fusion.load(recipe)), False)]  # a small image is not worth measuring


def test_run_measures_the_time_of_a_large_image_first(recipe, capsys, monkeypatch):
    monkeypatch.setattr(_cli_commands, "LARGE", 10_000)
    monkeypatch.setattr(estimate, "seconds", lambda method, size, measure: None if measure else 1.0)
    assert main(["run", "recipe.json", "fused.tif"]) == 0
    assert "on this machine" not in capsys.readouterr().err  # asked for, and not known


def test_run_mends_the_estimate_unless_it_was_cut_otherwise(recipe, monkeypatch):
    seen = []
    monkeypatch.setattr(estimate, "learn", lambda method, size, time: seen.append((method.name(), size, time)))
    assert main(["run", "recipe.json", "fused.tif", "--tile", "64"]) == 0 and not seen
    assert main(["run", "recipe.json", "fused.tif"]) == 0
    ((name, size, time),) = seen
    assert (name, size) == ("delta", estimate.Size.of(fusion.load(recipe))) and 0 < time < 60
