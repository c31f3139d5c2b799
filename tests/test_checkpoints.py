"""Checkpoints: what they say survives, what is none of ours is told in words, no name leads out of the folder."""

import errno
import json
import os
import pickle
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save as pack

from fusion import FusionError, checkpoints
from fusion.checkpoints import Checkpoint

ABOUT = Checkpoint(
    method="edcstfn",
    parameters={"width": 4, "base": "delta"},
    bands=("red", "nir"),
    ratios=(2, 16),
    mean=(0.1, 0.3),
    scale=(0.05, 0.1),
    title="One of two bands",
    metrics={"RMSE": 0.01, "floors": {"nearest": 0.02}, "hidden": ["2020-07-01"]},
    provenance={"areas": [{"days": ["2020-06-01"], "bounds": [1.5, 2.5, 3.5, 4.5]}], "seed": 3},
)
WEIGHTS = {
    "generator.b": np.arange(6, dtype=np.float32).reshape(2, 3),
    "generator.a": np.array([1.5], np.float16),
    "generator.gate": np.array(0.25, np.float32),  # one number, no axis
    "generator.count": np.array([7], np.int64),
}


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    """This user's folder, which nobody has made yet."""
    monkeypatch.setenv("FUSION_CHECKPOINTS", str(tmp_path / "mine"))
    monkeypatch.setattr(checkpoints, "_bundled_folder", lambda: tmp_path / "bundled")
    return tmp_path / "mine"


def head(**changes) -> str:
    """Description of ABOUT as the file has it; None takes a part away."""
    body = {"format": checkpoints.FORMAT, **{k: v for k, v in vars(ABOUT).items() if k != "name"}, **changes}
    return json.dumps({key: value for key, value in body.items() if value is not None})


def packed(text: str | None, weights=WEIGHTS) -> bytes:
    """Make a safetensors file that describes itself by `text`."""
    return pack(weights, None if text is None else {checkpoints.KEY: text})


def put(place: Path, data: bytes, name: str = "edcstfn-odd") -> str:
    """Lay a file into the folder by hand."""
    place.mkdir(exist_ok=True)
    (place / f"{name}.safetensors").write_bytes(data)
    return name


def same(weights) -> None:
    assert weights.keys() == WEIGHTS.keys()
    for key, value in WEIGHTS.items():
        assert weights[key].dtype == value.dtype and weights[key].shape == value.shape
        np.testing.assert_array_equal(weights[key], value)


def test_what_is_saved_is_read(place):
    assert checkpoints.names() == () and checkpoints.paths() == {}
    path = checkpoints.save(ABOUT, WEIGHTS)
    assert path.parent == place and list(place.iterdir()) == [path]
    assert checkpoints.read(path.stem) == replace(ABOUT, name=path.stem)
    same(checkpoints.arrays(path.stem))
    same(checkpoints.arrays(str(path)))  # what train() returned is a name as well
    assert checkpoints.names() == checkpoints.names("edcstfn") == (path.stem,) and checkpoints.names("stfnet") == ()


def test_weights_in_any_layout_of_memory_are_kept():
    turned = {**WEIGHTS, "generator.b": np.asfortranarray(WEIGHTS["generator.b"])}
    same(checkpoints.arrays(checkpoints.save(ABOUT, turned).stem))


def test_a_name_tells_method_bands_ratio_and_content():
    path = checkpoints.save(ABOUT, WEIGHTS)
    again = checkpoints.save(ABOUT, dict(reversed(WEIGHTS.items())))
    other = checkpoints.save(ABOUT, {**WEIGHTS, "generator.a": np.array([1.25], np.float16)})
    elsewhere = checkpoints.save(replace(ABOUT, mean=(0.1, 0.2), ratios=(4, 4)), WEIGHTS)
    assert again == path and len({path, other, elsewhere}) == 3
    assert path.stem.startswith("edcstfn-2b-r2-16-") and elsewhere.stem.startswith("edcstfn-2b-r4-")
    assert all(checkpoints.NAME.fullmatch(each.stem) for each in (path, other, elsewhere))


@pytest.mark.parametrize(
    ("bands", "ratio", "why"),
    [
        (("nir", "red"), 16, ""),
        (("red", "nir"), 2, ""),
        (("red",), 4, "is for the bands red, nir, got red: choose these bands"),
        (("red", "nir", "blue"), 4, "got red, nir, blue"),
        (("red", "nir"), 1, "is for ratios from 2 to 16, got ratio 1"),
        (("red", "nir"), 17, "got ratio 17: choose another checkpoint, or adapt"),
    ],
)
def test_bands_and_ratio_that_do_not_fit_are_named(bands, ratio, why):
    got = ABOUT.misfit(bands, ratio)
    assert (why in got) if why else (got == "")


class Evil:
    """Runs when it is unpickled."""

    def __reduce__(self):
        return (os._exit, (3,))


def huge() -> bytes:
    """Return a file whose header claims to be as long as no memory is."""
    return struct.pack("<Q", 2**62) + b"{}"


GOOD = packed(head())
DAMAGED = {
    "pickle": pickle.dumps(Evil()),
    "cut": GOOD[: len(GOOD) - 5],
    "cut in the header": GOOD[:50],
    "longer": GOOD + b"more",
    "empty": b"",
    "huge header": huge(),
    "noise": bytes(range(256)) * 10,
    "html": b"<!DOCTYPE html><title>404</title>",
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED.keys())
def test_what_is_no_safetensors_file_is_refused_and_never_unpickled(place, data):
    with pytest.raises(FusionError, match="damaged, cut short or of another kind.*pickles .* are never opened"):
        checkpoints.take_in(data)
    name = put(place, data)
    for look in (checkpoints.read, checkpoints.arrays):
        with pytest.raises(FusionError, match=f"{name}.safetensors wants to be a safetensors file"):
            look(name)
    assert checkpoints.every() == [] and list(place.iterdir()) == [place / f"{name}.safetensors"]
    assert checkpoints.damaged().keys() == {f"{name}.safetensors"}


STRANGE = {
    "no description": (packed(None), "without Meantime's description"),
    "no json": (packed("{"), "damaged"),
    "a list": (packed("[1]"), "are no JSON object"),
    "deep": (packed("[" * 200_000), "damaged|no JSON object"),
    "long": (packed('{"a": "' + "x" * checkpoints.MAX_HEAD + '"}'), "describes itself by 1,000,00. characters"),
    "other format": (packed(head(format=2)), "has format 2, this version of Meantime reads 1: update"),
    "no format": (packed(head(format=None)), "has format None"),
    "no bands": (packed(head(bands=None)), "lacks a part of its description"),
    "no mean": (packed(head(mean=None)), "lacks a part"),
    "ratio of text": (packed(head(ratios=["a", 2])), "lacks a part"),
    "one ratio": (packed(head(ratios=[4])), "lacks a part"),
    "endless ratio": (packed(head(ratios=[1, float("inf")])), "lacks a part"),
    "parameters of text": (packed(head(parameters="wide")), "lacks a part"),
    "no band": (packed(head(bands=[], mean=[], scale=[])), "0 bands.* cannot be"),
    "a band twice": (packed(head(bands=["red", "red"])), "cannot be"),
    "one scale": (packed(head(scale=[0.1])), "cannot be"),
    "scale 0": (packed(head(scale=[0.1, 0])), "cannot be"),
    "mean NaN": (packed(head(mean=[0.1, float("nan")])), "cannot be"),
    "ratios turned": (packed(head(ratios=[16, 2])), "cannot be"),
    "ratio 0": (packed(head(ratios=[0, 2])), "cannot be"),
    "method of a path": (packed(head(method="../../x")), "cannot be"),
}


@pytest.mark.parametrize(("data", "message"), STRANGE.values(), ids=STRANGE.keys())
def test_a_file_that_does_not_say_what_it_is_is_refused(place, data, message):
    with pytest.raises(FusionError, match=message):
        checkpoints.take_in(data)
    name = put(place, data)
    for look in (checkpoints.read, checkpoints.arrays):
        with pytest.raises(FusionError, match=message):
            look(name)
    assert checkpoints.names() == ()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_refused(place, bad):
    data = packed(head(), {**WEIGHTS, "generator.b": np.array([1, bad], np.float32)})
    with pytest.raises(FusionError, match="weights generator.b of .* are not all finite"):
        checkpoints.take_in(data)
    assert not place.exists() or not list(place.iterdir())
    with pytest.raises(FusionError, match="weights generator.b of .* are not all finite"):
        checkpoints.arrays(put(place, data))


def test_weights_of_a_kind_that_numpy_lacks_are_refused(place):
    table = {"__metadata__": {checkpoints.KEY: head()}}
    table["generator.a"] = {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}
    text = json.dumps(table).encode()
    data = struct.pack("<Q", len(text)) + text + bytes(4)
    with pytest.raises(FusionError, match="damaged, cut short or of another kind"):
        checkpoints.take_in(data)
    with pytest.raises(FusionError, match="damaged, cut short or of another kind"):
        checkpoints.arrays(put(place, data))


def test_a_file_taken_in_gets_the_name_of_its_content(place):
    path = checkpoints.save(ABOUT, WEIGHTS)
    data = path.read_bytes()
    path.unlink()
    found = checkpoints.take_in(data)
    assert found == replace(ABOUT, name=path.stem) and path.read_bytes() == data
    assert checkpoints.take_in(data) == found and list(place.iterdir()) == [path]
    same(checkpoints.arrays(found.name))


def test_a_file_that_is_too_large_is_refused(monkeypatch):
    monkeypatch.setattr(checkpoints, "MAX_BYTES", 2**20)
    with pytest.raises(FusionError, match="A checkpoint has at most 1 MB, got 3 MB"):
        checkpoints.take_in(bytes(3 * 2**20))


@pytest.mark.parametrize("name", ["../secret", "../secret.safetensors", "", ".", "..", "x/../../secret", "sub/secret"])
def test_a_name_never_leads_out_of_the_folder(place, name):
    outside = checkpoints.save(ABOUT, WEIGHTS, place.parent)
    outside.rename(place.parent / "secret.safetensors")
    (place / "sub").mkdir(parents=True)
    (place / "sub" / "secret.safetensors").write_bytes(GOOD)
    for look in (checkpoints.read, checkpoints.arrays, checkpoints.remove):
        for given in (name, str(place.parent / "secret.safetensors"), "a" * 5000, "\0"):
            with pytest.raises(FusionError, match="There is no checkpoint .* here; there are none"):
                look(given)
    assert (place.parent / "secret.safetensors").exists() and (place / "sub" / "secret.safetensors").exists()
    assert not checkpoints.is_bundled(name) and not checkpoints.is_bundled("../mine/sub/secret")


def test_other_files_in_the_folder_are_none(place):
    path = checkpoints.save(ABOUT, WEIGHTS)
    (place / "unfinished").mkdir()
    (place / "folder.safetensors").mkdir()
    for name in ("notes.txt", "weights.pt", ".hidden.safetensors", "Upper.safetensors", "a b.safetensors"):
        (place / name).write_bytes(path.read_bytes())
    (place / "gone.safetensors").symlink_to(place / "nowhere")
    assert checkpoints.names() == (path.stem,)
    for name in ("gone", "folder"):
        with pytest.raises(FusionError):
            checkpoints.read(name)


def test_a_folder_that_cannot_be_looked_into_is_named(place, monkeypatch):
    checkpoints.save(ABOUT, WEIGHTS)

    def denied(self):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", denied)
    with pytest.raises(FusionError, match="cannot be looked into: Permission denied.*FUSION_CHECKPOINTS"):
        checkpoints.names()


def no_room(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("call", ["os.replace", "os.fdopen", "tempfile.mkstemp", "pathlib.Path.mkdir"])
def test_a_full_disk_leaves_no_part_of_a_file(place, monkeypatch, call):
    data = packed(head())
    with monkeypatch.context() as patch:
        patch.setattr(call, no_room)
        message = "The checkpoint .* cannot be written to .*: No space left on device. Make room there"
        with pytest.raises(FusionError, match=message):
            checkpoints.save(ABOUT, WEIGHTS)
    assert not place.exists() or not list(place.iterdir())
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.write_bytes", no_room)
        with pytest.raises(FusionError, match="No space left on device"):
            checkpoints.take_in(data)
    assert not place.exists() or not list(place.iterdir())


def test_a_checkpoint_is_removed_but_for_a_bundled_one(place):
    own, other = checkpoints.save(ABOUT, WEIGHTS), checkpoints.save(replace(ABOUT, title="Other"), WEIGHTS)
    bundled = checkpoints.save(replace(ABOUT, title="Bundled"), WEIGHTS, place.parent / "bundled")
    assert checkpoints.names()[0] == bundled.stem and checkpoints.is_bundled(bundled.stem)
    checkpoints.remove(own.stem)
    assert set(checkpoints.names()) == {bundled.stem, other.stem} and not own.exists()
    with pytest.raises(FusionError, match="There is no checkpoint"):
        checkpoints.remove(own.stem)
    for given in (bundled.stem, str(bundled)):
        with pytest.raises(FusionError, match="comes with Meantime and stays"):
            checkpoints.remove(given)
    assert bundled.exists()


def test_files_that_cannot_be_used_are_told_and_removed_by_name(place):
    path = checkpoints.save(ABOUT, WEIGHTS)
    bundled = checkpoints.save(replace(ABOUT, title="Bundled"), WEIGHTS, place.parent / "bundled")
    put(place, b"", bundled.stem)
    put(place, GOOD, "Not Named\x1b[2J\n")
    put(place, GOOD, ".hidden")
    os.mkfifo(place / "edcstfn-pipe.safetensors")
    (place / "edcstfn-link.safetensors").symlink_to(place / "nowhere")
    told = checkpoints.damaged()
    wanted = {
        f"{bundled.name}": "cut short",
        r"Not Named\x1b[2J\n.safetensors": "not named as one",
        "edcstfn-pipe.safetensors": "wants to be a file",
        "edcstfn-link.safetensors": "No such file",
    }
    assert told.keys() == wanted.keys() and all(words in told[name] for name, words in wanted.items())
    assert set(checkpoints.names()) == {path.stem, bundled.stem}
    for name in told:
        checkpoints.remove(name)
    assert checkpoints.damaged() == {} and {each.name for each in place.iterdir()} == {path.name, ".hidden.safetensors"}
    assert bundled.exists()
    for name in (".hidden.safetensors", path.name, "../bundled/" + bundled.name):
        with pytest.raises(FusionError, match="There is no checkpoint"):
            checkpoints.remove(name)


def test_what_others_wrote_is_told_in_few_words_that_can_be_printed(place):
    put(place, packed(head(format="\x1b]0;" + "x" * 10_000)), "a\udcff")
    ((name, why),) = checkpoints.damaged().items()
    assert name == r"a\udcff.safetensors" and why.isprintable() and len(why) <= 600
    assert r"a\udcff.safetensors has format" in why


def test_a_file_that_cannot_be_deleted_is_named(place):
    (place / "edcstfn-x.safetensors").mkdir(parents=True)
    with pytest.raises(FusionError, match="edcstfn-x.safetensors cannot be deleted: .*Delete it by hand"):
        checkpoints.remove("edcstfn-x.safetensors")


def test_a_bundled_one_is_not_hidden_by_a_file_of_its_name(place):
    bundled = checkpoints.save(ABOUT, WEIGHTS, place.parent / "bundled")
    put(place, b"nonsense", bundled.stem)
    assert checkpoints.read(bundled.stem).title == ABOUT.title


def test_a_file_that_changes_is_read_anew(place):
    name = put(place, packed(head()))
    assert checkpoints.read(name).title == "One of two bands"
    put(place, packed(head(title="Another title than before")))
    assert checkpoints.read(name).title == "Another title than before"


def test_the_folder_is_the_users_unless_it_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("FUSION_CHECKPOINTS", "~/mine")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert checkpoints.folder() == tmp_path / "mine"
    monkeypatch.delenv("FUSION_CHECKPOINTS")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert checkpoints.folder() == tmp_path / "data" / "meantime" / "checkpoints"
    monkeypatch.setenv("XDG_DATA_HOME", "relative")  # as the standard says, this one does not count
    assert checkpoints.folder() == tmp_path / ".local" / "share" / "meantime" / "checkpoints"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    with pytest.raises(FusionError, match="has no home folder.*set FUSION_CHECKPOINTS"):
        checkpoints.folder()


def test_a_checkpoint_is_known_by_its_path_too(place):
    path = checkpoints.save(ABOUT, WEIGHTS)
    assert checkpoints.path_of(path) == path == checkpoints.path_of(str(path))
    assert checkpoints.read(path) == checkpoints.read(path.stem)
    with pytest.raises(FusionError, match="There is no checkpoint '/nowhere/x' here"):
        checkpoints.read(Path("/nowhere/x"))


def test_without_a_home_folder_the_bundled_ones_are_there_all_the_same(monkeypatch, tmp_path):
    bundled = checkpoints.save(ABOUT, WEIGHTS, tmp_path / "bundled")
    monkeypatch.setenv("FUSION_CHECKPOINTS", "~nobody-of-this-name/mine")
    assert checkpoints.names() == (bundled.stem,) and checkpoints.read(bundled.stem).method == "edcstfn"
    with pytest.raises(FusionError, match="has no home folder"):
        checkpoints.save(ABOUT, WEIGHTS)


def test_a_folder_that_cannot_be_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("FUSION_CHECKPOINTS", str(tmp_path / ("a" * 300)))
    with pytest.raises(FusionError, match="cannot be looked into: File name too long"):
        checkpoints.names()


def test_whether_there_is_room_is_known_before(place, monkeypatch):
    checkpoints.check_room(1000)
    assert place.is_dir() and not list(place.iterdir())
    with pytest.raises(FusionError, match="cannot be written to .*mine: No space left"):
        checkpoints.check_room(10**18)
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # as on a read-only disk
    with pytest.raises(FusionError, match="cannot be written to .*mine: Permission denied"):
        checkpoints.check_room(1000)


@pytest.mark.parametrize("name", ["theirs.pt", "../../theirs.pt"])
def test_what_is_refused_is_called_by_its_name(name):
    with pytest.raises(FusionError, match="^[._]*theirs.pt wants to be a safetensors file"):
        checkpoints.take_in(b"nonsense", name)
    with pytest.raises(FusionError, match="^The file wants to be"):
        checkpoints.take_in(b"nonsense", "..")
