"""What a user can get wrong about a model or a loss, found before any sampling."""

import math
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from llc.data import take, unsuited
from llc.errors import InputError
from llc.private import is_quantised

__all__ = [
    "PROBE", "check_finite", "check_kind", "check_repeatable", "couples_examples", "finite",
    "no_tensor", "refuse_sums", "usable",
]  # fmt: skip

PROBE = 8


class Losses(Protocol):
    """What is looked at here of an `llc.objective.Objective`; names as there."""

    centre: Tensor
    data: Any
    size: int | None
    chunk: int
    differentiates: bool

    @property
    def device(self) -> torch.device:
        """Return where data are."""
        ...

    @property
    def module(self) -> nn.Module:
        """Return the whole loss."""
        ...

    def values(self, weights: Tensor, batch: Any) -> Tensor:
        """Evaluate the loss of a batch."""
        ...


def usable(device: torch.device | str) -> torch.device:
    """Return the device.

    Raises:
        InputError: this machine does not have it.
    """
    try:
        device = torch.device(device)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"device is {str(device)!r}, which this machine does not have: give cpu, or leave it "
            "out"
        ) from error
    return device


def check_kind(model: nn.Module, params: Mapping[str, Tensor]) -> None:
    """Refuse weights without values, such as are no real numbers, and none at all.

    Raises:
        InputError: which, and why.
    """
    if not params:
        whole = ": its quantised weights are whole numbers; give the model before quantisation"
        raise InputError(
            f"{type(model).__name__} has no parameter that needs a gradient"
            + (
                whole
                if is_quantised(model)
                else ": nothing to sample; set requires_grad=True on the parameters whose LLC you "
                "want"
            )
        )
    for name, p in params.items():
        if isinstance(p, nn.parameter.UninitializedParameter):
            raise InputError(
                f"{name} of {type(model).__name__} is not initialised, as lazy modules are before "
                "their first batch: call the model once"
            )
        if p.is_meta:
            raise InputError(f"{name} is on the meta device, without values: load weights first")
        if not p.is_floating_point():
            raise InputError(
                f"{name} is {p.dtype}, complex or whole, expected floating-point weights: write "
                "complex ones as real and imaginary parts, a parameter of shape (..., 2), and "
                "torch.view_as_complex(parameter) in the forward pass"
            )
    if not any(p.numel() for p in params.values()):
        raise InputError(
            f"the parameters of {type(model).__name__} hold no numbers ({', '.join(params)}): "
            "nothing to sample"
        )


def check_finite(params: Mapping[str, Tensor]) -> None:
    """Refuse weights that hold nan or infinity.

    Raises:
        InputError: how many, and the first.
    """
    bad = [name.removeprefix("model.") for name, p in params.items() if not p.isfinite().all()]
    if bad:
        raise InputError(
            f"{len(bad)} tensors of the weights hold nan or infinity ({bad[0]} first): training "
            "diverged before this checkpoint; give an earlier one"
        )


def finite(value: float, table: Tensor | None = None) -> float:
    """Return the loss at w*.

    Args:
        value: its mean over all data.
        table: the losses of all examples, where they are known.

    Raises:
        InputError: it is nan or infinite.
    """
    if math.isfinite(value):
        return value
    where = ""
    if table is not None and not table.isfinite().all():
        bad = torch.nonzero(~table.isfinite())[:, 0]
        where = f" for {len(bad):,} of {len(table):,} examples, example {int(bad[0])} first"
        value = float(table[bad[0]])
    raise InputError(
        f"the loss at w* is {value}{where}: check the data and the loss at these weights"
    )


@torch.no_grad()
def check_repeatable(losses: Losses, most: int) -> None:
    """Two passes at w* over the same examples, up to so many, must agree.

    Raises:
        InputError: they do not, or the model fails, or what comes out is no loss.
    """
    batch = None
    devices = [losses.device] if losses.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        try:
            if losses.size is not None:
                batch = take(losses.data, slice(0, min(losses.size, losses.chunk, most)))
            first = _first_values(losses, batch)
            second = losses.values(losses.centre, batch)
        except InputError:
            raise
        except Exception as error:
            why = "check that the data are what the model expects"
            if batch is not None:
                kind = next(iter(losses.module.parameters())).dtype
                why = unsuited(batch, kind, str(error)) or why
            raise InputError(
                f"the model or its loss failed on a batch of the data: {type(error).__name__}: "
                f"{' '.join(str(error).split())[:200].rstrip('.')}; {why}"
            ) from error
    if not isinstance(first, Tensor) or not first.is_floating_point():
        kind = f"{first.dtype} tensor" if isinstance(first, Tensor) else type(first).__name__
        raise InputError(
            f"the loss returned a {kind}, expected a floating-point tensor: its mean () or "
            "one value per example"
        )
    if not torch.allclose(first, second, rtol=1e-4, atol=1e-6, equal_nan=True):
        change = (first - second).abs().max().item()
        raise InputError(
            f"the loss at the same weights and examples changed by {change:.3g} between two "
            "passes: take out dropout that stays on in eval mode, batch norm that keeps "
            "updating, shuffling augmentation, or whatever else draws random numbers"
        )


def _first_values(losses: Losses, batch: Any) -> Tensor:
    """Evaluate at w*, and learn whether the loss needs a graph: it fails without, or differs."""
    try:
        first = losses.values(losses.centre, batch)
    except RuntimeError:
        # As `torch.autograd.grad` in a forward pass; other errors come again.
        losses.differentiates = True
        return losses.values(losses.centre, batch)
    few = batch if losses.size is None else take(batch, slice(0, PROBE))
    plain = losses.values(losses.centre, few)
    losses.differentiates = True
    graph = losses.values(losses.centre, few)
    if isinstance(plain, Tensor) and plain.is_floating_point():
        losses.differentiates = not torch.allclose(
            plain, graph, rtol=1e-2, atol=1e-5, equal_nan=True
        )
    return losses.values(losses.centre, batch) if losses.differentiates else first


def no_tensor(outputs: Any, error: Exception) -> str:
    """Say what to do where a loss does not take what the model returns, which is no tensor."""
    piece = "the tensor that the loss needs"
    if isinstance(outputs, tuple | list) and outputs:
        piece = f"{piece}, such as its element [0]"
    elif isinstance(getattr(outputs, "logits", None), Tensor):
        piece = ".logits"
    elif isinstance(outputs, Mapping) and outputs:
        piece = f"{piece}, such as its entry {str(next(iter(outputs)))[:60]!r}"
    said = " ".join(str(error).split())[:120]
    return (
        f"the model returns a {type(outputs).__name__}, which the loss does not take ({said}): "
        f"wrap the model in a module whose forward returns {piece}"
    )


def couples_examples(losses: Losses, table: Tensor) -> bool:
    """Whether an example's loss depends on its company, as with batch norm's own statistics.

    A table of losses, shape ``(n,)``, is no baseline then: each batch has to be evaluated at w* as
    well.
    """
    count = min(len(table), PROBE, losses.chunk)
    alone = losses.values(losses.centre, take(losses.data, slice(0, count)))
    return not torch.allclose(alone, table[:count], rtol=1e-3, atol=1e-5)


def refuse_sums(losses: Losses) -> None:
    """A mean does not change when every example is given twice; a sum doubles.

    Nor do the values of single examples: where they double, or halve, the loss multiplies or
    divides them by the batch size.

    Raises:
        InputError: it is one of these.
    """
    count = min(losses.size or 0, PROBE, losses.chunk)
    index = torch.arange(count, device=losses.device)
    values = losses.values(losses.centre, take(losses.data, index))
    again = losses.values(losses.centre, take(losses.data, torch.cat([index, index])))
    again = again[:count] if again.ndim else again
    once, twice = values.double().sum().item(), again.double().sum().item()
    if not abs(once) > 1e-6:
        return
    factor = twice / once
    if values.ndim and min(abs(factor - 2), abs(factor - 0.5)) < 0.01:
        raise InputError(
            f"the loss of an example changes {factor:.3g}-fold when {count} examples are given "
            "twice over, expected one value per example whatever its batch: neither multiply "
            "nor divide by the batch size"
        )
    if abs(factor - 2) < 0.01:
        raise InputError(
            f"the loss adds up over the batch ({once:.4g} for {count} examples, {twice:.4g} "
            "for the same given twice), expected a mean or one value per example: divide "
            "by the batch size"
        )
