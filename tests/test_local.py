"""Own files: what is proposed, what is asked, and that what is added reads back right."""

import re
import shutil
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

import own_files
from fusion import FusionError, Pair, Recipe, Stack, fuse, holdout, methods, recipe_for, run
from fusion.preprocess import report
from fusion.sources import Item, _own_pixels, local
from own_files import CRS, DAYS, SIX, UTM, cia, ground, pairs, seen_coarse, write


@pytest.fixture(autouse=True)
def _store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSION_OWN", str(tmp_path / "store"))


def asked(proposal: local.Proposal) -> dict[str, str | None]:
    return {question.id: question.suggestion for question in proposal.questions}


def fused(key: str) -> np.ndarray:
    """Difference between truth and the day predicted by delta, for the second day of the series."""
    series = local.series(key)
    stack, truth = holdout(series, series[1].day, 1)
    return np.asarray(fuse(stack, methods.get("delta")()).data - truth.data)


@pytest.mark.parametrize("driver", ["GTiff", "ENVI"])
def test_the_cia_layout_asks_nothing(tmp_path: Path, driver: str) -> None:
    proposal = local.look(cia(tmp_path / "CIA", driver))
    assert asked(proposal) == {}
    assert proposal.complete
    assert [file.use for file in proposal.files] == ["fine", "coarse"] * 3
    assert {file.bands for file in proposal.files} == {SIX}
    assert {file.unit for file in proposal.files} == {"reflectance x 10,000"}
    key = local.add(proposal)
    series = local.series(key)
    assert [pair.day for pair in series] == list(DAYS)
    assert np.array_equal(series[0].fine.data, (ground(0) * 1e-4).astype(np.float32))
    means = ground(1).reshape(6, 6, 16, 5, 16).mean(axis=(2, 4)) * 1e-4
    assert series[1].coarse.data.shape == (6, 6, 5)
    assert np.abs(series[1].coarse.data - means).max() < 1e-4 + 1e-7  # written as whole numbers
    assert np.abs(fused(key)).max() < 2e-4  # the steps are the same everywhere


def test_without_georeference_the_pixel_size_is_asked_and_the_crs_stays_none(tmp_path: Path) -> None:
    proposal = local.look(cia(tmp_path / "LGC", transform=None))
    assert asked(proposal) == {"size": "30"}
    with pytest.raises(FusionError, match="How many metres is a fine pixel"):
        local.add(proposal)
    key = local.add(proposal.answer({"size": 25}))
    fine, coarse = local.product(f"{key}.fine"), local.product(f"{key}.coarse")
    assert fine.geobox is not None and coarse.geobox is not None
    assert fine.geobox.crs is None
    assert (fine.resolution, coarse.resolution, coarse.geobox.shape) == (25, 400, (6, 5))
    item = local.search(fine.name, (0, -0.01, 0.01, 0))[0]
    assert item.bounds is not None
    west, _south, east, north = item.bounds
    assert (west, round(north, 9)) == (0, 0)
    assert east == pytest.approx(80 * 25 / 6378137 * 180 / np.pi)
    assert local.search(fine.name, (10, 10, 11, 11)) == []
    assert np.abs(fused(key)).max() < 2e-4


def test_a_coarse_image_on_a_shifted_grid_is_the_mean_of_that_area(tmp_path: Path) -> None:
    key = local.add(local.look(cia(tmp_path / "x")))
    row = local.product(f"{key}.coarse")
    assert row.geobox is not None
    raw = seen_coarse(ground(0), 16) * 1e-4
    for east, north in ((3, 0), (0, -5), (0.4, 0.25)):  # fine pixels
        moved = GeoBox(row.geobox.shape, Affine.translation(30 * east, 30 * north) * row.geobox.affine, CRS)
        item = Item("local", row.name, DAYS[0].isoformat(), DAYS[0])
        got = local.read(item, moved, ("nir",)).data[0]
        rows, columns = np.arange(16, 32) - north, np.arange(16, 32) + east  # of coarse pixel (1, 1)
        parts = [
            (1 - abs(v - y)) * (1 - abs(u - x)) * raw[3, y, x]
            for v in rows
            for u in columns
            for y in {int(np.floor(v)), int(np.ceil(v))}
            for x in {int(np.floor(u)), int(np.ceil(u))}
        ]
        assert got[1, 1] == pytest.approx(sum(parts) / 256, abs=2e-6)


def test_a_coarse_pixel_is_missing_where_more_than_half_of_it_is(tmp_path: Path) -> None:
    root = pairs(tmp_path / "x", nodata=-9999)
    data = seen_coarse(ground(0, 3), 8)
    data[:, 0:8, 0:4] = -9999  # exactly half of coarse pixel (0, 0)
    data[:, 8:16, 0:5] = -9999  # more of (1, 0)
    write(root / f"coarse/MODIS_{DAYS[0]}.tif", data, names=SIX[1:4], nodata=-9999)
    key = local.add(local.look(root))
    coarse = local.series(key)[0].coarse.data
    assert np.isfinite(coarse[:, 0, 0]).all()
    assert np.isnan(coarse[:, 1, 0]).all()
    assert np.isnan(coarse).sum() == 3
    clouds = {item.day: item.cloud for item in local.search(f"{key}.coarse")}
    assert clouds == {DAYS[0]: pytest.approx((32 + 40) / (96 * 80)), DAYS[1]: 0}


def test_the_key_depends_on_bytes_and_answers_only(tmp_path: Path) -> None:
    root = cia(tmp_path / "here", transform=None)
    shutil.copytree(root, tmp_path / "there" / "else")
    size = {"size": 30}
    key = local.add(local.look(root).answer(size))
    assert local.add(local.look(tmp_path / "there/else").answer(size)) == key
    assert local.add(local.look(root).answer({"size": 25})) != key
    assert local.add(local.look(root).answer({**size, "ratio": 8})) != key
    changed = ground(0)
    changed[0, 0, 0] += 1
    write(tmp_path / "there/else/2001_281_08oct/20011008_TM.tif", changed, None)
    assert local.add(local.look(tmp_path / "there/else").answer(size)) != key
    assert key in local.datasets()


def test_files_that_changed_or_went_are_named(tmp_path: Path) -> None:
    root = cia(tmp_path / "x")
    key = local.add(local.look(root))
    write(root / "2001_281_08oct/20011008_TM.tif", ground(2))
    with pytest.raises(FusionError, match="20011008_TM.tif has changed"):
        local.series(key)
    (root / "2001_281_08oct/20011008_TM.tif").unlink()
    with pytest.raises(FusionError, match="20011008_TM.tif is no longer there"):
        local.series(key)


def test_units_that_differ_are_named_and_each_read_in_its_own(tmp_path: Path) -> None:
    root = pairs(tmp_path / "x")
    for step, day in enumerate(DAYS[:2]):
        data = (seen_coarse(ground(step, 3), 8) / 1e4).astype(np.float32)
        write(root / f"coarse/MODIS_{day}.tif", data, names=SIX[1:4])
    proposal = local.look(root)
    assert proposal.complete
    assert "Units differ (fine: reflectance x 10,000; coarse: reflectance, 0 to 1)" in " ".join(proposal.notes)
    assert np.abs(fused(local.add(proposal))).max() < 2e-4


def test_level_1_numbers_are_asked_without_a_suggestion(tmp_path: Path) -> None:
    root = pairs(tmp_path / "x")
    for step, day in enumerate(DAYS[:2]):
        write(root / f"fine/L7_{day}.tif", (ground(step, 3).astype(np.uint16) + 6000), names=SIX[1:4])
    proposal = local.look(root).accept()
    assert list(asked(proposal)) == ["scale:fine/L*.tif"]
    (question,) = proposal.questions
    assert question.suggestion is None
    assert "digital numbers, not reflectance" in question.why
    key = local.add(proposal.answer({question.id: "0.00002,-0.1"}))
    fine = local.series(key)[0].fine.data
    assert np.allclose(fine, (ground(0, 3).astype(float) + 6000) * 2e-5 - 0.1, atol=1e-7)


def test_a_georeference_that_contradicts_the_pixels_is_asked_with_both_correlations(tmp_path: Path) -> None:
    root = pairs(tmp_path / "x")
    for step, day in enumerate(DAYS[:2]):
        off = Affine.translation(150, -120) * UTM
        write(root / f"coarse/MODIS_{day}.tif", seen_coarse(ground(step, 3), 8), off, names=SIX[1:4])
    proposal = local.look(root)
    (question,) = proposal.questions
    assert question.id.startswith("place:coarse/MODIS_")
    assert "150 m to the right and 120 m down" in question.why
    fine, coarse = ground(0, 3)[2].astype(float), seen_coarse(ground(0, 3), 8)[2].astype(float)
    here = np.corrcoef(coarse.ravel(), fine.ravel())[0, 1]
    there = np.corrcoef(coarse[:-4, :-5].ravel(), fine[4:, 5:].ravel())[0, 1]
    assert f"pixel for pixel {here:.3f}, by georeference {there:.3f}" in question.why
    assert question.suggestion == "pixels"
    keys = [local.add(proposal.answer({question.id: value})) for value in ("pixels", "georeference")]
    by_pixels, by_georeference = (local.series(key)[0].coarse.data for key in keys)
    assert np.abs(by_pixels[0, 0, 0] - coarse_mean(0, 0)).max() < 1e-4
    assert np.nanmax(np.abs(by_pixels - by_georeference)) > 1e-3


def coarse_mean(row: int, column: int) -> float:
    return float(ground(0, 3)[0, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8].mean() * 1e-4)


def test_native_coarse_files_keep_their_own_pixels(tmp_path: Path) -> None:
    root = pairs(tmp_path / "x")
    for step, day in enumerate(DAYS[:2]):
        data = seen_coarse(ground(step, 3), 8)[:, ::8, ::8]
        write(root / f"coarse/MODIS_{day}.tif", data, UTM * Affine.scale(8), names=SIX[1:4])
    key = local.add(local.look(root))
    coarse = local.series(key)[1].coarse.data
    assert np.array_equal(coarse, (seen_coarse(ground(1, 3), 8)[:, ::8, ::8] * 1e-4).astype(np.float32))


def test_coarse_files_of_another_crs_are_warped_once(tmp_path: Path) -> None:
    root = pairs(tmp_path / "x")
    sinusoidal = "+proj=sinu +lon_0=0 +x_0=0 +y_0=0 +R=6371007.181 +units=m +no_defs"
    for day in DAYS[:2]:
        data = np.full((3, 40, 60), 1500, np.int16)
        where = Affine(463.3127, 0, 1_245_000, 0, -463.3127, 5_125_000)
        write(root / f"coarse/MODIS_{day}.tif", data, where, sinusoidal, names=SIX[1:4])
    proposal = local.look(root)
    assert proposal.complete
    assert any("cubic" in note for note in proposal.notes)
    key = local.add(proposal)
    row = local.product(f"{key}.coarse")
    assert row.resolution == 450
    coarse = local.series(key)[0].coarse.data
    assert np.nanmax(np.abs(coarse - 0.15)) < 1e-6
    assert np.isfinite(coarse).mean() > 0.5


def test_files_of_another_place_are_set_aside(tmp_path: Path) -> None:
    root = pairs(tmp_path / "x")
    write(root / "coarse/MODIS_2001-12-01.tif", ground(0, 3), Affine(500, 0, 100_000, 0, -500, 100_000), names=SIX[1:4])
    proposal = local.look(root)
    assert proposal.complete
    (odd,) = [file for file in proposal.files if file.use == "aside"]
    assert "it lies elsewhere" in odd.why[-1]


def test_the_share_missing_of_a_large_image_is_counted_in_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = pairs(tmp_path / "x", nodata=-9999)
    data = ground(0, 3)
    data[:, 48:] = -9999  # the lower half
    write(root / f"fine/L7_{DAYS[0]}.tif", data, names=SIX[1:4], nodata=-9999)
    key = local.add(local.look(root))
    assert local.search(f"{key}.fine")[0].cloud == 0.5
    monkeypatch.setattr(_own_pixels, "MANY", 100)
    monkeypatch.setattr(_own_pixels, "SIDE", 8)
    assert len(_own_pixels._windows((slice(0, 96), slice(0, 80)))) == 25
    assert _own_pixels._windows((slice(7, 17), slice(20, 30)))[0] == (slice(7, 17), slice(20, 30))
    share = local.search(f"{key}.fine", (16.0, 46.0, 16.32, 46.08))[0].cloud
    assert share == pytest.approx(0.5, abs=0.1)


def test_a_series_of_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = local.add(local.look(cia(tmp_path / "x")))
    grid = local.product(f"{key}.fine").geobox
    assert grid is not None
    part = local.series(key, grid[16:48, 0:64])[2]
    assert (part.fine.shape, part.coarse.shape) == ((6, 32, 64), (6, 2, 4))
    assert np.array_equal(part.fine.data, local.series(key)[2].fine.data[:, 16:48, :64])
    with pytest.raises(FusionError, match="whole coarse pixels of ratio 16"):
        local.series(key, grid[0:20, 0:64])
    monkeypatch.setattr(local, "MAX_PIXELS", 1000)
    with pytest.raises(FusionError, match="138,240 fine numbers"):
        local.series(key)


def test_netcdf_holds_several_days_and_bands(tmp_path: Path) -> None:
    own_files.netcdf(tmp_path / "x/fine/landsat.nc")
    own_files.netcdf(tmp_path / "x/coarse/modis.nc", ratio=8)
    proposal = local.look(tmp_path / "x")
    assert proposal.complete, asked(proposal)
    _coarse, fine = proposal.files
    assert fine.days == tuple(day.isoformat() for day in DAYS)
    assert fine.bands == ("red", "nir")
    assert fine.crs == "EPSG:32633"
    key = local.add(proposal)
    series = local.series(key)
    assert [pair.day for pair in series] == list(DAYS)
    assert np.allclose(series[2].fine.data, ground(2, 2) * 1e-4, atol=1e-6)
    assert np.abs(fused(key)).max() < 1e-5


def test_one_file_a_band_makes_one_image(tmp_path: Path) -> None:
    root = tmp_path / "x"
    for step, day in enumerate(DAYS[:2]):
        fine = ground(step, 3)
        for i, number in enumerate((3, 4, 5)):
            stem = f"LC08_L2SP_190028_{day:%Y%m%d}_20200713_02_T1_SR_B{number}.TIF"
            numbers = ((fine[i : i + 1] * 1e-4 + 0.2) / 2.75e-5).round().astype(np.uint16)
            write(root / stem, numbers, nodata=0)
        quality = np.full((1, 96, 80), 21824, np.uint16)
        quality[0, 10:20, 30:33] = 22280  # cloud, high confidence
        write(root / f"LC08_L2SP_190028_{day:%Y%m%d}_20200713_02_T1_QA_PIXEL.TIF", quality)
        write(root / f"LC08_L2SP_190028_{day:%Y%m%d}_20200713_02_T1_ST_B10.TIF", quality)
        write(root / f"MOD09GA_{day}.tif", seen_coarse(fine, 8), names=SIX[1:4])
    proposal = local.look(root)
    assert proposal.complete, asked(proposal)
    uses = {file.name.rsplit("_", 1)[1]: file.use for file in proposal.files if file.name.startswith("LC08")}
    assert uses["PIXEL.TIF"] == "mask" and uses["B10.TIF"] == "aside" and uses["B4.TIF"] == "fine"
    series = local.series(local.add(proposal))
    assert series[0].fine.bands == ("green", "red", "nir")
    clouds = np.isnan(series[0].fine.data)
    assert clouds[:, 10:20, 30:33].all() and clouds.sum() == 3 * 10 * 3
    assert np.nanmax(np.abs(series[0].fine.data - ground(0, 3) * 1e-4)) < 2e-5


def test_fill_numbers_and_zero_borders_that_are_not_declared(tmp_path: Path) -> None:
    root = pairs(tmp_path / "x")
    data = ground(0, 3)
    data[:, :3, :] = -9999
    write(root / f"fine/L7_{DAYS[0]}.tif", data, names=SIX[1:4])
    other = ground(1, 3)
    other[:, :, :6] = 0
    write(root / f"fine/L7_{DAYS[1]}.tif", other, names=SIX[1:4])
    proposal = local.look(root)
    assert any("-9999 stands apart" in note for note in proposal.notes)
    (question,) = proposal.questions
    assert question.id.startswith("nodata:fine") and question.suggestion == "0"
    first, second = (pair.fine.data for pair in local.series(local.add(proposal.accept())))
    assert np.isnan(first[:, :3]).all() and np.isfinite(first[:, 3:]).all()
    assert np.isnan(second[:, :, :6]).all() and np.isfinite(second[:, :, 6:]).all()
    kept = local.series(local.add(proposal.answer({question.id: "none"})))[1].fine.data
    assert (kept[:, :, :6] == 0).all()


def test_a_day_or_year_that_no_name_says_is_asked(tmp_path: Path) -> None:
    root = tmp_path / "boreas_2001"
    for step, text in enumerate(("0524", "0711")):
        fine = ground(step, 3)
        write(root / f"tm{text}.tif", fine, names=SIX[1:4])
        write(root / f"modis{text}.tif", seen_coarse(fine, 8), names=SIX[1:4])
    write(root / "tm_other.tif", ground(2, 3), names=SIX[1:4])
    proposal = local.look(root)
    assert asked(proposal) == {"year:modis*.tif": "2001", "year:tm*.tif": "2001", "day:tm_other.tif": None}
    proposal = proposal.accept().answer({"day:tm_other.tif": "2001-08-12"})
    assert [item.day for item in local.search(f"{local.add(proposal)}.fine")] == [
        date(2001, 5, 24),
        date(2001, 7, 11),
        date(2001, 8, 12),
    ]


def test_bands_role_and_ratio_that_nothing_says_are_asked(tmp_path: Path) -> None:
    root = tmp_path / "x"
    rng = np.random.default_rng(1)
    for step, day in enumerate(DAYS[:2]):
        fine = ground(step, 3)
        write(root / f"a_{day}.tif", fine)
        smooth = seen_coarse(fine, 16) + rng.integers(0, 4, fine.shape).astype(np.int16)  # no exact blocks
        write(root / f"b_{day}.tif", smooth)
    proposal = local.look(root)
    uses = {file.name[0]: file.use for file in proposal.files}
    assert uses == {"a": "fine", "b": "coarse"}  # by detail
    assert {key.split(":")[0] for key in asked(proposal)} == {"bands", "ratio"}
    answers = {key: "green,red,nir" for key in asked(proposal) if key.startswith("bands")}
    key = local.add(proposal.answer({**answers, "ratio": 16}))
    assert local.product(f"{key}.coarse").resolution == 480


def test_two_files_for_one_day_are_asked(tmp_path: Path) -> None:
    root = pairs(tmp_path / "x")
    pairs(root / "coreg")
    proposal = local.look(root)
    assert {"use:fine", "use:coarse"} == set(asked(proposal))
    chosen = proposal.answer({q.id: next(v for v, _ in q.choices if "coreg" in v) for q in proposal.questions})
    assert chosen.complete
    assert {file.name.split("/")[0] for file in chosen.files if file.use != "aside"} == {"coreg"}


def test_what_is_no_image_is_set_aside_with_its_reason(tmp_path: Path) -> None:
    root = pairs(tmp_path / "x")
    write(root / "fine/L7_2001-12-01.tif", np.full((3, 96, 80), -9999, np.int16), nodata=-9999, names=SIX[1:4])
    write(root / "fine/L7_2001-12-02.tif", np.ones((1, 1, 1), np.int16))
    write(root / "fine/L7_2001-10-08_classes.tif", (ground(0, 1) % 4).astype(np.uint8))
    (root / "fine/L7_2001-12-03.tif").write_bytes(b"II*\x00broken")
    (root / "notes.txt").write_text("no image")
    files = {file.name.rsplit("/", 1)[1]: file for file in local.look(root).files}
    assert files["L7_2001-12-01.tif"].use == "aside" and "no pixel has a value" in " ".join(
        files["L7_2001-12-01.tif"].why
    )
    assert files["L7_2001-12-02.tif"].use == "aside" and "1 x 1 pixels" in files["L7_2001-12-02.tif"].why[0]
    assert files["L7_2001-10-08_classes.tif"].use == "classes"
    assert files["L7_2001-12-03.tif"].use == "aside" and "cannot be read" in files["L7_2001-12-03.tif"].why[0]
    assert "notes.txt" not in files


def test_other_sizes_without_crs_are_set_aside(tmp_path: Path) -> None:
    root = cia(tmp_path / "x", transform=None)
    write(root / "2001_306_02nov/20011102_TM.tif", ground(2, 6, 90, 80), None)
    proposal = local.look(root)
    (odd,) = [file for file in proposal.files if file.name.endswith("20011102_TM.tif")]
    assert odd.use == "aside" and "no CRS says how they lie" in odd.why[-1]
    key = local.add(proposal.accept())
    assert [item.day for item in local.search(f"{key}.coarse")] == list(DAYS)  # a target without a fine image
    assert [item.day for item in local.search(f"{key}.fine")] == list(DAYS[:2])


def test_a_raster_that_points_to_others_is_never_opened(tmp_path: Path) -> None:
    root = pairs(tmp_path / "x")
    (root / "fine/L7_2001-11-02.vrt").write_text('<VRTDataset rasterXSize="2" rasterYSize="2"></VRTDataset>')
    (root / "fine/L7_2001-11-03.tif").write_text('<VRTDataset rasterXSize="2" rasterYSize="2"></VRTDataset>')
    names = [file.name for file in local.look(root).files]
    assert not [name for name in names if "2001-11" in name]


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("ratio", "2.5", "whole number"),
        ("size", "nan", "metres"),
        ("bands:fine/L*.tif", "red,red,nir", "names in order"),
        ("bands:fine/L*.tif", "red,nir", "has 3 bands"),
        ("scale:fine/L*.tif", "0", "scale or scale,offset"),
        ("scale:fine/L*.tif", "1e-4,x", "scale or scale,offset"),
        ("role:fine/L*.tif", "blue", "one of fine"),
        ("day:nothing.tif", "2001-01-01", "no question"),
        ("use:fine", "../..", "wants a group"),
        ("size:x", "30", "no question"),
    ],
)
def test_answers_are_checked(tmp_path: Path, key: str, value: str, words: str) -> None:
    proposal = local.look(pairs(tmp_path / "x"))
    group = next(file.group for file in proposal.files if file.use == "fine")
    with pytest.raises(FusionError, match=words):
        proposal.answer({key.replace("fine/L*.tif", group): value})
    assert proposal.answers == {}


@pytest.mark.parametrize("text", ["red", "blue,green,red", "blue,green,red,nir,swir1"])
def test_names_for_fewer_or_more_bands_than_a_file_has_are_refused(tmp_path: Path, text: str) -> None:
    for day in DAYS[:2]:
        write(tmp_path / f"x/fine_{day:%Y%m%d}.tif", ground(0, 4))
        write(tmp_path / f"x/coarse_{day:%Y%m%d}.tif", seen_coarse(ground(0, 4), 8))
    proposal = local.look(tmp_path / "x")
    with pytest.raises(FusionError, match=r"fine_\*.tif has 4 bands a file, got \d names? \(red|got \d names? \(blue"):
        proposal.answer({"bands:fine_*.tif": text})
    assert proposal.answer({"bands:fine_*.tif": "-,green,red,nir"}).answers


def displaced(root: Path, east: int, south: int = 0, transform: Affine | None = None) -> str:
    """Data set of 160 x 160 fine pixels of 30 m and ratio 8, its coarse images off by some fine pixels; its key."""
    for step, day in enumerate(DAYS):
        whole = ground(step, 3, 240, 240)
        fine = whole[:, 40:200, 40:200]
        coarse = seen_coarse(whole[:, 40 - south : 200 - south, 40 - east : 200 - east], 8)
        write(root / f"fine/L7_{day}.tif", fine, transform, names=SIX[1:4])
        write(root / f"coarse/MODIS_{day}.tif", coarse, transform, names=SIX[1:4])
    return local.add(local.look(root).answer({} if transform else {"size": 30, "ratio": 8}))


@pytest.mark.parametrize("transform", [None, UTM])
@pytest.mark.parametrize(
    ("shift", "edges"),
    [((-180, 0), ("western",)), ((-540, 180), ("northern", "western")), ((90, -360), ("southern",)), ((30, 0), ())],
)
def test_what_a_shift_leaves_without_a_coarse_pixel_is_known_before_reading(
    tmp_path: Path, shift: tuple[float, float], edges: tuple[str, ...], transform: Affine | None
) -> None:
    key = displaced(tmp_path / "x", 0, transform=transform)
    recipe = replace(recipe_for("local", DAYS[1], options={"dataset": key}, method="delta", pairs=2), shift=shift)
    box = recipe.geobox.zoom_out(recipe.ratio)
    found = local.unreached([recipe.target], box, recipe.area, shift)
    result = run(recipe).data
    corner = 1 / (box.shape[0] * box.shape[1])  # may have half its rows and half its columns
    assert found.share == pytest.approx(np.isnan(result[0]).mean(), abs=corner + 1e-9)
    assert found.edges == edges and all(edge in found.words for edge in edges)
    assert bool(found.words) == bool(found.share) == bool(edges)
    assert local.unreached([recipe.target], box, recipe.area, (0.0, 0.0)).share == 0


def test_a_report_on_own_files_without_crs_is_in_the_metres_that_were_answered(tmp_path: Path) -> None:
    key = displaced(tmp_path / "x", -6)
    series = local.series(key)
    fine = local.search(f"{key}.fine")[0]
    bare = report(series)
    found = local.in_metres(bare, fine, series[0].fine.geobox)
    assert bare.unit == "units" and found.unit == "m" and found.shift == bare.shift
    assert re.search(r"images lie 1[78]\d m west", found.verdict) and "units" not in found.verdict
    assert local.in_metres(bare, replace(fine, source="sample"), series[0].fine.geobox) is bare


def test_own_files_that_are_not_here_are_named_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = displaced(tmp_path / "x", 0)
    item = local.search(f"{key}.coarse")[0]
    row = local.product(item.product)
    assert row.geobox is not None
    monkeypatch.setenv("FUSION_OWN", str(tmp_path / "elsewhere"))
    told = f"from own files of the key {key}, .* page Own files, or with python -m fusion files .* same answers"
    with pytest.raises(FusionError, match=f"The coarse images come {told} give the same key"):
        local.product(item.product)
    with pytest.raises(FusionError, match=f"The coarse image of {item.day} comes {told}"):
        local.read(item, row.geobox, ("red",))


@pytest.mark.parametrize(
    ("ratio", "shape", "said"),
    [
        (16, (45, 44), "Of 45 x 44 fine pixels 32 x 32 are used, whole coarse pixels of 16: 48 % are left out; a"),
        (8, (45, 44), "Of 45 x 44 fine pixels 40 x 40 are used, whole coarse pixels of 8: 19 % are left out; a"),
        (16, (48, 32), None), (4, (401, 401), None),
    ],
)  # fmt: skip
def test_what_the_cut_to_whole_coarse_pixels_leaves_out_is_said(
    tmp_path: Path, ratio: int, shape: tuple[int, int], said: str | None
) -> None:
    for step, day in enumerate(DAYS):
        whole = ground(step, 3, *(-(-side // 16) * 16 for side in shape))
        rows, columns = shape
        write(tmp_path / f"x/fine/L7_{day}.tif", whole[:, :rows, :columns], UTM, names=SIX[1:4])
        write(tmp_path / f"x/coarse/MODIS_{day}.tif", seen_coarse(whole, 8)[:, :rows, :columns], UTM, names=SIX[1:4])
    proposal = local.look(tmp_path / "x").answer({"ratio": ratio}).accept()
    found = [note for note in proposal.notes if "left out" in note]
    assert len(found) == (said is not None) and all(note.startswith(str(said)) for note in found)
    box = local.product(f"{local.add(proposal)}.fine").geobox
    assert box is not None and (said is None or f" {box.shape[0]} x {box.shape[1]} are used" in found[0])


def test_a_recipe_of_own_files_that_are_not_here_names_the_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = recipe_for("local", DAYS[1], options={"dataset": displaced(tmp_path / "x", 0)}, method="delta", pairs=2)
    text = recipe.to_json()
    assert Recipe.from_json(text) == recipe
    monkeypatch.setenv("FUSION_OWN", str(tmp_path / "elsewhere"))
    with pytest.raises(FusionError, match=f"give the same key. The recipe wants the image of {recipe.pairs[0][0].day}"):
        Recipe.from_json(text)


def test_answers_do_not_change_the_proposal_they_are_given_to(tmp_path: Path) -> None:
    proposal = local.look(cia(tmp_path / "x", transform=None))
    answered = proposal.answer({"size": 30})
    assert not proposal.complete and answered.complete


@pytest.mark.parametrize("name", ["x", "../../etc/passwd.fine", "0" * 24, "0" * 24 + ".truth", "0" * 24 + ".fine"])
def test_unknown_products_are_refused(name: str) -> None:
    with pytest.raises(FusionError):
        local.product(name)


def test_items_bands_and_places_that_are_not_there(tmp_path: Path) -> None:
    key = local.add(local.look(cia(tmp_path / "x")))
    row = local.product(f"{key}.fine")
    assert row.geobox is not None
    item = local.search(row.name)[0]
    assert local.options_in(item) == local.Options(key)
    assert local.offered("fine", local.Options(key)) == (row,)
    assert local.offered("fine") == ()
    with pytest.raises(FusionError, match="no band 'ndvi'"):
        local.read(item, row.geobox, ("ndvi",))
    with pytest.raises(FusionError, match="no fine image of 2001-01-01"):
        local.read(Item("local", row.name, "2001-01-01", date(2001, 1, 1)), row.geobox, row.bands)
    with pytest.raises(FusionError, match="outside"):
        local.read(item, row.geobox.translate_pix(500, 0), row.bands)
    partly = local.read(item, row.geobox.translate_pix(10, 0), ("nir",)).data
    assert np.isnan(partly[0, :, -10:]).all() and np.isfinite(partly[0, :, :-10]).all()  # never zeros
    part = local.read(item, row.geobox[8:24, 16:40], ("nir", "red"))
    assert np.array_equal(part.data[1], (ground(0)[2, 8:24, 16:40] * 1e-4).astype(np.float32))


def test_folders_without_images(tmp_path: Path) -> None:
    with pytest.raises(FusionError, match="no folder"):
        local.look(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FusionError, match="no image here"):
        local.look(tmp_path / "empty")


def test_only_fine_files_make_no_data_set(tmp_path: Path) -> None:
    root = pairs(tmp_path / "x")
    shutil.rmtree(root / "coarse")
    proposal = local.look(root)
    assert not proposal.complete
    with pytest.raises(FusionError, match="There is no coarse image"):
        local.add(proposal)


SETS = {  # folder: (answers that have no suggestion, ratio, fine and coarse images, most of the error of delta)
    "shenzhen_l7_mod09_2000_2002": ({}, 8, 2, 2, 0.0330),
    "boreas_estarfm_2001": ({}, 16, 3, 3, 0.0125),
    "boreas_estarfm_2001/coreg": ({}, 16, 3, 3, 0.0120),
    "lgc_fsdaf_2004": ({}, 16, 2, 2, 0.0260),
    "kranj_l8_mcd43_2020": ({}, 16, 4, 26, 0.0240),
    "ifsdaf_ndvi_2015": ({}, 8, 9, 32, 0.0438),
    "imagefusion_realset1_2016": ({"scale:fine/L*_DN.tif": "0.00002,-0.1"}, 16, 3, 3, 0.1),
}


@pytest.mark.data
@pytest.mark.parametrize("name", list(SETS))
def test_real_sets_are_proposed_added_and_fused(test_data: Path, name: str) -> None:
    answers, ratio, fine, coarse, most = SETS[name]
    proposal = local.look(test_data / name).accept()
    assert set(asked(proposal)) == set(answers)  # all else is said or suggested
    key = local.add(proposal.answer(answers))
    rows = local.product(f"{key}.fine"), local.product(f"{key}.coarse")
    assert round(rows[1].resolution / rows[0].resolution) == ratio
    assert len(local.search(rows[0].name)) == fine
    assert len(local.search(rows[1].name)) == coarse
    error = fused(key)
    assert np.sqrt(np.nanmean(error**2)) < most


@pytest.mark.data
def test_shenzhen_asks_which_place_is_right(test_data: Path) -> None:
    (question,) = local.look(test_data / "shenzhen_l7_mod09_2000_2002").questions
    assert question.id == "place:coarse/MOD*_SZ_B*m.tif"
    assert "168 m to the right and 159 m down" in question.why
    assert "pixel for pixel 0.744, by georeference 0.620" in question.why


@pytest.mark.data
def test_kranj_names_the_units_and_realset1_the_level_1_numbers(test_data: Path) -> None:
    kranj = local.look(test_data / "kranj_l8_mcd43_2020").accept()
    assert any("Units differ" in note for note in kranj.notes)
    assert any(note.startswith("Of 44 x 45 fine pixels 32 x 32 are used") for note in kranj.notes)
    verdict = report(local.series(local.add(kranj))).verdict
    assert "(the area has only 4 coarse pixels, 50 are wanted: draw a larger one)" in verdict
    asked_for = {one.id: one for one in local.look(test_data / "imagefusion_realset1_2016").questions}
    assert asked_for["scale:fine/L*_DN.tif"].suggestion is None
    assert {"use:coarse", "size"} < set(asked_for)


@pytest.mark.data
def test_masks_and_classes_of_real_sets(test_data: Path) -> None:
    proposal = local.look(test_data / "ifsdaf_ndvi_2015").accept()
    clouds = {str(item.day): item.cloud for item in local.search(f"{local.add(proposal)}.fine")}
    assert clouds["2015-10-14"] == 0
    assert clouds["2015-07-19"] is not None and clouds["2015-07-19"] > 0.5
    uses = {file.name: file.use for file in local.look(test_data / "lgc_fsdaf_2004").files}
    assert uses["fine/L5_2004-11-26_svm_classes.tif"] == "classes"


def test_a_stack_of_read_scenes_is_what_recipes_make(tmp_path: Path) -> None:
    key = local.add(local.look(cia(tmp_path / "x")))
    fine, coarse = local.product(f"{key}.fine"), local.product(f"{key}.coarse")
    assert fine.geobox is not None and coarse.geobox is not None
    box, big = fine.geobox[16:64, 32:80], coarse.geobox[1:4, 2:5]

    def scene(role: str, day: date, grid: GeoBox) -> object:
        return local.read(Item("local", f"{key}.{role}", day.isoformat(), day), grid, ("red", "nir"))

    pair = Pair(scene("coarse", DAYS[0], big), scene("fine", DAYS[0], box))  # type: ignore[arg-type]
    stack = Stack.of([pair], scene("coarse", DAYS[2], big))  # type: ignore[arg-type]
    assert stack.ratio == 16
    assert np.abs(fuse(stack, methods.get("delta")()).data - ground(2)[2:4, 16:64, 32:80] * 1e-4).max() < 2e-4
