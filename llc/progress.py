"""A progress bar for one estimate: phases as they come."""

import sys
import time
from collections.abc import Callable
from types import TracebackType

__all__ = ["Bar", "Log", "duration", "part_of"]

FIRST = 30.0
"""Seconds until a log's first line; each wait is twice the one before."""
EVERY = 300.0
"""Seconds between two lines in a log, at most."""


def duration(seconds: float) -> str:
    """Say how long, in the unit that suits: ``"40 s"``, ``"12 min"``, ``"3.5 h"``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def part_of(
    whole: str, report: Callable[[str, int, int | None], None]
) -> Callable[[str, int, int | None], None]:
    """Return a callback that reports phases as those of a larger whole."""
    return lambda phase, done, total: report(f"{whole}, {phase}", done, total)


class Log:
    """A line on standard error now and then where that is no terminal: a log shows life.

    The first after half a minute, then at waits that double up to five minutes.
    """

    def __init__(self, name: str, *, shown: bool = True) -> None:
        self._name = name
        self._shown = shown and not sys.stderr.isatty()
        self._last, self._wait = time.monotonic(), FIRST

    def __call__(self, what: str) -> None:
        """Say what is being done, if it is time to."""
        if self._shown and time.monotonic() - self._last >= self._wait:
            self._last, self._wait = time.monotonic(), min(2 * self._wait, EVERY)
            sys.stderr.write(f"{self._name}: {what}\n")
            sys.stderr.flush()


class Bar:
    """Shows phase and steps on standard error; a line now and then where that is no terminal.

    Use as a context manager; the value is the report function samplers call.
    """

    def __init__(self, name: str) -> None:
        from tqdm import tqdm

        self._bar = tqdm(desc=name, unit="step", leave=False, disable=not sys.stderr.isatty())
        self._log = Log(name)
        self._phase = ""

    def __enter__(self) -> "Bar":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        if not self._bar.disable:
            self._bar.write(text, file=sys.stderr)

    def __call__(self, phase: str, done: int, total: int | None) -> None:
        """Show ``done`` steps of a phase, of ``total`` where known."""
        self._log(f"{phase}, {done:,}{'' if total is None else f' of {total:,}'} steps")
        if phase != self._phase:
            self._phase = phase
            self._bar.reset(total=total)
            self._bar.set_postfix_str(phase)
        self._bar.total = total
        self._bar.update(done - self._bar.n)
