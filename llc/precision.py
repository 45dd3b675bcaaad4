"""Weights, data and passes in half precision: raised to float32, or measured against it.

A Langevin step is far below the rounding of bfloat16, and so is the spread of the chains: a loss
that is evaluated in bfloat16 is flat within a cell of rounding, and jumps from one to the next. So
private copies of a model in half precision are raised to float32, which holds every value of
theirs exactly. Where a model insists on half precision, by casts in its forward pass or by
autocast, its passes are compared with passes whose casts are undone.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from llc.params import Layout, PartialLayout
from llc.private import private_copy
from llc.reweighted import Reweighted

__all__ = ["Twin", "is_low", "raise_data", "raise_module", "uses_low"]


def is_low(kind: object) -> bool:
    """Whether a dtype is one of floating-point numbers of less than single precision."""
    return isinstance(kind, torch.dtype) and kind.is_floating_point and kind.itemsize < 4


def _raised(value: Any) -> Any:
    """A tensor in float32 where it has less; anything else as it is."""
    return value.float() if isinstance(value, Tensor) and is_low(value.dtype) else value


def raise_data(data: Any) -> Any:
    """Return data with tensors of less than single precision in float32."""
    return tree_map(_raised, data)


def raise_module(module: nn.Module) -> Callable[[], None] | None:
    """Raise weights, buffers and other tensors of a private module to float32, in place.

    Only those of less than single precision: float32 and float64 parts stay what they are.

    Returns:
        What undoes it, or None where there was nothing to raise.
    """
    undo: list[Callable[[], None]] = []

    def put(owner: dict[str, Any], name: str, value: Any) -> None:
        undo.append(lambda: owner.update({name: value}))
        owner[name] = _raised(value)

    for parameter in module.parameters():
        if is_low(parameter.dtype):
            undo.append(lambda p=parameter, own=parameter.data: setattr(p, "data", own))
            parameter.grad = None
            parameter.data = parameter.data.float()
    for owner in module.modules():
        for place in (owner._buffers, vars(owner)):
            for name, value in list(place.items()):
                if _raised(value) is not value:
                    put(place, name, value)
    if not undo:
        return None
    return lambda: [step() for step in undo] and None


class _Seen(TorchDispatchMode):
    """Notes whether any operation gives numbers of less than single precision."""

    def __init__(self) -> None:
        super().__init__()
        self.low = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        self.low = self.low or any(
            isinstance(leaf, Tensor) and is_low(leaf.dtype) for leaf in tree_leaves(found)
        )
        return found


def uses_low(function: Callable[[], Any]) -> bool:
    """Call a function, and say whether it computed in less than single precision on its way."""
    seen = _Seen()
    with torch.no_grad(), seen:
        function()
    return seen.low


class _Undone(TorchDispatchMode):
    """Lets casts to less than single precision, autocast's among them, end in float32."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if is_low(kwargs.get("dtype")):
            kwargs = {**kwargs, "dtype": torch.float32}
        return func(*args, **kwargs)


class Twin:
    """A loss evaluated in float32 or better, whatever its model casts to.

    Args:
        module: the whole loss, of a batch; copied.
        layout: of its sampled weights.
    """

    def __init__(self, module: nn.Module, layout: Layout) -> None:
        own = private_copy(module)
        raise_module(own)
        function = getattr(getattr(own, "loss", None), "function", None)
        if isinstance(function, nn.Module):
            raise_module(function)
        self._at = Reweighted(own)
        kinds = tuple(torch.float32 if is_low(kind) else kind for kind in layout.dtypes)
        self._layout = replace(layout, dtypes=kinds)
        if isinstance(layout, PartialLayout):
            self._layout = replace(self._layout, rest=tuple(map(_raised, layout.rest)))

    @torch.no_grad()
    def __call__(self, weights: Tensor, batch: Any) -> Tensor:
        """Evaluate the mean loss at flat weights, ``()``."""
        with _Undone():
            found = self._at(self._layout.unflatten(weights), raise_data(batch))
        return found.double().mean()
