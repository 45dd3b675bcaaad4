"""Single-precision products of a model's linear layers by oneDNN, where that is the faster library.

torch hands them to MKL, which takes the path of older machines on processors of another maker than
its own: 67–92 GFLOP/s a core, where oneDNN, which comes with torch too and looks at instructions
only, does 160–210 (AMD EPYC of the Zen 5 generation, torch 2.13). Both compute in float32 and
differ by rounding.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["is_faster", "linear_layers"]

# Below so many multiplications Python's part of the call weighs more than the product.
LEAST = 2**22


@cache
def is_faster() -> bool:
    """Whether oneDNN is there and MKL does not know the processor as one of its own."""
    if not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()):
        return False
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    try:
        words = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "AuthenticAMD" in words


@contextmanager
def linear_layers() -> Iterator[None]:
    """Compute what `F.linear` and `torch.addmm` would, and their gradients, by oneDNN.

    Only in float32 on a CPU, and only large products; all others go their usual way.
    """
    with _Linear():
        yield


class _Linear(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if not kwargs and func is F.linear and len(args) in (2, 3) and _suits(*args[:2]):
            return _Product.apply(*args) if len(args) == 3 else _Product.apply(*args, None)
        if not kwargs and func is torch.addmm and len(args) == 3 and _suits(args[1], args[2].t()):
            bias, inputs, weight = args
            if bias.ndim == 1:
                # GPT-2's own layer holds its weights the other way round.
                return _Product.apply(inputs, weight.t(), bias)
        return func(*args, **(kwargs or {}))


def _suits(inputs: Tensor, weight: Tensor) -> bool:
    return (
        type(inputs) in (Tensor, torch.nn.Parameter)
        and inputs.dtype is weight.dtype is torch.float32
        and inputs.device.type == weight.device.type == "cpu"
        and weight.ndim == 2
        and inputs.numel() * len(weight) >= LEAST
        and not torch.is_autocast_enabled("cpu")
        and not torch._C._functorch.is_functorch_wrapped_tensor(inputs)
        and not torch._C._functorch.is_functorch_wrapped_tensor(weight)
    )


def _product(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    """Left rightᵀ + bias, of matrices."""
    return torch.ops.mkldnn._linear_pointwise(left, right, bias, "none", [], "")


class _Product(torch.autograd.Function):
    """x Wᵀ + b."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        return _product(inputs, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        # What is to be differentiated again has to consist of what torch can differentiate.
        product = F.linear if torch.is_grad_enabled() else _product
        (gradient,) = grad_outputs
        inputs, weight = ctx.saved_tensors
        to_inputs, to_weight, to_bias = ctx.needs_input_grad
        rows = gradient.reshape(-1, gradient.shape[-1])
        found: list[Tensor | None] = [None, None, None]
        if to_inputs:
            found[0] = product(rows, weight.t()).reshape(inputs.shape)
        if to_weight:
            found[1] = product(rows.t(), inputs.reshape(-1, inputs.shape[-1]).t())
        if to_bias:
            found[2] = rows.sum(0)
        return tuple(found)
