"""Stages of a smooth curve through a run: where it rises, falls, or does neither."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from llc.changepoints import scale_of
from llc.diagnostics import Array
from llc.errors import InputError
from llc.smoothing import Smooth, smooth
from llc.trajectory import Trajectory
from llc.transitions.result import Stage

__all__ = ["Stages", "curve_columns", "cut", "find_stages"]

FEWEST = 6
SIGNIFICANT = 2.0
ENDS_DIFFER = 3.0


@dataclass(frozen=True)
class Stages:
    """A smooth curve in ln step, cut where its slope vanishes.

    Attributes:
        stages: in order; each ends where the next begins.
        curve: by checkpoint: ``"step"``, ``"mean"``, ``"sd"``, ``"slope"``, ``"slope_sd"``.
        length: correlation length of the curve, in ln step.
    """

    stages: tuple[Stage, ...]
    curve: dict[str, list[float]]
    length: float


def find_stages(trajectory: Trajectory) -> Stages:
    """Cut a run into stages by the slope dλ̂/d ln t of a smooth curve.

    Stages of Hoogland et al. 2024 (arXiv 2402.02364) meet where that slope is zero. Here it has an
    error: a stretch over which it is within two standard deviations of zero is a stage of its own,
    called flat, unless the curve at its ends differs by more than three. The curve is a Gaussian
    process in ln step (`llc.smoothing`), whatever clock
    `find_transitions` finds likeliest, so that slopes of all decades can be compared.

    Args:
        trajectory: what `llc.trace` returned; step 0 and checkpoints without a number are left out.

    Raises:
        InputError: fewer than six checkpoints are left.
    """
    good = np.isfinite(trajectory.llc) & (trajectory.mcse > 0) & (trajectory.steps > 0)
    if good.sum() < FEWEST:
        raise InputError(
            f"{trajectory.name} has {good.sum()} checkpoints to use, expected at least {FEWEST}"
        )
    steps, values = trajectory.steps[good], trajectory.llc[good]
    variances = trajectory.mcse[good] ** 2
    curve = smooth(np.log(steps), values, variances, scale_of(values, variances))
    return Stages(cut(steps, curve), curve_columns(steps, curve), curve.length)


def cut(steps: Array, curve: Smooth) -> tuple[Stage, ...]:
    """Cut a smooth curve where its slope vanishes."""
    sign = np.where(np.abs(curve.slope) > SIGNIFICANT * curve.slope_sd, np.sign(curve.slope), 0)
    for a, b in _runs(sign):
        change = curve.mean[b] - curve.mean[a]
        if sign[a] == 0 and abs(change) > ENDS_DIFFER * np.hypot(curve.sd[a], curve.sd[b]):
            # What no slope shows by itself the stretch as a whole does.
            sign[a : b + 1] = np.sign(change)
    changes = np.flatnonzero(np.diff(sign)) + 1
    # A stage that began at the last checkpoint would have no steps.
    cuts = [0, *changes[changes < len(sign) - 1], len(sign)]
    names: dict[int, Literal["rising", "falling", "flat"]]
    names = {1: "rising", -1: "falling", 0: "flat"}
    return tuple(
        Stage(float(steps[a]), float(steps[min(b, len(steps) - 1)]), names[int(sign[a])])
        for a, b in pairwise(cuts)
    )


def _runs(sign: Array) -> list[tuple[int, int]]:
    """First and last position of each stretch of one sign."""
    cuts = [0, *(np.flatnonzero(np.diff(sign)) + 1).tolist(), len(sign)]
    return [(a, b - 1) for a, b in pairwise(cuts)]


def curve_columns(steps: Array, curve: Smooth) -> dict[str, list[float]]:
    """Return a smooth curve by checkpoint, as plain lists."""
    columns = {"step": steps, "mean": curve.mean, "sd": curve.sd}
    columns |= {"slope": curve.slope, "slope_sd": curve.slope_sd}
    return {name: [float(x) for x in column] for name, column in columns.items()}
