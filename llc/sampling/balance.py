"""The virial tensor by tensor: which weights of a network have not arrived."""

import copy

import numpy as np
import torch
from torch import Tensor

from llc.diagnostics import Array
from llc.params import Layout
from llc.posterior import Posterior

__all__ = ["Balance"]


class Balance:
    """E[nβ δ_b·∇_b L + γ‖δ_b‖²]/D_b of every tensor b, 1 in equilibrium.

    It holds for each tensor by itself, as the virial theorem does for any part of the coordinates:
    ∫∂_i(δ_i p) = 0. A whole network's virial of .9 may be one tensor's of .2.

    Readings are taken where a gradient is computed anyway, and cost none.
    """

    def __init__(self, posterior: Posterior) -> None:
        layout: Layout = posterior.surface.layout
        self._gamma, self._sizes = posterior.gamma, layout.sizes
        self._readings: list[tuple[int, Array]] = []

    def copy(self) -> "Balance":
        """Return one with the same readings, to be added to by itself."""
        other = copy.copy(self)
        other._readings = list(self._readings)
        return other

    def add(self, displacement: Tensor, gradient: Tensor, at: int) -> None:
        """Read the chains at δ, ``(chains, D)``, with nβ∇L there; ``at`` counts their draws."""
        self.keep(self.read(displacement, gradient), at)

    def read(self, displacement: Tensor, gradient: Tensor) -> Array:
        """Return the numbers of the chains at δ, ``(chains, tensors)``."""
        pairs = zip(displacement.split(self._sizes, 1), gradient.split(self._sizes, 1), strict=True)
        sums = [(d * (g + self._gamma * d)).sum(1, dtype=torch.float64) for d, g in pairs]
        with np.errstate(invalid="ignore"):  # parameters without entries
            return torch.stack(sums, 1).cpu().numpy() / self._sizes

    def keep(self, values: Array, at: int) -> None:
        """Keep what was read of all chains."""
        self._readings.append((at, values))

    def forget(self, count: int) -> None:
        """Drop what was read in the oldest draws, and count from there."""
        self._readings = [(at - count, values) for at, values in self._readings if at > count]

    def by_tensor(self, chains: np.ndarray | slice) -> tuple[Array, Array]:
        """Return means and standard errors over readings of some chains, ``(tensors,)`` each.

        Readings count as independent, which they nearly are but for slow modes: the error says
        which means are noise, not how slow a mode is. Nan where nothing was read.
        """
        nothing = np.full(len(self._sizes), np.nan)
        kept = [values[chains] for _, values in self._readings]
        if not kept or not len(kept[0]):
            return nothing, nothing
        values = np.concatenate(kept)
        if len(values) < 2:
            return values.mean(0), nothing
        return values.mean(0), values.std(0, ddof=1) / len(values) ** 0.5
