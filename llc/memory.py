"""How much memory a chain takes, estimated before a run, and how many chains then fit.

A gradient keeps what its backward pass needs: counted tensor by tensor at two small batch sizes,
in one chain, and extended to the batch of the run, since it grows by a constant an example. On
top come a chain's own vectors: position, momentum, noise, gradient and what an update makes of
them.
"""

import math
from typing import Any

import torch

from llc.data import take
from llc.execution import Execution, in_words
from llc.footprint import kept_bytes
from llc.objective import Objective
from llc.soundness import PROBE

__all__ = ["chain_bytes", "in_parts", "plan"]

# State, noise, gradient and the temporaries of an update, in vectors of D numbers a chain; and
# what copies of the model and the comparison of two chains take before there are any. Measured:
# benchmarks/memory_and_scaling.py.
VECTORS = 15
SETUP = 20
# Of a large model, whose chains take turns: state a chain, and what one chain at a time takes, at
# most in the look at curvature; and what a backward pass may keep before it is cut into parts:
# tensors are then small enough for memory to be used again (see `llc.objective`). Each part adds a
# gradient to the others', so that it must be worth it: so many vectors of the model's size.
STATE = 2
TAKEN_IN_TURNS = 8
MOST_KEPT_OF_LARGE = 2**26
WORTH_OF_A_PART = 2
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
    if objective.is_large:
        side, why = 1, "one chain of so large a model keeps a processor busy"
    elif why_not is not None:
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
    if objective.is_large:
        need = _vectors(objective, chains) + min(kept, _most_kept(objective))
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
    fixed, slope = _line(objective, size)
    return vectors, BACKWARD * (fixed + slope * (batch_size or size))


def _vectors(objective: Objective, chains: int) -> float:
    """Bytes of a large model's vectors, of which most serve one chain after another."""
    size = objective.layout.total * torch.empty(0, dtype=objective.layout.dtype).element_size()
    return (STATE * chains + TAKEN_IN_TURNS) * size


def _most_kept(objective: Objective) -> float:
    """Bytes of a large model's backward pass from which on it is worth cutting it into parts."""
    if objective.baseline.table is None:
        return math.inf
    vector = sum(p.nbytes for p in objective.module.parameters())
    return BACKWARD * max(MOST_KEPT_OF_LARGE, WORTH_OF_A_PART * vector)


def _line(objective: Objective, size: int) -> tuple[float, float]:
    """Bytes that a backward pass keeps: of the batch as a whole, and of each example in it."""
    probe = min(1 if objective.is_large else PROBE, objective.chunk)
    small, large = max(1, min(probe, size // 2)), min(2 * probe, size)
    low, high = (_kept(objective, take(objective.data, slice(0, k))) for k in (small, large))
    slope = max(high - low, 0) / max(large - small, 1)
    return low - slope * small, slope


def in_parts(
    objective: Objective, execution: Execution, chains: int, batch_size: int | None
) -> tuple[int | None, str]:
    """Choose how many examples a gradient takes at a time, where not all of them fit.

    A gradient is a sum over examples, so that its parts add up to the same: exactly, but for
    rounding. Losses that tie examples together cannot be cut.

    Args:
        objective: the loss.
        execution: the memory limit.
        chains: chains of the run, whose vectors are held all the time.
        batch_size: examples a gradient, None for all.

    Returns:
        The number, None for all at once, and a sentence for the record.
    """
    size = objective.size
    vectors, kept = chain_bytes(objective, batch_size)
    taken = _vectors(objective, chains) if objective.is_large else chains * vectors
    free = room = execution.limit(objective.device) - taken
    whole = objective.baseline.table is not None
    if objective.is_large:
        room = min(room, _most_kept(objective))
    if size is None or kept <= room:
        return None, ""
    count = min(batch_size or size, size)
    if not whole:
        return None, "; one gradient may not fit, and its loss cannot be cut into examples"
    fixed, slope = _line(objective, size)
    part = int((room / BACKWARD - fixed) / slope) if slope > 0 else count
    part = max(1, min(part, count))
    need = BACKWARD * (fixed + slope * part) + taken
    tight = part == 1 and (room == free or need - taken > free)
    short = f", though only {in_words(max(free, 0))} are free for it" if tight else ""
    return part, (
        f"; gradients of {count:,} examples summed over parts of {part:,}, about "
        f"{in_words(need)} in all{short}"
    )


def _kept(objective: Objective, batch: Any) -> float:
    """Bytes that a backward pass over a batch would need, weights and data left out."""
    return kept_bytes(objective.values, objective.centre, batch, objective.held())
