"""EDCSTFN: the published size, the change that it adds, and the parts of its loss."""

from dataclasses import replace

import pytest
import torch

from fusion import methods
from fusion.methods._sample import Sample
from fusion.training import Options, samples
from landscapes import pair
from networks import parameter_count, random_sample

Edcstfn = methods.get("edcstfn")


def changed() -> Sample:
    """Patches that change evenly, the fine ones less than the coarse ones."""
    given = random_sample()
    return replace(given, target=given.coarse[:, 0] + 0.4, truth=given.fine[:, 0] + 0.3)


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
    given = random_sample()
    still = replace(given, target=given.coarse[:, 0])
    change = (method.forward(nets, still) - still.fine[:, 0]).abs().max()
    assert (change < 0.01) == (base == "delta") and change > 0


def test_the_loss_has_the_parts_that_its_weights_ask_for():
    def loss(**settings) -> float:
        method = Edcstfn(width=4, **settings)
        (found,) = method.losses(method.networks(2, 4), changed())
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
    (found,) = method.losses(method.networks(2, 4), changed())
    assert float(found[1].detach()) == pytest.approx(0.3 / (0.4 + 0.1), rel=1e-3)


def test_the_less_changed_of_two_references_counts_more():
    both = random_sample(pairs=2)
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


def three_surfaces() -> Sample:
    """One band that tells three surfaces apart, of which only the middle one changes: no line explains that."""
    draw = torch.Generator().manual_seed(1)
    kinds = torch.randint(3, (2, 1, 24, 24), generator=draw).repeat_interleave(4, 2).repeat_interleave(4, 3)
    fine, change = kinds - 1.0, (kinds == 1) * 0.8
    given = random_sample(bands=1, rows=12, columns=12, ratio=8)
    coarse = torch.nn.functional.avg_pool2d(fine, 8)
    return replace(
        given, fine=fine[:, None], coarse=coarse[:, None], truth=fine + change,
        target=coarse + torch.nn.functional.avg_pool2d(change, 8),
    )  # fmt: skip


def test_learnt_predictors_find_what_the_bands_do_not_tell():
    method = Edcstfn(width=4, base="regression", predictors=4)
    given = three_surfaces()
    torch.manual_seed(0)
    nets = method.networks(1, 8)
    optimiser = torch.optim.Adam(nets["generator"].predictors.parameters(), lr=0.01)  # the rest stays at zero

    def error() -> torch.Tensor:
        return (method.forward(nets, given) - given.truth).pow(2).mean()

    for _ in range(60):
        optimiser.zero_grad()
        error().backward()
        optimiser.step()
    bands_alone = (given.start(0, "regression") - given.truth).pow(2).mean()
    assert error() < 0.3 * bands_alone


@pytest.mark.parametrize("pairs", [1, 2, 3])
def test_learnt_predictors_add_nothing_where_nothing_changed(pairs):
    method, given = Edcstfn(width=4, base="regression", predictors=3), random_sample(pairs=pairs)
    fine = given.fine[:, :1].expand_as(given.fine)
    still = replace(given, fine=fine, coarse=given.target[:, None].expand_as(given.coarse))
    torch.testing.assert_close(method.forward(method.networks(2, 4), still), fine[:, 0], rtol=0, atol=1e-5)
