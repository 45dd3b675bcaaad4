"""The process and the user's model as we found them: nothing is left changed by sampling."""

import copy
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from llc.errors import InputError

__all__ = ["private_copy", "undisturbed"]

Module = TypeVar("Module", bound=nn.Module)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Keep the process's generators as they are, whatever a user's model draws from them."""
    python, array = random.getstate(), np.random.get_state()
    # Named, since fork_rng warns of all it finds where there are several.
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    try:
        with torch.inference_mode(False), torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(array)


def private_copy(model: Module) -> Module:
    """Return a copy of a user's model, which is then ours to change.

    Raises:
        InputError: the model holds something that cannot be copied.
    """
    try:
        return copy.deepcopy(model)
    except (NotImplementedError, RuntimeError, TypeError) as error:
        # Hooks that keep what passed through share it with every copy: TransformerLens 4 does.
        said = " ".join(str(error).split())[:150]
        raise InputError(
            f"{type(model).__name__} cannot be copied ({said}): where "
            "hooks or modules keep tensors of an earlier pass, call the model once under "
            "torch.no_grad(); else drop what only this process can hold, as locks and open files"
        ) from error
