"""Files to download: static, with random names that expire, so that no result sits in memory twice."""

import secrets
import time
from pathlib import Path

import streamlit as st

from fusion.recipe import Recipe
from fusion.scene import Scene

FOLDER = Path(__file__).parents[2] / "static"
LIFE = 3600.0  # seconds


@st.cache_resource(show_spinner=False)
def _published() -> dict[str, Path]:
    for old in FOLDER.glob("*.tif"):
        old.unlink(missing_ok=True)  # of an earlier server
    return {}


def publish(scene: Scene, recipe: Recipe) -> str:
    """Write the result as COG under a random name and return its address, relative to a page."""
    files = _published()
    now = time.time()
    for key, path in list(files.items()):
        if not path.exists() or path.stat().st_mtime < now - LIFE:
            path.unlink(missing_ok=True)
            del files[key]
    key = recipe.to_json()
    if key not in files:
        FOLDER.mkdir(exist_ok=True)
        path = FOLDER / f"{secrets.token_urlsafe(24)}.tif"
        scene.write(path, recipe.tags())
        files[key] = path
    files[key].touch()
    return f"app/static/{files[key].name}"


def name(recipe: Recipe, ending: str) -> str:
    """Return a file name that says what is in it."""
    return f"{recipe.target.source}_{recipe.target.day}_{recipe.method.name()}.{ending}"


def link(label: str, address: str, file_name: str) -> None:
    """Draw a download link to a static file, which the browser may fetch in ranges."""
    look = (
        "display:inline-block;padding:.45rem .75rem;border:1px solid currentColor;border-radius:.5rem;"
        "color:inherit;text-decoration:none"
    )
    st.html(f'<a style="{look}" href="{address}" download="{file_name}">{label}</a>', width="content")
