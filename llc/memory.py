"""How much memory a chain takes, estimated before a run, and how many chains then fit.

A gradient keeps what its backward pass needs: counted tensor by tensor at two small batch sizes,
in one chain, and extended to the batch of the run, since it grows by a constant an example. On
top come a chain's own vectors: position, momentum, noise, gradient and what an update makes of
them.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from llc.data import take
from llc.execution import Execution, in_words
from llc.objective import PROBE, Objective

__all__ = ["chain_bytes", "plan"]

# State, noise, gradient and the temporaries of an update, in vectors of D numbers a chain; and
# what copies of the model and the comparison of two chains take before there are any. Measured:
# benchmarks/memory_and_scaling.py.
VECTORS = 15
SETUP = 20
# Backward makes of each kept tensor one gradient, which lives until it is used.
BACKWARD = 2.0


def plan(
    objective: Objective,
    execution: Execution,
    chains: int,
    batch_size: int | None,
    why_not: str | None,
) -> tuple[int, str]:
    """Choose how many chains run side by side.

    Args:
        objective: the loss.
        execution: the memory limit.
        chains: chains of the run.
        batch_size: examples a gradient, None for all.
        why_not: why chains cannot run side by side, or None.

    Returns:
        The number, and a sentence for the record, with the memory it needs.
    """
    vectors, kept = chain_bytes(objective, batch_size)
    side, why = chains, ""
    if why_not is not None:
        side, why = 1, "the model cannot be vectorised over chains"
    elif objective.device.type == "cpu" and objective.convolves:
        side, why = 1, "a CPU convolves with one set of weights at a time"
    else:
        # Power iteration puts a second position beside each chain.
        room = execution.limit(objective.device) - chains * vectors
        fit = room / (2 * kept) if kept > 0 else math.inf
        if fit < chains:
            side = max(1, int(fit))
            why = f"{in_words(max(room, 0))} are free for activations"
    need = max(chains, SETUP / VECTORS) * vectors + 2 * side * kept
    words = f"{side} of {chains} chains side by side, about {in_words(need)}"
    if side == chains:
        words = f"all {chains} chains side by side, about {in_words(need)}"
    return side, words + (f" ({why})" if why else "")


def chain_bytes(objective: Objective, batch_size: int | None) -> tuple[float, float]:
    """Return bytes of one chain's vectors, and of what one gradient keeps at its height."""
    layout = objective.layout
    vectors = VECTORS * layout.total * torch.empty(0, dtype=layout.dtype).element_size()
    size = objective.size
    if size is None:
        return vectors, BACKWARD * _kept(objective, None)
    small, large = max(1, min(PROBE, size // 2)), min(2 * PROBE, size)
    low, high = (_kept(objective, take(objective.data, slice(0, k))) for k in (small, large))
    slope = max(high - low, 0) / max(large - small, 1)
    return vectors, BACKWARD * (low + slope * ((batch_size or size) - small))


def _kept(objective: Objective, batch: Any) -> float:
    """Bytes that a backward pass over a batch would need, weights and data left out."""
    seen: dict[int, int] = {}
    storages = {p.untyped_storage().data_ptr() for p in _buffers(objective)}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    weights = objective.centre.clone().requires_grad_()
    own = weights.untyped_storage().data_ptr()
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        loss = objective.values(weights, batch)
    del loss
    return float(
        sum(n for address, n in seen.items() if address != own and address not in storages)
    )


def _buffers(objective: Objective) -> list[Tensor]:
    module: nn.Module = objective.module
    leaves = torch.utils._pytree.tree_leaves(objective.data)
    return [*module.buffers(), *module.parameters(), *(x for x in leaves if isinstance(x, Tensor))]
