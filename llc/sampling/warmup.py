"""From w* to equilibrium: the step follows the curvature, the virial says when to stop.

Starting all chains at w*, the step size is ramped up from 1/50 of its first guess while power
iteration follows the largest curvature at the chains' own positions. Burn-in ends when one and a
half relaxation times of the slowest mode have passed (3/√γ at critical friction), the virial
(V + R)/D of the later half agrees with its exact expectation 1, and the two quarters of that half
agree on R = γ‖δ‖². Drift of the loss, R-hat and the loss's ESS cannot replace the virial: they are
blind to slow modes.
"""

from dataclasses import dataclass
from typing import Any

from llc.diagnostics import diverged, virial_error
from llc.posterior import Posterior
from llc.sampling.chains import Draws, Recorder, Report, Stepper, Streams, advance
from llc.sampling.curvature import CurvatureProbe
from llc.sampling.kernel import Tuning
from llc.sampling.nonfinite import check_batches, met_nan
from llc.sampling.schemes import Scheme
from llc.sampling.walk import Start, Walk

__all__ = ["VIRIAL_TOLERANCE", "WarmUp", "warm_up"]

BLOCK = 20
CHECK_GROWTH = 1.05
LEAST_STEPS = 60
RELAXATIONS = 1.5
VIRIAL_TOLERANCE = 0.05
SPREAD_TOLERANCE = 0.05
RESCUES = 5
COOLINGS = 4
MOST_STRAIN = 4.0


@dataclass
class WarmUp:
    """How a warm-up ended.

    Attributes:
        state: the kernel's last state, to go on from.
        tuning: what production keeps frozen.
        stepper: builds its kernels.
        steps: steps taken, a chain.
        draws: of the steps since the last restart, in order.
        evaluations: gradient evaluations, all chains together.
        curvature: the probe, warm, for an audit of the step later on; None with a given step.
        growing: whether a larger batch should be tried: minibatch noise slows the chains more than
            fourfold.
        cut: whether budget or time ended it before the virial, or the cooling after it.
        nan_restarts: how often chains met nan, and all were started again with smaller steps.
    """

    state: Any
    tuning: Tuning
    stepper: Stepper
    steps: int
    draws: list[Draws]
    evaluations: int
    curvature: CurvatureProbe | None
    growing: bool
    cut: bool
    nan_restarts: int = 0


def warm_up(
    posterior: Posterior,
    scheme: Scheme,
    streams: Streams,
    *,
    seed: int,
    chains: int,
    step_size: float | None,
    curvature: float,
    steps: int | None,
    budget: int,
    growing: bool,
    report: Report,
    start: Start | None = None,
) -> WarmUp:
    """Bring chains from w*, or from an earlier run's end, to equilibrium and settle the step.

    Args:
        posterior: what to sample.
        scheme: the sampler.
        streams: noise and batches.
        seed: seeds curvature directions and first momenta.
        chains: number of chains.
        step_size: a given step, used as it is; None follows the curvature.
        curvature: least curvature to assume, from an earlier try that lost chains.
        steps: length when it is given; None lets the virial decide.
        budget: most gradients of all chains when ``steps`` is None.
        growing: whether a larger batch may be tried, and this warm-up ended for it.
        report: progress callback.
        start: where chains of an earlier run, at another γ, ended; None for w*.
    """
    stepper = Stepper(posterior, scheme) if start is None else start.stepper
    walk = Walk(posterior, stepper, streams, seed, chains, step_size, curvature, start)
    most = max(1, budget // (chains * posterior.cost))
    limit = most if steps is None else steps
    strained = arrived = False
    blocks: list[Draws] = []
    kept: Draws | None = None
    taken, total, next_check, elapsed, rescues, nan_restarts = 0, 0, 0, 0.0, 0, 0
    while taken < limit and total < max(limit, most):
        late = posterior.surface.execution.late(0.5)
        if steps is None and total and (walk.evaluations >= budget or late):
            break
        length = min(max(1, BLOCK // walk.tuning.leaps), limit - taken)
        recorder = Recorder(length)
        for _ in range(length):
            recorder.add(walk.step(taken))
            taken += 1
            total += 1
            elapsed += 1 / scheme.relaxation(walk.tuning)
            if steps is None and posterior.surface.execution.late(0.5):
                break
        blocks.append(recorder.draws())
        walk.heed(float(blocks[-1].acceptance.mean()))
        report("burn-in", taken, steps)
        nan = _met_nan(walk, blocks[-1], first=rescues == 0)
        gone = diverged(blocks[-1].rise, blocks[-1].spread, posterior.dimension)
        if gone.any() and walk.probe is not None and rescues < RESCUES:
            rescues += 1
            nan_restarts += nan
            walk.retreat()
            blocks, taken, next_check, elapsed = [], 0, 0, 0.0
            continue
        if gone.all():
            break
        if taken < max(next_check, 2 * BLOCK) and taken < limit:
            continue
        next_check = int(CHECK_GROWTH * taken)
        strained = growing and walk.strain() > MOST_STRAIN
        if strained:
            break
        kept = Draws.join(blocks[len(blocks) // 2 :]).chains(~gone)
        enough = taken >= LEAST_STEPS and elapsed >= RELAXATIONS
        if steps is None and enough and _in_equilibrium(kept, posterior.dimension, walk.hot()):
            arrived = True
            break
    if not strained:
        cooled = _cool(walk, kept, max(most - total, 0))
        blocks += cooled
        total += sum(part.length for part in cooled)
    return WarmUp(
        walk.state,
        walk.tuning,
        stepper,
        total,
        blocks,
        walk.evaluations,
        walk.probe,
        strained or (growing and walk.strain() > MOST_STRAIN),
        steps is None and not (arrived and total < most),
        nan_restarts,
    )


def _met_nan(walk: Walk, block: Draws, *, first: bool) -> bool:
    """Whether chains met nan; the first time whether w* itself has it is looked at too."""
    nan = bool(met_nan(block, walk.posterior.dimension).any())
    if nan and first:
        check_batches(walk.posterior, walk.streams, walk.evaluations)
    return nan


def _cool(walk: Walk, kept: Draws | None, most: int) -> list[Draws]:
    """Settle friction and step, and let the chains lose the heat of a warm-up without limit."""
    parts: list[Draws] = []
    for _ in range(COOLINGS):
        cooling = min(walk.settle(kept), most - sum(part.length for part in parts))
        if not cooling:
            break
        kernel = walk.stepper.kernel(walk.tuning, walk.chains)
        walk.state, cooled = advance(kernel, walk.state, walk.streams, cooling)
        walk.evaluations += cooling * walk.chains * walk.posterior.cost
        parts.append(cooled)
        kept = cooled.window(cooling // 2)
        if not walk.too_hot(float(kept.rise.mean())):
            break
    return parts


def _in_equilibrium(half: Draws, dimension: int, hot: float) -> bool:
    """Whether the later half of a warm-up looks like equilibrium, its virial between 1 and hot."""
    virial = half.virial(dimension)
    middle = half.length // 2
    drift = abs(half.spread[:, middle:].mean() - half.spread[:, :middle].mean())
    size = max(dimension, half.spread.mean())
    tolerance = SPREAD_TOLERANCE * size + 2 * virial_error(half.spread)
    slack = VIRIAL_TOLERANCE + virial_error(virial)
    arrived = 1 - slack <= virial.mean() <= hot + slack
    return bool(arrived and drift <= tolerance)
