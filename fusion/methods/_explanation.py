"""Explanation: a prediction taken apart, so that its parts can be seen and add up to it."""

from dataclasses import dataclass

import numpy as np

GONE = "The pixel is missing in every pair or in the coarse target, so there is no prediction."


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


@dataclass(frozen=True)
class Window:
    """The window around one pixel, in fine pixels of the stack and cut at its edges.

    Parameters
    ----------
    rows, columns : slice
        Where it is in the stack.
    centre : tuple of int
        Row and column of the pixel within the window.
    """

    rows: slice
    columns: slice
    centre: tuple[int, int]

    @classmethod
    def around(cls, at: tuple[int, int], side: int, shape: tuple[int, ...]) -> "Window":
        """Cut a window of `side` pixels around `at` out of images whose last two axes are ``(y, x)``."""
        half = side // 2
        rows, columns = (slice(max(i - half, 0), min(i + half + 1, n)) for i, n in zip(at, shape[-2:], strict=True))
        return cls(rows, columns, (at[0] - rows.start, at[1] - columns.start))

    def of(self, planes: np.ndarray) -> np.ndarray:
        """Return the part ``(..., y, x)`` of images that lies in the window."""
        return planes[..., self.rows, self.columns]

    @property
    def apart(self) -> np.ndarray:
        """Distance ``(y, x)`` from the pixel, |i - p|."""
        y, x = np.ogrid[: self.rows.stop - self.rows.start, : self.columns.stop - self.columns.start]
        return np.asarray(np.hypot(y - self.centre[0], x - self.centre[1]))
