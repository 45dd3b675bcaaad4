"""What is seen of a trace while it runs."""

import sys
from collections.abc import Callable

from llc.estimation import Estimate

__all__ = ["Progress", "Watch"]

Progress = bool | Callable[[int, Estimate | None], None] | None


class Watch:
    """A bar over checkpoints, or the caller's own function; use as a context manager."""

    def __init__(self, name: str, total: int | None, progress: Progress) -> None:
        from tqdm import tqdm

        self._call = progress if callable(progress) else None
        shown = progress is True and sys.stderr.isatty()
        self._bar = tqdm(total=total, desc=name, unit="checkpoint", disable=not shown)

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def __call__(self, step: int, estimate: Estimate | None) -> None:
        """Tell of one more checkpoint; None where it was skipped."""
        if self._call is not None:
            self._call(step, estimate)
        self._bar.update()
        if estimate is not None:
            self._bar.set_postfix_str(f"step {step}, LLC {estimate.llc:.4g}")
