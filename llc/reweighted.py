"""A module called at other weights than its own, each weight under all of its names."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

__all__ = ["Reweighted"]


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

    def __call__(self, weights: Mapping[str, Tensor], *inputs: Any) -> Any:
        """Call at the weights given; those not given are the module's own."""
        everywhere = {alias: value for name, value in weights.items() for alias in self._tied[name]}
        return functional_call(self.module, everywhere, inputs, tie_weights=False)
