"""EDCSTFN: the published size, the change that it adds, and the parts of its loss."""

from dataclasses import replace

import pytest
import torch

from fusion import methods
from fusion.methods._layers import parameter_count
from fusion.methods._sample import Sample
from fusion.training import Options, samples
from landscapes import pair

Edcstfn = methods.get("edcstfn")


def sample(*, pairs: int = 1, bands: int = 2, rows: int = 3, columns: int = 5, ratio: int = 4) -> Sample:
    """Random patches with truth."""
    torch.manual_seed(3)
    fine = torch.randn(2, pairs, bands, rows * ratio, columns * ratio)
    coarse = torch.randn(2, pairs, bands, rows, columns)
    ones = torch.ones(2, pairs, 1, rows * ratio, columns * ratio)
    flat = torch.full((bands, 1, 1), 0.1)
    target, truth = coarse[:, 0] + 0.4, fine[:, 0] + 0.3
    return Sample(fine, coarse, target, ones, flat, flat, ("red", "nir")[:bands], truth, ones[:, 0])


def test_it_has_the_published_number_of_parameters():
    # .284 M at six bands: encoders 6 and 18 -> 32 -> 64 -> 128, decoder 128 -> 64 -> 32 -> 6, all 3 x 3 but the last.
    (generator,) = Edcstfn().networks(6, 16).values()
    assert parameter_count(generator) == 284_134


@pytest.mark.parametrize("base", ["reference", "delta"])
def test_what_is_added_to_the_coarse_change_is_none_where_there_is_no_change(base):
    method = Edcstfn(width=4, base=base)
    torch.manual_seed(0)
    nets = method.networks(2, 4)
    for weight in nets.parameters():
        torch.nn.init.normal_(weight, 0, 0.3)
    still = replace(sample(), target=sample().coarse[:, 0])
    change = (method.forward(nets, still) - still.fine[:, 0]).abs().max()
    assert (change < 0.01) == (base == "delta") and change > 0


def test_the_loss_has_the_parts_that_its_weights_ask_for():
    def loss(**settings) -> float:
        method = Edcstfn(width=4, **settings)
        (found,) = method.losses(method.networks(2, 4), sample())
        assert found[0] == "generator"
        return float(found[1].detach())

    plain = loss(feature_weight=0, structure_weight=0)
    assert plain == pytest.approx(0.3**2, rel=1e-4)  # untrained, it returns the reference, .3 beside the truth
    structure = loss(feature_weight=0, structure_weight=1) - plain
    assert structure > 0 and loss(feature_weight=0, structure_weight=2) - plain == pytest.approx(
        2 * structure, rel=1e-3
    )
    assert loss(feature_weight=1, structure_weight=0) > plain


def test_the_relative_error_is_the_distance_in_units_of_the_coarse_change():
    method = Edcstfn(width=4, error="relative", feature_weight=0, structure_weight=0)
    (found,) = method.losses(method.networks(2, 4), sample())
    assert float(found[1].detach()) == pytest.approx(0.3 / (0.4 + 0.1), rel=1e-3)


def test_the_less_changed_of_two_references_counts_more():
    both = sample(pairs=2)
    near = replace(both, target=both.coarse[:, 1] + 0.01)
    method = Edcstfn(width=4)
    out = method.forward(method.networks(2, 4), near)
    assert (out - near.fine[:, 1]).abs().mean() < 0.2 * (out - near.fine[:, 0]).abs().mean()


def test_it_overfits_one_patch(tmp_path, monkeypatch):
    monkeypatch.setenv("FUSION_CHECKPOINTS", str(tmp_path))
    method = Edcstfn(width=16)
    series = [pair(offset, rows=4, columns=4, ratio=4, bands=2) for offset in (-40, 0, 25)]
    patch = next(samples(method, series, options=Options(batch=1, patch=16, turns=False, change=0.0)))
    torch.manual_seed(0)
    nets = method.networks(2, 4)
    optimiser = torch.optim.Adam(nets.parameters(), lr=3e-3)

    def error():
        with torch.no_grad():
            return float((patch.scale * (method.forward(nets, patch) - patch.truth)).square().mean().sqrt())

    assert error() > 0.02  # reflectance
    for _ in range(400):
        ((_, loss),) = method.losses(nets, patch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert error() < 1e-3
