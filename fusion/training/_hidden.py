"""What is hidden from a training to judge it: a date of each area, or a strip where no date can be spared."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date

import numpy as np

from ..errors import FusionError
from ..methods._sample import repeated
from ..scene import Scene
from ..stack import Pair, Stack, holdout

MOST_SIDE = 512  # of what is predicted of a hidden date, in fine pixels
STRIP = 0.25  # of the width that is hidden where there is no date to hide


@dataclass(frozen=True, eq=False)
class Hidden:
    """A problem whose answer training never sees."""

    stack: Stack
    truth: Scene  # NaN where it does not count


def split(
    groups: Sequence[Sequence[Pair]], hidden: date | None, references: int
) -> tuple[list[list[Pair]], list[Hidden]]:
    """Take a date of each group out, to be predicted; where no date can be spared, a strip of the last one.

    Raises
    ------
    FusionError
        If the date is not there, or hiding it leaves less than two days.
    """
    if hidden is not None and not any(pair.day == hidden for group in groups for pair in group):
        have = ", ".join(str(pair.day) for pair in groups[0])
        raise FusionError(f"The date to hide wants to be one of {have}, got {hidden}: choose one of these.")
    kept, out = [], []
    for whole in groups:
        group = _showing(whole)
        days = [pair.day for pair in group]
        if hidden in {pair.day for pair in whole} - set(days):
            raise _nothing_to_judge(hidden)
        if hidden in days and len(group) < 3:
            raise FusionError(
                f"Hiding {hidden} leaves {len(group) - 1} of {len(group)} days, and training wants two: add a pair, "
                "or leave the date to hide empty."
            )
        if len(group) >= 3 and (hidden is None or hidden in days):
            day, problem = _one_hidden(group, hidden, references)
            kept.append([pair for pair in group if pair.day != day])
            out.append(problem)
        elif hidden is None:
            masked, strip = _strip(group, references)
            kept.append(masked)
            out.append(strip)
        else:
            kept.append(list(group))
    return kept, out


def _showing(group: Sequence[Pair]) -> list[Pair]:
    """Return the pairs of a group that show anything."""
    shown = [pair for pair in group if all(np.isfinite(scene.data).any() for scene in (pair.coarse, pair.fine))]
    if len(shown) < 2:
        raise FusionError(
            f"Training wants at least two days of an area with valid pixels, got {len(shown)} of "
            f"{', '.join(str(pair.day) for pair in group)} (clouds or no data): choose other days or another area."
        )
    return shown


def _one_hidden(group: Sequence[Pair], wanted: date | None, references: int) -> tuple[date, Hidden]:
    """Hide one date: the wanted one, else the one nearest the middle of the group that shows anything."""
    middle = len(group) // 2
    days = [pair.day for pair in sorted(group, key=lambda pair: abs(group.index(pair) - middle))]
    for day in [wanted] if wanted else days:
        stack, truth = holdout(list(group), day, min(max(2, references), len(group) - 1))
        if _shows(problem := _windowed(stack, truth)):
            return day, problem
    raise _nothing_to_judge(wanted or days[0])


def _shows(problem: Hidden) -> bool:
    """Whether a prediction can be compared with the truth anywhere."""
    stack = problem.stack
    coarse = repeated(np.isfinite(stack.coarse).all(axis=1), stack.ratio)
    pair = (np.isfinite(stack.fine).all(axis=1) & coarse).any(axis=0)
    target = repeated(np.isfinite(stack.target).all(axis=0), stack.ratio)
    return bool((pair & target & np.isfinite(problem.truth.data).any(axis=0)).any())


def _nothing_to_judge(day: date | None) -> FusionError:
    return FusionError(
        f"The hidden part of {day} wants pixels that are seen in both images of that day and of another one, got none "
        "(clouds or no data): hide another date, or choose other days."
    )


def _windowed(stack: Stack, truth: Scene) -> Hidden:
    """The middle of a large scene, so that a look at it stays quick."""
    r = stack.ratio
    roi = []
    for size in stack.fine.shape[2:]:
        side = min(size, max(MOST_SIDE // r, 1) * r)
        first = (size - side) // 2 // r * r
        roi.append(slice(first, first + side))
    window = (roi[0], roi[1])
    return Hidden(stack[window], truth[window])


def _strip(group: Sequence[Pair], references: int) -> tuple[list[Pair], Hidden]:
    """Hide the right part of the last day: training sees it as missing there, the check only there."""
    *others, last = group
    r = last.fine.shape[2] // last.coarse.shape[2]
    coarse_columns = last.coarse.shape[2]
    first = min(max(1, round(coarse_columns * (1 - STRIP))), coarse_columns - 1) * r
    stack = Stack.of(others[-max(2, references) :], last.coarse)
    seen, unseen = last.fine.data.copy(), last.fine.data.copy()
    seen[..., first:], unseen[..., :first] = np.nan, np.nan
    pair = Pair(last.coarse, replace(last.fine, data=seen))
    problem = _windowed_right(stack, replace(last.fine, data=unseen))
    if not _shows(problem):
        raise _nothing_to_judge(last.day)
    return [*others, pair], problem


def _windowed_right(stack: Stack, truth: Scene) -> Hidden:
    r = stack.ratio
    height, width = stack.fine.shape[2:]
    side = max(MOST_SIDE // r, 1) * r
    window = (slice(0, min(height, side)), slice(max(0, width - side), width))
    return Hidden(stack[window], truth[window])
