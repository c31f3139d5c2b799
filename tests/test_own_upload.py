"""Uploads: what is taken, and what is refused in words."""

import io
import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio

from fusion import FusionError
from fusion.sources import _own_store, _own_upload, local
from fusion.sources._own_look import raster
from hdf5_files import hdf5
from own_files import DAYS, SIX, UTM, cia, ground, netcdf, pairs, seen_coarse, write


@pytest.fixture(autouse=True)
def _store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSION_OWN", str(tmp_path / "store"))


def give(path: Path, name: str | None = None) -> tuple[local.Received, ...]:
    with open(path, "rb") as file:
        return local.receive(name or path.name, file, path.stat().st_size)


def tiff(tmp_path: Path, name: str = "L7_2001-05-24.tif") -> bytes:
    return write(tmp_path / name, ground(0, 3), names=SIX[1:4]).read_bytes()


def packed(entries: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> io.BytesIO:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, body in entries.items():
            archive.writestr(name, body)
    out.seek(0)
    return out


def stored() -> list[str]:
    """Names of all files in the store's folders."""
    return sorted(path.name for path in _own_store.folder().rglob("*") if path.is_file())


def refused(words: str, name: str, body: bytes | io.BytesIO, size: int | None = None) -> None:
    """Whatever is refused leaves nothing behind."""
    with pytest.raises(FusionError, match=words):
        local.receive(name, io.BytesIO(body) if isinstance(body, bytes) else body, size)
    assert stored() == []


def test_uploads_make_the_same_data_set_as_their_folder(tmp_path: Path) -> None:
    root = cia(tmp_path / "x")
    uploads = [one for path in sorted(root.rglob("*.tif")) for one in give(path)]
    assert all(one.path.parent == tmp_path / "store/files" for one in uploads)
    assert all(len(one.path.stem) == 64 for one in uploads)  # named by content, never by the user
    key = local.add(local.look(uploads))
    assert key == local.add(local.look(root))
    key = local.add(local.look(uploads))
    for path in root.rglob("*.tif"):
        path.unlink()
    assert np.array_equal(local.series(key)[0].fine.data, (ground(0) * 1e-4).astype(np.float32))


def test_a_zip_keeps_folder_names_for_dates_only(tmp_path: Path) -> None:
    root = cia(tmp_path / "x", "ENVI")
    files = {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    uploads = local.receive("cia.zip", packed({**files, "readme.txt": b"words", "__MACOSX/._x.tif": b"no"}))
    proposal = local.look(uploads)
    assert proposal.complete
    assert [file.name for file in proposal.files][:2] == [
        "2001_281_08oct/20011008_TM.int",
        "2001_281_08oct/MOD09GA_A2001281.int",
    ]
    assert local.add(proposal) == local.add(local.look(root))


def test_netcdf_and_envi_are_taken(tmp_path: Path) -> None:
    (one,) = give(netcdf(tmp_path / "landsat_fine.nc"))
    assert one.path.suffix == ".nc"
    pixels = write(tmp_path / "L7_2001-05-24.dat", ground(0, 3), driver="ENVI")
    body, head = give(pixels), give(pixels.with_suffix(".hdr"))
    assert (body[0].kind, head[0].kind) == ("pixels", "header")
    with pytest.raises(FusionError, match=r"header \.hdr is missing"):
        local.look(body)
    (file,) = local.look([*body, *head]).files
    assert (file.days, file.use, file.shape) == (("2001-05-24",), "fine", (96, 80))


def test_the_name_of_an_upload_is_only_text(tmp_path: Path) -> None:
    body = tiff(tmp_path)
    for name, shown in (
        ("../../etc/passwd", "passwd"),
        ("/etc/L7_2001-05-24.tif", "L7_2001-05-24.tif"),
        ("C:\\data\\L7.tif", "L7.tif"),
        ("a\0b.tif", "a_b.tif"),
        ("\u202e\u0646\u0645\u0648\u0630\u062c.tif", "_\u0646\u0645\u0648\u0630\u062c.tif"),
        ("n" * 5000 + ".tif", "n" * 196 + ".tif"),
        ("..", "unnamed"),
        ("", "unnamed"),
    ):
        (one,) = local.receive(name, io.BytesIO(body))
        assert one.name == shown
        assert one.path.parent == tmp_path / "store/files"
    assert len(stored()) == 1  # the same bytes are kept once


@pytest.mark.parametrize(
    "body",
    [
        b"hello",
        b"<VRTDataset rasterXSize='2' rasterYSize='2'/>",
        b"\x89PNG\r\n\x1a\n" + bytes(50),
        b"%PDF-1.7",
        b"GIF89a",
    ],
)
@pytest.mark.parametrize("name", ["x.tif", "x.vrt", "x.nc"])
def test_another_type_is_refused_whatever_its_name(name: str, body: bytes) -> None:
    refused("no image that is taken here", name, body)


def test_a_broken_or_cut_file_is_refused(tmp_path: Path) -> None:
    body = tiff(tmp_path)
    refused("cannot be read", "x.tif", b"II*\x00" + bytes(200))
    refused("^x.tif cannot be read as GTiff", "x.tif", body[:2000])  # and no name of the store
    refused("cannot be read", "x.nc", b"\x89HDF\r\n\x1a\n\x00\x00\x00\x00\x00\x08\x08\x00" + bytes(200))
    refused("is empty", "x.tif", b"")


def test_bytes_are_bounded_before_and_while_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(io.RawIOBase):
        """A stream that never ends; counts what was taken of it."""

        taken = 0

        def read(self, size: int = -1, /) -> bytes:
            self.taken += size
            return bytes(size)

    stream = Endless()
    with pytest.raises(FusionError, match="10,000,000,000 bytes"):
        local.receive("x.tif", stream, 10_000_000_000)
    assert stream.taken == 0
    monkeypatch.setenv("FUSION_UPLOAD_MB", "3")
    with pytest.raises(FusionError, match="more than 3,145,728 bytes"):
        local.receive("x.tif", stream, 1000)  # the claim is not believed
    assert stream.taken <= 5 * 2**20
    monkeypatch.setenv("FUSION_UPLOAD_MB", "much")
    with pytest.raises(FusionError, match="FUSION_UPLOAD_MB wants"):
        local.receive("x.tif", io.BytesIO(tiff(tmp_path)))
    assert stored() == []


def test_a_small_file_that_claims_many_pixels_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=100_000, height=100_000, count=1, dtype="uint8", tiled=True,
        blockxsize=4096, blockysize=4096, compress="deflate", sparse_ok=True, transform=UTM,
    ):  # fmt: skip
        pass
    assert path.stat().st_size < 100_000
    refused("claims 1 bands of 100000 x 100000 pixels", "x.tif", path.read_bytes())
    refused("claims 1 bands of 100000 x 100000 pixels", "x.nc", hdf5("bomb_earliest"))
    classic = b"CDF\x01" + struct.pack(">7i", 0, 10, 1, 1, 0x78000000, 2**31 - 1, 0) + bytes(100)
    refused("claims a dimension of 2,147,483,647", "x.nc", classic)


def test_one_block_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "strip.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=12_000, height=12_000, count=1, dtype="float64", blockysize=12_000,
        compress="deflate", sparse_ok=True, transform=UTM,
    ):  # fmt: skip
        pass
    refused("written as one block", "x.tif", path.read_bytes())


def test_an_envi_header_that_promises_too_much_is_refused(tmp_path: Path) -> None:
    pixels = write(tmp_path / "L7_2001-05-24.dat", ground(0, 3), driver="ENVI")
    text = pixels.with_suffix(".hdr").read_text()
    for old, new, words in (
        ("lines   = 96", "lines   = 100000", "promises"),
        ("header offset = 0", "header offset = 0\nfile compression = 1", "compressed"),
        ("data type = 2", "data type = 99", "no usable"),
    ):
        assert old in text
        uploads = [*give(pixels), *local.receive("L7_2001-05-24.hdr", io.BytesIO(text.replace(old, new).encode()))]
        with pytest.raises(FusionError, match=words):
            local.look(uploads)
    refused_size = b"ENVI\n" + b" " * 2_000_000
    with pytest.raises(FusionError, match="too long for an ENVI header"):
        local.receive("x.hdr", io.BytesIO(refused_size))


def test_no_value_and_one_pixel_are_refused(tmp_path: Path) -> None:
    nothing = write(tmp_path / "a.tif", np.full((2, 20, 30), np.nan, np.float32))
    refused("no pixel with a value", "a.tif", nothing.read_bytes())
    refused("1 x 1 pixels", "b.tif", write(tmp_path / "b.tif", np.ones((1, 1, 1), np.int16)).read_bytes())
    refused("complex", "c.tif", write(tmp_path / "c.tif", np.ones((1, 4, 5), np.complex64)).read_bytes())


@pytest.mark.parametrize(
    "name",
    [
        "list_earliest",
        "list_latest",
        "virtual_earliest",
        "virtual_latest",
        "link_earliest",
        "link_latest",
        "links_latest",
    ],
)
def test_netcdf_that_would_show_another_file_is_refused(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.bin").write_bytes(bytes(range(256)))
    (tmp_path / "secret.nc").write_bytes(hdf5("plain_earliest"))
    (tmp_path / "x.nc").write_bytes(hdf5(name))
    if name != "links_latest":
        layer = "" if name.startswith(("list", "virtual")) else "red"
        with raster("x.nc", "netCDF", layer) as file:
            assert sorted(file.read(1).ravel()) == list(range(256))  # so this is what a stranger would see
    with pytest.raises(FusionError, match="refers to other files"):
        give(tmp_path / "x.nc")
    assert stored() == []


@pytest.mark.parametrize("name", ["plain_earliest", "plain_latest"])
def test_netcdf4_that_takes_nothing_from_elsewhere_is_taken(name: str) -> None:
    (one,) = local.receive("x.nc", io.BytesIO(hdf5(name)))
    assert one.path.suffix == ".nc"


def test_links_hidden_in_a_packed_heap_are_refused() -> None:
    body = bytearray(hdf5("links_latest"))
    at = body.find(b"FRHP")
    assert at > 0
    body[at + 7] = 12  # length of the heap's filters
    body = body.replace(b"\x00secret.nc\x00", b"\x00" + bytes(9) + b"\x00")  # as if packed
    refused("refers to other files", "x.nc", bytes(body))


def test_zips_that_are_not_safe_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = tiff(tmp_path)
    for name in ("../x.tif", "/etc/x.tif", "a/../../x.tif", "C:\\x.tif", "..\\x.tif"):
        refused("leads out of it", "x.zip", packed({name: body}))
    refused("an archive within a zip", "x.zip", packed({"y.zip": packed({"x.tif": body}).getvalue()}))
    refused("a zip within a zip", "x.zip", packed({"y.tif": packed({"x.tif": body}).getvalue()}))
    refused("unpacks from", "x.zip", packed({"x.tif": bytes(50_000_000)}))  # zeros pack 1000 times
    refused("holds no image", "x.zip", packed({"readme.txt": b"words"}))
    refused("1001 files", "x.zip", packed({f"{i}.tif": b"" for i in range(1001)}))
    refused("cannot be unpacked", "x.zip", packed({"x.tif": body}).getvalue()[:-40])
    link = zipfile.ZipInfo("x.tif")
    link.external_attr = 0o120777 << 16
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(link, "/etc/passwd")
    refused("a link instead of a file", "x.zip", out.getvalue())
    monkeypatch.setenv("FUSION_UPLOAD_MB", "1")
    noise = np.random.default_rng(0).bytes(400_000)
    refused("at most 1,048,576", "x.zip", packed({f"{i}.tif": bytes(600_000) + noise for i in range(2)}))


def test_a_zip_whose_sizes_lie_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSION_UPLOAD_MB", "1")
    body = bytearray(packed({"x.tif": bytes(3_000_000)}).getvalue())
    small = struct.pack("<I", 1000)
    assert body.count(struct.pack("<I", 3_000_000)) == 2
    refused("cannot be unpacked|more than", "x.zip", bytes(body.replace(struct.pack("<I", 3_000_000), small)))


def test_uploads_not_used_for_longest_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    monkeypatch.setenv("FUSION_OWN_MB", "1")
    kept = []
    for i in range(4):
        data = rng.integers(0, 3000, (1, 400, 500), dtype=np.int16)  # 400 kB each
        (one,) = give(write(tmp_path / f"L7_2001-05-0{i + 1}.tif", data))
        os.utime(one.path, (1000 + i, 1000 + i))
        kept.append(one.path)
    assert [path.exists() for path in kept] == [False, False, True, True]
    assert sum(path.stat().st_size for path in (tmp_path / "store/files").iterdir()) <= 2**20


def test_a_data_set_says_when_its_uploads_are_gone(tmp_path: Path) -> None:
    root = pairs(tmp_path / "x")
    uploads = [one for path in sorted(root.rglob("*.tif")) for one in give(path)]
    key = local.add(local.look(uploads))
    uploads[0].path.unlink()
    with pytest.raises(FusionError, match="is no longer there; uploads that were not used for long make room"):
        local.series(key)
    again = [one for path in sorted(root.rglob("*.tif")) for one in give(path)]
    assert local.add(local.look(again)) == key
    assert len(local.series(key)) == 2


def test_the_store_never_holds_a_name_of_the_user(tmp_path: Path) -> None:
    give(write(tmp_path / "my-secret-field.tif", ground(0, 3), names=SIX[1:4]))
    assert not any("secret" in name for name in stored())
    assert _own_upload.clean_name("\ud800x.tif") == "_x.tif"


def test_raw_pixels_that_nobody_claims_do_not_stay_for_ever(tmp_path: Path) -> None:
    body = seen_coarse(ground(0, 1), 8).tobytes()
    (one,) = local.receive(f"MODIS_{DAYS[0]}.dat", io.BytesIO(body))
    os.utime(one.path, (1000, 1000))
    local.receive("L7_2001-05-24.tif", io.BytesIO(tiff(tmp_path)))
    assert not one.path.exists()
