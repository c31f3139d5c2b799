"""The Own files page: uploads and folders, what is refused, questions, corrections, and the way to the Area page."""

import io
import re
import time
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
import streamlit as st
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile
from rasterio.transform import from_origin
from streamlit.testing.v1 import AppTest

from fusion.errors import FusionError
from fusion.sources import local
from pages._shared import file_views, files, messages

ROOT = Path(__file__).parents[1]
DAYS = ("2020-05-01", "2020-06-02", "2020-07-04")


def image(seed: int, pixels: int, metres: float, *, left: float = 500_000, crs: str | None = "EPSG:32633") -> bytes:
    """A GeoTIFF of two bands of an asymmetrical landscape; the number of pixels says how coarse it is."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:pixels, :pixels] / pixels
    data = np.stack([1000 + 1500 * x + 400 * y, 2500 + 600 * x * y]) + rng.normal(0, 120, (2, pixels, pixels))
    place = {"crs": crs, "transform": from_origin(left, 5_000_000, metres, metres)} if crs else {}
    with MemoryFile() as memory, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with memory.open(
            driver="GTiff", width=pixels, height=pixels, count=2, dtype="int16", nodata=-9999, **place
        ) as file:
            file.write(data.astype(np.int16))
            file.descriptions = ("red", "nir")
        return bytes(memory.read())


def landscape() -> dict[str, bytes]:
    """Three days of a fine and a coarse sensor, as files by name."""
    out = {}
    for number, day in enumerate(DAYS):
        out[f"LC08_{day}.tif"] = image(number, 64, 30)
        out[f"MOD09_{day}.tif"] = image(number + 10, 8, 240)
    return out


class Upload(io.BytesIO):
    """What Streamlit hands over."""

    def __init__(self, name: str, data: bytes, size: int | None = None) -> None:
        super().__init__(data)
        self.name, self.size = name, len(data) if size is None else size


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[AppTest]:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("FUSION_CACHE", "off")
    monkeypatch.setenv("FUSION_OWN", str(tmp_path / "store"))
    monkeypatch.delenv("FUSION_FOLDERS", raising=False)
    st.cache_data.clear()
    st.cache_resource.clear()
    yield AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of images, within one that the server's owner allows."""
    inside = tmp_path / "allowed" / "mine"
    inside.mkdir(parents=True)
    for name, data in landscape().items():
        (inside / name).write_bytes(data)
    return inside


def visit(app: AppTest, name: str = "files") -> AppTest:
    app.switch_page(f"pages/{name}.py").run()
    assert not app.exception, [e.message for e in app.exception]
    return app


def texts(app: AppTest) -> str:
    kinds = (app.markdown, app.caption, app.info, app.error, app.success, app.warning, app.title, app.subheader)
    return re.sub(r"\\(.)", r"\1", "\n".join(str(element.value) for kind in kinds for element in kind))


def press(app: AppTest, label: str) -> AppTest:
    next(button for button in app.button if button.label == label).click().run()
    assert not app.exception, [e.message for e in app.exception]
    return app


def looked(app: AppTest, folder: Path, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    """The page after a look at the folder."""
    monkeypatch.setenv("FUSION_FOLDERS", str(folder.parent))
    page = visit(app.run())
    next(box for box in page.selectbox if box.label.startswith("Or a folder")).set_value("allowed/mine").run()
    return press(page, "Look at this folder")


def used(page: AppTest) -> AppTest:
    """Press the button; the files are added by a job, and then the Area page opens."""
    page = press(page, "Use these files")
    for _ in range(50):
        if any(box.label == "Source of images" for box in page.selectbox):
            break
        time.sleep(0.1)
        page = page.run()
    return page


def test_a_folder_becomes_a_data_set_and_the_work(app: AppTest, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = looked(app, folder, monkeypatch)
    assert (
        "Ready: pairs 3, coarse days without a fine image 0; bands red, nir; fine pixels of 30 m, 8 to a coarse one"
        in texts(page)
    )
    page = used(page)
    work = page.session_state["work"]
    key = dict(work.options)["dataset"]
    assert work.source == "local" and re.fullmatch(r"[0-9a-f]{24}", key)
    assert page.title[0].value == "Area" and not page.error
    assert len(work.pairs) == 2 and work.target is not None
    assert str(folder) not in repr(work) and "mine" not in work.to_link()
    assert dict(type(work).from_link(work.to_link()).options) == {"dataset": key}
    page = visit(page)
    assert "Data sets of this session" in texts(page) and "in use" in texts(page)


def test_a_data_set_of_the_session_can_be_chosen_again(
    app: AppTest, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = used(looked(app, folder, monkeypatch))
    key = page.session_state["work"].options
    next(box for box in page.selectbox if box.label == "Source of images").set_value("sample").run()
    assert page.session_state["work"].source == "sample"
    page = press(visit(page), "Use again")
    assert page.session_state["work"].source == "local" and page.session_state["work"].options == key


def test_uploads_survive_a_refused_one_which_is_named(app: AppTest) -> None:
    page = visit(app.run())
    good = [(name, data, "image/tiff") for name, data in landscape().items()]
    page.file_uploader[0].set_value([*good, ("../../evil.tif", b"no image at all", "image/tiff")]).run()
    assert not page.exception
    assert len(page.error) == 1 and "evil.tif" in texts(page) and "Ready: pairs 3" in texts(page)
    page = visit(visit(page, "methods"))
    assert "Ready: pairs 3" in texts(page)
    page = press(page, "Remove all files")
    assert "Ready" not in texts(page) and not page.error


def test_a_zip_brings_its_folders(app: AppTest) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for number, day in enumerate(DAYS):
            archive.writestr(f"fine/{day}.tif", image(number, 64, 30))
            archive.writestr(f"coarse/{day}.tif", image(number, 8, 240))
        archive.writestr("readme.txt", "words")
    page = visit(app.run())
    page.file_uploader[0].set_value([("all.zip", packed.getvalue(), "application/zip")]).run()
    assert "Ready: pairs 3" in texts(page) and not page.error
    assert {one.name for one in files_of(page)} == {f"{side}/{day}.tif" for side in ("fine", "coarse") for day in DAYS}


def files_of(page: AppTest) -> tuple[local.Received, ...]:
    return page.session_state["own-received"]


def test_questions_carry_their_suggestion_and_answers_complete_the_set(
    app: AppTest, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, day in enumerate(DAYS):  # no georeference: the size of a pixel is asked
        (folder / f"LC08_{day}.tif").write_bytes(image(number, 64, 30, crs=None))
        (folder / f"MOD09_{day}.tif").write_bytes(image(number, 8, 240, crs=None))
    page = looked(app, folder, monkeypatch)
    assert "How many metres is a fine pixel?" in texts(page) and "no georeference" in texts(page)
    asked = next(box for box in page.selectbox if "How many metres" in box.label)
    assert asked.value == "30"
    asked.set_value("25")
    page = press(page, "Answer")
    assert "fine pixels of 25 m" in texts(page)
    page = press(page, "Forget my answers")
    assert "How many metres is a fine pixel?" in texts(page)


def test_a_conflict_of_georeference_shows_figures_and_meanings(
    app: AppTest, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, day in enumerate(DAYS):  # coarse images on the fine grid, stated to lie 150 m further east
        (folder / f"MOD09_{day}.tif").write_bytes(image(number, 64, 30, left=500_150))
    page = looked(app, folder, monkeypatch)
    shown = texts(page)
    assert "150 m to the right" in shown and "correlation" in shown
    choice = next(radio for radio in page.radio if "lie on the fine ones" in radio.label)
    assert choice.value == "pixels" and len(choice.options) == 2
    press(page, "Answer")
    assert page.session_state["own-proposal"].answers["place:MOD*.tif"] == "pixels"


@pytest.fixture
def proposal(folder: Path) -> local.Proposal:
    return local.look(folder)


def test_every_guess_in_the_table_can_be_corrected(proposal: local.Proposal) -> None:
    rows = file_views.rows(proposal)
    at = {row["file"]: number for number, row in enumerate(rows)}
    first, coarse = at[f"LC08_{DAYS[0]}.tif"], at[f"MOD09_{DAYS[0]}.tif"]
    assert rows[first]["what it is"] == "fine" and rows[first]["day"] == DAYS[0]
    assert rows[first]["grid"] == "64 x 64, 30 m, EPSG:32633" and rows[first]["nodata"] == "-9999"
    edits = {
        first: {"day": "2020-05-03", "bands": "green, nir", "scale": "0.0002", "nodata": "none"},
        coarse: {"what it is": "left out"},
    }
    answers = file_views.answers_of(proposal, edits)
    changed = proposal
    for name, value in answers.items():
        changed = changed.answer({name: value})
    row = file_views.rows(changed)[first]
    assert (row["day"], row["bands"], row["scale"]) == ("2020-05-03", "green, nir", "0.0002")
    assert all(one["what it is"] == "left out" for one in file_views.rows(changed) if one["file"].startswith("MOD"))
    assert file_views.rows(changed)[at[f"LC08_{DAYS[1]}.tif"]]["day"] == DAYS[1]


def test_a_wrong_correction_is_named_and_the_others_are_taken(app: AppTest, proposal: local.Proposal) -> None:
    st.session_state.clear()
    files.keep(proposal)
    before = files.turn()
    answers = file_views.answers_of(proposal, {0: {"day": "yesterday", "scale": "0.0002"}})
    assert answers == {f"day:LC08_{DAYS[0]}.tif": "yesterday", "scale:LC*.tif": "0.0002"}
    files.answer(answers)
    (complaint,) = messages.complaints()
    assert "YYYY-MM-DD" in complaint and "yesterday" in complaint
    new = files.proposal()
    assert new is not None and new.answers == {"scale:LC*.tif": "0.0002"} and files.turn() == before + 1


def test_footprints_and_quick_looks_show_the_files(app: AppTest, proposal: local.Proposal) -> None:
    outlines = dict(file_views.footprints(proposal))
    assert set(outlines) == {"fine, 3 files", "coarse, 3 files"}
    assert file_views.days(proposal) == list(DAYS)
    png = file_views.quick_look(proposal, "fine", DAYS[0])
    assert png is not None and png.startswith(b"\x89PNG")
    assert file_views.quick_look(proposal, "fine", "1999-01-01") is None


def test_only_allowed_folders_are_offered(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (folder / "way-out").symlink_to(secret, target_is_directory=True)
    monkeypatch.setenv("FUSION_FOLDERS", f"{folder.parent}:{tmp_path / 'nowhere'}:relative")
    offered = files.folders(files.roots())
    assert set(offered) == {"allowed", "allowed/mine"}
    assert all(path.resolve().is_relative_to(folder.parent.resolve()) for path in offered.values())
    monkeypatch.delenv("FUSION_FOLDERS")
    assert files.roots() == ()
    with pytest.raises(FusionError, match="reads no folder by its path"):
        files.named_folder(str(secret))


def test_any_folder_only_where_the_server_is_local(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FUSION_FOLDERS", "any")
    monkeypatch.setattr(st, "get_option", lambda name: "localhost")
    assert files.any_folder() and files.roots() == () and files.named_folder(str(tmp_path)) == tmp_path
    for text in ("relative", str(tmp_path / "nowhere"), "/\0"):
        with pytest.raises(FusionError, match="no such folder"):
            files.named_folder(text)
    monkeypatch.setattr(st, "get_option", lambda name: "0.0.0.0")
    assert not files.any_folder()
    with pytest.raises(FusionError, match="reads no folder"):
        files.named_folder(str(tmp_path))


def test_without_permission_the_page_offers_uploads_only(app: AppTest) -> None:
    page = visit(app.run())
    assert len(page.file_uploader) == 1
    assert "Look at this folder" not in [button.label for button in page.button]


@pytest.mark.parametrize(
    ("name", "shown"),
    [("a/b/c/d/e/f.tif", "c/d/e/f.tif"), ("../../x.tif", "x.tif"), ("C:\\data\\x.tif", "data/x.tif"), ("/", "unnamed")],
)
def test_names_of_uploads_keep_their_last_folders_and_lead_nowhere(name: str, shown: str) -> None:
    assert files.whole_name(name).endswith(shown) and ".." not in files.whole_name(name)


def test_a_file_that_claims_ten_gigabytes_is_refused_before_it_is_read(app: AppTest) -> None:
    class Unread(Upload):
        def read(self, size: int | None = -1, /) -> bytes:
            raise AssertionError("was read")

    st.session_state.clear()
    files.take([Unread("big.tif", b"", 10 * 2**30)])
    ((name, why),) = files.refused()
    assert name == "big.tif" and "10,737,418,240 bytes" in why and files.received() == ()


@pytest.mark.parametrize(
    ("name", "why", "said"),
    [("a/x.md", "x.md is no image.", "a/x.md is no image."), ("a/x.tif", "Too large.", "a/x.tif: Too large.")],
)
def test_a_refusal_names_the_file_once(name: str, why: str, said: str) -> None:
    assert files.complaint(name, why) == said


def test_a_choice_says_each_thing_once() -> None:
    assert file_views.choice("30", "30 m") == "30 m"
    assert file_views.choice("red,nir", "as in Landsat") == "red,nir: as in Landsat"


def test_half_an_envi_image_waits_for_its_other_half() -> None:
    def one(name: str, kind: str) -> local.Received:
        return local.Received(name, Path("x"), kind)

    pixels, header, other = one("a/s.img", "pixels"), one("a/s.hdr", "header"), one("b.tif", "image")
    assert files.usable([pixels, other]) == ([other], ["a/s.img"])
    assert files.usable([pixels, header, other]) == ([pixels, header, other], [])
    assert files.usable([header]) == ([], ["a/s.hdr"])
    assert files.usable([pixels, one("a/s.img.hdr", "header")])[1] == []


def test_the_written_image_is_what_the_tests_say() -> None:
    with MemoryFile(image(0, 8, 240)) as memory, memory.open() as file:
        assert file.crs == rasterio.CRS.from_epsg(32633) and file.res == (240, 240)
