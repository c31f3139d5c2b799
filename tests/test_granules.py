"""The shared reader of remote images: native tiles, kept on disk, cleaned, warped once."""

import tracemalloc
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from fusion import PRODUCTS, FusionError, Product
from fusion._pulse import PULSE, Pulse
from fusion.area import grid as grid_of
from fusion.area import rectangle
from fusion.errors import Cancelled
from fusion.products import Rule
from fusion.scene import Scene
from fusion.sources import _granules
from fusion.sources._granules import Granule, mosaic, native_windows
from fusion.sources._regrid import regrid

DAY = date(2020, 7, 1)
SINUSOIDAL = "+proj=sinu +lon_0=0 +x_0=0 +y_0=0 +R=6371007.181 +units=m +no_defs"
ROW = Product(
    "p", "here", "P", "fine", ("red", "nir"), 30, "observed", "-", "-", scale=1e-4, fill=0, valid=(1, 16000),
    native=("B4", "B5"), rules=(Rule("cloud", "QA", bad=(1,)),),
)  # fmt: skip


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSION_CACHE", str(tmp_path / "cache"))


class Provider:
    """Numbers of one image that were never asked for twice; tiles asked for are written down."""

    def __init__(self, geobox: GeoBox, key: str = "a", seed: int = 0, row: Product = ROW) -> None:
        rng = np.random.default_rng(seed)
        self.numbers = {name: rng.integers(200, 4000, geobox.shape).astype(np.uint16) for name in ("B4", "B5")}
        self.numbers["QA"] = np.zeros(geobox.shape, np.uint8)
        self.geobox, self.asked = geobox, []
        self.broken: set[tuple[int, int]] = set()
        self.granule = Granule(key, geobox, row, self.fetch)

    def fetch(self, tile: GeoBox, names: Sequence[str]) -> dict[str, np.ndarray]:
        column, row = (round(value) for value in self.geobox.wld2pix(*tile.pix2wld(0, 0)))
        assert max(tile.shape) <= _granules.TILE and row >= 0 and column >= 0
        if (row, column) in self.broken:
            raise FusionError("the line was cut")
        self.asked.append((row, column, *tile.shape))
        return {name: self.numbers[name][row : row + tile.shape[0], column : column + tile.shape[1]] for name in names}


def utm(height: int = 300, width: int = 400, x: float = 600_015, y: float = 5_100_015) -> GeoBox:
    return GeoBox((height, width), Affine(30, 0, x, 0, -30, y), "EPSG:32633")


def test_own_pixels_are_taken_as_they_are() -> None:
    here = Provider(utm())
    asked = here.geobox[70:150, 33:190]
    scene = mosaic([here.granule], asked, ("nir", "red"), DAY)
    assert scene.geobox == asked and scene.bands == ("nir", "red") and scene.day == DAY
    for band, name in zip(scene.data, ("B5", "B4"), strict=True):
        np.testing.assert_allclose(band, here.numbers[name][70:150, 33:190] * 1e-4, rtol=1e-6)


def test_few_more_pixels_are_read_than_wanted() -> None:
    here = Provider(utm())
    mosaic([here.granule], here.geobox[70:150, 33:190], ("red",), DAY)
    pixels = sum(height * width for _, _, height, width in here.asked)
    assert 80 * 157 <= pixels <= (80 + 72) * (157 + 72)  # a margin of 4 and the lattice of 32 on either side


def test_the_second_read_asks_nothing_and_gives_the_same(tmp_path: Path) -> None:
    here, again = Provider(utm()), Provider(utm())
    again.broken = {(y, x) for y in range(300) for x in range(400)}  # no network any more
    asked = here.geobox[70:150, 33:190]
    first = mosaic([here.granule], asked, ("red",), DAY)
    np.testing.assert_array_equal(mosaic([again.granule], asked, ("red",), DAY).data, first.data)
    assert not again.asked
    moved = GeoBox(asked.shape, Affine.translation(25, -40) @ asked.affine, asked.crs)  # an alignment reads there
    assert np.isfinite(mosaic([again.granule], moved, ("red",), DAY).data).all()


def test_other_bands_or_another_image_are_no_hit() -> None:
    here, other = Provider(utm()), Provider(utm(), key="b", seed=1)
    asked = here.geobox[70:150, 33:190]
    one = mosaic([here.granule], asked, ("red",), DAY)
    assert not np.array_equal(mosaic([other.granule], asked, ("red",), DAY).data, one.data)
    assert mosaic([here.granule], asked, ("nir",), DAY).data[0, 0, 0] == np.float32(here.numbers["B5"][70, 33] * 1e-4)


def test_a_reading_that_broke_off_goes_on_where_it_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_granules, "TILE", 64)
    monkeypatch.setattr(_granules, "AT_ONCE", 1)
    here = Provider(utm())
    asked = here.geobox[4:124, 4:252]  # 2 x 4 tiles
    here.broken = {(64, 64)}
    with pytest.raises(FusionError, match="the line was cut"):
        mosaic([here.granule], asked, ("red",), DAY)
    done, here.broken, here.asked = set(here.asked), set(), []
    scene = mosaic([here.granule], asked, ("red",), DAY)
    assert done and not done & set(here.asked) and len(done) + len(here.asked) == 8
    np.testing.assert_allclose(scene.data[0], here.numbers["B4"][4:124, 4:252] * 1e-4, rtol=1e-6)


def test_a_large_window_is_read_in_tiles_that_fit_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_granules, "TILE", 96)
    here = Provider(utm())
    scene = mosaic([here.granule], here.geobox, ("red",), DAY)
    np.testing.assert_allclose(scene.data[0], here.numbers["B4"] * 1e-4, rtol=1e-6)
    assert len(here.asked) == 4 * 5


def test_neighbouring_images_make_one() -> None:
    whole = utm()
    left, right = Provider(whole[:, :220], "left", 1), Provider(whole[:, 180:], "right", 2)
    left.numbers["B4"][100:110, 100:110] = 0  # a gap
    asked = whole[90:120, 90:300]
    out = mosaic([left.granule, right.granule], asked, ("red",), DAY).data[0] / 1e-4
    np.testing.assert_allclose(out[:, 130:], right.numbers["B4"][90:120, 40:120], rtol=1e-5)  # where there is only one
    np.testing.assert_allclose(out[:10, :130], left.numbers["B4"][90:100, 90:220], rtol=1e-5)  # the first counts
    assert np.isnan(out[10:20, 10:20]).all()


def test_what_no_image_has_is_missing_never_zero() -> None:
    here = Provider(utm())
    beyond = GeoBox((50, 60), here.geobox.affine @ Affine.translation(370, 280), here.geobox.crs)
    out = mosaic([here.granule], beyond, ("red", "nir"), DAY).data
    assert np.isfinite(out[:, :20, :30]).all() and np.isnan(out[:, 20:]).all() and np.isnan(out[:, :, 30:]).all()
    far = GeoBox((5, 6), here.geobox.affine @ Affine.translation(9000, 0), here.geobox.crs)
    assert np.isnan(mosaic([here.granule], far, ("red",), DAY).data).all()
    assert np.isnan(mosaic([], far, ("red",), DAY).data).all()


def test_clouds_are_missing_and_do_not_colour_their_neighbours() -> None:
    here = Provider(utm())
    here.numbers["B4"][:] = 1000
    here.numbers["B4"][50:60, 80:100] = 9000
    here.numbers["QA"][50:60, 80:100] = 1
    turned = here.geobox[30:90, 60:130].to_crs("EPSG:32632")  # another zone: every pixel is interpolated
    out = mosaic([here.granule], turned, ("red",), DAY).data
    assert np.isnan(out).sum() > 150 and np.nanmax(out) == pytest.approx(0.1, abs=1e-4)


def test_sinusoidal_pixels_land_where_they_belong() -> None:
    """A bright spot drawn at a known place of the MODIS grid is found there in UTM, within half a coarse pixel."""
    side, (east, north) = 463.312716528, (1_112_000.0, 5_110_000.0)  # about 14 E, 46 N
    native = GeoBox((200, 240), Affine(side, 0, east, 0, -side, north), SINUSOIDAL)
    here = Provider(native)
    here.numbers["B4"][:] = 500
    here.numbers["B4"][90:93, 130:133] = 6000
    x, y = native.crs.transformer_to_crs("EPSG:32633")(*native.pix2wld(131.5, 91.5))
    asked = GeoBox((30, 36), Affine(480, 0, x - 20.3 * 480, 0, -480, y + 11.6 * 480), "EPSG:32633")
    out = mosaic([here.granule], asked, ("red",), DAY).data[0]
    weight = out - np.nanmedian(out)
    rows, columns = np.indices(out.shape) + 0.5
    assert abs((weight * columns).sum() / weight.sum() - 20.3) < 0.5
    assert abs((weight * rows).sum() / weight.sum() - 11.6) < 0.5
    assert np.isfinite(out).all()


def test_much_larger_pixels_are_means_and_half_missing_is_missing() -> None:
    data = np.arange(64, dtype=np.float32).reshape(1, 8, 8) / 64
    data[0, :4, :2] = np.nan  # half of the first large pixel
    data[0, 4:, :1] = np.nan  # a quarter of the one below
    scene = Scene(data, utm(8, 8), ("red",), DAY)
    out = regrid(scene, scene.geobox.zoom_out(4)).data[0]
    assert np.isnan(out[0, 0]) and out[1, 0] == pytest.approx(np.nanmean(data[0, 4:, :4]), rel=1e-5)
    assert out[0, 1] == pytest.approx(data[0, :4, 4:].mean(), rel=1e-5)


def test_digital_numbers_in_place_of_reflectance_are_refused() -> None:
    here = Provider(utm(), row=Product(**{**ROW.__dict__, "scale": 1.0}))
    with pytest.raises(FusionError, match="numbers of 10,000 for 1"):
        mosaic([here.granule], here.geobox[:40, :40], ("red",), DAY)


def test_progress_goes_from_tile_to_tile_and_a_reading_can_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_granules, "TILE", 64)
    monkeypatch.setattr(_granules, "AT_ONCE", 1)
    here, pulse = Provider(utm()), Pulse()
    seen: list[float] = []
    fetch = here.fetch

    def slow(tile: GeoBox, names: Sequence[str]) -> dict[str, np.ndarray]:
        seen.append(pulse.fraction)
        pulse.stopped = len(seen) == 7
        return fetch(tile, names)

    token = PULSE.set(pulse)
    try:
        with pytest.raises(Cancelled):
            mosaic([Granule("slow", here.geobox, ROW, slow)], here.geobox, ("red",), DAY)
    finally:
        PULSE.reset(token)
    assert len(seen) == 7 and seen == sorted(seen) and 0 < max(seen) < 0.3


def test_a_grid_without_crs_is_refused() -> None:
    here = Provider(utm())
    with pytest.raises(FusionError, match="without a CRS"):
        mosaic([here.granule], GeoBox((5, 5), here.geobox.affine, None), ("red",), DAY)


def test_windows_end_on_a_lattice_and_inside_the_image() -> None:
    native = utm()
    assert native_windows(native, native[70:150, 33:190]) == ((slice(64, 160), slice(0, 224)),)
    assert native_windows(native, native[290:300, 390:400]) == ((slice(256, 300), slice(384, 400)),)
    assert native_windows(native, utm(x=900_015)) == ()


# The grid of MODIS's global sinusoidal collections, as Earth Engine has them.
WORLD = GeoBox((43200, 86400), Affine(463.312716528, 0, -20015109.354, 0, -463.312716528, 10007554.677), SINUSOIDAL)


def coarse_grid(*bounds: float) -> GeoBox:
    """Coarse grid of an area for Landsat and MODIS, as a recipe has it."""
    box, ratio = grid_of(rectangle(*bounds), PRODUCTS["earthengine", "landsat"], PRODUCTS["earthengine", "mcd43a4"])
    return box.zoom_out(ratio)


@pytest.mark.parametrize(
    ("bounds", "count"),
    [
        ((179.9, -17, 180, -16.9), 2), ((-180, -17, -179.9, -16.9), 2), ((179.9, 65, 180, 65.1), 2),
        ((170, 65, 170.2, 65.1), 1), ((179.7, -17, 179.8, -16.9), 1), ((14, 45, 14.1, 45.1), 1),
    ],
)  # fmt: skip
def test_a_window_near_the_end_of_the_world_is_no_larger_than_elsewhere(
    bounds: tuple[float, float, float, float], count: int
) -> None:
    found = native_windows(WORLD, coarse_grid(*bounds))
    assert len(found) == count
    assert sum((rows.stop - rows.start) * (columns.stop - columns.start) for rows, columns in found) <= 96 * 256


def test_an_image_that_does_not_end_there_has_one_window_at_the_180th_meridian() -> None:
    fine = GeoBox((300, 300), Affine(30, 0, 815_000, 0, -30, 8_120_000), "EPSG:32760")  # 17 S, across 180 E
    there = GeoBox((900, 900), Affine(30, 0, 165_000, 0, -30, 8_129_000), "EPSG:32701")  # the zone beyond
    assert len(native_windows(there, fine)) == 1
    tile = WORLD[24000:26400, 43200:45600]  # a tile of MODIS at Greenwich
    assert native_windows(tile, coarse_grid(179.9, -17, 180, -16.9)) == ()


@pytest.mark.parametrize("bounds", [(179.9, -17, 180, -16.9), (-180, -17, -179.9, -16.9), (179.9, 65, 180, 65.1)])
def test_pixels_on_both_sides_of_the_180th_meridian_land_where_they_belong(
    bounds: tuple[float, float, float, float],
) -> None:
    """Reflectance is drawn as a function of the place, which has no jump at 180 degrees."""
    box = coarse_grid(*bounds)

    def drawn(grid: GeoBox) -> np.ndarray:
        x, y = np.meshgrid(np.arange(grid.shape[1]) + 0.5, np.arange(grid.shape[0]) + 0.5)
        longitude, latitude = grid.crs.transformer_to_crs("EPSG:4326")(*(grid.affine @ (x, y)))
        out: np.ndarray = 1000 + 4000 * ((np.asarray(longitude) + 0.2) % 360 - 180) + 3000 * (latitude - bounds[1])
        return out  # infinite where the projection has no place

    def fetch(tile: GeoBox, names: Sequence[str]) -> dict[str, np.ndarray]:
        numbers = drawn(tile)
        numbers = np.where((numbers > 0) & (numbers < 16000), numbers, 0)
        return {name: np.zeros(tile.shape, np.uint8) if name == "QA" else numbers.astype(np.uint16) for name in names}

    out = mosaic([Granule("world", WORLD, ROW, fetch)], box, ("red",), DAY).data[0] / 1e-4
    assert np.isnan(out).mean() < 0.1 and abs(np.nanmedian(out - drawn(box))) < 10
    assert np.nanpercentile(abs(out - drawn(box)), 95) < 25  # half a coarse pixel is 10 to 20


CLEAR = {"QA_PIXEL": 21824, "QA_RADSAT": 0}


def landsat(numbers: dict[str, int], clear: int | None = None) -> Granule:
    """A Landsat image of one number per band, of which the first `clear` pixels of one row are no cloud."""
    row = PRODUCTS["earthengine", "landsat"]

    def fetch(tile: GeoBox, names: Sequence[str]) -> dict[str, np.ndarray]:
        out = {name: np.full(tile.shape, {**CLEAR, **numbers}[name], np.uint16) for name in names}
        if clear is not None:
            out["QA_PIXEL"].flat[clear:] = 22280
        return out

    return Granule(f"{numbers}{clear}", utm(96, 96), row, fetch)


def test_dark_scenes_are_read() -> None:
    water = {name: 7309 for name in PRODUCTS["earthengine", "landsat"].native}  # .001
    sea = mosaic([landsat(water)], utm(96, 96), ("nir", "swir1", "swir2"), DAY)
    np.testing.assert_allclose(sea.data, 0.001, atol=2e-5)
    few = mosaic([landsat(water, clear=3)], utm(96, 96), ("red", "nir"), DAY)
    assert np.isfinite(few.data).sum() == 6


def test_a_few_bright_values_are_no_mistake_of_units() -> None:
    row = Product(**{**ROW.__dict__, "scale": 1e-3})  # numbers up to 3.9
    here = Provider(utm(), row=row)
    here.numbers["QA"][:], here.numbers["QA"][0, :99] = 1, 0
    assert np.isfinite(mosaic([here.granule], here.geobox, ("red",), DAY).data).sum() == 99
    here.numbers["QA"][0, :120] = 0
    again = Granule("more", here.geobox, row, here.fetch)
    with pytest.raises(FusionError, match="wants reflectance"):
        mosaic([again], here.geobox, ("red",), DAY)


@pytest.mark.parametrize(("shift", "most"), [(0.0, 1.6), (0.4, 2.9)])
def test_reading_holds_little_beside_its_result(shift: float, most: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """One image whose pixels are the same is filled in place; one that is warped is held once beside the result."""
    monkeypatch.setattr(_granules, "TILE", 128)
    monkeypatch.setenv("FUSION_CACHE", "off")
    row, native = PRODUCTS["earthengine", "landsat"], utm(1100, 1100)

    def fetch(tile: GeoBox, names: Sequence[str]) -> dict[str, np.ndarray]:
        return {name: np.full(tile.shape, CLEAR.get(name, 9000), np.uint16) for name in names}

    asked = native[40:1064, 40:1064]
    asked = GeoBox(asked.shape, asked.affine @ Affine.translation(shift, shift), asked.crs)
    tracemalloc.start()
    try:
        scene = mosaic([Granule("one", native, row, fetch)], asked, row.bands, DAY)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert np.isfinite(scene.data).all() and peak < most * scene.data.nbytes


def test_a_band_that_is_missing_alone_spoils_no_other() -> None:
    data = np.full((2, 40, 40), 0.1, np.float32)
    data[1] = 0.3
    data[1, 10:20, 10:20] = np.nan
    scene = Scene(data, utm(40, 40), ("red", "nir"), DAY)
    moved = GeoBox((30, 30), scene.geobox.affine @ Affine.translation(5.4, 5.4), scene.geobox.crs)
    red, nir = regrid(scene, moved).data
    np.testing.assert_allclose(red, 0.1, atol=1e-6)
    assert 64 <= np.isnan(nir).sum() <= 121 and abs(nir[np.isfinite(nir)] - 0.3).max() < 1e-6
