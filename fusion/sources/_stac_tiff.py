"""Windows of GeoTIFFs on the web, by asking for just the bytes of the blocks that they touch.

GDAL can read files on the web by itself, but its HTTP client follows redirects without asking where to, and may take a
file that calls itself ``.tif`` for a list of other files (VRT). So the table of a TIFF is read here, the blocks are
fetched with requests that are judged one by one, and GDAL decodes a small TIFF in memory that holds those blocks and
nothing else. The bytes are known before they are asked for.

Structure: TIFF 6.0 (Adobe, 1992), BigTIFF, and the order of a Cloud Optimized GeoTIFF (OGC 21-026).
"""

import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from odc.geo.geobox import GeoBox
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile

from ..errors import FusionError
from . import _stac_web as web

HEAD = 2**15  # bytes that are asked for at a time while reading the table
GAP = 2**14  # bytes between two blocks that are fetched along, to save a request
PIECE = 2**23  # bytes of one request
MOST = 2**28  # bytes of one window
SIDES = 200_000  # pixels
DECODED = 2**26  # pixels of the blocks of one window
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 16: 8, 17: 8}  # by TIFF type
_NUMBERS = {1: "u1", 3: "u2", 4: "u4", 16: "u8"}
_CODING = (258, 259, 262, 266, 277, 284, 317, 339, 347, 42113, 50674)  # how blocks are coded; nodata; LERC
_PLACE = (33550, 33922, 34264, 34735, 34736, 34737)  # pixel size, tie point, matrix, CRS

Tags = Mapping[int, tuple[int, int, bytes]]  # number -> type, count, bytes


@dataclass(frozen=True, eq=False)
class Level:
    """One image of a file: the full one or an overview."""

    height: int
    width: int
    block: tuple[int, int]  # (y, x)
    tiled: bool
    offsets: np.ndarray  # (block,) bytes from the beginning
    counts: np.ndarray  # (block,) bytes
    tags: Tags

    @property
    def grid(self) -> tuple[int, int]:
        """Blocks down and across."""
        return -(-self.height // self.block[0]), -(-self.width // self.block[1])


class Tiff:
    """A GeoTIFF with one band, at an address.

    Parameters
    ----------
    name : str
        What errors call it.
    ask : callable
        ``ask(first, last)`` returns bytes of the file, both ends included, or fewer where it ends, and its size.
    """

    def __init__(self, name: str, ask: Callable[[int, int], tuple[bytes, int]]) -> None:
        self.name, self._ask = name, ask
        self._head: dict[int, bytes] = {}
        self.size = 0
        self.order, self.levels = self._table()
        self._head.clear()

    @cached_property
    def geobox(self) -> GeoBox:
        """Grid of the full image, as GDAL understands the file's place."""
        full = self.levels[0]
        if not (33922 in full.tags and 33550 in full.tags) and 34264 not in full.tags:
            raise self._nowhere()
        none = np.zeros(full.grid[0] * full.grid[1], np.uint64)
        with self._opened(full, (full.height, full.width), none, none, b"") as file:
            sound = [1e-9 < abs(file.transform[at]) < 1e9 for at in (0, 4)]
            if file.crs is None or not all(sound) or not np.isfinite(file.transform[:6]).all():
                raise self._nowhere()
            return GeoBox(file.shape, file.transform, file.crs.to_wkt())

    def _nowhere(self) -> FusionError:
        return FusionError(f"{self.name} does not say where on the ground it lies: take another image.")

    def level(self, factor: float) -> Level:
        """Coarsest image whose pixels are at most `factor` times those of the full one."""
        full = self.levels[0]
        return min(
            (one for one in self.levels if full.width / one.width <= max(factor, 1) * 1.01), key=lambda one: one.width
        )

    def read(self, level: Level, rows: slice, columns: slice) -> np.ndarray:
        """Return the numbers ``(y, x)`` of a window inside the image."""
        blocks_y, blocks_x = (
            range(part.start // side, -(-part.stop // side))
            for part, side in zip((rows, columns), level.block, strict=True)
        )
        index = np.array([y * level.grid[1] + x for y in blocks_y for x in blocks_x])
        offsets, counts = level.offsets[index], level.counts[index]
        top, left = blocks_y.start * level.block[0], blocks_x.start * level.block[1]
        shape = (
            min(len(blocks_y) * level.block[0], level.height - top),
            min(len(blocks_x) * level.block[1], level.width - left),
        )
        if len(index) * level.block[0] * level.block[1] > DECODED or int(counts.sum()) > MOST:
            raise FusionError(
                f"{self.name} has blocks too large to read a part of it: it is no cloud-optimized GeoTIFF."
            )
        data, starts = self._fetch(offsets, counts)
        self._check(level, data, starts, counts)
        window = tuple(slice(part.start - low, part.stop - low) for part, low in ((rows, top), (columns, left)))
        with self._opened(level, shape, starts, counts, data) as file:
            out: np.ndarray = file.read(1)[window]
        return out

    def _fetch(self, offsets: np.ndarray, counts: np.ndarray) -> tuple[bytes, np.ndarray]:
        """Bytes of some blocks one after the other, and where each begins; neighbours come in one request."""
        wanted = [(int(o), int(n)) for o, n in zip(offsets, counts, strict=True) if n]
        if any(start + size > self.size for start, size in wanted):
            raise FusionError(f"{self.name} ends before its own table says ({self.size:,} bytes): it is cut short.")
        runs: list[list[int]] = []
        for start, size in sorted(wanted):
            if runs and start - runs[-1][1] <= GAP and start + size - runs[-1][0] <= PIECE:
                runs[-1][1] = max(runs[-1][1], start + size)
            else:
                runs.append([start, start + size])
        pieces = web.together(lambda run: self._exactly(run[0], run[1] - run[0]), runs)
        firsts = np.array([run[0] for run in runs], np.int64)
        base = np.cumsum([0, *(len(piece) for piece in pieces)])
        starts = np.zeros(len(offsets), np.uint64)
        for number, (start, size) in enumerate(zip(offsets, counts, strict=True)):
            if size:
                run = int(np.searchsorted(firsts, int(start), "right")) - 1
                starts[number] = base[run] + int(start) - firsts[run]
        return b"".join(pieces), starts

    def _check(self, level: Level, data: bytes, starts: np.ndarray, counts: np.ndarray) -> None:
        """Compare deflated blocks with their checksums: GDAL stops before them where it has all the pixels it wants."""
        if self._values(self.order, level.tags, 259)[:1].tolist() not in ([8], [32946]):
            return
        most = level.block[0] * level.block[1] * 8
        for start, size in zip(starts.tolist(), counts.tolist(), strict=True):
            inflate = zlib.decompressobj()
            try:
                whole = not size or (inflate.decompress(data[start : start + size], most) and inflate.eof)
            except zlib.error:
                whole = False
            if not whole:
                raise damaged(self.name)

    def _exactly(self, start: int, size: int) -> bytes:
        data, _ = self._ask(start, start + size - 1)
        if len(data) != size:
            raise FusionError(
                f"{self.name} ends early: {size:,} bytes were wanted, {len(data):,} came. Try again later."
            )
        return data

    def _opened(
        self, level: Level, shape: tuple[int, int], offsets: np.ndarray, counts: np.ndarray, data: bytes
    ) -> Any:
        return _Opened(self.name, _small(self.order, level, self.levels[0].tags, shape, offsets, counts, data))

    # What follows reads the table.

    def _bytes(self, start: int, size: int) -> bytes:
        """Bytes of the file's head, in pieces that are asked for once."""
        if size > 2**26 or (self.size and start + size > self.size):
            raise self._broken()
        out = b""
        for number in range(start // HEAD, -(-(start + size) // HEAD)):
            if number not in self._head:
                if len(self._head) > 64 and size <= HEAD:
                    raise self._broken()
                self._head[number], self.size = self._ask(number * HEAD, (number + 1) * HEAD - 1)
            out += self._head[number]
        low = start % HEAD
        if len(out) < low + size:
            raise self._broken()
        return out[low : low + size]

    def _broken(self) -> FusionError:
        return FusionError(f"{self.name} is no GeoTIFF, or damaged: take another image, or try again later.")

    def _table(self) -> tuple[str, tuple[Level, ...]]:
        """Byte order and images, the full one first."""
        head = self._bytes(0, 16)
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        if order is None:
            raise self._broken()
        magic = struct.unpack(order + "H", head[2:4])[0]
        if magic not in (42, 43):
            raise self._broken()
        big = magic == 43
        place = struct.unpack(order + ("Q" if big else "I"), head[8:16] if big else head[4:8])[0]
        levels: list[Level] = []
        for _ in range(32):
            if not place:
                break
            tags, place = self._directory(order, place, big)
            kind = self._values(order, tags, 254)[:1]
            if not (kind.size and int(kind[0]) & 4):  # 4 = a mask; quality bands say what is missing
                levels.append(self._level(order, tags))
        if not levels or any(one.width > levels[0].width for one in levels):
            raise self._broken()
        return order, tuple(levels)

    def _directory(self, order: str, place: int, big: bool) -> tuple[Tags, int]:
        wide, entry = (8, 20) if big else (2, 12)
        count = struct.unpack(order + ("Q" if big else "H"), self._bytes(place, wide))[0]
        if count > 4096:
            raise self._broken()
        body = self._bytes(place + wide, count * entry + (8 if big else 4))
        tags: dict[int, tuple[int, int, bytes]] = {}
        for at in range(0, count * entry, entry):
            number, kind, values = struct.unpack(
                order + ("HHQ" if big else "HHI"), body[at : at + entry - (8 if big else 4)]
            )
            size, inline = _SIZES.get(kind, 0) * values, body[at + entry - (8 if big else 4) : at + entry]
            if number not in (*_CODING, *_PLACE, 254, 256, 257, 273, 278, 279, 322, 323, 324, 325):
                continue
            if size > len(inline):
                inline = self._bytes(struct.unpack(order + ("Q" if big else "I"), inline)[0], size)
            tags[number] = kind, values, inline[:size]
        return tags, struct.unpack(order + ("Q" if big else "I"), body[count * entry :])[0]

    def _values(self, order: str, tags: Tags, number: int) -> np.ndarray:
        if number not in tags or tags[number][0] not in _NUMBERS:
            return np.zeros(0, np.int64)
        return np.frombuffer(tags[number][2], order + _NUMBERS[tags[number][0]]).astype(np.int64)

    def _level(self, order: str, tags: Tags) -> Level:
        def one(number: int, default: int | None = None) -> int:
            found = self._values(order, tags, number)
            if not found.size and default is None:
                raise self._broken()
            return int(found[0]) if found.size else int(default or 0)

        if one(277, 1) != 1:
            raise FusionError(f"{self.name} holds {one(277)} bands in one, wanted is one band: take another catalogue.")
        height, width, tiled = one(257), one(256), 322 in tags
        block = (one(323), one(322)) if tiled else (min(one(278, height), height), width)
        offsets, counts = (self._values(order, tags, number) for number in ((324, 325) if tiled else (273, 279)))
        sound = 0 < height <= SIDES and 0 < width <= SIDES and min(block) > 0 and max(block) <= SIDES
        if not sound or not len(offsets) == len(counts) == -(-height // block[0]) * -(-width // block[1]):
            raise self._broken()
        if offsets.min() < 0 or counts.min() < 0:
            raise self._broken()
        return Level(height, width, block, tiled, offsets, counts, tags)


def damaged(name: str) -> FusionError:
    """Return the error of a file whose blocks do not decode."""
    return FusionError(f"{name} cannot be decoded: it is damaged. Take another image, or try again later.")


class _Opened:
    """A TIFF in memory, opened by GDAL's GeoTIFF driver and no other."""

    def __init__(self, name: str, data: bytes) -> None:
        self.name, self.memory = name, MemoryFile(data)

    def __enter__(self) -> Any:
        try:
            self.file = self.memory.open(driver="GTiff", sharing=False)
        except (RasterioError, UnicodeDecodeError) as error:
            self.memory.close()
            raise damaged(self.name) from error
        return self.file

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self.file.close()
        self.memory.close()
        if isinstance(error, RasterioError):
            raise damaged(self.name) from error


def _small(
    order: str, level: Level, main: Tags, shape: tuple[int, int], offsets: np.ndarray, counts: np.ndarray, data: bytes
) -> bytes:
    """A BigTIFF of some blocks of an image: the same coding, another table."""
    tags = {number: level.tags[number] for number in _CODING if number in level.tags}
    tags |= {number: main[number] for number in _PLACE if number in main}
    sides = {256: shape[1], 257: shape[0]}
    sides |= {322: level.block[1], 323: level.block[0]} if level.tiled else {278: level.block[0]}
    tags |= {number: (4, 1, struct.pack(order + "I", value)) for number, value in sides.items()}
    where, sizes = (324, 325) if level.tiled else (273, 279)
    start = 16 + 8 + 20 * (len(tags) + 2) + 8
    extra = sum(len(value) + 8 for _, _, value in tags.values() if len(value) > 8) + 16 * (len(counts) + 1)
    base = start + extra
    moved = np.where(counts > 0, offsets.astype(np.uint64) + np.uint64(base), np.uint64(0))
    tags[where] = 16, len(moved), moved.astype(order + "u8").tobytes()
    tags[sizes] = 16, len(counts), counts.astype(order + "u8").tobytes()
    out = bytearray((b"II" if order == "<" else b"MM") + struct.pack(order + "HHHQ", 43, 8, 0, 16))
    out += struct.pack(order + "Q", len(tags))
    values = bytearray()
    for number in sorted(tags):
        kind, count, value = tags[number]
        out += struct.pack(order + "HHQ", number, kind, count)
        if len(value) <= 8:
            out += value.ljust(8, b"\0")
        else:
            out += struct.pack(order + "Q", start + len(values))
            values += value + bytes(-len(value) % 8)
    out += struct.pack(order + "Q", 0) + values
    return bytes(out.ljust(base, b"\0")) + data
