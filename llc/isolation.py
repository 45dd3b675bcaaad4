"""The process as we found it: nothing global is left changed by sampling."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["undisturbed"]


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
