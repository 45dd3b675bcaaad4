"""Networks scaled to one norm or one confidence: controls for what scale alone does to an LLC."""

import math
from collections.abc import Mapping, Sequence

import torch
from scipy.optimize import root_scalar
from torch import Tensor

from llc.errors import InputError
from llc.isolation import undisturbed
from llc.task import Task

__all__ = ["of_entropy", "of_norm", "output_entropy", "weight_norm"]

FACTORS = 6.0
"""ln of the largest factor tried, either way."""

Weights = Mapping[str, Tensor]


def weight_norm(weights: Weights) -> float:
    """Return ‖w‖, over all floating-point tensors of a state dict."""
    floating = [w for w in weights.values() if w.is_floating_point()]
    return float(sum(w.detach().double().square().sum() for w in floating) ** 0.5)


def of_norm(weights: Weights, norm: float) -> dict[str, Tensor]:
    """Scale all floating-point tensors by one factor, to a given ‖w‖.

    The function changes (a deep network of degree p in its weights by the factor's p-th power, at
    most): measure it towards its own outputs. Checkpoints scaled to one norm have no difference of
    norm left to explain a difference of their LLCs.

    Args:
        weights: a state dict; buffers with a scale of their own, as batch norm's, should be left
            out or put back.
        norm: ‖w‖ wanted.

    Raises:
        InputError: a norm that is not positive, or weights that are all zero.
    """
    if not (norm > 0 and math.isfinite(norm)):
        raise InputError(f"norm is {norm}, expected a positive number")
    own = weight_norm(weights)
    if own == 0:
        raise InputError("the weights are all zero: no factor gives them a norm")
    factor = norm / own
    return {k: v * factor if v.is_floating_point() else v for k, v in weights.items()}


@torch.no_grad()
def output_entropy(task: Task, weights: Weights) -> float:
    """Return the mean entropy of softmax(outputs) over the task's data, in nats.

    Raises:
        InputError: the task has no data as pairs, or its outputs are no logits ``(n, classes)``.
    """
    if task.loss is None:
        raise InputError(f"{task.label} has no pairs (inputs, targets): entropy needs outputs")
    with undisturbed():
        logits = task.at(weights).model.eval()(task.data[0])
    if not isinstance(logits, Tensor) or logits.ndim < 2:
        raise InputError(f"the outputs of {task.label} are no logits, expected (n, classes)")
    return float(torch.distributions.Categorical(logits=logits.double()).entropy().mean())


def of_entropy(
    task: Task, weights: Weights, entropy: float, names: Sequence[str]
) -> dict[str, Tensor]:
    """Scale the tensors that write the logits by one factor, to a given mean entropy.

    Scaling the last linear map scales the logits: a temperature. No decision changes, and no
    difference of confidence is left to explain a difference of LLCs.

    Args:
        task: whose data the entropy is averaged over.
        weights: a state dict.
        entropy: mean entropy of the outputs wanted, in nats.
        names: of the last map's weight, and of its bias if it has one.

    Raises:
        InputError: an unknown name, or an entropy that no factor from e⁻⁶ to e⁶ gives.
    """
    unknown = [name for name in names if name not in weights]
    if unknown or not names:
        raise InputError(f"names holds {unknown or 'nothing'}, expected some of {list(weights)}")

    def scaled(log_factor: float) -> dict[str, Tensor]:
        factor = float(math.exp(log_factor))
        return {**weights, **{name: weights[name] * factor for name in names}}

    def excess(log_factor: float) -> float:
        return output_entropy(task, scaled(log_factor)) - entropy

    if excess(-FACTORS) < 0 or excess(FACTORS) > 0:
        raise InputError(
            f"entropy is {entropy:.3g} nats, which no factor up to {math.exp(FACTORS):.0f} gives: "
            f"here it is {output_entropy(task, weights):.3g}"
        )
    found = root_scalar(excess, bracket=(-FACTORS, FACTORS), method="brentq", xtol=1e-6)
    return scaled(float(found.root))
