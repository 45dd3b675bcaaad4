"""The runner: steps of a kernel over stacked chains, and the draws that come out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from llc.diagnostics import Array
from llc.params import NoiseStreams
from llc.posterior import Posterior
from llc.sampling.kernel import Kernel, StepInfo

__all__ = ["Draws", "Report", "Streams", "advance"]

Report = Callable[[str, int, int | None], None]
"""Called with the phase, the steps done in it and, where known, how many there will be."""


class Draws(NamedTuple):
    """What every step of every chain reported, each of shape ``(chains, draws)``.

    The fields are those of `StepInfo`: X = nβ(L_B(w) − L_B(w*)), its subsampling variance,
    V = nβ δ·∇L and R = γ‖δ‖².
    """

    rise: Array
    noise: Array
    pull: Array
    spread: Array

    @property
    def length(self) -> int:
        """Draws a chain."""
        return self.rise.shape[1]

    def window(self, start: int, stop: int | None = None) -> "Draws":
        """Keep draws ``start:stop`` of every chain."""
        return Draws(*(column[:, start:stop] for column in self))

    def chains(self, keep: np.ndarray) -> "Draws":
        """Keep some chains."""
        return Draws(*(column[keep] for column in self))

    def virial(self, dimension: int) -> Array:
        """(V + R)/D, draw by draw; its expectation is 1 in equilibrium."""
        return (self.pull + self.spread) / dimension

    @staticmethod
    def of(infos: list[StepInfo]) -> "Draws":
        """Stack the reports of consecutive steps."""
        return Draws(
            *(torch.stack(column, 1).double().cpu().numpy() for column in zip(*infos, strict=True))
        )

    @staticmethod
    def join(parts: list["Draws"]) -> "Draws":
        """Put consecutive draws end to end."""
        return Draws(*(np.concatenate(column, 1) for column in zip(*parts, strict=True)))


@dataclass
class Streams:
    """The random inputs of one run: noise and batches, one stream per chain and purpose."""

    noise: NoiseStreams
    batches: NoiseStreams | None
    size: int
    batch_size: int
    dimension: int
    dtype: torch.dtype

    @classmethod
    def open(
        cls, posterior: Posterior, seed: int, chains: int, batch_size: int | None
    ) -> "Streams":
        """Open the streams of a run; ``batch_size`` None means every step sees all data."""
        surface = posterior.surface
        batches = None
        if batch_size is not None:
            batches = NoiseStreams(seed, "batches", chains, surface.device)
        return cls(
            NoiseStreams(seed, "noise", chains, surface.device),
            batches,
            surface.size or 0,
            batch_size or 0,
            posterior.dimension,
            surface.layout.dtype,
        )

    def batch(self) -> Tensor | None:
        """Draw each chain's next batch with replacement, or None for all data."""
        if self.batches is None:
            return None
        return self.batches.integers(self.size, self.batch_size)

    def step_noise(self) -> Tensor:
        """Draw the Gaussian noise of one step, shape ``(chains, D)``."""
        return self.noise.normal(self.dimension, self.dtype)


def advance(kernel: Kernel, state: Any, streams: Streams, steps: int) -> tuple[Any, Draws]:
    """Take steps of a kernel; the host waits for the device once, at the end."""
    infos: list[StepInfo] = []
    for _ in range(steps):
        state, info = kernel.step(state, streams.batch(), streams.step_noise())
        infos.append(info)
    return state, Draws.of(infos)
