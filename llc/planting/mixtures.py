"""Between two checkpoints: straight mixtures of their weights, and tensors of one in the other."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from torch import Tensor

from llc.errors import InputError, some
from llc.planting.variant import Variant, kept

__all__ = ["interpolants", "splice"]

Weights = Mapping[str, Tensor]
GRID = 1000
SHOWN = 5


def interpolants(
    one: Weights, other: Weights, weights: Sequence[float], *, out: str | Path | None = None
) -> list[Variant]:
    """Return the straight mixtures (1 − m)·one + m·other of two checkpoints.

    The LLC of a mixture says how complex the function between two solutions is, and its loss
    whether there is a barrier. Statistics of batch normalisation are mixed like weights; tensors of
    whole numbers are taken from ``one``.

    Args:
        one: state dict at m = 0.
        other: state dict at m = 1, of the same names and shapes.
        weights: m, from 0 to 1, apart from one another by at least 0.001.
        out: folder for the checkpoints.

    Returns:
        A variant for each m, in rising order, its step round(1000·m), m as ``mixing_weight`` in its
        metadata.

    Raises:
        InputError: the two do not fit, or an m cannot be used.
    """
    _same(one, other)
    places = [float(m) for m in weights]
    steps = {round(GRID * m): m for m in places if 0 <= m <= 1}
    if not places or len(steps) != len(places):
        raise InputError(
            f"weights is {places}, expected numbers from 0 to 1 that differ by at least "
            f"{1 / GRID:g}, such as [0, 0.25, 0.5, 0.75, 1]"
        )
    folder = None if out is None else Path(out)
    return [
        kept(Variant(step, _mixed(one, other, steps[step]), {"mixing_weight": steps[step]}), folder)
        for step in sorted(steps)
    ]


def splice(one: Weights, other: Weights, names: str | Sequence[str]) -> dict[str, Tensor]:
    """Return one checkpoint with tensors of another in it: a circuit moved, or put back.

    Args:
        one: state dict.
        other: state dict of the same names and shapes.
        names: of the tensors to take from ``other``; patterns such as ``"blocks.0.*"`` serve.

    Returns:
        A state dict; its tensors are copies.

    Raises:
        InputError: the two do not fit, or a pattern names no tensor.
    """
    _same(one, other)
    patterns = [names] if isinstance(names, str) else list(names)
    taken: set[str] = set()
    for pattern in patterns:
        fitting = {name for name in one if fnmatchcase(name, pattern)}
        if not fitting:
            known = some(one, SHOWN)
            raise InputError(f"no tensor is called {pattern!r}, expected names such as {known}")
        taken |= fitting
    if not taken:
        raise InputError("names is empty, expected at least one tensor to take")
    return {name: _copy((other if name in taken else one)[name]) for name in one}


def _mixed(one: Weights, other: Weights, m: float) -> dict[str, Tensor]:
    # (1 − m)·a + m·b rather than lerp: at both ends it is exact.
    return {
        name: ((1 - m) * a + m * other[name]).detach() if _is_mixable(a) else _copy(a)
        for name, a in one.items()
    }


def _copy(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else value


def _is_mixable(tensor: Any) -> bool:
    return isinstance(tensor, Tensor) and (tensor.is_floating_point() or tensor.is_complex())


def _same(one: Weights, other: Weights) -> None:
    """Refuse state dicts of different models."""
    apart = sorted(set(one) ^ set(other))
    if apart:
        raise InputError(
            f"{apart[0]} is in one of the two checkpoints alone, expected two of the same model"
        )
    for name, tensor in one.items():
        if not isinstance(tensor, Tensor):
            continue  # a module's extra state
        if _is_mixable(tensor) and not _is_mixable(other[name]):
            raise InputError(
                f"{name} is {tensor.dtype} in one checkpoint and {other[name].dtype} in the other, "
                "expected two of the same model"
            )
        if tensor.shape != other[name].shape:
            raise InputError(
                f"{name} is {tuple(tensor.shape)} in one checkpoint and "
                f"{tuple(other[name].shape)} in the other, expected two of the same model"
            )
