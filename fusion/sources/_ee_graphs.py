"""Earth Engine's expressions on one image: which pixels are clear, and numbers in which nothing is masked."""

from collections.abc import Sequence
from functools import reduce
from typing import Any

from .._product import Product, Rule
from ._ee_images import FILL, Picture, filled


def clear(image: Any, row: Product, kept: Sequence[str]) -> Any:
    """1 where the red band is known and no rule speaks against it, 0 elsewhere, the world beyond the image included."""
    native = row.named(("red",))[0]
    numbers = image.select([native])
    good = numbers.gte(row.valid[0]).And(numbers.lte(row.valid[1])) if row.valid else numbers.gte(FILL + 1)
    for rule in row.rules:
        if rule.what not in kept:
            good = good.And(_kept_by(rule, image.select([rule.quality(native)])))
    return good.unmask(0, False).rename(["clear"])


def _kept_by(rule: Rule, quality: Any) -> Any:
    bits = quality.toInt64().rightShift(rule.first).bitwiseAnd((1 << rule.width) - 1)
    listed = reduce(lambda one, two: one.Or(two), (bits.eq(value) for value in rule.good or rule.bad))
    return listed if rule.good else listed.Not()


def pixels(image: Any, row: Product, found: Picture, names: Sequence[str], types: Sequence[str]) -> Any:
    """Bands with a number in place of masked pixels, and a band masked where one of its quality bands is."""
    out = []
    for name, dtype in zip(names, types, strict=True):
        band = image.select([name])
        if name in row.native:
            quality = list(dict.fromkeys(rule.quality(name) for rule in row.rules))
            if quality:
                band = band.updateMask(image.select(quality).mask().reduce("min"))
            band = band.unmask(filled(row, found.types[name])[0], False)
        else:
            band = band.unmask(0, False)  # its masked pixels are missing in every band that it judges
        out.append(_typed(band, dtype))
    return reduce(lambda one, two: one.addBands(two), out)


def _typed(image: Any, dtype: str) -> Any:
    """Image whose numbers have a type, as numpy calls it."""
    name = {"float32": "toFloat", "float64": "toDouble"}.get(dtype) or f"to{dtype.capitalize()}"
    return getattr(image, name)()
