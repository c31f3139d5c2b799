"""A shift of the coarse images in words, the same on every page."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .state import Work


def side(value: float, plus: str, minus: str, unit: str) -> str:
    """A displacement in words, such as "240 m east"."""
    number = f"{abs(value):.0f}" if unit == "m" else f"{abs(value):.3g}"
    return f"{number} {unit} {plus if value >= 0 else minus}"


def where(shift: tuple[float, float], unit: str) -> str:
    """A shift in words, such as "240 m east and 3 m south"."""
    return f"{side(shift[0], 'east', 'west', unit)} and {side(shift[1], 'north', 'south', unit)}"


def fine_unit(work: "Work") -> str:
    """Unit of the grid: "m", or "degrees" where the fine images come on such a grid."""
    box = work.fine.geobox
    crs = box.crs if box is not None else None
    return "m" if crs is None or crs.projected else "degrees"
