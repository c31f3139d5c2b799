"""STFDCNN: two steps, the gain of detail, both references, and what it learns."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import landscapes
from fusion import fuse, methods
from fusion.methods._sample import Sample
from fusion.methods.stfdcnn import pooled, step
from fusion.training import Options, train
from networks import parameter_count, random_sample

Stfdcnn = methods.get("stfdcnn")


def made(given: Sample, width: int = 8, trained: bool = True, **parameters: object) -> tuple:
    """Method and networks; those taken as trained have random last layers."""
    torch.manual_seed(3)
    method = Stfdcnn(width=width, **parameters)
    nets = method.networks(len(given.bands), given.ratio)
    if trained:
        for parameter in nets.parameters():
            torch.nn.init.normal_(parameter, std=0.05)
    return method, nets


@pytest.mark.parametrize("bands", [1, 6])
def test_each_stage_has_the_papers_parameters_for_every_band(bands: int) -> None:
    nets = Stfdcnn().networks(bands, 16)
    # 9 x 9 x 64 + 64, 5 x 5 x 64 x 32 + 32, 5 x 5 x 32 + 1: 5248 + 51232 + 801 = 57281, published as .057 M a stage
    assert {name: parameter_count(net) for name, net in nets.items()} == {
        "mapping": bands * 57_281,
        "sharpening": bands * 57_281,
    }


def test_one_network_for_all_bands_shares_the_middle_layer() -> None:
    nets = Stfdcnn(together=True).networks(6, 16)
    # 81 x 6 x 64 + 64, 25 x 64 x 32 + 32, 25 x 32 x 6 + 6
    assert parameter_count(nets["mapping"]) == 31_168 + 51_232 + 4_806


@pytest.mark.parametrize(("ratio", "size"), [(1, 1), (2, 2), (3, 3), (4, 2), (6, 3), (7, 7), (16, 8), (25, 5)])
def test_the_intermediate_pixel_is_a_whole_part_of_the_coarse_one(ratio: int, size: int) -> None:
    assert step(ratio) == size


@pytest.mark.parametrize("bands", [1, 3, 4, 6])
@pytest.mark.parametrize(("ratio", "rows", "columns"), [(1, 5, 9), (2, 3, 1), (7, 1, 3), (16, 1, 2)])
@pytest.mark.parametrize("together", [True, False])
def test_any_bands_sizes_and_ratios(bands: int, ratio: int, rows: int, columns: int, together: bool) -> None:
    given = random_sample(bands=bands, rows=rows, columns=columns, ratio=ratio, pairs=2)
    method, nets = made(given, 4, together=together)
    before = {name: value.clone() for name, value in vars(given).items() if isinstance(value, Tensor)}
    out = method.forward(nets, given)
    assert out.shape == given.fine[:, 0].shape
    assert torch.isfinite(out).all()
    losses = dict(method.losses(nets, given))
    assert list(losses) == ["mapping", "sharpening"]
    assert all(torch.isfinite(loss) and loss > 0 for loss in losses.values())
    assert all(torch.equal(value, getattr(given, name)) for name, value in before.items())


@pytest.mark.parametrize("together", [False, True])
def test_other_bands_matter_to_a_network_of_all_bands_alone(together: bool) -> None:
    given = random_sample(bands=3, pairs=2)
    _, nets = made(given, together=together)
    image = given.fine[:, 0]
    other = image + torch.tensor([1.0, 0.0, 0.0]).reshape(3, 1, 1)
    for net in nets.values():
        same = [torch.equal(net(image)[:, band], net(other)[:, band]) for band in range(3)]
        assert same == [False, not together, not together]


@pytest.mark.parametrize("base", ["reference", "delta"])
@pytest.mark.parametrize("trained", [False, True])
def test_where_nothing_changed_the_fine_image_comes_back(base: str, trained: bool) -> None:
    given = random_sample(pairs=2)
    same = replace(
        given, fine=given.fine[:, :1].repeat(1, 2, 1, 1, 1), coarse=given.coarse[:, :1].repeat(1, 2, 1, 1, 1),
        target=given.coarse[:, 0],
    )  # fmt: skip
    method, nets = made(given, trained=trained, base=base)
    torch.testing.assert_close(method.forward(nets, same), given.fine[:, 0], rtol=0, atol=2e-5)


@pytest.mark.parametrize(("base", "raised"), [("delta", 0.4), ("reference", 0.0)])
def test_untrained_it_returns_its_base(base: str, raised: float) -> None:
    given = random_sample(pairs=2)
    one = replace(
        given, fine=given.fine[:, :1].repeat(1, 2, 1, 1, 1), coarse=given.coarse[:, :1].repeat(1, 2, 1, 1, 1),
        target=given.coarse[:, 0] + 0.4,
    )  # fmt: skip
    method, nets = made(given, trained=False, base=base, limit=1.0)  # with another limit, detail grows with the level
    torch.testing.assert_close(method.forward(nets, one), given.fine[:, 0] + raised, rtol=0, atol=2e-5)


def test_untrained_with_different_references_it_is_near_its_base() -> None:
    given = random_sample(ratio=8, pairs=2)
    method, nets = made(given, trained=False, limit=1.0)
    difference = method.forward(nets, given) - given.start_of_all("delta")
    # the change is interpolated in two steps instead of one: what is left is small against the change
    change = given.start_of_all("delta") - given.start_of_all("reference")
    assert difference.pow(2).mean() < 0.1 * change.pow(2).mean()


def test_detail_grows_with_reflectance_within_its_limit() -> None:
    method = Stfdcnn(limit=2.0)
    given = random_sample(bands=1, pairs=2)  # reflectance = 0.3 + 0.05 x
    before, now = (torch.tensor([values]).reshape(1, 1, 1, -1) for values in ([0.0, 0.0, 0.0, -9], [3.0, 14, -5, -7]))
    gain = method.gain(given, before, now).flatten()
    torch.testing.assert_close(gain, torch.tensor([1.5, 2.0, 0.5, 1.0]))  # .45/.3; above 2; below .5; both in the dark
    guesses = [before, before, now]
    known = [before + 1, before - 1]
    shares = [torch.full_like(now, 0.75), torch.full_like(now, 0.25)]
    out = method.fused(given, guesses, known, shares).flatten()
    torch.testing.assert_close(out, now.flatten() + gain * (0.75 - 0.25))


def test_a_gap_of_a_reference_is_taken_from_the_other() -> None:
    given = random_sample(pairs=2)
    method, nets = made(given)
    seen = given.valid.clone()
    seen[:, 1] = 0
    holes = given.fine.clone()
    holes[:, 1] += 100
    out = method.forward(nets, replace(given, fine=holes, valid=seen))
    expected = method.forward(nets, replace(given, valid=seen))
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-3)


def test_what_is_not_known_teaches_nothing() -> None:
    given = random_sample(pairs=2)
    method, nets = made(given)
    known, seen = given.known.clone(), given.valid.clone()
    known[..., :5], seen[:, 0, ..., 17:], seen[:, 1, :, :3] = 0, 0, 0
    hidden = replace(given, known=known, valid=seen)
    wrong = replace(
        hidden, truth=torch.where(known > 0, given.truth, 50.0), fine=torch.where(seen > 0, given.fine, 50.0)
    )
    everything, right, other = (dict(method.losses(nets, each)) for each in (given, hidden, wrong))
    for name in nets:
        torch.testing.assert_close(right[name], other[name])
        assert right[name].item() < everything[name].item()


def waves() -> Sample:
    """Waves that blur weakens, levels that change, and a coarse sensor that shows half the contrast: all learnable."""
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(24.0), indexing="ij")
    still, moving = torch.sin(y / 2), torch.cos(x / 4)
    days = [torch.stack([still + day * moving, still - day * moving.roll(5, 1)])[None] for day in (0, 1, 3)]
    fine = torch.stack(days, 1)
    coarse = torch.stack([0.5 * pooled(day, 4) - 1 for day in days], 1)
    seen = torch.ones(1, 2, 1, 16, 24)
    return replace(
        random_sample(), fine=fine[:, :2], coarse=coarse[:, :2], target=coarse[:, 2], valid=seen, truth=fine[:, 2],
        known=seen[:, 0],
    )  # fmt: skip


@pytest.mark.parametrize("together", [True, False])
def test_learning_reaches_every_parameter_and_lowers_the_losses(together: bool) -> None:
    given = waves()
    method, nets = made(given, trained=False, together=together)
    optimisers = {name: torch.optim.Adam(net.parameters(), 3e-3) for name, net in nets.items()}
    history: dict[str, list[float]] = {name: [] for name in nets}
    before = (method.forward(nets, given) - given.truth).pow(2).mean().item()
    for _ in range(40):
        for name, loss in method.losses(nets, given):
            nets.zero_grad()
            loss.backward()
            others = [p for other, net in nets.items() if other != name for p in net.parameters()]
            assert all(p.grad is None for p in others)
            optimisers[name].step()
            history[name].append(loss.item())
            if len(history[name]) == 2:  # the last layer starts at zero and holds the others back for one step
                assert all(p.grad is not None and p.grad.abs().max() > 0 for p in nets[name].parameters())
    assert all(losses[-1] < 0.3 * losses[0] for losses in history.values()), history
    assert (method.forward(nets, given) - given.truth).pow(2).mean().item() < 0.5 * before


@pytest.mark.parametrize("offsets", [(-60, -20, 0, 30), (-40, 25)])
def test_trained_on_pairs_it_fuses(offsets: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSION_CHECKPOINTS", str(tmp_path))
    series = [landscapes.pair(offset, rows=8, columns=16) for offset in offsets]
    method = Stfdcnn(width=4)
    reports: list = []
    options = Options(batch=2, patch=16, steps=2)
    path = train(method, series, epochs=2, options=options, watch=reports.append)
    assert {"mapping", "sharpening"} == set(reports[-1].losses)
    stack = landscapes.stack(rows=8, columns=16)
    out = fuse(stack, replace(method, checkpoint=path.stem))
    assert out.data.shape == stack.fine.shape[1:]
    assert np.isfinite(out.data).all()
    tiled = fuse(stack, replace(method, checkpoint=path.stem), tile=16)
    np.testing.assert_allclose(tiled.data, out.data, atol=1e-5)


@pytest.mark.parametrize("ratio", [1, 2, 4, 7, 16, 30])
def test_a_patch_holds_the_context_of_the_intermediate_network(ratio: int) -> None:
    side, margin = Stfdcnn().patch(ratio)
    assert margin * ratio >= 4 * step(ratio)
    assert side >= 5 * margin
