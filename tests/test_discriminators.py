"""Discriminators: scores for any size, losses by hand, and the power to tell two kinds of images apart."""

import copy

import pytest
import torch

from fusion.methods._discriminators import (
    Discriminator,
    MultiScale,
    fooling,
    for_fake,
    for_real,
    frozen,
    judging,
    matching,
    to_fool,
)

BOTH = pytest.mark.parametrize("kind", [Discriminator, MultiScale])


@pytest.fixture(autouse=True)
def seed():
    """The same numbers in every test; images this small are slower with more threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        yield
    torch.set_num_threads(threads)


@BOTH
@pytest.mark.parametrize("size", [(1, 1), (5, 7), (32, 48)])
def test_scores_and_features_of_any_size(kind, size):
    judge = kind(5, width=4, layers=3)
    image, condition = torch.randn(2, 3, *size), torch.randn(2, 2, 2, 3)
    before = image.clone(), condition.clone()
    scores, features = judge(image, condition), judge.features(image, condition)
    scales = 3 if kind is MultiScale else 1
    assert len(scores) == scales and len(features) == 3 * scales
    assert all(each.shape[:2] == (2, 1) and each.isfinite().all() for each in scores)
    assert [each.shape[1] for each in features[:3]] == [4, 8, 16]
    assert torch.equal(image, before[0]) and torch.equal(condition, before[1])


def test_scores_are_of_patches():
    # 2 layers: a score sees 4 * 4 - 3 = 13 pixels along a side, and there is one for every 4.
    judge = Discriminator(2, width=4, layers=2).eval()
    image, condition = torch.randn(1, 1, 32, 48), torch.randn(1, 1, 32, 48)
    other = image.clone()
    other[..., 5, 40] += 10
    (before,), (after,) = judge(image, condition), judge(other, condition)
    assert before.shape == (1, 1, 8, 12)
    rows, columns = torch.nonzero((before - after).abs()[0, 0] > 1e-7, as_tuple=True)
    assert rows.numel() and all(abs(4 * row - 5) <= 6 for row in rows.tolist())
    assert all(abs(4 * column - 40) <= 6 for column in columns.tolist())


def test_the_condition_counts():
    judge = Discriminator(2, width=4, layers=2).eval()
    image = torch.randn(1, 1, 16, 16)
    first, second = (judge(image, condition)[0] for condition in torch.randn(2, 1, 1, 2, 2))
    assert not torch.allclose(first, second)


def test_a_scale_sees_means_of_the_image():
    # Detail that the mean of 2 x 2 pixels takes away changes the scores of the first scale alone.
    judge = MultiScale(2, width=4, layers=2).eval()
    image, condition = torch.randn(1, 1, 16, 16), torch.randn(1, 1, 16, 16)
    detail = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(8, 8)
    plain, detailed = judge(image, condition), judge(image + detail, condition)
    assert not torch.allclose(plain[0], detailed[0])
    for before, after in zip(plain[1:], detailed[1:], strict=True):
        torch.testing.assert_close(before, after)


def test_weights_are_spectrally_normalised():
    judge = Discriminator(3, width=4, layers=2)
    image, condition = torch.randn(1, 2, 16, 16), torch.randn(1, 1, 16, 16)
    for _ in range(30):  # each look is a step of the power iteration
        judge(image, condition)
    judge.eval()
    convolutions = [module for module in judge.modules() if isinstance(module, torch.nn.Conv2d)]
    assert len(convolutions) == 5
    for module in convolutions:
        assert torch.linalg.matrix_norm(module.weight.flatten(1), 2).item() == pytest.approx(1, abs=1e-3)


def test_losses_by_hand():
    # Scores of two scales: means of squares 0.25, 0.75^2 = 0.5625 and distances to 1 likewise.
    scores = [torch.tensor([0.5, 0.5]), torch.tensor([0.75])]
    assert for_fake(scores).item() == pytest.approx((0.25 + 0.5625) / 2 / 2)
    assert for_real(scores).item() == pytest.approx((0.25 + 0.0625) / 2 / 2)
    assert to_fool(scores).item() == pytest.approx(for_real(scores).item())
    ones, zeros = [torch.ones(2, 1, 3, 4)], [torch.zeros(2, 1, 3, 4)]
    assert for_real(ones).item() == for_fake(zeros).item() == 0


def test_half_precision_does_not_overflow():
    large = [torch.full((1, 1, 2, 2), 300.0, dtype=torch.float16)]  # whose square is beyond half precision
    assert for_fake(large).item() == pytest.approx(45000)
    assert matching(large, [torch.zeros(1, 1, 2, 2, dtype=torch.float16)]).item() == pytest.approx(90000)


def test_matching_by_hand():
    pred = [torch.tensor([1.0, 3.0], requires_grad=True), torch.tensor([2.0], requires_grad=True)]
    true = [torch.tensor([1.0, 1.0], requires_grad=True), torch.tensor([5.0], requires_grad=True)]
    loss = matching(pred, true)
    assert loss.item() == pytest.approx((4 / 2 + 9) / 2)
    loss.backward()
    assert pred[1].grad.item() == -3 and true[0].grad is None and true[1].grad is None
    with pytest.raises(ValueError, match="as many, got 2 and 1"):
        matching(pred, true[:1])
    with pytest.raises(ValueError, match="got 0 and 0"):
        matching([], [])


@BOTH
def test_fooling_moves_the_prediction_alone(kind):
    judge = kind(2, width=4, layers=2)
    fixed = judge.layers[0][0].bias if kind is Discriminator else judge.scales[0].layers[0][0].bias
    fixed.requires_grad_(False)
    pred = torch.randn(1, 1, 12, 12, requires_grad=True)
    truth, condition = torch.randn(1, 1, 12, 12), torch.randn(1, 1, 3, 3)
    fooling(judge, pred, truth, condition, 1.0, 0.5).backward()
    assert pred.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in judge.parameters())
    learning = [parameter.requires_grad for parameter in judge.parameters()]
    assert learning.count(False) == 1 and not fixed.requires_grad  # as it was before


@BOTH
def test_both_sides_of_the_contest_by_their_parts(kind):
    judge = kind(2, width=4, layers=2).eval()
    pred, truth, condition = torch.randn(1, 1, 12, 12), torch.randn(1, 1, 12, 12), torch.randn(1, 1, 3, 3)
    real, fake = judge(truth, condition), judge(pred, condition)
    like = matching(judge.features(pred, condition), judge.features(truth, condition))
    wanted = 2 * to_fool(fake) + 0.5 * like
    torch.testing.assert_close(fooling(judge, pred, truth, condition, 2.0, 0.5), wanted)
    torch.testing.assert_close(judging(judge, pred, truth, condition), for_real(real) + for_fake(fake))


def test_frozen_ends_with_an_error():
    judge = Discriminator(2, width=4, layers=2)
    with pytest.raises(KeyError), frozen(judge):
        assert not any(parameter.requires_grad for parameter in judge.parameters())
        raise KeyError
    assert all(parameter.requires_grad for parameter in judge.parameters())


@BOTH
def test_judging_moves_the_discriminator_alone(kind):
    judge = kind(2, width=4, layers=2)
    pred = torch.randn(1, 1, 12, 12, requires_grad=True)
    judging(judge, pred, torch.randn(1, 1, 12, 12), torch.randn(1, 1, 3, 3)).backward()
    assert pred.grad is None
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in judge.parameters())


@BOTH
def test_it_learns_to_tell_stripes_that_lie_from_stripes_that_stand(kind):
    judge = kind(2, width=8, layers=2)
    optimiser = torch.optim.Adam(judge.parameters(), 2e-3)
    stripes = torch.arange(16) // 4 % 2 * 2.0 - 1

    def draw(n: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        lying = stripes[:, None].expand(n, 1, 16, 16) + 0.3 * torch.randn(n, 1, 16, 16)
        standing = stripes.expand(n, 1, 16, 16) + 0.3 * torch.randn(n, 1, 16, 16)
        return lying, standing, torch.randn(n, 1, 4, 4)

    for _ in range(50):
        observed, predicted, condition = draw(4)
        optimiser.zero_grad()
        judging(judge, predicted, observed, condition).backward()
        optimiser.step()
    judge.eval()
    observed, predicted, condition = draw(32)
    with torch.no_grad():
        real, fake = judge(observed, condition), judge(predicted, condition)
    assert for_real(real) + for_fake(fake) < 0.05  # 0.25 for who cannot tell
    assert real[0].mean((1, 2, 3)).min() > fake[0].mean((1, 2, 3)).max()


def test_scores_are_the_same_again():
    judge = MultiScale(2, width=4, layers=2).eval()
    image, condition = torch.randn(1, 1, 12, 12), torch.randn(1, 1, 3, 3)
    for first, second in zip(judge(image, condition), copy.deepcopy(judge)(image, condition), strict=True):
        assert torch.equal(first, second)
