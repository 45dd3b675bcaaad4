"""From a trajectory to its transitions: fit, compare, resample, sift."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from llc.diagnostics import Array
from llc.errors import InputError
from llc.estimation import Reason
from llc.trajectory import Trajectory
from llc.transitions.belief import believe
from llc.transitions.gaps import describe, sift, transitions
from llc.transitions.models import fit
from llc.transitions.resampling import deviations
from llc.transitions.result import Transitions, Verdict
from llc.transitions.stages import curve_columns, cut

__all__ = ["FEWEST", "MARGIN", "find_in_curve", "find_transitions"]

FEWEST = 6
MARGIN = 3.0
RESAMPLES = 200


def find_transitions(
    trajectory: Trajectory, *, resamples: int = RESAMPLES, seed: int = 0, keep_failed: bool = False
) -> Transitions:
    """Find abrupt changes of the LLC over training, or say that there are none.

    The curve is fitted by plateaus joined by transitions, by a smooth curve, and by a constant
    (`llc.changepoints`, `llc.smoothing`); jumps are reported only where their evidence beats both
    others by 3 nats and their height is four standard errors. Of 1,080 simulated curves without
    jumps .37 % had any by these limits (benchmarks/transition_nulls.py). It is the LLC itself that
    is fitted, not its logarithm: increments of λ add up, and an estimate may be zero or negative.

    Args:
        trajectory: what `llc.trace` returned.
        resamples: of the chains, the same at every checkpoint, for intervals and standard errors.
        seed: of the resampling.
        keep_failed: give checkpoints whose verdict is fail a full say. Without it those whose
            number means something else (negative, step or heat too large) are left out; those
            that have not converged, or sampled above chance, are held for three times less certain
            than they say, and no plateau rests on such checkpoints alone. So are, failed or not,
            checkpoints that are no minimum of the training loss.

    Raises:
        InputError: fewer than six checkpoints that can be used.
    """
    heard = believe(trajectory.points, keep_failed)
    if len(heard.points) < FEWEST:
        lost = [f"; step {step} is left out, {why}" for step, why in heard.left_out.items()]
        raise InputError(
            f"{trajectory.name} has {len(heard.points)} checkpoints to use, expected at least "
            f"{FEWEST}{''.join(lost[:1])}"
        )
    estimates = [point.estimate for point in heard.points]
    own, errors = np.array([e.mcse for e in estimates]), np.array(heard.errors)
    louder = np.divide(errors, own, out=np.ones_like(own), where=own > 0)
    return find_in_curve(
        np.array([point.step for point in heard.points], float),
        np.array([e.llc for e in estimates]),
        errors,
        deviations(estimates, resamples, seed) * louder,
        doubtful=np.array([point.step in heard.doubted for point in heard.points]),
        name=trajectory.name,
        left_out=heard.left_out,
        doubted=heard.doubted,
        prior_dominated=[
            point.step
            for point in heard.points
            if Reason.PRIOR_DOMINATED in point.estimate.verdict.reasons
        ],
    )


def find_in_curve(
    steps: Array,
    values: Array,
    errors: Array,
    resampled: Array | None = None,
    *,
    doubtful: NDArray[np.bool_] | None = None,
    name: str = "curve",
    left_out: dict[int, str] | None = None,
    doubted: dict[int, str] | None = None,
    prior_dominated: Sequence[int] = (),
) -> Transitions:
    """Find transitions in a curve that came from anywhere.

    Args:
        steps: rising, at least 0, shape ``(points,)``.
        values: LLC, same shape.
        errors: its standard errors, same shape.
        resampled: deviations by resampling, shape ``(resamples, points)``; independent normal ones
            of the errors' size unless given.
        doubtful: points on which alone no plateau may rest.
        name: for messages.
        left_out: passed on to the result.
        doubted: passed on to the result.
        prior_dominated: passed on to the result.

    Raises:
        InputError: fewer than six points, steps that do not rise, or values that are not finite.
    """
    steps, values, errors = (np.asarray(a, float) for a in (steps, values, errors))
    _check(steps, values, errors)
    # An error of zero would give one point all the say.
    floor = max(1e-3 * float(np.median(errors)), 1e-6 * float(np.abs(values).max()), 1e-12)
    errors = np.maximum(errors, floor)
    if resampled is None:
        resampled = errors * np.random.default_rng(0).standard_normal((RESAMPLES, len(steps)))
    places = np.log(np.maximum(steps, _first_place(steps)))
    fitted = fit(places, values, errors)
    sound = np.full(len(steps), True) if doubtful is None else ~doubtful
    plateaus = sift(fitted, values, resampled, sound)
    found = transitions(fitted, places, values, errors, resampled, plateaus, sound)
    ahead = fitted.evidence["jumps"] - max(fitted.evidence["smooth"], fitted.evidence["constant"])
    verdict: Verdict = "jumps"
    if ahead < MARGIN or not found:
        smooth_ahead = fitted.evidence["smooth"] - fitted.evidence["constant"]
        verdict = "smooth" if smooth_ahead > 0 else "constant"
        found, plateaus = [], []
    return Transitions(
        found,
        name=name,
        verdict=verdict,
        evidence=fitted.evidence,
        plateaus=tuple(describe(p, steps, values, fitted, resampled) for p in plateaus),
        stages=cut(steps, fitted.smooth),
        curve=curve_columns(steps, fitted.smooth),
        jitter=fitted.jitter,
        left_out=left_out,
        doubted=doubted,
        prior_dominated=prior_dominated,
    )


def _check(steps: Array, values: Array, errors: Array) -> None:
    if steps.ndim != 1 or not steps.shape == values.shape == errors.shape or len(steps) < FEWEST:
        raise InputError(
            f"steps, values and errors have shapes {steps.shape}, {values.shape} and "
            f"{errors.shape}, expected one and the same number of points, at least {FEWEST}"
        )
    if not (np.diff(steps) > 0).all() or steps[0] < 0:
        raise InputError("steps do not rise from 0 or more: sort them, each once")
    if not (np.isfinite(values).all() and np.isfinite(errors).all() and (errors >= 0).all()):
        raise InputError("values or errors are not finite: leave those points out")


def _first_place(steps: Array) -> float:
    """Where step 0 goes in ln step: as far below the first step as that is below the second."""
    if steps[0] > 0:
        return float(steps[0])
    return float(steps[1] ** 2 / steps[2])
