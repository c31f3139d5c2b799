"""DCSTFN: the paper's network at its size, in any size, and trained from end to end."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fusion import fuse, methods
from fusion.training import Options, train
from landscapes import DAY, pair, stack
from networks import parameter_count, random_sample

Dcstfn = methods.get("dcstfn")


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Images this small are quicker on one thread, above all where others work too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def started(method, bands: int, ratio: int):
    """Networks whose last layer no longer gives nothing."""
    torch.manual_seed(5)
    nets = method.networks(bands, ratio)
    with torch.no_grad():
        for net in nets["generator"].nets:
            net.head[-1].weight.normal_(0, 0.1)
    return nets


@pytest.mark.parametrize("bands", [1, 3, 4, 6])
@pytest.mark.parametrize("per_band", [False, True])
def test_any_number_of_bands(bands, per_band):
    method = Dcstfn(width=4, per_band=per_band)
    given = random_sample(bands=bands, ratio=2)
    assert method.forward(started(method, bands, 2), given).shape == given.truth.shape


@pytest.mark.parametrize("ratio", [1, 2, 7, 16])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 2)])
def test_any_ratio_and_size(ratio, rows, columns):
    method = Dcstfn(width=4)
    given = random_sample(rows=rows, columns=columns, ratio=ratio, n=1)
    out = method.forward(started(method, 2, ratio), given)
    assert out.shape == given.truth.shape and out.isfinite().all()


def test_weights_of_one_ratio_run_at_others():
    # A checkpoint of several ratios has the network of the smallest.
    method = Dcstfn(width=4)
    nets = started(method, 2, 8)
    for ratio in (9, 20):
        given = random_sample(rows=2, columns=3, ratio=ratio, n=1)
        assert method.forward(nets, given).shape == given.truth.shape


def test_as_many_parameters_as_the_published_weights():
    published = 408_961  # numbers in each of the Keras files, 1 band and ratio 16
    assert parameter_count(Dcstfn().networks(1, 16)) == published
    assert parameter_count(Dcstfn(per_band=True).networks(3, 16)) == 3 * published
    # With 6 bands at once only the first layers and the last grow.
    more = 2 * (5 * 9 * 32) + 5 * (32 + 1)
    assert parameter_count(Dcstfn().networks(6, 16)) == published + more


@pytest.mark.parametrize("base", ["reference", "delta"])
@pytest.mark.parametrize("pairs", [1, 2])
def test_untrained_it_returns_its_base(base, pairs):
    method, given = Dcstfn(width=4, base=base), random_sample(pairs=pairs)
    wanted = given.start_of_all(base)
    torch.testing.assert_close(method.forward(method.networks(2, 4), given), wanted)


def test_the_image_head_starts_from_no_reference():
    method = Dcstfn(width=4, head="image")
    given = random_sample()
    nets = started(method, 2, 4)
    out = method.forward(nets, given)
    torch.testing.assert_close(out, nets["generator"](given.fine[:, 0], given.coarse[:, 0], given.target))
    assert not torch.allclose(out, Dcstfn(width=4).forward(nets, given))


def test_no_coarse_change_is_no_matter_of_the_coarse_image():
    # H(C2) - H(C1) is nothing where C1 = C2, whatever they show.
    method = Dcstfn(width=4)
    nets, given = started(method, 2, 4), random_sample()
    still = replace(given, target=given.coarse[:, 0])
    other = replace(still, coarse=given.coarse + 1, target=given.coarse[:, 0] + 1)
    torch.testing.assert_close(method.forward(nets, still), method.forward(nets, other))
    assert not torch.allclose(method.forward(nets, still), method.forward(nets, given))


def test_a_band_with_a_network_of_its_own_sees_no_other():
    method, given = Dcstfn(width=4, per_band=True), random_sample(bands=3)
    other = given.fine.clone()
    other[:, :, 2] += 1
    before, after = (
        method.forward(started(method, 3, 4), each).detach() for each in (given, replace(given, fine=other))
    )
    torch.testing.assert_close(before[:, :2], after[:, :2])
    assert not torch.allclose(before[:, 2], after[:, 2])
    both = Dcstfn(width=4)
    seen = both.forward(started(both, 3, 4), replace(given, fine=other)) - both.forward(started(both, 3, 4), given)
    assert not torch.allclose(seen[:, 0], torch.zeros(()))


def test_a_coarse_pixel_acts_around_its_own_place():
    # Asymmetrical, so that a transposed or displaced branch cannot pass.
    method = Dcstfn(width=4)
    given = random_sample(bands=1, rows=9, columns=12, ratio=16, n=1)
    changed = given.target.clone()
    changed[..., 2, 8] += 5
    nets = started(method, 1, 16)
    moved = (method.forward(nets, replace(given, target=changed)) - method.forward(nets, given)).abs()[0, 0]
    y, x = np.nonzero(moved.detach().numpy() > 1e-6)
    assert y.size and y.min() <= 32 < 47 <= y.max() and x.min() <= 128 < 143 <= x.max()
    # Two convolutions at the coarse grid reach two pixels; the transposed ones lay all below and right, two more.
    assert y.max() <= (2 + 4) * 16 and (8 - 2) * 16 - 2 <= x.min()


def test_inputs_stay_as_they_are():
    method, given = Dcstfn(width=4), random_sample(ratio=7)
    before = [part.clone() for part in (given.fine, given.coarse, given.target)]
    method.forward(started(method, 2, 7), given)
    for old, new in zip(before, (given.fine, given.coarse, given.target), strict=True):
        assert torch.equal(old, new)


@pytest.mark.parametrize("head", ["change", "image"])
@pytest.mark.parametrize("per_band", [False, True])
def test_the_loss_reaches_every_weight(head, per_band):
    method = Dcstfn(width=4, head=head, per_band=per_band)
    nets = started(method, 2, 16)
    ((name, loss),) = method.losses(nets, random_sample(ratio=16))
    assert name == "generator" and loss.ndim == 0
    loss.backward()
    for key, weight in nets.named_parameters():
        assert weight.grad is not None and weight.grad.abs().sum() > 0, key


def test_the_loss_is_the_mean_square_of_what_is_known():
    method = Dcstfn(width=4)
    nets, given = method.networks(2, 4), random_sample()
    known = torch.ones_like(given.known)
    known[..., :6] = 0
    truth = given.start(0, "reference") + 0.5
    half = replace(given, known=known, truth=torch.where(known > 0, truth, torch.full_like(truth, 99.0)))
    ((_, loss),) = method.losses(nets, half)
    assert loss.item() == pytest.approx(0.25 * float(known.mean()), rel=1e-5)


def test_it_learns_one_sample_by_heart():
    method = Dcstfn(width=8)
    problem, answer = stack((-40,), rows=2, columns=3, ratio=8), pair(0, rows=2, columns=3, ratio=8).fine.data
    fine, coarse, target, truth = (
        torch.from_numpy(image[None] / np.float32(0.1))
        for image in (problem.fine, problem.coarse, problem.target, answer)
    )
    given = random_sample(rows=2, columns=3, ratio=8, n=1)
    given = replace(given, fine=fine, coarse=coarse, target=target, truth=truth)
    torch.manual_seed(0)
    nets = method.networks(2, 8)
    optimiser = torch.optim.Adam(nets.parameters(), 3e-3)
    losses = []
    for _ in range(60):
        ((_, loss),) = method.losses(nets, given)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


def test_trained_from_end_to_end(tmp_path, monkeypatch):
    monkeypatch.setenv("FUSION_CHECKPOINTS", str(tmp_path))
    days = [pair(offset, rows=4, columns=5, ratio=4) for offset in (-40, 0, 25, 60)]
    method = Dcstfn(width=4, per_band=True)
    path = train(method, days, epochs=2, options=Options(batch=2, patch=16, steps=3))
    trained = replace(method, checkpoint=path.stem)
    got = fuse(stack((-40, 25), rows=4, columns=5), trained)
    assert got.data.shape == (2, 16, 20) and np.isfinite(got.data).all() and got.day == DAY
