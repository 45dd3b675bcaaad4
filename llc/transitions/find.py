"""From a trajectory to its transitions: fit, compare, resample, sift."""

import numpy as np
from numpy.typing import NDArray

from llc.changepoints import Segmentation, level, segment
from llc.diagnostics import Array
from llc.errors import InputError
from llc.estimation import Estimate, Reason
from llc.smoothing import Smooth
from llc.trajectory import Trajectory
from llc.transitions.models import Fit, fit, local_height
from llc.transitions.resampling import deviations
from llc.transitions.result import Plateau, Stage, Transition, Transitions, Verdict

__all__ = ["FEWEST", "MARGIN", "SIGNIFICANT", "find_in_curve", "find_transitions"]

FEWEST = 6
MARGIN = 3.0
SIGNIFICANT = 4.0
SUPPORT = 0.5
TAIL = 0.05
RESAMPLES = 200
DOUBT = 3.0
MEANS_ELSE = {
    Reason.ABOVE_CHANCE, Reason.NEGATIVE, Reason.STEP_TOO_LARGE, Reason.HEATED, Reason.ALL_DIVERGED,
}  # fmt: skip

Gap = tuple[int, int]
"""Indices of the last point before a transition and the first after it."""


def find_transitions(
    trajectory: Trajectory, *, resamples: int = RESAMPLES, seed: int = 0, keep_failed: bool = False
) -> Transitions:
    """Find abrupt changes of the LLC over training, or say that there are none.

    The curve is fitted by plateaus joined by transitions, by a smooth curve in ln step, and by a
    constant (`llc.changepoints`, `llc.smoothing`); jumps are reported only where their evidence
    beats both others by 3 nats and their height is four standard errors, limits set on simulated
    curves without jumps (docs/transitions.md). It is the LLC itself that is fitted, not its
    logarithm: increments of λ add up, and an estimate may be zero or negative.

    Args:
        trajectory: what `llc.trace` returned.
        resamples: of the chains, the same at every checkpoint, for intervals and standard errors.
        seed: of the resampling.
        keep_failed: give checkpoints whose verdict is fail a full say. Without it those whose
            number means something else are left out (above chance, negative, step or heat too
            large), and those that have not converged are held for three times less certain than
            they say; no plateau rests on such checkpoints alone.

    Raises:
        InputError: fewer than six checkpoints that can be used.
    """
    left_out: dict[int, str] = {}
    doubted: dict[int, str] = {}
    kept, errors = [], []
    for point in trajectory.points:
        e = point.estimate
        doubt = None if keep_failed else _doubt(e)
        if not (np.isfinite(e.llc) and np.isfinite(e.mcse)):
            left_out[point.step] = "not measured"
            continue
        if doubt is not None and set(e.verdict.reasons) & MEANS_ELSE and not _nothing_to_leave(e):
            left_out[point.step] = doubt
            continue
        if doubt is not None:
            doubted[point.step] = doubt
        kept.append(point)
        errors.append(e.mcse if doubt is None else DOUBT * max(e.mcse, e.errors.total))
    if len(kept) < FEWEST:
        lost = "".join(f"; step {step} is left out, {why}" for step, why in [*left_out.items()][:1])
        raise InputError(
            f"{trajectory.name} has {len(kept)} checkpoints to use, expected at least {FEWEST}{lost}"
        )
    moved = deviations([p.estimate for p in kept], resamples, seed)
    own = np.array([p.estimate.mcse for p in kept])
    return find_in_curve(
        np.array([p.step for p in kept], float),
        np.array([p.estimate.llc for p in kept]),
        np.array(errors),
        moved * np.where(own > 0, np.array(errors) / np.where(own > 0, own, 1), 1),
        doubtful=np.array([p.step in doubted for p in kept]),
        name=trajectory.name,
        left_out=left_out,
        doubted=doubted,
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

    Raises:
        InputError: fewer than six points, steps that do not rise, or values that are not finite.
    """
    steps, values, errors = (np.asarray(a, float) for a in (steps, values, errors))
    _check(steps, values, errors)
    # An error of zero would give one point all the say: no less than a thousandth of the median.
    errors = np.maximum(errors, max(1e-3 * float(np.median(errors)), 1e-9 * np.abs(values).max(), 1e-300))
    if resampled is None:
        resampled = errors * np.random.default_rng(0).standard_normal((RESAMPLES, len(steps)))
    places = np.log(np.maximum(steps, _first_place(steps)))
    fitted = fit(places, values, errors)
    sound = np.full(len(steps), True) if doubtful is None else ~doubtful
    plateaus = _sift(fitted, values, resampled, sound)
    gaps = _gaps(plateaus, len(values))
    found = _transitions(fitted, places, values, errors, resampled, plateaus)
    ahead = fitted.evidence["jumps"] - max(fitted.evidence["smooth"], fitted.evidence["constant"])
    verdict: Verdict = "jumps"
    if ahead < MARGIN or not found or not gaps:
        smooth_ahead = fitted.evidence["smooth"] - fitted.evidence["constant"]
        verdict = "smooth" if smooth_ahead > 0 else "constant"
        found, plateaus = [], []
    return Transitions(
        found,
        name=name,
        verdict=verdict,
        evidence=fitted.evidence,
        plateaus=tuple(_plateau(p, steps, values, fitted, resampled) for p in plateaus),
        stages=_stages(steps, fitted.smooth),
        curve=_curve(steps, fitted.smooth),
        jitter=fitted.jitter,
        left_out=left_out,
        doubted=doubted,
    )


def _doubt(e: Estimate) -> str | None:
    """Why an estimate failed, or None."""
    if e.verdict.status != "fail":
        return None
    reasons = dict(zip(e.verdict.reasons, e.verdict.sentences, strict=True))
    if _nothing_to_leave(e):
        reasons.pop(Reason.ABOVE_CHANCE, None)
        # What is left may only have been a warning, and does not say which it was.
        if not set(reasons) & MEANS_ELSE and not _unconverged(e):
            return None
    return f"verdict fail: {next(iter(reasons.values())).partition(':')[0]}"


def _unconverged(e: Estimate) -> bool:
    """Whether the verdict fails for want of convergence: its own limits."""
    return abs(e.virial - 1) > 0.1 or e.rhat > 1.2 or not e.ess >= 10


def _nothing_to_leave(e: Estimate) -> bool:
    """Whether a loss above chance says nothing: chance itself is below one nat in nβ·chance.

    Towards its own outputs a checkpoint that still ignores its inputs is as good as a blind guess,
    and any chain is above that.
    """
    chance = e.chance if e.settings.behavioural else None
    return chance is not None and (e.settings.n_beta or 0.0) * chance < 1


def _check(steps: Array, values: Array, errors: Array) -> None:
    if steps.ndim != 1 or not steps.shape == values.shape == errors.shape or len(steps) < FEWEST:
        raise InputError(
            f"steps, values and errors have shapes {steps.shape}, {values.shape} and {errors.shape}, "
            f"expected one and the same number of points, at least {FEWEST}"
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


def _sift(
    fitted: Fit, values: Array, resampled: Array, sound: NDArray[np.bool_]
) -> list[tuple[int, int]]:
    """Merge plateaus whose levels are not significantly apart, the least significant first."""
    plateaus = [p for p in fitted.segmentation.plateaus if sound[slice(*p)].any()]
    while len(plateaus) > 1:
        scores = [
            abs(jump) / error
            for jump, error in (
                _height(values, resampled, fitted, a, b) for a, b in zip(plateaus, plateaus[1:], strict=False)
            )
        ]
        weakest = int(np.argmin(scores))
        if scores[weakest] >= SIGNIFICANT:
            break
        plateaus[weakest : weakest + 2] = [(plateaus[weakest][0], plateaus[weakest + 1][1])]
    return plateaus


def _height(
    values: Array, resampled: Array, fitted: Fit, before: tuple[int, int], after: tuple[int, int]
) -> tuple[float, float]:
    """Difference of two levels and its standard error."""
    jump = float(level(values, fitted.variances, after) - level(values, fitted.variances, before))
    moved = level(resampled, fitted.variances, after) - level(resampled, fitted.variances, before)
    drift = _drift(values, fitted, before) ** 2 + _drift(values, fitted, after) ** 2
    return jump, float(np.sqrt(moved.var() + drift))


def _drift(values: Array, fitted: Fit, plateau: tuple[int, int]) -> float:
    """What the jitter adds to a level's error; not averaged down, since drift is no white noise."""
    return fitted.jitter * float(local_height(values)[slice(*plateau)].mean())


def _gaps(plateaus: list[tuple[int, int]], count: int) -> list[Gap]:
    """Where transitions lie: between plateaus, and at the ends where the curve is on none."""
    if not plateaus:
        return []
    inner = [(a[1] - 1, b[0]) for a, b in zip(plateaus, plateaus[1:], strict=False)]
    first, last = plateaus[0][0], plateaus[-1][1]
    return [
        *([(0, first)] if first > 0 else []),
        *inner,
        *([(last - 1, count - 1)] if last < count else []),
    ]


def _transitions(
    fitted: Fit,
    places: Array,
    values: Array,
    errors: Array,
    resampled: Array,
    plateaus: list[tuple[int, int]],
) -> list[Transition]:
    gaps = _gaps(plateaus, len(values))
    # A resampled curve has the errors of the estimates and those of the resampling.
    wider = fitted.variances + errors**2
    cuts = [segment(values + moved, wider, fitted.scale) for moved in resampled]
    found = []
    for gap in gaps:
        jump, error = _jump(values, resampled, fitted, plateaus, gap)
        if abs(jump) < SIGNIFICANT * error:
            continue
        near = [_matching(cut, values + moved, gap, jump) for cut, moved in zip(cuts, resampled, strict=True)]
        ends = np.array([places[list(other)] for other in near if other is not None]).reshape(-1, 2)
        support = len(ends) / len(near)
        if support < SUPPORT:
            continue
        low = min(places[gap[0]], float(np.quantile(ends[:, 0], TAIL)))
        high = max(places[gap[1]], float(np.quantile(ends[:, 1], 1 - TAIL)))
        inner = any(gap == (a[1] - 1, b[0]) for a, b in zip(plateaus, plateaus[1:], strict=False))
        kind = ("up" if jump > 0 else "down") if inner else "plateau edge"
        found.append(
            Transition(
                float(np.exp(_half_way(places, values, gap))),
                (float(np.exp(low)), float(np.exp(high))),
                jump,
                error,
                kind,
                support,
            )
        )
    return found


def _jump(
    values: Array, resampled: Array, fitted: Fit, plateaus: list[tuple[int, int]], gap: Gap
) -> tuple[float, float]:
    """Height across a gap; at an end of the curve, from its outermost point."""
    before = next((p for p in plateaus if p[1] - 1 == gap[0]), (gap[0], gap[0] + 1))
    after = next((p for p in plateaus if p[0] == gap[1]), (gap[1], gap[1] + 1))
    return _height(values, resampled, fitted, before, after)


def _matching(cut: Segmentation, values: Array, gap: Gap, jump: float) -> Gap | None:
    """The transition of a resample that shares an interval with a gap and goes the same way."""
    for other in _gaps(list(cut.plateaus), len(values)):
        same_way = (values[other[1]] - values[other[0]]) * jump > 0
        if same_way and min(other[1], gap[1]) > max(other[0], gap[0]):
            return other
    return None


def _half_way(places: Array, values: Array, gap: Gap) -> float:
    """Where the curve crosses the middle between the gap's ends, linear between checkpoints."""
    first, last = gap
    half = (values[first] + values[last]) / 2
    side = np.sign(values[first : last + 1] - half)
    k = first + int(np.argmax(side[1:] != side[0]))
    share = (half - values[k]) / (values[k + 1] - values[k])
    return float(places[k] + np.clip(share, 0, 1) * (places[k + 1] - places[k]))


def _plateau(
    plateau: tuple[int, int], steps: Array, values: Array, fitted: Fit, resampled: Array
) -> Plateau:
    error = float(level(resampled, fitted.variances, plateau).std())
    total = float(np.hypot(error, _drift(values, fitted, plateau)))
    height = float(level(values, fitted.variances, plateau))
    return Plateau(float(steps[plateau[0]]), float(steps[plateau[1] - 1]), height, total)


def _stages(steps: Array, curve: Smooth) -> tuple[Stage, ...]:
    """Cut the smooth curve where its slope vanishes."""
    sign = np.where(np.abs(curve.slope) > 2 * curve.slope_sd, np.sign(curve.slope), 0)
    cuts = [0, *(np.flatnonzero(np.diff(sign)) + 1), len(sign)]
    names = {1: "rising", -1: "falling", 0: "flat"}
    return tuple(
        Stage(float(steps[a]), float(steps[min(b, len(steps) - 1)]), names[int(sign[a])])
        for a, b in zip(cuts, cuts[1:], strict=False)
    )


def _curve(steps: Array, curve: Smooth) -> dict[str, list[float]]:
    columns = {"step": steps, "mean": curve.mean, "sd": curve.sd}
    columns |= {"slope": curve.slope, "slope_sd": curve.slope_sd}
    return {name: [float(x) for x in column] for name, column in columns.items()}
