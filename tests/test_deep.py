"""What every network gets from its base: patches, gaps, memory, threads, checkpoints; and what it owes to it."""

import multiprocessing
import threading
from collections import OrderedDict
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion import Cancelled, FusionError, checkpoints, fuse, methods
from fusion._pulse import PULSE, Pulse
from fusion.methods import _deep, _inference, _networks
from fusion.methods._inference import predicted
from fusion.methods._networks import Loaded, weights_of
from fusion.methods._patches import Axis
from fusion.methods._sample import filled
from fusion.params import params
from landscapes import BANDS, stack
from networks import DEEP, described, made, random_sample, saved, small, weights_for_everything

REACH = 5  # fine pixels: five convolutions of 3 x 3 in a row in EDCSTFN


@pytest.fixture(autouse=True)
def nothing_loaded(tmp_path, monkeypatch):
    """A folder without checkpoints, and no network in memory."""
    monkeypatch.setenv("FUSION_CHECKPOINTS", str(tmp_path / "mine"))
    monkeypatch.setattr(checkpoints, "_bundled_folder", lambda: None)
    monkeypatch.setattr(_networks, "_LOADED", OrderedDict())


@pytest.fixture
def weights():
    with weights_for_everything():
        yield


@pytest.fixture
def small_patches(monkeypatch, weights):
    """A scene of several patches that are worked on together, whatever memory is free."""
    monkeypatch.setattr(_deep, "SIDE", 96)
    monkeypatch.setattr(_inference, "PIXELS", 10**9)
    monkeypatch.setattr(_inference, "free_memory", lambda device: 10**12)
    return stack((-40, 25), rows=40, columns=28)


def runs(monkeypatch, most: int = 1000, then=lambda: None) -> list[int]:
    """Note the sizes of the batches that EDCSTFN runs on; a larger one than `most` finds no memory."""
    kind, sizes = type(small("edcstfn")), []
    plain = kind.forward

    def forward(self, nets, sample):
        sizes.append(sample.fine.shape[0])
        then()
        if sample.fine.shape[0] > most:
            raise torch.OutOfMemoryError("made up")
        return plain(self, nets, sample)

    monkeypatch.setattr(kind, "forward", forward)
    return sizes


# ---- patches


@given(size=st.integers(1, 400), margin=st.integers(1, 16), more=st.integers(0, 60), ratio=st.integers(1, 5))
@settings(max_examples=150)
def test_patches_cover_a_scene_and_none_is_longer_than_asked(size, margin, more, ratio):
    axis = Axis(size, 5 * margin + more, margin)
    total = np.zeros(size * ratio)
    assert axis.length <= axis.side
    assert axis.starts[0] == -margin and axis.starts[-1] + axis.length == size + margin
    for start in axis.starts:
        weights = axis.weights(start, ratio)
        low, high = max(start, 0), min(start + axis.length, size)
        total[low * ratio : high * ratio] += weights[(low - start) * ratio : (high - start) * ratio]
        assert (weights[: margin * ratio] == 0).all() and (weights[-margin * ratio :] == 0).all()
    assert (total > 0.4).all()
    assert axis.inside(0, size) == list(axis.starts)


@given(size=st.integers(1, 300), margin=st.integers(1, 8), more=st.integers(0, 40), data=st.data())
@settings(max_examples=100)
def test_a_tile_with_its_halo_holds_every_patch_that_touches_it(size, margin, more, data):
    axis = Axis(size, 5 * margin + more, margin)
    first = data.draw(st.integers(0, size - 1))
    last = data.draw(st.integers(first + 1, size))
    held = axis.inside(max(first - axis.side, 0), min(last + axis.side, size))
    assert held == sorted(held)
    assert {s for s in axis.starts if s < last and s + axis.length > first} <= set(held)


@pytest.mark.parametrize(
    ("rows", "columns", "tile", "days"),
    [
        (4, 6, 48, (-40, 25)),
        (16, 16, 160, (-40,)),
        (17, 16, 200, (-40, 25)),
        (44, 31, 256, (-40,)),
        (3, 37, 300, (25,)),
    ],
    ids=["below", "at", "above", "far-above", "long"],
)
@pytest.mark.parametrize("settings", [{}, {"base": "regression", "predictors": 2}], ids=["reference", "regression"])
def test_tiled_equals_whole_below_at_and_above_a_patch(weights, settings, rows, columns, tile, days):
    problem = stack(days, rows=rows, columns=columns, ratio=16, gaps=2)
    method = small("edcstfn", **settings)
    whole = fuse(problem, method, tile=4000).data
    np.testing.assert_allclose(fuse(problem, method, tile=tile).data, whole, atol=1e-5)
    assert np.isfinite(whole).mean() > 0.8


def test_patches_meet_without_a_seam(weights):
    # A network that is the same everywhere gives the same where patches meet as within one patch.
    problem = stack((-40,), rows=24, columns=19, ratio=16, bands=1)
    many = fuse(problem, small("edcstfn")).data
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_deep, "SIDE", 1024)
        one = fuse(problem, small("edcstfn")).data
    np.testing.assert_allclose(many, one, atol=1e-5)


# ---- gaps


@pytest.mark.parametrize("where", ["fine", "coarse", "target"])
def test_a_missing_pixel_is_felt_within_the_reach_of_the_network_only(weights, where):
    ratio, method = 4, small("edcstfn")
    problem = stack((-40, 25), rows=24, columns=16, ratio=ratio)
    state = method.prepare(problem)
    changed = getattr(problem, where).copy()
    y, x, size = (45, 30, 1) if where == "fine" else (11, 7, ratio)
    changed[(0, ..., y, x) if where != "target" else (..., y, x)] = np.nan
    before = method.predict(problem, state)
    after = method.predict(replace(problem, **{where: changed}), state)
    _, hit_y, hit_x = np.nonzero(before != after)
    reach = REACH + (0 if where == "fine" else ratio)  # a coarse pixel is interpolated into the next one
    assert hit_y.min() >= y * size - reach and hit_y.max() < (y + 1) * size + reach
    assert hit_x.min() >= x * size - reach and hit_x.max() < (x + 1) * size + reach
    gone = np.isnan(after)
    assert gone.sum() == (2 * ratio**2 if where == "target" else 0)


@pytest.fixture
def untrained(weights):
    """Networks run as they are before training: they give their base."""

    def loaded(checkpoint):
        found = small(checkpoint.method, **checkpoint.parameters)
        nets = found.networks(len(checkpoint.bands), checkpoint.ratios[0])
        return Loaded(found, nets.eval(), checkpoint, "cpu")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_deep, "loaded", loaded)
        yield


def test_gaps_of_one_pair_are_filled_by_the_other(untrained):
    problem = stack((-40, 25), rows=12, columns=9)
    fine, coarse = problem.fine.copy(), problem.coarse.copy()
    fine[0, :, 8:17, 5:13] = np.nan
    coarse[1, :, 6:8, 6:8] = np.nan
    got = fuse(replace(problem, fine=fine, coarse=coarse), small("edcstfn")).data
    assert np.isfinite(got).all()
    np.testing.assert_allclose(got[:, 8:17, 5:13], fine[1, :, 8:17, 5:13], atol=1e-6)
    np.testing.assert_allclose(got[:, 24:32, 24:32], fine[0, :, 24:32, 24:32], atol=1e-6)
    between = np.sort(fine, axis=0)[:, :, 20:24, 8:20]
    assert (got[:, 20:24, 8:20] >= between[0] - 1e-6).all() and (got[:, 20:24, 8:20] <= between[1] + 1e-6).all()


def test_nothing_is_predicted_where_no_pair_or_no_target_was_seen(weights):
    problem = stack((-40, 25), rows=12, columns=9)
    fine, target = problem.fine.copy(), problem.target.copy()
    fine[0, :, 8:17, 5:13] = np.nan
    fine[1, 0, 10:20, 7:20] = np.nan  # one band is enough to be missing
    target[1, 3, 7] = np.nan
    got = fuse(replace(problem, fine=fine, target=target), small("edcstfn")).data
    gone = np.zeros(got.shape[1:], bool)
    gone[10:17, 7:13] = gone[12:16, 28:32] = True
    np.testing.assert_array_equal(np.isnan(got), np.broadcast_to(gone, got.shape))


def test_gaps_are_filled_with_the_detail_of_other_days():
    problem = stack((-40, 25, 60), rows=6, columns=5, ratio=4)
    fine = problem.fine.copy()
    fine[0, :, 9, 9] = np.nan
    images = filled(replace(problem, fine=fine), np.zeros(2, np.float32))
    blurred = problem.coarse.repeat(4, -1).repeat(4, -2)
    wanted = blurred[0, :, 9, 9] + (fine - blurred)[1:, :, 9, 9].mean(axis=0)
    np.testing.assert_allclose(images.fine[0, :, 9, 9], wanted, atol=1e-6)
    np.testing.assert_array_equal(images.fine[1:], fine[1:])
    assert not images.valid[0, 9, 9] and images.valid.sum() == images.valid.size - 1 and not images.gone.any()


@pytest.mark.parametrize("name", DEEP)
def test_a_pair_without_its_coarse_image_is_as_none(weights, name):
    method = small(name)
    offsets = (-40, 25, 60)[: max(2, method.at_once)]
    alone, more = stack(offsets), stack((*offsets, 7))
    coarse = more.coarse.copy()
    coarse[more.days.index(7)] = np.nan
    np.testing.assert_array_equal(fuse(replace(more, coarse=coarse), method).data, fuse(alone, method).data)


# ---- memory and time


def test_batches_shrink_until_they_fit_into_memory(small_patches, monkeypatch):
    method = small("edcstfn")
    sizes = runs(monkeypatch)
    whole = fuse(small_patches, method).data
    assert len(sizes) == 1 and sizes[0] >= 6
    tight = runs(monkeypatch, most=1)
    np.testing.assert_allclose(fuse(small_patches, method).data, whole, atol=1e-6)
    assert tight[: tight.index(1)] == [sizes[0] // 2**i for i in range(tight.index(1))]
    assert tight.count(1) == sizes[0]
    runs(monkeypatch, most=0)
    with pytest.raises(
        FusionError, match=r"EDCSTFN does not find memory on cpu for one patch of \d+ x \d+.*FUSION_DEV"
    ):
        fuse(small_patches, method)


def test_another_error_of_a_network_is_not_taken_for_lack_of_memory(small_patches, monkeypatch):
    def fail():
        raise RuntimeError("size mismatch")

    sizes = runs(monkeypatch, then=fail)
    with pytest.raises(RuntimeError, match="size mismatch"):
        fuse(small_patches, small("edcstfn"))
    assert len(sizes) == 1


@pytest.mark.parametrize("free", [0, 30_000_000, 10**12])
def test_batches_follow_the_memory_that_is_free(small_patches, monkeypatch, free):
    monkeypatch.setattr(_inference, "free_memory", lambda device: free)
    sizes = runs(monkeypatch)
    fuse(small_patches, small("edcstfn"))
    pixels = 96 * 96
    assert min(sizes) >= 1 and max(sizes) <= max(1, free * _inference.SHARE / (pixels / 2 * _inference.FLOATS * 4))
    assert (len(sizes) == 1) == (free == 10**12)


def test_the_memory_that_is_free_is_known_or_guessed(monkeypatch):
    assert 2**20 < _inference.free_memory("cpu") < 2**50
    monkeypatch.delattr("os.sysconf")
    assert _inference.free_memory("cpu") == _inference.GUESS


def test_a_run_that_nobody_waits_for_ends_between_batches(small_patches, monkeypatch):
    monkeypatch.setattr(_inference, "PIXELS", 1)
    pulse, method = Pulse(), small("edcstfn")
    sizes = runs(monkeypatch, then=lambda: setattr(pulse, "stopped", True))

    def work():
        PULSE.set(pulse)
        method.predict(small_patches, method.prepare(small_patches))

    with pytest.raises(Cancelled):
        copy_context().run(work)
    assert sizes == [1] and 0 < pulse.fraction < 1


def test_a_run_that_is_cancelled_reaches_the_caller(small_patches):
    def progress(fraction):
        raise Cancelled

    with pytest.raises(Cancelled):
        fuse(small_patches, small("edcstfn"), progress=progress)


def test_eight_threads_share_one_network(monkeypatch):
    problem = stack((-40, 25))
    path = saved(small("edcstfn"), problem.bands, problem.ratio)
    method = small("edcstfn", checkpoint=path.stem)
    loads, gate = [], threading.Barrier(8)
    plain = _networks._load
    monkeypatch.setattr(_networks, "_load", lambda checkpoint: loads.append(checkpoint.name) or plain(checkpoint))

    def work(_):
        gate.wait(30)
        return fuse(problem, method).data

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(work, range(8)))
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])
    assert loads == [path.stem]


def test_the_networks_that_were_used_last_stay_in_memory(monkeypatch):
    def use(seed):
        loaded = _networks.loaded(checkpoints.read(paths[seed].stem))
        assert 0.4 * 2**20 < loaded.bytes < 0.5 * 2**20
        return [names.index(name) for name, _, _ in _networks.in_memory()]

    paths = [saved(small("edcstfn", width=20), BANDS[:4], 4, seed=seed) for seed in range(3)]
    names = [path.stem for path in paths]
    monkeypatch.setenv("FUSION_NETWORKS_MB", "1")
    assert use(0) == [0] and use(1) == [0, 1] and use(0) == [1, 0]
    assert use(2) == [0, 2]  # two of them fit
    monkeypatch.setenv("FUSION_NETWORKS_MB", "0")
    assert use(1) == [1]
    monkeypatch.setenv("FUSION_NETWORKS_MB", "lots")
    with pytest.raises(FusionError, match="FUSION_NETWORKS_MB wants a whole number of megabytes, got 'lots'"):
        use(0)


def test_a_file_that_is_written_anew_is_loaded_anew():
    problem = stack((-40, 25))
    one, other = (saved(small("edcstfn"), problem.bands, problem.ratio, seed=seed) for seed in range(2))
    method = small("edcstfn", checkpoint=one.stem)
    wanted = fuse(problem, replace(method, checkpoint=other.stem)).data
    before = fuse(problem, method).data
    one.write_bytes(other.read_bytes() + b"")
    assert not np.array_equal(before, wanted)
    np.testing.assert_array_equal(fuse(problem, method).data, wanted)


def test_processes_read_the_checkpoint_themselves():
    problem = stack((-40, 25), rows=3, columns=4)
    path = saved(small("edcstfn"), problem.bands, problem.ratio)
    method = small("edcstfn", checkpoint=path.stem)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        there = fuse(problem, method, tile=12, executor=pool).data
    np.testing.assert_allclose(there, fuse(problem, method).data, atol=1e-5)


# ---- which weights


def test_bands_may_be_in_any_order_with_weights_from_a_file():
    problem, order = stack((-40, 25), bands=3, gaps=1), [2, 0, 1]
    mixed = replace(
        problem,
        fine=problem.fine[:, order],
        coarse=problem.coarse[:, order],
        target=problem.target[order],
        bands=tuple(problem.bands[i] for i in order),
    )
    method = small("edcstfn", checkpoint=saved(small("edcstfn"), problem.bands, 4).stem)
    np.testing.assert_allclose(fuse(mixed, method).data, fuse(problem, method).data[order], atol=1e-6)


def test_a_bundled_checkpoint_that_fits_is_taken_by_itself(tmp_path, monkeypatch):
    problem = stack((-40, 25))
    monkeypatch.setattr(checkpoints, "_bundled_folder", lambda: tmp_path / "bundled")
    own = saved(small("edcstfn"), problem.bands, 4)
    with pytest.raises(FusionError, match=f"no bundled weights for 2 bands .blue, green. at ratio 4.*{own.stem}"):
        fuse(problem, small("edcstfn"))
    method = small("edcstfn")
    nets = made(method, 2, 4, seed=3)
    about = replace(described(method, problem.bands, 4), ratios=(2, 8))
    bundled = checkpoints.save(about, weights_of(nets), tmp_path / "bundled")
    assert checkpoints.is_bundled(bundled.stem) and not checkpoints.is_bundled(own.stem)
    by_itself = fuse(problem, method).data
    np.testing.assert_array_equal(by_itself, fuse(problem, replace(method, checkpoint=bundled.stem)).data)
    assert not np.array_equal(by_itself, fuse(problem, replace(method, checkpoint=own.stem)).data)


def test_weights_that_do_not_fit_are_refused_before_any_work(monkeypatch):
    problem, method = stack((-40, 25)), small("edcstfn")
    monkeypatch.setattr(type(method), "prepare", lambda self, stack: pytest.fail("worked"))
    with pytest.raises(FusionError, match="EDCSTFN has no weights for 2 bands .blue, green. at ratio 4: train it"):
        fuse(problem, method)
    with pytest.raises(FusionError, match="There is no checkpoint 'edcstfn-x' here; there are none"):
        fuse(problem, replace(method, checkpoint="edcstfn-x"))
    for about, message in [
        ({"bands": ("blue", "red")}, "is for the bands blue, red, got blue, green: choose these bands"),
        ({"ratios": (8, 16)}, "is for ratios from 8 to 16, got ratio 4: choose another"),
        ({"ratios": (3, 3)}, "is for ratio 3, got ratio 4"),
        (
            {"method": "nearest"},
            r"EDCSTFN wants a checkpoint of its own, got nearest-\S+, which is of nearest: choose edcstfn-",
        ),
    ]:
        path = saved(method, problem.bands, 4, **about)
        with pytest.raises(FusionError, match=message):
            fuse(problem, replace(method, checkpoint=path.stem))


@pytest.mark.parametrize(
    "about",
    [{"parameters": {"width": 5}}, {"bands": ("blue",), "mean": (0.1,), "scale": (0.1,)}],
    ids=["width", "bands"],
)
def test_weights_of_another_shape_than_described_are_refused(about):
    bands = about.get("bands", ("blue", "green"))
    path = saved(small("edcstfn"), ("blue", "green"), 4, **about)
    with pytest.raises(FusionError, match="are not those of the network that it describes .generator.*train it again"):
        fuse(stack((-40, 25), bands=len(bands)), small("edcstfn", checkpoint=path.stem))


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"method": "nosuch"}, "no method 'nosuch'"),
        ({"method": "nearest", "parameters": {}}, "is of nearest, which is no network"),
        ({"parameters": {"girth": 3}}, "no parameter 'girth'"),
        ({"parameters": {"width": 10**9}}, "width wants a whole number from 4 to 128"),
    ],
)
def test_a_network_that_cannot_be_is_refused(about, message):
    path = saved(small("edcstfn"), ("blue", "green"), 4, **about)
    with pytest.raises(FusionError, match=message):
        _networks.loaded(checkpoints.read(path.stem))


# ---- what every network owes to its base


SIZES = [(1, 1, 1, 1), (3, 5, 3, 4), (4, 1, 3, 7), (6, 3, 2, 16), (6, 9, 5, 2)]  # bands, rows, columns, ratio


BASES = [
    (name, base) for name in DEEP for item in params(methods.get(name)) if item.name == "base" for base in item.choices
]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(("name", "base"), [each for each in BASES if methods.get(each[0]).from_base])
def test_an_untrained_network_gives_its_base(name, size, base):
    bands, rows, columns, ratio = size
    method = small(name, base=base)
    nets = method.networks(bands, ratio).eval()
    for pairs in {1: (1, 2), 2: (2,)}[method.at_once]:
        sample = random_sample(bands=bands, rows=rows, columns=columns, ratio=ratio, pairs=pairs, gaps=True)
        with torch.inference_mode():
            out = method.forward(nets, sample)
        torch.testing.assert_close(out, sample.start_of_all(base), rtol=0, atol=0 if pairs == 1 else 1e-6)


@pytest.mark.parametrize(("name", "base"), BASES)
def test_an_untrained_network_changes_nothing_where_nothing_changed(name, base):
    method, sample = small(name, base=base), random_sample(bands=3, rows=5, columns=4, ratio=6, pairs=2, gaps=True)
    fine, coarse = sample.fine[:, :1].expand_as(sample.fine), sample.target[:, None].expand_as(sample.coarse)
    still = replace(sample, fine=fine, coarse=coarse)
    with torch.inference_mode():
        out = method.forward(method.networks(3, 6).eval(), still)
    torch.testing.assert_close(out, fine[:, 0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", DEEP)
def test_a_network_with_weights_changes_its_base_and_not_its_inputs(name, size):
    bands, rows, columns, ratio = size
    method = small(name)
    sample = random_sample(bands=bands, rows=rows, columns=columns, ratio=ratio, pairs=method.at_once, gaps=True)
    before = {key: value.clone() for key, value in vars(sample).items() if isinstance(value, torch.Tensor)}
    nets = made(method, bands, ratio).eval()
    with torch.inference_mode():
        out, again = method.forward(nets, sample), method.forward(nets, sample)
    assert out.dtype == torch.float32 and out.shape == sample.truth.shape and torch.isfinite(out).all()
    assert torch.equal(out, again)
    assert (out - sample.start_of_all(method.base)).abs().max() > 1e-4
    for key, value in before.items():
        assert torch.equal(getattr(sample, key), value), key


@pytest.mark.parametrize("name", DEEP)
def test_the_patches_of_a_batch_do_not_know_of_each_other(name):
    method = small(name)
    both = random_sample(bands=3, rows=4, columns=3, pairs=method.at_once, gaps=True)
    nets = made(method, 3, 4).eval()
    first = replace(
        both,
        **{
            key: value[:1]
            for key, value in vars(both).items()
            if isinstance(value, torch.Tensor) and key not in ("mean", "scale")
        },
    )
    with torch.inference_mode():
        torch.testing.assert_close(method.forward(nets, both)[:1], method.forward(nets, first), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", DEEP)
def test_weights_come_from_the_seed_alone(name):
    one, same, other = (weights_of(made(small(name), 3, 4, seed)) for seed in (0, 0, 1))
    assert one.keys() == other.keys() and all(np.array_equal(one[key], same[key]) for key in one)
    assert any(not np.array_equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("name", DEEP)
def test_losses_name_networks_and_teach_them(name):
    method = small(name)
    sample = random_sample(bands=3, rows=5, columns=4, pairs=method.at_once, gaps=True)
    nets = made(method, 3, 4).train()
    seen = []
    for which, loss in method.losses(nets, sample):
        assert loss.ndim == 0 and torch.isfinite(loss)
        nets.zero_grad(set_to_none=True)
        loss.backward()
        grads = [p.grad for p in nets[which].parameters() if p.grad is not None]
        assert grads and all(torch.isfinite(g).all() for g in grads) and any(g.any() for g in grads)
        seen.append(which)
    assert seen and set(seen) == set(nets.keys())


@pytest.mark.parametrize("name", DEEP)
def test_nothing_is_learnt_where_the_truth_is_not_known(name):
    method = small(name)
    sample = random_sample(bands=3, rows=5, columns=4, pairs=method.at_once, gaps=True)
    sample = replace(sample, known=torch.zeros_like(sample.known))
    nets = made(method, 3, 4).train()
    one = [float(loss.detach()) for _, loss in method.losses(nets, sample)]
    nets = made(method, 3, 4).train()
    other = [float(loss.detach()) for _, loss in method.losses(nets, replace(sample, truth=sample.truth + 5))]
    assert one == pytest.approx(other, abs=1e-6)


def test_a_loss_wants_a_truth():
    sample = replace(random_sample(), truth=None)
    with pytest.raises(ValueError, match="A loss wants a sample with truth"):
        sample.wanted(sample.fine[:, 0])


@pytest.mark.parametrize("name", DEEP)
def test_weights_survive_their_checkpoint(name):
    problem, method = stack((-40, 25), bands=3, gaps=1), small(name)
    path = saved(method, problem.bands, problem.ratio)
    found = _networks.loaded(checkpoints.read(path.stem))
    nets = made(method, 3, problem.ratio)
    wanted = {key: value for key, value in nets.state_dict().items() if not key.startswith("discriminator")}
    have = {key: value for key, value in found.nets.state_dict().items() if key in wanted}
    assert have.keys() == wanted.keys() and all(torch.equal(have[key], wanted[key]) for key in wanted)
    assert found.method == method and not any(p.requires_grad for p in found.nets.parameters())
    about = described(method, problem.bands, problem.ratio)
    order = [problem.bands.index(band) for band in about.bands]
    direct = np.empty(problem.fine.shape[1:], np.float32)
    facts = method.prepare(problem)
    direct[order] = predicted(
        Loaded(method, nets.eval(), about, "cpu"), problem.select(facts.pairs), order, (0, 0), facts.shape
    )
    np.testing.assert_array_equal(fuse(problem, replace(method, checkpoint=path.stem)).data, direct)
