"""Detail by regression: what it recovers, what it leaves alone, and what it does not depend on."""

import pytest
import torch

from fusion.methods._regression import detail

RATIO = 8


def fields(seed: int, bands: int = 2, size: int = 10) -> torch.Tensor:
    """Surfaces of three kinds in blocks of four pixels, each with its own value in every band."""
    draw = torch.Generator().manual_seed(seed)
    kinds = torch.randint(3, (1, 1, 2 * size, 2 * size), generator=draw)
    kinds = kinds.repeat_interleave(RATIO // 2, 2).repeat_interleave(RATIO // 2, 3)
    values = torch.randn((3, bands), generator=draw)
    return values[kinds[0, 0]].permute(2, 0, 1)[None].contiguous()


def coarse(fine: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.avg_pool2d(fine, RATIO)


def up(image: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.interpolate(image, scale_factor=RATIO, mode="bilinear")


def seen(fine: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(fine[:, :1])


def rms(image: torch.Tensor) -> float:
    return float(image.pow(2).mean().sqrt())


@pytest.mark.parametrize("seed", range(3))
def test_a_change_that_the_surface_explains_comes_back_sharp(seed):
    fine = fields(seed)
    change = fine.flip(1) * 0.5 - 0.2 * fine  # each surface changes by an amount of its own
    blurred = up(coarse(change))
    assert rms(blurred + detail(fine, coarse(change), seen(fine)) - change) < 0.35 * rms(blurred - change)


def test_surfaces_may_change_otherwise_elsewhere():
    fine = fields(3, size=24)
    change = fine * torch.linspace(-1, 1, fine.shape[-1])
    blurred = up(coarse(change))
    assert rms(blurred + detail(fine, coarse(change), seen(fine)) - change) < 0.6 * rms(blurred - change)


@pytest.mark.parametrize("level", [0.0, 0.7])
def test_a_change_that_is_the_same_everywhere_has_no_detail(level):
    fine = fields(4)
    change = torch.full((1, 3, 10, 10), level)
    out = detail(fine, change, seen(fine))
    assert out.shape == (1, 3, *fine.shape[2:])
    torch.testing.assert_close(out, torch.zeros_like(out), rtol=0, atol=1e-6)


def test_at_ratio_1_there_is_no_detail():
    fine = fields(5)
    out = detail(fine, fine[:, :1] * 0.3, seen(fine))
    assert out.shape == fine[:, :1].shape and not out.any()


def test_a_flat_image_and_a_single_coarse_pixel_give_none():
    flat = torch.full((2, 2, 3 * RATIO, 3 * RATIO), 0.4)
    change = torch.randn((2, 2, 3, 3), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(detail(flat, change, seen(flat)), torch.zeros_like(flat), rtol=0, atol=1e-6)
    one = fields(6)[..., :RATIO, :RATIO]
    torch.testing.assert_close(detail(one, coarse(one), seen(one)), torch.zeros_like(one), rtol=0, atol=1e-5)


def test_it_scales_with_the_change_and_not_with_the_units_of_the_images():
    fine, change = fields(7), coarse(fields(8))
    out = detail(fine, change, seen(fine))
    torch.testing.assert_close(detail(fine, 3 * change + 1, seen(fine)), 3 * out, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(detail(20 * fine + 5, change, seen(fine)), out, rtol=0, atol=0.05 * rms(out))


def test_it_turns_with_the_scene():
    fine, change = fields(9), coarse(fields(10))
    out = detail(fine, change, seen(fine))
    turned = detail(fine.transpose(2, 3).flip(3), change.transpose(2, 3).flip(3), seen(fine))
    torch.testing.assert_close(turned, out.transpose(2, 3).flip(3), rtol=1e-3, atol=1e-4)


def test_what_was_filled_teaches_nothing():
    fine = fields(11)
    change, valid = coarse(fine.flip(1)), seen(fine)
    valid[..., : 3 * RATIO] = 0
    other = change.clone()
    other[..., :3] = 9.0
    one, two = (detail(fine, each, valid) for each in (change, other))
    torch.testing.assert_close(one, two, rtol=0, atol=1e-3)
    assert (one - detail(fine, other, seen(fine))).abs().max() > 0.1  # had it been seen, it would


def test_outliers_are_held_back():
    fine, change = fields(12), coarse(fields(13))
    odd = fine.clone()
    odd[0, :, 4, 4] = 1e4
    assert detail(odd, change, seen(fine)).abs().max() < 100


def test_the_images_are_not_changed_and_gradients_flow():
    fine, change = fields(14), coarse(fields(15))
    before = fine.clone(), change.clone()
    fine.requires_grad_()
    detail(fine, change, seen(fine)).pow(2).mean().backward()
    assert torch.isfinite(fine.grad).all() and fine.grad.abs().max() > 0
    assert torch.equal(fine.detach(), before[0]) and torch.equal(change, before[1])
