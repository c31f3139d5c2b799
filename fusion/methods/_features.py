"""Features of surface reflectance: the encoder of a small autoencoder, in which images are compared.

Its weights are the bundled file ``autoencoder.safetensors``, written by ``assets/make_autoencoder.py`` and described
in ``assets/weights/NOTICE.md``.
"""

import threading
from collections.abc import Sequence

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from .._assets import asset
from ._layers import conv, padded

SLOTS = ("blue", "green", "red", "nir", "swir1", "swir2")
WIDTHS = (16, 32, 64)
SLOPE = 0.1  # of the rectifiers below zero, so that no feature falls silent
FILE = "weights/autoencoder.safetensors"
_LOADED: dict[str, "Autoencoder"] = {}
_LOCK = threading.Lock()

Group = tuple[int, ...]  # for each slot: which band it holds, or -1


class Autoencoder(nn.Module):
    """Six slots for bands, features at 1, 1/2 and 1/4 of the size, and the way back.

    Images are ``(n, 6, y, x)``, normalised by `normal`; a slot without a band is 0.
    """

    mean: Tensor  # (6, 1, 1) reflectance
    scale: Tensor  # (6, 1, 1) reflectance

    def __init__(self) -> None:
        super().__init__()
        first, second, third = WIDTHS
        self.encoder = nn.ModuleList([conv(6, first), conv(first, second, stride=2), conv(second, third, stride=2)])
        self.decoder = nn.Sequential(
            conv(third, 4 * first), nn.PixelShuffle(2), nn.LeakyReLU(SLOPE),
            conv(first, 4 * first), nn.PixelShuffle(2), nn.LeakyReLU(SLOPE),
            conv(first, 6),
        )  # fmt: skip
        self.register_buffer("mean", torch.zeros(6, 1, 1))
        self.register_buffer("scale", torch.ones(6, 1, 1))
        for part, width in enumerate((*WIDTHS, third)):  # standard deviations of `parts` over the training images
            self.register_buffer(f"spread{part}", torch.ones(width, 1, 1))

    def normal(self, reflectance: Tensor, group: Group) -> Tensor:
        """Put the bands of ``(n, band, y, x)`` into their slots, normalised."""
        there = [slot for slot, band in enumerate(group) if band >= 0]
        bands = (reflectance[:, [group[slot] for slot in there]] - self.mean[there]) / self.scale[there]
        if len(there) == 6:
            return bands
        out = bands.new_zeros(len(bands), 6, *bands.shape[2:])
        return out.index_copy(1, torch.tensor(there, device=out.device), bands)

    def encode(self, image: Tensor) -> list[Tensor]:
        """Return the features at three sizes; the last ones are what is decoded."""
        out = []
        for layer in self.encoder:
            image = functional.leaky_relu(layer(image), SLOPE)
            out.append(image)
        return out

    def parts(self, image: Tensor) -> list[Tensor]:
        """Take the features apart, as a pyramid does: the detail at each size, and the whole at the smallest one."""
        levels = self.encode(image)
        return [*map(_detail, levels), levels[-1]]

    def features(self, image: Tensor) -> list[Tensor]:
        """Return `parts`, each feature divided by its spread, so that all count alike."""
        return [value / self.get_buffer(f"spread{part}") for part, value in enumerate(self.parts(image))]

    def forward(self, image: Tensor) -> Tensor:
        """Encode and decode."""
        height, width = image.shape[-2:]
        out: Tensor = self.decoder(self.encode(padded(image, 4))[-1])
        return out[..., :height, :width]


def _detail(image: Tensor) -> Tensor:
    """Return what a pixel has beyond the mean of 3 x 3."""
    return image - functional.avg_pool2d(image, 3, 1, 1, count_include_pad=False)


def groups(bands: Sequence[str]) -> tuple[Group, ...]:
    """Tell which band goes into which slot, in as many groups of six as it takes.

    A band with a common name has its own slot in the first group; the others take the free slots in order.
    """
    out = [[-1] * 6]
    others = []
    for index, band in enumerate(bands):
        slot = SLOTS.index(band) if band in SLOTS else None
        if slot is None or out[0][slot] >= 0:
            others.append(index)
        else:
            out[0][slot] = index
    for index in others:
        if -1 not in out[-1]:
            out.append([-1] * 6)
        out[-1][out[-1].index(-1)] = index
    return tuple(map(tuple, out))


def loaded(device: torch.device | str = "cpu") -> Autoencoder:
    """Return the bundled autoencoder on a device, frozen; it is read once and shared by all threads.

    Raises
    ------
    FileNotFoundError
        If the file is missing.
    """
    key = str(device)
    with _LOCK:
        if key not in _LOADED:
            _LOADED[key] = _load(key)
        return _LOADED[key]


def _load(device: str) -> Autoencoder:
    weights = load_file(str(asset(FILE)), device=device)
    with torch.inference_mode(False), torch.device("meta"):  # "meta": draws no random numbers, which are a training's
        net = Autoencoder()
    with torch.inference_mode(False):  # else its tensors could never take part in a training
        net.load_state_dict({key: value.clone() for key, value in weights.items()}, assign=True)
    return net.eval().requires_grad_(False)
