"""The localised tempered posterior around a checkpoint."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from llc.params import NoiseStreams
from llc.surface import Evaluation, LossSurface

__all__ = ["Posterior"]


@dataclass(frozen=True)
class Posterior:
    """p(w) ∝ exp(−nβ·L(w) − (γ/2)‖w − w*‖²) (Lau et al. 2023, arXiv 2308.12108, eq. 5).

    Attributes:
        surface: the loss around w*.
        n_beta: nβ, the number of examples times the inverse temperature.
        gamma: γ, the strength of the localising Gaussian prior; 1/√γ is its radius a direction.
        control_variate: correct a minibatch's gradient by what the same batch errs by at w*:
            ∇L_B(w) − ∇L_B(w*) + ∇L(w*) (Baker, Fearnhead, Fox & Nemeth 2019, eq. 8).
    """

    surface: LossSurface
    n_beta: float
    gamma: float
    control_variate: bool = False

    @property
    def dimension(self) -> int:
        """D, the number of sampled parameters."""
        return self.surface.layout.total

    @property
    def cost(self) -> int:
        """Gradients that one evaluation of a minibatch takes: two with control variates."""
        return 2 if self.control_variate else 1

    def evaluate(self, displacement: Tensor, index: Tensor | None) -> Evaluation:
        """Return `LossSurface.evaluate` in units of nβ.

        The result's rise is nβ(L_B(w) − L_B(w*)), its noise that number's variance by
        subsampling, its gradient nβ∇L_B(w), corrected where control variates are asked for.
        """
        if self.control_variate and index is not None:
            rise, noise, gradient = self._corrected(displacement, index)
        else:
            rise, noise, gradient = self.surface.evaluate(displacement, index)
        return Evaluation(self.n_beta * rise, self.n_beta**2 * noise, self.n_beta * gradient)

    def lend(self, displacement: Tensor, row: Tensor | None) -> Evaluation:
        """Return `LossSurface.lend`, all but the gradient in units of nβ."""
        rise, noise, gradient = self.surface.lend(displacement, row)
        return Evaluation(self.n_beta * rise, self.n_beta**2 * noise, gradient)

    def _corrected(self, displacement: Tensor, index: Tensor) -> Evaluation:
        chains = len(displacement)
        both = self.surface.evaluate(
            torch.cat([displacement, torch.zeros_like(displacement)]), torch.cat([index, index])
        )
        here = Evaluation(*(part[:chains] for part in both))
        full = self._full_gradient
        full = full.repeat(chains // len(full), 1)
        gradient = here.gradient - both.gradient[chains:] + full
        return here._replace(gradient=gradient)

    def prepare(self) -> None:
        """Compute once what every evaluation needs, so that no recording has it inside."""
        if self.control_variate:
            _ = self._full_gradient

    @cached_property
    def _full_gradient(self) -> Tensor:
        """∇L(w*) over all data, one row, or one for each of a stack's chains."""
        return self.surface.full_gradient()

    def start(self, chains: int) -> Tensor:
        """Chains at w*: displacements of zero, shape ``(chains, D)``."""
        surface = self.surface
        return torch.zeros(
            (chains, self.dimension), dtype=surface.layout.dtype, device=surface.device
        )

    def prior_only(self, seed: int, draws: int, batch_size: int | None) -> Tensor:
        """Draw nβ(L(w) − L(w*)) at w ~ N(w*, 1/γ), which follows no gradient; shape ``(draws,)``.

        Its mean is the prior-only null λ̂₀: what the estimator returns when the loss has had no
        say in where the chains went.
        """
        surface = self.surface
        noise = NoiseStreams(seed, "prior-only", 1, surface.device)
        batches = NoiseStreams(seed, "prior-only batches", 1, surface.device)
        rises = []
        for _ in range(draws):
            delta = noise.normal(self.dimension, surface.layout.dtype) / self.gamma**0.5
            index = None
            if batch_size is not None and surface.size is not None:
                index = batches.integers(surface.size, batch_size)
            rises.append(self.n_beta * surface.rise(delta, index))
        return torch.cat(rises)
