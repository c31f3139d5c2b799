"""A STAC catalogue on loopback: landing page, search with pages and filters, items, and COGs served in parts.

Tests run it beside the real client. It writes down every request and what it cost, and it can be told to misbehave.
"""

import json
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.io import MemoryFile

CONFORMS = ["https://api.stacspec.org/v1.0.0/core", "https://api.stacspec.org/v1.0.0/item-search"]
CONFORMS += ["https://api.stacspec.org/v1.0.0/collections", "https://api.stacspec.org/v1.0.0/ogcapi-features"]


@dataclass
class Fault:
    """What goes wrong on requests whose path contains a text, and how often."""

    where: str
    status: int = 0
    times: int = 10**6
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False  # half of the answer, then the line goes dead
    slow: float = 0.0  # seconds before the answer
    whole: bool = False  # answers with the whole file, whatever part was asked for
    first: int = 0  # spare so many requests


@dataclass
class Request:
    """One request as the server saw it."""

    method: str
    path: str
    part: str | None
    status: int = 0
    sent: int = 0
    body: Any = None


class Server:
    """The catalogue, its files and its faults."""

    def __init__(self) -> None:
        self.items: dict[str, dict[str, dict[str, Any]]] = {}
        self.files: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.log: list[Request] = []
        self.page = 100
        self.query = ""  # what an address of a file must carry, such as a signature
        self.post = True
        self.url = ""
        self.connections = 0

    def add(self, collection: str, item: Mapping[str, Any]) -> None:
        self.items.setdefault(collection, {})[item["id"]] = {**item, "collection": collection}

    def fault(self, where: str, **how: Any) -> Fault:
        self.faults.append(Fault(where, **how))
        return self.faults[-1]

    def requests(self, where: str = "") -> list[Request]:
        return [one for one in self.log if where in one.path]

    def sent(self, where: str = "/files/") -> int:
        return sum(one.sent for one in self.requests(where))


@contextmanager
def running() -> Iterator[Server]:
    """Run a catalogue on a free port of loopback."""
    served = Server()
    handler = type("Bound", (_Handler,), {"served": served})
    httpd = _Quiet(("127.0.0.1", 0), handler)
    served.url = f"http://127.0.0.1:{httpd.server_address[1]}"
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that stop waiting go away in the middle; that is what some tests are about."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: Server

    def setup(self) -> None:
        super().setup()
        self.served.connections += 1

    def log_message(self, *args: Any) -> None:
        """Say nothing on the terminal."""

    def do_GET(self) -> None:
        self._answer(None)

    def do_POST(self) -> None:
        self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _answer(self, body: Any) -> None:
        self.request_ = Request(self.command, self.path, self.headers.get("Range"), body=body)
        self.served.log.append(self.request_)
        fault = self._fault()
        if fault and fault.slow:
            time.sleep(fault.slow)
        if fault and fault.status:
            return self._send(fault.status, b"a fault", fault.headers)
        path = urlsplit(self.path).path  # of a proxied request, the whole address stands before it
        if path.startswith("/files/"):
            return self._file(path.removeprefix("/files/"), fault)
        if path.startswith("/token/"):
            return self._json(self.served.files["token"])
        found = self._api(path, body)
        return self._json(json.dumps(found).encode() if found is not None else None, fault)

    def _fault(self) -> Fault | None:
        for fault in self.served.faults:
            if fault.where in self.path and fault.first > 0:
                fault.first -= 1
            elif fault.where in self.path and fault.times > 0:
                fault.times -= 1
                return fault
        return None

    def _json(self, data: bytes | None, fault: Fault | None = None) -> None:
        if data is None:
            return self._send(404, b"{}")
        return self._send(200, data, {"Content-Type": "application/json"}, cut=bool(fault and fault.cut))

    def _file(self, name: str, fault: Fault | None) -> None:
        data = self.served.files.get(name)
        if self.served.query and self.served.query not in self.path:
            return self._send(403, b"no signature")
        if data is None:
            return self._send(404, b"")
        if not self.request_.part or (fault and fault.whole):
            return self._send(200, data, cut=bool(fault and fault.cut))
        first, _, last = self.request_.part.removeprefix("bytes=").partition("-")
        start, stop = int(first), min(int(last) + 1, len(data))
        if start >= len(data):
            return self._send(416, b"", {"Content-Range": f"bytes */{len(data)}"})
        span = {"Content-Range": f"bytes {start}-{stop - 1}/{len(data)}", "Accept-Ranges": "bytes"}
        return self._send(206, data[start:stop], span, cut=bool(fault and fault.cut))

    def _send(self, status: int, data: bytes, headers: Mapping[str, str] | None = None, cut: bool = False) -> None:
        self.request_.status = status
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        try:
            self.wfile.write(data[: len(data) // 2] if cut else data)
            self.request_.sent += len(data) // (2 if cut else 1)
        except OSError:
            cut = True  # the client went away
        if cut:
            self.close_connection = True

    def _api(self, path: str, body: Any) -> Any:
        base, parts = self.served.url, path.strip("/").split("/")
        if path == "/":
            links = [{"rel": "self", "href": base, "type": "application/json"}, {"rel": "root", "href": base}]
            for method in ("GET", "POST") if self.served.post else ("GET",):
                links.append(
                    {"rel": "search", "href": f"{base}/search", "method": method, "type": "application/geo+json"}
                )
            links.append({"rel": "data", "href": f"{base}/collections"})
            head = {"type": "Catalog", "id": "loopback", "description": "for tests", "stac_version": "1.0.0"}
            return {**head, "conformsTo": CONFORMS, "links": links}
        if path == "/collections":
            return {"collections": [self._collection(name) for name in self.served.items], "links": []}
        if path == "/search":
            return self._search(body if body is not None else _query(self.path), posted=body is not None)
        if len(parts) == 2 and parts[1] in self.served.items:
            return self._collection(parts[1])
        if len(parts) == 4 and parts[0] == "collections":
            return self.served.items.get(parts[1], {}).get(parts[3])
        return None

    def _collection(self, name: str) -> dict[str, Any]:
        extent = {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}}
        head = {"type": "Collection", "id": name, "description": name, "stac_version": "1.0.0", "license": "other"}
        return {**head, "extent": extent, "links": []}

    def _search(self, asked: Mapping[str, Any], posted: bool) -> dict[str, Any]:
        found = [item for name in asked["collections"] for item in self.served.items.get(name, {}).values()]
        found = [item for item in found if _meets(item, asked)]
        start, size = int(asked.get("token") or 0), min(int(asked.get("limit", 10)), self.served.page)
        links = []
        if start + size < len(found):
            onward: dict[str, Any] = {"rel": "next", "href": f"{self.served.url}/search", "method": "POST"}
            links.append({**onward, "body": {**asked, "token": start + size}, "merge": False})
            if not posted:
                href = f"{self.served.url}{re.sub('&token=.*', '', self.path)}&token={start + size}"
                links = [{"rel": "next", "href": href, "method": "GET"}]
        return {"type": "FeatureCollection", "features": found[start : start + size], "links": links}


def _query(path: str) -> dict[str, Any]:
    asked: dict[str, Any] = {key: values[0] for key, values in parse_qs(urlsplit(path).query).items()}
    asked["collections"] = asked.get("collections", "").split(",")
    if "bbox" in asked:
        asked["bbox"] = [float(edge) for edge in asked["bbox"].split(",")]
    return asked


def _meets(item: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    if asked.get("ids") and item["id"] not in asked["ids"]:
        return False
    if asked.get("bbox"):
        (w, s, e, n), (a, b, c, d) = asked["bbox"], item["bbox"]
        if a > e or c < w or b > n or d < s:
            return False
    if asked.get("datetime"):
        first, last = (datetime.fromisoformat(text) for text in asked["datetime"].split("/"))
        properties = item["properties"]
        start = datetime.fromisoformat(properties.get("start_datetime") or properties["datetime"])
        end = datetime.fromisoformat(properties.get("end_datetime") or properties["datetime"])
        return start <= last and end >= first
    return True


def cog(
    numbers: np.ndarray, transform: Affine, crs: str, *, block: int = 512, nodata: int | None = None, **options: Any
) -> bytes:
    """Bytes of a cloud-optimized GeoTIFF of ``(y, x)`` numbers, with overviews by the nearest pixel."""
    profile = {
        "driver": "COG",
        "count": 1,
        "height": numbers.shape[0],
        "width": numbers.shape[1],
        "dtype": numbers.dtype,
    }
    profile |= {"crs": crs, "transform": transform, "blocksize": block, "compress": "DEFLATE", "nodata": nodata}
    profile |= {"level": 1, "num_threads": 2, "overview_resampling": "NEAREST", **options}
    with MemoryFile() as memory:
        with rasterio.open(memory.name, "w", **profile) as file:
            file.write(numbers, 1)
        return bytes(memory.read())


def item(
    name: str,
    when: str,
    grid: GeoBox,
    assets: Mapping[str, str | Mapping[str, Any]],
    properties: Mapping[str, Any] | None = None,
    *,
    projection: bool = True,
) -> dict[str, Any]:
    """A STAC item; `assets` maps keys to addresses, or to whole assets."""
    box = grid.geographic_extent.boundingbox
    edges = [box.left, box.bottom, box.right, box.top]
    ring = [[box.left, box.bottom], [box.right, box.bottom], [box.right, box.top], [box.left, box.bottom]]
    place: dict[str, Any] = {}
    if projection:
        place = {"proj:shape": list(grid.shape), "proj:transform": list(grid.affine)[:6], "proj:epsg": _epsg(grid)}
    kind = {"type": "image/tiff; application=geotiff; profile=cloud-optimized"}
    listed = {key: {"href": one, **kind} if isinstance(one, str) else {**kind, **one} for key, one in assets.items()}
    return {
        "type": "Feature", "stac_version": "1.0.0", "id": name, "bbox": edges, "links": [], "assets": listed,
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"datetime": when, **place, **(properties or {})},
    }  # fmt: skip


def _epsg(grid: GeoBox) -> int | None:
    return None if grid.crs is None else grid.crs.to_epsg()


def blocks(shape: Sequence[int], seed: int = 1) -> np.ndarray:
    """Numbers ``(y, x)`` uint16 like reflectance, with noise that does not compress away."""
    rng = np.random.default_rng(seed)
    y, x = np.ogrid[: shape[0], : shape[1]]
    tile = rng.integers(0, 500, (513, 511), np.uint16)  # odd sides, so that no two blocks are the same
    noise = np.tile(tile, (-(-shape[0] // 513), -(-shape[1] // 511)))[: shape[0], : shape[1]]
    return noise + (8000 + y // 7 % 900).astype(np.uint16) + (x // 11 % 700).astype(np.uint16)
