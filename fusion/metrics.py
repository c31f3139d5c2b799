"""How good is a prediction: one function per metric, a registry with their meaning, and `evaluate`.

Every metric is a pure function of two images ``(band, y, x)`` in reflectance. It returns float64 ``(band,)``, or
``(1,)`` where it judges all bands together (`Metric.per_band` is False). A pixel that is missing (not finite) in
either image is left out of that band; a metric with no pixel left is NaN. Nothing warns.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal, TypeVar

import numpy as np

from .errors import FusionError
from .scene import Scene

APA = (
    "Zhu, Zhan, Zhou et al. 2022, A novel framework to assess all-round performances of spatiotemporal fusion "
    "models, Remote Sensing of Environment 274, 113002, doi:10.1016/j.rse.2022.113002"
)
NOISE = 0.005  # reflectance; grey-level steps up to this are noise to LBP, as in the authors' program
GAUSSIAN = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)  # 11 taps, sigma 1.5 pixels; Wang et al. 2004, III.C
GAUSSIAN /= GAUSSIAN.sum()
BOX = np.full(8, 1 / 8)  # Wang & Bovik 2002, section II
ROUNDING = 1e-13  # a window's variance under this share of the largest square is rounding: the window is flat

Function = TypeVar("Function", bound=Callable[..., np.ndarray])


@dataclass(frozen=True)
class Metric:
    """What is known of one metric; made by :func:`metric`.

    Parameters
    ----------
    name, title : str
        Short name as in tables, and the name in full.
    function : callable
        ``(pred, truth) -> (band,)``.
    best : float
        Value of a perfect prediction; ``inf`` for PSNR.
    unit : str
        Unit of the value; "1" where it has none.
    paper : str
        Source with DOI.
    description : str
        What it says, in plain words.
    signed : bool
        The value may fall on either side of `best`, and the sign means something.
    per_band : bool
        One value per band; else one for all bands together.
    data_range : str
        What the value is relative to, where it is; to be published beside the value.
    """

    name: str
    title: str
    function: Callable[..., np.ndarray]
    best: float
    unit: str
    paper: str
    description: str
    signed: bool = False
    per_band: bool = True
    data_range: str = ""

    @property
    def goal(self) -> Literal["higher", "lower", "closer"]:
        """Which values are better; "closer" means closer to `best` from either side."""
        return "closer" if self.signed else "higher" if self.best > 0 else "lower"

    @property
    def needs_ratio(self) -> bool:
        """True if the function wants the keyword `ratio`."""
        return "ratio" in inspect.signature(self.function).parameters

    def distance(self, value: float) -> float:
        """Return how far `value` is from the best one: of two values the one with less distance is better."""
        return -value if np.isinf(self.best) else abs(value - self.best)


METRICS: dict[str, Metric] = {}


def metric(
    name: str,
    *,
    title: str,
    best: float,
    unit: str,
    paper: str,
    signed: bool = False,
    per_band: bool = True,
    data_range: str = "",
) -> Callable[[Function], Function]:
    """Register a function in `METRICS`; the first paragraph of its docstring is its description.

    See :class:`Metric` for the parameters.

    Raises
    ------
    ValueError
        If the name is taken.
    """

    def register(function: Function) -> Function:
        if name in METRICS:
            raise ValueError(f"Metric {name} exists already: give {function.__name__} another name.")
        description = " ".join((inspect.getdoc(function) or "").split("\n\n")[0].split())
        METRICS[name] = Metric(name, title, function, best, unit, paper, description, signed, per_band, data_range)
        return function

    return register


@metric("RMSE", title="Root mean square error", best=0.0, unit="reflectance", paper=APA)
def rmse(pred: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Typical size of a pixel's error, where large errors weigh more than small ones.

    Examples
    --------
    >>> rmse(np.array([[[0.1, 0.2]]]), np.array([[[0.1, 0.4]]])).round(4)
    array([0.1414])
    """
    pred, truth, valid = _both(pred, truth)
    error: np.ndarray = np.sqrt(_mean((pred - truth) ** 2, valid))
    return error


@metric("AD", title="Average difference (bias)", best=0.0, unit="reflectance", paper=APA, signed=True)
def average_difference(pred: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Mean of prediction minus truth: above zero the prediction is too bright on the whole, below too dark."""
    pred, truth, valid = _both(pred, truth)
    return _mean(pred - truth, valid)


@metric(
    "CC",
    title="Correlation coefficient",
    best=1.0,
    unit="1",
    paper="Pearson 1895, Note on regression and inheritance in the case of two parents, Proceedings of the Royal "
    "Society of London 58, 240-242, doi:10.1098/rspl.1895.0041",
)
def correlation(pred: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """How well bright and dark pixels are in the right places, whatever the overall brightness and contrast.

    Notes
    -----
    NaN where either band is constant: it has no bright and dark pixels to place.
    """
    pred, truth, valid = _both(pred, truth)
    x, y = pred - _mean(pred, valid)[:, None, None], truth - _mean(truth, valid)[:, None, None]
    spread = np.sqrt(_mean(x * x, valid) * _mean(y * y, valid))
    constant = (_range(pred, valid) == 0) | (_range(truth, valid) == 0)  # exact, where the spread is rounded
    spread[constant] = np.nan
    together: np.ndarray = _mean(x * y, valid) / spread
    return together.clip(-1.0, 1.0)


@metric(
    "PSNR",
    title="Peak signal-to-noise ratio",
    best=np.inf,
    unit="dB",
    paper="Huynh-Thu & Ghanbari 2008, Scope of validity of PSNR in image/video quality assessment, Electronics "
    "Letters 44(13), 800-801, doi:10.1049/el:20080522",
    data_range="1 (reflectance from 0 to 1)",
)
def psnr(pred: np.ndarray, truth: np.ndarray, *, data_range: float = 1.0) -> np.ndarray:
    """The error on a logarithmic scale against the full range of reflectance: 20 dB more is a tenth of the error.

    Notes
    -----
    ``20 log10(data_range / RMSE)``, infinite for a perfect prediction. `data_range` is in the images' unit.
    """
    error = rmse(pred, truth) / data_range
    return -20 * np.log10(error, out=np.full_like(error, -np.inf), where=error != 0)


@metric(
    "SSIM",
    title="Structural similarity",
    best=1.0,
    unit="1",
    paper="Wang, Bovik, Sheikh & Simoncelli 2004, Image quality assessment: from error visibility to structural "
    "similarity, IEEE Transactions on Image Processing 13(4), 600-612, doi:10.1109/TIP.2003.819861",
    data_range="max - min of the truth, per band",
)
def ssim(pred: np.ndarray, truth: np.ndarray, *, data_range: float | None = None) -> np.ndarray:
    """How alike the two images look in small windows: same brightness, same contrast, same pattern.

    Parameters
    ----------
    pred, truth : numpy.ndarray
        ``(band, y, x)`` reflectance.
    data_range : float, optional
        ``L`` of the paper, in the images' unit. Default is max - min of the truth in each band, so that it is the
        same for all methods compared; give a number to compare scenes. The value depends much on it: state it.

    Notes
    -----
    Gaussian window of 11 x 11 pixels, sigma 1.5, K1 = 0.01, K2 = 0.03 (eq. 13), mean over all windows that lie
    wholly in the image and hold no missing pixel; NaN if there is none. With a constant truth L is 0 and it is
    :func:`uiqi` in another window.
    """
    x, y, valid = _both(pred, truth)
    span = _range(truth, np.isfinite(truth)) if data_range is None else np.full(len(truth), data_range)
    return _similarity(x, y, valid, GAUSSIAN, (0.01 * span) ** 2, (0.03 * span) ** 2)


@metric(
    "UIQI",
    title="Universal image quality index",
    best=1.0,
    unit="1",
    paper="Wang & Bovik 2002, A universal image quality index, IEEE Signal Processing Letters 9(3), 81-84, "
    "doi:10.1109/97.995823",
)
def uiqi(pred: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """How alike brightness, contrast and pattern are in small windows; stricter than SSIM where the scene is flat.

    Notes
    -----
    Sliding 8 x 8 window as in the paper, not one global value; mean over all windows without a missing pixel. In
    a window where both images are flat only the brightness counts.
    """
    x, y, valid = _both(pred, truth)
    none = np.zeros(len(truth))
    return _similarity(x, y, valid, BOX, none, none)


@metric(
    "SAM",
    title="Spectral angle",
    best=0.0,
    unit="degrees",
    paper="Kruse et al. 1993, The spectral image processing system (SIPS), Remote Sensing of Environment 44, 145-163, "
    "doi:10.1016/0034-4257(93)90013-N",
    per_band=False,
)
def spectral_angle(pred: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """How far the colour of a pixel is off, as the angle between the two spectra; brightness does not matter.

    Notes
    -----
    One value ``(1,)``: mean over the pixels that have all bands in both images. A pixel that is zero in all bands
    has no colour and is left out. The half-angle form of arccos, exact for small angles too.
    """
    pred, truth, valid = _both(pred, truth)
    lengths = np.sqrt((pred * pred).sum(axis=0)), np.sqrt((truth * truth).sum(axis=0))
    seen = valid.all(axis=0) & (lengths[0] > 0) & (lengths[1] > 0)
    u, v = pred[:, seen] / lengths[0][seen], truth[:, seen] / lengths[1][seen]  # (band, pixel)
    across, along = ((u - v) ** 2).sum(axis=0), ((u + v) ** 2).sum(axis=0)
    angles = np.degrees(2 * np.arctan2(np.sqrt(across), np.sqrt(along)))
    return np.array([angles.mean() if angles.size else np.nan])


@metric(
    "ERGAS",
    title="Relative global error",
    best=0.0,
    unit="%",
    paper="Wald 2000, Quality of high resolution synthesised images: is there a simple criterion?, Fusion of Earth "
    "Data, Sophia Antipolis, 99-103, hal-00395027; as in Vivone et al. 2015, A critical comparison among "
    "pansharpening algorithms, IEEE TGRS 53(5), 2565-2586, doi:10.1109/TGRS.2014.2361734",
    per_band=False,
    data_range="mean of the truth, per band; fine / coarse pixel size = 1 / ratio",
)
def ergas(pred: np.ndarray, truth: np.ndarray, *, ratio: int) -> np.ndarray:
    """Error of all bands in percent of their mean brightness, divided by how many times finer the pixels became.

    Parameters
    ----------
    pred, truth : numpy.ndarray
        ``(band, y, x)`` reflectance.
    ratio : int
        Coarse / fine pixel size. The paper's h/l is fine / coarse = 1 / ratio; others put 1 or `ratio` there, so
        values compare at one convention only.

    Notes
    -----
    One value ``(1,)``. A band without a common pixel is left out.
    """
    pred, truth, valid = _both(pred, truth)
    errors, means = np.sqrt(_mean((pred - truth) ** 2, valid)), _mean(truth, valid)
    relative = np.where(errors == 0, 0.0, np.inf)  # where the mean is zero
    np.divide(errors, means, out=relative, where=means != 0)
    relative = relative[~np.isnan(errors)]
    return np.array([100 / ratio * np.sqrt((relative**2).mean()) if relative.size else np.nan])


@metric("EDGE", title="Edge sharpness", best=0.0, unit="1", paper=APA, signed=True)
def edge(pred: np.ndarray, truth: np.ndarray, *, strongest: float = 1.0) -> np.ndarray:
    """Are borders as sharp as in the truth: below zero the prediction is blurred, above zero it is too sharp or noisy.

    Parameters
    ----------
    pred, truth : numpy.ndarray
        ``(band, y, x)`` reflectance.
    strongest : float
        Share of pixels to look at, those with the strongest edges in the truth: 1 all, 0.1 as in the paper.

    Notes
    -----
    Mean of (Ex - Ey) / (Ex + Ey) of Roberts' edges, from -1 to 1; 0 where neither image has an edge. Default is
    all pixels: where the truth has its strongest edges almost any error lowers the value, and noise that a
    prediction adds to smooth ground goes unseen.
    """
    pred, truth, valid = _both(pred, truth)
    corners = valid[:, :-1, :-1] & valid[:, 1:, 1:] & valid[:, :-1, 1:] & valid[:, 1:, :-1]
    x, y = _roberts(pred), _roberts(truth)
    if strongest < 1:
        for strength, seen in zip(y, corners, strict=True):
            if seen.any():
                seen &= strength >= np.quantile(strength[seen], 1 - strongest)  # in place: a view of corners
    return _mean(_normalised_difference(x, y), corners)


@metric("LBP", title="Texture (local binary pattern)", best=0.0, unit="1", paper=APA, signed=True)
def texture(pred: np.ndarray, truth: np.ndarray, *, tolerance: float = NOISE) -> np.ndarray:
    """Is the fine pattern as rich as in the truth: below zero details are lost, above zero there are false ones.

    Parameters
    ----------
    pred, truth : numpy.ndarray
        ``(band, y, x)`` reflectance.
    tolerance : float
        Step in reflectance up to which a neighbour counts as not brighter: the noise of the images.

    Notes
    -----
    Mean of (Lx - Ly) / (Lx + Ly), from -1 to 1, of the codes 0..255 whose eight bits say which neighbours are
    brighter than the centre, clockwise from the upper left, highest bit first; 0 where both codes are 0. The
    tolerance is the one of the authors' program.
    """
    pred, truth, valid = _both(pred, truth)
    whole = np.array([_whole(seen, 3) for seen in valid])
    return _mean(_normalised_difference(_patterns(pred, tolerance), _patterns(truth, tolerance)), whole)


def evaluate(
    pred: Scene, truth: Scene, names: Sequence[str] | None = None, *, ratio: int | None = None
) -> dict[str, dict[str, float]]:
    """Compare a prediction with the truth.

    Parameters
    ----------
    pred, truth : Scene
        On one grid, with the same bands in any order.
    names : sequence of str, optional
        Keys of `METRICS`; default is all, without ERGAS if there is no `ratio`.
    ratio : int, optional
        Coarse / fine pixel size, wanted by ERGAS only.

    Returns
    -------
    dict
        ``{"RMSE": {"red": ..., "mean": ...}, "SAM": {"mean": ...}}``: per band in the order of `truth`, and the
        plain mean over the bands that have a value. A metric that judges all bands together has "mean" only.

    Raises
    ------
    FusionError
        If grids or bands differ, no pixel is valid in both, a name is unknown or ERGAS lacks `ratio`.
    """
    records = _chosen(names, ratio)
    x, y = _comparable(pred, truth)
    table = {}
    for record in records:
        values = record.function(x, y, ratio=ratio) if record.needs_ratio else record.function(x, y)
        bands = zip(truth.bands, values.tolist(), strict=True) if record.per_band else ()
        known = values[~np.isnan(values)]
        table[record.name] = {**dict(bands), "mean": float(known.mean()) if known.size else float("nan")}
    return table


def best_of(
    table: Mapping[str, Mapping[str, Mapping[str, float]]], name: str, *, band: str = "mean"
) -> tuple[str, ...]:
    """Return the methods with the best value of one metric; several if they tie, none if no one has a value.

    Parameters
    ----------
    table : mapping
        Method to the result of :func:`evaluate`.
    name : str
        Key of `METRICS`.
    band : str
        Band, or "mean".

    Examples
    --------
    >>> best_of({"a": {"AD": {"mean": 0.02}}, "b": {"AD": {"mean": -0.01}}}, "AD")
    ('b',)
    """
    values = {method: rows[name][band] for method, rows in table.items() if band in rows.get(name, {})}
    far = {method: METRICS[name].distance(value) for method, value in values.items() if not np.isnan(value)}
    return tuple(method for method, distance in far.items() if distance == min(far.values()))


def _chosen(names: Sequence[str] | None, ratio: int | None) -> list[Metric]:
    if ratio is not None and ratio < 1:
        raise FusionError(f"evaluate wants ratio (coarse / fine pixel size) from 1, got {ratio}: turn it round.")
    if names is None:
        return [record for record in METRICS.values() if ratio is not None or not record.needs_ratio]
    for name in names:
        if name not in METRICS:
            close = get_close_matches(str(name).upper(), METRICS, 1)
            hint = f"did you mean {close[0]}?" if close else "choose among these."
            raise FusionError(f"Metric {name!r} is unknown; there are {', '.join(METRICS)}: {hint}")
        if METRICS[name].needs_ratio and ratio is None:
            raise FusionError(f"{name} wants the ratio of coarse to fine pixel size, got none: pass ratio=...")
    return [METRICS[name] for name in names]


def _comparable(pred: Scene, truth: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Return both images ``(band, y, x)`` with the bands in the order of the truth, or say why they do not compare."""
    if set(pred.bands) != set(truth.bands):
        raise FusionError(
            f"The prediction has the bands {', '.join(pred.bands)}, the truth has {', '.join(truth.bands)}: "
            "compare the bands that both have (scene.select(bands) in Python, --bands in the shell)."
        )
    if pred.geobox != truth.geobox:
        raise FusionError(
            f"The prediction's grid is {_grid(pred)}, the truth's {_grid(truth)}: "
            "bring one to the other's grid with scene.to(geobox)."
        )
    x, y = pred.select(truth.bands).data, truth.data
    if not (np.isfinite(x) & np.isfinite(y)).any():
        raise FusionError(
            f"No pixel is valid in both the prediction ({pred.valid:.0%} valid) and the truth of {truth.day} "
            f"({truth.valid:.0%} valid): choose a day or an area with less cloud."
        )
    return x, y


def _grid(scene: Scene) -> str:
    height, width = scene.geobox.shape
    size, corner = abs(scene.geobox.affine.a), scene.geobox.affine[2::3]
    return f"{height} x {width} pixels of {size:g} in {scene.geobox.crs}, {corner}"


def _both(pred: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return both images as float64 with 0 where either is missing, and where neither is."""
    if pred.ndim != 3 or pred.shape != truth.shape:
        raise ValueError(
            f"A metric wants two images (band, y, x) of one shape, got {pred.shape} and {truth.shape}: "
            "cut both to the same pixels and bands."
        )
    valid = np.isfinite(pred) & np.isfinite(truth)
    return np.where(valid, pred, 0).astype(np.float64), np.where(valid, truth, 0).astype(np.float64), valid


def _mean(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Return the mean over the valid pixels ``(band,)``, NaN without any."""
    count = valid.sum(axis=(1, 2)).astype(np.float64)
    count[count == 0] = np.nan
    mean: np.ndarray = values.sum(axis=(1, 2), where=valid) / count
    return mean


def _range(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Return max - min of the valid pixels ``(band,)``, NaN without any."""
    high = values.max(axis=(1, 2), where=valid, initial=-np.inf).astype(np.float64)
    low = values.min(axis=(1, 2), where=valid, initial=np.inf).astype(np.float64)
    return np.where(high < low, np.nan, high - low)


def _similarity(
    pred: np.ndarray, truth: np.ndarray, valid: np.ndarray, kernel: np.ndarray, c1: np.ndarray, c2: np.ndarray
) -> np.ndarray:
    """Mean over the whole windows of SSIM, eq. 13 of Wang et al. 2004, per band; ``c1``, ``c2`` are ``(band,)``."""
    means = np.full(len(pred), np.nan)
    for band, whole in enumerate(_whole(seen, kernel.size) for seen in valid):
        if whole.any():
            means[band] = _index(pred[band], truth[band], kernel, c1[band], c2[band])[whole].mean()
    return means


def _index(x: np.ndarray, y: np.ndarray, kernel: np.ndarray, c1: float, c2: float) -> np.ndarray:
    """``(2 mx my + c1)(2 sxy + c2) / ((mx^2 + my^2 + c1)(sx^2 + sy^2 + c2))`` of every window, 0/0 = 1."""
    mx, my = _smooth(x, kernel), _smooth(y, kernel)
    squares = x * x + y * y
    variances = _smooth(squares, kernel) - (mx * mx + my * my)  # sx^2 + sy^2: only their sum is needed
    covariance = _smooth(x * y, kernel) - mx * my
    flat = variances < ROUNDING * squares.max()
    variances[flat] = covariance[flat] = 0
    index = _ratio(2 * mx * my + c1, mx * mx + my * my + c1)
    index *= _ratio(2 * covariance + c2, variances + c2)
    return index


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """``above / below`` with 0/0 = 1: nothing to differ in."""
    out = np.ones_like(above)
    np.divide(above, below, out=out, where=below != 0)
    return out


def _views(image: np.ndarray, size: int, axis: int) -> Iterator[np.ndarray]:
    """Give the `size` views of ``(y, x)`` that slide along one axis and stay inside."""
    length = max(image.shape[axis] - size + 1, 0)
    return (image[i : i + length] if axis == 0 else image[:, i : i + length] for i in range(size))


def _smooth(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Weighted mean of every window that lies inside: ``(y, x) -> (y - n + 1, x - n + 1)``."""
    for axis in (0, 1):
        image = sum((w * view for w, view in zip(kernel, _views(image, kernel.size, axis), strict=True)), np.zeros(1))
    return image


def _whole(valid: np.ndarray, size: int) -> np.ndarray:
    """Which windows of ``(y, x)`` lie inside and have all their pixels."""
    for axis in (0, 1):
        valid = np.logical_and.reduce(list(_views(valid, size, axis)))
    return valid


def _roberts(image: np.ndarray) -> np.ndarray:
    """Edge strength between every four pixels: ``(band, y, x) -> (band, y - 1, x - 1)``."""
    strength: np.ndarray = np.abs(image[:, 1:, 1:] - image[:, :-1, :-1])
    strength += np.abs(image[:, :-1, 1:] - image[:, 1:, :-1])
    return strength


def _patterns(image: np.ndarray, tolerance: float) -> np.ndarray:
    """Local binary patterns: ``(band, y, x) -> (band, y - 2, x - 2)``, codes 0..255."""
    _, height, width = image.shape
    centre = image[:, 1:-1, 1:-1]
    codes: np.ndarray = np.zeros(centre.shape)
    for dy, dx in ((0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0)):
        neighbour = image[:, dy : height - 2 + dy, dx : width - 2 + dx]
        codes *= 2
        codes += neighbour - centre > tolerance
    return codes


def _normalised_difference(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """``(x - y) / (x + y)`` of numbers from 0, with 0/0 = 0."""
    total: np.ndarray = x + y
    out = np.zeros_like(total)
    np.divide(x - y, total, out=out, where=total != 0)
    return out
