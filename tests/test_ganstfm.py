"""GAN-STFM: its size, what it sees, any bands and sizes, and both sides of its training."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fusion import checkpoints, fuse, methods
from fusion.methods._losses import l1
from fusion.methods.ganstfm import Switchable
from fusion.training import Options, train
from landscapes import DAY, pair, stack
from networks import made, parameter_count, random_sample

Ganstfm = methods.get("ganstfm")
SMALL = Ganstfm(width=4)


@pytest.fixture(autouse=True)
def one_thread():
    """Images this small are slower with more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_as_many_parameters_as_the_paper_and_why_not_the_same():
    count = parameter_count(Ganstfm().networks(6, 16)["generator"])
    assert abs(count / 578_130 - 1) < 0.1
    # The first lateral convolutions read 12 bands and not 6; eight normalisations lack two shares of the batch's.
    lateral = (12 * 12 * 9 + 12 + 12 * 16 + 16) - (6 * 6 * 9 + 6 + 6 * 16 + 16)
    assert count == 578_130 + lateral - 8 * 2


@pytest.mark.parametrize("bands", [1, 3, 4, 6])
@pytest.mark.parametrize(("ratio", "rows", "columns"), [(1, 5, 7), (1, 1, 1), (2, 3, 1), (7, 1, 2), (16, 2, 1)])
def test_any_bands_ratio_and_size(bands, ratio, rows, columns):
    given = random_sample(bands=bands, rows=rows, columns=columns, ratio=ratio)
    before = [part.clone() for part in (given.fine, given.coarse, given.target)]
    out = SMALL.forward(made(SMALL, bands, ratio), given)
    assert out.shape == given.truth.shape and out.isfinite().all()
    assert not torch.allclose(out, given.fine[:, 0])
    for old, new in zip(before, (given.fine, given.coarse, given.target), strict=True):
        assert torch.equal(old, new)


@pytest.mark.parametrize("base", ["reference", "delta"])
@pytest.mark.parametrize("pairs", [1, 2])
def test_untrained_it_returns_its_base(base, pairs):
    given, method = random_sample(pairs=pairs), Ganstfm(width=4, base=base)
    assert torch.equal(method.forward(method.networks(2, 4), given), given.start_of_all(base))


def test_the_coarse_image_of_the_reference_day_is_not_looked_at():
    given, nets = random_sample(), made(SMALL, 2, 4)
    out = SMALL.forward(nets, given)
    assert torch.equal(out, SMALL.forward(nets, replace(given, coarse=given.coarse + 1)))
    assert not torch.allclose(out, SMALL.forward(nets, replace(given, target=given.target + 1)))
    assert not torch.allclose(out, SMALL.forward(nets, replace(given, fine=given.fine * 2)))


def test_the_level_of_the_reference_is_not_normalised_away():
    given, nets = random_sample(), made(SMALL, 2, 4)
    change, higher = (
        SMALL.forward(nets, replace(given, fine=fine)) - fine[:, 0] for fine in (given.fine, given.fine + 1)
    )
    assert (change - higher).abs().max() > 1e-3


def test_normalisation_is_the_same_in_training_and_in_use_and_of_each_patch_alone():
    given, nets = random_sample(n=3), made(SMALL, 2, 4)
    out = nets.train() and SMALL.forward(nets, given)
    torch.testing.assert_close(SMALL.forward(nets.eval(), given), out)
    alone = replace(given, fine=given.fine[:1], coarse=given.coarse[:1], target=given.target[:1])
    torch.testing.assert_close(SMALL.forward(nets, alone), out[:1])


def test_switchable_normalisation_by_hand():
    switchable = Switchable(2)
    image = torch.tensor([[[[1.0, 3.0]], [[10.0, 30.0]]]])  # channels with mean 2 and 20, variance 1 and 100
    with torch.no_grad():
        switchable.of_mean.copy_(torch.tensor([100.0, 0.0]))  # each channel's own
        switchable.of_variance.copy_(torch.tensor([100.0, 0.0]))
        torch.testing.assert_close(switchable(image).flatten(), torch.tensor([-1.0, 1.0, -1.0, 1.0]))
        switchable.of_mean.copy_(torch.tensor([0.0, 100.0]))  # all: mean 11, variance 252.5 - 121
        switchable.of_variance.copy_(torch.tensor([0.0, 100.0]))
        whole = (image.flatten() - 11) / 131.5**0.5
        torch.testing.assert_close(switchable(image).flatten(), whole)
        switchable.of_mean.zero_()  # half of each
        switchable.of_variance.zero_()
        variance = torch.tensor([1.0, 1.0, 100.0, 100.0]) / 2 + 131.5 / 2
        middle = torch.tensor([2.0, 2.0, 20.0, 20.0]) / 2 + 5.5
        torch.testing.assert_close(switchable(image).flatten(), (image.flatten() - middle) / variance.sqrt())


def test_losses_are_of_the_generator_then_of_the_discriminator():
    method = Ganstfm(width=4, matching_weight=0.5, content_weight=0.5)
    nets, given = made(method, 2, 4), random_sample()
    steps = method.losses(nets, given)
    name, loss = next(steps)
    assert name == "generator" and loss.ndim == 0 and loss.isfinite()
    loss.backward()
    for key, weight in nets["generator"].named_parameters():
        assert weight.grad is not None and weight.grad.abs().sum() > 0, key
    assert all(weight.grad is None for weight in nets["discriminator"].parameters())
    nets.zero_grad(set_to_none=True)
    name, loss = next(steps)
    assert name == "discriminator" and loss.ndim == 0 and loss.isfinite()
    loss.backward()
    for key, weight in nets["discriminator"].named_parameters():
        assert weight.grad is not None and weight.grad.abs().sum() > 0, key
    assert all(weight.grad is None for weight in nets["generator"].parameters())
    assert next(steps, None) is None


def test_without_a_verdict_there_is_no_discriminator_to_train():
    method = Ganstfm(width=4, adversarial_weight=0)
    assert [name for name, _ in method.losses(made(method, 2, 4), random_sample())] == ["generator"]


def test_every_part_of_the_loss_counts():
    nets, given = made(SMALL, 3, 4), random_sample(bands=3)
    usual = next(SMALL.losses(nets.eval(), given))[1]
    for name in ("feature", "angle", "structure", "adversarial"):
        other = replace(SMALL, **{f"{name}_weight": 2.0})
        assert next(other.losses(nets, given))[1] > usual + 1e-4, name
    for name in ("matching", "content"):
        assert next(replace(SMALL, **{f"{name}_weight": 1.0}).losses(nets, given))[1] > usual + 1e-4, name


def test_a_few_steps_bring_one_patch_nearer():
    given = random_sample(rows=2, columns=3, n=1)
    torch.manual_seed(0)
    nets = SMALL.networks(2, 4)
    optimisers = {name: torch.optim.Adam(net.parameters(), 1e-2) for name, net in nets.items()}
    content = [l1(SMALL.forward(nets, given), given.truth).item()]
    for _ in range(20):
        for name, loss in SMALL.losses(nets, given):
            nets.zero_grad(set_to_none=True)
            loss.backward()
            optimisers[name].step()
    content.append(l1(SMALL.forward(nets, given), given.truth).item())
    assert content[1] < 0.8 * content[0]


def test_trained_from_end_to_end(tmp_path, monkeypatch):
    monkeypatch.setenv("FUSION_CHECKPOINTS", str(tmp_path))
    series = [pair(offset, rows=8, columns=9) for offset in (-40, -10, 20)]
    weights = []
    for _ in range(2):
        path = train(SMALL, series, epochs=1, seed=1, options=Options(steps=2, batch=2, patch=16))
        weights.append(checkpoints.arrays(path.stem))
        assert all(key.startswith("generator.") for key in weights[-1])
    assert all(np.array_equal(first, weights[1][key]) for key, first in weights[0].items())
    out = fuse(stack(rows=8, columns=9), replace(SMALL, checkpoint=path.stem))
    assert out.data.shape == (2, 32, 36) and out.day == DAY
    assert np.isfinite(out.data).all()
