"""Losses: nothing for equal images, more for worse ones, finite everywhere; and the autoencoder of `perceptual`."""

import hashlib
import re
import threading
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, uniform_filter
from torch.nn import functional

from fusion import checkpoints, metrics
from fusion._assets import asset
from fusion.methods import _features, _losses
from fusion.methods._sample import Sample
from fusion.scene import Scene

NAMES = ("blue", "green", "red", "nir", "swir1", "swir2", "thermal", "coastal")
MEAN, SCALE = 0.2, 0.06
HIDDEN = (date(2017, 6, 6), date(2018, 4, 12), date(2018, 9, 19))  # assets/make_autoencoder.py keeps them back
FILE = asset("weights/autoencoder.safetensors")

LOSSES = {
    "l1": lambda pred, sample: _losses.l1(pred, sample.wanted(pred)),
    "mse": lambda pred, sample: _losses.mse(pred, sample.wanted(pred)),
    "charbonnier": lambda pred, sample: _losses.charbonnier(pred, sample.wanted(pred)),
    "structure": lambda pred, sample: _losses.structure(pred, sample.wanted(pred)),
    "spectral_angle": lambda pred, sample: _losses.spectral_angle(pred, sample.wanted(pred), sample),
    "perceptual": lambda pred, sample: _losses.perceptual(pred, sample.wanted(pred), sample),
    "edges": lambda pred, sample: _losses.edges(pred, sample.wanted(pred)),
    "coarse_consistency": _losses.coarse_consistency,
}
each_loss = pytest.mark.parametrize("name", LOSSES)


@pytest.fixture(autouse=True)
def one_thread():
    """Images this small are slower with more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def textured(*shape: int, seed: int = 0) -> torch.Tensor:
    """Images with structure at several sizes, standard deviation about 1."""
    rough = random(*shape, seed=seed).numpy()
    image = sum(uniform_filter(rough, (0, 0, size, size)) * size for size in (1, 3, 9)) / 2
    return torch.from_numpy(image.astype(np.float32))


def sample_of(truth: torch.Tensor, ratio: int = 1, known: torch.Tensor | None = None, bands=NAMES) -> Sample:
    """Sample whose coarse target is the truth's block mean."""
    n, count, height, width = truth.shape
    coarse = functional.avg_pool2d(truth, ratio)
    ones = torch.ones(n, 1, height, width)
    level = torch.full((count, 1, 1), MEAN), torch.full((count, 1, 1), SCALE)
    known = ones if known is None else known
    return Sample(truth[:, None], coarse[:, None], coarse, ones[:, None], *level, bands[:count], truth, known)


def value(name: str, pred: torch.Tensor, sample: Sample) -> float:
    loss = LOSSES[name](pred, sample)
    assert loss.shape == ()
    return float(loss.detach())


def gradient(name: str, pred: torch.Tensor, sample: Sample) -> torch.Tensor:
    pred = pred.clone().requires_grad_()
    LOSSES[name](pred, sample).backward()
    return pred.grad


@each_loss
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 1, 2, 5), (1, 4, 13, 30), (2, 6, 48, 24), (1, 8, 9, 7)])
def test_equal_images_have_no_loss(name, shape):
    truth = textured(*shape)
    assert value(name, truth.clone(), sample_of(truth)) == 0


@each_loss
def test_a_loss_grows_with_the_noise(name):
    truth, noise = textured(2, 3, 32, 24), random(2, 3, 32, 24, seed=1)
    values = [value(name, truth + level * noise, sample_of(truth, ratio=2)) for level in (0.01, 0.1, 0.5, 2.0)]
    assert values == sorted(values) and values[0] > 0 and values[-1] > 5 * values[0]


@each_loss
@pytest.mark.parametrize("bands", [1, 7])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (8, 8), (23, 11)])
def test_gradients_are_finite_on_constant_and_small_images(name, bands, size):
    constant = torch.full((1, bands, *size), 0.3)
    black = torch.full((1, bands, *size), -MEAN / SCALE)  # 0 reflectance
    rough = random(1, bands, *size)
    for truth in (constant, black, rough):
        for pred in (constant, black, -rough, 100 * rough):
            pred = pred.clone().requires_grad_()
            loss = LOSSES[name](pred, sample_of(truth))
            loss.backward()
            assert torch.isfinite(loss) and torch.isfinite(pred.grad).all()


@each_loss
def test_unknown_pixels_have_no_gradient(name):
    truth, pred = textured(1, 3, 24, 32), textured(1, 3, 24, 32, seed=1)
    known = torch.ones(1, 1, 24, 32)
    known[..., 4:13, 10:17] = 0
    found = gradient(name, pred, sample_of(truth, 4, known))
    assert (found * (1 - known) == 0).all()
    assert (found * known).abs().sum() > 0
    if name == "structure":  # its windows reach into the gap, so the gradient without care would not be 0
        assert gradient(name, pred, sample_of(truth, 4))[..., 4:13, 10:17].abs().min() > 0


@each_loss
def test_half_precision_around_a_loss_changes_nothing(name):
    truth, pred = textured(1, 3, 24, 32), textured(1, 3, 24, 32, seed=1)
    sample = sample_of(truth, 4)
    with torch.autocast("cpu", torch.bfloat16):
        half = value(name, pred, sample)
    assert half == value(name, pred, sample)


@each_loss
def test_images_are_left_as_they_are(name):
    truth, pred = textured(1, 3, 24, 32), textured(1, 3, 24, 32, seed=1)
    before = truth.clone(), pred.clone()
    gradient(name, pred, sample_of(truth, 4))
    assert torch.equal(truth, before[0]) and torch.equal(pred, before[1])


def test_plain_differences_by_hand():
    pred, truth = torch.tensor([[[[1.0, 2.0, 3.0]]]]), torch.tensor([[[[1.0, 0.0, 7.0]]]])
    assert float(_losses.l1(pred, truth)) == 2
    assert float(_losses.mse(pred, truth)) == pytest.approx(20 / 3)
    assert float(_losses.charbonnier(pred, truth, eps=1.5)) == pytest.approx((0 + 1.0 + (18.25**0.5 - 1.5)) / 3)


def test_changes_of_two_steps_add_up_to_that_of_both():
    first, second = random(2, 3, 5, 5), random(2, 3, 5, 5, seed=1)
    assert float(_losses.temporal(first, second, first + second)) == 0
    assert float(_losses.temporal(first, second, first + second + 0.25)) == pytest.approx(0.25, rel=1e-5)


def test_block_means_are_compared_with_the_coarse_target():
    truth = textured(1, 2, 8, 12)
    sample = sample_of(truth, ratio=4)
    checker = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(4, 6)  # has no block mean
    assert float(_losses.coarse_consistency(truth + checker, sample)) == pytest.approx(0, abs=1e-6)
    assert float(_losses.coarse_consistency(truth + 0.5, sample)) == pytest.approx(0.5, rel=1e-5)


def test_a_coarse_pixel_with_a_gap_does_not_count():
    truth = textured(1, 2, 8, 12)
    known = torch.ones(1, 1, 8, 12)
    known[..., 5, 6] = 0
    wrong = truth.clone()
    wrong[..., 4:8, 4:8] += 3
    assert float(_losses.coarse_consistency(wrong, sample_of(truth, 4))) == pytest.approx(0.5)
    assert float(_losses.coarse_consistency(wrong, sample_of(truth, 4, known))) == 0
    assert float(_losses.coarse_consistency(wrong, sample_of(truth, 4, 0 * known))) == 0


def test_the_spectral_angle_ignores_a_common_factor_of_reflectance():
    truth = textured(1, 4, 12, 12).clamp(-2, 2)
    sample = sample_of(truth)
    scaled = (sample.reflectance(truth) * 1.7 - MEAN) / SCALE
    assert float(_losses.spectral_angle(scaled, truth, sample)) == pytest.approx(0, abs=1e-6)
    assert float(_losses.spectral_angle(truth * 1.7, truth, sample)) > 0.01


def test_the_spectral_angle_is_the_metric_in_radians():
    truth, pred = textured(1, 4, 12, 12).clamp(-2, 2), textured(1, 4, 12, 12, seed=1).clamp(-2, 2)
    sample = sample_of(truth)
    images = [sample.reflectance(image)[0].numpy() for image in (pred, truth)]
    expected = np.radians(metrics.spectral_angle(*images)[0])
    assert float(_losses.spectral_angle(pred, truth, sample)) == pytest.approx(expected, abs=_losses.NARROW * 2)


def reference_likeness(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Luminance and contrast-structure in all windows that lie in the image, by scipy in double precision."""

    def mean(image):
        return gaussian_filter(image, 1.5, radius=5)[5:-5, 5:-5]

    def deviation(a, b):
        return mean(a * b) - mean(a) * mean(b)

    luminance = (2 * mean(x) * mean(y) + 0.06**2) / (mean(x) ** 2 + mean(y) ** 2 + 0.06**2)
    return luminance, (2 * deviation(x, y) + 0.18**2) / (deviation(x, x) + deviation(y, y) + 0.18**2)


@pytest.mark.parametrize(("shape", "scales"), [((21, 17), 1), ((26, 43), 2), ((64, 48), 3)])
def test_structure_agrees_with_one_by_scipy(shape, scales):
    truth = textured(1, 1, *shape)
    pred = truth + 0.5 * textured(1, 1, *shape, seed=1) + 0.2
    x, y = (image[0, 0].double().numpy() + 3 for image in (pred, truth))
    exponents = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])[:scales]
    expected = 1.0
    for scale, exponent in enumerate(exponents / exponents.sum()):
        if scale:
            x, y = (
                image[: shape[0] >> scale << 1, : shape[1] >> scale << 1]
                .reshape(shape[0] >> scale, 2, shape[1] >> scale, 2)
                .mean((1, 3))
                for image in (x, y)
            )
        luminance, contrast = reference_likeness(x, y)
        expected *= (luminance * contrast if scale == scales - 1 else contrast).mean() ** exponent
    assert 0.05 < 1 - expected < 0.9
    assert float(_losses.structure(pred, truth)) == pytest.approx(1 - expected, abs=1e-5)


def test_structure_teaches_also_where_nothing_is_alike():
    truth = textured(1, 1, 48, 48)
    pred = textured(1, 1, 48, 48, seed=1) - 0.5 * truth  # contrast-structure is negative at all scales
    before, step = value("structure", pred, sample_of(truth)), gradient("structure", pred, sample_of(truth))
    assert before > 0.9
    assert value("structure", pred - 0.1 * step / step.abs().mean(), sample_of(truth)) < before - 1e-3


def test_an_error_on_an_edge_costs_more():
    truth = torch.zeros(1, 1, 16, 16)
    truth[..., 8:] = 2
    error = torch.zeros(1, 1, 16, 16)
    error[..., 7:9] = 0.5
    on_edge, beside = (float(_losses.edges(truth + moved, truth)) for moved in (error, error.roll(5, 3)))
    assert on_edge > 3 * beside > 0
    assert float(_losses.edges(truth + 0.5, truth)) == pytest.approx(0.5, rel=1e-5)  # as l1


# The autoencoder


def observed(day: date) -> torch.Tensor:
    """``(1, 4, y, x)`` reflectance of the bundled sample."""
    return torch.from_numpy(Scene.read(asset(f"sample/S2_{day}.tif"), scale=1e-4).data)[None]


def normalised(reflectance: torch.Tensor) -> torch.Tensor:
    return (reflectance - MEAN) / SCALE


def test_bands_find_their_slots():
    assert _features.groups(("nir", "red", "green")) == ((-1, 2, 1, 0, -1, -1),)
    assert _features.groups(("thermal", "red")) == ((0, -1, 1, -1, -1, -1),)
    assert _features.groups(("a", "b", "blue")) == ((2, 0, 1, -1, -1, -1),)
    assert _features.groups((*NAMES[::-1], "x")) == ((7, 6, 5, 4, 3, 2), (0, 1, 8, -1, -1, -1))


def test_named_bands_may_come_in_any_order():
    truth, pred = textured(1, 4, 16, 16), textured(1, 4, 16, 16, seed=1)
    turned = sample_of(truth.flip(1), bands=NAMES[:4][::-1])
    assert value("perceptual", pred.flip(1), turned) == pytest.approx(value("perceptual", pred, sample_of(truth)))


def test_the_autoencoder_gives_back_what_it_sees():
    net, group = _features.loaded(), _features.groups(NAMES[:4])[0]
    errors, spreads = [], []
    for day in HIDDEN:
        truth = observed(day)[..., :97]  # no multiple of 4
        back = (net(net.normal(truth, group)) * net.scale + net.mean)[:, :4]
        errors.append((back - truth).square().mean((0, 2, 3)))
        spreads.append(truth.var((0, 2, 3)))
    rmse, spread = torch.stack(errors).mean(0).sqrt(), torch.stack(spreads).mean(0).sqrt()
    assert rmse.shape == (4,) and (rmse < 0.02).all()
    assert (rmse < 0.6 * spread).all()


def test_perceptual_is_about_one_for_images_unlike_each_other():
    values = []
    for day in HIDDEN:
        image = normalised(observed(day))
        values.append(value("perceptual", image.flip(2, 3), sample_of(image)))
    assert 0.2 < np.mean(values) < 3


def test_perceptual_takes_blur_for_worse_than_a_shade_of_the_same_error():
    right, count = 0, 0
    for day in HIDDEN:
        whole = normalised(observed(day))
        for y, x in ((0, 0), (0, 50), (50, 0), (50, 50)):
            truth = whole[..., y : y + 48, x : x + 48]
            blurred = torch.from_numpy(gaussian_filter(truth.numpy(), (0, 0, 1.2, 1.2)))
            ramp = torch.linspace(-1, 1, 48).expand_as(truth)
            shade = ramp * ((blurred - truth).square().mean() / ramp.square().mean()).sqrt()
            sample = sample_of(truth)
            right += value("perceptual", blurred, sample) > value("perceptual", truth + shade, sample)
            count += 1
    assert right >= 0.8 * count  # the squared error tells nothing: it would be right by chance


def test_an_even_image_has_a_level_and_no_detail():
    parts = _features.loaded().parts(torch.full((1, 6, 48, 40), 0.7))
    assert [tuple(part.shape[1:]) for part in parts] == [(16, 48, 40), (32, 24, 20), (64, 12, 10), (64, 12, 10)]
    inside = (..., slice(3, -3), slice(3, -3))  # beyond the border there is nothing, which is another level
    assert max(float(part[inside].abs().max()) for part in parts[:3]) < 1e-5
    assert float(parts[3][inside].abs().mean()) > 0.1


def test_the_autoencoder_is_read_once_and_frozen(monkeypatch):
    monkeypatch.setattr(_features, "_LOADED", {})
    found = []
    threads = [threading.Thread(target=lambda: found.append(_features.loaded("cpu"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(net) for net in found}) == 1
    assert not any(parameter.requires_grad for parameter in found[0].parameters())


def test_reading_the_autoencoder_leaves_no_trace(monkeypatch):
    monkeypatch.setattr(_features, "_LOADED", {})
    state = torch.get_rng_state()
    with torch.inference_mode():  # as the first use may be
        _features.loaded()
    assert torch.equal(torch.get_rng_state(), state)
    truth = textured(1, 3, 12, 12)
    assert gradient("perceptual", truth + 0.5, sample_of(truth)).abs().sum() > 0


def test_the_bundled_file_is_the_one_described():
    notice = (FILE.parent / "NOTICE.md").read_text(encoding="utf-8")
    digest = hashlib.sha256(FILE.read_bytes()).hexdigest()
    assert re.search(rf"autoencoder\.safetensors.*?sha256 `{digest}`", notice, re.S)
    assert FILE.stat().st_size < 400_000


def test_the_autoencoder_is_no_checkpoint(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("FUSION_CHECKPOINTS", str(tmp_path))
    assert "autoencoder" not in [row.name for row in checkpoints.every()]
    assert "autoencoder" not in checkpoints.names()
