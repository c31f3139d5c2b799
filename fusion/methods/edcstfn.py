"""EDCSTFN: features of a fine image plus features of the change, decoded."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, cast

from torch import Tensor, nn

from . import param, register
from ._deep import Deep, Sample
from ._layers import conv, resized, stacked, start_at_zero
from ._losses import perceptual, structure

NARROW = 16  # channels of the layers that find predictors
NO_CHANGE = 0.1  # standard deviations of a band: less coarse change counts as so much


@register
@dataclass(frozen=True)
class Edcstfn(Deep):
    """Adds features of the change, seen at both resolutions, to features of the fine image.

    One encoder reads the fine image of a pair; a second one reads the pair and the coarse image of the target day
    together and finds what changed between the two days. The sum of both is decoded into an image. Training compares
    that image with the observed one in three ways: pixel by pixel, in the features of an autoencoder that was trained
    on surface reflectance, and in structure at several scales. One pair is enough; with more, each gives a prediction
    and those whose coarse image changed least count most.

    Notes
    -----
    With the encoders E and R and the decoder D::

        F_2 = base + D(E(F_1) + R(C_1, F_1, C_2))
        loss = MSE(F_2) + feature_weight MSE(A(F_2)) + structure_weight (1 - MS-SSIM(F_2))

    Departures. (1) The decoder gives the change since a base (F_1, F_1 + up(C_2 - C_1), or that with detail found by
    regression) and not the image: it starts at zero, so that an untrained network returns its base. (2) Predictions of
    several references are averaged by 1 / (change^2 + noise^2), where the paper has 1 / change, per fine pixel of the
    interpolated root mean square change of all bands: as errors grow with the change, these are weights by their
    inverse variance. (3) On request the error of a pixel is absolute and divided by the sample's mean coarse change: it
    did better where days that differ much were learnt from together with days that hardly do, and the bundled weights
    have it. (4) On request a third, small network finds features of the fine images by which the base's regression
    tells surfaces apart, beside their bands; how much each changed is found anew for each target day, so that what is
    learnt is what to look at and not one change. (5) No weight decay (the authors' program has 1e-6): the running mean
    of the weights and a hidden date keep it from learning single days by heart.
    """

    title = "EDCSTFN"
    paper = "Tan, Di, Zhang, Guo & Gao 2019, doi:10.3390/rs11242898"

    width: int = param(
        32, doc="Channels of the first layer; the next have two and four times as many.", low=4, high=128, training=True
    )
    error: Literal["squared", "relative"] = param(
        "squared",
        doc="Error of a pixel: squared, or absolute and relative to the coarse change, lest large changes rule.",
        training=True,
    )
    feature_weight: float = param(
        1.0, doc="Weight of the difference in the autoencoder's features.", unit="1", low=0, high=100, training=True
    )
    structure_weight: float = param(0.8, doc="Weight of 1 - MS-SSIM.", unit="1", low=0, high=100, training=True)

    predictors: int = param(
        0, doc="Learnt features of the fine images that tell the base's regression more.", low=0, high=16, training=True
    )

    def networks(self, bands: int, ratio: int) -> nn.ModuleDict:
        """One generator."""
        return nn.ModuleDict({"generator": Generator(bands, self.width, self.predictors)})

    def start(self, nets: nn.ModuleDict, sample: Sample, pair: int) -> Tensor:
        """What the change is added to, with the learnt predictors where the method has them."""
        return sample.start(pair, self.base, cast(Generator, nets["generator"]).predictors if self.predictors else None)

    def losses(self, nets: nn.ModuleDict, sample: Sample) -> Iterator[tuple[str, Tensor]]:
        """Yield the compound loss."""
        out = self.forward(nets, sample)
        wanted = sample.wanted(out)
        loss = (out - wanted).pow(2).mean()
        if self.error == "relative":
            change = sample.change().amin(1).mean((1, 2, 3), keepdim=True)
            loss = ((out - wanted) / (change + NO_CHANGE)).abs().mean()
        if self.feature_weight:
            loss = loss + self.feature_weight * perceptual(out, wanted, sample)
        if self.structure_weight:
            loss = loss + self.structure_weight * structure(out, wanted)
        yield "generator", loss


class Generator(nn.Module):
    """Encoder of the fine image, encoder of the change, decoder."""

    def __init__(self, bands: int, width: int, predictors: int = 0) -> None:
        super().__init__()
        if predictors:
            self.predictors = nn.Sequential(
                conv(bands, NARROW), nn.ReLU(), conv(NARROW, NARROW), nn.ReLU(), conv(NARROW, predictors, 1)
            )
        self.fine = _encoder(bands, width)
        self.change = _encoder(3 * bands, width)
        self.decoder = nn.Sequential(
            conv(4 * width, 2 * width),
            nn.ReLU(),
            conv(2 * width, width),
            nn.ReLU(),
            start_at_zero(conv(width, bands, 1)),
        )

    def forward(self, fine: Tensor, coarse: Tensor, target: Tensor) -> Tensor:
        """Predict the change of the fine image until the target day."""
        change = self.change(stacked(resized(coarse, fine), fine, resized(target, fine)))
        out: Tensor = self.decoder(self.fine(fine) + change)
        return out


def _encoder(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        conv(inputs, width),
        nn.ReLU(),
        conv(width, 2 * width),
        nn.ReLU(),
        conv(2 * width, 4 * width),
    )
