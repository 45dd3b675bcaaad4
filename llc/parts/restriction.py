"""Words for parts of one model: its parameters, its declared heads, its components."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from llc.errors import InputError
from llc.parts.components import component, knows
from llc.parts.words import Chosen, choose
from llc.symmetry import Heads, Symmetry
from llc.symmetry.legs import Leg

__all__ = ["head_names", "restrict"]

LEGS = ("query", "key", "value", "output", "query_bias", "key_bias", "value_bias")


def restrict(
    model: nn.Module, symmetries: Sequence[Symmetry] | None, only: Sequence[str]
) -> Chosen:
    """Find what a choice names, and freeze the rest of a model that is ours to change.

    Args:
        model: a private copy; parameters that are not chosen lose ``requires_grad``.
        symmetries: of the task, whose heads have names of their own.
        only: as `llc.parts.as_strings` returns it.

    Returns:
        Masks by parameter; None where a whole parameter is sampled.

    Raises:
        InputError: as `llc.parts.choose`.
    """
    params = dict(model.named_parameters())
    free = {name: p.shape for name, p in params.items() if p.requires_grad}
    frozen = [name for name in params if name not in free]
    found = choose(free, only, partial(_known, model, params, symmetries), frozen)
    for name, parameter in params.items():
        parameter.requires_grad_(name in found)
    return found


def head_names(symmetries: Sequence[Symmetry] | None) -> list[str]:
    """Return the names of a task's declared heads, ``"heads[0]"`` and so on."""
    declared = [each for each in symmetries or () if isinstance(each, Heads)]
    return [f"{each.name}[{head}]" for each in declared for head in range(each.heads)]


def _known(
    model: nn.Module,
    params: dict[str, nn.Parameter],
    symmetries: Sequence[Symmetry] | None,
    word: str,
) -> Chosen | None:
    """Masks of a word that is no parameter's name: tied weights, heads, components."""
    tied = dict(model.named_parameters(remove_duplicate=False)).get(word)
    found: Chosen | None = None
    if tied is not None:
        found = {name: None for name, p in params.items() if p is tied}
    if found is None:
        found = _head(params, symmetries, word)
    if found is None and knows(model):
        found = component(model, word)
    if found is None:
        return None
    frozen = [name for name in found if not params[name].requires_grad]
    if len(frozen) == len(found):
        raise InputError(
            f"only={word!r} names {frozen[0]}, which is frozen: set requires_grad=True on it, or "
            "name another"
        )
    return {name: mask for name, mask in found.items() if name not in frozen}


def _head(
    params: dict[str, nn.Parameter], symmetries: Sequence[Symmetry] | None, word: str
) -> Chosen | None:
    """Masks of a declared head: its rows of query, key and value, its columns of the output."""
    for each in symmetries or ():
        if not isinstance(each, Heads):
            continue
        names = [f"{each.name}[{head}]" for head in range(each.heads)]
        if word not in names:
            continue
        head = names.index(word)
        found: Chosen = {}
        for leg in (getattr(each, name) for name in LEGS):
            if isinstance(leg, Leg):
                mask = _rows(leg, params, each.heads, head)
                before = found.get(leg.name)
                found[leg.name] = mask if before is None else before | mask
        return found
    return None


def _rows(leg: Leg, params: dict[str, nn.Parameter], heads: int, head: int) -> Tensor:
    """Mask of one head's share of a leg, counted along its axes flattened into one."""
    units = leg.units(params)
    size = units // heads
    mask = torch.zeros(units, dtype=torch.bool)
    mask[head * size : (head + 1) * size] = True
    shape = params[leg.name].shape
    every = torch.zeros(shape)
    width = int(leg.read({leg.name: every}).shape[1])
    return leg.write(every, mask[:, None].expand(units, width).float()).bool()
