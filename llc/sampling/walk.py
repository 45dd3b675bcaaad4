"""One warm-up in the making: current step and friction, curvature probe, gradient noise."""

import math
from typing import Any

from torch import Tensor

from llc.params import NoiseStreams
from llc.posterior import Posterior
from llc.sampling.chains import Draws, Streams
from llc.sampling.curvature import CurvatureProbe
from llc.sampling.kernel import Kernel, StepInfo
from llc.sampling.schemes import LEAST_FRICTION, MOST_FRICTION, WARM_FRICTION, Scheme

__all__ = ["Walk"]

FIRST_PROBES = 10
EARLY_STEPS = 40
PROBE_EVERY = 10
RAMP_FROM = 1 / 50
RAMP = 1.1
HEAT_LIMIT = 0.02
COOLINGS = 3
RETREAT = 16.0


class Walk:
    """The mutable part of a warm-up."""

    def __init__(
        self,
        posterior: Posterior,
        scheme: Scheme,
        streams: Streams,
        seed: int,
        chains: int,
        step_size: float | None,
        curvature: float,
    ) -> None:
        self.posterior, self.scheme, self.streams = posterior, scheme, streams
        self.friction = WARM_FRICTION * posterior.gamma**0.5
        self.evaluations = 0
        self.gradient_noise = 0.0
        self.strain = 1.0
        self.given = step_size
        self.chains = chains
        self.probe = (
            None if step_size is not None else CurvatureProbe(posterior, seed, chains, curvature)
        )
        self.step_size = step_size if step_size is not None else 0.0
        if self.probe is not None:
            for _ in range(FIRST_PROBES):
                self.probe.iterate(posterior.start(chains), streams.batch())
            self.evaluations += 2 * FIRST_PROBES * chains
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
