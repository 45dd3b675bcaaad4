"""What is seen of a trace while it runs."""

import sys
import time
from collections.abc import Callable
from typing import Any

from llc.estimation import Estimate
from llc.progress import Log, duration

__all__ = ["Progress", "Watch"]


class Watch:
    """A bar over checkpoints, or the caller's own function; use as a context manager.

    Where standard error is no terminal a line now and then takes the bar's place.

    Attributes:
        shown: whether there is a bar, or lines.
    """

    def __init__(self, progress: "Progress") -> None:
        self._call = progress if callable(progress) else None
        self.shown = progress is True
        self._bar: Any = None
        self._log: Log | None = None
        self._total: int | None = None
        self._done = self._worked = 0
        self._hands = 1
        self._begun = time.monotonic()

    @classmethod
    def of(cls, progress: "Progress | Watch") -> "Watch":
        """Return what is one already, or make one."""
        return progress if isinstance(progress, Watch) else cls(progress)

    def begin(self, name: str, total: int | None, hands: int = 1) -> "Watch":
        """Start to count, of ``total`` checkpoints where that is known, so many at a time."""
        from tqdm import tqdm

        off = not (self.shown and sys.stderr.isatty())
        self._bar = tqdm(total=total, desc=name, unit="checkpoint", disable=off)
        self._log = Log(name, shown=self.shown)
        self._total, self._hands, self._begun = total, hands, time.monotonic()
        return self

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def __call__(self, step: int, estimate: Estimate | None, *, fresh: bool = True) -> None:
        """Tell of one more checkpoint; None where it was skipped, not fresh if it was there."""
        if self._call is not None:
            self._call(step, estimate)
        assert self._log is not None
        self._bar.update()
        self._done += 1
        self._worked += fresh
        said = f"step {step}" + ("" if estimate is None else f", LLC {estimate.llc:.4g}")
        if estimate is not None:
            self._bar.set_postfix_str(said)
        of = "" if self._total is None else f" of {self._total}"
        self._log(f"{said}; {self._done}{of} checkpoints{self._left()}")

    def _left(self) -> str:
        """How long the rest will take, by what the fresh ones took."""
        if self._total is None or not self._worked or self._done >= self._total:
            return ""
        # Those in hand are half done, on average.
        worked = self._worked + (self._hands - 1) / 2
        elapsed = time.monotonic() - self._begun
        return f", about {duration(elapsed / worked * (self._total - self._done))} left"


Progress = bool | Callable[[int, Estimate | None], None] | Watch | None
