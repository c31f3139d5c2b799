"""What the command line writes: tables, a progress bar, JSON and numbers with units."""

import json
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TextIO

BAR = 20  # characters
BOLD, PLAIN = "\x1b[1m", "\x1b[0m"


def print_json(value: Any) -> None:
    """Write strict JSON to stdout; a number that is not finite becomes null, for JSON knows none."""
    print(json.dumps(_finite(value), indent=2, ensure_ascii=False))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Lay out a table in columns two blanks apart; the columns in `right` are set to the right."""
    lines = [header, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def strong(text: str) -> str:
    """Set a line in bold on a terminal that wants it; see no-color.org."""
    wanted = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return f"{BOLD}{text}{PLAIN}" if wanted else text


def note(text: str) -> None:
    """Write a remark to stderr, where it disturbs no pipe."""
    print(text, file=sys.stderr, flush=True)


def percent(share: float | None) -> str:
    """Share 0..1 in per cent; "-" where it is unknown."""
    return "-" if share is None else f"{100 * share:.0f} %"


def seconds(value: float) -> str:
    """Duration such as "0.8 s", "42 s" or "3 min 05 s"."""
    if value < 10:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


class Progress:
    """Progress bar on a terminal, rewritten in place; on anything else one line at the end.

    Use as a context manager; call it with the fraction done. The bar is wiped out when it ends.
    """

    def __init__(self, title: str, stream: TextIO | None = None) -> None:
        self.title, self.stream = title, stream or sys.stderr
        self.live, self.start, self.width = self.stream.isatty(), time.monotonic(), 0
        self.fraction, self.since = 0.0, 0.0  # last step forward, and after how many seconds it came

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.start

    def __call__(self, fraction: float) -> None:
        """Show that this share of the work, 0..1, is done."""
        if not self.live:
            return
        now = self.elapsed
        if fraction != self.fraction:
            self.fraction, self.since = fraction, now
        full = round(BAR * fraction)
        bar = f"{self.title} [{'#' * full}{'.' * (BAR - full)}] {100 * fraction:3.0f} %, {seconds(now)} elapsed"
        if 0 < fraction < 1:  # at the pace up to the last step, less the time that has passed since
            left = self.since * (1 - fraction) / fraction - (now - self.since)
            bar += f", {seconds(left)} left" if left >= 1 else ", 1 s left"
        self._show(bar)

    def __enter__(self) -> Self:
        self(0.0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self._show("")
            self.stream.write("\r")
            self.stream.flush()
        elif kind is None:
            print(f"{self.title}: done in {seconds(self.elapsed)}", file=self.stream, flush=True)

    def _show(self, text: str) -> None:
        room = _columns(self.stream) - 1  # a full line would wrap and could not be rewritten
        self.stream.write("\r" + text[:room].ljust(min(self.width, room)))
        self.stream.flush()
        self.width = len(text)


def _columns(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80
