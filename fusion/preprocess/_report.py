"""Report: how coarse and fine images of the same days lie, and whether that should be corrected."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from odc.geo.geobox import GeoBox

from .. import _pulse
from ..errors import FusionError
from ..stack import Pair
from ._seen import HERE, Fit, View, at, fit
from ._shift import ENOUGH, RANGE, Peak, in_crs, native_of, peak_of, view_of

TOLERANCE = 0.2  # coarse pixels; see the notes of report
AGREE = 0.25  # coarse pixels that a date may lie from the shift common to all
SURE = 3.0  # standard errors
EXACT = 0.1  # coarse pixels; standard error of either direction
FULL = 2 * math.sqrt(2 * math.log(2))  # full width at half maximum of a Gaussian in standard deviations
NOTHING = "nothing is corrected"
METRES = {"metre", "meter", "metres", "meters", "m"}


@dataclass(frozen=True)
class Card:
    """How the coarse image of one day lies on the fine one.

    Parameters
    ----------
    day : datetime.date
        Day of the pair.
    dx, dy : float
        By how much the coarse image lies east and north of the fine one, in units of the CRS; NaN where too few pixels
        have values.
    dx_error, dy_error : float
        Their standard errors, with neighbouring errors taken as dependent.
    r, r_zero : float
        Correlation there and without displacement, on the same pixels; means over bands.
    sharpness : float
        By how much the correlation falls within one coarse pixel of the peak; mean over four directions and bands.
    over_zero, over_rival : float
        By how many standard errors the place fits better than no displacement, and than the best place farther away
        than a coarse pixel.
    psf, psf_width : float
        Full width at half maximum of the effective point-spread function, in coarse pixels and in units of the CRS.
    bands : tuple of str
        Bands with values; the next three are per band.
    gain, offset : tuple of float
        ``coarse = gain * seen + offset`` after alignment.
    correlation : tuple of float
        After alignment.
    used : float
        Share of the coarse pixels that were compared, 0..1.
    count : float
        Coarse pixels with values in both images; where they are too few, those at the margins count too.
    doubt : str
        Why the card says nothing; empty where it is sharp.
    """

    day: date
    dx: float = math.nan
    dy: float = math.nan
    dx_error: float = math.inf
    dy_error: float = math.inf
    r: float = math.nan
    r_zero: float = math.nan
    sharpness: float = math.nan
    over_zero: float = math.nan
    over_rival: float = math.nan
    psf: float = math.nan
    psf_width: float = math.nan
    bands: tuple[str, ...] = ()
    gain: tuple[float, ...] = ()
    offset: tuple[float, ...] = ()
    correlation: tuple[float, ...] = ()
    used: float = 0.0
    count: float = 0.0
    doubt: str = ""

    @property
    def sharp(self) -> bool:
        """Whether the peak is clear enough to count."""
        return not self.doubt


@dataclass(frozen=True)
class Report:
    """Cards of all dates, the shift to correct and the verdict in words.

    Parameters
    ----------
    cards : tuple of Card
        In time order.
    dx, dy : float
        Shift to correct, common to all dates, in units of the CRS; (0, 0) where nothing is to be corrected.
    verdict : str
        In plain words.
    pixel : float
        Size of a coarse pixel in units of the CRS.
    unit : str
        What these units are: "m", "degrees" or "pixels" of the fine image.
    """

    cards: tuple[Card, ...]
    dx: float
    dy: float
    verdict: str
    pixel: float
    unit: str

    @property
    def shift(self) -> tuple[float, float]:
        """``(dx, dy)`` to correct."""
        return self.dx, self.dy

    @property
    def corrected(self) -> bool:
        """Whether there is anything to correct."""
        return self.shift != (0.0, 0.0)


def report(pairs: Sequence[Pair], *, ratio: float | None = None) -> Report:
    """Say by how much the coarse images of all dates are displaced, and whether to correct it.

    Each date is estimated by itself as in :func:`shift`. Its standard errors are those of a wrong model with dependent
    errors: the information in a sandwich around the scores, summed over blocks of 3 x 3 coarse pixels [1]_. Two places
    are compared by their pixels' log-likelihoods, over the standard error of the sum, in the same blocks [2]_.

    A date counts as sharp if at least 50 coarse pixels have values in both images, both standard errors are at most
    0.1 coarse pixel, the peak is inside the search and it fits better, by 3 standard errors, than any place more than
    a coarse pixel away. A shift is accepted if at least half of the dates are sharp, each sharp one lies within a
    quarter coarse pixel of their mean and fits better there than without displacement by 3 standard errors, and the
    mean is longer than 0.2 coarse pixels.

    Parameters
    ----------
    pairs : sequence of Pair
        Coarse images on their own grid or interpolated onto the fine one.
    ratio : float, optional
        Fine pixels per coarse pixel; as for :func:`shift`.

    Returns
    -------
    Report
        Cards in time order, verdict and the shift to correct.

    Raises
    ------
    FusionError
        If there is no pair or the images of one do not go together.

    Notes
    -----
    At a displacement of 0.2 coarse pixels, the tolerance, STARFM's images of the landscape lab are 1 % worse than
    without any, at 0.5 they are 6 % worse; planted displacements are found to 0.06 coarse pixel at usual noise on
    20 x 20 coarse pixels or more (``benchmarks.alignment``). To correct less would change what nobody sees.
    Where the standard errors are small they are too small, by up to 1.8 times, because a Gaussian is not the sensor;
    the tolerance, not the errors, decides then.

    Images of one day are compared, but not of one hour: the sun's and the sensor's angle move shadows, and a slope seen
    askew is displaced on one date and not on another. A shift that is not common to all dates is not corrected.

    References
    ----------
    .. [1] Conley, T. G. (1999). GMM estimation with cross sectional dependence. J. Econometrics 92, 1-45.
       doi:10.1016/S0304-4076(98)00084-0
    .. [2] Vuong, Q. H. (1989). Likelihood ratio tests for model selection and non-nested hypotheses. Econometrica 57,
       307-333. doi:10.2307/1912557

    Examples
    --------
    >>> from fusion import sources
    >>> from fusion.products import LAB_GRID
    >>> lab = sources.get("lab")
    >>> fine, coarse = lab.search("lab-fine")[4], lab.search("lab-coarse", options=lab.Options(shift_east=-480))[17]
    >>> pair = Pair(lab.read(coarse, LAB_GRID.zoom_out(16), ("nir",)), lab.read(fine, LAB_GRID, ("nir",)))
    >>> found = report([pair])
    >>> found.verdict[:59]
    'The coarse image lies 480 m west of the fine one on 2021-05'
    """
    if not pairs:
        raise FusionError("A report on alignment wants at least one pair, got none: choose a day with both images.")
    pairs = sorted(pairs, key=lambda pair: pair.day)
    grid = pairs[0].fine.geobox
    sizes = [ratio or native_of(pair.coarse, pair.fine) for pair in pairs]
    size = float(np.median([each for each in sizes if math.isfinite(each)] or [2.0]))
    cards = tuple(_card(pair, size) for pair in pairs)
    pixel = size * abs(grid.affine.a)
    dx, dy, verdict = _decide(cards, pixel, _unit(grid))
    return Report(cards, dx, dy, verdict, pixel, _unit(grid))


def _card(pair: Pair, ratio: float) -> Card:
    _pulse.stop_if_asked()
    view = view_of(pair.coarse, pair.fine, ratio)
    total = view.coarse[0].size * view.step**2
    if view.count < ENOUGH:
        return Card(pair.day, count=view.there, used=view.count / total, doubt=_few(view))
    peak = peak_of(view)
    model, zero, sharpness = _around(peak)
    pixel, (dx, dy) = ratio * abs(pair.fine.geobox.affine.a), in_crs(peak.place, view, pair.fine.geobox)
    errors = np.sqrt(np.diag(peak.covariance))
    return Card(
        day=pair.day,
        dx=dx,
        dy=dy,
        dx_error=float(errors[1]) * pixel,
        dy_error=float(errors[0]) * pixel,
        r=float(model.r.mean()),
        r_zero=float(zero.r.mean()),
        sharpness=sharpness,
        over_zero=peak.versus_zero,
        over_rival=peak.versus_rival,
        psf=peak.width * FULL,
        psf_width=peak.width * FULL * pixel,
        bands=view.bands,
        gain=tuple(model.gain.tolist()),
        offset=tuple((model.offset - model.gain * view.middle).tolist()),
        correlation=tuple(model.r.tolist()),
        used=float(np.isfinite(model.terms).sum() * view.step**2 / total),
        count=view.count,
        doubt=_doubt(peak, errors),
    )


def _few(view: View) -> str:
    """Why too few coarse pixels are left: the area is small, values are missing, or margins take the rest."""
    if view.whole < ENOUGH:
        number = _pixels(view.whole)
        return f"the area has only {number}, {ENOUGH} are wanted: draw a larger one"
    if view.there < ENOUGH:
        have = "has" if round(view.there) == 1 else "have"
        return f"{_pixels(view.there)} {have} values in both images, {ENOUGH} are wanted"
    return (
        f"of {_pixels(view.there)} {view.count:.0f} are left without the margins, {ENOUGH} are wanted: "
        "draw a larger area"
    )


def _pixels(count: float) -> str:
    return f"{count:.0f} coarse pixel{'' if round(count) == 1 else 's'}"


def _around(peak: Peak) -> tuple[Fit, Fit, float]:
    """The model at the peak and without displacement, on the same pixels, and the fall of the correlation around."""
    view, (down, right) = peak.view, peak.place
    places = [(down, right), HERE, *((down + y, right + x) for y, x in ((-1, 0), (1, 0), (0, -1), (0, 1)))]
    seen = [at(view, place, peak.width) for place in places]
    both = np.isfinite(view.coarse) & np.isfinite(seen[0]) & np.isfinite(seen[1])
    model, zero = (fit(np.where(both, view.coarse, np.nan), each) for each in seen[:2])
    beside = [float(fit(view.coarse, each).r.mean()) for each in seen[2:]]
    return model, zero, float(model.r.mean()) - sum(beside) / len(beside)


def _doubt(peak: Peak, errors: np.ndarray) -> str:
    if peak.border:
        return f"the best place lies at the edge of the search, {RANGE:g} coarse pixels away"
    if not errors.max() <= EXACT:
        return f"the place is known to {errors.max():.2f} coarse pixels only, {EXACT:g} is wanted"
    if peak.versus_rival < SURE:
        return f"another place fits nearly as well ({peak.versus_rival:.1f} standard errors less)"
    return ""


def _decide(cards: Sequence[Card], pixel: float, unit: str) -> tuple[float, float, str]:
    """``(dx, dy)`` to correct, and why."""
    sharp = [card for card in cards if card.sharp]
    if not sharp or 2 * len(sharp) < len(cards):
        return 0.0, 0.0, f"Not enough evidence on {_dates(cards, sharp=False)}: {NOTHING}."
    dx, dy = (float(np.mean([getattr(card, name) for card in sharp])) for name in ("dx", "dy"))
    where = _words(dx, dy, pixel, unit)
    away = [math.hypot(card.dx - dx, card.dy - dy) / pixel for card in sharp]
    if max(away) > AGREE:
        each = "; ".join(f"{card.day}: {_words(card.dx, card.dy, pixel, unit)}" for card in sharp)
        odd = sharp[int(np.argmax(away))].day
        return 0.0, 0.0, f"The dates disagree ({each}): {NOTHING}. Look at {odd}, which lies farthest from the others."
    off = math.hypot(dx, dy) / pixel
    if off <= TOLERANCE:
        least = min(card.over_zero for card in sharp)
        small = f"A shift of {off:.2f} coarse pixels ({where}) is below the tolerance of {TOLERANCE:g}"
        none = "No shift beyond what noise explains"
        return 0.0, 0.0, f"{small if least >= SURE else none}: {NOTHING}."
    unsure = [card for card in sharp if card.over_zero < SURE]
    if unsure:
        weak = "; ".join(f"{card.day}: {card.over_zero:.1f}" for card in unsure)
        why = f"fits less than {SURE:g} standard errors better than none ({weak})"
        return 0.0, 0.0, f"A shift of {where} {why}: {NOTHING}."
    return dx, dy, _accepted(cards, sharp, where)


def _accepted(cards: Sequence[Card], sharp: Sequence[Card], where: str) -> str:
    before, after = (float(np.mean([getattr(card, name) for card in sharp])) for name in ("r_zero", "r"))
    if len(cards) == 1:
        lie, ones, them = "image lies", "one", "it"
    else:
        lie, ones, them = "images lie", "ones", "them"
    return (
        f"The coarse {lie} {where} of the fine {ones} on {_dates(cards, sharp=True)}; reading {them} there raises the "
        f"correlation from {before:.2f} to {after:.2f}."
    )


def _dates(cards: Sequence[Card], *, sharp: bool) -> str:
    """On which dates the cards are sharp, or not, and why not; a reason common to all is said once."""
    some, doubtful = ([card for card in cards if card.sharp is kind] for kind in (sharp, False))
    if len(cards) == 1:
        said = f"{cards[0].day}, the only date"
    elif len(some) == len(cards):
        said = "both dates" if len(cards) == 2 else f"all {len(cards)} dates"
    else:
        said = f"{len(some)} of {len(cards)} dates"
    if not doubtful:
        return said
    reasons = {card.doubt for card in doubtful}
    if len(doubtful) == len(cards) and len(reasons) == 1:
        return f"{said} ({reasons.pop()})"
    return f"{said} ({'; '.join(f'{card.day}: {card.doubt}' for card in doubtful)})"


def _words(dx: float, dy: float, pixel: float, unit: str) -> str:
    """Such as "480 m west and 30 m north"; a direction of less than a fiftieth of a coarse pixel is left out."""
    parts = [(dx, "east", "west"), (dy, "north", "south")]
    said = [
        f"{_number(abs(value), unit)} {plus if value > 0 else minus}"
        for value, plus, minus in parts
        if abs(value) >= 0.02 * pixel
    ]
    return " and ".join(said) or "nowhere"


def _number(value: float, unit: str) -> str:
    digits = {"m": 0, "degrees": 5}.get(unit, 1)
    return f"{value:.{digits}f} {unit}"


def _unit(geobox: GeoBox) -> str:
    if geobox.crs is None:
        return "pixels" if abs(geobox.affine.a) == 1 else "units"
    return "degrees" if geobox.crs.geographic else "m" if geobox.crs.units[0] in METRES else "units"
