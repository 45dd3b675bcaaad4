"""Singular values of the Jacobian of a model's outputs, without forming it."""

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from llc.data import take
from llc.errors import InputError
from llc.estimation.products import model_outputs, pull
from llc.losses import class_dimension
from llc.objective import Objective
from llc.params import NoiseStreams

__all__ = ["outputs_sketch"]

SPARE = 32
SIDE = 64
EXAMPLES = 1024


def outputs_sketch(objective: Objective, seed: int = 0) -> Tensor:
    """Return ΩJ/√k with Ω Gaussian, k = D + 32 rows: of J's rank with probability one.

    J is the Jacobian of the outputs over all data by the D parameters, ``(n · outputs, D)``; a
    row costs one backward pass, whatever n (Halko, Martinsson & Tropp 2011). For cross-entropy the
    mean over classes is taken off the outputs first: a softmax does not see it.

    Raises:
        InputError: the task has no outputs.
    """
    loss = objective.module.loss
    if loss is None or objective.size is None:
        raise InputError(
            "the rank of the outputs' Jacobian needs a loss of (outputs, targets): a potential or "
            "a batch_loss has no outputs"
        )
    rows, size = objective.layout.total + SPARE, objective.size
    sketch = torch.zeros((rows, objective.layout.total), dtype=objective.layout.dtype)
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        for begin in range(0, size, EXAMPLES):
            part = slice(begin, min(begin + EXAMPLES, size))
            inputs, targets = take(objective.data, part)
            leaf, outputs = model_outputs(objective, inputs)
            noise = NoiseStreams(seed, f"sketch {begin}", 1, outputs.device)
            for first in range(0, rows, SIDE):
                count = min(SIDE, rows - first)
                dual = noise.normal(count * outputs.numel(), outputs.dtype)
                dual = dual.reshape(count, *outputs.shape)
                if loss.arrange is not None and loss.name == "cross_entropy":
                    dual = dual - dual.mean(1 + class_dimension(outputs, targets), keepdim=True)
                sketch[first : first + count] += pull(outputs, leaf, dual).cpu()
    return sketch / rows**0.5
