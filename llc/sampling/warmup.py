"""From w* to equilibrium: the step follows the curvature, the virial says when to stop.

Starting all chains at w*, the step size is ramped up from 1/50 of its first guess while power
iteration follows the largest curvature at the chains' own positions. Burn-in ends when two
relaxation times of the slowest mode have passed, the virial (V + R)/D of the later half agrees
with its exact expectation 1, and the two quarters of that half agree on R = γ‖δ‖². Drift of the
loss, R-hat and the loss's ESS cannot replace the virial: they are blind to slow modes.
"""

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from llc.diagnostics import diverged, virial_error
from llc.params import NoiseStreams
from llc.posterior import Posterior
from llc.sampling.chains import Draws, Report, Streams, advance
from llc.sampling.curvature import CurvatureProbe
from llc.sampling.kernel import Kernel, StepInfo
from llc.sampling.schemes import LEAST_FRICTION, MOST_FRICTION, WARM_FRICTION, Scheme

__all__ = ["WarmUp", "warm_up"]

FIRST_PROBES = 10
EARLY_STEPS = 40
PROBE_EVERY = 10
CHECK_EVERY = 20
RAMP_FROM = 1 / 50
RAMP = 1.1
LEAST_STEPS = 60
RELAXATIONS = 2.0
VIRIAL_TOLERANCE = 0.05
SPREAD_TOLERANCE = 0.05
HEAT_LIMIT = 0.02
COOLINGS = 3
RESCUES = 5
RETREAT = 16.0


@dataclass
class WarmUp:
    """How a warm-up ended.

    Attributes:
        state: the kernel's last state, to go on from.
        step_size: the step to freeze.
        friction: Γ for production (unused by first-order samplers).
        steps: steps taken, a chain.
        evaluations: gradient evaluations, all chains together.
        equilibrated: whether the criteria were met before ``most`` steps were used up.
        curvature: the probe, warm, for an audit of the step later on; None with a given step.
        gradient_noise: tr Cov(nβ∇L_B) at the chains' positions; 0 on the full batch.
        virial: of the later half, all chains.
        rescues: restarts at w* with a smaller step after chains left for infinity.
        strain: how many times slower chains move than without minibatch noise; 1 on all data.
    """

    state: Any
    step_size: float
    friction: float
    steps: int
    evaluations: int
    equilibrated: bool
    curvature: CurvatureProbe | None
    gradient_noise: float
    virial: float
    rescues: int
    strain: float


class _Walk:
    """The mutable part of a warm-up: current step, friction, probe and reports."""

    def __init__(
        self,
        posterior: Posterior,
        scheme: Scheme,
        streams: Streams,
        seed: int,
        chains: int,
        step_size: float | None,
    ) -> None:
        self.posterior, self.scheme, self.streams = posterior, scheme, streams
        self.friction = WARM_FRICTION * posterior.gamma**0.5
        self.evaluations = 0
        self.gradient_noise = 0.0
        self.strain = 1.0
        self.given = step_size
        self.chains = chains
        self.probe = None if step_size is not None else CurvatureProbe(posterior, seed, chains)
        self.step_size = step_size if step_size is not None else 0.0
        if self.probe is not None:
            for _ in range(FIRST_PROBES):
                self.probe.iterate(posterior.start(chains), streams.batch())
            self.evaluations += FIRST_PROBES * chains
            self.step_size = RAMP_FROM * scheme.step_for(self.probe.largest)
        self.kernel = self._kernel(posterior.evaluate)
        momenta = NoiseStreams(seed, "momentum", chains, posterior.surface.device)
        self._momentum = momenta.normal(posterior.dimension, posterior.surface.layout.dtype)
        self.state = self.fresh()

    def fresh(self) -> Any:
        """A state at w*, kinetic ones with momenta drawn from their equilibrium."""
        state = self.kernel.init(self.posterior.start(self.chains))
        return state._replace(momentum=self._momentum) if self.scheme.kinetic else state

    def _kernel(self, evaluate: Any) -> Kernel:
        return self.scheme.build(evaluate, self.posterior.gamma, self.step_size, self.friction)

    def step(self, number: int) -> StepInfo:
        """Take one step; probe curvature and gradient noise when their turn has come."""
        batch = self.streams.batch()
        kernel = self.kernel
        turn = number < EARLY_STEPS or number % PROBE_EVERY == 0
        if self.probe is not None and turn:
            here = self.probe.iterate(self.state.displacement, batch)
            kernel = self._kernel(lambda *_: here)
            largest = self.scheme.step_for(self.probe.largest)
            if batch is not None and number % PROBE_EVERY == 0:
                self._measure_noise(self.state.displacement, here.gradient)
            self.step_size = min(RAMP * self.step_size, largest)
            self.kernel = self._kernel(self.posterior.evaluate)
            self.evaluations += self.chains
        self.evaluations += self.chains
        self.state, info = kernel.step(self.state, batch, self.streams.step_noise())
        return info

    def _measure_noise(self, displacement: Tensor, gradient: Tensor) -> None:
        """Two independent batches at the same place: E‖g₁ − g₂‖² = 2 tr Σ."""
        other = self.posterior.evaluate(displacement, self.streams.batch()).gradient
        self.evaluations += self.chains
        seen = ((gradient - other) ** 2).sum(1).mean().item() / 2
        if math.isfinite(seen):
            # It grows as chains leave w*, where noiseless labels have none: weigh the recent.
            self.gradient_noise += 0.5 * (seen - self.gradient_noise)

    def settle(self, half: Draws | None) -> int:
        """Fix friction and step for production, heat by minibatch noise kept below its limit.

        A mode of curvature a decorrelates fastest at Γ ≈ √a. The modes that make X vary have
        curvature 2γVar(X)/Cov(X, R) in the (harmonic) mean on a quadratic: soft ones where the
        prior holds most directions, stiff ones where the loss does; Γ stays within 2…8 √γ.

        Returns:
            Steps in which those modes lose the heat of a warm-up that knew no limit to it.
        """
        if half is None:
            return 0
        x, r = half.rise, half.spread
        shared = float(((x - x.mean()) * (r - r.mean())).mean())
        ratio = 2 * float(x.var() - half.noise.mean()) / shared if shared > 0 else math.inf
        factor = min(max(max(ratio, 0.0) ** 0.5, LEAST_FRICTION), MOST_FRICTION)
        if math.isnan(factor):
            factor = MOST_FRICTION
        gamma = self.posterior.gamma
        self.friction = factor * gamma**0.5
        if self.gradient_noise == 0 or self.given is not None:
            return 0
        free = self._pace(gamma)
        self._cool(float(x.mean()))
        self.strain = self._pace(gamma) / free
        return math.ceil(COOLINGS * self._pace(factor**2 * gamma)) if self.strain > 1 else 0

    def _pace(self, curvature: float) -> float:
        """Steps in which a mode of given curvature relaxes at the present step and friction."""
        return self.scheme.relaxation(self.step_size, curvature, self.friction)

    def _cool(self, llc: float) -> None:
        """Lower the step, or raise friction, until heat is below its limit."""
        # Of h²·coth(Γh/2) or, first order, of ε: heat is an eighth of it times noise over λ̂.
        allowed = 8 * HEAT_LIMIT * max(llc, 0.5) / self.gradient_noise
        if not self.scheme.kinetic:
            self.step_size = min(self.step_size, allowed)
            return
        self.step_size = min(self.step_size, (allowed / 1.05) ** 0.5)
        coth = allowed / self.step_size**2
        needed = 2 * math.atanh(1 / coth) / self.step_size
        self.friction = max(self.friction, needed)

    def retreat(self) -> None:
        """Restart at w* as if the curvature were sixteen times what was seen."""
        assert self.probe is not None
        self.probe.largest *= RETREAT
        self.step_size = RAMP_FROM * self.scheme.step_for(self.probe.largest)
        self.kernel = self._kernel(self.posterior.evaluate)
        self.state = self.fresh()


def warm_up(
    posterior: Posterior,
    scheme: Scheme,
    streams: Streams,
    *,
    seed: int,
    chains: int,
    step_size: float | None,
    steps: int | None,
    most: int,
    report: Report,
) -> WarmUp:
    """Bring chains from w* to equilibrium and settle the step.

    Args:
        posterior: what to sample.
        scheme: the sampler.
        streams: noise and batches.
        seed: seeds curvature directions and first momenta.
        chains: number of chains.
        step_size: a given step, used as it is; None follows the curvature.
        steps: length when it is given; None lets the virial decide.
        most: longest warm-up in steps a chain when ``steps`` is None.
        report: progress callback.
    """
    walk = _Walk(posterior, scheme, streams, seed, chains, step_size)
    infos: list[StepInfo] = []
    elapsed, rescues, equilibrated, virial = 0.0, 0, False, 0.0
    kept: Draws | None = None
    limit = most if steps is None else steps
    total = 0
    while len(infos) < limit and total < max(limit, most):
        infos.append(walk.step(len(infos)))
        total += 1
        elapsed += 1 / scheme.relaxation(walk.step_size, posterior.gamma, walk.friction)
        if len(infos) % CHECK_EVERY and len(infos) != limit:
            continue
        report("burn-in", len(infos), steps)
        half = Draws.of(infos[len(infos) // 2 :])
        gone = diverged(half.rise, half.spread, posterior.dimension)
        if gone.any() and walk.probe is not None and rescues < RESCUES:
            rescues += 1
            walk.retreat()
            infos, elapsed = [], 0.0
            continue
        if gone.all():
            break
        kept = half.chains(~gone)
        equilibrated, virial = _judge(kept, posterior.dimension)
        enough = len(infos) >= LEAST_STEPS and elapsed >= RELAXATIONS
        equilibrated = equilibrated and enough
        if steps is None and equilibrated:
            break
    cooling = min(walk.settle(kept), total)
    if cooling:
        kernel = scheme.build(posterior.evaluate, posterior.gamma, walk.step_size, walk.friction)
        walk.state, _ = advance(kernel, walk.state, streams, cooling)
        total += cooling
        walk.evaluations += cooling * chains
    return WarmUp(
        walk.state,
        walk.step_size,
        walk.friction,
        total,
        walk.evaluations,
        equilibrated,
        walk.probe,
        walk.gradient_noise,
        virial,
        rescues,
        walk.strain,
    )


def _judge(half: Draws, dimension: int) -> tuple[bool, float]:
    """Whether the later half looks like equilibrium, and its virial."""
    virial = half.virial(dimension)
    mean, error = float(virial.mean()), virial_error(virial)
    if half.length < 2:
        return False, mean
    middle = half.length // 2
    early, late = half.spread[:, :middle].mean(), half.spread[:, middle:].mean()
    drift = abs(late - early)
    tolerance = SPREAD_TOLERANCE * dimension + 2 * virial_error(half.spread)
    settled = math.isfinite(mean) and abs(mean - 1) <= VIRIAL_TOLERANCE + error
    return bool(settled and drift <= tolerance), mean
