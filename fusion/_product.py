"""Product and Rule: what the numbers of a collection mean, and which of its pixels are missing."""

from dataclasses import dataclass
from typing import Literal

from odc.geo.geobox import GeoBox

Role = Literal["fine", "coarse", "truth"]
What = Literal["fill", "cloud", "shadow", "cirrus", "snow", "saturation", "quality"]


@dataclass(frozen=True)
class Rule:
    """One reason for which a pixel is missing: some bits of a quality band.

    Parameters
    ----------
    what : str
        "fill", "cloud", "shadow", "cirrus", "snow", "saturation" or "quality".
    band : str
        The quality band's own name. ``{band}`` in it stands for the end of a band's own name after the last
        underscore, for collections that judge each band apart; such a rule concerns that band alone.
    good, bad : tuple of int
        Values of the bits; the pixel is missing where they are not among `good`, or are among `bad`. Give one.
    first, width : int
        Lowest bit, counted from 0, and number of bits.

    Examples
    --------
    >>> Rule("cloud", "QA_PIXEL", good=(0,), first=3, width=1).what
    'cloud'
    """

    what: What
    band: str
    good: tuple[int, ...] = ()
    bad: tuple[int, ...] = ()
    first: int = 0
    width: int = 16

    def __post_init__(self) -> None:
        if bool(self.good) == bool(self.bad):
            raise ValueError(
                f"A rule wants good values or bad ones, got good={self.good} and bad={self.bad}: give one."
            )

    @property
    def per_band(self) -> bool:
        """Whether each band has a quality band of its own."""
        return "{band}" in self.band

    def quality(self, native: str) -> str:
        """Name of the quality band that judges the band of this own name."""
        return self.band.replace("{band}", native.rpartition("_")[2])


@dataclass(frozen=True)
class Product:
    """One collection of images.

    Parameters
    ----------
    name : str
        Name within its source.
    source : str
        Registry name of the source that has it.
    title : str
        What a person reads.
    role : {"fine", "coarse", "truth"}
        On which side of a pair it stands; "truth" is a fine image without clouds and noise, to compare with only.
    bands : tuple of str
        Common names.
    resolution : float
        Side of a pixel in metres, of the grid that the images are read to.
    origin : str
        "observed", "simulated" (made from finer images) or "synthetic" (made from nothing); shown wherever the
        product is.
    licence, citation : str
        Shown beside the data and written into results.
    scale, offset : float or tuple of float
        ``reflectance = number * scale + offset``; one for all bands or one each.
    geobox : odc.geo.geobox.GeoBox, optional
        Native grid of a collection that covers only one place.
    native : tuple of str
        The collection's own names of `bands`, in the same order.
    collection : tuple of str
        The provider's names of the collection or collections.
    rules : tuple of Rule
        Which pixels are missing.
    valid : tuple of float, optional
        Lowest and highest number that means something; numbers beyond are missing.
    fill : float, optional
        Number that means missing.
    span : int
        Days for which an image stands, from its own day on: 1, or 8 for a composite of eight days.
    anchor : float
        Where pixel edges lie: metres of UTM easting and northing, modulo `resolution`.
    level : str
        What the reflectance is of.
    note : str
        What a user should know before choosing it.
    """

    name: str
    source: str
    title: str
    role: Role
    bands: tuple[str, ...]
    resolution: float
    origin: Literal["observed", "simulated", "synthetic"]
    licence: str
    citation: str
    scale: float | tuple[float, ...] = 1.0
    offset: float | tuple[float, ...] = 0.0
    geobox: GeoBox | None = None
    native: tuple[str, ...] = ()
    collection: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()
    valid: tuple[float, float] | None = None
    fill: float | None = None
    span: int = 1
    anchor: float = 0.0
    level: Literal["surface reflectance", "top-of-atmosphere reflectance"] = "surface reflectance"
    note: str = ""

    def named(self, bands: tuple[str, ...]) -> tuple[str, ...]:
        """Return the collection's own names of some bands."""
        return tuple(self.native[self.bands.index(band)] for band in bands)

    def quality(self, bands: tuple[str, ...]) -> tuple[str, ...]:
        """Return the names of the quality bands that judge some bands, each once."""
        names = (rule.quality(native) for native in self.named(bands) for rule in self.rules)
        return tuple(dict.fromkeys(names))
