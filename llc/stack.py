"""Several checkpoints of one architecture as one surface, their chains side by side.

Chains of the first checkpoint come first, then those of the second, and so on; chain c of every
checkpoint sees the same noise and the same batches as chain c of the first, as it does when
checkpoints are sampled one after another.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.func import grad_and_value, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_leaves, tree_map

from llc.compiled import Compiled
from llc.params import PartialLayout
from llc.surface import LossSurface

__all__ = ["StackedSurface", "why_not_stacked"]


def why_not_stacked(surfaces: Sequence[LossSurface]) -> str | None:
    """Say what keeps surfaces from being stacked, or None."""
    first = surfaces[0]
    if not all(s.vectorised for s in surfaces):
        reason = next(s.why_not_vectorised for s in surfaces if not s.vectorised)
        return f"chains of this model run one after another: {reason}"
    if isinstance(first.layout, PartialLayout):
        return "only= holds single entries of their tensors fixed, at each checkpoint's own values"
    if any(s.layout != first.layout or s.size != first.size for s in surfaces):
        return "checkpoints differ in their weights' shapes or in their data"
    if any(s.tabulated != first.tabulated for s in surfaces):
        return "checkpoints differ in whether their losses can be tabulated"
    buffers = [list(s.buffers()) for s in surfaces]
    if not all(len(b) == len(buffers[0]) and all(map(torch.equal, b, buffers[0])) for b in buffers):
        return (
            "checkpoints differ in their buffers, as batch norm's statistics, or in frozen weights"
        )
    return None


class StackedSurface(LossSurface):
    """The losses around several w*, one per chain.

    Args:
        surfaces: one per checkpoint, for which `why_not_stacked` finds nothing.
        chains: chains of each.

    Attributes:
        copies: number of checkpoints.
    """

    def __init__(self, surfaces: Sequence[LossSurface], chains: int) -> None:
        first = surfaces[0]
        vars(self).update(vars(first))
        self.copies = len(surfaces)
        self._surfaces = list(surfaces)
        self._chains = chains
        self._many = Compiled(self._evaluate_many, self.execution.compile)
        self._centres = torch.stack([s.centre for s in surfaces]).repeat_interleave(chains, 0)
        self._which = torch.arange(self.copies, device=self.device).repeat_interleave(chains)
        whole = [s.whole_batch() for s in surfaces]
        # Inputs are the same for all, targets of a behavioural loss each checkpoint's own.
        leaves = [tree_leaves(batch) for batch, _ in whole]
        self._own = any(not all(map(torch.equal, others, leaves[0])) for others in leaves[1:])
        self._data = whole[0][0]
        if self._own:
            self._data = tree_map(lambda *parts: torch.stack(parts), *(b for b, _ in whole))
        tables = [reference for _, reference in whole]
        self._tables = (
            None if tables[0] is None else torch.stack([t for t in tables if t is not None])
        )

    def plan(self, chains: int, batch_size: int | None) -> str:
        """Let all chains run side by side; return it in words, with memory needed."""
        words = super().plan(chains, batch_size)
        self.side_by_side = max(self.side_by_side, chains)
        self.part, self._direct = None, None
        return f"{self.copies} checkpoints stacked, {words}"

    def full_gradient(self) -> Tensor:
        """Return ∇L(w*) over all data at each chain's checkpoint, ``(chains, D)``."""
        rows = torch.cat([s.full_gradient() for s in self._surfaces])
        return rows.repeat_interleave(self._chains, 0)

    def _evaluate_many(
        self, displacement: Tensor, index: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        times = len(displacement) // len(self._which)
        which, centres = self._which.repeat(times), self._centres.repeat(times, 1)
        batch, reference, dims = self._stacked_batch(which, index)
        paired = partial(self._paired, everything=index is None)
        chains = vmap(grad_and_value(paired, has_aux=True), in_dims=(0, 0, *dims))
        with sdpa_kernel(SDPBackend.MATH):
            gradient, (rise, noise) = chains(displacement, centres, batch, reference)
        return rise, noise, gradient

    def _stacked_batch(
        self, which: Tensor, index: Tensor | None
    ) -> tuple[Any, Tensor | None, tuple[Any, Any]]:
        """Each chain's batch and its losses at w*, and the vmap dimensions of both."""
        if index is None:
            batch = tree_map(lambda leaf: leaf[which], self._data) if self._own else self._data
            reference = None if self._tables is None else self._tables[which]
            return batch, reference, (0 if self._own else None, None if reference is None else 0)
        rows = which.unsqueeze(1)
        pick = (rows, index) if self._own else index
        batch = tree_map(lambda leaf: leaf[pick], self._data)
        if self._tables is None or not self.tabulated:
            return batch, None, (0, None)
        return batch, self._tables[rows, index], (0, 0)
