"""A module called at other weights than its own, each weight under all of its names."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.utils.checkpoint
from torch import Tensor, nn
from torch.func import functional_call

__all__ = ["Reweighted", "recomputing_in_place", "without_graph"]

Result = TypeVar("Result")


class Reweighted:
    """Calls a module at given weights, and leaves its own as they were.

    `torch.func.functional_call` finds tied weights by all the paths that lead to them. Where two
    paths lead through one module (a layer used twice, TransformerLens's bridges) it puts back what
    it had put there itself, and the module keeps the weights of the call. Here every place, a
    module and an attribute of it, is named once.

    Args:
        module: called; its parameters are named as `nn.Module.named_parameters` does.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        named: dict[int, list[str]] = {}
        for prefix, owner in module.named_modules():
            for name, parameter in owner.named_parameters(recurse=False, remove_duplicate=False):
                named.setdefault(id(parameter), []).append(f"{prefix}.{name}" if prefix else name)
        self._tied = {names[0]: names for names in named.values()}
        self._holder = _Holder(module)
        self._carried = {name: vars(parameter) for name, parameter in module.named_parameters()}

    def __call__(self, weights: Mapping[str, Tensor], *inputs: Any) -> Any:
        """Call at the weights given; those not given are the module's own."""
        return functional_call(self.module, self._everywhere(weights), inputs, tie_weights=False)

    def during(self, weights: Mapping[str, Tensor], function: Callable[[], Result]) -> Result:
        """Call a function while the module stands at the weights given.

        A backward pass belongs inside: activation checkpointing runs parts of the forward pass
        again from there, at the weights that the module then has.
        """
        everywhere = {f"module.{k}": value for k, value in self._everywhere(weights).items()}
        return functional_call(self._holder, everywhere, (function,), tie_weights=False)

    def _everywhere(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        for name, value in weights.items():
            # What the parameter carries, as muP's shapes; and isinstance takes it for one.
            vars(value).update(self._carried[name], _is_param=True)
        return {alias: value for name, value in weights.items() for alias in self._tied[name]}


class _Holder(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, function: Callable[[], Result]) -> Result:
        return function()


def without_graph(function: Callable[..., Any], *args: Any) -> Any:
    """Call a model or a function under ``no_grad``, or with a graph where it differentiates itself.

    Returns:
        What it returns, a tensor detached.
    """
    try:
        with torch.no_grad():
            return function(*args)
    except RuntimeError as error:
        if "does not require grad" not in str(error):
            raise
    with torch.enable_grad():
        found = function(*args)
    return found.detach() if isinstance(found, Tensor) else found


@contextmanager
def recomputing_in_place() -> Iterator[None]:
    """Let reentrant activation checkpoints run as those that are not.

    ``use_reentrant=True`` gives no gradient to weights whose inputs need none, and refuses
    `torch.autograd.grad`. The other form computes the same values.
    """
    own = torch.utils.checkpoint.CheckpointFunction
    torch.utils.checkpoint.CheckpointFunction = _NotReentrant  # type: ignore[misc]
    try:
        yield
    finally:
        torch.utils.checkpoint.CheckpointFunction = own


class _NotReentrant:
    @staticmethod
    def apply(function: Callable[..., Any], preserve_rng_state: bool, *args: Any) -> Any:
        return torch.utils.checkpoint.checkpoint(
            function, *args, use_reentrant=False, preserve_rng_state=preserve_rng_state
        )
