"""Files that the command line reads and writes: recipes, areas, results."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rasterio.errors import RasterioError

from .area import Ring, ring_of
from .errors import FusionError
from .recipe import MAX_GEOJSON, MAX_JSON, Recipe, parse_json
from .scene import Scene, opened, states_no_scale

TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # first bytes of TIFF and BigTIFF


@dataclass(frozen=True)
class Header:
    """What an image file says of itself."""

    bands: tuple[str, ...]  # empty if it does not name them all
    count: int
    dated: bool
    scaled: bool  # its numbers are reflectance, or it says how they become so


def read_header(path: str) -> Header:
    """Read what an image file says of itself, without its pixels."""
    with opened(path) as file:
        names = tuple(name or "" for name in file.descriptions)
        return Header(names if all(names) else (), file.count, "DATE" in file.tags(), not states_no_scale(file))


def read_recipe(path: str) -> Recipe:
    """Read a recipe from JSON, or from the tag that a result file carries.

    Raises
    ------
    FusionError
        If there is no such file or it holds no recipe.
    """
    if _start(path) in TIFF:
        return Recipe.from_json(_recipe_tag(path))
    return Recipe.from_json(_text(path, MAX_JSON, "recipe"))


def read_area(path: str) -> Ring:
    """Read the one polygon of a GeoJSON file."""
    text = _text(path, MAX_GEOJSON, "GeoJSON file")
    try:
        return ring_of(parse_json(text, "GeoJSON file", most=MAX_GEOJSON))
    except FusionError as error:
        raise FusionError(f"{path}: {error}") from error


def write_text(path: str, text: str) -> None:
    """Write a small text file."""
    try:
        Path(path).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise FusionError(f"Cannot write {path}: {error.strerror}. Give another file name.") from error


def write_scene(scene: Scene, path: str, tags: dict[str, str]) -> None:
    """Write a result."""
    try:
        scene.write(path, tags)
    except (OSError, RasterioError) as error:
        raise FusionError(f"Cannot write {path} ({error}): free some space or give another file name.") from error


def check_output(path: str) -> None:
    """Find out before the work, not after it, whether a GeoTIFF can be written there."""
    if Path(path).suffix.lower() not in (".tif", ".tiff"):
        raise FusionError(f"The result is a GeoTIFF, got the name {path}: let it end in .tif.")
    if Path(path).is_dir():
        raise FusionError(f"{path} is a folder, wanted a file: add a file name.")
    check_folder(Path(path).parent)


def check_folder(folder: Path) -> None:
    """Raise FusionError unless files can be made in this folder."""
    if not folder.is_dir():
        raise FusionError(f"There is no folder {folder} to write into: make it first, or give another one.")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise FusionError(f"Cannot write into {folder}: {error.strerror}. Give another folder.") from error


def _start(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(4)
    except OSError as error:
        raise FusionError(f"Cannot read {path}: {error.strerror}. Give the file of a recipe or a result.") from error


def _recipe_tag(path: str) -> str:
    with opened(path) as file:
        text = file.tags().get("FUSION_RECIPE")
    if text is None:
        raise FusionError(f"{path} carries no recipe (tag FUSION_RECIPE), so it was not made here: give a recipe.json.")
    return str(text)


def _text(path: str, most: int, what: str) -> str:
    try:
        if os.path.getsize(path) > 4 * most:
            raise FusionError(f"{path} has {os.path.getsize(path):,} bytes: that is no {what}.")
        return Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise FusionError(f"Cannot read {path}: {error.strerror}. Give the file of a {what}.") from error
    except UnicodeDecodeError as error:
        raise FusionError(f"{path} is not text: give the file of a {what}.") from error
