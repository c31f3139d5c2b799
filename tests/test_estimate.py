"""Time estimates, with a clock that only the method under test moves."""

import json
import threading
from dataclasses import dataclass, replace

import numpy as np
import pytest

from fusion import FusionError, Method, estimate, fuse, param
from fusion.estimate import Size, landscape, learn, seconds, words
from landscapes import stack

SIZE = Size(pairs=2, bands=3, height=1000, width=800, ratio=4)


class Clock:
    """Moves when told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Steady(Method):
    """Takes a tenth of a second, and so many seconds per megapixel."""

    title = "Steady"
    clock = Clock()
    runs = []  # noqa: RUF012 - emptied before each test
    pace: float = param(2.0, doc="Time per pixel.", unit="s per megapixel", low=0, high=1e9)
    reach: int = param(0, doc="Halo.", unit="fine pixels", low=0, high=500)

    def halo(self, ratio):
        return self.reach

    def prepare(self, stack):
        self.clock.now += 0.1

    def predict(self, stack, state):
        self.clock.now += self.pace * stack.fine[0, 0].size / 1e6
        self.runs.append(stack.fine.shape)
        return stack.fine[0].copy()


@dataclass(frozen=True)
class Picky(Steady):
    """Cannot use anything."""

    title = "Picky"

    def check(self, stack):
        raise FusionError("Picky wants another stack.")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty memory and a folder of this test's own."""
    monkeypatch.setenv("FUSION_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(estimate, "_COSTS", {})
    monkeypatch.setattr(Steady, "runs", [])
    monkeypatch.setattr(Steady, "clock", Clock())
    return tmp_path / "cache"


def forget(monkeypatch):
    """As a new process would start: no memory but the file."""
    monkeypatch.setattr(estimate, "_COSTS", {})


def ask(method=None, size=SIZE, **how):
    return seconds(method or Steady(), size, clock=Steady.clock, **how)


def test_what_every_run_costs_and_what_every_pixel_costs_are_told_apart():
    assert ask() == pytest.approx(0.1 + 2.0 * 0.8)
    assert ask(size=replace(SIZE, height=2000)) == pytest.approx(0.1 + 2.0 * 1.6)


@pytest.mark.parametrize("ratio", [1, 33, 150, 500])
def test_any_ratio_will_do(ratio):
    assert ask(size=replace(SIZE, ratio=ratio, height=1000, width=1000)) == pytest.approx(0.1 + 2.0)


def test_halos_of_tiles_count_as_work():
    # 2048 = 2 tiles of 1024, each 100 more on its inner side: (2 * 1124)^2 pixels are worked on; ratio 4 divides 100.
    size = replace(SIZE, height=2048, width=2048)
    assert ask(Steady(reach=100), size) == pytest.approx(0.1 + 2.0 * (2 * 1124) ** 2 / 1e6)


def test_it_is_measured_once_and_on_small_scenes_only(monkeypatch):
    first, runs = ask(), len(Steady.runs)
    assert 0 < runs <= 9 and max(height for _, _, height, _ in Steady.runs) <= 400
    assert all(shape[:2] == (2, 3) for shape in Steady.runs)
    assert ask() == first and ask(size=replace(SIZE, width=80)) < first
    forget(monkeypatch)
    assert ask() == first
    assert len(Steady.runs) == runs


def test_a_hiccup_of_the_machine_in_one_run_of_a_scene_does_not_count():
    @dataclass(frozen=True)
    class Disturbed(Steady):
        """Every second run is disturbed."""

        title = "Disturbed"

        def prepare(self, stack):
            self.clock.now += 0.1 + 0.05 * (len(self.runs) % 2)

    assert ask(Disturbed()) == pytest.approx(0.1 + 2.0 * 0.8)


def test_pixels_cost_something_where_the_larger_scene_happened_to_be_as_quick():
    # The largest scene, 384 x 384, took the 0.1 s that every run costs: half of them are put down to its pixels.
    many = Size(pairs=2, bands=3, height=1000, width=1000, ratio=4)
    assert ask(Steady(pace=0.0), many) == pytest.approx(0.05 + 0.05e6 / 384**2)
    assert ask(Steady(pace=0.0), replace(many, height=7000, width=7000)) > 10


def test_a_slower_run_raises_the_cost_of_pixels_half_of_the_way(monkeypatch):
    before = ask()  # 1.7 s
    learn(Steady(), SIZE, 2.25 * before)
    assert ask() == pytest.approx(1.5 * before)
    assert ask(size=replace(SIZE, height=2000)) == pytest.approx(0.1 + 2 * (1.5 * before - 0.1))
    forget(monkeypatch)
    assert ask() == pytest.approx(1.5 * before)  # kept in the file


def test_a_quicker_run_is_believed_at_once():
    before = ask()
    learn(Steady(), SIZE, 1.2)
    assert ask() == pytest.approx(1.2)
    assert ask(size=replace(SIZE, height=2000)) == pytest.approx(1.2 / before * (0.1 + 2.0 * 1.6))


def test_what_is_learnt_comes_to_what_is_seen_and_busy_hours_are_forgotten():
    large = replace(SIZE, height=7000, width=7000)
    ask(Steady(pace=0.0))
    for _ in range(8):
        learn(Steady(pace=0.0), large, 300.0)
    assert ask(Steady(pace=0.0), large) == pytest.approx(300, rel=0.1)
    learn(Steady(pace=0.0), large, 100.0)
    assert ask(Steady(pace=0.0), large) == pytest.approx(100)


@pytest.mark.parametrize(("seen", "factor"), [(1e9, 2.0), (2.0, 0.25)])
def test_one_run_moves_the_cost_by_no_more_than_a_factor(seen, factor):
    size = replace(SIZE, height=7000, width=7000)
    before = ask(size=size)
    learn(Steady(), size, seen)
    assert ask(size=size) == pytest.approx(factor * before)


def test_a_short_run_and_one_of_an_unmeasured_method_teach_nothing(cache):
    before = ask()
    learn(Steady(), SIZE, 0.9)
    learn(Steady(pace=3.0), SIZE, 50.0)
    assert ask() == before and ask(Steady(pace=3.0), measure=False) is None
    assert len(json.loads((cache / "times.json").read_text())) == 1


@pytest.mark.parametrize("change", [{"pairs": 3}, {"bands": 1}, {"ratio": 5}], ids=["pairs", "bands", "ratio"])
def test_another_problem_is_measured_for_itself(change):
    ask()
    runs = len(Steady.runs)
    ask(size=replace(SIZE, **change))
    assert len(Steady.runs) > runs


def test_another_device_number_of_threads_or_parameter_is_measured_for_itself(monkeypatch):
    ask()
    assert ask(Steady(pace=3.0), measure=False) is None
    with monkeypatch.context() as changed:
        changed.setattr(estimate, "device", lambda: "cuda:0")
        assert ask(measure=False) is None
    monkeypatch.setenv("FUSION_THREADS", "7")
    assert ask(measure=False) is None


def test_a_slow_method_is_measured_on_fewer_and_given_up_in_the_end():
    assert ask(Steady(pace=60.0)) == pytest.approx(0.1 + 60.0 * 0.8)
    assert max(height for _, _, height, _ in Steady.runs) < 192
    assert Steady.clock.now < 2


def test_a_scene_that_takes_too_long_is_stopped_and_no_time_is_told():
    released = threading.Event()

    @dataclass(frozen=True)
    class Stuck(Steady):
        """Hangs until the test ends."""

        title = "Stuck"

        def predict(self, stack, state):
            self.clock.now += 1000
            released.wait(20)
            return stack.fine[0].copy()

    assert ask(Stuck()) is None
    released.set()


def test_a_method_that_cannot_use_such_a_stack_has_no_time():
    assert ask(Picky()) is None


def test_without_measuring_only_what_is_known_is_told():
    assert ask(measure=False) is None and Steady.runs == []
    assert ask(measure=False) == ask() if ask() else pytest.fail("measured")


def test_the_file_is_read_by_other_processes(cache, monkeypatch):
    ask()
    (key,) = kept = json.loads((cache / "times.json").read_text())
    kept[key] = [5.0, 0.0]
    (cache / "times.json").write_text(json.dumps(kept))
    forget(monkeypatch)
    assert ask() == 5.0


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[1, 2]", b"7", b"null", b'{"a": 1}', b'{"a": [1]}', b'{"a": [1, "x"]}', b'{"a": [1, -2]}',
     b'{"a": [1, NaN]}', b'{"a": [true, 1]}', b"\xff\xfe\x00", b"[" * 100_000],
)  # fmt: skip
def test_a_broken_file_is_ignored_and_written_anew(cache, monkeypatch, content):
    cache.mkdir()
    (cache / "times.json").write_bytes(content)
    first = ask()
    assert len(json.loads((cache / "times.json").read_text())) == 1
    forget(monkeypatch)
    runs = len(Steady.runs)
    assert ask() == first and len(Steady.runs) == runs


def test_a_folder_that_cannot_be_written_is_no_error(cache):
    cache.write_text("a file where the folder should be")
    assert ask() == ask()
    assert cache.read_text().startswith("a file")


@pytest.mark.parametrize("word", ["off", "OFF", "0"])
def test_it_can_be_switched_off(monkeypatch, tmp_path, word):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FUSION_CACHE", word)
    assert estimate.folder() is None
    assert ask() == ask() and list(tmp_path.iterdir()) == []


def test_the_cache_is_where_the_user_keeps_caches(monkeypatch, tmp_path):
    monkeypatch.delenv("FUSION_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert estimate.folder() == tmp_path / "meantime"
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert estimate.folder() == tmp_path / "me" / ".cache" / "meantime"


def test_many_writers_leave_a_whole_file(cache):
    def write(start):
        for i in range(start, start + 20):
            estimate._keep(f"key {i}", (float(i), 0.0))

    workers = [threading.Thread(target=write, args=(100 * n,)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(json.loads((cache / "times.json").read_text())) == 80
    assert [path.name for path in cache.iterdir()] == ["times.json"]


def test_the_file_stays_small(cache, monkeypatch):
    monkeypatch.setattr(estimate, "MOST", 3)
    for i in range(5):
        estimate._keep(f"key {i}", (float(i), 0.0))
    assert list(json.loads((cache / "times.json").read_text())) == ["key 2", "key 3", "key 4"]


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (0.0, "less than 1 s"), (0.99, "less than 1 s"), (1.0, "about 1 s"), (6.6, "about 7 s"), (19.0, "about 20 s"),
        (57.4, "about 55 s"), (58.0, "about 1 min"), (170.0, "about 3 min"), (5000.0, "about 83 min"),
        (7000.0, "about 2 h"),
    ],
)  # fmt: skip
def test_durations_in_words(time, text):
    assert words(time) == text


def test_size_of_a_stack():
    assert Size.of(stack((-40, 25), rows=3, columns=5, ratio=4, bands=2)) == Size(2, 2, 12, 20, 4)


def test_the_landscape_has_fields_texture_and_change():
    scene = landscape(2, 3, 12, 8)
    assert scene.fine.shape == (2, 3, 96, 96) and scene.ratio == 8
    np.testing.assert_allclose(scene.coarse[0, 0, 0, 0], scene.fine[0, 0, :8, :8].mean(), rtol=1e-5)
    near = np.abs(scene.fine[0, 0] - scene.fine[0, 0, 48, 48]) <= 2 * scene.fine[0, 0].std() / 20
    assert 0.01 < near.mean() < 0.5  # a sparse kernel must find neither nothing nor everything
    assert np.isfinite(fuse(scene, Steady()).data).all()
