"""STFGAN: its size, its two stages, any bands and sizes, and both sides of its training."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fusion import FusionError, checkpoints, fuse, methods
from fusion.methods._losses import l1
from fusion.methods.stfgan import Generator, halfway
from fusion.training import Options, train
from landscapes import DAY, pair, stack
from networks import made, parameter_count, random_sample

Stfgan = methods.get("stfgan")
SMALL = Stfgan(width=4, blocks=2)


@pytest.fixture(autouse=True)
def one_thread():
    """Images this small are slower with more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_as_many_parameters_as_the_layers_of_the_paper_have():
    def conv(inputs: int, outputs: int, size: int) -> int:
        return inputs * outputs * size**2 + outputs

    heads = conv(3 * 6, 64, 9) + conv(2 * 6, 64, 9)
    blocks = (16 + 8) * (2 * conv(64, 64, 3) + 1) + 2 * conv(64, 64, 3)
    joint = conv(128, 6, 9)
    stage = heads + blocks + 2 * conv(64, 256, 3) + joint
    assert stage == 2_359_710
    assert parameter_count(Generator(6, 16, 64, 16)) == 2 * stage


@pytest.mark.parametrize(
    ("ratio", "middle", "doublings"), [(1, 1, (0, 0)), (2, 1, (0, 1)), (7, 3, (1, 1)), (16, 4, (2, 2)), (30, 5, (2, 2))]
)
def test_the_stages_share_the_ratio(ratio, middle, doublings):
    net = Generator(1, ratio, 4, 2)
    assert halfway(ratio) == middle
    assert (len(net.first.sharper), len(net.second.sharper)) == doublings


@pytest.mark.parametrize("bands", [1, 3, 4, 6])
@pytest.mark.parametrize(("ratio", "rows", "columns"), [(1, 5, 7), (1, 1, 1), (2, 3, 1), (7, 1, 2), (16, 2, 1)])
def test_any_bands_ratio_and_size(bands, ratio, rows, columns):
    given = random_sample(bands=bands, rows=rows, columns=columns, ratio=ratio, pairs=2, n=1)
    before = [part.clone() for part in (given.fine, given.coarse, given.target)]
    middle, out = SMALL.both(made(SMALL, bands, ratio), given)
    assert middle.shape == (1, bands, rows * halfway(ratio), columns * halfway(ratio)) and middle.isfinite().all()
    assert out.shape == given.truth.shape and out.isfinite().all()
    assert not torch.allclose(out, given.start_of_all("reference"))
    for old, new in zip(before, (given.fine, given.coarse, given.target), strict=True):
        assert torch.equal(old, new)


def test_weights_of_one_ratio_run_at_others():
    # A checkpoint of several ratios has the network of the smallest.
    nets = made(SMALL, 2, 4)
    for ratio in (2, 9):
        given = random_sample(rows=2, columns=3, ratio=ratio, pairs=2)
        assert SMALL.forward(nets, given).shape == given.truth.shape


@pytest.mark.parametrize("base", ["reference", "delta"])
def test_untrained_it_returns_its_base(base):
    given, method = random_sample(pairs=2), Stfgan(width=4, blocks=2, base=base)
    middle, out = method.both(method.networks(2, 4), given)
    start = given.start_of_all(base)
    assert torch.equal(out, start)
    torch.testing.assert_close(middle, torch.nn.functional.avg_pool2d(start, 2))


@pytest.mark.parametrize("name", ["fine", "coarse", "target"])
def test_it_sees_every_image_and_the_first_stage_helps_the_second(name):
    given, nets = random_sample(pairs=2), made(SMALL, 2, 4)
    out = SMALL.forward(nets, given) - given.start_of_all("reference")
    for k in (0, 1) if name != "target" else (slice(None),):
        other = getattr(given, name).clone()
        other[:, k] *= -1.5
        other = replace(given, **{name: other})
        assert not torch.allclose(SMALL.forward(nets, other) - other.start_of_all("reference"), out)


def test_the_order_in_time_counts():
    given, nets = random_sample(pairs=2), made(SMALL, 2, 4)
    turned = replace(given, fine=given.fine.flip(1), coarse=given.coarse.flip(1))
    assert not torch.allclose(SMALL.forward(nets, given), SMALL.forward(nets, turned))


def test_losses_are_of_the_generator_then_of_the_discriminators():
    method = Stfgan(width=4, blocks=2, matching_weight=0.5)
    nets, given = made(method, 2, 16), random_sample(rows=2, columns=3, ratio=16, pairs=2)
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


def test_without_a_verdict_the_loss_is_the_mean_squares_of_both_stages():
    method = Stfgan(width=4, blocks=2, adversarial_weight=0)
    given = random_sample(pairs=2)
    # Off by 2 where it is known: one coarse pixel of the middle grid is not, and the fine one beside it is.
    truth, known = given.start_of_all("reference") + 2, torch.ones_like(given.known)
    known[:, :, 0, 0] = 0
    given = replace(given, truth=torch.where(known > 0, truth, torch.full_like(truth, 99.0)), known=known)
    ((name, loss),) = method.losses(method.networks(2, 4), given)
    middle, fine = 6 * 10, 12 * 20  # pixels
    assert name == "generator"
    assert loss.item() == pytest.approx(4 * (middle - 1) / middle + 4 * (fine - 1) / fine)


def test_every_part_of_the_loss_counts():
    nets, given = made(SMALL, 2, 4).eval(), random_sample(pairs=2)
    plain, usual, more, matched = (
        next(replace(SMALL, adversarial_weight=weight, matching_weight=like).losses(nets, given))[1].item()
        for weight, like in ((0, 0), (1e-3, 0), (1, 0), (1e-3, 1))
    )
    assert plain < usual < more and usual < matched


def test_a_few_steps_bring_one_patch_nearer():
    given = random_sample(rows=2, columns=3, pairs=2, n=1)
    torch.manual_seed(0)
    nets = SMALL.networks(2, 4)
    optimisers = {name: torch.optim.Adam(net.parameters(), 1e-2) for name, net in nets.items()}
    content = [l1(SMALL.forward(nets, given), given.truth).item()]
    for _ in range(15):
        for name, loss in SMALL.losses(nets, given):
            nets.zero_grad(set_to_none=True)
            loss.backward()
            optimisers[name].step()
    content.append(l1(SMALL.forward(nets, given), given.truth).item())
    assert content[1] < 0.8 * content[0]


def test_one_pair_is_too_few():
    with pytest.raises(FusionError, match="STFGAN wants at least 2 pairs, got 1"):
        SMALL.check(stack((-40,)))


def test_trained_from_end_to_end(tmp_path, monkeypatch):
    monkeypatch.setenv("FUSION_CHECKPOINTS", str(tmp_path))
    series = [pair(offset, rows=8, columns=9) for offset in (-40, -10, 20, 50)]
    weights = []
    for _ in range(2):
        path = train(SMALL, series, epochs=1, seed=1, options=Options(steps=2, batch=2, patch=16))
        weights.append(checkpoints.arrays(path.stem))
        assert all(key.startswith("generator.") for key in weights[-1])
    assert all(np.array_equal(first, weights[1][key]) for key, first in weights[0].items())
    out = fuse(stack(rows=8, columns=9), replace(SMALL, checkpoint=path.stem))
    assert out.data.shape == (2, 32, 36) and out.day == DAY
    assert np.isfinite(out.data).all()
