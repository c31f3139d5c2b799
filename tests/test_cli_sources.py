"""Command line with real sources: a catalogue and Earth Engine on loopback, own files, alignment, long work."""

import io
import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer

import fusion
from earthengine_server import Server
from fusion import Cancelled, FusionError, _cli_work, sources
from fusion.__main__ import main
from fusion._cli_parser import ACCOUNT, FILES, SEARCH
from fusion._cli_text import Progress
from fusion._cli_work import in_turn, waited
from fusion._pulse import report, stop_if_asked
from fusion.area import clip
from fusion.propose import recipe_for
from fusion.sources import earthengine, local, sample
from fusion.sources._lab_layers import ground
from stac_server import blocks, cog, item, running
from test_cli import examples, failure, process, until
from test_local import displaced

SINUSOIDAL = "+proj=sinu +lon_0=0 +R=6371007.181 +units=m +no_defs"
FINE = GeoBox((420, 420), Affine(30, 0, 441_495, 0, -30, 5_128_995), "EPSG:32633")
BANDS = ("blue", "green", "red", "nir08", "swir16", "swir22")
SENTINEL = ("B02", "B03", "B04", "B08", "B11", "B12")
DAYS = ("2020-06-15", "2020-07-01", "2020-07-17")  # of Landsat and MCD43A4
WEEKS = ("2020-06-25", "2020-07-03", "2020-07-11")  # first days of MOD09A1
WHERE = "--bounds 14.30 46.22 14.34 46.25 --from 2020-06-01 --to 2020-08-31"

# rasterio hides this warning of its own while it warps, but what one thread hides another one shows again.
pytestmark = pytest.mark.filterwarnings("ignore:Dataset has no geotransform")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Every test works in a folder of its own; nobody is signed in, nothing is cached elsewhere."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    for name in (
        "FUSION_EE_KEY",
        "FUSION_EE_PROJECT",
        "FUSION_EE_URL",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "FUSION_STAC",
    ):
        monkeypatch.delenv(name, raising=False)
    for name, there in (("FUSION_CACHE", "cache"), ("FUSION_OWN", "own"), ("HOME", "home")):
        monkeypatch.setenv(name, str(tmp_path / there))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("no_proxy", "*")
    earthengine.sign_out()
    yield work
    earthengine.sign_out()


def modis_grid(size=60):
    """Pixels of the MODIS grid around the fine images."""
    box = FINE.extent.to_crs(SINUSOIDAL).boundingbox
    side = 463.3127165279165
    left, top = (side * int(edge / side) for edge in (box.left - 8 * side, box.top + 8 * side))
    return GeoBox((size, size), Affine(side, 0, left, 0, -side, top), SINUSOIDAL)


def put(server, collection, name, when, grid, numbers, properties=None):
    """Put an image into the catalogue, each band a file."""
    links = {}
    for key, values in numbers.items():
        server.files[f"{name}_{key}.tif"] = cog(values, grid.affine, str(grid.crs), block=256)
        links[key] = f"{server.url}/files/{name}_{key}.tif"
    server.add(collection, item(name, when, grid, links, properties, projection=grid.crs.to_epsg() is not None))


@pytest.fixture(scope="module")
def catalogue():
    """A catalogue with Landsat, Sentinel-2 and MODIS of one summer; July 1st is half cloudy in Landsat."""
    coarse = modis_grid()
    with running() as server:
        for day in DAYS:
            numbers = {band: blocks(FINE.shape, seed) for seed, band in enumerate(BANDS)}
            quality = np.full(FINE.shape, 64, np.uint16)
            quality[:, : 210 if day == DAYS[1] else 0] = 8
            name, when = f"LC08_L2SP_190028_{day.replace('-', '')}_02_T1", f"{day}T10:00:00Z"
            extra = {"qa_pixel": quality, "qa_radsat": np.zeros(FINE.shape, np.uint16)}
            put(server, "landsat-c2-l2", name, when, FINE, {**numbers, **extra}, {"platform": "landsat-8"})
        for day in DAYS:
            scene = {"SCL": np.full(FINE.shape, 4, np.uint8)}
            bands = dict.fromkeys(SENTINEL, blocks(FINE.shape))
            put(server, "sentinel-2-l2a", f"S2A_{day}", f"{day}T10:00:00Z", FINE, {**bands, **scene})
        for day in DAYS:
            bands = {f"Nadir_Reflectance_Band{n}": blocks(coarse.shape, n) // 8 for n in (1, 2, 3, 4, 6, 7)}
            judged = dict.fromkeys(
                (f"BRDF_Albedo_Band_Mandatory_Quality_Band{n}" for n in (1, 2, 3, 4, 6, 7)),
                bands["Nadir_Reflectance_Band1"] * 0,
            )
            name = f"MCD43A4.A{date.fromisoformat(day):%Y%j}.h18v04.061"
            put(server, "modis-43A4-061", name, f"{day}T00:00:00Z", coarse, {**bands, **judged})
        for day in WEEKS:
            bands = {f"sur_refl_b0{n}": blocks(coarse.shape, n) // 8 for n in (1, 2, 3, 4, 6, 7)}
            state = {"sur_refl_state_500m": bands["sur_refl_b01"] * 0}
            name = f"MOD09A1.A{date.fromisoformat(day):%Y%j}.h18v04.061"
            put(server, "modis-09A1-061", name, f"{day}T00:00:00Z", coarse, {**bands, **state})
        yield server


@pytest.fixture
def stac(catalogue, monkeypatch):
    """The catalogue in the place of the Planetary Computer."""
    catalogue.faults.clear()
    catalogue.log.clear()
    monkeypatch.setenv("FUSION_STAC", f"planetary={catalogue.url}")
    return catalogue


@pytest.fixture
def scenes(folder):
    """Own files: bare numbers, whose bands nobody names."""
    (folder / "scenes").mkdir()
    rows = {"fine": sources.product("sample", "sentinel2"), "coarse": sources.product("sample", "sentinel2-100m")}
    for role, row in rows.items():
        for one in [one for one in sample.search(row.name) if one.day.year == 2018][:5]:
            scene = sample.read(one, row.geobox, row.bands)
            numbers = np.where(np.isfinite(scene.data), np.round(scene.data * 1e4), 0).astype(np.uint16)
            height, width = row.geobox.shape
            profile = {"driver": "GTiff", "height": height, "width": width, "count": 4, "dtype": "uint16", "nodata": 0}
            path = folder / "scenes" / f"{role}_{one.day:%Y%m%d}.tif"
            with rasterio.open(path, "w", crs=str(row.geobox.crs), transform=row.geobox.affine, **profile) as file:
                file.write(numbers)
    return folder / "scenes"


# Help


def test_network_examples_in_the_help_work_as_typed(stac, capsys):
    lines = [line for needs, line in examples(SEARCH) if "network" in needs]
    assert len(lines) >= 3
    for line in lines:
        assert main(line) == 0, f"{line}\n{capsys.readouterr().err}"
    assert {part["path"] for part in searches(stac)} == {"/search"}
    recipe = fusion.Recipe.from_json(Path("recipe.json").read_text())
    assert (recipe.target.product, recipe.target.day, recipe.ratio) == ("mcd43a4", date(2020, 7, 1), 48)
    assert recipe.target.id.endswith("/snow=keep")


def test_examples_with_files_work_as_typed(scenes, capsys):
    lines = [line for needs, line in examples(FILES) if "in the folder scenes" in needs]
    assert len(lines) >= 3
    for line in lines:
        assert main(line) == 0, f"{line}\n{capsys.readouterr().err}"
    assert len(local.datasets()) == 1  # the same files and answers are the same data set


def test_examples_with_an_account_work_as_typed(monkeypatch, capsys):
    with Server({}) as server:
        monkeypatch.setenv("FUSION_EE_URL", server.url)
        for needs, line in examples(ACCOUNT):
            assert "with an account" in needs
            assert main(line) == 0, f"{line}\n{capsys.readouterr().err}"


def searches(server):
    return [{"path": one.path.split("?")[0], **(one.body or {})} for one in server.requests("/search")]


# search


def test_sources_are_listed_with_their_products(capsys):
    assert main(["search"]) == 0
    text = capsys.readouterr().out
    for row in fusion.PRODUCTS.values():
        wants = {"earthengine": "network, account", "stac": "network"}.get(row.source, "nothing")
        line = rf"^{row.source} +{row.name} +{row.role} +{row.resolution:g} m +{wants} +{re.escape(row.title)}$"
        assert re.search(line, text, re.M), row.name
    assert re.search(r"^local +- +- +- +own files +Own files$", text, re.M)
    assert re.search(r"^stac +snow +false +true or false +Keep pixels with snow", text, re.M)


def test_sources_as_json(capsys):
    assert main(["search", "--json"]) == 0
    found = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert list(found) == list(sources.names())
    assert {name: (one["network"], one["account"]) for name, one in found.items()} == {
        "earthengine": (True, True), "lab": (False, False), "local": (False, False), "sample": (False, False),
        "stac": (True, False),
    }  # fmt: skip
    names = [row["name"] for row in found["stac"]["products"]]
    assert names == [row.name for role in ("fine", "coarse", "truth") for row in sources.offered("stac", role)]


def test_a_remote_search_lists_the_first_products_with_cloud_over_the_area(stac, capsys):
    assert main(f"search stac {WHERE}".split()) == 0
    shown = capsys.readouterr()
    rows = [line.split() for line in shown.out.splitlines()[1:]]
    assert [(row[0], row[1]) for row in rows] == [(day, name) for day in DAYS for name in ("landsat", "mcd43a4")]
    assert re.fullmatch(r"Searching stac: done in \d+\.\d s\n\n6 images\..*\n", shown.err, re.S)
    assert main(f"search stac {WHERE} --json".split()) == 0
    cloud = {(row["day"], row["product"]): row["cloud"] for row in json.loads(capsys.readouterr().out)}
    split = (FINE.affine * (210, 0))[0]  # clouds lie west of this easting
    west, east = (easting(longitude) for longitude in (14.30, 14.34))
    assert cloud["2020-07-01", "landsat"] == pytest.approx(np.clip((split - west) / (east - west), 0, 1), abs=0.05)
    assert {cloud[day, "landsat"] for day in (DAYS[0], DAYS[2])} == {0.0}


def easting(longitude):
    """Easting of a longitude in the middle of the area."""
    return Transformer.from_crs("EPSG:4326", "EPSG:32633", always_xy=True).transform(longitude, 46.235)[0]


def test_fine_and_coarse_choose_among_products(stac, capsys):
    assert main(f"search stac {WHERE} --fine sentinel2 --coarse mod09a1 --json".split()) == 0
    assert {row["product"] for row in json.loads(capsys.readouterr().out)} == {"sentinel2", "mod09a1"}
    assert {one["collections"][0] for one in searches(stac)} == {"sentinel-2-l2a", "modis-09A1-061"}
    assert main(f"search stac {WHERE} --fine sentinel2 --coarse mcd43a4 --method delta --save r.json".split()) == 0
    recipe = fusion.Recipe.from_json(Path("r.json").read_text())
    assert {one.product for pair in recipe.pairs for one in pair} == {"sentinel2", "mcd43a4"}
    assert main("search sample --coarse sentinel2-100m --json".split()) == 0
    capsys.readouterr()
    said = failure(capsys, *f"search stac {WHERE} --fine mod09a1".split())
    assert "no fine product 'mod09a1'; it has landsat, sentinel2, hls-l30, hls-s30" in said


def test_one_product_is_searched_alone(stac, capsys):
    assert main(f"search stac {WHERE} --product mcd43a4".split()) == 0
    assert {one["collections"][0] for one in searches(stac)} == {"modis-43A4-061"}
    assert "the same command with --save recipe.json and without --product" in capsys.readouterr().err


@pytest.mark.parametrize("source", ["stac", "earthengine"])
@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("", ("--bounds", "--from DAY", "--to DAY")),
        ("--bounds 14.30 46.22 14.34 46.25 --from 2020-06-01", ("--to DAY",)),
        ("--from 2020-06-01 --to 2020-08-31 --save r.json", ("--bounds",)),
    ],
)
def test_a_remote_search_wants_area_and_both_days(source, given, wanted, capsys):
    said = failure(capsys, "search", source, *given.split())
    assert [word for word in ("--bounds", "--from DAY", "--to DAY") if word in said] == list(wanted)


def test_a_catalogue_that_fails_is_told_in_words(stac, capsys):
    stac.fault("/search", status=403)
    assert "refuses access (HTTP 403)" in failure(capsys, *f"search stac {WHERE}".split())


def test_real_scenes_from_search_to_result(stac, capsys):
    assert main(f"search stac {WHERE} --target 2020-07-01 --method delta --save r.json".split()) == 0
    text = capsys.readouterr().out
    assert "2020-06-15 (16 days before, 100 % clear)" in text and "and the network for what is not on disk yet" in text
    assert main("run r.json out.tif".split()) == 0
    scene = fusion.Scene.read("out.tif")
    inside = clip(
        replace(scene, data=np.ones_like(scene.data)), fusion.Recipe.from_json(Path("r.json").read_text()).area
    )
    np.testing.assert_array_equal(np.isfinite(scene.data), np.isfinite(inside.data))
    before = len(stac.log)
    assert main("run r.json again.tif".split()) == 0
    assert len(stac.log) == before  # everything was on disk
    np.testing.assert_array_equal(fusion.Scene.read("out.tif").data, fusion.Scene.read("again.tif").data)


# Own files


def test_open_questions_are_shown_and_are_code_1(scenes, capsys):
    assert main(["files", "scenes"]) == 1
    shown = capsys.readouterr()
    rows = [line.split() for line in shown.out.splitlines()[1:11]]
    assert {(row[0], row[1]) for row in rows} == {(path.name, path.name.partition("_")[0]) for path in scenes.iterdir()}
    assert "What are the 4 bands of fine_*.tif, in order?" in shown.out
    assert "asked because: 4 bands without names" in shown.out
    line = shown.err.splitlines()[shown.err.splitlines().index("2 questions are open. Answer them:") + 1]
    assert not local.datasets()
    assert main(shlex.split(line)[3:]) == 0  # what it says is what works
    assert len(local.datasets()) == 1


def test_answers_make_a_data_set_that_can_be_fused(scenes, capsys):
    answers = [f"--answer=bands:{role}_*.tif=blue,green,red,nir" for role in ("fine", "coarse")]
    assert main(["files", "scenes", *answers]) == 0
    shown = capsys.readouterr()
    (key,) = local.datasets()
    assert f"Data set {key}" in shown.out and "Ratio   10" in shown.out and "Size    10 m" in shown.out
    (line,) = re.findall(r"Next: (.*)", shown.err)
    assert main(shlex.split(line)[3:]) == 0
    assert main(["run", "recipe.json", "out.tif"]) == 0
    assert fusion.Scene.read("out.tif").bands == ("blue", "green", "red", "nir")
    capsys.readouterr()
    assert main(["search"]) == 0
    assert f"{key}.fine" in capsys.readouterr().out


def test_files_as_json(scenes, capsys):
    assert main(["files", "scenes", "--json"]) == 1
    body = json.loads(capsys.readouterr().out)
    assert body["key"] is None and "wants 2 answers" in body["error"]
    assert [one["id"] for one in body["questions"]] == ["bands:fine_*.tif", "bands:coarse_*.tif"]
    assert main(["files", "scenes", "--json", "--accept"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert (body["key"],) == local.datasets() and "error" not in body
    assert {file["use"] for file in body["files"]} == {"fine", "coarse"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "no folder nowhere"),
        (["scenes", "--answer", "bands"], "KEY=VALUE, got 'bands'"),
        (["scenes", "--answer", "colour:fine_*.tif=red"], "no question 'colour:fine_*.tif'"),
        (["scenes", "--answer", "bands:fine_*.tif=!"], "got '!'"),
    ],
)
def test_files_says_what_is_wrong(scenes, arguments, message, capsys):
    assert message in failure(capsys, "files", *arguments)


def test_a_search_of_own_files_wants_a_data_set(scenes, capsys):
    assert "there is none yet. Make one" in failure(capsys, "search", "local")
    assert main(["files", "scenes", "--accept"]) == 0
    (key,) = local.datasets()
    capsys.readouterr()
    assert f"there are {key}." in failure(capsys, "search", "local", "--save", "r.json")


def test_asking_is_for_terminals(scenes, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert main(["files", "scenes", "--ask"]) == 2
    assert "--ask wants a terminal" in capsys.readouterr().err


def test_questions_are_answered_on_the_terminal(scenes):
    ours, theirs = pty.openpty()
    asker = process("files", "scenes", "--ask", stdin=theirs, stderr=theirs, stdout=subprocess.PIPE)
    os.close(theirs)
    until(ours, "[blue,green,red,nir]: ", asker)
    os.write(ours, b"!\n")  # no name of a band
    os.write(ours, b"nir,red,green,blue\n")
    until(ours, "bands:coarse_*.tif [", asker)
    os.write(ours, b"\n")  # what is suggested: the order of the other side
    out = asker.communicate(timeout=30)[0].decode()
    os.close(ours)
    assert asker.returncode == 0 and "Bands   nir, red, green, blue" in out


# Account


def test_without_an_account_it_says_what_to_do(capsys):
    said = failure(capsys, "account")
    assert "https://code.earthengine.google.com/register" in said and "wants a sign-in and found none" in said
    assert "**" not in said and "`gcloud" not in said


def test_the_account_is_shown_without_secrets(monkeypatch, capsys):
    with Server({}) as server:
        monkeypatch.setenv("FUSION_EE_URL", server.url)
        monkeypatch.setenv("FUSION_EE_PROJECT", "my-project")
        assert main(["account"]) == 0
        assert re.search(r"^project +my-project$", capsys.readouterr().out, re.M)
        assert main(["account", "--json"]) == 0
        assert set(json.loads(capsys.readouterr().out)) == {"kind", "account", "project"}


# Alignment


@pytest.fixture(scope="module")
def landscape():
    """Draw the lab's ground before several threads want it at once."""
    ground(0)


def test_a_displaced_sensor_is_found_and_corrected(landscape, capsys):
    line = "search lab --option shift_east=480 --option shift_north=-240 --method delta --save r.json"
    assert main(line.split()) == 0
    capsys.readouterr()
    assert main("align r.json --save better.json --bands".split()) == 0
    text = capsys.readouterr().out
    recipe = fusion.Recipe.from_json(Path("better.json").read_text())
    assert recipe.shift == pytest.approx((480, -240), abs=10)
    assert "480 m east and 24" in text and "sharp" in text and "Saved   better.json, which reads" in text
    assert len(re.findall(r"^2021-\d\d-\d\d +(?:blue|green|red|nir|swir1|swir2) ", text, re.M)) == 12
    assert main("align better.json --json --save again.json".split()) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["corrected"] and body["shift"] == pytest.approx(recipe.shift)  # of the images as they came
    assert fusion.Recipe.from_json(json.dumps(body["recipe"])) == recipe
    assert all(card["r"] > card["r_zero"] for card in body["dates"])


def test_own_files_are_aligned_in_metres_and_the_edge_that_is_lost_is_told_before(folder, capsys):
    key = displaced(folder / "own", -6)  # fine pixels of 30 m, which the files do not say
    recipe = recipe_for("local", target=None, options={"dataset": key}, method="delta", pairs=2)
    Path("r.json").write_text(recipe.to_json())
    assert main("align r.json --save better.json".split()) == 0
    shown = capsys.readouterr()
    assert re.search(r"images lie 1[78]\d m west", shown.out) and "units" not in shown.out + shown.err
    assert re.search(r"^day +east m +north m", shown.out, re.M) and re.search(
        r"reads .* -1[78]\d\.\d m east", shown.out
    )
    assert "about 5 % of the area, at its western edge, gets no value" in shown.out
    assert main("align r.json --json".split()) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["unit"] == "m" and body["unreached"] == {"share": pytest.approx(0.05), "edges": ["western"]}
    assert main("run better.json out.tif".split()) == 0
    assert np.isnan(fusion.Scene.read("out.tif").data[0]).mean() == pytest.approx(0.05)


def test_where_nothing_is_wrong_nothing_is_corrected(capsys):
    recipe = recipe_for("sample", method="delta")
    Path("r.json").write_text(recipe.to_json())
    assert main("align r.json --save same.json".split()) == 0
    assert "nothing to correct" in capsys.readouterr().out
    assert fusion.Recipe.from_json(Path("same.json").read_text()) == recipe


def test_harmonise_is_shown_and_saved(landscape, capsys):
    assert main("search lab --option gain=0.9 --option offset=0.02 --method delta --save r.json".split()) == 0
    capsys.readouterr()
    assert main("align r.json --harmonise --save better.json --json".split()) == 0
    lines = json.loads(capsys.readouterr().out)["harmonise"]
    assert lines["gain"] == pytest.approx([0.9] * 6, abs=0.02)
    assert lines["offset"] == pytest.approx([0.02] * 6, abs=0.005)
    assert fusion.Recipe.from_json(Path("better.json").read_text()).harmonise


def test_align_looks_before_it_works(capsys, monkeypatch):
    monkeypatch.setattr(_cli_work, "load", lambda *_, **__: pytest.fail("read"))
    Path("r.json").write_text(recipe_for("sample").to_json())
    assert "no folder nowhere" in failure(capsys, *"align r.json --save nowhere/r.json".split())
    assert "other.json" in failure(capsys, "align", "other.json")


# What takes long


class Terminal(io.StringIO):
    """A terminal that tells when a text was shown."""

    def __init__(self, text):
        super().__init__()
        self.text, self.seen = text, threading.Event()

    def isatty(self):
        return True

    def write(self, part):
        if self.text in part:
            self.seen.set()
        return super().write(part)


def test_reading_counts_images(monkeypatch):
    screen = Terminal("Reading 3 of 5 images [#########...........]  45 %")
    monkeypatch.setattr(sys, "stderr", screen)

    def load(recipe, progress):
        progress(0.45)
        assert screen.seen.wait(10)
        return "stack"

    monkeypatch.setattr(_cli_work, "load", load)
    assert _cli_work.read(recipe_for("sample")) == "stack"


def test_work_in_turn_is_one_bar():
    shown = []
    show = in_turn(shown.append, 3)
    for fraction in (0, 0.6, 0, 0.9, 0.3, 0.3, 1):
        show(fraction)
    assert shown == pytest.approx([0, 0.2, 1 / 3, 1.9 / 3, 2.3 / 3, 2.3 / 3, 1])


def test_work_gives_its_result_or_its_error():
    assert waited(lambda: 42, lambda _: None) == 42
    with pytest.raises(FusionError, match="too bad"):
        waited(lambda: (_ for _ in ()).throw(FusionError("too bad")), lambda _: None)


def test_an_interrupt_stops_the_work():
    stopped = []

    def work():
        report(0.5)
        try:
            while True:
                stop_if_asked()
                time.sleep(0.01)
        except Cancelled:
            stopped.append(True)
            raise

    def show(fraction):
        if fraction == 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        waited(work, show)
    assert stopped == [True]


@pytest.mark.parametrize("reading", [False, True], ids=["search", "run"])
def test_ctrl_c_ends_a_wait_for_a_silent_server(reading, stac, folder):
    line = f"search stac {WHERE} --target 2020-07-01 --method delta --save slow.json"
    if reading:
        assert main(line.split()) == 0
    stac.fault("Nadir_Reflectance" if reading else "/search", slow=60)
    ours, theirs = pty.openpty()
    arguments = "run slow.json out.tif" if reading else line
    worker = process(*arguments.split(), stderr=theirs, stdout=subprocess.DEVNULL)
    os.close(theirs)
    shown = until(ours, "Reading 1 of 5 images [" if reading else "Searching stac [", worker)
    while not stac.requests("Nadir_Reflectance" if reading else "/search"):
        time.sleep(0.05)
    worker.send_signal(signal.SIGINT)
    shown += until(ours, None, worker)
    assert worker.wait(10) == 130  # and not when the server's minute is over
    os.close(ours)
    assert "Interrupted." in shown and "Traceback" not in shown
    assert [path.name for path in folder.iterdir()] == (["slow.json"] if reading else [])


def test_progress_may_change_its_title():
    screen = Terminal("")
    with Progress("One", screen) as bar:
        bar.title = "Two"
        bar(0.5)
    assert "Two [##########..........]  50 %" in screen.getvalue()
