"""Shift: by how much a coarse image is displaced against a fine one of the same day."""

import math
from dataclasses import dataclass, replace

import numpy as np
from odc.geo.geobox import GeoBox

from ..errors import FusionError
from ..scene import Scene
from ._seen import HERE, WIDTH, Fit, Place, View, at, averaged, correlation, fit, lay, likelihood, sampled

RANGE = 2.5  # coarse pixels to either side in which the peak is sought
STEP = 0.25  # coarse pixels of the first search; the peak is about as wide as the point-spread function
CORNERS = np.array([-STEP, STEP])
WIDTHS = np.arange(0.2, 1.41, 0.1)  # coarse pixels, among which the point-spread function's is sought
INTERPOLATED = 0.72  # coarse pixels: that of MODIS images that came interpolated, 0.70 to 0.74 in two real sets
SAMPLES = 100  # to a side, to find the native pixel of such an image
MIDDLE = 400  # pixels of it to a side that are looked at, unless half of them are missing
OVERLAP = 0.5  # least share of the coarse pixels that a displacement must leave
ENOUGH = 50  # coarse pixels with values in both images; fewer say nothing
BLOCK = 3  # coarse pixels; errors farther apart count as independent
LOOSE = 0.2  # what must be seen of a pixel once the pixels are chosen, so that they stay the same while d moves
TRIM = 4.0  # robust standard deviations; beyond lie clouds and their shadows


def shift(moving: Scene, fixed: Scene, *, ratio: float | None = None) -> tuple[float, float]:
    r"""Estimate by how much a coarse image is displaced against a fine one of the same day.

    The coarse pixel at :math:`p` is modelled as :math:`C_b(p) = o_b + g_b (h_s * F_b)(p - d) + e`: the fine image seen
    through a Gaussian point-spread function of width :math:`s`, displaced by :math:`d`, with a gain and an offset per
    band. Gains, offsets and the variance of the error take their best values, so what is left to maximise over
    :math:`d` is

    .. math:: L(d) = -\tfrac{1}{2} \sum_b \ln(1 - r_b(d)^2)

    with the correlation :math:`r_b` between coarse pixels and displaced samples. It is searched in steps of a quarter
    coarse pixel over 2.5 coarse pixels to every side, then refined by scoring, in turns with :math:`s`. Coarse pixels
    that lie 4 robust standard deviations off (clouds) are then left out, once.

    Parameters
    ----------
    moving : Scene
        Coarse image, on its own grid or interpolated onto the fine one.
    fixed : Scene
        Fine image with the same bands, CRS and directions of the axes; grids need not nest.
    ratio : float, optional
        Fine pixels per coarse pixel. Default is what the grids say; where they have one pixel size, the width of the
        point-spread function tells (taken as 1.7 coarse pixels).

    Returns
    -------
    (float, float)
        ``(dx, dy)`` in units of the CRS: by how much the content of `moving` lies east (dx > 0) and north (dy > 0) of
        where `fixed` has it. On a grid without CRS up is north. :func:`fusion.area.moved`
        gives the grid on which to read it.

    Raises
    ------
    FusionError
        If bands or grids do not go together, or fewer than 50 coarse pixels have values in both.

    Notes
    -----
    The search by normalised correlation is usual for registering coarse sensors to fine ones [1]_; estimating shift,
    gain and point-spread function together by least squares is that of [2]_. Ours weighs bands by what they say: a
    band of low correlation adds little to :math:`L`. An estimate comes always; :func:`report` says what it is worth.

    References
    ----------
    .. [1] Gao, F., Masek, J., Wolfe, R. E. (2009). Automated registration and orthorectification package for Landsat
       and Landsat-like data processing. J. Appl. Remote Sens. 3, 033515. doi:10.1117/1.3104620
    .. [2] Lucas, B. D., Kanade, T. (1981). An iterative image registration technique with an application to stereo
       vision. Proc. IJCAI 81, 674-679.

    Examples
    --------
    >>> from fusion import sources
    >>> from fusion.products import LAB_GRID
    >>> lab = sources.get("lab")
    >>> fine, coarse = lab.search("lab-fine")[4], lab.search("lab-coarse", options=lab.Options(shift_east=240))[17]
    >>> scenes = (lab.read(coarse, LAB_GRID.zoom_out(16), ("nir",)), lab.read(fine, LAB_GRID, ("nir",)))
    >>> [round(metres / 24) * 24 for metres in shift(*scenes)]
    [240, 0]
    """
    view = view_of(moving, fixed, ratio)
    if view.count < ENOUGH:
        raise FusionError(
            f"A shift wants at least {ENOUGH} coarse pixels with values in both images, without the margins, got "
            f"{view.count:.0f} on {moving.day}: take a larger or clearer area."
        )
    return in_crs(peak_of(view).place, view, fixed.geobox)


def in_crs(place: Place, view: View, geobox: GeoBox) -> tuple[float, float]:
    """Coarse pixels (down, right) as ``(dx, dy)`` in units of the CRS."""
    a, e = geobox.affine.a, geobox.affine.e
    if geobox.crs is None:
        a, e = abs(a), -abs(e)
    return place[1] * view.ratio * a, place[0] * view.ratio * e


def agreement(coarse: Scene, fine: Scene) -> float:
    """Correlation of a coarse image with the fine one seen as blurred as it, where their grids put them.

    For a choice between two placements of one image, such as a file's own georeference and that of its partner: the
    one with the higher number is the likelier.

    Parameters
    ----------
    coarse, fine : Scene
        As for :func:`shift`.

    Returns
    -------
    float
        Mean over bands, -1 to 1, at the width of the point-spread function that makes it largest; NaN where fewer
        than 50 samples have values in both.

    Raises
    ------
    FusionError
        If bands or grids do not go together.

    Examples
    --------
    >>> from datetime import date
    >>> from fusion.scene import identity_geobox
    >>> data = np.random.default_rng(0).random((1, 80, 96), np.float32)
    >>> fine = Scene(data, identity_geobox(80, 96), ("red",), date(2020, 5, 1))
    >>> coarse = Scene(data.reshape(1, 10, 8, 12, 8).mean((2, 4)), fine.geobox.zoom_out(8), ("red",), fine.day)
    >>> wrong = Scene(coarse.data, coarse.geobox.translate_pix(2, 0), ("red",), fine.day)
    >>> agreement(coarse, fine) > 0.8 > 0.3 > agreement(wrong, fine)
    True
    """
    view, found = view_of(coarse, fine), []
    for width in WIDTHS:
        seen = at(view, HERE, width)
        here = np.isfinite(view.coarse) & np.isfinite(seen)
        if here[0].sum() >= ENOUGH:
            found.append(correlation(np.where(here, view.coarse, 0), np.where(here, seen, 0), here).mean())
    return float(max(found, default=math.nan))


def surface(moving: Scene, fixed: Scene, *, ratio: float | None = None) -> tuple[np.ndarray, float] | None:
    """Correlation at every displacement of the search, joined over bands: the peak that :func:`shift` climbs.

    Parameters
    ----------
    moving, fixed, ratio
        As of :func:`shift`.

    Returns
    -------
    (numpy.ndarray, float) or None
        ``(north, east)`` from south to north and west to east, the middle being no displacement, and the step in
        coarse pixels; NaN where too little overlaps. None where fewer than 50 coarse pixels have values in both.

    Raises
    ------
    FusionError
        If bands or grids do not go together.
    """
    view = view_of(moving, fixed, ratio)
    if view.count < ENOUGH:
        return None
    likelihoods = scan(view)[1]
    known = np.where(np.isfinite(likelihoods), likelihoods, np.nan) / len(view.coarse)
    # L = -1/2 sum ln(1 - r^2): the r that every band would have for this L
    joined = np.sign(known) * np.sqrt(1 - np.exp(-2 * np.abs(known)))
    upwards = fixed.geobox.crs is not None and fixed.geobox.affine.e > 0
    return (joined if upwards else joined[::-1]), STEP


def view_of(moving: Scene, fixed: Scene, ratio: float | None = None) -> View:
    """Lay a coarse image over a fine one, at no more samples and pixels than tell anything."""
    view = lay(moving, fixed)
    ratio = ratio or native(view)
    return averaged(sampled(view, max(1, round(ratio / view.ratio / 2)), ratio))


def native_of(moving: Scene, fixed: Scene) -> float:
    """Fine pixels per coarse pixel, whatever the grids say; NaN where too few pixels have values."""
    view = lay(moving, fixed)
    return view.ratio if view.ratio >= 2 else native(view) if view.samples >= ENOUGH else math.nan


def native(view: View) -> float:
    """Fine pixels per coarse pixel; of an image interpolated onto the fine grid from how blurred it is."""
    if view.ratio >= 2 or view.samples < ENOUGH:
        return max(view.ratio, 2.0)
    size = view.coarse.shape[1:]
    middle = [slice(max(0, (length - MIDDLE) // 2), (length + MIDDLE) // 2) for length in size]
    part = replace(view, coarse=view.coarse[:, *middle], rows=view.rows[middle[0]], columns=view.columns[middle[1]])
    view = part if 2 * np.isfinite(part.coarse[0]).sum() > part.coarse[0].size else view
    every = math.ceil(max(view.coarse.shape[1:]) / SAMPLES)
    tried = [ratio for ratio in 2.0 * 2 ** (np.arange(12) / 2) if ratio <= min(size) / 6] or [2.0]
    views = [averaged(sampled(view, every, ratio)) for ratio in tried]
    found = [scan(each, 2 * STEP) for each in views]
    best = int(np.argmax([value for *_, value in found]))
    return float(max(2.0, tried[best] * width_of(views[best], found[best][0]) / INTERPOLATED))


def scan(view: View, step: float = STEP, width: float = WIDTH) -> tuple[Place, np.ndarray, float]:
    """Search the whole range: the best place, ``(down, right)`` L of every place, and the best L."""
    away = np.arange(-round(RANGE / step), round(RANGE / step) + 1) * step
    least = OVERLAP * view.samples
    surface = np.array(
        [likelihood(view.coarse, view.seen(np.array([down]), away, width)[:, 0], least) for down in away]
    )
    i, j = np.unravel_index(surface.argmax(), surface.shape)
    return (float(away[i]), float(away[j])), surface, float(surface[i, j])


@dataclass(frozen=True, eq=False)
class Peak:
    """Where the fine image says most about the coarse one."""

    place: Place
    view: View  # without the pixels that lie far off
    covariance: np.ndarray  # (2, 2) of the place, in squared coarse pixels
    width: float  # standard deviation of the point-spread function in coarse pixels
    border: bool  # at the edge of the search
    versus_zero: float  # how much better than no displacement, in standard errors
    versus_rival: float  # ... than the best place that is more than a coarse pixel away


def peak_of(view: View) -> Peak:
    """Search, refine, trim and refine again."""
    first, surface, _ = scan(view)
    around = view.seen(first[0] + CORNERS, first[1] + CORNERS, WIDTH)
    stay = np.isfinite(around).all((0, 1, 2))
    whole = view
    if (stay & np.isfinite(view.coarse[0])).sum() >= ENOUGH:
        view = replace(view, coarse=np.where(stay, view.coarse, np.nan))
    place, width = refine(view, first, WIDTH)
    off = far_off(view, place, width)
    view, whole = (replace(each, coarse=np.where(off, np.nan, each.coarse)) for each in (view, whole))
    place, width = refine(view, place, width)
    border = max(map(abs, (*first, *place))) > RANGE - STEP / 2
    away = (np.arange(len(surface)) - len(surface) // 2) * STEP
    far = np.hypot(*np.meshgrid(away - place[0], away - place[1], indexing="ij")) > 1
    i, j = np.unravel_index(np.where(far, surface, -np.inf).argmax(), surface.shape)
    versus = [better(whole, place, other, width) for other in (HERE, (float(away[i]), float(away[j])))]
    return Peak(place, view, spread_of(view, place, width), width, border, *versus)


def far_off(view: View, place: Place, width: float) -> np.ndarray:
    """``(v, u)`` bool: coarse pixels that lie so far off the model that they are clouds or the like."""
    error = np.abs(fit(view.coarse, at(view, place, width, LOOSE)).error)
    return np.asarray((error > TRIM * 1.4826 * np.nanmedian(error, axis=(1, 2), keepdims=True)).any(axis=0))


def refine(view: View, place: Place, width: float) -> tuple[Place, float]:
    """Width and place in turns, until the place stays."""
    for _ in range(6):
        before = place
        width = width_of(view, place)
        place = scored(view, place, width)
        if math.dist(before, place) < 0.005:
            break
    return place, width


def width_of(view: View, place: Place) -> float:
    """Standard deviation of the point-spread function in coarse pixels: the best of a list, and a parabola."""
    values = np.array([likelihood(view.coarse, at(view, place, w, LOOSE)[:, None])[0] for w in WIDTHS])
    i = int(values.argmax())
    if not 0 < i < len(WIDTHS) - 1 or not np.isfinite(values[i - 1 : i + 2]).all():
        return float(WIDTHS[i])
    return float(WIDTHS[i] + vertex(values[i - 1 : i + 2]) * (WIDTHS[1] - WIDTHS[0]))


def vertex(values: np.ndarray) -> float:
    """Place of a parabola's top through three values at -1, 0 and 1."""
    bend = values[0] - 2 * values[1] + values[2]
    return float((values[0] - values[2]) / (2 * bend)) if bend else 0.0


def scored(view: View, place: Place, width: float) -> Place:
    """Fisher scoring from `place`; no farther than a coarse pixel and within the range."""
    best, value = place, likelihood(view.coarse, at(view, place, width, LOOSE)[:, None])[0]
    for _ in range(8):
        model = fit(view.coarse, at(view, best, width, LOOSE))
        slope = slopes(view, best, width, model)
        here = np.isfinite(slope).all(axis=(0, 1))
        g, e = slope[:, :, here].reshape(2, -1), model.error[:, here].ravel()
        move = np.linalg.lstsq(g @ g.T, g @ e, rcond=None)[0]
        move *= min(1.0, 0.3 / max(float(np.abs(move).max()), 1e-12))
        while True:
            new = (float(np.clip(best[0] + move[0], -RANGE, RANGE)), float(np.clip(best[1] + move[1], -RANGE, RANGE)))
            now = likelihood(view.coarse, at(view, new, width, LOOSE)[:, None])[0]
            if now > value or np.abs(move).max() < 1e-3:
                break
            move /= 2
        if now <= value:
            break
        best, value = new, now
        if np.abs(move).max() < 1e-3:
            break
    return best


def slopes(view: View, place: Place, width: float, model: Fit) -> np.ndarray:
    """``(2, band, v, u)``: change of the model with the place, in standard deviations, clear of gain and offset."""
    small = 0.05
    steps = np.array([-small, small])
    vertical = np.diff(view.seen(place[0] + steps, np.array(place[1:]), width, LOOSE)[:, :, 0], axis=1)[:, 0]
    across = np.diff(view.seen(np.array(place[:1]), place[1] + steps, width, LOOSE)[:, 0], axis=1)[:, 0]
    raw = np.stack([vertical, across]) / (2 * small)
    seen = at(view, place, width, LOOSE)
    here = np.isfinite(model.error[0]) & np.isfinite(raw).all(axis=(0, 1))
    out = np.full(raw.shape, np.nan)
    for b in range(len(seen)):
        sd = np.nanstd(view.coarse[b][here] - model.gain[b] * seen[b][here])
        known = np.stack([np.ones(here.sum()), seen[b][here]])
        for axis in range(2):
            slope = raw[axis, b][here]
            slope = slope - known.T @ np.linalg.lstsq(known.T, slope, rcond=None)[0]
            out[axis, b][here] = model.gain[b] * slope / max(sd, 1e-9)
    return out


def spread_of(view: View, place: Place, width: float) -> np.ndarray:
    """Covariance of the place: information in a sandwich around the scores' sums over blocks of 3 x 3 coarse pixels."""
    model = fit(view.coarse, at(view, place, width, LOOSE))
    slope = slopes(view, place, width, model)
    here = np.isfinite(slope).all(axis=(0, 1))
    g = slope[:, :, here].reshape(2, -1)
    if np.linalg.eigvalsh(g @ g.T)[0] < 1e-9:  # nothing to see along some direction
        return np.full((2, 2), np.inf)
    bread = np.linalg.inv(g @ g.T)
    score = np.where(here, (slope * model.error).sum(axis=1), 0.0)
    return np.asarray(bread @ scatter(score, view.step) @ bread)


def scatter(values: np.ndarray, step: float) -> np.ndarray:
    """Covariance of the sums of images ``(k, v, u)`` whose neighbours depend on each other: Conley's estimate."""
    side = max(1, round(BLOCK / step))
    padded = np.pad(values, ((0, 0), (side, side), (side, side)))
    sums = padded.cumsum(1).cumsum(2)
    box = sums[:, side:, side:] - sums[:, :-side, side:] - sums[:, side:, :-side] + sums[:, :-side, :-side]
    flat = box.reshape(len(values), -1)
    return np.asarray(flat @ flat.T / side**2)


def better(view: View, place: Place, other: Place, width: float) -> float:
    """By how many standard errors the log-likelihood at `place` is above that at another place, on the same pixels."""
    one, two = at(view, place, width), at(view, other, width)
    both = np.isfinite(one) & np.isfinite(two) & np.isfinite(view.coarse)
    if both[0].sum() < 4:
        return 0.0
    coarse = np.where(both, view.coarse, np.nan)
    gap = fit(coarse, one).terms - fit(coarse, two).terms
    middle = np.nanmean(gap)
    sd = math.sqrt(scatter(np.where(both[0], gap - middle, 0.0)[None], view.step)[0, 0])
    return float(np.nansum(gap) / sd) if sd > 0 else 0.0
