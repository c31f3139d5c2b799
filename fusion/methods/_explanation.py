"""Explanation: a prediction taken apart, so that its parts can be seen and add up to it."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Term:
    """One number of the equation.

    Parameters
    ----------
    symbol, meaning : str
        As in the equation, and in words; plain text.
    value : float
        The number; NaN where it is missing.
    unit : str
        "1" for a number without unit.
    pair : int, optional
        Index of the pair that the number belongs to; None = it is of all of them.
    """

    symbol: str
    meaning: str
    value: float
    unit: str = "reflectance"
    pair: int | None = None


@dataclass(frozen=True, eq=False)
class Plane:
    """One quantity of the equation at every neighbour, to be looked at as a map.

    Parameters
    ----------
    symbol, meaning : str
        As in the equation, and in words; plain text.
    value : numpy.ndarray
        ``(pair, y, x)``; NaN where it is missing.
    unit : str
        "1" for a number without unit.
    """

    symbol: str
    meaning: str
    value: np.ndarray
    unit: str = "reflectance"


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why one band of one pixel was predicted as it was: ``prediction = base + sum(weight * value)``.

    Parameters
    ----------
    rows, columns : slice
        The window, in fine pixels of the stack; cut at its edges.
    days : tuple of int
        ``(pair,)`` reference day minus target day of each layer.
    weight : numpy.ndarray
        ``(pair, y, x)`` float64 share of each neighbour; 0 where it does not count.
    value : numpy.ndarray
        ``(pair, y, x)`` float64 reflectance that each neighbour says; NaN where it is missing.
    verdict : numpy.ndarray
        ``(pair, y, x)`` uint8 index into `verdicts`.
    verdicts : tuple of str
        Why a neighbour counts or not; the first is of those that count.
    base : float
        What the sum is added to, reflectance; NaN where the prediction is missing.
    equation : str
        The equation in the paper's symbols.
    terms : tuple of Term
        The numbers of the equation, in the order in which they are computed.
    note : str
        A special case that decided, in words; else "".
    latex : str
        The equation once more, as LaTeX for the eye; "" = show `equation`.
    planes : tuple of Plane
        What the weights were made of, neighbour by neighbour.
    """

    rows: slice
    columns: slice
    days: tuple[int, ...]
    weight: np.ndarray
    value: np.ndarray
    verdict: np.ndarray
    verdicts: tuple[str, ...]
    base: float
    equation: str
    terms: tuple[Term, ...]
    note: str = ""
    latex: str = ""
    planes: tuple[Plane, ...] = ()

    @property
    def prediction(self) -> float:
        """The reflectance that the parts add up to."""
        return self.base + float(np.where(self.weight > 0, self.weight * self.value, 0).sum())
