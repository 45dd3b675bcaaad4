"""One warm-up in the making: current step and friction, curvature probe, gradient noise."""

import math
from typing import Any, NamedTuple

from torch import Tensor

from llc.params import NoiseStreams
from llc.posterior import Posterior
from llc.sampling.chains import Draws, Stepper, Streams
from llc.sampling.curvature import CurvatureProbe
from llc.sampling.kernel import StepInfo, Tuning
from llc.sampling.nonfinite import check_evaluation
from llc.sampling.schemes import LEAST_FRICTION, MOST_FRICTION, WARM_FRICTION

__all__ = ["Start", "Walk"]

FIRST_PROBES = 10
EARLY_STEPS = 40
PROBE_EVERY = 10
RAMP_FROM = 1 / 50
RAMP = 1.1
HEAT_LIMIT = 0.02
MOST_WARM_HEAT = 0.2
COOLINGS = 3
RETREAT = 16.0
LEAST_ACCEPTANCE = 0.6
MOST_ACCEPTANCE = 0.9
SHORTEN = 0.8


class Start(NamedTuple):
    """Where chains of one run ended, for a run at another γ of the same loss to go on from.

    Attributes:
        state: the kernel's last state; positions and momenta are kept, nothing is rescaled.
        tuning: the last step, friction and what else production kept.
        stepper: its recordings serve any γ.
        streams: noise and batches, which go on where they were.
        probe: the curvature probe, warm; None with a given step.
    """

    state: Any
    tuning: Tuning
    stepper: Stepper
    streams: Streams
    probe: CurvatureProbe | None


class Walk:
    """The mutable part of a warm-up."""

    def __init__(
        self,
        posterior: Posterior,
        stepper: Stepper,
        streams: Streams,
        seed: int,
        chains: int,
        step_size: float | None,
        curvature: float,
        start: Start | None = None,
    ) -> None:
        self.posterior, self.stepper, self.streams = posterior, stepper, streams
        self.scheme = stepper.scheme
        self.evaluations = 0
        self.gradient_noise = 0.0
        self.given = step_size
        self.chains = chains
        self.caution = 1.0
        friction = WARM_FRICTION * posterior.gamma**0.5
        self.tuning = Tuning(posterior.n_beta, posterior.gamma, step_size or 0.0, friction)
        self.probe: CurvatureProbe | None = None
        if step_size is None and start is not None and start.probe is not None:
            self.probe = start.probe.at(posterior, curvature)
        elif step_size is None:
            self.probe = CurvatureProbe(posterior, seed, chains, curvature)
        self._seed, self._start = seed, None if start is None else start.state
        self.kernel = self.stepper.kernel(self.tuning, chains)
        self.state = self.fresh()
        first = step_size or 0.0
        if self.probe is not None and start is None:
            for _ in range(FIRST_PROBES):
                batch = streams.batch()
                here = self.probe.iterate(self.state.displacement, batch, self._scale())
                check_evaluation(posterior.surface, here, batch)
            self.evaluations += 2 * FIRST_PROBES * chains * posterior.cost
            first = RAMP_FROM * self._aim()
        elif self.probe is not None and start is not None:
            first = min(start.tuning.step_size, self._aim())
        self._set_step(first)

    def fresh(self) -> Any:
        """A state at w*, kinetic ones with momenta drawn from their equilibrium.

        Where an earlier run is gone on from: at its last positions, with its last momenta, whose
        equilibrium knows no γ.
        """
        # Tensors of its own: steps may overwrite a state.
        last = self._start
        position = self.posterior.start(self.chains) if last is None else last.displacement.clone()
        state = self.kernel.init(position)
        if self.scheme.exact:
            self.evaluations += self.chains
        if not self.scheme.momentum:
            return state
        return state._replace(momentum=self._momenta() if last is None else last.momentum.clone())

    def _momenta(self) -> Tensor:
        surface = self.posterior.surface
        streams = NoiseStreams(self._seed, "momentum", self.chains, surface.device, surface.copies)
        return streams.normal(self.posterior.dimension, surface.layout.dtype)

    def _scale(self) -> Tensor | None:
        return None if self.scheme.scale is None else self.scheme.scale(self.state)

    def _aim(self) -> float:
        assert self.probe is not None
        return self.caution * self.scheme.step_for(self.probe.largest)

    def _set_step(self, step_size: float, **changes: Any) -> None:
        leaps = self.scheme.leaps(self.posterior.gamma, step_size)
        self.tuning = self.tuning._replace(step_size=step_size, leaps=leaps, **changes)
        self.kernel = self.stepper.kernel(self.tuning, self.chains)

    def step(self, number: int) -> StepInfo:
        """Take one step; probe curvature and gradient noise when their turn has come."""
        batch = self.streams.batch()
        kernel = self.kernel
        cost = kernel.gradients * self.chains * self.posterior.cost
        turn = number < EARLY_STEPS or number % PROBE_EVERY == 0
        if self.probe is not None and turn:
            here = self.probe.iterate(self.state.displacement, batch, self._scale())
            self.evaluations += self.chains * self.posterior.cost
            if self.scheme.exact:
                # It looks at places of its own, and the look here was for the probe alone.
                self.evaluations += self.chains
            else:
                kernel = self.stepper.plain(self.tuning, lambda *_: here)
            if batch is not None and number % PROBE_EVERY == 0:
                self._measure_noise(self.state.displacement, here.gradient)
            self._set_step(min(RAMP * self.tuning.step_size, self._aim()))
            if self.hot() > 1 + MOST_WARM_HEAT:
                self._cool(4 * MOST_WARM_HEAT * self.posterior.dimension / self.gradient_noise)
        self.evaluations += cost
        noise = self.streams.step_noise(kernel)
        self.state, info = kernel.step(self.state, batch, noise)
        return info

    def heed(self, acceptance: float) -> None:
        """Shorten the step of a sampler that refuses too often; lengthen it again later."""
        if not self.scheme.exact or self.probe is None:
            return
        if acceptance < LEAST_ACCEPTANCE:
            self.caution *= SHORTEN
            self._set_step(SHORTEN * self.tuning.step_size)
        elif acceptance > MOST_ACCEPTANCE:
            self.caution = min(RAMP * self.caution, 1.0)

    def _measure_noise(self, displacement: Tensor, gradient: Tensor) -> None:
        """Two independent batches at the same place: E‖√P(g₁ − g₂)‖² = 2 tr PΣ."""
        other = self.posterior.evaluate(displacement, self.streams.batch()).gradient
        self.evaluations += self.chains * self.posterior.cost
        scale = self._scale()
        difference = gradient - other if scale is None else scale * (gradient - other)
        seen = (difference**2).sum(1).mean().item() / 2
        if math.isfinite(seen):
            # It grows as chains leave w*, where noiseless labels have none: weigh the recent.
            self.gradient_noise += 0.5 * (seen - self.gradient_noise)

    def _coupling(self) -> float:
        """h²·coth(Γh/2), or ε at first order: what noise in the gradient is multiplied by."""
        t = self.tuning
        if not self.scheme.heats or t.step_size == 0:
            return 0.0
        if not self.scheme.friction:
            return t.step_size
        return t.step_size**2 / math.tanh(t.friction * t.step_size / 2)

    def hot(self) -> float:
        """What the virial is in equilibrium at the present step, minibatch noise included.

        A mode's variance is too large by a quarter of the coupling times Σ_ii/a, whatever its
        curvature a, which adds up to a quarter of the coupling times trΣ/D.
        """
        return 1 + self._coupling() * self.gradient_noise / (4 * self.posterior.dimension)

    def too_hot(self, llc: float) -> bool:
        """Whether noise raises an LLC by half as much again as it may."""
        return self._coupling() * self.gradient_noise / 8 > 1.5 * HEAT_LIMIT * max(llc, 0.5)

    def settle(self, half: Draws | None) -> int:
        """Fix friction and step for production, heat by minibatch noise kept below its limit.

        A mode of curvature a decorrelates fastest at Γ ≈ √a. The modes that make X vary have
        curvature 2γVar(X)/Cov(X, R) in the (harmonic) mean on a quadratic: soft ones where the
        prior holds most directions, stiff ones where the loss does; Γ stays within 2…8 √γ.

        Returns:
            Steps in which those modes lose the heat of a warm-up that knew no limit to it.
        """
        self.tuning = self.tuning._replace(frozen=True)
        if half is None or (not self.scheme.friction and self.gradient_noise == 0):
            return 0
        x, r = half.rise, half.spread
        shared = float(((x - x.mean()) * (r - r.mean())).mean())
        ratio = 2 * float(x.var() - half.noise.mean()) / shared if shared > 0 else math.inf
        factor = min(max(max(ratio, 0.0) ** 0.5, LEAST_FRICTION), MOST_FRICTION)
        if math.isnan(factor):
            factor = MOST_FRICTION
        gamma = self.posterior.gamma
        self.tuning = self.tuning._replace(friction=factor * gamma**0.5)
        if self.gradient_noise == 0 or self.given is not None or not self.scheme.heats:
            return 0
        # Of which the draws so far have more than their share.
        excess = self._coupling() * self.gradient_noise / 8
        cold = max(float(x.mean()) ** 2 / (float(x.mean()) + excess), 0.5)
        self._cool(8 * HEAT_LIMIT * cold / self.gradient_noise)
        return math.ceil(COOLINGS * self._pace(factor**2 * gamma)) if self.strain() > 1 else 0

    def strain(self) -> float:
        """How many times slower chains move than they would without minibatch noise."""
        if self.probe is None or self.gradient_noise == 0:
            return 1.0
        free = self.tuning._replace(step_size=self._aim())
        if self.scheme.friction:
            free = free._replace(friction=WARM_FRICTION * self.posterior.gamma**0.5)
        return self.scheme.relaxation(self.tuning) / self.scheme.relaxation(free)

    def _pace(self, curvature: float) -> float:
        """Steps in which a mode of given curvature relaxes at the present step and friction."""
        return self.scheme.relaxation(self.tuning._replace(gamma=curvature))

    def _cool(self, most: float) -> None:
        """Lower the step, or raise friction, until the coupling to noise is at most so much."""
        if not self.scheme.friction:
            self._set_step(min(self.tuning.step_size, most))
            return
        self._set_step(min(self.tuning.step_size, (most / 1.05) ** 0.5))
        coth = most / self.tuning.step_size**2
        needed = 2 * math.atanh(1 / coth) / self.tuning.step_size
        self._set_step(self.tuning.step_size, friction=max(self.tuning.friction, needed))

    def retreat(self) -> None:
        """Restart as if the curvature were sixteen times what was seen."""
        assert self.probe is not None
        self.probe.largest *= RETREAT
        self._set_step(RAMP_FROM * self._aim())
        self.state = self.fresh()
