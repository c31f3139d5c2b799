"""Figures, colours and maps: pure builders that return what they make and never show it.

Plotly figures carry their own neutral template (transparent, mid-grey ink, so that they read on light and on
dark pages); an app's theme may replace it. Colours are safe for colour-blind readers: viridis and cividis for
amounts, blue-white-red for differences (blue = too dark, red = too bright), Okabe & Ito's palette for names.
"""

from ._layout import TEMPLATE
from .alignment import before_after, coarse_on_fine, gains, peak, shifts
from .explanation import build_up, equation, subscripts, sum_in_numbers, term_rows, weights, window
from .figures import compare, image, spectrum, timeline
from .notebooks import swipe, to_map
from .pictures import (
    COMBINATIONS,
    OKABE_ITO,
    PALETTES,
    WAVELENGTHS,
    Limits,
    bound_of,
    colour_of,
    combinations,
    difference,
    difference_rgba,
    legend,
    limits,
    lookup,
    png,
    rgba,
    scale,
    symbol_of,
)
from .quality import Tables, apa, bars, error_map, scatter
from .training import held_out, loss_curves

__all__ = [
    "COMBINATIONS",
    "OKABE_ITO",
    "PALETTES",
    "TEMPLATE",
    "WAVELENGTHS",
    "Limits",
    "Tables",
    "apa",
    "bars",
    "before_after",
    "bound_of",
    "build_up",
    "coarse_on_fine",
    "colour_of",
    "combinations",
    "compare",
    "difference",
    "difference_rgba",
    "equation",
    "error_map",
    "gains",
    "held_out",
    "image",
    "legend",
    "limits",
    "lookup",
    "loss_curves",
    "peak",
    "png",
    "rgba",
    "scale",
    "scatter",
    "shifts",
    "spectrum",
    "subscripts",
    "sum_in_numbers",
    "swipe",
    "symbol_of",
    "term_rows",
    "timeline",
    "to_map",
    "weights",
    "window",
]
