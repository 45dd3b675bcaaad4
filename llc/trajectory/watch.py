"""What is seen of a trace while it runs."""

import sys
from collections.abc import Callable

from llc.estimation import Estimate
from llc.progress import Log

__all__ = ["Progress", "Watch"]

Progress = bool | Callable[[int, Estimate | None], None] | None


class Watch:
    """A bar over checkpoints, or the caller's own function; use as a context manager.

    Where standard error is no terminal a line now and then takes the bar's place.
    """

    def __init__(self, name: str, total: int | None, progress: Progress) -> None:
        from tqdm import tqdm

        self._call = progress if callable(progress) else None
        shown = progress is True and sys.stderr.isatty()
        self._bar = tqdm(total=total, desc=name, unit="checkpoint", disable=not shown)
        self._log = Log(name, shown=progress is True)
        self._done, self._total = 0, total

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def __call__(self, step: int, estimate: Estimate | None) -> None:
        """Tell of one more checkpoint; None where it was skipped."""
        if self._call is not None:
            self._call(step, estimate)
        self._bar.update()
        self._done += 1
        said = f"step {step}" + ("" if estimate is None else f", LLC {estimate.llc:.4g}")
        if estimate is not None:
            self._bar.set_postfix_str(said)
        of = "" if self._total is None else f" of {self._total}"
        self._log(f"{said}; {self._done}{of} checkpoints")
