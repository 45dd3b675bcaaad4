"""What is seen of ``rlct trace`` while it runs: its bar, and its figure as far as it is."""

import sys
import time
from pathlib import Path

from llc import plot
from llc.errors import InputError
from llc.estimation import Estimate
from llc.trajectory import Trajectory
from llc.trajectory.watch import Watch

__all__ = ["Drawing"]

EVERY = 30.0
"""Seconds between two drawings, and before the first."""
SHARE = 0.05
"""Of the time, at most, that drawing takes."""
LEAST_POINTS = 3


class Drawing(Watch):
    """A bar, and the figure in the run folder drawn anew now and then.

    A run of hours then has a figure within minutes, since a trace takes the first, the last and
    the middle checkpoint first.
    """

    def __init__(self, out: Path) -> None:
        super().__init__(True)
        self._out, self._told = out, False
        self._next = time.monotonic() + EVERY

    def __call__(self, step: int, estimate: Estimate | None, *, fresh: bool = True) -> None:
        """Tell of one more checkpoint, and draw if it is time to."""
        super().__call__(step, estimate, fresh=fresh)
        started = time.monotonic()
        if started < self._next or self._done < LEAST_POINTS or self._done == self._total:
            return
        try:
            so_far = Trajectory.load(self._out)
            figure = plot.trajectory(so_far)
            of = "" if self._total is None else f" of {self._total}"
            figure.text(
                0.01, 0.99, f"{len(so_far.points)}{of} checkpoints so far", va="top", size="small",
                color="0.4",
            )  # fmt: skip
            figures = plot.save(figure, self._out / "figures" / "trajectory")
        except (InputError, OSError):
            return  # what is wrong is told where the trace ends
        if not self._told:
            self._told = True
            self._bar.clear()
            print(f"figure so far: {figures[-1]}", file=sys.stderr, flush=True)
        taken = time.monotonic() - started
        self._next = time.monotonic() + max(EVERY, taken / SHARE)
