"""What a backward pass keeps in memory, counted tensor by tensor on a few examples."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

__all__ = ["kept_bytes"]


def kept_bytes(
    values: Callable[[Tensor, Any], Tensor], weights: Tensor, batch: Any, known: Iterable[Tensor]
) -> float:
    """Bytes that a backward pass over a batch would need.

    Args:
        values: the loss, of flat weights and a batch.
        weights: where to evaluate it; copied.
        batch: the examples.
        known: tensors that are there anyway, as buffers and data, and do not count.
    """
    seen: dict[int, int] = {}
    storages = {
        tensor.untyped_storage().data_ptr() for tensor in known if tensor.layout is torch.strided
    }

    def keep(tensor: Tensor) -> Tensor:
        if tensor.layout is not torch.strided:
            return tensor.detach()  # graphs' edges, there anyway
        storage = tensor.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
        # Detached: the tensor itself, kept by the node whose output it is, would never be freed.
        return tensor.detach()

    leaf = weights.clone().requires_grad_()
    storages.add(leaf.untyped_storage().data_ptr())
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        loss = values(leaf, batch)
    del loss
    return float(sum(n for address, n in seen.items() if address not in storages))
