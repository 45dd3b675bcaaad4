"""Where chains ended: curvature, gradient noise and push there, looked at once a run is over."""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from llc.params import NoiseStreams
from llc.posterior import Posterior
from llc.sampling.blocks import suits
from llc.sampling.chains import Streams
from llc.sampling.curvature import FORGET, REACH, CurvatureProbe
from llc.sampling.production import Production
from llc.sampling.warmup import WarmUp
from llc.settings import Settings

__all__ = ["Audit", "audit_of"]

AUDIT_PROBES = 5
COLD_PROBES = 15
WARM_PROBES = 3


class Audit(NamedTuple):
    """Where chains ended.

    Attributes:
        largest: largest curvature there.
        noise: tr P·Cov(nβ∇L_B) there, ``(chains,)``, P the preconditioner; 0 on all data.
        push: ‖√P nβ∇L‖² there, ``(chains,)``, noise taken out.
        evaluations: gradients spent on finding out.
    """

    largest: float
    noise: np.ndarray
    push: np.ndarray
    evaluations: int


def audit_of(
    posterior: Posterior, warm: WarmUp, streams: Streams, settings: Settings, made: Production
) -> Audit:
    """Look at curvature and gradient noise once more; no use where chains left for infinity."""
    here = warm.state.displacement
    nothing = np.zeros(len(here))
    if not here.isfinite().all():
        return Audit(math.nan, nothing, nothing, 0)
    probe = warm.curvature
    rounds = AUDIT_PROBES
    scheme = warm.stepper.scheme
    if probe is None and scheme.scale is None and suits(posterior, scheme):
        return _in_turns(posterior, warm, streams, settings, made)
    if probe is None:
        probe, rounds = CurvatureProbe(posterior, settings.seed, settings.chains), COLD_PROBES
    before = probe.evaluations
    scale = None if scheme.scale is None else scheme.scale(warm.state)
    # Independent batches at one place: their sample variance is the covariance's trace.
    mean, squares = torch.zeros_like(here), torch.zeros(len(here), device=here.device)
    for number in range(1, rounds + 1):
        gradient = probe.iterate(here, streams.batch(), scale).gradient
        gradient = gradient if scale is None else scale * gradient
        step = gradient - mean
        mean = mean + step / number
        squares = squares + ((gradient - mean) * step).sum(1)
    spent = probe.evaluations - before + rounds * settings.chains * posterior.cost
    # All data give one gradient every time, up to rounding.
    noise = nothing if streams.batches is None else (squares / (rounds - 1)).double().cpu().numpy()
    made.balance.add(here, mean if scale is None else mean / scale, made.draws.length)
    push = (mean * mean).sum(1).double().cpu().numpy() - noise / rounds
    return Audit(probe.largest, noise, push, spent)


def _in_turns(
    posterior: Posterior, warm: WarmUp, streams: Streams, settings: Settings, made: Production
) -> Audit:
    """The same for a large model: one chain after another, in four vectors of its size.

    Chains share the direction of power iteration: where one chain's ends, the next one's begins,
    and is nearly there. The first one takes about a tenth of the gradients that a chain took.
    """
    here, n_beta = warm.state.displacement, posterior.n_beta
    first = (warm.steps + made.draws.length) // 20
    rounds = [min(max(first, AUDIT_PROBES), COLD_PROBES), *[WARM_PROBES] * (len(here) - 1)]
    batches = [streams.batch() for _ in range(max(rounds))]
    iteration = _Iteration(posterior, settings.seed)
    noise, push, readings = np.zeros(len(here)), np.zeros(len(here)), []
    for chain, count in enumerate(rounds):
        rows = [None if batch is None else batch[chain] for batch in batches[:count]]
        squares = iteration.run(here[chain], rows)
        if streams.batches is not None:
            noise[chain] = n_beta**2 * squares / (count - 1)
        gradient = n_beta * iteration.mean
        push[chain] = float(gradient.norm()) ** 2 - noise[chain] / count
        readings.append(made.balance.read(here[chain : chain + 1], gradient[None]))
    made.balance.keep(np.concatenate(readings), made.draws.length)
    return Audit(iteration.largest, noise, push, 2 * sum(rounds))


class _Iteration:
    """Power iteration as `CurvatureProbe` does it, of one chain at a time and in place.

    Attributes:
        largest: largest eigenvalue of ∇²U seen, of what has not been forgotten.
        mean: mean ∇L_B of the last chain, ``(D,)``.
    """

    def __init__(self, posterior: Posterior, seed: int) -> None:
        self._posterior, surface = posterior, posterior.surface
        noise = NoiseStreams(seed, "curvature", 1, surface.device)
        self._direction = noise.normal(posterior.dimension, surface.layout.dtype)[0]
        self._direction /= self._direction.norm()
        self._near, self._work = (
            torch.empty_like(self._direction),
            torch.empty_like(self._direction),
        )
        self.mean = torch.empty_like(self._direction)
        self.largest = posterior.gamma

    def run(self, displacement: Tensor, rows: list[Tensor | None]) -> float:
        """Iterate once a batch; return the sum of squares of ∇L_B about its mean."""
        squares, gamma = 0.0, self._posterior.gamma
        near, work = self._near, self._work
        self.mean.zero_()
        for number, row in enumerate(rows, 1):
            near.copy_(self._posterior.lend(displacement, row).gradient[0])
            torch.sub(near, self.mean, out=work)
            self.mean.add_(work, alpha=1 / number)
            squares += (1 - 1 / number) * float(work.norm()) ** 2
            reach = REACH / self.largest**0.5
            torch.add(displacement, self._direction, alpha=reach, out=work)
            ahead = self._posterior.lend(work, row).gradient[0]
            near.sub_(ahead).mul_(-self._posterior.n_beta / reach)
            near.add_(self._direction, alpha=gamma)
            length = float(near.norm())
            if math.isfinite(length) and length > 0:
                torch.div(near, length, out=self._direction)
                self.largest = max(length, FORGET * self.largest, gamma)
        return squares
