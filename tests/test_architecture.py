"""Who may import whom: arrows point from later modules to earlier ones, and heavy packages stay in their corner."""

import ast
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FUSION = ROOT / "fusion"
MODULES = sorted(FUSION.rglob("*.py"))
PAGES = [ROOT / "app.py", *sorted((ROOT / "pages").rglob("*.py"))]

# A module may import those of its own line's left only. Private modules (_cli_files) stand where their owners do.
ORDER = (
    "errors",
    "_assets",
    "_pulse",
    "_cache",
    "params",
    "_checkpoint_file",
    "checkpoints",
    "convert",
    "scene",
    "stack",
    "_product",
    "_collections",
    "products",
    "preprocess",
    "metrics",
    "overlay",
    "_utm",
    "area",
    "sources",
    "folders",
    "viz",
    "methods",
    "engine",
    "explain",
    "estimate",
    "training",
    "recipe",
    "pairing",
    "propose",
    "_cli_text",
    "_cli_files",
    "_cli_work",
    "_cli_commands",
    "_cli_search",
    "_cli_align",
    "_cli_own",
    "_cli_account",
    "_cli_evaluate",
    "_cli_checkpoints",
    "_cli_train",
    "_cli_parser",
    "__main__",
)
ONLY_IN = {
    "torch": {"methods", "training"},
    "numba": {"methods"},
    "ee": {"sources/earthengine.py"},
    "pystac_client": {"sources/stac.py"},
    "plotly": {"viz"},
    "folium": {"viz"},
    "leafmap": {"viz"},
}
NEVER = {"streamlit", "dask", "distributed"}


def room(path: Path) -> str:
    """Name of the module or sub-package directly under fusion/ that a file belongs to."""
    return path.relative_to(FUSION).parts[0].removesuffix(".py")


def imports(path: Path) -> list[str]:
    """Absolute dotted names that a file imports anywhere, except for type checkers only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for part in block.body
        for node in ast.walk(part)
    }
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    out = []
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            out += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) + 1 - node.level]] if node.level else []
            base += node.module.split(".") if node.module else []
            out += [".".join([*base, alias.name]) for alias in node.names]
    return out


def ours(path: Path) -> set[str]:
    """Rooms of fusion that a file imports from; its own is left out. ``from . import __version__`` is no room."""
    found = {name.split(".")[1] for name in imports(path) if name.startswith("fusion.") and name.count(".")}
    return {name for name in found if name in {room(p) for p in MODULES}} - {room(path)}


def top(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(path)}


def label(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_the_walk_finds_what_is_there():
    assert {"scene", "stack"} <= ours(FUSION / "engine.py") and "numpy" in top(FUSION / "stack.py")
    assert "fusion.methods._windows.similar_sum" in imports(FUSION / "methods" / "starfm.py")
    assert "sources" in ours(FUSION / "recipe.py")  # from . import sources


def test_every_module_has_its_place_in_the_order():
    assert {room(path) for path in MODULES} - {"__init__"} <= set(ORDER)


@pytest.mark.parametrize("path", [p for p in MODULES if room(p) != "__init__"], ids=label)
def test_imports_point_left_only(path):
    left = set(ORDER[: ORDER.index(room(path))])
    assert ours(path) <= left, f"{label(path)} imports {sorted(ours(path) - left)}, which come later"


@pytest.mark.parametrize("path", MODULES, ids=label)
def test_heavy_packages_stay_in_their_corner(path):
    assert not top(path) & NEVER
    for package, places in ONLY_IN.items():
        if package in top(path):
            where = path.relative_to(FUSION).as_posix()
            assert room(path) in places or where in places, f"{where} imports {package}; only {places} may"


@pytest.mark.parametrize("path", [p for p in PAGES if p.exists()], ids=label)
def test_pages_leave_computing_to_the_library(path):
    assert not top(path) & {"torch", "numba", "ee", "rasterio", "dask"}


@pytest.mark.parametrize("path", sorted((FUSION / "methods").glob("*.py")), ids=label)
def test_a_method_imports_no_source_and_no_other_method(path):
    assert not ours(path) & {"sources", "recipe", "engine"}
    inside = [n.split(".")[2] for n in imports(path) if n.startswith("fusion.methods.") and n.count(".") >= 2]
    files = {p.stem for p in path.parent.glob("*.py") if not p.stem.startswith("_")}
    assert not set(inside) & files


@pytest.mark.parametrize("path", sorted((FUSION / "sources").glob("*.py")), ids=label)
def test_a_source_imports_no_method_and_no_other_source(path):
    assert not ours(path) & {"methods", "recipe", "engine"}
    inside = [n.split(".")[2] for n in imports(path) if n.startswith("fusion.sources.") and n.count(".") >= 2]
    files = {p.stem for p in path.parent.glob("*.py") if not p.stem.startswith("_")}
    assert not set(inside) & files


def test_importing_fusion_takes_nothing_heavy():
    code = "import json, sys; import fusion; print(json.dumps(sorted({m.partition('.')[0] for m in sys.modules})))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    # Not dask: odc-geo looks for its small base package itself.
    heavy = {
        "torch",
        "streamlit",
        "numba",
        "plotly",
        "folium",
        "leafmap",
        "ee",
        "scipy",
        "matplotlib",
        "xarray",
    }
    assert not heavy & set(json.loads(out))


def test_every_package_is_installed():
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    there = {".".join(path.parent.relative_to(ROOT).parts) for path in FUSION.rglob("__init__.py")}
    assert there <= listed
