"""Private copies of a user's model, which is never changed itself."""

import copy
from collections.abc import Iterator
from functools import partial
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, is_lazy

from llc.errors import InputError, brief

__all__ = ["evaluated_copy", "is_quantised", "private_copy"]

Module = TypeVar("Module", bound=nn.Module)
# Typed like the buffer that it is not yet.
_lazy: Any = UninitializedBuffer


def private_copy(model: Module) -> Module:
    """Return a copy of a user's model, which is then ours to change.

    Attributes that parameters carry, as those of muP, are copied with them.

    Raises:
        InputError: the model holds something that cannot be copied.
    """
    for name, parameter in model.named_parameters():
        if parameter.layout is not torch.strided:
            raise InputError(
                f"{name} of {type(model).__name__} is a sparse parameter, whose zeros are not "
                "weights: give its values as a dense parameter, and build the sparse tensor in "
                "the forward pass"
            )
    # Tensors that copy.deepcopy does not take: sparse ones, and lazy buffers.
    memo: dict[int, Any] = {
        id(tensor): tensor.detach().clone()
        for tensor in _tensors(model)
        if tensor.layout is not torch.strided
    }
    memo |= {
        id(b): _lazy(b.requires_grad, b.data.device, b.data.dtype)
        for b in model.buffers()
        if is_lazy(b)
    }
    try:
        with torch.no_grad():  # else the weights of scripted modules are computed from the user's
            own = copy.deepcopy(model, memo)
    except (NotImplementedError, RuntimeError, TypeError) as error:
        raise InputError(_not_copied(model, error)) from error
    for given, made in zip(model.parameters(), own.parameters(), strict=True):
        if made.requires_grad != given.requires_grad:
            made.requires_grad_(given.requires_grad)
        if vars(given) and not vars(made):
            vars(made).update(copy.deepcopy(vars(given), memo))
    return own


def evaluated_copy(model: Module, device: torch.device) -> Module:
    """Return a private copy in eval mode, its modules set so that gradients can be taken.

    Embeddings get dense gradients, which are the same numbers, for a padding row too. Recurrent
    networks go into train mode without dropout on CUDA, where cuDNN takes no gradient of them in
    eval mode; they compute the same.

    Raises:
        InputError: as `private_copy`.
    """
    own = private_copy(model).eval()
    for module in own.modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag):
            module.sparse = False
        if isinstance(module, nn.Embedding) and _drops_a_row(module):
            # With padding_idx torch leaves that row's gradient out, on which the loss depends.
            module.forward = partial(_embedded, module)
        if isinstance(module, nn.RNNBase) and device.type == "cuda":
            module.dropout = 0.0
            module.train()
    return own


def _drops_a_row(module: nn.Embedding) -> bool:
    return module.padding_idx is not None and type(module).forward is nn.Embedding.forward


def _embedded(module: nn.Embedding, tokens: Tensor) -> Tensor:
    return F.embedding(
        tokens, module.weight, None, module.max_norm, module.norm_type, module.scale_grad_by_freq
    )


def is_quantised(model: nn.Module) -> bool:
    """Whether a model has modules that torch has quantised."""
    kinds = (type(module).__module__.split(".") for module in model.modules())
    return any(kind[0] == "torch" and "quantized" in kind for kind in kinds)


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    """Tensors that modules hold, without those of containers."""
    for module in model.modules():
        for place in (module._buffers, vars(module)):
            yield from (value for value in place.values() if isinstance(value, Tensor))


def _not_copied(model: nn.Module, error: Exception) -> str:
    odd = {
        type(p).__name__
        for p in model.parameters()
        if type(p) not in (Tensor, nn.Parameter) and not isinstance(p, nn.UninitializedParameter)
    }
    said = f"{type(model).__name__} cannot be copied ({brief(error)})"
    if odd:
        return f"{said}: its weights are of type {odd.pop()}, expected plain tensors"
    # Hooks that keep what passed through share it with every copy: TransformerLens 4 does.
    return (
        f"{said}: where hooks or modules keep tensors of an earlier pass, call the model once "
        "under torch.no_grad(); else drop what only this process can hold, as locks and open files"
    )
