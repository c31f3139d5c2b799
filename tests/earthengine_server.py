"""An Earth Engine server on loopback for the unmodified client: it evaluates expression graphs over local GeoTIFFs.

It knows the functions that fusion/sources/earthengine.py uses and says so of any other. Images are pulled as in Earth
Engine: nothing is computed before a grid is known, and each band is then sampled at the pixels' centres.
"""

import io
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import ee
import numpy as np
import pyproj
import rasterio
from affine import Affine

PAPERS = Path(ee.__file__).parent / "tests"
LARGEST = 50_331_648  # bytes of one answer, uncompressed
AT_ONCE = 40
SINUSOIDAL = pyproj.CRS.from_proj4("+proj=sinu +lon_0=0 +x_0=0 +y_0=0 +R=6371007.181 +units=m +no_defs")
RANGES = {
    "uint8": (0, 255), "int16": (-32768, 32767), "uint16": (0, 65535), "int32": (-(2**31), 2**31 - 1),
    "uint32": (0, 2**32 - 1), "int64": (-(2**63), 2**63 - 1),
}  # fmt: skip


class Refused(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


@dataclass(frozen=True)
class Grid:
    crs: str
    affine: Affine
    width: int
    height: int


@dataclass(frozen=True)
class Band:
    name: str
    dtype: str
    read: Callable[[Grid], tuple[np.ndarray, np.ndarray]]  # values, whether they are known
    about: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Image:
    bands: tuple[Band, ...]
    properties: dict = field(default_factory=dict)
    id: str = ""
    bounds: tuple[float, float, float, float] = (-180, -90, 180, 90)

    def info(self) -> dict:
        return {
            "type": "Image", "id": self.id, "properties": self.properties,
            "bands": [{"id": band.name, **band.about, "data_type": data_type(band.dtype)} for band in self.bands],
        }  # fmt: skip


@dataclass(frozen=True)
class Asset:
    """An image of a collection: one GeoTIFF a band, whose nodata are masked pixels."""

    id: str
    time: datetime
    bands: dict[str, Path]
    crs: str = ""  # as the server calls it; default is the file's EPSG code


def data_type(name: str) -> dict:
    if name.startswith("float"):
        return {"type": "PixelType", "precision": "float" if name == "float32" else "double"}
    low, high = RANGES[name]
    return {"type": "PixelType", "precision": "int", "min": low, "max": high}


@lru_cache(maxsize=64)
def known(crs: str) -> pyproj.CRS:
    return SINUSOIDAL if crs == "SR-ORG:6974" else pyproj.CRS.from_user_input(crs)


@lru_cache(maxsize=256)
def opened(path: Path) -> tuple[np.ndarray, np.ndarray, Affine]:
    with rasterio.open(path) as file:
        return file.read(1), file.read_masks(1) > 0, file.transform


@lru_cache(maxsize=64)
def where(grid: Grid, crs: str, affine: Affine, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row and column of a file for each pixel of a grid, and whether they lie inside."""
    x, y = np.meshgrid(np.arange(grid.width) + 0.5, np.arange(grid.height) + 0.5)
    x, y = grid.affine * (x, y)
    if grid.crs != crs:
        x, y = pyproj.Transformer.from_crs(known(grid.crs), known(crs), always_xy=True).transform(x, y)
    column, row = (np.floor(value).astype(int) for value in ~affine * (x, y))
    inside = (column >= 0) & (row >= 0) & (column < shape[1]) & (row < shape[0])
    return np.where(inside, row, 0), np.where(inside, column, 0), inside


def file_band(name: str, path: Path, crs: str) -> Band:
    values, valid, affine = opened(path)

    def read(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
        row, column, inside = where(grid, crs, affine, values.shape)
        return values[row, column], inside & valid[row, column]

    about = {"crs": crs, "crs_transform": list(affine)[:6], "dimensions": list(values.shape[::-1])}
    return Band(name, values.dtype.name, read, about)


def load(asset: Asset) -> Image:
    return loaded(asset.id, asset.time, tuple(asset.bands.items()), asset.crs)


@lru_cache(maxsize=256)
def loaded(id: str, time: datetime, files: tuple[tuple[str, Path], ...], crs: str) -> Image:
    asset = Asset(id, time, dict(files), crs)
    first = next(iter(asset.bands.values()))
    with rasterio.open(first) as file:
        crs = asset.crs or f"EPSG:{file.crs.to_epsg()}"
        box = file.bounds
    west, south, east, north = pyproj.Transformer.from_crs(known(crs), 4326, always_xy=True).transform_bounds(*box)
    properties = {
        "system:index": asset.id.rpartition("/")[2],
        "system:time_start": int(asset.time.replace(tzinfo=UTC).timestamp() * 1000),
    }
    bands = tuple(file_band(name, path, crs) for name, path in asset.bands.items())
    return Image(bands, properties, asset.id, (west, south, east, north))


def each(image: Image, function: Callable, dtype: str | None = None) -> Image:
    """Change every band's values; the mask stays."""

    def made(band: Band) -> Band:
        def read(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
            values, valid = band.read(grid)
            return function(values), valid

        return replace(band, read=read, dtype=dtype or band.dtype)

    return replace(image, bands=tuple(made(band) for band in image.bands))


def joined(one: Image, two: Image, function: Callable, dtype: str) -> Image:
    def made(a: Band, b: Band) -> Band:
        def read(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
            (left, known_left), (right, known_right) = a.read(grid), b.read(grid)
            return function(left, right), known_left & known_right

        return Band(a.name, dtype, read, a.about)

    others = two.bands if len(two.bands) == len(one.bands) else two.bands[:1] * len(one.bands)
    return replace(one, bands=tuple(made(a, b) for a, b in zip(one.bands, others, strict=True)))


def constant(value: float) -> Image:
    def read(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
        shape = grid.height, grid.width
        return np.full(shape, value), np.ones(shape, bool)

    kind = next((k for k, (low, high) in RANGES.items() if low <= value <= high and value == int(value)), "float64")
    return Image((Band("constant", kind, read),))


def reduced(bands: list[Band], name: str, function: Callable) -> Band:
    """Bring several bands to one, over those that are known."""

    def read(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
        seen = [band.read(grid) for band in bands]
        values = np.stack([np.where(valid, numbers, np.nan).astype(float) for numbers, valid in seen])
        valid = np.any([part[1] for part in seen], axis=0)
        return function(np.where(np.isnan(values).all(0), 0, values)), valid

    return Band(name, "float64", read)


class Evaluator:
    """Evaluates one expression graph."""

    def __init__(self, assets: dict[str, list[Asset]], expression: dict) -> None:
        self.assets, self.nodes = assets, expression["values"]

    def node(self, node: dict, scope: dict) -> Any:
        ((kind, value),) = node.items()
        if kind == "constantValue":
            return value
        if kind == "integerValue":
            return int(value)
        if kind == "valueReference":
            return self.node(self.nodes[value], scope)
        if kind == "argumentReference":
            return scope[value]
        if kind == "arrayValue":
            return [self.node(part, scope) for part in value["values"]]
        if kind == "dictionaryValue":
            return {key: self.node(part, scope) for key, part in value["values"].items()}
        if kind == "functionDefinitionValue":
            names, body = value["argumentNames"], self.nodes[value["body"]]
            return lambda *given: self.node(body, {**scope, **dict(zip(names, given, strict=True))})
        if kind == "functionInvocationValue":
            given = {key: self.node(part, scope) for key, part in value["arguments"].items()}
            return self.call(value["functionName"], given)
        raise Refused(400, f"unknown node {kind}")

    def call(self, name: str, given: dict) -> Any:
        method = getattr(self, name.replace(".", "_"), None)
        if method is not None:
            return method(**given)
        head, _, tail = name.partition(".")
        if head == "Image" and tail in BINARY:
            function, dtype = BINARY[tail]
            return joined(given["image1"], given["image2"], function, dtype or given["image1"].bands[0].dtype)
        if head == "Image" and tail.removeprefix("to").lower() in RANGES | {"float": 0, "double": 0}:
            kind = {"float": "float32", "double": "float64"}.get(tail[2:].lower(), tail[2:].lower())
            return each(given["value"], lambda v: v.astype(kind), kind)
        raise Refused(400, f"This small server does not know {name}.")

    # Collections are lists of images.
    def ImageCollection_load(self, id: str) -> list[Image]:
        if id not in self.assets:
            raise Refused(404, f"ImageCollection.load: ImageCollection asset '{id}' not found (does not exist or "
                               "caller does not have access).")  # fmt: skip
        return [load(asset) for asset in self.assets[id]]

    def Image_load(self, id: str) -> Image:
        for asset in self.assets.get(id.rpartition("/")[0], []):
            if asset.id == id:
                return load(asset)
        raise Refused(404, f"Image.load: Image asset '{id}' not found (does not exist or caller does not have access).")

    def Collection_filter(self, collection: list, filter: Callable) -> list:
        return [image for image in collection if filter(image)]

    def Filter_intersects(self, leftField: str, rightValue: tuple) -> Callable:
        west, south, east, north = rightValue

        def test(image: Image) -> bool:
            a, b, c, d = image.bounds
            return a < east and c > west and b < north and d > south

        return test

    def Filter_dateRangeContains(self, leftValue: tuple, rightField: str) -> Callable:
        return lambda image: leftValue[0] <= moment(image.properties[rightField]) < leftValue[1]

    def Filter_inList(self, leftField: str, rightValue: list) -> Callable:
        return lambda image: image.properties[leftField] in rightValue

    def DateRange(self, start: Any, end: Any) -> tuple:
        return moment(start), moment(end)

    def Date(self, value: Any) -> datetime:
        return moment(value)

    def Date_advance(self, date: datetime, delta: float, unit: str) -> datetime:
        return date + timedelta(**{f"{unit}s": delta})

    def Collection_limit(self, collection: list, limit: int, key: str = "", ascending: bool = True) -> list:
        ordered = sorted(collection, key=lambda image: image.properties[key]) if key else collection
        return ordered[:limit]

    def ImageCollection_merge(self, collection1: list, collection2: list) -> list:
        return [
            replace(image, properties={**image.properties, "system:index": f"{i}_{image.properties['system:index']}"})
            for i, part in enumerate((collection1, collection2), 1)
            for image in part
        ]  # the real one changes the index so, too

    def Collection_toList(self, collection: list, count: int, offset: int = 0) -> list:
        return collection[offset : offset + count]

    def Collection_map(self, collection: list, baseAlgorithm: Callable, dropNulls: bool = False) -> list:
        return [baseAlgorithm(image) for image in collection]

    def List_map(self, list: list, baseAlgorithm: Callable, dropNulls: bool = False) -> list:
        return [baseAlgorithm(part) for part in list]

    def AggregateFeatureCollection_array(self, collection: list, property: str) -> list:
        return [image.properties[property] for image in collection]

    def reduce_max(self, collection: list) -> Image:
        if not collection:
            raise Refused(400, "Image.reduceRegion: Image has no bands.")
        names = [band.name for band in collection[0].bands]
        return Image(
            tuple(reduced([image.bands[i] for image in collection], n, partial_max) for i, n in enumerate(names))
        )

    # Images.
    def Image_constant(self, value: float) -> Image:
        return constant(value)

    def Image_select(self, input: Image, bandSelectors: list, newNames: list | None = None) -> Image:
        found = {band.name: band for band in input.bands}
        for name in bandSelectors:
            if name not in found:
                raise Refused(400, f"Image.select: Band pattern '{name}' did not match any bands. Available bands: "
                                   f"[{', '.join(found)}]")  # fmt: skip
        return replace(input, bands=tuple(found[name] for name in bandSelectors))

    def Image_rename(self, input: Image, names: list) -> Image:
        names = names[0] if names and isinstance(names[0], list) else names
        pairs = zip(input.bands, names, strict=True)
        return replace(input, bands=tuple(replace(band, name=name) for band, name in pairs))

    def Image_addBands(self, dstImg: Image, srcImg: Image, names: Any = None, overwrite: bool = False) -> Image:
        return replace(dstImg, bands=dstImg.bands + srcImg.bands)

    def Image_mask(self, image: Image, mask: Image | None = None) -> Image:
        def made(band: Band) -> Band:
            def read(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
                valid = band.read(grid)[1]
                return valid.astype("uint8"), np.ones_like(valid)

            return replace(band, read=read, dtype="uint8")

        return replace(image, bands=tuple(made(band) for band in image.bands))

    def Image_updateMask(self, image: Image, mask: Image) -> Image:
        def made(band: Band, other: Band) -> Band:
            def read(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
                (values, valid), (numbers, seen) = band.read(grid), other.read(grid)
                return values, valid & seen & (numbers != 0)

            return replace(band, read=read)

        masks = mask.bands if len(mask.bands) == len(image.bands) else mask.bands * len(image.bands)
        return replace(image, bands=tuple(made(b, m) for b, m in zip(image.bands, masks, strict=True)))

    def Image_unmask(self, input: Image, value: Image, sameFootprint: bool = True) -> Image:
        if sameFootprint:
            raise Refused(400, "This small server unmasks everywhere only.")

        def made(band: Band, other: Band) -> Band:
            kind = np.promote_types(band.dtype, other.dtype).name

            def read(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
                (values, valid), (numbers, seen) = band.read(grid), other.read(grid)
                return np.where(valid, values.astype(kind), numbers.astype(kind)), valid | seen

            return replace(band, read=read, dtype=kind)

        others = value.bands * len(input.bands)
        return replace(input, bands=tuple(made(b, o) for b, o in zip(input.bands, others, strict=False)))

    def Image_not(self, value: Image) -> Image:
        return each(value, lambda v: (v == 0).astype("uint8"), "uint8")

    def Image_reduce(self, image: Image, reducer: str) -> Image:
        function = {"min": lambda v: np.nanmin(v, 0), "max": partial_max}[reducer]
        return Image((reduced(list(image.bands), reducer, function),))

    def Image_reduceRegion(self, image: Image, reducer: str, geometry: tuple, **given: Any) -> dict:
        west, south, east, north = geometry
        affine = Affine(*given["crsTransform"])
        assert given["crs"] == "EPSG:4326" and reducer == "mean"
        grid = Grid(given["crs"], affine, round((east - west) / affine.a), round((south - north) / affine.e))
        out = {}
        for band in image.bands:
            values, valid = band.read(grid)
            out[band.name] = float(values[valid].mean()) if valid.any() else None
        return out

    def Reducer_mean(self) -> str:
        return "mean"

    def Reducer_min(self) -> str:
        return "min"

    def Dictionary_get(self, dictionary: dict, key: str) -> Any:
        return dictionary[key]

    def Projection(self, crs: str) -> str:
        return crs

    def GeometryConstructors_Rectangle(self, coordinates: list, **given: Any) -> tuple:
        return tuple(coordinates)

    def Feature(self, geometry: tuple) -> tuple:
        return geometry


BINARY: dict[str, tuple[Callable, str | None]] = {
    "rightShift": (lambda a, b: a.astype("int64") >> b.astype("int64"), None),
    "bitwiseAnd": (lambda a, b: a.astype("int64") & b.astype("int64"), None),
    "eq": (lambda a, b: (a == b).astype("uint8"), "uint8"),
    "neq": (lambda a, b: (a != b).astype("uint8"), "uint8"),
    "gte": (lambda a, b: (a >= b).astype("uint8"), "uint8"),
    "lte": (lambda a, b: (a <= b).astype("uint8"), "uint8"),
    "and": (lambda a, b: ((a != 0) & (b != 0)).astype("uint8"), "uint8"),
    "or": (lambda a, b: ((a != 0) | (b != 0)).astype("uint8"), "uint8"),
}


def partial_max(values: np.ndarray) -> np.ndarray:
    return np.nanmax(values, axis=0)


def moment(value: Any) -> datetime:
    if isinstance(value, datetime):
        return value
    if isinstance(value, str):
        return datetime.fromisoformat(value).replace(tzinfo=UTC)
    return datetime.fromtimestamp(value / 1000, UTC)


def plain(value: Any) -> Any:
    if isinstance(value, Image):
        return value.info()
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    return value


def pixels(image: Image, asked: dict) -> bytes:
    """NPY of a structured array, as of ``image:computePixels``; masked pixels are 0, as they are there."""
    grid, size, at = asked["grid"], asked["grid"]["dimensions"], asked["grid"]["affineTransform"]
    names = ("scaleX", "shearX", "translateX", "shearY", "scaleY", "translateY")
    box = Grid(
        grid.get("crsCode") or grid["crsWkt"], Affine(*(at.get(n, 0) for n in names)), size["width"], size["height"]
    )
    dtype = np.dtype([(band.name, band.dtype) for band in image.bands])
    if (total := dtype.itemsize * box.width * box.height) > LARGEST:
        raise Refused(400, f"Total request size ({total} bytes) must be less than or equal to {LARGEST} bytes.")
    out = np.zeros((box.height, box.width), dtype)
    for band in image.bands:
        values, valid = band.read(box)
        out[band.name] = np.where(valid, values, 0)
    file = io.BytesIO()
    np.save(file, out)
    return file.getvalue()


@dataclass
class Fault:
    """What goes wrong with the next requests whose path holds `where`."""

    where: str
    how: str  # "status", "cut", "half", "slow", "words"
    times: int
    status: int = 500
    message: str = "Internal error encountered."
    after: int = 0  # requests that pass first


class Server:
    """The server; ``with Server(assets) as server`` runs it, ``server.url`` is its address."""

    def __init__(self, assets: dict[str, list[Asset]]) -> None:
        self.assets = assets
        self.asked: list[tuple[str, dict]] = []  # path and body of every request
        self.bytes = 0
        self.faults: list[Fault] = []
        self.delay = 0.0
        self.hold = False  # answers wait until as many requests as will come at once are here
        self.go = threading.Event()  # ends what is slow
        self.now = self.peak = 0
        self.lock = threading.Lock()

    def fail(self, where: str, how: str = "status", *, times: int = 1, **more: Any) -> None:
        self.faults.append(Fault(where, how, times, **more))

    def count(self, where: str) -> int:
        return sum(where in path for path, _ in self.asked)

    def __enter__(self) -> "Server":
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 20

            def log_message(self, *_: Any) -> None: ...

            def do_GET(self) -> None:
                outer.answer(self, b"")

            def do_POST(self) -> None:
                outer.answer(self, self.rfile.read(int(self.headers["content-length"])))

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_: Any) -> None: ...  # the client went away

        self.http = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.go.set()
        self.http.shutdown()
        self.http.server_close()

    def fault(self, path: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.where in path and fault.times:
                    if fault.after:
                        fault.after -= 1
                        return None
                    fault.times -= 1
                    return fault
        return None

    def answer(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        path = handler.path.partition("?")[0]
        with self.lock:
            is_json = body.startswith(b"{")
            self.asked.append((path, json.loads(body) if is_json else {"body": body.decode()}))
            self.now += 1
            self.peak = max(self.peak, self.now)
        try:
            self.reply(handler, path, self.asked[-1][1] if not is_json else json.loads(body))
        finally:
            with self.lock:
                self.now -= 1

    def reply(self, handler: BaseHTTPRequestHandler, path: str, asked: dict) -> None:
        fault = self.fault(path)
        status, kind = 200, "application/json"
        try:
            if fault and fault.how == "slow":
                self.go.wait(10)
            if fault and fault.how == "status":
                raise Refused(fault.status, fault.message)
            if self.now > AT_ONCE:
                raise Refused(429, "Too many requests at once.")
            if self.delay:
                time.sleep(self.delay)
            if self.hold and path.endswith("computePixels"):
                self.wait_for_others()
            out = self.made(path, asked)
        except Refused as error:
            status = error.status
            out = json.dumps({"error": {"code": status, "message": error.message}}).encode()
            if path == "/token":
                out = json.dumps({"error": "invalid_grant", "error_description": error.message}).encode()
        if path.endswith("computePixels") and status == 200:
            kind = "application/octet-stream"
        if fault and fault.how == "words":
            out = fault.message.encode()
        if fault and fault.how == "half":
            out = out[: len(out) // 2]
        handler.send_response(status)
        handler.send_header("content-type", kind)
        handler.send_header("content-length", str(len(out)))
        handler.end_headers()
        if fault and fault.how == "cut":
            out = out[: len(out) // 2]
            handler.close_connection = True
        handler.wfile.write(out)
        with self.lock:
            self.bytes += len(out)

    def wait_for_others(self) -> None:
        """Return once no request has come for a while."""
        seen = 0
        while len(self.asked) > seen:
            seen = len(self.asked)
            self.go.wait(0.2)

    def made(self, path: str, asked: dict) -> bytes:
        if path.startswith("/$discovery"):
            return (PAPERS / "cloud_api_discovery_document.json").read_bytes()
        if path.endswith("/algorithms"):
            return (PAPERS / "algorithms.json").read_bytes()
        if path == "/token":
            return json.dumps({"access_token": "a-token-that-is-secret", "expires_in": 3600}).encode()
        graph = asked["expression"]
        evaluator = Evaluator(self.assets, graph)
        value = evaluator.node(graph["values"][graph["result"]], {})
        if path.endswith("value:compute"):
            return json.dumps({"result": plain(value)}).encode()
        if path.endswith("image:computePixels"):
            return pixels(value, asked)
        raise Refused(404, f"no such path {path}")
