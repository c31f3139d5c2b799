"""The commands train and checkpoints: real trainings of the smallest network, and what is refused."""

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import torch

from fusion import checkpoints
from fusion.__main__ import main
from fusion._cli_parser import CHECKPOINTS, TRAIN
from fusion._cli_train import _base
from fusion.checkpoints import Checkpoint
from fusion.propose import days_of, recipe_for, series, with_days
from own_files import DAYS, cia
from test_cli import examples, failure

# rasterio hides this warning of its own while it warps, but what one thread hides another one shows again.
pytestmark = pytest.mark.filterwarnings("ignore:Dataset has no geotransform")

TINY = ["--set", "width=4", "--epochs", "1", "--option", "steps=2", "--option", "batch=2", "--option", "patch=16"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Every test has a folder and checkpoints of its own and no bundled ones, and a recipe of the sample."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FUSION_CACHE", "off")
    monkeypatch.setenv("FUSION_CHECKPOINTS", str(tmp_path / "kept"))
    monkeypatch.setattr(checkpoints, "_bundled_folder", lambda: None)
    Path("recipe.json").write_text(recipe_for("sample", method="delta").to_json())
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """File of a checkpoint that was trained once for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FUSION_CHECKPOINTS", str(tmp_path_factory.mktemp("kept")))
        out = tmp_path_factory.mktemp("out") / "mine.safetensors"
        recipe = out.with_name("recipe.json")
        recipe.write_text(recipe_for("sample", method="delta").to_json())
        assert main(["train", str(recipe), *TINY, "--save", str(out)]) == 0
    return out


@pytest.fixture
def mine(trained):
    """Name of that checkpoint, in the folder of this test."""
    return checkpoints.take_in(trained.read_bytes()).name


def shown(capsys, *arguments):
    """What a command that must succeed prints as JSON."""
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


# help


@pytest.mark.parametrize("command", ["train", "checkpoints"])
def test_help_shows_examples(command, capsys):
    assert main([command, "--help"]) == 0
    assert f"  python -m fusion {command}" in capsys.readouterr().out


def test_help_and_lists_need_no_torch():
    code = (
        "import sys; from fusion.__main__ import main; "
        "main(['train', '--help']); main(['checkpoints']); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("epilog", [TRAIN, CHECKPOINTS])
def test_examples_in_the_help_work_as_typed(epilog, capsys):
    lines = [line for needs, line in examples(epilog) if not needs.startswith(("examples, of", "examples, with"))]
    assert len(lines) >= 2
    for line in lines:
        small = ["--set", "width=4", "--option", "patch=16", "--option", "batch=2"] if line[0] == "train" else []
        assert main([*line, *small]) == 0, f"{line}\n{capsys.readouterr().err}"


# train


def test_a_training_prints_the_name_the_scores_and_whether_the_floors_were_beaten(trained, capsys):
    assert main(["train", "recipe.json", *TINY]) == 0
    out, err = capsys.readouterr()
    name = out.splitlines()[0]
    found = checkpoints.read(name)
    assert found.parameters["width"] == 4 and found.ratios == (10, 10)
    assert f"{found.metrics['RMSE']:.4f}" in out and f"{found.metrics['floors']['delta']:.4f}" in out
    assert "does not beat the floors" in out  # two steps are too few
    assert f"{found.metrics['floors']['nearest']:.4f} (nearest)" in err and "All epochs are done." in err
    assert [line.split()[0] for line in err.splitlines() if line.startswith("    ")] == ["0", "1"]
    assert np.array_equal(
        trained.read_bytes(), checkpoints.path_of(name).read_bytes()
    )  # the same command, the same bytes


def test_json_says_the_same_and_where_the_weights_come_from(capsys):
    days = "2018-04-12,2018-05-22,2018-07-01"
    facts = shown(capsys, "train", "recipe.json", *TINY, "--days", days, "--hidden", "2018-05-22", "--seed", "7")
    assert facts["method"] == "edcstfn" and facts["beaten"] is False and facts["start_has_seen"] is False
    assert facts["metrics"]["hidden"] == ["2018-05-22"]
    origin = facts["provenance"]
    assert origin["areas"][0]["days"] == ["2018-04-12", "2018-07-01"] and origin["seed"] == 7
    assert "Sentinel-2" in origin["data"] and [pair["fine"]["day"] for pair in origin["recipe"]["pairs"]] == days.split(
        ","
    )
    assert Path(facts["path"]).stat().st_size == facts["bytes"]


def test_all_days_are_those_with_both_images_but_the_targets(capsys):
    facts = shown(capsys, "train", "recipe.json", *TINY, "--all-days")
    recipe = recipe_for("sample")
    days = [*facts["provenance"]["areas"][0]["days"], *facts["metrics"]["hidden"]]
    assert sorted(days) == [str(day) for day in days_of(recipe)] and len(days) > 10
    assert str(recipe.target.day) not in days


def test_adapting_takes_the_network_of_the_weights_and_says_what_they_knew(mine, capsys):
    known = "2018-04-22"  # the other day of the recipe, which the weights have learnt from
    days = f"2018-04-12,{known},2018-05-22"
    args = ["train", "recipe.json", "--start", mine, "--epochs", "1", "--option", "steps=1", "--days", days]
    facts = shown(capsys, *args, "--hidden", known)
    assert facts["provenance"]["adapted_from"] == mine and facts["parameters"]["width"] == 4
    assert facts["start_has_seen"] is True


@pytest.fixture
def hears_ctrl_c():
    """As in a terminal: a shell that starts a command in the background has it ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_stops_and_keeps_the_best(capsys, monkeypatch, hears_ctrl_c):
    from fusion import training

    def train(*given, watch, **more):
        def stop(report):
            watch(report)
            if report.epoch == 1:
                signal.raise_signal(signal.SIGINT)

        return real(*given, watch=stop, **more)

    real = training.train
    monkeypatch.setattr(training, "train", train)
    args = [text if text != "1" else "50" for text in TINY]
    facts = shown(capsys, "train", "recipe.json", *args)
    assert facts["note"] == "Stopped by hand." and facts["provenance"]["epochs"] == 2
    assert checkpoints.names() == (facts["name"],)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_training_that_goes_on_says_from_where(capsys, monkeypatch):
    from fusion import training

    def train(*given, watch, **more):
        def kill(report):
            watch(report)
            if report.epoch == 1:
                raise KeyboardInterrupt

        return real(*given, watch=kill, **more)

    real = training.train
    args = ["train", "recipe.json", *TINY, "--epochs", "2"]
    with monkeypatch.context() as patch:
        patch.setattr(training, "train", train)
        assert main(args) == 130
    assert "Goes on" not in capsys.readouterr().err
    assert main([*args, "--json"]) == 0
    out, err = capsys.readouterr()
    assert "Goes on from step 2 of an earlier try.\n" in err and json.loads(out)["resumed"] == 2


def test_a_network_that_loses_is_advised_to_begin_with_a_regression(capsys):
    advice = "from a regression (--set base=regression)"
    assert main(["train", "recipe.json", *TINY]) == 0
    assert advice in capsys.readouterr().out
    better = shown(capsys, "train", "recipe.json", *TINY, "--set", "base=regression")
    assert better["parameters"]["base"] == "regression" and better["beaten"] is True
    found = checkpoints.read(better["name"])
    assert _base(found) == _base(replace(found, method="stfdcnn", parameters={"base": "delta"})) == ""


def test_ctrl_c_twice_gives_up(capsys, monkeypatch, hears_ctrl_c):
    from fusion import training

    def train(*given, **more):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(training, "train", train)
    assert main(["train", "recipe.json", *TINY]) == 130
    assert "Interrupted." in capsys.readouterr().err and not checkpoints.names()


def test_a_folder_in_the_layout_of_cia_is_learnt_from(folder, capsys):
    cia(folder / "CIA")
    facts = shown(capsys, "train", "--folder", "CIA", "--ratio", "16", *TINY)
    assert facts["ratios"] == [16, 16] and len(facts["bands"]) == 6
    assert facts["provenance"]["data"] == "own files, folder CIA"
    assert sorted([*facts["provenance"]["areas"][0]["days"], *facts["metrics"]["hidden"]]) == [str(day) for day in DAYS]
    assert str(folder) not in json.dumps(facts["provenance"])
    facts = shown(capsys, "train", "--folder", "CIA", "--ratio", "16", *TINY, "--days", "2001-11-02,2001-10-08")
    assert facts["provenance"]["areas"][0]["days"] == ["2001-10-08", "2001-11-02"]  # a strip of the last is hidden
    assert facts["start_has_seen"] is False
    assert "no pair of 2001-10-09; it has 2001-10-08" in failure(
        capsys, "train", "--folder", "CIA", "--ratio", "16", *TINY, "--days", "2001-10-09,2001-10-08"
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train recipe.json --method starfm", "STARFM has no weights to train: choose a network"),
        ("train recipe.json --method nothing", "no method 'nothing'"),
        ("train recipe.json --set depth=4", "no parameter 'depth'"),
        ("train recipe.json --set width=2", "width"),
        ("train recipe.json --set checkpoint=mine", "give --start, not --set checkpoint"),
        ("train recipe.json --option speed=4", "no option speed; it has average"),
        ("train recipe.json --option patch=4", "patch"),
        ("train recipe.json --start nothing", "no checkpoint 'nothing'"),
        ("train recipe.json --save out.pt", "ends in .safetensors"),
        ("train recipe.json --save nowhere/out.safetensors", "no folder nowhere"),
        ("train recipe.json --days 2018-05-02,2018-04-22", "would be the answer"),
        ("train recipe.json --days 2018-05-03,2018-04-22", "no pair of 2018-05-03"),
        ("train recipe.json --days 2018-04-22", "at least two days"),
        ("train recipe.json --hidden 2018-05-03", "date to hide wants to be one of"),
        ("train --folder nowhere --ratio 16", "no folder nowhere"),
        ("checkpoints nothing", "no checkpoint 'nothing'"),
        ("checkpoints --take-in nothing.safetensors", "Cannot read nothing.safetensors"),
        ("checkpoints --take-in recipe.json", "recipe.json wants to be a safetensors file"),
        ("checkpoints --convert red", "BAND=FILE, got 'red'"),
        ("checkpoints --convert red=a.h5 red=b.h5", "red is given twice"),
        ("checkpoints --remove nothing", "no checkpoint 'nothing'"),
    ],
)
def test_what_cannot_be_is_said_before_any_work(line, message, capsys):
    assert message in failure(capsys, *line.split())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train", "give a RECIPE, or --folder"),
        ("train recipe.json --folder x --ratio 4", "give a RECIPE, or --folder"),
        ("train recipe.json --ratio 4", "--folder and --ratio go together"),
        ("train --folder x", "--folder and --ratio go together"),
        ("train recipe.json --bands red", "leave out --bands"),
        ("train --folder x --ratio 4 --all-days", "leave out --all-days"),
        ("train recipe.json --all-days --days 2018-04-22", "not allowed with"),
        ("train recipe.json --seed -1", "whole number from 0"),
        ("checkpoints one --remove two", "leave out one"),
        ("checkpoints --remove one --take-in two", "not allowed with"),
    ],
)
def test_wrong_usage_is_code_2(line, message, capsys):
    assert main(line.split()) == 2
    assert message in capsys.readouterr().err


# series


def test_a_series_is_what_the_recipe_reads_on_the_days_asked_for():
    recipe = recipe_for("sample", method="delta")
    days = [date(2018, 7, 1), date(2018, 4, 12)]
    pairs = series(recipe, days)
    assert [pair.day for pair in pairs] == sorted(days)
    assert pairs[0].fine.geobox == recipe.geobox and pairs[0].coarse.geobox == recipe.geobox.zoom_out(recipe.ratio)
    own = series(recipe)
    assert [pair.day for pair in own] == [coarse.day for coarse, _ in recipe.pairs]
    again = series(with_days(recipe, days_of(recipe)))
    assert {pair.day for pair in again} > {pair.day for pair in own} and recipe.target.day not in {p.day for p in again}
    same = next(pair for pair in again if pair.day == own[0].day)
    assert np.array_equal(same.fine.data, own[0].fine.data) and np.array_equal(same.coarse.data, own[0].coarse.data)


# checkpoints


def test_checkpoints_are_listed_shown_written_out_removed_and_taken_in(mine, capsys):
    assert main(["checkpoints"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if mine in line)
    assert "blue,green,red,nir" in line and "(floor 0.0167)" in line and line.endswith("own")
    assert main(["checkpoints", mine]) == 0
    text = capsys.readouterr().out
    assert "width=4" in text and "2018-04-22" in text and "EUPL" in text
    assert shown(capsys, "checkpoints", mine)["provenance"]["recipe"]["bands"] == ["blue", "green", "red", "nir"]
    shutil.copy(checkpoints.path_of(mine), "before")
    assert main(["checkpoints", "--export", mine, "out.safetensors"]) == 0
    assert capsys.readouterr().out == "out.safetensors\n"
    assert Path("out.safetensors").read_bytes() == Path("before").read_bytes()
    assert shown(capsys, "checkpoints", "--remove", mine) == {"removed": mine}
    assert mine not in [row["name"] for row in shown(capsys, "checkpoints")]
    assert main(["checkpoints", "--take-in", "out.safetensors"]) == 0
    assert capsys.readouterr().out == f"{mine}\n"


def test_files_that_cannot_be_used_are_named_and_removed(mine, folder, capsys):
    cut, odd = folder / "kept" / "edcstfn-cut.safetensors", folder / "kept" / "my \x1b[31m file.safetensors"
    shutil.copy(checkpoints.path_of(mine), odd)
    cut.write_bytes(odd.read_bytes()[:-9])
    assert main(["checkpoints"]) == 0
    out, err = capsys.readouterr()
    listed, wrong = out.split("\nCannot be used:\n")
    assert mine in listed and "cut" not in listed
    first, why, second, named = wrong.splitlines()
    assert first == cut.name and "damaged, cut short" in why
    assert second == r"my \x1b[31m file.safetensors" and "--take-in" in named
    assert f"checkpoints --remove {cut.name}" in err
    assert main(["checkpoints", "--json"]) == 0
    out, err = capsys.readouterr()
    assert [row["name"] for row in json.loads(out)] == [mine] and "damaged, cut short" in err
    for name in (first, second):
        assert shown(capsys, "checkpoints", "--remove", name) == {"removed": name}
    assert not cut.exists() and not odd.exists()
    assert main(["checkpoints"]) == 0
    assert "Cannot be used" not in "".join(capsys.readouterr())


def test_convert_hands_the_files_over_by_band(mine, capsys, monkeypatch):
    from fusion import convert

    asked = []
    monkeypatch.setattr(convert, "dcstfn", lambda files: (asked.append(files), checkpoints.path_of(mine))[1])
    assert main(["checkpoints", "--convert", "red=a=b.h5", "nir=c.h5"]) == 0
    assert asked == [{"red": Path("a=b.h5"), "nir": Path("c.h5")}] and capsys.readouterr().out == f"{mine}\n"


# what weights have seen

AREAS = [{"days": ["2018-04-22"], "bounds": [10.0, 40.0, 11.0, 41.0]}]


def weights(**origin):
    return Checkpoint("edcstfn", {}, ("red",), (4, 4), (0.1,), (0.1,), provenance=origin)


@pytest.mark.parametrize(
    ("day", "bounds", "known"),
    [
        (date(2018, 4, 22), (10.5, 40.5, 12.0, 42.0), True),
        (date(2018, 4, 23), (10.5, 40.5, 12.0, 42.0), False),
        (date(2018, 4, 22), (11.0, 40.5, 12.0, 42.0), False),  # they only touch
        (date(2018, 4, 22), (10.5, 41.5, 12.0, 42.0), False),
    ],
)
def test_weights_have_seen_a_day_where_both_day_and_place_agree(day, bounds, known):
    assert checkpoints.seen(weights(areas=AREAS), day, bounds) is known


def test_adapted_weights_have_seen_what_those_saw_that_they_started_from(folder):
    first = checkpoints.save(weights(areas=AREAS), {"w": np.zeros(1, np.float32)})
    second = weights(areas=[], adapted_from=first.stem)
    assert checkpoints.seen(second, date(2018, 4, 22), (10.5, 40.5, 12.0, 42.0))
    assert not checkpoints.seen(second, date(2018, 4, 23), (10.5, 40.5, 12.0, 42.0))
    checkpoints.remove(first.stem)
    assert not checkpoints.seen(second, date(2018, 4, 22), (10.5, 40.5, 12.0, 42.0))


@pytest.mark.parametrize(
    "areas", [None, 7, [7], [{}], [{"days": "2018-04-22"}], [{"days": ["2018-04-22"], "bounds": [1, 2, "x", 4]}]]
)
def test_a_broken_provenance_has_seen_nothing(areas):
    assert not checkpoints.seen(weights(areas=areas), date(2018, 4, 22), (0, 0, 90, 90))
