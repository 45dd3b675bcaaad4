"""Private copies of a user's model, which is never changed itself."""

import copy
from typing import Any, TypeVar

from torch import nn
from torch.nn.parameter import UninitializedBuffer, is_lazy

from llc.errors import InputError

__all__ = ["private_copy"]

Module = TypeVar("Module", bound=nn.Module)


def private_copy(model: Module) -> Module:
    """Return a copy of a user's model, which is then ours to change.

    Raises:
        InputError: the model holds something that cannot be copied.
    """
    # Of lazy buffers, which torch does not copy itself.
    made: Any = UninitializedBuffer
    lazy = {
        id(b): made(b.requires_grad, b.data.device, b.data.dtype)
        for b in model.buffers()
        if is_lazy(b)
    }
    try:
        return copy.deepcopy(model, lazy)
    except (NotImplementedError, RuntimeError, TypeError) as error:
        # Hooks that keep what passed through share it with every copy: TransformerLens 4 does.
        said = " ".join(str(error).split())[:150]
        raise InputError(
            f"{type(model).__name__} cannot be copied ({said}): where "
            "hooks or modules keep tensors of an earlier pass, call the model once under "
            "torch.no_grad(); else drop what only this process can hold, as locks and open files"
        ) from error
