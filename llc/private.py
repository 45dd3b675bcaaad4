"""Private copies of a user's model, which is never changed itself."""

import copy
from typing import TypeVar

import torch
from torch import nn

from llc.errors import InputError, brief

__all__ = ["private_copy"]

Module = TypeVar("Module", bound=nn.Module)


def private_copy(model: Module) -> Module:
    """Return a copy of a user's model, which is then ours to change.

    Raises:
        InputError: the model holds something that cannot be copied.
    """
    try:
        if any(isinstance(each, torch.jit.ScriptModule) for each in model.modules()):
            return _scripted_copy(model)
        return copy.deepcopy(model)
    except (NotImplementedError, RuntimeError, TypeError) as error:
        # Hooks that keep what passed through share it with every copy: TransformerLens 4 does.
        raise InputError(
            f"{type(model).__name__} cannot be copied ({brief(error)}): where "
            "hooks or modules keep tensors of an earlier pass, call the model once under "
            "torch.no_grad(); else drop what only this process can hold, as locks and open files"
        ) from error


def _scripted_copy(model: Module) -> Module:
    """Copy a model with scripted parts, whose parameters would else be results of their cloning."""
    with torch.no_grad():
        made = copy.deepcopy(model)
    for own, theirs in zip(made.parameters(), model.parameters(), strict=True):
        own.requires_grad_(theirs.requires_grad)
    return made
