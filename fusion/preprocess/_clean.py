"""Clean: digital numbers become reflectance, whatever is no clear ground becomes NaN; mistaken units are named."""

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from .._product import Product, Rule

_BRIGHT = 1.6  # reflectance; sunlit snow and glint stay below, digital numbers do not
_DARK = 0.002  # reflectance; the brighter half of any sunlit ground lies above, though water in the infrared does not
_ENOUGH = 100  # values; fewer may all lie in shadow or glint
_SAMPLE = 100_000  # values that are looked at; a median needs no more


def clean(
    raw: np.ndarray,
    qa: np.ndarray | Mapping[str, np.ndarray],
    product: Product,
    *,
    bands: Sequence[str] | None = None,
    keep: Collection[str] = (),
) -> np.ndarray:
    """Turn a collection's digital numbers into reflectance, with NaN where its rules say that no ground is seen.

    Parameters
    ----------
    raw : numpy.ndarray
        ``(band, y, x)`` digital numbers, in the order of `bands`.
    qa : mapping of str to numpy.ndarray, or numpy.ndarray
        Quality bands ``(y, x)`` by their own names; a bare array where the product has one quality band only.
    product : Product
        Scale, offset, valid range and rules.
    bands : sequence of str, optional
        Common names of the bands in `raw`; default is all of the product's.
    keep : collection of str
        Kinds of rules that are left out, such as ``("snow",)``.

    Returns
    -------
    numpy.ndarray
        ``(band, y, x)`` float32 reflectance, NaN = missing.

    Raises
    ------
    ValueError
        If the numbers of bands disagree or a quality band is missing or has another shape.

    Examples
    --------
    >>> from fusion import PRODUCTS
    >>> row = PRODUCTS["earthengine", "landsat"]
    >>> qa = {"QA_PIXEL": np.array([[64, 8]]), "QA_RADSAT": np.zeros((1, 2), int)}  # clear, cloud
    >>> clean(np.full((6, 1, 2), 10_000), qa, row)[0].round(3).tolist()
    [[0.075, nan]]
    """
    names = product.bands if bands is None else tuple(bands)
    if raw.ndim != 3 or len(raw) != len(names):
        raise ValueError(f"clean wants (band, y, x) of {len(names)} bands {names}, got {raw.shape}: name the bands.")
    quality = _by_name(qa, product, names)
    scale, offset = (_column(value, product, names) for value in (product.scale, product.offset))
    out: np.ndarray = (raw * scale + offset).astype(np.float32)
    out[_no_number(raw, product)] = np.nan
    for rule in product.rules:
        if rule.what in keep:
            continue
        judged = [(rule.quality(native), index) for index, native in enumerate(product.named(names))]
        for name, index in judged if rule.per_band else judged[:1]:
            missing = broken(rule, _found(quality, name, raw.shape[1:]))
            out[index if rule.per_band else slice(None), missing] = np.nan
    return out


def broken(rule: Rule, quality: np.ndarray) -> np.ndarray:
    """Return where a rule says that the pixel is missing, bool; a quality band without a number says so too."""
    known = np.isfinite(quality)
    bits = (np.where(known, quality, 0).astype(np.int64) >> rule.first) & ((1 << rule.width) - 1)
    listed = np.isin(bits, rule.good or rule.bad)
    out: np.ndarray = (listed != bool(rule.good)) | ~known
    return out


def unit_mistake(reflectance: np.ndarray, *, known: bool = False) -> str | None:
    """Say in words that an image cannot be reflectance on the scale of 0 to 1, or None where it can.

    Parameters
    ----------
    reflectance : numpy.ndarray
        Any shape, NaN = missing; of a large one about 100,000 values are looked at. Too dark is said of 100 values or
        more. An index such as NDVI is no reflectance and is not to be asked about.
    known : bool
        Whether the image is of a collection whose scale is known: then it may be dark, as water is in the infrared,
        and too bright is said of 100 values or more.

    Examples
    --------
    >>> unit_mistake(np.array([812.0, 2400.0]))
    'its middle value is 1606, which would be 160600 % of the light: these look like numbers of 10,000 for 1'
    >>> unit_mistake(np.array([0.08, 0.24])) is None
    True
    """
    values = _sample(reflectance)
    enough = values.size >= _ENOUGH
    if not values.size or (known and not enough):
        return None
    middle, high = float(np.median(values)), float(np.percentile(values, 95))
    if middle > _BRIGHT:
        guess = "percent" if high <= 160 and middle > 2 else "numbers of 10,000 for 1"
        share = f"which would be {100 * middle:.0f} % of the light"
        return f"its middle value is {middle:.4g}, {share}: these look like {guess}"
    if enough and not known and 0 < high < _DARK:
        return (
            f"95 % of its values are below {high:.2g}, darker than any sunlit ground: "
            "this looks like reflectance that was scaled twice"
        )
    return None


def _sample(numbers: np.ndarray) -> np.ndarray:
    """Finite numbers, of many about ``_SAMPLE`` from all over the image; all there are where that finds too few."""
    step = max(1, -(-numbers.size // _SAMPLE))
    while math.gcd(step, numbers.size) > 1:  # else some rows or columns would never be looked at
        step += 1
    some: np.ndarray = np.asarray(numbers.flat[::step])
    some = some[np.isfinite(some)]
    return some if step == 1 or some.size >= _ENOUGH else numbers[np.isfinite(numbers)]


def _by_name(
    qa: np.ndarray | Mapping[str, np.ndarray], product: Product, names: tuple[str, ...]
) -> dict[str, np.ndarray]:
    if isinstance(qa, Mapping):
        return dict(qa)
    wanted = product.quality(names)
    if len(wanted) != 1:
        raise ValueError(f"{product.title} has the quality bands {', '.join(wanted)}: pass a mapping from their names.")
    return {wanted[0]: qa}


def _found(quality: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name not in quality or quality[name].shape != shape:
        got = quality[name].shape if name in quality else f"only {', '.join(quality) or 'none'}"
        raise ValueError(
            f"clean wants the quality band {name} of shape {shape}, got {got}: read it on the same pixels."
        )
    return quality[name]


def _column(value: float | tuple[float, ...], product: Product, names: tuple[str, ...]) -> np.ndarray:
    each = value if isinstance(value, tuple) else (value,) * len(product.bands)
    return np.array([each[product.bands.index(name)] for name in names], np.float64)[:, None, None]


def _no_number(raw: np.ndarray, product: Product) -> np.ndarray:
    missing: np.ndarray = ~np.isfinite(raw)
    if product.fill is not None:
        missing |= raw == product.fill
    if product.valid is not None:
        missing |= (raw < product.valid[0]) | (raw > product.valid[1])
    return missing
