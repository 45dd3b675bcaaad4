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
        self._carried = {name: vars(parameter) for name, parameter in module.named_parameters()}

    def __call__(self, weights: Mapping[str, Tensor], *inputs: Any) -> Any:
        """Call at the weights given; those not given are the module's own."""
        return functional_call(self.module, self._everywhere(weights), inputs, tie_weights=False)

    def _everywhere(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        for name, value in weights.items():
            # What the parameter carries, as muP's shapes; and isinstance takes it for one.
            vars(value).update(self._carried[name], _is_param=True)
        return {alias: value for name, value in weights.items() for alias in self._tied[name]}
