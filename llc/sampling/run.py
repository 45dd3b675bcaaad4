"""Warm-up and production of one posterior: settings in, draws out, per-chain status kept."""

import math
from dataclasses import dataclass

import numpy as np
import torch

from llc.diagnostics import diverged, ess, mcse, rhat
from llc.posterior import Posterior
from llc.sampling.chains import Draws, Report, Streams, advance
from llc.sampling.curvature import CurvatureProbe
from llc.sampling.kernel import Kernel
from llc.sampling.schemes import scheme_for
from llc.sampling.warmup import VIRIAL_TOLERANCE, WarmUp, warm_up
from llc.settings import Settings

__all__ = ["DEFAULT_BUDGET", "Samples", "batch_size_for", "sample"]

DEFAULT_BUDGET = 400_000
FULL_BATCH_UP_TO = 4096
MINIBATCH = 512
BATCH_GROWTH = 4
MOST_STRAIN = 4.0
CHUNK = 50
FIRST_CHECK = 100
CHECK_GROWTH = 1.25
LEAST_ESS = 100
MOST_RHAT = 1.05
AUDIT_PROBES = 5
COLD_PROBES = 15


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
        heat: relative over-estimate by minibatch noise, from its closed form; 0 on all data.
        stiffness: h²a or εa at the chains' last positions, a the largest curvature there.
        stiffness_aim: the same number as the automatic step aims at.
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
    stiffness: float
    stiffness_aim: float


def batch_size_for(settings: Settings, size: int | None) -> int | None:
    """Return the batch size of a run, None for all data."""
    if size is None:
        return None
    if settings.batch_size is not None:
        return None if settings.batch_size == size else settings.batch_size
    return None if size <= FULL_BATCH_UP_TO else MINIBATCH


def sample(posterior: Posterior, settings: Settings, report: Report) -> Samples:
    """Run burn-in and production as settings say; None in a setting means decide here.

    A batch size left open grows fourfold, up to the size that counts as small data, while
    keeping minibatch heat down would slow the chains more than fourfold: what a larger batch
    costs in time it then gives back in steps.
    """
    scheme = scheme_for(settings.sampler)
    chains = settings.chains
    batch_size = batch_size_for(settings, posterior.surface.size)
    budget = settings.budget or DEFAULT_BUDGET
    spent = 0
    while True:
        streams = Streams.open(posterior, settings.seed, chains, batch_size)
        warm = warm_up(
            posterior,
            scheme,
            streams,
            seed=settings.seed,
            chains=chains,
            step_size=settings.step_size,
            steps=settings.burn_in,
            most=max(1, (budget - spent) // (2 * chains)),
            report=report,
        )
        spent += warm.evaluations
        fixed = settings.batch_size is not None or batch_size in (None, FULL_BATCH_UP_TO)
        if fixed or warm.strain <= MOST_STRAIN or spent > budget // 2:
            break
        batch_size = min(BATCH_GROWTH * (batch_size or 0), FULL_BATCH_UP_TO)
    kernel = scheme.build(posterior.evaluate, posterior.gamma, warm.step_size, warm.friction)
    if settings.draws is not None:
        draws, extra, reached = _fixed(kernel, warm, streams, settings.draws, report), 0, None
    else:
        most = max(CHUNK, (budget - spent) // chains)
        draws, extra, reached = _until(
            kernel, warm, streams, most, settings.precision, posterior.dimension, report
        )
    gone = diverged(draws.rise, draws.spread, posterior.dimension)
    evaluations = spent + chains * (extra + draws.length)
    power = 2 if scheme.kinetic else 1
    heat, stiffness = 0.0, math.nan
    if not gone.any():
        curvature, noise, spent = _audit(posterior, warm, streams, settings)
        evaluations += spent
        stiffness = curvature * warm.step_size**power
        friction = warm.friction if scheme.kinetic else None
        heat = _heat(warm.step_size, friction, noise, float(draws.rise.mean()))
    return Samples(
        draws,
        gone,
        posterior.dimension,
        warm.step_size,
        warm.friction if scheme.kinetic else None,
        warm.steps + extra,
        batch_size,
        evaluations,
        reached,
        heat,
        stiffness,
        scheme.step_for(1.0) ** power,
    )


def _audit(
    posterior: Posterior, warm: WarmUp, streams: Streams, settings: Settings
) -> tuple[float, float, int]:
    """Largest curvature and tr Cov(nβ∇L_B) where the chains ended, and gradients spent."""
    probe = warm.curvature
    rounds = AUDIT_PROBES
    if probe is None:
        probe, rounds = CurvatureProbe(posterior, settings.seed, settings.chains), COLD_PROBES
    before = probe.evaluations
    here = warm.state.displacement
    gradients = [probe.iterate(here, streams.batch()).gradient for _ in range(rounds)]
    noise = 0.0
    if streams.batches is not None:
        # Independent batches at one place: their sample variance is the covariance's trace.
        noise = torch.stack(gradients).var(0).sum(1).mean().item()
    spent = probe.evaluations - before + rounds * settings.chains
    return probe.largest, noise, spent


def _heat(step_size: float, friction: float | None, noise: float, llc: float) -> float:
    """Relative over-estimate of λ̂ by gradient noise of covariance trace trΣ.

    Kinetic (h²/8)·coth(Γh/2)·trΣ/λ̂, first order ε·trΣ/(8λ̂): the stationary variance of a mode
    is raised by that share of its own for every unit of noise.
    """
    if noise == 0 or step_size == 0 or not llc > 0:
        return 0.0
    if friction is None:
        return step_size / 8 * noise / llc
    return step_size**2 / 8 / math.tanh(friction * step_size / 2) * noise / llc


def _fixed(kernel: Kernel, warm: WarmUp, streams: Streams, count: int, report: Report) -> Draws:
    parts = []
    for start in range(0, count, CHUNK):
        steps = min(CHUNK, count - start)
        warm.state, part = advance(kernel, warm.state, streams, steps)
        parts.append(part)
        report("draws", start + steps, count)
    return Draws.join(parts)


def _until(
    kernel: Kernel,
    warm: WarmUp,
    streams: Streams,
    most: int,
    precision: float,
    dimension: int,
    report: Report,
) -> tuple[Draws, int, bool]:
    """Draw until the 95 % interval is narrow enough *and* the virial is 1, or ``most`` steps.

    A narrow interval counts only with a hundred effective draws and chains that agree: its own
    width is not known otherwise.

    A virial still off 1 when the interval is narrow enough says that burn-in ended too early:
    the older half of the draws is then moved to burn-in. Production is at least half as long
    as the warm-up was, so that a slow mode had time to show itself.
    """
    parts, discarded, taken = [], 0, 0
    check = max(FIRST_CHECK, warm.steps // 2)
    while taken < most:
        steps = min(CHUNK, most - taken)
        warm.state, part = advance(kernel, warm.state, streams, steps)
        parts.append(part)
        taken += steps
        report("draws", taken - discarded, None)
        if taken - discarded < check and taken < most:
            continue
        draws = Draws.join(parts)
        gone = diverged(draws.rise, draws.spread, dimension)
        if gone.all():
            return draws, discarded, False
        kept = draws.chains(~gone)
        llc, error = kept.rise.mean(), mcse(kept.rise)
        narrow = error <= precision / 2 * abs(llc) and ess(kept.rise) >= LEAST_ESS
        narrow = narrow and not rhat(kept.rise) > MOST_RHAT
        balanced = abs(kept.virial(dimension).mean() - 1) <= VIRIAL_TOLERANCE
        if narrow and balanced:
            return draws, discarded, True
        if narrow and draws.length >= 2 * FIRST_CHECK and taken < most:
            older = draws.length // 2
            discarded += older
            draws = draws.window(older)
        parts = [draws]
        check = max(FIRST_CHECK, int(CHECK_GROWTH * draws.length))
    return Draws.join(parts), discarded, False
