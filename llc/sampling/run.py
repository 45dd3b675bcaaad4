"""Warm-up and production of one posterior: settings in, draws out, per-chain status kept."""

import math
from dataclasses import dataclass, replace

import numpy as np

from llc.diagnostics import Array, diverged
from llc.errors import InputError
from llc.posterior import Posterior
from llc.sampling.audit import Audit, audit_of
from llc.sampling.chains import Draws, Report, Streams
from llc.sampling.production import Production, produce
from llc.sampling.schemes import scheme_for
from llc.sampling.walk import Start
from llc.sampling.warmup import WarmUp, warm_up
from llc.settings import Settings

__all__ = [
    "DEFAULT_BUDGET",
    "Samples",
    "batch_size_for",
    "minibatch_heat",
    "sample",
    "sample_stack",
]

DEFAULT_BUDGET = 100_000
FULL_BATCH_UP_TO = 4096
MINIBATCH = 512
BATCH_GROWTH = 4
MOST_ESCAPES = 4


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


def batch_size_for(settings: Settings, size: int | None) -> int | None:
    """Return the batch size of a run, None for all data.

    Raises:
        InputError: a minibatch for a sampler with a Metropolis test.
    """
    if size is None:
        return None
    if scheme_for(settings.sampler).exact:
        if settings.batch_size not in (None, size):
            raise InputError(
                f"batch_size is {settings.batch_size}, but {settings.sampler} accepts or refuses "
                f"by the loss over all {size} examples: leave it out, or use sampler='kinetic'"
            )
        return None
    if settings.batch_size is not None:
        return None if settings.batch_size == size else settings.batch_size
    return None if size <= FULL_BATCH_UP_TO else MINIBATCH


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
    scheme = scheme_for(settings.sampler)
    chains = settings.chains
    batch_size = batch_size_for(settings, posterior.surface.size)
    if start is not None and batch_size is not None:
        batch_size = start.streams.batch_size
    budget = settings.budget or DEFAULT_BUDGET * chains
    spent, escapes, curvature = 0, 0, 0.0
    while True:
        if batch_size is None:
            # All data have no error to correct.
            posterior = replace(posterior, control_variate=False)
        words = posterior.surface.plan(chains, batch_size)
        # Before anything long begins: what it will take.
        getattr(report, "say", _silent)(words)
        if start is None:
            streams = Streams.open(posterior, settings.seed, chains, batch_size)
        else:
            streams = replace(start.streams, batch_size=batch_size or 0)
        left = budget - spent
        warm = warm_up(
            posterior,
            scheme,
            streams,
            seed=settings.seed,
            chains=chains,
            step_size=settings.step_size,
            curvature=curvature,
            steps=settings.burn_in,
            budget=left // 2,
            growing=settings.batch_size is None and batch_size not in (None, FULL_BATCH_UP_TO),
            report=report,
            start=start,
        )
        spent += warm.evaluations
        late = posterior.surface.execution.late(0.5)
        if warm.growing and spent <= budget // 2 and not late:
            batch_size = min(BATCH_GROWTH * (batch_size or 0), FULL_BATCH_UP_TO)
            continue
        # Exact samplers take several gradients a draw, control variates two.
        most = (budget - spent) // (chains * warm.tuning.leaps * posterior.cost)
        made = produce(posterior, warm, streams, settings, most, report)
        spent += made.evaluations
        tried = escapes == MOST_ESCAPES or spent > budget // 2
        if made.escaped is None or tried or posterior.surface.execution.late(0.5):
            break
        # Places far steeper than those of the warm-up exist: once more, prepared for them.
        escapes += 1
        curvature = made.escaped
    audit = audit_of(posterior, warm, streams, settings, made)
    spent += audit.evaluations
    copies = posterior.surface.copies
    each = chains // copies
    how = f"{words}, {warm.stepper.how}"
    tuning = warm.tuning
    end = Start(warm.state, tuning, warm.stepper, streams, warm.curvature)
    parts = [
        _samples(
            posterior, warm, made, audit, slice(i * each, (i + 1) * each), batch_size, how, end
        )
        for i in range(copies)
    ]
    return [replace(part, evaluations=spent // copies) for part in parts]


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
    )


def _before(warm: WarmUp, made: Production) -> Array:
    parts = [part.rise for part in [*warm.draws, *made.discarded]]
    return np.concatenate([np.empty((len(made.draws.rise), 0)), *parts], 1)


def _rows(chains: slice, keep: np.ndarray) -> np.ndarray:
    """Indices of the kept ones among some of the chains."""
    return np.flatnonzero(keep) + chains.start


def _silent(_text: str) -> None:
    pass


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
