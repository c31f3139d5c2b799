"""Files to download: static, with random names that expire, so that no result sits in memory twice."""

import os
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path

import streamlit as st

from fusion.errors import FusionError
from fusion.recipe import Recipe
from fusion.scene import Scene

FOLDER = Path(__file__).parents[2] / "static"
LIFE = 3600.0  # seconds


class Downloads:
    """Files in one folder, each for `life` seconds, all together at most `limit` bytes; safe for many threads."""

    def __init__(self, folder: Path, *, life: float, limit: int) -> None:
        self._folder, self._life, self._limit = folder, life, limit
        self._lock = threading.Lock()
        self._names: dict[str, str] = {}  # key -> file name, oldest first

    def publish(self, key: str, write: Callable[[Path], None]) -> str:
        """Return the name of the file of this key, writing it if it is not there.

        Raises
        ------
        FusionError
            If it cannot be written.
        """
        with self._lock:
            self._sweep()
            if key not in self._names:
                name = f"{secrets.token_urlsafe(24)}.tif"
                try:
                    self._folder.mkdir(exist_ok=True)
                    write(self._folder / name)
                except OSError as error:
                    raise FusionError(
                        f"The server could not write the file to download ({error.strerror}): try again later, or run "
                        "the recipe yourself."
                    ) from error
                self._names[key] = name
                self._shrink(spare=name)
            return self._names[key]

    def sweep(self) -> None:
        """Delete what has expired, of this server or of one before it."""
        with self._lock:
            self._sweep()

    def _sweep(self) -> None:
        now = time.time()
        for path, written, _ in self._files():
            if written < now - self._life:
                path.unlink(missing_ok=True)
        there = {path.name for path, _, _ in self._files()}
        self._names = {key: name for key, name in self._names.items() if name in there}

    def _shrink(self, spare: str) -> None:
        files = sorted(self._files(), key=lambda file: file[1])
        total = sum(size for _, _, size in files)
        for path, _, size in files:
            if total > self._limit and path.name != spare:
                path.unlink(missing_ok=True)
                total -= size

    def _files(self) -> list[tuple[Path, float, int]]:
        """Every file with its time of writing and its bytes; one that another server just took away is left out."""
        found = []
        for path in self._folder.glob("*.tif"):
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            found.append((path, status.st_mtime, status.st_size))
        return found


@st.cache_resource(show_spinner=False)
def _downloads() -> Downloads:
    """Return the server's downloads, bounded by ``FUSION_DOWNLOADS_MB`` (1024); old ones go even when nobody visits."""
    limit = int(os.environ.get("FUSION_DOWNLOADS_MB") or 1024) * 2**20
    downloads = Downloads(FOLDER, life=LIFE, limit=limit)

    def tidy() -> None:
        while True:
            downloads.sweep()
            time.sleep(60)

    threading.Thread(target=tidy, name="downloads", daemon=True).start()
    return downloads


def publish(scene: Scene, recipe: Recipe) -> str:
    """Write the result as COG under a random name and return its address, relative to a page."""
    found = _downloads().publish(recipe.to_json(), lambda path: scene.write(path, recipe.tags()))
    return f"app/static/{found}"


def name(recipe: Recipe, ending: str) -> str:
    """Return a file name that says what is in it."""
    return f"{recipe.target.source}_{recipe.target.day}_{recipe.method.name()}.{ending}"


def link(label: str, address: str, file_name: str) -> None:
    """Draw a download link to a static file, which the browser may fetch in ranges."""
    look = (
        "display:inline-block;padding:.4rem .75rem;border:1px solid color-mix(in srgb,currentColor 30%,transparent);"
        "border-radius:.5rem;color:inherit;text-decoration:none;font-size:.875rem"
    )
    st.html(f'<a style="{look}" href="{address}" download="{file_name}">{label}</a>', width="content")
