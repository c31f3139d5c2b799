"""Stack: the problem statement of spatiotemporal fusion as one type."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

import numpy as np
from odc.geo.geobox import GeoBox

from .errors import FusionError
from .scene import ROI, Scene, check_window

UNKNOWN_DAY = date(1970, 1, 1)  # of a stack made from bare arrays


@dataclass(frozen=True, eq=False)
class Pair:
    """A coarse and a fine image of the same day."""

    coarse: Scene
    fine: Scene

    def __post_init__(self) -> None:
        if self.coarse.day != self.fine.day:
            raise FusionError(
                f"A pair is two images of one day, got coarse {self.coarse.day} and fine {self.fine.day}: "
                "choose images of the same day."
            )

    @property
    def day(self) -> date:
        """Day of both images."""
        return self.fine.day


@dataclass(frozen=True, eq=False)
class Stack:
    """Aligned pairs and the coarse image of the day to predict, on two nested grids.

    Parameters
    ----------
    fine : numpy.ndarray
        ``(pair, band, y, x)`` float32 reflectance, NaN = missing.
    coarse : numpy.ndarray
        ``(pair, band, y/ratio, x/ratio)`` of the same days; coarse pixels stay coarse.
    target : numpy.ndarray
        ``(band, y/ratio, x/ratio)``, the day to predict.
    days : tuple of int
        ``(pair,)`` reference day minus target day.
    geobox : odc.geo.geobox.GeoBox
        Grid of the fine images.
    bands : tuple of str
        Band names.
    day : datetime.date
        The day to predict.
    classes : numpy.ndarray, optional
        ``(y, x)`` int16 land-cover map on the fine grid, classes from 0, -1 = unknown, for methods that work by
        class; without it they classify the fine images themselves.

    Raises
    ------
    FusionError
        If the shapes do not nest in one integer ratio, or numbers of pairs, bands or days disagree.
    """

    fine: np.ndarray
    coarse: np.ndarray
    target: np.ndarray
    days: tuple[int, ...]
    geobox: GeoBox
    bands: tuple[str, ...]
    day: date = UNKNOWN_DAY
    classes: np.ndarray | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "days", tuple(int(offset) for offset in self.days))
        object.__setattr__(self, "bands", tuple(self.bands))
        for name, array, axes in (
            ("fine", self.fine, "pair, band, y, x"),
            ("coarse", self.coarse, "pair, band, y, x"),
            ("target", self.target, "band, y, x"),
        ):
            if array.ndim != axes.count(",") + 1 or array.dtype != np.float32:
                raise ValueError(
                    f"Stack.{name} wants float32 ({axes}), got {array.dtype} with shape {array.shape}: "
                    "scale to reflectance, pass .astype('float32') and give each axis, of length 1 too."
                )
        pairs, bands, height, width = self.fine.shape
        if not pairs or len(self.days) != pairs or len(self.bands) != bands:
            raise FusionError(
                f"A stack wants one day per pair and one name per band, got {pairs} pairs with days {self.days} "
                f"and {bands} bands named {self.bands}: give at least one pair and matching names."
            )
        if self.coarse.shape[:2] != (pairs, bands) or self.coarse.shape[1:] != self.target.shape:
            raise FusionError(
                f"Coarse images {self.coarse.shape} and target {self.target.shape} must have the fine images' "
                f"{pairs} pairs and {bands} bands on one coarse grid: select common bands and one grid."
            )
        rows, columns = self.target.shape[1:]
        nested = rows and columns and height % rows == 0 and width % columns == 0
        if not nested or height // rows != width // columns:
            raise FusionError(
                f"Fine pixels {height} x {width} do not nest in {rows} x {columns} coarse pixels: "
                "the ratio must be one whole number in y and x; cut or resample to whole coarse pixels."
            )
        if tuple(self.geobox.shape) != (height, width):
            raise FusionError(
                f"The stack's geobox is {tuple(self.geobox.shape)} but its fine images are {(height, width)}: "
                "pass the grid of the fine images."
            )
        if self.classes is not None and (self.classes.shape != (height, width) or self.classes.dtype != np.int16):
            raise FusionError(
                f"A class map wants int16 (y, x) of {height} x {width} fine pixels, got {self.classes.dtype} with "
                f"shape {self.classes.shape}: bring it onto the grid of the fine images, classes from 0, -1 = unknown."
            )

    @property
    def ratio(self) -> int:
        """Fine pixels per coarse pixel, along one side."""
        return int(self.fine.shape[-1] // self.coarse.shape[-1])

    @property
    def reference_days(self) -> tuple[date, ...]:
        """Dates of the pairs."""
        return tuple(self.day + timedelta(days=offset) for offset in self.days)

    @classmethod
    def of(cls, pairs: Sequence[Pair], target: Scene) -> "Stack":
        """Stack pairs and a coarse target, after checking that they belong together.

        Pairs are brought into time order, so that the order given changes no bit of a result.

        Raises
        ------
        FusionError
            If there is no pair, days repeat, bands differ or the grids do not nest.
        """
        if not pairs:
            raise FusionError("Fusion wants at least one pair of a coarse and a fine image, got none: add a pair.")
        pairs = sorted(pairs, key=lambda pair: pair.day)
        days = [pair.day for pair in pairs]
        if target.day in days:
            raise FusionError(
                f"The target day {target.day} is also the day of a pair, whose fine image would be the answer: "
                "choose another target or take that pair out."
            )
        if len(set(days)) != len(days):
            raise FusionError(f"Pairs repeat a day ({', '.join(map(str, days))}): give each day once.")
        first = pairs[0].fine
        for scene in [pair.fine for pair in pairs] + [pair.coarse for pair in pairs] + [target]:
            _check_bands(scene, first)
        for pair in pairs:
            _check_grid(pair.fine, first.geobox, "fine", first.day)
        coarse = [*(pair.coarse for pair in pairs), target]
        for scene in coarse:
            _check_grid(scene, target.geobox, "coarse", target.day)
        _check_nested(first.geobox, target.geobox)
        return cls(
            fine=np.stack([pair.fine.data for pair in pairs]),
            coarse=np.stack([pair.coarse.data for pair in pairs]),
            target=target.data,
            days=tuple((day - target.day).days for day in days),
            geobox=first.geobox,
            bands=first.bands,
            day=target.day,
        )

    def __getitem__(self, window: ROI) -> "Stack":
        """Cut out ``stack[y0:y1, x0:x1]`` in fine pixels, along coarse pixel edges only."""
        check_window(window)
        r, (height, width) = self.ratio, self.fine.shape[2:]
        rows, columns = (range(*part.indices(size)) for part, size in zip(window, (height, width), strict=True))
        edges = (rows.start, rows.stop, columns.start, columns.stop)
        if any(edge % r for edge in edges) or rows.step != 1 or columns.step != 1 or not rows or not columns:
            raise ValueError(
                f"A stack of ratio {r} is cut along coarse pixel edges, got rows {rows} and columns {columns}: "
                f"use multiples of {r} within {height} x {width}."
            )
        y, x = slice(rows.start, rows.stop), slice(columns.start, columns.stop)
        v, u = slice(rows.start // r, rows.stop // r), slice(columns.start // r, columns.stop // r)
        return replace(
            self,
            fine=self.fine[..., y, x],
            coarse=self.coarse[..., v, u],
            target=self.target[..., v, u],
            geobox=self.geobox[y, x],
            classes=None if self.classes is None else self.classes[y, x],
        )

    def scenes(self) -> list[Pair]:
        """Return the reference images as pairs of scenes, in the stack's order.

        Examples
        --------
        >>> from fusion import load, recipe_for
        >>> [pair.coarse.data.shape for pair in load(recipe_for("sample", pairs=1)).scenes()]
        [(4, 10, 10)]
        """
        box = self.geobox.zoom_out(self.ratio)
        return [
            Pair(Scene(coarse, box, self.bands, day), Scene(fine, self.geobox, self.bands, day))
            for coarse, fine, day in zip(self.coarse, self.fine, self.reference_days, strict=True)
        ]

    def select(self, pairs: Sequence[int]) -> "Stack":
        """Return the same problem with only these pairs, by index."""
        index = list(pairs)
        return replace(self, fine=self.fine[index], coarse=self.coarse[index], days=tuple(self.days[i] for i in index))


def _check_bands(scene: Scene, first: Scene) -> None:
    if scene.bands != first.bands:
        raise FusionError(
            f"All images of a stack want the same bands in the same order: {first.day} has {', '.join(first.bands)}, "
            f"{scene.day} has {', '.join(scene.bands)}. Select the common ones with scene.select(bands)."
        )


def _check_grid(scene: Scene, geobox: GeoBox, kind: str, day: date) -> None:
    if scene.geobox != geobox:
        raise FusionError(
            f"The {kind} images of {scene.day} and {day} are on different grids "
            f"({_grid(scene.geobox)} and {_grid(geobox)}): bring them onto one with scene.to(geobox)."
        )


def _check_nested(fine: GeoBox, coarse: GeoBox) -> None:
    if fine.shape[0] % coarse.shape[0] or fine.shape[1] % coarse.shape[1]:
        ratio = None
    else:
        ratio = fine.shape[0] // coarse.shape[0]
    if ratio is None or fine.shape[1] != ratio * coarse.shape[1]:
        raise FusionError(
            f"Grids do not nest: fine {_grid(fine)}, coarse {_grid(coarse)}. "
            "Fine pixels per coarse pixel must be one whole number: use coarse = fine_grid.zoom_out(ratio)."
        )
    corners = [(0, 0), (coarse.shape[1], 0), (0, coarse.shape[0])]
    pixel = abs(fine.affine.a) + abs(fine.affine.b)
    for x, y in corners:
        (x1, y1), (x2, y2) = coarse.pix2wld(x, y), fine.pix2wld(x * ratio, y * ratio)
        if fine.crs != coarse.crs or max(abs(x1 - x2), abs(y1 - y2)) > 0.01 * pixel:
            raise FusionError(
                f"Grids do not nest: fine {_grid(fine)}, coarse {_grid(coarse)} must share CRS and corners. "
                "Bring the coarse image onto fine_grid.zoom_out(ratio) with scene.to(...)."
            )


def _grid(geobox: GeoBox) -> str:
    crs = geobox.crs.to_epsg() if geobox.crs is not None else None
    where = f"EPSG:{crs}" if crs else ("no CRS" if geobox.crs is None else "own CRS")
    a = geobox.affine
    return f"{geobox.shape[0]} x {geobox.shape[1]} pixels of {abs(a.a):g} at ({a.c:g}, {a.f:g}) {where}"


def nearest_days(days: Sequence[date], day: date, count: int) -> list[date]:
    """Choose reference days around `day`: from two on, one on either side where there is one, then the nearest.

    The rule of :func:`holdout` and of the proposals in the app; returned in time order.
    """
    ranked = sorted((d for d in set(days) if d != day), key=lambda d: (abs((d - day).days), d))
    chosen = ranked[:count]
    for side in ([d for d in ranked if d < day], [d for d in ranked if d > day]):
        if count > 1 and side and side[0] not in chosen:
            chosen[-1] = side[0]
    return sorted(chosen)


def holdout(series: Sequence[Pair], day: date, pairs: int) -> tuple[Stack, Scene]:
    """Hide the fine image of one day: the stack that predicts it, and the hidden truth.

    Parameters
    ----------
    series : sequence of Pair
        All pairs there are.
    day : datetime.date
        The day whose fine image is hidden.
    pairs : int
        How many reference pairs the stack gets, chosen by :func:`nearest_days`.

    Raises
    ------
    FusionError
        If the day is not in the series or there are too few others.
    """
    by_day = {pair.day: pair for pair in series}
    if len(by_day) != len(series):
        days = ", ".join(str(pair.day) for pair in series)
        raise FusionError(f"The series repeats a day ({days}): give each day once.")
    if day not in by_day:
        raise FusionError(
            f"No pair of {day} to hide; there are {', '.join(map(str, sorted(by_day)))}: choose one of these days."
        )
    if not 1 <= pairs < len(by_day):
        raise FusionError(
            f"Wanted {pairs} reference pairs beside {day}, but there are {len(by_day) - 1}: ask for 1 to that many."
        )
    chosen = nearest_days(list(by_day), day, pairs)
    return Stack.of([by_day[d] for d in chosen], by_day[day].coarse), by_day[day].fine
