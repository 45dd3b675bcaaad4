"""Weights and data in half precision raised to float32; passes compared with more precise ones.

A Langevin step is far below the rounding of bfloat16, and so may be the spread of the chains: a
loss evaluated in bfloat16 is flat within a cell of rounding, and jumps from one cell to the next.
So private copies of a model in half precision are raised to float32, which holds all of their
values exactly. Where a model insists on half precision, by casts in its forward pass or by
autocast, its passes can be compared with others in which these casts are undone; and those of a
model in float32 with passes in float64.
"""

import operator
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
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
    undo, wide = _raise(whole), tree_map(_wide, data)
    same = all(map(operator.is_, tree_leaves(wide), tree_leaves(data)))
    if not undo and same:
        return data
    loss: Any = whole.loss
    own = loss
    if isinstance(getattr(loss, "function", None), nn.Module):
        # Class weights, say. The user's own stay as they are.
        own = replace(loss, function=private_copy(loss.function))
        _raise(own.function)
    whole.loss = own
    if _runs(whole, wide, few):
        return wide
    for step in undo:
        step()
    whole.loss = loss
    if _runs(whole, data, few):  # a cast in its forward pass asks for it
        return data
    _raise(whole)
    whole.loss = own
    return wide


def casts(function: Callable[[Any], Any], data: Any, few: slice | None) -> bool:
    """Whether a function of a batch computes in less than single precision on its way."""
    seen = _Seen()
    with _eagerly(), seen:
        watched = _runs(function, data, few)
    return watched and seen.low


class Twin:
    """A loss evaluated in a higher precision, whatever its model casts to.

    Args:
        whole: the whole loss, as of `raised`; copied.
        layout: of its sampled weights.
        dtype: of all floating-point numbers that have less than it.
    """

    def __init__(self, whole: nn.Module, layout: Layout, dtype: torch.dtype) -> None:
        own, self._dtype = private_copy(whole), dtype
        _raise(own, dtype)
        if isinstance(function := getattr(own.loss, "function", None), nn.Module):
            _raise(function, dtype)
        self._at = Reweighted(own)
        kinds = tuple(_wider(kind, dtype) for kind in layout.dtypes)
        self._layout = replace(layout, dtypes=kinds)
        if isinstance(self._layout, PartialLayout):
            rest = tuple(_wide(values, dtype) for values in self._layout.rest)
            self._layout = replace(self._layout, rest=rest)

    @torch.no_grad()
    def __call__(self, weights: Tensor, batch: Any) -> Tensor:
        """Evaluate the mean loss at flat weights, ``()``."""
        wide = tree_map(lambda leaf: _wide(leaf, self._dtype), batch)
        with _eagerly(), _Undone(self._dtype):
            found = self._at(self._layout.unflatten(weights), wide)
        return found.double().mean()


class _Seen(TorchDispatchMode):
    """Notes whether any operation gives numbers of less than single precision."""

    low = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        leaves = (leaf for leaf in tree_leaves(found) if isinstance(leaf, Tensor))
        self.low = self.low or any(_wider(leaf.dtype) != leaf.dtype for leaf in leaves)
        return found


class _Undone(TorchDispatchMode):
    """Lets casts to less than a precision, autocast's among them, end in it."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self._dtype = dtype

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if (given := kwargs.get("dtype")) is not None:
            kwargs = {**kwargs, "dtype": _wider(given, self._dtype)}
        return func(*args, **kwargs)


def _wider(kind: torch.dtype, to: torch.dtype = torch.float32) -> torch.dtype:
    """A precision where a dtype of floating-point numbers has less; else the dtype."""
    return to if kind.is_floating_point and kind.itemsize < to.itemsize else kind


def _wide(value: Any, to: torch.dtype = torch.float32) -> Any:
    """A tensor in a precision where it has less; anything else as it is."""
    return value.to(_wider(value.dtype, to)) if isinstance(value, Tensor) else value


def _raise(module: nn.Module, to: torch.dtype = torch.float32) -> Undo:
    """Raise weights, buffers and other tensors of a module in place; return what undoes it."""
    undo: Undo = []
    for parameter in module.parameters():
        if _wider(parameter.dtype, to) != parameter.dtype:
            undo.append(partial(setattr, parameter, "data", parameter.data))
            parameter.grad = None
            parameter.data = parameter.data.to(to)
    for owner in module.modules():
        for place in (owner._buffers, vars(owner)):
            for name, value in list(place.items()):
                if (wide := _wide(value, to)) is not value:
                    undo.append(partial(place.update, {name: value}))
                    place[name] = wide
    return undo


def _runs(function: Callable[[Any], Any], data: Any, few: slice | None) -> bool:
    """Whether a function of a batch takes a few examples."""
    leaves = [leaf for leaf in tree_leaves(data) if isinstance(leaf, Tensor)]
    devices = [leaf.device for leaf in leaves[:1] if leaf.is_cuda]
    try:
        # With a graph, since losses may take gradients themselves.
        with torch.enable_grad(), torch.random.fork_rng(devices=devices):
            function(None if few is None else take(data, few))
    except Exception:  # whatever a model raises
        return False
    return True


def _eagerly() -> AbstractContextManager[None]:
    """Let compiled modules run as they were written, so that their operations are seen."""
    if "torch._dynamo" not in sys.modules:
        return nullcontext()
    return torch.compiler.set_stance("force_eager")
