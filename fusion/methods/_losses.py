"""Parts of losses that networks share: what a prediction is compared with its truth by.

Images are ``(n, band, y, x)``, normalised. Each function gives one number, 0 where both images are the same, and is
finite, with its gradient, also for images that are constant or of one pixel. It computes in single precision also
where a network runs in half. Truth comes from :meth:`Sample.wanted`, which repeats the prediction where the truth is
not known: a pixel of the prediction that equals the truth in all bands gets no gradient from any of these, not even by
way of a window that reaches it.
"""

import torch
from torch import Tensor
from torch.nn import functional

from . import _features
from ._layers import padded
from ._sample import Sample

WINDOW, SIGMA = 11, 1.5  # pixels; of structure
SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # exponents of structure from the finest scale on
RANGE = 6.0  # of normalised images: from 3 standard deviations below the mean to 3 above
C1, C2 = (0.01 * RANGE) ** 2, (0.03 * RANGE) ** 2
LEAST = 0.2  # likeness below which structure goes on with the logarithm's tangent
DARK = 0.01  # reflectance; a shorter spectrum has hardly a direction
NARROW = 1e-3  # radians; below this the spectral angle is rounded off
FLAT = 0.05  # edge strength that counts as none, in standard deviations per pixel


def l1(pred: Tensor, truth: Tensor) -> Tensor:
    """Mean absolute difference."""
    return (pred.float() - truth.float()).abs().mean()


def mse(pred: Tensor, truth: Tensor) -> Tensor:
    """Mean squared difference."""
    return (pred.float() - truth.float()).square().mean()


def charbonnier(pred: Tensor, truth: Tensor, eps: float = 1e-3) -> Tensor:
    """Mean of ``sqrt(d^2 + eps^2) - eps``: the absolute difference, rounded off below `eps`; 0 for no difference.

    References
    ----------
    Charbonnier et al. 1994, doi:10.1109/ICIP.1994.413553.
    """
    return _rounded((pred.float() - truth.float()).square(), eps).mean()


def temporal(d12: Tensor, d23: Tensor, d13: Tensor) -> Tensor:
    """Mean absolute difference between the sum of two changes and the change over both."""
    return (d12.float() + d23.float() - d13.float()).abs().mean()


def coarse_consistency(pred: Tensor, sample: Sample) -> Tensor:
    """Mean absolute difference between the prediction's coarse pixels and those of the target.

    Notes
    -----
    In training a coarse pixel counts if all its fine pixels are known: others lie in or beside a gap, in which the
    target is filled. Absolute, because coarse pixels of another sensor hold outliers.
    """
    with torch.autocast(pred.device.type, enabled=False):
        away = (sample.down(pred.float()) - sample.target.float()).abs().mean(1, keepdim=True)
        if sample.known is None:
            return away.mean()
        whole = (sample.down(sample.known.float()) > 1 - 1e-4).float()
        return (away * whole).sum() / whole.sum().clamp(min=1)


def spectral_angle(pred: Tensor, truth: Tensor, sample: Sample) -> Tensor:
    """Mean angle between the spectra of a pixel, radians of reflectance; brightness does not matter.

    Notes
    -----
    ``2 atan2(|u - v|, |u + v|)`` of the unit spectra u and v, which unlike the arc cosine is exact for small angles,
    and rounded off below a thousandth so that its gradient is finite. Spectra shorter than 0.01 reflectance are not
    stretched to unit length: the darker, the less they count. One band has no angle, unless signs differ.

    References
    ----------
    Kruse et al. 1993, doi:10.1016/0034-4257(93)90013-N.
    """
    pred, truth = _open(pred, truth)
    u, v = (_directions(sample.reflectance(image)) for image in (pred, truth))
    across, along = (u - v).square().sum(1), (u + v).square().sum(1)
    return (2 * torch.atan2(_rounded(across, NARROW), (along + NARROW**2).sqrt())).mean()


def edges(pred: Tensor, truth: Tensor) -> Tensor:
    """Mean absolute difference, weighted by 1 + the strength of the truth's edges.

    Notes
    -----
    The strength is that of Sobel's operator, divided by its mean over the image, band by band; the weights' mean is
    1, so that the loss compares with `l1`.
    """
    pred, truth = _open(pred, truth)
    with torch.no_grad():
        strength = _sobel(truth)
        weight = 1 + strength / (strength.mean((2, 3), keepdim=True) + FLAT)
        weight = weight / weight.mean((2, 3), keepdim=True)
    return (weight * (pred - truth).abs()).mean()


def structure(pred: Tensor, truth: Tensor) -> Tensor:
    """1 - MS-SSIM, mean over images and bands: how unlike brightness, contrast and pattern are, at several scales.

    Notes
    -----
    With luminance l and contrast-structure c of Gaussian windows of 11 pixels, and means over each band::

        MS-SSIM = mean(c_1)^a_1 ... mean(c_M-1)^a_M-1 mean(l_M c_M)^a_M

    Departures. (1) As many scales M as hold a window, at most five, their exponents brought to the sum 1; a side
    shorter than a window gets the largest odd window that fits. (2) The data range is six standard deviations, and
    three are added for the luminance, which is made for positive values. (3) Where a mean is below 0.2, its logarithm
    goes on as a tangent: it may be negative, whose root is no number, and would teach nothing if it were cut off.

    References
    ----------
    Wang, Simoncelli & Bovik 2003, doi:10.1109/ACSSC.2003.1292216; C1 and C2 as Wang et al. 2004,
    doi:10.1109/TIP.2003.819861.
    """
    pred, truth = _open(pred, truth)
    shares = torch.tensor(SCALES[: _scales(pred.shape[-2:])], dtype=torch.float64)
    shares = shares / shares.sum()
    total = pred.new_zeros(pred.shape[:2])
    with torch.autocast(pred.device.type, enabled=False):
        for scale, share in enumerate(shares.tolist()):
            if scale:
                pred, truth = functional.avg_pool2d(pred, 2), functional.avg_pool2d(truth, 2)
            full, contrast = _likeness(pred, truth)
            total = total + share * _log(full if scale == len(shares) - 1 else contrast)
    loss: Tensor = 1 - total.exp().mean()
    return loss


def perceptual(pred: Tensor, truth: Tensor, sample: Sample) -> Tensor:
    """Mean squared difference in the features of the bundled autoencoder; about 1 for images unlike each other.

    Notes
    -----
    The features are those of reflectance at 1, 1/2 and 1/4 of the size, without their means of 3 x 3, and at 1/4 also
    with them. Of features as they are, most say how bright a place is, which every other loss says too, and blur would
    cost less than a shade of the same squared error. Each is divided by its standard deviation over images and all
    count alike; half the mean square, because the difference of two independent values has twice the variance of one.
    Bands are known by their names (:func:`._features.groups`).

    References
    ----------
    Johnson, Alahi & Fei-Fei 2016, doi:10.1007/978-3-319-46475-6_43; the autoencoder for surface reflectance follows
    Tan et al. 2019, doi:10.3390/rs11242898.
    """
    pred, truth = _open(pred, truth)
    net = _features.loaded(pred.device)
    total = pred.new_zeros(())
    with torch.autocast(pred.device.type, enabled=False):
        for group in _features.groups(sample.bands):
            images = [padded(net.normal(sample.reflectance(image), group), 4) for image in (pred, truth)]
            share = sum(band >= 0 for band in group) / len(sample.bands)
            with torch.no_grad():
                wanted = net.features(images[1])
            found = net.features(images[0])
            away = [(a - b).square().mean() / 2 for a, b in zip(found, wanted, strict=True)]
            total = total + share * torch.stack(away).mean()
    return total


def _open(pred: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Return both in single precision, without gradients of the truth and of pixels that are the truth."""
    pred, truth = pred.float(), truth.detach().float()
    return torch.where((pred == truth).all(1, keepdim=True), truth, pred), truth


def _rounded(square: Tensor, eps: float) -> Tensor:
    """Return ``sqrt(square + eps^2) - eps`` without cancellation: exactly 0 for 0."""
    return square / ((square + eps**2).sqrt() + eps)


def _directions(reflectance: Tensor) -> Tensor:
    length = torch.linalg.vector_norm(reflectance, dim=1, keepdim=True)
    out: Tensor = reflectance / length.clamp(min=DARK)
    return out


def _sobel(image: Tensor) -> Tensor:
    """Length of the gradient, per pixel; beyond the edge the outermost pixels are repeated."""
    wide = functional.pad(image, (1, 1, 1, 1), mode="replicate")
    down = wide[..., :-2, :] + 2 * wide[..., 1:-1, :] + wide[..., 2:, :]
    across = wide[..., :-2] + 2 * wide[..., 1:-1] + wide[..., 2:]
    return torch.hypot(down[..., 2:] - down[..., :-2], across[..., 2:, :] - across[..., :-2, :]) / 8


def _scales(size: torch.Size) -> int:
    """How many times a window fits, halving the image each time; at least once."""
    side, count = min(size) // 2, 1
    while side >= WINDOW and count < len(SCALES):
        side, count = side // 2, count + 1
    return count


def _likeness(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """SSIM, and its part without the luminance, ``(n, band)``: means over all windows."""
    bands = x.shape[1]
    centre = y.mean((2, 3), keepdim=True)  # variances of values far from 0 would be rounding
    x, y = x - centre, y - centre
    blurred = _blurred(torch.cat([x, y, x * x + y * y, x * y], 1))
    mx, my, squares, product = (blurred[:, k * bands : (k + 1) * bands] for k in range(4))
    spread, together = squares - (mx * mx + my * my), product - mx * my
    contrast = (2 * together + C2) / (spread + C2).clamp(min=C2 / 2)  # rounding of huge values must not divide by 0
    mx, my = mx + centre + RANGE / 2, my + centre + RANGE / 2
    luminance = (2 * mx * my + C1) / (mx * mx + my * my + C1)
    return (luminance * contrast).mean((2, 3)), contrast.mean((2, 3))


def _blurred(image: Tensor) -> Tensor:
    """Mean in Gaussian windows that lie wholly in the image."""
    channels, height, width = image.shape[1:]
    for size, shape in ((height, (-1, 1)), (width, (1, -1))):
        kernel = _gaussian(size, image).reshape(1, 1, *shape).repeat(channels, 1, 1, 1)
        image = functional.conv2d(image, kernel, groups=channels)
    return image


def _gaussian(size: int, like: Tensor) -> Tensor:
    reach = (min(size, WINDOW) - 1) // 2
    weight = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=like.device) / SIGMA) ** 2)
    return (weight / weight.sum()).to(like)


def _log(likeness: Tensor) -> Tensor:
    """Logarithm; below LEAST its tangent there."""
    above = likeness.clamp(min=LEAST)
    return above.log() + (likeness - above) / LEAST
