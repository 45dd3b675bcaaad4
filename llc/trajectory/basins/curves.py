"""A curve of low loss between two checkpoints: Bézier, its bends found by Adam."""

import math
from typing import Any

import numpy as np
import torch
from scipy.special import binom
from torch import Tensor

from llc.diagnostics import Array
from llc.errors import InputError
from llc.isolation import undisturbed
from llc.params import stream_seed
from llc.task import Task
from llc.trajectory.basins.landscape import Landscape, Place, Weights, blended
from llc.trajectory.basins.lines import POINTS, Barrier, check_points, straight

__all__ = ["BENDS", "BUDGET", "check_curve", "curve", "curved"]

BENDS = 2
BUDGET = 2000
TIMES = 4
RATE = 0.05
SHAKE = 0.01
LOOKS = 8
FINER = 4
WHOLE, BATCH = 4096, 512
FINE = 1001


def curve(
    task: Task,
    one: Weights,
    other: Weights,
    points: int = POINTS,
    *,
    bends: int = BENDS,
    budget: int = BUDGET,
    batch_size: int | None = None,
    seed: int = 0,
    data: Any = None,
    device: str | None = None,
) -> Barrier:
    """Look for a curve between two checkpoints along which the loss stays low.

    The curve is a Bézier curve w(s) = Σ_k C(m,k)(1−s)^(m−k)s^k·θ_k of degree m = ``bends`` + 1
    with θ₀ and θ_m at the checkpoints; with one bend it is that of Garipov, Izmailov,
    Podoprikhin, Vetrov and Wilson (2018, arXiv 1802.10026; the same question, by another method:
    Draxler et al. 2018, arXiv 1803.00885). Adam minimises E_s L(w(s)), s uniform, from evenly
    spaced bends, shaken by 1 % of the distance lest they rest on a saddle. Its step is 5 % of the
    distance per root of D, falling to 0, so that units of weights do not matter. It ends early
    where no barrier is left above rounding.

    What is returned is an upper bound on the lowest barrier there is: of the bends seen on the
    way, those of the lowest; the straight line itself if none is lower. Heights are measured with
    t as the fraction of the curve's length.

    Args:
        task: the model (its own weights do not matter), data and loss.
        one: w₀, a state dict or a checkpoint file.
        other: w₁.
        points: evenly spaced t at which the loss of the straight line is measured, over all data;
            that of the curve at four times as many, since it may avoid any few.
        bends: control points between the ends; each costs D numbers.
        budget: most gradient evaluations, four a step, at stratified s.
        batch_size: examples of a gradient; all up to 4096, else 512, if None.
        seed: of s, batches and the shake.
        data: optimise and evaluate on these instead of the task's own.
        device: where to compute; None keeps the model's own.

    Returns:
        The barrier along the curve; its ``line`` is that of the straight line.

    Raises:
        InputError: as `barrier`; fewer bends, budget or batch than 1.
    """
    check_points(points)
    check_curve(bends, budget, batch_size)
    with undisturbed():
        land = Landscape(task, data, device)
        ends = land.place(one), land.place(other)
        line = straight(land, *ends, points)
        return curved(land, *ends, line, bends, budget, batch_size, seed)


def check_curve(bends: int, budget: int, batch_size: int | None) -> None:
    """Refuse numbers that make no curve."""
    for name, value in (("bends", bends), ("budget", budget), ("batch_size", batch_size)):
        whole = isinstance(value, int) and not isinstance(value, bool)
        if value is not None and not (whole and value >= 1):
            raise InputError(f"{name} is {value!r}, expected a whole number of at least 1")


def curved(
    land: Landscape,
    one: Place,
    other: Place,
    line: Barrier,
    bends: int,
    budget: int,
    batch_size: int | None,
    seed: int,
) -> Barrier:
    """Optimise a curve that begins as the given line; return the lowest seen."""
    best, spent = line, 0
    distance = (other.vector - one.vector).double().norm().item()
    if distance > 0 and line.height > line.resolution:
        course = _Course(land, one, other, bends, distance, batch_size, seed)
        steps = -(-budget // TIMES)
        looks = {math.ceil(steps * (k + 1) / LOOKS) for k in range(LOOKS)}
        for step in range(1, steps + 1):
            course.step(1 - (step - 1) / steps)
            spent += TIMES
            if step in looks:
                best = min(
                    best, course.measure(FINER * (len(line.t) - 1) + 1), key=lambda b: b.height
                )
                if best.height <= line.resolution:
                    break
    return Barrier(best.t, best.loss, line.resolution, "curve", line, spent)


class _Course:
    """A Bézier curve in the making."""

    def __init__(
        self,
        land: Landscape,
        one: Place,
        other: Place,
        bends: int,
        distance: float,
        batch_size: int | None,
        seed: int,
    ) -> None:
        self.land, self.ends, self.degree = land, (one, other), bends + 1
        draw = torch.Generator().manual_seed(stream_seed(seed, "curve", 0))
        self._draw = draw
        scale = distance / math.sqrt(len(one.vector))
        shares = [k / self.degree for k in range(1, self.degree)]
        between = torch.stack([torch.lerp(one.vector, other.vector, share) for share in shares])
        noise = torch.randn(between.shape, generator=draw, dtype=between.dtype)
        self.bends = between + SHAKE * scale * noise.to(between.device)
        self.bends.requires_grad_()
        self._rate = RATE * scale
        self._adam = torch.optim.Adam([self.bends], lr=self._rate)
        size = land.size or 0
        self._batch = batch_size or (size if size <= WHOLE else BATCH)

    def at(self, s: float) -> Place:
        """Return w(s); buffers at the share of s."""
        return blended(self._controls(), self._shares(s), s)

    def step(self, share: float) -> None:
        """Take one step of Adam, on gradients at one s of each quarter."""
        total = torch.zeros_like(self.bends)
        for quarter in range(TIMES):
            s = (quarter + torch.rand((), generator=self._draw).item()) / TIMES
            # One at a time: each has buffers of its own, which its gradient still needs.
            gradient = self.land.gradient(self.at(s), self._index())
            shares = torch.tensor(self._shares(s)[1:-1], dtype=total.dtype, device=total.device)
            total += shares[:, None] * gradient
        if not total.isfinite().all():
            return
        self._adam.param_groups[0]["lr"] = self._rate * share
        self.bends.grad = total / TIMES
        self._adam.step()

    def measure(self, points: int) -> Barrier:
        """Measure the loss at even fractions of the curve's length."""
        s, lengths = np.linspace(0, 1, FINE), self._lengths()
        even = np.interp(np.linspace(0, 1, points), lengths, s)
        even[0], even[-1] = 0.0, 1.0
        losses = np.array(self.land.losses(self.at, even.tolist()))
        return Barrier(np.linspace(0, 1, points), losses, 0.0, "curve")

    def _controls(self) -> tuple[Place, ...]:
        one, other = self.ends
        return one, *(Place(bend, ()) for bend in self.bends.detach()), other

    def _shares(self, s: float) -> list[float]:
        m = self.degree
        return [float(binom(m, k)) * (1 - s) ** (m - k) * s**k for k in range(m + 1)]

    def _index(self) -> Tensor | None:
        size = self.land.size
        if size is None or self._batch >= size:
            return None
        return torch.randint(size, (self._batch,), generator=self._draw).to(self.land.device)

    def _lengths(self) -> Array:
        """Fraction of the length gone at each s: from inner products of the controls alone."""
        controls = torch.stack([place.vector for place in self._controls()]).double()
        # Shares of a move add up to zero: what all controls have in common would only round.
        controls = controls - controls[0]
        inner = (controls @ controls.T).cpu().numpy()
        shares = np.array([self._shares(s) for s in np.linspace(0, 1, FINE)])
        moves = np.diff(shares, axis=0)
        squares = np.einsum("si,ij,sj->s", moves, inner, moves)
        gone = np.concatenate([[0.0], np.cumsum(np.sqrt(np.maximum(squares, 0)))])
        return gone / gone[-1]
