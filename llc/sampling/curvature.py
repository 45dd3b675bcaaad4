"""The largest eigenvalue of ∇²U, followed where the chains are.

At w* alone it is too small by one to three orders of magnitude on deep networks, and says
nothing at all where the Hessian vanishes there; a step chosen from it explodes.
"""

import copy

import torch
from torch import Tensor

from llc.diagnostics import EXPLODED
from llc.params import NoiseStreams
from llc.posterior import Posterior
from llc.surface import Evaluation

__all__ = ["CurvatureProbe"]

FORGET = 0.995
REACH = 0.5
STRAY = 6.0


class CurvatureProbe:
    """Warm-started power iteration by gradient differences, one direction per chain.

    One iteration takes one gradient beside the chain's own: ∇²U·u ≈ (∇U(δ + ηu) − ∇U(δ))/η
    with ‖u‖ = 1 and η = ½/√a, half the posterior's own width in that direction, so that kinks
    and quartic walls within the chain's reach are felt.

    Attributes:
        largest: running estimate of the largest eigenvalue over chains; never below γ or ``least``,
            and forgotten slowly (0.5 % an iteration), since a step must suit all places visited.
        evaluations: gradients spent on directions, all chains together, the chains' own left out.
    """

    def __init__(self, posterior: Posterior, seed: int, chains: int, least: float = 0.0) -> None:
        self._posterior = posterior
        surface = posterior.surface
        noise = NoiseStreams(seed, "curvature", chains, surface.device, surface.copies)
        direction = noise.normal(posterior.dimension, surface.layout.dtype)
        self._direction = direction / direction.norm(dim=1, keepdim=True)
        self._least = max(least, posterior.gamma)
        self.largest = self._least
        self.evaluations = 0

    def at(self, posterior: Posterior, least: float = 0.0) -> "CurvatureProbe":
        """Go on at another γ of the same loss: directions are kept, γ's own share exchanged."""
        probe = copy.copy(self)
        probe._posterior, probe._least = posterior, max(least, posterior.gamma)
        largest = self.largest - self._posterior.gamma + posterior.gamma
        probe.largest, probe.evaluations = max(largest, probe._least), 0
        return probe

    def iterate(
        self, displacement: Tensor, batch: Tensor | None, scale: Tensor | None = None
    ) -> Evaluation:
        """Do one power iteration at the chains' positions; return the evaluation *there*.

        The caller's step needs that evaluation anyway: both positions go through one call.
        With ``scale``, √P of a diagonal preconditioner, the matrix is √P ∇²U √P instead.
        """
        chains = len(displacement)
        reach = REACH / self.largest**0.5
        direction = self._direction if scale is None else scale * self._direction
        ahead = displacement + reach * direction
        both = self._posterior.evaluate(
            torch.cat([displacement, ahead]), None if batch is None else torch.cat([batch, batch])
        )
        self.evaluations += chains * self._posterior.cost
        here = Evaluation(*(part[:chains] for part in both))
        change = (both.gradient[chains:] - here.gradient) / reach
        product = change + self._posterior.gamma * direction
        product = product if scale is None else scale * product
        lengths = product.norm(dim=1, keepdim=True)
        healthy = lengths.isfinite() & (lengths > 0) & self._near(displacement, here.rise)
        self._direction = torch.where(healthy, product / lengths, self._direction)
        seen = torch.where(healthy, lengths, 0.0).max().item()
        self.largest = max(seen, FORGET * self.largest, self._least)
        return here

    def _near(self, displacement: Tensor, rise: Tensor) -> Tensor:
        """Which chains are where chains should be, ``(chains, 1)``.

        One on its way to infinity says nothing of those places, and where the loss grows like a
        high power it says so loudly: one look at 10¹¹ would hold the step at nothing for ever. It
        is known by nβ(L − L*) + γ‖δ‖² far above what D standard normals give (mean D, variance
        2D), unless most chains are as far out.
        """
        dimension = displacement.shape[1]
        spread = self._posterior.gamma * (displacement * displacement).sum(1)
        height = rise.clamp(min=0) + spread
        usual = dimension + STRAY * (2 * dimension) ** 0.5 + STRAY**2
        reach = STRAY * height.nan_to_num(torch.inf).median() + usual
        return ((height <= reach) & (spread <= EXPLODED * dimension))[:, None]
