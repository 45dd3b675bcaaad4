"""Warm-up and production of one posterior: settings in, draws out, per-chain status kept."""

import copy
import math
from dataclasses import dataclass, replace

import numpy as np

from llc.diagnostics import Array, diverged
from llc.posterior import Posterior
from llc.sampling.audit import Audit, audit_of
from llc.sampling.chains import Draws, Report
from llc.sampling.course import Course
from llc.sampling.nonfinite import met_nan
from llc.sampling.production import Production
from llc.sampling.walk import Start
from llc.sampling.warmup import WarmUp
from llc.settings import Settings

__all__ = ["Samples", "minibatch_heat", "sample", "sample_stack", "samples_of"]


@dataclass(frozen=True)
class Samples:
    """Production draws of all chains, and how they were made.

    Attributes:
        draws: of every chain, diverged ones included.
        diverged: which chains left for infinity, shape ``(chains,)``.
        dimension: D.
        step_size: the frozen step.
        friction: Γ, or None for first-order samplers.
        burn_in: discarded steps a chain.
        batch_size: examples a gradient, or None for all.
        evaluations: gradient evaluations, all chains together, nothing left out.
        reached: whether the precision asked for was reached; None when ``draws`` was given.
        heat: relative over-estimate by minibatch noise, from its closed form; 0 on all data, nan
            under a thermostat.
        heat_bound: at most that: the same number, with no thermostat to take any of it up.
        discretisation: over-estimate by the step itself in LLC units, to first order; 0 for
            samplers that are exact on quadratics, nan where it was not measured.
        stiffness: h²a or εa at the chains' last positions, a the largest curvature there.
        stiffness_aim: the same number as the automatic step aims at.
        acceptance: mean probability of acceptance; nan where nothing is ever refused.
        tensor_virials: the virial tensor by tensor in the layout's order, and its standard errors.
        burn_in_rise: nβ(L_B − L_B(w*)) of what came before the draws, ``(chains, steps)``, from the
            last restart.
        execution: how it was computed, in words.
        end: where all chains of the run ended, for another to go on from.
        met_nan: how many of the diverged chains met nan where they should be, instead of running
            away first.
        nan_restarts: how often chains met nan before, and all were started again.
    """

    draws: Draws
    diverged: np.ndarray
    dimension: int
    step_size: float
    friction: float | None
    burn_in: int
    batch_size: int | None
    evaluations: int
    reached: bool | None
    heat: float
    heat_bound: float
    discretisation: float
    stiffness: float
    stiffness_aim: float
    acceptance: float
    tensor_virials: tuple[Array, Array]
    burn_in_rise: Array
    execution: str
    end: Start
    met_nan: int = 0
    nan_restarts: int = 0


def sample(
    posterior: Posterior, settings: Settings, report: Report, start: Start | None = None
) -> Samples:
    """Run burn-in and production as settings say; None in a setting means decide here.

    A batch size left open grows fourfold, up to the size that counts as small data, while
    keeping minibatch heat down would slow the chains more than fourfold: what a larger batch
    costs in time it then gives back in steps.

    Args:
        posterior: what to sample.
        settings: how.
        report: progress callback.
        start: where the chains of an earlier run ended: one with the same settings, on the same
            loss, at another γ. Chains then go on from there, batch size and streams included,
            and are brought to the new equilibrium; None starts at w*.
    """
    return sample_stack(posterior, settings, report, start)[0]


def sample_stack(
    posterior: Posterior, settings: Settings, report: Report, start: Start | None = None
) -> list[Samples]:
    """As `sample`, for each of the checkpoints that a stacked surface holds.

    ``settings.chains`` is that of all together.
    """
    course = Course(posterior, settings, start)
    course.advance(settings, report)
    return samples_of(course)


def samples_of(course: Course, *, more: bool = False) -> list[Samples]:
    """Return what a course has drawn, checkpoint by checkpoint.

    ``more`` leaves it as it is, to be gone on with: what is looked at here, in copies of its
    streams and of its curvature probe, then changes nothing that follows.
    """
    posterior, warm, line, streams = course.posterior, course.warm, course.line, course.streams
    made, end_probe = line.made(course.reached), warm.curvature
    if more:
        warm = replace(warm, curvature=copy.copy(warm.curvature))
        made = replace(made, balance=made.balance.copy())
        batches = None if streams.batches is None else streams.batches.copy()
        streams = replace(streams, batches=batches)
    audit = audit_of(posterior, warm, streams, course.settings, made)
    spent = course.evaluations + audit.evaluations
    copies = posterior.surface.copies
    each = course.settings.chains // copies
    how = f"{course.words}, {warm.stepper.how}"
    end = Start(warm.state, warm.tuning, warm.stepper, course.streams, end_probe)
    parts = []
    for i in range(copies):
        chains = slice(i * each, (i + 1) * each)
        part = _samples(posterior, warm, made, audit, chains, course.batch_size, how, end)
        restarts = course.nan_restarts
        parts.append(replace(part, evaluations=spent // copies, nan_restarts=restarts))
    return parts


def _samples(
    posterior: Posterior,
    warm: WarmUp,
    made: Production,
    audit: Audit,
    chains: slice,
    batch_size: int | None,
    execution: str,
    end: Start,
) -> Samples:
    """What concerns some of the chains."""
    scheme, tuning = warm.stepper.scheme, warm.tuning
    draws = made.draws.chains(chains)
    gone = diverged(draws.rise, draws.spread, posterior.dimension)
    friction = tuning.friction if scheme.friction else None
    stiffness, heat, bound, acceptance = math.nan, 0.0, 0.0, math.nan
    discretisation = math.nan
    if not gone.any() and not scheme.exact:
        stiffness = audit.largest * tuning.step_size**scheme.power
    if not gone.any():
        noise, llc = float(audit.noise[chains].mean()), float(draws.rise.mean())
        bound = minibatch_heat(tuning.step_size, friction, noise, llc)
        # What a thermostat leaves of the heat has no closed form. It holds the mean temperature:
        # mode i is too hot by (B_i − B̄)/(A + B̄) instead of B_i/A, which is more, with A its
        # friction's own noise and B_i that of batches.
        heat = bound if scheme.heats or batch_size is None else math.nan
        push = float(audit.push[chains].mean())
        discretisation = tuning.step_size / 8 * max(push, 0.0) if scheme.euler else 0.0
    if scheme.exact and not gone.all():
        acceptance = float(draws.acceptance[~gone].mean())
    nan = 0
    if gone.any():
        path = Draws.join([*warm.draws, *made.discarded, made.draws]).chains(chains)
        nan = int((met_nan(path, posterior.dimension) & gone).sum())
    return Samples(
        draws,
        gone,
        posterior.dimension,
        tuning.step_size,
        friction,
        warm.steps + sum(part.length for part in made.discarded),
        batch_size,
        0,
        made.reached,
        heat,
        bound,
        discretisation,
        stiffness,
        scheme.step_for(1.0) ** scheme.power,
        acceptance,
        made.balance.by_tensor(_rows(chains, ~gone)),
        _before(warm, made)[chains],
        execution,
        end,
        nan,
    )


def _before(warm: WarmUp, made: Production) -> Array:
    parts = [part.rise for part in [*warm.draws, *made.discarded]]
    return np.concatenate([np.empty((len(made.draws.rise), 0)), *parts], 1)


def _rows(chains: slice, keep: np.ndarray) -> np.ndarray:
    """Indices of the kept ones among some of the chains."""
    return np.flatnonzero(keep) + chains.start


def minibatch_heat(step_size: float, friction: float | None, noise: float, llc: float) -> float:
    """Relative over-estimate of λ̂ by gradient noise of covariance trace trΣ.

    In LLC units it is (h²/8)·coth(Γh/2)·trΣ for kinetic Langevin and (ε/8)·trΣ for first-order
    samplers; the measured λ̂ has it inside, and the share is of what λ̂ would be without.
    """
    if noise == 0 or step_size == 0 or not llc > 0:
        return 0.0
    excess = step_size / 8 * noise
    if friction is not None:
        excess = step_size**2 / 8 / math.tanh(friction * step_size / 2) * noise
    return excess / (llc - excess) if excess < llc else math.inf
