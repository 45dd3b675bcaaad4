"""A step of one large chain after another, a block of coordinates at a time.

Where every coordinate moves by itself once the gradient is known, a kernel can be given a few ten
thousand of them at a time: its temporaries then stay in the cache, its noise is drawn where it is
used, and a step takes no vector of the model's size beside the gradient. Kernels are the ones that
small models use, and numbers are the same to the bit.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from llc import params
from llc.params import Fill
from llc.posterior import Posterior
from llc.sampling.kernel import Kernel, StepInfo, Tuning
from llc.sampling.schemes import Scheme
from llc.surface import Evaluation

__all__ = ["in_blocks", "suits"]

BLOCK = 2**16
# Numbers that torch draws together: blocks are multiples of it, and the last one is no shorter.
TOGETHER = 16


def suits(posterior: Posterior, scheme: Scheme) -> bool:
    """Whether a posterior's gradient can be lent, and a scheme's coordinates move apart.

    Streams draw small rows several at a time, which pieces of them would not reproduce.
    """
    lends = posterior.surface.lends and posterior.dimension > params.BLOCK
    return scheme.apart and lends and not posterior.control_variate


def in_blocks(posterior: Posterior, scheme: Scheme, tuning: Tuning) -> Kernel:
    """Build a kernel whose steps overwrite the state they are given, and draw their own noise."""
    here: list[Evaluation] = []
    kernel = scheme.build(lambda *_: here[0], tuning.numbers, tuning)

    def step(state: Any, batch: Tensor | None, noise: Fill) -> tuple[Any, StepInfo]:
        infos = []
        for chain in range(len(state.displacement)):
            one = type(state)(*(field[chain : chain + 1] for field in state))
            row = None if batch is None else batch[chain]
            found = posterior.lend(one.displacement[0], row)
            infos.append(_step_of_one(kernel, here, one, found, posterior.n_beta, chain, noise))
        return state, StepInfo(*(torch.cat(column) for column in zip(*infos, strict=True)))

    return kernel._replace(step=step, blocks=True)


def _step_of_one(
    kernel: Kernel,
    here: list[Evaluation],
    state: Any,
    found: Evaluation,
    n_beta: float,
    chain: int,
    noise: Fill,
) -> StepInfo:
    """Move one chain; ``found`` is in units of nβ but for its gradient, which is lent."""
    size = state.displacement.shape[1]
    pull, spread = [], []
    kick = torch.empty_like(state.displacement[:, : BLOCK + TOGETHER])
    kind, info = type(state), None
    last = state
    for piece in _pieces(size):
        here[:] = [found._replace(gradient=n_beta * found.gradient[:, piece])]
        # What is one number a chain, as an age, is the same for all blocks.
        before = kind(*(f[:, piece] if f.shape[1] == size else f for f in state))
        drawn = kick[:, : before.displacement.shape[1]]
        noise(chain, drawn)
        last, info = kernel.step(before, None, drawn)
        for old, new in zip(before, last, strict=True):
            if old.shape[1] == before.displacement.shape[1]:
                old.copy_(new)
        pull.append(info.pull)
        spread.append(info.spread)
    assert info is not None
    for field, new in zip(state, last, strict=True):
        if field.shape[1] != size:
            field.copy_(new)
    return info._replace(pull=torch.stack(pull).sum(0), spread=torch.stack(spread).sum(0))


def _pieces(size: int) -> Iterator[slice]:
    start = 0
    while start < size:
        stop = start + BLOCK if size - start >= BLOCK + TOGETHER else size
        yield slice(start, stop)
        start = stop
