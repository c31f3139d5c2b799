"""StfNet: two streams whose changes add up, and what they learn."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import landscapes
from fusion import fuse, methods
from fusion.methods._sample import Sample
from fusion.methods.stfnet import between
from fusion.training import Options, train
from networks import parameter_count, random_sample

Stfnet = methods.get("stfnet")


def made(given: Sample, width: int = 8, trained: bool = True, **parameters: object) -> tuple:
    """Method and networks; those taken as trained have random last layers."""
    torch.manual_seed(3)
    method = Stfnet(width=width, **parameters)
    nets = method.networks(len(given.bands), given.ratio)
    if trained:
        for parameter in nets.parameters():
            torch.nn.init.normal_(parameter, std=0.05)
    return method, nets


class Exact(torch.nn.Module):
    """A generator that knows the truth."""

    def __init__(self, given: Sample) -> None:
        super().__init__()
        self.given = given

    def forward(self, fine: Tensor, since: Tensor, until: Tensor) -> tuple[Tensor, Tensor]:
        return self.given.truth - fine[:, 0], fine[:, 1] - self.given.truth


def test_it_has_the_papers_parameters() -> None:
    # a stream of 6 bands: 9 x 9 x 12 x 32 + 32, 5 x 5 x 32 x 16 + 16, 5 x 5 x 16 x 6 + 6 = 46358; two are .093 M
    count = parameter_count(Stfnet().networks(6, 16))
    assert count == 2 * (31_136 + 12_816 + 2_406)
    assert count == pytest.approx(0.093e6, rel=0.01)


@pytest.mark.parametrize("bands", [1, 3, 4, 6])
@pytest.mark.parametrize(("ratio", "rows", "columns"), [(1, 5, 9), (2, 3, 1), (7, 1, 3), (16, 1, 2)])
@pytest.mark.parametrize("base", ["reference", "delta"])
def test_any_bands_sizes_and_ratios(bands: int, ratio: int, rows: int, columns: int, base: str) -> None:
    given = random_sample(bands=bands, rows=rows, columns=columns, ratio=ratio, pairs=2)
    method, nets = made(given, 4, base=base)
    before = {name: value.clone() for name, value in vars(given).items() if isinstance(value, Tensor)}
    out = method.forward(nets, given)
    assert out.shape == given.fine[:, 0].shape
    assert torch.isfinite(out).all()
    ((name, loss),) = method.losses(nets, given)
    assert name == "generator"
    assert torch.isfinite(loss)
    assert all(torch.equal(value, getattr(given, name)) for name, value in before.items())


@pytest.mark.parametrize("base", ["reference", "delta"])
def test_untrained_it_returns_its_base(base: str) -> None:
    given = random_sample(pairs=2)
    method, nets = made(given, trained=False, base=base)
    torch.testing.assert_close(method.forward(nets, given), given.start_of_all(base))


def test_each_stream_sees_its_reference_and_its_change_alone() -> None:
    given = random_sample(pairs=2)
    method, nets = made(given)
    since, until = method.changes(nets, given)
    moved = replace(given, fine=given.fine + torch.tensor([0.0, 1.0]).reshape(1, 2, 1, 1, 1))
    same, other = method.changes(nets, moved)
    assert torch.equal(same, since)
    assert not torch.allclose(other, until)
    later = given.coarse.clone()
    later[:, 1] += 1
    same, other = method.changes(nets, replace(given, coarse=later))
    assert torch.equal(same, since)
    assert not torch.allclose(other, until)


def test_the_change_until_a_reference_is_taken_back() -> None:
    given = random_sample(pairs=2)
    method, nets = made(given)
    first, last = method.both(given, method.changes(nets, given))
    since, until = method.changes(nets, given)
    torch.testing.assert_close(first - since, given.fine[:, 0])
    torch.testing.assert_close(last + until, given.fine[:, 1])


def test_the_right_answer_costs_nothing() -> None:
    given = random_sample(pairs=2)
    method = Stfnet()
    nets = torch.nn.ModuleDict({"generator": Exact(given)})
    torch.testing.assert_close(method.forward(nets, given), given.truth)
    ((_, loss),) = method.losses(nets, given)
    assert loss.item() == pytest.approx(0, abs=1e-6)


def test_changes_that_do_not_add_up_cost_their_difference() -> None:
    given = random_sample(pairs=2)
    _, nets = made(given)
    loss = {
        weight: next(iter(Stfnet(width=8, temporal_weight=weight).losses(nets, given)))[1].item()
        for weight in (0.0, 1.0, 3.0)
    }
    since, until = Stfnet(width=8).changes(nets, given)
    gap = (since + until - (given.fine[:, 1] - given.fine[:, 0])).abs().mean().item()
    assert loss[1.0] - loss[0.0] == pytest.approx(gap, rel=1e-4)
    assert loss[3.0] - loss[0.0] == pytest.approx(3 * gap, rel=1e-4)


def test_what_is_not_known_teaches_nothing() -> None:
    given = random_sample(pairs=2)
    known, seen = given.known.clone(), given.valid.clone()
    known[..., :6], seen[:, 0, ..., 15:], seen[:, 1, :, :3] = 0, 0, 0
    hidden = replace(given, known=known, valid=seen)
    method, nets = made(given)
    changes = method.changes(nets, given)
    total = [changes[0].detach().requires_grad_(), changes[1].detach().requires_grad_()]
    nothing = (sum(total) - between(hidden, *total)).abs().sum(1, keepdim=True)
    assert float(nothing[seen.amin(1) == 0].detach().max()) < 1e-6
    assert float(nothing[seen.amin(1) > 0].detach().max()) > 0.1
    wrong = replace(hidden, truth=torch.where(known > 0, given.truth, 50.0))
    losses = [next(iter(method.losses(nets, each)))[1] for each in (hidden, wrong)]
    torch.testing.assert_close(losses[0], losses[1])
    more = next(iter(method.losses(nets, given)))[1]
    assert more.item() > losses[0].item()


@pytest.mark.parametrize("base", ["reference", "delta"])
def test_learning_reaches_every_parameter_and_lowers_the_loss(base: str) -> None:
    given = random_sample(pairs=2)
    method, nets = made(given, trained=False, base=base)
    optimiser = torch.optim.Adam(nets.parameters(), 3e-3)
    history = []
    for turn in range(40):
        ((_, loss),) = method.losses(nets, given)
        nets.zero_grad()
        loss.backward()
        optimiser.step()
        history.append(float(loss.detach()))
        if turn == 1:  # the last layers start at zero and hold the others back for one step
            assert all(p.grad is not None and p.grad.abs().max() > 0 for p in nets.parameters())
    assert history[-1] < 0.7 * history[0]


@pytest.mark.parametrize("offsets", [(-60, -20, 0, 30), (-40, 25)])
def test_trained_on_pairs_it_fuses(offsets: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSION_CHECKPOINTS", str(tmp_path))
    series = [landscapes.pair(offset, rows=8, columns=16) for offset in offsets]
    method = Stfnet(width=4)
    path = train(method, series, epochs=2, options=Options(batch=2, patch=16, steps=2))
    stack = landscapes.stack(rows=8, columns=16)
    out = fuse(stack, replace(method, checkpoint=path.stem))
    assert out.data.shape == stack.fine.shape[1:]
    assert np.isfinite(out.data).all()
    tiled = fuse(stack, replace(method, checkpoint=path.stem), tile=16)
    np.testing.assert_allclose(tiled.data, out.data, atol=1e-5)
