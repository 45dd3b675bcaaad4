"""The rise of the loss on the way from one checkpoint to another."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from llc.diagnostics import Array
from llc.errors import InputError
from llc.isolation import undisturbed
from llc.task import Task
from llc.trajectory.basins.landscape import Landscape, Place, Weights, blended

__all__ = ["POINTS", "Barrier", "barrier", "check_points", "straight"]

POINTS = 25


@dataclass(frozen=True)
class Barrier:
    """The loss along a path between two checkpoints.

    Attributes:
        t: fraction of the path's length gone, from 0 to 1, shape ``(points,)``.
        loss: L there, over all data; infinite where it is not finite.
        resolution: a height below this may be rounding.
        kind: ``"straight"``, or ``"curve"`` for the optimised one.
        line: of a curve, the straight barrier it began from.
        evaluations: gradients that optimising the path took.
    """

    t: Array
    loss: Array
    resolution: float
    kind: str = "straight"
    line: "Barrier | None" = field(default=None, repr=False)
    evaluations: int = 0

    @property
    def excess(self) -> Array:
        """L(t) − [(1−t)·L(0) + t·L(1)], shape ``(points,)``; 0 at both ends, negative in a dip."""
        return self.loss - ((1 - self.t) * self.loss[0] + self.t * self.loss[-1])

    @property
    def height(self) -> float:
        """Highest `excess` over t (Frankle et al. 2020).

        The ends count, so that it is 0 and never less where the loss lies below the straight
        interpolation of its ends, as on every convex loss; `excess` shows by how much.
        """
        return float(self.excess.max())

    @property
    def rise(self) -> float:
        """Highest L(t) − max(L(0), L(1)), at least 0 likewise: the climb from the higher end."""
        return float(self.loss.max() - max(self.loss[0], self.loss[-1]))

    @property
    def peak(self) -> float:
        """Where `height` is reached, as t."""
        return float(self.t[self.excess.argmax()])

    def __str__(self) -> str:
        below = f" (below {self.resolution:.1g}: rounding)" if self.height < self.resolution else ""
        return (
            f"{self.kind} barrier {self.height:.3g}{below} at t = {self.peak:.2f}; losses "
            f"{self.loss[0]:.4g} and {self.loss[-1]:.4g} at the ends, {self.loss.max():.4g} at most"
        )


def barrier(
    task: Task,
    one: Weights,
    other: Weights,
    points: int = POINTS,
    *,
    data: Any = None,
    device: str | None = None,
) -> Barrier:
    """Measure the loss along the straight line w(t) = (1−t)·w₀ + t·w₁.

    Its `Barrier.height` is max_t [L(w(t)) − (1−t)·L(w₀) − t·L(w₁)]: two checkpoints with height 0
    are linearly connected (Frankle, Dziugaite, Roy and Carbin 2020, arXiv 1912.05671). L is the
    task's loss in evaluation mode over all its data. All floating-point parameters are
    interpolated; floating-point buffers (batch norm's running statistics) are too, and not
    estimated anew, other buffers are those of the nearer end.

    Args:
        task: the model (its own weights do not matter), data and loss.
        one: w₀, a state dict or a checkpoint file.
        other: w₁.
        points: evenly spaced t, both ends among them; a peak between two of them is missed.
        data: evaluate on these instead of the task's own, for instance on held-out data.
        device: where to compute; None keeps the model's own.

    Raises:
        InputError: weights that do not fit the model, a loss that is not finite there, fewer than 3
            points, data for a potential.
    """
    check_points(points)
    with undisturbed():
        land = Landscape(task, data, device)
        return straight(land, land.place(one), land.place(other), points)


def straight(land: Landscape, one: Place, other: Place, points: int) -> Barrier:
    """Measure the straight line between two places."""
    grid = np.linspace(0, 1, points)
    losses = land.losses(lambda t: blended((one, other), (1 - t, t), t), grid.tolist())
    for name, loss in (("first", losses[0]), ("second", losses[-1])):
        if not np.isfinite(loss):
            raise InputError(
                f"the loss at the {name} checkpoint is {loss}: check the data and the loss at "
                "these weights"
            )
    return Barrier(grid, np.array(losses), land.resolution(max(losses[0], losses[-1])))


def check_points(points: int) -> None:
    """Refuse a grid that has no inside."""
    if isinstance(points, bool) or not isinstance(points, int) or points < 3:
        raise InputError(f"points is {points!r}, expected a whole number of at least 3")
