"""Weights, data and passes in half precision: raised to float32, or measured against it.

A Langevin step is far below the rounding of bfloat16, and so may be the spread of the chains: a
loss evaluated in bfloat16 is flat within a cell of rounding, and jumps from one cell to the next.
So private copies of a model in half precision are raised to float32, which holds all of their
values exactly. Where a model insists on half precision, by casts in its forward pass or by
autocast, its passes can be compared with others in which these casts are undone.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from llc.data import take
from llc.params import Layout, PartialLayout
from llc.private import private_copy
from llc.reweighted import Reweighted

__all__ = ["Twin", "casts", "raised"]

Undo = list[Callable[[], Any]]


def raised(whole: nn.Module, data: Any, few: slice | None) -> Any:
    """Raise half precision to float32 where the model then runs; else leave all as it is.

    Args:
        whole: a loss of a batch as a private module, changed in place; its ``loss`` may be an
            `llc.losses.Loss`.
        data: what batches are taken from.
        few: examples to try it with; None for a potential, which has no data.

    Returns:
        The data for it.
    """
    undo = _raise(whole)
    if not undo:
        return data
    wide = tree_map(_wide, data)
    loss = whole.loss
    if isinstance(getattr(loss, "function", None), nn.Module):
        # Class weights, say. The user's own stay as they are.
        whole.loss = replace(loss, function=private_copy(loss.function))  # pyrefly: ignore
        _raise(whole.loss.function)  # pyrefly: ignore
    try:
        _tried(whole, wide, few)
    except Exception:  # a cast in its forward pass, and whatever that raises
        for step in undo:
            step()
        whole.loss = loss
        return data
    return wide


def casts(function: Callable[[Any], Any], data: Any, few: slice | None) -> bool:
    """Whether a function of a batch computes in less than single precision on its way."""
    seen = _Seen()
    try:
        with seen:
            _tried(function, data, few)
    except Exception:  # what cannot be watched, as compiled parts
        return False
    return seen.low


class Twin:
    """A loss evaluated in float32 or better, whatever its model casts to.

    Args:
        whole: the whole loss, as of `raised`; copied.
        layout: of its sampled weights.
    """

    def __init__(self, whole: nn.Module, layout: Layout) -> None:
        own = private_copy(whole)
        _raise(own)
        if isinstance(function := getattr(own.loss, "function", None), nn.Module):
            _raise(function)
        self._at = Reweighted(own)
        kinds = tuple(torch.float32 if _is_low(kind) else kind for kind in layout.dtypes)
        self._layout = replace(layout, dtypes=kinds)
        if isinstance(self._layout, PartialLayout):
            self._layout = replace(self._layout, rest=tuple(map(_wide, self._layout.rest)))

    @torch.no_grad()
    def __call__(self, weights: Tensor, batch: Any) -> Tensor:
        """Evaluate the mean loss at flat weights, ``()``."""
        with _Undone():
            found = self._at(self._layout.unflatten(weights), tree_map(_wide, batch))
        return found.double().mean()


class _Seen(TorchDispatchMode):
    """Notes whether any operation gives numbers of less than single precision."""

    low = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        leaves = (leaf for leaf in tree_leaves(found) if isinstance(leaf, Tensor))
        self.low = self.low or any(_is_low(leaf.dtype) for leaf in leaves)
        return found


class _Undone(TorchDispatchMode):
    """Lets casts to less than single precision, autocast's among them, end in float32."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if _is_low(kwargs.get("dtype")):
            kwargs = {**kwargs, "dtype": torch.float32}
        return func(*args, **kwargs)


def _is_low(kind: object) -> bool:
    return isinstance(kind, torch.dtype) and kind.is_floating_point and kind.itemsize < 4


def _wide(value: Any) -> Any:
    """A tensor in float32 where it has less; anything else as it is."""
    return value.float() if isinstance(value, Tensor) and _is_low(value.dtype) else value


def _raise(module: nn.Module) -> Undo:
    """Raise weights, buffers and other tensors of a module in place; return what undoes it.

    Only those of less than single precision: float32 and float64 parts stay what they are.
    """
    undo: Undo = []
    for parameter in module.parameters():
        if _is_low(parameter.dtype):
            undo.append(partial(setattr, parameter, "data", parameter.data))
            parameter.grad = None
            parameter.data = parameter.data.float()
    for owner in module.modules():
        for place in (owner._buffers, vars(owner)):
            for name, value in list(place.items()):
                if _wide(value) is not value:
                    undo.append(partial(place.update, {name: value}))
                    place[name] = _wide(value)
    return undo


def _tried(function: Callable[[Any], Any], data: Any, few: slice | None) -> None:
    """Call a function of a batch with a few examples."""
    leaves = [leaf for leaf in tree_leaves(data) if isinstance(leaf, Tensor)]
    devices = [leaf.device for leaf in leaves[:1] if leaf.is_cuda]
    with torch.no_grad(), torch.random.fork_rng(devices=devices):
        function(None if few is None else take(data, few))
