"""README.md: what it tells people to type works as typed, and its example of a method passes the project's checks."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fusion
import lab_satellites
import satellites
import stac_server
from fusion.__main__ import main

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def block(language: str, holds: str) -> str:
    """Return the one block of code in a language that holds a text."""
    (found,) = (code for code in re.findall(rf"```{language}\n(.*?)```", TEXT, re.S) if holds in code)
    return found


def succeeds(folder: Path, *command: object) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(folder)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_python_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(block("python", 'recipe_for("sample", date'), "README.md", "exec"), {})
    assert fusion.Scene.read("fused.tif").valid > 0.9


def test_the_example_of_a_network_trains_and_predicts(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FUSION_CHECKPOINTS", str(tmp_path))
    names: dict = {}
    code = block("python", "fusion.training")
    assert "epochs=20" in code
    exec(compile(code.replace("epochs=20", "epochs=1"), "README.md", "exec"), names)
    assert names["scene"].valid == 1 and len(capsys.readouterr().out.splitlines()) == 2
    assert [path.suffix for path in tmp_path.glob("*.*")] == [".safetensors"]


def test_the_example_over_the_network_runs_against_a_catalogue_on_loopback(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FUSION_CACHE", str(tmp_path / "cache"))
    with stac_server.running() as server:
        satellites.fill(server)
        monkeypatch.setenv("FUSION_STAC", f"planetary={server.url}")
        exec(compile(block("python", '"stac"'), "README.md", "exec"), {})
    assert fusion.Scene.read("slovenia.tif").valid > 0.75  # the rest of the grid lies outside the area


def test_the_example_with_own_files_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FUSION_OWN", str(tmp_path / "own"))
    lab_satellites.write_folder(tmp_path / "scenes")
    names = {}
    exec(compile(block("python", "local.look"), "README.md", "exec"), names)
    assert names["stack"].ratio == 16 and names["truth"].day == names["series"][1].day


def test_the_shell_examples_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lines = block("bash", "-m fusion run").splitlines()
    assert len(lines) == 3
    for line in lines:
        python, module, name, *arguments = shlex.split(line)
        assert (python, module, name) == (".venv/bin/python", "-m", "fusion")
        assert main(arguments) == 0, capsys.readouterr().err


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the project in which the example was put in place."""
    folder = tmp_path_factory.mktemp("copy")
    plain = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "fusion", folder / "fusion", ignore=plain)
    (folder / "tests").mkdir()
    for name in (
        "tests/test_methods.py",
        "tests/networks.py",
        "tests/landscapes.py",
        "tests/conftest.py",
        "pyproject.toml",
    ):
        shutil.copy(ROOT / name, folder / name)
    (folder / "fusion/methods/mean.py").write_text(block("python", "class Mean"), encoding="utf-8")
    return folder


def test_the_example_of_a_method_keeps_the_contract(copy):
    said = succeeds(copy, "pytest", "-q", "-p", "no:cacheprovider", "-k", "mean", "tests/test_methods.py")
    assert int(re.search(r"(\d+) passed", said)[1]) >= 20
    assert "skipped" not in said


@pytest.mark.parametrize("command", ["ruff check --no-cache", "ruff format --no-cache --check"])
def test_the_example_of_a_method_is_in_the_projects_style(copy, command):
    succeeds(copy, *command.split(), "fusion/methods/mean.py")


def test_the_example_of_a_method_is_typed(copy):
    # Alone and from this folder, whose cache knows the packages already.
    alone = copy / "mean.py"
    shutil.copy(copy / "fusion/methods/mean.py", alone)
    assert "no issues" in succeeds(ROOT, "mypy", "--config-file", ROOT / "pyproject.toml", alone)
