"""Where the bundled files are: inside the installed package, or beside it in the repository."""

from pathlib import Path


def asset(name: str) -> Path:
    """Return the path of a bundled file or folder, such as ``asset("world/countries-110m.geojson")``.

    Raises
    ------
    FileNotFoundError
        If it is in neither place.
    """
    here = Path(__file__).parent
    for folder in (here / "assets", here.parent / "assets"):
        if (folder / name).exists():
            return folder / name
    raise FileNotFoundError(f"no bundled file {name!r} under {here / 'assets'} or beside it: reinstall Meantime")
