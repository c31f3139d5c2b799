"""The disk cache, with real files, threads and processes."""

import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from contextvars import copy_context
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fusion import Cancelled, FusionError, _cache
from fusion._cache import arrays, clear, folder, size, text
from fusion._pulse import PULSE, Pulse

ROOT = Path(__file__).resolve().parent.parent
IMAGE = np.arange(24, dtype=np.uint16).reshape(2, 3, 4)


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A folder of this test's own; nothing was warned of yet."""
    monkeypatch.setenv("FUSION_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FUSION_CACHE_MB", raising=False)
    monkeypatch.setattr(_cache, "_WARNED", threading.Event())
    yield tmp_path / "cache" / "pixels"
    assert _cache._FLIGHTS == {}


class Maker:
    """Counts how often it was asked."""

    def __init__(self, made=None):
        self.made, self.calls = {"red": IMAGE} if made is None else made, 0

    def __call__(self):
        self.calls += 1
        return self.made


def never():
    raise AssertionError("made again")


def files(place):
    return sorted(place.iterdir()) if place.exists() else []


def used_at(place, names):
    """Say that the files of these keys were used one second after another, all long ago."""
    paths = [file_of(place, key) for key in names]
    for second, path in enumerate(paths):
        os.utime(path, (1000 + second,) * 2)


def file_of(place, key):
    """The one file that this key alone has, found by the touch of its use."""
    for path in files(place):
        os.utime(path, (500, 500))
    arrays(key, never)
    (path,) = (path for path in files(place) if path.stat().st_mtime != 500)
    return path


def noise(kilobytes, seed=0):
    """What cannot be compressed."""
    return {"n": np.random.default_rng(seed).integers(0, 256, kilobytes * 1024, np.uint8)}


def together(*works):
    """Run works in threads of their own; what they give or raise, in their order."""
    out = [None] * len(works)

    def run(i):
        try:
            out[i] = works[i]()
        except (ValueError, Cancelled) as error:
            out[i] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    return out


def when_waiting(count, act):
    """Act when so many threads wait for one that makes."""
    end = time.monotonic() + 20
    while not (_cache._FLIGHTS and next(iter(_cache._FLIGHTS.values())).waiting == count):
        assert time.monotonic() < end
        time.sleep(0.001)
    act()


def python(code, folder, *args, before="", **more):
    """A process of its own; gives what it printed."""
    call = [*before.split(), sys.executable, "-c", code, *map(str, args)]
    env = {**os.environ, "FUSION_CACHE": str(folder), **more}
    return subprocess.Popen(call, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def said(process):
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out.strip()


def test_what_was_made_once_is_read_from_disk_afterwards(place):
    made = Maker({"red": IMAGE, "QA_PIXEL": IMAGE[0] + 3})
    first, second = arrays("a", made), arrays("a", never)
    assert made.calls == 1 and list(first) == list(second) == ["red", "QA_PIXEL"]
    for found in (first, second):
        np.testing.assert_array_equal(found["red"], IMAGE, strict=True)
        np.testing.assert_array_equal(found["QA_PIXEL"], IMAGE[0] + 3, strict=True)
    assert [path.suffix for path in files(place)] == [".bin"]


def test_texts_and_nothing_at_all_are_values_too():
    for value in ("", '{"a": "ü – \\u0000"}', "\ud800"):
        assert text(f"t{len(value)}", lambda value=value: value) == text(f"t{len(value)}", never) == value
    assert arrays("none", dict) == arrays("none", never) == {}


def test_a_text_and_arrays_of_one_key_are_two_things():
    text("a", lambda: "words")
    arrays("a", Maker())
    assert text("a", never) == "words" and list(arrays("a", never)) == ["red"]


@given(
    hnp.arrays(
        st.one_of(
            hnp.boolean_dtypes(),
            hnp.integer_dtypes(endianness="?"),
            hnp.unsigned_integer_dtypes(endianness="?"),
            hnp.floating_dtypes(endianness="?"),
        ),
        hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
    ),
    st.text(max_size=5),
)
def test_every_number_comes_back_bit_by_bit(array, name):
    clear()
    for order in "CF":
        arrays(f"key {order}", lambda order=order: {name: np.asarray(array, order=order), "file": IMAGE})
        back = arrays(f"key {order}", never)
        assert back[name].dtype == array.dtype and back[name].shape == array.shape
        assert back[name].tobytes() == array.tobytes()
        np.testing.assert_array_equal(back["file"], IMAGE, strict=True)


@pytest.mark.parametrize("kept", [True, False])
def test_what_one_caller_changes_no_other_sees(monkeypatch, kept):
    if not kept:
        monkeypatch.setenv("FUSION_CACHE", "off")
    going = threading.Event()

    def make():
        going.wait(10)
        return {"red": IMAGE.copy()}

    def work():
        found = arrays("a", make)["red"]
        found += 1
        return found

    *found, _ = together(*[work] * 4, lambda: when_waiting(3, going.set))
    for image in found:
        np.testing.assert_array_equal(image, IMAGE + 1)
    if kept:
        arrays("a", never)["red"][:] = 0
        np.testing.assert_array_equal(arrays("a", never)["red"], IMAGE)


@pytest.mark.parametrize(
    "array",
    [np.ma.masked_equal(IMAGE, 3), np.array(["a"]), np.array([None]), np.array([1j]), np.array(["2020"], "M8[D]"),
     np.zeros(2, [("a", "u1")])],
    ids=["mask", "text", "object", "complex", "date", "record"],
)  # fmt: skip
def test_what_is_more_than_numbers_is_refused(place, array):
    with pytest.raises(ValueError, match="'red'"):
        arrays("a", lambda: {"red": array})
    assert files(place) == []


def test_keys_are_not_written_down(place):
    arrays("../../etc/passwd?token=hidden", Maker())
    text("token=hidden" * 1000, lambda: "x")
    assert len(files(place)) == 2
    for path in files(place):
        assert _cache.OURS.fullmatch(path.name) and b"hidden" not in path.read_bytes()


def test_another_format_is_another_file(place, monkeypatch):
    arrays("a", Maker())
    monkeypatch.setattr(_cache, "FORMAT", _cache.FORMAT + 1)
    made = Maker()
    arrays("a", made)
    assert made.calls == 1 and len(files(place)) == 2


# Spoilt files


@pytest.mark.parametrize("length", [0, 1, 15, 16, 17, 40, -1])
def test_a_file_cut_short_is_deleted_and_made_again(place, length):
    arrays("a", Maker())
    (path,) = files(place)
    whole = path.read_bytes()
    path.write_bytes(whole[:length])
    made = Maker()
    np.testing.assert_array_equal(arrays("a", made)["red"], IMAGE)
    assert made.calls == 1 and path.read_bytes() == whole


def test_a_spoilt_file_is_deleted_even_if_nothing_takes_its_place(place):
    arrays("a", Maker())
    files(place)[0].write_bytes(b"spoilt")
    with pytest.raises(ZeroDivisionError):
        arrays("a", lambda: 1 // 0)
    assert files(place) == []


def test_any_flipped_bit_is_found(place):
    arrays("a", Maker())
    (path,) = files(place)
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        made = Maker()
        arrays("a", made)
        assert made.calls == 1


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\x93NUMPY", b'[["a", "|O", [1]]]\n', b'[["a", "<c8", [1]]]\n', b'[["a", "<u2", [9]]]\n', b'[["a"]]\n',
     b"7\n", b'[["a", "no", [1]]]\n', b'[["a", "<u2", [-3]]]\n', b'[["a", "<u2", "x"]]\n',
     b"[" * 50_000 + b"\n", b"\xff\n"],
)  # fmt: skip
def test_a_file_with_the_right_checksum_and_other_content_is_a_miss(place, body):
    arrays("a", Maker())
    (path,) = files(place)
    for rest in (b"", _cache.zlib.compress(b"12345678")):
        path.write_bytes(_cache._sum(path, body + rest) + body + rest)
        made = Maker()
        assert list(arrays("a", made)) == ["red"] and made.calls == 1


def test_a_file_under_another_name_is_a_miss(place):
    arrays("a", Maker())
    arrays("b", Maker({"red": IMAGE + 1}))
    one, other = files(place)
    shutil.copy(one, other)
    made = Maker({"red": IMAGE + 1})
    arrays("a", made), arrays("b", made)
    assert made.calls == 1


def test_a_file_that_may_not_be_opened_is_a_miss(place):
    arrays("a", Maker())
    (path,) = files(place)
    path.unlink()
    path.mkdir()
    made = Maker()
    np.testing.assert_array_equal(arrays("a", made)["red"], IMAGE)
    assert made.calls == 1 and path.is_dir() and files(place) == [path]


# Bounds


def test_what_was_used_longest_ago_goes_first(place, monkeypatch):
    monkeypatch.setenv("FUSION_CACHE_MB", "1")
    for i in range(5):
        arrays(f"k{i}", lambda i=i: noise(170, i))
    used_at(place, ["k3", "k0", "k2", "k4", "k1"])
    arrays("k3", never)  # the oldest until now
    arrays("k5", lambda: noise(170, 5))
    assert size() <= 2**20
    for i in (1, 2, 3, 4, 5):
        arrays(f"k{i}", never)
    made = Maker()
    arrays("k0", made)
    assert made.calls == 1


@settings(max_examples=30)
@given(st.lists(st.integers(1, 400), max_size=25))
def test_the_bound_holds_and_the_newest_stays(kilobytes):
    clear()
    with pytest.MonkeyPatch.context() as changed:
        changed.setenv("FUSION_CACHE_MB", "1")
        for i, length in enumerate(kilobytes):
            arrays(f"{i} of {length}", lambda i=i, length=length: noise(length, i))
            assert size() <= 2**20
            arrays(f"{i} of {length}", never)


def test_what_is_larger_than_the_bound_is_given_and_not_kept(place, monkeypatch):
    monkeypatch.setenv("FUSION_CACHE_MB", "1")
    arrays("small", Maker())
    made = Maker(noise(1024))
    for _ in range(2):
        np.testing.assert_array_equal(arrays("large", made)["n"], made.made["n"])
    assert made.calls == 2 and len(files(place)) == 1
    arrays("small", never)


def test_a_lower_bound_holds_from_the_next_write_on(place, monkeypatch):
    for i in range(12):
        arrays(f"k{i}", lambda i=i: noise(170, i))
    assert size() > 2 * 2**20
    monkeypatch.setenv("FUSION_CACHE_MB", "1")
    arrays("last", Maker())
    assert 0 < size() <= 2**20


def test_what_other_processes_wrote_counts(place, monkeypatch):
    monkeypatch.setenv("FUSION_CACHE_MB", "1")
    arrays("mine", Maker())
    code = (
        "import sys, numpy as np; from fusion._cache import arrays\n"
        "for i in range(4): arrays(f'{i}', lambda: {'n': np.random.default_rng(i).integers(0, 256, 200_000, 'u1')})"
    )
    said(python(code, place.parent))
    assert size() > 700_000
    for i in range(3):
        arrays(f"k{i}", lambda i=i: noise(170, i))
    assert size() <= 2**20 * (1 + _cache.LOOK)


def test_only_our_own_files_are_counted_and_deleted(place, monkeypatch):
    arrays("a", Maker())
    for name in ("holiday.jpg", "0" * 40, "0" * 40 + ".bin.bak", "x" + "0" * 40 + ".bin"):
        (place / name).write_bytes(bytes(100_000))
    assert 0 < size() < 100_000
    clear()
    assert size() == 0 and len(files(place)) == 4
    assert arrays("a", Maker())["red"].shape == IMAGE.shape


def test_drafts_of_processes_that_died_go_and_fresh_ones_stay(place, monkeypatch):
    monkeypatch.setenv("FUSION_CACHE_MB", "1")
    arrays("a", Maker())
    old, fresh = place / f"{'0' * 40}.abc_1234.part", place / f"{'1' * 40}.abc_1234.part"
    for path in (old, fresh):
        path.write_bytes(bytes(450_000))
    os.utime(old, (1000, 1000))
    os.utime(fresh, (time.time() - 60,) * 2)
    arrays("b", lambda: noise(400))
    assert not old.exists() and fresh.exists() and size() <= 2**20
    arrays("c", lambda: noise(200))  # b goes, though the draft is older
    assert fresh.exists() and size() <= 2**20
    clear()
    assert files(place) == [fresh]


@pytest.mark.parametrize(
    ("name", "value"), [("FUSION_CACHE", "off"), ("FUSION_CACHE_MB", "Off"), ("FUSION_CACHE_MB", "0")]
)
def test_it_can_be_switched_off(tmp_path, monkeypatch, name, value):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(name, value)
    made = Maker()
    arrays("a", made), arrays("a", made), text("a", lambda: "x")
    assert made.calls == 2 and size() == 0 and list(tmp_path.rglob("*")) == []
    clear()


@pytest.mark.parametrize("value", ["-1", "1.5", "2 GB", "nan", "²", "9" * 5000])
def test_a_bound_that_is_no_number_is_refused(monkeypatch, value):
    monkeypatch.setenv("FUSION_CACHE_MB", value)
    with pytest.raises(FusionError, match="FUSION_CACHE_MB wants .* got .* set it"):
        arrays("a", never)


def test_estimates_and_pixels_share_the_folder(place):
    from fusion import estimate

    assert estimate.folder is folder and place.parent == folder()


# Threads


def test_of_many_threads_one_makes_and_all_get_it():
    going, calls = threading.Event(), []

    def make():
        calls.append(1)
        going.wait(10)
        return {"red": IMAGE}

    def work():
        return arrays("a", make)["red"]

    *found, _ = together(*[work] * 8, lambda: when_waiting(7, going.set))
    assert len(calls) == 1
    for image in found:
        np.testing.assert_array_equal(image, IMAGE, strict=True)


@pytest.mark.parametrize("kept", [True, False])
def test_where_the_first_fails_the_next_tries_itself(monkeypatch, kept):
    if not kept:
        monkeypatch.setenv("FUSION_CACHE", "off")
    calls, waits = [], threading.Event()

    def make():
        calls.append(1)
        waits.wait(10)
        if len(calls) < 3:
            raise ValueError(f"failure {len(calls)}")
        return "text"

    def work():
        return text("a", make)

    *found, _ = together(*[work] * 4, lambda: when_waiting(3, waits.set))
    assert sorted(map(str, found)) == ["failure 1", "failure 2", "text", "text"]
    assert len(calls) == 3 or not kept


def test_other_keys_are_made_at_the_same_time():
    both = threading.Barrier(2)

    def make():
        both.wait(10)  # would break if one waited for the other
        return "x"

    assert together(lambda: text("a", make), lambda: text("b", make)) == ["x", "x"]


def test_one_that_waits_stops_when_asked_and_the_maker_goes_on():
    pulse, going, begun = Pulse(), threading.Event(), threading.Event()

    def make():
        begun.set()
        going.wait(10)
        return "done"

    def waiter():
        begun.wait(10)

        def work():
            PULSE.set(pulse)
            return text("a", never)

        try:
            return copy_context().run(work)
        finally:
            going.set()

    def stopper():
        when_waiting(1, lambda: setattr(pulse, "stopped", True))

    made, stopped, _ = together(lambda: text("a", make), waiter, stopper)
    assert made == "done" and isinstance(stopped, Cancelled)
    assert text("a", never) == "done"


def test_readers_writers_and_deletion_at_once(monkeypatch):
    monkeypatch.setenv("FUSION_CACHE_MB", "1")

    def work(seed):
        random = np.random.default_rng(seed)

        def run():
            for key in random.integers(0, 30, 60):
                found = arrays(f"k{key}", lambda key=key: noise(60, key))["n"]
                np.testing.assert_array_equal(found, noise(60, key)["n"])
                if random.random() < 0.03:
                    clear()

        return run

    assert together(*map(work, range(4))) == [None] * 4
    assert size() <= 2**20


# Processes

CHURN = """
import sys, numpy as np
from fusion._cache import arrays, size
random, made = np.random.default_rng(int(sys.argv[1])), 0
def make(key):
    global made
    made += 1
    return {"n": np.random.default_rng(key).integers(0, 2**16, 30_000, np.uint16)}
for key in map(int, random.integers(0, 40, 150)):
    found = arrays(f"k{key}", lambda: make(key))["n"]
    assert (found == np.random.default_rng(key).integers(0, 2**16, 30_000, np.uint16)).all()
print(made)
"""


def test_two_processes_share_a_folder_that_is_too_small_for_them(place):
    both = [python(CHURN, place.parent, seed, FUSION_CACHE_MB="1") for seed in (1, 2)]
    made = [int(said(process)) for process in both]
    assert all(count >= 20 for count in made)  # 40 of 60 kB each have no room
    assert size() <= 2**20 * (1 + 2 * _cache.LOOK) and all(path.suffix == ".bin" for path in files(place))


def test_what_one_process_made_another_reads(place):
    arrays("a", Maker())
    code = "from fusion._cache import arrays; print(arrays('a', lambda: 1 / 0)['red'].sum())"
    assert said(python(code, place.parent)) == str(IMAGE.sum())


# Where nothing can be written

KEEP = """
import logging, sys, numpy as np
from fusion import _cache
logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(message)s")
block = np.random.default_rng(0).integers(0, 2**16, 100_000, np.uint16)
for i in range(3):
    assert (_cache.arrays(f"token=hidden {i}", lambda: {"n": block})["n"] == block).all()
print(_cache.size())
"""
LIMITED = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n" + KEEP


def test_a_file_that_breaks_off_leaves_nothing_and_is_warned_of_once(place):
    pytest.importorskip("resource", reason="no limits on this system")
    warning, left = said(python(LIMITED, place.parent)).splitlines()
    assert warning.startswith("WARNING The cache") and "File too large" in warning and "hidden" not in warning
    assert left == "0" and files(place) == []


def mounts(tmp_path):
    """The words before a command that let it mount a small disk; the test is skipped where none may be."""
    words = "unshare --user --map-root-user --mount"
    try:
        out = subprocess.run([*words.split(), "mount", "-t", "tmpfs", "none", tmp_path], capture_output=True)
    except FileNotFoundError:
        out = None
    if out is None or out.returncode:
        pytest.skip("no disk of its own can be mounted here")
    return words


def test_a_full_disk_is_no_error(tmp_path):
    words, disk = mounts(tmp_path), tmp_path / "disk"
    disk.mkdir()
    code = f"import subprocess; subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=256k', 'none', {str(disk)!r}])\n"
    warning, left = said(python(code + KEEP, disk, before=words)).splitlines()
    assert "No space left on device" in warning and 200_000 < int(left) < 256_000  # the first of three had room


def test_a_read_only_disk_is_read(tmp_path):
    words, disk = mounts(tmp_path), tmp_path / "disk"
    disk.mkdir()
    code = f"""
import subprocess
from fusion import _cache
subprocess.run(["mount", "-t", "tmpfs", "none", {str(disk)!r}], check=True)
_cache.text("a", lambda: "kept")
subprocess.run(["mount", "-o", "remount,ro", {str(disk)!r}], check=True)
print(_cache.text("a", lambda: 1 / 0), _cache.text("b", lambda: "made"))
_cache.clear()
print(_cache.text("a", lambda: 1 / 0))
"""
    assert said(python(code, disk, before=words)).split() == ["kept", "made", "kept"]


def test_a_folder_that_cannot_be_made_is_no_error(place, caplog):
    place.parent.write_text("a file where the folder should be")
    made = Maker()
    with caplog.at_level(logging.WARNING):
        arrays("a", made), arrays("a", made)
    assert made.calls == 2 and size() == 0 and len(caplog.records) == 1
    clear()
