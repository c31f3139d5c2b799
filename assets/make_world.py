"""Make the offline basemap: countries of Natural Earth 1:110 million out of npm's package world-atlas, as GeoJSON.

    python assets/make_world.py

Needs npm and nothing else. Run again, it writes the same bytes.
"""

import hashlib
import json
import subprocess
import tarfile
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

PACKAGE = "world-atlas@2.0.2"
SHA256 = "032e7765f2ce00edaeafec23ff22bc3b77e42987c257da944cc585b452c05b97"
DECIMALS = 2  # 0.01 degrees are 1 km at most; the outlines themselves are coarser

Point = tuple[float, float]  # longitude, latitude in degrees
Ring = list[Point]  # closed: the last point is the first


def main() -> None:
    """Download, check, decode and write."""
    folder = Path(__file__).parent / "world"
    folder.mkdir(exist_ok=True)
    topology = download()
    arcs = [decode(arc, topology["transform"]) for arc in topology["arcs"]]
    countries = topology["objects"]["countries"]["geometries"]
    features = [feature(country, arcs) for country in sorted(countries, key=lambda one: one["properties"]["name"])]
    lines = ",\n".join(json.dumps(one, ensure_ascii=False, separators=(",", ":")) for one in features)
    text = f'{{"type":"FeatureCollection","features":[\n{lines}\n]}}\n'
    (folder / "countries-110m.geojson").write_text(text, encoding="utf-8", newline="\n")


def download() -> dict[str, Any]:
    """Return the TopoJSON of the pinned package; stop if its bytes are not those this script was written for."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        (package,) = Path(folder).glob("*.tgz")
        found = hashlib.sha256(package.read_bytes()).hexdigest()
        if found != SHA256:
            raise SystemExit(f"{package.name}: wanted sha256 {SHA256}, got {found}")
        with tarfile.open(package) as archive:
            member = archive.extractfile("package/countries-110m.json")
            if member is None:
                raise SystemExit(f"{package.name} has no countries-110m.json")
            topology: dict[str, Any] = json.load(member)
            return topology


def decode(arc: list[list[int]], transform: dict[str, list[float]]) -> list[Point]:
    """Turn an arc of steps on an integer grid into degrees."""
    (width, height), (west, south) = transform["scale"], transform["translate"]
    x = y = 0
    points = []
    for dx, dy in arc:
        x, y = x + dx, y + dy
        points.append((x * width + west, y * height + south))
    return points


def feature(country: dict[str, Any], arcs: list[list[Point]]) -> dict[str, Any]:
    """Return a GeoJSON feature with one MultiPolygon and the country's name."""
    polygons = [country["arcs"]] if country["type"] == "Polygon" else country["arcs"]
    pieces = [piece for polygon in polygons for piece in cut([join(ring, arcs) for ring in polygon])]
    geometry = {"type": "MultiPolygon", "coordinates": pieces}
    return {"type": "Feature", "properties": {"name": country["properties"]["name"]}, "geometry": geometry}


def join(indices: list[int], arcs: list[list[Point]]) -> Ring:
    """Join shared arcs into a ring; ``~i`` means arc ``i`` walked backwards."""
    ring: Ring = []
    for index in indices:
        points = arcs[index] if index >= 0 else arcs[~index][::-1]
        ring += points[1:] if ring else points
    return ring


def cut(polygon: list[Ring]) -> list[list[Ring]]:
    """Cut a polygon that crosses the antimeridian into pieces within -180..180, the outer ring first."""
    rings = [unroll(ring) for ring in polygon]
    pieces = []
    for turn in (-360, 0, 360):
        moved = [[(x + turn, y) for x, y in ring] for ring in rings]
        inside = [tidy(clip(clip(ring, -180, 1), 180, -1), hole=number > 0) for number, ring in enumerate(moved)]
        if inside[0]:
            pieces.append([ring for ring in inside if ring])
    return pieces


def unroll(ring: Ring) -> Ring:
    """Let longitudes run on beyond 180 where the ring jumps; a ring around a pole is closed through the pole."""
    jump = next((n for n, (a, b) in enumerate(pairwise(ring), 1) if abs(a[0] - b[0]) > 180), 0)
    ring = ring[jump:-1] + ring[: jump + 1]
    out = ring[:1]
    for x, y in ring[1:]:
        out.append((x + 360 * round((out[-1][0] - x) / 360), y))
    if abs(out[-1][0] - out[0][0]) > 180:
        pole = -90.0 if out[0][1] < 0 else 90.0
        out += [(out[-1][0], pole), (out[0][0], pole), out[0]]
    return out


def clip(ring: Ring, meridian: float, side: int) -> Ring:
    """Keep what lies east (side 1) or west (-1) of a meridian, after Sutherland and Hodgman 1974."""
    out: Ring = []
    for (x0, y0), (x1, y1) in pairwise(ring):
        inside0, inside1 = side * (x0 - meridian) >= 0, side * (x1 - meridian) >= 0
        if inside0 != inside1:
            out.append((meridian, y0 + (y1 - y0) * (meridian - x0) / (x1 - x0)))
        if inside1:
            out.append((x1, y1))
    return [*out, out[0]] if out else out


def tidy(ring: Ring, *, hole: bool) -> Ring:
    """Round, drop repeated points, and turn outer rings counter-clockwise; nothing is left of a ring without area."""
    points = [(round(x, DECIMALS), round(y, DECIMALS)) for x, y in ring]
    points = [b for a, b in pairwise([(1e3, 1e3), *points]) if a != b]
    area = sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairwise(points)) / 2
    if area == 0:
        return []
    return points if (area > 0) != hole else points[::-1]


if __name__ == "__main__":
    main()
