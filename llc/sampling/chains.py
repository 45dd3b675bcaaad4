"""The runner: steps of a kernel over stacked chains, and the draws that come out."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from llc.compiled import Compiled
from llc.diagnostics import Array
from llc.headroom import give_back
from llc.params import Fill, NoiseStreams
from llc.posterior import Posterior
from llc.sampling.blocks import in_blocks, suits
from llc.sampling.kernel import Evaluate, Kernel, Numbers, StepInfo, Tuning
from llc.sampling.schemes import Scheme

__all__ = ["Draws", "Recorder", "Report", "Stepper", "Streams", "advance"]

Report = Callable[[str, int, int | None], None]
"""Called with the phase, the steps done in it and, where known, how many there will be."""

LEAST_DRAWS = 10
"""Where time is up: fewer have no error bar."""


class Draws(NamedTuple):
    """What every step of every chain reported, each of shape ``(chains, draws)``.

    The fields are those of `StepInfo`: X = nβ(L_B(w) − L_B(w*)), its subsampling variance,
    V = nβ δ·∇L, R = γ‖δ‖², and the probability that the step was accepted.
    """

    rise: Array
    noise: Array
    pull: Array
    spread: Array
    acceptance: Array

    @property
    def length(self) -> int:
        """Draws a chain."""
        return self.rise.shape[1]

    def window(self, start: int, stop: int | None = None) -> "Draws":
        """Keep draws ``start:stop`` of every chain."""
        return Draws(*(column[:, start:stop] for column in self))

    def chains(self, keep: np.ndarray | slice) -> "Draws":
        """Keep some chains."""
        return Draws(*(column[keep] for column in self))

    def virial(self, dimension: int) -> Array:
        """(V + R)/D, draw by draw; its expectation is 1 in equilibrium."""
        return (self.pull + self.spread) / dimension

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
            batches = NoiseStreams(seed, "batches", chains, surface.device, surface.copies)
        return cls(
            NoiseStreams(seed, "noise", chains, surface.device, surface.copies),
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

    def step_noise(self, kernel: Kernel) -> Tensor | Fill:
        """Draw the Gaussian noise of one step, shape ``(chains, kernel.noise_size(D))``.

        For a kernel that takes it in blocks, what fills them.
        """
        if kernel.blocks:
            return self.noise.fill
        return self.noise.normal(kernel.noise_size(self.dimension), self.dtype)


class Stepper:
    """Builds a scheme's kernels for one posterior; their steps recorded where that can be.

    Recorded is the step as a whole, loss and update together, so that neither is left to Python.
    """

    def __init__(self, posterior: Posterior, scheme: Scheme) -> None:
        self.posterior, self.scheme = posterior, scheme
        self._programs: dict[tuple[int, bool], Compiled] = {}
        self._state: Any = None

    def plain(self, tuning: Tuning, evaluate: Evaluate | None = None) -> Kernel:
        """Build a kernel as it stands in its file, on the posterior or another evaluation."""
        return self.scheme.build(evaluate or self.posterior.evaluate, tuning.numbers, tuning)

    def kernel(self, tuning: Tuning, chains: int) -> Kernel:
        """Build a kernel, its step recorded where the posterior lets all chains run at once.

        Steps of a large model overwrite the state they are given.
        """
        if suits(self.posterior, self.scheme):
            return in_blocks(self.posterior, self.scheme, tuning)
        kernel = self.plain(tuning)
        if not self.scheme.recordable or not self.posterior.surface.fits(chains):
            return kernel
        self.posterior.prepare()
        # Only a preconditioner's step is another one once it has stopped to adapt.
        key = (tuning.leaps, tuning.frozen and self.scheme.scale is not None)
        if key not in self._programs:
            mode = self.posterior.surface.execution.compile
            self._programs[key] = Compiled(partial(self._flat_step, tuning), mode)
        program, numbers = self._programs[key], tuning.numbers
        bound: Any = None

        def step(state: Any, batch: Tensor | None, noise: Tensor) -> tuple[Any, StepInfo]:
            nonlocal bound
            kind, width = type(state), len(state)
            if bound is None:
                # Shapes stay the same as long as a kernel lives.
                self._state = kind
                bound = program.bind(batch, noise, *numbers, *state)
            out = bound(batch, noise, *numbers, *state)
            return kind(*out[:width]), StepInfo(*out[width:])

        return kernel._replace(step=step)

    def _flat_step(
        self, tuning: Tuning, batch: Tensor | None, noise: Tensor, *rest: Tensor
    ) -> tuple[Tensor, ...]:
        count = len(Numbers._fields)
        kernel = self.scheme.build(self.posterior.evaluate, Numbers(*rest[:count]), tuning)
        state, info = kernel.step(self._state(*rest[count:]), batch, noise)
        return (*state, *info)

    @property
    def how(self) -> str:
        """How steps ran last, and what stood in the way of more."""
        if not self._programs:
            return self.posterior.surface.how
        program = list(self._programs.values())[-1]
        return "; ".join([program.how, *dict.fromkeys(program.notes)])


class Recorder:
    """Collects what steps report, in memory taken once and for all.

    Numbers kept one by one between the large temporaries of a step would pin the heap: on a model
    of a million weights the process grew by ten megabytes a step.
    """

    def __init__(self, steps: int) -> None:
        self._steps, self._count = steps, 0
        self._rows: Tensor | None = None

    def add(self, info: StepInfo) -> None:
        """Keep what one step reported; nothing waits for the device."""
        if self._rows is None:
            shape = (self._steps, len(info), len(info.rise))
            self._rows = torch.empty(shape, dtype=info.rise.dtype, device=info.rise.device)
        torch.stack(info, out=self._rows[self._count])
        self._count += 1

    def draws(self) -> Draws:
        """Return all that was added."""
        assert self._rows is not None
        columns = self._rows[: self._count].permute(1, 2, 0).double().cpu().numpy()
        return Draws(*columns)


def advance(
    kernel: Kernel,
    state: Any,
    streams: Streams,
    steps: int,
    over: Callable[[], bool] | None = None,
) -> tuple[Any, Draws]:
    """Take steps of a kernel; the host waits for the device once, at the end.

    Fewer of them, but ten at least, once ``over`` says that time is up.
    """
    recorder = Recorder(steps)
    for number in range(steps):
        if over is not None and number >= LEAST_DRAWS and over():
            break
        state, info = kernel.step(state, streams.batch(), streams.step_noise(kernel))
        recorder.add(info)
    give_back()
    return state, recorder.draws()
